"""Gain and zero level from evenly lit frames: pairs, or a series of exposures (EMVA Standard 1288).

At each level of light the variance over time of a pixel, averaged over the field, is a point of the photon
transfer curve against the mean signal; the gain is the slope of the line through the points (EMVA 1288
release 4.0, section 6.6, where the system gain K is in signal units per electron). Two frames a level are
enough: of a pair, half the squared difference. The fixed pattern of uneven light and uneven gain drops out.

Of every level, pixels are sorted into classes by the brightness of their neighbours, so that uneven light
adds to the range of brightness; a pixel's own noise has no part in where it is counted. A lamp that flickers
changes the mean of a class from frame to frame; that is taken off its variance.

References
----------
EMVA Standard 1288, *Standard for Characterization of Image Sensors and Cameras*, release 4.0 Linear (2021).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from anscombe_transform.calibration.line.transfer import jackknife_error, jackknife_groups
from anscombe_transform.calibration.references.dark import PixelSums, hot_pixels, measure_dark, tile_of_pixel
from anscombe_transform.calibration.references.known import Known, with_dark, with_known
from anscombe_transform.calibration.result.constants import GROUPS, T_QUANTILE
from anscombe_transform.calibration.result.sensitivity import (
    Reason,
    Sensitivity,
    TransferCurve,
    UntrustworthyCalibration,
    verdict_of,
)
from anscombe_transform.calibration.sums.inputs import check_mask, is_number
from anscombe_transform.native.arrays import Bools, Floats, Integers

_CLASSES = 16
_BLOCK_VALUES = 2**23
# The part of the range up to saturation that the line is drawn through (EMVA 1288, section 6.6).
_LINEAR_RANGE = 0.7
# Share of samples at the largest value from which on a level is taken for clipped.
_CLIPPED = 1e-3
_LARGEST_GAIN_ERROR = 0.06
# Relative departures from the line, of points that are sure by so many standard errors.
_BENT, _VERY_BENT, _SURE = 0.05, 0.15, 4.0


def compute_sensitivity_from_flats(
    flats: Any,
    *,
    dark: Any = None,
    zero_level: float | None = None,
    read_noise: float | None = None,
    mask: Any = None,
    noise: Literal["time", "space"] = "time",
    on_refusal: Literal["raise", "return"] = "raise",
) -> Sensitivity:
    """Read a detector's gain from flat fields: photon transfer after EMVA Standard 1288.

    Parameters
    ----------
    flats : array_like, shape (levels, frames, y, x), or sequence of movies or paths
        Two or more frames at each level of light, in any order of levels. An array of three axes is one
        level: its gain needs uneven light, dark frames or known constants.
    dark : path or array_like, shape (time, y, x) or (y, x), optional
        Frames without light. They fix the zero level and the read noise.
    zero_level, read_noise : float, optional
        Known constants, in signal units.
    mask : array_like of bool, shape (y, x), optional
        True where pixels may be used.
    noise : {"time", "space"}
        Where noise is seen. With "space" one frame a level will do, as an array (levels, y, x): a pixel is
        compared with its eight neighbours, which takes even light and counts fixed pattern as noise; the
        verdict is "caution" at best.
    on_refusal : {"raise", "return"}
        Behaviour when the frames do not reveal the gain.

    Returns
    -------
    Sensitivity
        `method` is "flats". The intervals are from a jackknife over blocks of pixels.

    Raises
    ------
    UntrustworthyCalibration
        The verdict is "refused" and `on_refusal` is "raise".
    ValueError
        A level has a single frame, shapes differ, or an option is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> photons = np.array([20, 50, 100, 200, 400]).reshape(5, 1, 1, 1)
    >>> flats = 100 + 2.0 * rng.poisson(photons, (5, 2, 64, 64))
    >>> sensitivity = compute_sensitivity_from_flats(flats, zero_level=100)
    >>> bool(abs(sensitivity.conversion_gain / 2.0 - 1) < 0.05)
    True
    """
    if on_refusal not in ("raise", "return"):
        raise ValueError(f"on_refusal must be 'raise' or 'return', got {on_refusal!r}")
    if noise not in ("time", "space"):
        raise ValueError(f"noise must be 'time' or 'space', got {noise!r}")
    if dark is not None and (zero_level is not None or read_noise is not None):
        raise ValueError(
            "dark frames measure the zero level and the read noise: give either dark= or the constants"
        )
    for name, value in (("zero_level", zero_level), ("read_noise", read_noise)):
        if value is not None and not (is_number(value) and (name == "zero_level" or value >= 0)):
            raise ValueError(f"{name} must be a finite number, a read noise >= 0, got {value!r}")
    with ExitStack() as files:
        levels = _open_levels(flats, noise, files)
        shape = levels[0].shape[1:]
        wanted = check_mask(mask, shape)
        points = [_measure_level(level, noise, wanted) for level in levels]
        found = _fit(points, noise)
        if dark is not None:
            frames = _open(np.asarray(dark)[None] if np.ndim(dark) == 2 else dark, files)
            if tuple(frames.shape[1:]) != tuple(shape):
                raise ValueError(f"dark must have frames of the flats' shape {shape}, got {frames.shape[1:]}")
            found = with_dark(found, measure_dark(frames, wanted))
        elif zero_level is not None or read_noise is not None:
            found = with_known(found, Known.of_data_sheet(zero_level, read_noise))
    if found.verdict == "refused" and on_refusal == "raise":
        raise UntrustworthyCalibration(found)
    return found


def _open(source: Any, files: ExitStack) -> Any:
    if isinstance(source, str | os.PathLike):
        from anscombe_transform.movies.opening import open_frames

        return files.enter_context(open_frames(source))
    return source if hasattr(source, "shape") and hasattr(source, "dtype") else np.asarray(source)


def _open_levels(flats: Any, noise: str, files: ExitStack) -> list[Any]:
    """The levels as movies (frames, y, x), of one shape."""
    if isinstance(flats, str | os.PathLike):
        flats = _open(flats, files)
    if hasattr(flats, "shape"):
        axes = len(flats.shape)
        if axes not in (3, 4):
            raise ValueError(
                f"flats must have the axes (levels, frames, y, x), or (frames, y, x), got shape {flats.shape}"
            )
        if axes == 3 and noise == "time":
            levels = [flats]
        else:
            levels = [flats[k] if axes == 4 else flats[k : k + 1] for k in range(flats.shape[0])]
    elif isinstance(flats, Sequence):
        levels = [_open(level, files) for level in flats]
        levels = [level[None] if len(level.shape) == 2 and noise == "space" else level for level in levels]
    else:
        raise TypeError(f"flats must be an array or a sequence of movies, got {type(flats).__name__}")
    if not levels:
        raise ValueError("flats holds no level of light")
    for k, level in enumerate(levels):
        name = f"level {k}" + (f" ({level.source})" if hasattr(level, "source") else "")
        if len(level.shape) != 3 or level.shape[1:] != levels[0].shape[1:]:
            raise ValueError(
                f"all levels must be movies (frames, y, x) of one frame shape, got {level.shape} for "
                f"{name} and {levels[0].shape} for level 0; single frames (y, x) need noise='space' "
                "(--noise space)"
            )
        if noise == "time" and level.shape[0] < 2:
            raise ValueError(
                f"{name} has one frame; noise over time takes two of each level. noise='space' compares "
                "neighbouring pixels instead"
            )
        if np.dtype(level.dtype).kind not in "iuf":
            raise TypeError(f"flats must hold integers or floats, got dtype {level.dtype}")
    return levels


@dataclass(frozen=True)
class _Level:
    """Sums over the pixels of one level: (class, group of the jackknife)."""

    count: Floats
    mean: Floats
    variance: Floats
    freedom: float
    clipped: bool

    def point(self) -> tuple[float, float]:
        """Mean and variance of the whole level."""
        n = self.count.sum()
        return float(self.mean.sum() / n), float(self.variance.sum() / n)


def _measure_level(level: Any, noise: str, mask: Bools | None) -> _Level:
    shape = tuple(level.shape[1:])
    sums, top, at_top = PixelSums(shape), -math.inf, 0
    second = np.zeros(shape)
    step = max(1, _BLOCK_VALUES // math.prod(shape))
    for start in range(0, level.shape[0], step):
        block = np.asarray(level[start : start + step])
        sums.update(block)
        largest = float(block.max())
        at_top = (at_top if largest == top else 0) + int(np.count_nonzero(block == largest)) * (
            largest >= top
        )
        top = max(top, largest)
        if noise == "space":
            second += sum(_squared_differences(frame.astype(np.float64)) for frame in block)
    mean = sums.mean
    variance = sums.variance if noise == "time" else second / sums.frames
    wanted = np.isfinite(mean) & np.isfinite(variance)
    if mask is not None:
        wanted &= mask
    if noise == "space":
        wanted[[0, -1]] = wanted[:, [0, -1]] = False
    if not wanted.any():
        raise ValueError("flats holds no pixel that is finite in all frames of a level and may be used")
    wanted &= ~hot_pixels(mean, variance, sums.frames if noise == "time" else 3, wanted)
    group = jackknife_groups(tile_of_pixel(shape)[wanted])
    # Differences in space share their pixels with the mean of the neighbours: there, one class is all.
    around = _around(mean)[wanted] if noise == "time" else np.zeros(np.count_nonzero(wanted))
    edges = np.quantile(around, np.arange(1, _CLASSES) / _CLASSES)
    label = np.searchsorted(edges, around, side="right") * GROUPS + group
    count, total, squares = (
        np.asarray(np.bincount(label, v, _CLASSES * GROUPS).reshape(_CLASSES, GROUPS), np.float64)
        for v in (np.ones_like(around), mean[wanted], variance[wanted])
    )
    if noise == "time":
        squares -= _flicker(level, label // GROUPS, wanted, sums.levels)[:, None] * count
    # Of pixels compared with their neighbours, every second is compared with much the same ones.
    freedom = sums.frames - 1.0 if noise == "time" else sums.frames / 1.944**2
    return _Level(count, total, squares, freedom, at_top > _CLIPPED * math.prod(level.shape))


def _flicker(level: Any, label: Integers, wanted: Bools, means: list[float]) -> Floats:
    """Variance over time of each class's mean, beyond that of the whole frames."""
    count = np.bincount(label, minlength=_CLASSES)
    over_time = np.empty((len(means), _CLASSES))
    for k, whole in enumerate(means):
        frame = np.asarray(level[k : k + 1])[0][wanted].astype(np.float64) - whole
        over_time[k] = np.bincount(label, frame, _CLASSES) / np.maximum(count, 1)
    return np.asarray(over_time.var(axis=0, ddof=1))


