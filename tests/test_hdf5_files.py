"""HDF5 and NWB files are written, verified, recorded and read as arrays of Zarr are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

h5py = pytest.importorskip("h5py")
zarr = pytest.importorskip("zarr", minversion="3.1.1")

from movie_files import changed_hdf5  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

import anscombe_transform as at  # noqa: E402
from anscombe_transform.cli.commands import app  # noqa: E402
from anscombe_transform.codec.hdf5.plugin import find_plugin  # noqa: E402
from anscombe_transform.compression import VerificationError, describe  # noqa: E402

KNOWN = {"conversion_gain": 40.0, "zero_level": 100.0, "read_noise": 6.0}
NWB = {"session_start_time": "2026-01-31T14:05:00+01:00", "rate": 25.0}
CHUNKS = (16, 24, 32)


@pytest.fixture
def movie(rng: np.random.Generator) -> np.ndarray:
    """40 frames that no chunk divides, wider than high."""
    photons = rng.poisson(rng.uniform(5, 60, (1, 40, 72)), (40, 40, 72))
    return (100 + 40 * photons + np.rint(rng.normal(0, 6, photons.shape))).astype("int16")


def compress(movie: Any, path: Path, **options: Any) -> Any:
    """Write with known constants; NWB with what it requires."""
    if path.suffix == ".nwb":
        pytest.importorskip("pynwb")
        options.setdefault("nwb", NWB)
    options.setdefault("sensitivity", at.Sensitivity.from_known(**KNOWN))
    return at.compress(movie, path, **options)


FILES = ("movie.h5", "movie.nwb")


@pytest.mark.parametrize("preset", ["fast", "compact"])
@pytest.mark.parametrize("name", FILES)
def test_a_file_holds_the_values_of_the_zarr_array(
    name: str, preset: Any, movie: np.ndarray, tmp_path: Path
) -> None:
    """An HDF5 or NWB file has values and record of a Zarr array of the same options."""
    result = compress(movie, tmp_path / name, preset=preset, chunks=CHUNKS)
    other = compress(movie, tmp_path / "movie.zarr", preset=preset, chunks=CHUNKS)
    assert result.verification.ok
    assert result.verification.compared == movie.size
    assert result.stored_bytes == (tmp_path / name).stat().st_size
    np.testing.assert_array_equal(result.array[:], other.array[:])
    with at.open_movie(tmp_path / name) as stored:
        assert stored.shape == movie.shape
        np.testing.assert_array_equal(stored[:], other.array[:])
    assert at.verify(tmp_path / name).ok
    assert at.verify(tmp_path / name, movie).ok
    assert not at.verify(tmp_path / name, movie[::-1].copy()).ok
    found = describe(tmp_path / name)
    assert found.complete
    assert found.changed is None
    assert "HDF5" in str(found)
    assert found.provenance["checksums"] == describe(tmp_path / "movie.zarr").provenance["checksums"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "movie.zarr"])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32"])
@pytest.mark.parametrize("name", FILES)
def test_files_hold_every_type(name: str, dtype: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """Integers and floats are written and verified, NaN with them."""
    known = at.Sensitivity.from_known(conversion_gain=3.0, zero_level=10.0, read_noise=1.0)
    movie = (10 + 3 * rng.poisson(20, (20, 24, 40))).astype(dtype)
    if dtype == "float32":
        movie[2, 3, 4] = np.nan
    result = compress(movie, tmp_path / name, sensitivity=known)
    assert result.verification.ok
    assert at.verify(tmp_path / name, movie).ok
    assert at.open_movie(tmp_path / name).dtype == np.dtype(dtype)


@pytest.mark.parametrize("name", FILES)
def test_h5py_reads_the_values(name: str, movie: np.ndarray, tmp_path: Path) -> None:
    """A program that knows h5py alone reads the values by the filter."""
    if find_plugin() is None:
        pytest.skip("installed without the native core, and so without the plug-in")
    result = compress(movie, tmp_path / name, chunks=CHUNKS)
    at.hdf5.register()
    path = "movie" if name.endswith(".h5") else "acquisition/TwoPhotonSeries/data"
    with h5py.File(tmp_path / name, "r") as file:
        values = file[path][:]
        record = json.loads(file[path].attrs["anscombe_transform"])
    assert record["complete"]
    values = values.transpose(0, 2, 1) if name.endswith(".nwb") else values
    np.testing.assert_array_equal(values, result.array[:])


def test_h5dump_reads_the_values(movie: np.ndarray, tmp_path: Path) -> None:
    """A program that knows nothing of Python reads the values by the plug-in."""
    program = shutil.which("h5dump")
    if program is None or find_plugin() is None:
        pytest.skip("h5dump is not installed, or the package without its native core")
    result = compress(movie, tmp_path / "movie.h5", chunks=CHUNKS)
    environment = {**os.environ, "HDF5_PLUGIN_PATH": at.hdf5.plugin_path()}
    command = [program, "-d", "/movie", "-b", "LE", "-o", "values", "movie.h5"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    values = np.fromfile(tmp_path / "values", "<i2").reshape(movie.shape)
    np.testing.assert_array_equal(values, result.array[:])


def test_pynwb_reads_what_the_source_knows(movie: np.ndarray, tmp_path: Path) -> None:
    """Pynwb finds a valid file with the transposed values, the rate, the pixel size and what was given."""
    pynwb = pytest.importorskip("pynwb")
    tifffile = pytest.importorskip("tifffile")
    if find_plugin() is None:
        pytest.skip("installed without the native core, and so without the plug-in")
    tifffile.imwrite(
        tmp_path / "a.tif",
        movie.astype("uint16"),
        imagej=True,
        resolution=(2.0, 4.0),
        metadata={"axes": "TYX", "unit": "um", "finterval": 0.05},
    )
    given = {**NWB, "type": "OnePhotonSeries", "indicator": "GCaMP8f", "excitation_lambda": 488}
    del given["rate"]
    result = compress(tmp_path / "a.tif", tmp_path / "movie.nwb", nwb=given)
    with pynwb.NWBHDF5IO(tmp_path / "movie.nwb", "r") as reader:
        file = reader.read()
        series = file.acquisition["OnePhotonSeries"]
        assert series.rate == pytest.approx(20.0)
        assert series.imaging_plane.indicator == "GCaMP8f"
        assert series.imaging_plane.excitation_lambda == 488
        np.testing.assert_allclose(series.imaging_plane.grid_spacing[:], [0.5, 0.25])
        assert series.data.shape == (40, 72, 40)
        np.testing.assert_array_equal(series.data[:].transpose(0, 2, 1), result.array[:])
        assert file.session_start_time.isoformat() == NWB["session_start_time"]
        assert not pynwb.validate(io=reader)
    with at.open_movie(tmp_path / "movie.nwb") as stored:
        assert stored.metadata["frame_rate"] == pytest.approx(20.0)
        assert stored.metadata["pixel_size"] == pytest.approx({"y": 0.25, "x": 0.5})


def test_an_nwb_file_is_made_from_an_nwb_file(movie: np.ndarray, tmp_path: Path) -> None:
    """What an NWB file says of its recording is in the one that is made of it, with nothing given."""
    compress(movie, tmp_path / "a.nwb", nwb={**NWB, "location": "V1", "series": "Field"})
    with at.open_movie(tmp_path / "a.nwb") as first:
        values = first[:]
        compress(first, tmp_path / "b.nwb", nwb=None, accept_mismatch=True)
    with at.open_movie(tmp_path / "b.nwb") as second:
        assert second.metadata["nwb"]["location"] == "V1"
        assert second.metadata["frame_rate"] == NWB["rate"]
        assert np.abs(second[:] - values).max() < 60


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "session_start_time.*--nwb rate="),
        ({"rate": 30}, "session_start_time"),
        ({**NWB, "rate": "fast"}, "must be a number > 0, got 'fast'"),
        ({**NWB, "session_start_time": "2026-01-31 14:05"}, "with its zone"),
        ({**NWB, "objective": "16x"}, "no 'objective'"),
        ({**NWB, "type": "ThreePhotonSeries"}, "OnePhotonSeries"),
    ],
)
def test_nothing_is_made_up_for_nwb(
    given: dict[str, Any], message: str, movie: np.ndarray, tmp_path: Path
) -> None:
    """What NWB requires and nobody knows is asked for, and what makes no sense refused."""
    with pytest.raises(ValueError, match=message):
        compress(movie, tmp_path / "movie.nwb", nwb=given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_chunk_is_an_error(name: str, movie: np.ndarray, tmp_path: Path) -> None:
    """A changed byte in a chunk is an error that names the chunk, of every reader."""
    compress(movie, tmp_path / name, chunks=CHUNKS)
    path = "movie" if name.endswith(".h5") else "acquisition/TwoPhotonSeries/data"
    with h5py.File(tmp_path / name, "r") as file:
        place = file[path].id.get_chunk_info(3).byte_offset
    with (tmp_path / name).open("r+b") as raw:
        raw.seek(place + 20)
        byte = raw.read(1)
        raw.seek(place + 20)
        raw.write(bytes([byte[0] ^ 16]))
    with pytest.raises(VerificationError, match="in chunk"):
        at.verify(tmp_path / name)
    with pytest.raises(Exception, match="damaged"):
        at.open_movie(tmp_path / name)[:]
    with pytest.raises(Exception, match="damaged"):
        at.decompress(tmp_path / name, tmp_path / "a.npy")
    if find_plugin() is not None:
        at.hdf5.register()
        with h5py.File(tmp_path / name, "r") as file, pytest.raises(OSError, match="filter"):
            file[path][:]


def test_exchanged_chunks_are_found(movie: np.ndarray, tmp_path: Path) -> None:
    """Sound chunks in the wrong places have another checksum, as in Zarr."""
    compress(movie, tmp_path / "movie.h5", chunks=CHUNKS)
    with changed_hdf5(tmp_path / "movie.h5") as file:
        chunks = file["movie"].id
        first, second = (chunks.read_direct_chunk(offset)[1] for offset in ((0, 0, 0), (16, 0, 0)))
        chunks.write_direct_chunk((0, 0, 0), second)
        chunks.write_direct_chunk((16, 0, 0), first)
    assert not at.verify(tmp_path / "movie.h5").ok


def test_an_edited_record_is_found(movie: np.ndarray, tmp_path: Path) -> None:
    """A record that was edited is no record, as in Zarr."""
    compress(movie, tmp_path / "movie.h5")
    with changed_hdf5(tmp_path / "movie.h5") as file:
        record = json.loads(file["movie"].attrs["anscombe_transform"])
        record["beta"] = 0.25
        file["movie"].attrs["anscombe_transform"] = json.dumps(record)
    assert describe(tmp_path / "movie.h5").changed is not None
    with pytest.raises(VerificationError):
        at.verify(tmp_path / "movie.h5")


def test_what_is_there_stays(movie: np.ndarray, tmp_path: Path) -> None:
    """Nothing is overwritten unasked, and if asked nothing but what `compress` wrote."""
    path = tmp_path / "movie.h5"
    compress(movie, path)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="--overwrite"):
        compress(movie, path)
    assert compress(movie, path, resume=True).verification.ok
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match="another recording"):
        compress(movie[::-1].copy(), path, resume=True)
    assert compress(movie, path, overwrite=True, preset="compact").verification.ok
    raw = tmp_path / "raw.h5"
    with h5py.File(raw, "w") as file:
        file["movie"] = movie
    with pytest.raises(FileExistsError, match="not a file that compress wrote"):
        compress(movie, raw, overwrite=True)
    other = Path(shutil.copy(path, tmp_path / "other.h5"))
    with changed_hdf5(path) as file:
        file["other"] = movie
    with pytest.raises(FileExistsError, match="other"):
        compress(movie, path, overwrite=True)
    with pytest.raises(ValueError, match="both"):
        compress(f"{other}::/movie", other, overwrite=True)


def test_an_interrupted_run_is_begun_again(movie: np.ndarray, tmp_path: Path) -> None:
    """What a kill leaves is named, and replaced by a whole file when asked; nothing has the name before."""
    path, partial = tmp_path / "movie.h5", tmp_path / "movie.h5.partial"
    partial.mkdir()
    (partial / "movie.h5").write_bytes(b"\x89HDF\r\n\x1a\n torn")
    with pytest.raises(FileExistsError, match=r"interrupted run.*--overwrite"):
        compress(movie, path)
    assert compress(movie, path, resume=True).verification.ok
    assert not partial.exists()


def test_a_value_without_a_code_leaves_nothing(movie: np.ndarray, tmp_path: Path) -> None:
    """A movie that the codec can't hold is an error before anything has the name."""
    with pytest.raises(ValueError, match="zero_code=0"):
        compress(movie, tmp_path / "movie.h5", encoded_dtype="uint8", zero_code=0)
    assert not list(tmp_path.iterdir())


