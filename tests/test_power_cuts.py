"""After a power cut the array is whole, or the run is resumed to the bytes of an undisturbed one.

ANSCOMBE_POWER_CUTS is how many random moments are tried of each case; 200 take half an hour.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

zarr = pytest.importorskip("zarr", minversion="3")
if sys.platform != "linux":
    pytest.skip("names of open files are read from /proc", allow_module_level=True)

from kill_runs import contents  # noqa: E402
from simulated_disk import Recorder  # noqa: E402

from anscombe_transform import write_ome_zarr  # noqa: E402
from anscombe_transform.calibration import Sensitivity  # noqa: E402
from anscombe_transform.compression import compress, verify  # noqa: E402
from anscombe_transform.native import durable  # noqa: E402

CUTS = int(os.environ.get("ANSCOMBE_POWER_CUTS", "4"))
KNOWN = Sensitivity.from_known(conversion_gain=90.0, zero_level=50.0)
PRESETS = ("fast", "compact", "portable")

pytestmark = pytest.mark.usefixtures("small_blocks")


@pytest.fixture
def movie(rng: np.random.Generator) -> NDArray[np.int16]:
    """A movie of three chunks."""
    return (50 + 90 * rng.poisson(8, (24, 20, 20))).astype(np.int16)


def write(movie: NDArray[Any], path: Path, layout: str, preset: str, zarr_format: int, **given: Any) -> None:
    """One run in a layout."""
    options: dict[str, Any] = {"sensitivity": KNOWN, "preset": preset, "threads": 1} | given
    options |= {"zarr_format": zarr_format, "chunks": (8, 20, 20)}
    if layout == "ome-zarr":
        write_ome_zarr(movie, path, pyramid=1, **options)
    elif layout == "sharded":
        compress(movie, path, **options | {"chunks": (4, 20, 20), "shards": (8, 20, 20)})
    elif layout == "store":
        compress(movie, zarr.storage.LocalStore(path), **options)
    else:
        compress(movie, path, **options)


CASES = [
    *((layout, preset, 3) for layout in ("folder", "sharded", "ome-zarr", "store") for preset in PRESETS),
    *((layout, preset, 2) for layout in ("folder", "ome-zarr", "store") for preset in PRESETS),
]


@pytest.mark.parametrize(("layout", "preset", "zarr_format"), CASES)
def test_power_cuts(
    layout: str, preset: str, zarr_format: int, movie: NDArray[Any], tmp_path: Path, rng: np.random.Generator
) -> None:
    """A cut after the run's end leaves all of it, one before what is resumed to the same bytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    record = Recorder(disk)
    with record.active():
        write(movie, disk / "movie.zarr", layout, preset, zarr_format)
    whole = contents(disk / "movie.zarr")
    assert {name: content for name, content in record.tree().items() if content is not None} == {
        path.relative_to(disk).as_posix(): path.read_bytes() for path in disk.rglob("*") if path.is_file()
    }
    for number in range(CUTS):
        after = tmp_path / f"after{number}"
        after.mkdir()
        record.cut(record.moments[-1], rng, after)
        assert contents(after / "movie.zarr") == whole
        moment = int(rng.choice(record.moments))
        during = tmp_path / f"during{number}"
        during.mkdir()
        record.cut(moment, rng, during)
        path = during / "movie.zarr"
        if path.exists() and layout != "store":
            assert contents(path) == whole, f"after operation {moment} the name stands for something else"
        write(movie, path, layout, preset, zarr_format, resume=True)
        assert contents(path) == whole, f"after operation {moment}"
        assert [p.name for p in during.iterdir()] == ["movie.zarr"]


@pytest.mark.parametrize("layout", ["folder", "ome-zarr"])
def test_a_power_cut_while_an_array_is_replaced(
    layout: str, movie: NDArray[Any], tmp_path: Path, rng: np.random.Generator
) -> None:
    """At every moment the old or the new one is there, at its name or where the next run takes it from."""
    disk = tmp_path / "disk"
    disk.mkdir()
    write(movie[::-1], disk / "movie.zarr", layout, "fast", 3)
    old = contents(disk / "movie.zarr")
    record = Recorder(disk)
    with record.active():
        write(movie, disk / "movie.zarr", layout, "fast", 3, overwrite=True)
    new = contents(disk / "movie.zarr")
    for number in range(5 * CUTS):
        during = tmp_path / f"during{number}"
        during.mkdir()
        moment = int(rng.choice(record.moments))
        record.cut(moment, rng, during)
        path = during / "movie.zarr"
        work = durable.Workspace(path, "array")
        with work.held():
            assert contents(path) in (old, new), f"after operation {moment}"
        write(movie, path, layout, "fast", 3, overwrite=True, resume=bool(number % 2))
        assert contents(path) == new, f"after operation {moment}"
        assert [p.name for p in during.iterdir()] == ["movie.zarr"]
    assert verify(disk / "movie.zarr", movie).ok
