"""Noise that pixels or frames share is told from noise that is new in each."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage, special

from anscombe_transform.calibration import compute_sensitivity
from anscombe_transform.calibration.sums.shared import SharedNoise, chi_square_tail
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
    for noise in (shared.smoothing(), shared.lingering()):
        assert not (noise.proven and noise.above(0.01, 5))
    assert not shared.sharpening().proven
    assert shared.dimensions > 1
    found = compute_sensitivity(movie, on_refusal="return")
    assert shared.unsteadiness(found.conversion_gain, found.variance_intercept)[1] > 1e-6


@pytest.mark.parametrize("scene", [{}, {"mean_photons": 0.2}], ids=["bright", "dark"])
def test_what_sharing_takes_from_the_variance_is_told(seed, scene):
    """Noise of a blur of a third of a pixel, and of a blend of frames, is less by as much as is told."""
    movie, _ = simulate_movie(SHAPE, rng=seed, dtype="float32", **scene)
    kernel = ndimage.gaussian_filter(np.eye(1, 33, 16).ravel(), 0.33)
    blurred = shared_noise(ndimage.gaussian_filter(movie, (0, 0.33, 0.33))).smoothing()
    blended = shared_noise(0.95 * movie[1:] + 0.05 * movie[:-1]).lingering()
    for noise, left in ((blurred, np.square(kernel).sum() ** 2), (blended, 0.95**2 + 0.05**2)):
        assert noise.proven
        assert noise.above(0.04, 5)
        assert abs(noise.value - (1 / left - 1)) < 4 * noise.error + 0.002


@pytest.mark.parametrize(
    ("name", "process", "code"),
    [
        ("blended", lambda movie: blended(movie, 0.3, 1.5), "correlated_in_space"),
        ("sharpened", lambda movie: blended(movie, -0.2, 1.0), "sharpened"),
        ("components", lambda movie: of_few_components(movie, 48), "dependent_frames"),
        ("blurred", lambda movie: ndimage.gaussian_filter(movie, (0, 0.35, 0.35)), "correlated_in_space"),
        ("frames blended", lambda movie: 0.9 * movie + 0.1 * np.roll(movie, 1, axis=0), "correlated_in_time"),
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


def test_fine_structure_that_moves_is_not_taken_for_shared_noise(seed):
    """A field of fine structure that jitters by a pixel looks smooth everywhere, and is no caution."""
    rng = np.random.default_rng(seed)
    image = np.exp(ndimage.gaussian_filter(rng.normal(size=(150, 150)), 1.2, mode="wrap") * 2)
    shifts = rng.normal(0, 1.0, (72, 2))
    light = np.stack([ndimage.shift(image, shift, order=1, mode="wrap")[:144, :144] for shift in shifts])
    movie = rng.poisson(10 * light) * 20
    codes = {
        reason.code for reason in compute_sensitivity(movie.astype(np.int32), on_refusal="return").reasons
    }
    assert not {"correlated_in_space", "sharpened", "correlated_along_x", "correlated_along_y"} & codes


def test_scan_lines_that_were_shifted_by_a_part_of_a_pixel_are_told(seed):
    """Every second line interpolated, as to align a bidirectional scan, shares noise along the line."""
    movie, _ = simulate_movie(SHAPE, conversion_gain=50, read_noise=10, rng=seed, dtype="float32")
    movie[:, 1::2] = 0.85 * movie[:, 1::2] + 0.15 * np.roll(movie[:, 1::2], 1, axis=2)
    codes = {reason.code for reason in compute_sensitivity(movie, on_refusal="return").reasons}
    assert "correlated_along_x" in codes


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


def images_of(patch):
    """What is made of the frames of a patch, less its scene, at its inner pixels (image, time, pixel)."""

    def second(image, axis):
        return 2 * image - np.roll(image, 1, axis) - np.roll(image, -1, axis)

    def less_far(*steps):
        moved = [
            np.roll(patch, (s * d * y, s * d * x), (1, 2)) for d in (1, 3) for y, x in steps for s in (1, -1)
        ]
        return np.mean(moved[: len(moved) // 2], axis=0) - np.mean(moved[len(moved) // 2 :], axis=0)

    patch = patch - patch.mean(axis=0)
    neighbours = less_far((0, 1)), less_far((1, 0)), less_far((1, 1), (1, -1))
    images = second(second(patch, 1), 2), *neighbours, patch
    return np.stack([image[:, 3:29, 3:29].reshape(len(patch), -1) for image in images])


def in_time(residuals):
    """Squares, and products with the next frame less those with the third (half, 2)."""
    residuals = residuals - residuals.mean(axis=0)
    products = residuals @ residuals.T / residuals.shape[1]
    found = np.zeros((2, 2))
    for half, some in enumerate(np.array_split(np.arange(len(residuals) - 3), 2)):
        for k in some:
            near = (products[k, k + 1] + products[k + 2, k + 3]) / 2
            found[half] += (products[k, k] + products[k + 3, k + 3]) / 2, near - products[k, k + 3]
    return found


def least_eigenvalue_over_edge(residuals):
    """The least eigenvalue of the covariance, scene left out, over that of as many white pixels."""
    moving = residuals - residuals.mean(axis=0)
    eigenvalues = np.linalg.eigvalsh(moving @ moving.T)[1:]
    energy = np.square(moving).sum(axis=0)
    pixels = energy.sum() ** 2 / np.square(energy).sum() / 1.944**2
    return eigenvalues[0] / eigenvalues.mean() / (1 - np.sqrt((len(residuals) - 1) / pixels)) ** 2


@pytest.mark.parametrize("dtype", ["uint16", "float32", ">i4"])
@pytest.mark.parametrize("length", [24, 31])
def test_sums_of_patches_are_what_they_are_defined_as(rng, dtype, length):
    """What is told from products of frames equals its definition by differences and eigenvalues."""
    photons = rng.gamma(2.0, 5.0, (32, 96)) * (1 + 0.1 * np.sin(np.arange(length) / 3))[:, None, None]
    movie = (100 + 7 * rng.poisson(photons)).astype(dtype)
    shared = SharedNoise((32, 96))
    shared.add(movie)
    patches = [movie[:, :, x : x + 32].astype(np.float64) for x in (0, 32, 64)]
    images = [images_of(patch) for patch in patches]
    for patch, own in enumerate(images):
        residuals = own[0, :24] / own[0, :24].std(axis=1, keepdims=True)
        # A product may be near 0, while float32 rounds squares.
        np.testing.assert_allclose(shared._in_time[:, patch], in_time(residuals), rtol=1e-4, atol=1e-4)
        one, two, three = (own[0, k : length // 3 * 3 : 3] for k in range(3))
        variance = np.square(two - (one + three) / 2).mean(axis=1) / 54
        np.testing.assert_allclose(shared._moments[0][:, patch, 1], variance, rtol=1e-5)
        mean = patches[patch][:, 3:29, 3:29].mean(axis=(1, 2))
        expected = [(mean[k] + 4 * mean[k + 1] + mean[k + 2]) / 6 for k in range(0, length // 3 * 3, 3)]
        np.testing.assert_allclose(shared._moments[0][:, patch, 0], expected, rtol=1e-6)
    ratios = [
        least_eigenvalue_over_edge(own[0, :24] / own[0, :24].std(axis=1, keepdims=True)) for own in images
    ]
    assert shared.dimensions == pytest.approx(np.quantile(ratios, 0.9), rel=1e-4)

    # Courses of time in common are those of the other patches: of the odd one, and of both even ones.
    blocks = [patch.reshape(length, 8, 4, 8, 4).mean(axis=(2, 4)).reshape(length, -1) for patch in patches]
    means = [(b - b.mean(axis=0)) @ (b - b.mean(axis=0)).T for b in blocks]
    for own, others in (([1], [0, 2]), ([0, 2], [1])):
        common = sum(means[k] / np.trace(means[k]) for k in others)
        # The first has no part: it is the scene.
        left = np.linalg.eigh(common)[1][:, 1 : length - min(6, (length - 1) // 3)]
        for patch in own:
            for half in range(2):
                seen = np.einsum("ti,ktp->kip", left[:, half::2], images[patch][1:])
                expected = [np.sum(seen[3] * seen[k]) / 26**2 for k in (3, 0, 1, 2)]
                scale = 1e-4 * expected[0]
                np.testing.assert_allclose(shared._products[0, half, patch], expected, rtol=1e-4, atol=scale)


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


def test_a_high_zero_level_changes_nothing(rng):
    """Products are those of the noise, however far from zero the signal lies."""
    movie = rng.normal(200, 8, (30, 64, 96)).astype(np.uint16)
    low, high = SharedNoise(movie.shape[1:]), SharedNoise(movie.shape[1:])
    low.add(movie)
    high.add(movie + np.uint16(60_000))
    assert np.array_equal(low._products, high._products)
    assert np.allclose(low._moments[0] + [60_000, 0], high._moments[0], rtol=1e-12, atol=0)


def test_the_probability_of_chance_is_that_of_chi_square():
    """The finite sum is the regularised gamma function, from one degree of freedom to thousands."""
    for freedom in (1, 2, 3, 10, 39, 40, 1001, 6000):
        for square in (0.0, 0.1, freedom / 3, freedom, 1.5 * freedom + 20):
            expected = special.gammaincc(freedom / 2, square / 2)
            assert chi_square_tail(square, freedom) == pytest.approx(expected, rel=1e-9)
    assert chi_square_tail(1e6, 3) == 0


@pytest.mark.parametrize("process", [None, "blurred"])
def test_two_frames_are_neither_sharpened_nor_blurred_by_chance(seed, process):
    """Two frames have one difference: patches tell the scatter by chance, and a blur is still found."""
    movie, _ = simulate_movie((2, 256, 256), conversion_gain=60, read_noise=10, rng=seed, dtype="float32")
    if process:
        movie = ndimage.gaussian_filter(movie, (0, 0.6, 0.6))
    codes = {reason.code for reason in compute_sensitivity(movie, on_refusal="return").reasons}
    assert ("correlated_in_space" in codes) is bool(process)
    assert "sharpened" not in codes


def test_cells_that_fire_everywhere_are_no_smoothing(seed):
    """Light of cells that decays within frames is shared by neighbours, less of it in fast changes."""
    rng = np.random.default_rng(seed)
    frames, side, cells = 200, 96, 200
    spikes = (rng.random((frames, cells)) < 0.03) * rng.gamma(2, 0.5, (frames, cells))
    traces = np.zeros_like(spikes)
    for k in range(1, frames):
        traces[k] = traces[k - 1] * np.exp(-1 / 4) + spikes[k]
    places = np.zeros((cells, side, side))
    places[np.arange(cells), rng.integers(0, side, cells), rng.integers(0, side, cells)] = 1
    cells_seen = ndimage.gaussian_filter(places, (0, 3, 3), truncate=3) * 2 * np.pi * 9
    light = 3 + 4 * np.tensordot(traces, cells_seen, 1)
    movie = np.rint(40 * rng.poisson(light) + rng.normal(100, 12, light.shape)).astype(np.int32)
    assert compute_sensitivity(movie, on_refusal="return").verdict != "refused"
