"""Shared by all commands: exit codes, mistakes as one line, JSON, and the progress bar.

With ``--json`` standard output is a single JSON document. Progress and errors go to standard error.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from enum import IntEnum
from io import BytesIO
from pathlib import Path
from typing import Any

import typer

from anscombe_transform.calibration import ConstantsMismatch, Sensitivity, UntrustworthyCalibration
from anscombe_transform.cli.words import in_options
from anscombe_transform.compression import SourceChangedError, VerificationError
from anscombe_transform.native.durable import write_file
from anscombe_transform.native.work import Bars, draw_bars


class ExitCode(IntEnum):
    """Meanings of the exit status."""

    FAILED_VERIFICATION = 1
    USAGE = 2
    REFUSED_CALIBRATION = 3
    SOME_FAILED = 4


VERSION = 1
"""Of the JSON documents; it grows when a field goes or changes its meaning."""

# Of a calibration inside another document: `anscombe calibrate --json` prints them.
_LONG = ("transfer_curve", "rejected")

# The options of the command that runs, by the names of its parameters.
_options: dict[str, str] = {}


def know_options(command: Any) -> None:
    """Learn what the options of a command are called, for `in_options`."""
    flags = {parameter.name: parameter.opts[0] for parameter in command.params if parameter.opts}
    _options.clear()
    _options.update({name: flag for name, flag in flags.items() if flag.startswith("--")})


class Failure(Exception):
    """A mistake of the user's, a line for each reason, with the exit code of its kind."""

    def __init__(self, message: str, code: ExitCode) -> None:
        lines = (" ".join(line.split()) for line in in_options(message, _options).splitlines())
        super().__init__("\n  ".join(line for line in lines if line))
        self.code = code


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Print a user's mistake as one line and exit with the code of its kind."""
    try:
        with _as_failure():
            yield
    except Failure as failure:
        say(failure)
        raise typer.Exit(failure.code) from None


def each(inputs: Sequence[str], work: Callable[[str], object]) -> ExitCode | None:
    """Do the work on every input and go on past a bad one.

    Parameters
    ----------
    inputs : sequence of str
    work : callable
        Called with each of them.

    Returns
    -------
    ExitCode or None
        The code to exit with, that of the mistake where there is a single input.
    """
    code: ExitCode | None = None
    for name in dict.fromkeys(inputs):
        try:
            with _as_failure():
                work(name)
        except Failure as failure:
            say(failure, "" if len(inputs) == 1 or name in str(failure) else f"{name}: ")
            code = failure.code if len(inputs) == 1 else ExitCode.SOME_FAILED
    return code


@contextmanager
def _as_failure() -> Iterator[None]:
    try:
        yield
    except UntrustworthyCalibration as error:
        remedy = (
            "; constants that are known otherwise can be given with --gain and --zero-level, and are then "
            "compared with the noise of this movie: anscombe calibrate FILE --report page.html shows more"
        )
        raise refused(error.sensitivity, remedy) from error
    except ConstantsMismatch as error:
        raise mismatched(
            f"the constants contradict this movie: {error.agreement.message} Leave them out, so that the "
            "movie is calibrated by itself, correct them, or store it all the same with --accept-mismatch, "
            "which the array records"
        ) from error
    except SourceChangedError as error:
        raise Failure(str(error), ExitCode.SOME_FAILED) from error
    except VerificationError as error:
        raise Failure(str(error), ExitCode.FAILED_VERIFICATION) from error
    except (OSError, ValueError, TypeError, ModuleNotFoundError) as error:
        if os.environ.get("ANSCOMBE_TRACEBACK"):
            raise
        message = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, OSError) and error.strerror and error.filename:
            message = f"{error.strerror}: {error.filename}"
        raise Failure(message, ExitCode.USAGE) from error


def refused(sensitivity: Sensitivity, remedy: str = "") -> Failure:
    """The failure that a refused calibration is, with its reasons."""
    refusals = [reason for reason in sensitivity.reasons if reason.severity == "refusal"]
    reasons = [reason.message.rstrip(".") for reason in refusals or sensitivity.reasons]
    between = "\n" if len(reasons) > 1 else ""
    return Failure(
        f"the calibration was refused: {between}{chr(10).join(reasons)}{remedy}",
        ExitCode.REFUSED_CALIBRATION,
    )


def mismatched(message: str) -> Failure:
    """The failure that constants are which contradict the movie."""
    return Failure(message, ExitCode.REFUSED_CALIBRATION)


def say(failure: Failure, about: str = "") -> None:
    """Print a mistake."""
    typer.echo(f"error: {about}{failure}", err=True)


def stop(code: ExitCode | None) -> None:
    """Exit, if there is a code."""
    if code is not None:
        raise typer.Exit(code)


def print_json(document: dict[str, Any]) -> None:
    """Print the one document of a command, with the version of its form."""
    _print(_versioned(document))


def _print(document: dict[str, Any]) -> None:
    typer.echo(json.dumps(document, indent=2, allow_nan=False))


def _versioned(document: dict[str, Any]) -> dict[str, Any]:
    return {"version": VERSION} | _shortened(document)


def _shortened(document: dict[str, Any]) -> dict[str, Any]:
    """The document without the curves of calibrations and the list of checksums that are inside of it."""

    def short(value: Any) -> Any:
        if isinstance(value, list):
            return [short(item) for item in value]
        if not isinstance(value, dict):
            return value
        if isinstance(value.get("values"), str) and "algorithm" in value:
            return value | {"values": f"{len(value['values']) // 8} checksums"}
        return {name: short(item) for name, item in value.items() if name not in _LONG}

    # The curve of a calibration itself stays: --calibration reads it.
    return {name: value if name in _LONG else short(value) for name, value in document.items()}


def show(result: Any, *, as_json: bool, text: str = "") -> None:
    """Print a result, as text or as JSON."""
    if as_json:
        print_json(result.to_dict())
    else:
        typer.echo(in_options(text or str(result), _options))


def print_results(found: dict[str, Any], count: int, *, as_json: bool) -> None:
    """Print results by input: one of them as it is, several with their names."""
    if as_json and count == 1:
        for document in found.values():
            print_json(document)
    elif as_json:
        _print({name: _versioned(document) for name, document in found.items()})
    else:
        for name, text in found.items():
            typer.echo(in_options(text if count == 1 else f"{name}\n{text}\n", _options))


def bar() -> AbstractContextManager[Bars]:
    """Show progress while something is done, where there is a terminal to show it on."""
    return draw_bars(transient=True)


def write_figure(path: Path, figure: Any) -> None:
    """Write a figure in the format of the name's suffix, whole or not at all."""
    content = BytesIO()
    figure.savefig(content, format=path.suffix.removeprefix("."), dpi=150)
    write_file(path, content.getvalue())
