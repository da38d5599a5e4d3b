"""Values that wrapped around: beyond one end of an integer type they came out at its other end.

A program that stores uint16 values as int16 turns 32,768 into −32,768, one that casts to n bits takes
2ⁿ off. Bright pixels become black holes. In a recorded scene, neighbouring pixels and frames differ by
little far more often than by much. Where values wrapped, differences of nearly 2ⁿ are frequent and those
of half of it rare, in space and in time, between many different values on either side. Saturated pixels,
hot pixels and masks make large differences too, but between few values, or always in the same place.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.calibration.result.sensitivity import Reason

# Values of a frame that are looked at.
_VALUES = 100_000
# Smallest type that wraps, bits.
_LEAST_BITS = 8
# Part of 2ⁿ that values must span; a wrapped movie spans nearly all of it.
_LEAST_SPAN = 0.75
# Parts of 2ⁿ: differences above the first are jumps, those between the others are of middle size. Noise at an
# end of the range makes jumps fall short of 2ⁿ by a few standard deviations.
_JUMP, _MIDDLE = 0.75, (0.3, 0.7)
# Jumps in space, and in time, that there must be, and by how many times they must exceed middle differences.
_LEAST_JUMPS, _TIMES_MIDDLE = 12, 3.0
# Different values on either side of the jumps, and the most of them that may be one value.
_LEAST_DIFFERENT, _MOST_OF_ONE = 8, 0.5


class WrapCheck:
    """Looks at one frame after the other, in pairs of neighbours, and then says whether values wrapped."""

    def __init__(self) -> None:
        self._frames: list[NDArray[Any]] = []

    def add(self, frame: NDArray[Any]) -> None:
        """Take in a frame (y, x), or the pixels of one that are wanted."""
        # Rows here and there: neighbours along x and in time stay neighbours.
        self._frames.append(frame[:: max(1, frame.size // _VALUES)].copy())

    def reasons(self) -> tuple[Reason, ...]:
        """Return reasons against frames like these."""
        frames = [f for f in self._frames if f.size and f.shape == self._frames[0].shape]
        if len(frames) < 2:
            return ()
        values = np.stack(frames)
        if values.dtype.kind == "f":
            values = np.where(np.isfinite(values), values, np.nan)
            if np.isnan(values).all():
                return ()
        lowest, highest = float(np.nanmin(values)), float(np.nanmax(values))
        bits = _bits_of(lowest, highest)
        if bits == 0:
            return ()
        time = values[0 : len(values) // 2 * 2 : 2], values[1::2]
        pairs = [time] if values.ndim == 2 else [time, (values[..., :-1], values[..., 1:])]
        share = min(_share_of_jumps(first, second, 2.0**bits) for first, second in pairs)
        if not share:
            return ()
        return (
            Reason(
                "wrapped",
                f"neighbouring pixels and frames jump by nearly 2^{bits} between values at both ends of the "
                f"range, in {100 * share:.2g} % of pairs or more: values that exceeded the type came out at "
                f"its other end. Export the movie in a wider type{_remedy(values.dtype, bits)}.",
                "caution",
            ),
        )


def _bits_of(lowest: float, highest: float) -> int:
    """Bits of the type that values may have wrapped in, 0 if they do not span it."""
    span = highest - lowest
    if not 2.0 ** (_LEAST_BITS - 1) <= span < 2.0**63:
        return 0
    bits = math.floor(math.log2(span)) + 1
    return bits if bits >= _LEAST_BITS and span > _LEAST_SPAN * 2.0**bits else 0


def _share_of_jumps(first: NDArray[Any], second: NDArray[Any], whole: float) -> float:
    """Share of the pairs of neighbours that jump round the end of the range; 0 where that is no wrapping."""
    apart = np.abs(first.astype(np.float64) - second.astype(np.float64))
    jumps = apart > _JUMP * whole
    count = np.count_nonzero(jumps)
    middle = np.count_nonzero((apart > _MIDDLE[0] * whole) & (apart < _MIDDLE[1] * whole))
    if count < _LEAST_JUMPS or count < _TIMES_MIDDLE * middle:
        return 0.0
    lower, upper = np.minimum(first[jumps], second[jumps]), np.maximum(first[jumps], second[jumps])
    for side in (lower, upper):
        _, counts = np.unique(side, return_counts=True)
        if len(counts) < _LEAST_DIFFERENT or counts.max() > _MOST_OF_ONE * count:
            return 0.0
    return float(count / apart.size)


def _remedy(dtype: np.dtype[Any], bits: int) -> str:
    """How signed integers that wrapped once are read right, where that may help."""
    if dtype.kind == "i" and bits == 8 * dtype.itemsize:
        return f', or read its values as what they are: movie.view("uint{bits}")'
    return ""
