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
    tifffile.imwrite(folder / "still.tif", np.ones((9, 9), bool))
    np.save(folder / "five.npy", np.stack([movie, movie], 1))
    tifffile.imwrite(folder / "colour.tif", np.zeros((9, 9, 9, 3), "uint8"), photometric="rgb")
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
    "flat fields that are images": (
        lambda: at.compute_sensitivity_from_flats([MOVIE[0], MOVIE[1]]),
        ValueError,
        "noise='space'",
    ),
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

    name = place / "<b>markup.tif"
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
            assert "<b>markup" not in table


# What is typed after "anscombe", the exit code, and what the message must name: the remedy.
SHELL = {
    "no destination": ("compress movie.tif", 2, "anscombe compress movie.tif OUT.zarr"),
    "an array that is there": ("compress movie.tif movie.zarr", 2, r"\(--overwrite\)"),
    "a mistyped file": ("compress no.tif a.zarr", 2, r"no such file: no\.tif"),
    "a file for an array": ("compress movie.tif a.tif", 2, "anscombe decompress"),
    "half a pair of constants": ("compress movie.tif a.zarr --gain 90", 2, "--zero-level"),
    "constants that are wrong": (
        "compress movie.tif a.zarr --gain 900 --zero-level 50",
        3,
        "--accept-mismatch",
    ),
    "a reciprocal gain": (
        "compress movie.tif a.zarr --gain -1 --zero-level 5",
        2,
        "--gain must be .* reciprocal",
    ),
    "no step": ("compress movie.tif a.zarr --beta 0", 2, r"--beta must be .*\(0, 4\]"),
    "chunks of one length": ("compress movie.tif a.zarr --chunks 10", 2, "T,Y,X, such as 100,256,256"),
    "chunks of nothing": ("compress movie.tif a.zarr --chunks 10,0,3", 2, "--chunks must be .* -1"),
    "shards in format 2": (
        "compress movie.tif a.zarr --shards 40,64,64 --zarr-format 2",
        2,
        "--zarr-format 3",
    ),
    "a type that is none": ("compress movie.tif a.zarr --dtype uint8", 2, '--dtype must be "float32"'),
    "a pyramid of an array": ("compress movie.tif a.zarr --pyramid 2", 2, "--layout ome-zarr"),
    "a preset for HDF5": ("compress movie.tif a.h5 --preset portable", 2, "--plain"),
    "fields of NWB for Zarr": ("compress movie.tif a.zarr --nwb rate=3", 2, r"something\.nwb"),
    "NWB without its fields": ("compress movie.tif a.nwb", 2, "--nwb session_start_time=.* --nwb rate="),
    "plain without a file": ("compress movie.tif a.zarr --plain", 2, r"--plain writes \.h5"),
    "a wrong calibration": (
        "compress movie.tif a.zarr --calibration calibration.json",
        2,
        "anscombe calibrate FILE --json",
    ),
    "no calibration": ("compress movie.tif a.zarr --calibration no.json", 2, r"no\.json"),
    "no noise": ("compress dark.npy a.zarr", 3, "--gain and --zero-level"),
    "no light": ("calibrate dark.npy", 3, "record with light"),
    "a still": ("compress still.npy a.zarr", 2, "at least two frames"),
    "a choice of channels": ("compress two.tif a.zarr", 2, r"two\.tif::channel=0"),
    "a video": ("compress clip.mp4 a.zarr", 2, "Export the raw frames"),
    "a picture of the wrong kind": ("calibrate movie.tif --plot a.txt", 2, r"\.png, \.pdf or \.svg"),
    "two wishes": ("calibrate movie.tif --full --max-frames 9", 2, "leave one of them out"),
    "what is not stored": ("verify movie.tif", 2, "--against"),
    "another source": ("verify movie.zarr --against dark.npy", 2, "the recording that it was made from"),
    "one source of two": ("verify movie.zarr movie.zarr --against movie.tif", 2, "single OUT.zarr"),
    "nothing stored": ("info no.zarr", 2, r"there is no stored movie no\.zarr"),
    "an unknown kind of file": ("decompress movie.zarr a.mp4", 2, r"known are \.tif.* --format tiff"),
    "a compression that is none": (
        "decompress movie.zarr a.tif --compression best",
        2,
        "--compression must be one of zlib, zstd, lzw",
    ),
    "a mask of another size": ("calibrate movie.tif --mask still.tif", 2, "--mask must have the shape"),
    "axes without names": ("compress five.npy a.zarr", 2, r"five\.npy::axes=tcyx,channel=0"),
    "colours": ("compress colour.tif a.zarr", 2, "Convert it to one grey value"),
    "a file that is there": ("decompress movie.zarr movie.tif", 2, "--overwrite"),
    "a page that is none": ("report movie.zarr -o a.pdf", 2, r"\.html"),
    "a step that is none": ("decide movie.tif --betas a", 2, "numbers with commas"),
    "a step too wide": ("decide movie.tif --betas 9", 2, r"--betas must be .*\(0, 4\]"),
    "a preset that is none": ("decide movie.tif --presets best", 2, "--presets must be among fast, compact"),
    "a decision that is none": (
        "certificate movie.zarr --against movie.tif --decision decision.json",
        2,
        "anscombe decide --json",
    ),
    "a key that is none": ("certificate movie.zarr --against movie.tif --sign no", 2, "ssh-keygen"),
    "no live recording": ("finish no.zarr", 2, r"no interrupted live recording .* no\.zarr\.partial"),
}

