"""The Anscombe transform of arrays: its configuration, checked once, and what follows from it.

A `Configuration` is what an array's metadata says. Two formats share it:

``anscombe-v1``
    zero level, gain and two dtypes; the code of the signal 0 is 0, one code is half a standard deviation of
    the shot noise, and a code decodes to the middle of the integers that it stands for, truncated.
``anscombe-v2``
    everything v1 cannot say: read noise, the step `beta`, room for values below the zero level (`zero_code`),
    clipping by choice (`out_of_range`) and the value of every code (`decode_table`).

A `Plan` is what follows from a configuration: the range of signals that have codes, the kernel that encodes
them and the table that decodes them. Plans are made once per configuration and shared between threads.

Nothing wraps and nothing is clamped unasked: a value without a code raises `UnrepresentableError`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from anscombe_transform.decode_table import BLUR, unbiased
from anscombe_transform.transform import Curve, check_detector, check_number

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    AnyArray = npt.NDArray[Any]
    F32 = np.float32
    Single = tuple[F32, F32, F32, F32, F32, F32, F32, F32, F32]
    ShortKernel = Callable[[AnyArray, AnyArray], tuple[Any, Any]]

V1 = "anscombe-v1"
V2 = "anscombe-v2"
NAMES = (V1, V2, f"numcodecs.{V1}", f"numcodecs.{V2}")
"""Every name under which a configuration may be stored."""

BETA_V1 = 0.5
V1_TOP = 32767
"""Largest input of anscombe-v1's tables, except for uint16 arrays, whose tables span the dtype."""

_V2_CODES = ("uint8", "uint16")
_V1_CODES = (*_V2_CODES, "uint32", "int8", "int16", "int32")
_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_FLOATS = ("float32", "float64")
_TABLE_DECIMALS = 6
_SHIFTS = tuple(sign * size * 1e-6 for size in (0, 2, 4, 8, 16, 32, 64) for sign in (1, -1))[1:]
_PATCHES = 4
_EXACT = 2**52
_PAIR_FROM = 1 << 16


class UnrepresentableError(ValueError):
    """A value has no code under the codec's parameters; the message says which do."""


def _dtype_name(name: str, value: Any, known: tuple[str, ...], *, byte_order: bool = False) -> str:
    """Canonical spelling of a dtype: its name, or ``'>i2'`` and the like where `byte_order` matters."""
    try:
        dtype = np.dtype(value)
    except TypeError as error:
        raise TypeError(f"{name} must be one of {', '.join(known)}, got {value!r}") from error
    if dtype.name not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
    return spelling(dtype) if byte_order else str(dtype.name)


