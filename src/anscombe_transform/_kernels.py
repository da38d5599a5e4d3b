"""The compiled loops of the codec.

Every loop works on flat contiguous arrays of native byte order, releases the GIL, keeps no state and is
cached on disk. Each is an optimisation of a plain numpy expression that the tests hold it to.

A loop that encodes returns the smallest and the largest input it met, so that a value without a code is found
in the same pass; the caller compares them with the range that has codes and discards the output when they
leave it. Inputs are clamped to that range before the formula, which keeps the conversion to integers defined.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from numba import njit

from anscombe_transform._parts_of_kernels import times_plus

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    AnyArray = npt.NDArray[Any]

_Function = TypeVar("_Function", bound="Callable[..., Any]")


def _compile(function: _Function) -> _Function:
    """Compile on first use; the type of the plain function stays."""
    return cast("_Function", njit(nogil=True, cache=True)(function))


# Pixels per block where a loop runs twice over the same data, so that it stays in the first caches.
BLOCK = 16384

# Floats that are encoded anew in float64 when one of them is doubtful: few, as one in some thousands is.
TILE = 256


@_compile
def _stabilize(
    x: np.float32,
    zero: np.float32,
    per_gain: np.float32,
    constant: np.float32,
    scale: np.float32,
    scaled_root: np.float32,
    slope: np.float32,
    offset: np.float32,
) -> Any:
    """The curve at one signal, in float32; inlined into the loops."""
    nothing = np.float32(0)
    n = (x - zero) * per_gain
    return (scale * np.sqrt(max(n, nothing) + constant) - scaled_root if n >= nothing else n * slope) + offset


@_compile
def _code_of(
    inside: Any,
    per_gain: np.float32,
    shift: np.float32,
    constant: np.float32,
    scale: np.float32,
    slope: np.float32,
    offset: np.float32,
) -> Any:
    """The code of one signal in few operations, from numbers that `Plan._short_numbers` combines."""
    n = times_plus(np.float32(inside), per_gain, shift)
    up = max(n, constant)
    return np.int32(times_plus(np.sqrt(up), scale, times_plus(np.float32(n - up), slope, offset)))


@_compile
def encode_single(
    x: AnyArray,
    out: AnyArray,
    low: Any,
    high: Any,
    per_gain: np.float32,
    shift: np.float32,
    constant: np.float32,
    scale: np.float32,
    slope: np.float32,
    offset: np.float32,
) -> tuple[Any, Any]:
    """Codes of integers of at most 16 bits by the formula in float32, 8 pixels an instruction.

    `low` and `high` are of the type of `x`. The caller has checked for every representable input that the
    result equals the float64 definition.
    """
    smallest = x[0]
    largest = x[0]
    for i in range(x.size):
        v = x[i]
        smallest = min(smallest, v)
        largest = max(largest, v)
        out[i] = _code_of(min(max(v, low), high), per_gain, shift, constant, scale, slope, offset)
    return smallest, largest


@_compile
def encode_patched(
    x: AnyArray,
    out: AnyArray,
    low: Any,
    high: Any,
    per_gain: np.float32,
    shift: np.float32,
    constant: np.float32,
    scale: np.float32,
    slope: np.float32,
    offset: np.float32,
    wrong: tuple[Any, Any, Any, Any],
    mend: tuple[Any, Any, Any, Any],
) -> tuple[Any, Any]:
    """As `encode_single`, for detectors whose float32 codes are off for at most four inputs.

    ``mend[k]`` is added to the code of the input ``wrong[k]``, modulo the range of the codes; unused places
    mend by 0. They are of the types of `out` and `x`.
    """
    smallest = x[0]
    largest = x[0]
    nothing = out.dtype.type(0)
    for i in range(x.size):
        v = x[i]
        smallest = min(smallest, v)
        largest = max(largest, v)
        code = _code_of(min(max(v, low), high), per_gain, shift, constant, scale, slope, offset)
        # Four selects, spelt out: a loop over them is not vectorised.
        extra = mend[0] if v == wrong[0] else nothing
        extra = mend[1] if v == wrong[1] else extra
        extra = mend[2] if v == wrong[2] else extra
        extra = mend[3] if v == wrong[3] else extra
        out[i] = np.int32(code + np.int32(extra))
    return smallest, largest


@_compile
def encode_table(x: AnyArray, patterns: AnyArray, table: AnyArray, out: AnyArray) -> tuple[Any, Any]:
    """Codes of integers of at most 16 bits by look-up.

    `patterns` is the unsigned view of `x`; `table` spans that type, in its order.
    """
    smallest = x[0]
    largest = x[0]
    for i in range(x.size):
        v = x[i]
        if v < smallest:
            smallest = v
        if v > largest:
            largest = v
        out[i] = table[patterns[i]]
    return smallest, largest


@_compile
def encode_double(
    x: AnyArray,
    out: AnyArray,
    low: float,
    high: float,
    zero: float,
    gain: float,
    constant: float,
    scale: float,
    root: float,
    slope: float,
    offset: float,
) -> tuple[Any, Any]:
    """Codes of integers of any width by the float64 definition, operation for operation."""
    smallest = x[0]
    largest = x[0]
    for i in range(x.size):
        v = x[i]
        if v < smallest:
            smallest = v
        if v > largest:
            largest = v
        n = (min(max(np.float64(v), low), high) - zero) / gain
        y = scale * (np.sqrt(max(n, 0.0) + constant) - root) if n >= 0.0 else n * slope
        out[i] = np.int32(np.rint(offset + y))
    return smallest, largest


@_compile
def encode_floats(
    x: AnyArray,
    out: AnyArray,
    low: float,
    high: float,
    zero: float,
    gain: float,
    constant: float,
    scale: float,
    root: float,
    slope: float,
    offset: float,
    nan_code: int,
) -> Any:
    """Codes of floats by the float64 definition; NaN gets `nan_code`, or is an outsider if that is < 0.

    Returns the number of values outside ``low .. high``.
    """
    outsiders = 0
    nan_inside = nan_code >= 0
    missing = np.int32(max(nan_code, 0))
    for i in range(x.size):
        v = np.float64(x[i])
        is_nan = v != v
        inside = (v >= low and v <= high) or (is_nan and nan_inside)
        outsiders += 0 if inside else 1
        n = ((min(max(v, low), high) if not is_nan else low) - zero) / gain
        y = scale * (np.sqrt(max(n, 0.0) + constant) - root) if n >= 0.0 else n * slope
        code = np.int32(np.rint(offset + y))
        out[i] = missing if is_nan else code
    return outsiders


@_compile
def _encode_tile(
    x: AnyArray,
    out: AnyArray,
    low: np.float32,
    high: np.float32,
    zero: np.float32,
    per_gain: np.float32,
    constant: np.float32,
    scale: np.float32,
    scaled_root: np.float32,
    slope: np.float32,
    offset: np.float32,
    margin: np.float32,
) -> Any:
    """Codes of a few floats in float32; how many are NaN, outside the range or within `margin` of an edge."""
    nothing = np.float32(0)
    half = np.float32(0.5)
    ceiling = np.float32(1) - margin
    one = np.int32(1)
    none = np.int32(0)
    doubtful = np.int32(0)
    for i in range(x.size):
        v = x[i]
        inside = min(max(v, low), high)
        y = _stabilize(inside, zero, per_gain, constant, scale, scaled_root, slope, offset)
        raised = max(y + half, nothing)
        code = np.int32(raised)
        rest = raised - np.float32(code)
        doubt = (rest < margin) | (rest > ceiling) | (inside != v)
        doubtful = np.int32(doubtful + (one if doubt else none))
        out[i] = code
    return doubtful


@_compile
def encode_float32(
    x: AnyArray,
    out: AnyArray,
    single: tuple[Any, ...],
    double: tuple[Any, ...],
    margin: np.float32,
    nan_code: int,
) -> Any:
    """As `encode_floats`, for float32: in float32, and once more in float64 where a value is doubtful.

    `margin` bounds the error of the float32 formula in codes, so that a code away from every edge is exact.
    `single` and `double` are the arguments of the formula in either precision.
    """
    low, high, zero, per_gain, constant, scale, scaled_root, slope, offset = single
    low2, high2, zero2, gain2, constant2, scale2, root2, slope2, offset2 = double
    outsiders = 0
    for start in range(0, x.size, TILE):
        part = x[start : min(start + TILE, x.size)]
        target = out[start : min(start + TILE, x.size)]
        if _encode_tile(
            part, target, low, high, zero, per_gain, constant, scale, scaled_root, slope, offset, margin
        ):
            outsiders += encode_floats(
                part, target, low2, high2, zero2, gain2, constant2, scale2, root2, slope2, offset2, nan_code
            )
    return outsiders


@_compile
def decode_table(codes: AnyArray, table: AnyArray, out: AnyArray) -> Any:
    """Values of codes by look-up; returns the largest code met, and stops before one that `table` lacks."""
    size = codes.size
    largest = np.int64(0)
    for start in range(0, size, BLOCK):
        part = codes[start : min(start + BLOCK, size)]
        target = out[start : min(start + BLOCK, size)]
        top = part[0]
        for i in range(part.size):
            if part[i] > top:
                top = part[i]
        largest = max(largest, np.int64(top))
        if largest >= table.size:
            return largest
        for i in range(part.size):
            target[i] = table[part[i]]
    return largest


@_compile
def decode_pairs(codes: AnyArray, table: AnyArray, out: AnyArray) -> None:
    """Values of codes of one byte by look-up, eight as one integer; `table` has the values of any two.

    Nothing is checked: the table spans all pairs. Two values are one integer in it and in `out`.
    """
    two = np.uint64(0xFFFF)
    for i in range(codes.size):
        v = codes[i]
        a, b = table[v & two], table[(v >> np.uint64(16)) & two]
        c, d = table[(v >> np.uint64(32)) & two], table[v >> np.uint64(48)]
        out[4 * i], out[4 * i + 1], out[4 * i + 2], out[4 * i + 3] = a, b, c, d
