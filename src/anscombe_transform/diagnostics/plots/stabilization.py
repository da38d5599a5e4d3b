"""Noise variance against mean, before and after the transform."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from anscombe_transform.diagnostics.measurements.frames import check_codec, runs
from anscombe_transform.diagnostics.measurements.noise import NoiseBins, NoiseRows
from anscombe_transform.diagnostics.plots.codes import code_law
from anscombe_transform.diagnostics.plots.style import (
    BLUE,
    INK,
    VERMILION,
    add_legend,
    dress,
    new_axes,
    scale_variance,
    text_entry,
    with_look,
)
from anscombe_transform.movies import open_movie

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from anscombe_transform.codec.transform.plan import Plan
    from anscombe_transform.diagnostics.measurements.frames import Source


@with_look
def plot_stabilization(
    movie: Source, codec: Any, *, max_frames: int | None = None, partial: bool = False, ax: Axes | None = None
) -> Axes:
    """Plot the noise variance of a movie against its mean, before and after the transform.

    Parameters
    ----------
    movie : array_like or path, shape (time, y, x)
        Anything that `open_movie` takes; at least two frames.
    codec : AnscombeTransformV2 or AnscombeTransformV3
        The transform, which must hold the movie's values.
    max_frames, partial : optional
        As for `plot_code_histogram`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new Figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes of the variance before, in signal units². The variance after, in codes², has the axes at
        their right: ``ax.figure.axes[-1]`` of a new Figure. Points are means over rows of pixels with their
        standard error; rows with far more noise than others of their brightness (activity, motion) are left
        out. A noise model that fits the movie makes the points after flat at 1/β² plus the 1/12 of rounding,
        down to about one photon, below which no transform stabilises counts; the dashed line is expected of
        the codec's model.

    Raises
    ------
    ValueError, TypeError, UnrepresentableError
        As for `plot_code_histogram`, and of a movie of one frame.

    Examples
    --------
    >>> from anscombe_transform import AnscombeTransformV2, simulate_movie
    >>> movie, truth = simulate_movie((20, 64, 64), rng=0)
    >>> ax = plot_stabilization(movie, AnscombeTransformV2(truth.zero_level, truth.conversion_gain))
    >>> ax.figure.axes[-1].get_ylabel()
    'Code variance (codes²)'
    """
    plan = check_codec(codec)
    noise = NoiseRows(plan)
    with open_movie(movie, partial=partial) as source:
        for block in runs(source, max_frames):
            noise.update(block, plan.encode(block))
        if noise.empty:
            raise ValueError(
                f"{source!r} has no noise to measure: that takes two consecutive frames or more, with "
                f"numbers in all pixels of a tile, and max_frames of 2 or more, got {max_frames!r}"
            )
    ax = new_axes(ax)
    draw_stabilization(ax, noise.binned(), plan)
    return ax


def draw_stabilization(ax: Axes, bins: NoiseBins, plan: Plan) -> None:
    """Draw both variances against their mean; the axes at the right hold the codes."""
    curve = plan.curve
    level = 1 / curve.beta**2
    right = ax.twinx()
    x = np.linspace(float(bins.mean.min()), float(bins.mean.max()), 200)
    photons = np.maximum(curve.photons(x), 0)
    model = curve.conversion_gain**2 * photons + curve.read_noise**2
    before = ax.errorbar(
        bins.mean, bins.before, bins.before_error, fmt="o", ms=3.6, mfc=ax.get_facecolor(),
        mec=VERMILION, mew=0.9, ecolor=VERMILION, elinewidth=0.8, zorder=3, label="signal (left)",
    )  # fmt: skip
    line = ax.plot(x, model, color=VERMILION, lw=0.9, zorder=2, label="codec's noise model")[0]
    after = right.errorbar(
        bins.mean, bins.after, bins.after_error, fmt="s", ms=3.6, color=BLUE, elinewidth=0.8, zorder=3,
        label="codes (right)",
    )  # fmt: skip
    flat = right.axhline(level, color=BLUE, lw=0.9, zorder=1, label=f"1/β² = {level:.4g}")
    expected_variance = code_law(plan).variance_at(photons)
    expected = right.plot(
        x, expected_variance, color=INK, lw=0.9, ls=(0, (4, 2)), zorder=2,
        label="expected",
    )[0]  # fmt: skip
    dress(ax, "Noise before and after", "Mean signal (signal units)")
    dress(right, "", "", "Code variance (codes²)")
    right.spines["right"].set_visible(True)
    ax.set_ylim(0, 1.05 * float(max((bins.before + bins.before_error).max(), model.max())) or 1.0)
    scale_variance(ax, "Signal variance")
    ax.yaxis.label.set_color(VERMILION)
    right.yaxis.label.set_color(BLUE)
    highest = float(max((bins.after + bins.after_error).max(), expected_variance.max()))
    right.set_ylim(0, max(1.6 * level, 1.05 * highest))
    # A twin has no x axis of its own: its legend would be placed without regard to the labels of the other.
    add_legend(ax, [before, line, text_entry(""), after, flat, expected])
