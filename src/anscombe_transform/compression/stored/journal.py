"""Which blocks of an unfinished array are done: lines that are appended to a document beside the array.

A line is written when its block is in the store, and after it was verified. It begins with a checksum of its
own, so that a line that a kill or a power cut tore is passed over, and costs its block alone. Every job that
writes a part of the array has a document of its own. Another document names the form of the lines: those of a
form that is not known are passed over, and their blocks written again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from anscombe_transform.compression.blocks.comparison import from_hex, to_hex
from anscombe_transform.compression.blocks.sampling import Extent
from anscombe_transform.compression.blocks.verification import Verification
from anscombe_transform.compression.stored.keys import Keys

__all__ = ["Journal", "Record"]

_PREFIX, _ABOUT = "blocks", "about"
_FORM = {"lines": "CRC-32 in hexadecimal digits, a blank, and a finished block as JSON", "form": 1}


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
    """The finished blocks of an array.

    Parameters
    ----------
    keys : Keys
        Where its documents are.
    writer : str, optional
        Name of the job that adds to it, where several write parts of one array.
    """

    def __init__(self, keys: Keys, writer: str = "") -> None:
        self._keys = keys
        self._name = f"{_PREFIX}{writer}"

    def begin(self) -> None:
        """Name the form of the lines, before the first of a new array."""
        self._keys.put(_ABOUT, json.dumps(_FORM).encode())

    def add(self, record: Record) -> None:
        """Note a finished block; it is on the disk when this returns, where there is one."""
        text = json.dumps(record.to_dict()).encode()
        # The line before it may have been torn, and is then ended.
        self._keys.append(self._name, b"\n%08x %s\n" % (crc32(text), text))

    def records(self) -> list[Record]:
        """The finished blocks of all jobs, in order; of one that was written again the later record."""
        found: dict[int, Record] = {}
        if not self._is_known():
            return []
        for name in self._names():
            for line in (self._keys.get(name) or b"").split(b"\n"):
                record = _parsed(line)
                if record is not None:
                    found[record.start] = record
        return [found[start] for start in sorted(found)]

    def remove(self) -> None:
        """Delete the journal, for good when this returns."""
        self._keys.remove([*self._names(), _ABOUT])

    def _is_known(self) -> bool:
        """Whether the lines have this form, as they do where none is named."""
        about = self._keys.get(_ABOUT)
        try:
            return about is None or json.loads(about)["form"] == _FORM["form"]
        except (ValueError, TypeError, KeyError):
            return False

    def _names(self) -> list[str]:
        return [name for name in self._keys.names() if name.startswith(_PREFIX)]


def _parsed(line: bytes) -> Record | None:
    """The record of a line, or None where it is not whole, so that its block is written again."""
    written, _, text = line.partition(b" ")
    try:
        return Record.from_dict(json.loads(text)) if int(written, 16) == crc32(text) else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
