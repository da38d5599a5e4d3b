"""The whole job on a simulated movie, with each figure that is found beside the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anscombe_transform.calibration import compute_sensitivity
from anscombe_transform.compression import compress
from anscombe_transform.diagnostics.pages.report import write_report
from anscombe_transform.native.work import Progress
from anscombe_transform.simulation import simulate_movie

if TYPE_CHECKING:
    from anscombe_transform.calibration import Sensitivity
    from anscombe_transform.compression import CompressionResult

SHAPE = (200, 256, 256)
CONVERSION_GAIN = 90.0
ZERO_LEVEL = 50.0
READ_NOISE = 18.0
MEAN_PHOTONS = 4.0
ACTIVITY = 0.1


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure beside its truth.

    Attributes
    ----------
    name, unit : str
    truth, found : float
    interval : (float, float) or None
        95 % interval of the estimate.
    """

    name: str
    unit: str
    truth: float
    found: float
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Demo:
    """Result of the demonstration.

    Attributes
    ----------
    folder : Path
    comparisons : tuple of Comparison
    sensitivity : Sensitivity
    result : CompressionResult
    files : tuple of Path
        Movie, array, plots and report.
    """

    folder: Path
    comparisons: tuple[Comparison, ...]
    sensitivity: Sensitivity
    result: CompressionResult
    files: tuple[Path, ...]

    def to_dict(self) -> dict[str, Any]:
        """The demonstration as JSON types."""
        return {
            "folder": str(self.folder),
            "comparisons": [asdict(comparison) for comparison in self.comparisons],
            "sensitivity": self.sensitivity.to_dict(),
            "compression": self.result.to_dict(),
            "files": [str(path) for path in self.files],
        }


def run_demo(
    folder: Path,
    *,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Demo:
    """Simulate a two-photon movie, calibrate it, compress it, verify the result, draw and report.

    Parameters
    ----------
    folder : Path
        Where everything is written; made if it isn't there.
    seed : int
        Of the simulation.
    overwrite : bool
        Write into a folder that has files in it.
    progress : callable, optional
        Called as ``progress(done, total, stage)``.

    Raises
    ------
    FileExistsError
        The folder is not empty and `overwrite` was not given.
    """
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; the demo needs a folder")
    if not overwrite and folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty: choose another folder, or overwrite it (--overwrite)")
    folder.mkdir(parents=True, exist_ok=True)
    report = progress or (lambda done, total, stage: None)

    report(0, 1, "simulate")
    movie, truth = simulate_movie(
        SHAPE,
        conversion_gain=CONVERSION_GAIN,
        zero_level=ZERO_LEVEL,
        read_noise=READ_NOISE,
        mean_photons=MEAN_PHOTONS,
        activity=ACTIVITY,
        rng=seed,
    )
    source = folder / "movie.npy"
    np.save(source, movie)
    report(1, 1, "simulate")

    sensitivity = compute_sensitivity(movie, progress=lambda done, total: _call(report, done, total))
    store = folder / "movie.zarr"
    result = compress(source, store, sensitivity=sensitivity, overwrite=overwrite, progress=progress)
    comparisons = (
        Comparison(
            "conversion gain",
            "signal/photon",
            truth.conversion_gain,
            sensitivity.conversion_gain,
            sensitivity.conversion_gain_interval,
        ),
        Comparison(
            "zero level", "signal", truth.zero_level, sensitivity.zero_level, sensitivity.zero_level_interval
        ),
        Comparison(
            "read noise", "signal", truth.read_noise, sensitivity.read_noise, sensitivity.read_noise_interval
        ),
        Comparison(
            "variance intercept",
            "signal",
            truth.variance_intercept,
            sensitivity.variance_intercept,
            sensitivity.variance_intercept_interval,
        ),
    )
    plots = _draw(folder, movie, result, report)
    page = write_report(store, folder / "report.html", against=source)
    return Demo(folder, comparisons, sensitivity, result, (source, store, *plots, page))


def _call(report: Progress, done: int, total: int) -> None:
    report(done, total, "calibrate")


def _draw(folder: Path, movie: Any, result: CompressionResult, report: Progress) -> list[Path]:
    from anscombe_transform import diagnostics

    sensitivity, codec = result.sensitivity, result.codec
    drawings: dict[str, Callable[[], Any]] = {
        "noise_transfer": lambda: diagnostics.plot_noise_transfer(sensitivity).figure,
        "stabilization": lambda: diagnostics.plot_stabilization(movie, codec).figure,
        "residuals": lambda: diagnostics.plot_residuals(movie, codec),
        "code_histogram": lambda: diagnostics.plot_code_histogram(movie, codec).figure,
        "summary": lambda: diagnostics.plot_summary(
            movie, sensitivity, codec, stored_bytes=result.stored_bytes
        ),
    }
    paths = []
    for number, (name, draw) in enumerate(drawings.items()):
        report(number, len(drawings), "draw")
        path = folder / f"{name}.png"
        draw().savefig(path, dpi=150)
        paths.append(path)
    report(len(drawings), len(drawings), "draw")
    return paths
