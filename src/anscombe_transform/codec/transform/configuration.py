"""Metadata of an array about its transform, and the consequences of these alone.

A `Configuration` is checked once, on construction. Two formats share it:

``anscombe-v1``
    zero level, gain and two dtypes; the code of the signal 0 is 0, one code is half a standard deviation of
    the shot noise, and a code decodes to the middle of the integers that it stands for, truncated.
``anscombe``
    everything v1 cannot say: the signals of every code (`bins`) and its value (`decode_table`), both stored,
    so that neither reading nor checking needs a formula; clipping by choice (`out_of_range`); and their
    origin, the read noise and the step `beta`.

From a configuration follow the range of signals that have codes (`extent`) and the value of every code
(`decode_table`); `choose_configuration` picks one for a movie.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import numpy as np

from anscombe_transform.codec.transform.bins import (
    FARTHEST as EXACT,
)
from anscombe_transform.codec.transform.bins import (
    Bins,
    bins_around,
    fine_step,
)
from anscombe_transform.codec.transform.curve import Curve, check_detector, check_number
from anscombe_transform.codec.transform.values import unbiased
from anscombe_transform.native.documents import check_keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

V1 = "anscombe-v1"
V2 = "anscombe"
NAMES = (V1, V2, f"numcodecs.{V1}", f"numcodecs.{V2}")
"""Every name under which a configuration may be stored; zarr-python writes the last two for Zarr V2
filters."""

BETA_V1 = 0.5
V1_TOP = 32767
"""Largest input of anscombe-v1's tables, except for uint16 arrays, with tables that span the dtype."""

CODES = ("uint8", "uint16")
"""dtypes of codes that are written; v1 reads the other integers of at most 32 bits as well."""

_V1_CODES = (*CODES, "uint32", "int8", "int16", "int32")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float32", "float64")
# How much wider than the noise a stored bin may be, in grid points: of odd widths that carry rounding on,
# two.
_WIDER = 3
# How narrow a stored bin may be, in steps of beta: one grid point stands for less than three, and odd widths
# that carry rounding on are at least 0.3 of what is asked for.
_NARROWER = 0.25


class UnrepresentableError(ValueError):
    """A value has no code under the codec's parameters; the message says which parameters would hold it.

    Examples
    --------
    >>> from anscombe_transform import AnscombeTransformV2, UnrepresentableError
    >>> codec = AnscombeTransformV2(zero_level=20, conversion_gain=30.0)
    >>> try:
    ...     codec.encode(np.array([100, -7], "int16"))
    ... except UnrepresentableError as error:
    ...     print(str(error)[:48])
    value -7 at index (1,) of the chunk has no code:
    """


def _dtype_name(name: str, value: Any, known: tuple[str, ...], *, byte_order: bool = False) -> str:
    """Canonical spelling of a dtype: its name, or ``'>i2'`` and the like where `byte_order` matters."""
    try:
        dtype = np.dtype(value)
    except (TypeError, ValueError, KeyError) as error:
        raise TypeError(f"{name} must be one of {', '.join(known)}, got {value!r:.100}") from error
    if dtype.name not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
    return spelling(dtype) if byte_order else str(dtype.name)


def spelling(dtype: np.dtype[Any]) -> str:
    """How a configuration spells a dtype: its name, or ``'>i2'`` and the like for big-endian ones."""
    return dtype.str if dtype.byteorder == ">" else str(dtype.name)


