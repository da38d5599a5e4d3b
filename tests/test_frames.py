"""The frame coder: lossless on everything, and nothing but an error on damaged chunks."""

from __future__ import annotations

import contextlib
import itertools
import json
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anscombe_transform import native
from anscombe_transform.codec.frames import DamagedChunkError, FrameConfiguration, decode_chunk, encode_chunk
from anscombe_transform.native import reference_frames

FAST = FrameConfiguration()
COMPACT = FrameConfiguration("compact")
EACH = pytest.mark.parametrize("configuration", [FAST, COMPACT], ids=["fast", "compact"])
CODES = ("uint8", "uint16")


def noise(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, mean: float = 40) -> np.ndarray:
    """Codes as the transform makes them: noise of two codes around a scene that does not change."""
    top = np.iinfo(dtype).max
    return np.clip(np.rint(rng.normal(mean, 2, shape)), 0, top).astype(dtype)


def contents(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> dict[str, np.ndarray]:
    """Codes of every kind that a predictor or an entropy stage could stumble on."""
    top, size = np.iinfo(dtype).max, int(np.prod(shape))
    line = np.arange(size)
    ends = np.where(np.indices(shape).sum(0) % 2 == 0, 0, top) if shape else np.array(top)
    return {
        "zeros": np.zeros(shape, dtype),
        "tops": np.full(shape, top, dtype),
        "checkerboard": ends.astype(dtype),
        "ramp": (line % (top + 1)).astype(dtype).reshape(shape),
        "uniform": rng.integers(0, top + 1, shape).astype(dtype),
        "noise": noise(rng, shape, dtype),
        "sparse": (rng.random(shape) < 0.02).astype(dtype),
    }


def round_trip(codes: np.ndarray, configuration: FrameConfiguration = FAST) -> bytes:
    """Encode and decode; the chunk."""
    data = encode_chunk(codes, configuration)
    back = decode_chunk(data, codes.shape, codes.dtype, configuration)
    assert back.dtype == codes.dtype.newbyteorder("=")
    assert back.shape == codes.shape
    assert np.array_equal(back, codes)
    return data


SHAPES = [
    (1, 1, 1), (2, 1, 1), (1, 1, 9), (1, 9, 1), (3, 2, 2), (1, 64, 64), (2, 31, 17), (7, 3, 130),
    (40, 40, 40), (500, 1, 1), (), (1,), (1000,), (5, 7), (3, 4, 5, 6), (2, 3, 2, 5, 4), (0, 4, 4), (4, 0),
]  # fmt: skip


@EACH
@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_shape_and_content_comes_back(
    shape: tuple[int, ...], dtype: str, configuration: FrameConfiguration, rng: np.random.Generator
) -> None:
    """Decoding gives back every code: any number of dimensions, extreme contents, each axis as time."""
    for codes in contents(rng, shape, dtype).values():
        for axis in (None, *range(len(shape))):
            round_trip(codes, replace(configuration, time_axis=axis))


@EACH
@pytest.mark.parametrize("dtype", CODES)
def test_a_large_chunk_comes_back(
    dtype: str, configuration: FrameConfiguration, rng: np.random.Generator
) -> None:
    """A chunk of many groups of frames comes back, and takes the noise's size."""
    codes = np.clip(rng.normal(40, 2, (500, 128, 128)), 0, 255).astype(dtype)
    data = round_trip(codes, configuration)
    entropy = 0.5 * np.log2(2 * np.pi * np.e * (2**2 + 1 / 12))
    assert 8 * len(data) / codes.size < 1.07 * entropy


@EACH
def test_what_a_thread_coded_before_does_not_matter(
    configuration: FrameConfiguration, rng: np.random.Generator
) -> None:
    """Chunks of any order of sizes are those of a thread that codes nothing else."""
    chunks = [noise(rng, shape, "uint8") for shape in ((30, 40, 40), (2, 7, 9), (60, 50, 50), (30, 40, 40))]

    def alone(codes: np.ndarray) -> bytes:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(encode_chunk, codes, configuration).result()

    assert [round_trip(codes, configuration) for codes in chunks] == [alone(codes) for codes in chunks]


@pytest.mark.parametrize("dtype", CODES)
def test_any_memory_layout_comes_back(dtype: str, rng: np.random.Generator) -> None:
    """Big-endian, transposed, reversed and strided codes give the bytes of their contiguous copy."""
    base = noise(rng, (12, 20, 31), dtype, 300 if dtype == "uint16" else 40)
    views = [base.astype(base.dtype.newbyteorder(">")), np.asfortranarray(base), base[::-1, :, ::2], base.T]
    for codes in views:
        assert round_trip(codes) == encode_chunk(np.ascontiguousarray(codes.astype(dtype)), FAST)


@EACH
@settings(max_examples=60)
@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    dtype=st.sampled_from(CODES),
    top=st.sampled_from([1, 3, 200, 60000]),
    seed=st.integers(0, 99),
)
def test_arbitrary_codes_come_back(
    configuration: FrameConfiguration, shape: list[int], dtype: str, top: int, seed: int
) -> None:
    """Whatever the codes, decoding gives them back."""
    codes = np.random.default_rng(seed).integers(0, min(top, np.iinfo(dtype).max) + 1, shape).astype(dtype)
    round_trip(codes, configuration)


