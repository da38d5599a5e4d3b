"""Encoding and decoding arrays: what a configuration needs at work, made once and shared between threads.

A `Plan` picks the fastest kernel that encodes every value of a type exactly, and holds the table that
decodes. Nothing wraps and nothing is clamped unasked: a value without a code raises `UnrepresentableError`.
"""

from __future__ import annotations

import functools
import math
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from anscombe_transform.codec.configuration import (
    CODES,
    EXACT,
    V1,
    Configuration,
    UnrepresentableError,
    check_inside_bins,
    decode_table,
    describe,
    extent,
    fields_of,
    fit,
    holds,
    refuse_masked,
)
from anscombe_transform.codec.memory import pool
from anscombe_transform.transform import noise_increase

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    AnyArray = npt.NDArray[Any]
    F32 = np.float32
    Single = tuple[F32, F32, F32, F32, F32, F32, F32, F32, F32]
    Short = tuple[Any, Any, F32, F32, F32, F32, F32, F32]
    ShortKernel = Callable[[AnyArray, AnyArray], tuple[Any, Any]]

# Offsets to try where float32 puts values on the wrong side of an edge, and how many to mend one by one.
_SHIFTS = tuple(sign * size * 1e-6 for size in (0, 2, 4, 8, 16, 32, 64) for sign in (1, -1))[1:]
_PATCHES = 4
_PAIR_FROM = 1 << 16
# Single values whose codes are kept.
_SCALARS = 64
_MARGIN = 2e-3


