"""Where an array is written: a folder that gets its name at the end, or a store of Zarr.

A folder ``movie.zarr`` is written in ``movie.zarr.partial``, which holds the array, the journal of finished
blocks, and a lock while a process is at work. At the end the array is renamed to its name and the rest is
deleted. Other stores have no renaming: there the array lies at its place from the beginning, with the
attribute ``complete: false``, and the journal among its keys.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anscombe_transform.compression.arrays import (
    as_zarr_store,
    local_path,
    open_array,
    reopen,
    root_of,
    stored_bytes,
    sync_metadata,
    zarr_module,
)
from anscombe_transform.compression.journal import FolderJournal, Journal, StoreJournal
from anscombe_transform.durable import Workspace, delete, make_folders
from anscombe_transform.movies.zarr_groups import ATTRIBUTE, is_zarr

if TYPE_CHECKING:
    from anscombe_transform.movies import Movie

__all__ = [
    "Destination",
    "Folder",
    "Store",
    "check_apart",
    "check_name",
    "check_replaceable",
    "destination_of",
]

_log = logging.getLogger(__name__)


class Folder:
    """A folder of the file system."""

    resumable = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)
        self._work = Workspace(path, "array")
        self.partial = self._work.folder
        self.place = str(self._work.content)

    def check(self, *, overwrite: bool, resume: bool, held: bool = False) -> None:
        """Refuse to write where something is that must stay.

        Parameters
        ----------
        overwrite, resume : bool
            As for `compress`.
        held : bool
            Whether this run has the lock, so that an empty working folder is its own.

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
            check_replaceable(self.path, overwrite=overwrite)
        begun = self._work.is_begun() if held else self.partial.exists()
        if begun and not (overwrite or resume):
            done = len(self.journal().records())
            raise FileExistsError(
                f"{self.partial} holds an interrupted run with {done} finished blocks: go on with it "
                "(resume=True, --resume), or begin again (overwrite=True, --overwrite)"
            )

    def check_source(self, movie: Movie) -> None:
        """Refuse to replace the movie by its own compressed copy, or to write into it."""
        check_apart(movie, self.path)

    def held(self) -> AbstractContextManager[None]:
        """Keep other processes away while this one works."""
        return self._work.held()

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
        try:
            array = reopen(self.place)
            dict(array.attrs)  # which zarr-python 2 reads when they are asked for
        except Exception as error:  # of every kind: a power cut may leave any part of the metadata
            _log.warning("%s can't be opened, so the run is begun again: %s", self.place, error)
            return None
        return array

    def journal(self, array: Any = None) -> Journal:
        """The journal of the run."""
        return FolderJournal(self.partial / "journal")

    def discard(self) -> None:
        """Delete what an earlier run has begun."""
        # First and for good: its records are not those of the next array.
        self.journal().remove()
        delete(self._work.content)

    def finish(self, array: Any, *, overwrite: bool) -> Any:
        """Give the array its name, and delete what it replaces and the journal.

        Raises
        ------
        FileExistsError
            There is something of this name now that is not to be replaced.
        """
        sync_metadata(array)
        if os.path.lexists(self.path):
            self.check(overwrite=overwrite, resume=False)
        self._work.put_in_place()
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

    def check(self, *, overwrite: bool, resume: bool, held: bool = False) -> None:
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

    def check_source(self, movie: Movie) -> None:
        """Refuse to replace the movie by its own compressed copy, where name or store tell that it is one."""
        source = movie.source.partition("::")[0]
        theirs = getattr(movie.origin, "store", None)
        same = "://" in source and source.rstrip("/") == self.name.partition("::")[0].rstrip("/")
        if same or (theirs is not None and _equal(theirs, self.place)):
            raise ValueError(f"source and store are both {self.name}: the original would be gone")
        root = root_of(self.place)
        if root is not None:
            check_apart(movie, Path(root))

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
        root = root_of(self.place)
        if root is not None:
            make_folders(Path(root))

    def finish(self, array: Any, *, overwrite: bool) -> Any:
        """Delete the journal; the array is where it belongs."""
        sync_metadata(array)
        if self.resumable:
            self.journal(array).remove()
        return array

    def size(self, array: Any) -> int:
        """Bytes of the finished array."""
        return stored_bytes(array, None)


Destination = Folder | Store

_FILES = (
    *(
        ".tif",
        ".tiff",
        ".btf",
        ".tf2",
        ".tf8",
        ".h5",
        ".hdf5",
        ".hdf",
        ".he5",
        ".nwb",
        ".npy",
        ".npz",
        ".mat",
    ),
    *(
        ".fits",
        ".fit",
        ".fts",
        ".raw",
        ".bin",
        ".dat",
        ".czi",
        ".lif",
        ".nd2",
        ".avi",
        ".mp4",
        ".mov",
        ".zip",
    ),
    *(".gz", ".tar", ".tgz", ".7z", ".bz2", ".xz", ".zst", ".fz", ".png", ".jpg", ".jpeg", ".gif", ".pdf"),
    *(".svg", ".html", ".htm", ".json", ".csv", ".txt"),
)


