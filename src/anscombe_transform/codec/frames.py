"""The frame coder: lossless compression of movies of codes, format ``anscombe-frames-v1``.

After the transform the noise of a movie has one standard deviation everywhere, so that nothing is left to
compress but what can be predicted. The coder predicts each frame from the frames before it and stores the
residuals, which zstd's Huffman stage then brings close to the entropy of the noise.

This module holds what the metadata of an array says (`FrameConfiguration`) and the two functions on arrays,
`encode_chunk` and `decode_chunk`. A chunk is a header of four bytes and a zstd frame; the format page
``docs/reference/anscombe-frames-v1.md`` is the contract.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from anscombe_transform.codec import fitted, still
from anscombe_transform.codec.entropy import (
    SAMPLED,
    DamagedChunkError,
    byte_entropy,
    odd_step,
    pack,
    pack_apart,
    pack_matches,
    scratch,
    unpack,
)
from anscombe_transform.codec.frame_model import FrameModel, fit_model, tables
from anscombe_transform.codec.memory import pool

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    AnyArray = npt.NDArray[Any]

__all__ = [
    "FRAMES",
    "FRAME_NAMES",
    "DamagedChunkError",
    "FrameConfiguration",
    "FrameModel",
    "decode_chunk",
    "encode_chunk",
]

FRAMES = "anscombe-frames-v1"
FRAME_NAMES = (FRAMES, f"numcodecs.{FRAMES}")
"""Every name under which a configuration may be stored."""

PRESETS = ("fast", "compact", "smallest")
_MODELLED = ("compact", "smallest")
CODES = ("uint8", "uint16")

_VERSION = 0xF1
_HEADER = 4
# Low half of the second byte of the header: what the residuals are of. The high half names the entropy
# stage: 0 is zstd, 1 is zstd on pairs, 2 an arithmetic coder.
_STORED, _RUNNING, _MODEL, _LINEAR, _FITTED = 0, 1, 2, 3, 4
_PAIRS = 0x10
# What is added to the bytes of a method before they are paired, and the digit of all larger symbols: codes
# below 13, residuals from -6 to 6 and ranks below 11 have digits of their own.
_DIGITS = {
    _STORED: (np.uint8(0), np.uint8(13)),
    _RUNNING: (np.uint8(6), np.uint8(13)),
    _MODEL: (np.uint8(0), np.uint8(11)),
}
# Third byte of a stored chunk: the bytes of the codes in their order, or all low bytes before all high ones.
_IN_ORDER, _IN_PLANES = 0, 1
_RATES = (1, 2, 3, 4, 5)
# Residuals around 0 have high byte 0 once 128 is added; stored codes are split as they are.
_CENTRED = 128
# Codes of a piece that is packed on trial, and half of a block of zstd, for which it makes one table.
_PIECE, _BLOCK = 1 << 13, 1 << 16
_TABLE = 1.004
# Chunks of so few codes, of so many bits, are not tried in pairs.
_FEW, _SHORT = 1 << 13, 2
# Of a small chunk that the model stores this near to its noise, no prediction would make half a percent less.
_NEAR_NOISE = 1.19
# Where one value of so few is an escape, pairs would be slower than single values.
_MANY_ESCAPES = 8
# Below so many bits a code, matches may be found in residuals: Huffman's code has no less than one.
_REPEATING = 1.5


@dataclass(frozen=True, slots=True)
class FrameConfiguration:
    """What the metadata of an array says about its frame coder; every field is checked on construction.

    Parameters
    ----------
    preset : {"fast", "compact", "smallest"}
        How an encoder predicts; every chunk says for itself how it was stored.
    time_axis : int or None
        Axis along which frames follow each other. None where no axis is time: the last two axes are images
        and the others separate ones.
    model : FrameModel or None
        What ``compact`` and ``smallest`` predict with: one for the whole array, fitted to a sample of its
        codes (`fit`).

    Raises
    ------
    ValueError, TypeError
        If a field breaks its rule.
    """

    preset: Literal["fast", "compact", "smallest"] = "fast"
    time_axis: int | None = 0
    model: FrameModel | None = None

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {self.preset!r}")
        axis = self.time_axis
        if axis is not None and (isinstance(axis, bool) or not isinstance(axis, int)):
            raise TypeError(f"time_axis must be an integer or None, got {axis!r}")
        if axis is not None and not 0 <= axis < 64:
            raise ValueError(f"time_axis must be the number of an axis, counted from 0, got {axis!r}")
        if (self.preset in _MODELLED) != (self.model is not None):
            raise ValueError(
                'preset="compact" and preset="smallest" predict with a model, and no other preset does: make '
                f"the coder with its method fit(codes); got preset={self.preset!r} and model={self.model!r}"
            )
        if self.model is not None and not isinstance(self.model, FrameModel):
            raise TypeError(f"model must be a FrameModel, got {self.model!r}")

    @classmethod
    def fit(
        cls,
        codes: npt.ArrayLike,
        *,
        time_axis: int | None = 0,
        preset: Literal["compact", "smallest"] = "compact",
    ) -> FrameConfiguration:
        """The configuration of a preset that has a model, with one fitted to codes.

        Parameters
        ----------
        codes : array_like of uint8 or uint16
            A piece of the array as the transform leaves it, some tens of frames or more where it has time.
        time_axis : int or None
            Axis along which frames follow each other.
        preset : {"compact", "smallest"}
            The preset.

        Raises
        ------
        TypeError
            If the codes are of another type.
        ValueError
            If there are none, they have no such axis, or the preset has no model.
        """
        if preset not in _MODELLED:
            raise ValueError(f"preset must be one of {', '.join(_MODELLED)} to be fitted, got {preset!r}")
        sample = np.asarray(codes)
        _check_dtype(sample.dtype)
        plain = cls(time_axis=time_axis)
        plain.check_axes(sample.ndim)
        if not sample.size:
            raise ValueError("codes must hold a piece of the array to fit a model to, got none")
        return cls(preset, time_axis, fit_model(_as_frames(sample, time_axis)))

    def check_axes(self, dimensions: int) -> None:
        """Refuse an array that has no such time axis.

        Raises
        ------
        ValueError
            If `time_axis` is beyond the array's dimensions.
        """
        if self.time_axis is not None and self.time_axis >= max(dimensions, 1):
            raise ValueError(
                f"time_axis is {self.time_axis}, but the array has {dimensions} dimensions: give the number "
                "of the axis along which frames follow each other, or None"
            )

    def to_json(self) -> dict[str, Any]:
        """The configuration as JSON types, complete: a reader needs no default."""
        document: dict[str, Any] = {"preset": self.preset, "time_axis": self.time_axis}
        if self.model is not None:
            document["model"] = self.model.to_json()
        return document

    @classmethod
    def from_json(cls, name: str, document: Mapping[str, Any]) -> FrameConfiguration:
        """Read a stored configuration; `name` is the codec's name or id in the metadata.

        Raises
        ------
        ValueError
            If the name is not ours, or a key is missing or unknown.
        """
        if name not in FRAME_NAMES:
            raise ValueError(f"codec name must be one of {', '.join(FRAME_NAMES)}, got {name!r}")
        known = {"preset", "time_axis"}
        if unknown := set(document) - known - {"model"}:
            raise ValueError(
                f"{FRAMES} configuration has unknown keys {sorted(unknown)}: a newer version may have "
                "written it"
            )
        if missing := known - set(document):
            raise ValueError(f"{FRAMES} configuration lacks {sorted(missing)}")
        fields = dict(document)
        if "model" in fields:
            fields["model"] = FrameModel.from_json(fields["model"])
        return cls(**fields)


# --- arrays and frames --------------------------------------------------------------------------------------


def _frame_shape(shape: tuple[int, ...], time_axis: int | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shape with time first, and the same as (time, plane, y, x)."""
    if not shape:
        return (), (1, 1, 1, 1)
    if time_axis is None:
        moved, frames, rest = shape, 1, shape
    else:
        rest = shape[:time_axis] + shape[time_axis + 1 :]
        frames = shape[time_axis]
        moved = (frames, *rest)
    height = rest[-2] if len(rest) > 1 else 1
    width = rest[-1] if rest else 1
    return moved, (frames, math.prod(rest[:-2]), height, width)


