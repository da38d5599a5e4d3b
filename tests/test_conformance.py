"""What anscombe-transform 1.0.0 wrote: the same codes, the same integers, and its arrays still open.

``tests/data/reference-1.0.0`` is frozen: tables of twelve parameter sets and two small arrays, written by
that package with zarr-python 3.1.6.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from anscombe_transform import AnscombeTransformV2
from anscombe_transform.codec import (
    UnrepresentableError,
    decode,
    encode,
    make_anscombe_lookup,
    make_inverse_lookup,
)

FOLDER = Path(__file__).parent / "data" / "reference-1.0.0"
CASES: list[dict[str, Any]] = json.loads((FOLDER / "cases.json").read_text())
TABLES = np.load(FOLDER / "tables.npz")
WRAPPED = (10, 11)
PARAMETERS = ("zero_level", "conversion_gain", "encoded_dtype", "decoded_dtype")


def parameters(case: dict[str, Any]) -> dict[str, Any]:
    """The codec's parameters of a case."""
    return {name: case[name] for name in PARAMETERS}


def v3(call: Callable[[Any], np.ndarray], case: dict[str, Any]) -> list[np.ndarray]:
    """What the V3 codec gives, where zarr-python has Zarr V3."""
    if zarr.__version__ < "3":
        return []
    from anscombe_transform import AnscombeTransformV3

    return [call(AnscombeTransformV3(**parameters(case)))]


@pytest.mark.parametrize("number", [i for i in range(len(CASES)) if i not in WRAPPED])
def test_codes_are_identical(number: int) -> None:
    """Every input of 0 to 32767 has the code that 1.0.0 gave it, by table, function and both codecs."""
    case, expected = CASES[number], TABLES[f"forward_{number}"]
    dtype = np.dtype(case["decoded_dtype"])
    x = np.arange(32768).astype(dtype)
    table = make_anscombe_lookup(
        case["conversion_gain"], zero_level=case["zero_level"], output_type=case["encoded_dtype"]
    )
    few = {name: case[name] for name in PARAMETERS[:3]}
    for codes in (
        table,
        encode(x, **few),
        encode(x.astype("int64") if dtype.kind != "f" else x, **few),
        *v3(lambda codec: codec._encode(x), case),
        AnscombeTransformV2(**parameters(case)).encode(x).astype(expected.dtype, casting="equiv"),
    ):
        assert codes.dtype == expected.dtype
        assert np.array_equal(codes, expected)


@pytest.mark.parametrize("number", [i for i in range(len(CASES)) if f"inverse_{i}" in TABLES])
def test_decoded_values_are_identical(number: int) -> None:
    """Every code decodes to what 1.0.0 gave, where it indexed its table rightly."""
    case, expected = CASES[number], TABLES[f"inverse_{number}"]
    codes = np.arange(expected.size).astype(case["encoded_dtype"])
    table = TABLES[f"forward_{number}"]
    for values in (
        make_inverse_lookup(table, output_type=case["decoded_dtype"]),
        decode(codes.tobytes(), **parameters(case)),
        *v3(lambda codec: codec._decode(codes), case),
        AnscombeTransformV2(**parameters(case)).decode(codes.tobytes()),
    ):
        assert values.dtype == expected.dtype
        assert np.array_equal(values, expected)


@pytest.mark.parametrize("number", [i for i, case in enumerate(CASES) if not case["contiguous_codes"]])
def test_where_it_misread_its_own_codes_ours_stay_in_their_bin(number: int) -> None:
    """Where 1.0.0 decoded by rank or wrapped, a value that fits decodes into its own code's integers."""
    case = CASES[number]
    codec = AnscombeTransformV2(**parameters(case))
    x = np.arange(codec.plan.highest + 1).astype(case["decoded_dtype"])
    codes = codec.encode(x)
    assert np.array_equal(codec.encode(codec.decode(codes)), codes)


@pytest.mark.parametrize("number", WRAPPED)
def test_where_it_wrapped_ours_refuses(number: int) -> None:
    """A code beyond uint8, which 1.0.0 wrapped, is an error that names the way out."""
    case = CASES[number]
    with pytest.raises(UnrepresentableError, match="encoded_dtype='uint16' would hold it"):
        AnscombeTransformV2(**parameters(case)).encode(np.arange(32768, dtype="int16"))
    with pytest.raises(UnrepresentableError, match="output_type"):
        make_anscombe_lookup(case["conversion_gain"], zero_level=case["zero_level"])


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_its_arrays_read_back_identical(zarr_format: int) -> None:
    """The two arrays on disk open and give the integers that 1.0.0 read from them."""
    if zarr_format == 3 and zarr.__version__ < "3":
        pytest.skip("zarr-python 2 reads no V3 arrays")
    array = zarr.open(str(FOLDER / f"movie_zarr_v{zarr_format}.zarr"), mode="r")
    assert np.array_equal(array[:], np.load(FOLDER / f"movie_zarr_v{zarr_format}_read_back.npy"))
    written = np.load(FOLDER / f"movie_zarr_v{zarr_format}_written.npy")
    codec = AnscombeTransformV2(20, 30.0)
    assert np.array_equal(array[:], codec.decode(codec.encode(written)))


def test_a_v2_configuration_without_dtypes_is_read() -> None:
    """1.0.0 left the dtypes out of V2 metadata; they were uint8 and int16."""
    codec = AnscombeTransformV2.from_config({"id": "anscombe-v1", "zero_level": 20, "conversion_gain": 30.0})
    assert (codec.encoded_dtype, codec.decoded_dtype) == ("uint8", "int16")
