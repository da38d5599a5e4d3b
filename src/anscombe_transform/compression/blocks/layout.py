"""How a movie is cut: chunks and shards of the array, and the blocks of whole chunks that are worked on.

A block is a range of whole frames, as files hold whole frames. Where a chunk's worth of frames is large, a
block is written and read back band by band: ranges of rows that end where chunks do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from anscombe_transform.native.work import Span

__all__ = ["BLOCK_BYTES", "Layout"]

BLOCK_BYTES = 32 * 2**20
"""A block or a band of one is as many whole chunks as fit in this, and at least one."""

_CHUNK_VALUES = 8 * 2**20
_TILE = 256
_FEWEST_FRAMES = 16

Shape = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Layout:
    """Chunks, shards and blocks of a movie.

    Attributes
    ----------
    shape, chunks : tuple of int
        ``(time, y, x)``.
    shards : tuple of int or None
    block_frames, band_rows : int
        Frames of a block and rows of a band, both whole shards or chunks; the last ones may be shorter.
    """

    shape: Shape
    chunks: Shape
    shards: Shape | None
    block_frames: int
    band_rows: int

    @classmethod
    def of(
        cls,
        shape: Sequence[int],
        dtype: DTypeLike,
        chunks: Sequence[int] | None = None,
        shards: Sequence[int] | None = None,
    ) -> Layout:
        """Cut a movie; lengths of -1 are the whole axis.

        Raises
        ------
        ValueError
            `chunks` or `shards` are not three lengths, or shards are not whole chunks.
        """
        frames, height, width = (int(n) for n in shape)
        whole = (frames, height, width)
        itemsize = np.dtype(dtype).itemsize
        cut = _default_chunks(whole, itemsize) if chunks is None else _chunks(whole, chunks)
        outer = None if shards is None else _shards(whole, cut, shards)
        unit = outer or cut
        frame_bytes = height * width * itemsize
        block_frames = unit[0] * max(1, BLOCK_BYTES // (unit[0] * frame_bytes))
        row_bytes = min(block_frames, frames) * width * itemsize
        band_rows = unit[1] * max(1, BLOCK_BYTES // (unit[1] * row_bytes))
        return cls(whole, cut, outer, block_frames, min(band_rows, math.ceil(height / unit[1]) * unit[1]))

    @property
    def spans(self) -> list[Span]:
        """The frames of every block: first, and one behind the last."""
        return _cut(self.shape[0], self.block_frames)

    def part(self, number: int, count: int) -> list[Span]:
        """The blocks of one of several jobs, counted from 1: a range of frames, as even as can be."""
        spans = self.spans
        return spans[len(spans) * (number - 1) // count : len(spans) * number // count]

    @property
    def bands(self) -> list[Span]:
        """The rows of every band of a block."""
        return _cut(self.shape[1], self.band_rows)

    def chunk_at(self, index: Sequence[int]) -> tuple[int, ...]:
        """The chunk in which a value lies, counted in chunks."""
        return tuple(int(i) // n for i, n in zip(index, self.chunks, strict=True))


def _cut(length: int, step: int) -> list[Span]:
    return [(start, min(start + step, length)) for start in range(0, length, step)]


def _chunks(shape: Shape, chunks: Sequence[int]) -> Shape:
    t, y, x = (
        length if n == -1 else min(n, length)
        for n, length in zip(_three("chunks", chunks), shape, strict=True)
    )
    return t, y, x


def _shards(shape: Shape, chunks: Shape, shards: Sequence[int]) -> Shape:
    given = _three("shards", shards)
    t, y, x = (
        math.ceil(length / chunk) * chunk if n == -1 else n
        for n, length, chunk in zip(given, shape, chunks, strict=True)
    )
    if t % chunks[0] or y % chunks[1] or x % chunks[2]:
        instance = tuple(max(1, n // chunk) * chunk for n, chunk in zip((t, y, x), chunks, strict=True))
        raise ValueError(
            f"shards must be whole chunks along every axis, got {tuple(given)!r} with chunks {chunks}: for "
            f"instance {instance}"
        )
    return t, y, x


def _three(name: str, lengths: Sequence[int]) -> list[int]:
    if not hasattr(lengths, "__len__") or len(lengths) != 3 or any(n != -1 and n < 1 for n in lengths):
        raise ValueError(
            f"{name} must be three numbers (time, y, x), each at least 1, or -1 for the whole axis, got "
            f"{lengths!r}"
        )
    return [int(n) for n in lengths]


def _default_chunks(shape: Shape, itemsize: int) -> Shape:
    frames, height, width = shape
    y, x = _equal_parts(height, _TILE), _equal_parts(width, _TILE)
    longest = min(BLOCK_BYTES // (height * width * itemsize), _CHUNK_VALUES // (y * x))
    return _equal_parts(frames, max(longest, _FEWEST_FRAMES)), y, x


def _equal_parts(length: int, longest: int) -> int:
    """Length of the parts when an axis is cut evenly into as few parts as `longest` allows."""
    return math.ceil(length / math.ceil(length / longest))
