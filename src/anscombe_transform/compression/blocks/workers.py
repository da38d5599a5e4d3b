"""Who works on the blocks of a movie: threads of this process, or a cluster.

`Workers` does a piece of work on every block, in threads of this process or on the workers of a Dask cluster,
and gives results as they come. There Dask schedules, retries and moves the data. A block is whole chunks and
its task writes nothing else, so that doing it twice does no harm.
"""

from __future__ import annotations

import functools
import logging
import os
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from anscombe_transform.codec.transform.configuration import UnrepresentableError
from anscombe_transform.movies import Movie
from anscombe_transform.native.work import Progress, Span, as_they_come, finished

__all__ = [
    "Workers",
    "cluster_for",
    "connected",
    "in_order",
    "in_threads",
]

_RETRIES = 2
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Workers:
    """Threads of this process, or the workers of a cluster.

    Attributes
    ----------
    count : int
        Threads, where there is no cluster.
    client : distributed.Client or None
        Of the cluster.
    """

    count: int
    client: Any = None

    def finished(
        self, work: Callable[[Any, int], _T], movie: Movie | None, spans: Sequence[Span]
    ) -> Iterator[tuple[Span, _T]]:
        """Do ``work(frames, start)`` on blocks; give results as they come, the first error at once.

        Without a movie the work gets None for the frames and finds its block itself. On a cluster, a path is
        opened on the workers, which must see it; parts of a dask array are computed there; everything else is
        read here and sent.
        """
        if self.client is not None:
            return _finished_on(self.client, work, movie, spans)

        def read_and_work(start: int, stop: int) -> _T:
            return work(None if movie is None else movie.frames(start, stop), start)

        return finished(read_and_work, spans, self.count)


def in_threads(
    work: Callable[[int, int], _T],
    spans: Sequence[Span],
    workers: int,
    progress: Progress | None,
    stage: str,
) -> list[_T]:
    """The results of the work on each range of frames, in their order."""
    return in_order(finished(work, spans, workers), spans, progress, stage)


def in_order(
    results_as_they_come: Iterator[tuple[Span, _T]],
    spans: Sequence[Span],
    progress: Progress | None,
    stage: str,
) -> list[_T]:
    """Results of ranges of frames in the order of these, once all are there; tells the progress."""
    total = sum(stop - start for start, stop in spans)
    results: dict[Span, _T] = {}
    done = 0
    if progress is not None:
        progress(0, total, stage)
    for span, result in results_as_they_come:
        results[span] = result
        done += span[1] - span[0]
        if progress is not None:
            progress(done, total, stage)
    return [results[span] for span in spans]


def cluster_for(store: Any, name: str, given: Any, *, reachable: bool = True) -> Any:
    """The cluster for the blocks of a store, or None for this process.

    The one that is `given`, or that is connected; none if `given` is False, or the store is in memory here.
    """
    client = None if given is False else connected() if given is None else given
    if client is None:
        return None
    from zarr.storage import MemoryStore

    here = isinstance(store, dict | MemoryStore) or not reachable
    if here:
        _log.warning("%s is in the memory of this process, so the cluster is not used", name)
        return None
    return client


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


def _finished_on(
    client: Any, work: Callable[[Any, int], _T], movie: Movie | None, spans: Sequence[Span]
) -> Iterator[tuple[Span, _T]]:
    """`Workers.finished` on a cluster; two blocks per thread of the cluster are under way at a time."""
    from dask.delayed import delayed
    from distributed import wait as wait_on_cluster

    file = None if movie is None else _pickled_file(movie)
    array = None if movie is None or movie._dask is None else movie.to_dask()

    # `delayed` looks for collections in all its arguments, which takes seconds where one knows many blocks.
    do = functools.partial(_done, work)

    def begin(start: int, stop: int) -> Any:
        if array is not None:
            return client.compute(delayed(do, pure=False)(array[start:stop], start), retries=_RETRIES)
        if file is not None:
            return client.submit(_done_of_file, do, *file, start, stop, pure=False, retries=_RETRIES)
        part = None if movie is None else movie.frames(start, stop)
        return client.submit(do, part, start, pure=False, retries=_RETRIES)

    def most() -> int:
        threads: int = sum(client.nthreads().values())
        return 2 * max(1, threads)

    def wait_for_one(running: Sequence[Any]) -> Iterable[Any]:
        done: Any = wait_on_cluster(running, return_when="FIRST_COMPLETED")  # type: ignore[no-untyped-call]
        finished_tasks: Iterable[Any] = done.done
        return finished_tasks

    for span, result in as_they_come(begin, spans, most, wait_for_one, client.cancel):
        if isinstance(result, UnrepresentableError):
            raise result
        yield span, result


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


def _done_of_file(do: Callable[[Any, int], Any], movie: bytes, stamp: int, start: int, stop: int) -> Any:
    return do(_opened(movie, stamp).frames(start, stop), start)


@functools.lru_cache(maxsize=4)
def _opened(movie: bytes, stamp: int) -> Movie:
    """A movie that stays open for the blocks to come; with another stamp the file is another one."""
    opened: Movie = pickle.loads(movie)
    return opened
