"""The plan of the source tree: no circles of imports, and no folder with more files than one can survey.

The graph of imports is computed from the sources. Imports inside functions count: they hide a circle from
Python, not from a reader.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import anscombe_transform

SOURCE = Path(anscombe_transform.__file__).parent

# The rooms: a file imports from its own room and from those before it. The command line also uses the public
# names of the package itself.
ROOMS = (
    "native",
    "simulation",
    "codec",
    "transform",
    "hdf5",
    "movies",
    "calibration",
    "compression",
    "diagnostics",
    "live",
    "cli",
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


GRAPH = import_graph(SOURCE)
FOLDERS = sorted({path.parent for path in SOURCE.rglob("*.py")})


def test_no_circle_of_imports() -> None:
    """No file of the package imports itself by way of other files, inside functions or not."""
    circle = find_circle(GRAPH)
    assert not circle, " → ".join(reversed(circle))


def test_no_file_imports_the_package_around_it() -> None:
    """A file imports no ``__init__`` of the folders around it, which import from below."""
    for module, targets in GRAPH.items():
        above = {target for target in targets if module.startswith(f"{target}.")}
        if module.startswith(f"{SOURCE.name}.cli."):
            above.discard(SOURCE.name)
        assert not above, f"{module} imports {above}"


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_stand_one_above_the_other(room: str) -> None:
    """No file imports from a room above its own."""
    below = {f"{SOURCE.name}.{name}" for name in ROOMS[: ROOMS.index(room) + 1]}
    below.add(f"{SOURCE.name}._core")
    if room == "cli":
        below.add(SOURCE.name)
    top = f"{SOURCE.name}.{room}"
    inside = [module for module in GRAPH if module == top or module.startswith(f"{top}.")]
    assert inside, f"there is no room {room}"
    for module in inside:
        above = {target for target in GRAPH[module] if ".".join(target.split(".")[:2]) not in below}
        assert not above, f"{module} imports {above}"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.relative_to(SOURCE.parent).as_posix())
def test_folders_side_by_side_do_not_import_each_other(folder: Path) -> None:
    """Among the folders inside one folder, imports go one way."""
    package = ".".join(folder.relative_to(SOURCE.parent).parts)
    inside = {path.name for path in FOLDERS if path.parent == folder}
    graph: dict[str, set[str]] = {name: set() for name in inside}
    for module, targets in GRAPH.items():
        for target in targets:
            if not (module.startswith(f"{package}.") and target.startswith(f"{package}.")):
                continue
            one, other = (name[len(package) + 1 :].partition(".")[0] for name in (module, target))
            if one != other and one in inside and other in inside:
                graph[one].add(other)
    circle = find_circle(graph)
    assert not circle, " → ".join(reversed(circle))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.relative_to(SOURCE.parent).as_posix())
def test_a_folder_holds_few_files(folder: Path) -> None:
    """No folder holds more Python files than one can survey."""
    files = sorted(path.name for path in folder.glob("*.py"))
    assert 0 < len(files) <= MOST_FILES, files


def test_every_file_is_in_a_room() -> None:
    """At the top of the package there are rooms and nothing else: a new file goes into one of them."""
    top = {path.relative_to(SOURCE).parts[0].removesuffix(".py") for path in SOURCE.rglob("*.py")}
    assert top - {"__init__"} == set(ROOMS)


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
