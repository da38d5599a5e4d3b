"""Every constant of a detector comes with its interval, in print, tables, JSON and plots."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

import anscombe_transform as at
from anscombe_transform.calibration.result.constants import ratio_interval, read_noise_interval, with_bracket

POINT = (2.0, 2.0)


@pytest.fixture(scope="module")
def multiplied():
    """A calibration of an EMCCD, with excess noise."""
    movie, _ = at.simulate_movie(
        (64, 128, 128),
        conversion_gain=20,
        zero_level=200,
        read_noise=30,
        excess_noise=2,
        mean_photons=4,
        rng=0,
    )
    return at.compute_sensitivity(movie)


def test_the_read_noise_s_interval_follows_from_the_zero_level_s():
    """A zero level that may lie anywhere above x₀ leaves the read noise between 0 and √(g (z_high − x₀))."""
    low, high = read_noise_interval(2.0, POINT, 71.0, (0.0, 218.0), 0.0, (0.0, 0.0))
    assert low == 0
    assert high == pytest.approx(math.sqrt(2 * 218))


@pytest.mark.parametrize("which", ["gain", "zero", "intercept"])
def test_small_errors_propagate_as_the_delta_method_has_them(which):
    """σ = √(g (z − x₀)): small intervals of g, z or x₀ give those of the derivatives."""
    gain, zero, x0, half = 2.0, 100.0, 92.0, 1e-4
    sigma = math.sqrt(gain * (zero - x0))
    derivative = {
        "gain": (zero - x0) / (2 * sigma),
        "zero": gain / (2 * sigma),
        "intercept": gain / (2 * sigma),
    }
    values = {"gain": gain, "zero": zero, "intercept": x0}
    intervals = {name: (v, v) for name, v in values.items()}
    intervals[which] = (values[which] - half, values[which] + half)
    low, high = read_noise_interval(
        gain, intervals["gain"], zero, intervals["zero"], x0, intervals["intercept"]
    )
    assert (high - low) / 2 == pytest.approx(derivative[which] * half, rel=1e-3)
    assert (high + low) / 2 == pytest.approx(sigma, rel=1e-6)


def test_what_is_not_known_has_no_interval():
    """NaN constants give NaN; an interval that is not known counts as a point."""
    nothing = (math.nan, math.nan)
    assert all(map(math.isnan, read_noise_interval(math.nan, nothing, 1.0, nothing, 0.0, nothing)))
    low, high = read_noise_interval(2.0, nothing, 8.0, nothing, 0.0, nothing)
    assert low == high == 4
    assert ratio_interval(40.0, (40.0, 40.0), 2.0, (1.9, 2.1)) == pytest.approx((19.0, 21.0))
    assert all(map(math.isnan, at.Sensitivity.refused(at.calibration.Reason("x", "y")).read_noise_interval))


def test_given_constants_are_points():
    """Constants of a data sheet have intervals of no width, and print without one."""
    given = at.Sensitivity.from_known(conversion_gain=2.0, zero_level=100.0, read_noise=4.0)
    assert given.read_noise_interval == (4.0, 4.0)
    assert "[" not in str(given).splitlines()[0]


def test_print_and_table_hold_every_constant_with_its_interval(multiplied):
    """The first line and the notebook's table name every constant, with its interval."""
    first, table = str(multiplied).splitlines()[0], multiplied._repr_html_()
    for constant in multiplied.constants():
        low, high = constant.interval
        assert low <= constant.value <= high
        assert low < high
        assert with_bracket(constant.value, constant.interval) in table
        if constant.key != "variance_intercept":
            assert with_bracket(constant.value, constant.interval) in first
    assert "effective" in first
    assert multiplied.verdict in table


def test_excess_noise_and_one_photon_have_intervals(multiplied):
    """F² = 2 and a photon of 20 units lie within intervals narrower than they are."""
    for value, (low, high) in (
        (2.0, multiplied.excess_noise_interval),
        (20.0, multiplied.single_photon_gain_interval),
    ):
        # Half the interval more on each side, so that no seed's chance fails.
        margin = (high - low) / 2
        assert low - margin < value < high + margin
        assert high - low < value


def test_known_excess_noise_is_a_point(multiplied):
    """A given factor has no width, and one photon's signal has that of the gain."""
    known = at.calibration.references.known.with_excess_noise(multiplied, 2.0)
    assert known.excess_noise_interval == POINT
    low, high = known.conversion_gain_interval
    assert known.single_photon_gain_interval == pytest.approx((low / 2, high / 2))


def test_json_holds_the_intervals_and_is_read_with_and_without_them(multiplied):
    """`to_dict` gives derived intervals to readers in other languages; what was written before is read."""
    values = json.loads(json.dumps(multiplied.to_dict()))
    assert values["read_noise_interval"] == list(multiplied.read_noise_interval)
    assert values["single_photon_gain"] == multiplied.single_photon_gain
    again = at.Sensitivity.from_dict(values)
    assert again == replace(multiplied, evidence=None, maps=None)
    for name in (
        "read_noise_interval",
        "single_photon_gain",
        "single_photon_gain_interval",
        "excess_noise_interval",
    ):
        del values[name]
    earlier = at.Sensitivity.from_dict(values)
    assert earlier.read_noise_interval == multiplied.read_noise_interval
    assert all(map(math.isnan, earlier.excess_noise_interval))


def test_plots_show_the_read_noise_with_its_interval(multiplied):
    """Legend and report panel have the interval of the read noise."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure = at.diagnostics.plot_calibration_report(multiplied)
    texts = [text.get_text() for ax in figure.axes for text in ax.texts]
    shown = [line for text in texts for line in text.splitlines() if line.startswith("read noise")]
    assert shown
    assert all("[" in line for line in shown)
    pyplot.close(figure)


def test_intervals_of_the_read_noise_hold_the_truth(seed):
    """In eight movies, the interval or half of it more on either side holds the truth each time."""
    for k in range(8):
        movie, truth = at.simulate_movie(
            (48, 64, 64),
            conversion_gain=2.2,
            zero_level=100,
            read_noise=4,
            mean_photons=5,
            dtype="uint16",
            rng=np.random.default_rng([seed, k]),
        )
        found = at.compute_sensitivity(movie, on_refusal="return")
        low, high = found.read_noise_interval
        # Rounding adds a variance of 1/12.
        true = math.hypot(truth.read_noise, math.sqrt(1 / 12))
        assert low - (high - low) / 2 < true < high + (high - low) / 2
