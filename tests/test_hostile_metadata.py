"""Metadata that nobody has written are refused by one line, before time or memory is spent on them."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import anscombe_transform as at

zarr = pytest.importorskip("zarr")
pytest.importorskip("typer")
from typer.testing import CliRunner  # noqa: E402

from anscombe_transform.cli.commands import app  # noqa: E402

if int(zarr.__version__.partition(".")[0]) < 3:
    pytest.skip("both formats are edited, which zarr-python 2 does not have", allow_module_level=True)

KNOWN = at.Sensitivity.from_known(conversion_gain=90.0, zero_level=50.0)
MOST_BYTES = 200e6
HUGE = 10**15

Edit = Callable[[dict[str, Any]], Any]

# Values of a transform's keys that no codec has; the rest of the configuration stays.
TRANSFORM: dict[str, tuple[Any, ...]] = {
    "conversion_gain": (
        1e-300,
        1e-12,
        1e12,
        1e300,
        0,
        -1.0,
        "90",
        None,
        [90],
        True,
        float("nan"),
        float("inf"),
    ),
    "zero_level": (1e300, 1e15, -1e18, "50", None, {}, float("nan"), float("-inf")),
    "read_noise": (1e300, 1e150, -1, "0", None, float("nan")),
    "beta": (1e-300, 0, -0.5, 5, 1e300, "0.5", None, float("nan")),
    "zero_code": (2**31 - 1, -(2**31) + 1, 2**63, 1.5, "2", [1]),
    "out_of_range": ("wrap", None, 1),
    "encoded_dtype": ("uint64", "float32", "|S9", 8, None, ["uint8"], "uint8,uint8"),
    "decoded_dtype": ("complex128", "object", None, 2, {"a": 1}),
    "decode_table": ([], [[1, 2]], ["1", "2"], "123", 7, {}, [float("nan")] * 9, [True] * 9, [3, 2, 1]),
    "unknown_key": (1,),
}
ARRAY_V3: dict[str, Edit] = {
    "petabytes": lambda z: z.update(shape=[HUGE, 64, 64]),
    "negative shape": lambda z: z.update(shape=[-40, 64, 64]),
    "shape of text": lambda z: z.update(shape=["40", 64, 64]),
    "no shape": lambda z: z.pop("shape"),
    "chunk length 0": lambda z: _chunks(z).update(chunk_shape=[0, 64, 64]),
    "negative chunk": lambda z: _chunks(z).update(chunk_shape=[-20, 64, 64]),
    "chunk of petabytes": lambda z: _chunks(z).update(chunk_shape=[HUGE, 64, 64]),
    "chunks of two axes": lambda z: _chunks(z).update(chunk_shape=[20, 64]),
    "chunk of text": lambda z: _chunks(z).update(chunk_shape="20"),
    "no chunk grid": lambda z: z.pop("chunk_grid"),
    "no codecs": lambda z: z.pop("codecs"),
    "codecs of text": lambda z: z.update(codecs="zstd"),
    "unknown dtype": lambda z: z.update(data_type="int17"),
    "dtype of a number": lambda z: z.update(data_type=16),
    "unknown codec": lambda z: z["codecs"][0].update(name="anscombe-v9"),
    "unknown serializer": lambda z: z["codecs"][1].update(name="anscombe-frames-v9"),
    "serializer preset": lambda z: z["codecs"][1]["configuration"].update(preset="fastest"),
    "serializer key": lambda z: z["codecs"][1]["configuration"].update(speed=11),
    "serializer without configuration": lambda z: z["codecs"][1].pop("configuration"),
    "serializer of text": lambda z: z["codecs"][1].update(configuration="fast"),
    "no configuration": lambda z: z["codecs"][0].pop("configuration"),
    "configuration of text": lambda z: z["codecs"][0].update(configuration="gain"),
}
ARRAY_V2: dict[str, Edit] = {
    "petabytes": lambda z: z.update(shape=[HUGE, 64, 64]),
    "negative shape": lambda z: z.update(shape=[-40, 64, 64]),
    "no shape": lambda z: z.pop("shape"),
    "chunk length 0": lambda z: z.update(chunks=[0, 64, 64]),
    "chunk of petabytes": lambda z: z.update(chunks=[HUGE, 64, 64]),
    "chunks of two axes": lambda z: z.update(chunks=[20, 64]),
    "chunk of text": lambda z: z.update(chunks="20"),
    "unknown dtype": lambda z: z.update(dtype="<i17"),
    "dtype of objects": lambda z: z.update(dtype="|O"),
    "unknown filter": lambda z: z["filters"][0].update(id="anscombe-v9"),
    "no filter id": lambda z: z["filters"][0].pop("id"),
    "compressor chunk of petabytes": lambda z: z["compressor"].update(chunk_shape=[HUGE, 64, 64]),
    "compressor chunk length 0": lambda z: z["compressor"].update(chunk_shape=[0, 64, 64]),
    "compressor chunk of text": lambda z: z["compressor"].update(chunk_shape="20"),
    "compressor dtype": lambda z: z["compressor"].update(dtype="float64"),
    "compressor key": lambda z: z["compressor"].update(speed=11),
    "no compressor shape": lambda z: z["compressor"].pop("chunk_shape"),
    "compressor preset": lambda z: z["compressor"].update(preset="fastest"),
    "compressor time axis": lambda z: z["compressor"].update(time_axis=9),
}


def _chunks(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["chunk_grid"]["configuration"]
    return found


def _set(key: str, value: Any, of: Callable[[dict[str, Any]], dict[str, Any]]) -> Edit:
    return lambda document: of(document).__setitem__(key, value)


def _cases() -> Iterator[Any]:
    places = {
        3: ("zarr.json", lambda z: z["codecs"][0]["configuration"], ARRAY_V3),
        2: (".zarray", lambda z: z["filters"][0], ARRAY_V2),
    }
    for zarr_format, (file, transform, whole) in places.items():
        for key, values in TRANSFORM.items():
            for value in values:
                if zarr_format == 2 and key == "decoded_dtype":
                    continue  # the dtype of the array, tested there
                name = f"v{zarr_format}-{key}-{str(value)[:20]}"
                yield pytest.param(zarr_format, file, _set(key, value, transform), id=name)
        for name, edit in whole.items():
            yield pytest.param(zarr_format, file, edit, id=f"v{zarr_format}-{name}")


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One array of each format."""
    folder = tmp_path_factory.mktemp("arrays")
    movie = (50 + 90 * np.random.default_rng(0).poisson(8, (40, 64, 64))).astype("int16")
    for zarr_format in (2, 3):
        at.compress(
            movie,
            folder / f"{zarr_format}.zarr",
            sensitivity=KNOWN,
            chunks=(20, 64, 64),
            zarr_format=zarr_format,
        )
    return folder


@pytest.mark.parametrize(("zarr_format", "file", "edit"), list(_cases()))
def test_hostile_metadata_are_refused_by_one_line(
    zarr_format: int, file: str, edit: Edit, arrays: Path, tmp_path: Path
) -> None:
    """``anscombe info`` ends with code 2 and one line that is an error, and takes less than 200 MB."""
    path = tmp_path / "a.zarr"
    shutil.copytree(arrays / f"{zarr_format}.zarr", path)
    document = json.loads((path / file).read_text())
    edit(document)
    (path / file).write_text(json.dumps(document))
    tracemalloc.start()
    try:
        result = CliRunner().invoke(app, ["info", str(path)])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    lines = [line for line in result.output.splitlines() if line.strip()]
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert (result.exit_code, len(lines)) == (2, 1), result.output
    assert lines[0].startswith("error: ")
    assert peak < MOST_BYTES
