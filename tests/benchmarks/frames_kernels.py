"""Speed of the frame coder's loops and stages against memcpy, all in one run.

    python tests/benchmarks/frames_kernels.py [--frames 100] [--side 256] [--dtype uint8] [--json FILE]

Times are processor time of this thread, the best of several; a ratio to memcpy of the codes says more than a
speed, since both were taken within the same minute. A loop that falls out of its vector lanes shows here.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from anscombe_transform import _frame_kernels, _model_kernels
from anscombe_transform.codec import frames
from anscombe_transform.codec.entropy import pack, pack_matches, unpack
from anscombe_transform.codec.frame_model import tables
from anscombe_transform.codec.frames import FrameConfiguration, decode_chunk, encode_chunk


def best(call: Callable[[], object], repeats: int = 9) -> float:
    """Least processor time of several runs, in seconds, after one to warm up."""
    call()
    times = []
    for _ in range(repeats):
        start = time.thread_time()
        call()
        times.append(time.thread_time() - start)
    return min(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--dtype", choices=["uint8", "uint16"], default="uint8")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    scene = np.kron(rng.uniform(4, 14, (8, 8)), np.ones((options.side // 8,) * 2))
    shape = (options.frames, *scene.shape)
    codes = np.rint(4 * np.sqrt(rng.poisson(scene, shape) + 0.375)).astype(options.dtype)
    q = codes[:, None]
    copy, residuals, back = np.empty_like(q), np.empty_like(q), np.empty_like(q)
    fast, compact = FrameConfiguration(), FrameConfiguration.fit(codes)
    assert compact.model is not None
    known = tables(compact.model)
    numbers, states = known.numbers[q.itemsize], frames._states(q)
    low = np.empty(q.shape, "uint8")
    high = np.empty(q.size if q.itemsize == 2 else 0, "uint8")
    _frame_kernels.running_residual(q, 4, frames._state(q), residuals)
    payload = frames._bytes_of(residuals, 128).copy()
    packed = pack(payload)
    out = np.empty_like(payload)
    digits = frames._DIGITS[frames._RUNNING]
    room = np.empty(2 * payload.size, "uint8")
    pairs = room[: _frame_kernels.pair(payload, *digits, room)].copy()
    chunks = {c.preset: encode_chunk(codes, c) for c in (fast, compact)}
    work: dict[str, Callable[[], object]] = {
        "memcpy": lambda: np.copyto(copy, q),
        "running_residual": lambda: _frame_kernels.running_residual(q, 4, frames._state(q), residuals),
        "running_restore": lambda: _frame_kernels.running_restore(residuals, 4, frames._state(q), back),
        "code_to_rank": lambda: _model_kernels.code_to_rank(q, low, high, known.ranks, *numbers, states),
        "rank_to_code": lambda: _model_kernels.rank_to_code(back, low, high, known.codes, *numbers, states),
        "pair": lambda: _frame_kernels.pair(payload, *digits, room),
        "unpair": lambda: _frame_kernels.unpair(pairs, *digits, out),
        "byte_entropy": lambda: _frame_kernels.byte_entropy(payload),
        "zstd, Huffman stage": lambda: pack(payload),
        "zstd, level 1": lambda: pack_matches(payload),
        "zstd, decoding": lambda: unpack(memoryview(packed), out),
        "choice of a rate": lambda: frames._best_rate(q),
        "fast, encoding": lambda: encode_chunk(codes, fast),
        "fast, decoding": lambda: decode_chunk(chunks["fast"], codes.shape, codes.dtype, fast),
        "compact, encoding": lambda: encode_chunk(codes, compact),
        "compact, decoding": lambda: decode_chunk(chunks["compact"], codes.shape, codes.dtype, compact),
        "compact, fitting": lambda: FrameConfiguration.fit(codes),
    }
    times = {name: best(call) for name, call in work.items()}
    print(f"{'':22}{'ms':>9}{'Gpixel/s':>10}{'of memcpy':>11}")
    for name, seconds in times.items():
        ratio = times["memcpy"] / seconds
        print(f"{name:22}{1e3 * seconds:9.2f}{codes.size / seconds / 1e9:10.2f}{ratio:11.3f}")
    for name, chunk in chunks.items():
        print(f"{name}: {8 * len(chunk) / codes.size:.3f} bits a pixel")
    one = codes[:1, :64, :64]
    for configuration in (fast, compact):
        chunk = encode_chunk(one, configuration)
        there = best(lambda c=configuration: encode_chunk(one, c), 50)
        again = best(lambda c=configuration, d=chunk: decode_chunk(d, one.shape, one.dtype, c), 50)
        size = 16 * one.size / 8 / len(chunk)
        print(
            f"1 x 64 x 64, {configuration.preset}: {1e6 * there:.0f} / {1e6 * again:.0f} µs, {size:.2f} times"
        )
    if options.json:
        options.json.write_text(json.dumps({"seconds": times, "pixels": codes.size}))


if __name__ == "__main__":
    main()
