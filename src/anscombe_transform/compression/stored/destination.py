"""Where an array is written: a folder that gets its name at the end, or a store of Zarr.

A folder ``movie.zarr`` is written in ``movie.zarr.partial``, which holds the array, the journal of finished
blocks, and a lock while a process is at work. At the end the array is renamed to its name and the rest is
deleted. Other stores have no renaming: there the array lies at its place from the beginning, with the
attribute ``complete: false``, and the journal among its keys.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anscombe_transform.compression.blocks.source import place_of
from anscombe_transform.compression.stored.arrays import (
    as_zarr_store,
    delete_unfinished,
    folder_store,
    local_path,
    local_root,
    open_array,
    read_metadata,
    reopen,
    replace_metadata,
    root_of,
    stored_bytes,
    sync_metadata,
    zarr_module,
)
from anscombe_transform.compression.stored.journal import Journal
from anscombe_transform.compression.stored.keys import FolderKeys, Keys, keys_beside
from anscombe_transform.compression.stored.notes import CHECKSUMS_BESIDE
from anscombe_transform.movies.metadata import ATTRIBUTE
from anscombe_transform.movies.readers.zarr_stores import is_zarr
from anscombe_transform.native.arrays import library_of
from anscombe_transform.native.documents import value_text
from anscombe_transform.native.durable import Workspace, delete

if TYPE_CHECKING:
    from anscombe_transform.movies import Movie

__all__ = [
    "Destination",
    "Folder",
    "Store",
    "check_apart",
    "check_name",
    "check_replaceable",
    "check_taken",
    "destination_of",
]

_WRITER = "writer"
_PART = "part-"
LIVE_SETTINGS, LIVE_SPOOL = "stream.json", "spool"
"""Where the working folder of a recording that is being made keeps its parameters and its raw frames."""

_log = logging.getLogger(__name__)


class OnDisk:
    """A path of the file system, which gets its name when all of it is written and verified.

    Parameters
    ----------
    path : Path
        Of the array.
    work : Workspace
        The folder beside it for unfinished work.
    """

    contested = False

    def __init__(self, path: Path, work: Workspace) -> None:
        self.path, self.name, self._work = path, str(path), work

    def check_source(self, movie: Movie) -> None:
        """Refuse to replace the movie by its own compressed copy, or to write into it."""
        check_apart(movie, self.path)

    def held(self, *, takeover: bool) -> AbstractContextManager[None]:
        """Keep other processes away while this one works."""
        return self._work.held()

    def finished(self) -> Any:
        """The array that has its name already, or None."""
        return open_array(self.path) if self.path.exists() else None


class Folder(OnDisk):
    """A folder of the file system."""

    resumable = True

    def __init__(self, path: Path) -> None:
        super().__init__(path, Workspace(path, "array", keeps=(LIVE_SPOOL,)))
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
            check_taken(self.path, overwrite or resume)
            check_replaceable(self.path, overwrite=overwrite)
        if self.holds_recording() and not overwrite:
            raise FileExistsError(
                f"{self.partial} holds a recording that was cut off while it was made: complete it (anscombe "
                f"finish {self.path}), or delete it (overwrite=True, --overwrite)"
            )
        begun = self._work.is_begun() if held else self.partial.exists()
        if begun and not (overwrite or resume):
            done = len(self.journal().records())
            raise FileExistsError(
                f"{self.partial} holds an interrupted run with {done} finished blocks: go on with it "
                "(resume=True, --resume), or begin again (overwrite=True, --overwrite)"
            )

    def holds_recording(self) -> bool:
        """Whether there is a recording that was cut off while it was made."""
        parts = (Path(self.place), self.partial / LIVE_SPOOL)
        return (self.partial / LIVE_SETTINGS).exists() and any(part.exists() for part in parts)

    @contextmanager
    def held_to_begin(self) -> Iterator[None]:
        """Keep other processes away, once they have let go: one job of several begins the array."""
        with self._work.held(wait=True):
            yield

    def lock_part(self, number: int, count: int) -> Any:
        """A lock that keeps other processes away from a part until it is released or the process ends.

        Raises
        ------
        FileExistsError
            Another process is writing the part.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.partial / f"{_PART}{number}-of-{count}", timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise FileExistsError(
                f"another process is writing part {number}/{count} of {self.path}: wait for it"
            ) from error
        return lock

    def begun(self, *, shared: bool = False) -> Any:
        """The array of an interrupted run, open for writing, or None.

        Parameters
        ----------
        shared : bool, optional
            Whether other processes may be writing chunks at this moment.
        """
        if not is_zarr(Path(self.place)):
            return None
        if not shared:
            delete_unfinished(Path(self.place))
        try:
            array = reopen(self.place)
            dict(array.attrs)  # which zarr-python 2 reads when they are asked for
        except Exception as error:  # of every kind: a power cut may leave any part of the metadata
            _log.warning("%s can't be opened, so the run is begun again: %s", self.place, error)
            return None
        return array

    def journal(self, writer: str = "") -> Journal:
        """The journal of the run; a job that writes a part adds to it by a name of its own."""
        return Journal(FolderKeys(self.partial / "journal"), writer)

    def check_owner(self) -> None:
        """Nobody takes a lock away."""

    def make_room(self) -> None:
        """Delete the remains of an earlier run, before a new array is made."""
        self.discard()
        delete(self.partial / LIVE_SPOOL)
        delete(self.partial / LIVE_SETTINGS)

    def discard(self) -> None:
        """Delete an unfinished array."""
        # First and for good: its records are not those of the next array.
        self.journal().remove()
        delete(self._work.content)
        for lock in self.partial.glob(f"{_PART}*"):
            delete(lock)

    def seal(self, shape: Sequence[int], notes: dict[str, Any]) -> None:
        """Give the array that was begun its final shape and notes, on the disk when this returns.

        Zarr would write the metadata without waiting for the disk; the frames of a recording that was written
        while it was made are nowhere else.
        """
        root = Path(self.place)
        replace_metadata(root, read_metadata(root) | {"shape": list(shape)}, {ATTRIBUTE: notes})

    def finish(self, array: Any, *, overwrite: bool) -> Any:
        """Give the array its name, and delete the replaced array and the journal.

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
    """A store of Zarr that is not a folder.

    Stores have no locks, but a document that names the run that writes. Only one of two that begin together
    can put it there, where the store can create a key only if it is missing: memory, file systems, and S3
    through obstore. A run that resumes or overwrites takes the document over, since the other
    run may have been killed; one that is alive finds that at its next block, and stops.

    Attributes
    ----------
    contested : bool
        Whether the document was taken from another run, which may still be writing a block.
    """

    def __init__(self, store: Any, storage_options: dict[str, Any] | None, name: str | None = None) -> None:
        self.place = as_zarr_store(store)
        self.name = name or str(store)
        self.contested = False
        self._options = storage_options
        self._run = secrets.token_hex(8)
        # Whether this run, or the one that it goes on with, has deleted what was there before.
        self._has_room = False
        # A transaction's keys are those of Zarr alone, and vanish with it when it isn't committed.
        self.resumable = library_of(store) != "icechunk"

    def check(self, *, overwrite: bool, resume: bool, held: bool = False) -> None:
        """Refuse to write where something is that must stay."""
        if resume and not self.resumable:
            raise ValueError(
                f"{self.name} keeps nothing of an interrupted run, as a transaction that was not committed "
                "is gone: leave resume out"
            )
        self._check_no_group()
        if overwrite or resume:
            return
        try:
            array = reopen(self.place, self._options)
        except Exception as error:
            raise FileExistsError(
                f"{self.name} holds data, and its metadata can't be read ({error}): go on if it is an "
                "interrupted run (resume=True, --resume), or overwrite it (overwrite=True, --overwrite)"
            ) from error
        if array is None:
            return
        begun = _is_incomplete(array)
        remedy = "go on with it (resume=True, --resume), or begin again" if begun else "overwrite it"
        raise FileExistsError(
            f"{self.name} holds {'an interrupted run' if begun else 'data already'}: {remedy} "
            "(overwrite=True, --overwrite)"
        )

    def _check_no_group(self) -> None:
        options = {"storage_options": self._options} if self._options else {}
        try:
            node = zarr_module().open(self.place, mode="r", **options)
        except Exception:  # there is nothing, or something that is looked at by those who want an array
            return
        if hasattr(node, "array_keys"):
            raise FileExistsError(
                f"{self.name} is a group of Zarr, and is not overwritten: name an array that is not there yet"
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

    @cached_property
    def _keys(self) -> Keys:
        return keys_beside(self.place, self._options)

    @contextmanager
    def held(self, *, takeover: bool) -> Iterator[None]:
        """Put the document that says who writes, or take it over.

        Raises
        ------
        FileExistsError
            Another run has put it there.
        """
        if not self.resumable:
            yield
            return
        self._keys.put_new(_WRITER, self._claim())
        if self._writer() != self._run:
            if not takeover:
                raise FileExistsError(
                    f"another run is writing {self.name}, or was killed: wait for it, go on with it "
                    "(resume=True, --resume), or begin again (overwrite=True, --overwrite)"
                )
            self.contested = True
            self._has_room = bool(self._document().get("room"))
            self._keys.put(_WRITER, self._claim())
        try:
            yield
        finally:
            if self._writer() == self._run:
                self._keys.remove([_WRITER])

    def check_owner(self) -> None:
        """Stop when another run has taken over.

        Raises
        ------
        FileExistsError
        """
        if self.resumable and self._writer() != self._run:
            raise FileExistsError(
                f"another run has taken over {self.name}, and this one stopped: nothing of it is verified"
            )

    def _claim(self) -> bytes:
        return json.dumps({"run": self._run, "room": self._has_room}).encode()

    def _document(self) -> dict[str, Any]:
        try:
            document = json.loads(self._keys.get(_WRITER) or b"")
        except ValueError:  # there is none, it was torn by a power cut, or is not yet written to the end
            return {}
        return document if isinstance(document, dict) else {}

    def _writer(self) -> Any:
        return self._document().get("run")

    def finished(self) -> Any:
        """The array that is complete, or None."""
        array = self._open()
        if array is None or _is_incomplete(array):
            return None
        if self._has_room and ATTRIBUTE not in array.attrs:
            return None  # begun by us, and cut off between two files of metadata
        if self.contested:
            # A run that was cut off at its very end did not come to do this.
            if (root := local_root(array)) is not None:
                delete_unfinished(root)
            self.journal().remove()
        return array

    def begun(self) -> Any:
        """The array of an interrupted run, open for writing, or None."""
        array = self._open()
        if array is None or not _is_incomplete(array):
            return None
        root = local_root(array)
        if root is not None:
            delete_unfinished(root)
        return array

    def _open(self) -> Any:
        try:
            array = reopen(self.place, self._options)
            if array is not None:
                dict(array.attrs)
        except Exception as error:  # of every kind: a power cut may leave any part of the metadata
            if not self._has_room:
                raise
            _log.warning("%s can't be opened, so the run is begun again: %s", self.name, error)
            return None
        return array

    def journal(self) -> Journal:
        """The journal of the run."""
        return Journal(self._keys)

    def make_room(self) -> None:
        """Delete an array that is there, before a new one is made, and nothing else that is in the store."""
        if not self.resumable:
            return
        self.journal().remove()
        try:
            there = self._open() is not None
        except Exception as error:  # of every kind: its codecs may be unknown here, or its metadata torn
            _log.warning("%s can't be opened, and is replaced: %s", self.name, error)
            there = True
        if self._has_room or there:
            self._keys.remove([CHECKSUMS_BESIDE])
            self._keys.clear_array()
        # From here on whatever is in the place of the array is ours.
        self._has_room = True
        self._keys.put(_WRITER, self._claim())

    def discard(self) -> None:
        """Keep the array: its record says that it is incomplete."""

    def finish(self, array: Any, *, overwrite: bool) -> Any:
        """Delete the journal; the array is where it belongs, unless another run has written there.

        Raises
        ------
        FileExistsError
        """
        sync_metadata(array)
        if self.resumable:
            self.check_owner()
            found = reopen(self.place, self._options)
            if found is None or dict(found.attrs) != dict(array.attrs):
                raise FileExistsError(f"another run has written {self.name}: nothing of this one is verified")
            self.journal().remove()
        return array

    def size(self, array: Any) -> int:
        """Bytes of the finished array."""
        return stored_bytes(array, None)


def _is_incomplete(array: Any) -> bool:
    noted = dict(array.attrs).get(ATTRIBUTE)
    return isinstance(noted, dict) and noted.get("complete") is False


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
        ".fz",
        ".raw",
        ".bin",
        ".dat",
        ".czi",
        ".lif",
        ".nd2",
        ".sbx",
        ".avi",
        ".mp4",
        ".mov",
    ),
    *(".zip", ".gz", ".tar", ".tgz", ".7z", ".bz2", ".xz", ".zst"),
    *(".png", ".jpg", ".jpeg", ".gif", ".pdf", ".svg", ".html", ".htm", ".json"),
)
"""Suffixes that say that something is a file."""


def check_name(name: str) -> None:
    """Refuse a suffix that contradicts the content, a Zarr array or a folder of them.

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
        if suffix in (".tif", ".tiff", ".btf"):
            remedy += ", and plain=True (--plain) of compress writes that file at once"
    raise ValueError(f"{name} is the name of a file, and what is written is a Zarr array, a folder: {remedy}")


