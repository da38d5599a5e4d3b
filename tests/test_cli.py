"""Each command does its job, prints JSON alone when asked, and answers a mistake with one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("typer")
zarr = pytest.importorskip("zarr")
tifffile = pytest.importorskip("tifffile")

from typer.testing import CliRunner  # noqa: E402

import anscombe_transform  # noqa: E402
from anscombe_transform.calibration import Sensitivity, compute_sensitivity  # noqa: E402
from anscombe_transform.cli import demo, live  # noqa: E402, F401
from anscombe_transform.cli.commands import app  # noqa: E402
from anscombe_transform.simulation import simulate_movie  # noqa: E402

ZARR_3 = int(zarr.__version__.partition(".")[0]) >= 3
FORMATS = (3, 2) if ZARR_3 else (2,)
NEWEST = f"--zarr-format={FORMATS[0]}"
KNOWN = ("--gain=90", "--zero-level=50", NEWEST)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a simulated recording in three formats, an image, and a movie without noise."""
    h5py = pytest.importorskip("h5py")
    folder = tmp_path_factory.mktemp("recordings")
    movie, _ = simulate_movie((64, 96, 96), conversion_gain=90, zero_level=50, read_noise=20, rng=0)
    tifffile.imwrite(folder / "movie.tif", movie, photometric="minisblack")
    np.save(folder / "movie.npy", movie)
    with h5py.File(folder / "movie.h5", "w") as file:
        file["green"], file["red"] = movie, movie[::-1]
    np.save(folder / "image.npy", movie[0])
    np.save(folder / "flat.npy", np.full((30, 64, 64), 7, np.int16))
    return folder


@pytest.fixture(scope="module")
def movie(folder: Path) -> NDArray[np.int16]:
    """The simulated recording."""
    return np.load(folder / "movie.npy")