def _as_frames(codes: AnyArray, time_axis: int | None) -> AnyArray:
    """The codes as one contiguous native array (time, plane, y, x)."""
    _, shape = _frame_shape(codes.shape, time_axis)
    moved = codes if not time_axis else np.moveaxis(codes, time_axis, 0)
    return np.ascontiguousarray(moved, codes.dtype.newbyteorder("=")).reshape(shape)


def _check_dtype(dtype: np.dtype[Any]) -> None:
    if dtype.kind != "u" or dtype.itemsize > 2:
        raise TypeError(
            f"the frame coder stores codes of uint8 or uint16, got {dtype}: "
            "put the Anscombe transform before it"
        )


def encode_chunk(codes: AnyArray, configuration: FrameConfiguration) -> bytes:
    """Compress a chunk of codes.

    Parameters
    ----------
    codes : ndarray of uint8 or uint16
        Any shape, memory layout and byte order.
    configuration : FrameConfiguration
        How to predict.

    Returns
    -------
    bytes
        The chunk as the format stores it.

    Raises
    ------
    TypeError
        If the codes are of another type.
    ValueError
        If the chunk has no such time axis.

    Examples
    --------
    >>> import numpy as np
    >>> codes = np.random.default_rng(0).poisson(20, (50, 32, 32)).astype("uint8")
    >>> data = encode_chunk(codes, FrameConfiguration())
    >>> bool((decode_chunk(data, codes.shape, codes.dtype, FrameConfiguration()) == codes).all())
    True
    """
    _check_dtype(codes.dtype)
    configuration.check_axes(codes.ndim)
    q = _as_frames(codes, configuration.time_axis)
    q.flags.writeable = False
    if not q.size:
        return _chunk(_STORED, _IN_ORDER, pack(np.empty(0, np.uint8)))
    if configuration.preset == "smallest" and configuration.model is not None and fitted.applies(q):
        return _encode_smallest(q, configuration.model)
    if still.applies(q):
        return _encode_few(q, configuration.model)
    if configuration.model is not None:
        return _encode_compact(q, configuration.model)
    return _encode_fast(q, _best_rate(q))


