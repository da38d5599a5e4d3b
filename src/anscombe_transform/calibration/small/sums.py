"""Sums over a movie of few pixels: means over blocks of frames, of every pixel and filter."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.calibration.sums.inputs import Progress
from anscombe_transform.calibration.sums.reading import Cut, choose_segments
from anscombe_transform.calibration.sums.statistics import MovieLike
from anscombe_transform.native.arrays import Bools, Floats, Integers

Axes = tuple[int, ...]

# Frames of a block: few, so that the blocks beside it are of the same brightness. Two are lost to the second
# difference.
_BLOCK = 12
# Blocks that are read in one run, samples that are read by default and at once, and rows that are kept.
_RUN_BLOCKS, _DEFAULT_SAMPLES, _MOST_READ, _MOST_ROWS = 20, 8_000_000, 4_000_000, 1_500_000
# Second differences of white noise: sum of squared weights and of cubed ones, along one axis.
_SQUARES, _CUBES = 6.0, -6.0
# Frames that the correlation of neighbouring pixels is measured over, and pixels whose products are summed.
_MOMENT, _MOST_DIMENSIONS = 24, 48


@dataclass(frozen=True)
class Part:
    """Means over blocks of frames, of one filter, shape (block, y, x); NaN where there is none.

    Mean and variance, number of residuals, and mean and third cumulant.
    """

    x: Floats
    y: Floats
    n: Floats
    x3: Floats
    y3: Floats


@dataclass(frozen=True)
class Table:
    """Sums over a movie.

    `mean` is the plain mean of every block and pixel, `run` the run that each block belongs to, `parts` the
    sums of every filter by the axes along which it differs in space, `far` the variance from second
    differences of stride 2, `low` and `high` the share of clipped samples, `shared` the correlation of
    neighbours along y and x, less that of pixels farther apart, in each run, `products` sums
    of products of residuals of pairs of pixels.
    """

    mean: Floats
    run: Integers
    parts: dict[Axes, Part]
    far: Floats | None
    low: Floats
    high: Floats
    shared: dict[int, Floats]
    products: Floats
    order: int
    frames: int
    duplicates: int
    not_finite: int


def read_table(
    movie: MovieLike,
    mask: Bools | None,
    cut: Cut,
    max_frames: int | None,
    full: bool,
    seed: int | None,
    progress: Progress | None,
) -> Table:
    """Read runs of blocks, spread over the movie."""
    frames, pixels = movie.shape[0], math.prod(movie.shape[1:])
    block = min(_BLOCK, frames)
    if full:
        # Longer blocks where there are very many, so that the table stays small.
        block = max(block, -(-frames * pixels // _MOST_ROWS))
    length = min(_RUN_BLOCKS, max(1, _MOST_READ // (block * pixels))) * block
    length = max(block, min(length, frames // block * block))
    runs = frames // length
    wanted = runs if full else max(1, _DEFAULT_SAMPLES // (length * pixels))
    if max_frames is not None:
        length = max(2, min(length, max_frames))
        block = min(block, length)
        wanted = max(1, max_frames // length)
    chosen = choose_segments(runs, wanted, seed)
    found = []
    for done, number in enumerate(chosen, start=1):
        start = number * length
        # The last run takes what is left over.
        stop = frames - frames % block if number == runs - 1 and max_frames is None else start + length
        found.append(_sums_of_run(np.asarray(movie[start:stop]), block, mask, cut))
        if progress is not None:
            progress(done, len(chosen))
    return _merged(found)


def _sums_of_run(samples: NDArray[Any], block: int, mask: Bools | None, cut: Cut) -> Table:
    """Sums of consecutive frames, in blocks."""
    values = samples.astype(np.float64)
    duplicates = 0
    if len(values) > 1 and values[0].size >= 16:
        same = (samples[1:] == samples[:-1]).all(axis=(1, 2))
        duplicates = int(np.count_nonzero(same))
        values[1:][same] = np.nan
    finite = np.isfinite(values)
    not_finite = int(values.size - np.count_nonzero(finite)) - duplicates * values[0].size
    values[~finite] = np.nan
    if mask is not None:
        values[:, ~mask] = np.nan
    blocks = len(values) // block
    order = min(2, block - 1)
    if order == 2:
        before, now, after = values[:-2], values[1:-1], values[2:]
        r, norm, cubes = before - 2 * now + after, _SQUARES, _CUBES
        x, x3 = (before + 4 * now + after) / 6, (8 * now - before - after) / 6
    else:
        # First differences have no third cumulant.
        r, norm, cubes = np.diff(values, axis=0), 2.0, math.nan
        x = x3 = (values[1:] + values[:-1]) / 2
    parts = {}
    height, width = values.shape[1:]
    for axes in _filters(height, width):
        difference, mean, mean3 = r, x, x3
        for axis in axes:
            difference = across(difference, (1, -2, 1), axis)
            mean, mean3 = (
                across(mean, (1 / 6, 4 / 6, 1 / 6), axis),
                across(mean3, (-1 / 6, 8 / 6, -1 / 6), axis),
            )
        square, cube = norm * _SQUARES ** len(axes), cubes * _CUBES ** len(axes)
        mean, mean3 = (np.where(np.isnan(difference), np.nan, v) for v in (mean, mean3))
        sums = (mean, difference**2 / square, mean3, difference**3 / cube)
        (one, n), (two, _), (three, _), (four, _) = (_block_means(v, blocks, block, order) for v in sums)
        parts[axes] = Part(one, two, n, three, four)
    far = None
    if order == 2 and block >= 6:
        stride = values[:-4] - 2 * values[2:-2] + values[4:]
        far = _block_means(stride**2 / _SQUARES, blocks, block, 4)[0]
    plain = values[: blocks * block].reshape(blocks, block, height, width)
    with np.errstate(invalid="ignore"):
        low, high = plain <= cut.floor, plain >= cut.ceiling
    return Table(
        mean=mean_of_finite(plain),
        run=np.zeros(blocks, np.intp),
        parts=parts,
        far=far,
        low=low.mean(axis=1),
        high=high.mean(axis=1),
        products=_products(r),
        shared={axis: np.array([_shared_along(r, axis)]) for axis in (1, 2) if values.shape[axis] >= 5},
        order=order,
        frames=blocks * block,
        duplicates=duplicates,
        not_finite=not_finite,
    )


def _filters(height: int, width: int) -> list[Axes]:
    """Axes along which filters differ in space, weakest first; a pixel needs two on either side."""
    along = tuple(axis for axis, side in ((1, height), (2, width)) if side >= 6)
    return [(), *((axis,) for axis in along), *([along] if len(along) == 2 else [])]


def across(values: Floats, weights: tuple[float, float, float], axis: int) -> Floats:
    """Weighted sum of three neighbours along an axis; NaN at the ends."""
    out = np.full_like(values, np.nan)
    before, now, after = (
        tuple(part if k == axis else slice(None) for k in range(3))
        for part in (slice(None, -2), slice(1, -1), slice(2, None))
    )
    out[now] = weights[0] * values[before] + weights[1] * values[now] + weights[2] * values[after]
    return out


def _block_means(values: Floats, blocks: int, block: int, order: int) -> tuple[Floats, Floats]:
    """Means over the residuals that lie within one block, and how many there are that are finite."""
    whole = np.full((blocks * block, *values.shape[1:]), np.nan)
    whole[: len(values)] = values[: blocks * block]
    within = whole.reshape(blocks, block, *values.shape[1:])[:, : block - order]
    return mean_of_finite(within), np.count_nonzero(np.isfinite(within), axis=1).astype(np.float64)


def mean_of_finite(values: Floats) -> Floats:
    """Mean of finite values along axis 1; NaN where there is none."""
    count = np.count_nonzero(np.isfinite(values), axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.nansum(values, axis=1) / np.where(count, count, np.nan))


def _shared_along(r: Floats, axis: int) -> float:
    """Correlation of residuals of neighbours along an axis, less that of pixels three apart.

    Median over pairs of pixels and moments, since few move at a time.
    """
    r = np.nan_to_num(np.moveaxis(r, axis, 1))
    moments = max(1, len(r) // _MOMENT)
    r = r[: len(r) // moments * moments].reshape(moments, -1, *r.shape[1:])
    square = (r * r).sum(axis=1)
    medians = []
    for lag in (1, 3):
        scale = np.sqrt(square[:, lag:] * square[:, :-lag])
        products = (r[:, :, lag:] * r[:, :, :-lag]).sum(axis=1)[scale > 0] / scale[scale > 0]
        medians.append(float(np.median(products)) if products.size else math.nan)
    return medians[0] - medians[1]


def _products(r: Floats) -> Floats:
    """Sums of products of the residuals of some pixels, shape (pixels, pixels)."""
    flat = np.nan_to_num(r.reshape(len(r), -1))
    flat = flat[:, :: -(-flat.shape[1] // _MOST_DIMENSIONS)]
    return np.asarray(flat.T @ flat, np.float64)


def _merged(runs: list[Table]) -> Table:
    """One table of all runs."""
    first = runs[0]

    def joined(values: list[Any]) -> Any:
        return None if values[0] is None else np.concatenate(values)

    return replace(
        first,
        mean=joined([r.mean for r in runs]),
        run=np.repeat(np.arange(len(runs)), [len(r.mean) for r in runs]),
        parts={
            axes: Part(*(joined([getattr(r.parts[axes], f.name) for r in runs]) for f in fields(Part)))
            for axes in first.parts
        },
        far=joined([r.far for r in runs]),
        low=joined([r.low for r in runs]),
        high=joined([r.high for r in runs]),
        products=np.sum([r.products for r in runs], axis=0),
        shared={axis: joined([r.shared[axis] for r in runs]) for axis in first.shared},
        frames=sum(r.frames for r in runs),
        duplicates=sum(r.duplicates for r in runs),
        not_finite=sum(r.not_finite for r in runs),
    )
