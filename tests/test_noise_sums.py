"""The sums of noise: the native core equals numpy bit for bit, and numpy equals the filters' definition."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from anscombe_transform import native
from anscombe_transform.native import reference, reference_noise
from anscombe_transform.native.reference_noise import CLASSES, COLUMNS, TILE, classify_pixels

needs_core = pytest.mark.skipif(not native.IS_NATIVE, reason="the native core was not built")
DTYPES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
SECOND, FIRST, ONE = np.array([1.0, -2.0, 1.0]), np.array([1.0, -1.0]), np.array([1.0])
AnyArray = npt.NDArray[Any]


def rows_of(
    functions: Any,
    movie: AnyArray,
    *,
    pedestal: float = 0.0,
    floor: float = -np.inf,
    ceiling: float = np.inf,
    top: int = 0,
    tile_rows: int | None = None,
) -> AnyArray:
    """Rows (tile row, half, tile column, class, column) by the core or by numpy, in memory that held NaN."""
    frames, height, width = movie.shape
    tile_rows = (height - 2) // TILE if tile_rows is None else tile_rows
    halves = 2 if frames >= 6 else 1
    rows = np.full((tile_rows, halves, (width - 2) // TILE, CLASSES, len(COLUMNS)), np.nan)
    scratch = np.full(functions.noise_scratch(frames), 0xFF, np.uint8)
    functions.sum_noise(movie, frames, height, width, top, tile_rows, pedestal, floor, ceiling, scratch, rows)
    return rows


def random_movie(rng: np.random.Generator, dtype: str, shape: tuple[int, int, int]) -> AnyArray:
    """Values of the dtype's whole range, or around a level far from zero."""
    if np.dtype(dtype).kind == "f":
        return rng.normal(1e5, 30.0, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


@needs_core
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_core_sums_as_numpy_does(dtype: str, rng: np.random.Generator) -> None:
    """Every number is the same, of all dtypes, segments of 2 to 25 frames, and fields of any size."""
    wide = np.dtype(dtype).itemsize > 2
    for frames in (2, 3, 4, 5, 6, 7, 24, 25):
        height, width = rng.integers(10, 40), rng.choice([10, 17, 18, 130, 131, 150, 290])
        movie = random_movie(rng, dtype, (frames, int(height), int(width)))
        if wide and rng.random() < 0.5:
            movie = (movie // 2**20).astype(dtype) if movie.dtype.kind in "iu" else movie
        options = {"pedestal": float(movie.flat[0]) if wide else 0.0}
        if frames % 2:
            options |= {"floor": float(np.quantile(movie, 0.2)), "ceiling": float(np.quantile(movie, 0.9))}
        found, expected = (rows_of(functions, movie, **options) for functions in (native.core, reference))
        np.testing.assert_array_equal(found, expected)
        assert np.isfinite(found).all()


@needs_core
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_empty_their_tiles(value: float, rng: np.random.Generator) -> None:
    """Rows that such a value reaches are 0 throughout, n included; all others are as without it."""
    movie = rng.normal(100, 5, (12, 42, 150)).astype(np.float32)
    clean = rows_of(reference, movie)
    movie[rng.integers(12), 10, rng.integers(10, 16)] = value
    found = rows_of(native.core, movie)
    np.testing.assert_array_equal(found, rows_of(reference, movie))
    empty = (found == 0).all(axis=-1)
    np.testing.assert_array_equal(found[..., 0] == 0, empty)
    np.testing.assert_array_equal(found[~empty], clean[~empty])
    assert not empty[2:].any()
    assert not empty[:, :, 2:].any()
    assert empty[1, :, 1].all()


@needs_core
def test_parts_of_the_field_have_the_rows_of_the_whole(rng: np.random.Generator) -> None:
    """Rows of tiles summed by themselves are those of the whole, bit for bit."""
    movie = rng.integers(0, 4000, (13, 60, 55)).astype(np.uint16)
    whole = rows_of(native.core, movie)
    for functions in (native.core, reference):
        for first, count in ((0, 3), (3, 1), (4, 3), (2, 0)):
            part = rows_of(functions, movie, top=first * TILE, tile_rows=count)
            np.testing.assert_array_equal(part, whole[first : first + count])


@pytest.mark.parametrize("functions", [pytest.param(native.core, id="core"), reference])
def test_sizes_that_do_not_fit_are_refused(functions: Any, rng: np.random.Generator) -> None:
    """Nothing is read or written outside of the arrays: wrong sizes and types are errors."""
    movie = rng.integers(0, 99, (6, 20, 30)).astype(np.uint16)
    rows, scratch = np.zeros((2, 2, 3, CLASSES, len(COLUMNS))), np.zeros(functions.noise_scratch(6), np.uint8)
    good: list[Any] = [movie, 6, 20, 30, 0, 2, 0.0, -np.inf, np.inf, scratch, rows]
    functions.sum_noise(*good)
    changes = [(0, movie[:5]), (1, 7), (2, 21), (3, 31), (4, 3), (5, 3), (5, 1), (6, 1.0), (10, rows[:1])]
    changes += [(1, 1), (2, 9), (3, 9), (1, 0), (3, 2**63), (4, 2**63)]
    for number, value in changes:
        with pytest.raises((ValueError, OverflowError)):
            functions.sum_noise(*[value if k == number else old for k, old in enumerate(good)])
    if functions is native.core and native.IS_NATIVE:
        for number, value in ((9, scratch[:-1]), (10, rows.astype(np.float32)), (0, movie.astype(complex))):
            with pytest.raises(ValueError, match="do not fit"):
                functions.sum_noise(*[value if k == number else old for k, old in enumerate(good)])
    with pytest.raises(ValueError, match="do not fit"):
        functions.patch_images(np.zeros(1024, np.float32), 1, 1, np.zeros(5 * 676 - 1, np.float32))


def filtered(frames: AnyArray, time: AnyArray, y: AnyArray, x: AnyArray) -> AnyArray:
    """Correlation of frames with the separable filter of the given weights, on tiled pixels only."""
    out = np.asarray(frames, np.float64)
    out = sum(w * out[k : len(out) - len(time) + 1 + k] for k, w in enumerate(time))
    y, x = (w if len(w) == 3 else np.array([0.0, 1.0, 0.0]) for w in (y, x))
    out = sum(w * out[:, k : out.shape[1] - 2 + k] for k, w in enumerate(y))
    out = sum(w * out[:, :, k : out.shape[2] - 2 + k] for k, w in enumerate(x))
    height, width = (side // TILE * TILE for side in out.shape[1:])
    return np.asarray(out[:, :height, :width])


def rows_by_definition(
    part: AnyArray, other: AnyArray, by_line: bool, floor: float, ceiling: float
) -> AnyArray:
    """The rows (tile row, tile column, class, column) of one half in float64, straight from the formulas."""
    time = FIRST if len(part) == 2 else SECOND
    residuals, mean, beside = len(part) - len(time) + 1, other.mean(axis=0)[None], np.array([0.5, 0.0, 0.5])
    images = {"n": np.full_like(filtered(mean, ONE, ONE, ONE)[0], residuals)}
    images["q"] = (filtered(mean, ONE, beside, beside)[0] * residuals).astype(np.float32)
    images["own"] = filtered(mean, ONE, ONE, ONE)[0] * residuals
    for name in ("t", "ty", "tx", "txy"):
        y, x = (SECOND if axis in name else ONE for axis in "yx")
        for power, number in ((2, ""), (3, "3")):
            if power == 3 and len(part) == 2:
                continue
            weights = [w**power / np.sum(w**power) for w in (time, y, x)]
            norm = np.prod([np.sum(w**power) for w in (time, y, x)])
            images[f"x{number}_{name}"] = filtered(part, *weights).sum(axis=0)
            images[f"y{number}_{name}"] = (filtered(part, time, y, x) ** power).sum(axis=0) / norm
    centre = filtered(part, ONE, ONE, ONE)
    images["high"] = (centre >= ceiling).sum(axis=0) * residuals / len(part)
    images["low"] = (centre <= floor).sum(axis=0) * residuals / len(part)
    height, width = images["q"].shape
    rows = np.zeros((height // TILE, width // TILE, CLASSES, len(COLUMNS)))
    for row, column in np.ndindex(*rows.shape[:2]):
        tile = (slice(row * TILE, row * TILE + TILE), slice(column * TILE, column * TILE + TILE))
        classes = classes_by_definition(images["q"][tile], by_line)
        for (k, name), c in product(enumerate(COLUMNS), range(CLASSES)):
            if name in images:
                rows[row, column, c, k] = images[name][tile][classes == c].sum()
    return rows


def classes_by_definition(q: AnyArray, by_line: bool) -> AnyArray:
    """Class of each pixel of a tile by stable rank of values without their last six bits."""
    digits = np.ascontiguousarray(q, np.float32).view(np.int32)
    digits = (digits ^ ((digits >> 31) & 0x7FFFFFFF)) >> 6
    parity = np.indices(q.shape)[0] % 2 if by_line else np.zeros(q.shape, int)
    classes = np.empty(q.shape, int)
    for c in range(2 if by_line else 1):
        where = parity == c
        rank = np.argsort(np.argsort(digits[where], kind="stable"), kind="stable")
        classes[where] = rank // 16 + 2 * c
    return classes


@pytest.mark.parametrize("length", [16, 7, 3, 2, 5])
@pytest.mark.parametrize("shape", [(10, 10), (27, 150)])
def test_rows_are_the_sums_they_are_defined_as(
    length: int, shape: tuple[int, int], rng: np.random.Generator
) -> None:
    """The sums equal the filters' definition, to float32's rounding."""
    frames = rng.gamma(2.0, 50.0, (length, *shape)).astype(np.float32)
    # A small field that is cut off nowhere, and a large one that is.
    floor, ceiling = (-np.inf, np.inf) if shape == (10, 10) else (10.0, 300.0)
    rows = rows_of(reference, frames, floor=floor, ceiling=ceiling)
    parts = [frames] if length < 6 else [frames[: length // 2], frames[length // 2 :]]
    for half, part in enumerate(parts):
        expected = rows_by_definition(part, parts[len(parts) - 1 - half], len(parts) == 1, floor, ceiling)
        for k, name in enumerate(COLUMNS):
            if length == 2 and "3" in name:
                continue
            # A thousand float32 operations on numbers of alternating sign, against the column's largest.
            scale = np.abs(expected[..., k]).max() + 1e-12
            np.testing.assert_allclose(
                rows[:, half, ..., k] / scale, expected[..., k] / scale, atol=3e-5, err_msg=name
            )


@pytest.mark.parametrize("by_line", [False, True])
def test_pixels_are_classed_by_rank(by_line: bool, rng: np.random.Generator) -> None:
    """Each of the four classes holds 16 pixels, in order of rank, ties in order of position."""
    for q in (rng.normal(size=(8, 24)), rng.integers(-2, 2, (8, 24)), np.zeros((8, 24))):
        found = classify_pixels(q.astype(np.float32), by_line=by_line)
        for tile in range(3):
            columns = slice(8 * tile, 8 * tile + 8)
            np.testing.assert_array_equal(found[:, columns], classes_by_definition(q[:, columns], by_line))
            np.testing.assert_array_equal(np.bincount(found[:, columns].ravel()), 16)


@needs_core
def test_images_of_patches_are_those_of_numpy(rng: np.random.Generator) -> None:
    """Every number is the same, NaN included."""
    patches = rng.normal(0, 100, (3, 7, 32, 32)).astype(np.float32)
    patches[1, 2, 5, 6] = np.nan
    found, expected = (np.full((3, 5, 7, 26, 26), 9, np.float32) for _ in range(2))
    native.core.patch_images(patches, 3, 7, found)
    reference_noise.patch_images(patches, 3, 7, expected)
    np.testing.assert_array_equal(found, expected)
