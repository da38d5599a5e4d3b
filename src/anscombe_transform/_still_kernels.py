"""The compiled loops of the frame coder's linear prediction; each has a plain numpy twin in the tests.

A code is predicted from the running mean of its pixel and of the pixels around, and from the differences
between codes and means in the rows above and on the left. Means and differences are in 1/8 code, differences
within 16 bits; weights are in 1/4096, and their magnitudes sum to 8 at most, so that 32 bits hold every sum.

Rows of differences have three numbers more at the front and three at the end than the row has pixels, rows of
means one at either end: what a loop finds there stands for pixels beyond the edge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

from anscombe_transform._frame_kernels import _count, begin, compiled
from anscombe_transform._model_kernels import _update
from anscombe_transform._parts_of_kernels import INNER, row, share_nothing, stay_apart

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    AnyArray = npt.NDArray[Any]

PAD = 3
TAPS = 12
"""Differences that a prediction weighs: W WW WWW N NW NE NWW NEE NN NNW NNE NNN."""
WEIGHTS = TAPS + 6
"""Of the taps; of the mean, those beside, above and below, and diagonal; then a level and a constant."""
SEGMENT = 32
"""Pixels in a row that the fit looks at together."""
FEATURES = TAPS + 6
"""Rows of the fit's table: the code, N, the other taps, and four of the means; all but N relative to N."""


@compiled
def _means(state: AnyArray, m: AnyArray) -> None:
    """A row of means in 1/8 code."""
    stay_apart()
    n = state.size
    inner = row(m, 1, n + 1)
    for i in range(n):
        inner[i] = np.int32(np.int32(state[i] + np.int32(8)) >> np.int32(4))
    m[0] = m[1]
    m[n + 1] = m[n]


@compiled
def _limited(v: Any) -> Any:
    """A difference within 16 bits, signed."""
    return min(max(v, np.int32(-32767)), np.int32(32767))


@compiled
def _prior(above: AnyArray, here: AnyArray, below: AnyArray, w: AnyArray, out: AnyArray) -> None:
    """What the means around add to the mean of each pixel."""
    stay_apart()
    own, beside, upright, diagonal, level, constant = w[0], w[1], w[2], w[3], w[4], w[5]
    for i in range(out.size):
        mean = here[i + 1]
        twice = np.int32(mean << np.int32(1))
        sides = _limited(np.int32(np.int32(here[i] + here[i + 2]) - twice))
        middle = _limited(np.int32(np.int32(above[i + 1] + below[i + 1]) - twice))
        outer = np.int32(np.int32(above[i] + below[i]) + np.int32(above[i + 2] + below[i + 2]))
        outer = _limited(np.int32(outer - np.int32(mean << np.int32(2))))
        total = np.int32(np.int32(_limited(np.int32(mean - level)) * own) + np.int32(sides * beside))
        total = np.int32(np.int32(total + np.int32(middle * upright)) + np.int32(outer * diagonal))
        out[i] = np.int32(total + constant)


@compiled
def _add_above(d1: AnyArray, d2: AnyArray, d3: AnyArray, w: AnyArray, out: AnyArray) -> None:
    """Add what the differences in the three rows above predict."""
    stay_apart()
    n, nw, ne, nww, nee = w[3], w[4], w[5], w[6], w[7]
    nn, nnw, nne, nnn = w[8], w[9], w[10], w[11]
    for i in range(out.size):
        one = np.int32(np.int32(d1[i + 3] * n) + np.int32(d1[i + 2] * nw))
        two = np.int32(np.int32(d1[i + 4] * ne) + np.int32(d1[i + 1] * nww))
        three = np.int32(np.int32(d1[i + 5] * nee) + np.int32(d2[i + 3] * nn))
        four = np.int32(np.int32(d2[i + 2] * nnw) + np.int32(d2[i + 4] * nne))
        five = np.int32(out[i] + np.int32(d3[i + 3] * nnn))
        out[i] = np.int32(np.int32(one + two) + np.int32(np.int32(three + four) + five))


