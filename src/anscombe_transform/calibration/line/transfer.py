"""The photon transfer line: variance = gain · (mean − x₀), from rows that may hold more than noise.

A row gives a mean x, a variance y and an instrument q of the same pixels. Rows on structure that moved, on
active cells or on defective pixels lie above the line; they are found by the law that the others obey.

Since q sorted the pixels and its noise is independent of x and y, the slope is estimated as

    g = Σ ω (q − q̄) y / Σ ω (q − q̄) x

where least squares on the noisy x would be biased towards zero [1].

Where a place has a zero level of its own, higher by o than the field's, its variance is

    y = g · (x − o − x₀)

at all times, so that more frames do not average it out. Offsets are treated as random effects [2]: of a
place (tile and class) of variance τ², and of a patch of the field, within which they wander together. A row's
deviation from the line then has the variance of chance plus τ², and rows count by the inverse of that, of one
place and one patch together.

References
----------
1. A. Wald, "The fitting of straight lines if both variables are subject to error", Annals of Mathematical
   Statistics 11 (1940) 284-300.
2. R. DerSimonian and N. Laird, "Meta-analysis in clinical trials", Controlled Clinical Trials 7 (1986)
   177-188.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from anscombe_transform.calibration.result.constants import GROUPS
from anscombe_transform.native.arrays import Bools, Floats, Integers

# Tails, in standard normal deviates, beyond which a row, or a tile's class over the whole movie, is not
# noise.
_ROW_TAILS = (-5.0, 4.7)
_TILE_TAILS = (-4.2, 3.7)
_SEGMENT_TAIL = 6.0
_ITERATIONS, _SETTLING = 15, 4
# Fourth cumulant of the residuals over their normalised variance, in units of gain² · variance.
_FOURTH_CUMULANT = 1.5
_LEAST_ROWS = 8
# Least part of the spread of brightness that there must be within moments, for that between to be left out.
_LEAST_WITHIN = 0.05
# Patches along a side of the field, and tiles along a side of a patch, at least.
_PATCHES, _LEAST_PATCH = 8, 2
# Upper quartile of |z| of a normal distribution, and the standard error of the quartile of n values about
# half of which lie on this side, times √n.
_QUARTILE, _CHANCE_OF_QUARTILE = 0.6745, 1.5
# Standard errors, and the relative excess, by which the quartile must exceed chance. The second covers what
# the sampling distribution of a variance leaves out.
_SURE, _LEAST_EXCESS = 2.0, 0.05
# Places, or patches, that are needed to measure their scatter.
_FEWEST_LABELS = 48


class NoLine(ValueError):
    """The rows do not determine a line."""


@dataclass(frozen=True)
class Samples:
    """Rows of one filter: mean `x`, variance `y`, instrument `q` and number of residuals `n` of each.

    `place` numbers the tile and class, `segment` the half segment; `correlation` is the sum of squared
    autocorrelations of the filter's residuals, by which they count less than independent ones. `grid` are
    the rows and columns of tiles. `shifted` says that pixels have offsets; `level` are those of the tiles
    that were taken off `x` and `q`, after which the slope is that within tiles. `flattened` is the part of
    the contrast within blocks that is offsets and no light, by which the slope would be low.
    """

    x: Floats
    y: Floats
    q: Floats
    n: Floats
    tile: Integers
    place: Integers
    segment: Integers
    correlation: float
    grid: tuple[int, int] = (1, 1)
    shifted: bool = False
    level: Floats | None = None
    flattened: float = 0.0

    @property
    def patches(self) -> tuple[int, int]:
        """Rows and columns of tiles of a patch."""
        high, wide = (max(_LEAST_PATCH, -(-side // _PATCHES)) for side in self.grid)
        return high, wide

    @cached_property
    def patch(self) -> Integers:
        """Number of the patch of each row: a part of the field within which offsets may wander together."""
        (_, columns), (high, wide) = self.grid, self.patches
        across = -(-columns // wide)
        return np.asarray(self.tile // columns // high * across + self.tile % columns // wide, np.intp)

    @property
    def block(self) -> Integers:
        """Number of the part of the movie that each row's slope is taken within: a moment, of one tile.

        A zero level that wanders from moment to moment, or from tile to tile, changes means and not
        variances, so that the slope between them is not the gain.
        """
        if self.level is None:
            return self.segment
        number = self.segment * (int(self.tile.max()) + 1) + self.tile
        return np.asarray(np.unique(number, return_inverse=True)[1], np.intp)

    def variance_of_variance(self, variance: Floats, gain: float) -> Floats:
        """Sampling variance of `y · sqrt(n)` where the true variance is `variance`."""
        law = 2 * self.correlation * variance**2 + _FOURTH_CUMULANT * max(gain, 0.0) ** 2 * variance
        return np.asarray(law, np.float64)


@dataclass(frozen=True)
class Offsets:
    """Variance of the deviation from the line, beyond chance, of a place and of a patch: (signal²)²."""

    place: float = 0.0
    patch: float = 0.0

    def __bool__(self) -> bool:
        return self.place > 0 or self.patch > 0


@dataclass(frozen=True)
class Line:
    """A fitted line, the rows it rests on, and its delete-one-group jackknife."""

    gain: float
    x0: float
    used: Bools
    used_fraction: float
    instrument: Floats
    variance: Floats
    weight: Floats
    gains: Floats
    x0s: Floats
    offsets: Offsets = field(default_factory=Offsets)

    @property
    def gain_error(self) -> float:
        """Standard error of the gain."""
        return jackknife_error(self.gains)

    @property
    def x0_error(self) -> float:
        """Standard error of the variance intercept."""
        return jackknife_error(self.x0s)


def fit_line(samples: Samples, usable: Bools) -> Line:
    """Fit the line to the `usable` rows, leaving out those that are not noise.

    Raises
    ------
    NoLine
        Too few rows are left, or their means do not differ.
    """
    q = expected_mean(samples, usable)
    gain, x0 = _starting_line(samples, q, usable)
    # Where photons are rare, most rows may hold none.
    typical = max(float(np.median(samples.y[usable])) or float(samples.y[usable].mean()), 1e-30)
    used, previous, offsets, block = usable, usable, Offsets(), samples.block
    for turn in range(_ITERATIONS):
        # A hot pixel must not pass for the brightness of its group.
        if 0 < turn < _SETTLING:
            q = expected_mean(samples, used)
        # Never below a fiftieth of the typical variance: a weight must not explode where the line nears zero.
        variance = np.maximum(gain * (q - x0), 0.02 * typical)
        if samples.shifted:
            offsets = offsets_of(samples, used, gain, x0, variance)
        used = _noise_only(samples, usable, gain, x0, variance, offsets)
        if np.count_nonzero(used) < _LEAST_ROWS:
            raise NoLine("hardly any row is explained by noise")
        weight = _weights(samples, used, gain, variance, offsets)
        new_gain, x0 = instrumental_line(
            samples.x[used], samples.y[used], q[used], weight[used], block[used], samples.flattened
        )
        if not (np.isfinite(new_gain) and np.isfinite(x0)):
            raise NoLine("the means do not differ")
        settled = np.array_equal(used, previous) and abs(new_gain - gain) < 1e-4 * abs(gain)
        gain, previous = new_gain, used
        if settled:
            break
    variance = np.maximum(gain * (q - x0), 0.02 * typical)
    weight = _weights(samples, used, gain, variance, offsets)
    gains, x0s = jackknife_line(
        samples.x[used],
        samples.y[used],
        q[used],
        weight[used],
        block[used],
        # What a patch shares would be in all groups of scattered tiles.
        jackknife_groups(samples.patch if samples.level is not None or offsets.patch else samples.tile)[used],
        samples.flattened,
    )
    return Line(
        gain=gain,
        x0=x0,
        used=used,
        used_fraction=float(used.sum()) / max(1.0, float(usable.sum())),
        instrument=q,
        variance=variance,
        weight=weight,
        gains=gains,
        x0s=x0s,
        offsets=offsets,
    )


def offsets_of(samples: Samples, used: Bools, gain: float, x0: float, variance: Floats) -> Offsets:
    """How far places and patches of the `used` rows lie off a line by more than chance."""
    weight = used * samples.n / samples.variance_of_variance(variance, gain)
    return find_offsets(samples.y - gain * (samples.x - x0), variance, weight, samples.place, samples.patch)


def find_offsets(
    deviation: Floats, variance: Floats, weight: Floats, place: Integers, patch: Integers
) -> Offsets:
    """Measure how much places, and patches, deviate from the line by more than chance.

    Parameters
    ----------
    deviation, variance : ndarray
        Measured less fitted variance of each row, and the fitted one.
    weight : ndarray
        One over the sampling variance of the deviation; 0 for rows that do not count.
    place, patch : ndarray of int
        Number of the place, and of the patch, of each row.
    """
    of_place = _beyond_chance(place, weight, deviation, variance)
    shared = weight_of_shared(place, weight, weight, of_place)
    return Offsets(of_place, _beyond_chance(patch, shared, deviation, variance))


def weight_of_shared(label: Integers, weight: Floats, counted: Floats, scatter: float) -> Floats:
    """Weights of rows if all of one label share a deviation of variance `scatter`.

    `counted` are the weights of the rows that are used. n rows of weight w each that share a deviation of
    variance τ² weigh w / (1 + n w τ²) each: together 1 / (1/(n w) + τ²).
    """
    if not scatter:
        return weight
    return np.asarray(weight / (1 + scatter * np.bincount(label, counted)[label]), np.float64)


def _beyond_chance(label: Integers, weight: Floats, deviation: Floats, variance: Floats) -> float:
    """Variance of the labels' mean deviations beyond chance, in the darker half of the labels.

    From the quartile below the median: motion and flashes add variance and take none away. In the darker
    half, since other differences of places, such as a gain of their own, grows with the light.
    """
    total = np.bincount(label, weight)
    present = total > 0
    if np.count_nonzero(present) < _FEWEST_LABELS:
        return 0.0
    total = total[present]
    mean, level = (np.bincount(label, weight * v)[present] / total for v in (deviation, variance))
    dark = level <= np.median(level)
    mean, chance = mean[dark], 1 / total[dark]
    below = np.maximum(np.median(mean) - mean, 0.0)

    def quartile(scatter: float) -> float:
        # Half of the values are 0: three quarters of all are the middle of those below.
        return float(np.quantile(below / np.sqrt(chance + scatter), 0.75))

    margin = 1 + _LEAST_EXCESS + _SURE * _CHANCE_OF_QUARTILE / math.sqrt(len(mean))
    if not quartile(0.0) > _QUARTILE * margin:
        return 0.0
    low, high = 0.0, float(np.quantile(below, 0.75) / _QUARTILE) ** 2
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if quartile(middle) > _QUARTILE else (low, middle)
    return high


def has_offsets(samples: Samples, line: Line) -> bool:
    """Whether places, or patches, lie off the line by more than chance."""
    return bool(offsets_of(samples, line.used, line.gain, line.x0, line.variance))


def _weights(samples: Samples, used: Bools, gain: float, variance: Floats, offsets: Offsets) -> Floats:
    """Inverse sampling variance of the rows' deviations.

    By the instrument alone: by a row's own mean, a high offset would count as light, and the row would count
    less for it.
    """
    weight = samples.n / samples.variance_of_variance(variance, gain)
    if not offsets:
        return weight
    for label, scatter in ((samples.place, offsets.place), (samples.patch, offsets.patch)):
        weight = weight_of_shared(label, weight, used * weight, scatter)
    return weight


def expected_mean(samples: Samples, usable: Bools) -> Floats:
    """E[x | q], the first stage of two-stage least squares: means of groups of q, linear in between."""
    q, n = samples.q, samples.n
    groups = min(max(int(np.count_nonzero(usable)) // 40, 4), 64)
    group = equal_groups(q[usable], groups)
    weight = np.bincount(group, n[usable], groups)
    if np.any(weight == 0):
        raise NoLine("fewer rows than groups of brightness")
    knots_q = np.bincount(group, (n * q)[usable], groups) / weight
    knots_x = np.sort(np.bincount(group, (n * samples.x)[usable], groups) / weight)
    out = np.interp(q, knots_q, knots_x)
    for end, beside, beyond in ((0, 1, q < knots_q[0]), (-1, -2, q > knots_q[-1])):
        step = knots_q[end] - knots_q[beside]
        slope = (knots_x[end] - knots_x[beside]) / step if step else 0.0
        out = np.where(beyond, knots_x[end] + slope * (q - knots_q[end]), out)
    return np.asarray(out, np.float64)


def _starting_line(samples: Samples, q: Floats, usable: Bools) -> tuple[float, float]:
    """Theil-Sen line through the medians of groups of brightness."""
    weight = _sum_by(samples.place, usable * samples.n)
    present = weight > 0
    place_q, place_x, place_y = (
        _sum_by(samples.place, usable * samples.n * v)[present] / weight[present]
        for v in (q, samples.x, samples.y)
    )
    group = equal_groups(place_q, int(np.clip(len(place_q) // 12, 3, 30)))
    medians = np.array(
        [(np.median(place_x[group == k]), np.median(place_y[group == k])) for k in np.unique(group)]
    )
    if len(np.unique(medians[:, 0])) < 2:
        raise NoLine("the means do not differ")
    # A few dozen points: their pairwise slopes are quicker taken than scipy.stats is imported.
    rise, run = (
        np.subtract.outer(column, column)[np.triu_indices(len(column), 1)] for column in medians.T[::-1]
    )
    slope = float(np.median(rise[run != 0] / run[run != 0]))
    if slope == 0 or not np.isfinite(slope):
        slope = 1e-6 * max(float(np.median(medians[:, 1])), 1e-30) / max(float(np.ptp(medians[:, 0])), 1e-30)
    return slope, -float(np.median(medians[:, 1] - slope * medians[:, 0])) / slope


def _noise_only(
    samples: Samples,
    usable: Bools,
    gain: float,
    x0: float,
    variance: Floats,
    offsets: Offsets,
) -> Bools:
    """Rows that noise explains: not far off alone, nor as a place over time, nor as a moment over space."""
    n = samples.n
    deviation = (samples.y - gain * (samples.x - x0)) / variance
    law = samples.variance_of_variance(variance, gain) / variance**2
    off = offsets.place + offsets.patch
    spread = np.sqrt(law / n + off / variance**2)
    # Where contamination is everywhere the law is too narrow; where it is nowhere, it must not be narrowed.
    widening = _robust_spread((deviation / spread)[usable], 1.0, 1.5, centre=0.0)
    low, high = _limits(widening * spread, _ROW_TAILS)
    fine = usable & (deviation >= low) & (deviation <= high)

    weight = _sum_by(samples.place, fine * n)
    present = weight > 0
    safe = _nonzero(weight)
    of_place = _sum_by(samples.place, fine * n * deviation) / safe
    spread_of_place = np.sqrt(_sum_by(samples.place, fine * n * law)) / safe
    if off:
        level = _nonzero(_sum_by(samples.place, fine * n * variance) / safe)
        spread_of_place = np.hypot(spread_of_place, math.sqrt(off) / level)
    score = of_place[present] / spread_of_place[present]
    widening = _robust_spread(score, 1.0, 2.0)
    low, high = _limits(widening * spread_of_place, _TILE_TAILS)
    place_fine = ((of_place >= low) & (of_place <= high)) | ~present

    weight = _sum_by(samples.segment, fine * n)
    safe = _nonzero(weight)
    of_segment = _sum_by(samples.segment, fine * n * deviation) / safe
    present = weight > 0
    burst = np.zeros(len(weight), bool)
    if np.count_nonzero(present) >= 6:
        centre = np.median(of_segment[present])
        theory = np.sqrt(_sum_by(samples.segment, fine * n * law)) / safe
        scale = np.maximum(1.4826 * np.median(np.abs(of_segment[present] - centre)), 1.5 * theory)
        burst = of_segment - centre > _SEGMENT_TAIL * scale
    return np.asarray(fine & place_fine[samples.place] & ~burst[samples.segment])


def _robust_spread(score: Floats, low: float, high: float, centre: float | None = None) -> float:
    """Median absolute deviation of standard scores as a standard deviation, within limits."""
    if not score.size:
        return low
    middle = float(np.median(score)) if centre is None else centre
    return float(np.clip(1.4826 * np.median(np.abs(score - middle)), low, high))


def _limits(spread: Floats, tails: tuple[float, float]) -> tuple[Floats, Floats]:
    """Two quantiles of the relative deviation of gamma laws of mean 1 and that spread.

    By Wilson and Hilferty's cube of a normal law, since one per row from the exact law is slow.
    """
    low, high = (np.maximum(1 - spread**2 / 9 + z * spread / 3, 0) ** 3 - 1 for z in tails)
    # Few photons often have no variance at all: no lower limit then, whatever the row's own mean is.
    return np.where(low > -1, low, -np.inf), np.asarray(high)


def instrumental_line(
    x: Floats, y: Floats, q: Floats, weight: Floats, moment: Integers, flattened: float = 0.0
) -> tuple[float, float]:
    """Slope and x-intercept of the weighted line of y on x, instrumented by q.

    `moment` numbers half segments, or other blocks within which the slope is taken; `flattened` is the part
    of their contrast that is offsets.
    """
    sums = _sums_by_moment(x, y, q, weight, moment, np.zeros_like(moment), 1)
    gains, x0s = _lines_of_sums(*sums, flattened=flattened)
    return float(gains[0]), float(x0s[0])


def jackknife_line(
    x: Floats,
    y: Floats,
    q: Floats,
    weight: Floats,
    moment: Integers,
    group: Integers,
    flattened: float = 0.0,
) -> tuple[Floats, Floats]:
    """Slopes and x-intercepts with one group left out at a time."""
    middle, *sums = _sums_by_moment(x, y, q, weight, moment, group, GROUPS)
    return _lines_of_sums(middle, *(s.sum(axis=0) - s for s in sums), flattened=flattened)


def _sums_by_moment(
    x: Floats, y: Floats, q: Floats, weight: Floats, moment: Integers, group: Integers, groups: int
) -> tuple[Any, ...]:
    """A middle of x, and from there the weighted sums that a line needs, (group, moment) each."""
    # From their middle, since the sums' differences would drown in the rounding of a large zero level.
    middle = float(np.average(x, weights=weight))
    q, x = q - middle, x - middle
    moments = int(moment.max()) + 1
    cell = group * moments + moment
    values = (np.ones_like(x), q, x, y, q * x, q * y)
    return middle, *(np.bincount(cell, weight * v, groups * moments).reshape(groups, -1) for v in values)


def _lines_of_sums(
    middle: float,
    w: Floats,
    wq: Floats,
    wx: Floats,
    wy: Floats,
    wqx: Floats,
    wqy: Floats,
    *,
    flattened: float,
) -> tuple[Floats, Floats]:
    """Slopes and x-intercepts from sums (group, moment).

    The slope is that within moments, unless hardly any contrast is.
    """
    safe = _nonzero(w)
    total = w.sum(axis=1)
    mean_q, mean_x, mean_y = (s.sum(axis=1) / total for s in (wq, wx, wy))
    run, rise = wqx.sum(axis=1) - mean_q * wx.sum(axis=1), wqy.sum(axis=1) - mean_q * wy.sum(axis=1)
    run_within = (wqx - wq * wx / safe).sum(axis=1)
    if run_within.sum() > _LEAST_WITHIN * run.sum():
        run, rise = run_within, (wqy - wq * wy / safe).sum(axis=1)
    with np.errstate(all="ignore"):
        gains = rise / (run * (1 - flattened))
        return gains, middle + mean_x - mean_y / gains


def jackknife_error(leave_one_out: Floats) -> float:
    """Standard error from delete-one-group estimates."""
    k = len(leave_one_out)
    return float(np.sqrt((k - 1) / k * np.sum((leave_one_out - leave_one_out.mean()) ** 2)))


def jackknife_groups(tile: Integers) -> Integers:
    """Group of each tile or patch, scattered over the field by a multiplicative hash."""
    return ((tile.astype(np.int64) * 2654435761 % 2**32) // 7 % GROUPS).astype(np.intp)


def equal_groups(values: Floats, groups: int) -> Integers:
    """Group numbers 0..groups−1 by rank, of equal counts; ties in order of position."""
    count = len(values)
    if count <= groups or np.isnan(values).any():
        return _ranks(values) * groups // max(1, count)
    # Values are sorted several times as fast as their positions, which only ties at a border need.
    ordered = np.sort(values)
    borders = ordered[-(-np.arange(1, groups) * count // groups)]
    group = np.searchsorted(borders, values, "right")
    tied = np.flatnonzero(np.append(-np.inf, borders)[group] == values)
    tied = tied[np.argsort(values[tied], kind="stable")]
    value = values[tied]
    rank = np.searchsorted(ordered, value) + np.arange(len(tied)) - np.searchsorted(value, value)
    group[tied] = rank * groups // count
    return group


def _ranks(values: Floats) -> Integers:
    """Rank of each value from 0, ties in order of position."""
    rank = np.empty(len(values), np.intp)
    rank[np.argsort(values, kind="stable")] = np.arange(len(values))
    return rank


def _sum_by(label: Integers, values: Floats) -> Floats:
    return np.asarray(np.bincount(label, values), np.float64)


def _nonzero(weight: Floats) -> Floats:
    """Weights to divide by; sums over nothing are 0 in any case."""
    return np.where(weight > 0, weight, 1.0)
