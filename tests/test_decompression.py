"""A stored movie becomes a file that other programs read, with the values that zarr gives."""

from __future__ import annotations

import errno
import gc
import json
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from movie_files import ZARR_3, h5py, tifffile, zarr
from numpy.typing import NDArray

import anscombe_transform as at
from anscombe_transform.compression import decompression
from anscombe_transform.compression.blocks import layout
from anscombe_transform.compression.decompression import decompress
from anscombe_transform.compression.files import exports
from anscombe_transform.native.durable import GuardedFile

SHAPE = (40, 24, 36)


def read_tiff(path: Path) -> NDArray[np.generic]:
    """By tifffile."""
    return tifffile.imread(path)


def read_hdf5(path: Path) -> NDArray[np.generic]:
    """By h5py."""
    with h5py.File(path) as file:
        return file["movie"][:]


def read_raw(path: Path) -> NDArray[np.generic]:
    """By numpy, from what stands beside it."""
    told = json.loads(path.with_name(f"{path.name}.json").read_text())
    return np.fromfile(path, told["dtype"]).reshape(told["shape"])


# The file, the options, and how another program reads it.
FILES = {
    "tiff": ("a.tif", {}, read_tiff),
    "bigtiff": ("a.btf", {}, read_tiff),
    "tiff zlib": ("a.tiff", {"compression": "zlib"}, read_tiff),
    "hdf5": ("a.h5", {}, read_hdf5),
    "hdf5 gzip": ("a.hdf5", {"compression": "gzip"}, read_hdf5),
    "npy": ("a.npy", {}, np.load),
    "raw": ("a.raw", {}, read_raw),
    "raw by format": ("a.values", {"format": "raw", "verify": False}, read_raw),
}


def store(path: Path, frames: NDArray[np.generic]) -> Path:
    """Anyone's Zarr array, in chunks of seven frames."""
    if ZARR_3:
        array = zarr.create_array(path, shape=frames.shape, dtype=frames.dtype, chunks=(7, 16, 16))
    else:
        array = zarr.open(str(path), "w", shape=frames.shape, dtype=frames.dtype, chunks=(7, 16, 16))
    array[:] = frames
    return path


@pytest.fixture
def frames(rng: np.random.Generator) -> NDArray[np.uint16]:
    """A movie whose frames all differ."""
    return rng.integers(0, 2**16, SHAPE).astype(np.uint16)


