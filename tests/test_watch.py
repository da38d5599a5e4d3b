"""Folders that recordings appear in: each is stored once, when it is complete; and trends of archives."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from anscombe_transform import Sensitivity, compress, simulate_movie, verify
from anscombe_transform.cli import live as live_commands
from anscombe_transform.cli.commands import app
from anscombe_transform.compression.batch import BatchItem
from anscombe_transform.diagnostics import measure_trend, plot_trend
from anscombe_transform.live import watch

assert live_commands.trend  # registers the commands

KNOWN = Sensitivity.from_known(conversion_gain=90.0, zero_level=50.0)


def recording(seed: int, frames: int = 20) -> Any:
    """Frames of a camera."""
    photons = np.random.default_rng(seed).poisson(8, (frames, 32, 32))
    return (50 + 90 * photons).astype("int16")


def watch_once(place: Path, **options: Any) -> Any:
    """Watch the folder ``in`` until all of it is dealt with."""
    return watch(place / "in", place / "out", **({"settle": 0, "once": True, "sensitivity": KNOWN} | options))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with an empty folder for recordings."""
    (tmp_path / "in").mkdir()
    return tmp_path


def test_each_recording_is_stored_once(place: Path) -> None:
    """A second watch finds everything stored, and reads neither recordings nor arrays for that."""
    for seed in range(3):
        np.save(place / "in" / f"{seed}.npy", recording(seed))
    assert {item.outcome for item in watch_once(place).items} == {"compressed"}
    written = {path: path.stat().st_mtime_ns for path in (place / "out").rglob("*") if path.is_file()}
    again = watch_once(place)
    assert {item.outcome for item in again.items} == {"skipped"}
    assert all("stored on" in item.message for item in again.items)
    for path, when in written.items():
        if path.suffix != ".lock":
            assert path.stat().st_mtime_ns == when
    for seed in range(3):
        assert verify(place / "out" / f"{seed}.zarr", recording(seed)).ok


def test_a_lost_ledger_only_costs_a_second_look(place: Path) -> None:
    """Without its ledger, or with a damaged one, a watch compares arrays with recordings, and that is all."""
    np.save(place / "in" / "a.npy", recording(0))
    watch_once(place)
    chunk = next(path for path in (place / "out" / "a.zarr" / "c").rglob("*") if path.is_file())
    when = chunk.stat().st_mtime_ns
    ledger = place / "out" / ".anscombe-watch.json"
    for content in (b"", b"{", b'{"x": 1}', b"[]"):
        ledger.write_bytes(content)
        (item,) = watch_once(place).items
        assert (item.outcome, "holds this recording" in item.message) == ("skipped", True)
        assert chunk.stat().st_mtime_ns == when
        assert json.loads(ledger.read_bytes())[item.source]["outcome"] == "skipped"


