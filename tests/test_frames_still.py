"""The frame coder's linear prediction: still images, planes and movies of few frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from test_frames import assert_damage_is_found
from test_frames_format import reader

from anscombe_transform import _frame_kernels, _still_kernels
from anscombe_transform.codec import still
from anscombe_transform.codec.entropy import byte_entropy
from anscombe_transform.codec.frames import DamagedChunkError, FrameConfiguration, decode_chunk, encode_chunk

FROZEN = Path(__file__).parent / "data" / "frozen"
ENTRIES: list[dict[str, Any]] = [
    entry for name in ("linear", "ranges") for entry in json.loads((FROZEN / f"{name}.json").read_text())
]
METHODS = (3, 0x13, 0x23)


def chunk_of(codes: np.ndarray, axis: int | None = 0, *, arithmetic: bool = False) -> bytes:
    """A chunk of codes (time, plane, y, x) or of planes by method 3, whether or not that is the best one."""
    q = codes if axis == 0 else codes.reshape(1, -1, *codes.shape[-2:])
    prediction, symbols = still.symbols_of(q)
    stage, parameter, frame = still.packed(symbols, prediction, arithmetic=arithmetic)
    return with_header(3 | stage, parameter, frame)


def with_header(method: int, parameter: int, frame: bytes) -> bytes:
    """A chunk of its zstd frame."""
    return bytes([0xF1, method, parameter, 0xF1 ^ method ^ parameter ^ 0xFF]) + frame


def scene(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, spread: float = 2.0) -> np.ndarray:
    """A slope with steps, and noise: codes of an image as the transform leaves them."""
    height, width = shape[-2:]
    level = 60 + np.arange(width) / 4 + 30 * (np.arange(height)[:, None] // 7 % 2)
    top = np.iinfo(dtype).max
    offset = 5000 if dtype == "uint16" else 0
    return np.clip(np.rint(rng.normal(level + offset, spread, shape)), 0, top).astype(dtype)


def gapped(codes: np.ndarray, step: int) -> np.ndarray:
    """The same with every step-th code only."""
    return (codes // step * step).astype(codes.dtype)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["chunk"])
def test_frozen_chunks_read_as_they_did(entry: dict[str, Any]) -> None:
    """Chunks of method 3 still give their codes, by the kernels and by the printed reader."""
    chunk, shape = (FROZEN / entry["chunk"]).read_bytes(), tuple(entry["shape"])
    codes = np.fromfile(FROZEN / entry["codes"], np.dtype(entry["dtype"]).newbyteorder("<")).reshape(shape)
    axis = entry["time_axis"]
    assert (chunk[1], chunk[2] > 15) == (entry["method"], entry["gaps"])
    found = decode_chunk(chunk, shape, entry["dtype"], FrameConfiguration(time_axis=axis))
    assert np.array_equal(found, codes)
    assert np.array_equal(reader()(chunk, shape, entry["dtype"], time_axis=axis), codes)


@settings(max_examples=30)
@given(
    shape=st.sampled_from([(1, 1, 9, 40), (2, 1, 8, 39), (4, 2, 10, 45), (1, 3, 12, 41)]),
    dtype=st.sampled_from(["uint8", "uint16"]),
    mean=st.sampled_from([0, 60, 255, 40000, 65535]),
    spread=st.sampled_from([0, 1, 4, 70, 20000]),
    step=st.sampled_from([1, 1, 3]),
    seed=st.integers(0, 99),
)
def test_the_printed_reader_equals_the_kernels(
    shape: tuple[int, ...], dtype: str, mean: int, spread: float, step: int, seed: int
) -> None:
    """Codes of any kind come back, and the page's arithmetic is the kernels'."""
    rng, top = np.random.default_rng(seed), np.iinfo(dtype).max
    codes = np.clip(np.rint(rng.normal(min(mean, top), spread, shape)), 0, top).astype(dtype)
    codes = gapped(codes, step)
    for axis, part in ((0, codes), (None, codes[:, 0])):
        chunk = chunk_of(part, axis)
        back = decode_chunk(chunk, part.shape, dtype, FrameConfiguration(time_axis=axis))
        assert np.array_equal(back, part)
        assert np.array_equal(reader()(chunk, part.shape, dtype, time_axis=axis), part)


@settings(max_examples=40)
@given(
    dtype=st.sampled_from(["uint8", "uint16"]),
    frames=st.integers(1, 4),
    rate=st.sampled_from(still.RATES),
    scale=st.sampled_from([1, 300, 4000]),
    seed=st.integers(0, 99),
)
def test_any_weights_are_somebodys(dtype: str, frames: int, rate: int, scale: int, seed: int) -> None:
    """Kernels and printed reader agree on weights and symbols that no encoder would choose."""
    rng = np.random.default_rng(seed)
    shape = (frames, 2, 5, 7)
    size = int(np.prod(shape))
    sets = int(rng.integers(1, frames + 1))
    weights = rng.integers(-scale, scale + 1, (sets, still.WEIGHTS))
    weights[:, :-2] = weights[:, :-2] * np.minimum(1, 32768 / np.abs(weights[:, :-2]).sum(1))[:, None]
    weights[:, -2] = rng.integers(0, 8 * (np.iinfo(dtype).max + 1), sets)
    weights[:, -1] = rng.integers(-(1 << 29), 1 << 29, sets)
    weights[0, -1] = 0
    weights[0, still.TAPS : -2] = 0
    head = still.head_of(still.Prediction(rate, [12] * sets, weights, None))
    if dtype == "uint16":
        head += (0).to_bytes(4, "little")
    symbols = rng.integers(0, 224 if dtype == "uint16" else 256, size).astype("uint8")
    frame = zstandard.ZstdCompressor(write_checksum=True).compress(head + symbols.tobytes())
    stacks = [(shape, 0)]
    if frames > 1 or sets == 1:
        stacks.append(((1, frames, 5, 7), 0))
    for stack, axis in stacks:
        count = int(np.prod(stack))
        part = (
            frame
            if count == size
            else zstandard.ZstdCompressor(write_checksum=True).compress(head + symbols[:count].tobytes())
        )
        chunk = with_header(3, rate, part)
        found = decode_chunk(chunk, stack, dtype, FrameConfiguration(time_axis=axis))
        assert np.array_equal(found, reader()(chunk, stack, dtype, time_axis=axis))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("kind", ["plain", "gaps", "wide"])
def test_damage_is_found(kind: str, dtype: str, rng: np.random.Generator) -> None:
    """No truncated chunk decodes, and of one with a flipped byte only what the checksum proves right."""
    codes = scene(rng, (2, 1, 9, 40), dtype, 40 if kind == "wide" else 2)
    codes = gapped(codes, 2 if kind == "gaps" else 1)
    data = chunk_of(codes)
    assert_damage_is_found(data, codes, FrameConfiguration())


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("method", METHODS)
def test_false_content_is_refused(dtype: str, method: int, rng: np.random.Generator) -> None:
    """Behind a right header and checksum, any damage of the content gives an error or codes."""
    codes = gapped(scene(rng, (2, 1, 9, 40), dtype), 2)
    chunk = chunk_of(codes)
    content = zstandard.ZstdDecompressor().decompress(chunk[4:])
    heads = [
        content[:at] + bytes([content[at] ^ int(mask)]) + content[at + 1 :]
        for at in range(120)
        for mask in rng.integers(1, 256, 4)
    ]
    cut = [content[:at] for at in (0, 1, 3, 20, 60, 200, len(content) - 1)] + [content + b"\0"]
    noise = [rng.integers(0, 256, rng.integers(0, 900)).astype("uint8").tobytes() for _ in range(200)]
    decoded = 0
    for damaged in heads + cut + noise:
        frame = zstandard.ZstdCompressor(write_checksum=True).compress(damaged)
        for parameter in (chunk[2], chunk[2] & 15):
            try:
                decode_chunk(with_header(method, parameter, frame), codes.shape, dtype, FrameConfiguration())
                decoded += 1
            except DamagedChunkError:
                continue
    assert decoded < len(heads)


def ranges_of(symbols: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Words of the arithmetic coder for bytes, their frequencies and the sums of these."""
    frequency, start = np.zeros(256, np.uint16), np.zeros(256, np.uint16)
    assert np.isfinite(_still_kernels.frequencies(symbols, frequency))
    assert frequency.sum(dtype=int) == 1 << 14
    assert np.all(frequency[symbols] > 0)
    np.cumsum(frequency[:-1], out=start[1:])
    words = np.empty(symbols.size + 600, np.uint16)
    return words[_still_kernels.ranges_encode(symbols, frequency, start, words) :], frequency, start


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 999, 30000])
@pytest.mark.parametrize("kinds", [1, 2, 20, 150])
def test_the_arithmetic_coder_reaches_the_entropy(size: int, kinds: int, rng: np.random.Generator) -> None:
    """Bytes take what their frequencies say, and eight words; decoding gives them back or finds damage."""
    share = rng.dirichlet(np.full(kinds, 0.5))
    symbols = np.sort(rng.permutation(256)[:kinds])[rng.choice(kinds, size, p=share)].astype("uint8")
    words, frequency, start = ranges_of(symbols)
    counts = np.bincount(symbols, minlength=256)
    bits = (counts[counts > 0] * np.log2(2**14 / frequency[counts > 0])).sum()
    assert 16 * words.size <= 1.002 * bits + 16 * 9
    entropy = (counts[counts > 0] * np.log2(size / counts[counts > 0])).sum()
    assert bits <= entropy * 1.01 + 60
    symbol_at = np.repeat(np.arange(256, dtype="uint8"), frequency)
    back = np.empty_like(symbols)
    assert _still_kernels.ranges_decode(words, frequency, symbol_at, start, back)
    assert np.array_equal(back, symbols)
    flipped = words.copy()
    flipped[-1] ^= 1
    for wrong in (words[:-1], words[:3], np.append(words, np.uint16(7)), flipped):
        assert not _still_kernels.ranges_decode(wrong, frequency, symbol_at, start, back)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_ranges_are_read_or_refused(dtype: str, rng: np.random.Generator) -> None:
    """A chunk of the arithmetic coder comes back, as the page says, and no damage of it is believed."""
    codes = scene(rng, (2, 1, 110, 120), dtype)
    chunk = chunk_of(codes, arithmetic=True)
    assert chunk[1] == 0x23
    assert len(chunk) < len(chunk_of(codes))
    assert np.array_equal(decode_chunk(chunk, codes.shape, dtype, FrameConfiguration()), codes)
    assert np.array_equal(reader()(chunk, codes.shape, dtype), codes)
    content = zstandard.ZstdDecompressor().decompress(chunk[4:])
    places = np.unique(rng.integers(0, len(content), 300)).tolist() + list(range(110))
    broken = [
        content[:at] + bytes([content[at] ^ int(rng.integers(1, 256))]) + content[at + 1 :] for at in places
    ]
    broken += [content[:at] for at in (*range(0, 120, 7), len(content) - 2)] + [content + b"\0\0"]
    unchanged = 0
    for damaged in broken:
        frame = zstandard.ZstdCompressor(write_checksum=True).compress(damaged)
        try:
            back = decode_chunk(with_header(0x23, chunk[2], frame), codes.shape, dtype, FrameConfiguration())
        except DamagedChunkError:
            continue
        unchanged += np.array_equal(back, codes)
    # A weight may change nothing, but a word or frequency always does.
    assert unchanged < 60


