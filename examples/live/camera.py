"""Store a camera's frames while it runs: ``python camera.py recording.zarr --rate 500 --seconds 10``.

The camera is simulated: frames of shot noise with a gain of 2.1 signal units per electron and an offset of
100, handed over at a fixed rate by a thread of its own, as a driver's callback does. What counts for a real
camera is how long `append` keeps it waiting, which is printed in the end.
"""

from __future__ import annotations

import argparse
import queue
import threading
import time

import numpy as np

from anscombe_transform import simulate_movie
from anscombe_transform.live import StreamWriter


def run_camera(frames, rate: float, seconds: float, out: queue.Queue) -> None:
    """Hand over a frame every 1 / rate seconds, and None in the end."""
    start = time.perf_counter()
    for number in range(round(rate * seconds)):
        time.sleep(max(0.0, start + number / rate - time.perf_counter()))
        out.put((time.perf_counter(), frames[number % len(frames)]))
    out.put(None)


def record(destination: str, rate: float, seconds: float, size: int = 512) -> dict[str, float]:
    """Record from the camera, and tell how long its frames waited."""
    frames, _ = simulate_movie(
        (64, size, size),
        conversion_gain=2.1,
        zero_level=100,
        read_noise=4,
        mean_photons=60,
        dtype="uint16",
        rng=0,
    )
    arrived: queue.Queue = queue.Queue()
    camera = threading.Thread(target=run_camera, args=(frames, rate, seconds, arrived))
    waits, late = [], []
    with StreamWriter(
        destination, (size, size), "uint16", signal_range=(0, 65535), metadata={"frame_rate": rate}
    ) as writer:
        camera.start()
        while (item := arrived.get()) is not None:
            taken, frame = item
            begin = time.perf_counter()
            writer.append(frame)
            waits.append(time.perf_counter() - begin)
            late.append(time.perf_counter() - taken)
        camera.join()
    print(writer.result)
    told = {
        "frames": len(waits),
        "append_median_ms": 1e3 * float(np.median(waits)),
        "append_worst_ms": 1e3 * max(waits),
        "frame_waited_99.9_percent_ms": 1e3 * float(np.quantile(late, 0.999)),
    }
    for name, value in told.items():
        print(f"{name:32}{value:10.3f}")
    return told


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("destination")
    parser.add_argument("--rate", type=float, default=30.0, help="frames a second")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--size", type=int, default=512, help="rows and columns of a frame")
    chosen = parser.parse_args()
    record(chosen.destination, chosen.rate, chosen.seconds, chosen.size)
