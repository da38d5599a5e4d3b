"""Switching an array between our description and the registered ``cast_value``."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

if zarr.__version__ < "3":
    pytest.skip("zarr-python 2 has no Zarr V3", allow_module_level=True)

from zarr.codecs import BytesCodec, TransposeCodec, ZstdCodec

from anscombe_transform import AnscombeTransformV2, AnscombeTransformV3
from anscombe_transform.codec.portable import ATTRIBUTE, make_native, make_portable
from anscombe_transform.codec.transform.choice import fit
from anscombe_transform.codec.transform.configuration import Configuration

REFERENCE = Path(__file__).parent / "data" / "reference-1.0.0" / "movie_zarr_v3.zarr"


def held(*parameters: Any) -> AnscombeTransformV3:
    """A codec whose table ends with the movies used here."""
    configuration = fit(Configuration(*parameters), -60, 1500, choose_codes=False)
    return AnscombeTransformV3(**{f.name: getattr(configuration, f.name) for f in fields(configuration)})


CASES: dict[str, tuple[str, AnscombeTransformV3, dict[str, Any]]] = {
    "v1": ("int16", AnscombeTransformV3(20, 30.0), {}),
    "v1-uint16-codes": ("uint16", AnscombeTransformV3(20, 0.4, "uint16"), {}),
    "v1-fill": ("int16", AnscombeTransformV3(20, 30.0), {"fill_value": 1000}),
    "v2-int16": ("int16", AnscombeTransformV3(0, 30.0, beta=0.25, zero_code=20), {"fill_value": -40}),
    "v2-uint16-codes": ("uint16", AnscombeTransformV3(100, 2.0, "uint16", read_noise=3.0, zero_code=200), {}),
    "v2-float32": ("float32", AnscombeTransformV3(0, 30.0, zero_code=20), {"fill_value": float("nan")}),
    "v2-float64": ("float64", held(0, 3.0, "uint16", "float64"), {"fill_value": 7.25}),
    "sharded": ("int16", AnscombeTransformV3(20, 30.0), {"shards": (8, 32, 32)}),
    "big-endian": ("int32", AnscombeTransformV3(20, 0.4, "uint16"), {"serializer": BytesCodec(endian="big")}),
    "zstd": ("int16", AnscombeTransformV3(20, 30.0), {"compressors": ZstdCodec(level=1, checksum=True)}),
}


def make_array(path: Path, case: str, rng: np.random.Generator) -> np.ndarray:
    """Write one of the cases, with a chunk missing and one partly written; return what it reads as."""
    dtype, codec, layout = CASES[case]
    movie = (30 * rng.poisson(8, (9, 20, 30)) + 20).astype(dtype)
    if movie.dtype.kind == "f":
        movie[:, 3] = np.nan
    if codec.zero_code is not None and dtype != "uint16":
        movie[0] -= 50
    array = zarr.create_array(
        str(path), shape=(13, 20, 30), dtype=dtype, filters=[codec], **{"chunks": (4, 16, 16)} | layout
    )
    array[:7] = movie[:7]
    array.attrs["experiment"] = {"depth": 0.1, "name": "α"}
    values: np.ndarray = zarr.open_array(str(path), mode="r")[:]
    return values


def snapshot(path: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and time of change of every chunk."""
    files = (f for f in path.rglob("*") if f.is_file() and f.name != "zarr.json")
    return {str(f): (f.read_bytes(), f.stat().st_mtime_ns) for f in files}


def needs_cast_value() -> None:
    """Skip where zarr-python cannot read ``cast_value``."""
    pytest.importorskip("zarr.codecs.cast_value", reason="this zarr-python has no cast_value codec")
    pytest.importorskip("cast_value_rs", reason="zarr's cast_value needs the package cast-value-rs")


