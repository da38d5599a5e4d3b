"""One movie stored by one process, by Dask workers, and by jobs that each write a part.

    python tests/benchmarks/scale.py [--megabytes 2000] [--workers 2] [--preset fast] [--folder FOLDER]

The movie is a file of uint16 frames of 512 × 512. Every process has one thread. Everything is done with half
of the movie and with all of it, and the difference counts: what a block costs once a run is under way. A line
each: seconds, megabytes of the movie a second, the part of what as many processes reach that store a movie
each and know nothing of one another (which is what the machine and its disk allow), and CPU seconds of the
thread that calls, in milliseconds a block (for Dask: of the driver without Dask's scheduler). Then what a
terabyte and a petabyte cost by these figures: processor hours, bytes, files, checksums, journal.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from cost import make_movie

import anscombe_transform as at
from anscombe_transform.compression.blocks import layout

KNOWN = {"conversion_gain": 20.0, "zero_level": 100.0}
JOB = """
import sys
import anscombe_transform as at
known = at.Sensitivity.from_known(conversion_gain=20.0, zero_level=100.0)
options = {"sensitivity": known, "threads": 1, "client": False, "preset": sys.argv[3]}
if len(sys.argv) > 4:
    options["part"] = (int(sys.argv[4]), int(sys.argv[5]))
print("ready", flush=True)
sys.stdin.readline()
at.compress(sys.argv[1], sys.argv[2], **options)
"""
Times = dict[str, tuple[float, ...]]


@contextmanager
def timed(name: str, found: Times) -> Iterator[None]:
    """Note wall seconds, CPU seconds of this thread, and of this process."""
    start = time.perf_counter(), time.thread_time(), time.process_time()
    yield
    end = time.perf_counter(), time.thread_time(), time.process_time()
    found[name] = tuple(b - a for a, b in zip(start, end, strict=True))


def run_jobs(arguments: list[list[str]], name: str, found: Times) -> None:
    """Run programs at the same time; starting them does not count."""
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", JOB, *some], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for some in arguments
    ]
    for job in jobs:
        assert job.stdout is not None
        job.stdout.readline()
    with timed(name, found):
        for job in jobs:
            assert job.stdin is not None
            job.stdin.write("go\n")
            job.stdin.flush()
        for job in jobs:
            job.communicate()
            assert job.returncode == 0


def measure(movie: Path, folder: Path, workers: int, preset: str) -> Times:
    """Seconds of each way of storing a movie of `workers` equal parts."""
    from distributed import Client, LocalCluster

    options: dict[str, Any] = {"sensitivity": at.Sensitivity.from_known(**KNOWN), "preset": preset}
    found: Times = {}
    frames = np.load(movie, mmap_mode="r")
    pieces = [folder / f"piece{k}.npy" for k in range(workers)]
    for piece, some in zip(pieces, np.array_split(frames, workers), strict=True):
        np.save(piece, some)
    at.compress(frames[:40], folder / "warm.zarr", client=False, **options)
    with timed("one process", found):
        one = at.compress(movie, folder / "one.zarr", threads=1, client=False, **options)
    run_jobs([[str(piece), f"{piece}.zarr", preset] for piece in pieces], "a movie each", found)
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        client.run(__import__, "anscombe_transform.compression")
        with timed("Dask", found):
            dask = at.compress(movie, folder / "dask.zarr", client=client, **options)
    place = str(folder / "parts.zarr")
    run_jobs(
        [[str(movie), place, preset, str(k), str(workers)] for k in range(1, workers + 1)], "parts", found
    )
    with timed("proof of the parts", found):
        parts = at.compress(movie, place, threads=workers, client=False, resume=True, **options)
    for result in (one, dask, parts):
        assert result.verification.ok
        assert abs(result.stored_bytes / one.stored_bytes - 1) < 0.01
    return found


def main() -> None:
    """Measure, and print what a terabyte costs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    found: list[Times] = []
    for megabytes in (given.megabytes // 2, given.megabytes):
        folder = Path(tempfile.mkdtemp(dir=given.folder))
        try:
            movie = folder / "movie.npy"
            make_movie(movie, megabytes)
            found.append(measure(movie, folder, given.workers, given.preset))
            files = [f for f in (folder / "one.zarr").rglob("*") if f.is_file()]
            stored, size = sum(f.stat().st_size for f in files), movie.stat().st_size
            frames = len(np.load(movie, mmap_mode="r"))
        finally:
            shutil.rmtree(folder)
    half, blocks = size / 2, size / layout.BLOCK_BYTES
    times = {
        name: tuple(b - a for a, b in zip(found[0][name], found[1][name], strict=True)) for name in found[0]
    }
    most = times["a movie each"][0]
    print(f"{half / 1e6:.0f} of {size / 1e6:.0f} MB, {given.workers} workers, {given.preset}")
    for name, (wall, cpu, _) in times.items():
        speed = f"{wall:7.2f} s {half / 1e6 / wall:7.0f} MB/s  {most / wall:5.2f}"
        print(f"{name:20s} {speed}  {cpu:6.2f} CPU-s, {2000 * cpu / blocks:.2f} ms a block")
    hours = times["one process"][2] / half / 3600
    for name, whole in (("terabyte", 1e12), ("petabyte", 1e15)):
        factor = whole / size
        print(
            f"a {name}: {hours * whole:.1f} processor hours, {stored * factor / 1e9:,.0f} GB, "
            f"{len(files) * factor:,.0f} files without shards, {8e-6 * blocks * factor:.2f} MB of checksums, "
            f"{(8e-6 * frames + 3e-4 * blocks) * factor:,.0f} MB of journal"
        )


if __name__ == "__main__":
    main()
