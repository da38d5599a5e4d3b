r"""The noise of a movie before and after the transform, measured without the calibration's code.

In a run of frames, the second difference in time :math:`d_t = x_{t-1} - 2 x_t + x_{t+1}` removes everything
static or steadily changing; if the noise of frames is independent, :math:`E[d^2] = 6\sigma^2`. The sums of
the 64 pixels of a tile are kept in four classes, by brightness of a pixel's neighbours: a pixel's own noise
has no part in where it is counted, so that sorting by brightness does not distort the variance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from anscombe_transform.native.arrays import AnyArray, Floats

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from anscombe_transform.codec.transform.plan import Plan


# From this many photons on, an outlying difference in time is known from noise by its size.
_BRIGHT = 3.0
_TILE = 8
_CLASSES = 4
_MOST_BINS = 24
# Bins of the mean are at least this wide, in standard deviations of the noise of one value.
_BIN_WIDTH = 0.2
_BIN_ROWS = 24
_OUTLIER = 4.0


@dataclass(frozen=True)
class NoiseBins:
    """Noise variance against mean, before and after the transform; float64 arrays, one value per bin."""

    mean: Floats
    before: Floats
    before_error: Floats
    after: Floats
    after_error: Floats
    count: npt.NDArray[np.int64]


@dataclass
class NoiseRows:
    """Noise variance before and after the transform, in rows of 16 pixels of one tile, run and brightness.

    Columns: brightness of the neighbours, mean, variance of the signal, variance of the codes.
    """

    plan: Plan
    rows: list[Floats] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Whether no noise was measured."""
        return not any(len(rows) for rows in self.rows)

    def update(self, block: AnyArray, codes: AnyArray) -> None:
        """Add a run of frames and their codes."""
        if len(block) < 2:
            return
        image = block.mean(axis=0, dtype=np.float64)
        brightness = neighbours(image)
        pixels = _tile_pixels(image.shape)
        order = np.argsort(brightness.ravel()[pixels], axis=1, kind="stable")
        pixels = np.take_along_axis(pixels, order, axis=1)
        starts = np.unique(np.arange(_CLASSES) * pixels.shape[1] // _CLASSES)
        sizes = np.diff([*starts, pixels.shape[1]])

        def rows(image: Floats) -> Floats:
            return np.asarray((np.add.reduceat(image.ravel()[pixels], starts, axis=1) / sizes).ravel())

        differences = [
            (rows(mean), rows(before), rows(after))
            for (before, mean), (after, _) in zip(_differences(block), _differences(codes), strict=True)
        ]
        mean, before, after = (np.array(values) for values in zip(*differences, strict=True))
        kept = self._quiet(mean, after, float(sizes.min()))
        columns = [
            rows(brightness),
            *(np.where(kept, v, 0).sum(axis=0) / kept.sum(axis=0) for v in (mean, before, after)),
        ]
        table = np.stack(columns, axis=1)
        self.rows.append(table[np.isfinite(table).all(axis=1)])

    def _quiet(self, mean: Floats, after: Floats, size: float) -> npt.NDArray[np.bool_]:
        """Which differences in time (axis 0) of a row are no larger than noise among the others of the row.

        The onset of a transient spoils two or three of them. The cube root of a variance of `size` values is
        nearly normal with a relative spread of √(2/size)/3 (Wilson and Hilferty 1931), a little more for
        counts.
        """
        root = np.cbrt(after)
        limit = np.median(root, axis=0) * (1 + _OUTLIER * math.sqrt((2 + 1 / _BRIGHT) / size) / 3)
        dim = self.plan.curve.photons(mean.mean(axis=0)) < _BRIGHT
        # Of few differences no majority is known to be quiet. NaN stays: it takes the whole row with it.
        return np.asarray(~(root > limit) | dim | (len(mean) < 5))

    def binned(self) -> NoiseBins:
        """Means over rows of like brightness, without rows that hold more than noise."""
        rows = np.concatenate(self.rows)
        # Equal steps of the stabilised signal, so that dim and bright bins are alike in standard deviations.
        position = self.plan.curve.stabilize(rows[:, 0]) * self.plan.curve.beta
        span = float(np.ptp(position))
        bins = int(np.clip(span / _BIN_WIDTH, 1, _MOST_BINS))
        label = np.clip((position - position.min()) / (span or 1) * bins, 0, bins - 1).astype(np.intp)
        label = _merge_sparse(np.bincount(label, minlength=bins), _BIN_ROWS)[label]
        kept = np.zeros(len(rows), bool)
        for k in range(int(label.max()) + 1):
            inside = np.flatnonzero(label == k)
            kept[inside] = _typical(rows[inside, 2]) & _typical(rows[inside, 3])
        label, rows = label[kept], rows[kept]
        count = np.bincount(label)
        used = count > 0

        def average(values: Floats) -> tuple[Floats, Floats]:
            with np.errstate(invalid="ignore", divide="ignore"):
                mean = np.bincount(label, values) / count
                spread = np.bincount(label, (values - mean[label]) ** 2) / np.maximum(count - 1, 1)
                return mean[used], np.sqrt(spread / count)[used]

        before, before_error = average(rows[:, 2])
        after, after_error = average(rows[:, 3])
        return NoiseBins(
            average(rows[:, 1])[0], before, before_error, after, after_error, count[used].astype(np.int64)
        )


def _differences(block: AnyArray) -> Iterator[tuple[Floats, Floats]]:
    """Yield, for each second difference in time, every pixel's noise variance and the mean it belongs to.

    The mean weighs the frames as the variance does. Of two frames there is only the first difference.
    """
    w = np.array([1.0, -2.0, 1.0] if len(block) > 2 else [1.0, -1.0])
    norm = float((w**2).sum())
    frames = [frame.astype(np.float64) for frame in block[: w.size - 1]]
    for frame in block[w.size - 1 :]:
        frames.append(frame.astype(np.float64))
        difference = sum(a * f for a, f in zip(w, frames, strict=True))
        mean = sum(a * a * f for a, f in zip(w, frames, strict=True))
        yield np.square(difference) / norm, np.asarray(mean / norm)
        frames.pop(0)


def neighbours(image: Floats) -> Floats:
    """Mean of the up to eight pixels around each, which leaves the pixel's own noise out."""
    height, width = image.shape
    total, count = np.zeros_like(image), np.zeros_like(image)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            if dy or dx:
                to = np.s_[max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)]
                fro = np.s_[max(-dy, 0) : height + min(-dy, 0), max(-dx, 0) : width + min(-dx, 0)]
                total[to] += image[fro]
                count[to] += 1
    return np.where(count, total / np.maximum(count, 1), image)


