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


@pytest.mark.parametrize("encoded_dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_stock_codecs_check_their_bytes(zarr_format: int, encoded_dtype: str, tmp_path: Path) -> None:
    """In a chunk of the preset portable every flipped bit is an error, or changes no value."""
    zarr = pytest.importorskip("zarr")
    if zarr_format == 3 and int(zarr.__version__.partition(".")[0]) < 3:
        pytest.skip("zarr-python 2 has no format 3")
    movie = (20 + 30 * np.random.default_rng(0).poisson(9, (4, 8, 16))).astype("int16")
    known = Sensitivity.from_known(conversion_gain=30, zero_level=20, read_noise=12)
    array = compress(
        movie,
        tmp_path / "p.zarr",
        sensitivity=known,
        preset="portable",
        zarr_format=zarr_format,
        encoded_dtype=encoded_dtype,
    ).array
    (chunk,) = (
        p
        for p in (tmp_path / "p.zarr").rglob("*")
        if p.is_file() and p.name not in ("zarr.json", ".zarray", ".zattrs")
    )
    right, stored = array[:], chunk.read_bytes()
    for bit in range(8 * len(stored)):
        damaged = bytearray(stored)
        damaged[bit // 8] ^= 1 << bit % 8
        chunk.write_bytes(bytes(damaged))
        try:
            found = array[:]
        except Exception:  # every codec has its own kind
            continue
        np.testing.assert_array_equal(found, right)
