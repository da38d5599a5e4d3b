"""Which files of a folder are one recording: those that their headers, not only their names, string together.

A night of recordings and the files of one recording look alike by name. The difference is inside: the
frame numbers of ScanImage run on from file to file of one acquisition and begin again in the next, an
OME-TIFF names the files that belong to it, and a file of a single image is a frame and no recording.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from anscombe_transform.movies.readers.microscopes.folders import is_acquisition
from anscombe_transform.movies.readers.sequence import list_files
from anscombe_transform.movies.readers.tiff import TIFF_SUFFIXES
from anscombe_transform.movies.readers.tiff.chain import Chain, read_chain
from anscombe_transform.movies.readers.tiff.ome import OmeSet, read_set

ANY_NUMBER = "[0-9]*"
"""Stands for the number in the pattern of a recording's files."""


@dataclass(frozen=True, slots=True)
class Grouped:
    """The TIFFs of a folder, put together where they are one recording.

    Attributes
    ----------
    sources : list of Path
        Argument of `open_movie` for each recording: a file, or a pattern for several.
    whole : bool
        Whether all of them are one recording, so that the folder stands for it.
    undecided : list of str
        About files that are numbered as one sequence and say nothing else: they are taken for as many
        recordings.
    """

    sources: list[Path]
    whole: bool
    undecided: list[str]


def group_files(folder: Path) -> Grouped:
    """Put the TIFFs of a folder together that are one recording."""
    if is_acquisition(folder):
        return Grouped([folder], True, [])
    files = [file for file in list_files(folder, TIFF_SUFFIXES) if file.is_file()]
    sources: list[Path] = []
    undecided: list[str] = []
    groups = 0
    while files:
        group = _of_one_set(files) or _named_alike(files)
        files = [file for file in files if file not in group]
        groups += 1
        if len(group) == 1:
            sources += group
            continue
        together = _belong_together(group)
        source = _source(group) if together else None
        if source is not None:
            sources.append(source)
            continue
        groups += 1
        sources += group
        if together is not False:
            undecided.append(
                f"{len(group)} files of {folder} are numbered as one sequence, {group[0].name} to "
                f"{group[-1].name}, and were taken for as many recordings; if they are one movie, give the "
                f"pattern '{folder}/{''.join(_parts(group[0].name)[:1])}*{_parts(group[0].name)[1]}' instead"
            )
    return Grouped(sources, groups == 1 and len(sources) == 1, undecided)


def is_one_recording(folder: Path) -> bool:
    """Whether a folder is one recording of several files: by a description, or by the headers of TIFFs."""
    if is_acquisition(folder):
        return True
    recordings = group_files(folder)
    return recordings.whole and (
        ANY_NUMBER in recordings.sources[0].name or _set(recordings.sources[0]) is not None
    )


def _set(file: Path) -> OmeSet | None:
    """The set that a file belongs to; None also where the file that describes it is absent."""
    try:
        return read_set(file)
    except ValueError:
        return None


def _of_one_set(files: Sequence[Path]) -> list[Path]:
    """The files of the OME-TIFF that the first one belongs to; empty where it stands alone."""
    members = _set(files[0])
    if members is None:
        return []
    there = [file for file in files if file.name in members.places]
    # The one that describes all stands for them.
    return sorted(there, key=lambda file: file != members.master)


def _named_alike(files: Sequence[Path]) -> list[Path]:
    """The files with names that differ from the first one's only in the last number."""
    first = _parts(files[0].name)
    return [file for file in files if _parts(file.name) == first]


def _parts(name: str) -> tuple[str, str]:
    """The parts of a name before and after its last number."""
    file = Path(name)
    match = re.fullmatch(r"(.*?)[0-9]+([^0-9]*)", file.stem)
    return (match[1], match[2] + file.suffix) if match else (name, "")


def _belong_together(files: Sequence[Path]) -> bool | None:
    """Whether files are one recording; None where nothing but their names speaks for it."""
    if _set(files[0]) is not None:
        return True
    chains: list[Chain] = []
    for file in files:
        try:
            chains.append(read_chain(file))
        except (ValueError, OSError):
            return False  # a damaged one is named where it is opened
    pages = [chain.pages for chain in chains]
    if not all(pages) or len({of_file[0].kind for of_file in pages}) > 1:
        return False
    if all(len(of_file) == 1 for of_file in pages):
        return True
    ends = [(of_file[0].number, of_file[-1].number) for of_file in pages]
    numbers = [(first, last) for first, last in ends if first is not None and last is not None]
    if len(numbers) < len(ends) or all(first == last for first, last in numbers):
        return None
    return all(before[1] < after[0] for before, after in pairwise(numbers))


def _source(files: Sequence[Path]) -> Path | None:
    """Argument of `open_movie` for files of one recording; None where no pattern matches them alone."""
    if _set(files[0]) is not None:
        return files[0]
    before, after = _parts(files[0].name)
    if glob.escape(str(files[0])) != str(files[0]):
        return None
    pattern = files[0].with_name(f"{before}{ANY_NUMBER}{after}")
    return pattern if {Path(name) for name in glob.glob(str(pattern))} == set(files) else None  # noqa: PTH207
