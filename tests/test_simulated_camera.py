"""Simulated cameras have the imperfections that they were asked to have, by the distributions of theory."""

from __future__ import annotations

import numpy as np
import pytest

from anscombe_transform import Camera, simulate_movie

# Standard errors that a statistic may be off. One of a thousand statistics is beyond 3.3 by chance, one of
# 600,000 beyond 5, and seeds are many.
SURE = 5.0


def simulate(camera, shape, seed, photons=0.0):
    """A movie of even light, in the camera's dtype, and its truth."""
    return simulate_movie(shape, camera=camera, scene=np.full(shape[1:], photons), rng=seed)


def assert_spread(values, expected, *, kurtosis=3.0):
    """The standard deviation of independent values is as expected, by its own standard error."""
    error = np.sqrt((kurtosis - 1) / (4 * values.size))
    assert abs(values.std(ddof=1) / expected - 1) < SURE * error


def test_keywords_replace_constants_of_the_camera(seed):
    """A constant that is given beside a camera replaces the camera's; the others stay."""
    camera = Camera(conversion_gain=2, zero_level=100, read_noise=3, dtype="float32")
    movie, truth = simulate_movie((3, 16, 16), camera=camera, zero_level=500, rng=seed)
    assert (truth.camera.conversion_gain, truth.camera.zero_level, truth.read_noise) == (2, 500, 3)
    assert movie.dtype == np.float32
    with pytest.raises(TypeError, match="camera must be a Camera"):
        simulate_movie((3, 16, 16), camera="sCMOS")


@pytest.mark.parametrize(
    ("option", "axes"), [("offset_spread", ()), ("row_offset_spread", (1,)), ("column_offset_spread", (0,))]
)
def test_fixed_offsets_have_their_spread_and_stay(seed, option, axes):
    """Offsets of pixels, rows and columns have the spread asked for and are the same in all frames."""
    movie, truth = simulate(Camera(dtype="float64", **{option: 7}), (2, 400, 400), seed)
    np.testing.assert_array_equal(movie[0], movie[1])
    np.testing.assert_array_equal(movie[0], truth.zero_levels)
    offsets = movie[0].mean(axis=axes) if axes else movie[0]
    assert_spread(offsets, 7)
    assert truth.zero_level == pytest.approx(movie[0].mean())
    if axes:
        np.testing.assert_allclose(np.ptp(movie[0], axis=axes), 0, atol=1e-4)


def test_a_smooth_offset_has_its_spread_and_no_steps(seed):
    """The offset that varies over the field has the spread asked for, and neighbours hardly differ."""
    _, truth = simulate(Camera(smooth_offset_spread=7), (1, 128, 128), seed)
    assert truth.zero_levels.std() == pytest.approx(7, rel=1e-3)
    # Two periods over 127 pixels, four waves of rms 7 at most in phase.
    steepest = 2 * np.pi * 2 / 127 * 7 * np.sqrt(2 * 4)
    assert np.abs(np.diff(truth.zero_levels, axis=1)).max() < steepest * 4


def test_gain_and_read_noise_differ_between_pixels(seed):
    """Gains are normally, read noises log-normally distributed, and each pixel has its own."""
    camera = Camera(
        conversion_gain=10, read_noise=20, gain_spread=0.1, read_noise_spread=0.4, dtype="float64"
    )
    movie, truth = simulate(camera, (200, 64, 64), seed, photons=25)
    assert_spread(truth.gains / 10, 0.1)
    assert_spread(np.log(truth.read_noises / 20), 0.4)
    expected = truth.gains**2 * 25 + truth.read_noises**2
    ratio = movie.var(axis=0, ddof=1) / expected
    # The variance of 200 nearly normal samples has the relative variance 2/199, and a little of Poisson's.
    assert_spread(ratio, np.sqrt(2 / 199 + 1 / 200 / 25), kurtosis=4)
    assert abs(ratio.mean() - 1) < SURE * np.sqrt(2.3 / 199 / ratio.size)
    assert truth.read_noise == pytest.approx(np.sqrt(np.mean(truth.read_noises.astype(float) ** 2)))


