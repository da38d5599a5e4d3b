"""Odd input is stored within its bound, or refused by an error that says what is wrong and what would do."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import anscombe_transform as at
from anscombe_transform.codec.transform.choice import choose_configuration

zarr = pytest.importorskip("zarr")
ZARR_3 = int(zarr.__version__.partition(".")[0]) >= 3
NEWEST = 3 if ZARR_3 else 2
KNOWN = at.Sensitivity.from_known(conversion_gain=2.0, zero_level=100.0, read_noise=3.0)


@pytest.fixture
def movie(rng: np.random.Generator) -> NDArray[np.uint16]:
    """A movie of a camera, of no round size."""
    return (100 + 2 * rng.poisson(50, (9, 14, 18))).astype("uint16")


def _compress(source: Any, store: Any, **options: Any) -> at.CompressionResult:
    return at.compress(source, store, **({"sensitivity": KNOWN, "zarr_format": NEWEST} | options))


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- what is there already ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["path", "link", "relative", "array", "movie"])
def test_the_source_is_never_overwritten(
    kind: str, tmp_path: Path, movie: NDArray[np.uint16], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whatever name or object the source is given, its own place is refused as the destination."""
    store = tmp_path / "movie.zarr"
    _compress(movie, store)
    before = _files(store)
    source: Any = store
    if kind == "link":
        source = tmp_path / "link.zarr"
        source.symlink_to(store)
    elif kind == "relative":
        monkeypatch.chdir(tmp_path)
        source = "./movie.zarr"
    elif kind == "array":
        source = zarr.open_array(str(store), mode="r")
    elif kind == "movie":
        source = at.open_movie(store)
    for write in (_compress, at.write_ome_zarr) if ZARR_3 else (_compress,):
        with pytest.raises(ValueError, match="the original would be gone"):
            write(source, store, overwrite=True, sensitivity=KNOWN)
    with pytest.raises(ValueError, match="lies in the source"):
        _compress(source, store / "inner.zarr")
    assert _files(store) == before


def test_an_array_in_a_group_is_not_overwritten_by_itself(tmp_path: Path, movie: NDArray[np.uint16]) -> None:
    """``group.zarr::name`` is a place too; beside it in the same group there is room."""
    group = zarr.open_group(str(tmp_path / "g.zarr"), mode="w")
    group["a"] = movie
    before = _files(tmp_path)
    with pytest.raises(ValueError, match="the original would be gone"):
        _compress(f"{tmp_path}/g.zarr::a", f"{tmp_path}/g.zarr::a", overwrite=True)
    assert _files(tmp_path) == before
    _compress(f"{tmp_path}/g.zarr::a", f"{tmp_path}/g.zarr::small")
    assert before.items() <= _files(tmp_path).items()


@pytest.mark.skipif(not ZARR_3, reason="stores of zarr-python 3")
def test_a_store_is_not_overwritten_by_what_is_read_from_it(
    tmp_path: Path, movie: NDArray[np.uint16]
) -> None:
    """A store in memory, a local store and a URL are recognised."""
    store = zarr.storage.MemoryStore()
    _compress(movie, store)
    with pytest.raises(ValueError, match="the original would be gone"):
        _compress(zarr.open_array(store, mode="r"), store, overwrite=True)
    assert at.verify(store, movie).ok
    _compress(movie, tmp_path / "a.zarr")
    with pytest.raises(ValueError, match="the original would be gone"):
        _compress(tmp_path / "a.zarr", zarr.storage.LocalStore(tmp_path / "a.zarr"), overwrite=True)
    assert at.verify(tmp_path / "a.zarr", movie).ok


