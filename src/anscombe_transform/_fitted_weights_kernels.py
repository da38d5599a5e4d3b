"""The compiled loops of the frame coder's method 4 that fit weights to a frame, in floating point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numba import njit

from anscombe_transform import _still_kernels
from anscombe_transform._contexts_kernels import ACTIVITIES
from anscombe_transform._fitted_levels_kernels import (
    CONSTANT,
    GAINS,
    LEVEL,
    QUIET,
    TAPS,
    TEMPORAL,
    WEIGHTS,
    Work,
    new_innovation,
    quiet_rows,
)
from anscombe_transform._frame_kernels import compiled
from anscombe_transform._parts_of_kernels import INNER, inner, row, share_nothing

if TYPE_CHECKING:
    import numpy.typing as npt

    AnyArray = npt.NDArray[Any]

FEATURES = TEMPORAL + 2
SEGMENT = 32
BLOCK = 1024
# What earlier frames count in the fit of the next, and how much less a set may cost to be worth it.
_MEMORY = 0.8
_RIDGE = 1e-4
_LONGEST = 256
_MANY = 256
_PRECISIONS = (5, 6, 7, 8, 10)


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
    most = np.float32(QUIET / 16)
    for i in range(n):
        change[i] = min(max(change[i], -most), most)


@inner
def _scale(by: float, out: AnyArray) -> None:
    """Multiply a table by a number."""
    for i in range(len(out)):
        for j in range(out.shape[1]):
            out[i, j] *= by


@inner
def _products(
    state: AnyArray,
    difference: AnyArray,
    q: AnyArray,
    places: AnyArray,
    step: int,
    level: Any,
    table: AnyArray,
    out: AnyArray,
) -> int:
    """Products of the features at every `step`-th place with each other; the number of pixels."""
    _scale(0.0, out)
    for i in range(BLOCK):
        table[FEATURES - 1, i] = np.float32(1)
    count = (len(places) + step - 1) // step
    for s in range(count):
        plane, y, x = places[s * step, 0], places[s * step, 1], places[s * step, 2]
        at = s * SEGMENT % BLOCK
        _features_of_segment(state, difference, q, plane, y, x, level, table, at)
        if at == BLOCK - SEGMENT or s == count - 1:
            _add_products(table, at + SEGMENT, out)
    return count * SEGMENT


@njit(nogil=True, cache=True, fastmath=True, **INNER)  # type: ignore[untyped-decorator]
def _nine_dots(
    a: AnyArray, b: AnyArray, c: AnyArray, x: AnyArray, y: AnyArray, z: AnyArray, out: AnyArray
) -> None:
    """Sums of the products of three features with three others, in any order."""
    share_nothing()
    ax = ay = az = bx = by = bz = cx = cy = cz = np.float32(0)
    for i in range(a.size):
        p, q, r = x[i], y[i], z[i]
        one, two, three = a[i], b[i], c[i]
        ax += one * p
        ay += one * q
        az += one * r
        bx += two * p
        by += two * q
        bz += two * r
        cx += three * p
        cy += three * q
        cz += three * r
    out[0], out[1], out[2] = ax, ay, az
    out[3], out[4], out[5] = bx, by, bz
    out[6], out[7], out[8] = cx, cy, cz


@inner
def _add_products(table: AnyArray, size: int, out: AnyArray) -> None:
    """Add the products of the first features with each other; their number is a multiple of three."""
    found = np.empty(9, np.float32)
    for i in range(0, len(out), 3):
        a, b, c = row(table, i, 0, size), row(table, i + 1, 0, size), row(table, i + 2, 0, size)
        for j in range(0, i + 1, 3):
            x, y, z = row(table, j, 0, size), row(table, j + 1, 0, size), row(table, j + 2, 0, size)
            _nine_dots(a, b, c, x, y, z, found)
            for k in range(3):
                for n in range(3 if j < i else k + 1):
                    out[i + k, j + n] += found[3 * k + n]
                    out[j + n, i + k] = out[i + k, j + n]


@inner
def _solve(gram: AnyArray, ridge: float, out: AnyArray) -> None:
    """Weights of the features for the first of them."""
    # Nothing is literal here: `least_squares` would be compiled for it once more.
    _still_kernels.least_squares(gram, len(gram), len(gram) > 0, ridge, out)


@inner
def _whole(
    gram: AnyArray, found: AnyArray, pixels: float, size: int, tried: AnyArray, out: AnyArray
) -> float:
    """Weights of a set of those found for the features, as coarse as pays; what they cost, in bits.

    The first number of `out` beyond the set is the precision. Infinite if none are allowed.
    """
    least = np.inf
    tried[0] = 0.0
    for precision in _PRECISIONS:
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
        bits = 0.5 * size * np.log2(_still_kernels.loss(gram, len(gram), tried, pixels)) + cost
        if bits < least:
            least = bits
            for f in range(1, FEATURES - 1):
                out[f - 1] = np.int32(np.floor(tried[f] * 4096 + 0.5))
            # The halves of 1/32 code that each pixel around loses by rounding down.
            out[CONSTANT] = np.int32(np.floor(tried[FEATURES - 1] * 65536 + 0.5)) + (17 << 13)
            out[WEIGHTS] = precision
    return least


@inner
def _in_force(gram: AnyArray, w: AnyArray, pixels: float, size: int, tried: AnyArray) -> float:
    """What the weights of a set cost, in bits."""
    for f in range(1, FEATURES - 1):
        tried[f] = w[f - 1] / 4096
    tried[FEATURES - 1] = (w[CONSTANT] - (17 << 13)) / 65536
    bits: float = 0.5 * size * np.log2(_still_kernels.loss(gram, len(gram), tried, pixels))
    return bits


class Fit(NamedTuple):
    """What the fit of a frame works with, and remembers of the frames before."""

    table: AnyArray
    """Features of some pixels."""
    gram: AnyArray
    """Their products in this frame."""
    known: AnyArray
    """Those of the frames before as well, the last ones most of all."""
    above: AnyArray
    """The same of the innovations above."""
    gains: AnyArray
    """And of what all these show with what is left to show, and with itself, by activity."""
    found: AnyArray
    tried: AnyArray
    sets: AnyArray
    """Two sets of weights to choose from, each with its precision behind it."""


def fit_for() -> Fit:
    """What the fit of a chunk works with."""
    return Fit(
        table=np.empty((FEATURES, BLOCK), np.float32),
        gram=np.zeros((FEATURES, FEATURES)),
        known=np.zeros((FEATURES, FEATURES)),
        above=np.zeros((6, 6)),
        gains=np.zeros((ACTIVITIES, 2)),
        found=np.zeros(FEATURES),
        tried=np.zeros(FEATURES),
        sets=np.zeros((2, WEIGHTS + 1), np.int32),
    )


@inner
def fit_past(
    q: AnyArray,
    state: AnyArray,
    difference: AnyArray,
    places: AnyArray,
    middle: Any,
    fit: Fit,
    sets: AnyArray,
    count: int,
    used: int,
) -> bool:
    """Fit weights to the frame (plane, y, x); whether they pay for becoming the set `count`.

    The last one is for `used` frames already.
    """
    gram, known, ours = fit.gram, fit.known, fit.sets
    # Where weights last, half of the places show whether they go on doing so.
    step: Any = np.int64(2 if used > 1 and len(places) >= _MANY else 1)
    pixels = float(_products(state, difference, q, places, step, middle, fit.table, gram))
    size = q.size
    _scale(_MEMORY, known)
    for i in range(FEATURES):
        for j in range(FEATURES):
            known[i, j] += gram[i, j]
    for n in range(2):
        for k in range(WEIGHTS):
            ours[n, k] = sets[max(count - 1, 0), k]
        ours[n, LEVEL] = middle
    together, alone = row(ours, 0, 0, WEIGHTS + 1), row(ours, 1, 0, WEIGHTS + 1)
    _solve(known, _RIDGE, fit.found)
    cost = _whole(gram, fit.found, pixels, size, fit.tried, together)
    _solve(gram, _RIDGE, fit.found)
    # Weights of one frame alone fit its noise as well.
    less = _whole(gram, fit.found, pixels, size, fit.tried, alone) + size * FEATURES / pixels * 1.4427
    if less < cost:
        cost, together = less, alone
    if count > 0 and used < _LONGEST:
        last = row(sets, count - 1, 0, WEIGHTS + 1)
        if cost >= _in_force(gram, last, pixels, size, fit.tried):
            return False
    for k in range(WEIGHTS + 1):
        sets[count, k] = together[k] if np.isfinite(cost) else 0
    sets[count, LEVEL] = middle
    if not np.isfinite(cost):
        # What is fitted later has to be rounded finely enough to stay within the format's limits.
        sets[count, WEIGHTS] = _PRECISIONS[0]
    return True


@inner
def fit_above(q: AnyArray, decay: Any, limits: AnyArray, work: Work, fit: Fit, w: AnyArray) -> None:
    """Fit the weights of the innovations above, then the gains, to strips of rows of a plane (y, x)."""
    _scale(_MEMORY, fit.above)
    _scale(_MEMORY, fit.gains)
    for second in range(2):
        _look_at_strips(q, decay, limits, second > 0, work, fit, w)
        if second:
            _round_gains(fit.gains, w)
        else:
            _solve(fit.above, 1e-3, fit.found)
            _round_taps(fit.found, w)


@inner
def _look_at_strips(
    q: AnyArray, decay: Any, limits: AnyArray, gains: bool, work: Work, fit: Fit, w: AnyArray
) -> None:
    """Add up the products for the gains, or for the weights: of eight rows each, with six before them."""
    height, width = q.shape
    for first in range(0, height, max(16, height // 6)):
        quiet_rows(work.seen, limits)
        for y in range(first, min(first + 14, height)):
            line, past = row(q, y, 0, width), row(work.level, y, 0, width)
            if y >= first + 6:
                if gains:
                    s, a = row(work.seen, 0, 0, width + 4), row(work.seen, 1, 0, width + 4)
                    _add_gains(line, past, s, a, row(work.change, y, 0, width), w, limits, fit.gains)
                else:
                    size = min(width, BLOCK)
                    _features_above(line, past, work.seen, size, fit.table)
                    _add_products(fit.table, size, fit.above)
            new_innovation(line, past, decay, work.seen)


@inner
def _features_above(q: AnyArray, level: AnyArray, seen: AnyArray, size: int, out: AnyArray) -> None:
    """What is left of the codes of a row, and the innovations above, in codes."""
    part = np.float32(1 / 128)
    for i in range(size):
        out[0, i] = np.float32((np.int32(q[i]) << 7) - np.int32(level[i])) * part
    for k in range(5):
        for i in range(size):
            out[k + 1, i] = np.float32(seen[0, i + k]) * part


@inner
def _round_taps(found: AnyArray, w: AnyArray) -> None:
    """Put weights of the innovations above into a set, at its precision and within the format's limits."""
    unit = 1 << (12 - w[WEIGHTS])
    total = 0.0
    for k in range(5):
        total += abs(found[k + 1])
    shrink = 1.9 / total if total > 1.9 else 1.0
    for k in range(5):
        steps = np.trunc(found[k + 1] * shrink * 4096 / unit + np.copysign(0.5, found[k + 1]))
        w[TAPS + k] = np.int32(min(max(steps * unit, -8128), 8128))


