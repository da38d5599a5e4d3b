"""Jobs that write parts of one array without a scheduler, and the last one, which proves the whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr.storage
from numpy.typing import NDArray
from typer.testing import CliRunner

from anscombe_transform import Sensitivity, compress, simulate_movie, verify
from anscombe_transform.codec import UnrepresentableError
from anscombe_transform.compression.blocks.layout import Layout
from anscombe_transform.compression.results import CompressionResult
from anscombe_transform.compression.stored.destination import Folder

KNOWN = Sensitivity.from_known(conversion_gain=20.0, zero_level=100.0)
OPTIONS: dict[str, Any] = {"chunks": (8, 32, 32), "threads": 1, "client": False}
COUNT = 3

pytestmark = pytest.mark.usefixtures("small_blocks")


@pytest.fixture(scope="module")
def movie() -> NDArray[np.int16]:
    """Eighty frames, in ten blocks when these are small."""
    return simulate_movie((80, 64, 64), conversion_gain=20.0, zero_level=100.0, rng=0)[0]


def _part(movie: Any, path: Path, number: int, count: int = COUNT, **options: Any) -> CompressionResult:
    return compress(movie, path, part=(number, count), **(OPTIONS | options))


def _contents(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and file.name not in ("zarr.json", ".zattrs")
    }


@pytest.mark.parametrize("blocks", [1, 2, 3, 10, 11])
@pytest.mark.parametrize("count", [1, 2, 3, 12])
def test_parts_are_every_block_once(blocks: int, count: int) -> None:
    """Parts are disjoint and cover the movie, and their numbers of blocks differ by at most one."""
    layout = Layout((8 * blocks, 4, 4), (8, 4, 4), None, 8, 4)
    parts = [layout.part(number, count) for number in range(1, count + 1)]
    assert [span for part in parts for span in part] == layout.spans
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(
    "options", [{}, {"shards": (8, 64, 64)}, {"zarr_format": 2}, {"sensitivity": KNOWN}], ids=str
)
def test_parts_in_any_order_make_the_array_of_one_job(
    options: dict[str, Any], movie: NDArray[np.int16], tmp_path: Path
) -> None:
    """The chunks are those of a run in one job, and the record is complete and verified."""
    path = tmp_path / "movie.zarr"
    for number in (3, 1, 2):
        result = _part(movie, path, number, **options)
        assert result.part == (number, COUNT)
        assert result.verification is not None
        assert result.verification.ok
        assert "NOT FINISHED" in str(result)
        assert not path.exists()
    whole = compress(movie, path, resume=True, **(OPTIONS | options))
    assert whole.part is None
    assert whole.verification is not None
    assert whole.verification.compared == movie.size
    assert verify(path, movie).ok
    alone = compress(movie, tmp_path / "alone.zarr", **(OPTIONS | options))
    assert np.array_equal(whole.array[:], alone.array[:])
    assert [entry.name for entry in tmp_path.iterdir() if ".partial" in entry.name] == []
    # A job that is repeated once all is finished compares, and changes nothing.
    before = _contents(path)
    assert _part(movie, path, 2, **options).part is None
    assert _contents(path) == before


def test_a_part_without_a_block_does_nothing(movie: NDArray[np.int16], tmp_path: Path) -> None:
    """With more parts than blocks some have none, and the whole is finished all the same."""
    path = tmp_path / "movie.zarr"
    results = [_part(movie, path, number, 12) for number in range(1, 13)]
    assert sum(result.raw_bytes == 0 for result in results) == 2
    assert compress(movie, path, resume=True, **OPTIONS).verification.compared == movie.size  # type: ignore[union-attr]


def test_missing_parts_are_named(movie: NDArray[np.int16], tmp_path: Path) -> None:
    """The last job refuses to finish, and to write what other jobs may be about to write."""
    path = tmp_path / "movie.zarr"
    _part(movie, path, 2)
    before = _contents(tmp_path)
    with pytest.raises(ValueError, match=r"of these 1, 3 are not finished.*--part 1/3"):
        compress(movie, path, resume=True, **OPTIONS)
    assert {name: _contents(tmp_path)[name] for name in before} == before
    with pytest.raises(FileExistsError, match="interrupted run"):
        compress(movie, path, **OPTIONS)


def test_a_part_is_repeated_and_goes_on_after_a_kill(
    movie: NDArray[np.int16], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same call writes what is missing or damaged of its part, and leaves the others alone."""
    path = tmp_path / "movie.zarr"

    class Killed(BaseException):
        pass

    def stop(done: int, total: int, stage: str) -> None:
        if stage.startswith("write") and done >= 16:
            raise Killed

    with pytest.raises(Killed):
        _part(movie, path, 1, progress=stop)
    _part(movie, path, 3)
    with pytest.raises(ValueError, match="of these 1, 2 are not finished"):
        compress(movie, path, resume=True, **OPTIONS)
    begun: list[int] = []

    def note(done: int, total: int, stage: str) -> None:
        if stage.startswith("write"):
            begun.append(done)

    _part(movie, path, 1, progress=note)
    assert begun[0] == 16
    chunk = tmp_path / "movie.zarr.partial" / "array" / "c" / "9" / "0" / "0"
    chunk.write_bytes(b"damaged")
    _part(movie, path, 3)
    _part(movie, path, 2)
    assert verify(compress(movie, path, resume=True, **OPTIONS).array, movie).ok


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"beta": 0.25}, "beta"),
        ({"part": (1, 4)}, "parts"),
        ({"sensitivity": KNOWN}, "sensitivity"),
        ({"preset": "compact"}, "preset"),
    ],
)
def test_jobs_with_other_options_are_refused(
    options: dict[str, Any], named: str, movie: NDArray[np.int16], tmp_path: Path
) -> None:
    """The options of all jobs, and their number, are those of the first; the last one too."""
    path = tmp_path / "movie.zarr"
    _part(movie, path, 2)
    with pytest.raises(ValueError, match=rf"begun by another job: {named} was"):
        compress(movie, path, **(OPTIONS | {"part": (1, COUNT)} | options))
    for number in (1, 3):
        _part(movie, path, number)
    if "part" not in options:
        with pytest.raises(ValueError, match=rf"{named} was"):
            compress(movie, path, resume=True, **(OPTIONS | options))
    assert compress(movie, path, resume=True, **OPTIONS).verification.ok  # type: ignore[union-attr]