def test_a_group_is_not_overwritten_as_a_whole(tmp_path: Path, movie: NDArray[np.uint16]) -> None:
    """Overwriting is for arrays, and for images of nothing but their levels; other arrays would go too."""
    group = zarr.open_group(str(tmp_path / "session.zarr"), mode="w")
    group["behaviour"] = np.arange(5)
    before = _files(tmp_path)
    with pytest.raises(FileExistsError, match=r'holds behaviour.*"\S+session.zarr::name"'):
        _compress(movie, tmp_path / "session.zarr", overwrite=True)
    assert _files(tmp_path) == before
    if not ZARR_3:
        return
    image = tmp_path / "image.ome.zarr"
    for overwrite in (False, True):
        at.write_ome_zarr(movie, image, sensitivity=KNOWN, overwrite=overwrite)
    zarr.open_group(str(image), mode="r+").create_group("labels")
    with pytest.raises(FileExistsError, match="holds 0, labels"):
        at.write_ome_zarr(movie, image, sensitivity=KNOWN, overwrite=True)
    shutil.rmtree(image / "labels")
    at.write_ome_zarr(movie, image, sensitivity=KNOWN, overwrite=True)


@pytest.mark.parametrize(
    ("store", "error", "message"),
    [
        (None, TypeError, "store must be a path"),
        ("", ValueError, "must name"),
        ("/", ValueError, "must name"),
    ],
)
def test_a_destination_has_a_name(
    store: Any, error: type[Exception], message: str, movie: NDArray[np.uint16]
) -> None:
    """Nothing is written to nowhere."""
    with pytest.raises(error, match=message):
        _compress(movie, store)


# --- what is stored -------------------------------------------------------------------------------------


def test_masked_arrays_are_refused(movie: NDArray[np.uint16], tmp_path: Path) -> None:
    """What is behind a mask would come back as if it had been measured."""
    masked = np.ma.masked_greater(movie, 220)
    codec = KNOWN.codec(zarr_format=2, sample=movie)
    for take in (
        codec.encode,
        at.compute_sensitivity,
        lambda values: KNOWN.codec(sample=values),
        lambda values: _compress(values, tmp_path / "a.zarr"),
    ):
        with pytest.raises(ValueError, match="is masked"):
            take(masked)


def test_dask_arrays_of_unknown_length_say_what_to_do(movie: NDArray[np.uint16], tmp_path: Path) -> None:
    """Frames that were picked by their content have lengths that dask does not know."""
    array = pytest.importorskip("dask.array").from_array(movie, chunks=(4, 14, 18))
    picked = array[array.mean(axis=(1, 2)) > 0]
    for take in (at.compute_sensitivity, at.open_movie, lambda a: _compress(a, tmp_path / "a.zarr")):
        with pytest.raises(ValueError, match="compute_chunk_sizes"):
            take(picked)
    assert _compress(picked.compute_chunk_sizes(), tmp_path / "a.zarr").verification.ok


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.inf, "no infinities"),
        (-np.inf, "no infinities"),
        (1e300, r"beyond ±2\*\*52"),
        (1e14, "no beta would do"),
        (2e9, r"beta=\d"),
    ],
)
def test_values_that_are_no_light_are_refused_in_words(
    value: float, message: str, movie: NDArray[np.uint16], tmp_path: Path
) -> None:
    """One value far outside has the error name the range, and a step only if there is one."""
    broken = movie.astype("float64")
    broken[3, 4, 5] = value
    with pytest.raises(ValueError, match=message):
        _compress(broken, tmp_path / "a.zarr")
    assert not list(tmp_path.iterdir())
    broken[3, 4, 5] = np.nan
    assert _compress(broken, tmp_path / "a.zarr").verification.ok


def test_an_infinity_in_a_sample_has_its_place(movie: NDArray[np.uint16]) -> None:
    """A sample of frames says where; steps too fine for any code are an error of the range."""
    broken = movie.astype("float32")
    broken[3, 4, 5] = np.inf
    with pytest.raises(ValueError, match=r"index \(3, 4, 5\)"):
        KNOWN.codec(sample=broken)
    with pytest.raises(ValueError, match=r"needs \d+ codes at"):
        KNOWN.codec(sample=movie + np.float32(0.3), beta=1e-9)
    with pytest.raises(TypeError, match="integers or floats"):
        choose_configuration(2.0, 100.0, sample=movie.astype("datetime64[s]"))


