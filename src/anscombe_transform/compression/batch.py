"""Many recordings, one after the other: find them, compress each, go on past a bad one, say so at the end."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

from anscombe_transform.calibration import (
    ConstantsMismatch,
    UntrustworthyCalibration,
    compute_sensitivity,
)
from anscombe_transform.compression.ome_zarr import write_ome_zarr
from anscombe_transform.compression.options import BatchOptions, RecordingOptions, check_options
from anscombe_transform.compression.results import describe
from anscombe_transform.compression.stored.destination import check_name
from anscombe_transform.compression.writing import compress
from anscombe_transform.movies.acquisitions import ANY_NUMBER, group_files, is_one_recording
from anscombe_transform.movies.readers.microscopes.libraries import SUFFIXES
from anscombe_transform.movies.readers.tiff import TIFF_SUFFIXES
from anscombe_transform.movies.readers.zarr_stores import is_zarr
from anscombe_transform.native.documents import Printed
from anscombe_transform.native.work import Progress

if TYPE_CHECKING:
    from anscombe_transform.compression.results import CompressionResult

__all__ = ["BatchItem", "BatchResult", "compress_all", "compress_recording", "find_arrays", "find_recordings"]

Outcome = Literal["compressed", "skipped", "refused", "failed"]
Layout = Literal["array", "ome-zarr"]

_SUFFIXES = (
    *TIFF_SUFFIXES,
    *(".h5", ".hdf5", ".hdf", ".he5", ".nwb"),
    *(".npy", ".npz"),
    *(".fits", ".fit", ".fts", ".fits.gz", ".fit.gz", ".fits.fz"),
    ".sbx",
    *SUFFIXES,
)
# The folder in which Prairie keeps images of the field beside a recording.
_OF_THE_FIELD = "References"


@dataclass(frozen=True, slots=True)
class BatchItem:
    """Outcome for one recording.

    Attributes
    ----------
    source, store : str
        The recording, and where its array is or would have been.
    outcome : {"compressed", "skipped", "refused", "failed"}
        "skipped" is an array that was finished before and holds this recording; "refused" a recording that
        can't be calibrated.
    result : CompressionResult or None
        Of a compressed one.
    message : str
        Why it was skipped, refused or failed, as one line.

    Examples
    --------
    >>> item = BatchItem("night/a.tif", "archive/a.zarr", "skipped", message="finished before")
    >>> print(item.ok, item)
    True skipped: night/a.tif: finished before
    """

    source: str
    store: str
    outcome: Outcome
    result: CompressionResult | None = None
    message: str = ""

    @property
    def ok(self) -> bool:
        """Whether there is a finished array now."""
        return self.outcome in ("compressed", "skipped")

    def __str__(self) -> str:
        if self.result is None:
            return f"{self.outcome}: {self.source}: {self.message}"
        checked = self.result.verification
        proof = "not verified" if checked is None else f"all {checked.compared:,} values within the bound"
        return f"{self.source} → {self.store}: {self.result.ratio:.2f} times smaller, {proof}"

    def to_dict(self) -> dict[str, Any]:
        """The item as JSON types."""
        return {
            "source": self.source,
            "store": self.store,
            "outcome": self.outcome,
            "message": self.message,
            "result": None if self.result is None else self.result.to_dict(),
        }


@dataclass(frozen=True, slots=True, repr=False)
class BatchResult(Printed):
    """Outcome for all recordings.

    Attributes
    ----------
    items : tuple of BatchItem
        In the order in which they were taken.
    notes : tuple of str
        About files that may be one recording and were taken for several.

    Examples
    --------
    >>> result = BatchResult((BatchItem("a.tif", "a.zarr", "skipped", message="finished before"),))
    >>> result.ok, result.stored_bytes
    (True, 0)
    """

    items: tuple[BatchItem, ...]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every recording has a finished array."""
        return all(item.ok for item in self.items)

    @property
    def raw_bytes(self) -> int:
        """Size of the movies that were compressed."""
        return sum(item.result.raw_bytes for item in self.items if item.result is not None)

    @property
    def stored_bytes(self) -> int:
        """Stored size of all."""
        return sum(item.result.stored_bytes for item in self.items if item.result is not None)

    def __str__(self) -> str:
        counts = Counter(item.outcome for item in self.items)
        outcomes: tuple[Outcome, ...] = ("compressed", "skipped", "refused", "failed")
        parts = [f"{counts[outcome]} {outcome}" for outcome in outcomes if counts[outcome]]
        count = "1 recording" if len(self.items) == 1 else f"{len(self.items)} recordings"
        lines = [f"{count}: {', '.join(parts)}"]
        if self.stored_bytes:
            raw, stored = self.raw_bytes, self.stored_bytes
            lines[0] += f"; {raw / 1e6:,.0f} MB in {stored / 1e6:,.0f} MB, {raw / stored:.2f} times smaller"
        lines += [f"  {item}" for item in self.items if not item.ok]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The batch as JSON types."""
        return {
            "ok": self.ok,
            "raw_bytes": self.raw_bytes,
            "stored_bytes": self.stored_bytes,
            "items": [item.to_dict() for item in self.items],
            "notes": list(self.notes),
        }


def is_folder_of_recordings(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a folder of recordings: Zarr didn't write it, and it isn't one recording."""
    return is_plain_folder(path) and not _is_one(Path(path))


