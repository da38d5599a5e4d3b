"""The compiled loop of verification: stored values against their source, at the speed of memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from numba import njit

from anscombe_transform._parts_of_kernels import row

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    AnyArray = npt.NDArray[Any]

_Function = TypeVar("_Function", bound="Callable[..., Any]")


def _compile(function: _Function) -> _Function:
    """Compile on first use; the type of the plain function stays."""
    return cast("_Function", njit(nogil=True, cache=True)(function))


# Values per block, whose errors stay in the first cache.
BLOCK = 4096


@_compile
def largest_errors(
    index: AnyArray, original: AnyArray, stored: AnyArray, inverse_bound: AnyArray
) -> tuple[Any, Any]:
    """Bit patterns of the largest error and of the largest part of a bound that an error is.

    `index` says for every value where its bound stands in `inverse_bound` (float32). Errors are float32,
    exact for integers up to 24 bits. They are never negative, so that their bit patterns are ordered as they
    are: integers have a maximum that the compiler vectorises, and NaN is larger than any number.
    """
    errors = np.empty(BLOCK, np.float32)
    parts = np.empty(BLOCK, np.float32)
    error_bits = errors.view(np.int32)
    part_bits = parts.view(np.int32)
    largest = np.int32(0)
    worst = np.int32(0)
    for start in range(0, original.size, BLOCK):
        count = min(BLOCK, original.size - start)
        at = row(index, start, start + count)
        x, y = row(original, start, start + count), row(stored, start, start + count)
        # Look-ups stand alone: among them, the arithmetic would not be vectorised.
        for i in range(count):
            parts[i] = inverse_bound[at[i]]
        for i in range(count):
            errors[i] = abs(np.float32(x[i]) - np.float32(y[i]))
        for i in range(count):
            parts[i] *= errors[i]
        for i in range(count):
            largest = max(largest, error_bits[i])
            worst = max(worst, part_bits[i])
    return largest, worst
