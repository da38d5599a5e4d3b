"""Small documents beside an array: bytes by name, as files of a folder or among the keys of a store."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Protocol

from anscombe_transform.compression.stored.arrays import has_zarr_3, root_of, zarr_module
from anscombe_transform.native.durable import delete, make_folders, sync, write_file

__all__ = ["FolderKeys", "Keys", "StoreKeys", "keys_beside", "keys_of"]

_BESIDE = ".anscombe"
_LONGEST = 2**17
"""Bytes behind which another document follows in a store without appending: little beside a block."""

# What Zarr writes of an array: its metadata and chunks, and files that it was about to give such names.
_OF_ARRAY = re.compile(
    r"(zarr\.json|\.zarray|\.zattrs|\.zmetadata|c|\d+(\.\d+)*)(/|$)|(zarr|\.zarray|\.zattrs)\.[0-9a-f]{32}\.partial$"
)


class Keys(Protocol):
    """Documents by name."""

    def get(self, name: str) -> bytes | None:
        """The document of a name, or None."""

    def put(self, name: str, content: bytes) -> None:
        """Write a document; it is on the disk when this returns, where there is one."""

    def put_new(self, name: str, content: bytes) -> None:
        """Write a document unless there is one, which stays; stores that can do so at once."""

    def append(self, name: str, content: bytes) -> None:
        """Add to the end of a document, which is begun where there is none; on the disk when this returns.

        Where documents can't be appended to, others follow: ``name-1``, ``name-2``.
        """

    def names(self) -> list[str]:
        """Names of all documents, in order."""

    def remove(self, names: list[str]) -> None:
        """Delete documents, for good when this returns."""

    def clear_array(self) -> None:
        """Delete metadata and chunks of the array that the documents belong to, and nothing else."""


class FolderKeys:
    """Documents in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, name: str) -> bytes | None:
        """The document of a name, or None."""
        try:
            return (self._folder / f"{name}.json").read_bytes()
        except FileNotFoundError:
            return None

    def put(self, name: str, content: bytes) -> None:
        """Write a document; it is on the disk when this returns."""
        make_folders(self._folder)
        write_file(self._folder / f"{name}.json", content)

    def put_new(self, name: str, content: bytes) -> None:
        """Write a document unless there is one, which stays."""
        make_folders(self._folder)
        path = self._folder / f"{name}.json"
        try:
            with path.open("xb") as file:
                file.write(content)
        except FileExistsError:
            return
        sync(path)
        sync(self._folder)

    def append(self, name: str, content: bytes) -> None:
        """Add to the end of a document, which is begun where there is none; on the disk when this returns."""
        path = self._folder / f"{name}.json"
        make_folders(self._folder)
        with path.open("ab") as file:
            file.write(content)
        sync(path)
        # Always: another thread may have made the file, and wait for its name still.
        sync(self._folder)

    def names(self) -> list[str]:
        """Names of all documents, in order."""
        return sorted(path.stem for path in self._folder.glob("*.json"))

    def remove(self, names: list[str]) -> None:
        """Delete documents, for good when this returns, and the folder if nothing is in it then."""
        if not self._folder.exists():
            return
        for name in names:
            delete(self._folder / f"{name}.json")
        sync(self._folder)
        # What a power cut left in the middle of a renaming.
        for path in self._folder.glob("*.partial"):
            delete(path)
        if not any(self._folder.iterdir()):
            self._folder.rmdir()
            sync(self._folder.parent)

    def clear_array(self) -> None:
        """Delete metadata and chunks of the array in the parent folder, for good."""
        root = self._folder.parent
        for path in root.iterdir():
            if _OF_ARRAY.match(path.name):
                delete(path)
        sync(root)


