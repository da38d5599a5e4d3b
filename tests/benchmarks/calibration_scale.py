"""Speed and memory of the calibration on files of any size, in one process and on Dask workers.

    python tests/benchmarks/calibration_scale.py [--megabytes 5 500 5000] [--workers 1 2] [--keep-memory]
        [--folder FOLDER]

Simulated movies of uint16 are written to a folder, as a NumPy file and as a Zarr array of uncompressed
chunks, and deleted afterwards. Every line is one calibration: the seconds it took; megabytes of the movie a
second; how many times as long one thread takes to read the same file with numpy or zarr, and do nothing else;
seconds of processor in all processes; and how much memory, at its peak, the calling process and the busiest
worker took beyond what they had before. What workers take to read the array, chunk by chunk, and do nothing
else has a line of its own. Pages of a mapped file are not counted: they are the system's to drop. With
`--keep-memory`, workers keep memory for the next chunk, as the documentation advises. All processes have
calibrated something small before, so that nothing is compiled while the clock runs.
Linux only.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from anscombe_transform.calibration import compute_sensitivity
from anscombe_transform.simulation import simulate_movie

CHUNK = 24
# Bytes from which on the system gets memory back at once, and from which on a piece comes from it directly.
KEPT = {"MALLOC_TRIM_THRESHOLD_": 2**28, "MALLOC_MMAP_THRESHOLD_": 2**25}


def anonymous_megabytes() -> float:
    """Memory of this process that is no mapped file, in MB."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("this system doesn't tell what a process's memory is made of")


class Peak:
    """The most memory that this process has had since `start`, looked at many times a second."""

    def __init__(self) -> None:
        self.before = self.most = anonymous_megabytes()
        self.cpu = time.process_time()
        self._stop = threading.Event()
        self._watching = threading.Thread(target=self._watch, daemon=True)
        self._watching.start()

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self.most = max(self.most, anonymous_megabytes())

    def stop(self) -> tuple[float, float]:
        """Memory beyond that at the beginning, in MB, and seconds of processor."""
        self._stop.set()
        self._watching.join()
        return self.most - self.before, time.process_time() - self.cpu


_PEAKS: list[Any] = []


def start_watching() -> None:
    """Begin to watch this process; called in a worker."""
    from calibration_scale import _PEAKS, Peak

    _PEAKS.append(Peak())


def stop_watching() -> tuple[float, float]:
    """What `Peak.stop` says; called in a worker."""
    from calibration_scale import _PEAKS

    found: tuple[float, float] = _PEAKS.pop().stop()
    return found


def write_movies(folder: Path, megabytes: int) -> tuple[Path, Path]:
    """A movie of that size as a NumPy file and as a Zarr array: one simulated block over and over."""
    import zarr

    side = 256 if megabytes < 50 else 512
    block, _ = simulate_movie((96, side, side), rng=0, dtype="uint16")
    frames = max(CHUNK, round(megabytes * 1e6 / block[0].nbytes))
    shape = (frames, side, side)
    flat = np.lib.format.open_memmap(folder / "movie.npy", "w+", np.uint16, shape)
    chunked = zarr.create_array(
        folder / "movie.zarr", shape=shape, chunks=(CHUNK, side, side), dtype="uint16", compressors=None
    )
    for start in range(0, frames, len(block)):
        part = block[: min(len(block), frames - start)]
        flat[start : start + len(part)] = part
        chunked[start : start + len(part)] = part
    flat.flush()
    return folder / "movie.npy", folder / "movie.zarr"


def seconds_to_read(movie: Any) -> float:
    """Time of one thread that reads all of a movie, the quicker of two."""
    times = []
    for _ in range(2):
        started = time.perf_counter()
        for start in range(0, movie.shape[0], CHUNK):
            np.array(movie[start : start + CHUNK])
        times.append(time.perf_counter() - started)
    return min(times)


def read_on_workers(movie: Any) -> None:
    """Have every chunk of a dask array read where the workers are, and nothing done with it."""
    movie.map_blocks(first_value, chunks=(1, 1, 1), dtype=movie.dtype).compute()


