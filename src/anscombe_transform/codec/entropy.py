"""The entropy stage of the frame coder: ordinary zstd frames, read defensively.

Residuals of a stabilised movie are noise, in which nothing repeats. `pack` therefore turns zstd's match
finder off (a hash table of 64 entries, matches of 7 bytes) and leaves its Huffman stage: the frames are
smaller and made twice as fast as at level 1. `pack_matches` is zstd at level 1, for what does repeat.

`unpack` trusts nothing: it walks the frame's structure before a byte is decoded, wants the checksum and the
size that the chunk must have, and decodes into memory of that size.

References
----------
RFC 8878, Zstandard compression and the application/zstd media type, sections 3.1.1.1 and 3.1.1.2.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import zstandard

if TYPE_CHECKING:
    import numpy.typing as npt

_MAGIC = b"\x28\xb5\x2f\xfd"
# Scratch of a thread is kept up to this size; above it, clearing fresh pages is a small part of the work.
_KEPT = 64 << 20
# Bytes of eight blocks of zstd.
_MANY = 8 << 17


class DamagedChunkError(ValueError):
    """A stored chunk is not what the frame coder writes; the message says what is wrong with it.

    Examples
    --------
    >>> import numpy as np
    >>> from anscombe_transform import DamagedChunkError, FrameCoderV2
    >>> coder = FrameCoderV2(chunk_shape=(4, 8, 8))
    >>> chunk = bytearray(coder.encode(np.ones((4, 8, 8), "uint8")))
    >>> chunk[-1] ^= 1
    >>> try:
    ...     coder.decode(chunk)
    ... except DamagedChunkError as error:
    ...     print("damaged")
    damaged
    """


class _Thread(threading.local):
    """What each thread has for itself: zstd contexts and scratch memory."""

    def __init__(self) -> None:
        huffman = zstandard.ZstdCompressionParameters(
            strategy=zstandard.STRATEGY_FAST,
            min_match=7,
            hash_log=6,
            window_log=17,
            write_checksum=True,
            write_content_size=True,
        )
        self.huffman = zstandard.ZstdCompressor(compression_params=huffman)
        self.matches = zstandard.ZstdCompressor(level=1, write_checksum=True)
        self.decompressor = zstandard.ZstdDecompressor()
        self.scratch: dict[str, npt.NDArray[np.uint8]] = {}
        self.views: dict[str, tuple[int, npt.DTypeLike, npt.NDArray[Any]]] = {}


_thread = _Thread()


def scratch(name: str, size: int, dtype: npt.DTypeLike = np.uint8) -> npt.NDArray[Any]:
    """Memory of this thread, uninitialised, which the next call with the same name hands out again."""
    last = _thread.views.get(name)
    if last is not None and last[0] == size and last[1] == dtype:
        return last[2]
    wanted = np.dtype(dtype)
    nbytes = size * wanted.itemsize
    block = _thread.scratch.get(name)
    if block is None or block.nbytes < nbytes:
        block = np.empty(nbytes, np.uint8)
        if nbytes <= _KEPT:
            _thread.scratch[name] = block
    view = block[:nbytes].view(wanted)
    if nbytes <= _KEPT:
        # Small chunks of one shape follow each other, for which making the view would be the larger part.
        _thread.views[name] = size, dtype, view
    return view


SAMPLED = 1 << 15
"""Pixels looked at to choose how a chunk is stored; more would not change the choice, and cost time."""


def odd_step(size: int) -> int:
    """Stride through a chunk that takes a sample of it and meets every column."""
    return max(1, size // SAMPLED) | 1


def byte_entropy(payload: npt.NDArray[np.uint8]) -> float:
    """Bits that a byte takes at least, coded one by one."""
    from anscombe_transform import _frame_kernels

    line = np.ascontiguousarray(payload).view()
    # Always read-only, since the loop would be compiled again for an array that is not.
    line.flags.writeable = False
    return float(_frame_kernels.byte_entropy(line))


def pack(data: npt.NDArray[np.uint8]) -> bytes:
    """A zstd frame of contiguous bytes, by its Huffman stage alone."""
    frame: bytes = _thread.huffman.compress(data.data)
    return frame


def pack_apart(data: npt.NDArray[np.uint8], end: int) -> bytes:
    """The same of bytes that have another distribution from `end` on: there a new block begins.

    A frame of many blocks has one at most that mixes the two, and is made faster in one go.
    """
    if data.size > _MANY or end >= data.size:
        return pack(data)
    stream = _thread.huffman.compressobj(size=data.size)
    parts = [stream.compress(data[:end].data), stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)]
    parts += [stream.compress(data[end:].data), stream.flush()]
    return b"".join(parts)


def pack_parts(parts: list[npt.NDArray[np.uint8]]) -> bytes:
    """The same of several, each of which begins a new block."""
    parts = [part for part in parts if part.size]
    stream = _thread.huffman.compressobj(size=sum(part.size for part in parts))
    packed = []
    for part in parts[:-1]:
        packed += [stream.compress(part.data), stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)]
    packed += [stream.compress(parts[-1].data), stream.flush()]
    return b"".join(packed)


def pack_matches(data: npt.NDArray[np.uint8]) -> bytes:
    """A zstd frame of contiguous bytes at level 1."""
    frame: bytes = _thread.matches.compress(data.data)
    return frame


def unpack(frame: memoryview, out: npt.NDArray[np.uint8], least: int | None = None) -> int:
    """Decode one zstd frame into flat bytes, all of which it must fill, or at least `least` of them.

    Returns
    -------
    int
        The bytes that it filled.

    Raises
    ------
    DamagedChunkError
        If the bytes are not one whole zstd frame with a checksum and a content size that suits `out`, or the
        checksum does not fit.
    """
    content = _check_structure(frame, out.nbytes if least is None else least, out.nbytes)
    if not content:
        return 0
    out = out[:content]
    try:
        # The reader decodes straight into `out`, since it sees the whole frame and `out` holds its content.
        got = _thread.decompressor.stream_reader(frame).readinto(out.data)
    except zstandard.ZstdError as error:
        raise DamagedChunkError(f"the chunk is damaged: {error}") from error
    if got != out.nbytes:
        raise DamagedChunkError(f"the chunk is damaged: it decodes to {got} bytes instead of {out.nbytes}")
    return content


def _check_structure(frame: memoryview, least: int, most: int) -> int:
    """Content size of the bytes, which must be exactly one zstd frame of such a size, with a checksum."""
    if bytes(frame[:4]) != _MAGIC:
        raise DamagedChunkError("the chunk is damaged: no zstd frame follows its header")
    try:
        found = zstandard.get_frame_parameters(frame[:18])
        at = zstandard.frame_header_size(frame[:18])
    except zstandard.ZstdError as error:
        raise DamagedChunkError(f"the chunk is damaged: {error}") from error
    content: int = found.content_size
    if not least <= content <= most:
        needed = str(most) if least == most else f"{least} to {most}"
        raise DamagedChunkError(
            f"the chunk holds {content} bytes, but its shape and dtype need {needed}: it is "
            "damaged, or the array's metadata is not what it was written with"
        )
    if not found.has_checksum or found.dict_id:
        raise DamagedChunkError("the chunk is damaged: its zstd frame must have a checksum and no dictionary")
    last = False
    while not last and at + 3 <= len(frame):
        header = frame[at] | frame[at + 1] << 8 | frame[at + 2] << 16
        last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
        at += 3 + (1 if kind == 1 else size)
    if not last or at + 4 != len(frame):
        raise DamagedChunkError(
            f"the chunk is damaged: its zstd frame does not end with its {len(frame)} bytes"
        )
    return content
