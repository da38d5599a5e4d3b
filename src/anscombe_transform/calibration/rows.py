"""The rows of the table that a line is fitted to, and their measurements.

Brightness groups that are cut off, and tiles with pixels that never change, are left out; the others are made
samples of one filter.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np

from anscombe_transform.calibration.line.checks import clipped_groups
from anscombe_transform.calibration.line.transfer import NoLine, Samples, equal_groups, fit_line
from anscombe_transform.calibration.result.sensitivity import Reason
from anscombe_transform.calibration.sums.statistics import (
    CLASSES,
    Filter,
    NoiseStatistics,
    Table,
)
from anscombe_transform.native.arrays import Bools

Instrument = Literal["q", "own"]

# Largest share of a brightness group that may be cut off. Less at the bright end, where half a percent
# takes more than 1 % of the variance and pulls at the end of the line.
_MOST_CUT_HIGH, _MOST_CUT_LOW = 0.001, 0.005
# Least share of the groups of brightness that must be left, beyond one cut and between two: fewer hold too
# little contrast, and what the floor takes is better made good by the share that it takes.
_LEAST_GROUPS, _LEAST_BETWEEN = 0.03, 0.3
# Least share of the rows that must be left where tiles with unchanging pixels are left out.
_LEAST_KEPT = 0.05
# Groups of brightness in each of which zeros must be as many as photon statistics say.
_GROUPS_OF_ZEROS = 5
# Least r² of a row's mean with its neighbours' mean, for these to be the instrument.
_LEAST_TOLD = 0.1


def floor_is_zero_photons(statistics: NoiseStatistics, table: Table) -> bool:
    """Whether the samples piled up at the smallest value are pixels without a photon, not values cut off.

    Then the variance vanishes at just that value, and a pixel of mean m takes it with the Poisson probability
    of no photon, exp(−(m − floor)/gain).
    """
    if not math.isfinite(statistics.floor):
        return False
    samples = samples_of(statistics, table, "t")
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
    """Rows of brightness groups that are not clipped, judged by the instrument, never by the value itself."""
    reasons = []
    groups = int(np.clip(len(table) // 50, 4, 100))
    group = equal_groups(table.mean("q"), groups)
    kept = np.ones(groups, bool)
    for column, cut, code, what, limit in (
        ("high", statistics.ceiling, "clipped_high", "saturates at", _MOST_CUT_HIGH),
        ("low", statistics.floor, "clipped_low", "is cut off at", _MOST_CUT_LOW),
    ):
        if not math.isfinite(cut) or (code == "clipped_low" and floor_is_zero):
            continue
        clipped = clipped_groups(table.mean(column) * table.n, table.n, group, groups, limit)
        # Of what the other end leaves: each end alone may leave enough where both together leave nothing.
        least = _LEAST_GROUPS if kept.all() else _LEAST_BETWEEN
        if np.count_nonzero(kept & ~clipped) >= max(3, least * groups):
            kept &= ~clipped
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
    return kept[group], reasons


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


def samples_of(
    statistics: NoiseStatistics,
    table: Table,
    name: Filter,
    kept: float = 1.0,
    *,
    instrument: Instrument = "q",
    shifted: bool = False,
) -> Samples:
    """Rows of one filter, which keeps the given part of the noise variance; pixels may be `shifted`."""
    tile, segment = table.label("tile"), np.unique(table.label("segment"), return_inverse=True)[1]
    return Samples(
        x=table.mean_of(name) if instrument == "q" else table.mean(f"x_{name}"),
        y=table.mean(f"y_{name}") / kept,
        q=table.mean(instrument),
        n=table.n,
        tile=tile,
        place=tile * CLASSES + table.label("brightness"),
        segment=segment,
        correlation=_correlation_in_time(statistics) * 1.944 ** (len(name) - 1),
        grid=statistics.grid,
        shifted=shifted,
    )


def choose_instrument(statistics: NoiseStatistics, table: Table, usable: Bools) -> Instrument:
    """Choose the neighbours' mean "q", or a pixel's "own" in the other half where neighbours tell nothing.

    A scene that is white in space has no neighbours that resemble a pixel. The pixel itself holds its own
    offset, and is the instrument for that case only. Simulated scenes that optics made have r² above 0.5 with
    any offsets, white ones below 0.01.
    """
    if not statistics.halved or np.count_nonzero(usable) < 2:
        return "q"
    q, x = table.mean("q")[usable], table.mean("x_t")[usable]
    if np.ptp(q) == 0 or np.ptp(x) == 0:
        return "q"
    return "q" if np.corrcoef(q, x)[0, 1] ** 2 > _LEAST_TOLD else "own"


def _correlation_in_time(statistics: NoiseStatistics) -> float:
    """Sum of squared autocorrelations of the temporal residuals of one half segment."""
    length = statistics.segment_frames // (2 if statistics.halved else 1)
    residuals = length - statistics.order
    correlations = (-2 / 3, 1 / 6) if statistics.order == 2 else (-1 / 2,)
    return 1 + 2 * sum(
        max(0.0, 1 - lag / residuals) * correlation**2
        for lag, correlation in enumerate(correlations, start=1)
    )
