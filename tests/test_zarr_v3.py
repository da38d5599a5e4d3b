"""The codec in Zarr V3 arrays."""

from __future__ import annotations

import asyncio
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

if zarr.__version__ < "3":
    pytest.skip("zarr-python 2 has no Zarr V3", allow_module_level=True)

from zarr.abc.codec import ArrayArrayCodec
from zarr.codecs import BytesCodec, ZstdCodec
from zarr.core.array_spec import ArrayConfig, ArraySpec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.dtype import parse_dtype
from zarr.registry import get_codec_class

from anscombe_transform import AnscombeTransformV2, AnscombeTransformV3, UnrepresentableError
from anscombe_transform.codec.transform.configuration import NAMES


def spec(shape: tuple[int, ...], dtype: str = "int16", fill: Any = 0) -> ArraySpec:
    """A chunk's specification, as zarr hands it to codecs."""
    return ArraySpec(
        shape=shape,
        dtype=parse_dtype(np.dtype(dtype), zarr_format=3),
        fill_value=fill,
        config=ArrayConfig(order="C", write_empty_chunks=False),
        prototype=default_buffer_prototype(),
    )


@pytest.fixture
def movie(rng: np.random.Generator) -> np.ndarray:
    """Counts of about 8 photons at gain 30."""
    return (30 * rng.poisson(8, (7, 20, 30)) + 20).astype("int16")


@pytest.fixture(params=[{}, {"zero_code": 20, "beta": 0.25}], ids=["v1", "v2"])
def codec(request: pytest.FixtureRequest) -> AnscombeTransformV3:
    """A codec of each format."""
    return AnscombeTransformV3(20, 30.0, **request.param)


@pytest.mark.parametrize(
    "layout",
    [
        {"chunks": (4, 16, 16)},
        {"chunks": (2, 8, 8), "shards": (4, 16, 32)},
        {"chunks": (4, 16, 16), "serializer": BytesCodec(endian="big")},
        {"chunks": (4, 16, 16), "compressors": ZstdCodec(level=1, checksum=True)},
        {"chunks": (4, 16, 16), "compressors": None},
    ],
    ids=["plain", "sharded", "big-endian", "zstd", "uncompressed"],
)
def test_an_array_reads_back_as_decoded(
    tmp_path: Path, movie: np.ndarray, codec: AnscombeTransformV3, layout: dict[str, Any]
) -> None:
    """In shards, with either byte order of the codes, compressed or not, with overhanging chunks."""
    zarr.create_array(str(tmp_path / "a.zarr"), data=movie, filters=[codec], **layout)
    array = zarr.open_array(str(tmp_path / "a.zarr"), mode="r")
    assert array.dtype == movie.dtype
    assert np.array_equal(array[:], codec._decode(codec._encode(movie)))
    assert np.array_equal(array[2:5, 3:9, ::3], codec._decode(codec._encode(movie[2:5, 3:9, ::3])))


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int32", "uint32", "int64", "float32", "float64"])
def test_the_array_gives_its_dtype(dtype: str, rng: np.random.Generator) -> None:
    """`decoded_dtype` is the array's, whatever the codec was made with."""
    movie = (3 * rng.poisson(8, (5, 20, 30)) + 5).astype(dtype)
    array = zarr.create_array({}, data=movie, filters=[AnscombeTransformV3(5, 3.0, zero_code=10)])
    assert array.dtype == np.dtype(dtype)
    stored = array.metadata.to_dict()["codecs"][0]
    assert stored["configuration"]["decoded_dtype"] == dtype
    bound = AnscombeTransformV3(5, 3.0, decoded_dtype=dtype, zero_code=10).plan.max_error(movie)
    assert (np.abs(array[:].astype(float) - movie) <= bound + 1e-6 * np.abs(movie)).all()