@pytest.mark.parametrize("parameter", [6, 15, 0x20, 0x80])
def test_unknown_parameters_are_refused(parameter: int, rng: np.random.Generator) -> None:
    """A parameter that the format does not define is refused."""
    codes = scene(rng, (1, 1, 9, 40), "uint8")
    chunk = with_header(3, parameter, chunk_of(codes)[4:])
    with pytest.raises(DamagedChunkError, match="parameter"):
        decode_chunk(chunk, codes.shape, "uint8", FrameConfiguration())


def test_wide_symbols_equal_their_formula() -> None:
    """Every symbol of two bytes is stored as the page says, and comes back."""
    symbols = np.arange(65536, dtype=np.uint16)
    out, more = np.empty(65536, np.uint8), np.empty(2 * 65536, np.uint8)
    count = _still_kernels.narrow(symbols, out, more)
    beyond = symbols.astype(int) - 224
    assert np.array_equal(out, np.where(beyond < 0, symbols, 224 + np.minimum(beyond >> 8, 31)))
    expected = [part for v in beyond[224:] for part in ([v & 255, v >> 8] if v >> 8 >= 31 else [v & 255])]
    assert np.array_equal(more[:count], expected)
    back = np.empty_like(symbols)
    assert _still_kernels.widen(out, more[:count], back)
    assert np.array_equal(back, symbols)
    short = np.array([255, 3], np.uint8)
    for data in (more[: count - 1], np.append(more[:count], np.uint8(0))):
        assert not _still_kernels.widen(out, data, back)
    assert not _still_kernels.widen(short, np.array([0, 30], np.uint8), back[:2])


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_single_frame_is_predicted_by_its_neighbours(dtype: str, rng: np.random.Generator) -> None:
    """A smooth image takes little more than its noise, at any level, and frames like it still less."""
    level = (
        (100 if dtype == "uint8" else 20000) + 20 * np.sin(np.arange(96) / 15) + np.arange(80)[:, None] / 4
    )
    codes = np.rint(rng.normal(level, 2, (4, 80, 96))).astype(dtype)
    noise = 0.5 * np.log2(2 * np.pi * np.e * (2**2 + 1 / 12))
    one = 8 * len(encode_chunk(codes[:1], FrameConfiguration())) / codes[0].size
    four = 8 * len(encode_chunk(codes, FrameConfiguration())) / codes.size
    # A mean of a dozen neighbours adds a twelfth of the variance or less; Huffman's code a little.
    assert noise < four < one < 1.1 * noise


