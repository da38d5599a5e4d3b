"""Damage stored chunks at random, in every preset, format and width of codes, and read them through Zarr.

A damaged chunk has to be an error, or has to give the values that were written (where a bit says nothing).
Other values are a silent fault; a signal or a read of many seconds are faults of their own. Batches run in
processes of their own, so that a signal is counted and not fatal.

    python tests/fuzz_chunks.py 1000000 [seed]
"""

from __future__ import annotations

import multiprocessing
import queue
import random
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

import anscombe_transform as at

PRESETS = ("fast", "compact", "portable")
FORMATS = (2, 3)
CODES = ("uint8", "uint16")
_METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup")
_BATCH, _MOST_SECONDS = 20_000, 900


@dataclass(frozen=True)
class Subject:
    """An array of several chunks in memory, its values, and its chunks by their keys."""

    name: str
    array: Any
    values: NDArray[Any]
    chunks: dict[str, bytes]
    held: dict[str, Any]

    def read(self, damaged: bytes) -> str:
        """What comes of a first chunk with other bytes: "error", "identical" or "silent"."""
        from zarr.core.buffer import cpu

        key = next(iter(self.chunks))
        self.held[key] = cpu.Buffer.from_bytes(damaged)
        try:
            found = self.array[: self.array.chunks[0]]
        except MemoryError:
            raise
        except Exception:  # every codec has its own kind
            return "error"
        finally:
            self.held[key] = cpu.Buffer.from_bytes(self.chunks[key])
        return "identical" if np.array_equal(found, self.values[: len(found)]) else "silent"


KINDS: tuple[tuple[str, int, str, Any], ...] = (
    *((*kind, None) for kind in product(PRESETS, FORMATS, CODES)),
    ("fast", 3, "uint8", (8, 16, 24)),
    ("portable", 3, "uint16", (8, 16, 24)),
)
"""Preset, Zarr format, type of the codes, and shards."""


def subject_of(kind: tuple[str, int, str, Any]) -> Subject:
    """An array of a kind, compressed from a small movie."""
    from zarr.storage import MemoryStore

    preset, zarr_format, codes, shards = kind
    known = at.Sensitivity.from_known(conversion_gain=30, zero_level=20, read_noise=12)
    counts = np.random.default_rng(0).poisson(60, (16, 16, 24))
    movie = np.clip(20 + 30 * counts, 0, 32000).astype("int16")
    held: dict[str, Any] = {}
    array = at.compress(
        movie,
        MemoryStore(held),
        sensitivity=known,
        accept_mismatch=True,
        preset=preset,
        zarr_format=zarr_format,
        encoded_dtype=codes,
        chunks=(8 if shards is None else 4, 16, 24),
        shards=shards,
    ).array
    chunks = {
        key: value.to_bytes()
        for key, value in sorted(held.items())
        if key.rpartition("/")[2] not in _METADATA and ".anscombe" not in key
    }
    name = f"{preset} V{zarr_format} {codes}" + ("" if shards is None else " sharded")
    return Subject(name, array, array[:], chunks, held)


def _flipped(data: bytearray, other: bytes, r: random.Random) -> None:
    for _ in range(r.choice((1, 1, 1, 2, 8))):
        data[r.randrange(len(data))] ^= 1 << r.randrange(8)


def _flipped_in_header(data: bytearray, other: bytes, r: random.Random) -> None:
    data[r.randrange(min(24, len(data)))] ^= 1 << r.randrange(8)


def _header_rewritten(data: bytearray, other: bytes, r: random.Random) -> None:
    for _ in range(r.choice((1, 2, 4))):
        data[r.randrange(min(24, len(data)))] = r.choice((0, 1, 127, 128, 255, r.randrange(256)))


def _header_consistent(data: bytearray, other: bytes, r: random.Random) -> None:
    """Change a byte of the first four, and the fourth so that their exclusive or stays."""
    at, mask = r.randrange(3), r.randrange(1, 256)
    data[at] ^= mask
    data[3] ^= mask