def spelling(dtype: np.dtype[Any]) -> str:
    """How a configuration spells a dtype: its name, or ``'>i2'`` and the like for big-endian ones."""
    return dtype.str if dtype.byteorder == ">" else str(dtype.name)


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the metadata of an array says about its transform; every field is checked on construction.

    Parameters
    ----------
    zero_level : float
        Signal without light.
    conversion_gain : float
        Signal units per photon, > 0.
    encoded_dtype : str
        dtype of the codes: uint8 or uint16 (v1 also reads the other integers of at most 32 bits).
    decoded_dtype : str
        dtype of the values: an integer, float32 or float64. Big-endian spellings such as ``">i2"`` are kept,
        since a Zarr V2 array reinterprets the decoded bytes.
    read_noise : float
        Standard deviation of the signal without light, signal units, >= 0.
    beta : float
        Quantisation step in standard deviations of the noise.
    zero_code : int or None
        Code of `zero_level`; room for values below it. None leaves v1's layout where v1 can say the rest, and
        else gives the smallest code that holds the signal 0 and eight standard deviations of the read noise.
    out_of_range : {"raise", "clip"}
        What happens to a value without a code.
    decode_table : tuple of float or None
        Value of every code from 0; its length limits the codes in use. None derives it from the rest.

    Raises
    ------
    ValueError, TypeError
        If a field breaks its rule; the message names the field, the rule and the value.
    """

    zero_level: float
    conversion_gain: float
    encoded_dtype: str = "uint8"
    decoded_dtype: str = "int16"
    read_noise: float = 0.0
    beta: float = BETA_V1
    zero_code: int | None = None
    out_of_range: Literal["raise", "clip"] = "raise"
    decode_table: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        checked = check_detector(self.conversion_gain, self.zero_level, self.read_noise, self.beta)
        for name, value in zip(("conversion_gain", "zero_level", "read_noise", "beta"), checked, strict=True):
            put(name, value)
        if self.out_of_range not in ("raise", "clip"):
            raise ValueError(f'out_of_range must be "raise" or "clip", got {self.out_of_range!r}')
        if self.zero_code is not None:
            rule = "an integer (the code of zero_level)"
            code = check_number("zero_code", self.zero_code, rule, lambda v: v == int(v) and abs(v) < 2**31)
            put("zero_code", int(code))
        values = (*_INTEGERS, *_FLOATS)
        put("decoded_dtype", _dtype_name("decoded_dtype", self.decoded_dtype, values, byte_order=True))
        put("encoded_dtype", _dtype_name("encoded_dtype", self.encoded_dtype, _V1_CODES))
        if self.format == V1:
            return
        put("encoded_dtype", _dtype_name("encoded_dtype", self.encoded_dtype, _V2_CODES))
        if self.zero_code is None:
            dark = max(self.zero_level, 8 * self.read_noise, 0)
            put("zero_code", math.ceil(dark / self.conversion_gain * self._curve(0.0).dark_slope))
        if self.decode_table is not None:
            put("decode_table", self._checked_table(self.decode_table))

    @property
    def format(self) -> str:
        """``anscombe-v1`` where it can say everything that this configuration says, else ``anscombe-v2``."""
        plain = self.read_noise == 0 and self.beta == BETA_V1 and self.out_of_range == "raise"
        return V1 if plain and self.zero_code is None and self.decode_table is None else V2

    @property
    def curve(self) -> Curve:
        """The stabilising curve, with the offset that this format gives it."""
        if self.format == V2:
            return self._curve(float(cast("int", self.zero_code)))
        slope = self._curve(0.0).dark_slope
        return self._curve(self.zero_level * slope / self.conversion_gain)

    def _curve(self, offset: float) -> Curve:
        return Curve(self.conversion_gain, self.zero_level, self.read_noise, self.beta, offset)

    @property
    def keeps_nan(self) -> bool:
        """Whether the highest code is kept for NaN: in v2, for floating-point values."""
        return self.format == V2 and np.dtype(self.decoded_dtype).kind == "f"

    @property
    def last_code(self) -> int:
        """The largest code that may stand for a number."""
        return int(np.iinfo(np.dtype(self.encoded_dtype)).max) - int(self.keeps_nan)

    def _checked_table(self, table: Any) -> tuple[float, ...]:
        try:
            values = np.asarray(table, np.float64)
        except (TypeError, ValueError) as error:
            raise TypeError(f"decode_table must be a sequence of numbers, got {table!r}") from error
        limit = self.last_code + 1
        if values.ndim != 1 or not 1 <= values.size <= limit:
            raise ValueError(
                f"decode_table must list the values of 1 to {limit} codes ({self.encoded_dtype} codes of "
                f"{self.decoded_dtype} values), got an array of shape {values.shape}"
            )
        if not np.isfinite(values).all():
            raise ValueError("decode_table must hold finite numbers")
        if (np.diff(values) < 0).any():
            where = int(np.flatnonzero(np.diff(values) < 0)[0])
            raise ValueError(f"decode_table must not decrease, but does from code {where} to {where + 1}")
        return tuple(values.tolist())

    def to_json(self) -> dict[str, Any]:
        """The configuration as JSON types, complete: a reader needs no default."""
        document: dict[str, Any] = {
            "zero_level": self.zero_level,
            "conversion_gain": self.conversion_gain,
            "encoded_dtype": self.encoded_dtype,
            "decoded_dtype": self.decoded_dtype,
        }
        if self.format == V2:
            document |= {
                "read_noise": self.read_noise,
                "beta": self.beta,
                "zero_code": self.zero_code,
                "out_of_range": self.out_of_range,
                "decode_table": plan(self).table.tolist(),
            }
        return document

    @classmethod
    def from_json(cls, name: str, document: Mapping[str, Any]) -> Configuration:
        """Read a stored configuration; `name` is the codec's name or id in the metadata.

        Raises
        ------
        ValueError
            If the name is not ours, a key is missing, or a key is unknown: a configuration that says more
            than this reader understands would decode to other values.
        """
        if name not in NAMES:
            raise ValueError(f"codec name must be one of {', '.join(NAMES)}, got {name!r}")
        format_ = name.removeprefix("numcodecs.")
        known = {"zero_level", "conversion_gain", "encoded_dtype", "decoded_dtype"}
        required = {"zero_level", "conversion_gain"}
        if format_ == V2:
            required = known | {"zero_code", "decode_table"}
            known = required | {"read_noise", "beta", "out_of_range"}
        if unknown := set(document) - known:
            raise ValueError(
                f"{format_} configuration has unknown keys {sorted(unknown)}: "
                "a newer version may have written it"
            )
        if missing := required - set(document):
            raise ValueError(f"{format_} configuration lacks {sorted(missing)}")
        return cls(**document)


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
        self.decoded_dtype = np.dtype(configuration.decoded_dtype).newbyteorder("=")
        # Codes of a signed type are never negative, so that its unsigned twin serves the kernels.
        self._code_view = np.dtype(f"u{self.encoded_dtype.itemsize}")
        self._nan_code = configuration.last_code + 1 if configuration.keeps_nan else -1
        limits = _v1_range(self) if configuration.format == V1 else _v2_range(self)
        self.lowest, self.highest, self._top = limits
        if not self.lowest <= self.highest:
            raise ValueError(
                f"no value of {self.decoded_dtype} has a code with {self._parameters()}: "
                "a zero_code near the middle of the codes leaves room on both sides of zero_level"
            )

    # Made when first needed: who encodes, or checks parameters, never decodes.
    @functools.cached_property
    def table(self) -> npt.NDArray[np.float64]:
        """Value of every code in use, before rounding to `decoded_dtype`."""
        table = _decode_table(self)
        table.flags.writeable = False
        return table

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
        x = np.asarray(signal)
        self._check_kind(x.dtype)
        if not x.dtype.isnative:
            x = x.astype(x.dtype.newbyteorder("="))
        flat, shaped = _flat(x)
        codes = np.empty(flat.size, self._code_view)
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
        values = np.empty(flat.size, self.decoded_dtype) if out is None else out
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
        return self.encode(np.asarray(value, self.decoded_dtype).reshape(1))[0].item()

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

        even = q.size // 2 * 2
        if q.size < _PAIR_FROM or not self._pairs_possible(q, values):
            largest = _kernels.decode_table(q, self._values, values)
        else:
            largest = int(q.max())
            if largest < self._values.size:
                wide = values[:even].view(f"u{2 * values.itemsize}")
                _kernels.decode_table(q[:even].view("u2"), self._pairs, wide)
                values[even:] = self._values[q[even:]]
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
        """Whether two codes can be looked up as one integer: bytes, aligned, and values that pair up."""
        small = q.itemsize == 1 and values.itemsize in (2, 4) and sys.byteorder == "little"
        return small and q.ctypes.data % 2 == 0 and values.ctypes.data % (2 * values.itemsize) == 0

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
            single = (*self._single[:-1], np.float32(self.curve.offset + shift))
            with np.errstate(all="ignore"):
                _kernels.encode_single(patterns, codes, *single)
            wrong = np.flatnonzero(codes != exact)
            if wrong.size == 0:
                return functools.partial(_encode_single, single)
            if wrong.size < fewest:
                mend = exact[wrong].astype(np.int32) - codes[wrong].astype(np.int32)
                fewest, best = wrong.size, (single, patterns[wrong].astype(np.int32), mend)
        if best is None:
            return functools.partial(_encode_table, exact)
        single, keys, mend = best
        fill = [np.int32(0)] * (_PATCHES - fewest)
        return functools.partial(_encode_patched, single, (*keys, *fill), (*mend, *fill))

    # -- refusal -----------------------------------------------------------------------------------------

    def _refuse(self, x: AnyArray) -> None:
        """Raise for the first value without a code, saying where it is and what would hold it."""
        inside = (x >= self.lowest) & (x <= self.highest)
        if self._nan_code >= 0:
            inside |= np.isnan(x)
        where = tuple(int(i) for i in np.argwhere(~inside)[0])
        value = x[where].item()
        raise UnrepresentableError(
            f"value {value} at index {where} of the chunk has no code: with {self._parameters()} the codec "
            f"holds {self.lowest} to {self.highest}. {self._remedy(x)}"
        )

    def _parameters(self) -> str:
        c = self.configuration
        names = ["conversion_gain", "zero_level", "encoded_dtype", "decoded_dtype"]
        if c.format == V2:
            names[2:2] = ["read_noise", "beta", "zero_code"]
        return f"{c.format} and " + ", ".join(f"{name}={getattr(c, name)!r}" for name in names)

    def _remedy(self, x: AnyArray) -> str:
        """Parameters under which the whole array has codes, in a sentence."""
        c = self.configuration
        if x.dtype.kind == "f" and np.isinf(x).any():
            return "Infinities have no code in any format: replace them first."
        if x.dtype.kind == "f" and np.isnan(x).any() and not c.keeps_nan:
            return "NaN has a code in anscombe-v2 only: give zero_code=0 or another v2 parameter."
        low, high = np.nanmin(x).item(), np.nanmax(x).item()
        if c.format == V1:
            for name in _V2_CODES:
                if _holds(replace(c, encoded_dtype=name), low, high):
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


def _encode_single(numbers: Single, x: AnyArray, codes: AnyArray) -> tuple[Any, Any]:
    from anscombe_transform import _kernels

    return _kernels.encode_single(x, codes, *numbers)


def _encode_patched(numbers: Single, keys: Any, mend: Any, x: AnyArray, codes: AnyArray) -> tuple[Any, Any]:
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


# The fields that the codecs of both Zarr formats share with `Configuration`.
_FIELDS = tuple(f.name for f in dataclasses.fields(Configuration))


def fields_of(codec: Any) -> dict[str, Any]:
    """The parameters of a codec, as its constructor takes them."""
    return {name: getattr(codec, name) for name in _FIELDS}


def adopt(codec: Any) -> None:
    """Check the fields of a frozen codec as a configuration; keep the checked values and their plan in it."""
    fields = fields_of(codec)
    if fields["decode_table"] is not None:
        fields["decode_table"] = tuple(fields["decode_table"])
    configuration = Configuration(**fields)
    for name in _FIELDS:
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
        line, shaped = np.ascontiguousarray(x).reshape(-1), lambda values: values.reshape(x.shape)
    line.flags.writeable = False
    return line, shaped


def _v1_range(p: Plan) -> tuple[int | float, int | float, int]:
    """Range and largest code of anscombe-v1: integers from 0, up to its table's end or the last code."""
    curve, dtype = p.curve, p.decoded_dtype
    limit = 65535 if dtype == np.uint16 else V1_TOP
    if dtype.kind != "f":
        limit = min(limit, int(np.iinfo(dtype).max))
    last = min(p.configuration.last_code, int(curve.code(limit)))
    first, beyond = curve.first_integers([0, last + 1]).tolist()
    return max(first, 0), min(limit, beyond - 1), last


