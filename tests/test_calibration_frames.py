"""What was done to single frames is noticed, and detectors that look alike are left in peace."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import fft, ndimage

from anscombe_transform.calibration import compute_sensitivity
from anscombe_transform.calibration.line.censored import cut_off_curves
from anscombe_transform.calibration.line.filters import choose_filter
from anscombe_transform.calibration.line.transfer import Line, Samples, fit_line, jackknife_error
from anscombe_transform.calibration.line.zero import find_zero_level
from anscombe_transform.calibration.result.constants import GROUPS
from anscombe_transform.calibration.sums.frames import common_step, is_block_compressed
from anscombe_transform.simulation import simulate_movie

SHAPE = (48, 96, 96)


def codes(movie):
    """Codes of all reasons of a movie's calibration."""
    return {reason.code for reason in compute_sensitivity(movie, on_refusal="return").reasons}


def compressed(frame, step):
    """Round the cosine coefficients of blocks of 8 × 8 pixels to multiples of a step, as JPEG does."""
    height, width = frame.shape
    blocks = frame.reshape(height // 8, 8, width // 8, 8).transpose(0, 2, 1, 3).astype(float)
    rounded = step * np.rint(fft.dctn(blocks, axes=(2, 3), norm="ortho") / step)
    blocks = fft.idctn(rounded, axes=(2, 3), norm="ortho")
    return np.clip(np.rint(blocks.transpose(0, 2, 1, 3).reshape(height, width)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("step", [3, 9])
@pytest.mark.parametrize("corner", [(0, 0), (3, 5)])
def test_block_compression_is_seen_wherever_its_grid_lies(seed, step, corner):
    """A frame whose block coefficients were rounded is told from the same frame as it was."""
    movie, _ = simulate_movie((1, 160, 160), conversion_gain=4, mean_photons=20, rng=seed, dtype="uint8")
    frame, (y, x) = movie[0], corner
    assert is_block_compressed(compressed(frame, step)[y:, x:])
    assert not is_block_compressed(frame[y:, x:])


def test_compressed_frames_are_told_after_whole_pixel_registration(seed):
    """Frames that were compressed and then moved by whole pixels have their grid elsewhere each."""
    movie, _ = simulate_movie((16, 160, 160), conversion_gain=4, mean_photons=20, rng=seed, dtype="uint8")
    moves = np.random.default_rng(seed).integers(-4, 5, (16, 2))
    moved = [
        np.roll(compressed(frame, 6), move, (0, 1)) for frame, move in zip(movie, moves.tolist(), strict=True)
    ]
    assert "block_compressed" in codes(np.stack(moved))


def test_photon_counts_are_not_taken_for_compressed(seed):
    """Frames of a few levels have block coefficients of a few values, and are no JPEG."""
    movie, _ = simulate_movie(
        (1, 160, 160), conversion_gain=1, zero_level=0, mean_photons=0.5, rng=seed, dtype="uint8"
    )
    assert not is_block_compressed(movie[0])


@pytest.mark.parametrize(
    ("differences", "step"),
    [([4, 8, 12], 4), ([6, 4], 2), ([0.25, 0.5, 1.0], 0.25), ([1.0, np.sqrt(2)], 0), ([], 0)],
)
def test_common_step(differences, step):
    """The largest number that all differences are multiples of; none for values of any size."""
    assert common_step(np.array(differences, float)) == step


@pytest.mark.parametrize("power", [0.5, 0.8, 1.0])
def test_whole_numbers_that_went_through_a_curve_are_told(seed, power):
    """A curve over a converter's values bends their lattice; a linear stretch leaves it even."""
    movie, _ = simulate_movie(
        (600, 16, 16), conversion_gain=2.2, zero_level=100, read_noise=3.5, dtype="uint16", rng=seed
    )
    stretched = np.rint(30_000 * (movie / movie.max()) ** power).astype(np.uint16)
    found = compute_sensitivity(stretched, on_refusal="return")
    assert ("compressed_signal" in {reason.code for reason in found.reasons}) == (power < 1)


def test_coarse_steps_are_told_and_counts_are_not(seed):
    """Noise of a third of a step gets a caution; photon counts are whole by themselves."""
    coarse = {
        "conversion_gain": 0.05,
        "zero_level": 5,
        "read_noise": 0.3,
        "mean_photons": 60,
        "dtype": "uint8",
    }
    movie, _ = simulate_movie(SHAPE, rng=seed, **coarse)
    assert "coarse_steps" in codes(movie)
    counts, _ = simulate_movie(
        SHAPE, conversion_gain=1, zero_level=0, mean_photons=0.5, rng=seed, dtype="uint8"
    )
    assert "coarse_steps" not in codes(counts)
    assert "coarse_steps" not in codes(counts * np.uint16(100))


def test_frames_of_one_mean_are_told(seed):
    """Frames normalised to the mean of the movie get a caution, the movie itself does not."""
    movie, _ = simulate_movie(SHAPE, flicker=0.03, rng=seed, dtype="float32")
    levels = movie.mean(axis=(1, 2), keepdims=True)
    assert "levelled_frames" in codes(movie * (levels.mean() / levels))
    assert "levelled_frames" not in codes(movie)


def test_a_steady_lamp_on_a_texture_is_not_told_as_levelled(rng):
    """Frames of a bright, steady, textured scene have means that differ as photons do, and no less."""
    texture = 2e5 * (1 + 0.8 * rng.random((96, 96)))
    movie = rng.poisson(np.broadcast_to(texture, (40, 96, 96))).astype(np.float32)
    assert "levelled_frames" not in codes(movie)
    assert "levelled_frames" in codes(movie / movie.mean(axis=(1, 2), keepdims=True))


@pytest.mark.parametrize("level", [np.mean, np.median])
@pytest.mark.parametrize("axis", [1, 2])
def test_lines_of_one_level_are_told(seed, level, axis):
    """A movie of which each row, or each column, lost its own level is told from the movie as it was."""
    movie, _ = simulate_movie(SHAPE, conversion_gain=40, mean_photons=10, rng=seed)
    levelled = np.rint(movie - level(movie, axis=axis, keepdims=True)).astype(np.int16)
    assert "levelled_lines" in codes(levelled)
    assert "levelled_lines" not in codes(movie)


def test_frames_stretched_between_quantiles_are_told(seed):
    """Frames stretched to 8 bits, each between two of its own quantiles, are not trusted."""
    movie, _ = simulate_movie(SHAPE, rng=seed)
    low, high = np.quantile(movie, [0.01, 0.99], axis=(1, 2), keepdims=True)
    stretched = np.clip(255 * (movie - low) / (high - low), 0, 255).astype(np.uint8)
    assert "autoscaled" in codes(stretched)


def test_photons_that_are_cut_off_at_the_top_are_told(seed):
    """A movie of whole photons that ends at 16 of them says so, and gives the gain within 4 %."""
    movie, truth = simulate_movie((96, 128, 128), conversion_gain=90, zero_level=0, mean_photons=4, rng=seed)
    assert "clipped_high" not in codes(movie)
    found = compute_sensitivity(np.minimum(movie, 1500), on_refusal="return")
    assert "clipped_high" in {reason.code for reason in found.reasons}
    assert abs(found.conversion_gain / truth.conversion_gain - 1) < 0.04


def test_sharpened_frames_are_told(seed):
    """An unsharp mask and a median make neighbours' noise opposed, which no detector does."""
    movie, _ = simulate_movie(SHAPE, mean_photons=20, rng=seed, dtype="float32")
    sharp = movie + 1.5 * (movie - ndimage.gaussian_filter(movie, (0, 1, 1)))
    cross = np.array([[[0, 1, 0], [1, 1, 1], [0, 1, 0]]])
    assert "sharpened" in codes(sharp)
    assert {"sharpened", "correlated_in_space"} & codes(ndimage.median_filter(movie, footprint=cross))
    assert "sharpened" not in codes(movie)


def test_a_little_smoothing_in_time_is_told(seed):
    """A tenth of each neighbouring frame is not noise of the detector."""
    movie, _ = simulate_movie((96, 128, 128), mean_photons=10, rng=seed, dtype="float32")
    assert "correlated_in_time" in codes(ndimage.convolve1d(movie, [0.1, 0.8, 0.1], axis=0))
    assert "correlated_in_time" not in codes(movie)


def test_gain_that_varies_over_the_field_is_told_and_averaged(seed):
    """A gain that doubles across the field gets a caution, a smaller rise a note; the mean is within 4 %."""
    counts, _ = simulate_movie(
        (96, 128, 128), conversion_gain=1, zero_level=0, mean_photons=8, rng=seed, dtype="float32"
    )
    for rise, severity in ((1 / 3, "caution"), (0.15, "note")):
        gain = 20 * np.linspace(1 - rise, 1 + rise, 128, dtype=np.float32)
        found = compute_sensitivity(counts * gain + 50, on_refusal="return")
        assert ("uneven_gain", severity) in {(r.code, r.severity) for r in found.reasons}
        assert found.conversion_gain == pytest.approx(20, rel=0.04)


def test_counts_of_hardly_any_photon_are_calibrated(seed):
    """A field in which most classes of pixels hold no photon has a gain of 1 within 6 %."""
    dark = np.full((128, 128), 0.0005)
    dark[30:90, 30:90] = 0.3 * np.linspace(0.1, 1, 60)
    counts = np.random.default_rng(seed).poisson(dark, (96, 128, 128)).astype(np.uint8)
    found = compute_sensitivity(counts)
    assert found.conversion_gain == pytest.approx(1, rel=0.06)
    assert abs(found.zero_level) < 0.005


def test_a_cut_through_the_dark_noise_of_a_camera_is_seen(seed):
    """A camera whose zero level is at half its read noise, cut at 0, is told; the interval holds the gain."""
    camera = {"conversion_gain": 2.2, "zero_level": 2, "read_noise": 3.5, "dtype": "uint16"}
    movie, truth = simulate_movie((96, 128, 128), mean_photons=6, rng=seed, **camera)
    found = compute_sensitivity(movie, on_refusal="return")
    assert codes(movie) & {"clipped_low", "clipped_low_everywhere"}
    low, high = found.conversion_gain_interval
    assert low - 0.1 < truth.conversion_gain < high + 0.1


def test_a_wandering_offset_does_not_move_the_zero_level(seed):
    """Offsets of frames, a photon each, leave the zero level within 0.3 photons, and in its interval."""
    rng = np.random.default_rng(seed)
    movie, truth = simulate_movie((96, 128, 128), rng=rng, dtype="float32")
    offsets = rng.normal(0, truth.conversion_gain, (96, 1, 1)).astype(np.float32)
    found = compute_sensitivity(movie + offsets - offsets.mean())
    assert abs(found.zero_level - truth.zero_level) < 0.3 * truth.conversion_gain
    low, high = found.zero_level_interval
    assert low - (high - low) / 4 < truth.zero_level < high + (high - low) / 4


def test_zero_level_of_a_moving_camera(seed):
    """Where a camera jitters, the zero level lies in its interval, to a photon."""
    camera = {"conversion_gain": 2.2, "zero_level": 100, "read_noise": 3.5, "dtype": "uint16"}
    movie, _ = simulate_movie((96, 160, 160), jitter=1.5, mean_photons=30, rng=seed, **camera)
    found = compute_sensitivity(movie, on_refusal="return")
    low, high = found.zero_level_interval
    assert low - 2.2 < 100 < high + 2.2


@pytest.mark.parametrize("excess", [1.0, 1.25])
def test_the_law_of_a_cut_detector(rng, excess):
    """Mean, variance and share at the floor, of photons and read noise cut off there, are as the law says."""
    gain, zero, read, floor, n = 20.0, 3.0, 18.0, -2.0, 400_000
    photons, curves = cut_off_curves(excess, floor, step=0.0)(gain, zero, read)
    for k in np.searchsorted(photons, [0.0, 0.5, 3.0, 40.0]):
        counts = rng.poisson(photons[k], n)
        one = gain / excess
        pulses = one * counts + one * np.sqrt(counts * (excess - 1)) * rng.normal(size=n)
        values = np.maximum(zero + pulses + read * rng.normal(size=n), floor)
        mean, variance, share = (curve[k] for curve in curves)
        fourth = np.mean((values - values.mean()) ** 4)
        assert abs(values.mean() - mean) < 5 * np.sqrt(variance / n)
        assert abs(values.var() - variance) < 5 * np.sqrt((fourth - variance**2) / n)
        assert abs(np.mean(values == floor) - share) < 5 * np.sqrt((share + 1 / n) / n)


@pytest.mark.parametrize("zero", [5, -10])
def test_zero_level_of_a_movie_cut_off_at_zero(seed, zero):
    """Where a third of the dark values was cut off, the zero level is found to half a photon."""
    camera = {"conversion_gain": 20, "zero_level": zero, "read_noise": 20, "dtype": "int16"}
    movie, truth = simulate_movie((100, 160, 160), rng=seed, **camera)
    found = compute_sensitivity(np.maximum(movie, 0))
    assert found.zero_level_method == "share cut off"
    assert abs(found.zero_level - truth.zero_level) < 0.5 * truth.conversion_gain
    assert abs(found.conversion_gain / truth.conversion_gain - 1) < 0.04


def line_of(gain, noise):
    """A line of which only the gain and its jackknife matter."""
    some = np.ones(2)
    return Line(gain, 0.0, some > 0, 1.0, some, some, some, gain + noise, np.zeros(GROUPS))


@pytest.mark.parametrize(
    ("lower", "expected"),
    [
        ({"ty": 2.5, "tx": 2.5, "txy": 2.5}, "t"),
        ({"ty": 9.0, "tx": 9.0, "txy": 0.0}, "t"),
        ({"ty": 3.0, "tx": 3.0, "txy": 3.0}, "ty"),
        ({"ty": 0.0, "tx": 6.0, "txy": 6.0}, "tx"),
        ({"ty": 6.0, "tx": 6.0, "txy": 12.0}, "txy"),
        ({"ty": -6.0, "tx": -6.0, "txy": -6.0}, "t"),
    ],
)
def test_a_filter_is_given_up_where_a_stronger_one_finds_less(lower, expected):
    """A gain 2.71 jackknife errors lower shows structure, unless the strongest filter finds none."""
    noise = np.sin(2 * np.pi * np.arange(GROUPS) / GROUPS)
    error = jackknife_error(noise)
    lines = {"t": line_of(1000.0, 0 * noise)}
    for number, (name, errors) in enumerate(lower.items(), start=1):
        own = np.sin(2 * np.pi * number * np.arange(GROUPS) / GROUPS)
        lines[name] = line_of(1000.0 - errors * error, own)
    assert choose_filter(lines) == expected


def test_a_filter_whose_rows_are_mostly_structure_is_given_up():
    """The weakest filter counts only where half of its rows are noise."""
    noise = np.sin(2 * np.pi * np.arange(GROUPS) / GROUPS)
    weak, strong = line_of(1000.0, noise), line_of(1000.0, noise)
    for share, expected in ((0.51, "t"), (0.49, "ty")):
        assert choose_filter({"t": replace(weak, used_fraction=share), "ty": strong}) == expected


def test_zero_level_where_it_is_open_whether_pulses_vary(rng):
    """Where ρ₃ exceeds 1 by three errors, the interval holds the zero levels that ρ₃ = 1 and this ρ₃ give."""
    rows, gain, zero, excess = 6000, 10.0, 50.0, 1.1
    x = np.sort(rng.uniform(60, 150, rows))
    n, label = np.full(rows, 4000.0), np.arange(rows)
    samples = Samples(
        x, gain * (x + 110), x, n, label, label, np.zeros(rows, int), 1.944, np.zeros(rows, int)
    )
    line = fit_line(samples, np.ones(rows, bool))
    spread = np.sqrt(15 * samples.y**3)
    # Noise that neither slope nor mean of the third cumulants sees.
    noise, weight = rng.normal(size=rows) * spread, 1 / spread
    noise -= np.polyval(np.polyfit(x, noise, 1, w=weight), x)

    def found(amplitude):
        third = gain**2 * excess * (x - zero) + amplitude * noise
        return find_zero_level(samples, line, (x, third), "t", correlated=False, systematic=0.0)

    once = found(1e-3).excess
    low, high = found(1e-3 * (excess - 1) / once[1] / 3).interval
    pure = np.average(x - excess * (x - zero), weights=weight**2)
    assert low < pure
    assert zero - 0.1 < high
