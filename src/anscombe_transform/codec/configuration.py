"""What the metadata of an array says about its transform, and what follows from that alone.

A `Configuration` is checked once, on construction. Two formats share it:

``anscombe-v1``
    zero level, gain and two dtypes; the code of the signal 0 is 0, one code is half a standard deviation of
    the shot noise, and a code decodes to the middle of the integers that it stands for, truncated.
``anscombe-v2``
    everything v1 cannot say: read noise, the step `beta`, room for values below the zero level (`zero_code`),
    clipping by choice (`out_of_range`) and the value of every code (`decode_table`).

From a configuration follow the range of signals that have codes (`extent`) and the value of every code
(`decode_table`); `choose_configuration` picks one for a movie.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import numpy as np

from anscombe_transform.decode_table import BLUR, fitted, sample_blocks, unbiased
from anscombe_transform.transform import LARGEST_BETA, Curve, check_detector, check_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import numpy.typing as npt

V1 = "anscombe-v1"
V2 = "anscombe-v2"
NAMES = (V1, V2, f"numcodecs.{V1}", f"numcodecs.{V2}")
"""Every name under which a configuration may be stored."""

BETA_V1 = 0.5
V1_TOP = 32767
"""Largest input of anscombe-v1's tables, except for uint16 arrays, whose tables span the dtype."""

CODES = ("uint8", "uint16")
"""dtypes of codes that are written; v1 reads the other integers of at most 32 bits as well."""

