"""Blocks on the workers of a Dask cluster: one task per block, done again where a worker is lost.

Dask schedules, retries and moves the data. A block is whole chunks and its task writes nothing else, so that
doing it twice does no harm.
"""

from __future__ import annotations

import functools
import os
import pickle
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anscombe_transform.codec.configuration import UnrepresentableError
from anscombe_transform.movies import Movie

if TYPE_CHECKING:
    from anscombe_transform.compression.block import BlockWriter
    from anscombe_transform.compression.journal import Record
    from anscombe_transform.compression.layout import Span

__all__ = ["connected", "finished_on"]

_RETRIES = 2


def connected() -> Any:
    """The client of a cluster that this process is connected to, or None; never one inside a worker."""
    if "distributed" not in sys.modules:
        return None
    import distributed

    try:
        client: Any = distributed.default_client()  # type: ignore[no-untyped-call]
    except ValueError:
        return None
    try:
        distributed.get_worker()
    except ValueError:
        return client
    return None


def finished_on(
    client: Any, write: BlockWriter, movie: Movie, spans: Sequence[Span]
) -> Iterator[tuple[Span, Record]]:
    """Write blocks on a cluster; give their records as they come, the first error at once.

    A path is opened on the workers, which must see it; parts of a dask array are computed there; what else
    there is, is read here and sent. Two blocks per thread of the cluster are under way at a time.
    """
    from dask.delayed import delayed
    from distributed import wait

    def begin(start: int, stop: int) -> Any:
        if file is not None:
            part: Any = delayed(_read, pure=False)(*file, start, stop)
        elif array is not None:
            part = array[start:stop]
        else:
            part = movie.frames(start, stop)
        task = delayed(_write, pure=False)(write, part, start)
        return client.compute(task, retries=_RETRIES)

    file = _pickled_file(movie)
    array = None if movie._dask is None else movie.to_dask()
    waiting = iter(spans)
    running: dict[Any, Span] = {}
    try:
        while True:
            workers = max(1, sum(client.nthreads().values()))
            for span in waiting:
                running[begin(*span)] = span
                if len(running) >= 2 * workers:
                    break
            if not running:
                return
            found: Any = wait(list(running), return_when="FIRST_COMPLETED")  # type: ignore[no-untyped-call]
            for future in found.done:
                span = running.pop(future)
                result = future.result()
                if isinstance(result, UnrepresentableError):
                    raise result
                yield span, result
    finally:
        client.cancel(list(running))


def _write(write: BlockWriter, part: Any, start: int) -> Record | UnrepresentableError:
    try:
        return write(np.asarray(part), start)
    except UnrepresentableError as error:
        # A result and not a failure: trying again would give the same.
        return error


def _pickled_file(movie: Movie) -> tuple[bytes, int] | None:
    """A movie of a file as bytes that open it elsewhere, and a stamp that another content changes."""
    source = None if movie._origin is None else movie._origin[0]
    if not isinstance(source, str | os.PathLike | list | tuple):
        return None
    first = Path(movie.source.partition("::")[0])
    return pickle.dumps(movie), first.stat().st_mtime_ns if first.exists() else 0


def _read(movie: bytes, stamp: int, start: int, stop: int) -> Any:
    return _opened(movie, stamp).frames(start, stop)


@functools.lru_cache(maxsize=4)
def _opened(movie: bytes, stamp: int) -> Movie:
    """A movie that stays open for the blocks to come; with another stamp the file is another one."""
    opened: Movie = pickle.loads(movie)
    return opened
