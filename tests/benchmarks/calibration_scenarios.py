"""Simulated movies to calibrate: what a microscope does, to be got right, and what spoils it, to be refused.

A scenario is a recipe that turns a seed into a movie and its truth, with the bars it is measured against.
Constants given as (low, high) are drawn per seed on a logarithmic scale; scenes are drawn by functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from anscombe_transform.simulation import Truth, simulate_movie, structured_scene
from anscombe_transform.simulation.camera import Camera

Movie = np.ndarray
Change = Callable[[Movie, Truth, np.random.Generator], "Movie | tuple[Movie, Truth]"]
Kind = Literal["ordinary", "hard", "unusable"]

SHAPE = (100, 160, 160)
SCMOS = {"conversion_gain": 2.2, "zero_level": 100, "read_noise": 1.6 * 2.2, "dtype": "uint16"}
EMCCD = {"conversion_gain": 20, "zero_level": 200, "read_noise": 30, "excess_noise": 2, "dtype": "uint16"}
RESTLESS = {"activity": 0.3, "jitter": 0.5, "drift": 2, "bleaching": 0.3, "flicker": 0.02}
COUNTS = {"conversion_gain": 1, "zero_level": 0, "dtype": "uint16"}


@dataclass(frozen=True)
class Scenario:
    """A recipe, and the errors and coverage that are allowed: relative for the gain, photons for the zero.

    `zero_units` is an alternative allowance for the zero level in signal units.
    """

    kind: Kind
    options: dict[str, Any]
    shape: tuple[int, int, int] = SHAPE
    change: Change | None = None
    gain: float = 0.02
    zero: float = 0.15
    zero_units: float = 0.0

    def make(self, seed: int) -> tuple[Movie, Truth]:
        """Movie and truth of a seed."""
        rng = np.random.default_rng([seed, 77])
        drawn = {}
        for name, value in self.options.items():
            if isinstance(value, tuple):
                drawn[name] = float(np.exp(rng.uniform(*np.log(value))))
            else:
                drawn[name] = value(self.shape, rng) if callable(value) else value
        movie, truth = simulate_movie(self.shape, rng=rng, **drawn)
        if self.change is None:
            return movie, truth
        changed = self.change(movie, truth, rng)
        return changed if isinstance(changed, tuple) else (changed, truth)


def _stored(values: np.ndarray, dtype: np.dtype) -> Movie:
    """Round and saturate into an integer type."""
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)


# What detectors do


def cut_negative(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Clip at zero, as an unsigned file does."""
    return np.maximum(m, 0)


