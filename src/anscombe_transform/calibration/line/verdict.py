"""The verdict: reasons against a calibration, in sentences for the person at the microscope."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from anscombe_transform.calibration.line.checks import (
    GainOverField,
    curvature,
    slope_within_tiles,
    tile_scatter,
)
from anscombe_transform.calibration.line.stages import offsets_against_light
from anscombe_transform.calibration.line.transfer import Line, Samples, jackknife_error
from anscombe_transform.calibration.line.zero import CAUTION, ZeroLevel
from anscombe_transform.calibration.result.constants import T_QUANTILE
from anscombe_transform.calibration.result.sensitivity import Reason
from anscombe_transform.calibration.sums.shared import Excess, SharedNoise, normal_deviate
from anscombe_transform.calibration.sums.statistics import Filter, NoiseStatistics
from anscombe_transform.calibration.thresholds import THRESHOLDS, Severity

# How far the strong filters may differ among themselves where frames were sharpened, as a part of what they
# see more than the weakest.
_SHARPER_APART = 0.5
# Part of the noise shared with eight neighbours that either axis must show: smoothing shares a quarter and
# more along either; noise along one axis, of cells that move a little along the other, does not.
_EITHER_AXIS = 0.15
# Departure from the line, as a part of the variance, below which a bend changes no figure that anybody uses,
# and standard errors that the bend and the missing skewness must each have.
_LEAST_BEND, _EITHER = 0.01, 1.0


def judge(
    samples: Samples,
    line: Line,
    zero: ZeroLevel,
    field: GainOverField,
    shared: SharedNoise,
    *,
    moves: bool,
) -> Iterator[Reason]:
    """Yield reasons against the estimate.

    `moves` says that the weakest filter sees more than noise, correlated or not.
    """
    used = line.used
    gain, error = line.gain, line.gain_error
    low, high = np.quantile(line.instrument[used], [0.02, 0.98])
    shot_share = gain * float(high - low) / max(float(np.median(samples.y[used])), 1e-30)
    limits = THRESHOLDS
    if limits["no_shot_noise"].severity(gain / error if error > 0 else -math.inf):
        yield Reason(
            "no_shot_noise",
            "the noise does not grow with brightness, so it is not photon noise: "
            "the recording is too dark, or its noise was changed by processing.",
            "refusal",
        )
    elif limits["imprecise_gain"].severity(error / gain):
        yield Reason(
            "imprecise_gain",
            f"the gain is known to ± {100 * T_QUANTILE * error / gain:.0f} % only; "
            "more frames, or a scene with bright and dark parts, would help.",
            "refusal",
        )
    if limits["no_contrast"].severity(shot_share):
        yield Reason(
            "no_contrast",
            "bright and dark pixels have nearly the same noise: the scene has too little contrast, "
            "or the noise is not that of photons.",
            "refusal",
        )
    departure, significance = curvature(samples, line)
    if severity := limits["curved"].severity(departure, significance):
        yield Reason(
            "curved",
            f"variance against mean is bent ({100 * departure:.0f} % off a line): "
            "the signal is not linear in light, "
            "or something other than noise adds variance to the bright parts.",
            severity,
        )
    yield from judge_compression(departure, significance, zero)
    scatter = tile_scatter(samples, line)
    if severity := limits["scattered"].severity(scatter):
        yield Reason(
            "scattered",
            f"places of equal brightness differ in noise by {100 * scatter:.0f} %: gain or noise "
            "varies over the field, or the movie was processed.",
            severity,
        )
    if severity := limits["uneven_gain"].severity(field.spread, math.sqrt(max(field.significance, 0))):
        yield Reason(
            "uneven_gain",
            f"the gain varies by {100 * field.spread:.0f} % over the field, as with a resonant scanner, "
            "several amplifiers or after flat-field correction; the gain given is the mean over the field.",
            severity,
        )
    unsteady, chance = shared.unsteadiness(gain, line.x0)
    if limits["unsteady_gain"].severity(unsteady, normal_deviate(chance)):
        yield Reason(
            "unsteady_gain",
            f"the noise varies by {100 * unsteady:.0f} % from moment to moment where brightness does not: "
            "the gain was changed during the recording, or frames were scaled by themselves. "
            "Calibrate parts of one gain, or the raw recording.",
            "caution",
        )
    within, significance = slope_within_tiles(samples, line)
    # What the parabola leaves of an uneven gain makes regions differ too.
    tolerated = abs(within - 1) <= 0.6 * field.spread * field.uneven
    if not tolerated and limits["slope_within_tiles"].severity(abs(within - 1), significance):
        yield Reason(
            "slope_within_tiles",
            f"inside small regions noise grows with brightness {within:.2f} times as fast as from region to "
            "region: the frames were processed (background taken off, normalised, denoised or compressed), "
            "or gain or offset vary over the field.",
            "caution",
        )
    if samples.level is not None:
        yield Reason(
            "offsets_wander",
            "the zero level wanders over the field, so the gain was read within regions of 8 × 8 pixels, "
            "less surely. Subtract the mean of dark frames pixel by pixel, if there are any.",
            "caution",
        )
    r, deviate = offsets_against_light(samples, line)
    if limits["background_taken_off"].severity(r, deviate):
        yield Reason(
            "background_taken_off",
            "the zero level is lower where the scene is brighter: a background was taken off, or the frames "
            "were normalised by regions. Use the raw recording.",
            "caution",
        )
    yield from judge_correlation(shared, moves=moves)
    if severity := limits["mostly_structure"].severity(line.used_fraction):
        yield Reason(
            "mostly_structure",
            f"only {100 * line.used_fraction:.0f} % of the field behaves like noise; "
            "the rest moves or changes.",
            severity,
        )
    yield from judge_zero(zero, gain, float(high - low))


def judge_compression(departure: float, significance: float, zero: ZeroLevel) -> Iterator[Reason]:
    """Yield that values were compressed: a square root, a gamma curve, a logarithm.

    Such a curve flattens where it is bright, which bends variance against mean downwards, and reduces the
    skewness of the noise; no detector has less than photons (ρ₃ = 1). Motion does neither.
    """
    excess, error = zero.excess
    missing = (1 - excess) / (CAUTION * error) if error > 0 else 0.0
    bent = -significance if departure > _LEAST_BEND else 0.0
    # Either alone has rules of its own.
    if not (missing > _EITHER and bent > _EITHER):
        return
    if THRESHOLDS["compressed_signal"].severity(math.hypot(missing, bent)):
        yield Reason(
            "compressed_signal",
            f"the noise is less skewed than that of photons (ρ₃ = {excess:.2f} ± {error:.2f}, 1 or more "
            "expected) and its variance rises less than in proportion to the signal: the values went through "
            "a square root, a gamma curve or the like, or the detector is not linear. Use the raw recording.",
            "caution",
        )


def judge_correlation(shared: SharedNoise, *, moves: bool) -> Iterator[Reason]:
    """Yield that neighbouring frames or pixels share noise, which motion may feign where the scene moves."""
    lingering = shared.lingering()
    in_time = _severity("correlated_in_time", lingering)
    if in_time == "refusal":
        yield Reason(
            "correlated_in_time",
            "neighbouring frames share noise: the movie was averaged over a running window, filtered or "
            "denoised before it was saved. Use the raw recording.",
            "refusal",
        )
    elif in_time:
        yield Reason(
            "correlated_in_time",
            f"neighbouring frames seem to share a little noise{_cost(lingering)}: the movie was filtered "
            "in time or its frame rate changed, or the detector remembers the frame before. "
            "The slope may not be the gain of the detector.",
            "caution",
        )
    following = THRESHOLDS["dependent_frames"].severity(shared.dimensions)
    if following and in_time != "refusal":
        yield Reason(
            "dependent_frames",
            "some frames follow from the others, in part at least: the movie was rebuilt from a few "
            "components (PCA, SVD), frames were interpolated or filtered in time, or it was compressed as "
            "video. Use the raw recording.",
            following,
        )
    smoothing = shared.smoothing()
    # What runs along one axis alone is no smoothing, however strong.
    weaker = min(shared.along("x").value, shared.along("y").value)
    rule = "correlated_where_moving" if moves else "correlated_in_space"
    both = weaker > _EITHER_AXIS * smoothing.value and _severity(rule, smoothing)
    if both == "refusal":
        yield Reason(
            "correlated_in_space",
            "neighbouring pixels share noise in both directions: the frames were smoothed, resampled or "
            "denoised. The slope is not the gain of the detector. Use the raw recording.",
            "refusal",
        )
        return
    # Where the scene moves, neighbours along an axis share what moves.
    for axis in "" if moves else "yx":
        noise = shared.along(axis)
        if _severity("correlated_along", noise):
            yield Reason(
                "correlated_along_" + axis,
                f"neighbouring pixels along {axis} share noise{_cost(noise)}, as slow electronics make it: "
                "the gain is an effective one, not signal per photon.",
                "caution",
            )
    if both:
        yield Reason(
            "correlated_in_space",
            f"neighbouring pixels share a little noise in both directions{_cost(smoothing)}, "
            "as after resizing, registration or denoising: the slope may not be the gain of the detector.",
            "caution",
        )


def _severity(code: str, noise: Excess) -> Severity | None:
    """Severity of correlated noise by a rule, if all patches agree."""
    return THRESHOLDS[code].severity(noise.value, noise.value / noise.error) if noise.proven else None


def _cost(shared: Excess) -> str:
    """Effect of correlated noise on the gain, in brackets, where that is known."""
    if not (shared.proven and shared.above(0.0, THRESHOLDS["correlated_in_time"].errors)):
        return ""
    return f" (the gain is at least {100 * shared.loss:.0f} % low)"


def judge_sharpening(lines: Mapping[Filter, Line], shared: SharedNoise) -> Iterator[Reason]:
    """Yield that neighbouring pixels' noise is opposed, as sharpening and deconvolution make it.

    They strengthen noise the more the finer it is: the opposite of structure, which a stronger filter
    reduces.
    """
    strong = [lines[name].gain for name in ("ty", "tx", "txy") if name in lines]
    sharper = False
    if len(strong) == 3 and "t" in lines and lines["t"].used_fraction > 0.5:
        weak, least = lines["t"], min(strong)
        rise = least - weak.gain
        error = max(jackknife_error(lines[name].gains - weak.gains) for name in ("ty", "tx", "txy"))
        found = THRESHOLDS["sharper_filters"].severity(
            rise / max(abs(weak.gain), 1e-30), rise / error if error > 0 else 0.0
        )
        sharper = found is not None
        sharper &= max(strong) - least < _SHARPER_APART * rise
    sharpening = shared.sharpening()
    opposed = _severity("sharpened", replace(sharpening, value=-sharpening.value))
    if sharper or opposed:
        yield Reason(
            "sharpened",
            "neighbouring pixels have opposed noise: the frames were sharpened, deconvolved or median-"
            "filtered. The slope is not the gain of the detector. Use the raw recording.",
            "caution",
        )


def judge_zero(zero: ZeroLevel, gain: float, spread: float) -> Iterator[Reason]:
    """Yield reasons against the zero level; `spread` is the range of brightness."""
    excess, error = zero.excess
    if not zero.photon_like:
        yield Reason(
            "skewness",
            f"the noise is not skewed as that of photons (ρ₃ = {excess:.2f} ± {error:.2f}, 1 expected), "
            "so it cannot tell read noise from the zero level; a dark recording would.",
            "caution",
        )
    elif zero.excess_noise > 1:
        yield Reason(
            "excess_noise",
            f"the detector seems to add multiplication noise, F² about {zero.excess_noise:.1f}: "
            "then the gain is F² times the signal of one photon.",
        )
    if not zero.consistent:
        yield Reason(
            "zero_inconsistent",
            "variance and skewness of the noise point to different zero levels; the interval holds both.",
        )
    width = zero.interval[1] - zero.interval[0]
    width = min(width / gain, 6 * width / spread) if gain > 0 and spread > 0 else math.inf
    if severity := THRESHOLDS["zero_undetermined"].severity(width):
        yield Reason(
            "zero_undetermined" if severity == "caution" else "zero_uncertain",
            "no part of the scene is dark enough to fix the zero level; a dark recording would.",
            severity,
        )


def judge_frames(statistics: NoiseStatistics) -> Iterator[Reason]:
    """Yield findings about the frames themselves."""
    if statistics.duplicates:
        yield Reason(
            "duplicated_frames",
            f"{statistics.duplicates} of {statistics.frames} frames repeat the frame before, or are blank, "
            "and were left out.",
        )
    near, far = statistics.steps
    if far > 0 and THRESHOLDS["alternating_frames"].severity(near / far):
        yield Reason(
            "alternating_frames",
            "neighbouring frames differ more than every second one: two channels, focal planes or scan "
            "directions in turn. Calibrate one at a time: movie[::2], movie[1::2].",
            "caution",
        )
    if statistics.not_finite:
        yield Reason(
            "not_finite", f"{statistics.not_finite} samples are not finite; their tiles were left out."
        )


def judge_range(linear_up_to: float) -> Iterator[Reason]:
    """Yield the brightness above which the curve is bent, if there is one."""
    if math.isfinite(linear_up_to):
        yield Reason(
            "bent_above",
            f"variance against mean is straight up to {linear_up_to:.4g} and bent above; "
            "the gain was read below. The signal may not be linear in light, or something other than noise "
            "adds to it.",
            "caution",
        )
