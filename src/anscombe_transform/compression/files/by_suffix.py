"""Which kind of file a destination is, by the suffix of its name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anscombe_transform.compression.files.hdf5 import HDF5File
from anscombe_transform.compression.files.nwb import NwbFile

__all__ = ["HDF5_SUFFIXES", "hdf5_destination"]

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".nwb")
"""Suffixes of files that `compress` writes with the filter."""

_DATASET = "/movie"


def hdf5_destination(store: Any, nwb: Mapping[str, Any] | None) -> HDF5File | None:
    """The HDF5 file that a path names by its suffix, with ``::`` and the dataset if it does; None for others.

    Raises
    ------
    ValueError
        `nwb` is given for another kind of file.
    """
    name = os.fspath(store) if isinstance(store, str | os.PathLike) else ""
    outer, _, inner = name.partition("::")
    suffix = Path(outer).suffix.lower()
    if suffix not in HDF5_SUFFIXES or "://" in outer:
        if nwb is not None:
            raise ValueError(
                f"nwb (--nwb) says what goes into an NWB file, and {store} is none: name it something.nwb"
            )
        return None
    if suffix == ".nwb":
        if inner:
            raise ValueError(f"{store}: the name of an NWB file's series is given by nwb (--nwb series=NAME)")
        return NwbFile(Path(outer), dict(nwb or {}))
    if nwb is not None:
        raise ValueError(f"nwb (--nwb) is for NWB files, and {outer} is HDF5: name it {Path(outer).stem}.nwb")
    return HDF5File(Path(outer), f"/{inner.strip('/')}" if inner else _DATASET)