def first_value(block: Any) -> Any:
    """The first value of a block, and with it nothing to send."""
    return block[:1, :1, :1].copy()


def report(name: str, megabytes: float, read: float, work: Callable[[], Any], client: Any = None) -> None:
    """Print the line of one calibration."""
    if client is not None:
        client.run(start_watching)
    own = Peak()
    started = time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    memory, cpu = own.stop()
    others = client.run(stop_watching).values() if client is not None else []
    cpu += sum(of_worker for _, of_worker in others)
    worker = f"{max(m for m, _ in others):6.0f}" if client is not None else f"{'-':>6s}"
    print(
        f"{megabytes:6.0f} MB  {name:28s} {seconds:7.2f} s {megabytes / seconds:7.0f} MB/s "
        f"{seconds / read:6.2f} x {cpu:7.2f} s {memory:6.0f} MB {worker} MB",
        flush=True,
    )


@contextmanager
def cluster(workers: int) -> Iterator[Any]:
    """Workers of one thread each, in processes of their own, that have compiled what they need."""
    import dask.array as da
    from distributed import Client, LocalCluster

    here = str(Path(__file__).parent)
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as local,
        Client(local) as client,
    ):
        client.run(lambda: __import__("sys").path.insert(0, here))
        small, _ = simulate_movie((96, 64, 64), rng=0, dtype="uint16")
        for _ in range(2 * workers):
            movie = da.from_array(small, chunks=(CHUNK, 64, 64))
            compute_sensitivity(movie, full=True, on_refusal="return")
            read_on_workers(movie)
        yield client


def measure(folder: Path, megabytes: int, workers: list[int]) -> None:
    """Print the lines of one size."""
    import dask.array as da
    import zarr

    flat_path, chunked_path = write_movies(folder, megabytes)
    flat, chunked = np.load(flat_path, mmap_mode="r"), zarr.open_array(chunked_path, mode="r")
    size = flat.nbytes / 1e6
    for name, path, movie in (("npy", flat_path, flat), ("zarr", chunked_path, chunked)):
        read = seconds_to_read(movie)
        print(f"{size:6.0f} MB  {f'reading {name}, one thread':28s} {read:7.2f} s {size / read:7.0f} MB/s")
        for full in (False, True):
            label = f"{name}, {'every frame' if full else 'default'}"
            report(
                label, size, read, lambda p=path, f=full: compute_sensitivity(p, full=f, on_refusal="return")
            )
    for number in workers:
        crew = f"dask, {number} worker{'s' * (number > 1)}"
        with cluster(number) as client:
            movie = da.from_zarr(str(chunked_path))
            # The first chunks, since the workers have yet to load what opens them.
            for _ in range(2 * number):
                read_on_workers(movie[:CHUNK])
            only_read = partial(read_on_workers, movie)
            report(f"{crew}, only reading", size, read, only_read, client)
            for full in (False, True):
                label = f"{crew}, {'every frame' if full else 'default'}"
                work = partial(compute_sensitivity, movie, full=full, on_refusal="return")
                report(label, size, read, work, client)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=int, nargs="+", default=[5, 500, 5000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--keep-memory", action="store_true")
    parser.add_argument("--folder", type=Path, help="where the files are written; a temporary folder else")
    arguments = parser.parse_args()
    if arguments.keep_memory:
        import dask

        dask.config.set({f"distributed.nanny.pre-spawn-environ.{name}": size for name, size in KEPT.items()})
    small, _ = simulate_movie((48, 64, 64), rng=0, dtype="uint16")
    compute_sensitivity(small)
    heads = (f"{'time':>9s} {'rate':>12s} {'/ read':>8s}", f"{'CPU':>9s} {'memory':>9s} {'worker':>9s}")
    print(f"{'movie':9s}  {'':28s}", *heads)
    for megabytes in arguments.megabytes:
        folder = Path(tempfile.mkdtemp(dir=arguments.folder))
        try:
            measure(folder, megabytes, arguments.workers)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
