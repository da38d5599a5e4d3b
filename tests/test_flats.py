"""Photon transfer from flat fields: levels of light, pairs, saturation, dark frames."""

from __future__ import annotations

import numpy as np
import pytest

from anscombe_transform import UntrustworthyCalibration, compute_sensitivity_from_flats

GAIN, ZERO, READ = 2.2, 100.0, 3.5
LIGHT = (5, 20, 60, 150, 300, 600, 1200)


def exposures(rng, light=LIGHT, frames=2, shape=(96, 96), top=np.inf, uneven=0.0, flicker=0.0):
    """Frames of a camera at levels of light, optionally clipped, unevenly lit, under a lamp that flickers."""
    field = 1 + uneven * np.linspace(-1, 1, shape[1])
    lamp = 1 + flicker * rng.standard_normal((len(light), frames, 1, 1))
    photons = rng.poisson(np.reshape(light, (-1, 1, 1, 1)) * lamp * np.ones((shape[0], 1)) * field)
    signal = ZERO + GAIN * photons + READ * rng.standard_normal(photons.shape)
    return np.minimum(np.rint(signal), top)


def codes(found):
    """Codes of the reasons."""
    return {reason.code for reason in found.reasons}


def wide(interval):
    """An interval twice as wide, which 99.99 % of true values lie in."""
    low, high = interval
    return (3 * low - high) / 2, (3 * high - low) / 2


@pytest.mark.parametrize("options", [{}, {"frames": 5}, {"uneven": 0.5, "flicker": 0.02}])
def test_a_series_of_exposures_gives_the_gain(rng, options):
    """Pairs or more frames, uneven light and a flickering lamp give the gain and x₀ of the detector."""
    found = compute_sensitivity_from_flats(exposures(rng, **options))
    low, high = wide(found.conversion_gain_interval)
    assert low < GAIN < high
    assert high - low < 0.15 * GAIN
    low, high = wide(found.variance_intercept_interval)
    assert low < ZERO - READ**2 / GAIN < high
    assert found.verdict == "trustworthy"
    assert found.method == "flats"


def test_dark_frames_complete_a_series(rng):
    """They fix the zero level and the read noise, and give a single level its gain."""
    flats, dark = exposures(rng), exposures(rng, [0], frames=8)[0]
    found = compute_sensitivity_from_flats(flats, dark=dark)
    assert found.zero_level == pytest.approx(ZERO, abs=0.2)
    assert found.read_noise == pytest.approx(READ, rel=0.03)
    single = compute_sensitivity_from_flats(flats[4], dark=dark)
    assert "gain_from_one_brightness" in codes(single)
    assert abs(single.conversion_gain / GAIN - 1) < 0.1


def test_saturated_levels_are_left_out(rng):
    """Levels near the converter's top have no part, and are told of."""
    found = compute_sensitivity_from_flats(exposures(rng, (*LIGHT, 3000, 5000), top=2000))
    assert "saturated" in codes(found)
    assert abs(found.conversion_gain / GAIN - 1) < 0.1
    with pytest.raises(UntrustworthyCalibration, match="clipped"):
        compute_sensitivity_from_flats(exposures(rng, (3000, 5000), top=2000))


def test_a_detector_that_is_not_linear_is_refused(rng):
    """A response that rises faster than the light bends the curve."""
    bent = ZERO + 3000 * (np.maximum(exposures(rng) - ZERO, 0) / 3000) ** 1.3
    assert "curved" in codes(compute_sensitivity_from_flats(bent, on_refusal="return"))


def test_one_level_without_contrast_is_refused(rng):
    """A single even level has no slope."""
    with pytest.raises(UntrustworthyCalibration, match="does not grow with brightness"):
        compute_sensitivity_from_flats(exposures(rng, [300]))


def test_single_frames_are_compared_in_space(rng):
    """One frame a level is an error over time, and gives the gain of an evenly lit field in space."""
    flats = exposures(rng, frames=1)
    with pytest.raises(ValueError, match="noise='space' compares neighbouring pixels"):
        compute_sensitivity_from_flats(flats)
    found = compute_sensitivity_from_flats(flats[:, 0], noise="space")
    assert found.verdict == "caution"
    assert abs(found.conversion_gain / GAIN - 1) < 0.1


def test_levels_may_be_files(rng, tmp_path):
    """A sequence of paths gives what the array of the levels gives."""
    flats = exposures(rng).astype("uint16")
    paths = [tmp_path / f"{k}.npy" for k in range(len(flats))]
    for path, level in zip(paths, flats, strict=True):
        np.save(path, level)
    assert compute_sensitivity_from_flats(paths) == compute_sensitivity_from_flats(flats)


@pytest.mark.parametrize(
    ("flats", "options", "error", "message"),
    [
        (np.zeros((2, 3)), {}, ValueError, r"axes \(levels, frames, y, x\)"),
        ([np.zeros((2, 20, 20)), np.zeros((2, 20, 30))], {}, ValueError, "for level 1 and"),
        (np.zeros((2, 2, 20, 20)), {"noise": "both"}, ValueError, "noise must be"),
        (np.zeros((2, 2, 20, 20)), {"dark": np.zeros((2, 30, 20))}, ValueError, "flats' shape"),
        (np.zeros((2, 2, 20, 20)), {"mask": np.ones((3, 3), bool)}, ValueError, "mask must have"),
        (np.zeros((2, 2, 20, 20)), {"read_noise": -2}, ValueError, "read_noise must be"),
        (np.zeros((2, 2, 20, 20), bool), {}, TypeError, "bool"),
        (3, {}, TypeError, "got int"),
    ],
)
def test_misuse_names_the_rule(flats, options, error, message):
    """What are not flat fields is an error that says what would be."""
    with pytest.raises(error, match=message):
        compute_sensitivity_from_flats(flats, **options)


def test_flat_fields_of_cameras(recordings):
    """A CCD and an sCMOS under an integrating sphere have the gains that others found."""
    tifffile = pytest.importorskip("tifffile")
    ccd = np.load(recordings / "ccd_andor_dv435" / "frames_u16.npz")
    found = compute_sensitivity_from_flats(ccd["light"], dark=ccd["dark"])
    assert found.conversion_gain == pytest.approx(0.371, rel=0.03)
    assert found.variance_intercept == pytest.approx(465, abs=10)
    zyla, dark = (
        tifffile.imread(recordings / "scmos_zyla" / f"{name}_crop_u16.tif") for name in ("light", "dark")
    )
    found = compute_sensitivity_from_flats(zyla, dark=dark)
    assert found.conversion_gain == pytest.approx(2.1, rel=0.05)
    assert found.verdict == "trustworthy"
