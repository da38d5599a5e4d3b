"""What is stored is within the bound, is proven to be, and nothing looks finished that is not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from anscombe_transform.calibration import Sensitivity, UntrustworthyCalibration
from anscombe_transform.codec.transform.configuration import UnrepresentableError
from anscombe_transform.compression import (
    ATTRIBUTE,
    VerificationError,
    compress,
    describe,
    verify,
)
from anscombe_transform.compression.blocks import layout as layouts
from anscombe_transform.compression.blocks.comparison import Comparison, digest
from anscombe_transform.compression.blocks.layout import Layout
from anscombe_transform.compression.stored.arrays import folder_store
from anscombe_transform.movies import open_movie

zarr = pytest.importorskip("zarr")
ZARR_3 = int(zarr.__version__.partition(".")[0]) >= 3
FORMATS = (3, 2) if ZARR_3 else (2,)
NEWEST = FORMATS[0]

KNOWN = Sensitivity.from_known(conversion_gain=90.0, zero_level=50.0)


def _options(**given):
    return {"sensitivity": KNOWN, "zarr_format": NEWEST} | given


@pytest.fixture
def movie(rng: np.random.Generator) -> NDArray[np.int16]:
    """Photons at 1 to 16 a pixel, with noise around a zero level that makes some values negative."""
    photons = rng.poisson(np.linspace(1, 16, 50)[:, None] * np.ones(60), (40, 50, 60))
    return np.rint(50 + 90 * photons + rng.normal(0, 40, photons.shape)).astype(np.int16)


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


class _Generated:
    """A movie that exists only frame by frame; `change` sees every block that is read."""

    dtype = np.dtype(np.int16)

    def __init__(self, shape, change=lambda block, first: block) -> None:
        self.shape = shape
        self.change = change

    def __getitem__(self, key):
        start, stop, _ = key[0].indices(self.shape[0])
        frames = np.arange(start, stop) % 7
        block = np.broadcast_to((50 + 90 * frames)[:, None, None], (len(frames), *self.shape[1:]))
        return self.change(block.astype(np.int16), start)[:, *key[1:]]


# --- the main job ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_every_stored_value_is_within_the_bound(
    zarr_format: int, tmp_path: Path, movie: NDArray[np.int16]
) -> None:
    """The array read back differs from the source nowhere by more than the codec promises."""
    path = tmp_path / "movie.zarr"
    result = compress(movie, path, **_options(zarr_format=zarr_format))
    stored = zarr.open_array(str(path), mode="r")
    assert stored.shape == movie.shape
    assert stored.dtype == movie.dtype
    error = np.abs(stored[:].astype(float) - movie)
    assert (error <= result.codec.plan.max_error(movie)).all()
    assert result.verification.ok
    assert result.verification.compared == movie.size
    assert result.verification.max_error == error.max()
    assert result.ratio == movie.nbytes / result.stored_bytes > 3
    assert f"{result.ratio:.2f} times smaller" in str(result)
    # Of a short run, most is imports and compiling: its rate says nothing.
    assert "MB/s" not in str(result)
    assert "(300 MB/s)" in str(replace(result, raw_bytes=3 * 10**9, seconds=10.0))
    assert _names(tmp_path) == {"movie.zarr"}


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_the_attributes_tell_how_the_array_was_made(
    zarr_format: int, tmp_path: Path, movie: NDArray[np.int16]
) -> None:
    """Constants, bound, source, software, date and the verification's result are stored as JSON."""
    np.save(tmp_path / "movie.npy", movie)
    path = tmp_path / "movie.zarr"
    result = compress(tmp_path / "movie.npy", path, **_options(zarr_format=zarr_format))
    document = json.loads((path / ("zarr.json" if zarr_format == 3 else ".zattrs")).read_text())
    noted = (document["attributes"] if zarr_format == 3 else document)[ATTRIBUTE]
    assert noted["complete"] is True
    assert Sensitivity.from_dict(noted["sensitivity"]) == KNOWN
    source = noted["source"]
    assert source.pop("checksum") == digest(zlib.crc32(frame.tobytes()) for frame in movie)
    assert len(source.pop("sample_checksum")) == 64
    assert source == {
        "name": str(tmp_path / "movie.npy"),
        "shape": list(movie.shape),
        "dtype": "int16",
        "minimum": movie.min(),
        "maximum": movie.max(),
        "has_nan": False,
        "metadata": {"format": "numpy"},
    }
    assert noted["beta"] == 0.5
    assert noted["bound"]["at_maximum"] == result.codec.plan.max_error(movie.max())
    assert noted["verification"] == result.verification.to_dict()
    assert {"anscombe-transform", "zarr", "numcodecs", "numpy"} <= set(noted["software"])
    assert noted["date"].endswith("+00:00")
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["ratio"] == result.ratio


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_a_new_process_opens_the_array_with_zarr_alone(
    zarr_format: int, tmp_path: Path, movie: NDArray[np.int16]
) -> None:
    """A process that imports only zarr reads the same numbers: the codec is found by its entry point."""
    path = tmp_path / "movie.zarr"
    compress(movie, path, **_options(zarr_format=zarr_format))
    code = f"import zarr; print(int(zarr.open_array({str(path)!r}, mode='r')[:].astype('int64').sum()))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(result.stdout) == int(zarr.open_array(str(path), mode="r")[:].astype(np.int64).sum())


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_the_two_photon_recording_shrinks_more_than_fourfold(
    zarr_format: int, tmp_path: Path, recordings: Path
) -> None:
    """A real calcium movie becomes at least 4.75 times smaller."""
    path = recordings / "tp_anscombe" / "data1.npz"
    sensitivity = Sensitivity.from_known(conversion_gain=90, zero_level=50)
    result = compress(path, tmp_path / "m.zarr", sensitivity=sensitivity, zarr_format=zarr_format)
    assert result.ratio >= 4.75
    assert result.verification.ok


