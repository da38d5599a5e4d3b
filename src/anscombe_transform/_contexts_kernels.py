"""The compiled loops of the arithmetic coder with contexts, and of the classes that these share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from anscombe_transform._frame_kernels import compiled
from anscombe_transform._model_kernels import CONTEXTS
from anscombe_transform._parts_of_kernels import inner, row, share_nothing

if TYPE_CHECKING:
    import numpy.typing as npt

    AnyArray = npt.NDArray[Any]

ACTIVITIES = 4
FIRST = ACTIVITIES * CONTEXTS
"""Context of the symbols of the first frame."""

ESCAPE = 255
DIGITS = 12
LANES = 8


# --- the coder ----------------------------------------------------------------------------------------------


@compiled
def _encode_row(
    low: AnyArray,
    high: AnyArray,
    context: AnyArray,
    class_of: AnyArray,
    frequency: AnyArray,
    inverse: AnyArray,
    states: AnyArray,
    words: AnyArray,
    end: int,
    more: AnyArray,
    kept: int,
) -> tuple[int, int]:
    """Code the symbols of a row from its last to its first."""
    share_nothing()
    wide = high.size > 0
    for i in range(low.size - 1, -1, -1):
        here = np.uint64(i)
        s = np.uint64(low[here])
        at = np.uint64(np.uint64(class_of[np.uint64(context[here])]) << np.uint64(8))
        entry = frequency[at | s]
        if entry == 0 or s == ESCAPE or (wide and high[here] != 0):
            if wide:
                kept -= 1
                more[kept] = high[here]
            kept -= 1
            more[kept] = low[here]
            s = np.uint64(ESCAPE)
            entry = frequency[at | s]
        f = np.int64(entry & np.uint32(0xFFFF))
        lane = np.uint64(here & np.uint64(7))
        v = states[lane]
        full = np.int64(v >= (f << 20))
        words[np.uint64(end - 1)] = np.uint16(v)
        end -= int(full)
        v >>= full << 4
        quotient = np.int64(np.float64(v) * inverse[at | s])
        states[lane] = (quotient << DIGITS) + (v - quotient * f) + np.int64(entry >> np.uint32(16))
    return end, kept


@compiled
def encode_symbols(
    low: AnyArray,
    high: AnyArray,
    context: AnyArray,
    width: int,
    class_of: AnyArray,
    frequency: AnyArray,
    start: AnyArray,
    words: AnyArray,
    more: AnyArray,
) -> tuple[int, int]:
    """Code symbols from the last to the first, towards the front of `words` (uint16) and `more` (uint8).

    Returns where the two begin: in the words the eight states, low halves first, then what they shed. There
    has to be room for a word of each symbol and sixteen, and for as many bytes more as the symbols have.
    """
    inverse, both = np.empty(frequency.size), np.empty(frequency.size, np.uint32)
    for k in range(frequency.size):
        both[k] = np.uint32(frequency[k]) | np.uint32(start[k]) << 16 if frequency[k] else 0
        # So little too large that no quotient below 2 ** 32 is rounded up to a whole number.
        inverse[k] = (1.0 + 2.0**-51) / frequency[k] if frequency[k] else 0.0
    states = np.full(LANES, 1 << 16, np.int64)
    end, kept = words.size, more.size
    wide = high.size > 0
    rows = low.size // width
    for y in range(rows - 1, -1, -1):
        begins = y * width
        line, context_line = row(low, begins, begins + width), row(context, begins, begins + width)
        beyond = row(high, begins, begins + width) if wide else high
        end, kept = _encode_row(
            line, beyond, context_line, class_of, both, inverse, states, words, end, more, kept
        )
    end -= 2 * LANES
    for k in range(LANES):
        words[end + 2 * k] = np.uint16(states[k] & 0xFFFF)
        words[end + 2 * k + 1] = np.uint16(states[k] >> 16)
    return end, kept


@compiled
def fill_slots(frequency: AnyArray, start: AnyArray, symbol_at: AnyArray, both: AnyArray) -> None:
    """The symbol of each of the 2 ** 12 places of each class, and its frequency with where it begins."""
    for k in range(frequency.size):
        f, first = np.int64(frequency[k]), np.int64(start[k])
        both[k] = np.uint32(f | first << 16)
        at = (k >> 8 << DIGITS) + first
        for j in range(f):
            symbol_at[at + j] = np.uint8(k & 255)


@inner
def decode_row(
    words: AnyArray,
    at: int,
    context: AnyArray,
    class_of: AnyArray,
    symbol_at: AnyArray,
    both: AnyArray,
    states: AnyArray,
    out: AnyArray,
) -> int:
    """Symbols of a row; returns where its next word stands, one per symbol behind `at` at most."""
    share_nothing()
    for i in range(out.size):
        lane = np.uint64(i & 7)
        v = states[lane]
        own = np.uint64(class_of[np.uint64(context[i])])
        place = np.uint32(v & np.uint32(4095))
        s = symbol_at[np.uint64(np.uint64(own << np.uint64(DIGITS)) | np.uint64(place))]
        out[i] = s
        entry = both[np.uint64(np.uint64(own << np.uint64(8)) | np.uint64(s))]
        rest = np.uint32(place - np.uint32(entry >> np.uint32(16)))
        f = np.uint32(entry & np.uint32(0xFFFF))
        v = np.uint32(np.uint32(f * np.uint32(v >> np.uint32(DIGITS))) + rest)
        short = v < np.uint32(65536)
        longer = np.uint32(np.uint32(v << np.uint32(16)) | np.uint32(words[np.uint64(at)]))
        states[lane] = longer if short else v
        at += int(short)
    return at


@compiled
def decode_first(
    symbols: AnyArray,
    class_of: AnyArray,
    symbol_at: AnyArray,
    both: AnyArray,
    words: AnyArray,
    more: AnyArray,
    begun: AnyArray,
) -> bool:
    """Symbols of the first frame (plane, y, x); `begun` are the states and what is taken of words and bytes.

    Behind the words there has to be room for a row of them.
    """
    planes, height, width = symbols.shape
    wide = symbols.itemsize == 2
    value = symbols.dtype.type
    found, context = np.empty(width, np.uint8), np.empty(width, np.uint16)
    for x in range(width):
        context[x] = FIRST
    states = np.empty(LANES, np.uint32)
    for k in range(LANES):
        states[k] = begun[k]
    at, taken, last = begun[LANES], begun[LANES + 1], words.size - width
    for plane in range(planes):
        for y in range(height):
            if at > last:
                return False
            at = decode_row(words, at, context, class_of, symbol_at, both, states, found)
            for x in range(width):
                symbol = np.int64(found[x])
                if symbol == ESCAPE:
                    if taken + (2 if wide else 1) > more.size:
                        return False
                    symbol = np.int64(more[taken])
                    taken += 1
                    if wide:
                        symbol += np.int64(more[taken]) << 8
                        taken += 1
                symbols[plane, y, x] = value(symbol)
    for k in range(LANES):
        begun[k] = states[k]
    begun[LANES], begun[LANES + 1] = at, taken
    return True


# --- classes ------------------------------------------------------------------------------------------------


@compiled
def count_symbols(
    low: AnyArray, high: AnyArray, contexts: AnyArray, width: int, step: int, out: AnyArray
) -> None:
    """How often each symbol occurs in each context (context, symbol), in every `step`-th row."""
    wide = high.size > 0
    for y in range(0, low.size // width, step):
        for i in range(y * width, (y + 1) * width):
            s = low[i]
            if wide and high[i] != 0:
                s = np.uint8(ESCAPE)
            out[np.uint64(contexts[i]), np.uint64(s)] += np.uint32(1)


@compiled
def _coded(one: AnyArray, other: AnyArray) -> float:
    """Bits that symbols take whose counts are the sums of two."""
    total, bits = 0.0, 0.0
    for k in range(one.size):
        n = one[k] + other[k]
        if n > 0:
            total += n
            bits -= n * np.log2(n)
    return bits + total * np.log2(total) if total > 0 else 0.0


@compiled
def join_contexts(counts: AnyArray, price: float, most: int, ends: AnyArray) -> int:
    """Join neighbouring contexts to classes while that costs less than a class; writes where each ends.

    The contexts of one activity follow each other, and classes keep within it. `counts` is spoilt. Returns
    the number of classes.
    """
    n, kinds = counts.shape
    per = n // ACTIVITIES
    nothing = np.zeros(kinds)
    bits, loss = np.zeros(n), np.zeros(n)
    after, before = np.zeros(n, np.int64), np.zeros(n, np.int64)
    for k in range(n):
        after[k], before[k] = k + 1, k - 1
        bits[k] = _coded(row(counts, k, 0, kinds), nothing)
    for k in range(n):
        loss[k] = np.inf
        if (k + 1) % per:
            joined = _coded(row(counts, k, 0, kinds), row(counts, k + 1, 0, kinds))
            loss[k] = joined - bits[k] - bits[k + 1]
    left = n
    while True:
        k = 0
        for j in range(n):
            if loss[j] < loss[k]:
                k = j
        if loss[k] == np.inf or (loss[k] > price and left <= most):
            break
        m = after[k]
        bits[k] += bits[m] + loss[k]
        for j in range(kinds):
            counts[k, j] += counts[m, j]
        after[k] = after[m]
        if after[m] < n:
            before[after[m]] = k
        loss[m] = np.inf
        left -= 1
        loss[k] = np.inf
        if after[k] < n and after[k] % per:
            m = after[k]
            joined = _coded(row(counts, k, 0, kinds), row(counts, m, 0, kinds))
            loss[k] = joined - bits[k] - bits[m]
        if before[k] >= 0 and k % per:
            m = before[k]
            joined = _coded(row(counts, m, 0, kinds), row(counts, k, 0, kinds))
            loss[m] = joined - bits[m] - bits[k]
    found = 0
    k = 0
    while k < n:
        ends[found] = after[k]
        found += 1
        k = after[k]
    return found


@compiled
def share_out(counts: AnyArray, out: AnyArray) -> None:
    """Frequencies of the symbols of a class, which sum to 2 ** 12; rare symbols are left to the escape."""
    whole = 1 << DIGITS
    total = 0.0
    for s in range(256):
        total += counts[s]
    rest = whole
    for s in range(256):
        share = counts[s] * whole / total if total > 0 else 0.0
        f = 0
        if s == ESCAPE or share >= 0.2:
            f = max(1, int(share + 0.5))
        out[s] = f
        rest -= f
    while rest != 0:
        most = 0
        for s in range(256):
            if out[s] > out[most]:
                most = s
        step = max(1, int(out[most]) >> 3)
        if rest > 0:
            step = rest if total == 0 or rest < step else step
            out[most] += step
            rest -= step
        else:
            step = min(step, -rest)
            out[most] -= step
            rest += step
