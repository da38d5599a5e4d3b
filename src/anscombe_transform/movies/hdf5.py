"""Movies of HDF5 files, by the name of a dataset or the only one that can be a movie.

HDF5 reads fill values, mostly zeros, where a chunk was never written and where the source of a virtual
dataset is absent. So what a dataset announces is held against what is stored of it (`hdf5_storage`).
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from anscombe_transform.movies.arrays import array_axes, chunk_frames
from anscombe_transform.movies.contents import choose
from anscombe_transform.movies.errors import errors_named, missing
from anscombe_transform.movies.hdf5_storage import dead_links, enable_filters, stored_frames
from anscombe_transform.movies.movie import Movie, file_movie
from anscombe_transform.movies.nwb import NwbFile, choose_series
from anscombe_transform.movies.recording import dataset_facts
from anscombe_transform.movies.selection import Choice, numbered, select


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
            is_nwb = "nwb_version" in file.attrs
            shapes: dict[str, tuple[int, ...]] = {}

            def note(name: str, item: Any) -> None:
                if (
                    isinstance(item, h5py.Dataset)
                    and item.shape is not None
                    and (item.dtype.kind in "iuf" or is_nwb)
                ):
                    shapes[f"/{name.strip('/')}"] = item.shape

            file.visititems(note)
            links = dead_links(file, note)
            # A link that is asked for may lead to what has been seen under another name.
            asked = choice.dataset
            if asked is not None and isinstance(file.get(asked), h5py.Dataset):
                shapes.setdefault(f"/{asked.strip('/')}", file[asked].shape)
        if links and not is_nwb:
            wanted = None if asked is None else f"/{asked.strip('/')}"
            dead = [f"{name} → {target}" for name, target in links.items() if wanted in (None, name)]
            if wanted in links:
                raise FileNotFoundError(f"{path}::{wanted} is a link to {links[wanted]}, which is absent")
            if dead:
                choice.incomplete(f"{path} holds links to what is absent: {', '.join(dead)}")
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
            if axes is None and "MATLAB_class" in file[name].attrs and len(shapes[name]) == 3:
                # MATLAB writes the axes of Y(y, x, time) in reverse.
                axes = "txy"
        dataset = file[name]
        source = f"{path}::{name}"
        view = select(axes, dataset.shape, choice, source)
        with errors_named(source):
            enable_filters(dataset, source)
        there = stored_frames(dataset, view, source, choice)
        view = view if there is None else view.with_frames(len(there))
        whole = select(axes, dataset.shape, choice, source)

        def read(box: Any) -> Any:
            return np.asarray(whole.read(dataset, box))

        movie = file_movie(
            read if there is None else numbered(read, there),
            view=view,
            dtype=dataset.dtype,
            source=source,
            close=file.close,
            metadata=metadata,
            chunk_frames=chunk_frames(dataset, view),
        )
        cleanup.pop_all()
    return movie
