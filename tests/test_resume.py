"""A run that ends early leaves what the next one goes on with, and nothing that looks finished."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from anscombe_transform.calibration import Sensitivity
from anscombe_transform.compression import ATTRIBUTE, compress, describe, verify
from anscombe_transform.compression.blocks import layout as layouts
from anscombe_transform.native import durable

zarr = pytest.importorskip("zarr")
NEWEST = 3 if hasattr(zarr, "create_array") else 2
KNOWN = Sensitivity.from_known(conversion_gain=90.0, zero_level=50.0)
OPTIONS = {"sensitivity": KNOWN, "chunks": (8, 24, 24), "threads": 1, "zarr_format": NEWEST}

pytestmark = pytest.mark.usefixtures("small_blocks")


def _after(frames: int, act):
    def progress(done: int, total: int, stage: str) -> None:
        if stage.startswith("write") and done == frames:
            act()

    return progress


def _interrupt() -> None:
    raise KeyboardInterrupt


def _begin(movie: NDArray[np.int16], path: Path, frames: int = 16, **given) -> None:
    with pytest.raises(KeyboardInterrupt):
        compress(movie, path, **OPTIONS | given, progress=_after(frames, _interrupt))


def _contents(path: Path) -> dict[str, bytes]:
    """The files of an array, of the metadata all but the date."""
    files = {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}
    for name in ("zarr.json", ".zattrs"):
        if name in files:
            document = json.loads(files[name])
            noted = document.get("attributes", document)[ATTRIBUTE]
            del noted["date"]
            files[name] = json.dumps(document).encode()
    return files


KILLED = """
import os, signal, sys, time
import numpy as np
from anscombe_transform.calibration import Sensitivity
from anscombe_transform.compression import compress
from anscombe_transform.compression.blocks import layout
import zarr

layout.BLOCK_BYTES = 1
path, seed = sys.argv[1], int(sys.argv[2])
values = (50 + 90 * np.random.default_rng(seed).poisson(8, (96, 24, 24))).astype(np.int16)
known = Sensitivity.from_known(conversion_gain=90.0, zero_level=50.0)

class Slow:
    shape, dtype = values.shape, values.dtype
    def __getitem__(self, key):
        time.sleep(0.004)
        return values[key]

def work(name, movie):
    compress(movie, name, sensitivity=known, chunks=(4, 24, 24), resume=True, zarr_format=int(sys.argv[3]))

rng = np.random.default_rng(seed)
for kill in range(10):
    child = os.fork()
    if not child:
        work(path, Slow())
        os._exit(0)
    time.sleep(rng.uniform(0, 0.15))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    both = os.path.exists(path) and os.path.exists(path + ".partial/array")
    print("killed" if os.WIFSIGNALED(status) else "ended", "BOTH" if both else "", flush=True)
    if os.path.exists(path):
        attributes = dict(zarr.open_array(path, mode="r").attrs)
        print("complete" if attributes["anscombe_transform"]["complete"] else "LIES")
work(path, Slow())
work(path + ".whole", Slow())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork to kill many processes quickly")
def test_killed_at_ten_random_moments_and_resumed(tmp_path: Path, seed: int) -> None:
    """After ten kills the array is byte for byte that of an undisturbed run; nothing is left beside it."""
    path = tmp_path / "movie.zarr"
    command = [sys.executable, "-c", KILLED, str(path), str(seed), str(NEWEST)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "killed" in done.stdout
    assert "BOTH" not in done.stdout
    assert "LIES" not in done.stdout
    assert _contents(path) == _contents(tmp_path / "movie.zarr.whole")
    assert {p.name for p in tmp_path.iterdir()} == {"movie.zarr", "movie.zarr.whole"}
    assert verify(path).ok


def test_a_finished_array_is_returned_as_it_is(tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """Resuming what is finished writes nothing; another source is refused."""
    path = tmp_path / "movie.zarr"
    first = compress(movie, path, **OPTIONS)
    before = _contents(path)
    again = compress(movie, path, **OPTIONS, resume=True)
    assert _contents(path) == before
    assert again.verification == first.verification
    assert again.bound == first.bound
    with pytest.raises(ValueError, match="source sample_checksum was"):
        compress(movie[::-1], path, **OPTIONS, resume=True)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"beta": 0.4}, "beta was 0.5 and is 0.4"),
        ({"chunks": (4, 24, 24)}, r"chunks was \[8, 24, 24\] and is \[4, 24, 24\]"),
        ({"sensitivity": Sensitivity.from_known(conversion_gain=80, zero_level=50)}, "sensitivity was"),
        ({"preset": "portable"}, "preset was 'fast' and is 'portable'"),
        ({"dtype": "float32"}, "dtype was 'int16' and is 'float32'"),
    ],
)
def test_other_parameters_are_refused_by_name(
    given: dict, named: str, tmp_path: Path, movie: NDArray[np.int16]
) -> None:
    """An interrupted run is not gone on with under other parameters, and beginning again is possible."""
    path = tmp_path / "movie.zarr"
    _begin(movie, path)
    with pytest.raises(ValueError, match=named):
        compress(movie, path, **OPTIONS | given, resume=True)
    assert (tmp_path / "movie.zarr.partial").exists()
    assert compress(movie, path, **OPTIONS | given, overwrite=True).verification.ok
    assert {p.name for p in tmp_path.iterdir()} == {"movie.zarr"}


