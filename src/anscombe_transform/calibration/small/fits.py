"""Fits of the photon transfer line to few pixels: by every filter, with the instrument that suits it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from anscombe_transform.calibration.line.transfer import (
    Line,
    NoLine,
    Samples,
    fit_line,
    has_offsets,
    instrumental_line,
    jackknife_error,
    jackknife_groups,
    jackknife_line,
)
from anscombe_transform.calibration.result.constants import GROUPS
from anscombe_transform.calibration.small.sums import Axes, Table, across, mean_of_finite
from anscombe_transform.native.arrays import Bools, Floats, Integers

Kind = Literal["time", "within", "space"]

# Units (pixels, or blocks of time) of which a jackknife can be made.
_LEAST_UNITS = 2 * GROUPS
_LEAST_PLACES = 120
# Relative error of the gain up to which an instrument that fixed offsets do not bias is taken as it is.
_PRECISE = 0.015
# Fixed offset of a pixel, in photons, that is allowed for where no such instrument is precise.
_OFFSET = 1.0
# One-sided quantile of a normal law at which a stronger filter replaces a weaker one (Hausman's test).
_STRONGER, _STRONGER_STILL = 2.33, 0.7
# Parts of the structure that a stronger filter finds, and of what the chosen one took, in the interval.
_LEFT_OF_FOUND, _LEFT_OF_TAKEN = 0.5, 0.15
# Relative bias that the estimate may have where nothing moves, as in large fields.
_BIAS = 0.001
# Standard errors by which brightness must change.
_SURE_CONTRAST = 4.0


@dataclass(frozen=True)
class Fit:
    """One filter with one instrument: the rows, their line and the gain's relative error."""

    axes: Axes
    kind: Kind
    samples: Samples
    usable: Bools
    line: Line
    gain_error: float
    x0_error: float
    by_time: Floats
    rows: Bools
    systematic: float = 0.0

    @property
    def relative_error(self) -> float:
        """Standard error of the gain, as a part of it."""
        return self.gain_error / abs(self.line.gain) if self.line.gain else math.inf


def best_instrument(table: Table, axes: Axes, usable: Bools) -> Fit | None:
    """The fit of a filter: with an instrument that offsets do not bias, if that is precise enough."""
    fits: dict[Kind, Fit] = {}
    for kind in get_args(Kind):
        fit = _fit(table, axes, kind, usable)
        if fit is not None:
            fits[kind] = fit
    if table.mean[0].size == 1:
        # A single pixel has one offset.
        return fits.get("time")
    free = [fit for kind, fit in fits.items() if kind != "time" and fit.line.gain > 0]
    robust = min(free, key=lambda fit: fit.relative_error, default=None)
    pooled = fits.get("time")
    if robust is None or pooled is None:
        return robust if pooled is None else _with_offsets(pooled, math.inf)
    if robust.relative_error <= _PRECISE or pooled.relative_error > 0.7 * robust.relative_error:
        return robust
    difference = abs(pooled.line.gain - robust.line.gain)
    if difference > 2 * math.sqrt(max(robust.gain_error**2 - pooled.gain_error**2, 0.0)):
        return robust
    return _with_offsets(pooled, robust.relative_error)


def weakest_without_structure(fits: list[Fit]) -> Fit:
    """The weakest filter with a gain that no stronger one contradicts: structure only ever adds variance."""
    chosen, quantile = fits[0], _STRONGER
    for stronger in fits[1:]:
        if stronger.relative_error > 3 * max(chosen.relative_error, _PRECISE):
            continue
        difference = chosen.line.gain - stronger.line.gain
        by_time: Floats = np.subtract(chosen.by_time, stronger.by_time)
        paired = jackknife_error(by_time)
        error = max(paired, math.sqrt(max(stronger.gain_error**2 - chosen.gain_error**2, 0.0)))
        if difference > quantile * error:
            # Something moves: less is asked of the next filter.
            chosen, quantile = stronger, _STRONGER_STILL
    return replace(chosen, systematic=math.hypot(chosen.systematic, _structure_left(chosen, fits)))


