"""The sums of noise of the calibration in plain numpy; see `reference`.

All arithmetic is float32 and every sum has a fixed order, so that the native core gives the same bits: over
time in pairs of frames, over the 8 × 8 pixels of a tile folded in halves (`fold_tiles`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anscombe_transform.native.arrays import AnyArray, Singles

TILE, CLASSES = 8, 4
"""Pixels along a side of a tile, and classes of brightness of its pixels."""
FILTERS = ("t", "ty", "tx", "txy")
COLUMNS = (
    "n", "q", "own",
    "x_t", "y_t", "x_ty", "y_ty", "x_tx", "y_tx", "x_txy", "y_txy",
    "x3_t", "y3_t", "x3_ty", "y3_ty", "x3_tx", "y3_tx", "x3_txy", "y3_txy",
    "high", "low",
)  # fmt: skip
"""Columns of the rows of `sum_noise`, which describes them."""
LEAST_HALVED = 6
"""Frames from which on a segment is cut into two halves."""
PATCH, PATCH_INNER = 32, 26
"""Pixels along a side of a patch, and of its inner part: pixels with all partners in the patch."""

_PIXELS = TILE * TILE
_SIXTH = np.float32(1 / 6)


def noise_scratch(frames: int) -> int:
    """Bytes of scratch that the native `sum_noise` needs for so many frames; numpy needs none."""
    return 0


def sum_noise(
    movie: AnyArray,
    frames: int,
    height: int,
    width: int,
    top: int,
    tile_rows: int,
    pedestal: float,
    floor: float,
    ceiling: float,
    scratch: AnyArray,
    rows: AnyArray,
) -> None:
    """Sums of squares and cubes of residuals, and of the weighted means that belong to them.

    The field is cut into tiles of 8 × 8 pixels that begin one pixel from its edge, and a segment of six
    frames or more into two halves. The pixels of a tile are sorted into 4 classes of 16 by the rank of `q`,
    ties in order of position. Where there is one half only, the pixels of the tile's even lines go into
    classes 0 and 1 and those of its odd lines into 2 and 3, so that no pixel's diagonal neighbours are of its
    own class.

    With L the frames of a half, x(t, p) their values less the pedestal, R = L − 2 the residuals of a pixel
    (1 of two frames), r = Σⱼ wⱼ xⱼ the residuals of filter f, and Σ over the 16 pixels p of a class:

    =========== ============================================================================================
    n           16 R
    q, own      Σ R × mean over the *other* half (over the same frames, of one half) of the mean of the
                four diagonal neighbours, and of the pixel itself
    x_f, y_f    Σ Σₜ Σⱼ wⱼ² xⱼ / Σ w² and Σ Σₜ r² / Σ w²
    x3_f, y3_f  Σ Σₜ Σⱼ wⱼ³ xⱼ / Σ w³ and Σ Σₜ r³ / Σ w³; of two frames they have no meaning
    high, low   R / L × number of samples ≥ ceiling, and ≤ floor; 0 where both are infinite
    =========== ============================================================================================

    The weights of f = t, ty, tx, txy are the products of [1, −2, 1] in time ([1, −1] of two frames) with
    [1, −2, 1] along each further axis.

    Why the diagonal neighbours: q must not hold a fixed offset o of a pixel that enters x_f. It biases the
    slope of variance against mean by −Cov(q, o) / Cov(q, x), where Cov(q, o) is σₒ² times the mean of w² / Σ
    w² over the instrument's pixels: 0 for t, ty and tx. In x_txy the four diagonal neighbours weigh 1/36
    each; x_ty + x_tx − x_t holds none of them and is its equal where the scene has no mixed second
    difference, and likewise for the cubes.

    Parameters
    ----------
    movie : ndarray of any integer or float dtype, size frames · height · width
        Consecutive frames (time, y, x). At least 2 frames of at least 10 × 10 pixels.
    frames, height, width : int
    top, tile_rows : int
        Row of the frames above the first row of tiles, and number of rows of tiles: ``top + 8 · tile_rows +
        2`` rows of the frames are read at most.
    pedestal : float
        Taken off before values are rounded to float32; 0 for integers of at most 16 bits.
    floor, ceiling : float
        Values at or beyond which samples are counted, pedestal included.
    scratch : ndarray of uint8, size `noise_scratch`
    rows : ndarray of float64, size tile_rows · halves · (width − 2) // 8 · 4 · len(COLUMNS)
        Receives the sums (row of tiles, half, column of tiles, class, column). Every number is written. A row
        with a sum that is not finite is 0 throughout.

    Raises
    ------
    ValueError
        Sizes or types do not fit each other.
    """
    columns = (width - 2) // TILE
    halves = 2 if frames >= LEAST_HALVED else 1
    small = movie.dtype.kind in "iu" and movie.itemsize <= 2
    misfit = frames < 2 or min(height, width) < TILE + 2 or movie.size != frames * height * width
    misfit = misfit or top + tile_rows * TILE + 2 > height or (small and pedestal != 0)
    if misfit or rows.size != tile_rows * halves * columns * CLASSES * len(COLUMNS):
        raise ValueError("the types and sizes of the arrays do not fit each other")
    field = movie.reshape(frames, height, width)[:, top : top + tile_rows * TILE + 2, : columns * TILE + 2]
    values = (field if small else field.astype(np.float64) - pedestal).astype(np.float32)
    parts = np.array_split(values, [frames // 2]) if halves == 2 else [values]
    limits = np.float32(floor - pedestal), np.float32(ceiling - pedestal)
    counting = bool(np.isfinite(floor) or np.isfinite(ceiling))
    table = rows.reshape(tile_rows, halves, columns, CLASSES, len(COLUMNS))
    # Values that are not finite make sums that are not, whose rows are then 0.
    with np.errstate(invalid="ignore", over="ignore"):
        for half, part in enumerate(parts):
            other = parts[halves - 1 - half]
            images = _images(part, other, *limits, counting=counting)
            classes = classify_pixels(images[0], by_line=halves == 1)
            table[:, half, :, :, 0] = _PIXELS // CLASSES * _residuals(len(part))
            for c in range(CLASSES):
                weight = (classes == c).astype(np.float32)
                for column, (image, factor) in enumerate(zip(images, _factors(len(part)), strict=True)):
                    sums = fold_tiles(image * weight) * np.float32(factor)
                    table[:, half, :, c, 1 + column] = sums
        table[~np.isfinite(table).all(axis=-1)] = 0


def _residuals(frames: int) -> int:
    """Residuals of a pixel."""
    return frames - (1 if frames == 2 else 2)


def _factors(frames: int) -> list[np.float32]:
    """Factors of the sums of each column but the first."""
    one, time = np.float32(1), np.float32(2 if frames == 2 else 6)
    share = np.float32(_residuals(frames)) / np.float32(frames)
    squares = {"t": time, "ty": time * 6, "tx": time * 6, "txy": time * 36}
    cubes = {"t": np.float32(-6), "ty": np.float32(36), "tx": np.float32(36), "txy": np.float32(-216)}
    factors = {f"y_{name}": one / np.float32(norm) for name, norm in squares.items()}
    factors |= {f"y3_{name}": one / norm for name, norm in cubes.items()}
    factors |= {"high": share, "low": share}
    return [factors.get(name, one) for name in COLUMNS[1:]]


def _images(
    part: Singles, other: Singles, floor: np.float32, ceiling: np.float32, *, counting: bool
) -> list[Singles]:
    """Images of the columns but the first, at the pixels of the tiles; `other` is the other half."""
    total = _sum_in_pairs(other)
    share = np.float32(_residuals(len(part))) / np.float32(len(other))
    above, below = total[:-2], total[2:]
    neighbours = above[:, :-2] + above[:, 2:] + below[:, :-2] + below[:, 2:]
    found: dict[str, Singles] = {"q": neighbours * (share / np.float32(4)), "own": _inner(total) * share}
    squares, cubes = _weight_frames(part, _sum_in_pairs(part))
    for name, sums, weighted in (("x", squares, _smooth), ("x3", cubes, _sharpen)):
        along_y = weighted(sums, 0)
        found[f"{name}_t"], found[f"{name}_ty"] = _inner(sums), along_y[:, 1:-1]
        found[f"{name}_tx"], found[f"{name}_txy"] = weighted(sums, 1)[1:-1], weighted(along_y, 1)
    residual = part[:-1] - part[1:] if len(part) == 2 else _second(part, 0)
    along_y = _second(residual, 1)
    of_filter = {
        "t": residual[:, 1:-1, 1:-1],
        "ty": along_y[:, :, 1:-1],
        "tx": _second(residual, 2)[:, 1:-1],
        "txy": _second(along_y, 2),
    }
    for name, r in of_filter.items():
        found[f"y_{name}"] = _sum_in_pairs(r * r)
        found[f"y3_{name}"] = _sum_in_pairs(r * r * r)
    inner = part[:, 1:-1, 1:-1]
    for name, cut in (("high", inner >= ceiling), ("low", inner <= floor)):
        found[name] = (cut & counting).sum(axis=0, dtype=np.float32)
    return [found[name] for name in COLUMNS[1:]]


def _sum_in_pairs(images: Singles) -> Singles:
    """Sum over the first axis, two at a time; the last of an odd number alone."""
    total: Singles = np.zeros_like(images[0])
    for k in range(0, len(images), 2):
        total += images[k] + images[k + 1] if k + 1 < len(images) else images[k]
    return total


def _weight_frames(part: Singles, total: Singles) -> tuple[Singles, Singles]:
    """Sums of frames weighted as the squares and the cubes of differences in time weight them."""
    if len(part) == 2:
        both = total - (part[0] + part[1]) * np.float32(0.5)
        return both, both
    before = total - part[-1] - part[-2]
    middle = total - part[0] - part[-1]
    after = total - part[0] - part[1]
    return (before + 4 * middle + after) * _SIXTH, (8 * middle - before - after) * _SIXTH


def _inner(image: Singles) -> Singles:
    """An image without its outermost pixels."""
    return image[1:-1, 1:-1]


def _three(images: Singles, axis: int) -> Sequence[Singles]:
    """Views of the pixels before, at and after each along an axis."""
    length = images.shape[axis] - 2
    moved = np.moveaxis(images, axis, 0)
    return [np.moveaxis(moved[k : k + length], 0, axis) for k in range(3)]


def _second(images: Singles, axis: int) -> Singles:
    """Second difference along an axis."""
    before, here, after = _three(images, axis)
    difference: Singles = before - 2 * here + after
    return difference


def _smooth(images: Singles, axis: int) -> Singles:
    """Weighted mean that belongs to the square of a second difference."""
    before, here, after = _three(images, axis)
    return (before + 4 * here + after) * _SIXTH


def _sharpen(images: Singles, axis: int) -> Singles:
    """Weighted mean that belongs to the cube of a second difference."""
    before, here, after = _three(images, axis)
    return (8 * here - before - after) * _SIXTH


def _by_tile(image: AnyArray) -> AnyArray:
    """The pixels (tile row, tile column, row, column) of an image of whole tiles."""
    rows, columns = (side // TILE for side in image.shape)
    return image.reshape(rows, TILE, columns, TILE).swapaxes(1, 2)


def fold_tiles(image: Singles) -> Singles:
    """Sums (tile row, tile column) over tiles, folded in halves: the rows, then the columns."""
    tiles = _by_tile(image)
    for half in (4, 2, 1):
        tiles = tiles[:, :, :half] + tiles[:, :, half:]
    for half in (4, 2, 1):
        tiles = tiles[..., :half] + tiles[..., half:]
    return tiles[:, :, 0, 0]


def classify_pixels(q: Singles, *, by_line: bool) -> AnyArray:
    """Class 0 to 3 of each pixel of an image of whole tiles by rank in its tile, ties in order of position.

    Ranks are by the upper 26 bits of float32. With `by_line`, classes 0 and 1 are of even lines, 2 and 3 of
    odd.
    """
    tiles = _by_tile(q)
    bits = np.ascontiguousarray(tiles).view(np.int32).reshape(*tiles.shape[:2], _PIXELS)
    # The bits of a float order like integers, negative ones backwards.
    bits = (bits ^ np.where(bits < 0, np.int32(0x7FFFFFFF), np.int32(0))) & np.int32(-_PIXELS)
    line = np.arange(_PIXELS) // TILE % 2 if by_line else np.zeros(_PIXELS, np.intp)
    order = np.lexsort((bits, np.broadcast_to(line, bits.shape)), axis=-1)
    classes = np.empty(bits.shape, np.intp)
    np.put_along_axis(classes, order, np.arange(_PIXELS) // (_PIXELS // CLASSES), axis=-1)
    return classes.reshape(tiles.shape).swapaxes(1, 2).reshape(q.shape)


def patch_images(patches: Singles, count: int, frames: int, images: Singles) -> None:
    """Images at the inner pixels of patches of 32 × 32 pixels.

    Parameters
    ----------
    patches : ndarray of float32, size count · frames · 32 · 32
        Patches (patch, time, pixel).
    count, frames : int
    images : ndarray of float32, size count · 5 · frames · 26 · 26
        Receives (patch, image, time, pixel): second differences along y and x; means of the two neighbours
        along x, of those along y and of the four diagonal ones, each less that of the pixels three times as
        far; and the pixel itself.

    Raises
    ------
    ValueError
        Sizes do not fit each other.
    """
    if patches.size != count * frames * PATCH**2 or images.size != count * 5 * frames * PATCH_INNER**2:
        raise ValueError("the types and sizes of the arrays do not fit each other")
    p = patches.reshape(count, frames, PATCH, PATCH)
    first, half, quarter = (PATCH - PATCH_INNER) // 2, np.float32(0.5), np.float32(0.25)

    def at(dy: int, dx: int) -> Singles:
        """The pixels so far from the inner ones."""
        y, x = first + dy, first + dx
        return p[:, :, y : y + PATCH_INNER, x : x + PATCH_INNER]

    def across(far: int) -> Singles:
        return at(-far, -far) + at(-far, far) + at(far, -far) + at(far, far)

    def second(dx: int) -> Singles:
        return 2 * at(0, dx) - at(-1, dx) - at(1, dx)

    found = images.reshape(count, 5, frames, PATCH_INNER, PATCH_INNER)
    found[:, 0] = 2 * second(0) - second(-1) - second(1)
    found[:, 1] = half * (at(0, -1) + at(0, 1) - at(0, -3) - at(0, 3))
    found[:, 2] = half * (at(-1, 0) + at(1, 0) - at(-3, 0) - at(3, 0))
    found[:, 3] = quarter * (across(1) - across(3))
    found[:, 4] = at(0, 0)
