"""Zarr arrays: making, opening and asking them, in both generations of zarr-python."""

from __future__ import annotations

import functools
import json
import math
import os
import re
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.codec.pipeline import Preset, pipeline_for
from anscombe_transform.codec.transform.choice import fitted_to
from anscombe_transform.codec.transform.configuration import fields_of
from anscombe_transform.movies.readers.zarr_stores import check_geometry, is_zarr
from anscombe_transform.native.arrays import library_of
from anscombe_transform.native.documents import value_text
from anscombe_transform.native.durable import PARTIAL, sync, sync_names, write_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from anscombe_transform.codec.zarr_v2 import AnscombeTransformV2
    from anscombe_transform.codec.zarr_v3 import AnscombeTransformV3
    from anscombe_transform.compression.blocks.layout import Layout

    Codec = AnscombeTransformV2 | AnscombeTransformV3


# A random number between the key's name and the suffix.
_UNFINISHED = re.compile(r"\.[0-9a-f]{32}\.partial$")


def as_zarr_store(store: Any) -> Any:
    """A store that zarr takes; one of obstore is wrapped, others are taken as they are."""
    if library_of(store) != "obstore":
        return store
    try:
        from zarr.storage import ObjectStore
    except ImportError as error:
        raise ValueError(
            f"a store of obstore needs zarr-python 3.0.7 or later, found {zarr_module().__version__}"
        ) from error
    return ObjectStore(store)


def local_path(store: Any) -> Path | None:
    """The folder that a store names, or None for stores elsewhere; ``store.zarr::name`` is a folder in it."""
    if isinstance(store, os.PathLike):
        return Path(store)
    if isinstance(store, str) and store.startswith("file://"):
        store = store.removeprefix("file://")
    if isinstance(store, str) and "://" not in store:
        return Path(store.replace("::", os.sep))
    return None


def hdf5_file(stored: Any) -> tuple[Path, str | None] | None:
    """The HDF5 file that a path names, and the dataset behind ``::``; None for anything else."""
    if not isinstance(stored, str | os.PathLike):
        return None
    outer, _, inner = os.fspath(stored).partition("::")
    path = Path(outer)
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return (path, inner or None) if file.read(8) == b"\x89HDF\r\n\x1a\n" else None


def local_root(array: Any) -> Path | None:
    """The folder of an array in any kind of store; None where it is not in a file system."""
    store, path = (
        (array.store_path.store, array.store_path.path) if has_zarr_3() else (array.store, array.path)
    )
    root = root_of(store)
    return None if root is None else Path(root) / path


def root_of(store: Any) -> str | os.PathLike[str] | None:
    """The folder of a store, or None where it is not in a file system."""
    if not has_zarr_3() and isinstance(store, zarr_module().storage.DirectoryStore):  # nested ones, too
        return str(store.path)
    if library_of(inside := getattr(store, "store", None)) == "obstore":
        from obstore.store import LocalStore

        return inside.prefix if isinstance(inside, LocalStore) else None
    file_system = getattr(store, "fs", None)
    if file_system is not None:
        from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]

        # fsspec wraps what is not asynchronous by itself.
        inner = getattr(file_system, "sync_fs", None) or getattr(file_system, "fs", file_system)
        return str(store.path) if isinstance(inner, LocalFileSystem) else None
    if hasattr(store, "root"):
        return Path(store.root)
    wrapped = getattr(store, "_store", None)
    return None if wrapped is None else root_of(wrapped)


def folder_store(path: Path) -> Any:
    """A folder as a store of Zarr."""
    storage = zarr_module().storage
    return storage.LocalStore(path) if has_zarr_3() else storage.NestedDirectoryStore(str(path))


def delete_unfinished(root: Path) -> None:
    """Delete the files that Zarr was about to rename when it was interrupted; it writes them again."""
    for file in root.rglob("*.partial"):
        if _UNFINISHED.search(file.name):
            file.unlink()


