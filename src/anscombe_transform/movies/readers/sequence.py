"""One movie of many files: a folder, a pattern or a list, each file one frame or a run of frames.

The images of TIFFs that have nothing but their order (plain ones, ScanImage's) are strung together before
anything is asked of channels and planes, as a cycle of them runs on from one file into the next. Files that
order their images themselves, and other formats, are joined along time.
"""

from __future__ import annotations

import glob
import re
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.movies.movie import Movie
from anscombe_transform.movies.readers.tiff.images import Images, arrange_images
from anscombe_transform.movies.readers.tiff.ome import OmeSet, read_set
from anscombe_transform.movies.readers.tiff.reader import open_images, open_tiff
from anscombe_transform.movies.selection import PARTIAL, Box, Choice, View

# Files that are kept open: enough for the threads of a reader, few enough for any limit of a system.
_MOST_OPEN = 16
_WAY_OUT = "Narrow it down with a pattern, or pass the list of files in order"

OpenFile = Callable[[Path, Choice], Movie]
"""Opens a file that is no TIFF."""


def open_folder(folder: Path, suffixes: tuple[str, ...], choice: Choice, open_file: OpenFile) -> Movie:
    """Open the files of a folder that have one of the suffixes as one movie, in natural order."""
    return _open(list_files(folder, suffixes), choice, str(folder), open_file)


def open_pattern(pattern: str, choice: Choice, inner: str | None, open_file: OpenFile) -> Movie:
    """Open all files that a pattern matches as one movie, in the natural order of their names."""
    files = [Path(name) for name in glob.glob(pattern)]  # noqa: PTH207  # patterns may be absolute
    if not files:
        raise FileNotFoundError(f"no file matches {pattern}")
    return _open(natural_order(files), choice, pattern, open_file, inner)


def open_files(files: Sequence[Path], choice: Choice, open_file: OpenFile) -> Movie:
    """Open files as one movie in the order in which they are given."""
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"no such file: {file}")
    name = str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more files"
    return _open(list(files), choice, name, open_file, as_given=True)


def list_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """List the files of a folder with one of the suffixes, in natural order and without hidden files."""
    return natural_order(
        [
            child
            for child in folder.iterdir()
            if child.name.lower().endswith(suffixes) and not child.name.startswith(".")
        ]
    )


def natural_order(files: Sequence[Path]) -> list[Path]:
    """Files by their names, the numbers in them by their value: frame9 before frame10."""
    return sorted(files, key=lambda file: (_parts(file.name), file.name))


def _parts(name: str) -> list[tuple[int, int, str]]:
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name) if part
    ]


def _open(
    files: list[Path],
    choice: Choice,
    source: str,
    open_file: OpenFile,
    inner: str | None = None,
    *,
    as_given: bool = False,
) -> Movie:
    """Open files as one movie; the order of a list that was given is not questioned."""
    if not files:
        raise ValueError(f"{source} holds no files")
    if not _is_tiff(files[0]):
        if len(files) > 1 and not as_given:
            _check_names(files, source, choice)
        part = replace(choice, one_image=True, dataset=inner or choice.dataset)
        return _joined(files, source, choice, lambda file: open_file(file, part))
    members = read_set(files[0])
    if members is not None:
        names = {file.name for file in files}
        there = {name for name in members.places if members.master.with_name(name).is_file()}
        if names >= set(members.places) or (
            not as_given and names >= there and len(_channels(members, there)) > 1
        ):
            return open_tiff(members.master, choice, inner)
        _check_members(files, members, source, choice, as_given=as_given)
    elif len(files) > 1 and not as_given:
        _check_names(files, source, choice)
    return _of_tiffs(files, choice, source, inner)


def _is_tiff(file: Path) -> bool:
    with file.open("rb") as opened:
        magic = opened.read(4)
    # An empty or foreign file among TIFFs is named as a damaged one.
    return magic[:2] in (b"II", b"MM") or file.suffix.lower().startswith((".tif", ".btf", ".tf"))


def _channels(members: OmeSet, names: set[str]) -> set[tuple[int, int]]:
    """The channels and planes of the images in some files."""
    return {(c, z) for name in names for _, c, z in members.places[name]}


