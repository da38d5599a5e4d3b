"""CONTRIBUTING.md: what it names is there, and the way of a movie passes no file twice."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "CONTRIBUTING.md"
if not PAGE.is_file():
    pytest.skip("tests without the repository around them", allow_module_level=True)
TEXT = PAGE.read_text(encoding="utf-8")
# Names in backticks that have a folder, or end like a file or a folder.
PATHS = sorted(
    {
        name
        for name in re.findall(r"`([\w./-]+)`", TEXT)
        if name.endswith("/") or ("/" in name and name.endswith((".py", ".md", ".c")))
    }
)


@pytest.mark.parametrize("name", PATHS)
def test_a_path_exists(name: str) -> None:
    """Every file and folder that the page names is there."""
    outside = name.startswith(("tests/", "docs/", "src/"))
    assert (ROOT / name if outside else ROOT / "src" / "anscombe_transform" / name).exists()


def test_the_way_of_a_movie_passes_no_file_twice() -> None:
    """From opening to the result, the list names each file once."""
    way = TEXT.partition("## The way of a movie")[2].partition("\n## ")[0]
    files = re.findall(r"^\d+\. `([\w/]+\.py)`", way, re.MULTILINE)
    assert len(files) > 20
    assert len(set(files)) == len(files)


def test_the_map_has_every_room() -> None:
    """The table of rooms names every folder of the package, in the order in which they may import."""
    package = ROOT / "src" / "anscombe_transform"
    rooms = re.findall(r"^\| `(\w+)(?:/|\.py)` \|", TEXT, re.MULTILINE)
    folders = {path.name for path in package.iterdir() if (path / "__init__.py").is_file()}
    assert set(rooms) >= folders
    from test_house import ROOMS

    assert tuple(rooms) == ROOMS
