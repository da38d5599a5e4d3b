"""Results of several threads never share memory."""

from __future__ import annotations

import threading

import numpy as np

from anscombe_transform import AnscombeTransformV2


def test_results_in_several_threads_stay_apart(rng: np.random.Generator) -> None:
    """Large chunks decoded by threads at once, and kept, are each what they should be."""
    codec = AnscombeTransformV2(20, 30.0)
    chunks = [(30 * rng.poisson(8, 1 << 20) + 20).astype("int16") for _ in range(4)]
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
