"""Maps of the constants of every pixel: shrinkage, hot pixels, and their plot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anscombe_transform import compute_sensitivity, simulate_movie
from anscombe_transform.calibration.references.maps import shrink, shrink_variances
from anscombe_transform.diagnostics import plot_pixel_maps

SHAPE = (64, 64)


class Camera:
    """A camera whose pixels differ in zero level, read noise and gain, with three hot ones."""

    def __init__(self, rng):
        self.rng = rng
        self.offset = 100 + 3 * rng.standard_normal(SHAPE)
        self.read = 4 * np.exp(0.2 * rng.standard_normal(SHAPE))
        self.gain = 2 * (1 + 0.08 * rng.standard_normal(SHAPE))
        self.hot = [(3, 5), (30, 31), (60, 2)]
        self.scene = np.linspace(20, 400, SHAPE[1]) * np.ones((SHAPE[0], 1))

    def frames(self, count, light):
        """Frames at a part of the scene's light."""
        photons = self.rng.poisson(light * self.scene, (count, *SHAPE))
        signal = self.offset + self.gain * photons + self.read * self.rng.standard_normal(photons.shape)
        for y, x in self.hot:
            signal[:, y, x] += self.rng.normal(1000, 300, count)
        return np.rint(signal).astype("int16")


@pytest.fixture
def camera(rng):
    """A camera with uneven pixels."""
    return Camera(rng)


@pytest.fixture
def mapped(camera):
    """Its calibration from 256 frames and 40 dark ones."""
    return compute_sensitivity(camera.frames(256, 1), dark=camera.frames(40, 0), per_pixel=True)


def error(values, truth, camera):
    """Root mean square error without the hot pixels."""
    good = np.ones(SHAPE, bool)
    good[tuple(np.transpose(camera.hot))] = False
    return float(np.sqrt(np.mean((values - truth)[good] ** 2)))


def test_maps_are_nearer_the_truth_than_pixel_or_field(camera, mapped):
    """Each map errs by less than single pixels do, and by less than one value for the whole field."""
    maps = mapped.maps
    assert error(maps.offset, camera.offset, camera) < 0.3 * np.std(camera.offset)
    read_variance = camera.read**2 + 1 / 12
    raw = read_variance * np.sqrt(2 / 39)
    assert error(maps.read_variance, read_variance, camera) < min(
        np.sqrt(np.mean(raw**2)), np.std(read_variance)
    )
    # One gain for the field is not known exactly either.
    one = np.full(SHAPE, maps.gain.mean())
    assert error(maps.gain, camera.gain, camera) < error(one, camera.gain, camera)


def test_hot_pixels_are_listed(camera, mapped):
    """The three hot pixels are found, and hardly any other."""
    found = {tuple(place) for place in mapped.maps.hot_pixels.tolist()}
    assert set(camera.hot) <= found
    assert len(found) <= 6


def test_the_spread_of_pixels_is_found(mapped):
    """The standard deviation between pixels is that of the camera, errors of measurement taken off."""
    spread = mapped.maps.spread
    assert spread["offset"] == pytest.approx(3, rel=0.1)
    assert spread["gain"] == pytest.approx(0.16, rel=0.5)


def test_pixels_that_are_alike_become_one_value(rng):
    """Where errors explain all of the spread, shrinkage is whole; where they explain none, there is none."""
    nowhere = np.zeros((100, 100), bool)
    noise = rng.standard_normal((100, 100))
    alike, _ = shrink(5 + noise, np.full_like(noise, 1.5), 5.0, nowhere)
    assert np.ptp(alike) == 0
    apart, spread = shrink(5 + noise, np.full_like(noise, 1e-3), 5.0, nowhere)
    assert np.allclose(apart, 5 + noise, atol=1e-4)
    assert spread == pytest.approx(1, rel=0.05)
    variances = rng.chisquare(9, (100, 100)) / 9
    flat, _ = shrink_variances(variances, 9, nowhere)
    assert np.std(flat) < 0.3 * np.std(variances)


def test_dark_frames_that_are_all_alike_are_the_map(rng):
    """Copies of an average have no scatter to judge pixels by: their values are kept as they are."""
    movie = simulate_movie((64, 48, 48), conversion_gain=20, zero_level=100, rng=rng)[0]
    average = 100 + rng.standard_normal((48, 48))
    maps = compute_sensitivity(movie, dark=np.stack([average] * 3), per_pixel=True).maps
    np.testing.assert_allclose(maps.offset, average)
    flat = compute_sensitivity(movie, dark=np.full((3, 48, 48), 100), per_pixel=True).maps
    assert (flat.offset == 100).all()


def test_maps_stay_in_memory(mapped):
    """They are no part of the stored calibration, and of no comparison."""
    assert "maps" not in mapped.to_dict()
    assert type(mapped).from_dict(mapped.to_dict()) == mapped


def test_without_dark_frames_there_is_a_gain_map_alone(camera):
    """Zero level and read noise of pixels take dark frames."""
    maps = compute_sensitivity(camera.frames(256, 1), per_pixel=True).maps
    assert maps.offset is None
    assert maps.read_variance is None
    assert maps.gain.shape == SHAPE


def test_the_maps_are_plotted(camera, mapped):
    """Three images of the maps, hot pixels marked; a calibration without maps is refused."""
    figure = plot_pixel_maps(mapped)
    assert [ax.get_title(loc="left") for ax in figure.axes[:3]] == ["Zero level", "Read noise", "Gain"]
    assert np.array_equal(figure.axes[0].images[0].get_array(), mapped.maps.offset)
    marks = {(y, x) for x, y in np.transpose(figure.axes[0].lines[0].get_data()).tolist()}
    assert set(camera.hot) <= marks
    with pytest.raises(ValueError, match="per_pixel=True"):
        plot_pixel_maps(compute_sensitivity(camera.frames(64, 1)))


def test_pixels_that_are_alike_have_the_middle_colour(mapped):
    """A map of one value is drawn at the middle of its colours, not as if all pixels were low."""
    alike = replace(mapped, maps=replace(mapped.maps, offset=np.full(SHAPE, -3.0)))
    low, high = plot_pixel_maps(alike).axes[0].images[0].get_clim()
    assert low < -3 < high
    assert (low + high) / 2 == pytest.approx(-3)
