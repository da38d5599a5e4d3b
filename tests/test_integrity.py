"""What is called verified holds this recording and was read; what was changed since is named."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import anscombe_transform as at
from anscombe_transform.compression import ATTRIBUTE, SourceChangedError, VerificationError, describe
from anscombe_transform.compression.batch import compress_all
from anscombe_transform.compression.stored import block

zarr = pytest.importorskip("zarr")
if int(zarr.__version__.partition(".")[0]) < 3:
    pytest.skip("needs zarr-python 3", allow_module_level=True)

KNOWN = at.Sensitivity.from_known(conversion_gain=90.0, zero_level=50.0)
OPTIONS: dict[str, Any] = {"sensitivity": KNOWN, "chunks": (8, 24, 24), "threads": 1}
METADATA = ("zarr.json", ".zarray", ".zattrs")

pytestmark = pytest.mark.usefixtures("small_blocks")


def _chunks(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in METADATA)


def _verdict(store: Path, against: Any) -> str:
    """What verifying a damaged array says, as a result or as an error."""
    try:
        found = at.verify(store, against)
    except VerificationError as error:
        return str(error)
    assert not found.ok
    return f"frames {found}"


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def _swap(path: Path) -> None:
    other = next(p for p in _chunks(path.parents[2]) if p != path)
    content = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "emptied": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-3]),
    "flipped": _flip,
    "deleted": Path.unlink,
    "swapped": _swap,
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
}
STORED: dict[str, dict[str, Any]] = {
    "fast": {},
    "shards": {"shards": (16, 24, 24)},
    "v2": {"zarr_format": 2},
    "portable": {"preset": "portable"},
    "portable v2": {"preset": "portable", "zarr_format": 2},
}


# --- identity is content, never a name ----------------------------------------------------------------------


def test_the_next_recording_of_the_same_name_is_not_skipped(tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """A batch that resumes names the array and the recording that is not in it, and the rest goes on."""
    night, archive = tmp_path / "night", tmp_path / "archive"
    night.mkdir()
    for name in ("a.npy", "b.npy"):
        np.save(night / name, movie)
    assert compress_all([night], archive, **OPTIONS).ok
    np.save(night / "a.npy", movie[::-1])
    again = compress_all([night], archive, **OPTIONS, resume=True)
    assert [item.outcome for item in again.items] == ["failed", "skipped"]
    assert str(archive / "a.zarr") in again.items[0].message
    assert str(night / "a.npy") in again.items[0].message
    assert at.verify(archive / "a.zarr", movie).ok


@pytest.mark.parametrize("several", [False, True])
def test_another_recording_has_exit_code_4(several: bool, tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """``--resume`` over the array of another recording exits with 4, for a file and for a folder."""
    pytest.importorskip("typer")
    from typer.testing import CliRunner

    from anscombe_transform.cli.commands import app

    (tmp_path / "night").mkdir()
    source = tmp_path / "night" / "a.npy"
    store = tmp_path / "archive" / "a.zarr"
    store.parent.mkdir()
    where = [source.parent, store.parent] if several else [source, store]
    command = ["compress", *map(str, where), "--gain", "90", "--zero-level", "50", "--resume"]
    for frames, code in ((movie, 0), (movie, 0), (movie[::-1], 4), (movie[:-1], 4)):
        np.save(source, frames)
        result = CliRunner().invoke(app, command)
        assert result.exit_code == code, result.output
    assert at.verify(store, movie).ok


def test_a_recording_is_known_by_its_content(tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """Neither another name nor another date makes another recording of the same frames."""
    np.save(tmp_path / "a.npy", movie)
    at.compress(tmp_path / "a.npy", tmp_path / "a.zarr", **OPTIONS)
    os.utime(tmp_path / "a.npy", (1, 1))
    assert at.compress(tmp_path / "a.npy", tmp_path / "a.zarr", **OPTIONS, resume=True).verification.ok
    shutil.move(tmp_path / "a.npy", tmp_path / "b.npy")
    assert at.compress(tmp_path / "b.npy", tmp_path / "a.zarr", **OPTIONS, resume=True).verification.ok


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.usefixtures("sparse_sample")
def test_an_edit_between_the_frames_of_the_sample_is_seen(
    finished: bool, tmp_path: Path, movie: NDArray[np.int16], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that was written to is compared frame by frame, beyond the sample."""
    source, store = tmp_path / "a.npy", tmp_path / "a.zarr"
    np.save(source, movie)

    def stop(done: int, total: int, stage: str) -> None:
        if stage.startswith("write") and done == 24 and not finished:
            raise KeyboardInterrupt

    try:
        at.compress(source, store, **OPTIONS, progress=stop)
    except KeyboardInterrupt:
        assert not finished
    edited = movie.copy()
    edited[10, 3, 4] += 90  # the sample holds frames 0, 13, 26 and 39
    np.save(source, edited)
    with pytest.raises(SourceChangedError, match="another recording"):
        at.compress(source, store, **OPTIONS, resume=True)
    np.save(source, movie)
    assert at.compress(source, store, **OPTIONS, resume=True).verification.ok
    assert at.verify(store, movie).ok


