"""Where Zarr V3 has a chunk worked on: in its event loop if the chunk is small, else in a thread."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from zarr.core.array_spec import ArraySpec

_Chunk = TypeVar("_Chunk")
_Result = TypeVar("_Result")

INLINE_BYTES = 256 * 1024
"""Below this a hop to another thread costs more than the work; above it, the event loop would stall."""


async def run(
    work: Callable[[_Chunk, ArraySpec], _Result], chunk: _Chunk, spec: ArraySpec, nbytes: int
) -> _Result:
    """What `work` makes of a chunk of so many bytes, counted as codes or values."""
    if nbytes <= INLINE_BYTES:
        return work(chunk, spec)
    return await asyncio.to_thread(work, chunk, spec)
