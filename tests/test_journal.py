"""The journal of finished blocks: what is appended is found again, a torn line costs its block alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import zarr.storage

from anscombe_transform.compression.blocks.sampling import Extent
from anscombe_transform.compression.stored import keys as keys_module
from anscombe_transform.compression.stored.journal import Journal, Record
from anscombe_transform.compression.stored.keys import FolderKeys, Keys, StoreKeys


def _record(start: int) -> Record:
    return Record(start, start + 8, tuple(range(start, start + 8)), (start,), Extent(0, 9, False), None)


@pytest.fixture(params=["folder", "store"])
def keys(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keys:
    """Documents in a folder, and in a store that has no appending."""
    monkeypatch.setattr(keys_module, "_LONGEST", 2000)
    if request.param == "folder":
        return FolderKeys(tmp_path / "journal")
    return StoreKeys(zarr.storage.MemoryStore(), "movie")


def test_records_of_several_jobs_are_found_in_order(keys: Keys) -> None:
    """Each job adds to documents of its own; nothing is left when the journal is removed."""
    journals = [Journal(keys, f"-{part}-of-3") for part in (1, 2, 3)]
    for start in range(0, 480, 8):
        journals[start // 8 % 3].add(_record(start))
    assert Journal(keys).records() == [_record(start) for start in range(0, 480, 8)]
    assert len(keys.names()) < 60
    Journal(keys).remove()
    assert keys.names() == []


def test_a_store_is_appended_to_by_the_run_that_goes_on() -> None:
    """Another run finds the last document, and keeps what it holds."""
    store = zarr.storage.MemoryStore()
    for start in range(0, 80, 8):
        Journal(StoreKeys(store, "")).add(_record(start))
    assert len(Journal(StoreKeys(store, "")).records()) == 10


@pytest.mark.parametrize("end", [1, 2, 10, 60])
def test_a_torn_line_costs_its_block_alone(end: int, tmp_path: Path) -> None:
    """What a cut left of the last line is passed over, and the next one begins behind it."""
    keys = FolderKeys(tmp_path)
    for start in (0, 8, 16):
        Journal(keys).add(_record(start))
    path = tmp_path / "blocks.json"
    path.write_bytes(path.read_bytes()[:-end])
    Journal(keys).add(_record(24))
    # Without its end a line is whole still.
    lost = [] if end == 1 else [16]
    assert [record.start for record in Journal(keys).records()] == [
        start for start in (0, 8, 16, 24) if start not in lost
    ]


def test_lines_of_an_unknown_form_are_passed_over(keys: Keys) -> None:
    """Lines count where their form is known or none is named, and not where another one or nothing is."""
    journal = Journal(keys)
    journal.add(_record(0))
    assert journal.records() == [_record(0)]
    journal.begin()
    assert journal.records() == [_record(0)]
    for about in (b"{}", b"", b"[]", b'{"form": 2}'):
        keys.put("about", about)
        assert journal.records() == []
    journal.remove()
    assert keys.names() == []