def decode_chunk(
    data: Any, shape: tuple[int, ...], dtype: npt.DTypeLike, configuration: FrameConfiguration
) -> AnyArray:
    """Decompress a chunk.

    Parameters
    ----------
    data : bytes-like
        What `encode_chunk` gave.
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
    view = memoryview(data).cast("B")
    method, parameter = _read_header(view)
    moved, frames = _frame_shape(tuple(shape), configuration.time_axis)
    q = pool.empty(math.prod(frames), wanted).reshape(frames)
    paired = bool(method & _PAIRS)
    if paired and q.itemsize != 1 and method & 0x0F != _LINEAR:
        raise _unknown("method", method)
    if method in (_STORED, _STORED | _PAIRS):
        _decode_stored(view[_HEADER:], parameter, q, paired=paired)
    elif method in (_RUNNING, _RUNNING | _PAIRS):
        _decode_running(view[_HEADER:], parameter, q, paired=paired)
    elif method in (_MODEL, _MODEL | _PAIRS):
        _decode_model(view[_HEADER:], parameter, q, configuration.model, paired=paired)
    elif method in (_LINEAR, _LINEAR | _PAIRS, _LINEAR | still.RANGES):
        still.decode(view[_HEADER:], method & 0xF0, parameter, q)
    elif method == _FITTED | still.RANGES:
        fitted.decode(view[_HEADER:], q, _model_of(configuration.model, parameter))
    else:
        raise _unknown("method", method)
    axis = configuration.time_axis
    result = q.reshape(moved)
    return result if not axis else np.moveaxis(result, 0, axis)


def _chunk(method: int, parameter: int, frame: bytes) -> bytes:
    return bytes((_VERSION, method, parameter, _VERSION ^ method ^ parameter ^ 0xFF)) + frame


def _unknown(what: str, value: int) -> DamagedChunkError:
    return DamagedChunkError(
        f"the chunk's {what} is {value}, which this version does not know: it is damaged, or a newer version "
        "of anscombe-transform wrote it"
    )


def _read_header(view: memoryview) -> tuple[int, int]:
    """Method and parameter of a chunk, once its four bytes agree with each other."""
    if len(view) < _HEADER:
        raise DamagedChunkError(f"the chunk is damaged: it has {len(view)} bytes, fewer than its header")
    version, method, parameter, check = view[:_HEADER]
    if version ^ method ^ parameter ^ check != 0xFF:
        raise DamagedChunkError("the chunk is damaged: its header does not fit its check byte")
    if version != _VERSION:
        raise _unknown("version", version)
    return method, parameter


# --- bytes of codes and residuals ---------------------------------------------------------------------------


def _bytes_of(values: AnyArray, bias: int) -> npt.NDArray[np.uint8]:
    """Codes or residuals as the bytes that the entropy stage sees; scratch of this thread if of two bytes."""
    from anscombe_transform import _frame_kernels

    line: AnyArray = values.reshape(-1)
    if line.itemsize == 1:
        return line
    payload: npt.NDArray[np.uint8] = scratch("payload", 2 * line.size)
    _frame_kernels.split(line, np.uint16(bias), payload[: line.size], payload[line.size :])
    return payload


def _unpack_values(frame: memoryview, bias: int, out: AnyArray) -> None:
    """Decode the entropy stage into codes or residuals."""
    from anscombe_transform import _frame_kernels

    line = out.reshape(-1)
    if line.itemsize == 1:
        unpack(frame, line)
        return
    payload = scratch("payload", 2 * line.size)
    unpack(frame, payload)
    _frame_kernels.join(payload[: line.size], payload[line.size :], np.uint16(bias), line)


def _decode_stored(frame: memoryview, layout: int, q: AnyArray, *, paired: bool) -> None:
    if layout == _IN_PLANES and q.itemsize == 2:
        _unpack_values(frame, 0, q)
        return
    if layout != _IN_ORDER:
        raise _unknown("layout", layout)
    line = q.reshape(-1)
    if paired:
        _unpack_pairs(frame, _DIGITS[_STORED], line)
        return
    unpack(frame, line.view(np.uint8))
    if q.itemsize == 2 and not line.dtype.newbyteorder("<").isnative:
        line.byteswap(inplace=True)


def _decode_running(frame: memoryview, rate: int, q: AnyArray, *, paired: bool) -> None:
    from anscombe_transform import _frame_kernels

    if rate not in _RATES:
        raise _unknown("rate", rate)
    residuals = scratch("residuals", q.size, q.dtype)
    if paired:
        _unpack_pairs(frame, _DIGITS[_RUNNING], residuals)
    else:
        _unpack_values(frame, _CENTRED, residuals)
    if q.size:
        _frame_kernels.running_restore(residuals.reshape(q.shape), rate, _state(q), q)


def _model_of(model: FrameModel | None, check: int) -> FrameModel:
    """The model of the array, if it is the one that a chunk was made with."""
    if model is None or check != model.check:
        raise DamagedChunkError(
            "the chunk was made with a model that the array's metadata does not hold: one of the two is "
            "damaged, or of another array"
        )
    return model


def _decode_model(
    frame: memoryview, check: int, q: AnyArray, model: FrameModel | None, *, paired: bool
) -> None:
    from anscombe_transform import _model_kernels

    model = _model_of(model, check)
    payload = scratch("payload", q.nbytes)
    if paired:
        _unpack_pairs(frame, _DIGITS[_MODEL], payload)
    else:
        unpack(frame, payload)
    if q.size:
        known = tables(model)
        low, high = payload[: q.size].reshape(q.shape), payload[q.size :]
        _model_kernels.rank_to_code(q, low, high, known.codes, *known.numbers[q.itemsize], _states(q))


def _room_for_pairs(values: int) -> npt.NDArray[np.uint8]:
    """Scratch for pairs of bytes and an escape of each, and the eight bytes more that `pair` asks for."""
    return scratch("pairs", (values + 1) // 2 + values + 8)


def _unpack_pairs(frame: memoryview, digits: tuple[np.uint8, np.uint8], out: npt.NDArray[np.uint8]) -> None:
    """Decode the entropy stage of pairs into flat bytes."""
    from anscombe_transform import _frame_kernels

    pairs = _room_for_pairs(out.size)
    length = unpack(frame, pairs, least=(out.size + 1) // 2)
    if not _frame_kernels.unpair(pairs[:length], *digits, out):
        raise DamagedChunkError(
            "the chunk is damaged: its pairs and escapes do not fit each other, or not the shape and dtype "
            "that it is read with"
        )


def _states(q: AnyArray) -> AnyArray:
    """Scratch for the two running means of the model."""
    # A little more than a frame: a power of two apart, pixels of the two would share a place in the cache.
    size = q[0].size + 160
    return scratch("states", 2 * size, np.int16 if q.itemsize == 1 else np.int32).reshape(2, size)


def _state(q: AnyArray) -> AnyArray:
    from anscombe_transform import _frame_kernels

    return scratch("state", _frame_kernels.BLOCK, np.int16 if q.itemsize == 1 else np.int32)


# --- how a chunk is stored ----------------------------------------------------------------------------------


class _Choice(NamedTuple):
    """Rate of the running mean, 0 for none; least bits that a code takes; the residuals, if at hand."""

    rate: int
    bits: float
    residuals: AnyArray | None = None


def _encode_fast(q: AnyArray, choice: _Choice) -> bytes:
    """The chunk under a running mean, or without prediction where the rate is 0."""
    rate, bits, residuals = choice
    if rate == 0:
        return _smallest(q, _bytes_of(q, 0), _STORED, _IN_ORDER if q.itemsize == 1 else _IN_PLANES, bits)
    if residuals is None:
        residuals = running_residuals(q, rate)
    return _smallest(q, _bytes_of(residuals, _CENTRED), _RUNNING, rate, bits)


def _encode_compact(q: AnyArray, model: FrameModel) -> bytes:
    """The chunk under the model, or as ``fast`` would store it where that has the smaller entropy."""
    return _encode_ranks(q, model, *_ranks(q, model))


def _encode_ranks(q: AnyArray, model: FrameModel, payload: npt.NDArray[np.uint8], found: float) -> bytes:
    """The same, once `_ranks` has told the ranks and the bits that one takes."""
    if (choice := _best_rate(q)).bits < found:
        return _encode_fast(q, choice)
    return _smallest(q, payload, _MODEL, model.check, found)


def _ranks(q: AnyArray, model: FrameModel) -> tuple[npt.NDArray[np.uint8], float]:
    """Ranks of the codes under the model, scratch of this thread, and the bits that one takes at least."""
    from anscombe_transform import _model_kernels

    known = tables(model)
    payload = scratch("ranks", q.nbytes)
    low, high = payload[: q.size], payload[q.size :]
    numbers = known.numbers[q.itemsize]
    _model_kernels.code_to_rank(q, low.reshape(q.shape), high, known.ranks, *numbers, _states(q))
    step = odd_step(q.size)
    skipped = q[0].size if len(q) > 2 else 0
    parts = [part[skipped::step] for part in (low, high) if part.size]
    return payload, sum(byte_entropy(part) for part in parts)


def _encode_few(q: AnyArray, model: FrameModel | None) -> bytes:
    """Few frames under a prediction of their own, unless they are smaller as many would be stored."""
    small = q.size <= 2 * _PIECE
    noise = 0.0
    if model is not None:
        payload, least = _ranks(q, model)
        # What takes less than its noise is more regular than noise, such as codes with gaps.
        noise = still.noise_bits(q[-1])
        if q.size <= _FEW and least <= _NEAR_NOISE * noise:
            modelled = _smallest(q, payload, _MODEL, model.check, least)
            if noise * q.size <= 8 * len(modelled) <= _NEAR_NOISE * noise * q.size:
                return modelled
    prediction, symbols = still.symbols_of(q)
    if model is None and not small:
        plain = _plain_bits(q)
        if plain <= still.entropy(symbols):
            return _encode_fast(q, _best_rate(q))
    below = None if q.size > _FEW else _SHORT
    stage, parameter, frame = still.packed(
        symbols, prediction, pairs_below=below, arithmetic=model is not None
    )
    first = _chunk(_LINEAR | stage, parameter, frame)
    if model is not None:
        fewest = min(least, _plain_bits(q))
        # In noise nothing repeats: then another chunk takes no less than its ranks or codes do one by one.
        own = still.entropy(symbols) * q.size + 8 * prediction.weights.size
        if 8 * len(first) < noise * q.size or fewest * q.size < min(own, 8 * len(first)):
            first = min(first, _encode_ranks(q, model, payload, least), key=len)
        look = _repeats(q)
    else:
        short = 8 * len(first) < _REPEATING * q.size
        look = short or _repeats(q) or (_codes_may_pay if small else _may_repeat)(q, len(first))
    if look:
        return min(first, _chunk(_STORED, _IN_ORDER, pack_matches(_in_order(q))), key=len)
    return first


def _encode_smallest(q: AnyArray, model: FrameModel) -> bytes:
    """The chunk under a prediction fitted to each frame, unless it is smaller as other presets store it."""
    first = _chunk(_FITTED | still.RANGES, model.check, fitted.encode(q, model))
    if still.applies(q):
        return min(first, _encode_few(q, model), key=len)
    short = 8 * len(first) < _REPEATING * q.size
    if short or q.size <= 2 * _PIECE or _repeats(q) or _may_repeat(q, len(first)):
        return min(first, _encode_compact(q, model), key=len)
    return first


def _repeats(q: AnyArray) -> bool:
    """Whether a frame, or a plane of a single frame, is the same as the one before."""
    return any(np.array_equal(one, other) for one, other in pairwise(still.as_stack(q)))


def _codes_may_pay(q: AnyArray, size: int) -> bool:
    """Whether zstd may make less of the codes of a small chunk than so many bytes."""
    from anscombe_transform import _frame_kernels

    raw = _in_order(q)
    return bool(_frame_kernels.zstd_may_pay(raw, raw[: raw.size & ~7].view(np.uint64), size))


def _may_repeat(q: AnyArray, size: int) -> bool:
    """Whether pieces of a chunk show that matches in its codes may make less of it than so many bytes."""
    raw = _in_order(q)
    pieces = [raw[q.itemsize * a : q.itemsize * b] for a, b in _pieces(q.size, _PIECE)]
    return sum(len(pack_matches(piece)) for piece in pieces) < 1.03 * size * len(pieces) * _PIECE / q.size


def running_residuals(q: AnyArray, rate: int) -> AnyArray:
    """Residuals of frames (time, plane, y, x) under the running mean; scratch of this thread."""
    from anscombe_transform import _frame_kernels

    residuals = scratch("residuals", q.size, q.dtype).reshape(q.shape)
    _frame_kernels.running_residual(q, rate, _state(q), residuals)
    return residuals


def _entropy(values: AnyArray, bias: int) -> float:
    """Bits that a value takes at least, if its bytes are coded one by one."""
    payload = _bytes_of(values, bias)
    if values.itemsize == 1:
        return byte_entropy(payload)
    return byte_entropy(payload[: values.size]) + byte_entropy(payload[values.size :])


def _plain_bits(q: AnyArray) -> float:
    """Bits that a code takes at least without prediction, told by some of them."""
    return _entropy(np.ascontiguousarray(q.reshape(-1)[:: odd_step(q.size)]), 0)


def _best_rate(q: AnyArray) -> _Choice:
    """The rate of least entropy on pixels from all over the chunk."""
    from anscombe_transform import _frame_kernels

    frames = q.shape[0]
    if frames <= 2:
        # Rates differ from the third frame on.
        residuals = running_residuals(q, 1)
        step = odd_step(q.size)
        plain = _plain_bits(q)
        found = _entropy(np.ascontiguousarray(residuals.reshape(-1)[::step]), _CENTRED)
        return _Choice(1, found, residuals) if found < plain else _Choice(0, plain)
    sample = _sampled_pixels(q)
    residuals = scratch("sample", sample.size, sample.dtype).reshape(sample.shape)
    best, least = 0, _entropy(sample[1:], 0)
    for rate in _RATES[1:]:
        _frame_kernels.running_residual(sample, rate, _state(q), residuals)
        found = _entropy(residuals[1:], _CENTRED)
        if found < least:
            best, least = rate, found
    return _Choice(best, least)


def _sampled_pixels(q: AnyArray) -> AnyArray:
    """Single pixels from all over the frames through time, as frames of one row.

    A patch would judge the chunk by one place. Rows and columns are taken with a stride, staggered by row.
    """
    frames = min(q.shape[0], SAMPLED)
    start = (q.shape[0] - frames) // 2
    part = q[start : start + frames].reshape(frames, -1)
    step = odd_step(part.size)
    sample = np.ascontiguousarray(part[:, step // 2 :: step]).reshape(frames, 1, 1, -1)
    sample.flags.writeable = False
    return sample


def _smallest(q: AnyArray, payload: npt.NDArray[np.uint8], method: int, parameter: int, bits: float) -> bytes:
    """The chunk with its payload packed, unless zstd's matches make less of it, or of the codes.

    Matches are rare in noise and long in what repeats, such as sparse counts. A chunk that is large and takes
    some bits a code is packed with them only where pieces of it show that it may pay. `bits` is what a code
    of the payload takes at least.
    """
    raw = _in_order(q)
    # The longer table of codes of pairs costs a small chunk more than pairs gain, unless its codes are short.
    pairs = q.itemsize == 1 and (q.size > _FEW or bits < _SHORT)
    first = _packed(payload, method, parameter, pairs=pairs)
    repeats = 8 * len(first) < _REPEATING * q.size
    small = q.size <= 2 * _PIECE
    if small and not repeats and not _codes_may_pay(q, len(first)):
        return first
    if small or repeats:
        plain = _chunk(_STORED, _IN_ORDER, pack_matches(raw))
        if repeats or len(plain) < len(first):
            return min(first, plain, _chunk(method, parameter, pack_matches(payload)), key=len)
        return first
    pieces = _pieces(q.size, _PIECE)
    matched = sum(len(pack_matches(raw[q.itemsize * a : q.itemsize * b])) for a, b in pieces)
    kept = sum(_packed_size(pack, payload, q.size, piece) for piece in pieces)
    if matched > 1.03 * kept:
        return first
    plain = _chunk(_STORED, _IN_ORDER, pack_matches(raw))
    return min(first, plain, _chunk(method, parameter, pack_matches(payload)), key=len)


def _packed(payload: npt.NDArray[np.uint8], method: int, parameter: int, *, pairs: bool) -> bytes:
    """The chunk by the Huffman stage: of values in pairs, where these are allowed and smaller."""
    if not pairs:
        return _chunk(method, parameter, pack(payload))
    digits = _DIGITS[method]
    if payload.size <= 2 * _BLOCK:
        paired = _chunk(method | _PAIRS, parameter, _pack_pairs(payload, digits))
        return min(_chunk(method, parameter, pack(payload)), paired, key=len)
    # The longer table of codes of the pairs is a smaller part of a whole block than of a short piece.
    start = (payload.size - _BLOCK) // 2
    part = payload[start : start + _BLOCK]
    if _size_of_pairs(part, digits) < _TABLE * len(pack(part)):
        return _chunk(method | _PAIRS, parameter, _pack_pairs(payload, digits))
    return _chunk(method, parameter, pack(payload))


def _packed_size(packer: Any, payload: npt.NDArray[np.uint8], size: int, piece: tuple[int, int]) -> int:
    """Size of a piece of the payload packed: the same values of each of its byte planes."""
    start, stop = piece
    return sum(len(packer(payload[at + start : at + stop])) for at in range(0, payload.size, size))


def _pack_pairs(values: npt.NDArray[np.uint8], digits: tuple[np.uint8, np.uint8]) -> bytes:
    """Residuals or ranks packed two in a byte: Huffman codes of whole bits waste half as much on them."""
    from anscombe_transform import _frame_kernels

    pairs = _room_for_pairs(values.size)
    end = _frame_kernels.pair(values, *digits, pairs)
    return pack_apart(pairs[:end], (values.size + 1) // 2)


def _size_of_pairs(values: npt.NDArray[np.uint8], digits: tuple[np.uint8, np.uint8]) -> int:
    """What part of a chunk takes in pairs, the escapes in blocks of their own; too much if they are many."""
    from anscombe_transform import _frame_kernels

    pairs = _room_for_pairs(values.size)
    end = _frame_kernels.pair(values, *digits, pairs)
    kept = (values.size + 1) // 2
    behind = pairs[kept:end]
    if _MANY_ESCAPES * behind.size > values.size:
        return 2 * values.size
    return len(pack(pairs[:kept])) + round(behind.size * byte_entropy(behind) / 8)


def _in_order(q: AnyArray) -> npt.NDArray[np.uint8]:
    """The codes as little-endian bytes in their order."""
    return q.astype(q.dtype.newbyteorder("<"), copy=False).reshape(-1).view(np.uint8)


def _pieces(size: int, piece: int) -> list[tuple[int, int]]:
    """Two ranges of a flat chunk, of more than twice their size, that stand for it."""
    return [(at, at + piece) for at in (size // 3 - piece // 2, 2 * size // 3 - piece // 2)]
