"""Back again: a stored movie as TIFF, HDF5, numpy's format or raw values, read and written in blocks.

The file is written in a folder ``<name>.partial`` and takes its own name when every frame is in it, was read
back and is on the disk, so that a file of that name is whole.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.compression.blocks.comparison import checksum
from anscombe_transform.compression.blocks.layout import Layout
from anscombe_transform.compression.files.exports import (
    COMPRESSIONS,
    Export,
    Format,
    describe_raw,
    description_of,
    format_of,
)
from anscombe_transform.compression.stored.checksums import StoredChecksums
from anscombe_transform.compression.stored.destination import check_apart
from anscombe_transform.movies import Movie, open_movie
from anscombe_transform.movies.readers.zarr_stores import check_chunks
from anscombe_transform.native.documents import Printed
from anscombe_transform.native.durable import (
    GuardedFile,
    Workspace,
    check_space,
    delete,
    disk_full,
    sync,
)
from anscombe_transform.native.work import Progress, Threads, count_threads, ordered

__all__ = ["DecompressionResult", "decompress", "write_file_of"]

_DATASET = "/movie"


@dataclass(frozen=True, slots=True, repr=False)
class DecompressionResult(Printed):
    """Result of `decompress`.

    Attributes
    ----------
    path : str
        The file, with ``::`` and the dataset for HDF5.
    format : str
        ``"TIFF"``, ``"BigTIFF"``, ``"HDF5"``, ``"npy"`` or ``"raw"``.
    shape : tuple of int
        ``(time, y, x)``.
    dtype : str
        Type of the values.
    file_bytes : int
        Size of the file, in bytes.
    seconds : float
        Time that it took, in seconds.
    verified : bool
        Whether every frame was read back and compared; otherwise only the first and last block were.

    Examples
    --------
    >>> import tempfile, zarr
    >>> from anscombe_transform import compress, decompress, simulate_movie
    >>> store = zarr.storage.MemoryStore()
    >>> _ = compress(simulate_movie((40, 64, 64), rng=0)[0], store)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = decompress(store, f"{folder}/movie.npy")
    >>> result.format, result.shape, result.dtype
    ('npy', (40, 64, 64), 'int16')
    """

    path: str
    format: str
    shape: tuple[int, int, int]
    dtype: str
    file_bytes: int
    seconds: float
    verified: bool

    def __str__(self) -> str:
        checked = "every frame read back" if self.verified else "first and last frames read back"
        return f"{self.path}: {self.format}, {self.shape} {self.dtype}, {self.file_bytes:,} bytes, {checked}"

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types."""
        return asdict(self) | {"shape": list(self.shape)}


