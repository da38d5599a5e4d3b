"""The shift of the mean that is measured while values are compared."""

from __future__ import annotations

import math

import numpy as np
import pytest
import zarr

from anscombe_transform import Sensitivity, compress, verify
from anscombe_transform.codec.transform.curve import Curve
from anscombe_transform.compression import MeanShift, Verification
from anscombe_transform.compression.blocks.mean_shift import largest_shift, mean_shifts, merged_shifts

CURVE = Curve(90.0, 50.0, 9.0, 0.5)


def _movie(frames: int = 32, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    photons = rng.poisson(np.geomspace(0.3, 30, 96)[None, None, :], (frames, 16, 96))
    return (50 + 90 * photons + 9 * rng.standard_normal(photons.shape)).astype("int16")


@pytest.mark.parametrize("frames", [1, 3, 32])
def test_a_known_shift_is_found(frames: int) -> None:
    """A shift of a tenth of the noise at every pixel is measured as 0.1 in every group, of stills too."""
    movie = _movie(frames)
    if frames >= 8:
        noise = CURVE.noise_std(movie.mean(axis=0))
    else:
        noise = CURVE.noise_std(movie.reshape(frames, 16, 6, 16).mean(axis=(0, 3))).repeat(16, axis=1)
    found = mean_shifts(CURVE, movie, movie + 0.1 * noise)
    assert len(found) > 4
    assert all(math.isclose(group.shift, 0.1, rel_tol=1e-6) for group in found)


def test_pixels_with_nan_are_left_alone() -> None:
    """Pixels with NaN are not measured; the others are, and a block of nothing but NaN gives no group."""
    movie = _movie().astype("float32")
    movie[3, 5] = np.nan
    found = mean_shifts(CURVE, movie, movie)
    assert sum(group.count for group in found) == 15 * 96
    assert all(group.shift == 0 for group in found)
    assert mean_shifts(CURVE, movie * np.nan, movie * np.nan) == ()


def test_a_row_of_every_large_block_is_measured() -> None:
    """A block far beyond the sample still gives a row, whatever its height."""
    for height in (1, 2, 3, 64):
        movie = np.full((2**17, height, 16), 500, "int16")
        assert sum(group.count for group in mean_shifts(CURVE, movie, movie)) >= 16


def test_parts_add_up() -> None:
    """Shifts of two halves of a block's columns merge to those of the whole."""
    movie = _movie()
    stored = movie + np.random.default_rng(1).normal(3, 5, movie.shape)
    whole = mean_shifts(CURVE, movie, stored)
    halves = (mean_shifts(CURVE, movie[:, :, part], stored[:, :, part]) for part in np.s_[::2, 1::2])
    for one, other in zip(whole, merged_shifts(halves), strict=True):
        assert one.count == other.count
        assert (one.signal, one.shift, one.spread) == pytest.approx(
            (other.signal, other.shift, other.spread), rel=1e-9
        )


def test_the_record_and_a_later_comparison_hold_it() -> None:
    """The array's record has the shifts by brightness, and `verify` against the source measures the same."""
    movie, store = _movie(), zarr.storage.MemoryStore()
    known = Sensitivity.from_known(conversion_gain=90, zero_level=50, read_noise=9)
    result = compress(movie, store, sensitivity=known)
    noted = Verification.from_dict(result.array.attrs["anscombe_transform"]["verification"])
    assert noted.mean_shift == result.verification.mean_shift == verify(store, movie).mean_shift
    worst = largest_shift(noted.mean_shift)
    assert isinstance(worst, MeanShift)
    # Half a step of 0.5 is 0.25: a mean over many values must be far inside.
    assert abs(worst.shift) < 0.1


def test_groups_known_badly_are_not_named() -> None:
    """The largest shift is taken among groups with a small standard error."""
    sure, unsure = MeanShift(1, 10_000, 100.0, 0.01, 0.1), MeanShift(2, 4, 200.0, 0.5, 0.2)
    assert largest_shift([sure, unsure]) == sure
    assert largest_shift([unsure]) is None


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_later_comparison_names_the_recording(zarr_format: int) -> None:
    """`verify` gives the digest of the source that the record has, and another for another source."""
    movie, store = _movie(), zarr.storage.MemoryStore()
    known = Sensitivity.from_known(conversion_gain=90, zero_level=50, read_noise=9)
    result = compress(movie, store, sensitivity=known, zarr_format=zarr_format)  # type: ignore[arg-type]
    recorded = result.array.attrs["anscombe_transform"]["source"]["checksum"]
    assert verify(store, movie).source_checksum == recorded
    other = movie.copy()
    other[3, 5, 7] += 1
    again = verify(store, other)
    assert again.ok
    assert again.source_checksum not in (recorded, None)
