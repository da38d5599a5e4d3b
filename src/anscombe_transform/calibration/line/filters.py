"""Which filter to read the line with: the weakest one that leaves no structure.

Structure only adds variance, and does so where there is light, so that a filter that leaves some finds a
higher gain than a stronger one. A filter along an axis on which neighbours share noise finds a lower one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from anscombe_transform.calibration.line.checks import Whiteness
from anscombe_transform.calibration.line.transfer import Line, NoLine, Samples, fit_line, jackknife_error
from anscombe_transform.calibration.result.sensitivity import NothingToMeasure
from anscombe_transform.calibration.sums.statistics import Filter, NoiseStatistics
from anscombe_transform.native.arrays import Bools

# Samples of a filter.
SamplesBy = Callable[[Filter], Samples]

# Lag ratios above this are taken for white noise; this many errors below 1, one is a hint that it is not.
_WHITE, _HINT = 0.97, 1.5
# Standard errors by which a weaker filter must exceed a stronger one to be given up. Low, since to stay
# with a filter that leaves structure costs more than the precision that the stronger one loses.
_DOUBT_FIRST, _DOUBT_SECOND, _DOUBT_IF_PROVEN, _PROVEN = 1.8, 2.5, 1.0, 5.0
_DOUBT_STRONGEST, _DOUBT_LEVEL, _DOUBT_ONE_AXIS = 3.0, 8.0, 3.0
# Share of rows left out that shows activity, and what is then left of these standard errors.
_ACTIVE, _DOUBT_IF_ACTIVE = 0.0005, 0.5
# The same where no row's variance is above that of the others by more than chance.
_DOUBT_IF_STILL = 1.35
# Part of the scatter of places that a filter leaves. In simulated cameras, offsets that are alike along its
# axis keep 0.85 to 1, those of single pixels 0.55 to 0.75; what moves keeps 0.4 or less.
_OFFSETS_KEPT = 0.6
# A filter taken for a difference of fewer standard errors than this may have been taken for chance.
MARGINAL = 4.0
# Standard error of a mean over frames by their weights in a half segment, in standard errors of a plain mean.
_UNEVEN_FRAMES = 0.5
# Relative bias that the estimate may have where nothing moves: means over many simulated movies are not
# farther from the truth.
_BIAS = 0.001
_STRONGER: dict[Filter, tuple[Filter, ...]] = {
    "t": ("ty", "tx"),
    "ty": ("txy",),
    "tx": ("txy",),
    "txy": (),
}
# Pairs of filters that differ by one axis.
_ALONG: dict[str, tuple[tuple[Filter, Filter], ...]] = {
    "y": (("t", "ty"), ("tx", "txy")),
    "x": (("t", "tx"), ("ty", "txy")),
}


def correlated_axes(white: Whiteness, statistics: NoiseStatistics) -> tuple[bool, bool]:
    """Whether neighbours along y, and along x, share noise."""
    limit = min(0.9 if statistics.halved else 0.75, 1 - 3 * white.error)
    return white.y < limit, white.x < limit


def kept_along(lines: dict[Filter, Line], white: Whiteness) -> dict[str, float]:
    """Part of the noise variance that filtering along an axis keeps where neighbours share a little noise.

    A second difference of weakly correlated noise is as much too small as its energy at lag 1 is below that
    at lag 2. Ratios that chance explains count as 1. What the line's slope falls by from a filter to the one
    that is stronger along this axis alone is more precise: structure makes it fall farther, never less. So it
    counts instead where it falls less, and where nothing else shows structure.
    """
    kept = {}
    slopes = {axis: _kept_of_slopes(lines, axis) for axis in "yx"}
    for axis, other, ratio, shared in zip("xy", "yx", (white.x, white.y), white.shared, strict=True):
        part = 1.0
        if ratio < min(_WHITE, 1 - 3 * white.error):
            part = ratio
        elif shared < _WHITE:
            part = shared
        slope, error = slopes[axis]
        if (
            part < 1
            and slope
            and (
                slope + 2 * error > part
                or (
                    part - slope < 2.5 * white.error
                    and slopes[other][0] > 1 - max(0.01, 3 * slopes[other][1])
                )
            )
        ):
            part = min(slope, 1.0)
        kept[axis] = part
    return kept


def _kept_of_slopes(lines: dict[Filter, Line], axis: str) -> tuple[float, float]:
    """Slope of a filter along an axis over that of the same without it, the highest, and its error.

    0 where no two filters tell.
    """
    best = (0.0, 1.0)
    for weak, strong in _ALONG[axis]:
        if weak not in lines or strong not in lines or min(lines[weak].gain, lines[strong].gain) <= 0:
            continue
        ratio = lines[strong].gain / lines[weak].gain
        if ratio > best[0]:
            best = ratio, jackknife_error(lines[strong].gains / lines[weak].gains)
    return best


def kept_variance(name: Filter, kept: dict[str, float]) -> float:
    """Part of the noise variance that a filter keeps."""
    return math.prod(part for axis, part in kept.items() if axis in name)


def axes_of_offsets(lines: dict[Filter, Line]) -> str:
    """Return the axes along which pixels have offsets in common: "x" of whole columns, "y" of rows.

    Offsets of columns are the same along y, where a filter leaves them as large as they were. The instrument
    lies in the columns beside a pixel, which a filter along x takes in: slopes fall along this axis alone.
    """
    scatter = {name: math.sqrt(line.offsets.place) for name, line in lines.items()}
    across: dict[str, Filter] = {"x": "ty", "y": "tx"}
    least = _OFFSETS_KEPT * scatter["t"]
    kept = {axis for axis, name in across.items() if scatter.get(name, 0.0) > least > 0}
    slopes = {axis: _kept_of_slopes(lines, axis) for axis in "xy"}
    falls = {axis for axis, (slope, error) in slopes.items() if 0 < slope < 1 - max(0.01, 3 * error)}
    return "".join(sorted(kept | falls if len(falls) == 1 else kept))


def doubtful_axis(lines: dict[Filter, Line], white: Whiteness, kept: dict[str, float]) -> str:
    """Return the one axis along which neighbours seem to share noise, or "".

    Both the noise's ratio of energies and the slopes of the filters hint at it; along the other axis, nothing
    does. Then what a filter along this axis finds less may be noise that it took.
    """
    hints = []
    for axis, ratio in (("x", white.x), ("y", white.y)):
        slope, error = _kept_of_slopes(lines, axis)
        if not slope:
            continue
        slope /= kept[axis]
        if kept[axis] < 1 or (ratio < 1 - _HINT * white.error and slope < 1 - max(0.01, 3 * error)):
            hints.append(axis)
    return hints[0] if len(hints) == 1 else ""


def for_whole_variance(line: Line, kept: float) -> Line:
    """Return the line of all the noise, of which its filter keeps a part."""
    return replace(line, gain=line.gain / kept, gains=line.gains / kept, variance=line.variance / kept)


def fit_filters(samples_by: SamplesBy, usable: Bools, correlated: tuple[bool, bool]) -> dict[Filter, Line]:
    """Lines of every filter that works; a filter along an axis with correlated noise would not."""
    along_y, along_x = correlated
    allowed: dict[Filter, bool] = {
        "t": True,
        "ty": not along_y,
        "tx": not along_x,
        "txy": not (along_x or along_y),
    }
    lines: dict[Filter, Line] = {}
    failure = NoLine("no filter was allowed")
    for name in (name for name, fine in allowed.items() if fine):
        samples = samples_by(name)
        try:
            lines[name] = fit_line(samples, rows_for(name, lines, usable))
            if "t" in lines and _lies_above(lines["t"], lines[name]):
                # Whose rows the weakest filter took for noise was not told by noise.
                lines["t"] = replace(lines["t"], used_fraction=0.0)
                lines[name] = fit_line(samples, usable)
        except NoLine as error:
            failure = error
    if not lines:
        raise NothingToMeasure(
            "no_contrast", f"no line of variance against brightness can be drawn: {failure}."
        )
    return lines


def rows_for(name: Filter, lines: dict[Filter, Line], usable: Bools) -> Bools:
    """Rows that a filter's fit may use: those that the weakest filter accepted, if they suffice."""
    return lines["t"].used if name != "t" and "t" in lines and _covers_most(lines["t"], usable) else usable


