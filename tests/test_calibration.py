"""The calibration finds what a movie was made with, and says when it cannot."""

from __future__ import annotations

import copy
import itertools
import json
import tracemalloc

import numpy as np
import pytest
from scipy import ndimage

from anscombe_transform.calibration import (
    NoiseStatistics,
    Reason,
    Sensitivity,
    UntrustworthyCalibration,
    compute_sensitivity,
    estimate_sensitivity,
)
from anscombe_transform.calibration.sums.reading import _values
from anscombe_transform.calibration.sums.statistics import _leave_still
from anscombe_transform.simulation import simulate_movie


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<i2", "u1", "i1"])
def test_integers_of_any_kind_give_the_sums_of_floats(rng, monkeypatch, dtype):
    """Narrow, swapped, signed, read-only or scattered in memory: rows are those of float32, bit for bit."""
    monkeypatch.setattr("anscombe_transform.calibration.sums.statistics._pedestal", lambda frames: 0.0)
    limits = np.iinfo(dtype)
    movie = rng.integers(limits.min, limits.max, (24, 28, 150), endpoint=True).astype(dtype)
    movie[5, 6, 7], movie[6, 7, 8] = limits.min, limits.max
    floats = NoiseStatistics((28, 150))
    floats.update(movie.astype(np.float32), start=0)
    read_only = movie.view()
    read_only.flags.writeable = False
    scattered = np.zeros((24, 28, 300), dtype)[:, :, ::2]
    scattered[...] = movie
    odd = np.zeros(movie.nbytes + 1, np.uint8)[1:].view(dtype).reshape(movie.shape)
    odd[...] = movie
    for kind in (movie, read_only, scattered, odd):
        statistics = NoiseStatistics((28, 150))
        statistics.update(kind, start=0)
        np.testing.assert_array_equal(statistics.table().rows, floats.table().rows)


def test_pixels_that_never_change_are_those_of_one_value(rng):
    """Whatever lies in between, in any layout, and of frames that have few values."""
    for movie in (rng.poisson(0.05, (24, 40, 60)), rng.integers(0, 99, (6, 40, 60)).transpose(0, 2, 1)):
        movie = movie.astype(np.uint8)
        movie[:, 3:9, 5:8] = 4
        movie[:, 20, 20], movie[-2, 20, 20] = 1, 2
        still = np.ones(movie.shape[1:], bool)
        still[:, 0] = False
        expected = still & (movie == movie[0]).all(axis=0)
        _leave_still(movie, still)
        np.testing.assert_array_equal(still, expected)


@pytest.mark.parametrize("dtype", ["u1", "i1", ">i2", "u2", "i4", "f4"])
def test_values_are_counted_as_they_are_sorted(rng, dtype):
    """Different values and how often they occur, whether integers are counted or numbers sorted."""
    frame = rng.normal(0, 40, (30, 50)).astype("i1").astype(dtype)
    for found, expected in zip(_values(frame), np.unique(frame, return_counts=True), strict=True):
        np.testing.assert_array_equal(found, expected)


# What a movie was made with is found.


