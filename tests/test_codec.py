"""The transform of arrays: its bound, what it refuses, its configuration, and the functions of 1.0.0."""

from __future__ import annotations

import json
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anscombe_transform import AnscombeTransformV2, UnrepresentableError
from anscombe_transform.calibration import Sensitivity
from anscombe_transform.codec import (
    decode,
    encode,
    lookup,
    make_anscombe_lookup,
    make_inverse_lookup,
)
from anscombe_transform.codec.transform.bins import Bins
from anscombe_transform.codec.transform.choice import choose_configuration, fit
from anscombe_transform.codec.transform.configuration import Configuration, fields_of
from anscombe_transform.codec.transform.plan import plan

INTEGERS = ("int8", "int16", "int32", "uint8", "uint16", "uint32")


def every_value(dtype: str, low: float, high: float, seed: int) -> np.ndarray:
    """All integers of a range where it is small, else a spread of them with both ends."""
    low, high = int(low), int(high)
    if high - low <= 70000:
        return np.arange(low, high + 1, dtype=np.int64).astype(dtype)
    spread = np.geomspace(1, high - low, 20000).astype(np.int64) + low
    near = np.random.default_rng(seed).integers(low, high, 20000, endpoint=True)
    return np.concatenate([[low, high], spread, near]).astype(dtype)


def promised(p: Any, x: np.ndarray) -> np.ndarray:
    """Steps of beta local standard deviations, the growth of the noise across a bin, and integer rounding.

    v1 decodes to the middle of a bin, half a step from its edges. v2 decodes to an unbiased value inside it,
    near its middle where the noise spreads over several bins of several counts. The middle is farther from
    the lower edge than beta / 2 standard deviations *there*, since the noise grows across the bin: by
    beta^2 / 8 photons. Odd widths that carry their rounding on are at most two integers wider than asked
    for, so that the outermost integer of a bin is at most half an integer farther from its middle; the other
    half is what rounding a value takes.
    """
    c, sigma = p.configuration, p.curve.noise_std(x)
    half = c.beta / 2 * sigma + c.beta**2 / 8 * c.conversion_gain + 1
    if c.format == "anscombe-v1":
        return half
    bright = (p.curve.photons(x) > 200) & (c.beta <= 0.5)
    return np.where(bright, half + c.beta**2 / 12 * c.conversion_gain, 2 * half)


def of_either_format(read_noise: float, beta: float, zero_code: int | None, **fields: Any) -> Configuration:
    """v1 where no parameter asks for more, which needs no code of the zero level."""
    if zero_code is None and (read_noise, beta) != (0, 0.5):
        zero_code = 20
    return Configuration(read_noise=read_noise, beta=beta, zero_code=zero_code, **fields)


configurations = st.builds(
    of_either_format,
    zero_level=st.one_of(st.floats(-1000, 10000), st.integers(-1000, 10000)),
    conversion_gain=st.floats(0.05, 1000),
    encoded_dtype=st.sampled_from(["uint8", "uint16"]),
    decoded_dtype=st.sampled_from(INTEGERS),
    read_noise=st.sampled_from([0.0, 3.0, 50.0]),
    beta=st.sampled_from([0.1, 0.5, 2.0]),
    zero_code=st.sampled_from([None, 0, 60]),
)


@settings(max_examples=300, deadline=None)
@given(configuration=configurations, seed=st.integers(0, 99))
def test_the_error_bound_holds_for_every_representable_value(configuration: Configuration, seed: int) -> None:
    """A decoded value is within half a step of the original, and within what `max_error` says."""
    try:
        p = plan(configuration)
    except ValueError:
        return
    x = every_value(configuration.decoded_dtype, p.lowest, p.highest, seed)
    decoded = p.decode(p.encode(x))
    error = np.abs(decoded.astype(np.float64) - x.astype(np.float64))
    assert decoded.dtype == x.dtype
    assert (error <= p.max_error(x)).all()
    assert (error <= promised(p, x)).all()


