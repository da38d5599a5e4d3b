"""Write docs/reference/cli.md from the command line's own help.

    python docs/make_cli_reference.py

A test holds the page in step with the program.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from anscombe_transform.cli import certificates, live  # noqa: F401  # their commands
from anscombe_transform.cli.commands import app

PAGE = Path(__file__).parent / "reference" / "cli.md"
ORDER = (
    *(
        "demo",
        "calibrate",
        "compress",
        "verify",
        "info",
        "report",
        "certificate",
        "decompress",
        "decide",
        "bench",
    ),
    *("watch", "finish", "trend"),
)
TYPES = {str: "TEXT", int: "INTEGER", float: "NUMBER", Path: "PATH"}


def reference() -> str:
    """The page."""
    commands = {command.callback.__name__: command.callback for command in app.registered_commands}
    missing = set(commands) - set(ORDER)
    if missing:
        raise SystemExit(f"docs/make_cli_reference.py does not order {sorted(missing)}")
    lines = [
        "# Command line",
        "",
        "<!-- Written by docs/make_cli_reference.py from the program's help. -->",
        "",
        str(app.info.help),
        "",
        "`--json` prints one JSON document on standard output and nothing else; progress and errors go to",
        "standard error, an error as one line with the remedy. `anscombe --install-completion` teaches",
        "the shell to complete commands, options and their values, such as presets and layouts.",
        "",
        "| command | task |",
        "|---|---|",
        *(f"| [`{name}`](#anscombe-{name}) | {paragraphs(commands[name])[0]} |" for name in ORDER),
        "",
        str(app.info.epilog),
    ]
    for name in ORDER:
        lines += section(name, commands[name])
    return "\n".join(lines) + "\n"


def section(name: str, command: Callable[..., None]) -> list[str]:
    """Text, examples, arguments and options of a command."""
    found = list(parameters(command))
    arguments = [info.metavar for _, _, info, _ in found if type(info).__name__ == "ArgumentInfo"]
    text = [paragraph for paragraph in paragraphs(command) if not paragraph.startswith("Example: ")]
    examples = [p.removeprefix("Example: ") for p in paragraphs(command) if p.startswith("Example: ")]
    lines = [
        "",
        f"## anscombe {name}",
        "",
        f"    anscombe {name} [OPTIONS] {' '.join(arguments)}".rstrip(),
        "",
    ]
    for paragraph in text:
        lines += [paragraph, ""]
    lines += ["```sh", *examples, "```", "", "| | |", "|---|---|"]
    for parameter, kind, info, default in found:
        lines.append(f"| {spelled(parameter, kind, info)} | {' '.join(info.help.split())}{shown(default)} |")
    return lines


def paragraphs(command: Callable[..., None]) -> list[str]:
    """The help of a command."""
    return [" ".join(text.split()) for text in inspect.getdoc(command).split("\n\n")]


def parameters(command: Callable[..., None]) -> Iterator[tuple[str, Any, Any, Any]]:
    """Name, type, description and default of each argument and option."""
    hints = get_type_hints(command, include_extras=True)
    for parameter in inspect.signature(command).parameters.values():
        kind, info = get_args(hints[parameter.name])
        if get_origin(kind) in (Union, types.UnionType):
            kind = next(one for one in get_args(kind) if one is not type(None))
        yield parameter.name, kind, info, parameter.default


def spelled(parameter: str, kind: Any, info: Any) -> str:
    """How an argument or option is written on the command line."""
    if type(info).__name__ == "ArgumentInfo":
        return f"`{info.metavar}`"
    # In an Annotated, typer keeps the first of the names where the default would be.
    first = (info.default,) if isinstance(info.default, str) else ()
    names = (*first, *(info.param_decls or ())) or ("--" + parameter.replace("_", "-"),)
    written = ", ".join(f"`{name}`" for name in names)
    if kind is bool:
        return written
    if get_origin(kind) is Literal:
        return f"{written} {' or '.join(f'`{choice}`' for choice in get_args(kind))}"
    return f"{written} `{info.metavar or TYPES[kind]}`"


def shown(default: Any) -> str:
    """What an option is when it is not given."""
    if default is inspect.Parameter.empty or default is None or isinstance(default, bool):
        return ""
    return f" Default: {default}."


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