def is_plain_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a folder that Zarr didn't write."""
    return Path(path).is_dir() and not is_zarr(Path(path))


def _is_one(folder: Path) -> bool:
    """Whether a folder holds the files of one recording and no other one."""
    if not is_one_recording(folder):
        return False
    others = (
        child
        for child in folder.iterdir()
        if not child.name.startswith(".") and not child.name.lower().endswith(TIFF_SUFFIXES)
    )
    for child in others:
        if is_plain_folder(child):
            if child.name != _OF_THE_FIELD and next(_recordings(child, []), None) is not None:
                return False
        elif child.is_dir() or child.name.lower().endswith(_SUFFIXES):
            return False
    return True


def find_recordings(folder: str | os.PathLike[str]) -> list[Path]:
    """Find the recordings below a folder, in order of their names.

    Parameters
    ----------
    folder : path

    Returns
    -------
    list of Path
        Files that `open_movie` knows by their suffix, and folders written by Zarr. Files that are one
        recording by their headers (ScanImage's frame numbers, OME-XML, single images) are one: as the folder
        that they fill, or as a pattern. Hidden ones are left out, and so are arrays of `compress`, finished
        or not; links to folders are not followed.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        There is no such folder.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("b.tif", "a.npy", "notes.txt"):
    ...         Path(folder, name).touch()
    ...     print([path.name for path in find_recordings(folder)])
    ['a.npy', 'b.tif']
    """
    folder = Path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"no such folder: {folder}")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; a folder of recordings was expected")
    return list(_recordings(folder, []))


def compress_all(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    *,
    layout: Layout = "array",
    calibration: Mapping[str, Any] | None = None,
    resume: bool = False,
    done: Callable[[BatchItem], object] | None = None,
    progress: Progress | None = None,
    **options: Unpack[BatchOptions],
) -> BatchResult:
    """Compress many recordings into a folder, each with its own calibration, and go on past a bad one.

    Parameters
    ----------
    sources : path, or sequence of paths
        Recordings, and folders of recordings (`find_recordings`). A folder that is one recording
        becomes one array.
    folder : path
        Where the arrays go: ``a.tif`` becomes ``folder/a.zarr``, ``sub/a.tif`` of a source folder
        ``folder/sub/a.zarr``. Recordings that would have the same name keep their suffix: ``a.tif.zarr``.
    layout : {"array", "ome-zarr"}, optional
        Form of the output: an array (`compress`), or an image ``a.ome.zarr`` (`write_ome_zarr`).
    calibration : mapping, optional
        Options of `compute_sensitivity` for each of them: `dark`, `zero_level`, …
    resume : bool, optional
        Leave what was finished before as it is, once it was read and found to hold this very recording, and
        go on with interrupted ones. An array that holds another recording fails, whatever its name.
    done : callable, optional
        Called with each item when it is done.
    progress : callable, optional
        Called as ``progress(done, total, stage)``; the stage begins with the recording's name.
    **options
        For each of them, as for `compress` or `write_ome_zarr`.

    Returns
    -------
    BatchResult

    Raises
    ------
    ValueError
        There is no recording, or a parameter is wrong for all of them.
    FileNotFoundError
        A source doesn't exist.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from anscombe_transform import Sensitivity
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     night = Path(folder, "night")
    ...     night.mkdir()
    ...     photons = np.random.default_rng(0).poisson(8, (20, 64, 64))
    ...     np.save(night / "good.npy", (50 + 90 * photons).astype("int16"))
    ...     (night / "torn.npy").write_bytes(b"no movie")
    ...     known = Sensitivity.from_known(conversion_gain=90, zero_level=50)
    ...     result = compress_all([night], Path(folder, "archive"), sensitivity=known)
    ...     print(result.ok, [item.outcome for item in result.items])
    8
    False ['compressed', 'failed']
    """
    sources = [sources] if isinstance(sources, str | os.PathLike) else sources
    _check_layout(layout)
    check_options(options, BatchOptions.__optional_keys__, "compress_all")
    check_name(os.fspath(folder))
    if Path(folder).is_file():
        raise NotADirectoryError(f"{folder} is a file, and arrays of several recordings go to a folder")
    notes: list[str] = []
    pairs = pair_names(sources, Path(folder), ".ome.zarr" if layout == "ome-zarr" else ".zarr", notes)
    items = []
    for source, store in pairs:
        named = _named(progress, Path(source).name)
        wanted: dict[str, Any] = {
            **options,
            "layout": layout,
            "calibration": calibration,
            "progress": named,
        }
        item = compress_one(source, store, resume, wanted)
        items.append(item)
        if done is not None:
            done(item)
    return BatchResult(tuple(items), tuple(notes))


