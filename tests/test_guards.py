"""Checks that no ordinary movie would miss: each fails when one comparison in the code is taken out."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from anscombe_transform.calibration import Sensitivity
from anscombe_transform.codec.transform.configuration import Configuration
from anscombe_transform.codec.transform.plan import plan
from anscombe_transform.codec.zarr_v2 import FrameCoderV2
from anscombe_transform.compression.blocks.comparison import Comparison
from anscombe_transform.compression.blocks.layout import Layout
from anscombe_transform.compression.blocks.sampling import Extent
from anscombe_transform.compression.blocks.verification import Verification, merged

KNOWN = Sensitivity.from_known(conversion_gain=90.0, zero_level=50.0, read_noise=30.0)


# --- codes that nobody wrote --------------------------------------------------------------------------------


def _short(encoded_dtype: str, decoded_dtype: str) -> Configuration:
    """A configuration of anscombe in which few codes are in use."""
    whole = Configuration(50, 90.0, encoded_dtype, decoded_dtype, zero_code=3)
    assert whole.bins is not None
    return replace(whole, bins=whole.bins.part(0, 60), decode_table=tuple(plan(whole).table[:60].tolist()))


@pytest.mark.parametrize(
    "configuration",
    [
        Configuration(50, 90.0),
        Configuration(50, 90.0, "uint16"),
        _short("uint8", "int16"),
        _short("uint16", "int16"),
        _short("uint8", "float32"),
        _short("uint16", "float32"),
    ],
    ids=lambda c: f"{c.format}-{c.encoded_dtype}-{c.decoded_dtype}",
)
@pytest.mark.parametrize("size", [1, 7, 4099, 200_003])
def test_one_code_beyond_the_last_is_refused(configuration: Configuration, size: int) -> None:
    """The first code behind the last one in use is an error anywhere in a chunk, which names its place."""
    p = plan(configuration)
    beyond = int(p.table.size)
    for place in {0, size // 2, size - 1}:
        codes = np.full(size, beyond - 1, p.encoded_dtype)
        p.decode(codes)
        codes[place] = beyond
        with pytest.raises(ValueError, match=f"code {beyond} at flat index {place} "):
            p.decode(codes)


def test_only_the_code_of_nan_stands_for_it() -> None:
    """Of floats, the codes between the last value and that of NaN are refused, and that of NaN is not."""
    p = plan(_short("uint8", "float32"))
    assert np.isnan(p.decode(np.array([255], "uint8")))[0]
    for code in (60, 100, 254):
        with pytest.raises(ValueError, match=f"code {code} "):
            p.decode(np.array([255, code, 0], "uint8"))


@pytest.mark.parametrize("preset", ["fast", "compact"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_every_byte_of_a_header_is_checked(preset: Any, dtype: str) -> None:
    """Any other value in the first bytes of a chunk is an error, or leaves every code as it is."""
    codes = np.random.default_rng(0).poisson(30, (9, 24, 40)).astype(dtype)
    coder = FrameCoderV2(codes.shape, dtype, preset=preset)
    stored = coder.encode(codes)
    refused = 0
    for place in range(8):
        for value in range(256):
            damaged = bytearray(stored)
            damaged[place] = value
            try:
                found = coder.decode(bytes(damaged))
            except ValueError:
                refused += 1
                continue
            np.testing.assert_array_equal(found, codes)
    assert refused >= 8 * 255


# --- room that a sample has not shown -----------------------------------------------------------------------


@pytest.mark.parametrize("encoded_dtype", ["uint8", "uint16"])
def test_a_codec_has_room_beyond_its_sample(encoded_dtype: str) -> None:
    """A codec for a sample holds two standard deviations below it, and a quarter of its range above."""
    # Of this detector a quarter of the range is more than four standard deviations at its bright end.
    known = Sensitivity.from_known(conversion_gain=2.0 if encoded_dtype == "uint16" else 90.0, zero_level=50)
    codec = known.codec(sample=np.array([200, 9000], "int16"), encoded_dtype=encoded_dtype)
    lowest, highest = codec.representable_range
    assert lowest <= 200 - 2 * codec.plan.curve.noise_std(200)
    assert highest >= 9000 + (9000 - 200) / 4


def test_a_sample_is_widened_on_both_sides() -> None:
    """Two standard deviations below and a quarter of the range above, within the type."""
    wide = Extent(200, 9000, False).widened(100.0, np.dtype("int16"))
    assert (wide.minimum, wide.maximum) == (0, 11200)
    narrow = Extent(-32700, 32000, False).widened(100.0, np.dtype("int16"))
    assert (narrow.minimum, narrow.maximum) == (-32768, 32767)
    assert Extent(None, None, True).widened(1.0, np.dtype("float32")) == Extent(None, None, True)


# --- comparisons --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int16", "int32", "float32"])
@pytest.mark.parametrize("where", [0, 2**18 - 1, 2**18, 2**18 + 12345, 2 * 2**18 + 1])
def test_the_first_wrong_value_is_named_wherever_it_is(where: int, dtype: str) -> None:
    """Index, values, number and chunk are right beyond the slices that are compared at once."""
    shape = (3, 512, 600)
    original = np.full(shape, 500, dtype)
    codec = Sensitivity.from_known(conversion_gain=90.0, zero_level=50.0).codec(
        sample=np.array([100, 20000], dtype)
    )
    p = codec.plan
    stored = p.decode(p.encode(original))
    layout = Layout.of(shape, dtype, (1, 256, 300))
    comparison = Comparison(p, layout)
    assert comparison.compare(original, stored, 10, 7).ok
    for place in (where, where + 5):
        stored.reshape(-1)[place] = 15000
    found = comparison.compare(original, stored, 10, 7)
    frame, row, column = (int(i) for i in np.unravel_index(where, shape))
    assert (found.ok, found.failed, found.compared) == (False, 2, original.size)
    assert found.index == (10 + frame, 7 + row, column)
    assert (found.original, found.stored, found.max_error) == (500, 15000, 14500)
    assert found.chunk == (10 + frame, (7 + row) // 256, column // 300)


def test_the_bound_is_never_wider_than_a_bin() -> None:
    """A value that left its bin fails, whatever a table may say of the bound."""
    codec = KNOWN.codec(sample=np.array([100, 20000], "int16"))
    p = codec.plan
    low, high = p.bins
    comparison = Comparison(p)
    x = np.arange(low[20], high[20] + 1).astype("int16")
    for values in (np.full(x.size, low[21]), np.full(x.size, high[19])):
        assert not comparison.compare(x[None, None], values.astype("int16")[None, None], 0).ok
    assert comparison.compare(x[None, None], p.decode(p.encode(x))[None, None], 0).ok


def test_parts_add_up_to_the_first_failure() -> None:
    """Of several parts counts are added, the largest error is kept, and the first failure names the place."""
    good = Verification(True, 10, 0, 2, 3.0, 0.5)
    bad = Verification(False, 10, 4, 0, 9.0, 2.0, (5, 0, 0), 1.0, 2.0, chunk=(1, 0, 0), blocks=((5, 9),))
    worse = Verification(False, 10, 5, 1, 8.0, 3.0, (9, 0, 0), 7.0, 8.0, chunk=(2, 0, 0), blocks=((10, 14),))
    found = merged([good, bad, worse])
    assert (found.ok, found.compared, found.failed, found.clipped) == (False, 30, 9, 3)
    assert (found.max_error, found.max_error_in_bounds) == (9.0, 3.0)
    assert (found.index, found.original, found.stored, found.chunk) == ((5, 0, 0), 1.0, 2.0, (1, 0, 0))
    assert found.blocks == ((5, 9), (10, 14))
    assert merged([good, good]).ok


# --- arrays of 1.0.0 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("raw", "code"), [(200, 200), (255, 255), (256, 0), (-5, 0), (float("nan"), 0)])
def test_the_raw_fill_value_of_an_old_array_is_kept(raw: float, code: int) -> None:
    """Where 1.0.0 handed on a fill value without a code, its number is read as a code, if it is one."""
    zarr = pytest.importorskip("zarr")
    if not hasattr(zarr, "create_array"):
        pytest.skip("needs zarr-python 3")
    from zarr.core.array_spec import ArrayConfig, ArraySpec
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.dtype import parse_dtype

    from anscombe_transform.codec.zarr_v3 import AnscombeTransformV3

    dtype = "float32" if raw != raw else "int16"
    document = {"zero_level": 0, "conversion_gain": 0.01, "encoded_dtype": "uint8", "decoded_dtype": dtype}
    codec = AnscombeTransformV3.from_dict({"name": "anscombe-v1", "configuration": document})
    assert codec.plan.highest < 200
    spec = ArraySpec(
        shape=(4,),
        dtype=parse_dtype(dtype, zarr_format=3),
        fill_value=np.dtype(dtype).type(raw),
        config=ArrayConfig.from_dict({}),
        prototype=default_buffer_prototype(),
    )
    assert codec.evolve_from_array_spec(spec).resolve_metadata(spec).fill_value == code
    with pytest.raises(ValueError, match="fill_value"):
        AnscombeTransformV3(**document).resolve_metadata(spec)


# --- layouts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 30, 20), (100, 17, 33)])
def test_blocks_and_bands_cover_every_value_once(shape: tuple[int, int, int]) -> None:
    """Blocks follow each other without gaps to the last frame, bands to the last row."""
    for block_frames, band_rows in ((1, 1), (3, 7), (100, 100)):
        layout = Layout(shape, (1, 1, 1), None, block_frames, band_rows)
        for parts, length in ((layout.spans, shape[0]), (layout.bands, shape[1])):
            assert (parts[0][0], parts[-1][1]) == (0, length)
            assert all(one[1] == other[0] for one, other in pairwise(parts))
