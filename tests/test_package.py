"""The package as a whole: what an import costs, which way imports point, which names there are."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import anscombe_transform

SOURCE = Path(anscombe_transform.__file__).parent
HEAVY = ("zarr", "matplotlib", "sklearn", "scipy", "dask", "h5py", "tifffile", "typer", "xarray")

# The native core, its definitions and durable writes, which import nothing of ours and serve every module.
CORE = {"native", "_core"}

# Who may import whom.
ALLOWED: dict[str, set[str]] = {
    "native": set(),
    # Of the codec the reader of HDF5 needs the filter.
    "movies": {"codec"},
    "simulation": set(),
    "codec": {"calibration"},
    "transform": {"codec"},
    "hdf5": {"codec"},
    "calibration": {"transform", "codec", "movies"},
    "compression": {"codec", "calibration", "movies"},
    "diagnostics": {"codec", "calibration", "compression", "movies"},
    "live": {"calibration", "codec", "compression", "movies"},
    "cli": {
        "codec",
        "calibration",
        "compression",
        "diagnostics",
        "live",
        "movies",
        "simulation",
    },
}


def test_importing_loads_nothing_heavy() -> None:
    """A bare import of the package and its V2 codec loads no zarr, matplotlib or their like."""
    script = (
        "import sys, anscombe_transform as at; at.AnscombeTransformV2(20, 30.0);"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_exists() -> None:
    """Each name of ``__all__`` is there, and is listed by dir()."""
    for name in anscombe_transform.__all__:
        assert getattr(anscombe_transform, name) is not None
        assert name in dir(anscombe_transform)
    assert isinstance(anscombe_transform.__version__, str)
    with pytest.raises(AttributeError, match="photons"):
        _ = anscombe_transform.photons


def imports_of(path: Path) -> set[str]:
    """The modules of ours that a file imports, by their first name, however deep the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names = [node.module or ""]
            if node.module == "anscombe_transform":
                names = [f"anscombe_transform.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "anscombe_transform" and len(parts) > 1:
                found.add(parts[1])
    return found


@pytest.mark.parametrize(
    "path", sorted(SOURCE.rglob("*.py")), ids=lambda path: path.relative_to(SOURCE).as_posix()
)
def test_imports_point_downward(path: Path) -> None:
    """No module imports what stands above it."""
    module = path.relative_to(SOURCE).with_suffix("").parts[0]
    if module == "__init__":
        return
    foreign = imports_of(path) - ALLOWED[module] - {module, *CORE}
    assert not foreign, f"{path.name} imports {foreign}"
