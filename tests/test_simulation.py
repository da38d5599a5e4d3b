"""Simulated movies obey the law they were asked to obey."""

from __future__ import annotations

import numpy as np
import pytest

from anscombe_transform.simulation import expected_photons, simulate_frames, simulate_movie, structured_scene


def test_the_same_seed_gives_the_same_movie(seed):
    """A movie is a function of its seed, and `simulate_frames` yields its frames."""
    options = {"activity": 0.3, "jitter": 0.5, "excess_noise": 1.5, "hot_pixels": 0.01, "rng": seed}
    movie, _ = simulate_movie((5, 40, 48), **options)
    again, _ = simulate_movie((5, 40, 48), **options)
    np.testing.assert_array_equal(movie, again)
    np.testing.assert_array_equal(movie, np.stack(list(simulate_frames((5, 40, 48), **options))))


def test_a_movie_scatters_around_its_expected_photons(seed):
    """What is left of a movie after its expected photons is Poisson noise: mean 0, variance the mean."""
    options = {"activity": 0.5, "jitter": 0.7, "bleaching": 0.3, "flicker": 0.05, "rng": seed}
    shape = (10, 64, 64)
    movie, _ = simulate_movie(shape, conversion_gain=100, zero_level=0, dtype="float64", **options)
    rates = np.stack(list(expected_photons(shape, conversion_gain=100, zero_level=0, **options)))
    lit = rates > 0.1
    movie, rates = movie[lit], rates[lit]
    z = (movie / 100 - rates) / np.sqrt(rates)
    assert abs(z.mean()) < 5 / np.sqrt(z.size)
    # The fourth moment of a Poisson count in units of its deviation is 3 + 1/λ.
    assert abs(z.var() - 1) < 5 * np.sqrt((2 + (1 / rates).mean()) / z.size)
    with pytest.raises(TypeError, match="seed"):
        next(expected_photons(shape, rng=np.random.default_rng(0)))


@pytest.mark.parametrize("excess_noise", [1.0, 1.4, 2.0])
def test_variance_is_the_truth_s_line_of_the_mean(seed, excess_noise):
    """Mean and variance of a uniform scene are zero + gain · photons and gain · (mean − intercept)."""
    movie, truth = simulate_movie(
        (40, 64, 64),
        scene="uniform",
        conversion_gain=30,
        zero_level=100,
        read_noise=25,
        mean_photons=5,
        excess_noise=excess_noise,
        dtype="float64",
        rng=seed,
    )
    mean = 100 + 30 * 5
    variance = truth.conversion_gain * (mean - truth.variance_intercept)
    standard_error = np.sqrt(variance / movie.size)
    assert truth.conversion_gain == pytest.approx(excess_noise * 30)
    assert abs(movie.mean() - mean) < 5 * standard_error
    # The variance of a variance is (2 + excess kurtosis) v²/N; the kurtosis of these laws is below 4.
    assert abs(movie.var() / variance - 1) < 5 * np.sqrt(6 / movie.size)


@pytest.mark.parametrize(
    ("options", "lowest", "highest"),
    [
        ({"dtype": "uint8"}, 0, 255),
        ({"dtype": "int16", "conversion_gain": 5000}, -32768, 32767),
        ({"dtype": "uint16", "adc_bits": 10}, 0, 1023),
        ({"dtype": "float32", "adc_bits": 9}, 0, 511),
        ({"dtype": "int32", "conversion_gain": 3e8}, -(2**31), 2**31 - 1),
    ],
)
def test_a_converter_saturates_and_never_wraps(seed, options, lowest, highest):
    """Values beyond the converter's range stay at its end, and the truth counts them."""
    movie, truth = simulate_movie(
        (6, 32, 32), zero_level=0, read_noise=20, mean_photons=20, rng=seed, **options
    )
    assert (truth.lowest, truth.highest) == (lowest, highest)
    assert movie.min() >= lowest
    assert movie.max() == highest
    assert 0 < truth.clipped_high <= np.count_nonzero(movie == highest)
    assert truth.clipped_low <= np.count_nonzero(movie == lowest)
    bright = truth.photons > 0.9 * truth.photons.max()
    assert np.median(movie[:, bright]) > 0


