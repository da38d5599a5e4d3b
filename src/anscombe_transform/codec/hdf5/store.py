"""A dataset with the filter as a store of Zarr: metadata from the filter's parameters, chunks as they are.

So everything that works on Zarr arrays works on HDF5 files, and in threads: HDF5 by itself decodes one chunk
at a time.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from itertools import product
from typing import Any

import h5py
import numpy as np
import zarr
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype

from anscombe_transform.codec.hdf5.parameters import FilterParameters
from anscombe_transform.codec.hdf5.plugin import FILTER_ID
from anscombe_transform.codec.zarr_v3 import AnscombeTransformV3, FrameCoderV3
from anscombe_transform.native import crc32

__all__ = ["HDF5Store", "has_filter", "parameters_of"]

_METADATA = "zarr.json"
_TRANSPOSE = {"name": "transpose", "configuration": {"order": [0, 2, 1]}}
# Names that HDF5 gives attributes of datasets with labels of dimensions, and NWB those that are its own.
_OF_HDF5 = ("DIMENSION_LABELS", "DIMENSION_LIST", "CLASS", "NAME", "REFERENCE_LIST")


class HDF5Store(Store):
    """A dataset of an HDF5 file as the store of one Zarr array, format 3.

    Parameters
    ----------
    file : h5py.File
        Open; it is closed by whoever opened it.
    name : str
        Of the dataset. Where there is none yet, it is created when the metadata of an array are set.
    transposed : bool
        Whether the dataset has the axes (time, x, y), as NWB wants it; those of the array are (time, y, x).
    read_only : bool

    Attributes
    ----------
    checksums : dict of tuple to int
        CRC-32 of the chunks that were set, by their offsets in the dataset.
    check : callable
        Called after a chunk was written or read; it raises errors that HDF5 does not see.
    """

    supports_writes = True
    supports_deletes = False
    supports_listing = True

    def __init__(
        self, file: h5py.File, name: str, *, transposed: bool = False, read_only: bool = True
    ) -> None:
        super().__init__(read_only=read_only)
        self.file, self.name, self.transposed = file, name, transposed
        self.checksums: dict[tuple[int, ...], int] = {}
        self.check: Callable[[], object] = _nothing
        self._lock = threading.Lock()
        self._is_open = True

    def with_read_only(self, read_only: bool = False) -> HDF5Store:
        """The same file, for reading alone or for writing too."""
        store = HDF5Store(self.file, self.name, transposed=self.transposed, read_only=read_only)
        store.checksums, store.check = self.checksums, self.check
        return store

    @property
    def _dataset(self) -> Any:
        return self.file.get(self.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HDF5Store) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[str, str, bool]:
        return str(self.file.filename), self.name, self.transposed

    def __str__(self) -> str:
        return f"{os.fsdecode(self.file.filename)}::{self.name}"

    def __repr__(self) -> str:
        return f"HDF5Store('{self}')"

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (*self._identity,)

    # -- reading -----------------------------------------------------------------------------------------

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The bytes of a chunk or of the metadata, or None."""
        found = await asyncio.to_thread(self._get, key)
        if found is None:
            return None
        data: Buffer = (prototype or default_buffer_prototype()).buffer.from_bytes(found)
        if byte_range is None:
            return data
        if isinstance(byte_range, RangeByteRequest):
            return data[byte_range.start : byte_range.end]
        if isinstance(byte_range, OffsetByteRequest):
            return data[byte_range.offset :]
        assert isinstance(byte_range, SuffixByteRequest)
        return data[max(len(data) - byte_range.suffix, 0) :]

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """The bytes of parts of chunks."""
        return [await self.get(key, prototype, part) for key, part in key_ranges]

    async def exists(self, key: str) -> bool:
        """Whether there is such a chunk, or metadata."""
        if key == _METADATA:
            return self._dataset is not None
        return self._stored_at(key) is not None

    def _get(self, key: str) -> bytes | None:
        if key == _METADATA:
            return None if self._dataset is None else json.dumps(self._metadata()).encode()
        offset = self._stored_at(key)
        if offset is None:
            return None
        mask, data = self._dataset.id.read_direct_chunk(offset)
        self.check()
        if mask:
            raise ValueError(f"the chunk at {offset} of {self} was stored without the filter")
        return bytes(data)

    def _stored_at(self, key: str) -> tuple[int, ...] | None:
        """The offset of a chunk in the dataset; None where there is none."""
        offset = self._offset(key)
        if offset is None or self._dataset.id.get_chunk_info_by_coord(offset).byte_offset is None:
            return None
        return offset

    def _offset(self, key: str) -> tuple[int, ...] | None:
        dataset = self._dataset
        prefix, *numbers = key.split("/")
        if dataset is None or prefix != "c" or not all(n.isdecimal() for n in numbers):
            return None
        index = self._turned([int(n) for n in numbers])
        grid = [-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True)]
        if len(index) != len(grid) or any(i >= n for i, n in zip(index, grid, strict=True)):
            return None
        return tuple(i * c for i, c in zip(index, dataset.chunks, strict=True))

    def _turned(self, axes: Iterable[Any]) -> list[Any]:
        """Entries of the axes of the dataset in the order of those of the array, and back."""
        found = list(axes)
        return [found[0], found[2], found[1]] if self.transposed else found

    def _metadata(self) -> dict[str, Any]:
        dataset = self._dataset
        parameters = parameters_of(dataset)
        transform = AnscombeTransformV3.from_dict(
            {"name": parameters.configuration.format, "configuration": parameters.configuration.to_json()}
        )
        coder = FrameCoderV3(parameters.frames.preset, parameters.frames.time_axis)
        document = transform.to_dict()
        # The array's values are those of this machine.
        document["configuration"]["decoded_dtype"] = parameters.configuration.values_dtype.name
        fill = dataset.fillvalue.item()
        labels = [dimension.label or None for dimension in dataset.dims]
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": self._turned(dataset.shape),
            "data_type": dataset.dtype.newbyteorder("=").name,
            "chunk_grid": {
                "name": "regular",
                "configuration": {"chunk_shape": self._turned(dataset.chunks)},
            },
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": fill if not isinstance(fill, float) or math.isfinite(fill) else str(fill),
            # The transform is the same for every value, and codes are smaller to transpose.
            "codecs": [document, *([_TRANSPOSE] if self.transposed else []), coder.to_dict()],
            "attributes": {name: _parsed(value) for name, value in dataset.attrs.items() if _is_ours(name)},
            "dimension_names": self._turned(labels),
        }

    # -- writing -----------------------------------------------------------------------------------------

    async def set(self, key: str, value: Buffer) -> None:
        """Store a chunk, or metadata: the first make the dataset, later ones its attributes."""
        self._check_writable()
        data = value.to_bytes()
        await asyncio.to_thread(self._set, key, data)

    def _set(self, key: str, data: bytes) -> None:
        if key == _METADATA:
            with self._lock:
                self._set_metadata(json.loads(data))
            return
        offset = self._offset(key)
        if offset is None:
            raise ValueError(f"{self} has no place for {key!r}")
        self._dataset.id.write_direct_chunk(offset, data)
        self.check()
        self.checksums[offset] = crc32(data)

    def _set_metadata(self, document: Mapping[str, Any]) -> None:
        if self._dataset is None:
            self._create(document)
        attributes = self._dataset.attrs
        for name, value in document.get("attributes", {}).items():
            attributes[name] = json.dumps(value) if isinstance(value, dict | list) else value

    def _create(self, document: Mapping[str, Any]) -> None:
        codecs = [codec for codec in document["codecs"] if codec["name"] != "transpose"]
        if self.transposed != (len(codecs) < len(document["codecs"])) or len(codecs) != 2:
            raise ValueError(
                f"{self} holds the codecs anscombe and anscombe_frames, got {document['codecs']!r:.200}"
            )
        chunks = tuple(self._turned(document["chunk_grid"]["configuration"]["chunk_shape"]))
        transform, coder = AnscombeTransformV3.from_dict(codecs[0]), FrameCoderV3.from_dict(codecs[1])
        parameters = FilterParameters(transform.plan.configuration, chunks, coder.configuration)
        labels = self._turned(document.get("dimension_names") or [None] * len(chunks))
        create_dataset(
            self.file,
            self.name,
            tuple(self._turned(document["shape"])),
            parameters,
            fill_value=document["fill_value"],
            labels=labels,
        )

    async def delete(self, key: str) -> None:
        """Chunks of HDF5 stay."""
        raise NotImplementedError(f"{self}: chunks of an HDF5 file are not deleted")

    # -- listing -----------------------------------------------------------------------------------------

    async def list(self) -> AsyncIterator[str]:
        """The metadata and the chunks that are there."""
        if self._dataset is None:
            return
        yield _METADATA
        for offset in await asyncio.to_thread(stored_offsets, self._dataset):
            index = [place // c for place, c in zip(offset, self._dataset.chunks, strict=True)]
            yield "c/" + "/".join(str(i) for i in self._turned(index))

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Those of them that begin so."""
        async for key in self.list():
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """The names in a folder."""
        start = f"{prefix.rstrip('/')}/" if prefix else ""
        names = {key.removeprefix(start).partition("/")[0] async for key in self.list_prefix(start)}
        for name in sorted(names):
            yield name

    async def getsize_prefix(self, prefix: str) -> int:
        """Bytes of the dataset's chunks."""
        return 0 if self._dataset is None else int(self._dataset.id.get_storage_size())


def open_dataset(dataset: h5py.Dataset, *, transposed: bool = False) -> Any:
    """A dataset with the filter as a `zarr.Array`, to be read; the file has to stay open."""
    return zarr.open_array(HDF5Store(dataset.file, dataset.name, transposed=transposed), mode="r")


def _nothing() -> None:
    """Nothing is amiss."""


def _reopened(filename: str, name: str, transposed: bool) -> HDF5Store:
    return HDF5Store(h5py.File(filename, "r"), name, transposed=transposed)


def stored_offsets(dataset: h5py.Dataset) -> list[tuple[int, ...]]:
    """Where the chunks begin that are stored."""
    found: list[tuple[int, ...]] = []
    if hasattr(dataset.id, "chunk_iter"):
        dataset.id.chunk_iter(lambda info: found.append(tuple(info.chunk_offset)))
        return found
    return [dataset.id.get_chunk_info(i).chunk_offset for i in range(dataset.id.get_num_chunks())]


def has_filter(dataset: h5py.Dataset) -> bool:
    """Whether the chunks of a dataset went through the filter, all of them, and through nothing else."""
    plist = dataset.id.get_create_plist()
    if dataset.chunks is None or plist.get_nfilters() != 1 or plist.get_filter(0)[0] != FILTER_ID:
        return False
    skipped: list[int] = []
    if hasattr(dataset.id, "chunk_iter"):
        dataset.id.chunk_iter(lambda info: skipped.append(1) if info.filter_mask else None)
    else:
        ids = range(dataset.id.get_num_chunks())
        skipped = [1 for i in ids if dataset.id.get_chunk_info(i).filter_mask]
    return not skipped


def parameters_of(dataset: h5py.Dataset) -> FilterParameters:
    """The filter's parameters of a dataset.

    Raises
    ------
    ValueError
        They can't be read, or are damaged.
    """
    words = dataset.id.get_create_plist().get_filter(0)[2]
    found = FilterParameters.unpack([int(n) for n in words], dataset.chunks)
    if np.dtype(found.configuration.decoded_dtype) != dataset.dtype:
        raise ValueError(
            f"{dataset.file.filename}::{dataset.name} has values of type {dataset.dtype}, and its filter "
            f"those of {found.configuration.decoded_dtype}: the file is damaged"
        )
    return found


def create_dataset(
    group: h5py.Group,
    name: str,
    shape: tuple[int, ...],
    parameters: FilterParameters,
    *,
    fill_value: Any = 0,
    labels: Iterable[str | None] = (),
) -> h5py.Dataset:
    """Create a dataset with the filter."""
    dtype = np.dtype(parameters.configuration.decoded_dtype)
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk(parameters.chunks)
    plist.set_fill_value(np.asarray(float(fill_value) if dtype.kind == "f" else int(fill_value), dtype))
    # A chunk that an optional filter refuses is stored as it is. One that is not optional fails when the file
    # is closed, where HDF5 may end the process.
    plist.set_filter(FILTER_ID, h5py.h5z.FLAG_OPTIONAL, parameters.pack())
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    space = h5py.h5s.create_simple(shape)
    made = h5py.h5d.create(group.id, name.encode(), h5py.h5t.py_create(dtype), space, plist, lcpl=links)
    dataset = h5py.Dataset(made)
    for dimension, label in zip(dataset.dims, labels, strict=False):
        if label:
            dimension.label = label
    return dataset


def _is_ours(name: str) -> bool:
    return name not in _OF_HDF5


def _parsed(value: Any) -> Any:
    """An attribute as a value of JSON."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str | list) else str(value)


def offsets_of(shape: Iterable[int], chunks: Iterable[int]) -> Iterable[tuple[int, ...]]:
    """Where the chunks of a dataset begin."""
    return product(*(range(0, n, c) for n, c in zip(shape, chunks, strict=True)))
