"""Compressing the recordings of a folder as soon as they are complete.

Results are kept in a ledger in the output folder: the state of a recording's files, and the outcome. The
ledger only saves work. A recording is stored once, even after interruptions, because of `compress` with
``resume=True``: an array that is there is compared with the recording, one that was interrupted is gone on
with.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Unpack

from anscombe_transform.compression.batch import BatchItem, BatchResult, Layout, compress_one, pair_names
from anscombe_transform.compression.blocks.source import state_of_files
from anscombe_transform.compression.options import BatchOptions, check_options
from anscombe_transform.native.durable import make_folders, write_file
from anscombe_transform.native.work import Progress

__all__ = ["watch"]

_LEDGER, _LOCK = ".anscombe-watch.json", ".anscombe-watch.lock"

# Seconds until a recording that failed is tried again though its files are the same, doubled each time: a
# network drive may have been away.
_FIRST_PAUSE, _LONGEST_PAUSE = 60.0, 3600.0

_log = logging.getLogger(__name__)

State = dict[str, int] | None
"""Of a recording's files, see `state_of_files`."""


@dataclass(slots=True)
class _Seen:
    """State of a recording that waits."""

    state: State
    since: float
    """When the state was first seen, by the monotonic clock."""
    again: float = 0.0
    """Not before this time is it tried again, after it failed."""
    pause: float = _FIRST_PAUSE


