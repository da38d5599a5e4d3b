"""The constants of a movie that was stored before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import zarr

import anscombe_transform as at
from anscombe_transform.calibration.references import stored

V3 = int(zarr.__version__.split(".")[0]) >= 3
MOVIE, _ = at.simulate_movie(
    (120, 96, 96), conversion_gain=20.0, zero_level=100.0, read_noise=20.0, dtype="uint16", rng=3
)


def stored_forms(folder: Any, beta: float) -> dict[str, Any]:
    """A stored movie as an array, a path, a movie, and in files that it was decompressed to."""
    forms: dict[str, Any] = {}
    for number in (2, 3) if V3 else (2,):
        path = str(folder / f"{number}.zarr")
        at.compress(MOVIE, path, beta=beta, zarr_format=number)
        forms |= {f"path of V{number}": path, f"array of V{number}": zarr.open(path, mode="r")}
    at.decompress(path, folder / "m.tif")
    at.decompress(path, folder / "m.h5")
    return forms | {"TIFF": folder / "m.tif", "HDF5": folder / "m.h5"}


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_stored_movie_gives_the_gain_of_its_source(beta: float, tmp_path) -> None:
    """The variance that a known step adds is taken off, in whatever form the record comes along."""
    source = at.compute_sensitivity(MOVIE)
    for name, form in stored_forms(tmp_path, beta).items():
        found = at.compute_sensitivity(form)
        assert found.conversion_gain == pytest.approx(source.conversion_gain, rel=0.02 * beta), name
        assert "stored_before" in {reason.code for reason in found.reasons}
        low, high = found.conversion_gain_interval
        assert low <= 20.0 * 1.01
        assert high >= 20.0 * 0.99


def test_codec_of_an_array_that_others_wrote_is_known() -> None:
    """Without a record, the array's own codec says what step it has."""
    if not V3:
        pytest.skip("arrays of Zarr format 3 need zarr-python 3")
    source = at.compute_sensitivity(MOVIE)
    array = zarr.create_array({}, data=MOVIE, filters=[source.codec(sample=MOVIE, beta=1.0)])
    assert at.compute_sensitivity(array).conversion_gain == pytest.approx(source.conversion_gain, rel=0.02)
    decoded = at.compute_sensitivity(array[:])
    assert decoded.conversion_gain > 1.03 * source.conversion_gain


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_counts_that_bins_keep_apart_have_their_gain(tmp_path, beta: float) -> None:
    """Of counts far apart, storing adds nothing where it is dark; with coarse steps there is a caution."""
    movie, _ = at.simulate_movie((120, 128, 128), conversion_gain=90.0, zero_level=50.0, rng=3)
    at.compress(movie, tmp_path / "m.zarr", beta=beta)
    found = at.compute_sensitivity(tmp_path / "m.zarr")
    low, high = found.conversion_gain_interval
    assert low <= 90 <= high
    assert high - low < 0.05 * 90 if beta < 0.6 else found.verdict != "trustworthy"


def test_coarsely_stored_counts_get_a_caution(tmp_path) -> None:
    """Where a photon is one unit and the step coarse, the noise of the source is not known."""
    movie, _ = at.simulate_movie((100, 96, 96), conversion_gain=1.0, zero_level=0.0, dtype="uint16", rng=3)
    at.compress(movie, tmp_path / "m.zarr", beta=1.0)
    found = at.compute_sensitivity(tmp_path / "m.zarr")
    assert found.verdict != "trustworthy"
    assert "stored_coarsely" in {reason.code for reason in found.reasons}


def test_movie_that_was_not_stored_is_left_alone() -> None:
    """Neither an ordinary array nor odd metadata count as stored."""

    class Odd(np.ndarray):
        @property
        def metadata(self) -> Any:
            return {"anscombe_transform": {"beta": "0.5", "source": [1]}}

    assert at.compute_sensitivity(MOVIE.view(Odd)) == at.compute_sensitivity(MOVIE)


def test_no_record_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A movie without a record of storing costs a few looks, not two for each of two at every generation."""
    looks = []
    real = stored._record
    monkeypatch.setattr(stored, "_record", lambda value: looks.append(1) or real(value))
    movie, _ = at.simulate_movie((4, 16, 16), rng=0)
    with at.open_movie(movie) as opened:
        assert stored.how_stored(opened, at.Sensitivity.from_known(conversion_gain=90, zero_level=50)) is None
    assert len(looks) < 10