def _run(*arguments: object, code: int = 0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def _document(text: str) -> Any:
    """The JSON document that a command printed, without its version."""
    document = json.loads(text)
    assert document.pop("version", 1) == 1
    return document


def _error(*arguments: object, code: int) -> str:
    """The one line that a mistake is answered with; nothing else is printed."""
    result = _run(*arguments, code=code)
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


# --- the main job ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["movie.tif", "movie.npy", "movie.h5::/green"])
def test_calibrate_prints_the_constants(name: str, folder: Path) -> None:
    """`calibrate` prints what `compute_sensitivity` finds, whatever the format."""
    result = _run("calibrate", folder / name)
    assert "signal/photon" in result.stdout
    assert "verdict:" in result.stdout
    found = _document(_run("calibrate", folder / name, "--json").stdout)
    assert Sensitivity.from_dict(found).conversion_gain == pytest.approx(90, rel=0.1)
    with anscombe_transform.open_movie(folder / name) as movie:
        expected = anscombe_transform.compute_sensitivity(movie)
    assert found == expected.to_dict()


def test_calibrate_draws_the_plot(folder: Path, tmp_path: Path) -> None:
    """``--plot`` writes a picture, for a refused calibration as well."""
    _run("calibrate", folder / "movie.tif", "--plot", tmp_path / "noise.png", "--full")
    assert (tmp_path / "noise.png").read_bytes().startswith(b"\x89PNG")
    _run("calibrate", folder / "flat.npy", "--plot", tmp_path / "flat.pdf", code=3)
    assert (tmp_path / "flat.pdf").read_bytes().startswith(b"%PDF")


def _flats(folder: Path, seed: int) -> list[Path]:
    """Three levels of light of a camera of gain 2.2 and zero level 100, frames and an image without light."""
    rng = np.random.default_rng(seed)
    paths = []
    for name, light in (("dim", 20), ("medium", 150), ("bright", 600), ("dark", 0)):
        frames = 100 + 2.2 * rng.poisson(light, (2, 96, 96)) + 3.5 * rng.standard_normal((2, 96, 96))
        paths.append(folder / f"{name}.tif")
        tifffile.imwrite(paths[-1], np.rint(frames).astype("uint16"), photometric="minisblack")
    tifffile.imwrite(folder / "average.tif", np.full((96, 96), 100, np.uint16))
    return paths


def test_flat_fields_are_calibrated_together(tmp_path: Path, seed: int) -> None:
    """With ``--flats`` the files are levels of light, as of `compute_sensitivity_from_flats`."""
    *levels, dark = _flats(tmp_path, seed)
    found = _document(_run("calibrate", "--flats", *levels, "--dark", dark, "--json").stdout)
    expected = anscombe_transform.compute_sensitivity_from_flats([*map(str, levels)], dark=dark)
    assert found == expected.to_dict()
    assert found["conversion_gain"] == pytest.approx(2.2, rel=0.1)
    average = ("--dark", tmp_path / "average.tif")
    assert "zero 100" in _run("calibrate", "--flats", *levels, *average).stdout
    spatial = _run("calibrate", "--flats", *levels, "--noise", "space", "--json").stdout
    assert [reason["code"] for reason in _document(spatial)["reasons"]] == ["spatial_noise"]
    picture, page = tmp_path / "a.png", tmp_path / "a.html"
    _run("calibrate", "--flats", *levels, "--report", picture, "--plot", tmp_path / "b.svg")
    assert picture.read_bytes().startswith(b"\x89PNG")
    _run("calibrate", "--flats", *levels, "--report", page)
    assert "trustworthy" in page.read_text(encoding="utf-8")


def test_a_calibration_serves_other_movies(folder: Path, tmp_path: Path, seed: int) -> None:
    """What `calibrate --json` printed is what `compress --calibration` notes and builds its codec from."""
    *levels, dark = _flats(tmp_path, seed)
    found = tmp_path / "camera.json"
    found.write_text(_run("calibrate", "--flats", *levels, "--dark", dark, "--json").stdout)
    calibration = ("--calibration", found)
    _run("compress", levels[1], tmp_path / "a.zarr", *calibration, NEWEST)
    about = _document(_run("info", tmp_path / "a.zarr", "--json").stdout)
    noted, printed = about["provenance"]["sensitivity"], _document(found.read_text())
    # The document of a calibration has the curve, which those of other commands leave out.
    printed = {
        name: value
        for name, value in printed.items()
        if name not in ("version", "transfer_curve", "rejected")
    }
    # The movie has two frames, which the record says beside.
    assert [reason["code"] for reason in noted["reasons"] if reason not in printed["reasons"]] == [
        "fitted_to_few_frames"
    ]
    assert noted | {"reasons": printed["reasons"]} == printed
    assert "leave one" in _error("compress", levels[1], "b.zarr", *calibration, "--dark", dark, code=2)
    found.write_text(_run("calibrate", folder / "flat.npy", "--json", code=3).stdout)
    assert "same value" in _error("compress", levels[1], "b.zarr", *calibration, code=3)
    for text, message in (("{}", "lacks conversion_gain"), ("gain 3", "not what"), ("[3]", "not what")):
        found.write_text(text)
        assert message in _error("compress", levels[1], "b.zarr", *calibration, code=2)


def test_flat_fields_that_do_not_do_are_one_line(tmp_path: Path, seed: int) -> None:
    """One even level is refused; options that have no part in flat fields are named."""
    *levels, dark = _flats(tmp_path, seed)
    assert "too alike" in _error("calibrate", "--flats", levels[0], code=3)
    single = _error("calibrate", "--flats", *levels, tmp_path / "average.tif", code=2)
    assert "average.tif) has one frame" in single
    assert "for movies" in _error("calibrate", "--flats", *levels, "--excess-noise=2", code=2)
    assert "belongs to --flats" in _error("calibrate", levels[0], "--noise=time", code=2)
    both = ("--dark", dark, "--zero-level=100")
    assert "give either" in _error("calibrate", "--flats", *levels, *both, code=2)


def test_the_calibration_report_is_a_page_or_a_picture(folder: Path, tmp_path: Path) -> None:
    """``--report`` takes its kind from the suffix; another suffix is refused before anything is read."""
    picture = tmp_path / "report.svg"
    _run("calibrate", folder / "movie.npy", "--report", picture)
    assert "<svg" in picture.read_text(encoding="utf-8")
    message = _error("calibrate", folder / "absent.npy", "--report", tmp_path / "report.txt", code=2)
    assert "must end with .html" in message
    assert "--plot must end" in _error("calibrate", "absent.npy", "--plot", tmp_path / "a", code=2)


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_compress_info_verify(zarr_format: int, folder: Path, tmp_path: Path) -> None:
    """The main job in three commands: an array, what it says of itself, and that it is right."""
    out = tmp_path / "movie.zarr"
    text = _run("compress", folder / "movie.tif", out, f"--zarr-format={zarr_format}").stdout
    assert "times smaller" in text
    assert "values are within the bound" in text
    about = _run("info", out).stdout
    assert f"Zarr format {zarr_format}" in about
    assert str(folder / "movie.tif") in about
    assert (
        "values are within the bound" in _run("verify", out, "--against", folder / "movie.h5::green").stdout
    )
    assert zarr.open_array(str(out), mode="r").shape == (64, 96, 96)


def test_known_constants_replace_the_calibration(
    folder: Path, tmp_path: Path, movie: NDArray[np.int16]
) -> None:
    """With ``--gain`` and ``--zero-level`` a movie is stored that can't be calibrated."""
    _run("compress", folder / "flat.npy", tmp_path / "flat.zarr", *KNOWN, "--read-noise", 12, "--beta", 1)
    about = _document(_run("info", tmp_path / "flat.zarr", "--json").stdout)
    assert about["codec"]["conversion_gain"] == 90
    assert about["codec"]["beta"] == 1
    assert about["provenance"]["sensitivity"]["read_noise"] == 12


def test_json_is_alone_on_standard_output(folder: Path, tmp_path: Path) -> None:
    """With ``--json`` each command prints one document, which agrees with the library's result."""
    out = tmp_path / "movie.zarr"
    written = _document(_run("compress", folder / "movie.npy", out, *KNOWN, "--json").stdout)
    about = _document(_run("info", out, "--json").stdout)
    checked = _document(_run("verify", out, "--against", folder / "movie.npy", "--json").stdout)
    assert written["ratio"] == about["ratio"] > 3
    assert checked.pop("agreement")["verdict"] == written["agreement"]["verdict"] == "agrees"
    assert checked.pop("error_in_noise") == pytest.approx(written["measured_bound"], rel=0.05)
    noted = about["provenance"]["verification"]
    assert checked.pop("source_checksum") == about["provenance"]["source"]["checksum"]
    unknown = {"agreement": None, "error_in_noise": None, "source_checksum": None}
    assert written["verification"] == noted == checked | unknown
    assert checked["ok"] is True
    assert about["shape"] == [64, 96, 96]


def test_info_of_arrays_that_others_wrote(tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """`info` tells of any Zarr array, also without our codec."""
    array = zarr.open(str(tmp_path / "a.zarr"), mode="w", shape=movie.shape, dtype=movie.dtype)
    array[:] = movie
    assert "none of ours" in _run("info", tmp_path / "a.zarr").stdout
    assert _document(_run("info", tmp_path / "a.zarr", "--json").stdout)["codec"] is None


def test_demo_does_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`demo` prints each figure beside its truth and leaves movie, array and plots."""
    monkeypatch.setattr(demo, "SHAPE", (48, 96, 96))
    if not ZARR_3:
        pytest.skip("the demo writes Zarr format 3")
    out = tmp_path / "demo"
    text = _run("demo", "-o", out).stdout
    for part in (
        "conversion gain",
        "90.0",
        "zero level",
        "50.0",
        "verdict",
        "within the bound",
        "summary.png",
    ):
        assert part in text
    names = {path.name for path in out.iterdir()}
    assert names == {
        "movie.npy",
        "movie.zarr",
        "noise_transfer.png",
        "stabilization.png",
        "residuals.png",
        "code_histogram.png",
        "summary.png",
        "report.html",
    }
    assert all((out / name).read_bytes().startswith(b"\x89PNG") for name in names if name.endswith(".png"))
    assert "not empty" in _error("demo", "-o", out, code=2)
    monkeypatch.setattr(demo, "_draw", lambda *_: [])
    document = _document(_run("demo", "-o", out, "--overwrite", "--json").stdout)
    assert document["compression"]["verification"]["ok"] is True
    gain = document["comparisons"][0]
    assert gain["truth"] == 90
    assert gain["found"] == document["sensitivity"]["conversion_gain"]


def test_dark_frames_give_the_zero_level(folder: Path, tmp_path: Path, seed: int) -> None:
    """``--dark`` and known constants reach the calibration, in `calibrate` and in `compress`."""
    dark = np.random.default_rng(seed).normal(50, 20, (20, 96, 96)).round().astype("int16")
    np.save(tmp_path / "dark.npy", dark)
    found = _document(
        _run("calibrate", folder / "movie.npy", "--dark", tmp_path / "dark.npy", "--json").stdout
    )
    assert found["zero_level"] == pytest.approx(50, abs=0.5)
    _run("compress", folder / "movie.npy", tmp_path / "a.zarr", "--zero-level=48", NEWEST)
    about = _document(_run("info", tmp_path / "a.zarr", "--json").stdout)
    assert about["provenance"]["sensitivity"]["zero_level"] == 48
    assert about["provenance"]["sensitivity"]["conversion_gain"] == pytest.approx(90, rel=0.1)


def test_calibrate_takes_the_options_of_the_library(
    folder: Path, movie: NDArray[np.int16], tmp_path: Path
) -> None:
    """``--mask``, ``--max-frames``, ``--seed`` and ``--maps`` do what the function's parameters do."""
    mask = np.zeros(movie.shape[1:], np.uint8)
    mask[:48, :80] = 255
    tifffile.imwrite(tmp_path / "mask.tif", mask)
    tifffile.imwrite(tmp_path / "bits.tif", mask.astype(bool))
    np.save(tmp_path / "mask.npy", mask > 0)
    dark = np.random.default_rng(0).normal(50, 20, (20, 96, 96)).round().astype("int16")
    np.save(tmp_path / "dark.npy", dark)
    calibrate = ("calibrate", folder / "movie.npy", "--json", "--max-frames=48", "--seed=0")
    expected = compute_sensitivity(movie, mask=mask > 0, max_frames=48, seed=0, on_refusal="return")
    for name in ("mask.tif", "bits.tif", "mask.npy"):
        found = _document(_run(*calibrate, "--mask", tmp_path / name).stdout)
        assert found["conversion_gain"] == expected.conversion_gain
    maps = compute_sensitivity(movie, dark=dark, per_pixel=True, full=True).maps
    assert maps is not None
    _run("calibrate", folder / "movie.npy", "--dark", tmp_path / "dark.npy", "--full", "--maps",
         tmp_path / "maps.npz", "--report", tmp_path / "page.html")  # fmt: skip
    assert "The pixels" in (tmp_path / "page.html").read_text(encoding="utf-8")
    with np.load(tmp_path / "maps.npz") as arrays:
        np.testing.assert_array_equal(arrays["offset"], maps.offset)
        np.testing.assert_array_equal(arrays["read_variance"], maps.read_variance)
        np.testing.assert_array_equal(arrays["gain"], maps.gain)


def test_options_of_calibrate_that_contradict_one_another(folder: Path, tmp_path: Path) -> None:
    """What does not go together, or is no mask, is told before a frame is read."""
    movie = folder / "movie.npy"
    assert "leave one" in _error("calibrate", movie, "--full", "--max-frames=9", code=2)
    assert "--max-frames is for movies" in _error("calibrate", "--flats", movie, "--max-frames=9", code=2)
    assert "--maps must end with .npz" in _error("calibrate", movie, "--maps", tmp_path / "a.npy", code=2)
    assert "single FILE" in _error("calibrate", movie, movie, "--maps", tmp_path / "a.npz", code=2)
    assert "mask must be one image" in _error("calibrate", movie, "--mask", folder / "movie.tif", code=2)
    np.save(tmp_path / "mask.npy", np.ones((9, 9)))
    assert "the shape (y, x)" in _error("calibrate", movie, "--mask", tmp_path / "mask.npy", code=2)


def test_a_zero_level_of_zero_was_given(folder: Path, tmp_path: Path) -> None:
    """An option of 0 reaches the calibration, which says that this movie contradicts it."""
    _run("compress", folder / "movie.npy", tmp_path / "a.zarr", "--zero-level=0", NEWEST)
    about = _document(_run("info", tmp_path / "a.zarr", "--json").stdout)
    (reason,) = about["provenance"]["sensitivity"]["reasons"]
    assert reason["code"] == "zero_below_line"


def test_calibrate_takes_several_movies(folder: Path, tmp_path: Path) -> None:
    """Each movie is printed under its name, a bad one is passed over, and the exit code says so."""
    result = _run("calibrate", folder / "movie.npy", folder / "flat.npy", folder / "movie.h5::red", code=4)
    assert result.stdout.count("signal/photon") == 2
    assert f"error: {folder / 'flat.npy'}: the calibration was refused" in result.stderr
    found = _document(_run("calibrate", folder / "movie.npy", folder / "movie.tif", "--json").stdout)
    assert found[str(folder / "movie.npy")] == found[str(folder / "movie.tif")]
    page = tmp_path / "page.html"
    _run("calibrate", folder / "flat.npy", "--report", page, code=3)
    assert "refused" in page.read_text(encoding="utf-8")


def test_a_folder_is_compressed_past_a_bad_file(folder: Path, tmp_path: Path) -> None:
    """A night's folder gives an archive, the bad files are named at the end, and the exit code is 4."""
    result = _run("compress", folder, tmp_path / "archive", *KNOWN, "--overwrite", code=4)
    assert "3 compressed, 2 failed" in result.stdout
    assert "movie.h5" in result.stdout.splitlines()[-1] or "image.npy" in result.stdout.splitlines()[-1]
    names = {path.name for path in (tmp_path / "archive").iterdir()}
    assert names == {"flat.zarr", "movie.npy.zarr", "movie.tif.zarr"}
    sources = [folder / "movie.npy", f"{folder / 'movie.h5'}::/red"]
    document = _document(_run("compress", *sources, tmp_path / "two", *KNOWN, "--json").stdout)
    assert document["ok"] is True
    assert [Path(item["store"]).name for item in document["items"]] == ["movie.zarr", "movie_red.zarr"]
    again = _run("compress", *sources, tmp_path / "two", *KNOWN, "--resume").stdout
    assert "2 skipped" in again
    stored = [item["store"] for item in document["items"]]
    assert _run("verify", *stored).stdout.count("by their checksums") == 2
    about = _document(_run("info", *stored, "--json").stdout)
    assert list(about) == stored


def test_compress_takes_the_array_apart_as_told(folder: Path, tmp_path: Path) -> None:
    """Chunks, shards, preset, type and layout are those of the command line."""
    if not ZARR_3:
        pytest.skip("needs zarr-python 3")
    options = ("--chunks=16,48,48", "--shards=32,96,96", "--preset=portable", "--dtype=float32")
    _run("compress", folder / "movie.npy", tmp_path / "a.zarr", *KNOWN, *options)
    array = zarr.open_array(tmp_path / "a.zarr", mode="r")
    assert (array.chunks, array.shards, array.dtype) == ((16, 48, 48), (32, 96, 96), np.float32)
    options = ("--layout=ome-zarr", "--pyramid=1")
    _run("compress", folder / "movie.npy", tmp_path / "b.ome.zarr", *KNOWN, *options)
    assert sorted(zarr.open_group(tmp_path / "b.ome.zarr", mode="r").array_keys()) == ["0", "1"]
    image = ("verify", tmp_path / "b.ome.zarr", "--against", folder / "movie.tif")
    assert "within the bound" in _run(*image).stdout


def test_decompress_gives_the_movie_back(folder: Path, tmp_path: Path) -> None:
    """`decompress` writes the stored values; an existing file is kept unless told otherwise."""
    _run("compress", folder / "movie.npy", tmp_path / "a.zarr", *KNOWN)
    _run("decompress", tmp_path / "a.zarr", tmp_path / "a.tif")
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "a.tif"), zarr.open_array(str(tmp_path / "a.zarr"), mode="r")[:]
    )
    assert "exists" in _error("decompress", tmp_path / "a.zarr", tmp_path / "a.tif", code=2)
    made = _run("decompress", tmp_path / "a.zarr", tmp_path / "a.tif", "--overwrite", "--json").stdout
    assert _document(made)["path"] == str(tmp_path / "a.tif")


