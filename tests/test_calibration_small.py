"""Small fields, line scans and single pixels are calibrated from differences over time."""

from __future__ import annotations

import numpy as np
import pytest

import anscombe_transform as at
from anscombe_transform.calibration.small.estimate import is_small

SCMOS = at.Camera(conversion_gain=2.2, zero_level=100, read_noise=3.5, dtype="uint16")


def traces(shape, seed, photons=20.0):
    """Light of pixels that differ, and that changes slowly, as of fluorescent cells."""
    rng = np.random.default_rng([seed, 5])
    pixels = shape[1] * shape[2]
    pixel = rng.lognormal(0, 0.6, pixels)
    times = np.arange(shape[0])[:, None] / shape[0]
    slow = 1 + 0.6 * np.sin(2 * np.pi * (rng.uniform(1, 4, pixels) * times + rng.uniform(0, 1, pixels)))
    return (photons * pixel / pixel.mean() * slow).reshape(shape)


def calibrate(movie, **options):
    """The calibration, a refused one too."""
    return at.compute_sensitivity(movie, on_refusal="return", **options)


def codes(found):
    """Codes of the reasons."""
    return {reason.code for reason in found.reasons}


def error_in_intervals(found, truth):
    """Error of the gain in standard deviations of its interval."""
    low, high = found.conversion_gain_interval
    return (found.conversion_gain - truth.conversion_gain) / ((high - low) / 2 / 2.069)


