"""Dark frames and known constants beside a movie."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from anscombe_transform import Sensitivity, UntrustworthyCalibration, compute_sensitivity, simulate_movie
from anscombe_transform.calibration.references.dark import measure_dark

CAMERA = {"conversion_gain": 2.2, "zero_level": 100.0, "read_noise": 3.5, "dtype": "uint16"}
READ_VARIANCE = 3.5**2 + 1 / 12


def codes(found):
    """Codes of the reasons."""
    return {reason.code for reason in found.reasons}


@pytest.fixture
def movie(seed):
    """A camera movie with contrast."""
    return simulate_movie((48, 128, 128), mean_photons=40, rng=seed, **CAMERA)[0]


@pytest.fixture
def dark(seed):
    """Twelve frames of the same camera without light."""
    return simulate_movie((12, 128, 128), mean_photons=1e-9, rng=1000 + seed, **CAMERA)[0]


def inside(value, interval, widened=2.0):
    """Whether a value lies in an interval twice as wide, which 99.99 % of true ones do."""
    low, high = interval
    middle, half = (low + high) / 2, widened * (high - low) / 2
    return middle - half <= value <= middle + half


def test_dark_frames_give_zero_and_read_noise(movie, dark):
    """They replace the third cumulant, and what it left uncertain is settled."""
    found = compute_sensitivity(movie, dark=dark)
    alone = compute_sensitivity(movie)
    assert found.zero_level_method == "dark frames"
    assert found.verdict == "trustworthy"
    assert inside(100, found.zero_level_interval)
    assert found.read_noise**2 == pytest.approx(READ_VARIANCE, rel=0.05)
    assert found.zero_level - found.read_noise**2 / found.conversion_gain == pytest.approx(
        found.variance_intercept
    )
    assert np.ptp(found.zero_level_interval) < 0.2 * np.ptp(alone.zero_level_interval)
    assert abs(found.conversion_gain / 2.2 - 1) < 0.02


def test_hot_pixels_do_not_count(dark, seed):
    """A hundred hot pixels change the zero level by less than a tenth of its interval, and are listed."""
    clean = measure_dark(dark)
    hot = np.random.default_rng(seed).choice(dark[0].size, 100, replace=False)
    spoilt = dark.reshape(len(dark), -1).copy()
    spoilt[:, hot] += np.random.default_rng(seed).integers(200, 5000, (len(dark), 100)).astype("uint16")
    found = measure_dark(spoilt.reshape(dark.shape))
    assert np.isin(hot, np.flatnonzero(found.hot)).all()
    assert abs(found.zero_level - clean.zero_level) < 0.02
    assert found.read_variance == pytest.approx(clean.read_variance, rel=0.02)


def test_a_uniform_scene_has_a_gain_with_dark_frames(dark, seed):
    """Without contrast there is no slope, but there is one from darkness to the scene."""
    flat, _ = simulate_movie((48, 128, 128), scene=np.full((128, 128), 40.0), rng=seed, **CAMERA)
    with pytest.raises(UntrustworthyCalibration):
        compute_sensitivity(flat)
    found = compute_sensitivity(flat, dark=dark)
    assert found.verdict == "caution"
    assert "gain_from_one_brightness" in codes(found)
    assert inside(2.2, found.conversion_gain_interval)
    assert np.ptp(found.conversion_gain_interval) < 0.2 * 2.2


def test_a_dark_movie_is_not_made_bright_by_dark_frames(dark, seed):
    """Read noise alone has no gain, whatever the zero level."""
    empty, _ = simulate_movie((48, 128, 128), mean_photons=1e-9, rng=seed, **CAMERA)
    assert compute_sensitivity(empty, dark=dark, on_refusal="return").verdict == "refused"


@pytest.mark.parametrize(("photons", "code"), [(2, "dark_has_light"), (40, "zero_too_bright")])
def test_light_in_the_dark_is_never_used_in_silence(movie, seed, photons, code):
    """Dark frames with a scene on them, or brighter than the movie's darkest part, give caution."""
    scene = "structured" if photons == 2 else "uniform"
    lit, _ = simulate_movie((12, 128, 128), mean_photons=photons, scene=scene, rng=seed + 1, **CAMERA)
    found, alone = compute_sensitivity(movie, dark=lit), compute_sensitivity(movie)
    assert code in codes(found)
    assert found.verdict == "caution"
    assert found.zero_level == alone.zero_level


def test_one_dark_frame_gives_the_zero_level(movie, dark):
    """A single frame has no noise over time; the read noise follows from the line."""
    for single in (dark[0], dark[:1]):
        found = compute_sensitivity(movie, dark=single)
        assert abs(found.zero_level - 100) < 0.3
        assert found.read_noise == pytest.approx(
            np.sqrt(found.conversion_gain * (found.zero_level - found.variance_intercept))
        )


def test_dark_frames_from_a_file(movie, dark, tmp_path):
    """`dark` may be a path."""
    np.save(tmp_path / "dark.npy", dark)
    assert compute_sensitivity(movie, dark=tmp_path / "dark.npy") == compute_sensitivity(movie, dark=dark)