def chunk_files(array: Any, root: Path, layout: Layout, start: int, stop: int) -> list[Path]:
    """The files of the chunks or shards that hold these frames."""
    unit = layout.shards or layout.chunks
    first, last = start // unit[0], math.ceil(stop / unit[0])
    _, rows, columns = (math.ceil(n / step) for n, step in zip(layout.shape, unit, strict=True))
    key = array.metadata.encode_chunk_key if has_zarr_3() else array._chunk_key
    prefix = "" if has_zarr_3() or not array.path else f"{array.path}/"
    return [
        root / key(coordinates).removeprefix(prefix)
        for coordinates in product(range(first, last), range(rows), range(columns))
    ]


def sync_chunks(array: Any, layout: Layout, start: int, stop: int) -> None:
    """Wait until the chunks of these frames are on the disk, where they are files."""
    root = local_root(array)
    if root is None:
        return
    files = chunk_files(array, root, layout, start, stop)
    for file in files:
        sync(file)
    sync_names(files, root)


def sync_metadata(array: Any) -> None:
    """Wait until the metadata of an array and the name of its folder are on the disk, if it has one."""
    root = local_root(array)
    if root is None:
        return
    for file in root.iterdir():
        if file.is_file():
            sync(file)
    sync(root)
    sync(root.parent)


def read_metadata(root: Path) -> dict[str, Any]:
    """The document of metadata of an array in a folder: ``zarr.json``, or ``.zarray`` of format 2."""
    document: dict[str, Any] = json.loads((root / _metadata_name(root)).read_bytes())
    return document


def replace_metadata(root: Path, document: dict[str, Any], attributes: dict[str, Any]) -> None:
    """Write an array's metadata with attributes added, on the disk when this returns.

    Each file is replaced as a whole, so that a power cut leaves the old or the new one.
    """
    name = _metadata_name(root)
    if name == "zarr.json":
        document = document | {"attributes": document.get("attributes", {}) | attributes}
    else:
        place = root / ".zattrs"
        there = json.loads(place.read_bytes()) if place.exists() else {}
        write_file(place, json.dumps(there | attributes, indent=2).encode())
    write_file(root / name, json.dumps(document, indent=2).encode())


def _metadata_name(root: Path) -> str:
    return ".zarray" if (root / ".zarray").exists() else "zarr.json"


def stored_bytes(array: Any, path: Path | None) -> int:
    """Bytes that an array takes where it lies, its metadata included."""
    if path is not None and path.is_file():
        return path.stat().st_size
    if path is not None and path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    stored = array.nbytes_stored
    return int(stored() if callable(stored) else stored)


def zarr_module() -> Any:
    """The module zarr; no type checker knows both of its generations."""
    import zarr

    return zarr


def has_zarr_3() -> bool:
    """Whether zarr-python is of generation 3, which knows both formats."""
    return hasattr(zarr_module(), "create_array")


def fitted_codec(codec: Codec, frames: Iterable[NDArray[Any]]) -> Codec:
    """The codec with a decode table that keeps the mean of these frames (frames, ..., x)."""
    configuration = fitted_to(codec.plan.configuration, frames)
    return type(codec)(**fields_of(configuration))


def check_zarr_format(zarr_format: int) -> None:
    """Refuse a format that there isn't, or that this zarr-python can't write."""
    if zarr_format not in (2, 3):
        raise ValueError(f"zarr_format must be 2 or 3, got {zarr_format!r}")
    if zarr_format == 3 and not _has_format_3():
        raise ValueError(
            f"arrays of Zarr format 3 need zarr-python >= 3.1.1, and this is {zarr_module().__version__}: "
            'give zarr_format=2, or install "zarr>=3.1.1"'
        )


