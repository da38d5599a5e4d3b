"""Encoding and decoding arrays: tables of a configuration, made once and shared between threads.

The code of a signal is the number of edges of bins that it reaches, in both formats; a code is decoded by
look-up. Nothing wraps and nothing is clamped unasked: a value without a code raises `UnrepresentableError`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from anscombe_transform.codec.transform.bins import Bins
from anscombe_transform.codec.transform.choice import fit, holds
from anscombe_transform.codec.transform.configuration import (
    CODES,
    V1,
    Configuration,
    UnrepresentableError,
    _as_decoded,
    decode_table,
    describe,
    edges,
    extent,
    fields_of,
    first_reaching,
)
from anscombe_transform.codec.transform.curve import noise_increase
from anscombe_transform.native import core, warn_if_slow
from anscombe_transform.native.arrays import AnyArray, refuse_masked
from anscombe_transform.native.documents import html_table

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt


# Single values whose codes are kept.
_SCALARS = 64
# Cells of signals per code in which the search for a code begins, and how many there are at most.
_CELLS_PER_CODE, _MOST_CELLS = 2, 2**16
# Cells that the core holds in registers, to estimate codes of one byte.
_MOST_ESTIMATED = 256


class Plan:
    """Tables and limits of a configuration; made by `plan`, shared between threads, never changed.

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
        warn_if_slow()

    # The table and the look-up are made when first needed: who encodes, or checks parameters, never decodes.
    @property
    def table(self) -> npt.NDArray[np.float64]:
        """Value of every code in use, before rounding to `decoded_dtype`."""
        return decode_table(self.configuration)

    @functools.cached_property
    def _values(self) -> AnyArray:
        """Value of every code that its type has, in `decoded_dtype`; of codes not in use, any."""
        table = _as_decoded(self.table, self.decoded_dtype).astype(self.decoded_dtype)
        values = np.full(1 << 8 * self.encoded_dtype.itemsize, table[-1], self.decoded_dtype)
        values[: table.size] = table
        if self._nan_code >= 0:
            values[self._nan_code] = np.nan
        values.flags.writeable = False
        return values

    @functools.cached_property
    def edges(self) -> npt.NDArray[np.float64]:
        """Edges of the signals of the codes in use: the code of x is how many but the first it reaches."""
        found = edges(self.configuration)
        found.flags.writeable = False
        return found

    def codes_of(self, signal: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Codes of signals, whether or not `encode` would take them: the nearest; of NaN, code 0."""
        x = np.asarray(signal, np.float64)
        return np.searchsorted(self.edges[1:-1], np.where(np.isnan(x), self.lowest, x), "right")

    # -- bounds ------------------------------------------------------------------------------------------

    def max_error(self, signal: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Largest ``|x - decode(encode(x))|`` over all x that share the code of a signal; 0 for NaN.

        It follows from the bins and from where in its bin a decoded value lies: about `beta` / 2 standard
        deviations of the noise.
        """
        x = np.asarray(signal, np.float64)
        low, high = self.bins
        value = self._values[: self._top + 1].astype(np.float64)
        return np.where(np.isnan(x), 0.0, np.maximum(high - value, value - low)[self.codes_of(x)])

    @functools.cached_property
    def bins(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Smallest and largest signal of every code in use; integers where the values are integers."""
        low, high = self.edges[:-1], self.edges[1:]
        if self.decoded_dtype.kind != "f":
            low, high = np.ceil(low), np.ceil(high) - 1
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
        codes = np.empty(flat.size, self._code_view)
        if not self._encode_flat(flat, codes):
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
        q = flat.view(self._code_view)
        if core.decode_table(q, self._values, values) > self._top:
            self._check_codes(q)
        return shaped(values)

    def encode_on_device(self, signal: Any) -> Any:
        """As `encode`, for an array of another library (CuPy): with its own functions, where it lies.

        The array's library must follow the Python array API standard.
        """
        xp = signal.__array_namespace__()
        x = xp.astype(signal, xp.float64)
        missing = xp.isnan(x)
        inside = (x >= self.lowest) & (x <= self.highest)
        if self._nan_code >= 0:
            inside = inside | missing
        clip = self.configuration.out_of_range == "clip" and not bool(xp.any(xp.isinf(x)))
        refused = ~inside & missing if clip else ~inside
        if bool(xp.any(refused)):
            self._refuse(_on_host(signal))
        inner = xp.asarray(self.edges[1:-1])
        codes = xp.searchsorted(inner, xp.reshape(xp.where(missing, self.lowest, x), (-1,)), side="right")
        codes = xp.where(missing, max(self._nan_code, 0), xp.reshape(codes, x.shape))
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
        """Fill `codes`; whether every value has a code (of those too far out, when clipping was chosen)."""
        clip = self.configuration.out_of_range == "clip"
        if x.dtype.kind != "f" and x.dtype.itemsize <= 2:
            smallest, largest = core.encode_table(x, *self._code_table(x.dtype), codes)
            return clip or not x.size or (smallest >= self.lowest and largest <= self.highest)
        outside, never = core.encode_edges(x, *self._search(x.dtype), self._nan_code, codes)
        if clip:
            return bool(never == x.size)
        # The ends of a type may be narrower than the edges.
        return bool(outside == x.size) and (x.dtype.kind == "f" or self._inside_type(x))

    def _inside_type(self, x: AnyArray) -> bool:
        """Whether integers that have a bin are also inside the type of the values."""
        if self.edges[0] > self.lowest - 1 and self.edges[-1] < self.highest + 1:
            return True
        return not x.size or bool(x.min() >= self.lowest and x.max() <= self.highest)

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

    # -- what the core takes -----------------------------------------------------------------------------

    def _code_table(self, dtype: np.dtype[Any]) -> tuple[AnyArray, bytes | None]:
        """Code of every value of an integer type of at most 16 bits, in the order of its bit patterns.

        The second is how the core estimates codes of one byte faster than it looks them up.
        """
        found = self._tables.get(dtype.str)
        if found is None:
            patterns = np.arange(1 << 8 * dtype.itemsize, dtype=f"u{dtype.itemsize}").view(dtype)
            table, estimate = self.codes_of(patterns).astype(self._code_view), None
            table.flags.writeable = False
            if dtype.itemsize == 2 and table.itemsize == 1:
                estimate = core.estimate_codes(dtype.kind == "i", table, self._cells(_MOST_ESTIMATED)[0])
            found = self._tables[dtype.str] = table, estimate
        return found

    @functools.cached_property
    def _tables(self) -> dict[str, tuple[AnyArray, bytes | None]]:
        return {}

    def _search(self, dtype: np.dtype[Any]) -> tuple[AnyArray, AnyArray, AnyArray, int]:
        """Edges, cells, guesses and their depth for the search of codes of wider types."""
        return self._search_single if dtype == np.float32 else self._search_double

    @functools.cached_property
    def _search_double(self) -> tuple[AnyArray, AnyArray, AnyArray, int]:
        return self._make_search(self.edges)

    @functools.cached_property
    def _search_single(self) -> tuple[AnyArray, AnyArray, AnyArray, int]:
        return self._make_search(first_reaching(self.edges, np.dtype(np.float32)))

    def _make_search(self, ends: AnyArray) -> tuple[AnyArray, AnyArray, AnyArray, int]:
        numbers, count = self._cells(_MOST_CELLS, _CELLS_PER_CODE)
        guess = np.empty(count, np.uint16)
        depth = core.guess_codes(ends, numbers, guess)
        return ends, numbers, guess, depth

    def _cells(self, most: int, per_code: float = np.inf) -> tuple[AnyArray, int]:
        """At most so many cells of signals, even along the curve, and their number."""
        c = self.curve
        low, high = c.stabilize(self.edges[[0, -1]]).tolist()
        per_code = min(per_code, (most - 2) / max(high - low, 1.0))
        if per_code < 1 and high - low <= most:
            # One cell a code, with the edges of codes in the middle.
            per_code, low = 1.0, low - 0.5
        scale = per_code * 2.0 / c.beta
        offset = per_code * (c.offset - low) - scale * c.constant**0.5
        slope = per_code * c.dark_slope
        numbers = [c.zero_level, 1.0 / c.conversion_gain, c.constant, scale, slope, offset]
        return np.array(numbers), min(int(per_code * (high - low)) + 2, most)

    # -- refusal -----------------------------------------------------------------------------------------

    def _refuse(self, x: AnyArray) -> None:
        """Raise for the first value without a code, with its place and the parameters that would hold it."""
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
            return "NaN has a code in the format anscombe only: Sensitivity.codec(sample=movie) gives one."
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
        held = self.lowest, self.highest
        try:
            wider = fit(c, min(low, *held), max(high, *held), integers=self.decoded_dtype.kind != "f")
        except ValueError as error:
            return f"The chunk spans {low} to {high}; {error}."
        changed = [f"{n}={getattr(wider, n)!r}" for n in ("encoded_dtype", "zero_code")]
        return (
            f"The chunk spans {low} to {high}: {' and '.join(changed)} would hold it ({wider.format}), which "
            'Sensitivity.codec(sample=movie) chooses; out_of_range="clip" would cut it off.'
        )


@dataclass(frozen=True, slots=True, eq=False)
class Transform:
    """The parameters that the codecs of both Zarr formats have, checked, and the loss that they stand for."""

    zero_level: float
    conversion_gain: float
    encoded_dtype: str = "uint8"
    decoded_dtype: str = "int16"
    read_noise: float = field(default=0.0, kw_only=True)
    beta: float = field(default=0.5, kw_only=True)
    zero_code: int | None = field(default=None, kw_only=True)
    out_of_range: Literal["raise", "clip"] = field(default="raise", kw_only=True)
    decode_table: tuple[float, ...] | None = field(default=None, kw_only=True, repr=False)
    bins: Bins | None = field(default=None, kw_only=True, repr=False)
    plan: Plan = field(init=False, repr=False)

    def _repr_html_(self) -> str:
        """Return the codec's parameters as a table, for notebooks."""
        configuration = self.plan.configuration
        rows = [
            ("conversion gain", f"{configuration.conversion_gain:.6g}", "signal/photon"),
            ("zero level", f"{configuration.zero_level:.6g}", "signal"),
            ("read noise", f"{configuration.read_noise:.6g}", "signal"),
            ("step β", f"{configuration.beta:g}", "standard deviations of the noise"),
            ("holds", f"{self.plan.lowest:.10g} to {self.plan.highest:.10g}", "signal"),
            ("a value beyond that", configuration.out_of_range, ""),
            ("values, codes", f"{self.plan.decoded_dtype}, {self.plan.encoded_dtype}", ""),
        ]
        return html_table(f"{type(self).__name__}, format {configuration.format}", rows)

    def __post_init__(self) -> None:
        """Check the fields as a configuration; keep the checked values and their plan."""
        fields = fields_of(self)
        if isinstance(fields["decode_table"], list | np.ndarray):
            fields["decode_table"] = tuple(fields["decode_table"])
        configuration = Configuration(**fields)
        for name in fields:
            object.__setattr__(self, name, getattr(configuration, name))
        object.__setattr__(self, "plan", plan(configuration))

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


def identity(codec: Any) -> int:
    """Hash of a codec by the parameters that two equal codecs cannot differ in.

    The values are left out: a default of one codec may be an explicit value of another.
    """
    return hash(tuple(value for name, value in fields_of(codec).items() if name != "decode_table"))


def _flat(x: AnyArray) -> tuple[AnyArray, Callable[[AnyArray], AnyArray]]:
    """The array as one contiguous line in its own memory order, and how to give a line the array's shape.

    The line is read-only, whoever owns the memory.
    """
    if not x.flags.aligned:
        x = x.copy(order="K")
    if x.flags.c_contiguous:
        line, shaped = x.reshape(-1), lambda values: values.reshape(x.shape)
    elif x.flags.f_contiguous:
        line, shaped = x.T.reshape(-1), lambda values: values.reshape(x.shape[::-1]).T
    else:
        line, shaped = np.empty(x.size, x.dtype), lambda values: values.reshape(x.shape)
        np.copyto(line.reshape(x.shape), x)
    line.flags.writeable = False
    return line, shaped


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
