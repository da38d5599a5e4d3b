r"""Plots that show whether a calibration can be trusted and what the transform does to a movie.

`plot_noise_transfer`
    the calibration itself: noise variance against mean, and the line whose slope is the gain;
`plot_stabilization`
    noise variance against mean before and after the transform;
`plot_residuals`
    what storing changes: decoded minus original, in standard deviations of the noise;
`plot_code_histogram`
    which codes are used, and how many bits a pixel needs at least;
`plot_summary`
    all of it on one page.

Every function draws into the Axes (or Figure) that it is given or makes a Figure of its own, returns what it
drew on and shows nothing: ``ax.figure.savefig("plot.png")`` needs neither a display nor pyplot. Movies are
read run by run, a run being a few consecutive frames, and only as many as the statistics need; so a movie may
be larger than memory.

The noise of a movie is measured here without the calibration's code, so that the plots are a check on it. In
a run, the second difference in time :math:`d_t = x_{t-1} - 2 x_t + x_{t+1}` removes whatever stays or changes
steadily; if the noise of frames is independent, :math:`E[d^2] = 6\sigma^2`. The sums of the 64 pixels of a
tile are kept in four classes, by brightness of a pixel's neighbours: a pixel's own noise has no part in where
it is counted, so that sorting by brightness does not distort the variance.

References
----------
J. R. Janesick, *Photon Transfer* (SPIE Press, 2007): noise variance against mean signal.
"""

from __future__ import annotations

import functools
import itertools
import math
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from anscombe_transform.calibration import Sensitivity
from anscombe_transform.codec.anscombe import Plan, plan_for
from anscombe_transform.movies import Movie, SupportsMovie, open_movie

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.legend import Legend

    AnyArray = npt.NDArray[Any]
    FloatArray = npt.NDArray[np.float64]
    Source = str | os.PathLike[str] | SupportsMovie | Movie

__all__ = [
    "plot_code_histogram",
    "plot_noise_transfer",
    "plot_residuals",
    "plot_stabilization",
    "plot_summary",
]

# Of the palette of Okabe and Ito, which is told apart with every kind of colour vision; their luminances and
# the marker shapes differ too, for print without colour.
_BLUE = "#0072B2"
_SKY = "#A6D3EE"
_VERMILION = "#C84E00"
_INK = "#262626"
_GREY = "#6E6E6E"
_VERDICT = {"trustworthy": _BLUE, "caution": "#A36A00", "refused": _VERMILION}

# Points: the text of a page that is printed at full width.
_TEXT = 8.0
_TITLE = 9.0
_DPI = 150

# How movies are sampled: so many values are enough for every plot, in runs of so many consecutive frames.
_ENOUGH_VALUES = 2**23
_FEWEST_FRAMES = 24
_RUN_FRAMES = (4, 16)
_RUN_VALUES = 2**22
# From this many photons on, an outlying difference in time is known from noise by its size.
_BRIGHT = 3.0

_TILE = 8
_CLASSES = 4
_MOST_BINS = 24
# Bins of the mean are at least this wide, in standard deviations of the noise of one value.
_BIN_WIDTH = 0.2
_BIN_ROWS = 24
_OUTLIER = 4.0
_MOST_LAGS = 8
# Bins of the residuals' histogram within one quantisation step; odd, so that 0 is the middle of a bin.
_STEP_BINS = 41


# -- what users call -----------------------------------------------------------------------------------------


def plot_noise_transfer(sensitivity: Sensitivity, *, ax: Axes | None = None) -> Axes:
    """Plot the noise transfer curve of a calibration: binned noise variance against mean signal.

    Parameters
    ----------
    sensitivity : Sensitivity
        What `compute_sensitivity` found; a refused one too: its verdict and first reason are in the legend.
        Without a measured curve (constants from a data sheet) the line alone is drawn.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new Figure.

    Returns
    -------
    matplotlib.axes.Axes
        Variance in signal units², mean in signal units. The band is the line's 95 % interval: the gain's,
        turning about the weighted centre of the bins, and that of the centre's height.

    Raises
    ------
    ValueError
        If `sensitivity` is not a `Sensitivity`.

    Examples
    --------
    >>> from anscombe_transform import Sensitivity
    >>> ax = plot_noise_transfer(Sensitivity.from_known(conversion_gain=90.0, zero_level=50.0))
    >>> ax.get_xlabel()
    'Mean signal (signal units)'
    """
    _check_sensitivity(sensitivity)
    ax = _axes(ax)
    _settle(ax.figure, [_draw_noise_transfer(ax, sensitivity)])
    return ax


def plot_stabilization(
    movie: Source, codec: Any, *, max_frames: int | None = None, ax: Axes | None = None
) -> Axes:
    """Plot the noise variance of a movie against its mean, before and after the transform.

    Parameters
    ----------
    movie : array_like or path, shape (time, y, x)
        Anything that `open_movie` takes; at least two frames.
    codec : AnscombeTransformV2 or AnscombeTransformV3
        The transform, which must hold the movie's values.
    max_frames : int, optional
        Most frames to read, in runs spread evenly over the movie; by default as many as give about 8
        million values.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new Figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes of the variance before, in signal units². The variance after, in codes², has the axes at
        their right: ``ax.figure.axes[-1]`` of a new Figure. Points are means over rows of pixels with their
        standard error; rows with far more noise than others of their brightness (activity, motion) are left
        out. A noise model that fits the movie makes the points after flat at 1/β² plus the 1/12 of rounding,
        down to about one photon, below which no transform stabilises counts; the dashed line says what the
        codec's model expects.

    Raises
    ------
    ValueError
        If the movie is not one or has a single frame, or `codec` is not one of ours.
    UnrepresentableError
        If the codec has no code for a value.

    Examples
    --------
    >>> from anscombe_transform import AnscombeTransformV2, simulate_movie
    >>> movie, truth = simulate_movie((20, 64, 64), rng=0)
    >>> ax = plot_stabilization(movie, AnscombeTransformV2(truth.zero_level, truth.conversion_gain))
    >>> ax.figure.axes[-1].get_ylabel()
    'Code variance (codes²)'
    """
    plan = _check_codec(codec)
    noise = _NoiseRows(plan)
    with open_movie(movie) as source:
        for block in _runs(source, max_frames):
            noise.update(block, plan.encode(block))
        if noise.empty:
            raise ValueError(
                f"{source!r} has no noise to measure: that takes two consecutive frames or more, with "
                f"numbers in all pixels of a tile, and max_frames of 2 or more, got {max_frames!r}"
            )
    ax = _axes(ax)
    _settle(ax.figure, [_draw_stabilization(ax, noise.binned(), plan)])
    return ax


