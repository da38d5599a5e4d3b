"""The functions of the native core in plain numpy: their definition, and the fallback without the core.

Every function has the name, arguments and results of its twin in ``_core``; tests hold the two equal bit for
bit. `anscombe_transform.native` picks between them.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from anscombe_transform.reference_frames import DamagedChunk, decode_chunk, encode_chunk


def crc32(data: Any, crc: int = 0) -> int:
    """CRC-32 of any contiguous buffer, as in zlib.

    Parameters
    ----------
    data : buffer
        Bytes, or a contiguous array.
    crc : int
        Checksum of what came before.

    Examples
    --------
    >>> hex(crc32(b"123456789"))
    '0xcbf43926'
    """
    return zlib.crc32(data, crc)


FRAMES_DAMAGED = -2
"""What `decode_frames` returns for bytes that are not a chunk of this shape."""


def encode_frames_sizes(frames: int, height: int, width: int, itemsize: int, planes: int) -> tuple[int, int]:
    """Most bytes of a chunk of the frame coder, and bytes of scratch that `encode_frames` needs."""
    return frames * height * width * itemsize + 8, 0


def encode_frames(
    codes: Any,
    frames: int,
    height: int,
    width: int,
    itemsize: int,
    planes: int,
    effort: int,
    out: Any,
    scratch: Any,
) -> int:
    """Compress codes into `out`; the bytes they take. Without the core, every effort is the least."""
    values = np.frombuffer(codes, f"u{itemsize}").reshape(frames, height, width)
    chunk = encode_chunk(values, planes)
    np.frombuffer(out, np.uint8)[: len(chunk)] = np.frombuffer(chunk, np.uint8)
    return len(chunk)


def decode_frames_scratch(data: Any, frames: int, height: int, width: int, itemsize: int) -> int:
    """Bytes of scratch that `decode_frames` needs, or a negative number if the chunk is damaged."""
    return 0


def decode_frames(
    data: Any, frames: int, height: int, width: int, itemsize: int, out: Any, scratch: Any
) -> int:
    """Decompress a chunk into `out`; 0, or a negative number if it is damaged."""
    try:
        codes = decode_chunk(data, frames, height, width, f"u{itemsize}")
    except DamagedChunk:
        return FRAMES_DAMAGED
    np.frombuffer(out, f"u{itemsize}")[:] = codes.reshape(-1)
    return 0