def test_codes_that_do_not_occur_cost_nothing(rng: np.random.Generator) -> None:
    """A signal of whole numbers that leaves two of three codes empty takes as much as one that does not."""
    codes = scene(rng, (2, 64, 90), "uint8")
    data = encode_chunk(codes, FrameConfiguration())
    spread = encode_chunk((codes.astype("uint16") * 3).astype("uint16"), FrameConfiguration())
    assert spread[2] & still.GAPS
    assert len(spread) < 1.01 * len(data) + 40


@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_never_larger_than_zstd(frames: int, dtype: str, rng: np.random.Generator) -> None:
    """Images of any kind take at most a part in a hundred more than zstd at level 1 to 3 makes of them."""
    shape = (frames, 60, 70)
    flat = rng.integers(0, 200, (60, 70))
    kinds = {
        "scene": scene(rng, shape, dtype),
        "gaps": gapped(scene(rng, shape, dtype), 5),
        "counts": rng.poisson(0.02, shape).astype(dtype),
        "flat": np.full(shape, 17, dtype),
        "uniform": rng.integers(0, np.iinfo(dtype).max, shape).astype(dtype),
        "the same": np.stack([flat] * frames).astype(dtype),
        "moving": np.stack([np.roll(flat, 3 * t, 1) for t in range(frames)]).astype(dtype),
    }
    fitted = FrameConfiguration.fit(kinds["scene"])
    for kind, codes in kinds.items():
        plain = min(
            len(zstandard.ZstdCompressor(level=level).compress(codes.tobytes())) for level in (1, 2, 3)
        )
        for configuration in (FrameConfiguration(), fitted):
            data = encode_chunk(codes, configuration)
            assert np.array_equal(decode_chunk(data, shape, dtype, configuration), codes)
            # Header, checksum, and what levels 2 and 3 make less of a few hundred bytes.
            assert len(data) <= 1.01 * plain + 48, (kind, configuration.preset)


