"""Fields too small for tiles: 16 × 16 pixels, line scans, single pixels; differences over time serve alone.

A row of the table is one pixel during one block of frames. From second differences r of its samples come, as
in large fields, a mean x, a variance y and a third cumulant, each of the same weighted samples. What differs
is the instrument, the brightness that is independent of the row's own noise:

``time``
    mean of the same pixel in the blocks before and after. The only one of a single pixel. Pooled over pixels
    it holds the pixels' fixed offsets, which bias the slope; with a constant of its own for every pixel
    (``within``) it does not.
``space``
    mean of the pixels nearby in the same block, outside the reach of the row's filter.

The slope is that of `line.fit_line` for all of them. The errors are the larger one of two jackknives, over
blocks of time and over pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.calibration.evidence import rejected_curves, transfer_curve
from anscombe_transform.calibration.line.checks import clipped_groups, curvature
from anscombe_transform.calibration.line.transfer import (
    GROUPS,
    T_QUANTILE,
    Bools,
    Floats,
    Integers,
    Line,
    NoLine,
    Samples,
    equal_groups,
    fit_line,
    has_offsets,
    instrumental_line,
    jackknife_error,
    jackknife_groups,
    jackknife_line,
)
from anscombe_transform.calibration.line.zero import ZeroLevel, find_zero_level
from anscombe_transform.calibration.sampling import Cut, Progress, choose_segments, inspect
from anscombe_transform.calibration.sensitivity import NothingToMeasure, Reason, Sensitivity, verdict_of
from anscombe_transform.calibration.statistics import TILE, MovieLike

Axes = tuple[int, ...]
Kind = Literal["time", "within", "space"]

# Fields of fewer tiles are measured here: where tiles are jackknifed, in 24 groups, there must be some.
FEWEST_TILES = 12
# Frames of a block: few, so that the blocks beside it are of the same brightness. Two are lost to the second
# difference.
_BLOCK = 12
# Blocks that are read in one run, samples that are read by default and at once, and rows that are kept.
_RUN_BLOCKS, _DEFAULT_SAMPLES, _MOST_READ, _MOST_ROWS = 20, 8_000_000, 4_000_000, 1_500_000
# Second differences of white noise: sum of squared weights and of cubed ones, along one axis.
_SQUARES, _CUBES = 6.0, -6.0
# Units (pixels, or blocks of time) of which a jackknife can be made.
_LEAST_UNITS = 2 * GROUPS
_LEAST_PLACES = 120
# Relative error of the gain up to which an instrument that fixed offsets do not bias is taken as it is.
_PRECISE = 0.015
# Fixed offset of a pixel, in photons, that is allowed for where no such instrument is precise.
_OFFSET = 1.0
# One-sided quantile of a normal law at which a stronger filter replaces a weaker one (Hausman's test).
_STRONGER, _STRONGER_STILL = 2.33, 0.7
# Parts of the structure that a stronger filter finds, and of what the chosen one took, in the interval.
_LEFT_OF_FOUND, _LEFT_OF_TAKEN = 0.5, 0.15
# Share of the samples of a group of brightness that may be clipped, as in large fields.
_MOST_CUT = {"high": 0.001, "low": 0.005}
# Relative error of the gain above which it is a caution, and a refusal.
_UNSURE, _IMPRECISE = 0.02, 0.06
# Part of the typical variance that must change with brightness, and standard errors by which brightness does.
_LEAST_CONTRAST, _SURE_CONTRAST = 0.08, 4.0
# Columns of a frame that `inspect` looks at.
_LEAST_WIDTH = 16
# Noise at lag 1 over that at lag 2, below which frames were smoothed: a caution, a refusal.
_SMOOTHED, _SMOOTH = 0.95, 0.85
# Correlation of neighbouring pixels' noise from which on it is a caution, and along both axes a refusal; the
# frames that it is measured over.
_SHARED, _SHARED_MUCH, _MOMENT = 0.05, 0.15, 24
# Pixels whose correlations are looked at, second differences that count for one independent sample, and the
# least dimension below which pixels follow from a few components: a caution, a refusal.
_MOST_DIMENSIONS, _CORRELATION_OF_SECOND, _DEPENDENT, _FOLLOWING = 48, 1.944, 0.5, 0.15


def is_small(shape: tuple[int, ...]) -> bool:
    """Whether frames of a shape (…, y, x) hold too few tiles of 8 × 8 pixels to be jackknifed."""
    rows, columns = (max(0, side - 2) // TILE for side in shape[-2:])
    return rows * columns < FEWEST_TILES


def sensitivity_of_small(
    movie: MovieLike,
    mask: Bools | None = None,
    *,
    max_frames: int | None = None,
    full: bool = False,
    seed: int | None = None,
    progress: Progress | None = None,
) -> tuple[Sensitivity, Cut]:
    """Estimate the constants from a movie of a small field.

    Parameters
    ----------
    movie : array_like, shape (time, y, x)
        At least 2 frames of any size.
    mask : ndarray of bool, shape (y, x), optional
        True where pixels may be used.
    max_frames, full, seed, progress
        As for `compute_sensitivity`. By default some 8 million samples are read.

    Returns
    -------
    sensitivity : Sensitivity
        With intervals, verdict and reasons.
    cut : Cut
        What a look at the values showed.

    Raises
    ------
    NothingToMeasure
        The movie has no noise, or too few frames.

    Examples
    --------
    >>> from anscombe_transform import simulate_movie
    >>> movie, truth = simulate_movie((3000, 16, 16), conversion_gain=20, read_noise=10, rng=0)
    >>> found, _ = sensitivity_of_small(movie)
    >>> found.verdict, bool(abs(found.conversion_gain / truth.conversion_gain - 1) < 0.04)
    ('trustworthy', True)
    """
    if movie.shape[0] < 2:
        raise NothingToMeasure(
            "too_few_frames", f"noise is what differs between frames, and this movie has {movie.shape[0]}."
        )
    cut = inspect(_Folded(movie, mask))
    # Lines of a folded frame are not lines of the detector.
    cut = replace(cut, reasons=tuple(reason for reason in cut.reasons if reason.code != "levelled_lines"))
    table = _read(movie, mask, cut, max_frames, full, seed, progress)
    return _estimate(table, cut), cut


class _Folded:
    """A movie of few pixels as 16 frames or so, each of many moments, for `inspect` to look at.

    Their rows are moments, and their columns pixels; of a few pixels, several moments make one row.
    """

    def __init__(self, movie: MovieLike, mask: Bools | None) -> None:
        self._movie, self._mask = movie, mask
        frames = movie.shape[0]
        pixels = math.prod(movie.shape[1:]) if mask is None else int(np.count_nonzero(mask))
        # No more than what is looked at of a large frame.
        moments = max(1, min(frames // 16, 400_000 // pixels))
        joined = min(moments, -(-_LEAST_WIDTH // pixels))
        self.shape = (frames // (moments // joined * joined), moments // joined, joined * pixels)
        self._moments = moments // joined * joined
        self.dtype = np.dtype(movie.dtype)

    def __getitem__(self, index: slice) -> NDArray[Any]:
        first, last, _ = index.indices(self.shape[0])
        read = np.asarray(self._movie[first * self._moments : last * self._moments])
        wanted = read if self._mask is None else read[:, self._mask]
        return wanted.reshape(last - first, *self.shape[1:])


# The table


@dataclass(frozen=True)
class _Part:
    """Means over blocks of frames, of one filter, shape (block, y, x); NaN where there is none.

    Mean and variance, number of residuals, and mean and third cumulant.
    """

    x: Floats
    y: Floats
    n: Floats
    x3: Floats
    y3: Floats


@dataclass(frozen=True)
class _Table:
    """What is read of a movie.

    `mean` is the plain mean of every block and pixel, `run` the run that each block belongs to, `parts` the
    sums of every filter by the axes along which it differs in space, `far` the variance from second
    differences of stride 2, `low` and `high` the share of clipped samples, `shared` the correlation of
    neighbours along y and x, less that of pixels farther apart, in each run, `products` sums
    of products of residuals of pairs of pixels.
    """

    mean: Floats
    run: Integers
    parts: dict[Axes, _Part]
    far: Floats | None
    low: Floats
    high: Floats
    shared: dict[int, Floats]
    products: Floats
    order: int
    frames: int
    duplicates: int
    not_finite: int


def _read(
    movie: MovieLike,
    mask: Bools | None,
    cut: Cut,
    max_frames: int | None,
    full: bool,
    seed: int | None,
    progress: Progress | None,
) -> _Table:
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


def _sums_of_run(samples: NDArray[Any], block: int, mask: Bools | None, cut: Cut) -> _Table:
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
            difference = _across(difference, (1, -2, 1), axis)
            mean, mean3 = (
                _across(mean, (1 / 6, 4 / 6, 1 / 6), axis),
                _across(mean3, (-1 / 6, 8 / 6, -1 / 6), axis),
            )
        square, cube = norm * _SQUARES ** len(axes), cubes * _CUBES ** len(axes)
        mean, mean3 = (np.where(np.isnan(difference), np.nan, v) for v in (mean, mean3))
        sums = (mean, difference**2 / square, mean3, difference**3 / cube)
        (one, n), (two, _), (three, _), (four, _) = (_block_means(v, blocks, block, order) for v in sums)
        parts[axes] = _Part(one, two, n, three, four)
    far = None
    if order == 2 and block >= 6:
        stride = values[:-4] - 2 * values[2:-2] + values[4:]
        far = _block_means(stride**2 / _SQUARES, blocks, block, 4)[0]
    plain = values[: blocks * block].reshape(blocks, block, height, width)
    with np.errstate(invalid="ignore"):
        low, high = plain <= cut.floor, plain >= cut.ceiling
    return _Table(
        mean=_nan_mean(plain),
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


def _across(values: Floats, weights: tuple[float, float, float], axis: int) -> Floats:
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
    return _nan_mean(within), np.count_nonzero(np.isfinite(within), axis=1).astype(np.float64)


def _nan_mean(values: Floats) -> Floats:
    """Mean along axis 1 of what is finite; NaN where nothing is."""
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


def _least_dimension(products: Floats, frames: int) -> float:
    """Least variance in a direction of pixel space over the least of white noise; NaN where not known.

    The eigenvalues of the correlation matrix of P pixels over n moments of white noise are at least
    (1 − √(P/n))² (Marchenko and Pastur 1967). Of fewer components than pixels, some are 0.
    """
    seen = np.diag(products) > 0
    pixels, moments = int(np.count_nonzero(seen)), frames / _CORRELATION_OF_SECOND
    if pixels < 4 or moments < 4 * pixels:
        return math.nan
    products = products[np.ix_(seen, seen)]
    scale = np.sqrt(np.diag(products))
    least = float(np.linalg.eigvalsh(products / scale / scale[:, None])[0])
    return least / (1 - math.sqrt(pixels / moments)) ** 2


def _merged(runs: list[_Table]) -> _Table:
    """One table of all runs."""
    first = runs[0]

    def joined(values: list[Any]) -> Any:
        return None if values[0] is None else np.concatenate(values)

    return replace(
        first,
        mean=joined([r.mean for r in runs]),
        run=np.repeat(np.arange(len(runs)), [len(r.mean) for r in runs]),
        parts={
            axes: _Part(*(joined([getattr(r.parts[axes], f.name) for r in runs]) for f in fields(_Part)))
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


# Instruments


def _time_instrument(table: _Table) -> Floats:
    """Mean of the same pixel in the blocks beside, of the same run."""
    mean, run = table.mean, table.run
    beside = np.full((2, *mean.shape), np.nan)
    same = run[1:] == run[:-1]
    beside[0, 1:][same] = mean[:-1][same]
    beside[1, :-1][same] = mean[1:][same]
    return _nan_mean(np.moveaxis(beside, 0, 1))


def _space_instrument(mean: Floats, axes: Axes) -> Floats:
    """Mean of the pixels nearby that the filter does not touch, in the same block."""
    height, width = mean.shape[1:]
    reach_y, reach_x = (1 if axis in axes else 0 for axis in (1, 2))
    near = []
    for dy in range(-reach_y - 1, reach_y + 2):
        for dx in range(-reach_x - 1, reach_x + 2):
            outside = abs(dy) > reach_y or abs(dx) > reach_x
            if not outside or abs(dy) >= height or abs(dx) >= width:
                continue
            moved = np.full_like(mean, np.nan)
            to_y, from_y = _overlap(dy, height)
            to_x, from_x = _overlap(dx, width)
            moved[:, to_y, to_x] = mean[:, from_y, from_x]
            near.append(moved)
    return _nan_mean(np.stack(near, axis=1)) if near else np.full_like(mean, np.nan)


def _overlap(shift: int, side: int) -> tuple[slice, slice]:
    """Where samples go, and where they come from, if each is seen `shift` pixels away."""
    return slice(max(0, -shift), side - max(0, shift)), slice(max(0, shift), side - max(0, -shift))


# The estimate


@dataclass(frozen=True)
class _Fit:
    """One filter with one instrument: the rows, their line and the gain's relative error."""

    axes: Axes
    kind: Kind
    samples: Samples
    usable: Bools
    line: Line
    gain_error: float
    x0_error: float
    by_time: Floats
    rows: Bools
    systematic: float = 0.0

    @property
    def relative_error(self) -> float:
        """Standard error of the gain, as a part of it."""
        return self.gain_error / abs(self.line.gain) if self.line.gain else math.inf


