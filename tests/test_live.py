"""Recordings that are compressed while they are made: whole, in order, and there after a crash."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anscombe_transform import (
    Sensitivity,
    UntrustworthyCalibration,
    compress,
    simulate_movie,
    verify,
)
from anscombe_transform.calibration import ConstantsMismatch
from anscombe_transform.live import BacklogFull, StreamWriter, finish

KNOWN = Sensitivity.from_known(conversion_gain=90.0, zero_level=50.0)


@pytest.fixture(scope="module")
def movie() -> Any:
    """A movie whose length is no multiple of a block's."""
    return simulate_movie((130, 48, 64), conversion_gain=90.0, zero_level=50.0, rng=0)[0]


def writer_of(path: Path, **options: Any) -> StreamWriter:
    """A writer with small blocks for the movie."""
    options = {"sensitivity": KNOWN, "chunks": (16, 48, 64), "calibration_frames": 40} | options
    return StreamWriter(path, (48, 64), "int16", **options)


def cut_off(path: Path, movie: Any, **options: Any) -> None:
    """Leave a recording as an error in the program that records does."""
    with suppress(RuntimeError), writer_of(path, **options) as writer:
        writer.append(movie)
        raise RuntimeError("the camera was unplugged")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"zarr_format": 2},
        {"preset": "compact"},
        {"shards": (32, 48, 64), "chunks": (16, 24, 32)},
        {"sensitivity": None},
    ],
    ids=str,
)
def test_frames_are_stored_as_they_came(tmp_path: Path, movie: Any, options: dict[str, Any]) -> None:
    """Frame by frame or several at once, the array holds all of them within the bound, in order."""
    path = tmp_path / "movie.zarr"
    with writer_of(path, **options) as writer:
        for frame in movie[:50]:
            writer.append(frame)
        assert writer.append(movie[50:]) == len(movie)
    assert writer.result is not None
    assert writer.result.verification is not None
    assert writer.result.verification.compared == movie.size
    assert verify(path, movie).ok
    assert verify(path).ok
    assert [entry.name for entry in tmp_path.iterdir()] == ["movie.zarr"]
    assert dict(writer.result.array.attrs)["anscombe_transform"]["source"]["shape"] == list(movie.shape)


def test_every_frame_of_an_integer_type_has_codes(tmp_path: Path, movie: Any) -> None:
    """A flash to the end of the type, which the first frames did not announce, is stored within its bound."""
    flash = movie.copy()
    flash[100, :8], flash[101, :8] = np.iinfo(np.int16).max, np.iinfo(np.int16).min
    with writer_of(tmp_path / "movie.zarr") as writer:
        writer.append(flash)
    assert verify(tmp_path / "movie.zarr", flash).ok


def test_what_was_cut_off_is_finished(tmp_path: Path, movie: Any) -> None:
    """Frames in blocks and in the spool come together, and nothing is left beside the array."""
    path = tmp_path / "movie.zarr"
    cut_off(path, movie)
    assert not path.exists()
    result = finish(path)
    assert result.array.shape == movie.shape
    assert verify(path, movie).ok
    assert [entry.name for entry in tmp_path.iterdir()] == ["movie.zarr"]
    with pytest.raises(FileNotFoundError, match="is finished"):
        finish(path)


def test_a_recording_cut_off_before_its_calibration_is_finished(tmp_path: Path, movie: Any) -> None:
    """The first frames are calibrated by `finish` where the writer did not come to it."""
    path = tmp_path / "movie.zarr"
    cut_off(path, movie[:60], sensitivity=None, calibration_frames=1000)
    assert finish(path).sensitivity.verdict != "given"
    assert verify(path, movie[:60]).ok


