"""The native core equals its definitions in numpy, bit for bit."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from anscombe_transform import native, reference

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