def test_a_given_scene_is_what_is_seen(seed):
    """An array of photons is the mean image, whatever its pattern."""
    scene = np.zeros((32, 32))
    scene[:, 16:] = 50
    movie, truth = simulate_movie((50, 32, 32), scene=scene, conversion_gain=1, zero_level=10, rng=seed)
    np.testing.assert_array_equal(truth.photons, scene)
    assert np.all(movie[:, :, :16] == 10)
    assert abs(movie[:, :, 16:].mean() - 60) < 5 * np.sqrt(50 / (50 * 32 * 16))


def test_bleaching_dims_the_last_frame_by_the_fraction_asked_for(seed):
    """The brightness falls exponentially to 1 − bleaching."""
    _, truth = simulate_movie((20, 16, 16), bleaching=0.4, rng=seed)
    assert truth.brightness[0] == 1
    assert truth.brightness[-1] == pytest.approx(0.6)
    np.testing.assert_allclose(np.diff(np.log(truth.brightness)), np.log(0.6) / 19)


def test_drift_moves_the_scene(seed):
    """Without photons' noise to speak of, the last frame is the first, shifted."""
    movie, truth = simulate_movie(
        (2, 64, 64), drift=3, mean_photons=1e5, conversion_gain=1e-3, zero_level=0, dtype="float32", rng=seed
    )
    np.testing.assert_allclose(truth.shifts[-1], 3)
    error = np.abs(movie[1, 8:-8, 8:-8] - movie[0, 5:-11, 5:-11]).mean()
    unmoved = np.abs(movie[1, 8:-8, 8:-8] - movie[0, 8:-8, 8:-8]).mean()
    assert error < 0.5 * unmoved


def test_active_pixels_are_the_ones_that_change(seed):
    """The variance over time of pixels with transients exceeds that of photons; elsewhere it does not."""
    movie, truth = simulate_movie((200, 64, 64), activity=0.5, dtype="float64", rng=seed)
    expected = truth.conversion_gain * (movie.mean(axis=0) - truth.zero_level)
    ratio = movie.var(axis=0, ddof=1) / expected
    assert truth.active.any()
    assert ratio[truth.active].mean() > 1.5
    assert abs(ratio[~truth.active].mean() - 1) < 0.05


def test_a_scene_has_mean_one_and_contrast(seed):
    """The drawn scene is positive, of mean 1, and spans at least a factor of five."""
    image, labels = structured_scene((96, 96), np.random.default_rng(seed))
    assert image.min() > 0
    assert image.mean(dtype=np.float64) == pytest.approx(1, rel=1e-5)
    assert image.max() / image.min() > 5
    assert labels.max() >= 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"conversion_gain": 0}, "conversion_gain must be a finite number in"),
        ({"zero_level": np.nan}, "zero_level"),
        ({"read_noise": -1}, "read_noise"),
        ({"excess_noise": 0.5}, "excess_noise"),
        ({"activity": 1.5}, "activity"),
        ({"bleaching": 1}, "bleaching"),
        ({"dtype": "int64"}, "dtype"),
        ({"dtype": "complex64"}, "dtype"),
        ({"dtype": "uint8", "adc_bits": 12}, "adc_bits=12"),
        ({"scene": "dark"}, "scene"),
        ({"scene": np.ones((3, 3))}, "shape of a frame"),
        ({"scene": -np.ones((32, 32))}, "finite mean photons"),
    ],
)
def test_a_parameter_out_of_range_is_named(options, message):
    """Errors name the parameter, its rule and the value."""
    with pytest.raises(ValueError, match=message):
        simulate_movie((2, 32, 32), rng=0, **options)


def test_unknown_options_of_frames_are_refused():
    """`simulate_frames` takes what `simulate_movie` takes, and nothing else."""
    with pytest.raises(TypeError, match="brightness"):
        next(simulate_frames((2, 32, 32), brightness=3))
