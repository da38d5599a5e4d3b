"""A laboratory's day: a large TIFF into a verified array, and a run that is killed again and again.

    python tests/benchmarks/laboratory.py [--gigabytes 4] [--folder DIR] [--peer-python PYTHON] [--kills 10]
                                          [--only speed|kills] [--preset fast]

``speed``
    One simulated TIFF of 512 × 512 frames (blocks of simulated frames, repeated) becomes a Zarr array: by
    `compress` with the constants of the detector given, with the calibration, and without verification; and
    by the plain loop that one would write around anscombe-transform 1.0.0 and blosc, with the same constants
    and the same comparison of what is read back. Each runs in a process of its own. MB are of raw movie,
    memory is the largest resident set of the process. The file is read once before, so that all find it in
    the page cache.
``kills``
    `compress` is killed with SIGKILL at random moments and resumed, until it ends. After each kill nothing
    may have the array's name; at the end every chunk must be that of a run nobody disturbed.

anscombe-transform 1.0.0 shares our import name and runs in an environment of its own:

    python -m venv peer && peer/bin/pip install anscombe-transform==1.0.0 zarr==3.1.6 tifffile
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from anscombe_transform.simulation import simulate_movie

SIDE = 512
GAIN, ZERO = 60.0, 400.0
BLOCK = 64

MEASURE = """
import json, resource, sys, time
def measured(job):
    wall, cpu = time.perf_counter(), time.process_time()
    found = job()
    used = {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps(used | {"peak": peak} | found))
"""

OURS = """
from anscombe_transform import Sensitivity, compress
source, store, given, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), json.loads(sys.argv[4])
known = Sensitivity.from_known(**given) if given else None
def job():
    result = compress(source, store, sensitivity=known, **options)
    return {"factor": result.ratio, "ok": result.verification is None or result.verification.ok}
