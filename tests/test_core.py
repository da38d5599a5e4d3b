"""The native core equals its definitions in numpy, bit for bit."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from anscombe_transform import native
from anscombe_transform.codec.transform.configuration import Configuration
from anscombe_transform.codec.transform.plan import Plan
from anscombe_transform.native import reference

needs_core = pytest.mark.skipif(not native.IS_NATIVE, reason="the native core was not built")


@needs_core
@pytest.mark.parametrize("size", [*range(20), *range(60, 68), 127, 128, 129, 4096 + 13])
def test_the_checksum_is_that_of_zlib(size: int) -> None:
    """CRC-32 of every size, aligned or not, and continued, is what zlib finds."""
    data = np.random.default_rng(size).bytes(size + 1)
    for start in (0, 1):
        part = memoryview(data)[start:size]
        expected = zlib.crc32(part, 0x1234)
        assert native.core.crc32(part, 0x1234) == expected
        assert reference.crc32(part, 0x1234) == expected


def test_every_function_of_the_core_has_a_definition() -> None:
    """The binding and `reference` have the same public names."""
    if native.IS_NATIVE:
        names = {name for name in vars(native.core) if not name.startswith("_")}
        assert names <= set(vars(reference))


SIGNALS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]


@needs_core
@pytest.mark.parametrize("dtype", SIGNALS)
@pytest.mark.parametrize("size", [0, 1, 5, 1023, 1024, 1025, 3001])
@pytest.mark.parametrize("codes_dtype", ["uint8", "uint16"])
def test_codes_by_edges_are_those_of_the_definition(
    dtype: str, size: int, codes_dtype: str, rng: np.random.Generator
) -> None:
    """Signals inside, outside and on every edge have the same codes and the same first wrong index."""
    real = np.float32 if dtype == "float32" else np.float64
    edges = np.cumsum(rng.integers(1, 6, 101)).astype(real) - (60 if dtype[0] != "u" else 0) - 0.5
    x = rng.integers(-128 if dtype[0] != "u" else 0, 127, size).astype(dtype)
    if x.dtype.kind == "f":
        x += rng.choice([0, 0.5, 0.25], size).astype(dtype)
        x[rng.random(size) < 0.01] = np.nan
        x[rng.random(size) < 0.01] = np.inf
    # Cells that hold none, one or many edges.
    for scale, cells in ((20.0, 300), (1.0, 30), (0.01, 2)):
        numbers = np.array([-60.0, 0.5, 0.4, scale, scale, 10.0])
        for nan_code in (-1, 255):
            found = []
            for functions in (native.core, reference):
                guess, codes = np.empty(cells, "uint16"), np.empty(size, codes_dtype)
                depth = functions.guess_codes(edges, numbers, guess)
                wrong = functions.encode_edges(x, edges, numbers, guess, depth, nan_code, codes)
                known = np.where(np.isnan(x.astype(float)), nan_code >= 0, True)
                found.append((depth, guess.tolist(), wrong, codes[known].tolist()))
            assert found[0] == found[1]


@needs_core
@pytest.mark.parametrize("dtype", SIGNALS[:4])
@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 4097])
@pytest.mark.parametrize("codes_dtype", ["uint8", "uint16"])
def test_tables_are_those_of_the_definition(
    dtype: str, size: int, codes_dtype: str, rng: np.random.Generator
) -> None:
    """Look-ups give the same codes, values, ends and errors for every type of at most 16 bits."""
    limits = np.iinfo(dtype)
    x = rng.integers(limits.min, limits.max, size, dtype=dtype, endpoint=True)
    table = rng.integers(0, 255, 1 << 8 * x.itemsize).astype(codes_dtype)
    inverse = rng.random(table.size).astype("float32")
    values = rng.normal(size=1 << 8 * np.dtype(codes_dtype).itemsize)
    found = []
    for functions in (native.core, reference):
        codes = np.empty(size, codes_dtype)
        row: list[object] = [functions.encode_table(x, table, None, codes), codes.tolist()]
        for kind in (*SIGNALS[:8], "float32", "float64"):
            decoded = np.empty(size, kind)
            row += [functions.decode_table(codes, (values * 50 + 60).astype(kind), decoded), decoded.tolist()]
        for stored in (x[::-1].copy(), x.astype("float32") + 1):
            row.append(functions.largest_errors(x, stored, inverse))
        found.append(row)
    assert found[0] == found[1]


@needs_core
@pytest.mark.parametrize("dtype", ["int16", "uint16"])
@pytest.mark.parametrize("gain", [2.2, 11.0, 90.0, 800.0])
@pytest.mark.parametrize("zero_code", [None, 20])
def test_estimated_codes_are_those_of_the_table(
    dtype: str, gain: float, zero_code: int | None, rng: np.random.Generator
) -> None:
    """Codes and ends of all 65536 signals are those of the table, whether or not codes are estimated."""
    plan = Plan(Configuration(50, gain, "uint8", dtype, zero_code=zero_code))
    table, estimate = plan._code_table(np.dtype(dtype))
    x = rng.permutation(np.arange(65536, dtype="uint16")).view(dtype)
    # Each also last, where a part of 64 is left over.
    for signal in (x, x[:4096], x[: 4096 + 63], x[:63], x[::-1].copy()):
        found = []
        for functions in (native.core, reference):
            codes = np.empty(signal.size, "uint8")
            found.append((functions.encode_table(signal, table, estimate, codes), codes.tolist()))
        assert found[0] == found[1]
    with pytest.raises(ValueError, match="do not fit"):
        native.core.encode_table(x, table, b"", np.empty(x.size, "uint8"))


@needs_core
def test_arrays_that_do_not_fit_are_refused() -> None:
    """Wrong sizes and types are errors of the public function, before memory is touched."""
    x, codes = np.zeros(8, "int16"), np.zeros(8, "uint8")
    for signal, table, target in (
        (x, np.zeros(65535, "uint8"), codes),
        (x, np.zeros(65536, "uint16"), codes),
        (x[:7], np.zeros(65536, "uint8"), codes),
        (x.astype(">i2"), np.zeros(65536, "uint8"), codes),
        (x.astype("int32"), np.zeros(65536, "uint8"), codes),
    ):
        with pytest.raises(ValueError, match="do not fit"):
            native.core.encode_table(signal, table, None, target)
    with pytest.raises(ValueError, match="do not fit"):
        native.core.decode_table(codes, np.zeros(255, "int16"), x)
    edges, numbers = np.array([0.0, 1.0, 2.0]), np.zeros(6)
    for guess in (np.array([9], "uint16"), np.array([0], "uint8"), np.zeros(0, "uint16")):
        with pytest.raises(ValueError, match="do not fit"):
            native.core.encode_edges(x, edges, numbers, guess, 1, -1, codes)
