"""Where an array is written: a folder that gets its name at the end, or a store of Zarr.

A folder ``movie.zarr`` is written in ``movie.zarr.partial``, which holds the array, the journal of finished
blocks, and a lock while a process is at work. At the end the array is renamed to its name and the rest is
deleted. Other stores have no renaming: there the array lies at its place from the beginning, with the
attribute ``complete: false``, and the journal among its keys.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anscombe_transform.compression.arrays import (
    PARTIAL,
    as_zarr_store,
    is_zarr,
    local_path,
    open_array,
    reopen,
    stored_bytes,
)
from anscombe_transform.compression.journal import FolderJournal, Journal, StoreJournal
from anscombe_transform.compression.notes import ATTRIBUTE

__all__ = ["Destination", "Folder", "Store", "destination_of"]


class Folder:
    """A folder of the file system."""

    resumable = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)
        self.partial = path.with_name(f"{path.name}{PARTIAL}")
        self.place = str(self.partial / "array")
        self._replaced = self.partial / "replaced"

    def check(self, *, overwrite: bool, resume: bool) -> None:
        """Refuse to write where something is that must stay.

        Raises
        ------
        FileExistsError
        """
        if self.path.exists() or self.path.is_symlink():
            if not (overwrite or resume):
                raise FileExistsError(
                    f"{self.path} exists already: choose another name, or overwrite it (overwrite=True, "
                    "--overwrite)"
                )
            if not is_zarr(self.path):
                raise FileExistsError(
                    f"{self.path} exists and was not written by Zarr, so it is not overwritten"
                )
        if self.partial.exists() and not (overwrite or resume):
            done = len(self.journal().records())
            raise FileExistsError(
                f"{self.partial} holds an interrupted run with {done} finished blocks: go on with it "
                "(resume=True, --resume), or begin again (overwrite=True, --overwrite)"
            )

    def check_source(self, source: str) -> None:
        """Refuse to replace the movie by its own compressed copy."""
        path = Path(source.partition("::")[0])
        if path.exists() and path.resolve() == self.path.resolve():
            raise ValueError(f"source and store are both {self.path}: the original would be gone")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes away while this one works."""
        from filelock import FileLock, Timeout

        self.partial.mkdir(parents=True, exist_ok=True)
        # The system lets go of the lock of a process that was killed.
        lock = FileLock(self.partial / "lock", timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise FileExistsError(f"another process is writing {self.path}: wait for it") from error
        try:
            yield
        finally:
            lock.release()
            remaining = {path.name for path in self.partial.iterdir()} if self.partial.exists() else set()
            if remaining <= {"lock"}:
                shutil.rmtree(self.partial, ignore_errors=True)

    def finished(self) -> Any:
        """The array that has its name already, or None."""
        return open_array(self.path) if self.path.exists() else None

    def begun(self) -> Any:
        """The array of an interrupted run, open for writing, or None."""
        if not is_zarr(Path(self.place)):
            return None
        # What a killed process was about to rename; Zarr writes it again.
        for file in Path(self.place).rglob("*.partial"):
            file.unlink()
        return reopen(self.place)

    def journal(self, array: Any = None) -> Journal:
        """The journal of the run."""
        return FolderJournal(self.partial / "journal")

    def discard(self) -> None:
        """Delete what an earlier run has begun, but for an array that it was about to replace."""
        if self._replaced.exists() and not self.path.exists():
            self._replaced.rename(self.path)
        for path in (self.partial / "journal", Path(self.place), self._replaced):
            shutil.rmtree(path, ignore_errors=True)

    def finish(self, array: Any) -> Any:
        """Give the array its name, and delete what it replaces and the journal."""
        if self.path.exists() or self.path.is_symlink():
            shutil.rmtree(self._replaced, ignore_errors=True)
            self.path.rename(self._replaced)
        # Fails if someone else has put something with content there meanwhile.
        Path(self.place).rename(self.path)
        self.discard()
        return open_array(self.path)

    def size(self, array: Any) -> int:
        """Bytes of the finished array."""
        return stored_bytes(array, self.path)


class Store:
    """A store of Zarr that is not a folder."""

    def __init__(self, store: Any, storage_options: dict[str, Any] | None) -> None:
        self.place = as_zarr_store(store)
        self.name = str(store)
        self._options = storage_options
        # A transaction's keys are those of Zarr alone, and vanish with it when it isn't committed.
        self.resumable = type(store).__module__.partition(".")[0] != "icechunk"

    def check(self, *, overwrite: bool, resume: bool) -> None:
        """Refuse to write where something is that must stay."""
        if resume and not self.resumable:
            raise ValueError(
                f"{self.name} keeps nothing of an interrupted run, as a transaction that was not committed "
                "is gone: leave resume out"
            )
        if overwrite or resume:
            return
        array = reopen(self.place, self._options)
        if array is None:
            return
        noted = dict(array.attrs).get(ATTRIBUTE)
        begun = isinstance(noted, dict) and noted.get("complete") is False
        remedy = "go on with it (resume=True, --resume), or begin again" if begun else "overwrite it"
        raise FileExistsError(
            f"{self.name} holds {'an interrupted run' if begun else 'data already'}: {remedy} "
            "(overwrite=True, --overwrite)"
        )

    def check_source(self, source: str) -> None:
        """A movie can't be told from a store by its name."""

    @contextmanager
    def held(self) -> Iterator[None]:
        """Stores have no locks."""
        yield

    def finished(self) -> Any:
        """The array that is complete, or None."""
        array = reopen(self.place, self._options)
        if array is None:
            return None
        noted = dict(array.attrs).get(ATTRIBUTE)
        return None if isinstance(noted, dict) and noted.get("complete") is False else array

    def begun(self) -> Any:
        """The array of an interrupted run, open for writing, or None."""
        return reopen(self.place, self._options) if self.finished() is None else None

    def journal(self, array: Any = None) -> Journal:
        """The journal of the run that writes the array."""
        return StoreJournal(array)

    def discard(self) -> None:
        """The array is replaced when the new one is made."""

    def finish(self, array: Any) -> Any:
        """Delete the journal; the array is where it belongs."""
        if self.resumable:
            self.journal(array).remove()
        return array

    def size(self, array: Any) -> int:
        """Bytes of the finished array."""
        return stored_bytes(array, None)


Destination = Folder | Store


def destination_of(store: Any, storage_options: dict[str, Any] | None) -> Destination:
    """The destination that a path, a URL or a store names."""
    path = local_path(store)
    return Store(store, storage_options) if path is None else Folder(path)
