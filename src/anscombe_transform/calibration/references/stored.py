"""Noise that storing has added to a movie: taken off, so that it gives the constants of its source.

A quantisation step of β standard deviations adds β²/12 of the noise variance to a continuous signal (Bennett
1948). Of a signal that has steps of its own, as integers have and photon counts of a detector without read
noise, a bin that holds k of them adds s² (k² − 1) / 12 with s the step: nothing where bins are narrower than
the step. So the variance is added where it is bright, and the slope rises by more than its mean.

β is known from the codec of a stored array, or the record that `compress` leaves in an array's attributes and
`decompress` hands on to the files that it writes.

References
----------
W. R. Bennett, "Spectra of quantized signals", Bell System Technical Journal 27 (1948) 446-472.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from anscombe_transform.calibration.result.sensitivity import Reason, Sensitivity
from anscombe_transform.codec.transform.curve import LARGEST_BETA, Curve
from anscombe_transform.native.arrays import Floats, library_of

# Name of the record in attributes and metadata.
_RECORD = "anscombe_transform"
# Records within records that are followed, of movies that were stored again and again.
_MOST_GENERATIONS = 16
# Frames whose values are looked at for steps of the signal's own, the lowest values that tell, and the share
# of all values that each has at least.
_FRAMES_OF_VALUES, _LOWEST_VALUES, _LEAST_SHARE = 3, 4, 1e-3
# Source values in a bin where it is dark, below which bins of one and of several alternate: their means are
# off, and the gain as well, by this part at the usual step and by an unknown one beyond that. Photon counts,
# whose steps are a photon wide if read noise is below a third of one, gave a gain 0 to 1 % high with steps of
# 0.5 standard deviations and 2 to 6 % with 1.
_FEW_IN_BIN, _UNEVEN_BINS, _USUAL_STEP = 3.0, 0.05, 0.6
_UNEVEN_COUNTS, _READ_NOISE_OF_COUNTS = 0.07, 1 / 3
# Most bins of a curve; a stored array has at most as many codes.
_MOST_BINS = 2**16


@dataclass(frozen=True)
class Storing:
    """How a movie was stored: the step in standard deviations of the noise, and its bins, lowest first.

    `low` and `high` are the ends of the source values that are stored as one; of integers both belong to it.
    """

    beta: float
    low: Floats
    high: Floats


def how_stored(movie: Any, found: Sensitivity) -> Storing | None:
    """How a movie was stored, from its codec, attributes or metadata; None where nothing says that it was.

    Parameters
    ----------
    movie : array_like or Movie
        No values are read.
    found : Sensitivity
        Estimate from its stored values, where a record names no constants.

    Returns
    -------
    Storing or None
        Of several generations the one with the largest step, since to store values with the same codec again
        changes none of them.
    """
    for codec in _codecs(movie):
        plan = getattr(codec, "plan", None)
        curve = getattr(plan, "curve", None)
        if plan is not None and curve is not None:
            low, high = (np.asarray(end, np.float64) for end in plan.bins)
            used = low <= high
            return Storing(float(curve.beta), low[used], high[used])
    records: list[Mapping[str, Any]] = []
    for name in ("metadata", "attrs"):
        held = getattr(movie, name, None)
        if held is not None and hasattr(held, "get"):
            records += _records(_record(held.get(_RECORD)), _MOST_GENERATIONS)
    if not records:
        return None
    record = max(records, key=lambda one: float(one["beta"]))
    return _of_curve(_curve_of(record, found), np.dtype(movie.dtype).kind in "iu", found)


def without_storing_noise(found: Sensitivity, movie: Any, frames: Any) -> Sensitivity:
    """The constants of the source of a stored movie, from those that its stored values show.

    `movie` may know how it was stored, `frames` the same as (time, y, x).
    """
    curve = found.transfer_curve
    if not math.isfinite(found.conversion_gain) or len(curve.mean) < 3:
        return found
    storing = how_stored(movie, found)
    if storing is None:
        return found
    added, in_bin, counts = _added_variance(storing, frames, curve.mean, curve.variance)
    weight = curve.count / np.maximum(curve.variance, 1e-300) ** 2
    slope, level = _line(curve.mean, added, weight)
    left = 1 - slope / found.conversion_gain
    if not 0.5 < left < 1.5:
        return found
    gain = found.conversion_gain * left
    # variance = g (m − x₀), of which slope · m + level was added.
    intercept = (found.conversion_gain * found.variance_intercept + level) / gain
    moved = intercept - found.variance_intercept
    zero = found.zero_level + (moved if found.zero_level_method == "variance intercept" else 0.0)
    low, high = found.conversion_gain_interval
    # What the steps of the source do to its bins is known to a part of it only.
    unsure = 0.25 * abs(slope)
    alternating = bool(in_bin.min() < _FEW_IN_BIN and in_bin.max() > 1.01)
    if storing.beta > _USUAL_STEP and not alternating:
        # Coarse bins don't show the steps of counts any more.
        alternating = counts = bool(found.read_noise < _READ_NOISE_OF_COUNTS * gain)
    if alternating:
        unsure = math.hypot(unsure, (_UNEVEN_COUNTS * storing.beta**2 if counts else _UNEVEN_BINS) * gain)
    half = math.hypot((high - low) / 2 * left, unsure)
    middle = (low + high) / 2 * left
    share = float(np.average(added / np.maximum(curve.variance - added, 1e-300), weights=curve.count))
    reason = Reason(
        "stored_before",
        f"these values were stored with a step of {storing.beta:g} standard deviations of the noise; the "
        f"{100 * share:.2g} % of its variance that this adds were taken off.",
    )
    if alternating and storing.beta > _USUAL_STEP:
        reason = Reason(
            "stored_coarsely",
            f"these values were stored with a step of {storing.beta:g} standard deviations of the noise, and "
            "a photon is few units: what that did to the noise is not known. Use the source.",
            "caution",
        )
    return replace(
        found,
        conversion_gain=gain,
        conversion_gain_interval=(middle - half, middle + half),
        variance_intercept=intercept,
        variance_intercept_interval=(
            found.variance_intercept_interval[0] + min(moved, 0.0),
            found.variance_intercept_interval[1] + max(moved, 0.0),
        ),
        zero_level=zero,
        zero_level_interval=(
            found.zero_level_interval[0] + min(moved, 0.0),
            found.zero_level_interval[1] + max(moved, 0.0),
        ),
        read_noise=math.sqrt(max(gain * (zero - intercept), 0.0)),
        transfer_curve=replace(curve, variance=np.maximum(curve.variance - added, 0.0)),
        reasons=(*found.reasons, reason),
        verdict="caution" if reason.severity == "caution" and found.verdict != "refused" else found.verdict,
    )


def _added_variance(
    storing: Storing, frames: Any, mean: Floats, variance: Floats
) -> tuple[Floats, Floats, bool]:
    """Variance that storing adds at means and variances, source values in a bin, and whether far apart."""
    whole_numbers = np.dtype(frames.dtype).kind in "iu"
    step, first = _steps_of_source(storing, frames)
    low, high = storing.low, storing.high
    step = step or float(whole_numbers)
    if step:
        count = np.floor((high - first) / step + 1e-6) - np.ceil((low - first) / step - 1e-6) + 1
        added = step**2 * np.maximum(np.square(count) - 1, 0) / 12
    else:
        count, added = high - low, np.square(high - low) / 12
    middle = (low + high) / 2
    weight = np.exp(-0.5 * np.square(middle - mean[:, None]) / np.maximum(variance, 1e-300)[:, None])
    weight = weight * np.maximum(count, 0)
    total = weight.sum(axis=1)
    safe = np.maximum(total, 1e-300)
    values = count if step else np.full_like(count, np.inf)  # of a continuous signal without end
    in_bin = np.where(total > 0, np.sum(weight * np.minimum(values, 1e9), axis=1) / safe, 1.0)
    return np.where(total > 0, (weight * added).sum(axis=1) / safe, 0.0), in_bin, step > 1


def _steps_of_source(storing: Storing, frames: Any) -> tuple[float, float]:
    """Step of the source's values and one of them, from bins that no value is in; 0 where all are used."""
    numbers = sorted({0, frames.shape[0] // 2, frames.shape[0] - 1})[:_FRAMES_OF_VALUES]
    values = np.concatenate([np.asarray(frames[k : k + 1]).ravel() for k in numbers])
    levels, counts = np.unique(values[np.isfinite(values)], return_counts=True)
    levels = levels[counts >= _LEAST_SHARE * counts.sum()].astype(np.float64)[:_LOWEST_VALUES]
    if len(levels) < 2:
        return 0.0, 0.0
    number = np.searchsorted(storing.low, levels, side="right")
    if not (np.diff(number)[:2] >= 2).all():
        return 0.0, float(levels[0])
    return float(np.median(np.diff(levels)[:2])), float(levels[0])


def _line(mean: Floats, values: Floats, weight: Floats) -> tuple[float, float]:
    """Slope and level at 0 of a weighted line of least squares."""
    middle = np.average(mean, weights=weight)
    away = mean - middle
    slope = float((weight * away * values).sum() / max(float((weight * away**2).sum()), 1e-300))
    return slope, float(np.average(values, weights=weight) - slope * middle)


def _curve_of(record: Mapping[str, Any], found: Sensitivity) -> Curve:
    """The curve that a record says values went through."""
    noted = _record(record.get("sensitivity"))
    try:
        gain, zero, noise = (float(noted[name]) for name in ("conversion_gain", "zero_level", "read_noise"))
        noise = noise if noted.get("method") == "known" or noise > gain / 2 else 0.0
        return Curve(gain, zero, noise, float(record["beta"]))
    except (KeyError, TypeError, ValueError):
        return Curve(found.conversion_gain, found.zero_level, 0.0, float(record["beta"]))


def _of_curve(curve: Curve, whole_numbers: bool, found: Sensitivity) -> Storing:
    """Bins of a curve over the brightness of a movie, one code wide."""
    mean, deviation = found.transfer_curve.mean, np.sqrt(np.maximum(found.transfer_curve.variance, 0))
    first, last = np.rint(curve.stabilize([(mean - 6 * deviation).min(), (mean + 6 * deviation).max()]))
    edges = curve.invert(np.arange(first, min(last, first + _MOST_BINS) + 2) - 0.5)
    if not whole_numbers:
        return Storing(curve.beta, edges[:-1], edges[1:])
    low, high = np.ceil(edges[:-1]), np.ceil(edges[1:]) - 1
    used = low <= high
    return Storing(curve.beta, low[used], high[used])


def _codecs(array: Any) -> Iterable[Any]:
    """Codecs of a zarr array of either format, those inside shards too."""
    if library_of(array) != "zarr":
        return
    held: list[Any] = []
    metadata = getattr(array, "metadata", None)
    for owner, name in ((metadata, "codecs"), (metadata, "filters"), (array, "filters")):
        try:
            held += list(getattr(owner, name, None) or ())
        except (TypeError, ValueError, NotImplementedError):
            continue
    while held:
        codec = held.pop(0)
        yield codec
        held += list(getattr(codec, "codecs", None) or ())


def _record(value: Any) -> Mapping[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return value if isinstance(value, Mapping) else {}


def _records(record: Mapping[str, Any], generations: int) -> list[Mapping[str, Any]]:
    """A record that names a step β, and those of the sources within it."""
    beta = record.get("beta")
    named = isinstance(beta, int | float) and not isinstance(beta, bool) and 0 < beta <= LARGEST_BETA
    found = [record] if named else []
    # An empty record holds nothing: to look into two at every level would double the work with each.
    if generations and record:
        source = _record(record.get("source"))
        for inner in (record.get(_RECORD), _record(source.get("metadata")).get(_RECORD)):
            found += _records(_record(inner), generations - 1)
    return found