@inner
def _round_gains(gains: AnyArray, w: AnyArray) -> None:
    """The same of gains, which without evidence are one."""
    unit = 1 << (12 - w[WEIGHTS])
    for k in range(ACTIVITIES):
        gain = (gains[k, 0] + 200.0) / (gains[k, 1] + 200.0)
        gain = np.floor(min(max(gain, 0.0), 2.0) * 4096 / unit + 0.5)
        w[GAINS + k] = np.int32(min(gain * unit, 8192 - unit))


@njit(nogil=True, cache=True, fastmath=True, **INNER)  # type: ignore[untyped-decorator]
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
    """Products of what the rows above show with what is left to show, by activity, in any order."""
    share_nothing()
    part, most = np.float32(1 / (4096 * 128)), np.float32(32)
    c0, c1 = np.float32(w[TAPS]) * part, np.float32(w[TAPS + 1]) * part
    c2, c3 = np.float32(w[TAPS + 2]) * part, np.float32(w[TAPS + 3]) * part
    c4 = np.float32(w[TAPS + 4]) * part
    l0, l1, l2, share = np.int32(limits[0]), np.int32(limits[1]), np.int32(limits[2]), np.int32(limits[3])
    nothing = np.float32(0)
    p0 = p1 = p2 = p3 = s0 = s1 = s2 = s3 = nothing
    for i in range(q.size):
        moved = np.float32(s[i]) * c0 + np.float32(s[i + 1]) * c1 + np.float32(s[i + 2]) * c2
        moved += np.float32(s[i + 3]) * c3 + np.float32(s[i + 4]) * c4
        around = np.int32(np.int32(np.int32(a[i + 1]) + np.int32(a[i + 2])) + np.int32(a[i + 3]))
        around = np.int32(np.int32(np.int32(a[i]) + np.int32(a[i + 4])) + np.int32(around << np.int32(1)))
        found = np.int32(np.int32(abs(np.int32(change[i])) * share) >> np.int32(4))
        z = np.int32(np.int32(around >> np.int32(3)) + found)
        left = np.float32(q[i]) - np.float32(level[i]) * np.float32(1 / 128)
        left = min(max(left, -most), most)
        product, square = moved * left, moved * moved
        p0 += product
        p1 += product if z >= l0 else nothing
        p2 += product if z >= l1 else nothing
        p3 += product if z >= l2 else nothing
        s0 += square
        s1 += square if z >= l0 else nothing
        s2 += square if z >= l1 else nothing
        s3 += square if z >= l2 else nothing
    gains[0, 0] += p0 - p1
    gains[1, 0] += p1 - p2
    gains[2, 0] += p2 - p3
    gains[3, 0] += p3
    gains[0, 1] += s0 - s1
    gains[1, 1] += s1 - s2
    gains[2, 1] += s2 - s3
    gains[3, 1] += s3