def repeat_frames(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Store every seventh frame twice in place of its successor."""
    index = np.arange(len(m))
    index[3::7] -= 1
    return m[index]


def row_noise(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Offset of every row of every frame, a third of a photon."""
    offsets = rng.normal(0, 0.3 * truth.signal_per_photon, (*m.shape[:2], 1))
    return _stored(m + offsets, m.dtype)


def column_noise(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Offset of every column of every frame, a third of a photon."""
    offsets = rng.normal(0, 0.3 * truth.signal_per_photon, (len(m), 1, m.shape[2]))
    return _stored(m + offsets, m.dtype)


def dead_columns(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Three columns without signal."""
    m = m.copy()
    m[:, :, rng.integers(0, m.shape[2], 3)] = round(truth.zero_level)
    return m


def uneven_gain(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Pixels that differ in gain by 2 %."""
    gain = rng.normal(1, 0.02, m.shape[1:])
    return _stored(truth.zero_level + (m - truth.zero_level) * gain, m.dtype)


def tilted_gain(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """A gain that rises by 30 % across the field."""
    gain = np.linspace(0.85, 1.15, m.shape[2])
    return _stored(truth.zero_level + (m - truth.zero_level) * gain, m.dtype)


def wandering_offset(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """A zero level that wanders from frame to frame by half a photon."""
    offsets = rng.normal(0, 0.5 * truth.signal_per_photon, (len(m), 1, 1))
    return _stored(m + offsets - offsets.mean(), m.dtype)


def fixed_pattern(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """An offset of every pixel that does not change, a fifth of a photon."""
    offsets = rng.normal(0, 0.2 * truth.signal_per_photon, m.shape[1:])
    return _stored(m + offsets - offsets.mean(), m.dtype)


def line_jitter(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Whole lines of some frames displaced by a pixel, as a resonant scanner does."""
    shift = rng.choice([-1, 0, 0, 0, 1], m.shape[:2])
    index = np.clip(np.arange(m.shape[2]) + shift[..., None], 0, m.shape[2] - 1)
    return np.take_along_axis(m, index, axis=2)


def black_frames(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Frames that were lost and stored as zeros."""
    m = m.copy()
    m[rng.choice(len(m), 4, replace=False)] = 0
    return m


def gaps_of_nan(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """A corner without data and a lost frame in a movie of floats."""
    m = m.copy()
    m[:, :20, :30] = np.nan
    m[7] = np.nan
    return m


def averaged_pairs(m: Movie, truth: Truth, rng: np.random.Generator) -> tuple[Movie, Truth]:
    """Mean of every two frames, each used once: legitimate, of half the gain."""
    mean = (m[::2].astype(np.float32) + m[1::2]) / 2
    gain, read = truth.conversion_gain / 2, truth.read_noise / np.sqrt(2)
    return mean, replace(
        truth, conversion_gain=gain, signal_per_photon=truth.signal_per_photon / 2, read_noise=read
    )


def stripe_of_bursts(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Three jolts of the field."""
    m = m.copy()
    for start in rng.choice(len(m) - 3, 3, replace=False):
        m[start : start + 2] = np.roll(m[start : start + 2], tuple(rng.integers(3, 12, 2)), (1, 2))
    return m


# What software does


def running_mean(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Mean of every two neighbouring frames."""
    return ((m[1:].astype(np.float32) + m[:-1]) / 2).astype(m.dtype)


def recursive_mean(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Exponential average over time, as acquisition programs offer it."""
    out = m.astype(np.float32)
    for k in range(1, len(out)):
        out[k] = 0.5 * out[k] + 0.5 * out[k - 1]
    return _stored(out, m.dtype)


def smoothed(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Gaussian blur of every frame."""
    from scipy.ndimage import gaussian_filter

    return _stored(gaussian_filter(m.astype(np.float32), (0, 0.8, 0.8)), m.dtype)


def median_filtered(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Median of 3 × 3 pixels."""
    from scipy.ndimage import median_filter

    return median_filter(m, (1, 3, 3))


def denoised_in_time(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Gaussian blur over time."""
    from scipy.ndimage import gaussian_filter1d

    return _stored(gaussian_filter1d(m.astype(np.float32), 1.0, axis=0), m.dtype)


def low_rank(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Keep twelve principal components, as matrix denoisers do."""
    flat = m.reshape(len(m), -1).astype(np.float32)
    mean = flat.mean(0)
    values, vectors = np.linalg.eigh((flat - mean) @ (flat - mean).T)
    kept = vectors[:, np.argsort(values)[-12:]]
    return _stored((kept @ (kept.T @ (flat - mean)) + mean).reshape(m.shape), m.dtype)


def noise_only(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Noise without a scene."""
    return rng.normal(100, 5, m.shape).round().astype(m.dtype)


def square_root(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Square root of the signal, as some programs store it."""
    return _stored(np.sqrt(np.maximum(m.astype(np.float64), 0)) * 60, m.dtype)


def gamma_corrected(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Gamma of 0.45, as a video camera stores it."""
    top = float(m.max())
    return _stored(255 * np.power(np.maximum(m, 0) / top, 0.45), np.dtype(np.uint8))


def logarithm(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Logarithm of the signal."""
    return _stored(1000 * np.log1p(np.maximum(m, 0).astype(np.float64)), m.dtype)


def two_levels(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """A mask."""
    return (m > np.median(m)).astype(np.uint8)


def constant(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """One value everywhere."""
    return np.full_like(m, 100)


def identical(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """The first frame all over."""
    return np.repeat(m[:1], len(m), axis=0)


def background_removed(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Smooth, take off a background and set what is below it to zero."""
    smooth = smoothed(m, truth, rng).astype(np.float32)
    return _stored(np.maximum(smooth - np.quantile(smooth, 0.6), 0), m.dtype)


def thresholded(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Set to zero what is below a threshold."""
    return np.where(m < np.quantile(m, 0.6), 0, m).astype(m.dtype)


def resampled(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Registered: every frame displaced by a fraction of a pixel, with interpolation."""
    from scipy.ndimage import shift

    shifts = rng.uniform(-0.5, 0.5, (len(m), 2))
    frames = [shift(f.astype(np.float32), s, order=1, mode="nearest") for f, s in zip(m, shifts, strict=True)]
    return _stored(np.stack(frames), m.dtype)


def interpolated_frames(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Put a mean of two between every two frames, as a change of frame rate does."""
    out = np.empty((2 * len(m) - 1, *m.shape[1:]), np.float32)
    out[::2] = m
    out[1::2] = (m[1:].astype(np.float32) + m[:-1]) / 2
    return _stored(out[: len(m)], m.dtype)


def upscaled(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Enlarged twice with linear interpolation."""
    from scipy.ndimage import zoom

    return _stored(zoom(m[:, :80, :80].astype(np.float32), (1, 2, 2), order=1), m.dtype)


def jpeg_like(
    m: Movie, truth: Truth, rng: np.random.Generator, *, least: float = 10, rise: float = 8
) -> Movie:
    """Cosine transform of 8 × 8 blocks in 8 bits, quantised in steps that rise with the frequency."""
    from scipy.fft import dctn, idctn

    frames, height, width = m.shape
    low, high = np.quantile(m, [0.001, 0.999])
    scaled = np.clip(255 * (m - low) / (high - low), 0, 255).astype(np.float32)
    blocks = scaled.reshape(frames, height // 8, 8, width // 8, 8).transpose(0, 1, 3, 2, 4)
    y, x = np.ogrid[:8, :8]
    step = least + rise * (y + x)
    blocks = idctn(np.rint(dctn(blocks, axes=(3, 4), norm="ortho") / step) * step, axes=(3, 4), norm="ortho")
    return _stored(blocks.transpose(0, 1, 3, 2, 4).reshape(m.shape), np.dtype(np.uint8))


def stretched(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Every frame stretched to 8 bits between its 1 % and 99 % quantiles."""
    low, high = np.quantile(m, [0.01, 0.99], axis=(1, 2), keepdims=True)
    return _stored(np.clip(255 * (m - low) / (high - low), 0, 255), np.dtype(np.uint8))


def levelled(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Every frame divided by its mean, as for bleaching."""
    fading = m * np.linspace(1, 0.5, len(m))[:, None, None]
    return (fading / fading.mean(axis=(1, 2), keepdims=True)).astype(np.float32)


def sharpened(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Unsharp mask."""
    from scipy.ndimage import gaussian_filter

    m = m.astype(np.float32)
    return m + (m - gaussian_filter(m, (0, 1, 1)))


def deinterlaced(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Every second line the mean of the lines beside it."""
    m = m.astype(np.float32)
    m[:, 1:-1:2] = (m[:, :-2:2] + m[:, 2::2]) / 2
    return m


def overlapping_means(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Mean of four frames, every two frames."""
    return np.stack([m[k : k + 4].mean(axis=0) for k in range(0, len(m) - 3, 2)]).astype(np.float32)


def slightly_filtered(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """A tenth of each neighbouring frame mixed in."""
    from scipy.ndimage import convolve1d

    return convolve1d(m.astype(np.float32), [0.1, 0.8, 0.1], axis=0)


def posterised(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Steps of three times the noise in the dark."""
    step = 3 * np.std(np.diff(m[:, :8, :8].astype(np.float32), axis=0)) / np.sqrt(2)
    return (m / max(step, 3.0)).astype(np.int16)


def autoscaled(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Every frame stretched to 8 bits by itself, as exporting single pictures does."""
    out = [255 * (f - f.min()) / (float(f.max()) - f.min()) for f in m.astype(np.float32)]
    return _stored(np.stack(out), np.dtype(np.uint8))


def normalised(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Every pixel divided by its mean over time (ΔF/F)."""
    mean = m.mean(axis=0, dtype=np.float64)
    return (m / np.maximum(mean, 1) - 1).astype(np.float32)


def standardised(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Every pixel with mean 0 and standard deviation 1."""
    return ((m - m.mean(axis=0)) / (m.std(axis=0) + 1e-6)).astype(np.float32)


def interleaved(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Two channels in turn."""
    m = m.copy()
    m[1::2] = m[1::2, ::-1, ::-1]
    return m


def saturated_everywhere(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Cut off at the median."""
    return np.minimum(m, np.int64(np.quantile(m, 0.05))).astype(m.dtype)


def _blended(m: Movie, part: float, width: float) -> Movie:
    """A part of every frame replaced by its smooth version."""
    from scipy.ndimage import gaussian_filter

    values = m.astype(np.float32)
    return _stored((1 - part) * values + part * gaussian_filter(values, (0, width, width)), m.dtype)


def denoised_with_texture(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Three tenths of the smooth frame mixed in, as denoisers that keep some texture do."""
    return _blended(m, 0.3, 1.5)


def a_little_sharpened(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Unsharp mask of a fifth."""
    return _blended(m, -0.2, 1.0)


def a_little_blurred(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Gaussian blur of a third of a pixel, which takes an eighth off the variance."""
    return _blended(m, 1.0, 0.35)


def gain_in_steps(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """A gain of one and a half in every second ten frames."""
    high = np.arange(len(m))[:, None, None] % 20 >= 10
    return _stored(np.where(high, 1.5 * m.astype(np.float32), m), m.dtype)


def gain_control(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """A gain that rises threefold, as one that makes up for bleaching."""
    return _stored(m.astype(np.float32) * np.linspace(0.5, 1.5, len(m))[:, None, None], m.dtype)


def dark_values_replaced(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """The lowest tenth of the values set to zero."""
    limit = np.quantile(m, 0.1)
    return np.where(m > limit, m, 0).astype(m.dtype)


def rows_levelled(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """The median of each row taken off."""
    return _stored(m.astype(np.float32) - np.median(m, axis=2, keepdims=True) + 200, m.dtype)


def video_coded(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Blocks of what changed since the frame before, in steps of one and a half photons, as in video."""
    from scipy.fft import dctn, idctn

    step, before, out = 1.5 * truth.conversion_gain, np.zeros(m.shape[1:]), []
    for frame in m.astype(np.float64):
        blocks = (frame - before).reshape(m.shape[1] // 8, 8, m.shape[2] // 8, 8)
        changed = dctn(blocks, axes=(1, 3), norm="ortho") / step
        rounded = step * np.sign(changed) * np.floor(np.abs(changed) + 1 / 3)
        before = before + idctn(rounded, axes=(1, 3), norm="ortho").reshape(frame.shape)
        out.append(before)
    return _stored(np.stack(out), m.dtype)


def weakly_blended_frames(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """A twentieth of the frame before mixed into each."""
    return 0.95 * m[1:].astype(np.float32) + 0.05 * m[:-1]


def stitched(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Every frame moved by the same part of a pixel, with interpolation, as to stitch fields of view."""
    from scipy.ndimage import shift

    return _stored(shift(m.astype(np.float32), (0, 0.3, 0.45), order=1, mode="nearest"), m.dtype)


def scan_lines_aligned(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Every second line moved by a sixth of a pixel, with interpolation, as to align a bidirectional scan."""
    m = m.astype(np.float32)
    m[:, 1::2] = 0.85 * m[:, 1::2] + 0.15 * np.roll(m[:, 1::2], 1, axis=2)
    return m


def median_over_time(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Median of five frames."""
    from scipy.ndimage import median_filter

    return median_filter(m, (5, 1, 1))


def low_rank_and_noise(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Twelve components and new noise, as of a simulated detector."""
    return low_rank(m, truth, rng) + np.rint(rng.normal(0, 0.7 * truth.conversion_gain, m.shape))


def background_of_frames(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """The median of each frame taken off, and what is below set to zero."""
    m = m.astype(np.float32)
    return _stored(np.maximum(m - np.median(m, axis=(1, 2), keepdims=True), 0), np.dtype(np.uint16))


def nearly_linear(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Gamma of 0.8."""
    signal = np.maximum(m.astype(np.float64), 0)
    return _stored(30000 * (signal / signal.max()) ** 0.8, np.dtype(np.uint16))


# What looks odd and is not


def blanked(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Every twentieth frame dark, as while a shutter is closed."""
    m = m.copy()
    m[10::20] = np.rint(rng.normal(truth.zero_level, truth.read_noise, m[10::20].shape))
    return m


def with_flyback(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Columns in which the scanner turns: dark on one side, blank on the other."""
    m = m.copy()
    m[:, :, :12] = np.rint(rng.normal(truth.zero_level, truth.read_noise, m[:, :, :12].shape))
    m[:, :, -6:] = 0
    return m


def dying_pixels(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Pixels that go blank half way, and others that hold anything."""
    m = m.copy()
    m[len(m) // 2 :, rng.random(m.shape[1:]) < 0.004] = round(truth.zero_level)
    wild = rng.random(m.shape[1:]) < 0.002
    m[:, wild] = rng.integers(round(truth.zero_level), int(m.max()), (len(m), int(wild.sum())))
    return m


def planes_in_turn(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Four focal planes in turn."""
    m = m.copy()
    for plane, moved in ((1, m[1::4, ::-1]), (2, m[2::4, :, ::-1]), (3, m[3::4, ::-1, ::-1])):
        m[plane::4] = moved.copy()
    return m


# What cameras and scenes do that are not a change of the finished movie


def scmos(**imperfections: Any) -> Camera:
    """A scientific CMOS camera; offsets and noise of rows and columns in electrons."""
    in_electrons = {
        name: SCMOS["conversion_gain"] * value
        for name, value in imperfections.items()
        if name.endswith(("offset_spread", "noise", "drift", "amplitude"))
    }
    return Camera(**SCMOS | imperfections | in_electrons)


def flashes(shape: tuple[int, int, int], rng: np.random.Generator) -> Movie:
    """A scene of 4 photons, and every 15 frames one that is four times as bright in half of the field."""
    image, _ = structured_scene(shape[1:], rng)
    light = np.ones(shape, np.float32)
    light[rng.integers(0, 15) :: 15, : shape[1] // 2] = 4
    return 4 * image * light


def blinking(shape: tuple[int, int, int], rng: np.random.Generator) -> Movie:
    """Single molecules: dots of 300 photons on a background, each alight for two frames or so."""
    frames, height, width = shape
    y, x = np.mgrid[:height, :width]
    scene = np.full(shape, 3.0, np.float32)
    scene *= (0.4 + 1.2 * np.exp(-((y - height / 2) ** 2 + (x - width / 2) ** 2) / (height / 3) ** 2)).astype(
        "f4"
    )
    for _ in range(frames * height * width // 20_000):
        cy, cx, start = rng.uniform(0, height), rng.uniform(0, width), int(rng.integers(0, frames))
        rows, columns = (slice(max(0, int(c) - 5), int(c) + 6) for c in (cy, cx))
        dot = np.exp(-((y[rows, columns] - cy) ** 2 + (x[rows, columns] - cx) ** 2) / (2 * 1.3**2))
        scene[start : start + int(rng.geometric(0.5)), rows, columns] += 300 / (2 * np.pi * 1.3**2) * dot
    return scene


def traces(shape: tuple[int, int, int], rng: np.random.Generator, *, photons: float = 20.0) -> Movie:
    """Light of few pixels that differ, and that changes slowly over time, as of fluorescent cells."""
    frames, pixels = shape[0], shape[1] * shape[2]
    pixel = rng.lognormal(0, 0.7, (1, pixels))
    times = np.arange(frames)[:, None] / frames
    slow = 1 + 0.6 * np.sin(
        2 * np.pi * (rng.uniform(1, 4, (1, pixels)) * times + rng.uniform(0, 1, (1, pixels)))
    )
    return (photons * pixel * slow / pixel.mean()).reshape(shape).astype(np.float32)


def interleaved_planes(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """Two focal planes in turn, of different scenes."""
    m = m.copy()
    m[1::2] = m[1::2, ::-1, ::-1].copy()
    return m


def border_of_nan(m: Movie, truth: Truth, rng: np.random.Generator) -> Movie:
    """A border without data, as registration leaves it, that changes from frame to frame."""
    m = m.astype(np.float32)
    for frame, (top, left) in zip(m, rng.integers(0, 6, (len(m), 2)), strict=True):
        frame[:top], frame[:, :left], frame[-6 + top :], frame[:, -6 + left :] = (np.nan,) * 4
    return m


def _s(
    kind: Kind, shape: tuple[int, int, int] = SHAPE, /, change: Change | None = None, **options: Any
) -> Scenario:
    bars = {name: options.pop(name) for name in ("gain_bar", "zero_bar", "zero_units") if name in options}
    renamed = {
        {"gain_bar": "gain", "zero_bar": "zero"}.get(name, name): value for name, value in bars.items()
    }
    return Scenario(kind, options, shape, change, **renamed)


_PHOTON = {"zero_bar": 0.02}
_MOTION = {"gain_bar": 0.03, "zero_bar": 0.5}
_ORDINARY = partial(_s, "ordinary")
_HARD = partial(_s, "hard")
_UNUSABLE = partial(_s, "unusable")
_DIM = {"mean_photons": 5}
_SMALL = {"gain_bar": 0.04, "zero_bar": 0.6}
_LINE = {"gain_bar": 0.05, "zero_bar": 1.0}
_TOP = {"conversion_gain": 30, "adc_bits": 10, "dtype": "uint16", "mean_photons": 8}
_CUT = {"conversion_gain": 20, "zero_level": 5, "read_noise": 20, "change": cut_negative}

USABLE: dict[str, Scenario] = {
    "static two-photon": _ORDINARY(zero_units=2),
    "static, 40 frames of 256 x 256": _ORDINARY((40, 256, 256), zero_units=2),
    "low-light PMT, gain 30-300": _ORDINARY(
        conversion_gain=(30, 300), zero_level=20, read_noise=8, mean_photons=(0.1, 1), **_PHOTON
    ),
    "photon counts": _ORDINARY(**COUNTS, mean_photons=(0.3, 10), **_PHOTON),
    "photon counts, uint8": _ORDINARY(**COUNTS | {"dtype": "uint8"}, mean_photons=(0.1, 2), **_PHOTON),
    "sCMOS 2-150 e": _ORDINARY(**SCMOS, mean_photons=(2, 150), zero_bar=1.2),
    "sCMOS, low light": _ORDINARY(**SCMOS, mean_photons=(1, 4), zero_bar=0.25),
    "CCD, gain 0.4": _ORDINARY(
        conversion_gain=0.4,
        zero_level=500,
        read_noise=3,
        mean_photons=(50, 1000),
        dtype="uint16",
        zero_bar=10,
    ),
    "EMCCD": _ORDINARY(**EMCCD, mean_photons=(1, 10)),
    "EMCCD, low light": _ORDINARY(**EMCCD, mean_photons=(0.2, 1)),
    "PMT, excess noise 1.3": _ORDINARY(
        conversion_gain=60, read_noise=10, excess_noise=1.3, mean_photons=(0.5, 5)
    ),
    "transients in 25 %": _ORDINARY(activity=0.25, zero_units=2),
    "transients, low-light PMT": _ORDINARY(
        conversion_gain=(30, 300), zero_level=20, mean_photons=(0.3, 1), activity=0.3, zero_bar=0.05
    ),
    "transients, sCMOS": _ORDINARY(**SCMOS, activity=0.3, mean_photons=(20, 100), zero_bar=1.2),
    "drift of 4 px": _ORDINARY(drift=4, zero_units=2),
    "flicker": _ORDINARY(flicker=0.05),
    "bleaching": _ORDINARY(bleaching=0.6),
    "flicker and bleaching": _ORDINARY(flicker=0.05, bleaching=0.5),
    "flicker, sCMOS": _ORDINARY(**SCMOS, flicker=0.03, bleaching=0.3, mean_photons=(20, 100), zero_bar=1.2),
    "saturated at 10 bit": _ORDINARY(**_TOP),
    "saturated at 12 bit, bright": _ORDINARY(
        conversion_gain=4, zero_level=100, mean_photons=250, adc_bits=12, dtype="uint16", zero_bar=1.2
    ),
    "hot pixels": _ORDINARY(hot_pixels=2e-3, **SCMOS, mean_photons=20, zero_bar=1.2),
    "duplicated frames": _ORDINARY(change=repeat_frames),
    "float32": _ORDINARY(dtype="float32"),
    "above 32767": _ORDINARY(
        conversion_gain=200, zero_level=20000, mean_photons=60, dtype="uint16", zero_bar=1.2
    ),
    "few levels": _ORDINARY(conversion_gain=1, zero_level=10, mean_photons=2, dtype="uint8"),
    "mean of frame pairs": _ORDINARY((200, 160, 160), change=averaged_pairs),
    "row noise": _ORDINARY(change=row_noise),
    "column noise": _ORDINARY(change=column_noise),
    "dead columns": _ORDINARY(change=dead_columns),
    "uneven gain": _ORDINARY(change=uneven_gain),
    "gain that rises by 30 %": _ORDINARY(change=tilted_gain),
    "photon counts, dark": _ORDINARY(**COUNTS | {"dtype": "uint8"}, mean_photons=0.05, **_PHOTON),
    "wandering offset": _ORDINARY(change=wandering_offset),
    "fixed pattern": _ORDINARY(change=fixed_pattern),
    "black frames": _ORDINARY(zero_level=500, change=black_frames),
    "gaps of NaN": _ORDINARY(dtype="float32", change=gaps_of_nan),
    "negative zero level": _ORDINARY(zero_level=-200, read_noise=20),
    "blanked frames": _ORDINARY(read_noise=10, change=blanked),
    "flyback of the scanner": _ORDINARY(read_noise=10, change=with_flyback),
    "dying pixels, sCMOS": _ORDINARY(**SCMOS, mean_photons=40, zero_bar=1.2, change=dying_pixels),
    "jolts": _ORDINARY(change=stripe_of_bursts),
    "activity everywhere": _HARD(activity=1.0, **_MOTION),
    "activity everywhere, sCMOS": _HARD(
        **SCMOS, activity=1.0, mean_photons=(20, 100), gain_bar=0.03, zero_bar=1.2
    ),
    "jitter 0.5 px": _HARD(jitter=0.5, **_MOTION),
    "jitter 1 px": _HARD(jitter=1.0, **_MOTION),
    "jitter 2 px": _HARD(jitter=2.0, **_MOTION),
    "jitter 3 px": _HARD(jitter=3.0, **_MOTION),
    "jitter 2 px, low light": _HARD(jitter=2.0, mean_photons=1, **_MOTION),
    "jitter 1.5 px, sCMOS": _HARD(**SCMOS, jitter=1.5, mean_photons=(10, 60), gain_bar=0.03, zero_bar=1.2),
    "four planes in turn": _HARD(change=planes_in_turn, **_MOTION),
    "line jitter": _HARD(change=line_jitter, **_MOTION),
    "all of it": _HARD(**RESTLESS, hot_pixels=5e-4, read_noise=20, **_MOTION),
    "clipped at zero": _HARD(**_CUT, gain_bar=0.04, zero_bar=0.6),
    "clipped at zero, dark": _HARD(**_CUT | {"zero_level": -10}, gain_bar=0.04, zero_bar=0.6),
    "clipped at zero, bright": _HARD(**_CUT, mean_photons=20, gain_bar=0.04, zero_bar=0.6),
    "clipped at zero, sCMOS": _HARD(**SCMOS | {"zero_level": 2}, mean_photons=8, gain_bar=0.04, zero_bar=0.6),
    "T = 2": _HARD((2, 1144, 1144), gain_bar=0.05, zero_bar=0.4),
    "T = 5": _HARD((5, 724, 724), gain_bar=0.05, zero_bar=0.6),
    "T = 10": _HARD((10, 512, 512), gain_bar=0.04, zero_bar=0.8),
    "T = 2, small": _HARD((2, 512, 512), gain_bar=0.05, zero_bar=0.4),
    "T = 5, small": _HARD((5, 256, 256), gain_bar=0.05, zero_bar=0.6),
    "T = 10, small": _HARD((10, 160, 160), gain_bar=0.04, zero_bar=0.8),
    "T = 5, sCMOS": _HARD((5, 512, 512), **SCMOS, mean_photons=(5, 50), gain_bar=0.05, zero_bar=2.6),
    "64 x 64": _HARD((640, 64, 64), gain_bar=0.04, zero_bar=0.8),
    "64 x 64, 100 frames": _HARD((100, 64, 64), gain_bar=0.04, zero_bar=0.8),
    "offsets of 1 e": _ORDINARY(camera=scmos(offset_spread=1), **_DIM),
    "offsets of 2 e": _ORDINARY(camera=scmos(offset_spread=2), **_DIM),
    "offsets of 3 e": _ORDINARY(camera=scmos(offset_spread=3), **_DIM),
    "offsets of 2 e, moving": _HARD(camera=scmos(offset_spread=2), jitter=1.0, gain_bar=0.04, **_DIM),
    "column offsets of 1 e": _ORDINARY(camera=scmos(column_offset_spread=1), **_DIM),
    "column offsets of 2 e": _HARD(camera=scmos(column_offset_spread=2), gain_bar=0.04, **_DIM),
    "row and column offsets of 1 e": _ORDINARY(
        camera=scmos(row_offset_spread=1, column_offset_spread=1), **_DIM
    ),
    "offset that varies over the field by 3 e": _ORDINARY(camera=scmos(smooth_offset_spread=3), **_DIM),
    "offset that varies over the field by 3 e, pixels by 2 e": _ORDINARY(
        camera=scmos(smooth_offset_spread=3, offset_spread=2), **_DIM
    ),
    "telegraph pixels": _ORDINARY(camera=scmos(rts_pixels=0.02, rts_amplitude=5), **_DIM),
    "read noise of every pixel": _ORDINARY(camera=scmos(read_noise_spread=0.35), **_DIM),
    "column and row noise, sCMOS": _ORDINARY(camera=scmos(column_noise=0.3, row_noise=0.3), **_DIM),
    "drifting zero, sCMOS": _ORDINARY(camera=scmos(zero_drift=3, frame_noise=0.3), **_DIM),
    "dark current": _ORDINARY(camera=scmos(dark_current=0.1), **_DIM),
    "two amplifiers": _ORDINARY(
        camera=Camera(**SCMOS, tap_gains=(0.97, 1.03), tap_offsets=(0, 6)), mean_photons=20, zero_bar=1.2
    ),
    "all imperfections of an sCMOS": _HARD(
        camera=scmos(
            offset_spread=1.5,
            column_offset_spread=0.5,
            smooth_offset_spread=1,
            gain_spread=0.01,
            read_noise_spread=0.35,
            rts_pixels=0.02,
            rts_amplitude=5,
            column_noise=0.2,
            row_noise=0.2,
            dark_current=0.05,
            hot_pixels=1e-3,
        ),
        mean_photons=8,
        gain_bar=0.04,
        zero_bar=0.6,
    ),
    "dead and saturated pixels": _ORDINARY(
        camera=scmos(dead_pixels=2e-3, saturated_pixels=2e-3), mean_photons=20, zero_bar=1.2
    ),
    "cut at both ends": _HARD(
        camera=Camera(conversion_gain=350, zero_level=100, read_noise=105, adc_bits=12, dtype="uint16"),
        mean_photons=2,
        gain_bar=0.04,
        zero_bar=0.6,
    ),
    "flashes": _HARD(scene=flashes, gain_bar=0.04, zero_bar=0.6),
    "blinking molecules": _HARD(camera=scmos(offset_spread=0.5), scene=blinking, gain_bar=0.04, zero_bar=0.6),
    "T = 2, sCMOS": _HARD((2, 512, 512), **SCMOS, mean_photons=10, gain_bar=0.05, zero_bar=0.6),
    "T = 3, sCMOS": _HARD((3, 512, 512), **SCMOS, mean_photons=10, gain_bar=0.05, zero_bar=0.6),
    "T = 4, sCMOS": _HARD((4, 512, 512), **SCMOS, mean_photons=10, gain_bar=0.05, zero_bar=0.6),
    "T = 6, sCMOS": _HARD((6, 512, 512), **SCMOS, mean_photons=10, gain_bar=0.05, zero_bar=0.6),
    "two planes in turn": _HARD(change=interleaved_planes, **_MOTION),
    "border of NaN": _ORDINARY(change=border_of_nan),
    "16 x 16": _HARD((3000, 16, 16), **SCMOS, mean_photons=8, **_SMALL),
    "16 x 16, moving": _HARD((3000, 16, 16), **SCMOS, mean_photons=8, jitter=0.3, **_SMALL),
    "10 x 10": _HARD((4000, 10, 10), **SCMOS, mean_photons=8, **_SMALL),
    "4 x 4": _HARD((8000, 4, 4), **SCMOS, scene=traces, **_SMALL),
    "line scan along x": _HARD((5000, 1, 64), **SCMOS, scene=traces, **_LINE),
    "line scan along y": _HARD((5000, 64, 1), **SCMOS, scene=traces, **_LINE),
    "line scan, photon counts": _HARD((2000, 1, 128), **COUNTS, scene=partial(traces, photons=2), **_LINE),
    "line scan, 1000 frames": _HARD((1000, 1, 256), scene=partial(traces, photons=3), **_LINE),
    "single pixel": _HARD((20_000, 1, 1), **SCMOS, scene=traces, **_LINE),
    "single pixel, EMCCD": _HARD((20_000, 1, 1), **EMCCD, scene=traces, **_LINE),
}
UNUSABLE: dict[str, Scenario] = {
    "uniform scene": _UNUSABLE(scene="uniform"),
    "uniform, photon counts": _UNUSABLE(**COUNTS, scene="uniform"),
    "no light": _UNUSABLE(mean_photons=1e-6, read_noise=10),
    "noise only": _UNUSABLE(change=noise_only),
    "read noise, hardly any light": _UNUSABLE(mean_photons=0.05, conversion_gain=1, read_noise=30),
    "running mean of 2 frames": _UNUSABLE(change=running_mean),
    "recursive mean": _UNUSABLE(change=recursive_mean),
    "smoothed in space": _UNUSABLE(change=smoothed),
    "median of 3 x 3": _UNUSABLE(change=median_filtered),
    "smoothed in time": _UNUSABLE(change=denoised_in_time),
    "low rank": _UNUSABLE(change=low_rank),
    "square root stored": _UNUSABLE(change=square_root),
    "gamma corrected": _UNUSABLE(change=gamma_corrected),
    "logarithm stored": _UNUSABLE(change=logarithm),
    "two levels": _UNUSABLE(change=two_levels),
    "constant": _UNUSABLE(change=constant),
    "identical frames": _UNUSABLE(change=identical),
    "background removed": _UNUSABLE(change=background_removed),
    "thresholded": _UNUSABLE(change=thresholded),
    "resampled": _UNUSABLE(change=resampled),
    "interpolated frames": _UNUSABLE(change=interpolated_frames),
    "upscaled": _UNUSABLE(change=upscaled),
    "JPEG": _UNUSABLE(change=jpeg_like),
    "JPEG, good quality": _UNUSABLE(change=partial(jpeg_like, least=2, rise=0.5)),
    "stretched between quantiles": _UNUSABLE(change=stretched),
    "divided by the frame's mean": _UNUSABLE(change=levelled),
    "sharpened": _UNUSABLE(change=sharpened),
    "deinterlaced": _UNUSABLE(change=deinterlaced),
    "overlapping means": _UNUSABLE(change=overlapping_means),
    "a little smoothed in time": _UNUSABLE(change=slightly_filtered),
    "steps coarser than the noise": _UNUSABLE(change=posterised),
    "autoscaled to 8 bit": _UNUSABLE(change=autoscaled),
    "divided by its mean": _UNUSABLE(change=normalised),
    "standardised": _UNUSABLE(change=standardised),
    "interleaved channels": _UNUSABLE(change=interleaved),
    "saturated everywhere": _UNUSABLE(change=saturated_everywhere),
    "denoised, with texture": _UNUSABLE(change=denoised_with_texture),
    "a little sharpened": _UNUSABLE(change=a_little_sharpened),
    "a little blurred": _UNUSABLE(change=a_little_blurred),
    "gain in steps": _UNUSABLE(change=gain_in_steps),
    "gain control": _UNUSABLE(change=gain_control),
    "dark values replaced": _UNUSABLE(zero_level=300, change=dark_values_replaced),
    "rows levelled": _UNUSABLE(change=rows_levelled),
    "coded as video": _UNUSABLE(change=video_coded),
    "frames blended weakly": _UNUSABLE(change=weakly_blended_frames),
    "stitched": _UNUSABLE(change=stitched),
    "scan lines aligned": _UNUSABLE(change=scan_lines_aligned),
    "median over time": _UNUSABLE(change=median_over_time),
    "low rank and new noise": _UNUSABLE(change=low_rank_and_noise),
    "background of frames": _UNUSABLE(change=background_of_frames),
    "gamma of 0.8": _UNUSABLE(change=nearly_linear),
    "one frame": _UNUSABLE((1, 160, 160)),
    "single pixel of constant light": _UNUSABLE((20_000, 1, 1), **SCMOS, scene="uniform", mean_photons=20),
    "square root stored, 16 x 16": _UNUSABLE((3000, 16, 16), **SCMOS, mean_photons=8, change=square_root),
    "gamma corrected, 16 x 16": _UNUSABLE((3000, 16, 16), **SCMOS, mean_photons=8, change=gamma_corrected),
    "gamma of 0.8, 16 x 16": _UNUSABLE((3000, 16, 16), **SCMOS, mean_photons=8, change=nearly_linear),
    "logarithm stored, 16 x 16": _UNUSABLE((3000, 16, 16), **SCMOS, mean_photons=8, change=logarithm),
    "square root stored, line": _UNUSABLE((5000, 1, 64), **SCMOS, scene=traces, change=square_root),
    "smoothed in time, 16 x 16": _UNUSABLE((3000, 16, 16), **SCMOS, mean_photons=8, change=slightly_filtered),
    "line of constant light": _UNUSABLE((5000, 1, 64), **SCMOS, scene="uniform", mean_photons=20),
}
SCENARIOS = USABLE | UNUSABLE