@pytest.mark.parametrize("spread", [1.0, 2.0, 8.0, 300.0])
def test_the_noise_of_a_slope_takes_its_entropy(spread: float, rng: np.random.Generator) -> None:
    """Of white noise on a slope the estimate is the entropy of the normal law, whatever the slope."""
    codes = np.rint(
        5000 + 3 * np.arange(64) + 2 * np.arange(64)[:, None] + rng.normal(0, spread, (3, 64, 64))
    )
    # Rounding adds 1/12 to the variance; squares of these differences are alike: 3.78 count as one.
    expected = 0.5 * np.log2(2 * np.pi * np.e * (spread**2 + 1 / 12))
    error = np.sqrt(3.78 * 2 / (3 * 30 * 62)) / 2 / np.log(2)
    assert abs(still.noise_bits(codes.astype("uint16")) - expected) < 5 * error


def test_a_small_chunk_near_its_noise_is_left_to_the_model(rng: np.random.Generator) -> None:
    """Of a small chunk that the model stores nearly as its noise, no weights are fitted."""
    flat = np.rint(rng.normal(60, 2, (40, 64, 64))).astype("uint8")
    compact = FrameConfiguration.fit(flat)
    assert encode_chunk(flat[:1], compact)[1] & 0xF == 2
    slope = scene(rng, (1, 64, 64), "uint8", 0.7)
    assert encode_chunk(slope, compact)[1] & 0xF == 3


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_movies_of_more_than_eight_frames_do_without_its_loops(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator, dtype: str
) -> None:
    """Chunks of many frames, or of none, are written and read without compiling what images need."""
    for name in [name for name in vars(_still_kernels) if not name.startswith("__")]:
        monkeypatch.delattr(_still_kernels, name)
    for frames in (0, 9, 64):
        codes = scene(rng, (frames, 24, 32), dtype)
        chunk = encode_chunk(codes, FrameConfiguration())
        found = decode_chunk(chunk, codes.shape, dtype, FrameConfiguration())
        np.testing.assert_array_equal(found, codes)
    with pytest.raises(AttributeError):
        encode_chunk(scene(rng, (2, 128, 128), dtype), FrameConfiguration())