PMT = {"conversion_gain": 120, "zero_level": 20, "read_noise": 10, "mean_photons": 0.4}
SCMOS = {"conversion_gain": 2.2, "zero_level": 100, "read_noise": 3.5, "dtype": "uint16", "mean_photons": 30}
EMCCD = {"conversion_gain": 20, "read_noise": 30, "excess_noise": 2.0, "mean_photons": 6}
# Largest relative error of the gain: four of the standard errors that the benchmark finds, at least 2 %.
SCENARIOS = {
    "static": (0.02, {}),
    "low-light PMT": (0.03, PMT),
    "sCMOS": (0.02, SCMOS),
    "photon counts": (0.02, {"conversion_gain": 1, "zero_level": 0, "mean_photons": 3, "dtype": "uint8"}),
    "activity": (0.025, {"activity": 0.3}),
    "flicker and bleaching": (0.02, {"flicker": 0.05, "bleaching": 0.4}),
    "jitter": (0.05, {"jitter": 1.0}),
    "EMCCD": (0.03, EMCCD),
    "hot pixels": (0.02, {"hot_pixels": 1e-3}),
    "saturated": (0.03, {"adc_bits": 10, "conversion_gain": 30, "mean_photons": 8, "dtype": "uint16"}),
    "float64": (0.02, {"dtype": "float64", "conversion_gain": 1e-3, "zero_level": -1.0}),
    "above 32767": (
        0.02,
        {"dtype": "uint16", "conversion_gain": 200, "zero_level": 20000, "mean_photons": 50},
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_gain_and_zero_are_found(seed, name):
    """On 2.6 megapixels the gain is right to a few percent and the zero level to its interval."""
    bound, options = SCENARIOS[name]
    movie, truth = simulate_movie((100, 160, 160), rng=[seed, 5], **options)
    found = compute_sensitivity(movie)
    assert found.verdict != "refused"
    assert abs(found.conversion_gain / truth.conversion_gain - 1) < bound
    low, high = found.zero_level_interval
    assert low - (high - low) <= truth.zero_level <= high + (high - low)


def test_what_is_not_noise_is_left_out(seed):
    """Blinking pixels, a jolt of the field and a busy corner do not change the gain."""
    movie, truth = simulate_movie((128, 128, 128), dtype="float32", rng=seed)
    rng = np.random.default_rng(seed)
    blinking = rng.random(movie.shape[1:]) < 0.003
    movie[:, blinking] += rng.normal(0, 3000, (128, np.count_nonzero(blinking)))
    movie[40:44] = np.roll(movie[40:44], (9, 6, 3, -5), (1, 2, 1, 2))
    movie[:, 100:, 100:] *= rng.uniform(0.5, 1.5, (128, 28, 28))
    found = compute_sensitivity(movie)
    assert found.used_fraction < 0.95
    assert abs(found.conversion_gain / truth.conversion_gain - 1) < 0.04


def test_a_little_correlation_along_x_does_not_lower_the_gain(seed):
    """Neighbours that share 6 % of their noise lower the variance behind a filter along x, not the gain."""
    movie, truth = simulate_movie((96, 160, 160), flicker=0.05, dtype="float64", rng=seed)
    expected = truth.zero_level + truth.signal_per_photon * truth.photons * truth.brightness[:, None, None]
    noise = movie - expected
    movie = expected + noise + 0.06 * np.roll(noise, 1, axis=2)
    found = compute_sensitivity(movie)
    assert found.method != "t"
    assert abs(found.conversion_gain / truth.conversion_gain - 1) < 0.03


@pytest.mark.parametrize("frames", [2, 3, 5, 6, 10, 17])
def test_few_frames_are_enough(seed, frames):
    """From two frames on the gain is within 6 %, and within twice its interval."""
    movie, truth = simulate_movie((frames, 320, 320), rng=[seed, frames])
    found = compute_sensitivity(movie)
    low, high = found.conversion_gain_interval
    assert abs(found.conversion_gain / truth.conversion_gain - 1) < 0.06
    assert abs(found.conversion_gain - truth.conversion_gain) < high - low


def test_intervals_hold_the_truth(seed):
    """Of 20 intervals of 95 %, at least 14 hold the truth: fewer has a chance below 1e-4 for honest ones."""
    gain = zero = 0
    for k in range(20):
        movie, truth = simulate_movie((32, 96, 96), rng=[seed, k])
        found = compute_sensitivity(movie, on_refusal="return")
        gain += (
            found.conversion_gain_interval[0] <= truth.conversion_gain <= found.conversion_gain_interval[1]
        )
        zero += found.zero_level_interval[0] <= truth.zero_level <= found.zero_level_interval[1]
    assert gain >= 14
    assert zero >= 14


def test_the_estimate_scales_with_the_signal(seed):
    """Multiplying a movie by a and adding b multiplies gain by a and maps zero z to a·z + b."""
    movie, _ = simulate_movie((32, 96, 96), dtype="float32", rng=seed)
    plain = compute_sensitivity(movie, on_refusal="return")
    scaled = compute_sensitivity(movie * np.float32(4) + np.float32(1024), on_refusal="return")
    assert scaled.conversion_gain == pytest.approx(4 * plain.conversion_gain, rel=1e-3)
    assert scaled.zero_level == pytest.approx(4 * plain.zero_level + 1024, abs=0.02 * scaled.conversion_gain)
    assert scaled.verdict == plain.verdict


def test_wide_integers_keep_their_precision(seed):
    """An offset of 2³⁰ in an int32 movie moves the zero level and nothing else."""
    movie, _ = simulate_movie((32, 96, 96), rng=seed)
    plain = compute_sensitivity(movie)
    moved = compute_sensitivity(movie.astype(np.int32) + 2**30)
    assert moved.conversion_gain == pytest.approx(plain.conversion_gain, rel=1e-3)
    assert moved.zero_level - 2**30 == pytest.approx(plain.zero_level, abs=0.02 * plain.conversion_gain)


def test_repeated_frames_are_left_out_and_reported(seed):
    """Frames stored twice do not lower the noise."""
    movie, truth = simulate_movie((64, 128, 128), rng=seed)
    found = compute_sensitivity(np.repeat(movie, 2, axis=0))
    assert "duplicated_frames" in codes(found)
    assert abs(found.conversion_gain / truth.conversion_gain - 1) < 0.06


def test_lost_frames_are_left_out(seed):
    """Frames stored as zeros, or as NaN, do not enter the noise."""
    movie, truth = simulate_movie((64, 128, 128), zero_level=500, dtype="float32", rng=seed)
    movie[[5, 31, 40]] = 0
    movie[50] = np.nan
    found = compute_sensitivity(movie)
    assert "duplicated_frames" in codes(found)
    assert abs(found.conversion_gain / truth.conversion_gain - 1) < 0.06


def test_channels_in_turn_are_noticed(seed):
    """Frames that alternate between two scenes get a caution; frames that only move do not."""
    movie, _ = simulate_movie((48, 96, 96), jitter=1.0, rng=seed)
    assert "alternating_frames" not in codes(compute_sensitivity(movie, on_refusal="return"))
    movie[1::2] = movie[1::2, ::-1]
    assert "alternating_frames" in codes(compute_sensitivity(movie, on_refusal="return"))


def test_strong_motion_of_a_bright_scene_is_overcome(seed):
    """Where structure exceeds the noise tenfold, the gain is within 8 %, and near its interval."""
    movie, truth = simulate_movie((100, 160, 160), jitter=1.5, **SCMOS, rng=seed)
    found = compute_sensitivity(movie, on_refusal="return")
    low, high = found.conversion_gain_interval
    assert abs(found.conversion_gain / truth.conversion_gain - 1) < 0.08
    assert low - (high - low) / 2 < truth.conversion_gain < high + (high - low) / 2


def test_true_counts_are_not_taken_for_cut_off(seed):
    """Zeros of a photon counter are data; no row is left out for them."""
    movie, _truth = simulate_movie(
        (64, 128, 128), conversion_gain=1, zero_level=0, mean_photons=0.4, dtype="uint8", rng=seed
    )
    found = compute_sensitivity(movie)
    assert not {"clipped_low", "clipped_low_everywhere"} & codes(found)
    assert abs(found.conversion_gain - 1) < 0.05


@pytest.mark.parametrize("radius", [0.4, 0.5])
def test_masked_pixels_are_left_out(seed, radius):
    """Pixels set to zero outside a circle, however many, change neither gain nor zero level."""
    movie, truth = simulate_movie(
        (64, 160, 160), conversion_gain=10, zero_level=60, read_noise=8, dtype="uint16", rng=seed
    )
    y, x = np.ogrid[-0.5:0.5:160j, -0.5:0.5:160j]
    movie[:, np.hypot(y, x) > radius] = 0
    found = compute_sensitivity(movie)
    assert "blank_pixels" in codes(found)
    assert found.verdict == "trustworthy"
    assert abs(found.conversion_gain / truth.conversion_gain - 1) < 0.04
    assert abs(found.zero_level - truth.zero_level) < 5


def test_tiles_beside_masked_pixels_are_blank(seed):
    """A tile goes if a pixel that its filters reach is masked, and stays for pixels that photons left out."""
    frames = np.random.default_rng(seed).poisson(3, (24, 50, 66)).astype(np.uint16)
    frames[:, 20:, :26] = 7
    frames[:, 5, ::9] = 0
    statistics = NoiseStatistics((50, 66))
    statistics.update(frames, start=0)
    blank = np.zeros((6, 8), bool)
    # Tile k reaches over pixels 8 k to 8 k + 9.
    blank[2:, :4] = True
    assert np.array_equal(statistics.table().blank.reshape(6, 8), blank)


def test_two_frames_that_agree_are_not_blank(rng):
    """Dark pixels that are alike in two frames are darkness."""
    statistics = NoiseStatistics((50, 66), segment_frames=2)
    statistics.update(rng.poisson(0.05, (2, 50, 66)).astype(np.uint16), start=0)
    assert not statistics.table().blank.any()


def test_an_uneven_gain_is_not_taken_for_motion(seed):
    """In an active movie, a gain higher in the middle costs no rows there, and the mean is found."""
    movie, truth = simulate_movie((100, 162, 162), activity=0.3, dtype="float32", rng=seed)
    relative = 1.1 - 0.3 * np.linspace(-1, 1, 162) ** 2
    found = compute_sensitivity(truth.zero_level + (movie - truth.zero_level) * relative.astype(np.float32))
    assert "uneven_gain" in codes(found)
    assert found.evidence.used[:, 7:13].mean() > 0.8
    assert abs(found.conversion_gain / (truth.conversion_gain * relative.mean()) - 1) < 0.03


def test_a_little_noise_shared_along_lines_does_not_change_the_gain(seed):
    """An amplifier that mixes neighbours by a few percent lowers the gain by the sum of squared weights."""
    movie, truth = simulate_movie(
        (100, 160, 160), conversion_gain=150, activity=0.2, dtype="float32", rng=seed
    )
    kernel = np.array([0.03, 0.92, 0.05])
    found = compute_sensitivity(ndimage.convolve1d(movie, kernel, axis=2), on_refusal="return")
    assert abs(found.conversion_gain / (truth.conversion_gain * np.sum(kernel**2)) - 1) < 0.025


def test_an_offset_of_frames_that_wanders_does_not_change_the_gain(seed):
    """A zero level that is another in each segment moves means, but not the slope within a segment."""
    rng = np.random.default_rng([seed, 11])
    movie, truth = simulate_movie((96, 128, 128), conversion_gain=80, rng=rng, dtype="float32")
    wander = np.repeat(rng.permutation(8) % 2 * 160, 12)
    found = compute_sensitivity(movie + wander[:, None, None].astype(np.float32))
    low, high = found.conversion_gain_interval
    assert abs(found.conversion_gain - truth.conversion_gain) < high - low
    assert high - low < 0.15 * truth.conversion_gain


def test_fixed_offsets_of_the_pixels_do_not_lower_the_gain(seed):
    """Offsets that differ by a quarter of an electron from pixel to pixel leave the gain within 4 %."""
    movie, truth = simulate_movie(
        (100, 160, 160), conversion_gain=2.2, read_noise=3.5, mean_photons=4, dtype="float64", rng=seed
    )
    movie += np.random.default_rng(seed).normal(0, 1.1, movie.shape[1:])
    found = compute_sensitivity(movie)
    assert abs(found.conversion_gain / truth.conversion_gain - 1) < 0.04


@pytest.mark.parametrize("electrons", [1.0, 2.0, 3.0])
def test_a_camera_with_fixed_offsets_is_calibrated(seed, electrons):
    """Offsets of 1 to 3 electrons at 1 to 25 photons, as of sCMOS cameras, leave the gain within 4 %.

    Four standard errors are 2 to 4 %; sorted by neighbours that a filter takes in, the gain was 1 to 16 %
    low.
    """
    rng = np.random.default_rng([seed, 21])
    scene = ndimage.gaussian_filter(rng.random((160, 160)) ** 8, 2.5)
    photons = 1 + 24 * scene / scene.max()
    offsets = 2.2 * electrons * rng.standard_normal((160, 160))
    movie = 2.2 * (rng.poisson(photons, (100, 160, 160)) + 1.4 * rng.standard_normal((100, 160, 160)))
    found = compute_sensitivity(np.rint(100 + offsets + movie).astype(np.int16))
    assert abs(found.conversion_gain / 2.2 - 1) < 0.04
    low, high = found.conversion_gain_interval
    assert low - 0.03 < 2.2 < high + 0.03
    assert "scattered" not in {reason.code for reason in found.reasons}


def test_offsets_that_wander_over_the_field_are_no_uneven_gain(seed):
    """Offsets in waves of 3 electrons over the field: the slope within tiles is that of the detector to 8 %.

    Between tiles it is 40 to 90 % lower.
    """
    rng = np.random.default_rng([seed, 23])
    scene = ndimage.gaussian_filter(rng.random((160, 160)) ** 8, 2.5)
    photons = 1 + 24 * scene / scene.max()
    y, x = np.mgrid[:160, :160]
    offsets = 6 * np.sin(y / 30 + seed) + 4 * np.cos(x / 25) + 2.2 * rng.standard_normal((160, 160))
    movie = 2.2 * (rng.poisson(photons, (100, 160, 160)) + 1.4 * rng.standard_normal((100, 160, 160)))
    found = compute_sensitivity(np.rint(100 + offsets + movie).astype(np.int16), on_refusal="return")
    assert abs(found.conversion_gain / 2.2 - 1) < 0.08
    reasons = {(reason.code, reason.severity) for reason in found.reasons}
    assert ("offsets_wander", "caution") in reasons
    assert ("uneven_gain", "caution") not in reasons


def test_what_is_cut_at_both_ends_is_judged_together(seed):
    """Each end leaves the half of the field that the other takes: the gain is within 5 % all the same."""
    rng = np.random.default_rng([seed, 24])
    y, x = np.mgrid[:128, :128]
    photons = np.full((128, 128), 0.75)
    for _ in range(40):
        distance = (y - rng.uniform(0, 128)) ** 2 + (x - rng.uniform(0, 128)) ** 2
        photons += rng.uniform(1.5, 10) * np.exp(-distance / 18)
    movie = 100 + 350 * (rng.poisson(photons, (160, 128, 128)) + 0.3 * rng.standard_normal((160, 128, 128)))
    found = compute_sensitivity(np.clip(np.rint(movie), 0, 4095).astype(np.uint16))
    assert found.verdict == "caution"
    assert abs(found.conversion_gain / 350 - 1) < 0.05


def test_a_scene_without_smoothness_is_calibrated(seed):
    """Where neighbours tell nothing, pixels are compared by themselves at other times: within 4 errors."""
    rng = np.random.default_rng([seed, 22])
    photons = 1 + rng.gamma(2, 5, (160, 160))
    movie = 3 * rng.poisson(photons, (100, 160, 160)) + 2 * rng.standard_normal((100, 160, 160))
    found = compute_sensitivity(movie.astype(np.float32))
    assert abs(found.conversion_gain / 3 - 1) < 0.08


def without_background(movie):
    """The movie less its smooth background, as a rolling ball finds it."""
    smooth = ndimage.gaussian_filter(movie.mean(axis=0), 1)
    return movie - ndimage.gaussian_filter(ndimage.grey_opening(smooth, 15), 5)


PROCESSED = {
    "background taken off": without_background,
    "divided by its mean": lambda movie: movie / ndimage.gaussian_filter(movie.mean(axis=0), 3),
    "blended with a smoothed copy": lambda movie: (
        0.35 * movie + 0.65 * ndimage.gaussian_filter(movie, (1.5, 1, 1))
    ),
    "square root": lambda movie: np.sqrt(np.maximum(movie, 0)),
}


@pytest.mark.parametrize("name", PROCESSED)
def test_processed_movies_are_not_trusted(seed, name):
    """What was done to the values shows, though noise is still white and grows with brightness."""
    movie, _truth = simulate_movie((100, 160, 160), dtype="float32", rng=seed)
    found = compute_sensitivity(PROCESSED[name](movie), on_refusal="return")
    assert found.verdict != "trustworthy"


def test_a_cut_at_zero_widens_the_intervals(seed):
    """Where dark values were cut off all over the field, twice the interval holds the gain."""
    movie, truth = simulate_movie(
        (100, 160, 160),
        conversion_gain=60,
        zero_level=5,
        read_noise=15,
        mean_photons=1,
        dtype="float32",
        rng=seed,
    )
    found = compute_sensitivity(np.maximum(np.rint(movie), 0).astype(np.uint16))
    assert found.verdict == "caution"
    assert {"clipped_low", "clipped_low_everywhere"} & codes(found)
    low, high = found.conversion_gain_interval
    assert low - (high - low) / 2 < truth.conversion_gain < high + (high - low) / 2


@pytest.mark.parametrize("frames", [4, 16])
def test_noise_does_not_sort_the_pixels_it_is_measured_on(seed, frames):
    """In a uniform scene, classes that differ in the instrument do not differ in the mean."""
    movie, truth = simulate_movie((frames, 258, 258), scene="uniform", rng=seed)
    statistics = NoiseStatistics((258, 258), segment_frames=frames)
    statistics.update(movie, start=0)
    table = statistics.table()
    bright = table.label("brightness") == (3 if statistics.halved else 1)
    dark = table.label("brightness") == 0
    means = [[table.mean(name)[rows].mean() for rows in (dark, bright)] for name in ("q", "x_t")]
    standard_error = np.sqrt(
        truth.conversion_gain * (movie.mean() - 50) / (16 * 4 * np.count_nonzero(dark)) * 2
    )
    assert means[0][1] - means[0][0] > 20 * standard_error
    assert abs(means[1][1] - means[1][0]) < 5 * standard_error


# What cannot be calibrated is refused.


def codes(sensitivity):
    """Codes of the reasons."""
    return {reason.code for reason in sensitivity.reasons}


def unusable(name, seed):
    """A movie that does not reveal its noise."""
    rng = np.random.default_rng(seed)
    shape = (40, 96, 96)
    movie, _ = simulate_movie(shape, rng=seed, dtype="float32")
    match name:
        case "one frame":
            return movie[:1]
        case "constant":
            return np.full(shape, 7, np.uint16)
        case "mask":
            return (movie > 400).astype(np.uint8)
        case "NaN":
            return np.full(shape, np.nan, np.float32)
        case "identical":
            return np.repeat(movie[:1], 40, axis=0)
        case "identical pair":
            return np.repeat(movie[:1], 2, axis=0)
        case "uniform":
            return simulate_movie(shape, scene="uniform", rng=seed)[0]
        case "noise":
            return rng.normal(100, 10, shape)
        case "smoothed":
            from scipy.ndimage import gaussian_filter

            return gaussian_filter(movie, (0, 1, 1))
        case "autoscaled":
            stretched = [255 * (f - f.min()) / np.ptp(f) for f in movie]
            return np.rint(stretched).astype(np.uint8)
        case "running mean":
            return (movie[1:] + movie[:-1]) / 2
    raise ValueError(name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("one frame", {"too_few_frames"}),
        ("constant", {"constant"}),
        ("mask", {"two_levels"}),
        ("NaN", {"not_finite"}),
        ("autoscaled", {"autoscaled"}),
        ("identical", {"identical_frames"}),
        ("identical pair", {"identical_frames"}),
        ("uniform", {"no_shot_noise", "no_contrast", "imprecise_gain"}),
        ("noise", {"no_shot_noise", "no_contrast", "imprecise_gain"}),
        ("smoothed", {"correlated_in_space"}),
        ("running mean", {"correlated_in_time"}),
    ],
)
def test_what_cannot_be_calibrated_is_refused_with_its_reason(seed, name, expected):
    """The refusal carries the sensitivity, and a reason of the kind expected."""
    with pytest.raises(UntrustworthyCalibration) as refusal:
        compute_sensitivity(unusable(name, seed))
    found = refusal.value.sensitivity
    assert found.verdict == "refused"
    assert codes(found) & expected
    assert isinstance(refusal.value, ValueError)
    assert all(
        reason.message in str(refusal.value) for reason in found.reasons if reason.severity == "refusal"
    )
    returned = compute_sensitivity(unusable(name, seed), on_refusal="return")
    assert returned.verdict == "refused"
    with pytest.raises(UntrustworthyCalibration):
        returned.codec()


@pytest.mark.parametrize(
    ("movie", "options", "error", "message"),
    [
        (np.zeros((20, 20)), {}, ValueError, r"three axes \(time, y, x\), got shape \(20, 20\)"),
        (np.zeros((4, 20, 20), complex), {}, TypeError, "complex128"),
        (np.zeros((4, 20, 20), bool), {}, TypeError, "bool"),
        (np.zeros((4, 20, 20)), {"on_refusal": "ignore"}, ValueError, "on_refusal"),
        (np.zeros((4, 20, 20)), {"max_frames": 1}, ValueError, "max_frames"),
    ],
)
def test_misuse_is_an_error_that_names_the_rule(movie, options, error, message):
    """What is not a movie is an error, not a refusal."""
    with pytest.raises(error, match=message):
        compute_sensitivity(movie, **options)


def test_tiles_with_nan_are_left_out(seed):
    """A border of NaN, as registration leaves it, costs its tiles and nothing else."""
    movie, truth = simulate_movie((48, 128, 128), dtype="float32", rng=seed)
    movie[:, :11] = np.nan
    movie[:, :, -5:] = np.nan
    found = compute_sensitivity(movie)
    assert "not_finite" in codes(found)
    assert abs(found.conversion_gain / truth.conversion_gain - 1) < 0.05


# Statistics add up.


def in_pieces(movie, cuts, order, workers):
    """Statistics of a movie cut into blocks, added in some order by some workers, then merged."""
    parts = [NoiseStatistics(movie.shape[1:]) for _ in range(workers)]
    edges = [0, *sorted(cuts), len(movie)]
    blocks = [(a, b) for a, b in itertools.pairwise(edges) if a < b]
    for k, which in enumerate(order(len(blocks))):
        start, stop = blocks[which]
        parts[k % workers].update(movie[start:stop], start=start)
    whole = parts[-1]
    for part in parts[:-1]:
        whole.merge(part)
    return whole


@pytest.mark.parametrize("workers", [1, 3])
def test_any_split_in_any_order_gives_the_same_estimate(rng, seed, workers):
    """Chunks that cut segments apart, shuffled over workers, give the rows of one pass, bit for bit."""
    movie, _ = simulate_movie((96, 64, 64), rng=seed)
    whole = NoiseStatistics((64, 64))
    whole.update(movie, start=0)
    pieces = in_pieces(movie, rng.integers(1, 96, 9), rng.permutation, workers)
    np.testing.assert_array_equal(pieces.table().rows, whole.table().rows)
    assert estimate_sensitivity(pieces).conversion_gain == pytest.approx(
        estimate_sensitivity(whole).conversion_gain, rel=1e-12
    )


def test_the_number_of_threads_changes_nothing(rng):
    """Bands of a field worked on at once give the rows of one thread, bit for bit."""
    movie = rng.poisson(rng.gamma(2.0, 5.0, (300, 1200)), (24, 300, 1200)).astype(np.float32)
    movie[3, 100, 7] = np.nan
    one, many = NoiseStatistics((300, 1200)), NoiseStatistics((300, 1200), threads=3)
    for statistics in (one, many):
        statistics.update(movie, start=0)
    np.testing.assert_array_equal(one.table().rows, many.table().rows)
    assert one.not_finite == many.not_finite == 1
    with pytest.raises(ValueError, match="threads must be >= 1"):
        NoiseStatistics((64, 64), threads=0)


def test_coarser_rows_give_the_same_estimate(seed, monkeypatch):
    """Adding segments together to save memory changes the gain by less than half its interval."""
    movie, _ = simulate_movie((160, 64, 64), rng=seed)
    fine = NoiseStatistics((64, 64), segment_frames=16)
    fine.update(movie, start=0)
    rows, expected = fine.table(), estimate_sensitivity(fine)
    monkeypatch.setattr("anscombe_transform.calibration.sums.statistics._MOST_ROWS", 1000)
    coarse = NoiseStatistics((64, 64), segment_frames=16)
    for start in range(0, 160, 16):
        coarse.update(movie[start : start + 16], start=start)
    assert len(coarse.table()) < len(rows) / 3
    assert coarse.table().n.sum() == rows.n.sum()
    long, short = NoiseStatistics((64, 64), segment_frames=16), NoiseStatistics((64, 64), segment_frames=16)
    long.update(movie[:96], start=0)
    short.update(movie[96:], start=96)
    for merged in (copy.deepcopy(long).merge(short), short.merge(long)):
        np.testing.assert_allclose(merged.table().rows, coarse.table().rows, rtol=1e-12)
    low, high = expected.conversion_gain_interval
    assert abs(estimate_sensitivity(coarse).conversion_gain - expected.conversion_gain) < (high - low) / 2


def test_nothing_counts_twice(seed):
    """Frames that were added before, here or in the other statistics, are refused."""
    movie, _ = simulate_movie((32, 32, 32), rng=seed)
    first, second = NoiseStatistics((32, 32)), NoiseStatistics((32, 32))
    first.update(movie[:20], start=0)
    for start, stop in ((0, 16), (5, 8), (18, 20)):
        with pytest.raises(ValueError, match="before"):
            first.update(movie[start:stop], start=start)
    second.update(movie[:16], start=0)
    with pytest.raises(ValueError, match="twice"):
        first.merge(second)
    with pytest.raises(ValueError, match="ceiling"):
        first.merge(NoiseStatistics((32, 32), ceiling=255))
    with pytest.raises(ValueError, match=r"shape \(time, 32, 32\)"):
        first.update(movie[:, :16], start=64)


class Generated:
    """A movie of any length that exists one block at a time, and counts the frames that were read."""

    def __init__(self, frames, shape, seed):
        self.block, self.truth = simulate_movie((64, *shape), dtype="uint16", rng=seed)
        self.shape, self.dtype, self.read = (frames, *shape), self.block.dtype, 0

    def __getitem__(self, index):
        index = index[0] if isinstance(index, tuple) else index
        times = np.arange(*index.indices(self.shape[0]))
        self.read += len(times)
        return self.block[times % 64]


@pytest.mark.parametrize("full", [False, True])
def test_memory_does_not_grow_with_the_movie(seed, full):
    """A gigabyte of uint16 takes less than 300 MB, whether sampled or read in full."""
    movie = Generated(10_000 if not full else 800, (224, 224), seed)
    tracemalloc.start()
    found = compute_sensitivity(movie, full=full)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 300e6
    assert movie.read > 700 if full else movie.read < 1000
    assert abs(found.conversion_gain / movie.truth.conversion_gain - 1) < 0.06


def test_max_frames_bounds_what_is_read(seed):
    """At most `max_frames` frames enter the statistics, and `progress` hears of every segment."""
    movie, _ = simulate_movie((160, 64, 64), rng=seed)
    heard = []
    compute_sensitivity(movie, max_frames=60, progress=lambda *a: heard.append(a), on_refusal="return")
    assert heard == [(1, 2), (2, 2)]
    for frames in (2, 5, 7, 20):
        lazy = Generated(31, (48, 48), seed)
        compute_sensitivity(lazy, max_frames=frames, on_refusal="return")
        # Eight pairs of frames are looked at first; from 12 frames on as many again, for turns of channels.
        assert lazy.read - 16 <= frames * (1 if frames < 12 else 2)


def test_any_container_gives_the_same_estimate(seed, tmp_path):
    """memmap, zarr, h5py and dask give what numpy gives."""
    h5py, zarr, da = (
        pytest.importorskip("h5py"),
        pytest.importorskip("zarr"),
        pytest.importorskip("dask.array"),
    )
    movie, _ = simulate_movie((40, 64, 64), rng=seed)
    expected = compute_sensitivity(movie)
    np.save(tmp_path / "movie.npy", movie)
    stored = zarr.open(
        str(tmp_path / "movie.zarr"), mode="w", shape=movie.shape, chunks=(7, 64, 64), dtype="int16"
    )
    stored[:] = movie
    with h5py.File(tmp_path / "movie.h5", "w") as file:
        dataset = file.create_dataset("movie", data=movie, chunks=(5, 32, 32))
        lazies = [
            np.load(tmp_path / "movie.npy", mmap_mode="r"),
            stored,
            dataset,
            da.from_array(movie, chunks=(9, 64, 64)),
            movie.astype(">i2"),
        ]
        for lazy in lazies:
            assert compute_sensitivity(lazy) == expected


# The result.


def test_a_sensitivity_survives_json(seed):
    """`to_dict` is plain JSON, and `from_dict` gives back an equal sensitivity, refused ones included."""
    movie, _ = simulate_movie((32, 64, 64), rng=seed)
    for found in (
        compute_sensitivity(movie, on_refusal="return"),
        Sensitivity.from_known(conversion_gain=2.2, zero_level=100, read_noise=3.5),
    ):
        assert Sensitivity.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False))) == found
    refused = Sensitivity.refused(Reason("constant", "every sample is 7.", "refusal"))
    again = Sensitivity.from_dict(json.loads(json.dumps(refused.to_dict(), allow_nan=False)))
    assert again.reasons == refused.reasons
    assert np.isnan(again.conversion_gain)
    with pytest.raises(ValueError, match="lacks verdict"):
        Sensitivity.from_dict({k: v for k, v in refused.to_dict().items() if k != "verdict"})


