"""The entropy of codes is that of their law."""

from __future__ import annotations

import math

import numpy as np
import pytest

from anscombe_transform.codec.transform.curve import Curve
from anscombe_transform.transform.limit import bright_entropy, code_entropy


@pytest.mark.parametrize("beta", [0.25, 0.5, 1.0])
def test_a_bright_pixel_has_the_entropy_of_a_gaussian(beta):
    """Above hundreds of photons the code takes ½·log2(2πe) − log2 β bits."""
    curve = Curve(conversion_gain=60.0, zero_level=100.0, read_noise=10.0, beta=beta, offset=8)
    bits = code_entropy(curve, [400.0, 2000.0])
    # Rounding to whole codes widens the law by β²/12 of its variance.
    assert bits[1] == pytest.approx(bright_entropy(beta), abs=0.5 * math.log2(1 + beta**2 / 12) + 0.002)
    assert bits[0] == pytest.approx(bits[1], abs=0.01)


@pytest.mark.parametrize("photons", [0.0, 0.3, 1.0, 8.0])
@pytest.mark.parametrize("read_noise", [0.0, 10.0])
def test_the_entropy_is_that_of_drawn_codes(rng, photons, read_noise):
    """It agrees with the histogram of the codes of drawn photons and read noise."""
    curve = Curve(conversion_gain=60.0, zero_level=100.0, read_noise=read_noise, offset=16)
    count = 400_000
    signal = 100 + 60 * rng.poisson(photons, count) + read_noise * rng.standard_normal(count)
    seen = np.unique(curve.code(np.rint(signal)), return_counts=True)[1] / count
    drawn = -(seen * np.log2(seen)).sum()
    deviation = math.sqrt(max((seen * np.log2(seen) ** 2).sum() - drawn**2, 0) / count)
    # A histogram of k bins misses (k − 1) / 2N nats (Miller 1955) and scatters by that deviation.
    bias = (seen.size - 1) / (2 * count * math.log(2))
    assert abs(drawn - float(code_entropy(curve, photons))) < 5 * deviation + 3 * bias + 1e-9


def test_the_entropy_follows_given_edges(rng):
    """With bins of other widths than the curve's, it is that of the codes of those bins."""
    curve = Curve(conversion_gain=60.0, zero_level=100.0, read_noise=10.0, offset=16)
    edges = np.cumsum(rng.choice([15, 17, 41], 60)) - 20.5
    signal = np.rint(100 + 60 * rng.poisson(4.0, 400_000) + 10 * rng.standard_normal(400_000))
    seen = np.unique(np.searchsorted(edges, signal, "right"), return_counts=True)[1] / signal.size
    drawn = -(seen * np.log2(seen)).sum()
    assert abs(drawn - float(code_entropy(curve, 4.0, edges=edges))) < 0.015
    assert abs(drawn - float(code_entropy(curve, 4.0))) > 0.1


def test_rates_of_any_shape_are_interpolated(rng):
    """The entropy of an image is that of its pixels one by one."""
    curve = Curve(conversion_gain=2.1, zero_level=100.0, read_noise=2.0, offset=20)
    rates = rng.uniform(0, 90, (3, 4))
    alone = [float(code_entropy(curve, rate)) for rate in rates.ravel()]
    np.testing.assert_allclose(code_entropy(curve, rates).ravel(), alone, atol=2e-3)
    assert code_entropy(curve, np.empty((0, 2))).shape == (0, 2)


@pytest.mark.parametrize("photons", [-1.0, math.nan, math.inf])
def test_a_rate_that_is_none_is_refused(photons):
    """Rates must be finite and not negative."""
    with pytest.raises(ValueError, match="photons"):
        code_entropy(Curve(conversion_gain=60.0, zero_level=0.0), photons)