def _tile_pixels(shape: tuple[int, ...]) -> npt.NDArray[np.intp]:
    """Flat indices of the pixels of each tile, one tile a row; incomplete tiles at the edges are dropped."""
    height, width = shape
    th, tw = min(_TILE, height), min(_TILE, width)
    ny, nx = height // th, width // tw
    pixels = np.arange(height * width).reshape(height, width)[: ny * th, : nx * tw]
    return pixels.reshape(ny, th, nx, tw).transpose(0, 2, 1, 3).reshape(ny * nx, th * tw)


def _merge_sparse(count: npt.NDArray[np.intp], least: int) -> npt.NDArray[np.intp]:
    """New number of each bin, so that every bin has `least` members: sparse ones join their neighbours."""
    number = np.zeros(len(count), np.intp)
    current, filled = 0, 0
    for i, n in enumerate(count):
        if filled >= least:
            current, filled = current + 1, 0
        number[i] = current
        filled += int(n)
    if filled < least and current:
        number[number == current] = current - 1
    return number


def _typical(variance: Floats) -> npt.NDArray[np.bool_]:
    """Which rows have no more than noise in them.

    The cube root of a variance is nearly normal (Wilson and Hilferty 1931), so that few rows of pure noise
    are lost. Only the high side is cut: changes of brightness add variance.
    """
    root = np.cbrt(variance)
    centre = np.median(root)
    # Quarter points below the median: what activity adds lies above it.
    spread = (centre - np.quantile(root, 0.25)) / 0.6745
    if not spread > 0:
        return np.ones(len(root), bool)
    return np.asarray(root <= centre + _OUTLIER * spread)
