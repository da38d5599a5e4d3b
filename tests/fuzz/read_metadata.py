"""Any metadata before a sound chunk: it reads, or is refused by an error, in bounded time and memory.

    python tests/fuzz/read_metadata.py -max_total_time=60 [FOLDER]

The bytes that atheris (libFuzzer for Python) gives choose one of our arrays and edit its metadata: values are
replaced, taken away and added at any depth. Then zarr opens the array and reads its first chunk.
"""

from __future__ import annotations

import copy
import json
import math
import sys
import tracemalloc
import warnings
from itertools import product
from typing import Any

import atheris

with atheris.instrument_imports(include=["anscombe_transform"]):
    import anscombe_transform as at
    import anscombe_transform.codec.zarr_v2
    import anscombe_transform.codec.zarr_v3

import numpy as np
import zarr
from zarr.core.buffer import cpu
from zarr.storage import MemoryStore

MOST_BYTES = 400_000_000
"""More memory than this in Python is a fault; a chunk whose own metadata say it is large is not read."""
MOST_PIXELS = 1 << 22

VALUES: list[Any] = [
    0, 1, -1, 2, 255, 65536, 2**31, 2**63, 2**64, 10**30,
    0.5, -0.5, 1e-300, 1e300, float("nan"), float("inf"), None, True, False,
    "", "0", "uint8", "uint16", "int16", "float32", ">u2", "|O", "fast", "compact", "null", "\ud800",
    "A" * 300, [], {}, [0], [1, 1, 1], [2**40] * 3, ["uint8"], {"name": "anscombe"}, {"id": "anscombe"},
]  # fmt: skip


def make_arrays() -> list[dict[str, Any]]:
    """What the stores of small arrays hold, of every preset, format and width of codes."""
    warnings.simplefilter("ignore")
    known = at.Sensitivity.from_known(conversion_gain=30, zero_level=20, read_noise=12)
    movie = (20 + 30 * np.random.default_rng(0).poisson(60, (8, 12, 14))).astype("int16")
    found = []
    for preset, zarr_format, codes in product(("fast", "compact", "portable"), (2, 3), ("uint8", "uint16")):
        held: dict[str, Any] = {}
        at.compress(
            movie,
            MemoryStore(held),
            sensitivity=known,
            accept_mismatch=True,
            preset=preset,
            zarr_format=zarr_format,
            encoded_dtype=codes,
            chunks=(8, 12, 14),
        )
        found.append(dict(held))
    return found


ARRAYS: list[dict[str, Any]] = []


def places_of(document: Any) -> list[tuple[Any, Any]]:
    """Every container of a document with each of its keys."""
    keys = document.keys() if isinstance(document, dict) else range(len(document))
    found = [(document, key) for key in keys]
    for key in keys:
        if isinstance(document[key], (dict, list)) and document[key]:
            found += places_of(document[key])
    return found


def edit(document: Any, data: atheris.FuzzedDataProvider) -> None:
    """Replace, take away or add one value anywhere in a document."""
    container, key = data.PickValueInList(places_of(document))
    act = data.ConsumeIntInRange(0, 5)
    value: Any = copy.deepcopy(data.PickValueInList(VALUES))
    if act == 0:
        del container[key]
        return
    if act == 1:
        value = data.ConsumeFloat()
    elif act == 2:
        value = data.ConsumeInt(8)
    elif act == 3:
        value = data.ConsumeUnicode(12)
    elif act == 4 and isinstance(container[key], str) and container[key]:
        at_, text = data.ConsumeIntInRange(0, len(container[key]) - 1), container[key]
        value = text[:at_] + data.ConsumeUnicode(1) + text[at_ + 1 :]
    container[data.ConsumeUnicode(6) if act == 5 and isinstance(container, dict) else key] = value


def read_edited(bytes_: bytes) -> None:
    """Edit the metadata of one of the arrays and read it."""
    data = atheris.FuzzedDataProvider(bytes_)
    held = dict(data.PickValueInList(ARRAYS))
    key = "zarr.json" if "zarr.json" in held else ".zarray"
    document = json.loads(held[key].to_bytes())
    for _ in range(data.ConsumeIntInRange(1, 3)):
        if document:
            edit(document, data)
    try:
        held[key] = cpu.Buffer.from_bytes(json.dumps(document).encode())
    except UnicodeEncodeError:
        return
    tracemalloc.reset_peak()
    try:
        array: Any = zarr.open_array(MemoryStore(held), mode="r")
        if math.prod(array.chunks) <= MOST_PIXELS and 0 < array.ndim <= 8:
            array[tuple(slice(0, 1) for _ in array.shape)]
    except MemoryError:
        raise
    except Exception:
        # zarr and numpy raise errors of many kinds; only crashes, hangs and much memory are faults.
        pass
    if tracemalloc.get_traced_memory()[1] > MOST_BYTES:
        raise AssertionError(f"{tracemalloc.get_traced_memory()[1]} bytes for {document}")


def main() -> None:
    """Run libFuzzer."""
    warnings.simplefilter("ignore")
    ARRAYS.extend(make_arrays())
    tracemalloc.start()
    atheris.Setup(sys.argv, read_edited)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
