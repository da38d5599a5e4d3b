"""Metadata of a recording, in few names and in types of JSON.

The names are the same whatever the format: ``format``, ``frame_rate`` (Hz), ``pixel_size`` (``{"y": …, "x":
…}``, micrometres), ``acquired`` (ISO 8601, as the file says it; without a time zone where the file has none),
``channel_names``, ``software``, and one entry with the essentials of the format itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import date
from typing import Any

import numpy as np

ATTRIBUTE = "anscombe_transform"
"""The attribute under which this package records how an array was made."""

_LONGEST_TEXT = 300
_MOST_ENTRIES = 40
_MICROMETRES = {
    "m": 1e6,
    "meter": 1e6,
    "meters": 1e6,
    "metre": 1e6,
    "cm": 1e4,
    "centimeter": 1e4,
    "mm": 1e3,
    "millimeter": 1e3,
    "um": 1.0,
    "µm": 1.0,
    "μm": 1.0,
    "\\u00b5m": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "micrometers": 1.0,
    "micrometre": 1.0,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "pm": 1e-6,
}
_SECONDS = {
    "s": 1.0,
    "sec": 1.0,
    "second": 1.0,
    "seconds": 1.0,
    "ms": 1e-3,
    "millisecond": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "microsecond": 1e-6,
    "ns": 1e-9,
    "min": 60.0,
    "minute": 60.0,
    "h": 3600.0,
    "hour": 3600.0,
}


def micrometres(value: Any, unit: str | None) -> float | None:
    """A length in micrometres; None where the number or its unit means nothing."""
    return _scaled(value, _MICROMETRES.get((unit or "").strip().lower()))


def rate(interval: Any, unit: str | None) -> float | None:
    """Frames per second from the time between frames; None where the number or its unit means nothing."""
    seconds = _scaled(interval, _SECONDS.get((unit or "").strip().lower()))
    return None if seconds is None else 1 / seconds


def _scaled(value: Any, factor: float | None) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    if factor is None or not (math.isfinite(number) and number > 0):
        return None
    return number * factor


def facts(**entries: Any) -> dict[str, Any]:
    """The entries that say something, in types that JSON has."""
    kept = {name: json_value(value) for name, value in entries.items()}
    return {name: value for name, value in kept.items() if value not in (None, "", [], {})}


def dataset_facts(form: str, mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Format and attributes of a dataset, and the record of an earlier compression with its loss."""
    told = dict(mapping)
    record = told.pop(ATTRIBUTE, None)
    if isinstance(record, str):
        try:
            record = json.loads(record)
        except json.JSONDecodeError:
            record = None
    return facts(format=form, **lifted(record), attributes=attributes(told), **{ATTRIBUTE: record})


# What of the recording an array was made from holds for the array as well.
_LASTING = ("frame_rate", "pixel_size", "acquired", "channel_names", "partial")
_PACKING = ("scale_factor", "add_offset")


def lifted(record: Any) -> dict[str, Any]:
    """The recording's own metadata, from the record of an array or of a file made of one."""
    if not isinstance(record, Mapping):
        return {}
    source = record.get("source")
    inner = source.get("metadata") if isinstance(source, Mapping) else None
    told = {**(inner if isinstance(inner, Mapping) else {}), **record}
    return {name: told[name] for name in _LASTING if name in told}


def packing(metadata: Mapping[str, Any]) -> dict[str, float]:
    """The scale and offset of packed integers, which xarray applies on reading.

    References
    ----------
    NetCDF Climate and Forecast (CF) Metadata Conventions 1.11, section 8.1, "Packed data".
    """
    told = metadata.get("attributes")
    if not isinstance(told, Mapping):
        return {}
    return {
        name: float(told[name])
        for name in _PACKING
        if isinstance(told.get(name), int | float) and not isinstance(told[name], bool)
    }


def attributes(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a dataset that are single values or short lists; long ones stay in the source."""
    kept: dict[str, Any] = {}
    for name, value in mapping.items():
        plain = json_value(value)
        small = not isinstance(plain, dict) and (not isinstance(plain, list) or len(plain) <= 8)
        if plain is not None and small and len(kept) < _MOST_ENTRIES:
            kept[str(name)] = plain
    return kept


def json_value(value: Any) -> Any:
    """The value in types that JSON has, without NaN and with text of bounded length; None if it has none."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        value = value.tolist() if value.size <= _MOST_ENTRIES else None
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        return value if len(value) <= _LONGEST_TEXT else value[: _LONGEST_TEXT - 1] + "…"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bool | int) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    return None
