"""The frame coder's fitted prediction: what preset ``smallest`` stores, and its arithmetic coder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_frames import assert_damage_is_found
from test_frames_format import reader

from anscombe_transform import (
    _contexts_kernels,
    _fitted_levels_kernels,
    _model_kernels,
)
from anscombe_transform.codec import fitted, frames, still
from anscombe_transform.codec.frames import DamagedChunkError, FrameConfiguration, decode_chunk, encode_chunk

FROZEN = Path(__file__).parent / "data" / "frozen"
ENTRIES: list[dict[str, Any]] = json.loads((FROZEN / "fitted.json").read_text())
METHOD = 0x24


def smallest(codes: np.ndarray, axis: int | None = 0) -> FrameConfiguration:
    """The preset with a model fitted to the codes."""
    return FrameConfiguration.fit(codes, time_axis=axis, preset="smallest")


def chunk_of(codes: np.ndarray, configuration: FrameConfiguration) -> bytes:
    """A chunk of codes by method 4, whether or not that is the best one."""
    assert configuration.model is not None
    q = frames._as_frames(codes, configuration.time_axis)
    return with_header(fitted.encode(q, configuration.model), configuration)


def with_header(frame: bytes, configuration: FrameConfiguration) -> bytes:
    """A chunk of its zstd frame."""
    assert configuration.model is not None
    check = configuration.model.check
    return bytes([0xF1, METHOD, check, 0xF1 ^ METHOD ^ check ^ 0xFF]) + frame


def movie(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, spread: float = 2.0) -> np.ndarray:
    """A scene with a slope that moves, flashes and holds rare extremes."""
    length, (height, width) = shape[0], shape[-2:]
    slope = 40 + np.arange(width) / 3 + 20 * (np.arange(height)[:, None] // 5 % 2)
    scenes = [np.roll(slope, t // 3, 1) * (1.4 if t == length // 2 else 1) for t in range(length)]
    level = np.array(scenes).reshape(length, *[1] * (len(shape) - 3), height, width)
    offset = 3000 if dtype == "uint16" else 0
    codes = rng.normal(level + offset, spread, shape)
    codes[-1, ..., 3, :4] = rng.integers(0, np.iinfo(dtype).max, 4)
    return np.clip(np.rint(codes), 0, np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["chunk"])
def test_frozen_chunks_read_as_they_did(entry: dict[str, Any]) -> None:
    """Chunks of method 4 still give their codes, by the kernels and by the printed reader."""
    chunk, shape = (FROZEN / entry["chunk"]).read_bytes(), tuple(entry["shape"])
    codes = np.fromfile(FROZEN / entry["codes"], np.dtype(entry["dtype"]).newbyteorder("<")).reshape(shape)
    assert chunk[1] == METHOD
    configuration = FrameConfiguration.from_json("anscombe-frames-v1", entry["configuration"])
    assert np.array_equal(decode_chunk(chunk, shape, entry["dtype"], configuration), codes)
    assert np.array_equal(reader()(chunk, shape, entry["dtype"], **entry["configuration"]), codes)


@settings(max_examples=12)
@given(
    shape=st.sampled_from([(2, 8, 38), (5, 9, 41), (3, 2, 8, 40), (12, 11, 39)]),
    dtype=st.sampled_from(["uint8", "uint16"]),
    spread=st.sampled_from([0, 2, 70, 20000]),
    gaps=st.booleans(),
    seed=st.integers(0, 99),
)
@example(shape=(2, 8, 38), dtype="uint16", spread=20000, gaps=False, seed=23)  # no weights of the past fit
def test_the_printed_reader_equals_the_kernels(
    shape: tuple[int, ...], dtype: str, spread: float, gaps: bool, seed: int
) -> None:
    """Codes of any kind come back, and the page's arithmetic is the kernels'."""
    codes = movie(np.random.default_rng(seed), shape, dtype, spread)
    if gaps:
        codes = (codes // 3 * 3).astype(dtype)
    configuration = smallest(codes)
    chunk = chunk_of(codes, configuration)
    assert np.array_equal(decode_chunk(chunk, shape, dtype, configuration), codes)
    assert np.array_equal(reader()(chunk, shape, dtype, **configuration.to_json()), codes)


def content_of(
    rng: np.random.Generator, codes: np.ndarray, configuration: FrameConfiguration, scale: int
) -> bytes:
    """The content of a chunk with weights and limits that no encoder would choose, and somebody's symbols."""
    itemsize, planes = codes.itemsize, codes.shape[1]
    length = len(codes)
    start, _ = still.symbols_of(np.ascontiguousarray(codes[:1]))
    start = start._replace(palette=None)
    limits = np.sort(rng.integers(0, 4096, 3)).astype(np.int16)
    sets = np.zeros((length - 1, fitted.WEIGHTS + 1), np.int64)
    for weights in sets:
        weights[: fitted.SMALL] = rng.integers(-scale, scale + 1, fitted.SMALL)
        for part, most in ((weights[:19], 16000), (weights[19:24], 8192)):
            part[:] = part * min(1, most / max(1, np.abs(part).sum()))
        weights[-3] = rng.integers(0, 8 * 256**itemsize)
        weights[-2] = rng.integers(-(1 << 29), 1 << 29)
        weights[-1] = 12
    share, decay = int(rng.integers(0, 16)), int(rng.integers(1, 5))
    rates = rng.integers(1, 8, 2).tolist()
    head = bytes([0]) + still.head_of(start) + bytes([*rates, decay, share])
    head += b"".join(int(v).to_bytes(2, "little") for v in limits)
    for weights in sets:
        head += bytes([0]) + still.weight_bytes(12, weights[:-1], first=False)
    # Every class has a symbol in each of 64 places, and the escape.
    frequency = np.zeros((3, 256), np.uint16)
    frequency[:, :64] = 63
    frequency[:, 255] = 64
    class_of = np.full(fitted.FIRST + 1, 2, np.uint8)
    class_of[:300], class_of[300:784] = 0, 1
    head += fitted._class_bytes(class_of, frequency)
    size = codes.size
    low = rng.integers(0, 66, size).astype(np.uint8)
    high = rng.integers(0, 2, size if itemsize == 2 else 0).astype(np.uint8)
    # All tables are alike, so that the symbols may be coded without knowing their contexts.
    words, more = np.zeros(size + 64, np.uint16), np.zeros(size * itemsize, np.uint8)
    end, kept = _contexts_kernels.encode_symbols(
        low,
        high,
        np.zeros(size, np.uint16),
        codes.shape[-1],
        class_of,
        frequency,
        words,
        more,
    )
    assert planes == start.weights.shape[0]
    return head + (more.size - kept).to_bytes(4, "little") + more[kept:].tobytes() + words[end:].tobytes()


