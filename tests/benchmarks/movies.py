"""Speed of reading recordings and of writing them back, against a copy of memory and a plain loop.

    python tests/benchmarks/movies.py [--megabytes 512] [--folder DIR]

Ratios, not rates, are what carries over to another machine. CPU seconds are of this process.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
import zarr

import anscombe_transform as at


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the wall and of the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def read_through(source: object, **options: object) -> None:
    """Read a movie front to back in blocks of 32 MB."""
    with at.open_movie(source, **options) as movie:
        step = max(1, 2**25 // (movie.nbytes // len(movie)))
        for _ in movie.blocks(step):
            pass


def plain_loop(path: Path, destination: Path) -> None:
    """What a user would write: read the array chunk by chunk along time, append pages."""
    array = zarr.open(str(path), mode="r")
    with tifffile.TiffWriter(destination, bigtiff=True) as writer:
        for start in range(0, array.shape[0], array.chunks[0]):
            for frame in array[start : start + array.chunks[0]]:
                writer.write(frame, contiguous=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument("--folder", type=Path, default=None)
    arguments = parser.parse_args()
    shape = (arguments.megabytes * 2, 512, 512)
    rng = np.random.default_rng(0)
    few = (200 + 30 * rng.poisson(9, (64, *shape[1:]))).astype(np.uint16)
    frames = np.resize(few, shape)
    megabytes = frames.nbytes / 2**20
    copy = timed(frames.copy)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        print(f"{megabytes:.0f} MB of uint16, {shape}")
        print(f"{'':32}{'MB/s':>8}{'CPU s':>8}{'copies of memory':>18}")

        def row(label: str, work: Callable[[], object]) -> tuple[float, float]:
            seconds = timed(work)
            print(f"{label:32}{megabytes / seconds[0]:8.0f}{seconds[1]:8.2f}{seconds[0] / copy[0]:18.1f}")
            return seconds

        print(f"{'memory copy':32}{megabytes / copy[0]:8.0f}{copy[1]:8.2f}{1:18.1f}")
        tifffile.imwrite(folder / "a.tif", frames, photometric="minisblack")
        row("read TIFF, tifffile.imread", lambda: tifffile.imread(folder / "a.tif"))
        row("read TIFF, open_movie", lambda: read_through(folder / "a.tif"))
        many = folder / "many"
        many.mkdir()
        for number, frame in enumerate(frames):
            tifffile.imwrite(many / f"frame{number}.tif", frame)
        row("read folder of TIFFs, open_movie", lambda: read_through(many))
        opening = timed(lambda: at.open_movie(many).close())
        print(f"{'  of which opening':32}{1e3 * opening[0] / len(frames):8.2f} ms a file")
        shutil.rmtree(many)
        (folder / "a.tif").unlink()
        made = at.Sensitivity.from_known(conversion_gain=30, zero_level=200)
        at.compress(frames, folder / "a.zarr", sensitivity=made)
        del frames, few
        row("read our Zarr, open_movie", lambda: read_through(folder / "a.zarr"))
        plain = row("Zarr to TIFF, plain loop", lambda: plain_loop(folder / "a.zarr", folder / "p.tif"))
        (folder / "p.tif").unlink()
        for file in ("d.tif", "d.npy", "d.h5"):
            ours = row(
                f"decompress to {file}, verified",
                lambda file=file: at.decompress(folder / "a.zarr", folder / file),
            )
            print(f"{'  against the plain loop':32}{plain[0] / ours[0]:8.2f} times as fast")
            (folder / file).unlink()
        row(
            "decompress to d.npy, unverified",
            lambda: at.decompress(folder / "a.zarr", folder / "d.npy", verify=False),
        )


if __name__ == "__main__":
    main()
