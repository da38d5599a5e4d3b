"""Movies of arrays: numpy, dask, zarr, h5py, xarray, anything with a shape, a dtype and slices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from anscombe_transform.movies.metadata import dataset_facts
from anscombe_transform.movies.movie import Movie, SupportsMovie
from anscombe_transform.movies.selection import Box, Choice, View, axis_letters, select


def open_array(array: Any, choice: Choice) -> Movie:
    """Take an array for a movie; axes that have names are found by them, others by their order."""
    kind = type(array)
    name = f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}"
    if isinstance(array, list | tuple) and array and all(isinstance(part, SupportsMovie) for part in array):
        raise TypeError(
            f"got a {kind.__name__} of {len(array)} arrays, which may be frames, parts of one movie or "
            "several movies: pass numpy.stack(arrays) of frames or numpy.concatenate(arrays) of parts "
            "(dask.array has both and loads nothing)"
        )
    if name == "xarray.Dataset":
        raise TypeError(
            f'got an xarray.Dataset: pass one of its variables, for instance dataset["{_first(array)}"]'
        )
    if not isinstance(array, SupportsMovie):
        raise TypeError(
            "a movie is opened from a path or from an array with shape, dtype and slicing "
            f"(numpy, dask, zarr, h5py, xarray), got {kind.__name__}"
        )
    # Only of what has a mask: numpy.ma takes a tenth of a second to import.
    if hasattr(array, "mask") and isinstance(array, np.ma.MaskedArray):
        raise ValueError(
            "masked arrays are not taken, as the mask would be lost: fill the masked values first"
        )
    check_lengths(array.shape, name)
    choice.allow(name)
    view = select(array_axes(array), array.shape, choice, name)
    mapped = mapped_file(array)

    def read(box: Box) -> Any:
        if mapped is not None:
            check_mapped(mapped, name)
        return view.read(array, box)

    movie = Movie(
        read,
        shape=view.shape,
        dtype=array.dtype,
        source=name,
        view=view,
        chunk_frames=chunk_frames(array, view),
        metadata=dataset_facts(name, dict(getattr(array, "attrs", None) or {})),
    )
    if name.startswith("dask.") and hasattr(array, "dask"):
        box = (slice(None), slice(None), slice(None))
        movie._dask = lambda: view.arrange(array[view.index(box)])
    movie._stored = as_stored(array, view)
    return movie


def mapped_file(array: Any) -> np.memmap[Any, Any] | None:
    """The memory map that an array of numpy is a view of; None for other arrays."""
    whole: np.memmap[Any, Any] | None = None
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap) and array.filename is not None:
            whole = array
        array = array.base
    return whole


def check_mapped(mapped: np.memmap[Any, Any], name: str) -> None:
    """Refuse a memory map whose file has become shorter: to read beyond its end would kill the process.

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
    """A Zarr array of which a view shows everything in its order; None for other arrays and views."""
    plain = view.time == 0 and not view.fixed and (view.axes.index("y"), view.axes.index("x")) == (1, 2)
    return array if plain and type(array).__module__.partition(".")[0] == "zarr" else None


def order_axes(array: Any, axis: int = 0) -> Any:
    """An array of three axes in the order (time, y, x), if it names them otherwise.

    Parameters
    ----------
    array : array with shape and dtype
    axis : int
        The axis that the caller takes for time; 0 where he said nothing.

    Returns
    -------
    array
        The same where it has no names, or names them in this order. An xarray is transposed by itself and
        stays what it is inside; of anything else it is a view that reads on demand.

    Raises
    ------
    ValueError
        `axis` is not the axis that is called time, or the names leave open which axes are y and x.
    """
    letters = array_axes(array) if len(getattr(array, "shape", ())) == 3 else None
    if letters is None:
        return array
    if axis not in (0, letters.find("t"), letters.find("t") - 3):
        raise ValueError(
            f"axis={axis} is not the time: the array names its axes {getattr(array, 'dims', letters)}"
        )
    if letters == "tyx":
        return array
    if set(letters) == set("tyx") and hasattr(array, "transpose") and hasattr(array, "dims"):
        return array.transpose(*(array.dims[letters.index(letter)] for letter in "tyx"))
    return open_array(array, Choice())


def check_lengths(shape: Any, name: str) -> None:
    """Refuse a dask array whose lengths are not known before it is computed."""
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
