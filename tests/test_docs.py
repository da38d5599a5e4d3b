"""Every example in the documentation, the README and the docstrings runs."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import runpy
import shlex
from pathlib import Path

import matplotlib
import pytest

import anscombe_transform

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(anscombe_transform.__path__, "anscombe_transform.")
    if not module.name.endswith(".cli.commands")
)


@pytest.mark.parametrize(
    "page", [p for p in PAGES if p.exists()], ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python blocks and the `anscombe` commands of a page run one after the other in an empty folder."""
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```(python|console)\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    names: dict[str, object] = {}
    for language, block in blocks:
        if language == "python":
            exec(compile(block, str(page), "exec"), names)
        else:
            run_commands(block)


def run_commands(block: str) -> None:
    """Run each line ``$ anscombe …`` of a block; ``# exits with N`` behind it means code N."""
    from typer.testing import CliRunner

    from anscombe_transform.cli import certificates, live  # noqa: F401  # their commands
    from anscombe_transform.cli.commands import app

    for line in re.findall(r"^\$ anscombe (.*)$", block, re.M):
        code = re.search(r"# exits with (\d+)", line)
        result = CliRunner().invoke(app, shlex.split(line, comments=True))
        assert result.exit_code == (int(code[1]) if code else 0), f"{line}\n{result.output}"


def test_the_command_line_page_is_in_step() -> None:
    """docs/reference/cli.md is what the program's help makes of it today."""
    made = runpy.run_path(str(ROOT / "docs" / "make_cli_reference.py"))["reference"]()
    page = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    assert page == made, "run: python docs/make_cli_reference.py"


def test_every_page_is_in_the_menu() -> None:
    """No page of the documentation is left out of the navigation; what pages include is in `figures`."""
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        if page.parent.name == "figures":
            continue
        assert f": {page.relative_to(ROOT / 'docs').as_posix()}\n" in menu


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".compression.batch",
        ".calibration",
        ".compression",
        ".compression.decompression",
        ".simulation.camera",
        ".simulation.movie",
        ".diagnostics.speed",
    ],
)
def test_every_public_class_has_an_example(name: str) -> None:
    """What a user is given or gives shows how it is used, in an example that runs."""
    module = importlib.import_module(f"anscombe_transform{name}")
    classes = [value for value in map(module.__getattribute__, module.__all__) if isinstance(value, type)]
    assert [one.__name__ for one in classes if ">>>" not in (one.__doc__ or "")] == []


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples of a module's docstrings give what they show."""
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert result.failed == 0
