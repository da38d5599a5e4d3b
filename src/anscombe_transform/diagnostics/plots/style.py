"""How the plots look: colours, axes, legends, and room for them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import Bbox

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.legend import Legend

    FloatArray = npt.NDArray[np.float64]


# Of the palette of Okabe and Ito, which is told apart with every kind of colour vision; their luminances and
# the marker shapes differ too, for print without colour.
BLUE = "#0072B2"
SKY = "#A6D3EE"
VERMILION = "#C84E00"
INK = "#262626"
GREY = "#6E6E6E"
VERDICT = {"trustworthy": BLUE, "given": "#A36A00", "caution": "#A36A00", "refused": VERMILION}
# Points: the text of a page that is printed at full width.
TEXT = 8.0
TITLE = 9.0
_DPI = 150


def new_figure(figure: Figure | None, size: tuple[float, float]) -> Figure:
    """The given Figure, laid out if nothing is on it yet, or a new one."""
    if figure is None:
        return Figure(figsize=size, dpi=_DPI, layout="constrained")
    if isinstance(figure, Figure) and figure.get_layout_engine() is None and not figure.axes:
        figure.set_layout_engine("constrained")
    return figure


def new_axes(ax: Axes | None) -> Axes:
    """The given Axes, or those of a new Figure."""
    return new_figure(None, (4.6, 3.4)).add_subplot() if ax is None else ax


def dress(ax: Axes, title: str, xlabel: str = "", ylabel: str = "", *, right: bool = False) -> None:
    """Give an Axes its title, labels and the look of all of them."""
    ax.set_title(title, loc="left", fontsize=TITLE, color=INK, weight="bold")
    ax.set_xlabel(xlabel, fontsize=TEXT, color=INK)
    ax.set_ylabel(ylabel, fontsize=TEXT, color=INK)
    ax.tick_params(labelsize=TEXT, colors=INK, width=0.6, length=3)
    for side, spine in ax.spines.items():
        spine.set_linewidth(0.6)
        spine.set_color(INK)
        if side == "top" or (side == "right" and not right):
            spine.set_visible(False)
    ax.set_axisbelow(True)


def add_legend(ax: Axes, handles: Sequence[Any], **options: Any) -> Legend:
    """Add a legend in the look of all of them."""
    legend = ax.legend(
        handles=handles,
        fontsize=TEXT - 1,
        title_fontsize=TEXT - 1,
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
        text.set_color(INK)
    # A legend lies on its axes: the layout must not shrink them to make room beside it.
    legend.set_in_layout(False)
    return legend


def text_entry(text: str) -> Line2D:
    """A line of text in a legend."""
    return Line2D([], [], lw=0, label=text)


def scale_variance(ax: Axes, quantity: str) -> None:
    """Label the y axis in signal units², in thousands or millions where the numbers are long."""
    largest = max(abs(v) for v in ax.get_ylim())
    power = 3 * max(0, math.floor(math.log10(largest / 10) / 3)) if largest > 0 else 0
    factor = {0: "", 3: "10³ ", 6: "10⁶ ", 9: "10⁹ "}.get(power, f"10^{power} ")
    ax.set_ylabel(f"{quantity} ({factor}signal units²)", fontsize=TEXT)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v / 10**power:g}"))


def say_instead(ax: Axes, title: str, text: str) -> None:
    """Say in words why a plot has nothing to show."""
    dress(ax, title)
    ax.set_axis_off()
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", fontsize=TEXT, color=GREY)


def shape_of(image: FloatArray) -> dict[str, Any]:
    """How an image is laid out: pixels are squares, except in strips that would be hard to see."""
    height, width = image.shape
    return {
        "interpolation": "nearest",
        "aspect": "auto" if max(height, width) > 6 * min(height, width) else "equal",
    }


def draw_map(
    ax: Axes, image: FloatArray, label: str, low: float, high: float, *, extend: str = "neither"
) -> None:
    """Draw an image and the bar of its colours, from `low` to `high`."""
    options: dict[str, Any] = shape_of(image)
    shown = ax.imshow(image, cmap="cividis", vmin=low, vmax=high, **options)
    count_axes(ax.xaxis, ax.yaxis)
    bar = ax.figure.colorbar(shown, ax=ax, shrink=0.85, pad=0.03, extend=extend)
    bar.set_label(label, fontsize=TEXT, color=INK)
    bar.ax.tick_params(labelsize=TEXT, colors=INK, width=0.6, length=3)
    bar.outline.set_linewidth(0.6)


def count_axes(*axes: Any) -> None:
    """Ticks at whole numbers only."""
    for axis in axes:
        axis.set_major_locator(MaxNLocator(nbins="auto", integer=True, steps=[1, 2, 5, 10]))


def settle(figure: Any, groups: Sequence[tuple[Axes, ...]]) -> None:
    """Raise upper limits until each legend lies above what is drawn; the last of a group holds the legend."""
    root: Figure = figure.get_figure(root=True)
    # Only a finished layout says how much of its axes a legend takes.
    engine = root.get_layout_engine()
    if engine is not None:
        engine.execute(root)
    for group in groups:
        if group[-1].get_legend() is None:
            continue
        box = _legend_box(group[-1], root)
        floor = max(box.y0 - 0.04, 0.25)
        for ax in group:
            low, high = ax.get_ylim()
            tallest = high if ax.patches else low
            for x, y in _drawn(ax):
                place = (ax.transData - ax.transAxes).transform(np.column_stack([x, y]))[:, 0]
                under = (place > box.x0 - 0.03) & (place < box.x1 + 0.03) & (y <= high)
                tallest = max(tallest, float(y[under].max(initial=low)))
            ax.set_ylim(low, max(high, low + (tallest - low) / floor))


def _legend_box(ax: Axes, root: Figure) -> Bbox:
    """Where the legend lies in its axes, at most: lines of text take whole pixels, be they large or small."""
    legend: Any = ax.get_legend()
    saved_at = root.dpi
    # A window would change its size with the resolution.
    resolutions = (
        (saved_at, 72, 80, 110, 120) if getattr(root.canvas, "manager", None) is None else (saved_at,)
    )
    boxes = []
    try:
        for resolution in resolutions:
            root.dpi = resolution
            boxes.append(ax.transAxes.inverted().transform_bbox(legend.get_window_extent()))
    finally:
        root.dpi = saved_at
    return Bbox.union(boxes)


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