def test_bench_measures_each_preset(folder: Path) -> None:
    """`bench` tells size and speed of each preset, and that the values came back."""
    if not ZARR_3:
        pytest.skip("needs zarr-python 3")
    found = _document(_run("bench", folder / "movie.npy", "--json").stdout)
    assert {one["preset"] for one in found["presets"]} >= {"fast", "portable"}
    assert all(one["verified"] and one["ratio"] > 3 for one in found["presets"])
    assert "of copying" in _run("bench", folder / "movie.npy", "--megabytes=1", *KNOWN[:2]).stdout


# --- mistakes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["calibrate", "compress"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.tif", "no such file"),
        ("image.npy", "no time axis"),
        ("movie.h5", "holds 2 movies"),
        ("movie.h5::blue", "it holds /green"),
    ],
)
def test_a_wrong_input_is_one_line(
    command: str, name: str, message: str, folder: Path, tmp_path: Path
) -> None:
    """A missing file, an image, or a file of several movies is answered in one line with exit code 2."""
    out = [] if command == "calibrate" else [tmp_path / "out.zarr", NEWEST]
    assert message in _error(command, folder / name, *out, code=2)
    assert list(tmp_path.iterdir()) == []


def test_a_refused_calibration_has_its_own_exit_code(folder: Path, tmp_path: Path) -> None:
    """A movie without noise is refused with its reason and exit code 3, and nothing is written."""
    assert "refused" in _error("calibrate", folder / "flat.npy", code=3)
    line = _error("compress", folder / "flat.npy", tmp_path / "flat.zarr", NEWEST, code=3)
    assert "--gain and --zero-level" in line
    assert list(tmp_path.iterdir()) == []
    # A program gets the reasons as a document as well.
    result = _run("calibrate", folder / "flat.npy", "--json", code=3)
    document = _document(result.stdout)
    assert document["verdict"] == "refused"
    assert document["reasons"][0]["message"].rstrip(".") in result.stderr