def _v2_range(p: Plan) -> tuple[int | float, int | float, int]:
    """Range and largest code of anscombe-v2: what its decode table and its dtype allow."""
    c, curve, dtype = p.configuration, p.curve, p.decoded_dtype
    last = c.last_code if c.decode_table is None else len(c.decode_table) - 1
    if dtype.kind != "f":
        limits = np.iinfo(dtype)
        top = min(int(limits.max), _EXACT)
        last = min(last, max(int(curve.code(top)), 0)) if c.decode_table is None else last
        first, beyond = curve.first_integers([0, last + 1]).tolist()
        return max(first, int(limits.min)), min(beyond - 1, top), last
    low, high = curve.invert([-0.5, last + 0.5]).tolist()
    low, high = max(low, -_EXACT), min(high, _EXACT)
    # The inverse is rounded, so the edge itself may fall to the neighbouring code.
    while curve.code(low) < 0:
        low = math.nextafter(low, math.inf)
    while curve.code(high) > last:
        high = math.nextafter(high, -math.inf)
    return low, high, last


def _decode_table(p: Plan) -> npt.NDArray[np.float64]:
    c = p.configuration
    if c.format == V1:
        return _v1_values(p)
    if c.decode_table is not None:
        return np.array(c.decode_table, np.float64)
    return _derived_table(p.curve, p._top, p.decoded_dtype)