class Plan:
    """What follows from a configuration; made by `plan`, shared between threads, never changed.

    Attributes
    ----------
    configuration : Configuration
    curve : Curve
    encoded_dtype, decoded_dtype : numpy.dtype
        Native byte order (codes are stored little-endian, see the format's page).
    lowest, highest : int or float
        The range of signals that have a code.
    """

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.curve = configuration.curve
        self.encoded_dtype = np.dtype(configuration.encoded_dtype)
        self.decoded_dtype = configuration.values_dtype
        # Codes of a signed type are never negative, so that its unsigned twin serves the kernels.
        self._code_view = np.dtype(f"u{self.encoded_dtype.itemsize}")
        self._nan_code = configuration.last_code + 1 if configuration.keeps_nan else -1
        self.lowest, self.highest, self._top = extent(configuration)
        check_inside_bins(configuration, self._top)

    # The table and the look-up are made when first needed: who encodes, or checks parameters, never decodes.
    @property
    def table(self) -> npt.NDArray[np.float64]:
        """Value of every code in use, before rounding to `decoded_dtype`."""
        return decode_table(self.configuration)

    @functools.cached_property
    def _values(self) -> AnyArray:
        """What the look-up gives: the table in `decoded_dtype`, with NaN where that has a code."""
        values = _rounded(self)
        values.flags.writeable = False
        return values

    # -- bounds ------------------------------------------------------------------------------------------

    def max_error(self, signal: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Largest ``|x - decode(encode(x))|`` over all x that share the code of a signal; 0 for NaN.

        The half width of a code's bin is `beta` / 2 standard deviations of the noise there; the rest is where
        in its bin the decoded value lies, and rounding to `decoded_dtype`.
        """
        x = np.asarray(signal, np.float64)
        codes = np.clip(self.curve.code(np.where(np.isnan(x), self.lowest, x)), 0, self._top)
        low, high = self.bins
        value = self._values[: self._top + 1].astype(np.float64)
        return np.where(np.isnan(x), 0.0, np.maximum(high - value, value - low)[codes])

    @functools.cached_property
    def bins(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Smallest and largest signal of every code in use; integers where the values are integers."""
        codes = np.arange(self._top + 2)
        if self.decoded_dtype.kind == "f":
            edges = self.curve.invert(codes - 0.5)
            low, high = edges[:-1], edges[1:]
        else:
            firsts = self.curve.first_integers(codes).astype(np.float64)
            low, high = firsts[:-1], firsts[1:] - 1
        return np.maximum(low, self.lowest), np.minimum(high, self.highest)

    # -- arrays ------------------------------------------------------------------------------------------

    def encode(self, signal: npt.ArrayLike) -> AnyArray:
        """Codes of an array of signals.

        Parameters
        ----------
        signal : array_like
            Integers, or floats if the values are floats; any shape, memory layout and byte order.

        Returns
        -------
        ndarray of `encoded_dtype`
            Same shape; C or Fortran order as the input.

        Raises
        ------
        UnrepresentableError
            If a value has no code and `out_of_range` is "raise".
        TypeError
            If the signal is neither integer nor float, or is float while the values are integers.
        """
        refuse_masked(signal)
        x = np.asarray(signal)
        self._check_kind(x.dtype)
        if not x.dtype.isnative:
            x = x.astype(x.dtype.newbyteorder("="))
        flat, shaped = _flat(x)
        codes = pool.empty(flat.size, self._code_view)
        if flat.size and not self._encode_flat(flat, codes):
            self._refuse(x)
        return shaped(codes.view(self.encoded_dtype))

    def decode(self, codes: npt.ArrayLike, out: AnyArray | None = None) -> AnyArray:
        """Values of an array of codes.

        Parameters
        ----------
        codes : array_like
            Integers of the width of `encoded_dtype`; any shape, memory layout and byte order.
        out : ndarray of `decoded_dtype`, flat and contiguous, optional
            Receives the values in the memory order of `codes`.

        Returns
        -------
        ndarray of `decoded_dtype`
            Same shape; C or Fortran order as the input.

        Raises
        ------
        ValueError
            If a code is not one that this codec writes: the data are damaged or belong to another codec.
        """
        q = np.asarray(codes)
        if q.dtype.itemsize != self.encoded_dtype.itemsize or q.dtype.kind not in "iu":
            raise TypeError(f"codes must be {self.encoded_dtype}, got {q.dtype}")
        if not q.dtype.isnative:
            q = q.astype(q.dtype.newbyteorder("="))
        flat, shaped = _flat(q)
        values = pool.empty(flat.size, self.decoded_dtype) if out is None else out
        if flat.size:
            self._decode_flat(flat.view(self._code_view), values)
        return shaped(values)

    def encode_on_device(self, signal: Any) -> Any:
        """As `encode`, for an array of another library (CuPy): with its own functions, where it lies.

        The array's library must follow the Python array API standard.
        """
        xp = signal.__array_namespace__()
        low, high, zero, gain, constant, scale, root, slope, offset = self._double
        x = xp.astype(signal, xp.float64)
        missing = xp.isnan(x)
        inside = (x >= low) & (x <= high)
        if self._nan_code >= 0:
            inside = inside | missing
        clip = self.configuration.out_of_range == "clip" and not bool(xp.any(xp.isinf(x)))
        refused = ~inside & missing if clip else ~inside
        if bool(xp.any(refused)):
            self._refuse(_on_host(signal))
        n = (xp.clip(xp.where(missing, low, x), low, high) - zero) / gain
        y = xp.where(n < 0, n * slope, scale * (xp.sqrt(xp.clip(n, 0.0, None) + constant) - root))
        codes = xp.where(missing, float(max(self._nan_code, 0)), xp.round(offset + y))
        return xp.astype(codes, getattr(xp, self.encoded_dtype.name))

    def decode_on_device(self, codes: Any) -> Any:
        """As `decode`, for an array of another library."""
        xp = codes.__array_namespace__()
        index = xp.astype(codes, xp.int64)
        wrong = (index > self._top) & (index != self._nan_code)
        if bool(xp.any(wrong)):
            self._check_codes(_on_host(codes).reshape(-1))
        table = xp.asarray(self._values)
        return xp.reshape(xp.take(table, xp.reshape(index, (-1,)), axis=0), codes.shape)

    def encode_scalar(self, value: Any) -> Any:
        """Code of one value as a Python int, for fill values."""
        scalar = np.asarray(value, self.decoded_dtype).reshape(1)
        # Zarr asks for the fill value's several times for each chunk.
        key = scalar.tobytes()
        code = self._scalars.get(key)
        if code is None:
            if len(self._scalars) > _SCALARS:
                self._scalars.clear()
            code = self._scalars[key] = self.encode(scalar)[0].item()
        return code

    @functools.cached_property
    def _scalars(self) -> dict[bytes, Any]:
        """Codes of the values that were asked for one by one."""
        return {}

    def _check_kind(self, dtype: np.dtype[Any]) -> None:
        if dtype.kind not in "iuf" or dtype.itemsize > 8 or dtype == np.float16:
            raise TypeError(f"the signal must be integers of 8 to 64 bits, float32 or float64, got {dtype}")
        if dtype.kind == "f" and self.decoded_dtype.kind != "f":
            raise TypeError(
                f"the signal is {dtype} but decoded_dtype is {self.decoded_dtype}, which would drop "
                'fractions: give decoded_dtype="float32", or round the signal first'
            )

    def _encode_flat(self, x: AnyArray, codes: AnyArray) -> bool:
        """Fill `codes`; whether every value has a code (always true when clipping was chosen)."""
        from anscombe_transform import _kernels

        clip = self.configuration.out_of_range == "clip"
        if x.dtype.kind == "f":
            if x.dtype == np.float32 and self._margin < _MARGIN:
                numbers = (*self._ends, *self._single[2:]), self._double
                outsiders = _kernels.encode_float32(x, codes, *numbers, self._margin, self._nan_code)
            else:
                outsiders = _kernels.encode_floats(x, codes, *self._double, self._nan_code)
            if outsiders and clip and self._nan_code < 0 and np.isnan(x).any():
                return False
            return clip and not np.isinf(x).any() if outsiders else True
        if x.dtype.itemsize <= 2:
            smallest, largest = self._short_kernel(x.dtype)(x, codes)
        else:
            smallest, largest = _kernels.encode_double(x, codes, *self._double)
        return clip or (int(smallest) >= self.lowest and int(largest) <= self.highest)

    def _decode_flat(self, q: AnyArray, values: AnyArray) -> None:
        from anscombe_transform import _kernels

        if q.size < _PAIR_FROM or not self._pairs_possible(q, values):
            largest = _kernels.decode_table(q, self._values, values)
        else:
            largest = int(q.max())
            if largest < self._values.size:
                whole = q.size // 8 * 8
                wide = values[:whole].view(f"u{2 * values.itemsize}")
                _kernels.decode_pairs(q[:whole].view("u8"), self._pairs, wide)
                values[whole:] = self._values[q[whole:]]
        if largest > self._top:
            self._check_codes(q)

    def _check_codes(self, q: AnyArray) -> None:
        """Raise for the first code of a line that this codec does not write."""
        wrong = q > self._top
        if self._nan_code >= 0:
            wrong &= q != self._nan_code
        if not wrong.any():
            return
        where = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"code {int(q[where])} at flat index {where} is none that this codec writes (0 to {self._top}): "
            "the data are damaged, or were written with other parameters"
        )

    def _pairs_possible(self, q: AnyArray, values: AnyArray) -> bool:
        """Whether codes can be looked up two by two: bytes, aligned to eight, and values that pair up."""
        small = q.itemsize == 1 and values.itemsize in (2, 4) and sys.byteorder == "little"
        return small and q.ctypes.data % 8 == 0 and values.ctypes.data % (2 * values.itemsize) == 0

    @functools.cached_property
    def _pairs(self) -> AnyArray:
        """The values of two successive byte codes, indexed by the two bytes as one little-endian integer."""
        every = np.zeros(256, self.decoded_dtype)
        every[: self._values.size] = self._values
        both = np.empty((256, 256, 2), self.decoded_dtype)
        both[..., 0], both[..., 1] = every, every[:, None]
        pairs = both.reshape(-1).view(f"u{2 * self.decoded_dtype.itemsize}")
        pairs.flags.writeable = False
        return pairs

    # -- kernels -----------------------------------------------------------------------------------------

    @functools.cached_property
    def _double(self) -> tuple[float, float, float, float, float, float, float, float, float]:
        """Arguments of the float64 kernels after the arrays."""
        c = self.curve
        root = math.sqrt(c.constant)
        return (
            float(self.lowest),
            float(self.highest),
            float(c.zero_level),
            float(c.conversion_gain),
            c.constant,
            2.0 / c.beta,
            root,
            c.dark_slope,
            float(c.offset),
        )

    @functools.cached_property
    def _single(self) -> Single:
        """Arguments of the float32 kernel after the arrays."""
        low, high, zero, gain, constant, scale, root, slope, offset = self._double
        numbers = (low, high, zero, 1 / gain, constant, scale, scale * root, slope, offset)
        with np.errstate(over="ignore"):
            return cast("Single", tuple(np.float32(v) for v in numbers))

    def _short_numbers(self, dtype: np.dtype[Any], shift: float = 0.0) -> Short:
        """Arguments of the kernels for short integers after the arrays; `shift` moves their offset.

        With n = x * per_gain + shift, which are the photons and the constant, the code is the whole part of
        scale * sqrt(max(n, constant)) + min(n - constant, 0) * slope + offset.
        """
        low, high, zero, gain, constant, scale, root, slope, offset = self._double
        limits = np.iinfo(dtype)
        ends = (
            dtype.type(math.ceil(min(max(low, limits.min), limits.max))),
            dtype.type(math.floor(min(max(high, limits.min), limits.max))),
        )
        numbers = (
            1 / gain,
            constant - zero / gain,
            constant,
            scale,
            slope,
            offset + 0.5 - scale * root + shift,
        )
        with np.errstate(over="ignore"):
            return cast("Short", (*ends, *(np.float32(v) for v in numbers)))

    @functools.cached_property
    def _ends(self) -> tuple[np.float32, np.float32]:
        """The smallest and the largest float32 that have a code."""
        low, high = np.float32(self.lowest), np.float32(self.highest)
        if float(low) < self.lowest:
            low = np.nextafter(low, np.float32(np.inf))
        if float(high) > self.highest:
            high = np.nextafter(high, np.float32(-np.inf))
        return low, high

    @functools.cached_property
    def _margin(self) -> np.float32:
        """Bound on the error of the float32 formula, in codes.

        Every operation adds at most half a last place of its result. The zero level is rounded before it is
        subtracted, which the slope at darkness, the steepest, turns into codes.
        """
        _, _, zero, gain, _, scale, root, slope, offset = self._double
        largest = self._top + scale * root + abs(offset) + 2
        return np.float32(2.0**-24 * (8 * largest + 2 * slope * abs(zero) / gain) + 1e-6)

    def _short_kernel(self, dtype: np.dtype[Any]) -> ShortKernel:
        """The fastest kernel that is exact for every value of an integer type of at most 16 bits."""
        found = self._short.get(dtype.str)
        if found is None:
            found = self._short.setdefault(dtype.str, self._make_short_kernel(dtype))
        return found

    @functools.cached_property
    def _short(self) -> dict[str, ShortKernel]:
        return {}

    def _make_short_kernel(self, dtype: np.dtype[Any]) -> ShortKernel:
        from anscombe_transform import _kernels

        # Every value of the type in the order of its bit patterns.
        patterns = np.arange(1 << 8 * dtype.itemsize, dtype=f"u{dtype.itemsize}").view(dtype)
        inside = np.clip(patterns.astype(np.float64), self.lowest, self.highest)
        exact = self.curve.code(inside).astype(self._code_view)
        patterns.flags.writeable = exact.flags.writeable = False
        codes = np.empty_like(exact)
        # Float32 puts a few values on the wrong side of an edge. A minute shift of the offset may mend that;
        # what it leaves is mended one by one, or the table serves.
        fewest, best = _PATCHES + 1, None
        for shift in _SHIFTS:
            single = self._short_numbers(dtype, shift)
            with np.errstate(all="ignore"):
                _kernels.encode_single(patterns, codes, *single)
            wrong = np.flatnonzero(codes != exact)
            if wrong.size == 0:
                return functools.partial(_encode_single, single)
            if wrong.size < fewest:
                fewest, best = wrong.size, (single, patterns[wrong], exact[wrong] - codes[wrong])
        if best is None:
            return functools.partial(_encode_table, exact)
        single, keys, mend = best
        keys, mend = (np.append(part, np.zeros(_PATCHES - fewest, part.dtype)) for part in (keys, mend))
        return functools.partial(_encode_patched, single, tuple(keys), tuple(mend))

    # -- refusal -----------------------------------------------------------------------------------------

    def _refuse(self, x: AnyArray) -> None:
        """Raise for the first value without a code, saying where it is and what would hold it."""
        # The ends are float64: compared with float32 they would be rounded, and the culprit missed.
        exact = x.astype(np.float64) if x.dtype.kind == "f" else x
        inside = (exact >= self.lowest) & (exact <= self.highest)
        if self._nan_code >= 0:
            inside |= np.isnan(x)
        where = tuple(int(i) for i in np.argwhere(~inside)[0])
        value = x[where].item()
        raise UnrepresentableError(
            f"value {value} at index {where} of the chunk has no code: with {describe(self.configuration)} "
            f"the codec holds {self.lowest} to {self.highest}. {self._remedy(x)}"
        )

    def _remedy(self, x: AnyArray) -> str:
        """Parameters under which the whole array has codes, in a sentence."""
        c = self.configuration
        if x.dtype.kind == "f" and np.isinf(x).any():
            return "Infinities have no code in any format: replace them first."
        if x.dtype.kind == "f" and np.isnan(x).any() and not c.keeps_nan:
            return "NaN has a code in anscombe-v2 only: give zero_code=0 or another v2 parameter."
        low, high = np.nanmin(x).item(), np.nanmax(x).item()
        if c.format == V1:
            for name in CODES:
                if holds(replace(c, encoded_dtype=name), low, high):
                    return f"The chunk spans {low} to {high}: encoded_dtype={name!r} would hold it."
        limits = (
            np.iinfo(self.decoded_dtype) if self.decoded_dtype.kind != "f" else np.finfo(self.decoded_dtype)
        )
        if low < limits.min or high > limits.max:
            return f"The chunk spans {low} to {high}, more than decoded_dtype={c.decoded_dtype!r} holds."
        try:
            wider = fit(replace(c, decode_table=None), low, high)
        except ValueError as error:
            return f"The chunk spans {low} to {high}; {error}."
        changed = [f"{n}={getattr(wider, n)!r}" for n in ("encoded_dtype", "zero_code")]
        return (
            f"The chunk spans {low} to {high}: {' and '.join(changed)} would hold it ({wider.format}); "
            'out_of_range="clip" would cut it off.'
        )


