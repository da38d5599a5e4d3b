"""The compiled loops of the frame coder's method 4: over the frames and rows of a chunk.

A frame is predicted by weights fitted to it, its codes are ranked by context (see `_fitted_levels_kernels`),
and an arithmetic coder takes or gives the ranks (see `_contexts_kernels`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from anscombe_transform import _still_kernels
from anscombe_transform._contexts_kernels import ACTIVITIES, ESCAPE, LANES, decode_row, row_of_symbols
from anscombe_transform._fitted_levels_kernels import (
    GAINS,
    LEVEL,
    WEIGHTS,
    differences,
    levels_of_bytes,
    levels_of_words,
    look_above,
    move_means,
    new_innovation,
    quiet_rows,
    restore,
    small_weights,
    take_ranks,
)
from anscombe_transform._fitted_weights_kernels import (
    BLOCK,
    FEATURES,
    MEMORY,
    RIDGE,
    fit_taps,
    in_force,
    products,
    scale,
    whole,
)
from anscombe_transform._frame_kernels import compiled
from anscombe_transform._parts_of_kernels import row

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    AnyArray = npt.NDArray[Any]


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
        features = np.empty((FEATURES, BLOCK), np.float32)
        gram, known = np.zeros((FEATURES, FEATURES)), np.zeros((FEATURES, FEATURES))
        found, tried = np.zeros(FEATURES), np.zeros(FEATURES)
        gram_taps, gains = np.zeros((6, 6)), np.zeros((ACTIVITIES, 2))
        seen = 0.0
        count = 0
        since = 0
        candidate, other = np.zeros(WEIGHTS + 1, np.int32), np.zeros(WEIGHTS + 1, np.int32)
        for t in range(1, frames):
            differences(state, difference)
            frame = row(q, t, 0, planes)
            pixels = np.float64(products(state, difference, frame, places, middle, features, gram))
            scale(MEMORY, known)
            for i in range(FEATURES):
                for j in range(FEATURES):
                    known[i, j] += gram[i, j]
            seen = seen * MEMORY + pixels
            for k in range(WEIGHTS):
                candidate[k] = other[k] = sets[max(count - 1, 0), k]
            candidate[LEVEL] = other[LEVEL] = middle
            _still_kernels.least_squares(known, FEATURES, True, RIDGE, found)
            cost = whole(gram, found, pixels, size, tried, candidate)
            _still_kernels.least_squares(gram, FEATURES, True, RIDGE, found)
            # Weights of one frame alone fit its noise as well.
            alone = whole(gram, found, pixels, size, tried, other) + size * FEATURES / pixels * 1.4427
            if alone < cost:
                cost = alone
                for k in range(WEIGHTS + 1):
                    candidate[k] = other[k]
            fresh = count == 0 or since == 256
            if not fresh:
                fresh = cost < in_force(gram, row(sets, count - 1, 0, WEIGHTS), pixels, size, tried)
            since += 1
            if fresh and np.isfinite(cost):
                since = 1
                for k in range(WEIGHTS + 1):
                    sets[count, k] = candidate[k]
                count += 1
            elif fresh:
                for k in range(WEIGHTS + 1):
                    sets[count, k] = 0
                sets[count, LEVEL] = middle
                count += 1
            set_of[t] = count - 1
            w = row(sets, count - 1, 0, WEIGHTS + 1)
            small_weights(w, small)
            for plane in range(planes):
                if narrow:
                    levels_of_bytes(state, plane, w, small, difference, total, level, change)
                else:
                    levels_of_words(state, plane, w, small, difference, total, level, change)
                if fresh and plane == 0:
                    image = row(q, t, plane, 0, height)
                    fit_taps(image, level, change, decay, limits, features, gram_taps, gains, found, w)
                    small_weights(w, small)
                for k in range(ACTIVITIES):
                    gains_in_force[k] = np.int16(w[GAINS + k])
                quiet_rows(s, a, limits)
                for y in range(height):
                    past, line = row(level, y, 0, width), row(q, t, plane, y, 0, width)
                    at = ((t * planes + plane) * height + y) * width
                    context = row(contexts, at, at + width)
                    beyond = high if narrow else row(high, at, at + width)
                    changed = row(change, y, 0, width)
                    look_above(
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
                    take_ranks(line, place, base, table, row(low, at, at + width), beyond)
                    new_innovation(line, past, np.int16(decay), s, a)
                move_means(row(q, t, plane, 0, height), rates, t, plane, state)
        return count

    return run


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
        table_of: AnyArray,
        tables: AnyArray,
        words: AnyArray,
        states: AnyArray,
        taken: AnyArray,
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
        context, own, symbols = row_of_symbols(width, tables)
        index = np.empty(width, np.uint16)
        place = np.empty(width, np.uint16)
        base = np.empty(width, q.dtype)
        at, known, last = taken[0], taken[1], words.size - width - 1
        for t in range(1, frames):
            w = row(sets, set_of[t], 0, WEIGHTS)
            small_weights(w, small)
            for k in range(ACTIVITIES):
                gains_in_force[k] = np.int16(w[GAINS + k])
            differences(state, difference)
            for plane in range(planes):
                if narrow:
                    levels_of_bytes(state, plane, w, small, difference, total, level, change)
                else:
                    levels_of_words(state, plane, w, small, difference, total, level, change)
                quiet_rows(s, a, limits)
                for y in range(height):
                    past, line = row(level, y, 0, width), row(q, t, plane, y, 0, width)
                    changed = row(change, y, 0, width)
                    look_above(
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
                    # Behind the last word there is room for a row and one.
                    if at > last:
                        return False
                    at = decode_row(words, at, context, table_of, tables, own, states, symbols)
                    if restore(symbols, place, base, table, index, line) == ESCAPE:
                        for x in range(width):
                            if symbols[x] == ESCAPE:
                                if known + (1 if narrow else 2) > more.size:
                                    return False
                                code = np.int64(table[np.int64(place[x]) | np.int64(more[known])])
                                code += np.int64(base[x])
                                known += 1
                                if not narrow:
                                    code += np.int64(more[known]) << 8
                                    known += 1
                                line[x] = q.dtype.type(code)
                    new_innovation(line, past, np.int16(decay), s, a)
                move_means(row(q, t, plane, 0, height), rates, t, plane, state)
        fits = at == last and known == more.size
        for k in range(LANES):
            fits &= states[k] == 1 << 16
        return bool(fits)

    return run


encode_bytes = _encode_loop(narrow=True)
encode_words = _encode_loop(narrow=False)
decode_bytes = _decode_loop(narrow=True)
decode_words = _decode_loop(narrow=False)
