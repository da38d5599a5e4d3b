"""Raw frames on the disk of the computer that records, until they are compressed.

The spool is the queue between a camera and the writer, and survives the death of the process: a frame
that `append` has taken is in a file. The frames of each block of the array have two files, ``<first
frame>.frames`` with the values, little-endian in C order, and ``<first frame>.sums`` with the CRC-32 of
each. A frame without its checksum, or with another one, is not used: after a power cut the end of a file
may be anything.

Files of a block are deleted when the block is stored, which mostly happens before the operating system has
written them to the disk: the spool then costs a copy in memory.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.compression.blocks.comparison import checksum
from anscombe_transform.native.durable import delete, make_folders

__all__ = ["Spool"]


class Spool:
    """Frames by number, in files of whole blocks.

    Parameters
    ----------
    folder : Path
        Where the files are; made if it is missing.
    frame_shape : (int, int)
        ``(y, x)``.
    dtype : dtype
        Of the frames.
    block_frames : int
        Frames of a block.
    """

    def __init__(
        self, folder: Path, frame_shape: tuple[int, int], dtype: np.dtype[Any], block_frames: int
    ) -> None:
        self.folder = folder
        self.block_frames = block_frames
        self._shape = frame_shape
        self._dtype = dtype.newbyteorder("<")
        self._open: tuple[int, IO[bytes], IO[bytes]] | None = None
        make_folders(folder)

    def append(self, frames: NDArray[Any], first: int) -> None:
        """Write frames of one block, from the frame with this number on."""
        start = first - first % self.block_frames
        if self._open is None or self._open[0] != start:
            self.close()
            values, sums = self._files(start)
            self._open = start, values.open("ab", buffering=0), sums.open("ab", buffering=0)
        little = np.ascontiguousarray(frames, self._dtype)
        sums_of_frames = np.array([checksum(frame) for frame in little], "<u4")
        ends = [os.fstat(file.fileno()).st_size for file in self._open[1:]]
        try:
            for file, content in zip(self._open[1:], (little, sums_of_frames), strict=True):
                _write_all(file, content.reshape(-1).view(np.uint8).data)
        except BaseException:
            # A frame that was not taken leaves nothing in front of the next one.
            for file, end in zip(self._open[1:], ends, strict=True):
                file.truncate(end)
            raise
        if first + len(frames) == start + self.block_frames:
            self.close()

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """The frames of a block, as many of them as are asked for.

        Raises
        ------
        ValueError
            They are not there, or have changed.
        """
        frames = self._read(start)
        if len(frames) < stop - start:
            raise ValueError(f"frames {start + len(frames)} to {stop - 1} are not in {self.folder}")
        return frames[: stop - start].astype(self._dtype.newbyteorder("="), copy=False)

    def count(self, start: int) -> tuple[int, int]:
        """How many frames of a block are there, whole, from its first on, and how many were taken."""
        return len(self._read(start)), self._files(start)[1].stat().st_size // 4

    def starts(self) -> list[int]:
        """The first frames of the blocks that have files."""
        return sorted(int(path.stem) for path in self.folder.glob("*.sums"))

    def drop(self, start: int) -> None:
        """Delete the files of a block."""
        for path in self._files(start):
            delete(path)

    def close(self) -> None:
        """Close the files of the block that is being written; they stay."""
        if self._open is not None:
            for file in self._open[1:]:
                file.close()
            self._open = None

    def remove(self) -> None:
        """Delete the spool."""
        self.close()
        delete(self.folder)

    def _files(self, start: int) -> tuple[Path, Path]:
        name = f"{start:012d}"
        return self.folder / f"{name}.frames", self.folder / f"{name}.sums"

    def _read(self, start: int) -> NDArray[Any]:
        values, sums = self._files(start)
        pixels = self._shape[0] * self._shape[1]
        if not values.exists() or not sums.exists():
            return np.empty((0, *self._shape), self._dtype)
        expected = np.fromfile(sums, "<u4")
        count = min(values.stat().st_size // (pixels * self._dtype.itemsize), len(expected))
        frames = np.fromfile(values, self._dtype, count * pixels).reshape(count, *self._shape)
        whole = [checksum(frame) == wanted for frame, wanted in zip(frames, expected[:count], strict=True)]
        return frames[: whole.index(False)] if False in whole else frames


def _write_all(file: IO[bytes], data: Any) -> None:
    """Write all bytes; a file without a buffer may take fewer at a time."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
