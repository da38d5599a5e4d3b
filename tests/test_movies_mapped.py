"""Files that are cut while they are read from memory maps: an error, never the end of the process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anscombe_transform import Sensitivity, compress, open_movie

MOVIE = (50 + 90 * np.random.default_rng(0).poisson(8, (64, 64, 64))).astype("int16")
KNOWN = Sensitivity.from_known(conversion_gain=90.0, zero_level=50.0)


def fortran_file(path: Path) -> Any:
    """A file whose time varies fastest."""
    np.save(path, np.asfortranarray(MOVIE))
    return path


def c_file(path: Path) -> Any:
    """An ordinary file."""
    np.save(path, MOVIE)
    return path


def memory_map(path: Path) -> Any:
    """A map that the caller has opened."""
    np.save(path, MOVIE)
    return np.load(path, mmap_mode="r")


def view_of_a_map(path: Path) -> Any:
    """Every other frame of a map, as a plain array."""
    return np.asarray(memory_map(path)[::2])


@pytest.mark.parametrize("make", [fortran_file, c_file, memory_map, view_of_a_map])
def test_a_cut_file_is_an_error(tmp_path: Path, make: Any) -> None:
    """Frames beyond the new end raise ValueError or OSError that speaks of the file."""
    path = tmp_path / "movie.npy"
    with open_movie(make(path)) as movie:
        np.testing.assert_array_equal(movie.frames(0, 2)[0], MOVIE[0])
        os.truncate(path, 4096)
        with pytest.raises((ValueError, OSError), match=r"movie\.npy"):
            movie.frames(movie.shape[0] - 2, movie.shape[0])


def test_a_whole_map_is_stored(tmp_path: Path) -> None:
    """A view of a map of a file that stays whole is compressed as any array is."""
    result = compress(view_of_a_map(tmp_path / "movie.npy"), tmp_path / "m.zarr", sensitivity=KNOWN)
    assert result.array.shape == (32, 64, 64)
