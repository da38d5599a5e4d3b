"""Names for the types of arrays, which library one is of, and the refusal of masked ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["AnyArray", "Bools", "Floats", "Integers", "Singles", "library_of", "refuse_masked"]

AnyArray = NDArray[Any]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Integers = NDArray[np.intp]
Singles = NDArray[np.float32]


def library_of(value: Any) -> str:
    """The top-level package that defines the type of an object, known without an import of it."""
    return type(value).__module__.partition(".")[0]


def refuse_masked(array: Any, name: str = "the array") -> None:
    """Refuse a masked array: values behind the mask would pass for measured ones.

    Raises
    ------
    ValueError
        It names the array by `name`.
    """
    # Only of what has a mask: numpy.ma takes a tenth of a second to import.
    if hasattr(array, "mask") and isinstance(array, np.ma.MaskedArray):
        raise ValueError(f"{name} is masked, and the mask would be lost: fill the masked values first")
