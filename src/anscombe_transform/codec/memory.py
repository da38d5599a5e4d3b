"""Memory for large results, used again once its last array is gone.

The first touch of fresh pages costs more than decoding into them: on Linux the kernel clears each page, and
the allocator gives large blocks back to it as soon as an array dies. Zarr copies a decoded chunk into its
result and drops it, chunk after chunk, so that a few blocks serve a movie. What is kept is bounded.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

SMALLEST = 1 << 20
"""Smaller arrays come from numpy: the allocator keeps their memory itself."""

KEPT = 128 << 20
"""Bytes kept for reuse at most, by all threads together."""


class Pool:
    """Blocks of memory that wait for their next array."""

    def __init__(self, kept: int = KEPT) -> None:
        self._limit = kept
        self._free: dict[int, list[npt.NDArray[np.uint8]]] = {}
        self._bytes = 0
        # Reentrant: the collector may end an array's life inside `empty` and come back through `_give_back`.
        self._lock = threading.RLock()

    def empty(self, size: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """A flat array like ``numpy.empty(size, dtype)``; its memory returns when its last view is gone."""
        nbytes = size * dtype.itemsize
        if nbytes < SMALLEST:
            return np.empty(size, dtype)
        with self._lock:
            blocks = self._free.get(nbytes)
            block = blocks.pop() if blocks else None
            if block is not None:
                self._bytes -= nbytes
        if block is None:
            block = np.empty(nbytes, np.uint8)
        return np.asarray(_Lease(self, block)).view(dtype)

    def _give_back(self, block: npt.NDArray[np.uint8]) -> None:
        with self._lock:
            if self._bytes + block.nbytes > self._limit:
                # Blocks of a size no longer asked for would keep this one out for ever.
                self._free.clear()
                self._bytes = 0
            if block.nbytes <= self._limit:
                self._free.setdefault(block.nbytes, []).append(block)
                self._bytes += block.nbytes


class _Lease:
    """Owner of a block while arrays look at it; every view of them holds the lease."""

    def __init__(self, pool: Pool, block: npt.NDArray[np.uint8]) -> None:
        self._pool = pool
        self._block = block
        self.__array_interface__ = block.__array_interface__

    def __del__(self) -> None:
        self._pool._give_back(self._block)


pool = Pool()
