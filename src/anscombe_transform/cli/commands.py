"""The commands: arguments become one library call each, results are printed, mistakes become one line.

With ``--json`` standard output is a single JSON document. Progress and errors go to standard error.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

import anscombe_transform
from anscombe_transform.calibration import Sensitivity, UntrustworthyCalibration
from anscombe_transform.compression import VerificationError


class ExitCode(IntEnum):
    """What the exit status says."""

    FAILED_VERIFICATION = 1
    USAGE = 2
    REFUSED_CALIBRATION = 3


_EXIT_CODES = (
    "Exit codes: 0 done, 1 stored values are not within their bound, 2 wrong usage or input, "
    "3 the calibration was refused. With ANSCOMBE_TRACEBACK=1 in the environment an error shows where in the "
    "program it arose."
)
_SOURCES = (
    "TIFF, .npy, .npz, HDF5 (movie.h5, or movie.h5::/dataset where it holds several) or a Zarr array; "
    "one channel of a TIFF: movie.tif::C=0"
)

app = typer.Typer(
    name="anscombe",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog=_EXIT_CODES,
    help="Calibrate photon-limited movies and store them in Zarr at the resolution of their own noise.",
)

_Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
_Source = Annotated[str, typer.Argument(metavar="FILE", help=f"The movie (time, y, x): {_SOURCES}.")]
_Stored = Annotated[
    str, typer.Argument(metavar="OUT.zarr", help="A Zarr array; group.zarr::name for one in a group.")
]


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"anscombe-transform {anscombe_transform.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Options of the program itself."""


@app.command()
def demo(
    folder: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where movie, array and plots go.")
    ] = Path("anscombe-demo"),
    seed: Annotated[int, typer.Option(help="Seed of the simulated movie.", min=0)] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write into a folder with files.")] = False,
    as_json: _Json = False,
) -> None:
    """Do the whole job on a simulated movie: calibrate, compress, verify, plot.

    Each figure that was found is printed beside the truth.

    Example: anscombe demo -o demo
    """
    with _user_errors(), _bar() as progress:
        from anscombe_transform.cli.demo import run_demo

        done = run_demo(folder, seed=seed, overwrite=overwrite, progress=progress)
    if as_json:
        _print_json(done.to_dict())
        return
    table = Table("", "truth", "found", "95 % interval", "", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for c in done.comparisons:
        interval = "" if c.interval is None else f"{c.interval[0]:.1f} to {c.interval[1]:.1f}"
        table.add_row(c.name, f"{c.truth:.1f}", f"{c.found:.1f}", interval, c.unit)
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    console.print(f"verdict: {done.sensitivity.verdict}", markup=False)
    for reason in done.sensitivity.reasons:
        console.print(f"  {reason.message}", markup=False)
    console.print(f"\n{done.result}\n", markup=False)
    console.print(f"Written to {done.folder}:", markup=False)
    for path in done.files:
        console.print(f"  {path.name}", markup=False)


@app.command()
def calibrate(
    file: _Source,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", metavar="FILE.png", help="Draw noise variance against mean (.png, .pdf, .svg)."
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Read the whole movie, not a sample spread over it.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """Read gain, zero level and read noise from a movie, with 95 % intervals and a verdict.

    A movie from which they can't be read is refused, with the reason and exit code 3.

    Example: anscombe calibrate movie.tif --plot noise.png
    """
    with _user_errors(), _bar() as progress:
        from anscombe_transform.calibration import compute_sensitivity
        from anscombe_transform.movies import open_movie

        with open_movie(file) as movie:
            sensitivity = compute_sensitivity(
                movie,
                on_refusal="return",
                full=full,
                progress=lambda done, total: progress(done, total, "calibrate"),
            )
        if plot is not None:
            from anscombe_transform.diagnostics import plot_noise_transfer

            figure: Any = plot_noise_transfer(sensitivity).figure
            figure.savefig(plot, dpi=150)
    if as_json:
        _print_json(sensitivity.to_dict())
    elif sensitivity.verdict != "refused":
        typer.echo(str(sensitivity))
    if sensitivity.verdict == "refused":
        _refused(sensitivity, "")


@app.command()
def compress(
    file: _Source,
    out: Annotated[str, typer.Argument(metavar="OUT.zarr", help="The array to write.")],
    zarr_format: Annotated[
        int, typer.Option(min=2, max=3, help="2 can be read by zarr-python 2 as well.")
    ] = 3,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an array that is there.")] = False,
    gain: Annotated[
        float | None,
        typer.Option(help="Known gain in signal units per photon, with --zero-level; no calibration then."),
    ] = None,
    zero_level: Annotated[float | None, typer.Option(help="Known signal without light, with --gain.")] = None,
    read_noise: Annotated[
        float, typer.Option(help="Known standard deviation of the signal without light, with --gain.")
    ] = 0.0,
    beta: Annotated[
        float,
        typer.Option(help="Step of the codes in standard deviations of the noise; an error is at most half."),
    ] = 0.5,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Read back and compare every value.")
    ] = True,
    threads: Annotated[int | None, typer.Option(min=1, help="Blocks in work at once.")] = None,
    as_json: _Json = False,
) -> None:
    """Calibrate a movie, write it as a compressed Zarr array, and verify every value.

    Any program that reads Zarr through zarr-python opens the array once this package is installed.

    A refused calibration stops with exit code 3, unless --gain and --zero-level are given.

    Example: anscombe compress movie.tif movie.zarr
    """
    with _user_errors(), _bar() as progress:
        if (gain is None) != (zero_level is None):
            raise ValueError("--gain and --zero-level go together: give both or neither")
        if gain is None and read_noise:
            raise ValueError("--read-noise is one of the known constants: give --gain and --zero-level too")
        known = None
        if gain is not None and zero_level is not None:
            known = Sensitivity.from_known(conversion_gain=gain, zero_level=zero_level, read_noise=read_noise)
        result = anscombe_transform.compress(
            file,
            out,
            sensitivity=known,
            beta=beta,
            zarr_format=2 if zarr_format == 2 else 3,
            overwrite=overwrite,
            verify=verify,
            threads=threads,
            progress=progress,
        )
    if as_json:
        _print_json(result.to_dict())
    else:
        typer.echo(f"{result.sensitivity}\n{result}")


@app.command()
def info(stored: _Stored, as_json: _Json = False) -> None:
    """Tell what a Zarr array says of itself: size, gain, zero level, verdict, bound, how it was verified.

    Example: anscombe info movie.zarr
    """
    with _user_errors():
        from anscombe_transform.compression import describe

        found = describe(stored)
    if as_json:
        _print_json(found.to_dict())
    else:
        typer.echo(str(found))


@app.command()
def verify(
    stored: _Stored,
    against: Annotated[str, typer.Option("--against", metavar="FILE", help="The movie that was stored.")],
    as_json: _Json = False,
) -> None:
    """Compare every value of a stored array with its source; exit code 1 if one is beyond the bound.

    Example: anscombe verify movie.zarr --against movie.tif
    """
    with _user_errors(), _bar() as progress:
        verification = anscombe_transform.verify(stored, against, progress=progress)
    if as_json:
        _print_json(verification.to_dict())
    elif verification.ok:
        typer.echo(str(verification))
    if not verification.ok:
        _stop(str(verification), ExitCode.FAILED_VERIFICATION)


@app.command()
def report(
    stored: _Stored,
    page: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE.html", help="The page to write.")
    ] = Path("report.html"),
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="FILE", help="The movie that was stored: compare again."),
    ] = None,
    as_json: _Json = False,
) -> None:
    """Write one HTML page about a stored array: calibration, sizes, bound, verification and plots.

    The page holds all of its plots and loads nothing, so it can be mailed or kept beside the data.

    Example: anscombe report movie.zarr -o report.html
    """
    with _user_errors(), _bar() as progress:
        from anscombe_transform.report import write_report

        path = write_report(stored, page, against=against, progress=progress)
    if as_json:
        _print_json({"report": str(path)})
    else:
        typer.echo(f"written to {path}")


