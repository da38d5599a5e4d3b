"""Mistakes that users make, each answered with what to do instead."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray

import anscombe_transform as at

KNOWN = at.Sensitivity.from_known(conversion_gain=90, zero_level=50)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recording, its array, and things that are neither."""
    folder = tmp_path_factory.mktemp("mistakes")
    movie = _movie()
    tifffile.imwrite(folder / "movie.tif", movie, photometric="minisblack")
    at.compress(movie, folder / "movie.zarr", sensitivity=KNOWN)
    (folder / "notes.txt").write_text("no movie")
    (folder / "clip.mp4").write_bytes(bytes(100))
    (folder / "decision.json").write_text("{}")
    (folder / "calibration.json").write_text("{}")
    tifffile.imwrite(folder / "two.tif", np.stack([movie, movie], 1), metadata={"axes": "TCYX"}, ome=True)
    np.save(folder / "still.npy", movie[0])
    np.save(folder / "dark.npy", np.full((20, 32, 32), 100, "int16"))
    return folder


def _movie() -> NDArray[np.int16]:
    photons = np.random.default_rng(0).poisson(np.geomspace(1, 40, 64), (40, 64, 64))
    return (50 + 90 * photons).astype("int16")


MOVIE = _movie()
CODEC = KNOWN.codec(MOVIE)
STORE = zarr.storage.MemoryStore

# A call, the kind of its error, and what the error must name: the remedy.
PYTHON: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "calibrate a list of frames": (lambda: at.compute_sensitivity(list(MOVIE)), TypeError, r"numpy\.stack"),
    "compress a list of frames": (lambda: at.compress(list(MOVIE), STORE()), TypeError, r"numpy\.stack"),
    "calibrate nested lists": (lambda: at.compute_sensitivity(MOVIE.tolist()), TypeError, r"numpy\.asarray"),
    "calibrate one image": (
        lambda: at.compute_sensitivity(MOVIE[0]),
        ValueError,
        r"three axes \(time, y, x\)",
    ),
    "calibrate channels": (lambda: at.compute_sensitivity(MOVIE[None]), ValueError, "channel_axis="),
    "calibrate booleans": (lambda: at.compute_sensitivity(MOVIE > 0), TypeError, "integers or floats"),
    "calibrate a mistyped name": (lambda: at.compute_sensitivity("no.tif"), FileNotFoundError, r"no\.tif"),
    "a movie for a calibration": (
        lambda: at.codec_pipeline(MOVIE),
        TypeError,
        r"codec_pipeline\(sensitivity",
    ),
    "a codec for a calibration": (
        lambda: at.compress(MOVIE, STORE(), sensitivity=CODEC),
        TypeError,
        r"compress\(movie, store, sensitivity=",
    ),
    "a dict for a calibration": (
        lambda: at.compress(MOVIE, STORE(), sensitivity=KNOWN.to_dict()),
        TypeError,
        r"Sensitivity\.from_dict",
    ),
    "store before movie": (lambda: at.compress("a.zarr", MOVIE), TypeError, r"compress\(movie, store\)"),
    "calibration for a store": (lambda: at.compress(MOVIE, KNOWN), TypeError, r"compress\(movie, store\)"),
    "calibration before movie": (lambda: at.compress(KNOWN, STORE()), TypeError, "movie comes first"),
    "stabilize the wrong way": (lambda: at.stabilize(KNOWN, MOVIE), TypeError, r"stabilize\(array, sens"),
    "stabilize by a codec": (lambda: at.stabilize(MOVIE, CODEC), TypeError, "compute_sensitivity"),
    "plot a movie": (lambda: at.diagnostics.plot_noise_transfer(MOVIE), TypeError, "compute_sensitivity"),
    "plot the wrong way": (
        lambda: at.diagnostics.plot_summary(KNOWN, MOVIE),
        TypeError,
        r"plot_summary\(movie, sensitivity\)",
    ),
    "plot by a calibration": (
        lambda: at.diagnostics.plot_residuals(MOVIE, KNOWN),
        TypeError,
        r"sensitivity\.codec\(sample=movie\)",
    ),
    "verify the wrong way": (lambda: at.verify(MOVIE, STORE()), TypeError, r"verify\(stored, movie\)"),
    "report on a movie": (
        lambda: at.write_calibration_report(MOVIE, "a.html"),
        TypeError,
        r"write_calibration_report\(compute_sensitivity\(movie\)",
    ),
    "report on a file name": (
        lambda: at.write_decision_report("decision.json", "a.html"),
        TypeError,
        r"write_decision_report\(decide\(movie\)",
    ),
    "one beta": (lambda: at.decide(MOVIE, betas=0.5), TypeError, r"betas=\(0\.5,\)"),
    "one preset": (lambda: at.decide(MOVIE, presets="fast"), TypeError, r"presets=\('fast',\)"),
    "an unknown preset": (lambda: at.compress(MOVIE, STORE(), preset="best"), ValueError, "fast, compact"),
    "no step": (lambda: at.compress(MOVIE, STORE(), beta=0, sensitivity=KNOWN), ValueError, r"\(0, 4\]"),
    "one length of a chunk": (
        lambda: at.compress(MOVIE, STORE(), chunks=100, sensitivity=KNOWN),
        ValueError,
        r"\(time, y, x\)",
    ),
    "simulate one length": (lambda: at.simulate_movie(64), ValueError, r"\(time, y, x\)"),
    "await nothing": (lambda: CODEC.encode(MOVIE), TypeError, r"codec\.plan\.encode\(array\)"),
    "decode an array": (lambda: CODEC.decode(MOVIE), TypeError, r"codec\.plan\.decode\(array\)"),
    "a codec of no range": (lambda: KNOWN.codec(), ValueError, "sample="),
    "reciprocal gain": (
        lambda: at.Sensitivity.from_known(conversion_gain=0, zero_level=50),
        ValueError,
        "reciprocal",
    ),
}


