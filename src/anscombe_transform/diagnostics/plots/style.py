"""How the plots look: our defaults for matplotlib's rcParams, axes, legends, maps.

`LOOK` applies where the caller's rcParams are still matplotlib's own, so that `matplotlib.rc_context`, a
style sheet or a ``matplotlibrc`` wins. Axes that the caller made keep the caller's rcParams altogether.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import matplotlib
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import ScaledTranslation

from anscombe_transform.native.arrays import Floats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.legend import Legend


_P = ParamSpec("_P")
_R = TypeVar("_R")

# From the palette of Okabe and Ito, which people with every kind of colour vision can distinguish; luminances
# and marker shapes differ too, for print without colour.
BLUE = "#0072B2"
SKY = "#A6D3EE"
VERMILION = "#C84E00"
OCHRE = "#A36A00"
INK = "#262626"
GREY = "#6E6E6E"
VERDICT = {"trustworthy": BLUE, "given": OCHRE, "caution": OCHRE, "refused": VERMILION}

# Point sizes for a page that is printed at full width.
LOOK: dict[str, Any] = {
    "figure.figsize": (4.6, 4.2),
    "figure.dpi": 150,
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "figure.titlesize": 9,
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "legend.labelspacing": 0.35,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "image.interpolation": "nearest",
    "lines.linewidth": 1.0,
    "lines.markersize": 4,
    **{f"{axis}tick.major.{name}": value for axis in "xy" for name, value in (("width", 0.6), ("size", 3))},
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
}


def with_look(plot: Callable[_P, _R]) -> Callable[_P, _R]:
    """Make a plotting function draw with `LOOK`, unless it is given Axes."""

    @functools.wraps(plot)
    def draw(*args: _P.args, **options: _P.kwargs) -> _R:
        current: Any = matplotlib.rcParams
        default: Any = matplotlib.rcParamsDefault
        ours: Any = {key: value for key, value in LOOK.items() if current[key] == default[key]}
        with matplotlib.rc_context({} if options.get("ax") is not None else ours):
            return plot(*args, **options)

    return draw


def new_figure(figure: Figure | None, size: tuple[float, float] | None = None) -> Figure:
    """The given Figure, laid out if nothing is on it yet, or a new one."""
    if figure is None:
        return Figure(figsize=size, layout="constrained")
    if isinstance(figure, Figure) and figure.get_layout_engine() is None and not figure.axes:
        figure.set_layout_engine("constrained")
    return figure


def new_axes(ax: Axes | None) -> Axes:
    """The given Axes, or those of a new Figure."""
    return new_figure(None).add_subplot() if ax is None else ax


def dress(ax: Axes, title: str, xlabel: str = "", ylabel: str = "") -> None:
    """Give an Axes its title and labels, and fix the size of tick labels, which matplotlib makes later."""
    ax.set_title(title, loc="left")
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    for axis in "xy":
        ax.tick_params(axis=axis, labelsize=_points(f"{axis}tick.labelsize"))  # type: ignore[arg-type]


def number_panels(axes: Iterable[Axes]) -> None:
    """Put letters before the titles of a page's panels."""
    for letter, ax in zip("abcdefghij", axes, strict=False):
        ax.set_title(f"{letter}  {ax.get_title(loc='left')}", loc="left")


def add_legend(ax: Axes, handles: Sequence[Any], title: str | None = None, *, ncols: int = 2) -> Legend:
    """Add a legend under an Axes and its labels, where it covers no data, in as many columns as fit."""
    figure: Any = ax.figure
    drop = 1.3 * (_points("xtick.labelsize") + _points("axes.labelsize")) + 14
    below = ScaledTranslation(-28 / 72, -drop / 72, figure.dpi_scale_trans)
    legend = ax.legend(
        handles=handles,
        title=title,
        ncols=ncols,
        loc="upper left",
        bbox_to_anchor=(0, 0),
        bbox_transform=ax.transAxes + below,
        borderaxespad=0,
        borderpad=0,
        columnspacing=1.0,
        alignment="left",
    )
    cell = ax.get_subplotspec()
    room = figure.bbox.width * (len(cell.colspan) / cell.get_gridspec().ncols if cell else 1)
    if ncols > 1 and legend.get_window_extent().width > room - 0.2 * figure.dpi:
        return add_legend(ax, handles, title, ncols=1)
    return legend


def text_entry(text: str) -> Line2D:
    """A line of text in a legend."""
    return Line2D([], [], lw=0, label=text)


def scale_variance(ax: Axes, quantity: str) -> None:
    """Label the y axis in signal units², in thousands or millions where the numbers are long."""
    largest = max(abs(v) for v in ax.get_ylim())
    power = 3 * max(0, math.floor(math.log10(largest / 10) / 3)) if largest > 0 else 0
    factor = {0: "", 3: "10³ ", 6: "10⁶ ", 9: "10⁹ "}.get(power, f"10^{power} ")
    ax.set_ylabel(f"{quantity} ({factor}signal units²)")
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v / 10**power:g}"))


def say_instead(ax: Axes, title: str, text: str) -> None:
    """Say in words why a plot has nothing to show."""
    dress(ax, title)
    ax.set_axis_off()
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color=GREY)


def draw_map(
    ax: Axes,
    image: Floats,
    label: str,
    limits: tuple[float, float],
    *,
    cmap: str = "cividis",
    extend: str = "neither",
) -> Colorbar:
    """Draw an image between two limits, grey where it has no number, with a colour bar as high as it is."""
    height, width = image.shape
    # Pixels are squares, except in strips that would be hard to see.
    aspect = "auto" if max(height, width) > 6 * min(height, width) else "equal"
    colours = matplotlib.colormaps[cmap].with_extremes(bad="0.6")
    shown = ax.imshow(image, cmap=colours, vmin=limits[0], vmax=limits[1], aspect=aspect)  # type: ignore[arg-type]
    count_axes(ax.xaxis, ax.yaxis)
    bar = ax.figure.colorbar(shown, cax=ax.inset_axes((1.04, 0, 0.05, 1)), extend=extend, label=label)
    bar.ax.tick_params(labelsize=_points("ytick.labelsize"))
    return bar


def count_axes(*axes: Any) -> None:
    """Ticks at whole numbers only."""
    for axis in axes:
        axis.set_major_locator(MaxNLocator(nbins="auto", integer=True, steps=[1, 2, 5, 10]))


def _points(parameter: str) -> float:
    """A font size of rcParams, in points."""
    parameters: Any = matplotlib.rcParams
    return float(FontProperties(size=parameters[parameter]).get_size_in_points())
