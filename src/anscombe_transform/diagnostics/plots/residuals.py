"""Decoded minus original, in standard deviations of the noise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.patches import Rectangle

from anscombe_transform.diagnostics.measurements.frames import check_codec, runs
from anscombe_transform.diagnostics.plots.style import (
    BLUE,
    INK,
    SKY,
    VERMILION,
    add_legend,
    draw_map,
    dress,
    new_figure,
    say_instead,
    text_entry,
    with_look,
)
from anscombe_transform.diagnostics.plots.text import in_frames, in_percent, signed
from anscombe_transform.movies import open_movie
from anscombe_transform.native.arrays import AnyArray, Floats

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from anscombe_transform.codec.transform.plan import Plan
    from anscombe_transform.diagnostics.measurements.frames import Source


_MOST_LAGS = 8
# Bins of the residuals' histogram within one quantisation step; odd, so that 0 is the middle of a bin.
_STEP_BINS = 41


@with_look
def plot_residuals(
    movie: Source,
    codec: Any,
    *,
    max_frames: int | None = None,
    partial: bool = False,
    figure: Figure | None = None,
) -> Figure:
    """Plot the residuals of storing: decoded minus original, in standard deviations σ of the noise.

    Parameters
    ----------
    movie : array_like or path, shape (time, y, x)
        Anything that `open_movie` takes.
    codec : AnscombeTransformV2 or AnscombeTransformV3
        The transform, which must hold the movie's values.
    max_frames, partial : optional
        As for `plot_code_histogram`.
    figure : matplotlib.figure.Figure, optional
        Where to draw; by default a new one.

    Returns
    -------
    matplotlib.figure.Figure
        Three axes: the mean residual of every pixel over the frames that were read; the histogram of the
        residuals, with the uniform distribution of width β and the one expected of the codec's bins for
        signals as frequent as in this movie; the correlation with later frames and neighbours, with the band
        ±2/√N that holds 95 % of white residuals. σ is the noise that the codec assumes at the decoded value.

    Raises
    ------
    ValueError, TypeError, UnrepresentableError
        As for `plot_code_histogram`.

    Examples
    --------
    >>> from anscombe_transform import AnscombeTransformV2, simulate_movie
    >>> movie, truth = simulate_movie((20, 64, 64), rng=0)
    >>> figure = plot_residuals(movie, AnscombeTransformV2(truth.zero_level, truth.conversion_gain))
    >>> [ax.get_title(loc="left") for ax in figure.axes[:3]]
    ['Mean residual of 20 frames', 'Residuals of single values', 'Correlation of residuals']
    """
    plan = check_codec(codec)
    with open_movie(movie, partial=partial) as source:
        residuals = Residuals(plan, source.shape)
        for block in runs(source, max_frames):
            residuals.update(block, plan.encode(block))
    figure = new_figure(figure, (9.2, 3.3))
    axes = figure.subplots(1, 3, width_ratios=(1.15, 1, 1))
    draw_residual_map(axes[0], residuals)
    draw_residual_histogram(axes[1], residuals)
    draw_correlation(axes[2], residuals)
    return figure


class Residuals:
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
        """Add a run of frames and their codes."""
        earlier: list[tuple[Floats, npt.NDArray[np.bool_]]] = []
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

    def _pair(self, axis: int, lag: int, a: Floats, b: Floats, valid: npt.NDArray[np.bool_]) -> None:
        # What is missing is 0 in one of the two and adds nothing to the sum.
        self.products[axis, lag] += float(np.einsum("ij,ij->", a, b))
        self.pairs[axis, lag] += int(np.count_nonzero(valid))

    @property
    def size(self) -> int:
        """Number of residuals."""
        return int(self.count.sum())

    @property
    def mean(self) -> float:
        """Mean residual."""
        return float(self.total.sum()) / max(self.size, 1)

    @property
    def variance(self) -> float:
        """Variance of the residuals."""
        return self.squares / max(self.size, 1) - self.mean**2

    @property
    def bound(self) -> float:
        """Largest possible residual of the codes that occur."""
        return float(self.code_bound[self.code_count[: self.code_bound.size] > 0].max(initial=0))

    @property
    def image(self) -> Floats:
        """Mean residual of each pixel, NaN where there was no number."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.total / self.count)

    def correlation(self, axis: int) -> tuple[npt.NDArray[np.intp], Floats, npt.NDArray[np.int64]]:
        """Lags with pairs along an axis, the correlation at each, and the number of pairs."""
        lags = np.flatnonzero(self.pairs[axis])
        pairs = self.pairs[axis, lags]
        covariance = self.products[axis, lags] / pairs - self.mean**2
        variance = self.variance
        return lags, covariance / variance if variance > 0 else np.zeros(lags.size), pairs

    def expected_histogram(self) -> Floats:
        """Density of the residual that the bins give for signals as frequent as in the movie.

        The frequency of signals inside a bin is interpolated between the counts of neighbouring codes. The
        result is uniform of width β where bins hold many integers, and has a peak for each integer where they
        hold few.
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
        middle, count = (first + last)[used] / 2, self.code_count[used]
        weight = np.interp(signal, middle, count / (last - first)[used])
        weight *= (count / weight.sum(axis=1))[:, None]
        density = np.histogram(residual, self.edges, weights=weight)[0]
        return density / max(self.size, 1) / np.diff(self.edges)


def draw_residual_map(ax: Axes, residuals: Residuals) -> None:
    """Draw the mean residual of every pixel."""
    image = residuals.image
    step = residuals.plan.curve.beta / math.sqrt(12)
    limit = 3 * step / math.sqrt(residuals.frames)
    if np.isfinite(image).any():
        limit = max(limit, float(np.nanquantile(np.abs(image), 0.995)))
    draw_map(ax, image, "decoded − original (σ)", (-limit, limit), cmap="RdBu_r", extend="both")
    dress(ax, f"Mean residual of {in_frames(residuals.frames)}", "x (pixels)", "y (pixels)")


def draw_residual_histogram(ax: Axes, residuals: Residuals) -> None:
    """Draw the histogram of residuals and the distributions that it should follow."""
    beta, edges = residuals.plan.curve.beta, residuals.edges
    width = np.diff(edges)
    measured = residuals.histogram / max(residuals.size, 1) / width
    bars = ax.stairs(measured, edges, fill=True, color=SKY, zorder=1, label="measured")
    expected = ax.stairs(
        residuals.expected_histogram(), edges, color=BLUE, lw=1.0, zorder=2, label="expected of these bins"
    )
    uniform = ax.plot(
        np.array([-0.5, -0.5, 0.5, 0.5]) * beta, np.array([0, 1, 1, 0]) / beta, color=INK, lw=1.0,
        ls=(0, (4, 2)), zorder=3, label="uniform, width β",
    )[0]  # fmt: skip
    dress(ax, "Residuals of single values", "(decoded − original) / σ", "Density (1/σ)")
    occupied = np.flatnonzero(residuals.histogram)
    reach = float(np.abs(edges[[occupied[0], occupied[-1] + 1]]).max()) if occupied.size else 0.0
    reach = max(0.65 * beta, 1.05 * reach)
    ax.set_xlim(-reach, reach)
    # Where single integers have codes of their own, most values don't change: a spike that runs off the plot.
    top = 3 / beta
    if measured.max() > top:
        for artist in (bars, expected):
            artist.set_clip_path(Rectangle((-reach, 0), 2 * reach, top, transform=ax.transData))
        ax.plot(
            edges[:-1][measured > top] + width[0] / 2,
            np.full((measured > top).sum(), top),
            "^",
            color=BLUE,
            ms=4,
        )
    ax.set_ylim(0, min(1.05 * max(float(measured.max()), 1 / beta), 1.05 * top))
    spread = math.sqrt(max(residuals.variance, 0))
    lines = [
        signed(f"mean {residuals.mean:+.4f} σ"),
        f"std {spread:.3f} σ",
        f"β/√12 = {beta / math.sqrt(12):.3f} σ",
    ]
    if residuals.unchanged > 0.02 * residuals.size:
        lines.append(f"{in_percent(residuals.unchanged / residuals.size)} unchanged")
    beyond = residuals.size - int(residuals.histogram.sum())
    if beyond:
        lines.append(f"{in_percent(beyond / residuals.size)} off the axis")
    if residuals.clipped:
        lines.append(f"{in_percent(residuals.clipped / residuals.size)} clipped")
    handles = [
        bars,
        expected,
        uniform,
        *[text_entry("")] * (len(lines) - 3),
        *[text_entry(line) for line in lines],
    ]
    add_legend(ax, handles)


def draw_correlation(ax: Axes, residuals: Residuals) -> None:
    """Draw the correlation of residuals in time and space."""
    styles = (("frames", "o", INK), ("y", "s", BLUE), ("x", "^", VERMILION))
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
        say_instead(ax, "Correlation of residuals", "There are no neighbours to compare")
        return
    dress(ax, "Correlation of residuals", "Lag (frames or pixels)", "Correlation")
    handles.append(ax.axhspan(-band, band, color="#D0D0D0", lw=0, zorder=0, label=f"95 % limits ±{band:.1g}"))
    ax.axhline(0, color=INK, lw=0.6, zorder=1)
    ax.set_xlim(0.4, _MOST_LAGS + 0.6)
    ax.set_xticks(range(1, _MOST_LAGS + 1))
    limit = 1.15 * max(largest, band)
    ax.set_ylim(-limit, limit)
    add_legend(ax, handles)