@settings(max_examples=200, deadline=None)
@given(configuration=configurations, seed=st.integers(0, 99))
def test_a_code_decodes_into_its_own_bin(configuration: Configuration, seed: int) -> None:
    """Encoding a decoded value gives back its code, at every gain: what is stored twice is stored once."""
    try:
        p = plan(configuration)
    except ValueError:
        return
    codes = p.encode(every_value(configuration.decoded_dtype, p.lowest, p.highest, seed))
    assert np.array_equal(p.encode(p.decode(codes)), codes)


@settings(max_examples=200, deadline=None)
@given(configuration=configurations)
def test_the_neighbours_of_the_range_are_refused(configuration: Configuration) -> None:
    """One integer below and above the range raises, and the message says the range."""
    try:
        p = plan(configuration)
    except ValueError:
        return
    limits = np.iinfo(configuration.decoded_dtype)
    for value in (p.lowest - 1, p.highest + 1):
        if limits.min <= value <= limits.max:
            with pytest.raises(UnrepresentableError, match=f"holds {p.lowest} to {p.highest}"):
                p.encode(np.array([p.lowest, value], configuration.decoded_dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("gain", [0.4, 30.0])
def test_floats_keep_their_fractions_and_nan(dtype: str, gain: float, rng: np.random.Generator) -> None:
    """Floats obey the bound without rounding, and NaN comes back as NaN."""
    p = plan(Configuration(100.0, gain, "uint8", dtype, read_noise=2.0, zero_code=30))
    x = rng.uniform(p.lowest, p.highest, 10000).astype(dtype)
    x[::7] = np.nan
    decoded = p.decode(p.encode(x))
    assert decoded.dtype == x.dtype
    assert np.array_equal(np.isnan(decoded), np.isnan(x))
    known = ~np.isnan(x)
    assert (np.abs(decoded - x)[known] <= (p.max_error(x)[known] + np.spacing(np.float32(x[known])))).all()
    assert (p.max_error(x)[known] <= promised(p, x)[known]).all()


def test_a_float32_just_outside_is_named() -> None:
    """The neighbour of the range's end in float32 is refused, though it rounds to the end."""
    p = plan(Configuration(97.3, 30.1, "uint8", "float32", read_noise=2.0, zero_code=30))
    low, high = (p._search_single[0][0], np.nextafter(p._search_single[0][-1], np.float32(0)))
    p.encode(np.array([low, high]))
    for value in (np.nextafter(low, np.float32(-np.inf)), np.nextafter(high, np.float32(np.inf))):
        with pytest.raises(UnrepresentableError, match=r"at index \(1,\)"):
            p.encode(np.array([low, value]))


def test_infinities_are_refused_even_when_clipping() -> None:
    """No code stands for infinity, and clipping it would invent a value."""
    p = plan(Configuration(0.0, 30.0, "uint8", "float32", zero_code=30, out_of_range="clip"))
    with pytest.raises(UnrepresentableError, match="Infinities"):
        p.encode(np.array([1.0, np.inf], "float32"))


def test_nan_in_v1_is_refused_with_the_way_out() -> None:
    """v1 has no code for NaN; v2 has."""
    with pytest.raises(UnrepresentableError, match="NaN has a code in the format anscombe"):
        encode(np.array([1.0, np.nan]), conversion_gain=30.0, zero_level=0, encoded_dtype="uint8")


# -- the table of DESIGN: where 1.0.0 was silently wrong -------------------------------------------------


def test_a_code_beyond_its_dtype_is_refused() -> None:
    """Gain 1 in uint8: what fits decodes right; the rest is an error with the largest value that fits."""
    codec = AnscombeTransformV2(0, 1.0)
    x = np.arange(4159, dtype="int16")
    assert (np.abs(codec.decode(codec.encode(x)) - x) <= promised(codec.plan, x)).all()
    with pytest.raises(UnrepresentableError) as caught:
        codec.encode(np.array([[5, 4158], [4159, 0]], "int16"))
    message = str(caught.value)
    assert "value 4159 at index (1, 0)" in message
    assert "0 to 4158" in message
    assert "encoded_dtype='uint16' would hold it" in message


def test_unused_codes_at_a_low_gain_shift_nothing() -> None:
    """At gain 0.3 many codes stand for no integer; small values stay, all are within the bound."""
    codec = AnscombeTransformV2(0, 0.3, "uint16")
    x = np.arange(32768, dtype="int16")
    codes = codec.encode(x)
    assert np.unique(codes).size < codes.max() + 1
    assert np.array_equal(codec.decode(codes)[:19], x[:19])
    assert (np.abs(codec.decode(codes).astype(int) - x) <= promised(codec.plan, x)).all()


def test_uint16_above_32767_is_encoded() -> None:
    """The upper half of uint16 comes back within the bound."""
    codec = AnscombeTransformV2(100, 2.17, "uint16", "uint16")
    x = np.arange(65536).astype("uint16")
    error = np.abs(codec.decode(codec.encode(x)).astype(int) - x)
    assert (error <= promised(codec.plan, x)).all()


@pytest.mark.parametrize("zero_level", [0, 20, -50])
def test_negative_values_are_refused_by_v1(zero_level: int) -> None:
    """v1 has no room below 0; the message gives the zero_code that has."""
    codec = AnscombeTransformV2(zero_level, 30.0)
    with pytest.raises(UnrepresentableError, match=r"value -7 at index .* zero_code=") as caught:
        codec.encode(np.array([100, 300, -7], "int16"))
    zero_code = int(str(caught.value).split("zero_code=")[1].split()[0])
    wider = AnscombeTransformV2(zero_level, 30.0, zero_code=zero_code)
    assert abs(int(wider.decode(wider.encode(np.array([-7], "int16")))[0]) + 7) <= 30


def test_values_beyond_the_table_of_v1_are_refused_for_wide_types() -> None:
    """1.0.0's tables end at 32767: an int32 above is refused, and v2 holds it."""
    codec = AnscombeTransformV2(20, 30.0, "uint16", "int32")
    with pytest.raises(UnrepresentableError, match="zero_code="):
        codec.encode(np.array([32768], "int32"))
    wider = AnscombeTransformV2(20, 30.0, "uint16", "int32", zero_code=0)
    assert wider.decode(wider.encode(np.array([10**6], "int32")))[0] == pytest.approx(10**6, rel=0.01)


def test_clipping_is_a_choice_and_ends_at_the_range(rng: np.random.Generator) -> None:
    """With out_of_range="clip" a value beyond the range becomes the nearest value that has a code."""
    codec = AnscombeTransformV2(0, 30.0, zero_code=5, out_of_range="clip")
    x = rng.integers(-32768, 32767, 5000).astype("int16")
    inside = np.clip(x, codec.plan.lowest, codec.plan.highest)
    assert np.array_equal(codec.encode(x), codec.encode(inside))


def test_a_code_that_nobody_wrote_is_an_error() -> None:
    """A code beyond the largest one is damage, not a value."""
    codec = AnscombeTransformV2(20, 30.0)
    with pytest.raises(ValueError, match="code 200 at flat index 2"):
        codec.decode(np.array([1, 2, 200], "uint8"))


# -- arrays ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<u2", ">u2", "<i4", ">i4"])
def test_layout_and_byte_order_change_nothing(dtype: str, rng: np.random.Generator) -> None:
    """Strided, transposed and big-endian arrays have the codes of a plain one, and keep their layout."""
    p = plan(Configuration(20, 30.0, "uint16", np.dtype(dtype).name))
    x = rng.integers(0, 20000, (6, 8, 10)).astype(dtype)
    plain = p.encode(np.ascontiguousarray(x.astype(dtype[1:])))
    assert np.array_equal(p.encode(x), plain)
    fortran = np.asfortranarray(x)
    assert p.encode(fortran).flags.f_contiguous
    assert np.array_equal(p.encode(fortran), plain)
    assert np.array_equal(p.encode(x[::2, ::-1, 1:7]), plain[::2, ::-1, 1:7])
    assert np.array_equal(p.encode(x.transpose(2, 0, 1)), plain.transpose(2, 0, 1))
    big = plain.astype(">u2")
    assert np.array_equal(p.decode(big), p.decode(plain))
    assert np.array_equal(p.decode(np.asfortranarray(plain)), p.decode(plain))


@pytest.mark.parametrize("shape", [(), (0,), (1,), (1, 1, 1), (3, 0, 4), (2, 3, 4, 5)])
def test_any_shape_is_kept(shape: tuple[int, ...]) -> None:
    """Scalars, empty arrays and any number of axes go through."""
    codec = AnscombeTransformV2(20, 30.0)
    x = np.full(shape, 100, "int16")
    assert codec.encode(x).shape == shape
    assert codec.decode(codec.encode(x)).shape == shape


def test_floats_are_not_truncated_to_integers_unasked() -> None:
    """Floats for an integer codec are refused, naming decoded_dtype."""
    with pytest.raises(TypeError, match="decoded_dtype"):
        plan(Configuration(0, 30.0)).encode(np.array([1.5]))
    with pytest.raises(TypeError, match="complex128"):
        plan(Configuration(0, 30.0)).encode(np.array([1j]))


@pytest.mark.skipif(np.__version__ < "2", reason="numpy 1 is no array-API namespace")
@pytest.mark.parametrize("dtype", ["int16", "uint16", "float32"])
@pytest.mark.parametrize("out_of_range", ["raise", "clip"])
def test_arrays_of_other_libraries_have_the_same_codes(
    dtype: str, out_of_range: Any, rng: np.random.Generator
) -> None:
    """The array-API path, which GPU arrays take, agrees with the kernels and refuses the same values."""
    p = plan(
        Configuration(100.0, 3.3, "uint8", dtype, read_noise=4.0, zero_code=20, out_of_range=out_of_range)
    )
    x = rng.uniform(p.lowest, p.highest, (3, 40, 50)).astype(dtype)
    if dtype == "float32":
        x[0, 0] = np.nan
    codes = p.encode_on_device(x)
    assert codes.dtype == p.encoded_dtype
    assert np.array_equal(codes, p.encode(x))
    assert np.array_equal(p.decode_on_device(codes), p.decode(codes), equal_nan=True)
    x[1, 2, 3] = 30000
    if out_of_range == "clip":
        assert np.array_equal(p.encode_on_device(x), p.encode(x))
    else:
        with pytest.raises(UnrepresentableError, match=r"at index \(1, 2, 3\)"):
            p.encode_on_device(x)
    with pytest.raises(ValueError, match="none that this codec writes"):
        plan(Configuration(100.0, 300.0)).decode_on_device(codes + np.uint8(100))


def test_gpu_arrays_stay_on_the_gpu(rng: np.random.Generator) -> None:
    """CuPy arrays give CuPy arrays with the kernels' codes."""
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError:
        pytest.skip("no GPU on this machine")
    p = plan(Configuration(100.0, 3.3, "uint8", "int16", zero_code=20))
    x = rng.integers(p.lowest, p.highest, 10000).astype("int16")
    codes = p.encode_on_device(cupy.asarray(x))
    assert isinstance(codes, cupy.ndarray)
    assert np.array_equal(codes.get(), p.encode(x))
    assert np.array_equal(p.decode_on_device(codes).get(), p.decode(p.encode(x)))


# -- configuration ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoded_dtype": "float32"}, "encoded_dtype must be one of"),
        ({"encoded_dtype": "int16", "beta": 0.25}, "encoded_dtype must be one of uint8, uint16"),
        ({"decoded_dtype": "complex64"}, "decoded_dtype must be one of"),
        ({"decoded_dtype": "float16"}, "decoded_dtype must be one of"),
        ({"zero_code": 1.5}, "zero_code must be an integer"),
        ({"out_of_range": "wrap"}, "out_of_range must be"),
        ({"decode_table": ()}, "decode_table must list"),
        ({"decode_table": (1.0, 0.0)}, "must not decrease"),
        ({"decode_table": (0.0, float("nan"))}, "finite"),
        ({"decode_table": tuple(range(257))}, "1 to 256 codes"),
        ({"decode_table": tuple(range(256)), "decoded_dtype": "float32"}, "1 to 255 codes"),
    ],
)
def test_a_bad_field_is_named(change: dict[str, Any], message: str) -> None:
    """Every field that breaks its rule is refused with its name."""
    with pytest.raises(ValueError, match=message):
        Configuration(**{"zero_level": 0, "conversion_gain": 30.0, **change})


