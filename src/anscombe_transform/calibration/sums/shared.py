"""Noise that pixels or frames share, or that comes and goes, measured in patches spread over the field.

A detector's noise is new in every frame and nearly new in every pixel. A movie that was denoised, resampled
or rebuilt from a few components has correlated noise, and its variance is not that of photons. Two laws show
it:

In space, the products of neighbouring pixels' noise have mean 0, however the noise varies over the field.
Otherwise they hold the variance that smoothing took from the pixels: of weights hⱼ, Σh = 1, the variance
falls to Σh² of its value, and the correlations that are made add up to 1 / Σh² − 1. Motion has such products,
too, but also of pixels farther apart, which are subtracted; and it has few time courses in common to the
whole field, which are taken out, or not everywhere: noise is shared only if all patches share as much.

In time, the frames' covariance of T frames of white noise at n pixels has no eigenvalue below (1 − √(T/n))²
of the mean (Marchenko and Pastur 1967). Motion adds to it and lowers none; movies rebuilt from fewer
components than frames, averaged or interpolated have dimensions without noise. Correlated noise of
neighbouring frames shows in products in time, too, of frames brought to one noise: a flash is noisier than
the frames around it.

Noise that comes and goes while brightness does not is that of a gain that was changed: the variance of each
moment over that of the line at its brightness scatters by no more than chance.

References
----------
M. Abramowitz and I. A. Stegun, "Handbook of Mathematical Functions", National Bureau of Standards (1964).
V. A. Marchenko and L. A. Pastur, "Distribution of eigenvalues for some sets of random matrices", Mathematics
of the USSR-Sbornik 1 (1967) 457-483.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anscombe_transform import native
from anscombe_transform.native.arrays import Floats, Singles
from anscombe_transform.native.reference_noise import PATCH as _PATCH
from anscombe_transform.native.reference_noise import PATCH_INNER as _INNER

# Where the inner part of a patch begins.
_FIRST = (_PATCH - _INNER) // 2
# Side of the blocks whose means tell how the field moves, and frames that share nothing any more.
_BLOCK, _FAR = 4, 3
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
# Multiplications that are done by one thread: OpenBLAS begins others at 2^18.
_ALONE = 1 << 17
# Values of which squared differences, added up, stay within float32.
_LARGEST = 1e16
# Patches in which too few pixels hold the noise have no lower edge to compare with.
_LEAST_EDGE = 0.2
_LEAST_VALUES = 8
# Neighbours of a pixel along x, y and the diagonals, and those of a frame.
_NEIGHBOURS, _FRAMES = (2.0, 2.0, 4.0), (2.0,)
# Part of the patches that are taken to be free of motion; normal deviate of that quantile, and its standard
# error for n values, times √n.
_LOWEST, _NORMAL_LOWEST, _ERROR_LOWEST = 0.1, 1.2816, 1.71
_FEWEST_PATCHES = 4
# Standard errors by which either axis must show that noise is shared.
_BOTH = 4.0


@dataclass(frozen=True)
class Excess:
    """Noise that neighbours share, summed over them, in parts of a pixel's, and its standard error.

    0 for white noise, above for smoothed, below for sharpened: the variance is 1 / (1 + value) of the raw.
    `proven` tells whether it shows along all axes that were asked for.
    """

    value: float = 0.0
    error: float = math.inf
    proven: bool = True

    def above(self, limit: float, errors: float) -> bool:
        """Whether it exceeds the limit, and 0 by so many standard errors."""
        return self.value > max(limit, errors * self.error)

    def below(self, limit: float, errors: float) -> bool:
        """Whether it lies below minus the limit, and below 0 by so many standard errors."""
        return -self.value > max(limit, errors * self.error)

    def shown(self, errors: float) -> bool:
        """Whether it differs from 0 by so many standard errors."""
        return abs(self.value) > errors * self.error

    @property
    def loss(self) -> float:
        """Part of the variance that sharing took."""
        return self.value / (1 + self.value)


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
        # Of two sets of all directions of time, and two of the fast ones: squares, and products along x, y
        # and across (speed, set, patch, 4).
        self._products = np.zeros((2, 2, len(self._corners), 4))
        # Squares and products in time, of first and second halves of segments (half, patch, 2).
        self._in_time = np.zeros((2, len(self._corners), 2))
        # Of each segment, mean and noise variance (moment, patch, 2), NaN where there is none.
        self._moments: list[Floats] = []
        # Least eigenvalue over the least that white noise has, and how many segments it was taken of.
        self._least, self._segments = 0.0, 0

    def add(self, frames: NDArray[Any], wanted: NDArray[np.bool_] | None = None) -> None:
        """Take in the consecutive frames (time, y, x) of a segment, and which pixels may be used."""
        if not self._corners or len(frames) < 2:
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
        images = np.empty((most, 5, len(frames), _INNER**2), np.float32)
        for some in np.array_split(where, -(-len(where) // _AT_ONCE)):
            level = _fill(images, patches, [frames[:, places[k][0], places[k][1]] for k in some])
            filled = images[: len(some)]
            moments[:, some] = _moments(filled, level)
            tested = _OfOneNoise(filled[:, 0, :_MOST_TESTED])
            self._in_time[:, some] += tested.products_in_time()
            ratios.append(tested.eigenvalue_ratios())
            found.append(_products(filled, patches[: len(some)]))
        products = np.concatenate(found)
        for sums, basis in zip(
            self._products, (_directions(len(frames)), _fast_directions(len(frames))), strict=True
        ):
            sums[:, fine] += _without_common_courses(products, where % 2, basis)
        self._moments.append(moments)
        ratio = np.concatenate(ratios)
        # Where scenes move, patches are contaminated from above.
        least = float(np.quantile(ratio, 0.9)) if len(ratio) else math.nan
        if math.isfinite(least):
            self._least += least
            self._segments += 1

    def merge(self, other: SharedNoise) -> None:
        """Add the sums over another part of the movie."""
        self._products = self._products + other._products
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

    def whiteness(self) -> tuple[float, float, float]:
        """Part of its variance that noise keeps in second differences along x, y and time; NaN: not measured.

        [1, -2, 1] of noise of which neighbours share ρ has the variance 6 - 8 ρ: 1 for white noise.
        """
        x, y, time = (
            1 - 2 / 3 * noise.value if math.isfinite(noise.error) else math.nan
            for noise in (self.along("x"), self.along("y"), self.lingering())
        )
        return x, y, time

    def smoothing(self) -> Excess:
        """Noise that a pixel shares with its eight neighbours; proven if along both axes, or diagonals."""
        along_x, along_y, across = (self._shared(weights) for weights in np.eye(3))
        both = along_x.above(0.0, _BOTH) and along_y.above(0.0, _BOTH)
        return replace(self._shared(_NEIGHBOURS), proven=both or across.above(0.0, _BOTH))

    def along(self, axis: str) -> Excess:
        """Noise that a pixel shares with its two neighbours along axis "x" or "y"."""
        weights = (2.0, 0.0, 0.0) if axis == "x" else (0.0, 2.0, 0.0)
        return self._shared(weights)

    def sharpening(self) -> Excess:
        """The same, below 0 where neighbours' noise is opposed; proven if along both axes."""
        along_x, along_y = (self._shared(weights) for weights in np.eye(3)[:2])
        both = along_x.below(0.0, _BOTH) and along_y.below(0.0, _BOTH)
        return replace(self._shared(_NEIGHBOURS), proven=both)

    def _shared(self, weights: Sequence[float] | Floats) -> Excess:
        """Noise that a pixel shares with neighbours, as far as fast changes allow it.

        Noise that was smoothed in space is shared alike in all directions of time. Light of cells that comes
        and goes lingers, so that the fast ones hold less of it: what they lack by more than chance is light.
        """
        everywhere, fast = (_excess(products, weights) for products in self._products)
        return replace(everywhere, value=min(everywhere.value, fast.value + fast.error))

    def lingering(self) -> Excess:
        """Noise that a frame shares with the frames before and after it."""
        return _excess(self._in_time, _FRAMES)

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
        if not any(map(len, self._moments)):
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
    return math.sqrt(max(square / freedom - error**2, 0.0)), chi_square_tail(square / error**2, freedom)