def test_a_rare_value_begins_the_file_again(tmp_path: Path, rng: np.random.Generator) -> None:
    """A value far beyond those of the sample makes a new file with a codec that holds it."""
    movie = (100 + 40 * rng.poisson(4, (3000, 16, 16))).astype("int16")
    movie[1501, 3, 5] = 30000
    result = compress(movie, tmp_path / "movie.h5", threads=2)
    assert result.verification.ok
    assert abs(int(result.array[1501, 3, 5]) - 30000) < 400


@pytest.mark.parametrize(
    "options",
    [{"zarr_format": 2}, {"shards": (32, 24, 32)}, {"preset": "portable"}],
    ids=lambda o: next(iter(o)),
)
def test_options_of_zarr_are_refused(options: dict[str, Any], movie: np.ndarray, tmp_path: Path) -> None:
    """What only Zarr has is an error that names the option."""
    with pytest.raises(ValueError, match=f"--{next(iter(options)).replace('_', '-')}"):
        compress(movie, tmp_path / "movie.h5", chunks=CHUNKS, **options)
    with pytest.raises(ValueError, match="--nwb"):
        compress(movie, tmp_path / "movie.h5", nwb=NWB)
    with pytest.raises(ValueError, match="--nwb"):
        compress(movie, tmp_path / "movie.zarr", nwb=NWB)


