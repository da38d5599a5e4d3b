"""Channels and focal planes in one sequence of frames are noticed, with what to do about them."""

from __future__ import annotations

import logging

import numpy as np
import pytest

import anscombe_transform as at
from anscombe_transform.calibration.sums.interleaved import find_interleaving, interleaving_of
from anscombe_transform.simulation import structured_scene

SCMOS = at.Camera(conversion_gain=2.2, zero_level=100, read_noise=3.5, dtype="uint16")


def planes_in_turn(period, seed, *, photons=5.0, shape=(120, 64, 64), **options):
    """A movie of several scenes in turn."""
    rng = np.random.default_rng([seed, period])
    scenes = np.stack([photons * structured_scene(shape[1:], rng)[0] for _ in range(period)])
    scene = scenes[np.arange(shape[0]) % period]
    return at.simulate_movie(shape, camera=SCMOS, scene=scene, rng=rng, **options)[0]


def reasons(found):
    """Messages of the reasons, by code."""
    return {reason.code: reason.message for reason in found.reasons}


@pytest.mark.parametrize("period", [2, 3, 4, 7, 30])
@pytest.mark.parametrize("jitter", [0.0, 0.5])
def test_the_number_of_planes_is_found(seed, period, jitter):
    """However many planes take turns, their number is that of the smallest lag at which frames are alike."""
    found = interleaving_of(planes_in_turn(period, seed, jitter=jitter))
    assert found is not None
    assert found.period == period
    assert found.excess > 1.5


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"jitter": 1.0},
        {"activity": 1.0},
        {"drift": 5.0},
        {"flicker": 0.1},
        {"bleaching": 0.6},
        {"scene": "uniform"},
        {"mean_photons": 1e-6},
    ],
)
def test_plain_movies_do_not_take_turns(seed, options):
    """Noise, motion, activity, flicker and bleaching are no turns."""
    movie, _ = at.simulate_movie((120, 64, 64), camera=SCMOS, rng=seed, **options)
    assert interleaving_of(movie) is None


def test_too_few_frames_or_pixels_say_nothing(seed):
    """Where there is nothing to compare, nothing is claimed."""
    movie = planes_in_turn(2, seed)
    assert interleaving_of(movie[:11]) is None
    assert find_interleaving([]) is None
    assert find_interleaving([np.full((40, 8, 8), np.nan)]) is None
    assert find_interleaving([np.zeros((40, 8, 8))]) is None


def test_pixels_without_data_and_masked_pixels_are_left_out(seed):
    """NaN borders and masks change nothing."""
    movie = planes_in_turn(3, seed).astype(np.float32)
    movie[:, :9] = np.nan
    assert interleaving_of(movie).period == 3
    mask = np.zeros((64, 64), bool)
    mask[20:50, 20:50] = True
    assert interleaving_of(movie, mask).period == 3


@pytest.mark.parametrize("shape", [(240, 64, 64), (3000, 16, 16)])
def test_a_calibration_says_how_many_take_turns_and_what_to_do(seed, shape):
    """The caution names the number of planes, and how to calibrate them one at a time; one plane has none."""
    movie = planes_in_turn(4, seed, shape=shape, photons=20)
    found = at.compute_sensitivity(movie, on_refusal="return")
    assert found.verdict != "trustworthy"
    assert "turns by 4" in reasons(found)["alternating_frames"]
    assert "channel_axis" in reasons(found)["alternating_frames"]
    assert "alternating_frames" not in reasons(at.compute_sensitivity(movie[::4], on_refusal="return"))


def test_compressing_frames_in_turn_warns(seed, tmp_path, caplog):
    """With given constants too, a movie of planes in turn is stored with a warning that says so."""
    movie = planes_in_turn(2, seed)
    given = at.Sensitivity.from_known(conversion_gain=2.2, zero_level=100.0, read_noise=3.5)
    with caplog.at_level(logging.WARNING):
        result = at.compress(movie, tmp_path / "m.zarr", sensitivity=given)
    assert result.verification.ok
    assert "take turns by 2" in caplog.text
    noted = result.array.attrs["anscombe_transform"]["sensitivity"]["reasons"]
    assert "alternating_frames" in {reason["code"] for reason in noted}
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        at.compress(movie[::2], tmp_path / "one.zarr", sensitivity=given)
    assert "take turns" not in caplog.text
