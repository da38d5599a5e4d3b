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
def rank_classes(q: Singles, by_colour: bool, weights: Singles) -> None:
    """Put the 64 pixels of a tile into 4 classes of 16: `weights[c, k]` is 1 where pixel k is in class c.

    By rank of `q`, ties in order of position. With `by_colour`, into lower and upper half of each colour of
    a checkerboard: classes 0, 1 are the even pixels, 2, 3 the odd ones.
    """
    for k in range(_PIXELS):
        own = q[k]
        before = np.int32(0)
        if by_colour:
            colour = (k // TILE + k) & 1
            for j in range(_PIXELS):
                same = ((j // TILE + j) & 1) == colour
                before += np.int32(same and (q[j] < own or (q[j] == own and j < k)))
            chosen = 2 * colour + before // (_PIXELS // 4)
        else:
            for j in range(k):
                before += np.int32(q[j] <= own)
            for j in range(k + 1, _PIXELS):
                before += np.int32(q[j] < own)
            chosen = before // (_PIXELS // CLASSES)
        for c in range(CLASSES):
            weights[c, k] = np.float32(c == chosen)


@_compile
def _weighted_means(
    frames: Singles, top: int, left: int, w: int, order: int, x2: Singles, x3: Singles
) -> None:
    """Sum the frames with the weights that belong to the squares (`x2`) and cubes (`x3`) of the residuals."""
    length = frames.shape[0]
    sixth = np.float32(1 / 6)
    half = np.float32(0.5)
    for i in range(TILE + 2):
        total, cubes = x2[i, :w], x3[i, :w]
        total[:] = 0
        for t in range(length):
            row = frames[t, top + i, left : left + w]
            for j in range(w):
                total[j] += row[j]
        head = frames[0, top + i, left : left + w]
        tail = frames[length - 1, top + i, left : left + w]
        after_head = frames[1, top + i, left : left + w]
        before_tail = frames[length - 2, top + i, left : left + w]
        if order == 2:
            for j in range(w):
                first = total[j] - tail[j] - before_tail[j]
                middle = total[j] - head[j] - tail[j]
                last = total[j] - head[j] - after_head[j]
                total[j] = (first + FOUR * middle + last) * sixth
                cubes[j] = (EIGHT * middle - first - last) * sixth
        else:
            for j in range(w):
                total[j] -= (head[j] + tail[j]) * half
                cubes[j] = total[j]


@_compile
def _residual_sums(
    frames: Singles, top: int, left: int, w: int, order: int, d: Singles, dy: Singles, sums: Singles
) -> None:
    """Add squares of the residuals t, ty, tx, txy into `sums[0..3]`, cubes of t, ty, txy into 4..6."""
    n = w - 2
    for t in range(frames.shape[0] - order):
        for i in range(TILE + 2):
            a = frames[t, top + i, left : left + w]
            b = frames[t + 1, top + i, left : left + w]
            out = d[i, :w]
            if order == 2:
                c = frames[t + 2, top + i, left : left + w]
                for j in range(w):
                    out[j] = a[j] - TWO * b[j] + c[j]
            else:
                for j in range(w):
                    out[j] = a[j] - b[j]
        for i in range(TILE):
            above, here, below, out = d[i, :w], d[i + 1, :w], d[i + 2, :w], dy[i, :w]
            for j in range(w):
                out[j] = above[j] - TWO * here[j] + below[j]
            tl, tc, tr = d[i + 1, 0:n], d[i + 1, 1 : n + 1], d[i + 1, 2 : n + 2]
            yl, yc, yr = dy[i, 0:n], dy[i, 1 : n + 1], dy[i, 2 : n + 2]
            t2, ty2, tx2, txy2 = sums[0, i, :n], sums[1, i, :n], sums[2, i, :n], sums[3, i, :n]
            t3, ty3, txy3 = sums[4, i, :n], sums[5, i, :n], sums[6, i, :n]
            for j in range(n):
                r = tc[j]
                s = r * r
                t2[j] += s
                t3[j] += s * r
            for j in range(n):
                r = yc[j]
                s = r * r
                ty2[j] += s
                ty3[j] += s * r
            for j in range(n):
                r = tl[j] - TWO * tc[j] + tr[j]
                tx2[j] += r * r
            for j in range(n):
                r = yl[j] - TWO * yc[j] + yr[j]
                s = r * r
                txy2[j] += s
                txy3[j] += s * r


@_compile
def _count_cut(
    frames: Singles, top: int, left: int, n: int, floor: float, ceiling: float, sums: Singles
) -> None:
    """Count samples at the ceiling into `sums[7]`, at the floor into `sums[8]`."""
    for t in range(frames.shape[0]):
        for i in range(TILE):
            row = frames[t, top + 1 + i, left + 1 : left + 1 + n]
            high, low = sums[7, i, :n], sums[8, i, :n]
            for j in range(n):
                high[j] += np.float32(row[j] >= ceiling)
                low[j] += np.float32(row[j] <= floor)


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
        for j in range(n):
            out[1, i, j] = b1[j]
            out[2, i, j] = sums[0, i, j] * norm
            out[3, i, j] = y1[j]
            out[4, i, j] = sums[1, i, j] * (norm * sixth)
        for j in range(n):
            out[5, i, j] = (b0[j] + FOUR * b1[j] + b2[j]) * sixth
            out[6, i, j] = sums[2, i, j] * (norm * sixth)
            out[7, i, j] = (y0[j] + FOUR * y1[j] + y2[j]) * sixth
            out[8, i, j] = sums[3, i, j] * (norm * sixth * sixth)
        for j in range(n):
            out[9, i, j] = q1[j]
            out[10, i, j] = sums[4, i, j] * -sixth
            out[11, i, j] = z1[j]
            out[12, i, j] = sums[5, i, j] * (sixth * sixth)
        for j in range(n):
            out[13, i, j] = (EIGHT * z1[j] - z0[j] - z2[j]) * sixth
            out[14, i, j] = sums[6, i, j] * (-sixth * sixth * sixth)
            out[15, i, j] = sums[7, i, j] * share
            out[16, i, j] = sums[8, i, j] * share


@_compile
def half_segment_rows(
    frames: Singles, q: Singles, order: int, by_colour: bool, floor: float, ceiling: float, rows: Doubles
) -> None:
    """Fill `rows` (tiles · 4, columns) from consecutive `frames` (time, y, x), float32.

    `q` (y, x) is the image whose ranks make the classes. `order` 2 takes the temporal filter [1, −2, 1],
    1 takes [1, −1]. Samples ≥ `ceiling` or ≤ `floor` are counted. Tiles start at pixel (1, 1); the frame
    needs one pixel more on every side of them. The caller fills in the segment's number.
    """
    length, height, width = frames.shape
    tiles_y, tiles_x = (height - 2) // TILE, (width - 2) // TILE
    residuals = length - order
    counting = floor > -np.inf or ceiling < np.inf

    strip = _STRIP_TILES * TILE + 2
    d = np.empty((TILE + 2, strip), np.float32)
    dy = np.empty((TILE, strip), np.float32)
    x2 = np.empty((TILE + 2, strip), np.float32)
    x3 = np.empty((TILE + 2, strip), np.float32)
    sums = np.empty((9, TILE, strip), np.float32)
    measures = np.empty((_MEASURES, TILE, strip), np.float32)
    tile_q = np.empty(_PIXELS, np.float32)
    tile_values = np.empty(_PIXELS, np.float32)
    weights = np.empty((CLASSES, _PIXELS), np.float32)

    for ty in range(tiles_y):
        top = ty * TILE
        for first in range(0, tiles_x, _STRIP_TILES):
            count = min(_STRIP_TILES, tiles_x - first)
            left, w = first * TILE, count * TILE + 2
            sums[:] = 0
            _weighted_means(frames, top, left, w, order, x2, x3)
            _residual_sums(frames, top, left, w, order, d, dy, sums)
            if counting:
                _count_cut(frames, top, left, w - 2, floor, ceiling, sums)
            _measures(x2, x3, sums, w, order, length, measures)
            for i in range(TILE):
                for j in range(w - 2):
                    measures[0, i, j] = q[top + 1 + i, left + 1 + j] * np.float32(residuals)
            for s in range(count):
                for i in range(TILE):
                    for j in range(TILE):
                        tile_q[i * TILE + j] = measures[0, i, s * TILE + j]
                rank_classes(tile_q, by_colour, weights)
                tile = ty * tiles_x + first + s
                for c in range(CLASSES):
                    rows[tile * CLASSES + c, 0] = tile
                    rows[tile * CLASSES + c, 2] = c
                    rows[tile * CLASSES + c, 3] = (_PIXELS // CLASSES) * residuals
                for m in range(_MEASURES):
                    for i in range(TILE):
                        source = measures[m, i, s * TILE : (s + 1) * TILE]
                        for j in range(TILE):
                            tile_values[i * TILE + j] = source[j]
                    s0 = s1 = s2 = s3 = np.float32(0)
                    for k in range(_PIXELS):
                        v = tile_values[k]
                        s0 += weights[0, k] * v
                        s1 += weights[1, k] * v
                        s2 += weights[2, k] * v
                        s3 += weights[3, k] * v
                    for c, total in enumerate((s0, s1, s2, s3)):
                        rows[tile * CLASSES + c, _LABELS + m] = total


@_compile
def lag_energies(residual: Singles, out: Doubles) -> None:
    """Add, per tile, squared second differences of `residual` (y, x) at lags 1 and 2 along x and along y.

    The residual is first differenced twice along the other axis, which takes out structure of the scene and
    leaves the ratio of the two energies as it is. `out` (tiles, 4 or more) gets lag 1 along x, lag 2 along x,
    lag 1 along y, lag 2 along y, from the pixels of the tile that lie 2 or more from the frame's edge.
    """
    height, width = residual.shape
    tiles_y, tiles_x = (height - 2) // TILE, (width - 2) // TILE
    n = width - 4
    across_x = np.zeros((5, width), np.float32)
    across_y = np.empty(width, np.float32)
    energies = np.empty((4, width), np.float32)
    for a in range(2, min(height - 2, 1 + tiles_y * TILE)):
        above, here, below = residual[a - 1], residual[a], residual[a + 1]
        for b in range(width):
            across_y[b] = above[b] - TWO * here[b] + below[b]
        for k in range(5):
            row = residual[a - 2 + k]
            left, centre, right = row[0 : width - 2], row[1 : width - 1], row[2:width]
            target = across_x[k, 1 : width - 1]
            for b in range(width - 2):
                target[b] = left[b] - TWO * centre[b] + right[b]
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
        ty = (a - 1) // TILE
        for tx in range(tiles_x):
            start, stop = max(2, tx * TILE + 1), min(width - 2, tx * TILE + 1 + TILE)
            for k in range(4):
                total = np.float32(0)
                for b in range(start, stop):
                    total += energies[k, b]
                out[ty * tiles_x + tx, k] += total