@settings(max_examples=12)
@given(
    dtype=st.sampled_from(["uint8", "uint16"]),
    scale=st.sampled_from([1, 300, 8191]),
    top=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_weights_are_somebodys(dtype: str, scale: int, top: bool, seed: int) -> None:
    """Kernels and printed reader agree on weights, limits and ranks that no encoder would choose."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, np.iinfo(dtype).max + 1, (4, 2, 8, 39)).astype(dtype)
    if top:
        codes[:] = np.iinfo(dtype).max
    configuration = smallest(movie(rng, (6, 2, 20, 40), dtype))
    content = content_of(rng, codes, configuration, scale)
    frame = zstandard.ZstdCompressor(write_checksum=True).compress(content)
    chunk = with_header(frame, configuration)
    found = decode_chunk(chunk, codes.shape, dtype, configuration)
    assert np.array_equal(found, reader()(chunk, codes.shape, dtype, **configuration.to_json()))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_damage_is_found(dtype: str, rng: np.random.Generator) -> None:
    """No truncated chunk decodes, and of one with a flipped byte only what the checksum proves right."""
    codes = movie(rng, (3, 8, 38), dtype)
    configuration = smallest(codes)
    data = chunk_of(codes, configuration)
    assert_damage_is_found(data, codes, configuration)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_false_content_is_refused(dtype: str, rng: np.random.Generator) -> None:
    """Behind a right header and checksum, any damage of the content gives an error or codes."""
    codes = movie(rng, (3, 2, 8, 38), dtype)
    configuration = smallest(codes)
    content = zstandard.ZstdDecompressor().decompress(chunk_of(codes, configuration)[4:])
    broken = [
        content[:at] + bytes([content[at] ^ int(mask)]) + content[at + 1 :]
        for at in range(len(content))
        for mask in rng.integers(1, 256, 1)
    ]
    broken += [content[:at] for at in range(0, len(content), 5)] + [content + b"\0", content + b"\0\0"]
    broken += [rng.integers(0, 256, rng.integers(0, 900)).astype("uint8").tobytes() for _ in range(50)]
    unchanged = 0
    for damaged in broken:
        frame = zstandard.ZstdCompressor(write_checksum=True).compress(damaged)
        try:
            back = decode_chunk(with_header(frame, configuration), codes.shape, dtype, configuration)
        except DamagedChunkError:
            continue
        unchanged += np.array_equal(back, codes)
    # A weight or limit may change nothing, but a word or frequency always does.
    assert unchanged < 0.2 * len(broken)


def test_chunks_of_other_shapes_and_models_are_refused(rng: np.random.Generator) -> None:
    """A chunk read with another shape, another model or none gives an error."""
    codes = movie(rng, (12, 20, 40), "uint8")
    configuration = smallest(codes)
    chunk = chunk_of(codes, configuration)
    for shape in ((12, 20, 41), (11, 20, 40), (12, 7, 40), (12, 20, 37), (1, 20, 40), (), (13, 20, 40)):
        axis = 0 if shape else None
        with pytest.raises(DamagedChunkError):
            decode_chunk(chunk, shape, "uint8", replace(configuration, time_axis=axis))
    for other in (FrameConfiguration(), smallest(movie(rng, (12, 20, 40), "uint8", 9))):
        with pytest.raises(DamagedChunkError, match="model"):
            decode_chunk(chunk, codes.shape, "uint8", other)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_static_scene_takes_little_more_than_its_noise(dtype: str, rng: np.random.Generator) -> None:
    """Of noise around a scene that does not change, little is paid for learning it: less than by compact."""
    scene = rng.uniform(30, 60, (64, 80)) + (2000 if dtype == "uint16" else 0)
    codes = np.rint(rng.normal(scene, 2, (64, *scene.shape))).astype(dtype)
    configuration = smallest(codes)
    found = 8 * len(encode_chunk(codes, configuration)) / codes.size
    compact = 8 * len(encode_chunk(codes, replace(configuration, preset="compact"))) / codes.size
    noise = 0.5 * np.log2(2 * np.pi * np.e * (2**2 + 1 / 12))
    # A mean of t frames adds 1/t to the variance; pixels of this scene say nothing of each other. The first
    # frame takes the width of the scene, and tables and weights some hundred bytes.
    learning = np.mean(0.5 * np.log2(1 + 1 / np.arange(1, 64)))
    first = np.log2(30) / 64
    assert noise < found < noise + learning + first + 0.05
    assert found < compact


def test_a_frame_that_moves_by_part_of_a_pixel_is_predicted(rng: np.random.Generator) -> None:
    """Weights fitted to every frame follow a scene that jitters, which those of the whole array cannot."""
    y, x = np.mgrid[:64, :80]
    moves = rng.normal(0, 0.5, (40, 2))
    level = [60 + 40 * np.sin((y + a) / 4) * np.sin((x + b) / 5) for a, b in moves]
    codes = np.rint(rng.normal(level, 2)).astype("uint8")
    configuration = smallest(codes)
    data = encode_chunk(codes, configuration)
    assert data[1] == METHOD
    assert np.array_equal(decode_chunk(data, codes.shape, "uint8", configuration), codes)
    assert len(data) < 0.98 * len(encode_chunk(codes, replace(configuration, preset="compact")))


def test_frequencies_hold_every_symbol_that_is_frequent(rng: np.random.Generator) -> None:
    """Frequencies sum to the whole, leave the escape its place, keep what is one of 4096."""
    for kinds in (0, 1, 2, 20, 255, 256):
        for skew in (0.02, 1.0, 50.0):
            counts = np.zeros(256)
            counts[:kinds] = rng.dirichlet(np.full(kinds, skew)) * 1e6 if kinds else 0
            frequency = np.zeros(256, np.uint16)
            _contexts_kernels.share_out(counts[None], frequency)
            assert frequency.sum(dtype=int) == 4096
            assert frequency[255] > 0
            assert np.all(frequency[counts >= 1e6 / 4096] > 0)


@pytest.mark.parametrize("width", [38, 40, 61])
@pytest.mark.parametrize("wide", [False, True])
def test_the_arithmetic_coder_reaches_the_entropy(width: int, wide: bool, rng: np.random.Generator) -> None:
    """Symbols take what the frequencies of their classes say, and two words a state; rare ones come last."""
    size = 200 * width
    share = rng.dirichlet(np.full(20, 0.7))
    low = rng.choice(20, size, p=share).astype(np.uint8)
    low[rng.random(size) < 0.001] = 255
    high = (rng.random(size) < 0.001).astype(np.uint8) if wide else np.empty(0, np.uint8)
    context = np.full(size, fitted.FIRST, np.uint16)
    counts = np.zeros((fitted.FIRST + 1, 256), np.uint32)
    _contexts_kernels.count_symbols(low, high, context, width, 1, counts)
    frequency = np.zeros((2, 256), np.uint16)
    for k, f in zip((0, fitted.FIRST), frequency, strict=True):
        _contexts_kernels.share_out(counts[k : k + 1], f)
    class_of = np.zeros(fitted.FIRST + 1, np.uint8)
    class_of[-1] = 1
    words, more = np.zeros(size + 64, np.uint16), np.zeros(2 * size, np.uint8)
    end, kept = _contexts_kernels.encode_symbols(low, high, context, width, class_of, frequency, words, more)
    symbols = np.where((low == 255) | (high != 0 if wide else False) | (frequency[1, low] == 0), 255, low)
    bits = (12 - np.log2(frequency[1, symbols])).sum()
    assert 16 * (words.size - end) <= 1.003 * bits + 16 * 65
    assert more.size - kept == (symbols == 255).sum() * (2 if wide else 1)
    laws = np.empty(3 * _contexts_kernels.SPAN // 4, np.uint32)
    tables, table_of = laws.view(np.uint8), class_of * np.uint32(_contexts_kernels.SPAN)
    _contexts_kernels.fill_tables(frequency, tables, laws)
    padded = np.concatenate([words[end:], np.zeros(width + 1, np.uint16)])
    states = padded[:64:2] + padded[1:64:2] * np.uint32(65536)
    begun, taken = states.copy(), np.array([64, 0])
    back = np.empty((1, 200, width), np.uint16 if wide else np.uint8)
    assert _contexts_kernels.decode_first(back, table_of, tables, padded, more[kept:], states, taken)
    assert np.array_equal(back.reshape(-1), low + 256 * high.astype(int) if wide else low)
    assert states.tolist() == [65536] * 32
    assert taken.tolist() == [padded.size - width - 1, more.size - kept]
    taken[:] = 64, 0
    cut = padded[: -2 * width]
    assert not _contexts_kernels.decode_first(back, table_of, tables, cut, more[kept:], begun, taken)


def test_contexts_are_joined_where_they_are_alike(rng: np.random.Generator) -> None:
    """Contexts of one law come together within their activity, and those of two stay apart."""
    counts = np.zeros((fitted.FIRST, 64))
    law = np.array([rng.dirichlet(np.full(10, 1.0)) for _ in range(2)])
    for activity in range(4):
        for context in range(20, 60):
            counts[196 * activity + context, :10] = rng.multinomial(4000, law[int(context >= 40)])
    ends = np.empty(fitted.FIRST, np.int64)
    count = _contexts_kernels.join_contexts(counts, 100.0, 40, ends)
    found = set(ends[:count].tolist())
    assert count == 8
    assert found >= {196, 392, 588, 784}
    assert found - {196, 392, 588, 784} == {40, 236, 432, 628}


def test_the_kernels_and_the_codec_agree_on_their_constants() -> None:
    """The two modules that must not import each other count alike."""
    assert (fitted.ACTIVITIES, fitted.FIRST) == (_contexts_kernels.ACTIVITIES, _contexts_kernels.FIRST)
    assert (fitted.SMALL, fitted.WEIGHTS) == (_fitted_levels_kernels.SMALL, _fitted_levels_kernels.WEIGHTS)
    assert fitted.ESCAPE == _contexts_kernels.ESCAPE
    assert fitted.FIRST == 4 * _model_kernels.CONTEXTS
