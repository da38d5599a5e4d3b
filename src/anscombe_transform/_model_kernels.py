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
from anscombe_transform._lanes_of_kernels import LANES, level_lanes, mixed_lanes, sharp_lanes
from anscombe_transform._parts_of_kernels import row, share_nothing

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

_SHORT_FALL = 14
"""Up to this decay, sums of innovations of later frames are short: 4096 / (1 - 14/16) = 32768 bounds them."""


@compiled
def _update(q: AnyArray, state: AnyArray, k: np.int16) -> None:
    """Move running means towards the codes of a frame."""
    share_nothing()
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
    share_nothing()
    work = mixed.dtype.type
    for i in range(ea.size):
        mixed[i] = work(work(work(ea[i]) * w2) + work(work(eb[i]) * w3)) >> work(4)


@compiled
def _mixed_short(ea: AnyArray, eb: AnyArray, w2: Any, w3: Any, mixed: AnyArray) -> None:
    """The same of short means, with room behind all three."""
    share_nothing()
    for i in range(0, ea.size, LANES):
        mixed_lanes(ea, eb, i, np.int16(w2), np.int16(w3), mixed)


@compiled
def _columns(above: AnyArray, here: AnyArray, below: AnyArray, sums: AnyArray) -> None:
    """Column sums 1, 2, 1 of three rows, or three blocks of rows."""
    share_nothing()
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
    top: Any,
    level: AnyArray,
) -> None:
    """Predicted levels, from running means and the column sums left, here and right."""
    share_nothing()
    work, wide = here.dtype.type, level.dtype.type
    w0, w1, b = weights[0], weights[1], weights[4]
    for i in range(level.size):
        smooth = work(work(left[i] + right[i]) + work(here[i] << work(1)))
        own = work(work(work(ea[i]) * w0) + work(work(eb[i]) * w1))
        found = work(work(own + work(smooth + b)) >> work(8))
        level[i] = wide(min(max(found, work(0)), top))


@compiled
def _level_short(
    ea: AnyArray, eb: AnyArray, sums: AnyArray, weights: AnyArray, top: Any, level: AnyArray
) -> None:
    """The same of short means, with room behind all; `sums` are the column sums from the left ones on."""
    share_nothing()
    w0, w1, b = np.int16(weights[0]), np.int16(weights[1]), weights[4]
    for i in range(0, level.size, LANES):
        level_lanes(ea, eb, sums, i, w0, w1, b, np.int16(top), level)


@compiled
def _level_at_sides(
    ea: AnyArray, eb: AnyArray, sums: AnyArray, width: int, weights: AnyArray, top: Any, level: AnyArray
) -> None:
    """The same in the outermost columns, which are repeated beyond the side."""
    share_nothing()
    work, wide = sums.dtype.type, level.dtype.type
    w0, w1, b = weights[0], weights[1], weights[4]
    inside = min(1, width - 1)
    for start in range(0, level.size, width):
        end = start + width - 1
        for i, other in ((start, start + inside), (end, end - inside)):
            smooth = work(work(sums[i] * work(3)) + sums[other])
            own = work(work(work(ea[i]) * w0) + work(work(eb[i]) * w1))
            found = work(work(own + work(smooth + b)) >> work(8))
            level[i] = wide(min(max(found, work(0)), top))


