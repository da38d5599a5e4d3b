"""Work in threads of this process, of which a bounded amount is under way.

Calibration, compression, verification and live recordings schedule their work here. Blocks of frames are
given as spans ``(start, stop)``.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Self, TypeVar

__all__ = ["Span", "Threads", "as_they_come", "available_cores", "count_threads", "finished", "ordered"]

Span = tuple[int, int]
"""First frame of a block, and the frame after its last."""

_MOST_THREADS = 4
_T = TypeVar("_T")


class Threads:
    """Threads, and the pieces of work that are under way in them.

    Parameters
    ----------
    count : int
        Number of threads, at least 1.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="anscombe")
        self._running: set[Future[Any]] = set()

    @property
    def busy(self) -> int:
        """Pieces of work whose results were not taken yet."""
        return len(self._running)

    def begin(self, work: Callable[..., _T], *arguments: Any) -> Future[_T]:
        """Begin a piece of work as soon as a thread is free."""
        future = self._pool.submit(work, *arguments)
        self._running.add(future)
        return future

    def take(self, piece: Future[_T]) -> _T:
        """Wait for the result of one piece."""
        self._running.discard(piece)
        return piece.result()

    def take_finished(self, *, wait_for_one: bool = False) -> set[Future[Any]]:
        """The pieces that have ended since this was last asked; at least one, if it is waited for."""
        done = wait(self._running, None if wait_for_one else 0, FIRST_COMPLETED).done
        self._running -= done
        return done

    def close(self) -> None:
        """Cancel what has not begun, and wait for what has."""
        self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def count_threads(threads: int | None = None, least: int = 2) -> int:
    """Threads to work with: as many as asked for, or one for each core, between `least` and 4.

    Raises
    ------
    ValueError
        Fewer than one thread was asked for.
    """
    if threads is None:
        return max(least, min(_MOST_THREADS, available_cores()))
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    return threads


def ordered(work: Callable[..., _T], calls: Iterable[tuple[Any, ...]], count: int) -> Iterator[_T]:
    """Do the work with each tuple of arguments; give results in the order of the calls.

    The arguments are made in the calling thread. While it uses a result, `count` others are worked on.
    """
    waiting: deque[Future[_T]] = deque()
    with Threads(count) as threads:
        for arguments in calls:
            waiting.append(threads.begin(work, *arguments))
            if len(waiting) > count:
                yield threads.take(waiting.popleft())
        while waiting:
            yield threads.take(waiting.popleft())


def finished(work: Callable[[int, int], _T], spans: Sequence[Span], count: int) -> Iterator[tuple[Span, _T]]:
    """Do the work on spans in threads; give results as they come, the first error at once.

    No more than `count` blocks are begun before a result has been taken. A caller that stops taking results
    stops the work.
    """
    with Threads(max(1, min(count, len(spans)))) as threads:
        yield from as_they_come(
            lambda start, stop: threads.begin(work, start, stop),
            spans,
            lambda: count,
            lambda _: threads.take_finished(wait_for_one=True),
            lambda _: None,
        )


def as_they_come(
    begin: Callable[[int, int], Any],
    spans: Sequence[Span],
    most: Callable[[], int],
    wait_for_one: Callable[[Sequence[Any]], Iterable[Any]],
    cancel: Callable[[Sequence[Any]], None],
) -> Iterator[tuple[Span, Any]]:
    """Results of the futures of spans, no more than `most` of them under way, in threads or on a cluster."""
    waiting = iter(spans)
    running: dict[Any, Span] = {}
    try:
        while True:
            allowed = most()
            for span in waiting:
                running[begin(*span)] = span
                if len(running) >= allowed:
                    break
            if not running:
                return
            for future in wait_for_one(list(running)):
                span = running.pop(future)
                yield span, future.result()
    finally:
        cancel(list(running))
