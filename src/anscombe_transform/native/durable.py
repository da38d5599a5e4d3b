"""Writes that survive a power cut, and the folder in which something unfinished is kept.

An operating system holds written data in memory for seconds, and puts files and names on the disk in any
order. ``fsync`` of a file waits for its content, ``fsync`` of a folder for the names in it. A name may
therefore point at an empty file after a power cut, unless the content was waited for before the renaming, and
the folder after it [1]_. Everything this package writes to a file system goes through here.

References
----------
.. [1] Pillai et al., "All File Systems Are Not Created Equal: On the Complexity of Crafting Crash-Consistent
   Applications", OSDI 2014.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = [
    "PARTIAL",
    "GuardedFile",
    "Workspace",
    "check_space",
    "delete",
    "disk_full",
    "make_folders",
    "rename",
    "sync",
    "sync_all",
    "sync_names",
    "write_file",
]

PARTIAL = ".partial"
"""Suffix of a file or a folder while it is being written."""

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
# What file systems that can't synchronise a folder say: SMB, some of FUSE.
_UNSUPPORTED = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.ENOSYS)


def sync(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, are on the disk.

    Raises
    ------
    OSError
        The disk is full or failing: the written data is not to be relied on.
    """
    is_folder = path.is_dir()
    if is_folder and os.name == "nt":  # folders can't be opened there; NTFS has a journal for names
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        if sys.platform == "darwin":
            import fcntl

            # There fsync leaves the data in the memory of the drive.
            fcntl.fcntl(handle, fcntl.F_FULLFSYNC)
        else:
            os.fsync(handle)
    except OSError as error:
        if not (is_folder and error.errno in _UNSUPPORTED):
            raise
    finally:
        os.close(handle)


def sync_names(paths: Iterable[Path], root: Path) -> None:
    """Wait for the names of files: for the folders they are in, up to and including a root."""
    folders = set()
    for path in paths:
        for folder in path.parents:
            folders.add(folder)
            if folder == root:
                break
    for folder in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):
        sync(folder)


def sync_all(folder: Path) -> None:
    """Wait for every file and folder below a folder, and for itself."""
    for place, _, files in os.walk(folder, topdown=False):
        for name in files:
            sync(Path(place, name))
        sync(Path(place))


def make_folders(path: Path) -> None:
    """Make a folder and those that it lies in, on the disk when this returns."""
    path = path.absolute()
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync(folder.parent)


def rename(path: Path, target: Path) -> None:
    """Give a file or a folder another name; after a power cut it has one of them."""
    path.replace(target)
    for folder in {path.absolute().parent, target.absolute().parent}:
        sync(folder)


def write_file(path: Path, content: bytes) -> None:
    """Write a small file at once: after a power cut it is the old or the new one, whole."""
    # Someone who links the name to another folder wants the file there.
    path = Path(os.path.realpath(path))
    partial = path.with_name(f"{path.name}{PARTIAL}")
    partial.unlink(missing_ok=True)
    try:
        with partial.open("xb") as file:
            file.write(content)
        sync(partial)
        rename(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def delete(path: Path) -> None:
    """Delete a file, a folder, or a link but not its target; do nothing where there is nothing."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def disk_full(error: BaseException | None) -> bool:
    """Whether an error, or one that caused it, says that a disk or a quota is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _NO_SPACE:
            return True
        error = error.__cause__ or error.__context__
    return False


def check_space(folder: Path, needed: float, what: str) -> None:
    """Refuse to begin a write that will not find room.

    Parameters
    ----------
    folder : Path
        Where it is written.
    needed : float
        Bytes; less than is needed for certain, as the measure may be an estimate.
    what : str
        Purpose of the space, for the message.

    Raises
    ------
    OSError
        With the error number of a full disk.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            errno.ENOSPC,
            f"{what} needs about {needed / 1e6:,.1f} MB, and {folder} has {free / 1e6:,.1f} MB free: make "
            "room, or write to another disk",
        )


class GuardedFile(io.RawIOBase):
    """A new file for libraries to write that don't stand a failing disk: HDF5 ends the process by a signal.

    The first error is kept, and data written after it is dropped as if it had been written; `check` raises
    it. To be called whenever something was written, and after the library has closed its file.

    Attributes
    ----------
    error : OSError or None
        The first error.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.error: OSError | None = None
        self._file = path.open("xb+", buffering=0)
        self._end = 0

    def check(self) -> None:
        """Raise the first error so far."""
        if self.error is not None:
            raise self.error

    def readable(self) -> bool:
        """True: libraries read back their own data."""
        return True

    def writable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """Headers are completed at the end."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer; zeros where writing has failed."""
        view = memoryview(buffer).cast("B")
        found = self._file.readinto(view) or 0
        if self.error is not None and found < len(view):
            view[found:] = bytes(len(view) - found)
            self._file.seek(len(view) - found, os.SEEK_CUR)
            found = len(view)
        return found

    def write(self, data: Any) -> int:
        """Write all of the data, or keep the error."""
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view) and self.error is None:
            try:
                done += self._file.write(view[done:])
            except OSError as error:
                self.error = error
        if done < len(view):
            self._file.seek(len(view) - done, os.SEEK_CUR)
        self._end = max(self._end, self._file.tell())
        return len(view)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place; the end is where it would be without an error."""
        if whence == os.SEEK_END:
            return self._file.seek(self._end + offset)
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Where it is."""
        return self._file.tell()

    def truncate(self, size: int | None = None) -> int:
        """Make it shorter or longer."""
        size = self.tell() if size is None else size
        try:
            self._file.truncate(size)
        except OSError as error:
            self.error = self.error or error
        self._end = size
        return size

    def close(self) -> None:
        """Close the file, which may be the first to hear of an error."""
        if not self.closed:
            try:
                self._file.close()
            except OSError as error:
                self.error = self.error or error
        super().close()


