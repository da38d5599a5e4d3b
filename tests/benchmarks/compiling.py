"""What the first run in a new environment waits for: the compilation of the kernels, one by one.

    python tests/benchmarks/compiling.py [--preset fast compact] [--frames 300]

A simulated movie is calibrated and compressed by processes that find no compiled kernel, each in the place of
a command: `calibrate`, then `compress` with every preset. For each, the seconds of processor that it took the
first time and, all kernels being there, the second; then the seconds that went into each kernel, without
those that it calls and that were compiled on its behalf. Numbers in brackets say for how many types of
arguments it was compiled, where they are more than one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

# Most kernels that a table names.
_NAMED = 12


def work(task: str, folder: Path) -> None:
    """Do one task, and print the seconds it took and those of each kernel, as JSON."""
    from numba.core import event

    open_now: list[list[Any]] = []
    own: Counter[str] = Counter()
    times: Counter[str] = Counter()

    class Heard(event.Listener):  # type: ignore[misc]
        """Adds up the time of compilations, less that of the ones inside."""

        def on_start(self, begun: Any) -> None:
            open_now.append([time.process_time(), 0.0])

        def on_end(self, ended: Any) -> None:
            began, inside = open_now.pop()
            took = time.process_time() - began
            function = ended.data["dispatcher"].py_func
            name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
            own[name] += took - inside
            times[name] += 1
            if open_now:
                open_now[-1][1] += took

    from anscombe_transform import compress, compute_sensitivity

    with event.install_listener("numba:compile", Heard()):
        if task == "calibrate":
            compute_sensitivity(folder / "movie.npy")
        else:
            out = folder / f"{task}.zarr"
            compress(folder / "movie.npy", out, preset=task, overwrite=True)
    found = {name: (seconds, times[name]) for name, seconds in own.items()}
    print(json.dumps({"cpu": time.process_time(), "kernels": found}))


def measured(task: str, folder: Path, cache: Path) -> Any:
    """What `work` prints, from a process that keeps compiled kernels in that folder."""
    command = [sys.executable, __file__, "--task", task, "--folder", str(folder)]
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", nargs="+", default=["fast", "compact"])
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--task", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.task:
        work(arguments.task, arguments.folder)
        return
    import numpy as np

    from anscombe_transform.simulation import simulate_movie

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        movie, _ = simulate_movie((arguments.frames, 128, 128), rng=0)
        np.save(folder / "movie.npy", movie)
        waited = 0.0
        for task in ("calibrate", *arguments.preset):
            first, second = (measured(task, folder, folder / "kernels") for _ in range(2))
            waited += first["cpu"] - second["cpu"]
            print(
                f"{task:12s} {first['cpu']:6.2f} s the first time, {second['cpu']:6.2f} s after that; "
                f"waited so far {waited:6.2f} s"
            )
            kernels = sorted(first["kernels"].items(), key=lambda item: -item[1][0])
            for kernel, (seconds, types) in kernels[:_NAMED]:
                print(f"    {seconds:6.2f} s  {kernel}{f' ({types})' if types > 1 else ''}")
            rest = sum(seconds for _, (seconds, _) in kernels[_NAMED:])
            print(f"    {rest:6.2f} s  {max(0, len(kernels) - _NAMED)} others", flush=True)


if __name__ == "__main__":
    main()
