"""What is published beside the package agrees with it: citation, recipe, registrations, links."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def read_yaml(name: str) -> Any:
    """A YAML file of the repository; expressions of the recipe stay text."""
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def package_of(requirement: str) -> str:
    """The name of the package that a requirement asks for."""
    match = re.match(r"[A-Za-z0-9_.-]+", requirement)
    assert match, requirement
    return match[0]


def test_the_citation_is_of_this_version() -> None:
    """CITATION.cff names the version, the licence and the repository of the project."""
    citation = read_yaml("CITATION.cff")
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert citation["repository-code"] == PROJECT["urls"]["Source"]
    assert {reference["type"] for reference in citation["references"]} <= {"article", "book"}


def test_the_recipe_asks_for_what_the_project_asks_for() -> None:
    """The conda recipe has every dependency of the package and of the extras it names, at the same floors."""
    recipe = read_yaml("packaging/conda/recipe.yaml")
    assert recipe["context"]["version"] == PROJECT["version"]
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *extras["cli"], *extras["report"], *extras["io"]]
    conda_names = {"matplotlib": "matplotlib-base"}  # without the toolkits of windows
    expected = {conda_names.get(package_of(line), package_of(line)): line.split(">=")[1] for line in wanted}
    run = [line for line in recipe["requirements"]["run"] if not line.startswith("python ")]
    assert {package_of(line): line.split(">=")[1] for line in run} == expected
    scripts = {f"{name} = {target}" for name, target in PROJECT["scripts"].items()}
    assert set(recipe["build"]["python"]["entry_points"]) == scripts


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda path: path.name)
def test_files_for_the_host_of_the_repository_are_yaml(path: Path) -> None:
    """Issue templates and workflows parse; a template has a name, a description and at least one field."""
    content = read_yaml(str(path.relative_to(ROOT)))
    if path.parent.name == "ISSUE_TEMPLATE" and path.name != "config.yml":
        assert content["name"]
        assert content["description"]
        assert all("type" in field and "attributes" in field for field in content["body"])


def test_every_codec_is_registered(tmp_path: Path) -> None:
    """The script for the registry writes a page and a schema for every name that zarr finds here."""
    script = ROOT / "packaging" / "registration" / "zarr_extensions.py"
    subprocess.run([sys.executable, script, tmp_path], check=True, capture_output=True)
    found = [
        entry for entry in entry_points(group="zarr.codecs") if entry.value.startswith("anscombe_transform.")
    ]
    own = {entry.name for entry in found if not entry.name.startswith(("numcodecs.", "cast_value"))}
    assert {folder.name for folder in tmp_path.iterdir()} == own
    for folder in tmp_path.iterdir():
        schema = json.loads((folder / "schema.json").read_text(encoding="utf-8"))
        name = schema["properties"]["name"]
        assert folder.name in name.get("enum", [name.get("const")])
        page = (folder / "README.md").read_text(encoding="utf-8")
        assert "## Current maintainers" in page
        relative = [link for link in re.findall(r"\]\(([^)]+)\)", page) if not re.match(r"#|https?://", link)]
        assert not relative


def test_links_of_the_readme_are_absolute() -> None:
    """Links of the README hold where a package index shows it, and those into the repository name files."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)", readme) + re.findall(r"^\[[^\]]+\]: (\S+)", readme, re.MULTILINE)
    assert links
    for link in links:
        assert re.match(r"#|https://", link), link
        inside = re.match(rf"{re.escape(PROJECT['urls']['Source'])}/(?:blob|raw)/main/([^#]+)", link)
        if inside:
            assert (ROOT / inside[1]).exists(), link