def test_another_source_is_refused(tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """Values, shape and dtype of the source must be those that the run began with."""
    path = tmp_path / "movie.zarr"
    _begin(movie, path)
    other = movie.copy()
    other[3, 4, 5] += 1
    for source, named in (
        (other, "source sample_checksum"),
        (movie[:-1], "source shape"),
        (movie.astype(np.int32), "source dtype"),
    ):
        with pytest.raises(ValueError, match=named):
            compress(source, path, **OPTIONS, resume=True)
    assert compress(movie, path, **OPTIONS, resume=True).verification.ok


def test_blocks_that_were_damaged_meanwhile_are_written_again(
    tmp_path: Path, movie: NDArray[np.int16], caplog: pytest.LogCaptureFixture
) -> None:
    """What an interrupted run has written is read before it is trusted, and journal files may be torn."""
    path, whole = tmp_path / "movie.zarr", tmp_path / "whole.zarr"
    compress(movie, whole, **OPTIONS)
    _begin(movie, path, 32)
    partial = tmp_path / "movie.zarr.partial"
    chunks = sorted(
        p for p in (partial / "array").rglob("*") if p.is_file() and not p.name.startswith((".", "zarr"))
    )
    chunks[1].write_bytes(chunks[0].read_bytes())
    chunks[2].write_bytes(b"torn")
    journal = partial / "journal" / "blocks.json"
    lines = journal.read_text().split("\n\n")
    lines[3] = lines[3][:50]
    journal.write_text("\n\n".join(lines))
    compress(movie, path, **OPTIONS, resume=True)
    assert caplog.text.count("damaged and written again") == 2
    assert _contents(path) == _contents(whole)


def test_a_second_process_is_kept_away(tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """While one run writes, another one to the same name is an error, whatever it was told."""
    path = tmp_path / "movie.zarr"
    refused: list[str] = []

    def second() -> None:
        for options in ({"overwrite": True}, {"resume": True}):
            with pytest.raises(FileExistsError, match="another process is writing") as caught:
                compress(movie, path, **OPTIONS, **options)
            refused.append(str(caught.value))

    compress(movie, path, **OPTIONS, progress=_after(16, second))
    assert len(refused) == 2
    assert verify(path, movie).ok


def test_a_run_that_came_later_does_not_replace_what_another_finished(
    tmp_path: Path, movie: NDArray[np.int16]
) -> None:
    """The name is looked at again once the lock is held, and once more before it is given."""
    path = tmp_path / "movie.zarr"

    class Slow:
        """A source during whose opening another process does the whole job."""

        dtype, ndim, begun = movie.dtype, 3, False

        @property
        def shape(self) -> tuple[int, ...]:
            if not Slow.begun:
                Slow.begun = True
                compress(movie[::-1], path, **OPTIONS)
            return movie.shape

        def __getitem__(self, key):
            return movie[key]

    with pytest.raises(FileExistsError, match="exists already"):
        compress(Slow(), path, **OPTIONS)
    assert verify(path, movie[::-1]).ok

    late = tmp_path / "late.zarr"
    with pytest.raises(FileExistsError, match="exists already"):
        compress(movie, late, **OPTIONS, progress=_after(16, lambda: path.rename(late)))
    assert verify(late, movie[::-1]).ok


@pytest.mark.parametrize("content", [b"", b"{", bytes(3000), b"[]", b"{}"])
def test_metadata_that_a_power_cut_tore_begin_the_run_again(
    content: bytes, tmp_path: Path, movie: NDArray[np.int16]
) -> None:
    """Whatever the metadata of an interrupted run hold, resuming ends with the whole array."""
    path = tmp_path / "movie.zarr"
    compress(movie, tmp_path / "whole.zarr", **OPTIONS)
    for name in ("zarr.json", ".zarray", ".zattrs"):
        _begin(movie, path)
        file = tmp_path / "movie.zarr.partial" / "array" / name
        if file.exists():
            file.write_bytes(content)
        compress(movie, path, **OPTIONS, resume=True)
        assert _contents(path) == _contents(tmp_path / "whole.zarr")
        durable.delete(path)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b'{"start": 0}', bytes(300)])