def decompress(
    store: Any,
    destination: str | os.PathLike[str],
    *,
    format: Format | None = None,
    channel: int | str | None = None,
    plane: int | None = None,
    dataset: str | None = None,
    compression: str | None = None,
    overwrite: bool = False,
    verify: bool = True,
    partial: bool = False,
    progress: Progress | None = None,
    threads: int | None = None,
) -> DecompressionResult:
    """Write a stored movie as a file that any program opens.

    Parameters
    ----------
    store : path, Zarr array, or another source for `open_movie`
        The movie, with our codec or anyone's. It is read block by block, never whole.
    destination : path
        The file to write. Its suffix tells the format: ``.tif`` and ``.tiff`` (a BigTIFF where it would pass
        4 GB, or with the suffix ``.btf``), ``.h5`` and ``.hdf5`` (``"file.h5::/path"`` names the dataset,
        ``/movie`` by default), ``.npy``, ``.raw`` and ``.bin``.
    format : {"tiff", "hdf5", "npy", "raw"}, optional
        The format, if the suffix does not decide it.
    channel, plane, dataset : optional
        Part of the store, as for `open_movie`.
    compression : str, optional
        Lossless compression of the file: ``"zlib"``, ``"zstd"``, ``"lzw"`` for TIFF (as in tifffile),
        ``"gzip"`` or ``"lzf"`` for HDF5. None by default, which every program reads.
    overwrite : bool, optional
        Replace a file that is there. It stays until the new one is finished.
    verify : bool, optional
        Read back every frame and compare it with the store. Without it, only the first and
        the last block are.
    partial : bool, optional
        Accept a store that isn't whole, see `open_movie`.
    progress : callable, optional
        Called as ``progress(done, total, stage)`` in frames, from the calling thread.
    threads : int, optional
        Blocks that are decoded at once; by default the number of processors, at most 4. A block is as many
        frames as fit in 32 MB, in whole chunks, and at least one chunk. One block more than `threads` is in
        memory.

    Returns
    -------
    DecompressionResult

    Raises
    ------
    FileExistsError
        There is something at `destination` and `overwrite` was not given.
    ValueError
        The format is unknown or contradicts the suffix, the store holds no movie, or the file read back
        differs from the values written.
    VerificationError
        The stored values are not those that were written, by the checksums of the store's record; the error
        names the frames and the chunk. It is a ValueError.
    OSError
        The disk has no room for the file; the message says how much it needs.
    ImportError
        The format's library is missing; the message says how to install it.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from anscombe_transform import decompress
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = decompress(np.arange(24, dtype="uint16").reshape(4, 2, 3), f"{folder}/movie.npy")
    ...     print(result.format, result.shape, np.load(f"{folder}/movie.npy")[3, 1, 2])
    npy (4, 2, 3) 23
    """
    with open_movie(store, channel=channel, plane=plane, dataset=dataset, partial=partial) as movie:
        return write_file_of(
            movie,
            destination,
            format=format,
            compression=compression,
            overwrite=overwrite,
            verify=verify,
            progress=progress,
            threads=threads,
        )


def write_file_of(
    movie: Movie,
    destination: str | os.PathLike[str],
    *,
    format: Format | None = None,
    compression: str | None = None,
    overwrite: bool = False,
    verify: bool = True,
    progress: Progress | None = None,
    threads: int | None = None,
    record: Mapping[str, Any] | None = None,
) -> DecompressionResult:
    """Write a movie as `decompress` does, with a record that may be given in place of the store's."""
    started = time.perf_counter()
    outer, _, inner = os.fspath(destination).partition("::")
    path = Path(outer)
    kind = format_of(path, format)
    if inner and kind != "hdf5":
        raise ValueError(f"{destination}: only HDF5 has datasets inside, so ::{inner} names nothing")
    if compression is not None and kind not in COMPRESSIONS:
        raise ValueError(f"compression={compression!r} is for TIFF and HDF5; {kind} holds plain values")
    if compression not in (None, *COMPRESSIONS.get(kind, ())):
        raise ValueError(f"compression must be one of {', '.join(COMPRESSIONS[kind])}, got {compression!r}")
    if hasattr(movie.origin, "nchunks_initialized"):
        check_chunks(movie.origin, movie.source)
    export = Export(
        path=path,
        format=kind,
        movie=movie,
        record={"source": movie.source, **movie.metadata} if record is None else record,
        dataset=f"/{(inner or _DATASET).strip('/')}",
        compression=compression,
    )
    work = Workspace(path, path.name)
    job = _Job(export, work.content, count_threads(threads, least=1), progress)
    _check_place(path, kind, overwrite)
    check_apart(movie, path)
    with work.held():
        # Another process may have finished since.
        _check_place(path, kind, overwrite)
        try:
            name, sums = job.write()
            # The disk is busy with the one and the processor with the other.
            with Threads(1) as aside:
                synced = aside.begin(sync, work.content)
                job.check(sums, everything=verify)
                synced.result()
            work.put_in_place()
        except OSError as error:
            if disk_full(error):
                raise OSError(errno.ENOSPC, job.needed_room()) from error
            raise
        finally:
            delete(work.content)
        if kind == "raw":
            describe_raw(export)
    return DecompressionResult(
        path=f"{path}::{export.dataset}" if kind == "hdf5" else str(path),
        format=name,
        shape=movie.shape,
        dtype=movie.dtype.name,
        file_bytes=path.stat().st_size,
        seconds=time.perf_counter() - started,
        verified=verify,
    )


