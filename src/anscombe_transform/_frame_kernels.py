"""The compiled loops of the frame coder's running mean; each has a plain numpy twin in the tests.

Codes are contiguous arrays of native byte order; residuals are integers of the same type, modulo its range.
The state of a pixel is its running mean in 1/128 code: int16 holds it for codes of one byte, int32 for two.
Intermediate results are cast at every step, since numba widens sums to 64 bits, which costs the SIMD lanes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    AnyArray = npt.NDArray[Any]

_Function = TypeVar("_Function", bound="Callable[..., Any]")


def compiled(function: _Function) -> _Function:
    """Compile on first use; the type of the plain function stays."""
    return cast("_Function", njit(nogil=True, cache=True)(function))


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
    height, width = q.shape
    value = out.dtype.type
    out[0, 0] = q[0, 0]
    for x in range(1, width):
        out[0, x] = value(np.int32(q[0, x]) - np.int32(q[0, x - 1]))
    for y in range(1, height):
        above, row, target = q[y - 1], q[y], out[y]
        for x in range(1, width - 1):
            outer = np.int32(np.int32(above[x - 1]) + np.int32(above[x + 1]))
            total = np.int32(outer + np.int32(np.int32(above[x]) << np.int32(1)))
            target[x] = value(np.int32(row[x]) - np.int32(np.int32(total + np.int32(2)) >> np.int32(2)))
        target[0] = value(np.int32(row[0]) - np.int32(above[0]))
        target[width - 1] = value(np.int32(row[width - 1]) - np.int32(above[width - 1]))


@compiled
def _first_restore(r: AnyArray, q: AnyArray) -> None:
    """Inverse of `_first_residual`."""
    height, width = q.shape
    value = q.dtype.type
    q[0, 0] = r[0, 0]
    for x in range(1, width):
        q[0, x] = value(np.int32(r[0, x]) + np.int32(q[0, x - 1]))
    for y in range(1, height):
        above, row, source = q[y - 1], q[y], r[y]
        for x in range(1, width - 1):
            outer = np.int32(np.int32(above[x - 1]) + np.int32(above[x + 1]))
            total = np.int32(outer + np.int32(np.int32(above[x]) << np.int32(1)))
            row[x] = value(np.int32(source[x]) + np.int32(np.int32(total + np.int32(2)) >> np.int32(2)))
        row[0] = value(np.int32(source[0]) + np.int32(above[0]))
        row[width - 1] = value(np.int32(source[width - 1]) + np.int32(above[width - 1]))


@compiled
def begin(q: AnyArray, state: AnyArray) -> None:
    """The state of pixels after their first frame."""
    wide = state.dtype.type
    for i in range(q.size):
        state[i] = wide(wide(q[i]) << wide(7))


@compiled
def _frame_residual(q: AnyArray, out: AnyArray, state: AnyArray, k: np.int16) -> None:
    """Residuals of some pixels of one frame, and the update of their state."""
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
    frames = q.shape[0]
    size = q[0].size
    flat, target = q.reshape(frames, size), out.reshape(frames, size)
    for plane in range(q.shape[1]):
        _first_residual(q[0, plane], out[0, plane])
    for start in range(0, size, BLOCK):
        stop = min(size, start + BLOCK)
        part = state[: stop - start]
        begin(flat[0, start:stop], part)
        for t in range(1, frames):
            _frame_residual(flat[t, start:stop], target[t, start:stop], part, np.int16(rate_at(k, t)))


@compiled
def running_restore(r: AnyArray, k: int, state: AnyArray, q: AnyArray) -> None:
    """Inverse of `running_residual`."""
    frames = q.shape[0]
    size = q[0].size
    source, flat = r.reshape(frames, size), q.reshape(frames, size)
    for plane in range(q.shape[1]):
        _first_restore(r[0, plane], q[0, plane])
    for start in range(0, size, BLOCK):
        stop = min(size, start + BLOCK)
        part = state[: stop - start]
        begin(flat[0, start:stop], part)
        for t in range(1, frames):
            _frame_restore(source[t, start:stop], flat[t, start:stop], part, np.int16(rate_at(k, t)))


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


ESCAPE = 11
"""Digit of a pair that stands for this rank or any above, which follows behind the pairs."""


@compiled
def pair(ranks: AnyArray, out: AnyArray) -> int:
    """Two ranks in a byte, as digits of base 12; ranks from 11 on, less 11, behind all pairs.

    `out` has room for the pairs and an escape of every rank; returns the bytes that were used.
    """
    end = (ranks.size + 1) // 2
    for i in range(ranks.size // 2):
        a, b = np.uint32(ranks[2 * i]), np.uint32(ranks[2 * i + 1])
        out[i] = np.uint8(np.uint32(ESCAPE + 1) * min(a, np.uint32(ESCAPE)) + min(b, np.uint32(ESCAPE)))
    if ranks.size % 2:
        out[end - 1] = np.uint8(
            np.uint32(ESCAPE + 1) * min(np.uint32(ranks[ranks.size - 1]), np.uint32(ESCAPE))
        )
    words = ranks[: ranks.size & ~7].view(np.uint64)
    for w in range(words.size):
        if _any_escape(words[w]):
            end = _append(ranks, 8 * w, 8 * w + 8, out, end)
    return _append(ranks, 8 * words.size, ranks.size, out, end)


@compiled
def _any_escape(word: Any) -> bool:
    """Whether one of eight bytes is 11 or more."""
    low = np.uint64(word & np.uint64(0x7F7F7F7F7F7F7F7F)) + np.uint64(0x7575757575757575)
    return bool((np.uint64(low) | word) & np.uint64(0x8080808080808080))


@compiled
def _append(ranks: AnyArray, start: int, stop: int, out: AnyArray, end: int) -> int:
    for i in range(start, stop):
        if ranks[i] >= ESCAPE:
            out[end] = np.uint8(ranks[i] - ESCAPE)
            end += 1
    return end


@compiled
def unpair(data: AnyArray, ranks: AnyArray) -> bool:
    """Inverse of `pair`; False if the data are none of its results."""
    end = (ranks.size + 1) // 2
    if data.size < end:
        return False
    for i in range(ranks.size // 2):
        v = np.uint32(data[i])
        a = np.uint32(v // np.uint32(ESCAPE + 1))
        ranks[2 * i] = np.uint8(a)
        ranks[2 * i + 1] = np.uint8(v - np.uint32(ESCAPE + 1) * a)
    if ranks.size % 2:
        v = np.uint32(data[end - 1])
        ranks[ranks.size - 1] = np.uint8(v // np.uint32(ESCAPE + 1))
        if v % np.uint32(ESCAPE + 1):
            return False
    words = ranks[: ranks.size & ~7].view(np.uint64)
    for w in range(words.size):
        if _any_escape(words[w]):
            end = _add_escapes(ranks, 8 * w, 8 * w + 8, data, end)
            if end < 0:
                return False
    return bool(_add_escapes(ranks, 8 * words.size, ranks.size, data, end) == data.size)


@compiled
def _add_escapes(ranks: AnyArray, start: int, stop: int, data: AnyArray, at: int) -> int:
    """Put escapes in their places; where the next one is, or -1 if there is none or it is too large."""
    for i in range(start, stop):
        if ranks[i] >= ESCAPE:
            if ranks[i] > ESCAPE or at >= data.size or data[at] > 255 - ESCAPE:
                return -1
            ranks[i] = np.uint8(data[at] + np.uint8(ESCAPE))
            at += 1
    return at


@compiled
def _count(r: AnyArray, counts: AnyArray) -> None:
    """Add the bytes of `r` to four interleaved histograms (4, 256), which keep equal bytes from waiting."""
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
    _count(r, counts)
    total = 0.0
    for v in range(256):
        n = counts[0, v] + counts[1, v] + counts[2, v] + counts[3, v]
        if n:
            total += n * np.log2(r.size / n)
    return total / max(r.size, 1)
