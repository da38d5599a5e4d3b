"""The frame coder: lossless on everything, and nothing but an error on damaged chunks."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anscombe_transform.codec.entropy import pack_matches
from anscombe_transform.codec.frames import DamagedChunkError, FrameConfiguration, decode_chunk, encode_chunk

FAST = FrameConfiguration()
COMPACT = FrameConfiguration.fit(np.random.default_rng(7).normal(40, 2, (60, 40, 50)).astype("uint8"))
SMALLEST = replace(COMPACT, preset="smallest")
EACH = pytest.mark.parametrize(
    "configuration", [FAST, COMPACT, SMALLEST], ids=["fast", "compact", "smallest"]
)
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
    """A chunk of many zstd blocks and more than its window comes back, and takes the noise's size."""
    codes = np.clip(rng.normal(40, 2, (500, 128, 128)), 0, 255).astype(dtype)
    data = round_trip(codes, configuration)
    entropy = 0.5 * np.log2(2 * np.pi * np.e * (2**2 + 1 / 12))
    assert 8 * len(data) / codes.size < 1.07 * entropy


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
def test_never_larger_than_plain_zstd(
    dtype: str, configuration: FrameConfiguration, rng: np.random.Generator
) -> None:
    """Whatever a chunk holds, zstd at level 1 does not make less of it by more than one part in a hundred."""
    kinds = contents(rng, (20, 64, 64), dtype)
    frame = rng.integers(0, 255, (64, 64)).astype(dtype)
    kinds["moving"] = np.stack([np.roll(frame, 3 * t, 1) for t in range(20)])
    kinds["repeated"] = np.stack([frame] * 20)
    for kind, codes in kinds.items():
        plain = len(pack_matches(codes.reshape(-1).view(np.uint8)))
        assert len(round_trip(codes, configuration)) <= 1.01 * plain + 8, kind


def test_motion_is_not_predicted_by_the_mean(rng: np.random.Generator) -> None:
    """Where frames have nothing to do with each other, prediction in time does not make the chunk larger."""
    codes = rng.integers(0, 256, (30, 64, 64)).astype("uint8")
    assert len(round_trip(codes)) < codes.size * 1.01


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
    data=st.binary(max_size=60),
    dtype=st.sampled_from(CODES),
    method=st.sampled_from([0, 1, 2, 0x10, 0x11, 0x12, 0x24]),
)
def test_arbitrary_bytes_are_refused(data: bytes, dtype: str, method: int) -> None:
    """Bytes that are no chunk are refused, behind a right header as well."""
    header = bytes([0xF1, method, 1, 0xF1 ^ method ^ 1 ^ 0xFF])
    for chunk in (data, header + data, header + b"\x28\xb5\x2f\xfd" + data):
        with pytest.raises(DamagedChunkError):
            decode_chunk(chunk, (3, 4, 5), dtype, FAST)


def test_a_chunk_of_another_size_is_refused(rng: np.random.Generator) -> None:
    """The declared size bounds what is decoded, and a chunk of another shape says so."""
    data = encode_chunk(np.zeros((64, 256, 256), "uint8"), FAST)
    for shape in ((1, 1, 1), (64, 256, 255), (65, 256, 256)):
        with pytest.raises(DamagedChunkError, match="shape and dtype"):
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
        ({"preset": "compact"}, "fit"),
        ({"preset": "smallest"}, "fit"),
        ({"model": COMPACT.model}, "fit"),
        ({"preset": "compact", "model": 3}, "model must be"),
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
    for configuration in (COMPACT, SMALLEST, FAST, FrameConfiguration(time_axis=None)):
        document = json.loads(json.dumps(configuration.to_json()))
        assert FrameConfiguration.from_json("anscombe-frames-v1", document) == configuration
    with pytest.raises(ValueError, match="unknown keys"):
        FrameConfiguration.from_json("anscombe-frames-v1", {**document, "later": 1})
    with pytest.raises(ValueError, match="lacks"):
        FrameConfiguration.from_json("anscombe-frames-v1", {"preset": "fast"})
    with pytest.raises(ValueError, match="codec name"):
        FrameConfiguration.from_json("anscombe-v1", document)


def test_the_fitted_prediction_is_better(rng: np.random.Generator) -> None:
    """At few photons the fitted prediction stores less than the running mean, of single frames too."""
    scene = np.kron(rng.uniform(0.5, 4, (16, 16)), np.ones((6, 6)))
    codes = np.rint(4 * (np.sqrt(rng.poisson(scene, (60, *scene.shape)) + 0.375) - 0.6)).astype("uint8")
    fitted = FrameConfiguration.fit(codes)
    for part in (codes, codes[:1]):
        assert len(round_trip(part, fitted)) < 0.99 * len(round_trip(part))


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 64, 64), (2, 3, 4), (20, 5, 5), (9, 40), (7,), (3, 2, 20, 30)]
)
def test_any_sample_can_be_fitted(shape: tuple[int, ...], dtype: str, rng: np.random.Generator) -> None:
    """A model comes of samples too small to say much, and of constant ones, and works on other codes."""
    for codes in contents(rng, shape, dtype).values():
        fitted = FrameConfiguration.fit(codes)
        round_trip(codes, fitted)
        round_trip(noise(rng, shape, dtype), fitted)


def test_a_chunk_of_another_model_is_refused(rng: np.random.Generator) -> None:
    """A chunk names its model: with none, or another, it is refused instead of misread."""
    codes = noise(rng, (20, 40, 50), "uint8") + np.arange(50, dtype="uint8")
    other = FrameConfiguration.fit(rng.integers(0, 9, (20, 30, 30)).astype("uint8"))
    data = encode_chunk(codes, FrameConfiguration.fit(codes))
    assert data[1] & 0x0F == 2
    for wrong in (FAST, other):
        with pytest.raises(DamagedChunkError, match="model"):
            decode_chunk(data, codes.shape, "uint8", wrong)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rates": [0, 4]}, "rates must be"),
        ({"rates": [2]}, "rates must be"),
        ({"rates": 4}, "rates must be"),
        ({"temporal": [3000, 0, 0, 0, 0]}, "temporal"),
        ({"temporal": [0.5, 0, 0, 0, 0]}, "temporal"),
        ({"above": [2000, 100, 0, 0, 0]}, "above"),
        ({"first": [0] * 6}, "first"),
        ({"decay": [0, 16]}, "decay"),
        ({"mean": -1}, "mean"),
        ({"orders": "x"}, "orders"),
        ({"orders": ""}, "orders"),
        ({"orders": None}, "orders"),
        ({"later": 1}, "keys"),
    ],
)
def test_a_wrong_model_is_refused(change: dict[str, Any], message: str) -> None:
    """Numbers that the decoder's arithmetic is not made for are refused when the metadata are read."""
    document = COMPACT.to_json()
    document["model"] = document["model"] | change
    with pytest.raises((ValueError, TypeError), match=message):
        FrameConfiguration.from_json("anscombe-frames-v1", document)