def test_an_unknown_dtype_is_a_type_error() -> None:
    """A word that names no dtype is refused with the known ones."""
    with pytest.raises(TypeError, match="uint8, uint16"):
        Configuration(0, 1.0, "photons")


@settings(deadline=None)
@given(configuration=configurations)
def test_a_configuration_survives_json(configuration: Configuration) -> None:
    """Written as JSON and read back, a configuration encodes and decodes the same."""
    try:
        p = plan(configuration)
    except ValueError:
        return
    text = json.dumps(configuration.to_json())
    again = Configuration.from_json(configuration.format, json.loads(text))
    assert json.dumps(again.to_json()) == text
    assert (plan(again).lowest, plan(again).highest) == (p.lowest, p.highest)
    codes = np.arange(p.table.size).astype(configuration.encoded_dtype)
    assert np.array_equal(plan(again).decode(codes), p.decode(codes))


def test_v1_is_written_whenever_it_can_say_it_all() -> None:
    """Defaults given explicitly stay v1; anything else is v2."""
    assert Configuration(0, 1.0, beta=0.5, read_noise=0, out_of_range="raise").format == "anscombe-v1"
    for change in ({"beta": 0.25}, {"read_noise": 1.0}, {}, {"out_of_range": "clip"}):
        fields: dict[str, Any] = {"zero_code": 0, **change}
        assert Configuration(0, 1.0, "uint16", **fields).format == "anscombe"


