"""Messages of the library in the words of the command line: options in place of arguments.

The library names both where it can, ``overwrite it (overwrite=True, --overwrite)``. Its half in Python goes,
and an argument that a command has as an option is called by that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["in_options"]

_VALUE = r"'[^']*'|\"[^\"]*\"|[\w.]+"
# Arguments whose option has another name.
_OTHER_NAMES = {"conversion_gain": "gain", "beta": "betas", "format": "file_format"}


def in_options(text: str, options: Mapping[str, str]) -> str:
    """A message without Python.

    Parameters
    ----------
    text : str
        Of an error or a result.
    options : mapping of str to str
        The option of every parameter of the command, such as ``{"zarr_format": "--zarr-format"}``.

    Examples
    --------
    >>> in_options("resume=True (--resume) goes on", {}), in_options("beta must be > 0", {"beta": "--beta"})
    ('--resume goes on', '--beta must be > 0')
    """

    def option(name: str) -> str | None:
        return options.get(name) or options.get(_OTHER_NAMES.get(name, ""))

    def both(match: re.Match[str]) -> str:
        same = match["name"].replace("_", "-") == match["option"]
        return match["rest"] if same else match[0]

    def argument(match: re.Match[str]) -> str:
        flag, value = option(match["name"]), match["value"].strip("'\"")
        if flag is None:
            return match[0]
        return flag if value == "True" else f"{flag} {value}"

    text = re.sub(r" \(\w+=\{[^}]*\}\)", "", text)
    text = re.sub(r"\w+\([\w, ]*\), (?=--\w)", "", text)
    text = re.sub(
        rf"\b(?P<name>[a-z_]+)(?:=(?:{_VALUE}))? \((?P<rest>--(?P<option>[a-z-]+)[^)]*)\)", both, text
    )
    text = re.sub(rf"\(\w+(?:=(?:{_VALUE}))?, (?=--\w)", "(", text)
    text = re.sub(rf"(?<![\w\"'-])(?P<name>[a-z_]+)=(?P<value>{_VALUE})", argument, text)
    return re.sub(
        r"(?<![-\w])([a-z_]+)(?= must (?:be|have|hold)\b)", lambda match: option(match[1]) or match[1], text
    )
