"""The estimate in stages: each gives one `Fit` from another, and errors only grow."""

from __future__ import annotations

import numpy as np
import pytest

from anscombe_transform.calibration import NoiseStatistics, compute_sensitivity, estimate_sensitivity
from anscombe_transform.calibration.estimate import REFINEMENTS, Fit, _read_scene
from anscombe_transform.calibration.line.transfer import equal_groups
from anscombe_transform.simulation import simulate_movie


def first_fit(seed, **options):
    """Sums of a movie's noise, their scene, and the fit before it is refined."""
    movie, _ = simulate_movie((96, 128, 128), conversion_gain=60, rng=seed, **options)
    statistics = NoiseStatistics((128, 128))
    statistics.update(movie, start=0)
    scene = _read_scene(statistics)
    return statistics, scene, Fit(scene.samples, scene.lines[scene.chosen])


@pytest.mark.parametrize("options", [{}, {"activity": 0.3, "jitter": 0.5}])
def test_stages_only_add_to_the_systematic_error(seed, options):
    """No refinement takes back an error that an earlier one allowed for, and the interval holds them all."""
    statistics, scene, fit = first_fit(seed, **options)
    for refine in REFINEMENTS:
        refined = refine(scene, fit)
        assert refined.systematic >= fit.systematic, refine.__name__
        assert set(fit.notes) <= set(refined.notes)
        fit = refined
    found = estimate_sensitivity(statistics)
    assert found.conversion_gain == fit.line.gain
    low, high = found.conversion_gain_interval
    half = 2.069 * np.hypot(fit.line.gain_error, fit.systematic * fit.line.gain)
    assert high - low == pytest.approx(2 * half, rel=1e-9)


def test_structure_that_is_left_widens_the_interval(seed):
    """Where the field jitters, the systematic error is more than that of a scene at rest."""

    def systematic(**options):
        _, scene, fit = first_fit(seed, **options)
        for refine in REFINEMENTS:
            fit = refine(scene, fit)
        return fit.systematic

    assert systematic(jitter=2.0) > 1.5 * systematic()
    assert systematic() >= 0.001


@pytest.mark.parametrize(("scale", "shift"), [(3.0, 7.0), (0.01, -2.0)])
def test_the_estimate_follows_a_linear_change_of_the_values(seed, scale, shift):
    """Of a·x + b the gain is a times as high and the zero level a·z + b, to float32's rounding."""
    movie, _ = simulate_movie((96, 96, 96), conversion_gain=60, rng=seed, dtype="float32")
    plain = compute_sensitivity(movie.astype(np.float64))
    changed = compute_sensitivity(scale * movie.astype(np.float64) + shift)
    assert changed.conversion_gain == pytest.approx(scale * plain.conversion_gain, rel=1e-3)
    assert changed.verdict == plain.verdict


def test_equal_groups_are_those_of_ranks(rng):
    """Groups hold equal counts in order of value, ties in order of position, also at a border or with NaN."""
    for _ in range(300):
        count, groups = int(rng.integers(0, 300)), int(rng.integers(1, 70))
        values = rng.normal(size=count)
        if rng.random() < 0.7:
            values = np.rint(values * rng.choice([1.0, 10.0, 100.0]))
        if count and rng.random() < 0.1:
            values[rng.integers(count)] = rng.choice([np.nan, np.inf, -np.inf])
        rank = np.empty(count, np.intp)
        rank[np.argsort(values, kind="stable")] = np.arange(count)
        np.testing.assert_array_equal(equal_groups(values, groups), rank * groups // max(1, count))
