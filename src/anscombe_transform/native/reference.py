"""The functions of the native core in plain numpy: their definition, and the fallback without the core.

Every function has the name, arguments and results of its twin in ``_core``; tests hold the two equal bit for
bit. `anscombe_transform.native` picks between them. Arrays are flat, contiguous and of native byte order.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from anscombe_transform.native.arrays import AnyArray
from anscombe_transform.native.reference_frames import DamagedChunk, decode_chunk, encode_chunk
from anscombe_transform.native.reference_noise import (
    noise_scratch as noise_scratch,
)
from anscombe_transform.native.reference_noise import (
    patch_images as patch_images,
)
from anscombe_transform.native.reference_noise import (
    sum_noise as sum_noise,
)


def estimate_codes(is_signed: bool, table: AnyArray, cells: AnyArray) -> None:
    """Prepare the native `encode_table`, which estimates codes where that is faster; numpy looks them up."""


def encode_table(
    signal: AnyArray, table: AnyArray, estimate: bytes | None, codes: AnyArray
) -> tuple[int, int]:
    """Codes of integers of at most 16 bits by look-up.

    Parameters
    ----------
    signal : ndarray of int8, int16, uint8 or uint16
    table : ndarray of uint8 or uint16, shape (256,) or (65536,)
        Code of every value, in the order of their bits as unsigned integers.
    estimate : bytes or None
        As made by `estimate_codes`.
    codes : ndarray of the type of `table`, shape of `signal`
        Receives the codes.

    Returns
    -------
    int, int
        The smallest and the largest signal; 0 and 0 of none.

    Examples
    --------
    >>> codes = np.empty(3, "uint8")
    >>> encode_table(np.array([-1, 0, 7], "int8"), np.arange(256, dtype="uint8")[::-1].copy(), None, codes)
    (-1, 7)
    >>> codes
    array([  0, 255, 248], dtype=uint8)
    """
    if not signal.size:
        return 0, 0
    codes[...] = table[signal.view(f"u{signal.itemsize}")]
    return int(signal.min()), int(signal.max())


def guess_codes(edges: AnyArray, cells: AnyArray, guess: AnyArray) -> int:
    """Prepare the native `encode_edges`, which searches from a guess; numpy needs none.

    Parameters
    ----------
    edges : ndarray of float64 or float32
        Increasing.
    cells : ndarray of float64, shape (6,)
        The curve along which cells are even: zero, 1 / gain, constant, scale, slope, offset.
    guess : ndarray of uint16
        Receives the smallest code of every cell.

    Returns
    -------
    int
        How many edges lie in one cell at most.
    """
    zero, per_gain, constant, scale, slope, offset = cells.astype(edges.dtype)
    inner = edges[1:-1]
    n = (inner - zero) * per_gain
    y = scale * np.sqrt(np.maximum(n, 0) + constant) + slope * np.minimum(n, 0) + offset
    cell = np.clip(y, 0, guess.size - 1).astype(np.int64)
    guess[...] = np.searchsorted(cell, np.arange(guess.size), "left")
    return int(np.bincount(cell).max(initial=0)) if cell.size else 0


def encode_edges(
    signal: AnyArray,
    edges: AnyArray,
    cells: AnyArray,
    guess: AnyArray,
    depth: int,
    nan_code: int,
    codes: AnyArray,
) -> tuple[int, int]:
    """Codes of signals of any type: the number of inner edges that a signal reaches.

    Parameters
    ----------
    signal : ndarray of any integer type, float32 or float64
    edges : ndarray of float64, or of float32 for signals of float32
        Edges of the bins, increasing; the first and the last bound the signals that have a code.
    cells, guess, depth
        As made by `guess_codes`.
    nan_code : int
        Code of NaN, or -1 if it has none.
    codes : ndarray of uint8 or uint16, shape of `signal`
        Receives the codes; of signals outside the edges, the nearest.

    Returns
    -------
    int, int
        Index of the first signal without a code, and of the first that is NaN without a code or infinite;
        ``signal.size`` where there is none.

    Examples
    --------
    >>> codes, edges = np.empty(4, "uint8"), np.array([-0.5, 1.5, 4.5])
    >>> encode_edges(np.array([0, 2, 4, 5]), edges, None, None, 0, -1, codes), codes
    ((3, 4), array([0, 1, 1, 1], dtype=uint8))
    """
    x = signal if signal.dtype.kind == "f" else signal.astype(np.float64)
    missing = np.isnan(x)
    codes[...] = np.searchsorted(edges[1:-1], x, "right")
    outside = ~((x >= edges[0]) & (x < edges[-1]))
    never = missing | np.isinf(x)
    if nan_code >= 0:
        codes[missing] = nan_code
        outside, never = outside & ~missing, never & ~missing
    elif missing.any():
        codes[missing] = 0
    return _first(outside), _first(never)


def _first(found: AnyArray) -> int:
    where = np.flatnonzero(found)
    return int(where[0]) if where.size else found.size


def decode_table(codes: AnyArray, table: AnyArray, values: AnyArray) -> int:
    """Values of codes by look-up.

    Parameters
    ----------
    codes : ndarray of uint8 or uint16
    table : ndarray, shape (256,) or (65536,)
        Value of every code there may be.
    values : ndarray of the type of `table`, shape of `codes`
        Receives the values.

    Returns
    -------
    int
        The largest code, 0 of none.
    """
    values[...] = table[codes]
    return int(codes.max(initial=0))


def largest_errors(original: AnyArray, stored: AnyArray, inverse_bound: AnyArray) -> tuple[float, float]:
    """Largest error of stored integers of at most 16 bits, and largest part of its bound that an error is.

    Parameters
    ----------
    original : ndarray of int8, int16, uint8 or uint16
    stored : ndarray of the same type or float32, same shape
    inverse_bound : ndarray of float32, shape (256,) or (65536,)
        1 / bound of every value, in the order of their bits as unsigned integers.

    Returns
    -------
    float, float
        NaN where a stored value is.
    """
    if not original.size:
        return 0.0, 0.0
    error = np.abs(original.astype(np.float32) - stored.astype(np.float32))
    part = error * inverse_bound[original.view(f"u{original.itemsize}")]
    return float(error.max()), float(part.max())


def crc32(data: Any, crc: int = 0) -> int:
    """CRC-32 of any contiguous buffer, as in zlib.

    Parameters
    ----------
    data : buffer
        Bytes, or a contiguous array.
    crc : int
        Checksum of the preceding bytes.

    Examples
    --------
    >>> hex(crc32(b"123456789"))
    '0xcbf43926'
    """
    return zlib.crc32(data, crc)


FRAMES_DAMAGED = -2
"""Result of `decode_frames` for bytes that are not a chunk of this shape."""


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