def test_an_existing_output_needs_overwrite(folder: Path, tmp_path: Path) -> None:
    """An existing array is kept unless ``--overwrite`` is given; a folder that is none takes arrays in."""
    out = tmp_path / "movie.zarr"
    _run("compress", folder / "movie.npy", out, *KNOWN)
    assert "--overwrite" in _error("compress", folder / "movie.npy", out, *KNOWN, code=2)
    _run("compress", folder / "movie.npy", out, *KNOWN, "--overwrite")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "ideas.txt").write_text("more light")
    _run("compress", folder / "movie.npy", tmp_path / "notes", *KNOWN, "--overwrite")
    assert {path.name for path in (tmp_path / "notes").iterdir()} == {"ideas.txt", "movie.zarr"}
    (tmp_path / "file").touch()
    assert "not written by Zarr" in _error(
        "compress", folder / "movie.npy", tmp_path / "file", *KNOWN, "--overwrite", code=2
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--gain=90",), "--gain needs --zero-level"),
        (("--gain=90", "--zero-level=50", "--dark=dark.npy"), "leave one of them out"),
        (("--excess-noise=0.5",), "--excess-noise must be"),
        (("--chunks=100,256",), "--chunks must be three numbers"),
        (("--pyramid=2",), "belongs to --layout ome-zarr"),
        (("--gain=-3", "--zero-level=50"), "--gain must be a finite number > 0"),
        (("--gain=3", "--zero-level=50", "--beta=0"), "beta must be"),
    ],
)
def test_wrong_constants_are_one_line(
    options: tuple[str, ...], message: str, folder: Path, tmp_path: Path
) -> None:
    """Constants that are incomplete or out of range are named, with exit code 2."""
    assert message in _error(
        "compress", folder / "movie.npy", tmp_path / "out.zarr", NEWEST, *options, code=2
    )