@EACH
@pytest.mark.parametrize("dtype", CODES)
def test_no_chunk_is_larger_than_its_codes(
    dtype: str, configuration: FrameConfiguration, rng: np.random.Generator
) -> None:
    """A chunk takes six bytes more than its codes at most, and eight if all are the same."""
    for kind, codes in contents(rng, (20, 64, 64), dtype).items():
        size = len(round_trip(codes, configuration))
        assert size <= codes.nbytes + 6, kind
        assert (size == 8) == (kind in ("zeros", "tops"))


def test_motion_is_not_predicted_by_the_mean(rng: np.random.Generator) -> None:
    """Where frames have nothing to do with each other, prediction in time does not make the chunk larger."""
    codes = rng.integers(0, 256, (30, 64, 64)).astype("uint8")
    assert len(round_trip(codes)) < codes.size * 1.01


@EACH
def test_a_still_of_unlike_rows_is_predicted_along_them(
    configuration: FrameConfiguration, rng: np.random.Generator
) -> None:
    """An image with a level of its own in every row takes little more than its noise."""
    levels = rng.integers(300, 400, (1, 96, 1))
    codes = np.rint(rng.normal(levels, 2, (1, 96, 512))).astype("uint16")
    assert 8 * len(round_trip(codes, configuration)) / codes.size < 5


def damage(data: bytes) -> itertools.chain[bytes]:
    """Every truncation, and every byte flipped in one bit and in all."""
    cut = (data[:n] for n in range(len(data)))
    flipped = (
        data[:n] + bytes([data[n] ^ mask]) + data[n + 1 :] for n in range(len(data)) for mask in (1, 128, 255)
    )
    return itertools.chain(cut, flipped)


def assert_damage_is_found(data: bytes, codes: np.ndarray, configuration: FrameConfiguration) -> None:
    """Decode every damaged form of a chunk: it is an error, or of the same length and right."""
    for damaged in damage(data):
        try:
            back = decode_chunk(damaged, codes.shape, codes.dtype, configuration)
        except DamagedChunkError:
            continue
        assert len(damaged) == len(data)
        assert np.array_equal(back, codes)


@EACH
@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("kind", ["noise", "uniform", "zeros", "sparse"])
def test_damage_is_found(
    kind: str, dtype: str, configuration: FrameConfiguration, rng: np.random.Generator
) -> None:
    """No truncated chunk decodes, and of one with a flipped byte only what the checksum proves right."""
    codes = contents(rng, (6, 12, 13), dtype)[kind]
    data = encode_chunk(codes, configuration)
    assert_damage_is_found(data, codes, configuration)


@settings(max_examples=200)
@given(
    data=st.binary(max_size=80),
    dtype=st.sampled_from(CODES),
    method=st.sampled_from([0, 1, 2, 3]),
)
def test_arbitrary_bytes_are_refused(data: bytes, dtype: str, method: int) -> None:
    """Bytes that are no chunk are refused, behind a right header and before a right checksum as well."""
    shape = (3, 4, 5)
    head = bytes([0xAF, method])
    whole = head + data
    sizes = np.array([*shape, np.dtype(dtype).itemsize], "<u4").tobytes()
    checked = whole + zlib.crc32(sizes, zlib.crc32(whole)).to_bytes(4, "little")
    for chunk in (data, whole, checked):
        try:
            codes = decode_chunk(chunk, shape, dtype, FAST)
        except DamagedChunkError:
            continue
        assert method in (0, 2)
        assert chunk is checked
        assert codes.shape == shape


@EACH
@pytest.mark.parametrize("dtype", CODES)
def test_damage_behind_a_right_checksum_is_found_or_harmless(
    dtype: str, configuration: FrameConfiguration, rng: np.random.Generator
) -> None:
    """Chunks with flipped bytes and a checksum of those bytes decode to something or are refused."""
    codes = noise(rng, (6, 24, 33), dtype)
    data = encode_chunk(codes, configuration)
    sizes = np.array([*codes.shape, codes.itemsize], "<u4").tobytes()
    for at in range(2, len(data) - 4, 3):
        body = bytearray(data[:-4])
        body[at] ^= int(rng.integers(1, 256))
        check = zlib.crc32(sizes, zlib.crc32(bytes(body))).to_bytes(4, "little")
        with contextlib.suppress(DamagedChunkError):
            decode_chunk(bytes(body) + check, codes.shape, codes.dtype, configuration)