def test_the_truth_is_the_line_of_the_field(seed):
    """With every pixel different, the field's mean and variance are the line of `Truth` at any light."""
    camera = Camera(
        conversion_gain=10,
        read_noise=20,
        excess_noise=1.5,
        dark_current=2,
        offset_spread=30,
        gain_spread=0.2,
        read_noise_spread=0.3,
        tap_offsets=(0, 40),
        tap_gains=(0.9, 1.1),
        row_noise=8,
        column_noise=5,
        dtype="float64",
    )
    for photons in (0.0, 10.0):
        movie, truth = simulate(camera, (60, 128, 128), seed, photons=photons)
        mean = truth.zero_level + truth.signal_per_photon * photons
        variance = truth.conversion_gain * (mean - truth.variance_intercept)
        shared = 8**2 / (60 * 128) + 5**2 / (60 * 128)
        assert abs(movie.mean() - mean) < SURE * np.sqrt(variance / movie.size + shared)
        measured = movie.var(axis=0, ddof=1).mean()
        # Rows of one frame are not independent pixels: their part of the variance repeats 128 times.
        spread = np.hypot(np.sqrt(8 / movie.size) * variance, np.sqrt(2 / 60 / 128) * (8**2 + 5**2))
        assert abs(measured - variance) < SURE * spread


@pytest.mark.parametrize(("option", "axis"), [("row_noise", 2), ("column_noise", 1)])
def test_noise_of_rows_and_columns_is_shared_along_them_and_new_in_each_frame(seed, option, axis):
    """Pixels of a row, or a column, share an offset that is independent of other frames'."""
    movie, truth = simulate(Camera(dtype="float64", **{option: 6}), (60, 64, 64), seed)
    np.testing.assert_allclose(np.ptp(movie, axis=axis), 0, atol=1e-4)
    offsets = movie.mean(axis=axis) - 50
    assert_spread(offsets, 6)
    assert abs(np.mean(offsets[1:] * offsets[:-1])) < SURE * 36 / np.sqrt(offsets[1:].size)
    assert truth.read_noise == 6


def test_frames_share_an_offset_that_jumps_and_wanders(seed):
    """`frame_noise` is new in each frame, `zero_drift` a random walk, and the truth has both."""
    movie, truth = simulate(Camera(dtype="float64", frame_noise=5, zero_drift=300), (2000, 2, 2), seed)
    np.testing.assert_allclose(movie[:, 0, 0] - 50, truth.frame_offsets, atol=1e-3)
    steps = np.diff(truth.frame_offsets)
    assert_spread(steps, np.hypot(5 * np.sqrt(2), 300 / np.sqrt(1999)), kurtosis=4)
    assert truth.zero_level == pytest.approx(50 + truth.frame_offsets.mean())
    assert truth.read_noise == 0


def test_telegraph_pixels_jump_between_two_levels(seed):
    """Telegraph pixels have two levels, exponential distances, and dwell times of the mean asked for."""
    camera = Camera(dtype="float64", rts_pixels=0.2, rts_amplitude=30, rts_dwell=8)
    movie, truth = simulate(camera, (300, 64, 64), seed)
    telegraph = truth.rts_amplitudes > 0
    np.testing.assert_array_equal(telegraph, truth.defective)
    assert abs(telegraph.mean() - 0.2) < SURE * np.sqrt(0.2 * 0.8 / telegraph.size)
    amplitudes = truth.rts_amplitudes[telegraph]
    assert abs(amplitudes.mean() / 30 - 1) < SURE / np.sqrt(amplitudes.size)
    traces = movie[:, telegraph] - 50
    np.testing.assert_allclose(np.abs(traces), np.broadcast_to(amplitudes / 2, traces.shape), atol=1e-4)
    jumps = (np.diff(traces, axis=0) != 0).mean()
    assert abs(jumps - 1 / 8) < SURE * np.sqrt(1 / 8 * 7 / 8 / traces[1:].size)
    assert np.all(movie[:, ~telegraph] == 50)


def test_dark_current_is_light_without_light(seed):
    """Dark electrons add to mean and variance as photons do, and to the truth's zero level and read noise."""
    movie, truth = simulate(Camera(dtype="float64", conversion_gain=10, dark_current=3), (50, 64, 64), seed)
    assert (truth.zero_level, truth.read_noise) == (80, pytest.approx(np.sqrt(300)))
    assert abs(movie.mean() - 80) < SURE * np.sqrt(300 / movie.size)
    assert abs(movie.var() / 300 - 1) < SURE * np.sqrt((2 + 1 / 3) / movie.size)


