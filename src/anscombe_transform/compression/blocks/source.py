"""Whether a source is still the recording that was stored: the state of its files, and the content of frames.

A name says nothing: every night's recording may be ``run1.tif``. A recording is identified by its shape and
dtype and the checksums of its frames. The state of its files (size, time of change, inode) tells when these
have to be looked at again: a file that grew, was replaced or was cut while it was read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anscombe_transform.compression.blocks.comparison import checksum, digest
from anscombe_transform.compression.blocks.workers import in_threads
from anscombe_transform.native.work import finished

if TYPE_CHECKING:
    from anscombe_transform.movies import Movie
    from anscombe_transform.native.work import Progress, Span

__all__ = [
    "SourceChangedError",
    "check_frames",
    "check_unchanged",
    "checksum_of",
    "files_of",
    "first_other_frame",
    "place_of",
    "state_of",
    "state_of_files",
]


class SourceChangedError(ValueError):
    """The source is not the recording that is stored, or changed while it was read.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from anscombe_transform import Sensitivity, compress
    >>> known = Sensitivity.from_known(conversion_gain=90, zero_level=50)
    >>> movie = (50 + 90 * np.random.default_rng(0).poisson(8, (20, 64, 64))).astype("int16")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = compress(movie, f"{folder}/movie.zarr", sensitivity=known)
    ...     try:
    ...         compress(movie[::-1], f"{folder}/movie.zarr", sensitivity=known, resume=True)
    ...     except SourceChangedError as error:
    ...         print("another recording" in str(error))
    True
    """


def state_of(movie: Movie) -> dict[str, int] | None:
    """Number, bytes, latest change (ns) and inode of a movie's files; None where it has none here.

    The inode is that of a single file, and 0 for several.
    """
    try:
        return state_of_files(files_of(movie))
    except OSError:
        return None


def state_of_files(paths: Iterable[Path]) -> dict[str, int] | None:
    """The same of files by their paths; None where there are none.

    Raises
    ------
    OSError
        One of them is gone.
    """
    found = [path.stat() for path in paths]
    if not found:
        return None
    return {
        "files": len(found),
        "bytes": sum(status.st_size for status in found),
        "modified": max(status.st_mtime_ns for status in found),
        "inode": found[0].st_ino if len(found) == 1 else 0,
    }


def files_of(movie: Movie) -> Iterator[Path]:
    """The files that a movie is read from, as far as the argument of `open_movie` names them."""
    origin = movie.origin
    if isinstance(origin, list | tuple):
        yield from (Path(part) for part in origin if isinstance(part, str | os.PathLike))
        return
    name = getattr(getattr(origin, "file", None), "filename", None) or getattr(origin, "filename", None)
    if isinstance(name, str | os.PathLike):  # a dataset of h5py, or an array mapped from a file
        yield Path(name)
        return
    place = place_of(movie)
    if place is None:
        text = movie.source.partition("::")[0]
        if isinstance(origin, str | os.PathLike) and any(letter in text for letter in "*?["):
            yield from sorted(Path(text).parent.glob(Path(text).name))
    elif place.is_file():
        yield place
    elif any((place / metadata).is_file() for metadata in ("zarr.json", ".zarray", ".zgroup")):
        yield from (path for path in place.rglob("*") if path.is_file())
    else:
        yield from (path for path in place.iterdir() if path.is_file())


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


def check_unchanged(
    movie: Movie,
    before: Mapping[str, int] | None,
    frames: Mapping[int, int],
    spans: Sequence[Span],
    workers: int,
) -> None:
    """Refuse a source with changed files, unless its frames are unchanged.

    Parameters
    ----------
    movie : Movie
        The source, as it was opened before.
    before : mapping or None
        Result of `state_of` before the frames were read.
    frames : mapping of int to int
        Checksums of the frames that were read, by their numbers.
    spans : sequence of (int, int)
        Frames that are read at once.
    workers : int
        Threads.

    Raises
    ------
    SourceChangedError
    """
    now = state_of(movie)
    if before is None:
        _check_shape(movie)
        return
    if now == dict(before):
        return
    how = _difference(before, now)
    remedy = "compress it again when nothing writes to it any more (overwrite=True, --overwrite)"
    try:
        again = _opened_again(movie)
    except Exception as error:  # each reader has its own kind for a file that was cut
        raise SourceChangedError(
            f"{movie.source} changed while it was read ({how}) and can't be opened again: {error}; {remedy}"
        ) from error
    with again:
        grew = now is not None and now["files"] == 1 and now["bytes"] != before.get("bytes")
        other = grew or (again.shape, again.dtype) != (movie.shape, movie.dtype)
        if other and not _grew_as_allowed(movie, again):
            held = "" if again.shape == movie.shape else f"; its shape was {movie.shape} and is {again.shape}"
            raise SourceChangedError(f"{movie.source} changed while it was read ({how}{held}): {remedy}")
        wrong = first_other_frame(again, frames, spans, workers)
    if wrong is not None:
        raise SourceChangedError(
            f"{movie.source} changed while it was read ({how}): frame {wrong} is not what it was; {remedy}"
        )


def _check_shape(movie: Movie) -> None:
    """Refuse a Zarr array in a store without files that has another shape now.

    Raises
    ------
    SourceChangedError
    """
    array = movie._stored
    if array is None or not hasattr(array, "store_path"):
        return
    import zarr

    now = tuple(zarr.open_array(array.store_path.store, path=array.store_path.path, mode="r").shape)
    if now != tuple(array.shape):
        raise SourceChangedError(
            f"{movie.source} changed while it was read: it had the shape {tuple(array.shape)} and has {now}"
        )


def check_frames(movie: Movie, read_first: Mapping[int, int], read_later: Mapping[int, int]) -> None:
    """Refuse a source that gave other values when frames were read for a second time.

    Raises
    ------
    SourceChangedError
    """
    for frame, value in read_first.items():
        if read_later.get(frame, value) != value:
            raise SourceChangedError(
                f"frame {frame} of {movie.source} was read twice and was not the same: the source changes, "
                "or the disk or the connection that it is read from fails"
            )


def checksum_of(movie: Movie, spans: Sequence[Span], workers: int, progress: Progress | None) -> str:
    """The digest of the checksums of all frames, which the record of a finished array holds."""

    def look(start: int, stop: int) -> list[int]:
        return [checksum(frame) for frame in movie.frames(start, stop)]

    parts = in_threads(look, spans, workers, progress, "compare with the source")
    return digest(value for part in parts for value in part)


def first_other_frame(
    movie: Movie, frames: Mapping[int, int], spans: Sequence[Span], workers: int
) -> int | None:
    """The first frame of a movie that does not have its checksum, or None."""

    def look(start: int, stop: int) -> int | None:
        block = movie.frames(start, stop)
        wanted = (n for n in range(start, stop) if n in frames)
        return next((n for n in wanted if checksum(block[n - start]) != frames[n]), None)

    needed = [span for span in spans if any(n in frames for n in range(*span))]
    try:
        found = [wrong for _, wrong in finished(look, needed, workers) if wrong is not None]
    except (OSError, ValueError):
        # What can't be read any more is not what it was.
        return needed[0][0]
    return min(found, default=None)


def _opened_again(movie: Movie) -> Movie:
    """The movie opened once more from its path; a movie of an array has only the array."""
    from anscombe_transform.movies.opening import reopen

    origin = movie._origin
    named = origin is not None and isinstance(origin[0], str | os.PathLike | list | tuple)
    return reopen(*origin) if origin is not None and named else movie._handle()


def _grew_as_allowed(movie: Movie, again: Movie) -> bool:
    """Whether a recording that was opened as one that is being written has more frames now."""
    partial = movie._origin is not None and bool(movie._origin[1].get("partial"))
    same = (again.shape[1:], again.dtype) == (movie.shape[1:], movie.dtype)
    return partial and same and again.shape[0] >= movie.shape[0]


def _difference(before: Mapping[str, int], now: Mapping[str, int] | None) -> str:
    """The change of a source's files, in words."""
    if now is None:
        return "it is gone"
    if before.get("files") != now["files"]:
        return f"it had {before.get('files')} files and has {now['files']}"
    if before.get("bytes") != now["bytes"]:
        return f"it had {before.get('bytes')} bytes and has {now['bytes']}"
    return "it was replaced" if before.get("inode") != now["inode"] else "it was written to"
