"""Writers of one movie in every format that `open_movie` reads, each by the library that users write it with.

``write_movie(kind, folder, frames)`` writes int16 frames ``(time, y, x)`` and gives what to open and with
which options; ``KINDS`` are the kinds there are. Whatever the kind, opening it must give the frames.
"""

from __future__ import annotations

from collections.abc import Callable
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
        pytest.skip("zarr-python 2 doesn't know Zarr format 3")
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
    data = bytearray(path.read_bytes())
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
    "npz compressed": lambda folder, x: write_npz(folder / "a.npz", x, compressed=True),
}

# What `open_movie` must be told where the file doesn't say it.
OPTIONS: dict[str, dict[str, Any]] = {"tiff volume": {"axes": "tyx"}}

NEEDS_ZARR_3 = {"zarr 3"}

KINDS = tuple(FILES)