def _check_members(
    files: list[Path], members: OmeSet, source: str, choice: Choice, *, as_given: bool
) -> None:
    """Refuse files of an OME-TIFF that are not all of one channel and plane, in the order of time."""
    foreign = [file.name for file in files if file.name not in members.places]
    if foreign:
        raise ValueError(
            f"{source} holds {foreign[0]}, which does not belong to the OME-TIFF that {members.master.name} "
            f"describes. {_WAY_OUT}"
        )
    names = {file.name for file in files}
    kinds = _channels(members, names)
    if len(kinds) > 1:
        raise ValueError(
            f"{source} holds files of {len(kinds)} channels or planes, but not all of them: pass those of "
            f"one, or open {members.master} with channel= and plane="
        )
    if as_given:
        return
    files.sort(key=lambda file: members.places[file.name][0])
    (wanted,) = kinds
    absent = sorted(
        name
        for name, places in members.places.items()
        if name not in names and any((c, z) == wanted for _, c, z in places)
    )
    if absent:
        choice.incomplete(
            f"{source} misses {len(absent)} files of the recording that {members.master.name} describes, the "
            f"first of them {absent[0]}",
            f"Restore them, pass the list of files, or ask for what is there. {PARTIAL}",
        )


def _check_names(files: list[Path], source: str, choice: Choice) -> None:
    """Refuse names that are not one sequence: no order of frames is guessed, and none may be missing."""
    frames = [re.split(r"(\d+)", file.name) for file in files]
    texts = {tuple(parts[0::2]) for parts in frames}
    if len(texts) > 1:
        first = frames[0][0::2]
        other = next(file for file, parts in zip(files, frames, strict=True) if parts[0::2] != first)
        raise ValueError(
            f"{source} holds files that are not one sequence, for instance {files[0].name} and "
            f"{other.name}. {_WAY_OUT}"
        )
    columns = list(zip(*(parts[1::2] for parts in frames), strict=True))
    varying = [column for column in columns if len({int(number) for number in column}) > 1]
    if len(varying) != 1:
        raise ValueError(
            f"the names in {source} differ in {len(varying)} numbers, from {files[0].name} to "
            f"{files[-1].name}, so "
            f"that the order of time is not plain. {_WAY_OUT}"
        )
    numbers = [int(number) for number in varying[0]]
    steps = [after - before for before, after in pairwise(numbers)]
    # A step other than 1 shows only where it repeats.
    step = min(steps) if len(steps) > 1 else 1
    for file, before, gap in zip(files, numbers, steps, strict=False):
        if gap != step:
            choice.incomplete(
                f"{source} misses number {before + step}: after {file.name} comes number {before + gap}",
                f"Restore the file, or pass the list of files if it never was. {PARTIAL}",
            )


class _Part(Protocol):
    """An open file of a sequence."""

    def close(self) -> object:
        """Close the file."""


P = TypeVar("P", bound=_Part)


def _of_tiffs(files: list[Path], choice: Choice, source: str, inner: str | None) -> Movie:
    """One movie of many TIFFs."""

    def opened(file: Path) -> Images:
        return open_images(file, choice, inner, part=True)[0]

    first = opened(files[0])
    first.close()
    if choice.shape is None and (first.kind != "images"):
        return _joined(files, source, choice, lambda file: open_tiff(file, choice, inner, part=True))
    parts = FileSequence(files, opened, lambda images: images.count, lambda images, box: images.read(box))
    numbers: list[int | None] = []
    times: list[float | None] = []
    cycle = first.facts.cycle
    for number, file in enumerate(files):
        images = opened(file) if number else first
        try:
            _check_same(
                file, source, files[0], images.frame_shape, images.dtype, first.frame_shape, first.dtype
            )
            if images.kind != "images" or images.facts.cycle != cycle:
                raise ValueError(
                    f"{file} does not belong to {source}: its header says otherwise than that of "
                    f"{files[0].name} how channels, planes and frames follow each other"
                )
            parts.add(images.count)
            numbers += images.numbers
            times += images.times
        finally:
            images.close()
    facts = replace(first.facts, metadata=_metadata(first.facts.metadata, files))
    total = parts.starts[-1]
    whole = replace(
        first,
        source=source,
        read=parts.read,
        close=parts.close,
        count=total,
        lengths=(total, *first.frame_shape),
        axes="tyx",
        facts=facts,
        numbers=numbers,
        times=times,
    )
    return arrange_images(whole, replace(choice, one_image=True))


