"""Size and time of HDF5, NWB and plain files beside those of a Zarr array of the same movie.

    python tests/benchmarks/hdf5_files.py [MEGABYTES] [ROUNDS]

Each target is written and verified in turn, several times; the medians of processor and wall time are printed
as ratios to Zarr's, then the time to read all values through the package, through h5py and through pynwb.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pynwb

import anscombe_transform as at

KNOWN = {"conversion_gain": 40.0, "zero_level": 100.0, "read_noise": 6.0}
NWB = {"session_start_time": "2026-01-31T14:05:00+01:00", "rate": 30.0}
TARGETS: dict[str, tuple[str, dict[str, Any]]] = {
    "Zarr": ("movie.zarr", {}),
    "HDF5": ("movie.h5", {}),
    "NWB": ("movie.nwb", {"nwb": NWB}),
    "plain HDF5": ("plain.h5", {"plain": True}),
    "plain TIFF": ("plain.tif", {"plain": True}),
}


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What work gives, and the processor and wall time it took."""
    cpu, wall = time.process_time(), time.perf_counter()
    done = work()
    return done, time.process_time() - cpu, time.perf_counter() - wall


def read_with_pynwb(path: Path) -> np.ndarray:
    """All values of the file's series."""
    with pynwb.NWBHDF5IO(path, "r") as reader:
        values: np.ndarray = reader.read().acquisition["TwoPhotonSeries"].data[:]
    return values.transpose(0, 2, 1)


def read_with_h5py(path: Path) -> np.ndarray:
    """All values of the file's dataset."""
    with h5py.File(path, "r") as file:
        values: np.ndarray = file["movie"][:]
    return values


def main(megabytes: int = 128, rounds: int = 5) -> None:
    """Write, read and print."""
    frames = megabytes * 2**20 // (512 * 512 * 2)
    movie, _ = at.simulate_movie((frames, 512, 512), **KNOWN, rng=0)
    known = at.Sensitivity.from_known(**KNOWN)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in TARGETS}
    sizes: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(rounds + 1):
            for name, (file, options) in TARGETS.items():
                if options.get("plain") and turn > 1:
                    continue
                place, given = Path(folder, file), {"sensitivity": known, "overwrite": True, **options}
                result, cpu, wall = timed(lambda p=place, g=given: at.compress(movie, p, **g))
                sizes[name] = result.stored_bytes
                if turn:  # the first one imports
                    times[name].append((cpu, wall))
        print(f"{megabytes} MiB, {rounds} rounds")
        cpu0, wall0 = (statistics.median(t[i] for t in times["Zarr"]) for i in (0, 1))
        for name in TARGETS:
            cpu, wall = (statistics.median(t[i] for t in times[name]) for i in (0, 1))
            print(
                f"{name:10} ratio {movie.nbytes / sizes[name]:6.3f} ({sizes['Zarr'] / sizes[name]:.4f})"
                f"  cpu {cpu:6.2f} s ({cpu / cpu0:.3f})  wall {wall:6.2f} s ({wall / wall0:.3f})"
            )
        expected, cpu, wall = timed(lambda: at.open_movie(Path(folder, "movie.zarr"))[:])
        print(f"read Zarr  cpu {cpu:6.2f} s  wall {wall:6.2f} s")
        for name, work in (
            ("HDF5", lambda: at.open_movie(Path(folder, "movie.h5"))[:]),
            ("NWB", lambda: at.open_movie(Path(folder, "movie.nwb"))[:]),
            ("h5py", lambda: read_with_h5py(Path(folder, "movie.h5"))),
            ("pynwb", lambda: read_with_pynwb(Path(folder, "movie.nwb"))),
        ):
            values, cpu, wall = timed(work)
            assert (values == expected).all(), name
            print(f"read {name:5} cpu {cpu:6.2f} s  wall {wall:6.2f} s")


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
