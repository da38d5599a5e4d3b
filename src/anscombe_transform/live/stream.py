"""Compressing a recording while it is being made.

Frames go to a spool on the disk first (`anscombe_transform.live.spool`), from where threads take whole
blocks, write them to the array, read them back and compare them, as `compress` does; the journal notes
every block that is done. A crash therefore leaves an array with some blocks, a journal and a spool
with the rest: `finish` puts them together.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from anscombe_transform.calibration import Sensitivity, compute_sensitivity
from anscombe_transform.calibration.references.agreement import require_agreement, sensitivity_with_agreement
from anscombe_transform.codec.transform.values import MOST_VALUES, some_rows
from anscombe_transform.compression.blocks.comparison import digest
from anscombe_transform.compression.blocks.layout import Layout
from anscombe_transform.compression.blocks.sampling import Extent
from anscombe_transform.compression.blocks.verification import VerificationError, merged
from anscombe_transform.compression.results import CompressionResult, result_of, sensitivity_of
from anscombe_transform.compression.stored.arrays import (
    chunk_files,
    codec_of,
    create_array,
    fitted_codec,
    local_path,
    reopen,
    sync_metadata,
)
from anscombe_transform.compression.stored.block import BlockWriter, is_intact
from anscombe_transform.compression.stored.destination import LIVE_SETTINGS, LIVE_SPOOL, Folder, check_name
from anscombe_transform.compression.stored.journal import Record
from anscombe_transform.compression.stored.keys import keys_of
from anscombe_transform.compression.stored.notes import Described, fill_value, first_notes, last_notes
from anscombe_transform.live.spool import Spool
from anscombe_transform.movies import open_movie
from anscombe_transform.movies.metadata import ATTRIBUTE, packing
from anscombe_transform.native.durable import delete, write_file
from anscombe_transform.native.work import Threads, count_threads

if TYPE_CHECKING:
    from anscombe_transform.codec.pipeline import Preset
    from anscombe_transform.codec.zarr_v2 import AnscombeTransformV2
    from anscombe_transform.codec.zarr_v3 import AnscombeTransformV3

__all__ = ["BacklogFull", "StreamWriter", "finish"]

CALIBRATION_BYTES = 128 * 2**20
"""Frames that a calibration waits for fill this, and are no fewer and no more than the numbers below."""

_FEWEST_TO_CALIBRATE, _MOST_TO_CALIBRATE = 64, 2000
# An array that grows is cut as if it were this long: no recording has more frames.
_ENDLESS = 2**40

_log = logging.getLogger(__name__)


class BacklogFull(OSError):
    """A frame was not taken, since more frames than allowed wait for the disk; it can be offered again."""


@dataclass(frozen=True, slots=True)
class _Settings:
    """Settings of a recording for `finish`, kept beside its spool."""

    frame_shape: tuple[int, int]
    dtype: str
    preset: Preset
    beta: float
    zarr_format: Literal[2, 3]
    chunks: tuple[int, int, int]
    shards: tuple[int, int, int] | None
    signal_range: tuple[float, float]
    calibration_frames: int
    sensitivity: dict[str, Any] | None
    accept_mismatch: bool
    dimension_names: tuple[str, str, str]
    metadata: dict[str, Any]
    overwrite: bool

    def to_json(self) -> bytes:
        """The settings as bytes of a JSON document."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, content: bytes) -> _Settings:
        """The settings of a document that `to_json` wrote."""
        fields: dict[str, Any] = json.loads(content)
        # What JSON knows as lists.
        fields |= {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        return cls(**fields)

    @property
    def layout(self) -> Layout:
        """How frames are cut."""
        return _layout(self.frame_shape, np.dtype(self.dtype), self.chunks, self.shards)


class StreamWriter:
    """Compress a recording while it is being made.

    Frames are calibrated on the first of them, written in threads, read back, compared and recorded, as
    `compress` does with a file. The array gets its name when the writer is closed.

    Parameters
    ----------
    destination : path
        Folder of the array. Until the end all is in ``<destination>.partial``.
    frame_shape : (int, int)
        ``(y, x)``.
    dtype : dtype
        Of the frames: an integer type, or float32 or float64.
    sensitivity : Sensitivity, optional
        Constants of the detector. By default they are read from the first frames.
    preset, beta, zarr_format, chunks, shards, dimension_names, overwrite : optional
        As for `compress`; chunks and shards along time in frames.
    signal_range : (float, float), optional
        Smallest and largest signal that can occur, for instance (0, 4095) of a converter of 12 bits. By
        default the whole range of an integer type: every frame then has codes. Required for
        floats.
    calibration_frames : int, optional
        Frames that the calibration, or the comparison with a given `sensitivity`, waits for: by default as
        many as fill 128 MB, between 64 and 2,000.
    accept_mismatch : bool, optional
        Go on with a `sensitivity` that contradicts the first frames, as for `compress`.
    when_behind : {"block", "raise"}, optional
        Behaviour of `append` when `backlog_bytes` wait to be compressed: wait, or raise `BacklogFull` without
        taking the frame. Frames are never dropped in silence.
    backlog_bytes : int, optional
        Raw frames that may wait on the disk, 4 GB by default. They take no memory of the process.
    threads : int, optional
        Blocks that are compressed at once; memory is about four times 32 MB for each.
    metadata : mapping, optional
        Metadata of the recording, in the names of `Movie.metadata`: ``frame_rate``, ``pixel_size``, …

    Attributes
    ----------
    frames : int
        Frames that were taken. They are in files: when the process is killed, all of them are there after
        `finish`.
    stored : int
        Frames in blocks that are compressed, compared and on the disk. A power cut does not take them either.
    sensitivity : Sensitivity or None
        Once it is known.

    Raises
    ------
    FileExistsError
        There is something at `destination`, or an unfinished recording, and `overwrite` was not given.
    ValueError, TypeError
        A parameter breaks its rule.

    Notes
    -----
    When the first frames can't be calibrated, or contradict the given constants, nothing is compressed: raw
    frames are kept on the disk as long as there is room, a warning is logged, and `close` raises the error.
    `finish` then takes the constants.

    Examples
    --------
    >>> import tempfile
    >>> from anscombe_transform import simulate_movie
    >>> from anscombe_transform.live import StreamWriter
    >>> movie, _ = simulate_movie((100, 64, 64), conversion_gain=90, zero_level=50, rng=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with StreamWriter(f"{folder}/movie.zarr", (64, 64), "int16") as writer:
    ...         for frame in movie:
    ...             _ = writer.append(frame)
    ...     print(writer.result.array.shape, writer.result.verification.ok)
    (100, 64, 64) True
    """

    def __init__(
        self,
        destination: str | os.PathLike[str],
        frame_shape: Sequence[int],
        dtype: DTypeLike,
        *,
        sensitivity: Sensitivity | None = None,
        preset: Preset = "fast",
        beta: float = 0.5,
        zarr_format: Literal[2, 3] = 3,
        chunks: Sequence[int] | None = None,
        shards: Sequence[int] | None = None,
        dimension_names: Sequence[str] = ("time", "y", "x"),
        overwrite: bool = False,
        signal_range: tuple[float, float] | None = None,
        calibration_frames: int | None = None,
        accept_mismatch: bool = False,
        when_behind: Literal["block", "raise"] = "block",
        backlog_bytes: int = 4 * 2**30,
        threads: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        shape, kind = _frame_shape(frame_shape), _frame_dtype(dtype)
        if when_behind not in ("block", "raise"):
            raise ValueError(f'when_behind must be "block" or "raise", got {when_behind!r}')
        if sensitivity is not None:
            sensitivity.usable_constants()
        layout = _layout(shape, kind, chunks, shards)
        settings = _Settings(
            frame_shape=shape,
            dtype=kind.name,
            preset=preset,
            beta=beta,
            zarr_format=zarr_format,
            chunks=layout.chunks,
            shards=layout.shards,
            signal_range=_signal_range(signal_range, kind),
            calibration_frames=_calibration_frames(calibration_frames, shape, kind),
            sensitivity=None if sensitivity is None else sensitivity.to_dict(),
            accept_mismatch=accept_mismatch,
            dimension_names=_three_names(dimension_names),
            metadata=dict(metadata or {}),
            overwrite=overwrite,
        )
        folder = _folder(destination)
        self._begin(folder, settings, sensitivity, threads)
        self._when_behind = when_behind
        # A block in work is no backlog.
        self._most_waiting = max(backlog_bytes // self._frame_bytes, 2 * layout.block_frames)
        try:
            folder.check(overwrite=overwrite, resume=False)
            self._stack.enter_context(folder.held(takeover=overwrite))
            folder.check(overwrite=overwrite, resume=False, held=True)
            folder.make_room()
            self._spool = Spool(folder.partial / LIVE_SPOOL, shape, kind, layout.block_frames)
            write_file(folder.partial / LIVE_SETTINGS, settings.to_json())
        except BaseException:
            self._stack.close()
            raise

    def _begin(
        self, folder: Folder, settings: _Settings, sensitivity: Sensitivity | None, threads: int | None
    ) -> None:
        """Set all that a new recording and one that is finished have in common."""
        self._folder, self._settings, self._layout = folder, settings, settings.layout
        self._dtype = np.dtype(settings.dtype)
        self._frame_bytes = math.prod(settings.frame_shape) * self._dtype.itemsize
        self._stack = ExitStack()
        self._threads = Threads(count_threads(threads))
        self._given = sensitivity
        self._problem: BaseException | None = None
        self._records: list[Record] = []
        self._array: Any = None
        self._write: BlockWriter | None = None
        self._waiting: list[tuple[int, int]] = []
        self._calibrating: Future[Any] | None = None
        self._started = time.perf_counter()
        self._most_waiting = 0
        self._when_behind = "block"
        self.frames = 0
        self.sensitivity = sensitivity
        self.result: CompressionResult | None = None
        self.closed = False

    @property
    def stored(self) -> int:
        """Frames that are compressed, compared with the frames taken, and on the disk."""
        return sum(record.stop - record.start for record in self._records)

    def append(self, frames: ArrayLike) -> int:
        """Take a frame, or several.

        Parameters
        ----------
        frames : array_like, shape (y, x) or (time, y, x)
            Of the writer's frame shape and dtype.

        Returns
        -------
        int
            Number of frames taken so far, these included. All of them survive the death of the process.

        Raises
        ------
        BacklogFull
            Too many frames wait, and ``when_behind="raise"``: none of these was taken.
        ValueError, TypeError
            Frames of another shape or dtype, or a writer that is closed.
        OSError
            The disk is full or failing; frames that were taken before are kept.
        VerificationError
            A written block differs from its frames; the raw frames are kept.
        """
        taken = self._checked(frames)
        self._collect()
        self._go_on()
        self._make_way(len(taken))
        block = self._layout.block_frames
        done = 0
        while done < len(taken):
            room = block - self.frames % block
            part = taken[done : done + room]
            self._spool.append(part, self.frames)
            self.frames += len(part)
            done += len(part)
            if self.frames % block == 0:
                self._waiting.append((self.frames - block, self.frames))
            self._go_on()
        return self.frames

    def close(self) -> CompressionResult:
        """Store the remaining frames, and give the array its name.

        Returns
        -------
        CompressionResult
            As of `compress`; also in the attribute `result`.

        Raises
        ------
        UntrustworthyCalibration, ConstantsMismatch
            The first frames can't be calibrated, or contradict the constants. Raw frames are kept; `finish`
            takes a sensitivity.
        ValueError
            No frame was taken.
        OSError, VerificationError
            As for `append`.
        """
        if self.result is not None:
            return self.result
        if self.closed:
            raise ValueError(f"the writer of {self._folder.name} is closed")
        if not self.frames:
            self._abandon(delete_all=True)
            raise ValueError(f"no frame was given for {self._folder.name}, so that there is nothing to store")
        try:
            self._spool.close()
            block = self._layout.block_frames
            if self.frames % block and self.frames - self.frames % block not in self._known():
                self._waiting.append((self.frames - self.frames % block, self.frames))
            self._go_on(last=True)
            while self._threads.busy or self._waiting:
                if self._problem is not None:
                    raise self._problem
                self._collect(stop=True, wait=True)
                self._go_on(last=True)
            if self._problem is not None:
                raise self._problem
            self.result = self._finished()
        except BaseException as error:
            if self.frames > self.stored:
                error.add_note(
                    f"{self.frames} frames are kept in {self._folder.partial}: anscombe finish "
                    f"{self._folder.name} (anscombe_transform.live.finish) goes on from there"
                )
            self._abandon()
            raise
        self._abandon()
        return self.result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            # The recording ended in an error, which is not for us to judge: `finish` stores what there is.
            self._abandon()

    # -- frames on their way -----------------------------------------------------------------------------

    def _checked(self, frames: ArrayLike) -> NDArray[Any]:
        if self.closed:
            raise ValueError(f"the writer of {self._folder.name} is closed: frames can't be added any more")
        values = np.asarray(frames)
        if values.dtype != self._dtype:
            raise TypeError(
                f"frames must be of the writer's dtype {self._dtype}, got {values.dtype}: convert them, or "
                "make the writer with their dtype"
            )
        if values.ndim == 2:
            values = values[np.newaxis]
        if values.ndim != 3 or values.shape[1:] != self._settings.frame_shape:
            raise ValueError(
                f"frames must have the shape (y, x) = {self._settings.frame_shape} or (time, y, x), got "
                f"{values.shape}"
            )
        return values

    def _make_way(self, count: int) -> None:
        """Wait until so many more frames may wait, or refuse them."""
        if self._problem is not None:
            # Nothing is compressed any more, and raw frames are kept as long as the disk has room.
            return
        while self.frames + count - self.stored > self._most_waiting:
            if not self._threads.busy:
                return
            if self._when_behind == "raise":
                raise BacklogFull(
                    f"{self.frames - self.stored} frames wait to be stored in {self._folder.name}, and no "
                    "more are taken: the disk or the processor is slower than the camera. Offer the frame "
                    "again, or allow more by backlog_bytes="
                )
            self._collect(wait=True)
            self._go_on()

    def _go_on(self, *, last: bool = False) -> None:
        """Begin the calibration and whole blocks, as far as possible."""
        if self._problem is not None:
            return
        if self._write is None:
            if self._calibrating is None and (last or self.frames >= self._settings.calibration_frames):
                self._calibrating = self._threads.begin(self._prepare, self.frames)
            return
        while self._waiting and self._threads.busy < self._threads.count:
            self._threads.begin(self._store, self._write, *self._waiting.pop(0))

    def _collect(self, *, stop: bool = False, wait: bool = False) -> None:
        """Take finished results; keep the first error, and raise it unless frames only wait."""
        for future in self._threads.take_finished(wait_for_one=wait):
            error = future.exception()
            if error is None:
                self._take(future.result())
            elif self._problem is None:
                self._problem = error
                _log.warning(
                    "%s: %s. Raw frames are kept in %s", self._folder.name, error, self._folder.partial
                )
        # Constants can be given later; a disk or an array that fails must be heard of at once.
        if self._problem is not None and (stop or isinstance(self._problem, OSError | VerificationError)):
            raise self._problem

    def _take(self, done: Any) -> None:
        if isinstance(done, Record):
            self._records.append(done)
        else:
            self._array, self._write, self.sensitivity = done

    def _known(self) -> set[int]:
        """The first frames of the blocks that are done."""
        return {record.start for record in self._records}

    def _store(self, write: BlockWriter, start: int, stop: int) -> Record:
        """Compress, compare and note a block; runs in a thread."""
        record = write(self._spool.read(start, stop), start)
        assert record.verification is not None
        if not record.verification.ok:
            raise VerificationError(
                f"frames {start} to {stop - 1} of {self._folder.name} are not within their bound: "
                f"{record.verification}",
                record.verification,
            )
        self._folder.journal().add(record)
        self._spool.drop(start)
        return record

    # -- the array ---------------------------------------------------------------------------------------

    def _first_frames(self, count: int) -> NDArray[Any]:
        block = self._layout.block_frames
        parts = [
            self._spool.read(start, min(start + block, count))
            for start in range(0, min(count, self.frames), block)
        ]
        return np.concatenate(parts)

    def _prepare(self, frames: int) -> tuple[Any, BlockWriter, Sensitivity]:
        """Calibrate the first frames and make the array; runs in a thread."""
        settings = self._settings
        sample = self._first_frames(min(frames, settings.calibration_frames))
        given = self._given
        sensitivity = compute_sensitivity(sample) if given is None else given
        with open_movie(sample) as movie:
            agreement = require_agreement(
                movie, sensitivity, measured=given is None, accept_mismatch=settings.accept_mismatch
            )
        sensitivity = sensitivity_with_agreement(sensitivity, agreement)
        codec = fitted_codec(self._codec(sensitivity), [some_rows(sample, MOST_VALUES)])
        described = Described(
            "a recording while it was made", (0, *settings.frame_shape), self._dtype, settings.metadata
        )
        notes = first_notes(
            described,
            sensitivity,
            codec.plan,
            agreement=agreement,
            parameters={
                "live": True,
                "chunks": settings.chunks,
                "shards": settings.shards,
                "preset": settings.preset,
                "beta": settings.beta,
                "calibration_frames": len(sample),
            },
            sample_checksum=digest(()),
        )
        array = create_array(
            self._folder.place,
            layout=self._layout,
            dtype=self._dtype,
            codec=codec,
            preset=settings.preset,
            zarr_format=settings.zarr_format,
            fill_value=fill_value(codec.plan, Extent.of(sample)),
            dimension_names=settings.dimension_names,
            attributes={**packing(settings.metadata), ATTRIBUTE: notes},
            overwrite=True,
        )
        sync_metadata(array)
        return array, BlockWriter(array, self._layout, True), sensitivity

    def _codec(self, sensitivity: Sensitivity) -> AnscombeTransformV2 | AnscombeTransformV3:
        """The codec of the whole range: later frames have codes, too."""
        return sensitivity.codec(
            zarr_format=self._settings.zarr_format,
            beta=self._settings.beta,
            signal_range=self._settings.signal_range,
            decoded_dtype=self._dtype,
        )

    def _finished(self) -> CompressionResult:
        settings, records = self._settings, sorted(self._records, key=lambda record: record.start)
        shape = (self.frames, *settings.frame_shape)
        notes = dict(self._array.attrs)[ATTRIBUTE]
        notes["source"]["shape"] = list(shape)
        checked = merged([record.verification for record in records if record.verification is not None])
        codec: Any = codec_of(self._array)
        notes = last_notes(
            notes,
            plan=codec.plan,
            layout=replace(self._layout, shape=shape),
            records=records,
            extent=Extent.merged([record.extent for record in records]),
            verification=checked,
            beside=keys_of(self._array),
        )
        self._folder.seal(shape, notes)
        # From here on a power cut leaves an array that is whole, and a name to give.
        self._spool.remove()
        finished = self._folder.finish(reopen(self._folder.place), overwrite=settings.overwrite)
        delete(self._folder.partial / LIVE_SETTINGS)
        return result_of(
            self._folder.name,
            finished,
            notes,
            raw_bytes=self.frames * self._frame_bytes,
            stored_bytes=self._folder.size(finished),
            started=self._started,
        )

    def _abandon(self, *, delete_all: bool = False) -> None:
        """Stop the threads and let go of the folder; its content stays, unless it is empty."""
        self.closed = True
        self._threads.close()
        self._spool.close()
        if delete_all:
            self._spool.remove()
            delete(self._folder.partial / LIVE_SETTINGS)
        self._stack.close()

    # -- after a crash -----------------------------------------------------------------------------------

    @classmethod
    def _again(
        cls, folder: Folder, sensitivity: Sensitivity | None, accept_mismatch: bool, threads: int | None
    ) -> Self:
        """The writer of a recording that was cut off, with the frames that there are."""
        writer = cls.__new__(cls)
        stack = ExitStack()
        stack.enter_context(folder.held(takeover=True))
        try:
            settings = _Settings.from_json((folder.partial / LIVE_SETTINGS).read_bytes())
            if sensitivity is None and settings.sensitivity is not None:
                sensitivity = Sensitivity.from_dict(settings.sensitivity)
            settings = replace(settings, accept_mismatch=settings.accept_mismatch or accept_mismatch)
            writer._begin(folder, settings, sensitivity, threads)
        except BaseException:
            stack.close()
            raise
        writer._stack = stack
        writer._spool = Spool(
            folder.partial / LIVE_SPOOL, settings.frame_shape, writer._dtype, writer._layout.block_frames
        )
        return writer

    def _recover(self, *, partial: bool) -> None:
        """Find the frames that are there, in blocks of the array and in the spool."""
        layout, array = self._layout, self._folder.begun()
        block = layout.block_frames
        journal = self._folder.journal().records()
        records: dict[int, Record] = {}
        if array is not None and ATTRIBUTE in array.attrs:
            self._array, self._write = array, BlockWriter(array, layout, True)
            self.sensitivity = sensitivity_of(dict(array.attrs)[ATTRIBUTE])
            records = {record.start: record for record in journal if is_intact(array, layout, record)}
        elif journal:
            raise ValueError(
                f"{self._folder.partial} holds {len(journal)} finished blocks of an array whose metadata "
                "can't be read: take them from a copy of the disk"
            )
        lengths = {start: record.stop - start for start, record in records.items()}
        waiting = {start: self._spool.count(start) for start in self._spool.starts() if start not in records}
        lengths |= {start: whole for start, (whole, _) in waiting.items()}
        end = 0
        while lengths.get(end, 0) == block:
            end += block
        total = end + lengths.get(end, 0)
        whole, taken = waiting.get(end, (0, 0))
        behind = taken - whole + sum(length for start, length in lengths.items() if start > end)
        if behind and not partial:
            raise ValueError(
                f"frame {total} was taken and is missing or damaged in {self._folder.partial}, and {behind} "
                "frames were taken from there on: partial=True (--partial) stores those in front, and "
                "deletes what is left of the others"
            )
        for start in [start for start in lengths if start > end]:
            self._spool.drop(start)
            if start in records:
                for path in chunk_files(array, Path(self._folder.place), layout, start, records[start].stop):
                    delete(path)
        self.frames = total
        self._records = [record for start, record in records.items() if start <= end]
        self._waiting = [
            (start, start + block) for start in range(0, total - block + 1, block) if start not in records
        ]


def finish(
    destination: str | os.PathLike[str],
    *,
    sensitivity: Sensitivity | None = None,
    accept_mismatch: bool = False,
    partial: bool = False,
    threads: int | None = None,
) -> CompressionResult:
    """Complete a recording of an interrupted writer: compress waiting frames, compare, name the array.

    Parameters
    ----------
    destination : path
        As it was given to `StreamWriter`.
    sensitivity : Sensitivity, optional
        Constants, where those of the first frames were refused or contradicted. An array that was begun
        keeps its own.
    accept_mismatch : bool, optional
        Go on with constants that contradict the first frames; the record keeps that.
    partial : bool, optional
        Where frames in the middle are missing or damaged, as a power cut may leave it, store those in front
        of them and delete the others.
    threads : int, optional
        As for `StreamWriter`.

    Returns
    -------
    CompressionResult

    Raises
    ------
    FileNotFoundError
        There is no unfinished recording.
    FileExistsError
        Its writer is still at work.
    ValueError
        Frames are missing and `partial` was not given, or no frame is there.
    UntrustworthyCalibration, ConstantsMismatch, VerificationError, OSError
        As `StreamWriter.close` raises them; all frames are kept.

    Examples
    --------
    >>> import tempfile
    >>> from anscombe_transform import simulate_movie
    >>> from anscombe_transform.live import StreamWriter, finish
    >>> movie, _ = simulate_movie((100, 64, 64), conversion_gain=90, zero_level=50, rng=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     try:
    ...         with StreamWriter(f"{folder}/movie.zarr", (64, 64), "int16") as writer:
    ...             writer.append(movie)
    ...             raise RuntimeError("the camera was unplugged")
    ...     except RuntimeError:
    ...         print(finish(f"{folder}/movie.zarr").array.shape)
    100
    (100, 64, 64)
    """
    folder = _folder(destination)
    if not folder.holds_recording():
        what = f"{folder.path} is finished" if folder.path.exists() else f"there is no {folder.partial}"
        raise FileNotFoundError(f"no interrupted live recording waits to be finished: {what}")
    if sensitivity is not None:
        sensitivity.usable_constants()
    writer = StreamWriter._again(folder, sensitivity, accept_mismatch, threads)
    try:
        writer._recover(partial=partial)
    except BaseException:
        writer._abandon()
        raise
    return writer.close()


def _folder(destination: str | os.PathLike[str]) -> Folder:
    path = local_path(destination)
    if path is None:
        raise ValueError(
            f"a recording is written to a folder of this computer, got {destination!r}: record there, and "
            "copy or compress it to a store afterwards"
        )
    check_name(os.fspath(path))
    return Folder(path)


def _layout(
    shape: tuple[int, int], dtype: np.dtype[Any], chunks: Sequence[int] | None, shards: Sequence[int] | None
) -> Layout:
    """How frames without an end are cut: a block is one chunk or shard long, so that few frames wait."""
    layout = Layout.of((_ENDLESS, *shape), dtype, chunks, shards)
    if _ENDLESS in (layout.chunks[0], *(layout.shards or ())[:1]):
        raise ValueError(
            "a recording has no last frame while it is made: chunks and shards need a number of frames, and "
            "-1 is none"
        )
    return replace(layout, block_frames=(layout.shards or layout.chunks)[0])


def _frame_shape(given: Sequence[int]) -> tuple[int, int]:
    shape = tuple(int(n) for n in given)
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"frame_shape must be (y, x), two numbers of at least 1, got {tuple(given)!r}")
    return shape


def _frame_dtype(given: DTypeLike) -> np.dtype[Any]:
    dtype = np.dtype(given).newbyteorder("=")
    if dtype.kind not in "iu" and dtype not in (np.float32, np.float64):
        raise TypeError(f"dtype must be an integer type, float32 or float64, got {given!r}")
    return dtype


def _signal_range(given: tuple[float, float] | None, dtype: np.dtype[Any]) -> tuple[float, float]:
    if given is not None:
        low, high = (float(value) for value in given)
        if not low < high:
            raise ValueError(f"signal_range must be (smallest, largest), got {given!r}")
        return low, high
    if dtype.kind == "f":
        raise ValueError(
            "signal_range= must say between which signals frames of floats lie: later ones can't be looked "
            "at before"
        )
    limits = np.iinfo(dtype)
    return float(limits.min), float(limits.max)


def _calibration_frames(given: int | None, shape: tuple[int, int], dtype: np.dtype[Any]) -> int:
    if given is None:
        fitting = CALIBRATION_BYTES // (math.prod(shape) * dtype.itemsize)
        return min(max(fitting, _FEWEST_TO_CALIBRATE), _MOST_TO_CALIBRATE)
    if given < 1:
        raise ValueError(f"calibration_frames must be at least 1, got {given!r}")
    return int(given)


def _three_names(names: Sequence[str]) -> tuple[str, str, str]:
    if len(names) != 3:
        raise ValueError(f"dimension_names must be three names (time, y, x), got {tuple(names)!r}")
    time_name, y_name, x_name = (str(name) for name in names)
    return time_name, y_name, x_name