def test_of_two_known_constants_the_other_follows(movie):
    """zero_level fixes the read noise through x₀, and the other way round."""
    alone = compute_sensitivity(movie)
    by_zero = compute_sensitivity(movie, zero_level=100)
    assert (by_zero.zero_level, by_zero.zero_level_interval) == (100, (100, 100))
    assert by_zero.zero_level_method == "known"
    assert by_zero.read_noise**2 == pytest.approx(alone.conversion_gain * (100 - alone.variance_intercept))
    by_noise = compute_sensitivity(movie, read_noise=3.5)
    assert by_noise.read_noise == pytest.approx(3.5)
    assert by_noise.zero_level == pytest.approx(alone.variance_intercept + 3.5**2 / alone.conversion_gain)
    assert inside(100, by_noise.zero_level_interval)


@pytest.mark.parametrize(
    ("constants", "code"),
    [
        ({"zero_level": 100, "read_noise": 15}, "read_noise_contradicts"),
        ({"zero_level": 80}, "zero_below_line"),
        ({"zero_level": 500}, "zero_too_bright"),
        ({"read_noise": 50}, "read_noise_contradicts"),
    ],
)
def test_constants_that_contradict_the_movie_are_a_reason(movie, constants, code):
    """What the line of the movie excludes is told, and the noise model of the movie stays."""
    found, alone = compute_sensitivity(movie, **constants), compute_sensitivity(movie)
    assert code in codes(found)
    assert found.verdict == "caution"
    assert found.variance_intercept == pytest.approx(alone.variance_intercept)


def test_known_excess_noise_gives_the_signal_of_a_photon(seed):
    """With F² = 2 the gain is the effective one, and one photon is half of it; both survive JSON."""
    movie, truth = simulate_movie(
        (48, 128, 128), conversion_gain=40, zero_level=200, excess_noise=2, mean_photons=10, rng=seed
    )
    found = compute_sensitivity(movie, excess_noise=2)
    assert found.excess_noise_method == "known"
    assert found.single_photon_gain == pytest.approx(found.conversion_gain / 2)
    assert abs(found.single_photon_gain / truth.signal_per_photon - 1) < 0.1
    assert "excess noise F² 2, given" in str(found)
    assert Sensitivity.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_calibrations_of_earlier_versions_are_read(movie):
    """Fields that were added later may be absent."""
    found = compute_sensitivity(movie)
    older = found.to_dict()
    for name in ("variance_intercept_interval", "excess_noise_method"):
        del older[name]
    again = Sensitivity.from_dict(older)
    assert dataclasses.replace(again, variance_intercept_interval=found.variance_intercept_interval) == found


def test_each_channel_has_its_own_dark_frames_and_constants(movie, dark):
    """Dark frames with channels, dark frames without, and sequences of constants."""
    both, blacks = np.stack([movie, movie + np.uint16(50)], axis=1), np.stack([dark, dark + np.uint16(50)], 1)
    first, second = compute_sensitivity(both, channel_axis=1, dark=blacks)
    assert first == compute_sensitivity(movie, dark=dark)
    assert second.zero_level == pytest.approx(first.zero_level + 50)
    shared = compute_sensitivity(both, channel_axis=1, dark=dark)
    assert shared[0] == first
    assert "zero_below_line" in codes(shared[1])
    found = compute_sensitivity(both, channel_axis=1, zero_level=[100, 150])
    assert [one.zero_level for one in found] == [100, 150]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"dark": np.zeros((4, 64, 128))}, ValueError, r"frames of the movie's shape \(128, 128\)"),
        ({"dark": np.zeros((4, 4, 128, 128))}, ValueError, "dark must have three axes"),
        ({"dark": np.full((4, 128, 128), np.nan)}, ValueError, "no pixel that is finite"),
        ({"dark": np.zeros((4, 128, 128)), "zero_level": 3}, ValueError, "either dark= or the constants"),
        ({"zero_level": np.nan}, ValueError, "zero_level must be a finite number, got nan"),
        ({"read_noise": -1}, ValueError, "read_noise must be a finite number >= 0, got -1"),
        ({"excess_noise": 0.5}, ValueError, "excess_noise must be a finite number >= 1, got 0.5"),
        ({"zero_level": [1, 2]}, ValueError, "zero_level must be a finite number"),
    ],
)
def test_misuse_names_the_rule(movie, options, error, message):
    """Dark frames of another shape and constants out of range are errors."""
    with pytest.raises(error, match=message):
        compute_sensitivity(movie, **options)


@pytest.mark.parametrize("lazily", [False, True])
def test_uneven_offsets_are_subtracted_pixel_by_pixel(seed, lazily):
    """A bias that differs by 6 electrons over the field hides a dim scene; dark frames give its gain back."""
    wave = 12.0 * np.sin(np.arange(128) / 20)
    rng = np.random.default_rng(seed)
    offsets = 118 + wave[:, None] + 6 * rng.standard_normal((128, 128))
    light, _ = simulate_movie(
        (96, 128, 128), conversion_gain=2.2, zero_level=0, mean_photons=4, dtype="float64", rng=seed
    )
    noise = 3.5 * rng.standard_normal((96 + 24, 128, 128))
    movie = np.rint(offsets + light + noise[:96]).astype(np.uint16)
    dark = np.rint(offsets + noise[96:]).astype(np.uint16)
    alone = compute_sensitivity(movie, on_refusal="return")
    if lazily:
        movie = pytest.importorskip("dask.array").from_array(movie, chunks=(24, 128, 128))
    found = compute_sensitivity(movie, dark=dark)
    assert abs(found.conversion_gain / 2.2 - 1) < 0.03
    assert inside(offsets.mean(), found.zero_level_interval)
    assert found.verdict == "trustworthy"
    assert alone.verdict != "trustworthy"
