"""Write the output of the commands on a page under them.

    python docs/make_outputs.py docs/index.md docs/how-to/deleting.md docs/tutorials/first-movie.md

The Python and console blocks of a page run one after the other in an empty folder, as in
``tests/test_docs.py``; the lines under each ``$ anscombe …`` are replaced by its output.
"""

from __future__ import annotations

import contextlib
import functools
import re
import shlex
import sys
import tempfile
from pathlib import Path

import matplotlib
from typer.testing import CliRunner

from anscombe_transform.cli import certificates  # noqa: F401  # its command
from anscombe_transform.cli.commands import app

BLOCK = re.compile(r"^```(python|console)\n(.*?)^```", re.M | re.S)
WIDTH = "110"
HOME = Path.cwd()


def run_block(language: str, source: str, names: dict[str, object]) -> str:
    """Run a block; return it with its output if it holds commands."""
    if language == "python":
        exec(compile(source, "page", "exec"), names)
        return source
    parts = []
    for command in re.findall(r"^\$ anscombe .*$", source, re.M):
        arguments = shlex.split(command.removeprefix("$ anscombe "), comments=True)
        output = CliRunner(env={"COLUMNS": WIDTH}).invoke(app, arguments).stdout
        parts.append(f"{command}\n{output.rstrip()}\n")
    return "\n".join(parts)


def run_match(found: re.Match[str], names: dict[str, object]) -> str:
    """Run a block of the page, and return it fenced again."""
    return f"```{found[1]}\n{run_block(found[1], found[2], names)}```"


def main() -> None:
    matplotlib.use("Agg")
    for page in map(Path, sys.argv[1:]):
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            names: dict[str, object] = {}
            blocks = functools.partial(run_match, names=names)
            made = BLOCK.sub(blocks, (HOME / page).read_text(encoding="utf-8"))
        page.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