def watch(
    source: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    settle: float = 60.0,
    interval: float = 5.0,
    once: bool = False,
    stop: threading.Event | None = None,
    layout: Layout = "array",
    calibration: Mapping[str, Any] | None = None,
    done: Callable[[BatchItem], object] | None = None,
    progress: Progress | None = None,
    **options: Unpack[BatchOptions],
) -> BatchResult:
    """Compress every recording that appears in a folder, once, when it is complete.

    Parameters
    ----------
    source : path
        Folder that recordings are written to, with its subfolders.
    folder : path
        Where the arrays go, as for `compress_all`. It also gets the ledger ``.anscombe-watch.json``.
    settle : float, optional
        Seconds for which the files of a recording must not have changed. A recording that its reader finds
        not to be whole all the same is tried again when its files have changed, or after a minute, then
        two, and so on.
    interval : float, optional
        Seconds between two looks at the folder.
    once : bool, optional
        Return when every recording that is there is stored, refused or failed, rather than going on.
    stop : threading.Event, optional
        Ends the watch when it is set, after the recording in work.
    layout, calibration, progress, **options : optional
        As for `compress_all`.
    done : callable, optional
        Called with each item when it is done; once for a recording with unchanged files.

    Returns
    -------
    BatchResult
        Of the recordings that were looked at, the latest outcome of each.

    Raises
    ------
    FileExistsError
        Another watch writes to `folder`.
    NotADirectoryError, ValueError
        `source` is not a folder, or a parameter breaks its rule.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from pathlib import Path
    >>> from anscombe_transform import Sensitivity
    >>> from anscombe_transform.live import watch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     night = Path(folder, "night")
    ...     night.mkdir()
    ...     photons = np.random.default_rng(0).poisson(8, (20, 64, 64))
    ...     np.save(night / "movie.npy", (50 + 90 * photons).astype("int16"))
    ...     known = Sensitivity.from_known(conversion_gain=90, zero_level=50)
    ...     print(watch(night, Path(folder, "archive"), settle=0, once=True, sensitivity=known).ok)
    True
    """
    from filelock import FileLock, Timeout

    place, target = Path(source), Path(folder)
    check_options(options, BatchOptions.__optional_keys__, "watch")
    if not place.is_dir():
        raise NotADirectoryError(f"{place} is not a folder: name the folder that recordings are written to")
    for name, value, least in (("settle", settle, 0.0), ("interval", interval, 0.0)):
        if not value >= least:
            raise ValueError(f"{name} must be at least {least:g} seconds, got {value!r}")
    make_folders(target)
    lock = FileLock(target / _LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise FileExistsError(f"another watch writes to {target}: end it first") from error
    wanted: dict[str, Any] = {**options, "layout": layout, "calibration": calibration, "progress": progress}
    job = _Watch(place, target, settle, wanted, done)
    ended = stop or threading.Event()
    try:
        while not ended.is_set():
            waiting = job.look(ended)
            if once and not waiting:
                break
            ended.wait(min(interval, max(waiting, 0.01)) if once else interval)
    finally:
        lock.release()
    return BatchResult(tuple(job.items.values()), tuple(job.notes))


class _Watch:
    """One watch: its state and results."""

    def __init__(
        self,
        source: Path,
        folder: Path,
        settle: float,
        options: dict[str, Any],
        done: Callable[[BatchItem], object] | None,
    ) -> None:
        self._source, self._folder, self._settle = source, folder, settle
        self._options, self._done = options, done
        self._seen: dict[str, _Seen] = {}
        self._ledger = _read_ledger(folder / _LEDGER)
        self.items: dict[str, BatchItem] = {}
        self.notes: list[str] = []

    def look(self, ended: threading.Event) -> float:
        """Compress complete recordings; return seconds until the next may be complete, 0 if none waits."""
        suffix = ".ome.zarr" if self._options["layout"] == "ome-zarr" else ".zarr"
        self.notes.clear()
        try:
            pairs = pair_names([self._source], self._folder, suffix, self.notes)
        except ValueError:  # there is none yet, or two have one name until one of them is moved
            _log.debug("nothing to compress in %s", self._source, exc_info=True)
            return 0.0
        waits = [self._one(source, store) for source, store in pairs if not ended.is_set()]
        return min((wait for wait in waits if wait > 0), default=0.0)

    def _one(self, source: str, store: Path) -> float:
        """Compress a recording if it is complete; seconds until it may be, 0 where nothing is left to do."""
        try:
            state = _state_of(source)
        except OSError:  # moved away while we looked
            return 0.0
        now = time.monotonic()
        seen = self._seen.get(source)
        if seen is None or seen.state != state:
            seen = self._seen[source] = _Seen(state, now)
        entry = self._ledger.get(source)
        if entry is not None and entry["state"] == state and _is_settled(entry, store):
            self.items.setdefault(source, _item_of(entry, source, store))
            return 0.0
        # A file that was copied here keeps its old time of change: what counts is what we saw.
        still = max(self._settle - (now - seen.since), seen.again - now)
        if still > 0:
            # With `once`, a recording that failed has had its turn.
            return 0.0 if seen.again else still
        item = compress_one(source, store, True, self._options)
        self.items[source] = item
        if _changed(source, state):
            _log.info("%s changed while it was compressed, and is looked at again", source)
            del self._seen[source]
            return self._settle or 0.01
        self._note(source, state, item)
        if not item.ok:
            seen.again, seen.pause = time.monotonic() + seen.pause, min(2 * seen.pause, _LONGEST_PAUSE)
        if self._done is not None:
            self._done(item)
        return 0.0

    def _note(self, source: str, state: State, item: BatchItem) -> None:
        self._ledger[source] = {
            "state": state,
            "outcome": item.outcome,
            "store": item.store,
            "message": item.message,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_file(self._folder / _LEDGER, json.dumps(self._ledger, indent=1).encode())


def _is_settled(entry: Mapping[str, Any], store: Path) -> bool:
    """Whether nothing is left to do: it is stored and still there, or was refused, which doesn't change."""
    if entry["outcome"] in ("compressed", "skipped"):
        return entry["store"] == str(store) and store.exists()
    return bool(entry["outcome"] == "refused")


def _item_of(entry: Mapping[str, Any], source: str, store: Path) -> BatchItem:
    """The item of a recording that an earlier watch has dealt with."""
    if entry["outcome"] == "refused":
        return BatchItem(source, str(store), "refused", message=str(entry["message"]))
    return BatchItem(source, str(store), "skipped", message=f"stored on {entry['date']}")


def _read_ledger(path: Path) -> dict[str, Any]:
    """The ledger; empty where there is none or it is damaged: arrays are then compared with recordings."""
    try:
        ledger = json.loads(path.read_bytes())
        return {
            source: entry
            for source, entry in ledger.items()
            if {"state", "outcome", "store", "message", "date"} <= set(entry)
        }
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError):
        _log.warning("%s is damaged, and written anew", path)
        return {}


def _changed(source: str, state: State) -> bool:
    try:
        return _state_of(source) != state
    except OSError:
        return True


def _state_of(source: str) -> State:
    """State of the files of a recording: a file, a folder, or a pattern."""
    path = Path(source)
    if path.is_dir():
        files = [file for file in path.rglob("*") if file.is_file()]
    elif any(letter in path.name for letter in "*?["):
        files = list(path.parent.glob(path.name))
    else:
        files = [path]
    return state_of_files(files)