@pytest.mark.parametrize("mistake", PYTHON)
def test_a_mistake_in_python_names_the_remedy(mistake: str) -> None:
    """The error is of the kind that numpy users expect, short, names the remedy, and leaves no warning."""
    call, kind, remedy = PYTHON[mistake]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(kind) as caught:
            call()
    message = str(caught.value)
    assert re.search(remedy, message), message
    assert len(message) < 500
    assert "\n" not in message


def test_time_as_the_last_axis_is_noted() -> None:
    """A movie of the shape (y, x, time) is calibrated with a note that says how to turn it."""
    found = at.compute_sensitivity(np.moveaxis(MOVIE, 0, -1), on_refusal="return")
    assert [reason for reason in found.reasons if "numpy.moveaxis(movie, -1, 0)" in reason.message]
    right = at.compute_sensitivity(MOVIE, on_refusal="return")
    assert not [reason for reason in right.reasons if reason.code == "axes_order"]


def test_one_path_is_a_list_of_one(place: Path, tmp_path: Path) -> None:
    """`compress_all` takes one path, and not its letters."""
    found = at.compress_all(place / "movie.tif", tmp_path, sensitivity=KNOWN)
    assert [Path(item.store).name for item in found.items] == ["movie.zarr"]


def test_results_are_short_in_lists_and_tables_in_notebooks(place: Path, tmp_path: Path) -> None:
    """Every result has a `repr` of one line, and a table of HTML without anything from a file as markup."""
    from anscombe_transform.compression import describe

    name = place / "<b>movie.tif"
    os.link(place / "movie.tif", name)
    result = at.compress(name, tmp_path / "a.zarr", sensitivity=KNOWN)
    with at.open_movie(name) as movie:
        things: list[Any] = [
            movie,
            result,
            result.verification,
            result.sensitivity,
            describe(tmp_path / "a.zarr"),
        ]
        things += [
            result.codec,
            KNOWN.codec(MOVIE, zarr_format=2),
            at.decide(MOVIE, betas=(1,), presets=("fast",)),
        ]
        things += [at.verify(tmp_path / "a.zarr", movie), KNOWN.agreement(movie)]
        things += [
            at.decompress(tmp_path / "a.zarr", tmp_path / "a.tif"),
            at.certificate(tmp_path / "a.zarr", name),
        ]
        for thing in things:
            assert len(repr(thing)) < 400, repr(thing)
            assert "\n" not in repr(thing)
            table = thing._repr_html_()
            assert "<table>" in table
            assert "<b>movie" not in table
