"""Stored movies open as datasets of xarray."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from anscombe_transform import Sensitivity, compress
from anscombe_transform.compression import VerificationError
from anscombe_transform.live import StreamWriter

xarray = pytest.importorskip("xarray")
KNOWN = Sensitivity.from_known(conversion_gain=90.0, zero_level=50.0)


@pytest.fixture(scope="module")
def movie() -> Any:
    """Frames of a camera."""
    return (50 + 90 * np.random.default_rng(0).poisson(8, (20, 24, 32))).astype("int16")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_stored_movie_is_a_dataset(tmp_path: Path, movie: Any, zarr_format: Literal[2, 3]) -> None:
    """Without naming the engine, the values are those of zarr, lazily and in any selection."""
    result = compress(
        movie, tmp_path / "m.zarr", sensitivity=KNOWN, zarr_format=zarr_format, chunks=(5, 24, 32)
    )
    dataset = xarray.open_dataset(tmp_path / "m.zarr")
    assert dataset.movie.dims == ("time", "y", "x")
    assert not dataset.movie.variable._in_memory
    stored = result.array[:]
    np.testing.assert_array_equal(dataset.movie[3:7, ::2, -1], stored[3:7, ::2, -1])
    np.testing.assert_array_equal(dataset.movie.isel(time=[1, 17, 4], x=5), stored[[1, 17, 4], :, 5])
    lazy = xarray.open_dataset(tmp_path / "m.zarr", engine="anscombe", chunks={})
    assert lazy.movie.data.chunksize == (5, 24, 32)
    np.testing.assert_array_equal(lazy.movie.mean("time"), stored.mean(0))


def test_axes_are_in_seconds_and_micrometres(tmp_path: Path, movie: Any) -> None:
    """The frame rate and the pixel size of the record become coordinates with units."""
    known = {"frame_rate": 4.0, "pixel_size": {"y": 0.5, "x": 0.25}}
    with StreamWriter(tmp_path / "m.zarr", (24, 32), "int16", sensitivity=KNOWN, metadata=known) as writer:
        writer.append(movie)
    dataset = xarray.open_dataset(tmp_path / "m.zarr", engine="anscombe")
    assert [dataset[name].attrs["units"] for name in ("time", "y", "x")] == ["s", "µm", "µm"]
    assert [float(dataset[name][-1]) for name in ("time", "y", "x")] == [19 / 4, 23 / 2, 31 / 4]
    assert "movie" not in xarray.open_dataset(tmp_path / "m.zarr", engine="anscombe", drop_variables="movie")


def test_the_engine_knows_its_own(tmp_path: Path, movie: Any) -> None:
    """It offers itself for arrays with a record of ours, and for nothing else."""
    import zarr

    from anscombe_transform.live.xarray_engine import AnscombeEngine

    compress(movie, tmp_path / "m.zarr", sensitivity=KNOWN)
    engine = AnscombeEngine()
    assert engine.guess_can_open(tmp_path / "m.zarr")
    zarr.save_array(str(tmp_path / "other.zarr"), movie)
    (tmp_path / "torn.zarr").mkdir()
    (tmp_path / "torn.zarr" / "zarr.json").write_text("{")
    for other in (tmp_path / "other.zarr", tmp_path / "torn.zarr", tmp_path, "https://x.org/m.zarr", movie):
        assert not engine.guess_can_open(other)
    assert "anscombe" in xarray.backends.list_engines()


def test_a_changed_array_is_refused(tmp_path: Path, movie: Any) -> None:
    """Frames that were appended without the package are no secret."""
    import zarr

    compress(movie, tmp_path / "m.zarr", sensitivity=KNOWN)
    zarr.open_array(str(tmp_path / "m.zarr"), mode="r+").resize((25, 24, 32))
    with pytest.raises(VerificationError, match="changed"):
        xarray.open_dataset(tmp_path / "m.zarr", engine="anscombe")