def _estimate(table: _Table, cut: Cut) -> Sensitivity:
    live = _live_pixels(table)
    if not live.any():
        raise NothingToMeasure(
            "no_noise", "neighbouring frames hardly differ: the movie was denoised, or is empty."
        )
    usable, reasons = _unclipped(table, cut, live)
    if not usable.any():
        raise NothingToMeasure("clipped_high_everywhere", "the signal is clipped all over the field.")
    fits = [fit for axes in table.parts if (fit := _best_instrument(table, axes, usable)) is not None]
    if not fits:
        raise NothingToMeasure("no_contrast", _NO_CONTRAST)
    chosen = _weakest_without_structure(fits)
    samples, line = chosen.samples, chosen.line
    part = table.parts[chosen.axes]
    # Offsets that were taken off the means are taken off these as well.
    offset = part.x.ravel()[chosen.rows] - samples.x
    third = (part.x3.ravel()[chosen.rows] - offset, part.y3.ravel()[chosen.rows])
    zero = find_zero_level(
        samples,
        line,
        third if table.order == 2 else None,
        ("t", "ty", "txy")[len(chosen.axes)],
        correlated=False,
        systematic=chosen.systematic,
    )
    half = T_QUANTILE * math.hypot(chosen.gain_error, chosen.systematic * line.gain)
    typical = float(np.average(line.instrument[line.used], weights=line.weight[line.used]))
    half_x0 = T_QUANTILE * math.hypot(chosen.x0_error, chosen.systematic * (typical - line.x0))
    reasons += [*_judge(table, chosen, zero, live)]
    verdict = verdict_of(tuple(reasons))
    return Sensitivity(
        conversion_gain=line.gain,
        zero_level=zero.value,
        variance_intercept=line.x0,
        read_noise=math.sqrt(max(line.gain * (zero.value - line.x0), 0.0)),
        conversion_gain_interval=(line.gain - half, line.gain + half),
        variance_intercept_interval=(line.x0 - half_x0, line.x0 + half_x0),
        zero_level_interval=zero.interval,
        verdict=verdict,
        reasons=tuple(reasons),
        transfer_curve=transfer_curve(samples, line),
        rejected=rejected_curves(samples, line, chosen.usable, math.inf),
        method="t" + "".join(" yx"[axis] for axis in chosen.axes),
        zero_level_method=zero.method,
        used_fraction=line.used_fraction,
        excess_noise=zero.excess_noise,
        excess_noise_interval=zero.excess_noise_interval,
    )