class Bounded:
    """What the codecs of both Zarr formats tell of their loss."""

    __slots__ = ()
    plan: Plan

    def max_error(self, signal: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Bound on ``|x - decoded x|`` for every signal, in signal units; see `Plan.max_error`."""
        return self.plan.max_error(signal)

    @property
    def representable_range(self) -> tuple[float, float]:
        """Smallest and largest signal that has a code."""
        return self.plan.lowest, self.plan.highest

    @property
    def noise_increase(self) -> float:
        """Fraction that quantisation adds to the noise variance: ``beta**2 / 12``."""
        return noise_increase(self.plan.curve.beta)


def _encode_single(numbers: Short, x: AnyArray, codes: AnyArray) -> tuple[Any, Any]:
    from anscombe_transform import _kernels

    return _kernels.encode_single(x, codes, *numbers)


def _encode_patched(numbers: Short, keys: Any, mend: Any, x: AnyArray, codes: AnyArray) -> tuple[Any, Any]:
    from anscombe_transform import _kernels

    return _kernels.encode_patched(x, codes, *numbers, keys, mend)


def _encode_table(table: AnyArray, x: AnyArray, codes: AnyArray) -> tuple[Any, Any]:
    from anscombe_transform import _kernels

    # Ordered by the bit pattern, so that the unsigned view of a value is its index.
    return _kernels.encode_table(x, x.view(f"u{x.dtype.itemsize}"), table, codes)


@functools.lru_cache(maxsize=256)
def plan(configuration: Configuration) -> Plan:
    """The plan of a configuration, made once."""
    return Plan(configuration)


def _on_host(array: Any) -> AnyArray:
    """An array of another library as numpy's, for the words of an error."""
    return np.asarray(array.get() if hasattr(array, "get") else array)


def plan_for(codec: Any) -> Plan:
    """The plan of an `AnscombeTransformV2` or `AnscombeTransformV3`."""
    found: Plan = codec.plan
    return found


def adopt(codec: Any) -> None:
    """Check the fields of a frozen codec as a configuration; keep the checked values and their plan in it."""
    fields = fields_of(codec)
    if isinstance(fields["decode_table"], list | np.ndarray):
        fields["decode_table"] = tuple(fields["decode_table"])
    configuration = Configuration(**fields)
    for name in fields:
        object.__setattr__(codec, name, getattr(configuration, name))
    object.__setattr__(codec, "plan", plan(configuration))


def identity(codec: Any) -> int:
    """Hash of a codec by the parameters that two equal codecs cannot differ in.

    The decode table is left out: one codec may derive the table that another was given.
    """
    return hash(tuple(value for name, value in fields_of(codec).items() if name != "decode_table"))


def _flat(x: AnyArray) -> tuple[AnyArray, Callable[[AnyArray], AnyArray]]:
    """The array as one contiguous line in its own memory order, and how to give a line the array's shape.

    The line is read-only, so that the kernels are compiled for one kind of array whoever owns the memory.
    """
    if x.flags.c_contiguous:
        line, shaped = x.reshape(-1), lambda values: values.reshape(x.shape)
    elif x.flags.f_contiguous:
        line, shaped = x.T.reshape(-1), lambda values: values.reshape(x.shape[::-1]).T
    else:
        line, shaped = pool.empty(x.size, x.dtype), lambda values: values.reshape(x.shape)
        np.copyto(line.reshape(x.shape), x)
    line.flags.writeable = False
    return line, shaped


def _rounded(p: Plan) -> AnyArray:
    """The decode table in the dtype of the values: integers half to even, and inside their type."""
    dtype, table = p.decoded_dtype, p.table
    if dtype.kind != "f":
        limits = np.iinfo(dtype)
        low, high = max(int(limits.min), -EXACT), min(int(limits.max), EXACT)
        return np.rint(np.clip(table, low, high)).astype(dtype)
    values = table.astype(dtype)
    if p._nan_code < 0:
        return values
    # The codes in the gap are refused before this is read; it only keeps the look-up inside the table.
    return np.concatenate([values, np.full(p._nan_code + 1 - values.size, np.nan, dtype)])


def as_codes(buf: Any, configuration: Configuration) -> AnyArray:
    """A buffer as an array of codes: unchanged if it is one, else flat and little-endian as stored."""
    dtype = np.dtype(configuration.encoded_dtype)
    if isinstance(buf, np.ndarray) and buf.dtype.kind in "iu" and buf.dtype.itemsize == dtype.itemsize:
        return buf
    view = memoryview(buf)
    data = np.frombuffer(view if view.c_contiguous else view.tobytes(), np.uint8)
    if data.size % dtype.itemsize:
        raise ValueError(f"{data.size} bytes are no whole number of {dtype} codes: the chunk is damaged")
    return data.view(dtype.newbyteorder("<"))
