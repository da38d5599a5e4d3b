"""No damaged chunk gives other values in silence: a small number of those of ``fuzz_chunks.py``."""

from __future__ import annotations

import random

import pytest

zarr = pytest.importorskip("zarr")
if int(zarr.__version__.partition(".")[0]) < 3:
    pytest.skip("needs zarr-python 3", allow_module_level=True)

from fuzz_chunks import KINDS, damage, subject_of  # noqa: E402


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_damaged_chunks_are_errors_or_change_nothing(kind: tuple, seed: int) -> None:
    """Of damages of every sort each is an error, or leaves the values; most are errors."""
    found = damage(subject_of(kind), 120, random.Random(seed))
    assert set(found) <= {"error", "identical"}, found
    assert found["error"] > 60
