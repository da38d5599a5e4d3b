"""The examples run, and other programs open what they wrote."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

zarr = pytest.importorskip("zarr")
if int(zarr.__version__.partition(".")[0]) < 3:
    pytest.skip("needs zarr-python 3", allow_module_level=True)

from anscombe_transform.calibration import Sensitivity  # noqa: E402
from anscombe_transform.compression.ome_zarr import write_ome_zarr  # noqa: E402
from anscombe_transform.simulation import simulate_movie  # noqa: E402

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def test_nwb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    """The NWB example writes a file that pynwb reads, with every value within its bound."""
    pytest.importorskip("pynwb", reason="needs the extra nwb")
    # Where only an old hdmf-zarr fits, it looks for zarr 2.
    pytest.importorskip("hdmf_zarr", reason="needs hdmf-zarr for zarr 3", exc_type=ImportError)
    movie, _ = simulate_movie(
        (60, 96, 128), conversion_gain=90, zero_level=50, read_noise=20, mean_photons=8, rng=seed
    )
    np.save(tmp_path / "movie.npy", movie)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["write_nwb.py", "movie.npy", "movie.nwb.zarr"])
    runpy.run_path(str(EXAMPLES / "nwb" / "write_nwb.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert "(time, x, y) = (60, 128, 96) int16" in said
    assert "all 737,280 values are within the bound" in said


def test_denoising_gains_from_stable_noise(tmp_path: Path) -> None:
    """Stabilising first makes a denoised movie better, and the unbiased inverse removes most of the bias."""
    pytest.importorskip("skimage", reason="needs scikit-image")
    main = runpy.run_path(str(EXAMPLES / "denoise" / "denoise.py"))["main"]
    errors = main(str(tmp_path / "denoise.png"), frames=2)
    assert errors["stabilised, unbiased inverse"][0] < 0.7 * errors["denoised as it is"][0]
    assert abs(errors["stabilised, unbiased inverse"][1]) < 0.5 * abs(
        errors["stabilised, algebraic inverse"][1]
    )
    assert (tmp_path / "denoise.png").stat().st_size > 10_000


def image_of_two_levels(folder: Path, zarr_format: int, seed: int) -> Path:
    """A simulated movie as an OME-Zarr image with units."""
    movie, _ = simulate_movie((8, 40, 30), conversion_gain=90, zero_level=50, rng=seed)
    path = folder / "movie.ome.zarr"
    write_ome_zarr(
        movie,
        path,
        pyramid=1,
        pixel_size=(0.8, 0.9),
        frame_interval=0.1,
        zarr_format=zarr_format,
        sensitivity=Sensitivity.from_known(conversion_gain=90, zero_level=50),
    )
    return path


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_napari_opens_an_image(zarr_format: int, tmp_path: Path, seed: int) -> None:
    """Napari shows an OME-Zarr image as one layer of all levels, with units, and the values are ours."""
    napari = pytest.importorskip("napari", reason="needs napari and napari-ome-zarr")
    pytest.importorskip("napari_ome_zarr", reason="needs napari and napari-ome-zarr")
    npe2 = pytest.importorskip("npe2")
    path = image_of_two_levels(tmp_path, zarr_format, seed)
    npe2.PluginManager.instance().discover()
    # The viewer without its window: a test needs no screen.
    (layer,) = napari.components.ViewerModel().open(path, plugin="napari-ome-zarr")
    assert [level.shape for level in layer.data] == [(8, 40, 30), (8, 20, 15)]
    np.testing.assert_allclose(layer.scale, [0.1, 0.8, 0.9])
    assert [str(unit) for unit in layer.units] == ["second", "micrometer", "micrometer"]
    np.testing.assert_array_equal(np.asarray(layer.data[0][3]), zarr.open_array(path / "0", mode="r")[3])


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_ome_zarr_py_reads_an_image(zarr_format: int, tmp_path: Path, seed: int) -> None:
    """The reference reader of OME-Zarr finds all levels, their scales, and the values."""
    pytest.importorskip("ome_zarr", reason="needs ome-zarr")
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    path = image_of_two_levels(tmp_path, zarr_format, seed)
    (image,) = Reader(parse_url(path))()
    assert [level.shape for level in image.data] == [(8, 40, 30), (8, 20, 15)]
    assert image.metadata["coordinateTransformations"][0] == [{"type": "scale", "scale": [0.1, 0.8, 0.9]}]
    np.testing.assert_array_equal(np.asarray(image.data[0][3]), zarr.open_array(path / "0", mode="r")[3])


@pytest.mark.parametrize("rate", [30, 500])
def test_a_simulated_camera_is_recorded(rate: int, tmp_path: Path) -> None:
    """The live example stores every frame that the camera gave, whatever the rate."""
    record = runpy.run_path(str(EXAMPLES / "live" / "camera.py"))["record"]
    told = record(str(tmp_path / "live.zarr"), rate, 100 / rate, size=64)
    assert told["frames"] == 100
    stored = zarr.open_array(tmp_path / "live.zarr", mode="r")
    assert stored.shape == (100, 64, 64)
    # The camera's 64 frames come round again.
    np.testing.assert_array_equal(stored[:36], stored[64:])


def test_an_array_of_acquire_zarr_is_adopted(tmp_path: Path) -> None:
    """The example streams codes through acquire-zarr and adopts them; every value is within its bound."""
    pytest.importorskip("acquire_zarr", reason="needs acquire-zarr")
    main = runpy.run_path(str(EXAMPLES / "live" / "acquire.py"))["main"]
    proof = main(str(tmp_path / "a.zarr"), frames=150, size=64)
    assert proof.ok
    assert zarr.open_array(tmp_path / "a.zarr" / "movie", mode="r").dtype == np.int16
