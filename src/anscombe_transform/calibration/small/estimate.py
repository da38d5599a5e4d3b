"""Fields too small for tiles: 16 × 16 pixels, line scans, single pixels; differences over time serve alone.

A row of the table is one pixel during one block of frames. From second differences r of its samples come, as
in large fields, a mean x, a variance y and a third cumulant, each of the same weighted samples. Only the
instrument differs, the brightness that is independent of the row's own noise:

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
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.calibration.evidence import rejected_curves, transfer_curve
from anscombe_transform.calibration.line.checks import clipped_groups
from anscombe_transform.calibration.line.transfer import equal_groups
from anscombe_transform.calibration.line.zero import find_zero_level
from anscombe_transform.calibration.result.constants import T_QUANTILE
from anscombe_transform.calibration.result.sensitivity import (
    NothingToMeasure,
    Reason,
    Sensitivity,
    verdict_of,
)
from anscombe_transform.calibration.small.fits import (
    best_instrument,
    time_instrument,
    weakest_without_structure,
)
from anscombe_transform.calibration.small.sums import Table, read_table
from anscombe_transform.calibration.small.verdict import NO_CONTRAST, judge
from anscombe_transform.calibration.sums.inputs import Progress
from anscombe_transform.calibration.sums.reading import Cut, inspect
from anscombe_transform.calibration.sums.statistics import TILE, MovieLike
from anscombe_transform.native.arrays import Bools, Floats
from anscombe_transform.native.reference_noise import PATCH

# Fields of fewer tiles are measured here: where tiles are jackknifed, in 24 groups, there must be some.
FEWEST_TILES = 12
# Share of the samples of a group of brightness that may be clipped, as in large fields.
_MOST_CUT = {"high": 0.001, "low": 0.005}
# Columns of a frame that `inspect` looks at.
_LEAST_WIDTH = 16


def is_small(shape: tuple[int, ...]) -> bool:
    """Whether frames of a shape (…, y, x) hold too few tiles, or no patch in which noise is compared."""
    rows, columns = (max(0, side - 2) // TILE for side in shape[-2:])
    return rows * columns < FEWEST_TILES or min(shape[-2:]) < PATCH


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
        Clipping found in the values.

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
    table = read_table(movie, mask, cut, max_frames, full, seed, progress)
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


def _estimate(table: Table, cut: Cut) -> Sensitivity:
    live = _live_pixels(table)
    if not live.any():
        raise NothingToMeasure(
            "no_noise", "neighbouring frames hardly differ: the movie was denoised, or is empty."
        )
    usable, reasons = _unclipped(table, cut, live)
    if not usable.any():
        raise NothingToMeasure("clipped_high_everywhere", "the signal is clipped all over the field.")
    fits = [fit for axes in table.parts if (fit := best_instrument(table, axes, usable)) is not None]
    if not fits:
        raise NothingToMeasure("no_contrast", NO_CONTRAST)
    chosen = weakest_without_structure(fits)
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
    reasons += [*judge(table, chosen, zero, live)]
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


def _live_pixels(table: Table) -> Bools:
    """Pixels that change in half of their blocks or more: not dead, saturated, masked."""
    y = table.parts[()].y
    seen = np.isfinite(y)
    changes = np.count_nonzero(seen & (y > 1e-12), axis=0)
    if not changes.any():
        return np.zeros(y.shape[1:], bool)
    # Of photon counters in the dark, a block may hold no photon: fewer changes than others make a pixel dead.
    often = np.median(changes[changes > 0])
    return np.asarray((changes > 0) & (changes >= min(0.5 * often, 0.5 * len(y))))


def _unclipped(table: Table, cut: Cut, live: Bools) -> tuple[Bools, list[Reason]]:
    """Rows of live pixels and brightness that is not clipped, judged by the blocks beside."""
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
    light = np.where(np.isnan(q := time_instrument(table)), table.mean, q).ravel()
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


def _zeros_are_photons(table: Table, usable: Bools, share: Floats, floor: float) -> bool:
    """Whether the lowest value is that of no photon: as frequent as Poisson's law makes it."""
    x, y = (v.ravel()[usable] for v in (table.mean, table.parts[()].y))
    fine = np.isfinite(y) & (x > floor)
    if not fine.any():
        return False
    gain = float(y[fine].sum() / (x[fine] - floor).sum())
    expected = np.exp(-np.maximum(x[fine] - floor, 0) / max(gain, 1e-30))
    return bool(0.8 < expected.mean() / max(float(share[fine].mean()), 1e-30) < 1.15)
