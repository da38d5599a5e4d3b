"""The frame coder's format as its page describes it: the printed reader, schemas and frozen arrays."""

from __future__ import annotations

import base64
import dataclasses
import functools
import json
import math
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from anscombe_transform import FrameCoderV2, FrameCoderV3, _frame_kernels, _model_kernels
from anscombe_transform.codec import frame_model, frames
from anscombe_transform.codec.entropy import pack
from anscombe_transform.codec.frames import FrameConfiguration, FrameModel, decode_chunk, encode_chunk

TESTS = Path(__file__).parent
PAGES = TESTS.parent / "docs" / "reference"
FROZEN = TESTS / "data" / "frozen"
NAME = "anscombe-frames-v1"
ENTRIES: list[dict[str, Any]] = json.loads((FROZEN / "frames.json").read_text())
each = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["name"])


@functools.cache
def reader() -> Any:
    """The reader that the page prints; it knows nothing of this package."""
    (code,) = re.findall(r"```python\n(.*?)```", (PAGES / f"{NAME}.md").read_text(), re.DOTALL)
    names = {"np": np, "math": math, "zlib": zlib, "base64": base64, "zstandard": zstandard}
    exec(code, names)
    return names["read_frames"]


@functools.cache
def validator(zarr_format: int) -> Any:
    """The validator of a schema; the schema itself is checked first."""
    jsonschema = pytest.importorskip("jsonschema", reason="schemas are checked with the package jsonschema")
    schema = json.loads((PAGES / "schemas" / f"{NAME}.zarr-v{zarr_format}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def frozen_codes(entry: dict[str, Any]) -> np.ndarray:
    """The codes that a frozen array holds."""
    found = entry["codes"]
    dtype = np.dtype(found["dtype"]).newbyteorder("<")
    return np.fromfile(FROZEN / found["file"], dtype).reshape(found["shape"])


@each
def test_frozen_arrays_read_as_they_did(entry: dict[str, Any]) -> None:
    """Arrays written when the format was fixed still give their codes."""
    array = zarr.open_array(FROZEN / entry["array"], mode="r")
    assert np.array_equal(array[:], frozen_codes(entry))


@each
def test_the_printed_reader_reads_frozen_chunks(entry: dict[str, Any]) -> None:
    """The reader of last resort gives the codes of every stored chunk, with numpy and zstd alone."""
    folder = FROZEN / entry["array"]
    if entry["zarr_format"] == 3:
        metadata = json.loads((folder / "zarr.json").read_text())
        configuration = metadata["codecs"][0]["configuration"]
        shape, place = (8, 16, 20), "c/{}/{}/{}"
    else:
        configuration = json.loads((folder / ".zarray").read_text())["compressor"]
        shape, place = tuple(configuration["chunk_shape"]), "{}.{}.{}"
    codes = frozen_codes(entry)
    padded = np.zeros((24, 32, 40), codes.dtype)
    padded[: codes.shape[0], : codes.shape[1], : codes.shape[2]] = codes
    seen = set()
    document = {k: v for k, v in configuration.items() if k in ("time_axis", "model")}
    for t, y, x in np.ndindex(3, 2, 2):
        path = folder / place.format(t, y, x)
        if not path.exists():
            continue
        chunk = path.read_bytes()
        seen.add(chunk[1])
        part = padded[8 * t : 8 * t + 8, 16 * y : 16 * y + 16, 20 * x : 20 * x + 20]
        assert np.array_equal(reader()(chunk, shape, codes.dtype, **document), part)
    assert {"fast": 1, "compact": 2}[entry["preset"]] in seen


@pytest.mark.parametrize("entry", json.loads((FROZEN / "pairs.json").read_text()), ids=lambda e: e["chunk"])
def test_frozen_pairs_read_as_they_did(entry: dict[str, Any]) -> None:
    """Chunks stored in pairs still give their codes, by the kernels and by the printed reader."""
    chunk, shape = (FROZEN / entry["chunk"]).read_bytes(), tuple(entry["shape"])
    codes = np.fromfile(FROZEN / entry["codes"], np.uint8).reshape(shape)
    assert chunk[1] == entry["method"]
    configuration = FrameConfiguration.from_json(NAME, entry["configuration"])
    assert np.array_equal(decode_chunk(chunk, shape, "uint8", configuration), codes)
    assert np.array_equal(reader()(chunk, shape, "uint8", **entry["configuration"]), codes)


@settings(max_examples=40)
@given(
    shape=st.sampled_from(
        [(3, 2, 2), (1, 9, 11), (12, 7, 5), (4, 1, 30), (5, 30, 1), (6, 2, 5, 6), (40,), ()]
    ),
    dtype=st.sampled_from(["uint8", "uint16"]),
    spread=st.sampled_from([1, 4, 70]),
    axis=st.sampled_from([0, 1, None]),
    seed=st.integers(0, 99),
)
def test_the_printed_reader_equals_the_kernels(
    shape: tuple[int, ...], dtype: str, spread: float, axis: int | None, seed: int
) -> None:
    """The page's arithmetic is the kernels': every method, both types, whatever the codes and the model."""
    if axis and axis >= len(shape):
        axis = 0
    rng = np.random.default_rng(seed)
    top = np.iinfo(dtype).max
    codes = np.clip(np.rint(rng.normal(rng.choice([0, 60, top]), spread, shape)), 0, top).astype(dtype)
    fitted = FrameConfiguration.fit(codes, time_axis=axis)
    for configuration in (FrameConfiguration(time_axis=axis), fitted):
        chunk = encode_chunk(codes, configuration)
        document = configuration.to_json()
        assert np.array_equal(reader()(chunk, shape, dtype, **document), codes)
    for method, parameter in ((1, 1), (1, 3), (1, 5), (2, fitted.model.check)):
        # Any symbols are somebody's residuals: the two must agree on chunks that no encoder would choose.
        payload = rng.integers(0, 256, codes.size * codes.itemsize).astype("uint8")
        frame = zstandard.ZstdCompressor(write_checksum=True).compress(payload.tobytes())
        chunk = bytes([0xF1, method, parameter, 0xF1 ^ method ^ parameter ^ 0xFF]) + frame
        expected = reader()(chunk, shape, dtype, **fitted.to_json())
        assert np.array_equal(decode_chunk(chunk, shape, dtype, fitted), expected)
    if dtype == "uint8":
        for method, parameter in ((0x10, 0), (0x11, 3), (0x12, fitted.model.check)):
            values = rng.integers(0, rng.choice([3, 12, 256]), codes.size).astype("uint8")
            pairs = paired(values, *DIGITS[method & 0xF])
            frame = zstandard.ZstdCompressor(write_checksum=True).compress(pairs.tobytes())
            chunk = bytes([0xF1, method, parameter, 0xF1 ^ method ^ parameter ^ 0xFF]) + frame
            expected = reader()(chunk, shape, dtype, **fitted.to_json())
            assert np.array_equal(decode_chunk(chunk, shape, dtype, fitted), expected)


@settings(max_examples=12)
@given(
    width=st.sampled_from([1, 2, 15, 16, 17, 33]),
    decay=st.sampled_from([0, 7, 8, 13, 14, 15]),
    limit=st.sampled_from([60, 400, 2048]),
    seed=st.integers(0, 99),
)
def test_models_of_any_numbers_are_one_model_to_reader_and_kernels(
    width: int, decay: int, limit: int, seed: int
) -> None:
    """The largest weights and sums of innovations that a model allows are computed as the page says."""
    rng = np.random.default_rng(seed)
    # Frames of all or nothing move every row in one direction, which makes the largest sums there can be.
    bright = rng.choice([0, 255], (6, 1, 1)) * (rng.random((6, 40, width)) < rng.choice([0.9, 1]))
    codes = bright.astype("uint8")
    fitted = FrameConfiguration.fit(codes)
    assert fitted.model is not None
    above = rng.integers(-limit, limit + 1, 5)
    above = np.trunc(above * min(1, 2048 / max(1, np.abs(above).sum()))).astype(int)
    model = dataclasses.replace(
        fitted.model,
        temporal=(*(int(v) for v in rng.choice([-limit, 7, limit], 4)), int(rng.choice([-limit, 1 << 24]))),
        above=tuple(int(v) for v in above),
        decay=(fitted.model.decay[0], decay),
    )
    configuration = FrameConfiguration("compact", 0, model)
    payload = rng.integers(0, 256, codes.size).astype("uint8")
    for symbols in (payload, ranks_of(codes, model)):
        packed = zstandard.ZstdCompressor(write_checksum=True).compress(symbols.tobytes())
        chunk = bytes([0xF1, 2, model.check, 0xF1 ^ 2 ^ model.check ^ 0xFF]) + packed
        found = decode_chunk(chunk, codes.shape, "uint8", configuration)
        assert np.array_equal(reader()(chunk, codes.shape, "uint8", **configuration.to_json()), found)
    assert np.array_equal(found, codes)


def ranks_of(codes: np.ndarray, model: FrameModel) -> np.ndarray:
    """What the kernels store of codes under a model, whether or not an encoder would choose it."""
    known = frame_model.tables(model)
    q = codes[:, None]
    ranks = np.empty(q.shape, "uint8")
    _model_kernels.code_to_rank(
        q, ranks, np.empty(0, "uint8"), known.ranks, *known.numbers[1], frames._states(q)
    )
    return ranks


DIGITS = {0: (np.uint8(0), np.uint8(13)), 1: (np.uint8(6), np.uint8(13)), 2: (np.uint8(0), np.uint8(11))}


def paired(values: np.ndarray, bias: int, escape: int) -> np.ndarray:
    """Residuals or ranks as pairs and escapes, by the page's words."""
    symbols = (values.astype(int) + bias) % 256
    digits = np.append(np.minimum(symbols, escape), np.zeros(values.size % 2, int)).reshape(-1, 2)
    behind = symbols[symbols >= escape] - escape
    return np.concatenate([digits[:, 0] + 16 * digits[:, 1], behind]).astype("uint8")


@pytest.mark.parametrize("method", DIGITS)
@pytest.mark.parametrize("size", [0, 1, 2, 7, 8, 9, 31, 32, 33, 63, 64, 65, 999, 1000, 40000])
@pytest.mark.parametrize("top", [3, 11, 12, 256])
def test_pairs_equal_their_formula(rng: np.random.Generator, size: int, top: int, method: int) -> None:
    """The kernel's pairs and escapes are the page's, and give the values back."""
    values = (rng.integers(0, top, size) - (5 if method == 1 else 0)).astype("uint8")
    values[rng.random(size) < 0.02] = 200
    out = np.empty((size + 1) // 2 + size + 8, "uint8")
    found = out[: _frame_kernels.pair(values, *DIGITS[method], out)]
    assert np.array_equal(found, paired(values, *DIGITS[method]))
    back = np.empty_like(values)
    assert _frame_kernels.unpair(found, *DIGITS[method], back)
    assert np.array_equal(back, values)


@pytest.mark.parametrize("method", DIGITS)
@pytest.mark.parametrize("size", [13, 61, 201])
def test_false_pairs_are_refused(rng: np.random.Generator, size: int, method: int) -> None:
    """A missing or surplus escape, one too large, and a digit above the escape's are no content."""
    values = rng.integers(0, 6, size).astype("uint8")
    values[[2, size - 2]] = 200, 30
    good = paired(values, *DIGITS[method])
    back = np.empty_like(values)
    large, low, high, odd = (good.copy() for _ in range(4))
    large[-1], low[0], high[1], odd[(size - 1) // 2] = 255, 14, 14 << 4, 1 << 4
    assert _frame_kernels.unpair(good, *DIGITS[method], back)
    for data in (good[:-1], np.append(good, np.uint8(0)), good[:5], large, low, high, odd):
        assert not _frame_kernels.unpair(data, *DIGITS[method], back)


@pytest.mark.parametrize(("scale", "method"), [(2.0, 0x11), (12.0, 0x01)])
def test_narrow_residuals_are_paired_and_wide_ones_are_not(
    rng: np.random.Generator, scale: float, method: int
) -> None:
    """Noise of two codes is stored in pairs, which take less; residuals with many escapes are not."""
    codes = np.clip(np.rint(rng.normal(rng.uniform(60, 190, (80, 80)), scale, (40, 80, 80))), 0, 255).astype(
        "uint8"
    )
    chunk = encode_chunk(codes, FrameConfiguration())
    assert chunk[1] == method
    residuals = frames.running_residuals(codes[:, None], chunk[2])
    assert len(chunk) <= len(pack(residuals.reshape(-1))) + 4


def test_the_kernels_and_the_model_agree_on_their_constants() -> None:
    """The two modules that must not import each other count contexts alike."""
    assert _model_kernels.LEVELS == frame_model.LEVELS
    assert _model_kernels.CONTEXTS == frame_model.CONTEXTS


@pytest.mark.parametrize("bias", [0, 128])
def test_splitting_equals_its_formula(bias: int) -> None:
    """Every 16-bit value is split and joined as the page says."""
    values = np.arange(65536, dtype=np.uint16)
    low, high = np.empty(65536, np.uint8), np.empty(65536, np.uint8)
    _frame_kernels.split(values, np.uint16(bias), low, high)
    assert np.array_equal(low, values & 255)
    assert np.array_equal(high, ((values.astype(int) + bias) >> 8) & 255)
    assert np.array_equal(((low.astype(int) ^ bias) - bias + 256 * high.astype(int)) % 65536, values)


def test_entropy_equals_its_definition(rng: np.random.Generator) -> None:
    """The compiled entropy is the sum over the histogram."""
    for size in (1, 2, 5, 1003):
        values = rng.integers(0, 7, size).astype("uint8")
        share = np.bincount(values) / size
        share = share[share > 0]
        assert _frame_kernels.byte_entropy(values) == pytest.approx(-(share * np.log2(share)).sum())


def coders() -> list[Any]:
    """Coders of both presets and formats."""
    codes = np.random.default_rng(0).poisson(20, (30, 20, 20)).astype("uint16")
    return [
        FrameCoderV3(),
        FrameCoderV3(time_axis=None),
        FrameCoderV3.fit(codes),
        FrameCoderV3.fit(codes, preset="smallest"),
        FrameCoderV2((3, 4)),
        FrameCoderV2((3, 4), ">u2", time_axis=1),
        FrameCoderV2.fit(codes, (3, 4, 5)),
        FrameCoderV2.fit(codes, (3, 4, 5), preset="smallest"),
    ]


def test_all_metadata_obey_the_schemas() -> None:
    """What the codecs write, and the examples of the page, validate."""
    for coder in coders():
        if isinstance(coder, FrameCoderV3):
            validator(3).validate(json.loads(json.dumps(coder.to_dict())))
        else:
            validator(2).validate(json.loads(json.dumps(coder.get_config())))
    blocks = re.findall(r"```json\n(.*?)```", (PAGES / f"{NAME}.md").read_text(), re.DOTALL)
    v3, v2 = (json.loads(block) for block in blocks)
    validator(3).validate(v3["codecs"][-1])
    validator(2).validate(v2["compressor"])
    assert FrameCoderV3.from_dict(v3["codecs"][-1]) == FrameCoderV3()
    assert FrameCoderV2.from_config(v2["compressor"]) == FrameCoderV2((100, 256, 256))


@pytest.mark.parametrize(
    "change",
    [
        {"preset": "best"},
        {"preset": "compact"},
        {"preset": "smallest"},
        {"time_axis": -1},
        {"time_axis": "t"},
        {"later": 1},
        {"preset": None},
        {"model": {}},
    ],
    ids=str,
)
def test_schema_and_codec_refuse_the_same(change: dict[str, Any]) -> None:
    """A document that breaks a rule is refused by the schema and by the codec."""
    document = {"name": NAME, "configuration": {**FrameCoderV3().configuration.to_json(), **change}}
    assert not validator(3).is_valid(document)
    with pytest.raises((ValueError, TypeError)):
        FrameCoderV3.from_dict(document)
    stored = {"id": NAME, "chunk_shape": [3, 4], "dtype": "uint8", **document["configuration"]}
    assert not validator(2).is_valid(stored)
    with pytest.raises((ValueError, TypeError)):
        FrameCoderV2.from_config(stored)