def test_another_recording_is_refused(movie: NDArray[np.int16], tmp_path: Path) -> None:
    """Every job, and the last one, compares a sample of its source with that of the first."""
    path = tmp_path / "movie.zarr"
    _part(movie, path, 1)
    other = movie[::-1].copy()
    with pytest.raises(ValueError, match="another recording"):
        _part(other, path, 2)
    for number in (2, 3):
        _part(movie, path, number)
    with pytest.raises(ValueError, match="another recording"):
        compress(other, path, resume=True, **OPTIONS)


def test_a_part_that_is_being_written_keeps_others_away(movie: NDArray[np.int16], tmp_path: Path) -> None:
    """The same part in another process, and the last job, are refused until it has ended."""
    path = tmp_path / "movie.zarr"
    for number in (1, 2, 3):
        _part(movie, path, number)
    lock = Folder(path).lock_part(2, COUNT)
    with pytest.raises(FileExistsError, match="part 2/3"):
        _part(movie, path, 2)
    with pytest.raises(FileExistsError, match="part 2/3"):
        compress(movie, path, resume=True, **OPTIONS)
    lock.release()
    assert compress(movie, path, resume=True, **OPTIONS).verification.ok  # type: ignore[union-attr]


JOB = """
import sys
from anscombe_transform import compress
from anscombe_transform.compression.blocks import layout
layout.BLOCK_BYTES = 8 * 64 * 64 * 2
source, path, number, count = sys.argv[1:]
compress(source, path, part=(int(number), int(count)), chunks=(8, 32, 32), threads=1, client=False)
"""


