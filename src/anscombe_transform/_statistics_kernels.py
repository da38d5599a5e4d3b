"""The one hot pass of the calibration: sums of residuals, per tile and brightness class.

For the space-time filters of `calibration` these loops add up, over half a segment of a movie, the squares
and cubes of the residuals and the weighted means they belong to. The layout of a row is `COLUMNS`.

Work goes through the movie in strips of one tile's height and a few tiles' width, so that all intermediate
images stay in the processor's cache. The innermost loops run over flat views from 0 and without an offset in
the index, which is what the compiler vectorises, and in functions of their own, which compile fastest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from numba import njit

from anscombe_transform._parts_of_kernels import INNER, row, stay_apart

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Singles = NDArray[np.float32]
    Doubles = NDArray[np.float64]

TILE = 8
CLASSES = 4

# Numba takes an integer literal times a float32 for a float64, which would halve the speed.
ONE, TWO, FOUR, EIGHT = np.float32(1), np.float32(2), np.float32(4), np.float32(8)

COLUMNS = (
    "tile", "segment", "brightness", "n", "q",
    "x_t", "y_t", "x_ty", "y_ty", "x_tx", "y_tx", "x_txy", "y_txy",
    "x3_t", "y3_t", "x3_ty", "y3_ty", "x3_txy", "y3_txy",
    "high", "low",
)  # fmt: skip

_LABELS = 4
_MEASURES = len(COLUMNS) - _LABELS
_STRIP_TILES = 16
_PIXELS = TILE * TILE

_Function = TypeVar("_Function", bound="Callable[..., Any]")


def _compile(function: _Function) -> _Function:
    """Compile on first use; the type of the plain function stays.

    Sums may be reordered, which vectorisation needs; NaN and infinity keep their meaning.
    """
    reorder = {"reassoc", "contract", "arcp", "nsz"}
    options = INNER if function.__name__.startswith("_") else {}
    options = {"error_model": "numpy", "fastmath": reorder, **options}
    return cast("_Function", njit(nogil=True, cache=True, **options)(function))


@_compile
def rank_classes(q: Singles, tiles: int, by_colour: bool, weights: Singles) -> None:
    """Put the 64 pixels of each of the first tiles of a strip into 4 classes of 16.

    `weights` (class, row, column) is 1 where the pixel is in the class. By rank of `q` (row, column), taken
    to 17 binary digits, ties in order of position. With `by_colour`, into lower and upper half of each colour
    of a checkerboard: classes 0, 1 are the even pixels, 2, 3 the odd ones.
    """
    stay_apart()
    keys = np.empty(_PIXELS, np.int32)
    before = np.empty(_PIXELS, np.int32)
    bits = q.view(np.int32)
    for s in range(tiles):
        for i in range(TILE):
            source = row(bits, i, s * TILE, (s + 1) * TILE)
            for j in range(TILE):
                # The bits of a float order like integers, negative ones backwards. Their last six make room
                # for the position, so that no two keys are equal.
                key = source[j] ^ ((source[j] >> np.int32(31)) & np.int32(0x7FFFFFFF))
                key = (key & np.int32(-_PIXELS)) | np.int32(i * TILE + j)
                if by_colour:
                    key = (key >> np.int32(1)) + (np.int32(-(2**30)) if (i + j) % 2 == 0 else np.int32(2**30))
                keys[i * TILE + j] = key
        for k in range(_PIXELS):
            before[k] = 0
        for j in range(_PIXELS):
            other = keys[j]
            for k in range(_PIXELS):
                before[k] += np.int32(other < keys[k])
        for c in range(CLASSES):
            least = np.int32(c * (_PIXELS // CLASSES))
            most = np.int32((c + 1) * (_PIXELS // CLASSES))
            for i in range(TILE):
                target = row(weights, c, i, s * TILE, (s + 1) * TILE)
                for j in range(TILE):
                    rank = before[i * TILE + j]
                    target[j] = np.float32((rank >= least) & (rank < most))


@_compile
def _class_sums(measure: Singles, n: int, weights: Singles, line: Singles, column: int, out: Doubles) -> None:
    """Fill a column of `out` (tile · 4 + class) with a measure's (y, x) sums over each class."""
    stay_apart()
    v0, v1, v2, v3 = (
        row(measure, 0, 0, n),
        row(measure, 1, 0, n),
        row(measure, 2, 0, n),
        row(measure, 3, 0, n),
    )
    v4, v5, v6, v7 = (
        row(measure, 4, 0, n),
        row(measure, 5, 0, n),
        row(measure, 6, 0, n),
        row(measure, 7, 0, n),
    )
    total = row(line, 0, n)
    for c in range(CLASSES):
        w0, w1, w2, w3 = (
            row(weights, c, 0, 0, n),
            row(weights, c, 1, 0, n),
            row(weights, c, 2, 0, n),
            row(weights, c, 3, 0, n),
        )
        w4, w5, w6, w7 = (
            row(weights, c, 4, 0, n),
            row(weights, c, 5, 0, n),
            row(weights, c, 6, 0, n),
            row(weights, c, 7, 0, n),
        )
        for j in range(n):
            total[j] = (
                (v0[j] * w0[j] + v1[j] * w1[j] + v2[j] * w2[j] + v3[j] * w3[j])
                + (v4[j] * w4[j] + v5[j] * w5[j] + v6[j] * w6[j] + v7[j] * w7[j])
            )  # fmt: skip
        for s in range(n // TILE):
            part = row(line, s * TILE, (s + 1) * TILE)
            out[s * CLASSES + c, column] = (part[0] + part[1] + part[2] + part[3]) + (
                part[4] + part[5] + part[6] + part[7]
            )


@_compile
def _clear(values: Singles) -> None:
    """Set an array of three axes to 0."""
    stay_apart()
    for t in range(values.shape[0]):
        for i in range(values.shape[1]):
            line = row(values, t, i, 0, values.shape[2])
            for j in range(line.size):
                line[j] = 0


@_compile
def _scale(source: Singles, factor: np.float32, target: Singles) -> None:
    """Multiply a flat array by a number; by 1 it is a copy."""
    stay_apart()
    for j in range(target.size):
        target[j] = source[j] * factor


@_compile
def _load(frames: Singles, top: int, left: int, w: int, strip: Singles) -> None:
    """Copy a strip of all frames, (time, 10 rows, w columns), to where it lies together."""
    stay_apart()
    for t in range(frames.shape[0]):
        for i in range(TILE + 2):
            _scale(row(frames, t, top + i, left, left + w), ONE, row(strip, t, i, 0, w))


@_compile
def _sum_frames(frames: Singles, total: Singles) -> None:
    """Sum of the frames of a strip, four at a time."""
    stay_apart()
    length = frames.shape[0]
    size = frames.shape[1] * frames.shape[2]
    out = row(total, 0, 0, size)
    for j in range(size):
        out[j] = 0
    for t in range(0, length - 3, 4):
        a, b = row(frames, t, 0, 0, size), row(frames, t + 1, 0, 0, size)
        c, d = row(frames, t + 2, 0, 0, size), row(frames, t + 3, 0, 0, size)
        for j in range(size):
            out[j] += (a[j] + b[j]) + (c[j] + d[j])
    for t in range(length - length % 4, length):
        a = row(frames, t, 0, 0, size)
        for j in range(size):
            out[j] += a[j]


@_compile
def _weighted_means(frames: Singles, total: Singles, order: int, x2: Singles, x3: Singles) -> None:
    """Sum the frames with the weights that belong to the squares (`x2`) and cubes (`x3`) of the residuals."""
    stay_apart()
    length, size = frames.shape[0], frames.shape[1] * frames.shape[2]
    sixth = np.float32(1 / 6)
    half = np.float32(0.5)
    whole, squares, cubes = row(total, 0, 0, size), row(x2, 0, 0, size), row(x3, 0, 0, size)
    head, tail = row(frames, 0, 0, 0, size), row(frames, length - 1, 0, 0, size)
    after_head, before_tail = row(frames, 1, 0, 0, size), row(frames, length - 2, 0, 0, size)
    if order == 2:
        for j in range(size):
            first = whole[j] - tail[j] - before_tail[j]
            middle = whole[j] - head[j] - tail[j]
            last = whole[j] - head[j] - after_head[j]
            squares[j] = (first + FOUR * middle + last) * sixth
            cubes[j] = (EIGHT * middle - first - last) * sixth
    else:
        for j in range(size):
            squares[j] = whole[j] - (head[j] + tail[j]) * half
            cubes[j] = squares[j]


@_compile
def _differences(frames: Singles, order: int, d: Singles) -> None:
    """Differences in time, `d` (time, row, column), of the frames of a strip."""
    stay_apart()
    size = frames.shape[1] * frames.shape[2]
    for t in range(frames.shape[0] - order):
        a, b, out = row(frames, t, 0, 0, size), row(frames, t + 1, 0, 0, size), row(d, t, 0, 0, size)
        if order == 2:
            _second_difference(a, b, row(frames, t + 2, 0, 0, size), out)
        else:
            for j in range(size):
                out[j] = a[j] - b[j]


@_compile
def _second_difference(a: Singles, b: Singles, c: Singles, out: Singles) -> None:
    """Second difference of three flat arrays."""
    stay_apart()
    for j in range(out.size):
        out[j] = a[j] - TWO * b[j] + c[j]


@_compile
def _residual_sums(d: Singles, w: int, first: int, dy: Singles, sums: Singles) -> None:
    """Add squares of the residuals t, ty, tx, txy into `sums[0..3]`, cubes of t, ty, txy into 4..6.

    Of two differences in time, `d[first]` and `d[first + 1]`: the sums are then fetched half as often.
    """
    stay_apart()
    n = w - 2
    for i in range(TILE):
        a0, a1, a2 = row(d, first, i, 0, w), row(d, first, i + 1, 0, w), row(d, first, i + 2, 0, w)
        b0, b1, b2 = (
            row(d, first + 1, i, 0, w),
            row(d, first + 1, i + 1, 0, w),
            row(d, first + 1, i + 2, 0, w),
        )
        ay, by = row(dy, 0, 0, w), row(dy, 1, 0, w)
        t2, ty2, t3, ty3 = (
            row(sums, 0, i, 0, w),
            row(sums, 1, i, 0, w),
            row(sums, 4, i, 0, w),
            row(sums, 5, i, 0, w),
        )
        for j in range(w):
            r, s = a1[j], b1[j]
            u, v = a0[j] - TWO * r + a2[j], b0[j] - TWO * s + b2[j]
            ay[j] = u
            by[j] = v
            rr, ss, uu, vv = r * r, s * s, u * u, v * v
            t2[j] += rr + ss
            t3[j] += rr * r + ss * s
            ty2[j] += uu + vv
            ty3[j] += uu * u + vv * v
        al, am, ar = row(a1, 0, n), row(a1, 1, n + 1), row(a1, 2, n + 2)
        bl, bm, br = row(b1, 0, n), row(b1, 1, n + 1), row(b1, 2, n + 2)
        al_y, am_y, ar_y = row(ay, 0, n), row(ay, 1, n + 1), row(ay, 2, n + 2)
        bl_y, bm_y, br_y = row(by, 0, n), row(by, 1, n + 1), row(by, 2, n + 2)
        tx2, txy2, txy3 = row(sums, 2, i, 0, n), row(sums, 3, i, 0, n), row(sums, 6, i, 0, n)
        for j in range(n):
            r, s = al[j] - TWO * am[j] + ar[j], bl[j] - TWO * bm[j] + br[j]
            tx2[j] += r * r + s * s
            u, v = al_y[j] - TWO * am_y[j] + ar_y[j], bl_y[j] - TWO * bm_y[j] + br_y[j]
            uu, vv = u * u, v * v
            txy2[j] += uu + vv
            txy3[j] += uu * u + vv * v


@_compile
def _count_cut(frames: Singles, n: int, floor: float, ceiling: float, sums: Singles) -> None:
    """Count samples at the ceiling into `sums[7]`, at the floor into `sums[8]`."""
    stay_apart()
    lowest, highest = np.float32(floor), np.float32(ceiling)
    for t in range(frames.shape[0]):
        for i in range(TILE):
            values = row(frames, t, 1 + i, 1, 1 + n)
            _count_row(values, lowest, highest, row(sums, 7, i, 0, n), row(sums, 8, i, 0, n))


@_compile
def _count_row(values: Singles, lowest: np.float32, highest: np.float32, high: Singles, low: Singles) -> None:
    """Add 1 to `high` and to `low` where a value lies at or beyond the highest and the lowest."""
    stay_apart()
    for j in range(values.size):
        high[j] += np.float32(values[j] >= highest)
        low[j] += np.float32(values[j] <= lowest)


@_compile
def _instrument(total: Singles, n: int, scale: float, out: Singles) -> None:
    """Fill `out` with the image whose ranks make the classes: the mean of a pixel's four neighbours.

    Of a sum of frames times `scale`. The pixel's own value would share its fixed offset with the mean that is
    measured: sorted by that, pixels of high offset would pass for bright ones.
    """
    stay_apart()
    quarter = np.float32(scale) / FOUR
    for i in range(TILE):
        above, below = row(total, i, 1, n + 1), row(total, i + 2, 1, n + 1)
        before, after = row(total, i + 1, 0, n), row(total, i + 1, 2, n + 2)
        _scaled_sum(above, below, before, after, quarter, row(out, i, 0, n))


@_compile
def _scaled_sum(a: Singles, b: Singles, c: Singles, d: Singles, factor: np.float32, target: Singles) -> None:
    """Sum of four flat arrays, times a number."""
    stay_apart()
    for j in range(target.size):
        target[j] = (a[j] + b[j] + c[j] + d[j]) * factor


@_compile
def _smooth(before: Singles, here: Singles, after: Singles, target: Singles) -> None:
    """Weighted mean that belongs to the squares of a second difference."""
    stay_apart()
    sixth = np.float32(1 / 6)
    for j in range(target.size):
        target[j] = (before[j] + FOUR * here[j] + after[j]) * sixth


@_compile
def _sharpen(before: Singles, here: Singles, after: Singles, target: Singles) -> None:
    """Weighted mean that belongs to the cubes of a second difference."""
    stay_apart()
    sixth = np.float32(1 / 6)
    for j in range(target.size):
        target[j] = (EIGHT * here[j] - before[j] - after[j]) * sixth


@_compile
def _measures(x2: Singles, x3: Singles, sums: Singles, w: int, order: int, length: int, out: Singles) -> None:
    """Fill `out` (columns from "x_t" on, y, x) for every pixel of a strip, in the order of `COLUMNS`."""
    stay_apart()
    n = w - 2
    sixth = np.float32(1 / 6)
    norm = np.float32(1 / 6 if order == 2 else 1 / 2)
    share = np.float32((length - order) / length)
    x2y = np.empty(w, np.float32)
    x3y = np.empty(w, np.float32)
    for i in range(TILE):
        _smooth(row(x2, i, 0, w), row(x2, i + 1, 0, w), row(x2, i + 2, 0, w), x2y)
        _sharpen(row(x3, i, 0, w), row(x3, i + 1, 0, w), row(x3, i + 2, 0, w), x3y)
        b = row(x2, i + 1, 0, w)
        _scale(row(b, 1, n + 1), ONE, row(out, 1, i, 0, n))
        _scale(row(sums, 0, i, 1, n + 1), norm, row(out, 2, i, 0, n))
        _scale(row(x2y, 1, n + 1), ONE, row(out, 3, i, 0, n))
        _scale(row(sums, 1, i, 1, n + 1), norm * sixth, row(out, 4, i, 0, n))
        _smooth(row(b, 0, n), row(b, 1, n + 1), row(b, 2, n + 2), row(out, 5, i, 0, n))
        _scale(row(sums, 2, i, 0, n), norm * sixth, row(out, 6, i, 0, n))
        _smooth(row(x2y, 0, n), row(x2y, 1, n + 1), row(x2y, 2, n + 2), row(out, 7, i, 0, n))
        _scale(row(sums, 3, i, 0, n), norm * sixth * sixth, row(out, 8, i, 0, n))
        _scale(row(x3, i + 1, 1, n + 1), ONE, row(out, 9, i, 0, n))
        _scale(row(sums, 4, i, 1, n + 1), -sixth, row(out, 10, i, 0, n))
        _scale(row(x3y, 1, n + 1), ONE, row(out, 11, i, 0, n))
        _scale(row(sums, 5, i, 1, n + 1), sixth * sixth, row(out, 12, i, 0, n))
        _sharpen(row(x3y, 0, n), row(x3y, 1, n + 1), row(x3y, 2, n + 2), row(out, 13, i, 0, n))
        _scale(row(sums, 6, i, 0, n), -sixth * sixth * sixth, row(out, 14, i, 0, n))
        _scale(row(sums, 7, i, 0, n), share, row(out, 15, i, 0, n))
        _scale(row(sums, 8, i, 0, n), share, row(out, 16, i, 0, n))


@_compile
def segment_rows(frames: Singles, order: int, floor: float, ceiling: float, rows: Doubles) -> None:
    """Fill `rows` (halves, tiles · 4, columns) from consecutive `frames` (time, y, x), float32.

    Pixels are sorted into classes by their neighbours: in the other half, where there are two. `order` 2
    takes the temporal filter [1, −2, 1], 1 takes [1, −1]. Samples ≥ `ceiling` or ≤ `floor` are counted. Tiles
    start at pixel (1, 1); the frame needs one pixel more on every side of them. The caller fills in the
    segment's number.
    """
    length, height, width = frames.shape
    halves = rows.shape[0]
    middle = length // halves
    tiles_y, tiles_x = (height - 2) // TILE, (width - 2) // TILE
    counting = floor > -np.inf or ceiling < np.inf

    # The last strip of a row can be narrower: what is then computed beyond its width is not used.
    wide = min(_STRIP_TILES, tiles_x) * TILE + 2
    strip = np.zeros((length, TILE + 2, wide), np.float32)
    # Residuals are taken in pairs; of an odd number, the last has a partner of zeros.
    d = np.empty((length + 1, TILE + 2, wide), np.float32)
    dy = np.empty((2, wide), np.float32)
    totals = np.empty((2, TILE + 2, wide), np.float32)
    x2 = np.empty((TILE + 2, wide), np.float32)
    x3 = np.empty((TILE + 2, wide), np.float32)
    sums = np.empty((9, TILE, wide), np.float32)
    measures = np.empty((_MEASURES, TILE, wide), np.float32)
    line = np.empty(wide, np.float32)
    weights = np.empty((CLASSES, TILE, wide), np.float32)

    for ty in range(tiles_y):
        for first in range(0, tiles_x, _STRIP_TILES):
            count = min(_STRIP_TILES, tiles_x - first)
            n, w = count * TILE, count * TILE + 2
            _load(frames, ty * TILE, first * TILE, w, strip)
            _sum_frames(row(strip, 0, middle), row(totals, 0, 0, TILE + 2))
            if halves == 2:
                _sum_frames(row(strip, middle, length), row(totals, 1, 0, TILE + 2))
            for half in range(halves):
                own = row(strip, half * middle, middle if half < halves - 1 else length)
                residuals = own.shape[0] - order
                _clear(sums)
                _weighted_means(own, row(totals, half, 0, TILE + 2), order, x2, x3)
                _differences(own, order, d)
                if residuals % 2:
                    _clear(row(d, residuals, residuals + 1))
                for t in range(0, residuals, 2):
                    _residual_sums(d, w, t, dy, sums)
                if counting:
                    _count_cut(own, n, floor, ceiling, sums)
                _measures(x2, x3, sums, w, order, own.shape[0], measures)
                other = length - own.shape[0] if halves == 2 else length
                instrument = row(measures, 0, 0, TILE)
                sorting = row(totals, halves - 1 - half, 0, TILE + 2)
                _instrument(sorting, n, residuals / other, instrument)
                rank_classes(instrument, count, halves == 1, weights)
                tile = ty * tiles_x + first
                table = row(rows, half, tile * CLASSES, (tile + count) * CLASSES)
                for m in range(_MEASURES):
                    _class_sums(row(measures, m, 0, TILE), n, weights, line, _LABELS + m, table)
                for r in range(count * CLASSES):
                    table[r, 0] = tile + r // CLASSES
                    table[r, 2] = r % CLASSES
                    table[r, 3] = (_PIXELS // CLASSES) * residuals


@_compile
def lag_energies(frames: Singles, out: Doubles) -> None:
    """Add, per tile, squared second differences of a residual at lags 1 and 2 along x, along y, and in time.

    `frames` (2, 3 or 5, y, x) are those around a centre: the residual is a first difference of two, or the
    second difference of three, or of five those at lag 1 (second to fourth) and at lag 3 (all but these).
    It is differenced twice along the other axis, or along both for the lags in time, which takes out
    structure of the scene and leaves the ratio of two energies as it is. `out` (tiles, 6) gets lag 1 along x,
    lag 2 along x, lag 1 along y, lag 2 along y, and, of five frames, lag 1 and lag 3 in time, from the pixels
    of the tile that lie 2 or more from the frame's edge.
    """
    count, height, width = frames.shape
    tiles_y, tiles_x = (height - 2) // TILE, (width - 2) // TILE
    n = width - 4
    near = np.empty((5, width), np.float32)
    far = np.empty((3, width), np.float32)
    across_x = np.zeros((5, width), np.float32)
    across_y = np.empty(width, np.float32)
    far_y = np.empty(width, np.float32)
    energies = np.zeros((6, width), np.float32)
    for a in range(2, min(height - 2, 1 + tiles_y * TILE)):
        for k in range(5):
            target, y = row(near, k, 0, width), a - 2 + k
            if count == 2:
                first, second = row(frames, 0, y, 0, width), row(frames, 1, y, 0, width)
                for b in range(width):
                    target[b] = first[b] - second[b]
            else:
                first = row(frames, count // 2 - 1, y, 0, width)
                second = row(frames, count // 2, y, 0, width)
                _second_difference(first, second, row(frames, count // 2 + 1, y, 0, width), target)
            left, centre, right = row(target, 0, width - 2), row(target, 1, width - 1), row(target, 2, width)
            _second_difference(left, centre, right, row(across_x, k, 1, width - 1))
        above, here, below = row(near, 1, 0, width), row(near, 2, 0, width), row(near, 3, 0, width)
        _second_difference(above, here, below, across_y)
        m2, m1, m0 = row(across_y, 0, n), row(across_y, 1, n + 1), row(across_y, 2, n + 2)
        p1, p2 = row(across_y, 3, n + 3), row(across_y, 4, n + 4)
        v0, v1, v2 = row(across_x, 0, 2, n + 2), row(across_x, 1, 2, n + 2), row(across_x, 2, 2, n + 2)
        v3, v4 = row(across_x, 3, 2, n + 2), row(across_x, 4, 2, n + 2)
        e0, e1 = row(energies, 0, 2, n + 2), row(energies, 1, 2, n + 2)
        e2, e3 = row(energies, 2, 2, n + 2), row(energies, 3, 2, n + 2)
        for b in range(n):
            e0[b] = (m1[b] - TWO * m0[b] + p1[b]) ** 2
            e1[b] = (m2[b] - TWO * m0[b] + p2[b]) ** 2
            e2[b] = (v1[b] - TWO * v2[b] + v3[b]) ** 2
            e3[b] = (v0[b] - TWO * v2[b] + v4[b]) ** 2
        if count == 5:
            for k in range(3):
                target, y = row(far, k, 0, width), a - 1 + k
                first, second = row(frames, 0, y, 0, width), row(frames, 2, y, 0, width)
                _second_difference(first, second, row(frames, 4, y, 0, width), target)
            above, here, below = row(far, 0, 0, width), row(far, 1, 0, width), row(far, 2, 0, width)
            _second_difference(above, here, below, far_y)
            left, centre, right = row(far_y, 1, n + 1), row(far_y, 2, n + 2), row(far_y, 3, n + 3)
            e4, e5 = row(energies, 4, 2, n + 2), row(energies, 5, 2, n + 2)
            for b in range(n):
                e4[b] = e0[b]
                e5[b] = (left[b] - TWO * centre[b] + right[b]) ** 2
        ty = (a - 1) // TILE
        for tx in range(tiles_x):
            start, stop = max(2, tx * TILE + 1), min(width - 2, tx * TILE + 1 + TILE)
            for k in range(6 if count == 5 else 4):
                values = row(energies, k, start, stop)
                total = np.float32(0)
                for b in range(stop - start):
                    total += values[b]
                out[ty * tiles_x + tx, k] += total