def plot_residuals(
    movie: Source, codec: Any, *, max_frames: int | None = None, figure: Figure | None = None
) -> Figure:
    """Plot what storing changes: decoded minus original, in standard deviations σ of the noise.

    Parameters
    ----------
    movie : array_like or path, shape (time, y, x)
        Anything that `open_movie` takes.
    codec : AnscombeTransformV2 or AnscombeTransformV3
        The transform, which must hold the movie's values.
    max_frames : int, optional
        Most frames to read, in runs spread evenly over the movie; by default as many as give about 8
        million values.
    figure : matplotlib.figure.Figure, optional
        Where to draw; by default a new one.

    Returns
    -------
    matplotlib.figure.Figure
        Three axes: the residual's mean over the frames that were read, for every pixel; its histogram, with
        the uniform law of width β and the law that follows if all signals that share a code are equally
        likely; its correlation with later frames and neighbours, with the band ±2/√N that 95 % of white
        residuals stay in. σ is the noise that the codec assumes at the decoded value.

    Raises
    ------
    ValueError
        If the movie is not one, or `codec` is not one of ours.
    UnrepresentableError
        If the codec has no code for a value.

    Examples
    --------
    >>> from anscombe_transform import AnscombeTransformV2, simulate_movie
    >>> movie, truth = simulate_movie((20, 64, 64), rng=0)
    >>> figure = plot_residuals(movie, AnscombeTransformV2(truth.zero_level, truth.conversion_gain))
    >>> [ax.get_title(loc="left") for ax in figure.axes[:3]]
    ['Mean residual of 20 frames', 'Residuals', 'Correlation of residuals']
    """
    plan = _check_codec(codec)
    with open_movie(movie) as source:
        residuals = _Residuals(plan, source.shape)
        for block in _runs(source, max_frames):
            residuals.update(block, plan.encode(block))
    figure = _figure(figure, (9.2, 2.9))
    axes = figure.subplots(1, 3, width_ratios=(1, 1.15, 1.15))
    _draw_residual_map(axes[0], residuals)
    _settle(figure, [_draw_residual_histogram(axes[1], residuals), _draw_correlation(axes[2], residuals)])
    return figure


def plot_code_histogram(
    movie: Source, codec: Any, *, max_frames: int | None = None, ax: Axes | None = None
) -> Axes:
    """Plot how often each code is used, and how many bits a pixel needs at least.

    Parameters
    ----------
    movie : array_like or path, shape (time, y, x)
        Anything that `open_movie` takes.
    codec : AnscombeTransformV2 or AnscombeTransformV3
        The transform, which must hold the movie's values.
    max_frames : int, optional
        Most frames to read, in runs spread evenly over the movie; by default as many as give about 8
        million values.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new Figure.

    Returns
    -------
    matplotlib.axes.Axes
        Share of the values per code, with the signal on the upper axis. The legend has two numbers of bits
        per pixel. *Entropy* is that of this histogram: what a coder needs that knows nothing but the
        frequency of codes. *Noise* is the mean entropy of a code whose photon rate is known: Shannon's bound,
        which no lossless coder of the codes goes below if the codec's noise model holds and the noise is
        white; ½ log₂(2πe/β²) in bright light, 3.05 at β = 0.5, and less in the dark.

    Raises
    ------
    ValueError
        If the movie is not one, or `codec` is not one of ours.
    UnrepresentableError
        If the codec has no code for a value.

    References
    ----------
    C. E. Shannon, "A mathematical theory of communication", Bell Syst. Tech. J. 27 (1948) 379-423.

    Examples
    --------
    >>> from anscombe_transform import AnscombeTransformV2, simulate_movie
    >>> movie, truth = simulate_movie((20, 64, 64), rng=0)
    >>> ax = plot_code_histogram(movie, AnscombeTransformV2(truth.zero_level, truth.conversion_gain))
    >>> ax.get_xlabel()
    'Code'
    """
    plan = _check_codec(codec)
    use = _CodeUse(plan)
    with open_movie(movie) as source:
        for block in _runs(source, max_frames):
            use.update(block, plan.encode(block))
    ax = _axes(ax)
    _settle(ax.figure, [_draw_code_histogram(ax, use)])
    return ax


