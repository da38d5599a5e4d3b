"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

# The first example of a test may compile a kernel, and a busy machine is no fault of the code.
settings.register_profile("patient", deadline=None, print_blob=True)
settings.load_profile("patient")


@pytest.fixture
def seed() -> int:
    """The one seed of all random tests; any value in 0..99 must pass (set ANSCOMBE_TEST_SEED to try)."""
    return int(os.environ.get("ANSCOMBE_TEST_SEED", "0"))


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    """A seeded random generator."""
    return np.random.default_rng(seed)


@pytest.fixture
def movie(rng: np.random.Generator) -> NDArray[np.int16]:
    """A small movie of even light: gain 90, zero level 50, eight photons."""
    return (50 + 90 * rng.poisson(8, (40, 24, 24))).astype(np.int16)


@pytest.fixture
def frames(rng: np.random.Generator) -> NDArray[np.int16]:
    """A movie with negative values, whose frames all differ."""
    return rng.integers(-50, 3000, (12, 40, 56)).astype(np.int16)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of one chunk each, so that a small movie has several."""
    from anscombe_transform.compression.blocks import layout

    monkeypatch.setattr(layout, "BLOCK_BYTES", 1)


@pytest.fixture
def sparse_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples of four single frames: the first, the last and two between."""
    from anscombe_transform.compression.blocks import sampling

    monkeypatch.setattr(sampling, "WHOLE_BYTES", 1)
    monkeypatch.setattr(sampling, "_RUN_BYTES", 1)
    monkeypatch.setattr(sampling, "_RUNS", 4)


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of real recordings; tests that need it skip where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("ANSCOMBE_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"real recordings not found at {folder} (set ANSCOMBE_TEST_DATA)")
    return folder
