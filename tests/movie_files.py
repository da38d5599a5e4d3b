"""Writers of one movie in every format that `open_movie` reads, each by the library that users write it with.

``write_movie(kind, folder, frames)`` writes int16 frames ``(time, y, x)`` and gives what to open and with
which options; ``KINDS`` are the kinds there are. Whatever the kind, opening it must give the frames.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

tifffile = pytest.importorskip("tifffile")
h5py = pytest.importorskip("h5py")
zarr = pytest.importorskip("zarr")

ZARR_3 = int(zarr.__version__.partition(".")[0]) >= 3


def write_movie(kind: str, folder: Path, frames: NDArray[np.int16]) -> tuple[Any, dict[str, Any]]:
    """Write a movie into an empty folder; gives the source and the options of `open_movie`."""
    if not ZARR_3 and kind in NEEDS_ZARR_3:
        pytest.skip("needs zarr-python 3")
    return FILES[kind](folder, frames), OPTIONS.get(kind, {})


def write_tiff(path: Path, frames: NDArray[np.generic], **options) -> Path:
    """Write one series of images."""
    tifffile.imwrite(path, frames, photometric="minisblack", **options)
    return path


def write_pages(path: Path, frames: NDArray[np.generic], **options) -> Path:
    """Each page written on its own, as an acquisition program does."""
    with tifffile.TiffWriter(path, bigtiff=options.pop("bigtiff", False)) as writer:
        for frame in frames:
            writer.write(frame, contiguous=False, metadata=None, **options)
    return path


def write_single_page_imagej(path: Path, frames: NDArray[np.generic]) -> Path:
    """An ImageJ stack with one page for all frames, as ImageJ writes those above 4 GB."""
    tifffile.imwrite(path, frames.astype(np.uint16), imagej=True, metadata={"axes": "TYX"})
    with tifffile.TiffFile(path) as tiff:
        first = tiff.pages[0]
        at = first.offset + 2 + 12 * len(first.tags)
        if tiff.series[0].dataoffset is None:
            pytest.fail("the written stack is not contiguous")
        end = tiff.series[0].dataoffset + frames.size * 2
    data = bytearray(path.read_bytes()[:end])
    data[at : at + 4] = bytes(4)
    path.write_bytes(data)
    return path


def write_hdf5(path: Path, frames: NDArray[np.generic], **options) -> Path:
    """Write the movie among other things."""
    with h5py.File(path, "w") as file:
        file.create_dataset("acquisition/movie", data=frames, **options)
        file.create_dataset("acquisition/mean", data=frames.mean(axis=0))
        file["note"] = "a string is not a movie"
    return path


def write_zarr(path: Path, frames: NDArray[np.generic], zarr_format: int) -> Path:
    """Write one array in small chunks."""
    if ZARR_3:
        array = zarr.create_array(
            path, shape=frames.shape, dtype=frames.dtype, chunks=(5, 16, 16), zarr_format=zarr_format
        )
    else:
        array = zarr.open(str(path), "w", shape=frames.shape, dtype=frames.dtype, chunks=(5, 16, 16))
    array[:] = frames
    return path


def write_npy(path: Path, frames: NDArray[np.generic]) -> Path:
    """Write numpy's own format."""
    np.save(path, frames)
    return path


def write_npz(path: Path, frames: NDArray[np.generic], *, compressed: bool = False) -> Path:
    """Write the movie beside a number."""
    (np.savez_compressed if compressed else np.savez)(path, rate=30.0, movie=frames)
    return path


def write_folder(folder: Path, frames: NDArray[np.generic], **options) -> Path:
    """A file for each frame, numbered without leading zeros, beside a hidden file of macOS."""
    folder.mkdir()
    for number, frame in enumerate(frames, 8):
        write_tiff(folder / f"frame{number}.tif", frame, **options)
    (folder / "._frame9.tif").write_bytes(b"resource fork")
    return folder


def write_stacks(folder: Path, frames: NDArray[np.generic]) -> Path:
    """A recording split into files of uneven length, as acquisition programs do."""
    folder.mkdir()
    for number, (start, stop) in enumerate([(0, 5), (5, 9), (9, len(frames))], 1):
        write_pages(folder / f"run_2024_{number:05}.tif", frames[start:stop], compression="zlib")
    return folder


