"""The stored formats as their pages in docs/reference describe them: schemas, readers, and frozen data.

The readers used here are the ones printed on the pages, run from the page; they know nothing of this package.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import math
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from anscombe_transform import AnscombeTransformV2, UnrepresentableError
from anscombe_transform.codec.transform.choice import fit
from anscombe_transform.codec.transform.configuration import Configuration, fields_of
from anscombe_transform.codec.transform.plan import plan

TESTS = Path(__file__).parent
PAGES = TESTS.parent / "docs" / "reference"
FROZEN = TESTS / "data" / "frozen"
FORMATS = ("anscombe-v1", "anscombe")
V3 = zarr.__version__ >= "3"

VECTORS: list[dict[str, Any]] = json.loads((FROZEN / "vectors.json").read_text())
ARRAYS: list[dict[str, Any]] = json.loads((FROZEN / "arrays.json").read_text())


@functools.cache
def page(name: str) -> str:
    """The text of a format's page."""
    return (PAGES / f"{name}.md").read_text()


@functools.cache
def reader(name: str) -> Any:
    """The reader that a format's page prints."""
    (code,) = re.findall(r"```python\n(.*?)```", page(name), re.DOTALL)
    names: dict[str, Any] = {"np": np, "math": math}
    exec(code, names)
    return names[f"read_{name[-2:] if name == 'anscombe-v1' else name}"]


def examples(name: str) -> list[dict[str, Any]]:
    """The JSON blocks of a format's page."""
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", page(name), re.DOTALL)]