def test_a_full_disk_is_an_error(movie: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk without room is an error that says so, where HDF5 would end the process, and leaves nothing."""
    from anscombe_transform.native import durable

    class Full(durable.GuardedFile):
        def write(self, data: Any) -> int:
            if self._end > 20000 and self.error is None:
                self.error = OSError(28, "No space left on device")
            return super().write(data)

    monkeypatch.setattr("anscombe_transform.compression.files.hdf5.GuardedFile", Full)
    with pytest.raises(OSError, match="disk is full"):
        compress(movie, tmp_path / "movie.h5", chunks=CHUNKS)
    assert not list(tmp_path.iterdir())


def test_the_command_line(movie: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """compress, info, verify, report and decompress take such files."""
    monkeypatch.chdir(tmp_path)
    np.save("movie.npy", movie)

    def run(*words: str) -> Any:
        return CliRunner().invoke(app, list(words))

    known = ["--gain", "40", "--zero-level", "100", "--read-noise", "6"]
    made = run("compress", "movie.npy", "movie.h5::/a/b", *known, "--json")
    assert made.exit_code == 0, made.output
    for words in (
        ["info", "movie.h5"],
        ["verify", "movie.h5"],
        ["verify", "movie.h5", "--against", "movie.npy"],
        ["decompress", "movie.h5", "back.npy"],
        ["report", "movie.h5", "-o", "page.html"],
    ):
        done = run(*words)
        assert done.exit_code == 0, done.output
    with h5py.File("movie.h5", "r") as file:
        assert file["a/b"].shape == movie.shape
    pytest.importorskip("pynwb")
    refused = run("compress", "movie.npy", "movie.nwb", *known)
    assert refused.exit_code == 2
    assert "--nwb rate=" in refused.output
    wrong = run("compress", "movie.npy", "movie.nwb", *known, "--nwb", "rate")
    assert wrong.exit_code == 2
    assert "NAME=VALUE" in wrong.output
    given = [word for name, value in NWB.items() for word in ("--nwb", f"{name}={value}")]
    assert run("compress", "movie.npy", "movie.nwb", *known, *given).exit_code == 0
    assert run("verify", "movie.nwb", "--against", "movie.npy").exit_code == 0
