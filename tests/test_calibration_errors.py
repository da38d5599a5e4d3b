"""Errors that the calibration states, against those that repeated simulations have."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from anscombe_transform.calibration import compute_sensitivity
from anscombe_transform.calibration.line.transfer import Samples, fit_line
from anscombe_transform.calibration.line.zero import find_zero_level
from anscombe_transform.calibration.sums.shared import SharedNoise
from anscombe_transform.simulation import simulate_movie


@pytest.mark.parametrize("photons", [0.3, 1.0, 30.0])
def test_law_of_a_variance(rng, photons):
    """Variances of second differences of photon counts scatter as the law says or less, at few photons."""
    rows, residuals = 20_000, 22
    counts = rng.poisson(photons, (rows, residuals + 2)).astype(float)
    variances = np.square(counts[:, :-2] - 2 * counts[:, 1:-1] + counts[:, 2:]).mean(axis=1) / 6
    # Sum of the squared autocorrelations of 22 second differences.
    correlation = 1 + 2 * ((1 - 1 / residuals) * 4 / 9 + (1 - 2 / residuals) / 36)
    label = np.zeros(1, int)
    one = np.ones(1)
    samples = Samples(one, one, one, one, label, label, label, correlation)
    law = samples.variance_of_variance(np.full(1, photons), 1.0)[0] / residuals
    # The law's fourth cumulant is an upper estimate, half of it too much. Without it, the law would be 44 %
    # of this at 0.3 photons and 73 % at one.
    assert 0.7 * law < np.var(variances) < 1.05 * law


def test_zero_levels_scatter_as_their_intervals_say(rng):
    """Over many draws, errors of the zero level have the size that its interval stands for, or less."""
    rows, gain, zero = 3000, 10.0, 50.0
    x = np.sort(rng.uniform(60, 150, rows))
    n, label = np.full(rows, 4000.0), np.arange(rows)
    samples = Samples(
        x, gain * (x + 110), x, n, label, label, np.zeros(rows, int), 1.944, np.zeros(rows, int)
    )
    line = fit_line(samples, np.ones(rows, bool))
    spread = np.sqrt((15 * samples.y**3 + 35 * gain**2 * samples.y**2 + 3 * gain**4 * samples.y) / n)
    scores = []
    for _ in range(100):
        third = gain**2 * (x - zero) + spread * rng.normal(size=rows)
        found = find_zero_level(samples, line, (x, third), "t", correlated=False, systematic=0.0)
        low, high = found.interval
        scores.append((found.value - zero) / ((high - low) / 2))
    assert 0.2 < np.sqrt(np.mean(np.square(scores))) < 0.7


def test_noise_shared_in_a_part_of_the_field_is_no_smoothing(rng):
    """A blur of the whole field is proven by all patches; one of a quarter is not."""
    noise = rng.normal(100, 5, (24, 128, 256)).astype(np.float32)
    blurred = ndimage.gaussian_filter(noise, (0, 0.6, 0.6))
    for part, proven in ((256, True), (64, False)):
        movie = noise.copy()
        movie[:, :, :part] = blurred[:, :, :part]
        shared = SharedNoise((128, 256))
        shared.add(movie)
        assert shared.smoothing().proven is proven


def test_lines_levelled_in_part_are_told(seed):
    """Three quarters of each row's own level taken off leave a sixteenth of its variance, and are told."""
    movie, _ = simulate_movie((96, 128, 128), conversion_gain=40, mean_photons=10, rng=seed, dtype="float32")
    level = movie.mean(axis=2, keepdims=True)
    level -= level.mean(axis=0)
    codes = {reason.code for reason in compute_sensitivity(movie - 0.75 * level, on_refusal="return").reasons}
    assert "levelled_lines" in codes
