"""From `NoiseStatistics` to a `Sensitivity`: choose the filter, fit the line, judge.

The steps, each a function of its own:

1. `usable_rows` leaves out the brightness groups that are cut off.
2. `fit_filters` fits the photon transfer line with every filter that the noise's correlation allows.
3. `choose_filter` takes the weakest filter that leaves no structure.
4. `find_zero_level` tells zero level from read noise.
5. `judge` says whether to believe it.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np

from anscombe_transform.calibration.censored import fit_censored, without_cut
from anscombe_transform.calibration.checks import (
    GainOverField,
    Whiteness,
    clipped_groups,
    curvature,
    gain_over_field,
    quiet_tiles,
    spreads_upwards,
    whiteness,
)
from anscombe_transform.calibration.evidence import rejected_curves, tile_evidence, transfer_curve
from anscombe_transform.calibration.line import (
    T_QUANTILE,
    Bools,
    Floats,
    Integers,
    Line,
    NoLine,
    Samples,
    equal_groups,
    fit_line,
    jackknife_error,
)
from anscombe_transform.calibration.sensitivity import (
    NothingToMeasure,
    Reason,
    Sensitivity,
    verdict_of,
)
from anscombe_transform.calibration.statistics import (
    CLASSES,
    Filter,
    NoiseStatistics,
    Table,
)
from anscombe_transform.calibration.verdict import judge, judge_frames, judge_range, judge_sharpening
from anscombe_transform.calibration.zero import ZeroLevel, find_zero_level

# Largest share of a brightness group that may be cut off. Less at the bright end, where half a percent
# takes more than 1 % of the variance and pulls at the end of the line.
_MOST_CUT_HIGH, _MOST_CUT_LOW = 0.001, 0.005
# Least share of the rows that must be left where tiles with unchanging pixels are left out.
_LEAST_KEPT = 0.05
# Least share of the rows in which anything changes. Where photons are counted, most may hold none.
_LEAST_LIVE = 0.02
# Groups of brightness in each of which zeros must be as many as photon statistics say.
_GROUPS_OF_ZEROS = 5
# Lag ratios above this are taken for white noise; this many errors below 1, one is a hint that it is not.
_WHITE, _HINT = 0.97, 1.5
# Parts of the pixels, the brightest left out, that are tried for a straight line.
_STRAIGHT_PARTS = (0.98, 0.95, 0.9, 0.8, 0.65, 0.5)
# Standard errors by which a weaker filter must exceed a stronger one to be given up. Low, since to stay
# with a filter that leaves structure costs more than the precision that the stronger one loses.
_DOUBT_FIRST, _DOUBT_SECOND, _DOUBT_IF_PROVEN, _PROVEN = 1.8, 2.5, 1.0, 5.0
_DOUBT_STRONGEST, _DOUBT_LEVEL, _DOUBT_ONE_AXIS = 3.0, 8.0, 3.0
# A filter taken for a difference of fewer standard errors than this may have been taken for chance.
_MARGINAL = 4.0
# Standard errors by which the gain must fall where rows are left out at all brightnesses alike.
_NOISY_PIXELS = 1.5
# Standard error of a mean over frames by their weights in a half segment, in standard errors of a plain mean.
_UNEVEN_FRAMES = 0.5
# Relative bias that the estimate may have where nothing moves: means over many simulated movies are not
# farther from the truth.
_BIAS = 0.001
# Tiles that are needed to tell how light changed between two half segments, and standard errors that make
# sure that it did.
_FEWEST_TILES, _SURE = 16, 4.0
# Part of the rows that is kept where the scene moves: those of the quietest tiles.
_QUIET_SHARE = 0.6
# Standard error of what one filter, or two together, see more than a stronger one, in standard errors of the
# latter, for independent normal noise: with c = 1.944 for an axis, √((c - 1) / c) and √(4 - 6 / c + 2 / c²).
_ERROR_SEEN = {1: 0.70, 2: 1.20}
# Times that the gain's variation over the field is taken out.
_EVENINGS = 4
# Error of the mean gain, as a part of the gain's spread over the field: the rows that count most are not
# spread over it evenly.
_UNEVEN_LEFT = 0.05
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


def estimate_sensitivity(statistics: NoiseStatistics) -> Sensitivity:
    """Estimate the detector's constants from collected statistics.

    Parameters
    ----------
    statistics : NoiseStatistics
        Of at least one complete segment.

    Returns
    -------
    Sensitivity
        Refused, with its reasons, where nothing can be measured.
    """
    try:
        return _estimate(statistics)
    except NothingToMeasure as refusal:
        return Sensitivity.refused(refusal.reason)


def _estimate(statistics: NoiseStatistics) -> Sensitivity:
    table = statistics.table()
    if len(table) == 0:
        raise _why_empty(statistics)
    if np.mean(table.mean("y_t") > 1e-12) < _LEAST_LIVE:
        raise NothingToMeasure(
            "no_noise", "neighbouring frames hardly differ: the movie was denoised, or is empty."
        )
    floor_is_zero = _floor_is_zero_photons(statistics, table)
    usable, clip_reasons = usable_rows(statistics, table, floor_is_zero=floor_is_zero)
    lags, blank = table.lags, np.zeros(table.tiles, bool)
    if not floor_is_zero:
        blank = blank_tiles(table)
        usable, blank_reasons = without_blank_tiles(table, usable, blank)
        clip_reasons += blank_reasons
        if blank_reasons:
            lags = np.where(blank[:, None], 0.0, lags)
    white = whiteness(lags, quiet_tiles(table))
    along = correlated_axes(white, statistics)
    lines = fit_filters(statistics, table, usable, along)
    kept = kept_along(lines, white)
    lines = {name: _for_whole_variance(line, kept_variance(name, kept)) for name, line in lines.items()}
    doubtful = doubtful_axis(lines, white, kept)
    chosen = choose_filter(lines, doubtful)
    samples = _samples(statistics, table, chosen, kept_variance(chosen, kept))
    quiet = quiet_rows(statistics, table, lines, kept, chosen, _rows_for(chosen, lines, usable))
    line = fit_quiet(samples, lines[chosen], quiet)
    samples, line, unsure = of_noisy_pixels(samples, line, quiet)
    field = gain_over_field(samples, line, statistics.grid)
    measured = samples
    if field.uneven:
        samples, line, field = of_even_gain(samples, line, field, quiet, statistics.grid)
    line, linear_up_to = straight_part(samples, line, quiet)

    third_filter = {"t": "t", "ty": "ty", "tx": "txy", "txy": "txy"}[chosen]
    left = math.hypot(structure_left(line, lines, chosen), unsure, _UNEVEN_LEFT * field.spread * field.uneven)
    cut = table.mean("low")
    fitted, censored = line, None
    if any(reason.code.startswith("clipped_low") for reason in clip_reasons):
        # The law of the cut holds for rows that were left out for it as well.
        rows, _ = usable_rows(statistics, table, floor_is_zero=True)
        rows &= ~blank[table.label("tile")] & (line.instrument <= linear_up_to)
        if not any(reason.code == "clipped_low_everywhere" for reason in clip_reasons):
            rows &= line.used | ~usable
        censored = fit_censored(samples, cut, rows, line.gain, statistics.floor, statistics.step)
    line, gain_cut, x0_cut, clip_reasons = without_cut(line, samples, cut, censored, clip_reasons)
    left = math.hypot(left, gain_cut)
    x0_cut = math.hypot(x0_cut, error_of_offset(lines, chosen, statistics.frames))

    even = field.relative if field.uneven else np.ones(len(table))

    def zero_by(third_filter: str | None) -> ZeroLevel:
        third = None
        if third_filter is not None:
            third = table.mean(f"x3_{third_filter}"), table.mean(f"y3_{third_filter}") / even**2
        return find_zero_level(
            samples,
            line,
            third,
            third_filter or "t",
            correlated=any(along) or bool(doubtful),
            systematic=left,
        )

    skewed = statistics.order == 2 and not _mostly_moving(lines, chosen)
    zero = zero_by(third_filter if skewed else None)
    if zero.multiplied and third_filter != "t" and _skewed_by_structure(zero_by("t"), zero):
        zero = zero_by(None)
    zero = replace(
        zero, interval=(zero.interval[0] - T_QUANTILE * x0_cut, zero.interval[1] + T_QUANTILE * x0_cut)
    )
    if censored is not None and 2 * T_QUANTILE * censored.zero_error < zero.interval[1] - zero.interval[0]:
        zero = replace(
            zero,
            value=censored.zero,
            interval=(
                censored.zero - T_QUANTILE * censored.zero_error,
                censored.zero + T_QUANTILE * censored.zero_error,
            ),
            method="share cut off",
            consistent=True,
        )
    half = T_QUANTILE * math.hypot(line.gain_error, left * line.gain)
    reasons = [
        *judge(
            samples,
            replace(fitted, gains=line.gains - line.gain + fitted.gain),
            zero,
            white,
            along,
            field,
            statistics.shared,
            "t" in lines and spreads_upwards(_samples(statistics, table, "t"), lines["t"], usable),
        ),
        *judge_sharpening(lines, white, statistics.shared),
        *judge_range(linear_up_to),
        *clip_reasons,
        *judge_frames(statistics),
    ]
    return Sensitivity(
        conversion_gain=line.gain,
        zero_level=zero.value,
        variance_intercept=line.x0,
        read_noise=math.sqrt(max(line.gain * (zero.value - line.x0), 0.0)),
        conversion_gain_interval=(line.gain - half, line.gain + half),
        variance_intercept_interval=_intercept_interval(line, left, x0_cut),
        zero_level_interval=zero.interval,
        verdict=verdict_of(tuple(reasons)),
        reasons=tuple(reasons),
        transfer_curve=transfer_curve(samples, line),
        rejected=rejected_curves(samples, line, usable, linear_up_to),
        evidence=tile_evidence(
            measured,
            line,
            usable,
            white,
            {name: (f.gain, f.gain_error) for name, f in lines.items()},
            statistics.grid,
        ),
        method=chosen,
        zero_level_method=zero.method,
        used_fraction=float(np.count_nonzero(line.used) / np.count_nonzero(usable)),
        excess_noise=zero.excess_noise,
    )


def _intercept_interval(line: Line, systematic: float, cut: float) -> tuple[float, float]:
    """95 % interval of x₀; a systematic error of the gain tilts the line about the typical mean.

    `cut` is the error of x₀ that cutting off at the floor may have left.
    """
    typical = float(np.average(line.instrument[line.used], weights=line.weight[line.used]))
    half = T_QUANTILE * math.hypot(line.x0_error, systematic * (typical - line.x0))
    return line.x0 - half - T_QUANTILE * cut, line.x0 + half + T_QUANTILE * cut


def _why_empty(statistics: NoiseStatistics) -> NothingToMeasure:
    if statistics.duplicates:
        return NothingToMeasure(
            "identical_frames",
            f"{statistics.duplicates} of {statistics.frames} frames repeat the frame before; too few differ.",
        )
    if statistics.not_finite:
        return NothingToMeasure("not_finite", "no tile of this movie is free of NaN and infinite samples.")
    return NothingToMeasure(
        "too_few_frames", f"no segment of {statistics.segment_frames} frames is complete."
    )


def _floor_is_zero_photons(statistics: NoiseStatistics, table: Table) -> bool:
    """Whether the samples piled up at the smallest value are pixels without a photon, not values cut off.

    Then the variance vanishes at just that value, and a pixel of mean m takes it with the Poisson probability
    of no photon, exp(−(m − floor)/gain).
    """
    if not math.isfinite(statistics.floor):
        return False
    samples = _samples(statistics, table, "t")
    try:
        line = fit_line(samples, np.ones(len(table), bool))
    except NoLine:
        return False
    if not (line.gain > 0 and abs(line.x0 - statistics.floor) < 0.5 * line.gain):
        return False
    photons = np.maximum(samples.x - statistics.floor, 0) / line.gain
    group = equal_groups(line.instrument, _GROUPS_OF_ZEROS)
    n = np.bincount(group, samples.n, _GROUPS_OF_ZEROS)
    expected, found = (
        np.bincount(group, samples.n * v, _GROUPS_OF_ZEROS) / n for v in (np.exp(-photons), table.mean("low"))
    )
    whole = (expected * n).sum() / max(float((found * n).sum()), 1e-30)
    ratio = (expected / np.maximum(found, 1e-30))[expected > 0.02]
    # A mean over bright and dark pixels may agree by chance.
    return bool(0.85 < whole < 1.1 and np.all((ratio > 0.75) & (ratio < 1.25)))


def usable_rows(
    statistics: NoiseStatistics, table: Table, *, floor_is_zero: bool = False
) -> tuple[Bools, list[Reason]]:
    """Rows of brightness groups that are not cut off, told by the instrument, never by the value itself."""
    usable = np.ones(len(table), bool)
    reasons = []
    groups = int(np.clip(len(table) // 50, 4, 100))
    group = equal_groups(table.mean("q"), groups)
    for column, cut, code, what, limit in (
        ("high", statistics.ceiling, "clipped_high", "saturates at", _MOST_CUT_HIGH),
        ("low", statistics.floor, "clipped_low", "is cut off at", _MOST_CUT_LOW),
    ):
        if not math.isfinite(cut) or (code == "clipped_low" and floor_is_zero):
            continue
        clipped = clipped_groups(table.mean(column) * table.n, table.n, group, groups, limit)
        if np.count_nonzero(~clipped) >= max(3, 0.03 * groups):
            usable &= ~clipped[group]
            if clipped.any():
                share = 100 * np.count_nonzero(clipped) / groups
                reasons.append(
                    Reason(
                        code,
                        f"the signal {what} {cut:g}; "
                        f"the {share:.0f} % of pixels that reach it were left out.",
                    )
                )
                if code == "clipped_low":
                    reasons[-1] = replace(reasons[-1], severity="caution")
        else:
            severity: Literal["refusal", "caution"] = "refusal" if code == "clipped_high" else "caution"
            reasons.append(
                Reason(f"{code}_everywhere", f"the signal {what} {cut:g} all over the field.", severity)
            )
    return usable, reasons


def blank_tiles(table: Table) -> Bools:
    """Tiles with pixels that never change, or with such pixels beside them: masked, padded, dead.

    A class without a photon in some half segments only is darkness.
    """
    place = table.label("tile") * CLASSES + table.label("brightness")
    rows, blank = (np.bincount(place, w, table.tiles * CLASSES) for w in (None, table.mean("y_t") <= 0))
    found = table.blank.copy()
    found[np.flatnonzero((blank > 0) & (2 * blank >= rows)) // CLASSES] = True
    return found


def without_blank_tiles(table: Table, usable: Bools, blank: Bools) -> tuple[Bools, list[Reason]]:
    """Leave out the blank tiles.

    Pixels that never change have no variance at their level, wherever that is, and would tilt the dark end of
    the line. The whole tile goes, since fewer of them than make a class lie among live pixels.
    """
    of_blank = blank[table.label("tile")]
    kept = usable & ~of_blank
    if not of_blank.any() or np.count_nonzero(kept) < _LEAST_KEPT * np.count_nonzero(usable):
        return usable, []
    share = 100 * np.count_nonzero(of_blank) / len(table)
    return kept, [
        Reason(
            "blank_pixels",
            f"some pixels never change, as masked or padded ones do; the {share:.0f} % of the field "
            "that holds them was left out.",
        )
    ]


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


def doubtful_axis(lines: dict[Filter, Line], white: Whiteness, kept: dict[str, float]) -> str:
    """Return the one axis along which neighbours seem to share noise, or neither.

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


