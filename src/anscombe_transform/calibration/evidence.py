"""The evidence behind a calibration, for plots: the curve, rejected samples, reasons and places."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from anscombe_transform.calibration.line.transfer import Line, Samples
from anscombe_transform.calibration.result.sensitivity import Evidence, Rejected, TransferCurve
from anscombe_transform.calibration.sums.shared import SharedNoise
from anscombe_transform.calibration.sums.statistics import CLASSES
from anscombe_transform.native.arrays import Bools, Floats


def transfer_curve(samples: Samples, line: Line, bins: int = 32) -> TransferCurve:
    """Variance against mean of the accepted rows, in bins of equal width in the square root of brightness."""
    used = line.used
    q, x, y, n = line.instrument[used], samples.x[used], samples.y[used], samples.n[used]
    root = np.sqrt(np.maximum(q - q.min(), 0))
    darkest, brightest = (float(v) for v in np.quantile(root, [0.002, 0.998]))
    edges = np.linspace(darkest, brightest, bins + 1)
    group = np.clip(np.searchsorted(edges, root, side="right") - 1, 0, bins - 1)
    law = samples.variance_of_variance(line.variance[used], line.gain)
    count = np.asarray(np.bincount(group, n, bins), np.float64)
    full = np.bincount(group, minlength=bins) >= 5
    if not full.any():
        full = count > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, variance = (np.bincount(group, n * v, bins) / count for v in (x, y))
        error = np.sqrt(np.bincount(group, n * law, bins)) / count
    # Bins are of the instrument; of few rows, the means may come in another order.
    order = np.flatnonzero(full)[np.argsort(mean[full])]
    return TransferCurve(mean[order], variance[order], error[order], count[order])


def rejected_curves(samples: Samples, line: Line, usable: Bools, linear_up_to: float) -> tuple[Rejected, ...]:
    """Curves of the rows that were left out, by reason, and their share of all rows."""
    bright = usable & (line.instrument > linear_up_to)
    groups = {
        "cut off": ~usable,
        "beyond the straight part": bright & ~line.used,
        "not noise alone": usable & ~bright & ~line.used,
    }
    variance = np.maximum(line.variance, 1e-30)
    found = []
    for why, rows in groups.items():
        if np.count_nonzero(rows) >= max(3, 0.001 * len(rows)):
            curve = transfer_curve(samples, replace(line, used=rows, variance=variance))
            found.append(Rejected(why, np.count_nonzero(rows) / len(rows), curve))
    return tuple(found)


def tile_evidence(
    samples: Samples,
    line: Line,
    usable: Bools,
    shared: SharedNoise,
    gains: dict[str, tuple[float, float]],
    grid: tuple[int, int],
) -> Evidence:
    """Maps of the field: variance over the line's, and the share of rows that were used."""
    places = grid[0] * grid[1]
    tile = samples.place // CLASSES
    expected = np.maximum(line.variance, 1e-30)
    with np.errstate(invalid="ignore", divide="ignore"):

        def average(values: Floats, weight: Floats) -> Floats:
            total = np.bincount(tile, weight, places)
            return np.asarray(np.bincount(tile, weight * values, places) / total).reshape(grid)

        ratio = average(samples.y / expected, samples.n * usable)
        used = average(np.asarray(line.used, np.float64), np.ones(len(tile)))
    return Evidence(
        whiteness=shared.whiteness(),
        gains={
            name: (gain, error if math.isfinite(error) else math.nan) for name, (gain, error) in gains.items()
        },
        variance_ratio=ratio,
        used=used,
    )
