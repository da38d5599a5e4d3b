r"""The mathematics of one detector: the square-root curve, its codes and its decode tables.

A detector turns *N* photons into the signal :math:`x = z + g N + \text{read noise}`, with the conversion
gain *g* (signal units per photon), the zero level *z* and read noise of standard deviation :math:`\sigma_r`
(signal units). Its variance at a mean of *n* photons is :math:`g^2 (n + \sigma_r^2 / g^2)`. With

.. math::

    n = (x - z) / g, \qquad c = 3/8 + (\sigma_r / g)^2

the curve

.. math::

    y = \frac{2}{\beta} \left( \sqrt{n + c} - \sqrt{c} \right) \; (n \ge 0), \qquad
    y = \frac{n}{\beta \sqrt{c}} \; (n < 0)

has the slope :math:`1 / (\beta \sigma(x))`: one unit of *y* is `beta` standard deviations of the noise,
whatever the brightness [1]_, [2]_. Below zero it goes on along its tangent, so that noise around darkness
stays symmetric. A code is *y* plus an offset, rounded to the nearest integer (ties to even).

Everything here is float64 numpy and is the definition; the fast loops elsewhere agree with it bit for bit.

References
----------
.. [1] F. J. Anscombe, "The transformation of Poisson, binomial and negative-binomial data", Biometrika 35
   (1948) 246-254: the constant 3/8.
.. [2] F. Murtagh, J.-L. Starck, A. Bijaoui, "Image restoration with noise suppression using a multiresolution
   support", Astron. Astrophys. Suppl. Ser. 112 (1995) 179-189: the generalised transform with gain and read
   noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from anscombe_transform.native.arrays import Floats
from anscombe_transform.native.documents import value_text

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    IntArray = npt.NDArray[np.int64]

ANSCOMBE_CONSTANT = 3 / 8
"""The term under the root that makes the variance of a stabilised Poisson count nearly constant."""

LARGEST_BETA = 4
"""The widest step, in standard deviations of the noise; beyond it a code says next to nothing."""

_EXACT = 2.0**52
"""Below this a float64 holds every integer and its neighbours."""

_SMALLEST_GAIN, _LARGEST_GAIN = 1e-30, 1e30
"""Gains of signals in any unit, joules of a photon (1e-19) included."""

_SMALLEST_BETA = 1e-9
"""A step that stores the noise itself to a billionth."""

_LARGEST_OFFSET = 2.0**40
"""Most codes between darkness and the vertex of the curve, or the signal 0: float64 then rounds a code by
less than a thousandth."""

_STEPS = 64
"""Most neighbours that a rounded inverse is away from its exact place."""


def check_number(name: str, value: Any, rule: str, holds: Callable[[float], bool], remedy: str = "") -> float:
    """Return `value` as a Python int or float, or say which rule the parameter `name` breaks.

    Numbers of numpy become numbers of Python, so that they can be written as JSON; an int stays an int.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name} must be {rule}, got {value!r} of type {type(value).__name__}{remedy}")
    number = int(value) if isinstance(value, int | np.integer) else float(value)
    if not (math.isfinite(number) and holds(number)):
        raise ValueError(f"{name} must be {rule}, got {value!r}{remedy}")
    return number


def check_detector(
    conversion_gain: Any, zero_level: Any, read_noise: Any = 0.0, beta: Any = 0.5
) -> tuple[float, float, float, float]:
    """Return the four parameters as Python numbers, or raise naming the one that breaks its rule."""
    gain = check_number(
        "conversion_gain",
        conversion_gain,
        "a finite number > 0 (signal units per photon)",
        lambda v: v > 0,
        "; camera sheets often give the reciprocal, electrons per unit",
    )
    check_number(
        "conversion_gain",
        gain,
        f"from {_SMALLEST_GAIN:g} to {_LARGEST_GAIN:g}",
        lambda v: _SMALLEST_GAIN <= v <= _LARGEST_GAIN,
        "; rescale the signal",
    )
    zero = check_number(
        "zero_level",
        zero_level,
        "a finite number within ±2**53 (the signal without light)",
        lambda v: abs(v) < 2.0**53,
    )
    noise = check_number(
        "read_noise", read_noise, "a finite number >= 0 (signal units, standard deviation)", lambda v: v >= 0
    )
    step = check_number(
        "beta",
        beta,
        f"a finite number in (0, {LARGEST_BETA}] (quantisation step in standard deviations of the noise)",
        lambda v: 0 < v <= LARGEST_BETA,
        "; 0.5 adds 2 % to the noise variance",
    )
    check_number("beta", step, f"at least {_SMALLEST_BETA:g}", lambda v: v >= _SMALLEST_BETA)
    _check_precision(gain, zero, noise, step)
    return gain, zero, noise, step


