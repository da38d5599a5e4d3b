"""Stored movies in the layouts of other programs: what those programs find in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

zarr = pytest.importorskip("zarr")
if int(zarr.__version__.partition(".")[0]) < 3:
    pytest.skip("needs zarr-python 3", allow_module_level=True)

from anscombe_transform.calibration import Sensitivity  # noqa: E402
from anscombe_transform.compression import VerificationError, describe, verify  # noqa: E402
from anscombe_transform.compression.ome_zarr import average_frames, write_ome_zarr  # noqa: E402
from anscombe_transform.simulation import simulate_movie  # noqa: E402

KNOWN = Sensitivity.from_known(conversion_gain=90, zero_level=50, read_noise=20)


@pytest.fixture
def movie(seed: int) -> NDArray[Any]:
    """A simulated movie whose width is odd, so that a column is left over at every halving."""
    return simulate_movie((12, 30, 37), conversion_gain=90, zero_level=50, read_noise=20, rng=seed)[0]


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_an_image_is_valid_ome_zarr(zarr_format: int, movie: NDArray[Any], tmp_path: Path) -> None:
    """The metadata pass the published models of their version, dimension names and chunk folders included."""
    models = pytest.importorskip("ome_zarr_models")
    path = tmp_path / "movie.ome.zarr"
    write_ome_zarr(
        movie,
        path,
        pyramid=2,
        pixel_size=(0.8, 0.9),
        frame_interval=0.1,
        sensitivity=KNOWN,
        zarr_format=zarr_format,
    )
    group = models.open_ome_zarr(zarr.open_group(path, mode="r"))
    assert group.ome_zarr_version == {2: "0.4", 3: "0.5"}[zarr_format]
    attributes = dict(zarr.open_group(path, mode="r").attrs)
    (image,) = attributes.get("ome", attributes)["multiscales"]
    assert [axis["name"] for axis in image["axes"]] == ["t", "y", "x"]
    assert [axis.get("unit") for axis in image["axes"]] == ["second", "micrometer", "micrometer"]
    # The middle of the first pixel of level 2 is the middle of 4 × 4 pixels.
    scale, translation = image["datasets"][2]["coordinateTransformations"]
    np.testing.assert_allclose(scale["scale"], [0.1, 3.2, 3.6])
    np.testing.assert_allclose(translation["translation"], [0, 1.2, 1.35])


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_another_reader_finds_the_same_image(zarr_format: int, movie: NDArray[Any], tmp_path: Path) -> None:
    """A validator that was written apart from the first one agrees."""
    yaozarrs = pytest.importorskip("yaozarrs")
    path = tmp_path / "movie.ome.zarr"
    write_ome_zarr(movie, path, pyramid=1, sensitivity=KNOWN, zarr_format=zarr_format)
    yaozarrs.validate_zarr_store(str(path))


def test_every_level_is_the_mean_of_the_one_before(movie: NDArray[Any], tmp_path: Path) -> None:
    """Each level is within the bound of its own codec, whose noise is that of averaged pixels."""
    path = tmp_path / "movie.ome.zarr"
    write_ome_zarr(movie, path, pyramid=2, sensitivity=KNOWN)
    assert verify(path, movie).ok
    for level in (1, 2):
        before = zarr.open_array(path / str(level - 1), mode="r")[:]
        assert verify(path / str(level), average_frames(before)).ok
        codec = describe(path / str(level)).codec
        assert codec is not None
        assert codec["conversion_gain"] == pytest.approx(90 / 4**level)
        assert codec["read_noise"] == pytest.approx(20 / 2**level)
        assert describe(path / str(level)).shape == (12, -(-30 // 2**level), -(-37 // 2**level))


def test_a_pyramid_ends_at_a_single_pixel(movie: NDArray[Any], tmp_path: Path) -> None:
    """More levels than there are halvings are not made, and a line is halved along its length alone."""
    path = tmp_path / "line.ome.zarr"
    write_ome_zarr(movie[:, :1, :5], path, pyramid=9, sensitivity=KNOWN)
    group = zarr.open_group(path, mode="r")
    assert [group[str(level)].shape[1:] for level in range(4)] == [(1, 5), (1, 3), (1, 2), (1, 1)]
    assert sorted(group.array_keys()) == ["0", "1", "2", "3"]
    scales = [
        d["coordinateTransformations"][0]["scale"] for d in group.attrs["ome"]["multiscales"][0]["datasets"]
    ]
    assert scales == [[1, 1, 1], [1, 1, 2], [1, 1, 4], [1, 1, 8]]


@pytest.mark.parametrize("dtype", ["int16", "uint16", "int32", "float32", "float64"])
@pytest.mark.parametrize("shape", [(3, 4, 6), (2, 5, 7), (2, 1, 6), (1, 3, 1)])
def test_averages_are_means(dtype: str, shape: tuple[int, ...], rng: np.random.Generator) -> None:
    """Averaging agrees with the mean of each block of pixels that is there, in the movie's own type."""
    frames = rng.integers(0, 30000, shape).astype(dtype)
    found = average_frames(frames)
    assert found.dtype == frames.dtype
    for y in range(found.shape[1]):
        for x in range(found.shape[2]):
            block = frames[:, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].astype("float64").mean(axis=(1, 2))
            expected = block if frames.dtype.kind == "f" else np.rint(block)
            np.testing.assert_allclose(found[:, y, x], expected, rtol=1e-6)