def _check_place(path: Path, kind: Format, overwrite: bool) -> None:
    if path.is_dir():
        raise FileExistsError(f"{path} is a folder, which is never replaced by a file: choose another name")
    for taken in (path, description_of(path)) if kind == "raw" else (path,):
        if taken.exists() and not overwrite:
            raise FileExistsError(
                f"{taken} exists: give overwrite=True to replace it, or choose another name"
            )
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} for {path.name}: create it first")


class _Job:
    """One movie on its way to one file."""

    def __init__(self, export: Export, place: Path, threads: int, progress: Progress | None) -> None:
        self._export, self._place, self._threads, self._progress = export, place, threads, progress
        movie = export.movie
        # Those that the store's record has of its values, if it has any.
        self._checksums = None if movie._stored is None else StoredChecksums.of(movie._stored, movie.source)
        layout = Layout.of(movie.shape, movie.dtype, (movie.chunk_frames, -1, -1))
        self._spans = (layout if self._checksums is None else self._checksums.layout).spans

    def write(self) -> tuple[str, list[int]]:
        """Write the file; return the name of its format and the checksums of its blocks."""
        delete(self._place)  # of a run that was killed
        # What is compressed takes less, nobody knows how much.
        if self._export.compression is None:
            check_space(self._export.path.parent, self._export.movie.nbytes, str(self._export.path))
        sums: list[int] = []
        with GuardedFile(self._place) as file:
            try:
                name = self._export.write(file, self._blocks(file, sums))
            except Exception:
                file.check()  # which is why a library had one of its own
                raise
        file.check()
        return name, sums

    def needed_room(self) -> str:
        """The message of a disk that is full, with the room that the file needs."""
        path, bound = self._export.path, "about" if self._export.compression is None else "at most"
        free = shutil.disk_usage(path.parent).free
        return (
            f"{path} was not written, as the disk is full: it needs {bound} "
            f"{self._export.movie.nbytes / 1e6:,.1f} MB, and {path.parent} has {free / 1e6:,.1f} MB free "
            "without it: make room, or write to another disk"
        )

    def _blocks(self, file: GuardedFile, sums: list[int]) -> Iterator[NDArray[Any]]:
        """The movie front to back; the next blocks are decoded while the caller writes one."""
        movie, done = self._export.movie, 0
        for frames in ordered(movie.frames, self._spans, self._threads):
            block = np.ascontiguousarray(frames)
            sums.append(checksum(block))
            if self._checksums is not None:
                self._checksums.check_block(block, done, movie.source, sums[-1])
            yield block
            file.check()
            done += len(block)
            self._tell(done, "write")

    def check(self, sums: list[int], *, everything: bool) -> None:
        """Read back the file and compare it with the store."""
        movie, path = self._export.movie, self._export.path
        chosen = range(len(self._spans)) if everything else sorted({0, len(self._spans) - 1})
        spans = [self._spans[number] for number in chosen]
        with self._export.open(self._place) as written:
            if written.shape != movie.shape or written.dtype != movie.dtype:
                raise ValueError(
                    f"{path} was not written: the file holds {written.shape} {written.dtype}, the store "
                    f"{movie.shape} {movie.dtype}"
                )
            found = ordered(lambda *span: checksum(written.frames(*span)), spans, self._threads)
            for number, (start, stop), value in zip(chosen, spans, found, strict=True):
                if value != sums[number]:
                    raise ValueError(
                        f"{path} was not written: frames {start} to {stop - 1} read back otherwise than they "
                        "were written. The disk may be failing or full"
                    )
                self._tell(stop, "verify")

    def _tell(self, done: int, stage: str) -> None:
        if self._progress is not None:
            self._progress(done, self._export.movie.shape[0], stage)