@compiled
def _add_left(d: AnyArray, w: AnyArray, out: AnyArray) -> None:
    """Add what the differences on the left predict, where they are known."""
    stay_apart()
    w1, w2, w3 = w[0], w[1], w[2]
    for i in range(out.size):
        one = np.int32(np.int32(d[i + 2] * w1) + np.int32(d[i + 1] * w2))
        out[i] = np.int32(np.int32(out[i] + one) + np.int32(d[i] * w3))


@compiled
def _differences(q: AnyArray, m: AnyArray, d: AnyArray) -> None:
    """Differences between the codes of a row and its means."""
    stay_apart()
    inner = row(d, PAD, PAD + q.size)
    for i in range(q.size):
        inner[i] = _limited(np.int32(np.int32(np.int32(q[i]) << np.int32(3)) - m[i]))


@compiled
def _pad(d: AnyArray, left: Any, right: Any) -> None:
    """What stands for differences beyond the edges."""
    n = d.size
    for i in range(PAD):
        d[i] = left
        d[n - 1 - i] = right


@compiled
def _predictions(total: AnyArray, m: AnyArray) -> None:
    """Predicted codes of a row, of what is added to its means."""
    stay_apart()
    for i in range(total.size):
        level = np.int32(m[i] + np.int32(np.int32(total[i] + np.int32(2048)) >> np.int32(12)))
        total[i] = np.int32(np.int32(level + np.int32(4)) >> np.int32(3))


@compiled
def _symbols(q: AnyArray, predicted: AnyArray, out: AnyArray) -> None:
    """Residuals of a row, modulo the range of the codes, small ones of either sign first."""
    stay_apart()
    value = out.dtype.type
    bits = np.int32(8 * out.itemsize - 1)
    for i in range(q.size):
        r = value(np.int32(q[i]) - predicted[i])
        sign = value(value(0) - value(r >> value(bits)))
        out[i] = value(value(r << value(1)) ^ sign)


@compiled
def _restore(symbols: AnyArray, predicted: AnyArray, q: AnyArray) -> None:
    """Inverse of `_symbols`."""
    stay_apart()
    value = q.dtype.type
    for i in range(q.size):
        s = symbols[i]
        r = value(value(s >> value(1)) ^ value(value(0) - value(s & value(1))))
        q[i] = value(r + value(predicted[i]))


@compiled
def _restore_left(
    symbols: AnyArray, total: AnyArray, m: AnyArray, before: Any, w: AnyArray, q: AnyArray
) -> None:
    """The same where the prediction lacks what the differences on the left predict.

    Each code waits for the one before: as little as possible stands between the two. Codes of one byte are
    too small for their differences to be limited, and all else is done in one sum.
    """
    stay_apart()
    value = q.dtype.type
    narrow = q.itemsize == 1
    w1, w2, w3 = np.int64(w[0]), np.int64(w[1]), np.int64(w[2])
    d1 = d2 = d3 = np.int64(before)
    own = np.int64(0)
    weight = np.int64(w1 << 3)
    known = d1 * w1
    for i in range(q.size):
        s = symbols[i]
        mean = np.int64(m[i])
        r = value(value(s >> value(1)) ^ value(value(0) - value(s & value(1))))
        rest = ((mean + 4) << 12) + total[i] + 2048 + (d2 * w2 + d3 * w3)
        if narrow:
            code = value(r + value((rest + known + own) >> 15))
            own = np.int64(code) * weight
            known = -mean * w1
        else:
            code = value(r + value((rest + d1 * w1) >> 15))
        q[i] = code
        d3, d2 = d2, d1
        d1 = np.int64(_limited(np.int32((np.int64(code) << 3) - mean)))