def test_the_transfer_curve_lies_on_the_line(seed):
    """Binned variances scatter about the fitted line by about their standard errors."""
    movie, _ = simulate_movie((64, 128, 128), rng=seed)
    found = compute_sensitivity(movie)
    curve = found.transfer_curve
    line = found.conversion_gain * (curve.mean - found.variance_intercept)
    score = (curve.variance - line) / curve.standard_error
    assert len(curve.mean) >= 8
    assert np.all(np.diff(curve.mean) > 0)
    assert np.sqrt(np.mean(score**2)) < 2.5


def test_print_tells_gain_zero_and_verdict(seed):
    """The text a user reads has the figures, their intervals and the verdict."""
    movie, _ = simulate_movie((64, 128, 128), rng=seed)
    found = compute_sensitivity(movie)
    text = str(found)
    assert text.startswith(f"gain {found.conversion_gain:.4g} [{found.conversion_gain_interval[0]:.4g}, ")
    assert "signal/photon, zero " in text
    assert f"verdict: {found.verdict}" in text


@pytest.mark.parametrize(
    "constants",
    [
        {"conversion_gain": 0, "zero_level": 0},
        {"conversion_gain": np.nan, "zero_level": 0},
        {"conversion_gain": 1, "zero_level": np.inf},
        {"conversion_gain": 1, "zero_level": 0, "read_noise": -1},
    ],
)
def test_known_constants_are_checked(constants):
    """A gain must be positive, all finite, read noise not negative."""
    with pytest.raises(ValueError, match="must be a finite number"):
        Sensitivity.from_known(**constants)


