"""Frames without light: zero level, read noise, and their maps.

A pixel's mean over dark frames is its zero level, its variance over time its read variance. Both are taken
without hot pixels, a few in a thousand of a camera, and after each frame's own mean has been taken off, which
drifts with the electronics.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.calibration.line.transfer import jackknife_error, jackknife_groups
from anscombe_transform.calibration.result.constants import GROUPS
from anscombe_transform.calibration.sums.statistics import TILE, MovieLike
from anscombe_transform.movies import Movie
from anscombe_transform.movies.arrays import open_axes
from anscombe_transform.movies.selection import Box
from anscombe_transform.native.arrays import Bools, Floats, Integers

# Values read at a time.
_BLOCK_VALUES = 2**23
# Spreads (robust standard deviations) beyond which a pixel is hot.
_HOT = 8.0
# Variance of the offsets, in units of the error they are known to and of the read variance, from which on it
# pays to subtract them.
_WORTH, _WORTH_OF_READ = 2.0, 0.05
# Light in the dark frames: variance that grows with the mean of a tile, by this part of the gain or more.
_LIGHT_SLOPE, _LIGHT_ERRORS = 0.4, 5.0


@dataclass
class PixelSums:
    """Mean and variance over time of every pixel; memory does not grow with the movie."""

    shape: tuple[int, int]
    frames: int = 0
    levels: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._centre: Floats | None = None
        self._sum = np.zeros(self.shape)
        self._squares = np.zeros(self.shape)

    def update(self, block: NDArray[Any]) -> None:
        """Add frames (time, y, x)."""
        for frame in block:
            values = frame.astype(np.float64)
            level = _level(values)
            values -= level
            if self._centre is None:
                # Squares are summed about the first frame, or they would drown in rounding.
                self._centre = values
            values = values - self._centre
            self._sum += values
            self._squares += values * values
            self.levels.append(level)
            self.frames += 1

    @property
    def level(self) -> float:
        """Mean of the frames' means."""
        return float(np.mean(self.levels))

    @property
    def mean(self) -> Floats:
        """Mean of every pixel, NaN where a sample was not finite."""
        centre = np.zeros(self.shape) if self._centre is None else self._centre
        return np.asarray(self.level + centre + self._sum / max(self.frames, 1))

    @property
    def variance(self) -> Floats:
        """Variance of every pixel over time, with `frames` − 1 degrees of freedom; NaN of a single frame."""
        if self.frames < 2:
            return np.full(self.shape, np.nan)
        return np.asarray((self._squares - self._sum**2 / self.frames) / (self.frames - 1))


