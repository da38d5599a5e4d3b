"""Checks of single frames: whether each was stretched, levelled or compressed by itself, and their steps.

Such processing does not show in the noise transfer, or only where it is strong, but it marks each frame:

- Stretched frames all end at the same two values.
- Levelled frames have the same mean to better than the photons of a frame allow.
- Levelled lines change their mean or median from frame to frame by less than the noise of their pixels makes
  it change: of independent pixels, the levels of the even and of the odd ones tell by how much.
- JPEG rounds the cosine coefficients of blocks of 8 × 8 pixels to multiples of a step: their distribution
  is a comb (Fan and de Queiroz 2003).

References
----------
B. Widrow and I. Kollár, *Quantization Noise*, Cambridge University Press, 2008.
Z. Fan and R. L. de Queiroz, "Identification of bitmap compression history: JPEG detection and quantizer
estimation", IEEE Transactions on Image Processing 12 (2003) 230-235.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.calibration.result.constants import T_QUANTILE
from anscombe_transform.calibration.result.sensitivity import Reason, Sensitivity, verdict_of
from anscombe_transform.native.arrays import Floats

BLOCK = 8
# Side of the part of a frame in which blocks are looked for, and frames that are looked at for them.
_PART, _COMPRESSED_FRAMES = 256, 3
# A coefficient is a comb where, of this many blocks that round to other than zero, the mean cosine of the
# phase is above the second number; a few coefficients of 63 that are make a frame compressed.
_LEAST_BLOCKS, _LEAST_COSINE, _LEAST_COMBS = 60, 0.5, 4
_LEAST_LEVELS = 24
_QUANTISERS = np.arange(2, 33)
# Spread of the frames' means over what the photons of a frame give it, below which they were made equal: with
# ten frames or more, chance gets there once in millions.
_LEVELLED = 0.05
_LEAST_LEVELLED = 10
# Share of the pixels at the lowest value that have another in the next frame, where they are not masked.
_LEAST_LEAVING = 0.05
# Lines of a frame that are looked at, and the variance of their levels' changes over that by chance, below
# which the levels were made equal. The ratio is 1 or more for white noise, and that of two frames of 32 lines
# is below this once in millions. Medians of few different values are equal by nature: where what the halves
# of a line are apart changes by a step in 28 of 100, the ratio is still 0.6 (normal law).
_LINES, _LEVELLED_LINES, _LEAST_APART = 32, 0.15, 0.28
_LEVELS = (np.mean, np.median)
# Values that are looked at for a threshold, how many times wider than the others the lowest gap must be, how
# frequent those beside it must be for chance to leave none out, and the part of the mean of the next that the
# first value above has unless it is of a tail.
_LEAST_ABOVE, _LEAST_MISSING, _FREQUENT, _NO_TAIL = 9, 3, 50, 0.3
# Gaps between values that show whether they went through a curve: how many there must be and how wide, how
# far rounding may move them, the part that must lie on a line through them, and by how much they must shrink.
_LEAST_GAPS, _LEAST_GAP, _ROUNDING, _STEADY, _LEAST_CHANGE = 12, 4.0, 1.5, 0.8, 0.02
# Noise in the dark, in steps, from which on rounding is harmless; part of the residuals that is called dark.
_FINE, _DARKEST = 0.5, 0.1


class FrameChecks:
    """Looks at one frame after the other, and finds processing of single frames."""

    def __init__(self) -> None:
        self.frames = 0
        # Lowest and highest value of each frame, and how often it has either.
        self._ends: list[tuple[float, float, int, int]] = []
        self._means: list[float] = []
        self._noise: list[float] = []
        # Of rows and of columns, in each frame: levels of some, and half of what their halves are apart.
        self._lines: list[tuple[Floats, Floats]] = []
        # Of the pixels of a frame that have the lowest value, the share that has another in the next.
        self._leaving: list[float] = []
        self._previous: NDArray[Any] | None = None
        self._compressed = 0
        self._looked = 0
        self._step = 0.0
        self._smooth = False
        # Frames whose values went through a curve, and those that were looked at.
        self._bent = self._counted = 0

    def add(self, frame: NDArray[Any]) -> None:
        """Take in a frame (y, x), or the pixels of one that are wanted."""
        self.frames += 1
        finite = frame[np.isfinite(frame)] if frame.dtype.kind == "f" else frame
        if not finite.size:
            return
        low, high = finite.min(), finite.max()
        if low == high:
            return
        previous = self._previous
        if previous is not None and previous.shape == frame.shape:
            lowest = previous == previous.min()
            self._leaving.append(float(np.mean(frame[lowest] > low)) if lowest.any() else 0.0)
        self._previous = frame
        self._ends.append(
            (
                float(low),
                float(high),
                int(np.count_nonzero(finite == low)),
                int(np.count_nonzero(finite == high)),
            )
        )
        if frame.ndim == 2 and finite.size == frame.size:
            self._add_noise(frame, previous)
            if frame.dtype.kind in "iu" and low >= 0 and high <= 255 and self._looked < _COMPRESSED_FRAMES:
                self._looked += 1
                # Frames that were registered by whole pixels have the grid of blocks elsewhere each.
                self._compressed += is_block_compressed(frame)

    def add_values(self, values: NDArray[Any]) -> None:
        """Take in the different values of a frame, ascending: their common step is looked for."""
        gaps = np.diff(values.astype(np.float64))
        self._counted += 1
        self._bent += values.dtype.kind in "iu" and is_compressed_lattice(gaps)
        step = common_step(gaps)
        self._smooth |= step == 0 and len(values) > 1
        self._step = float(step if self._step == 0 else common_step(np.array([self._step, step])))

    def comes_and_goes(self, lowest: float) -> bool:
        """Whether pixels have the lowest value in some frames only, unlike masked ones and lost frames."""
        if not self._leaving or float(np.median([low for low, *_ in self._ends])) != lowest:
            return False
        return float(np.median(self._leaving)) > _LEAST_LEAVING

    @property
    def step(self) -> float:
        """Common step of all values, 0 if there is none."""
        return 0.0 if self._smooth else self._step

    def reasons(self) -> tuple[Reason, ...]:
        """Return reasons against frames like these."""
        found = []
        if self._stretched():
            few = float(np.median([top for *_, top in self._ends])) <= 4
            found.append(
                Reason(
                    "autoscaled",
                    f"every frame reaches from {self._ends[0][0]:g} to {self._ends[0][1]:g}: each seems "
                    "to have been stretched by itself, so the frames differ in gain. Export the raw values.",
                    "refusal" if few else "caution",
                )
            )
        if self._levelled():
            found.append(
                Reason(
                    "levelled_frames",
                    "all frames have the same mean, to better than photons come: each was normalised by "
                    "itself, or its own background taken off, so the frames differ in gain or zero level. "
                    "Use the raw recording.",
                    "caution",
                )
            )
        if self._lines_levelled():
            found.append(
                Reason(
                    "levelled_lines",
                    "the level of lines stays the same from frame to frame, to better than photons come: "
                    "each had its own background or stripe taken off, so the zero level differs between "
                    "lines. Use the raw recording.",
                    "caution",
                )
            )
        if self._looked and 2 * self._compressed > self._looked:
            found.append(
                Reason(
                    "block_compressed",
                    "the frames bear the marks of JPEG: their noise was rounded in blocks of 8 × 8 pixels, "
                    "and is not that of the detector. Use the raw recording.",
                    "caution",
                )
            )
        if 2 * self._bent > self._counted:
            found.append(
                Reason(
                    "compressed_signal",
                    "the steps between values that occur shrink with brightness: whole numbers went through "
                    "a gamma curve, a square root or the like, so the signal is not linear in light. Use the "
                    "raw recording.",
                    "caution",
                )
            )
        return tuple(found)

    def _stretched(self) -> bool:
        """Whether all frames reach both ends of a range that programs stretch to, 0 .. 2^k − 1.

        In a detector that saturates and is also clipped at zero, many pixels do; at 8 bits such
        frames are more often pictures for the screen.
        """
        if len(self._ends) < 3:
            return False
        lows, highs = ({ends[k] for ends in self._ends} for k in (0, 1))
        few = float(np.median([top for *_, top in self._ends])) <= 4
        full = {2.0**bits - 1 for bits in ((8, 10, 12, 14, 16) if few else (8,))}
        return lows == {0.0} and len(highs) == 1 and highs <= full

    def _add_noise(self, frame: NDArray[Any], previous: NDArray[Any] | None) -> None:
        """Keep the frame's mean and its mean's variance by noise, from the median of the differences.

        Of differences in space, or between frames, whichever are smaller: texture adds to the first, motion
        and changes of the light to the second.
        """
        values = frame[:: max(1, frame.shape[0] // 256)].astype(np.float64)
        across = values[:, 2:] - 2 * values[:, 1:-1] + values[:, :-2]
        across = across[2:] - 2 * across[1:-1] + across[:-2] if len(across) > 2 else across
        if not across.size:
            return
        # 36 is the sum of the squared weights of the filter.
        noise = _robust_variance(across) / 36
        if previous is not None and previous.shape == frame.shape and np.isfinite(previous).all():
            change = values - previous[:: max(1, frame.shape[0] // 256)]
            noise = min(noise, _robust_variance(change) / 2)
        self._means.append(float(np.mean(frame, dtype=np.float64)))
        self._noise.append(noise / frame.size)
        if min(frame.shape) >= _LEAST_LEVELLED:
            self._lines.append((_levels_of_lines(frame), _levels_of_lines(frame.T)))

    def _lines_levelled(self) -> bool:
        """Whether rows or columns keep their mean or median as no noise does."""
        for levels in zip(*self._lines, strict=True):
            # What changes from frame to frame: differences of the scene in a line stay.
            whole, apart = np.moveaxis(np.abs(np.diff(np.stack(levels), axis=0)), 2, 0)
            if not len(whole):
                continue
            for level in range(len(_LEVELS)):
                steps = apart[:, level][apart[:, level] > 0]
                usual = float(np.median(steps)) if steps.size else 0.0
                # A few lines that jump, as from no photon to one, must not tell what is usual.
                by_chance = float(np.square(np.minimum(apart[:, level], 3 * usual)).mean())
                told = by_chance > _LEAST_APART * usual**2
                if told and np.square(whole[:, level]).mean() < _LEVELLED_LINES * by_chance:
                    return True
        return False

    def _levelled(self) -> bool:
        if len(self._means) < _LEAST_LEVELLED:
            return False
        expected = float(np.median(self._noise))
        spread = float(np.var(self._means, ddof=1))
        return spread < _LEVELLED * expected


def _robust_variance(differences: Floats) -> float:
    """Variance of differences of mean 0, from the median of their sizes."""
    return (1.4826 * float(np.median(np.abs(differences)))) ** 2


def _levels_of_lines(frame: NDArray[Any]) -> Floats:
    """Levels of some rows, and half of how far those of their even and odd pixels are apart: (level, 2, row).

    Of independent pixels, both have the same variance by noise of any distribution.
    """
    rows = frame[:: max(1, frame.shape[0] // _LINES)].astype(np.float64)
    return np.stack(
        [
            (level(rows, axis=1), (level(rows[:, ::2], axis=1) - level(rows[:, 1::2], axis=1)) / 2)
            for level in _LEVELS
        ]
    )


def with_steps(found: Sensitivity, step: float, lowest: float) -> Sensitivity:
    """Bring in the effect of rounding to steps on the line.

    Rounding noise of standard deviation σ (in steps) to the nearest step makes its variance

        σ² + 1/12 + (4σ² + 1/π²) exp(−2π²σ²) cos(2πm) + …

    at a mean of m steps (Widrow and Kollár 2008): from σ = 0.6 on the first two terms only, a constant that
    counts as read noise, but 2 % more or less at 0.5 and 30 % at 0.3. Photon counts are whole numbers by
    themselves. Widens the gain's interval by the possible effect of the third term on the slope.
    """
    curve, gain = found.transfer_curve, abs(found.conversion_gain)
    counts = abs(gain - step) < 0.1 * step and abs(found.variance_intercept - lowest) < 0.15 * gain
    if not (step > 0 and math.isfinite(gain) and gain > 0 and len(curve.mean) > 2) or counts:
        return found
    noise = np.maximum(curve.variance / step**2 - 1 / 12, 0)
    order = np.argsort(curve.mean)
    darkest = np.cumsum(curve.count[order]) <= max(_DARKEST * curve.count.sum(), curve.count[order[0]])
    dark = order[darkest]
    coarse = math.sqrt(float(np.average(noise[dark], weights=curve.count[dark])))
    if coarse >= _FINE:
        return found
    wave = step**2 * (4 * noise + 1 / math.pi**2) * np.exp(-2 * math.pi**2 * noise)
    weight = curve.count / np.maximum(curve.variance, step**2 / 12) ** 2
    away = curve.mean - np.average(curve.mean, weights=weight)
    # Of either sign, so a mean square: half of the amplitude's.
    slope = float((weight * np.abs(away) * wave).sum() / (weight * away**2).sum()) / math.sqrt(2)
    low, high = found.conversion_gain_interval
    half = math.hypot((high - low) / 2, T_QUANTILE * slope)
    middle = (low + high) / 2
    reason = Reason(
        "coarse_steps",
        f"in the dark, the noise is {coarse:.2f} of the converter's step of {step:g}: below half a step "
        "rounding changes it, and the line with it. A higher gain of the detector would resolve it.",
        "caution",
    )
    reasons = (*found.reasons, reason)
    return replace(
        found,
        conversion_gain_interval=(middle - half, middle + half),
        reasons=reasons,
        verdict=verdict_of(reasons),
    )


def is_thresholded(values: Floats, counts: Floats) -> bool:
    """Whether values below a threshold were replaced by the lowest of the `values`, which ascend.

    The signal of a pixel has one hump, so no value between two frequent ones is absent. Of pixels that were
    masked or padded with a value far below the scene, that value is frequent too, but the scene's own
    lowest values are its tail, which begins with few.
    """
    if len(values) < _LEAST_ABOVE:
        return False
    steps = np.diff(values[: _LEAST_ABOVE + 1])
    # Photons that are counted leave gaps above every value, not above the lowest alone.
    alone = steps[0] > _LEAST_MISSING * steps[1:].max()
    whole = counts[1] > _NO_TAIL * counts[1:_LEAST_ABOVE].mean()
    return bool(alone and whole and min(counts[0], counts[1]) >= _FREQUENT)


def is_compressed_lattice(gaps: Floats) -> bool:
    """Whether gaps between ascending values shrink steadily, as those of whole numbers after a curve do.

    A converter's steps are alike, and photons' too; those of values that were stored in steps of their noise
    grow. In the tails some values do not occur, so that the middle half of the gaps counts; rounding moves
    each by up to one.
    """
    gaps = gaps[len(gaps) // 4 : len(gaps) - len(gaps) // 4]
    if len(gaps) < _LEAST_GAPS or np.median(gaps) < _LEAST_GAP:
        return False
    place = np.linspace(-0.5, 0.5, len(gaps))
    slope, middle = np.polyfit(place, gaps, 1)
    steady = float(np.mean(np.abs(gaps - middle - slope * place) <= _ROUNDING))
    return bool(steady > _STEADY and -slope > max(2 * _ROUNDING, _LEAST_CHANGE * middle))


def common_step(differences: Floats) -> float:
    """Largest number that divides all differences to a thousandth, 0 if they are of any size."""
    differences = differences[differences > 0]
    if not differences.size:
        return 0.0
    step = float(differences.min())
    # Values that skip a level have no difference of one step: look at a few parts of the smallest.
    for part in (1, 2, 3, 4, 5, 6):
        multiples = differences * part / step
        if np.all(np.abs(multiples - np.rint(multiples)) < 1e-3 * np.maximum(1, multiples / 100)):
            return step / part
    return 0.0


def is_block_compressed(frame: NDArray[Any]) -> bool:
    """Whether the cosine coefficients of blocks of 8 × 8 pixels are multiples of steps.

    The grid of blocks starts at the frame's corner, or anywhere: a part may be cut out.
    """
    # A few levels, as of photon counts, give few coefficients too.
    if (
        min(frame.shape) < 3 * BLOCK
        or np.count_nonzero(np.bincount(frame.ravel().astype(np.intp), minlength=256)) < _LEAST_LEVELS
    ):
        return False
    part = frame[:_PART, :_PART].astype(np.float32)
    if _combs(part) >= _LEAST_COMBS:
        return True
    part = part[: _PART // 2, : _PART // 2]
    elsewhere = list(product(range(BLOCK), repeat=2))[1:]
    return any(_combs(part[y:, x:]) >= _LEAST_COMBS for y, x in elsewhere)


def _combs(part: NDArray[np.float32]) -> int:
    """Cosine coefficients with a comb of values over the blocks."""
    rows, columns = (side // BLOCK for side in part.shape)
    blocks = (
        part[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK).transpose(0, 2, 1, 3)
    )
    k = np.arange(BLOCK)
    cosine = np.cos(math.pi * (2 * k + 1) * k[:, None] / (2 * BLOCK)) * math.sqrt(2 / BLOCK)
    cosine[0] /= math.sqrt(2)
    basis = cosine.astype(np.float32)
    coefficients = (basis @ blocks @ basis.T).reshape(rows * columns, -1)[:, 1:]
    found = np.zeros(coefficients.shape[1], bool)
    for quantiser in _QUANTISERS:
        phase = coefficients / np.float32(quantiser)
        away = np.abs(phase) > 0.5
        count = away.sum(axis=0)
        cosines = (np.cos(2 * np.float32(math.pi) * phase) * away).sum(axis=0)
        found |= (count >= _LEAST_BLOCKS) & (cosines > _LEAST_COSINE * np.maximum(count, 1))
    return int(np.count_nonzero(found))
