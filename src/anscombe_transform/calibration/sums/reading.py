"""Which frames of a movie are read, and how: a look at a few, then segments spread over all of it.

Segments are read one after the other, as files like it, while the sums over earlier ones are still being
formed by other threads; they are merged in the order of the movie, so that the result does not depend on
which thread was faster. Dask arrays are summed where their chunks are, see `distributed`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.calibration.result.sensitivity import NothingToMeasure, Reason
from anscombe_transform.calibration.sums.frames import FrameChecks, is_thresholded
from anscombe_transform.calibration.sums.inputs import Progress, stretches
from anscombe_transform.calibration.sums.statistics import CLASSES, SEGMENT_FRAMES, MovieLike, NoiseStatistics
from anscombe_transform.calibration.wrapped import WrapCheck
from anscombe_transform.movies import Movie
from anscombe_transform.native.arrays import Bools, Floats
from anscombe_transform.native.work import count_threads, ordered

# By default, segments are read until there are this many rows, and never fewer than eight segments.
_DEFAULT_ROWS = 120_000
_FEWEST_SEGMENTS = 8
# Frames looked at for cut-off values.
_INSPECTED_FRAMES = 16
# Different values kept at either end.
_LEVELS = 64
# A half segment needs three frames; below this many frames the movie is one segment that is not halved.
_LEAST_HALVED = 6
# Bytes that are read at once, where chunks hold more than a segment.
_MOST_READ_BYTES = 256 << 20


@dataclass(frozen=True)
class Cut:
    """Values at which the detector is cut off, infinite where it is not, and other findings.

    `step` is the common step of all values, 0 if there is none; `lowest` the smallest value.
    """

    floor: float = -math.inf
    ceiling: float = math.inf
    step: float = 0.0
    lowest: float = math.nan
    reasons: tuple[Reason, ...] = ()


def inspect(movie: MovieLike, mask: Bools | None = None) -> Cut:
    """Look at frames spread over the movie for reasons to stop, and for cut-off values.

    A detector that saturates piles up samples at its largest value: that value is an atom, far more frequent
    than the values below it.
    """
    frames = movie.shape[0]
    if frames < 2:
        raise NothingToMeasure(
            "too_few_frames", f"noise is what differs between frames, and this movie has {frames}."
        )
    levels, checks, wraps = _Levels(), FrameChecks(), WrapCheck()
    # By twos, since chunks hold many: half as many are then read.
    firsts = np.linspace(0, frames - 2, _INSPECTED_FRAMES // 2).astype(int)
    times = np.unique(np.concatenate([firsts, firsts + 1])).tolist()
    for frame in _frames(movie, times):
        frame = frame if mask is None else frame[mask]
        checks.add(frame)
        wraps.add(frame)
        checks.add_values(levels.add(frame))
    if levels.total == 0:
        raise NothingToMeasure("not_finite", "no sample of this movie is a finite number.")
    if len(levels.lowest) == 1:
        raise NothingToMeasure(
            "constant",
            f"every sample has the same value, {levels.lowest[0]:g}: record with light on the detector.",
        )
    if len(levels.lowest) == 2:
        raise NothingToMeasure(
            "two_levels", "the movie has only two values, as a mask has; its noise is lost."
        )
    reasons = checks.reasons() + wraps.reasons()
    below = is_thresholded(levels.lowest, levels.lowest_counts)
    if below and checks.comes_and_goes(float(levels.lowest[0])):
        reasons += (
            Reason(
                "thresholded",
                f"{levels.lowest[0]:g} and {levels.lowest[1]:g} are frequent and no value between occurs: "
                "what lay below a threshold was replaced, and with it the noise of dark pixels. "
                "Use the raw recording.",
                "caution",
            ),
        )
    return Cut(
        floor=_floor(levels),
        ceiling=_ceiling(levels),
        step=checks.step,
        lowest=float(levels.lowest[0]),
        reasons=reasons,
    )


def _frames(movie: MovieLike, times: list[int]) -> Iterator[NDArray[Any]]:
    if isinstance(movie, Movie) and movie.is_dask:
        # One graph for all: the chunks are then fetched side by side.
        yield from np.asarray(movie.to_dask()[times])
        return
    for first, last in stretches(times):
        yield from np.asarray(movie[first : last + 1])


class _Levels:
    """The lowest and the highest values among samples, ascending, and how often each occurs."""

    def __init__(self) -> None:
        self.total = 0
        self.lowest, self.lowest_counts = np.zeros(0), np.zeros(0)
        self.highest, self.highest_counts = np.zeros(0), np.zeros(0)

    def add(self, frame: NDArray[Any]) -> NDArray[Any]:
        """Count the values of a frame, and return the different ones, ascending."""
        # Some rows are enough of a large frame, and bound the time that sorting takes.
        frame = frame[:: max(1, frame.size // 400_000)]
        values, counts = _values(frame)
        self.total += int(counts.sum())
        # A value among the lowest of all is among the lowest of every frame that has it, so none is missed.
        self.lowest, self.lowest_counts = (
            v[:_LEVELS] for v in _counted(self.lowest, self.lowest_counts, values[:_LEVELS], counts[:_LEVELS])
        )
        self.highest, self.highest_counts = (
            v[-_LEVELS:]
            for v in _counted(self.highest, self.highest_counts, values[-_LEVELS:], counts[-_LEVELS:])
        )
        return values


def _values(frame: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """The different finite values of a frame, ascending, and how often each occurs."""
    if frame.dtype.kind not in "iu" or frame.dtype.itemsize > 2:
        return np.unique(frame[np.isfinite(frame)], return_counts=True)
    # Small integers are counted faster than sorted.
    least = np.iinfo(frame.dtype).min
    counts = np.bincount(np.subtract(frame, least, dtype=np.intp).ravel())
    values = np.flatnonzero(counts)
    return (values + least).astype(frame.dtype), counts[values]


def _counted(
    values: Floats, counts: Floats, more_values: NDArray[Any], more_counts: NDArray[Any]
) -> tuple[Floats, Floats]:
    """Merge two sets of values and their counts."""
    merged, which = np.unique(np.concatenate([values, more_values.astype(np.float64)]), return_inverse=True)
    summed = np.bincount(which, np.concatenate([counts, more_counts]), len(merged))
    return np.asarray(merged, np.float64), np.asarray(summed, np.float64)


def _ceiling(levels: _Levels) -> float:
    """Return the largest value if samples pile up there, else infinity.

    A tail falls up to its end. Where photons are counted its values are few and frequent.
    """
    most, beside = levels.highest_counts[-1], levels.highest_counts[-9:-1]
    rises = most > 1.1 * beside[-1] + 6 * math.sqrt(beside[-1])
    piled = most > max(8, 1e-5 * levels.total) and (most > 4 * beside.mean() or rises)
    return float(levels.highest[-1]) if piled else math.inf


def _floor(levels: _Levels) -> float:
    """Return the smallest value if samples pile up there, else minus infinity.

    The darkest pixels are many, so the pile must stand out from its close neighbours. At 0, where an unsigned
    file ends, less will do if the counts above it rise: those of a tail would rise from there.
    """
    step = float(np.median(np.diff(levels.lowest)))
    near = levels.lowest[1:] - levels.lowest[0] < 6 * step
    least, beside = levels.lowest_counts[0], levels.lowest_counts[1:][near]
    piled = least > max(8, 1e-5 * levels.total) and len(beside) >= 3 and least > 2 * beside.max()
    if levels.lowest[0] == 0 and len(beside) >= 3:
        first, second = levels.lowest_counts[1:3]
        piled |= first < second and least > 1.1 * first + 6 * math.sqrt(first)
    return float(levels.lowest[0]) if piled else -math.inf


# Statistics


def collect(
    movie: Movie,
    cut: Cut,
    *,
    mask: Bools | None = None,
    max_frames: int | None = None,
    full: bool = False,
    seed: int | None = None,
    progress: Progress | None = None,
) -> NoiseStatistics:
    """Read segments spread over the movie; all of them if `full`."""
    frames, height, width = movie.shape
    available = frames if max_frames is None else min(frames, max_frames)
    settings: dict[str, Any] = {
        "floor": cut.floor,
        "ceiling": cut.ceiling,
        "step": cut.step,
        "mask": mask,
    }

    if available < _LEAST_HALVED:
        block = np.asarray(movie[:available])
        distinct = [k for k in range(available) if k == 0 or not np.array_equal(block[k], block[k - 1])]
        if len(distinct) < 2:
            raise NothingToMeasure(
                "identical_frames", "all frames are identical: there is no noise to measure."
            )
        statistics = NoiseStatistics((height, width), segment_frames=len(distinct), **settings)
        statistics.update(block[distinct], start=0)
        statistics.duplicates = available - len(distinct)
        return statistics

    length = min(available, frames // max(1, frames // SEGMENT_FRAMES))
    statistics = NoiseStatistics((height, width), segment_frames=length, **settings)
    segments = frames // length
    wanted = segments
    if not full:
        wanted = max(_FEWEST_SEGMENTS, _DEFAULT_ROWS // (2 * CLASSES * statistics.tiles))
    if max_frames is not None:
        wanted = max(1, max_frames // length)
    chosen = choose_segments(segments, wanted, seed)
    statistics.expect(chosen)
    if movie.is_dask:
        from anscombe_transform.calibration.sums.distributed import collect_dask

        return collect_dask(movie, statistics, chosen, progress)
    for done, part in enumerate(_parts(movie, chosen, statistics), start=1):
        statistics.merge(part)
        if progress is not None:
            progress(done, len(chosen))
    return statistics


def choose_segments(segments: int, wanted: int, seed: int | None = None) -> list[int]:
    """Numbers of the segments to read, one of each of `wanted` equal parts of the movie.

    Without a seed they are spaced evenly, from the first to the last; with one, each is drawn from its part.
    """
    wanted = min(wanted, segments)
    if seed is None:
        return sorted(set(np.linspace(0, segments - 1, wanted).round().astype(int).tolist()))
    edges = np.arange(wanted + 1) * segments // wanted
    drawn = np.random.default_rng(seed).integers(edges[:-1], edges[1:])
    return [int(segment) for segment in drawn]


def _parts(movie: Movie, chosen: list[int], settings: NoiseStatistics) -> Iterator[NoiseStatistics]:
    """The statistics of each segment, in their order."""
    length = settings.segment_frames

    def add(start: int, block: NDArray[Any]) -> NoiseStatistics:
        part = settings.without_frames()
        part.update(block, start=start)
        return part

    # Read here, by one thread only: in sequence, and from libraries that are not safe with several.
    return ordered(add, _read(movie, chosen, length), count_threads(least=1))


def _read(movie: Movie, chosen: list[int], length: int) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the first frame's number and the frames of each segment, reading each chunk of a stretch once."""
    chunk = movie.chunk_frames
    step = chunk * -(-length // chunk)
    if step * math.prod(movie.shape[1:]) * movie.dtype.itemsize > _MOST_READ_BYTES:
        step = length
    for first, last in stretches(chosen):
        start, end = first * length, (last + 1) * length
        position, rest = start, None
        while position < end:
            stop = min(end, position - position % step + step) if step != length else position + length
            block = np.asarray(movie[position:stop])
            position = stop
            block = block if rest is None else np.concatenate([rest, block])
            whole = len(block) // length
            for k in range(whole):
                yield start + k * length, block[k * length : (k + 1) * length]
            start += whole * length
            rest = block[whole * length :] if len(block) % length else None
