"""Frames that lie uncompressed in a file.

They are read, not memory-mapped. Mapped pages count as memory of the process, and a mapped file that shrinks
kills it; a read gives an error, and costs the same.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.movies.selection import Box, Choice


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
