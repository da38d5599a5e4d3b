"""The figure of the decision report: size and changes for each step β, compared with chance."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from anscombe_transform.diagnostics.plots.style import (
    BLUE,
    GREY,
    INK,
    VERMILION,
    add_legend,
    dress,
    new_figure,
    say_instead,
    with_look,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from anscombe_transform.diagnostics.decision import Change, Decision

_MARKERS = ("o", "s", "D", "^")


@with_look
def plot_decision(decision: Decision, *, figure: Figure | None = None) -> Figure:
    """Plot size and changes of results against β, each beside equal random noise and odd against even frames.

    Parameters
    ----------
    decision : Decision
        From `decide`.
    figure : matplotlib.figure.Figure, optional
        Where to draw; by default a new one of 10 × 6 inches.

    Returns
    -------
    matplotlib.figure.Figure
        Size, mean shift, cells, events, noise of traces, registration.

    Examples
    --------
    >>> from anscombe_transform import decide, simulate_movie
    >>> movie, _ = simulate_movie((40, 64, 64), conversion_gain=90, zero_level=50, rng=0)
    >>> figure = plot_decision(decide(movie, betas=(0.5,), presets=("fast",)))
    >>> len(figure.axes)
    6
    """
    figure = new_figure(figure, (10.0, 6.0))
    axes = figure.subplots(2, 3).ravel()
    _draw_sizes(axes[0], decision)
    _draw_mean_shift(axes[1], decision)
    no_cells = "No active cells were found" if not decision.cells else ""
    _draw_change(axes[2], decision, "Cells found again", "F1 score", lambda c: c.cell_f1, no_cells)
    no_events = no_cells or ("" if decision.events else "No events were found")
    _draw_change(axes[3], decision, "Events found again", "F1 score", lambda c: c.event_f1, no_events)
    _draw_change(
        axes[4],
        decision,
        "Noise of ΔF/F traces",
        "change (%)",
        lambda c: 100 * c.trace_noise,
        no_cells,
        halves=False,
    )
    _draw_change(axes[5], decision, "Frame shifts", "rms change (pixels)", lambda c: c.registration, log=True)
    handles, labels = axes[5].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="medium")
    figure.suptitle(decision.title, x=0.012, ha="left")
    return figure


def _draw_sizes(ax: Axes, decision: Decision) -> None:
    stored = [change for change in decision.changes if change.kind == "stored"]
    dress(ax, "Size", "β (noise standard deviations)", "times smaller")
    for marker, name in zip(_MARKERS, stored[0].ratios, strict=False):
        points = [(change.beta, change.ratios[name]) for change in stored]
        ax.plot(
            *zip(*points, strict=True),
            marker=marker,
            ms=4,
            lw=1,
            color=BLUE if marker == "o" else INK,
            label=name,
        )
    _scale_beta(ax, [change.beta for change in stored])
    ax.set_ylim(0, None)
    add_legend(ax, ax.get_legend_handles_labels()[0])


def _draw_mean_shift(ax: Axes, decision: Decision) -> None:
    dress(ax, "Shift of the mean", "mean signal (signal units)", "shift (noise standard deviations)")
    stored = [change for change in decision.changes if change.kind == "stored"]
    for marker, shade, change in zip(_MARKERS, np.linspace(0.35, 1, len(stored)), stored, strict=False):
        signal = [group.signal for group in change.mean_shift]
        shift = [group.shift for group in change.mean_shift]
        error = [2 * group.standard_error for group in change.mean_shift]
        ax.errorbar(
            signal, shift, error, marker=marker, ms=3.5, lw=0.8, color=BLUE, alpha=shade, label=change.name
        )
    ax.axhline(0, color=GREY, lw=0.6)
    add_legend(ax, ax.get_legend_handles_labels()[0], ncols=4)


def _draw_change(
    ax: Axes,
    decision: Decision,
    title: str,
    ylabel: str,
    value: Any,
    instead: str = "",
    *,
    halves: bool = True,
    log: bool = False,
) -> None:
    if instead:
        say_instead(ax, title, instead)
        return
    dress(ax, title, "β (noise standard deviations)", ylabel)
    kinds = {"stored": ("stored", "o", BLUE, "-"), "noise": ("equal random noise", "s", VERMILION, "--")}
    betas: list[float] = []
    for kind, (label, marker, colour, line) in kinds.items():
        changes: list[Change] = [change for change in decision.changes if change.kind == kind]
        betas = [change.beta for change in changes]
        ax.plot(
            betas,
            [value(change) for change in changes],
            marker=marker,
            ms=4,
            lw=1,
            ls=line,
            color=colour,
            label=label,
        )
    if halves and math.isfinite(value(decision.halves)):
        ax.axhline(value(decision.halves), color=GREY, lw=1, ls=":", label="odd against even frames")
    _scale_beta(ax, betas)
    if log:
        ax.set_yscale("log")


def _scale_beta(ax: Axes, betas: list[float]) -> None:
    """Scale β in octaves, with a tick at every value that was tried."""
    ax.set_xscale("log", base=2)
    ax.set_xticks(betas, [f"{beta:g}" for beta in betas])
    ax.minorticks_off()
    ax.set_xlim(min(betas) / 1.3, max(betas) * 1.3)
