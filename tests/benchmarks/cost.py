"""What proofs cost: CPU seconds of `compress` here and in another environment, in one run.

    python tests/benchmarks/cost.py --before /path/to/other/bin/python [--megabytes 1000] [--profile]

The movie is a file of uint16 frames of 512 × 512. Each environment stores it twice in turn, with constants
that are given and with constants that it measures; the median counts. Time in fsync is listed apart: it is
the disk's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

FRAME = 512
PROGRAM = """
import json, os, resource, sys, time
import numpy as np
waited = 0.0
fsync = os.fsync
def timed(handle):
    global waited
    start = time.perf_counter()
    fsync(handle)
    waited += time.perf_counter() - start
os.fsync = timed
import anscombe_transform as at
known = at.Sensitivity.from_known(conversion_gain=20.0, zero_level=100.0)
small = np.load(sys.argv[1], mmap_mode="r")[:40]
at.compress(small, sys.argv[2] + ".warm", sensitivity=known)
def used():
    times = resource.getrusage(resource.RUSAGE_SELF)
    return times.ru_utime + times.ru_stime
options = {"sensitivity": known} if sys.argv[3] == "given" else {}
waited = 0.0
cpu, start = used(), time.perf_counter()
profiler = None
if len(sys.argv) > 4:
    import cProfile
    profiler = cProfile.Profile()
    profiler.enable()
result = at.compress(sys.argv[1], sys.argv[2], **options)
if profiler:
    import pstats
    profiler.disable()
    pstats.Stats(profiler, stream=sys.stderr).sort_stats("cumulative").print_stats(45)
print(json.dumps({"cpu": used() - cpu, "wall": time.perf_counter() - start, "fsync": waited, "ratio":
result.ratio}))
"""


def make_movie(path: Path, megabytes: int) -> None:
    """Write a movie of a scene with contrast, whose frames repeat after 64."""
    rng = np.random.default_rng(0)
    photons = np.linspace(1, 30, FRAME)[:, None] * np.linspace(0.3, 1, FRAME)
    cycle = (100 + 20 * rng.poisson(photons, (64, FRAME, FRAME))).astype("uint16")
    frames = megabytes * 10**6 // (2 * FRAME * FRAME)
    movie = np.lib.format.open_memmap(path, "w+", "uint16", (frames, FRAME, FRAME))
    for start in range(0, frames, 64):
        movie[start : start + 64] = cycle[: frames - start]
    movie.flush()


def measure(python: str, movie: Path, place: Path, kind: str, *, profile: bool = False) -> dict[str, float]:
    """One run in an environment."""
    with tempfile.TemporaryDirectory(dir=place) as folder:
        command = [python, "-c", PROGRAM, str(movie), f"{folder}/out.zarr", kind, *(["profile"] * profile)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--before", help="Python of the environment to compare with")
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--profile", action="store_true", help="where the time goes, of one run here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place, movie = Path(name), Path(name) / "movie.npy"
        make_movie(movie, arguments.megabytes)
        if arguments.profile:
            measure(sys.executable, movie, place, "given", profile=True)
            return
        pythons = {"here": sys.executable} | ({"before": arguments.before} if arguments.before else {})
        for kind in ("given", "measured"):
            runs: dict[str, list[dict[str, float]]] = {label: [] for label in pythons}
            for _ in range(arguments.rounds):
                for label, python in pythons.items():
                    runs[label].append(measure(python, movie, place, kind))
            middle = {
                label: {key: statistics.median(run[key] for run in found) for key in found[0]}
                for label, found in runs.items()
            }
            for label, found in middle.items():
                over = found["cpu"] / middle.get("before", found)["cpu"] - 1
                print(
                    f"{kind:9}{label:7} CPU {found['cpu']:.2f} s, wall {found['wall']:.2f} s, fsync "
                    f"{found['fsync']:.2f} s, {found['ratio']:.2f} times smaller, CPU {over:+.0%}"
                )


if __name__ == "__main__":
    main()
