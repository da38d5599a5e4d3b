"""The deletion certificate: what it rests on, and everything that makes it say no."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray
from typer.testing import CliRunner

pytest.importorskip("jinja2")

from anscombe_transform import (
    Sensitivity,
    certificate,
    compress,
    compress_all,
    decide,
    simulate_movie,
    write_ome_zarr,
)
from anscombe_transform.cli import certificates  # noqa: F401  # its command
from anscombe_transform.cli.commands import app
from anscombe_transform.compression import describe
from anscombe_transform.compression.results import agreement_of, measured_bound
from anscombe_transform.diagnostics.certificate.certificate import Certificate

KNOWN = Sensitivity.from_known(conversion_gain=90, zero_level=50, read_noise=9)


@pytest.fixture(scope="module")
def movie() -> NDArray[np.int16]:
    """A movie that calibrates by itself."""
    found, _ = simulate_movie((60, 64, 64), conversion_gain=90, zero_level=50, read_noise=9, rng=0)
    return found


@pytest.fixture(scope="module")
def pair(movie: NDArray[np.int16], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recording and its array; not to be written to."""
    folder = tmp_path_factory.mktemp("pair")
    tifffile.imwrite(folder / "movie.tif", movie, photometric="minisblack")
    compress(folder / "movie.tif", folder / "movie.zarr")
    return folder


@pytest.fixture
def place(pair: Path, tmp_path: Path) -> Path:
    """A copy of the pair."""
    return Path(shutil.copytree(pair, tmp_path / "pair"))


def codes(found: Certificate) -> set[str]:
    """Codes of the reasons against deletion."""
    assert found.defensible == (not found.refusals)
    first = found.page.read_text(encoding="utf-8").partition("<h1>")[2].partition("</h1>")[0]
    assert str(found).startswith("Deleting" if found.defensible else "Do NOT delete")
    assert first.startswith("Deleting" if found.defensible else "Do NOT delete")
    assert all(finding.message and finding.remedy for finding in (*found.refusals, *found.cautions))
    return {finding.code for finding in found.refusals}


def described_bound(stored: Path) -> float:
    """The bound of a stored movie in measured noise, from what was noted when it was written."""
    record = describe(stored).provenance
    assert record is not None
    return measured_bound(record["bound"]["noise_std"], agreement_of(record))


def edit_record(array: Path, **changes: Any) -> None:
    """Change entries of the record of an array."""
    document = json.loads((array / "zarr.json").read_bytes())
    document["attributes"]["anscombe_transform"] |= changes
    (array / "zarr.json").write_text(json.dumps(document))


@pytest.mark.parametrize(
    "kind", ["v3", "v2", "sharded", "ome-v2", "ome-v3", "zip", "ome-zip", "hdf5", "plain.tif", "plain.h5"]
)
def test_deletion_can_be_defended(kind: str, pair: Path, tmp_path: Path) -> None:
    """A movie that was stored and compared gets a certificate beside it, whatever holds it."""
    source, options = pair / "movie.tif", {}
    name = {"hdf5": "a.h5", "zip": "a.zarr.zip", "ome-zip": "a.ome.zarr.zip"}.get(
        kind, kind if kind.startswith("plain") else "a.zarr"
    )
    if kind.endswith("zip"):
        folder = pair / "movie.zarr"
        if kind == "ome-zip":
            folder = tmp_path / "image.ome.zarr"
            write_ome_zarr(source, folder, pyramid=1)
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for file in sorted(path for path in folder.rglob("*") if path.is_file()):
                archive.write(file, file.relative_to(folder))
    elif kind.startswith("ome"):
        write_ome_zarr(source, tmp_path / name, pyramid=1, zarr_format=2 if kind.endswith("2") else 3)
    else:
        if kind == "sharded":
            options = {"shards": (60, 64, 64), "chunks": (30, 32, 32)}
        compress(
            source, tmp_path / name, zarr_format=2 if kind == "v2" else 3, plain="plain" in kind, **options
        )
    found = certificate(tmp_path / name, source)
    assert codes(found) == set()
    assert found.page == tmp_path / f"{name}.certificate.html"
    document = json.loads(found.file.read_bytes())
    assert document["version"] == 1
    assert document["comparison"]["compared"] == 60 * 64 * 64
    bound = document["comparison"]["bound_in_noise"]
    # One number, whoever says it: the record, info and the certificate.
    assert bound == pytest.approx(described_bound(tmp_path / name), rel=1e-9)
    assert 0 < bound < 0.5
    assert document["comparison"]["largest_error_in_noise"] <= document["comparison"]["bound_in_noise"]
    assert document["comparison"]["mean_shift"]
    assert document["source"]["files"] == [str(source)]
    assert document["source"]["checksum"]["now"] == document["source"]["checksum"]["when_written"]
    assert document["check_again"] == f"anscombe certificate {tmp_path / name} --against {source}"
    assert hashlib.sha256(found.file.read_bytes()).hexdigest() in found.page.read_text(encoding="utf-8")


