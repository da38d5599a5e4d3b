"""Errors of the formats' libraries, raised as one kind that names the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class IncompleteRecordingError(ValueError):
    """A recording that isn't whole: stopped, cut short, with a part missing, or still being written."""


@contextmanager
def errors_named(what: str) -> Iterator[None]:
    """Turn any error of a format's library about a damaged file into a ValueError that names the file."""
    try:
        yield
    except (MemoryError, ImportError, IncompleteRecordingError):
        raise
    except Exception as error:
        reason = str(error) or type(error).__name__
        if "imagecodecs" in reason:
            reason += ': pip install "anscombe-transform[io]"'
        raise ValueError(f"cannot read {what}: {reason}") from error


def missing(library: str, what: Path | str, extra: str = "io") -> ModuleNotFoundError:
    """The error about a library that a format needs, with the command that installs it."""
    return ModuleNotFoundError(
        f"{what} needs the library {library}, which is not installed: pip install "
        f'"anscombe-transform[{extra}]"'
    )
