"""Frames that lie uncompressed in a file, and files of nothing else.

Shape and dtype of a raw file come from the caller, or from the ``ops.npy`` of suite2p. The frames are read,
not memory-mapped: mapped pages count as memory of the process, and a mapped file that shrinks kills the
process, whereas a read raises an error and costs the same.
"""

from __future__ import annotations

import math
import pickle
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.movies.errors import errors_named
from anscombe_transform.movies.metadata import facts
from anscombe_transform.movies.movie import Movie, checked_dtype, checked_shape, file_movie
from anscombe_transform.movies.selection import Box, Choice, View, described, select, swap_rows_and_columns


def whole_numbers(path: Path, offset: int, frame_bytes: int, numbers: range, choice: Choice) -> range:
    """The images among `numbers` that lie whole in the file.

    Raises
    ------
    IncompleteRecordingError
        The file ends before the last of them, and no partial recording was asked for.
    ValueError
        It holds none of them.
    """
    size = path.stat().st_size
    held = max(0, size - offset) // frame_bytes
    last = max(numbers)
    if last < held:
        return numbers
    problem = (
        f"{path} is cut short: it announces {last + 1} frames, which end at byte "
        f"{offset + (last + 1) * frame_bytes}, but it has {size} bytes and holds {held} whole frames"
    )
    there = range(numbers.start, min(numbers.stop, held), numbers.step)
    if not there:
        raise ValueError(problem)
    choice.incomplete(problem)
    return there


class PlainFrames:
    """Frames that lie uncompressed in a file, each at a place of its own.

    Parameters
    ----------
    path : Path
    frame_shape : tuple of int
        Rows and columns of an image as it is stored.
    dtype : numpy.dtype
        With the byte order of the file.
    positions : sequence of int
        Where each frame begins, bytes; a range where they lie at even distances.
    """

    def __init__(
        self, path: Path, frame_shape: tuple[int, int], dtype: np.dtype[Any], positions: Sequence[int]
    ) -> None:
        self._height, self._width = frame_shape
        self._dtype = dtype
        self._positions = positions
        self._row = self._width * dtype.itemsize
        self._frame = self._height * self._row
        # One position is shared by all threads, so a seek and its read must not be parted.
        self._lock = threading.Lock()
        self._file: BinaryIO = path.open("rb", buffering=0)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __call__(self, box: Box) -> NDArray[Any]:
        """Read a box of the movie."""
        places = self._positions[box[0]]
        rows = range(self._height)[box[1]]
        height = rows[-1] + 1 - rows[0]
        block = np.empty((len(places), height, self._width), self._dtype)
        if isinstance(places, range) and places.step == self._frame and height == self._height:
            self._fill(block, places[0])
        else:
            for target, place in zip(block, places, strict=True):
                self._fill(target, place + rows[0] * self._row)
        return block[:, :: rows.step, box[2]]

    def _fill(self, target: NDArray[Any], position: int) -> None:
        """Read the bytes at `position` into a C-contiguous array."""
        view = memoryview(target.reshape(-1).view(np.uint8).data)
        with self._lock:
            self._file.seek(position)
            done = 0
            while done < len(view):
                count = self._file.readinto(view[done:])  # type: ignore[attr-defined]  # raw files have it
                if not count:
                    raise ValueError(f"the file ends {len(view) - done} bytes too early")
                done += count


def open_raw(path: Path, choice: Choice) -> Movie:
    """Open a file of nothing but values."""
    choice.allow(str(path), "shape", "dtype", "offset")
    shape, dtype = choice.shape, choice.dtype
    offset = choice.offset or 0
    size = path.stat().st_size
    metadata: dict[str, Any] = {"format": "raw"}
    operations = path.with_name("ops.npy")
    if shape is None and dtype is None and operations.is_file():
        shape, dtype, metadata = _suite2p(operations)
        if choice.offset is not None:
            raise ValueError(f"offset={offset} means nothing for {path}: {operations} describes it")
    if shape is None or dtype is None:
        absent = " and ".join(name for name, value in (("shape", shape), ("dtype", dtype)) if value is None)
        raise ValueError(
            f"{path} holds raw values and nothing that describes them: give {absent}, for instance "
            'shape=(-1, 512, 512), dtype="<u2" (or put the ops.npy of suite2p beside it)'
        )
    checked_dtype(dtype, str(path))
    if not 0 <= offset <= size:
        raise ValueError(f"offset must be 0 to the size of the file, {size} bytes, got {offset}")
    shape = _whole_shape(path, shape, dtype, offset, size, choice)
    view = select(None, shape, choice, str(path))
    return open_plain(path, offset, dtype, view, str(path), metadata, choice)


