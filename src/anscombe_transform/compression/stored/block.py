"""One block of a movie: written to the array, read back, compared with the source."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.compression.blocks.comparison import Comparison, checksum
from anscombe_transform.compression.blocks.layout import Layout
from anscombe_transform.compression.blocks.sampling import Extent
from anscombe_transform.compression.blocks.verification import VerificationError, merged
from anscombe_transform.compression.stored.arrays import codec_of, has_zarr_3, sync_chunks, zarr_module
from anscombe_transform.compression.stored.journal import Record

__all__ = ["BlockWriter", "ReadFailure", "is_intact", "read_back", "stored_checksums"]


# Seconds to wait before a read that failed is tried again.
_PAUSES = (0.2, 1.0)

# Bytes of a chunk below which chunks go together.
_SMALL_CHUNK = 1 << 20


class ReadFailure(OSError):
    """The store could not be read, for a reason outside the stored data."""


@dataclass(slots=True)
class BlockWriter:
    """Writes blocks to an array; shared by threads, and sent to other machines.

    Attributes
    ----------
    array : zarr.Array
        Open for writing.
    layout : Layout
        By which the array was made.
    verify : bool
        Whether to read back the block.
    """

    array: Any
    layout: Layout
    verify: bool
    _comparison: Comparison | None = None

    def __call__(self, block: NDArray[Any], start: int) -> Record:
        """Write a block that begins at a frame.

        Raises
        ------
        UnrepresentableError
            A value has no code.
        VerificationError
            The block can't be read back.
        """
        source = tuple(checksum(frame) for frame in block)
        stop = start + len(block)
        stored, checked = [], []
        for top, bottom in self.layout.bands:
            part = block[:, top:bottom]
            self._write(part.astype(self.array.dtype, copy=False), start, top)
            if self.verify:
                values = read_back(self.array, start, stop, top, bottom)
                stored.append(checksum(values))
                checked.append(self._compare(part, values, start, top))
                del values
        # On the disk before the journal says so; threads wait for it at the same time.
        sync_chunks(self.array, self.layout, start, stop)
        return Record(
            start,
            stop,
            source,
            tuple(stored) if self.verify else None,
            Extent.of(block),
            merged(checked) if self.verify else None,
        )

    def _write(self, values: NDArray[Any], start: int, top: int) -> None:
        """Write a band that begins at a frame and a row.

        Zarr copies each chunk out of a larger array into fresh memory, but takes a chunk as it is. Small
        chunks gain more by going together.
        """
        if self.layout.shards is not None or math.prod(self.layout.chunks) * values.itemsize < _SMALL_CHUNK:
            chunks = values.shape
        else:
            chunks = self.layout.chunks
        for corner in product(*(range(0, n, step) for n, step in zip(values.shape, chunks, strict=True))):
            chunk = values[tuple(slice(at, at + step) for at, step in zip(corner, chunks, strict=True))]
            first = (start + corner[0], top + corner[1], corner[2])
            self.array[tuple(slice(at, at + n) for at, n in zip(first, chunk.shape, strict=True))] = chunk

    def _compare(self, part: NDArray[Any], values: NDArray[Any], start: int, top: int) -> Any:
        if self._comparison is None:
            codec: Any = codec_of(self.array)
            self._comparison = Comparison(codec.plan, self.layout)
        return self._comparison.compare(part, values, start, top)

    def __reduce__(self) -> tuple[Any, ...]:
        # The tables of a comparison are made where they are used.
        return type(self), (self.array, self.layout, self.verify)


def stored_checksums(array: Any, layout: Layout, start: int, stop: int) -> tuple[int, ...]:
    """Checksums of the bands of a block as they are stored."""
    return tuple(checksum(read_back(array, start, stop, top, bottom)) for top, bottom in layout.bands)


def is_intact(array: Any, layout: Layout, record: Record) -> bool:
    """Whether a block can be read, and agrees with its record."""
    try:
        found = stored_checksums(array, layout, record.start, record.stop)
    except VerificationError:
        return False
    return record.stored is None or record.stored == found


def read_back(array: Any, start: int, stop: int, top: int, bottom: int) -> NDArray[Any]:
    """Stored values of a band.

    Raises
    ------
    VerificationError
        A chunk is damaged; the error names the first one.
    ReadFailure
        The store gave no bytes, in three attempts. The stored data may be intact.
    """
    pauses = iter(_PAUSES)
    while True:
        try:
            return _read(array, start, stop, top, bottom)
        except (MemoryError, ImportError):
            raise
        except Exception as error:  # each codec and store has its own kind
            chunk = _unreadable(array, start, stop, top, bottom)
            where = "" if chunk is None else f", in chunk {chunk}"
            if chunk is not None and _is_damaged(array, chunk):
                raise VerificationError(
                    f"frames {start} to {stop - 1} of the stored array can't be read{where}: {error}"
                ) from error
            pause = next(pauses, None)
            if pause is None:
                raise ReadFailure(
                    f"reading frames {start} to {stop - 1} of the stored array failed{where}: {error}. The "
                    "disk or the connection failed, which says nothing of what is stored: try again"
                ) from error
        time.sleep(pause)


def _read(array: Any, start: int, stop: int, top: int, bottom: int) -> NDArray[Any]:
    """A band, read into one piece of memory."""
    selection = (slice(start, stop), slice(top, bottom), slice(None))
    shape = (stop - start, bottom - top, array.shape[2])
    values = np.empty(shape, array.dtype)
    out: Any = values
    if has_zarr_3():
        from zarr.core.buffer import default_buffer_prototype

        out = default_buffer_prototype().nd_buffer.from_numpy_array(values)
    return np.asarray(array.get_basic_selection(selection, out=out))


def _is_damaged(array: Any, chunk: tuple[int, ...]) -> bool:
    """Whether the bytes of a chunk can't be decoded; False where the store fails to give any.

    They are decoded from memory, so that a store that fails now and then is not taken for damage.
    """
    outer = getattr(array, "shards", None) or array.chunks
    index = tuple(i * n // m for i, n, m in zip(chunk, array.chunks, outer, strict=True))
    part = tuple(slice(i * n, (i + 1) * n) for i, n in zip(chunk, array.chunks, strict=True))
    try:
        copy = _with_one_chunk(array, index)
    except Exception:  # each store has its own kind
        return False
    try:
        copy[part]
    except Exception:  # each codec has its own kind
        return True
    return False


def _with_one_chunk(array: Any, index: tuple[int, ...]) -> Any:
    """The array in memory, with the bytes of one chunk or shard."""
    zarr: Any = zarr_module()
    held: dict[str, Any]
    if not has_zarr_3():
        key = array._chunk_key(index)
        names = (key, f"{array.path}/.zarray" if array.path else ".zarray")
        held = {name: array.chunk_store[name] for name in names if name in array.chunk_store}
        return zarr.Array(held, path=array.path, read_only=True)
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.sync import sync
    from zarr.storage import MemoryStore, StorePath

    key = array.metadata.encode_chunk_key(index)
    content = sync((array.store_path / key).get(default_buffer_prototype()))
    held = {} if content is None else {key: content}
    return zarr.Array(zarr.AsyncArray(metadata=array.metadata, store_path=StorePath(MemoryStore(held))))


def _unreadable(array: Any, start: int, stop: int, top: int, bottom: int) -> tuple[int, ...] | None:
    """The first chunk of a band that can't be read by itself."""
    t, y, x = array.chunks
    for frame in range(start, stop, t):
        for row in range(top, bottom, y):
            for column in range(0, array.shape[2], x):
                try:
                    array[frame : min(frame + t, stop), row : min(row + y, bottom), column : column + x]
                except Exception:
                    return frame // t, row // y, column // x
    return None