_NO_CONTRAST = (
    "brightness hardly changes, neither between pixels nor over time, so its noise has no slope: record a "
    "scene with bright and dark parts, or give dark frames."
)


def _live_pixels(table: _Table) -> Bools:
    """Pixels that change in half of their blocks or more: not dead, saturated, masked."""
    y = table.parts[()].y
    seen = np.isfinite(y)
    changes = np.count_nonzero(seen & (y > 1e-12), axis=0)
    if not changes.any():
        return np.zeros(y.shape[1:], bool)
    # Of photon counters in the dark, a block may hold no photon: fewer changes than others make a pixel dead.
    often = np.median(changes[changes > 0])
    return np.asarray((changes > 0) & (changes >= min(0.5 * often, 0.5 * len(y))))


def _unclipped(table: _Table, cut: Cut, live: Bools) -> tuple[Bools, list[Reason]]:
    """Rows of live pixels and brightness that is not clipped, told by the blocks beside."""
    reasons = []
    usable = np.broadcast_to(live, table.mean.shape).ravel() & np.isfinite(table.mean).ravel()
    if not live.all():
        share = 100 * np.count_nonzero(~live) / live.size
        if share >= 0.5:
            reasons.append(
                Reason(
                    "blank_pixels",
                    f"{share:.0f} % of the pixels never change, as dead, saturated or masked ones do; they "
                    "were left out.",
                )
            )
    light = np.where(np.isnan(q := _time_instrument(table)), table.mean, q).ravel()
    groups = int(np.clip(np.count_nonzero(usable) // 50, 1, 40))
    for share_of, name, code, what, limit in (
        (table.high, "high", cut.ceiling, "saturates at", _MOST_CUT["high"]),
        (table.low, "low", cut.floor, "is cut off at", _MOST_CUT["low"]),
    ):
        if not math.isfinite(code) or not usable.any():
            continue
        clipped_part = share_of.ravel()[usable]
        group = equal_groups(light[usable], groups)
        clipped = clipped_groups(clipped_part, np.ones(len(clipped_part)), group, groups, limit)
        if name == "low" and _zeros_are_photons(table, usable, clipped_part, code):
            continue
        if clipped.any():
            part = 100 * float(clipped.mean())
            keep = usable.copy()
            keep[usable] = ~clipped[group]
            # Cut off everywhere below: the line is read all the same, and the interval can't be believed.
            if keep.any() or name == "high":
                usable = keep
            reasons.append(
                Reason(
                    f"clipped_{name}",
                    f"the signal {what} {code:g}; the {part:.0f} % of rows that reach it were left out.",
                    "caution" if name == "low" else "note",
                )
            )
    return usable, reasons


def _zeros_are_photons(table: _Table, usable: Bools, share: Floats, floor: float) -> bool:
    """Whether the lowest value is that of no photon: as frequent as Poisson's law makes it."""
    x, y = (v.ravel()[usable] for v in (table.mean, table.parts[()].y))
    fine = np.isfinite(y) & (x > floor)
    if not fine.any():
        return False
    gain = float(y[fine].sum() / (x[fine] - floor).sum())
    expected = np.exp(-np.maximum(x[fine] - floor, 0) / max(gain, 1e-30))
    return bool(0.8 < expected.mean() / max(float(share[fine].mean()), 1e-30) < 1.15)


def _best_instrument(table: _Table, axes: Axes, usable: Bools) -> _Fit | None:
    """The fit of a filter: with an instrument that offsets do not bias, if that is precise enough."""
    fits: dict[Kind, _Fit] = {}
    for kind in get_args(Kind):
        fit = _fit(table, axes, kind, usable)
        if fit is not None:
            fits[kind] = fit
    if table.mean[0].size == 1:
        # A single pixel has one offset.
        return fits.get("time")
    free = [fit for kind, fit in fits.items() if kind != "time" and fit.line.gain > 0]
    robust = min(free, key=lambda fit: fit.relative_error, default=None)
    pooled = fits.get("time")
    if robust is None or pooled is None:
        return robust if pooled is None else _with_offsets(pooled, math.inf)
    if robust.relative_error <= _PRECISE or pooled.relative_error > 0.7 * robust.relative_error:
        return robust
    difference = abs(pooled.line.gain - robust.line.gain)
    if difference > 2 * math.sqrt(max(robust.gain_error**2 - pooled.gain_error**2, 0.0)):
        return robust
    return _with_offsets(pooled, robust.relative_error)


def _with_offsets(fit: _Fit, most: float) -> _Fit:
    """A fit to pixels of unknown offsets, with what those may do to its gain as a systematic error.

    Offsets of variance s² lower the slope by s² / Var(x); `most` is the error of an instrument without them.
    """
    line = fit.line
    used = line.used
    spread = float(np.cov(line.instrument[used], aweights=line.weight[used]))
    bias = (_OFFSET * line.gain) ** 2 / max(spread, 1e-30)
    return replace(fit, systematic=math.hypot(fit.systematic, min(bias, most)))


def _fit(table: _Table, axes: Axes, kind: Kind, usable: Bools) -> _Fit | None:
    """Fit the rows of one filter; None where they determine no line."""
    part = table.parts[axes]
    blocks, height, width = part.x.shape
    q = _space_instrument(table.mean, axes) if kind == "space" else _time_instrument(table)
    if kind != "space" and axes:
        # Weighted over pixels as the filter's square is.
        for axis in axes:
            q = _across(q, (1 / 6, 4 / 6, 1 / 6), axis)
    n = part.n.ravel()
    rows = usable & np.isfinite(part.y.ravel()) & np.isfinite(q.ravel()) & (2 * n >= n.max(initial=0))
    if np.count_nonzero(rows) < 60:
        return None
    block, pixel = (
        np.broadcast_to(number, part.x.shape).ravel()[rows]
        for number in (np.arange(blocks)[:, None, None], np.arange(height * width).reshape(height, width))
    )
    pixels = np.unique(pixel)
    by_pixel = len(pixels) >= _LEAST_UNITS
    # Places are pixels, of few pixels in several parts of the movie: the line starts from their medians.
    eras = -(-_LEAST_PLACES // len(pixels))
    segment = {"space": block, "within": pixel, "time": np.zeros_like(pixel)}[kind]
    samples = Samples(
        x=part.x.ravel()[rows],
        y=part.y.ravel()[rows],
        q=q.ravel()[rows],
        n=n[rows],
        tile=pixel if by_pixel else block,
        place=np.unique(pixel * eras + block * eras // blocks, return_inverse=True)[1],
        segment=np.unique(segment, return_inverse=True)[1],
        correlation=_correlation(table.order, float(n.max())) * 1.944 ** len(axes),
        grid=(height, width) if by_pixel else (1, 1),
    )
    everything = np.ones(len(samples.x), bool)
    if kind == "within":
        offset = _offsets_of_pixels(samples)
        samples = replace(samples, x=samples.x - offset, q=samples.q - offset)
    try:
        with np.errstate(all="ignore"):
            line = fit_line(samples, everything)
            if kind == "space" and by_pixel and has_offsets(samples, line):
                samples = replace(samples, shifted=True)
                line = fit_line(samples, everything)
    except NoLine:
        return None
    if not _has_contrast(samples, line):
        return None
    used = line.used
    weighted = (
        samples.x[used],
        samples.y[used],
        line.instrument[used],
        line.weight[used],
        samples.segment[used],
    )
    with np.errstate(all="ignore"):
        by_time, x0_by_time = jackknife_line(*weighted, _time_groups(block)[used])
    errors = [(line.gain_error, line.x0_error)] if by_pixel else []
    if blocks >= 2:
        errors.append((jackknife_error(by_time), jackknife_error(x0_by_time)))
    gain_error, x0_error = (max(e[k] for e in errors) for k in (0, 1))
    if not (math.isfinite(gain_error) and math.isfinite(x0_error)):
        return None
    return _Fit(
        axes,
        kind,
        samples,
        everything,
        line,
        gain_error,
        x0_error,
        by_time,
        rows,
        systematic=math.hypot(0.001, line.passed),
    )


def _offsets_of_pixels(samples: Samples) -> Floats:
    """Fixed offset of each row's pixel about their mean, as far as chance does not explain it.

    From the slope g within pixels, a pixel of mean x and variance y has the zero x − y/g, whatever its light.
    A constant of each pixel leaves the slope within pixels as it is; without it, rows of equal variance would
    not be of equal brightness, and be taken for defective.
    """
    pixel = samples.segment
    n = np.bincount(pixel, samples.n)
    x, y = (np.bincount(pixel, samples.n * v) / n for v in (samples.x, samples.y))
    weight = samples.n / np.maximum(y[pixel], 1e-30) ** 2
    slope, _ = instrumental_line(samples.x, samples.y, samples.q, weight, pixel)
    if not (math.isfinite(slope) and slope > 0 and len(n) > 2):
        return np.zeros(len(samples.x))
    zero = x - y / slope
    zero -= np.average(zero, weights=n)
    chance = samples.variance_of_variance(y, slope) / n / slope**2
    between = max(float(np.var(zero)) - float(chance.mean()), 0.0)
    return np.asarray((zero * between / (between + chance))[pixel], np.float64)


def _time_groups(block: Integers) -> Integers:
    """Groups of blocks, scattered over the movie."""
    return jackknife_groups(block)


def _correlation(order: int, n: float) -> float:
    """Sum of squared autocorrelations of n residuals of differences over time."""
    correlations = (-2 / 3, 1 / 6) if order == 2 else (-1 / 2,)
    return 1 + 2 * sum(max(0.0, 1 - lag / n) * c * c for lag, c in enumerate(correlations, start=1))


def _has_contrast(samples: Samples, line: Line) -> bool:
    """Whether brightness varies: the instrument, whose noise is another's, predicts the mean."""
    used = line.used
    x, q, w = samples.x[used], line.instrument[used], line.weight[used]
    moment = samples.segment[used]
    total = np.bincount(moment, w)
    dx, dq = (v - (np.bincount(moment, w * v) / np.where(total > 0, total, 1))[moment] for v in (x, q))
    group = jackknife_groups(samples.tile)[used]
    sums = np.asarray(np.bincount(group, w * dx * dq, GROUPS), np.float64)
    common = float(sums.sum())
    scatter = jackknife_error(common - sums)
    return bool(common > _SURE_CONTRAST * scatter)


def _weakest_without_structure(fits: list[_Fit]) -> _Fit:
    """The weakest filter whose gain no stronger one contradicts: structure only ever adds variance."""
    chosen, quantile = fits[0], _STRONGER
    for stronger in fits[1:]:
        if stronger.relative_error > 3 * max(chosen.relative_error, _PRECISE):
            continue
        difference = chosen.line.gain - stronger.line.gain
        by_time: Floats = np.subtract(chosen.by_time, stronger.by_time)
        paired = jackknife_error(by_time)
        error = max(paired, math.sqrt(max(stronger.gain_error**2 - chosen.gain_error**2, 0.0)))
        if difference > quantile * error:
            # Something moves: less is asked of the next filter.
            chosen, quantile = stronger, _STRONGER_STILL
    return replace(chosen, systematic=math.hypot(chosen.systematic, _structure_left(chosen, fits)))


def _structure_left(chosen: _Fit, fits: list[_Fit]) -> float:
    """Part of the gain that structure may still make: what stronger filters take, and of what was taken."""
    gain = chosen.line.gain
    left = max(
        (
            gain - fit.line.gain
            for fit in fits
            if len(fit.axes) > len(chosen.axes) and gain - fit.line.gain > fit.gain_error
        ),
        default=0.0,
    )
    taken = max(fit.line.gain - gain for fit in fits if len(fit.axes) <= len(chosen.axes))
    return math.hypot(_LEFT_OF_FOUND * left, _LEFT_OF_TAKEN * taken) / abs(gain)


# The verdict


def _judge(table: _Table, fit: _Fit, zero: ZeroLevel, live: Bools) -> Iterator[Reason]:
    """Yield what speaks against the estimate."""
    samples, line = fit.samples, fit.line
    used = line.used
    low, high = np.quantile(line.instrument[used], [0.02, 0.98])
    contrast = line.gain * float(high - low) / max(float(np.average(line.variance[used])), 1e-30)
    error = math.hypot(fit.relative_error, fit.systematic)
    if contrast < _LEAST_CONTRAST:
        yield Reason("no_contrast", _NO_CONTRAST, "refusal")
    if not line.gain > 3 * fit.gain_error:
        yield Reason(
            "no_shot_noise",
            "the noise does not grow with brightness, so it is not photon noise: the recording is too short "
            "or too dark, or its noise was changed by processing.",
            "refusal",
        )
    elif error > _UNSURE:
        yield Reason(
            "imprecise_gain",
            f"the gain is known to ± {100 * T_QUANTILE * error:.0f} % only; more frames, or more contrast, "
            "would help.",
            "refusal" if fit.relative_error > _IMPRECISE or error > 2 * _IMPRECISE else "caution",
        )
    departure, significance = curvature(samples, line)
    if departure > 0.06 and abs(significance) > 5:
        yield Reason(
            "curved",
            f"variance against mean is bent ({100 * departure:.0f} % off a line): the signal is not linear "
            "in light, or something other than noise adds variance to the bright parts.",
            "refusal" if departure > 0.15 else "caution",
        )
    if line.used_fraction < 0.5:
        yield Reason(
            "mostly_structure",
            f"only {100 * line.used_fraction:.0f} % of the samples behave like noise; the rest moves or "
            "changes.",
            "refusal" if line.used_fraction < 0.25 else "caution",
        )
    yield from _judge_frames(table, live)
    yield from _judge_neighbours(table)
    excess, excess_error = zero.excess
    if not zero.photon_like:
        yield Reason(
            "skewness",
            f"the noise is not skewed as that of photons (ρ₃ = {excess:.2f} ± {excess_error:.2f}, 1 "
            "expected), so it cannot tell read noise from the zero level; a dark recording would.",
            "caution",
        )
    elif zero.excess_noise > 1:
        yield Reason(
            "excess_noise",
            f"the detector seems to add multiplication noise, F² about {zero.excess_noise:.1f}: then the "
            "gain is F² times the signal of one photon.",
        )
    if not zero.consistent:
        yield Reason(
            "zero_inconsistent",
            "variance and skewness of the noise point to different zero levels; the interval holds both.",
        )
    width = zero.interval[1] - zero.interval[0]
    if width > 3 * line.gain and width > 0.5 * (high - low):
        wide = width > 12 * line.gain and width > 2 * (high - low)
        yield Reason(
            "zero_undetermined" if wide else "zero_uncertain",
            "no part of the recording is dark enough to fix the zero level; a dark recording would.",
            "caution" if wide else "note",
        )


def _judge_frames(table: _Table, live: Bools) -> Iterator[Reason]:
    """Yield what noise at two lags, and the frames themselves, show."""
    if table.far is not None:
        ratio, error = _lag_ratio(table, live)
        if ratio < min(_SMOOTHED, 1 - 5 * error):
            yield Reason(
                "correlated_in_time",
                "neighbouring frames share noise, or change too much from one to the next: the recording was "
                "averaged over a running window, filtered or denoised. Use the raw recording.",
                "refusal" if ratio < _SMOOTH else "caution",
            )
    if table.duplicates:
        yield Reason(
            "duplicated_frames",
            f"{table.duplicates} of {table.frames} frames repeat the frame before and were left out.",
        )
    if table.not_finite:
        yield Reason("not_finite", f"{table.not_finite} samples are not finite and were left out.")


def _lag_ratio(table: _Table, live: Bools) -> tuple[float, float]:
    """Noise from second differences of stride 1 over that of stride 2, and its standard error.

    1 for white noise. Light that changes lowers it where there is light, smoothing everywhere alike: the
    largest one of three thirds of brightness counts.
    """
    assert table.far is not None
    near, far = table.parts[()].y, table.far
    fine = np.isfinite(near) & np.isfinite(far) & live
    light = table.mean[fine]
    block = np.broadcast_to(np.arange(len(near))[:, None, None], near.shape)[fine]
    third = equal_groups(light, 3)
    group = equal_groups(block.astype(np.float64), min(GROUPS, len(near)))
    found = []
    for k in range(3):
        sums = [np.bincount(group[third == k], v[fine][third == k], GROUPS) for v in (near, far)]
        good = sums[1] > 0
        if np.count_nonzero(good) >= 8:
            ratios = sums[0][good] / sums[1][good]
            middle = float(np.median(ratios))
            spread = 1.4826 * float(np.median(np.abs(ratios - middle)))
            found.append((middle, 1.25 * spread / math.sqrt(len(ratios))))
    return max(found, default=(1.0, math.inf))


def _judge_neighbours(table: _Table) -> Iterator[Reason]:
    """Yield that neighbouring pixels share noise, or oppose it."""
    least = _least_dimension(table.products, table.frames)
    if least < _DEPENDENT:
        yield Reason(
            "dependent_frames",
            "the noise of some pixels follows from that of others: the movie was rebuilt from a few "
            "components (PCA, SVD), denoised or interpolated. Use the raw recording.",
            "refusal" if least < _FOLLOWING else "caution",
        )
    found = {}
    for axis, shared in table.shared.items():
        values = shared[np.isfinite(shared)]
        if len(values) >= 4:
            found[axis] = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
    if len(found) == 2 and all(mean > max(_SHARED_MUCH, 5 * error) for mean, error in found.values()):
        yield Reason(
            "correlated_in_space",
            "neighbouring pixels share noise in both directions: the frames were smoothed, resampled or "
            "denoised. The slope is not the gain of the detector. Use the raw recording.",
            "refusal",
        )
        return
    for axis, (mean, error) in found.items():
        if abs(mean) > max(_SHARED, 5 * error):
            name = " yx"[axis]
            what = "share noise, as slow electronics, smoothing or interpolation make it"
            yield Reason(
                f"correlated_along_{name}" if mean > 0 else "sharpened",
                f"neighbouring pixels along {name} {what if mean > 0 else 'have opposed noise'}: the gain is "
                "an effective one, not signal per photon.",
                "caution",
            )