def _for_whole_variance(line: Line, kept: float) -> Line:
    return replace(line, gain=line.gain / kept, gains=line.gains / kept, variance=line.variance / kept)


def fit_filters(
    statistics: NoiseStatistics, table: Table, usable: Bools, correlated: tuple[bool, bool]
) -> dict[Filter, Line]:
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
        samples = _samples(statistics, table, name)
        try:
            lines[name] = fit_line(samples, _rows_for(name, lines, usable))
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


def _rows_for(name: Filter, lines: dict[Filter, Line], usable: Bools) -> Bools:
    """Rows that a filter's fit may use: those that the weakest filter accepted, if they suffice."""
    return lines["t"].used if name != "t" and "t" in lines and _covers_most(lines["t"], usable) else usable


def _covers_most(line: Line, usable: Bools) -> bool:
    """Whether the accepted rows are most of the usable ones, over most of the range of brightness."""
    if line.used_fraction < 0.75:
        return False
    used, whole = (np.ptp(np.quantile(line.instrument[rows], [0.02, 0.98])) for rows in (line.used, usable))
    return bool(used > 0.6 * whole)


def choose_filter(lines: dict[Filter, Line], doubtful: str = "") -> Filter:
    """Take the weakest filter that leaves no structure.

    Structure adds variance, and does so where there is light: a filter is given up where a stronger one finds
    a gain lower by more than chance. Filters along a `doubtful` axis are taken only if the others fail.
    """
    if doubtful:
        sure: dict[Filter, Line] = {name: line for name, line in lines.items() if doubtful not in name}
        if len(sure) > 1:
            best = choose_filter(sure)
            if not any(name in lines and _is_spoilt(lines[best], lines[name]) for name in _STRONGER[best]):
                return best
    chosen: Filter = "t" if "t" in lines else next(iter(lines))
    axes: list[Filter] = [name for name in ("ty", "tx") if name in lines]
    if not axes:
        return chosen
    best = axes[0]
    if len(axes) == 2 and _exceeds(lines[axes[0]], lines[axes[1]], _DOUBT_FIRST):
        best = axes[1]
    # Most structure shows along both axes: together they tell it from chance better than either alone.
    single = _DOUBT_ONE_AXIS if len(axes) == 2 else _DOUBT_FIRST
    doubted = (
        _gives_way(lines[chosen], lines[best], single)
        or (len(axes) == 2 and chosen == "t" and _exceeds_both(lines["t"], lines["ty"], lines["tx"]))
        or ("txy" in lines and _gives_way(lines[chosen], lines["txy"], _DOUBT_STRONGEST))
    )
    if chosen != best and doubted:
        # Where structure is proven, what the second filter leaves of it likely explains a difference.
        proven = _exceeds(lines[chosen], lines[best], _PROVEN)
        chosen = best
        if "txy" in lines and _gives_way(
            lines[best], lines["txy"], _DOUBT_IF_PROVEN if proven else _DOUBT_SECOND
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


def _exceeds_both(weak: Line, first: Line, second: Line) -> bool:
    """Whether the weaker filter's gain is higher than the mean of two stronger ones by more than chance."""
    mean = replace(first, gain=(first.gain + second.gain) / 2, gains=(first.gains + second.gains) / 2)
    return _exceeds(weak, mean, _DOUBT_FIRST)


def quiet_rows(
    statistics: NoiseStatistics,
    table: Table,
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
    tile, segment = table.label("tile"), np.unique(table.label("segment"), return_inverse=True)[1]
    if chosen == "t" or not statistics.halved or segment.max() < 1:
        return usable
    line = lines[chosen]
    seen = np.zeros(len(table))
    least = _samples(statistics, table, strongest, kept_variance(strongest, kept))
    for name in weaker:
        more = _samples(statistics, table, name, kept_variance(name, kept))
        seen += more.y - least.y - line.gain * (more.x - least.x)
    law = _ERROR_SEEN[len(weaker)] * np.sqrt(least.variance_of_variance(line.variance, line.gain))
    seen, variance, law = (_of_other_segments(v, table.n, tile, segment) for v in (seen, line.variance, law))
    rest = np.bincount(tile, table.n)[tile] - table.n
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
    unsure = 0.5 * max(more, 0.0) / max(abs(line.gain), 1e-30) if more < _MARGINAL * error else 0.0
    if more > _NOISY_PIXELS * error and found.gain_error < 3 * line.gain_error:
        return even, found, unsure
    return samples, line, unsure


def of_even_gain(
    samples: Samples, line: Line, field: GainOverField, usable: Bools, grid: tuple[int, int]
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
            relative = relative * gain_over_field(evened, line, grid).relative
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


def _skewed_by_structure(weak: ZeroLevel, strong: ZeroLevel) -> bool:
    """Whether the weaker filter finds more skewness: then what flashes made it, and the rest is in doubt."""
    difference = weak.excess[0] - strong.excess[0]
    return difference > max(3 * strong.excess[1], 0.1)


def _mostly_moving(lines: dict[Filter, Line], chosen: Filter) -> bool:
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
        if 0 < more < _MARGINAL * jackknife_error(weak.gains - lines[chosen].gains):
            chance = max(chance, more)
    left = max([0.0, *(line.gain - lines[f].gain for f in _STRONGER[chosen] if f in lines)])
    taken = max(0.0, lines["t"].gain - line.gain) if "t" in lines else 0.0
    return math.hypot(
        _BIAS,
        min(0.5 * line.passed, 0.02),
        min(0.5 * left / gain, 0.02),
        min(max(0.1 * taken, 0.5 * chance) / gain, 0.02),
    )


def _samples(statistics: NoiseStatistics, table: Table, name: Filter, kept: float = 1.0) -> Samples:
    """Rows of one filter, which keeps the given part of the noise variance."""
    tile, segment = table.label("tile"), np.unique(table.label("segment"), return_inverse=True)[1]
    x = table.mean(f"x_{name}")
    # Unhalved segments sort pixels by neighbours that the spatial filters use as well: there, the mean of the
    # same samples is the better instrument, and unbiased as far as the noise is that of photons.
    q = table.mean("q") if statistics.halved or name == "t" else x
    if statistics.halved:
        q = q_of_own_light(table)
    return Samples(
        x=x,
        y=table.mean(f"y_{name}") / kept,
        q=q,
        n=table.n,
        tile=tile,
        place=tile * CLASSES + table.label("brightness"),
        segment=segment,
        correlation=_correlation_in_time(statistics) * 1.944 ** (len(name) - 1),
    )


def q_of_own_light(table: Table) -> Floats:
    """Instrument of each row, in the light of the row's own half segment.

    It was measured in the other half. Where the lamp was switched in between, or the zero level wandered, the
    same place has another mean there; what the tiles' means have become, as a whole, is taken over, if it is
    more than chance.
    """
    q, half, tile = table.mean("q"), table.label("segment"), table.label("tile")
    halves = int(half.max()) // 2 * 2 + 2
    cell = half * table.tiles + tile
    n = np.bincount(cell, table.n, halves * table.tiles).reshape(-1, 2, table.tiles)
    x = np.bincount(cell, table.n * table.mean("x_t"), halves * table.tiles).reshape(-1, 2, table.tiles)
    slope, shift = np.ones(halves), np.zeros(halves)
    for pair in range(len(n)):
        both = (n[pair] > 0).all(axis=0)
        if np.count_nonzero(both) < _FEWEST_TILES:
            continue
        first, second = x[pair][:, both] / n[pair][:, both]
        for own, (here, there) in enumerate(((first, second), (second, first))):
            slope[2 * pair + own], shift[2 * pair + own] = _change(here, there)
    return slope[half] * q + shift[half]


def _change(here: Floats, there: Floats) -> tuple[float, float]:
    """Slope and shift from means of tiles `there` to those `here`; 1 and 0 where chance explains them."""
    # Tiles in pairs of a brighter and a darker one, by both means, so that neither's noise counts more.
    order = np.argsort(here + there)
    half = len(order) // 2
    dark, bright = order[:half], order[-half:]
    run, rise = there[bright] - there[dark], here[bright] - here[dark]
    good = (run > 0) & (rise > 0)
    slope = 1.0
    if np.count_nonzero(good) > half // 2:
        ratio, error = _median_and_error(np.log(rise[good] / run[good]))
        if abs(ratio) > _SURE * error:
            slope = math.exp(ratio)
    shift, error = _median_and_error(here - slope * there)
    return slope, shift if slope != 1 or abs(shift) > _SURE * error else 0.0


def _median_and_error(values: Floats) -> tuple[float, float]:
    """Median and its standard error, told from the spread."""
    median = float(np.median(values))
    return median, 1.25 * 1.4826 * float(np.median(np.abs(values - median))) / math.sqrt(len(values))


def _correlation_in_time(statistics: NoiseStatistics) -> float:
    """Sum of squared autocorrelations of the temporal residuals of one half segment."""
    length = statistics.segment_frames // (2 if statistics.halved else 1)
    residuals = length - statistics.order
    correlations = (-2 / 3, 1 / 6) if statistics.order == 2 else (-1 / 2,)
    return 1 + 2 * sum(
        max(0.0, 1 - lag / residuals) * correlation**2
        for lag, correlation in enumerate(correlations, start=1)
    )
