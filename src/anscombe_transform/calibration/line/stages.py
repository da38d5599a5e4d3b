"""Corrections of a fitted line: motion, an uneven gain, a bend, offsets that wander.

Parts of the field may differ in zero level and not in light: the bias of a camera that
wanders by a few electrons, or a background that was taken off. The slope within tiles is free of it, and
less precise. The two are compared as Hausman [1] compares an efficient estimate with one that is right under
fewer assumptions: by the jackknife error of their difference.

References
----------
1. J. A. Hausman, "Specification tests in econometrics", Econometrica 46 (1978) 1251-1271.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from anscombe_transform.calibration.line.checks import GainOverField, curvature, gain_over_field
from anscombe_transform.calibration.line.filters import SamplesBy, kept_variance
from anscombe_transform.calibration.line.transfer import (
    Line,
    NoLine,
    Samples,
    fit_line,
    jackknife_error,
    jackknife_line,
)
from anscombe_transform.calibration.result.constants import GROUPS
from anscombe_transform.calibration.sums.statistics import CLASSES, Filter
from anscombe_transform.calibration.thresholds import THRESHOLDS
from anscombe_transform.native.arrays import Bools, Floats, Integers

# Parts of the pixels, the brightest left out, that are tried for a straight line.
_STRAIGHT_PARTS = (0.98, 0.95, 0.9, 0.8, 0.65, 0.5)
# Part of the rows that is kept where the scene moves: those of the quietest tiles.
_QUIET_SHARE = 0.6
# Standard error of what one filter, or two together, see more than a stronger one, in standard errors of the
# latter, for independent normal noise: with c = 1.944 for an axis, √((c - 1) / c) and √(4 - 6 / c + 2 / c²).
_ERROR_SEEN = {1: 0.70, 2: 1.20}
# Times that the gain's variation over the field is taken out.
_EVENINGS = 4
# Standard errors, and part of the gain, by which the slope within tiles must differ from the whole one.
# There must be more of them where offsets of patches do not show by themselves, or explain less than a part.
_ERRORS, _ERRORS_UNSEEN, _LEAST, _LEAST_EXPLAINED = 3.0, 5.0, 0.02, 1 / 15
# Least precise relative gain, as a standard error, that the slope within tiles is taken with.
_MOST_ERROR = 0.05
_TURNS = 6
# Part of the spread of offsets that is between classes, and not within, where the scene sorts the pixels.
_BETWEEN_CLASSES = 0.85
# Largest part of the contrast within tiles that may be offsets.
_MOST_FLATTENED = 0.3
# Tiles that tell the slope within tiles.
_FEWEST_TILES = 8
# Patches of which a correlation is taken.
_FEWEST_PATCHES = 16


def quiet_rows(
    samples_by: SamplesBy,
    lines: dict[Filter, Line],
    kept: dict[str, float],
    chosen: Filter,
    usable: Bools,
) -> Bools:
    """Rows of the tiles that move least, judged by the other half segments of the same tile.

    Where the scene moves, even the strongest filter leaves something at the sharpest edges. The surplus of
    weaker filters over the strongest in the same tile locates it, at any gain; taken from other frames, it is
    independent of the row's own noise and selects no row for being low by chance. All are kept where no more
    is seen than chance explains.
    """
    strongest: Filter = "txy" if "txy" in lines else chosen
    weaker: list[Filter] = ["ty", "tx"] if strongest == "txy" else ["t"]
    least, line = samples_by(strongest), lines[chosen]
    tile, segment, n = least.tile, least.segment, least.n
    if chosen == "t" or segment.max() < 1:
        return usable
    seen = np.zeros(len(n))
    for name in weaker:
        more = samples_by(name)
        seen += (more.y / kept_variance(name, kept)) - least.y / kept_variance(strongest, kept)
        seen -= line.gain * (more.x - least.x)
    law = _ERROR_SEEN[len(weaker)] * np.sqrt(least.variance_of_variance(line.variance, line.gain))
    seen, variance, law = (_of_other_segments(v, n, tile, segment) for v in (seen, line.variance, law))
    rest = np.bincount(tile, n)[tile] - n
    chance = law / np.sqrt(np.maximum(rest, 1.0))
    share = float(np.quantile((seen / variance)[usable], _QUIET_SHARE))
    return np.asarray(usable & (seen / variance <= np.maximum(share, 2 * chance / variance)))


def _of_other_segments(values: Floats, n: Floats, tile: Integers, segment: Integers) -> Floats:
    """Mean over a tile's rows in all half segments but the row's own."""
    own = segment * (int(tile.max()) + 1) + tile
    of_tile, of_own = (np.bincount(k, n * values)[k] for k in (tile, own))
    n_tile, n_own = (np.bincount(k, n)[k] for k in (tile, own))
    rest = n_tile - n_own
    return np.where(rest > 0, (of_tile - of_own) / np.where(rest > 0, rest, 1.0), np.inf)


def fit_quiet(samples: Samples, line: Line, quiet: Bools) -> Line:
    """Fit the line to quiet rows only, unless they are too few to tell."""
    if quiet.all():
        return line
    try:
        found = fit_line(samples, quiet)
    except NoLine:
        return line
    return found if found.gain_error < max(0.022 * abs(found.gain), 1.5 * line.gain_error) else line


def of_even_gain(
    samples: Samples, line: Line, field: GainOverField, usable: Bools
) -> tuple[Samples, Line, GainOverField]:
    """Rows as a detector of the mean gain would have given them, where the gain varies, and their line.

    Rows that an uneven gain had excluded come in once it is evened out, so this is repeated.
    """
    relative, evened = field.relative, samples
    for left in reversed(range(_EVENINGS)):
        relative = relative / relative.mean()
        evened = replace(samples, y=samples.y / relative)
        try:
            line = fit_line(evened, usable)
        except NoLine:
            return samples, line, replace(field, relative=np.ones_like(relative))
        if left:
            relative = relative * gain_over_field(evened, line).relative
    return evened, line, replace(field, relative=relative)


def straight_part(samples: Samples, line: Line, usable: Bools) -> tuple[Line, float]:
    """Keep to the dark part of a bent curve, up to where it is straight.

    Detectors are linear at low light and bend at high light, by dead time or saturation; motion adds variance
    where there is light to move. Returns the line and the mean up to which it was read: infinite if all of
    it.
    """
    if not _bent(samples, line):
        return line, math.inf
    for part in _STRAIGHT_PARTS:
        limit = float(np.quantile(line.instrument[line.used], part))
        try:
            shorter = fit_line(samples, usable & (line.instrument <= limit))
        except NoLine:
            break
        if shorter.gain_error > 0.03 * abs(shorter.gain):
            break
        if not _bent(samples, shorter):
            return shorter, limit
    return line, math.inf


def _bent(samples: Samples, line: Line) -> bool:
    return THRESHOLDS["bent_above"].severity(*curvature(samples, line)) is not None


def offsets_wander(samples: Samples, line: Line, usable: Bools) -> bool:
    """Whether the slope within tiles is steeper than that of the whole field, and known well enough.

    If the gain varies, it is that which makes patches differ.
    """
    if not line.offsets or gain_over_field(samples, line, within=True).uneven:
        return False
    found = fit_within_tiles(samples, usable)
    if found is None:
        return False
    within = found[1]
    difference = within.gain - line.gain
    error = jackknife_error(within.gains - line.gains)
    # Offsets of variance τ² take τ² / Var(q) of the slope: those seen must explain a part of the difference.
    weight = line.weight * line.used
    explained = line.offsets.patch / line.gain**2 / float(np.cov(samples.q, aweights=weight))
    seen = explained > _LEAST_EXPLAINED * difference / within.gain
    # Offsets only ever make the whole slope lower; a gain that varies over the field makes it higher.
    return bool(
        within.gain_error < _MOST_ERROR * within.gain
        and difference > max((_ERRORS if seen else _ERRORS_UNSEEN) * error, _LEAST * within.gain)
    )


def fit_within_tiles(samples: Samples, usable: Bools) -> tuple[Samples, Line] | None:
    """Samples without the offsets of their tiles, and the line of the slope within tiles.

    None where the tiles hold too little contrast.
    """
    gain = _slope_within_tiles(samples, usable)
    if gain is None:
        return None
    line: Line | None = None
    for _ in range(_TURNS):
        rows = usable if line is None else line.used
        weight = samples.n * rows if line is None else line.weight * rows
        zero = _offsets(samples, gain, weight)
        # About the mean of the tiles: the line's zero level is that of the field, not of its dark parts.
        offset = np.nan_to_num(zero - np.nanmean(zero)).ravel()[samples.tile]
        levelled = replace(samples, x=samples.x - offset, q=samples.q - offset, level=offset)
        if line is not None:
            levelled = replace(levelled, flattened=_part_of_contrast(replace(levelled, x=samples.x), line))
        try:
            line = fit_line(levelled, usable)
        except NoLine:
            return None
        if not line.gain > 0:
            return None
        settled = abs(line.gain - gain) < 1e-3 * line.gain
        gain = line.gain
        if settled:
            break
    return None if line is None else (levelled, line)


def offsets_against_light(samples: Samples, line: Line) -> tuple[float, float]:
    """Correlation of the patches' offsets with their light, and its deviate from 0 (Student's t).

    The bias of a camera is independent of the scene. After a background was taken off, offsets are lowest
    where the scene was brightest. Offsets and light are of different moments, so they share no noise.
    """
    if not line.offsets.patch and samples.level is None:
        return 0.0, 0.0
    level = 0.0 if samples.level is None else samples.level
    weight = line.weight * line.used
    zero, light = samples.x + level - samples.y / line.gain, samples.y / line.gain
    patches = int(samples.patch.max()) + 1
    means, seen = [], np.ones(patches, bool)
    for half, values in ((0, zero), (1, light)):
        some = weight * (samples.segment % 2 == half)
        total = np.bincount(samples.patch, some, patches)
        seen &= total > 0
        means.append(np.bincount(samples.patch, some * values, patches) / np.where(total > 0, total, 1.0))
    offset, light = (mean[seen] for mean in means)
    if len(light) < _FEWEST_PATCHES or np.ptp(offset) == 0 or np.ptp(light) == 0:
        return 0.0, 0.0
    r = float(np.corrcoef(offset, light)[0, 1])
    return r, r * math.sqrt((len(light) - 2) / max(1 - r * r, 1e-12))


def error_of_offsets(samples: Samples, line: Line) -> float:
    """Standard error of the field's zero level by offsets: the line sees that of the places that weigh most.

    The offsets of places are independent, so that their mean has an error; those of a patch are not of other
    patches', and dark parts of the field may have any of them.
    """
    if not line.offsets or not line.gain > 0:
        return 0.0
    weight = np.bincount(samples.place, line.weight * line.used)
    places = float(weight.sum()) ** 2 / float(np.square(weight).sum())
    return math.sqrt(line.offsets.place / places + line.offsets.patch) / line.gain


def error_of_columns(samples: Samples, line: Line) -> float:
    """Relative error of the gain where offsets are those of whole columns or rows, beyond the line's own.

    By the jackknife that leaves out columns, or rows, of tiles at once: shared offsets are in all groups of
    scattered tiles.
    """
    if not samples.shifted:
        return 0.0
    used, columns = line.used, samples.grid[1]
    errors = []
    for number, count in ((samples.tile % columns, columns), (samples.tile // columns, samples.grid[0])):
        gains, _ = jackknife_line(
            samples.x[used],
            samples.y[used],
            line.instrument[used],
            line.weight[used],
            samples.block[used],
            (number * GROUPS // max(count, GROUPS))[used],
            samples.flattened,
        )
        errors.append(jackknife_error(gains))
    return math.sqrt(max(max(errors) ** 2 - line.gain_error**2, 0.0)) / abs(line.gain)


def _slope_within_tiles(samples: Samples, usable: Bools) -> float | None:
    """Median over tiles of the slope from their darkest to their brightest class; None if there is none."""
    places = (int(samples.tile.max()) + 1) * CLASSES
    n = np.bincount(samples.place, usable * samples.n, places)
    with np.errstate(invalid="ignore", divide="ignore"):
        q, x, y = (
            (np.bincount(samples.place, usable * samples.n * v, places) / n).reshape(-1, CLASSES)
            for v in (samples.q, samples.x, samples.y)
        )
    contrast = q[:, -1] - q[:, 0]
    some = np.isfinite(contrast)
    if np.count_nonzero(some) < _FEWEST_TILES:
        return None
    # Of the half of the tiles that have most contrast: in the others it may be chance.
    some &= contrast >= np.median(contrast[some])
    run, rise = x[some, -1] - x[some, 0], y[some, -1] - y[some, 0]
    slope = float(np.median(rise[run > 0] / run[run > 0])) if (run > 0).any() else 0.0
    return slope if slope > 0 else None


def _offsets(samples: Samples, gain: float, weight: Floats) -> Floats:
    """Zero level of every tile (row, column) from mean and variance; NaN where no row counts."""
    total, zero = (
        np.bincount(samples.tile, weight * v, math.prod(samples.grid))
        for v in (np.ones_like(samples.x), samples.x - samples.y / gain)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((zero / total).reshape(samples.grid), np.float64)


def _part_of_contrast(samples: Samples, line: Line) -> float:
    """Part of the contrast within tiles that is a slope of the offsets across the tile.

    By the gradient of the tiles' zero levels: a slope of s per tile spreads pixels by s² / 12, mostly between
    classes. Two estimates, from half of the moments each, are multiplied, so that their noise adds nothing.
    """
    from scipy.ndimage import median_filter

    weight = line.weight * line.used
    maps = [_offsets(samples, line.gain, weight * (samples.segment // 2 % 2 == half)) for half in (0, 1)]
    if not all(np.isfinite(m).any() for m in maps):
        return 0.0
    # Medians of 3 × 3 tiles: a hot pixel is no slope.
    filled = [median_filter(np.where(np.isfinite(m), m, np.nanmedian(m)), 3, mode="nearest") for m in maps]
    slopes = [np.gradient(m) if min(m.shape) > 1 else [np.zeros_like(m)] * 2 for m in filled]
    square = sum(a * b for a, b in zip(*slopes, strict=True)) / 12
    block, total = samples.block, np.bincount(samples.block, weight)
    mean_q, mean_x = (
        np.bincount(block, weight * v) / np.where(total > 0, total, 1.0) for v in (line.instrument, samples.x)
    )
    contrast = float((weight * (line.instrument - mean_q[block]) * (samples.x - mean_x[block])).sum())
    found = (
        _BETWEEN_CLASSES * float((weight * np.ravel(square)[samples.tile]).sum()) / contrast
        if contrast > 0
        else 0.0
    )
    return min(max(found, 0.0), _MOST_FLATTENED)
