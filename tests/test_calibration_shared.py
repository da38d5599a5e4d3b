"""Noise that pixels or frames share is told from noise that is new in each."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from anscombe_transform.calibration import compute_sensitivity
from anscombe_transform.calibration.shared import SharedNoise
from anscombe_transform.simulation import simulate_movie

SHAPE = (96, 160, 160)


def shared_noise(movie):
    """What `SharedNoise` finds in segments of 24 frames."""
    shared = SharedNoise(movie.shape[1:])
    for start in range(0, len(movie), 24):
        shared.add(movie[start : start + 24])
    return shared


def blended(movie, part, width):
    """A part of the smoothed frame mixed into each, as denoisers that keep some texture do."""
    return (1 - part) * movie + part * ndimage.gaussian_filter(movie, (0, width, width))


def of_few_components(movie, components):
    """The movie rebuilt from its strongest principal components."""
    flat = movie.reshape(len(movie), -1)
    mean = flat.mean(axis=0)
    left, strength, right = np.linalg.svd(flat - mean, full_matrices=False)
    rebuilt = (left[:, :components] * strength[:components]) @ right[:components] + mean
    return rebuilt.reshape(movie.shape)


@pytest.mark.parametrize("scene", [{}, {"jitter": 1.0}, {"activity": 0.3}], ids=["still", "jitter", "active"])
def test_the_noise_of_a_detector_is_shared_by_nothing(seed, scene):
    """Whether the scene moves or not, no patch of white noise is smooth, sharp, or without a dimension."""
    movie, _ = simulate_movie(SHAPE, conversion_gain=50, read_noise=10, rng=seed, **scene)
    shared = shared_noise(movie)
    assert not shared.smoothing().above(0.0, 4)
    assert not shared.sharpening().below(0.0, 4.5)
    assert shared.dimensions > 1


@pytest.mark.parametrize(
    ("name", "process", "code"),
    [
        ("blended", lambda movie: blended(movie, 0.3, 1.5), "correlated_in_space"),
        ("sharpened", lambda movie: blended(movie, -0.2, 1.0), "sharpened"),
        ("components", lambda movie: of_few_components(movie, 48), "dependent_frames"),
        ("between frames", lambda movie: (movie + np.roll(movie, 1, axis=0)) / 2, "correlated_in_time"),
    ],
)
def test_shared_noise_is_not_trusted(seed, name, process, code):
    """Processing that hardly bends the line and leaves neighbours nearly uncorrelated is told."""
    movie, _ = simulate_movie(SHAPE, conversion_gain=50, read_noise=10, rng=seed)
    processed = np.rint(process(movie.astype(np.float64))).astype(np.int16)
    found = compute_sensitivity(processed, on_refusal="return")
    assert code in {reason.code for reason in found.reasons}
    assert found.verdict != "trustworthy"


def test_white_noise_has_no_direction_of_less_variance_than_the_law_allows(rng):
    """Of normal noise alone, the least eigenvalue lies at or above Marchenko and Pastur's edge."""
    assert 1 < shared_noise(rng.normal(size=(24, 256, 256)).astype(np.float32)).dimensions < 2.5


def test_shared_noise_of_parts_adds_up(rng):
    """Sums over two parts of a movie are those over the whole; unwanted and constant patches are left out."""
    movie = rng.poisson(20, (48, 70, 70)).astype(np.uint16)
    movie[:, :34, :34] = 7
    wanted = np.ones((70, 70), bool)
    wanted[60, 60] = False
    whole, part = SharedNoise((70, 70)), SharedNoise((70, 70))
    whole.add(movie[:24], wanted)
    part.add(movie[24:], wanted)
    whole.merge(part)
    other = SharedNoise((70, 70))
    for start in (0, 24):
        other.add(movie[start : start + 24], wanted)
    assert whole.smoothing() == other.smoothing()
    assert whole.dimensions == pytest.approx(other.dimensions)


def test_frames_too_small_to_compare_tell_nothing(rng):
    """Of frames below 32 × 32 pixels nothing is said."""
    shared = shared_noise(rng.poisson(20, (24, 20, 20)))
    assert np.isnan(shared.dimensions)
    assert not shared.smoothing().above(0.0, 1)