def test_parameters_of_the_new_format_need_room() -> None:
    """Read noise or a step alone do not say which signals have codes: the error says what does."""
    for change in ({"beta": 0.25}, {"read_noise": 1.0}, {"out_of_range": "clip"}):
        with pytest.raises(ValueError, match=r"codec\(sample=movie\)"):
            Configuration(0, 1.0, "uint16", **change)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["anscombe-v1", "anscombe"])
def test_unknown_and_missing_keys_are_refused(name: str) -> None:
    """A document that says more, or less, than the reader understands is not guessed at."""
    document = Configuration(0, 30.0, zero_code=3 if name == "anscombe" else None).to_json()
    with pytest.raises(ValueError, match="unknown keys \\['photons'\\]"):
        Configuration.from_json(name, document | {"photons": 3})
    with pytest.raises(ValueError, match="lacks \\['conversion_gain'\\]"):
        Configuration.from_json(name, {k: v for k, v in document.items() if k != "conversion_gain"})
    with pytest.raises(ValueError, match="codec name"):
        Configuration.from_json("anscombe-v9", document)


def test_v1_metadata_may_not_smuggle_in_v2_keys() -> None:
    """A v1 reader elsewhere would ignore beta, so v1 metadata with beta is refused."""
    with pytest.raises(ValueError, match="unknown keys"):
        Configuration.from_json("anscombe-v1", {"zero_level": 0, "conversion_gain": 1.0, "beta": 0.25})


