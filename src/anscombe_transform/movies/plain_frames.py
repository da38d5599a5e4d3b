"""Frames that lie uncompressed in a file, one after the other.

They are read, not memory-mapped. Mapped pages count as memory of the process, and a mapped file that shrinks
kills it; a read gives an error, and costs the same.
"""

from __future__ import annotations

import threading
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
    """Frames of which each begins ``nbytes`` after the one before.

    Parameters
    ----------
    path : Path
    offset : int
        Where image 0 begins, bytes.
    frame_shape : tuple of int
        Rows and columns of an image as it is stored.
    dtype : numpy.dtype
        With the byte order of the file.
    numbers : range
        Which images are the frames of the movie.
    """

    def __init__(
        self, path: Path, offset: int, frame_shape: tuple[int, int], dtype: np.dtype[Any], numbers: range
    ) -> None:
        self._offset = offset
        self._height, self._width = frame_shape
        self._dtype = dtype
        self._numbers = numbers
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
        frames = self._numbers[box[0]]
        rows = range(self._height)[box[1]]
        height = rows[-1] + 1 - rows[0]
        block = np.empty((len(frames), height, self._width), self._dtype)
        if frames.step == 1 and height == self._height:
            self._fill(block, frames[0] * self._frame)
        else:
            for target, number in zip(block, frames, strict=True):
                self._fill(target, number * self._frame + rows[0] * self._row)
        return block[:, :: rows.step, box[2]]

    def _fill(self, target: NDArray[Any], position: int) -> None:
        """Read the bytes at `position` after the first frame into a C-contiguous array."""
        view = memoryview(target.reshape(-1).view(np.uint8).data)
        with self._lock:
            self._file.seek(self._offset + position)
            done = 0
            while done < len(view):
                count = self._file.readinto(view[done:])  # type: ignore[attr-defined]  # raw files have it
                if not count:
                    raise ValueError(f"the file ends {len(view) - done} bytes too early")
                done += count
