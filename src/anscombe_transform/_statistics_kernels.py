"""The one hot pass of the calibration: sums of residuals, per tile and brightness class.

For the space-time filters of `calibration` these loops add up, over half a segment of a movie, the squares
and cubes of the residuals and the weighted means they belong to. Row ``tile · 4 + class`` of a half holds the
columns of `COLUMNS`. With L the frames of the half, x(t, p) their values, R = L − order the residuals of a
pixel, and sums over the 16 pixels p of the class:

    tile, brightness    number of the tile, row by row over the field, and of the class, 0 to 3
    segment             number of the half; the caller puts the half segment's own number there
    n                   16 R
    q, own              R × mean over the *other* half (over the same frames, of one half) of the mean of the
                        four diagonal neighbours, and of the pixel itself
    y_f, y3_f           Σₜ r² / Σ w² and Σₜ r³ / Σ w³ of the residuals r = Σⱼ wⱼ xⱼ of filter f
    x_f, x3_f           Σₜ Σⱼ wⱼ² xⱼ / Σ w² and Σₜ Σⱼ wⱼ³ xⱼ / Σ w³, the means that belong to these
    high, low           R / L × number of samples ≥ ceiling, and ≤ floor

The weights of f = t, ty, tx, txy are the products of [1, −2, 1] (order 2) or [1, −1] (order 1) in time with
[1, −2, 1] along each axis named. For order 1 the cubes mean nothing and their columns are not to be used.
Squares and cubes are of float32, sums over a tile too; a row is float64.

Why the diagonal neighbours: q must not hold a fixed offset o of a pixel that enters x_f. It biases the slope
by −Cov(q, o) / Cov(q, x), where Cov(q, o) is σₒ² times the mean of w² / Σ w² over the instrument's pixels: 0
for t, ty and tx. In x_txy the four diagonal neighbours weigh 1/36 each; x_ty + x_tx − x_t holds none of them
and is its equal where the scene has no mixed second difference, and likewise for the cubes.

Work goes through the movie in strips of one tile's height and a few tiles' width, so that all intermediate
images stay in the processor's cache. They lie in one piece of memory that the caller gives, since an array
made here takes the compiler long. The innermost loops run over flat views from 0 and without an offset in the
index, which is what the compiler vectorises, and in functions of their own, which compile fastest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from numba import njit

from anscombe_transform._parts_of_kernels import INNER, row, share_nothing, stay_apart

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Words = NDArray[np.uint16]
    Integers = NDArray[np.int32]
    Singles = NDArray[np.float32]
    Doubles = NDArray[np.float64]

TILE = 8
CLASSES = 4

# Numba takes an integer literal times a float32 for a float64, which would halve the speed.
TWO, FOUR, EIGHT = np.float32(2), np.float32(4), np.float32(8)

COLUMNS = (
    "tile", "segment", "brightness", "n", "q", "own",
    "x_t", "y_t", "x_ty", "y_ty", "x_tx", "y_tx", "x_txy", "y_txy",
    "x3_t", "y3_t", "x3_ty", "y3_ty", "x3_tx", "y3_tx", "x3_txy", "y3_txy",
    "high", "low",
)  # fmt: skip

_LABELS = 4
_MEASURES = len(COLUMNS) - _LABELS
_PIXELS = TILE * TILE
# A strip has room for rows of this fixed length, pixels and one more on either side. So a step of a row is a
# constant to the compiler, and loops run over all rows at once, the ends of rows being worked out in vain.
_STRIP_TILES = 16
WIDE = _STRIP_TILES * TILE + 2
_AREA = TILE * WIDE
_REACH = _AREA + 2
_STRIP = _AREA + 2 * WIDE + 2
# Where the parts of `scratch` begin: flat images that become the columns of the same name; a flat image for
# each class; a line; what a column is multiplied by; two differences in time, theirs along y;
# weighted means; sums of either half; the strip of all frames.
(
    _Q, _OWN, _X_T, _Y_T, _X_TY, _Y_TY, _X_TX, _Y_TX, _X_TXY, _Y_TXY,
    _X3_T, _Y3_T, _X3_TY, _Y3_TY, _X3_TX, _Y3_TX, _X3_TXY, _Y3_TXY, _HIGH, _LOW,
    _WEIGHTS,
) = range(0, (_MEASURES + 1) * _AREA, _AREA)  # fmt: skip
_LINE = _WEIGHTS + CLASSES * _AREA
_FACTORS = _LINE + WIDE
_D = _FACTORS + _MEASURES
_DY = _D + 2 * _STRIP
_X2, _X3 = _DY + 2 * _STRIP, _DY + 3 * _STRIP
_TOTALS = _X3 + _STRIP
_FRAMES = _TOTALS + 2 * _STRIP

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
def rank_classes(bits: Integers, tiles: int, by_line: bool, spare: Integers, weights: Singles) -> None:
    """Put the 64 pixels of each of the first tiles of a strip into 4 classes of 16.

    `weights`, a flat image for each class, is 1 where the pixel is in the class. By rank of the flat
    image of floats with these `bits`, taken to 17 binary digits, ties in order of position. With `by_line`,
    into lower and upper half of the tile's even lines and of its odd ones: classes 0, 1 are the even lines,
    2, 3 the odd ones, so that no pixel's diagonal neighbours are of its own class. `spare` has room for an
    image and two tiles.
    """
    stay_apart()
    keys = row(spare, 0, _AREA)
    own, ranks = row(spare, _AREA, _AREA + _PIXELS), row(spare, _AREA + _PIXELS, _AREA + 2 * _PIXELS)
    for i in range(TILE):
        here, end = i * WIDE, (i + 1) * WIDE
        _keys(row(bits, here, end), i, by_line, row(keys, here, end))
    for start in range(0, tiles * TILE, TILE):
        for i in range(TILE):
            here = i * WIDE + start
            _copy_integers(row(keys, here, here + TILE), row(own, i * TILE, (i + 1) * TILE))
        _rank(own, ranks)
        for i in range(TILE):
            here = i * WIDE + start
            _copy_integers(row(ranks, i * TILE, (i + 1) * TILE), row(keys, here, here + TILE))
    for c in range(CLASSES):
        _of_class(keys, np.int32(c), row(weights, c * _AREA, (c + 1) * _AREA))


@_compile
def _rank(keys: Integers, ranks: Integers) -> None:
    """How many of some numbers are smaller than each."""
    stay_apart()
    for j in range(ranks.size):
        key, smaller = keys[j], np.int32(0)
        for k in range(keys.size):
            smaller += np.int32(keys[k] < key)
        ranks[j] = smaller


@_compile
def _keys(bits: Integers, i: int, by_line: bool, keys: Integers) -> None:
    """Integers that order like floats of these bits, no two of a tile alike; of row `i` of a strip."""
    stay_apart()
    for j in range(keys.size):
        # The bits of a float order like integers, negative ones backwards. Their last six make room
        # for the position, so that no two keys are equal.
        key = bits[j] ^ ((bits[j] >> np.int32(31)) & np.int32(0x7FFFFFFF))
        key &= np.int32(-_PIXELS)
        if by_line:
            key = (key >> np.int32(1)) | np.int32(i // 2 * TILE + j % TILE)
            key += np.int32(-(2**30)) if i % 2 == 0 else np.int32(2**30)
        else:
            key |= np.int32(i * TILE + j % TILE)
        keys[j] = key


@_compile
def _copy_integers(source: Integers, target: Integers) -> None:
    """Copy a flat array."""
    stay_apart()
    for j in range(target.size):
        target[j] = source[j]


@_compile
def _of_class(ranks: Integers, which: np.int32, out: Singles) -> None:
    """Fill `out` with 1 where a pixel's rank among the 64 is that of a class of 16, with 0 elsewhere."""
    stay_apart()
    for j in range(out.size):
        out[j] = np.float32((ranks[j] >> np.int32(4)) == which)


