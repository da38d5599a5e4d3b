"""The compiled loops of the frame coder's fitted prediction; each has a plain numpy twin in the tests.

Levels (predictions and running means) are in 1/128 code. For codes of one byte the running means are int16
and the arithmetic int32; for two bytes int32 and int64. A caller chooses by the types of `state` and `work`.

Loops run over rows and blocks of rows that are views without gaps. Where one loop could do the work of two,
it is left as two: the compiler does not vectorise the fused one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from anscombe_transform._frame_kernels import begin, compiled, rate_at
from anscombe_transform._parts_of_kernels import row, stay_apart

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    AnyArray = npt.NDArray[Any]

BLOCK = 8192
"""Pixels that are predicted in time at once; a block is whole rows."""

LEVELS = 48
"""Below this code every quarter code of the predicted level has an order of its own."""

CONTEXTS = 4 * LEVELS + 4

_CLIP = 4096
_CLIP_FIRST = 32640


@compiled
def _update(q: AnyArray, state: AnyArray, k: np.int16) -> None:
    """Move running means towards the codes of a frame."""
    stay_apart()
    wide = state.dtype.type
    shift = wide(k & 15)
    half = wide(wide(1) << wide(shift - wide(1)))
    for i in range(q.size):
        mean = wide(state[i])
        step = wide(wide(wide(wide(q[i]) << wide(7)) - mean) + half)
        state[i] = wide(mean + wide(step >> wide(shift & wide(15))))


@compiled
def _mixed(ea: AnyArray, eb: AnyArray, w2: Any, w3: Any, mixed: AnyArray) -> None:
    """What is smoothed in space, in 1/16 of its weight."""
    stay_apart()
    work = mixed.dtype.type
    for i in range(ea.size):
        mixed[i] = work(work(work(ea[i]) * w2) + work(work(eb[i]) * w3)) >> work(4)


@compiled
def _columns(above: AnyArray, here: AnyArray, below: AnyArray, sums: AnyArray) -> None:
    """Column sums 1, 2, 1 of three rows, or three blocks of rows."""
    stay_apart()
    work = sums.dtype.type
    for i in range(here.size):
        sums[i] = work(work(above[i]) + work(below[i])) + work(work(here[i]) << work(1))


@compiled
def _level(
    ea: AnyArray,
    eb: AnyArray,
    left: AnyArray,
    here: AnyArray,
    right: AnyArray,
    weights: AnyArray,
    level: AnyArray,
) -> None:
    """Predicted levels before clipping, from running means and the column sums left, here and right."""
    stay_apart()
    work = level.dtype.type
    w0, w1, b = weights[0], weights[1], weights[4]
    for i in range(level.size):
        smooth = work(work(left[i] + right[i]) + work(here[i] << work(1)))
        own = work(work(work(ea[i]) * w0) + work(work(eb[i]) * w1))
        level[i] = work(work(own + work(smooth + b)) >> work(8))


@compiled
def _clip(level: AnyArray, top: Any) -> None:
    stay_apart()
    work = level.dtype.type
    for i in range(level.size):
        level[i] = min(max(level[i], work(0)), top)


@compiled
def _predict_block(
    ea: AnyArray,
    eb: AnyArray,
    first: int,
    last: int,
    width: int,
    weights: AnyArray,
    mixed: AnyArray,
    sums: AnyArray,
    level: AnyArray,
    top: Any,
) -> None:
    """Levels that the past predicts for rows first .. last - 1 of a plane.

    `mixed` holds the rows from first - 1 on. Its last row keeps, from one block to the next, the row above:
    the running means there have moved on since.
    """
    stay_apart()
    height = ea.size // width
    size = (last - first) * width
    end = min(height, last + 1)
    w2, w3 = weights[2], weights[3]
    last_row = row(mixed, mixed.size - width, mixed.size)
    if first:
        _copy(last_row, row(mixed, 0, width))
    a, b = first * width, end * width
    _mixed(row(ea, a, b), row(eb, a, b), w2, w3, row(mixed, width, mixed.size))
    if first == 0:
        _copy(row(mixed, width, 2 * width), row(mixed, 0, width))
    if end == last:
        _copy(row(mixed, size, size + width), row(mixed, width + size, 2 * width + size))
    inner = row(sums, 1, size + 1)
    below = row(mixed, 2 * width, 2 * width + size)
    _columns(row(mixed, 0, size), row(mixed, width, width + size), below, inner)
    _copy(row(mixed, size, size + width), last_row)
    sums[0] = sums[1]
    sums[size + 1] = sums[size]
    b = last * width
    levels, right = row(level, 0, size), row(sums, 2, size + 2)
    _level(row(ea, a, b), row(eb, a, b), row(sums, 0, size), inner, right, weights, levels)
    # The flat loop took its neighbours across row ends; the outermost column is repeated instead.
    work = level.dtype.type
    for start in range(0, size, width):
        for side in range(2):
            i = start + side * (width - 1)
            other = i if width == 1 else (i + 1 if side == 0 else i - 1)
            smooth = work(work(inner[i] * work(3)) + inner[other])
            own = work(work(work(ea[a + i]) * weights[0]) + work(work(eb[a + i]) * weights[1]))
            level[i] = work(work(own + work(smooth + weights[4])) >> work(8))
    _clip(levels, top)


@compiled
def _add_innovation(
    level: AnyArray, s: AnyArray, taps: AnyArray, top: Any, moved: AnyArray, sharp: AnyArray
) -> None:
    """Levels corrected by what the rows above have shown; `s` is padded by two at either end."""
    stay_apart()
    work, wide = level.dtype.type, sharp.dtype.type
    n = level.size
    c0, c1, c2, c3, c4 = taps[0], taps[1], taps[2], taps[3], taps[4]
    s0, s1, s2 = row(s, 0, n), row(s, 1, n + 1), row(s, 2, n + 2)
    s3, s4 = row(s, 3, n + 3), row(s, 4, n + 4)
    for i in range(n):
        outer = work(work(work(s0[i]) * c0) + work(work(s4[i]) * c4))
        inner = work(work(work(s1[i]) * c1) + work(work(s3[i]) * c3))
        moved[i] = work(work(outer + inner) + work(work(s2[i]) * c2))
    for i in range(n):
        found = work(level[i] + work(work(moved[i] + work(512)) >> work(10)))
        sharp[i] = wide(min(max(found, work(0)), top))


@compiled
def _copy(source: AnyArray, target: AnyArray) -> None:
    stay_apart()
    value = target.dtype.type
    for i in range(target.size):
        target[i] = value(source[i])


@compiled
def _fill(value: Any, target: AnyArray) -> None:
    stay_apart()
    for i in range(target.size):
        target[i] = value


@compiled
def _new_innovation(q: AnyArray, level: AnyArray, decay: Any, clip: Any, s: AnyArray) -> None:
    """Add a row's innovations to the decaying sums of those above."""
    stay_apart()
    n = q.size
    inner = row(s, 2, n + 2)
    wide, work = s.dtype.type, level.dtype.type
    low = work(-clip)
    for i in range(n):
        found = work(work(work(q[i]) << work(7)) - level[i])
        old = wide(wide(inner[i] * decay) >> wide(4))
        inner[i] = wide(wide(min(max(found, low), clip)) + old)
    s[0] = s[1] = s[2]
    s[n + 2] = s[n + 3] = s[n + 1]


