"""Movies in object stores: written, interrupted, resumed and verified like those in a folder."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from anscombe_transform.calibration import Sensitivity
from anscombe_transform.compression import compress, describe, verify
from anscombe_transform.compression import layout as layouts

zarr = pytest.importorskip("zarr", minversion="3.0.8")

KNOWN = Sensitivity.from_known(conversion_gain=90.0, zero_level=50.0)
BUCKET = "microscope"
KEYS = {"key": "testing", "secret": "testing"}


@pytest.fixture
def movie(rng: np.random.Generator) -> NDArray[np.int16]:
    """A small movie of five chunks."""
    return (50 + 90 * rng.poisson(8, (40, 24, 24))).astype(np.int16)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of one chunk each, so that a small movie has several."""
    monkeypatch.setattr(layouts, "BLOCK_BYTES", 1)


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
