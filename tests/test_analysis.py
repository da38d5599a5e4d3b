"""The transform for analysis: unit noise, the unbiased way back, kinds of arrays, the scikit-learn step."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

import anscombe_transform as at
from anscombe_transform.transform.stabilization import expected_stabilized, unbiased_photons, unit_curve

DETECTOR = at.Sensitivity.from_known(conversion_gain=3.0, zero_level=100.0, read_noise=4.5)


@pytest.mark.parametrize("read_noise", [0.0, 0.5, 3.0])
def test_the_unbiased_inverse_is_unbiased(read_noise: float) -> None:
    """The mean of stabilised values comes back as the photon number to 0.001 photon, up to 5,000."""
    photons = np.array([0.0, 0.1, 0.3, 1.0, 2.5, 8.0, 30.0, 100.0, 900.0, 1100.0, 5000.0])
    # An expectation that is not the one of the table: a sum over counts and a finer quadrature.
    z = np.linspace(-9, 9, 3001)
    weights = np.exp(-z * z / 2) / np.exp(-z * z / 2).sum()
    curve = unit_curve(1.0, 0.0, read_noise)
    for rate in photons:
        counts = np.arange(
            max(0, int(rate - 12 * math.sqrt(rate + 1))), int(rate + 12 * math.sqrt(rate + 9)) + 40
        )
        log_counts = np.array([math.lgamma(k + 1) for k in counts])
        chances = np.exp(counts * math.log(rate) - rate - log_counts) if rate else (counts == 0).astype(float)
        mean = chances @ (curve.stabilize(counts[:, None] + read_noise * z) @ weights)
        assert float(unbiased_photons(mean, read_noise)) == pytest.approx(rate, abs=1e-3 + 1e-6 * rate)


def test_strong_read_noise_is_unbiased_too(rng: np.random.Generator) -> None:
    """Above 20 photons of read noise, with counts treated as normal, means are right to 5 standard errors."""
    n = 200_000
    for rate in (0.0, 5.0, 300.0):
        signal = rng.poisson(rate, n) + rng.normal(0, 40.0, n)
        stable = unit_curve(1.0, 0.0, 40.0).stabilize(signal)
        error = 5 * math.sqrt((rate + 1600) / n)
        assert float(unbiased_photons(stable.mean(), 40.0)) == pytest.approx(rate, abs=error)


def test_noise_has_unit_variance(rng: np.random.Generator) -> None:
    """Stabilised noise has a standard deviation within 5 % of 1 above 2 photons, at any brightness."""
    n = 100_000
    for rate in (2.0, 10.0, 200.0):
        signal = 100 + 3.0 * rng.poisson(rate, n) + rng.normal(0, 4.5, n)
        assert at.stabilize(signal, DETECTOR).std() == pytest.approx(1, abs=0.05 + 5 / math.sqrt(2 * n))


def test_expected_values_grow_with_light() -> None:
    """The mean stabilised value increases strictly, so that it has one inverse."""
    photons = np.linspace(0, 30, 200)
    for read_noise in (0.0, 1.0, 30.0):
        assert (np.diff(expected_stabilized(photons, read_noise)) > 0).all()


def test_the_algebraic_inverse_undoes_stabilize() -> None:
    """Value by value, the algebraic inverse gives the signal back, negative values included, to float32."""
    signal = np.arange(-500, 60_000, 7)
    back = at.destabilize(at.stabilize(signal, DETECTOR), DETECTOR, inverse="algebraic")
    assert back == pytest.approx(signal, rel=2e-6, abs=2e-3)


def test_values_below_darkness_are_not_clamped() -> None:
    """Averages below darkness give negative photons, so that dark pixels average to none."""
    dark = expected_stabilized([0.0], 1.5)[0]
    photons = unbiased_photons([dark - 0.1, dark, dark + 0.1], 1.5)
    assert photons[0] < 0
    assert photons == pytest.approx(-photons[::-1], abs=0.02)


def test_nan_stays_nan() -> None:
    """A missing value stays missing in both directions."""
    assert math.isnan(at.stabilize(math.nan, DETECTOR))
    assert math.isnan(at.destabilize(math.nan, DETECTOR))


def test_photons_and_noise() -> None:
    """Photons, signal and noise follow from the constants."""
    signal = np.array([100, 103, 130], "uint16")
    assert DETECTOR.to_photons(signal).tolist() == pytest.approx([0, 1, 10])
    assert DETECTOR.from_photons(DETECTOR.to_photons(signal)).tolist() == pytest.approx(signal.tolist())
    assert DETECTOR.noise_std(signal) == pytest.approx(np.sqrt([20.25, 29.25, 110.25]))
    assert DETECTOR.noise_std([0]) == pytest.approx([4.5])
    assert DETECTOR.to_photons(signal).dtype == np.float32


FUNCTIONS = [at.stabilize, at.destabilize, at.Sensitivity.to_photons]


def _apply(function: Any, array: Any) -> Any:
    return function(DETECTOR, array) if function is at.Sensitivity.to_photons else function(array, DETECTOR)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_lazy_and_labelled_arrays_keep_their_kind(function: Any) -> None:
    """Dask stays lazy, xarray keeps names and attributes, masks stay; values are those of numpy."""
    import dask.array as da
    import xarray as xr

    signal = np.arange(90, 210, dtype="int16").reshape(5, 4, 6)
    expected = _apply(function, signal)
    lazy = _apply(function, da.from_array(signal, chunks=(2, 4, 3)))
    assert isinstance(lazy, da.Array)
    assert lazy.dtype == np.float32
    np.testing.assert_array_equal(lazy.compute(), expected)
    labelled = xr.DataArray(signal, dims=("time", "y", "x"), attrs={"site": 3})
    for data in (labelled, labelled.chunk({"time": 2})):
        result = _apply(function, data)
        assert result.dims == labelled.dims
        assert result.attrs == labelled.attrs
        np.testing.assert_array_equal(result.values, expected)
    masked = _apply(function, np.ma.masked_less(signal, 100))
    assert masked.mask.sum() == 10
    np.testing.assert_array_equal(masked.compressed(), expected.ravel()[10:])


@pytest.mark.parametrize("function", FUNCTIONS)
def test_torch_tensors_stay_tensors(function: Any) -> None:
    """A tensor gives a tensor of float32 on the same device."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    signal = np.arange(90, 210, dtype="int16").reshape(4, 30)
    result = _apply(function, torch.from_numpy(signal))
    assert result.dtype is torch.float32
    np.testing.assert_array_equal(result.numpy(), _apply(function, signal))