@pytest.mark.parametrize("kind", FILES)
def test_a_codec_array_comes_back_as_zarr_reads_it(
    kind: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    """Whatever the format, another program reads the values that zarr decodes, and their record."""
    if not ZARR_3:
        pytest.skip("the array is written in Zarr format 3")
    frames = (200 + 30 * rng.poisson(9, SHAPE)).astype(np.uint16)
    made = at.Sensitivity.from_known(conversion_gain=30, zero_level=200)
    at.compress(frames, tmp_path / "a.zarr", sensitivity=made)
    decoded = zarr.open(str(tmp_path / "a.zarr"), mode="r")[:]
    name, options, read = FILES[kind]
    result = decompress(tmp_path / "a.zarr", tmp_path / name, **options)
    values = read(tmp_path / name)
    np.testing.assert_array_equal(values, decoded)
    assert values.dtype == decoded.dtype
    assert result.shape == SHAPE
    assert result.file_bytes == (tmp_path / name).stat().st_size
    assert not list(tmp_path.glob("*.partial*"))
    if name.endswith(("tif", "btf", "tiff", "h5", "hdf5")):
        with at.open_movie(tmp_path / name) as movie:
            record = movie.metadata["anscombe_transform"]
        assert record["source"].endswith("a.zarr")
        assert record["anscombe_transform"]["sensitivity"]["conversion_gain"] == 30


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
@pytest.mark.parametrize("kind", ["tiff", "bigtiff", "hdf5", "npy"])
def test_every_type_of_value_survives(
    kind: str, dtype: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    """Integers and floats of all widths come back bit for bit."""
    frames = rng.integers(0, 120, (5, 12, 17)).astype(dtype)
    name, options, read = FILES[kind]
    decompress(store(tmp_path / "a.zarr", frames), tmp_path / name, **options)
    values = read(tmp_path / name)
    assert values.dtype == frames.dtype
    np.testing.assert_array_equal(values, frames)


def test_a_tiff_is_a_stack_that_imagej_knows(tmp_path: Path) -> None:
    """Frames are frames, with their interval and the size of a pixel."""
    frames = np.arange(6 * 8 * 10, dtype=np.uint16).reshape(6, 8, 10)
    source = tmp_path / "source.tif"
    size = {"resolution": (4.0, 2.0), "metadata": {"axes": "TYX", "unit": "um", "finterval": 0.25}}
    tifffile.imwrite(source, frames, imagej=True, **size)
    decompress(source, tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_imagej
        assert file.series[0].axes == "TYX"
        assert file.imagej_metadata["frames"] == 6
        assert file.imagej_metadata["finterval"] == 0.25
    with at.open_movie(tmp_path / "a.tif") as movie:
        assert movie.metadata["frame_rate"] == 4
        assert movie.metadata["pixel_size"] == {"y": 0.5, "x": 0.25}


def test_a_tiff_beyond_four_gigabytes_is_big(
    tmp_path: Path, frames: NDArray[np.uint16], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size decides between TIFF and BigTIFF, whatever the suffix."""
    made = store(tmp_path / "a.zarr", frames)
    assert decompress(made, tmp_path / "small.tif").format == "TIFF"
    monkeypatch.setattr(exports, "_CLASSIC_TIFF_BYTES", frames.nbytes)
    assert decompress(made, tmp_path / "large.tif").format == "BigTIFF"
    with tifffile.TiffFile(tmp_path / "large.tif") as file:
        assert file.is_bigtiff
        np.testing.assert_array_equal(file.asarray(), frames)


def test_a_dataset_is_written_where_it_is_asked_for(tmp_path: Path, frames: NDArray[np.uint16]) -> None:
    """``file.h5::/path`` names the dataset, whose axes are labelled."""
    result = decompress(store(tmp_path / "a.zarr", frames), f"{tmp_path / 'a.h5'}::/acquisition/raw")
    assert result.path.endswith("a.h5::/acquisition/raw")
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["acquisition/raw"], frames)
        assert [axis.label for axis in file["acquisition/raw"].dims] == ["time", "y", "x"]


def test_memory_is_bounded_by_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A movie is never in memory whole."""
    frames = np.zeros((512, 64, 64), np.uint16)
    made = store(tmp_path / "a.zarr", frames)
    monkeypatch.setattr(layout, "BLOCK_BYTES", frames.nbytes // 64)
    for name in ("a.tif", "a.h5", "a.npy"):
        decompress(frames[:2], tmp_path / f"warm-{name}")
        tracemalloc.start()
        decompress(made, tmp_path / name, threads=2)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < frames.nbytes // 2, name


def test_progress_counts_every_frame_twice(tmp_path: Path, frames: NDArray[np.uint16]) -> None:
    """Writing and verification each end with the last frame."""
    told: list[tuple[int, int, str]] = []
    decompress(frames, tmp_path / "a.npy", progress=lambda *step: told.append(step))
    assert [step for step in told if step[0] == len(frames)] == [(40, 40, "write"), (40, 40, "verify")]


def test_a_file_that_is_there_stays(tmp_path: Path, frames: NDArray[np.uint16]) -> None:
    """Nothing is replaced unless asked, and the old file is kept when the new one fails."""
    path = tmp_path / "a.npy"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        decompress(frames, path)
    made = store(tmp_path / "a.zarr", frames)
    for chunk in [file for file in made.rglob("*") if file.is_file() and "json" not in file.name][::3]:
        if not chunk.name.startswith("."):
            chunk.write_bytes(b"rubbish")
    with pytest.raises(ValueError, match=r"cannot read frames .* of .*a\.zarr"):
        decompress(made, path, overwrite=True)
    assert path.read_bytes() == b"precious"
    assert not list(tmp_path.glob("*.partial*"))
    decompress(frames, path, overwrite=True)
    np.testing.assert_array_equal(np.load(path), frames)
    with pytest.raises(ValueError, match="source and store are both"):
        decompress(path, path, overwrite=True)


def test_what_reads_back_wrong_is_not_left(
    tmp_path: Path, frames: NDArray[np.uint16], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that gives back other bytes is found, and the file does not get its name."""
    write, open_file = exports.FORMATS["npy"]

    def damage(export: exports.Export, output: GuardedFile, blocks: exports.Blocks) -> str:
        name = write(export, output, blocks)
        output.seek(frames.nbytes // 2)
        output.write(bytes(byte ^ 1 for byte in output.read(1)))
        return name

    monkeypatch.setitem(exports.FORMATS, "npy", (damage, open_file))
    with pytest.raises(ValueError, match="read back otherwise"):
        decompress(frames, tmp_path / "a.npy")
    assert not list(tmp_path.iterdir())


class FullDisk:
    """A file on a disk with room for a few bytes, as the operating system has it."""

    def __init__(self, file: Any, room: int) -> None:
        self._file, self._room = file, room

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: Any) -> int:
        """Write what there is room for; without any, the system's error."""
        room = self._room - self._file.tell()
        if room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return int(self._file.write(memoryview(data)[:room]))


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("room", [0, 1000, 50_000])
def test_a_disk_that_fills_up(
    kind: str, room: int, tmp_path: Path, frames: NDArray[np.uint16], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever room ends, the error says how much is needed, and neither a file nor a signal is left."""

    class OnFullDisk(GuardedFile):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            self._file = FullDisk(self._file, room)

    monkeypatch.setattr(decompression, "GuardedFile", OnFullDisk)
    name, options, _ = FILES[kind]
    with pytest.raises(OSError, match=r"disk is full: it needs (about|at most) 0\.1 MB") as caught:
        decompress(frames, tmp_path / name, **options)
    assert caught.value.errno == errno.ENOSPC
    gc.collect()  # HDF5 writes what it still holds when its objects are gone
    assert not list(tmp_path.iterdir())


def test_room_is_looked_for_first(
    tmp_path: Path, frames: NDArray[np.uint16], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that will not fit is not begun, and the error says what it takes and what there is."""
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=frames.nbytes - 1))
    with pytest.raises(OSError, match=r"needs about 0\.1 MB, and .* has 0\.1 MB free") as caught:
        decompress(frames, tmp_path / "a.npy")
    assert caught.value.errno == errno.ENOSPC
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=frames.nbytes))
    decompress(frames, tmp_path / "a.npy")


KILLED = """
import os, signal, sys
import numpy as np
from anscombe_transform.compression import decompression

def progress(done, total, stage):
    if stage == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)

frames = np.random.default_rng(int(sys.argv[2])).integers(0, 2**16, (40, 24, 36)).astype(np.uint16)
decompression.decompress(frames, sys.argv[1], progress=progress)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the signal is of POSIX")
@pytest.mark.parametrize("stage", ["write", "verify"])
def test_what_a_kill_leaves_is_used_up_by_the_next_run(
    stage: str, tmp_path: Path, frames: NDArray[np.uint16], seed: int
) -> None:
    """A killed run leaves no file of the name, and nothing once the next one has ended."""
    path = tmp_path / "a.tif"
    command = [sys.executable, "-c", KILLED, str(path), str(seed), stage]
    assert subprocess.run(command, check=False).returncode == -9
    assert [left.name for left in tmp_path.iterdir()] == ["a.tif.partial"]
    decompress(frames, path)
    assert [left.name for left in tmp_path.iterdir()] == ["a.tif"]
    np.testing.assert_array_equal(tifffile.imread(path), frames)


@pytest.mark.skipif(sys.platform != "linux", reason="names of open files are read from /proc")
@pytest.mark.parametrize("kind", FILES)
def test_a_power_cut(kind: str, tmp_path: Path, frames: NDArray[np.uint16], rng: np.random.Generator) -> None:
    """Whenever the power is cut, a file of the name is the old or the new one, and whole at the end."""
    from simulated_disk import Recorder

    name, options, read = FILES[kind]
    disk = tmp_path / "disk"
    disk.mkdir()
    (disk / name).write_bytes(b"old")
    record = Recorder(disk)
    with record.active():
        decompress(frames, disk / name, overwrite=True, threads=1, **options)
    new = (disk / name).read_bytes()
    moments = [*rng.choice(record.moments, 20), record.moments[-1]]
    for number, moment in enumerate(moments):
        after = tmp_path / f"after{number}"
        after.mkdir()
        record.cut(int(moment), rng, after)
        found = (after / name).read_bytes()
        assert found == new or (found == b"old" and moment < record.moments[-1])
        decompress(frames, after / name, overwrite=True, threads=1, **options)
        np.testing.assert_array_equal(read(after / name), frames)
        assert not list(after.glob("*.partial*"))


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("a.npy", {"format": "tiff"}, ValueError, "a.npy is the name of a file of format npy"),
        ("a.xyz", {}, ValueError, r"has the suffix '\.xyz' of .*; known are \.tif"),
        ("a.tif", {"format": "png"}, ValueError, "format must be one of tiff, hdf5, npy, raw, got 'png'"),
        ("a.npy", {"compression": "zlib"}, ValueError, "for TIFF and HDF5"),
        ("a.npy::/movie", {}, ValueError, "only HDF5 has datasets inside"),
        ("absent/a.npy", {}, FileNotFoundError, "no folder .*absent"),
        ("a.npy", {"threads": 0}, ValueError, "threads must be at least 1"),
        (".", {"format": "npy"}, FileExistsError, "is a folder"),
    ],
)
def test_a_wrong_wish_is_refused(
    name: str, options: dict, error: type[Exception], message: str, tmp_path: Path, frames: NDArray[np.uint16]
) -> None:
    """Errors name the option and the way out, and leave nothing behind."""
    with pytest.raises(error, match=message):
        decompress(frames, f"{tmp_path}/{name}", **options)
    assert not list(tmp_path.iterdir())


def test_a_missing_library_says_how_to_install_it(tmp_path: Path) -> None:
    """Without tifffile or h5py the error is the pip command that mends it."""
    code = (
        "import sys; sys.modules['tifffile'] = sys.modules['h5py'] = None\n"
        "import numpy as np\n"
        "from anscombe_transform import decompress\n"
        "for name in ('a.tif', 'a.h5'):\n"
        f"    try: decompress(np.zeros((2, 3, 4)), {str(tmp_path)!r} + '/' + name)\n"
        "    except ImportError as error: print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.count('pip install "anscombe-transform[io]"') == 2
