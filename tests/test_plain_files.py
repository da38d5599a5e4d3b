"""Plain files hold the decoded values with stock compression, verified and recorded as arrays are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

h5py = pytest.importorskip("h5py")
tifffile = pytest.importorskip("tifffile")

from movie_files import changed_hdf5  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

import anscombe_transform as at  # noqa: E402
from anscombe_transform.cli.commands import app  # noqa: E402
from anscombe_transform.compression import VerificationError, describe  # noqa: E402

KNOWN = {"conversion_gain": 40.0, "zero_level": 100.0, "read_noise": 6.0}
FILES = ("movie.h5", "movie.tif", "movie.btf", "movie.ome.tif")


@pytest.fixture
def movie(rng: np.random.Generator) -> np.ndarray:
    """40 frames of a scene with light and shade."""
    photons = rng.poisson(rng.uniform(5, 60, (1, 40, 72)), (40, 40, 72))
    return (100 + 40 * photons + np.rint(rng.normal(0, 6, photons.shape))).astype("int16")


def compress(movie: Any, path: Any, **options: Any) -> Any:
    """A plain file with known constants."""
    return at.compress(movie, path, plain=True, sensitivity=at.Sensitivity.from_known(**KNOWN), **options)


def stored_values(path: Path) -> np.ndarray:
    """The values as a program reads them that knows nothing of this package."""
    if path.suffix == ".h5":
        with h5py.File(path, "r") as file:
            dataset = file["movie"]
            assert (dataset.compression, dataset.shuffle) == ("gzip", False)
            return dataset[:]
    with tifffile.TiffFile(path) as tiff:
        assert tiff.pages[0].compression.name == "ADOBE_DEFLATE"
        assert tiff.is_bigtiff == (path.suffix == ".btf")
    return tifffile.imread(path)


@pytest.mark.parametrize("dtype", ["int16", "uint16", "float32"])
@pytest.mark.parametrize("name", FILES)
def test_a_plain_file_has_the_decoded_values(
    name: str, dtype: str, movie: np.ndarray, tmp_path: Path
) -> None:
    """Stock readers find the values that a Zarr array decodes to, and the record is the array's."""
    movie = movie.clip(0).astype(dtype)
    result = compress(movie, tmp_path / name)
    array = at.compress(movie, tmp_path / "a.zarr", sensitivity=at.Sensitivity.from_known(**KNOWN)).array
    np.testing.assert_array_equal(stored_values(tmp_path / name), array[:])
    assert result.stored_bytes == (tmp_path / name).stat().st_size < movie.nbytes
    assert result.verification.ok
    assert "times smaller" in str(result)
    found = describe(tmp_path / name)
    assert found.complete
    assert found.changed is None
    assert "plain" in str(found)
    assert found.provenance["checksums"] == describe(tmp_path / "a.zarr").provenance["checksums"]
    assert at.verify(tmp_path / name).against == "checksums"
    assert at.verify(tmp_path / name).compared == movie.size
    assert at.verify(tmp_path / name, movie).ok
    assert not at.verify(tmp_path / name, movie[::-1].copy()).ok
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "a.zarr"])
    with at.open_movie(tmp_path / name) as stored:
        np.testing.assert_array_equal(stored[:], array[:])


def test_a_changed_value_is_found(movie: np.ndarray, tmp_path: Path) -> None:
    """A value that was written later has another checksum, and a record that was edited is none."""
    compress(movie, tmp_path / "movie.h5")
    with changed_hdf5(tmp_path / "movie.h5") as file:
        file["movie"][3, 4, 5] += 1
    found = at.verify(tmp_path / "movie.h5")
    assert not found.ok
    assert not at.verify(tmp_path / "movie.h5", movie).ok
    compress(movie, tmp_path / "movie.h5", overwrite=True)
    with changed_hdf5(tmp_path / "movie.h5") as file:
        document = json.loads(file["movie"].attrs["anscombe_transform"])
        document["anscombe_transform"]["beta"] = 2.0
        file["movie"].attrs["anscombe_transform"] = json.dumps(document)
    assert describe(tmp_path / "movie.h5").changed is not None
    with pytest.raises(VerificationError, match="edited"):
        at.verify(tmp_path / "movie.h5")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("movie.zarr", {}, r"--plain.*\.tif"),
        ("movie.nwb", {}, "--plain"),
        ("movie.tif", {"shards": (16, 40, 72)}, "--shards"),
        ("movie.tif", {"resume": True}, "--resume"),
        ("movie.tif", {"nwb": {"rate": 3}}, "--nwb"),
        ("absent/movie.tif", {}, "no folder"),
    ],
)
def test_what_makes_no_sense_is_refused(
    name: str, options: dict[str, Any], message: str, movie: np.ndarray, tmp_path: Path
) -> None:
    """Names and options of other targets are errors that name the option, and nothing is left."""
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        compress(movie, tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


def test_what_is_there_stays(movie: np.ndarray, tmp_path: Path) -> None:
    """Nothing is overwritten unasked, nor the source, nor a file that was not written so."""
    compress(movie, tmp_path / "movie.tif")
    with pytest.raises(FileExistsError, match="--overwrite"):
        compress(movie, tmp_path / "movie.tif")
    assert compress(movie, tmp_path / "movie.tif", overwrite=True).verification.ok
    tifffile.imwrite(tmp_path / "raw.tif", movie)
    with pytest.raises((FileExistsError, ValueError)):
        compress(tmp_path / "raw.tif", tmp_path / "raw.tif", overwrite=True)
    with pytest.raises(FileExistsError):
        compress(movie, tmp_path / "raw.tif", overwrite=True)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "raw.tif"), movie)
    (tmp_path / "new.tif.partial").mkdir()
    (tmp_path / "new.tif.partial" / "stored.zarr").mkdir()
    with pytest.raises(FileExistsError, match="interrupted"):
        compress(movie, tmp_path / "new.tif")
    assert compress(movie, tmp_path / "new.tif", overwrite=True).verification.ok


def test_the_command_line(movie: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`anscombe compress --plain` writes a file that info and verify know."""
    monkeypatch.chdir(tmp_path)
    np.save("movie.npy", movie)
    known = ["--gain", "40", "--zero-level", "100", "--read-noise", "6"]
    for words, code in (
        (["compress", "movie.npy", "movie.tif", "--plain", *known], 0),
        (["info", "movie.tif"], 0),
        (["verify", "movie.tif"], 0),
        (["verify", "movie.tif", "--against", "movie.npy"], 0),
        (["compress", "movie.npy", "movie.zarr", "--plain", *known], 2),
        (["compress", "movie.npy", "movie.npy", "folder/", "--plain", *known], 2),
    ):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == code, done.output
