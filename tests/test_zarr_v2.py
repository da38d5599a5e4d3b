"""The codec in Zarr V2 arrays, with zarr-python 2 or 3, and in numcodecs alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from numcodecs.abc import Codec

from anscombe_transform import AnscombeTransformV2, UnrepresentableError

OLD = zarr.__version__.startswith("2.")


def create(path: Path, data: np.ndarray, *, chunks: tuple[int, ...], order: str = "C", **codecs: Any) -> Any:
    """A V2 array on disk, with whichever zarr-python is installed."""
    fill = {"fill_value": 0}
    if OLD:
        array = zarr.open_array(
            str(path),
            mode="w",
            shape=data.shape,
            chunks=chunks,
            dtype=data.dtype,
            order=order,
            **fill,
            **codecs,
        )
    else:
        codecs["compressors"] = codecs.pop("compressor")
        array = zarr.create_array(
            str(path),
            shape=data.shape,
            chunks=chunks,
            dtype=data.dtype,
            order=order,
            zarr_format=2,
            **fill,
            **codecs,
        )
    array[:] = data
    return array


@pytest.fixture
def movie(rng: np.random.Generator) -> np.ndarray:
    """Counts of about 8 photons at gain 30."""
    return (30 * rng.poisson(8, (7, 20, 30)) + 20).astype("int16")


@pytest.fixture(params=[{}, {"zero_code": 20, "beta": 0.25}], ids=["v1", "v2"])
def codec(request: pytest.FixtureRequest) -> AnscombeTransformV2:
    """A codec of each format."""
    return AnscombeTransformV2(20, 30.0, **request.param)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("where", ["filter", "compressor"])
def test_an_array_reads_back_as_decoded(
    tmp_path: Path, movie: np.ndarray, codec: AnscombeTransformV2, order: str, where: str
) -> None:
    """As a filter or as the compressor, in either memory order, with chunks that overhang the edges."""
    codecs = {"compressor": codec, "filters": None}
    if where == "filter":
        codecs = {"compressor": numcodecs.Zstd(1), "filters": [codec]}
    create(tmp_path / "a.zarr", movie, chunks=(4, 16, 16), order=order, **codecs)
    array = zarr.open(str(tmp_path / "a.zarr"), mode="r")
    assert array.dtype == movie.dtype
    assert np.array_equal(array[:], codec.decode(codec.encode(movie)))
    assert (np.abs(array[:] - movie) <= codec.plan.max_error(movie)).all()


@pytest.mark.parametrize("dtype", [">i2", "<u2", "<i4", "<f4", ">f8", "|u1"])
def test_every_dtype_of_an_array(tmp_path: Path, dtype: str, rng: np.random.Generator) -> None:
    """Big-endian, unsigned, wide, narrow and floating arrays read back within the bound."""
    movie = (3 * rng.poisson(8, (5, 20, 30)) + 5).astype(dtype)
    codec = AnscombeTransformV2(5, 3.0, decoded_dtype=dtype, zero_code=10)
    create(tmp_path / "a.zarr", movie, chunks=(4, 16, 16), filters=[codec], compressor=numcodecs.Zstd(1))
    array = zarr.open(str(tmp_path / "a.zarr"), mode="r")
    assert array.dtype == np.dtype(dtype)
    error = np.abs(array[:].astype(float) - movie)
    assert (error <= codec.plan.max_error(movie) + 1e-6 * np.abs(movie)).all()


def test_a_dtype_that_zarr_would_misread_is_refused(tmp_path: Path, movie: np.ndarray) -> None:
    """An int32 array with an int16 codec is an error at the first chunk, naming decoded_dtype."""
    with pytest.raises(ValueError, match="decoded_dtype='int32'"):
        create(
            tmp_path / "a.zarr",
            movie.astype("int32"),
            chunks=(4, 16, 16),
            filters=[AnscombeTransformV2(20, 30.0)],
            compressor=None,
        )


def test_partial_writes_and_resizing(tmp_path: Path, movie: np.ndarray, codec: AnscombeTransformV2) -> None:
    """Regions written one by one, and frames appended, read back as if written at once."""
    expected = codec.decode(codec.encode(movie))
    array = create(
        tmp_path / "a.zarr", movie[:4], chunks=(3, 16, 16), filters=[codec], compressor=numcodecs.Zstd(1)
    )
    array.append(movie[4:])
    assert np.array_equal(array[:], expected)
    array[2:5, 3:9, 10:20] = movie[:3, 3:9, 10:20]
    expected[2:5, 3:9, 10:20] = expected[:3, 3:9, 10:20]
    # A chunk that is read, changed and written again keeps its codes: decoded values have their own code.
    assert np.array_equal(array[:], expected)


def test_missing_chunks_are_the_fill_value(tmp_path: Path) -> None:
    """A chunk never written reads as the fill value, not as a decoded code."""
    array = create(
        tmp_path / "a.zarr",
        np.zeros((4, 16, 16), "int16"),
        chunks=(4, 16, 16),
        filters=[AnscombeTransformV2(20, 30.0)],
        compressor=None,
    )
    array.resize((8, 16, 16)) if not OLD else array.resize(8, 16, 16)
    assert (array[4:] == 0).all()


def test_a_value_without_a_code_stops_the_write(tmp_path: Path, movie: np.ndarray) -> None:
    """A negative value in a v1 array raises through zarr."""
    movie[3, 2, 1] = -5
    with pytest.raises(UnrepresentableError, match="value -5 at index \\(3, 2, 1\\)"):
        create(
            tmp_path / "a.zarr",
            movie,
            chunks=movie.shape,
            filters=[AnscombeTransformV2(20, 30.0)],
            compressor=None,
        )


def test_a_new_process_opens_the_array_without_importing_us(
    tmp_path: Path, movie: np.ndarray, codec: AnscombeTransformV2
) -> None:
    """The entry points are enough: the reader imports zarr alone."""
    path = tmp_path / "a.zarr"
    create(path, movie, chunks=(4, 16, 16), filters=[codec], compressor=numcodecs.Zstd(1))
    np.save(tmp_path / "expected.npy", codec.decode(codec.encode(movie)))
    script = (
        "import sys, zarr, numpy as np; assert 'anscombe_transform' not in sys.modules;"
        "a = zarr.open(sys.argv[1], mode='r')[:]; assert np.array_equal(a, np.load(sys.argv[2]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path), str(tmp_path / "expected.npy")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_get_codec_finds_both_formats_in_a_new_process(codec: AnscombeTransformV2) -> None:
    """``numcodecs.get_codec`` alone makes the codec from its configuration."""
    script = (
        "import sys, json, numcodecs; c = numcodecs.get_codec(json.loads(sys.argv[1]));"
        "assert c.get_config() == json.loads(sys.argv[1]); assert 'zarr' not in sys.modules, 'loaded zarr'"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(codec.get_config())],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_metadata_on_disk_is_complete(tmp_path: Path, movie: np.ndarray) -> None:
    """The dtypes are written even when they are the defaults."""
    codec = AnscombeTransformV2(20, 30.0)
    create(tmp_path / "a.zarr", movie, chunks=(4, 16, 16), filters=[codec], compressor=None)
    stored = json.loads((tmp_path / "a.zarr" / ".zarray").read_text())["filters"]
    assert stored == [
        {
            "id": "anscombe-v1",
            "zero_level": 20,
            "conversion_gain": 30.0,
            "encoded_dtype": "uint8",
            "decoded_dtype": "int16",
        }
    ]


# -- numcodecs' own promises -----------------------------------------------------------------------------


def test_it_is_a_numcodecs_codec(codec: AnscombeTransformV2) -> None:
    """Converters check the base class."""
    assert isinstance(codec, Codec)
    assert numcodecs.get_codec(codec.get_config()) == codec


def test_buffers_of_every_kind_are_taken(movie: np.ndarray, codec: AnscombeTransformV2) -> None:
    """Bytes, bytearray, memoryview and arrays encode and decode the same."""
    codes = codec.encode(movie)
    for buffer in (movie.tobytes(), bytearray(movie.tobytes()), memoryview(movie.tobytes())):
        assert np.array_equal(np.ravel(codec.encode(buffer)), codes.ravel())
    expected = codec.decode(codes)
    for buffer in (
        codes.tobytes(),
        bytearray(codes.tobytes()),
        memoryview(codes.tobytes()),
        np.frombuffer(codes.tobytes(), "uint8"),
    ):
        assert np.array_equal(np.ravel(codec.decode(buffer)), expected.ravel())


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<f4"])
def test_out_receives_the_values(movie: np.ndarray, dtype: str) -> None:
    """`out` is filled and returned, also as bytes and big-endian; a wrong size is refused."""
    codec = AnscombeTransformV2(20, 30.0, decoded_dtype=dtype, zero_code=20)
    movie = movie.astype(dtype)
    codes = codec.encode(movie)
    expected = codec.decode(codes)
    out = np.empty_like(movie)
    assert np.array_equal(codec.decode(codes, out=out), expected)
    assert np.array_equal(out, expected)
    raw = bytearray(movie.nbytes)
    codec.decode(codes.tobytes(), out=raw)
    assert bytes(raw) == expected.tobytes()
    with pytest.raises(ValueError, match="out must hold"):
        codec.decode(codes, out=np.empty(3, dtype))


def test_uint16_codes_are_little_endian_on_disk(movie: np.ndarray) -> None:
    """The bytes of a code do not depend on the machine."""
    codec = AnscombeTransformV2(0, 0.1, "uint16")
    codes = codec.encode(movie)
    assert codes.dtype.str == "<u2"
    assert np.array_equal(codec.decode(codes.tobytes()).reshape(movie.shape), codec.decode(codes))
