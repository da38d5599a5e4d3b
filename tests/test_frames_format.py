"""The frame coder's format as its page describes it: the printed reader, schemas and frozen chunks."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from anscombe_transform import FrameCoderV2, FrameCoderV3
from anscombe_transform.codec.frames import FrameConfiguration, decode_chunk
from anscombe_transform.native import reference_frames

TESTS = Path(__file__).parent
PAGES = TESTS.parent / "docs" / "reference"
FROZEN = TESTS / "data" / "frozen"
NAME = "anscombe_frames"
CHUNKS: list[dict[str, Any]] = json.loads((FROZEN / "chunks.json").read_text())
ARRAYS: list[dict[str, Any]] = json.loads((FROZEN / "frames.json").read_text())


@functools.cache
def printed_reader() -> Any:
    """The reader that the page prints; it knows nothing of this package."""
    (code,) = re.findall(r"```python\n(.*?)```", (PAGES / f"{NAME}.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    return names["decode_chunk"]


@functools.cache
def validator(zarr_format: int) -> Any:
    """The validator of a schema; the schema itself is checked first."""
    jsonschema = pytest.importorskip("jsonschema", reason="schemas are checked with the package jsonschema")
    schema = json.loads((PAGES / "schemas" / f"{NAME}.zarr-v{zarr_format}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def frozen_codes(entry: dict[str, Any]) -> np.ndarray:
    """The codes that a frozen chunk or array holds."""
    dtype = np.dtype(entry["dtype"]).newbyteorder("<")
    return np.fromfile(FROZEN / entry["codes"], dtype).reshape(entry["shape"])


@pytest.mark.parametrize("entry", CHUNKS, ids=lambda entry: entry["name"])
def test_frozen_chunks_read_as_they_did(entry: dict[str, Any]) -> None:
    """Chunks written when the format was fixed still give their codes, by every reader."""
    data, codes = (FROZEN / entry["chunk"]).read_bytes(), frozen_codes(entry)
    configuration = FrameConfiguration(time_axis=entry["time_axis"])
    assert np.array_equal(decode_chunk(data, codes.shape, codes.dtype, configuration), codes)
    axis = entry["time_axis"]
    frames = codes if axis is None else np.moveaxis(codes, axis, 0)
    frames = np.ascontiguousarray(frames).reshape(-1, *frames.shape[-2:])
    for reader in (printed_reader(), reference_frames.decode_chunk):
        assert np.array_equal(reader(data, *frames.shape, codes.dtype.newbyteorder("=")), frames)


def test_frozen_chunks_hold_every_feature() -> None:
    """The frozen chunks have every method, entropy coder, low bits, folding, lags and escapes."""
    data = [(FROZEN / entry["chunk"]).read_bytes() for entry in CHUNKS]
    coded = [chunk for chunk in data if chunk[1] == 1]
    assert {chunk[1] for chunk in data} == {0, 1, 2}
    assert {chunk[2] for chunk in coded} == {0, 1}
    assert {chunk[3] for chunk in coded} == {16, 64, 136, 160}
    assert min(chunk[4] for chunk in coded) == 0 < max(chunk[4] for chunk in coded)
    assert {1, 2} <= {chunk[8] for chunk in coded}
    assert any(int.from_bytes(chunk[20:24], "little") for chunk in coded)


@pytest.mark.parametrize("entry", ARRAYS, ids=lambda entry: entry["name"])
def test_frozen_arrays_read_as_they_did(entry: dict[str, Any]) -> None:
    """Arrays written when the format was fixed still give their codes."""
    array = zarr.open_array(FROZEN / entry["array"], mode="r")
    assert np.array_equal(array[:], frozen_codes(entry))


def test_the_page_prints_the_definition() -> None:
    """The reader on the page is the one that the core is tested against, line by line."""
    (code,) = re.findall(r"```python\n(.*?)```", (PAGES / f"{NAME}.md").read_text(), re.DOTALL)
    assert code.rstrip() in Path(reference_frames.__file__).read_text()


def coders() -> list[Any]:
    """Coders of both presets and formats."""
    return [
        FrameCoderV3(),
        FrameCoderV3(time_axis=None),
        FrameCoderV3("compact"),
        FrameCoderV2((3, 4)),
        FrameCoderV2((3, 4), ">u2", time_axis=1),
        FrameCoderV2((3, 4, 5), preset="compact"),
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
