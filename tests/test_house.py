"""The plan of the source tree: no circles of imports, and no folder with more files than one can survey.

The graph of imports is computed from the sources. Imports inside functions count: they hide a circle from
Python, not from a reader. Add a folder to `WITHOUT_CIRCLES` and `SMALL` as soon as it is in order.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import anscombe_transform

SOURCE = Path(anscombe_transform.__file__).parent

# Packages with all that lies below them.
WITHOUT_CIRCLES = (
    "calibration/sums",
    "codec",
    "compression",
    "diagnostics",
    "movies",
    "native",
    "simulation",
    "transform",
)
# Folders, each by itself.
SMALL = (
    "calibration/sums",
    "codec",
    "codec/frames",
    "codec/hdf5",
    "codec/transform",
    "compression",
    "compression/blocks",
    "compression/files",
    "compression/stored",
    "diagnostics",
    "diagnostics/measurements",
    "diagnostics/plots",
    "movies",
    "movies/readers",
    "movies/readers/tiff",
    "native",
    "simulation",
    "transform",
)
MOST_FILES = 8


def module_name(path: Path, root: Path) -> str:
    """The dotted name of a file below the package at `root`."""
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(path: Path) -> Iterator[str]:
    """Every absolute name that a file imports, however deep the import stands: modules and their members."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def import_graph(root: Path) -> dict[str, set[str]]:
    """The modules of a package, each with the modules of the package that it imports."""
    files = {module_name(path, root): path for path in root.rglob("*.py")}
    # The compiled core imports nothing of ours.
    graph: dict[str, set[str]] = {module_name(path, root): set() for path in root.rglob("*.pyi")}
    for module, path in files.items():
        targets = set()
        for name in imported_names(path):
            # "package.module.member" is an import of "package.module".
            target = name if name in files or name in graph else name.rpartition(".")[0]
            if (target in files or target in graph) and target != module:
                targets.add(target)
        graph[module] = targets
    return graph


def find_circle(graph: Mapping[str, set[str]]) -> list[str]:
    """One circle of a graph, its first module repeated at the end; empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [str(module) for module in error.args[1]]
    return []


@pytest.mark.parametrize("package", WITHOUT_CIRCLES)
def test_no_circle_of_imports(package: str) -> None:
    """No file of the package imports itself by way of other files, inside functions or not."""
    graph = import_graph(SOURCE)
    top = f"{SOURCE.name}.{package.replace('/', '.')}"
    inside = {module for module in graph if module == top or module.startswith(f"{top}.")}
    assert inside, f"there is no package {top}"
    circle = find_circle({module: graph[module] & inside for module in inside})
    assert not circle, " → ".join(reversed(circle))


@pytest.mark.parametrize("package", WITHOUT_CIRCLES)
def test_a_folder_does_not_import_from_above(package: str) -> None:
    """A file in a subfolder imports no ``__init__`` of the folders around it, which import from below."""
    graph = import_graph(SOURCE)
    top = f"{SOURCE.name}.{package.replace('/', '.')}"
    for module in (module for module in graph if module.startswith(f"{top}.")):
        above = {
            target for target in graph[module] if target != SOURCE.name and module.startswith(f"{target}.")
        }
        assert not above, f"{module} imports {above}"


@pytest.mark.parametrize("folder", SMALL)
def test_a_folder_holds_few_files(folder: str) -> None:
    """No folder of the list holds more Python files than one can survey."""
    files = sorted(path.name for path in (SOURCE / folder).glob("*.py"))
    assert 0 < len(files) <= MOST_FILES, files


def test_imports_inside_functions_close_a_circle(tmp_path: Path) -> None:
    """An import inside a function is an edge of the graph and can close a circle."""
    root = tmp_path / "house"
    (root / "room").mkdir(parents=True)
    (root / "__init__.py").touch()
    (root / "hall.py").write_text("from house.room import chair\n")
    (root / "room" / "__init__.py").write_text("def sit():\n    from house.room.chair import seat\n")
    (root / "room" / "chair.py").write_text("def seat():\n    import house.hall\n")
    graph = import_graph(root)
    assert graph["house.hall"] == {"house.room.chair"}
    assert graph["house.room"] == {"house.room.chair"}
    assert set(find_circle(graph)) == {"house.hall", "house.room.chair"}
    (root / "room" / "chair.py").write_text("import os.path\n")
    assert find_circle(import_graph(root)) == []