def test_a_movie_is_calibrated_by_itself(tmp_path: Path, seed: int) -> None:
    """Without constants they are read from the movie, and noted with their verdict."""
    from anscombe_transform.simulation import simulate_movie

    movie, truth = simulate_movie((64, 128, 128), conversion_gain=90, zero_level=50, rng=seed)
    result = compress(movie, tmp_path / "movie.zarr", zarr_format=NEWEST)
    assert result.sensitivity.conversion_gain == pytest.approx(truth.conversion_gain, rel=0.05)
    noted = describe(tmp_path / "movie.zarr").provenance
    assert noted["sensitivity"]["verdict"] == result.sensitivity.verdict != "refused"
    assert noted["sensitivity"]["conversion_gain_interval"] == list(
        result.sensitivity.conversion_gain_interval
    )


def test_a_refused_calibration_stops_unless_constants_are_given(
    tmp_path: Path, movie: NDArray[np.int16]
) -> None:
    """A movie without noise gives the calibration's reason and no array; known constants store it."""
    flat = np.full_like(movie, 500)
    path = tmp_path / "movie.zarr"
    with pytest.raises(UntrustworthyCalibration):
        compress(flat, path, zarr_format=NEWEST)
    from anscombe_transform.calibration import compute_sensitivity

    with pytest.raises(UntrustworthyCalibration):
        compress(flat, path, **_options(sensitivity=compute_sensitivity(flat, on_refusal="return")))
    assert _names(tmp_path) == set()
    assert compress(flat, path, **_options()).verification.ok


def _with_nan(movie: NDArray[np.int16]) -> NDArray[np.float32]:
    values = movie.astype(np.float32)
    values[3, 4, 5] = np.nan
    return values


