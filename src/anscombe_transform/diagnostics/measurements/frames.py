"""The input of plots: a movie, read in runs of consecutive frames, and a codec; both are checked here."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from anscombe_transform.calibration import Sensitivity
from anscombe_transform.codec.transform.choice import fitted_to
from anscombe_transform.codec.transform.plan import Plan, plan_for
from anscombe_transform.codec.transform.values import some_rows
from anscombe_transform.native.arrays import AnyArray, Floats
from anscombe_transform.native.documents import value_text

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from anscombe_transform.movies import Movie, SupportsMovie

    Source = str | os.PathLike[str] | SupportsMovie | Movie


# How movies are sampled: so many values are enough for every plot, in runs of so many consecutive frames.
_ENOUGH_VALUES = 2**23
_FEWEST_FRAMES = 24
_RUN_FRAMES = (4, 16)
_RUN_VALUES = 2**22
# Values of each run that a decode table is fitted to.
_FITTED_VALUES = 2**18


def check_codec(codec: Any) -> Plan:
    """Return the plan of a codec; refuse other objects."""
    if not isinstance(getattr(codec, "plan", None), Plan):
        raise TypeError(
            "codec must be an AnscombeTransformV2 or AnscombeTransformV3, and come after the movie, got "
            f"{value_text(codec)}: sensitivity.codec(sample=movie) makes one"
        )
    return plan_for(codec)


def _run_bounds(shape: tuple[int, int, int], max_frames: int | None) -> list[tuple[int, int]]:
    """First frame and the frame after the last of each run, in the middle of equal parts of the movie."""
    frames, height, width = shape
    if max_frames is None:
        max_frames = max(_FEWEST_FRAMES, _ENOUGH_VALUES // (height * width))
    elif isinstance(max_frames, bool) or not isinstance(max_frames, int | np.integer) or max_frames < 1:
        raise ValueError(f"max_frames must be a whole number of frames, at least 1, got {max_frames!r}")
    total = min(frames, int(max_frames))
    shortest, longest = _RUN_FRAMES
    longest = max(shortest, min(longest, _RUN_VALUES // (height * width)))
    count = max(1, round(total / longest))
    edges = [frames * i // count for i in range(count + 1)]
    parts = list(itertools.pairwise(edges))
    if total == frames:
        return parts
    length = total // count
    return [(low + (high - low - length) // 2, low + (high - low + length) // 2) for low, high in parts]


def runs(movie: Movie, max_frames: int | None) -> Iterator[AnyArray]:
    """Yield the runs of frames that are read."""
    for start, stop in _run_bounds(movie.shape, max_frames):
        yield movie.frames(start, stop)


def value_range(movie: Movie, max_frames: int | None) -> AnyArray:
    """Smallest and largest value of the frames that are read, and NaN if there is one."""
    low, high, has_nan = math.inf, -math.inf, False
    for block in runs(movie, max_frames):
        has_nan |= block.dtype.kind == "f" and bool(np.isnan(block).any())
        if block.dtype.kind != "f" or not np.isnan(block).all():
            low, high = min(low, np.nanmin(block).item()), max(high, np.nanmax(block).item())
    return np.array([low, high] * (low <= high) + [math.nan] * has_nan, movie.dtype)


def chosen_plan(movie: Movie, sensitivity: Sensitivity, max_frames: int | None) -> Plan:
    """The transform that `Sensitivity.codec` chooses for the frames that are read."""
    plan = check_codec(sensitivity.codec(sample=value_range(movie, max_frames)))
    blocks = (some_rows(block, _FITTED_VALUES) for block in runs(movie, max_frames))
    return Plan(fitted_to(plan.configuration, blocks))


@dataclass
class MeanImage:
    """Mean over the frames that were read; NaN counts as missing."""

    shape: tuple[int, int, int]
    frames: int = 0

    def __post_init__(self) -> None:
        self.total = np.zeros(self.shape[1:])
        self.count = np.zeros(self.shape[1:], np.int64)

    def update(self, block: AnyArray) -> None:
        """Add a run of frames."""
        self.frames += len(block)
        for frame in block:
            value = frame.astype(np.float64)
            present = np.isfinite(value)
            self.total += np.where(present, value, 0)
            self.count += present

    @property
    def image(self) -> Floats:
        """Mean of each pixel, NaN where there was no number."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.total / self.count)
