"""Past one machine: blocks on the workers of a Dask cluster, of which one is lost in the middle."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from anscombe_transform.calibration import Sensitivity
from anscombe_transform.compression import VerificationError, compress, verify

zarr = pytest.importorskip("zarr")
distributed = pytest.importorskip("distributed")
NEWEST = 3 if hasattr(zarr, "create_array") else 2
KNOWN = Sensitivity.from_known(conversion_gain=90.0, zero_level=50.0)
OPTIONS = {"sensitivity": KNOWN, "chunks": (4, 24, 24), "zarr_format": NEWEST}

pytestmark = pytest.mark.usefixtures("small_blocks")


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """A cluster of two worker processes with one thread each; a lost one is started again."""
    settings = {"distributed.worker.daemon": False, "distributed.scheduler.allowed-failures": 10}
    import dask

    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as connected,
    ):
        yield connected


@pytest.fixture
def movie(rng: np.random.Generator) -> NDArray[np.int16]:
    """A small movie of twelve chunks."""
    return (50 + 90 * rng.poisson(8, (48, 24, 24))).astype(np.int16)


def _chunks(path: Path) -> dict[str, bytes]:
    return {
        p.relative_to(path).as_posix(): p.read_bytes()
        for p in path.rglob("*")
        if p.is_file() and not p.name.startswith((".z", "zarr"))
    }


def test_dask_arrays_and_arrays_in_memory(client: Any, tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """Parts of a dask array are computed on the workers, other arrays are sent: the same numbers."""
    array = pytest.importorskip("dask.array")
    compress(movie, tmp_path / "here.zarr", **OPTIONS, client=False)
    expected = _chunks(tmp_path / "here.zarr")
    for name, source in (("dask", array.from_array(movie, chunks=(7, 24, 12))), ("numpy", movie)):
        assert compress(source, tmp_path / f"{name}.zarr", **OPTIONS, client=client).verification.ok
        assert _chunks(tmp_path / f"{name}.zarr") == expected


def test_a_run_on_a_cluster_is_resumed(client: Any, tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """When the process that waits for the cluster is interrupted, another one goes on, here or there."""
    np.save(tmp_path / "movie.npy", movie)
    path = tmp_path / "movie.zarr"

    def interrupt(done: int, total: int, stage: str) -> None:
        if stage.startswith("write") and done >= 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compress(tmp_path / "movie.npy", path, **OPTIONS, progress=interrupt)
    assert compress(tmp_path / "movie.npy", path, **OPTIONS, resume=True, client=False).verification.ok
    assert verify(path, movie).ok


@pytest.mark.usefixtures("sparse_sample")
def test_a_value_without_a_code_begins_again_on_the_cluster(
    client: Any, tmp_path: Path, movie: NDArray[np.int16], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal of one worker leads to a codec that holds the value, and not to trying it again."""
    movie[21, 3, 4] = -3000
    result = compress(movie, tmp_path / "movie.zarr", **OPTIONS)
    assert verify(result.path, movie).ok


def test_a_store_in_memory_stays_here(client: Any, movie: NDArray[np.int16]) -> None:
    """What no worker can see is written by this process."""
    store: dict = {}
    assert compress(movie, store, **OPTIONS).verification.ok


# Last, since a new worker takes its time to begin.
def test_a_worker_is_killed_in_the_middle(client: Any, tmp_path: Path, movie: NDArray[np.int16]) -> None:
    """A file is written on two workers, one is killed, and the array is that of this process alone."""
    np.save(tmp_path / "movie.npy", movie)
    here, there = tmp_path / "here.zarr", tmp_path / "there.zarr"
    compress(tmp_path / "movie.npy", here, **OPTIONS, client=False)
    killed: list[int] = []

    def kill(done: int, total: int, stage: str) -> None:
        if stage.startswith("write") and done >= 12 and not killed:
            killed.append(next(iter(client.run(os.getpid).values())))
            os.kill(killed[0], signal.SIGKILL)

    result = compress(tmp_path / "movie.npy", there, **OPTIONS, progress=kill)
    assert killed
    assert result.verification.ok
    assert _chunks(there) == _chunks(here)
    assert {p.name for p in tmp_path.iterdir()} == {"movie.npy", "here.zarr", "there.zarr"}
    assert verify(there).ok


@pytest.mark.parametrize("source", ["path", "dask", "numpy", "checksums"])
def test_a_cluster_compares_what_this_process_would(
    client: Any, tmp_path: Path, movie: NDArray[np.int16], monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    """`verify` finds the same on the workers as here, whatever the values are compared with."""
    path = tmp_path / "a.zarr"
    compress(movie, path, client=False, **OPTIONS)
    changed = movie.copy()
    changed[17, 3, 5] += 900
    changed[41, 0, 0] += 900
    np.save(tmp_path / "changed.npy", changed)
    if source == "checksums":
        zarr.open(str(path), mode="r+")[17, 3, 5] = 1850
        against = None
    elif source == "dask":
        against = pytest.importorskip("dask.array").from_array(changed, chunks=(7, 24, 24))
    else:
        against = {"path": tmp_path / "changed.npy", "numpy": changed}[source]
    expected = verify(path, against, client=False)
    assert not expected.ok
    heard: list[int] = []
    monkeypatch.setattr("anscombe_transform.compression.blocks.workers.finished", None)
    assert verify(path, against, progress=lambda done, total, stage: heard.append(done)) == expected
    assert heard[-1] == 48


def test_a_chunk_that_workers_cannot_read_is_told(
    client: Any, tmp_path: Path, movie: NDArray[np.int16]
) -> None:
    """A damaged chunk stops the comparison on a cluster with the error of one process."""
    path = tmp_path / "a.zarr"
    compress(movie, path, **OPTIONS)
    chunks = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith((".z", "zarr")))
    chunks[5].write_bytes(b"something else")
    with pytest.raises(VerificationError) as here:
        verify(path, movie, client=False)
    with pytest.raises(VerificationError) as there:
        verify(path, movie)
    assert str(there.value) == str(here.value)


@pytest.mark.parametrize("given", [KNOWN, None], ids=["given constants", "measured constants"])
def test_frames_of_a_dask_array_stay_on_the_cluster(
    client: Any, tmp_path: Path, given: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums of the calibration, sample, agreement and blocks are done by workers: here no block is read."""
    array = pytest.importorskip("dask.array")
    log = tmp_path / "processes"
    log.mkdir()
    scene = np.linspace(2, 30, 48)[:, None] * np.ones((48, 48))

    def part(block_info: Any = None) -> NDArray[np.int16]:
        frames = block_info[None]["array-location"][0]
        (log / str(os.getpid())).touch()
        rng = np.random.default_rng(frames[0])
        return (50 + 90 * rng.poisson(scene, (frames[1] - frames[0], 48, 48))).astype("int16")

    movie = array.map_blocks(
        part, chunks=((10,) * 12, (48,), (48,)), dtype="int16", meta=np.empty((0, 0, 0), "int16")
    )
    options = OPTIONS | {"sensitivity": given, "chunks": (20, 48, 48)}
    from anscombe_transform.movies import Movie

    asked: list[Any] = []
    real_frames = Movie.frames
    monkeypatch.setattr(
        Movie,
        "frames",
        lambda self, start, stop: asked.append((start, stop)) or real_frames(self, start, stop),
    )
    assert compress(movie, tmp_path / "m.zarr", **options, client=client).verification.ok
    computed = {int(path.name) for path in log.iterdir()}
    assert computed
    assert os.getpid() not in computed
    assert not asked