def _rounded(p: Plan) -> AnyArray:
    """The decode table in the dtype of the values: integers half to even, inside the range that has codes."""
    dtype, table = p.decoded_dtype, p.table
    if dtype.kind != "f":
        return np.rint(np.clip(table, p.lowest, p.highest)).astype(dtype)
    values = table.astype(dtype)
    if p._nan_code < 0:
        return values
    # The codes in the gap are refused before this is read; it only keeps the look-up inside the table.
    return np.concatenate([values, np.full(p._nan_code + 1 - values.size, np.nan, dtype)])


def _derived_table(
    curve: Curve, last: int, dtype: np.dtype[Any], noise: float | None = None
) -> npt.NDArray[np.float64]:
    """The decode table of anscombe-v2 where none is given, as short numbers of JSON."""
    table = unbiased(curve, last, integers=dtype.kind != "f", read_noise=noise)
    return np.round(table, _TABLE_DECIMALS)


def _v1_values(p: Plan) -> npt.NDArray[np.float64]:
    """Values of anscombe-v1: the middle of a code's integers among the inputs of its table, truncated.

    The last bin ends where the table ends. A code that no integer reaches gets the truncated middle of its
    real edges; no integer array holds it.
    """
    first = p.curve.first_integers(np.arange(p._top + 2)).astype(np.float64)
    low, high = np.maximum(first[:-1], 0), first[1:] - 1
    # Narrower types share the table of int16, unless the middle of their last bin does not fit them.
    table_top = 65535 if p.decoded_dtype == np.uint16 else V1_TOP
    for end in (table_top, p.highest):
        middle = (low + np.minimum(high, end)) / 2
        if middle[-1] <= p.highest:
            break
    edges = p.curve.invert(np.arange(p._top + 2) - 0.5)
    values = np.where(high >= low, middle, (edges[:-1] + edges[1:]) / 2)
    values = np.clip(values, p.lowest, p.highest)
    return np.trunc(values) if p.decoded_dtype.kind != "f" else values