def _cut(data: bytearray, other: bytes, r: random.Random) -> None:
    del data[r.choice((r.randrange(len(data)), len(data) - r.randrange(1, min(16, len(data))))) :]


def _extended(data: bytearray, other: bytes, r: random.Random) -> None:
    count = r.choice((1, 2, 4, 8, 100, len(data)))
    data += r.choice((bytes(count), r.randbytes(count), bytes(data[-count:]), bytes(data)))


def _byte_lost(data: bytearray, other: bytes, r: random.Random) -> None:
    del data[r.randrange(len(data))]


def _byte_more(data: bytearray, other: bytes, r: random.Random) -> None:
    data.insert(r.randrange(len(data)), r.randrange(256))


def _zeroed(data: bytearray, other: bytes, r: random.Random) -> None:
    start = r.randrange(len(data))
    stop = min(len(data), start + r.choice((1, 4, 64, 512, len(data))))
    data[start:stop] = bytes(stop - start)


def _rewritten(data: bytearray, other: bytes, r: random.Random) -> None:
    start = r.randrange(len(data))
    stop = min(len(data), start + r.choice((1, 4, 64, 512)))
    data[start:stop] = r.randbytes(stop - start)


def _exchanged(data: bytearray, other: bytes, r: random.Random) -> None:
    """Exchange two stretches of the chunk."""
    count = r.randrange(1, max(2, len(data) // 4))
    a, b = r.randrange(len(data) - count + 1), r.randrange(len(data) - count + 1)
    data[a : a + count], data[b : b + count] = data[b : b + count], data[a : a + count]


def _spliced(data: bytearray, other: bytes, r: random.Random) -> None:
    """Go on with another chunk of the same array, from a byte on."""
    at = r.randrange(1, len(data))
    data[at:] = other[at:]


DAMAGES: tuple[Callable[[bytearray, bytes, random.Random], None], ...] = (
    _flipped,
    _flipped_in_header,
    _header_rewritten,
    _header_consistent,
    _cut,
    _extended,
    _byte_lost,
    _byte_more,
    _zeroed,
    _rewritten,
    _exchanged,
    _spliced,
)


def damage(subject: Subject, count: int, r: random.Random) -> Counter[str]:
    """Damage the first chunk of an array so many times; what came of it, and the silent ones by kind."""
    found: Counter[str] = Counter()
    first, other = list(subject.chunks.values())[:2]
    for _ in range(count):
        act = r.choice(DAMAGES)
        data = bytearray(first)
        act(data, other, r)
        # A whole other chunk is a sound one: the checksums of the record tell those apart.
        outcome = "identical" if bytes(data) in (first, other) else subject.read(bytes(data))
        found[outcome] += 1
        if outcome == "silent":
            found[f"silent: {subject.name}, {act.__name__}"] += 1
    return found


def _batch(kind: tuple[str, int, str, Any], count: int, seed: int, results: Any) -> None:
    warnings.simplefilter("ignore")
    results.put(damage(subject_of(kind), count, random.Random(seed)))


def main(total: int, seed: int) -> int:
    """Damage chunks of all kinds in turn; print what came of them. Returns the number of faults."""
    found: Counter[str] = Counter()
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    for number in range(-(-total // _BATCH)):
        kind = KINDS[number % len(KINDS)]
        child = context.Process(target=_batch, args=(kind, _BATCH, seed + number, results))
        child.start()
        try:
            found += results.get(timeout=_MOST_SECONDS)
        except queue.Empty:
            found[f"{'hang' if child.is_alive() else 'crash'}: {kind}"] += 1
            child.kill()
        child.join()
        print(number + 1, kind, dict(found), flush=True)
    return sum(count for name, count in found.items() if name not in ("error", "identical"))


if __name__ == "__main__":
    arguments = [int(text) for text in sys.argv[1:]]
    sys.exit(bool(main(arguments[0] if arguments else 100_000, arguments[1] if arguments[1:] else 0)))
