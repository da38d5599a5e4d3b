r"""The transform as a tool for analysis: stabilise a signal, process it, and go back without bias.

Most denoisers, detectors and statistical models assume noise of constant variance. `stabilize` turns a signal
of photon-limited noise into one of unit variance, `destabilize` turns the processed values back into signal.

With :math:`n = (x - z)/g` and :math:`c = 3/8 + (\sigma_r/g)^2` the stabilised value is

.. math::

    f(n) = 2\sqrt{n + c} \; (n \ge 0), \qquad f(n) = 2\sqrt{c} + n/\sqrt{c} \; (n < 0),

the curve of the codec at :math:`\beta = 1` [1]_, [2]_. Below zero it goes on along its tangent, so that noise
in darkness stays symmetric and no value is clamped.

A denoised value estimates :math:`E[f(n) \mid \lambda]`, which is not :math:`f(\lambda)`, since f is concave.
The exact unbiased inverse is the inverse of the map :math:`\lambda \mapsto E[f(n) \mid \lambda]` [3]_, [4]_.

References
----------
.. [1] F. J. Anscombe, "The transformation of Poisson, binomial and negative-binomial data", Biometrika 35
   (1948) 246-254.
.. [2] F. Murtagh, J.-L. Starck, A. Bijaoui, "Image restoration with noise suppression using a multiresolution
   support", Astron. Astrophys. Suppl. Ser. 112 (1995) 179-189.
.. [3] M. Mäkitalo, A. Foi, "Optimal inversion of the Anscombe transformation in low-count Poisson image
   denoising", IEEE Trans. Image Process. 20 (2011) 99-109.
.. [4] M. Mäkitalo, A. Foi, "Optimal inversion of the generalized Anscombe transformation for Poisson-Gaussian
   noise", IEEE Trans. Image Process. 22 (2013) 91-103.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from anscombe_transform.codec.transform.curve import Curve, check_sensitivity
from anscombe_transform.native.arrays import Floats

if TYPE_CHECKING:
    import numpy.typing as npt


Inverse = Literal["unbiased", "algebraic"]

# Photons up to which the expectation is summed; beyond them its asymptotic form is right to 1e-3 photon.
_SUMMED_UP_TO = 1000.0
# Points of the table of expectations, evenly spaced in the square root of the photons.
_TABLE_POINTS = 600
# Read noise, in photons, above which the sum of photon and read noise is treated as one normal distribution:
# the skewness left moves the mean by less than 1e-3 of a standard deviation.
_NORMAL_ABOVE = 20.0


class Constants(Protocol):
    """A calibration: gives conversion gain, zero level and read noise, or raises if it was refused."""

    def usable_constants(self) -> tuple[float, float, float]:
        """Return the three constants, in signal units."""
        ...


def stabilize(signal: Any, sensitivity: Constants) -> Any:
    """Turn a signal into values of unit noise variance.

    Parameters
    ----------
    signal : array_like of int or float, any shape
        Signal units. numpy, dask, xarray and torch arrays keep their kind; dask arrays stay lazy.
    sensitivity : Sensitivity
        Constants of the detector, from `compute_sensitivity` or ``Sensitivity.from_known``.

    Returns
    -------
    array of float32
        The shape of `signal`. Noise has a standard deviation of about 1 (within 5 % above 2 photons).

    Raises
    ------
    UntrustworthyCalibration
        The calibration was refused.
    TypeError
        The signal is neither integer nor float, or `sensitivity` is none.

    See Also
    --------
    destabilize : The way back.

    Examples
    --------
    >>> import anscombe_transform as at
    >>> movie, _ = at.simulate_movie((60, 64, 64), conversion_gain=90, zero_level=50, rng=0)
    >>> stable = at.stabilize(movie, at.compute_sensitivity(movie))
    >>> noise = (stable[1:] - stable[:-1]).std() / 2**0.5
    >>> bool(0.95 < noise < 1.05)
    True
    """
    curve = curve_of(sensitivity)
    return _map_elements(lambda x: curve.stabilize(x).astype(np.float32), signal, "signal")


def destabilize(values: Any, sensitivity: Constants, *, inverse: Inverse = "unbiased") -> Any:
    """Turn stabilised values back into signal.

    Parameters
    ----------
    values : array_like of int or float, any shape
        Output of `stabilize`, denoised, averaged or modelled. numpy, dask, xarray and torch arrays keep
        their kind.
    sensitivity : Sensitivity
        As for `stabilize`.
    inverse : {"unbiased", "algebraic"}
        "unbiased" for values that estimate a mean (denoised or averaged): the exact unbiased inverse.
        "algebraic" undoes `stabilize` value by value, for values that still carry their noise.

    Returns
    -------
    array of float32
        Signal units, the shape of `values`.

    Raises
    ------
    UntrustworthyCalibration
        The calibration was refused.
    ValueError, TypeError
        `inverse` is unknown; the values are neither integer nor float.

    Notes
    -----
    Values below the mean of darkness go on along the tangent there, into small negative photon numbers, so
    that an average over dark pixels is not biased upwards.

    Examples
    --------
    The mean of stabilised values is brought back without bias; the algebraic inverse loses a quarter photon.

    >>> import numpy as np, anscombe_transform as at
    >>> detector = at.Sensitivity.from_known(conversion_gain=1.0, zero_level=0.0)
    >>> photons = np.random.default_rng(0).poisson(5.0, 100_000)
    >>> mean = at.stabilize(photons, detector).mean()
    >>> print(f"{at.destabilize(mean, detector):.1f}")
    5.0
    >>> print(f"{at.destabilize(mean, detector, inverse='algebraic'):.1f}")
    4.7
    """
    curve = curve_of(sensitivity)
    if inverse == "algebraic":
        return _map_elements(lambda y: curve.invert(y).astype(np.float32), values, "values")
    if inverse != "unbiased":
        raise ValueError(f"inverse must be 'unbiased' or 'algebraic', got {inverse!r}")

    def to_signal(y: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        photons = unbiased_photons(y, curve.read_noise / curve.conversion_gain)
        return (photons * curve.conversion_gain + curve.zero_level).astype(np.float32)

    return _map_elements(to_signal, values, "values")


def to_photons(signal: Any, sensitivity: Constants) -> Any:
    """Photons for a signal, as float32; see `Sensitivity.to_photons`."""
    curve = curve_of(sensitivity)
    return _map_elements(lambda x: curve.photons(x).astype(np.float32), signal, "signal")


def from_photons(photons: Any, sensitivity: Constants) -> Any:
    """Signal for a photon number, as float32; see `Sensitivity.from_photons`."""
    curve = curve_of(sensitivity)
    gain, zero = curve.conversion_gain, curve.zero_level
    return _map_elements(
        lambda n: (np.asarray(n, np.float64) * gain + zero).astype(np.float32), photons, "photons"
    )


def noise_std(signal: Any, sensitivity: Constants) -> Any:
    """Standard deviation of the noise at a mean signal, as float32; see `Sensitivity.noise_std`."""
    curve = curve_of(sensitivity)
    gain, zero = curve.conversion_gain, curve.zero_level
    read_variance = curve.read_noise**2

    def std(x: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        light = np.maximum(np.asarray(x, np.float64) - zero, 0)
        return np.sqrt(gain * light + read_variance).astype(np.float32)

    return _map_elements(std, signal, "signal")


def curve_of(sensitivity: Constants) -> Curve:
    """Return the stabilising curve of unit noise: :math:`f` of the module's formula."""
    check_sensitivity(sensitivity, "the array comes first, stabilize(array, sensitivity)")
    return unit_curve(*sensitivity.usable_constants())


