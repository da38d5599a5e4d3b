"""Where Zarr V3 has a chunk worked on: in its event loop if the chunk is small, else in a thread.

The transform and the frame coder are two codecs, which Zarr asks for one after the other. The threads finish
a chunk that one of them has been through before they begin another: its codes are still in the cache, its
memory serves the next chunk, and Zarr copies or stores it while the threads go on. First come, first served,
all chunks would be half done before one was finished.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from zarr.core.array_spec import ArraySpec

_Chunk = TypeVar("_Chunk")
_Result = TypeVar("_Result")

INLINE_BYTES = 256 * 1024
"""Below this a hop to another thread costs more than the work; above it, the event loop would stall."""


class Workers:
    """Threads that go on with what has been begun before they begin something else."""

    def __init__(self, count: int) -> None:
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="anscombe-codec")
        self._lock = threading.Lock()
        self._begun: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._new: deque[tuple[Future[Any], Callable[[], Any]]] = deque()

    def submit(self, work: Callable[[], _Result], *, begun: bool) -> Future[_Result]:
        """Have the work done, in the order of the calls among what is begun and among what is not."""
        future: Future[_Result] = Future()
        with self._lock:
            (self._begun if begun else self._new).append((future, work))
        self._threads.submit(self._do_next)
        return future

    def _do_next(self) -> None:
        with self._lock:
            future, work = (self._begun or self._new).popleft()
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = work()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)


_lock = threading.Lock()
_workers: Workers | None = None


def _shared() -> Workers:
    """The threads of this process, as many as Zarr may use, or one for each processor."""
    global _workers
    with _lock:
        if _workers is None:
            from zarr import config

            _workers = Workers(config.get("threading.max_workers", None) or os.cpu_count() or 1)
        return _workers


def _forget() -> None:
    """A child process has none of its parent's threads, and its locks as they happened to be."""
    global _lock, _workers
    _lock, _workers = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


async def run(
    work: Callable[[_Chunk, ArraySpec], _Result],
    chunk: _Chunk,
    spec: ArraySpec,
    nbytes: int,
    *,
    begun: bool,
) -> _Result:
    """What `work` makes of a chunk of so many bytes, counted as codes or values.

    `begun` says whether the other codec has had the chunk already.
    """
    if nbytes <= INLINE_BYTES:
        return work(chunk, spec)
    context = contextvars.copy_context()
    return await asyncio.wrap_future(_shared().submit(partial(context.run, work, chunk, spec), begun=begun))