@compiled
def _fill(value: Any, target: AnyArray) -> None:
    stay_apart()
    for i in range(target.size):
        target[i] = value


def _still_loop(decode: bool) -> Callable[..., None]:
    """The loop over a frame in one direction: the other would write what is read-only."""

    @compiled
    def run(
        q: AnyArray, symbols: AnyArray, weights: AnyArray, first: AnyArray, rate: int, state: AnyArray
    ) -> None:
        planes, height, width = q.shape
        begins = rate < 0
        d = np.zeros((4, width + 2 * PAD), np.int32)
        m = np.empty((3, width + 2), np.int32)
        total = np.empty(width, np.int32)
        level = weights[WEIGHTS - 2]
        left = False
        for i in range(3):
            left |= weights[i] != 0
        for plane in range(planes):
            for k in range(4):
                _fill(np.int32(0), row(d, k, 0, width + 2 * PAD))
            start = np.int32(0)
            if begins:
                _fill(level, row(m, 0, 0, width + 2))
            else:
                _means(row(state, plane, 0, 0, width), row(m, 0, 0, width + 2))
            for y in range(height):
                here = row(m, 0 if begins else y % 3, 0, width + 2)
                if begins:
                    _fill(np.int32(0), total)
                else:
                    below = row(m, (y + 1) % 3, 0, width + 2)
                    _means(row(state, plane, min(y + 1, height - 1), 0, width), below)
                    above = row(m, (y + 2) % 3 if y else 0, 0, width + 2)
                    _prior(above, here, below, row(weights, TAPS, WEIGHTS), total)
                # Nothing is known above the first row of a first frame, where the left neighbour has to do.
                lonely = begins and y == 0
                w = first if lonely else weights
                line, coded = row(q, plane, y, 0, width), row(symbols, plane, y, 0, width)
                own = row(d, y & 3, 0, width + 2 * PAD)
                middle = row(here, 1, width + 1)
                if not lonely:
                    d1, d2 = row(d, (y - 1) & 3, 0, width + 6), row(d, (y - 2) & 3, 0, width + 6)
                    _add_above(d1, d2, row(d, (y - 3) & 3, 0, width + 6), w, total)
                if decode:
                    if left or lonely:
                        _restore_left(coded, total, middle, start, w, line)
                    else:
                        _predictions(total, middle)
                        _restore(coded, total, line)
                _differences(line, middle, own)
                if not decode:
                    if left or lonely:
                        _pad(own, start, np.int32(0))
                        _add_left(own, w, total)
                    _predictions(total, middle)
                    _symbols(line, total, coded)
                start = own[PAD]
                _pad(own, start, own[PAD + width - 1])
                if y == 0:
                    # Rows above the first are as it is.
                    for k in range(1, 4):
                        other = row(d, k, 0, width + 2 * PAD)
                        for i in range(width + 2 * PAD):
                            other[i] = own[i]
                mean = row(state, plane, y, 0, width)
                if rate <= 0:
                    begin(line, mean)
                else:
                    _update(line, mean, np.int16(rate))

    return run


code_to_symbol = _still_loop(decode=False)
"""Symbols of the codes of one frame (plane, y, x).

Parameters
----------
q, symbols
    Codes and symbols of the same shape and type.
weights
    `WEIGHTS` int32, within the bounds of the format.
first
    Weights of the first row of a first frame.
rate
    Shift with which the frame moves the running means afterwards; -1 for a first frame, which has none.
state
    Running means (plane, y, x) in 1/128 code, int32; moved on by the frame.
"""

symbol_to_code = _still_loop(decode=True)
"""Inverse of `code_to_symbol`."""


@compiled
def _gather(q: AnyArray, state: AnyArray, level: Any, out: AnyArray) -> None:
    """Differences between the codes around a segment and their means, or one level without means."""
    share_nothing()
    if state.size:
        for i in range(out.size):
            mean = np.int32(np.int32(state[i] + np.int32(8)) >> np.int32(4))
            out[i] = np.float32(np.int32(np.int32(np.int32(q[i]) << np.int32(3)) - mean))
    else:
        for i in range(out.size):
            out[i] = np.float32(np.int32(np.int32(np.int32(q[i]) << np.int32(3)) - level))