VALUES = {
    "int16": lambda x: x,
    "big-endian": lambda x: x.astype(">i2"),
    "uint8": lambda x: np.clip(x // 20, 0, 255).astype(np.uint8),
    "uint16 above 32767": lambda x: (np.abs(x.astype(np.int32)) * 20 % 65536).astype(np.uint16),
    "int32": lambda x: x.astype(np.int32) * 100,
    "float32": lambda x: x.astype(np.float32) + np.float32(0.25),
    "float64": lambda x: x.astype(np.float64) / 3,
    "float32 with NaN": _with_nan,
    "far from 0": lambda x: np.abs(x) + np.int16(9000),
    "floats without a code for 0": lambda x: np.abs(x).astype(np.float32) + 9000,
    "constant": lambda x: np.full_like(x, 777),
}


@pytest.mark.parametrize("zarr_format", FORMATS)
@pytest.mark.parametrize("kind", VALUES)
def test_any_kind_of_value_is_stored_within_the_bound(
    kind: str, zarr_format: int, tmp_path: Path, movie: NDArray[np.int16]
) -> None:
    """Integers and floats of all sizes, NaN, and movies far from 0 come back in their own type."""
    values = VALUES[kind](movie)
    path = tmp_path / "movie.zarr"
    # The constants suit some of these values only.
    result = compress(values, path, **_options(zarr_format=zarr_format), accept_mismatch=True)
    stored = zarr.open_array(str(path), mode="r")[:]
    assert stored.dtype == values.dtype.newbyteorder("=")
    np.testing.assert_array_equal(np.isnan(stored), np.isnan(values))
    known = ~np.isnan(values)
    error = np.abs(stored[known].astype(float) - values[known].astype(float))
    bound = result.codec.plan.max_error(values[known])
    assert (error <= bound * (1 + 1e-6)).all()
    assert result.verification.max_error == error.max()
    assert verify(path, values).ok


def test_infinities_are_refused(tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """An infinity has no code, and the error says so before anything is written."""
    values = movie.astype(np.float32)
    values[1, 2, 3] = np.inf
    with pytest.raises(ValueError, match=r"(?i)infinities"):
        compress(values, tmp_path / "movie.zarr", **_options())
    assert _names(tmp_path) == set()


def test_a_store_that_is_not_a_folder_is_written_in_place(movie: NDArray[np.int16]) -> None:
    """A store of zarr is taken as it is, and its array says when it is complete."""
    store: dict = {}
    result = compress(movie, store, **_options())
    assert result.verification.ok
    assert describe(store).complete
    assert result.stored_bytes < movie.nbytes / 3
    with pytest.raises(FileExistsError, match="overwrite"):
        compress(movie, store, **_options())
    assert compress(movie, store, **_options(overwrite=True)).verification.ok


# --- layout ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [((10, 20, 30), (10, 20, 30)), ((-1, 20, -1), (40, 20, 60)), ((999, 999, 1), (40, 50, 1))],
)
def test_chunks_are_what_was_asked_for(
    chunks: tuple[int, int, int], expected: tuple[int, int, int], tmp_path: Path, movie: NDArray[np.int16]
) -> None:
    """Chunk lengths are taken as given, -1 as the whole axis, and none is longer than the movie."""
    result = compress(movie, tmp_path / "movie.zarr", **_options(chunks=chunks))
    assert result.array.chunks == expected
    assert result.verification.ok


@pytest.mark.parametrize("chunks", [(10, 20), (0, 5, 5), (5, -2, 5), (1, 2, 3, 4)])
def test_chunks_without_sense_are_refused(
    chunks: tuple[int, ...], tmp_path: Path, movie: NDArray[np.int16]
) -> None:
    """Chunks that are not three positive lengths are an error that says so."""
    with pytest.raises(ValueError, match="chunks must be three numbers"):
        compress(movie, tmp_path / "movie.zarr", **_options(chunks=chunks))


@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1), (5, 2048, 2048), (1000, 512, 512), (100_000, 64, 64), (300, 200, 200), (77, 257, 300)],
)
def test_the_default_chunks_are_long_in_time_and_bounded(shape: tuple[int, int, int]) -> None:
    """Default chunks fit the movie, hold at most 8 million values, and a block at most 32 MB or 16 frames."""
    movie = open_movie(_Generated(shape))
    t, y, x = Layout.of(movie.shape, movie.dtype).chunks
    assert 1 <= t <= shape[0]
    assert y <= min(shape[1], 256)
    assert x <= min(shape[2], 256)
    assert t * y * x <= 2**23
    frame_bytes = shape[1] * shape[2] * 2
    assert t * frame_bytes <= max(2**25, 16 * frame_bytes)
    # Parts of equal length: the last chunk is no sliver.
    assert shape[0] % t == 0 or shape[0] % t > t // 2 or -(-shape[0] // t) > t // 2