def plot_summary(
    movie: Source,
    sensitivity: Sensitivity,
    codec: Any = None,
    *,
    figure: Figure | None = None,
    stored_bytes: int | None = None,
    max_frames: int | None = None,
) -> Figure:
    """Plot calibration, transform and sizes of a movie on one page.

    Parameters
    ----------
    movie : array_like or path, shape (time, y, x)
        Anything that `open_movie` takes.
    sensitivity : Sensitivity
        The movie's calibration.
    codec : AnscombeTransformV2 or AnscombeTransformV3, optional
        The transform; by default ``sensitivity.codec(sample=…)`` for the values that are read. With a refused
        calibration and no codec the page shows the calibration alone.
    figure : matplotlib.figure.Figure, optional
        Where to draw; by default a new one of 11 × 8.3 inches.
    stored_bytes : int, optional
        Size of the movie as it was stored, for the comparison of sizes.
    max_frames : int, optional
        Most frames to read, in runs spread evenly over the movie; by default as many as give about 8
        million values.

    Returns
    -------
    matplotlib.figure.Figure
        Mean image, noise transfer, stabilisation, the three plots of the residuals, use of codes, sizes.

    Raises
    ------
    ValueError
        If the movie is not one, `sensitivity` or `codec` is not one of ours, or `stored_bytes` is not
        positive.
    UnrepresentableError
        If the codec has no code for a value.

    Examples
    --------
    >>> from anscombe_transform import AnscombeTransformV2, Sensitivity, simulate_movie
    >>> movie, truth = simulate_movie((20, 64, 64), rng=0)
    >>> known = Sensitivity.from_known(conversion_gain=truth.conversion_gain, zero_level=truth.zero_level)
    >>> codec = AnscombeTransformV2(truth.zero_level, truth.conversion_gain)
    >>> figure = plot_summary(movie, known, codec, stored_bytes=40_000)
    >>> figure.axes[0].get_title(loc="left")
    'a  Mean of 20 frames'
    """
    _check_sensitivity(sensitivity)
    if stored_bytes is not None and not stored_bytes > 0:
        raise ValueError(f"stored_bytes must be the stored size in bytes, > 0, got {stored_bytes!r}")
    plan = None if codec is None else _check_codec(codec)
    with open_movie(movie) as source:
        if codec is None and sensitivity.verdict != "refused":
            plan = _check_codec(sensitivity.codec(sample=_range(source, max_frames)))
        mean = _MeanImage(source.shape)
        tools = None if plan is None else (_NoiseRows(plan), _Residuals(plan, source.shape), _CodeUse(plan))
        for block in _runs(source, max_frames):
            mean.update(block)
            if plan is None or tools is None:
                continue
            codes = plan.encode(block)
            for tool in tools:
                tool.update(block, codes)
        figure = _figure(figure, (11, 8.3) if plan else (8.2, 3.6))
        crowded: list[tuple[Axes, ...]] = []
        if plan is None or tools is None:
            axes = list(figure.subplots(1, 2, width_ratios=(1, 1.4)))
            _draw_mean_image(axes[0], mean)
            crowded.append(_draw_noise_transfer(axes[1], sensitivity))
        else:
            noise, residuals, use = tools
            grid = figure.add_gridspec(3, 3, width_ratios=(1, 1.2, 1.2))
            cells = [*(grid[i // 3, i % 3] for i in range(7)), grid[2, 1:]]
            axes = [figure.add_subplot(cell) for cell in cells]
            _draw_mean_image(axes[0], mean)
            crowded.append(_draw_noise_transfer(axes[1], sensitivity))
            if noise.empty:
                _say(axes[2], "Stabilisation", "Noise is measured between\nconsecutive frames")
            else:
                crowded.append(_draw_stabilization(axes[2], noise.binned(), plan))
            _draw_residual_map(axes[3], residuals)
            crowded.append(_draw_residual_histogram(axes[4], residuals))
            crowded.append(_draw_correlation(axes[5], residuals))
            _draw_sizes(axes[6], source, plan, use, stored_bytes)
            crowded.append(_draw_code_histogram(axes[7], use))
        for letter, ax in zip("abcdefgh", axes, strict=False):
            ax.set_title(f"{letter}  {ax.get_title(loc='left')}", loc="left", fontsize=_TITLE, weight="bold")
        figure.suptitle(
            _headline(source, sensitivity, tools), x=0.012, ha="left", fontsize=_TITLE, color=_INK
        )
    _settle(figure, crowded)
    return figure


# -- checks --------------------------------------------------------------------------------------------------


def _check_sensitivity(sensitivity: Any) -> None:
    if not isinstance(sensitivity, Sensitivity):
        raise ValueError(
            f"sensitivity must be what compute_sensitivity returns, got {type(sensitivity).__name__}; "
            "Sensitivity.from_known makes one of constants that you know"
        )


def _check_codec(codec: Any) -> Plan:
    if not isinstance(getattr(codec, "plan", None), Plan):
        raise ValueError(
            "codec must be an AnscombeTransformV2 or AnscombeTransformV3, "
            f"got {type(codec).__name__}; Sensitivity.codec() makes one"
        )
    return plan_for(codec)


# -- frames --------------------------------------------------------------------------------------------------


def _run_bounds(shape: tuple[int, int, int], max_frames: int | None) -> list[tuple[int, int]]:
    """First frame and the frame after the last of each run, in the middle of equal parts of the movie."""
    frames, height, width = shape
    if max_frames is None:
        max_frames = max(_FEWEST_FRAMES, _ENOUGH_VALUES // (height * width))
    elif isinstance(max_frames, bool) or not isinstance(max_frames, int | np.integer) or max_frames < 1:
        raise ValueError(f"max_frames must be a whole number of frames, at least 1, got {max_frames!r}")
    total = min(frames, int(max_frames))
    shortest, longest = _RUN_FRAMES
    longest = max(shortest, min(longest, _RUN_VALUES // (height * width)))
    count = max(1, round(total / longest))
    edges = [frames * i // count for i in range(count + 1)]
    parts = list(itertools.pairwise(edges))
    if total == frames:
        return parts
    length = total // count
    return [(low + (high - low - length) // 2, low + (high - low + length) // 2) for low, high in parts]


def _runs(movie: Movie, max_frames: int | None) -> Iterator[AnyArray]:
    for start, stop in _run_bounds(movie.shape, max_frames):
        yield movie.frames(start, stop)


def _range(movie: Movie, max_frames: int | None) -> AnyArray:
    """Smallest and largest value of the frames that are read, and NaN if there is one."""
    low, high, has_nan = math.inf, -math.inf, False
    for block in _runs(movie, max_frames):
        has_nan |= block.dtype.kind == "f" and bool(np.isnan(block).any())
        if block.dtype.kind != "f" or not np.isnan(block).all():
            low, high = min(low, np.nanmin(block).item()), max(high, np.nanmax(block).item())
    return np.array([low, high] * (low <= high) + [math.nan] * has_nan, movie.dtype)


# -- statistics ----------------------------------------------------------------------------------------------


@dataclass
class _MeanImage:
    """Mean over the frames that were read; NaN counts as missing."""

    shape: tuple[int, int, int]
    frames: int = 0

    def __post_init__(self) -> None:
        self.total = np.zeros(self.shape[1:])
        self.count = np.zeros(self.shape[1:], np.int64)

    def update(self, block: AnyArray) -> None:
        self.frames += len(block)
        for frame in block:
            value = frame.astype(np.float64)
            present = np.isfinite(value)
            self.total += np.where(present, value, 0)
            self.count += present

    @property
    def image(self) -> FloatArray:
        with np.errstate(invalid="ignore"):
            return np.asarray(self.total / self.count)


@dataclass(frozen=True)
class _NoiseBins:
    """Noise variance against mean, before and after the transform; float64 arrays, one value per bin."""

    mean: FloatArray
    before: FloatArray
    before_error: FloatArray
    after: FloatArray
    after_error: FloatArray
    count: npt.NDArray[np.int64]


@dataclass
class _NoiseRows:
    """Noise variance before and after the transform, in rows of 16 pixels of one tile, run and brightness.

    Columns: brightness of the neighbours, mean, variance of the signal, variance of the codes.
    """

    plan: Plan
    rows: list[FloatArray] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        return not any(len(rows) for rows in self.rows)

    def update(self, block: AnyArray, codes: AnyArray) -> None:
        if len(block) < 2:
            return
        image = block.mean(axis=0, dtype=np.float64)
        brightness = _neighbours(image)
        pixels = _tile_pixels(image.shape)
        order = np.argsort(brightness.ravel()[pixels], axis=1, kind="stable")
        pixels = np.take_along_axis(pixels, order, axis=1)
        starts = np.unique(np.arange(_CLASSES) * pixels.shape[1] // _CLASSES)
        sizes = np.diff([*starts, pixels.shape[1]])

        def rows(image: FloatArray) -> FloatArray:
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

    def _quiet(self, mean: FloatArray, after: FloatArray, size: float) -> npt.NDArray[np.bool_]:
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

    def binned(self) -> _NoiseBins:
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

        def average(values: FloatArray) -> tuple[FloatArray, FloatArray]:
            with np.errstate(invalid="ignore", divide="ignore"):
                mean = np.bincount(label, values) / count
                spread = np.bincount(label, (values - mean[label]) ** 2) / np.maximum(count - 1, 1)
                return mean[used], np.sqrt(spread / count)[used]

        before, before_error = average(rows[:, 2])
        after, after_error = average(rows[:, 3])
        return _NoiseBins(
            average(rows[:, 1])[0], before, before_error, after, after_error, count[used].astype(np.int64)
        )


def _differences(block: AnyArray) -> Iterator[tuple[FloatArray, FloatArray]]:
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


def _neighbours(image: FloatArray) -> FloatArray:
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
    """Flat indices of the pixels of each tile, one tile a row; what is left at the edges is dropped."""
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


def _typical(variance: FloatArray) -> npt.NDArray[np.bool_]:
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


class _Residuals:
    """Sums over decoded minus original, in standard deviations of the noise."""

    def __init__(self, plan: Plan, shape: tuple[int, int, int]) -> None:
        self.plan = plan
        self.frames = 0
        self.total = np.zeros(shape[1:])
        self.count = np.zeros(shape[1:], np.int64)
        self.squares = 0.0
        self.clipped = self.unchanged = 0
        # The largest error in each code's bin. Clipped values may lie beyond the histogram.
        low, high = plan.bins
        value = plan.decode(np.arange(low.size).astype(plan.encoded_dtype)).astype(np.float64)
        error = np.maximum(high - value, value - low) / plan.curve.noise_std(value)
        self.code_bound = np.where(high >= low, error, 0)
        reach = float(np.clip(self.code_bound.max() / plan.curve.beta, 0.5, 3))
        half = math.ceil((1.1 * reach - 0.5) * _STEP_BINS)
        self.edges = (
            (np.arange(_STEP_BINS + 2 * half + 1) - _STEP_BINS / 2 - half) * plan.curve.beta / _STEP_BINS
        )
        self.histogram = np.zeros(self.edges.size - 1, np.int64)
        self.code_count = np.zeros(plan.table.size, np.int64)
        lags = _MOST_LAGS + 1
        # Sum of products and number of pairs, by axis (time, y, x) and lag.
        self.products = np.zeros((3, lags))
        self.pairs = np.zeros((3, lags), np.int64)

    def update(self, block: AnyArray, codes: AnyArray) -> None:
        earlier: list[tuple[FloatArray, npt.NDArray[np.bool_]]] = []
        self.frames += len(block)
        for original, code in zip(block, codes, strict=True):
            decoded = self.plan.decode(code).astype(np.float64)
            r = (decoded - original) / self.plan.curve.noise_std(decoded)
            present = np.isfinite(r)
            r = np.where(present, r, 0.0)
            self.total += r
            self.count += present
            self.squares += float(np.square(r).sum())
            self.histogram += np.histogram(r[present], self.edges)[0]
            self.unchanged += int(np.count_nonzero(decoded == original))
            self.code_count += np.bincount(code[present].ravel(), minlength=self.code_count.size)
            if self.plan.configuration.out_of_range == "clip":
                outside = (original < self.plan.lowest) | (original > self.plan.highest)
                self.clipped += int(np.count_nonzero(outside))
            for lag, (before, valid) in enumerate(reversed(earlier), start=1):
                self._pair(0, lag, before, r, valid & present)
            for lag in range(1, _MOST_LAGS + 1):
                self._pair(1, lag, r[lag:], r[:-lag], present[lag:] & present[:-lag])
                self._pair(2, lag, r[:, lag:], r[:, :-lag], present[:, lag:] & present[:, :-lag])
            earlier = [*earlier, (r, present)][-_MOST_LAGS:]

    def _pair(self, axis: int, lag: int, a: FloatArray, b: FloatArray, valid: npt.NDArray[np.bool_]) -> None:
        # What is missing is 0 in one of the two and adds nothing to the sum.
        self.products[axis, lag] += float(np.einsum("ij,ij->", a, b))
        self.pairs[axis, lag] += int(np.count_nonzero(valid))

    @property
    def size(self) -> int:
        return int(self.count.sum())

    @property
    def mean(self) -> float:
        return float(self.total.sum()) / max(self.size, 1)

    @property
    def variance(self) -> float:
        return self.squares / max(self.size, 1) - self.mean**2

    @property
    def bound(self) -> float:
        """Largest possible residual of the codes that occur."""
        return float(self.code_bound[self.code_count[: self.code_bound.size] > 0].max(initial=0))

    @property
    def image(self) -> FloatArray:
        with np.errstate(invalid="ignore"):
            return np.asarray(self.total / self.count)

    def correlation(self, axis: int) -> tuple[npt.NDArray[np.intp], FloatArray, npt.NDArray[np.int64]]:
        """Lags with pairs along an axis, the correlation at each, and the number of pairs."""
        lags = np.flatnonzero(self.pairs[axis])
        pairs = self.pairs[axis, lags]
        covariance = self.products[axis, lags] / pairs - self.mean**2
        variance = self.variance
        return lags, covariance / variance if variance > 0 else np.zeros(lags.size), pairs

    def expected_histogram(self) -> FloatArray:
        """Density of the residual if all signals that share a code are equally likely, code by code.

        It is the uniform law of width β, blurred where codes hold only a few integers.
        """
        plan = self.plan
        integers = plan.decoded_dtype.kind != "f"
        low, high = plan.bins
        used = np.flatnonzero((self.code_count[: low.size] > 0) & (high >= low))
        value = plan.decode(used.astype(plan.encoded_dtype)).astype(np.float64)
        sigma = plan.curve.noise_std(value)
        members = 4 * _STEP_BINS
        # The middles of equal parts of a bin; of an integer bin of n members, each stands for about 1/n.
        part = (np.arange(members) + 0.5) / members
        first, last = (low - 0.5, high + 0.5) if integers else (low, high)
        signal = first[used, None] + part * (last - first)[used, None]
        if integers:
            signal = np.clip(np.rint(signal), low[used, None], high[used, None])
        residual = (value[:, None] - signal) / sigma[:, None]
        weight = np.broadcast_to(self.code_count[used, None] / members, residual.shape)
        density = np.histogram(residual, self.edges, weights=weight)[0]
        return density / max(self.size, 1) / np.diff(self.edges)


@dataclass(frozen=True)
class _CodeLaw:
    """Variance and entropy (bits) of the code of one value, against the mean number of photons."""

    photons: FloatArray
    variance: FloatArray
    entropy: FloatArray

    def variance_at(self, photons: FloatArray) -> FloatArray:
        return np.interp(photons, self.photons, self.variance)

    def entropy_at(self, photons: FloatArray) -> FloatArray:
        return np.interp(photons, self.photons, self.entropy)


@functools.lru_cache(maxsize=16)
def _code_law(plan: Plan) -> _CodeLaw:
    """What the codec's detector, Poisson photons with Gaussian read noise, makes of its codes.

    Above 300 photons both are constant but for the room between integers.
    """
    from scipy.special import gammaln, xlogy

    curve = plan.curve
    photons = np.concatenate([[0.0], np.geomspace(0.01, 300, 72)])
    deviates = np.linspace(-6, 6, 97) if curve.read_noise > 0 else np.zeros(1)
    share = np.exp(-(deviates**2) / 2)
    share /= share.sum()
    variance, entropy = np.empty_like(photons), np.empty_like(photons)
    for i, n in enumerate(photons):
        reach = 8 * math.sqrt(n) + 8
        count = np.arange(max(math.floor(n - reach), 0), math.ceil(n + reach) + 1)
        chance = np.exp(xlogy(count, n) - n - gammaln(count + 1.0))
        signal = curve.zero_level + curve.conversion_gain * count[:, None] + curve.read_noise * deviates
        if plan.decoded_dtype.kind != "f":
            signal = np.rint(signal)
        code = np.clip(curve.code(signal), 0, plan.table.size - 1)
        weight = np.bincount((code - code.min()).ravel(), (chance[:, None] * share).ravel())
        p = np.asarray(weight / weight.sum(), np.float64)
        q = np.arange(p.size)
        variance[i] = p @ q**2 - (p @ q) ** 2
        entropy[i] = _entropy(p)
    return _CodeLaw(photons, variance, entropy)


def _entropy(share: FloatArray) -> float:
    """Shannon entropy of shares that add up to 1, in bits."""
    p = share[share > 0]
    return abs(float((p * np.log2(p)).sum()))


class _CodeUse:
    """How often each code occurs, and the mean entropy of the noise alone."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.count = np.zeros(int(np.iinfo(plan.encoded_dtype).max) + 1, np.int64)
        self._bits, self._pixels = 0.0, 0

    def update(self, block: AnyArray, codes: AnyArray) -> None:
        self.count += np.bincount(codes.ravel(), minlength=self.count.size)
        # The rate of a pixel is taken from the run and the pixels around it: one pixel alone would follow
        # its own noise, and a rate that follows the noise makes the entropy too small.
        image = block.mean(axis=0, dtype=np.float64)
        smooth = (8 * _neighbours(image) + image) / 9
        bits = _code_law(self.plan).entropy_at(np.maximum(self.plan.curve.photons(smooth), 0))
        present = np.isfinite(smooth)
        self._bits += float(bits[present].sum())
        self._pixels += int(np.count_nonzero(present))

    @property
    def share(self) -> FloatArray:
        return self.count / max(int(self.count.sum()), 1)

    @property
    def used(self) -> npt.NDArray[np.intp]:
        """The codes that stand for numbers and occur."""
        return np.flatnonzero(self.count[: self.plan.table.size])

    @property
    def nan_share(self) -> float:
        return float(self.share[self.plan.table.size :].sum())

    @property
    def entropy(self) -> float:
        """Bits per pixel of the histogram."""
        return _entropy(self.share)

    @property
    def noise_entropy(self) -> float:
        """Bits per pixel of codes whose photon rate is known."""
        return self._bits / max(self._pixels, 1)


# -- drawing -------------------------------------------------------------------------------------------------


def _figure(figure: Figure | None, size: tuple[float, float]) -> Figure:
    if figure is None:
        return Figure(figsize=size, dpi=_DPI, layout="constrained")
    if isinstance(figure, Figure) and figure.get_layout_engine() is None and not figure.axes:
        figure.set_layout_engine("constrained")
    return figure


def _axes(ax: Axes | None) -> Axes:
    return _figure(None, (4.6, 3.4)).add_subplot() if ax is None else ax


def _dress(ax: Axes, title: str, xlabel: str = "", ylabel: str = "", *, right: bool = False) -> None:
    ax.set_title(title, loc="left", fontsize=_TITLE, color=_INK, weight="bold")
    ax.set_xlabel(xlabel, fontsize=_TEXT, color=_INK)
    ax.set_ylabel(ylabel, fontsize=_TEXT, color=_INK)
    ax.tick_params(labelsize=_TEXT, colors=_INK, width=0.6, length=3)
    for side, spine in ax.spines.items():
        spine.set_linewidth(0.6)
        spine.set_color(_INK)
        if side == "top" or (side == "right" and not right):
            spine.set_visible(False)
    ax.set_axisbelow(True)


def _legend(ax: Axes, handles: Sequence[Any], **options: Any) -> Legend:
    legend = ax.legend(
        handles=handles,
        fontsize=_TEXT - 1,
        title_fontsize=_TEXT - 1,
        facecolor="white",
        edgecolor="none",
        framealpha=1.0,
        borderaxespad=0.2,
        handlelength=1.6,
        labelspacing=0.35,
        alignment="left",
        **options,
    )
    for text in legend.get_texts():
        text.set_color(_INK)
    # A legend lies on its axes: the layout must not shrink them to make room beside it.
    legend.set_in_layout(False)
    return legend


def _note(text: str) -> Line2D:
    """A line of text in a legend."""
    return Line2D([], [], lw=0, label=text)


def _scale_variance(ax: Axes, quantity: str) -> None:
    """Label the y axis in signal units², in thousands or millions where the numbers are long."""
    largest = max(abs(v) for v in ax.get_ylim())
    power = 3 * max(0, math.floor(math.log10(largest / 10) / 3)) if largest > 0 else 0
    factor = {0: "", 3: "10³ ", 6: "10⁶ ", 9: "10⁹ "}.get(power, f"10^{power} ")
    ax.set_ylabel(f"{quantity} ({factor}signal units²)", fontsize=_TEXT)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v / 10**power:g}"))


def _say(ax: Axes, title: str, text: str) -> None:
    """Say in words why a plot has nothing to show."""
    _dress(ax, title)
    ax.set_axis_off()
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", fontsize=_TEXT, color=_GREY)


def _draw_noise_transfer(ax: Axes, sensitivity: Sensitivity) -> tuple[Axes, ...]:
    gain, zero = sensitivity.conversion_gain, sensitivity.zero_level
    intercept, read_noise = sensitivity.variance_intercept, sensitivity.read_noise
    handles: list[Any] = []
    mean, variance, error = _measured(sensitivity)
    if mean.size:
        handles.append(
            ax.errorbar(
                mean, variance, error, fmt="o", ms=3.2, mfc="white", mec=_INK, mew=0.8, ecolor=_GREY,
                elinewidth=0.8, zorder=3, label="measured, ± standard error",
            )
        )  # fmt: skip
    if math.isfinite(gain) and math.isfinite(intercept):
        handles += _draw_fit(ax, sensitivity, mean, variance, error)
    if _finite(zero, intercept, gain):
        label = "zero level " + _with_interval(zero, sensitivity.zero_level_interval)
        low, high = sensitivity.zero_level_interval
        bar = np.clip([[zero - low], [high - zero]], 0, None) if _finite(low, high) else None
        if not mean.size or _near(zero, mean):
            ax.errorbar(
                [zero], [max(read_noise, 0) ** 2], xerr=bar, fmt="s", ms=4, color=_BLUE, elinewidth=1.2,
                capsize=2, zorder=4, label=label,
            )  # fmt: skip
        handles.append(Line2D([], [], marker="s", ms=4, lw=0, color=_BLUE, label=label))
        if read_noise > 0:
            handles.append(_note(f"read noise {read_noise:.3g} signal units"))
    _dress(ax, "Noise transfer", "Mean signal (signal units)")
    if not handles:
        ax.set_xticks([])
        ax.set_yticks([])
    top = float(np.max(variance + error)) if mean.size else ax.get_ylim()[1]
    if top > 0:
        ax.set_ylim(min(0, float(np.min(variance - error)) if mean.size else 0) - 0.03 * top, 1.08 * top)
    _scale_variance(ax, "Noise variance")
    legend = _legend(ax, handles, title=_verdict(sensitivity), loc="upper left")
    legend.get_title().set_color(_VERDICT.get(sensitivity.verdict, _INK))
    return (ax,)


def _verdict(sensitivity: Sensitivity) -> str:
    """The verdict, and unless all is well the first of the gravest reasons for it."""
    text = f"Verdict: {sensitivity.verdict}"
    measured = sensitivity.transfer_curve.mean.size > 0
    for severity in ("refusal", "caution") if measured else ("refusal", "caution", "note"):
        for reason in sensitivity.reasons:
            if reason.severity == severity:
                message = textwrap.shorten(
                    reason.message[:1].upper() + reason.message[1:], 180, placeholder=" …"
                )
                return f"{text}\n{textwrap.fill(message, 48)}"
    return text


def _measured(sensitivity: Sensitivity) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean, variance and standard error of the bins that have all three."""
    curve = sensitivity.transfer_curve
    columns = np.array([curve.mean, curve.variance, curve.standard_error], np.float64)
    mean, variance, error = columns[:, np.isfinite(columns[:2]).all(axis=0)]
    return mean, variance, np.where(np.isfinite(error), error, 0.0)


def _draw_fit(
    ax: Axes, sensitivity: Sensitivity, mean: FloatArray, variance: FloatArray, error: FloatArray
) -> list[Any]:
    """The fitted line, its band and where it meets zero."""
    gain, intercept = sensitivity.conversion_gain, sensitivity.variance_intercept
    seen = not mean.size or _near(intercept, mean)
    ends = [*([intercept] if seen else []), *mean] if mean.size else [intercept, intercept + 100 * gain]
    x = np.linspace(min(ends), max(ends), 200)
    low, high = sensitivity.conversion_gain_interval
    handles: list[Any] = [
        ax.plot(
            x, gain * (x - intercept), color=_BLUE, lw=1.4, zorder=2,
            label=f"gain {_with_interval(gain, (low, high))} per photon",
        )[0]
    ]  # fmt: skip
    if _finite(low, high) and mean.size:
        weight = np.divide(1, error**2, out=np.zeros_like(error), where=error > 0)
        if not weight.any():
            weight = np.ones_like(error)
        centre = float(weight @ mean / weight.sum())
        height = 1.96 / math.sqrt(weight.sum()) if (error > 0).any() else 0.0
        upper = np.hypot(np.where(x > centre, high - gain, gain - low) * (x - centre), height)
        lower = np.hypot(np.where(x > centre, gain - low, high - gain) * (x - centre), height)
        line = gain * (x - intercept)
        band = ax.fill_between(x, line - lower, line + upper, color=_SKY, lw=0, zorder=1, label="95 % band")
        handles.append(band)
    label = f"variance intercept {_short(intercept, gain)}"
    if seen:
        ax.plot(
            [intercept], [0], marker="D", ms=6.5, mfc="none", mec=_VERMILION, mew=1.2, lw=0, zorder=5,
            label=label, clip_on=False,
        )  # fmt: skip
    handles.append(Line2D([], [], marker="D", ms=5, mfc="none", mec=_VERMILION, mew=1.2, lw=0, label=label))
    return handles


def _draw_stabilization(ax: Axes, bins: _NoiseBins, plan: Plan) -> tuple[Axes, ...]:
    curve = plan.curve
    level = 1 / curve.beta**2
    right = ax.twinx()
    x = np.linspace(float(bins.mean.min()), float(bins.mean.max()), 200)
    photons = np.maximum(curve.photons(x), 0)
    model = curve.conversion_gain**2 * photons + curve.read_noise**2
    before = ax.errorbar(
        bins.mean, bins.before, bins.before_error, fmt="o", ms=3.6, mfc="white", mec=_VERMILION, mew=0.9,
        ecolor=_VERMILION, elinewidth=0.8, zorder=3, label="signal (left)",
    )  # fmt: skip
    line = ax.plot(x, model, color=_VERMILION, lw=0.9, zorder=2, label="codec's noise model")[0]
    after = right.errorbar(
        bins.mean, bins.after, bins.after_error, fmt="s", ms=3.6, color=_BLUE, elinewidth=0.8, zorder=3,
        label="codes (right)",
    )  # fmt: skip
    flat = right.axhline(level, color=_BLUE, lw=0.9, zorder=1, label=f"1/β² = {level:.4g}")
    expected = right.plot(
        x, _code_law(plan).variance_at(photons), color=_INK, lw=0.9, ls=(0, (4, 2)), zorder=2,
        label="expected",
    )[0]  # fmt: skip
    _dress(ax, "Stabilisation", "Mean signal (signal units)", right=True)
    _dress(right, "", "", "Code variance (codes²)", right=True)
    ax.set_ylim(0, 1.05 * float(max((bins.before + bins.before_error).max(), model.max())) or 1.0)
    _scale_variance(ax, "Signal variance")
    ax.yaxis.label.set_color(_VERMILION)
    right.yaxis.label.set_color(_BLUE)
    right.set_ylim(0, max(1.6 * level, 1.05 * float((bins.after + bins.after_error).max())))
    _legend(right, [before, line, _note(""), after, flat, expected], loc="upper left", ncols=2)
    return ax, right


def _shape_of(image: FloatArray) -> dict[str, Any]:
    """How an image is laid out: pixels are squares, except in strips that would be hard to see."""
    height, width = image.shape
    return {
        "interpolation": "nearest",
        "aspect": "auto" if max(height, width) > 6 * min(height, width) else "equal",
    }


def _count_axes(*axes: Any) -> None:
    """Ticks at whole numbers only."""
    for axis in axes:
        axis.set_major_locator(MaxNLocator(nbins="auto", integer=True, steps=[1, 2, 5, 10]))


def _draw_residual_map(ax: Axes, residuals: _Residuals) -> None:
    image = residuals.image
    step = residuals.plan.curve.beta / math.sqrt(12)
    limit = 3 * step / math.sqrt(residuals.frames)
    if np.isfinite(image).any():
        limit = max(limit, float(np.nanquantile(np.abs(image), 0.995)))
    shown = ax.imshow(image, cmap="cividis", vmin=-limit, vmax=limit, **_shape_of(image))
    _dress(ax, f"Mean residual of {residuals.frames} frames", "x (pixels)", "y (pixels)")
    _count_axes(ax.xaxis, ax.yaxis)
    bar = ax.figure.colorbar(shown, ax=ax, shrink=0.85, pad=0.03, extend="both")
    bar.set_label("decoded − original (σ)", fontsize=_TEXT, color=_INK)
    bar.ax.tick_params(labelsize=_TEXT, colors=_INK, width=0.6, length=3)
    bar.outline.set_linewidth(0.6)


def _draw_residual_histogram(ax: Axes, residuals: _Residuals) -> tuple[Axes, ...]:
    beta, edges = residuals.plan.curve.beta, residuals.edges
    width = np.diff(edges)
    measured = residuals.histogram / max(residuals.size, 1) / width
    bars = ax.stairs(measured, edges, fill=True, color=_SKY, zorder=1, label="measured")
    law = ax.stairs(
        residuals.expected_histogram(),
        edges,
        color=_BLUE,
        lw=1.0,
        zorder=2,
        label="expected",
    )
    uniform = ax.plot(
        np.array([-0.5, -0.5, 0.5, 0.5]) * beta, np.array([0, 1, 1, 0]) / beta, color=_INK, lw=1.0,
        ls=(0, (4, 2)), zorder=3, label="uniform, width β",
    )[0]  # fmt: skip
    _dress(ax, "Residuals", "(decoded − original) / σ", "Density (1/σ)")
    occupied = np.flatnonzero(residuals.histogram)
    reach = float(np.abs(edges[[occupied[0], occupied[-1] + 1]]).max()) if occupied.size else 0.0
    reach = max(0.65 * beta, 1.05 * reach)
    ax.set_xlim(-reach, reach)
    # Where single integers have codes of their own, most values don't change: a spike that runs off the plot.
    top = 3 / beta
    if measured.max() > top:
        for artist in (bars, law):
            artist.set_clip_path(Rectangle((-reach, 0), 2 * reach, top, transform=ax.transData))
        ax.plot(
            edges[:-1][measured > top] + width[0] / 2,
            np.full((measured > top).sum(), top),
            "^",
            color=_BLUE,
            ms=4,
        )
    ax.set_ylim(0, min(1.05 * max(float(measured.max()), 1 / beta), 1.05 * top))
    spread = math.sqrt(max(residuals.variance, 0))
    lines = [
        _signed(f"mean {residuals.mean:+.4f} σ"),
        f"std {spread:.3f} σ",
        f"β/√12 = {beta / math.sqrt(12):.3f} σ",
    ]
    if residuals.unchanged > 0.02 * residuals.size:
        lines.append(f"{_percent(residuals.unchanged / residuals.size)} unchanged")
    beyond = residuals.size - int(residuals.histogram.sum())
    if beyond:
        lines.append(f"{_percent(beyond / residuals.size)} off the axis")
    if residuals.clipped:
        lines.append(f"{_percent(residuals.clipped / residuals.size)} clipped")
    handles = [bars, law, uniform, *[_note("")] * (len(lines) - 3), *[_note(line) for line in lines]]
    _legend(ax, handles, loc="upper left", ncols=2)
    return (ax,)


def _draw_correlation(ax: Axes, residuals: _Residuals) -> tuple[Axes, ...]:
    styles = (("frames", "o", _INK), ("y", "s", _BLUE), ("x", "^", _VERMILION))
    handles: list[Any] = []
    largest, band = 0.02, 0.0
    for axis, (name, marker, colour) in enumerate(styles):
        lags, values, pairs = residuals.correlation(axis)
        if not lags.size:
            continue
        place = lags + 0.18 * (axis - 1)
        ax.vlines(place, 0, values, color=colour, lw=1.0, zorder=2)
        handles += ax.plot(
            place, values, marker=marker, ms=3.6, lw=0, color=colour, zorder=3,
            label="next frames" if axis == 0 else f"along {name}",
        )  # fmt: skip
        largest = max(largest, float(np.abs(values).max()))
        band = max(band, 2 / math.sqrt(float(pairs.min())))
    if not handles:
        _say(ax, "Correlation of residuals", "There are no neighbours to compare")
        return (ax,)
    _dress(ax, "Correlation of residuals", "Lag (frames or pixels)", "Correlation")
    handles.append(ax.axhspan(-band, band, color="#D0D0D0", lw=0, zorder=0, label=f"±2/√N = ±{band:.1g}"))
    ax.axhline(0, color=_INK, lw=0.6, zorder=1)
    ax.set_xlim(0.4, _MOST_LAGS + 0.6)
    ax.set_xticks(range(1, _MOST_LAGS + 1))
    limit = 1.15 * max(largest, band)
    ax.set_ylim(-limit, limit)
    _legend(ax, handles, loc="upper right", ncols=2)
    return (ax,)


def _draw_code_histogram(ax: Axes, use: _CodeUse) -> tuple[Axes, ...]:
    curve = use.plan.curve
    used = use.used
    if not used.size:
        _say(ax, "Use of codes", "There are no numbers, only NaN")
        return (ax,)
    first, last = int(used[0]), int(used[-1])
    share = use.share[first : last + 1]
    edges = np.arange(first, last + 2) - 0.5
    codes = 2 ** (8 * use.plan.encoded_dtype.itemsize)
    bars = ax.stairs(
        share,
        edges,
        fill=True,
        color=_BLUE,
        lw=0,
        label=f"codes {first} to {last} of {codes}, {used.size} used",
    )
    bright = 0.5 * math.log2(2 * math.pi * math.e) - math.log2(curve.beta)
    lines = [
        f"entropy {use.entropy:.2f} bits/pixel",
        f"noise alone {use.noise_entropy:.2f} bits/pixel (bright limit {bright:.2f})",
    ]
    if use.nan_share:
        lines.append(f"{_percent(use.nan_share)} NaN")
    _dress(ax, "Use of codes", "Code", "Share of values")
    _count_axes(ax.xaxis)
    ax.set_xlim(edges[0] - 0.01 * edges.size, edges[-1] + 0.01 * edges.size)
    ax.set_ylim(0, 1.05 * float(share.max()))
    upper = ax.secondary_xaxis("top", functions=(curve.invert, curve.stabilize))
    ticks = _round_signals(curve.invert(np.linspace(first, last, 7)))
    upper.set_xticks(ticks, [_number(t) for t in ticks])
    upper.set_xlabel("Signal (signal units)", fontsize=_TEXT, color=_INK)
    upper.tick_params(labelsize=_TEXT, colors=_INK, width=0.6, length=3)
    upper.spines["top"].set_linewidth(0.6)
    _legend(ax, [bars, *[_note(s) for s in lines]], loc="upper right")
    return (ax,)


def _draw_mean_image(ax: Axes, mean: _MeanImage) -> None:
    image = mean.image
    low, high = 0.0, 1.0
    if np.isfinite(image).any():
        low, high = np.nanquantile(image, [0.001, 0.999]).tolist()
    shown = ax.imshow(image, cmap="gray", vmin=low, vmax=high if high > low else low + 1, **_shape_of(image))
    _dress(ax, f"Mean of {mean.frames} frames", "x (pixels)", "y (pixels)")
    _count_axes(ax.xaxis, ax.yaxis)
    bar = ax.figure.colorbar(shown, ax=ax, shrink=0.85, pad=0.03)
    bar.set_label("signal units", fontsize=_TEXT, color=_INK)
    bar.ax.tick_params(labelsize=_TEXT, colors=_INK, width=0.6, length=3)
    bar.outline.set_linewidth(0.6)


def _draw_sizes(ax: Axes, movie: Movie, plan: Plan, use: _CodeUse, stored_bytes: int | None) -> None:
    values = movie.size
    raw = 8.0 * movie.dtype.itemsize
    sizes = [
        (f"raw, {movie.dtype}", raw, _GREY),
        (f"codes, {plan.encoded_dtype}", 8.0 * plan.encoded_dtype.itemsize, _SKY),
        ("entropy of codes", use.entropy, _SKY),
    ]
    if stored_bytes is not None:
        sizes.append(("stored", 8.0 * stored_bytes / values, _BLUE))
    sizes.append(("noise alone", use.noise_entropy, _SKY))
    names, bits, colours = zip(*sizes, strict=True)
    place = np.arange(len(sizes))[::-1]
    ax.barh(place, bits, height=0.62, color=colours)
    for y, b, colour in zip(place, bits, colours, strict=True):
        text = _bytes(b * values / 8) + ("" if b == raw or b < 0.005 else f"  {raw / b:.2f}×")
        inside = b > 0.6 * raw
        ink = "white" if inside and colour != _SKY else _INK
        ax.annotate(
            text, (b, y), xytext=(-4 if inside else 4, 0), textcoords="offset points", va="center",
            ha="right" if inside else "left", fontsize=_TEXT, color=ink,
        )  # fmt: skip
    _dress(ax, "Size", "Bits per pixel")
    ax.set_yticks(place, names)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_xlim(0, 1.02 * max(bits))


# -- text ----------------------------------------------------------------------------------------------------


def _headline(
    movie: Movie, sensitivity: Sensitivity, tools: tuple[_NoiseRows, _Residuals, _CodeUse] | None
) -> str:
    """Two lines above the summary: the movie and its calibration, the codec and its promise."""
    recording = " × ".join(str(n) for n in movie.shape) + f" {movie.dtype}"
    path, _, key = movie.source.partition("::")
    if Path(path).exists():
        recording = " · ".join([Path(path).name, *[key] * bool(key), recording])
    gain = _with_interval(sensitivity.conversion_gain, sensitivity.conversion_gain_interval)
    zero = _with_interval(sensitivity.zero_level, sensitivity.zero_level_interval)
    gain += " signal units/photon" * math.isfinite(sensitivity.conversion_gain)
    calibration = f"gain {gain} · zero level {zero} · {sensitivity.verdict}"
    if tools is None:
        return f"{recording}\n{calibration}"
    residuals = tools[1]
    plan = residuals.plan
    c = plan.configuration
    parts = [c.format, f"gain {c.conversion_gain:.4g}", _signed(f"zero level {c.zero_level:.4g}")]
    if c.read_noise:
        parts.append(f"read noise {c.read_noise:.3g}")
    parts += [f"β = {c.beta:g}", f"holds {_number(plan.lowest)} to {_number(plan.highest)}"]
    unless = " unless clipped" if c.out_of_range == "clip" else ""
    parts.append(f"|decoded − original| ≤ {math.ceil(100 * residuals.bound) / 100:g} σ{unless}")
    return f"{recording} · {calibration}\n{' · '.join(parts)}"


def _finite(*values: float) -> bool:
    return all(math.isfinite(v) for v in values)


def _near(value: float, mean: FloatArray) -> bool:
    """Whether a value is near enough to the bins to be drawn in their scale."""
    return bool(mean.min() - 0.5 * (np.ptp(mean) or 1) <= value <= mean.max())


def _with_interval(value: float, interval: tuple[float, float]) -> str:
    """``91.2 [89.9, 92.6]``, with two figures of the interval's half width."""
    low, high = interval
    if not _finite(value):
        return "unknown"
    if not _finite(low, high) or not high > low:
        return _signed(f"{value:.4g}")
    places = max(0, 1 - math.floor(math.log10((high - low) / 2)))
    return _signed(f"{value:.{places}f} [{low:.{places}f}, {high:.{places}f}]")


def _short(value: float, scale: float) -> str:
    """A signal with as many figures as a hundredth of a photon has."""
    return _signed(f"{value:.{max(0, 2 - math.floor(math.log10(scale)))}f}" if scale > 0 else f"{value:.4g}")


def _round_signals(signals: FloatArray) -> list[float]:
    """Round numbers near given ones, each once."""
    span = float(np.ptp(signals)) or 1.0
    found: list[float] = []
    for value in signals.tolist():
        unit = 10.0 ** math.floor(math.log10(max(abs(value), 0.05 * span)) - 1)
        rounded = round(value / unit) * unit
        if rounded not in found:
            found.append(rounded)
    return found


def _number(value: float) -> str:
    return _signed(f"{value:.6g}")


def _signed(text: str) -> str:
    """The minus sign of print instead of the hyphen of source code."""
    return text.replace("-", "−")


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.0995 else f"{100 * share:.0f} %"


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _settle(figure: Any, groups: Sequence[tuple[Axes, ...]]) -> None:
    """Raise upper limits until each legend lies above what is drawn; the last of a group holds the legend."""
    root: Figure = figure.get_figure(root=True)
    # Only a finished layout says how much of its axes a legend takes.
    engine = root.get_layout_engine()
    if engine is not None:
        engine.execute(root)
    for group in groups:
        legend = group[-1].get_legend()
        if legend is None:
            continue
        box = group[-1].transAxes.inverted().transform_bbox(legend.get_window_extent())
        floor = max(box.y0 - 0.04, 0.25)
        for ax in group:
            low, high = ax.get_ylim()
            tallest = high if ax.patches else low
            for x, y in _drawn(ax):
                place = (ax.transData - ax.transAxes).transform(np.column_stack([x, y]))[:, 0]
                under = (place > box.x0 - 0.03) & (place < box.x1 + 0.03) & (y <= high)
                tallest = max(tallest, float(y[under].max(initial=low)))
            ax.set_ylim(low, max(high, low + (tallest - low) / floor))


def _drawn(ax: Axes) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Points of the lines, error bars and bands of an axes, in its units."""
    for line in ax.lines:
        x, y = (np.asarray(values, np.float64) for values in line.get_data())
        if line.get_transform() != ax.transData:
            # A line across the axes, whose x runs from 0 to 1.
            x = np.linspace(*ax.get_xlim(), 50)
            y = np.full_like(x, y[0])
        yield x, y
    for collection in ax.collections:
        for path in collection.get_paths():
            vertices = np.asarray(path.vertices)
            yield vertices[:, 0], vertices[:, 1]