def _with_offsets(fit: Fit, most: float) -> Fit:
    """A fit to pixels of unknown offsets, with their possible effect on its gain as a systematic error.

    Offsets of variance s² lower the slope by s² / Var(x); `most` is the error of an instrument without them.
    """
    line = fit.line
    used = line.used
    spread = float(np.cov(line.instrument[used], aweights=line.weight[used]))
    bias = (_OFFSET * line.gain) ** 2 / max(spread, 1e-30)
    return replace(fit, systematic=math.hypot(fit.systematic, min(bias, most)))


def _fit(table: Table, axes: Axes, kind: Kind, usable: Bools) -> Fit | None:
    """Fit the rows of one filter; None where they determine no line."""
    part = table.parts[axes]
    blocks, height, width = part.x.shape
    q = _space_instrument(table.mean, axes) if kind == "space" else time_instrument(table)
    if kind != "space" and axes:
        # Weighted over pixels as the filter's square is.
        for axis in axes:
            q = across(q, (1 / 6, 4 / 6, 1 / 6), axis)
    n = part.n.ravel()
    rows = usable & np.isfinite(part.y.ravel()) & np.isfinite(q.ravel()) & (2 * n >= n.max(initial=0))
    if np.count_nonzero(rows) < 60:
        return None
    block, pixel = (
        np.broadcast_to(number, part.x.shape).ravel()[rows]
        for number in (np.arange(blocks)[:, None, None], np.arange(height * width).reshape(height, width))
    )
    pixels = np.unique(pixel)
    by_pixel = len(pixels) >= _LEAST_UNITS
    # Places are pixels, of few pixels in several parts of the movie: the line starts from their medians.
    eras = -(-_LEAST_PLACES // len(pixels))
    segment = {"space": block, "within": pixel, "time": np.zeros_like(pixel)}[kind]
    samples = Samples(
        x=part.x.ravel()[rows],
        y=part.y.ravel()[rows],
        q=q.ravel()[rows],
        n=n[rows],
        tile=pixel if by_pixel else block,
        place=np.unique(pixel * eras + block * eras // blocks, return_inverse=True)[1],
        segment=np.unique(segment, return_inverse=True)[1],
        correlation=_correlation(table.order, float(n.max())) * 1.944 ** len(axes),
        grid=(height, width) if by_pixel else (1, 1),
    )
    everything = np.ones(len(samples.x), bool)
    if kind == "within":
        offset = _offsets_of_pixels(samples)
        samples = replace(samples, x=samples.x - offset, q=samples.q - offset)
    try:
        with np.errstate(all="ignore"):
            line = fit_line(samples, everything)
            if kind == "space" and by_pixel and has_offsets(samples, line):
                samples = replace(samples, shifted=True)
                line = fit_line(samples, everything)
    except NoLine:
        return None
    if not _has_contrast(samples, line):
        return None
    used = line.used
    weighted = (
        samples.x[used],
        samples.y[used],
        line.instrument[used],
        line.weight[used],
        samples.segment[used],
    )
    with np.errstate(all="ignore"):
        by_time, x0_by_time = jackknife_line(*weighted, _time_groups(block)[used])
    errors = [(line.gain_error, line.x0_error)] if by_pixel else []
    if blocks >= 2:
        errors.append((jackknife_error(by_time), jackknife_error(x0_by_time)))
    gain_error, x0_error = (max(e[k] for e in errors) for k in (0, 1))
    if not (math.isfinite(gain_error) and math.isfinite(x0_error)):
        return None
    return Fit(
        axes,
        kind,
        samples,
        everything,
        line,
        gain_error,
        x0_error,
        by_time,
        rows,
        systematic=_BIAS,
    )


def _offsets_of_pixels(samples: Samples) -> Floats:
    """Fixed offset of each row's pixel about their mean, as far as chance does not explain it.

    From the slope g within pixels, a pixel of mean x and variance y has the zero x − y/g in any light.
    A constant of each pixel leaves the slope within pixels as it is; without it, rows of equal variance would
    not be of equal brightness, and be taken for defective.
    """
    pixel = samples.segment
    n = np.bincount(pixel, samples.n)
    x, y = (np.bincount(pixel, samples.n * v) / n for v in (samples.x, samples.y))
    weight = samples.n / np.maximum(y[pixel], 1e-30) ** 2
    slope, _ = instrumental_line(samples.x, samples.y, samples.q, weight, pixel)
    if not (math.isfinite(slope) and slope > 0 and len(n) > 2):
        return np.zeros(len(samples.x))
    zero = x - y / slope
    zero -= np.average(zero, weights=n)
    chance = samples.variance_of_variance(y, slope) / n / slope**2
    between = max(float(np.var(zero)) - float(chance.mean()), 0.0)
    return np.asarray((zero * between / (between + chance))[pixel], np.float64)


def _time_groups(block: Integers) -> Integers:
    """Groups of blocks, scattered over the movie."""
    return jackknife_groups(block)


def _correlation(order: int, n: float) -> float:
    """Sum of squared autocorrelations of n residuals of differences over time."""
    correlations = (-2 / 3, 1 / 6) if order == 2 else (-1 / 2,)
    return 1 + 2 * sum(max(0.0, 1 - lag / n) * c * c for lag, c in enumerate(correlations, start=1))


def _has_contrast(samples: Samples, line: Line) -> bool:
    """Whether brightness varies: the instrument, with independent noise, predicts the mean."""
    used = line.used
    x, q, w = samples.x[used], line.instrument[used], line.weight[used]
    moment = samples.segment[used]
    total = np.bincount(moment, w)
    dx, dq = (v - (np.bincount(moment, w * v) / np.where(total > 0, total, 1))[moment] for v in (x, q))
    group = jackknife_groups(samples.tile)[used]
    sums = np.asarray(np.bincount(group, w * dx * dq, GROUPS), np.float64)
    common = float(sums.sum())
    scatter = jackknife_error(common - sums)
    return bool(common > _SURE_CONTRAST * scatter)


def _structure_left(chosen: Fit, fits: list[Fit]) -> float:
    """Part of the gain that structure may still make, from the gains of stronger and weaker filters."""
    gain = chosen.line.gain
    left = max(
        (
            gain - fit.line.gain
            for fit in fits
            if len(fit.axes) > len(chosen.axes) and gain - fit.line.gain > fit.gain_error
        ),
        default=0.0,
    )
    taken = max(fit.line.gain - gain for fit in fits if len(fit.axes) <= len(chosen.axes))
    return math.hypot(_LEFT_OF_FOUND * left, _LEFT_OF_TAKEN * taken) / abs(gain)


def time_instrument(table: Table) -> Floats:
    """Mean of the same pixel in the blocks beside, of the same run."""
    mean, run = table.mean, table.run
    beside = np.full((2, *mean.shape), np.nan)
    same = run[1:] == run[:-1]
    beside[0, 1:][same] = mean[:-1][same]
    beside[1, :-1][same] = mean[1:][same]
    return mean_of_finite(np.moveaxis(beside, 0, 1))


def _space_instrument(mean: Floats, axes: Axes) -> Floats:
    """Mean of the pixels nearby that the filter does not touch, in the same block."""
    height, width = mean.shape[1:]
    reach_y, reach_x = (1 if axis in axes else 0 for axis in (1, 2))
    near = []
    for dy in range(-reach_y - 1, reach_y + 2):
        for dx in range(-reach_x - 1, reach_x + 2):
            outside = abs(dy) > reach_y or abs(dx) > reach_x
            if not outside or abs(dy) >= height or abs(dx) >= width:
                continue
            moved = np.full_like(mean, np.nan)
            to_y, from_y = _overlap(dy, height)
            to_x, from_x = _overlap(dx, width)
            moved[:, to_y, to_x] = mean[:, from_y, from_x]
            near.append(moved)
    return mean_of_finite(np.stack(near, axis=1)) if near else np.full_like(mean, np.nan)


def _overlap(shift: int, side: int) -> tuple[slice, slice]:
    """Where samples go, and where they come from, if each is seen `shift` pixels away."""
    return slice(max(0, -shift), side - max(0, shift)), slice(max(0, shift), side - max(0, -shift))