measured(job)
"""

PEER = """
import numpy as np, tifffile, zarr
from anscombe_transform import AnscombeTransformV3
source, store, given, verify = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), json.loads(sys.argv[4])
gain, zero = given["conversion_gain"], given["zero_level"]
def job():
    ok = True
    with tifffile.TiffFile(source) as tiff:
        count = len(tiff.pages)
        shape = (count, *tiff.pages[0].shape)
        array = zarr.create_array(
            store, shape=shape, dtype="int16", chunks=(64, 256, 256),
            filters=[AnscombeTransformV3(zero_level=int(zero), conversion_gain=gain)],
            compressors=[zarr.codecs.BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle", typesize=1)],
        )
        for start in range(0, count, 64):
            block = tiff.asarray(key=slice(start, start + 64))
            array[start : start + 64] = block
            if verify:
                back = array[start : start + 64].astype(np.float32)
                photons = np.maximum((block.astype(np.float32) - zero) / gain, 0)
                ok &= bool((np.abs(back - block) <= gain * (0.3 * np.sqrt(photons + 0.375) + 0.05) + 1).all())
    return {"factor": array.nbytes / array.nbytes_stored(), "ok": ok}
measured(job)
"""


def blocks(frames: int) -> Iterator[np.ndarray]:
    """Simulated frames, of which every block of 256 is repeated, turned in space so that no two are alike."""
    movie, _ = simulate_movie(
        (256, SIDE, SIDE), conversion_gain=GAIN, zero_level=ZERO, mean_photons=8, read_noise=10, rng=0
    )
    # anscombe-transform 1.0.0 has no codes below 0.
    movie = np.clip(movie, 0, None).astype(np.int16)
    for start in range(0, frames, 256):
        turned = np.roll(movie, (start // 256 * 37, start // 256 * 91), (1, 2))
        yield from turned[: min(256, frames - start)]


def make_tiff(path: Path, gigabytes: float) -> int:
    """Write the movie; its size in bytes."""
    frames = max(BLOCK, round(gigabytes * 1e9 / (SIDE * SIDE * 2)))
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        tiff.write(
            blocks(frames), shape=(frames, SIDE, SIDE), dtype="int16", photometric="minisblack", metadata=None
        )
    return frames * SIDE * SIDE * 2


def run(python: str, script: str, *arguments: Any) -> dict[str, Any]:
    """What a script measured in a process of its own."""
    done = subprocess.check_output([python, "-c", MEASURE + script, *map(str, arguments)], cwd="/")
    return json.loads(done)  # type: ignore[no-any-return]


def speed(source: Path, size: int, folder: Path, peer: str | None, preset: str) -> None:
    """Print MB/s, CPU time and memory of each way."""
    known = json.dumps({"conversion_gain": GAIN, "zero_level": ZERO, "read_noise": 0.0})
    ways: list[tuple[str, str, str, list[str]]] = [
        ("compress, constants given", sys.executable, OURS, [known, json.dumps({"preset": preset})]),
        ("compress, calibrated", sys.executable, OURS, ["null", json.dumps({"preset": preset})]),
        (
            "compress, not verified",
            sys.executable,
            OURS,
            [known, json.dumps({"preset": preset, "verify": False})],
        ),
    ]
    if peer is not None:
        ways.append(("1.0.0 + blosc, plain loop", peer, PEER, [known, "true"]))
        ways.append(("1.0.0 + blosc, not verified", peer, PEER, [known, "false"]))
    with source.open("rb") as file:
        start = time.perf_counter()
        while file.read(1 << 24):
            pass
        alone = size / 1e6 / (time.perf_counter() - start)
        print(f"{size / 1e9:.2f} GB, {os.cpu_count()} cores; read alone {alone:.0f} MB/s")
    print(f"{'':30}{'MB/s':>8}{'CPU s/GB':>10}{'peak MB':>9}{'factor':>8}{'verified':>10}")
    rows = {}
    for name, python, script, arguments in ways:
        store = folder / "movie.zarr"
        found = rows[name] = run(python, script, source, store, *arguments)
        shutil.rmtree(store)
        print(
            f"{name:30}{size / 1e6 / found['seconds']:8.0f}{found['cpu'] / size * 1e9:10.2f}"
            f"{found['peak'] / 1e6:9.0f}{found['factor']:8.2f}{found['ok']!s:>10}",
            flush=True,
        )
    if peer is None:
        print("skipped: anscombe-transform 1.0.0 (--peer-python; see --help)")
        return
    ours, theirs = rows["compress, constants given"], rows["1.0.0 + blosc, plain loop"]
    print(
        f"verified, against the plain loop: {theirs['seconds'] / ours['seconds']:.1f} times faster, "
        f"{theirs['cpu'] / ours['cpu']:.1f} times less CPU time"
    )


def kills(source: Path, folder: Path, count: int, preset: str) -> None:
    """Kill runs at random moments until one ends, and compare with one that nobody disturbed."""
    known = json.dumps({"conversion_gain": GAIN, "zero_level": ZERO, "read_noise": 0.0})
    whole, store = folder / "whole.zarr", folder / "killed.zarr"
    seconds = run(sys.executable, OURS, source, whole, known, json.dumps({"preset": preset}))["seconds"]
    options = json.dumps({"preset": preset, "resume": True})
    command = [sys.executable, "-c", MEASURE + OURS, str(source), str(store), known, options]
    rng = np.random.default_rng(0)
    killed = 0
    for _ in range(count):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            # Into the start of the interpreter as well as into the writing.
            process.wait(timeout=float(rng.uniform(0.5, 2 + 2 * seconds / count)))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
            assert not store.exists() or not store.with_name("killed.zarr.partial").exists()
        else:
            break
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    names = {path.relative_to(whole) for path in whole.rglob("*") if path.is_file()}
    assert names == {path.relative_to(store) for path in store.rglob("*") if path.is_file()}
    different = [
        n for n in names if n.name != "zarr.json" and (whole / n).read_bytes() != (store / n).read_bytes()
    ]
    left = sorted(path.name for path in folder.iterdir() if "partial" in path.name)
    print(
        f"killed {killed} times, resumed: {len(names)} files, {len(different)} different, "
        f"left over: {left or 'nothing'}"
    )


def main() -> None:
    """Read the arguments and run what they ask for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gigabytes", type=float, default=4.0, help="size of the TIFF")
    parser.add_argument("--folder", type=Path, help="where the files go; by default a temporary folder")
    parser.add_argument("--peer-python", help="a Python that has anscombe-transform 1.0.0")
    parser.add_argument("--kills", type=int, default=10, help="how many kills at most")
    parser.add_argument("--only", choices=["speed", "kills"], help="one part alone")
    parser.add_argument("--preset", default="fast", help="of compress")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        source = folder / "movie.tif"
        size = make_tiff(source, options.gigabytes)
        if options.only != "kills":
            speed(source, size, folder, options.peer_python, options.preset)
        if options.only != "speed":
            kills(source, folder, options.kills, options.preset)


if __name__ == "__main__":
    main()