# Real recordings.


def test_two_photon_recording(recordings):
    """Three looks say a gain of 85 to 95 and a zero of about 15 to 60; the gain varies over the field."""
    found = compute_sensitivity(np.load(recordings / "tp_anscombe" / "data1.npz")["data"])
    assert 85 < found.conversion_gain < 95
    assert 15 < found.zero_level < 60
    assert found.zero_level_interval[1] < 150
    assert found.used_fraction > 0.9
    assert found.verdict == "trustworthy"
    assert "uneven_gain" in codes(found)


def test_ccd_recording_of_two_frames(recordings):
    """A CCD's gain is 0.371 within 2 % from two light frames; they hold values above 32767."""
    found = compute_sensitivity(np.load(recordings / "ccd_andor_dv435" / "frames_u16.npz")["light"])
    assert found.conversion_gain == pytest.approx(0.371, rel=0.02)
    assert found.variance_intercept == pytest.approx(465, abs=5)
    assert found.zero_level_interval[0] < 495.7 < found.zero_level_interval[1]


def test_photon_counter_recording(recordings):
    """A photon counter's gain is 1 and its zero 0, though its dead time bends the bright end."""
    found = compute_sensitivity(np.load(recordings / "flim_ptu_pq" / "counts_u8.npz")["frames"])
    assert found.conversion_gain == pytest.approx(1, rel=0.05)
    assert abs(found.zero_level) < 0.1


