"""The compiled loops of the arithmetic coder with contexts, and of the classes that these share.

Thirty-two states take turns: one instruction serves several, and none waits long for another. Pixel x of a
row is coded by state x mod 32. A law is 32 bits that say all of a symbol in a class: where its places begin,
how many they are less one, and the symbol itself, in 12, 12 and 8 bits. Rows are filled up to multiples of 32
by a symbol that has all places, which changes no state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

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
LANES = 32
SPAN = (1 << DIGITS) + 4 * 256
"""Bytes of the table of a class for decoding: the symbol of every place, then the laws of the symbols."""

_EMPTY = 4095 << 8


# --- all states at once -------------------------------------------------------------------------------------

_BYTE, _SHORT, _WORD, _LONG = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_BYTES, _SHORTS, _WORDS = (ir.VectorType(kind, LANES) for kind in (_BYTE, _SHORT, _WORD))
_FLOATS = ir.VectorType(ir.FloatType(), LANES)


def _all(value: float, kind: Any = _WORDS) -> Any:
    """The same number in every lane."""
    return ir.Constant(kind, [value] * LANES)


def _pointer(context: Any, builder: Any, kind: Any, array: Any, at: Any, to: Any) -> Any:
    """Pointer to an element of an array, as one to something else."""
    place = builder.gep(context.make_array(kind)(context, builder, array).data, [at])
    return builder.bitcast(place, to.as_pointer())


def _lanes_in(_: Any, states: Any, laws: Any, at: Any, shed: Any) -> Any:
    """Code a symbol by each state; which of these shed a word, one bit each, and all low halves in `shed`.

    Nothing is checked: the arrays have to hold them.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        nought = ir.Constant(_LONG, 0)
        state_at = _pointer(context, builder, states, arguments[0], nought, _WORDS)
        state = builder.load(state_at, align=4)
        law = builder.load(_pointer(context, builder, laws, arguments[1], arguments[2], _WORDS), align=4)
        f = builder.add(builder.and_(builder.lshr(law, _all(8)), _all(4095)), _all(1))
        full = builder.icmp_unsigned(">=", builder.lshr(state, _all(20)), f)
        halves = builder.trunc(state, _SHORTS)
        builder.store(halves, _pointer(context, builder, shed, arguments[3], nought, _SHORTS), align=2)
        state = builder.select(full, builder.lshr(state, _all(16)), state)
        # state / f < 2 ** 20 by numbers of 24 bits: off by one at most, which the remainder tells. What the
        # shift loses is less than 1 / f, and for f of 1 and 2 all else is exact.
        twice = builder.fdiv(_all(2.0, _FLOATS), builder.sitofp(f, _FLOATS))
        half = builder.sitofp(builder.lshr(state, _all(1)), _FLOATS)
        quotient = builder.fptosi(builder.fmul(half, twice), _WORDS)
        rest = builder.sub(state, builder.mul(quotient, f))
        quotient = builder.add(quotient, builder.sext(builder.icmp_signed("<", rest, _all(0)), _WORDS))
        quotient = builder.sub(quotient, builder.sext(builder.icmp_signed(">=", rest, f), _WORDS))
        more = builder.mul(quotient, builder.sub(_all(1 << DIGITS), f))
        state = builder.add(builder.add(state, builder.lshr(law, _all(20))), more)
        builder.store(state, state_at, align=4)
        return builder.zext(builder.bitcast(full, ir.IntType(LANES)), _LONG)

    return types.uint64(states, laws, types.intp, shed), generate


_code_lanes: Any = intrinsic(_lanes_in)


