"""Blocks of stored values against their source, value by value, and their checksums.

A checksum is the CRC-32 of values in C order and little-endian bytes: of a frame, for the source, or of a
band of a block, for stored values. It is zlib's, which every language has.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.codec.transform.configuration import UnrepresentableError
from anscombe_transform.compression.blocks.mean_shift import mean_shifts
from anscombe_transform.compression.blocks.verification import Verification
from anscombe_transform.native import core, crc32

if TYPE_CHECKING:
    from anscombe_transform.codec.transform.plan import Plan
    from anscombe_transform.compression.blocks.layout import Layout

__all__ = ["Comparison", "checksum", "digest", "from_hex", "to_hex"]

# Values compared at once where the comparison takes scratch arrays: they stay in the processor's cache.
_COMPARED_VALUES = 2**18
# A decoded value may sit on the bound itself, so that rounding decides on which side it seems to be.
_ROUNDING = 1e-6


def checksum(values: NDArray[Any]) -> int:
    """CRC-32 of an array's values."""
    little = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"), copy=False)
    return crc32(little.reshape(-1).view(np.uint8).data)


def digest(checksums: Iterable[int]) -> str:
    """SHA-256 of a list of checksums, as little-endian 32-bit integers one after the other."""
    return hashlib.sha256(np.fromiter(checksums, "<u4").tobytes()).hexdigest()


def to_hex(checksums: tuple[int, ...]) -> str:
    """Checksums as text, eight digits each."""
    return "".join(f"{value:08x}" for value in checksums)


def from_hex(text: str) -> tuple[int, ...]:
    """The checksums of a text."""
    return tuple(int(text[i : i + 8], 16) for i in range(0, len(text), 8))


