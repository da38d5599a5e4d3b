"""Chunks of the frame coder as bytes: arrays become frames, and the native core codes them."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from anscombe_transform.native import core, warn_if_slow
from anscombe_transform.native.arrays import AnyArray
from anscombe_transform.native.reference_frames import DamagedChunk
from anscombe_transform.native.reference_frames import decode_chunk as decode_empty
from anscombe_transform.native.reference_frames import encode_chunk as encode_empty

if TYPE_CHECKING:
    import numpy.typing as npt

    from anscombe_transform.codec.frames.presets import FrameConfiguration


__all__ = ["DamagedChunkError", "decode_chunk", "encode_chunk"]

DamagedChunkError = DamagedChunk

_UNKNOWN = -3
# Bounds of the format: rows and pixels of a chunk.
_MOST_ROWS, _MOST_PIXELS = 1 << 31, 1 << 32

# Bytes that a thread keeps at most: enough for chunks of 16 million pixels.
_MOST_KEPT = 1 << 26


class _Scratch(threading.local):
    """Memory that a thread keeps from chunk to chunk.

    Fresh pages from the operating system take a third of an encoder's time with `fast`, a fifth with
    `compact`. The memory goes when the thread ends.
    """

    _memory: AnyArray = np.empty(0, np.dtype(np.uint8))

    def take(self, count: int) -> AnyArray:
        """Return memory of `count` bytes, which hold anything; it is valid until the next call."""
        memory = self._memory if count <= self._memory.size else np.empty(count, np.dtype(np.uint8))
        if count <= _MOST_KEPT:
            self._memory = memory
        return memory[:count]


_scratch = _Scratch()


def encode_chunk(codes: AnyArray, configuration: FrameConfiguration) -> bytes:
    """Compress a chunk of codes.

    Parameters
    ----------
    codes : ndarray of uint8 or uint16
        Any shape, memory layout and byte order.
    configuration : FrameConfiguration
        Preset and time axis.

    Returns
    -------
    bytes
        The chunk as the format stores it.

    Raises
    ------
    TypeError
        If the codes are of another type.
    ValueError
        If the chunk has no such time axis, or 2^32 pixels or more.

    Examples
    --------
    >>> import numpy as np
    >>> from anscombe_transform.codec.frames import FrameConfiguration
    >>> codes = np.random.default_rng(0).poisson(20, (50, 32, 32)).astype("uint8")
    >>> data = encode_chunk(codes, FrameConfiguration())
    >>> bool((decode_chunk(data, codes.shape, codes.dtype, FrameConfiguration()) == codes).all())
    True
    """
    _check_dtype(codes.dtype)
    configuration.check_axes(codes.ndim)
    axis = configuration.time_axis
    shape, planes = _frames_of(codes.shape, axis)
    moved = codes if not axis else np.moveaxis(codes, axis, 0)
    frames = np.ascontiguousarray(moved, codes.dtype.newbyteorder("="))
    if not frames.size:
        return bytes(encode_empty(frames.reshape(shape)))
    warn_if_slow()
    size, needed = core.encode_frames_sizes(*shape, frames.itemsize, planes)
    memory = _scratch.take(size + needed)
    scratch, chunk = memory[:needed], memory[needed:]
    count = core.encode_frames(frames, *shape, frames.itemsize, planes, configuration.effort, chunk, scratch)
    if count < 0:  # pragma: no cover - every size is checked above
        raise RuntimeError(f"the frame coder refused codes of shape {codes.shape}")
    return chunk[:count].tobytes()


def decode_chunk(
    data: Any, shape: tuple[int, ...], dtype: npt.DTypeLike, configuration: FrameConfiguration
) -> AnyArray:
    """Decompress a chunk.

    Parameters
    ----------
    data : bytes-like
        Result of `encode_chunk`.
    shape : tuple of int
        Shape of the chunk.
    dtype : dtype
        Type of its codes, uint8 or uint16.
    configuration : FrameConfiguration
        As at encoding.

    Returns
    -------
    ndarray
        The codes, in native byte order.

    Raises
    ------
    DamagedChunkError
        If the bytes are not a chunk of this shape and type.
    """
    wanted = np.dtype(dtype).newbyteorder("=")
    _check_dtype(wanted)
    configuration.check_axes(len(shape))
    axis = configuration.time_axis
    frames, _ = _frames_of(tuple(shape), axis)
    view = memoryview(data).cast("B")
    if math.prod(frames):
        warn_if_slow()
        needed = core.decode_frames_scratch(view, *frames, wanted.itemsize)
        codes = np.empty(math.prod(frames) if needed >= 0 else 0, wanted)
        status = needed
        if needed >= 0:
            status = core.decode_frames(view, *frames, wanted.itemsize, codes, _scratch.take(needed))
        if status == _UNKNOWN:
            raise DamagedChunkError(
                "the chunk's version is not known: it is damaged, or a newer version of anscombe-transform "
                "wrote it"
            )
        if status < 0:
            raise DamagedChunkError(
                f"the chunk is damaged, or not one of shape {tuple(shape)} and type {wanted.name}: its "
                "checksum or its content does not fit"
            )
    else:
        codes = decode_empty(view, *frames, wanted)
    if not axis:
        return codes.reshape(shape)
    moved = (shape[axis], *shape[:axis], *shape[axis + 1 :])
    return np.moveaxis(codes.reshape(moved), 0, axis)


def _frames_of(shape: tuple[int, ...], time_axis: int | None) -> tuple[tuple[int, int, int], int]:
    """Frames, rows and columns, and how many frames belong to one time."""
    rest = shape
    times = 1
    if time_axis is not None and shape:
        times, rest = shape[time_axis], shape[:time_axis] + shape[time_axis + 1 :]
    height = rest[-2] if len(rest) > 1 else 1
    width = rest[-1] if rest else 1
    planes = math.prod(rest[:-2])
    frames = times * planes
    if frames * height >= _MOST_ROWS or width >= _MOST_ROWS or frames * height * width >= _MOST_PIXELS:
        raise ValueError(
            f"a chunk of the frame coder holds fewer than 2^32 codes in fewer than 2^31 rows, got {shape}: "
            "choose smaller chunks"
        )
    return (frames, height, width), max(planes, 1)


def _check_dtype(dtype: np.dtype[Any]) -> None:
    if dtype.kind != "u" or dtype.itemsize > 2:
        raise TypeError(
            f"the frame coder stores codes of uint8 or uint16, got {dtype}: "
            "put the Anscombe transform before it"
        )