@pytest.mark.parametrize("gain", ["2", None, True, 0, -1, np.nan, np.inf])
def test_known_constants_are_numbers(gain: Any) -> None:
    """A constant that is none is named."""
    with pytest.raises((TypeError, ValueError), match="conversion_gain must be"):
        at.Sensitivity.from_known(conversion_gain=gain, zero_level=0)


def test_a_sensitivity_is_one(movie: NDArray[np.uint16], tmp_path: Path) -> None:
    """A gain alone is no calibration."""
    with pytest.raises(TypeError, match="sensitivity must be"):
        _compress(movie, tmp_path / "a.zarr", sensitivity=2.0)


@pytest.mark.skipif(not ZARR_3, reason="Zarr format 2 does not tell a codec the fill value")
def test_a_fill_value_that_fits_is_proposed(movie: NDArray[np.uint16]) -> None:
    """The default of 0, which a camera's codec may not hold, is refused with one that it holds."""
    far = at.Sensitivity.from_known(conversion_gain=0.3, zero_level=1000)
    codec = far.codec(sample=1000 + movie % 100)
    options = {"shape": movie.shape, "chunks": movie.shape, "dtype": "uint16", "filters": [codec]}
    with pytest.raises(ValueError, match="another fill_value, such as") as error:
        zarr.create_array({}, **options)
    proposed = int(str(error.value).rstrip(".").rpartition(" ")[2])
    array = zarr.create_array({}, fill_value=proposed, **options)
    assert (array[:] == proposed).all()


@pytest.mark.skipif(not ZARR_3, reason="needs zarr-python 3")
@pytest.mark.parametrize("preset", ["fast", "compact", "portable"])
def test_parts_of_chunks_can_be_written_again(preset: Any, movie: NDArray[np.uint16]) -> None:
    """Writing a corner of a chunk leaves its other values as they were, however often."""
    pipeline = at.codec_pipeline(KNOWN, sample=movie, preset=preset)
    array = zarr.create_array(
        {}, shape=movie.shape, chunks=(4, 7, 7), dtype="uint16", fill_value=150, **pipeline
    )
    array[:] = movie
    before = array[:]
    wanted = movie.copy()
    for frame in range(5):
        wanted[frame : frame + 2, 2:9, 3:12] = 160 + frame
        array[frame : frame + 2, 2:9, 3:12] = 160 + frame
    untouched = wanted == movie
    np.testing.assert_array_equal(array[:][untouched], before[untouched])
    codec = KNOWN.codec(sample=movie)
    assert (np.abs(array[:].astype(int) - wanted.astype(int)) <= codec.max_error(wanted)).all()
    with pytest.raises(ValueError, match="has no code"):
        array.append(np.full((2, 14, 18), 65535, "uint16"))
    np.testing.assert_array_equal(array[: len(movie)][untouched], before[untouched])


@pytest.mark.skipif(not ZARR_3, reason="needs zarr-python 3")
@pytest.mark.parametrize("options", [{}, {"shards": (8, 14, 18)}, {"zarr_format": 2}])
def test_a_lost_chunk_is_an_error(options: Any, movie: NDArray[np.uint16], tmp_path: Path) -> None:
    """A chunk that is gone from the disk is not read as the fill value, from the path or the array."""
    store = tmp_path / "a.zarr"
    _compress(movie, store, chunks=(4, 14, 18), **options)
    at.decompress(store, tmp_path / "whole.npy")
    metadata = ("zarr.json", ".zarray", ".zattrs")
    next(path for path in store.rglob("*") if path.is_file() and path.name not in metadata).unlink()
    for source in (store, zarr.open_array(str(store), mode="r")):
        with pytest.raises(ValueError, match=r"lacks \d of \d chunks, .*: they were lost"):
            at.decompress(source, tmp_path / "part.npy")
    with pytest.raises(ValueError, match="lacks"):
        at.compute_sensitivity(store)
    assert not at.verify(store).ok
    assert not (tmp_path / "part.npy").exists()