@compiled
def _index_codes(sharp: AnyArray, q: AnyArray, index: AnyArray, high: AnyArray) -> None:
    """Where the rank of each code stands in the table, and the high bytes of the ranks."""
    stay_apart()
    wide = sharp.dtype.type
    for i in range(q.size):
        start = max(wide(wide(sharp[i] >> wide(7)) - wide(LEVELS)), wide(0))
        context = wide(wide(sharp[i] >> wide(5)) - wide(start << wide(2)))
        offset = wide(wide(wide(q[i]) - start) & wide(255))
        index[i] = np.uint16(wide(context << wide(8))) | np.uint16(offset)
    for i in range(high.size):
        start = max(wide(wide(sharp[i] >> wide(7)) - wide(LEVELS)), wide(0))
        high[i] = np.uint8(wide(wide(wide(q[i]) - start) >> wide(8)))


@compiled
def _index_ranks(sharp: AnyArray, low: AnyArray, index: AnyArray, base: AnyArray) -> None:
    """Where the code of each rank stands in the table, and what is added to it."""
    stay_apart()
    wide, value = sharp.dtype.type, base.dtype.type
    for i in range(low.size):
        start = max(wide(wide(sharp[i] >> wide(7)) - wide(LEVELS)), wide(0))
        context = wide(wide(sharp[i] >> wide(5)) - wide(start << wide(2)))
        index[i] = np.uint16(wide(context << wide(8))) | np.uint16(low[i])
        base[i] = value(start)


@compiled
def _look_up(table: AnyArray, index: AnyArray, out: AnyArray) -> None:
    stay_apart()
    for i in range(out.size):
        out[i] = table[np.uint64(index[i])]


@compiled
def _join(found: AnyArray, base: AnyArray, high: AnyArray, q: AnyArray) -> None:
    """Codes of their offsets from the base, low and high bytes."""
    stay_apart()
    value = q.dtype.type
    for i in range(q.size):
        q[i] = value(value(found[i]) + base[i])
    for i in range(high.size):
        q[i] = value(q[i] + value(value(high[i]) << value(8)))