# -- choosing --------------------------------------------------------------------------------------------


def test_a_sample_gets_values_that_keep_its_mean() -> None:
    """With a sample v2 is chosen, whose decode table is fitted; v1 has middles alone."""
    chosen, why = choose_configuration(90.0, 50, sample=np.array([0, 7000], "int16"))
    assert (chosen.format, chosen.encoded_dtype, chosen.decoded_dtype) == ("anscombe", "uint8", "int16")
    assert "it holds" in why


def test_a_codec_is_not_chosen_without_a_range() -> None:
    """Neither a sample nor a range is an error that names both; a range alone is enough."""
    with pytest.raises(ValueError, match=r"sample= .* or signal_range="):
        choose_configuration(0.46, 100)
    chosen, _ = choose_configuration(0.46, 100, signal_range=(90, 1000))
    assert plan(chosen).lowest <= 90
    assert plan(chosen).highest >= 1000
    for wrong in ((5, 1), (0, float("inf")), (1,), "ab"):
        with pytest.raises((ValueError, TypeError), match="signal_range must be two"):
            choose_configuration(0.46, 100, signal_range=wrong)  # type: ignore[arg-type]


def test_all_codes_of_one_byte_have_values() -> None:
    """Codes that cost nothing are room for what the sample did not show, up to the dtype's limit."""
    sample = np.array([0, 2000], "int16")
    narrow = plan(choose_configuration(2.0, 50, sample=sample)[0])
    assert narrow.encode(np.array([narrow.highest], "int16")) == 255
    assert plan(choose_configuration(90.0, 50, sample=sample)[0]).highest == 32767


