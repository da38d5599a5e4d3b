"""Stored movies as datasets of xarray: ``xarray.open_dataset("movie.zarr")``.

xarray reads groups of Zarr, and `compress` writes an array, so that ``xarray.open_zarr`` finds none. This
engine is found by its entry point; it gives the movie lazily, with its axes in seconds and micrometres
where these are known.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from xarray import Dataset, Variable
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

from anscombe_transform.compression import describe
from anscombe_transform.compression.stored.arrays import local_path, open_array
from anscombe_transform.compression.stored.checksums import check_record
from anscombe_transform.movies.metadata import ATTRIBUTE

__all__ = ["AnscombeEngine"]

MOVIE = "movie"
"""Name of the variable."""


class _LazyMovie(BackendArray):
    """An array of Zarr that is read where it is indexed."""

    def __init__(self, array: Any) -> None:
        self._array = array
        self.shape = tuple(int(n) for n in array.shape)
        self.dtype = np.dtype(array.dtype)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._outer
        )

    def _outer(self, key: tuple[Any, ...]) -> Any:
        return self._array.oindex[key]


class AnscombeEngine(BackendEntrypoint):
    """The engine ``"anscombe"`` of xarray.

    Examples
    --------
    >>> import tempfile, xarray
    >>> from anscombe_transform import compress, simulate_movie
    >>> movie, _ = simulate_movie((40, 64, 64), conversion_gain=90, zero_level=50, rng=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = compress(movie, f"{folder}/movie.zarr")
    ...     dataset = xarray.open_dataset(f"{folder}/movie.zarr", engine="anscombe")
    ...     print(dict(dataset.movie.sizes), float(dataset.movie[0].mean()) > 0)
    {'time': 40, 'y': 64, 'x': 64} True
    """

    description = "Open movies that anscombe-transform stored"
    url = "https://github.com/datajoint/anscombe-transform"
    open_dataset_parameters = ("filename_or_obj", "drop_variables")

    def open_dataset(
        self, filename_or_obj: Any, *, drop_variables: str | Iterable[str] | None = None
    ) -> Dataset:
        """Open a stored movie.

        Parameters
        ----------
        filename_or_obj : path, store of Zarr, or zarr.Array
            As `describe` takes it.
        drop_variables : str or iterable of str, optional
            Variables to leave out.

        Returns
        -------
        xarray.Dataset
            With the variable ``movie``; coordinates ``time`` (s), ``y`` and ``x`` (µm) where the record has
            the frame rate and the pixel size.

        Raises
        ------
        FileNotFoundError, ValueError
            There is no such array.
        VerificationError
            It was changed after it was written.
        """
        array = open_array(filename_or_obj)
        stored = describe(array)
        check_record(array, stored.path)
        notes = stored.provenance or {}
        metadata = (notes.get("source") or {}).get("metadata") or {}
        names = _names(array)
        lazy = indexing.LazilyIndexedArray(_LazyMovie(array))
        attributes = {name: value for name, value in dict(array.attrs).items() if not isinstance(value, dict)}
        encoding = {"preferred_chunks": dict(zip(names, (int(n) for n in array.chunks), strict=True))}
        dropped = {drop_variables} if isinstance(drop_variables, str) else set(drop_variables or ())
        attributes.pop("_ARRAY_DIMENSIONS", None)
        variables = {MOVIE: Variable(names, lazy, attributes, encoding)} if MOVIE not in dropped else {}
        coordinates = {
            name: axis for name, axis in _axes(names, array.shape, metadata).items() if name not in dropped
        }
        return Dataset(variables, coordinates, {"title": Path(stored.path).name})

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Whether a path is an array of Zarr with a record of ours."""
        if not isinstance(filename_or_obj, str | os.PathLike):
            return False
        path = local_path(filename_or_obj)
        if path is None or not any((path / name).exists() for name in ("zarr.json", ".zarray")):
            return False
        try:
            return ATTRIBUTE in open_array(path).attrs
        except (OSError, ValueError):
            return False


def _names(array: Any) -> tuple[str, ...]:
    """Names of an array's axes: those that it has, or those of a movie."""
    metadata = getattr(array, "metadata", None)
    given = getattr(metadata, "dimension_names", None) or dict(array.attrs).get("_ARRAY_DIMENSIONS")
    usual = ("time", "y", "x") if array.ndim == 3 else tuple(f"dim_{i}" for i in range(array.ndim))
    names = [name or usual[i] for i, name in enumerate(given or usual)]
    return tuple(names)


def _axes(names: tuple[str, ...], shape: tuple[int, ...], metadata: Mapping[str, Any]) -> dict[str, Variable]:
    """Axes in seconds and micrometres, where steps are known."""
    pixel = metadata.get("pixel_size") or {}
    rate = metadata.get("frame_rate")
    steps = {
        "time": (1 / rate if rate else None, "s"),
        "y": (pixel.get("y"), "µm"),
        "x": (pixel.get("x"), "µm"),
    }
    found = {}
    for name, length in zip(names, shape, strict=True):
        step, unit = steps.get(name, (None, ""))
        if step:
            found[name] = Variable((name,), np.arange(int(length)) * float(step), {"units": unit})
    return found
