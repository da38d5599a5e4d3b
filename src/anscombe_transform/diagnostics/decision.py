"""The change that storing makes in the results drawn from a movie, compared with chance: `decide`.

For each quantisation step β the movie is encoded and decoded, and the same small analysis runs on it as on
the original: cells, their traces, events, registration, calibration. Two yardsticks are measured on the same
movie:

- **equal random noise**: the original plus normal noise of standard deviation βσ/√12, as much as quantisation
  adds. A difference between this row and the stored one would be an effect of the codec beyond its noise.
- **odd against even frames**: the disagreement of two halves of the same recording, without any compression.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from anscombe_transform.calibration import compute_sensitivity
from anscombe_transform.codec.pipeline import PRESETS, array_in_memory
from anscombe_transform.diagnostics.measurements.cells import (
    Detector,
    cell_traces,
    detect_cells,
    find_events,
    frame_shifts,
    match_cells,
    match_events,
    trace_noise,
)
from anscombe_transform.movies import open_movie
from anscombe_transform.native.arrays import AnyArray, Bools
from anscombe_transform.native.documents import html_table, json_value, value_text
from anscombe_transform.native.work import Progress

if TYPE_CHECKING:
    import numpy.typing as npt

    from anscombe_transform.calibration import Sensitivity
    from anscombe_transform.movies import Movie, SupportsMovie


__all__ = ["Change", "Decision", "MeanShift", "decide"]


VERSION = 1
"""Of the JSON document that `Decision.to_dict` gives."""

# Most bytes of movie that are analysed: a run of frames from the middle.
_MOST_BYTES = 64 * 2**20
# Groups of equal numbers of pixels by brightness in which the shift of the mean is measured.
_BRIGHTNESS_GROUPS = 8
_CHUNK_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class MeanShift:
    """Shift of the mean in one group of pixels of like brightness.

    Attributes
    ----------
    signal : float
        Mean signal of the group, signal units.
    shift, standard_error : float
        Mean change of its values and its standard error, in standard deviations of the noise there.
    """

    signal: float
    shift: float
    standard_error: float


@dataclass(frozen=True, slots=True)
class Change:
    """How the results of one version of the movie differ from those of the original.

    Attributes
    ----------
    name : str
        Name of the version, for people.
    kind : {"stored", "noise", "halves"}
        Encoded and decoded, equal random noise added, or odd against even frames.
    beta : float
        Quantisation step in standard deviations of the noise; NaN for "halves".
    ratios : dict of str to float
        How many times smaller the movie is stored, by preset; empty for yardsticks.
    added_variance, added_variance_error : float
        Variance of the change over the variance of the noise, and its standard error; β²/12 in theory.
    mean_shift : tuple of MeanShift
        From dark to bright pixels.
    mean_image : float
        Root-mean-square change of the mean image, in standard errors of its pixels.
    cells : int
        Number of cells found.
    cell_f1, cell_overlap : float
        F1 score of the cells against those of the original, and median intersection over union.
    trace_correlation, worst_trace_correlation : float
        Median and least correlation of ΔF/F traces of the same cells with those of the original.
    trace_noise : float
        Median relative change of the noise of the traces.
    event_f1 : float
        F1 score of events, within one frame.
    registration : float
        Root-mean-square change of the frame shifts, in pixels.
    gain : float
        Conversion gain measured on this version over that measured on the original; NaN if neither shows its
        noise. 1 + β²/12 in theory.
    """

    name: str
    kind: Literal["stored", "noise", "halves"]
    beta: float
    ratios: dict[str, float]
    added_variance: float
    added_variance_error: float
    mean_shift: tuple[MeanShift, ...]
    mean_image: float
    cells: int
    cell_f1: float
    cell_overlap: float
    trace_correlation: float
    worst_trace_correlation: float
    trace_noise: float
    event_f1: float
    registration: float
    gain: float

    @property
    def largest_shift(self) -> MeanShift | None:
        """The group of pixels with the largest shift of the mean; None for halves."""
        return max(self.mean_shift, key=lambda group: abs(group.shift), default=None)


@dataclass(frozen=True, slots=True)
class Decision:
    """Costs and changes of each setting; print it, plot it with `plot_decision`, or keep its JSON.

    Attributes
    ----------
    source : str
        Where the movie is, or the type of the array.
    shape : tuple of int
        ``(time, y, x)`` of the frames that were analysed.
    dtype : str
        Type of the values.
    first_frame : int
        Number of the first of these frames in the movie.
    sensitivity : Sensitivity
        The calibration behind all settings.
    cells, events : int
        Cells and events of the original.
    changes : tuple of Change
        A row for each stored version, each yardstick of noise, and the halves.

    Examples
    --------
    >>> from anscombe_transform import decide, simulate_movie
    >>> movie, _ = simulate_movie((40, 64, 64), read_noise=40, rng=0)
    >>> decision = decide(movie, betas=(0.5,), presets=("fast",))
    >>> [change.kind for change in decision.changes]
    ['stored', 'noise', 'halves']
    >>> bool(abs(decision.stored(0.5).added_variance - 0.5**2 / 12) < 0.003)
    True
    """

    source: str
    shape: tuple[int, int, int]
    dtype: str
    first_frame: int
    sensitivity: Sensitivity = field(repr=False)
    cells: int
    events: int
    changes: tuple[Change, ...] = field(repr=False)

    def stored(self, beta: float) -> Change:
        """Return the row of the version that was stored with this β.

        Raises
        ------
        KeyError
            There is none.
        """
        return self._row("stored", beta)

    def noise(self, beta: float) -> Change:
        """Return the yardstick for this β: the original with as much random noise added.

        Raises
        ------
        KeyError
            There is none.
        """
        return self._row("noise", beta)

    @property
    def halves(self) -> Change:
        """The yardstick of odd against even frames."""
        return next(change for change in self.changes if change.kind == "halves")

    def _row(self, kind: str, beta: float) -> Change:
        for change in self.changes:
            if change.kind == kind and change.beta == beta:
                return change
        raise KeyError(
            f"no row for beta={beta!r}; there are {[c.beta for c in self.changes if c.kind == kind]}"
        )

    def summary(self, beta: float) -> str:
        """Summarise the effect of storing with this β in a few sentences, compared with chance."""
        stored, noise, halves = self.stored(beta), self.noise(beta), self.halves
        sizes = " and ".join(f"{ratio:.2f} times ({name})" for name, ratio in stored.ratios.items())
        lines = [
            f"At β = {beta:g} the movie is stored {sizes} smaller; quantisation adds "
            f"{100 * stored.added_variance:.1f} % to the noise variance."
        ]
        shift = stored.largest_shift
        if shift is not None:
            lines.append(
                f"The mean of pixels of like brightness moves by at most {abs(shift.shift):.4f} standard "
                f"deviations of the noise (standard error {shift.standard_error:.4f})."
            )
        if self.cells:
            lines.append(
                f"Cells found in the stored movie agree with the {self.cells} of the original by "
                f"F1 = {stored.cell_f1:.3f}; random noise of the same strength gives {noise.cell_f1:.3f}, "
                f"odd against even frames {halves.cell_f1:.3f}. The noise of ΔF/F traces changes by "
                f"{100 * stored.trace_noise:+.1f} % (random noise {100 * noise.trace_noise:+.1f} %)."
            )
        else:
            lines.append("No active cells were found, so that cells, traces and events say nothing here.")
        return " ".join(lines)

    def _rows(self) -> list[tuple[str, ...]]:
        """The table of all changes, its head first."""
        head = ("", "size", "variance", "mean shift", "cells F1", "events F1", "trace noise", "shifts px")
        rows: list[tuple[str, ...]] = [head]
        for change in self.changes:
            ratio = max(change.ratios.values(), default=math.nan)
            shift = change.largest_shift
            rows.append(
                (
                    "  equal noise" if change.kind == "noise" else change.name,
                    _in_figures(ratio, "{:.2f}×"),
                    _in_figures(100 * change.added_variance, "{:+.2f} %"),
                    "–" if shift is None else f"{shift.shift:+.4f} σ",
                    _in_figures(change.cell_f1, "{:.3f}"),
                    _in_figures(change.event_f1, "{:.3f}"),
                    _in_figures(100 * change.trace_noise, "{:+.1f} %"),
                    _in_figures(change.registration, "{:.4f}"),
                )
            )
        return rows

    @property
    def title(self) -> str:
        """The recording, its shape, and how many cells and events were found in it."""
        size = " × ".join(map(str, self.shape))
        return f"{self.source}: {size} {self.dtype}, {self.cells} cells, {self.events} events in the original"

    def __repr__(self) -> str:
        return f"<Decision: {self.title}>"

    def _repr_html_(self) -> str:
        """Return the table of all changes, for notebooks."""
        head, *rows = self._rows()
        return html_table(self.title, rows, head)

    def __str__(self) -> str:
        rows = self._rows()
        head = rows[0]
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        lines = [self.title]
        for row in rows:
            first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            lines.append("  ".join([row[0].ljust(len(first)), *others]).rstrip())
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values; NaN becomes None."""
        values = {
            "version": VERSION,
            "source": self.source,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "first_frame": self.first_frame,
            "sensitivity": self.sensitivity.to_dict(),
            "cells": self.cells,
            "events": self.events,
            "changes": [asdict(change) for change in self.changes],
        }
        document: dict[str, Any] = json_value(values)
        return document

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write `to_dict` as JSON."""
        target = Path(path)
        target.write_text(json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        return target


def decide(
    source: str | os.PathLike[str] | SupportsMovie | Movie,
    *,
    betas: Sequence[float] = (0.25, 0.5, 1.0, 2.0),
    presets: Sequence[str] = ("fast", "compact"),
    sensitivity: Sensitivity | None = None,
    detector: Detector | None = None,
    max_frames: int | None = None,
    seed: int = 0,
    partial: bool = False,
    progress: Progress | None = None,
) -> Decision:
    """Measure size and changes of results for each setting of the codec, compared with chance.

    Parameters
    ----------
    source : path or array, shape (time, y, x)
        The movie, as `open_movie` takes it.
    betas : sequence of float
        Quantisation steps to try, in standard deviations of the noise, each in (0, 4].
    presets : sequence of str
        Presets for the comparison of sizes; the stored values are the same for all.
    sensitivity : Sensitivity, optional
        Constants of the detector; by default they are measured on the frames that are analysed.
    detector : callable, optional
        Finds cells: called with a float32 movie, it returns a mask of bool (y, x) for each. By default a
        small method of our own, `anscombe_transform.diagnostics.measurements.cells.detect_cells`; wrap
        suite2p or CaImAn in a function to use them.
    max_frames : int, optional
        Most frames to analyse, consecutive ones from the middle of the movie; by default as many as 64 MB
        hold.
    seed : int
        Seed of the random noise that is added for comparison.
    partial, progress : optional
        As for `compress`.

    Returns
    -------
    Decision

    Raises
    ------
    UntrustworthyCalibration
        The movie cannot be calibrated and no `sensitivity` was given.
    ValueError
        A parameter breaks its rule, or the movie has fewer than 8 frames.

    See Also
    --------
    anscombe_transform.diagnostics.plot_decision : The figure.

    Examples
    --------
    >>> from anscombe_transform import decide, simulate_movie
    >>> movie, _ = simulate_movie((40, 64, 64), conversion_gain=90, zero_level=50, rng=0)
    >>> decision = decide(movie, betas=(0.5, 1), presets=("fast",))
    >>> decision.stored(1).ratios["fast"] > decision.stored(0.5).ratios["fast"] > 4
    True
    """
    for name, given, kind in (("betas", betas, int | float), ("presets", presets, str)):
        if isinstance(given, kind):
            raise TypeError(f"{name} must be a sequence, got {value_text(given)}: {name}=({given!r},)")
    if not betas or not presets:
        raise ValueError("betas and presets must each have at least one entry")
    unknown = [name for name in presets if name not in PRESETS]
    if unknown:
        raise ValueError(f"presets must be among {', '.join(PRESETS)}, got {', '.join(unknown)}")
    with open_movie(source, partial=partial) as movie:
        first, count = _middle(movie, max_frames)
        frames = movie.frames(first, first + count)
        name = "movie" if type(source) is np.ndarray else movie.source
    steps = 2 + 2 * len(betas)
    report = progress or (lambda done, total, stage: None)
    report(0, steps, "calibrate")
    sensitivity = sensitivity or compute_sensitivity(frames)
    report(1, steps, "original")
    analysis = _Analysis(frames, sensitivity, detector or detect_cells)
    rng = np.random.default_rng(seed)
    changes = []
    for number, beta in enumerate(betas):
        report(2 * number + 2, steps, f"β = {beta:g}")
        decoded = sensitivity.codec(sample=frames, beta=beta).plan
        ratios = {preset: _ratio(frames, sensitivity, beta, preset) for preset in presets}
        values = decoded.decode(decoded.encode(frames))
        changes.append(analysis.compare(values, f"β = {beta:g}", "stored", float(beta), ratios))
        report(2 * number + 3, steps, f"equal noise, β = {beta:g}")
        scale = (analysis.noise * (beta / math.sqrt(12))).astype(np.float32)
        noisy = frames + rng.standard_normal(frames.shape, np.float32) * scale
        changes.append(analysis.compare(noisy, f"equal noise, β = {beta:g}", "noise", float(beta), {}))
    report(steps - 1, steps, "odd and even frames")
    changes.append(analysis.halves())
    report(steps, steps, "done")
    return Decision(
        source=name,
        shape=(count, *frames.shape[1:]),
        dtype=frames.dtype.name,
        first_frame=first,
        sensitivity=sensitivity,
        cells=len(analysis.cells),
        events=int(analysis.events.sum()),
        changes=tuple(changes),
    )


def _middle(movie: Movie, max_frames: int | None) -> tuple[int, int]:
    """First frame and number of frames of the run that is analysed."""
    total = movie.shape[0]
    if max_frames is not None and (isinstance(max_frames, bool) or max_frames < 8):
        raise ValueError(f"max_frames must be a whole number >= 8, got {max_frames!r}")
    most = max_frames or max(8, _MOST_BYTES // max(1, movie.nbytes // total))
    if total < 8:
        raise ValueError(f"the movie must have at least 8 frames to compare results on, got {total}")
    count = min(total, most)
    return (total - count) // 2, count


class _Analysis:
    """The results of the original, and comparisons with them."""

    def __init__(self, frames: AnyArray, sensitivity: Sensitivity, detector: Detector) -> None:
        self.frames, self.sensitivity, self.detector = frames, sensitivity, detector
        self.mean = frames.mean(axis=0, dtype=np.float64)
        # Noise of a pixel at its mean over time; per value it would follow the noise itself.
        self.noise = np.maximum(sensitivity.noise_std(self.mean).astype(np.float64), 1e-12)
        self.cells = self._detect(frames)
        self.traces = self._traces(frames)
        self.events = find_events(self.traces)
        self.shifts = frame_shifts(frames, self.mean)
        # Measured here also where constants were given: versions are compared by one method.
        self.gain = compute_sensitivity(frames, on_refusal="return").conversion_gain
        edges = np.quantile(self.mean, np.linspace(0, 1, _BRIGHTNESS_GROUPS + 1)[1:-1])
        self.group = np.digitize(self.mean, np.unique(edges))

    def _detect(self, frames: AnyArray) -> Sequence[Bools]:
        return self.detector(np.ascontiguousarray(frames, np.float32))

    def _traces(self, frames: AnyArray) -> npt.NDArray[np.float64]:
        if not len(self.cells):
            return np.zeros((0, len(frames)))
        return cell_traces(frames, self.cells, self.sensitivity.zero_level)

    def compare(
        self,
        frames: AnyArray,
        name: str,
        kind: Literal["stored", "noise"],
        beta: float,
        ratios: dict[str, float],
    ) -> Change:
        """Run the analysis on another version of the movie."""
        change = frames.astype(np.float64) - self.frames
        relative = (change / self.noise) ** 2
        cells = self._detect(frames)
        agreement = match_cells(self.cells, cells)
        traces = self._traces(frames)
        mean_change = change.mean(axis=0) / (self.noise / math.sqrt(len(frames)))
        return Change(
            name=name,
            kind=kind,
            beta=beta,
            ratios=ratios,
            added_variance=float(relative.mean()),
            added_variance_error=float(relative.std() / math.sqrt(relative.size)),
            mean_shift=self._mean_shift(change),
            mean_image=float(np.sqrt((mean_change**2).mean())),
            cells=len(cells),
            cell_f1=agreement.f1,
            cell_overlap=agreement.overlap,
            **_compare_traces(self.traces, traces),
            event_f1=match_events(self.events, find_events(traces)) if len(traces) else math.nan,
            registration=_rms(frame_shifts(frames, self.mean) - self.shifts),
            gain=compute_sensitivity(frames, on_refusal="return").conversion_gain / self.gain,
        )

    def _mean_shift(self, change: AnyArray) -> tuple[MeanShift, ...]:
        relative = change / self.noise
        groups = []
        for number in range(int(self.group.max()) + 1):
            here = self.group == number
            values = relative[:, here]
            groups.append(
                MeanShift(
                    signal=float(self.mean[here].mean()),
                    shift=float(values.mean()),
                    standard_error=float(values.std() / math.sqrt(values.size)),
                )
            )
        return tuple(groups)

    def halves(self) -> Change:
        """Compare the odd frames with the even ones."""
        pairs = len(self.frames) // 2
        even, odd = self.frames[0 : 2 * pairs : 2], self.frames[1 : 2 * pairs : 2]
        cells = [self._detect(half) for half in (even, odd)]
        agreement = match_cells(*cells)
        traces = [self._traces(half) for half in (even, odd)]
        gains = [compute_sensitivity(half, on_refusal="return").conversion_gain for half in (odd, even)]
        difference = odd.mean(axis=0, dtype=np.float64) - even.mean(axis=0, dtype=np.float64)
        return Change(
            name="odd / even frames",
            kind="halves",
            beta=math.nan,
            ratios={},
            added_variance=math.nan,
            added_variance_error=math.nan,
            mean_shift=(),
            mean_image=_rms(difference / (self.noise * math.sqrt(2 / pairs))),
            cells=len(cells[1]),
            cell_f1=agreement.f1,
            cell_overlap=agreement.overlap,
            **_compare_traces(*traces),
            event_f1=match_events(*map(find_events, traces)) if len(traces[0]) else math.nan,
            registration=_rms(self.shifts[1 : 2 * pairs : 2] - self.shifts[0 : 2 * pairs : 2]),
            gain=gains[0] / gains[1],
        )


def _compare_traces(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> dict[str, float]:
    """Correlation of traces of the same cells, and the relative change of their noise."""
    if not len(first):
        return dict.fromkeys(("trace_correlation", "worst_trace_correlation", "trace_noise"), math.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        correlations = np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(first, second, strict=True)])
        noise = trace_noise(second) / trace_noise(first) - 1
    return {
        "trace_correlation": float(np.nanmedian(correlations)),
        "worst_trace_correlation": float(np.nanmin(correlations)),
        "trace_noise": float(np.nanmedian(noise)),
    }


def _ratio(frames: AnyArray, sensitivity: Sensitivity, beta: float, preset: Any) -> float:
    """How many times smaller the frames are stored, in memory."""
    chunk = (min(len(frames), max(1, _CHUNK_BYTES // frames[0].nbytes)), *frames.shape[1:])
    array = array_in_memory(frames, sensitivity, preset=preset, beta=beta, chunks=chunk)
    return float(frames.nbytes / array.nbytes_stored())


def _rms(values: AnyArray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _in_figures(value: float, form: str) -> str:
    return form.format(value) if math.isfinite(value) else "–"
