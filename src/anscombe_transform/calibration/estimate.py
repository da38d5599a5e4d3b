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
from functools import cache, partial

import numpy as np

from anscombe_transform.calibration.censored import fit_censored, without_cut
from anscombe_transform.calibration.checks import gain_over_field, quiet_tiles, spreads_upwards, whiteness
from anscombe_transform.calibration.disturbed import (
    fit_quiet,
    of_even_gain,
    of_noisy_pixels,
    quiet_rows,
    straight_part,
)
from anscombe_transform.calibration.evidence import rejected_curves, tile_evidence, transfer_curve
from anscombe_transform.calibration.filters import (
    SamplesBy,
    choose_filter,
    correlated_axes,
    doubtful_axis,
    error_of_offset,
    fit_filters,
    for_whole_variance,
    is_active,
    kept_along,
    kept_variance,
    mostly_moving,
    rows_for,
    structure_left,
)
from anscombe_transform.calibration.line import T_QUANTILE, Bools, Line, Samples, has_offsets
from anscombe_transform.calibration.rows import (
    blank_tiles,
    choose_instrument,
    floor_is_zero_photons,
    samples_of,
    usable_rows,
    without_blank_tiles,
)
from anscombe_transform.calibration.sensitivity import NothingToMeasure, Sensitivity, verdict_of
from anscombe_transform.calibration.statistics import Filter, NoiseStatistics
from anscombe_transform.calibration.verdict import judge, judge_frames, judge_range, judge_sharpening
from anscombe_transform.calibration.wandering import error_of_offsets, fit_within_tiles, offsets_wander
from anscombe_transform.calibration.zero import ZeroLevel, find_zero_level

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
    table = statistics.table()
    if len(table) == 0:
        raise _why_empty(statistics)
    if np.mean(table.mean("y_t") > 1e-12) < _LEAST_LIVE:
        raise NothingToMeasure(
            "no_noise", "neighbouring frames hardly differ: the movie was denoised, or is empty."
        )
    floor_is_zero = floor_is_zero_photons(statistics, table)
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
    instrument = choose_instrument(statistics, table, usable)
    samples_by: SamplesBy = cache(partial(samples_of, statistics, table, instrument=instrument))
    lines = fit_filters(samples_by, usable, along)
    active = "t" in lines and is_active(samples_by("t"), lines["t"], usable)
    # Where cells are active, places differ for that. With an own instrument, offsets are in it.
    shifted = "t" in lines and instrument == "q" and not active and has_offsets(samples_by("t"), lines["t"])
    if shifted:
        samples_by = cache(partial(samples_of, statistics, table, shifted=True))
        lines = fit_filters(samples_by, usable, along)
        strongest = list(lines)[-1]
        if offsets_wander(samples_by(strongest), lines[strongest], usable):
            samples_by = _within_tiles(samples_by, usable)
            lines = fit_filters(samples_by, usable, along)
    kept = kept_along(lines, white)
    lines = {name: for_whole_variance(line, kept_variance(name, kept)) for name, line in lines.items()}
    doubtful = doubtful_axis(lines, white, kept, shifted=shifted)
    chosen = choose_filter(lines, doubtful, active=active)
    samples = samples_by(chosen)
    samples = replace(samples, y=samples.y / kept_variance(chosen, kept))
    quiet = quiet_rows(samples_by, lines, kept, chosen, rows_for(chosen, lines, usable))
    line = fit_quiet(samples, lines[chosen], quiet)
    samples, line, unsure = of_noisy_pixels(samples, line, quiet)
    field = gain_over_field(samples, line)
    measured = samples
    if field.uneven:
        samples, line, field = of_even_gain(samples, line, field, quiet)
    line, linear_up_to = straight_part(samples, line, quiet)

    left = math.hypot(
        structure_left(line, lines, chosen),
        unsure,
        _UNEVEN_LEFT * field.spread * field.uneven,
        _FLATTENED_LEFT * samples.flattened,
    )
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
    x0_cut = math.hypot(
        x0_cut, error_of_offset(lines, chosen, statistics.frames), error_of_offsets(samples, line)
    )

    even = field.relative if field.uneven else np.ones(len(table))

    def zero_by(third_filter: Filter | None) -> ZeroLevel:
        third = None
        if third_filter is not None:
            third = table.mean_of(third_filter, "x3"), table.mean(f"y3_{third_filter}") / even**2
        return find_zero_level(
            samples,
            line,
            third,
            third_filter or "t",
            correlated=any(along) or bool(doubtful),
            systematic=left,
        )

    skewed = statistics.order == 2 and not mostly_moving(lines, chosen)
    zero = zero_by(chosen if skewed else None)
    if zero.multiplied and chosen != "t" and _skewed_by_structure(zero_by("t"), zero):
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
            "t" in lines and spreads_upwards(samples_by("t"), lines["t"], usable),
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


def _skewed_by_structure(weak: ZeroLevel, strong: ZeroLevel) -> bool:
    """Whether the weaker filter finds more skewness: then what flashes made it, and the rest is in doubt."""
    difference = weak.excess[0] - strong.excess[0]
    return difference > max(3 * strong.excess[1], 0.15)
