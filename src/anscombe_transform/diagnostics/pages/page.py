"""A page of HTML about results: its parts, and how it is written.

A page holds its plots and its style, and asks for nothing from elsewhere: it can be mailed, archived beside
the data, printed, and opened in twenty years without a network.
"""

from __future__ import annotations

import base64
import io
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from anscombe_transform.calibration import Reason, Sensitivity
from anscombe_transform.compression.results import sensitivity_of
from anscombe_transform.diagnostics.plots.text import METHODS
from anscombe_transform.native.durable import make_folders, write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 110


@dataclass(frozen=True, slots=True)
class Status:
    """The verdict on a page in a few words, and the colour that they are in."""

    text: str
    kind: Literal["good", "care", "bad"]


@dataclass(frozen=True, slots=True)
class Picture:
    """A plot as it stands in the page."""

    png: str
    alt: str
    caption: str


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with the content below it."""

    title: str
    text: str = ""
    rows: tuple[tuple[str, str], ...] = ()
    reasons: tuple[Reason, ...] = ()
    figures: tuple[Picture, ...] = ()


def load_template() -> Callable[..., str]:
    """The function that renders a page.

    Raises
    ------
    ImportError
        jinja2 is missing.
    """
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise ModuleNotFoundError(
            f'a report needs {error.name}, which is not installed: pip install "anscombe-transform[report]"'
        ) from None
    text = (
        resources.files("anscombe_transform.diagnostics")
        .joinpath("templates/report.html.j2")
        .read_text("utf-8")
    )
    # Names of files and arrays come from outside: escaped, they stay text.
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(text).render


def write_page(path: str | os.PathLike[str], page: str) -> Path:
    """Write a page, whole or not at all."""
    path = Path(path)
    make_folders(path.parent)
    write_file(path, page.encode("utf-8"))
    return path


def check_page_name(path: str | os.PathLike[str]) -> None:
    """Refuse a name that does not end like a page's."""
    if Path(path).suffix.lower() not in (".html", ".htm"):
        raise ValueError(
            f"a page is written as HTML, and its name must end with .html, got {os.fspath(path)!r}"
        )


def png_text(figure: Figure) -> str:
    """A figure as PNG in base64."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def software_text(provenance: Mapping[str, Any] | None) -> str:
    """Software that made the page and wrote the array."""
    by = f"Page made by anscombe-transform {version('anscombe-transform')}."
    software = (provenance or {}).get("software")
    return f"{by} Array written with {versions_text(software)}." if software else by


def versions_text(software: Mapping[str, str]) -> str:
    """Names and versions of software."""
    return ", ".join(f"{name} {number}" for name, number in software.items()) or "unknown software"


def noted_sensitivity(provenance: Mapping[str, Any] | None) -> Sensitivity | None:
    """The calibration that a record holds, or None: another version may have noted other fields."""
    try:
        return sensitivity_of(dict(provenance or {}))
    except (ValueError, TypeError, KeyError):
        return None


def constant_rows(sensitivity: Sensitivity) -> tuple[tuple[str, str], ...]:
    """The constants of a detector as rows of a table."""
    rows = [
        (
            f"{constant.name}, {constant.unit}" if constant.unit else constant.name,
            _interval_text(constant.value, constant.interval),
        )
        for constant in sensitivity.constants()
    ]
    noise = METHODS.get(sensitivity.method, sensitivity.method)
    found = f"noise from {noise}; zero level from {sensitivity.zero_level_method}"
    return *rows, ("found by", "given, not measured" if sensitivity.method == "known" else found)


def _interval_text(value: float, interval: tuple[float, float]) -> str:
    low, high = interval
    if math.isnan(value):
        return "not found"
    return f"{value:.4g} (95 % interval {low:.4g} to {high:.4g})" if low < high else f"{value:.4g}"


def times_text(lengths: tuple[int, ...]) -> str:
    """Lengths of axes with crosses between them."""
    return " × ".join(f"{n:,}" for n in lengths)
