"""The source of a stored movie as a data manager sees it: its files, and their content outside the array."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from anscombe_transform.compression.blocks.source import files_of, place_of
from anscombe_transform.compression.stored.arrays import hdf5_file, local_path
from anscombe_transform.movies.readers.zarr_stores import is_zarr

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anscombe_transform.movies import Movie

__all__ = ["Source", "describe_source"]

# Axes along which a movie is one of several; any other letter is an axis that the source names otherwise.
_AXES = {"c": "channel(s)", "z": "plane(s)"}
# Names of files and datasets that are listed before the rest is only counted.
_MOST_NAMED = 20


@dataclass(frozen=True, slots=True)
class Source:
    """The raw data of a certificate.

    Attributes
    ----------
    name : str
        As the movie names itself.
    shape : tuple of int
        ``(time, y, x)``.
    dtype : str
    files : tuple of str
        Absolute paths of the files that were read; of a Zarr store its folder; none for an array in memory.
    file_count, bytes : int
        Number of the files, and their size.
    missing : tuple of str
        Missing parts of a recording that is not whole.
    not_stored : tuple of str
        Content of the files beside the movie.
    metadata : mapping
        Metadata of the recording, as in `Movie.metadata`.
    other_files : tuple of str
        Other files in the folder, if the source is a folder.
    overlap : {"", "same", "inside"}
        "same" if the source is the stored array itself or lies in it, "inside" if the stored array lies in
        the folder of the source.
    """

    name: str
    shape: tuple[int, int, int]
    dtype: str
    files: tuple[str, ...]
    file_count: int
    bytes: int
    missing: tuple[str, ...]
    not_stored: tuple[str, ...]
    metadata: Mapping[str, Any]
    other_files: tuple[str, ...]
    overlap: Literal["", "same", "inside"]


def describe_source(movie: Movie, stored: Any) -> Source:
    """Describe the source of a stored movie, which is open."""
    place = place_of(movie)
    try:
        sizes = {path.absolute(): path.stat().st_size for path in files_of(movie)}
    except OSError:
        sizes = {}
    names: list[Path] = list(sizes)
    others: list[Path] = []
    if place is not None and place.is_dir():
        if is_zarr(place):
            names = [place]
        else:
            names, others = _split(sizes)
            sizes = {path: sizes[path] for path in names}
    return Source(
        name=movie.source,
        shape=movie.shape,
        dtype=movie.dtype.name,
        files=tuple(str(path) for path in names),
        file_count=len(sizes),
        bytes=sum(sizes.values()),
        missing=tuple(movie.metadata.get("partial") or ()),
        not_stored=tuple(_not_stored(movie)),
        metadata=movie.metadata,
        other_files=tuple(path.name for path in others),
        overlap=_overlap(place, local_path(stored)),
    )


def _split(sizes: Mapping[Path, int]) -> tuple[list[Path], list[Path]]:
    """The files of a folder that hold its frames, by the suffix that most bytes have, and the others."""
    total: Counter[str] = Counter()
    for path, size in sizes.items():
        total[path.suffix.lower()] += size
    suffix = max(total, key=lambda name: total[name], default="")
    frames = [path for path in sizes if path.suffix.lower() == suffix]
    return sorted(frames), sorted(set(sizes) - set(frames))


def _overlap(source: Path | None, stored: Path | None) -> Literal["", "same", "inside"]:
    if source is None or stored is None:
        return ""
    stored = stored.resolve()
    if source == stored or stored in source.parents:
        return "same"
    return "inside" if source in stored.parents else ""


def _not_stored(movie: Movie) -> list[str]:
    """Other content of the recording or its file, in words."""
    found = [
        f"{length - 1} more {_AXES.get(letter, f'image(s) along the axis {letter}')}"
        for letter, length in movie.axes.items()
        if letter not in "tyx" and length > 1
    ]
    name, _, key = movie.source.partition("::")
    others = _others(name, key.strip("/"))
    if others:
        more = f" and {len(others) - _MOST_NAMED} more" if len(others) > _MOST_NAMED else ""
        found.append(f"in the same file: {', '.join(others[:_MOST_NAMED])}{more}")
    return found


def _others(name: str, key: str) -> list[str]:
    """Content of a file beside one of its entries; nothing where a file is one movie."""
    path = Path(name)
    if hdf5_file(name) is not None:
        return _other_datasets(path, key)
    if path.suffix.lower() == ".npz" and path.is_file():
        import numpy as np

        with np.load(path) as archive:
            return [entry for entry in archive.files if entry != key]
    if path.exists() and is_zarr(path):
        return _other_arrays(path, key)
    if key and path.is_file():
        return _other_images(path)
    return []


def _other_datasets(path: Path, key: str) -> list[str]:
    import h5py

    found: list[str] = []

    def look(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.size and item.size > 1 and name != key:
            found.append(name)

    with h5py.File(path, "r") as file:
        file.visititems(look)
    return found


def _other_arrays(path: Path, key: str) -> list[str]:
    """Arrays of a group, but for those of the same multi-resolution image."""
    import zarr

    node: Any = zarr.open(str(path), mode="r")
    if not hasattr(node, "arrays"):
        return []
    found: list[str] = []

    def look(group: Any) -> None:
        attributes = dict(group.attrs)
        images = attributes.get("ome", attributes).get("multiscales") or ()
        levels = {level["path"] for image in images for level in image["datasets"]}
        names = {name: array.path.strip("/") for name, array in group.arrays()}
        ours = key in names.values() or (not key and group.path.strip("/") == "")
        found.extend(
            path for name, path in sorted(names.items()) if path != key and not (ours and name in levels)
        )
        for _, inner in group.groups():
            look(inner)

    look(node)
    return found


def _other_images(path: Path) -> list[str]:
    """Series of a TIFF file or images of a FITS file beside the chosen one."""
    if path.name.lower().endswith((".fits", ".fit", ".fts", ".fits.gz", ".fit.gz", ".fits.fz")):
        return ["other images of the FITS file"]
    try:
        import tifffile

        with tifffile.TiffFile(path) as file:
            return [f"series {number}" for number in range(1, len(file.series))]
    except (ImportError, ValueError, OSError):
        return []