def _covers_most(line: Line, usable: Bools) -> bool:
    """Whether the accepted rows are most of the usable ones, over most of the range of brightness."""
    if line.used_fraction < 0.75:
        return False
    used, whole = (np.ptp(np.quantile(line.instrument[rows], [0.02, 0.98])) for rows in (line.used, usable))
    return bool(used > 0.6 * whole)


def is_active(samples: Samples, line: Line, usable: Bools) -> bool:
    """Whether rows lie above the line at some moments and not at others, as where cells are active.

    What is above it most of the time, as hot pixels are, stays the same, and what is so all over the field
    at once, as in a jolt, is left out whole. Chance leaves out none.
    """
    out = usable & ~line.used & (samples.y > line.gain * (samples.x - line.x0))
    moments = int(samples.segment.max()) + 1
    cell = samples.tile * moments + samples.segment
    rows, left_out = (
        np.bincount(cell, some, (int(samples.tile.max()) + 1) * moments).reshape(-1, moments)
        for some in (usable, out)
    )
    often = 2 * np.count_nonzero(left_out, axis=1) >= np.count_nonzero(rows, axis=1)
    jolt = 2 * np.bincount(samples.segment, usable & line.used, moments) < rows.sum(axis=0)
    found = out & ~often[samples.tile] & ~jolt[samples.segment]
    return bool(np.count_nonzero(found) > _ACTIVE * np.count_nonzero(usable))


