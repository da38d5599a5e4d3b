"""Results as JSON documents and HTML tables, keys of stored configurations, values in words."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np

__all__ = ["Printed", "check_keys", "html_table", "json_document", "json_value", "value_text"]


def json_document(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields in types that JSON has."""
    return {name: json_value(value) for name, value in fields.items()}


def json_value(value: Any) -> Any:
    """The value in types that JSON has, which has no NaN and no infinities."""
    if isinstance(value, dict):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    if isinstance(value, np.ndarray):
        return json_value(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def check_keys(name: str, document: Mapping[str, Any], known: Set[str], required: Set[str]) -> None:
    """Refuse a stored configuration that says more than is understood here, or less than is needed.

    Raises
    ------
    ValueError
    """
    if unknown := set(document) - known:
        raise ValueError(
            f"{name} configuration has unknown keys {sorted(unknown)}: a newer version may have written it"
        )
    if missing := required - set(document):
        raise ValueError(f"{name} configuration lacks {sorted(missing)}")


class Printed:
    """A result that prints as lines: short among others, and a table in a notebook.

    The first line is the subject; each further one is two blanks, a label and a text, or goes on with
    the text of the line before it.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {str(self).partition(chr(10))[0]}>"

    def _repr_html_(self) -> str:
        """Return the lines as a table, for notebooks."""
        title, *lines = str(self).splitlines()
        rows: list[list[str]] = []
        for line in lines:
            label, _, text = line.strip().partition("  ")
            if line.startswith("    ") and rows:
                rows[-1][1] += f" {line.strip()}"
            else:
                rows.append([label, text.strip()] if text else ["", label])
        return html_table(title, rows)


def html_table(title: str, rows: Iterable[Sequence[object]], head: Sequence[str] = ()) -> str:
    """Rows of text as a table of HTML under a title, for notebooks."""

    def row(cells: Sequence[object], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"

    top = f"<thead>{row(head, 'th')}</thead>" if head else ""
    body = "".join(row(cells, "td") for cells in rows)
    return f"<p><b>{html.escape(title)}</b></p><table>{top}<tbody>{body}</tbody></table>"


def value_text(value: object) -> str:
    """A caller's value, in a few words for an error."""
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):
        return f"an array of shape {shape}"
    text = repr(value)
    if value is None:
        return text
    kind = type(value).__name__
    if type(value).__module__ == "builtins" and len(text) <= 60:
        return f"{text} of type {kind}"
    return f"{'an' if kind[0] in 'AEIOUaeiou' else 'a'} {kind}"