@settings(max_examples=100, deadline=None)
@given(
    gain=st.floats(0.3, 300),
    zero=st.floats(-200, 500),
    low=st.integers(-3000, 1000),
    span=st.integers(0, 60000),
    dtype=st.sampled_from(["int16", "int32", "float32"]),
)
def test_the_choice_holds_the_sample(gain: float, zero: float, low: int, span: int, dtype: str) -> None:
    """Whatever the range, the chosen configuration holds it, with few codes more than needed."""
    high = min(low + span, 32767)
    sample = np.array([low, high]).astype(dtype)
    chosen, _ = choose_configuration(gain, zero, sample=sample)
    p = plan(chosen)
    assert p.lowest <= low
    assert p.highest >= high
    decoded = p.decode(p.encode(sample))
    assert (np.abs(decoded.astype(float) - sample) <= promised(p, sample)).all()


def test_a_given_zero_code_is_kept_or_refused() -> None:
    """A zero_code that holds the sample is used as it is; one that does not is an error, not a suggestion."""
    sample = np.array([-50, 3000], "int16")
    chosen, _ = choose_configuration(90.0, 50, sample=sample, zero_code=30)
    assert chosen.zero_code == 30
    with pytest.raises(ValueError, match="zero_code=0 leaves no code"):
        choose_configuration(90.0, 50, sample=sample, zero_code=0)


def test_narrow_codes_are_chosen_before_wide_ones() -> None:
    """A camera movie whose codes fit bytes gets bytes, and one that does not gets uint16."""
    chosen, _ = choose_configuration(2.2, 100, sample=np.array([90, 20000], "uint16"))
    assert (chosen.format, chosen.encoded_dtype) == ("anscombe", "uint16")
    chosen, _ = choose_configuration(2.2, 100, sample=np.array([90, 4000], "uint16"))
    assert (chosen.format, chosen.encoded_dtype) == ("anscombe", "uint8")


def test_clipping_is_for_what_does_not_fit() -> None:
    """With out_of_range="clip" a sample that fits is held whole all the same."""
    chosen, _ = choose_configuration(90.0, 50, sample=np.array([-300, 7000], "int16"), out_of_range="clip")
    assert plan(chosen).lowest <= -300
    chosen, why = choose_configuration(
        1e-4, 0, beta=0.1, sample=np.array([0, 10**6], "int32"), out_of_range="clip"
    )
    assert chosen.encoded_dtype == "uint16"
    assert "clipped" in why


