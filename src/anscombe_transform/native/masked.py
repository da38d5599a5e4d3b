"""Masked arrays of numpy, which nothing takes: what is behind a mask would pass for a measured value."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["refuse_masked"]


def refuse_masked(array: Any, name: str = "the array") -> None:
    """Refuse a masked array.

    Raises
    ------
    ValueError
        It names the array by `name`.
    """
    # Only of what has a mask: numpy.ma takes a tenth of a second to import.
    if hasattr(array, "mask") and isinstance(array, np.ma.MaskedArray):
        raise ValueError(f"{name} is masked, and the mask would be lost: fill the masked values first")