def _block_predictor(short: bool) -> Callable[..., Any]:
    """The function that predicts a block, for short running means or others."""

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

        `mixed` holds the rows from first - 1 on. Its last row keeps, from one block to the next, the row
        above: the running means there have moved on since. Behind it, as behind all others, is room for
        `LANES` pixels more.
        """
        share_nothing()
        height = ea.size // width
        size = (last - first) * width
        end = min(height, last + 1)
        w2, w3 = weights[2], weights[3]
        last_row = row(mixed, mixed.size - LANES - width, mixed.size - LANES)
        if first:
            _copy(last_row, row(mixed, 0, width))
        a, b = first * width, end * width
        if short:
            _mixed_short(row(ea, a, b), row(eb, a, b), w2, w3, row(mixed, width, mixed.size))
        else:
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
        here_a, here_b, levels = row(ea, a, b), row(eb, a, b), row(level, 0, size)
        if short:
            _level_short(here_a, here_b, sums, weights, top, levels)
        else:
            _level(here_a, here_b, row(sums, 0, size), inner, row(sums, 2, size + 2), weights, top, levels)
        # The flat loop took its neighbours across row ends.
        _level_at_sides(here_a, here_b, inner, width, weights, top, levels)

    return _predict_block


_predict_short = _block_predictor(short=True)
_predict_wide = _block_predictor(short=False)


@compiled
def _add_innovation(level: AnyArray, s: AnyArray, taps: AnyArray, top: Any, sharp: AnyArray) -> None:
    """Levels corrected by what the rows above have shown; `s` is padded by two at either end."""
    share_nothing()
    work, wide = taps.dtype.type, sharp.dtype.type
    n = level.size
    c0, c1, c2, c3, c4 = taps[0], taps[1], taps[2], taps[3], taps[4]
    s0, s1, s2 = row(s, 0, n), row(s, 1, n + 1), row(s, 2, n + 2)
    s3, s4 = row(s, 3, n + 3), row(s, 4, n + 4)
    for i in range(n):
        outer = work(work(work(s0[i]) * c0) + work(work(s4[i]) * c4))
        inner = work(work(work(s1[i]) * c1) + work(work(s3[i]) * c3))
        moved = work(work(outer + inner) + work(work(s2[i]) * c2))
        found = work(work(level[i]) + work(work(moved + work(512)) >> work(10)))
        sharp[i] = wide(min(max(found, work(0)), top))


@compiled
def _add_short(level: AnyArray, s: AnyArray, taps: AnyArray, top: Any, sharp: AnyArray) -> None:
    """The same of short sums, with room behind all."""
    share_nothing()
    c0, c1, c2 = np.int16(taps[0]), np.int16(taps[1]), np.int16(taps[2])
    c3, c4 = np.int16(taps[3]), np.int16(taps[4])
    for i in range(0, level.size, LANES):
        sharp_lanes(level, s, i, c0, c1, c2, c3, c4, np.int16(top), sharp)


@compiled
def _copy(source: AnyArray, target: AnyArray) -> None:
    share_nothing()
    value = target.dtype.type
    for i in range(target.size):
        target[i] = value(source[i])


@compiled
def _fill(value: Any, target: AnyArray) -> None:
    share_nothing()
    for i in range(target.size):
        target[i] = value


@compiled
def _new_innovation(q: AnyArray, level: AnyArray, decay: Any, clip: Any, s: AnyArray) -> None:
    """Add a row's innovations to the decaying sums of those above."""
    share_nothing()
    n = q.size
    inner = row(s, 2, n + 2)
    wide = s.dtype.type
    low = wide(-clip)
    for i in range(n):
        found = wide(wide(wide(q[i]) << wide(7)) - wide(level[i]))
        old = wide(wide(inner[i] * decay) >> wide(4))
        inner[i] = wide(min(max(found, low), clip) + old)
    s[0] = s[1] = s[2]
    s[n + 2] = s[n + 3] = s[n + 1]


@compiled
def _new_short(q: AnyArray, level: AnyArray, decay: Any, s: AnyArray) -> None:
    """The same of short sums, for a decay that keeps them short."""
    share_nothing()
    n = q.size
    inner = row(s, 2, n + 2)
    low, high = np.int16(-_CLIP), np.int16(_CLIP)
    # s * decay >> 4 from the high half of a product of short integers, the factor less one where it is large.
    keep = np.int16(-1) if decay >= 8 else np.int16(0)
    factor = np.int32(np.int16(decay << 12))
    for i in range(n):
        found = np.int16(np.int16(np.int16(q[i]) << np.int16(7)) - level[i])
        old = np.int16(np.int32(np.int32(inner[i]) * factor) >> np.int32(16))
        old = np.int16(old + np.int16(inner[i] & keep))
        inner[i] = np.int16(min(max(found, low), high) + old)
    s[0] = s[1] = s[2]
    s[n + 2] = s[n + 3] = s[n + 1]


