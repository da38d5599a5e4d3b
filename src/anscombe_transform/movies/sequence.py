"""One movie of many TIFF files: a folder, a pattern or a list, each file one frame or a run of frames."""

from __future__ import annotations

import glob
import re
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.movies.movie import Movie
from anscombe_transform.movies.selection import Box, Choice, View
from anscombe_transform.movies.tiff import open_tiff

# Files that are kept open: enough for the threads of a reader, few enough for any limit of a system.
_MOST_OPEN = 16


def open_folder(folder: Path, suffixes: tuple[str, ...], choice: Choice) -> Movie:
    """Open all TIFFs of a folder as one movie, in the natural order of their names."""
    files = [
        child
        for child in folder.iterdir()
        if child.suffix.lower() in suffixes and not child.name.startswith(".")
    ]
    return _open(natural_order(files), choice, str(folder))


def open_pattern(pattern: str, choice: Choice, inner: str | None = None) -> Movie:
    """Open all files that a pattern matches as one movie, in the natural order of their names."""
    files = [Path(name) for name in glob.glob(pattern)]  # noqa: PTH207  # patterns may be absolute
    if not files:
        raise FileNotFoundError(f"no file matches {pattern}")
    return _open(natural_order(files), choice, pattern, inner)


def open_files(files: Sequence[Path], choice: Choice) -> Movie:
    """Open files as one movie in the order in which they are given."""
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"no such file: {file}")
    name = str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more files"
    return _Sequence(files, choice, None).movie(name)


def natural_order(files: Sequence[Path]) -> list[Path]:
    """Files by their names, the numbers in them by their value: frame9 before frame10."""
    return sorted(files, key=lambda file: (_parts(file.name), file.name))


def _parts(name: str) -> list[tuple[int, int, str]]:
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name) if part
    ]


def _open(files: list[Path], choice: Choice, source: str, inner: str | None = None) -> Movie:
    if len(files) > 1:
        _check_names(files, source)
    return _Sequence(files, choice, inner).movie(source)


def _check_names(files: list[Path], source: str) -> None:
    """Refuse names that are not one sequence: no order of frames is guessed, and none may be missing."""
    way_out = "Narrow it down with a pattern, or pass the list of files in order"
    frames = [re.split(r"(\d+)", file.name) for file in files]
    texts = {tuple(parts[0::2]) for parts in frames}
    if len(texts) > 1:
        first = frames[0][0::2]
        other = next(file for file, parts in zip(files, frames, strict=True) if parts[0::2] != first)
        raise ValueError(
            f"{source} holds files that are not one sequence, for instance {files[0].name} and "
            f"{other.name}. {way_out}"
        )
    columns = list(zip(*(parts[1::2] for parts in frames), strict=True))
    varying = [column for column in columns if len({int(number) for number in column}) > 1]
    if len(varying) != 1:
        raise ValueError(
            f"the names in {source} differ in {len(varying)} numbers, from {files[0].name} to "
            f"{files[-1].name}, so "
            f"that the order of time is not plain. {way_out}"
        )
    numbers = [int(number) for number in varying[0]]
    steps = [after - before for before, after in pairwise(numbers)]
    step = min(steps)
    for file, before, gap in zip(files, numbers, steps, strict=False):
        if gap != step:
            raise ValueError(
                f"{source} misses number {before + step}: after {file.name} comes number {before + gap}. "
                "Restore the file, or pass the list of files if it never was"
            )


class _Sequence:
    """Frames of many files, of which a few are open at a time."""

    def __init__(self, files: Sequence[Path], choice: Choice, inner: str | None) -> None:
        self._files = list(files)
        self._choice = choice
        self._inner = inner
        self._open: OrderedDict[int, list[Any]] = OrderedDict()
        self._lock = threading.Lock()
        self._starts = [0]

    def movie(self, source: str) -> Movie:
        """Look into every file once, and give the movie of all of them."""
        first: Movie | None = None
        for number, file in enumerate(self._files):
            part = self._opened(file)
            try:
                if first is None:
                    first = part
                    axes = (part.channels, part.axes)
                elif (part.shape[1:], part.dtype) != (first.shape[1:], first.dtype):
                    raise ValueError(
                        f"{file} does not belong to {source}: its frames have shape {part.shape[1:]} and "
                        f"type {part.dtype}, those of {self._files[0].name} {first.shape[1:]} and "
                        f"{first.dtype}"
                    )
                elif part.channels != first.channels:
                    raise ValueError(
                        f"{file} does not belong to {source}: it has {part.channels} channels, "
                        f"{self._files[0].name} has {first.channels}"
                    )
                self._starts.append(self._starts[number] + part.shape[0])
            finally:
                part.close()
        if first is None:
            raise ValueError(f"{source} holds no files")
        letters, lengths = "".join(axes[1]), list(axes[1].values())
        time = letters.find("t")
        total = self._starts[-1]
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
        metadata = {**first.metadata, "files": len(self._files), "first_file": self._files[0].name}
        metadata.pop("axes", None)
        view = View(letters, tuple(lengths), time, fixed)
        return Movie(
            self._read,
            shape=view.shape,
            dtype=first.dtype,
            source=source,
            close=self._close,
            view=view,
            metadata=metadata,
        )

    def _opened(self, file: Path) -> Movie:
        return open_tiff(file, self._choice, self._inner, part=True)

    @contextmanager
    def _part(self, number: int) -> Iterator[Movie]:
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

    def _read(self, box: Box) -> NDArray[Any]:
        wanted = range(box[0].start, box[0].stop, box[0].step)
        blocks: list[NDArray[Any]] = []
        at = 0
        while at < len(wanted):
            number = bisect_right(self._starts, wanted[at]) - 1
            start, stop = self._starts[number], self._starts[number + 1]
            count = len(range(wanted[at], min(stop, wanted.stop), wanted.step))
            inside = slice(wanted[at] - start, wanted[at + count - 1] - start + 1, wanted.step)
            with self._part(number) as part:
                if part.shape[0] != stop - start:
                    raise ValueError(
                        f"{self._files[number]} changed: it had {stop - start} frames and has {part.shape[0]}"
                    )
                blocks.append(part[inside, box[1], box[2]])
            at += count
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)

    def _close(self) -> None:
        with self._lock:
            for part, _ in self._open.values():
                part.close()
            self._open.clear()
