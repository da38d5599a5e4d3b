"""Which filter to read the line with: the weakest one that leaves no structure.

Structure only adds variance, and does so where there is light, so that a filter that leaves some finds a
higher gain than a stronger one. A filter along an axis on which neighbours share noise finds a lower one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from anscombe_transform.calibration.line.transfer import Line, NoLine, Samples, fit_line, jackknife_error
from anscombe_transform.calibration.result.sensitivity import NothingToMeasure
from anscombe_transform.calibration.sums.shared import SharedNoise
from anscombe_transform.calibration.sums.statistics import Filter
from anscombe_transform.native.arrays import Bools

# Samples of a filter.
SamplesBy = Callable[[Filter], Samples]

# Standard errors from which on noise is taken to be shared.
_SHARED = 4.0
# Standard errors by which a weaker filter must exceed a stronger one to be given up: 1 % of a normal
# distribution lies beyond. Share of its rows that must be noise.
_STRUCTURE, LEAST_USED = 2.71, 0.5
_DOUBT_LEVEL = 8.0
# A filter taken for a difference of fewer standard errors than this may have been taken for chance.
MARGINAL = 4.0
# Relative bias that the estimate may have where nothing moves: means over many simulated movies are not
# farther from the truth.
_BIAS = 0.001
_RANKED: tuple[Filter, ...] = ("t", "ty", "tx", "txy")
# With which filters each is compared. Of one axis, either may be the better one.
_STRONGER: dict[Filter, tuple[Filter, ...]] = {
    "t": ("ty", "tx", "txy"),
    "ty": ("tx", "txy"),
    "tx": ("txy",),
    "txy": (),
}


def kept_variance(name: Filter, kept: dict[str, float]) -> float:
    """Part of the noise variance that a filter keeps."""
    return math.prod(part for axis, part in kept.items() if axis in name)


def for_whole_variance(line: Line, kept: float) -> Line:
    """Return the line of all the noise, where its filter keeps a part."""
    return replace(line, gain=line.gain / kept, gains=line.gains / kept, variance=line.variance / kept)


def fit_filters(samples_by: SamplesBy, usable: Bools) -> dict[Filter, Line]:
    """Lines of every filter that finds one, weakest first."""
    lines: dict[Filter, Line] = {}
    failure = NoLine("no filter was tried")
    for name in _RANKED:
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


def kept_along(shared: SharedNoise) -> dict[str, float]:
    """Part of the noise variance that a second difference along each axis keeps.

    [1, -2, 1] of noise of which neighbours share ρ has the variance 6 - 8 ρ. Motion shows along both axes, so
    that only the axis that shows more counts, by how much more that is; 1 where it is chance.
    """
    noise = {axis: shared.along(axis) for axis in "xy"}
    kept = {"x": 1.0, "y": 1.0}
    for axis, other in ("xy", "yx"):
        more = noise[axis].value - max(noise[other].value, 0.0)
        if more > _SHARED * math.hypot(noise[axis].error, noise[other].error):
            kept[axis] = 1 - 2 / 3 * more
    return kept


def choose_filter(lines: Mapping[Filter, Line]) -> Filter:
    """Choose the weakest filter that leaves no structure.

    Structure adds variance where there is light, so that a filter that leaves some finds a higher gain than a
    stronger one. Hausman's test, one-sided: a filter is given up where a stronger one finds a gain lower by
    `_STRUCTURE` jackknife errors of the difference, or where structure spoils most of its rows.
    """
    ranked = [name for name in _RANKED if name in lines]
    for name in ranked:
        if lines[name].used_fraction < LEAST_USED and name != ranked[-1]:
            continue
        if "txy" in lines and lines[name].gain <= lines["txy"].gain:
            # The strongest filter takes what any other takes: there is no structure.
            return name
        stronger = [lines[other] for other in _STRONGER[name] if other in lines]
        if not any(exceeds(lines[name], line, _STRUCTURE) for line in stronger):
            return name
    return ranked[-1]


def exceeds(weak: Line, strong: Line, errors: float) -> bool:
    """Whether the weaker filter's gain is higher than the stronger one's by more than chance."""
    return weak.gain - strong.gain > errors * jackknife_error(weak.gains - strong.gains)


def _lies_above(weak: Line, strong: Line) -> bool:
    """Whether the weaker filter sees more variance at all brightnesses alike.

    As an offset of whole frames that wanders makes it, and then differently in each segment.
    """
    middle = float(np.average(weak.instrument[weak.used], weights=weak.weight[weak.used]))
    weak_level, strong_level = (line.gain * (middle - line.x0) for line in (weak, strong))
    error = jackknife_error(weak.gains * (middle - weak.x0s) - strong.gains * (middle - strong.x0s))
    return weak_level - strong_level > max(_DOUBT_LEVEL * error, 0.03 * abs(strong_level))


def structure_left(line: Line, lines: dict[Filter, Line], chosen: Filter) -> float:
    """Relative systematic error of the gain, from the structure that the filter may have left.

    It is estimated from the variance that a stronger filter would still remove, and from the variance that
    the chosen one removed, which may be no structure where chance explains it.
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
        min(0.5 * left / gain, 0.02),
        min(max(0.1 * taken, 0.5 * chance) / gain, 0.02),
    )
