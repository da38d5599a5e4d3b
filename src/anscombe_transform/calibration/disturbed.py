"""Lines of rows of which some are disturbed: by motion, noisy pixels, an uneven gain, a bend of the curve."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from anscombe_transform.calibration.checks import GainOverField, curvature, gain_over_field
from anscombe_transform.calibration.filters import MARGINAL, SamplesBy, kept_variance
from anscombe_transform.calibration.line import (
    Bools,
    Floats,
    Integers,
    Line,
    NoLine,
    Samples,
    fit_line,
    jackknife_error,
)
from anscombe_transform.calibration.statistics import Filter

# Parts of the pixels, the brightest left out, that are tried for a straight line.
_STRAIGHT_PARTS = (0.98, 0.95, 0.9, 0.8, 0.65, 0.5)
# Standard errors by which the gain must fall where rows are left out at all brightnesses alike.
_NOISY_PIXELS = 1.5
# Part of the rows that is kept where the scene moves: those of the quietest tiles.
_QUIET_SHARE = 0.6
# Standard error of what one filter, or two together, see more than a stronger one, in standard errors of the
# latter, for independent normal noise: with c = 1.944 for an axis, √((c - 1) / c) and √(4 - 6 / c + 2 / c²).
_ERROR_SEEN = {1: 0.70, 2: 1.20}
# Times that the gain's variation over the field is taken out.
_EVENINGS = 4


def quiet_rows(
    samples_by: SamplesBy,
    lines: dict[Filter, Line],
    kept: dict[str, float],
    chosen: Filter,
    usable: Bools,
) -> Bools:
    """Rows of the tiles that move least, judged by the other half segments of the same tile.

    Where the scene moves, even the strongest filter leaves something at the sharpest edges. What weaker
    filters see more than the strongest in the same tile tells where that is, whatever the gain is there;
    taken from other frames, it is independent of the row's own noise and selects no row for being low by
    chance. All are kept where no more is seen than chance explains.
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


def of_noisy_pixels(samples: Samples, line: Line, usable: Bools) -> tuple[Samples, Line, float]:
    """Leave rows out at all brightnesses alike, if that gives a gain lower by more than chance.

    Some pixels have more read noise than others. They stand out where it is dark, and to leave them out there
    alone makes the line steeper. What else adds variance does so where there is light, and is better left out
    as far as it shows; either way too much is left in, so that the lower gain is the right one. Returned is
    also the relative error of the gain, where the difference may be chance.
    """
    even = replace(samples, even=True)
    try:
        found = fit_line(even, usable)
    except NoLine:
        return samples, line, 0.0
    more, error = line.gain - found.gain, jackknife_error(line.gains - found.gains)
    unsure = 0.5 * max(more, 0.0) / max(abs(line.gain), 1e-30) if more < MARGINAL * error else 0.0
    if more > _NOISY_PIXELS * error and found.gain_error < 3 * line.gain_error:
        return even, found, unsure
    return samples, line, unsure


def of_even_gain(
    samples: Samples, line: Line, field: GainOverField, usable: Bools
) -> tuple[Samples, Line, GainOverField]:
    """Rows as a detector of the mean gain would have given them, where the gain varies, and their line.

    What an uneven gain had made look like no noise comes in once it is evened out, so that this is repeated.
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

    Detectors are linear at low light and bend at high light, by dead time or saturation; what moves adds
    variance where there is light to move. Returns the line and the mean up to which it was read: infinite if
    all of it.
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
    departure, significance = curvature(samples, line)
    return departure > 0.02 and abs(significance) > 4
