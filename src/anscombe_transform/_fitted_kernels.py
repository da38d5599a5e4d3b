"""The compiled loops of the frame coder's method 4: a prediction fitted to every frame, ranks by context.

Levels (predictions and running means) are in 1/128 code, the weights of a set in 1/4096. Running means are
int16 for codes of one byte and int32 for two, with an edge of one pixel all round that repeats the outermost
pixels. All that a decoder computes is int32; what only the fit computes is floating point.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

from anscombe_transform import _still_kernels
from anscombe_transform._frame_kernels import compiled, rate_at
from anscombe_transform._model_kernels import CONTEXTS, LEVELS
from anscombe_transform._parts_of_kernels import INNER, row, share_nothing

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    AnyArray = npt.NDArray[Any]

TEMPORAL = 19
"""Weights of the past: 3 × 3 pixels of the fast mean, 8 of the slow one, the level, and the change."""

_TAPS, _GAINS = TEMPORAL, TEMPORAL + 5
SMALL = TEMPORAL + 9
"""All weights of a set: those of the past, of the innovations above, and the gains of the activities."""

_LEVEL, _CONSTANT = SMALL, SMALL + 1
WEIGHTS = SMALL + 2

ACTIVITIES = 4
FIRST = ACTIVITIES * CONTEXTS
"""Context of the symbols of the first frame."""

ESCAPE = 255
DIGITS = 12
LANES = 8

_CLIP = 2040
_QUIET = 128
_LOUD = 2047
_LIMIT = 32767


# --- the past -----------------------------------------------------------------------------------------------


@compiled
def _part(value: Any, weight: Any) -> Any:
    """The upper half of a product of 32 bits: one instruction for sixteen pixels."""
    return np.int16(np.int32(np.int32(value) * np.int32(weight)) >> np.int32(16))


@compiled
def _differences(state: AnyArray, out: AnyArray) -> None:
    """How far the fast means are from the slow ones, edges and all."""
    share_nothing()
    wide = state.dtype.type
    planes, height, width = out.shape
    for plane in range(planes):
        for y in range(height):
            fast, slow = row(state, 0, plane, y, 0, width), row(state, 1, plane, y, 0, width)
            apart = row(out, plane, y, 0, width)
            for i in range(width):
                found = wide(fast[i] - slow[i])
                apart[i] = np.int16(min(max(found, wide(-_LOUD)), wide(_LOUD)))


@compiled
def _changes(difference: AnyArray, plane: int, out: AnyArray) -> None:
    """The same smoothed over 3 × 3 pixels, of a plane without edges."""
    share_nothing()
    small = np.int16
    height, width = out.shape
    for y in range(height):
        d0 = row(difference, plane, y, 0, width + 2)
        d1 = row(difference, plane, y + 1, 0, width + 2)
        d2 = row(difference, plane, y + 2, 0, width + 2)
        smooth = row(out, y, 0, width)
        for i in range(width):
            corners = small(small(d0[i] + d0[i + 2]) + small(d2[i] + d2[i + 2]))
            sides = small(small(d0[i + 1] + d2[i + 1]) + small(d1[i] + d1[i + 2]))
            sides = small(sides + small(d1[i + 1] << small(1)))
            smooth[i] = small(small(corners + small(sides << small(1))) >> small(4))


@compiled
def _away_narrow(value: Any, own: Any) -> Any:
    """A difference of codes of one byte, which is within the limits anyway."""
    return np.int16(value - own)


@compiled
def _away_wide(value: Any, own: Any) -> Any:
    return np.int16(min(max(np.int32(value - own), np.int32(-_LIMIT)), np.int32(_LIMIT)))


def _surroundings_loop(narrow: bool) -> Callable[..., Any]:
    """The loop over a plane."""

    @compiled
    def _run(difference: AnyArray, state: AnyArray, plane: int, w: AnyArray, out: AnyArray) -> None:
        share_nothing()
        small = np.int16
        w0, w1, w2, w3, w4, w5, w6, w7, w8 = w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7], w[8]
        v0, v1, v2, v3, v5, v6, v7, v8 = w[9], w[10], w[11], w[12], w[13], w[14], w[15], w[16]
        height, width = out.shape
        n = width + 2
        for y in range(height):
            d0, d1 = row(difference, plane, y, 0, n), row(difference, plane, y + 1, 0, n)
            d2, total = row(difference, plane, y + 2, 0, n), row(out, y, 0, width)
            b0, b1 = row(state, 1, plane, y, 0, n), row(state, 1, plane, y + 1, 0, n)
            b2 = row(state, 1, plane, y + 2, 0, n)
            for i in range(width):
                own = b1[i + 1]
                found = small(_part(d0[i], w0) + _part(d0[i + 1], w1))
                found = small(found + small(_part(d0[i + 2], w2) + _part(d1[i], w3)))
                found = small(found + small(_part(d1[i + 1], w4) + _part(d1[i + 2], w5)))
                found = small(found + small(_part(d2[i], w6) + _part(d2[i + 1], w7)))
                found = small(found + _part(d2[i + 2], w8))
                if narrow:
                    found = small(found + _part(_away_narrow(b0[i], own), v0))
                    found = small(found + _part(_away_narrow(b0[i + 1], own), v1))
                    found = small(found + _part(_away_narrow(b0[i + 2], own), v2))
                    found = small(found + _part(_away_narrow(b1[i], own), v3))
                    found = small(found + _part(_away_narrow(b1[i + 2], own), v5))
                    found = small(found + _part(_away_narrow(b2[i], own), v6))
                    found = small(found + _part(_away_narrow(b2[i + 1], own), v7))
                    total[i] = small(found + _part(_away_narrow(b2[i + 2], own), v8))
                else:
                    found = small(found + _part(_away_wide(b0[i], own), v0))
                    found = small(found + _part(_away_wide(b0[i + 1], own), v1))
                    found = small(found + _part(_away_wide(b0[i + 2], own), v2))
                    found = small(found + _part(_away_wide(b1[i], own), v3))
                    found = small(found + _part(_away_wide(b1[i + 2], own), v5))
                    found = small(found + _part(_away_wide(b2[i], own), v6))
                    found = small(found + _part(_away_wide(b2[i + 1], own), v7))
                    total[i] = small(found + _part(_away_wide(b2[i + 2], own), v8))

    return _run


_surroundings_of_bytes = _surroundings_loop(narrow=True)
_surroundings_of_words = _surroundings_loop(narrow=False)


@compiled
def _levels(
    state: AnyArray, plane: int, total: AnyArray, change: AnyArray, w: AnyArray, top: Any, out: AnyArray
) -> None:
    """Levels of a plane, of what the surroundings add to the slow mean."""
    share_nothing()
    wide = out.dtype.type
    scale, follow, constant = w[17], w[18], np.int32(w[_CONSTANT] + np.int32(2048))
    at = np.int32(w[_LEVEL] << np.int32(4))
    height, width = out.shape
    for y in range(height):
        own, level = row(state, 1, plane, y + 1, 1, width + 1), row(out, y, 0, width)
        changed, added = row(change, y, 0, width), row(total, y, 0, width)
        for i in range(width):
            mean = np.int32(own[i])
            moved = min(max(np.int32(changed[i]), np.int32(-_QUIET)), np.int32(_QUIET))
            above = np.int32(np.int32(mean - at) >> np.int32(4))
            above = min(max(above, np.int32(-_LIMIT)), np.int32(_LIMIT))
            more = np.int32(np.int32(np.int32(moved * follow) + np.int32(above * scale)) + constant)
            found = np.int32(np.int32(more >> np.int32(12)) + np.int32(np.int32(added[i]) << np.int32(2)))
            found = np.int32(found + mean)
            level[i] = wide(min(max(found, np.int32(0)), top))


@compiled
def _small_weights(w: AnyArray, out: AnyArray) -> None:
    """Weights of pixels around and above as the loops take them, in 1/16384."""
    for k in range(17):
        out[k] = np.int16(w[k] << 2)
    for k in range(5):
        out[17 + k] = np.int16(w[_TAPS + k] << 2)


@compiled
def _frame_edges(mean: AnyArray) -> None:
    """Repeat the outermost pixels of a plane of running means in the edge around it."""
    height, width = mean.shape
    for y in range(1, height - 1):
        mean[y, 0] = mean[y, 1]
        mean[y, width - 1] = mean[y, width - 2]
    for x in range(width):
        mean[0, x] = mean[1, x]
        mean[height - 1, x] = mean[height - 2, x]


@compiled
def begin_means(q: AnyArray, state: AnyArray) -> None:
    """Running means (2, plane, y + 2, x + 2) after the first frame (plane, y, x)."""
    planes, height, width = q.shape
    value = state.dtype.type
    for plane in range(planes):
        for k in range(2):
            for y in range(height):
                for x in range(width):
                    state[k, plane, y + 1, x + 1] = value(value(q[plane, y, x]) << value(7))
            _frame_edges(row(state, k, plane, 0, height + 2))


@compiled
def _move(q: AnyArray, k: int, plane: int, shift: np.int16, state: AnyArray) -> None:
    """Move one of the running means of a plane on by its codes (y, x)."""
    share_nothing()
    wide = state.dtype.type
    half = wide(wide(1) << wide(wide(shift) - wide(1)))
    height, width = q.shape
    for y in range(height):
        line, mean = row(q, y, 0, width), row(state, k, plane, y + 1, 1, width + 1)
        for i in range(width):
            old = wide(mean[i])
            step = wide(wide(wide(wide(line[i]) << wide(7)) - old) + half)
            mean[i] = wide(old + wide(step >> wide(wide(shift) & wide(15))))


@compiled
def _move_means(q: AnyArray, rates: AnyArray, t: int, plane: int, state: AnyArray) -> None:
    """Move both, and their edges."""
    for k in range(2):
        _move(q, k, plane, np.int16(rate_at(rates[k], t)), state)
        _frame_edges(row(state, k, plane, 0, len(q) + 2))


# --- the rows above, and contexts ---------------------------------------------------------------------------


@compiled
def _look_above(
    level: AnyArray,
    s: AnyArray,
    a: AnyArray,
    change: AnyArray,
    small: AnyArray,
    gains: AnyArray,
    limits: AnyArray,
    top: Any,
    moved: AnyArray,
    gain: AnyArray,
    context: AnyArray,
    place: AnyArray,
    base: AnyArray,
) -> None:
    """Contexts of a row, of its levels and of what the rows above have shown.

    `s` and `a` are padded by two at either end; `limits` are three of the activity and the share of the
    change in it, in 1/16. `place` is where the order of a context begins in the table, `base` what it
    begins from; `moved` and `gain` are scratch.
    """
    share_nothing()
    value = base.dtype.type
    c0, c1, c2, c3, c4 = small[17], small[18], small[19], small[20], small[21]
    g0, g1, g2, g3 = gains[0], gains[1], gains[2], gains[3]
    l0, l1, l2, share = limits[0], limits[1], limits[2], limits[3]
    for i in range(moved.size):
        outer = np.int16(_part(s[i], c0) + _part(s[i + 4], c4))
        inner = np.int16(_part(s[i + 1], c1) + _part(s[i + 3], c3))
        moved[i] = np.int16(np.int16(outer + inner) + np.int16(_part(s[i + 2], c2) + np.int16(2)))
        around = np.int16(np.int16(a[i + 1] + a[i + 2]) + a[i + 3])
        around = np.int16(np.int16(a[i] + a[i + 4]) + np.int16(around << np.int16(1)))
        found = change[i]
        found = max(found, np.int16(-found))
        found = np.int16(np.int16(found * share) >> np.int16(4))
        z = np.int16(np.int16(around >> np.int16(3)) + found)
        one, two, three = np.uint16(z >= l0), np.uint16(z >= l1), np.uint16(z >= l2)
        active = np.uint16(np.uint16(one + two) + three)
        context[i] = np.uint16(active * np.uint16(CONTEXTS))
        chosen = g1 if z >= l0 else g0
        chosen = g2 if z >= l1 else chosen
        gain[i] = g3 if z >= l2 else chosen
    for i in range(moved.size):
        added = np.int32(np.int32(np.int32(moved[i]) * np.int32(gain[i])) >> np.int32(10))
        sharp = min(max(np.int32(np.int32(level[i]) + added), np.int32(0)), top)
        start = max(np.int32(np.int32(sharp >> np.int32(7)) - np.int32(LEVELS)), np.int32(0))
        base[i] = value(start)
        own = np.uint16(np.int32(np.int32(sharp >> np.int32(5)) - np.int32(start << np.int32(2))))
        context[i] = np.uint16(context[i] + own)
        place[i] = np.uint16(own << np.uint16(8))


@compiled
def _new_innovation(q: AnyArray, level: AnyArray, decay: Any, s: AnyArray, a: AnyArray) -> None:
    """Move the sums of the innovations of each column on by a row, and the mean of their magnitudes."""
    share_nothing()
    n = q.size
    wide, small = level.dtype.type, np.int16
    sums, means = row(s, 2, n + 2), row(a, 2, n + 2)
    for i in range(n):
        away = wide(wide(wide(q[i]) << wide(7)) - level[i])
        found = small(min(max(away, wide(-_LOUD)), wide(_LOUD)))
        size = max(found, small(-found))
        found = min(max(found, small(-_CLIP)), small(_CLIP))
        old = sums[i]
        sums[i] = small(small(old - small(old >> small(decay & small(15)))) + found)
        means[i] = small(small(size + small(means[i] * small(3))) >> small(2))
    s[0] = s[1] = s[2]
    s[n + 2] = s[n + 3] = s[n + 1]
    a[0] = a[1] = a[2]
    a[n + 2] = a[n + 3] = a[n + 1]


@compiled
def _take_ranks(
    q: AnyArray, place: AnyArray, base: AnyArray, table: AnyArray, low: AnyArray, high: AnyArray
) -> None:
    """Ranks of a row of codes; `place` is spoilt."""
    share_nothing()
    value = base.dtype.type
    for i in range(q.size):
        place[i] = np.uint16(place[i] | np.uint16(np.uint8(value(value(q[i]) - base[i]))))
    for i in range(high.size):
        high[i] = np.uint8(value(value(q[i]) - base[i]) >> value(8))
    for i in range(q.size):
        low[i] = table[np.uint64(place[i])]


@compiled
def _restore(
    symbols: AnyArray, place: AnyArray, base: AnyArray, table: AnyArray, index: AnyArray, q: AnyArray
) -> Any:
    """Codes of a row of symbols; returns the largest of these."""
    share_nothing()
    value = q.dtype.type
    most = np.uint8(0)
    for i in range(q.size):
        index[i] = np.uint16(place[i] | np.uint16(symbols[i]))
        most = max(most, symbols[i])
    for i in range(q.size):
        q[i] = value(value(table[np.uint64(index[i])]) + base[i])
    return most


# --- the arithmetic coder -----------------------------------------------------------------------------------


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


@compiled
def _decode_row(
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


# --- a chunk ------------------------------------------------------------------------------------------------


def _plane_loop(narrow: bool) -> Callable[..., Any]:
    """The loops that predict a plane from the past."""

    @compiled
    def _levels_of_plane(
        state: AnyArray,
        plane: int,
        w: AnyArray,
        small: AnyArray,
        difference: AnyArray,
        total: AnyArray,
        level: AnyArray,
        change: AnyArray,
    ) -> None:
        _changes(difference, plane, change)
        if narrow:
            _surroundings_of_bytes(difference, state, plane, small, total)
        else:
            _surroundings_of_words(difference, state, plane, small, total)
        top = np.int32(((256 if narrow else 65536) - 1) << 7)
        _levels(state, plane, total, change, w, top, level)

    return _levels_of_plane


_levels_of_bytes = _plane_loop(narrow=True)
_levels_of_words = _plane_loop(narrow=False)


@compiled
def _quiet_rows(s: AnyArray, a: AnyArray, limits: AnyArray) -> None:
    """What the rows above the first are taken for."""
    for i in range(s.size):
        s[i] = 0
        a[i] = limits[0] >> 1


def _decode_loop(narrow: bool) -> Callable[..., Any]:
    """The loop that restores all frames but the first: the levels of each, then row by row."""

    @compiled
    def run(
        q: AnyArray,
        sets: AnyArray,
        set_of: AnyArray,
        rates: AnyArray,
        decay: int,
        limits: AnyArray,
        table: AnyArray,
        class_of: AnyArray,
        symbol_at: AnyArray,
        both: AnyArray,
        words: AnyArray,
        begun: AnyArray,
        more: AnyArray,
        state: AnyArray,
    ) -> bool:
        frames, planes, height, width = q.shape
        top = np.int32(((256 if narrow else 65536) - 1) << 7)
        level = np.empty((height, width), state.dtype)
        change = np.empty((height, width), np.int16)
        difference = np.empty((planes, height + 2, width + 2), np.int16)
        s, a = np.zeros(width + 4, np.int16), np.zeros(width + 4, np.int16)
        moved, gain = np.empty(width, np.int16), np.empty(width, np.int16)
        total = np.empty((height, width), np.int16)
        small, gains_in_force = np.empty(22, np.int16), np.empty(ACTIVITIES, np.int16)
        symbols = np.empty(width, np.uint8)
        context, index = np.empty(width, np.uint16), np.empty(width, np.uint16)
        place = np.empty(width, np.uint16)
        base = np.empty(width, q.dtype)
        states = np.empty(LANES, np.uint32)
        for k in range(LANES):
            states[k] = begun[k]
        at, taken, last = begun[LANES], begun[LANES + 1], words.size - width
        for t in range(1, frames):
            w = row(sets, set_of[t], 0, WEIGHTS)
            _small_weights(w, small)
            for k in range(ACTIVITIES):
                gains_in_force[k] = np.int16(w[_GAINS + k])
            _differences(state, difference)
            for plane in range(planes):
                if narrow:
                    _levels_of_bytes(state, plane, w, small, difference, total, level, change)
                else:
                    _levels_of_words(state, plane, w, small, difference, total, level, change)
                _quiet_rows(s, a, limits)
                for y in range(height):
                    past, line = row(level, y, 0, width), row(q, t, plane, y, 0, width)
                    changed = row(change, y, 0, width)
                    _look_above(
                        past,
                        s,
                        a,
                        changed,
                        small,
                        gains_in_force,
                        limits,
                        top,
                        moved,
                        gain,
                        context,
                        place,
                        base,
                    )
                    # Behind the last word there is room for a row.
                    if at > last:
                        return False
                    at = _decode_row(words, at, context, class_of, symbol_at, both, states, symbols)
                    if _restore(symbols, place, base, table, index, line) == ESCAPE:
                        for x in range(width):
                            if symbols[x] == ESCAPE:
                                if taken + (1 if narrow else 2) > more.size:
                                    return False
                                code = np.int64(table[np.int64(place[x]) | np.int64(more[taken])])
                                code += np.int64(base[x])
                                taken += 1
                                if not narrow:
                                    code += np.int64(more[taken]) << 8
                                    taken += 1
                                line[x] = q.dtype.type(code)
                    _new_innovation(line, past, np.int16(decay), s, a)
                _move_means(row(q, t, plane, 0, height), rates, t, plane, state)
        fits = at == last and taken == more.size
        for k in range(LANES):
            fits &= states[k] == 65536
        return bool(fits)

    return run


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
            at = _decode_row(words, at, context, class_of, symbol_at, both, states, found)
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


# --- encoding: the fit --------------------------------------------------------------------------------------

FEATURES = TEMPORAL + 2
SEGMENT = 32
_BLOCK = 1024
# What earlier frames count in the fit of the next, and how much less a set may cost to be worth it.
_MEMORY = 0.8
_RIDGE = 1e-4


@compiled
def _features_of_segment(
    state: AnyArray,
    difference: AnyArray,
    q: AnyArray,
    plane: int,
    y: int,
    x: int,
    level: Any,
    out: AnyArray,
    at: int,
) -> None:
    """What the levels of some pixels of a row are made of, in 1/8 code; first of all the code itself."""
    share_nothing()
    n, end, part, middle = SEGMENT, at + SEGMENT, np.float32(1 / 16), np.float32(level)
    change = row(out, FEATURES - 2, at, end)
    for i in range(n):
        change[i] = np.float32(0)
    own, codes = row(state, 1, plane, y + 1, x + 1, x + 1 + n), row(q, plane, y, x, x + n)
    target, scale = row(out, 0, at, end), row(out, 18, at, end)
    for i in range(n):
        target[i] = (
            np.float32(np.int32(np.int32(np.int32(codes[i]) << np.int32(7)) - np.int32(own[i]))) * part
        )
    for i in range(n):
        scale[i] = (np.float32(own[i]) * part - middle) * part
    f = 1
    for k in range(9):
        apart = row(difference, plane, y + k // 3, x + k % 3, x + k % 3 + n)
        feature = row(out, f, at, end)
        weight = np.float32((2 - abs(k // 3 - 1)) * (2 - abs(k % 3 - 1))) * part
        for i in range(n):
            value = np.float32(apart[i]) * part
            feature[i] = value
            change[i] += value * weight
        f += 1
    for k in range(9):
        if k != 4:
            mean = row(state, 1, plane, y + k // 3, x + k % 3, x + k % 3 + n)
            feature = row(out, f, at, end)
            for i in range(n):
                feature[i] = np.float32(np.int32(np.int32(mean[i]) - np.int32(own[i]))) * part
            f += 1
    most = np.float32(_QUIET / 16)
    for i in range(n):
        change[i] = min(max(change[i], -most), most)


@compiled
def _scale(by: float, out: AnyArray) -> None:
    """Multiply a table by a number."""
    for i in range(len(out)):
        for j in range(out.shape[1]):
            out[i, j] = out[i, j] * by if by else 0.0


@compiled
def _products(
    state: AnyArray,
    difference: AnyArray,
    q: AnyArray,
    places: AnyArray,
    level: Any,
    table: AnyArray,
    out: AnyArray,
) -> int:
    """Products of the features at the places with each other; the number of pixels looked at."""
    _scale(0.0, out)
    at = 0
    for i in range(_BLOCK):
        table[FEATURES - 1, i] = np.float32(1)
    for s in range(len(places)):
        plane, y, x = places[s, 0], places[s, 1], places[s, 2]
        _features_of_segment(state, difference, q, plane, y, x, level, table, at)
        at += SEGMENT
        if at == _BLOCK or s == len(places) - 1:
            _add_products(table, FEATURES, at, out)
            at = 0
    return len(places) * SEGMENT


@njit(nogil=True, cache=True, fastmath=True, **INNER)  # type: ignore[untyped-decorator]
def _dot_of_three(a: AnyArray, b: AnyArray, c: AnyArray, d: AnyArray, out: AnyArray) -> None:
    """Sums of the products of one feature with three others, in any order."""
    share_nothing()
    one = two = three = np.float32(0)
    for i in range(a.size):
        value = a[i]
        one += value * b[i]
        two += value * c[i]
        three += value * d[i]
    out[0], out[1], out[2] = one, two, three


@compiled
def _add_products(table: AnyArray, used: int, size: int, out: AnyArray) -> None:
    """Add the products of features with each other; their number is a multiple of three."""
    found = np.empty(3, np.float32)
    for i in range(used):
        one = row(table, i, 0, size)
        for j in range(0, i + 1, 3):
            b, c, d = row(table, j, 0, size), row(table, j + 1, 0, size), row(table, j + 2, 0, size)
            _dot_of_three(one, b, c, d, found)
            for k in range(min(3, i + 1 - j)):
                out[i, j + k] += found[k]
                if i != j + k:
                    out[j + k, i] += found[k]


@compiled
def _whole(
    gram: AnyArray, found: AnyArray, pixels: float, size: int, tried: AnyArray, out: AnyArray
) -> float:
    """Weights of a set of those found for the features, as coarse as pays; what they cost, in bits.

    The first number of `out` beyond the set is the precision. Infinite if none are allowed.
    """
    least = np.inf
    tried[0] = 0.0
    for precision in (5, 6, 7, 8, 10):
        unit = 1.0 / (1 << precision)
        cost = 8.0 * 16
        magnitude = largest = 0.0
        for f in range(1, FEATURES - 1):
            v = np.floor(found[f] / unit + 0.5)
            cost += 24.0 if abs(v) > 127 else 8.0
            magnitude += abs(v * unit)
            largest = max(largest, abs(v * unit))
            tried[f] = v * unit
        # The constant takes up what rounding the others has cost.
        mean = gram[0, FEATURES - 1]
        for f in range(1, FEATURES - 1):
            mean -= tried[f] * gram[f, FEATURES - 1]
        tried[FEATURES - 1] = np.floor(mean / pixels * 65536 + 0.5) / 65536
        if magnitude > 3.9 or largest > 1.95 or abs(tried[FEATURES - 1]) > 8000:
            continue
        bits = 0.5 * size * np.log2(_still_kernels.loss(gram, FEATURES, tried, pixels)) + cost
        if bits < least:
            least = bits
            for f in range(1, FEATURES - 1):
                out[f - 1] = np.int32(np.floor(tried[f] * 4096 + 0.5))
            # The halves of 1/32 code that each pixel around loses by rounding down.
            out[_CONSTANT] = np.int32(np.floor(tried[FEATURES - 1] * 65536 + 0.5)) + (17 << 13)
            out[WEIGHTS] = precision
    return least


@compiled
def _in_force(gram: AnyArray, w: AnyArray, pixels: float, size: int, tried: AnyArray) -> float:
    """What the weights of a set cost, in bits."""
    for f in range(1, FEATURES - 1):
        tried[f] = w[f - 1] / 4096
    tried[FEATURES - 1] = (w[_CONSTANT] - (17 << 13)) / 65536
    bits: float = 0.5 * size * np.log2(_still_kernels.loss(gram, FEATURES, tried, pixels))
    return bits


@compiled
def _fit_taps(
    q: AnyArray,
    level: AnyArray,
    change: AnyArray,
    decay: int,
    limits: AnyArray,
    table: AnyArray,
    gram: AnyArray,
    gains: AnyArray,
    found: AnyArray,
    w: AnyArray,
) -> None:
    """Weights of the innovations above and gains of the activities of a plane, on strips of rows of it."""
    height, width = q.shape
    s, a = np.zeros(width + 4, np.int16), np.zeros(width + 4, np.int16)
    apart = max(16, height // 6)
    size = min(width, _BLOCK)
    unit = 1 << (12 - w[WEIGHTS])
    _scale(_MEMORY, gram)
    _scale(_MEMORY, gains)
    for second in range(2):
        for first in range(0, height, apart):
            _quiet_rows(s, a, limits)
            for y in range(first, min(first + 14, height)):
                if y >= first + 6:
                    line = row(q, y, 0, width)
                    past = row(level, y, 0, width)
                    if second:
                        _add_gains(line, past, s, a, row(change, y, 0, width), w, limits, gains)
                    else:
                        for i in range(size):
                            table[0, i] = np.float32(
                                (np.int32(line[i]) << 7) - np.int32(past[i])
                            ) / np.float32(128)
                        for k in range(5):
                            for i in range(size):
                                table[k + 1, i] = np.float32(s[i + k]) / np.float32(128)
                        _add_products(table, 6, size, gram)
                _new_innovation(row(q, y, 0, width), row(level, y, 0, width), np.int16(decay), s, a)
        if second:
            for k in range(ACTIVITIES):
                gain = (gains[k, 0] + 200.0) / (gains[k, 1] + 200.0)
                gain = np.floor(min(max(gain, 0.0), 2.0) * 4096 / unit + 0.5)
                w[_GAINS + k] = np.int32(min(gain * unit, 8192 - unit))
        else:
            _still_kernels.least_squares(gram, 6, True, 1e-3, found)
            total = 0.0
            for k in range(5):
                total += abs(found[k + 1])
            shrink = 1.9 / total if total > 1.9 else 1.0
            for k in range(5):
                w[_TAPS + k] = np.int32(
                    min(
                        max(
                            np.trunc(found[k + 1] * shrink * 4096 / unit + np.copysign(0.5, found[k + 1]))
                            * unit,
                            -8128,
                        ),
                        8128,
                    )
                )


@compiled
def _add_gains(
    q: AnyArray,
    level: AnyArray,
    s: AnyArray,
    a: AnyArray,
    change: AnyArray,
    w: AnyArray,
    limits: AnyArray,
    gains: AnyArray,
) -> None:
    """Products of what the rows above show with what is left to show, by activity."""
    for i in range(q.size):
        moved = 0.0
        for k in range(5):
            moved += np.float64(s[i + k]) * np.float64(w[_TAPS + k])
        moved *= 1.0 / (4096 * 128)
        z = (a[i] + a[i + 4] + 2 * (a[i + 1] + a[i + 2] + a[i + 3])) >> 3
        z += (abs(change[i]) * limits[3]) >> 4
        k = int(z >= limits[0]) + int(z >= limits[1]) + int(z >= limits[2])
        left = min(max(float(q[i]) - float(level[i]) / 128, -32.0), 32.0)
        gains[k, 0] += moved * left
        gains[k, 1] += moved * moved


def _encode_loop(narrow: bool) -> Callable[..., Any]:
    """The loop that fits a prediction to all frames but the first and takes the ranks."""

    @compiled
    def run(
        q: AnyArray,
        rates: AnyArray,
        decay: int,
        limits: AnyArray,
        places: AnyArray,
        middle: int,
        table: AnyArray,
        low: AnyArray,
        high: AnyArray,
        contexts: AnyArray,
        sets: AnyArray,
        set_of: AnyArray,
        state: AnyArray,
    ) -> int:
        frames, planes, height, width = q.shape
        top = np.int32(((256 if narrow else 65536) - 1) << 7)
        size = planes * height * width
        level = np.empty((height, width), state.dtype)
        change = np.empty((height, width), np.int16)
        difference = np.empty((planes, height + 2, width + 2), np.int16)
        s, a = np.zeros(width + 4, np.int16), np.zeros(width + 4, np.int16)
        moved, gain = np.empty(width, np.int16), np.empty(width, np.int16)
        total = np.empty((height, width), np.int16)
        small, gains_in_force = np.empty(22, np.int16), np.empty(ACTIVITIES, np.int16)
        place = np.empty(width, np.uint16)
        base = np.empty(width, q.dtype)
        features = np.empty((FEATURES, _BLOCK), np.float32)
        gram, known = np.zeros((FEATURES, FEATURES)), np.zeros((FEATURES, FEATURES))
        found, tried = np.zeros(FEATURES), np.zeros(FEATURES)
        gram_taps, gains = np.zeros((6, 6)), np.zeros((ACTIVITIES, 2))
        seen = 0.0
        count = 0
        since = 0
        candidate, other = np.zeros(WEIGHTS + 1, np.int32), np.zeros(WEIGHTS + 1, np.int32)
        for t in range(1, frames):
            _differences(state, difference)
            frame = row(q, t, 0, planes)
            pixels = np.float64(_products(state, difference, frame, places, middle, features, gram))
            _scale(_MEMORY, known)
            for i in range(FEATURES):
                for j in range(FEATURES):
                    known[i, j] += gram[i, j]
            seen = seen * _MEMORY + pixels
            for k in range(WEIGHTS):
                candidate[k] = other[k] = sets[max(count - 1, 0), k]
            candidate[_LEVEL] = other[_LEVEL] = middle
            _still_kernels.least_squares(known, FEATURES, True, _RIDGE, found)
            cost = _whole(gram, found, pixels, size, tried, candidate)
            _still_kernels.least_squares(gram, FEATURES, True, _RIDGE, found)
            # Weights of one frame alone fit its noise as well.
            alone = _whole(gram, found, pixels, size, tried, other) + size * FEATURES / pixels * 1.4427
            if alone < cost:
                cost = alone
                for k in range(WEIGHTS + 1):
                    candidate[k] = other[k]
            fresh = count == 0 or since == 256
            if not fresh:
                fresh = cost < _in_force(gram, row(sets, count - 1, 0, WEIGHTS), pixels, size, tried)
            since += 1
            if fresh and np.isfinite(cost):
                since = 1
                for k in range(WEIGHTS + 1):
                    sets[count, k] = candidate[k]
                count += 1
            elif fresh:
                for k in range(WEIGHTS + 1):
                    sets[count, k] = 0
                sets[count, _LEVEL] = middle
                count += 1
            set_of[t] = count - 1
            w = row(sets, count - 1, 0, WEIGHTS + 1)
            _small_weights(w, small)
            for plane in range(planes):
                if narrow:
                    _levels_of_bytes(state, plane, w, small, difference, total, level, change)
                else:
                    _levels_of_words(state, plane, w, small, difference, total, level, change)
                if fresh and plane == 0:
                    image = row(q, t, plane, 0, height)
                    _fit_taps(image, level, change, decay, limits, features, gram_taps, gains, found, w)
                    _small_weights(w, small)
                for k in range(ACTIVITIES):
                    gains_in_force[k] = np.int16(w[_GAINS + k])
                _quiet_rows(s, a, limits)
                for y in range(height):
                    past, line = row(level, y, 0, width), row(q, t, plane, y, 0, width)
                    at = ((t * planes + plane) * height + y) * width
                    context = row(contexts, at, at + width)
                    beyond = high if narrow else row(high, at, at + width)
                    changed = row(change, y, 0, width)
                    _look_above(
                        past,
                        s,
                        a,
                        changed,
                        small,
                        gains_in_force,
                        limits,
                        top,
                        moved,
                        gain,
                        context,
                        place,
                        base,
                    )
                    _take_ranks(line, place, base, table, row(low, at, at + width), beyond)
                    _new_innovation(line, past, np.int16(decay), s, a)
                _move_means(row(q, t, plane, 0, height), rates, t, plane, state)
        return count

    return run


encode_bytes = _encode_loop(narrow=True)
encode_words = _encode_loop(narrow=False)
decode_bytes = _decode_loop(narrow=True)
decode_words = _decode_loop(narrow=False)


# --- encoding: classes --------------------------------------------------------------------------------------


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