def test_a_lazy_sample_is_read_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Something that slices is never asked for more than a block at once."""
    from anscombe_transform.codec.transform import choice

    movie = np.arange(-40, 960, dtype="int16").reshape(100, 10)

    class Lazy:
        shape, dtype, ndim = movie.shape, movie.dtype, movie.ndim

        def __getitem__(self, key: slice) -> np.ndarray:
            block = movie[key]
            assert block.nbytes <= 400
            return block

    monkeypatch.setattr(choice, "_BLOCK_BYTES", 400)
    chosen, _ = choose_configuration(9.0, 0, sample=Lazy())  # type: ignore[arg-type]
    assert plan(chosen).lowest <= -40
    assert plan(chosen).highest >= 959


def test_nan_in_the_sample_picks_v2() -> None:
    """A float movie with a NaN border gets a code for NaN."""
    chosen, _ = choose_configuration(30.0, 0.0, sample=np.array([0.0, np.nan, 900.0], "float32"))
    assert chosen.format == "anscombe"
    assert np.isnan(plan(chosen).decode(plan(chosen).encode(np.array([np.nan], "float32")))).all()


def test_a_range_beyond_every_code_names_the_beta_that_fits() -> None:
    """When even uint16 is too narrow the error gives a beta, and that beta works."""
    with pytest.raises(ValueError, match="beta=") as caught:
        choose_configuration(1e-2, 0, beta=0.1, sample=np.array([0, 10**6], "int32"))
    beta = float(str(caught.value).split("beta=")[-1].split()[0])
    fit(Configuration(0, 1e-2, "uint16", "int32", beta=beta, zero_code=0), 0, 10**6)


@pytest.mark.parametrize("sample", [[], [np.nan], [np.inf, 1.0]])
def test_a_sample_without_numbers_is_refused(sample: list[float]) -> None:
    """Nothing can be chosen from an empty, all-NaN or infinite sample."""
    with pytest.raises(ValueError, match="must hold"):
        choose_configuration(1.0, 0, sample=np.array(sample))


# -- the codec object ------------------------------------------------------------------------------------


def test_codecs_compare_and_hash_by_what_they_write() -> None:
    """Two codecs that write the same are equal, also after JSON and pickle."""
    for codec in (AnscombeTransformV2(20, 30.0), AnscombeTransformV2(20, 30.0, beta=0.25, zero_code=9)):
        again = AnscombeTransformV2.from_config(json.loads(json.dumps(codec.get_config())))
        copy = pickle.loads(pickle.dumps(codec))
        assert again == codec == copy
        assert hash(again) == hash(codec) == hash(copy)
        assert codec != AnscombeTransformV2(21, 30.0)
        assert eval(repr(codec), {"AnscombeTransformV2": AnscombeTransformV2}) == codec


def test_the_codec_states_its_bound_its_range_and_its_noise() -> None:
    """What a user may promise of the data is there to ask for."""
    codec = AnscombeTransformV2(20, 30.0, beta=0.25, zero_code=30)
    low, high = codec.representable_range
    x = np.arange(low, high + 1).astype("int16")
    assert (np.abs(codec.decode(codec.encode(x)).astype(int) - x) <= codec.max_error(x)).all()
    assert codec.noise_increase == 0.25**2 / 12


# -- the functions of 1.0.0 ------------------------------------------------------------------------------


def test_encode_and_decode_are_inverse_within_the_bound() -> None:
    """The functions take and give arrays or bytes."""
    x = np.arange(0, 32000, 7, dtype="int16").reshape(2, -1)[:, ::2]
    few = {"conversion_gain": 30.0, "zero_level": 20, "encoded_dtype": "uint8"}
    codes = encode(x, **few)  # type: ignore[arg-type]
    decoded = decode(codes, **few, decoded_dtype="int16")  # type: ignore[arg-type]
    assert decoded.shape == x.shape
    flat = decode(codes.tobytes(), **few, decoded_dtype="int16")  # type: ignore[arg-type]
    assert np.array_equal(flat, decoded.ravel())


def test_a_truncated_buffer_of_codes_is_damage() -> None:
    """Half a uint16 code is an error."""
    with pytest.raises(ValueError, match="damaged"):
        decode(b"123", conversion_gain=1.0, zero_level=0, encoded_dtype="uint16", decoded_dtype="int16")


def test_lookup_refuses_what_is_outside_its_table() -> None:
    """Where 1.0.0 clamped to the ends of the table, ours says which value and where."""
    table = make_anscombe_lookup(100.0, input_max=1000)
    assert lookup(np.array([0, 1000]), table).tolist() == [0, table[-1]]
    with pytest.raises(UnrepresentableError, match="value 1001 at index \\(1,\\)"):
        lookup(np.array([0, 1001]), table)
    with pytest.raises(UnrepresentableError, match="value -1"):
        lookup(np.array([-1]), table)


@settings(deadline=None)
@given(gain=st.floats(0.3, 300), zero=st.floats(0, 500))
def test_inverse_lookup_is_indexed_by_code(gain: float, zero: float) -> None:
    """Every signal's code finds a value that has the same code, used or skipped neighbours regardless."""
    table = make_anscombe_lookup(gain, zero_level=zero, output_type="uint16")
    inverse = make_inverse_lookup(table)
    assert inverse.size == int(table.max()) + 1
    assert (np.diff(inverse.astype(int)) >= 0).all()
    assert np.array_equal(table[inverse[table]], table)


