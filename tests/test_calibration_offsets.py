"""Cameras with offsets of pixels, rows, columns or patches: the gain is right, or in its interval."""

from __future__ import annotations

import numpy as np
import pytest

from anscombe_transform.calibration import compute_sensitivity
from anscombe_transform.simulation import simulate_movie
from anscombe_transform.simulation.camera import Camera

SCMOS = {"conversion_gain": 2.2, "zero_level": 100, "read_noise": 3.5, "dtype": "uint16"}


def calibrate(seed, mean_photons=5, **imperfections):
    """Sensitivity of a simulated camera, and its truth."""
    camera = Camera(**SCMOS, **imperfections)
    movie, truth = simulate_movie((100, 160, 160), camera=camera, mean_photons=mean_photons, rng=seed)
    return compute_sensitivity(movie, on_refusal="return"), truth


def error_of(found, truth):
    """Error of the gain over half its interval, about its middle."""
    low, high = found.conversion_gain_interval
    return 2 * abs(truth.conversion_gain - (low + high) / 2) / (high - low)


@pytest.mark.parametrize(
    "offsets",
    [
        {"column_offset_spread": 2.2},
        {"row_offset_spread": 2.2},
        {"row_offset_spread": 2.2, "column_offset_spread": 2.2},
    ],
    ids=["columns", "rows", "both"],
)
def test_offsets_of_rows_and_columns(seed, offsets):
    """Offsets of an electron that rows or columns share are in the gain's interval."""
    found, truth = calibrate(seed, **offsets)
    # Half as wide again: 95 % intervals miss in one of twenty.
    assert error_of(found, truth) < 1.5
    assert found.verdict != "refused"


def test_telegraph_noise_does_not_hide_offsets(seed):
    """Telegraph noise passes for activity, and offsets of the pixels are allowed for all the same."""
    found, truth = calibrate(
        seed,
        mean_photons=8,
        offset_spread=4.4,
        smooth_offset_spread=2.2,
        rts_pixels=0.02,
        rts_amplitude=22,
        hot_pixels=1e-3,
    )
    assert abs(found.conversion_gain / truth.conversion_gain - 1) < 0.08
    assert found.verdict != "refused"


def test_an_offset_that_varies_smoothly_is_not_refused(seed):
    """A bias that wanders over the field by 3 electrons gives a caution, and no gain of half the true one."""
    found, truth = calibrate(seed, smooth_offset_spread=6.6)
    assert "offsets_wander" in {reason.code for reason in found.reasons}
    assert found.verdict == "caution"
    assert abs(found.conversion_gain / truth.conversion_gain - 1) < 0.25


def test_an_uneven_gain_is_no_wandering_offset(seed):
    """A gain that rises over the field makes the slope between its parts steeper; offsets flatten it."""
    movie, truth = simulate_movie((100, 160, 160), conversion_gain=90, zero_level=50, rng=seed)
    relative = np.linspace(0.85, 1.15, 160)
    movie = np.rint(truth.zero_level + (movie - truth.zero_level) * relative).astype(np.int16)
    found = compute_sensitivity(movie)
    assert "offsets_wander" not in {reason.code for reason in found.reasons}
    assert abs(found.conversion_gain / truth.conversion_gain - 1) < 0.03
