r"""How small a movie can become without loss: the entropy of the noise in its codes.

Even with perfect prediction, the photons of a pixel stay random. Given the true photon rate :math:`\lambda`
of every pixel and frame, a movie of codes *q* takes on average no fewer bits than

.. math::

    H(\lambda) = -\sum_q P(q \mid \lambda) \log_2 P(q \mid \lambda)

each [1]_. For bright pixels the codes are Gaussian with a standard deviation of :math:`1 / \beta`, and *H*
nears

.. math::

    \tfrac{1}{2} \log_2 (2 \pi e) - \log_2 \beta

References
----------
.. [1] C. E. Shannon, "A mathematical theory of communication", Bell System Technical Journal 27 (1948)
   379-423: theorem 9, and section 20 for the entropy of a Gaussian.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from anscombe_transform.codec.transform.values import code_given_count
from anscombe_transform.native.arrays import Floats

if TYPE_CHECKING:
    import numpy.typing as npt

    from anscombe_transform.codec.transform.curve import Curve

# Rates between which the entropy is interpolated lie this far apart in the square root of photons.
_STEP = 1 / 16


def bright_entropy(beta: float) -> float:
    """Bits of a code of a bright pixel, where the noise is Gaussian with a deviation of ``1 / beta`` codes.

    Examples
    --------
    >>> round(bright_entropy(0.5), 3)
    3.047
    """
    return 0.5 * math.log2(2 * math.pi * math.e) - math.log2(beta)


def code_entropy(
    curve: Curve,
    photons: npt.ArrayLike,
    *,
    read_noise: float | None = None,
    integers: bool = True,
    edges: npt.ArrayLike | None = None,
) -> Floats:
    """Entropy of the code of a pixel, in bits, given its true mean number of photons.

    Parameters
    ----------
    curve : Curve
        The detector and its codes; photons are Poisson-distributed, without excess noise.
    photons : array_like
        True photons per pixel and frame, >= 0; any shape.
    read_noise : float, optional
        Standard deviation of the signal at a given count, signal units; by default the curve's.
    integers : bool
        Whether the signals are rounded to integers before they are coded.
    edges : array_like, optional
        Signals between neighbouring codes, increasing, where they are not those of the curve: the format
        `anscombe` has bins of odd widths.

    Returns
    -------
    ndarray of float64
        Bits, same shape. Its mean over a movie is the fewest bits per pixel that the codes can take.

    Raises
    ------
    ValueError
        If a rate is negative or not finite.

    Examples
    --------
    >>> from anscombe_transform.codec.transform.curve import Curve
    >>> curve = Curve(conversion_gain=60.0, zero_level=100.0, read_noise=10.0, offset=8)
    >>> code_entropy(curve, [0.0, 8.0, 60.0]).round(2)
    array([1.24, 3.01, 3.07])
    """
    rates = np.asarray(photons, np.float64)
    if not (np.isfinite(rates).all() and (rates >= 0).all()):
        raise ValueError("photons must be finite and >= 0: mean photons per pixel and frame")
    if not rates.size:
        return np.zeros(rates.shape)
    noise = curve.read_noise if read_noise is None else read_noise
    borders = None if edges is None else np.asarray(edges, np.float64)
    low, high = (float(f(np.sqrt(rates))) for f in (np.min, np.max))
    roots = np.linspace(low, high, max(2, math.ceil((high - low) / _STEP) + 1))
    # Each rate sees the counts and codes within ten standard deviations of it only.
    bits = np.array([_entropy_at(curve, float(root) ** 2, noise, integers, borders) for root in roots])
    result: Floats = np.interp(np.sqrt(rates), roots, bits) if high > low else np.full(rates.shape, bits[0])
    return result


def _entropy_at(curve: Curve, rate: float, noise: float, integers: bool, edges: Floats | None) -> float:
    from scipy.special import gammaln, xlogy

    reach = 10 * math.sqrt(rate) + 15
    counts = np.arange(max(0, math.floor(rate - reach)), math.ceil(rate + reach))
    count_given_rate = np.exp(xlogy(counts, rate) - rate - gammaln(counts + 1))
    signals = curve.zero_level + curve.conversion_gain * counts[[0, -1]]
    if edges is not None:
        borders: Any = edges
    else:
        first, last = curve.code([signals[0] - 9 * noise - 1, signals[1] + 9 * noise + 1]).tolist()
        codes = np.arange(first, last + 2)
        borders = curve.first_integers(codes) - 0.5 if integers else curve.invert(codes - 0.5)
    gain = curve.conversion_gain
    given_count = code_given_count(borders - curve.zero_level, gain * counts, gain, counts, noise, 1.0)
    probability = count_given_rate @ given_count / count_given_rate.sum()
    return float(-(xlogy(probability, probability)).sum() / math.log(2))