def fit(
    configuration: Configuration,
    low: float,
    high: float,
    *,
    choose_codes: bool = True,
    least_blur: float = 0.0,
) -> Configuration:
    """The configuration nearest to the given one under which signals from `low` to `high` have codes.

    `zero_code` grows until `low` has a code; with `choose_codes` the narrowest encoded dtype is taken that
    reaches `high`, else the given one is kept. The decode table ends at the code of `high` and assumes noise
    of at least `least_blur` signal units.

    Raises
    ------
    ValueError
        If no encoded dtype holds the range, naming the smallest `beta` that would.
    """
    c = configuration
    dtype = np.dtype(c.decoded_dtype)
    flat = Curve(c.conversion_gain, c.zero_level, c.read_noise, c.beta)
    below = math.ceil(-float(flat.stabilize(low)) - 0.5)
    zero_code = max(below, 0)
    top = int(Curve(c.conversion_gain, c.zero_level, c.read_noise, c.beta, float(zero_code)).code(high))
    for name in _V2_CODES if choose_codes else (c.encoded_dtype,):
        wider = replace(c, encoded_dtype=name, zero_code=zero_code, decode_table=None)
        if top <= wider.last_code:
            table = _derived_table(wider.curve, top, dtype, max(least_blur, c.read_noise))
            return replace(wider, decode_table=tuple(table.tolist()))
    needed = c.beta * (top + 1) / wider.last_code
    raise ValueError(
        f"the range {low} to {high} needs {top + 1} codes at beta={c.beta}, more than {wider.encoded_dtype} "
        f"has; beta={math.ceil(needed * 100) / 100} would fit"
    )


