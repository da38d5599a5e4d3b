"""Blocks on the workers of a Dask cluster: one task per block, done again where a worker is lost.

Dask schedules, retries and moves the data. A block is whole chunks and its task writes nothing else, so that
doing it twice does no harm.
"""

from __future__ import annotations

import functools
import logging
import os
import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from anscombe_transform.codec.transform.configuration import UnrepresentableError
from anscombe_transform.movies import Movie

if TYPE_CHECKING:
    from anscombe_transform.compression.blocks.layout import Span

__all__ = ["cluster_for", "connected", "finished_on"]

_RETRIES = 2
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


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


def cluster_for(store: Any, name: str, given: Any, *, reachable: bool = True) -> Any:
    """The cluster whose workers do the blocks of a store, or None for this process.

    The one that is `given`, or that is connected; none if `given` is False, or the store is in memory here.
    """
    client = None if given is False else connected() if given is None else given
    here = isinstance(store, dict) or "Memory" in type(store).__name__ or not reachable
    if client is not None and here:
        _log.warning("%s is in the memory of this process, so the cluster is not used", name)
        return None
    return client


def finished_on(
    client: Any, work: Callable[[Any, int], _T], movie: Movie | None, spans: Sequence[Span]
) -> Iterator[tuple[Span, _T]]:
    """Do the work on blocks on a cluster; give results as they come, the first error at once.

    A path is opened on the workers, which must see it; parts of a dask array are computed there; what else
    there is, is read here and sent. Without a movie the work gets None for a block. Two blocks per thread of
    the cluster are under way at a time.
    """
    from dask.delayed import delayed
    from distributed import wait

    def begin(start: int, stop: int) -> Any:
        part: Any = None
        if file is not None:
            part = delayed(_read, pure=False)(*file, start, stop)
        elif array is not None:
            part = array[start:stop]
        elif movie is not None:
            part = movie.frames(start, stop)
        task = delayed(_done, pure=False)(work, part, start)
        return client.compute(task, retries=_RETRIES)

    file = None if movie is None else _pickled_file(movie)
    array = None if movie is None or movie._dask is None else movie.to_dask()
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


def _done(work: Callable[[Any, int], _T], part: Any, start: int) -> _T | UnrepresentableError:
    try:
        return work(None if part is None else np.asarray(part), start)
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
