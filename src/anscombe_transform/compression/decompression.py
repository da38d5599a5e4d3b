"""Back again: a stored movie as TIFF, HDF5, numpy's format or raw values, read and written in blocks.

The file is written in a folder ``<name>.partial`` and takes its own name when every frame is in it, was read
back and is on the disk, so that a file of that name is whole. What the store tells of its making goes along:
into the description of a TIFF, the attributes of HDF5, a JSON file beside raw values.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.compression.blocks.comparison import checksum
from anscombe_transform.compression.stored.checksums import StoredChecksums
from anscombe_transform.movies import Movie, open_movie
from anscombe_transform.movies.errors import missing
from anscombe_transform.movies.metadata import ATTRIBUTE, packing
from anscombe_transform.movies.readers.hdf5 import open_hdf5
from anscombe_transform.movies.readers.numpy_files import open_npy
from anscombe_transform.movies.readers.raw import open_raw
from anscombe_transform.movies.readers.tiff.reader import open_tiff
from anscombe_transform.movies.readers.zarr_stores import check_chunks
from anscombe_transform.movies.selection import Choice
from anscombe_transform.native.durable import (
    GuardedFile,
    Workspace,
    check_space,
    delete,
    disk_full,
    sync,
    write_file,
)

__all__ = ["DecompressionResult", "decompress"]

Format = Literal["tiff", "hdf5", "npy", "raw"]
Progress = Callable[[int, int, str], object]
"""Called with the frames done, the frames there are, and what is being done to them."""

_FORMATS: dict[str, Format] = {
    ".tif": "tiff",
    ".tiff": "tiff",
    ".btf": "tiff",
    ".tf8": "tiff",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".npy": "npy",
    ".raw": "raw",
    ".bin": "raw",
    ".dat": "raw",
}
_DATASET = "/movie"
_BLOCK_BYTES = 32 * 2**20
_MOST_READERS = 4
# Offsets of a classic TIFF have 32 bits; what is left is for the pages' headers.
_CLASSIC_TIFF_BYTES = 2**32 - 2**25
_HEADER_BYTES = 512
# The types that ImageJ has; tifffile writes its own description for the others.
_IMAGEJ = ("uint8", "uint16", "float32")


@dataclass(frozen=True, slots=True)
class DecompressionResult:
    """What `decompress` wrote.

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
    store : path, Zarr array, or whatever `open_movie` takes
        The movie, with our codec or anyone's. It is read block by block, never whole.
    destination : path
        The file to write. Its suffix tells the format: ``.tif`` and ``.tiff`` (a BigTIFF where it would pass
        4 GB, or with the suffix ``.btf``), ``.h5`` and ``.hdf5`` (``"file.h5::/path"`` names the dataset,
        ``/movie`` by default), ``.npy``, ``.raw`` and ``.bin``.
    format : {"tiff", "hdf5", "npy", "raw"}, optional
        The format, whatever the suffix.
    channel, plane, dataset : optional
        What of the store, as for `open_movie`.
    compression : str, optional
        Lossless compression of the file: ``"zlib"``, ``"zstd"``, ``"lzw"`` for TIFF (what tifffile takes),
        ``"gzip"`` or ``"lzf"`` for HDF5. None by default, which every program reads.
    overwrite : bool, optional
        Replace a file that is there. It stays until the new one is finished.
    verify : bool, optional
        Read back every frame and compare it with what was read from the store. Without it, only the first and
        the last block are.
    partial : bool, optional
        Write what there is of a store that isn't whole, see `open_movie`.
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
        The format can't be told or is another one than the suffix says, the store holds no movie, or what was
        read back is not what was written.
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
    return write_stored(
        store,
        destination,
        format=format,
        channel=channel,
        plane=plane,
        dataset=dataset,
        compression=compression,
        overwrite=overwrite,
        verify=verify,
        partial=partial,
        progress=progress,
        threads=threads,
    )


