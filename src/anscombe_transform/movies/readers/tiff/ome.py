"""OME-TIFFs that are spread over several files: which files belong together, and which images they hold.

One file, or each of them, describes all; the others may hold no more than a reference to it ("BinaryOnly"),
as microscopes of Bruker write them [1]_.

References
----------
.. [1] The OME-TIFF specification, "Distributed OME-TIFF" and the elements TiffData, UUID and BinaryOnly.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tifffile import TiffFile


@dataclass(frozen=True, slots=True)
class OmeSet:
    """The files of one OME-TIFF.

    Attributes
    ----------
    master : Path
        A file that describes all of them.
    places : dict
        By file name, the ``(t, c, z)`` of the images that it holds.
    """

    master: Path
    places: dict[str, list[tuple[int, int, int]]]


def read_set(path: Path) -> OmeSet | None:
    """The set that a file belongs to; None where it stands alone."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as tiff:
            return set_of(tiff, path)
    except (tifffile.TiffFileError, OSError, ValueError):
        return None  # what is wrong with it is said where it is opened


def set_of(tiff: TiffFile, path: Path) -> OmeSet | None:
    """The same of a file that is open."""
    root = _root(tiff.ome_metadata) if tiff.is_ome else None
    if root is None:
        return None
    binary = next((element for element in root if _name(element) == "BinaryOnly"), None)
    if binary is None:
        return _described(root, path)
    master = path.with_name(binary.attrib.get("MetadataFile", ""))
    if master == path or not master.is_file():
        raise ValueError(
            f"{path} holds one part of an OME-TIFF that the file {master.name!r} describes, which is absent"
        )
    if master.suffix.lower() in (".xml", ".ome"):
        root = _root(master.read_text(encoding="utf-8"))
    else:
        import tifffile

        with tifffile.TiffFile(master) as other:
            root = _root(other.ome_metadata)
    return None if root is None else _described(root, master)


def _described(root: Any, master: Path) -> OmeSet | None:
    places: dict[str, list[tuple[int, int, int]]] = {}
    for data in root.iter():
        if _name(data) != "TiffData":
            continue
        file = next((element for element in data if _name(element) == "UUID"), None)
        if file is None or "FileName" not in file.attrib:
            continue
        first = tuple(int(data.attrib.get(f"First{axis}", 0)) for axis in "TCZ")
        places.setdefault(file.attrib["FileName"], []).append((first[0], first[1], first[2]))
    return OmeSet(master, places) if len(places) > 1 else None


def _root(text: str | None) -> Any:
    import xml.etree.ElementTree as ElementTree

    try:
        return ElementTree.fromstring(text or "")
    except ElementTree.ParseError:
        return None


def _name(element: Any) -> str:
    return str(element.tag).rpartition("}")[2]
