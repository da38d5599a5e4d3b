"""Work on the blocks of a movie in threads of this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from anscombe_transform.compression.blocks.layout import Span
    from anscombe_transform.compression.blocks.progress import Progress

__all__ = ["count_workers", "finished", "in_order", "in_threads"]

_MOST_THREADS = 4

_T = TypeVar("_T")


def count_workers(threads: int | None) -> int:
    """Blocks in work at once: as asked, or the number of processors between 2 and 4.

    Raises
    ------
    ValueError
        Fewer than one thread was asked for.
    """
    if threads is None:
        return max(2, min(_MOST_THREADS, os.cpu_count() or 1))
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    return threads


def finished(
    work: Callable[[int, int], _T], spans: Sequence[Span], workers: int
) -> Iterator[tuple[Span, _T]]:
    """Do the work on ranges of frames, several at once; give results as they come, the first error at once.

    No more than `workers` blocks are begun before a result has been taken. A caller that stops taking results
    stops the work.
    """
    waiting = iter(spans)
    running: dict[Future[_T], Span] = {}
    with ThreadPoolExecutor(max(1, min(workers, len(spans))), thread_name_prefix="anscombe") as pool:
        try:
            while True:
                for span in waiting:
                    running[pool.submit(work, *span)] = span
                    if len(running) >= workers:
                        break
                if not running:
                    return
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    span = running.pop(future)
                    yield span, future.result()
        finally:
            for future in running:
                future.cancel()


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