def write_stored(
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
    record: dict[str, Any] | None = None,
) -> DecompressionResult:
    """Write a stored movie as `decompress` does, with the record that is given in place of the store's."""
    started = time.perf_counter()
    path, inner = _split(os.fspath(destination))
    kind = _format(path, format)
    if inner is not None and kind != "hdf5":
        raise ValueError(f"{destination}: only HDF5 has datasets inside, so ::{inner} names nothing")
    if compression is not None and kind not in ("tiff", "hdf5"):
        raise ValueError(f"compression={compression!r} is for TIFF and HDF5; {kind} holds plain values")
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    _check_place(path, kind, overwrite)
    with open_movie(store, channel=channel, plane=plane, dataset=dataset, partial=partial) as movie:
        if hasattr(movie.origin, "nchunks_initialized"):
            check_chunks(movie.origin, movie.source)
        stored = movie._stored
        _check_source(movie, path)
        work = Workspace(path, path.name)
        job = _Job(
            movie=movie,
            path=path,
            partial=work.content,
            compression=compression,
            threads=threads or min(_MOST_READERS, os.cpu_count() or 1),
            progress=progress,
            dataset=f"/{(inner or _DATASET).strip('/')}",
            big=path.suffix.lower() in (".btf", ".tf8"),
            checksums=None if stored is None else StoredChecksums.of(stored, movie.source),
            given_record=record,
        )
        with work.held():
            # Another process may have finished since.
            _check_place(path, kind, overwrite)
            try:
                name = job.write(kind)
                # The disk is busy with the one and the processor with the other.
                with ThreadPoolExecutor(1) as aside:
                    synced = aside.submit(sync, job.partial)
                    job.check(kind, everything=verify)
                    synced.result()
                work.put_in_place()
            except OSError as error:
                if disk_full(error):
                    raise OSError(errno.ENOSPC, job.needed()) from error
                raise
            finally:
                delete(job.partial)
            if kind == "raw":
                _describe_raw(job)
        return DecompressionResult(
            path=f"{path}::{job.dataset}" if kind == "hdf5" else str(path),
            format=name,
            shape=movie.shape,
            dtype=movie.dtype.name,
            file_bytes=path.stat().st_size,
            seconds=time.perf_counter() - started,
            verified=verify,
        )


def _split(name: str) -> tuple[Path, str | None]:
    outer, separator, inner = name.rpartition("::")
    return (Path(outer), inner) if separator else (Path(name), None)


def _format(path: Path, given: str | None) -> Format:
    if given is not None:
        if given not in _FORMATS.values():
            known = ", ".join(dict.fromkeys(_FORMATS.values()))
            raise ValueError(f"format must be one of {known}, got {given!r}")
        if _FORMATS.get(path.suffix.lower(), given) != given:
            raise ValueError(
                f"format={given!r}, but {path.name} is the name of a file of format "
                f"{_FORMATS[path.suffix.lower()]}: leave format out, or choose another name"
            )
        return given  # type: ignore[return-value]  # checked above
    if path.suffix.lower() not in _FORMATS:
        raise ValueError(
            f"cannot tell the format of {path} from the suffix {path.suffix!r}; known are "
            f"{', '.join(_FORMATS)}, "
            'or give format="tiff"'
        )
    return _FORMATS[path.suffix.lower()]


def _check_place(path: Path, kind: Format, overwrite: bool) -> None:
    if path.is_dir():
        raise FileExistsError(f"{path} is a folder, which is never replaced by a file: choose another name")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists: give overwrite=True to replace it, or choose another name")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} for {path.name}: create it first")
    if kind == "raw" and _description(path).exists() and not overwrite:
        raise FileExistsError(
            f"{_description(path)}, where it is said what raw values are, exists: give overwrite=True to "
            "replace it, or choose another name"
        )


def _check_source(movie: Movie, path: Path) -> None:
    """Refuse to write over the file that is being read."""
    source = Path(movie.source.partition("::")[0])
    if path.exists() and source.exists() and path.samefile(source):
        raise ValueError(f"{path} is the movie that is to be read: choose another destination")