def check_name(name: str) -> None:
    """Refuse a name that says something else than what it is given to, a Zarr array or a folder of them.

    Raises
    ------
    ValueError
    """
    last = name.rstrip("/\\").replace("\\", "/").rpartition("/")[2].lower()
    suffix = next((suffix for suffix in _FILES if last.endswith(suffix)), None)
    if suffix is None:
        return
    plain = name.rstrip("/\\")[: -len(suffix)]
    plain = plain[: -len(".zarr")] if plain.lower().endswith(".zarr") else plain
    remedy = f"name it {plain}.zarr"
    if suffix == ".zip":
        remedy += ", and pack it when it is finished"
    elif suffix in (".tif", ".tiff", ".btf", ".h5", ".hdf5", ".npy", ".raw"):
        remedy += f"; `anscombe decompress {plain}.zarr {name}` makes a file of it"
    raise ValueError(f"{name} is the name of a file, and what is written is a Zarr array, a folder: {remedy}")


def check_replaceable(path: Path, *, overwrite: bool, image: bool = False) -> None:
    """Refuse to overwrite what is no array of Zarr.

    Parameters
    ----------
    path : Path
        What is there.
    overwrite : bool
        Whether it would be replaced, and not only looked at.
    image : bool
        Whether an OME-Zarr image may be replaced, by another one.

    Raises
    ------
    FileExistsError
        It was not written by Zarr, or it is a group, whose arrays would all be gone.
    """
    if not is_zarr(path):
        raise FileExistsError(f"{path} exists and was not written by Zarr, so it is not overwritten")
    if not overwrite:
        return
    if not _is_group(path):
        return
    node = zarr_module().open(str(path), mode="r")
    attributes = dict(node.attrs)
    if image and attributes.get("ome", attributes).get("multiscales") and not any(_others(node)):
        return
    held = ", ".join(sorted([*node.array_keys(), *node.group_keys()])) or "nothing"
    raise FileExistsError(
        f"{path} is a group of Zarr that holds {held}, and is not overwritten as a whole: choose another "
        f'name, name an array in it ("{path}::name"), or delete the group yourself'
    )


def _equal(one: Any, other: Any) -> bool:
    """Whether two stores are the same place, be one of them open for reading alone."""
    if not (hasattr(one, "with_read_only") and hasattr(other, "with_read_only")):
        return bool(one == other)
    return bool(one.with_read_only(True) == other.with_read_only(True))


def _is_group(path: Path) -> bool:
    return hasattr(zarr_module().open(str(path), mode="r"), "array_keys")


def _others(image: Any) -> Iterator[str]:
    """What an OME-Zarr image holds beside its levels, such as labels."""
    attributes = dict(image.attrs)
    images = attributes.get("ome", attributes)["multiscales"]
    levels = {str(level["path"]) for one in images for level in one["datasets"]}
    yield from (name for name in [*image.array_keys(), *image.group_keys()] if name not in levels)


def check_apart(movie: Movie, path: Path) -> None:
    """Refuse a folder that is, holds, or lies in the array that a movie is read from.

    Raises
    ------
    ValueError
    """
    source = place_of(movie)
    if source is None:
        return
    ours = path.resolve()
    if ours == source or ours in source.parents:
        raise ValueError(f"source and store are both {path}: the original would be gone")
    if source in ours.parents and is_zarr(source) and not _is_group(source):
        raise ValueError(f"store {path} lies in the source, {movie.source}: choose another place")


def place_of(movie: Movie) -> Path | None:
    """The file or folder that holds the movie, without links; None where it is in memory or elsewhere."""
    store = getattr(movie.origin, "store", None)
    root = getattr(store, "root", None) or getattr(store, "path", None)
    if isinstance(root, str | os.PathLike) and Path(root).exists():
        return (Path(root) / str(movie.origin.path)).resolve()
    name, _, key = movie.source.partition("::")
    path = Path(name)
    if not path.exists():
        return None
    inner = path / key.strip("/")
    return (inner if key and inner.exists() else path).resolve()


def destination_of(
    store: Any, storage_options: dict[str, Any] | None, *, resume: bool = False
) -> Destination:
    """The destination that a path, a URL or a store names; to resume, the one that the run began with."""
    if store is None:
        raise TypeError("store must be a path, a URL or a store of Zarr, got None")
    path = local_path(store)
    if path is not None and not path.name:
        raise ValueError(f"store must name the folder that is to be written, got {str(store)!r}")
    if isinstance(store, str | os.PathLike):
        check_name(str(store))
    if path is None or (resume and _is_unfinished_store(path)):
        return Store(store, storage_options)
    return Folder(path)


def _is_unfinished_store(path: Path) -> bool:
    """Whether a folder holds what a run began that was given the folder as a store of Zarr."""
    if not is_zarr(path):
        return False
    try:
        node = zarr_module().open(str(path), mode="r")
    except Exception:  # opening it again, as an array, says what is wrong
        return False
    noted = dict(node.attrs).get(ATTRIBUTE)
    return isinstance(noted, dict) and noted.get("complete") is False
