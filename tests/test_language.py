"""The prose of pages and docstrings is plain: constructions that make sentences hard are rare."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Noun clauses such as "what moves" (no questions), and two constructions that other projects hardly use.
HARD = re.compile(r"\bwhat\b(?![^.:;|]*\?)|\bof which\b|\bof whom\b|\bwhose\b|\btold\b", re.I)
MOST = 0.5
"""Of a thousand words. zarr-python has 0.1 of the first kind, 0.4 of the second and none of the third."""


def hard_constructions(texts: dict[Path, str]) -> tuple[float, list[str]]:
    """How many there are in a thousand words, and where."""
    found, words = [], 0
    for path, text in texts.items():
        prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
        prose = re.sub(r"^\s*(>>>|\.\.\. ).*$|`[^`]*`", "x", prose, flags=re.M)
        words += len(re.findall(r"[A-Za-z][\w'-]*", prose))
        for match in HARD.finditer(prose):
            around = prose[max(0, match.start() - 30) : match.end() + 30]
            found.append(f"{path.relative_to(ROOT)}: …{' '.join(around.split())}…")
    return 1000 * len(found) / words, found


def docstrings(path: Path) -> str:
    """All docstrings of a module, those of attributes included."""
    bodies = (
        body
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(body := getattr(node, "body", None), list)
    )
    strings = (statement.value for body in bodies for statement in body if isinstance(statement, ast.Expr))
    return "\n".join(s.value for s in strings if isinstance(s, ast.Constant) and isinstance(s.value, str))


def test_pages_are_plain() -> None:
    """README and documentation keep to the limit."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    rate, found = hard_constructions({page: page.read_text(encoding="utf-8") for page in pages})
    assert rate <= MOST, "\n".join(found)


def test_docstrings_are_plain() -> None:
    """Docstrings of the package keep to the limit."""
    modules = sorted((ROOT / "src").rglob("*.py"))
    rate, found = hard_constructions({module: docstrings(module) for module in modules})
    assert rate <= MOST, "\n".join(found)
