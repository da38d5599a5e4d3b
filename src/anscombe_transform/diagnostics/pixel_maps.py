"""Maps of the constants of every pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from anscombe_transform.diagnostics.frames import check_sensitivity
from anscombe_transform.diagnostics.page import (
    INK,
    TEXT,
    VERMILION,
    count_axes,
    dress,
    new_figure,
    say_instead,
    shape_of,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from anscombe_transform.calibration import Sensitivity

_MAPS = (
    ("offset", "Zero level", "signal units", "Give dark frames: dark="),
    ("read_variance", "Read noise", "standard deviation (signal units)", "Give two dark frames: dark="),
    ("gain", "Gain", "signal units / photon", "Takes a movie in which\nnothing moves"),
)
# More hot pixels than this would hide the map under their marks.
_MOST_MARKED = 400


def plot_pixel_maps(sensitivity: Sensitivity, *, figure: Figure | None = None) -> Figure:
    """Plot zero level, read noise and gain of every pixel, and mark hot ones.

    Parameters
    ----------
    sensitivity : Sensitivity
        Of ``compute_sensitivity(movie, dark=dark, per_pixel=True)``.
    figure : matplotlib.figure.Figure, optional
        Where to draw; by default a new one of 11 × 3.2 inches.

    Returns
    -------
    matplotlib.figure.Figure
        Three images, whose colours span all but the outermost hundredths of the pixels; up to 400 hot pixels
        are circled in the first that was measured.

    Raises
    ------
    ValueError
        The calibration has no maps.

    Examples
    --------
    >>> from anscombe_transform import compute_sensitivity, simulate_movie
    >>> movie, _ = simulate_movie((64, 64, 64), rng=0)
    >>> figure = plot_pixel_maps(compute_sensitivity(movie, per_pixel=True))
    >>> [ax.get_title(loc="left") for ax in figure.axes[:3]]
    ['Zero level', 'Read noise', 'Gain']
    """
    check_sensitivity(sensitivity)
    maps = sensitivity.maps
    if maps is None:
        raise ValueError(
            "this calibration has no maps of pixels: compute_sensitivity(..., per_pixel=True) makes them; "
            "to_dict does not store them"
        )
    figure = new_figure(figure, (11, 3.2))
    marked = False
    for ax, (name, title, label, advice) in zip(figure.subplots(1, 3), _MAPS, strict=True):
        image = getattr(maps, name)
        if image is None:
            say_instead(ax, title, advice)
            continue
        image = np.sqrt(np.maximum(image, 0)) if name == "read_variance" else image
        low, high = np.nanquantile(image, [0.01, 0.99])
        shown = ax.imshow(
            image, cmap="cividis", vmin=low, vmax=high if high > low else low + 1, **shape_of(image)
        )
        dress(ax, title, "x (pixels)", "y (pixels)")
        count_axes(ax.xaxis, ax.yaxis)
        if not marked and len(maps.hot_pixels):
            y, x = maps.hot_pixels[:_MOST_MARKED].T
            # On a white ring a mark is seen on dark and on bright pixels.
            ax.plot(x, y, "o", ms=6.5, mfc="none", mec="white", mew=2.4)
            ax.plot(x, y, "o", ms=6.5, mfc="none", mec=VERMILION, mew=1.1)
            ax.set_title(f"{len(maps.hot_pixels)} hot", loc="right", fontsize=TEXT, color=VERMILION)
        marked = True
        bar = figure.colorbar(shown, ax=ax, shrink=0.85, pad=0.03, extend="both")
        bar.set_label(label, fontsize=TEXT, color=INK)
        bar.ax.tick_params(labelsize=TEXT, colors=INK, width=0.6, length=3)
        bar.outline.set_linewidth(0.6)
    return figure
