"""Agreement of a detector's constants with a movie: measured noise variance over that of the constants.

Constants of a data sheet, of another file, or typed by hand may be wrong by any factor, and nothing in the
stored values would show it: every error stays within a bound that is made of the same constants. The movie
shows it. Of pixels of mean m, the constants say that the noise has the variance

    v(m) = conversion_gain · (m − variance_intercept),

and the differences of neighbouring frames measure it. Where the ratio is 1, the constants agree with the
movie. A codec made of constants that imply too much noise takes steps that are too coarse: it loses more than
the noise would have hidden, by the square root of the ratio.

The noise is measured by one of two ways:

- By the calibration itself, where it succeeds: its photon transfer curve holds the noise variance of samples
  that motion, activity, saturation and defective pixels leave alone. It also gives the gain, which is
  compared by itself: under strong read noise a wrong gain changes the variance little. And it gives the
  variance near the darkest and the brightest samples, where a line that crosses that of the constants at the
  median brightness differs most.
- Where the calibration finds no line (a scene of one brightness, small frames, motion everywhere), by
  differences in time, and in time and space. The first are never below the noise, since motion and activity
  only add to them; the second never above it by as much. Both together bracket the noise. Brightness is not
  distinguished: an offset that varies over the field would look like a wrong zero level.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.calibration.result.agreement import (
    Agreement,
    AgreementVerdict,
    ConstantsMismatch,
    Interval,
)
from anscombe_transform.calibration.result.sensitivity import Reason, Sensitivity, UntrustworthyCalibration
from anscombe_transform.calibration.sums.interleaved import interleaving_of
from anscombe_transform.native.arrays import Floats

_log = logging.getLogger(__name__)


_NAN = math.nan
_UNKNOWN: Interval = (_NAN, _NAN)


@dataclass(frozen=True)
class Limits:
    """The numbers that decide about agreement.

    Attributes
    ----------
    tolerated : float
        Ratio of variances, either way, up to which constants agree. 1.15 is 7 % of the noise's standard
        deviation, three times the error of calibrating a hard movie.
    contradicted : float
        The same from which on they contradict, if the whole 95 % interval is beyond `tolerated`. A gain wrong
        by 1.3 must be beyond it.
    structured : float
        Ratio of the noise by differences in time to that by differences in time and space from which on
        motion or activity is in the former.
    imprecise : float
        Ratio of the ends of the 95 % interval to the factor from which on agreement can't be said.
    enormous : float
        Ratio of the upper to the lower end of the 95 % interval from which on contradiction can't either.
    precise : float
        The same from which on a second way of measuring is tried.
    least_share : float
        Part of the samples that must be left where saturated ones are left out.
    most_cut : float
        Part of a block's samples at the lowest or highest value from which on the block is cut off.
    zeros : float
        Relative difference from Poisson's distribution up to which samples at the lowest value are those
        without a photon.
    sampling : float
        Relative standard error of a block of one residual, for normal noise: √2, with 1.94 for the
        autocorrelation of the residuals of [1, −2, 1] along each axis.
    """

    tolerated: float = 1.15
    contradicted: float = 1.2
    structured: float = 1.1
    imprecise: float = 1.5
    enormous: float = 10.0
    precise: float = 1.1
    least_share: float = 0.05
    most_cut: float = 0.005
    zeros: float = 0.2
    sampling: float = math.sqrt(2 * 1.944)


LIMITS = Limits()

# Rows of the calibration's table that tell the noise to a percent; the calibration itself reads many times
# as many. In frames: segments of 24, of which each tile of 8 × 8 pixels makes 8 rows.
_ROWS, _ROWS_OF_TILE, _FEWEST_FRAMES = 20_000, 8, 96
# Of large frames, whose tiles would make many more rows, squares of so many pixels are looked at.
_SQUARE = 64
# Values read where the calibration finds no line, in runs of so many frames.
_MOST_VALUES, _RUN = 8_000_000, 24
# Values of a run, which bound the memory: 8 bytes each, and as many again for each kind of difference.
_RUN_VALUES = 200_000
# Side of the blocks in which their noise is averaged, and groups of brightness.
_BLOCK, _GROUPS = 8, 16
# Bytes of frames of one plane that are read where planes take turns.
_TURN_BYTES = 64 << 20
# Residuals in time and space are fewer in effect: by 1.944 along each axis, and those of edges count twice.
_INNER = 2.5
# Two-sided 95 % quantile of a normal distribution.
_Z = 1.96
# A ratio that is not finite, as of noise where the constants allow none, counts as this.
_LARGEST = 1e6


def measure_agreement(
    movie: Any,
    sensitivity: Sensitivity,
    *,
    codec: Any = None,
    mask: Any = None,
    measured: Sensitivity | None = None,
) -> Agreement:
    """Measure how far the noise of a movie is from that of given constants.

    Parameters
    ----------
    movie : array_like, shape (time, y, x)
        Anything that `compute_sensitivity` takes, of any size.
    sensitivity : Sensitivity
        The constants.
    codec : AnscombeTransformV2 or AnscombeTransformV3, optional
        A codec to check as well: the noise of its codes should not depend on brightness. It must hold the
        movie's values.
    mask : array_like of bool, shape (y, x), optional
        True where pixels may be used.
    measured : Sensitivity, optional
        A calibration of this movie, where there is one: it is not made again.

    Returns
    -------
    Agreement

    Raises
    ------
    UntrustworthyCalibration
        `sensitivity` is a refused calibration, which has no constants.
    """
    if not (math.isfinite(sensitivity.conversion_gain) and math.isfinite(sensitivity.variance_intercept)):
        raise UntrustworthyCalibration(sensitivity)
    if movie.shape[0] < 2:
        return Agreement(
            verdict="unchecked",
            message="noise is what differs between frames, and this is a single one: the constants cannot be "
            "checked.",
        )
    found = _calibrated(movie, mask) if measured is None else measured
    if found is not None and any(reason.code == "alternating_frames" for reason in found.reasons):
        turns = interleaving_of(movie, mask)
        if turns is not None:
            # Neighbours show different scenes: the noise is between frames of one plane or channel.
            movie = _one_in_turn(movie, turns.period)
            found = _calibrated(movie, mask)
    if found is not None and found.verdict != "refused" and found.transfer_curve.mean.size:
        agreement = agreement_with_calibration(sensitivity, found)
        if agreement.verdict != "contradicts" and not _precise(agreement):
            # Of a small field, the level of the noise is known far better than the gain.
            level = _agreement_by_differences(movie, sensitivity, mask)
            agreement = level if _precise(level) and not level.structured else agreement
    else:
        agreement = _agreement_by_differences(movie, sensitivity, mask)
    if codec is None:
        return agreement
    mean, ratio = _code_noise(movie, codec.plan, mask)
    return replace(agreement, code_mean=mean, code_ratio=ratio)


def require_agreement(
    movie: Any, sensitivity: Sensitivity, *, measured: bool, accept_mismatch: bool
) -> Agreement:
    """Compare constants with the movie that they are for; stop where they contradict it, unless accepted.

    Parameters
    ----------
    movie, sensitivity
        As for `measure_agreement`.
    measured : bool
        Whether the constants are this movie's own calibration.
    accept_mismatch : bool
        Go on where they contradict it; a warning is logged.

    Raises
    ------
    ConstantsMismatch
    """
    agreement = measure_agreement(movie, sensitivity, measured=sensitivity if measured else None)
    if agreement.verdict == "contradicts" and not accept_mismatch:
        raise ConstantsMismatch(agreement)
    if agreement.verdict != "agrees":
        _log.warning("%s", agreement)
    return agreement


def _one_in_turn(movie: Any, period: int) -> NDArray[Any]:
    """Frames of the first of several planes that take turns, as many as fit in `_TURN_BYTES`."""
    frame_bytes = math.prod(movie.shape[1:]) * np.dtype(movie.dtype).itemsize
    most = max(_FEWEST_FRAMES, _TURN_BYTES // max(frame_bytes, 1))
    numbers = range(0, movie.shape[0], period)[:most]
    frames = np.empty((len(numbers), *movie.shape[1:]), movie.dtype)
    for frame, number in zip(frames, numbers, strict=True):
        frame[...] = np.asarray(movie[number : number + 1])[0]
    return frames


def _precise(agreement: Agreement) -> bool:
    """Whether the interval of the factor is narrow enough to see a gain that is wrong by 1.3."""
    low, high = agreement.factor_interval
    return bool(high < LIMITS.precise * agreement.factor and agreement.factor < LIMITS.precise * low)


def _calibrated(movie: Any, mask: Any) -> Sensitivity | None:
    """The movie's own calibration, from fewer frames than usual; None where its shape allows none."""
    from anscombe_transform.calibration.compute import compute_sensitivity

    tiles = max(1, ((movie.shape[1] - 2) // _BLOCK) * ((movie.shape[2] - 2) // _BLOCK))
    frames = max(_FEWEST_FRAMES, _RUN * math.ceil(_ROWS / (_ROWS_OF_TILE * tiles)))
    squares = _squares(movie.shape[1:]) if mask is None else mask
    try:
        # Where there is no line, its sums may be empty.
        with np.errstate(all="ignore"):
            found = compute_sensitivity(movie, mask=squares, max_frames=frames, on_refusal="return")
            if found.verdict == "refused" and squares is not mask:
                found = compute_sensitivity(movie, max_frames=frames, on_refusal="return")
    except ValueError:
        return None
    return found


def _squares(shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    """Squares of pixels from all over a large frame, as many as make the rows that are needed; else None.

    They lie on a lattice with shifted rows, so that no column of the field is left out.
    """
    rows = (shape[0] // _BLOCK) * (shape[1] // _BLOCK) * _ROWS_OF_TILE * (_FEWEST_FRAMES // _RUN)
    every = rows // (2 * _ROWS)
    if every < 2:
        return None
    y, x = (np.arange(length) // _SQUARE for length in shape)
    shift = max(1, round(every * 0.382))
    return np.asarray((shift * y[:, None] + x) % every == 0)


def sensitivity_with_agreement(sensitivity: Sensitivity, agreement: Agreement) -> Sensitivity:
    """The constants after comparison with a movie: contradicted or unconfirmed ones are not trustworthy."""
    if agreement.verdict == "agrees":
        return sensitivity
    if agreement.verdict == "contradicts":
        reason = Reason("contradicts_movie", agreement.message, "caution")
        return replace(sensitivity, verdict="caution", reasons=(*sensitivity.reasons, reason))
    code = "differs_from_movie" if agreement.verdict == "differs" else "not_checked"
    verdict = sensitivity.verdict
    if agreement.verdict == "unchecked" and verdict == "trustworthy":
        verdict = "given"
    reasons = (*sensitivity.reasons, Reason(code, agreement.message))
    return replace(sensitivity, verdict=verdict, reasons=reasons)


# --- by the calibration -------------------------------------------------------------------------------------


def agreement_with_calibration(sensitivity: Sensitivity, found: Sensitivity) -> Agreement:
    """Compare constants with a calibration of the movie, `found`, that was not refused."""
    curve = found.transfer_curve
    expected = _expected_variance(sensitivity, curve.mean)
    ratio = _ratio(curve.variance, expected)
    error = _ratio(curve.standard_error, expected)
    low, high = found.conversion_gain_interval
    spread = (high - low) / 2 / found.conversion_gain if found.conversion_gain > 0 else math.inf
    factor = _weighted_median(ratio, curve.count)
    by_chance = 1.25 / math.sqrt(float(np.sum(np.minimum(ratio / np.maximum(error, 1e-12), 1e6) ** 2)))
    half = math.hypot(_Z * by_chance, spread)
    gain_factor = found.conversion_gain / sensitivity.conversion_gain
    return _judged(
        sensitivity,
        by_brightness=_ends_of_line(sensitivity, found, half),
        factor=factor,
        factor_interval=(factor * math.exp(-half), factor * math.exp(half)),
        gain_factor=gain_factor,
        gain_factor_interval=(low / sensitivity.conversion_gain, high / sensitivity.conversion_gain),
        mean=_floats(curve.mean),
        ratio=_floats(ratio),
        ratio_error=_floats(error),
        found=found,
    )


def _ends_of_line(sensitivity: Sensitivity, found: Sensitivity, half: float) -> list[_AtBrightness]:
    """Fitted over expected variance near the darkest and the brightest samples.

    A line of another slope and another zero level may cross that of the constants at the median brightness.
    Value and slope of a fitted line are independent at the weighted mean of its points, so that at a
    distance d from there the errors of the level, `half` as a part of the variance, and of the slope, times
    d, add in squares. Below the variance of one photon the lines are not compared: there a fraction of a
    photon changes the variance by a factor, and loses nothing.
    """
    curve = found.transfer_curve
    low, high = found.conversion_gain_interval
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = np.nan_to_num(1 / np.square(curve.standard_error), posinf=0.0)
    if not weight.sum() > 0 or not curve.count.sum() > 0:
        return []
    middle = float(np.average(curve.mean, weights=weight))
    share = np.cumsum(curve.count) / curve.count.sum()
    ends = np.interp([LIMITS.least_share, 1 - LIMITS.least_share], share, curve.mean)
    ends = np.maximum(ends, found.variance_intercept + found.conversion_gain)
    fitted = found.conversion_gain * (ends - found.variance_intercept)
    ratio = _ratio(fitted, _expected_variance(sensitivity, ends))
    judged = []
    for mean, variance, value in zip(ends.tolist(), fitted.tolist(), ratio.tolist(), strict=True):
        if variance > 0:
            relative = math.hypot(half, (high - low) / 2 * (mean - middle) / variance)
            judged.append(
                _AtBrightness(mean, value, (value * math.exp(-relative), value * math.exp(relative)))
            )
    return judged


# --- by differences -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Blocks:
    """Mean signal, variance by differences in time, and in time and space, of blocks of pixels."""

    mean: Floats
    in_time: Floats
    in_space: Floats
    residuals: Floats


def _agreement_by_differences(movie: Any, sensitivity: Sensitivity, mask: Any) -> Agreement:
    blocks = _blocks(movie, mask, lambda frames: frames)
    if isinstance(blocks, str):
        return Agreement(verdict="unchecked", message=f"{blocks}: the constants cannot be checked.")
    expected = _expected_variance(sensitivity, blocks.mean)
    in_time, in_space = _ratio(blocks.in_time, expected), _ratio(blocks.in_space, expected)
    above, below = _median(in_time, blocks.residuals), _median(in_space, blocks.residuals)
    by_chance, in_space_by_chance = (_error_of_median(v, blocks.residuals) for v in (in_time, in_space))
    surely = math.exp(3 * math.hypot(by_chance, _INNER * in_space_by_chance))
    structured = above > max(LIMITS.structured, surely) * below
    if not structured:
        below = above
    half = _Z * by_chance
    mean, ratio, error = _by_brightness(blocks.mean, in_space if structured else in_time, blocks.residuals)
    return _judged(
        sensitivity,
        factor=below,
        factor_interval=(below * math.exp(-half), above * math.exp(half)),
        mean=mean,
        ratio=ratio,
        ratio_error=error,
        structured=structured,
    )


def _code_noise(movie: Any, plan: Any, mask: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean signal of groups of pixels, and their codes' noise over 1/β² + 1/12, by differences."""
    codes = _blocks(movie, mask, lambda frames: plan.encode(frames).astype(np.float64))
    if isinstance(codes, str):
        return (), ()
    ratio = codes.in_time / (1 / plan.curve.beta**2 + 1 / 12)
    mean, ratios, _ = _by_brightness(codes.mean, ratio, codes.residuals)
    values = plan.decode(np.rint(mean).astype(plan.encoded_dtype)).astype(np.float64)
    return _floats(values), ratios


def _blocks(movie: Any, mask: Any, value_of: Callable[[Any], Any]) -> _Blocks | str:
    """Blocks of pixels of runs of frames spread over the movie; why there are none, where there are none."""
    kept: list[Floats] = []
    wanted = None if mask is None else np.asarray(mask)
    lowest, highest, same = math.inf, -math.inf, False
    for run, rows in _runs(movie):
        values = np.asarray(value_of(run), np.float64)
        finite = values[np.isfinite(values)]
        if not finite.size:
            continue
        lowest, highest = min(lowest, float(finite.min())), max(highest, float(finite.max()))
        distinct = [True, *(not np.array_equal(a, b) for a, b in zip(values[1:], values, strict=False))]
        values = values[np.array(distinct)]
        if len(values) < 2:
            same = True
            continue
        kept.append(_block_rows(values, None if wanted is None else wanted[rows]))
    if not lowest < highest:
        return "every sample has the same value" if same else "no sample of this movie is a finite number"
    if not kept:
        return "all frames are identical"
    mean, in_time, in_space, residuals, low, high, least, most = np.concatenate(kept, axis=1)
    # Where a run does not reach the movie's ends, none of its samples is cut off.
    low, high = low * (least == lowest), high * (most == highest)
    fine = np.isfinite(mean) & np.isfinite(in_time) & (residuals > 0)
    if not fine.any():
        return "no part of this movie is free of NaN and infinite samples"
    cut = (high > LIMITS.most_cut) | ((low > LIMITS.most_cut) & ~_counts_zero(mean, in_time, low, lowest))
    if np.count_nonzero(fine & ~cut) < LIMITS.least_share * np.count_nonzero(fine):
        return "the signal is cut off, or saturated, nearly everywhere"
    fine &= ~cut
    return _Blocks(mean[fine], in_time[fine], in_space[fine], residuals[fine])


def _runs(movie: Any) -> Iterator[tuple[NDArray[Any], slice]]:
    """Runs of successive frames spread over the movie, and their rows; of large frames, bands in turn."""
    frames, height, width = movie.shape
    rows = int(max(1, min(height, _RUN_VALUES // max(1, 3 * width))))
    length = int(max(2, min(_RUN, frames, _RUN_VALUES // max(1, rows * width))))
    count = int(max(1, min(frames // length, _MOST_VALUES // max(1, length * rows * width))))
    for number, start in enumerate(np.unique(np.linspace(0, frames - length, count).astype(int)).tolist()):
        top = (number * rows) % (height - rows + 1)
        band = slice(top, top + rows)
        yield np.asarray(movie[start : start + length, band]), band


def _block_rows(run: Floats, wanted: Any) -> Floats:
    """Rows (mean, variance in time, in time and space, residuals, share at either end, ends) by block."""
    lowest, highest = np.nanmin(run), np.nanmax(run)
    second = len(run) >= 3
    # Normalised to the variance of one sample: 1 + 4 + 1, or 1 + 1.
    in_time = np.diff(run, 2 if second else 1, axis=0) / math.sqrt(6 if second else 2)
    in_space = in_time
    for axis in (1, 2):
        if run.shape[axis] >= 3:
            inner = np.diff(in_space, 2, axis=axis) / math.sqrt(6)
            in_space = _padded(inner, axis)
    usable = np.ones(run.shape[1:], bool) if wanted is None else wanted
    shape = run.shape[1:]
    # The place of a pixel's block; small frames have a block for each of their pixels.
    side = _BLOCK if min(shape) >= 2 * _BLOCK else 1
    y, x = np.indices(shape) // side
    label = (y * (-(-shape[1] // side)) + x)[usable]
    blocks = int(label.max()) + 1

    def average(values: Floats) -> Floats:
        return np.asarray(np.bincount(label, values[usable], blocks) / np.bincount(label, minlength=blocks))

    with np.errstate(invalid="ignore", divide="ignore"):
        rows = [
            average(run.mean(axis=0)),
            average(np.square(in_time).mean(axis=0)),
            average(np.square(in_space).mean(axis=0)),
            np.bincount(label, minlength=blocks) * float(len(in_time)),
            average((run == lowest).mean(axis=0)),
            average((run == highest).mean(axis=0)),
            np.full(blocks, lowest),
            np.full(blocks, highest),
        ]
    return np.stack(rows)


def _padded(inner: Floats, axis: int) -> Floats:
    """Residuals along an axis with those of the edge repeated, so that all arrays have one shape."""
    width = [(0, 0)] * 3
    width[axis] = (1, 1)
    return np.pad(inner, width, mode="edge")


def _counts_zero(mean: Floats, variance: Floats, low: Floats, lowest: float) -> NDArray[np.bool_]:
    """Blocks with as many samples at the lowest value as pixels without a photon by Poisson's distribution.

    Of that, the mean squared over the variance is the number of photons at any gain.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        none = np.exp(-np.square(mean - lowest) / variance)
    return np.asarray((np.abs(low - none) < LIMITS.zeros * none) | (variance == 0), np.bool_)


# --- the verdict --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _AtBrightness:
    """Measured over expected variance at a mean signal, with its 95 % interval."""

    mean: float
    ratio: float
    interval: Interval

    @property
    def level(self) -> int:
        """As of `_level`."""
        return _level(self.ratio, self.interval)


def _judged(
    sensitivity: Sensitivity,
    *,
    by_brightness: Sequence[_AtBrightness] = (),
    found: Sensitivity | None = None,
    **measured: Any,
) -> Agreement:
    """The verdict on the measurement, in words."""
    factor, factor_interval = measured["factor"], measured["factor_interval"]
    gain_factor = measured.get("gain_factor", _NAN)
    parts = [
        f"the measured noise variance is {factor:.3g} times that of the constants (95 % interval "
        f"{factor_interval[0]:.3g} to {factor_interval[1]:.3g})."
    ]
    noise = _level(factor, factor_interval)
    # Motion may explain more noise than there should be; nothing explains less.
    if measured.get("structured") and factor > 1:
        noise = min(noise, 1)
        parts.append("Motion or activity may have added to it.")
    gain = _level(gain_factor, measured["gain_factor_interval"]) if math.isfinite(gain_factor) else 0
    if gain:
        parts.append(
            f"This movie shows a gain of {gain_factor * sensitivity.conversion_gain:.4g}, the constants "
            f"say {sensitivity.conversion_gain:.4g}."
        )
    worst = max(by_brightness, key=lambda at: (at.level, abs(math.log(at.ratio))), default=None)
    if worst is not None and worst.level > max(noise, gain):
        noise, factor = worst.level, worst.ratio
        parts.append(
            f"At a signal of {worst.mean:.4g} it is {factor:.3g} times that of the constants "
            f"({worst.interval[0]:.3g} to {worst.interval[1]:.3g})."
        )
    if noise and not gain and found is not None:
        missing = sensitivity.conversion_gain * (sensitivity.variance_intercept - found.variance_intercept)
        if factor <= 1:
            parts.append(
                "The gain agrees; the zero level, or the read noise, does not: this movie's noise vanishes "
                f"at {found.variance_intercept:.4g}, that of the constants at "
                f"{sensitivity.variance_intercept:.4g}."
            )
        elif sensitivity.method == "known" and sensitivity.read_noise == 0 and missing > 0:
            # The gain agrees and the rest is a constant that was left out, which makes codes too fine.
            noise = 1
            parts.append(f"A read noise of {math.sqrt(missing):.3g}, which was not given, would explain it.")
    verdict: AgreementVerdict = ("agrees", "differs", "contradicts")[max(noise, gain)]
    low, high = factor_interval
    precise = measured["factor"] < LIMITS.imprecise * low and high < LIMITS.imprecise * measured["factor"]
    if verdict != "contradicts" and not precise:
        verdict = "unchecked"
        parts.append("That is too imprecise to check the constants: it takes more frames or pixels.")
    return Agreement(verdict=verdict, message=" ".join(parts), **measured)


def _level(factor: float, interval: Interval) -> int:
    """0 where a factor agrees with 1, 1 where it differs, 2 where it contradicts.

    An interval that holds 1, that is enormous, or that is unknown is held against nothing.
    """
    low, high = interval
    known = 0 <= low <= high < math.inf and high < LIMITS.enormous * low
    if not known or low <= 1 <= high:
        return 0
    away = max(factor, 1 / max(factor, 1 / _LARGEST))
    # The end of the interval that is nearer to 1, as far away.
    nearest = interval[0] if factor > 1 else 1 / max(interval[1], 1 / _LARGEST)
    if away > LIMITS.contradicted and nearest > LIMITS.tolerated:
        return 2
    return int(away > LIMITS.tolerated and nearest > 1)


def _expected_variance(sensitivity: Sensitivity, mean: Floats) -> Floats:
    """Variance at a mean by the constants; that of darkness below it."""
    dark = sensitivity.conversion_gain * (sensitivity.zero_level - sensitivity.variance_intercept)
    return np.maximum(sensitivity.conversion_gain * (mean - sensitivity.variance_intercept), max(dark, 0.0))


def _ratio(measured: Floats, expected: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(expected > 0, measured / np.maximum(expected, 1e-300), _LARGEST)
    return np.asarray(np.clip(ratio, 0, _LARGEST))


def _weighted_median(values: Floats, weight: Floats) -> float:
    order = np.argsort(values)
    share = np.cumsum(weight[order]) - weight[order] / 2
    return float(np.interp(weight.sum() / 2, share, values[order]))


def _median(ratio: Floats, residuals: Floats) -> float:
    """Median of the blocks, corrected for the skewness of a variance of few residuals."""
    freedom = max(float(np.median(residuals)) / (LIMITS.sampling**2 / 2), 1.0)
    return float(np.median(ratio)) / (1 - 2 / (9 * freedom)) ** 3


def _error_of_median(ratio: Floats, residuals: Floats) -> float:
    """Relative standard error of the median of the blocks."""
    scatter = (
        1.4826 * float(np.median(np.abs(ratio - np.median(ratio)))) / max(float(np.median(ratio)), 1e-12)
    )
    least = LIMITS.sampling / math.sqrt(max(float(np.median(residuals)), 1.0))
    return 1.25 * max(min(scatter, 1.0), least) / math.sqrt(len(ratio))


def _by_brightness(
    mean: Floats, ratio: Floats, residuals: Floats
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Mean signal, median ratio and its error of groups of blocks of as many."""
    order = np.argsort(mean)
    groups = np.array_split(order, max(1, min(_GROUPS, len(order) // 4)))
    return (
        tuple(float(mean[group].mean()) for group in groups),
        tuple(_median(ratio[group], residuals[group]) for group in groups),
        tuple(
            _median(ratio[group], residuals[group]) * _error_of_median(ratio[group], residuals[group])
            for group in groups
        ),
    )


def _floats(values: Floats) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


Sensitivity._measure_agreement = staticmethod(measure_agreement)