def choose_configuration(
    conversion_gain: float,
    zero_level: float,
    *,
    read_noise: float = 0.0,
    beta: float = BETA_V1,
    sample: npt.ArrayLike | None = None,
    decoded_dtype: npt.DTypeLike | None = None,
    encoded_dtype: npt.DTypeLike | None = None,
    zero_code: int | None = None,
    out_of_range: Literal["raise", "clip"] = "raise",
    measured: bool = False,
) -> tuple[Configuration, str]:
    """Pick the format, the dtype of the codes and the room below zero for a movie, and say why.

    Parameters
    ----------
    conversion_gain, zero_level, read_noise, beta, zero_code, out_of_range
        As in `Configuration`.
    sample : array_like, optional
        Values that must have codes: the movie, a piece of it, or its smallest and largest value. Without it
        v1 is taken where it can say the rest.
    decoded_dtype : dtype, optional
        dtype of the array; by default the sample's, or int16 without one.
    encoded_dtype : str, optional
        By default uint8 where the sample's codes fit it, else uint16.
    measured : bool
        Whether the constants were measured on a movie and not given: the decode table then allows for a blur
        of a quarter of a photon that the measurement may have missed.

    Returns
    -------
    Configuration, str
        The choice, and one sentence of explanation.

    Raises
    ------
    ValueError
        If a parameter breaks its rule or no configuration holds the sample.
    """
    values = None if sample is None else np.asarray(sample)
    if values is not None and values.size == 0:
        raise ValueError("sample must hold at least one value, got an empty array")
    if decoded_dtype is None:
        decoded_dtype = "int16" if values is None else values.dtype
    base = Configuration(
        zero_level=zero_level,
        conversion_gain=conversion_gain,
        encoded_dtype=cast("str", encoded_dtype or "uint8"),
        decoded_dtype=np.dtype(decoded_dtype).str,
        read_noise=read_noise,
        beta=beta,
        zero_code=zero_code,
        out_of_range=out_of_range,
    )
    if values is None:
        return base, f"{base.format}, {base.encoded_dtype} codes: no sample was given to fit the range to"
    if values.dtype.kind == "f" and np.isinf(values).any():
        raise ValueError("sample must hold no infinities: they have no code, replace them first")
    has_nan = values.dtype.kind == "f" and bool(np.isnan(values).any())
    if has_nan and np.isnan(values).all():
        raise ValueError("sample must hold at least one number, got only NaN")
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    names = (base.encoded_dtype,) if encoded_dtype else _V2_CODES
    if base.format == V1 and not has_nan:
        for name in names:
            candidate = replace(base, encoded_dtype=name)
            if _holds(candidate, low, high):
                return candidate, f"{V1}, {name} codes: it holds the sample's range, {low:g} to {high:g}"
    if zero_code is not None or out_of_range == "clip":
        for name in names:
            candidate = replace(base, encoded_dtype=name)
            if _holds(candidate, low, high):
                return candidate, f"{V2}, {name} codes: it holds the sample's range, {low:g} to {high:g}"
        if out_of_range == "clip":
            return (
                base,
                f"{V2}, {base.encoded_dtype} codes: values outside their range are clipped, as chosen",
            )
    # Room beyond the sample: the darkest and brightest value of a movie are rarely in a piece of it.
    dtype = np.dtype(base.decoded_dtype)
    limits = np.iinfo(dtype) if dtype.kind != "f" else np.finfo(dtype)
    noise = Curve(base.conversion_gain, base.zero_level, base.read_noise).noise_std([low, high])
    wide_low = max(low - 2 * float(noise[0]), float(limits.min))
    wide_high = min(high + max(4 * float(noise[1]), (high - low) / 4), float(limits.max))
    if dtype.kind != "f":
        wide_low, wide_high = math.floor(wide_low), math.ceil(wide_high)
    blur = BLUR * base.conversion_gain if measured else 0.0
    errors: list[ValueError] = []
    for span in ((wide_low, wide_high), (low, high)):
        try:
            chosen = fit(base, *span, choose_codes=encoded_dtype is None, least_blur=blur)
        except ValueError as error:
            errors.append(error)
            continue
        why = "NaN" if has_nan else "values v1 has no code for" if base.format == V1 else "its parameters"
        p = plan(chosen)
        return chosen, (
            f"{V2}, {chosen.encoded_dtype} codes, zero_code {chosen.zero_code}: needed for {why}; "
            f"it holds {p.lowest:g} to {p.highest:g}"
        )
    raise errors[-1]