@dataclass(frozen=True, slots=True)
class Configuration:
    """Metadata of an array about its transform; every field is checked on construction.

    Parameters
    ----------
    zero_level, conversion_gain : float
        Signal without light, and signal units per photon, > 0.
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
        Code of `zero_level`: the bins below it. It makes `bins` where these are not given, of all codes of
        `encoded_dtype` or as many as `decode_table` lists; where they are, it follows from them, and is -1 if
        they begin above the zero level.
    out_of_range : {"raise", "clip"}
        Treatment of a value without a code.
    decode_table : tuple of float or None
        Value of every code from 0, each inside the bin of its code. None stands for the middles of given
        bins.
    bins : Bins or None
        The signals of every code. None, with neither `zero_code` nor anything else that v1 lacks, is v1.

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
    bins: Bins | None = None

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        checked = check_detector(self.conversion_gain, self.zero_level, self.read_noise, self.beta)
        for name, value in zip(("conversion_gain", "zero_level", "read_noise", "beta"), checked, strict=True):
            put(name, value)
        if self.out_of_range not in ("raise", "clip"):
            raise ValueError(f'out_of_range must be "raise" or "clip", got {self.out_of_range!r}')
        if self.zero_code is not None:
            rule = "an integer within ±2**20 (the code of zero_level)"
            code = check_number("zero_code", self.zero_code, rule, lambda v: v == int(v) and abs(v) <= 2**20)
            put("zero_code", int(code))
        values = (*INTEGERS, *FLOATS)
        put("decoded_dtype", _dtype_name("decoded_dtype", self.decoded_dtype, values, byte_order=True))
        put("encoded_dtype", _dtype_name("encoded_dtype", self.encoded_dtype, _V1_CODES))
        if self.format == V1:
            return
        put("encoded_dtype", _dtype_name("encoded_dtype", self.encoded_dtype, CODES))
        if self.decode_table is not None:
            put("decode_table", self._checked_table(self.decode_table))
        if self.bins is None:
            if self.zero_code is None:
                raise ValueError(
                    "read_noise, beta, out_of_range and decode_table make a codec of the format anscombe, "
                    "which needs to know the range of the signals: let Sensitivity.codec(sample=movie) or "
                    "codec(signal_range=(low, high)) choose it, or give zero_code, the room below zero_level"
                )
            put("bins", self._bins_around(self.zero_code))
            if self.decode_table is None:
                put("decode_table", _unbiased_table(self))
        self._check_bins()
        put("zero_code", min(int(cast("Bins", self.bins).codes(self.zero_level)), self.last_code))

    def _bins_around(self, zero_code: int) -> Bins:
        """The bins that a code of the zero level says, for as many codes as there are or are listed."""
        count = self.last_code + 1 if self.decode_table is None else len(self.decode_table)
        step = 1.0
        if self.values_dtype.kind == "f":
            low, high = self._curve(0.0).invert([-0.5 - zero_code, count - zero_code]).tolist()
            step = fine_step(self._curve(0.0), low, high, self.values_dtype)
        bins = bins_around(self._curve(0.0), zero_code, count, step if step < 1 else 1)
        if self.decode_table is not None or self.values_dtype.kind == "f":
            return bins
        # Of the bins above, none that lies beyond the type as a whole.
        held = int(np.searchsorted(bins.low, float(np.iinfo(self.values_dtype).max), "right"))
        return bins.part(0, max(held, 1))

    def _check_bins(self) -> None:
        """Refuse bins that are none of this detector's, and values outside them.

        A codec is verified against its bins and values: damaged or edited ones must not widen the bound.
        """
        bins = self.bins
        if not isinstance(bins, Bins):
            raise TypeError(f"bins must be Bins, got {type(bins).__name__}")
        if len(bins) > self.last_code + 1:
            raise ValueError(
                f"bins must list 1 to {self.last_code + 1} bins ({self.encoded_dtype} codes of "
                f"{self.decoded_dtype} values), got {len(bins)}"
            )
        if self.values_dtype.kind != "f" and not bins.whole:
            raise ValueError(f"bins: step must be 1 or more where values are {self.decoded_dtype}")
        curve = self._curve(0.0)
        widest = curve.beta * curve.noise_std(bins.high) + (_WIDER + curve.beta) * bins.step
        # The slope of the noise within a bin: one photon more at most than at its upper end.
        wide = np.flatnonzero(np.diff(bins.edges) > 1.01 * widest + curve.beta**2 * curve.conversion_gain)
        if wide.size:
            code = int(wide[0])
            raise ValueError(
                f"bins: code {code} stands for {bins.edges[code]:.10g} to {bins.edges[code + 1]:.10g}, wider "
                f"than beta={self.beta!r} allows with conversion_gain={self.conversion_gain!r}, "
                f"zero_level={self.zero_level!r}, read_noise={self.read_noise!r}: the metadata were damaged "
                "or edited; take them from a copy that is whole"
            )
        # The outer bins may be cut at the end of the range.
        narrowest = _NARROWER * curve.beta * curve.noise_std(bins.low)
        narrow = np.flatnonzero((np.diff(bins.edges) < narrowest)[1:-1]) + 1
        if narrow.size:
            code = int(narrow[0])
            raise ValueError(
                f"bins: code {code} stands for {bins.edges[code]:.10g} to {bins.edges[code + 1]:.10g}, far "
                f"narrower than beta={self.beta!r} makes it with conversion_gain={self.conversion_gain!r}, "
                f"zero_level={self.zero_level!r}, read_noise={self.read_noise!r}: the metadata were damaged "
                "or edited; take them from a copy that is whole"
            )
        if self.decode_table is None:
            return
        if len(self.decode_table) != len(bins):
            raise ValueError(
                f"decode_table must list a value for each of the {len(bins)} bins, got "
                f"{len(self.decode_table)}"
            )
        table, low, high = _as_decoded(np.array(self.decode_table), self.values_dtype), bins.low, bins.high
        if self.values_dtype.kind == "f":
            low, high = bins.edges[:-1], bins.edges[1:]
        else:
            limits = np.iinfo(self.values_dtype)
            # What is beyond the type is never decoded.
            low, high = np.clip(low, limits.min, limits.max), np.clip(high, limits.min, limits.max)
        wrong = np.flatnonzero(~((table >= low) & (table <= high)))
        if wrong.size:
            code = int(wrong[0])
            raise ValueError(
                f"decode_table gives code {code} the value {self.decode_table[code]:.10g}, outside the "
                f"{low[code]:.10g} to {high[code]:.10g} that the code stands for: the metadata were damaged "
                "or edited; take them from a copy that is whole"
            )

    @property
    def format(self) -> str:
        """``anscombe-v1`` where it can say everything that this configuration says, else ``anscombe``."""
        plain = self.read_noise == 0 and self.beta == BETA_V1 and self.out_of_range == "raise"
        given = (self.zero_code, self.decode_table, self.bins)
        return V1 if plain and all(value is None for value in given) else V2

    @property
    def curve(self) -> Curve:
        """The stabilising curve, with the offset that this format gives it."""
        if self.bins is not None:
            # Where codes are wider apart than the noise asks for they leave the curve, far from the zero
            # level.
            inside = 0 <= cast("int", self.zero_code) < len(self.bins)
            offset = float(cast("int", self.zero_code)) if inside else 0.0
            return self._curve(offset if inside else -float(self._curve(0.0).stabilize(self.bins.low[0])))
        slope = self._curve(0.0).dark_slope
        return self._curve(self.zero_level * slope / self.conversion_gain)

    def _curve(self, offset: float) -> Curve:
        return Curve(self.conversion_gain, self.zero_level, self.read_noise, self.beta, offset)

    @property
    def values_dtype(self) -> np.dtype[Any]:
        """Type of the values, in native byte order."""
        return np.dtype(self.decoded_dtype).newbyteorder("=")

    @property
    def keeps_nan(self) -> bool:
        """Whether the highest code is kept for NaN: in v2, for floating-point values."""
        return self.format == V2 and np.dtype(self.decoded_dtype).kind == "f"

    @property
    def last_code(self) -> int:
        """The largest code that may stand for a number."""
        return int(np.iinfo(np.dtype(self.encoded_dtype)).max) - int(self.keeps_nan)

    def _checked_table(self, table: Any) -> tuple[float, ...]:
        limit = self.last_code + 1
        if not isinstance(table, list | tuple | np.ndarray):
            raise TypeError(f"decode_table must be a sequence of numbers, got {table!r:.100}")
        numbers = int, float, np.integer, np.floating
        if any(isinstance(value, bool) or not isinstance(value, numbers) for value in table):
            raise TypeError(f"decode_table must hold numbers only, got {table!r:.100}")
        values = np.asarray(table, np.float64)
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
        if self.bins is not None:
            document |= {
                "read_noise": self.read_noise,
                "beta": self.beta,
                "out_of_range": self.out_of_range,
                "bins": self.bins.to_json(),
            }
            if self.decode_table is not None and self.decode_table != tuple(self.bins.middles.tolist()):
                document["decode_table"] = [_short(value) for value in self.decode_table]
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
        if nulls := [key for key, value in document.items() if value is None]:
            raise ValueError(
                f"{format_} configuration holds null for {nulls}: nothing is derived when reading"
            )
        if format_ == V2:
            required = known | {"bins"}
            known = required | {"read_noise", "beta", "out_of_range", "decode_table"}
        check_keys(format_, document, known, required)
        return cls(**constructor_arguments(document))


def constructor_arguments(document: Mapping[str, Any]) -> dict[str, Any]:
    """A stored configuration as arguments of `Configuration`, and of the codecs."""
    arguments = dict(document)
    if "bins" in arguments and not isinstance(arguments["bins"], Bins):
        arguments["bins"] = Bins.from_json(arguments["bins"])
    return arguments


def _short(value: float) -> float:
    """An integer without its decimal point, as JSON."""
    return int(value) if value == int(value) else value


# The fields that the codecs of both Zarr formats share with `Configuration`.
_FIELDS = tuple(f.name for f in dataclasses.fields(Configuration))


def fields_of(codec: Any) -> dict[str, Any]:
    """The parameters of a codec, as its constructor takes them."""
    return {name: getattr(codec, name) for name in _FIELDS}


class Extent(NamedTuple):
    """The range of signals that have codes, and the largest code."""

    lowest: int | float
    highest: int | float
    last: int


@functools.lru_cache(maxsize=256)
def extent(configuration: Configuration) -> Extent:
    """The range of a configuration.

    Raises
    ------
    ValueError
        If it holds no value at all.
    """
    c = configuration
    found = _v1_extent(c) if c.format == V1 else _v2_extent(c)
    if not found.lowest <= found.highest:
        raise ValueError(
            f"no value of {c.decoded_dtype} has a code with {describe(c)}: "
            "a zero_code near the middle of the codes leaves room on both sides of zero_level"
        )
    return found


def describe(configuration: Configuration) -> str:
    """The format and the parameters that decide which values have codes, for messages."""
    c = configuration
    names = ["conversion_gain", "zero_level", "encoded_dtype", "decoded_dtype"]
    if c.format == V2:
        names[2:2] = ["read_noise", "beta"]
    return f"{c.format} and " + ", ".join(f"{name}={getattr(c, name)!r}" for name in names)


def _v1_extent(c: Configuration) -> Extent:
    """Range and largest code of anscombe-v1: integers from 0, up to its table's end or the last code."""
    curve, dtype = c.curve, c.values_dtype
    limit = 65535 if dtype == np.uint16 else V1_TOP
    if dtype.kind != "f":
        limit = min(limit, int(np.iinfo(dtype).max))
    last = min(c.last_code, int(curve.code(limit)))
    first, beyond = curve.first_integers([0, last + 1]).tolist()
    return Extent(max(first, 0), min(limit, beyond - 1), last)


