"""Long work: in threads of this process, with a bounded amount under way, and the progress that it reports.

Calibration, compression, verification and live recordings schedule their work here. Blocks of frames are
given as spans ``(start, stop)``.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, Self, TypeVar

__all__ = [
    "Bars",
    "Progress",
    "Span",
    "Threads",
    "as_they_come",
    "available_cores",
    "count_threads",
    "draw_bars",
    "finished",
    "ordered",
    "reporting",
]

Span = tuple[int, int]
"""First frame of a block, and the frame after its last."""

Progress = Callable[[int, int, str], object]
"""Called with the frames done, all frames, and the name of the step."""

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
        """Pieces of work with results that were not taken yet."""
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
        """Cancel work that has not begun, and wait for the rest."""
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


class Bars:
    """Progress bars of rich, one for each stage; a `Progress`."""

    def __init__(self, display: Any) -> None:
        self._display = display
        self._tasks: dict[str, Any] = {}

    def __call__(self, done: int, total: int, stage: str) -> None:
        """Show how far a stage is."""
        if stage not in self._tasks:
            self._tasks[stage] = self._display.add_task(stage, total=total)
        self._display.update(self._tasks[stage], completed=done, total=total)

    def clear(self) -> None:
        """Remove the stages so far, before another input begins."""
        for task in self._tasks.values():
            self._display.remove_task(task)
        self._tasks.clear()


@contextmanager
def draw_bars(*, transient: bool = False) -> Iterator[Bars]:
    """Draw bars on standard error while the block runs, in a terminal or a notebook; elsewhere none.

    Raises
    ------
    ModuleNotFoundError
        rich is not installed.
    """
    try:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Display
    except ImportError as error:
        raise ModuleNotFoundError(
            "progress=True draws its bar with rich, which is not installed: pip install "
            '"anscombe-transform[cli]", or pass a callback progress(done, total, stage)'
        ) from error
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    # In a notebook the bar belongs under the cell, whatever the terminal behind it is.
    shown = console.is_terminal or console.is_jupyter
    with Display(*columns, console=console, transient=transient, disable=not shown) as display:
        yield Bars(display)


@contextmanager
def reporting(progress: Progress | bool | None) -> Iterator[Progress | None]:
    """Give the callback that `progress` stands for; True draws a bar for each stage while the block runs.

    Raises
    ------
    ModuleNotFoundError
        A bar was asked for and rich is not installed.
    """
    if progress is True:
        with draw_bars() as bars:
            yield bars
    else:
        yield progress or None
