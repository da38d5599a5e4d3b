"""The compiled loops of the frame coder's method 4: over the frames and rows of a chunk.

A frame is predicted by weights fitted to it, its codes are ranked by context (see `_fitted_levels_kernels`),
and an arithmetic coder takes or gives the ranks (see `_contexts_kernels`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from anscombe_transform._contexts_kernels import ESCAPE, LANES, decode_row, row_of_symbols
from anscombe_transform._fitted_levels_kernels import (
    WEIGHTS,
    Work,
    borrowed,
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
from anscombe_transform._fitted_weights_kernels import Fit, fit_above, fit_past
from anscombe_transform._frame_kernels import compiled
from anscombe_transform._parts_of_kernels import inner, row

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    AnyArray = npt.NDArray[Any]


def _encode_loop(narrow: bool) -> Callable[..., Any]:
    """The loop that fits a prediction to all frames but the first and takes the ranks."""
    levels = levels_of_bytes if narrow else levels_of_words

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
        work: Work,
        fit: Fit,
    ) -> int:
        frames, planes, height, width = q.shape
        top = np.int32(((256 if narrow else 65536) - 1) << 7)
        work = borrowed(work)
        count: Any = np.int64(0)
        used: Any = np.int64(0)
        for t in range(1, frames):
            differences(state, work.difference)
            frame = row(q, t, 0, planes)
            fresh = fit_past(frame, state, work.difference, places, middle, fit, sets, count, used)
            count, used = (count + 1, 1) if fresh else (count, used + 1)
            set_of[t] = count - 1
            w = row(sets, count - 1, 0, WEIGHTS + 1)
            small_weights(w, work.small)
            for plane in range(planes):
                levels(state, plane, w, work)
                if fresh and plane == 0:
                    fit_above(row(q, t, plane, 0, height), np.int16(decay), limits, work, fit, w)
                    small_weights(w, work.small)
                quiet_rows(work.seen, limits)
                for y in range(height):
                    past, line = row(work.level, y, 0, width), row(q, t, plane, y, 0, width)
                    at = ((t * planes + plane) * height + y) * width
                    beyond = high if narrow else row(high, at, at + width)
                    look_above(y, limits, top, work, row(contexts, at, at + width))
                    take_ranks(line, work.place, work.base, table, row(low, at, at + width), beyond)
                    new_innovation(line, past, np.int16(decay), work.seen)
                move_means(row(q, t, plane, 0, height), rates, t, plane, state)
        return int(count)

    return run


def _decode_loop(narrow: bool) -> Callable[..., Any]:
    """The loop that restores all frames but the first: the levels of each, then row by row."""
    levels = levels_of_bytes if narrow else levels_of_words

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
        work: Work,
    ) -> bool:
        frames, planes, height, width = q.shape
        top = np.int32(((256 if narrow else 65536) - 1) << 7)
        work = borrowed(work)
        context, own, symbols = row_of_symbols(width, tables)
        at, last = taken[0], words.size - width - 1
        for t in range(1, frames):
            w = row(sets, set_of[t], 0, WEIGHTS)
            small_weights(w, work.small)
            differences(state, work.difference)
            for plane in range(planes):
                levels(state, plane, w, work)
                quiet_rows(work.seen, limits)
                for y in range(height):
                    past, line = row(work.level, y, 0, width), row(q, t, plane, y, 0, width)
                    look_above(y, limits, top, work, context)
                    # Behind the last word there is room for a row and one.
                    if at > last:
                        return False
                    at = decode_row(words, at, context, table_of, tables, own, states, symbols)
                    if restore(symbols, work.place, work.base, table, line) == ESCAPE:
                        taken[1] = _restore_escapes(
                            symbols, work.place, work.base, table, more, taken[1], line
                        )
                        if taken[1] < 0:
                            return False
                    new_innovation(line, past, np.int16(decay), work.seen)
                move_means(row(q, t, plane, 0, height), rates, t, plane, state)
        fits = at == last and taken[1] == more.size
        for k in range(LANES):
            fits &= states[k] == 1 << 16
        return bool(fits)

    return run


@inner
def _restore_escapes(
    symbols: AnyArray,
    place: AnyArray,
    base: AnyArray,
    table: AnyArray,
    more: AnyArray,
    known: int,
    q: AnyArray,
) -> int:
    """Codes of a row whose ranks are among the bytes more; how many of these are taken then, or -1."""
    wide = q.itemsize == 2
    for x in range(q.size):
        if symbols[x] == ESCAPE:
            if known + (2 if wide else 1) > more.size:
                return -1
            # The place is that of the escape, the last one of the context.
            code = np.int64(table[np.int64(place[x]) - ESCAPE + np.int64(more[known])]) + np.int64(base[x])
            known += 1
            if wide:
                code += np.int64(more[known]) << 8
                known += 1
            q[x] = q.dtype.type(code)
    return known


encode_bytes = _encode_loop(narrow=True)
encode_words = _encode_loop(narrow=False)
decode_bytes = _decode_loop(narrow=True)
decode_words = _decode_loop(narrow=False)
