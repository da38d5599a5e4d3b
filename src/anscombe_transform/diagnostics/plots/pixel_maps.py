"""Maps of the constants of every pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from anscombe_transform.codec.transform.curve import check_sensitivity
from anscombe_transform.diagnostics.plots.style import (
    VERMILION,
    draw_map,
    dress,
    new_figure,
    say_instead,
    with_look,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from anscombe_transform.calibration import Sensitivity
    from anscombe_transform.calibration.result.pixel_maps import PixelMaps

_MAPS = (
    ("offset", "Zero level", "signal units", "Give dark frames: dark="),
    ("read_variance", "Read noise", "standard deviation (signal units)", "Give two dark frames: dark="),
    ("gain", "Gain", "signal units / photon", "Needs a movie without motion"),
)
# More hot pixels than this would hide the map under their marks.
_MOST_MARKED = 400


@with_look
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
        Three images, with colours that span all but the outermost hundredths of the pixels, or 5 % to either
        side where pixels are alike; up to 400 hot pixels are circled in the first that was measured.

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
    check_sensitivity(sensitivity, "plot_pixel_maps(sensitivity)")
    maps = sensitivity.maps
    if maps is None:
        raise ValueError(
            "this calibration has no maps of pixels: compute_sensitivity(..., per_pixel=True) makes them; "
            "to_dict does not store them"
        )
    figure = new_figure(figure, (11, 3.2))
    draw_pixel_maps(list(figure.subplots(1, 3)), maps)
    return figure


def draw_pixel_maps(axes: Sequence[Axes], maps: PixelMaps) -> None:
    """Draw the three maps, or the requirement of a missing one, and circle hot pixels in the first."""
    marked = False
    for ax, (name, title, label, advice) in zip(axes, _MAPS, strict=True):
        image = getattr(maps, name)
        if image is None:
            say_instead(ax, title, advice)
            continue
        image = np.sqrt(np.maximum(image, 0)) if name == "read_variance" else image
        low, high = np.nanquantile(image, [0.01, 0.99])
        # One value has the middle colour.
        room = 0.0 if high > low else max(abs(low) / 20, 1e-6)
        draw_map(ax, image, label, (low - room, high + room), extend="both")
        dress(ax, title, "x (pixels)", "y (pixels)")
        if not marked and len(maps.hot_pixels):
            y, x = maps.hot_pixels[:_MOST_MARKED].T
            # On a white ring a mark is seen on dark and on bright pixels.
            ax.plot(x, y, "o", ms=6.5, mfc="none", mec="white", mew=2.4)
            ax.plot(x, y, "o", ms=6.5, mfc="none", mec=VERMILION, mew=1.1)
            ax.set_title(
                f"{len(maps.hot_pixels)} hot",
                loc="right",
                fontsize="medium",
                weight="normal",
                color=VERMILION,
            )
        marked = True
