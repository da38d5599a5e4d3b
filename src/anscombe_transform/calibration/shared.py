"""Noise that pixels or frames share, or that comes and goes, told in patches spread over the field.

A detector's noise is new in every frame and nearly new in every pixel. What was denoised, resampled or
rebuilt from a few components shares noise, and its variance is not that of photons. Two laws tell:

In space, the second difference of white noise has one variance whatever the distance of its samples. Of
smoothed noise it grows with the distance, of sharpened noise it shrinks. Taken along both axes at once, near
(1, 1) against far (4, 4), that also shows a weak but wide kernel, as of a denoiser that blends the frame with
its smooth version, of which neither axis alone tells anything. What moves adds to the far one, but by few
courses of time in common to the whole field, which are taken out, or not everywhere: the quietest third of
the patches is compared, chosen by other directions of time than those compared.

In time, the frames' covariance of T frames of white noise at n pixels has no eigenvalue below
(1 − √(T/n))² of the mean (Marchenko and Pastur 1967). What moves adds to it and lowers none; movies rebuilt
from fewer components than frames, averaged or interpolated have dimensions without noise. Whether
neighbouring frames share noise is told by second differences in time, too, of frames brought to one noise: a
flash is noisier than the frames around it.

Noise that comes and goes while brightness does not is that of a gain that was changed: the variance of each
moment over that of the line at its brightness scatters by no more than chance.

References
----------
V. A. Marchenko and L. A. Pastur, "Distribution of eigenvalues for some sets of random matrices", Mathematics
of the USSR-Sbornik 1 (1967) 457-483.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

# Sides of a patch and of its inner part, which second differences at distance 4 stay within the patch of.
_PATCH, _INNER = 32, 24
_MOST_PATCHES_ALONG = 8
_AT_ONCE = 8
# Σ w² of a second difference in time and along both axes.
_SQUARED_WEIGHTS = 216.0
_MOST_FRAMES = 48
# Frames of a segment whose covariance is compared with the law.
_MOST_TESTED, _LEAST_FRAMES = 24, 8
# Courses of time that what moves may have in common all over the field: shifts along both axes and their
# squares and product, and brightness.
_COMMON_COURSES = 6
# Σ ρ² of a second difference's autocorrelations: pixels that count for one, along each axis.
_CORRELATED = 1.944
# A frame's variance over its mean square that rounding to float32 makes.
_ROUNDED = 1e-6
# Values of which squared differences, added up, stay within float32.
_LARGEST = 1e16
# Patches in which too few pixels hold the noise have no lower edge to compare with.
_LEAST_EDGE = 0.2
_QUIET = 1 / 3
_LEAST_VALUES = 8
# Second differences at distances 1 and 4 along y, and of each at 1 and 4 along x: the last is the farthest.
_FARTHEST = 3
# Most that the excess of shared noise may vary between patches, as a relative variance, and how much more of
# it may be left without differences in space than with far ones. Simulated denoisers stay below 0.16 and
# 1.25; what moves in its own time exceeds either, since images are smooth and cells are not everywhere.
_MOST_VARIED, _MOST_LEFT = 0.2, 1.3
# Standard errors within which the quiet part and the whole agree.
_AGREEING = 2.0


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
        # Of two sets of directions of time: energies (set, patch, distance), last without differences.
        self._energies = np.zeros((2, len(self._corners), _FARTHEST + 2))
        # Energies of first and second halves of segments (half, patch, near or far in time).
        self._in_time = np.zeros((2, len(self._corners), 2))
        # Of each segment, mean and noise variance (moment, patch, 2), NaN where there is none.
        self._moments: list[Floats] = []
        # Least eigenvalue over the least that white noise has, and how many segments it was taken of.
        self._least, self._segments = 0.0, 0

    def add(self, frames: NDArray[Any], wanted: NDArray[np.bool_] | None = None) -> None:
        """Take in the consecutive frames (time, y, x) of a segment, and which pixels may be used."""
        if not self._corners or len(frames) < 3:
            return
        places = [(slice(y, y + _PATCH), slice(x, x + _PATCH)) for y, x in self._corners]
        frames = frames[:_MOST_FRAMES]
        fine = np.ones(len(places), bool)
        if wanted is not None:
            fine &= np.array([bool(wanted[y, x].all()) for y, x in places])
        if not _is_small(frames.dtype):
            fine &= np.array([_is_moderate(frames[:, y, x]) for y, x in places])
        if not fine.any():
            return
        where = np.flatnonzero(fine)
        found, ratios = [], []
        moments = np.full((len(frames) // 3, len(fine), 2), math.nan)
        # Few patches at a time stay in the processor's cache, always in the same memory.
        most = min(_AT_ONCE, len(where))
        patches = np.empty((most, len(frames), _PATCH**2), np.float32)
        images = np.empty((most, _FARTHEST + 2, len(frames), _INNER**2), np.float32)
        for some in np.array_split(where, -(-len(where) // _AT_ONCE)):
            level = _fill(images, patches, [frames[:, places[k][0], places[k][1]] for k in some])
            filled = images[: len(some)]
            products = (filled @ filled.transpose(0, 1, 3, 2)).astype(np.float64) / _INNER**2
            moments[:, some] = _moments(filled, level)
            tested = _OfOneNoise(filled[:, 0, :_MOST_TESTED], products[:, 0])
            self._in_time[:, some] += tested.energies_in_time()
            ratios.append(tested.eigenvalue_ratios())
            found.append(products)
        self._energies[:, fine] += _without_common_courses(np.concatenate(found), where % 2)
        self._moments.append(moments)
        ratio = np.concatenate(ratios)
        # Where scenes move, patches are contaminated from above.
        least = float(np.quantile(ratio, 0.9)) if len(ratio) else math.nan
        if math.isfinite(least):
            self._least += least
            self._segments += 1

    def merge(self, other: SharedNoise) -> None:
        """Add the sums over another part of the movie."""
        self._energies = self._energies + other._energies
        self._in_time = self._in_time + other._in_time
        self._moments = self._moments + other._moments
        self._least += other._least
        self._segments += other._segments

    @property
    def dimensions(self) -> float:
        """Least variance of the noise in any direction of time, over the least that white noise has.

        At least about 1 for white noise, 0 where frames follow from others; NaN where it was not measured.
        """
        return self._least / self._segments if self._segments else math.nan

    def smoothing(self) -> Excess:
        """How much the noise grows with distance where it is quiet, beyond what one axis explains.

        Of the whole field, and so more surely, where that shows the same. Infinitely uncertain where it is
        rather what moves: that varies over the field, and more of it is left without differences in space.
        """
        quiet, everywhere = self._smallest(_QUIET), self._smallest(1.0)
        variation, error = self._variation()
        whole, far = (_excess(e, 0, _QUIET) for e in (self._energies, self._energies[..., :-1]))
        chance = _AGREEING * math.hypot(whole.error, _MOST_LEFT * far.error)
        if variation + error > _MOST_VARIED or whole.value > _MOST_LEFT * far.value + chance:
            return replace(quiet, error=math.inf)
        apart = abs(quiet.value - everywhere.value) / math.hypot(quiet.error, everywhere.error)
        return everywhere if apart < _AGREEING and quiet.above(0.0, _AGREEING) else quiet

    def _smallest(self, part: float) -> Excess:
        return min(self._by_distance(part), key=lambda excess: excess.value)

    def sharpening(self) -> Excess:
        """The same over the whole field, but at its largest; below 0 where neighbours' noise is opposed."""
        return max(self._by_distance(1.0), key=lambda excess: excess.value)

    def _by_distance(self, part: float) -> list[Excess]:
        """Of the far difference over those that are nearer, along one axis or both."""
        return [_excess(self._energies[..., :-1], nearer, part) for nearer in range(_FARTHEST)]

    def _variation(self) -> tuple[float, float]:
        """Relative variance, between patches, of how far differences exceed near ones, and its error.

        Noise that is shared is shared alike everywhere; what moves is not everywhere.
        """
        energies = self._energies[:, (self._energies > 0).all(axis=(0, 2))]
        if energies.shape[1] < _LEAST_VALUES // 2:
            return math.inf, math.inf
        even, odd = np.log(energies[..., _FARTHEST] / energies[..., 0])
        # Chance is not the same in both, what belongs to the patch is.
        common, chance = float(np.cov(even, odd)[0, 1]), float(np.var(even - odd)) / 2
        square = max(float(np.mean([even, odd])) ** 2, 1e-12)
        return common / square, (chance + max(common, 0.0)) / math.sqrt(len(even)) / square

    def lingering(self) -> Excess:
        """How much more noise of frames three apart differs than that of neighbours, where it is quiet."""
        return _excess(self._in_time, 0, _QUIET)

    def unsteadiness(self, gain: float, x0: float) -> tuple[float, float]:
        """Relative spread of the gain over the movie, and how unlikely chance makes it.

        Parameters
        ----------
        gain, x0 : float
            Of the line of variance against mean.

        Returns
        -------
        spread : float
            Standard deviation, beyond chance, of the variance of each moment over that of the line.
        probability : float
            That chance gives as much (χ² test); 1 where there is too little to tell.
        """
        if not self._moments:
            return 0.0, 1.0
        moments = np.concatenate(self._moments)
        mean, variance = moments[..., 0], moments[..., 1]
        seen = np.isfinite(variance).all(axis=0)
        usual = variance[:, seen].mean(axis=0)
        # A zero level that wanders moves the line's variance, and light that changes that of a patch: a gain
        # that changes moves the noise against both.
        found = [_scatter(variance, gain * (mean - x0)), _scatter(variance[:, seen], usual)]
        return min(spread for spread, _ in found), max(probability for _, probability in found)


