"""Movies written by Zarr, format 2 or 3: arrays, groups, OME-Zarr images and NWB files."""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from anscombe_transform.movies.arrays import Coding, array_axes, as_stored, chunk_frames
from anscombe_transform.movies.errors import errors_named
from anscombe_transform.movies.metadata import ATTRIBUTE, dataset_facts, facts, micrometres, rate
from anscombe_transform.movies.movie import Movie, file_movie
from anscombe_transform.movies.readers.nwb import NwbFile, choose_series
from anscombe_transform.movies.selection import Choice, View, axis_letters, choose_entry, select

_FILES = ("zarr.json", ".zarray", ".zgroup")
# Far beyond what is written: a petabyte in chunks of a megabyte, and a chunk that few machines could hold.
_MOST_CHUNKS, _LARGEST_CHUNK = 2**32, 64 * 2**30


def is_zarr(path: Path) -> bool:
    """Whether a folder was written by Zarr.

    Raises
    ------
    ImportError
        It is of Zarr format 3, of which this zarr-python, before 3.0, knows nothing.
    """
    if (path / "zarr.json").is_file():
        import zarr

        if zarr.__version__.startswith("2."):
            raise ImportError(
                f"{path} is of Zarr format 3, which needs zarr-python >= 3.1.1, and this is "
                f'{zarr.__version__}: pip install "zarr>=3.1.1"'
            )
        return True
    return any((path / name).is_file() for name in _FILES)


@dataclass(frozen=True, slots=True)
class _Image:
    """The full resolution of an OME-Zarr image."""

    array: Any
    axes: str
    channel_names: tuple[str, ...]
    metadata: dict[str, Any]


def open_zarr(place: Any, choice: Choice, source: str) -> Movie:
    """Open a folder, a zipped store, a URL, a store or a group of zarr."""
    with errors_named(source):
        node, close = _open_node(place, choice)
        if hasattr(node, "dtype"):
            arrays, images, is_nwb = {}, {}, False
        else:
            is_nwb = "nwb_version" in dict(node.attrs)
            images = {} if is_nwb else dict(_images(node))
            inside = tuple(f"{path}/" if path else "" for path in images)
            # Zarr lists the members of a group in no order.
            arrays = {
                path: array
                for path, array in sorted(_nwb_arrays(place, node) if is_nwb else _arrays(node))
                if not (inside and path.startswith(inside)) and (is_nwb or array.dtype.kind in "iuf")
            }
    channel_names: tuple[str, ...] = ()
    if hasattr(node, "dtype"):
        choice.allow(source, "storage_options")
        array, axes = node, array_axes(node)
        metadata = dataset_facts(_format(node), dict(node.attrs))
    elif is_nwb:
        choice.allow(source, "dataset", "storage_options")
        shapes = {f"/{path}": tuple(array.shape) for path, array in arrays.items()}
        series = choose_series(
            NwbFile(source, shapes, _attributes_of(node), _getter(node), lambda a: a[...]), choice
        )
        array, axes, metadata = node[series.dataset.strip("/")], series.axes, series.metadata
        source = f"{source}::{series.dataset}"
    elif images and choice.dataset is None:
        choice.allow(source, "series", "dataset", "storage_options")
        name = _choose_image(source, images, choice)
        image = images[name]
        array, axes, channel_names, metadata = image.array, image.axes, image.channel_names, image.metadata
        source = f"{source}::{name}" if name else source
    else:
        choice.allow(source, "dataset", "storage_options")
        everything = arrays if choice.dataset is None else dict(sorted(_arrays(node)))
        name = choose_entry(source, {path: tuple(a.shape) for path, a in everything.items()}, choice, "array")
        array = everything[name]
        axes = array_axes(array)
        metadata = dataset_facts(_format(array), dict(array.attrs))
        source = f"{source}::{name}"
    check_geometry(array, source)
    view = select(axes, array.shape, choice, source, channel_names=channel_names)
    frames = written_frames(array, view, source, choice)
    if is_nwb:
        frames = min(frames, series.timed_frames(choice))
    whole = view
    view = view.with_frames(frames)
    coding = Coding.of(array, source)
    movie = file_movie(
        lambda box: coding.decode(np.asarray(whole.read(array, box))),
        view=view,
        dtype=coding.dtype,
        source=source,
        close=close,
        metadata=metadata,
        chunk_frames=chunk_frames(array, view),
    )
    movie._stored = as_stored(array, view) if view == whole and coding.plain else None
    return movie