def test_a_run_that_a_store_began_is_resumed_by_its_path(tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """An interrupted run in a store of a folder goes on where it stopped when the folder is named."""

    def stop(done: int, total: int, stage: str) -> None:
        if stage.startswith("write") and done == 24:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        at.compress(movie, zarr.storage.LocalStore(tmp_path / "a.zarr"), **OPTIONS, progress=stop)
    with pytest.raises(ValueError, match="not complete"):
        at.verify(tmp_path / "a.zarr")
    begun: list[int] = []

    def note(done: int, total: int, stage: str) -> None:
        if stage.startswith("write"):
            begun.append(done)

    at.compress(movie, tmp_path / "a.zarr", **OPTIONS, resume=True, progress=note)
    assert min(begun) == 24
    assert at.verify(tmp_path / "a.zarr", movie).ok
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


# --- verified was read --------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("stored", STORED)
def test_damage_is_named_by_every_way_out(
    stored: str, damage: str, tmp_path: Path, movie: NDArray[np.int16]
) -> None:
    """Resuming, verifying, exporting and reporting all fail on a damaged chunk, and write nothing."""
    np.save(tmp_path / "m.npy", movie)
    store = tmp_path / "a.zarr"
    at.compress(tmp_path / "m.npy", store, **OPTIONS | STORED[stored])
    DAMAGE[damage](_chunks(store)[1])
    with pytest.raises(VerificationError, match="frames"):
        at.compress(tmp_path / "m.npy", store, **OPTIONS | STORED[stored], resume=True)
    for against in (None, movie):
        assert "frames" in _verdict(store, against)
    with pytest.raises(ValueError, match=r"frames|chunks"):
        at.decompress(store, tmp_path / "out.npy")
    assert not list(tmp_path.glob("out.npy*"))
    pytest.importorskip("jinja2")
    with pytest.raises(ValueError, match=r"frames|chunks"):
        at.write_report(store, tmp_path / "out.html")
    assert not (tmp_path / "out.html").exists()


# --- the source is looked at again --------------------------------------------------------------------------


def _grow_npy(path: Path, frames: NDArray[np.int16]) -> None:
    longer = np.concatenate([np.load(path), frames])
    np.save(path.with_name("new.npy"), longer)
    path.with_name("new.npy").replace(path)


def _grow_zarr(path: Path, frames: NDArray[np.int16]) -> None:
    array = zarr.open_array(path, mode="r+")
    length = array.shape[0]
    array.resize((length + len(frames), *array.shape[1:]))
    array[length:] = frames


def _grow_hdf5(path: Path, frames: NDArray[np.int16]) -> None:
    with path.open("ab") as file:
        file.write(frames.tobytes())


def _grow_tiff(path: Path, frames: NDArray[np.int16]) -> None:
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffWriter(path, append=True) as writer:
        writer.write(frames, photometric="minisblack")


def _cut(path: Path, frames: NDArray[np.int16]) -> None:
    os.truncate(path, path.stat().st_size // 2)


CHANGES: dict[str, tuple[str, Callable[[Path, NDArray[np.int16]], None]]] = {
    "npy grows": ("a.npy", _grow_npy),
    "zarr grows": ("src.zarr", _grow_zarr),
    "hdf5 grows": ("a.h5", _grow_hdf5),
    "hdf5 cut": ("a.h5", _cut),
    "tiff grows": ("a.tif", _grow_tiff),
    "tiff cut": ("a.tif", _cut),
    "raw grows": ("a.raw", _grow_hdf5),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_source_that_changes_while_it_is_read_is_an_error(
    change: str, tmp_path: Path, movie: NDArray[np.int16]
) -> None:
    """A file that grew, or was cut, is not stored as verified, and no array has its name."""
    name, act = CHANGES[change]
    path, store = tmp_path / name, tmp_path / "out.zarr"
    source: Any = path
    if name == "a.npy":
        np.save(path, movie)
    elif name == "src.zarr":
        zarr.create_array(path, data=movie, chunks=(10, 24, 24))
    elif name == "a.h5":
        with pytest.importorskip("h5py").File(path, "w") as file:
            file.create_dataset("movie", data=movie, chunks=(4, 24, 24))
    elif name == "a.tif":
        pytest.importorskip("tifffile").imwrite(path, movie, photometric="minisblack")
    else:
        movie.tofile(path)
        source = at.open_movie(path, shape=(-1, 24, 24), dtype="int16")
    done: list[int] = []

    def progress(count: int, total: int, stage: str) -> None:
        if stage.startswith("write") and count == 16 and not done:
            done.append(count)
            act(path, movie[:5])

    with pytest.raises((ValueError, OSError)):
        at.compress(source, store, **OPTIONS, progress=progress)
    assert done
    assert not store.exists()


def test_an_array_in_memory_that_grows_is_an_error(tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """An array of Zarr in a store without files is looked at again, too."""
    store = zarr.storage.MemoryStore()
    source = zarr.create_array(store, data=movie, chunks=(10, 24, 24))

    def progress(count: int, total: int, stage: str) -> None:
        if stage.startswith("write") and count == 16:
            zarr.open_array(store, mode="r+").resize((50, 24, 24))

    with pytest.raises(SourceChangedError, match=r"shape \(40, 24, 24\) and has \(50, 24, 24\)"):
        at.compress(source, tmp_path / "a.zarr", **OPTIONS, progress=progress)
    assert not (tmp_path / "a.zarr").exists()


@pytest.mark.parametrize("level", ["0", "1"])
def test_every_level_of_an_image_is_read(level: str, tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """Resuming a finished image fails on damage of the full resolution and of coarse levels alike."""
    path = tmp_path / "a.ome.zarr"
    at.write_ome_zarr(movie, path, pyramid=1, sensitivity=KNOWN)
    assert at.write_ome_zarr(movie, path, pyramid=1, sensitivity=KNOWN, resume=True).verification.ok
    assert at.verify(path).ok
    _flip(_chunks(path / level)[0])
    with pytest.raises(VerificationError, match="frames"):
        at.verify(path)
    with pytest.raises(VerificationError, match="frames"):
        at.write_ome_zarr(movie, path, pyramid=1, sensitivity=KNOWN, resume=True)


def test_a_source_that_reads_differently_the_second_time_is_an_error(
    tmp_path: Path, movie: NDArray[np.int16]
) -> None:
    """An array that is written to between the sample and the writing is not stored."""
    live = movie.copy()

    def progress(count: int, total: int, stage: str) -> None:
        if stage.startswith("write") and count == 8:
            live[30, 2, 3] += 90

    with pytest.raises(SourceChangedError, match=r"frame 30 .* read twice"):
        at.compress(live, tmp_path / "a.zarr", **OPTIONS, progress=progress)
    assert not list(tmp_path.iterdir())


# --- an array that was changed afterwards -------------------------------------------------------------------


def _edit_record(store: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    document = json.loads((store / "zarr.json").read_text())
    edit(document["attributes"][ATTRIBUTE])
    (store / "zarr.json").write_text(json.dumps(document))


def _append(store: Path) -> None:
    array = zarr.open_array(store, mode="r+")
    array.resize((48, 24, 24))
    array[40:] = array[:8]


CHANGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "appended": (_append, "frames 40 to 47 were never verified"),
    "cut": (lambda s: zarr.open_array(s, mode="r+").resize((30, 24, 24)), "frames 30 to 39 are gone"),
    "narrowed": (
        lambda s: zarr.open_array(s, mode="r+").resize((40, 24, 20)),
        r"shape \(40, 24, 24\) and has",
    ),
    "list cut": (
        lambda s: _edit_record(s, lambda r: r["checksums"].update(values=r["checksums"]["values"][:16])),
        "record was edited",
    ),
    "bound edited": (
        lambda s: _edit_record(s, lambda r: r["bound"].update(noise_std=0.01)),
        "record was edited",
    ),
    "verdict edited": (
        lambda s: _edit_record(s, lambda r: r["sensitivity"].update(verdict="trustworthy", reasons=[])),
        "record was edited",
    ),
    "record nonsense": (lambda s: _edit_record(s, lambda r: r.update(verification=7)), "record was edited"),
}


@pytest.mark.parametrize("change", CHANGED)
def test_an_array_that_was_changed_says_so(change: str, tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """Neither verifying nor exporting takes it for what was written; its description says how it changed."""
    store = tmp_path / "a.zarr"
    at.compress(movie, store, **OPTIONS)
    act, text = CHANGED[change]
    act(store)
    with pytest.raises(VerificationError, match=text):
        at.verify(store)
    with pytest.raises(VerificationError, match=text):
        at.verify(store, movie)
    assert "CHANGED" in str(describe(store))
    with pytest.raises(ValueError, match=r"another recording|changed|shape"):
        at.compress(movie, store, **OPTIONS, resume=True)
    with pytest.raises(VerificationError, match=text):
        at.decompress(store, tmp_path / "out.npy")
    with pytest.raises(VerificationError, match=text):
        at.write_report(store, tmp_path / "out.html")
    assert not (tmp_path / "out.npy").exists()
    assert not (tmp_path / "out.html").exists()


@pytest.mark.parametrize(
    "checksums",
    [
        7,
        {"algorithm": "CRC-32"},
        {"algorithm": "MD5"},
        {"algorithm": "CRC-32", "block_frames": 0, "band_rows": 24, "values": ""},
        {"algorithm": "CRC-32", "block_frames": 8, "band_rows": "24", "values": ""},
        {"algorithm": "CRC-32", "block_frames": 8, "band_rows": 24, "values": "00" * 8},
        {"algorithm": "CRC-32", "block_frames": 8, "band_rows": 24, "values": "zz" * 20},
        {"algorithm": "CRC-32", "block_frames": 1, "band_rows": 1, "values": 3},
    ],
)
def test_a_record_without_its_checksum_is_read_with_care(
    checksums: Any, tmp_path: Path, movie: NDArray[np.int16]
) -> None:
    """A record without a checksum of its own is refused where its list of checksums makes no sense."""
    store = tmp_path / "a.zarr"
    at.compress(movie, store, **OPTIONS)
    _edit_record(store, lambda record: record.pop("record_checksum"))
    assert at.verify(store).ok
    _edit_record(store, lambda record: record.update(checksums=checksums))
    with pytest.raises(ValueError, match=r"record has|kind that this version"):
        at.verify(store)


def test_rewritten_blocks_are_named(tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """Every block that was written to is named, and no other."""
    store = tmp_path / "a.zarr"
    at.compress(movie, store, **OPTIONS)
    array = zarr.open_array(store, mode="r+")
    array[9], array[33] = movie[0], movie[1]
    found = at.verify(store)
    assert found.blocks == ((8, 15), (32, 39))
    assert "frames 8 to 15, 32 to 39;" in str(found)
    assert at.compression.Verification.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    with pytest.raises(VerificationError, match="frames 8 to 15"):
        at.decompress(store, tmp_path / "out.npy")


def test_a_table_moved_inside_its_bins_is_seen(tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """Values that are within the bound but not those that were written fail, with a source and without."""
    store = tmp_path / "a.zarr"
    codec = at.compress(movie, store, **OPTIONS).codec
    low, high = codec.plan.bins
    code = int(codec.plan.encode(movie).ravel()[0])
    table = list(codec.decode_table)
    table[code] = float(low[code] if table[code] != low[code] else high[code])
    document = json.loads((store / "zarr.json").read_text())
    document["codecs"][0]["configuration"]["decode_table"] = table
    (store / "zarr.json").write_text(json.dumps(document))
    for against in (None, movie):
        found = at.verify(store, against)
        assert not found.ok
        assert found.against == "checksums"


# --- a read that fails --------------------------------------------------------------------------------------


class _Failing:
    """Reads of stored bytes that fail so many times."""

    def __init__(self, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = times
        original = zarr.storage.LocalStore.get

        async def get(store: Any, key: str, *rest: Any, **more: Any) -> Any:
            if key.rpartition("/")[2].isdecimal() and self.left > 0:
                self.left -= 1
                raise OSError(5, "Input/output error")
            return await original(store, key, *rest, **more)

        monkeypatch.setattr(zarr.storage.LocalStore, "get", get)
        monkeypatch.setattr(block, "_PAUSES", (0.0, 0.0))


def test_a_read_that_fails_is_no_damage(
    tmp_path: Path, movie: NDArray[np.int16], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A passing failure of the store is tried again; a lasting one is an error, and nothing is lost."""
    store = tmp_path / "a.zarr"
    at.compress(movie, store, **OPTIONS)
    _Failing(2, monkeypatch)
    assert at.verify(store).ok
    failing = _Failing(10**9, monkeypatch)
    with pytest.raises(block.ReadFailure, match="says nothing of what is stored"):
        at.verify(store)
    failing.left = 0

    def stop(done: int, total: int, stage: str) -> None:
        if stage.startswith("write") and done == 24:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        at.compress(movie, tmp_path / "b.zarr", **OPTIONS, progress=stop)
    failing.left = 10**9
    with pytest.raises(block.ReadFailure):
        at.compress(movie, tmp_path / "b.zarr", **OPTIONS, resume=True)
    failing.left = 0
    begun: list[int] = []

    def note(done: int, total: int, stage: str) -> None:
        if stage.startswith("write"):
            begun.append(done)

    at.compress(movie, tmp_path / "b.zarr", **OPTIONS, resume=True, progress=note)
    assert min(begun) == 24
