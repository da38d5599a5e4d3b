"""Files and folders are replaced whole, by one process at a time, and nothing is reached through links."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from anscombe_transform import compress, compress_all, write_calibration_report, write_ome_zarr, write_report
from anscombe_transform.native import durable
from anscombe_transform.native.durable import Workspace, write_file

linux = pytest.mark.skipif(sys.platform != "linux", reason="names of open files are read from /proc")


@linux
def test_a_file_is_the_old_or_the_new_one(tmp_path: Path, rng: np.random.Generator) -> None:
    """Whenever the power is cut a replaced file is whole, and it is the new one after the call."""
    from simulated_disk import Recorder

    disk = tmp_path / "disk"
    disk.mkdir()
    (disk / "page.html").write_bytes(b"old page")
    record = Recorder(disk)
    with record.active():
        write_file(disk / "page.html", b"new page")
    for moment in record.moments:
        for attempt in range(20):
            after = tmp_path / f"after{moment}-{attempt}"
            after.mkdir()
            record.cut(moment, rng, after)
            found = (after / "page.html").read_bytes()
            assert (
                found == b"new page" if moment == record.moments[-1] else found in (b"old page", b"new page")
            )


def test_a_file_is_written_through_a_link_to_it(tmp_path: Path) -> None:
    """A name that is a link stays one, and what it leads to is replaced, as plain writing does it."""
    (tmp_path / "there").mkdir()
    (tmp_path / "page.html").symlink_to(tmp_path / "there" / "page.html")
    write_file(tmp_path / "page.html", b"page")
    assert (tmp_path / "page.html").is_symlink()
    assert (tmp_path / "there" / "page.html").read_bytes() == b"page"
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["page.html"]


def test_a_partial_file_that_is_a_link_leads_nowhere(tmp_path: Path) -> None:
    """What is left under the name in which a file is prepared is deleted, not written through."""
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / "page.html.partial").symlink_to(tmp_path / "mine")
    write_file(tmp_path / "page.html", b"page")
    assert (tmp_path / "mine").read_bytes() == b"mine"
    assert (tmp_path / "page.html").read_bytes() == b"page"


@pytest.mark.parametrize("where", [".", "lock", "journal", "array", "array/c"])
def test_links_in_a_workspace_are_refused(where: str, tmp_path: Path) -> None:
    """Whichever part of the folder is a link, nothing behind it is touched."""
    others = tmp_path / "others"
    others.mkdir()
    (others / "lock").write_bytes(b"mine")
    work = Workspace(tmp_path / "movie.zarr", "array")
    link = work.folder / where
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(others / "lock" if where == "lock" else others)
    with pytest.raises(FileExistsError, match="is a link"), work.held():
        pass
    assert link.is_symlink()
    assert {path.name: path.read_bytes() for path in others.iterdir()} == {"lock": b"mine"}


def test_what_was_to_be_replaced_gets_its_name_again(tmp_path: Path) -> None:
    """After a kill between the two renamings the next run finds the old folder at its name."""
    work = Workspace(tmp_path / "movie.zarr", "array")
    work.replaced.mkdir(parents=True)
    (work.replaced / "old").touch()
    work.content.mkdir()
    (work.content / "new").touch()
    with work.held():
        assert (work.path / "old").exists()
        assert (work.content / "new").exists()
        work.put_in_place()
    assert [path.name for path in work.path.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["movie.zarr"]


def test_a_link_is_replaced_and_not_what_it_leads_to(tmp_path: Path) -> None:
    """A name that is a link to a folder elsewhere becomes a folder, and the other one stays as it is."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine").touch()
    work = Workspace(tmp_path / "movie.zarr", "array")
    work.path.symlink_to(elsewhere)
    with work.held():
        work.content.mkdir()
        work.put_in_place()
    assert not work.path.is_symlink()
    assert (elsewhere / "mine").exists()
    assert not work.folder.exists()


def test_a_folder_deleted_by_its_last_owner_is_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock on a file that has no name any more keeps nobody away, so it is refused."""
    from filelock import FileLock

    work = Workspace(tmp_path / "movie.zarr", "array")
    acquire = FileLock.acquire

    def late(self: FileLock, *given: object, **named: object) -> object:
        found = acquire(self, *given, **named)
        Path(self.lock_file).unlink()
        return found

    monkeypatch.setattr(FileLock, "acquire", late)
    with pytest.raises(FileExistsError, match="another process"), work.held():
        pass


def test_a_failing_disk_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of synchronising a file is not passed over; a folder need not know how to."""

    def fail(handle: int) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "fsync", fail)
    durable.sync(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Invalid argument"):
        durable.sync(tmp_path / "file")


FILES = (
    "a.tif",
    "a.TIFF",
    "a.h5",
    "a.npy",
    "a.zarr.zip",
    "a.ome.tif",
    "a.nwb",
    "a.png",
    "a.tar.gz",
    "a.tif/",
)


@pytest.mark.parametrize("name", FILES)
def test_a_name_of_a_file_is_refused_for_an_array(name: str, tmp_path: Path) -> None:
    """No folder is made under a name that says TIFF, HDF5 or zip; the error says which name will do.

    `compress` writes files of HDF5 and NWB on this computer.
    """
    movie = np.zeros((4, 8, 8), np.int16)
    for write in (write_ome_zarr,) if name in ("a.h5", "a.nwb") else (compress, write_ome_zarr):
        for store in (f"{tmp_path}/{name}", tmp_path / name):
            with pytest.raises(ValueError, match=r"is the name of a file.*name it .*a(\.ome|\.tar)?\.zarr"):
                write(movie, store, zarr_format=2)
    with pytest.raises(ValueError, match="is the name of a file"):
        compress(movie, f"s3://bucket/{name}")
    with pytest.raises(ValueError, match="is the name of a file"):
        compress_all([tmp_path / "source.npy"], f"{tmp_path}/{name}")
    with pytest.raises(ValueError, match=r"anscombe decompress .*--plain"):
        compress(movie, tmp_path / "a.tif")
    assert not list(tmp_path.iterdir())


def test_only_a_page_is_written_as_a_report(tmp_path: Path) -> None:
    """A report under the name of a picture is refused before anything is read."""
    for name in ("a.png", "a.pdf", "a"):
        with pytest.raises(ValueError, match=r"its name must end with \.html"):
            write_report(tmp_path / "absent.zarr", tmp_path / name)
        with pytest.raises(ValueError, match=r"its name must end with \.html"):
            write_calibration_report(None, tmp_path / name)
    assert not list(tmp_path.iterdir())