def test_torn_records_of_the_journal_are_passed_over(
    content: bytes, tmp_path: Path, movie: NDArray[np.int16]
) -> None:
    """A block whose record says nothing is written again."""
    path = tmp_path / "movie.zarr"
    _begin(movie, path)
    for record in (tmp_path / "movie.zarr.partial" / "journal").glob("blocks*.json"):
        record.write_bytes(content)
    assert compress(movie, path, **OPTIONS, resume=True).verification.ok


def test_the_replaced_array_stays_until_the_new_one_is_finished(
    tmp_path: Path, movie: NDArray[np.int16]
) -> None:
    """Overwriting that is interrupted leaves the old array, and resuming it replaces that."""
    path = tmp_path / "movie.zarr"
    compress(movie[::-1], path, **OPTIONS)
    with pytest.raises(KeyboardInterrupt):
        compress(movie, path, **OPTIONS, overwrite=True, progress=_after(16, _interrupt))
    assert verify(path, movie[::-1]).ok
    begun: list[int] = []

    def note(done: int, total: int, stage: str) -> None:
        begun.append(done if stage.startswith("write") else -1)

    compress(movie, path, **OPTIONS, overwrite=True, resume=True, progress=note)
    assert min(done for done in begun if done >= 0) == 16
    assert verify(path, movie).ok
    assert {p.name for p in tmp_path.iterdir()} == {"movie.zarr"}


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are of POSIX")
def test_a_full_disk_leaves_a_run_to_resume(tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """When a chunk can't be written, the error is the system's and says how to go on."""
    import resource

    path = tmp_path / "movie.zarr"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            compress(
                movie,
                path,
                **OPTIONS,
                progress=_after(16, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))),
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "2 of 5 blocks are written and kept" in caught.value.__notes__[0]
    assert not path.exists()
    assert not describe(tmp_path / "movie.zarr.partial" / "array").complete
    assert compress(movie, path, **OPTIONS, resume=True).verification.ok


