"""The range of a movie's values: of a sample spread over it, or of all of it.

A codec is chosen to hold a movie's range before the first block is written. Reading a large recording twice
for that would double the time where reading is slow, so the range of a sample is widened by the amount that
extremes of a movie usually exceed those of a sample. A value beyond it has no code, which the codec refuses:
then the whole movie is looked through, and its writing begun again.

Some rows of the sample are kept, for the codec's decode table to be fitted to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.codec.transform.values import MOST_VALUES, some_rows
from anscombe_transform.compression.blocks.comparison import checksum, digest
from anscombe_transform.compression.blocks.workers import Workers, in_order

if TYPE_CHECKING:
    from anscombe_transform.movies import Movie
    from anscombe_transform.native.work import Progress, Span

__all__ = ["Extent", "Sample", "scan"]

WHOLE_BYTES = 64 * 2**20
"""Movies up to this size are their own sample."""

_RUNS = 32
_RUN_BYTES = WHOLE_BYTES // _RUNS


@dataclass(frozen=True, slots=True)
class Extent:
    """Smallest and largest number of a movie or a part of it, None where there is none, and whether NaN."""

    minimum: float | None
    maximum: float | None
    has_nan: bool

    @classmethod
    def of(cls, values: NDArray[Any]) -> Extent:
        """The extent of an array with at least one value."""
        # Python numbers, as a 64-bit integer has no place in a float.
        low, high = np.fmin.reduce(values, None).item(), np.fmax.reduce(values, None).item()
        if values.dtype.kind != "f":
            return cls(low, high, False)
        has_nan = bool(np.isnan(values.sum(dtype=values.dtype)) and np.isnan(values).any())
        return cls(None, None, True) if math.isnan(low) else cls(low, high, has_nan)

    @classmethod
    def merged(cls, parts: Sequence[Extent]) -> Extent:
        """The extent of several parts."""
        lows = [part.minimum for part in parts if part.minimum is not None]
        highs = [part.maximum for part in parts if part.maximum is not None]
        return cls(min(lows, default=None), max(highs, default=None), any(part.has_nan for part in parts))

    def values(self, dtype: np.dtype[Any]) -> NDArray[Any]:
        """The fewest values from which a codec can be chosen that holds all of them."""
        known = [value for value in (self.minimum, self.maximum) if value is not None]
        return np.array([*known, *([math.nan] if self.has_nan else [])], dtype)

    def widened(self, noise: float, dtype: np.dtype[Any]) -> Extent:
        """The extent with room for values outside the sample, within the limits of the type.

        `noise` is its standard deviation at the dark end, where a movie goes below a sample by noise alone.
        At the bright end a rare event may exceed a sample by a part of its range.
        """
        if self.minimum is None or self.maximum is None or not math.isfinite(self.maximum - self.minimum):
            return self
        limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
        low = max(self.minimum - 2 * noise, float(limits.min))
        high = min(self.maximum + (self.maximum - self.minimum) / 4, float(limits.max))
        if dtype.kind != "f":
            low, high = math.floor(low), math.ceil(high)
        return Extent(min(low, self.minimum), max(high, self.maximum), self.has_nan)


@dataclass(frozen=True, slots=True)
class Sample:
    """A part of a movie that stands for it.

    Attributes
    ----------
    extent : Extent
    checksum : str
        Of the frames looked at: it tells a recording from another one of the same shape.
    whole : bool
        Whether all frames were looked at.
    pieces : tuple of ndarray, shape (frames, y, x)
        Some rows of every run.
    frames : dict of int to int
        Checksums of the frames looked at, by their numbers.
    """

    extent: Extent
    checksum: str
    whole: bool
    pieces: tuple[NDArray[Any], ...]
    frames: dict[int, int]

    @classmethod
    def of(cls, movie: Movie, workers: Workers, progress: Progress | None) -> Sample:
        """Look at runs of frames spread evenly over a movie, the first and the last among them.

        On a cluster the workers look, and only rows of the runs come here.
        """
        frames = movie.shape[0]
        run = max(1, _RUN_BYTES // (movie.nbytes // frames))
        whole = movie.nbytes <= WHOLE_BYTES or run * _RUNS >= frames
        count = math.ceil(frames / run) if whole else _RUNS
        starts = (
            [i * run for i in range(count)]
            if whole
            else [round(i * (frames - run) / (count - 1)) for i in range(count)]
        )

        spans = [(start, min(start + run, frames)) for start in starts]
        look = _Look(run, MOST_VALUES // count)
        parts = in_order(workers.finished(look, movie, spans), spans, progress, "scan")
        sums = [value for _, found, _ in parts for value in found]
        numbers = (number for span in spans for number in range(*span))
        extent = Extent.merged([extent for extent, *_ in parts])
        pieces = tuple(piece for *_, piece in parts)
        return cls(extent, digest(sums), whole, pieces, dict(zip(numbers, sums, strict=True)))


@dataclass(frozen=True, slots=True)
class _Look:
    """Extent of a run of frames, checksums of its frames, and some of its rows."""

    run: int
    values: int

    def __call__(self, block: NDArray[Any], start: int) -> tuple[Extent, list[int], NDArray[Any]]:
        # Other rows in every run. A view would keep the whole run.
        piece = some_rows(block, self.values, first=start // self.run).copy()
        return Extent.of(block), [checksum(frame) for frame in block], piece


def _extent_of(block: NDArray[Any], start: int) -> Extent:
    return Extent.of(block)


def scan(movie: Movie, spans: list[Span], workers: Workers, progress: Progress | None) -> Extent:
    """The extent of a whole movie."""
    parts = workers.finished(_extent_of, movie, spans)
    return Extent.merged(in_order(parts, spans, progress, "scan all"))