def test_a_growing_recording_waits(place: Path) -> None:
    """Nothing is stored while a file changes; then all of it is."""
    movie, path = recording(0, frames=60), place / "in" / "growing.npy"
    whole = place / "whole.npy"
    np.save(whole, movie)
    content = whole.read_bytes()
    ended, items = threading.Event(), list[BatchItem]()

    def stop_when_done(item: BatchItem) -> None:
        items.append(item)
        ended.set()

    options = {"settle": 0.6, "interval": 0.02, "once": False, "stop": ended, "done": stop_when_done}
    thread = threading.Thread(target=watch_once, args=(place,), kwargs=options)
    thread.start()
    for part in range(10):
        with path.open("ab") as file:
            file.write(content[part * len(content) // 10 : (part + 1) * len(content) // 10])
        time.sleep(0.1)
    thread.join(timeout=60)
    ended.set()
    assert [item.outcome for item in items] == ["compressed"]
    assert verify(place / "out" / "growing.zarr", movie).ok


def test_a_recording_that_is_not_whole_is_tried_again(place: Path) -> None:
    """A torn file fails, which is said once; when it has changed it is stored."""
    path = place / "in" / "torn.npy"
    np.save(path, recording(0))
    content = path.read_bytes()
    path.write_bytes(content[:-1000])
    told: list[str] = []
    (item,) = watch_once(place, done=lambda item: told.append(item.outcome)).items
    assert item.outcome == "failed"
    path.write_bytes(content)
    (item,) = watch_once(place, done=lambda item: told.append(item.outcome)).items
    assert told == ["failed", "compressed"]
    assert verify(place / "out" / "torn.zarr", recording(0)).ok


def test_another_recording_of_the_same_name_is_not_lost(place: Path) -> None:
    """A file that was replaced by another recording fails rather than replacing the array."""
    path = place / "in" / "run.npy"
    np.save(path, recording(0))
    watch_once(place)
    np.save(path, recording(1))
    (item,) = watch_once(place).items
    assert item.outcome == "failed"
    assert "another recording" in item.message
    assert verify(place / "out" / "run.zarr", recording(0)).ok


def test_a_deleted_array_is_made_again(place: Path) -> None:
    """The ledger does not stand for an array that is gone."""
    np.save(place / "in" / "a.npy", recording(0))
    watch_once(place)
    shutil.rmtree(place / "out" / "a.zarr")
    (item,) = watch_once(place).items
    assert item.outcome == "compressed"


def test_two_watches_do_not_share_a_folder(place: Path) -> None:
    """The second watch of an output folder is refused."""
    np.save(place / "in" / "a.npy", recording(0))
    refused: list[BaseException] = []

    def begin_another(item: BatchItem) -> None:
        try:
            watch_once(place)
        except FileExistsError as error:
            refused.append(error)

    watch_once(place, done=begin_another)
    assert len(refused) == 1


@pytest.mark.parametrize(
    ("options", "match"), [({"settle": -1}, "settle"), ({"interval": float("nan")}, "interval")]
)
def test_wrong_parameters_of_a_watch_name_themselves(place: Path, options: Any, match: str) -> None:
    """A duration below zero, or none, is refused; so is a source that is no folder."""
    with pytest.raises(ValueError, match=match):
        watch_once(place, **options)
    with pytest.raises(NotADirectoryError):
        watch(place / "nothing", place / "out", once=True)
    with pytest.raises(TypeError, match="presett"):
        watch_once(place, presett="fast")


def test_the_command_watches(place: Path) -> None:
    """`anscombe watch --once` stores what is there and prints a line for each; 4 if one failed."""
    np.save(place / "in" / "a.npy", recording(0))
    command = ["watch", str(place / "in"), str(place / "out"), "--once", "--settle", "0"]
    known = ["--gain", "90", "--zero-level", "50"]
    done = CliRunner().invoke(app, command + known)
    assert done.exit_code == 0, done.output
    assert "1 compressed" in done.output
    (place / "in" / "b.npy").write_bytes(b"no movie")
    assert CliRunner().invoke(app, command + known).exit_code == 4


# -- trend ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven nights, the last of them at another gain, and an array whose constants were given."""
    folder = tmp_path_factory.mktemp("archive")
    for night, gain in enumerate([90.0] * 6 + [110.0]):
        movie, _ = simulate_movie((60, 64, 64), conversion_gain=gain, zero_level=50.0, rng=night)
        compress(movie, folder / "sub" / f"night{night}.zarr" if night else folder / "night0.zarr")
        time.sleep(1.01 if night == 5 else 0)
    compress(recording(0), folder / "given.zarr", sensitivity=KNOWN)
    return folder


def test_a_changed_gain_is_a_warning(archive: Path) -> None:
    """The night at another gain leaves its history, those before don't, and given constants are left out."""
    trend = measure_trend(archive)
    assert [Path(point.path).stem for point in trend.points if point.warnings] == ["night6"]
    assert list(trend.points[-1].warnings) == ["conversion_gain"]
    assert "standard deviations" in trend.points[-1].warnings["conversion_gain"]
    assert not trend.ok
    (reason,) = trend.left_out
    assert "given" in reason
    assert json.loads(json.dumps(trend.to_dict(), allow_nan=False))["ok"] is False


def test_few_recordings_are_no_history(archive: Path, tmp_path: Path) -> None:
    """With four before it, even another gain is no warning."""
    for night in (1, 2, 3, 4, 6):
        shutil.copytree(archive / "sub" / f"night{night}.zarr", tmp_path / f"{night}.zarr")
    assert len(measure_trend(tmp_path).points) == 5
    assert measure_trend(tmp_path).ok


def test_the_trend_is_drawn(archive: Path) -> None:
    """A panel for each constant, and the marked point of the one that changed."""
    figure = plot_trend(measure_trend(archive))
    assert len(figure.axes) == 3
    marked = [[line for line in ax.lines if line.get_label() == "left its history"] for ax in figure.axes]
    assert [len(lines) for lines in marked] == [1, 0, 0]


def test_the_command_prints_and_draws_a_trend(archive: Path, tmp_path: Path) -> None:
    """`anscombe trend` warns in text and JSON; an unknown suffix is a mistake of the user's."""
    picture = tmp_path / "trend.png"
    done = CliRunner().invoke(app, ["trend", str(archive), "--plot", str(picture)])
    assert done.exit_code == 0, done.output
    assert "WARNING" in done.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    found = CliRunner().invoke(app, ["trend", str(archive), "--json"])
    assert json.loads(found.output)["points"][-1]["warnings"]
    assert CliRunner().invoke(app, ["trend", str(archive), "--plot", "x.xyz"]).exit_code == 2
    with pytest.raises(ValueError, match="no stored recording"):
        measure_trend(tmp_path)
    with pytest.raises(FileNotFoundError):
        measure_trend(tmp_path / "nothing")
    assert [path.name for path in tmp_path.iterdir()] == ["trend.png"]
