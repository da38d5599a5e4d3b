"""Active cells, their traces and events in a movie: small, deterministic methods to compare movies with.

They are not meant to replace suite2p or CaImAn. Their purpose is to run on the same recording before and
after it was stored, so that a change can be compared with chance. `decide` takes any other
detector that keeps to `Detector`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy import fft, ndimage
from scipy.optimize import linear_sum_assignment

from anscombe_transform.native.arrays import AnyArray, Bools, Floats

if TYPE_CHECKING:
    import numpy.typing as npt


# Sizes in pixels: a cell is sought between the two widths of a Gaussian, in a window of this half width.
_CELL, _BACKGROUND, _WINDOW = 2.0, 8.0, 9
# Frames over which the movie is smoothed before cells are sought.
_SMOOTHED_FRAMES = 3
# Brightest frames of a pixel whose mean makes its activity.
_PEAK_FRAMES = 8
# Activity above the median, in robust standard deviations, at which a local maximum is a candidate.
_ACTIVITY_LIMIT = 4.0
# Correlation with the candidate above which a pixel belongs to the cell; the least size of a cell in pixels.
_CORRELATION_LIMIT, _LEAST_PIXELS = 0.5, 15
# Centres of one cell in two movies are at most so many pixels apart.
_SAME_CELL = 3.0
# Height of an event above the baseline, in standard deviations of the trace's noise.
_EVENT_LIMIT = 4.0
# Consistency of the median absolute deviation with the standard deviation of a normal distribution.
_MAD = 1.4826


class Detector(Protocol):
    """Anything that finds cells: called with a float32 movie (time, y, x), gives a mask (y, x) for each."""

    def __call__(self, movie: npt.NDArray[np.float32], /) -> Sequence[Bools]:
        """Return one mask of bool, shape (y, x), for every cell."""
        ...


def detect_cells(movie: npt.NDArray[np.float32]) -> list[Bools]:
    """Find active cells: local maxima of activity with the pixels that correlate with them.

    Parameters
    ----------
    movie : ndarray of float32, shape (time, y, x)

    Returns
    -------
    list of ndarray of bool, shape (y, x)
        One mask for each cell, in order of position.
    """
    smooth = ndimage.uniform_filter1d(movie, min(_SMOOTHED_FRAMES, len(movie)), axis=0)
    band = ndimage.gaussian_filter(smooth, (0, _CELL, _CELL)) - ndimage.gaussian_filter(
        smooth, (0, _BACKGROUND, _BACKGROUND)
    )
    band -= np.median(band, axis=0)
    noise = _MAD * np.median(np.abs(np.diff(band, axis=0)), axis=0)
    band /= np.maximum(noise, 1e-6 * (noise.max() or 1.0))
    peaks = min(_PEAK_FRAMES, len(band))
    activity = np.partition(band, len(band) - peaks, axis=0)[-peaks:].mean(axis=0)
    spread = _MAD * np.median(np.abs(activity - np.median(activity)))
    candidates = activity == ndimage.maximum_filter(activity, _WINDOW)
    candidates &= activity > np.median(activity) + _ACTIVITY_LIMIT * spread
    band -= band.mean(axis=0)
    band /= np.maximum(np.linalg.norm(band, axis=0), 1e-12)
    cells = (_grow(band, int(y), int(x)) for y, x in np.argwhere(candidates))
    return [mask for mask in cells if mask.sum() >= _LEAST_PIXELS]


def _grow(band: npt.NDArray[np.float32], y: int, x: int) -> Bools:
    """The connected pixels around (y, x) that correlate with it; `band` has unit norm along time."""
    height, width = band.shape[1:]
    window = (slice(max(y - _WINDOW, 0), y + _WINDOW + 1), slice(max(x - _WINDOW, 0), x + _WINDOW + 1))
    correlation = np.tensordot(band[:, y, x], band[:, window[0], window[1]], 1)
    labels, _ = ndimage.label(correlation > _CORRELATION_LIMIT)
    mask = np.zeros((height, width), bool)
    mask[window] = labels == labels[y - window[0].start, x - window[1].start]
    return mask


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well two sets of cells agree.

    Attributes
    ----------
    f1 : float
        Cells that have a partner within 3 pixels, as F1 score from 0 to 1; NaN if neither movie has cells.
    overlap : float
        Median intersection over union of partners, from 0 to 1; NaN without partners.
    """

    f1: float
    overlap: float


