"""The HDF5 filter stores and gives the values of the codec, in h5py and in programs that load the plug-in."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

h5py = pytest.importorskip("h5py")
pytest.importorskip("zarr", minversion="3.1.1")

import anscombe_transform as at  # noqa: E402
from anscombe_transform.codec.frames import FrameConfiguration  # noqa: E402
from anscombe_transform.codec.hdf5.parameters import FilterParameters, fit_to_filter  # noqa: E402
from anscombe_transform.codec.hdf5.plugin import FILTER_ID, find_plugin  # noqa: E402
from anscombe_transform.codec.hdf5.store import has_filter, open_dataset  # noqa: E402
from anscombe_transform.codec.transform.configuration import fields_of  # noqa: E402
from anscombe_transform.codec.transform.plan import plan  # noqa: E402

if find_plugin() is None:
    pytest.skip("installed without the native core, and so without the plug-in", allow_module_level=True)

from anscombe_transform.hdf5 import filter_options, plugin_path  # noqa: E402

CHUNKS = (8, 16, 24)
DETECTORS = {
    "photomultiplier": {"conversion_gain": 90.0, "zero_level": 20.0, "read_noise": 7.0},
    "camera": {"conversion_gain": 0.4, "zero_level": 100.0, "read_noise": 2.0},
    "counts": {"conversion_gain": 1.0, "zero_level": 0.0},
}
TYPES = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64")


def movie_of(dtype: str, detector: str, rng: np.random.Generator) -> np.ndarray:
    """A movie of 20 frames whose last chunks are cut, within the range of its type."""
    known = DETECTORS[detector]
    photons = rng.poisson(rng.uniform(0, 300, (1, 30, 40)), (20, 30, 40))
    signal = known["zero_level"] + known["conversion_gain"] * photons
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return (signal + rng.normal(0, 1, signal.shape)).astype(kind)
    limits = np.iinfo(kind)
    return np.rint(signal).clip(max(limits.min, 0), min(limits.max, 2**31)).astype(kind)


def codec_for(movie: np.ndarray, detector: str) -> Any:
    """The codec that a calibration chooses."""
    return at.Sensitivity.from_known(**DETECTORS[detector]).codec(sample=movie)


def write(
    path: Path, codec: Any, movie: np.ndarray, chunks: tuple[int, ...] = CHUNKS, **options: Any
) -> None:
    """A file with the dataset ``group/movie``, written by HDF5 through the filter."""
    dtype = codec.plan.configuration.decoded_dtype
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "group/movie", data=movie, dtype=dtype, **filter_options(codec, chunks, **options)
        )


def decoded(codec: Any, movie: np.ndarray) -> np.ndarray:
    """What the filter is to give back, by numpy."""
    reference = plan(fit_to_filter(codec.plan.configuration))
    return reference.decode(reference.encode(movie))


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("dtype", TYPES)
def test_the_filter_gives_the_values_of_the_codec(
    dtype: str, detector: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    """What the filter wrote is read by it, and as a Zarr array, as the values that the codec decodes to."""
    movie = movie_of(dtype, detector, rng)
    codec = codec_for(movie, detector)
    write(tmp_path / "a.h5", codec, movie)
    with h5py.File(tmp_path / "a.h5", "r") as file:
        dataset = file["group/movie"]
        assert has_filter(dataset)
        np.testing.assert_array_equal(dataset[:], decoded(codec, movie))
        np.testing.assert_array_equal(open_dataset(dataset)[:], decoded(codec, movie))
        assert dataset.id.get_storage_size() < movie.nbytes
    assert (np.abs(decoded(codec, movie).astype(float) - movie) <= codec.plan.max_error(movie) * 1.01).all()


@pytest.mark.parametrize("preset", ["fast", "compact"])
@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_big_endian_datasets(dtype: str, preset: Any, tmp_path: Path, rng: np.random.Generator) -> None:
    """Datasets of big-endian values are stored and read as others are."""
    movie = movie_of(dtype, "photomultiplier", rng)
    codec = codec_for(movie, "photomultiplier")
    codec = type(codec)(
        **fields_of(codec) | {"zero_code": None, "decoded_dtype": np.dtype(dtype).newbyteorder(">").str}
    )
    write(tmp_path / "a.h5", codec, movie, preset=preset)
    with h5py.File(tmp_path / "a.h5", "r") as file:
        assert file["group/movie"].dtype.str[0] == ">"
        np.testing.assert_array_equal(file["group/movie"][:], decoded(codec, movie))
        np.testing.assert_array_equal(open_dataset(file["group/movie"])[:], decoded(codec, movie))


def test_nan_keeps_its_code(tmp_path: Path, rng: np.random.Generator) -> None:
    """NaN is stored among floats."""
    movie = movie_of("float32", "photomultiplier", rng)
    movie[3, 4, 5] = np.nan
    codec = codec_for(movie, "photomultiplier")
    write(tmp_path / "a.h5", codec, movie, movie.shape)
    with h5py.File(tmp_path / "a.h5", "r") as file:
        assert has_filter(file["group/movie"])
        np.testing.assert_array_equal(file["group/movie"][:], decoded(codec, movie))


@pytest.mark.parametrize(("dtype", "value"), [("int16", -30000), ("float32", np.inf), ("int32", 2**30)])
def test_a_chunk_with_a_value_without_a_code_is_stored_as_it_is(
    dtype: str, value: float, tmp_path: Path, rng: np.random.Generator
) -> None:
    """The filter is optional: a chunk that it refuses is stored exactly, and the others through it."""
    movie = movie_of(dtype, "photomultiplier", rng)
    codec = codec_for(movie, "photomultiplier")
    movie[0, 0, 0] = value
    write(tmp_path / "a.h5", codec, movie)
    with h5py.File(tmp_path / "a.h5", "r") as file:
        dataset = file["group/movie"]
        np.testing.assert_array_equal(dataset[:8, :16, :24], movie[:8, :16, :24])
        np.testing.assert_array_equal(dataset[8:], decoded(codec, movie[8:]))
        assert not has_filter(dataset)


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("dtype", TYPES)
def test_parameters_keep_the_configuration(dtype: str, detector: str, rng: np.random.Generator) -> None:
    """What HDF5 stores with a dataset is at most 256 numbers, and says all that Zarr's metadata say."""
    configuration = fit_to_filter(codec_for(movie_of(dtype, detector, rng), detector).plan.configuration)
    packed = FilterParameters(configuration, CHUNKS, FrameConfiguration("compact", 0)).pack()
    assert len(packed) <= 256
    found = FilterParameters.unpack(packed, CHUNKS)
    assert found.frames == FrameConfiguration("compact", 0)
    again = found.configuration
    assert (again.bins, again.encoded_dtype, again.decoded_dtype) == (
        configuration.bins,
        configuration.encoded_dtype,
        configuration.decoded_dtype,
    )
    codes = np.arange(len(configuration.bins or ())).astype(configuration.encoded_dtype)
    np.testing.assert_array_equal(plan(again).decode(codes), plan(configuration).decode(codes))
    assert again.curve == configuration.curve