def check_sensitivity(sensitivity: object, call: str) -> None:
    """Refuse anything but a calibration, with the call that would be right.

    Raises
    ------
    TypeError
    """
    if not hasattr(sensitivity, "usable_constants"):
        raise TypeError(
            "sensitivity must be what compute_sensitivity or Sensitivity.from_known gives, got "
            f"{value_text(sensitivity)}: "
            f"{'Sensitivity.from_dict makes one of a dict' if isinstance(sensitivity, dict) else call}"
        )


def _check_precision(gain: float, zero: float, noise: float, step: float) -> None:
    """Refuse parameters that are each in range but leave float64 too few digits to place the edges of codes.

    The root of the constant, in codes, is subtracted from every stabilised value, and the zero level, in
    codes, from every signal.

    Raises
    ------
    ValueError
    """
    vertex = 2 / step * math.hypot(math.sqrt(ANSCOMBE_CONSTANT), noise / gain)
    if vertex > _LARGEST_OFFSET:
        raise ValueError(
            f"read_noise must be at most {_LARGEST_OFFSET:.0e} codes, got {noise!r}, which is {vertex:.3g} "
            f"codes with conversion_gain={gain!r} and beta={step!r}; give noise and gain in signal units"
        )
    offset = abs(zero) / math.hypot(gain * math.sqrt(ANSCOMBE_CONSTANT), noise) / step
    if offset > _LARGEST_OFFSET:
        raise ValueError(
            f"zero_level must be at most {_LARGEST_OFFSET:.0e} codes from the signal 0, got {zero!r}, which "
            f"is {offset:.3g} codes with conversion_gain={gain!r}, read_noise={noise!r} and beta={step!r}; "
            "subtract the background of the signal first"
        )


def noise_increase(beta: float) -> float:
    """Fraction by which quantisation in steps of `beta` standard deviations raises the noise variance.

    The error of rounding is uniform over a step, which adds ``beta**2 / 12`` of the variance.

    Examples
    --------
    >>> round(noise_increase(0.5), 4)
    0.0208
    """
    return beta**2 / 12


def beta_for(noise_increase: float) -> float:
    """Quantisation step that raises the noise variance by a given fraction: the inverse of `noise_increase`.

    Raises
    ------
    ValueError
        If the fraction is not in (0, 4/3], which steps of at most 4 standard deviations can reach.

    Examples
    --------
    >>> round(beta_for(0.01), 3)
    0.346
    """
    rule = "a finite number in (0, 4/3] (fraction of the noise variance that may be added)"
    return math.sqrt(12 * check_number("noise_increase", noise_increase, rule, lambda v: 0 < v <= 4 / 3))