# --- what all commands share ----------------------------------------------------------------------------


@contextmanager
def _user_errors() -> Iterator[None]:
    """Print a user's mistake as one line and exit with the code of its kind."""
    try:
        yield
    except UntrustworthyCalibration as error:
        _refused(error.sensitivity, "; known constants can be given with --gain and --zero-level")
    except VerificationError as error:
        _stop(str(error), ExitCode.FAILED_VERIFICATION)
    except (OSError, ValueError, TypeError, ModuleNotFoundError) as error:
        if os.environ.get("ANSCOMBE_TRACEBACK"):
            raise
        _stop(str(error) or type(error).__name__, ExitCode.USAGE)


def _refused(sensitivity: Sensitivity, remedy: str) -> None:
    refusals = [reason for reason in sensitivity.reasons if reason.severity == "refusal"]
    reasons = " ".join(reason.message for reason in refusals or sensitivity.reasons)
    _stop(
        f"the calibration was refused: {reasons.rstrip('.')}{remedy}",
        ExitCode.REFUSED_CALIBRATION,
    )


def _stop(message: str, code: ExitCode) -> None:
    typer.echo(f"error: {' '.join(message.split())}", err=True)
    raise typer.Exit(code)


def _print_json(document: dict[str, Any]) -> None:
    typer.echo(json.dumps(document, indent=2, allow_nan=False))


class _Bar:
    """A progress bar on standard error that counts the frames of one stage after the other."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, done: int, total: int, stage: str) -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total)
        self._progress.update(self._tasks[stage], completed=done, total=total)


@contextmanager
def _bar() -> Iterator[_Bar]:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", justify="left"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield _Bar(progress)