@pytest.mark.parametrize("dtype", TYPES)
def test_the_reader_of_the_page_agrees(dtype: str, rng: np.random.Generator) -> None:
    """The few lines of Python on the filter's page give the table that the package gives."""
    page = Path(__file__).parents[1] / "docs" / "reference" / "hdf5-filter.md"
    if not page.exists():
        pytest.skip("the documentation is not here")
    names: dict[str, Any] = {}
    exec(re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)[0], names)
    for detector in DETECTORS:
        codec = codec_for(movie_of(dtype, detector, rng), detector)
        packed = filter_options(codec, CHUNKS)["compression_opts"]
        configuration = FilterParameters.unpack(packed, CHUNKS).configuration
        kind, encoded, shape, table = names["read_parameters"](packed)
        assert (kind, encoded, shape) == (np.dtype(dtype), configuration.encoded_dtype, CHUNKS)
        codes = np.arange(len(table)).astype(encoded)
        np.testing.assert_array_equal(table, plan(configuration).decode(codes))


def test_values_of_floats_move_by_little(rng: np.random.Generator) -> None:
    """The grid of the filter's values moves none by more than a 256th of the narrowest bin."""
    movie = movie_of("float32", "photomultiplier", rng)
    configuration = codec_for(movie, "photomultiplier").plan.configuration
    codes = np.arange(len(configuration.bins or ())).astype(configuration.encoded_dtype)
    moved = plan(fit_to_filter(configuration)).decode(codes) - plan(configuration).decode(codes)
    assert np.abs(moved).max() <= 1.01 * np.diff(configuration.bins.edges).min() / 256


