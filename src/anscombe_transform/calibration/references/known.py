"""A calibration with knowledge beside the movie: dark frames, or constants of a data sheet.

The movie's line gives the variance at every mean, g (m − x₀). Known are the zero level z and the read
noise σ, or one of them: a point (z, σ²) that the line must meet. Where it does, the point replaces the third
cumulant, and the line is drawn through it if that makes the gain more certain: through a scene of one
brightness, it is the only way to a gain. Where it does not, that is a reason for caution.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from anscombe_transform.calibration.references.dark import DarkFrames
from anscombe_transform.calibration.result.constants import T_QUANTILE
from anscombe_transform.calibration.result.sensitivity import Reason, Sensitivity, verdict_of

# What the third cumulant had to say about the zero level is settled by a measured one.
_SETTLED = ("zero_undetermined", "zero_uncertain", "zero_inconsistent", "skewness")
# For want of contrast a movie is refused, unless a known point gives the line its second end.
_WANT_OF_CONTRAST = frozenset({"no_contrast", "imprecise_gain", "no_shot_noise"})
_LARGEST_GAIN_ERROR = 0.06
# Parts of the square of the gain, and of the read variance, that do not count as a contradiction: pixels
# differ in read noise, and a data sheet's is that of a typical one.
_TOLERATED, _TOLERATED_READ = 0.25, 0.4


@dataclass(frozen=True)
class Known:
    """Zero level and read variance with their standard errors, NaN where not known, and their source."""

    zero: float
    zero_error: float
    read_variance: float
    read_variance_error: float
    source: str

    @classmethod
    def of_dark(cls, dark: DarkFrames) -> Known:
        """Constants from dark frames."""
        return cls(
            dark.zero_level,
            dark.zero_level_error,
            dark.read_variance,
            dark.read_variance_error,
            "dark frames",
        )

    @classmethod
    def of_data_sheet(cls, zero_level: float | None, read_noise: float | None) -> Known:
        """Constants without error."""
        zero = math.nan if zero_level is None else float(zero_level)
        variance = math.nan if read_noise is None else float(read_noise) ** 2
        return cls(zero, 0.0, variance, 0.0, "known")


@dataclass(frozen=True)
class _Line:
    """The movie's line: gain and x₀, and the point that it turns about, with standard errors."""

    gain: float
    gain_error: float
    x0: float
    centre: float
    height_error: float

    @classmethod
    def of(cls, found: Sensitivity) -> _Line:
        curve = found.transfer_curve
        weight = 1 / np.maximum(curve.standard_error, 1e-300) ** 2
        low, high = found.conversion_gain_interval
        return cls(
            gain=found.conversion_gain,
            gain_error=(high - low) / 2 / T_QUANTILE,
            x0=found.variance_intercept,
            centre=float(np.average(curve.mean, weights=weight)),
            height_error=1.15 / math.sqrt(weight.sum()),
        )

    def variance(self, mean: float) -> tuple[float, float]:
        """Variance at a mean, and its standard error."""
        error = math.hypot(self.height_error, self.gain_error * (mean - self.centre))
        return self.gain * (mean - self.x0), error

    def through(self, known: Known) -> tuple[float, float]:
        """Slope from the known point to the centre, and its standard error."""
        distance = self.centre - known.zero
        if not distance > 0:
            return math.nan, math.inf
        height = self.gain * (self.centre - self.x0)
        gain = (height - known.read_variance) / distance
        error = math.hypot(self.height_error, known.read_variance_error, gain * known.zero_error) / distance
        # A tenth of what a slope has as its systematic error at least.
        return gain, math.hypot(error, 0.002 * abs(gain))


def with_dark(found: Sensitivity, dark: DarkFrames) -> Sensitivity:
    """Bring in dark frames; those that hold light are not used, and the reasons say so."""
    if dark.lit(found.conversion_gain):
        return _add(
            found,
            Reason(
                "dark_has_light",
                "the brighter parts of the dark frames are noisier, as light makes them; they were not used.",
                "caution",
            ),
        )
    return with_known(found, Known.of_dark(dark))


