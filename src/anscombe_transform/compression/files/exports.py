"""The formats that `decompress` writes: TIFF, HDF5, numpy's and raw values, block by block, and read back.

Where the values come from goes along: into the description of a TIFF, the attributes of HDF5, a JSON file
beside raw values.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.movies import Movie
from anscombe_transform.movies.errors import missing
from anscombe_transform.movies.metadata import ATTRIBUTE, packing
from anscombe_transform.movies.readers.hdf5 import open_hdf5
from anscombe_transform.movies.readers.numpy_files import open_npy
from anscombe_transform.movies.readers.raw import open_raw
from anscombe_transform.movies.readers.tiff.reader import open_tiff
from anscombe_transform.movies.selection import Choice
from anscombe_transform.native.durable import GuardedFile, write_file

__all__ = ["FORMATS", "Export", "Format", "describe_raw", "description_of", "format_of"]

Format = Literal["tiff", "hdf5", "npy", "raw"]
Blocks = Iterable[NDArray[Any]]

_SUFFIXES: dict[str, Format] = {
    ".tif": "tiff",
    ".tiff": "tiff",
    ".btf": "tiff",
    ".tf8": "tiff",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".npy": "npy",
    ".raw": "raw",
    ".bin": "raw",
    ".dat": "raw",
}
# Offsets of a classic TIFF have 32 bits; what is left is for the pages' headers.
_CLASSIC_TIFF_BYTES = 2**32 - 2**25
_HEADER_BYTES = 512
# The types that ImageJ has; tifffile writes its own description for the others.
_IMAGEJ = ("uint8", "uint16", "float32")


@dataclass(frozen=True, slots=True)
class Export:
    """A file to be written.

    Attributes
    ----------
    path : Path
        Its name.
    format : {"tiff", "hdf5", "npy", "raw"}
    movie : Movie
        The values and their metadata.
    record : mapping
        Record beside the values, as JSON types.
    dataset : str
        Of HDF5.
    compression : str or None
        Of TIFF and HDF5.
    """

    path: Path
    format: Format
    movie: Movie
    record: Mapping[str, Any]
    dataset: str
    compression: str | None

    def write(self, output: GuardedFile, blocks: Blocks) -> str:
        """Write blocks of frames, front to back, and return the name of the format."""
        return FORMATS[self.format][0](self, output, blocks)

    def open(self, path: Path) -> Movie:
        """Open the file as a movie, at the place where it was written."""
        return FORMATS[self.format][1](self, path)


def format_of(path: Path, given: Format | None) -> Format:
    """The format that is given, or that a suffix stands for.

    Raises
    ------
    ValueError
        There is no such format, or the suffix is that of another one or of none.
    """
    if given is not None:
        if given not in FORMATS:
            raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {given!r}")
        if _SUFFIXES.get(path.suffix.lower(), given) != given:
            raise ValueError(
                f"format={given!r}, but {path.name} is the name of a file of format "
                f"{_SUFFIXES[path.suffix.lower()]}: leave format out, or choose another name"
            )
        return given
    if path.suffix.lower() not in _SUFFIXES:
        raise ValueError(
            f"no file format has the suffix {path.suffix!r} of {path}; known are {', '.join(_SUFFIXES)}: "
            'choose such a name, or give the format, format="tiff"'
        )
    return _SUFFIXES[path.suffix.lower()]


def _bytes(block: NDArray[Any]) -> memoryview:
    """The values of a C-contiguous block as they lie in memory."""
    return memoryview(block.reshape(-1).view(np.uint8).data)


def _write_tiff(export: Export, output: GuardedFile, blocks: Blocks) -> str:
    try:
        import tifffile
    except ImportError as error:
        raise missing("tifffile", export.path) from error
    movie = export.movie
    big = (
        export.path.suffix.lower() in (".btf", ".tf8")
        or movie.nbytes + movie.shape[0] * _HEADER_BYTES > _CLASSIC_TIFF_BYTES
    )
    ome = export.path.name.lower().endswith((".ome.tif", ".ome.tiff", ".ome.btf"))
    imagej = not (big or ome) and movie.dtype.name in _IMAGEJ and export.compression is None
    record = export.record
    size = movie.metadata.get("pixel_size")
    rate = movie.metadata.get("frame_rate")
    metadata: dict[str, Any] = {"axes": "TYX"}
    resolution: dict[str, Any] = {}
    if imagej:
        metadata |= {"Info": json.dumps(record)}
        if size:
            metadata["unit"] = "um"
        if rate:
            metadata |= {"finterval": 1 / rate, "fps": rate}
        resolution = {"resolution": (1 / size["x"], 1 / size["y"])} if size else {}
    elif ome:
        metadata["Description"] = json.dumps(record)
        if size:
            for axis in "XY":
                metadata |= {f"PhysicalSize{axis}": size[axis.lower()], f"PhysicalSize{axis}Unit": "µm"}
        if rate:
            metadata |= {"TimeIncrement": 1 / rate, "TimeIncrementUnit": "s"}
    else:
        metadata |= {ATTRIBUTE: record}
        if size:
            per_centimetre = 1e4 / size["x"], 1e4 / size["y"]
            resolution = {"resolution": per_centimetre, "resolutionunit": "CENTIMETER"}
    file: Any = output
    with tifffile.TiffWriter(file, bigtiff=big, imagej=imagej, ome=ome) as writer:
        writer.write(
            (frame for block in blocks for frame in block),
            shape=movie.shape,
            dtype=movie.dtype,
            photometric="minisblack",
            compression=export.compression,
            metadata=metadata,
            **resolution,
        )
    return "BigTIFF" if big else "TIFF"


def _write_hdf5(export: Export, output: GuardedFile, blocks: Blocks) -> str:
    try:
        import h5py
    except ImportError as error:
        raise missing("h5py", export.path) from error
    movie = export.movie
    with h5py.File(output, "w") as file:
        values = file.create_dataset(
            export.dataset,
            shape=movie.shape,
            dtype=movie.dtype,
            chunks=(1, *movie.shape[1:]),
            compression=export.compression,
        )
        for dimension, name in zip(values.dims, ("time", "y", "x"), strict=True):
            dimension.label = name
        values.attrs[ATTRIBUTE] = json.dumps(export.record)
        values.attrs.update(packing(movie.metadata))
        if size := movie.metadata.get("pixel_size"):
            # What ImageJ's HDF5 readers look for, along the axes (z, y, x); a movie has no z.
            values.attrs["element_size_um"] = (1.0, size["y"], size["x"])
        at = 0
        for block in blocks:
            values[at : at + len(block)] = block
            at += len(block)
    return "HDF5"


def _write_npy(export: Export, output: GuardedFile, blocks: Blocks) -> str:
    movie = export.movie
    header = {
        "descr": np.lib.format.dtype_to_descr(movie.dtype),
        "fortran_order": False,
        "shape": movie.shape,
    }
    np.lib.format.write_array_header_1_0(output, header)
    for block in blocks:
        output.write(_bytes(block))
    return "npy"


def _write_raw(export: Export, output: GuardedFile, blocks: Blocks) -> str:
    for block in blocks:
        output.write(_bytes(block))
    return "raw"


def describe_raw(export: Export) -> None:
    """Write the shape and type of raw values beside them."""
    movie = export.movie
    content = {"shape": list(movie.shape), "dtype": movie.dtype.str, "axes": "tyx", ATTRIBUTE: export.record}
    write_file(description_of(export.path), (json.dumps(content, indent=2) + "\n").encode())


def description_of(path: Path) -> Path:
    """The file beside raw values that describes them."""
    return path.with_name(f"{path.name}.json")


COMPRESSIONS = {"tiff": ("zlib", "zstd", "lzw"), "hdf5": ("gzip", "lzf")}
"""Lossless compressions that files of a format can have inside."""

FORMATS: dict[str, tuple[Callable[[Export, GuardedFile, Blocks], str], Callable[[Export, Path], Movie]]] = {
    "tiff": (_write_tiff, lambda _, path: open_tiff(path, Choice(one_image=True))),
    "hdf5": (_write_hdf5, lambda export, path: open_hdf5(path, Choice(dataset=export.dataset))),
    "npy": (_write_npy, lambda _, path: open_npy(path, Choice())),
    "raw": (
        _write_raw,
        lambda export, path: open_raw(path, Choice(shape=export.movie.shape, dtype=export.movie.dtype)),
    ),
}
"""How each format is written, and how it is read back."""
