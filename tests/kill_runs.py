"""Kill runs at random moments, resume them, and compare every result with that of an undisturbed run.

    python tests/kill_runs.py --kills 200

Exit status 0 only if every array that came out of killed runs has the bytes of the undisturbed one.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import zarr

from anscombe_transform import Sensitivity, compress, verify, write_ome_zarr
from anscombe_transform.compression import ATTRIBUTE
from anscombe_transform.compression.blocks import layout

KNOWN = Sensitivity.from_known(conversion_gain=90.0, zero_level=50.0)
LAYOUTS = ("folder", "sharded", "store", "ome-zarr")
PRESETS = ("fast", "compact", "portable")


class Slow:
    """A movie whose frames take a moment, so that kills fall everywhere."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape, self.dtype = values, values.shape, values.dtype

    def __getitem__(self, key: object) -> np.ndarray:
        time.sleep(0.002)
        return self.values[key]


def write(movie: object, path: Path, where: str, preset: str, zarr_format: int) -> None:
    """Begin a run, or go on with it."""
    options = {"sensitivity": KNOWN, "preset": preset, "zarr_format": zarr_format, "chunks": (4, 24, 24)}
    options |= {"resume": True, "client": False}
    if where == "ome-zarr":
        write_ome_zarr(movie, path, pyramid=1, name="movie", **options)
    elif where == "sharded":
        compress(movie, path, **options, shards=(8, 24, 24))
    elif where == "store":
        compress(movie, zarr.storage.LocalStore(path), **options)
    else:
        compress(movie, path, **options)


def contents(path: Path) -> dict[str, bytes]:
    """The files of an array or image, of the metadata all but the date."""
    files = {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}
    for name, content in files.items():
        if name.rpartition("/")[2] in ("zarr.json", ".zattrs"):
            document = json.loads(content)
            document.get("attributes", document).get(ATTRIBUTE, {}).pop("date", None)
            files[name] = json.dumps(document).encode()
    return files


def main() -> int:
    """Run as many kills as were asked for, spread over layouts, presets and formats."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    layout.BLOCK_BYTES = 1
    rng = np.random.default_rng(asked.seed)
    values = (50 + 90 * rng.poisson(8, (64, 24, 24))).astype(np.int16)
    cases = [(w, p, f) for w in LAYOUTS for p in PRESETS for f in (2, 3) if (w, f) != ("sharded", 2)]
    kills, ended, wrong = 0, 0, []
    with tempfile.TemporaryDirectory() as folder:
        while kills < asked.kills:
            case = cases[ended % len(cases)]
            whole, path = Path(folder, "whole.zarr"), Path(folder, f"movie{ended}.zarr")
            began = time.perf_counter()
            write(Slow(values), whole, *case)
            length = time.perf_counter() - began
            for _ in range(12):
                child = os.fork()
                if not child:
                    try:
                        write(Slow(values), path, *case)
                        os._exit(0)
                    except BaseException as error:
                        print(f"{case}: {type(error).__name__}: {error}", flush=True)
                        os._exit(1)
                time.sleep(rng.uniform(0, 0.7 * length))
                os.kill(child, signal.SIGKILL)
                _, status = os.waitpid(child, 0)
                kills += os.WIFSIGNALED(status)
                if os.WIFEXITED(status) and os.WEXITSTATUS(status):
                    wrong.append(case)
            write(Slow(values), path, *case)
            left = {p.name for p in Path(folder).iterdir()} - {"whole.zarr", path.name}
            if contents(path) != contents(whole) or left or not verify(path).ok:
                wrong.append(case)
                print(f"{case}: not the bytes of an undisturbed run, or left {left}", flush=True)
            ended += 1
            for place in (whole, path):
                shutil.rmtree(place)
    print(f"{kills} kills of {ended} runs: {len(wrong)} wrong {wrong or ''}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
