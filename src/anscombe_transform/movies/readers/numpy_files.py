"""Movies of ``.npy`` and ``.npz`` files, read in parts without numpy's memory map."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.movies.arrays import check_mapped
from anscombe_transform.movies.errors import errors_named
from anscombe_transform.movies.movie import Movie, file_movie
from anscombe_transform.movies.readers.raw import open_plain
from anscombe_transform.movies.selection import Box, Choice, choose_entry, select


def open_npy(path: Path, choice: Choice) -> Movie:
    """Open a ``.npy`` file."""
    choice.allow(str(path))
    with errors_named(str(path)), path.open("rb") as file:
        shape, fortran, dtype = _npy_header(file)
        offset = file.tell()
    return _open_values(path, offset, shape, fortran, dtype, str(path), choice)


def _open_values(
    path: Path,
    offset: int,
    shape: tuple[int, ...],
    fortran: bool,
    dtype: np.dtype[Any],
    source: str,
    choice: Choice,
) -> Movie:
    metadata = {"format": "numpy"}
    view = select(None, shape, choice, source)
    if not fortran:
        return open_plain(path, offset, dtype, view, source, metadata, choice)
    # Time varies fastest: every frame is spread over the whole file, which only a mapping reads in parts.
    with errors_named(source):
        mapped = np.memmap(path, dtype, "r", offset, shape, order="F")

    def read(box: Box) -> NDArray[Any]:
        check_mapped(mapped, source)
        return np.array(view.read(mapped, box))

    return file_movie(
        read,
        view=view,
        dtype=dtype,
        source=source,
        metadata=metadata,
    )


def _npy_header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        header = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        header = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"version {version} of the .npy format holds structured arrays, not numbers")
    shape, fortran, dtype = header
    if dtype.hasobject:
        raise ValueError("it holds Python objects, not numbers")
    return shape, fortran, dtype


def open_npz(path: Path, choice: Choice) -> Movie:
    """Open an array of a ``.npz`` file; a compressed one is loaded whole."""
    choice.allow(str(path), "dataset")
    shapes: dict[str, tuple[int, ...]] = {}
    with errors_named(str(path)), zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            if member.endswith(".npy"):
                with archive.open(member) as file:
                    shapes[member.removesuffix(".npy")] = _npy_header(file)[0]
    name = choose_entry(path, shapes, choice, "array")
    source = f"{path}::{name}"
    with errors_named(source), zipfile.ZipFile(path) as archive:
        member = f"{name}.npy"
        info = archive.getinfo(member)
        if info.compress_type == zipfile.ZIP_STORED:
            with archive.open(member) as file:
                shape, fortran, dtype = _npy_header(file)
                header_size = file.tell()
            offset = _stored_offset(path, info) + header_size
            values = None
        else:
            with archive.open(member) as file:
                values = np.lib.format.read_array(file, allow_pickle=False)
    if values is None:
        return _open_values(path, offset, shape, fortran, dtype, source, choice)
    view = select(None, values.shape, choice, source)
    return file_movie(
        lambda box: view.read(values, box),
        view=view,
        dtype=values.dtype,
        source=source,
        metadata={"format": "numpy"},
    )


def _stored_offset(path: Path, info: zipfile.ZipInfo) -> int:
    """Where the bytes of an uncompressed member begin: after its local header of varying length."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        header = file.read(30)
    name_length, extra_length = struct.unpack("<HH", header[26:30])
    return int(info.header_offset + 30 + name_length + extra_length)
