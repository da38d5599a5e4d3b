"""Movies of arrays: numpy, dask, zarr, h5py, xarray, anything with a shape, a dtype and slices.

Attributes of an array may change the meaning of its values [1]_: ``_FillValue`` and ``missing_value`` declare
a value to mean that nothing was measured, and ``_Unsigned`` signed integers to be unsigned [2]_.

References
----------
.. [1] NetCDF Climate and Forecast (CF) Metadata Conventions 1.11, section 2.5.1, "Missing data, valid and
   actual range of data".
.. [2] NetCDF Users Guide, appendix A, "Attribute Conventions".
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from anscombe_transform.movies.metadata import ATTRIBUTE, dataset_facts
from anscombe_transform.movies.movie import Movie, SupportsMovie
from anscombe_transform.movies.selection import Box, Choice, View, axis_letters, select
from anscombe_transform.native.arrays import library_of, refuse_masked


def open_array(array: Any, choice: Choice) -> Movie:
    """Take an array for a movie; axes that have names are found by them, others by their order."""
    kind = type(array)
    name = f"{library_of(array)}.{kind.__qualname__}"
    if name == "xarray.Dataset":
        raise TypeError(
            f'got an xarray.Dataset: pass one of its variables, for instance dataset["{_first(array)}"]'
        )
    _check_array(array)
    refuse_masked(array, name)
    check_lengths(array.shape, name)
    choice.allow(name)
    view = select(array_axes(array), array.shape, choice, name)
    facts = dataset_facts(name, dict(getattr(array, "attrs", None) or {}))
    coding = Coding.of(array, name)
    values: Any = array
    if name.startswith("xarray.") and values.chunks is not None:
        values = values.data  # of dask
        if not coding.plain:
            values = values.map_blocks(coding.decode, dtype=coding.dtype)
            coding = Coding(coding.dtype)
    mapped = mapped_file(values)

    def read(box: Box) -> Any:
        if mapped is not None:
            check_mapped(mapped, name)
        return coding.decode(view.read(values, box))

    movie = Movie(
        read,
        shape=view.shape,
        dtype=coding.dtype,
        source=name,
        view=view,
        chunk_frames=chunk_frames(values, view),
        metadata=facts,
    )
    if library_of(values) == "dask" and hasattr(values, "dask"):
        box = (slice(None), slice(None), slice(None))
        movie._dask = lambda: view.arrange(values[view.index(box)])
    movie._stored = as_stored(values, view) if coding.plain else None
    return movie


@dataclass(frozen=True, slots=True)
class Coding:
    """Meaning of an array's values by its attributes.

    Attributes
    ----------
    dtype : numpy.dtype
        Type of the values, which for integers may be unsigned where the stored ones are signed.
    missing : tuple of float
        Values that mean that nothing was measured.
    source : str
        Name of the source, for the error.
    """

    dtype: np.dtype[Any]
    missing: tuple[float, ...] = ()
    source: str = ""
    stored: np.dtype[Any] | None = None

    @classmethod
    def of(cls, array: Any, source: str) -> Coding:
        """The coding that the attributes of an array of xarray, Zarr or HDF5 declare."""
        stored = np.dtype(array.dtype)
        try:
            attributes = dict(getattr(array, "attrs", None) or {})
        except (TypeError, ValueError):
            return cls(stored)
        if ATTRIBUTE in attributes:
            return cls(stored)  # the fill value of an array of ours is no measurement's
        if "_ARRAY_DIMENSIONS" in attributes and getattr(array, "fill_value", None):
            # In Zarr V2, xarray writes the attribute as the array's own fill value, which is 0 by default.
            attributes.setdefault("_FillValue", array.fill_value)
        return cls.declared(stored, attributes, source)

    @classmethod
    def declared(cls, stored: DTypeLike, attributes: Mapping[str, Any], source: str) -> Coding:
        """The coding that attributes declare of values of a type."""
        stored = np.dtype(stored)
        unsigned = _text(attributes.get("_Unsigned")).lower()
        kind = {"true": "u", "false": "i"}.get(unsigned, stored.kind) if stored.kind in "iu" else stored.kind
        dtype = np.dtype(f"{stored.byteorder}{kind}{stored.itemsize}")
        missing: list[float] = []
        for name in ("_FillValue", "missing_value"):
            for value in np.ravel(np.asarray(attributes.get(name, ()))).tolist():
                number = _number(value)
                if number is None or number != number:
                    continue
                if dtype.kind == "u" and number < 0:
                    number += 2 ** (8 * dtype.itemsize)  # declared in the type that is stored
                missing.append(number)
        return cls(dtype, tuple(dict.fromkeys(missing)), source, stored)

    @property
    def plain(self) -> bool:
        """Whether the stored values are the values."""
        return not self.missing and self.stored in (None, self.dtype)

    def decode(self, block: Any) -> Any:
        """Values as they are meant.

        Raises
        ------
        ValueError
            A value of integers means that nothing was measured: the transform would make it a measured one.
        """
        if self.plain:
            return block
        values: NDArray[Any] = np.asarray(block)
        if values.dtype != self.dtype:
            values = np.ascontiguousarray(values).view(self.dtype.newbyteorder(values.dtype.byteorder))
        for value in self.missing:
            where = values == value
            if not where.any():
                continue
            if self.dtype.kind == "f":
                values = np.where(where, np.array(np.nan, values.dtype), values)
                continue
            raise ValueError(
                f"{self.source} holds the value {value:.15g}, which its attributes (_FillValue, "
                "missing_value) declare to mean that nothing was measured; stored as an integer it would "
                "come back as another value. Open it with xarray.open_dataset, which turns such values into "
                "NaN, and pass that array; or delete the attribute if the values were measured"
            )
        return values


def _text(value: Any) -> str:
    """An attribute as text, which HDF5 gives as bytes and xarray as a bool too."""
    value = value.item() if isinstance(value, np.generic) else value
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _number(value: Any) -> float | None:
    """A number that an attribute holds; floats that xarray writes to Zarr V3 are eight bytes in base64."""
    if isinstance(value, int | float):
        return value
    try:
        return float(_text(value))
    except ValueError:
        pass
    try:
        (number,) = struct.unpack("<d", base64.standard_b64decode(_text(value)))
    except (struct.error, binascii.Error, ValueError):
        return None
    return float(number)


def mapped_file(array: Any) -> np.memmap[Any, Any] | None:
    """The memory map that an array of numpy is a view of; None for other arrays."""
    whole: np.memmap[Any, Any] | None = None
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap) and array.filename is not None:
            whole = array
        array = array.base
    return whole


def check_mapped(mapped: np.memmap[Any, Any], name: str) -> None:
    """Refuse a memory map of a file that has become shorter: to read beyond its end would kill the process.

    Raises
    ------
    ValueError
    """
    needed = mapped.offset + mapped.nbytes
    size = Path(mapped.filename).stat().st_size  # type: ignore[arg-type]  # which has a name
    if size < needed:
        raise ValueError(
            f"{mapped.filename} was cut while {name} was read: it had {needed} bytes at least and has {size}"
        )


def as_stored(array: Any, view: View) -> Any | None:
    """The Zarr array, if a view shows all of it in its order; None for other arrays and views."""
    plain = view.time == 0 and not view.fixed and (view.axes.index("y"), view.axes.index("x")) == (1, 2)
    return array if plain and library_of(array) == "zarr" else None


def _check_array(array: Any, name: str = "movie") -> None:
    """Refuse a source without shape, dtype or slicing, with the call that would be right.

    Raises
    ------
    TypeError
    """
    if isinstance(array, SupportsMovie):
        return
    kind = type(array).__name__
    if isinstance(array, list | tuple) and array and all(isinstance(part, SupportsMovie) for part in array):
        raise TypeError(
            f"got a {kind} of {len(array)} arrays, which may be frames, parts of one movie or "
            "several movies: pass numpy.stack(arrays) of frames or numpy.concatenate(arrays) of parts "
            "(dask.array has both and loads nothing)"
        )
    remedy = ""
    if isinstance(array, list | tuple):
        remedy = ": numpy.asarray(values) makes an array of numbers in lists"
    elif hasattr(array, "conversion_gain"):
        remedy = ": the movie comes first, and constants or codec after it"
    raise TypeError(
        f"{name} must be a path or an array with shape, dtype and slicing (numpy, dask, zarr, h5py, xarray), "
        f"got {kind}{remedy}"
    )


def open_axes(
    array: Any, axis: int = 0, channel_axis: int | None = None, channel: int = 0, *, name: str = "movie"
) -> Movie:
    """Take one channel of an array for a movie, its axes given by number.

    Parameters
    ----------
    array : array with shape and dtype, or Movie
    axis : int
        The time axis; 0 where the caller said nothing, so that names of axes go before it.
    channel_axis : int, optional
        The axis of the channels of an array of four axes.
    channel : int
        Index along it.
    name : str
        Name of the array, for the errors.

    Raises
    ------
    TypeError
        It is no array, or holds neither integers nor floats.
    ValueError
        There is no such axis, `axis` is not the one that is called time, or the names leave open which axes
        are y and x.
    """
    time, channels = check_axes(array, axis, channel_axis, name)
    if isinstance(array, Movie) and time == 0:
        return array
    if channels is None and (named := array_axes(array)) is not None:
        if axis not in (0, named.find("t"), named.find("t") - 3):
            raise ValueError(
                f"axis={axis} is not the time: the array names its axes {getattr(array, 'dims', named)}"
            )
        return open_array(array, Choice())
    letters = iter("yx")
    axes = "".join(
        "t" if number == time else "c" if number == channels else next(letters)
        for number in range(len(array.shape))
    )
    return open_array(array, Choice(axes=axes, channel=None if channels is None else channel))


def check_axes(array: Any, axis: int, channel_axis: int | None, name: str) -> tuple[int, int | None]:
    """The numbers of the axes, counted from 0; refuse an array that has no such axes, see `open_axes`."""
    _check_array(array, name)
    refuse_masked(array, name)
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
    if np.dtype(array.dtype).kind not in "iuf":
        raise TypeError(f"{name} must hold integers or floats, got dtype {array.dtype}")
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


def check_lengths(shape: Any, name: str) -> None:
    """Refuse a dask array with lengths that are not known before it is computed."""
    if any(n != n for n in shape):
        raise ValueError(
            f"{name} has the shape {tuple(shape)}, in which lengths are not known: call "
            "compute_chunk_sizes() on the dask array first"
        )


def array_axes(array: Any) -> str | None:
    """Letters of the axes of an array that names them: xarray, Zarr V3, HDF5 with labels."""
    names: Any = None
    dims = getattr(array, "dims", None)
    if isinstance(dims, tuple):
        names = dims
    elif dims is not None:
        names = [getattr(dimension, "label", "") for dimension in dims]
    else:
        metadata = getattr(array, "metadata", None)
        names = getattr(metadata, "dimension_names", None)
        if names is None and hasattr(array, "attrs"):
            names = dict(array.attrs).get("_ARRAY_DIMENSIONS")
    if not isinstance(names, list | tuple) or len(names) != len(array.shape):
        return None
    return axis_letters(names)


def chunk_frames(array: Any, view: View) -> int:
    """How many frames an array stores together along the axis that is time; 1 where it doesn't say."""
    chunks = getattr(array, "chunksize", None) or getattr(array, "chunks", None)
    if view.time is None or not isinstance(chunks, tuple) or len(chunks) != len(view.axes):
        return 1
    frames = chunks[view.time]
    return max(1, min(frames, view.shape[0])) if isinstance(frames, int) else 1


def _first(dataset: Any) -> str:
    """The name of the variable of a Dataset that has most axes."""
    return str(max(dataset.data_vars, key=lambda name: dataset[name].ndim, default="name"))