def _serial_row(decode: bool) -> Callable[..., Any]:
    """The loop over a row of the first frame in one direction: the other would write what is read-only."""

    @compiled
    def _run(
        q: AnyArray,
        level: AnyArray,
        sharp: AnyArray,
        west: Any,
        west2: Any,
        table: AnyArray,
        low: AnyArray,
        high: AnyArray,
        top: Any,
    ) -> None:
        stay_apart()
        work, value = level.dtype.type, q.dtype.type
        d1 = d2 = work(0)
        clip = work(_CLIP_FIRST)
        for i in range(q.size):
            m = work(work(work(work(d1 * west) + work(d2 * west2)) + work(512)) >> work(10))
            m = min(max(work(sharp[i] + m), work(0)), top)
            quarter = work(m >> work(5))
            start = max(work(work(quarter >> work(2)) - work(LEVELS)), work(0))
            at = np.uint64(np.uint64(work(quarter - work(start << work(2)))) << np.uint64(8))
            if decode:
                code = work(work(table[at | np.uint64(low[i])]) + start)
                if high.size:
                    code = work(code + work(work(high[i]) << work(8)))
                q[i] = value(code)
            else:
                offset = value(work(q[i]) - start)
                low[i] = table[at | np.uint64(np.uint8(offset))]
                if high.size:
                    high[i] = np.uint8(np.uint64(offset) >> np.uint64(8))
            d2 = d1
            d1 = min(max(work(work(work(q[i]) << work(7)) - level[i]), work(-clip)), clip)

    return _run


_serial_ranks = _serial_row(decode=False)
_serial_codes = _serial_row(decode=True)


def _model_loop(decode: bool) -> Callable[..., None]:
    """The loop over a chunk in one direction."""

    @compiled
    def run(
        q: AnyArray,
        low: AnyArray,
        high: AnyArray,
        table: AnyArray,
        rates: AnyArray,
        temporal: AnyArray,
        above: AnyArray,
        first: AnyArray,
        decay: AnyArray,
        mean: int,
        state: AnyArray,
    ) -> None:
        frames, planes, height, width = q.shape
        work = temporal.dtype.type
        area = height * width
        top = work(work((256 if q.itemsize == 1 else 65536) - 1) << work(7))
        rows = max(1, min(height, BLOCK // width))
        mixed = np.empty((rows + 3) * width, temporal.dtype)
        sums = np.empty(rows * width + 2, temporal.dtype)
        level = np.empty(rows * width, temporal.dtype)
        sharp = np.empty(width, state.dtype)
        moved = np.empty(width, temporal.dtype)
        index = np.empty(width, np.uint16)
        found = np.empty(width, np.uint8)
        base = np.empty(width, q.dtype)
        s = np.zeros(width + 4, np.int32)
        wide = high.size > 0
        for t in range(frames):
            taps = first if t == 0 else above
            fall = np.int32(decay[min(t, 1)])
            clip = work(_CLIP_FIRST if t == 0 else _CLIP)
            looks_up = False
            for i in range(5):
                looks_up |= taps[i] != 0
            for plane in range(planes):
                place = plane * area
                ea, eb = row(state, 0, place, place + area), row(state, 1, place, place + area)
                _fill(np.int32(0), s)
                for y0 in range(0, height, rows):
                    y1 = min(height, y0 + rows)
                    if t == 0:
                        _fill(work(mean), level)
                    else:
                        _predict_block(ea, eb, y0, y1, width, temporal, mixed, sums, level, top)
                    for y in range(y0, y1):
                        line, ranks = row(q, t, plane, y, 0, width), row(low, t, plane, y, 0, width)
                        at = (t * planes + plane) * area + y * width
                        more = row(high, at, at + width) if wide else high
                        past = row(level, (y - y0) * width, (y - y0 + 1) * width)
                        if looks_up:
                            _add_innovation(past, s, taps, top, moved, sharp)
                        else:
                            _copy(past, sharp)
                        if t == 0:
                            if decode:
                                _serial_codes(line, past, sharp, taps[5], taps[6], table, ranks, more, top)
                            else:
                                _serial_ranks(line, past, sharp, taps[5], taps[6], table, ranks, more, top)
                        else:
                            if decode:
                                _index_ranks(sharp, ranks, index, base)
                                _look_up(table, index, found)
                                _join(found, base, more, line)
                            else:
                                _index_codes(sharp, line, index, more)
                                _look_up(table, index, ranks)
                        if looks_up:
                            _new_innovation(line, past, fall, clip, s)
                    size = (y1 - y0) * width
                    done = row(q, t, plane, y0, 0, size)
                    mean_a, mean_b = row(ea, y0 * width, y1 * width), row(eb, y0 * width, y1 * width)
                    if t == 0:
                        begin(done, mean_a)
                        begin(done, mean_b)
                    else:
                        _update(done, mean_a, np.int16(rate_at(rates[0], t)))
                        _update(done, mean_b, np.int16(rate_at(rates[1], t)))

    return run


code_to_rank = _model_loop(decode=False)
"""Ranks of codes (time, plane, y, x).

Parameters
----------
q, low, high
    Codes; low bytes of the ranks, of the same shape; high bytes flat, or nothing for codes of one byte.
table
    Rank of every code per context.
rates, temporal, above, first, decay, mean
    The model, its numbers in the type of the arithmetic.
state
    Scratch of two rows, each as long as a frame.
"""

rank_to_code = _model_loop(decode=True)
"""Inverse of `code_to_rank`; `table` holds the code of every rank per context."""