@compiled
def _curvature(a: AnyArray, b: AnyArray, here: AnyArray, out: AnyArray) -> None:
    """Add how far means on two sides are from the one between."""
    stay_apart()
    for i in range(out.size):
        between = np.int32(np.int32(a[i] + b[i]) - np.int32(np.int32(2) * here[i]))
        out[i] += np.float32(between) * np.float32(1 / 16)


@compiled
def _relative(near: AnyArray, starts: AnyArray, at: int, out: AnyArray) -> None:
    """The features of a segment that are differences, relative to the second one, N."""
    share_nothing()
    north = row(near, starts[1], starts[1] + SEGMENT)
    for f in range(13):
        one, target = row(near, starts[f], starts[f] + SEGMENT), row(out, f, at, at + SEGMENT)
        for i in range(SEGMENT):
            target[i] = one[i] - north[i]
    target = row(out, 1, at, at + SEGMENT)
    for i in range(SEGMENT):
        target[i] = north[i]


@compiled
def sampled_features(q: AnyArray, state: AnyArray, places: AnyArray, out: AnyArray) -> int:
    """What predictions may be made of, at segments of pixels all over a frame; the mean there in 1/8 code.

    Parameters
    ----------
    q
        Codes of the frame (plane, y, x).
    state
        Their running means in 1/128 code, or nothing in a first frame.
    places
        Plane, y and x of the first pixel of each segment: y is at least 3, x at least 3 and at most the width
        less `SEGMENT` and 2, and y less than the height by at least 2 where there are means.
    out
        float32 (`FEATURES`, pixels), segment by segment; those of the means are left alone without means.
    """
    n = SEGMENT
    known = state.size > 0
    total = 0
    for s in range(len(places)):
        line = row(q, places[s, 0], places[s, 1], places[s, 2], places[s, 2] + n)
        part = np.uint32(0)
        for i in range(SEGMENT):
            part += np.uint32(line[i])
        total += int(part)
    level = (8 * total + len(places) * n // 2) // (len(places) * n)
    stride = n + 2 * PAD
    near = np.empty(4 * stride, np.float32)
    starts = np.empty(13, np.int64)
    for f in range(13):
        # The code itself, N, then the other taps in their order.
        up = 0 if f == 0 or 2 <= f <= 4 else (2 if 9 <= f <= 11 else (3 if f == 12 else 1))
        side = 0
        if 2 <= f <= 4:
            side = 1 - f
        elif f == 5 or f == 10:
            side = -1
        elif f == 6 or f == 11:
            side = 1
        elif f == 7:
            side = -2
        elif f == 8:
            side = 2
        starts[f] = up * stride + PAD + side
    for s in range(len(places)):
        plane, y, x = places[s, 0], places[s, 1], places[s, 2]
        a, b = x - PAD, x + n + 2
        for up in range(4):
            codes = row(q, plane, y - up, a, b)
            means = row(state, plane, y - up, a, b) if known else row(state, 0, 0, 0, 0)
            _gather(codes, means, np.int32(level), row(near, up * stride, up * stride + b - a))
        _relative(near, starts, s * n, out)
        if known:
            middle = row(state, plane, y, x, x + n)
            for f in range(13, 16):
                _zero(row(out, f, s * n, s * n + n))
            for k in range(4):
                # Beside, above and below, and the two diagonals.
                up, side = (0 if k == 0 else 1), (0 if k == 1 else (-1 if k == 3 else 1))
                one = row(state, plane, y - up, x - side, x - side + n)
                two = row(state, plane, y + up, x + side, x + side + n)
                f = 13 + min(k, 2)
                _curvature(one, two, middle, row(out, f, s * n, s * n + n))
            for i in range(n):
                out[16, s * n + i] = np.float32(np.int32(middle[i] >> np.int32(4)) - level)
                out[17, s * n + i] = np.float32(1)
    return level


@compiled
def _zero(out: AnyArray) -> None:
    stay_apart()
    for i in range(out.size):
        out[i] = np.float32(0)


@njit(nogil=True, cache=True, fastmath=True, **INNER)  # type: ignore[untyped-decorator]
def _dot(a: AnyArray, b: AnyArray) -> float:
    """Sum of products, in any order: only the fit needs it."""
    stay_apart()
    total = np.float32(0)
    for i in range(a.size):
        total += a[i] * b[i]
    return float(total)


@njit(nogil=True, cache=True, fastmath=True, **INNER)  # type: ignore[untyped-decorator]
def _dots(a: AnyArray, b: AnyArray, c: AnyArray, d: AnyArray, e: AnyArray) -> tuple[float, ...]:
    """The same with four others, which read the first one once."""
    stay_apart()
    b1 = c1 = d1 = e1 = np.float32(0)
    for i in range(a.size):
        v = a[i]
        b1 += v * b[i]
        c1 += v * c[i]
        d1 += v * d[i]
        e1 += v * e[i]
    return float(b1), float(c1), float(d1), float(e1)


@compiled
def gram(table: AnyArray, used: int, out: AnyArray) -> None:
    """Products of the first features with each other."""
    n = table.shape[1]
    for i in range(used):
        one = row(table, i, 0, n)
        j = 0
        while j + 3 <= i:
            found = _dots(
                one,
                row(table, j, 0, n),
                row(table, j + 1, 0, n),
                row(table, j + 2, 0, n),
                row(table, j + 3, 0, n),
            )
            for k in range(4):
                out[i, j + k] = out[j + k, i] = found[k]
            j += 4
        for k in range(j, i + 1):
            out[i, k] = out[k, i] = _dot(one, row(table, k, 0, n))


@compiled
def _add_scaled(a: AnyArray, scale: Any, out: AnyArray) -> None:
    stay_apart()
    for i in range(out.size):
        out[i] += a[i] * scale


@compiled
def _multiply(a: AnyArray, out: AnyArray) -> None:
    stay_apart()
    for i in range(out.size):
        out[i] *= a[i]


@compiled
def leave_out(table: AnyArray, used: int, weights: AnyArray, left: AnyArray) -> None:
    """Clear the pixels whose residual under weights of the features is an outlier; `left` is scratch."""
    n = table.shape[1]
    for i in range(n):
        left[i] = table[0, i]
    for f in range(1, used):
        _add_scaled(row(table, f, 0, n), np.float32(-weights[f]), left)
    most = np.inf
    for _ in range(3):
        total, count = 0.0, 1
        for i in range(n):
            v = abs(left[i])
            inside = v < most
            total += v if inside else 0.0
            count += inside
        # Four times the median of a normal distribution, and never the noise of rounding.
        most = 3.4 * total / count + 8.0
    for i in range(n):
        left[i] = np.float32(1) if abs(left[i]) < most else np.float32(0)
    for f in range(used):
        _multiply(left, row(table, f, 0, n))


@compiled
def least_squares(gram: AnyArray, used: int, left: bool, ridge: float, out: AnyArray) -> None:
    """Weights of the features for the first, by Cholesky's decomposition; with those on the left or not."""
    n = used - 1
    a = np.empty((n, n))
    floor = ridge * gram[0, 0] / n + 1e-9
    for i in range(n):
        for j in range(i + 1):
            a[i, j] = gram[i + 1, j + 1]
        a[i, i] += ridge * a[i, i] + floor
        out[i + 1] = gram[0, i + 1]
    out[0] = 0.0
    if not left:
        for i in range(1, 4):
            for j in range(n):
                a[max(i, j), min(i, j)] = 0.0
            a[i, i] = 1.0
            out[i + 1] = 0.0
    for i in range(n):
        for j in range(i + 1):
            total = a[i, j]
            for k in range(j):
                total -= a[i, k] * a[j, k]
            a[i, j] = np.sqrt(max(total, 1e-12)) if i == j else total / a[j, j]
        total = out[i + 1]
        for k in range(i):
            total -= a[i, k] * out[k + 1]
        out[i + 1] = total / a[i, i]
    for i in range(n - 1, -1, -1):
        total = out[i + 1]
        for k in range(i + 1, n):
            total -= a[k, i] * out[k + 1]
        out[i + 1] = total / a[i, i]


@compiled
def loss(gram: AnyArray, used: int, weights: AnyArray, pixels: float) -> float:
    """Variance of the residuals under weights of the features, in squares of 1/8 code, once rounded."""
    total = 0.0
    for i in range(used):
        part = 0.0
        for j in range(used):
            part += (1.0 if j == 0 else -weights[j]) * gram[i, j]
        total += part * (1.0 if i == 0 else -weights[i])
    return max(total, 0.0) / pixels + 64.0 / 12.0


@compiled
def rounded(
    gram: AnyArray, used: int, found: AnyArray, pixels: float, size: int, whole: AnyArray, out: AnyArray
) -> int:
    """Weights of the format, of those found for the features, as fine as they are worth their bytes.

    `size` is the number of codes that will be coded with them, `whole` scratch. Returns the precision, or -1
    if the weights are too large.
    """
    best = -1
    least = np.inf
    for precision in (6, 7, 8, 10, 12):
        unit = 1.0 / (1 << precision)
        cost = magnitude = 0.0
        # The features are relative to N, as is the code itself: the weight of N is what remains.
        rest = 1.0
        for f in range(1, used):
            step = 1.0 / 4096 if f == 17 else unit
            whole[f] = np.floor(found[f] / step + 0.5) * step
            rest += whole[f] if f == 1 else (-whole[f] if f < 13 else 0.0)
            if 1 < f < 17:
                cost += 24.0 if abs(whole[f]) >= 127 * unit else 8.0
                magnitude += abs(whole[f])
        cost += 24.0 if abs(rest) >= 127 * unit else 8.0
        bits = 0.5 * size * np.log2(loss(gram, used, whole, pixels)) + cost
        fits = magnitude + abs(rest) <= 8.0 and (used < 18 or abs(whole[17]) < 131072.0)
        if bits < least and fits:
            least, best = bits, precision
            out[3] = np.int32(np.floor(rest * 4096 + 0.5))
            for f in range(2, used):
                # W WW WWW, then what follows N; beside, above and below, diagonal, the mean itself.
                at = f - 2 if f < 5 else (f - 1 if f < 13 else (f if f < 16 else 12))
                out[WEIGHTS - 1 if f == 17 else at] = np.int32(np.floor(whole[f] * 4096 + 0.5))
    return best


@compiled
def sampled_gaps(q: AnyArray, step: int) -> tuple[int, int, bool]:
    """Codes around which two in a hundred of a sample are smaller and larger, and whether some between lack.

    At least a tenth of those between have to, and the sample must have enough of the others to tell.
    """
    size = (q.size + step - 1) // step
    top = 0
    for i in range(0, q.size, step):
        top = max(top, int(q[i]))
    counts = np.zeros(top + 1, np.int64)
    for i in range(0, q.size, step):
        counts[np.uint64(q[i])] += 1
    low = high = total = found = 0
    for code in range(top + 1):
        total += counts[code]
        if total < 0.02 * size:
            low = code + 1
        if total < 0.98 * size:
            high = code + 1
    for code in range(low, high + 1):
        found += counts[code] > 0
    span = high - low + 1
    return low, high, span >= 8 and found <= size // 16 and found <= 0.9 * span


@compiled
def _second_differences(above: AnyArray, here: AnyArray, below: AnyArray, line: AnyArray) -> float:
    """Sum of squares, in one row, of second differences along both axes; `line` is scratch of that length."""
    share_nothing()
    for i in range(here.size):
        outer = np.int32(np.int32(above[i]) + np.int32(below[i]))
        line[i] = np.int32(outer - np.int32(np.int32(here[i]) << np.int32(1)))
    total = np.int64(0)
    n = here.size - 2
    left, middle, right = row(line, 0, n), row(line, 1, n + 1), row(line, 2, n + 2)
    for i in range(n):
        both = np.int64(np.int32(left[i] + right[i]) - np.int32(middle[i] << np.int32(1)))
        total += np.int64(both * both)
    return float(total)


@compiled
def second_differences(q: AnyArray, first: int, last: int) -> float:
    """The same in rows first .. last - 1 of every plane of a frame (plane, y, x)."""
    planes, _, width = q.shape
    line = np.empty(width, np.int32)
    total = 0.0
    for plane in range(planes):
        for y in range(first, last):
            above, here, below = (
                row(q, plane, y - 1, 0, width),
                row(q, plane, y, 0, width),
                row(q, plane, y + 1, 0, width),
            )
            total += _second_differences(above, here, below, line)
    return total


@compiled
def mark(q: AnyArray, used: AnyArray) -> None:
    """Mark the codes that occur."""
    for i in range(q.size):
        used[np.uint64(q[i])] = True


@compiled
def replace(q: AnyArray, table: AnyArray, out: AnyArray) -> None:
    """Look codes up in a table that has them all."""
    for i in range(q.size):
        out[i] = table[np.uint64(q[i])]


@compiled
def narrow(symbols: AnyArray, out: AnyArray, more: AnyArray) -> int:
    """Symbols of two bytes as bytes, and behind `out` one or two bytes more of each that is large.

    Symbols below 224 are themselves; of what the others have beyond it, the high byte h is stored as
    224 + min(h, 31), and the low byte follows; where h is 31 or more, h as well. Returns the bytes used.
    """
    for i in range(symbols.size):
        s = np.int32(symbols[i])
        wide = min(np.int32(224) + np.int32(np.int32(s - np.int32(224)) >> np.int32(8)), np.int32(255))
        out[i] = np.uint8(min(s, max(wide, np.int32(224))))
    end = 0
    for i in range(symbols.size):
        if out[i] >= 224:
            beyond = np.int64(symbols[i]) - 224
            more[end] = np.uint8(beyond & 255)
            end += 1
            if out[i] == 255:
                more[end] = np.uint8(beyond >> 8)
                end += 1
    return end


@compiled
def widen(narrowed: AnyArray, more: AnyArray, out: AnyArray) -> bool:
    """Inverse of `narrow`; False if the bytes are none of its results."""
    for i in range(out.size):
        out[i] = np.uint16(narrowed[i])
    end = 0
    for i in range(out.size):
        if narrowed[i] >= 224:
            if end >= more.size:
                return False
            high = np.int64(narrowed[i]) - 224
            low = np.int64(more[end])
            end += 1
            if high == 31:
                if end >= more.size or more[end] < 31:
                    return False
                high = np.int64(more[end])
                end += 1
            symbol = 224 + low + 256 * high
            if symbol > 65535:
                return False
            out[i] = np.uint16(symbol)
    return bool(end == more.size)


DIGITS = 14
"""Binary digits of the frequencies of the arithmetic coder, which sum to 2 ** 14."""


@compiled
def frequencies(symbols: AnyArray, out: AnyArray) -> float:
    """Frequencies (256) of bytes, and the bits that the bytes take; infinite if they cannot be coded."""
    counts = np.zeros((4, 256), np.uint32)
    _count(row(symbols, 0, symbols.size), counts)
    whole = 1 << DIGITS
    total, largest = 0, 0
    for s in range(256):
        n = np.int64(counts[0, s]) + np.int64(counts[1, s]) + np.int64(counts[2, s]) + np.int64(counts[3, s])
        out[s] = max(1, (n * whole + symbols.size // 2) // symbols.size) if n else 0
        total += out[s]
        if out[s] > out[largest]:
            largest = s
    rest = np.int64(out[largest]) + whole - total
    if rest < 1:
        return np.inf
    out[largest] = rest
    bits = 0.0
    for s in range(256):
        n = np.int64(counts[0, s]) + np.int64(counts[1, s]) + np.int64(counts[2, s]) + np.int64(counts[3, s])
        if n:
            bits += n * (DIGITS - np.log2(out[s]))
    return bits


@compiled
def ranges_encode(symbols: AnyArray, frequency: AnyArray, start: AnyArray, out: AnyArray) -> int:
    """Code bytes with four states in turn, from the last to the first, towards the front of `out` (uint16).

    Returns where the result begins: the four states, low halves first, then what they shed.
    """
    states = np.full(4, 1 << 16, np.uint64)
    end = out.size
    for i in range(symbols.size - 1, -1, -1):
        x = states[i & 3]
        f = np.uint64(frequency[symbols[i]])
        if x >= np.uint64(f << np.uint64(32 - DIGITS)):
            end -= 1
            out[end] = np.uint16(x & np.uint64(0xFFFF))
            x = np.uint64(x >> np.uint64(16))
        low, high = np.uint32(x), np.uint32(f)
        quotient = np.uint32(low // high)
        rest = np.uint32(low - np.uint32(quotient * high))
        x = np.uint64(np.uint64(quotient) << np.uint64(DIGITS)) + np.uint64(rest)
        states[i & 3] = x + np.uint64(start[symbols[i]])
    end -= 8
    for k in range(4):
        out[end + 2 * k] = np.uint16(states[k] & np.uint64(0xFFFF))
        out[end + 2 * k + 1] = np.uint16(states[k] >> np.uint64(16))
    return end


@compiled
def ranges_decode(
    data: AnyArray, frequency: AnyArray, symbol_at: AnyArray, base: AnyArray, out: AnyArray
) -> bool:
    """Inverse of `ranges_encode` on words of 16 bits; False if they are none of its results.

    `symbol_at` holds the symbol of each of the 2 ** 14 places, `base` a symbol's first place.
    """
    if data.size < 8:
        return False
    mask, digits, half = np.uint32((1 << DIGITS) - 1), np.uint32(DIGITS), np.uint32(16)
    a, b = np.uint32(data[0] | np.uint32(data[1]) << half), np.uint32(data[2] | np.uint32(data[3]) << half)
    c, d = np.uint32(data[4] | np.uint32(data[5]) << half), np.uint32(data[6] | np.uint32(data[7]) << half)
    at, last = 8, data.size
    padded = np.uint64(0)
    for i in range(0, out.size, 4):
        left = min(4, out.size - i)
        for k in range(left):
            slot = np.uint32(a & mask)
            s = symbol_at[np.uint64(slot)]
            out[i + k] = s
            f = np.uint32(frequency[np.uint64(s)])
            x = np.uint32(
                np.uint32(f * np.uint32(a >> digits)) + np.uint32(slot - np.uint32(base[np.uint64(s)]))
            )
            if x < np.uint32(65536):
                if at >= last:
                    return False
                x = np.uint32(np.uint32(x << half) | np.uint32(data[at]))
                at += 1
            a, b, c, d = b, c, d, x
        padded = np.uint64(left)
    for _ in range((4 - padded) % 4 if out.size else 0):
        a, b, c, d = b, c, d, a
    begun = np.uint32(1 << 16)
    return bool(at == last and a == begun and b == begun and c == begun and d == begun)