def _scatter(variance: Floats, expected: Floats) -> tuple[float, float]:
    """Relative scatter of moments (moment, patch) beyond chance, and its probability by chance."""
    from scipy.special import gammaincc

    middles, errors = [], []
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = np.where(expected > 0, variance / expected, math.nan)
    for ratio in ratios:
        some = ratio[ratio > 0]
        if len(some) >= _LEAST_VALUES:
            middle = float(np.median(some))
            middles.append(math.log(middle))
            scatter = 1.4826 * float(np.median(np.abs(some - middle)))
            errors.append(1.25 * scatter / middle / math.sqrt(len(some)))
    if len(middles) < 4 or min(errors) <= 0:
        return 0.0, 1.0
    # A moment's own scatter is itself uncertain; that of all moments is alike.
    error = float(np.median(errors))
    square = float(np.sum((np.array(middles) - np.mean(middles)) ** 2))
    freedom = len(middles) - 1
    probability = float(gammaincc(freedom / 2, square / error**2 / 2))
    return math.sqrt(max(square / freedom - error**2, 0.0)), probability


def _excess(energies: Floats, nearer: int, part: float) -> Excess:
    """Of the last of the energies (2, patch, kind) over another, in the patches where it is least.

    Those patches are chosen by the energies of the other frames, so that chance chooses none.
    """
    even, odd = energies
    seen = (even > 0).all(axis=1) & (odd > 0).all(axis=1)
    even, odd = even[seen], odd[seen]
    values = [
        np.log(used[:, -1] / used[:, nearer])[_least(ranked[:, -1] / ranked[:, 0], part)]
        for ranked, used in ((even, odd), (odd, even))
    ]
    value = np.concatenate(values)
    if len(value) < _LEAST_VALUES:
        return Excess()
    middle = float(np.median(value))
    # 1.25 σ / √n is the standard error of a median.
    scatter = 1.4826 * float(np.median(np.abs(value - middle)))
    return Excess(middle, 1.25 * scatter / math.sqrt(len(value)))


