"""Which blocks of an unfinished array are done: one small document per block, beside the array.

It is written when its block is in the store, and after it was verified. Each block has its own, so that a
kill in the middle of a write loses one block and not the journal.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from anscombe_transform.compression.blocks.comparison import from_hex, to_hex
from anscombe_transform.compression.blocks.sampling import Extent
from anscombe_transform.compression.blocks.verification import Verification
from anscombe_transform.compression.stored.keys import Keys

__all__ = ["Journal", "Record"]


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
        Checksum of the values read back, for every band; None where nothing was read back.
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


class Journal:
    """The finished blocks of a job, a document for each."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def add(self, record: Record) -> None:
        """Note a finished block; it is on the disk when this returns, where there is one."""
        self._keys.put(_block(record.start), json.dumps(record.to_dict()).encode())

    def records(self) -> list[Record]:
        """The finished blocks, in order."""
        contents = [self._keys.get(name) for name in self._names()]
        found = [_parsed(content) for content in contents if content is not None]
        return sorted((record for record in found if record is not None), key=lambda record: record.start)

    def remove(self) -> None:
        """Delete the journal, for good when this returns."""
        self._keys.remove(self._names())

    def _names(self) -> list[str]:
        return [name for name in self._keys.names() if name.startswith("block-")]


def _block(start: int) -> str:
    return f"block-{start:012d}"


def _parsed(content: bytes) -> Record | None:
    """The record, or None where its writing was cut short, so that its block is written again."""
    try:
        return Record.from_dict(json.loads(content))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
