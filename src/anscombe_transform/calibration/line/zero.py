"""The zero level and the read noise, separated by the third cumulant.

The variance line gives only x₀ = zero_level − read_noise²/gain. Gaussian read noise has no third cumulant,
so the line of third cumulants, κ₃ = ρ₃ g² (mean − zero_level), crosses zero at the zero level itself.
For a detector that answers every photon alike ρ₃ = 1 and κ₃ = g²·(mean − zero_level) gives the zero level
from one mean value; where ρ₃ ≠ 1 (excess noise, correlated noise) the zero level is the line's x-intercept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from anscombe_transform.calibration.line.transfer import (
    Line,
    Samples,
    equal_groups,
    instrumental_line,
    jackknife_error,
    jackknife_groups,
    jackknife_line,
)
from anscombe_transform.calibration.result.constants import GROUPS, T_QUANTILE
from anscombe_transform.native.arrays import Bools, Floats

# Σ of the cubed autocorrelations and the like: sampling variance of κ₃ per residual, in units of variance³.
_THIRD_CORRELATION = {"t": 15.0, "ty": 37.5, "tx": 37.5, "txy": 93.7}
# ρ₃ is 1 for photons alone and 1.5 for an EMCCD; skewness far from that is not that of photons.
_LEAST_EXCESS, _MOST_EXCESS = 0.7, 1.75
# Standard errors by which ρ₃ must exceed 1 to show that pulses vary, and those between which that is open:
# the error of third moments is itself uncertain.
_MULTIPLIED, _DOUBTFUL = 4.0, (2.0, 6.0)
# Jackknife errors of third moments come out small: most of the information is in few rows.
CAUTION = 1.25
# Weight of the variance in that shrinking.
_SHRINKING = 0.5


# Below this an excess of the third cumulant, however significant, changes no figure that anybody uses.
_LEAST_SHOWN = 1.05


@dataclass(frozen=True)
class ZeroLevel:
    """Zero level, its interval, the excess of third cumulants, and where they come from.

    `excess` is ρ₃ with its standard error (NaN if there is no third cumulant); `multiplied` says that it
    differs from 1, `photon_like` that it is one that photons can have; `consistent` is false where second and
    third cumulants contradict each other.
    """

    value: float
    interval: tuple[float, float]
    method: str
    excess: tuple[float, float]
    multiplied: bool = False
    consistent: bool = True
    photon_like: bool = True

    @property
    def excess_noise(self) -> float:
        """Excess noise factor F² = 1 / (2 - ρ₃), exact for gamma-distributed pulses; 1 where none shows."""
        shows = self.multiplied and self.photon_like and _LEAST_SHOWN < self.excess[0] < 1.9
        return 1 / (2 - self.excess[0]) if shows else 1.0

    @property
    def excess_noise_interval(self) -> tuple[float, float]:
        """95 % interval of `excess_noise`, from 1 where none shows; NaN where ρ₃ was not measured."""
        ratio, error = self.excess
        if not (np.isfinite(ratio) and np.isfinite(error) and self.photon_like):
            return np.nan, np.nan
        low, high = (
            1 / (2 - min(max(ratio + sign * T_QUANTILE * error, 1.0), _MOST_EXCESS)) for sign in (-1, 1)
        )
        return (low if self.excess_noise > 1 else 1.0), max(high, self.excess_noise)


def find_zero_level(
    samples: Samples,
    line: Line,
    third: tuple[Floats, Floats] | None,
    third_filter: str,
    *,
    correlated: bool,
    systematic: float,
) -> ZeroLevel:
    """Zero level from a fitted line and, if there is one, the mean and third cumulant of every row.

    `correlated` says that neighbouring pixels share noise, so that ρ₃ = 1 cannot be expected. `systematic` is
    the relative systematic error of the gain, which tilts the lines about the typical mean.
    """
    tilt = systematic * abs(float(np.average(samples.x[line.used], weights=line.weight[line.used])) - line.x0)
    x0_error = float(np.hypot(line.x0_error, tilt))
    darkest, darkest_error = _darkest(samples, line)
    low = line.x0 - T_QUANTILE * x0_error
    high = max(darkest + 2 * darkest_error, line.x0 + T_QUANTILE * x0_error)
    fallback = ZeroLevel(line.x0, (low, high), "variance intercept", (np.nan, np.nan))
    if third is None:
        return fallback

    x3, y3 = third
    spread = _spread_of_third(samples, line, third_filter)
    fine = _without_outliers(y3 - line.gain**2 * (x3 - line.x0), spread, line.used)
    if np.count_nonzero(fine) < 0.8 * np.count_nonzero(line.used):
        return fallback
    weight = 1 / spread[fine] ** 2
    x3, y3, q, group = x3[fine], y3[fine], line.instrument[fine], jackknife_groups(samples.tile)[fine]
    moment = samples.segment[fine]

    slope, free = instrumental_line(x3, y3, q, weight, moment)
    slopes, frees = jackknife_line(x3, y3, q, weight, moment, group)
    excess = slope / line.gain**2
    excess_error = jackknife_error(slopes / line.gains**2)
    pure, pure_error = _zero_if_pure(x3, y3, weight, group, line)

    if excess + 3 * excess_error < _LEAST_EXCESS or excess - 2 * excess_error > _MOST_EXCESS:
        return replace(fallback, excess=(excess, excess_error), photon_like=False)
    structured = third_filter != "t"
    shown = (excess - 1) / max(excess_error, 1e-30)
    multiplied = correlated or (shown > _MULTIPLIED and excess - 1 > (0.15 if structured else 0.0))
    value, error = (free, jackknife_error(frees)) if multiplied else (pure, pure_error)
    error = CAUTION * max(error, 1 / (line.gain**2 * float(np.sqrt(weight.sum()))))
    error = float(np.hypot(error, 2 * tilt))
    if not (np.isfinite(value) and error < 3 * max(high - low, 1e-30)):
        return ZeroLevel(line.x0, (low, high), "variance intercept", (excess, excess_error), multiplied)
    found = ZeroLevel(value, (low, high), "third cumulant", (excess, excess_error), multiplied)
    best = _between(found, error, line.x0, x0_error, max(darkest, line.x0))
    if correlated or not _DOUBTFUL[0] < shown < _DOUBTFUL[1]:
        return best
    # Where it is not clear whether pulses vary, the interval holds what follows from either.
    other = min(max(pure if multiplied else free, low), high)
    return replace(best, interval=(min(best.interval[0], other), max(best.interval[1], other)))


def _between(found: ZeroLevel, error: float, x0: float, x0_error: float, ceiling: float) -> ZeroLevel:
    """Put the third cumulant's zero level between x₀ and the darkest mean.

    It is shrunk to x₀ as far as the difference may be chance. `found.interval` is where second moments allow
    it to be; a third cumulant that contradicts them is given up.
    """
    low, high = found.value - T_QUANTILE * error, found.value + T_QUANTILE * error
    least, most = found.interval
    if high < least or low > most:
        return replace(found, value=x0, method="variance intercept", consistent=False)
    difference = found.value - x0
    chance = _SHRINKING * (error**2 + x0_error**2)
    value = min(x0 + max(difference, 0.0) * difference**2 / (difference**2 + chance), ceiling)
    interval = (min(max(low, least), value), max(min(high, most), value))
    return replace(found, value=value, interval=interval)


def _darkest(samples: Samples, line: Line) -> tuple[float, float]:
    """Mean of the darkest group of rows, which lies above the zero level, and its standard error."""
    used = line.used
    groups = int(np.clip(np.count_nonzero(used) // 30, 3, 60))
    dark = equal_groups(line.instrument[used], groups) == 0
    n = samples.n[used][dark]
    variance = float(line.variance[used][dark].mean())
    return float(np.average(samples.x[used][dark], weights=n)), float(np.sqrt(variance / n.sum()))


def _spread_of_third(samples: Samples, line: Line, third_filter: str) -> Floats:
    """Standard error of a row's third cumulant, for a variance of `line.variance`."""
    v, square = line.variance, line.gain**2
    law = _THIRD_CORRELATION[third_filter] * v**3 + 35 * square * v**2 + 3 * square**2 * v
    return np.asarray(np.sqrt(np.maximum(law, 1e-60) / samples.n))


def _without_outliers(residual: Floats, spread: Floats, used: Bools) -> Bools:
    score = residual / spread
    scale = max(1.0, 1.4826 * float(np.median(np.abs(score[used] - np.median(score[used])))))
    return np.asarray(used & (np.abs(score) < 12 * scale))


def _zero_if_pure(
    x3: Floats, y3: Floats, weight: Floats, group: np.ndarray, line: Line
) -> tuple[float, float]:
    """Zero level under ρ₃ = 1, mean(x₃ − κ₃/g²), and its jackknife error."""
    w, wx, wy = (np.bincount(group, weight * v, GROUPS) for v in (np.ones_like(x3), x3 - line.x0, y3))
    value = (wx.sum() - wy.sum() / line.gain**2) / w.sum()
    others = ((wx.sum() - wx) - (wy.sum() - wy) / line.gains**2) / (w.sum() - w)
    return line.x0 + float(value), jackknife_error(others)
