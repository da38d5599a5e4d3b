"""The stabilising curve: its shape, its inverse, its codes, and the rules of its parameters."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anscombe_transform.codec.transform.curve import Curve, beta_for, noise_increase

detectors = st.builds(
    Curve,
    conversion_gain=st.floats(0.05, 1000),
    zero_level=st.floats(-1000, 10000),
    read_noise=st.floats(0, 50),
    beta=st.floats(0.1, 2),
    offset=st.floats(0, 200),
)


@given(curve=detectors, y=st.floats(-50, 1000))
def test_invert_is_the_inverse_of_stabilize(curve: Curve, y: float) -> None:
    """Stabilising an inverted value gives it back to float64 rounding."""
    x = float(curve.invert(y))
    # The signal is rounded to its own last place, which the slope turns into codes.
    slope = 1 / (curve.beta * float(curve.noise_std(x)))
    assert float(curve.stabilize(x)) == pytest.approx(
        y, abs=1e-9 + 8 * slope * np.spacing(abs(x) + abs(curve.zero_level))
    )


@given(curve=detectors, x=st.floats(-2000, 1e6))
def test_one_code_is_beta_standard_deviations(curve: Curve, x: float) -> None:
    """The slope of the curve is 1 / (beta sigma), everywhere."""
    sigma = float(curve.noise_std(x))
    h = 1e-4 * sigma
    rise = float(curve.stabilize(x + h) - curve.stabilize(x - h)) / (2 * h)
    # Central differences of a root: the third-order term is below (h / sigma)^2 times the slope.
    assert rise * curve.beta * sigma == pytest.approx(1, abs=1e-3)


@given(curve=detectors, codes=st.lists(st.integers(0, 2000), min_size=1, max_size=20))
def test_first_integers_bound_their_code(curve: Curve, codes: list[int]) -> None:
    """The first integer of a code has at least that code, and the integer before it has not."""
    first = curve.first_integers(codes)
    assert (curve.code(first) >= codes).all()
    assert (curve.code(first - 1) < codes).all()


def test_codes_never_decrease() -> None:
    """A brighter signal never has a smaller code, at the join of line and root included."""
    for gain in (0.3, 1.0, 2.17, 91.2, 300.0):
        codes = Curve(gain, 100.0, 3.0).code(np.arange(-2000, 65536))
        assert (np.diff(codes) >= 0).all()


def test_stabilised_poisson_noise_has_the_promised_variance(rng: np.random.Generator) -> None:
    """Codes of Poisson counts with read noise vary by 1 / beta^2 plus the rounding, above a few photons."""
    n = 200_000
    for photons in (10.0, 100.0):
        signal = 50 + 3.0 * rng.poisson(photons, n) + rng.normal(0, 4.0, n)
        codes = Curve(3.0, 50.0, read_noise=4.0, beta=0.5).code(signal)
        # The delta method leaves a relative error of about 1 / (8 n); sampling adds sqrt(2 / N).
        assert codes.var() == pytest.approx(4 + 1 / 12, rel=1 / (6 * photons) + 5 * math.sqrt(2 / n))


@pytest.mark.parametrize("fraction", [0.001, 0.02, 4 / 3])
def test_a_noise_budget_gives_its_step(fraction: float) -> None:
    """The step for a budget spends just that budget."""
    assert noise_increase(beta_for(fraction)) == pytest.approx(fraction)
    with pytest.raises(ValueError, match="noise_increase must be"):
        beta_for(-fraction)


def test_noise_std_is_constant_below_the_zero_level() -> None:
    """Below darkness the curve is a line, so its noise is that of darkness."""
    curve = Curve(2.0, 100.0, read_noise=3.0)
    assert curve.noise_std([-500, 0, 100]) == pytest.approx([curve.noise_std(100)] * 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conversion_gain": 0}, "conversion_gain must be a finite number > 0"),
        ({"conversion_gain": -3.0}, "conversion_gain must be a finite number > 0"),
        ({"conversion_gain": math.nan}, "conversion_gain"),
        ({"conversion_gain": math.inf}, "conversion_gain"),
        ({"zero_level": math.nan}, "zero_level must be a finite number"),
        ({"zero_level": -math.inf}, "zero_level"),
        ({"read_noise": -1.0}, "read_noise must be a finite number >= 0"),
        ({"beta": 0}, "beta must be"),
        ({"beta": 5}, "beta must be"),
    ],
)
def test_a_number_outside_its_rule_is_named(change: dict[str, float], message: str) -> None:
    """A bad parameter is refused with its name, its rule and the value."""
    good = {"conversion_gain": 1.0, "zero_level": 0.0}
    with pytest.raises(ValueError, match=message):
        Curve(**{**good, **change})


@pytest.mark.parametrize("value", ["3", None, [1.0], True])
def test_what_is_no_number_is_a_type_error(value: object) -> None:
    """Text, lists and booleans are no gains."""
    with pytest.raises(TypeError, match="conversion_gain"):
        Curve(value, 0.0)  # type: ignore[arg-type]


@settings(deadline=None)
@given(gain=st.floats(0.3, 300), zero=st.floats(-100, 1000))
def test_numpy_scalars_are_numbers(gain: float, zero: float) -> None:
    """Parameters that numpy computed are kept as numbers of Python."""
    curve = Curve(np.float64(gain), np.float32(zero))
    assert type(curve.conversion_gain) is float
    assert type(curve.zero_level) is float