def test_nothing_is_certified_without_a_comparison(place: Path) -> None:
    """Without the raw data the certificate says no, and replaces one that said yes."""
    assert certificate(place / "movie.zarr", place / "movie.tif").defensible
    found = certificate(place / "movie.zarr")
    assert codes(found) == {"not_compared"}
    assert not json.loads(found.file.read_bytes())["defensible"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"complete": False}, "incomplete"),
        ({"beta": 0.25}, "changed"),
        ({"checksums": None, "record_checksum": None}, "changed"),
    ],
)
def test_an_edited_record_is_refused(changes: dict[str, Any], expected: str, place: Path) -> None:
    """A record that was edited, or says that the array is not finished, is a reason against deletion."""
    edit_record(place / "movie.zarr", **changes)
    assert expected in codes(certificate(place / "movie.zarr", place / "movie.tif"))


@pytest.mark.parametrize("damage", ["overwrite", "remove"])
def test_a_damaged_chunk_is_refused(damage: str, place: Path) -> None:
    """A chunk that is lost or can't be decoded is a reason against deletion, and no exception."""
    chunk = place / "movie.zarr/c/0/0/0"
    chunk.unlink() if damage == "remove" else chunk.write_bytes(b"something else")
    assert codes(certificate(place / "movie.zarr", place / "movie.tif")) & {
        "damaged",
        "changed",
        "beyond_bound",
    }


def test_values_written_later_are_refused(place: Path) -> None:
    """Values within the bound that are not those that were written are found by their checksums."""
    array = zarr.open_array(place / "movie.zarr", mode="r+")
    block = array[:]
    array[:] = np.where(block == block.max(), block, np.roll(block, 0) + 0)  # the same values: no change
    assert codes(certificate(place / "movie.zarr", place / "movie.tif")) == set()
    array[3, 5, 7] = block[3, 5, 7] + 500
    assert "beyond_bound" in codes(certificate(place / "movie.zarr", place / "movie.tif"))


def test_an_array_without_checksums_is_refused(pair: Path, tmp_path: Path) -> None:
    """An array that was not verified when it was written, or not written by compress, is refused."""
    compress(pair / "movie.tif", tmp_path / "a.zarr", verify=False)
    assert "no_checksums" in codes(certificate(tmp_path / "a.zarr", pair / "movie.tif"))
    codec = KNOWN.codec(sample=tifffile.imread(pair / "movie.tif"))
    zarr.create_array(tmp_path / "b.zarr", data=tifffile.imread(pair / "movie.tif"), filters=[codec])
    found = codes(certificate(tmp_path / "b.zarr", pair / "movie.tif"))
    assert {"no_checksums", "unknown_source"} <= found
    zarr.create_array(tmp_path / "c.zarr", data=tifffile.imread(pair / "movie.tif"))
    assert "no_codec" in codes(certificate(tmp_path / "c.zarr", pair / "movie.tif"))


@pytest.mark.parametrize("change", ["one value", "length", "dtype"])
def test_another_recording_is_refused(change: str, place: Path, movie: NDArray[np.int16]) -> None:
    """A source that is not the one that was stored is refused, were it by one value within the bound."""
    other = movie.copy()
    if change == "one value":
        other[30, 20, 10] += 1
    other = {"length": other[:-1], "dtype": other.astype("float64")}.get(change, other)
    np.save(place / "other.npy", other)
    expected = {"one value": "other_source"}.get(change, "not_comparable")
    assert expected in codes(certificate(place / "movie.zarr", place / "other.npy"))


def test_the_array_is_no_proof_of_itself(place: Path) -> None:
    """The stored array, or what was decompressed from it, does not pass for the raw data."""
    found = codes(certificate(place / "movie.zarr", place / "movie.zarr"))
    assert {"same_place", "other_source"} <= found
    np.save(place / "decoded.npy", zarr.open_array(place / "movie.zarr", mode="r")[:])
    assert codes(certificate(place / "movie.zarr", place / "decoded.npy")) == {"other_source"}


