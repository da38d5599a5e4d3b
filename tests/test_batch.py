"""A folder of recordings: what is found, what becomes of each, what is said at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from movie_files import write_scanimage, write_tiff
from numpy.typing import NDArray

zarr = pytest.importorskip("zarr")
if int(zarr.__version__.partition(".")[0]) < 3:
    pytest.skip("needs zarr-python 3", allow_module_level=True)

from anscombe_transform.calibration import Sensitivity  # noqa: E402
from anscombe_transform.compression import batch, verify  # noqa: E402
from anscombe_transform.compression.batch import BatchItem, compress_all, find_recordings  # noqa: E402
from anscombe_transform.simulation import simulate_movie  # noqa: E402

KNOWN = Sensitivity.from_known(conversion_gain=90, zero_level=50)


@pytest.fixture
def movie(seed: int) -> NDArray[Any]:
    """A small simulated movie."""
    return simulate_movie((20, 32, 32), conversion_gain=90, zero_level=50, rng=seed)[0]


@pytest.fixture
def night(movie: NDArray[Any], tmp_path: Path) -> Path:
    """A folder with two good recordings, one in a folder of its own, and a torn one between them."""
    folder = tmp_path / "night"
    (folder / "mouse2").mkdir(parents=True)
    np.save(folder / "a.npy", movie)
    (folder / "b.npy").write_bytes(b"torn")
    np.save(folder / "mouse2" / "a.npy", movie[::-1])
    (folder / "notes.txt").write_text("a good night")
    return folder


def test_a_batch_goes_on_past_a_bad_file(night: Path, movie: NDArray[Any], tmp_path: Path) -> None:
    """The good ones are compressed and verified, the bad one is named with its reason."""
    told: list[BatchItem] = []
    result = compress_all([night], tmp_path / "archive", sensitivity=KNOWN, done=told.append)
    assert not result.ok
    assert [item.outcome for item in result.items] == ["compressed", "failed", "compressed"]
    assert told == list(result.items)
    assert "b.npy" in str(result)
    assert "3 recordings: 2 compressed, 1 failed" in str(result)
    assert verify(tmp_path / "archive" / "a.zarr", movie).ok
    assert verify(tmp_path / "archive" / "mouse2" / "a.zarr", movie[::-1]).ok
    assert not (tmp_path / "archive" / "b.zarr").exists()


def test_a_second_run_finishes_the_first(night: Path, movie: NDArray[Any], tmp_path: Path) -> None:
    """With `resume` what is finished is left alone, and a mended recording is compressed."""
    compress_all([night], tmp_path / "archive", sensitivity=KNOWN)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "archive" / "a.zarr").rglob("*")}
    again = compress_all([night], tmp_path / "archive", sensitivity=KNOWN)
    assert [item.outcome for item in again.items] == ["failed"] * 3  # what is there is never replaced unasked
    np.save(night / "b.npy", movie)
    result = compress_all([night], tmp_path / "archive", sensitivity=KNOWN, resume=True)
    assert result.ok
    assert [item.outcome for item in result.items] == ["skipped", "compressed", "skipped"]
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "archive" / "a.zarr").rglob("*")}


def test_a_refused_calibration_is_no_failure_of_the_file(night: Path, tmp_path: Path) -> None:
    """A recording that can't be calibrated is told apart from one that can't be read."""
    np.save(night / "b.npy", np.full((20, 32, 32), 7, "int16"))
    result = compress_all([night / "b.npy"], tmp_path)
    assert [item.outcome for item in result.items] == ["refused"]
    assert result.items[0].message


def test_our_own_arrays_are_no_recordings(night: Path, movie: NDArray[Any]) -> None:
    """A folder can be compressed into itself, twice; a Zarr array of others in it is a recording."""
    zarr.create_array(night / "c.zarr", data=movie)
    assert [path.name for path in find_recordings(night)] == ["a.npy", "b.npy", "c.zarr", "a.npy"]
    compress_all([night / "a.npy"], night, sensitivity=KNOWN)
    assert (night / "a.zarr").is_dir()
    (night / "d.zarr.partial").mkdir()
    (night / "d.zarr.partial" / "zarr.json").touch()
    assert [path.name for path in find_recordings(night)] == ["a.npy", "b.npy", "c.zarr", "a.npy"]


def test_names_that_meet_keep_their_suffix(night: Path, movie: NDArray[Any], tmp_path: Path) -> None:
    """Two formats of one name become two arrays; two recordings of one file are told apart by their key."""
    np.savez(night / "a.npz", green=movie, red=movie)
    (night / "b.npy").unlink()
    sources = [night, f"{night / 'a.npz'}::red"]
    with pytest.raises(ValueError, match="holds"):  # both arrays of the .npz: which one is not said
        raise ValueError(compress_all([night / "a.npz"], tmp_path / "x", sensitivity=KNOWN).items[0].message)
    result = compress_all(sources, tmp_path / "archive", sensitivity=KNOWN)
    assert [Path(item.store).relative_to(tmp_path / "archive").as_posix() for item in result.items] == [
        "a.npy.zarr",
        "a.npz.zarr",
        "mouse2/a.zarr",
        "a_red.zarr",
    ]
    with pytest.raises(ValueError, match="several recordings would become"):
        compress_all([night / "a.npy", night / "mouse2" / "a.npy"], tmp_path / "y", sensitivity=KNOWN)


def test_images_of_a_batch(night: Path, tmp_path: Path) -> None:
    """A batch writes OME-Zarr images as well."""
    result = compress_all(
        [night / "a.npy"], tmp_path / "archive", layout="ome-zarr", pyramid=1, sensitivity=KNOWN
    )
    assert result.ok
    assert sorted(zarr.open_group(tmp_path / "archive" / "a.ome.zarr", mode="r").array_keys()) == ["0", "1"]


def test_nothing_to_do_is_an_error(tmp_path: Path) -> None:
    """An empty folder, a missing one and a wrong layout are named before anything is written."""
    with pytest.raises(ValueError, match="there is no recording in"):
        compress_all([tmp_path], tmp_path / "archive")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        find_recordings(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="layout must be"):
        compress_all([tmp_path], tmp_path / "archive", layout="tiff")
    result = compress_all([tmp_path / "gone.tif"], tmp_path / "archive")
    assert "no such file" in result.items[0].message


def write_run(folder: Path, movie: NDArray[Any], kind: str) -> None:
    """One recording in three files, or in one for each frame."""
    folder.mkdir(parents=True)
    if kind == "scanimage":
        for number in range(3):
            write_scanimage(
                folder / f"x_00001_{number + 1:05}.tif",
                movie[number * 8 : number * 8 + 8],
                before=number * 8,
                SI__hChannels__channelSave="1",
            )
    else:
        for number, frame in enumerate(movie[:24]):
            write_tiff(folder / f"frame{number}.tif", frame)


@pytest.fixture
def run(seed: int) -> NDArray[Any]:
    """A simulated movie of 24 frames."""
    movie = simulate_movie((24, 32, 32), conversion_gain=90, zero_level=50, rng=seed)[0]
    return np.minimum(movie, 30000).astype(np.int16)


@pytest.mark.parametrize("kind", ["scanimage", "frames"])
def test_a_folder_of_one_recording_is_one_array(kind: str, run: NDArray[Any], tmp_path: Path) -> None:
    """Given itself, found below a folder, or lying among other recordings, it is one movie."""
    write_run(tmp_path / "night" / "run", run, kind)
    (tmp_path / "night" / "run" / "References").mkdir()
    write_tiff(tmp_path / "night" / "run" / "References" / "field.tif", run[0])
    result = compress_all([tmp_path / "night" / "run"], tmp_path / "one", sensitivity=KNOWN)
    assert [Path(item.store).name for item in result.items] == ["run.zarr"]
    assert verify(tmp_path / "one" / "run.zarr", tmp_path / "night" / "run").ok
    np.save(tmp_path / "night" / "other.npy", run)
    result = compress_all([tmp_path / "night"], tmp_path / "two", sensitivity=KNOWN)
    assert [Path(item.store).name for item in result.items] == ["other.zarr", "run.zarr"]
    assert result.ok
    np.save(tmp_path / "night" / "run" / "dark.npy", run)
    found = find_recordings(tmp_path / "night" / "run")
    assert [path.name for path in found if "References" not in str(path)] == [
        "dark.npy",
        "x_00001_[0-9]*.tif" if kind == "scanimage" else "frame[0-9]*.tif",
    ]
    result = compress_all(found[-1:], tmp_path / "three", sensitivity=KNOWN)
    assert result.ok, result


def test_recordings_that_are_numbered_stay_apart(run: NDArray[Any], tmp_path: Path) -> None:
    """Acquisitions whose frame numbers begin again are several; of plain stacks a note says so."""
    for name in "ab":
        (tmp_path / name).mkdir()
    for number in (1, 2):
        write_scanimage(tmp_path / "a" / f"x_{number}.tif", run, SI__hChannels__channelSave="1")
    result = compress_all([tmp_path / "a"], tmp_path / "one", sensitivity=KNOWN)
    assert ([Path(item.store).name for item in result.items], result.notes) == (["x_1.zarr", "x_2.zarr"], ())
    for number in (1, 2):
        write_tiff(tmp_path / "b" / f"y_{number}.tif", run)
    result = compress_all([tmp_path / "b"], tmp_path / "two", sensitivity=KNOWN)
    assert len(result.items) == 2
    assert "y_*.tif" in result.notes[0]
    assert "if they are one movie" in str(result)


def test_a_missing_file_of_one_recording_fails(run: NDArray[Any], tmp_path: Path) -> None:
    """A recording in three files of which one is absent is not two recordings."""
    write_run(tmp_path / "run", run, "scanimage")
    (tmp_path / "run" / "x_00001_00002.tif").unlink()
    result = compress_all([tmp_path / "run"], tmp_path / "one", sensitivity=KNOWN)
    assert [item.outcome for item in result.items] == ["failed"]
    assert "misses number 2" in result.items[0].message
    assert compress_all([tmp_path / "run"], tmp_path / "two", sensitivity=KNOWN, partial=True).ok


def test_the_command_line_takes_a_folder_for_the_recording_it_is(run: NDArray[Any], tmp_path: Path) -> None:
    """``compress run OUT.zarr`` writes that array, ``compress run OUT`` one array in that folder."""
    testing = pytest.importorskip("typer.testing")
    from anscombe_transform.cli.commands import app

    write_run(tmp_path / "run", run, "scanimage")
    known = ["--gain", "90", "--zero-level", "50"]
    for out, array in (("a.zarr", "a.zarr"), ("out", "out/run.zarr")):
        done = testing.CliRunner().invoke(
            app, ["compress", str(tmp_path / "run"), str(tmp_path / out), *known]
        )
        assert done.exit_code == 0, done.output
        assert zarr.open_array(tmp_path / array, mode="r").shape == run.shape


@pytest.mark.parametrize("function", ["compress_all", "compress_recording"])
def test_a_misspelt_option_is_refused_at_once(function: str, tmp_path: Path) -> None:
    """An option that there isn't is an error that names the nearest, before any recording is looked at."""
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'bta'; did you mean 'beta'\?"):
        getattr(batch, function)([tmp_path], tmp_path / "out", bta=0.5)
