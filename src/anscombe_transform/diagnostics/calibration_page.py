"""The evidence behind a calibration on one page."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from anscombe_transform.calibration import Sensitivity, compute_sensitivity
from anscombe_transform.diagnostics.plots.pixel_maps import draw_pixel_maps
from anscombe_transform.diagnostics.plots.style import (
    BLUE,
    GREY,
    INK,
    VERDICT,
    VERMILION,
    add_legend,
    draw_map,
    dress,
    new_figure,
    number_panels,
    say_instead,
    with_look,
)
from anscombe_transform.diagnostics.plots.text import FILTERS, with_interval
from anscombe_transform.diagnostics.plots.transfer import draw_noise_transfer, measured_bins

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from anscombe_transform.calibration import Evidence
    from anscombe_transform.diagnostics.measurements.frames import Source


# Of a calibration that was read from a file; flat fields and given constants have no such panels at all.
_ABSENT = "– gain by filter, whiteness and maps: give the movie, or what compute_sensitivity returned"
# Below these ratios neighbours are taken to share noise; frames a little earlier than pixels.
_CORRELATED = {"x": 0.9, "y": 0.9, "time": 0.85}


@with_look
def plot_calibration_report(source: Sensitivity | Source, *, figure: Figure | None = None) -> Figure:
    """Plot the evidence behind a calibration on one page.

    Parameters
    ----------
    source : Sensitivity, or array_like or path of shape (time, y, x)
        A calibration, or the movie to calibrate; a refused one too.
    figure : matplotlib.figure.Figure, optional
        Where to draw; by default a new one, 12.5 inches wide and 3.8 for each row of panels.

    Returns
    -------
    matplotlib.figure.Figure
        The verdict with all its reasons; the photon transfer curve; the deviation of its bins from the fit;
        the gain by each difference filter, which motion makes differ; the whiteness of the noise and its
        limits; the ratio of measured to fitted noise variance of each tile of the field, and the share of its
        samples that was used. The last four come from `Sensitivity.evidence`, which flat fields and a
        calibration read from a file do not have. Maps of single pixels (``per_pixel=True``) take a third row.

    Examples
    --------
    >>> from anscombe_transform import simulate_movie
    >>> movie, _ = simulate_movie((64, 64, 64), rng=0)
    >>> figure = plot_calibration_report(movie)
    >>> [ax.get_title(loc="left") for ax in figure.axes[:3]]
    ['a  Verdict', 'b  Photon transfer curve', 'c  Deviation from the fit']
    """
    if not isinstance(source, Sensitivity):
        source = compute_sensitivity(source, on_refusal="return")
    evidence, maps = source.evidence, source.maps
    rows = 1 + (evidence is not None) + (maps is not None)
    figure = new_figure(figure, (12.5, 3.8 * rows))
    parts: Any = figure.subfigures(rows, 1, squeeze=False)
    axes: list[Axes] = list(parts[0, 0].subplots(1, 3))
    _write_verdict(axes[0], source)
    draw_noise_transfer(axes[1], source, brief=True)
    _draw_departure(axes[2], source)
    if evidence is not None:
        axes.extend(parts[1, 0].subplots(1, 4))
        _draw_gains(axes[3], source, evidence)
        _draw_whiteness(axes[4], evidence)
        ratio = evidence.variance_ratio
        reach = max(0.1, float(np.nanquantile(np.abs(ratio - 1), 0.98))) if np.isfinite(ratio).any() else 0.1
        draw_map(axes[5], ratio, "variance ratio", (1 - reach, 1 + reach), cmap="RdBu_r", extend="both")
        draw_map(axes[6], evidence.used, "share of the tile", (0.0, 1.0))
        for ax, title in zip(axes[5:], ("Measured / fitted noise variance", "Samples used"), strict=True):
            dress(ax, title, "x (tiles of 8 pixels)", "y (tiles)")
    if maps is not None:
        pixels = list(parts[-1, 0].subplots(1, 3))
        draw_pixel_maps(pixels, maps)
        axes.extend(pixels)
    number_panels(axes)
    return figure


def _write_verdict(ax: Axes, sensitivity: Sensitivity) -> None:
    """The verdict, the constants and every reason."""
    dress(ax, "Verdict")
    ax.set_axis_off()
    colour = VERDICT.get(sensitivity.verdict, INK)
    ax.text(0, 0.98, sensitivity.verdict, color=colour, fontsize="x-large", weight="bold", va="top")
    lines = [
        f"{constant.name} {with_interval(constant.value, constant.interval)}"
        for constant in sensitivity.constants()
    ]
    lines[1] += f" ({sensitivity.zero_level_method})"
    for reason in sorted(sensitivity.reasons, key=lambda r: ("refusal", "caution", "note").index(r.severity)):
        lines += textwrap.wrap(
            f"{reason.severity}: {reason.message}", 62, initial_indent="– ", subsequent_indent="   "
        )
    if not sensitivity.reasons:
        lines.append("– nothing speaks against it")
    if (
        sensitivity.evidence is None
        and sensitivity.method in FILTERS
        and sensitivity.transfer_curve.mean.size
    ):
        lines += textwrap.wrap(_ABSENT, 62, subsequent_indent="   ")
    shown = lines if len(lines) <= 19 else [*lines[:18], "   …"]
    ax.text(0, 0.87, "\n".join(shown), va="top", linespacing=1.35)
    for artist in ax.texts:
        artist.set_transform(ax.transAxes)
        # The text may run on under the axes beside it, which must not shrink for it.
        artist.set_in_layout(False)


def _draw_departure(ax: Axes, sensitivity: Sensitivity) -> None:
    """Draw the bins minus the fitted line, in per cent of it, with twice their standard errors."""
    title = "Deviation from the fit"
    mean, variance, error = measured_bins(sensitivity)
    line = sensitivity.conversion_gain * (mean - sensitivity.variance_intercept)
    fine = line > 0
    if not fine.any():
        say_instead(ax, title, "There is no line")
        return
    percent = 100 / line[fine]
    ax.errorbar(
        mean[fine], (variance - line)[fine] * percent, 2 * error[fine] * percent, fmt="o", ms=3.2,
        mfc=ax.get_facecolor(), mec=INK, mew=0.8, ecolor=GREY, elinewidth=0.8, zorder=3,
    )  # fmt: skip
    ax.axhline(0, color=BLUE, lw=1.4, zorder=2)
    dress(ax, title, "Mean signal (signal units)", "Measured − fitted variance (%)")
    deviation = np.abs(variance - line)[fine] * percent
    # Error bars longer than twice the largest deviation would flatten all points.
    reach = 1.05 * max(min((deviation + 2 * error[fine] * percent).max(), 3 * deviation.max()), 2.0)
    ax.set_ylim(-reach, reach)


def _draw_gains(ax: Axes, sensitivity: Sensitivity, evidence: Evidence) -> None:
    """Draw the gain by each filter, and circle the one used."""
    names = list(evidence.gains)
    place = np.arange(len(names))
    gains, errors = np.array(list(evidence.gains.values())).T
    ax.errorbar(place, gains, 2 * errors, fmt="o", ms=4, color=INK, elinewidth=0.8, capsize=2, zorder=3)
    chosen = [k for k, name in enumerate(names) if name == sensitivity.method]
    ax.plot(chosen, gains[chosen], "o", ms=9, mfc="none", mec=BLUE, mew=1.4, zorder=4)
    ax.axhspan(*sensitivity.conversion_gain_interval, color="#D0E4F2", lw=0, zorder=0)
    ax.axhline(sensitivity.conversion_gain, color=BLUE, lw=1.0, zorder=1)
    dress(ax, "Gain by difference filter", "Differences in time (t), y, x", "Gain (signal units / photon)")
    ax.set_xticks(place, names)
    ax.set_xlim(-0.6, len(names) - 0.4)


def _draw_whiteness(ax: Axes, evidence: Evidence) -> None:
    """Draw the part of its variance that noise keeps in second differences, with its limits."""
    names = ("x", "y", "time")
    limits = [_CORRELATED[name] for name in names]
    ratios = np.array(evidence.whiteness)
    colours = [VERMILION if ratio < limit else BLUE for ratio, limit in zip(ratios, limits, strict=True)]
    place = np.arange(3)
    ax.bar(place, np.nan_to_num(ratios), 0.55, color=colours, zorder=2)
    for k, (ratio, limit) in enumerate(zip(ratios, limits, strict=True)):
        text = f"{ratio:.2f}" if np.isfinite(ratio) else "unknown"
        ax.annotate(text, (k, np.nan_to_num(ratio)), xytext=(0, 2), textcoords="offset points",
                    ha="center")  # fmt: skip
        ax.plot([k - 0.4, k + 0.4], [limit, limit], color=INK, lw=1.0, ls=(0, (3, 2)), zorder=3,
                label="limit: below it neighbours share noise" if k == 0 else None)  # fmt: skip
    add_legend(ax, ax.get_legend_handles_labels()[0])
    dress(ax, "Whiteness of the noise", "Direction", "Variance kept in second differences")
    ax.set_xticks(place, names)
    ax.set_ylim(0, 1.2 * max(1.0, float(np.nan_to_num(ratios).max())))