def _starts(side: int) -> list[int]:
    """Where patches begin along a side: as many as fit, at most eight, spread evenly."""
    count = min(_MOST_PATCHES_ALONG, max(1, side // _PATCH))
    return [int(start) for start in np.linspace(0, max(side - _PATCH, 0), count)]


def _is_small(dtype: np.dtype[Any]) -> bool:
    """Whether values are integers that float32 holds, and their differences."""
    return dtype.kind in "iu" and dtype.itemsize <= 2


def _is_moderate(patch: NDArray[Any]) -> bool:
    """Whether no value is NaN, or one whose square float32 could not hold."""
    return float(patch.min()) > -_LARGEST and float(patch.max()) < _LARGEST


def _fill(images: Singles, patches: Singles, frames: list[NDArray[Any]]) -> Floats:
    """Fill in second differences of the frames of patches, and themselves, and return the patches' level.

    `images` (patch, image, time, pixel) are those along y and x at distances 1 and 1, 1 and 4, 4 and 1, and 4
    and 4, at the pixels of the inner part. `patches` (patch, time, pixel) has room for the frames.
    """
    from anscombe_transform._statistics_kernels import patch_differences

    level = np.empty(len(frames))
    for k, patch in enumerate(frames):
        # Squares of the mean would take the digits of small noise. Whole numbers stay whole.
        level[k] = np.rint(patch[0].mean()) if _is_small(patch.dtype) else patch.mean(dtype=np.float64)
        np.subtract(patch, level[k], out=patches[k].reshape(patch.shape), casting="same_kind")
    patch_differences(patches[: len(frames)], np.empty(2 * _PATCH, np.float32), images)
    return level


def _least(values: Floats, part: float) -> NDArray[np.intp]:
    """Indices of the part of the values that is smallest."""
    count = len(values) if part >= 1 else max(_LEAST_VALUES // 2, round(part * len(values)))
    return np.argsort(values, kind="stable")[:count]


def _without_common_courses(products: Floats, sets: NDArray[np.intp]) -> Floats:
    """Energies (half, patch, image) of images without what moves everywhere alike.

    From the `products` of their frames (patch, image, time, time), means over the pixels. When the field
    jitters, all patches change by the same few courses of time, and noise by as many as there are frames. The
    strongest courses are those of the patches of the other of two `sets`, so that noise has no part in the
    choice; half of the directions that are left make each half.
    """
    basis = _directions(products.shape[-1])
    total = np.tensordot(products[:, 0], basis @ basis.T, 2)
    weight = np.where(total > 0, 1 / np.where(total > 0, total, 1), 0)
    energies = np.zeros((2, *products.shape[:2]))
    for own in (sets == 0, sets == 1):
        left = basis
        common = basis.T @ np.tensordot(weight[~own], products[~own, _FARTHEST], 1) @ basis
        if own.any() and common.any():
            count = min(_COMMON_COURSES, basis.shape[1] // 3)
            left = basis @ np.linalg.eigh(common)[1][:, : basis.shape[1] - count]
        for half in range(2):
            some = left[:, half::2]
            energies[half, own] = np.tensordot(products[own], some @ some.T, 2)
    # Of the patches themselves, times the sum of the squared weights of both differences.
    energies[..., -1] *= 36
    return energies


def _moments(images: Singles, level: Floats) -> Floats:
    """Mean and noise variance (moment, patch, 2) of every three frames."""
    triples = images.shape[2] // 3 * 3
    one, two, three = (images[:, 0, k:triples:3] for k in range(3))
    variance = np.square(two - (one + three) / 2).mean(axis=2).T / (_SQUARED_WEIGHTS / 4)
    mean = images[:, -1, :triples].mean(axis=2, dtype=np.float64) + level[:, None]
    return np.stack([((mean[:, 0::3] + 4 * mean[:, 1::3] + mean[:, 2::3]) / 6).T, variance], axis=-1)


@cache
def _directions(times: int) -> Floats:
    """Directions of time (time, time − 1) orthogonal to a constant, which is the scene."""
    columns = np.column_stack([np.ones(times), np.eye(times)[:, 1:]])
    return np.asarray(np.linalg.qr(columns)[0][:, 1:], np.float64)


@cache
def _forms_in_time(times: int) -> Floats:
    """Quadratic forms (half, near or far, time, time): squares of second differences, one and three apart."""
    forms = np.zeros((2, 2, times, times))
    for half, some in enumerate(np.array_split(np.arange(3, times - 3), 2)):
        for k, distance in enumerate((1, 3)):
            for centre in some:
                weights = np.zeros(times)
                weights[[centre - distance, centre, centre + distance]] = -1, 2, -1
                forms[half, k] += np.outer(weights, weights)
    return forms


class _OfOneNoise:
    """Residuals (patch, time, pixel), each frame of a patch over its own noise.

    Zero for patches in which a frame holds one value. `products` (patch, time, time) of the residuals,
    means over the pixels, are those of these frames and maybe more.
    """

    def __init__(self, residuals: Singles, products: Floats) -> None:
        self._residuals = residuals
        self._times = residuals.shape[1]
        products = products[:, : self._times, : self._times]
        square = np.diagonal(products, axis1=1, axis2=2)
        variance = square - residuals.mean(axis=2, dtype=np.float64) ** 2
        # What rounding leaves of one value is none.
        fine = (variance > _ROUNDED * square).all(axis=1, keepdims=True)
        self._scale = np.where(fine, 1 / np.sqrt(np.where(fine, variance, 1)), 0)
        self._products = products * self._scale[:, :, None] * self._scale[:, None, :]

    def energies_in_time(self) -> Floats:
        """Energies (half, patch, near or far) of second differences in time, one and three frames apart."""
        energies = np.tensordot(_forms_in_time(self._times), self._products, ((2, 3), (1, 2)))
        return np.asarray(energies.transpose(0, 2, 1))

    def eigenvalue_ratios(self) -> Floats:
        """Least eigenvalues of the frames' covariance over the Marchenko-Pastur edge.

        Of the patches of which that can be told.
        """
        if self._times < _LEAST_FRAMES:
            return np.empty(0)
        basis = _directions(self._times)
        eigenvalues = np.linalg.eigvalsh(basis.T @ self._products @ basis)
        # Pixels that hold all the noise, as hot ones do, or few photons, count as the fewer that they are.
        energy = self._energy_of_pixels()
        with np.errstate(divide="ignore", invalid="ignore"):
            pixels = energy.sum(axis=1) ** 2 / np.square(energy).sum(axis=1) / _CORRELATED**2
            edge = np.maximum(1 - np.sqrt((self._times - 1) / pixels), 0) ** 2
            ratio = eigenvalues[:, 0] / eigenvalues.mean(axis=1) / edge
        return np.asarray(ratio[np.isfinite(ratio) & (edge > _LEAST_EDGE)])

    def _energy_of_pixels(self) -> Floats:
        """Energy (patch, pixel) of the residuals' course of time about its mean."""
        scaled = self._residuals * self._scale[:, :, None].astype(np.float32)
        scaled -= scaled.mean(axis=1, keepdims=True)
        return np.asarray(np.square(scaled, out=scaled).sum(axis=1), np.float64)
