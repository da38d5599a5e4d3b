"""Which file describes a recording that is spread over several files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from anscombe_transform.movies.movie import Movie
from anscombe_transform.movies.readers.tiff import TIFF_SUFFIXES
from anscombe_transform.movies.selection import Choice

Program = Literal["bruker", "thorimage", "scanbox"]

# By the outermost element of the XML.
_ROOTS: dict[bytes, Program] = {b"PVScan": "bruker", b"ThorImageExperiment": "thorimage"}
_ROOT = re.compile(rb"<([A-Za-z_][\w.:-]*)")
_HEAD = 1024
# Suffixes of files that are recordings by themselves.
_RECORDINGS = (*TIFF_SUFFIXES, ".h5", ".hdf5", ".nwb", ".npy", ".npz", ".fits", ".raw", ".bin")


def open_acquisition(program: Program, path: Path, choice: Choice, source: str) -> Movie:
    """Open the recording that a file describes; `source` names it in errors."""
    if program == "bruker":
        from anscombe_transform.movies.readers.microscopes.bruker import open_bruker

        return open_bruker(path, choice, source)
    if program == "thorimage":
        from anscombe_transform.movies.readers.microscopes.thorlabs import open_thorimage

        return open_thorimage(path, choice, source)
    from anscombe_transform.movies.readers.microscopes.scanbox import open_scanbox

    return open_scanbox(path, choice, source)


def find_description(path: Path) -> tuple[Program, Path] | None:
    """Find the file that describes a recording, and the program that wrote it.

    Parameters
    ----------
    path : Path
        The folder of a recording, or one of its files.

    Returns
    -------
    tuple of str and Path, or None
        None where `path` is no recording of these programs.

    Raises
    ------
    ValueError
        A folder holds the descriptions of several recordings.
    """
    if not path.is_dir():
        return _of_file(path)
    found = [
        description
        for child in sorted(path.iterdir())
        if child.suffix.lower() in (".xml", ".sbx") and not child.name.startswith(".")
        if (description := _of_file(child)) is not None
    ]
    if len(found) > 1:
        names = ", ".join(file.name for _, file in found)
        raise ValueError(f"{path} holds {len(found)} recordings: {names}. Open one of these files")
    others = [child.name for child in path.iterdir() if child.name.lower().endswith(_RECORDINGS)]
    if found and found[0][0] == "scanbox" and others:
        raise ValueError(f"{path} holds {found[0][1].name} and {others[0]}: open one of these files")
    return found[0] if found else None


def is_acquisition(folder: Path) -> bool:
    """Whether an XML in a folder describes its files as one recording."""
    try:
        described = find_description(folder)
    except ValueError:
        return False
    return described is not None and described[0] != "scanbox"


def _of_file(path: Path) -> tuple[Program, Path] | None:
    suffix = path.suffix.lower()
    if suffix == ".sbx":
        return "scanbox", path
    if suffix == ".mat" and path.with_suffix(".sbx").is_file():
        return "scanbox", path.with_suffix(".sbx")
    if suffix == ".raw" and path.with_name("Experiment.xml").is_file():
        described = _of_file(path.with_name("Experiment.xml"))
        return None if described is None else (described[0], path)
    if suffix != ".xml" or not path.is_file():
        return None
    with path.open("rb") as file:
        head = file.read(_HEAD).replace(b"\0", b"")  # UTF-16 as well
    root = _ROOT.search(head)
    program = _ROOTS.get(root[1]) if root else None
    return None if program is None else (program, path)