def test_arguments_in_the_wrong_order_are_explained() -> None:
    """A swapped pair, text and complex values are refused with the rule; so is a refused calibration."""
    signal = np.ones((3, 4))
    with pytest.raises(TypeError, match="the array comes first"):
        at.stabilize(DETECTOR, signal)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="integers or floats"):
        at.stabilize(signal * 1j, DETECTOR)
    with pytest.raises(ValueError, match="'unbiased' or 'algebraic'"):
        at.destabilize(signal, DETECTOR, inverse="exact")  # type: ignore[arg-type]
    refused = at.compute_sensitivity(np.full((20, 32, 32), 7, "int16"), on_refusal="return")
    with pytest.raises(at.UntrustworthyCalibration):
        at.stabilize(signal, refused)


@parametrize_with_checks([at.AnscombeTransformer(), at.AnscombeTransformer(2.0, 10.0, 1.0, "algebraic")])
def test_the_transformer_keeps_scikit_learns_rules(estimator: Any, check: Any) -> None:
    """The checks of scikit-learn for transformers pass."""
    check(estimator)


def test_the_transformer_equals_the_functions(rng: np.random.Generator) -> None:
    """The scikit-learn step computes what stabilize and destabilize do."""
    signal = 100 + 3.0 * rng.poisson(6, (50, 7))
    for inverse in ("unbiased", "algebraic"):
        step = at.AnscombeTransformer(3.0, 100.0, 4.5, inverse).fit(signal)
        stable = step.transform(signal)
        assert stable == pytest.approx(at.stabilize(signal, DETECTOR), rel=1e-6)
        back = at.destabilize(stable, DETECTOR, inverse=inverse)
        assert step.inverse_transform(stable) == pytest.approx(back, rel=1e-5)


def test_the_transformer_checks_its_parameters() -> None:
    """A gain of 0 or an unknown inverse is refused when it is fitted."""
    with pytest.raises(ValueError, match="conversion_gain"):
        at.AnscombeTransformer(0.0).fit([[1.0]])
    with pytest.raises(ValueError, match="inverse must be"):
        at.AnscombeTransformer(inverse="best").fit([[1.0]])  # type: ignore[arg-type]
