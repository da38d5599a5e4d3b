"""Gain and zero level of a detector with dark noise clipped at a floor.

Values below the floor are stored as the floor. That raises the mean of dark pixels and lowers their variance,
and leaves a third number: the share of values at the floor. All three follow from gain, zero level and read
noise, so that even pixels with half of their values clipped show the zero level.

The law is that of Poisson-distributed photons, each giving a normal pulse of excess noise factor F², and
normal read noise. Given N photons, a value is normal with mean μ and standard deviation s, and of its part
above the floor, with a = (μ − floor) / s,

    E[v − floor]    =  (μ − floor) Φ(a) + s φ(a)
    E[(v − floor)²] =  ((μ − floor)² + s²) Φ(a) + (μ − floor) s φ(a)                            (Tobin 1958)

which are averaged over N. Curves of variance and of the share that is cut off, against the mean, are fitted
to groups of brightness.

References
----------
J. Tobin, "Estimation of relationships for limited dependent variables", Econometrica 26 (1958) 24-36.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from anscombe_transform.calibration.line.transfer import (
    Line,
    Samples,
    equal_groups,
    jackknife_error,
    jackknife_groups,
)
from anscombe_transform.calibration.result.constants import GROUPS, T_QUANTILE
from anscombe_transform.calibration.result.sensitivity import Reason
from anscombe_transform.native.arrays import Bools, Floats

# Standard errors of the relative gain, and of x₀ in units of the gain, by the share of the values under the
# line that are cut off at the floor, where the law of the cut could not be fitted. A cut lowers the variance
# and raises the mean of dark pixels; how much depends on the law, and simulated detectors differ by this.
_CUT_GAIN, _CUT_X0 = 0.12, 0.25

_BRIGHTNESSES = 60
# Largest share of a group that may be cut off, and the least of which a few groups must have lost.
_MOST_CUT, _LEAST_CUT, _FEWEST = 0.5, 0.002, 5
# Excess noise factors that are tried.
_EXCESSES = (1.0, 1.25, 1.5)
# Pixels of a row differ in brightness by as much as rows of a group do; that half of it is not seen.
_UNEVEN, _UNEVEN_LEAST = 2.0, 1.0
# Errors of the law itself, as parts of a variance and of a share, and of a share.
_LAW_OF_VARIANCE, _LAW_OF_SHARE, _LEAST_SHARE = 0.003, 0.01, 0.001
# Standard errors that the law leaves in any case: of the gain as a part of it, of the zero in photons.
_GAIN_LEFT, _ZERO_LEFT = 0.005, 0.06
# Mean squared departure, in errors, beyond which the law is not that of the data.
_WORST_FIT = 3.0
# Photon numbers at which the curves are worked out; nothing is cut off where there are more.
_MOST_PHOTONS = 150.0
_PHOTONS = np.concatenate([[0.0], np.geomspace(0.003, _MOST_PHOTONS, 140), np.geomspace(300, 1e6, 8)])
_PHOTONS.flags.writeable = False

Law = Callable[[float, float, float], tuple[Floats, tuple[Floats, Floats, Floats]]]


@dataclass(frozen=True)
class Censored:
    """Gain, zero level and x₀, their delete-one-group jackknife, and errors that the law may have left."""

    gain: float
    zero: float
    x0: float
    gains: Floats
    zeros: Floats
    x0s: Floats
    gain_left: float
    zero_left: float
    x0_left: float

    @property
    def zero_error(self) -> float:
        """Standard error of the zero level, the misfit of the distribution included."""
        return math.hypot(jackknife_error(self.zeros), self.zero_left)


class _Groups:
    """Means over groups of brightness, whole and without each group of tiles."""

    def __init__(self, samples: Samples, cut: Floats, rows: Bools) -> None:
        n = samples.n[rows]
        group = equal_groups(samples.q[rows], _BRIGHTNESSES)
        cell = group * GROUPS + jackknife_groups(samples.tile)[rows]
        x, y = samples.x[rows], samples.y[rows]
        # From the middle, since squares of a large zero level would drown the spread.
        self.middle = float(np.average(x, weights=n))
        columns = (np.ones_like(n), n, n * (x - self.middle), n * y, n * cut[rows], (x - self.middle) ** 2)
        self.sums = np.stack([_sums(cell, c) for c in columns])
        count = self.sums[0].sum(axis=1)
        mean = self.sums[3].sum(axis=1) / self.sums[1].sum(axis=1)
        scatter = _sums(cell, (y - mean[group]) ** 2).sum(axis=1)
        self.error = np.sqrt(scatter) / np.maximum(count, 1)

    def means(self, without: int | None = None) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """Mean, variance, share cut off, its error, and the variance of brightness among rows."""
        count, n, x, y, cut, square = (
            s.sum(axis=1) - (0 if without is None else s[:, without]) for s in self.sums
        )
        n, count = np.maximum(n, 1e-9), np.maximum(count, 1e-9)
        x, y, cut = x / n, y / n, cut / n
        among = square / count - x**2 - y * count / n
        error = np.sqrt(np.maximum(cut * (1 - cut), 1e-4) / n)
        return x + self.middle, y, cut, error, np.maximum(among, 0.0)


def _sums(cell: Any, values: Floats) -> Floats:
    sums = np.bincount(cell, values, _BRIGHTNESSES * GROUPS)
    return np.asarray(sums.reshape(_BRIGHTNESSES, GROUPS), np.float64)


def cut_off_curves(excess: float, floor: float, step: float) -> Law:
    """Law of an excess noise factor, a floor and a step between values.

    Returned is a function of gain, zero level and read noise; it gives numbers of photons, and the mean, the
    variance and the share at the floor of each.
    """
    from scipy.special import ndtr
    from scipy.stats import poisson

    few = _PHOTONS[_PHOTONS <= _MOST_PHOTONS]
    counts = np.arange(int(few[-1] + 7 * math.sqrt(few[-1]) + 8), dtype=np.float64)
    weights = poisson.pmf(counts[None], few[:, None])

    def law(gain: float, zero: float, read: float) -> tuple[Floats, tuple[Floats, Floats, Floats]]:
        one = gain / excess
        above = zero + one * counts - floor
        spread = np.sqrt(read**2 + counts * one**2 * (excess - 1))
        a = above / spread
        density = np.exp(-(a**2) / 2) / math.sqrt(2 * math.pi)
        part = ndtr(a)
        first = weights @ (above * part + spread * density)
        second = weights @ ((above**2 + spread**2) * part + above * spread * density)
        # Rounding puts what lies less than half a step above the floor there too.
        share = weights @ ndtr((step / 2 - above) / spread)
        many = one * _PHOTONS[len(few) :]
        mean = np.concatenate([floor + first, zero + many])
        variance = np.concatenate([second - first**2, read**2 + gain * many])
        return _PHOTONS, (mean, variance, np.concatenate([share, np.zeros_like(many)]))

    return law


def fit_censored(
    samples: Samples, cut: Floats, rows: Bools, gain: float, floor: float, step: float
) -> Censored | None:
    """Fit the distribution of a clipped detector to `rows`, with the shares `cut` of values at the `floor`.

    `gain` is where the search begins; `step` is that of the values, 0 if they are not rounded. Returned is
    None where too little is cut off to tell, or where the law does not fit.
    """
    from scipy.optimize import least_squares

    if not gain > 0 or np.count_nonzero(rows) < 8 * _BRIGHTNESSES:
        return None
    groups = _Groups(samples, cut, rows)
    whole = groups.means()
    fit = whole[2] < _MOST_CUT
    if np.count_nonzero(fit) < 2 * _FEWEST or np.count_nonzero(fit & (whole[2] > _LEAST_CUT)) < _FEWEST:
        return None

    def departures(found: Floats, law: Law, uneven: float, without: int | None = None) -> Floats:
        g, z, r = gain * math.exp(found[0]), floor + gain * found[1], gain * math.exp(found[2])
        x, y, share, error, among = (values[fit] for values in groups.means(without))
        apart = np.sqrt(uneven * among)
        return _departures(law(g, z, r)[1], x, y, share, groups.error[fit], error, apart)

    laws = [cut_off_curves(excess, floor, step) for excess in _EXCESSES]

    def search(law: Law, uneven: float) -> Any:
        return least_squares(
            departures,
            [0.0, 0.3, math.log(0.6)],
            bounds=([-0.6, -8.0, -4.0], [0.6, 10.0, 2.3]),
            x_scale=[0.05, 0.3, 0.3],
            loss="soft_l1",
            max_nfev=60,
            args=(law, uneven),
        )

    tried = [search(law, _UNEVEN) for law in laws]
    costs = np.array([result.cost for result in tried])
    best, law = tried[int(costs.argmin())], laws[int(costs.argmin())]
    scatter = best.cost / np.count_nonzero(fit)
    # A read noise of 0 is at a bound and may be true.
    if scatter > _WORST_FIT or best.active_mask[:2].any():
        return None

    def constants(found: Floats) -> Floats:
        """Gain, zero level and x₀."""
        g, z = gain * np.exp(found[0]), floor + gain * found[1]
        return np.array([g, z, z - (gain * np.exp(found[2])) ** 2 / g])

    likely = np.exp(-(costs - costs.min()) / max(1.0, scatter))
    likely /= likely.sum()
    values = np.stack([constants(result.x) for result in tried])
    mean = likely @ values
    less = search(law, _UNEVEN_LEAST)
    left = np.sqrt(likely @ (values - mean) ** 2 + (constants(less.x) - constants(best.x)) ** 2 / 4)
    left = np.hypot(left, mean[0] * np.array([_GAIN_LEFT, _ZERO_LEFT, _ZERO_LEFT]))
    steps = _steps_without(best.x, lambda found, without: departures(found, law, _UNEVEN, without))
    moved = np.stack([constants(best.x + step) for step in steps]) - constants(best.x) + mean
    if not np.isfinite(moved).all():
        return None
    return Censored(*mean.tolist(), *moved.T, *left.tolist())


def _steps_without(found: Floats, departures: Callable[[Floats, int | None], Floats]) -> Floats:
    """Return how the minimum moves, to first order, if each group of tiles is left out."""
    size = 1e-4
    start = departures(found, None)
    slopes = np.stack([(departures(found + size * unit, None) - start) / size for unit in np.eye(3)], axis=1)
    change = np.stack([departures(found, without) - start for without in range(GROUPS)], axis=1)
    # As the robust loss weighs them.
    weight = (1 + start**2)[:, None] ** -0.25
    moved = np.linalg.lstsq(weight * slopes, -weight * change, rcond=None)[0]
    return np.asarray(moved.T, np.float64)


def _departures(
    curves: tuple[Floats, Floats, Floats],
    x: Floats,
    y: Floats,
    cut: Floats,
    error: Floats,
    share_error: Floats,
    spread: Floats,
) -> Floats:
    """Departures of groups' variances and shares from the curves, in errors.

    Pixels of a group differ in brightness: half of them are taken to be brighter and half darker than their
    mean, by their `spread`.
    """
    mean, variance, _share = curves
    rising = np.maximum.accumulate(mean + 1e-9 * np.arange(len(mean)) * max(1.0, abs(float(mean[0])) * 1e-6))
    photons = np.interp(x, rising, _PHOTONS)
    slopes = [np.interp(photons, _PHOTONS, np.gradient(curve, _PHOTONS)) for curve in curves]
    slopes[0] = np.maximum(slopes[0], 1e-9)
    apart = np.minimum(spread / slopes[0], 0.95 * photons)
    middle_x, middle_y, middle_cut = (
        (np.interp(photons - apart, _PHOTONS, c) + np.interp(photons + apart, _PHOTONS, c)) / 2
        for c in curves
    )
    expected = middle_y + slopes[1] / slopes[0] * (x - middle_x)
    expected_cut = middle_cut + slopes[2] / slopes[0] * (x - middle_x)
    of_variance = (y - expected) / np.hypot(error, _LAW_OF_VARIANCE * np.abs(expected) + 1e-30)
    of_share = (cut - expected_cut) / np.hypot(share_error, _LAW_OF_SHARE * cut + _LEAST_SHARE)
    # A group cannot be darker than no light.
    below = np.minimum(x - mean[0], 0) / math.sqrt(max(float(variance[0]), 1e-30)) * 50
    out = np.concatenate([of_variance, of_share, below])
    return np.asarray(np.clip(np.nan_to_num(out, nan=1e3, posinf=1e3, neginf=-1e3), -1e4, 1e4), np.float64)


def without_cut(
    line: Line, cut: Floats, censored: Censored | None, reasons: Sequence[Reason]
) -> tuple[Line, float, float, list[Reason]]:
    """Return the line corrected for clipping at the floor.

    That is the line of the law of the cut, if it could be fitted. Else groups of brightness with few values
    cut off stay in, or all do where none is free of them. Returned are the line, the relative error of the
    gain and the error of x₀ that may be left, and the reasons, which say by how much the gain may be off.
    """
    if not any(reason.code.startswith("clipped_low") for reason in reasons):
        return line, 0.0, 0.0, list(reasons)
    if censored is not None:
        line = replace(line, gain=censored.gain, x0=censored.x0, gains=censored.gains, x0s=censored.x0s)
        of_gain, of_x0 = censored.gain_left / censored.gain, censored.x0_left
    else:
        rate = float(np.average(cut[line.used], weights=line.weight[line.used]))
        of_gain, of_x0 = _CUT_GAIN * rate, _CUT_X0 * rate * abs(line.gain)
    told = []
    for reason in reasons:
        message = reason.message
        if reason.code == "clipped_low_everywhere":
            percent = 100 * T_QUANTILE * of_gain
            message = f"{message[:-1]}; the gain may be off by {percent:.0f} % for that."
        elif reason.code == "clipped_low" and censored is None:
            message = f"{message[:-1]}, and the zero level is extrapolated."
        elif reason.code == "clipped_low":
            message = f"{message[:-1]}, and the share that is cut off tells the zero level."
        told.append(replace(reason, message=message))
    return line, of_gain, of_x0, told