@functools.cache
def _has_format_3() -> bool:
    """Whether zarr-python has the interface for codecs of format 3, which came with 3.1.1."""
    from importlib.util import find_spec

    return has_zarr_3() and find_spec("zarr.core.dtype") is not None


def create_array(
    store: Any,
    *,
    layout: Layout,
    dtype: np.dtype[Any],
    codec: Codec,
    preset: Preset,
    zarr_format: Literal[2, 3],
    fill_value: Any,
    dimension_names: Sequence[str],
    attributes: dict[str, Any],
    overwrite: bool,
    storage_options: dict[str, Any] | None = None,
    filters_after: Sequence[Any] = (),
) -> Any:
    """Make the array that a movie is written to; some filters may come after the codec.

    Raises
    ------
    FileExistsError
        The store holds something and `overwrite` was not given.
    """
    zarr = zarr_module()
    options: dict[str, Any] = {
        "shape": layout.shape,
        "dtype": dtype,
        "fill_value": fill_value,
    }
    options |= pipeline_for(codec, preset=preset, zarr_format=zarr_format, chunks=layout.chunks)
    options["filters"] = [*options["filters"], *filters_after]
    if zarr_format == 2:
        # The name that xarray looks for, since format 2 has no place for the names of axes.
        attributes = attributes | {"_ARRAY_DIMENSIONS": list(dimension_names)}
        # Folders within folders, as OME-Zarr wants it: a flat one with a million files is slow to list.
        if has_zarr_3():
            options["chunk_key_encoding"] = {"name": "v2", "separator": "/"}
        else:
            options["dimension_separator"] = "/"
    else:
        options["dimension_names"] = tuple(dimension_names)
        options["shards"] = layout.shards
    held = (zarr.errors.ContainsArrayError, zarr.errors.ContainsGroupError)
    try:
        # Chunks of nothing but the fill value are written as well: a missing one is then a lost one.
        if has_zarr_3():
            if storage_options:
                options["storage_options"] = storage_options
            return zarr.create_array(
                store,
                **options,
                zarr_format=zarr_format,
                attributes=attributes,
                config={"write_empty_chunks": True},
                overwrite=overwrite,
            )
        if storage_options:
            store = zarr.storage.FSStore(store, **storage_options)
        mode = "w" if overwrite else "w-"
        options["compressor"] = options.pop("compressors")[0]
        array = zarr.open_array(store, mode=mode, write_empty_chunks=True, **options)
    except held as error:
        raise FileExistsError(
            f"{store} holds data already: overwrite it (overwrite=True, --overwrite)"
        ) from error
    array.attrs.put(attributes)
    return array


def reopen(store: Any, storage_options: dict[str, Any] | None = None) -> Any:
    """The array of an interrupted run, open for writing, or None if there is none."""
    zarr = zarr_module()
    options: dict[str, Any] = {"storage_options": storage_options} if storage_options else {}
    try:
        array = zarr.open_array(store, mode="r+", **options)
    except (FileNotFoundError, KeyError):
        return None
    except Exception as error:
        # The names under which the versions of zarr say that there is nothing.
        if type(error).__name__ in ("ArrayNotFoundError", "NodeNotFoundError", "PathNotFoundError"):
            return None
        raise
    return array.with_config({"write_empty_chunks": True}) if has_zarr_3() else array


def open_array(stored: Any, storage_options: dict[str, Any] | None = None) -> Any:
    """The zarr array that a path or a store holds.

    Raises
    ------
    FileNotFoundError, ValueError
        There is none, or its metadata are impossible.
    """
    array = _opened(stored, storage_options)
    check_geometry(array, name_of(array, stored))
    return array


