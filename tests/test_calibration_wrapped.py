"""Integers that wrapped round are noticed, and bright scenes are not taken for them."""

from __future__ import annotations

import numpy as np
import pytest

import anscombe_transform as at

Y, X = np.mgrid[:48, :64]
LIGHT = 20 + 150 * np.exp(-((Y - 24) ** 2 + (X - 20) ** 2) / 200) + 60 * X / 64


def signal(gain: float, offset: float, seed: int = 0) -> np.ndarray:
    """A scene whose brightest pixels are near 210 photons."""
    return np.round(np.random.default_rng(seed).poisson(LIGHT, (60, 48, 64)) * gain + offset).astype(int)


def codes_of(movie: np.ndarray) -> set[str]:
    """Codes of the reasons of a movie's calibration."""
    return {reason.code for reason in at.compute_sensitivity(movie, on_refusal="return").reasons}


WRAPPED = {
    "uint16 stored as int16": lambda: signal(200, 2000).astype("uint16").view("int16"),
    "cast to uint16": lambda: (signal(400, 2000) % 65536).astype("uint16"),
    "cast to 12 bits": lambda: (signal(25, 100) % 4096).astype("uint16"),
    "cast to uint8": lambda: (signal(1.6, 10) % 256).astype("uint8"),
    "negative values in uint16": lambda: ((signal(2, -42)) % 65536).astype("uint16"),
    "uint16 stored as int16, as floats": lambda: (
        signal(200, 2000).astype("uint16").view("int16").astype("float32")
    ),
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_wrapped_values_are_noticed(kind: str) -> None:
    """Jumps by 2^n between neighbours lower the verdict, with a reason of their own."""
    movie = WRAPPED[kind]()
    found = at.compute_sensitivity(movie, on_refusal="return")
    assert "wrapped" in {reason.code for reason in found.reasons}
    assert found.verdict != "trustworthy"


def hot_pixels() -> np.ndarray:
    """Pixels at many high values that never change, in the dark."""
    movie = signal(2, 100)
    rng = np.random.default_rng(1)
    hot = rng.random((48, 64)) < 0.02
    movie[:, hot] = 65000 + rng.integers(-200, 200, (60, hot.sum()))
    return movie.astype("uint16")


def cosmic_rays() -> np.ndarray:
    """Rare events of any height, in one frame each."""
    rng = np.random.default_rng(2)
    movie = signal(2, 100)
    hit = rng.random(movie.shape) < 0.002
    movie[hit] += rng.integers(1000, 65000, hit.sum())
    return movie.clip(0, 65535).astype("uint16")


SOUND = {
    "whole range": lambda: signal(200, 2000).clip(0, 65535).astype("uint16"),
    "saturated": lambda: signal(400, 2000).clip(0, 65535).astype("uint16"),
    "signed": lambda: (signal(200, 2000) - 32768).astype("int16"),
    "hot pixels": hot_pixels,
    "cosmic rays": cosmic_rays,
    "8 bits": lambda: signal(1, 10).clip(0, 255).astype("uint8"),
}


@pytest.mark.parametrize("kind", SOUND)
def test_bright_scenes_are_not_taken_for_wrapped(kind: str) -> None:
    """Values over the whole range, saturation, hot pixels and cosmic rays have not wrapped."""
    assert "wrapped" not in codes_of(SOUND[kind]())