@dataclass(frozen=True, slots=True)
class Curve:
    """The variance-stabilising curve of one detector, and its integer codes.

    Parameters
    ----------
    conversion_gain : float
        Signal units per photon, > 0.
    zero_level : float
        Signal without light.
    read_noise : float
        Standard deviation of the signal without light, in signal units, >= 0.
    beta : float
        Quantisation step in standard deviations of the noise, in (0, 4].
    offset : float
        The stabilised value of `zero_level`, added to *y* before rounding.

    Raises
    ------
    ValueError, TypeError
        If a parameter is not a number of its range.

    Examples
    --------
    >>> curve = Curve(conversion_gain=90.0, zero_level=50.0)
    >>> curve.code([50, 140, 9050])
    array([ 0,  2, 38])
    """

    conversion_gain: float
    zero_level: float
    read_noise: float = 0.0
    beta: float = 0.5
    offset: float = 0.0

    def __post_init__(self) -> None:
        names = ("conversion_gain", "zero_level", "read_noise", "beta")
        values = check_detector(self.conversion_gain, self.zero_level, self.read_noise, self.beta)
        for name, value in zip(names, values, strict=True):
            object.__setattr__(self, name, value)

    @property
    def constant(self) -> float:
        """The term *c* under the root, in photons: 3/8 plus the read-noise variance."""
        # A product, not a power, which libraries round differently: other readers must get the same codes.
        photons = self.read_noise / self.conversion_gain
        return ANSCOMBE_CONSTANT + photons * photons

    @property
    def dark_slope(self) -> float:
        """Codes per photon below the zero level, where the curve is a line."""
        return 1 / self.beta / math.sqrt(self.constant)

    def photons(self, signal: npt.ArrayLike) -> Floats:
        """Photon count that a signal stands for; negative below the zero level."""
        return (np.asarray(signal, np.float64) - self.zero_level) / self.conversion_gain

    def stabilize(self, signal: npt.ArrayLike) -> Floats:
        """Stabilised value of a signal: one unit is `beta` standard deviations of the noise.

        Parameters
        ----------
        signal : array_like
            Signal units; any shape.

        Returns
        -------
        ndarray of float64
            :math:`y` + `offset`, same shape.
        """
        n = self.photons(signal)
        c = self.constant
        root = 2.0 / self.beta * (np.sqrt(np.maximum(n, 0) + c) - math.sqrt(c))
        return self.offset + np.where(n < 0, n * self.dark_slope, root)

    def invert(self, stabilized: npt.ArrayLike) -> Floats:
        """Signal of a stabilised value; the exact inverse of `stabilize` up to float64 rounding."""
        u = np.asarray(stabilized, np.float64) - self.offset
        root = math.sqrt(self.constant)
        n = np.where(
            u < 0, u / self.dark_slope, (np.maximum(u, 0) * (self.beta / 2) + root) ** 2 - self.constant
        )
        return n * self.conversion_gain + self.zero_level

    def code(self, signal: npt.ArrayLike) -> IntArray:
        """Integer code of a signal: its stabilised value rounded to nearest, ties to even."""
        # Signals far from light have more codes than an int64 holds, which would wrap.
        return np.clip(np.rint(self.stabilize(signal)), -_EXACT, _EXACT).astype(np.int64)

    def noise_std(self, signal: npt.ArrayLike) -> Floats:
        r"""Standard deviation of the noise at a mean signal, as the curve assumes it: :math:`g\sqrt{n + c}`.

        It is held at its value at the zero level below that level. The 3/8 in *c* belongs to the curve, not
        to the detector; it matters below a few photons only.
        """
        return self.conversion_gain * np.sqrt(np.maximum(self.photons(signal), 0) + self.constant)

    def first_integers(self, codes: npt.ArrayLike) -> IntArray:
        """Smallest integer signal with at least the given code, for each code.

        A code's integers are ``first_integers(q) .. first_integers(q + 1) - 1``; at a low gain that range is
        empty for codes that no integer reaches.
        """
        codes = np.asarray(codes, np.int64)
        first = np.ceil(np.clip(self.invert(codes - 0.5), -_EXACT, _EXACT)).astype(np.int64)
        exact = np.abs(first) < _EXACT
        # The inverse is rounded, so that its neighbour may be the first: step until the definition agrees.
        for _ in range(_STEPS):
            low = exact & (self.code(first) < codes)
            high = exact & (self.code(first - 1) >= codes)
            if not (low.any() or high.any()):
                return first
            first = first + low - high
        raise ValueError(
            f"codes can't be told apart with {self}: the gain is too small beside the rounding of signals"
        )
