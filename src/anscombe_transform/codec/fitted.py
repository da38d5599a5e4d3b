"""The frame coder's method 4: a prediction fitted to every frame, and an arithmetic coder with contexts.

The first frame is predicted as one alone (`codec.still`). Of the later ones the encoder predicts each by
weights of the 3 × 3 pixels around in two running means, which it fits to the frame itself and stores where
they are worth their bytes: weights of early frames smooth more, and those of a frame that has moved by part
of a pixel shift the past along. What rows above show of a change is weighed in as well, by how active the
surroundings are.

The rank of a code, in the order of the array's model, is coded by its probability in its context, which
is the predicted level and the activity. Contexts alike share a class with one table of frequencies.

References
----------
Duda (2013), Asymmetric numeral systems: entropy coding combining speed of Huffman coding with compression
rate of arithmetic coding, arXiv:1311.2540, for the coder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from anscombe_transform.codec import still
from anscombe_transform.codec.entropy import DamagedChunkError, pack_parts, scratch, unpack
from anscombe_transform.codec.frame_model import CONTEXTS, tables

if TYPE_CHECKING:
    import numpy.typing as npt

    from anscombe_transform.codec.frame_model import FrameModel

    AnyArray = npt.NDArray[Any]

STAGE = still.RANGES
"""The entropy stage of the method: the arithmetic coder."""

ACTIVITIES = 4
FIRST = ACTIVITIES * CONTEXTS
ESCAPE = 255
SMALL = 28
WEIGHTS = SMALL + 2
_TEMPORAL, _TAPS = 19, 24
_SEGMENT = 32
_WHOLE = 1 << 12

# How an encoder chooses what it may choose.
_RATES, _DECAY, _SHARE = (1, 5), 1, 3
_LIMITS = (1.05, 1.4, 2.0)
_MOST_CLASSES = 40
_PRICE = 140.0
_SAMPLED, _FEWEST = 16, 1 << 13
_COUNTED = 1 << 20
# Sums of the arithmetic stay in 16 and 32 bits within these.
_MOST_PAST, _MOST_TAPS, _MOST_ONE, _MOST_CONSTANT = 16000, 8192, 8191, 1 << 29
_LARGEST_RATE, _LARGEST_DECAY, _LARGEST_SHARE, _MOST_LIMIT = 7, 4, 15, 4095
_SPAN = 256
_TABLE = 3 * 256 + 1


class Coding(NamedTuple):
    """What a chunk is predicted and coded with, but for its first frame."""

    rates: tuple[int, int]
    decay: int
    limits: AnyArray
    sets: AnyArray
    set_of: AnyArray
    class_of: AnyArray
    frequency: AnyArray


def applies(q: AnyArray) -> bool:
    """Whether weights can be fitted to frames (time, plane, y, x)."""
    frames, _, height, width = (int(length) for length in q.shape)
    return frames > 1 and height >= 8 and width >= _SEGMENT + 6


# --- encoding -----------------------------------------------------------------------------------------------


def encode(q: AnyArray, model: FrameModel) -> bytes:
    """The zstd frame of frames (time, plane, y, x), to which weights can be fitted."""
    from anscombe_transform import (
        _contexts_kernels,
        _fitted_kernels,
        _fitted_levels_kernels,
        _fitted_weights_kernels,
    )

    size, own, width = q.size, q[0].size, q.shape[3]
    low = scratch("fitted-ranks", size)
    high = scratch("fitted-high", size if q.itemsize == 2 else 0)
    contexts = scratch("fitted-contexts", size, np.uint16)
    start, symbols = still.symbols_of(q[:1])
    line = symbols.reshape(-1)
    low[:own] = line & 0xFF if q.itemsize == 2 else line
    if q.itemsize == 2:
        high[:own] = line >> 8
    contexts[:own] = FIRST
    state = _state(q)
    limits = _limits(q)
    found = np.zeros((len(q), WEIGHTS + 1), np.int32)
    set_of = np.zeros(len(q), np.int64)
    encode_frames = _fitted_kernels.encode_bytes if q.itemsize == 1 else _fitted_kernels.encode_words
    count = encode_frames(
        q,
        np.array(_RATES, np.int64),
        _DECAY,
        limits,
        _places(q.shape[1:]),
        np.int32(8 * int(q[0].mean())),
        tables(model).ranks,
        low,
        high,
        contexts,
        found,
        set_of,
        state,
        _fitted_levels_kernels.work_for(q),
        _fitted_weights_kernels.fit_for(),
    )
    class_of, frequency = _classes(low, high, contexts, width, own)
    head = [_front(start), _head(limits, found[:count], set_of)]
    head.append(_class_bytes(class_of, frequency))
    words = scratch("fitted-words", size + 2 * _contexts_kernels.LANES, np.uint16)
    more = scratch("fitted-more", size * q.itemsize)
    end, kept = _contexts_kernels.encode_symbols(low, high, contexts, width, class_of, frequency, words, more)
    head += [(more.size - kept).to_bytes(4, "little"), more[kept:].tobytes()]
    coded = words[end:].astype("<u2", copy=False).view(np.uint8)
    return pack_parts([np.frombuffer(b"".join(head), np.uint8), coded])


def _state(q: AnyArray) -> AnyArray:
    """Running means after the first frame, (2, plane, y + 2, x + 2)."""
    from anscombe_transform import _fitted_levels_kernels

    _, planes, height, width = q.shape
    shape = (2, planes, height + 2, width + 2)
    dtype = np.int16 if q.itemsize == 1 else np.int32
    state = scratch("fitted-state", 2 * planes * (height + 2) * (width + 2), dtype).reshape(shape)
    _fitted_levels_kernels.begin_means(q[0], state)
    return state


def _limits(q: AnyArray) -> AnyArray:
    """Three limits of the activity, from the mean difference of two frames, and the share of the change."""
    t = len(q) // 2
    one, other = (q[k].reshape(-1)[:: max(1, q[0].size >> 14) | 1].astype(np.int32) for k in (t, t - 1))
    unit = 128 * float(np.abs(one - other).mean()) / np.sqrt(2)
    return np.array([*(min(round(unit * v) + 1, _MOST_LIMIT) for v in _LIMITS), _SHARE], np.int16)


def _places(shape: tuple[int, ...]) -> AnyArray:
    """Plane, y and x of the segments of a frame that the fit looks at, spread over it."""
    planes, height, width = shape
    size = planes * height * width
    count = max(min(size, _FEWEST) // _SEGMENT, size // (_SEGMENT * _SAMPLED))
    rows = planes * height
    index = (np.arange(count) * (rows / count)).astype(np.int64)
    x = ((np.arange(count) * 0.6180339887) % 1 * (width - _SEGMENT + 1)).astype(np.int64)
    return np.stack([index // height, index % height, x], 1)


def _classes(
    low: AnyArray, high: AnyArray, contexts: AnyArray, width: int, own: int
) -> tuple[AnyArray, AnyArray]:
    """The class of every context, and the frequencies of every class."""
    from anscombe_transform import _contexts_kernels

    step = max(1, low.size // _COUNTED) | 1
    counts = np.zeros((FIRST + 1, 256), np.uint32)
    _contexts_kernels.count_symbols(low[:own], high[:own], contexts[:own], width, 1, counts)
    _contexts_kernels.count_symbols(low[own:], high[own:], contexts[own:], width, step, counts)
    counts[:FIRST] *= np.uint32(step)
    joined = np.empty((FIRST, 64), np.float64)
    joined[:, :63] = counts[:FIRST, :63]
    joined[:, 63] = counts[:FIRST, 63:].sum(1)
    ends = np.empty(FIRST, np.int64)
    classes = _contexts_kernels.join_contexts(joined, _PRICE, _MOST_CLASSES, ends)
    ends = ends[:classes]
    frequency = np.zeros((classes + 1, 256), np.uint16)
    begin = 0
    for k, end in enumerate([*ends.tolist(), FIRST + 1]):
        _contexts_kernels.share_out(counts[begin:end], frequency[k])
        begin = end
    class_of = np.full(FIRST + 1, classes, np.uint8)
    class_of[:FIRST] = np.searchsorted(ends, np.arange(FIRST), side="right")
    return class_of, frequency


# --- the bytes in front of the words ------------------------------------------------------------------------


def _front(start: still.Prediction) -> bytes:
    return bytes([start.palette is not None]) + still.head_of(start)


def _head(limits: AnyArray, sets: AnyArray, set_of: AnyArray) -> bytes:
    """Rates and limits, then the sets of weights, each with the number of frames that it is for."""
    parts = [bytes([*_RATES, _DECAY, int(limits[3])])]
    parts += [int(v).to_bytes(2, "little") for v in limits[:3]]
    spans = np.bincount(set_of[1:], minlength=len(sets))
    for weights, span in zip(sets, spans, strict=True):
        parts.append(bytes([span - 1]) + still.weight_bytes(int(weights[-1]), weights[:-1], first=False))
    return b"".join(parts)


def _class_bytes(class_of: AnyArray, frequency: AnyArray) -> bytes:
    """Where every class ends, and its frequencies."""
    count = len(frequency)
    ends = np.cumsum(np.bincount(class_of[:FIRST], minlength=count - 1))
    parts = [bytes([count])] + [int(end).to_bytes(2, "little") for end in ends]
    for row in frequency:
        used = np.flatnonzero(row[:ESCAPE])
        length = int(used[-1]) + 1 if used.size else 0
        parts.append(bytes([length]))
        parts += [still.number_bytes(f) for f in [*row[:length].tolist(), int(row[ESCAPE])]]
    return b"".join(parts)


# --- decoding -----------------------------------------------------------------------------------------------


def decode(frame: memoryview, q: AnyArray, model: FrameModel) -> None:
    """Decode the zstd frame of a chunk into codes (time, plane, y, x).

    Raises
    ------
    DamagedChunkError
        If the bytes are no such chunk.
    """
    from anscombe_transform import _contexts_kernels, _fitted_kernels, _fitted_levels_kernels

    if not applies(q):
        raise DamagedChunkError("the chunk is damaged: frames of its shape are not stored so")
    size, (frames, planes, _, width) = q.size, q.shape
    room = still.HEAD + 100 * frames + 256 * (_TABLE + 3) + (2 + q.itemsize) * size
    content = scratch("content", room)
    content = content[: unpack(frame, content, least=0)]
    if not content.size or content[0] > 1:
        raise _short()
    gaps = bool(content[0])
    start, at = still.read_head(content[1:], 0, planes, q.itemsize, gaps=gaps)
    coding, at = _read_coding(content, at + 1, frames, q.itemsize)
    known = int.from_bytes(content[at : at + 4].tobytes(), "little")
    more = content[at + 4 : at + 4 + known]
    rest = content[at + 4 + known :]
    lanes = _contexts_kernels.LANES
    if more.size != known or rest.size % 2 or rest.size < 4 * lanes:
        raise _short()
    # The kernels look one row ahead of the words that they need, and one word.
    words = scratch("fitted-words", rest.size // 2 + width + 1, np.uint16)
    words[: rest.size // 2] = np.frombuffer(rest.tobytes(), "<u2")
    words[rest.size // 2 :] = 0
    states = words[: 2 * lanes : 2] + 65536 * words[1 : 2 * lanes : 2].astype(np.uint32)
    taken = np.array([2 * lanes, 0], np.int64)
    span = _contexts_kernels.SPAN
    laws = np.empty((len(coding.frequency) + 1) * span // 4, np.uint32)
    table_of, table = coding.class_of.astype(np.uint32) * np.uint32(span), laws.view(np.uint8)
    _contexts_kernels.fill_tables(coding.frequency, table, laws)
    symbols = scratch("symbols", q[0].size, q.dtype).reshape(q.shape[1:])
    if not _contexts_kernels.decode_first(symbols, table_of, table, words, more, states, taken):
        raise _short()
    still.codes_of(symbols[None], start, q[:1])
    decode_frames = _fitted_kernels.decode_bytes if q.itemsize == 1 else _fitted_kernels.decode_words
    fits = decode_frames(
        q,
        coding.sets,
        coding.set_of,
        np.array(coding.rates, np.int64),
        coding.decay,
        coding.limits,
        tables(model).codes,
        table_of,
        table,
        words,
        states,
        taken,
        more,
        _state(q),
        _fitted_levels_kernels.work_for(q),
    )
    if not fits:
        raise DamagedChunkError(
            "the chunk is damaged: its symbols do not fit each other, or not the shape and dtype that it is "
            "read with"
        )


def _short() -> DamagedChunkError:
    return DamagedChunkError("the chunk is damaged: it ends within its prediction, or has none")


def _read_coding(content: npt.NDArray[np.uint8], at: int, frames: int, itemsize: int) -> tuple[Coding, int]:
    """Weights and frequencies that stand in front of the words, and where these begin."""
    end = at + 100 * frames + 256 * (_TABLE + 3)
    data = content[at:end].tobytes()
    if len(data) < 10:
        raise _short()
    rates, decay, share = (data[0], data[1]), data[2], data[3]
    limits = [int.from_bytes(data[k : k + 2], "little") for k in (4, 6, 8)]
    if (
        not all(1 <= rate <= _LARGEST_RATE for rate in rates)
        or not 1 <= decay <= _LARGEST_DECAY
        or share > _LARGEST_SHARE
        or limits != sorted(limits)
        or limits[-1] > _MOST_LIMIT
    ):
        raise DamagedChunkError("the chunk is damaged: its rates or limits are none that the format allows")
    sets, set_of, here = _read_sets(data, 10, frames, itemsize)
    class_of, frequency, here = _read_classes(data, here)
    coding = Coding(rates, decay, np.array([*limits, share], np.int16), sets, set_of, class_of, frequency)
    return coding, at + here


def _read_sets(data: bytes, at: int, frames: int, itemsize: int) -> tuple[AnyArray, AnyArray, int]:
    """Sets of weights, which of them each frame has, and where they end."""
    sets: list[AnyArray] = []
    set_of = np.zeros(frames, np.int64)
    t = 1
    while t < frames:
        if at >= len(data):
            raise _short()
        span = data[at] + 1
        weights = np.zeros(WEIGHTS, np.int64)
        _, at = still.read_weights(data, at + 1, weights, first=False)
        if (
            np.abs(weights[:SMALL]).max() > _MOST_ONE
            or np.abs(weights[:_TEMPORAL]).sum() > _MOST_PAST
            or np.abs(weights[_TEMPORAL:_TAPS]).sum() > _MOST_TAPS
            or abs(int(weights[-1])) > _MOST_CONSTANT
            or weights[-2] >= 8 * 256**itemsize
            or t + span > frames
        ):
            raise DamagedChunkError("the chunk is damaged: its weights are none that the format allows")
        set_of[t : t + span] = len(sets)
        sets.append(weights)
        t += span
    return np.array(sets, np.int32), set_of, at


def _read_classes(data: bytes, at: int) -> tuple[AnyArray, AnyArray, int]:
    """The class of every context, the frequencies of every class, and where they end."""
    count = data[at] if at < len(data) else 0
    listed = data[at + 1 : at - 1 + 2 * count]
    at += 1 + len(listed)
    if count < 2 or len(listed) != 2 * (count - 1):
        raise _short()
    ends = np.frombuffer(listed, "<u2").astype(np.int64)
    if ends[-1] != FIRST or np.any(np.diff(ends, prepend=0) < 1):
        raise DamagedChunkError("the chunk is damaged: its classes do not hold every context")
    class_of = np.full(FIRST + 1, count - 1, np.uint8)
    class_of[:FIRST] = np.searchsorted(ends, np.arange(FIRST), side="right")
    frequency = np.zeros((count, 256), np.uint16)
    for row in frequency:
        if at >= len(data):
            raise _short()
        length = data[at]
        at += 1
        total = 0
        for s in [*range(length), ESCAPE]:
            f, at = still.read_number(data, at)
            total += f
            if total > _WHOLE:
                break
            row[s] = f
        if total != _WHOLE or not row[ESCAPE]:
            raise DamagedChunkError("the chunk is damaged: frequencies of its symbols do not add up")
    return class_of, frequency, at