def choose_filter(
    lines: dict[Filter, Line], *doubtful: str, active: bool = False, still: bool = False
) -> Filter:
    """Take the weakest filter that leaves no structure.

    Structure adds variance, and does so where there is light: a filter is given up where a stronger one finds
    a gain lower by more than chance, less of it where there is `active` structure and more in a scene that
    looks `still`. Filters along axes that are `doubtful` are taken only if the others fail; of several such
    doubts, the first counts most.
    """
    part = _DOUBT_IF_ACTIVE if active else _DOUBT_IF_STILL if still else 1.0
    for axes in filter(None, doubtful):
        sure: dict[Filter, Line] = {
            name: line for name, line in lines.items() if not set(axes) & set(name[1:])
        }
        if len(sure) > 1 or (sure and len(axes) > 1):
            best = choose_filter(sure, active=active, still=still)
            if not any(name in lines and _is_spoilt(lines[best], lines[name]) for name in _STRONGER[best]):
                return best
    chosen: Filter = "t" if "t" in lines else next(iter(lines))
    single_axis: list[Filter] = [name for name in ("ty", "tx") if name in lines]
    if not single_axis:
        return chosen
    best = single_axis[0]
    if len(single_axis) == 2 and _exceeds(lines["ty"], lines["tx"], part * _DOUBT_FIRST):
        best = single_axis[1]
    # Most structure shows along both axes: together they tell it from chance better than either alone.
    single = part * (_DOUBT_ONE_AXIS if len(single_axis) == 2 else _DOUBT_FIRST)
    doubted = (
        _gives_way(lines[chosen], lines[best], single)
        or (
            len(single_axis) == 2
            and chosen == "t"
            and _exceeds_both(lines["t"], lines["ty"], lines["tx"], part * _DOUBT_FIRST)
        )
        or ("txy" in lines and _gives_way(lines[chosen], lines["txy"], part * _DOUBT_STRONGEST))
    )
    if chosen != best and doubted:
        # Where structure is proven, what the second filter leaves of it likely explains a difference.
        proven = _exceeds(lines[chosen], lines[best], _PROVEN)
        chosen = best
        if "txy" in lines and _gives_way(
            lines[best], lines["txy"], _DOUBT_IF_PROVEN if proven else part * _DOUBT_SECOND
        ):
            chosen = "txy"
    return chosen


