"""The noise transfer curve of a calibration."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D

from anscombe_transform.codec.transform.curve import check_sensitivity
from anscombe_transform.diagnostics.plots.style import (
    BLUE,
    GREY,
    INK,
    SKY,
    VERDICT,
    VERMILION,
    add_legend,
    dress,
    new_axes,
    scale_variance,
    text_entry,
    with_look,
)
from anscombe_transform.diagnostics.plots.text import METHODS, all_finite, in_percent, with_interval
from anscombe_transform.native.arrays import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from anscombe_transform.calibration import Sensitivity


@with_look
def plot_noise_transfer(sensitivity: Sensitivity, *, ax: Axes | None = None) -> Axes:
    """Plot the photon transfer curve of a calibration: noise variance against mean signal.

    Parameters
    ----------
    sensitivity : Sensitivity
        The result of `compute_sensitivity`, refused or not: verdict and first reason are in the legend.
        Without a measured curve (constants from a data sheet) only the line is drawn.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new Figure. The legend lies below the axes: a Figure of your own needs
        ``layout="constrained"`` to make room for it.

    Returns
    -------
    matplotlib.axes.Axes
        Variance in signal units², mean in signal units. The band is the line's 95 % interval: the
        interval of the gain, turning about the weighted centre of the bins, and that of the centre's height.
        Rejected samples are grey, by reason, with their share.

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
    check_sensitivity(
        sensitivity,
        "plot_noise_transfer(compute_sensitivity(movie))",
    )
    ax = new_axes(ax)
    draw_noise_transfer(ax, sensitivity)
    return ax


def draw_noise_transfer(ax: Axes, sensitivity: Sensitivity, *, brief: bool = False) -> None:
    """Draw the curve, the line, the zero level and the verdict; `brief` is for a page with a headline."""
    gain, zero = sensitivity.conversion_gain, sensitivity.zero_level
    intercept, read_noise = sensitivity.variance_intercept, sensitivity.read_noise
    handles: list[Any] = []
    mean, variance, error = measured_bins(sensitivity)
    if mean.size:
        handles.append(
            ax.errorbar(
                mean, variance, error, fmt="o", ms=3.2, mfc=ax.get_facecolor(), mec=INK, mew=0.8, ecolor=GREY,
                elinewidth=0.8, zorder=3, label="measured ± standard error",
            )
        )  # fmt: skip
    ceiling = 2 * float(np.max(variance + error)) if mean.size else math.inf
    rejected = _draw_rejected(ax, sensitivity, ceiling)
    if math.isfinite(gain) and math.isfinite(intercept):
        handles += _draw_fit(ax, sensitivity, mean, variance, error, brief)
    if all_finite(zero, intercept, gain):
        label = "zero level " + with_interval(zero, sensitivity.zero_level_interval) * (not brief)
        low, high = sensitivity.zero_level_interval
        bar = np.clip([[zero - low], [high - zero]], 0, None) if all_finite(low, high) else None
        if not mean.size or _near(zero, mean):
            ax.errorbar(
                [zero], [max(read_noise, 0) ** 2], xerr=bar, fmt="s", ms=4, color=BLUE, elinewidth=1.2,
                capsize=2, zorder=4, label=label,
            )  # fmt: skip
        handles.append(Line2D([], [], marker="s", ms=4, lw=0, color=BLUE, label=label))
        if sensitivity.read_noise_interval[1] > 0 and not brief:
            noise = with_interval(read_noise, sensitivity.read_noise_interval)
            handles.append(text_entry(f"read noise {noise}"))
    if brief and rejected:
        share = sum(part.share for part in sensitivity.rejected)
        rejected = [Line2D([], [], marker="x", color=GREY, lw=0, label=f"rejected: {in_percent(share)}")]
    handles += rejected
    dress(ax, "Photon transfer curve", "Mean signal (signal units)")
    if not handles:
        ax.set_xticks([])
        ax.set_yticks([])
    top = float(np.max(variance + error)) if mean.size else ax.get_ylim()[1]
    shown = np.concatenate([[top], *(np.minimum(p.curve.variance, ceiling) for p in sensitivity.rejected)])
    top = max(top, float(np.nanmax(shown)))
    if top > 0:
        ax.set_ylim(min(0, float(np.min(variance - error)) if mean.size else 0) - 0.03 * top, 1.08 * top)
    scale_variance(ax, "Noise variance")
    legend = add_legend(ax, handles, None if brief else _verdict(sensitivity))
    legend.get_title().set_color(VERDICT.get(sensitivity.verdict, INK))