@compiled
def _index_codes(sharp: AnyArray, q: AnyArray, index: AnyArray, high: AnyArray) -> None:
    """Where the rank of each code stands in the table, and the high bytes of the ranks."""
    share_nothing()
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
    share_nothing()
    wide, value = sharp.dtype.type, base.dtype.type
    for i in range(low.size):
        start = max(wide(wide(sharp[i] >> wide(7)) - wide(LEVELS)), wide(0))
        context = wide(wide(sharp[i] >> wide(5)) - wide(start << wide(2)))
        index[i] = np.uint16(wide(context << wide(8))) | np.uint16(low[i])
        base[i] = value(start)


@compiled
def _look_up(table: AnyArray, index: AnyArray, out: AnyArray) -> None:
    """Bytes of a table."""
    share_nothing()
    # Four at once: the compiler does not unroll it, and half of the time would go into the loop.
    end = out.size & ~3
    for i in range(0, end, 4):
        a, b = table[np.uint64(index[i])], table[np.uint64(index[i + 1])]
        c, d = table[np.uint64(index[i + 2])], table[np.uint64(index[i + 3])]
        out[i], out[i + 1], out[i + 2], out[i + 3] = a, b, c, d
    for i in range(end, out.size):
        out[i] = table[np.uint64(index[i])]


@compiled
def _join(found: AnyArray, base: AnyArray, high: AnyArray, q: AnyArray) -> None:
    """Codes of their offsets from the base, low and high bytes."""
    share_nothing()
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
        taps: AnyArray,
        table: AnyArray,
        low: AnyArray,
        high: AnyArray,
        top: Any,
    ) -> None:
        share_nothing()
        work, value = taps.dtype.type, q.dtype.type
        west, west2 = taps[5], taps[6]
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
            d1 = min(max(work(work(work(q[i]) << work(7)) - work(level[i])), work(-clip)), clip)

    return _run


_serial_ranks = _serial_row(decode=False)
_serial_codes = _serial_row(decode=True)


