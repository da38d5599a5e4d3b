"""Noise that pixels or frames share is told from noise that is new in each."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from anscombe_transform.calibration import compute_sensitivity
from anscombe_transform.calibration.shared import SharedNoise
from anscombe_transform.simulation import expected_photons, simulate_movie

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
    assert not shared.lingering().above(0.0, 4)
    found = compute_sensitivity(movie, on_refusal="return")
    assert shared.unsteadiness(found.conversion_gain, found.variance_intercept)[1] > 1e-6


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


def test_a_flash_is_not_taken_for_noise_that_lingers(seed):
    """Frames of additional light are noisier than those around them, and share no noise with them."""
    photons = np.stack(list(expected_photons((48, 128, 128), mean_photons=4, rng=seed)))
    photons[11:14] += 8
    photons[35:37] += 8
    movie = np.random.default_rng(seed).poisson(photons) * 40.0
    found = compute_sensitivity(np.rint(movie).astype(np.int16), on_refusal="return")
    assert "correlated_in_time" not in {reason.code for reason in found.reasons}


@pytest.mark.parametrize("course", ["steps", "light held constant"])
def test_a_gain_that_changes_is_told(seed, course):
    """Gain in steps, or gain that makes up for fading light, shows in the noise of each moment."""
    photons = np.stack(list(expected_photons((96, 128, 128), mean_photons=15, rng=seed)))
    moment = np.arange(96)[:, None, None]
    if course == "steps":
        gain = np.where(moment % 20 < 10, 40.0, 60.0)
    else:
        gain = 40 * np.exp(moment / 120)
        photons = photons * np.exp(-moment / 120)
    movie = np.rint(np.random.default_rng(seed).poisson(photons) * gain).astype(np.int32)
    found = compute_sensitivity(movie, on_refusal="return")
    assert "unsteady_gain" in {reason.code for reason in found.reasons}


def test_what_a_detector_does_is_not_taken_for_processing(seed):
    """Neither a zero level that wanders, nor lost frames, nor rows of few photons make a caution of it."""
    movie, _ = simulate_movie(SHAPE, conversion_gain=40, zero_level=500, mean_photons=2, rng=seed)
    offsets = np.random.default_rng(seed).normal(0, 20, len(movie))
    wandering = movie + np.rint(offsets).astype(np.int16)[:, None, None]
    movie[10::30] = 0
    for one in (wandering, movie):
        found = compute_sensitivity(one, on_refusal="return")
        assert not {"unsteady_gain", "thresholded", "levelled_lines"} & {r.code for r in found.reasons}


def test_values_below_a_threshold_are_missed(seed):
    """A movie whose values below its 10 % quantile became 0 is told; one with a masked border is not."""
    movie, _ = simulate_movie(SHAPE, conversion_gain=50, zero_level=100, read_noise=20, rng=seed)
    cut = np.where(movie > np.quantile(movie, 0.1), movie, 0).astype(np.int16)
    assert "thresholded" in {reason.code for reason in compute_sensitivity(cut, on_refusal="return").reasons}
    movie = movie + np.int16(400)
    movie[:, :20] = 0
    codes = {reason.code for reason in compute_sensitivity(movie, on_refusal="return").reasons}
    assert "thresholded" not in codes


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
