"""Bins of signals and the values of their codes: odd widths, inside their bins, unbiased."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammaln, ndtr

from anscombe_transform import AnscombeTransformV2
from anscombe_transform.codec.transform.bins import Bins, bins_around, bins_between, fine_step
from anscombe_transform.codec.transform.curve import Curve
from anscombe_transform.codec.transform.values import BLUR, fitted, sample_blocks, unbiased

RATES = np.geomspace(0.05, 100, 40)


def held(curve: Curve, photons: float, *, whole: bool = False) -> Bins:
    """Bins with room for nine deviations of the read noise in the dark, and for a number of photons."""
    low = curve.zero_level - 9 * curve.read_noise - curve.conversion_gain
    high = curve.zero_level + photons * curve.conversion_gain
    step = 1 if whole else fine_step(curve, low, high, "float64")
    return bins_between(curve, np.floor(low), np.ceil(high), step, 65535)


def bias(curve: Curve, bins: Bins, table: np.ndarray) -> np.ndarray:
    """Bias of the mean of decoded floats in standard deviations, by summing the density over every bin."""
    gain, zero, noise = curve.conversion_gain, curve.zero_level, curve.read_noise
    counts = np.arange(260)
    signals = zero + gain * counts
    weights = np.exp(counts * np.log(RATES)[:, None] - RATES[:, None] - gammaln(counts + 1))
    if noise == 0:
        decoded = table[bins.codes(signals)]
    else:
        below = ndtr((bins.edges - signals[:, None]) / noise)
        below[:, 0], below[:, -1] = 0, 1
        decoded = np.diff(below, axis=1) @ table
    return (weights @ (decoded - signals)) / (gain * np.sqrt(RATES + (noise / gain) ** 2))


# -- bins ------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(
    gain=st.floats(0.05, 300),
    zero=st.floats(-200, 1000),
    noise=st.sampled_from([0.0, 0.3, 2.0, 40.0]),
    beta=st.sampled_from([0.25, 0.5, 1.0]),
    low=st.integers(-500, 2000),
    span=st.integers(0, 20000),
)
def test_bins_are_odd_and_as_wide_as_the_noise(
    gain: float, zero: float, noise: float, beta: float, low: int, span: int
) -> None:
    """Every integer of the range is in one bin; widths are odd and follow the noise, or are one."""
    curve = Curve(gain, zero, noise, beta)
    bins = bins_between(curve, low, low + span, 1, 65536)
    widths = np.array(bins.widths)
    assert (widths % 2 == 1).all()
    assert bins.low[0] <= low <= bins.high[0]
    assert bins.low[-1] <= low + span <= bins.high[-1]
    assert np.array_equal(bins.edges[1:-1], bins.high[:-1] + 0.5)
    ideal = beta * curve.noise_std(bins.low) + gain * beta**2 / 4
    assert (widths <= ideal + 2 + 1e-6).all()
    assert ((widths >= ideal - 2 - gain * beta**2 / 4 - 1e-6) | (widths == 1)).all()


@settings(max_examples=50, deadline=None)
@given(gain=st.floats(0.05, 300), zero=st.floats(-200, 1000), low=st.integers(-500, 500))
def test_the_range_in_use_moves_no_edge(gain: float, zero: float, low: int) -> None:
    """Bins of two ranges of a detector agree where both have them, so that a stored movie keeps its codes."""
    curve = Curve(gain, zero, 1.0)
    one, other = (bins_between(curve, a, b, 1, 65536) for a, b in ((low, 3000), (low + 100, 9000)))
    shared = one.edges[one.edges >= other.edges[0]]
    assert np.isin(shared[:-1], other.edges).all()


def test_a_dim_detector_of_low_gain_is_stored_exactly() -> None:
    """Where the noise is narrower than three integers every integer has its own code."""
    bins = bins_between(Curve(0.2, 100.0, 0.2), 90, 150, 1, 256)
    assert set(bins.widths) == {1}
    assert np.array_equal(bins.middles, np.arange(90, 151))


def test_bins_come_back_from_json() -> None:
    """Runs of equal widths are stored as pairs, and read as they were."""
    for bins in (
        bins_around(Curve(90.0, 50.0), 20, 256, 1),
        bins_between(Curve(0.2, 0.0), 0, 4000, 1, 65536),
        Bins(-3, (1, 3, 3, 3, 1), 0.25),
    ):
        assert Bins.from_json(bins.to_json()) == bins
    assert Bins(0, (1,) * 4096).to_json()["widths"] == [[1, 4096]]


@pytest.mark.parametrize(
    ("first", "widths", "step"),
    [
        (0, (), 1),
        (0, (0,), 1),
        (0.5, (1,), 1),
        (0, (1,), 0),
        (0, (1,), 0.3),
        (2**53, (1,), 1),
        (0, (1,), 2.0**600),
    ],
)
def test_bins_that_break_a_rule_are_refused(first: int, widths: tuple[int, ...], step: float) -> None:
    """Widths of 1 or more, a dyadic or whole step, and nothing beyond what float64 holds."""
    with pytest.raises(ValueError, match="bins"):
        Bins(first, widths, step)


# -- values ----------------------------------------------------------------------------------------------


def shift_of_rounded(gain: float, noise: float, *, integers: bool, rng: np.random.Generator) -> float:
    """Largest shift of the mean of rounded signals under fitted values, over 120 rates, exact."""
    zero, curve = 100.0, Curve(gain, 100.0, noise if noise > gain / 2 else 0.0)
    bins = held(Curve(gain, zero, noise), 160 + 9 * noise / gain, whole=True)
    bins = bins_between(curve, bins.low[0], bins.high[-1], 1, 65536)
    rates, counts = np.geomspace(0.05, 100, 120), np.arange(260)
    weights = np.exp(counts * np.log(rates)[:, None] - rates[:, None] - gammaln(counts + 1))
    signals, points = zero + gain * counts, np.arange(bins.low[0], bins.high[-1] + 1)
    if noise > 0:
        chance = np.diff(ndtr((np.append(points - 0.5, points[-1] + 0.5) - signals[:, None]) / noise), axis=1)
    else:
        chance = (np.rint(signals)[:, None] == points).astype(float)
    chance = weights @ chance
    light = np.linspace(0.1, 10.5, 2**15).reshape(1, -1, 128) ** 2
    shape = (64, *light.shape[1:])
    photons = rng.poisson(np.broadcast_to(light, shape))
    sample = np.rint(zero + gain * photons + noise * rng.normal(size=shape))
    model = unbiased(bins, curve, integers=integers, read_noise=max(noise, BLUR * gain))
    table = fitted(bins, curve, model, sample_blocks(sample), integers=integers)
    moved = chance @ (table[bins.codes(points)] - points)
    return float(np.abs(moved / (gain * np.sqrt(rates + (noise / gain) ** 2))).max())


@pytest.mark.parametrize("gain", [0.2, 0.46, 0.77, 1.0, 1.5, 2.2, 3.2, 4.535, 5.4, 12.4, 30.0])
@pytest.mark.parametrize("read_photons", [0.0, 0.1, 0.17, 1.1, 5.0])
def test_integer_signals_keep_their_mean(gain: float, read_photons: float, rng: np.random.Generator) -> None:
    """Fitted integers move no mean by more than 0.025 deviations, from a 20th of a photon to 100."""
    assert shift_of_rounded(gain, read_photons * gain, integers=True, rng=rng) < 0.025
    # Floats are free in their bins; what a sample of two million values does not tell is a thousandth.
    assert shift_of_rounded(gain, read_photons * gain, integers=False, rng=rng) < 0.0075


@pytest.mark.parametrize("gain", [0.4, 2.2, 60.0, 300.0])
@pytest.mark.parametrize("read_photons", [0, 0.17, 1.0, 3.0])
@pytest.mark.parametrize("beta", [0.25, 0.5])
def test_the_mean_of_decoded_values_is_unbiased(gain: float, read_photons: float, beta: float) -> None:
    """From a twentieth of a photon to a hundred the mean stays within thousandths of the noise."""
    curve = Curve(gain, 100.0, read_photons * gain, beta)
    bins = held(curve, 400)
    assert np.abs(bias(curve, bins, unbiased(bins, curve, integers=False))).max() < 1e-3


@pytest.mark.parametrize("beta", [0.25, 0.5, 1.0])
def test_bright_pixels_are_unbiased_too(beta: float) -> None:
    """Above the solved codes the closed form holds: the mean stays to a hundredth of what it corrects."""
    gain = 2.2
    curve = Curve(gain, 100.0, 1.0, beta)
    bins = held(curve, 3000)
    table, edges = unbiased(bins, curve, integers=False), bins.edges
    for rate in (400.0, 900.0, 1700.0):
        sigma = gain * np.sqrt(rate)
        below = ndtr((edges - 100 - gain * rate) / sigma)
        below[0], below[-1] = 0, 1
        shift = float(np.diff(below) @ table) - (100 + gain * rate)
        assert abs(shift) < 0.01 * gain * beta**2 / 12


def test_midpoints_are_biased_where_the_unbiased_table_is_not() -> None:
    """The test above can fail: the middles of bins are off by hundredths of the noise."""
    curve = Curve(60.0, 100.0, 0.17 * 60)
    bins = held(curve, 400)
    assert np.abs(bias(curve, bins, bins.middles)).max() > 0.02


def test_uneven_pulses_keep_their_mean(rng: np.random.Generator) -> None:
    """With the excess noise factor in the table gamma pulses keep their mean; a table for even ones fails."""
    excess, pulse = 1.3, 70.0
    gain = excess * pulse
    curve = Curve(gain, 100.0)
    bins = bins_between(curve, -500, 100 + 300 * gain, 0.25, 65535)
    shape = 1 / (excess - 1)
    known = unbiased(bins, curve, integers=False, read_noise=0.2 * gain, excess_noise=excess)
    even = unbiased(bins, curve, integers=False)
    worst = {"known": 0.0, "even": 0.0}
    n = 400_000
    for rate in (0.3, 1.0, 3.0, 10.0):
        counts = rng.poisson(excess * rate, n)
        pulses = np.where(counts > 0, rng.gamma(np.maximum(counts, 1) * shape, pulse / shape), 0)
        x = 100 + pulses + rng.normal(0, 0.2 * gain, n)
        for name, table in (("known", known), ("even", even)):
            shift = float((table[bins.codes(x)] - x).mean() / x.std())
            worst[name] = max(worst[name], abs(shift))
    # The error of one value is at most half a step; its mean over n scatters by 0.25 / sqrt(3 n).
    assert worst["known"] < 0.004 + 4 * 0.25 / np.sqrt(3 * n)
    assert worst["even"] > 0.02


def test_a_million_frames_of_a_dark_pixel_keep_their_mean(rng: np.random.Generator) -> None:
    """The mean of a 0.3-photon pixel over 10^6 decoded frames is that of the frames, to sampling error."""
    codec = AnscombeTransformV2(100.0, 60.0, decoded_dtype="float32", read_noise=10.0, zero_code=30)
    frames = (100 + 60 * rng.poisson(0.3, 10**6) + rng.normal(0, 10, 10**6)).astype("float32")
    difference = codec.decode(codec.encode(frames)).astype(np.float64) - frames
    # The pixel's own noise is in both; what remains scatters by the quantisation error alone.
    assert abs(difference.mean()) < 4 * difference.std() / 1000


LAWS = {
    "multiples": lambda rng, light: rng.poisson(light).astype(float),
    "blurred": lambda rng, light: rng.poisson(light) + rng.normal(0, 0.35, light.shape),
    "gamma pulses": lambda rng, light: rng.gamma(np.maximum(rng.poisson(1.3 * light), 1e-9) / 0.3, 0.3 / 1.3),
}


def shifts(bins: Bins, table: np.ndarray, law: str, rng: np.random.Generator, unit: float) -> np.ndarray:
    """Shift of the mean of 400,000 decoded values at each of six rates, in standard deviations."""
    found = []
    for rate in (0.3, 1.0, 2.0, 5.0, 20.0, 60.0):
        x = np.rint(100 + unit * LAWS[law](rng, np.full(400_000, rate)))
        found.append((table[bins.codes(x)] - x).mean() / (unit * np.sqrt(rate)))
    return np.array(found)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("integers", [False, True])
@pytest.mark.parametrize("frames", [64, 1])
def test_a_fitted_table_keeps_the_mean_whatever_the_detector(
    law: str, integers: bool, frames: int, rng: np.random.Generator
) -> None:
    """Under a table for another law the mean is off by hundredths of the noise, not under a fitted one."""
    curve = Curve(60.0, 100.0)
    bins = bins_between(curve, -500, 20000, 1, 256)
    light = np.linspace(0.3, 9, 2**21 // frames).reshape(1, -1, 128) ** 2
    sample = np.rint(100 + 60 * LAWS[law](rng, np.broadcast_to(light, (frames, *light.shape[1:]))))
    model = unbiased(bins, curve, integers=integers, read_noise=15.0)
    table = fitted(bins, curve, model, sample_blocks(sample), integers=integers)
    # A twelfth of a step squared is the variance of rounding; some 40 groups share the sample, and its pixels
    # are half as many in the dark.
    chance = 0.5 / np.sqrt(12) * np.sqrt(1 / 400_000 + 80 / 2**21)
    # What integers of a sixtieth of a photon cannot make good, and the prior keeps of the model.
    rest = 0.006
    assert np.abs(shifts(bins, table, law, rng, 60.0)).max() < rest + 4 * chance
    assert np.abs(shifts(bins, model, law, rng, 60.0)).max() > 0.01


@settings(max_examples=60, deadline=None)
@given(
    gain=st.floats(0.3, 100),
    read=st.sampled_from([0.0, 1.0]),
    beta=st.sampled_from([0.25, 0.5, 1.0]),
    integers=st.booleans(),
    shape=st.sampled_from([(1, 1, 1), (1, 3, 2), (2, 4, 5), (5, 1, 1), (20, 9, 7), (3, 2, 2, 40)]),
    odd=st.sampled_from([0.0, np.nan, -1e9, 1e9]),
    number=st.integers(0, 99),
)
def test_a_fitted_table_stays_in_its_bins(
    gain: float, read: float, beta: float, integers: bool, shape: tuple[int, ...], odd: float, number: int
) -> None:
    """Whatever the sample, values increase and lie in the bins of their codes, and NaN counts for nothing."""
    curve = Curve(gain, 10.0, read * gain, beta)
    bins = bins_around(curve, 20, 151, 1 if integers else fine_step(curve, -100, 1e4, "float64"))
    sample = 10 + gain * np.random.default_rng(number).poisson(5, shape).astype(float)
    sample.flat[0] = odd
    model = unbiased(bins, curve, integers=integers)
    table = fitted(bins, curve, model, [sample], integers=integers)
    assert table.shape == model.shape
    assert (np.diff(table) >= 0).all()
    if integers:
        assert np.array_equal(table, np.rint(table))
    assert np.array_equal(bins.codes(table), np.arange(151))


@pytest.mark.parametrize("beta", [0.25, 0.5, 1.0])
def test_the_variance_grows_by_a_twelfth_of_beta_squared(beta: float, rng: np.random.Generator) -> None:
    """Bright pixels gain beta^2 / 12 of their variance, and no more."""
    codec = AnscombeTransformV2(0.0, 3.0, "uint16", "float32", read_noise=2.0, beta=beta, zero_code=20)
    frames = (3 * rng.poisson(500, 10**6) + rng.normal(0, 2, 10**6)).astype("float32")
    decoded = codec.decode(codec.encode(frames)).astype(np.float64)
    # Error and signal hardly correlate: the two terms scatter less than a difference of variances.
    error = decoded - frames
    increase = (error.var() + 2 * np.cov(error, frames)[0, 1]) / frames.var()
    assert increase == pytest.approx(beta**2 / 12, abs=0.002)


detectors = st.tuples(
    st.floats(0.3, 300),
    st.floats(-200, 1000),
    st.sampled_from([0.0, 0.1, 1.0, 5.0]),
    st.sampled_from([0.25, 0.5, 1, 2]),
)


@settings(max_examples=60, deadline=None)
@given(detector=detectors, integers=st.booleans())
def test_every_value_is_in_its_bin_and_none_decreases(
    detector: tuple[float, float, float, float], integers: bool
) -> None:
    """A float value re-encodes to its code; integer values lie between the integers of their bin."""
    gain, zero, read_photons, beta = detector
    curve = Curve(gain, zero, read_photons * gain, beta)
    bins = bins_around(curve, 20, 151, 1 if integers else fine_step(curve, -1e4, 1e5, "float64"))
    table = unbiased(bins, curve, integers=integers)
    assert (np.diff(table) >= 0).all()
    assert (table >= bins.low).all()
    assert (table <= bins.high).all()
