"""Arrays of codes that other programs wrote become arrays of signals."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from anscombe_transform import Sensitivity, simulate_movie, verify
from anscombe_transform.compression import VerificationError, describe
from anscombe_transform.live import adopt

KNOWN = Sensitivity.from_known(conversion_gain=90.0, zero_level=50.0)


@pytest.fixture(scope="module")
def movie() -> Any:
    """A movie that doesn't fill its last chunks."""
    return simulate_movie((50, 48, 64), conversion_gain=90.0, zero_level=50.0, rng=0)[0]


@pytest.mark.parametrize(
    "options",
    [{}, {"shards": (32, 48, 64)}, {"zarr_format": 2}, {"compressors": None}],
    ids=["chunks", "shards", "V2", "bare"],
)
def test_codes_become_signals(tmp_path: Path, movie: Any, options: dict[str, Any]) -> None:
    """Values are those of the codec, the record has checksums, and damage is found."""
    codec = KNOWN.codec(sample=movie, zarr_format=options.get("zarr_format", 3))
    path = tmp_path / "a.zarr"
    codes = codec.plan.encode(movie)
    zarr.create_array(path, data=codes, chunks=(16, 24, 32), attributes={"mine": 1}, **options)
    found = adopt(path, codec, metadata={"frame_rate": 30.0})
    stored = zarr.open_array(path, mode="r")
    assert stored.dtype == movie.dtype
    assert stored.attrs["mine"] == 1
    np.testing.assert_array_equal(stored[:], codec.plan.decode(codes))
    assert found.complete
    assert found.provenance is not None
    assert found.provenance["verification"] is None
    assert verify(path, movie).ok
    assert verify(path).ok
    chunk = next(name for name in (path / "c" / "0" / "0" / "0", path / "0.0.0") if name.exists())
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)
    with suppress(VerificationError):  # unreadable, where its codec has a checksum
        assert not verify(path).ok


def test_what_is_no_array_of_these_codes_is_refused(tmp_path: Path, movie: Any) -> None:
    """Another dtype, codes beyond the codec's, the other format, and an array adopted before."""
    codec = KNOWN.codec(sample=movie)
    path = tmp_path / "a.zarr"
    zarr.create_array(path, data=codec.plan.encode(movie))
    with pytest.raises(ValueError, match="other"):
        adopt(path, KNOWN.codec(sample=movie, zarr_format=2))
    adopt(path, codec)
    with pytest.raises(ValueError, match="already"):
        adopt(path, codec)
    wide = tmp_path / "wide.zarr"
    zarr.create_array(wide, data=movie)
    with pytest.raises(ValueError, match="int16"):
        adopt(wide, codec)
    beyond = tmp_path / "beyond.zarr"
    zarr.create_array(beyond, data=np.full((4, 8, 8), 255, "uint8"))
    assert len(codec.plan.bins[0]) < 255
    with pytest.raises(ValueError, match="code 255"):
        adopt(beyond, codec)
    assert zarr.open_array(beyond, mode="r").dtype == np.uint8
    with pytest.raises(FileNotFoundError):
        adopt(tmp_path / "nothing.zarr", codec)
    with pytest.raises(ValueError, match="folder of this computer"):
        adopt("s3://bucket/a.zarr", codec)


def test_an_adopted_array_says_what_was_not_proven(tmp_path: Path, movie: Any) -> None:
    """No verification is claimed, since there was no source to compare with."""
    path = tmp_path / "a.zarr"
    codec = KNOWN.codec(sample=movie)
    zarr.create_array(path, data=codec.plan.encode(movie))
    adopt(path, codec)
    text = str(describe(path))
    assert "another program" in text
    assert "all" not in text.partition("verification")[2].split("\n")[0]