@settings(max_examples=60)
@given(
    size=st.integers(1, 30000),
    dtype=st.sampled_from(["uint8", "uint16"]),
    mean=st.sampled_from([0, 60, 200]),
    spread=st.sampled_from([0, 1, 5, 60]),
    step=st.sampled_from([1, 3, 5]),
    seed=st.integers(0, 99),
)
def test_gaps_equal_their_formula(
    size: int, dtype: str, mean: int, spread: float, step: int, seed: int
) -> None:
    """The range of the codes of a sample, and whether codes lack in it, are those of sorted counts."""
    codes = np.clip(np.random.default_rng(seed).normal(mean, spread, size), 0, 255).astype(dtype)
    codes = gapped(codes, step)
    stride = max(1, size >> 12) | 1
    counts = np.bincount(codes[::stride])
    low, high = counts.cumsum().searchsorted(np.array([0.02, 0.98]) * counts.sum())
    there, span = np.count_nonzero(counts[low : high + 1]), high - low + 1
    lacking = span >= 8 and there <= counts.sum() // 16 and there <= 0.9 * span
    assert _still_kernels.sampled_gaps(codes, stride) == (low, high, lacking)


def test_features_and_their_products_equal_their_formula(rng: np.random.Generator) -> None:
    """Features are eight times the neighbours, less N; products are those of a matrix with its transpose."""
    frame = scene(rng, (2, 20, 90), "uint8")
    places = np.stack([rng.integers(0, 2, 9), rng.integers(3, 20, 9), rng.integers(3, 57, 9)], 1)
    found = np.zeros((still.TAPS + 6, 9 * 32), np.float32)
    _still_kernels.sampled_features(frame, still._NOTHING, places, found)
    names = [
        (0, 0), (1, 0), (0, -1), (0, -2), (0, -3), (1, -1), (1, 1), (1, -2), (1, 2),
        (2, 0), (2, -1), (2, 1), (3, 0),
    ]  # fmt: skip
    values = np.array([
        [frame[p, y - up, x + side : x + side + 32] for p, y, x in places] for up, side in names
    ]).reshape(13, -1) * 8.0  # fmt: skip
    level = np.floor(8 * np.mean([frame[p, y, x : x + 32] for p, y, x in places]) + 0.5)
    expected = values - values[1]
    expected[1] = values[1] - level
    assert np.array_equal(found[:13], expected)
    products = np.zeros((18, 18))
    _still_kernels.gram(found, 13, products)
    assert np.allclose(products[:13, :13], expected @ expected.T, rtol=1e-5, atol=1)


def test_zstd_is_asked_where_it_may_pay(rng: np.random.Generator) -> None:
    """Noise gives zstd nothing to find; repeated parts do, and so does a size above the bytes' entropy."""
    noise = rng.poisson(30, 4099).astype("uint8")
    repeated = noise.copy()
    repeated[1500:3000] = noise[:1500]
    enough = int(byte_entropy(noise) * noise.size / 8) - 1
    for data, size, pays in (
        (noise, enough, False), (noise, enough + 2, True), (repeated, 10, True), (noise[:3], 0, False),
        (noise[:17], 0, False), (np.zeros(64, "uint8"), 0, True),
    ):  # fmt: skip
        assert _frame_kernels.zstd_may_pay(data, data[: data.size & ~7].view("u8"), size) is pays
