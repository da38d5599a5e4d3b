"""A zero level that wanders over the field: the slope is taken within patches.

Between patches of the field, what differs may be the zero level and not the light: the bias of a camera that
wanders by a few electrons, or a background that was taken off. The slope within patches is free of it, and
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

from anscombe_transform.calibration.checks import gain_over_field
from anscombe_transform.calibration.line import (
    Bools,
    Floats,
    Line,
    NoLine,
    Samples,
    fit_line,
    jackknife_error,
)
from anscombe_transform.calibration.statistics import CLASSES

# Standard errors, and part of the gain, by which the slope within patches must differ from the whole one.
_ERRORS, _LEAST = 3.0, 0.02
# Least precise relative gain, as a standard error, that the slope within patches is taken with.
_MOST_ERROR = 0.03
_TURNS = 5
# Tiles that tell the slope within tiles.
_FEWEST_TILES = 8
# Patches of which a correlation is taken.
_FEWEST_PATCHES = 16


def offsets_wander(samples: Samples, line: Line, usable: Bools) -> bool:
    """Whether the slope within patches is another than that of the whole field, and known well enough.

    If the gain varies, it is that which makes patches differ.
    """
    if not line.offsets.patch or gain_over_field(samples, line, within=True).uneven:
        return False
    found = fit_within_patches(samples, usable)
    if found is None:
        return False
    within = found[1]
    difference = within.gain - line.gain
    error = jackknife_error(within.gains - line.gains)
    return bool(
        within.gain_error < _MOST_ERROR * within.gain
        and abs(difference) > max(_ERRORS * error, _LEAST * within.gain)
    )


def fit_within_patches(samples: Samples, usable: Bools) -> tuple[Samples, Line] | None:
    """Samples without the offsets of their patches, and the line of the slope within patches.

    None where the patches hold too little contrast.
    """
    gain = _slope_within_tiles(samples, usable)
    if gain is None:
        return None
    line: Line | None = None
    for _ in range(_TURNS):
        rows = usable if line is None else line.used
        weight = samples.n * rows if line is None else line.weight * rows
        offset = _offsets(samples, gain, weight)
        levelled = replace(samples, x=samples.x - offset, q=samples.q - offset, level=offset)
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
    """Offset of each row's tile, about their mean over the field, from what mean and variance imply.

    Means over patches, linear in between.
    """
    from scipy.ndimage import map_coordinates

    (rows, columns), (high, wide) = samples.grid, samples.patches
    shape = (-(-rows // high), -(-columns // wide))
    zero = samples.x - samples.y / gain
    middle = float(np.average(zero, weights=weight))
    total, offset = (
        np.bincount(samples.patch, weight * v, math.prod(shape)) for v in (np.ones_like(zero), zero - middle)
    )
    knots = np.asarray(offset / np.where(total > 0, total, 1.0), np.float64).reshape(shape)
    y, x = (
        (place - (side - 1) / 2) / side
        for place, side in ((samples.tile // columns, high), (samples.tile % columns, wide))
    )
    return np.asarray(map_coordinates(knots, [y, x], order=1, mode="nearest"), np.float64)