def _around(image: Floats) -> Floats:
    """Mean of the four neighbours of every pixel."""
    padded = np.pad(image, 1, mode="reflect")
    return np.asarray((padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]) / 4)


def _squared_differences(frame: Floats) -> Floats:
    """Square of the second difference along y and x; its mean is the variance of white noise."""
    r = np.zeros_like(frame)
    along = frame[:-2] - 2 * frame[1:-1] + frame[2:]
    r[1:-1, 1:-1] = along[:, :-2] - 2 * along[:, 1:-1] + along[:, 2:]
    return np.asarray(r * r / 36)


def _fit(levels: list[_Level], noise: str) -> Sensitivity:
    """Weighted line through the classes of the levels below saturation."""
    reasons: list[Reason] = []
    used = _below_saturation(levels, reasons)
    count, total, squares = (
        np.concatenate([getattr(v, name) for v in used]) for name in ("count", "mean", "variance")
    )
    freedom = np.repeat([level.freedom for level in used], _CLASSES)
    whole = _line(count.sum(1), total.sum(1), squares.sum(1), freedom)
    gain, x0, mean, variance, weight = whole
    lines = [
        _line(
            count.sum(1) - count[:, k], total.sum(1) - total[:, k], squares.sum(1) - squares[:, k], freedom
        )[:2]
        for k in range(GROUPS)
    ]
    gain_error, x0_error = (jackknife_error(np.array(column)) for column in zip(*lines, strict=True))
    error = np.where(weight > 0, 1 / np.sqrt(np.maximum(weight, 1e-300)), 0.0)
    keep = weight > 0
    order = np.flatnonzero(keep)[np.argsort(mean[keep])]
    curve = TransferCurve(mean[order], variance[order], error[order], (count.sum(1) * freedom)[order])
    reasons += _judge(levels, used, gain, gain_error, x0, curve, noise)
    half, x0_half = T_QUANTILE * math.hypot(gain_error, 0.001 * gain), T_QUANTILE * x0_error
    darkest = float(curve.mean[0])
    return Sensitivity(
        conversion_gain=gain,
        zero_level=x0,
        variance_intercept=x0,
        read_noise=0.0,
        conversion_gain_interval=(gain - half, gain + half),
        zero_level_interval=(x0 - x0_half, max(darkest, x0 + x0_half)),
        variance_intercept_interval=(x0 - x0_half, x0 + x0_half),
        verdict=verdict_of(tuple(reasons)),
        reasons=tuple(reasons),
        transfer_curve=curve,
        method="flats",
        zero_level_method="variance intercept",
        used_fraction=len(used) / len(levels),
    )