def _holds(configuration: Configuration, low: float, high: float) -> bool:
    try:
        p = plan(configuration)
    except ValueError:
        return False
    return p.lowest <= low and high <= p.highest


# -- the functions of anscombe-transform 1.0.0 -----------------------------------------------------------


def encode(
    buf: npt.ArrayLike, *, conversion_gain: float, zero_level: float, encoded_dtype: npt.DTypeLike
) -> AnyArray:
    """Encode an array as ``anscombe-v1``.

    Parameters
    ----------
    buf : array_like
        Signal: integers of 0 or more, or floats.
    conversion_gain : float
        Signal units per photon, > 0.
    zero_level : float
        Signal without light.
    encoded_dtype : dtype
        dtype of the codes.

    Returns
    -------
    ndarray of `encoded_dtype`
        Same shape.

    Raises
    ------
    UnrepresentableError
        If a value has no code.

    Examples
    --------
    >>> import numpy as np
    >>> encode(np.array([50, 140, 9050]), conversion_gain=90.0, zero_level=50, encoded_dtype="uint8")
    array([ 2,  4, 39], dtype=uint8)
    """
    x = np.asarray(buf)
    name = x.dtype.newbyteorder("=").name
    decoded = name if name in (*_INTEGERS, *_FLOATS) else "int16"
    configuration = Configuration(
        zero_level=zero_level,
        conversion_gain=conversion_gain,
        encoded_dtype=cast("str", encoded_dtype),
        decoded_dtype=decoded,
    )
    return plan(configuration).encode(x)


def decode(
    buf: Any,
    *,
    conversion_gain: float,
    zero_level: float,
    encoded_dtype: npt.DTypeLike,
    decoded_dtype: npt.DTypeLike,
) -> AnyArray:
    """Decode ``anscombe-v1`` codes.

    Parameters
    ----------
    buf : bytes-like or ndarray
        Codes.
    conversion_gain, zero_level, encoded_dtype
        As they were encoded.
    decoded_dtype : dtype
        dtype of the values.

    Returns
    -------
    ndarray of `decoded_dtype`
        The shape of `buf` if it is an array of `encoded_dtype`, else flat.

    Raises
    ------
    ValueError
        If a code is none that these parameters write.

    Examples
    --------
    >>> import numpy as np
    >>> codes = np.array([2, 4, 39], "uint8")
    >>> decode(codes, conversion_gain=90.0, zero_level=50, encoded_dtype="uint8", decoded_dtype="int16")
    array([  56,  138, 8854], dtype=int16)
    """
    configuration = Configuration(
        zero_level=zero_level,
        conversion_gain=conversion_gain,
        encoded_dtype=cast("str", encoded_dtype),
        decoded_dtype=cast("str", decoded_dtype),
    )
    return plan(configuration).decode(as_codes(buf, configuration))


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