@pytest.mark.parametrize("case", CASES)
def test_the_way_there_and_back_leaves_every_byte(
    case: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    """zarr.json comes back byte for byte, and no chunk is touched on the way."""
    make_array(tmp_path / "a.zarr", case, rng)
    metadata = tmp_path / "a.zarr" / "zarr.json"
    text, chunks = metadata.read_bytes(), snapshot(tmp_path)
    assert chunks
    make_portable(tmp_path / "a.zarr")
    assert b'"cast_value"' in metadata.read_bytes()
    assert snapshot(tmp_path) == chunks
    make_native(tmp_path / "a.zarr")
    assert metadata.read_bytes() == text
    assert snapshot(tmp_path) == chunks


@pytest.mark.parametrize("case", CASES)
def test_a_portable_array_reads_identically_without_us(
    case: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    """zarr-python reads the same values with codecs of its own alone."""
    needs_cast_value()
    expected = make_array(tmp_path / "a.zarr", case, rng)
    make_portable(tmp_path / "a.zarr")
    np.save(tmp_path / "expected.npy", expected)
    script = (
        "import sys, zarr, numpy as np\n"
        "array = zarr.open_array(sys.argv[1], mode='r')\n"
        "values, expected = array[:], np.load(sys.argv[2])\n"
        "assert values.dtype == expected.dtype\n"
        "assert np.array_equal(values, expected, equal_nan=values.dtype.kind == 'f')\n"
        "assert 'anscombe_transform' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a.zarr"), str(tmp_path / "expected.npy")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("case", CASES)
def test_what_was_read_is_stored_again_as_the_same_codes(
    case: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    """Decoded values written through ``cast_value`` come back, and partial writes keep their neighbours."""
    needs_cast_value()
    expected = make_array(tmp_path / "a.zarr", case, rng)
    make_portable(tmp_path / "a.zarr")
    array = zarr.open_array(str(tmp_path / "a.zarr"))
    array[1:6, 3:7, 5:20] = expected[1:6, 3:7, 5:20]
    assert np.array_equal(array[:], expected, equal_nan=expected.dtype.kind == "f")
    make_native(tmp_path / "a.zarr")
    native = zarr.open_array(str(tmp_path / "a.zarr"))[:]
    assert np.array_equal(native, expected, equal_nan=expected.dtype.kind == "f")


def test_integers_in_uint8_codes_cannot_be_stored_wrongly() -> None:
    """Every int16 either has the code that the transform gives it, or is refused."""
    needs_cast_value()
    codec = AnscombeTransformV3(20, 30.0)
    store: dict[str, Any] = {}
    zarr.create_array(store, shape=(1,), dtype="int16", filters=[codec], compressors=None)
    make_portable(store)
    array = zarr.open_array(store)
    # 0 is the fill value, which a chunk never written gives exactly.
    for value in [*range(1, 300), 1000, 5000, 32767, -1]:
        expected = codec._decode(codec._encode(np.array([value], "int16")))[0] if value >= 0 else None
        try:
            array[:] = value
        except Exception:
            continue
        assert array[0] == expected


def test_arrays_with_a_transpose_and_a_fill_value_of_1_0_0(tmp_path: Path) -> None:
    """Codecs before ours are allowed, and a fill value that has no code keeps reading as it did."""
    codecs = [TransposeCodec(order=(1, 0)), AnscombeTransformV3(20, 30.0), BytesCodec()]
    movie = np.arange(0, 3000, 10, dtype="int16").reshape(20, 15)
    path = tmp_path / "a.zarr"
    zarr.save_array(str(path), movie, codecs=codecs)
    document = json.loads((path / "zarr.json").read_text())
    document["fill_value"] = -5
    (path / "zarr.json").write_text(json.dumps(document))
    expected = zarr.open_array(str(path), mode="r")[:]
    make_portable(path)
    encode = json.loads((path / "zarr.json").read_text())["codecs"][1]["configuration"]["scalar_map"][
        "encode"
    ]
    assert [-5, 0] in encode
    needs_cast_value()
    assert np.array_equal(zarr.open_array(str(path), mode="r")[:], expected)


@pytest.mark.parametrize(
    "style",
    [{"indent": 4}, {"separators": (",", ":")}, {"sort_keys": True, "indent": 2}],
    ids=["indented", "compact", "sorted"],
)
@pytest.mark.parametrize("attributes", [True, False])
def test_a_foreign_writers_text_comes_back(tmp_path: Path, style: dict[str, Any], attributes: bool) -> None:
    """Spacing, order and absent attributes of another writer survive."""
    path = tmp_path / "a.zarr"
    zarr.create_array(str(path), shape=(4, 4), dtype="int16", filters=[AnscombeTransformV3(20, 30.0)])
    document = json.loads((path / "zarr.json").read_text())
    if not attributes:
        del document["attributes"]
    text = json.dumps(document, **style)
    (path / "zarr.json").write_text(text)
    make_portable(path)
    make_native(path)
    assert (path / "zarr.json").read_text() == text


def test_changes_made_in_between_are_kept(tmp_path: Path) -> None:
    """New attributes and a new shape survive the way back, whatever text was kept."""
    path = tmp_path / "a.zarr"
    zarr.create_array(str(path), shape=(4, 4), dtype="int16", filters=[AnscombeTransformV3(20, 30.0)])
    document = json.loads((path / "zarr.json").read_text())
    for text in (json.dumps(document, indent=2), json.dumps(document)):
        (path / "zarr.json").write_text(text)
        make_portable(path)
        changed = json.loads((path / "zarr.json").read_text())
        changed["attributes"]["later"] = 1
        changed["shape"] = [8, 4]
        (path / "zarr.json").write_text(json.dumps(changed))
        make_native(path)
        array = zarr.open_array(str(path))
        assert array.shape == (8, 4)
        assert dict(array.attrs) == {"later": 1}
        assert isinstance(array.metadata.codecs[0], AnscombeTransformV3)


def test_changes_by_zarr_itself_are_kept(tmp_path: Path) -> None:
    """An array resized while portable is, made native, what it would be had it been native all along."""
    needs_cast_value()
    for case in ("v1", "v2-float32", "sharded"):
        texts = []
        for portable in (True, False):
            path = tmp_path / f"{case}-{portable}.zarr"
            make_array(path, case, np.random.default_rng(0))
            if portable:
                make_portable(path)
            array = zarr.open_array(str(path))
            array.resize((40, 20, 30))
            array.attrs["later"] = [1.5, "β"]
            if portable:
                make_native(path)
            texts.append((path / "zarr.json").read_bytes())
        assert texts[0] == texts[1]


def test_open_arrays_and_stores_are_taken() -> None:
    """An array object, a store and a path inside a group name the array as well as its own path does."""
    store = zarr.storage.MemoryStore()
    group = zarr.create_group(store)
    array = group.create_array("movie", shape=(4, 4), dtype="int16", filters=[AnscombeTransformV3(20, 30.0)])
    before = store._store_dict["movie/zarr.json"].to_bytes()
    make_portable(array)
    assert b"cast_value" in store._store_dict["movie/zarr.json"].to_bytes()
    make_native(array)
    assert store._store_dict["movie/zarr.json"].to_bytes() == before


def test_the_array_of_1_0_0_can_be_made_portable(tmp_path: Path) -> None:
    """An array that anscombe-transform 1.0.0 wrote gives the integers that it read."""
    (tmp_path / "zarr.json").write_bytes((REFERENCE / "zarr.json").read_bytes())
    make_portable(tmp_path)
    configuration = json.loads((tmp_path / "zarr.json").read_text())["codecs"][0]["configuration"]
    decode = dict(configuration["scalar_map"]["decode"])
    codes = np.arange(len(decode), dtype="uint8")
    assert AnscombeTransformV2(20, 30.0).decode(codes).tolist() == [decode[int(q)] for q in codes]


def test_what_cannot_be_described_is_refused(tmp_path: Path) -> None:
    """V2, no transform, two of them, the frame coder, a group, twice, nothing: each says what is wrong."""
    codec = AnscombeTransformV3(20, 30.0)
    few: dict[str, Any] = {"shape": (4, 4), "dtype": "int16"}
    zarr.create_array(
        str(tmp_path / "v2"), zarr_format=2, filters=[AnscombeTransformV2(20, 30.0)], fill_value=20, **few
    )
    zarr.create_array(str(tmp_path / "plain"), **few)
    zarr.create_array(str(tmp_path / "ours"), filters=[codec], **few)
    zarr.create_group(str(tmp_path / "group"))
    frames = tmp_path / "frames"
    frames.mkdir()
    document = json.loads((tmp_path / "ours" / "zarr.json").read_text())
    document["codecs"][1:] = [{"name": "anscombe_frames", "configuration": {}}]
    (frames / "zarr.json").write_text(json.dumps(document))
    twice = tmp_path / "twice"
    twice.mkdir()
    document["codecs"] = [document["codecs"][0], document["codecs"][0], "bytes"]
    (twice / "zarr.json").write_text(json.dumps(document))
    for name, message in {
        "v2": "Zarr V2",
        "plain": "one Anscombe transform",
        "group": "not an array",
        "frames": "frame coder",
        "twice": "it has 2",
    }.items():
        with pytest.raises(ValueError, match=message):
            make_portable(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        make_portable(tmp_path / "nothing")
    with pytest.raises(ValueError, match=ATTRIBUTE):
        make_native(tmp_path / "ours")
    make_portable(tmp_path / "ours")
    with pytest.raises(ValueError, match="portable already"):
        make_portable(tmp_path / "ours")
    document = json.loads((tmp_path / "ours" / "zarr.json").read_text())
    document["codecs"].pop(0)
    (tmp_path / "ours" / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match="changed since make_portable"):
        make_native(tmp_path / "ours")


@pytest.mark.parametrize("dtype", ["int16", "uint16", "float32"])
def test_zarr_without_cast_value_reads_portable_arrays(dtype: str, tmp_path: Path) -> None:
    """Beside this package any zarr-python of 3.1.1 or later opens a portable array, for reading only."""
    import anscombe_transform as at
    from anscombe_cast_value import CastValue
    from anscombe_transform.codec.cast_value import CastValueReader

    if CastValue is not CastValueReader:
        pytest.skip("this zarr-python has a codec cast_value of its own")
    movie = (50 + 90 * np.random.default_rng(0).poisson(8, (8, 32, 32))).astype(dtype)
    if dtype == "float32":
        movie[0, 0, 0] = np.nan
    codec = at.Sensitivity.from_known(conversion_gain=90, zero_level=50).codec(sample=movie)
    for shards in (None, (8, 32, 32)):
        place = tmp_path / f"{shards is None}.zarr"
        array = zarr.create_array(place, data=movie, filters=[codec], chunks=(4, 16, 16), shards=shards)
        values = array[:]
        make_portable(place)
        stored = zarr.open_array(place)
        np.testing.assert_array_equal(stored[:], values)
        np.testing.assert_array_equal(at.open_movie(place)[:], values)
        with pytest.raises(TypeError, match="make_native"):
            stored[:] = values
        make_native(place)
        np.testing.assert_array_equal(zarr.open_array(place)[:], values)


def test_reader_of_cast_value_refuses_other_maps() -> None:
    """Without a value for every code, the reader refuses the codec, and a damaged code when it reads."""
    from anscombe_transform.codec.cast_value import CastValueReader

    for configuration in ({"data_type": "uint8"}, {"data_type": "int32", "scalar_map": {"decode": [[0, 1]]}}):
        with pytest.raises(ValueError, match="cast_value"):
            CastValueReader.from_dict({"name": "cast_value", "configuration": configuration})