def _line(
    count: Floats, total: Floats, squares: Floats, freedom: Floats
) -> tuple[float, float, Floats, Floats, Floats]:
    """Gain, x₀, and mean, variance and weight of every class."""
    n = np.maximum(count, 1e-300)
    mean, variance = total / n, squares / n
    floor = max(1e-6 * float(variance.max()), 1e-30)
    fitted = np.maximum(variance, floor)
    gain, x0 = math.nan, math.nan
    for _ in range(4):
        weight = count * freedom / (2 * fitted**2)
        middle, height = (float(np.average(v, weights=weight)) for v in (mean, variance))
        spread = float(np.sum(weight * (mean - middle) ** 2))
        if not spread > 0:
            return math.nan, math.nan, mean, variance, weight
        gain = float(np.sum(weight * (mean - middle) * (variance - height))) / spread
        x0 = middle - height / gain if gain else math.nan
        if not gain > 0:
            break
        fitted = np.maximum(gain * (mean - x0), floor)
    return gain, x0, mean, variance, weight


def _below_saturation(levels: list[_Level], reasons: list[Reason]) -> list[_Level]:
    """The levels up to 70 % of saturation, where the variance is largest; all of them if none saturates."""
    ordered = sorted(levels, key=lambda level: level.point()[0])
    means, variances = np.array([level.point() for level in ordered]).T
    peak = int(np.argmax(variances))
    falls = variances[-1] < 0.9 * variances[peak] and peak < len(ordered) - 1
    clipped = [level.clipped for level in ordered]
    if not (falls or any(clipped)):
        return ordered
    saturation = means[peak]
    if any(clipped):
        saturation = min(saturation, means[clipped.index(True)])
    limit = means[0] + _LINEAR_RANGE * (saturation - means[0])
    used = [
        level for level, mean, cut in zip(ordered, means, clipped, strict=True) if mean <= limit and not cut
    ]
    if not used:
        reasons.append(Reason("clipped_high_everywhere", "every level of light is clipped.", "refusal"))
        return ordered
    reasons.append(
        Reason(
            "saturated",
            f"the detector saturates near {saturation:.4g}; {len(ordered) - len(used)} of {len(ordered)} "
            f"levels, above {100 * _LINEAR_RANGE:.0f} % of that, were left out.",
        )
    )
    return used