def test_a_chunk_of_another_size_is_refused(rng: np.random.Generator) -> None:
    """The declared size bounds what is decoded, and a chunk of another shape says so."""
    data = encode_chunk(np.zeros((64, 256, 256), "uint8"), FAST)
    for shape in ((1, 1, 1), (64, 256, 255), (65, 256, 256)):
        with pytest.raises(DamagedChunkError, match="shape"):
            decode_chunk(data, shape, "uint8", FAST)
    with pytest.raises(DamagedChunkError):
        decode_chunk(data + b"\0", (64, 256, 256), "uint8", FAST)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"preset": "best"}, "preset must be"),
        ({"time_axis": -1}, "time_axis must be"),
        ({"time_axis": 1.0}, "time_axis must be"),
        ({"time_axis": True}, "time_axis must be"),
    ],
)
def test_wrong_fields_are_refused(fields: dict[str, Any], message: str) -> None:
    """A configuration names the field that breaks its rule."""
    with pytest.raises((ValueError, TypeError), match=message):
        FrameConfiguration(**fields)


def test_wrong_arrays_are_refused() -> None:
    """Other types than codes, and a time axis that the array has not, are refused with the way out."""
    with pytest.raises(TypeError, match="transform before it"):
        encode_chunk(np.zeros((2, 2, 2), "int16"), FAST)
    with pytest.raises(ValueError, match="time_axis is 3"):
        encode_chunk(np.zeros((2, 2, 2), "uint8"), FrameConfiguration(time_axis=3))


def test_the_configuration_is_json_both_ways() -> None:
    """A configuration equals what its JSON gives; unknown and missing keys and foreign names are refused."""
    for configuration in (COMPACT, FAST, FrameConfiguration(time_axis=None)):
        document = json.loads(json.dumps(configuration.to_json()))
        assert FrameConfiguration.from_json("anscombe_frames", document) == configuration
    with pytest.raises(ValueError, match="unknown keys"):
        FrameConfiguration.from_json("anscombe_frames", {**document, "later": 1})
    with pytest.raises(ValueError, match="lacks"):
        FrameConfiguration.from_json("anscombe_frames", {"preset": "fast"})
    with pytest.raises(ValueError, match="codec name"):
        FrameConfiguration.from_json("anscombe-v1", document)


def test_more_effort_stores_less(rng: np.random.Generator) -> None:
    """At few photons, and where the scene moves, `compact` stores less than `fast`."""
    scene = np.kron(rng.uniform(0.5, 4, (16, 16)), np.ones((6, 6)))
    counts = rng.poisson(scene, (60, *scene.shape)) + rng.normal(0, 0.3, (60, *scene.shape))
    still = np.rint(4 * np.sqrt(np.maximum(counts + 1, 0))).astype("uint8")
    moved = np.stack([np.roll(scene, t // 3, 1) for t in range(60)])
    moving = np.rint(4 * (np.sqrt(rng.poisson(8 * moved) + 0.375) - 0.6)).astype("uint8")
    assert len(round_trip(still, COMPACT)) < len(round_trip(still))
    assert len(round_trip(moving, COMPACT)) < 0.99 * len(round_trip(moving))


@EACH
@pytest.mark.parametrize("movies", [2, 5])
def test_interleaved_movies_are_told_apart(
    movies: int, configuration: FrameConfiguration, rng: np.random.Generator
) -> None:
    """Channels that take turns in time are predicted each from itself, as if they were planes."""
    scenes = [np.kron(rng.uniform(10, 60, (12, 12)), np.ones((5, 5))) for _ in range(movies)]
    codes = np.rint(rng.normal(np.stack(scenes * 20), 2)).astype("uint8")
    planes = codes.reshape(20, movies, 60, 60)
    assert len(round_trip(codes, configuration)) < 1.01 * len(round_trip(planes, configuration))


@EACH
@pytest.mark.parametrize("noise_of_codes", [0.5, 1, 4, 20, 500])
def test_noise_of_any_width_takes_its_entropy(
    noise_of_codes: float, configuration: FrameConfiguration, rng: np.random.Generator
) -> None:
    """Codes of any step, fine as of a small beta or coarse, are stored near their entropy."""
    codes = np.rint(rng.normal(8000, noise_of_codes, (60, 100, 100))).astype("uint16")
    entropy = 0.5 * np.log2(2 * np.pi * np.e * (noise_of_codes**2 + 1 / 12))
    assert 8 * len(round_trip(codes, configuration)) / codes.size < 1.06 * entropy + 0.03


@EACH
@pytest.mark.skipif(not native.IS_NATIVE, reason="the native core was not built")
@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize(
    "shape", [(5, 9, 7), (3, 40, 130), (2, 3, 20, 64), (40, 5, 6), (1, 30, 257)], ids=str
)
def test_the_core_equals_its_definition(
    shape: tuple[int, ...], dtype: str, configuration: FrameConfiguration, rng: np.random.Generator
) -> None:
    """Chunks of the core decode to the same codes in numpy, and numpy's chunks in the core."""
    planes = int(np.prod(shape[1:-2]))
    for codes in contents(rng, shape, dtype).values():
        frames = codes.reshape(-1, *shape[-2:])
        for data in (encode_chunk(codes, configuration), reference_frames.encode_chunk(frames, planes)):
            assert np.array_equal(decode_chunk(data, shape, dtype, configuration), codes)
            assert np.array_equal(reference_frames.decode_chunk(data, *frames.shape, dtype), frames)