def test_scmos_recording(recordings):
    """An sCMOS camera's gain is about 2.1; three frames leave the zero level to its interval."""
    tifffile = pytest.importorskip("tifffile")
    found = compute_sensitivity(tifffile.imread(recordings / "scmos_zyla" / "light_crop_u16.tif"))
    assert found.conversion_gain == pytest.approx(2.1, rel=0.05)
    assert found.zero_level_interval[0] < 118 < found.zero_level_interval[1]


def test_five_frames_of_moving_molecules_are_not_enough(recordings):
    """Single-molecule frames of an EMCCD: the gain, about 5 to 7, is refused for being too uncertain."""
    tifffile = pytest.importorskip("tifffile")
    found = compute_sensitivity(
        tifffile.imread(recordings / "emccd_locan" / "images.tif"), on_refusal="return"
    )
    assert found.verdict == "refused"
    assert "imprecise_gain" in codes(found)
    assert found.conversion_gain_interval[0] < 5 < found.conversion_gain_interval[1]


def test_a_smoothed_recording_is_not_trusted(recordings):
    """A smoothed, background-subtracted movie has a straight curve, and its slope is no gain."""
    found = compute_sensitivity(
        np.load(recordings / "tp_thunder_mouse" / "movie.npz")["movie"], on_refusal="return"
    )
    assert found.verdict == "refused"
    assert "correlated_in_space" in codes(found)


def test_a_recording_without_light_is_not_trusted(recordings):
    """Where noise does not grow with brightness there is no gain."""
    tifffile = pytest.importorskip("tifffile")
    found = compute_sensitivity(
        tifffile.imread(recordings / "cam_pims_lowlight" / "stuck.tif"), on_refusal="return"
    )
    assert found.verdict == "refused"
    assert "no_shot_noise" in codes(found)


@pytest.mark.parametrize(("frames", "warned"), [(15, True), (16, False)])
def test_a_codec_fitted_to_few_frames_says_so(frames: int, warned: bool, caplog) -> None:
    """Fewer than 16 frames of a sample are too few for the mean at every brightness; a list is no movie."""
    known = Sensitivity.from_known(conversion_gain=90, zero_level=50)
    movie = (50 + 90 * np.random.default_rng(0).poisson(8, (frames, 32, 32))).astype("int16")
    known.codec(sample=movie)
    assert ("it takes 16" in caplog.text) == warned
    caplog.clear()
    known.codec(sample=[50, 5000])
    assert not caplog.text
