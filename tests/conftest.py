"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

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


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of real recordings; tests that need it skip where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("ANSCOMBE_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"real recordings not found at {folder} (set ANSCOMBE_TEST_DATA)")
    return folder