def test_values_of_a_wide_array_are_held_or_refused() -> None:
    """A codec made for int16 and put on a uint16 array holds the whole of uint16."""
    movie = np.arange(65536, dtype="uint16").reshape(4, 128, 128)
    codec = AnscombeTransformV3(100, 2.17, "uint16")
    array = zarr.create_array({}, data=movie, filters=[codec])
    bound = AnscombeTransformV3(100, 2.17, "uint16", "uint16").plan.max_error(movie)
    assert (np.abs(array[:].astype(int) - movie) <= bound).all()


@pytest.mark.parametrize("dtype", ["complex64", "bool"])
def test_a_dtype_without_photons_is_refused_at_creation(dtype: str) -> None:
    """An array that cannot hold a signal is an error before anything is written."""
    with pytest.raises(ValueError, match="decoded_dtype"):
        zarr.create_array({}, shape=(4, 4), dtype=dtype, filters=[AnscombeTransformV3(5, 3.0)])


def test_new_processes_open_it_without_importing_us(
    tmp_path: Path, movie: np.ndarray, codec: AnscombeTransformV3
) -> None:
    """The entry points are enough: the reader imports zarr alone, under the alias too."""
    path = tmp_path / "a.zarr"
    zarr.create_array(str(path), data=movie, filters=[codec])
    np.save(tmp_path / "expected.npy", codec._decode(codec._encode(movie)))
    metadata = json.loads((path / "zarr.json").read_text())
    name = metadata["codecs"][0]["name"]
    assert name == codec.plan.configuration.format
    script = (
        "import sys, zarr, numpy as np; assert 'anscombe_transform' not in sys.modules;"
        "a = zarr.open(sys.argv[1], mode='r')[:]; assert np.array_equal(a, np.load(sys.argv[2]))"
    )
    for alias in (name, f"numcodecs.{name}"):
        metadata["codecs"][0]["name"] = alias
        (path / "zarr.json").write_text(json.dumps(metadata))
        done = subprocess.run(
            [sys.executable, "-c", script, str(path), str(tmp_path / "expected.npy")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def test_every_name_is_registered() -> None:
    """All four names give the class."""
    for name in NAMES:
        assert get_codec_class(name) is AnscombeTransformV3


def test_partial_writes_append_and_resize(movie: np.ndarray, codec: AnscombeTransformV3) -> None:
    """Regions written one by one, and frames appended, read back as if written at once."""
    expected = codec._decode(codec._encode(movie))
    array = zarr.create_array({}, data=movie[:4], chunks=(3, 16, 16), filters=[codec])
    array.append(movie[4:])
    assert np.array_equal(array[:], expected)
    array[2:5, 3:9, 10:20] = movie[:3, 3:9, 10:20]
    expected[2:5, 3:9, 10:20] = expected[:3, 3:9, 10:20]
    assert np.array_equal(array[:], expected)
    array.resize((12, 20, 30))
    # A chunk never written is the fill value; the rest of one that was is the fill value's code.
    assert (array[9:] == 0).all()
    assert (np.abs(array[7:9]) <= codec.plan.max_error(0)).all()
    assert np.array_equal(array[:7], expected)


# -- the fill value --------------------------------------------------------------------------------------


def test_the_fill_value_goes_through_the_encoder() -> None:
    """What the next codec is told of missing chunks is the fill value's code."""
    codec = AnscombeTransformV3(20, 30.0)
    resolved = codec.resolve_metadata(spec((4, 4), fill=1000))
    assert resolved.dtype.to_native_dtype() == np.dtype("uint8")
    assert resolved.fill_value == codec._encode(np.array([1000], "int16"))[0]


def test_missing_inner_chunks_of_a_shard_read_as_the_fill_value() -> None:
    """With the transform outside the shards, a chunk missing in a shard decodes to the fill value's bin."""
    codec = AnscombeTransformV3(20, 30.0)
    array = zarr.create_array(
        {}, shape=(8, 16), chunks=(8, 16), dtype="int16", filters=[codec], fill_value=1000
    )
    array[0, 0] = 50
    values = array[:]
    assert abs(int(values[7, 15]) - 1000) <= codec.plan.max_error(1000)


@pytest.mark.parametrize(("dtype", "fill"), [("int16", -5), ("float32", float("nan"))])
def test_a_fill_value_without_a_code_is_refused_at_creation(dtype: str, fill: float) -> None:
    """v1 has no code for negatives and NaN: creation fails, naming fill_value; v2 holds both."""
    few = {"shape": (4, 4), "dtype": dtype, "fill_value": fill}
    store: dict[str, Any] = {}
    with pytest.raises(UnrepresentableError, match="fill_value"):
        zarr.create_array(store, filters=[AnscombeTransformV3(20, 30.0)], **few)
    assert not store
    array = zarr.create_array({}, filters=[AnscombeTransformV3(20, 30.0, zero_code=9)], **few)
    assert np.array_equal(array[:], np.full((4, 4), fill, dtype), equal_nan=True)


def test_an_existing_array_opens_whatever_its_fill_value(tmp_path: Path, movie: np.ndarray) -> None:
    """1.0.0 checked no fill value: such an array of its making is read, and a bad value still refused."""
    path = tmp_path / "a.zarr"
    zarr.create_array(str(path), data=movie, chunks=(4, 16, 16), filters=[AnscombeTransformV3(20, 30.0)])
    metadata = json.loads((path / "zarr.json").read_text())
    metadata["fill_value"] = -5
    (path / "zarr.json").write_text(json.dumps(metadata))
    array = zarr.open_array(str(path))
    codec = AnscombeTransformV2(20, 30.0)
    assert np.array_equal(array[:], codec.decode(codec.encode(movie)))
    with pytest.raises(UnrepresentableError):
        array[0] = np.int16(-5)


# -- the codec's own promises ----------------------------------------------------------------------------


def test_sizes_are_computed_without_encoding(codec: AnscombeTransformV3) -> None:
    """A chunk's codes take one byte (or two) a value."""
    assert codec.compute_encoded_size(7 * 20 * 30 * 2, spec((7, 20, 30))) == 7 * 20 * 30
    wide = AnscombeTransformV3(20, 3.0, "uint16", "float64")
    assert wide.compute_encoded_size(800, spec((100,), "float64")) == 200
    assert codec.is_fixed_size is True


@pytest.mark.parametrize("side", [16, 512])
def test_sync_and_async_methods_agree(
    side: int, codec: AnscombeTransformV3, rng: np.random.Generator
) -> None:
    """Small chunks inline and large ones in a thread give what the plain methods give."""
    chunk = (30 * rng.poisson(8, (2, side, side)) + 20).astype("int16")
    prototype = default_buffer_prototype()
    chunk_spec = spec(chunk.shape)
    buffer = prototype.nd_buffer.from_numpy_array(chunk)
    codes = codec._encode(chunk)
    for encoded in (
        codec._encode_sync(buffer, chunk_spec),
        asyncio.run(codec._encode_single(buffer, chunk_spec)),
    ):
        assert np.array_equal(encoded.as_numpy_array(), codes)
        for decoded in (
            codec._decode_sync(encoded, chunk_spec),
            asyncio.run(codec._decode_single(encoded, chunk_spec)),
        ):
            assert decoded.as_numpy_array().shape == chunk.shape
            assert np.array_equal(decoded.as_numpy_array(), codec._decode(codes))


def test_the_dictionary_of_v1_is_that_of_1_0_0() -> None:
    """Same name, same keys, same numbers."""
    assert AnscombeTransformV3(20, 30.0).to_dict() == {
        "name": "anscombe-v1",
        "configuration": {
            "zero_level": 20,
            "conversion_gain": 30.0,
            "encoded_dtype": "uint8",
            "decoded_dtype": "int16",
        },
    }


def test_codecs_compare_by_what_they_write(codec: AnscombeTransformV3) -> None:
    """Two codecs that write the same are equal, also after JSON and pickle."""
    assert isinstance(codec, ArrayArrayCodec)
    again = AnscombeTransformV3.from_dict(json.loads(json.dumps(codec.to_dict())))
    copy = pickle.loads(pickle.dumps(codec))
    assert again == codec == copy
    assert hash(again) == hash(codec) == hash(copy)
    assert codec != AnscombeTransformV3(21, 30.0)
    with pytest.raises(AttributeError):
        codec.zero_level = 3  # type: ignore[misc]


def test_absent_dtypes_are_the_defaults_and_unknown_keys_are_refused() -> None:
    """Old metadata may lack the dtypes; nothing unknown is ignored."""
    few = {"zero_level": 20, "conversion_gain": 30.0}
    codec = AnscombeTransformV3.from_dict({"name": "anscombe-v1", "configuration": few})
    assert codec == AnscombeTransformV3(20, 30.0)
    with pytest.raises(ValueError, match="unknown keys"):
        AnscombeTransformV3.from_dict({"name": "anscombe-v1", "configuration": {**few, "gamma": 1}})
    with pytest.raises(ValueError, match="is_fixed_size"):
        AnscombeTransformV3(20, 30.0, is_fixed_size=False)


# -- company ---------------------------------------------------------------------------------------------


def test_zarr_save_and_open(tmp_path: Path, movie: np.ndarray, codec: AnscombeTransformV3) -> None:
    """``zarr.save_array`` takes the codec, ``zarr.open`` needs nothing."""
    zarr.save_array(str(tmp_path / "a.zarr"), movie, codecs=[codec, BytesCodec(), ZstdCodec()])
    array = zarr.open(str(tmp_path / "a.zarr"), mode="r")
    assert np.array_equal(array[:], codec._decode(codec._encode(movie)))


def test_dask_writes_and_reads(tmp_path: Path, movie: np.ndarray, codec: AnscombeTransformV3) -> None:
    """A dask array is written chunk by chunk, from threads."""
    da = pytest.importorskip("dask.array")
    array = zarr.create_array(
        str(tmp_path / "a.zarr"), shape=movie.shape, chunks=(4, 10, 10), dtype=movie.dtype, filters=[codec]
    )
    da.store(da.from_array(movie, chunks=(4, 10, 10)), array, lock=False)
    back = da.from_zarr(str(tmp_path / "a.zarr")).compute()
    assert np.array_equal(back, codec._decode(codec._encode(movie)))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_xarray_writes_and_reads(tmp_path: Path, movie: np.ndarray, zarr_format: int) -> None:
    """An xarray variable takes the codec in a variable's encoding, in both formats."""
    xr = pytest.importorskip("xarray")
    codec = (AnscombeTransformV2 if zarr_format == 2 else AnscombeTransformV3)(20, 30.0)
    data = xr.Dataset({"movie": (("time", "y", "x"), movie)})
    encoding = {"movie": {"filters": [codec], "chunks": (4, 16, 16)}}
    if zarr_format == 3:
        encoding["movie"]["fill_value"] = 0
    data.to_zarr(tmp_path / "a.zarr", encoding=encoding, zarr_format=zarr_format, consolidated=False)
    back = xr.open_zarr(tmp_path / "a.zarr", consolidated=False, mask_and_scale=False)["movie"].values
    reference = AnscombeTransformV2(20, 30.0)
    assert np.array_equal(back, reference.decode(reference.encode(movie)))


def test_the_synchronous_pipeline_of_newer_zarr(movie: np.ndarray, codec: AnscombeTransformV3) -> None:
    """The fused pipeline of zarr 3.4, where there is one, runs the codec without an event loop."""
    try:
        from zarr.core.codec_pipeline import FusedCodecPipeline
    except ImportError:
        pytest.skip("this zarr-python has no fused pipeline")
    name = f"{FusedCodecPipeline.__module__}.{FusedCodecPipeline.__qualname__}"
    with zarr.config.set({"codec_pipeline.path": name}):
        for layout in ({"chunks": (4, 16, 16)}, {"chunks": (2, 8, 8), "shards": (4, 16, 32)}):
            array = zarr.create_array({}, data=movie, filters=[codec], **layout)
            assert np.array_equal(array[:], codec._decode(codec._encode(movie)))