def check_geometry(array: Any, source: str) -> None:
    """Refuse an array of lengths that nobody has written, before memory is taken for them.

    Raises
    ------
    ValueError
    """
    shape, chunks = tuple(array.shape), tuple(getattr(array, "shards", None) or array.chunks)
    if any(int(n) < 1 for n in (*chunks, *array.chunks)):
        raise ValueError(
            f"{source} has chunks of shape {chunks}, which hold nothing: its metadata are damaged"
        )
    chunk_bytes = math.prod(int(n) for n in chunks) * np.dtype(array.dtype).itemsize
    if chunk_bytes > _LARGEST_CHUNK:
        raise ValueError(
            f"{source} has chunks of shape {chunks}, {chunk_bytes / 2**30:.3g} GiB each, and at most "
            f"{_LARGEST_CHUNK >> 30} GiB are read at once: its metadata are damaged, or it has to be cut "
            "into smaller chunks first"
        )
    count = math.prod(-(-int(n) // int(c)) for n, c in zip(shape, chunks, strict=True))
    if count > _MOST_CHUNKS:
        raise ValueError(
            f"{source} has the shape {shape} in {count:.3g} chunks, more than the {_MOST_CHUNKS:.3g} that an "
            "array can have here: its metadata are damaged"
        )


def check_chunks(array: Any, source: str) -> None:
    """Refuse an array of ours that lacks chunks: Zarr reads the fill value where one is missing.

    `compress` writes every chunk, so a missing one was lost, or is yet to be written.

    Raises
    ------
    ValueError
        The error names the first missing one.
    """
    noted = dict(array.attrs).get(ATTRIBUTE)
    missing = missing_chunks(array) if isinstance(noted, dict) else None
    if missing is None:
        return
    why = (
        "its writing did not end; compress(..., resume=True) goes on with it"
        if dict(array.attrs)[ATTRIBUTE].get("complete") is False
        else "they were lost, and would be read as the fill value; copy it again from where it is whole"
    )
    raise ValueError(f"{source} {missing}: {why}")


def missing_chunks(array: Any) -> str | None:
    """How many chunks or shards of an array its store lacks, and the first of them, in words; None if none.

    The keys that are there are counted, as their number is that of real objects.
    With zarr-python 2, which has no common way to list them, nothing is looked for.
    """
    if not hasattr(array, "store_path"):
        return None
    from zarr.core.sync import sync

    chunks = getattr(array, "shards", None) or array.chunks
    counts = tuple(-(-int(n) // int(c)) for n, c in zip(array.shape, chunks, strict=True))
    total = math.prod(counts)
    place = array.store_path
    there = sync(_count(_chunk_indices(place.store, place.path, counts)))
    if there >= total:
        return None
    known = sync(_collect(_chunk_indices(place.store, place.path, counts)))
    first = next(index for index in np.ndindex(*counts) if index not in known)
    return f"lacks {total - there} of {total} chunks, the first of them {first}"


async def _chunk_indices(store: Any, path: str, counts: tuple[int, ...]) -> AsyncIterator[tuple[int, ...]]:
    """The chunks of an array that exist in a store."""
    prefix = f"{path}/" if path else ""
    async for key in store.list_prefix(prefix):
        index = _index_of(key.removeprefix(prefix), len(counts))
        if index is not None and all(i < n for i, n in zip(index, counts, strict=True)):
            yield index


async def _count(items: AsyncIterator[Any]) -> int:
    number = 0
    async for _ in items:
        number += 1
    return number


async def _collect(items: AsyncIterator[tuple[int, ...]]) -> set[tuple[int, ...]]:
    return {item async for item in items}


def _index_of(key: str, dimensions: int) -> tuple[int, ...] | None:
    """The chunk of a key below an array, ``c/0/1/2`` or ``0.1.2``; None for other keys."""
    parts = key.replace(".", "/").split("/")
    numbers = parts[1:] if parts[0] == "c" else parts
    if len(numbers) != dimensions or not all(n.isdecimal() for n in numbers):
        return None
    return tuple(int(n) for n in numbers)


def written_frames(array: Any, view: View, source: str, choice: Choice) -> int:
    """How many frames were written, from the first one on.

    Zarr reads the fill value where a chunk is missing. Writers may leave out chunks that hold nothing else,
    so that in arrays of others only frames at the end without a single chunk count as never written; of ours
    every chunk is there.

    Raises
    ------
    IncompleteRecordingError
        Frames are missing, and no partial recording was asked for.
    ValueError
        An array of ours lost chunks, or none are there.
    """
    ours = isinstance(dict(array.attrs).get(ATTRIBUTE), dict)
    total = view.shape[0]
    if ours and not choice.partial:
        check_chunks(array, source)
        return total
    root, encode = (
        getattr(getattr(array, "store", None), "root", None),
        getattr(getattr(array, "metadata", None), "encode_chunk_key", None),
    )
    if view.time is None or not isinstance(root, Path) or encode is None:
        return total
    folder = root / array.path
    shape = getattr(array, "shards", None) or array.chunks
    grid = [range(-(-n // length)) for n, length in zip(array.shape, shape, strict=True)]
    for axis, number in view.fixed.items():
        grid[axis] = range(number // shape[axis], number // shape[axis] + 1)

    def has(block: int) -> bool:
        places = [
            range(block, block + 1) if axis == view.time else places for axis, places in enumerate(grid)
        ]
        exist = ((folder / encode(place)).exists() for place in product(*places))
        return all(exist) if ours else any(exist)

    blocks = len(grid[view.time])
    held = blocks
    if ours:
        held = next((block for block in range(blocks) if not has(block)), blocks)
    else:
        while held and not has(held - 1):
            held -= 1
    frames = min(total, held * int(shape[view.time]))
    if frames == total:
        return total
    if not frames:
        if ours:
            raise ValueError(f"{source} holds no frames: none of its chunks were written")
        return total  # an array that was written whole with the fill value has no chunks
    choice.incomplete(
        f"{source} holds {frames} frames of {total}: the chunks of the others were never written"
    )
    return frames


def _open_node(place: Any, choice: Choice) -> tuple[Any, Any]:
    import zarr

    close = None
    if isinstance(place, zarr.Group):
        return place, None
    if isinstance(place, Path) and place.is_file():
        place = zarr.storage.ZipStore(str(place), mode="r")
        close = place.close
    elif isinstance(place, Path):
        place = str(place)
    options: dict[str, Any] = (
        {} if choice.storage_options is None else {"storage_options": dict(choice.storage_options)}
    )
    try:
        return zarr.open(place, mode="r", **options), close
    except TypeError:
        # Zarr 3 refuses the consolidated metadata of stores in which Zarr 2 wrote texts; the rest is sound.
        return zarr.open_group(place, mode="r", use_consolidated=False, **options), close


def _format(array: Any) -> str:
    version = getattr(getattr(array, "metadata", None), "zarr_format", 2)
    return f"Zarr V{version}"


def _arrays(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All arrays under a group with their paths, by the two methods that zarr 2 and 3 have in common."""
    for name, array in group.arrays():
        yield f"{prefix}{name}", array
    for name, child in group.groups():
        yield from _arrays(child, f"{prefix}{name}/")


def _nwb_arrays(place: Any, group: Any) -> Iterator[tuple[str, Any]]:
    """The arrays of an NWB file, without those of texts that zarr cannot open."""
    if not isinstance(place, Path) or not place.is_dir():
        yield from _arrays(group)
        return
    get = _getter(group)
    for folder, folders, files in os.walk(place):
        folders.sort()
        path = Path(folder).relative_to(place).as_posix()
        if path == "specifications":
            folders.clear()
        elif ".zarray" in files or "zarr.json" in files:
            item = get(path) if path != "." else None
            if hasattr(item, "dtype"):
                yield path, item
            if ".zarray" in files or hasattr(item, "dtype"):
                folders.clear()


def _attributes_of(root: Any) -> Any:
    def attributes_at(path: str) -> dict[str, Any]:
        item = root if path.strip("/") == "" else _getter(root)(path)
        return {} if item is None else dict(item.attrs)

    return attributes_at


def _getter(root: Any) -> Any:
    def get(path: str) -> Any:
        try:
            return root[path.strip("/")]
        except (KeyError, TypeError, ValueError):
            # Zarr 3 refuses some arrays of texts that Zarr 2 wrote; nothing but metadata lies in them.
            return None

    return get


def _images(group: Any, prefix: str = "") -> Iterator[tuple[str, _Image]]:
    """The OME-Zarr images under a group; the arrays below one are its resolutions, not images too."""
    document = dict(group.attrs)
    document = document.get("ome", document)
    scales = document.get("multiscales") if isinstance(document, dict) else None
    if scales:
        yield prefix.rstrip("/"), _image(group, document, scales[0])
        return
    for name, child in sorted(group.groups(), key=lambda item: str(item[0])):
        yield from _images(child, f"{prefix}{name}/")


def _image(group: Any, document: dict[str, Any], scales: dict[str, Any]) -> _Image:
    """Level 0 of a multiscale image, with axes and sizes from its metadata."""
    level = scales["datasets"][0]
    array = group[level["path"]]
    given = scales.get("axes") or list("tczyx"[-len(array.shape) :])  # versions before 0.3 have no axes
    names = [axis["name"] if isinstance(axis, dict) else axis for axis in given]
    units = [axis.get("unit") if isinstance(axis, dict) else None for axis in given]
    axes = axis_letters(names) or "q" * len(names)
    scale = [1.0] * len(names)
    for transform in [
        *level.get("coordinateTransformations", []),
        *scales.get("coordinateTransformations", []),
    ]:
        if transform.get("type") == "scale" and len(transform["scale"]) == len(scale):
            scale = [a * b for a, b in zip(scale, transform["scale"], strict=True)]
    size = {axis: micrometres(scale[i], units[i]) for i, axis in enumerate(axes) if axis in "yx"}
    time = axes.find("t")
    labels = [
        str(c.get("label", ""))
        for c in (document.get("omero") or {}).get("channels", [])
        if isinstance(c, dict)
    ]
    version = document.get("version") or scales.get("version")
    metadata = facts(
        format=f"OME-Zarr {version}" if version else "OME-Zarr",
        name=scales.get("name"),
        frame_rate=rate(scale[time], units[time]) if time >= 0 else None,
        pixel_size=size if all(size.values()) else None,
        channel_names=labels,
    )
    return _Image(array, axes, tuple(labels), metadata)


def _choose_image(source: str, images: dict[str, _Image], choice: Choice) -> str:
    names = list(images)
    if choice.series is not None:
        if choice.series in names:
            return str(choice.series)
        asked = str(choice.series)
        if asked in names:
            return asked
        raise ValueError(f"{source} has no image {choice.series!r}; it holds {', '.join(names)}")
    if len(names) == 1:
        return names[0]
    listing = ", ".join(f"{name} {tuple(image.array.shape)}" for name, image in images.items())
    raise ValueError(f'{source} holds {len(names)} images: {listing}. Say which: series="{names[0]}"')
