"""The frame coder's linear prediction, fitted to each chunk: for still images and movies of few frames.

Running means need time. Where there is little, a code is predicted from a weighted sum of its neighbours
in the same frame and of the mean of the frames before it; the weights are fitted to the chunk and stored in
front of its residuals. Codes that no pixel has are left out first, since a signal of whole numbers leaves
gaps where its codes are finer than the numbers.

References
----------
Weinberger, Seroussi and Sapiro (2000), The LOCO-I lossless image compression algorithm, IEEE Transactions on
Image Processing 9(8), 1309-1324, for causal neighbours and their names.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from anscombe_transform.codec.entropy import (
    DamagedChunkError,
    byte_entropy,
    odd_step,
    pack,
    pack_parts,
    scratch,
    unpack,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    AnyArray = npt.NDArray[Any]

TAPS = 12
WEIGHTS = TAPS + 6
_FEATURES = TAPS + 6
_LEFT = 3
MOST_SETS = 16
RATES = (0, 1, 2, 3, 4, 5)
# Within these the arithmetic stays in 32 bits.
_MOST_WEIGHTS, _MOST_CONSTANT = 1 << 15, 1 << 29
_ONE = 1 << 12
_ESCAPE = -128
_ONE_BYTE = {v: v.to_bytes(1, "little", signed=True) for v in range(_ESCAPE + 1, -_ESCAPE)}
HEAD = 1 + MOST_SETS * (8 + 3 * (WEIGHTS - 2)) + 4 + 8192
"""The most bytes that stand before the symbols of a chunk."""

# What the fit looks at, and what its weights are worth.
_SEGMENT = 32
_SEGMENTS, _SHARE = 512, 128
_RIDGE = 1e-6
# How much more variance residuals must have without the neighbours on the left: 0.01 bits.
_WORTHWHILE = 1.014
# Frames beyond this many are for running means.
_FRAMES = 8
_NOTHING = np.empty((0, 0, 0), np.int32)
# Weights of the first row of all: the left neighbour alone.
_ALONE = np.zeros(WEIGHTS, np.int32)
_ALONE[0] = _ONE
_LARGE_FRAME = 1 << 13


class Prediction(NamedTuple):
    """What a chunk is predicted with: its rate, weights by frame, and the codes it has if there are gaps."""

    rate: int
    precisions: list[int]
    weights: AnyArray
    palette: AnyArray | None


# --- shape --------------------------------------------------------------------------------------------------


def as_stack(q: AnyArray) -> AnyArray:
    """The frames (time, plane, y, x), or the planes in their place where there is only one frame."""
    return q.reshape(q.shape[1], 1, *q.shape[2:]) if q.shape[0] == 1 else q


def applies(q: AnyArray) -> bool:
    """Whether frames (time, plane, y, x) are large enough to fit weights to, and few enough to need it."""
    frames, _, height, width = (int(length) for length in q.shape)
    return frames <= _FRAMES and height >= 8 and width >= _SEGMENT + 6


# --- coding -------------------------------------------------------------------------------------------------


def symbols_of(q: AnyArray) -> tuple[Prediction, AnyArray]:
    """A prediction fitted to frames (time, plane, y, x) and the symbols under it, scratch of this thread."""
    from anscombe_transform import _still_kernels

    q, palette = _without_gaps(q)
    stack = as_stack(q)
    frames = len(stack)
    large = stack[0].size >= _LARGE_FRAME
    sets = min(frames, MOST_SETS if large else 2)
    rate = 0 if len(q) == 1 else 5
    symbols = scratch("symbols", stack.size, stack.dtype).reshape(stack.shape)
    state = _state(stack)
    known = []
    places = _places(stack.shape[1:])
    for t in range(frames):
        if t < sets:
            known.append(_fitted(stack[t], state if t else _NOTHING, places))
        weights = known[-1][1]
        shift = -1 if t == 0 else min(rate, t.bit_length())
        _still_kernels.code_to_symbol(stack[t], symbols[t], weights, _ALONE, shift, state)
    precisions = [precision for precision, _ in known]
    return Prediction(rate, precisions, np.array([w for _, w in known]), palette), symbols.reshape(q.shape)


def codes_of(symbols: AnyArray, prediction: Prediction, q: AnyArray) -> None:
    """Restore frames (time, plane, y, x) from their symbols."""
    from anscombe_transform import _still_kernels

    stack, coded = as_stack(q), as_stack(symbols)
    state = _state(stack)
    for t in range(len(stack)):
        weights = prediction.weights[min(t, len(prediction.weights) - 1)]
        shift = -1 if t == 0 else min(prediction.rate, t.bit_length())
        _still_kernels.symbol_to_code(stack[t], coded[t], weights, _ALONE, shift, state)
    if prediction.palette is not None:
        _with_gaps(q, prediction.palette)


def _state(stack: AnyArray) -> AnyArray:
    return scratch("means", stack[0].size, np.int32).reshape(stack.shape[1:])


def noise_bits(frame: AnyArray) -> float:
    """Bits that the noise of a frame (plane, y, x) takes at least, were it normal and its pixels independent.

    Its variance is that of a second difference along both axes (Immerkær 1996, Fast noise variance
    estimation, Computer Vision and Image Understanding 64(2), 300-302, eq. 2), here of the frame's middle.
    """
    from anscombe_transform import _still_kernels

    planes, height, width = frame.shape
    first, last = height // 4 + 1, height - height // 4 - 1
    mean = _still_kernels.second_differences(frame, first, last) / (planes * (last - first) * (width - 2))
    return 0.5 * math.log2(max(2 * math.pi * math.e * mean / 36, 1.0))


# --- the entropy stage --------------------------------------------------------------------------------------

GAPS = 0x10
"""Bit of the parameter of a chunk: places instead of codes."""
PLAIN, PAIRS, RANGES = 0, 0x10, 0x20
"""Entropy stages: bytes of symbols, pairs of them, and the arithmetic coder."""

_ESCAPE_DIGIT = np.uint8(13)
_NO_BIAS = np.uint8(0)
# A quarter of a block of zstd; pairs have to save more than a part in a thousand.
_PIECE = 1 << 15
_SAVING = 0.999
_ABOVE, _TABLE_BITS = 0.15, 1024
# Symbols below which the table of the arithmetic coder takes more than it saves.
_FEWEST = 1 << 13
BLOCK = 1 << 16
"""Symbols of a block of the arithmetic coder, the last one excepted."""
_TABLE = 1 + 3 * 256 + 4


def packed(
    symbols: AnyArray, prediction: Prediction, *, pairs_below: float | None = None, arithmetic: bool = False
) -> tuple[int, int, bytes]:
    """Entropy stage, parameter and zstd frame of a chunk; `arithmetic` allows the slow and small stage.

    Pairs are tried where a symbol takes less than `pairs_below` bits, if it is given.
    """
    from anscombe_transform import _still_kernels

    parameter = prediction.rate | (GAPS if prediction.palette is not None else 0)
    head = head_of(prediction)
    line = symbols.reshape(-1)
    if line.itemsize == 2:
        narrowed = scratch("narrowed", 3 * line.size)
        line, more = narrowed[: line.size], narrowed[line.size :]
        count = _still_kernels.narrow(symbols.reshape(-1), line, more)
        head += count.to_bytes(4, "little") + more[:count].tobytes()
    front = np.frombuffer(head, np.uint8)
    found = []
    tried = pairs_below is None
    if line.size <= _PIECE:
        found.append((PLAIN, parameter, pack_parts([front, line])))
        if pairs_below is not None:
            # A frame is larger than its entropy by its table and by parts of bits.
            near = 8 * len(found[0][2]) < (pairs_below + _ABOVE) * line.size + _TABLE_BITS
            tried = near and entropy(symbols) < pairs_below
    if tried and (digits := _pairs(line)) is not None:
        found.insert(0, (PAIRS, parameter, pack_parts([front, *digits])))
    if not found:
        found.append((PLAIN, parameter, pack_parts([front, line])))
    if arithmetic and (ranges := _ranges(line)) is not None:
        found.append((RANGES, parameter, pack_parts([np.frombuffer(head + ranges, np.uint8)])))
    return min(found, key=lambda chunk: len(chunk[2]))


def _pairs(line: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.uint8]] | None:
    """Symbols as pairs and their escapes, unless these are many or a piece shows that pairs take more."""
    from anscombe_transform import _frame_kernels

    # `pair` may write eight bytes more than it uses.
    pairs = scratch("pairs", (line.size + 1) // 2 + line.size + 8)
    start = max(0, line.size // 2 - _PIECE // 2)
    piece = line[start : start + _PIECE]
    end, half = _frame_kernels.pair(piece, _NO_BIAS, _ESCAPE_DIGIT, pairs), (piece.size + 1) // 2
    if end - half > piece.size // 8:
        return None
    if piece.size < line.size:
        if len(pack_parts([pairs[:half], pairs[half:end]])) > _SAVING * len(pack(piece)):
            return None
        end, half = _frame_kernels.pair(line, _NO_BIAS, _ESCAPE_DIGIT, pairs), (line.size + 1) // 2
    return [pairs[:half], pairs[half:end]]


def _ranges(line: npt.NDArray[np.uint8]) -> bytes | None:
    """Blocks of the arithmetic coder, each with a table; None where these would be most of it."""
    from anscombe_transform import _still_kernels

    if line.size < _FEWEST:
        return None
    frequency, start = np.zeros(256, np.uint16), np.zeros(256, np.uint16)
    words = scratch("words", BLOCK + 600, np.uint16)
    parts = []
    for at in range(0, line.size, BLOCK):
        block = line[at : at + BLOCK]
        if not _still_kernels.frequencies(block, frequency) < 7.5 * block.size:
            return None
        np.cumsum(frequency[:-1], out=start[1:])
        coded = words[_still_kernels.ranges_encode(block, frequency, start, words) :]
        last = int(np.flatnonzero(frequency)[-1])
        table = [bytes([last]), *(number_bytes(f) for f in frequency[: last + 1].tolist())]
        parts += [*table, coded.size.to_bytes(4, "little"), coded.astype("<u2", copy=False).tobytes()]
    return b"".join(parts)


def _read_ranges(body: npt.NDArray[np.uint8], out: npt.NDArray[np.uint8]) -> bool:
    """Decode what `_ranges` gave; False if the bytes are none of its results."""
    from anscombe_transform import _still_kernels

    at = 0
    start = np.zeros(256, np.uint16)
    for first in range(0, out.size, BLOCK):
        frequency, length = _read_table(body[at : at + _TABLE].tobytes())
        at += length
        count = int.from_bytes(body[at - 4 : at].tobytes(), "little")
        if not length or at + 2 * count > body.size:
            return False
        np.cumsum(frequency[:-1], out=start[1:])
        symbol_at = np.repeat(np.arange(256, dtype=np.uint8), frequency)
        words = np.frombuffer(body[at : at + 2 * count].tobytes(), "<u2").astype(np.uint16)
        at += 2 * count
        if not _still_kernels.ranges_decode(words, frequency, symbol_at, start, out[first : first + BLOCK]):
            return False
    return at == body.size


def _read_table(data: bytes) -> tuple[npt.NDArray[np.uint16], int]:
    """Frequencies of the arithmetic coder, and their length with the number of words behind; 0 if wrong."""
    found = []
    at = 1
    for _ in range(data[0] + 1 if data else 0):
        value, at = read_number(data, at)
        found.append(value)
    whole = sum(found) == 1 << 14 and at + 4 <= len(data)
    frequency = np.zeros(256, np.uint16)
    if whole:
        frequency[: len(found)] = found
    return frequency, at + 4 if whole else 0


def number_bytes(value: int) -> bytes:
    """A number as bytes of seven bits, the lowest first, of which all but the last have 128 added."""
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def read_number(data: bytes, at: int) -> tuple[int, int]:
    """Read a number of three such bytes at most; where it ends."""
    value = shift = 0
    while shift < 21 and at < len(data):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            break
    return value, at


def entropy(symbols: AnyArray) -> float:
    """Bits that a symbol takes at least, all coded alike."""
    line = symbols.reshape(-1)[:: odd_step(symbols.size)]
    if line.itemsize == 1:
        return byte_entropy(line)
    beyond = line >= 224
    bits = 8 * (np.count_nonzero(beyond) + np.count_nonzero(line >= 224 + (31 << 8))) / line.size
    narrowed = np.where(beyond, np.minimum(255, 224 + ((line - 224) >> 8)), line).astype(np.uint8)
    return bits + byte_entropy(narrowed)


def decode(frame: memoryview, stage: int, parameter: int, q: AnyArray) -> None:
    """Restore frames (time, plane, y, x) from a zstd frame of this entropy stage.

    Raises
    ------
    DamagedChunkError
        If the bytes are no such chunk.
    """
    from anscombe_transform import _frame_kernels, _still_kernels

    rate = parameter & 0x0F
    if rate not in RATES or parameter & ~0x1F:
        raise DamagedChunkError(f"the chunk is damaged: it has the parameter {parameter}")
    size = q.size
    content = scratch("content", HEAD + (4 + 2 * size) * (q.itemsize - 1) + (size + 1) // 2 + size)
    content = content[: unpack(frame, content, least=0 if stage == RANGES else (size + 1) // 2)]
    frames = q.shape[1] if len(q) == 1 else len(q)
    prediction, at = read_head(content, rate, frames, q.itemsize, gaps=bool(parameter & GAPS))
    more = content[:0]
    if q.itemsize == 2:
        start = at + 4
        at = start + int.from_bytes(content[at:start].tobytes(), "little")
        more = content[start:at]
    symbols = scratch("symbols", size, q.dtype)
    body = content[at:]
    line: AnyArray = symbols if q.itemsize == 1 else scratch("narrowed", size)
    if stage == RANGES:
        line = scratch("narrowed", size)
        fits = _read_ranges(body, line)
    elif stage == PAIRS:
        fits = _frame_kernels.unpair(body, _NO_BIAS, _ESCAPE_DIGIT, line)
    elif fits := body.size == size:
        line = body
    if fits and q.itemsize == 2:
        fits = _still_kernels.widen(line, more, symbols)
    elif fits:
        symbols = line
    if not fits:
        raise DamagedChunkError(
            "the chunk is damaged: its symbols do not fit each other, or not the shape and dtype that it is "
            "read with"
        )
    if size:
        codes_of(symbols.reshape(q.shape), prediction, q)


# --- codes that no pixel has --------------------------------------------------------------------------------


def _without_gaps(q: AnyArray) -> tuple[AnyArray, AnyArray | None]:
    """Codes as their places among the codes that occur, and these, if leaving out the others is worth it."""
    from anscombe_transform import _still_kernels

    # Always memory that can be written: kernels are called faster with it than with what is read-only.
    codes = scratch("codes", q.size, q.dtype).reshape(q.shape)
    codes[...] = q
    # Codes may be missing by chance where the sample has few of each.
    low, high, missing = _still_kernels.sampled_gaps(codes.reshape(-1), max(1, q.size >> 12) | 1)
    if missing:
        used = np.zeros(256**q.itemsize, bool)
        _still_kernels.mark(codes.reshape(-1), used)
        if _has_gaps(used[low : high + 1]):
            palette = np.flatnonzero(used)
            place = np.zeros(used.size, q.dtype)
            place[palette] = np.arange(palette.size)
            line = codes.reshape(-1)
            _still_kernels.replace(line, place, line)
            return codes, palette
    return codes, None


def _has_gaps(counts: AnyArray) -> bool:
    return int(np.count_nonzero(counts)) <= 0.9 * counts.size


def _with_gaps(q: AnyArray, palette: AnyArray) -> None:
    """Inverse of `_without_gaps`, in place."""
    from anscombe_transform import _still_kernels

    if q.size and int(q.max()) >= palette.size:
        raise DamagedChunkError("the chunk is damaged: it has a code beyond those that it names")
    line = q.reshape(-1)
    _still_kernels.replace(line, palette.astype(q.dtype), line)


# --- fitting ------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=16)
def _places(shape: tuple[int, int, int]) -> AnyArray:
    """Plane, y and x of the segments of a frame that the fit looks at, spread over it."""
    planes, height, width = shape
    across, rows = (width - 5) // _SEGMENT, height - 4
    most = planes * rows * across
    count = min(most, _SEGMENTS, max(40, planes * height * width // _SHARE))
    index = (np.arange(count) * (most / count)).astype(np.int64)
    # Columns by the golden ratio, so that rows and columns are met evenly.
    plane, rest = np.divmod(index, rows * across)
    y = 3 + rest // across
    x = 3 + ((np.arange(count) * 0.6180339887) % 1 * (width - 5 - _SEGMENT)).astype(np.int64)
    return np.stack([plane, y, x], 1)


def _fitted(frame: AnyArray, state: AnyArray, places: AnyArray) -> tuple[int, AnyArray]:
    """Precision and weights of the least squared residuals of a frame (plane, y, x), outliers left out."""
    from anscombe_transform import _still_kernels

    known = bool(state.size)
    used = _FEATURES if known else TAPS + 1
    pixels = _SEGMENT * len(places)
    table = scratch("features", _FEATURES * pixels, np.float32).reshape(_FEATURES, pixels)
    level = _still_kernels.sampled_features(frame, state, places, table)
    gram, found = np.empty((_FEATURES, _FEATURES)), np.empty((3, _FEATURES))
    _still_kernels.gram(table, used, gram)
    _still_kernels.least_squares(gram, used, True, _RIDGE, found[0])
    if frame.size >= _LARGE_FRAME:
        _still_kernels.leave_out(table, used, found[0], scratch("left", pixels, np.float32))
        _still_kernels.gram(table, used, gram)
        _still_kernels.least_squares(gram, used, True, _RIDGE, found[0])
    _still_kernels.least_squares(gram, used, False, _RIDGE, found[1])
    ours, others = (_still_kernels.loss(gram, used, found[k], float(pixels)) for k in range(2))
    chosen = found[0 if others >= _WORTHWHILE * ours else 1]
    weights = np.zeros(WEIGHTS, np.int32)
    precision = _still_kernels.rounded(gram, used, chosen, float(pixels), frame.size, found[2], weights)
    if precision < 0:
        precision, weights[3] = 0, 0 if known else _ONE
    weights[-2] = level
    return precision, weights


def _wrong(weights: AnyArray, itemsize: int) -> str | None:
    """What is wrong with the weights of a frame, if anything."""
    if np.abs(weights[:-2]).sum() > _MOST_WEIGHTS or abs(int(weights[-1])) > _MOST_CONSTANT:
        return "its weights are larger than the arithmetic is made for"
    if weights[-2] >= 8 * 256**itemsize:
        return "its level is none of a code"
    return None


# --- the bytes in front of the symbols ----------------------------------------------------------------------


def weight_bytes(precision: int, weights: AnyArray, *, first: bool) -> bytes:
    """Weights of a frame as bytes: the level, of later frames the constant, then the weights themselves.

    Level and constant are the last two numbers of `weights`. A first frame has `TAPS` others.
    """
    level = int(weights[-2]) | precision << 20
    parts = [level.to_bytes(3, "little")]
    if not first:
        parts.append(int(weights[-1]).to_bytes(4, "little", signed=True))
    values = (weights[: TAPS if first else -2] >> (12 - precision)).tolist()
    parts += [_ONE_BYTE.get(v) or b"\x80" + v.to_bytes(2, "little", signed=True) for v in values]
    return b"".join(parts)


def head_of(prediction: Prediction) -> bytes:
    """The prediction as bytes."""
    parts = [bytes([len(prediction.weights)])]
    for t, (precision, weights) in enumerate(zip(prediction.precisions, prediction.weights, strict=True)):
        parts.append(weight_bytes(precision, weights, first=t == 0))
    if prediction.palette is not None:
        low, high = int(prediction.palette[0]), int(prediction.palette[-1])
        used = np.zeros(high - low + 1, bool)
        used[prediction.palette - low] = True
        parts += [low.to_bytes(2, "little"), (high - low).to_bytes(2, "little")]
        parts.append(np.packbits(used, bitorder="little").tobytes())
    return b"".join(parts)


def read_head(
    content: npt.NDArray[np.uint8], rate: int, frames: int, itemsize: int, *, gaps: bool
) -> tuple[Prediction, int]:
    """The prediction that stands in front of the symbols, and where these begin.

    Raises
    ------
    DamagedChunkError
        If the bytes are no prediction that the arithmetic is made for.
    """
    data = content[:HEAD].tobytes()
    at = 1
    sets = data[0] if data else 0
    if not 1 <= sets <= min(frames, MOST_SETS):
        raise DamagedChunkError(f"the chunk is damaged: it has {sets} sets of weights for {frames} frames")
    found = np.zeros((sets, WEIGHTS), np.int64)
    precisions = []
    for t in range(sets):
        precision, at = read_weights(data, at, found[t], first=t == 0)
        precisions.append(precision)
        if (wrong := _wrong(found[t], itemsize)) is not None:
            raise DamagedChunkError(f"the chunk is damaged: {wrong}")
    palette = None
    if gaps:
        palette, at = _read_palette(data, at, itemsize)
    return Prediction(rate, precisions, found.astype(np.int32), palette), at


def _short() -> DamagedChunkError:
    return DamagedChunkError("the chunk is damaged: it ends within its prediction")


def read_weights(data: bytes, at: int, weights: AnyArray, *, first: bool) -> tuple[int, int]:
    """Read a level, a constant and the weights of a frame; their precision, and where they end.

    Raises
    ------
    DamagedChunkError
        If the bytes end before.
    """
    level = int.from_bytes(data[at : at + 3], "little")
    precision, weights[-2] = level >> 20, level & 0xFFFFF
    at += 3
    if precision > 12:
        raise DamagedChunkError(f"the chunk is damaged: its weights are in parts of 2 ** {precision}")
    if not first:
        weights[-1] = int.from_bytes(data[at : at + 4], "little", signed=True)
        at += 4
    for k in range(TAPS if first else len(weights) - 2):
        if at >= len(data):
            raise _short()
        weight = data[at] - 256 if data[at] > 127 else data[at]
        at += 1
        if weight == _ESCAPE:
            weight = int.from_bytes(data[at : at + 2], "little", signed=True)
            at += 2
        weights[k] = weight << (12 - precision)
    if at > len(data):
        raise _short()
    return precision, at


def _read_palette(data: bytes, at: int, itemsize: int) -> tuple[AnyArray, int]:
    """The codes that a chunk has."""
    if at + 4 > len(data):
        raise _short()
    low, span = (int.from_bytes(data[k : k + 2], "little") for k in (at, at + 2))
    at += 4
    end = at + (span >> 3) + 1
    if end > len(data):
        raise _short()
    used = np.unpackbits(np.frombuffer(data[at:end], np.uint8), bitorder="little")
    palette = low + np.flatnonzero(used)
    if not palette.size or low + span >= 256**itemsize or not used[0] or palette[-1] != low + span:
        raise DamagedChunkError("the chunk is damaged: the codes that it names are no codes of its dtype")
    return palette, end