@pytest.mark.skipif(NEWEST == 2, reason="the metadata are those of Zarr format 3")
def test_an_array_with_an_unknown_codec_is_replaced(tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """Overwriting looks at what kind of node is there, and need not be able to read it."""
    path = tmp_path / "movie.zarr"
    compress(movie, path, **OPTIONS)
    document = json.loads((path / "zarr.json").read_bytes())
    document["codecs"][-1]["name"] = "of_somebody_else"
    (path / "zarr.json").write_text(json.dumps(document))
    assert compress(movie, path, **OPTIONS, overwrite=True).verification.ok
    (path / "zarr.json").write_bytes(b"{")
    with pytest.raises(FileExistsError, match="can't be read"):
        compress(movie, path, **OPTIONS, overwrite=True)
    assert (path / "c").exists()


def test_a_disk_that_fills_up_says_how_much_is_needed(
    tmp_path: Path, movie: NDArray[np.int16], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error in the middle, and one before the second block, name what the array takes and what is free."""
    path, real = tmp_path / "movie.zarr", os.fsync

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="estimated from 2 of 5 blocks") as caught:
        compress(movie, path, **OPTIONS, progress=_after(16, lambda: monkeypatch.setattr(os, "fsync", full)))
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.setattr(os, "fsync", real)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda where: usage._replace(free=1000))
    with pytest.raises(OSError, match=r"estimated from 3 of 5 blocks.*0\.0 MB are free.*--resume"):
        compress(movie, path, **OPTIONS, resume=True)
    monkeypatch.setattr(shutil, "disk_usage", lambda where: usage)
    assert compress(movie, path, **OPTIONS, resume=True).verification.ok
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="it takes at most about 0"):
        compress(movie, tmp_path / "other.zarr", **OPTIONS)
    assert not (tmp_path / "other.zarr").exists()


def test_a_tiff_that_is_cut_short_meanwhile(tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """A source that loses its end gives an error with the frames, and is resumed when it is whole again."""
    tifffile = pytest.importorskip("tifffile")
    source, path = tmp_path / "movie.tif", tmp_path / "movie.zarr"
    tifffile.imwrite(source, movie, photometric="minisblack")
    content = source.read_bytes()

    def cut() -> None:
        os.truncate(source, len(content) * 2 // 3)

    with pytest.raises(ValueError, match=r"cannot read frames \d+ to \d+ of .*movie\.tif"):
        compress(source, path, **OPTIONS, progress=_after(8, cut))
    assert not path.exists()
    with pytest.raises(ValueError, match="cut short"):
        compress(source, path, **OPTIONS, resume=True)
    source.write_bytes(content)
    assert compress(source, path, **OPTIONS, resume=True).verification.ok
    assert verify(path, source).ok


@pytest.mark.usefixtures("sparse_sample")
def test_a_value_that_the_sample_did_not_show_begins_the_array_again(
    tmp_path: Path, movie: NDArray[np.int16], caplog: pytest.LogCaptureFixture
) -> None:
    """A rare value without a code is announced, the whole movie looked through, and every value stored."""
    rare = movie.copy()
    rare[20, 3, 4] = -3000
    stages: list[str] = []
    result = compress(
        rare, tmp_path / "movie.zarr", **OPTIONS, progress=lambda done, total, stage: stages.append(stage)
    )
    assert "value -3000" in caplog.text
    assert "begun again" in caplog.text
    assert "scan all" in stages
    assert verify(result.path, rare).ok
    assert describe(result.path).provenance["whole_range"] is True
    caplog.clear()
    result = compress(movie, tmp_path / "other.zarr", **OPTIONS)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    noted = describe(result.path).provenance
    assert noted["whole_range"] is False
    assert noted["source"]["minimum"] == movie.min()
    assert noted["source"]["maximum"] == movie.max()


@pytest.mark.usefixtures("sparse_sample")
def test_clipping_looks_at_every_value_first(tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """With ``out_of_range="clip"`` a value beyond the sample's is given a code, not clipped in silence."""
    rare = movie.copy()
    rare[20, 3, 4] = -3000
    result = compress(rare, tmp_path / "movie.zarr", **OPTIONS, out_of_range="clip")
    assert result.verification.clipped == 0
    assert verify(result.path, rare).ok


# --- checksums ------------------------------------------------------------------------------------------


def test_stored_checksums_find_a_changed_value(tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """Without the source, a value that someone changed is found by its block, and the chunk is named."""
    path = tmp_path / "movie.zarr"
    compress(movie, path, **OPTIONS)
    found = verify(path)
    assert found.ok
    assert found.against == "checksums"
    assert found.compared == movie.size
    assert "by their checksums" in str(found)
    array = zarr.open_array(str(path), mode="r+")
    array[19, 5, 6] = array[19, 5, 6] + 900
    found = verify(path)
    assert not found.ok
    assert found.index == (16, 0, 0)
    assert found.chunk == (2, 0, 0)
    assert found.failed == 8 * 24 * 24
    assert "in chunk (2, 0, 0)" in str(found)
    checked = verify(path, movie)
    assert checked.index == (19, 5, 6)
    assert checked.chunk == (2, 0, 0)


def test_checksums_are_needed_without_a_source(tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """An array without checksums, or one that isn't complete, asks for the source."""
    compress(movie, tmp_path / "a.zarr", **OPTIONS, verify=False)
    with pytest.raises(ValueError, match=r"has no checksums.*--against"):
        verify(tmp_path / "a.zarr")
    _begin(movie, tmp_path / "b.zarr")
    with pytest.raises(ValueError, match="is not complete"):
        verify(tmp_path / "b.zarr.partial" / "array")


def test_a_damaged_chunk_is_named(tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """When bytes can't be decoded, the error says in which chunk they are."""
    from anscombe_transform.compression import VerificationError

    path = tmp_path / "movie.zarr"
    compress(movie, path, **OPTIONS)
    chunk = path / ("c/3/0/0" if NEWEST == 3 else "3/0/0")
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 4
    chunk.write_bytes(content)
    for source in (None, movie):
        with pytest.raises(VerificationError, match=r"in chunk \(3, 0, 0\)"):
            verify(path, source)


# --- what else can be asked for -------------------------------------------------------------------------


@pytest.mark.skipif(NEWEST == 2, reason="shards are of zarr-python 3")
def test_shards_hold_whole_chunks(tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """Chunks share files where shards are asked for; others than whole chunks are refused."""
    result = compress(movie, tmp_path / "movie.zarr", **OPTIONS, shards=(16, -1, -1))
    assert result.array.shards == (16, 24, 24)
    assert result.array.chunks == (8, 24, 24)
    assert result.verification.ok
    assert len([p for p in (tmp_path / "movie.zarr" / "c").rglob("*") if p.is_file()]) == 3
    assert verify(result.path).ok
    assert verify(result.path, movie).ok
    with pytest.raises(ValueError, match=r"shards must be whole chunks.*for instance"):
        compress(movie, tmp_path / "b.zarr", **OPTIONS, shards=(12, 24, 24))
    with pytest.raises(ValueError, match="shards are of Zarr format 3"):
        compress(movie, tmp_path / "b.zarr", **OPTIONS | {"zarr_format": 2}, shards=(16, 24, 24))


@pytest.mark.parametrize("gain", [0.6, 90.0])
def test_float32_keeps_the_fractions_of_the_table(
    gain: float, tmp_path: Path, rng: np.random.Generator
) -> None:
    """An integer movie stored as float32 decodes to the table's values, with less error than as integers."""
    movie = np.rint(100 + gain * rng.poisson(200, (40, 24, 24))).astype(np.int16)
    options = OPTIONS | {"sensitivity": Sensitivity.from_known(conversion_gain=gain, zero_level=100.0)}
    result = compress(movie, tmp_path / "movie.zarr", **options, dtype="float32")
    stored = result.array[:]
    assert stored.dtype == np.float32
    table = result.codec.plan.table.astype(np.float32)
    assert np.isin(stored, table).all()
    assert (stored != np.rint(stored)).any()
    assert verify(result.path, movie).ok
    assert (np.abs(stored - movie) <= result.codec.plan.max_error(movie.astype(float)) * (1 + 1e-6)).all()
    with pytest.raises(ValueError, match='dtype must be "float32"'):
        compress(movie, tmp_path / "b.zarr", **options, dtype="uint8")


def test_large_frames_are_written_in_bands(tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """A block larger than its measure is stored by rows of chunks, and verified by the same rows later."""
    options = OPTIONS | {"chunks": (8, 5, 24)}
    result = compress(movie, tmp_path / "movie.zarr", **options)
    assert len(layouts.Layout.of(movie.shape, movie.dtype, (8, 5, 24)).bands) == 5
    assert result.verification.ok
    assert verify(result.path).ok
    array = zarr.open_array(result.path, mode="r+")
    array[9, 12, 6] = array[9, 12, 6] + 900
    assert verify(result.path).chunk == (1, 2, 0)
    assert verify(result.path, movie).index == (9, 12, 6)


def test_a_bar_is_drawn_when_asked_for(
    tmp_path: Path, movie: NDArray[np.int16], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """``progress=True`` draws on standard error in a terminal and says what is missing without rich."""
    pytest.importorskip("rich")
    monkeypatch.setenv("FORCE_COLOR", "1")
    compress(movie, tmp_path / "a.zarr", **OPTIONS, progress=True)
    shown = capsys.readouterr()
    assert "write and verify" in shown.err
    assert shown.out == ""
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with pytest.raises(ModuleNotFoundError, match=r"anscombe-transform\[cli\]"):
        compress(movie, tmp_path / "b.zarr", **OPTIONS, progress=True)


def test_the_compact_preset_is_fitted_to_a_piece_of_the_movie(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """``preset="compact"`` takes its model from the movie itself, and resumes with the same one."""
    pytest.importorskip("zarr", minversion="3")
    movie = (50 + 90 * rng.poisson(8, (64, 48, 48))).astype(np.int16)
    options = OPTIONS | {"chunks": (16, 48, 48), "preset": "compact"}
    _begin(movie, tmp_path / "a.zarr", 32, **options)
    assert compress(movie, tmp_path / "a.zarr", **options, resume=True).verification.ok
    compress(movie, tmp_path / "b.zarr", **options)
    assert _contents(tmp_path / "a.zarr") == _contents(tmp_path / "b.zarr")