def _lanes_out(_: Any, states: Any, tables: Any, own: Any, i: Any, words: Any, at: Any, out: Any) -> Any:
    """Inverse: symbols of a row from `i` on, by the tables that begin at `own`; where the next word stands.

    Nothing is checked: the arrays have to hold them, and `words` one more than the states take.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first, at = arguments[3], arguments[5]
        nought = ir.Constant(_LONG, 0)
        state_at = _pointer(context, builder, states, arguments[0], nought, _WORDS)
        state = builder.load(state_at, align=4)
        place = builder.and_(state, _all((1 << DIGITS) - 1))
        law = ir.Constant(_WORDS, ir.Undefined)
        owned = context.make_array(own)(context, builder, arguments[2]).data
        for k in range(LANES):
            begin = builder.zext(builder.load(builder.gep(owned, [builder.add(first, _LONG(k))])), _LONG)
            table = _pointer(context, builder, tables, arguments[1], begin, _BYTE)
            symbol = builder.load(
                builder.gep(table, [builder.zext(builder.extract_element(place, _WORD(k)), _LONG)])
            )
            laws = builder.bitcast(builder.gep(table, [_LONG(1 << DIGITS)]), _WORD.as_pointer())
            found = builder.load(builder.gep(laws, [builder.zext(symbol, _LONG)]), align=4)
            law = builder.insert_element(law, found, _WORD(k))
        symbols = builder.trunc(law, _BYTES)
        builder.store(symbols, _pointer(context, builder, out, arguments[6], first, _BYTES), align=1)
        f = builder.add(builder.and_(builder.lshr(law, _all(8)), _all(4095)), _all(1))
        inside = builder.sub(place, builder.lshr(law, _all(20)))
        state = builder.add(builder.mul(f, builder.lshr(state, _all(DIGITS))), inside)
        short = builder.icmp_unsigned("<", state, _all(1 << 16))
        bits = builder.zext(builder.bitcast(short, ir.IntType(LANES)), _LONG)
        taken = ir.Constant(_SHORTS, ir.Undefined)
        listed = context.make_array(words)(context, builder, arguments[4]).data
        for k in range(LANES):
            taken = builder.insert_element(taken, builder.load(builder.gep(listed, [at])), _WORD(k))
            at = builder.add(at, builder.and_(builder.lshr(bits, _LONG(k)), _LONG(1)))
        longer = builder.or_(builder.shl(state, _all(16)), builder.zext(taken, _WORDS))
        builder.store(builder.select(short, longer, state), state_at, align=4)
        return at

    return types.intp(states, tables, own, types.intp, words, types.intp, out), generate


_decode_lanes: Any = intrinsic(_lanes_out)


# --- the coder ----------------------------------------------------------------------------------------------


@inner
def _fill_laws(frequency: AnyArray, laws: AnyArray) -> None:
    """Laws of the symbols of a class; those that have no place have that of the escape."""
    start = 0
    for s in range(256):
        laws[s] = start << 20 | (frequency[s] - 1) << 8 | s if frequency[s] else 0
        start += int(frequency[s])
    for s in range(256):
        if frequency[s] == 0:
            laws[s] = laws[ESCAPE]


@inner
def _find_laws(
    low: AnyArray,
    high: AnyArray,
    context: AnyArray,
    class_of: AnyArray,
    laws: AnyArray,
    out: AnyArray,
    more: AnyArray,
    kept: int,
) -> int:
    """Laws of the symbols of a row; those that escape go to the front of `more`, the last one first."""
    share_nothing()
    wide = high.size > 0
    for i in range(low.size - 1, -1, -1):
        here = np.uint64(i)
        own = np.uint64(np.uint64(class_of[np.uint64(context[here])]) << np.uint64(8))
        law = laws[own | np.uint64(low[here])]
        if wide and high[here] != 0:
            law = laws[own | np.uint64(ESCAPE)]
        if np.uint8(law) == ESCAPE:
            if wide:
                kept -= 1
                more[np.uint64(kept)] = high[here]
            kept -= 1
            more[np.uint64(kept)] = low[here]
        out[here] = law
    return kept


@inner
def _code_row(laws: AnyArray, states: AnyArray, shed: AnyArray, words: AnyArray, end: int) -> int:
    """Code the symbols of a row of laws from its last to its first."""
    share_nothing()
    for i in range(laws.size - LANES, -1, -LANES):
        full = _code_lanes(states, laws, i, shed)
        for k in range(LANES - 1, -1, -1):
            words[np.uint64(end - 1)] = shed[k]
            end -= int(np.uint64(full >> np.uint64(k)) & np.uint64(1))
    return end


@compiled
def encode_symbols(
    low: AnyArray,
    high: AnyArray,
    context: AnyArray,
    width: int,
    class_of: AnyArray,
    frequency: AnyArray,
    words: AnyArray,
    more: AnyArray,
) -> tuple[int, int]:
    """Code symbols from the last to the first, towards the front of `words` (uint16) and `more` (uint8).

    `frequency` is (class, symbol). Returns where the two begin: in the words the states, low halves first,
    then what they shed. There has to be room for a word of each symbol and two of each state, and for as many
    bytes more as the symbols have.
    """
    laws = np.empty(frequency.size, np.uint32)
    for k in range(len(frequency)):
        _fill_laws(row(frequency, k, 0, 256), row(laws, 256 * k, 256 * k + 256))
    line = np.full((width + LANES - 1) // LANES * LANES, _EMPTY, np.uint32)
    states, shed = np.full(LANES, 1 << 16, np.uint32), np.empty(LANES, np.uint16)
    end, kept = words.size, more.size
    for y in range(low.size // width - 1, -1, -1):
        begins = y * width
        ends = begins + width
        beyond = row(high, begins, ends) if high.size > 0 else high
        kept = _find_laws(
            row(low, begins, ends), beyond, row(context, begins, ends), class_of, laws, line, more, kept
        )
        end = _code_row(line, states, shed, words, end)
    end -= 2 * LANES
    for k in range(LANES):
        words[end + 2 * k] = np.uint16(states[k] & np.uint32(0xFFFF))
        words[end + 2 * k + 1] = np.uint16(states[k] >> np.uint32(16))
    return end, kept


@compiled
def fill_tables(frequency: AnyArray, tables: AnyArray, laws: AnyArray) -> None:
    """The tables of all classes for decoding, `SPAN` bytes each; `laws` is the same memory, in words.

    One table more is of the symbol that fills rows up.
    """
    span = SPAN // 4
    for k in range(len(frequency)):
        f = row(frequency, k, 0, 256)
        at = SPAN * k
        for s in range(256):
            for _ in range(f[s]):
                tables[at] = s
                at += 1
        _fill_laws(f, row(laws, span * (k + 1) - 256, span * (k + 1)))
    for i in range(SPAN * len(frequency), tables.size):
        tables[i] = 0
    laws[span * (len(frequency) + 1) - 256] = _EMPTY


@inner
def decode_row(
    words: AnyArray,
    at: int,
    context: AnyArray,
    table_of: AnyArray,
    tables: AnyArray,
    own: AnyArray,
    states: AnyArray,
    out: AnyArray,
) -> int:
    """Symbols of a row; returns where its next word stands, one per symbol behind `at` at most.

    `table_of` says where the table of each context begins, `own` where that of each pixel does, which is of
    the last table beyond the row. The word behind the row's last is looked at, whatever it is.
    """
    share_nothing()
    for i in range(context.size):
        own[i] = table_of[np.uint64(context[i])]
    for i in range(0, own.size, LANES):
        at = _decode_lanes(states, tables, own, i, words, at, out)
    return at


@inner
def row_of_symbols(width: int, tables: AnyArray) -> tuple[AnyArray, AnyArray, AnyArray]:
    """Scratch to decode rows with: contexts, where their tables begin, and symbols."""
    whole = (width + LANES - 1) // LANES * LANES
    own = np.full(whole, tables.size - SPAN, np.uint32)
    return np.empty(width, np.uint16), own, np.empty(whole, np.uint8)


@compiled
def decode_first(
    symbols: AnyArray,
    table_of: AnyArray,
    tables: AnyArray,
    words: AnyArray,
    more: AnyArray,
    states: AnyArray,
    taken: AnyArray,
) -> bool:
    """Symbols of the first frame (plane, y, x); `taken` is how many words and bytes more are.

    Behind the words there has to be room for a row of them and one.
    """
    planes, height, width = symbols.shape
    wide = symbols.itemsize == 2
    value = symbols.dtype.type
    context, own, found = row_of_symbols(width, tables)
    for x in range(width):
        context[x] = FIRST
    at, known, last = taken[0], taken[1], words.size - width - 1
    for plane in range(planes):
        for y in range(height):
            if at > last:
                return False
            at = decode_row(words, at, context, table_of, tables, own, states, found)
            for x in range(width):
                symbol = np.int64(found[x])
                if symbol == ESCAPE:
                    if known + (2 if wide else 1) > more.size:
                        return False
                    symbol = np.int64(more[known])
                    known += 1
                    if wide:
                        symbol += np.int64(more[known]) << 8
                        known += 1
                symbols[plane, y, x] = value(symbol)
    taken[0], taken[1] = at, known
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
    """Frequencies of the symbols of a class, of the counts in its contexts (context, symbol).

    They sum to 2 ** 12; rare symbols are left to the escape.
    """
    whole = 1 << DIGITS
    sums = np.zeros(256)
    for k in range(len(counts)):
        for s in range(256):
            sums[s] += counts[k, s]
    total = 0.0
    for s in range(256):
        total += sums[s]
    rest = whole
    for s in range(256):
        share = sums[s] * whole / total if total > 0 else 0.0
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
