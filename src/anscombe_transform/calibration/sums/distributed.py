"""Noise statistics of a dask array, formed where its chunks are.

Each task reads a run of segments and gives their `NoiseStatistics`, a few megabytes for a run of any size; a
tree of merges adds them up. The tasks are an ordinary graph, so they run on the active scheduler:
threads by default, the cluster of a `dask.distributed.Client` if there is one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.calibration.sums.inputs import Progress, stretches
from anscombe_transform.calibration.sums.statistics import NoiseStatistics

if TYPE_CHECKING:
    from anscombe_transform.movies import Movie

# Statistics that are added up by one task.
_FAN_IN = 8
# Bytes of a run of segments, which a task holds in memory.
_RUN_BYTES = 256 << 20
# Bytes that are worth a task, if that leaves so many of them: a scheduler takes milliseconds for each.
_TASK_BYTES, _FEWEST_RUNS = 16 << 20, 16
# Steps in which progress is told; each waits for all of its tasks.
_STEPS = 10


def collect_dask(
    movie: Movie, empty: NoiseStatistics, segments: Sequence[int], progress: Progress | None = None
) -> NoiseStatistics:
    """Statistics of the given segments of a dask array (time, y, x), into the still `empty` ones."""
    from dask.base import compute
    from dask.delayed import delayed

    runs = _runs(segments, _run_length(movie, empty.segment_frames, len(segments)))
    found = _by_run(movie.to_dask(), empty, runs)
    steps = 1 if progress is None else min(_STEPS, len(runs))
    bounds = [len(runs) * k // steps for k in range(steps + 1)]
    done = 0
    for first, last in itertools.pairwise(bounds):
        parts = found[first:last]
        while len(parts) > 1:
            parts = [
                delayed(_merged, pure=False)(parts[k : k + _FAN_IN]) for k in range(0, len(parts), _FAN_IN)
            ]
        (sums,) = compute(*parts)  # type: ignore[no-untyped-call]
        empty.merge(sums)
        done += sum(len(run) for run in runs[first:last])
        if progress is not None:
            progress(done, len(segments))
    return empty


def _by_run(movie: Any, empty: NoiseStatistics, runs: Sequence[Sequence[int]]) -> list[Any]:
    """The statistics of each run, as delayed objects.

    In one layer of a graph, so that a run is read by the task that adds it up, and its frames are gone when
    the task is done.
    """
    import dask.array
    from dask.delayed import delayed

    array: Any = dask.array
    length = empty.segment_frames
    pieces = [
        movie[first * length : (last + 1) * length]
        for first, last in stretches([segment for run in runs for segment in run])
    ]
    chosen = pieces[0] if len(pieces) == 1 else array.concatenate(pieces)
    chosen = chosen.rechunk((tuple(len(run) * length for run in runs), -1, -1))
    starts = array.from_array(np.array([run[0] * length for run in runs]), chunks=1)
    statistics = array.blockwise(
        _statistics_of,
        "k",
        chosen,
        "kyx",
        starts,
        "k",
        # A task of its own, or every task would carry a copy.
        settings=delayed(empty.without_frames(), pure=False),
        align_arrays=False,
        meta=np.empty(0, object),
    )
    return list(statistics.to_delayed())


def _run_length(movie: Movie, length: int, segments: int) -> int:
    """Segments of one task: about a chunk, within a worker's memory; of small frames some more."""
    size = math.prod(movie.shape[1:]) * movie.dtype.itemsize * length
    chunk = round(movie.chunk_frames / length)
    some = min(_TASK_BYTES // size, segments // _FEWEST_RUNS)
    return int(min(max(1, _RUN_BYTES // size), max(1, chunk, some)))


def _runs(segments: Sequence[int], most: int) -> list[list[int]]:
    """Cut segment numbers into runs of neighbours, none longer than `most`."""
    return [
        list(range(start, min(start + most, last + 1)))
        for first, last in stretches(segments)
        for start in range(first, last + 1, most)
    ]


def _statistics_of(
    blocks: list[list[NDArray[Any]]], start: NDArray[Any], settings: NoiseStatistics
) -> NoiseStatistics:
    sums = settings.without_frames()
    # A block of whole frames; dask would copy it to take it out of its lists.
    sums.update(np.asarray(blocks[0][0]), start=int(start[0]))
    return sums


def _merged(parts: list[NoiseStatistics]) -> NoiseStatistics:
    # Into new ones: a task must leave its inputs as they are, since dask may run it twice.
    sums = parts[0].without_frames()
    for part in parts:
        sums.merge(part)
    return sums