def _model_loop(short: bool) -> Callable[..., Any]:
    """The loop over a chunk, for running means that are short or others."""
    predict = _predict_short if short else _predict_wide

    @compiled
    def model_loop(
        decode: bool,
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
        """Ranks of the codes `q`, or the codes of ranks: one loop for both, which compiles once.

        Codes that are decoded come read-only too, so that their type is one; `row` takes the mark off.
        """
        frames, planes, height, width = q.shape
        work = temporal.dtype.type
        area = height * width
        top = work(work((256 if q.itemsize == 1 else 65536) - 1) << work(7))
        rows = max(1, min(height, BLOCK // width))
        mixed = np.empty((rows + 3) * width + LANES, temporal.dtype)
        sums = np.empty(rows * width + 2 + LANES, temporal.dtype)
        level = np.empty(rows * width + LANES, state.dtype)
        sharp = np.empty(width + LANES, state.dtype)
        index = np.empty(rows * width, np.uint16)
        found = np.empty(rows * width, np.uint8)
        base = np.empty(rows * width, q.dtype)
        s = np.zeros(width + 4, np.int32)
        s_short = np.zeros(width + 4 + LANES, np.int16)
        wide = high.size > 0
        for t in range(frames):
            taps = first if t == 0 else above
            fall = np.int32(decay[min(t, 1)])
            clip = np.int32(_CLIP_FIRST if t == 0 else _CLIP)
            sums_short = short and t > 0 and fall <= _SHORT_FALL
            looks_up = False
            for i in range(5):
                looks_up |= taps[i] != 0
            for plane in range(planes):
                place = plane * area
                ea, eb = row(state, 0, place, place + area), row(state, 1, place, place + area)
                _fill(np.int32(0), s)
                _fill(np.int16(0), s_short)
                for y0 in range(0, height, rows):
                    y1 = min(height, y0 + rows)
                    size = (y1 - y0) * width
                    if t == 0:
                        _fill(state.dtype.type(mean), level)
                    else:
                        predict(ea, eb, y0, y1, width, temporal, mixed, sums, level, top)
                    # Where rows do not ask those above, the whole block is one.
                    step = width if looks_up or t == 0 else size
                    for start in range(0, size, step):
                        stop = start + step
                        at = y0 * width + start
                        line = row(q, t, plane, 0, at, at + step)
                        ranks = row(low, t, plane, 0, at, at + step)
                        at += (t * planes + plane) * area
                        more = row(high, at, at + step) if wide else high
                        past = row(level, start, stop)
                        levels = past
                        if looks_up:
                            levels = row(sharp, 0, width)
                            if short:
                                if sums_short:
                                    _add_short(past, s_short, taps, top, levels)
                                else:
                                    _add_innovation(past, s, taps, top, levels)
                            else:
                                _add_innovation(past, s, taps, top, levels)
                        if t == 0:
                            if decode:
                                _serial_codes(line, past, levels, taps, table, ranks, more, top)
                            else:
                                _serial_ranks(line, past, levels, taps, table, ranks, more, top)
                        else:
                            places, bytes_found = row(index, 0, step), row(found, 0, step)
                            if decode:
                                lowest = row(base, 0, step)
                                _index_ranks(levels, ranks, places, lowest)
                                _look_up(table, places, bytes_found)
                                _join(bytes_found, lowest, more, line)
                            else:
                                _index_codes(levels, line, places, more)
                                _look_up(table, places, ranks)
                        if looks_up:
                            if short:
                                if sums_short:
                                    _new_short(line, past, fall, s_short)
                                else:
                                    _new_innovation(line, past, fall, clip, s)
                            else:
                                _new_innovation(line, past, fall, clip, s)
                    done = row(q, t, plane, 0, y0 * width, y0 * width + size)
                    mean_a = row(ea, y0 * width, y0 * width + size)
                    mean_b = row(eb, y0 * width, y0 * width + size)
                    if t == 0:
                        begin(done, mean_a)
                        begin(done, mean_b)
                    else:
                        _update(done, mean_a, np.int16(rate_at(rates[0], t)))
                        _update(done, mean_b, np.int16(rate_at(rates[1], t)))

    return model_loop


_short_loop = _model_loop(short=True)
_wide_loop = _model_loop(short=False)


def code_to_rank(q: AnyArray, low: AnyArray, high: AnyArray, table: AnyArray, *rest: Any) -> None:
    """Ranks of codes (time, plane, y, x).

    Parameters
    ----------
    q, low, high
        Codes; low bytes of the ranks, of the same shape; high bytes flat, or nothing for codes of one byte.
    table
        Rank of every code per context.
    rest
        ``rates, temporal, above, first, decay, mean``: the model, its numbers in the type of the arithmetic;
        ``state``: scratch of two rows, each longer than a frame by `LANES` or more.
    """
    _loop(q)(False, _read_only(q), low, high, table, *rest)


def rank_to_code(q: AnyArray, low: AnyArray, high: AnyArray, table: AnyArray, *rest: Any) -> None:
    """Inverse of `code_to_rank`; `table` holds the code of every rank per context."""
    _loop(q)(True, _read_only(q), low, high, table, *rest)


def _loop(q: AnyArray) -> Callable[..., Any]:
    return _short_loop if q.itemsize == 1 else _wide_loop


def _read_only(q: AnyArray) -> AnyArray:
    view = q.view()
    view.flags.writeable = False
    return view
