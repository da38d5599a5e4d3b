"""The speed of a machine is measured on any movie that can be stored."""

from __future__ import annotations

import pytest

from anscombe_transform import Sensitivity, measure_speed, simulate_movie

zarr = pytest.importorskip("zarr", minversion="3")


@pytest.mark.parametrize("zero_level", [50.0, 20_000.0])
def test_every_preset_is_measured(zero_level: float) -> None:
    """Each preset stores and verifies the frames, also where 0, zarr's fill value, has no code."""
    movie, _ = simulate_movie((20, 48, 48), conversion_gain=90.0, zero_level=zero_level, rng=0)
    known = Sensitivity.from_known(conversion_gain=90.0, zero_level=zero_level)
    found = measure_speed(movie, sensitivity=known, repeats=1)
    assert [preset.preset for preset in found.presets] == ["fast", "compact", "portable"]
    assert all(preset.verified and preset.ratio > 2 for preset in found.presets)
