"""Gain, zero level and read noise over the recordings of an archive: whether a detector is unchanged.

A photomultiplier ages, a supply voltage is changed, an offset drifts. Every stored array has the constants
of its recording with their intervals; in order of time they show it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anscombe_transform.calibration import Sensitivity
from anscombe_transform.compression import describe
from anscombe_transform.diagnostics.plots.style import BLUE, GREY, VERMILION, dress, new_figure, with_look
from anscombe_transform.movies.readers.zarr_stores import is_zarr
from anscombe_transform.native.documents import Printed, json_document

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Trend", "TrendPoint", "measure_trend", "plot_trend"]

FEWEST_BEFORE = 5
"""Recordings before one from which on they are a history: the spread of fewer says nothing."""

LIMIT = 4.0
"""Standard deviations from the history that are a warning.

The spread of five recordings is itself uncertain: by Student's distribution one of 60 is that far off by
chance, one of 1,300 with a history of 20, and in the end one of 16,000.
"""

_MAD = 1.4826  # of a normal distribution: standard deviation over median absolute deviation
_INTERVAL = 1.959964  # half width of a 95 % interval in standard deviations

QUANTITIES = {
    "conversion_gain": "signal units / photon",
    "zero_level": "signal units",
    "read_noise": "signal units",
}


@dataclass(frozen=True, slots=True)
class TrendPoint:
    """The constants of one recording.

    Attributes
    ----------
    path : str
        Of the array.
    date : str
        When it was acquired, or else stored; ISO 8601.
    verdict : str
        Of its calibration.
    values : dict of str to float
        ``conversion_gain``, ``zero_level`` and ``read_noise``.
    intervals : dict of str to (float, float)
        95 % intervals, NaN where there is none.
    warnings : dict of str to str
        For quantities that left their history: in words by how much.
    """

    path: str
    date: str
    verdict: str
    values: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    warnings: dict[str, str]


@dataclass(frozen=True, slots=True, repr=False)
class Trend(Printed):
    """Constants over the recordings of an archive, in order of time.

    Attributes
    ----------
    points : tuple of TrendPoint
    left_out : tuple of str
        Arrays without a calibration of their own, and why.

    Examples
    --------
    >>> Trend((), ("a.zarr: its constants were given",)).ok
    True
    """

    points: tuple[TrendPoint, ...]
    left_out: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether no recording left its history."""
        return not any(point.warnings for point in self.points)

    def __str__(self) -> str:
        lines = [f"{len(self.points)} recordings with a calibration, {len(self.left_out)} without"]
        for point in self.points:
            numbers = (f"{name.replace('_', ' ')} {point.values[name]:.4g}" for name in QUANTITIES)
            lines.append(f"  {point.date}  {', '.join(numbers)}  {Path(point.path).name}")
            lines += [f"    WARNING: {text}" for text in point.warnings.values()]
        lines += [f"  left out: {text}" for text in self.left_out]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The trend as JSON types."""
        points = [asdict(point) for point in self.points]
        return json_document({"ok": self.ok, "points": points, "left_out": list(self.left_out)})


def measure_trend(stored: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> Trend:
    """Collect the constants of stored recordings, and warn where one leaves the history of those before.

    Parameters
    ----------
    stored : path or sequence of paths
        A folder, with its subfolders, or arrays and images that `compress` or `write_ome_zarr` wrote with
        one detector and setting.

    Returns
    -------
    Trend
        A recording leaves its history when a constant is farther from the median of all before than four
        standard deviations; these are of the scatter of those before (from their median absolute deviation)
        and of the recording's own interval together. The first five have no history.

    Raises
    ------
    FileNotFoundError
        There is no such folder or array.
    ValueError
        There is no stored recording.

    Examples
    --------
    >>> import tempfile
    >>> from anscombe_transform import compress, simulate_movie
    >>> from anscombe_transform.diagnostics import measure_trend
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for night in range(2):
    ...         movie, _ = simulate_movie((40, 64, 64), conversion_gain=90, zero_level=50, rng=night)
    ...         _ = compress(movie, f"{folder}/night{night}.zarr")
    ...     trend = measure_trend(folder)
    >>> len(trend.points), trend.ok
    (2, True)
    """
    given = [stored] if isinstance(stored, str | os.PathLike) else list(stored)
    paths = [found for name in given for found in _arrays(Path(name))]
    if not paths:
        raise ValueError(f"there is no stored recording in {', '.join(map(str, given))}")
    found = [_point(path) for path in paths]
    points = [point for point in found if isinstance(point, TrendPoint)]
    left_out = [reason for reason in found if isinstance(reason, str)]
    return Trend(tuple(_compared(sorted(points, key=lambda point: _moment(point.date)))), tuple(left_out))


@with_look
def plot_trend(trend: Trend, *, figure: Figure | None = None) -> Figure:
    """Plot constants over time with their 95 % intervals, and mark those that left their history.

    Parameters
    ----------
    trend : Trend
        From `measure_trend`.
    figure : matplotlib.figure.Figure, optional
        Where to draw; by default a new one of 8 × 6.5 inches.

    Returns
    -------
    matplotlib.figure.Figure
        A panel for each of conversion gain, zero level and read noise; the grey line is the median.
    """
    figure = new_figure(figure, (8, 6.5))
    panels = figure.subplots(len(QUANTITIES), sharex=True)
    moments = [_moment(point.date) for point in trend.points]
    for ax, (name, unit) in zip(panels, QUANTITIES.items(), strict=True):
        values = np.array([point.values[name] for point in trend.points])
        ends = np.array([point.intervals[name] for point in trend.points]).reshape(-1, 2)
        reach = np.nan_to_num(np.abs(ends - values[:, None]).T)
        ax.errorbar(moments, values, reach, fmt="o", color=BLUE, elinewidth=0.8, label="95 % interval")
        marked = [i for i, point in enumerate(trend.points) if name in point.warnings]
        if marked:
            where = [moments[i] for i in marked]
            ax.plot(where, values[marked], "D", ms=9, mfc="none", mec=VERMILION, mew=1.5,
                    label="left its history")  # fmt: skip
        if len(values) >= FEWEST_BEFORE:
            ax.axhline(float(np.nanmedian(values)), color=GREY, lw=0.8, zorder=1, label="median")
        dress(ax, name.replace("_", " ").capitalize(), ylabel=unit)
    handles = {
        label: handle for ax in panels for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=3)
    panels[-1].tick_params("x", rotation=30)
    return figure


def _arrays(path: Path) -> list[Path]:
    if not path.exists():
        raise FileNotFoundError(f"no such folder or array: {path}")
    if is_zarr(path):
        return [path]
    if not path.is_dir():
        return []
    children = sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))
    return [found for child in children if ".partial" not in child.suffixes for found in _arrays(child)]


def _point(path: Path) -> TrendPoint | str:
    """The constants of an array, or why it has none."""
    try:
        noted = describe(path)
        notes = noted.provenance or {}
        if not noted.complete or not isinstance(notes.get("sensitivity"), dict):
            return f"{path}: it has no finished record"
        sensitivity = Sensitivity.from_dict(notes["sensitivity"])
    except (ValueError, TypeError, KeyError) as error:
        return f"{path}: {' '.join(str(error).split())}"
    if sensitivity.method == "known":
        return f"{path}: its constants were given, not measured"
    values = {name: float(getattr(sensitivity, name)) for name in QUANTITIES}
    intervals = {name: _interval(sensitivity, name) for name in QUANTITIES}
    acquired = ((notes.get("source") or {}).get("metadata") or {}).get("acquired")
    date = acquired if isinstance(acquired, str) and _is_date(acquired) else notes["date"]
    return TrendPoint(str(path), str(date), sensitivity.verdict, values, intervals, {})


def _interval(sensitivity: Sensitivity, name: str) -> tuple[float, float]:
    found = getattr(sensitivity, f"{name}_interval", None)
    return (math.nan, math.nan) if found is None else (float(found[0]), float(found[1]))


def _compared(points: list[TrendPoint]) -> list[TrendPoint]:
    """The points with warnings where they leave the history of those before."""
    compared = []
    for index, point in enumerate(points):
        warnings = {}
        for name in QUANTITIES:
            before = np.array([other.values[name] for other in points[:index]])
            before = before[np.isfinite(before)]
            value = point.values[name]
            if len(before) < FEWEST_BEFORE or not math.isfinite(value):
                continue
            middle = float(np.median(before))
            own = (point.intervals[name][1] - point.intervals[name][0]) / (2 * _INTERVAL)
            scatter = _MAD * float(np.median(np.abs(before - middle)))
            spread = math.hypot(scatter, 0.0 if math.isnan(own) else own)
            if abs(value - middle) > LIMIT * spread:
                how = f"{abs(value - middle) / spread:.0f}" if spread > 0 else "infinitely many"
                warnings[name] = (
                    f"{name.replace('_', ' ')} {value:.4g} is {how} standard deviations from {middle:.4g}, "
                    f"the median of the {len(before)} recordings before"
                )
        compared.append(replace(point, warnings=warnings))
    return compared


def _is_date(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _moment(date: str) -> datetime:
    """A moment that can be compared with others: a local time without its zone is taken for UTC."""
    return datetime.fromisoformat(date).replace(tzinfo=None)