def unit_curve(conversion_gain: float, zero_level: float, read_noise: float) -> Curve:
    """Return the curve for these constants at β = 1, offset so that darkness is at 2√c."""
    curve = Curve(conversion_gain, zero_level, read_noise, beta=1.0)
    return Curve(conversion_gain, zero_level, read_noise, beta=1.0, offset=2 * math.sqrt(curve.constant))


def unbiased_photons(values: npt.ArrayLike, read_noise: float) -> Floats:
    r"""Mean photon number for which the mean stabilised value is the given one.

    Parameters
    ----------
    values : array_like of float
        Mean stabilised values.
    read_noise : float
        Photons, standard deviation.

    Returns
    -------
    ndarray of float64
        Photons; NaN stays NaN.
    """
    y = np.asarray(values, np.float64)
    inverse, darkest, dark_slope, brightest = _expectation_table(read_noise)
    with np.errstate(invalid="ignore", over="ignore"):
        # The asymptotically unbiased inverse: Anscombe 1948, with read noise Mäkitalo & Foi 2013.
        beyond = y * y / 4 - 1 / 8 - read_noise**2
        below = (y - darkest) / dark_slope
        inside = inverse(np.clip(y, darkest, brightest))
        return np.asarray(np.where(y > brightest, beyond, np.where(y < darkest, below, inside)), np.float64)