class Comparison:
    """Compares blocks with a codec's bound; shared by threads.

    Parameters
    ----------
    plan : Plan
        Of the codec that stored the values.
    layout : Layout, optional
        By which the chunk of a wrong value is named.
    """

    def __init__(self, plan: Plan, layout: Layout | None = None) -> None:
        self._plan = plan
        self._layout = layout
        self._clips = plan.configuration.out_of_range == "clip"
        self._tables: dict[str, NDArray[np.float32]] = {}

    def compare(
        self, original: NDArray[Any], stored: NDArray[Any], first_frame: int, first_row: int = 0
    ) -> Verification:
        """Compare two blocks ``(time, y, x)`` that begin at a frame and a row."""
        x, decoded = (np.require(array, requirements=("C", "A")).reshape(-1) for array in (original, stored))
        values, clipped = self._clip(x)
        largest, worst = self._largest(values, decoded)
        if worst <= 1 + _ROUNDING:
            shifts = mean_shifts(self._plan.curve, original, stored)
            return Verification(True, x.size, 0, clipped, largest, worst, mean_shift=shifts)
        failed, first = self._failures(values, decoded)
        frame, row, column = (int(i) for i in np.unravel_index(first, original.shape))
        index = (first_frame + frame, first_row + row, column)
        return Verification(
            False,
            x.size,
            failed,
            clipped,
            largest,
            worst,
            index,
            x[first].item(),
            decoded[first].item(),
            chunk=None if self._layout is None else self._layout.chunk_at(index),
        )

    def _clip(self, x: NDArray[Any]) -> tuple[NDArray[Any], int]:
        """The values as the codec takes them, and how many it clips."""
        if not self._clips:
            return x, 0
        inside = np.clip(x, self._plan.lowest, self._plan.highest).astype(x.dtype)
        return inside, int(np.count_nonzero(inside < x)) + int(np.count_nonzero(inside > x))

    def _largest(self, x: NDArray[Any], decoded: NDArray[Any]) -> tuple[float, float]:
        """Largest error in signal units, and as a part of its bound."""
        if x.dtype.kind != "f" and x.dtype.itemsize <= 2 and decoded.dtype in (x.dtype, np.float32):
            found: tuple[float, float] = core.largest_errors(x, decoded, self._table(x.dtype))
            return found
        parts = [self._errors(x[part], decoded[part]) for part in _slices(x.size)]
        return max(float(e.max()) for e, _ in parts), max(float(r.max()) for _, r in parts)

    def _failures(self, x: NDArray[Any], decoded: NDArray[Any]) -> tuple[int, int]:
        """How many values are beyond their bound, and where the first of them is."""
        failed, first = 0, -1
        for part in _slices(x.size):
            _, relative = self._errors(x[part], decoded[part])
            wrong = np.flatnonzero(~(relative <= 1 + _ROUNDING))
            if wrong.size and first < 0:
                first = part.start + int(wrong[0])
            failed += wrong.size
        return failed, first

    def _table(self, dtype: np.dtype[Any]) -> NDArray[np.float32]:
        """1 / bound of every value of an integer type of at most 16 bits, in the order of the bit patterns.

        Integers that are stored as integers are off by whole units, so a bound below 1 may be counted as 1/2:
        an error exceeds both or neither.
        """
        found = self._tables.get(dtype.str)
        if found is None:
            values = np.arange(1 << 8 * dtype.itemsize, dtype=f"u{dtype.itemsize}").view(dtype)
            bounds = largest_error(self._plan, values)
            found = (1 / np.maximum(bounds, self._least(dtype))).astype(np.float32)
            self._tables[dtype.str] = found
        return found

    def _least(self, dtype: np.dtype[Any]) -> float:
        """The smallest bound that makes a difference."""
        whole = dtype.kind != "f" and self._plan.decoded_dtype.kind != "f"
        return 0.5 if whole else float(np.finfo(np.float32).tiny)

    def _errors(self, x: NDArray[Any], decoded: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Errors in signal units and as parts of their bounds; flat arrays of the same length."""
        if x.dtype.kind != "f" and x.dtype.itemsize <= 2:
            # Exact: differences of two 16-bit integers fit the 24 bits of a float32.
            error = np.abs(x.astype(np.float32) - decoded.astype(np.float32, copy=False))
            return error, error * self._table(x.dtype)[x.view(f"u{x.dtype.itemsize}")]
        wide = x.astype(np.float64)
        exact = np.abs(wide - decoded)
        if x.dtype.kind != "f" and self._plan.decoded_dtype.kind != "f":
            return exact, exact / np.maximum(self._bounds(x), 0.5)
        one, other = np.isnan(wide), np.isnan(decoded)
        exact[one & other] = 0
        exact[one != other] = np.inf
        # A float may lie on the edge between two codes, where both bounds are right.
        bound = np.maximum(self._bounds(x), self._bounds(decoded))
        return exact, exact / np.maximum(bound, self._least(x.dtype))

    def _bounds(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """Bounds of any values: those of their codes, 0 for NaN."""
        try:
            return self._of_codes[self._plan.encode(x)]
        except (UnrepresentableError, TypeError):
            # Values that were not stored with this codec have bounds as well, which take longer to find.
            return largest_error(self._plan, x)

    @functools.cached_property
    def _of_codes(self) -> NDArray[np.float64]:
        count = self._plan.bins[0].size
        bounds = np.zeros(1 << 8 * self._plan.encoded_dtype.itemsize)
        values = self._plan.decode(np.arange(count, dtype=self._plan.encoded_dtype))
        bounds[:count] = largest_error(self._plan, values)
        return bounds


def largest_error(plan: Plan, signal: NDArray[Any]) -> NDArray[np.float64]:
    """The codec's bound at every signal, and never more than its bin is wide; 0 for NaN.

    The width follows from the bins alone and not from the stored table, which is itself verified.
    """
    x = np.asarray(signal, np.float64)
    low, high = plan.bins
    return np.minimum(plan.max_error(x), np.abs(high - low)[plan.codes_of(x)])


def _slices(size: int) -> list[slice]:
    return [slice(start, start + _COMPARED_VALUES) for start in range(0, size, _COMPARED_VALUES)]
