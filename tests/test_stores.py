"""Movies in object stores: written, interrupted, resumed and verified like those in a folder."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from anscombe_transform.calibration import Sensitivity
from anscombe_transform.compression import compress, describe, verify
from anscombe_transform.compression.stored.keys import keys_beside

zarr = pytest.importorskip("zarr", minversion="3.0.8")

KNOWN = Sensitivity.from_known(conversion_gain=90.0, zero_level=50.0)
BUCKET = "microscope"
KEYS = {"key": "testing", "secret": "testing"}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """Address of a server on this machine that speaks S3, with one bucket."""
    server_module = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=KEYS["key"],
        aws_secret_access_key=KEYS["secret"],
    ).create_bucket(Bucket=BUCKET)
    yield url
    server.stop()


def _stop_after(frames: int):
    def progress(done: int, total: int, stage: str) -> None:
        if stage.startswith("write") and done >= frames:
            raise KeyboardInterrupt

    return progress


def _check(movie: NDArray[np.int16], store, **given) -> None:
    """Write half, find it incomplete, resume, read, verify both ways."""
    options = {"sensitivity": KNOWN, "chunks": (8, 24, 24), "threads": 1} | given
    kept = {name: given[name] for name in ("storage_options",) if name in given}
    with pytest.raises(KeyboardInterrupt):
        compress(movie, store, progress=_stop_after(16), **options)
    with pytest.raises(FileExistsError, match="interrupted run"):
        compress(movie, store, **options)
    with pytest.raises(ValueError, match="source sample_checksum was"):
        compress(movie[::-1], store, resume=True, **options)
    begun: list[int] = []
    result = compress(movie, store, resume=True, progress=_first_written(begun), **options)
    assert begun[0] == 16
    assert result.verification is not None
    assert result.verification.ok
    assert verify(store, **kept).against == "checksums"
    assert verify(store, **kept).ok
    assert verify(store, movie, **kept).ok
    with pytest.raises(FileExistsError, match="data already"):
        compress(movie, store, **options)


def _first_written(begun: list[int]):
    def progress(done: int, total: int, stage: str) -> None:
        if stage.startswith("write"):
            begun.append(done)

    return progress


@pytest.mark.usefixtures("small_blocks")
def test_a_store_of_zarr_in_memory(movie: NDArray[np.int16]) -> None:
    """A store that is no folder holds the array at its place; at the end its journal is gone."""
    store = zarr.storage.MemoryStore()
    _check(movie, store)
    assert not [key for key in store._store_dict if ".anscombe" in key]
    assert describe(store).complete


@pytest.mark.usefixtures("small_blocks")
def test_fsspec_writes_to_s3(movie: NDArray[np.int16], endpoint: str) -> None:
    """A URL with its storage options is written, resumed and verified."""
    pytest.importorskip("s3fs")
    options = {"endpoint_url": endpoint, "client_kwargs": {"region_name": "us-east-1"}, **KEYS}
    _check(movie, f"s3://{BUCKET}/fsspec/movie.zarr", storage_options=options)


@pytest.mark.usefixtures("small_blocks")
def test_obstore_writes_to_s3(movie: NDArray[np.int16], endpoint: str) -> None:
    """A store of obstore is taken as it is."""
    obstore = pytest.importorskip("obstore")
    store = obstore.store.S3Store(
        BUCKET,
        prefix="obstore/movie.zarr",
        endpoint=endpoint,
        region="us-east-1",
        access_key_id=KEYS["key"],
        secret_access_key=KEYS["secret"],
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    _check(movie, store)


def test_icechunk_commits_a_movie(movie: NDArray[np.int16]) -> None:
    """A transaction of Icechunk holds the array once it is committed; resuming is refused with the reason."""
    icechunk = pytest.importorskip("icechunk", reason="icechunk is not installed")
    repository = icechunk.Repository.create(icechunk.in_memory_storage())
    session = repository.writable_session("main")
    options = {"sensitivity": KNOWN, "chunks": (8, 24, 24)}
    assert compress(movie, session.store, **options).verification.ok
    session.commit("the movie")
    assert verify(repository.readonly_session("main").store, movie).ok
    with pytest.raises(ValueError, match="transaction"):
        compress(movie, repository.writable_session("main").store, resume=True, **options)


# --- one writer -----------------------------------------------------------------------------------------

OPTIONS = {"sensitivity": KNOWN, "chunks": (8, 24, 24)}


@pytest.mark.usefixtures("small_blocks")
def test_one_of_two_that_begin_together_says_verified(rng: np.random.Generator) -> None:
    """Of two runs without overwrite exactly one ends verified, and the array is the one that it verified."""
    for _ in range(20):
        store = zarr.storage.MemoryStore()
        movies = [(50 + 90 * rng.poisson(8, (24, 24, 24))).astype(np.int16) for _ in range(2)]
        together = threading.Barrier(2)

        def run(
            movie: NDArray[np.int16], store: object = store, together: threading.Barrier = together
        ) -> bool:
            together.wait()
            try:
                return bool(compress(movie, store, **OPTIONS, threads=1).verification.ok)
            except FileExistsError:
                return False

        with ThreadPoolExecutor(2) as pool:
            verified = list(pool.map(run, movies))
        assert sum(verified) == 1
        assert verify(store, movies[verified.index(True)]).ok


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("threads", [1, 3])
def test_a_run_stops_when_another_takes_over(movie: NDArray[np.int16], threads: int) -> None:
    """A run whose array is overwritten meanwhile ends with an error, and harms nothing of the new one."""
    store = zarr.storage.MemoryStore()
    other = movie[::-1].copy()

    def take_over(done: int, total: int, stage: str) -> None:
        if stage.startswith("write") and done == 16:
            assert compress(other, store, **OPTIONS, overwrite=True).verification.ok

    with pytest.raises(FileExistsError, match="another run has taken over"):
        compress(movie, store, **OPTIONS, threads=threads, progress=take_over)
    assert verify(store, other).ok
    assert verify(store).ok
    assert not [key for key in store._store_dict if ".anscombe" in key]


@pytest.mark.usefixtures("small_blocks")
def test_a_late_block_of_the_run_before_is_written_again(movie: NDArray[np.int16]) -> None:
    """What a run that was overwritten still writes is found at the end, and replaced."""
    store = zarr.storage.MemoryStore()
    with pytest.raises(KeyboardInterrupt):
        compress(movie, store, **OPTIONS, progress=_stop_after(8))
    keys_beside(store, None).put("writer", b'{"run": "that is still alive"}')

    def write_late(done: int, total: int, stage: str) -> None:
        if stage.startswith("write") and done == total and not late:
            late.append(done)
            zarr.open_array(store, mode="r+")[:8] = movie[:8]

    late: list[int] = []
    other = movie[::-1].copy()
    compress(other, store, **OPTIONS, overwrite=True, progress=write_late)
    assert late
    assert verify(store, other).ok


@pytest.mark.usefixtures("small_blocks")
def test_a_killed_run_is_gone_on_with_when_told_so(movie: NDArray[np.int16]) -> None:
    """The document of a run that was killed keeps others away that were not told to go on."""
    store = zarr.storage.MemoryStore()
    keys_beside(store, None).put("writer", b'{"run": "killed"}')
    with pytest.raises(FileExistsError, match=r"another run is writing .*, or was killed"):
        compress(movie, store, **OPTIONS)
    assert compress(movie, store, **OPTIONS, resume=True).verification.ok
    assert not [key for key in store._store_dict if ".anscombe" in key]


@pytest.mark.parametrize("room", ["false", "true"])
def test_an_array_of_others_is_kept_unless_its_place_was_cleared(
    room: str, movie: NDArray[np.int16], tmp_path: Path
) -> None:
    """Resuming begins again on an array without notes only where the run before had made room for it."""
    store = zarr.storage.LocalStore(tmp_path / "movie.zarr")
    zarr.create_array(store, data=movie)
    keys_beside(store, None).put("writer", b'{"run": "killed", "room": %s}' % room.encode())
    if room == "true":
        assert compress(movie, store, **OPTIONS, resume=True).verification.ok
        return
    with pytest.raises(ValueError, match="was not written by compress"):
        compress(movie, store, **OPTIONS, resume=True)
    assert (zarr.open_array(store, mode="r")[:] == movie).all()


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_overwriting_deletes_the_array_alone(
    movie: NDArray[np.int16], tmp_path: Path, zarr_format: int
) -> None:
    """Files of others in the folder of a store stay, whether or not an array is replaced."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "mine.txt").write_text("mine")
    (tmp_path / "notes.txt").write_text("mine")
    store = zarr.storage.LocalStore(tmp_path)
    compress(movie, store, **OPTIONS, zarr_format=zarr_format)
    compress(movie[::-1], store, **OPTIONS, zarr_format=zarr_format, overwrite=True)
    assert verify(tmp_path, movie[::-1]).ok
    assert (tmp_path / "code" / "mine.txt").read_text() == (tmp_path / "notes.txt").read_text() == "mine"


def test_a_group_is_no_array_to_overwrite(movie: NDArray[np.int16]) -> None:
    """A group in a store, with whatever it holds, is kept even when overwriting was asked for."""
    store = zarr.storage.MemoryStore()
    zarr.create_group(store).create_array("kept", data=movie)
    with pytest.raises(FileExistsError, match="group"):
        compress(movie, store, **OPTIONS, overwrite=True)
    assert (zarr.open_group(store, mode="r")["kept"][:] == movie).all()


@pytest.mark.usefixtures("small_blocks")
def test_a_store_in_a_folder_is_gone_on_with_by_its_path(movie: NDArray[np.int16], tmp_path: Path) -> None:
    """An interrupted run of a folder that was given as a store is no finished array."""
    path = tmp_path / "movie.zarr"
    with pytest.raises(KeyboardInterrupt):
        compress(movie, zarr.storage.LocalStore(path), **OPTIONS, threads=1, progress=_stop_after(16))
    with pytest.raises(FileExistsError, match="exists already"):
        compress(movie, path, **OPTIONS)
    begun: list[int] = []
    compress(movie, path, **OPTIONS, resume=True, progress=_first_written(begun))
    assert begun[0] == 16
    assert verify(path, movie).ok