def match_cells(first: Sequence[Bools], second: Sequence[Bools]) -> Agreement:
    """Pair the cells of two movies so that the distances of their centres are least in sum."""
    if not first and not second:
        return Agreement(np.nan, np.nan)
    if not first or not second:
        return Agreement(0.0, np.nan)
    centres = [np.array([ndimage.center_of_mass(mask) for mask in masks]) for masks in (first, second)]
    distance = np.linalg.norm(centres[0][:, None] - centres[1][None], axis=2)
    rows, columns = linear_sum_assignment(np.minimum(distance, 2 * _SAME_CELL))
    partners = [(i, j) for i, j in zip(rows, columns, strict=True) if distance[i, j] <= _SAME_CELL]
    overlaps = [(first[i] & second[j]).sum() / (first[i] | second[j]).sum() for i, j in partners]
    overlap = float(np.median(overlaps)) if overlaps else np.nan
    return Agreement(2 * len(partners) / (len(first) + len(second)), overlap)


def cell_traces(movie: AnyArray, cells: Sequence[Bools], zero_level: float) -> Floats:
    """Relative change of fluorescence ΔF/F of every cell, shape (cells, time); F is its 20th percentile."""
    flat = movie.reshape(len(movie), -1)
    light = np.stack([flat[:, mask.ravel()].mean(axis=1, dtype=np.float64) for mask in cells]) - zero_level
    base = np.percentile(light, 20, axis=1, keepdims=True)
    return np.asarray(light / np.where(base > 0, base, np.nan) - 1, np.float64)


def trace_noise(traces: Floats) -> Floats:
    """Standard deviation of the noise of every trace, from differences between frames."""
    return np.asarray(_MAD * np.median(np.abs(np.diff(traces, axis=1)), axis=1) / np.sqrt(2))


def find_events(traces: Floats) -> npt.NDArray[np.bool_]:
    """Where traces rise above 4 standard deviations of their noise, shape (cells, time − 1)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        z = (traces - np.median(traces, axis=1, keepdims=True)) / trace_noise(traces)[:, None]
    return np.asarray((z[:, 1:] > _EVENT_LIMIT) & (z[:, :-1] <= _EVENT_LIMIT))


def match_events(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> float:
    """F1 score of events that have a partner within one frame; NaN if there are none."""
    total = first.sum() + second.sum()
    if total == 0:
        return float("nan")
    near = [ndimage.maximum_filter1d(events.astype(np.uint8), 3, axis=1) > 0 for events in (first, second)]
    return float(((first & near[1]).sum() + (second & near[0]).sum()) / total)


def frame_shifts(movie: AnyArray, template: AnyArray) -> Floats:
    """Shift of every frame against a template, in pixels (y, x), by phase-free cross-correlation.

    Parameters
    ----------
    movie : ndarray, shape (time, y, x)
    template : ndarray, shape (y, x)

    Returns
    -------
    ndarray of float64, shape (time, 2)
        Maximum of the cross-correlation of the images, band-passed for cells, refined by a parabola.
    """
    reach = max(1, min(template.shape) // 4)

    def band_passed(image: AnyArray) -> npt.NDArray[np.float32]:
        pixels = image.astype(np.float32)
        return np.asarray(ndimage.gaussian_filter(pixels, 1.0) - ndimage.gaussian_filter(pixels, _BACKGROUND))

    reference = np.conj(fft.rfft2(band_passed(template)))
    shifts = np.zeros((len(movie), 2))
    for number, frame in enumerate(movie):
        product = fft.irfft2(fft.rfft2(band_passed(frame)) * reference, s=template.shape)
        product = np.roll(product, (reach, reach), axis=(0, 1))[: 2 * reach + 1, : 2 * reach + 1]
        y, x = np.unravel_index(np.argmax(product), product.shape)
        shifts[number] = (
            y + _vertex(product[max(y - 1, 0) : y + 2, x]) - reach,
            x + _vertex(product[y, max(x - 1, 0) : x + 2]) - reach,
        )
    return shifts


def _vertex(three: AnyArray) -> float:
    """Where the parabola through three neighbouring values has its maximum, from the middle one."""
    if len(three) < 3:
        return 0.0
    left, middle, right = (float(v) for v in three)
    bend = left - 2 * middle + right
    return 0.5 * (left - right) / bend if bend < 0 else 0.0
