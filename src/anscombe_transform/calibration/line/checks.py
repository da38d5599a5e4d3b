"""Checks of a calibration: each gives a number, `reasons` turns them into sentences."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from anscombe_transform.calibration.line.transfer import Line, Samples, jackknife_error, jackknife_groups
from anscombe_transform.calibration.result.constants import GROUPS
from anscombe_transform.calibration.thresholds import THRESHOLDS
from anscombe_transform.native.arrays import Bools, Floats, Integers

# Standard errors.
_BENT_UPWARDS = 3.0


def curvature(samples: Samples, line: Line) -> tuple[float, float]:
    """Mean relative departure of a parabola through the rows from their line, and its significance."""
    used = line.used
    centre, scale = _middle_and_spread(line)
    if scale == 0:
        return 0.0, 0.0
    bent = _parabola(samples, line)
    if bent is None:
        return 0.0, 0.0
    (a, b, c), without = bent
    low, high = np.quantile((line.instrument[used] - centre) / scale, [0.02, 0.98])
    grid = np.linspace(low, high, 21)
    departure = np.abs(c * (grid**2 - 1)) / np.maximum(np.abs(a + b * grid), 1e-30)
    return float(departure.mean()), float(c / max(jackknife_error(without), 1e-300))


def bends_upwards(samples: Samples, line: Line) -> bool:
    """Whether the curve is steeper where it is bright, as flicker, of a variance as light squared, does."""
    return curvature(samples, line)[1] > _BENT_UPWARDS


def _middle_and_spread(line: Line) -> tuple[float, float]:
    """Mean and standard deviation of the instrument of the used rows."""
    q, w = line.instrument[line.used], line.weight[line.used]
    centre = float((w * q).sum() / w.sum())
    return centre, float(np.sqrt((w * (q - centre) ** 2).sum() / w.sum()))


def _parabola(samples: Samples, line: Line) -> tuple[tuple[float, float, float], Floats] | None:
    """Coefficients a + b u + c (u² - 1) of the variance, u the standardised brightness; c without each group.

    None where the rows do not determine them.
    """
    used = line.used
    x, y, q, w = samples.x[used], samples.y[used], line.instrument[used], line.weight[used]
    group = jackknife_groups(samples.tile)[used]
    centre, scale = _middle_and_spread(line)
    u = (x - centre) / scale
    instruments = np.stack([np.ones_like(q), (q - centre) / scale, ((q - centre) / scale) ** 2 - 1])
    columns = np.stack([np.ones_like(u), u, ((q - centre) / scale) ** 2 - 1])
    normal = np.zeros((GROUPS, 3, 3))
    right = np.zeros((GROUPS, 3))
    for i in range(3):
        right[:, i] = np.bincount(group, w * instruments[i] * y, GROUPS)
        for j in range(3):
            normal[:, i, j] = np.bincount(group, w * instruments[i] * columns[j], GROUPS)
    try:
        a, b, c = np.linalg.solve(normal.sum(0), right.sum(0))
        without = np.linalg.solve(normal.sum(0) - normal, (right.sum(0) - right)[..., None])[:, 2, 0]
    except np.linalg.LinAlgError:
        return None
    return (float(a), float(b), float(c)), without


def slope_within_tiles(samples: Samples, line: Line) -> tuple[float, float]:
    """Slope from contrast within tiles over that of the line, and the difference in standard errors.

    Photon noise has one slope. A background taken off, or a division by it, changes the mean of a whole tile
    and leaves the contrast within. A curve that is bent is bent within tiles and between them: that is taken
    off first.
    """
    used = line.used
    x, y, q, w = samples.x[used], samples.y[used], line.instrument[used], line.weight[used]
    centre, scale = _middle_and_spread(line)
    bent = _parabola(samples, line) if scale else None
    if bent is not None:
        a, b, c = bent[0]
        u = (q - centre) / scale
        y = y - (a + b * u + c * (u**2 - 1) - line.gain * (q - line.x0))
    half_segments = int(samples.segment.max()) + 1
    block = np.unique(samples.tile[used] * half_segments + samples.segment[used], return_inverse=True)[1]
    total = np.bincount(block, w)
    dx, dy, dq = (v - (np.bincount(block, w * v) / total)[block] for v in (x, y, q))
    group = jackknife_groups(samples.tile)[used]
    rise, run = (np.bincount(group, w * dq * d, GROUPS) for d in (dy, dx))
    with np.errstate(all="ignore"):
        slope, slopes = rise.sum() / run.sum(), (rise.sum() - rise) / (run.sum() - run)
    error = jackknife_error(slopes - line.gains)
    if not (np.isfinite(error) and error > 0 and line.gain > 0):
        return 1.0, 0.0
    return float(slope / line.gain), float((slope - line.gain) / error)


# Rows whose 5 % quantile is known to a tenth, and how much farther upwards than downwards they may spread: by
# what the gamma law leaves out of the skewness of few photons, 1.07.
_LEAST_ROWS, _UPWARDS = 200, 1.1
# A parabola must not turn the gain of a corner to nothing.
_LEAST_RELATIVE = 0.2


@dataclass(frozen=True)
class GainOverField:
    """Standard deviation of the gain over the field as a part of it, and its significance (Hotelling's T²).

    `relative` is the gain of each row's place over the mean over the field.
    """

    spread: float
    significance: float
    relative: Floats

    @property
    def uneven(self) -> bool:
        """Whether the gain varies, by more than any scene or chance pretends."""
        # Hotelling's T² is a square of standard errors.
        return (
            THRESHOLDS["uneven_gain"].severity(self.spread, math.sqrt(max(self.significance, 0))) is not None
        )


def gain_over_field(samples: Samples, line: Line, *, within: bool = False) -> GainOverField:
    """How the gain varies over the field, smoothly.

    The line's slope may depend on the place by a parabola in y and x, of 5 terms. Slopes `within` patches are
    those of the gain alone: between patches, offsets that vary look like a gain that does.
    """
    even = GainOverField(0.0, 0.0, np.ones(len(samples.tile)))
    used = line.used
    rows, columns = samples.grid
    tile = samples.tile
    v, u = (2 * (tile // columns) / max(rows - 1, 1) - 1, 2 * (tile % columns) / max(columns - 1, 1) - 1)
    everywhere = np.stack([v, u, v * v - 1 / 3, u * u - 1 / 3, u * v])
    shapes = everywhere[:, used]
    light = line.instrument[used] - line.x0
    design = np.concatenate([[np.ones_like(light), light], light * shapes])
    measured = np.concatenate([[np.ones_like(light), samples.x[used] - line.x0], light * shapes])
    y = samples.y[used]
    if within or samples.level is not None:
        number = samples.segment * (int(samples.patch.max()) + 1) + samples.patch
        block = np.unique(number[used], return_inverse=True)[1]
        weight = line.weight[used]
        total = np.bincount(block, weight)
        for column in (*design[1:], *measured[1:], y):
            column -= (np.bincount(block, weight * column) / total)[block]
    # What a patch shares would be in all groups of scattered tiles.
    group = jackknife_groups(samples.patch)[used]
    weighted = design * line.weight[used]
    size = len(design)
    normal, right = np.zeros((GROUPS, size, size)), np.zeros((GROUPS, size))
    for i in range(size):
        right[:, i] = np.bincount(group, weighted[i] * y, GROUPS)
        for j in range(size):
            normal[:, i, j] = np.bincount(group, weighted[i] * measured[j], GROUPS)
    try:
        whole = np.linalg.solve(normal.sum(0), right.sum(0))
        without = np.linalg.solve(normal.sum(0) - normal, (right.sum(0) - right)[..., None])[..., 0]
        away = without[:, 2:] - without[:, 2:].mean(0)
        covariance = (GROUPS - 1) / GROUPS * away.T @ away
        significance = float(whole[2:] @ np.linalg.solve(covariance, whole[2:]))
    except np.linalg.LinAlgError:
        return even
    if not (whole[1] > 0 and line.gain > 0 and np.isfinite(significance)):
        return even
    # Mean squares of the shapes over the field.
    squares = np.array([1 / 3, 1 / 3, 4 / 45, 4 / 45, 1 / 9])
    # What chance adds to the coefficients' squares is taken off.
    variance = float(np.sum((whole[2:] ** 2 - np.diag(covariance)) * squares))
    relative = np.maximum(1 + (whole[2:] / whole[1]) @ everywhere, _LEAST_RELATIVE)
    return GainOverField(math.sqrt(max(variance, 0.0)) / float(whole[1]), significance, relative)


def tile_scatter(samples: Samples, line: Line) -> float:
    """Relative scatter of places (tile and class) about the line beyond chance and known offsets.

    From the lower half of the distribution: structure and activity act above.
    """
    used = line.used
    deviation = (samples.y - line.gain * (samples.x - line.x0)) / line.variance
    weight = np.bincount(samples.place[used], samples.n[used])
    present = weight > 0
    of_place = np.bincount(samples.place[used], (samples.n * deviation)[used])[present] / weight[present]
    law = samples.variance_of_variance(line.variance, line.gain) / line.variance**2
    chance = np.sqrt(np.median(law[used]) / np.median(weight[present]))
    if line.offsets:
        # In units of what offsets and chance together make of each place, times chance.
        level = np.bincount(samples.place[used], (samples.n * line.variance)[used])[present] / weight[present]
        offsets = math.sqrt(line.offsets.place + line.offsets.patch) / level
        of_place = of_place * chance / np.hypot(chance, offsets)
    low, middle = np.quantile(of_place, [0.16, 0.5])
    return float(np.sqrt(max(0.0, (middle - low) ** 2 - (1.3 * chance) ** 2)))


def spreads_upwards(samples: Samples, line: Line, usable: Bools) -> bool:
    """True if the row variances are skewed upwards, as motion makes them.

    By its 5 % and 95 % quantiles. Chance is a gamma law of each row's own spread, brought to a normal one by
    Wilson and Hilferty's cube root.
    """
    expected = line.variance
    with np.errstate(invalid="ignore", divide="ignore"):
        law = samples.variance_of_variance(expected, line.gain) / samples.n / expected**2
        normal = (np.cbrt(np.maximum(samples.y / expected, 0.0)) - 1 + law / 9) / np.sqrt(law)
    normal = normal[usable & (expected > 0) & (law > 0)]
    if len(normal) < _LEAST_ROWS:
        return False
    low, middle, high = np.quantile(normal, [0.05, 0.5, 0.95])
    # Standard error of the ratio for a normal law.
    error = 1.9 / math.sqrt(len(normal))
    return bool(high - middle > (_UPWARDS + 2 * error) * (middle - low))


def clipped_groups(count: Floats, n: Floats, group: Integers, groups: int, limit: float) -> Bools:
    """Groups of brightness with more than `limit` of the samples clipped."""
    rate = np.bincount(group, count, groups) / np.maximum(np.bincount(group, n, groups), 1e-30)
    return np.asarray(rate >= limit)