def open_plain(
    path: Path,
    offset: int,
    dtype: np.dtype[Any],
    view: View,
    source: str,
    metadata: dict[str, Any],
    choice: Choice,
) -> Movie:
    """A movie of values that lie in a file in C order, from `offset` on."""
    checked_shape(view.shape, source)
    checked_dtype(dtype, source)
    if view.axes[-2:] in ("yx", "xy"):
        frame_bytes = math.prod(view.shape[1:]) * dtype.itemsize
        numbers = whole_numbers(path, offset, frame_bytes, view.frame_numbers(), choice)
        last = offset + numbers[-1] * frame_bytes
        positions = range(offset + numbers[0] * frame_bytes, last + 1, numbers.step * frame_bytes)
        view = view.with_frames(len(numbers))
    read: Callable[[Box], NDArray[Any]]
    if view.axes[-2:] == "yx":
        frames = PlainFrames(path, view.shape[1:], dtype, positions)
        read, close = frames, frames.close
    elif view.axes[-2:] == "xy":
        frames = PlainFrames(path, (view.shape[2], view.shape[1]), dtype, positions)
        read, close = swap_rows_and_columns(frames), frames.close
    else:
        raise ValueError(
            f"{source} has the axes {described(view.axes, view.lengths)}: in a file read in parts y and x "
            "must be the last two. Load the values with numpy.memmap and pass the transposed array"
        )
    return file_movie(read, view=view, dtype=dtype, source=source, close=close, metadata=metadata)


def _whole_shape(
    path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], offset: int, size: int, choice: Choice
) -> tuple[int, ...]:
    """The shape with its -1 filled in, if the file holds exactly that.

    A file that ends within a frame opens by the number of its whole frames, as explicit as `partial`.
    """
    if any(n < 1 for n in shape[1:]) or len(shape) < 2 or not (shape[0] == -1 or shape[0] >= 1):
        raise ValueError(f"shape must be lengths of at least 1, the first may be -1, got {shape}")
    one = math.prod(shape[1:]) * dtype.itemsize
    count, rest = divmod(size - offset, one)
    whole = (count, *shape[1:])
    left_over = (
        f"{path} ends within a frame: after {count} whole frames it holds {rest} bytes of the {one} of the "
        "next"
    )
    held = f"{path} has {size} bytes" + (f", {size - offset} after the offset" if offset else "")
    if shape[0] == -1:
        problem = (
            f"{held}, which is {count} times {shape[1:]} values of {dtype} and {rest} bytes more: it is cut "
            "short, or shape, dtype or offset are others"
        )
        if not count:
            raise ValueError(problem)
        if rest:
            if choice.partial:
                problem = left_over
            choice.incomplete(
                problem, f"If it is cut short, shape={whole} or partial=True (--partial) opens it"
            )
        return whole
    if count == shape[0] and rest:
        choice.note(left_over)
    elif count != shape[0]:
        state = "is cut short" if count < shape[0] else "is longer than that"
        problem = f"{path} {state}: {shape} values of {dtype} take {shape[0] * one} bytes, but {held}"
        if not count:
            raise ValueError(problem)
        choice.incomplete(
            problem, f"shape={whole} or partial=True (--partial) opens the {count} whole frames"
        )
    return whole


def _suite2p(operations: Path) -> tuple[tuple[int, ...], np.dtype[Any], dict[str, Any]]:
    """Shape, dtype and metadata of the ``data.bin`` beside an ``ops.npy``."""
    with errors_named(str(operations)):
        settings = _load_settings(operations)
        height, width = int(settings["Ly"]), int(settings["Lx"])
        frames = int(settings.get("nframes", -1))
    metadata = facts(
        format="raw (suite2p)",
        frame_rate=settings.get("fs"),
        suite2p={
            name: settings.get(name)
            for name in (
                "nplanes",
                "nchannels",
                "functional_chan",
                "do_registration",
                "suite2p_version",
                "version",
            )
            if settings.get(name) is not None
        },
    )
    return (frames, height, width), np.dtype("<i2"), metadata


class _Inert(dict[Any, Any]):
    """Stands for every object of a pickle that is no number, text or array.

    It accepts everything that a pickle does to an object (items, elements, a state, a call) and does nothing,
    so that no object of a pipeline hides the few numbers that are wanted.
    """

    def __init__(self, *_arguments: Any, **_options: Any) -> None:
        super().__init__()

    def __setstate__(self, _state: Any) -> None:
        pass

    def __call__(self, *_arguments: Any, **_options: Any) -> _Inert:
        return self

    def __hash__(self) -> int:  # type: ignore[override]  # it may be the key of a dictionary
        return id(self)

    def append(self, _item: Any) -> None:
        """Take an element, as lists and deques do."""

    def extend(self, _items: Any) -> None:
        """Take elements."""

    def add(self, _item: Any) -> None:
        """Take an element, as sets do."""


class _Settings(pickle.Unpickler):
    """Reads a pickled dictionary of settings without running anything that it names.

    Only numpy's own constructors of arrays and numbers are called.
    """

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "numpy" and name in (
            "_reconstruct",
            "ndarray",
            "dtype",
            "scalar",
            "_frombuffer",
        ):
            return super().find_class(module, name)
        return _Inert


def _load_settings(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        reader = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        _shape, _fortran, dtype = reader(file)
        if not dtype.hasobject:
            raise ValueError("it holds no settings of suite2p")
        content = _Settings(file).load()
    settings = content.item() if isinstance(content, np.ndarray) else content
    if not isinstance(settings, dict) or not {"Ly", "Lx"} <= set(settings):
        raise ValueError("it holds no settings of suite2p (no Ly and Lx)")
    return settings