def test_blocks_never_share_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks begin at chunks, so that no two threads write the same chunk."""
    monkeypatch.setattr(layouts, "BLOCK_BYTES", 10_000)
    movie = open_movie(_Generated((101, 20, 20)))
    for frames in (1, 3, 7, 50, 101):
        spans = Layout.of(movie.shape, movie.dtype, (frames, 20, 20)).spans
        assert all(start % frames == 0 for start, _ in spans)
        assert [start for start, _ in spans] == [0, *(stop for _, stop in spans[:-1])]
        assert spans[-1][1] == 101


def test_memory_is_bounded_by_the_blocks_in_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A movie of 128 blocks takes the memory of few of them, whatever its length."""
    monkeypatch.setattr(layouts, "BLOCK_BYTES", 2**20)
    # The frames repeat, as those of planes that take turns, of which some are held for the check.
    monkeypatch.setattr("anscombe_transform.calibration.references.agreement._TURN_BYTES", 2**20)
    shape = (4096, 128, 128)
    compress(_Generated((64, 128, 128)), tmp_path / "warm.zarr", **_options())
    before = []

    def progress(done: int, total: int, stage: str) -> None:
        if stage == "write and verify" and not before:
            before.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.reset_peak()

    options = _options(threads=2, chunks=(32, 128, 128), progress=progress)
    tracemalloc.start()
    compress(_Generated(shape), tmp_path / "movie.zarr", **options)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Two blocks of 1 MB at about five times their size, scratch that doesn't grow with the movie, and what
    # each of Zarr's threads keeps for the frame coder, three times a chunk; there are more of them after
    # other tests.
    kept = 3 * min(32, (os.cpu_count() or 1) + 4)
    assert peak < min((2 * (5 + 5) + kept) * 2**20, 4096 * 128 * 128 * 2 / 3)
    # These frames take turns by 7, so that the constants are compared with one plane first, at most 64 MB;
    # here it has 19 MB, and as much again is worked on.
    assert before[0] < 3 * 4096 * 128 * 128 * 2 / 7


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_nothing_but_time(threads: int, tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """One thread and several store the same bytes."""
    options = _options(chunks=(4, 25, 30), threads=threads)
    compress(movie, tmp_path / "a.zarr", **options)
    compress(movie, tmp_path / "b.zarr", **options | {"threads": 2})
    chunks = [
        path.relative_to(tmp_path / "a.zarr") for path in (tmp_path / "a.zarr").rglob("*") if path.is_file()
    ]
    assert len(chunks) > 40
    for name in chunks:
        if not name.name.startswith((".z", "zarr.json")):
            assert (tmp_path / "a.zarr" / name).read_bytes() == (tmp_path / "b.zarr" / name).read_bytes()
    with pytest.raises(ValueError, match="threads must be at least 1"):
        compress(movie, tmp_path / "c.zarr", **options | {"threads": 0})


@pytest.mark.usefixtures("small_blocks")
def test_progress_counts_frames_of_every_stage(tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """The callback sees each stage from 0 to its total, from the calling thread, and never backwards."""
    import threading

    seen: dict[str, list[tuple[int, int]]] = {}

    def progress(done: int, total: int, stage: str) -> None:
        assert threading.current_thread() is threading.main_thread()
        seen.setdefault(stage, []).append((done, total))

    compress(movie, tmp_path / "a.zarr", **_options(chunks=(8, 50, 60), progress=progress))
    verify(tmp_path / "a.zarr", movie, progress=progress)
    assert list(seen) == ["scan", "write and verify", "verify"]
    for steps in seen.values():
        assert steps[0] == (0, 40)
        assert steps[-1] == (40, 40)
        assert steps == sorted(steps)


# --- nothing is lost ------------------------------------------------------------------------------------


def test_an_existing_array_is_not_touched_unasked(tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """A second compression to the same place is an error, unless it is asked to replace the first."""
    path = tmp_path / "movie.zarr"
    compress(movie, path, **_options())
    with pytest.raises(FileExistsError, match=r"movie\.zarr exists already.*overwrite=True"):
        compress(movie[::-1], path, **_options())
    assert verify(path, movie).ok
    compress(movie[::-1], path, **_options(overwrite=True))
    assert verify(path, movie[::-1]).ok
    assert _names(tmp_path) == {"movie.zarr"}


@pytest.mark.parametrize("zarr_format", FORMATS)
@pytest.mark.parametrize("in_store", [False, True])
def test_an_array_of_an_unknown_codec_is_replaced(
    in_store: bool, zarr_format: int, tmp_path: Path, movie: NDArray[np.int16]
) -> None:
    """An array that can't be opened here stays unless it may be overwritten, and then it is replaced."""
    path = tmp_path / "movie.zarr"
    compress(movie, path, **_options(zarr_format=zarr_format))
    document = path / ("zarr.json" if zarr_format == 3 else ".zarray")
    text = document.read_text()
    for name in ('"anscombe', '"anscombe-v1', '"anscombe-v2'):
        text = text.replace(f'{name}"', '"of-tomorrow"')
    assert "of-tomorrow" in text
    document.write_text(text)
    store = folder_store(path) if in_store else path
    with pytest.raises(FileExistsError, match="overwrite=True"):
        compress(movie[::-1], store, **_options(zarr_format=zarr_format))
    assert document.read_text() == text
    compress(movie[::-1], store, **_options(zarr_format=zarr_format, overwrite=True))
    assert verify(path, movie[::-1]).ok


@pytest.mark.parametrize(("frames", "noted"), [(15, 1), (16, 0)])
def test_values_fitted_to_few_frames_are_noted(
    frames: int, noted: int, tmp_path: Path, movie: NDArray[np.int16], caplog: pytest.LogCaptureFixture
) -> None:
    """The log and the record say once that values are fitted to fewer than 16 frames."""
    options = _options()
    options.pop("chunks", None)
    result = compress(movie[:frames], tmp_path / "movie.zarr", **options)
    assert [r.code for r in result.sensitivity.reasons].count("fitted_to_few_frames") == noted
    assert sum("are fitted to" in record.message for record in caplog.records) == noted
    reasons = describe(tmp_path / "movie.zarr").provenance["sensitivity"]["reasons"]
    assert sum(f"fitted to {frames} frames" in reason["message"] for reason in reasons) == noted


def test_a_folder_of_something_else_is_never_overwritten(tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """Overwriting replaces Zarr arrays only, not what else may have that name."""
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter1.txt").write_text("In the beginning")
    for path in (folder, folder / "chapter1.txt"):
        with pytest.raises(FileExistsError, match="not written by Zarr"):
            compress(movie, path, **_options(overwrite=True))
    assert (folder / "chapter1.txt").read_text() == "In the beginning"


def test_a_movie_is_not_replaced_by_its_own_copy(tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """Compressing an array onto itself is refused, as the original would be gone."""
    path = tmp_path / "movie.zarr"
    compress(movie, path, **_options())
    with pytest.raises(ValueError, match="source and store are both"):
        compress(path, path, **_options(overwrite=True))
    assert verify(path, movie).ok


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_failure_in_the_middle_leaves_nothing_that_looks_finished(
    overwrite: bool, tmp_path: Path, movie: NDArray[np.int16]
) -> None:
    """A read error while writing leaves a partial array, and the one that was there before."""
    path = tmp_path / "movie.zarr"
    before = set()
    if overwrite:
        compress(movie, path, **_options())
        before = {"movie.zarr"}

    def fail(block: NDArray[np.int16], first: int) -> NDArray[np.int16]:
        if first == 24:
            assert "movie.zarr.partial" in _names(tmp_path)
            raise OSError("the disk has a scratch")
        return block

    with pytest.raises(OSError, match="scratch") as caught:
        compress(
            _Generated((40, 50, 60), fail),
            path,
            **_options(chunks=(8, 50, 60), overwrite=overwrite, threads=1),
        )
    assert _names(tmp_path) == before | {"movie.zarr.partial"}
    assert "3 of 5 blocks are written and kept" in caught.value.__notes__[0]
    assert not describe(tmp_path / "movie.zarr.partial" / "array").complete
    if overwrite:
        assert verify(path, movie).ok


@pytest.mark.usefixtures("small_blocks")
def test_a_value_that_appears_while_writing_is_an_error(tmp_path: Path) -> None:
    """A source that changes between the passes can't smuggle in a value that has no code."""

    def change(block: NDArray[np.int16], first: int) -> NDArray[np.int16]:
        return np.full_like(block, -5000) if first == 16 else block

    with pytest.raises(UnrepresentableError, match="value -5000 at index"):
        compress(_Generated((40, 50, 60), change), tmp_path / "movie.zarr", **_options(chunks=(8, 50, 60)))
    assert _names(tmp_path) == set()


@pytest.mark.usefixtures("small_blocks")
def test_an_interrupt_keeps_what_is_written(tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """Ctrl-C in the middle of writing leaves the finished blocks, from which resuming goes on."""

    def interrupt(done: int, total: int, stage: str) -> None:
        if stage.startswith("write") and done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compress(movie, tmp_path / "movie.zarr", **_options(chunks=(8, 50, 60), progress=interrupt))
    assert _names(tmp_path) == {"movie.zarr.partial"}
    with pytest.raises(FileExistsError, match="interrupted run with 1 finished blocks"):
        compress(movie, tmp_path / "movie.zarr", **_options(chunks=(8, 50, 60)))
    with pytest.raises(FileNotFoundError, match="resume=True"):
        describe(tmp_path / "movie.zarr")
    written: list[int] = []

    def note(done: int, total: int, stage: str) -> None:
        if stage.startswith("write"):
            written.append(done)

    options = _options(chunks=(8, 50, 60), resume=True)
    assert compress(movie, tmp_path / "movie.zarr", **options, progress=note).verification.ok
    assert written[0] == 8
    assert _names(tmp_path) == {"movie.zarr"}


@pytest.mark.usefixtures("small_blocks")
def test_a_store_that_returns_other_values_is_found_out(
    tmp_path: Path, movie: NDArray[np.int16], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When what is read back is not what was promised, the error says where and nothing is left."""
    original = Comparison.compare

    def compare(self, block, stored, first, row):
        stored = stored.copy()
        if first == 8:
            stored[2, 3, 4] += 9000
        return original(self, block, stored, first, row)

    monkeypatch.setattr(Comparison, "compare", compare)
    with pytest.raises(VerificationError, match=r"first is at \(time, y, x\) = \(10, 3, 4\)") as caught:
        compress(movie, tmp_path / "movie.zarr", **_options(chunks=(8, 50, 60)))
    assert caught.value.verification.failed == 1
    assert _names(tmp_path) == set()


@pytest.mark.usefixtures("small_blocks")
def test_an_unfinished_array_says_so(tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """Until the end the array's attribute says that it is not complete, also under another name."""
    found: list[bool] = []

    def look(done: int, total: int, stage: str) -> None:
        if stage.startswith("write") and done:
            partial = tmp_path / "movie.zarr.partial" / "array"
            found.append(describe(partial).complete)
            assert "INCOMPLETE" in str(describe(partial))

    compress(movie, tmp_path / "movie.zarr", **_options(chunks=(8, 50, 60), progress=look))
    assert found
    assert not any(found)
    assert describe(tmp_path / "movie.zarr").complete


def test_without_verification_the_array_says_so(tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """``verify=False`` writes the same array and notes that nobody looked."""
    result = compress(movie, tmp_path / "movie.zarr", **_options(verify=False))
    assert result.verification is None
    assert "verification  not made" in str(result)
    assert "verification  none was made" in str(describe(tmp_path / "movie.zarr"))
    assert verify(tmp_path / "movie.zarr", movie).ok


@pytest.mark.skipif(ZARR_3, reason="zarr-python 3 writes both formats")
def test_zarr_2_refuses_format_3(tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """An old zarr says what to do instead of failing somewhere inside."""
    with pytest.raises(ValueError, match="zarr_format=2"):
        compress(movie, tmp_path / "movie.zarr", **_options(zarr_format=3))


@pytest.mark.parametrize("gain", [1.0, 90.0])
def test_the_bound_holds_in_units_of_the_noise(gain: float, tmp_path: Path, rng: np.random.Generator) -> None:
    """The announced largest error, in local standard deviations, is never exceeded, and nearly reached."""
    photons = rng.poisson(np.linspace(0, 60, 50)[:, None] * np.ones(60), (40, 50, 60))
    movie = np.rint(100 + gain * photons).astype(np.int16)
    known = Sensitivity.from_known(conversion_gain=gain, zero_level=100)
    result = compress(movie, tmp_path / "movie.zarr", **_options(sensitivity=known))
    curve, plan = result.codec.plan.curve, result.codec.plan
    x = np.arange(movie.min(), movie.max() + 1)
    error = np.abs(plan.decode(plan.encode(x.astype(np.int16))) - x.astype(float)) / curve.noise_std(x)
    assert error.max() <= result.bound
    assert result.bound <= error.max() * 1.2
    # Half a step where it is bright. In the dark such a detector has few values, and a code decodes to one of
    # them wherever it lies in its bin, whose width is a fifth more at 0 photons.
    assert 0.25 < result.bound < 0.5 * 1.25 + 0.5 / curve.noise_std(movie.min())


@pytest.mark.parametrize("dtype", [None, "float32"])
def test_the_mean_of_every_brightness_stays(
    dtype: str | None, tmp_path: Path, rng: np.random.Generator
) -> None:
    """Of a detector whose pulses vary as no calibration tells, the stored values are fitted to the movie."""
    photons = rng.poisson(1.4 * np.linspace(0.2, 4, 100)[:, None] ** 2 * np.ones(100), (100, 100, 100))
    movie = np.rint(50 + 60 * rng.gamma(np.maximum(photons, 1e-9) / 0.4, 0.4 / 1.4)).astype(np.int16)
    known = Sensitivity.from_known(conversion_gain=60, zero_level=50)
    result = compress(movie, tmp_path / "movie.zarr", **_options(sensitivity=known, dtype=dtype))
    # Bands of rows of one brightness: 100 frames of 10 × 100 pixels.
    original, stored = (a.astype(float).reshape(100, 10, 1000).mean((0, 2)) for a in (movie, result.array[:]))
    noise = result.codec.plan.curve.noise_std(original)
    # Rounding has the standard deviation β/√12, in each of 100,000 values.
    assert (np.abs(stored - original) < (0.004 + 4 * 0.5 / np.sqrt(12 * 10**5)) * noise).all()


def test_an_unknown_format_is_refused(tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """There are two formats of Zarr."""
    with pytest.raises(ValueError, match="zarr_format must be 2 or 3, got 4"):
        compress(movie, tmp_path / "movie.zarr", **_options(zarr_format=4))


# --- clipping -------------------------------------------------------------------------------------------


def test_clipping_is_counted_and_never_unasked(tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """A range beyond the codes is an error; with ``out_of_range="clip"`` it is clipped and counted."""
    options = _options(
        sensitivity=Sensitivity.from_known(conversion_gain=0.5, zero_level=50), encoded_dtype="uint8"
    )
    with pytest.raises(ValueError, match=r"needs \d+ codes"):
        compress(movie, tmp_path / "movie.zarr", **options)
    assert _names(tmp_path) == set()
    clip = {"out_of_range": "clip", "accept_mismatch": True}
    result = compress(movie, tmp_path / "movie.zarr", **options, **clip)
    outside = (movie < result.codec.plan.lowest) | (movie > result.codec.plan.highest)
    assert outside.sum() > 100
    assert result.verification.ok
    assert result.verification.clipped == outside.sum()
    assert f"{outside.sum():,} were clipped as asked" in str(result.verification)
    assert verify(tmp_path / "movie.zarr", movie) == result.verification


# --- verify ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int16", "uint16", "int32", "float32"])
def test_verification_finds_one_wrong_value_and_says_where(
    dtype: str, tmp_path: Path, movie: NDArray[np.int16], rng: np.random.Generator
) -> None:
    """One source value beyond the bound of its code, anywhere, is found; one on the bound is not."""
    values = np.abs(movie).astype(dtype)
    result = compress(values, tmp_path / "movie.zarr", **_options(chunks=(8, 50, 60)))
    plan = result.codec.plan
    stored = zarr.open_array(str(tmp_path / "movie.zarr"), mode="r")[:]
    index = tuple(int(rng.integers(n)) for n in values.shape)
    low, high = plan.bins
    code = int(plan.curve.code(stored[index]))
    step = 1 if np.dtype(dtype).kind != "f" else high[code] * 1e-3
    for value, within in ((high[code], True), (low[code], True)):
        changed = values.copy()
        changed[index] = value
        # A bin's far end is within the bound of the bin by definition, and the bound is no wider.
        assert verify(tmp_path / "movie.zarr", changed).ok is within
    changed[index] = high[code] + 2 * plan.max_error(high[code]) + step
    checked = verify(tmp_path / "movie.zarr", changed)
    assert not checked.ok
    assert checked.failed == 1
    assert checked.index == index
    assert checked.original == changed[index]
    assert checked.stored == stored[index]
    assert checked.max_error_in_bounds > 1
    assert str(index) in str(checked)


def test_verification_agrees_with_the_definition(movie: NDArray[np.int16], rng: np.random.Generator) -> None:
    """The table of bounds decides as the definition does, for every int16 and errors around the bound."""
    plan = KNOWN.codec(sample=movie, zarr_format=2).plan
    x = np.arange(int(plan.lowest), int(plan.highest) + 1, dtype=np.int16).reshape(1, 1, -1)
    bound = plan.max_error(x)
    check = Comparison(plan)
    for offset in (-1, -0.5, 0, 0.5, 1):
        error = np.rint(bound + offset)
        sign = rng.choice([-1, 1], x.shape)
        decoded = (x + sign * error).astype(np.int16)
        wrong = np.abs(decoded.astype(float) - x) > bound
        found = check.compare(x, decoded, 0)
        assert found.failed == wrong.sum()
        assert found.ok is not wrong.any()


def test_a_lost_nan_is_found(tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """NaN where there was a number, and a number where there was NaN, are both failures."""
    values = _with_nan(movie)
    compress(values, tmp_path / "movie.zarr", **_options())
    for index, value in (((3, 4, 5), 100.0), ((7, 8, 9), np.nan)):
        changed = values.copy()
        changed[index] = value
        checked = verify(tmp_path / "movie.zarr", changed)
        assert not checked.ok
        assert checked.index == index


def test_verify_compares_like_with_like(tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """Another shape or dtype, or an array without our codec, is an error and not a verdict."""
    path = tmp_path / "movie.zarr"
    compress(movie, path, **_options())
    with pytest.raises(ValueError, match=r"shape \(39, 50, 60\), the stored array \(40, 50, 60\)"):
        verify(path, movie[1:])
    with pytest.raises(ValueError, match="type int32, the stored array int16"):
        verify(path, movie.astype(np.int32))
    plain = zarr.array(movie)
    with pytest.raises(ValueError, match="has no Anscombe codec"):
        verify(plain, movie)
    with pytest.raises(FileNotFoundError, match="there is no stored movie"):
        verify(tmp_path / "absent.zarr", movie)
    with pytest.raises(ValueError, match="is not a stored movie"):
        verify(tmp_path, movie)


def test_a_damaged_chunk_does_not_pass_for_data(tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """A flipped bit in a stored chunk is found by its checksum when it is read."""
    path = tmp_path / "movie.zarr"
    compress(movie, path, **_options(chunks=(40, 50, 60)))
    chunk = max((p for p in path.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 4
    chunk.write_bytes(content)
    with pytest.raises(VerificationError, match="frames 0 to 39 of the stored array can't be read"):
        verify(path, movie)


# --- describe -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_a_stored_movie_describes_itself(zarr_format: int, tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """Shape, size, codec, verdict, bound and verification are told from the array alone."""
    result = compress(movie, tmp_path / "movie.zarr", **_options(zarr_format=zarr_format))
    stored = describe(tmp_path / "movie.zarr")
    assert stored.shape == movie.shape
    assert stored.dtype == "int16"
    assert stored.zarr_format == zarr_format
    assert stored.ratio == result.ratio
    assert stored.codec["conversion_gain"] == 90
    assert stored.codec["lowest"] <= movie.min()
    text = str(stored)
    for part in (
        "40 × 50 × 60 int16",
        "gain 90",
        "given",
        "measured standard deviations of the noise",
        "within",
    ):
        assert part in text
    assert json.loads(json.dumps(stored.to_dict(), allow_nan=False))["complete"] is True


def test_arrays_that_others_wrote_are_described_as_well(tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """An array with our codec but no provenance, and one without our codec, are told apart."""
    from anscombe_transform.codec.zarr_v2 import AnscombeTransformV2

    codec = AnscombeTransformV2(zero_level=50, conversion_gain=90.0)
    path = str(tmp_path / "a.zarr")
    options = {"shape": movie.shape, "dtype": movie.dtype, "chunks": (20, 50, 60)}
    if ZARR_3:
        array = zarr.create_array(path, zarr_format=2, filters=[codec], **options)
    else:
        array = zarr.open_array(path, mode="w", filters=[codec], **options)
    array[:] = np.abs(movie)
    stored = describe(path)
    assert stored.codec["name"] == "anscombe-v1"
    assert stored.provenance is None
    assert stored.complete
    assert verify(path, np.abs(movie)).ok
    plain = describe(zarr.array(movie))
    assert plain.codec is None
    assert "none of ours" in str(plain)


def test_a_group_asks_which_array(tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """A group is no array; ``group::name`` names one in it."""
    zarr.open_group(str(tmp_path / "session.zarr"), mode="w", **({"zarr_format": NEWEST} if ZARR_3 else {}))
    compress(movie, f"{tmp_path}/session.zarr::green", **_options())
    with pytest.raises(ValueError, match=r"is a group of arrays \(green\): say which"):
        describe(tmp_path / "session.zarr")
    assert describe(f"{tmp_path}/session.zarr::green").complete
    assert verify(tmp_path / "session.zarr" / "green", movie).ok
    with open_movie(f"{tmp_path}/session.zarr::green") as stored:
        assert stored.shape == movie.shape


def test_decoded_values_are_verified_with_their_codec(rng: np.random.Generator) -> None:
    """Given the codec, decoded arrays are compared too, and the first value beyond its bound is named."""
    movie = (50 + 90 * rng.poisson(8, (12, 20, 30))).astype("int16")
    codec = KNOWN.codec(sample=movie, zarr_format=FORMATS[0])
    decoded = codec.plan.decode(codec.plan.encode(movie))
    found = verify(decoded, movie, codec=codec)
    assert found.ok
    assert found.compared == movie.size
    decoded[7, 3, 5] += 3000
    found = verify(decoded, movie, codec=codec)
    assert not found.ok
    assert found.index == (7, 3, 5)
    with pytest.raises(ValueError, match="shape"):
        verify(decoded[1:], movie, codec=codec)


def test_chunks_written_one_by_one_are_those_of_one_assignment(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """Large chunks, the shorter ones at the edges among them, hold the bytes that zarr writes by itself."""
    movie = (50 + 90 * rng.poisson(8, (40, 300, 280))).astype("int16")
    stored = compress(movie, tmp_path / "movie.zarr", chunks=(16, 200, 200), **_options()).array
    copied = tmp_path / "again.zarr"
    shutil.copytree(tmp_path / "movie.zarr", copied)
    again = zarr.open_array(str(copied), mode="r+")
    again[:] = 0
    again[:] = movie
    assert again.chunks == stored.chunks == (16, 200, 200)
    names = {path.relative_to(copied) for path in copied.rglob("*") if path.is_file()}
    assert len(names) > 12
    assert all((tmp_path / "movie.zarr" / n).read_bytes() == (copied / n).read_bytes() for n in names)
