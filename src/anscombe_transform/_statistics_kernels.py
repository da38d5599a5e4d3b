"""The one hot pass of the calibration: sums of residuals, per tile and brightness class.

For the space-time filters of `calibration` these loops add up, over half a segment of a movie, the squares
and cubes of the residuals and the weighted means they belong to. The layout of a row is `COLUMNS`.

Work goes through the movie in strips of one tile's height and a few tiles' width, so that all intermediate
images stay in the processor's cache. The innermost loops run over views of one image row, from 0 and
without an offset in the index: that is what the compiler vectorises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Singles = NDArray[np.float32]
    Doubles = NDArray[np.float64]

TILE = 8
CLASSES = 4

# Numba takes an integer literal times a float32 for a float64, which would halve the speed.
TWO, FOUR, EIGHT = np.float32(2), np.float32(4), np.float32(8)

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
    return cast("_Function", njit(nogil=True, cache=True, error_model="numpy", fastmath=reorder)(function))


@_compile
def rank_classes(q: Singles, tiles: int, by_colour: bool, weights: Singles) -> None:
    """Put the 64 pixels of each of the first tiles of a strip into 4 classes of 16.

    `weights` (class, row, column) is 1 where the pixel is in the class. By rank of `q` (row, column), taken
    to 17 binary digits, ties in order of position. With `by_colour`, into lower and upper half of each colour
    of a checkerboard: classes 0, 1 are the even pixels, 2, 3 the odd ones.
    """
    keys = np.empty(_PIXELS, np.int32)
    before = np.empty(_PIXELS, np.int32)
    bits = q.view(np.int32)
    for s in range(tiles):
        for i in range(TILE):
            row = bits[i, s * TILE : (s + 1) * TILE]
            for j in range(TILE):
                # The bits of a float order like integers, negative ones backwards. Their last six make room
                # for the position, so that no two keys are equal.
                key = row[j] ^ ((row[j] >> np.int32(31)) & np.int32(0x7FFFFFFF))
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
                target = weights[c, i, s * TILE : (s + 1) * TILE]
                for j in range(TILE):
                    rank = before[i * TILE + j]
                    target[j] = np.float32((rank >= least) & (rank < most))


@_compile
def _class_sums(measure: Singles, n: int, weights: Singles, line: Singles, out: Doubles) -> None:
    """Sums `out` (tile · 4 + class) of a measure (row, column) over the pixels of each class."""
    v0, v1, v2, v3 = measure[0, :n], measure[1, :n], measure[2, :n], measure[3, :n]
    v4, v5, v6, v7 = measure[4, :n], measure[5, :n], measure[6, :n], measure[7, :n]
    total = line[:n]
    for c in range(CLASSES):
        w0, w1, w2, w3 = weights[c, 0, :n], weights[c, 1, :n], weights[c, 2, :n], weights[c, 3, :n]
        w4, w5, w6, w7 = weights[c, 4, :n], weights[c, 5, :n], weights[c, 6, :n], weights[c, 7, :n]
        for j in range(n):
            total[j] = (
                (v0[j] * w0[j] + v1[j] * w1[j] + v2[j] * w2[j] + v3[j] * w3[j])
                + (v4[j] * w4[j] + v5[j] * w5[j] + v6[j] * w6[j] + v7[j] * w7[j])
            )  # fmt: skip
        for s in range(n // TILE):
            part = line[s * TILE : (s + 1) * TILE]
            out[s * CLASSES + c] = (part[0] + part[1] + part[2] + part[3]) + (
                part[4] + part[5] + part[6] + part[7]
            )


@_compile
def _load(frames: Singles, top: int, left: int, w: int, strip: Singles) -> None:
    """Copy a strip of all frames, (time, 10 rows, w columns), to where it lies together."""
    for t in range(frames.shape[0]):
        for i in range(TILE + 2):
            source = frames[t, top + i, left : left + w]
            target = strip[t, i, :w]
            for j in range(w):
                target[j] = source[j]


@_compile
def _sum_frames(frames: Singles, w: int, total: Singles) -> None:
    """Sum of the frames of a strip, four at a time."""
    length = frames.shape[0]
    for i in range(TILE + 2):
        out = total[i, :w]
        for j in range(w):
            out[j] = 0
        for t in range(0, length - 3, 4):
            a, b = frames[t, i, :w], frames[t + 1, i, :w]
            c, d = frames[t + 2, i, :w], frames[t + 3, i, :w]
            for j in range(w):
                out[j] += (a[j] + b[j]) + (c[j] + d[j])
        for t in range(length - length % 4, length):
            a = frames[t, i, :w]
            for j in range(w):
                out[j] += a[j]


@_compile
def _weighted_means(frames: Singles, total: Singles, w: int, order: int, x2: Singles, x3: Singles) -> None:
    """Sum the frames with the weights that belong to the squares (`x2`) and cubes (`x3`) of the residuals."""
    length = frames.shape[0]
    sixth = np.float32(1 / 6)
    half = np.float32(0.5)
    for i in range(TILE + 2):
        whole, squares, cubes = total[i, :w], x2[i, :w], x3[i, :w]
        head, tail = frames[0, i, :w], frames[length - 1, i, :w]
        after_head, before_tail = frames[1, i, :w], frames[length - 2, i, :w]
        if order == 2:
            for j in range(w):
                first = whole[j] - tail[j] - before_tail[j]
                middle = whole[j] - head[j] - tail[j]
                last = whole[j] - head[j] - after_head[j]
                squares[j] = (first + FOUR * middle + last) * sixth
                cubes[j] = (EIGHT * middle - first - last) * sixth
        else:
            for j in range(w):
                squares[j] = whole[j] - (head[j] + tail[j]) * half
                cubes[j] = squares[j]


@_compile
def _differences(frames: Singles, w: int, order: int, d: Singles) -> None:
    """Differences in time, `d` (time, row, column), of the frames of a strip."""
    for t in range(frames.shape[0] - order):
        for i in range(TILE + 2):
            a, b, out = frames[t, i, :w], frames[t + 1, i, :w], d[t, i, :w]
            if order == 2:
                c = frames[t + 2, i, :w]
                for j in range(w):
                    out[j] = a[j] - TWO * b[j] + c[j]
            else:
                for j in range(w):
                    out[j] = a[j] - b[j]


@_compile
def _residual_sums(d: Singles, w: int, first: int, dy: Singles, sums: Singles) -> None:
    """Add squares of the residuals t, ty, tx, txy into `sums[0..3]`, cubes of t, ty, txy into 4..6.

    Of two differences in time, `d[first]` and `d[first + 1]`: the sums are then fetched half as often.
    """
    n = w - 2
    for i in range(TILE):
        a0, a1, a2 = d[first, i, :w], d[first, i + 1, :w], d[first, i + 2, :w]
        b0, b1, b2 = d[first + 1, i, :w], d[first + 1, i + 1, :w], d[first + 1, i + 2, :w]
        ay, by = dy[0, :w], dy[1, :w]
        t2, ty2, t3, ty3 = sums[0, i, :w], sums[1, i, :w], sums[4, i, :w], sums[5, i, :w]
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
        al, am, ar = a1[0:n], a1[1 : n + 1], a1[2 : n + 2]
        bl, bm, br = b1[0:n], b1[1 : n + 1], b1[2 : n + 2]
        al_y, am_y, ar_y = ay[0:n], ay[1 : n + 1], ay[2 : n + 2]
        bl_y, bm_y, br_y = by[0:n], by[1 : n + 1], by[2 : n + 2]
        tx2, txy2, txy3 = sums[2, i, :n], sums[3, i, :n], sums[6, i, :n]
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
    lowest, highest = np.float32(floor), np.float32(ceiling)
    for t in range(frames.shape[0]):
        for i in range(TILE):
            row = frames[t, 1 + i, 1 : 1 + n]
            high, low = sums[7, i, :n], sums[8, i, :n]
            for j in range(n):
                high[j] += np.float32(row[j] >= highest)
                low[j] += np.float32(row[j] <= lowest)


@_compile
def _instrument(total: Singles, n: int, scale: float, neighbours: bool, out: Singles) -> None:
    """Fill `out` with the image whose ranks make the classes: a sum of frames times `scale`.

    Of the pixel itself, or, where there is no other half to take it from, of its four neighbours.
    """
    factor = np.float32(scale)
    for i in range(TILE):
        target = out[i, :n]
        if neighbours:
            above, below = total[i, 1 : n + 1], total[i + 2, 1 : n + 1]
            before, after = total[i + 1, 0:n], total[i + 1, 2 : n + 2]
            quarter = factor / FOUR
            for j in range(n):
                target[j] = (above[j] + below[j] + before[j] + after[j]) * quarter
        else:
            here = total[i + 1, 1 : n + 1]
            for j in range(n):
                target[j] = here[j] * factor


@_compile
def _measures(x2: Singles, x3: Singles, sums: Singles, w: int, order: int, length: int, out: Singles) -> None:
    """Fill `out` (columns from "x_t" on, y, x) for every pixel of a strip, in the order of `COLUMNS`."""
    n = w - 2
    sixth = np.float32(1 / 6)
    norm = np.float32(1 / 6 if order == 2 else 1 / 2)
    share = np.float32((length - order) / length)
    x2y = np.empty(w, np.float32)
    x3y = np.empty(w, np.float32)
    for i in range(TILE):
        a, b, c = x2[i, :w], x2[i + 1, :w], x2[i + 2, :w]
        for j in range(w):
            x2y[j] = (a[j] + FOUR * b[j] + c[j]) * sixth
        p, q, r = x3[i, :w], x3[i + 1, :w], x3[i + 2, :w]
        for j in range(w):
            x3y[j] = (EIGHT * q[j] - p[j] - r[j]) * sixth
        b0, b1, b2 = b[0:n], b[1 : n + 1], b[2 : n + 2]
        y0, y1, y2 = x2y[0:n], x2y[1 : n + 1], x2y[2 : n + 2]
        q1 = q[1 : n + 1]
        z0, z1, z2 = x3y[0:n], x3y[1 : n + 1], x3y[2 : n + 2]
        t2, ty2, t3, ty3 = (
            sums[0, i, 1 : n + 1],
            sums[1, i, 1 : n + 1],
            sums[4, i, 1 : n + 1],
            sums[5, i, 1 : n + 1],
        )
        for j in range(n):
            out[1, i, j] = b1[j]
            out[2, i, j] = t2[j] * norm
            out[3, i, j] = y1[j]
            out[4, i, j] = ty2[j] * (norm * sixth)
        for j in range(n):
            out[5, i, j] = (b0[j] + FOUR * b1[j] + b2[j]) * sixth
            out[6, i, j] = sums[2, i, j] * (norm * sixth)
            out[7, i, j] = (y0[j] + FOUR * y1[j] + y2[j]) * sixth
            out[8, i, j] = sums[3, i, j] * (norm * sixth * sixth)
        for j in range(n):
            out[9, i, j] = q1[j]
            out[10, i, j] = t3[j] * -sixth
            out[11, i, j] = z1[j]
            out[12, i, j] = ty3[j] * (sixth * sixth)
        for j in range(n):
            out[13, i, j] = (EIGHT * z1[j] - z0[j] - z2[j]) * sixth
            out[14, i, j] = sums[6, i, j] * (-sixth * sixth * sixth)
            out[15, i, j] = sums[7, i, j] * share
            out[16, i, j] = sums[8, i, j] * share


@_compile
def segment_rows(frames: Singles, order: int, floor: float, ceiling: float, rows: Doubles) -> None:
    """Fill `rows` (halves, tiles · 4, columns) from consecutive `frames` (time, y, x), float32.

    With two halves, each sorts the pixels of the other into classes; with one, neighbouring pixels sort each
    other. `order` 2 takes the temporal filter [1, −2, 1], 1 takes [1, −1]. Samples ≥ `ceiling` or ≤ `floor`
    are counted. Tiles start at pixel (1, 1); the frame needs one pixel more on every side of them. The caller
    fills in the segment's number.
    """
    length, height, width = frames.shape
    halves = rows.shape[0]
    middle = length // halves
    tiles_y, tiles_x = (height - 2) // TILE, (width - 2) // TILE
    counting = floor > -np.inf or ceiling < np.inf

    wide = _STRIP_TILES * TILE + 2
    strip = np.empty((length, TILE + 2, wide), np.float32)
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
            _sum_frames(strip[:middle], w, totals[0])
            if halves == 2:
                _sum_frames(strip[middle:], w, totals[1])
            for half in range(halves):
                own = strip[half * middle : middle if half < halves - 1 else length]
                residuals = own.shape[0] - order
                sums[:] = 0
                _weighted_means(own, totals[half], w, order, x2, x3)
                _differences(own, w, order, d)
                if residuals % 2:
                    d[residuals] = 0
                for t in range(0, residuals, 2):
                    _residual_sums(d, w, t, dy, sums)
                if counting:
                    _count_cut(own, n, floor, ceiling, sums)
                _measures(x2, x3, sums, w, order, own.shape[0], measures)
                other = length - own.shape[0] if halves == 2 else length
                _instrument(totals[halves - 1 - half], n, residuals / other, halves == 1, measures[0])
                rank_classes(measures[0], count, halves == 1, weights)
                tile = ty * tiles_x + first
                table = rows[half, tile * CLASSES : (tile + count) * CLASSES]
                for m in range(_MEASURES):
                    _class_sums(measures[m], n, weights, line, table[:, _LABELS + m])
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
    energies = np.empty((6, width), np.float32)
    energies[:] = 0
    for a in range(2, min(height - 2, 1 + tiles_y * TILE)):
        for k in range(5):
            target, y = near[k], a - 2 + k
            if count == 2:
                first, second = frames[0, y], frames[1, y]
                for b in range(width):
                    target[b] = first[b] - second[b]
            else:
                first, second, third = (
                    frames[count // 2 - 1, y],
                    frames[count // 2, y],
                    frames[count // 2 + 1, y],
                )
                for b in range(width):
                    target[b] = first[b] - TWO * second[b] + third[b]
            left, centre, right = target[0 : width - 2], target[1 : width - 1], target[2:width]
            smooth = across_x[k, 1 : width - 1]
            for b in range(width - 2):
                smooth[b] = left[b] - TWO * centre[b] + right[b]
        above, here, below = near[1], near[2], near[3]
        for b in range(width):
            across_y[b] = above[b] - TWO * here[b] + below[b]
        m2, m1, m0 = across_y[0:n], across_y[1 : n + 1], across_y[2 : n + 2]
        p1, p2 = across_y[3 : n + 3], across_y[4 : n + 4]
        v0, v1, v2 = across_x[0, 2 : n + 2], across_x[1, 2 : n + 2], across_x[2, 2 : n + 2]
        v3, v4 = across_x[3, 2 : n + 2], across_x[4, 2 : n + 2]
        e0, e1 = energies[0, 2 : n + 2], energies[1, 2 : n + 2]
        e2, e3 = energies[2, 2 : n + 2], energies[3, 2 : n + 2]
        for b in range(n):
            e0[b] = (m1[b] - TWO * m0[b] + p1[b]) ** 2
            e1[b] = (m2[b] - TWO * m0[b] + p2[b]) ** 2
            e2[b] = (v1[b] - TWO * v2[b] + v3[b]) ** 2
            e3[b] = (v0[b] - TWO * v2[b] + v4[b]) ** 2
        if count == 5:
            for k in range(3):
                target, y = far[k], a - 1 + k
                first, second, third = frames[0, y], frames[2, y], frames[4, y]
                for b in range(width):
                    target[b] = first[b] - TWO * second[b] + third[b]
            above, here, below = far[0], far[1], far[2]
            for b in range(width):
                far_y[b] = above[b] - TWO * here[b] + below[b]
            left, centre, right = far_y[1 : n + 1], far_y[2 : n + 2], far_y[3 : n + 3]
            e4, e5 = energies[4, 2 : n + 2], energies[5, 2 : n + 2]
            for b in range(n):
                e4[b] = e0[b]
                e5[b] = (left[b] - TWO * centre[b] + right[b]) ** 2
        ty = (a - 1) // TILE
        for tx in range(tiles_x):
            start, stop = max(2, tx * TILE + 1), min(width - 2, tx * TILE + 1 + TILE)
            for k in range(6 if count == 5 else 4):
                row = energies[k, start:stop]
                total = np.float32(0)
                for b in range(stop - start):
                    total += row[b]
                out[ty * tiles_x + tx, k] += total
