"""The compiled loops that predict for the frame coder's method 4: levels, contexts and ranks.

Levels (predictions and running means) are in 1/128 code, the weights of a set in 1/4096. Running means are
int16 for codes of one byte and int32 for two, with an edge of one pixel all round that repeats the outermost
pixels. All arithmetic is a decoder's: int32, or int16 where it says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from anscombe_transform._contexts_kernels import ACTIVITIES
from anscombe_transform._frame_kernels import compiled, rate_at
from anscombe_transform._model_kernels import CONTEXTS, LEVELS
from anscombe_transform._parts_of_kernels import inner, row, share_nothing

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    AnyArray = npt.NDArray[Any]

TEMPORAL = 19
"""Weights of the past: 3 × 3 pixels of the fast mean, 8 of the slow one, the level, and the change."""

TAPS, GAINS = TEMPORAL, TEMPORAL + 5
SMALL = TEMPORAL + 9
"""All weights of a set: those of the past, of the innovations above, and the gains of the activities."""

LEVEL, CONSTANT = SMALL, SMALL + 1
WEIGHTS = SMALL + 2

TAPPED = 17
"""Where the weights of the innovations above begin among the small ones, which lack level and change."""

STEADY = TAPPED + 5
"""Where the gains begin among them."""

QUIET = 128

_CLIP = 2040
_LOUD = 2047
_LIMIT = 32767


class Work(NamedTuple):
    """Scratch that predicts a plane (y, x): one of it serves a chunk."""

    difference: AnyArray
    """Of the two means, of all planes with their edges."""
    level: AnyArray
    change: AnyArray
    total: AnyArray
    """What the surroundings add to a level."""
    small: AnyArray
    """Weights as the loops take them, those of the surroundings and above in 1/16384."""
    seen: AnyArray
    """Of each column, and two more at either end, sum and mean magnitude of the innovations above."""
    moved: AnyArray
    """Of each pixel of a row, what the rows above show, and its gain."""
    place: AnyArray
    """Where the order of its context begins in the table of the model."""
    base: AnyArray
    """The code that the order begins from."""


def work_for(q: AnyArray) -> Work:
    """Scratch for codes (time, plane, y, x)."""
    _, planes, height, width = q.shape
    return Work(
        difference=np.empty((planes, height + 2, width + 2), np.int16),
        level=np.empty((height, width), np.int16 if q.itemsize == 1 else np.int32),
        change=np.empty((height, width), np.int16),
        total=np.empty((height, width), np.int16),
        small=np.empty(STEADY + ACTIVITIES, np.int16),
        seen=np.empty((2, width + 4), np.int16),
        moved=np.empty((2, width), np.int16),
        place=np.empty(width, np.uint16),
        base=np.empty(width, q.dtype),
    )


@inner
def borrowed(work: Work) -> Work:
    """Views of it that count no references, which costs more than a call with each row."""
    return Work(
        row(work.difference, 0, len(work.difference)),
        row(work.level, 0, len(work.level)),
        row(work.change, 0, len(work.change)),
        row(work.total, 0, len(work.total)),
        row(work.small, 0, len(work.small)),
        row(work.seen, 0, len(work.seen)),
        row(work.moved, 0, len(work.moved)),
        row(work.place, 0, len(work.place)),
        row(work.base, 0, len(work.base)),
    )


# --- the past -----------------------------------------------------------------------------------------------


@compiled
def _part(value: Any, weight: Any) -> Any:
    """The upper half of a product of 32 bits: one instruction for sixteen pixels."""
    return np.int16(np.int32(np.int32(value) * np.int32(weight)) >> np.int32(16))


@inner
def differences(state: AnyArray, out: AnyArray) -> None:
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
    away = _away_narrow if narrow else _away_wide

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
                found = small(found + _part(away(b0[i], own), v0))
                found = small(found + _part(away(b0[i + 1], own), v1))
                found = small(found + _part(away(b0[i + 2], own), v2))
                found = small(found + _part(away(b1[i], own), v3))
                found = small(found + _part(away(b1[i + 2], own), v5))
                found = small(found + _part(away(b2[i], own), v6))
                found = small(found + _part(away(b2[i + 1], own), v7))
                total[i] = small(found + _part(away(b2[i + 2], own), v8))

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
    scale, follow, constant = w[17], w[18], np.int32(w[CONSTANT] + np.int32(2048))
    at = np.int32(w[LEVEL] << np.int32(4))
    height, width = out.shape
    for y in range(height):
        own, level = row(state, 1, plane, y + 1, 1, width + 1), row(out, y, 0, width)
        changed, added = row(change, y, 0, width), row(total, y, 0, width)
        for i in range(width):
            mean = np.int32(own[i])
            moved = min(max(np.int32(changed[i]), np.int32(-QUIET)), np.int32(QUIET))
            above = np.int32(np.int32(mean - at) >> np.int32(4))
            above = min(max(above, np.int32(-_LIMIT)), np.int32(_LIMIT))
            more = np.int32(np.int32(np.int32(moved * follow) + np.int32(above * scale)) + constant)
            found = np.int32(np.int32(more >> np.int32(12)) + np.int32(np.int32(added[i]) << np.int32(2)))
            found = np.int32(found + mean)
            level[i] = wide(min(max(found, np.int32(0)), top))


def _plane_loop(narrow: bool) -> Callable[..., Any]:
    """The loops that predict a plane from the past."""

    @compiled
    def _levels_of_plane(state: AnyArray, plane: int, w: AnyArray, work: Work) -> None:
        _changes(work.difference, plane, work.change)
        if narrow:
            _surroundings_of_bytes(work.difference, state, plane, work.small, work.total)
        else:
            _surroundings_of_words(work.difference, state, plane, work.small, work.total)
        top = np.int32(((256 if narrow else 65536) - 1) << 7)
        _levels(state, plane, work.total, work.change, w, top, work.level)

    return _levels_of_plane


levels_of_bytes = _plane_loop(narrow=True)
levels_of_words = _plane_loop(narrow=False)


@inner
def small_weights(w: AnyArray, out: AnyArray) -> None:
    """The weights of a set that `Work` has as small ones."""
    for k in range(17):
        out[k] = np.int16(w[k] << 2)
    for k in range(5):
        out[TAPPED + k] = np.int16(w[TAPS + k] << 2)
    for k in range(ACTIVITIES):
        out[STEADY + k] = np.int16(w[GAINS + k])


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


def begin_means(q: AnyArray, state: AnyArray) -> None:
    """Running means (2, plane, y + 2, x + 2) after the first frame (plane, y, x)."""
    state[:, :, 1:-1, 1:-1] = q.astype(state.dtype) << 7
    state[..., 0], state[..., -1] = state[..., 1], state[..., -2]
    state[..., 0, :], state[..., -1, :] = state[..., 1, :], state[..., -2, :]


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


@inner
def move_means(q: AnyArray, rates: AnyArray, t: int, plane: int, state: AnyArray) -> None:
    """Move both, and their edges."""
    for k in range(2):
        _move(q, k, plane, np.int16(rate_at(rates[k], t)), state)
        _frame_edges(row(state, k, plane, 0, len(q) + 2))


# --- the rows above, and contexts ---------------------------------------------------------------------------


@inner
def quiet_rows(seen: AnyArray, limits: AnyArray) -> None:
    """What the rows above the first are taken for."""
    for i in range(seen.shape[1]):
        seen[0, i] = 0
        seen[1, i] = limits[0] >> 1


@inner
def look_above(y: int, limits: AnyArray, top: Any, work: Work, context: AnyArray) -> None:
    """Contexts of a row, of its levels and of what the rows above have shown.

    `limits` are three of the activity and the share of the change in it, in 1/16.
    """
    n = context.size
    _weigh_above(
        row(work.level, y, 0, n),
        row(work.change, y, 0, n),
        row(work.seen, 0, 0, n + 4),
        row(work.seen, 1, 0, n + 4),
        row(work.small, TAPPED, TAPPED + 5),
        row(work.small, STEADY, STEADY + ACTIVITIES),
        limits,
        top,
        row(work.moved, 0, 0, n),
        row(work.moved, 1, 0, n),
        context,
        work.place,
        work.base,
    )


@inner
def _weigh_above(
    level: AnyArray,
    change: AnyArray,
    s: AnyArray,
    a: AnyArray,
    taps: AnyArray,
    gains: AnyArray,
    limits: AnyArray,
    top: Any,
    moved: AnyArray,
    gain: AnyArray,
    context: AnyArray,
    place: AnyArray,
    base: AnyArray,
) -> None:
    """The same of arrays that share nothing."""
    share_nothing()
    value = base.dtype.type
    c0, c1, c2, c3, c4 = taps[0], taps[1], taps[2], taps[3], taps[4]
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


@inner
def new_innovation(q: AnyArray, level: AnyArray, decay: Any, seen: AnyArray) -> None:
    """Move the sums of the innovations of each column on by a row, and the mean of their magnitudes."""
    n = q.size
    _add_innovation(q, level, decay, row(seen, 0, 2, n + 2), row(seen, 1, 2, n + 2))
    for k in range(2):
        seen[k, 0] = seen[k, 1] = seen[k, 2]
        seen[k, n + 2] = seen[k, n + 3] = seen[k, n + 1]


@inner
def _add_innovation(q: AnyArray, level: AnyArray, decay: Any, sums: AnyArray, means: AnyArray) -> None:
    """The same without the padding, of arrays that share nothing."""
    share_nothing()
    wide, small = level.dtype.type, np.int16
    for i in range(q.size):
        away = wide(wide(wide(q[i]) << wide(7)) - level[i])
        found = small(min(max(away, wide(-_LOUD)), wide(_LOUD)))
        size = max(found, small(-found))
        found = min(max(found, small(-_CLIP)), small(_CLIP))
        old = sums[i]
        sums[i] = small(small(old - small(old >> small(decay & small(15)))) + found)
        means[i] = small(small(size + small(means[i] * small(3))) >> small(2))


@inner
def take_ranks(
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


@inner
def restore(symbols: AnyArray, place: AnyArray, base: AnyArray, table: AnyArray, q: AnyArray) -> Any:
    """Codes of a row of symbols; returns the largest of these. `place` is then where each is in the table."""
    share_nothing()
    value = q.dtype.type
    most = np.uint8(0)
    for i in range(q.size):
        place[i] = np.uint16(place[i] | np.uint16(symbols[i]))
        most = max(most, symbols[i])
    for i in range(q.size):
        q[i] = value(value(table[np.uint64(place[i])]) + base[i])
    return most