def _judge(
    levels: list[_Level],
    used: list[_Level],
    gain: float,
    gain_error: float,
    x0: float,
    curve: TransferCurve,
    noise: str,
) -> Iterable[Reason]:
    contrast = float(np.ptp(curve.mean)) / max(float(curve.mean[-1]) - x0, 1e-300) if gain > 0 else 0.0
    if not gain > 3 * gain_error:
        yield Reason(
            "no_shot_noise",
            "the noise does not grow with brightness: the levels of light are too alike, or the detector is "
            "not linear.",
            "refusal",
        )
    elif gain_error > _LARGEST_GAIN_ERROR * gain:
        yield Reason(
            "imprecise_gain",
            f"the gain is known to ± {100 * T_QUANTILE * gain_error / gain:.0f} % only; more levels of "
            "light, or more frames of each, would help.",
            "refusal",
        )
    elif len(used) < 3 and contrast < 0.5:
        yield Reason(
            "too_few_levels",
            f"{len(used)} levels of light span {100 * contrast:.0f} % of the brightest, too little to "
            "show that the detector is linear.",
            "caution",
        )
    if gain > 0:
        line = gain * (curve.mean - x0)
        sure = np.abs(curve.variance - line) > _SURE * curve.standard_error
        # Near darkness the variance is small, and so is what a departure there matters.
        scale = np.maximum(line, _BENT * line.max())
        bent = float(np.max((np.abs(curve.variance - line) / scale)[sure], initial=0.0))
        if bent > _BENT:
            yield Reason(
                "curved",
                f"variance against mean is up to {100 * bent:.0f} % off a line: the detector is not "
                "linear, or the light was not steady.",
                "refusal" if bent > _VERY_BENT else "caution",
            )
    if noise == "space":
        yield Reason(
            "spatial_noise",
            "noise was told from the differences between neighbouring pixels, which structure of the light "
            "and uneven pixels add to.",
            "caution",
        )
