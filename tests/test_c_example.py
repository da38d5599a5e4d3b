"""The C example reads a chunk that the package wrote, and refuses a damaged one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from anscombe_transform import Sensitivity, compress, simulate_movie

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler on this machine")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, compiled by the command in its head, with every warning an error."""
    built = tmp_path_factory.mktemp("c") / "read_chunk"
    core = ROOT / "src" / "libanscombe"
    sources = [ROOT / "examples" / "c" / "read_chunk.c", *sorted(core.glob("*.c"))]
    command = ["cc", "-std=c11", "-O2", "-Wall", "-Werror", "-I", str(core), *map(str, sources), "-lm"]
    subprocess.run([*command, "-o", str(built)], check=True)
    return built


@pytest.mark.parametrize("preset", ["fast", "compact"])
def test_a_chunk_is_read_from_c(program: Path, tmp_path: Path, preset: str) -> None:
    """The values are those that zarr gives; a flipped bit is an error and prints no value."""
    movie, _ = simulate_movie((20, 40, 50), conversion_gain=90.0, zero_level=50.0, rng=0)
    known = Sensitivity.from_known(conversion_gain=90.0, zero_level=50.0)
    result = compress(movie, tmp_path / "m.zarr", sensitivity=known, preset=preset, chunks=(20, 40, 50))  # type: ignore[arg-type]
    plan = result.codec.plan
    table = plan.decode(np.arange(len(plan.bins[0]), dtype="uint8")).astype("int16")
    table.tofile(tmp_path / "table.raw")
    chunk = tmp_path / "m.zarr" / "c" / "0" / "0" / "0"
    command = [str(program), str(chunk), str(tmp_path / "table.raw"), "20", "40", "50"]
    done = subprocess.run(command, check=True, capture_output=True)
    np.testing.assert_array_equal(np.frombuffer(done.stdout, "int16").reshape(movie.shape), result.array[:])
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)
    damaged = subprocess.run(command, check=False, capture_output=True)
    assert (damaged.returncode, damaged.stdout) == (1, b"")
    assert b"damaged" in damaged.stderr
