"""A file system whose power can be cut: what a program does is recorded, and crash states made of the record.

While a `Recorder` is active, every operation on files below its folder is noted with the bytes it wrote. A
crash state after the first n operations keeps what was synchronised by then, and of the rest whatever chance
chooses: each change of a name is there or not, whatever came before or after it in time; each file that was
not synchronised has its old, no, half of the, zeroed, or the new content. That is more than any file system
does. As in SQLite's crash tests, ``fsync`` of a file keeps its content and not its name, and ``fsync`` of a
folder the names in it and not what is in the files. Only a renaming is one change, as on every file system
with a journal.

Linux alone: names of open files are read from /proc.
"""

from __future__ import annotations

import builtins
import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

_WRITING = frozenset("wax+")


@dataclass
class Change:
    """One operation: on names in folders, on the content of a file, or a synchronisation."""

    kind: str  # "link", "unlink", "rename", "content", "sync"
    node: int  # the file or folder; for "sync" what is synchronised
    folder: int = 0
    name: str = ""
    to_folder: int = 0
    to_name: str = ""
    content: bytes = b""


@dataclass
class Recorder:
    """Notes what is done to files below a folder, which is empty at the beginning or of known content."""

    root: Path
    changes: list[Change] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.root = self.root.resolve()
        self._lock = threading.RLock()
        # Number 0 is the root; a folder has a dictionary of its names, a file None.
        self._nodes: list[dict[str, int] | None] = [{}]
        self._contents: dict[int, bytes] = {}
        # Files that are open for writing, by their number.
        self._open: dict[int, list[Any]] = {}
        self._adopt(self.root, 0)
        self.changes += [Change("sync", node) for node in range(len(self._nodes))]
        self._start = len(self.changes)

    # -- recording ---------------------------------------------------------------------------------------

    @contextmanager
    def active(self) -> Iterator[Recorder]:
        """Note everything that this process does below the folder."""
        names = ("open", "fsync", "rename", "replace", "unlink", "remove", "mkdir", "rmdir", "link")
        real = {name: getattr(os, name) for name in names}
        open_file = io.open

        def opened(file: Any, mode: str = "r", *given: Any, **named: Any) -> Any:
            if isinstance(file, int) or not _WRITING & set(mode):
                return open_file(file, mode, *given, **named)
            with self._lock:
                handle = open_file(file, mode, *given, **named)
                self._created(self._path(file), handle)
                return handle

        def os_open(path: Any, flags: int, *given: Any, **named: Any) -> int:
            with self._lock:
                handle = real["open"](path, flags, *given, **named)
                if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                    self._created(self._path(path, named.get("dir_fd")), handle)
                return handle

        def fsync(handle: Any) -> None:
            with self._lock:
                number = handle if isinstance(handle, int) else handle.fileno()
                place = Path(f"/proc/self/fd/{number}").readlink()
                self._look()
                node = self._find(place)
                if node is not None:
                    self.changes.append(Change("sync", node))
                real["fsync"](number)

        def moved(function: Any) -> Any:
            def move(source: Any, target: Any, **named: Any) -> None:
                with self._lock:
                    self._look()
                    function(source, target, **named)
                    self._moved(self._path(source), self._path(target))

            return move

        def removed(function: Any) -> Any:
            def remove(path: Any, *, dir_fd: int | None = None) -> None:
                with self._lock:
                    self._look()
                    place = self._path(path, dir_fd)
                    function(path, dir_fd=dir_fd)
                    self._removed(place)

            return remove

        def mkdir(path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
            with self._lock:
                self._look()
                real["mkdir"](path, mode, dir_fd=dir_fd)
                self._linked(self._path(path, dir_fd), {})

        def link(source: Any, target: Any, **named: Any) -> None:
            with self._lock:
                self._look()
                real["link"](source, target, **named)
                node, place = self._find(self._path(source)), self._path(target)
                folder = self._find(place.parent)
                if node is not None and folder is not None:
                    self._nodes[folder][place.name] = node  # type: ignore[index]
                    self.changes.append(Change("link", node, folder, place.name))

        os.open, os.fsync, os.mkdir, os.link = os_open, fsync, mkdir, link  # type: ignore[assignment]
        os.rename, os.replace = moved(real["rename"]), moved(real["replace"])
        os.unlink = os.remove = removed(real["unlink"])
        os.rmdir = removed(real["rmdir"])
        io.open = builtins.open = opened  # type: ignore[assignment]
        try:
            yield self
        finally:
            for name, function in real.items():
                setattr(os, name, function)
            io.open = builtins.open = open_file
            self._look()

    def tree(self) -> dict[str, bytes | None]:
        """What the record says is there; a test of the record itself."""
        return self._listed(0, self._nodes, self._contents)

    @property
    def moments(self) -> range:
        """Numbers of operations after which the power can be cut."""
        return range(self._start, len(self.changes) + 1)

    # -- crash states ------------------------------------------------------------------------------------

    def cut(self, moment: int, rng: np.random.Generator, folder: Path) -> None:
        """Make what a power cut after this many operations may leave, in an empty folder."""
        past = self.changes[:moment]
        last: dict[int, int] = {c.node: at for at, c in enumerate(past) if c.kind == "sync"}
        nodes: list[dict[str, int] | None] = [None if n is None else {} for n in self._nodes]
        contents: dict[int, bytes] = {}
        # Some cuts lose next to nothing and some next to everything.
        kept = rng.choice([0.0, 0.2, 0.5, 0.8, 1.0])
        for at, change in enumerate(past):
            if change.kind == "sync":
                continue
            if change.kind == "content":
                if at < last.get(change.node, -1):
                    contents[change.node] = change.content
                elif rng.random() < 0.8:
                    # What is added to the end of a file leaves what was synchronised before as it is.
                    there = contents.get(change.node, b"") if change.node in last else b""
                    there = there if change.content.startswith(there) else b""
                    contents[change.node] = there + _torn(change.content[len(there) :], kept, rng)
                continue
            places = {change.folder} | ({change.to_folder} if change.kind == "rename" else set())
            certain = all(at < last.get(place, -1) for place in places)
            if not (certain or rng.random() < kept):
                continue
            source = nodes[change.folder]
            assert source is not None
            if change.kind == "link":
                source[change.name] = change.node
            elif change.kind == "unlink":
                if source.get(change.name) == change.node:
                    del source[change.name]
            else:
                if source.get(change.name) == change.node:
                    del source[change.name]
                target = nodes[change.to_folder]
                assert target is not None
                target[change.to_name] = change.node
        for name, content in self._listed(0, nodes, contents).items():
            place = folder / name
            if content is None:
                place.mkdir(parents=True, exist_ok=True)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content)

    # -- the record --------------------------------------------------------------------------------------

    def _listed(
        self, top: int, nodes: list[dict[str, int] | None], contents: dict[int, bytes]
    ) -> dict[str, bytes | None]:
        found: dict[str, bytes | None] = {}

        def look(node: int, prefix: str) -> None:
            for name, child in (nodes[node] or {}).items():
                if nodes[child] is None:
                    found[prefix + name] = contents.get(child, b"")
                else:
                    found[prefix + name] = None
                    look(child, f"{prefix}{name}/")

        look(top, "")
        return found

    def _adopt(self, place: Path, node: int) -> None:
        for path in sorted(place.iterdir()):
            child = self._linked(path, {} if path.is_dir() else None)
            assert child is not None
            if path.is_dir():
                self._adopt(path, child)
            else:
                self._contents[child] = path.read_bytes()
                self.changes.append(Change("content", child, content=self._contents[child]))

    def _path(self, path: Any, dir_fd: int | None = None) -> Path:
        place = Path(os.fsdecode(os.fspath(path)))
        if dir_fd is not None:
            place = Path(f"/proc/self/fd/{dir_fd}").readlink() / place
        return Path(os.path.normpath(place.absolute()))

    def _find(self, place: Path) -> int | None:
        """The number of a file or folder; None for what lies elsewhere."""
        place = Path(os.path.realpath(place.parent)) / place.name
        if not place.is_relative_to(self.root):
            return None
        node = 0
        for name in place.relative_to(self.root).parts:
            entries = self._nodes[node]
            if not entries or name not in entries:
                return None
            node = entries[name]
        return node

    def _linked(self, place: Path, entries: dict[str, int] | None) -> int | None:
        folder = self._find(place.parent)
        if folder is None:
            return None
        self._nodes.append(entries)
        node = len(self._nodes) - 1
        self._nodes[folder][place.name] = node  # type: ignore[index]
        self.changes.append(Change("link", node, folder, place.name))
        return node

    def _created(self, place: Path, handle: Any) -> None:
        """A file was opened for writing, and made or emptied by that."""
        if self._find(place.parent) is None or place.is_dir():
            return
        node = self._find(place)
        if node is None:
            node = self._linked(place, None)
        assert node is not None
        self._open.setdefault(node, []).append((handle, place.stat().st_ino))
        self._look()

    def _look(self) -> None:
        """Note the content of the files that are, or were until now, open for writing."""
        for node, handles in list(self._open.items()):
            place = self._place(node)
            if place is not None and place.exists():
                with _real_open(place) as file:
                    content = file.read()
                if content != self._contents.get(node, b""):
                    self._contents[node] = content
                    self.changes.append(Change("content", node, content=content))
            self._open[node] = [pair for pair in handles if not _is_closed(*pair)]
            if not self._open[node]:
                del self._open[node]

    def _place(self, node: int) -> Path | None:
        """Where a file is now."""

        def look(top: int, place: Path) -> Path | None:
            for name, child in (self._nodes[top] or {}).items():
                if child == node:
                    return place / name
                if self._nodes[child] and (found := look(child, place / name)) is not None:
                    return found
            return None

        return look(0, self.root)

    def _moved(self, source: Path, target: Path) -> None:
        node, to_folder = self._find(source), self._find(target.parent)
        folder = self._find(source.parent)
        if node is None or folder is None or to_folder is None:
            return
        del self._nodes[folder][source.name]  # type: ignore[union-attr]
        self._nodes[to_folder][target.name] = node  # type: ignore[index]
        self.changes.append(Change("rename", node, folder, source.name, to_folder, target.name))

    def _removed(self, place: Path) -> None:
        node, folder = self._find(place), self._find(place.parent)
        if node is None or folder is None:
            return
        del self._nodes[folder][place.name]  # type: ignore[union-attr]
        self.changes.append(Change("unlink", node, folder, place.name))


def _real_open(place: Path) -> io.FileIO:
    return io.FileIO(place)


def _is_closed(handle: Any, inode: int) -> bool:
    if not isinstance(handle, int):
        return bool(handle.closed)
    try:
        return os.fstat(handle).st_ino != inode
    except OSError:
        return True


def _torn(content: bytes, kept: float, rng: np.random.Generator) -> bytes:
    """Content that was not waited for: all of it, none, a beginning, or zeros of its length."""
    if rng.random() < kept:
        return content
    return [b"", content[: len(content) // 2], bytes(len(content))][int(rng.integers(3))]
