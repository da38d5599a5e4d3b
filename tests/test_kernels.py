"""Each compiled loop equals its plain numpy twin, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anscombe_transform import _kernels
from anscombe_transform.codec.anscombe import Configuration, Plan, plan

SHORT = ("int8", "uint8", "int16", "uint16")
WIDE = ("int32", "uint32", "int64", "uint64")

plans = st.builds(
    lambda gain, zero, noise, beta, encoded: plan(
        Configuration(
            zero, gain, encoded, "int32", read_noise=noise, beta=beta, zero_code=40, out_of_range="clip"
        )
    ),
    gain=st.floats(0.05, 1000),
    zero=st.one_of(st.floats(-1000, 10000), st.integers(-1000, 10000)),
    noise=st.floats(0, 50),
    beta=st.floats(0.1, 2),
    encoded=st.sampled_from(["uint8", "uint16"]),
)


def plain_codes(p: Plan, x: np.ndarray) -> np.ndarray:
    """The definition, in float64: clamp, stabilise, round."""
    return p.curve.code(np.clip(x.astype(np.float64), p.lowest, p.highest)).astype(p.encoded_dtype)


@settings(max_examples=150, deadline=None)
@given(p=plans, dtype=st.sampled_from(SHORT))
def test_short_integers_are_exact_for_every_value(p: Plan, dtype: str) -> None:
    """All values of an 8- or 16-bit type get the code of the float64 definition."""
    limits = np.iinfo(dtype)
    x = np.arange(limits.min, limits.max + 1).astype(dtype)
    codes = np.empty(x.size, p.encoded_dtype)
    assert p._encode_flat(x, codes)
    assert np.array_equal(codes, plain_codes(p, x))


@settings(max_examples=100, deadline=None)
@given(p=plans, dtype=st.sampled_from(WIDE), seed=st.integers(0, 99))
def test_wide_integers_equal_the_definition(p: Plan, dtype: str, seed: int) -> None:
    """Integers of 32 and 64 bits, uniform and around every edge of a code, get the float64 code."""
    rng = np.random.default_rng(seed)
    limits = np.iinfo(dtype)
    edges = p.curve.first_integers(np.arange(0, p._top, max(1, p._top // 200)))
    near = np.concatenate([edges - 1, edges, rng.integers(-5000, 70000, 500)])
    x = near[(near >= limits.min) & (near <= limits.max)].astype(dtype)
    codes = np.empty(x.size, p.encoded_dtype)
    assert p._encode_flat(x, codes)
    assert np.array_equal(codes, plain_codes(p, x))


@settings(max_examples=100, deadline=None)
@given(p=plans, dtype=st.sampled_from(["float32", "float64"]), seed=st.integers(0, 99))
def test_floats_equal_the_definition(p: Plan, dtype: str, seed: int) -> None:
    """Floats around every edge of a code get the float64 code; NaN gets its own; outsiders are counted."""
    rng = np.random.default_rng(seed)
    edges = p.curve.invert(np.arange(0, p._top, max(1, p._top // 200)) - 0.5)
    near = [edges * (1 + k * 2.0**-24) for k in range(-4, 5)]
    x = np.concatenate([*near, rng.uniform(-5000, 70000, 500)]).astype(dtype)
    x[::50] = np.nan
    codes = np.empty(x.size, p.encoded_dtype)
    if dtype == "float32":
        single = (*p._ends, *p._single[2:])
        twin = np.empty_like(codes)
        for nan_code in (-1, 7):
            found = _kernels.encode_float32(x, codes, single, p._double, p._margin, nan_code)
            assert found == _kernels.encode_floats(x, twin, *p._double, nan_code)
        assert np.array_equal(codes, twin)
    outsiders = _kernels.encode_floats(x, codes, *p._double, 7)
    inside = (x >= p.lowest) & (x <= p.highest)
    assert outsiders == np.count_nonzero(~inside & ~np.isnan(x))
    assert (codes[np.isnan(x)] == 7).all()
    assert np.array_equal(codes[~np.isnan(x)], plain_codes(p, x[~np.isnan(x)]))
    assert _kernels.encode_floats(x, codes, *p._double, -1) == np.count_nonzero(~inside)


@settings(max_examples=10, deadline=None)
@given(p=plans, length=st.integers(1, 40))
def test_codes_do_not_depend_on_the_length_of_an_array(p: Plan, length: int) -> None:
    """What is left over by the loop that takes many values at once gets the same codes."""
    x = np.linspace(0, 65535, 60 * length).astype("uint16").reshape(60, length)
    assert np.array_equal([p.encode(part) for part in x], p.encode(x))


@pytest.mark.parametrize("dtype", [*SHORT, *WIDE])
def test_encoders_report_the_extremes(dtype: str, rng: np.random.Generator) -> None:
    """The smallest and largest input come back from the pass that encodes, wherever they are."""
    p = plan(Configuration(0, 30.0, "uint16", "int32", zero_code=40, out_of_range="clip"))
    x = rng.integers(3, 100, 1000).astype(dtype)
    codes = np.empty(x.size, "uint16")
    for where in (0, 17, 999):
        y = x.copy()
        y[where], y[500] = 1, 120
        if y.dtype.itemsize <= 2:
            numbers = p._short_numbers(y.dtype)
            none = (y.dtype.type(0),) * 4, (codes.dtype.type(0),) * 4
            found = (
                p._short_kernel(y.dtype)(y, codes),
                _kernels.encode_single(y, codes, *numbers),
                _kernels.encode_patched(y, codes, *numbers, *none),
                _kernels.encode_table(y, y.view(f"u{y.dtype.itemsize}"), np.zeros(65536, "uint16"), codes),
            )
        else:
            found = (_kernels.encode_double(y, codes, *p._double),)
        assert set(found) == {(1, 120)}


def test_patches_mend_single_inputs() -> None:
    """Each of four inputs gets its own correction, all others none."""
    p = plan(Configuration(0, 30.0, "uint16", "int32", zero_code=40, out_of_range="clip"))
    x = np.arange(65536, dtype="uint16")
    plain, patched = np.empty_like(x), np.empty_like(x)
    numbers = p._short_numbers(x.dtype)
    _kernels.encode_single(x, plain, *numbers)
    wrong, mend = np.array([3, 70, 900, 65535], "uint16"), np.array([1, -1, 2, 5]).astype("uint16")
    _kernels.encode_patched(x, patched, *numbers, tuple(wrong), tuple(mend))
    plain[wrong] += mend
    assert np.array_equal(patched, plain)


@pytest.mark.parametrize("dtype", ["int16", "uint16", "float32", "int32", "float64"])
@pytest.mark.parametrize("odd", [0, 1])
def test_pairs_of_codes_decode_as_single_ones(dtype: str, odd: int, rng: np.random.Generator) -> None:
    """Large arrays, which are decoded two codes at a time, give what the table gives, at any alignment."""
    p = plan(Configuration(0, 30.0, "uint8", dtype, zero_code=40))
    codes = rng.integers(0, 150, 200_003).astype("uint8")
    codes[::17] = 255 if np.dtype(dtype).kind == "f" else 0
    expected = p._values[codes[odd:]]
    assert np.array_equal(p.decode(codes[odd:]), expected, equal_nan=True)
    out = np.empty(200_004, dtype)[1 - odd :][: codes.size - odd]
    assert np.array_equal(p.decode(codes[odd:], out=out), expected, equal_nan=True)
    codes = np.zeros(100_001, "uint8")
    codes[-1] = 250
    with pytest.raises(ValueError, match="code 250 at flat index"):
        plan(Configuration(0, 300.0, "uint8", "int16", zero_code=4)).decode(codes)


@settings(deadline=None)
@given(size=st.integers(1, 3 * _kernels.BLOCK), encoded=st.sampled_from(["uint8", "uint16"]))
def test_decoding_is_a_look_up(size: int, encoded: str) -> None:
    """The decoder gives the table's entry of every code, and the largest code, over block ends."""
    rng = np.random.default_rng(size)
    table = rng.integers(-1000, 1000, 200).astype("int16")
    codes = rng.integers(0, 200, size).astype(encoded)
    out = np.empty(size, "int16")
    assert _kernels.decode_table(codes, table, out) == codes.max()
    assert np.array_equal(out, table[codes])


def test_decoding_never_reads_beyond_its_table() -> None:
    """A code that the table lacks stops the decoder before it is looked up."""
    codes = np.zeros(3 * _kernels.BLOCK, "uint16")
    codes[-1] = 65535
    out = np.full(codes.size, -1, "int16")
    assert _kernels.decode_table(codes, np.zeros(10, "int16"), out) == 65535
    assert (out[-_kernels.BLOCK :] == -1).all()
