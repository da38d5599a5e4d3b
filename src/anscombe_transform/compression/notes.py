"""What an array's attributes say of how it was made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from anscombe_transform.calibration import Agreement, Sensitivity
    from anscombe_transform.codec.anscombe import Plan
    from anscombe_transform.compression.arrays import Codec
    from anscombe_transform.compression.journal import Record
    from anscombe_transform.compression.layout import Layout
    from anscombe_transform.compression.results import Verification
    from anscombe_transform.compression.sampling import Extent
    from anscombe_transform.movies import Movie

CHECKSUM = "CRC-32"

_SOFTWARE = ("anscombe-transform", "zarr", "numcodecs", "numpy")


def first_notes(
    movie: Movie,
    sensitivity: Sensitivity,
    plan: Plan,
    *,
    agreement: Agreement | None,
    parameters: dict[str, Any],
    sample_checksum: str,
) -> dict[str, Any]:
    """What is known before the first block is written; ``complete`` is false."""
    source: dict[str, Any] = {
        "name": movie.source,
        "shape": list(movie.shape),
        "dtype": movie.dtype.name,
        "sample_checksum": sample_checksum,
    }
    if metadata := getattr(movie, "metadata", None):
        source["metadata"] = dict(metadata)
    return json_document(
        {
            "complete": False,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "sensitivity": sensitivity.to_dict(),
            "agreement": None if agreement is None else _agreement(agreement),
            "format": plan.configuration.format,
            "beta": plan.curve.beta,
            "parameters": parameters,
            "source": source,
            "software": _software(),
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
) -> dict[str, Any]:
    """The notes of a finished array: what its values span, how far they may be off, and their checksums."""
    from anscombe_transform.compression.comparison import digest
    from anscombe_transform.compression.journal import to_hex

    source = notes["source"] | {
        "minimum": extent.minimum,
        "maximum": extent.maximum,
        "has_nan": extent.has_nan,
        "checksum": digest(value for record in records for value in record.source),
    }
    checksums = None
    if verification is not None:
        values = tuple(value for record in records for value in record.stored or ())
        checksums = {
            "algorithm": CHECKSUM,
            "block_frames": layout.block_frames,
            "band_rows": layout.band_rows,
            "values": to_hex(values),
        }
    return json_document(
        notes
        | {
            "complete": True,
            "bound": _bound(plan, extent),
            "source": source,
            "verification": None if verification is None else verification.to_dict(),
            "checksums": checksums,
        }
    )


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


def _software() -> dict[str, str]:
    found = {}
    for name in _SOFTWARE:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # run from a source tree that is not installed
            found[name] = "unknown"
    return found


def json_document(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields in types that JSON has."""
    return {name: json_value(value) for name, value in fields.items()}


def json_value(value: Any) -> Any:
    """The value in types that JSON has, which has no NaN and no infinities."""
    if isinstance(value, dict):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    if isinstance(value, np.ndarray):
        return json_value(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)