def _joined(files: list[Path], source: str, choice: Choice, opened: Callable[[Path], Movie]) -> Movie:
    """Join movies along time."""
    del choice
    parts = FileSequence(files, opened, len, lambda movie, box: movie[box])
    first: Movie | None = None
    for file in files:
        part = opened(file)
        try:
            if first is None:
                first = part
                axes = part.axes
            _check_same(file, source, files[0], part.shape[1:], part.dtype, first.shape[1:], first.dtype)
            if part.channels != first.channels:
                raise ValueError(
                    f"{file} does not belong to {source}: it has {part.channels} channels, "
                    f"{files[0].name} has {first.channels}"
                )
            parts.add(len(part))
        finally:
            part.close()
    assert first is not None
    letters, lengths = "".join(axes), list(axes.values())
    time = letters.find("t")
    total = parts.starts[-1]
    fixed = {
        axis: {"c": first.channel, "z": first.plane}.get(letter) or 0
        for axis, letter in enumerate(letters)
        if letter not in "tyx"
    }
    if time < 0:
        letters, lengths, fixed = f"t{letters}", [total, *lengths], {a + 1: i for a, i in fixed.items()}
        time = 0
    else:
        lengths[time] = total
    metadata = _metadata(first.metadata, files)
    metadata.pop("axes", None)
    view = View(letters, tuple(lengths), time, fixed)
    return Movie(
        parts.read,
        shape=view.shape,
        dtype=first.dtype,
        source=source,
        close=parts.close,
        view=view,
        metadata=metadata,
        chunk_frames=first.chunk_frames,
    )


def _metadata(first: dict[str, Any], files: list[Path]) -> dict[str, Any]:
    return {**first, "files": len(files), "first_file": files[0].name}


def _check_same(
    file: Path,
    source: str,
    first: Path,
    shape: Sequence[int],
    dtype: np.dtype[Any],
    first_shape: Sequence[int],
    first_dtype: np.dtype[Any],
) -> None:
    if (tuple(shape), dtype) != (tuple(first_shape), first_dtype):
        raise ValueError(
            f"{file} does not belong to {source}: its frames have shape {tuple(shape)} and type {dtype}, "
            f"those of {first.name} {tuple(first_shape)} and {first_dtype}"
        )


class FileSequence(Generic[P]):
    """Frames of many files, with a few open at a time."""

    def __init__(
        self,
        files: Sequence[Path],
        opened: Callable[[Path], P],
        length: Callable[[P], int],
        box_of: Callable[[P, Box], NDArray[Any]],
    ) -> None:
        self._files = list(files)
        self._opened, self._length, self._box_of = opened, length, box_of
        self._open: OrderedDict[int, list[Any]] = OrderedDict()
        self._lock = threading.Lock()
        self.starts = [0]

    def add(self, frames: int) -> None:
        """Note how many frames the next file holds."""
        self.starts.append(self.starts[-1] + frames)

    @contextmanager
    def _part(self, number: int) -> Iterator[P]:
        """The open file of a number, which no other thread closes meanwhile."""
        with self._lock:
            entry = self._open.pop(number, None) or [self._opened(self._files[number]), 0]
            self._open[number] = entry
            entry[1] += 1
            idle = [key for key, (_, users) in self._open.items() if users == 0]
            for key in idle[: max(0, len(self._open) - _MOST_OPEN)]:
                self._open.pop(key)[0].close()
        try:
            yield entry[0]
        finally:
            with self._lock:
                entry[1] -= 1

    def read(self, box: Box) -> NDArray[Any]:
        """Read a box of the frames of all files."""
        wanted = range(box[0].start, box[0].stop, box[0].step)
        blocks: list[NDArray[Any]] = []
        at = 0
        while at < len(wanted):
            number = bisect_right(self.starts, wanted[at]) - 1
            start, stop = self.starts[number], self.starts[number + 1]
            count = len(range(wanted[at], min(stop, wanted.stop), wanted.step))
            inside = slice(wanted[at] - start, wanted[at + count - 1] - start + 1, wanted.step)
            with self._part(number) as part:
                if self._length(part) != stop - start:
                    raise ValueError(
                        f"{self._files[number]} changed: it had {stop - start} frames and has "
                        f"{self._length(part)}"
                    )
                blocks.append(self._box_of(part, (inside, box[1], box[2])))
            at += count
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)

    def close(self) -> None:
        """Close the files that are open."""
        with self._lock:
            for part, _ in self._open.values():
                part.close()
            self._open.clear()
