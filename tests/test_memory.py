"""Memory that is used again never belongs to two arrays at once."""

from __future__ import annotations

import gc
import threading

import numpy as np

from anscombe_transform import AnscombeTransformV2
from anscombe_transform.codec.memory import SMALLEST, Pool


def address(array: np.ndarray) -> int:
    """Where an array's memory begins."""
    return array.__array_interface__["data"][0]


def test_memory_is_used_again_once_the_last_view_is_gone() -> None:
    """A block waits while any view of it lives, and serves the next array after that."""
    pool = Pool()
    first = pool.empty(SMALLEST, np.dtype("int16"))
    view = first.reshape(-1, 16)[3:, ::2]
    where = address(first)
    del first
    gc.collect()
    second = pool.empty(SMALLEST, np.dtype("int16"))
    assert address(second) != where
    del view
    gc.collect()
    third = pool.empty(SMALLEST // 2, np.dtype("int32"))
    assert address(third) == where


def test_what_is_kept_is_bounded() -> None:
    """The pool never keeps more than its limit, and nothing larger than it."""
    pool = Pool(kept=4 * SMALLEST)
    arrays = [pool.empty(SMALLEST * n, np.dtype("uint8")) for n in (1, 1, 2, 2, 3, 8)]
    del arrays
    gc.collect()
    assert pool._bytes <= 4 * SMALLEST
    assert pool._bytes == sum(block.nbytes for blocks in pool._free.values() for block in blocks)


def test_small_arrays_are_numpys_own() -> None:
    """Below the threshold an array owns its memory."""
    assert Pool().empty(100, np.dtype("int16")).flags.owndata


def test_results_in_several_threads_stay_apart(rng: np.random.Generator) -> None:
    """Large chunks decoded by threads at once, and kept, are each what they should be."""
    codec = AnscombeTransformV2(20, 30.0)
    chunks = [(30 * rng.poisson(8, SMALLEST) + 20).astype("int16") for _ in range(4)]
    expected = [codec.decode(codec.encode(chunk)).copy() for chunk in chunks]
    wrong: list[int] = []

    def work(number: int) -> None:
        held = []
        for round_ in range(6):
            k = (number + round_) % 4
            held.append((k, codec.decode(codec.encode(chunks[k]))))
            if len(held) > 2:
                held.pop(0)
            wrong.extend(k for k, values in held if not np.array_equal(values, expected[k]))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