# Words that only a Python program understands.
PYTHONIC = re.compile(
    r"\w=(True|False|None)\b|\w+Error\b|Traceback|\bNone\b|\bself\b|\w\(\)|\b(kwargs?|tuple|ndarray)\b"
)


@pytest.mark.parametrize("mistake", SHELL)
def test_a_mistake_in_the_shell_names_the_remedy(
    mistake: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message is short, names the remedy by options, has no word of Python, and nothing is written."""
    from typer.testing import CliRunner

    from anscombe_transform.cli import certificates, live  # noqa: F401  # their commands
    from anscombe_transform.cli.commands import app

    line, code, remedy = SHELL[mistake]
    for file in place.iterdir():
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    done = CliRunner().invoke(app, line.split())
    assert done.exit_code == code, done.output
    assert done.stdout == ""
    message = done.stderr.strip()
    assert message.startswith("error: ")
    assert re.search(remedy, message), message
    shown = message.replace("::channel=0", "").replace("channel=0 to 1", "")
    assert not PYTHONIC.search(shown), message
    assert len(message) < 600
    assert set(tmp_path.iterdir()) == before


def test_two_reasons_stand_on_two_lines() -> None:
    """Of a calibration that is refused for two reasons, each has a line, in Python and in the shell."""
    from anscombe_transform.calibration.result.sensitivity import Reason
    from anscombe_transform.cli.output import refused

    reasons = [Reason("one", "this is so.", "refusal"), Reason("two", "that is so.", "refusal")]
    both, single = at.Sensitivity.refused(*reasons), at.Sensitivity.refused(reasons[0])
    assert str(at.UntrustworthyCalibration(both)).splitlines()[1] == "[one] this is so."
    assert len(str(at.UntrustworthyCalibration(single)).splitlines()) == 1
    assert str(refused(both)).splitlines()[1:] == ["  this is so", "  that is so"]
    assert len(str(refused(single)).splitlines()) == 1


def test_documents_have_a_version_and_are_short(place: Path, tmp_path: Path) -> None:
    """Every JSON document has a version; curves of a calibration stand in that of `calibrate` alone."""
    import json

    from typer.testing import CliRunner

    from anscombe_transform.cli.commands import app

    lengths = {}
    for command in (
        f"calibrate {place}/movie.tif",
        f"compress {place}/movie.tif {tmp_path}/a.zarr",
        f"info {place}/movie.zarr",
        f"verify {place}/movie.zarr --against {place}/movie.tif",
        f"certificate {place}/movie.zarr --against {place}/movie.tif -o {tmp_path}/a.html",
    ):
        out = CliRunner().invoke(app, [*command.split(), "--json"]).stdout
        assert json.loads(out)["version"] == 1
        lengths[command.split()[0]] = len(out)
        assert ("transfer_curve" in out) == command.startswith("calibrate")
    assert max(length for name, length in lengths.items() if name != "calibrate") < 12_000
