"""The record in an array's attributes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from anscombe_transform.compression.blocks.comparison import digest, to_hex
from anscombe_transform.movies.metadata import ATTRIBUTE
from anscombe_transform.native.documents import json_document

if TYPE_CHECKING:
    from anscombe_transform.calibration import Agreement, Sensitivity
    from anscombe_transform.codec.transform.plan import Plan
    from anscombe_transform.compression.blocks.layout import Layout
    from anscombe_transform.compression.blocks.sampling import Extent
    from anscombe_transform.compression.blocks.verification import Verification
    from anscombe_transform.compression.stored.arrays import Codec
    from anscombe_transform.compression.stored.journal import Record
    from anscombe_transform.compression.stored.keys import Keys

CHECKSUM = "CRC-32"
MOST_IN_RECORD = 1 << 16
"""Checksums (one a block of 32 MB, 8 characters each) from which on they are a document beside the array, so
that its metadata, which every program reads, stay below a megabyte: beyond 2 TB."""
CHECKSUMS_BESIDE = "checksums"

_SOFTWARE = ("anscombe-transform", "zarr", "numcodecs", "numpy")


class Recorded(Protocol):
    """A recording as the record needs it: a movie that is open, or one that is being made."""

    @property
    def source(self) -> str:
        """Its name."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(time, y, x)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of its values."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Metadata, as in `Movie.metadata`."""


@dataclass(frozen=True, slots=True)
class Described:
    """A recording that is no open movie, for its record: one that is being made, or that is not here."""

    source: str
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    metadata: Mapping[str, Any]


def first_notes(
    movie: Recorded,
    sensitivity: Sensitivity,
    plan: Plan,
    *,
    agreement: Agreement | None,
    parameters: dict[str, Any],
    sample_checksum: str,
    files: dict[str, int] | None = None,
) -> dict[str, Any]:
    """The notes before the first block is written; ``complete`` is false."""
    source: dict[str, Any] = {
        "name": movie.source,
        "shape": list(movie.shape),
        "dtype": movie.dtype.name,
        "sample_checksum": sample_checksum,
    }
    if movie.metadata:
        source["metadata"] = dict(movie.metadata)
    return json_document(
        {
            "complete": False,
            "date": _now(),
            "sensitivity": sensitivity.to_dict(),
            "agreement": None if agreement is None else _agreement(agreement),
            "format": plan.configuration.format,
            "beta": plan.curve.beta,
            "parameters": parameters,
            "source": source,
            "files": files,
            "software": software_versions(),
            "verification": None,
        }
    )


def _agreement(agreement: Agreement) -> dict[str, Any]:
    """How far the movie's noise is from that of the constants, and whether that was accepted."""
    return agreement.to_dict() | {"accepted_mismatch": agreement.verdict == "contradicts"}


def last_notes(
    notes: dict[str, Any],
    *,
    plan: Plan,
    layout: Layout,
    records: Sequence[Record],
    extent: Extent,
    verification: Verification | None,
    beside: Keys | None,
) -> dict[str, Any]:
    """The notes of a finished array: range of its values, bound of their error, and checksums.

    More checksums than `MOST_IN_RECORD` are written into a document `beside` the array, if it can have one.
    """
    source = notes["source"] | {
        "minimum": extent.minimum,
        "maximum": extent.maximum,
        "has_nan": extent.has_nan,
        "checksum": digest(value for record in records for value in record.source)
        if any(record.source for record in records)
        else None,
    }
    checksums = None
    if all(record.stored is not None for record in records):
        values = tuple(value for record in records for value in record.stored or ())
        checksums = {
            "algorithm": CHECKSUM,
            "block_frames": layout.block_frames,
            "band_rows": layout.band_rows,
            "values": to_hex(values),
        }
        if beside is not None and len(values) > MOST_IN_RECORD:
            content = to_hex(values).encode()
            beside.put(CHECKSUMS_BESIDE, content)
            place = {"count": len(values), "sha256": hashlib.sha256(content).hexdigest()}
            checksums["values"] = {"document": CHECKSUMS_BESIDE, **place}
    return sealed(
        json_document(
            notes
            | {
                "complete": True,
                # The date of the verification, after which nothing more is written.
                "date": _now(),
                "bound": _bound(plan, extent),
                "source": source,
                "verification": None if verification is None else verification.to_dict(),
                "checksums": checksums,
            }
        )
    )