def test_a_failed_verification_has_its_own_exit_code(
    folder: Path, tmp_path: Path, movie: NDArray[np.int16]
) -> None:
    """A source that is not what was stored gives exit code 1 and says where; in JSON too."""
    out = tmp_path / "movie.zarr"
    _run("compress", folder / "movie.npy", out, *KNOWN)
    other = movie.copy()
    other[10, 20, 30] += 2000
    np.save(tmp_path / "other.npy", other)
    assert "(10, 20, 30)" in _error("verify", out, "--against", tmp_path / "other.npy", code=1)
    result = _run("verify", out, "--against", tmp_path / "other.npy", "--json", code=1)
    assert _document(result.stdout)["index"] == [10, 20, 30]
    np.save(tmp_path / "short.npy", other[:5])
    assert "shape (5, 96, 96)" in _error("verify", out, "--against", tmp_path / "short.npy", code=2)
    assert "there is no stored movie" in _error(
        "verify", tmp_path / "absent.zarr", "--against", folder / "movie.npy", code=2
    )


def test_usage_mistakes_are_exit_code_2(folder: Path) -> None:
    """Unknown commands and options out of range are answered by the usage, with exit code 2."""
    assert "No such command" in _run("bogus", code=2).stderr
    assert "--zarr-format" in _run("compress", "a", "b", "--zarr-format=5", code=2).stderr
    assert "anscombe compress movie.tif OUT.zarr" in _error("compress", "movie.tif", code=2)
    assert "single OUT.zarr" in _error("verify", "a.zarr", "b.zarr", "--against", "c.tif", code=2)
    assert "single FILE" in _error("calibrate", "a.tif", "b.tif", "--plot", "c.png", code=2)