def test_the_folder_of_the_raw_data(movie: NDArray[np.int16], tmp_path: Path) -> None:
    """Of a folder the files of frames are covered and others are named; an array in it would go with it."""
    raw = tmp_path / "raw"
    raw.mkdir()
    for number, frame in enumerate(movie):
        tifffile.imwrite(raw / f"frame{number:03}.tif", frame)
    (raw / "notes.txt").write_text("left eye")
    compress(raw, tmp_path / "a.zarr", sensitivity=KNOWN)
    found = certificate(tmp_path / "a.zarr", raw)
    assert codes(found) == set()
    assert "notes.txt" in str(found)
    assert len(found.document["source"]["files"]) == len(movie)
    shutil.move(tmp_path / "a.zarr", raw / "a.zarr")
    assert codes(certificate(raw / "a.zarr", raw)) == {"inside_source"}


def test_constants_that_contradict_are_refused(pair: Path, tmp_path: Path) -> None:
    """A mismatch that was accepted when the array was written is a reason against deletion."""
    wrong = Sensitivity.from_known(conversion_gain=900, zero_level=50)
    compress(pair / "movie.tif", tmp_path / "a.zarr", sensitivity=wrong, accept_mismatch=True)
    assert codes(certificate(tmp_path / "a.zarr", pair / "movie.tif")) == {"contradicts"}


def test_constants_that_nothing_checks_are_refused(movie: NDArray[np.int16], tmp_path: Path) -> None:
    """A single image shows no noise between frames, so that nothing says what its bound is worth."""
    tifffile.imwrite(tmp_path / "still.tif", np.repeat(movie[:1], 2, axis=0), photometric="minisblack")
    compress(tmp_path / "still.tif", tmp_path / "a.zarr", sensitivity=KNOWN, accept_mismatch=True)
    assert codes(certificate(tmp_path / "a.zarr", tmp_path / "still.tif")) & {"unchecked", "contradicts"}


def test_clipped_values_are_refused(pair: Path, tmp_path: Path) -> None:
    """Values that were clipped as asked are lost, and a reason against deletion."""
    compress(
        pair / "movie.tif", tmp_path / "a.zarr", sensitivity=KNOWN, zero_code=0, out_of_range="clip"
    )  # fmt: skip
    assert codes(certificate(tmp_path / "a.zarr", pair / "movie.tif")) == {"clipped"}


def test_one_of_several_channels_is_refused(movie: NDArray[np.int16], tmp_path: Path) -> None:
    """One channel of two is not all of the raw data."""
    both = np.stack([movie, movie[:, ::-1]], axis=1)
    tifffile.imwrite(tmp_path / "movie.ome.tif", both, metadata={"axes": "TCYX"}, ome=True)
    source = f"{tmp_path / 'movie.ome.tif'}::C=1"
    compress(source, tmp_path / "a.zarr", sensitivity=KNOWN)
    found = certificate(tmp_path / "a.zarr", source)
    assert codes(found) == {"part_of_source"}
    assert "1 more channel" in str(found)


@pytest.mark.parametrize("kind", ["h5", "npz", "zarr"])
def test_other_content_of_a_file_is_named(kind: str, movie: NDArray[np.int16], tmp_path: Path) -> None:
    """What else is in a file that would be deleted is named, and a reason against it."""
    source = tmp_path / f"raw.{kind}"
    if kind == "h5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(source, "w") as file:
            file["movie"], file["behaviour/speed"] = movie, np.arange(60.0)
    elif kind == "npz":
        np.savez(source, movie=movie, speed=np.arange(60.0))
    else:
        group = zarr.create_group(source)
        group.create_array("movie", data=movie)
        group.create_array("speed", data=np.arange(60.0))
    compress(source, tmp_path / "a.zarr", sensitivity=KNOWN)
    found = certificate(tmp_path / "a.zarr", source)
    assert codes(found) == {"part_of_source"}
    assert "speed" in found.refusals[0].message


