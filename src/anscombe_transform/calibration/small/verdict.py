"""Reasons against a calibration of few pixels, in words."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from anscombe_transform.calibration.line.checks import curvature
from anscombe_transform.calibration.line.transfer import equal_groups
from anscombe_transform.calibration.line.verdict import judge_compression, judge_zero
from anscombe_transform.calibration.line.zero import ZeroLevel
from anscombe_transform.calibration.result.constants import GROUPS, T_QUANTILE
from anscombe_transform.calibration.result.sensitivity import Reason
from anscombe_transform.calibration.small.fits import Fit
from anscombe_transform.calibration.small.sums import Table
from anscombe_transform.calibration.thresholds import FEW_PIXELS, THRESHOLDS
from anscombe_transform.native.arrays import Bools, Floats

# Second differences over time that count for one independent sample.
_CORRELATION_OF_SECOND = 1.944

NO_CONTRAST = (
    "brightness hardly changes, neither between pixels nor over time, so its noise has no slope: record a "
    "scene with bright and dark parts, or give dark frames."
)


def judge(table: Table, fit: Fit, zero: ZeroLevel, live: Bools) -> Iterator[Reason]:
    """Yield reasons against the estimate."""
    samples, line = fit.samples, fit.line
    used = line.used
    low, high = np.quantile(line.instrument[used], [0.02, 0.98])
    contrast = line.gain * float(high - low) / max(float(np.average(line.variance[used])), 1e-30)
    error = math.hypot(fit.relative_error, fit.systematic)
    if THRESHOLDS["no_contrast"].severity(contrast):
        yield Reason("no_contrast", NO_CONTRAST, "refusal")
    precise = line.gain / fit.gain_error if fit.gain_error > 0 else -math.inf
    if THRESHOLDS["no_shot_noise"].severity(precise):
        yield Reason(
            "no_shot_noise",
            "the noise does not grow with brightness, so it is not photon noise: the recording is too short "
            "or too dark, or its noise was changed by processing.",
            "refusal",
        )
    elif imprecise := (
        THRESHOLDS["imprecise_gain"].severity(fit.relative_error)
        or FEW_PIXELS["imprecise_gain"].severity(error)
    ):
        yield Reason(
            "imprecise_gain",
            f"the gain is known to ± {100 * T_QUANTILE * error:.0f} % only; more frames, or more contrast, "
            "would help.",
            imprecise,
        )
    departure, significance = curvature(samples, line)
    if curved := THRESHOLDS["curved"].severity(departure, significance):
        yield Reason(
            "curved",
            f"variance against mean is bent ({100 * departure:.0f} % off a line): the signal is not linear "
            "in light, or something other than noise adds variance to the bright parts.",
            curved,
        )
    yield from judge_compression(departure, significance, zero)
    if structure := THRESHOLDS["mostly_structure"].severity(line.used_fraction):
        yield Reason(
            "mostly_structure",
            f"only {100 * line.used_fraction:.0f} % of the samples behave like noise; the rest moves or "
            "changes.",
            structure,
        )
    yield from _judge_frames(table, live)
    yield from _judge_neighbours(table)
    yield from judge_zero(zero, line.gain, float(high - low))


def _judge_frames(table: Table, live: Bools) -> Iterator[Reason]:
    """Yield findings about noise at two lags, and about the frames themselves."""
    if table.far is not None:
        ratio, error = _lag_ratio(table, live)
        if smoothed := FEW_PIXELS["lag_in_time"].severity(ratio, (1 - ratio) / max(error, 1e-9)):
            yield Reason(
                "correlated_in_time",
                "neighbouring frames share noise, or change too much from one to the next: the recording was "
                "averaged over a running window, filtered or denoised. Use the raw recording.",
                smoothed,
            )
    if table.duplicates:
        yield Reason(
            "duplicated_frames",
            f"{table.duplicates} of {table.frames} frames repeat the frame before and were left out.",
        )
    if table.not_finite:
        yield Reason("not_finite", f"{table.not_finite} samples are not finite and were left out.")


def _lag_ratio(table: Table, live: Bools) -> tuple[float, float]:
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


def _judge_neighbours(table: Table) -> Iterator[Reason]:
    """Yield that neighbouring pixels share noise, or oppose it."""
    least = _least_dimension(table.products, table.frames)
    if dependent := FEW_PIXELS["dependent_frames"].severity(least):
        yield Reason(
            "dependent_frames",
            "the noise of some pixels follows from that of others: the movie was rebuilt from a few "
            "components (PCA, SVD), denoised or interpolated. Use the raw recording.",
            dependent,
        )
    found = {}
    for axis, shared in table.shared.items():
        values = shared[np.isfinite(shared)]
        if len(values) >= 4:
            found[axis] = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values)) or math.inf
    if len(found) == 2 and all(
        FEW_PIXELS["correlated_in_space"].severity(mean, mean / error) for mean, error in found.values()
    ):
        yield Reason(
            "correlated_in_space",
            "neighbouring pixels share noise in both directions: the frames were smoothed, resampled or "
            "denoised. The slope is not the gain of the detector. Use the raw recording.",
            "refusal",
        )
        return
    for axis, (mean, error) in found.items():
        if FEW_PIXELS["correlated_along" if mean > 0 else "sharpened"].severity(abs(mean), mean / error):
            name = " yx"[axis]
            what = "share noise, as slow electronics, smoothing or interpolation make it"
            yield Reason(
                f"correlated_along_{name}" if mean > 0 else "sharpened",
                f"neighbouring pixels along {name} {what if mean > 0 else 'have opposed noise'}: the gain is "
                "an effective one, not signal per photon.",
                "caution",
            )


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