def make_anscombe_lookup(
    conversion_gain: float,
    input_max: int = 0x7FFF,
    zero_level: float = 0,
    beta: float = 0.5,
    output_type: npt.DTypeLike = "uint8",
) -> AnyArray:
    """Code of every integer signal from 0 to `input_max`, as ``anscombe-v1`` numbers them.

    Parameters
    ----------
    conversion_gain : float
        Signal units per photon, > 0.
    input_max : int
        Last signal of the table.
    zero_level : float
        Signal without light.
    beta : float
        Quantisation step in standard deviations of the noise.
    output_type : dtype
        dtype of the codes.

    Returns
    -------
    ndarray of `output_type`, shape (input_max + 1,)

    Raises
    ------
    UnrepresentableError
        If a code does not fit `output_type`.

    Examples
    --------
    >>> make_anscombe_lookup(100.0).max()
    np.uint8(70)
    """
    gain, zero, _, step = check_detector(conversion_gain, zero_level, 0.0, beta)
    slope = Curve(gain, zero, 0.0, step).dark_slope
    codes = Curve(gain, zero, 0.0, step, zero * slope / gain).code(np.arange(int(input_max) + 1))
    dtype = np.dtype(output_type)
    if dtype.kind == "f":
        return codes.astype(dtype)
    limits = np.iinfo(dtype)
    wrong = (codes < limits.min) | (codes > limits.max)
    if wrong.any():
        value = int(np.flatnonzero(wrong)[0])
        fitting = np.flatnonzero(~wrong)
        held = f"{fitting[0]} to {fitting[-1]}" if fitting.size else "nothing"
        raise UnrepresentableError(
            f"signal {value} has the code {int(codes[value])}, which output_type={dtype.name!r} does not "
            f"hold: with conversion_gain={gain!r}, zero_level={zero!r}, beta={step!r} it holds {held}; "
            'give output_type="uint16", a smaller input_max or a larger beta'
        )
    return codes.astype(dtype)


def make_inverse_lookup(lookup_table: npt.ArrayLike, output_type: npt.DTypeLike = "int16") -> AnyArray:
    """Signal of every code of a look-up table: the middle of the signals that share it.

    Parameters
    ----------
    lookup_table : array_like
        Code of every signal from 0; it must not decrease.
    output_type : dtype
        dtype of the values; integers are truncated.

    Returns
    -------
    ndarray of `output_type`, shape (largest code + 1,)
        Indexed by code. A code that the table skips has the middle between its neighbours.

    Raises
    ------
    ValueError
        If the table decreases, has negative codes, or a value does not fit `output_type`.

    Examples
    --------
    >>> make_inverse_lookup([0, 0, 0, 1, 1, 3])
    array([1, 3, 4, 5], dtype=int16)
    """
    table = np.asarray(lookup_table)
    if table.ndim != 1 or table.size == 0:
        raise ValueError(f"lookup_table must be a line of codes, got shape {table.shape}")
    codes = table.astype(np.int64)
    if codes[0] < 0 or (np.diff(codes) < 0).any():
        raise ValueError("lookup_table must hold codes of 0 or more that do not decrease")
    every = np.arange(int(codes[-1]) + 1)
    first = np.searchsorted(codes, every, "left")
    last = np.searchsorted(codes, every, "right") - 1
    # A skipped code has first = last + 1: the same mean is then the middle between its neighbours.
    values = (first + np.maximum(last, 0)) / 2
    dtype = np.dtype(output_type)
    if dtype.kind != "f" and values[-1] > np.iinfo(dtype).max:
        raise ValueError(
            f"the signal {int(values[-1])} does not fit output_type={dtype.name!r}: give a wider one"
        )
    return values.astype(dtype)


def lookup(movie: npt.ArrayLike, lookup_table: npt.ArrayLike) -> AnyArray:
    """Entry of a look-up table for every integer of an array.

    Parameters
    ----------
    movie : array_like of int
        Indices from 0 to ``len(lookup_table) - 1``, any shape.
    lookup_table : array_like
        One line of entries.

    Returns
    -------
    ndarray
        The shape of `movie`, the dtype of `lookup_table`.

    Raises
    ------
    UnrepresentableError
        If an index is outside the table.

    Examples
    --------
    >>> lookup([0, 2], [10, 20, 30])
    array([10, 30])
    """
    indices, table = np.asarray(movie), np.asarray(lookup_table)
    if indices.size and not (indices.min() >= 0 and indices.max() < table.size):
        wrong = (indices < 0) | (indices >= table.size)
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise UnrepresentableError(
            f"value {indices[where].item()} at index {where} is outside the table's 0 to {table.size - 1}; "
            "make a longer table (input_max=) or clip the movie first"
        )
    return cast("AnyArray", table[indices])