KILLED = """
import sys
import numpy as np
from anscombe_transform import Sensitivity
from anscombe_transform.live import StreamWriter
movie = np.load(sys.argv[1])
known = Sensitivity.from_known(conversion_gain=90.0, zero_level=50.0)
writer = StreamWriter(sys.argv[2], (48, 64), "int16", sensitivity=known, chunks=(16, 48, 64),
calibration_frames=40)
print("ready", flush=True)
for i in range(10000):
    sys.stdout.write(f"{writer.append(movie[i % len(movie)])}\\n")
    sys.stdout.flush()
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("delay", [0.0, 0.05, 0.3, 1.0])
def test_a_kill_loses_no_frame_that_was_taken(tmp_path: Path, movie: Any, delay: float) -> None:
    """After SIGKILL at any moment every frame whose number `append` gave back is in the finished array."""
    np.save(tmp_path / "movie.npy", movie)
    path = tmp_path / "out.zarr"
    command = [sys.executable, "-c", KILLED, str(tmp_path / "movie.npy"), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert process.stdout.readline() == "1\n"
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        lines = process.stdout.read().split("\n")
    taken = max((int(line) for line in lines[:-1]), default=1)
    result = finish(path)
    assert result.array.shape[0] >= taken
    repeated = movie[np.arange(result.array.shape[0]) % len(movie)]
    assert verify(path, repeated).ok


def test_frames_lost_in_the_middle_are_no_secret(tmp_path: Path, movie: Any) -> None:
    """A hole, as a power cut may leave it, is an error that counts the frames; those before it can be had."""
    path = tmp_path / "movie.zarr"
    cut_off(path, movie, calibration_frames=1000)  # all in the spool
    spool = tmp_path / "movie.zarr.partial" / "spool"
    with (spool / "000000000032.frames").open("r+b") as file:
        file.seek(5 * 48 * 64 * 2)
        file.write(b"\0" * 100)
    with pytest.raises(ValueError, match="frame 37 was taken and is missing"):
        finish(path)
    assert finish(path, partial=True).array.shape[0] == 37
    assert verify(path, movie[:37]).ok


def test_a_damaged_end_is_no_secret(tmp_path: Path, movie: Any) -> None:
    """The last frame, taken and torn by a power cut, is missed."""
    path = tmp_path / "movie.zarr"
    cut_off(path, movie[:20], calibration_frames=1000)
    with (tmp_path / "movie.zarr.partial" / "spool" / "000000000016.frames").open("r+b") as file:
        file.truncate(3 * 48 * 64 * 2 + 7)
    with pytest.raises(ValueError, match="frame 19 was taken and is missing"):
        finish(path)


def test_a_damaged_block_is_no_secret(tmp_path: Path, movie: Any) -> None:
    """A block of the array whose raw frames are gone already is compared with its checksums."""
    path = tmp_path / "movie.zarr"
    writer = writer_of(path)
    writer.append(movie)
    deadline = time.monotonic() + 60
    while writer.stored < 128 and time.monotonic() < deadline:
        time.sleep(0.01)
        writer.append(movie[:0])
    assert writer.stored == 128
    writer._abandon()  # as if killed
    chunk = tmp_path / "movie.zarr.partial" / "array" / "c" / "3" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-5])
    with pytest.raises(ValueError, match="frame 48 was taken and is missing"):
        finish(path)
    assert finish(path, partial=True).array.shape[0] == 48
    assert verify(path, movie[:48]).ok


def test_a_refused_calibration_keeps_raw_frames(tmp_path: Path) -> None:
    """A scene without contrast stops nobody from recording; constants can be given afterwards."""
    flat = (50 + 90 * np.random.default_rng(0).poisson(8, (80, 48, 64))).astype("int16")
    path = tmp_path / "movie.zarr"
    writer = writer_of(path, sensitivity=None)
    for frame in flat:
        writer.append(frame)
    with pytest.raises(UntrustworthyCalibration) as caught:
        writer.close()
    assert any("anscombe finish" in note for note in caught.value.__notes__)
    with pytest.raises(UntrustworthyCalibration):
        finish(path)
    assert finish(path, sensitivity=KNOWN).verification.ok  # type: ignore[union-attr]
    assert verify(path, flat).ok


def test_constants_of_another_detector_compress_nothing(tmp_path: Path, movie: Any) -> None:
    """A given gain that the first frames contradict is an error at the end, unless it is accepted."""
    wrong = Sensitivity.from_known(conversion_gain=900.0, zero_level=50.0)
    path = tmp_path / "movie.zarr"
    writer = writer_of(path, sensitivity=wrong)
    writer.append(movie)
    with pytest.raises(ConstantsMismatch):
        writer.close()
    assert finish(path, accept_mismatch=True).agreement.verdict == "contradicts"  # type: ignore[union-attr]


def test_a_full_backlog_is_an_error_or_a_wait(tmp_path: Path, movie: Any) -> None:
    """With ``when_behind="raise"`` a frame is refused, taken later, and none is lost or doubled."""
    path = tmp_path / "movie.zarr"
    writer = writer_of(path, when_behind="raise", backlog_bytes=1, threads=1)
    refused = 0
    for start in range(0, 130, 10):
        while True:
            try:
                writer.append(movie[start : start + 10])
                break
            except BacklogFull:
                refused += 1
                time.sleep(0.005)
    writer.close()
    assert refused
    assert verify(path, movie).ok
    other = tmp_path / "other.zarr"
    with writer_of(other, when_behind="block", backlog_bytes=1, threads=1) as blocking:
        blocking.append(movie)
    assert verify(other, movie).ok


def test_a_name_in_use_is_kept(tmp_path: Path, movie: Any) -> None:
    """An array, an unfinished recording and a writer at work are not written over unless it is asked for."""
    path = tmp_path / "movie.zarr"
    with writer_of(path) as writer:
        writer.append(movie[:20])
        with pytest.raises(FileExistsError, match="another process"):
            finish(path)
    with pytest.raises(FileExistsError, match="exists already"):
        writer_of(path)
    other = tmp_path / "other.zarr"
    cut_off(other, movie)
    for resume in (False, True):
        with pytest.raises(FileExistsError, match="anscombe finish"):
            compress(movie, other, sensitivity=KNOWN, resume=resume)
    with pytest.raises(FileExistsError, match="anscombe finish"):
        writer_of(other)
    with writer_of(other, overwrite=True) as again:
        again.append(movie[:20])
    assert verify(other, movie[:20]).ok


@pytest.mark.parametrize(
    ("frames", "error", "match"),
    [
        (np.zeros((48, 65), "int16"), ValueError, r"shape \(y, x\) = \(48, 64\)"),
        (np.zeros((48, 64), "uint16"), TypeError, "int16"),
        (np.zeros(48, "int16"), ValueError, "shape"),
    ],
)
def test_frames_of_another_kind_are_refused(tmp_path: Path, frames: Any, error: Any, match: str) -> None:
    """Neither shape nor dtype is converted in silence."""
    with writer_of(tmp_path / "movie.zarr") as writer:
        writer.append(np.full((48, 64), 500, "int16"))
        with pytest.raises(error, match=match):
            writer.append(frames)
        writer.append(np.full((48, 64), 500, "int16"))
    assert writer.frames == 2


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"frame_shape": (48,)}, ValueError, "frame_shape"),
        ({"dtype": "complex64"}, TypeError, "dtype"),
        ({"dtype": "float32"}, ValueError, "signal_range"),
        ({"signal_range": (5, 5)}, ValueError, "signal_range"),
        ({"calibration_frames": 0}, ValueError, "calibration_frames"),
        ({"chunks": (-1, 48, 64)}, ValueError, "number of frames"),
        ({"chunks": (16, 48, 64), "shards": (-1, 48, 64)}, ValueError, "number of frames"),
        ({"when_behind": "drop"}, ValueError, "when_behind"),
        ({"dimension_names": ("t",)}, ValueError, "dimension_names"),
        ({"destination": "s3://bucket/movie.zarr"}, ValueError, "folder of this computer"),
        ({"destination": "movie.tif"}, ValueError, "tif"),
    ],
)
def test_wrong_parameters_name_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], error: Any, match: str
) -> None:
    """A parameter that breaks its rule is named, and nothing is left behind."""
    monkeypatch.chdir(tmp_path)
    good = {"destination": "movie.zarr", "frame_shape": (48, 64), "dtype": "int16", "sensitivity": KNOWN}
    with pytest.raises(error, match=match):
        StreamWriter(**(good | options))
    assert not any(tmp_path.iterdir())


def test_nothing_is_no_recording(tmp_path: Path) -> None:
    """A writer that got no frame says so when it is closed, and leaves nothing."""
    with pytest.raises(ValueError, match="no frame"), writer_of(tmp_path / "movie.zarr"):
        pass
    assert not any(tmp_path.iterdir())
