"""Noise that pixels or frames share, told in patches spread over the field.

A detector's noise is new in every frame and nearly new in every pixel. What was denoised, resampled or
rebuilt from a few components shares noise, and its variance is not that of photons. Two laws tell:

In space, the second difference of white noise has one variance whatever the distance of its three samples. Of
smoothed noise it grows with the distance, of sharpened noise it shrinks. Taken along both axes at once, near
(1, 1) against far (4, 4), that also shows a weak but wide kernel, as of a denoiser that blends the frame with
its smooth version, of which neither axis alone tells anything. What moves adds to the far one, but not
everywhere: the quietest third of the patches is compared, chosen by other frames than those compared.

In time, the frames' covariance of T frames of white noise at n pixels has no eigenvalue below
(1 − √(T/n))² of the mean (Marchenko and Pastur 1967). What moves adds to it and lowers none; movies rebuilt
from fewer components than frames, averaged or interpolated have dimensions without noise.

References
----------
V. A. Marchenko and L. A. Pastur, "Distribution of eigenvalues for some sets of random matrices", Mathematics
of the USSR-Sbornik 1 (1967) 457-483.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

# Sides of a patch and of its inner part, which second differences at distance 4 stay within the patch of.
_PATCH, _INNER, _FAR = 32, 24, 4
_MOST_PATCHES_ALONG = 8
_MOST_FRAMES, _LEAST_FRAMES = 24, 8
# Σ ρ² of a second difference's autocorrelations: pixels that count for one, along each axis.
_CORRELATED = 1.944
# Patches in which too few pixels hold the noise have no lower edge to compare with.
_LEAST_EDGE = 0.2
_QUIET = 1 / 3
_LEAST_VALUES = 8
# Distances along y and x of the second differences that are compared.
_DISTANCES = ((1, 1), (1, _FAR), (_FAR, 1), (_FAR, _FAR))


@dataclass(frozen=True)
class Excess:
    """Logarithm of a ratio of noise variances, 0 for white noise, and its standard error."""

    value: float = 0.0
    error: float = math.inf

    def above(self, limit: float, errors: float) -> bool:
        """Whether it exceeds the limit, and 0 by so many standard errors."""
        return self.value > max(limit, errors * self.error)

    def below(self, limit: float, errors: float) -> bool:
        """Whether it lies below minus the limit, and below 0 by so many standard errors."""
        return -self.value > max(limit, errors * self.error)


class SharedNoise:
    """Sums over segments of a movie; those of parts of the movie add up.

    Parameters
    ----------
    frame_shape : (int, int)
        Height and width of the frames. Below 32 × 32 pixels nothing is compared.
    """

    def __init__(self, frame_shape: tuple[int, int]) -> None:
        self._corners = [
            (y, x)
            for y in _starts(frame_shape[0])
            for x in _starts(frame_shape[1])
            if min(frame_shape) >= _PATCH
        ]
        # Of even and of odd residuals: energies (parity, patch, distance).
        self._energies = np.zeros((2, len(self._corners), len(_DISTANCES)))
        # Least eigenvalue over the least that white noise has, and how many segments it was taken of.
        self._least, self._segments = 0.0, 0

    def add(self, frames: NDArray[Any], wanted: NDArray[np.bool_] | None = None) -> None:
        """Take in the consecutive frames (time, y, x) of a segment, and which pixels may be used."""
        if not self._corners or len(frames) < 3:
            return
        places = [(slice(y, y + _PATCH), slice(x, x + _PATCH)) for y, x in self._corners]
        frames = frames[: max(_MOST_FRAMES, len(frames) // 3 * 3)]
        with np.errstate(invalid="ignore", over="ignore"):
            patches = np.stack([_centred(frames[:, y, x]) for y, x in places])
            fine = np.isfinite(patches.sum(axis=(1, 2, 3)))
            if wanted is not None:
                fine &= np.array([bool(wanted[y, x].all()) for y, x in places])
            if not fine.any():
                return
            patches = patches[fine]
            triples = len(frames) // 3 * 3
            residuals = patches[:, 1:triples:3] * np.float32(2)
            residuals -= patches[:, 0:triples:3]
            residuals -= patches[:, 2:triples:3]
            for k, (along_y, along_x) in enumerate(_DISTANCES):
                energy = np.square(_inner_difference(residuals, along_y, along_x)).mean(axis=(2, 3))
                for parity in range(2):
                    self._energies[parity, fine, k] += energy[:, parity::2].sum(axis=1)
            least = _least_eigenvalue(_inner_difference(patches[:, :_MOST_FRAMES], 1, 1))
        if math.isfinite(least):
            self._least += least
            self._segments += 1

    def merge(self, other: SharedNoise) -> None:
        """Add the sums over another part of the movie."""
        self._energies = self._energies + other._energies
        self._least += other._least
        self._segments += other._segments

    @property
    def dimensions(self) -> float:
        """Least variance of the noise in any direction of time, over the least that white noise has.

        At least about 1 for white noise, 0 where frames follow from others; NaN where it was not measured.
        """
        return self._least / self._segments if self._segments else math.nan

    def smoothing(self) -> Excess:
        """How much the noise grows with distance where it is quiet, beyond what one axis explains."""
        return min(self._excesses(_QUIET), key=lambda excess: excess.value)

    def sharpening(self) -> Excess:
        """The same over the whole field; below 0 where neighbours' noise is opposed."""
        return max(self._excesses(1.0), key=lambda excess: excess.value)

    def _excesses(self, part: float) -> list[Excess]:
        """Of the far difference over the near one, and over those that are near along one axis."""
        seen = (self._energies > 0).all(axis=(0, 2))
        even, odd = self._energies[:, seen]
        found = []
        for nearer in range(3):
            values = [
                np.log(used[:, 3] / used[:, nearer])[_least(ranked[:, 3] / ranked[:, 0], part)]
                for ranked, used in ((even, odd), (odd, even))
            ]
            value = np.concatenate(values)
            if len(value) < _LEAST_VALUES:
                return [Excess()] * 3
            middle = float(np.median(value))
            # 1.25 σ / √n is the standard error of a median.
            scatter = 1.4826 * float(np.median(np.abs(value - middle)))
            found.append(Excess(middle, 1.25 * scatter / math.sqrt(len(value))))
        return found