def chi_square_tail(square: float, freedom: int) -> float:
    """Probability that χ² of so many degrees of freedom exceeds a value.

    The finite sum of Abramowitz and Stegun 1964, 26.4.4 and 26.4.5: importing scipy.special takes longer than
    all else that a calibration does beside its sums.
    """
    if square <= 0:
        return 1.0
    half, odd = square / 2, freedom % 2
    terms = (
        math.exp((k - odd / 2) * math.log(half) - half - math.lgamma(k + 1 - odd / 2))
        for k in range(odd, (freedom + odd) // 2)
    )
    return (math.erfc(math.sqrt(half)) if odd else 0.0) + math.fsum(terms)


def normal_deviate(probability: float) -> float:
    """Normal deviate that chance exceeds, on either side, with a probability."""
    return -NormalDist().inv_cdf(max(probability, 1e-300) / 2) if probability < 1 else 0.0


def _excess(products: Floats, weights: Sequence[float] | Floats) -> Excess:
    """Noise that all patches share, from the weighted products over the squares.

    What moves adds to the products, and not in all patches alike: the lowest tenth of them, raised by what
    chance takes from it, tells what is shared everywhere.
    """
    seen = products[:, (products[..., 0] > 0).all(axis=0)]
    shares = seen[..., 1:] @ np.asarray(weights, np.float64) / seen[..., 0]
    patches = shares.shape[1]
    if patches < _FEWEST_PATCHES:
        return Excess()
    # Chance is not the same in both halves, what belongs to the patch is. Of two frames both halves are one.
    apart = shares[0] - shares[1]
    if not apart.any():
        apart = 2 * shares[0]
    chance = 1.4826 * float(np.median(np.abs(apart - np.median(apart)))) / 2
    value = float(np.quantile(shares.mean(axis=0), _LOWEST)) + _NORMAL_LOWEST * chance
    return Excess(value, max(_ERROR_LOWEST * chance / math.sqrt(patches), 1e-9))


def _starts(side: int) -> list[int]:
    """Where patches begin along a side: as many as fit, at most eight, spread evenly."""
    count = min(_MOST_PATCHES_ALONG, max(1, side // _PATCH))
    return [int(start) for start in np.linspace(0, max(side - _PATCH, 0), count)]


def _is_small(dtype: np.dtype[Any]) -> bool:
    """Whether values are integers that float32 holds, and their differences."""
    return dtype.kind in "iu" and dtype.itemsize <= 2


def _is_moderate(patch: NDArray[Any]) -> bool:
    """Whether no value is NaN or too large to be squared in float32."""
    return float(patch.min()) > -_LARGEST and float(patch.max()) < _LARGEST


def _fill(images: Singles, patches: Singles, frames: list[NDArray[Any]]) -> Floats:
    """Fill in the frames of patches less their mean over time, and their images; return the mean's.

    `patches` (patch, time, pixel) has room for the frames, `images` (patch, image, time, pixel) for the
    results of `patch_images`.
    """
    level = np.zeros(len(frames))
    inner = slice(_FIRST, _FIRST + _INNER)
    for k, patch in enumerate(frames):
        # What stands still would take the digits of small noise. Whole numbers stay whole at first.
        level[k] = np.rint(patch[0].mean()) if _is_small(patch.dtype) else patch.mean(dtype=np.float64)
        out = patches[k].reshape(patch.shape)
        np.subtract(patch, level[k], out=out, casting="same_kind")
        scene = out.mean(axis=0)
        out -= scene
        level[k] += scene[inner, inner].mean()
    count, times = len(frames), patches.shape[1]
    native.core.patch_images(patches[:count], count, times, images[:count])
    return level


def _products(images: Singles, patches: Singles) -> Floats:
    """Products (patch, kind, time, time), means over the pixels, of the frames of patches.

    Of means of a few pixels with themselves, which hold less noise; of pixels with their neighbours along x,
    along y and across, and with themselves.
    """
    blocks = _PATCH // _BLOCK
    means = patches.reshape(*patches.shape[:2], blocks, _BLOCK, blocks, _BLOCK).mean(axis=(3, 5))
    means = means.reshape(*patches.shape[:2], -1)
    found = np.empty((len(patches), 5, patches.shape[1], patches.shape[1]))
    found[:, 0] = _dot(means, means) / np.float32(means.shape[2])
    found[:, 1:] = _dot(images[:, 4:], images[:, 1:]) / np.float32(images.shape[3])
    return found


def _dot(a: Singles, b: Singles) -> Singles:
    """Products of rows (…, row, pixel) of two stacks of matrices, over the pixels.

    In pieces for which a linear algebra library begins no threads: on a busy machine they wait for one
    another ten times as long as they work.
    """
    step = max(1, _ALONE // (a.shape[-2] * b.shape[-2]))
    parts = (slice(k, k + step) for k in range(0, a.shape[-1], step))
    return np.asarray(sum(a[..., part] @ b[..., part].swapaxes(-1, -2) for part in parts), np.float32)


def _without_common_courses(products: Floats, sets: NDArray[np.intp], basis: Floats) -> Floats:
    """Squares and products with neighbours (half, patch, kind) without common time courses.

    From the `products` of the frames (patch, kind, time, time), along the directions of `basis`. When the
    field jitters, all patches change by the same few courses of time, and noise by as many as there are
    frames. The strongest courses are those of the patches of the other of two `sets`, so that noise has no
    part in the choice; half of the directions that are left make each half.
    """
    total = np.einsum("pij,ij->p", products[:, 0], basis @ basis.T)
    weight = np.where(total > 0, 1 / np.where(total > 0, total, 1), 0)
    found = np.zeros((2, len(sets), 4))
    for own in (sets == 0, sets == 1):
        left = basis
        common = basis.T @ np.einsum("p,pij->ij", weight[~own], products[~own, 0]) @ basis
        if own.any() and common.any():
            count = min(_COMMON_COURSES, basis.shape[1] // 3)
            left = basis @ np.linalg.eigh(common)[1][:, : basis.shape[1] - count]
        for half in range(2):
            # Of two frames there is one direction, which counts for both halves.
            some = left[:, half::2] if left.shape[1] > 1 else left
            along_x, along_y, across, square = np.einsum("pkij,ij->kp", products[own, 1:], some @ some.T)
            found[half, own] = np.stack([square, along_x, along_y, across], axis=-1)
    return found


def _moments(images: Singles, level: Floats) -> Floats:
    """Mean and noise variance (moment, patch, 2) of every three frames."""
    triples = images.shape[2] // 3 * 3
    one, two, three = (images[:, 0, k:triples:3] for k in range(3))
    variance = np.square(two - (one + three) / 2).mean(axis=2).T / (_SQUARED_WEIGHTS / 4)
    mean = images[:, -1, :triples].mean(axis=2, dtype=np.float64) + level[:, None]
    return np.stack([((mean[:, 0::3] + 4 * mean[:, 1::3] + mean[:, 2::3]) / 6).T, variance], axis=-1)


@cache
def _fast_directions(times: int) -> Floats:
    """Directions of time (time, direction), the faster half of those orthogonal to a constant.

    Cosines (the discrete cosine transform). White noise has as much power in them as in the slower ones,
    light of cells that decays over some frames a fifth of its own or less.
    """
    orders = np.arange(max(times // 2, 1), times)
    columns = np.cos(np.pi / times * np.outer(np.arange(times) + 0.5, orders))
    return np.asarray(columns / np.linalg.norm(columns, axis=0), np.float64)


@cache
def _directions(times: int) -> Floats:
    """Directions of time (time, time − 1) orthogonal to a constant, which is the scene."""
    columns = np.column_stack([np.ones(times), np.eye(times)[:, 1:]])
    return np.asarray(np.linalg.qr(columns)[0][:, 1:], np.float64)


class _OfOneNoise:
    """Residuals (patch, time, pixel), each frame of a patch over its own noise.

    Zero for patches in which a frame holds one value.
    """

    def __init__(self, residuals: Singles) -> None:
        self._residuals = residuals
        self._times, pixels = residuals.shape[1:]
        products = _dot(residuals, residuals).astype(np.float64) / pixels
        square = np.diagonal(products, axis1=1, axis2=2)
        variance = square - residuals.mean(axis=2, dtype=np.float64) ** 2
        # What rounding leaves of one value is none.
        fine = (variance > _ROUNDED * square).all(axis=1, keepdims=True)
        self._scale = np.where(fine, 1 / np.sqrt(np.where(fine, variance, 1)), 0)
        self._products = products * self._scale[:, :, None] * self._scale[:, None, :]

    def products_in_time(self) -> Floats:
        """Squares, and products with the next frame less those with the third: (half, patch, 2)."""
        found = np.zeros((2, len(self._products), 2))
        if self._times <= _FAR + 1:
            return found
        without_mean = np.eye(self._times) - 1 / self._times
        centred = without_mean @ self._products @ without_mean
        square, near, far = (np.diagonal(centred, lag, 1, 2) for lag in (0, 1, _FAR))
        # Where there is a third frame; near ones are taken from both sides of it.
        near = (near[:, : far.shape[1]] + near[:, _FAR - 1 :]) / 2
        for half, some in enumerate(np.array_split(np.arange(far.shape[1]), 2)):
            found[half, :, 0] = (square[:, :-_FAR] + square[:, _FAR:])[:, some].sum(axis=1) / 2
            found[half, :, 1] = (near - far)[:, some].sum(axis=1)
        return found

    def eigenvalue_ratios(self) -> Floats:
        """Least eigenvalues of the frames' covariance over the Marchenko-Pastur edge.

        Of the patches with enough light to measure it.
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