def sealed(notes: dict[str, Any]) -> dict[str, Any]:
    """The notes with a checksum of their own, so that an edit shows."""
    return notes | {"record_checksum": digest_of(notes)}


def digest_of(notes: Mapping[str, Any]) -> str:
    """SHA-256 of all notes but their date and this, as JSON in the order of the names."""
    content = {name: value for name, value in notes.items() if name not in ("date", "record_checksum")}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def notes_of(array: Any) -> dict[str, Any]:
    """The record in an array's attributes; empty if there is none."""
    noted = dict(array.attrs).get(ATTRIBUTE)
    return noted if isinstance(noted, dict) else {}


def difference_from_notes(array: Any) -> str | None:
    """How an array is another one than its notes say, in words; None where it is not, or has none."""
    notes = notes_of(array)
    shape = change_of_shape(array)
    if shape is not None or not notes.get("complete") or "record_checksum" not in notes:
        return shape
    return None if notes["record_checksum"] == digest_of(notes) else "its record was edited"


def change_of_shape(array: Any) -> str | None:
    """How the shape of a finished array differs from that of its source, in words; None where it doesn't."""
    notes, now = notes_of(array), [int(n) for n in array.shape]
    source = notes.get("source")
    was = source.get("shape") if isinstance(source, dict) else None
    if not notes.get("complete") or was is None or was == now:
        return None
    text = f"it had the shape {tuple(was) if isinstance(was, list) else was!r:.60} and has {tuple(now)}"
    if not (isinstance(was, list) and was[1:] == now[1:] and isinstance(was[0], int)):
        return text
    if now[0] > was[0]:
        return f"{text}, so that frames {was[0]} to {now[0] - 1} were never verified"
    return f"{text}, so that frames {now[0]} to {was[0] - 1} are gone"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def fill_value(plan: Plan, extent: Extent) -> Any:
    """0 where it has a code, else the smallest value known; every chunk is written, so none is read."""
    if plan.lowest <= 0 <= plan.highest:
        return 0
    return min(max(extent.minimum or 0, plan.lowest), plan.highest)


def largest_error(plan: Plan, extent: Extent) -> float:
    """Largest error that a value of the movie can have, in standard deviations of the noise at that value.

    It is more than half a step, `beta` / 2, where the noise is smaller at the dark end of a bin than in its
    middle, and where integers are rounded.
    """
    if extent.minimum is None or extent.maximum is None:
        return 0.0
    low, high = plan.bins
    values = plan.decode(np.arange(low.size, dtype=plan.encoded_dtype)).astype(np.float64)
    used = (low <= high) & (low <= extent.maximum) & (high >= extent.minimum)
    low, high, values = low[used], high[used], values[used]
    below, above = (values - low) / plan.curve.noise_std(low), (high - values) / plan.curve.noise_std(high)
    return float(max(below.max(initial=0), above.max(initial=0)))


def _bound(plan: Plan, extent: Extent) -> dict[str, Any]:
    ends = (plan.lowest if extent.minimum is None else extent.minimum, plan.highest)
    ends = ends if extent.maximum is None else (ends[0], extent.maximum)
    at_minimum, at_maximum = plan.max_error(np.clip(ends, plan.lowest, plan.highest))
    return {
        "noise_std": largest_error(plan, extent),
        "at_minimum": at_minimum,
        "at_maximum": at_maximum,
    }


def codec_summary(codec: Codec) -> dict[str, Any]:
    """The configuration of a codec with its name and its range, without the decode table."""
    configuration = codec.plan.configuration
    document = configuration.to_json()
    document.pop("decode_table", None)
    return {
        "name": configuration.format,
        **document,
        "lowest": codec.plan.lowest,
        "highest": codec.plan.highest,
    }


def software_versions() -> dict[str, str]:
    """Versions of the packages that write and read arrays."""
    found = {}
    for name in _SOFTWARE:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # run from a source tree that is not installed
            found[name] = "unknown"
    return found