def test_an_interrupted_image_can_be_finished(movie: NDArray[Any], tmp_path: Path) -> None:
    """An error in the middle of the pyramid leaves no image but what a second run goes on from."""

    def stop(done: int, total: int, stage: str) -> None:
        if "level 1" in stage:
            raise KeyboardInterrupt

    whole, path = tmp_path / "whole.zarr", tmp_path / "a.zarr"
    write_ome_zarr(movie, whole, pyramid=2, name="a", sensitivity=KNOWN)
    options: dict[str, Any] = {"pyramid": 2, "name": "a", "sensitivity": KNOWN}
    with pytest.raises(KeyboardInterrupt):
        write_ome_zarr(movie, path, progress=stop, **options)
    assert not path.exists()
    with pytest.raises(FileExistsError, match="--resume"):
        write_ome_zarr(movie, path, **options)
    for _ in range(2):  # the second finds it finished
        result = write_ome_zarr(movie, path, resume=True, **options)
        assert result.path == str(path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.zarr", "whole.zarr"]
    for file in (file for file in whole.rglob("*") if file.is_file()):
        if file.name != "zarr.json":
            assert (path / file.relative_to(whole)).read_bytes() == file.read_bytes()
    groups = [dict(zarr.open_group(place, mode="r").attrs) for place in (whole, path)]
    assert groups[0] == groups[1]


def test_an_image_is_replaced_only_when_asked(movie: NDArray[Any], tmp_path: Path) -> None:
    """An image that is there stays, until it may be overwritten; another folder is never overwritten."""
    path = tmp_path / "movie.ome.zarr"
    write_ome_zarr(movie, path, pyramid=1, sensitivity=KNOWN)
    with pytest.raises(FileExistsError, match="--overwrite"):
        write_ome_zarr(movie, path, sensitivity=KNOWN)
    write_ome_zarr(movie[:6], path, sensitivity=KNOWN, overwrite=True)
    assert list(zarr.open_group(path, mode="r").array_keys()) == ["0"]
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    with pytest.raises(ValueError, match="the original would be gone"):
        write_ome_zarr(path, path, sensitivity=KNOWN, overwrite=True)
    (tmp_path / "papers").mkdir()
    with pytest.raises(FileExistsError, match="not written by Zarr"):
        write_ome_zarr(movie, tmp_path / "papers", sensitivity=KNOWN, overwrite=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pyramid": -1}, "pyramid must be"),
        ({"pyramid": 1.5}, "pyramid must be"),
        ({"pixel_size": 0.0}, "pixel_size must be a finite number > 0"),
        ({"pixel_size": (1.0, 2.0, 3.0)}, "one number or two"),
        ({"frame_interval": float("nan")}, "frame_interval must be a finite number > 0"),
    ],
)
def test_wrong_options_are_refused(
    options: dict[str, Any], message: str, movie: NDArray[Any], tmp_path: Path
) -> None:
    """A parameter that breaks its rule is named before anything is written."""
    with pytest.raises(ValueError, match=message):
        write_ome_zarr(movie, tmp_path / "a.zarr", sensitivity=KNOWN, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_xarray_shows_the_dimensions(zarr_format: int, movie: NDArray[Any], tmp_path: Path) -> None:
    """Xarray opens the full resolution, with the names of its axes and what was noted about it."""
    xarray = pytest.importorskip("xarray")
    path = tmp_path / "movie.ome.zarr"
    write_ome_zarr(movie, path, pyramid=1, sensitivity=KNOWN, zarr_format=zarr_format)
    data = xarray.open_zarr(path, consolidated=False, drop_variables=["1"])
    assert data["0"].dims == ("t", "y", "x")
    assert data["0"].attrs["anscombe_transform"]["complete"]
    np.testing.assert_array_equal(data["0"][3].values, zarr.open_array(path / "0", mode="r")[3])


def test_damage_in_a_level_is_found(movie: NDArray[Any], tmp_path: Path) -> None:
    """A chunk of the full resolution that lost its end is an error that says which frames."""
    path = tmp_path / "movie.ome.zarr"
    write_ome_zarr(movie, path, sensitivity=KNOWN)
    (chunk,) = (file for file in (path / "0" / "c").rglob("*") if file.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-9])
    with pytest.raises(VerificationError, match="frames 0 to 11"):
        verify(path, movie)