def with_known(found: Sensitivity, known: Known) -> Sensitivity:
    """Bring in a known zero level, read noise, or both."""
    if not math.isfinite(found.conversion_gain) or not found.transfer_curve.mean.size:
        return found
    if math.isnan(known.zero):
        return _with_read_noise(found, known)
    name = "the dark frames' mean" if known.source == "dark frames" else "the given zero level"
    darkest, error = _darkest(found)
    if known.zero - 3 * known.zero_error > darkest + 3 * error + 0.1 * abs(found.conversion_gain):
        return _add(
            found,
            Reason(
                "zero_too_bright",
                f"{name}, {known.zero:.4g}, lies above the darkest part of the movie, {darkest:.4g}: "
                "it is of another setting, or holds light. It was not used.",
                "caution",
            ),
        )
    rescued = _through_point(found, known)
    if rescued is not None:
        return rescued
    line = _Line.of(found)
    variance, variance_error = line.variance(known.zero)
    variance_error = math.hypot(variance_error, line.gain * known.zero_error)
    tolerated = _TOLERATED * line.gain**2
    if variance < -max(3 * variance_error, tolerated):
        return _add(
            found,
            Reason(
                "zero_below_line",
                f"{name}, {known.zero:.4g}, lies below the mean at which the movie's noise would vanish, "
                f"{line.x0:.4g}: it is of another setting, or dark values were cut off. It was not used.",
                "caution",
            ),
        )
    if math.isfinite(known.read_variance):
        difference = variance - known.read_variance
        error = math.hypot(variance_error, known.read_variance_error)
        if abs(difference) > max(3 * error, tolerated + _TOLERATED_READ * known.read_variance):
            return _add(
                _settled(found, known, line.gain, line.gain_error, max(variance, 0.0), variance_error),
                Reason(
                    "read_noise_contradicts",
                    f"the read noise of {math.sqrt(known.read_variance):.3g} does not fit the movie, whose "
                    f"noise at the zero level is {math.sqrt(max(variance, 0.0)):.3g}; the movie's was taken.",
                    "caution",
                ),
            )
        gain, error = line.through(known)
        if error < line.gain_error:
            return _settled(found, known, gain, error, known.read_variance, known.read_variance_error)
        return _settled(
            found, known, line.gain, line.gain_error, known.read_variance, known.read_variance_error
        )
    return _settled(found, known, line.gain, line.gain_error, max(variance, 0.0), variance_error)


def _through_point(found: Sensitivity, known: Known) -> Sensitivity | None:
    """Of a movie refused for want of contrast alone: the gain from its mean brightness, if that is enough."""
    refusals = {reason.code for reason in found.reasons if reason.severity == "refusal"}
    if not refusals or not refusals <= _WANT_OF_CONTRAST or not math.isfinite(known.read_variance):
        return None
    gain, error = _Line.of(found).through(known)
    if not (gain > 0 and error < _LARGEST_GAIN_ERROR * gain):
        return None
    kept = replace(found, reasons=tuple(r for r in found.reasons if r.code not in refusals))
    return _add(
        _settled(kept, known, gain, error, known.read_variance, known.read_variance_error),
        Reason(
            "gain_from_one_brightness",
            "the scene has too little contrast for a slope of its own; the gain is that between its mean "
            "brightness and darkness, and whatever changed from frame to frame counts as photon noise.",
            "caution",
        ),
    )


def _with_read_noise(found: Sensitivity, known: Known) -> Sensitivity:
    """The zero level from x₀ and the read noise."""
    line = _Line.of(found)
    zero = line.x0 + known.read_variance / line.gain
    darkest, error = _darkest(found)
    _, variance_error = line.variance(zero)
    zero_error = variance_error / abs(line.gain)
    if line.gain > 0 and zero - 3 * zero_error > darkest + 3 * error + 0.1 * line.gain:
        return _add(
            found,
            Reason(
                "read_noise_contradicts",
                f"with a read noise of {math.sqrt(known.read_variance):.3g} the zero level would be "
                f"{zero:.4g}, above the darkest part of the movie, {darkest:.4g}. It was not used.",
                "caution",
            ),
        )
    return replace(
        _settled(
            found,
            replace(known, zero=zero, zero_error=zero_error),
            line.gain,
            line.gain_error,
            known.read_variance,
            0.0,
        ),
        variance_intercept_interval=found.variance_intercept_interval,
        zero_level_method="known read noise",
    )


def _settled(
    found: Sensitivity, known: Known, gain: float, gain_error: float, variance: float, variance_error: float
) -> Sensitivity:
    """The calibration with the known zero level, a gain and a read variance."""
    x0 = known.zero - variance / gain
    error = math.hypot(known.zero_error, variance_error / gain, variance * gain_error / gain**2)
    reasons = tuple(reason for reason in found.reasons if reason.code not in _SETTLED)
    return replace(
        found,
        conversion_gain=gain,
        conversion_gain_interval=_interval(gain, gain_error),
        zero_level=known.zero,
        zero_level_interval=_interval(known.zero, known.zero_error),
        variance_intercept=x0,
        variance_intercept_interval=_interval(x0, error),
        read_noise=math.sqrt(variance),
        zero_level_method=known.source,
        reasons=reasons,
        verdict=verdict_of(reasons),
    )


def _interval(value: float, error: float) -> tuple[float, float]:
    return value - T_QUANTILE * error, value + T_QUANTILE * error


def _darkest(found: Sensitivity) -> tuple[float, float]:
    """Mean of the darkest bin of the curve and its standard error."""
    curve = found.transfer_curve
    k = int(np.argmin(curve.mean))
    return float(curve.mean[k]), math.sqrt(max(float(curve.variance[k]), 0.0) / max(float(curve.count[k]), 1))


def _add(found: Sensitivity, *more: Reason) -> Sensitivity:
    reasons = (*found.reasons, *more)
    return replace(found, reasons=reasons, verdict=verdict_of(reasons))


def with_excess_noise(found: Sensitivity, factor: float) -> Sensitivity:
    """Take the excess noise factor F² as given, instead of the third cumulant's estimate."""
    reasons: Iterable[Reason] = (reason for reason in found.reasons if reason.code != "excess_noise")
    return replace(
        found,
        excess_noise=float(factor),
        excess_noise_method="known",
        reasons=tuple(reasons),
        excess_noise_interval=(float(factor), float(factor)),
    )
