"""Long runs against accidents, by hand: kills of live recordings, and a watched folder in a bad night.

    python tests/live_runs.py kills [COUNT]     SIGKILL at random moments of a live recording
    python tests/live_runs.py watch [COUNT]     recordings that grow while their watch is killed

The suite runs a few of each (`test_live.py`, `test_watch.py`). Exits with 1 if one is lost.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from anscombe_transform import simulate_movie, verify
from anscombe_transform.compression import describe
from anscombe_transform.live import finish

RECORDS = """
import sys
import numpy as np
from anscombe_transform.live import StreamWriter
movie = np.load(sys.argv[1])
writer = StreamWriter(sys.argv[2], movie.shape[1:], movie.dtype, calibration_frames=100, chunks=(16, 64, 64))
print("ready", flush=True)
i = 0
while True:
    print(writer.append(movie[i % len(movie)]), flush=True)
    i += 1
"""


def kill_recordings(count: int) -> int:
    """Kill live recordings at random moments; how many lost a frame that was taken."""
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        movie, _ = simulate_movie((200, 64, 64), conversion_gain=90.0, zero_level=50.0, rng=0)
        np.save(folder / "movie.npy", movie)
        for run in range(count):
            path = folder / f"{run}.zarr"
            command = [sys.executable, "-c", RECORDS, str(folder / "movie.npy"), str(path)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                process.stdout.readline()
                threading.Timer(random.uniform(0.01, 3.0), process.send_signal, [signal.SIGKILL]).start()
                taken = 0
                for line in process.stdout:
                    taken = int(line) if line.endswith("\n") else taken
            if not taken:
                continue
            stored = finish(path).array.shape[0]
            same = verify(path, movie[np.arange(stored) % len(movie)]).ok
            ok = stored >= taken and same
            wrong += not ok
            print(f"{run}: {taken} taken, {stored} stored, {'whole' if ok else 'WRONG'}", flush=True)
    return wrong


def watch_badly(count: int) -> int:
    """Write recordings slowly into a folder whose watch is killed; count those that are missing or wrong."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        incoming, archive = folder / "in", folder / "out"
        incoming.mkdir()
        rng = np.random.default_rng(0)
        lengths = rng.integers(16, 60, count)
        scenes = rng.uniform(1, 12, (count, 1, 32, 32))
        movies = [
            (50 + 90 * rng.poisson(scene, (length, 32, 32))).astype("int16")
            for scene, length in zip(scenes, lengths, strict=True)
        ]

        def record() -> None:
            for i, movie in enumerate(movies):
                np.save(folder / "whole.npy", movie)
                content = (folder / "whole.npy").read_bytes()
                for part in range(4):
                    with (incoming / f"{i:03d}.npy").open("ab") as file:
                        file.write(content[part * len(content) // 4 : (part + 1) * len(content) // 4])
                    time.sleep(random.uniform(0, 0.2))

        recording = threading.Thread(target=record)
        recording.start()
        program = "from anscombe_transform.cli import main; main()"
        command = [sys.executable, "-c", program, "watch", str(incoming), str(archive)]
        command += ["--settle", "0.5", "--interval", "0.1", "--gain", "90", "--zero-level", "50"]
        kills = 0
        while recording.is_alive():
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                time.sleep(random.uniform(1.5, 8.0))
                process.send_signal(signal.SIGKILL)
            kills += 1
        recording.join()
        subprocess.run([*command, "--once"], check=False, stdout=subprocess.DEVNULL)
        wrong = 0
        for i, movie in enumerate(movies):
            path = archive / f"{i:03d}.zarr"
            whole = path.exists() and describe(path).complete and verify(path, movie).ok
            wrong += not whole
        left = [path.name for path in archive.iterdir() if path.suffix == ".partial"]
        extra = sum(path.suffix == ".zarr" for path in archive.iterdir()) - count
        print(f"{count} recordings, {kills} kills: {wrong} missing or wrong, {extra} too many, left: {left}")
        return wrong + abs(extra) + len(left)


if __name__ == "__main__":
    if os.name == "nt" or len(sys.argv) < 2 or sys.argv[1] not in ("kills", "watch"):
        sys.exit(__doc__)
    number = int(sys.argv[2]) if len(sys.argv) > 2 else None
    failures = kill_recordings(number or 50) if sys.argv[1] == "kills" else watch_badly(number or 200)
    sys.exit(1 if failures else 0)