def _opened(stored: Any, storage_options: dict[str, Any] | None) -> Any:
    zarr = zarr_module()
    if isinstance(stored, zarr.Array):
        return stored
    if (file := hdf5_file(stored)) is not None:
        from anscombe_transform.movies.readers.hdf5 import open_zarr_array

        return open_zarr_array(*file)
    if hasattr(stored, "dtype"):
        raise TypeError(
            f"what is stored must be a path, URL, store of Zarr or zarr.Array, got {value_text(stored)}: it "
            "comes first, and the movie after it, verify(stored, movie)"
        )
    path = local_path(stored)
    if path is None:
        options: dict[str, Any] = {"storage_options": storage_options} if storage_options else {}
        return zarr.open_array(as_zarr_store(stored), mode="r", **options)
    if not path.exists():
        partial = path.with_name(f"{path.name}{PARTIAL}")
        begun = (
            f"; {partial} holds an interrupted run: go on with it (resume=True, --resume)"
            if partial.exists()
            else ""
        )
        raise FileNotFoundError(f"there is no stored movie {path}{begun}")
    if not (is_zarr(path) or _is_zipped(path)):
        raise ValueError(
            f"{path} is not a stored movie, a folder of Zarr or a file of HDF5 with this package's filter: "
            "what is stored comes first, and its source after it (against, --against)"
        )
    try:
        node = _open_node(path)
    except Exception as error:
        raise ValueError(f"cannot open the Zarr array {path}: {error}") from error
    if not isinstance(node, zarr.Array) and (level := _full_resolution(node)) is not None:
        return level
    if not isinstance(node, zarr.Array):
        names = ", ".join(sorted(node.array_keys())) or "none"
        raise ValueError(f'{path} is a group of arrays ({names}): say which, "{path}::name"')
    return node


def _is_zipped(path: Path) -> bool:
    """Whether a path is a packed store of Zarr, by its name."""
    return path.name.lower().endswith(".zarr.zip") and path.is_file()


def _open_node(path: Path) -> Any:
    """The array or group in a folder, or in a packed one."""
    zarr = zarr_module()
    return zarr.open(zarr.storage.ZipStore(str(path), mode="r") if _is_zipped(path) else str(path), mode="r")


def _full_resolution(group: Any) -> Any | None:
    """The first level of an OME-Zarr image; None for another group."""
    attributes = dict(group.attrs)
    images = attributes.get("ome", attributes).get("multiscales")
    if not images:
        return None
    path = images[0]["datasets"][0]["path"]
    # A path outside the group would show another array under this name.
    if not isinstance(path, str) or ".." in path.split("/") or not hasattr(group.get(path), "dtype"):
        raise ValueError(f"the image names {path!r} as its full resolution, which is no array in its group")
    return group[path]


def coarse_levels(stored: Any) -> list[tuple[str, Any]]:
    """The levels of an OME-Zarr image in a folder beside the full resolution, with their names."""
    path = local_path(stored) if isinstance(stored, str | os.PathLike) else None
    if path is None or not (is_zarr(path) or _is_zipped(path)):
        return []
    node = _open_node(path)
    if not hasattr(node, "arrays") or (full := _full_resolution(node)) is None:
        return []
    return [(f"{path}::{name}", array) for name, array in sorted(node.arrays()) if array.path != full.path]


def codec_of(array: Any) -> Codec | None:
    """The Anscombe codec among an array's filters."""
    from anscombe_transform.codec.zarr_v2 import AnscombeTransformV2

    kinds: tuple[type, ...] = (AnscombeTransformV2,)
    if _has_format_3():
        from anscombe_transform.codec.zarr_v3 import AnscombeTransformV3

        kinds = (AnscombeTransformV2, AnscombeTransformV3)
    found: list[Any] = [codec for codec in array.filters or () if isinstance(codec, kinds)]
    return found[0] if found else None


def zarr_format_of(array: Any) -> int:
    """2 or 3."""
    return int(getattr(array.metadata, "zarr_format", 2)) if has_zarr_3() else 2


def name_of(array: Any, stored: Any) -> str:
    """The name of an array in messages."""
    path = local_path(stored)
    return str(path) if path is not None else str(getattr(array, "store_path", array))
