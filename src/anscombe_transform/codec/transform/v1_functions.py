"""The functions of anscombe-transform 1.0.0 on arrays and look-up tables, in the format ``anscombe-v1``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from anscombe_transform.codec.transform.configuration import (
    FLOATS,
    INTEGERS,
    Configuration,
    UnrepresentableError,
)
from anscombe_transform.codec.transform.curve import Curve, check_detector
from anscombe_transform.codec.transform.plan import as_codes, plan
from anscombe_transform.native.arrays import AnyArray

if TYPE_CHECKING:
    import numpy.typing as npt


__all__ = ["decode", "encode", "lookup", "make_anscombe_lookup", "make_inverse_lookup"]


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
    decoded = name if name in (*INTEGERS, *FLOATS) else "int16"
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