@lru_cache(maxsize=16)
def _expectation_table(read_noise: float) -> tuple[Callable[[Floats], Floats], float, float, float]:
    """λ as a function of E[f | λ], its argument at λ = 0 with its slope there, and its last argument."""
    from scipy.interpolate import CubicSpline

    last = max(_SUMMED_UP_TO, 20 * read_noise)
    photons = np.linspace(0, math.sqrt(last), _TABLE_POINTS) ** 2
    mean = expected_stabilized(photons, read_noise)
    step = 1e-3
    slope = float(np.diff(expected_stabilized(np.array([0.0, step]), read_noise))[0] / step)
    return CubicSpline(mean, photons), float(mean[0]), slope, float(mean[-1])


def expected_stabilized(photons: npt.ArrayLike, read_noise: float) -> Floats:
    r"""Mean stabilised value :math:`E[f(n) \mid \lambda]` of Poisson counts with normal read noise.

    Parameters
    ----------
    photons : array_like, shape (m,)
        Mean photon numbers λ ≥ 0.
    read_noise : float
        Photons, standard deviation.

    Returns
    -------
    ndarray of float64, shape (m,)
    """
    from scipy.stats import poisson

    rates = np.asarray(photons, np.float64)
    curve = unit_curve(1.0, 0.0, read_noise)
    z = np.linspace(-8, 8, 801)
    normal = np.exp(-z * z / 2)
    normal /= normal.sum()
    if read_noise > _NORMAL_ABOVE:
        spread = np.sqrt(rates + read_noise**2)
        return np.asarray(curve.stabilize(rates[:, None] + spread[:, None] * z) @ normal)
    counts = np.arange(math.ceil(rates.max() + 12 * math.sqrt(rates.max()) + 40))
    of_count = (
        curve.stabilize(counts[:, None] + read_noise * z) @ normal if read_noise else curve.stabilize(counts)
    )
    return np.array([poisson.pmf(counts, rate) @ of_count for rate in rates])


def _map_elements(function: Callable[[npt.NDArray[Any]], npt.NDArray[Any]], array: Any, name: str) -> Any:
    """Apply an element-wise function of numpy arrays to any kind of array, and keep the kind."""
    xarray, dask_array, torch = (sys.modules.get(module) for module in ("xarray", "dask.array", "torch"))
    if xarray is not None and isinstance(array, xarray.DataArray):
        return xarray.apply_ufunc(
            lambda data: _map_elements(function, data, name), array, dask="allowed", keep_attrs=True
        )
    if torch is not None and isinstance(array, torch.Tensor):
        result = function(_checked(array.detach().cpu().numpy(), name))
        return torch.from_numpy(np.asarray(result)).to(array.device)
    if dask_array is not None and isinstance(array, dask_array.Array):
        _checked(np.empty(0, array.dtype), name)
        return array.map_blocks(function, dtype=np.float32, meta=np.empty((0,) * array.ndim, np.float32))
    if isinstance(array, np.ma.MaskedArray):
        return np.ma.MaskedArray(function(_checked(array.data, name)), mask=array.mask)
    return function(_checked(np.asarray(array), name))[()]


def _checked(array: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} must hold integers or floats, got dtype {array.dtype}")
    return array