@_compile
def _class_line(values: Singles, weights: Singles, line: Singles) -> None:
    """Add the eight rows of a flat image, as far as `line` goes, where it is of a class."""
    stay_apart()
    n = line.size
    v0, v1 = row(values, 0, n), row(values, WIDE, WIDE + n)
    v2, v3 = row(values, 2 * WIDE, 3 * WIDE), row(values, 3 * WIDE, 4 * WIDE)
    v4, v5 = row(values, 4 * WIDE, 5 * WIDE), row(values, 5 * WIDE, 6 * WIDE)
    v6, v7 = row(values, 6 * WIDE, 7 * WIDE), row(values, 7 * WIDE, 8 * WIDE)
    w0, w1 = row(weights, 0, n), row(weights, WIDE, WIDE + n)
    w2, w3 = row(weights, 2 * WIDE, 3 * WIDE), row(weights, 3 * WIDE, 4 * WIDE)
    w4, w5 = row(weights, 4 * WIDE, 5 * WIDE), row(weights, 5 * WIDE, 6 * WIDE)
    w6, w7 = row(weights, 6 * WIDE, 7 * WIDE), row(weights, 7 * WIDE, 8 * WIDE)
    for j in range(n):
        line[j] = (
            (v0[j] * w0[j] + v1[j] * w1[j] + v2[j] * w2[j] + v3[j] * w3[j])
            + (v4[j] * w4[j] + v5[j] * w5[j] + v6[j] * w6[j] + v7[j] * w7[j])
        )  # fmt: skip


