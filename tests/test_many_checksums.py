"""More checksums than a record should hold are a document beside the array, and as good there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

zarr = pytest.importorskip("zarr", minversion="3")

from anscombe_transform import Sensitivity, compress, decompress, verify, write_ome_zarr  # noqa: E402
from anscombe_transform.compression import VerificationError, describe  # noqa: E402
from anscombe_transform.compression.stored import notes as notes_module  # noqa: E402
from anscombe_transform.compression.stored.keys import keys_of  # noqa: E402
from anscombe_transform.live import StreamWriter  # noqa: E402

KNOWN = Sensitivity.from_known(conversion_gain=90.0, zero_level=50.0)

pytestmark = pytest.mark.usefixtures("small_blocks")


@pytest.fixture
def movie(rng: np.random.Generator) -> NDArray[np.int16]:
    """A movie of several blocks."""
    return (50 + 90 * rng.poisson(8, (48, 20, 20))).astype(np.int16)


def _live(movie: NDArray[np.int16], place: Any) -> None:
    with StreamWriter(place, movie.shape[1:], movie.dtype, sensitivity=KNOWN, chunks=(8, 20, 20)) as writer:
        writer.append(movie)


def _whole(**options: Any) -> Callable[[NDArray[np.int16], Any], None]:
    return lambda movie, place: compress(movie, place, sensitivity=KNOWN, chunks=(8, 20, 20), **options)  # type: ignore[return-value]


def _in_parts(movie: NDArray[np.int16], place: Any) -> None:
    for k in (2, 1):
        compress(movie, place, sensitivity=KNOWN, chunks=(8, 20, 20), part=(k, 2))
    _whole(resume=True)(movie, place)


WRITERS: dict[str, Callable[[NDArray[np.int16], Any], Any]] = {
    "Zarr 3": _whole(),
    "Zarr 2": _whole(zarr_format=2),
    "sharded": _whole(shards=(16, 20, 20)),
    "portable": _whole(preset="portable"),
    "resumed": _whole(resume=True),
    "parts": _in_parts,
    "live": _live,
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_long_list_of_checksums_is_beside_the_array(
    writer: str, movie: NDArray[np.int16], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record names its digest; a check, and every way out, finds it, also in a copy of the folder."""
    monkeypatch.setattr(notes_module, "MOST_IN_RECORD", 2)
    place = tmp_path / "movie.zarr"
    WRITERS[writer](movie, place)
    held = describe(place).provenance["checksums"]["values"]
    assert held["count"] > 2
    shutil.move(place, tmp_path / "moved.zarr")
    place = tmp_path / "moved.zarr"
    assert verify(place).against == "checksums"
    assert verify(place).ok
    assert verify(place, movie).ok
    decompress(place, tmp_path / "movie.npy")
    document = place / ".anscombe" / "checksums.json"
    text = document.read_text()
    for damaged in (text[:-8], text[:-1] + ("0" if text[-1] != "0" else "1"), None):
        document.write_text(damaged) if damaged is not None else document.unlink()
        with pytest.raises(VerificationError, match="document of its checksums is missing or damaged"):
            verify(place)
        with pytest.raises(VerificationError, match="document of its checksums"):
            decompress(place, tmp_path / "again.npy")


def test_a_store_keeps_the_list_among_its_keys(
    movie: NDArray[np.int16], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that is no folder has the document beside the array; a new array takes it away."""
    store = zarr.storage.MemoryStore()
    monkeypatch.setattr(notes_module, "MOST_IN_RECORD", 2)
    _whole()(movie, store)
    array = zarr.open_array(store, mode="r")
    assert keys_of(array).names() == ["checksums"]
    assert verify(store).ok
    monkeypatch.setattr(notes_module, "MOST_IN_RECORD", 2**16)
    _whole(overwrite=True)(movie, store)
    assert keys_of(array).names() == []
    assert verify(store).ok


def test_an_image_and_a_plain_file_have_all_checksums(
    movie: NDArray[np.int16], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An OME-Zarr image has the document in its first level, a plain file the list in its record."""
    pytest.importorskip("h5py")
    monkeypatch.setattr(notes_module, "MOST_IN_RECORD", 2)
    write_ome_zarr(movie, tmp_path / "image.ome.zarr", sensitivity=KNOWN, chunks=(8, 20, 20))
    assert verify(tmp_path / "image.ome.zarr").ok
    compress(movie, tmp_path / "plain.h5", plain=True, sensitivity=KNOWN, chunks=(8, 20, 20))
    assert verify(tmp_path / "plain.h5").ok
    compress(movie, tmp_path / "movie.h5", sensitivity=KNOWN, chunks=(8, 20, 20))
    assert isinstance(describe(tmp_path / "movie.h5").provenance["checksums"]["values"], str)
    assert verify(tmp_path / "movie.h5").ok