def _starts(side: int) -> list[int]:
    """Where patches begin along a side: as many as fit, at most eight, spread evenly."""
    count = min(_MOST_PATCHES_ALONG, max(1, side // _PATCH))
    return [int(start) for start in np.linspace(0, max(side - _PATCH, 0), count)]


def _centred(patch: NDArray[Any]) -> Singles:
    """A patch as float32, less its mean, which would take the digits of small noise."""
    if patch.dtype.kind in "iu" and patch.dtype.itemsize <= 2:
        return np.asarray(patch, np.float32)
    wide = np.asarray(patch, np.float64)
    return np.asarray(wide - wide.mean(), np.float32)


def _inner_difference(patches: Singles, along_y: int, along_x: int) -> Singles:
    """Second differences along y and x at these distances, at the pixels of the inner part."""
    first = (_PATCH - _INNER) // 2
    y, x = slice(first, first + _INNER), slice(first, first + _INNER)

    def moved(part: slice, by: int) -> slice:
        return slice(part.start + by, part.stop + by)

    rows = 2 * patches[:, :, y] - patches[:, :, moved(y, -along_y)] - patches[:, :, moved(y, along_y)]
    return np.asarray(
        2 * rows[..., x] - rows[..., moved(x, -along_x)] - rows[..., moved(x, along_x)], np.float32
    )


def _least(values: Floats, part: float) -> NDArray[np.intp]:
    """Indices of the part of the values that is smallest."""
    count = len(values) if part >= 1 else max(_LEAST_VALUES // 2, round(part * len(values)))
    return np.argsort(values, kind="stable")[:count]


def _least_eigenvalue(residuals: Singles) -> float:
    """Least eigenvalue of the frames' covariance over the Marchenko-Pastur edge, of (patch, time, y, x).

    The residuals are normalised in place. Where scenes move, patches are contaminated from above: their 0.9
    quantile counts.
    """
    patches, times = residuals.shape[:2]
    if times < _LEAST_FRAMES:
        return math.nan
    flat = residuals.reshape(patches, times, -1)
    spread = flat.std(axis=2, keepdims=True)
    flat /= np.where(spread > 0, spread, np.float32(1))
    # Without the mean over time, which is the scene: directions orthogonal to a constant.
    basis = np.linalg.qr(np.column_stack([np.ones(times), np.eye(times)[:, 1:]]))[0][:, 1:].astype(np.float32)
    across = basis.T @ flat
    eigenvalues = np.linalg.eigvalsh((across @ across.transpose(0, 2, 1)).astype(np.float64))
    # Pixels that hold all the noise, as hot ones do, or few photons, count as the fewer that they are.
    energy = np.square(across.astype(np.float64)).sum(axis=1)
    total = energy.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels = total**2 / np.square(energy).sum(axis=1) / _CORRELATED**2
        edge = np.maximum(1 - np.sqrt((times - 1) / pixels), 0) ** 2
        ratio = eigenvalues[:, 0] / eigenvalues.mean(axis=1) / edge
    ratio = ratio[np.isfinite(ratio) & (edge > _LEAST_EDGE) & (spread > 0).all(axis=(1, 2))]
    return float(np.quantile(ratio, 0.9)) if len(ratio) else math.nan
