"""The frame coder inside Zarr arrays of both formats."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr

import anscombe_transform as at
from anscombe_transform import FrameCoderV2, FrameCoderV3
from anscombe_transform.calibration import Sensitivity
from anscombe_transform.codec.frames import DamagedChunkError

NOISE = np.random.default_rng(3).poisson(20, (40, 30, 30)).astype("uint8")
KNOWN = Sensitivity.from_known(conversion_gain=90, zero_level=50)
PRESETS = ("fast", "compact", "portable")


@pytest.fixture
def movie(rng: np.random.Generator) -> np.ndarray:
    """Counts of a scene as int16 signal."""
    return (50 + 90 * rng.poisson(8, (40, 50, 60))).astype("int16")


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("preset", PRESETS)
def test_a_pipeline_makes_an_array(movie: np.ndarray, zarr_format: Any, preset: Any, tmp_path: Path) -> None:
    """The result of `codec_pipeline` goes into create_array; the array opens without it, within the bound."""
    pipeline = at.codec_pipeline(
        KNOWN, sample=movie, preset=preset, zarr_format=zarr_format, chunks=(16, 32, 45)
    )
    zarr.create_array(tmp_path / "a.zarr", data=movie, zarr_format=zarr_format, **pipeline)
    array = zarr.open_array(tmp_path / "a.zarr", mode="r")
    assert (abs(array[:].astype(float) - movie) <= pipeline["filters"][0].max_error(movie)).all()
    assert np.array_equal(array[3:30, 7, 5:41], array[:][3:30, 7, 5:41])


@pytest.mark.parametrize(("gain", "fill"), [(90.0, None), (2.2, None), (0.3, 1000)])
def test_a_pipeline_has_a_fill_value_where_zarrs_has_no_code(
    gain: float, fill: int | None, rng: np.random.Generator
) -> None:
    """0 has a code wherever codes of one byte reach it; a camera far above it gets its zero level."""
    zero = fill or 100
    movie = np.rint(zero + gain * rng.poisson(20, (20, 40, 50))).astype("uint16")
    known = at.Sensitivity.from_known(conversion_gain=gain, zero_level=zero)
    pipeline = at.codec_pipeline(known, sample=movie)
    assert pipeline.get("fill_value") == fill
    assert pipeline["filters"][0].encoded_dtype == "uint8"
    array = zarr.create_array({}, data=movie, **pipeline)
    assert array.fill_value == (fill or 0)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_another_process_opens_the_array(movie: np.ndarray, zarr_format: Any, tmp_path: Path) -> None:
    """A process that imports only zarr reads the array, since entry points name the coder."""
    pipeline = at.codec_pipeline(KNOWN, sample=movie, zarr_format=zarr_format, chunks=(40, 50, 60))
    array = zarr.create_array(tmp_path / "a.zarr", data=movie, zarr_format=zarr_format, **pipeline)
    script = "import sys, zarr; print(int(zarr.open_array(sys.argv[1], mode='r')[:].astype('int64').sum()))"
    command = [sys.executable, "-c", script, str(tmp_path / "a.zarr")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) == array[:].astype("int64").sum()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">u2"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_codes_alone_are_lossless(dtype: str, zarr_format: Any, rng: np.random.Generator) -> None:
    """Arrays of codes without a transform come back exactly: big-endian too, with edges and empty chunks."""
    codes = rng.poisson(20, (33, 30, 20)).astype(dtype)
    codes[:16, :16] = 0
    coder: dict[str, Any] = {"serializer": FrameCoderV3(), "compressors": None}
    if zarr_format == 2:
        coder = {"compressors": [FrameCoderV2((16, 16, 16), dtype)]}
    array = zarr.create_array(
        {}, shape=codes.shape, chunks=(16, 16, 16), dtype=dtype, zarr_format=zarr_format, **coder
    )
    assert (array[:] == 0).all()
    array[:] = codes
    assert np.array_equal(array[:], codes)
    array[5:7, :, 3] = 9
    assert (array[5:7, :, 3] == 9).all()


def test_shards_and_any_axes(rng: np.random.Generator) -> None:
    """Inside shards, with time last or nowhere, codes come back."""
    codes = rng.poisson(20, (20, 30, 40)).astype("uint8")
    for axis in (0, 2, None):
        array = zarr.create_array(
            {},
            shape=codes.shape,
            chunks=(10, 15, 20),
            shards=(20, 30, 40),
            dtype="uint8",
            serializer=FrameCoderV3(time_axis=axis),
            compressors=None,
        )
        array[:] = codes
        assert np.array_equal(array[:], codes)
        assert np.array_equal(array[3, 4:9], codes[3, 4:9])


def test_a_chunk_above_the_inline_size(rng: np.random.Generator) -> None:
    """Chunks that go to a thread come back as well."""
    codes = rng.poisson(20, (20, 160, 160)).astype("uint8")
    array = zarr.create_array({}, data=codes, chunks=codes.shape, serializer=FrameCoderV3(), compressors=None)
    assert np.array_equal(array[:], codes)


@pytest.mark.parametrize(
    "coder",
    [
        FrameCoderV3("compact"),
        FrameCoderV2((4, 5, 6), preset="compact"),
        FrameCoderV3(),
        FrameCoderV3(time_axis=None),
        FrameCoderV2((4, 5, 6), ">u2", time_axis=1),
    ],
    ids=repr,
)
def test_a_coder_survives_json_and_pickle(coder: Any) -> None:
    """A coder equals the one that its metadata, or its pickle, gives."""
    again = pickle.loads(pickle.dumps(coder))
    assert again == coder
    assert hash(again) == hash(coder)
    if isinstance(coder, FrameCoderV3):
        assert FrameCoderV3.from_dict(json.loads(json.dumps(coder.to_dict()))) == coder
    else:
        assert numcodecs.get_codec(json.loads(json.dumps(coder.get_config()))) == coder


def test_the_numcodecs_coder_takes_any_buffer(rng: np.random.Generator) -> None:
    """Bytes and arrays give the same chunk; `out` receives the codes; a wrong size or type is refused."""
    codes = rng.poisson(20, (4, 5, 6)).astype("uint16")
    coder = FrameCoderV2(codes.shape, "uint16")
    data = coder.encode(codes)
    assert coder.encode(codes.tobytes()) == coder.encode(codes.ravel()) == data
    out = np.empty_like(codes)
    assert coder.decode(data, out) is out
    assert np.array_equal(out, codes)
    assert np.array_equal(coder.decode(memoryview(data)), codes)
    for wrong in (codes[1:], codes.astype("int32"), codes.astype(">u2"), codes.astype("uint8")):
        with pytest.raises(ValueError, match="chunk"):
            coder.encode(wrong)
    with pytest.raises(ValueError, match="out must hold"):
        coder.decode(data, np.empty(3, "uint16"))
    with pytest.raises(DamagedChunkError):
        coder.decode(data[:-1])


def test_fortran_order_keeps_the_memory_of_zarr_v2(rng: np.random.Generator) -> None:
    """An array of order F comes back: Zarr reads decoded bytes in the order of its memory."""
    codes = rng.poisson(20, (12, 10, 14)).astype("uint8")
    array = zarr.create_array(
        {}, data=codes, chunks=(6, 10, 7), order="F", zarr_format=2, compressors=[FrameCoderV2((6, 10, 7))]
    )
    assert np.array_equal(array[:], codes)


def test_a_pipeline_says_what_it_needs(movie: np.ndarray) -> None:
    """An unknown preset, an unknown format and a missing chunk shape are refused with the way out."""
    with pytest.raises(ValueError, match="preset must be"):
        at.codec_pipeline(KNOWN, sample=movie, preset="best")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="zarr_format must be"):
        at.codec_pipeline(KNOWN, sample=movie, zarr_format=4)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs chunks="):
        at.codec_pipeline(KNOWN, sample=movie, zarr_format=2)
    with pytest.raises(ValueError, match="chunk_shape"):
        FrameCoderV2((0, 4))
    with pytest.raises(ValueError, match="dtype must be"):
        FrameCoderV2((4, 4), "int16")
    with pytest.raises(ValueError, match="time_axis is 7"):
        zarr.create_array(
            {}, shape=(3, 4), dtype="uint8", serializer=FrameCoderV3(time_axis=7), compressors=None
        )


def test_options_of_the_transform_pass_through(movie: np.ndarray) -> None:
    """What `Sensitivity.codec` takes, `codec_pipeline` takes."""
    pipeline = at.codec_pipeline(KNOWN, sample=movie, beta=0.25, encoded_dtype="uint16", zero_code=11)
    codec = pipeline["filters"][0]
    assert (codec.beta, codec.encoded_dtype, codec.zero_code) == (0.25, "uint16", 11)
    array = zarr.create_array({}, data=movie, **pipeline)
    assert (abs(array[:].astype(float) - movie) <= codec.max_error(movie)).all()