def compress_recording(
    source: str | os.PathLike[str],
    store: str | os.PathLike[str],
    *,
    layout: Layout = "array",
    calibration: Mapping[str, Any] | None = None,
    partial: bool = False,
    progress: Progress | None = None,
    **options: Unpack[RecordingOptions],
) -> CompressionResult:
    """Compress one recording in a layout, with known constants of its detector, if any.

    Parameters
    ----------
    source : path
        As `open_movie` takes it.
    store : path
        The array or the image to write.
    layout : {"array", "ome-zarr"}, optional
        An array (`compress`) or an image (`write_ome_zarr`).
    calibration : mapping, optional
        Options of `compute_sensitivity`: `dark`, `zero_level`, …
    partial : bool, optional
        Accept a recording that isn't whole, see `open_movie`.
    progress : callable, optional
        Called as ``progress(done, total, stage)``.
    **options
        As for `compress` or `write_ome_zarr`.

    Returns
    -------
    CompressionResult

    Raises
    ------
    ValueError
        `layout` is none of the two, or as the functions named above raise it.
    """
    _check_layout(layout)
    check_options(options, RecordingOptions.__optional_keys__, "compress_recording")
    if options.get("part") is not None and layout != "array":
        raise ValueError(f"parts (--part) are of an array, and not of layout={layout!r} (--layout)")
    if calibration:

        def report(done: int, total: int) -> None:
            if progress is not None:
                progress(done, total, "calibrate")

        options["sensitivity"] = compute_sensitivity(source, partial=partial, progress=report, **calibration)
    write: Callable[..., CompressionResult] = write_ome_zarr if layout == "ome-zarr" else compress
    return write(source, store, partial=partial, progress=progress, **options)


def _check_layout(layout: str) -> None:
    if layout not in ("array", "ome-zarr"):
        raise ValueError(f"layout must be 'array' or 'ome-zarr', got {layout!r}")


def compress_one(source: str, store: Path, resume: bool, options: dict[str, Any]) -> BatchItem:
    try:
        was_finished = resume and _is_finished(store)
        store.parent.mkdir(parents=True, exist_ok=True)
        result = compress_recording(source, store, resume=resume, **options)
    except UntrustworthyCalibration as error:
        reasons = [r.message for r in error.sensitivity.reasons if r.severity == "refusal"]
        return BatchItem(source, str(store), "refused", message=_one_line(" ".join(reasons)))
    except ConstantsMismatch as error:
        return BatchItem(source, str(store), "refused", message=_one_line(str(error)))
    except Exception as error:  # a bad file has its own kind of error in every reader; the next may be good
        return BatchItem(source, str(store), "failed", message=_one_line(str(error) or type(error).__name__))
    if was_finished:
        # The source and every stored value were compared before it was returned.
        return BatchItem(
            source, str(store), "skipped", message=f"{store} is finished and holds this recording"
        )
    return BatchItem(source, str(store), "compressed", result)


def _is_finished(store: Path) -> bool:
    return store.exists() and describe(store).complete