def test_a_traceback_is_there_for_who_asks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ANSCOMBE_TRACEBACK in the environment an error is raised as it is."""
    monkeypatch.setenv("ANSCOMBE_TRACEBACK", "1")
    with pytest.raises(FileNotFoundError):
        _run("calibrate", folder / "absent.tif")


# --- the program -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        ("compress --preset ", ["fast", "compact", "portable"]),
        ("watch --preset c", ["compact"]),
        ("compress --layout ", ["array", "ome-zarr"]),
        ("compress --zarr-format ", ["2", "3"]),
        ("compress --dtype ", ["float32"]),
        ("calibrate --noise ", ["time", "space"]),
        ("decompress --compression l", ["lzw", "lzf"]),
        ("decompress --format ", ["tiff", "hdf5", "npy", "raw"]),
        ("decide --presets fast,", ["fast,compact", "fast,portable"]),
    ],
)
def test_the_shell_completes_values(typed: str, values: list[str]) -> None:
    """Bash is offered the values of an option that begin with what is typed, also after a comma."""
    words = f"anscombe {typed}"
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")), "_ANSCOMBE_COMPLETE": "complete_bash"}
    assert CliRunner().invoke(app, prog_name="anscombe", env=asked).stdout.split() == values


@pytest.mark.parametrize(
    "command", ["demo", "calibrate", "compress", "info", "verify", "report", "bench", "decompress"]
)
def test_every_command_has_help_with_an_example(command: str) -> None:
    """The help of each command shows how it is used."""
    assert f"Example: anscombe {command}" in " ".join(_run(command, "--help").stdout.split())


def test_help_and_version() -> None:
    """The program lists its commands and exit codes, and tells its version."""
    text = _run("--help").stdout
    for part in ("demo", "calibrate", "compress", "info", "verify", "Exit codes"):
        assert part in text
    assert anscombe_transform.__version__ in _run("--version").stdout


def test_the_installed_program_keeps_its_streams_apart(folder: Path) -> None:
    """Run as a program, JSON goes to standard output, errors to standard error, and codes to the shell."""
    code = "from anscombe_transform.cli import main; main()"

    def program(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    good = program("calibrate", folder / "movie.tif", "--json")
    assert (good.returncode, good.stderr) == (0, "")
    assert _document(good.stdout)["verdict"] != "refused"
    bad = program("calibrate", folder / "absent.tif")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.count("\n") == 1


def test_without_its_extra_the_program_says_what_to_install() -> None:
    """Where typer is missing the program prints the pip command and exits with code 2."""
    code = "import sys; sys.modules['typer'] = None; from anscombe_transform.cli import main; main()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert 'pip install "anscombe-transform[cli]"' in result.stderr
    assert "Traceback" not in result.stderr


def test_report_writes_a_page(folder: Path, tmp_path: Path) -> None:
    """`report` writes a page and says where; an array without notes of ours is a mistake in one line."""
    pytest.importorskip("jinja2")
    _run("compress", folder / "movie.npy", tmp_path / "a.zarr", *KNOWN)
    page = tmp_path / "page.html"
    found = _document(_run("report", tmp_path / "a.zarr", "-o", page, "--json").stdout)
    assert found == {"report": str(page)}
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "no stored movie" in _error("report", tmp_path / "b.zarr", "-o", page, code=2)