def with_other_channel(frames: NDArray[np.int16]) -> NDArray[np.int16]:
    """``(time, channel, y, x)`` whose channel 1 is the movie."""
    return np.stack([frames[::-1] // 2, frames], axis=1)


SCANIMAGE = {
    "SI.VERSION_MAJOR": "2021",
    "SI.hChannels.channelName": "{'GCaMP' 'tdTomato' 'Channel 3'}",
    "SI.hChannels.channelSave": "[1;2]",
    "SI.hRoiManager.scanFrameRate": "30.5",
    "SI.hRoiManager.scanVolumeRate": "7.625",
    "SI.hScan2D.logAverageFactor": "1",
    "SI.hStackManager.framesPerSlice": "Inf",
    "SI.hStackManager.numSlices": "1",
    "SI.hFastZ.enable": "false",
}


def write_scanimage(path: Path, images: NDArray[np.generic], *, before: int = 0, **settings: str) -> Path:
    """Pages one after the other with the settings in the software tag, as ScanImage writes BigTIFF."""
    told = SCANIMAGE | {name.replace("__", "."): value for name, value in settings.items()}
    software = "\n".join(f"{name} = {value}" for name, value in told.items())
    channels = len(told["SI.hChannels.channelSave"].split(";"))
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for number, image in enumerate(images.reshape(-1, *images.shape[-2:]), before):
            writer.write(
                image,
                contiguous=False,
                metadata=None,
                software=software,
                photometric="minisblack",
                description=f"frameNumbers = {number // channels + 1}\nepoch = [2024  5 17 13  7 42.250]\n",
            )
    return path


def write_nwb(path: Path, frames: NDArray[np.generic], **fields) -> Path:
    """One two-photon series by pynwb, its frames stored (time, x, y) as the standard has them."""
    pynwb = pytest.importorskip("pynwb")
    from datetime import UTC, datetime

    nwb = make_nwb(pynwb, datetime(2024, 5, 17, 13, 7, tzinfo=UTC), frames.transpose(0, 2, 1), **fields)
    with pynwb.NWBHDF5IO(path, "w") as file:
        file.write(nwb)
    return path


def make_nwb(pynwb, start, data, **fields):
    """The NWB session of a recording, of which both kinds of file are written."""
    nwb = pynwb.NWBFile("a test", "identity", start)
    device = nwb.create_device("microscope")
    optical = pynwb.ophys.OpticalChannel(name="green", description="emission", emission_lambda=520.0)
    plane = nwb.create_imaging_plane(
        name="plane",
        optical_channel=optical,
        description="layer 2/3",
        device=device,
        excitation_lambda=920.0,
        indicator="GCaMP6f",
        location="V1",
        grid_spacing=[1.5, 2.0],
        grid_spacing_unit="micrometers",
    )
    series = {"name": "TwoPhotonSeries", "data": data, "imaging_plane": plane, "rate": 30.0, "unit": "n.a."}
    nwb.add_acquisition(pynwb.ophys.TwoPhotonSeries(**(series | fields)))
    return nwb


def write_nwb_zarr(path: Path, frames: NDArray[np.generic]) -> Path:
    """The same by hdmf-zarr."""
    pynwb, hdmf_zarr = pytest.importorskip("pynwb"), pytest.importorskip("hdmf_zarr")
    from datetime import UTC, datetime

    nwb = make_nwb(pynwb, datetime(2024, 5, 17, 13, 7, tzinfo=UTC), frames.transpose(0, 2, 1))
    with hdmf_zarr.NWBZarrIO(str(path), "w") as file:
        file.write(nwb)
    return path


def write_ome_zarr(path: Path, frames: NDArray[np.int16], version: str) -> Path:
    """An image of two channels and two resolutions, with axes (t, c, z, y, x)."""
    levels = [with_other_channel(frames)[:, :, None]]
    levels.append(levels[0][..., ::2, ::2])
    group = zarr.open_group(
        str(path), mode="w", **({"zarr_format": 3 if version == "0.5" else 2} if ZARR_3 else {})
    )
    for number, level in enumerate(levels):
        if ZARR_3:
            group.create_array(str(number), data=level, chunks=(4, 1, 1, 32, 32))
        else:
            group.create_dataset(str(number), data=level, chunks=(4, 1, 1, 32, 32))
    units = {"t": "second", "y": "micrometer", "x": "micrometer"}
    kinds = {"t": "time", "c": "channel"}
    axes = [
        {"name": a, "type": kinds.get(a, "space"), **({"unit": units[a]} if a in units else {})}
        for a in "tczyx"
    ]
    scales = [[0.05, 1, 1, 0.5 * 2**n, 0.25 * 2**n] for n in range(len(levels))]
    multiscales = [
        {
            "name": "movie",
            "axes": axes,
            "datasets": [
                {"path": str(n), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
                for n, scale in enumerate(scales)
            ],
        }
    ]
    channels = [{"label": label, "color": "FFFFFF", "window": {}} for label in ("red", "green")]
    document = {"multiscales": multiscales, "omero": {"channels": channels}}
    if version == "0.5":
        group.attrs["ome"] = {"version": version, **document}
    else:
        multiscales[0]["version"] = version
        group.attrs.update(document)
    return path


def write_raw(path: Path, frames: NDArray[np.generic], header: int = 0) -> Path:
    """Values and nothing else, after a header that nobody explains."""
    path.write_bytes(bytes(header) + frames.tobytes())
    return path


def write_suite2p(folder: Path, frames: NDArray[np.int16]) -> Path:
    """``data.bin`` with the ``ops.npy`` that suite2p writes beside it."""
    write_raw(folder / "data.bin", frames)
    settings = {"Ly": frames.shape[1], "Lx": frames.shape[2], "nframes": len(frames), "fs": np.float64(30.0)}
    np.save(
        folder / "ops.npy",
        settings | {"save_path": folder, "meanImg": frames.mean(axis=0)},
        allow_pickle=True,
    )
    return folder / "data.bin"


def write_fits(path: Path, frames: NDArray[np.generic]) -> Path:
    """A cube after an empty first unit."""
    fits = pytest.importorskip("astropy.io.fits")
    cube = fits.ImageHDU(np.asarray(frames), name="CUBE")
    cube.header["DATE-OBS"] = "2024-05-17T13:07:42"
    fits.HDUList([fits.PrimaryHDU(), cube]).writeto(path)
    return path


def write_xarray(path: Path, frames: NDArray[np.generic]) -> Path:
    """A dataset whose movie has its axes in another order, by name."""
    xarray = pytest.importorskip("xarray")
    movie = xarray.DataArray(frames.transpose(1, 2, 0), dims=("y", "x", "time"), name="movie")
    xarray.Dataset({"movie": movie}).to_zarr(path, **({"zarr_format": 2} if ZARR_3 else {}))
    return path


def write_ome_tiff(path: Path, frames: NDArray[np.int16], **options) -> Path:
    """Two named channels with sizes, interleaved."""
    metadata = {
        "axes": "TCYX",
        "Channel": {"Name": ["red", "green"]},
        "PhysicalSizeX": 250.0,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 0.5,
        "TimeIncrement": 50.0,
        "TimeIncrementUnit": "ms",
    }
    return write_tiff(path, with_other_channel(frames), ome=True, metadata=metadata, **options)


FILES: dict[str, Callable[[Path, NDArray[np.int16]], Any]] = {
    "tiff contiguous": lambda folder, x: write_tiff(folder / "a.tif", x),
    "tiff big-endian": lambda folder, x: write_tiff(folder / "a.tif", x, byteorder=">"),
    "tiff BigTIFF": lambda folder, x: write_tiff(folder / "a.tiff", x, bigtiff=True),
    "tiff strips": lambda folder, x: write_tiff(folder / "a.tif", x, rowsperstrip=7),
    "tiff pages": lambda folder, x: write_pages(folder / "a.tif", x),
    "tiff big pages": lambda folder, x: write_pages(folder / "a.btf", x, bigtiff=True),
    "tiff zlib": lambda folder, x: write_pages(folder / "a.tif", x, compression="zlib"),
    "tiff zlib tiles": lambda folder, x: write_tiff(folder / "a.tif", x, compression="zlib", tile=(32, 32)),
    "tiff lzw": lambda folder, x: (
        pytest.importorskip("imagecodecs") and write_tiff(folder / "a.tif", x, compression="lzw")
    ),
    "tiff volume": lambda folder, x: write_tiff(
        folder / "a.tif", x, compression="zlib", tile=(4, 16, 16), volumetric=True
    ),
    "ome-tiff": lambda folder, x: write_tiff(folder / "a.ome.tif", x, ome=True, metadata={"axes": "TYX"}),
    "hdf5": lambda folder, x: write_hdf5(folder / "a.h5", x),
    "hdf5 compressed": lambda folder, x: write_hdf5(
        folder / "a.hdf5", x, chunks=(5, 16, 16), compression="gzip"
    ),
    "hdf5 big-endian": lambda folder, x: write_hdf5(folder / "a.h5", x.astype(">i2")),
    "zarr 2": lambda folder, x: write_zarr(folder / "a.zarr", x, 2),
    "zarr 3": lambda folder, x: write_zarr(folder / "a.zarr", x, 3),
    "npy": lambda folder, x: write_npy(folder / "a.npy", x),
    "npy big-endian": lambda folder, x: write_npy(folder / "a.npy", x.astype(">i2")),
    "npy fortran": lambda folder, x: write_npy(folder / "a.npy", np.asfortranarray(x)),
    "npz": lambda folder, x: write_npz(folder / "a.npz", x),
    "ome-tiff channels": lambda folder, x: write_ome_tiff(folder / "a.ome.tif", x),
    "ome-tiff channels zlib": lambda folder, x: write_ome_tiff(folder / "a.ome.tif", x, compression="zlib"),
    "tiff interleaved": lambda folder, x: write_pages(
        folder / "a.tif", with_other_channel(x).reshape(-1, *x.shape[1:])
    ),
    "tiff transposed": lambda folder, x: write_tiff(folder / "a.tif", x.transpose(0, 2, 1)),
    "tiff folder": lambda folder, x: write_folder(folder / "frames", x),
    "tiff pattern": lambda folder, x: f"{write_folder(folder / 'frames', x, compression='zlib')}/frame*.tif",
    "tiff stacks": lambda folder, x: write_stacks(folder / "run", x),
    "tiff list": lambda folder, x: sorted(write_stacks(folder / "run", x).iterdir()),
    "scanimage": lambda folder, x: write_scanimage(folder / "a.tif", x, SI__hChannels__channelSave="1"),
    "scanimage channels": lambda folder, x: write_scanimage(folder / "a.tif", with_other_channel(x)),
    "scanimage volumes": lambda folder, x: write_scanimage(
        folder / "a.tif",
        np.stack([with_other_channel(x), with_other_channel(x) + 1], axis=1),
        SI__hFastZ__enable="true",
        SI__hFastZ__numFramesPerVolume="2",
    ),
    "hdf5 channels": lambda folder, x: write_hdf5(folder / "a.h5", with_other_channel(x)),
    "hdf5 transposed": lambda folder, x: write_hdf5(folder / "a.h5", x.transpose(2, 1, 0)),
    "nwb": lambda folder, x: write_nwb(folder / "a.nwb", x),
    "nwb zarr": lambda folder, x: write_nwb_zarr(folder / "a.nwb.zarr", x),
    "ome-zarr 0.4": lambda folder, x: write_ome_zarr(folder / "a.ome.zarr", x, "0.4"),
    "ome-zarr 0.5": lambda folder, x: write_ome_zarr(folder / "a.ome.zarr", x, "0.5"),
    "xarray zarr": lambda folder, x: write_xarray(folder / "a.zarr", x),
    "raw": lambda folder, x: write_raw(folder / "a.raw", x),
    "raw big-endian": lambda folder, x: write_raw(folder / "a.dat", x.astype(">i2"), header=100),
    "suite2p": lambda folder, x: write_suite2p(folder, x),
    "fits": lambda folder, x: write_fits(folder / "a.fits", x),
    "npy channels": lambda folder, x: write_npy(folder / "a.npy", with_other_channel(x)),
    "npz compressed": lambda folder, x: write_npz(folder / "a.npz", x, compressed=True),
}

# What `open_movie` must be told where the file doesn't say it.
OPTIONS: dict[str, dict[str, Any]] = {
    "tiff volume": {"axes": "tyx"},
    "ome-tiff channels": {"channel": 1},
    "ome-tiff channels zlib": {"channel": "green"},
    "tiff interleaved": {"shape": (-1, 2, 40, 56), "axes": "tcyx", "channel": 1},
    "tiff transposed": {"axes": "txy"},
    "scanimage channels": {"channel": "tdTomato"},
    "scanimage volumes": {"channel": 1, "plane": 0},
    "hdf5 channels": {"axes": "tcyx", "channel": 1},
    "hdf5 transposed": {"axes": "xyt"},
    "ome-zarr 0.4": {"channel": "green"},
    "ome-zarr 0.5": {"channel": 1},
    "raw": {"shape": (12, 40, 56), "dtype": "i2"},
    "raw big-endian": {"shape": (12, 40, 56), "dtype": ">i2", "offset": 100},
    "npy channels": {"axes": ("time", "channel", "y", "x"), "channel": 1},
}

NEEDS_ZARR_3 = {"zarr 3", "ome-zarr 0.5", "xarray zarr"}

KINDS = tuple(FILES)

# Sources that are one file, which can be cut short.
ONE_FILE = tuple(
    kind
    for kind in FILES
    if "zarr" not in kind and kind not in ("tiff folder", "tiff pattern", "tiff stacks", "tiff list")
)


@contextmanager
def changed_hdf5(path: Path) -> Iterator[Any]:
    """An HDF5 file open for changes, once nobody reads it any more.

    A thread of zarr's holds the last array that it read for a moment after the caller let go of it, and HDF5
    refuses to change a file that is open.
    """
    for _ in range(200):
        try:
            file = h5py.File(path, "r+")
        except OSError:
            gc.collect()
            time.sleep(0.01)
        else:
            break
    else:
        file = h5py.File(path, "r+")
    with file:
        yield file