def test_jobs_that_begin_at_once_agree(movie: NDArray[np.int16], tmp_path: Path) -> None:
    """One of them calibrates and begins the array, the others wait for it."""
    source, path = tmp_path / "movie.npy", tmp_path / "movie.zarr"
    np.save(source, movie)
    arguments = [sys.executable, "-c", JOB, str(source), str(path)]
    jobs = [subprocess.Popen([*arguments, str(number), str(COUNT)]) for number in range(1, COUNT + 1)]
    assert [job.wait() for job in jobs] == [0] * COUNT
    assert verify(compress(source, path, resume=True, **OPTIONS).array, movie).ok


@pytest.mark.usefixtures("sparse_sample")
def test_a_value_without_a_code_says_that_parts_cannot_go_on(
    movie: NDArray[np.int16], tmp_path: Path
) -> None:
    """The array can't be begun again by one of several jobs; a run in one job does."""
    path, rare = tmp_path / "movie.zarr", movie.copy()
    rare[75, 5, 5] = -32000
    _part(rare, path, 1, sensitivity=KNOWN)
    with pytest.raises(UnrepresentableError) as caught:
        _part(rare, path, 3, sensitivity=KNOWN)
    assert "leave part" in "".join(caught.value.__notes__)
    assert path.with_name("movie.zarr.partial").exists()


@pytest.mark.usefixtures("sparse_sample")
def test_bright_values_that_the_sample_lacks_have_codes(movie: NDArray[np.int16], tmp_path: Path) -> None:
    """The codec of parts holds values up to the largest of the type, where that needs no wider codes."""
    path, rare = tmp_path / "movie.zarr", movie.copy()
    rare[75, 5, 5] = 32767
    for number in (1, 2, 3):
        _part(rare, path, number, sensitivity=KNOWN)
    assert verify(compress(rare, path, resume=True, **(OPTIONS | {"sensitivity": KNOWN})).array, rare).ok


@pytest.mark.parametrize("part", [(0, 3), (4, 3), (1,), "1/3", 2, (1.5, 3)])
def test_a_part_that_is_none_is_refused(part: Any, movie: NDArray[np.int16], tmp_path: Path) -> None:
    """The error says how a part is written."""
    with pytest.raises(ValueError, match=r"--part 2/8"):
        compress(movie, tmp_path / "movie.zarr", part=part)


def test_parts_are_refused_where_they_cannot_be_shared(movie: NDArray[np.int16], tmp_path: Path) -> None:
    """Stores without locks, single files, and options that other jobs would undo."""
    with pytest.raises(ValueError, match="Dask cluster"):
        compress(movie, zarr.storage.MemoryStore(), part=(1, 2))
    with pytest.raises(ValueError, match="Dask cluster"):
        compress(movie, tmp_path / "movie.h5", part=(1, 2))
    with pytest.raises(ValueError, match="plain"):
        compress(movie, tmp_path / "movie.tif", part=(1, 2), plain=True)
    for option in ("overwrite", "resume"):
        with pytest.raises(ValueError, match="replaces nothing"):
            _part(movie, tmp_path / "movie.zarr", 1, **{option: True})


def test_the_command_line_writes_parts(movie: NDArray[np.int16], tmp_path: Path) -> None:
    """``--part K/N`` for every job, ``--resume`` for the last."""
    from anscombe_transform.cli.commands import app

    source, path, run = tmp_path / "movie.npy", tmp_path / "movie.zarr", CliRunner().invoke
    np.save(source, movie)
    for part in ("2/2", "1/2"):
        found = run(app, ["compress", str(source), str(path), "--part", part])
        assert found.exit_code == 0, found.output
        assert "NOT FINISHED" in found.output
    assert run(app, ["compress", str(source), str(path), "--resume"]).exit_code == 0
    assert verify(path, movie).ok
    assert run(app, ["compress", str(source), str(path), "--part", "3/2"]).exit_code == 2