def _gives_way(weak: Line, strong: Line, errors: float) -> bool:
    """Whether the weaker filter is to be given up: for structure, or because structure spoils its fit."""
    apart = abs(weak.gain - strong.gain) > 5 * jackknife_error(weak.gains - strong.gains)
    return _is_spoilt(weak, strong) or apart or _exceeds(weak, strong, errors)


def _is_spoilt(weak: Line, strong: Line) -> bool:
    """Whether structure spoils the fit of the weaker filter."""
    return weak.used_fraction < 0.5 or weak.gain_error > 2 * strong.gain_error


def _lies_above(weak: Line, strong: Line) -> bool:
    """Whether the weaker filter sees more variance at all brightnesses alike.

    As an offset of whole frames that wanders makes it, and then differently in each segment.
    """
    middle = float(np.average(weak.instrument[weak.used], weights=weak.weight[weak.used]))
    weak_level, strong_level = (line.gain * (middle - line.x0) for line in (weak, strong))
    error = jackknife_error(weak.gains * (middle - weak.x0s) - strong.gains * (middle - strong.x0s))
    return weak_level - strong_level > max(_DOUBT_LEVEL * error, 0.03 * abs(strong_level))


def error_of_offset(lines: dict[Filter, Line], chosen: Filter, frames: int) -> float:
    """Standard error of a level where an offset of whole frames wanders, as the weakest filter sees it.

    What that sees more at all brightnesses is the offset's variance. The frames are not weighed alike, and
    those that were not read had offsets of their own.
    """
    if chosen == "t" or "t" not in lines or not _lies_above(lines["t"], lines[chosen]):
        return 0.0
    weak, strong = lines["t"], lines[chosen]
    middle = float(np.average(weak.instrument[weak.used], weights=weak.weight[weak.used]))
    more = weak.gain * (middle - weak.x0) - strong.gain * (middle - strong.x0)
    return _UNEVEN_FRAMES * math.sqrt(max(more, 0.0) / max(frames, 1))


def _exceeds(weak: Line, strong: Line, errors: float) -> bool:
    """Whether the weaker filter's gain is higher than the stronger one's by more than chance."""
    difference = weak.gain - strong.gain
    return difference > errors * jackknife_error(weak.gains - strong.gains) and difference > 0.002 * abs(
        strong.gain
    )


def _exceeds_both(weak: Line, first: Line, second: Line, errors: float) -> bool:
    """Whether the weaker filter's gain is higher than the mean of two stronger ones by more than chance."""
    mean = replace(first, gain=(first.gain + second.gain) / 2, gains=(first.gains + second.gains) / 2)
    return _exceeds(weak, mean, errors)


def mostly_moving(lines: dict[Filter, Line], chosen: Filter) -> bool:
    """Whether structure was so strong that its third moment would drown that of the photons."""
    limits: dict[Filter, float] = {"t": 1.5, "ty": 1.1, "tx": 1.1}
    return chosen in ("ty", "tx") and any(
        lines[name].gain > limit * lines[chosen].gain for name, limit in limits.items() if name in lines
    )


def structure_left(line: Line, lines: dict[Filter, Line], chosen: Filter) -> float:
    """Relative systematic error of the gain, from the structure that the filter may have left.

    That is judged by what a stronger filter would still take away, by what the chosen one took, which may
    be no structure where chance explains it, and by half of what likely passed for noise: what is where it is
    bright tilts the line, what is everywhere does not.
    """
    gain = abs(line.gain)
    weaker = [lines[f] for f in lines if chosen in _STRONGER[f] or (f == "t" and chosen != "t")]
    chance = 0.0
    for weak in weaker:
        more = weak.gain - lines[chosen].gain
        if 0 < more < MARGINAL * jackknife_error(weak.gains - lines[chosen].gains):
            chance = max(chance, more)
    left = max([0.0, *(line.gain - lines[f].gain for f in _STRONGER[chosen] if f in lines)])
    taken = max(0.0, lines["t"].gain - line.gain) if "t" in lines else 0.0
    return math.hypot(
        _BIAS,
        min(0.5 * line.passed, 0.02),
        min(0.5 * left / gain, 0.02),
        min(max(0.1 * taken, 0.5 * chance) / gain, 0.02),
    )