class StoreKeys:
    """Documents among the keys of an array in a store of Zarr."""

    def __init__(self, store: Any, path: str) -> None:
        self._store = store
        self._array = f"{path}/" if path else ""
        self._prefix = f"{self._array}{_BESIDE}/"
        # Of documents that are appended to: the number and content of the last.
        self._last: dict[str, tuple[int, bytes]] = {}

    def get(self, name: str) -> bytes | None:
        """The document of a name, or None."""
        if not has_zarr_3():
            found = self._store.get(self._key(name))
            return None if found is None else bytes(found)
        from zarr.core.buffer import default_buffer_prototype

        value: Any = _sync(self._store.get(self._key(name), default_buffer_prototype()))
        return None if value is None else bytes(value.to_bytes())

    def put(self, name: str, content: bytes) -> None:
        """Write a document."""
        if not has_zarr_3():
            self._store[self._key(name)] = content
        else:
            _sync(self._store.set(self._key(name), _buffer(content)))

    def put_new(self, name: str, content: bytes) -> None:
        """Write a document unless there is one, which stays; not every store can do so at once."""
        if not has_zarr_3():
            if self._key(name) not in self._store:
                self._store[self._key(name)] = content
        else:
            _sync(self._store.set_if_not_exists(self._key(name), _buffer(content)))

    def append(self, name: str, content: bytes) -> None:
        """Add to the end of a document, or of one that follows where it is long: each time it is put anew."""
        number, held = self._last.get(name, (0, b""))
        if name not in self._last:
            while (there := self.get(_following(name, number))) is not None:
                number, held = number + 1, there
            number = max(0, number - 1)
        if len(held) > _LONGEST:
            number, held = number + 1, b""
        self._last[name] = number, held + content
        self.put(_following(name, number), held + content)

    def names(self) -> list[str]:
        """Names of all documents, in order."""
        keys = self._listed(self._prefix)
        return sorted(key.rpartition("/")[2].removesuffix(".json") for key in keys)

    def remove(self, names: list[str]) -> None:
        """Delete documents."""
        self._last.clear()
        self._delete([self._key(name) for name in names])

    def clear_array(self) -> None:
        """Delete metadata and chunks of the array."""
        keys = self._listed(self._array)
        self._delete([key for key in keys if _OF_ARRAY.match(key.removeprefix(self._array))])

    def _key(self, name: str) -> str:
        return f"{self._prefix}{name}.json"

    def _listed(self, prefix: str) -> list[str]:
        if has_zarr_3():
            return list(_sync(_all(self._store.list_prefix(prefix))))
        return [key for key in self._store if key.startswith(prefix)]

    def _delete(self, keys: list[str]) -> None:
        for key in keys:
            if has_zarr_3():
                _sync(self._store.delete(key))
            else:
                self._store.pop(key, None)


def _following(name: str, number: int) -> str:
    return f"{name}-{number:06d}"


def keys_beside(place: Any, storage_options: dict[str, Any] | None) -> Keys:
    """Documents beside the array of a store, whether the array exists or not."""
    if not has_zarr_3():
        normalized = zarr_module().storage.normalize_store_arg
        store = normalized(place, storage_options=storage_options, mode="a", zarr_version=2)
        path = ""
    else:
        from zarr.storage._common import make_store_path

        found: Any = _sync(make_store_path(place, mode="a", storage_options=storage_options))
        store, path = found.store, found.path
    return _beside(store, path)


def keys_of(array: Any) -> Keys:
    """Documents beside an array."""
    return _beside(array.store, array.path)


def _beside(store: Any, path: str) -> Keys:
    root = root_of(store)
    return StoreKeys(store, path) if root is None else FolderKeys(Path(root) / path / _BESIDE)


def _buffer(content: bytes) -> Any:
    from zarr.core.buffer import cpu

    return cpu.Buffer.from_bytes(content)


async def _all(keys: Any) -> list[str]:
    return [key async for key in keys]


def _sync(coroutine: Any) -> Any:
    from zarr.core.sync import sync

    return sync(coroutine)
