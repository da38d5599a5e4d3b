"""Movies with their axes in another order, or with channels, as movies (time, y, x); nothing is copied.

And which of their frames lie together.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.calibration.sums.statistics import Bools, MovieLike
from anscombe_transform.movies.arrays import check_lengths

Progress = Callable[[int, int], None]


class MovieView:
    """One channel of an array, its time axis first; frames are read when they are asked for."""

    def __init__(self, array: Any, axis: int, channel_axis: int | None, channel: int) -> None:
        self._array, self._axis = array, axis
        self._channel_axis, self._channel = channel_axis, channel
        shape = tuple(array.shape)
        places = [k for k in range(len(shape)) if k not in (axis, channel_axis)]
        self.shape = (shape[axis], *(shape[k] for k in places))
        self.dtype = np.dtype(array.dtype)
        self._time = axis - (channel_axis is not None and channel_axis < axis)
        chunks = getattr(array, "chunks", None)
        self.chunk_frames = chunks[axis] if isinstance(chunks, tuple) else 1

    def __getitem__(self, index: slice) -> NDArray[Any]:
        key: list[Any] = [slice(None)] * len(self._array.shape)
        key[self._axis] = index
        if self._channel_axis is not None:
            key[self._channel_axis] = self._channel
        return np.moveaxis(np.asarray(self._array[tuple(key)]), self._time, 0)


def view_movie(array: Any, axis: int, channel_axis: int | None = None, channel: int = 0) -> MovieLike:
    """One channel of an array as a movie (time, y, x); a dask array stays one, also inside a `Movie`."""
    if getattr(array, "_dask", None) is not None:
        array = array.to_dask()
    if hasattr(array, "chunks") and type(array).__module__.partition(".")[0] == "xarray":
        # Dask inside, or read through the labelled array, which reads no more than is asked for.
        array = array if array.chunks is None else array.data
    if axis == 0 and channel_axis is None:
        return array  # type: ignore[no-any-return]
    if is_dask(array):
        key: list[Any] = [slice(None)] * array.ndim
        if channel_axis is not None:
            key[channel_axis] = channel
            axis -= channel_axis < axis
        order = [axis, *(k for k in range(array.ndim - (channel_axis is not None)) if k != axis)]
        return array[tuple(key)].transpose(order)  # type: ignore[no-any-return]
    return MovieView(array, axis, channel_axis, channel)


def check_axes(
    array: Any, axis: int, channel_axis: int | None, name: str = "movie"
) -> tuple[int, int | None]:
    """Return the numbers of the axes, counted from 0; refuse an array that has no such axes."""
    if not (hasattr(array, "shape") and hasattr(array, "dtype") and hasattr(array, "__getitem__")):
        raise TypeError(
            f"{name} must be a path or an array with shape, dtype and slicing, got {type(array).__name__}"
        )
    # Only of what has a mask: numpy.ma takes a tenth of a second to import.
    if hasattr(array, "mask") and isinstance(array, np.ma.MaskedArray):
        raise ValueError(
            f"{name} is a masked array, whose mask would be lost: fill its values first, and leave pixels "
            "out by mask=, which is True where pixels may be used"
        )
    shape = tuple(array.shape)
    check_lengths(shape, name)
    if channel_axis is None:
        if len(shape) != 3:
            raise ValueError(
                f"{name} must have three axes (time, y, x), got shape {shape}; "
                "channel_axis= names a fourth axis, of channels"
            )
    elif len(shape) != 4:
        raise ValueError(
            f"{name} must have four axes (time, y, x and channels) with channel_axis={channel_axis}, "
            f"got shape {shape}"
        )
    time = _axis_number(axis, len(shape), "axis")
    if channel_axis is None:
        return time, None
    channels = _axis_number(channel_axis, len(shape), "channel_axis")
    if time == channels:
        raise ValueError(f"axis and channel_axis must differ, got {axis} and {channel_axis}")
    return time, channels


def _axis_number(axis: Any, ndim: int, name: str) -> int:
    if isinstance(axis, bool) or not isinstance(axis, int | np.integer) or not -ndim <= axis < ndim:
        raise ValueError(f"{name} must be a whole number from {-ndim} to {ndim - 1}, got {axis!r}")
    return int(axis) % ndim


def check_movie(movie: MovieLike) -> None:
    """Refuse what can't be calibrated whatever it holds."""
    if np.dtype(movie.dtype).kind not in "iuf":
        raise TypeError(f"movie must hold integers or floats, got dtype {movie.dtype}")


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
    if os.fspath(path).endswith(".npy"):
        return np.asarray(np.load(path, allow_pickle=False) != 0, bool)
    from anscombe_transform.movies.opening import open_frames

    with open_frames(path) as images:
        if images.shape[0] != 1:
            raise ValueError(f"mask must be one image, but {os.fspath(path)} holds {images.shape[0]}")
        return np.asarray(images[0] != 0, bool)


def is_number(value: Any) -> bool:
    """Whether a value is a finite real number."""
    return isinstance(value, int | float | np.integer | np.floating) and math.isfinite(value)


def chunk_frames(movie: MovieLike) -> int:
    """Frames that are stored together, at most those of the movie; 1 where each stands alone."""
    told = getattr(movie, "chunk_frames", None)
    if told is None:
        chunks = getattr(movie, "chunks", None)
        told = chunks[0] if isinstance(chunks, tuple) and len(chunks) == len(movie.shape) else 1
    frames = max(told) if isinstance(told, tuple) else told
    return int(min(max(1, frames), movie.shape[0]))


def stretches(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last of each run of neighbours among ascending numbers."""
    first = last = numbers[0]
    for number in numbers[1:]:
        if number != last + 1:
            yield first, last
            first = number
        last = number
    yield first, last


def is_dask(movie: Any) -> bool:
    """Whether a movie is a dask array, told without importing dask."""
    return type(movie).__module__.partition(".")[0] == "dask"
