"""The constants of a detector as people read them: name, value, 95 % interval, unit and meaning.

The read noise σ follows from the photon transfer line, σ² = g (z − x₀), so its interval follows from those of
the gain g, the zero level z and the variance intercept x₀, by propagation of errors. Print, tables, reports
and plots are made from these rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

Interval = tuple[float, float]

# Intervals come from a jackknife over so many groups of tiles.
GROUPS = 24
# Two-sided 95 % quantile of Student's t with GROUPS − 1 degrees of freedom.
T_QUANTILE = 2.069


@dataclass(frozen=True)
class Constant:
    """One constant of a detector.

    Attributes
    ----------
    key : str
        Attribute of `Sensitivity`.
    name, unit, meaning : str
        In words; the unit of a pure number is "".
    value : float
        NaN where it is not known.
    interval : (float, float)
        95 % interval; both ends are the value of a constant that was given, and NaN where it is not known.

    Examples
    --------
    >>> str(Constant("zero_level", "zero level", "signal", "mean signal without light", 100.2, (99.5, 100.9)))
    'zero level 100.2 [99.5, 100.9] signal'
    """

    key: str
    name: str
    unit: str
    meaning: str
    value: float
    interval: Interval

    def __str__(self) -> str:
        return f"{self.name} {with_bracket(self.value, self.interval)} {self.unit}".rstrip()


def with_bracket(value: float, interval: Interval) -> str:
    """Return a number with its interval, as ``2.17 [2.15, 2.19]``.

    Parameters
    ----------
    value : float
    interval : (float, float)
        Left out if it is a point or not known.

    Examples
    --------
    >>> with_bracket(2.0, (2.0, 2.0)), with_bracket(11.94, (0.0, 20.91))
    ('2', '11.94 [0, 20.91]')
    """
    low, high = interval
    return f"{value:.4g} [{low:.4g}, {high:.4g}]" if low < high else f"{value:.4g}"


def read_noise_interval(
    gain: float,
    gain_interval: Interval,
    zero_level: float,
    zero_interval: Interval,
    intercept: float,
    intercept_interval: Interval,
) -> Interval:
    """Return the 95 % interval of the read noise √(gain · (zero_level − intercept)), signal units.

    Parameters
    ----------
    gain, zero_level, intercept : float
        Signal units per photon, signal, signal.
    gain_interval, zero_interval, intercept_interval : (float, float)
        95 % intervals, of any asymmetry. An interval that is not known counts as a point.

    Returns
    -------
    (float, float)
        Not negative; NaN where a constant is not known.

    Notes
    -----
    Errors of the three constants are added in quadrature to each side. They are not independent: the gain
    tilts the line, which moves the other two together. The interval is then wider than need be.

    Examples
    --------
    >>> low, high = read_noise_interval(2.0, (2.0, 2.0), 100.0, (99.0, 101.0), 92.0, (92.0, 92.0))
    >>> round(low, 2), round(high, 2)
    (3.74, 4.24)
    """
    if not all(map(math.isfinite, (gain, zero_level, intercept))):
        return math.nan, math.nan
    below_z, above_z = _sides(zero_level, zero_interval)
    below_x, above_x = _sides(intercept, intercept_interval)
    below_g, above_g = (side / abs(gain) if gain else 0.0 for side in _sides(gain, gain_interval))
    distance = zero_level - intercept
    low = distance - math.hypot(below_z, above_x, distance * below_g)
    high = distance + math.hypot(above_z, below_x, distance * above_g)
    return math.sqrt(max(gain * low, 0.0)), math.sqrt(max(gain * high, 0.0))


def ratio_interval(
    above: float, above_interval: Interval, below: float, below_interval: Interval
) -> Interval:
    """Return the 95 % interval of a quotient of two positive constants, relative errors in quadrature.

    Parameters
    ----------
    above, below : float
        Numerator and denominator.
    above_interval, below_interval : (float, float)
        Their 95 % intervals; one that is not known counts as a point.

    Examples
    --------
    >>> ratio_interval(40.0, (39.0, 41.0), 2.0, (2.0, 2.0))
    (19.5, 20.5)
    """
    if not (math.isfinite(above) and math.isfinite(below)) or not below:
        return math.nan, math.nan
    value = above / below
    if value == 0:
        return value, value
    low_a, high_a = (side / abs(above) for side in _sides(above, above_interval))
    low_b, high_b = (side / abs(below) for side in _sides(below, below_interval))
    return value - abs(value) * math.hypot(low_a, high_b), value + abs(value) * math.hypot(high_a, low_b)


def _sides(value: float, interval: Interval) -> tuple[float, float]:
    """Lengths of an interval below and above a value; 0 where it is not known."""
    low, high = (value if math.isnan(end) else end for end in interval)
    return max(value - low, 0.0), max(high - value, 0.0)
