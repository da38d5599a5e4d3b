"""The values of codes: inside their bins, increasing, and unbiased."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammaln, ndtr

from anscombe_transform import AnscombeTransformV2
from anscombe_transform.decode_table import fitted, midpoints, sample_blocks, unbiased
from anscombe_transform.transform import Curve

RATES = np.geomspace(0.05, 100, 40)


def codes_for(gain: float, read_photons: float, beta: float) -> tuple[Curve, int]:
    """A detector whose codes have room for eight deviations of its read noise, and 400 photons."""
    noise = read_photons * gain
    room = 1 - float(Curve(gain, 100.0, noise, beta).stabilize(100 - 9 * noise - 1))
    curve = Curve(gain, 100.0, noise, beta, float(np.ceil(room)))
    return curve, int(curve.code(100 + 400 * gain))


def bias(curve: Curve, table: np.ndarray) -> np.ndarray:
    """Bias of the mean of decoded floats in standard deviations, by summing the density over every bin."""
    gain, zero, noise = curve.conversion_gain, curve.zero_level, curve.read_noise
    counts = np.arange(260)
    signals = zero + gain * counts
    weights = np.exp(counts * np.log(RATES)[:, None] - RATES[:, None] - gammaln(counts + 1))
    if noise == 0:
        decoded = table[curve.code(signals)]
    else:
        edges = curve.invert(np.arange(len(table) + 1) - 0.5)
        below = ndtr((edges - signals[:, None]) / noise)
        below[:, 0], below[:, -1] = 0, 1
        decoded = np.diff(below, axis=1) @ table
    return (weights @ (decoded - signals)) / (gain * np.sqrt(RATES + (noise / gain) ** 2))


@pytest.mark.parametrize("gain", [0.4, 2.2, 60.0, 300.0])
@pytest.mark.parametrize("read_photons", [0, 0.17, 1.0, 3.0])
@pytest.mark.parametrize("beta", [0.25, 0.5])
def test_the_mean_of_decoded_values_is_unbiased(gain: float, read_photons: float, beta: float) -> None:
    """From a twentieth of a photon to a hundred the mean stays within a thousandth of the noise."""
    curve, last = codes_for(gain, read_photons, beta)
    assert np.abs(bias(curve, unbiased(curve, last, integers=False))).max() < 1e-3


@pytest.mark.parametrize("beta", [0.25, 0.5, 1.0])
def test_bright_pixels_are_unbiased_too(beta: float) -> None:
    """Above the solved codes the closed form holds: the mean stays to a hundredth of what it corrects."""
    gain = 2.2
    curve = Curve(gain, 100.0, 1.0, beta, 30.0)
    table = unbiased(curve, int(curve.code(100 + 3000 * gain)), integers=False)
    edges = curve.invert(np.arange(len(table) + 1) - 0.5)
    for rate in (400.0, 900.0, 1700.0):
        sigma = gain * np.sqrt(rate)
        below = ndtr((edges - 100 - gain * rate) / sigma)
        below[0], below[-1] = 0, 1
        shift = float(np.diff(below) @ table) - (100 + gain * rate)
        assert abs(shift) < 0.01 * gain * beta**2 / 12


def test_midpoints_are_biased_where_the_unbiased_table_is_not() -> None:
    """The test above can fail: the middles of bins are off by hundredths of the noise."""
    curve, last = codes_for(60.0, 0.17, 0.5)
    assert np.abs(bias(curve, midpoints(curve, last, integers=False))).max() > 0.02


def test_uneven_pulses_keep_their_mean(rng: np.random.Generator) -> None:
    """With the excess noise factor in the table gamma pulses keep their mean; a table for even ones fails."""
    excess, pulse = 1.3, 70.0
    gain = excess * pulse
    curve = Curve(gain, 100.0, 0.0, 0.5, 20.0)
    last = int(curve.code(100 + 300 * gain))
    shape = 1 / (excess - 1)
    known = unbiased(curve, last, integers=False, read_noise=0.2 * gain, excess_noise=excess)
    even = unbiased(curve, last, integers=False)
    worst = {"known": 0.0, "even": 0.0}
    n = 400_000
    for rate in (0.3, 1.0, 3.0, 10.0):
        counts = rng.poisson(excess * rate, n)
        pulses = np.where(counts > 0, rng.gamma(np.maximum(counts, 1) * shape, pulse / shape), 0)
        x = 100 + pulses + rng.normal(0, 0.2 * gain, n)
        for name, table in (("known", known), ("even", even)):
            shift = float((table[curve.code(x)] - x).mean() / x.std())
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


def shifts(curve: Curve, table: np.ndarray, law: str, rng: np.random.Generator, unit: float) -> np.ndarray:
    """Shift of the mean of 400,000 decoded values at each of six rates, in standard deviations."""
    found = []
    for rate in (0.3, 1.0, 2.0, 5.0, 20.0, 60.0):
        x = np.rint(100 + unit * LAWS[law](rng, np.full(400_000, rate)))
        found.append((table[curve.code(x)] - x).mean() / (unit * np.sqrt(rate)))
    return np.array(found)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("integers", [False, True])
@pytest.mark.parametrize("frames", [64, 1])
def test_a_fitted_table_keeps_the_mean_whatever_the_detector(
    law: str, integers: bool, frames: int, rng: np.random.Generator
) -> None:
    """Under a table for another law the mean is off by hundredths of the noise, not under a fitted one."""
    curve = Curve(60.0, 100.0, 0.0, 0.5, 12.0)
    light = np.linspace(0.3, 9, 2**21 // frames).reshape(1, -1, 128) ** 2
    sample = np.rint(100 + 60 * LAWS[law](rng, np.broadcast_to(light, (frames, *light.shape[1:]))))
    model = unbiased(curve, 255, integers=integers, read_noise=15.0)
    table = fitted(curve, model, sample_blocks(sample), integers=integers)
    # A twelfth of a step squared is the variance of rounding; some 40 groups share the sample, and its pixels
    # are half as many in the dark.
    chance = 0.5 / np.sqrt(12) * np.sqrt(1 / 400_000 + 80 / 2**21)
    # What integers of a sixtieth of a photon cannot make good, and the prior keeps of the model.
    rest = 0.006
    assert np.abs(shifts(curve, table, law, rng, 60.0)).max() < rest + 4 * chance
    assert np.abs(shifts(curve, model, law, rng, 60.0)).max() > 0.01


def test_integers_make_good_each_others_rounding(rng: np.random.Generator) -> None:
    """Rounding each value of photon counts to the nearest shifts the mean; a choice of them does less."""
    curve = Curve(1.0, 0.0, 0.0, 0.5, 2.0)
    light = np.linspace(0.3, 9, 2**15).reshape(1, -1, 128) ** 2
    sample = rng.poisson(np.broadcast_to(light, (64, *light.shape[1:])))
    model = unbiased(curve, 60, integers=True)
    table = fitted(curve, model, sample_blocks(sample), integers=True)
    worst = [
        max(
            abs((values[curve.code(x)] - x).mean()) / np.sqrt(rate)
            for rate in (5.0, 8.0, 12.0, 20.0, 40.0)
            for x in [rng.poisson(rate, 400_000)]
        )
        for values in (np.rint(model), table)
    ]
    assert worst[1] < worst[0] / 2


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
    curve = Curve(gain, 10.0, read * gain, beta, 20.0)
    sample = 10 + gain * np.random.default_rng(number).poisson(5, shape).astype(float)
    sample.flat[0] = odd
    model = unbiased(curve, 150, integers=integers)
    table = fitted(curve, model, [sample], integers=integers)
    assert table.shape == model.shape
    assert (np.diff(table) >= 0).all()
    used = np.ones(151, bool)
    if integers:
        first = curve.first_integers(np.arange(152))
        used = first[1:] > first[:-1]
        assert np.array_equal(table[used], np.rint(table[used]))
    assert np.array_equal(curve.code(table[used]), np.arange(151)[used])


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
    curve = Curve(gain, zero, read_photons * gain, beta, 20.0)
    table = unbiased(curve, 150, integers=integers)
    assert (np.diff(table) >= 0).all()
    if not integers:
        inside = curve.invert(curve.stabilize(table))
        edges = curve.invert(np.arange(152) - 0.5)
        assert (inside >= edges[:-1] - 1e-6 * gain).all()
        assert (inside <= edges[1:] + 1e-6 * gain).all()
        return
    first = curve.first_integers(np.arange(152))
    used = first[1:] > first[:-1]
    assert (table[used] >= first[:-1][used]).all()
    assert (table[used] <= first[1:][used] - 1).all()