def test_defective_pixels_are_as_many_and_as_stuck_as_asked_for(seed):
    """Dead pixels give the zero level, saturated ones the largest value; the truth leaves them out."""
    camera = Camera(
        dtype="uint16", adc_bits=12, dead_pixels=0.05, saturated_pixels=0.05, offset_spread=10, read_noise=5
    )
    movie, truth = simulate(camera, (20, 128, 128), seed, photons=3)
    stuck = np.ptp(movie, axis=0) == 0
    np.testing.assert_array_equal(stuck, truth.defective)
    saturated = (movie == 4095).all(axis=0)
    for found in (saturated, stuck & ~saturated):
        # Dead pixels that are saturated too count as saturated.
        assert abs(found.mean() - 0.05) < SURE * np.sqrt(0.05 / stuck.size) + 0.0025
    assert truth.zero_level == pytest.approx(truth.zero_levels[~stuck].mean(dtype=float))


def test_amplifiers_read_stripes(seed):
    """Each amplifier has its stripe, with its own offset and gain."""
    camera = Camera(conversion_gain=10, tap_offsets=(0, 30, 60), tap_gains=(1, 1.5, 2), dtype="float64")
    movie, truth = simulate(camera, (50, 64, 96), seed, photons=4)
    for tap in range(3):
        stripe = movie[:, :, 32 * tap : 32 * tap + 32]
        gain = 10 * (1 + tap / 2)
        assert abs(stripe.mean() - (50 + 30 * tap + 4 * gain)) < SURE * gain * 2 / np.sqrt(stripe.size)
        assert abs(stripe.var() / (4 * gain**2) - 1) < SURE * np.sqrt(2.25 / stripe.size)
    assert truth.signal_per_photon == pytest.approx(15)
    assert truth.conversion_gain == pytest.approx(np.mean(np.square([10, 15, 20])) / 15)


def test_a_range_clips_at_both_ends(seed):
    """A converter of 12 bits clips dark noise at 0 and bright pixels at 4095, and the truth counts them."""
    camera = Camera(conversion_gain=350, zero_level=100, read_noise=105, adc_bits=12, dtype="uint16")
    movie, truth = simulate_movie((20, 64, 64), camera=camera, mean_photons=6, rng=seed)
    assert (movie.min(), movie.max()) == (0, 4095)
    assert 0 < truth.clipped_low < np.count_nonzero(movie == 0)
    assert 0 < truth.clipped_high <= np.count_nonzero(movie == 4095)


def test_a_scene_may_change_from_frame_to_frame(seed):
    """An array with a time axis holds the photons of every frame."""
    scene = np.zeros((30, 64, 64))
    scene[10:20] = 100
    movie, truth = simulate_movie((30, 64, 64), scene=scene, conversion_gain=1, zero_level=10, rng=seed)
    assert np.all(movie[np.r_[0:10, 20:30]] == 10)
    assert abs(movie[10:20].mean() - 110) < SURE * np.sqrt(100 / movie[10:20].size)
    np.testing.assert_allclose(truth.photons, 100 / 3, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"offset_spread": -1}, "offset_spread must be a finite number in"),
        ({"gain_spread": 0.5}, "gain_spread"),
        ({"rts_pixels": 1.5}, "rts_pixels"),
        ({"rts_dwell": 0.5}, "rts_dwell"),
        ({"dark_current": np.inf}, "dark_current"),
        ({"tap_gains": (1, 0)}, "tap_gains"),
        ({"tap_gains": (1, 2), "tap_offsets": (1, 2, 3)}, "one element for each amplifier"),
        ({"tap_gains": ()}, "one element for each amplifier"),
        ({"saturated_pixels": 0.1, "dtype": "float32"}, "adc_bits"),
    ],
)
def test_a_constant_out_of_range_is_named(options, message):
    """Errors name the constant, its rule and the value."""
    with pytest.raises(ValueError, match=message):
        Camera(**options)
