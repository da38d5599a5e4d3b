"""JSON documents: results, and the keys of stored configurations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from typing import Any

import numpy as np

__all__ = ["check_keys", "json_document", "json_value"]


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


def check_keys(name: str, document: Mapping[str, Any], known: Set[str], required: Set[str]) -> None:
    """Refuse a stored configuration that says more than is understood here, or less than is needed.

    Raises
    ------
    ValueError
    """
    if unknown := set(document) - known:
        raise ValueError(
            f"{name} configuration has unknown keys {sorted(unknown)}: a newer version may have written it"
        )
    if missing := required - set(document):
        raise ValueError(f"{name} configuration lacks {sorted(missing)}")