@pytest.mark.parametrize("shape", [(16, 16), (10, 10), (1, 64), (64, 1), (4, 40)])
def test_fields_of_few_pixels_are_calibrated(seed, shape):
    """The gain of small fields and line scans lies within the interval, which is narrow."""
    shape = (300_000 // (shape[0] * shape[1]), *shape)
    movie, truth = at.simulate_movie(shape, camera=SCMOS, scene=traces(shape, seed), rng=seed)
    found = calibrate(movie)
    # Chance makes the gain of some seeds less certain than 2 %, or the third cumulant stand out a little.
    assert found.verdict != "refused"
    assert codes(found) <= {"imprecise_gain", "zero_uncertain", "zero_inconsistent", "excess_noise"}, str(
        found
    )
    # Student's t of 23 degrees of freedom is beyond 5 once in 20,000.
    assert abs(error_in_intervals(found, truth)) < 5
    assert np.ptp(found.conversion_gain_interval) < 0.15 * truth.conversion_gain
    low, high = found.zero_level_interval
    margin = 0.5 * (high - low)
    assert low - margin < truth.zero_level < high + margin


def test_a_single_pixel_is_calibrated_where_its_light_changes(seed):
    """One pixel has a gain if its brightness changes, and the interval says how well it is known."""
    shape = (40_000, 1, 1)
    movie, truth = at.simulate_movie(shape, camera=SCMOS, scene=traces(shape, seed), rng=seed)
    found = calibrate(movie)
    assert abs(error_in_intervals(found, truth)) < 5
    assert found.verdict != "trustworthy" or np.ptp(found.conversion_gain_interval) < 0.1 * 2.2
    assert codes(found) <= {"imprecise_gain", "zero_uncertain", "zero_inconsistent"}


@pytest.mark.parametrize("shape", [(20_000, 1, 1), (4000, 1, 40), (2000, 12, 12)])
def test_constant_light_has_no_gain(seed, shape):
    """Where brightness differs neither between pixels nor over time, the gain is refused."""
    movie, _ = at.simulate_movie(shape, camera=SCMOS, scene="uniform", mean_photons=20, rng=seed)
    found = calibrate(movie)
    assert found.verdict == "refused"
    assert codes(found) & {"no_contrast", "imprecise_gain", "no_shot_noise"}
    with pytest.raises(at.UntrustworthyCalibration, match="cannot be calibrated"):
        at.compute_sensitivity(movie)


def test_constant_light_of_one_pixel_is_refused_for_want_of_contrast():
    """The reason of the refusal is the missing contrast."""
    movie, _ = at.simulate_movie((20_000, 1, 1), camera=SCMOS, scene="uniform", mean_photons=20, rng=0)
    assert codes(calibrate(movie)) == {"no_contrast"}


def test_fixed_offsets_do_not_bias_small_fields(seed):
    """Offsets of pixels that change over time lower the gain by less than the interval."""
    shape = (3000, 12, 12)
    camera = at.Camera(conversion_gain=2.2, zero_level=100, read_noise=3.5, offset_spread=6.6, dtype="uint16")
    movie, truth = at.simulate_movie(shape, camera=camera, scene=traces(shape, seed, photons=6), rng=seed)
    found = calibrate(movie)
    # Between pixels, offsets of 3 electrons would lower the slope by 9/(9 + Var(photons)), a third or more.
    assert abs(error_in_intervals(found, truth)) < 5
    assert np.ptp(found.conversion_gain_interval) < 0.2 * truth.conversion_gain


def test_flicker_takes_a_filter_in_space(seed):
    """Light that flickers adds to differences over time; a filter across pixels cancels it."""
    shape = (2000, 16, 16)
    y, x = np.mgrid[:16, :16]
    scene = 20 + 200 * np.exp(-((y - 7) ** 2 + (x - 8) ** 2) / 40)
    movie, truth = at.simulate_movie(shape, camera=SCMOS, scene=scene, flicker=0.05, rng=seed)
    found = calibrate(movie)
    assert found.method in ("ty", "tx", "tyx")
    assert abs(found.conversion_gain / truth.conversion_gain - 1) < 0.04


@pytest.mark.parametrize("frames", [2, 3, 5])
def test_few_frames_of_a_small_field_are_refused_with_a_reason(seed, frames):
    """Without frames enough the gain is not known, and the reason says so."""
    movie, _ = at.simulate_movie((frames, 12, 12), camera=SCMOS, rng=seed)
    found = calibrate(movie)
    assert found.verdict == "refused"
    assert codes(found) & {"imprecise_gain", "no_contrast", "no_shot_noise"}


def test_gaps_and_defective_pixels_are_left_out(seed):
    """NaN, dead and saturated pixels change neither gain nor zero level."""
    shape = (3000, 16, 16)
    scene = traces(shape, seed)
    camera = at.Camera(
        conversion_gain=2.2,
        zero_level=100,
        read_noise=3.5,
        dead_pixels=0.05,
        saturated_pixels=0.05,
        adc_bits=12,
        dtype="float32",
    )
    movie, truth = at.simulate_movie(shape, camera=camera, scene=scene, rng=seed)
    movie[:, :2] = np.nan
    movie[100:120] = np.nan
    found = calibrate(movie)
    assert abs(error_in_intervals(found, truth)) < 5
    assert np.ptp(found.conversion_gain_interval) < 0.1 * truth.conversion_gain
    assert "not_finite" in codes(found)


def test_smoothing_over_time_is_found(seed):
    """A running mean of two frames is refused."""
    shape = (4000, 1, 64)
    movie, _ = at.simulate_movie(shape, camera=SCMOS, scene=traces(shape, seed), rng=seed)
    smooth = ((movie[1:].astype(np.float32) + movie[:-1]) / 2).astype(np.uint16)
    found = calibrate(smooth)
    assert found.verdict == "refused"
    assert "correlated_in_time" in codes(found)


def test_small_movies_in_files_dask_and_with_a_mask(seed, tmp_path):
    """All sources of one small movie give one result; a mask leaves pixels out; a part may be read."""
    dask = pytest.importorskip("dask.array")
    shape = (3000, 12, 12)
    movie, _ = at.simulate_movie(shape, camera=SCMOS, scene=traces(shape, seed), rng=seed)
    np.save(tmp_path / "movie.npy", movie)
    found = calibrate(movie)
    assert calibrate(tmp_path / "movie.npy").conversion_gain == found.conversion_gain
    assert calibrate(dask.from_array(movie, chunks=(500, 12, 12))).conversion_gain == found.conversion_gain
    assert calibrate(np.moveaxis(movie, 0, 2), axis=2).conversion_gain == found.conversion_gain
    mask = np.ones((12, 12), bool)
    mask[:4] = False
    spoiled = movie.copy()
    spoiled[:, :4] = np.random.default_rng(seed).integers(0, 5000, (3000, 4, 12))
    low, high = calibrate(spoiled, mask=mask).conversion_gain_interval
    assert low - (high - low) < 2.2 < high + (high - low)
    part = calibrate(movie, max_frames=1200)
    assert np.ptp(part.conversion_gain_interval) > np.ptp(found.conversion_gain_interval)


def test_both_ways_of_calibrating_agree(seed):
    """A field that is just small and one that is just large give the same gain within their intervals."""
    assert is_small((100, 26, 26))
    assert not is_small((100, 40, 40))
    movie, truth = at.simulate_movie((2000, 40, 40), camera=SCMOS, mean_photons=10, rng=seed)
    for part in (movie, movie[:, :26, :26]):
        assert abs(error_in_intervals(calibrate(part), truth)) < 5


@pytest.mark.parametrize("shape", [(3000, 16, 16), (4000, 1, 64), (4000, 64, 1), (20_000, 1, 1)])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_small_movies_are_compressed_and_verified(seed, shape, zarr_format, tmp_path):
    """Line scans and single pixels go through calibration, compression and verification as movies do."""
    movie, _ = at.simulate_movie(shape, camera=SCMOS, scene=traces(shape, seed), rng=seed)
    sensitivity = calibrate(movie)
    result = at.compress(movie, tmp_path / "m.zarr", sensitivity=sensitivity, zarr_format=zarr_format)
    assert result.verification is not None
    assert result.verification.ok
    assert at.verify(tmp_path / "m.zarr", against=movie).ok


def test_smoothing_in_space_and_few_components_are_found(seed):
    """A blurred field, and a line scan rebuilt from twelve components, are refused with their reasons."""
    from scipy.ndimage import gaussian_filter

    movie, _ = at.simulate_movie((2000, 16, 16), camera=SCMOS, mean_photons=20, rng=seed)
    found = calibrate(np.rint(gaussian_filter(movie.astype(np.float32), (0, 0.8, 0.8))).astype(np.uint16))
    assert found.verdict == "refused"
    assert "correlated_in_space" in codes(found)

    shape = (2000, 1, 64)
    line, _ = at.simulate_movie(shape, camera=SCMOS, scene=traces(shape, seed), rng=seed)
    flat = line.reshape(2000, 64).astype(np.float64)
    mean = flat.mean(axis=0)
    _, _, components = np.linalg.svd(flat - mean, full_matrices=False)
    few = mean + (flat - mean) @ components[:12].T @ components[:12]
    found = calibrate(few.reshape(shape).astype(np.float32))
    assert found.verdict == "refused"
    assert "dependent_frames" in codes(found)


def test_fixed_offsets_of_a_still_field_stay_within_the_interval(seed):
    """In a field that does not change, offsets of 2 electrons are allowed for."""
    camera = at.Camera(conversion_gain=2.2, zero_level=100, read_noise=3.5, offset_spread=4.4, dtype="uint16")
    movie, truth = at.simulate_movie((2000, 16, 16), camera=camera, mean_photons=10, rng=seed)
    found = calibrate(movie)
    assert abs(error_in_intervals(found, truth)) < 5
    assert abs(found.conversion_gain / truth.conversion_gain - 1) < 0.15


@pytest.mark.parametrize("power", [0.5, 0.45])
def test_compressed_values_of_a_small_field_get_a_caution(seed, power):
    """A square root or gamma curve of 16 × 16 pixels looks linear; its bend and its skewness show it."""
    movie, _ = at.simulate_movie((3000, 16, 16), camera=SCMOS, mean_photons=20, rng=seed)
    stored = np.rint(500 * movie.astype(np.float64) ** power).astype(np.uint16)
    assert calibrate(stored).verdict != "trustworthy"
    assert "compressed_signal" not in codes(calibrate(movie))
