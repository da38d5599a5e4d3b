"""The record in a plain file, which has no codec that would say how its values were made."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from anscombe_transform.codec.transform.configuration import V2, Configuration
from anscombe_transform.codec.transform.plan import plan
from anscombe_transform.movies.metadata import ATTRIBUTE

__all__ = ["PLAIN_SUFFIXES", "plan_of_record", "read_plain_record"]

PLAIN_SUFFIXES = {
    ".h5": "gzip",
    ".hdf5": "gzip",
    ".tif": "zlib",
    ".tiff": "zlib",
    ".btf": "zlib",
    ".tf8": "zlib",
}
"""Suffixes of plain files, and their compressors."""


def read_plain_record(stored: Any) -> dict[str, Any] | None:
    """The record of a plain file; None for anything else."""
    if not isinstance(stored, str | os.PathLike):
        return None
    outer, _, inner = os.fspath(stored).partition("::")
    path = Path(outer)
    if path.suffix.lower() not in PLAIN_SUFFIXES or not path.is_file():
        return None
    try:
        told = (
            _hdf5_attribute(path, inner)
            if PLAIN_SUFFIXES[path.suffix.lower()] == "gzip"
            else _description(path)
        )
    except Exception:  # of every kind: whatever it is, it is no plain file
        return None
    record = told.get(ATTRIBUTE) if isinstance(told, dict) else None
    return record if isinstance(record, dict) and record.get("plain") is True else None


def _hdf5_attribute(path: Path, inner: str) -> Any:
    import h5py

    found: list[str] = []
    with h5py.File(path, "r") as file:

        def look(name: str, item: Any) -> None:
            if ATTRIBUTE in item.attrs and (not inner or name == inner.strip("/")):
                found.append(item.attrs[ATTRIBUTE])

        file.visititems(look)
    return json.loads(found[0]) if len(found) == 1 else None


def _description(path: Path) -> Any:
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        if tiff.ome_metadata:
            from xml.etree import ElementTree

            root = ElementTree.fromstring(tiff.ome_metadata)
            texts = [item.text for item in root.iter() if item.tag.endswith("}Description")]
            return json.loads(texts[0] or "")
        shaped = tiff.shaped_metadata
        return shaped[0].get(ATTRIBUTE) if shaped else None


def plan_of_record(record: dict[str, Any]) -> Any:
    """The codec that decoded the values of a plain file, as far as it is asked for bounds."""
    return SimpleNamespace(plan=plan(Configuration.from_json(V2, record["codec"])))