def test_too_many_codes_are_refused() -> None:
    """Bins that need more parameters than HDF5 gives back are refused, with what to do."""
    known = at.Sensitivity.from_known(conversion_gain=0.01, zero_level=0)
    codec = known.codec(sample=np.array([0, 65535], "uint16"))
    with pytest.raises(ValueError, match="--beta"):
        filter_options(codec, CHUNKS)


@pytest.mark.parametrize("byte", [0, 1, 20, -1])
def test_a_damaged_chunk_is_an_error(byte: int, tmp_path: Path, rng: np.random.Generator) -> None:
    """A changed byte in a chunk is an error of the filter, never a value."""
    movie = movie_of("int16", "photomultiplier", rng)
    write(tmp_path / "a.h5", codec_for(movie, "photomultiplier"), movie)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        dataset = file["group/movie"]
        mask, data = dataset.id.read_direct_chunk((8, 16, 0))
        changed = bytearray(data)
        changed[byte] ^= 4
        dataset.id.write_direct_chunk((8, 16, 0), bytes(changed), mask)
    with h5py.File(tmp_path / "a.h5", "r") as file:
        with pytest.raises(OSError, match="filter"):
            file["group/movie"][:]
        with pytest.raises(at.DamagedChunkError):
            open_dataset(file["group/movie"])[:]


def test_unknown_parameters_are_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    """With parameters that it does not know the filter stores nothing otherwise than it is."""
    movie = movie_of("int16", "photomultiplier", rng)
    packed = filter_options(codec_for(movie, "photomultiplier"), CHUNKS)["compression_opts"]
    for changed in ((2, *packed[1:]), packed[:30], (packed[0], 99, *packed[2:])):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            options = {"chunks": CHUNKS, "compression": FILTER_ID, "compression_opts": changed}
            file.create_dataset("movie", data=movie, **options)
        with h5py.File(tmp_path / "a.h5", "r") as file:
            np.testing.assert_array_equal(file["movie"][:], movie)
            assert not has_filter(file["movie"])
        with pytest.raises(ValueError, match="parameters of the HDF5 filter"):
            FilterParameters.unpack(changed, CHUNKS)


@pytest.mark.parametrize("first", ["h5py", "anscombe_transform"])
def test_importing_the_package_is_enough(first: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """h5py reads a file once the package is imported, before or after it; the package imports no h5py."""
    movie = movie_of("int16", "photomultiplier", rng)
    codec = codec_for(movie, "photomultiplier")
    path = tmp_path / "a.h5"
    write(path, codec, movie)
    lines = [
        "import sys",
        f"import {first}",
        f"loaded = {first == 'h5py'}",
        "assert loaded == ('h5py' in sys.modules)",
    ]
    lines += [
        "import anscombe_transform, h5py",
        f"print(h5py.File({str(path)!r})['group/movie'][:].astype(int).sum())",
    ]
    environment = {name: value for name, value in os.environ.items() if name != "HDF5_PLUGIN_PATH"}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == decoded(codec, movie).astype(int).sum()


def test_h5dump_reads_the_values(tmp_path: Path, rng: np.random.Generator) -> None:
    """A program that knows nothing of Python reads the values, by the plug-in alone."""
    program = shutil.which("h5dump")
    if program is None:
        pytest.skip("h5dump is not installed")
    movie = movie_of("uint16", "camera", rng)
    codec = codec_for(movie, "camera")
    write(tmp_path / "a.h5", codec, movie)
    command = [
        program,
        "-d",
        "/group/movie",
        "-b",
        "LE",
        "-o",
        str(tmp_path / "values"),
        str(tmp_path / "a.h5"),
    ]
    environment = {**os.environ, "HDF5_PLUGIN_PATH": plugin_path()}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    values = np.fromfile(tmp_path / "values", "<u2").reshape(movie.shape)
    np.testing.assert_array_equal(values, decoded(codec, movie))