_V1_CODES = (*CODES, "uint32", "int8", "int16", "int32")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float32", "float64")
_TABLE_DECIMALS = 6
_FEW_CODES = 255
_MOST_STEPS = 128
EXACT = 2**52
_BLOCK_BYTES = 1 << 26


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
        values = (*INTEGERS, *FLOATS)
        put("decoded_dtype", _dtype_name("decoded_dtype", self.decoded_dtype, values, byte_order=True))
        put("encoded_dtype", _dtype_name("encoded_dtype", self.encoded_dtype, _V1_CODES))
        if self.format == V1:
            return
        put("encoded_dtype", _dtype_name("encoded_dtype", self.encoded_dtype, CODES))
        if self.zero_code is None:
            dark = max(self.zero_level, 8 * self.read_noise, 0)
            code = math.ceil(dark / self.conversion_gain * self._curve(0.0).dark_slope)
            if code >= 2**31:
                raise ValueError(
                    f"zero_level={self.zero_level:g} needs {code} codes below it, with conversion_gain="
                    f"{self.conversion_gain:g} and beta={self.beta:g}, far more than there are: give "
                    "zero_code or a larger beta"
                )
            put("zero_code", code)
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
        if self.format == V2:
            document |= {
                "read_noise": self.read_noise,
                "beta": self.beta,
                "zero_code": self.zero_code,
                "out_of_range": self.out_of_range,
                "decode_table": decode_table(self).tolist(),
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
        if nulls := [key for key, value in document.items() if value is None]:
            raise ValueError(
                f"{format_} configuration holds null for {nulls}: nothing is derived when reading"
            )
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
    """What a configuration holds.

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
        names[2:2] = ["read_noise", "beta", "zero_code"]
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
    """Range and largest code of anscombe-v2: what its decode table and its dtype allow."""
    curve, dtype = c.curve, c.values_dtype
    last = c.last_code if c.decode_table is None else len(c.decode_table) - 1
    if dtype.kind != "f":
        limits = np.iinfo(dtype)
        top = min(int(limits.max), EXACT)
        last = min(last, max(int(curve.code(top)), 0)) if c.decode_table is None else last
        first, beyond = curve.first_integers([0, last + 1]).tolist()
        return Extent(max(first, int(limits.min)), min(beyond - 1, top), last)
    low, high = curve.invert([-0.5, last + 0.5]).tolist()
    low, high = max(low, -EXACT), min(high, EXACT)
    # The inverse is rounded, so the edge itself may fall to the neighbouring code.
    low = _moved(low, math.inf, lambda edge: bool(curve.code(edge) >= 0))
    high = _moved(high, -math.inf, lambda edge: bool(curve.code(edge) <= last))
    return Extent(low, high, last)


def _moved(edge: float, towards: float, holds_code: Callable[[float], bool]) -> float:
    """The edge, moved by a few roundings until it has a code; steps double, as zero_level may round coarser.

    Raises
    ------
    ValueError
        No signal nearby has one.
    """
    step = math.nextafter(edge, towards) - edge
    for _ in range(_MOST_STEPS):
        if holds_code(edge):
            return edge
        edge, step = edge + step, 2 * step
    raise ValueError(f"no signal near {edge:g} has a code: the parameters leave it no room")


def check_inside_bins(configuration: Configuration, last: int) -> None:
    """Refuse a stored table that decodes a code to a value outside the signals that the code stands for.

    The bins follow from the curve alone, so that a table that was damaged or edited cannot widen the bound
    that it is verified against.

    Raises
    ------
    ValueError
        Names the first such code, its bin and its value.
    """
    c = configuration
    if c.decode_table is None:
        return
    table, codes = np.array(c.decode_table), np.arange(last + 2)
    edges = c.curve.invert(codes - 0.5)
    low, high = edges[:-1], edges[1:]
    if c.values_dtype.kind != "f":
        limits = np.iinfo(c.values_dtype)
        firsts = c.curve.first_integers(codes).astype(np.float64)
        filled = firsts[1:] > firsts[:-1]
        # A code without integers keeps the real edges of its bin. What is beyond the type is never decoded.
        low, high = np.where(filled, firsts[:-1], low), np.where(filled, firsts[1:] - 1, high)
        inside = np.where(filled, np.clip(np.rint(table), limits.min, limits.max), table)
        low, high = np.minimum(low, limits.max), np.maximum(high, limits.min)
    else:
        inside = table
    # Tables are stored with six decimals, and the edges of bins are rounded as the zero level is.
    slack = 10.0**-_TABLE_DECIMALS + 4 * np.spacing(np.maximum(np.abs(table), abs(c.zero_level)))
    wrong = np.flatnonzero((inside < low - slack) | (inside > high + slack))
    if wrong.size:
        code = int(wrong[0])
        raise ValueError(
            f"decode_table gives code {code} the value {c.decode_table[code]:.10g}, outside the "
            f"{low[code]:.10g} to {high[code]:.10g} that the code stands for with {describe(c)}: the "
            "metadata were damaged or edited; take them from a copy that is whole"
        )


@functools.lru_cache(maxsize=256)
def decode_table(configuration: Configuration) -> npt.NDArray[np.float64]:
    """Value of every code in use, from 0, before rounding to the dtype of the values; read-only."""
    c = configuration
    if c.format == V1:
        table = _v1_values(c)
    elif c.decode_table is not None:
        table = np.array(c.decode_table, np.float64)
    else:
        table = _derived_table(c.curve, extent(c).last, c.values_dtype)
    table.flags.writeable = False
    return table


def _derived_table(
    curve: Curve,
    last: int,
    dtype: np.dtype[Any],
    noise: float | None = None,
    excess_noise: float = 1.0,
) -> npt.NDArray[np.float64]:
    """The decode table of anscombe-v2 where none is given, as short numbers of JSON."""
    integers = dtype.kind != "f"
    table = unbiased(curve, last, integers=integers, read_noise=noise, excess_noise=excess_noise)
    return np.round(table, _TABLE_DECIMALS)


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


def fit(
    configuration: Configuration,
    low: float,
    high: float,
    *,
    choose_codes: bool = True,
    least_blur: float = 0.0,
    excess_noise: float = 1.0,
) -> Configuration:
    """The configuration nearest to the given one under which signals from `low` to `high` have codes.

    `zero_code` grows until `low` has a code; with `choose_codes` the narrowest encoded dtype is taken that
    reaches `high`, else the given one is kept. The decode table lists all codes of one byte, and of those of
    two bytes the ones up to that of `high`; it assumes noise of at least `least_blur` signal units.

    Raises
    ------
    ValueError
        If no encoded dtype holds the range, naming the smallest `beta` that would.
    """
    c = configuration
    dtype = np.dtype(c.decoded_dtype)
    if max(abs(low), abs(high)) > EXACT:
        raise ValueError(
            f"the range {low:g} to {high:g} reaches beyond ±2**52, where no value has a code: look at the "
            "smallest and largest values, which are rarely light, and replace or rescale them"
        )
    flat = Curve(c.conversion_gain, c.zero_level, c.read_noise, c.beta)
    ends = flat.stabilize([low, high])
    codes = math.ceil(max(0.0, -float(ends[0])) + float(ends[1]))
    widest = replace(c, encoded_dtype=CODES[-1] if choose_codes else c.encoded_dtype, decode_table=None)
    if codes > 2 * widest.last_code:
        raise _too_wide(widest, low, high, codes)
    zero_code = max(math.ceil(-float(ends[0]) - 0.5), 0)
    top = int(Curve(c.conversion_gain, c.zero_level, c.read_noise, c.beta, float(zero_code)).code(high))
    for name in CODES if choose_codes else (c.encoded_dtype,):
        wider = replace(c, encoded_dtype=name, zero_code=zero_code, decode_table=None)
        if top <= wider.last_code:
            noise = max(least_blur, c.read_noise)
            if wider.last_code <= _FEW_CODES:
                top = extent(wider).last
            table = _derived_table(wider.curve, top, dtype, noise, excess_noise)
            return replace(wider, decode_table=tuple(table.tolist()))
    raise _too_wide(wider, low, high, top + 1)


def fitted_to(configuration: Configuration, blocks: Iterable[npt.NDArray[Any]]) -> Configuration:
    """The configuration with a decode table that keeps the mean of sample frames; v1 as it is.

    Parameters
    ----------
    configuration : Configuration
        Which says the codes.
    blocks : iterable of ndarray, shape (frames, ..., x)
        Successive frames from here and there in the movie.
    """
    c = configuration
    if c.format == V1:
        return c
    table = fitted(c.curve, decode_table(c), blocks, integers=c.values_dtype.kind != "f")
    return replace(c, decode_table=tuple(np.round(table, _TABLE_DECIMALS).tolist()))


def _too_wide(c: Configuration, low: float, high: float, codes: int) -> ValueError:
    needed = math.ceil(100 * c.beta * codes / c.last_code) / 100
    remedy = (
        f"beta={needed} would fit"
        if needed <= LARGEST_BETA
        else "no beta would do, so look whether the gain is in signal units per photon, and whether the "
        "smallest and the largest value are light"
    )
    return ValueError(
        f"the range {low:g} to {high:g} needs {codes} codes at beta={c.beta:g}, more than {c.encoded_dtype} "
        f"has; {remedy}"
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
    excess_noise: float = 1.0,
) -> tuple[Configuration, str]:
    """Pick the format, the dtype of the codes and the room below zero for a movie, and say why.

    Parameters
    ----------
    conversion_gain, zero_level, read_noise, beta, zero_code, out_of_range
        As in `Configuration`.
    sample : array_like, optional
        Values that must have codes: the movie, a piece of it, or its smallest and largest value. The decode
        table is fitted to a movie or an image, see `decode_table.fitted`. Without a sample v1 is taken where
        it can say the rest.
    decoded_dtype : dtype, optional
        dtype of the array; by default the sample's, or int16 without one.
    encoded_dtype : str, optional
        By default uint8 where the sample's codes fit it, else uint16.
    measured : bool
        Whether the constants were measured on a movie and not given: the decode table then allows for a blur
        of a quarter of a photon that the measurement may have missed.
    excess_noise : float
        Excess noise factor F² of the detector, for the decode table; the gain is the effective one.

    Returns
    -------
    Configuration, str
        The choice, and one sentence of explanation.

    Raises
    ------
    ValueError
        If a parameter breaks its rule or no configuration holds the sample.
    """
    span = None if sample is None else _span(sample)
    if decoded_dtype is None:
        decoded_dtype = "int16" if span is None else span.dtype
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
    if span is None:
        return base, f"{base.format}, {base.encoded_dtype} codes: no sample was given to fit the range to"
    low, high = span.low, span.high
    names = (base.encoded_dtype,) if encoded_dtype else CODES
    candidates = [replace(base, encoded_dtype=name) for name in names]
    if zero_code is not None:
        for candidate in candidates:
            if holds(candidate, low, high):
                return _explained(_fitted_to_sample(candidate, sample))
        if out_of_range == "clip":
            return base, f"{V2}, {base.encoded_dtype} codes: what they do not hold is clipped, as chosen"
        widest = extent(candidates[-1])
        raise ValueError(
            f"zero_code={zero_code} leaves no code for the sample's range, {low:g} to {high:g}: with "
            f"{names[-1]} codes it holds {widest.lowest:g} to {widest.highest:g}; "
            "leave zero_code out to have one chosen"
        )
    # Uneven pulses are blur enough beside the zero level's own.
    blur = (BLUR if excess_noise == 1 else BLUR / 2) * base.conversion_gain if measured else 0.0
    # The narrowest codes first.
    error: ValueError | None = None
    for candidate in candidates:
        wide = _with_head_room(candidate, low, high)
        # The fill value of an array is 0 if nobody says otherwise, and has to have a code.
        for room in ((min(wide[0], 0), max(wide[1], 0)), wide, (low, high)):
            try:
                chosen = fit(candidate, *room, choose_codes=False, least_blur=blur, excess_noise=excess_noise)
            except ValueError as found:
                error = found
                continue
            return _explained(_fitted_to_sample(chosen, sample))
    if out_of_range == "clip":
        return candidates[-1], f"{V2}, {names[-1]} codes: what they do not hold is clipped, as chosen"
    raise cast("ValueError", error)


def _explained(chosen: Configuration) -> tuple[Configuration, str]:
    limits = extent(chosen)
    return chosen, (
        f"{chosen.format}, {chosen.encoded_dtype} codes, zero_code {chosen.zero_code}: it holds "
        f"{limits.lowest:g} to {limits.highest:g}"
    )


def _fitted_to_sample(chosen: Configuration, sample: Any) -> Configuration:
    array = sample if hasattr(sample, "shape") else np.asarray(sample)
    return fitted_to(chosen, sample_blocks(array, _BLOCK_BYTES))


class _Span(NamedTuple):
    """What a choice needs to know of a sample."""

    low: float
    high: float
    dtype: np.dtype[Any]


def refuse_masked(array: Any) -> None:
    """Refuse a masked array: what is behind the mask would come back as if it had been measured."""
    # Only of what has a mask: numpy.ma takes a tenth of a second to import.
    if hasattr(array, "mask") and isinstance(array, np.ma.MaskedArray):
        raise ValueError(
            "masked arrays are not taken, as the mask would be lost: fill the masked values first"
        )


def _span(sample: Any) -> _Span:
    """Range of a sample, read block by block where it is more than an array in memory."""
    if not (hasattr(sample, "shape") and hasattr(sample, "dtype") and hasattr(sample, "__getitem__")):
        sample = np.asarray(sample)
    if math.prod(sample.shape) == 0:
        raise ValueError("sample must hold at least one value, got an empty array")
    dtype = np.dtype(sample.dtype)
    refuse_masked(sample)
    if dtype.kind not in "iuf":
        raise TypeError(f"sample must hold integers or floats, got dtype {dtype}")
    if not sample.shape:
        sample = np.reshape(sample, 1)
    row_bytes = math.prod(sample.shape[1:]) * dtype.itemsize
    step = max(1, _BLOCK_BYTES // row_bytes)
    low, high = math.inf, -math.inf
    for start in range(0, sample.shape[0], step):
        values = np.asarray(sample[start : start + step])
        # fmin and fmax pass over NaN.
        least, most = np.fmin.reduce(values, axis=None), np.fmax.reduce(values, axis=None)
        if math.isinf(least) or math.isinf(most):
            where = np.argwhere(np.isinf(values))[0]
            where[0] += start
            # Of a movie's range, which is such a sample, an index would say nothing.
            place = f" at index {tuple(where.tolist())}" if values.ndim > 1 else ""
            raise ValueError(
                f"the values must hold no infinities, which have no code, got one{place}: replace them "
                "first, by NaN for instance"
            )
        low, high = np.fmin(low, float(least)).item(), np.fmax(high, float(most)).item()
    if math.isinf(low):
        raise ValueError("the values must hold at least one number, got only NaN")
    return _Span(low, high, dtype)


def _with_head_room(configuration: Configuration, low: float, high: float) -> tuple[float, float]:
    """A sample's range with room beyond: its darkest and brightest values are rarely a movie's."""
    c, dtype = configuration, configuration.values_dtype
    limits = np.iinfo(dtype) if dtype.kind != "f" else np.finfo(dtype)
    noise = Curve(c.conversion_gain, c.zero_level, c.read_noise).noise_std([low, high])
    wide_low = max(low - 2 * float(noise[0]), float(limits.min))
    wide_high = min(high + max(4 * float(noise[1]), (high - low) / 4), float(limits.max))
    return (math.floor(wide_low), math.ceil(wide_high)) if dtype.kind != "f" else (wide_low, wide_high)


def holds(configuration: Configuration, low: float, high: float) -> bool:
    """Whether all values of a range have codes."""
    try:
        found = extent(configuration)
    except ValueError:
        return False
    return found.lowest <= low and high <= found.highest
