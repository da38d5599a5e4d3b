"""Programs in other languages read the same values from HDF5, by the filter as a plug-in."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anscombe_transform import Sensitivity, compress, native

h5py = pytest.importorskip("h5py")
pytest.importorskip("zarr", minversion="3.1.1")
import anscombe_transform.hdf5  # noqa: E402

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "java" / "ReadMovie.java"
# Where Debian and Ubuntu have the binding of HDF5 for Java (package libhdf5-java).
JARS, LIBRARIES = Path("/usr/share/java"), Path("/usr/lib/x86_64-linux-gnu/jni")
KNOWN = Sensitivity.from_known(conversion_gain=90.0, zero_level=50.0)

pytestmark = pytest.mark.skipif(not native.IS_NATIVE, reason="the plug-in is part of the native core")


@pytest.fixture
def stored(tmp_path: Path, rng: np.random.Generator) -> tuple[Path, Any]:
    """A movie in HDF5, and its decoded values."""
    movie = (50 + 90 * rng.poisson(8, (40, 24, 32))).astype("int16")
    compress(movie, tmp_path / "movie.h5", sensitivity=KNOWN)
    with h5py.File(tmp_path / "movie.h5") as file:
        return tmp_path / "movie.h5", file["movie"][:]


def run(*command: str, folder: Path) -> str:
    """What a program prints that finds the plug-in."""
    environment = os.environ | {"HDF5_PLUGIN_PATH": str(anscombe_transform.hdf5.plugin_path())}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_java_reads_frames(stored: tuple[Path, Any]) -> None:
    """The example in Java reads a run of frames and sums them."""
    jars = [JARS / name for name in ("jarhdf5.jar", "slf4j-api.jar", "slf4j-nop.jar")]
    if shutil.which("javac") is None or not all(jar.exists() for jar in jars):
        pytest.skip("needs javac and the packages libhdf5-java and libslf4j-java")
    path, values = stored
    classes = ":".join([*map(str, jars), "."])
    run("javac", "-d", ".", "-cp", classes, str(EXAMPLE), folder=path.parent)
    told = run(
        *("java", f"-Djava.library.path={LIBRARIES}", "-cp", classes, "ReadMovie"),
        *(path.name, "/movie", "3", "5"),
        folder=path.parent,
    )
    part = values[3:8]
    assert [int(word) for word in told.split()] == [*values.shape, part.flat[0], part.sum(dtype=int)]


def test_octave_reads_the_movie(stored: tuple[Path, Any]) -> None:
    """Octave loads the dataset whole, with the axes the other way round, as MATLAB has them."""
    if shutil.which("octave-cli") is None:
        pytest.skip("needs octave")
    path, values = stored
    script = f"m = load('-hdf5', '{path.name}').movie; printf('%d ', size(m), m(1, 1, 4), sum(double(m(:))))"
    told = [float(word) for word in run("octave-cli", "--eval", script, folder=path.parent).split()]
    assert told == [*values.shape[::-1], values[3, 0, 0], values.sum(dtype=float)]


def test_julia_reads_the_movie(stored: tuple[Path, Any]) -> None:
    """HDF5.jl reads the dataset, with the axes the other way round."""
    if shutil.which("julia") is None:
        pytest.skip("needs julia with the package HDF5")
    path, values = stored
    script = f'using HDF5; m = h5read("{path.name}", "movie"); '
    script += 'print(join([size(m)..., m[1, 1, 4], sum(Int.(m))], " "))'
    told = [int(word) for word in run("julia", "-e", script, folder=path.parent).split()]
    assert told == [*values.shape[::-1], values[3, 0, 0], values.sum(dtype=int)]
