"""Movies of HDF5 files, by the name of a dataset or the only one that can be a movie.

HDF5 reads fill values, mostly zeros, where a chunk was never written and where the source of a virtual
dataset is absent. So the shape of a dataset is checked against its stored chunks, the sources of a virtual
dataset and its external files; missing filters are named.

References
----------
The HDF5 Group, "HDF5 User Guide", chapters "Datasets" (allocation, external storage) and "Virtual datasets"
(missing sources read as the fill value); support.hdfgroup.org, "Registered Filter Plugins".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.codec.hdf5.plugin import FILTER_ID, find_plugin, register
from anscombe_transform.movies.arrays import Coding, array_axes, as_stored, chunk_frames
from anscombe_transform.movies.errors import errors_named, missing
from anscombe_transform.movies.metadata import ATTRIBUTE, dataset_facts
from anscombe_transform.movies.movie import Movie, file_movie
from anscombe_transform.movies.readers.nwb import NwbFile, choose_series
from anscombe_transform.movies.selection import Choice, View, choose_entry, numbered, select

# HDF5's number for a selection of blocks, H5S_SEL_HYPERSLABS.
_HYPERSLABS = 2
# Names of registered filters that measuring programs use, for the errors about those that are missing.
_FILTERS = {
    305: "LZO",
    307: "bzip2",
    32000: "LZF",
    32001: "Blosc",
    32004: "LZ4",
    32008: "bitshuffle",
    32013: "ZFP",
    32015: "Zstandard",
    32017: "SZ",
    32018: "FCIDECOMP",
    32019: "JPEG",
    32024: "SZ3",
    32026: "Blosc2",
    FILTER_ID: "anscombe",
}


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
            name = choose_entry(path, shapes, choice, "dataset")
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
            array = as_zarr_array(dataset, transposed=axes == "txy")
        there = stored_frames(dataset, view, source, choice)
        if is_nwb and (timed := series.timed_frames(choice)) < view.shape[0]:
            there = np.arange(timed) if there is None else there[there < timed]
        view = view if there is None else view.with_frames(len(there))
        if array is None:
            whole, values = select(axes, dataset.shape, choice, source), dataset
        else:
            whole, values = select("tyx" if axes == "txy" else axes, array.shape, choice, source), array
        if is_nwb:
            record = {name: value for name, value in dataset.attrs.items() if name == ATTRIBUTE}
            metadata = dataset_facts("NWB", record) | metadata

        coding = Coding.of(dataset, source)

        def read(box: Any) -> Any:
            return coding.decode(np.asarray(whole.read(values, box)))

        movie = file_movie(
            read if there is None else numbered(read, there),
            view=view,
            dtype=coding.dtype,
            source=source,
            close=file.close,
            metadata=metadata,
            chunk_frames=chunk_frames(dataset, view),
        )
        if array is not None and there is None:
            movie._stored = as_stored(array, whole)
        cleanup.pop_all()
    return movie


def as_zarr_array(dataset: Any, *, transposed: bool) -> Any | None:
    """A dataset with this package's filter as a Zarr array, which is decoded in threads; None for others.

    Parameters
    ----------
    dataset : h5py.Dataset
    transposed : bool
        Whether the axes of a dataset of three are (time, x, y); those of the array are (time, y, x).
    """
    plist = dataset.id.get_create_plist()
    if dataset.chunks is None or FILTER_ID not in (
        plist.get_filter(i)[0] for i in range(plist.get_nfilters())
    ):
        return None
    try:
        from anscombe_transform.codec.hdf5.store import has_filter, open_dataset
    except ImportError:  # zarr-python before 3.1.1: HDF5 reads it, one chunk at a time
        return None
    return open_dataset(dataset, transposed=transposed) if has_filter(dataset) else None


def open_zarr_array(path: Path, name: str | None = None) -> Any:
    """The one dataset of a file that went through this package's filter, or a named one, as a Zarr array.

    Raises
    ------
    ValueError
        There is no such dataset, or there are several.
    """
    try:
        import h5py
    except ImportError as error:
        raise missing("h5py", path) from error
    with errors_named(str(path)):
        file = h5py.File(path, "r")
        names: list[str] = []

        def note(inner: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and (name is None or inner.strip("/") == name.strip("/")):
                names.append(inner)

        file.visititems(note)
        is_nwb = "nwb_version" in file.attrs
        # Not within visititems, which keeps other threads out of HDF5.
        arrays = {
            f"/{inner}": as_zarr_array(file[inner], transposed=is_nwb and file[inner].ndim == 3)
            for inner in names
        }
    found = {inner: array for inner, array in arrays.items() if array is not None}
    if len(found) == 1:
        return next(iter(found.values()))
    what = "dataset" if name is None else f"dataset {name}"
    if not found:
        raise ValueError(f"{path} has no {what} that this package compressed, so it tells nothing of a codec")
    raise ValueError(
        f'{path} has several such datasets, {", ".join(found)}: say which, "{path}::{next(iter(found))}"'
    )


def dead_links(file: Any, note: Callable[[str, Any], object]) -> dict[str, str]:
    """Soft and external links that lead nowhere, with their targets; those that lead to data are noted."""
    import h5py

    dead: dict[str, str] = {}

    def look(group: Any, prefix: str, depth: int) -> None:
        for name in group:
            link = group.get(name, getlink=True)
            path = f"{prefix}/{name}"
            if isinstance(link, h5py.HardLink):
                item = group.get(name)
                if isinstance(item, h5py.Group):
                    look(item, path, depth)
                continue
            try:
                item = group.get(name)
            except (OSError, KeyError):
                item = None
            if item is None:
                outside = isinstance(link, h5py.ExternalLink)
                dead[path] = f"{link.filename}::{link.path}" if outside else str(link.path)
            elif isinstance(link, h5py.ExternalLink) and isinstance(item, h5py.Dataset):
                note(path, item)
            elif isinstance(link, h5py.ExternalLink) and depth < 4:
                # Of a group in another file.
                item.visititems(lambda inner, found, path=path: note(f"{path}/{inner}", found))

    look(file, "", 0)
    return dead


def enable_filters(dataset: Any, source: str) -> None:
    """Make the filters of a dataset usable, by hdf5plugin where it is installed.

    Raises
    ------
    ValueError
        A filter is missing; the message names it and the package that installs it.
    """
    import h5py

    plist = dataset.id.get_create_plist()
    codes = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
    if all(h5py.h5z.filter_avail(code) or code == FILTER_ID for code in codes):
        if FILTER_ID in codes and find_plugin() is not None:
            register()
        return
    try:
        import hdf5plugin  # noqa: F401  # importing it registers its filters
    except ImportError:
        advice = "is not installed: pip install hdf5plugin"
    else:
        advice = "hdf5plugin doesn't have either: set HDF5_PLUGIN_PATH to the folder of its plugin"
    for code in codes:
        if not h5py.h5z.filter_avail(code):
            name = _FILTERS.get(code, "one without a known name")
            raise ValueError(f"{source} is compressed with the HDF5 filter {code} ({name}), which {advice}")


def stored_frames(dataset: Any, view: View, source: str, choice: Choice) -> NDArray[np.int64] | None:
    """Numbers of the frames with stored values; None where all are.

    Raises
    ------
    IncompleteRecordingError
        Some are not, and no partial recording was asked for.
    ValueError
        None of them are.
    """
    lacking, why = _unstored(dataset, view.time, view.fixed, source)
    if not why:
        return None
    there = np.flatnonzero(~lacking)
    if not len(there):
        raise ValueError(f"{source} holds no whole frame: {why}")
    choice.incomplete(f"{source} holds {len(there)} whole frames of {len(lacking)}: {why}")
    return there


def _unstored(
    dataset: Any, time: int | None, fixed: Mapping[int, int], source: str
) -> tuple[NDArray[np.bool_], str]:
    """Which frames lack values, and why; the reason is empty where none does."""
    frames = 1 if time is None else int(dataset.shape[time])
    if dataset.is_virtual:
        return _unmapped(dataset, time, frames)
    if dataset.external:
        return _outside(dataset, frames)
    if dataset.chunks is None:
        nothing = dataset.id.get_storage_size() == 0 and dataset.size > 0
        return np.full(frames, nothing), "nothing was ever written to it" if nothing else ""
    grid = [-(-n // chunk) for n, chunk in zip(dataset.shape, dataset.chunks, strict=True)]
    written = int(dataset.id.get_num_chunks())
    if written >= math.prod(grid):
        return np.zeros(frames, bool), ""
    stored = np.zeros(grid, bool)
    for number in range(written):
        offset = dataset.id.get_chunk_info(number).chunk_offset
        stored[tuple(place // chunk for place, chunk in zip(offset, dataset.chunks, strict=True))] = True
    # Only the chunks of the channel and plane that were chosen matter.
    index: list[Any] = [slice(None)] * len(grid)
    for axis, number in fixed.items():
        index[axis] = slice(number // dataset.chunks[axis], number // dataset.chunks[axis] + 1)
    stored = stored[tuple(index)]
    lost = int(stored.size - stored.sum())
    if not lost:
        return np.zeros(frames, bool), ""
    if time is None:
        return np.ones(frames, bool), f"{lost} chunks were never written"
    whole = stored.all(axis=tuple(axis for axis in range(len(grid)) if axis != time))
    per_frame = np.repeat(whole, dataset.chunks[time])[:frames]
    return ~per_frame, f"{lost} of its {stored.size} chunks were never written"


def _outside(dataset: Any, frames: int) -> tuple[NDArray[np.bool_], str]:
    """Values that lie in other files as they are."""
    folder = Path(dataset.file.filename).parent
    for name, offset, length in dataset.external:
        file = folder / name
        held = file.stat().st_size if file.is_file() else -1
        needed = offset + (length if length < 2**60 else 0)
        if held < needed:
            state = "is absent" if held < 0 else f"has {held} bytes of {needed}"
            return np.ones(frames, bool), f"its values lie in {file}, which {state}"
    return np.zeros(frames, bool), ""


def _unmapped(dataset: Any, time: int | None, frames: int) -> tuple[NDArray[np.bool_], str]:
    """Frames of a virtual dataset with an absent source, or with none."""
    import h5py

    folder = Path(dataset.file.filename).parent
    covered = np.zeros(frames)
    absent: dict[str, None] = {}
    for mapping in dataset.virtual_sources():
        numbers = _frames_of(mapping.vspace, time, frames)
        values = mapping.vspace.get_select_npoints() / max(1, len(numbers))
        if "%b" in mapping.file_name or mapping.vspace.get_select_npoints() < 0:
            # A pattern of files grows with them; what is there of it is what the dataset's length counts.
            values = dataset.size / frames
        elif mapping.file_name == ".":
            source_set = dataset.file.get(mapping.dset_name)
            if not _is_whole(source_set, mapping, dataset.file.filename):
                absent[f"{mapping.dset_name}"] = None
                continue
        else:
            name = Path(mapping.file_name)
            file = next((p for p in (folder / name, name) if p.is_file()), None)
            if file is None:
                absent[str(folder / name)] = None
                continue
            try:
                with h5py.File(file, "r") as other:
                    whole = _is_whole(other.get(mapping.dset_name), mapping, str(file))
            except OSError:
                whole = False
            if not whole:
                absent[f"{file}::{mapping.dset_name}"] = None
                continue
        covered[numbers] += values
    lacking = covered < dataset.size / frames * (1 - 1e-9)
    if absent:
        listing = ", ".join(list(absent)[:3]) + (f" and {len(absent) - 3} more" if len(absent) > 3 else "")
        return lacking, f"sources of the virtual dataset are absent or not whole: {listing}"
    if lacking.any():
        return lacking, "the virtual dataset has no source for the others"
    return lacking, ""


def _frames_of(space: Any, time: int | None, frames: int) -> NDArray[np.int64]:
    """Numbers of the frames that a selection touches."""
    if time is None or space.get_select_npoints() < 0:
        return np.arange(frames)
    if space.get_select_type() == _HYPERSLABS and space.is_regular_hyperslab():
        start, stride, count, block = (part[time] for part in space.get_regular_hyperslab())
        count = min(count, frames)
        numbers = (start + stride * np.arange(count)[:, None] + np.arange(min(block, frames))).ravel()
    elif space.get_select_type() != _HYPERSLABS:
        return np.arange(frames)
    else:
        low, high = space.get_select_bounds()
        numbers = np.arange(low[time], high[time] + 1)
    return np.asarray(numbers[numbers < frames], np.int64)


def _is_whole(dataset: Any, mapping: Any, name: str) -> bool:
    """Whether the source of a mapping holds all that is taken from it."""
    if dataset is None or not hasattr(dataset, "shape"):
        return False
    space = mapping.src_space
    if space.get_select_type() == _HYPERSLABS and space.get_select_npoints() > 0:
        ends = [high + 1 for high in space.get_select_bounds()[1]]
        shape = dataset.shape
        if len(ends) != len(shape) or any(end > n for end, n in zip(ends, shape, strict=True)):
            return False
    elif dataset.size < mapping.vspace.get_select_npoints():
        return False
    enable_filters(dataset, f"{name}::{dataset.name}")
    time = None if len(dataset.shape) < 3 else 0
    return not _unstored(dataset, time, {}, name)[1]
