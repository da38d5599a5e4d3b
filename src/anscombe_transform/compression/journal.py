"""Which blocks of an unfinished array are done: one small file per block, beside the array.

A file is written when its block is in the store, and after it was verified. Each block has its own, so that a
kill in the middle of a write loses one block and not the journal.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from anscombe_transform.compression.arrays import has_zarr_3
from anscombe_transform.compression.results import Verification
from anscombe_transform.compression.sampling import Extent
from anscombe_transform.durable import delete, make_folders, sync, write_file

__all__ = ["FolderJournal", "Journal", "Record", "StoreJournal"]


@dataclass(frozen=True, slots=True)
class Record:
    """A finished block.

    Attributes
    ----------
    start, stop : int
        Its frames.
    source : tuple of int
        Checksum of every frame of the source.
    stored : tuple of int or None
        Checksum of what was read back, for every band; None where nothing was read back.
    extent : Extent
        Of the source's values.
    verification : Verification or None
    """

    start: int
    stop: int
    source: tuple[int, ...]
    stored: tuple[int, ...] | None
    extent: Extent
    verification: Verification | None

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON types."""
        return {
            "start": self.start,
            "stop": self.stop,
            "source": to_hex(self.source),
            "stored": None if self.stored is None else to_hex(self.stored),
            "extent": [self.extent.minimum, self.extent.maximum, self.extent.has_nan],
            "verification": None if self.verification is None else self.verification.to_dict(),
        }

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Record:
        """The record that `to_dict` described."""
        checked = document["verification"]
        return cls(
            document["start"],
            document["stop"],
            from_hex(document["source"]),
            None if document["stored"] is None else from_hex(document["stored"]),
            Extent(*document["extent"]),
            None if checked is None else Verification.from_dict(checked),
        )


def to_hex(checksums: tuple[int, ...]) -> str:
    """Checksums as text, eight digits each."""
    return "".join(f"{value:08x}" for value in checksums)


def from_hex(text: str) -> tuple[int, ...]:
    """The checksums of a text."""
    return tuple(int(text[i : i + 8], 16) for i in range(0, len(text), 8))


class Journal(Protocol):
    """Where the finished blocks of a job are kept."""

    def add(self, record: Record) -> None:
        """Note a finished block."""

    def records(self) -> list[Record]:
        """The finished blocks."""

    def remove(self) -> None:
        """Delete the journal."""


class FolderJournal:
    """A journal in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, record: Record) -> None:
        """Note a finished block; it is on the disk when this returns."""
        make_folders(self._folder)
        content = json.dumps(record.to_dict()).encode()
        write_file(self._folder / f"{_block(record.start)}.json", content)

    def records(self) -> list[Record]:
        """The finished blocks."""
        files = sorted(self._folder.glob("block-*.json"))
        found = [_parsed(file.read_bytes()) for file in files]
        return [record for record in found if record is not None]

    def remove(self) -> None:
        """Delete the journal, for good when this returns."""
        if self._folder.exists():
            delete(self._folder)
            sync(self._folder.parent)


class StoreJournal:
    """A journal among the keys of an array in a store of Zarr."""

    def __init__(self, array: Any) -> None:
        if has_zarr_3():
            self._store, path = array.store_path.store, array.store_path.path
        else:
            self._store, path = array.store, array.path
        self._prefix = f"{path}/.anscombe/" if path else ".anscombe/"

    def add(self, record: Record) -> None:
        """Note a finished block."""
        self._put(_block(record.start), record.to_dict())

    def records(self) -> list[Record]:
        """The finished blocks."""
        contents = [self._get(name) for name in self._names() if name.startswith("block-")]
        found = [_parsed(content) for content in contents if content is not None]
        return sorted((record for record in found if record is not None), key=lambda record: record.start)

    def remove(self) -> None:
        """Delete the journal."""
        for name in self._names():
            if has_zarr_3():
                _sync(self._store.delete(self._key(name)))
            else:
                del self._store[self._key(name)]

    def _key(self, name: str) -> str:
        return f"{self._prefix}{name}.json"

    def _put(self, name: str, document: dict[str, Any]) -> None:
        content = json.dumps(document).encode()
        if not has_zarr_3():
            self._store[self._key(name)] = content
            return
        from zarr.core.buffer import cpu

        _sync(self._store.set(self._key(name), cpu.Buffer.from_bytes(content)))

    def _get(self, name: str) -> bytes | None:
        if not has_zarr_3():
            found = self._store.get(self._key(name))
            return None if found is None else bytes(found)
        from zarr.core.buffer import default_buffer_prototype

        value: Any = _sync(self._store.get(self._key(name), default_buffer_prototype()))
        return None if value is None else bytes(value.to_bytes())

    def _names(self) -> list[str]:
        if has_zarr_3():
            keys = _sync(_listed(self._store, self._prefix))
        else:
            keys = [key for key in self._store if key.startswith(self._prefix)]
        return sorted(key.rpartition("/")[2].removesuffix(".json") for key in keys)


async def _listed(store: Any, prefix: str) -> list[str]:
    return [key async for key in store.list_prefix(prefix)]


def _sync(coroutine: Any) -> Any:
    from zarr.core.sync import sync

    return sync(coroutine)


def _block(start: int) -> str:
    return f"block-{start:012d}"


def _parsed(content: bytes) -> Record | None:
    """The record, or None where its writing was cut short, so that its block is written again."""
    try:
        return Record.from_dict(json.loads(content))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