def check_taken(path: Path, allowed: bool) -> None:
    """Refuse a path at which there is something already, unless that is allowed.

    Raises
    ------
    FileExistsError
    """
    if not allowed:
        raise FileExistsError(
            f"{path} exists already: choose another name, or overwrite it (overwrite=True, --overwrite)"
        )


def check_replaceable(path: Path, *, overwrite: bool, image: bool = False) -> None:
    """Refuse to overwrite anything but a Zarr array.

    Parameters
    ----------
    path : Path
        The existing file or folder.
    overwrite : bool
        Whether it would be replaced, and not only looked at.
    image : bool
        Whether an OME-Zarr image may be replaced, by another one.

    Raises
    ------
    FileExistsError
        It was not written by Zarr, or it is a group, and all of its arrays would be lost.
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
    """Whether a folder of Zarr is a group, by its metadata alone: the codecs of an array may be unknown here.

    Raises
    ------
    FileExistsError
        The metadata can't be read, so that it might be one.
    """
    document = path / "zarr.json"
    if not document.exists():
        return not (path / ".zarray").exists()
    try:
        return bool(json.loads(document.read_bytes())["node_type"] == "group")
    except (ValueError, KeyError, TypeError) as error:
        raise FileExistsError(
            f"{document} can't be read ({type(error).__name__}: {error}), so that {path} may be a group of "
            "arrays, and is not touched: choose another name, or delete it yourself"
        ) from error


def _others(image: Any) -> Iterator[str]:
    """Content of an OME-Zarr image beside its levels, such as labels."""
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


def destination_of(
    store: Any, storage_options: dict[str, Any] | None, *, resume: bool = False
) -> Destination:
    """The destination that a path, a URL or a store names; to resume, the one that the run began with."""
    if store is None or hasattr(store, "dtype") or hasattr(store, "usable_constants"):
        raise TypeError(
            f"store must be a path, a URL or a store of Zarr, got {value_text(store)}: compress(movie, store)"
        )
    path = local_path(store)
    if path is not None and not path.name:
        raise ValueError(f"store must name the folder that is to be written, got {str(store)!r}")
    if isinstance(store, str | os.PathLike):
        check_name(str(store))
    if path is None:
        return Store(store, storage_options)
    if resume and _is_begun_in_place(path):
        return Store(folder_store(path), None, str(path))
    return Folder(path)


def _is_begun_in_place(path: Path) -> bool:
    """Whether a folder holds an unfinished array of a run that used the folder as a Zarr store."""
    if not is_zarr(path):
        return False
    try:
        array = reopen(str(path))
        return array is not None and _is_incomplete(array)
    except Exception:  # opening it again says what is wrong
        return False
