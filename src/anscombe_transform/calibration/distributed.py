"""Noise statistics of a dask array, formed where its chunks are.

Each task reads a run of segments and gives their `NoiseStatistics`, a few megabytes whatever the size of the
run; a tree of merges adds them up. The tasks are ordinary delayed calls, so they run on whatever scheduler is
active: threads by default, the cluster of a `dask.distributed.Client` if there is one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.calibration.sampling import Progress
from anscombe_transform.calibration.statistics import NoiseStatistics

# Statistics that are added up by one task.
_FAN_IN = 8
# Bytes of a run of segments, which a task holds in memory.
_RUN_BYTES = 256 << 20
# Steps in which progress is told; each waits for all of its tasks.
_STEPS = 10


def collect_dask(
    movie: Any, empty: NoiseStatistics, segments: Sequence[int], progress: Progress | None = None
) -> NoiseStatistics:
    """Statistics of the given segments of a dask array (time, y, x), into the still `empty` ones."""
    from dask.base import compute
    from dask.delayed import delayed

    length = empty.segment_frames
    # One task of its own, or every task would carry a copy.
    settings = delayed(empty.without_frames(), pure=False)
    runs = _runs(segments, _run_length(movie, length))
    steps = 1 if progress is None else min(_STEPS, len(runs))
    bounds = [len(runs) * k // steps for k in range(steps + 1)]
    done = 0
    for first, last in itertools.pairwise(bounds):
        parts = [
            delayed(_statistics_of, pure=False)(
                movie[run[0] * length : (run[-1] + 1) * length], run[0] * length, settings
            )
            for run in runs[first:last]
        ]
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


def _run_length(movie: Any, length: int) -> int:
    """Segments of one task: about a chunk, within what a worker's memory bears."""
    frame = math.prod(movie.shape[1:]) * int(movie.dtype.itemsize)
    most = max(1, _RUN_BYTES // (frame * length))
    return int(min(most, max(1, round(max(movie.chunks[0]) / length))))


def _runs(segments: Sequence[int], most: int) -> list[list[int]]:
    """Cut segment numbers into runs of neighbours, none longer than `most`."""
    runs: list[list[int]] = []
    for segment in segments:
        if runs and segment == runs[-1][-1] + 1 and len(runs[-1]) < most:
            runs[-1].append(segment)
        else:
            runs.append([segment])
    return runs


def _statistics_of(frames: NDArray[Any], start: int, settings: NoiseStatistics) -> NoiseStatistics:
    sums = settings.without_frames()
    sums.update(np.asarray(frames), start=start)
    return sums


def _merged(parts: list[NoiseStatistics]) -> NoiseStatistics:
    # Into new ones: a task must leave its inputs as they are, since dask may run it twice.
    sums = parts[0].without_frames()
    for part in parts:
        sums.merge(part)
    return sums
