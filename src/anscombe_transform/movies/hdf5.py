"""Movies of HDF5 files, by the name of a dataset or the only one that can be a movie."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from anscombe_transform.movies.arrays import array_axes, chunk_frames
from anscombe_transform.movies.contents import choose
from anscombe_transform.movies.errors import errors_named, missing
from anscombe_transform.movies.movie import Movie, file_movie
from anscombe_transform.movies.nwb import NwbFile, choose_series
from anscombe_transform.movies.recording import dataset_facts
from anscombe_transform.movies.selection import Choice, select


def open_hdf5(path: Path, choice: Choice) -> Movie:
    """Open a dataset of an HDF5 file; in an NWB file, a series of images."""
    try:
        import h5py
    except ImportError as error:
        raise missing("h5py", path) from error
    choice.allow(str(path), "dataset")
    with ExitStack() as cleanup:
        with errors_named(str(path)):
            file = cleanup.enter_context(h5py.File(path, "r"))
            shapes: dict[str, tuple[int, ...]] = {}
            is_nwb = "nwb_version" in file.attrs

            def note(name: str, item: Any) -> None:
                if (
                    isinstance(item, h5py.Dataset)
                    and item.shape is not None
                    and (item.dtype.kind in "iuf" or is_nwb)
                ):
                    shapes[f"/{name}"] = item.shape

            file.visititems(note)
            # Soft and external links are not visited, but a name that is asked for may be one.
            asked = choice.dataset
            if asked is not None and isinstance(file.get(asked), h5py.Dataset):
                shapes.setdefault(f"/{asked.strip('/')}", file[asked].shape)
        if is_nwb:
            series = choose_series(
                NwbFile(path, shapes, lambda name: dict(file[name].attrs), file.get, lambda item: item[()]),
                choice,
            )
            name, metadata = series.dataset, series.metadata
            axes: str | None = series.axes
        else:
            name = choose(path, shapes, choice, "dataset")
            axes = array_axes(file[name])
            metadata = dataset_facts("HDF5", dict(file[name].attrs))
        dataset = file[name]
        source = f"{path}::{name}"
        view = select(axes, dataset.shape, choice, source)
        movie = file_movie(
            lambda box: np.asarray(view.read(dataset, box)),
            view=view,
            dtype=dataset.dtype,
            source=source,
            close=file.close,
            metadata=metadata,
            chunk_frames=chunk_frames(dataset, view),
        )
        cleanup.pop_all()
    return movie
