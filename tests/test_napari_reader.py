"""napari finds the reader, and shows stored movies in photons; no display is needed."""

from __future__ import annotations

import importlib
import importlib.metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

import anscombe_transform
from anscombe_transform import Sensitivity, compress, write_ome_zarr
from anscombe_transform.compression import VerificationError
from anscombe_transform.live.napari_reader import get_reader

KNOWN = Sensitivity.from_known(conversion_gain=90.0, zero_level=50.0)
V3 = int(__import__("zarr").__version__.partition(".")[0]) >= 3


@pytest.fixture(scope="module")
def movie() -> Any:
    """Frames of a camera."""
    return (50 + 90 * np.random.default_rng(0).poisson(8, (20, 24, 32))).astype("int16")


def read(path: Path | str) -> tuple[Any, dict[str, Any]]:
    """The layer of a path."""
    reader = get_reader(str(path))
    assert reader is not None
    [(data, options, kind)] = reader(str(path))
    assert kind == "image"
    return data, options


@pytest.mark.parametrize("zarr_format", [2, 3] if V3 else [2])
def test_a_stored_movie_is_a_layer_of_photons(tmp_path: Path, movie: Any, zarr_format: Literal[2, 3]) -> None:
    """The layer is the decoded signal less the zero level over the gain, in any slice."""
    result = compress(movie, tmp_path / "m.zarr", sensitivity=KNOWN, zarr_format=zarr_format)
    photons, options = read(tmp_path / "m.zarr")
    wanted = (np.asarray(result.array[:], "float64") - 50) / 90
    assert (photons.shape, photons.ndim, photons.dtype) == ((20, 24, 32), 3, np.dtype("float32"))
    for key in (3, (slice(2, 9, 3), 5), (slice(None), slice(1, 4), slice(None, None, 2))):
        np.testing.assert_allclose(photons[key], wanted[key], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(np.asarray(photons), wanted, rtol=1e-6, atol=1e-6)
    low, high = options["contrast_limits"]
    assert wanted[0].min() <= low < high <= wanted[0].max() + 1e-3
    assert options["name"] == "m (photons)"


@pytest.mark.skipif(not V3, reason="needs zarr-python 3")
def test_the_scale_is_in_seconds_and_micrometres(tmp_path: Path, movie: Any) -> None:
    """Frame rate and pixel size of the record scale the layer; OME-Zarr and HDF5 open as well."""
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(
        tmp_path / "m.ome.tif",
        movie,
        metadata={"axes": "TYX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5, "TimeIncrement": 0.1},
    )
    compress(tmp_path / "m.ome.tif", tmp_path / "m.zarr", sensitivity=KNOWN)
    write_ome_zarr(tmp_path / "m.ome.tif", tmp_path / "m.ome.zarr", sensitivity=KNOWN, pyramid=1)
    compress(tmp_path / "m.ome.tif", tmp_path / "m.h5", sensitivity=KNOWN)
    for name in ("m.zarr", "m.ome.zarr", "m.h5"):
        photons, options = read(tmp_path / name)
        assert options["scale"] == pytest.approx([0.1, 0.5, 0.25]), name
        np.testing.assert_allclose(photons[7], (movie[7] - 50) / 90, atol=4)


def test_what_is_not_ours_is_left_to_others(tmp_path: Path, movie: Any) -> None:
    """An array without our codec, a list of paths, and what is no array are refused by None."""
    import zarr

    zarr.save_array(str(tmp_path / "plain.zarr"), movie)
    (tmp_path / "empty.zarr").mkdir()
    for path in (str(tmp_path / "plain.zarr"), str(tmp_path / "empty.zarr"), str(tmp_path / "none.zarr")):
        assert get_reader(path) is None
    assert get_reader([str(tmp_path / "plain.zarr")]) is None


def test_an_array_that_was_changed_is_not_shown(tmp_path: Path, movie: Any) -> None:
    """Frames that were appended without the package are an error, as everywhere else."""
    import zarr

    compress(movie, tmp_path / "m.zarr", sensitivity=KNOWN)
    zarr.open_array(str(tmp_path / "m.zarr"), mode="r+").resize((25, 24, 32))
    with pytest.raises(VerificationError, match="changed"):
        read(tmp_path / "m.zarr")


def test_the_manifest_is_valid_and_names_the_reader() -> None:
    """Napari's own library reads the manifest, and what it names is there."""
    npe2 = pytest.importorskip("npe2")
    manifest = npe2.PluginManifest.from_file(Path(anscombe_transform.__file__).with_name("napari.yaml"))
    (reader,) = manifest.contributions.readers
    (command,) = (c for c in manifest.contributions.commands if c.id == reader.command)
    module, _, name = command.python_name.partition(":")
    assert getattr(importlib.import_module(module), name) is get_reader
    assert reader.accepts_directories


def test_the_installed_package_names_its_manifest() -> None:
    """The entry point by which napari finds plug-ins leads to the manifest."""
    (entry,) = importlib.metadata.entry_points(group="napari.manifest", name="anscombe-transform")
    module, _, file = entry.value.partition(":")
    assert module == "anscombe_transform"
    assert Path(anscombe_transform.__file__).with_name(file).is_file()
