"""Movies of TIFFs that another file orders: which page of which file is which frame."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from anscombe_transform.movies.errors import errors_named
from anscombe_transform.movies.movie import Movie, checked_dtype, checked_shape, file_movie
from anscombe_transform.movies.readers.sequence import FileSequence
from anscombe_transform.movies.readers.tiff import TIFF_SUFFIXES
from anscombe_transform.movies.readers.tiff.chain import read_chain
from anscombe_transform.movies.readers.tiff.images import Images
from anscombe_transform.movies.readers.tiff.reader import open_pages
from anscombe_transform.movies.selection import Choice, numbered, select


class Place(NamedTuple):
    """Where an image lies: the name of a TIFF, and its page from 0."""

    file: str
    page: int


@dataclass(frozen=True, slots=True)
class TiffRecording:
    """A recording in the TIFFs of a folder.

    Attributes
    ----------
    folder : Path
    description : str
        Name of the file that orders the images, for errors.
    source : str
        Name of the source.
    frames : dict
        The images of each ``(channel, plane)`` in the order of time.
    channel_names : tuple of str
    planes : int
    metadata : dict
    elsewhere : set of str
        TIFFs that the description names for other movies of the recording.
    """

    folder: Path
    description: str
    source: str
    frames: Mapping[tuple[int, int], Sequence[Place]]
    channel_names: tuple[str, ...]
    planes: int = 1
    metadata: dict[str, Any] = field(default_factory=dict)
    elsewhere: frozenset[str] = frozenset()


def open_tiff_files(recording: TiffRecording, choice: Choice) -> Movie:
    """Open one channel and plane of a recording.

    Raises
    ------
    IncompleteRecordingError
        Files that the description names are absent or cut short, or the folder holds others of the same kind.
    ValueError
    """
    source, folder = recording.source, recording.folder
    if not any(recording.frames.values()):
        raise ValueError(f"{source} holds no frames: {recording.description} names none")
    with os.scandir(folder) as entries:
        sizes = {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
    pages: dict[str, int] = {}
    for places in recording.frames.values():
        for file, page in places:
            pages[file] = max(pages.get(file, 0), page + 1)
    first = next((file for file in pages if file in sizes), None)
    if first is None:
        raise ValueError(
            f"{source} holds none of the {len(pages)} TIFFs that {recording.description} names, the first "
            f"of them {next(iter(pages))}. If the program has left raw data there, convert them with it first"
        )
    _check_others(recording, pages, sizes, choice)
    pattern = open_pages(folder / first, choice)
    pattern.close()
    checked_dtype(pattern.dtype, source)
    longest = max(len(places) for places in recording.frames.values())
    view = select(
        "tzcyx",
        (longest, recording.planes, len(recording.channel_names), *pattern.frame_shape),
        choice,
        source,
        channel_names=recording.channel_names,
    )
    if view.axes != "tzcyx":
        raise ValueError(f"{recording.description} says what the axes of {source} are: leave out axes")
    places = recording.frames[view.channel or 0, view.plane or 0]
    if len(places) < longest:
        choice.incomplete(
            f"{source} was stopped early: {recording.description} names {len(places)} images of this channel "
            f"and plane, and {longest} of another"
        )
    held = _held_pages(recording, places, pages, sizes, pattern, choice)
    kept = [place for place in places if place.page < held.get(place.file, 0)]
    if not kept:
        raise ValueError(f"{source} holds none of the frames that were chosen")

    def opened(path: Path) -> Images:
        images = open_pages(path, choice)
        if (images.frame_shape, images.dtype) != (pattern.frame_shape, pattern.dtype):
            images.close()
            raise ValueError(
                f"{path} does not belong to {source}: its images have shape {images.frame_shape} and type "
                f"{images.dtype}, those of {first} {pattern.frame_shape} and {pattern.dtype}"
            )
        return images

    names = list(dict.fromkeys(place.file for place in kept))
    files = FileSequence(
        [folder / name for name in names],
        opened,
        lambda images: images.count,
        lambda images, box: images.read(box),
    )
    starts = {}
    for name in names:
        starts[name] = files.starts[-1]
        files.add(held[name])
    view = view.with_frames(len(kept))
    checked_shape(view.shape, source)
    return file_movie(
        numbered(files.read, [starts[place.file] + place.page for place in kept]),
        view=view,
        dtype=pattern.dtype,
        source=source,
        close=files.close,
        metadata={**recording.metadata, "files": len(names), "first_file": names[0]},
    )


def _held_pages(
    recording: TiffRecording,
    places: Sequence[Place],
    pages: Mapping[str, int],
    sizes: Mapping[str, int],
    pattern: Images,
    choice: Choice,
) -> dict[str, int]:
    """How many pages each file of a movie holds; files without one are left out, and reported."""
    source, description, folder = recording.source, recording.description, recording.folder
    names = list(dict.fromkeys(place.file for place in places))
    absent = [name for name in names if name not in sizes]
    if absent:
        choice.incomplete(
            f"{source} misses {len(absent)} of the {len(names)} files that {description} names, the first of "
            f"them {absent[0]}"
        )
    smallest = _plain_bytes(folder / next(name for name in pages if name in sizes), pattern)
    cut = [name for name in names if sizes.get(name, smallest) < smallest]
    if cut:
        choice.incomplete(f"{source} has {len(cut)} files that are cut short, the first of them {cut[0]}")
    held = {}
    for name in names:
        if name in absent or name in cut:
            continue
        held[name] = pages[name]
        # Thousands of files of one page each are looked into where they are read.
        if pages[name] > 1 or len(names) == 1:
            with errors_named(str(folder / name)):
                images = open_pages(folder / name, choice)
                images.close()
            held[name] = images.count
            if images.count != pages[name]:
                choice.incomplete(
                    f"{folder / name} holds {images.count} images, but {description} names {pages[name]}"
                )
    return held


def _plain_bytes(path: Path, pattern: Images) -> int:
    """The size that a file of one image has at least: that of its pixels, unless they are compressed."""
    plain = read_chain(path).pages[0].plain_bytes
    return 1 if plain is None else math.prod(pattern.frame_shape) * pattern.dtype.itemsize


def _check_others(
    recording: TiffRecording, pages: Mapping[str, int], sizes: Mapping[str, int], choice: Choice
) -> None:
    """Refuse a folder with TIFFs that are called as those of the recording, but that nothing names."""
    named = pages.keys() | recording.elsewhere
    kinds = {_without_numbers(name) for name in named}
    others = sorted(
        name
        for name in sizes
        if name not in named and name.lower().endswith(TIFF_SUFFIXES) and _without_numbers(name) in kinds
    )
    if others:
        choice.incomplete(
            f"{recording.source} holds {len(others)} TIFFs that {recording.description} does not name, the "
            f"first of them {others[0]}",
            "To open those that it names, ask for a partial recording: partial=True (--partial)",
        )


def _without_numbers(name: str) -> str:
    """A name without its numbers, and without the ``(1)`` of a copy."""
    return re.sub(r"[\d() ]+", "", name)
