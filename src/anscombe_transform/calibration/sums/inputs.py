"""Arguments beside a movie: a mask, numbers, a progress callback."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from anscombe_transform.native.arrays import Bools

Progress = Callable[[int, int], None]


def check_mask(mask: Any, shape: tuple[int, ...]) -> Bools | None:
    """Return the mask as an array; refuse one of another type or shape, or that leaves nothing."""
    if mask is None:
        return None
    mask = _drawn(mask) if isinstance(mask, str | os.PathLike) else np.asarray(mask)
    if mask.dtype != np.bool_:
        raise TypeError(
            f"mask must be boolean, True where pixels may be used, got dtype {mask.dtype}; "
            "mask.astype(bool) makes one of labels"
        )
    if mask.shape != tuple(shape):
        raise ValueError(
            f"mask must have the shape (y, x) of a frame, {tuple(shape)}, True where pixels may be used, "
            f"got {mask.shape}"
        )
    if not mask.any():
        raise ValueError("mask is False everywhere: it is True where pixels may be used")
    return np.asarray(mask)


def _drawn(path: str | os.PathLike[str]) -> Bools:
    """The mask in a file, an image as programs that draw regions write it: 0 where pixels are left out."""
    name = os.fspath(path)
    if name.endswith(".npy"):
        return np.asarray(np.load(path, allow_pickle=False) != 0, bool)
    if name.lower().endswith((".tif", ".tiff")):
        # Also with one bit for each pixel, which no movie has.
        from tifffile import TiffFile

        with TiffFile(path) as file:
            if len(file.pages) == 1:
                return np.asarray(file.pages[0].asarray() != 0, bool)
    from anscombe_transform.movies.opening import open_frames

    with open_frames(path) as images:
        if images.shape[0] != 1:
            raise ValueError(f"mask must be one image, but {name} holds {images.shape[0]}")
        return np.asarray(images[0] != 0, bool)


def is_number(value: Any) -> bool:
    """Whether a value is a finite real number."""
    return isinstance(value, int | float | np.integer | np.floating) and math.isfinite(value)


def stretches(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last of each run of neighbours among ascending numbers."""
    first = last = numbers[0]
    for number in numbers[1:]:
        if number != last + 1:
            yield first, last
            first = number
        last = number
    yield first, last
