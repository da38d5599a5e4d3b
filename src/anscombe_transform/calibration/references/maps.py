"""Zero level, read noise and gain of every pixel, as scientific cameras differ in them.

A single pixel is measured far worse than the field. So each map is shrunk towards the value of the field, as
far as errors of measurement explain the spread over pixels (empirical Bayes): means and gains by the
normal-normal model, with the spread between pixels from the method of moments [1]_; read variances by the
model of a scaled inverse chi-squared law [2]_. Pixels that no such law explains are hot; they are listed, and
not shrunk.

References
----------
.. [1] R. DerSimonian and N. Laird, "Meta-analysis in clinical trials", Controlled Clinical Trials 7 (1986)
   177-188.
.. [2] G. K. Smyth, "Linear models and empirical Bayes methods for assessing differential expression in
   microarray experiments", Statistical Applications in Genetics and Molecular Biology 3 (2004) 3.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from anscombe_transform.calibration.references.dark import DarkFrames
from anscombe_transform.calibration.result.pixel_maps import PixelMaps
from anscombe_transform.calibration.result.sensitivity import Sensitivity
from anscombe_transform.calibration.sums.reading import choose_segments
from anscombe_transform.calibration.sums.statistics import SEGMENT_FRAMES, MovieLike
from anscombe_transform.native.arrays import Bools, Floats

# Frames that a gain map is read from unless more are asked for.
_DEFAULT_FRAMES = 1024
# Sum of squared autocorrelations of second differences of white noise.
_CORRELATION = 1 + 2 * ((2 / 3) ** 2 + (1 / 6) ** 2)
# Part of a gain that what moves may add before the noise of a pixel is no longer that of light.
_MOST_STRUCTURE = 0.05
# Standard errors from which on a pixel's noise is not that of the others.
_HOT = 8.0


def pixel_maps(
    movie: MovieLike,
    found: Sensitivity,
    dark: DarkFrames | None,
    *,
    max_frames: int | None = None,
    full: bool = False,
    seed: int | None = None,
) -> PixelMaps:
    """Map the constants of every pixel, from dark frames and from the movie that gave `found`."""
    shape = (int(movie.shape[1]), int(movie.shape[2]))
    hot = np.zeros(shape, bool) if dark is None else dark.hot.copy()
    spread: dict[str, float] = {}
    offset = read_variance = gain = None
    if dark is not None:
        read = dark.read_variance if math.isfinite(dark.read_variance) else found.read_noise**2
        error = np.full(shape, math.sqrt(read / dark.frames))
        offset, spread["offset"] = shrink(dark.offset, error, dark.zero_level, hot)
        if dark.frames >= 2:
            read_variance, spread["read_variance"] = shrink_variances(dark.variance, dark.frames - 1, hot)
    if _still(found) and movie.shape[0] >= 3:
        wanted = movie.shape[0] if full else min(movie.shape[0], max_frames or _DEFAULT_FRAMES)
        mean, variance, count = _noise_of_pixels(movie, wanted, seed)
        gain, spread["gain"] = _gain_map(found, mean, variance, count, offset, read_variance, hot)
    return PixelMaps(offset, read_variance, gain, np.argwhere(hot), spread)


def _still(found: Sensitivity) -> bool:
    """Whether nothing moves: differences in time alone find the gain that stronger filters find."""
    if not (found.conversion_gain > 0 and found.evidence is not None and "t" in found.evidence.gains):
        return False
    return found.evidence.gains["t"][0] < (1 + _MOST_STRUCTURE) * found.conversion_gain


def _noise_of_pixels(movie: MovieLike, frames: int, seed: int | None) -> tuple[Floats, Floats, int]:
    """Mean, variance from second differences in time, and number of differences, of every pixel."""
    length = min(SEGMENT_FRAMES, movie.shape[0])
    total = np.zeros(movie.shape[1:])
    squares = np.zeros(movie.shape[1:])
    taken = count = 0
    for segment in choose_segments(movie.shape[0] // length, max(1, frames // length), seed):
        block = np.asarray(movie[segment * length : (segment + 1) * length]).astype(np.float64)
        total += block.sum(axis=0)
        difference = block[:-2] - 2 * block[1:-1] + block[2:]
        squares += np.einsum("tyx,tyx->yx", difference, difference) / 6
        taken, count = taken + len(block), count + len(difference)
    return total / taken, squares / count, count


def _gain_map(
    found: Sensitivity,
    mean: Floats,
    variance: Floats,
    count: int,
    offset: Floats | None,
    read_variance: Floats | None,
    hot: Bools,
) -> tuple[Floats, float]:
    """Gain of each pixel between darkness and its mean; pixels of far more noise are marked in `hot`."""
    zero = np.full(mean.shape, found.zero_level) if offset is None else offset
    dark = np.full(mean.shape, found.read_noise**2) if read_variance is None else read_variance
    light = mean - zero
    # The error is that of the model's variance: a pixel's own would favour the ones that came out small.
    expected = np.maximum(found.conversion_gain * np.maximum(light, 0) + dark, 1e-30)
    spread = expected * math.sqrt(2 * _CORRELATION / count)
    hot |= (variance - expected) > _HOT * spread + 2 * expected
    lit = light > 0.5 * found.conversion_gain
    with np.errstate(invalid="ignore", divide="ignore"):
        gain = np.where(lit, (variance - dark) / light, found.conversion_gain)
        error = np.where(lit, spread / light, np.inf)
    return shrink(gain, error, found.conversion_gain, hot)


def shrink(values: Floats, errors: Floats, centre: float, apart: Bools) -> tuple[Floats, float]:
    """Draw values towards their centre as far as their errors explain the spread.

    Parameters
    ----------
    values, errors : ndarray of float64, shape (y, x)
        The measurements, and their standard errors; infinite where there is none.
    centre : float
        Value of the field.
    apart : ndarray of bool, shape (y, x)
        Pixels that have no part in the spread, and stay as they are.

    Returns
    -------
    ndarray of float64, float
        The values, and the standard deviation between pixels.
    """
    used = ~apart & np.isfinite(errors) & np.isfinite(values)
    if np.count_nonzero(used) < 2:
        return np.where(apart, values, centre), 0.0
    if not (errors[used] > 0).all():
        # Dark frames that are all alike, as copies of an average are: there is no error to judge by.
        known = np.isfinite(errors) & np.isfinite(values)
        return np.where(known | apart, values, centre), float(values[used].std())
    weight = 1 / errors[used] ** 2
    excess = float((weight * (values[used] - centre) ** 2).sum()) - weight.size
    between = max(0.0, excess / float(weight.sum()))
    with np.errstate(invalid="ignore"):
        kept = between / (between + errors**2)
        shrunk = np.where(np.isfinite(errors), centre + kept * (values - centre), centre)
    return np.asarray(np.where(apart, values, shrunk)), math.sqrt(between)


def shrink_variances(variances: Floats, freedom: int, apart: Bools) -> tuple[Floats, float]:
    """Draw variances of `freedom` degrees of freedom towards their mean; see `shrink`.

    The law between pixels is scaled inverse chi-squared: of d₀ degrees of freedom and a mean s², the mean of
    the posterior is ((d₀ − 2) s² + d v) / (d₀ − 2 + d). From the variance of the v's, which is
    s⁴ (2/d + 2/(d₀ − 4) · (1 + 2/d)), follows d₀.
    """
    used = ~apart & np.isfinite(variances)
    centre = float(variances[used].mean())
    if not centre > 0:
        return variances, 0.0
    relative = float(variances[used].var()) / centre**2
    between = max(0.0, (relative - 2 / freedom) / (1 + 2 / freedom))
    if between == 0:
        return np.where(apart, variances, centre), 0.0
    prior = 2 / between + 2
    shrunk: Any = (prior * centre + freedom * variances) / (prior + freedom)
    return np.where(apart, variances, shrunk), math.sqrt(between) * centre
