"""The compiled loops of the frame coder's running mean; each has a plain numpy twin in the tests.

Codes are contiguous arrays of native byte order; residuals are integers of the same type, modulo its range.
The state of a pixel is its running mean in 1/128 code: int16 holds it for codes of one byte, int32 for two.
Intermediate results are cast at every step, since numba widens sums to 64 bits, which costs the SIMD lanes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from numba import njit

from anscombe_transform._parts_of_kernels import INNER, at_least, bits_set, lowest_bit, row, share_nothing

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    AnyArray = npt.NDArray[Any]

_Function = TypeVar("_Function", bound="Callable[..., Any]")


def compiled(function: _Function) -> _Function:
    """Compile on first use; the type of the plain function stays."""
    options = INNER if function.__name__.startswith("_") else {}
    return cast("_Function", njit(nogil=True, cache=True, **options)(function))


FRACTION = 7
"""Binary digits of the state behind the point."""

BLOCK = 8192
"""Pixels whose state stays in the first caches while the loop runs through time."""


@compiled
def rate_at(k: int, t: int) -> int:
    """Shift of the update at frame t >= 1: a plain mean of the first frames, then an exponential one."""
    n = 1
    while n < k and (t >> n) > 0:
        n += 1
    return n


@compiled
def _first_residual(q: AnyArray, out: AnyArray) -> None:
    """Residuals of one plane (y, x): (NW + 2 N + NE + 2) >> 2; N at the sides; W in the first row."""
    share_nothing()
    height, width = q.shape
    value = out.dtype.type
    out[0, 0] = q[0, 0]
    for x in range(1, width):
        out[0, x] = value(np.int32(q[0, x]) - np.int32(q[0, x - 1]))
    for y in range(1, height):
        above, here, target = row(q, y - 1, 0, width), row(q, y, 0, width), row(out, y, 0, width)
        for x in range(1, width - 1):
            outer = np.int32(np.int32(above[x - 1]) + np.int32(above[x + 1]))
            total = np.int32(outer + np.int32(np.int32(above[x]) << np.int32(1)))
            target[x] = value(np.int32(here[x]) - np.int32(np.int32(total + np.int32(2)) >> np.int32(2)))
        target[0] = value(np.int32(here[0]) - np.int32(above[0]))
        target[width - 1] = value(np.int32(here[width - 1]) - np.int32(above[width - 1]))


@compiled
def _first_restore(r: AnyArray, q: AnyArray) -> None:
    """Inverse of `_first_residual`."""
    share_nothing()
    height, width = q.shape
    value = q.dtype.type
    q[0, 0] = r[0, 0]
    for x in range(1, width):
        q[0, x] = value(np.int32(r[0, x]) + np.int32(q[0, x - 1]))
    for y in range(1, height):
        above, here, source = row(q, y - 1, 0, width), row(q, y, 0, width), row(r, y, 0, width)
        for x in range(1, width - 1):
            outer = np.int32(np.int32(above[x - 1]) + np.int32(above[x + 1]))
            total = np.int32(outer + np.int32(np.int32(above[x]) << np.int32(1)))
            here[x] = value(np.int32(source[x]) + np.int32(np.int32(total + np.int32(2)) >> np.int32(2)))
        here[0] = value(np.int32(source[0]) + np.int32(above[0]))
        here[width - 1] = value(np.int32(source[width - 1]) + np.int32(above[width - 1]))


@compiled
def begin(q: AnyArray, state: AnyArray) -> None:
    """The state of pixels after their first frame."""
    share_nothing()
    wide = state.dtype.type
    for i in range(q.size):
        state[i] = wide(wide(q[i]) << wide(7))


@compiled
def _frame_residual(q: AnyArray, out: AnyArray, state: AnyArray, k: np.int16) -> None:
    """Residuals of some pixels of one frame, and the update of their state."""
    share_nothing()
    value, wide = out.dtype.type, state.dtype.type
    # A mask on a short integer tells the compiler that the shift is short, without which it widens the lanes.
    shift = wide(k & 15)
    half = wide(wide(1) << wide(shift - wide(1)))
    for i in range(q.size):
        mean, code = wide(state[i]), wide(q[i])
        out[i] = value(wide(code - wide(wide(mean + wide(64)) >> wide(7))))
        step = wide(wide(wide(code << wide(7)) - mean) + half)
        state[i] = wide(mean + wide(step >> wide(shift & wide(15))))


@compiled
def _frame_restore(r: AnyArray, q: AnyArray, state: AnyArray, k: np.int16) -> None:
    """Inverse of `_frame_residual`."""
    share_nothing()
    value, wide = q.dtype.type, state.dtype.type
    shift = wide(k & 15)
    half = wide(wide(1) << wide(shift - wide(1)))
    for i in range(r.size):
        mean = wide(state[i])
        restored = value(wide(wide(r[i]) + wide(wide(mean + wide(64)) >> wide(7))))
        q[i] = restored
        step = wide(wide(wide(wide(restored) << wide(7)) - mean) + half)
        state[i] = wide(mean + wide(step >> wide(shift & wide(15))))


@compiled
def running_residual(q: AnyArray, k: int, state: AnyArray, out: AnyArray) -> None:
    """Residuals of codes (time, plane, y, x) under the running mean of rate k; `state` is scratch."""
    frames, planes, height, width = q.shape
    size = planes * height * width
    for plane in range(planes):
        _first_residual(row(q, 0, plane, 0, height), row(out, 0, plane, 0, height))
    for start in range(0, size, BLOCK):
        stop = min(size, start + BLOCK)
        part = row(state, 0, stop - start)
        begin(row(q, 0, 0, 0, start, stop), part)
        for t in range(1, frames):
            codes, target = row(q, t, 0, 0, start, stop), row(out, t, 0, 0, start, stop)
            _frame_residual(codes, target, part, np.int16(rate_at(k, t)))


@compiled
def running_restore(r: AnyArray, k: int, state: AnyArray, q: AnyArray) -> None:
    """Inverse of `running_residual`."""
    frames, planes, height, width = q.shape
    size = planes * height * width
    for plane in range(planes):
        _first_restore(row(r, 0, plane, 0, height), row(q, 0, plane, 0, height))
    for start in range(0, size, BLOCK):
        stop = min(size, start + BLOCK)
        part = row(state, 0, stop - start)
        begin(row(q, 0, 0, 0, start, stop), part)
        for t in range(1, frames):
            source, codes = row(r, t, 0, 0, start, stop), row(q, t, 0, 0, start, stop)
            _frame_restore(source, codes, part, np.int16(rate_at(k, t)))


@compiled
def split(r: AnyArray, bias: Any, low: AnyArray, high: AnyArray) -> None:
    """Two-byte integers as a plane of low bytes and one of high bytes of the integer plus `bias`."""
    for i in range(r.size):
        v = np.uint16(r[i])
        low[i] = np.uint8(v)
        high[i] = np.uint8(np.uint16(v + bias) >> np.uint16(8))


@compiled
def join(low: AnyArray, high: AnyArray, bias: Any, r: AnyArray) -> None:
    """Inverse of `split`: the low byte is signed where the bias is 128."""
    flip = np.uint16(bias)
    for i in range(r.size):
        signed = np.uint16(np.uint16(np.uint16(low[i]) ^ flip) - flip)
        r[i] = np.uint16(signed + np.uint16(np.uint16(high[i]) << np.uint16(8)))


_SPAN = 4096
"""Symbols that become pairs, or pairs symbols, before their escapes follow: they stay in the first cache."""

_USUAL = 6
"""Escapes of 64 symbols that are moved without asking whether there are so many."""


@compiled
def _to_digits(values: AnyArray, bias: Any, escape: Any, out: AnyArray) -> None:
    """Two symbols in a byte."""
    share_nothing()
    for i in range(out.size):
        a, b = np.uint8(values[2 * i] + bias), np.uint8(values[2 * i + 1] + bias)
        out[i] = np.uint8(min(a, escape) | np.uint8(min(b, escape) << np.uint8(4)))


@compiled
def _from_digits(pairs: AnyArray, bias: Any, values: AnyArray) -> Any:
    """Inverse of `_to_digits`; the largest digit."""
    share_nothing()
    largest = np.uint8(0)
    for i in range(pairs.size):
        v = np.uint8(pairs[i])
        a, b = np.uint8(v & np.uint8(15)), np.uint8(v >> np.uint8(4))
        values[2 * i] = np.uint8(a - bias)
        values[2 * i + 1] = np.uint8(b - bias)
        largest = max(largest, max(a, b))
    return largest


@compiled
def _largest(values: AnyArray) -> Any:
    share_nothing()
    largest = np.uint8(0)
    for i in range(values.size):
        largest = max(largest, np.uint8(values[i]))
    return largest


@compiled
def pair(values: AnyArray, bias: Any, escape: Any, out: AnyArray) -> int:
    """Two symbols in a byte, as digits of four bits, the first one low, and large ones behind all pairs.

    Symbols are the values plus `bias`, modulo 256. Those from `escape` on have it as their digit, and follow
    less `escape`. Both are uint8; `escape` is at most 15. `out` has room for the pairs, an escape of every
    symbol and eight bytes more; returns the bytes that were used.
    """
    end = (values.size + 1) // 2
    whole = values.size & ~63
    less = np.uint8(bias - escape)
    for start in range(0, whole, _SPAN):
        stop = min(whole, start + _SPAN)
        _to_digits(row(values, start, stop), bias, escape, row(out, start // 2, stop // 2))
        for i in range(start, stop, 64):
            left = at_least(values, i, bias, escape)
            following = end + bits_set(left)
            # Unsigned, as an index that may be negative is looked at twice.
            place, to = np.uint64(i), np.uint64(end)
            for k in range(_USUAL):
                symbol = np.uint8(values[place + np.uint64(lowest_bit(left) & np.uint64(63))] + less)
                out[to + np.uint64(k)] = symbol
                left &= np.uint64(left - np.uint64(1))
            for k in range(end + _USUAL, following):
                out[k] = np.uint8(values[place + lowest_bit(left)] + less)
                left &= np.uint64(left - np.uint64(1))
            end = following
    for i in range(whole, values.size):
        symbol = np.uint8(values[i] + bias)
        digit = min(symbol, escape)
        if i & 1:
            out[i >> 1] |= np.uint8(digit << np.uint8(4))
        else:
            out[i >> 1] = digit
        if symbol >= escape:
            out[end] = np.uint8(symbol - escape)
            end += 1
    return end


@compiled
def unpair(data: AnyArray, bias: Any, escape: Any, values: AnyArray) -> bool:
    """Inverse of `pair`; False if the data are none of its results."""
    behind = end = (values.size + 1) // 2
    if data.size < end or (values.size & 1 and data[end - 1] > 15):
        return False
    whole = values.size & ~63
    more = np.uint8(escape - bias)
    largest = np.uint8(0)
    places = np.empty(_SPAN + 64, np.uint64)
    for start in range(0, whole, _SPAN):
        stop = min(whole, start + _SPAN)
        digit = _from_digits(row(data, start // 2, stop // 2), bias, row(values, start, stop))
        largest = max(largest, digit)
        found = 0
        for i in range(start, stop, 64):
            left = at_least(values, i, bias, escape)
            following = found + bits_set(left)
            place, to = np.uint64(i), np.uint64(found)
            for k in range(_USUAL):
                places[to + np.uint64(k)] = place + lowest_bit(left)
                left &= np.uint64(left - np.uint64(1))
            for k in range(found + _USUAL, following):
                places[k] = place + lowest_bit(left)
                left &= np.uint64(left - np.uint64(1))
            found = following
        if end + found > data.size:
            return False
        for k in range(found):
            values[places[k]] = np.uint8(data[end + k] + more)
        end += found
    for i in range(whole, values.size):
        digit = np.uint8(np.uint8(data[i >> 1] >> np.uint8(4 * (i & 1))) & np.uint8(15))
        largest = max(largest, digit)
        values[i] = np.uint8(digit - bias)
        if digit >= escape:
            if end >= data.size:
                return False
            values[i] = np.uint8(data[end] + more)
            end += 1
    highest = _largest(row(data, behind, end))
    return bool((end == data.size) & (largest <= escape) & (highest <= np.uint8(255) - escape))


@compiled
def _count(r: AnyArray, counts: AnyArray) -> None:
    """Add the bytes of `r` to four interleaved histograms (4, 256), which keep equal bytes from waiting."""
    share_nothing()
    end = r.size & ~3
    for i in range(0, end, 4):
        counts[0, r[i]] += 1
        counts[1, r[i + 1]] += 1
        counts[2, r[i + 2]] += 1
        counts[3, r[i + 3]] += 1
    for i in range(end, r.size):
        counts[0, r[i]] += 1


@compiled
def byte_entropy(r: AnyArray) -> float:
    """Bits that the bytes of a flat array have each, at least, if coded one by one."""
    counts = np.zeros((4, 256), np.uint32)
    _count(row(r, 0, r.size), counts)
    total = 0.0
    for v in range(256):
        n = counts[0, v] + counts[1, v] + counts[2, v] + counts[3, v]
        if n:
            total += n * np.log2(r.size / n)
    return total / max(r.size, 1)


_WINDOWS, _WINDOW = 16, 64


@compiled
def zstd_may_pay(data: AnyArray, words: AnyArray, size: int) -> bool:
    """Whether zstd may make less than so many bytes of these, by the entropy of single ones or by matches.

    Matches are worth trying where more than a hundredth of a sample of bytes begin eight that stand elsewhere
    as well. `words` are the bytes eight by eight, all but the last few. The sample are windows all over the
    bytes, which are compared with the word whose hash is theirs.
    """
    if byte_entropy(data) * data.size < 8 * size:
        return True
    places = np.zeros(2048, np.int64)
    factor, shift = np.uint64(0x9E3779B97F4A7C15), np.uint64(53)
    for k in range(words.size):
        places[np.uint64(np.uint64(words[k] * factor) >> shift)] = k
    seen = 0
    if words.size < 2:
        return False
    length = min(_WINDOW, 8 * words.size - 8)
    for w in range(_WINDOWS):
        start = w * (8 * words.size - 8 - length) // (_WINDOWS - 1)
        word = np.uint64(0)
        for i in range(start, start + length + 7):
            word = np.uint64(word >> np.uint64(8)) | np.uint64(np.uint64(data[i]) << np.uint64(56))
            first = i - 7
            if first >= start:
                found = places[np.uint64(np.uint64(word * factor) >> shift)]
                seen += (words[found] == word) & (8 * found != first)
    return bool(100 * seen > _WINDOWS * length)