def raw(entry: dict[str, Any]) -> np.ndarray:
    """Numbers of a raw file of the frozen data."""
    values = np.fromfile(FROZEN / entry["file"], np.dtype(entry["dtype"]).newbyteorder("<"))
    return values.reshape(entry["shape"]).astype(entry["dtype"])


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays agree in dtype, shape and every value, NaN included."""
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


@functools.cache
def validator(name: str, zarr_format: int) -> Any:
    """The validator of a schema; the schema itself is checked first."""
    jsonschema = pytest.importorskip("jsonschema", reason="schemas are checked with the package jsonschema")
    schema = json.loads((PAGES / "schemas" / f"{name}.zarr-v{zarr_format}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def documents(configuration: Configuration) -> dict[int, dict[str, Any]]:
    """The metadata of a configuration in both Zarr formats, as JSON gives it back."""
    codec = AnscombeTransformV2(**fields_of(configuration))
    found: dict[int, dict[str, Any]] = {2: codec.get_config()}
    found[3] = {"name": configuration.format, "configuration": configuration.to_json()}
    return {number: json.loads(json.dumps(document)) for number, document in found.items()}


def is_accepted(document: dict[str, Any], name: str, zarr_format: int) -> bool:
    """Whether the codec takes a stored document."""
    found = dict(document if zarr_format == 2 else document["configuration"])
    found.pop("id", None)
    try:
        Configuration.from_json(name, found)
    except (TypeError, ValueError):
        return False
    return True


def from_the_page(configuration: dict[str, Any], x: np.ndarray) -> np.ndarray:
    """Codes by the rules of the pages, without a range check."""
    nan_code = np.iinfo(configuration["encoded_dtype"]).max
    if "bins" in configuration:
        bins = configuration["bins"]
        widths = [n for w in bins["widths"] for n in ([w] if isinstance(w, int) else [w[0]] * w[1])]
        starts = bins["first"] + np.concatenate([[0], np.cumsum(widths)])
        codes = ((starts - 0.5) * bins["step"] <= x.astype(np.float64)[..., None]).sum(axis=-1) - 1
        return np.where(np.isnan(x), nan_code, codes).astype(configuration["encoded_dtype"])
    z, g = configuration["zero_level"], configuration["conversion_gain"]
    noise, beta = configuration.get("read_noise", 0), configuration.get("beta", 0.5)
    c = 0.375 + (noise / g) * (noise / g)
    r = math.sqrt(c)
    s = 1 / beta / r
    n = (x.astype(np.float64) - z) / g
    y = np.where(n < 0, n * s, 2 / beta * (np.sqrt(np.maximum(n, 0) + c) - r))
    codes = np.rint(z * s / g + y)
    return np.where(np.isnan(codes), nan_code, codes).astype(configuration["encoded_dtype"])


INTEGERS = ("int8", "int16", "int32", "uint8", "uint16", "uint32")
v1_configurations = st.builds(
    Configuration,
    zero_level=st.one_of(st.floats(-30, 1000), st.integers(-30, 1000)),
    conversion_gain=st.floats(0.3, 1000),
    encoded_dtype=st.sampled_from(["uint8", "uint16", "int16"]),
    decoded_dtype=st.sampled_from([*INTEGERS, "int64", "float32", "float64"]),
)


@st.composite
def v2_configurations(draw: st.DrawFn) -> Configuration:
    """Configurations of v2 with a table as long as a range of signals needs."""
    dtype = draw(st.sampled_from([*INTEGERS, "int64", "float32", "float64"]))
    limits = np.iinfo(dtype) if dtype in (*INTEGERS, "int64") else np.iinfo("int32")
    low = draw(st.integers(max(limits.min, -3000), min(limits.max, 500)))
    high = draw(st.integers(low, min(limits.max, 40_000)))
    base = Configuration(
        zero_level=draw(st.floats(-200, 1000)),
        conversion_gain=draw(st.floats(0.3, 300)),
        encoded_dtype=draw(st.sampled_from(["uint8", "uint16"])),
        decoded_dtype=dtype,
        read_noise=draw(st.sampled_from([0.0, 1.5, 40.0])),
        beta=draw(st.sampled_from([0.25, 0.5, 1.0])),
        zero_code=0,
        out_of_range=draw(st.sampled_from(["raise", "clip"])),
    )
    try:
        return fit(base, low, high)
    except ValueError:
        return Configuration(100, 300.0, "uint16", "int16", zero_code=draw(st.integers(0, 100)))


# -- the pages -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_the_examples_of_the_pages_are_valid(name: str) -> None:
    """Every JSON example obeys the schema, and the codec takes it and would write the same."""
    blocks = examples(name)
    assert {"codecs" in block for block in blocks} == {True, False}
    for block in blocks:
        number = 3 if "codecs" in block else 2
        (entry,) = (e for e in block["codecs" if number == 3 else "filters"] if name in e.values())
        validator(name, number).validate(entry)
        stored = dict(entry if number == 2 else entry["configuration"])
        stored.pop("id", None)
        assert Configuration.from_json(name, stored).to_json() == stored


@pytest.mark.parametrize("name", FORMATS)
def test_the_tables_of_the_pages_are_right(name: str) -> None:
    """Each example value has the code, and decodes to the value, that the page says."""
    pieces = re.split(r"```json\n(.*?)```", page(name), flags=re.DOTALL)
    tables = 0
    for block, text in zip(pieces[1::2], pieces[2::2], strict=True):
        rows = re.findall(r"^\| (-?[\d.]+|NaN) \| (\d+) \| (-?[\d.]+|NaN) \|$", text, re.MULTILINE)
        if not rows:
            continue
        tables += 1
        document = json.loads(block)
        entry = next(e for e in document.get("codecs", document.get("filters")) if name in e.values())
        stored = dict(entry.get("configuration", entry))
        stored.pop("id", None)
        p = plan(Configuration.from_json(name, stored))
        columns = [np.array([float(row[i]) for row in rows]) for i in range(3)]
        codes = p.encode(columns[0].astype(p.decoded_dtype))
        assert np.array_equal(codes, columns[1])
        assert same(p.decode(codes), columns[2].astype(p.decoded_dtype))
    assert tables == (1 if name == "anscombe-v1" else 2)


def test_the_schemas_and_names_of_the_pages_exist() -> None:
    """Every link of the pages into the documentation leads somewhere."""
    for name in FORMATS:
        links = re.findall(r"\]\(([^#)]+)\)", page(name))
        assert len(links) >= 2
        assert all((PAGES / link).exists() for link in links)


# -- schemas ---------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(configuration=st.one_of(v1_configurations, v2_configurations()))
def test_all_metadata_we_write_obey_the_schemas(configuration: Configuration) -> None:
    """Both formats in both Zarr formats, whatever the parameters."""
    try:
        stored = documents(configuration)
    except ValueError:
        return
    for number, document in stored.items():
        validator(configuration.format, number).validate(document)


def test_big_endian_values_are_spelled_in_v2_alone() -> None:
    """A big-endian dtype is a matter of Zarr V2; the V3 schema does not know it."""
    for parameters in ({}, {"zero_code": 3}):
        stored = documents(Configuration(20, 30.0, "uint8", ">i2", **parameters))  # type: ignore[arg-type]
        name = stored[2]["id"]
        assert validator(name, 2).is_valid(stored[2])
        assert not validator(name, 3).is_valid(stored[3])


CHANGES: list[dict[str, Any]] = [
    {"photons": 1},
    {"conversion_gain": 0},
    {"conversion_gain": -1.0},
    {"conversion_gain": "30"},
    {"conversion_gain": None},
    {"zero_level": True},
    {"zero_level": 2**60},
    {"encoded_dtype": "float32"},
    {"encoded_dtype": "uint64"},
    {"decoded_dtype": "complex64"},
    {"decoded_dtype": "float16"},
    {"read_noise": -1},
    {"read_noise": 3.0},
    {"beta": 0},
    {"beta": 5},
    {"beta": 0.75},
    {"zero_code": 4},
    {"bins": {}},
    {"bins": [1, 2]},
    {"bins": {"first": 0, "step": 1, "widths": []}},
    {"bins": {"first": 0, "step": 1, "widths": [0]}},
    {"bins": {"first": 0, "step": 1, "widths": [[1]]}},
    {"bins": {"first": 0, "step": 1, "widths": [[1, 2, 3]]}},
    {"bins": {"first": 0, "step": 1, "widths": [1.5]}},
    {"bins": {"first": 0.5, "step": 1, "widths": [1]}},
    {"bins": {"first": 0, "step": 0, "widths": [1]}},
    {"bins": {"first": 0, "step": 1, "widths": [1], "more": 1}},
    {"bins": {"first": 2**53, "step": 1, "widths": [1]}},
    {"out_of_range": "wrap"},
    {"out_of_range": "clip"},
    {"decode_table": []},
    {"decode_table": [1.0, "NaN"]},
    {"decode_table": list(range(257))},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: str(change)[:40])
@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("name", FORMATS)
def test_schema_and_codec_refuse_the_same(name: str, number: int, change: dict[str, Any]) -> None:
    """A changed document is valid by the schema where the codec takes it, and only there."""
    document = documents(Configuration(20, 30.0, zero_code=3 if name == "anscombe" else None))[number]
    (document if number == 2 else document["configuration"]).update(change)
    assert validator(name, number).is_valid(document) == is_accepted(document, name, number)


@pytest.mark.parametrize("key", ["bins", "decode_table"])
def test_null_is_no_stored_value(key: str) -> None:
    """A stored document leaves nothing to be derived, by the schema and by the codec."""
    document = documents(Configuration(20, 30.0, zero_code=3))[2] | {key: None}
    assert not validator("anscombe", 2).is_valid(document)
    assert not is_accepted(document, "anscombe", 2)


@pytest.mark.parametrize("name", FORMATS)
def test_the_schemas_ask_for_what_the_codec_asks(name: str) -> None:
    """A key is required by the schema if the codec refuses a document without it."""
    for number in (2, 3):
        whole = documents(Configuration(20, 30.0, zero_code=3 if name == "anscombe" else None))[number]
        for key in [k for k in whole.get("configuration", whole) if k != "id"]:
            document = json.loads(json.dumps(whole))
            del document.get("configuration", document)[key]
            assert validator(name, number).is_valid(document) == is_accepted(document, name, number), key


# -- the readers of the pages ----------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(configuration=st.one_of(v1_configurations, v2_configurations()), seed=st.integers(0, 99))
def test_the_printed_readers_give_what_the_codec_gives(configuration: Configuration, seed: int) -> None:
    """The table of anscombe and the formula of v1 decode every code that a value has, to the same bits."""
    try:
        p = plan(configuration)
    except ValueError:
        return
    rng = np.random.default_rng(seed)
    x = rng.uniform(p.lowest, p.highest, 2000)
    if p.decoded_dtype.kind != "f":
        x = np.append(np.clip(np.rint(x), p.lowest, p.highest), [p.lowest, p.highest])
    x = x.astype(p.decoded_dtype)
    if p.decoded_dtype.kind == "f":
        x = np.append(
            x[(x >= p.lowest) & (x <= p.highest)], np.repeat(x.dtype.type(np.nan), configuration.keeps_nan)
        )
    codes = p.encode(x)
    stored = json.loads(json.dumps(configuration.to_json()))
    assert same(reader(configuration.format)(codes, **stored), p.decode(codes))
    assert np.array_equal(from_the_page(stored, x), codes)


# -- frozen data -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["name"]))
def test_golden_vectors(vector: dict[str, Any]) -> None:
    """Values encode to the frozen codes and codes decode to the frozen values, by codec and by page."""
    name, stored = vector["format"], vector["configuration"]
    signal, codes, decoded = (raw(vector[key]) for key in ("signal", "codes", "decoded"))
    configuration = Configuration.from_json(name, stored)
    assert configuration.to_json() == stored
    p = plan(configuration)
    assert (p.lowest, p.highest) == (vector["lowest"], vector["highest"])
    assert same(p.encode(signal), codes)
    assert same(p.decode(codes), decoded)
    assert same(reader(name)(codes, **stored), decoded)
    inside = signal
    if stored.get("out_of_range") == "clip":
        inside = np.clip(signal, vector["lowest"], vector["highest"])
    assert same(from_the_page(stored, inside), codes)
    for value in vector["refused"]:
        with pytest.raises(UnrepresentableError):
            p.encode(np.array([value], signal.dtype))


def test_the_golden_vectors_reach_every_corner() -> None:
    """Both formats, both widths of codes, all types of values, NaN, clipping, and codes that no value has."""
    assert {v["format"] for v in VECTORS} == set(FORMATS)
    assert {v["configuration"]["encoded_dtype"] for v in VECTORS} == {"uint8", "uint16"}
    dtypes = {v["configuration"]["decoded_dtype"] for v in VECTORS}
    assert dtypes == {*INTEGERS, "int64", "float32", "float64"}
    assert any(v["configuration"].get("out_of_range") == "clip" for v in VECTORS)
    assert sum(np.isnan(raw(v["decoded"]).astype(float)).any() for v in VECTORS) == 2


@pytest.mark.parametrize("entry", ARRAYS, ids=lambda entry: str(entry["name"]))
def test_frozen_arrays_read_as_they_did(entry: dict[str, Any]) -> None:
    """The arrays open and give the frozen values."""
    if entry["zarr_format"] == 3 and not V3:
        pytest.skip("zarr-python 2 reads no V3 arrays")
    folder = FROZEN / entry["array"]
    values = zarr.open(str(folder), mode="r")[:]
    assert same(values.astype(values.dtype.newbyteorder("=")), raw(entry["values"]))


@pytest.mark.parametrize("entry", [*VECTORS, *ARRAYS], ids=lambda entry: str(entry["name"]))
def test_frozen_metadata_obey_the_schemas(entry: dict[str, Any]) -> None:
    """What was written once is valid for ever."""
    if "configuration" in entry:
        validator(entry["format"], 3).validate(
            {"name": entry["format"], "configuration": entry["configuration"]}
        )
        return
    number = entry["zarr_format"]
    file = FROZEN / entry["array"] / ("zarr.json" if number == 3 else ".zarray")
    metadata = json.loads(file.read_text())
    codec = metadata["codecs" if number == 3 else "filters"][0]
    if codec.get("name") == "sharding_indexed":
        codec = codec["configuration"]["codecs"][0]
    validator(codec["name" if number == 3 else "id"], number).validate(codec)


def test_frozen_data_are_not_written_again() -> None:
    """The script that made them refuses to run twice."""
    spec = importlib.util.spec_from_file_location("make_frozen", TESTS / "data" / "make_frozen.py")
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    if not V3:
        pytest.skip("the script needs zarr-python 3")
    spec.loader.exec_module(module)
    with pytest.raises(SystemExit, match="never written again"):
        module.main()