def test_a_partial_recording_is_refused(place: Path) -> None:
    """What was stored of a recording that was cut short is no reason to delete it."""
    source = place / "movie.tif"
    pages = tifffile.imread(source)
    with tifffile.TiffWriter(source) as writer:
        for page in pages:
            writer.write(page, photometric="minisblack", contiguous=False, metadata=None)
    source.write_bytes(source.read_bytes()[: -source.stat().st_size // 3])
    compress(source, place / "b.zarr", partial=True, sensitivity=KNOWN)
    assert "partial" in codes(certificate(place / "b.zarr", source))


def test_given_constants_are_a_caution(pair: Path, tmp_path: Path) -> None:
    """Constants that were given and agree with the movie do not refuse a certificate."""
    compress(pair / "movie.tif", tmp_path / "a.zarr", sensitivity=KNOWN)
    found = certificate(tmp_path / "a.zarr", pair / "movie.tif")
    assert codes(found) == set()
    assert [finding.code for finding in found.cautions] == ["given"]
    assert "with cautions" in found.page.read_text(encoding="utf-8")


def test_an_array_in_memory_names_no_files(pair: Path, movie: NDArray[np.int16], tmp_path: Path) -> None:
    """Raw data given as an array are compared, with a caution; a store without a place needs `output`."""
    store = zarr.storage.MemoryStore()
    compress(movie, store)
    with pytest.raises(ValueError, match="--output"):
        certificate(store, movie)
    found = certificate(store, movie, output=tmp_path / "page.html")
    assert codes(found) == set()
    assert found.file == tmp_path / "page.json"
    assert [finding.code for finding in found.cautions] == ["no_files"]


def test_a_decision_is_part_of_it(place: Path, movie: NDArray[np.int16], tmp_path: Path) -> None:
    """Figures of `decide` for the step of the array are added; those of another movie or step are refused."""
    decision = decide(place / "movie.tif", betas=(0.5,), presets=("fast",))
    decision.save(place / "decision.json")
    for given in (decision, decision.to_dict(), place / "decision.json"):
        found = certificate(place / "movie.zarr", place / "movie.tif", decision=given)
        kinds = [change["kind"] for change in found.document["decision"]["changes"]]
        assert kinds == ["stored", "noise", "halves"]
    assert "cells F1" in found.page.read_text(encoding="utf-8")
    for wrong in (
        decision.to_dict() | {"shape": [60, 32, 32]},
        decision.to_dict() | {"changes": decision.to_dict()["changes"][2:]},
        {"nothing": 1},
    ):
        with pytest.raises(ValueError, match="anscombe decide"):
            certificate(place / "movie.zarr", place / "movie.tif", decision=wrong)


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen")
def test_it_is_signed_with_a_key_of_ones_own(place: Path) -> None:
    """The signature is one of OpenSSH under the JSON; a later certificate without a key has none."""
    key = place / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    found = certificate(place / "movie.zarr", place / "movie.tif", sign=key)
    assert found.signature is not None
    (place / "signers").write_text("me " + (place / "key.pub").read_text())
    check = ["ssh-keygen", "-Y", "verify", "-f", place / "signers", "-I", "me", "-n", "anscombe-certificate"]
    check += ["-s", found.signature]
    subprocess.run(check, input=found.file.read_bytes(), check=True, capture_output=True)
    edited = found.file.read_bytes().replace(b"60", b"61")
    assert subprocess.run(check, input=edited, check=False, capture_output=True).returncode != 0
    assert certificate(place / "movie.zarr", place / "movie.tif").signature is None
    assert not found.signature.exists()
    with pytest.raises(ValueError, match="private"):
        certificate(place / "movie.zarr", place / "movie.tif", sign=place / "key.pub")
    with pytest.raises(FileNotFoundError, match="ssh-keygen"):
        certificate(place / "movie.zarr", place / "movie.tif", sign=place / "no_key")


def run(*arguments: object) -> tuple[int, str, str]:
    """Exit code, output and errors of the command line."""
    done = CliRunner().invoke(app, ["certificate", *map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


def test_the_exit_code_is_0_only_where_deletion_can_be_defended(place: Path) -> None:
    """The command exits with 0, 1 or 2, and says "Do NOT delete" first unless with 0."""
    array, source = place / "movie.zarr", place / "movie.tif"
    code, out, _ = run(array, "--against", source)
    assert code == 0
    assert out.startswith("Deleting movie.tif can be defended")
    code, out, _ = run(array)
    assert code == 1
    assert out.startswith("Do NOT delete movie.tif")
    code, out, _ = run(array, "--json")
    assert code == 1
    assert json.loads(out)["defensible"] is False
    for wrong in ([place / "no.zarr", "--against", source], [array, "--against", place / "no.tif"]):
        code, out, errors = run(*wrong)
        assert code == 2
        assert errors.startswith("error: Do NOT delete")


def test_a_folder_of_arrays_is_certified_one_by_one(pair: Path, tmp_path: Path) -> None:
    """Every recording of a folder is paired with its array, and one without an array is named."""
    night, archive = tmp_path / "night", tmp_path / "archive"
    (night / "sub").mkdir(parents=True)
    shutil.copy(pair / "movie.tif", night / "a.tif")
    shutil.copy(pair / "movie.tif", night / "sub" / "b.tif")
    compress_all([night], archive)
    code, out, _ = run(archive, "--against", night)
    assert code == 0
    assert (archive / "sub/b.zarr.certificate.html").exists()
    shutil.copy(pair / "movie.tif", night / "c.tif")
    code, out, errors = run(archive, "--against", night, "--json")
    assert code == 4
    assert "Do NOT delete" in errors
    assert "c.zarr" in errors
    assert len(json.loads(out)) == 2
    code, _, errors = run(archive)
    assert code == 2
    assert "--against" in errors
