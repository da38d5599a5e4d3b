"""A recording opens whole or is refused; what is there of a partial one opens on request and is on record."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from movie_files import write_npy, write_raw, write_suite2p, zarr
from numpy.typing import NDArray

from anscombe_transform import Sensitivity, compress, compute_sensitivity, decompress, verify, write_report
from anscombe_transform.compression import describe
from anscombe_transform.movies import IncompleteRecordingError, open_movie
from anscombe_transform.simulation import simulate_movie

KNOWN = Sensitivity.from_known(conversion_gain=90, zero_level=50)
RAW = {"shape": (-1, 40, 56), "dtype": "i2"}


def test_a_raw_file_cut_within_a_frame_opens_on_request(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """It is refused with both ways out, the number of whole frames and `partial`, and the movie says so."""
    path = write_raw(tmp_path / "a.raw", frames)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(IncompleteRecordingError, match=r"shape=\(11, 40, 56\) or partial=True \(--partial\)"):
        open_movie(path, **RAW)
    for options in (RAW | {"shape": (11, 40, 56)}, RAW | {"partial": True}):
        with open_movie(path, **options) as movie:
            np.testing.assert_array_equal(movie[:], frames[:11])
            assert "ends within a frame: after 11 whole frames" in movie.metadata["partial"][0]
    with open_movie(f"{path}::shape=-1x40x56,dtype=i2,partial=true") as movie:
        assert repr(movie).startswith("<partial Movie (11, 40, 56)")
    with pytest.raises(IncompleteRecordingError, match="is longer than that"):
        open_movie(path, shape=(10, 40, 56), dtype="i2")


def test_a_whole_recording_is_the_same_with_partial(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """`partial` allows a recording not to be whole; it changes nothing of one that is."""
    with open_movie(write_npy(tmp_path / "a.npy", frames), partial=True) as movie:
        np.testing.assert_array_equal(movie[:], frames)
        assert "partial" not in movie.metadata


@pytest.mark.parametrize("axes", ["tyx", "txy"])
def test_an_npy_file_that_was_cut_opens_on_request(
    axes: str, tmp_path: Path, frames: NDArray[np.int16]
) -> None:
    """The whole frames are there, whichever way the images lie."""
    stored = frames if axes == "tyx" else frames.transpose(0, 2, 1)
    path = write_npy(tmp_path / "a.npy", np.ascontiguousarray(stored))
    path.write_bytes(path.read_bytes()[: -3 * frames[0].nbytes - 1])
    with pytest.raises(IncompleteRecordingError, match=r"holds 8 whole frames.*partial=True"):
        open_movie(path, axes=axes)
    with open_movie(path, axes=axes, partial=True) as movie:
        np.testing.assert_array_equal(movie[:], frames[:8])


def test_a_growing_recording_of_suite2p_opens_on_request(tmp_path: Path, frames: NDArray[np.int16]) -> None:
    """A ``data.bin`` that holds fewer or more frames than its settings say is not taken as it comes."""
    path = write_suite2p(tmp_path, frames)
    for held in (7, 12 + 3):
        path.write_bytes(np.concatenate([frames, frames])[:held].tobytes())
        with pytest.raises(IncompleteRecordingError, match=rf"opens the {held} whole frames"):
            open_movie(path)
        with open_movie(path, partial=True) as movie:
            assert len(movie) == held


@pytest.mark.parametrize(
    "extra",
    [
        collections.OrderedDict(a=1),
        collections.defaultdict(list, a=[1]),
        collections.deque([1, 2]),
        collections.Counter("aab"),
        {collections.OrderedDict: {1, 2}},
        Path("/nowhere"),
        np.ma.masked_array([1, 2], [True, False]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_settings_of_suite2p_may_hold_any_object(
    extra: Any, tmp_path: Path, frames: NDArray[np.int16]
) -> None:
    """Only the sizes are wanted, so that nothing else in the pickle matters."""
    path = write_suite2p(tmp_path, frames)
    settings = {"Ly": 40, "Lx": 56, "nframes": 12, "fs": 30.0, "extra": extra}
    for kind in (dict, collections.OrderedDict):
        np.save(tmp_path / "ops.npy", kind(settings), allow_pickle=True)
        with open_movie(path) as movie:
            np.testing.assert_array_equal(movie[:], frames)


def test_the_record_of_a_partial_recording_says_so_for_ever(tmp_path: Path, seed: int) -> None:
    """Everything that opens a movie takes `partial`, and what is stored or exported keeps the note."""
    movie = simulate_movie((30, 32, 32), conversion_gain=90, zero_level=50, rng=seed)[0].astype(np.int16)
    path = write_npy(tmp_path / "a.npy", movie)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(IncompleteRecordingError):
        compute_sensitivity(path)
    assert compute_sensitivity(path, partial=True, on_refusal="return").verdict
    with pytest.raises(IncompleteRecordingError):
        compress(path, tmp_path / "a.zarr", sensitivity=KNOWN)
    compress(path, tmp_path / "a.zarr", sensitivity=KNOWN, partial=True)
    noted = zarr.open_array(tmp_path / "a.zarr").attrs["anscombe_transform"]
    assert "cut short" in noted["source"]["metadata"]["partial"][0]
    assert "PARTIAL" in str(describe(tmp_path / "a.zarr"))
    assert verify(tmp_path / "a.zarr", path, partial=True).ok
    write_report(tmp_path / "a.zarr", tmp_path / "a.html", against=path, partial=True)
    decompress(tmp_path / "a.zarr", tmp_path / "a.h5")
    with open_movie(tmp_path / "a.h5") as back:
        assert "cut short" in str(back.metadata["anscombe_transform"])


def test_the_command_line_takes_partial_recordings(tmp_path: Path, seed: int) -> None:
    """The refusal names ``--partial``, and the commands that open movies take it."""
    testing = pytest.importorskip("typer.testing")
    from anscombe_transform.cli.commands import app

    movie = simulate_movie((30, 32, 32), conversion_gain=90, zero_level=50, rng=seed)[0].astype(np.int16)
    path, stored = write_npy(tmp_path / "a.npy", movie), tmp_path / "a.zarr"
    path.write_bytes(path.read_bytes()[:-100])
    known = ["--gain", "90", "--zero-level", "50"]
    commands = [
        ["compress", str(path), str(stored), *known],
        ["verify", str(stored), "--against", str(path)],
        ["report", str(stored), "--against", str(path), "-o", str(tmp_path / "a.html")],
        ["bench", str(path), "--megabytes", "0.01", *known],
    ]
    for command in commands:
        refused = testing.CliRunner().invoke(app, command)
        assert refused.exit_code != 0, command
        assert "--partial" in refused.output + refused.stderr, command
        taken = testing.CliRunner().invoke(app, [*command, "--partial"])
        assert taken.exit_code == 0, (command, taken.output)