def _draw_rejected(ax: Axes, sensitivity: Sensitivity, ceiling: float) -> list[Any]:
    """Bins of rejected samples in grey, by reason; those above `ceiling` as arrows at that height."""
    handles: list[Any] = []
    for marker, part in zip("xv+", sensitivity.rejected, strict=False):
        mean, variance = part.curve.mean, part.curve.variance
        below = variance <= ceiling
        ax.plot(mean[below], variance[below], marker, ms=4, mew=0.9, color=GREY, lw=0, zorder=2)
        ax.plot(mean[~below], np.full((~below).sum(), ceiling), "^", ms=3.5, color=GREY, lw=0, zorder=2)
        label = f"rejected, {part.reason}: {in_percent(part.share)}"
        handles.append(Line2D([], [], marker=marker, ms=4, mew=0.9, color=GREY, lw=0, label=label))
    return handles


def _verdict(sensitivity: Sensitivity) -> str:
    """The verdict and, unless it is "trustworthy", the first of the most severe reasons."""
    text = f"Verdict: {sensitivity.verdict}"
    measured = sensitivity.transfer_curve.mean.size > 0
    if measured and sensitivity.method in METHODS:
        text += f" · noise from {METHODS[sensitivity.method]}"
    for severity in ("refusal", "caution") if measured else ("refusal", "caution", "note"):
        for reason in sensitivity.reasons:
            if reason.severity == severity:
                message = textwrap.shorten(
                    reason.message[:1].upper() + reason.message[1:], 180, placeholder=" …"
                )
                return f"{text}\n{textwrap.fill(message, 60)}"
    return text


def measured_bins(sensitivity: Sensitivity) -> tuple[Floats, Floats, Floats]:
    """Mean, variance and standard error of the bins that have all three."""
    curve = sensitivity.transfer_curve
    columns = np.array([curve.mean, curve.variance, curve.standard_error], np.float64)
    mean, variance, error = columns[:, np.isfinite(columns[:2]).all(axis=0)]
    return mean, variance, np.where(np.isfinite(error), error, 0.0)


def _near(value: float, mean: Floats) -> bool:
    """True if a value is near enough to the bins to be drawn at their scale."""
    return bool(mean.min() - 0.5 * (np.ptp(mean) or 1) <= value <= mean.max())


def _draw_fit(
    ax: Axes,
    sensitivity: Sensitivity,
    mean: Floats,
    variance: Floats,
    error: Floats,
    brief: bool,
) -> list[Any]:
    """Draw the fitted line, its band and its zero crossing."""
    gain, intercept = sensitivity.conversion_gain, sensitivity.variance_intercept
    seen = not mean.size or _near(intercept, mean)
    ends = [*([intercept] if seen else []), *mean] if mean.size else [intercept, intercept + 100 * gain]
    x = np.linspace(min(ends), max(ends), 200)
    low, high = sensitivity.conversion_gain_interval
    handles: list[Any] = [
        ax.plot(
            x, gain * (x - intercept), color=BLUE, lw=1.4, zorder=2,
            label="fitted line" if brief else f"gain {with_interval(gain, (low, high))} per photon",
        )[0]
    ]  # fmt: skip
    if all_finite(low, high) and mean.size:
        weight = np.divide(1, error**2, out=np.zeros_like(error), where=error > 0)
        if not weight.any():
            weight = np.ones_like(error)
        centre = float(weight @ mean / weight.sum())
        height = 1.96 / math.sqrt(weight.sum()) if (error > 0).any() else 0.0
        upper = np.hypot(np.where(x > centre, high - gain, gain - low) * (x - centre), height)
        lower = np.hypot(np.where(x > centre, gain - low, high - gain) * (x - centre), height)
        line = gain * (x - intercept)
        band = ax.fill_between(x, line - lower, line + upper, color=SKY, lw=0, zorder=1, label="95 % band")
        handles.append(band)
    value = with_interval(intercept, sensitivity.variance_intercept_interval)
    label = "variance intercept " + (value.partition(" ")[0] if brief else value)
    if seen:
        ax.plot(
            [intercept], [0], marker="D", ms=6.5, mfc="none", mec=VERMILION, mew=1.2, lw=0, zorder=5,
            label=label, clip_on=False,
        )  # fmt: skip
    handles.append(Line2D([], [], marker="D", ms=5, mfc="none", mec=VERMILION, mew=1.2, lw=0, label=label))
    return handles