@pytest.mark.parametrize("table", [[], [[0]], [1, 0], [-1, 0]])
def test_a_table_that_is_none_is_refused(table: list[Any]) -> None:
    """Only a line of codes that does not decrease can be inverted."""
    with pytest.raises(ValueError, match="lookup_table must"):
        make_inverse_lookup(np.array(table))


@pytest.mark.parametrize("cut", [1, 3])
def test_bins_that_no_writer_makes_so_narrow_are_refused(cut: int) -> None:
    """A bin far narrower than its noise is a sign of damage, one integer alone as well."""
    bins = AnscombeTransformV2(50, 90.0, zero_code=20).bins
    widths = (*bins.widths[:30], cut, bins.widths[30] - cut, *bins.widths[31:60])
    with pytest.raises(ValueError, match=r"code 30 stands for .* far narrower"):
        AnscombeTransformV2(50, 90.0, bins=Bins(bins.first, widths, bins.step))


@pytest.mark.parametrize("decoded_dtype", ["int16", "float32"])
def test_a_table_outside_its_bins_is_refused(decoded_dtype: str, rng: np.random.Generator) -> None:
    """A decoded value may be anywhere in the bin of its code, and nowhere else."""
    pytest.importorskip("zarr.abc", reason="needs zarr-python 3")
    movie = (50 + 90 * rng.poisson(8, (40, 32, 32))).astype("int16")
    known = Sensitivity.from_known(conversion_gain=90, zero_level=50)
    codec = known.codec(sample=movie, decoded_dtype=decoded_dtype)
    low, high = codec.plan.bins
    fields = fields_of(codec.plan.configuration)
    table = list(codec.decode_table)
    for code in (3, len(table) // 2, len(table) - 2):
        width = high[code] - low[code]
        for value, inside in (
            (low[code], True),
            (high[code], True),
            (low[code] - max(1, 0.01 * width), False),
            (high[code] + max(1, 0.01 * width), False),
        ):
            moved = [*table[:code], float(value), *table[code + 1 :]]
            if inside:
                assert type(codec)(**fields | {"decode_table": tuple(moved)}).decode_table == tuple(moved)
            else:
                with pytest.raises(ValueError, match=f"code {code} the value"):
                    type(codec)(**fields | {"decode_table": tuple(moved)})


def test_parameters_that_leave_no_precision_are_refused() -> None:
    """Gain, read noise, zero level and step are refused where float64 could not place the edges of codes."""
    for gain, zero, noise, beta in (
        (1e-300, 0, 0, 0.5),
        (1e-20, 50, 0, 0.5),
        (90, 0, 1e300, 0.5),
        (90, 0, 0, 1e-300),
        (1e-3, 1e12, 0, 0.5),
    ):
        with pytest.raises(ValueError, match="must be"):
            Configuration(zero, gain, read_noise=noise, beta=beta)
    # Signals in joules, whose photons are 1e-19, are in range.
    assert Configuration(0, 3.6e-19, decoded_dtype="float64", beta=0.25, zero_code=0).format == "anscombe"


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint8", "uint16"])
def test_no_code_lies_above_the_type_as_a_whole(dtype: str) -> None:
    """The last bin holds the largest value of the type, and the metadata list none beyond it."""
    c = Configuration(5, 2.0, "uint16", dtype, zero_code=9)
    top = np.iinfo(dtype).max
    assert c.bins is not None
    assert c.bins.low[-1] <= top
    assert c.bins.high[-1] >= top
    assert plan(c).highest == top
    assert len(json.dumps(c.to_json())) < 20_000