def _v2_extent(c: Configuration) -> Extent:
    """Range and largest code of the format anscombe: the limits of its bins and its dtype."""
    bins, dtype = cast("Bins", c.bins), c.values_dtype
    last = len(bins) - 1
    if dtype.kind != "f":
        limits = np.iinfo(dtype)
        first, beyond = math.ceil(bins.edges[0]), math.ceil(bins.edges[-1])
        return Extent(max(first, int(limits.min)), min(beyond - 1, int(limits.max), EXACT), last)
    # The first and the last number of the type that have a code; an edge belongs to the code above it.
    low, high = first_reaching(bins.edges[[0, -1]], dtype)
    return Extent(float(low), float(np.nextafter(high, dtype.type(-np.inf))), last)


def first_reaching(edges: npt.NDArray[np.float64], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """The smallest numbers of a floating-point type that are not below given ones."""
    with np.errstate(over="ignore"):
        found: npt.NDArray[Any] = edges.astype(dtype)
    up = np.nextafter(found, dtype.type(np.inf))
    return np.where(found.astype(np.float64) < edges, up, found)


def edges(configuration: Configuration) -> npt.NDArray[np.float64]:
    """Edges of the signals of every code in use, and the end of the last: they decide on codes.

    A signal has the code q if it lies from ``edges[q]`` on and below ``edges[q + 1]``.
    """
    c = configuration
    if c.bins is not None:
        return c.bins.edges
    codes = np.arange(extent(c).last + 2)
    firsts = c.curve.first_integers(codes)
    if c.values_dtype.kind != "f":
        return np.asarray(firsts - 0.5, np.float64)
    found = _first_floats(c.curve, codes)
    # Floats beyond the integers of v1's tables have no code.
    low, high, _ = extent(c)
    found[0], found[-1] = low, math.nextafter(high, math.inf)
    return found


def _first_floats(curve: Curve, codes: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The smallest float64 with at least the given code, for each code.

    Floats are ordered as their bit patterns are, so that halving an interval of these finds it.
    """
    middle = curve.invert(codes - 0.5)
    reach = 1e-9 * (np.abs(middle) + abs(curve.zero_level) + curve.conversion_gain)
    low, high = _ordinal(middle - reach), _ordinal(middle + reach)
    while (high - low > 1).any():
        between = low + (high - low) // 2
        reached = curve.code(_from_ordinal(between)) >= codes
        low, high = np.where(reached, low, between), np.where(reached, between, high)
    return _from_ordinal(high)


def _ordinal(x: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Integers in the order of the floats."""
    bits = x.view(np.int64)
    return np.where(bits < 0, np.int64(-(2**63)) - bits, bits)


def _from_ordinal(number: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.where(number < 0, np.int64(-(2**63)) - number, number).view(np.float64)


@functools.lru_cache(maxsize=256)
def decode_table(configuration: Configuration) -> npt.NDArray[np.float64]:
    """Value of every code in use, from 0, before rounding to the dtype of the values; read-only."""
    c = configuration
    if c.bins is None:
        table = _v1_values(c)
    else:
        table = c.bins.middles.copy() if c.decode_table is None else np.array(c.decode_table, np.float64)
    table.flags.writeable = False
    return table


def _as_decoded(table: npt.NDArray[np.float64], dtype: np.dtype[Any]) -> npt.NDArray[np.float64]:
    """Values as they are once rounded to their type."""
    if dtype.kind == "f":
        return table.astype(dtype).astype(np.float64)
    limits = np.iinfo(dtype)
    return np.rint(np.clip(table, max(int(limits.min), -EXACT), min(int(limits.max), EXACT)))


def _unbiased_table(
    c: Configuration, noise: float | None = None, excess_noise: float = 1.0
) -> tuple[float, ...]:
    """Values of the format anscombe where there is no sample to fit them to."""
    bins, integers = cast("Bins", c.bins), c.values_dtype.kind != "f"
    table = unbiased(bins, c.curve, integers=integers, read_noise=noise, excess_noise=excess_noise)
    return _stored_table(table, bins, c.values_dtype)


def _stored_table(table: npt.NDArray[np.float64], bins: Bins, dtype: np.dtype[Any]) -> tuple[float, ...]:
    """Values as short numbers of JSON, inside their bins in the type of the values as well."""
    if dtype.kind != "f":
        return tuple(table.tolist())
    narrowest = float(np.diff(bins.edges).min())
    decimals = max(0, 3 - math.floor(math.log10(narrowest)))
    short = np.round(table, decimals)
    decoded = short.astype(dtype).astype(np.float64)
    inside = (decoded >= bins.low) & (decoded <= bins.high)
    return tuple(np.where(inside, short, np.clip(table, bins.low, bins.high)).tolist())


def _v1_values(c: Configuration) -> npt.NDArray[np.float64]:
    """Values of anscombe-v1: the middle of a code's integers among the inputs of its table, truncated.

    The last bin ends where the table ends. A code that no integer reaches gets the truncated middle of its
    real edges; no integer array holds it.
    """
    curve, dtype, (lowest, highest, last) = c.curve, c.values_dtype, extent(c)
    first = curve.first_integers(np.arange(last + 2)).astype(np.float64)
    low, high = np.maximum(first[:-1], 0), first[1:] - 1
    # Narrower types share the table of int16, unless the middle of their last bin does not fit them.
    table_top = 65535 if dtype == np.uint16 else V1_TOP
    for end in (table_top, highest):
        middle = (low + np.minimum(high, end)) / 2
        if middle[-1] <= highest:
            break
    edges = curve.invert(np.arange(last + 2) - 0.5)
    values = np.where(high >= low, middle, (edges[:-1] + edges[1:]) / 2)
    values = np.clip(values, lowest, highest)
    return np.trunc(values) if dtype.kind != "f" else values