@_compile
def _tile_sums(line: Singles, factor: np.float32, first: int, column: int, out: Doubles) -> None:
    """Fill a column of every fourth row of `out`, from `first` on, with sums over tiles, times a factor."""
    stay_apart()
    for s in range(line.size // TILE):
        part, total = row(line, s * TILE, (s + 1) * TILE), np.float32(0)
        for j in range(TILE):
            total += part[j]
        out[s * CLASSES + first, column] = total * factor


@_compile
def _clear(values: Singles) -> None:
    """Set a flat array to 0."""
    stay_apart()
    for j in range(values.size):
        values[j] = 0


@_compile
def _copy(source: Singles, target: Singles) -> None:
    """Copy a flat array."""
    stay_apart()
    for j in range(target.size):
        target[j] = source[j]


@_compile
def _load_words(words: Words, flip: int, top: int, left: int, w: int, strip: Singles) -> None:
    """Copy a strip of all frames to where it lies together, as float32.

    With `flip` 0x8000 the words are signed, else it is 0.
    """
    stay_apart()
    turned, zero = np.uint16(flip), np.float32(flip)
    for t in range(words.shape[0]):
        for i in range(TILE + 2):
            source = row(words, t, top + i, left, left + w)
            target = row(strip, t * _STRIP + i * WIDE, t * _STRIP + i * WIDE + w)
            _convert(source, turned, zero, target)


@_compile
def _convert(words: Words, flip: np.uint16, zero: np.float32, target: Singles) -> None:
    """Floats of a flat array of words."""
    stay_apart()
    for j in range(target.size):
        target[j] = np.float32(np.uint16(words[j] ^ flip)) - zero


@_compile
def _load_singles(frames: Singles, top: int, left: int, w: int, strip: Singles) -> None:
    """Copy a strip of all frames to where it lies together."""
    stay_apart()
    for t in range(frames.shape[0]):
        for i in range(TILE + 2):
            target = row(strip, t * _STRIP + i * WIDE, t * _STRIP + i * WIDE + w)
            _copy(row(frames, t, top + i, left, left + w), target)


@_compile
def _sum_frames(frames: Singles, total: Singles) -> None:
    """Sum of the frames of a strip, two at a time."""
    stay_apart()
    length, n = frames.size // _STRIP, total.size
    for j in range(n):
        total[j] = 0
    for t in range(0, length - 1, 2):
        a, b = row(frames, t * _STRIP, (t + 1) * _STRIP), row(frames, (t + 1) * _STRIP, (t + 2) * _STRIP)
        for j in range(n):
            total[j] += a[j] + b[j]
    if length % 2:
        a = row(frames, (length - 1) * _STRIP, length * _STRIP)
        for j in range(n):
            total[j] += a[j]


@_compile
def _weighted_means(frames: Singles, total: Singles, order: int, squares: Singles, cubes: Singles) -> None:
    """Sum the frames with the weights that belong to the squares and to the cubes of the residuals."""
    stay_apart()
    end, n = frames.size, total.size
    sixth = np.float32(1 / 6)
    half = np.float32(0.5)
    head, tail = row(frames, 0, _STRIP), row(frames, end - _STRIP, end)
    after_head, before_tail = row(frames, _STRIP, 2 * _STRIP), row(frames, end - 2 * _STRIP, end - _STRIP)
    if order == 2:
        for j in range(n):
            first = total[j] - tail[j] - before_tail[j]
            middle = total[j] - head[j] - tail[j]
            last = total[j] - head[j] - after_head[j]
            squares[j] = (first + FOUR * middle + last) * sixth
            cubes[j] = (EIGHT * middle - first - last) * sixth
    else:
        for j in range(n):
            squares[j] = total[j] - (head[j] + tail[j]) * half
            cubes[j] = squares[j]


@_compile
def _second_difference(a: Singles, b: Singles, c: Singles, out: Singles) -> None:
    """Second difference of three flat arrays."""
    stay_apart()
    for j in range(out.size):
        out[j] = a[j] - TWO * b[j] + c[j]


@_compile
def _difference(a: Singles, b: Singles, out: Singles) -> None:
    """Difference of two flat arrays."""
    stay_apart()
    for j in range(out.size):
        out[j] = a[j] - b[j]


@_compile
def _add_residuals(a: Singles, b: Singles, s2: Singles, s3: Singles, x2: Singles, x3: Singles) -> None:
    """Add squares and cubes of two images, into `s2`, `s3`, and of their second differences along x.

    Of two at once: the sums are then fetched half as often.
    """
    stay_apart()
    n = s2.size
    a0, a1, a2 = row(a, 0, n), row(a, 1, n + 1), row(a, 2, n + 2)
    b0, b1, b2 = row(b, 0, n), row(b, 1, n + 1), row(b, 2, n + 2)
    for j in range(n):
        r, s = a1[j], b1[j]
        u, v = a0[j] - TWO * r + a2[j], b0[j] - TWO * s + b2[j]
        rr, ss, uu, vv = r * r, s * s, u * u, v * v
        s2[j] += rr + ss
        s3[j] += rr * r + ss * s
        x2[j] += uu + vv
        x3[j] += uu * u + vv * v


@_compile
def _count_cut(frames: Singles, floor: float, ceiling: float, n: int, sums: Singles) -> None:
    """Count samples at or beyond the ceiling and the floor into their columns in `sums`."""
    stay_apart()
    lowest, highest = np.float32(floor), np.float32(ceiling)
    high, low = row(sums, _HIGH, _HIGH + _AREA), row(sums, _LOW, _LOW + _AREA)
    for start in range(WIDE + 1, frames.size, _STRIP):
        values = row(frames, start, start + _AREA)
        for j in range(n):
            high[j] += np.float32(values[j] >= highest)
            low[j] += np.float32(values[j] <= lowest)


@_compile
def _instrument(total: Singles, factor: np.float32, out: Singles) -> None:
    """Fill `out` with the image whose ranks make the classes: the mean of a pixel's four diagonal neighbours.

    Of a sum of frames times a factor, a quarter included.
    """
    stay_apart()
    end = 2 * WIDE
    above_left, above_right = row(total, 0, _AREA), row(total, 2, 2 + _AREA)
    below_left, below_right = row(total, end, end + _AREA), row(total, end + 2, end + 2 + _AREA)
    for j in range(out.size):
        out[j] = (above_left[j] + above_right[j] + below_left[j] + below_right[j]) * factor


@_compile
def _scale(source: Singles, factor: np.float32, target: Singles) -> None:
    """Fill a flat array with another times a factor."""
    stay_apart()
    for j in range(target.size):
        target[j] = source[j] * factor


@_compile
def _smooth(source: Singles, step: int | np.intp, target: Singles) -> None:
    """Weighted mean, of values `step` apart, that belongs to the squares of a second difference."""
    stay_apart()
    sixth = np.float32(1 / 6)
    here, after = row(source, step, step + target.size), row(source, 2 * step, 2 * step + target.size)
    for j in range(target.size):
        target[j] = (source[j] + FOUR * here[j] + after[j]) * sixth


@_compile
def _sharpen(source: Singles, step: int | np.intp, target: Singles) -> None:
    """Weighted mean, of values `step` apart, that belongs to the cubes of a second difference."""
    stay_apart()
    sixth = np.float32(1 / 6)
    here, after = row(source, step, step + target.size), row(source, 2 * step, 2 * step + target.size)
    for j in range(target.size):
        target[j] = (EIGHT * here[j] - source[j] - after[j]) * sixth


@_compile
def _means(x2: Singles, x3: Singles, along_y: Singles, sums: Singles) -> None:
    """Fill the columns x and x3 of `sums` from the weighted means of a strip."""
    stay_apart()
    # Literals would compile what they are given to once for each.
    one, line = np.intp(1), np.intp(WIDE)
    _copy(row(x2, WIDE + 1, WIDE + 1 + _AREA), row(sums, _X_T, _X_T + _AREA))
    _smooth(row(x2, WIDE, WIDE + _AREA), one, row(sums, _X_TX, _X_TX + _AREA))
    _smooth(x2, line, along_y)
    _copy(row(along_y, 1, 1 + _AREA), row(sums, _X_TY, _X_TY + _AREA))
    _smooth(along_y, one, row(sums, _X_TXY, _X_TXY + _AREA))
    _copy(row(x3, WIDE + 1, WIDE + 1 + _AREA), row(sums, _X3_T, _X3_T + _AREA))
    _sharpen(row(x3, WIDE, WIDE + _AREA), one, row(sums, _X3_TX, _X3_TX + _AREA))
    _sharpen(x3, line, along_y)
    _copy(row(along_y, 1, 1 + _AREA), row(sums, _X3_TY, _X3_TY + _AREA))
    _sharpen(along_y, one, row(sums, _X3_TXY, _X3_TXY + _AREA))


@_compile
def _residuals(frames: Singles, order: int, d: Singles, dy: Singles, sums: Singles) -> None:
    """Fill the columns y and y3 of `sums` from the frames of a strip; `d`, `dy` have room for differences."""
    stay_apart()
    _clear(row(sums, 0, _LOW + _AREA))
    t2, t3 = row(sums, _Y_T, _Y_T + _AREA), row(sums, _Y3_T, _Y3_T + _AREA)
    tx2, tx3 = row(sums, _Y_TX, _Y_TX + _AREA), row(sums, _Y3_TX, _Y3_TX + _AREA)
    ty2, ty3 = row(sums, _Y_TY, _Y_TY + _AREA), row(sums, _Y3_TY, _Y3_TY + _AREA)
    txy2, txy3 = row(sums, _Y_TXY, _Y_TXY + _AREA), row(sums, _Y3_TXY, _Y3_TXY + _AREA)
    # In pairs; of an odd number, the last has a partner of zeros.
    for start in range(0, frames.size - order * _STRIP, 2 * _STRIP):
        for k in range(2):
            at, own = start + k * _STRIP, row(d, k * _STRIP, (k + 1) * _STRIP)
            here, after = row(frames, at, at + _STRIP), row(frames, at + _STRIP, at + 2 * _STRIP)
            if at + order * _STRIP >= frames.size:
                _clear(own)
            elif order == 2:
                _second_difference(here, after, row(frames, at + 2 * _STRIP, at + 3 * _STRIP), own)
            else:
                _difference(here, after, own)
            middle, below = row(own, WIDE, WIDE + _REACH), row(own, 2 * WIDE, 2 * WIDE + _REACH)
            _second_difference(own, middle, below, row(dy, k * _STRIP, k * _STRIP + _REACH))
        _add_residuals(row(d, WIDE, WIDE + _REACH), row(d, _STRIP + WIDE, 2 * _STRIP), t2, t3, tx2, tx3)
        _add_residuals(row(dy, 0, _REACH), row(dy, _STRIP, _STRIP + _REACH), ty2, ty3, txy2, txy3)


@_compile
def _class_rows(
    space: Singles, tiles: int, share: np.float32, residuals: int, measures: int, out: Doubles
) -> None:
    """Fill the rows of some tiles, all but the numbers of tile and half, from the columns in `space`.

    From the first `measures` columns: the others are 0.
    """
    stay_apart()
    line, factors = row(space, _LINE, _LINE + tiles * TILE), row(space, _FACTORS, _FACTORS + _MEASURES)
    factors[_HIGH // _AREA] = share
    factors[_LOW // _AREA] = share
    for m in range(measures):
        for c in range(CLASSES):
            weights = row(space, _WEIGHTS + c * _AREA, _WEIGHTS + (c + 1) * _AREA)
            _class_line(row(space, m * _AREA, (m + 1) * _AREA), weights, line)
            _tile_sums(line, factors[m], c, _LABELS + m, out)
    for r in range(tiles * CLASSES):
        out[r, 2] = r % CLASSES
        out[r, 3] = (_PIXELS // CLASSES) * residuals
        for m in range(measures, _MEASURES):
            out[r, _LABELS + m] = 0


def scratch_size(length: int) -> int:
    """How many numbers `scratch` needs for a segment of so many frames."""
    return _FRAMES + length * _STRIP


def scratch(space: Singles, order: int) -> Singles:
    """Prepare memory for `segment_rows` to work in, of `scratch_size` numbers.

    It then holds what the columns are to be multiplied by: one over the sum of squared or cubed weights.
    """
    time, second = (6, 6) if order == 2 else (2, 6)
    norms = {
        _Y_T: time, _Y_TY: time * second, _Y_TX: time * second, _Y_TXY: time * second**2,
        _Y3_T: -6, _Y3_TY: 36, _Y3_TX: 36, _Y3_TXY: -216,
    }  # fmt: skip
    factors = space[_FACTORS : _FACTORS + _MEASURES]
    factors[:] = 1
    for column, norm in norms.items():
        factors[column // _AREA] /= norm
    return space


@_compile
def segment_rows(
    words: Words,
    singles: Singles,
    flip: int,
    top: int,
    first_row: int,
    end_row: int,
    order: int,
    floor: float,
    ceiling: float,
    space: Singles,
    bits: Integers,
    rows: Doubles,
) -> None:
    """Fill `rows` (halves, tiles · 4, columns) from consecutive frames (time, y, x), some rows of tiles.

    They are those from `first_row` up to `end_row`, of which the first begins at row `top` of the frames.

    The frames are `words` of 16 bits, signed ones with `flip` 0x8000 and else with 0, or `singles`; the other
    one is empty. Pixels are sorted into classes by q: with two halves by rank in the tile, with one half in
    its even and in its odd lines. Every column of every row is written, see the module's docstring.
    `order` 2 takes the temporal filter [1, −2, 1], 1 takes [1, −1]. Samples ≥ `ceiling` or ≤ `floor` are
    counted. Tiles start one pixel from the edge; the frame needs one pixel more on every side of them.
    `space` is what `scratch` gives, `bits` the same memory as integers.
    """
    length, width = max(words.shape[0], singles.shape[0]), max(words.shape[2], singles.shape[2])
    halves = rows.shape[0]
    middle = length // halves
    tiles_x = (width - 2) // TILE
    counting = floor > -np.inf or ceiling < np.inf
    measures = _MEASURES if counting else _HIGH // _AREA
    strip, weights = row(space, _FRAMES, _FRAMES + length * _STRIP), row(space, _WEIGHTS, _LINE)
    x2, x3 = row(space, _X2, _X2 + _STRIP), row(space, _X3, _X3 + _STRIP)
    for ty in range(first_row, end_row):
        at = top + (ty - first_row) * TILE
        for first in range(0, tiles_x, _STRIP_TILES):
            # The last strip can be narrower: what is computed beyond its width is not used.
            count = min(_STRIP_TILES, tiles_x - first)
            if words.size:
                _load_words(words, flip, at, first * TILE, count * TILE + 2, strip)
            else:
                _load_singles(singles, at, first * TILE, count * TILE + 2, strip)
            for half in range(halves):
                begin, end = half * middle, middle if half < halves - 1 else length
                total = row(space, _TOTALS + half * _STRIP, _TOTALS + (half + 1) * _STRIP)
                _sum_frames(row(strip, begin * _STRIP, end * _STRIP), total)
            for half in range(halves):
                begin, end = half * middle, middle if half < halves - 1 else length
                own = row(strip, begin * _STRIP, end * _STRIP)
                _residuals(own, order, row(space, _D, _DY), row(space, _DY, _X2), space)
                if counting:
                    _count_cut(own, floor, ceiling, _AREA, space)
                total = row(space, _TOTALS + half * _STRIP, _TOTALS + (half + 1) * _STRIP)
                _weighted_means(own, total, order, x2, x3)
                _means(x2, x3, row(space, _D, _D + _REACH), space)
                other = halves - 1 - half
                others = length - (end - begin) if halves == 2 else length
                total = row(space, _TOTALS + other * _STRIP, _TOTALS + (other + 1) * _STRIP)
                share = np.float32((end - begin - order) / others)
                _instrument(total, share / FOUR, row(space, _Q, _Q + _AREA))
                _scale(row(total, WIDE + 1, WIDE + 1 + _AREA), share, row(space, _OWN, _OWN + _AREA))
                rank_classes(row(bits, _Q, _AREA), count, halves == 1, row(bits, _D, _DY), weights)
                tile = ty * tiles_x + first
                table = row(rows, half, tile * CLASSES, (tile + count) * CLASSES)
                residuals = end - begin - order
                share = np.float32(residuals / (end - begin))
                _class_rows(space, count, share, residuals, measures, table)
                for r in range(count * CLASSES):
                    table[r, 0] = tile + r // CLASSES
                    table[r, 1] = half


def lag_scratch(width: int) -> Singles:
    """Memory that `lag_energies` works in, for frames of that width."""
    return np.zeros(22 * width, np.float32)


@_compile
def lag_energies(frames: Singles, space: Singles, out: Doubles) -> None:
    """Add, per tile, squared second differences of a residual at lags 1 and 2 along x, along y, and in time.

    `frames` (2, 3 or 5, y, x) are those around a centre: the residual is a first difference of two, or the
    second difference of three, or of five those at lag 1 (second to fourth) and at lag 3 (all but these).
    It is differenced twice along the other axis, or along both for the lags in time, which takes out
    structure of the scene and leaves the ratio of two energies as it is. `out` (tiles, 6) gets lag 1 along x,
    lag 2 along x, lag 1 along y, lag 2 along y, and, of five frames, lag 1 and lag 3 in time, from the pixels
    of the tile that lie 2 or more from the frame's edge. `space` is what `lag_scratch` gives.
    """
    count, height, width = frames.shape
    tiles_x = (width - 2) // TILE
    energies = row(space, 0, 6 * width)
    for y in range(4):
        _lag_row(frames, y, space)
    for ty in range((height - 2) // TILE):
        _clear(energies)
        for y in range(max(2, ty * TILE + 1), min(height - 2, (ty + 1) * TILE + 1)):
            _lag_row(frames, y + 2, space)
            _add_energies(space, y, count, width)
        if count == 5:
            _copy(row(energies, 0, width), row(energies, 4 * width, 5 * width))
        for k in range(6 if count == 5 else 4):
            for tx in range(tiles_x):
                start, stop = max(2, tx * TILE + 1), min(width - 2, (tx + 1) * TILE + 1)
                values, total = row(energies, k * width + start, k * width + stop), np.float32(0)
                for b in range(values.size):
                    total += values[b]
                out[ty * tiles_x + tx, k] += total


@_compile
def _lag_row(frames: Singles, y: int, space: Singles) -> None:
    """One row of the residual, of its second difference along x, and of the residual at lag 3 if there is.

    The last five of each are kept: row y is where y modulo 5 says.
    """
    stay_apart()
    count, width, middle = frames.shape[0], frames.shape[2], frames.shape[0] // 2
    start = (6 + y % 5) * width
    target, across = row(space, start, start + width), start + 5 * width
    before, centre = row(frames, max(middle - 1, 0), y, 0, width), row(frames, middle, y, 0, width)
    if count == 2:
        _difference(before, centre, target)
    else:
        _second_difference(before, centre, row(frames, middle + 1, y, 0, width), target)
    left, here, right = row(target, 0, width - 2), row(target, 1, width - 1), row(target, 2, width)
    _second_difference(left, here, right, row(space, across + 1, across + width - 1))
    if count == 5:
        first, last = row(frames, 0, y, 0, width), row(frames, 4, y, 0, width)
        _second_difference(first, centre, last, row(space, across + 5 * width, across + 6 * width))


@_compile
def _add_energies(space: Singles, y: int, count: int, width: int) -> None:
    """Add the energies of a row, of which the two rows before and after are known."""
    stay_apart()
    n = width - 4
    above, here, below = (y - 1) % 5 * width, y % 5 * width, (y + 1) % 5 * width
    near, across, far = row(space, 6 * width, 11 * width), row(space, 11 * width, 16 * width), 16 * width
    line = row(space, 21 * width, 22 * width)
    _second_difference(
        row(near, above, above + width), row(near, here, here + width), row(near, below, below + width), line
    )
    _add_squares(row(line, 1, n + 1), row(line, 2, n + 2), row(line, 3, n + 3), row(space, 2, n + 2))
    centre, target = row(line, 2, n + 2), width + 2
    _add_squares(row(line, 0, n), centre, row(line, 4, n + 4), row(space, target, target + n))
    for k in range(1, 3):
        first, last, target = (y - k) % 5 * width + 2, (y + k) % 5 * width + 2, (1 + k) * width + 2
        centre = row(across, here + 2, here + 2 + n)
        _add_squares(
            row(across, first, first + n), centre, row(across, last, last + n), row(space, target, target + n)
        )
    if count == 5:
        _second_difference(
            row(space, far + above, far + above + width),
            row(space, far + here, far + here + width),
            row(space, far + below, far + below + width),
            line,
        )
        target = 5 * width + 2
        _add_squares(
            row(line, 1, n + 1), row(line, 2, n + 2), row(line, 3, n + 3), row(space, target, target + n)
        )


@_compile
def _add_squares(a: Singles, b: Singles, c: Singles, out: Singles) -> None:
    """Add the squared second difference of three flat arrays."""
    stay_apart()
    for j in range(out.size):
        r = a[j] - TWO * b[j] + c[j]
        out[j] += r * r


# Sides of a patch and of its inner part, whose pixels have partners at either distance in the patch.
PATCH, INNER_SIDE, FAR = 32, 26, 3
FIRST_INNER = (PATCH - INNER_SIDE) // 2
_INNER_AREA = INNER_SIDE * INNER_SIDE
HALF, QUARTER = np.float32(0.5), np.float32(0.25)


@_compile
def patch_images(patches: Singles, space: Singles, images: Singles) -> None:
    """Images at the inner pixels of images of 32 × 32 pixels (patch, time, pixel).

    `images` (patch, image, time, pixel) gets second differences along y and x; means of the neighbours along
    x, of those along y and of the four across, less those of pixels three times as far; and the image itself.
    `space` has room for a line of a patch.
    """
    for k in range(patches.shape[0]):
        for t in range(patches.shape[1]):
            _patch_images(
                row(patches, k, t, 0, PATCH * PATCH),
                row(space, 0, PATCH),
                row(images, k, 0, t, 0, _INNER_AREA),
                row(images, k, 1, t, 0, _INNER_AREA),
                row(images, k, 2, t, 0, _INNER_AREA),
                row(images, k, 3, t, 0, _INNER_AREA),
                row(images, k, 4, t, 0, _INNER_AREA),
            )


@_compile
def _patch_images(
    patch: Singles,
    second: Singles,
    differences: Singles,
    along_x: Singles,
    along_y: Singles,
    across: Singles,
    itself: Singles,
) -> None:
    """Images of one patch; `second` has room for differences of a line along y."""
    share_nothing()
    for y in range(INNER_SIDE):
        here, to = (y + FIRST_INNER) * PATCH, y * INNER_SIDE
        for j in range(PATCH):
            second[j] = TWO * patch[here + j] - patch[here - PATCH + j] - patch[here + PATCH + j]
        for j in range(INNER_SIDE):
            x = FIRST_INNER + j
            i = here + x
            up, down = i - PATCH, i + PATCH
            far_up, far_down = i - FAR * PATCH, i + FAR * PATCH
            differences[to + j] = TWO * second[x] - second[x - 1] - second[x + 1]
            along_x[to + j] = HALF * (patch[i - 1] + patch[i + 1] - patch[i - FAR] - patch[i + FAR])
            along_y[to + j] = HALF * (patch[up] + patch[down] - patch[far_up] - patch[far_down])
            near = patch[up - 1] + patch[up + 1] + patch[down - 1] + patch[down + 1]
            far = patch[far_up - FAR] + patch[far_up + FAR] + patch[far_down - FAR] + patch[far_down + FAR]
            across[to + j] = QUARTER * (near - far)
            itself[to + j] = patch[i]