def _without_pattern(name: Path) -> Path:
    """A name for the files of one recording: ``x_[0-9]*.tif`` is ``x.tif``."""
    before, pattern, after = name.name.partition(ANY_NUMBER)
    return name.with_name((before.rstrip("_- .") or "movie") + after) if pattern else name


def pair_names(
    sources: Sequence[str | os.PathLike[str]], folder: Path, suffix: str, notes: list[str]
) -> list[tuple[str, Path]]:
    """Each recording with the array that it becomes; doubtful groupings go to the notes."""
    named: list[tuple[str, Path]] = []
    for source in sources:
        path = Path(source)
        if is_folder_of_recordings(path):
            named += [
                (str(found), _without_pattern(found.relative_to(path if found != path else path.parent)))
                for found in _recordings(path, notes)
            ]
        else:
            named.append((os.fspath(source), _plain_name(os.fspath(source))))
    if not named:
        raise ValueError(
            f"there is no recording in {', '.join(map(str, sources)) or 'nothing'}; known suffixes are "
            f"{', '.join(_SUFFIXES)} and .zarr"
        )
    seen = Counter(_stem(name) for _, name in named)
    pairs = []
    for source, name in named:
        stem = _stem(name) if seen[_stem(name)] == 1 else name
        pairs.append((source, folder / stem.with_name(stem.name + suffix)))
    twice = [str(store) for store, count in Counter(store for _, store in pairs).items() if count > 1]
    if twice:
        raise ValueError(f"several recordings would become {twice[0]}: give them to separate calls")
    return pairs


def find_arrays(folder: str | os.PathLike[str], sources: str | os.PathLike[str]) -> list[tuple[str, str]]:
    """Pair recordings with the arrays that `compress_all` made of them.

    Parameters
    ----------
    folder : path
        Where the arrays are.
    sources : path
        The folder of the recordings.

    Returns
    -------
    list of (str, str)
        An array, which need not exist, and its recording.
    """
    arrays = pair_names([sources], Path(folder), ".zarr", [])
    images = pair_names([sources], Path(folder), ".ome.zarr", [])
    return [
        (str(image if image.exists() and not array.exists() else array), source)
        for (source, array), (_, image) in zip(arrays, images, strict=True)
    ]


def _plain_name(source: str) -> Path:
    """A name for ``file.h5::/green/0`` (``file_green_0.h5``) or ``run/frame*.tif`` (``frame.tif``)."""
    file, _, inner = source.partition("::")
    path = Path(file)
    stem = _stem(Path(path.name)).name
    parts = [stem, *(part for part in inner.replace("/", " ").replace(",", " ").split())]
    name = "_".join(parts) + path.name[len(stem) :]
    return Path("".join(letter for letter in name if letter not in "*?[]") or "movie")


def _stem(name: Path) -> Path:
    lower = name.name.lower()
    for suffix in sorted((*_SUFFIXES, ".ome.tif", ".ome.tiff", ".ome.zarr", ".zarr"), key=len, reverse=True):
        if lower.endswith(suffix) and len(lower) > len(suffix):
            return name.with_name(name.name[: -len(suffix)])
    return name


def _recordings(folder: Path, notes: list[str]) -> Iterator[Path]:
    tiffs = group_files(folder)
    notes += tiffs.undecided
    others = [child for child in folder.iterdir() if not child.name.lower().endswith(TIFF_SUFFIXES)]
    described = folder in tiffs.sources
    for path in sorted([*tiffs.sources, *others]):
        if path.name.startswith(".") or ".partial" in path.suffixes:
            continue
        if described and path.name == _OF_THE_FIELD:
            continue
        if path == folder:
            yield path
            continue
        if path.is_dir():
            if is_zarr(path):
                if not _is_ours(path):
                    yield path
            elif path.is_symlink():
                continue
            elif _is_one(path):
                yield path
            else:
                yield from _recordings(path, notes)
        elif path.name.lower().endswith(_SUFFIXES):
            yield path


def _is_ours(path: Path) -> bool:
    try:
        return describe(path).provenance is not None
    except ValueError:  # a group of arrays, or a damaged one: compressing it says what it is
        return False


def _named(progress: Progress | None, name: str) -> Progress | None:
    if progress is None:
        return None
    return lambda done, total, stage: progress(done, total, f"{name}: {stage}")


def _one_line(text: str) -> str:
    return " ".join(text.split())
