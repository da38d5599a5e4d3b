"""From `NoiseStatistics` to a `Sensitivity`: choose the filter, fit the line, judge.

`_read_scene` rejects clipped and blank samples, fits the photon transfer line with every filter, and
chooses the weakest filter that leaves no structure. Then `REFINEMENTS` take one `Fit` to the next: each is a
small function with one reason, and adds its possible remainder to the systematic error, from which the
intervals follow. `_zero_level` separates zero level from read noise, and `_result` judges.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np

from anscombe_transform.calibration.evidence import rejected_curves, tile_evidence, transfer_curve
from anscombe_transform.calibration.line.censored import Censored, fit_censored, without_cut
from anscombe_transform.calibration.line.checks import (
    GainOverField,
    bends_upwards,
    gain_over_field,
    spreads_upwards,
)
from anscombe_transform.calibration.line.filters import (
    LEAST_USED,
    SamplesBy,
    choose_filter,
    fit_filters,
    for_whole_variance,
    kept_along,
    kept_variance,
    rows_for,
    structure_left,
)
from anscombe_transform.calibration.line.stages import (
    error_of_columns,
    error_of_offsets,
    fit_quiet,
    fit_within_tiles,
    of_even_gain,
    offsets_wander,
    quiet_rows,
    straight_part,
)
from anscombe_transform.calibration.line.transfer import Line, Samples, has_offsets
from anscombe_transform.calibration.line.verdict import judge, judge_frames, judge_range, judge_sharpening
from anscombe_transform.calibration.line.zero import ZeroLevel, find_zero_level
from anscombe_transform.calibration.result.constants import T_QUANTILE
from anscombe_transform.calibration.result.sensitivity import (
    NothingToMeasure,
    Reason,
    Sensitivity,
    verdict_of,
)
from anscombe_transform.calibration.rows import (
    blank_tiles,
    choose_instrument,
    floor_is_zero_photons,
    samples_of,
    usable_rows,
    without_blank_tiles,
)
from anscombe_transform.calibration.sums.statistics import Filter, NoiseStatistics, Table
from anscombe_transform.native.arrays import Bools

# Least share of the rows in which anything changes. Where photons are counted, most may hold none.
_LEAST_LIVE = 0.02
# Error of the mean gain, as a part of the gain's spread over the field: the rows that count most are not
# spread over it evenly.
_UNEVEN_LEFT = 0.05
# Error of the slope within tiles, as a part of what was made good for offsets that slope across them.
_FLATTENED_LEFT = 0.4


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
    scene = _read_scene(statistics)
    fit = Fit(scene.samples, scene.lines[scene.chosen])
    for refine in REFINEMENTS:
        fit = refine(scene, fit)
    return _result(scene, fit, _zero_level(scene, fit))


@dataclass(frozen=True)
class Scene:
    """Samples and lines of a movie before the line is refined; see `_read_scene`."""

    statistics: NoiseStatistics
    table: Table
    usable: Bools
    blank: Bools
    clip_reasons: list[Reason]
    kept: dict[str, float]
    samples_by: SamplesBy
    lines: dict[Filter, Line]
    chosen: Filter
    samples: Samples
    quiet: Bools
    moves: bool

    def clipped_low(self, where: str = "") -> bool:
        """Whether dark values were cut off, or "_everywhere"."""
        return any(reason.code.startswith("clipped_low" + where) for reason in self.clip_reasons)


@dataclass(frozen=True)
class Fit:
    """A line, its samples, and its systematic error.

    `systematic` is the relative error of the gain and `x0_error` that of x₀, one standard error each;
    `drawn` is the line before values that were cut off were made good; `measured` are the samples before an
    uneven gain was taken out.
    """

    samples: Samples
    line: Line
    systematic: float = 0.0
    x0_error: float = 0.0
    linear_up_to: float = math.inf
    field: GainOverField | None = None
    measured: Samples | None = None
    drawn: Line | None = None
    censored: Censored | None = None
    notes: tuple[Reason, ...] = ()

    def with_error(self, *systematic: float) -> Fit:
        """The same with more systematic errors, which add up as squares."""
        return replace(self, systematic=math.hypot(self.systematic, *systematic))


def _read_scene(statistics: NoiseStatistics) -> Scene:
    """Reject clipped and blank samples, fit every filter, and choose one."""
    table = statistics.table()
    if len(table) == 0:
        raise _why_empty(statistics)
    if np.mean(table.mean("y_t") > 1e-12) < _LEAST_LIVE:
        raise NothingToMeasure(
            "no_noise", "neighbouring frames hardly differ: the movie was denoised, or is empty."
        )
    floor_is_zero = floor_is_zero_photons(statistics, table)
    usable, clip_reasons = usable_rows(statistics, table, floor_is_zero=floor_is_zero)
    blank = np.zeros(table.tiles, bool)
    if not floor_is_zero:
        blank = blank_tiles(table)
        usable, blank_reasons = without_blank_tiles(table, usable, blank)
        clip_reasons += blank_reasons
    instrument = choose_instrument(statistics, table, usable)
    samples_by: SamplesBy = cache(partial(samples_of, statistics, table, instrument=instrument))
    lines = fit_filters(samples_by, usable)
    # With an own instrument, offsets are in it.
    if instrument == "q" and "t" in lines and has_offsets(samples_by("t"), lines["t"]):
        samples_by = cache(partial(samples_of, statistics, table, shifted=True))
        lines = fit_filters(samples_by, usable)
        strongest = list(lines)[-1]
        # Of few frames, contrast within tiles is mostly noise, which an instrument of the same frames shares.
        if statistics.halved and offsets_wander(samples_by(strongest), lines[strongest], usable):
            samples_by = _within_tiles(samples_by, usable)
            lines = fit_filters(samples_by, usable)
    moves = "t" in lines and spreads_upwards(samples_by("t"), lines["t"], usable)
    kept = kept_along(statistics.shared)
    lines = {name: for_whole_variance(line, kept_variance(name, kept)) for name, line in lines.items()}
    chosen = choose_filter(lines)
    if chosen != "t" and "t" in lines and samples_by("t").shifted and not moves:
        # Offsets that rows or columns share lower the gain of filters along them. Structure would show.
        still = lines["t"].used_fraction > LEAST_USED and not bends_upwards(samples_by("t"), lines["t"])
        chosen = "t" if still else chosen
    samples = samples_by(chosen)
    samples = replace(samples, y=samples.y / kept_variance(chosen, kept))
    quiet = quiet_rows(samples_by, lines, kept, chosen, rows_for(chosen, lines, usable))
    return Scene(
        statistics,
        table,
        usable,
        blank,
        clip_reasons,
        kept,
        samples_by,
        lines,
        chosen,
        samples,
        quiet,
        moves,
    )


# Refinements


def keep_to_quiet_rows(scene: Scene, fit: Fit) -> Fit:
    """Fit to the tiles that move least: at sharp edges even the strongest filter leaves something."""
    line = fit_quiet(fit.samples, fit.line, scene.quiet)
    return replace(fit, line=line)


def even_out_gain(scene: Scene, fit: Fit) -> Fit:
    """Take a gain that varies over the field out of the variances: the line is then that of the mean gain."""
    field = gain_over_field(fit.samples, fit.line)
    fit = replace(fit, field=field, measured=fit.samples)
    if not field.uneven:
        return fit
    samples, line, field = of_even_gain(fit.samples, fit.line, field, scene.quiet)
    return replace(fit, samples=samples, line=line, field=field).with_error(_UNEVEN_LEFT * field.spread)


def keep_to_straight_part(scene: Scene, fit: Fit) -> Fit:
    """Keep to the dark part of a bent curve, up to where it is straight."""
    line, linear_up_to = straight_part(fit.samples, fit.line, scene.quiet)
    return replace(fit, line=line, linear_up_to=linear_up_to, notes=(*fit.notes, *judge_range(linear_up_to)))


def allow_for_structure(scene: Scene, fit: Fit) -> Fit:
    """Widen the interval by the structure that stronger filters would remove, and part of that removed."""
    left = structure_left(fit.line, scene.lines, scene.chosen)
    return fit.with_error(left, _FLATTENED_LEFT * fit.samples.flattened)


def make_good_what_is_cut_off(scene: Scene, fit: Fit) -> Fit:
    """Correct the line for values that were cut off at a floor, by their share."""
    table, statistics, line = scene.table, scene.statistics, fit.line
    cut, censored = table.mean("low"), None
    if scene.clipped_low():
        # The law of the cut holds for rows that were left out for it as well.
        rows, _ = usable_rows(statistics, table, floor_is_zero=True)
        rows &= ~scene.blank[table.label("tile")] & (line.instrument <= fit.linear_up_to)
        if not scene.clipped_low("_everywhere"):
            rows &= line.used | ~scene.usable
        censored = fit_censored(fit.samples, cut, rows, line.gain, statistics.floor, statistics.step)
    found, gain_cut, x0_cut, reasons = without_cut(line, cut, censored, scene.clip_reasons)
    return replace(
        fit, line=found, drawn=line, censored=censored, x0_error=x0_cut, notes=(*fit.notes, *reasons)
    ).with_error(gain_cut)


def allow_for_offsets(scene: Scene, fit: Fit) -> Fit:
    """Widen the intervals by offsets of pixels, and of columns or rows."""
    of_pixels = error_of_offsets(fit.samples, fit.line)
    fit = replace(fit, x0_error=math.hypot(fit.x0_error, of_pixels))
    if fit.field is not None and fit.field.uneven:
        # A gain that varies over the field passes for offsets of patches.
        return fit
    return fit.with_error(error_of_columns(fit.samples, fit.line))


REFINEMENTS: tuple[Callable[[Scene, Fit], Fit], ...] = (
    keep_to_quiet_rows,
    even_out_gain,
    keep_to_straight_part,
    allow_for_structure,
    make_good_what_is_cut_off,
    allow_for_offsets,
)


def _zero_level(scene: Scene, fit: Fit) -> ZeroLevel:
    """Zero level by the third cumulant, the share cut off, or as the interval that second moments leave."""
    even = fit.field.relative if fit.field is not None and fit.field.uneven else np.ones(len(scene.table))

    def zero_by(third_filter: Filter | None) -> ZeroLevel:
        third = None
        if third_filter is not None:
            x3, y3 = scene.table.mean_of(third_filter, "x3"), scene.table.mean(f"y3_{third_filter}")
            third = x3, y3 / even**2
        return find_zero_level(
            fit.samples,
            fit.line,
            third,
            third_filter or "t",
            correlated=min(scene.kept.values()) < 1,
            systematic=fit.systematic,
        )

    zero = zero_by(scene.chosen if scene.statistics.order == 2 else None)
    more, (low, high) = T_QUANTILE * fit.x0_error, zero.interval
    zero = replace(zero, interval=(low - more, high + more))
    if fit.censored is None:
        return zero
    value, half = fit.censored.zero, T_QUANTILE * fit.censored.zero_error
    if not 2 * half < zero.interval[1] - zero.interval[0]:
        return zero
    interval = (value - half, value + half)
    return replace(zero, value=value, interval=interval, method="share cut off", consistent=True)


def _result(scene: Scene, fit: Fit, zero: ZeroLevel) -> Sensitivity:
    """Judge, and put all together."""
    line, samples, statistics = fit.line, fit.samples, scene.statistics
    assert fit.field is not None
    assert fit.measured is not None
    assert fit.drawn is not None
    half = T_QUANTILE * math.hypot(line.gain_error, fit.systematic * line.gain)
    judged = replace(fit.drawn, gains=line.gains - line.gain + fit.drawn.gain)
    reasons = (
        *judge(samples, judged, zero, fit.field, statistics.shared, moves=scene.moves),
        *judge_sharpening(scene.lines, statistics.shared),
        *fit.notes,
        *judge_frames(statistics),
    )
    return Sensitivity(
        conversion_gain=line.gain,
        zero_level=zero.value,
        variance_intercept=line.x0,
        read_noise=math.sqrt(max(line.gain * (zero.value - line.x0), 0.0)),
        conversion_gain_interval=(line.gain - half, line.gain + half),
        variance_intercept_interval=_intercept_interval(line, fit.systematic, fit.x0_error),
        zero_level_interval=zero.interval,
        verdict=verdict_of(reasons),
        reasons=reasons,
        transfer_curve=transfer_curve(samples, line),
        rejected=rejected_curves(samples, line, scene.usable, fit.linear_up_to),
        evidence=tile_evidence(
            fit.measured,
            line,
            scene.usable,
            statistics.shared,
            {name: (f.gain, f.gain_error) for name, f in scene.lines.items()},
            statistics.grid,
        ),
        method=scene.chosen,
        zero_level_method=zero.method,
        used_fraction=float(np.count_nonzero(line.used) / np.count_nonzero(scene.usable)),
        excess_noise=zero.excess_noise,
        excess_noise_interval=zero.excess_noise_interval,
    )


def _within_tiles(samples_by: SamplesBy, usable: Bools) -> SamplesBy:
    """Samples of each filter without the offsets of patches."""

    @cache
    def levelled(name: Filter) -> Samples:
        found = fit_within_tiles(samples_by(name), usable)
        return samples_by(name) if found is None else found[0]

    return levelled


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
