"""What it costs that arrays survive a power cut: `compress` with and without waiting for the disk.

    python tests/benchmarks/durability.py --megabytes 1000 --folder /data/scratch

Runs alternate, so that a disk or a machine that others use slows both. Time in ``fsync`` is summed over all
threads, which wait for the disk while others compute.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from anscombe_transform import Sensitivity, compress


def measure(source: Path, store: Path, *, synchronise: bool) -> tuple[float, float, float, int]:
    """Wall time, processor time, time in fsync, and its number of calls, of one run."""
    real, lock, waited, calls = os.fsync, threading.Lock(), 0.0, 0

    def fsync(handle: int) -> None:
        nonlocal waited, calls
        began = time.perf_counter()
        if synchronise:
            real(handle)
        with lock:
            waited += time.perf_counter() - began
            calls += 1

    known = Sensitivity.from_known(conversion_gain=90.0, zero_level=50.0)
    os.sync()
    os.fsync = fsync
    try:
        began, used = time.perf_counter(), time.process_time()
        compress(source, store, sensitivity=known, client=False)
        return time.perf_counter() - began, time.process_time() - used, waited, calls
    finally:
        os.fsync = real
        shutil.rmtree(store)


def main() -> int:
    """Print medians of both, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=None, help="On the disk to measure.")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        source, store = Path(folder, "movie.npy"), Path(folder, "movie.zarr")
        frames = int(asked.megabytes * 1e6) // (2 * 512 * 512)
        movie = np.lib.format.open_memmap(source, "w+", np.int16, (frames, 512, 512))
        rng = np.random.default_rng(0)
        some = (50 + 90 * rng.poisson(8, (64, 512, 512))).astype(np.int16)
        for start in range(0, frames, 64):
            movie[start : start + 64] = some[: frames - start]
        movie.flush()
        measure(source, store, synchronise=True)  # what is compiled or cached is so from now on
        found = {True: [], False: []}
        for run in range(2 * asked.runs):
            found[run % 2 == 0].append(measure(source, store, synchronise=run % 2 == 0))
        for synchronise, rows in found.items():
            wall, cpu, waited, calls = np.median(rows, axis=0)
            print(
                f"{'with' if synchronise else 'without'} fsync: {wall:.2f} s, processor {cpu:.2f} s, "
                f"{waited:.2f} s in {calls:.0f} calls of fsync"
            )
        ratio = np.median([a[0] / b[0] for a, b in zip(found[True], found[False], strict=True)])
        print(f"ratio of wall times {ratio:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