def _level(frame: Floats) -> float:
    """Mean of a frame, in which no pixel counts for more than `_HOT` spreads; NaN if none is finite."""
    values = frame[np.isfinite(frame)]
    if not values.size:
        return math.nan
    some = values[:: max(1, values.size // 50_000)]
    centre = np.median(some)
    reach = _HOT * 1.4826 * np.median(np.abs(some - centre))
    return (
        float(np.clip(values, centre - reach, centre + reach).mean()) if reach > 0 else float(values.mean())
    )


@dataclass(frozen=True, eq=False)
class DarkFrames:
    """Constants of the detector from frames without light.

    Attributes
    ----------
    frames : int
        Number of frames.
    zero_level, zero_level_error : float
        Mean over the pixels that are not hot, and its standard error.
    read_variance, read_variance_error : float
        Mean variance over time of these pixels, and its standard error; NaN of a single frame.
    offset, variance : ndarray of float64, shape (y, x)
        Mean and variance over time of every pixel.
    hot : ndarray of bool, shape (y, x)
        Pixels with a mean or variance far from that of the others.
    light_slope, light_slope_error : float
        Slope of variance against mean over the field: where it is the gain, there was light.
    unevenness : float
        Range of the zero level over the field, from the 5th to the 95th hundredth of its tiles.
    """

    frames: int
    zero_level: float
    zero_level_error: float
    read_variance: float
    read_variance_error: float
    offset: Floats
    variance: Floats
    hot: Bools
    light_slope: float
    light_slope_error: float
    unevenness: float

    def lit(self, gain: float) -> bool:
        """Whether places that are brighter are noisier too, as light of that gain makes them."""
        if not (math.isfinite(self.light_slope) and gain > 0):
            return False
        return (
            self.light_slope > _LIGHT_ERRORS * self.light_slope_error
            and self.light_slope > _LIGHT_SLOPE * gain
            and self.unevenness > 0.3 * gain
        )

    @property
    def uneven(self) -> NDArray[np.float32]:
        """Zero level of each pixel about their mean, 0 where it is not known."""
        return np.nan_to_num(self.offset - self.zero_level).astype(np.float32)

    def offsets_differ(self) -> bool:
        """Whether pixels differ in zero level by more than its error."""
        good = np.isfinite(self.offset) & ~self.hot
        if self.frames < 2 or not good.any():
            return False
        values = self.offset[good]
        spread = (1.4826 * float(np.median(np.abs(values - np.median(values))))) ** 2
        known = self.read_variance / self.frames
        return spread > _WORTH * known and spread > _WORTH_OF_READ * self.read_variance


def without_offsets(movie: Movie, dark: DarkFrames) -> Movie:
    """A movie less the zero level of each pixel about their mean; read when asked for."""
    uneven = dark.uneven
    if movie.is_dask:
        return open_axes(movie.to_dask() - uneven)

    def read(box: Box) -> NDArray[np.float32]:
        return np.asarray(movie[box], np.float32) - uneven[box[1:]]

    return Movie(
        read,
        shape=movie.shape,
        dtype=np.float32,
        source=movie.source,
        chunk_frames=movie.chunk_frames,
    )


def measure_dark(dark: MovieLike, mask: Bools | None = None) -> DarkFrames:
    """Measure frames without light, reading a few at a time.

    Parameters
    ----------
    dark : array_like, shape (time, y, x)
        One frame gives the zero level, two or more the read noise.
    mask : ndarray of bool, shape (y, x), optional
        True where pixels may be used.

    Raises
    ------
    ValueError
        No pixel is finite in all frames.
    """
    frames, height, width = dark.shape
    sums = PixelSums((height, width))
    step = max(1, _BLOCK_VALUES // (height * width))
    for start in range(0, frames, step):
        sums.update(np.asarray(dark[start : start + step]))
    offset, variance = sums.mean, sums.variance
    wanted = np.isfinite(offset) if mask is None else np.isfinite(offset) & mask
    if not wanted.any():
        raise ValueError("dark holds no pixel that is finite in all of its frames")
    hot = hot_pixels(offset, variance, sums.frames, wanted)
    good = wanted & ~hot
    tile = tile_of_pixel((height, width))
    zero, zero_error = _mean_over_field(offset, good, tile)
    drift = float(np.std(sums.levels, ddof=1)) / math.sqrt(frames) if frames > 1 else 0.0
    read, read_error = (math.nan, math.nan) if frames < 2 else _mean_over_field(variance, good, tile)
    return DarkFrames(
        frames=frames,
        zero_level=zero,
        zero_level_error=math.hypot(zero_error, drift),
        read_variance=read,
        read_variance_error=read_error,
        offset=offset,
        variance=variance,
        hot=hot,
        **_light(offset, variance, good, tile),
    )


def hot_pixels(offset: Floats, variance: Floats, frames: int, wanted: Bools) -> Bools:
    """Pixels with a mean or a variance farther from the others' than chance explains.

    Variances are compared by their cube root, which is nearly normal (Wilson and Hilferty 1931).
    """
    far = np.abs(_standard(offset, wanted)) > _HOT
    if frames >= 2:
        root = np.cbrt(variance)
        chance = float(np.median(root[wanted])) * math.sqrt(2 / (9 * (frames - 1)))
        far |= _standard(root, wanted, chance) > _HOT
    return np.asarray(far & wanted)


def _standard(values: Floats, wanted: Bools, least: float = 0.0) -> Floats:
    """Values from their median in robust standard deviations."""
    centre = float(np.median(values[wanted]))
    spread = max(1.4826 * float(np.median(np.abs(values[wanted] - centre))), least)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.nan_to_num((values - centre) / spread, nan=0.0, posinf=0.0, neginf=0.0))


def tile_of_pixel(shape: tuple[int, int]) -> Integers:
    """Number of the tile that each pixel lies in."""
    rows, columns = (np.arange(side) // TILE for side in shape)
    return np.asarray(rows[:, None] * (columns[-1] + 1) + columns, np.intp)


def _mean_over_field(values: Floats, good: Bools, tile: Integers) -> tuple[float, float]:
    """Mean and its jackknife error over groups of tiles, since neighbours are alike."""
    group = jackknife_groups(tile[good])
    count = np.bincount(group, minlength=GROUPS).astype(np.float64)
    total = np.bincount(group, values[good], GROUPS)
    others = count.sum() - count
    if not (others > 0).all():
        return float(values[good].mean()), float(values[good].std() / math.sqrt(good.sum()))
    return float(total.sum() / count.sum()), jackknife_error((total.sum() - total) / others)


def _light(offset: Floats, variance: Floats, good: Bools, tile: Integers) -> dict[str, float]:
    """How the variance of a tile follows its mean."""
    number = int(tile.max()) + 1
    count = np.bincount(tile[good], minlength=number)
    full = count >= TILE * TILE // 2
    if np.count_nonzero(full) < 3 * GROUPS or not np.isfinite(variance[good]).all():
        return {"light_slope": math.nan, "light_slope_error": math.nan, "unevenness": 0.0}
    mean, noise = (np.bincount(tile[good], v[good], number)[full] / count[full] for v in (offset, variance))
    group = jackknife_groups(np.flatnonzero(full))
    x, y = mean - mean.mean(), noise - noise.mean()
    sums = [np.bincount(group, v, GROUPS) for v in (np.ones_like(x), x, y, x * x, x * y)]

    def slope(n: Any, sx: Any, sy: Any, sxx: Any, sxy: Any) -> Any:
        return (sxy - sx * sy / n) / np.maximum(sxx - sx * sx / n, 1e-300)

    low, high = np.quantile(mean, [0.05, 0.95])
    return {
        "light_slope": float(slope(*(s.sum() for s in sums))),
        "light_slope_error": jackknife_error(slope(*(s.sum() - s for s in sums))),
        "unevenness": float(high - low),
    }
