"""Which configuration a movie gets: format, dtype of the codes, range and values."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import numpy as np

from anscombe_transform.codec.transform.bins import FARTHEST as EXACT
from anscombe_transform.codec.transform.bins import Bins, bins_around, bins_between, fine_step
from anscombe_transform.codec.transform.configuration import (
    BETA_V1,
    CODES,
    V2,
    Configuration,
    _stored_table,
    _unbiased_table,
    decode_table,
    extent,
    fields_of,
)
from anscombe_transform.codec.transform.curve import LARGEST_BETA, Curve
from anscombe_transform.codec.transform.values import BLUR, fitted, sample_blocks
from anscombe_transform.native.arrays import refuse_masked

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

_FEW_CODES = 255
_BLOCK_BYTES = 1 << 26


def fit(
    configuration: Configuration,
    low: float,
    high: float,
    *,
    choose_codes: bool = True,
    least_blur: float = 0.0,
    excess_noise: float = 1.0,
    integers: bool = False,
) -> Configuration:
    """The configuration nearest to the given one under which signals from `low` to `high` have codes.

    With `choose_codes` the narrowest encoded dtype is taken that holds the range, else the given one is kept.
    The bins are those of the range, and of codes of one byte all that there are above. The values assume
    noise of at least `least_blur` signal units. `integers` says that the signals are integers in any type.

    Raises
    ------
    ValueError
        If no encoded dtype holds the range, naming the smallest `beta` that would.
    """
    names = CODES if choose_codes else (configuration.encoded_dtype,)
    return _holding(fields_of(configuration), low, high, names, least_blur, excess_noise, integers=integers)


def _holding(
    fields: dict[str, Any],
    low: float,
    high: float,
    names: Sequence[str],
    least_blur: float,
    excess_noise: float,
    *,
    integers: bool,
) -> Configuration:
    """As `fit`, from the parameters of a configuration and the types of codes that may be taken."""
    dtype = np.dtype(fields["decoded_dtype"])
    curve = Curve(fields["conversion_gain"], fields["zero_level"], fields["read_noise"], fields["beta"])
    if max(abs(low), abs(high)) >= EXACT:
        raise ValueError(
            f"the range {low:g} to {high:g} reaches beyond ±2**52, where no value has a code: look at the "
            "smallest and largest values, which are rarely light, and replace or rescale them"
        )
    step = 1.0
    if dtype.kind == "f" and not integers:
        step = fine_step(curve, low, high, dtype.newbyteorder("="))
    needed, most = 0, 0
    for name in names:
        most = int(np.iinfo(name).max) + 1 - int(dtype.kind == "f")
        try:
            bins = bins_between(curve, low, high, step if step < 1 else int(step), most)
        except OverflowError as error:
            needed = max(needed, int(error.args[1]))
            continue
        if most <= _FEW_CODES + 1:
            bins = _all_codes(curve, bins, most, dtype)
        chosen = {"encoded_dtype": name, "bins": bins, "decode_table": None, "zero_code": None}
        wider = Configuration(**fields | chosen)
        noise = max(least_blur, wider.read_noise)
        return replace(wider, decode_table=_unbiased_table(wider, noise, excess_noise))
    raise _too_wide(curve, low, high, needed, most)


def _all_codes(curve: Curve, bins: Bins, most: int, dtype: np.dtype[Any]) -> Bins:
    """The bins with as many more above as there are codes, up to the end of the type."""
    zero = int(bins.codes(curve.zero_level))
    if not 0 <= zero < len(bins):
        return bins
    more = bins_around(curve, zero, most, bins.step)
    top = float(np.iinfo(dtype).max) if dtype.kind != "f" else float(EXACT)
    count = int(np.searchsorted(more.low, top, "right"))
    # Bins that were laid out from the range and not from the zero level are kept as they are.
    return more.part(0, max(count, len(bins))) if more.first == bins.first else bins


def fitted_to(configuration: Configuration, blocks: Iterable[npt.NDArray[Any]]) -> Configuration:
    """The configuration with values that keep the mean of sample frames; v1 as it is.

    Floats that are all integers are coded as integers are.

    Parameters
    ----------
    configuration : Configuration
        Which says the codes.
    blocks : iterable of ndarray, shape (frames, ..., x)
        Successive frames from here and there in the movie; none leaves the configuration as it is.
    """
    c, blocks = configuration, list(blocks)
    if c.bins is None or not blocks:
        return c
    integers = c.values_dtype.kind != "f"
    if not integers and not c.bins.whole and all(hold_integers(block) for block in blocks):
        with contextlib.suppress(ValueError):
            found = extent(c)
            low, high = math.ceil(found.lowest), math.floor(found.highest)
            c = fit(c, low, high, choose_codes=False, integers=True)
    bins = cast("Bins", c.bins)
    table = fitted(bins, c.curve, decode_table(c), blocks, integers=integers)
    return replace(c, decode_table=_stored_table(table, bins, c.values_dtype))


def hold_integers(values: npt.NDArray[Any]) -> bool:
    """Whether all numbers of an array are integers; NaN is passed over."""
    if values.dtype.kind != "f":
        return True
    # Most arrays of other numbers show it at once.
    for part in (values.reshape(-1)[:1000], values):
        known = part[np.isfinite(part)]
        if not bool((known == np.rint(known)).all()):
            return False
    return bool(np.isfinite(values).any())


def _too_wide(c: Curve, low: float, high: float, codes: int, most: int) -> ValueError:
    needed = math.ceil(100 * c.beta * codes / most) / 100
    remedy = (
        f"beta={needed} would fit"
        if needed <= LARGEST_BETA
        else "no beta would do, so look whether the gain is in signal units per photon, and whether the "
        "smallest and the largest value are light"
    )
    return ValueError(
        f"the range {low:g} to {high:g} needs {codes} codes at beta={c.beta:g}, more than the {most} that "
        f"there "
        f"are; {remedy}"
    )


def choose_configuration(
    conversion_gain: float,
    zero_level: float,
    *,
    read_noise: float = 0.0,
    beta: float = BETA_V1,
    sample: npt.ArrayLike | None = None,
    signal_range: tuple[float, float] | None = None,
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
        Values that must have codes: the movie, a piece of it, or an image, to which the decode table is
        fitted, see `values.fitted`. Of a plain list of values only the range counts.
    signal_range : (float, float), optional
        Smallest and largest value that must have codes, instead of a sample or beyond it.
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
    span = _span_of(sample, signal_range, decoded_dtype)
    if span is None and zero_code is None:
        raise ValueError(
            "a codec needs to know the range of the signals: give sample= (the movie, or a piece of it) or "
            "signal_range=(smallest, largest)"
        )
    fields: dict[str, Any] = {
        "zero_level": zero_level,
        "conversion_gain": conversion_gain,
        "decoded_dtype": np.dtype(decoded_dtype or ("int16" if span is None else span.dtype)).str,
        "read_noise": read_noise,
        "beta": beta,
        "out_of_range": out_of_range,
    }
    names: Sequence[str] = (str(np.dtype(encoded_dtype).name),) if encoded_dtype else CODES
    # Every parameter is checked before the range is.
    base = Configuration(**fields | {"encoded_dtype": names[0], "zero_code": zero_code or 0})
    fields = {name: value for name, value in fields_of(base).items() if name in fields}
    if span is None:
        return base, f"{base.format}, {base.encoded_dtype} codes: no sample was given to fit the range to"
    low, high = span.low, span.high
    clipped = f"{V2}, {names[-1]} codes: what they do not hold is clipped, as chosen"
    blocks = _blocks_of(sample)
    if zero_code is not None:
        for name in names:
            candidate = replace(base, encoded_dtype=name, bins=None, decode_table=None, zero_code=zero_code)
            if holds(candidate, low, high):
                return _explained(fitted_to(candidate, blocks))
        if out_of_range == "clip":
            return base, clipped
        widest = extent(candidate)
        raise ValueError(
            f"zero_code={zero_code} leaves no code for the sample's range, {low:g} to {high:g}: with "
            f"{names[-1]} codes it holds {widest.lowest:g} to {widest.highest:g}; "
            "leave zero_code out to have one chosen"
        )
    # Uneven pulses are blur enough beside the zero level's own.
    blur = (BLUR if excess_noise == 1 else BLUR / 2) * base.conversion_gain if measured else 0.0
    integers = base.values_dtype.kind != "f" or (bool(blocks) and all(hold_integers(b) for b in blocks))
    wide = _with_head_room(base, low, high)
    # The narrowest codes first. The fill value of an array is 0 if nobody says otherwise, and has to have a
    # code.
    error: ValueError | None = None
    for name in names:
        for room in ((min(wide[0], 0), max(wide[1], 0)), wide, (low, high)):
            try:
                chosen = _holding(fields, *room, (name,), blur, excess_noise, integers=integers)
            except ValueError as found:
                error = found
                continue
            return _explained(fitted_to(chosen, blocks))
    if out_of_range == "clip":
        return replace(base, encoded_dtype=names[-1], bins=None, decode_table=None, zero_code=0), clipped
    raise cast("ValueError", error)


def _explained(chosen: Configuration) -> tuple[Configuration, str]:
    limits = extent(chosen)
    return chosen, (
        f"{chosen.format}, {chosen.encoded_dtype} codes, zero_code {chosen.zero_code}: it holds "
        f"{limits.lowest:g} to {limits.highest:g}"
    )


def _blocks_of(sample: Any) -> list[npt.NDArray[Any]]:
    """Frames of a sample to fit values to; none where it is a range or a list of values."""
    array = sample if hasattr(sample, "shape") else np.asarray(sample)
    return [] if sample is None else list(sample_blocks(array, _BLOCK_BYTES))


def _span_of(
    sample: Any, signal_range: tuple[float, float] | None, dtype: npt.DTypeLike | None
) -> _Span | None:
    """The span that must have codes: of a sample, a range or both; None where neither is given."""
    span = None if sample is None else _span(sample)
    if signal_range is None:
        return span
    try:
        low, high = (float(value) for value in signal_range)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"signal_range must be two numbers, (smallest, largest), got {signal_range!r}"
        ) from error
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"signal_range must be two finite numbers in order, got {signal_range!r}")
    if span is None:
        return _Span(low, high, np.dtype("int16" if dtype is None else dtype))
    return _Span(min(low, span.low), max(high, span.high), span.dtype)


class _Span(NamedTuple):
    """Facts about a sample, for the choice of a codec."""

    low: float
    high: float
    dtype: np.dtype[Any]


def _span(sample: Any) -> _Span:
    """Range of a sample, read block by block where it is more than an array in memory."""
    if not (hasattr(sample, "shape") and hasattr(sample, "dtype") and hasattr(sample, "__getitem__")):
        sample = np.asarray(sample)
    if math.prod(sample.shape) == 0:
        raise ValueError("sample must hold at least one value, got an empty array")
    dtype = np.dtype(sample.dtype)
    refuse_masked(sample, "sample")
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
