"""Whatever file a movie comes in, the same numbers are stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from movie_files import KINDS, ZARR_3, write_movie

from anscombe_transform.calibration import Sensitivity
from anscombe_transform.compression import compress
from anscombe_transform.movies import open_movie

KNOWN = Sensitivity.from_known(conversion_gain=90.0, zero_level=50.0)
OPTIONS = {"sensitivity": KNOWN, "zarr_format": 3 if ZARR_3 else 2, "chunks": (5, -1, -1)}


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_gives_the_same_numbers(kind: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """A movie from a file decodes to what the same movie from memory decodes to, value by value."""
    frames = (50 + 90 * rng.poisson(8, (12, 40, 56))).astype(np.int16)
    folder = tmp_path / "source"
    folder.mkdir()
    source, options = write_movie(kind, folder, frames)
    expected = compress(frames, tmp_path / "memory.zarr", **OPTIONS)
    with open_movie(source, **options) as movie:
        stored = compress(movie, tmp_path / "file.zarr", **OPTIONS)
    assert stored.verification.ok
    np.testing.assert_array_equal(stored.array[:].astype(np.int64), expected.array[:].astype(np.int64))
