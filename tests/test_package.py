"""The package as a whole: what an import costs, and which names there are."""

from __future__ import annotations

import subprocess
import sys

import pytest

import anscombe_transform

HEAVY = ("zarr", "matplotlib", "sklearn", "scipy", "dask", "h5py", "tifffile", "typer", "xarray")


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