@dataclass(slots=True)
class _Job:
    """One movie on its way to one file."""

    movie: Movie
    path: Path
    partial: Path
    compression: str | None
    threads: int
    progress: Progress | None
    dataset: str
    big: bool
    # Those that the store's record has of its values, if it has any.
    checksums: StoredChecksums | None = None
    given_record: dict[str, Any] | None = None
    # Checksums of the blocks that were written, in order.
    sums: list[int] = field(default_factory=list)
    file: GuardedFile | None = None

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Bounds of the blocks: those of the checksums, or whole chunks of the source, about 32 MB."""
        movie = self.movie
        if self.checksums is not None:
            return self.checksums.layout.spans
        frame_bytes = movie.nbytes // movie.shape[0]
        step = movie.chunk_frames * max(1, _BLOCK_BYTES // max(1, frame_bytes * movie.chunk_frames))
        return [(start, min(start + step, movie.shape[0])) for start in range(0, movie.shape[0], step)]

    def write(self, kind: Format) -> str:
        """Write the file, and say what its format is called."""
        delete(self.partial)  # of a run that was killed
        # What is compressed takes less, nobody knows how much.
        if self.compression is None:
            check_space(self.path.parent, self.movie.nbytes, str(self.path))
        with GuardedFile(self.partial) as file:
            self.file = file
            try:
                name = _WRITERS[kind](self, file)
            except Exception:
                file.check()  # which is why a library had one of its own
                raise
        file.check()
        return name

    def needed(self) -> str:
        """How much room there is too little."""
        size = f"about {self.movie.nbytes / 1e6:,.1f} MB"
        if self.compression is not None:
            size = f"at most {size.removeprefix('about ')}"
        free = shutil.disk_usage(self.path.parent).free
        return (
            f"{self.path} was not written, as the disk is full: it needs {size}, and {self.path.parent} has "
            f"{free / 1e6:,.1f} MB free without it: make room, or write to another disk"
        )

    def blocks(self) -> Iterator[NDArray[Any]]:
        """The movie front to back; the next blocks are decoded while the caller writes one."""
        waiting: list[Future[NDArray[Any]]] = []
        spans = self.spans
        following = iter(spans)
        done = 0
        name = self.movie.source
        with ThreadPoolExecutor(self.threads) as pool:
            for span in following:
                waiting.append(pool.submit(self.movie.frames, *span))
                if len(waiting) == self.threads:
                    break
            while waiting:
                block = np.ascontiguousarray(waiting.pop(0).result())
                span_after = next(following, None)
                if span_after is not None:
                    waiting.append(pool.submit(self.movie.frames, *span_after))
                self.sums.append(checksum(block))
                if self.checksums is not None:
                    self.checksums.check_block(block, done, name, self.sums[-1])
                yield block
                if self.file is not None:
                    self.file.check()
                done += len(block)
                self.tell(done, "write")

    def frames(self) -> Iterator[NDArray[Any]]:
        """The movie frame by frame."""
        for block in self.blocks():
            yield from block

    def tell(self, done: int, stage: str) -> None:
        """Report progress."""
        if self.progress is not None:
            self.progress(done, self.movie.shape[0], stage)

    def check(self, kind: Format, *, everything: bool) -> None:
        """Read back what was written and compare it with what was read from the store."""
        spans = self.spans
        chosen = range(len(spans)) if everything else sorted({0, len(spans) - 1})
        with _READERS[kind](self) as written, ThreadPoolExecutor(self.threads) as pool:
            if written.shape != self.movie.shape or written.dtype != self.movie.dtype:
                raise ValueError(
                    f"{self.path} was not written: the file holds {written.shape} {written.dtype}, the store "
                    f"{self.movie.shape} {self.movie.dtype}"
                )

            def look(number: int) -> int:
                return checksum(written.frames(*spans[number]))

            for number, found in zip(chosen, pool.map(look, chosen), strict=True):
                start, stop = spans[number]
                if found != self.sums[number]:
                    raise ValueError(
                        f"{self.path} was not written: frames {start} to {stop - 1} read back otherwise than "
                        "they were written. The disk may be failing or full"
                    )
                self.tell(stop, "verify")

    def record(self) -> dict[str, Any]:
        """What goes along with the values: where they come from and what was recorded there."""
        if self.given_record is not None:
            return self.given_record
        return {"source": self.movie.source, **self.movie.metadata}


def _bytes(block: NDArray[Any]) -> memoryview:
    """The values of a C-contiguous block as they lie in memory."""
    return memoryview(block.reshape(-1).view(np.uint8).data)


def _write_tiff(job: _Job, output: GuardedFile) -> str:
    try:
        import tifffile
    except ImportError as error:
        raise missing("tifffile", job.path) from error
    movie = job.movie
    big = job.big or movie.nbytes + movie.shape[0] * _HEADER_BYTES > _CLASSIC_TIFF_BYTES
    ome = job.path.name.lower().endswith((".ome.tif", ".ome.tiff", ".ome.btf"))
    imagej = not (big or ome) and movie.dtype.name in _IMAGEJ and job.compression is None
    record = job.record()
    size = movie.metadata.get("pixel_size")
    rate = movie.metadata.get("frame_rate")
    metadata: dict[str, Any] = {"axes": "TYX"}
    resolution: dict[str, Any] = {}
    if imagej:
        metadata |= {"Info": json.dumps(record)}
        if size:
            metadata["unit"] = "um"
        if rate:
            metadata |= {"finterval": 1 / rate, "fps": rate}
        resolution = {"resolution": (1 / size["x"], 1 / size["y"])} if size else {}
    elif ome:
        metadata["Description"] = json.dumps(record)
        if size:
            for axis in "XY":
                metadata |= {f"PhysicalSize{axis}": size[axis.lower()], f"PhysicalSize{axis}Unit": "µm"}
        if rate:
            metadata |= {"TimeIncrement": 1 / rate, "TimeIncrementUnit": "s"}
    else:
        metadata |= {ATTRIBUTE: record}
        if size:
            per_centimetre = 1e4 / size["x"], 1e4 / size["y"]
            resolution = {"resolution": per_centimetre, "resolutionunit": "CENTIMETER"}
    file: Any = output
    with tifffile.TiffWriter(file, bigtiff=big, imagej=imagej, ome=ome) as writer:
        writer.write(
            job.frames(),
            shape=movie.shape,
            dtype=movie.dtype,
            photometric="minisblack",
            compression=job.compression,
            metadata=metadata,
            **resolution,
        )
    return "BigTIFF" if big else "TIFF"


def _write_hdf5(job: _Job, output: GuardedFile) -> str:
    try:
        import h5py
    except ImportError as error:
        raise missing("h5py", job.path) from error
    movie = job.movie
    with h5py.File(output, "w") as file:
        values = file.create_dataset(
            job.dataset,
            shape=movie.shape,
            dtype=movie.dtype,
            chunks=(1, *movie.shape[1:]),
            compression=job.compression,
        )
        for dimension, name in zip(values.dims, ("time", "y", "x"), strict=True):
            dimension.label = name
        values.attrs[ATTRIBUTE] = json.dumps(job.record())
        values.attrs.update(packing(movie.metadata))
        if size := movie.metadata.get("pixel_size"):
            # What ImageJ's HDF5 readers look for, along the axes (z, y, x); a movie has no z.
            values.attrs["element_size_um"] = (1.0, size["y"], size["x"])
        at = 0
        for block in job.blocks():
            values[at : at + len(block)] = block
            at += len(block)
    return "HDF5"


def _write_npy(job: _Job, output: GuardedFile) -> str:
    movie = job.movie
    header = {
        "descr": np.lib.format.dtype_to_descr(movie.dtype),
        "fortran_order": False,
        "shape": movie.shape,
    }
    np.lib.format.write_array_header_1_0(output, header)
    for block in job.blocks():
        output.write(_bytes(block))
    return "npy"


def _write_raw(job: _Job, output: GuardedFile) -> str:
    for block in job.blocks():
        output.write(_bytes(block))
    return "raw"


def _describe_raw(job: _Job) -> None:
    """Say beside raw values what they are."""
    movie = job.movie
    told = {"shape": list(movie.shape), "dtype": movie.dtype.str, "axes": "tyx", ATTRIBUTE: job.record()}
    write_file(_description(job.path), (json.dumps(told, indent=2) + "\n").encode())


def _description(path: Path) -> Path:
    """The file that says what raw values are."""
    return path.with_name(f"{path.name}.json")


_WRITERS: dict[Format, Callable[[_Job, GuardedFile], str]] = {
    "tiff": _write_tiff,
    "hdf5": _write_hdf5,
    "npy": _write_npy,
    "raw": _write_raw,
}

_READERS: dict[Format, Callable[[_Job], Movie]] = {
    "tiff": lambda job: open_tiff(job.partial, Choice(one_image=True)),
    "hdf5": lambda job: open_hdf5(job.partial, Choice(dataset=job.dataset)),
    "npy": lambda job: open_npy(job.partial, Choice()),
    "raw": lambda job: open_raw(job.partial, Choice(shape=job.movie.shape, dtype=job.movie.dtype)),
}
