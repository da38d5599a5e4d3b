"""Decoded values in a file that any program reads: TIFF with deflate, HDF5 with gzip, and the record in both.

The movie is first written with the codec, where every value is compared with the source, and then as a file
that is read back and compared with that. So a plain file has values, bound and record of the array,
and takes about a third of the source. HDF5's shuffle is left out: it makes decoded values larger.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anscombe_transform.compression.decompression import write_file_of
from anscombe_transform.compression.files.hdf5 import check_ours
from anscombe_transform.compression.files.record import PLAIN_SUFFIXES, read_plain_record
from anscombe_transform.compression.stored.arrays import codec_of
from anscombe_transform.compression.stored.checksums import text_of
from anscombe_transform.compression.stored.destination import check_apart, check_taken
from anscombe_transform.compression.stored.notes import notes_of, sealed
from anscombe_transform.movies import open_movie
from anscombe_transform.movies.metadata import ATTRIBUTE
from anscombe_transform.native.durable import Workspace, delete
from anscombe_transform.native.work import Progress

if TYPE_CHECKING:
    from anscombe_transform.compression.results import CompressionResult

__all__ = ["check_plain", "write_plain"]


def check_plain(store: Any, options: dict[str, Any]) -> Path:
    """The file that is to be written, if the options are those of a plain one.

    Raises
    ------
    ValueError
        The name is not that of a TIFF or HDF5 file, or an option is for arrays.
    """
    name = os.fspath(store) if isinstance(store, str | os.PathLike) else ""
    path = Path(name.partition("::")[0])
    if path.suffix.lower() not in PLAIN_SUFFIXES or "://" in name:
        raise ValueError(
            f"plain (--plain) writes {', '.join(PLAIN_SUFFIXES)}, got {store!s}: give such a name, "
            "or leave plain out"
        )
    for option, value in options.items():
        if value is not None and value is not False:
            flag = option.replace("_", "-")
            raise ValueError(f"{option} (--{flag}) has no meaning for a plain file: leave it out")
    return path


def write_plain(
    source: Any,
    destination: str | os.PathLike[str],
    store_at: Callable[[Path], CompressionResult],
    *,
    overwrite: bool,
    verify: bool,
    progress: Progress | None,
) -> CompressionResult:
    """Store a movie by a function that writes an array, and write a plain file of that.

    Parameters
    ----------
    source : path or array
        The movie, which must not be the file.
    destination : path
        Of the file, with ``::`` and the dataset for HDF5.
    store_at : callable
        Stores the movie with the codec at a path, and verifies it.
    overwrite : bool
        Whether a file that this function wrote may be replaced.
    verify : bool
        Whether to read back the whole file.
    progress : callable or None
        Called as ``progress(done, total, stage)``.

    Returns
    -------
    CompressionResult
        That of the array, with name and size of the file.

    Raises
    ------
    FileExistsError
        There is something that is not to be replaced, or another process is writing it.
    """
    outer, _, inner = os.fspath(destination).partition("::")
    path = Path(outer)
    work = Workspace(path, path.name)
    _check_place(work, overwrite=overwrite, begun=work.folder.exists())
    if isinstance(source, str | os.PathLike):
        with open_movie(source, partial=True) as movie:
            check_apart(movie, path)
    with work.held():
        _check_place(work, overwrite=overwrite, begun=work.is_begun())
        stored = work.folder / "stored.zarr"
        for left in work.folder.iterdir():
            if left.name != "lock":
                delete(left)
        try:
            result = store_at(stored)
            record = _record_of(result.array)
            target = f"{work.content}::{inner}" if inner else str(work.content)
            with open_movie(stored) as movie:
                write_file_of(
                    movie,
                    target,
                    compression=PLAIN_SUFFIXES[path.suffix.lower()],
                    record=record,
                    verify=verify,
                    progress=progress,
                )
            work.put_in_place()
        finally:
            delete(stored)
            delete(stored.with_name(f"{stored.name}.partial"))
            delete(work.content)
    name = f"{path}::{inner}" if inner else str(path)
    size = path.stat().st_size
    return replace(result, path=name, array=open_movie(name), stored_bytes=size)


def _check_place(work: Workspace, *, overwrite: bool, begun: bool) -> None:
    path = work.path
    if os.path.lexists(path):
        check_taken(path, overwrite)
        if path.is_dir() or read_plain_record(path) is None:
            check_ours(path)
    elif not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} for {path.name}: create it first")
    if begun and not overwrite:
        raise FileExistsError(
            f"{work.folder} was left by an interrupted run, which a plain file can't go on with: begin again "
            "(overwrite=True, --overwrite)"
        )


def _record_of(array: Any) -> dict[str, Any]:
    """The record of a plain file: the source, and the record of the array with its codec."""
    notes = notes_of(array)
    codec: Any = codec_of(array)
    notes = {name: value for name, value in notes.items() if name != "record_checksum"}
    configuration = codec.plan.configuration.to_json()
    if held := notes.get("checksums"):
        # A file has all of them inside.
        notes["checksums"] = held | {"values": text_of(array, held["values"], str(array))}
    notes = sealed(notes | {"plain": True, "codec": configuration})
    source = notes["source"]
    return {"source": source["name"], **source.get("metadata", {}), ATTRIBUTE: notes}