class Workspace:
    """The folder ``<name>.partial`` beside a name, in which one process at a time prepares the content.

    Attributes
    ----------
    path : Path
        The name that is given at the end.
    folder : Path
        ``<path>.partial``.
    content : Path
        The new content of the name.
    replaced : Path
        The old content of the name, between the two renamings.
    keeps : tuple of str
        Parts that are worth keeping although the content is not there yet.
    """

    def __init__(self, path: Path, content: str, keeps: tuple[str, ...] = ()) -> None:
        self.path = path
        self.keeps = keeps
        self.folder = path.with_name(f"{path.name}{PARTIAL}")
        self.content = self.folder / content
        self.replaced = self.folder / "replaced"

    def is_begun(self) -> bool:
        """Whether something is kept of an earlier run, other than the lock of a process."""
        return self.folder.is_dir() and any(path.name != "lock" for path in self.folder.iterdir())

    @contextmanager
    def held(self, *, wait: bool = False) -> Iterator[None]:
        """Keep other processes away; content that a killed run was about to replace has its name again.

        Parameters
        ----------
        wait : bool, optional
            Wait for another process to let go.

        Raises
        ------
        FileExistsError
            Another process is at work, or there is a link, which might lead to files of others.
        """
        from filelock import FileLock, Timeout

        taken = f"another process is writing {self.path}: wait for it"
        self._check_links()
        # The system lets go of the lock of a process that was killed.
        lock = FileLock(self.folder / "lock", timeout=-1 if wait else 0)
        while True:
            make_folders(self.folder)
            try:
                lock.acquire()
            except Timeout as error:
                raise FileExistsError(taken) from error
            if (self.folder / "lock").exists():
                break
            lock.release()  # the other process has just deleted it with the folder
            if not wait:
                raise FileExistsError(taken)
        try:
            self._recover()
            yield
        finally:
            # While it is held, so that nobody else has begun in this folder.
            self._tidy()
            lock.release()
            if os.name == "nt":  # where nothing that is open can be deleted
                self._tidy()

    def _tidy(self) -> None:
        """Delete the folder if nothing in it is worth keeping."""
        with suppress(OSError):  # there is none, it is a file, or something is in it
            self.content.rmdir()
        if self.folder.exists() and not self.is_begun():
            shutil.rmtree(self.folder, ignore_errors=True)

    def put_in_place(self) -> None:
        """Give the content its name, on the disk when this returns, and delete the old content."""
        # A file takes the place of another one at once, a folder doesn't.
        if os.path.lexists(self.path) and self.content.is_dir():
            delete(self.replaced)
            rename(self.path, self.replaced)
        # Fails if someone else has put a folder with content there meanwhile.
        rename(self.content, self.path)
        delete(self.replaced)

    def _recover(self) -> None:
        """Give content that was to be replaced its name again; delete leftovers of a finished run."""
        if os.path.lexists(self.replaced) and not os.path.lexists(self.path):
            rename(self.replaced, self.path)
        if not os.path.lexists(self.content) and not any(
            (self.folder / name).exists() for name in self.keeps
        ):
            for path in self.folder.iterdir():
                if path.name != "lock":
                    delete(path)

    def _check_links(self) -> None:
        if not os.path.lexists(self.folder):
            return
        if self.folder.is_symlink() or not self.folder.is_dir():
            kind = "a link" if self.folder.is_symlink() else "a file"
            raise FileExistsError(
                f"{self.folder} is {kind}, but a folder of this name is where {self.path} is prepared: "
                "remove it, or choose another name"
            )
        for place, folders, files in os.walk(self.folder):
            if Path(place) == self.folder:
                # What had the name may have been a link, and goes back to it as one.
                folders[:] = [name for name in folders if name != self.replaced.name]
                files = [name for name in files if name != self.replaced.name]
            for name in (*folders, *files):
                if Path(place, name).is_symlink():
                    raise FileExistsError(
                        f"{Path(place, name)} is a link, and nothing is written through links: remove "
                        f"{self.folder}, or choose another name"
                    )
