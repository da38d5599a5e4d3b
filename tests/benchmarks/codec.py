"""Speed of the transform against anscombe-transform 1.0.0 and memcpy, all in one run.

    python tests/benchmarks/codec.py [--megabytes 50] [--json FILE]

anscombe-transform 1.0.0 shares our import name, so it runs in an environment of its own, made on first use
under ``build/reference-env`` (or given by ``--reference PYTHON``). Times are the best of seven; ratios
compare what ran within the same minute, speeds alone mean little on a shared machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from pathlib import Path

import numpy as np

from anscombe_transform import AnscombeTransformV3

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = """
import json, sys, time
import numpy as np
from anscombe_transform import AnscombeTransformV3

def best(call, repeats):
    times = []
    for _ in range(repeats):
        start = time.perf_counter(); call(); times.append(time.perf_counter() - start)
    return min(times)

movie = np.load(sys.argv[1])
codec = AnscombeTransformV3(zero_level=50, conversion_gain=90.0)
codes = codec._encode(movie)
small = np.ascontiguousarray(movie.ravel()[:4096].reshape(64, 64)); small_codes = codec._encode(small)
print(json.dumps({
    "encode": best(lambda: codec._encode(movie), 5), "decode": best(lambda: codec._decode(codes), 5),
    "small_encode": best(lambda: codec._encode(small), 200),
    "small_decode": best(lambda: codec._decode(small_codes), 200),
}))
"""


def best(call: Callable[[], object], repeats: int = 7) -> float:
    """Shortest of several runs, in seconds, after one to warm up."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def reference_python() -> Path:
    """A Python that has anscombe-transform 1.0.0."""
    folder = ROOT / "build" / "reference-env"
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        install = [python, "-m", "pip", "install", "-q", "anscombe-transform==1.0.0", "zarr==3.1.6"]
        subprocess.run(install, check=True)
    return python


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--reference", type=Path, help="a Python that has anscombe-transform 1.0.0")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    movie = (50 + 90 * rng.poisson(8, (options.megabytes * 500_000 // 65536, 256, 256))).astype("int16")
    path = ROOT / "build" / "benchmark-movie.npy"
    path.parent.mkdir(exist_ok=True)
    np.save(path, movie)
    python = options.reference or reference_python()
    reference = json.loads(subprocess.check_output([python, "-c", REFERENCE, path], cwd=path.parent))

    codec = AnscombeTransformV3(zero_level=50, conversion_gain=90.0)
    target = np.empty_like(movie)
    copy = best(lambda: np.copyto(target, movie))
    small = np.ascontiguousarray(movie.ravel()[:4096].reshape(64, 64))
    codes, small_codes = codec._encode(movie), codec._encode(small)
    ours = {
        "encode": best(lambda: codec._encode(movie)),
        "decode": best(lambda: codec._decode(codes)),
        "small_encode": best(lambda: codec._encode(small), 500),
        "small_decode": best(lambda: codec._decode(small_codes), 500),
    }

    size = movie.nbytes
    print(f"{size / 1e6:.0f} MB of int16, codes uint8, one thread; memcpy {size / copy / 1e9:.1f} GB/s")
    print(f"{'':14}{'ours GB/s':>10}{'of memcpy':>11}{'1.0.0 GB/s':>12}{'times faster':>14}")
    rows = {}
    for name in ("encode", "decode"):
        speed, other = size / ours[name] / 1e9, size / reference[name] / 1e9
        rows[name] = {"gb_per_s": speed, "of_memcpy": copy / ours[name], "times_1_0_0": speed / other}
        print(f"{name:14}{speed:10.2f}{copy / ours[name]:11.2f}{other:12.2f}{speed / other:14.1f}")
    print(f"\n{'64 x 64 chunk':14}{'ours us':>10}{'1.0.0 us':>12}")
    for name in ("small_encode", "small_decode"):
        rows[name] = {"us": ours[name] * 1e6, "us_1_0_0": reference[name] * 1e6}
        print(f"{name[6:]:14}{ours[name] * 1e6:10.1f}{reference[name] * 1e6:12.1f}")

    # Of a copy of the larger side. What new memory costs is the system's: a copy into it is as slow.
    print(f"\n{'':28}{'encode, of':>18}{'decode into memory':>20}{'decode into new':>18}")
    print(f"{'types':28}{'memcpy':>18}{'at hand, of memcpy':>20}{'memory, of copy':>18}")
    for signal, encoded, gain in [
        ("int16", "uint8", 90.0),
        ("uint16", "uint8", 90.0),
        ("uint16", "uint16", 2.2),
        ("int32", "uint8", 90.0),
        ("float32", "uint8", 90.0),
    ]:
        data = movie.astype(signal)
        twin = AnscombeTransformV3(50, gain, encoded, signal, zero_code=20)
        coded, into = twin._encode(data), np.empty_like(data)
        flat = into.reshape(-1)
        copied = best(lambda data=data, into=into: np.copyto(into, data))  # type: ignore[misc]
        anew = best(lambda data=data: data.copy())  # type: ignore[misc]
        encode = copied / best(lambda data=data, twin=twin: twin._encode(data))  # type: ignore[misc]
        decode = copied / best(lambda coded=coded, twin=twin, flat=flat: twin.plan.decode(coded, flat))  # type: ignore[misc]
        new = anew / best(lambda coded=coded, twin=twin: twin._decode(coded))  # type: ignore[misc]
        row = {"encode_of_memcpy": encode, "decode_of_memcpy": decode, "decode_of_copy": new}
        rows[f"{signal} -> {encoded}"] = row
        print(f"{signal + ' -> ' + encoded:28}{encode:18.2f}{decode:20.2f}{new:18.2f}")
    if options.json:
        options.json.write_text(json.dumps({"memcpy_gb_per_s": size / copy / 1e9, **rows}, indent=1))


if __name__ == "__main__":
    sys.exit(main())
