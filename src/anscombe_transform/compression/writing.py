"""The main job: a movie into a Zarr array, block by block, in threads or on a cluster."""

from __future__ import annotations

import errno
import logging
import operator
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import DTypeLike

from anscombe_transform.calibration.references.agreement import require_agreement, sensitivity_with_agreement
from anscombe_transform.calibration.result.sensitivity import Reason
from anscombe_transform.calibration.sums.interleaved import find_interleaving, with_interleaving
from anscombe_transform.codec.transform.configuration import UnrepresentableError
from anscombe_transform.codec.transform.curve import Curve, check_sensitivity
from anscombe_transform.codec.transform.values import FEWEST_FRAMES_TO_FIT
from anscombe_transform.compression.blocks.layout import Layout
from anscombe_transform.compression.blocks.sampling import Extent, Sample, scan
from anscombe_transform.compression.blocks.source import (
    SourceChangedError,
    check_frames,
    check_unchanged,
    checksum_of,
    first_other_frame,
    state_of,
)
from anscombe_transform.compression.blocks.verification import VerificationError, merged
from anscombe_transform.compression.blocks.workers import Workers, cluster_for
from anscombe_transform.compression.checking import read_again
from anscombe_transform.compression.files.by_suffix import hdf5_destination
from anscombe_transform.compression.files.hdf5 import HDF5File
from anscombe_transform.compression.files.plain import check_plain, write_plain
from anscombe_transform.compression.results import CompressionResult, result_of, sensitivity_of
from anscombe_transform.compression.stored.arrays import (
    check_zarr_format,
    chunk_files,
    codec_of,
    create_array,
    fitted_codec,
    local_root,
    open_array,
    sync_metadata,
)
from anscombe_transform.compression.stored.block import BlockWriter, is_intact
from anscombe_transform.compression.stored.destination import Destination, Folder, destination_of
from anscombe_transform.compression.stored.journal import Journal, Record
from anscombe_transform.compression.stored.keys import Keys, keys_of
from anscombe_transform.compression.stored.notes import fill_value, first_notes, last_notes
from anscombe_transform.movies import Movie, SupportsMovie, open_movie
from anscombe_transform.movies.metadata import ATTRIBUTE, packing
from anscombe_transform.native.durable import disk_full
from anscombe_transform.native.work import Progress, Span, count_threads, finished, reporting

if TYPE_CHECKING:
    from anscombe_transform.calibration import Sensitivity
    from anscombe_transform.codec.pipeline import Preset
    from anscombe_transform.compression.stored.arrays import Codec

__all__ = ["compress"]

_LEAST_ROOM = 0.8
"""Share of the estimated size that has to be free: blocks of one movie differ little."""

_FEW_FRAMES = "fitted_to_few_frames"
"""Name of the note that values are fitted to few frames."""

AnyDestination = Destination | HDF5File

_log = logging.getLogger(__name__)


def compress(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | SupportsMovie | Movie,
    store: Any,
    *,
    sensitivity: Sensitivity | None = None,
    preset: Preset = "fast",
    beta: float = 0.5,
    zarr_format: Literal[2, 3] = 3,
    chunks: Sequence[int] | None = None,
    shards: Sequence[int] | None = None,
    dtype: DTypeLike | None = None,
    encoded_dtype: str | None = None,
    out_of_range: Literal["raise", "clip"] = "raise",
    zero_code: int | None = None,
    dimension_names: Sequence[str] = ("time", "y", "x"),
    overwrite: bool = False,
    resume: bool = False,
    part: tuple[int, int] | None = None,
    verify: bool = True,
    partial: bool = False,
    accept_mismatch: bool = False,
    progress: Progress | bool | None = None,
    threads: int | None = None,
    client: Any = None,
    storage_options: dict[str, Any] | None = None,
    nwb: Mapping[str, Any] | None = None,
    plain: bool = False,
) -> CompressionResult:
    """Calibrate a movie, store it compressed, and prove that every value is within the bound.

    Parameters
    ----------
    source : path or array
        The movie ``(time, y, x)``, as `open_movie` takes it. It is read block by block, never whole, and
        once: but for a sample of it, and except for movies with rare values far beyond those of the sample,
        which are begun again with a codec that holds them.
    store : path, URL, or store of Zarr
        Where the array goes: a folder, which is written as ``<name>.partial`` and gets its name when it is
        finished; or anything else that ``zarr.create_array`` takes (a URL for fsspec, a store of obstore or
        Icechunk), where the attribute says ``complete: false`` until then. A name that ends with ``.h5`` or
        ``.hdf5`` (``.h5::/name`` names the dataset) is an HDF5 file with this package's filter, ``.nwb`` an
        NWB file with a series of images.
    sensitivity : Sensitivity, optional
        Constants of the detector, from `compute_sensitivity` or ``Sensitivity.from_known``. By default they
        are read from the movie itself. Wherever they are from, they are compared with the noise of this movie
        (`Sensitivity.agreement`).
    preset : {"fast", "compact", "portable"}, optional
        Coder of the codes, see `codec_pipeline`.
    beta : float, optional
        Quantisation step in standard deviations of the noise, > 0. The noise variance grows by
        ``beta**2 / 12``: by 2 % at 0.5.
    zarr_format : {3, 2}, optional
        2 can be read by zarr-python 2 as well.
    chunks : tuple of int, optional
        ``(time, y, x)``; -1 means the whole axis. By default tiles of at most 256 × 256 pixels, and as many
        frames as make 32 MB of movie or 8 million values of a chunk, but at least 16.
    shards : tuple of int, optional
        ``(time, y, x)``, whole chunks along every axis: as many chunks share one object of the store. Zarr
        format 3 only.
    dtype : {"float32"}, optional
        Type of the decoded values. ``"float32"`` keeps the fractions of the decode table, which matter where
        a photon is few signal units; by default the movie's own type, rounded.
    encoded_dtype : {"uint8", "uint16"}, optional
        Type of the codes; by default the narrowest that holds the movie's range.
    out_of_range : {"raise", "clip"}, optional
        Treatment of values without a code. The codec is chosen to hold the whole range, so that there are
        none unless `encoded_dtype` or `zero_code` is given.
    zero_code : int, optional
        Code of the zero level; by default enough for the smallest value.
    dimension_names : sequence of str, optional
        Names of the axes, which xarray and others show.
    overwrite : bool, optional
        Replace an existing array, and discard the remains of an interrupted run. A folder stays until the
        new one is finished.
    resume : bool, optional
        Go on with an interrupted run of the same source and parameters; its blocks are read and checked
        first. Without one it begins. Of an array that is finished already all values are read and compared
        with their checksums, and the source with the recording that it holds; then it is returned as it is.
    part : (int, int), optional
        Part of the movie that this job writes, ``(2, 8)`` for the second of 8, where several jobs write one
        array without a scheduler. They may begin in any order and at the same time; the first one calibrates,
        for all. A job that was killed is run again by the same call. Once all have ended, a call with
        ``resume=True`` and without `part` proves the whole and gives it its name. Only for a folder of a file
        system that all jobs share; leave `overwrite` and `resume` out.
    verify : bool, optional
        Read back every block and compare it with the source.
    partial : bool, optional
        Accept a recording that isn't whole, see `open_movie`; the array's attributes say so.
    accept_mismatch : bool, optional
        Write the movie although `sensitivity` contradicts its noise. The array's attributes keep the measured
        factor and that it was accepted.
    progress : callable or bool, optional
        Called as ``progress(done, total, stage)`` in frames, from the calling thread; True draws a bar, in a
        terminal or a notebook.
    threads : int, optional
        Blocks that are in work at once; by default the number of processors, at least 2, at most 4. A block
        is as many frames as fit in 32 MB, in whole chunks, and at least one chunk. Memory: each block in work
        takes its own size, and about four times 32 MB for codes and values read back.
    client : distributed.Client or False, optional
        Cluster for the blocks; by default the one that is connected, if any. Workers must see
        the store and a source that is a path. False keeps the work here. Of the frames only some rows of a
        sample come to this process.
    storage_options : dict, optional
        For a URL: options of fsspec.
    nwb : mapping, optional
        For an NWB file: metadata that its source lacks, such as ``session_start_time`` (with a time zone) and
        ``rate``, which NWB requires, ``indicator``, ``location`` and others, see `files.nwb.NWB_FIELDS`.
    plain : bool, optional
        Write the decoded values with stock compression, for programs that have no plug-in: `store` ends with
        ``.tif`` (deflate, BigTIFF where it would pass 4 GB) or ``.h5`` (gzip). An array is written first in
        ``<name>.partial``, so that the disk needs room for both. The result's `array` is the movie of the
        file.

    Returns
    -------
    CompressionResult

    Raises
    ------
    FileExistsError
        There is something at `store` and neither `overwrite` nor `resume` was given, it is not a Zarr array,
        or another process is writing it.
    UntrustworthyCalibration
        The constants can't be read from this movie, or the `sensitivity` that was given is a refused one. The
        error says why; ``Sensitivity.from_known`` takes constants that are known otherwise, which are then
        compared with the movie.
    ConstantsMismatch
        A ValueError: the noise of the movie contradicts `sensitivity`, by the factor that the error gives.
    VerificationError
        Values read back differ by more than the bound, and the folder is deleted; or a finished array that
        was to be resumed has changed.
    SourceChangedError
        The array to be resumed holds another recording, whatever its name, or the source changed while it was
        read. It is a ValueError.
    UnrepresentableError, ValueError
        No codec holds the movie's values under the given parameters, a parameter breaks its rule, or the
        interrupted run had another source or other parameters.
    FileNotFoundError, TypeError, ImportError
        From `open_movie`.

    Notes
    -----
    A run that ends early, by an error of the source or the disk, an interrupt or a kill, leaves
    ``<name>.partial`` with the finished blocks, if there are any; `resume` goes on from there.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from anscombe_transform import Sensitivity
    >>> photons = np.random.default_rng(0).poisson(8, (20, 64, 64))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = compress(
    ...         (50 + 90 * photons).astype("int16"),
    ...         f"{folder}/movie.zarr",
    ...         sensitivity=Sensitivity.from_known(conversion_gain=90, zero_level=50),
    ...     )
    ...     print(result.ratio > 4, result.verification.ok)
    True True
    """
    if plain:
        return _compress_plain(
            source,
            store,
            {
                "resume": resume,
                "part": part,
                "shards": shards,
                "nwb": nwb,
                "storage_options": storage_options,
            },
            overwrite=overwrite,
            progress=progress,
            options={
                "sensitivity": sensitivity,
                "preset": preset,
                "beta": beta,
                "zarr_format": zarr_format,
                "chunks": chunks,
                "dtype": dtype,
                "encoded_dtype": encoded_dtype,
                "out_of_range": out_of_range,
                "zero_code": zero_code,
                "verify": verify,
                "partial": partial,
                "accept_mismatch": accept_mismatch,
                "threads": threads,
                "client": client,
            },
        )
    started = time.perf_counter()
    workers = count_threads(threads)
    check_zarr_format(zarr_format)
    if shards is not None and zarr_format == 2:
        raise ValueError("shards are of Zarr format 3: leave shards out, or give zarr_format=3")
    destination: AnyDestination | None = hdf5_destination(store, nwb)
    if destination is None:
        destination = destination_of(store, storage_options, resume=resume)
    else:
        _check_file_options(preset, zarr_format, shards, storage_options)
    if part is not None:
        part = _checked_part(part, destination, overwrite=overwrite, resume=resume)
        resume = True
    destination.check(overwrite=overwrite, resume=resume)
    if sensitivity is not None:
        check_sensitivity(sensitivity, "compress(movie, store, sensitivity=sensitivity)")
    with open_movie(source, partial=partial) as movie, reporting(progress) as report:
        destination.check_source(movie)
        if movie._stored is not None:
            read_again(movie._stored, movie.source, workers, report)
        layout = Layout.of(movie.shape, movie.dtype, chunks, shards)
        job = _Job(
            movie=movie,
            layout=layout,
            destination=destination,
            dtype=_array_dtype(dtype, movie.dtype),
            given=sensitivity,
            options={
                "zarr_format": zarr_format,
                "beta": beta,
                "encoded_dtype": encoded_dtype,
                "zero_code": zero_code,
                "out_of_range": out_of_range,
            },
            preset=preset,
            dimension_names=dimension_names,
            verify=verify,
            accept_mismatch=accept_mismatch,
            workers=workers,
            client=_client(client, destination),
            report=report,
            storage_options=storage_options,
            state=state_of(movie),
            part=part,
        )
        try:
            if part is not None:
                array, notes = job.run_part()
                if not notes["complete"]:
                    return job.result_of_part(array, notes, started)
            else:
                with destination.held(takeover=overwrite or resume):
                    # Another process may have finished since.
                    destination.check(overwrite=overwrite, resume=resume, held=True)
                    array, notes = job.run(overwrite=overwrite, resume=resume)
        except Exception as error:
            if disk_full(error):
                raise job.without_room() from error
            raise
        return result_of(
            destination.name,
            array,
            notes,
            raw_bytes=movie.nbytes,
            stored_bytes=destination.size(array),
            started=started,
        )


def _compress_plain(
    source: Any,
    store: Any,
    unfit: dict[str, Any],
    *,
    overwrite: bool,
    progress: Progress | bool | None,
    options: dict[str, Any],
) -> CompressionResult:
    """`compress` with ``plain=True``."""
    check_plain(store, unfit)
    started = time.perf_counter()
    with reporting(progress) as report:
        result = write_plain(
            source,
            store,
            lambda place: compress(source, place, progress=report, **options),
            overwrite=overwrite,
            verify=options["verify"],
            progress=report,
        )
    return replace(result, seconds=time.perf_counter() - started)


def _check_file_options(
    preset: str, zarr_format: int, shards: Sequence[int] | None, storage_options: dict[str, Any] | None
) -> None:
    """Refuse options that only a store of Zarr has."""
    wrong = {
        f"preset={preset!r} (--preset)": preset == "portable",
        f"zarr_format={zarr_format} (--zarr-format)": zarr_format != 3,
        f"shards={shards!r} (--shards)": shards is not None,
        "storage_options": storage_options is not None,
    }
    for name in (name for name, is_wrong in wrong.items() if is_wrong):
        remedy = (
            "use plain=True (--plain) for a file that any program reads"
            if "preset" in name
            else "leave it out"
        )
        raise ValueError(f"{name} is for Zarr, and the file is HDF5: {remedy}")


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One movie on its way to one array."""

    movie: Movie
    layout: Layout
    destination: AnyDestination
    dtype: np.dtype[Any]
    given: Sensitivity | None
    options: dict[str, Any]
    preset: Preset
    dimension_names: Sequence[str]
    verify: bool
    accept_mismatch: bool
    workers: int
    client: Any
    report: Progress | None
    storage_options: dict[str, Any] | None
    state: dict[str, int] | None
    """Of the source's files when it was opened."""
    part: tuple[int, int] | None = None
    """Number of this job among several, and their number; None where it is the only one."""

    @property
    def spans(self) -> list[Span]:
        """The blocks that this job writes."""
        return self.layout.spans if self.part is None else self.layout.part(*self.part)

    @property
    def _workers(self) -> Workers:
        return Workers(self.workers, self.client)

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameters that must be unchanged when resuming."""
        return self.options | {
            "chunks": list(self.layout.chunks),
            "shards": None if self.layout.shards is None else list(self.layout.shards),
            "dtype": self.dtype.name,
            "preset": self.preset,
            "verify": self.verify,
            "sensitivity": None if self.given is None else _constants(self.given),
        }

    def run(self, *, overwrite: bool, resume: bool) -> tuple[Any, dict[str, Any]]:
        """The finished array and its notes."""
        if resume and not overwrite and (array := self.destination.finished()) is not None:
            return self._finished_before(array)
        self._check_given()
        with ExitStack() as locks:
            array, sample, sensitivity = self._begun(self.destination.begun() if resume else None)
            notes = dict(array.attrs)[ATTRIBUTE]
            records: list[Record] = []
            if resume and self.destination.resumable:
                journalled = self.destination.journal().records()
                self._check_parts(notes, journalled, locks)
                records = self._intact(array, journalled)
                self._check_journalled(notes, records, sample)
            array, done = self._write_all(array, sensitivity, notes["whole_range"], records, sample)
            self._check_source(done, sample)
            return self._finish(array, done, overwrite=overwrite)

    def run_part(self) -> tuple[Any, dict[str, Any]]:
        """The array, with notes of this job's blocks; or the one that is finished already."""
        folder, part = self.destination, self.part
        assert isinstance(folder, Folder)
        assert part is not None
        with folder.held_to_begin():
            if (array := folder.finished()) is not None:
                return self._finished_before(array)
            self._check_given()
            folder.check(overwrite=False, resume=True, held=True)
            array, sample, _ = self._begun(folder.begun(shared=True))
            notes = dict(array.attrs)[ATTRIBUTE]
            lock = folder.lock_part(*part)
        try:
            records = self._intact(array, folder.journal().records())
            self._check_journalled(notes, records, sample)
            try:
                done = self._write(array, records)
            except UnrepresentableError as error:
                error.add_note(
                    "A job that writes a part can't begin the array again with codes for it: delete "
                    f"{folder.partial}, and leave part (--part) out"
                )
                raise
            self._check_source(done, sample)
            return array, self._last_notes(array, done, None) | {"complete": False}
        finally:
            lock.release()

    def result_of_part(self, array: Any, notes: dict[str, Any], started: float) -> CompressionResult:
        """The result of a job that wrote a part."""
        root = local_root(array)
        assert root is not None
        files = [f for start, stop in self.spans for f in chunk_files(array, root, self.layout, start, stop)]
        frames = sum(stop - start for start, stop in self.spans)
        return result_of(
            self.destination.name,
            array,
            notes,
            raw_bytes=self.movie.nbytes * frames // self.movie.shape[0],
            stored_bytes=sum(file.stat().st_size for file in files),
            started=started,
            part=self.part,
        )

    def _check_parts(self, notes: dict[str, Any], records: Sequence[Record], locks: ExitStack) -> None:
        """Keep the jobs that wrote parts away; refuse to finish where a part isn't.

        Raises
        ------
        ValueError
            It names the parts that are missing.
        FileExistsError
            A part is being written.
        """
        count = notes.get("parts")
        if not count:
            return
        assert isinstance(self.destination, Folder)
        for number in range(1, count + 1):
            locks.callback(self.destination.lock_part(number, count).release)
        there = {(record.start, record.stop) for record in records}
        missing = [str(n) for n in range(1, count + 1) if not there.issuperset(self.layout.part(n, count))]
        if missing:
            raise ValueError(
                f"{self.destination.name} is written in {count} parts, and of these {', '.join(missing)} "
                f"{'is' if len(missing) == 1 else 'are'} not finished: run the missing jobs, "
                f"part=({missing[0]}, {count}) (--part {missing[0]}/{count}), and then this again"
            )

    def _check_given(self) -> None:
        if self.given is not None and self.given.verdict == "refused":
            from anscombe_transform.calibration import UntrustworthyCalibration

            raise UntrustworthyCalibration(self.given)

    def _finished_before(self, array: Any) -> tuple[Any, dict[str, Any]]:
        """An array that is finished already, compared with the source and with its checksums."""
        sample = Sample.of(self.movie, self._workers, self.report)
        notes = self._same_job(array, sample)
        self._check_whole_source(notes)
        # What is called verified was read just now, and its record is the one that was written.
        read_again(array, self.destination.name, self.workers, self.report)
        return array, notes

    def _begun(self, array: Any) -> tuple[Any, Sample, Sensitivity]:
        """The array that was begun, or a new one; a sample of the movie; and the constants."""
        if array is not None and ATTRIBUTE in array.attrs:
            sample = Sample.of(self.movie, self._workers, self.report)
            return array, sample, sensitivity_of(self._same_job(array, sample))
        sensitivity = self._calibrated()
        sample = Sample.of(self.movie, self._workers, self.report)
        extent, known = sample.extent, sample.whole
        if not known and self.options["out_of_range"] == "clip":
            # A value that is clipped says nothing, so the range must be known before.
            extent, known = self._scan(), True
        return self._begin(sensitivity, extent, known, sample), sample, sensitivity

    def _write_all(
        self, array: Any, sensitivity: Sensitivity, known: bool, records: list[Record], sample: Sample
    ) -> tuple[Any, list[Record]]:
        """Write the blocks that are missing; begin again with another codec where a value has no code."""
        try:
            done = self._write(array, records)
        except UnrepresentableError as error:
            if known:
                self.destination.discard()
                raise
            _log.warning("%s: the whole movie is looked through, and its writing begun again", error)
            array = self._begin(sensitivity, self._scan(), True, sample)
            try:
                done = self._write(array, [])
            except UnrepresentableError:
                self.destination.discard()
                raise
        if self.destination.contested and not records:
            # The run that had begun before may have written its last block since.
            done = self._write(array, self._intact(array, done))
        return array, done

    # -- what is written ---------------------------------------------------------------------------------

    def _calibrated(self) -> Sensitivity:
        if self.given is not None:
            return self.given
        from anscombe_transform.calibration import compute_sensitivity

        if self.report is None:
            return compute_sensitivity(self.movie)
        report = self.report

        def frames_read(done: int, total: int) -> None:
            report(done, total, "calibrate")

        return compute_sensitivity(self.movie, progress=frames_read)

    def _scan(self) -> Extent:
        return scan(self.movie, self.layout.spans, self._workers, self.report)

    def _begin(self, sensitivity: Sensitivity, extent: Extent, known: bool, sample: Sample) -> Any:
        """A new array for the movie, with notes that say that it isn't complete."""
        codec = fitted_codec(self._codec(sensitivity, extent, known), sample.pieces)
        filters_after: Sequence[Any] = ()
        if isinstance(self.destination, HDF5File):
            codec, filters_after = self.destination.adapted(codec), self.destination.filters_after
        agreement = require_agreement(
            self.movie, sensitivity, measured=self.given is None, accept_mismatch=self.accept_mismatch
        )
        sensitivity = sensitivity_with_agreement(sensitivity, agreement)
        sensitivity = _with_few_frames(sensitivity, self.movie.shape[0])
        turns = find_interleaving(sample.pieces)
        if turns is not None:
            _log.warning("%s", turns.reason().message)
            sensitivity = with_interleaving(sensitivity, turns)
        notes = first_notes(
            self.movie,
            sensitivity,
            codec.plan,
            agreement=agreement,
            parameters=self.parameters,
            sample_checksum=sample.checksum,
            files=self.state,
        )
        notes["whole_range"] = known
        if self.part is not None:
            notes["parts"] = self.part[1]
        self.destination.make_room()
        if self.destination.resumable:
            self.destination.journal().begin()
        array = create_array(
            self.destination.place,
            layout=self.layout,
            dtype=self.dtype,
            codec=codec,
            preset=self.preset,
            dimension_names=self.dimension_names,
            zarr_format=self.options["zarr_format"],
            fill_value=fill_value(codec.plan, extent),
            attributes={**packing(self.movie.metadata), ATTRIBUTE: notes},
            # What may be replaced is gone, but for the contents of a transaction.
            overwrite=not self.destination.resumable and not isinstance(self.destination, HDF5File),
            storage_options=self.storage_options,
            filters_after=filters_after,
        )
        sync_metadata(array)
        return array

    def _codec(self, sensitivity: Sensitivity, extent: Extent, known: bool) -> Codec:
        def holding(span: Extent) -> Codec:
            return sensitivity.codec(
                sample=span.values(self.movie.dtype), decoded_dtype=self.dtype, **self.options
            )

        codec = holding(extent)
        if known or extent.minimum is None:
            return codec
        curve = Curve(sensitivity.conversion_gain, sensitivity.zero_level, sensitivity.read_noise)
        widened = extent.widened(float(curve.noise_std(extent.minimum)), self.movie.dtype)
        wishes = [widened]
        if self.part is not None and self.movie.dtype.kind in "iu":
            # No part can begin the array again: all codes there are.
            wishes.insert(0, replace(widened, maximum=int(np.iinfo(self.movie.dtype).max)))
        for wish in wishes:
            with suppress(ValueError):
                roomy = holding(wish)
                # Room is worth no wider codes: what has none is found, and the array begun again.
                if roomy.plan.encoded_dtype.itemsize <= codec.plan.encoded_dtype.itemsize:
                    return roomy
        return codec

    def _write(self, array: Any, records: list[Record]) -> list[Record]:
        """Write the blocks that are not among the records; all records, in order."""
        layout, total = self.layout, sum(stop - start for start, stop in self.spans)
        there = {record.start for record in records}
        spans = [span for span in self.spans if span[0] not in there]
        journal = self._own_journal()
        stage = "write and verify" if self.verify else "write"
        done = total - sum(stop - start for start, stop in spans)
        records = list(records)
        self._tell(done, total, stage)
        try:
            for (start, stop), record in self._written(BlockWriter(array, layout, self.verify), spans):
                if record.verification is not None and not record.verification.ok:
                    raise VerificationError(
                        f"{self.destination.name} was not written, as it would not be what was promised: "
                        f"{record.verification}",
                        record.verification,
                    )
                self.destination.check_owner()
                if journal is not None:
                    journal.add(record)
                records.append(record)
                if journal is not None and len(records) == len(there) + 1:
                    self._check_room(array, record)
                done += stop - start
                self._tell(done, total, stage)
        except UnrepresentableError:
            raise
        except BaseException as error:
            self._stopped(error, journal, len(records))
            raise
        return sorted(records, key=lambda record: record.start)

    def _own_journal(self) -> Journal | None:
        """Where this job notes its finished blocks."""
        if isinstance(self.destination, Folder) and self.part is not None:
            return self.destination.journal("-{}-of-{}".format(*self.part))
        return self.destination.journal() if self.destination.resumable else None

    def _discard(self) -> None:
        """Delete what was begun, unless other jobs write parts of it."""
        if self.part is None:
            self.destination.discard()

    def _written(self, write: BlockWriter, spans: list[Span]) -> Iterator[tuple[Span, Record]]:
        def write_if_owner(frames: Any, start: int) -> Record:
            self.destination.check_owner()
            return write(frames, start)

        work = write_if_owner if self.client is None else write
        return self._workers.finished(work, self.movie, spans)

    def _stopped(self, error: BaseException, journal: Journal | None, count: int) -> None:
        """Keep the blocks for another run, and say so."""
        if isinstance(error, VerificationError) or not count or journal is None:
            self._discard()
            return
        how = "the same call" if self.part else "the same call with resume=True (--resume)"
        note = f"{count} of {len(self.spans)} blocks are written and kept: {how} goes on from there"
        error.add_note(note)
        _log.warning("%s was interrupted: %s", self.destination.name, note)

    def _check_room(self, array: Any, first: Record) -> None:
        """Stop at the first block if the others won't find room on the disk, were they like it."""
        root = local_root(array)
        if root is None:
            return
        needed = self._estimated_bytes(array, [first]) * (1 - first.stop / self.movie.shape[0])
        if shutil.disk_usage(root).free < _LEAST_ROOM * needed:
            raise OSError(errno.ENOSPC, "no room for the blocks to come")

    def _estimated_bytes(self, array: Any, records: list[Record]) -> float:
        """Bytes of the whole array, were all of its blocks like some of them."""
        root = local_root(array)
        assert root is not None
        files = [f for r in records for f in chunk_files(array, root, self.layout, r.start, r.stop)]
        frames = sum(record.stop - record.start for record in records)
        return sum(file.stat().st_size for file in files) * self.movie.shape[0] / frames

    def without_room(self) -> OSError:
        """The error of a full disk that says how much is needed."""
        text, kept, root = f"{self.destination.name} was not finished, as the disk is full", [], None
        with suppress(Exception):  # there is nothing yet
            begun = open_array(self.destination.place, self.storage_options)
            kept, root = self.destination.journal().records(), local_root(begun)
        if root is None or not kept:
            most = self.movie.nbytes / 1e6
            return OSError(errno.ENOSPC, f"{text}: it takes at most about {most:,.1f} MB. Make room for it")
        total = self._estimated_bytes(begun, kept)
        left = total * (1 - sum(record.stop - record.start for record in kept) / self.movie.shape[0])
        free = shutil.disk_usage(root).free
        return OSError(
            errno.ENOSPC,
            f"{text}: it takes about {total / 1e6:,.1f} MB, estimated from {len(kept)} of "
            f"{len(self.layout.spans)} blocks, {left / 1e6:,.1f} MB more than is written, and "
            f"{free / 1e6:,.1f} MB are free in {root.parent}. Make room, and go on with it (resume=True, "
            "--resume)",
        )

    def _tell(self, done: int, total: int, stage: str) -> None:
        if self.report is not None:
            self.report(done, total, stage)

    # -- an interrupted run ------------------------------------------------------------------------------

    def _same_job(self, array: Any, sample: Sample) -> dict[str, Any]:
        """The notes of an array that this job has begun or finished.

        Raises
        ------
        ValueError
            It was begun from another source or with other parameters; the error names them.
        """
        notes = dict(array.attrs).get(ATTRIBUTE)
        if not isinstance(notes, dict) or "parameters" not in notes:
            raise ValueError(
                f"{self.destination.name} was not written by compress: choose another name, or overwrite it "
                "(overwrite=True, --overwrite)"
            )
        source, movie = notes["source"], self.movie
        was = {f"source {name}": value for name, value in source.items()} | notes["parameters"]
        now = {
            "source shape": list(movie.shape),
            "source dtype": movie.dtype.name,
            "source sample_checksum": sample.checksum,
        } | self.parameters
        if self.part is not None:
            was, now = was | {"parts": notes.get("parts")}, now | {"parts": self.part[1]}
        # A name says nothing: the next night's recording may have it, and a copy of this one another.
        differ = {
            name: f"{name} was {was.get(name)!r} and is {value!r}"
            for name, value in now.items()
            if was.get(name) != value
        }
        if any(name.startswith("source ") for name in differ):
            raise self._another_recording(notes, "; ".join(differ.values()))
        if differ:
            raise ValueError(
                f"{self.destination.name} was begun by another job: {'; '.join(differ.values())}. Give the "
                "same parameters, choose another name, or begin again (overwrite=True, --overwrite)"
            )
        return notes

    def _another_recording(self, notes: dict[str, Any], how: str) -> SourceChangedError:
        """The error of a source other than that of the array; it names both."""
        return SourceChangedError(
            f"{self.destination.name} holds another recording than {self.movie.source}: it was made from "
            f"{notes['source'].get('name')} on {notes.get('date')}, and {how}. Nothing was written: choose "
            "another name, or replace it (overwrite=True, --overwrite)"
        )

    def _check_whole_source(self, notes: dict[str, Any]) -> None:
        """Compare all frames with those of a finished array, where files are not those that were read.

        The sample that was compared before tells recordings apart, but not an edit between its frames.
        """
        source = notes["source"]
        if self.state is not None and self.state == notes.get("files"):
            return
        found = checksum_of(self.movie, self.layout.spans, self.workers, self.report)
        if found != source.get("checksum"):
            raise self._another_recording(notes, f"its checksum was {source.get('checksum')} and is {found}")

    def _check_journalled(self, notes: dict[str, Any], records: list[Record], sample: Sample) -> None:
        """Compare frames with those of the blocks that are written already."""
        written = _frames_of(records)
        if not written:
            return
        frames = {n: value for n, value in sample.frames.items() if n in written}
        wrong = next((n for n, value in frames.items() if written[n] != value), None)
        if wrong is None and (self.state is None or self.state != notes.get("files")):
            wrong = first_other_frame(self.movie, written, self.layout.spans, self.workers)
        if wrong is not None:
            raise self._another_recording(notes, f"frame {wrong} is not what it was")

    def _check_source(self, records: list[Record], sample: Sample) -> None:
        """Look at the source again, once all is written: it may have grown, been cut or been replaced."""
        written = _frames_of(records)
        try:
            check_frames(self.movie, sample.frames, written)
            check_unchanged(self.movie, self.state, written, self.spans, self.workers)
        except SourceChangedError:
            self._discard()
            raise

    def _intact(self, array: Any, records: list[Record]) -> list[Record]:
        """The records of blocks that are unchanged."""
        spans = set(self.spans)
        known = {(r.start, r.stop): r for r in records if (r.start, r.stop) in spans}
        total = sum(stop - start for start, stop in known)
        stage, done = "check what is there", 0
        intact: list[Record] = []

        def look(start: int, stop: int) -> bool:
            return is_intact(array, self.layout, known[start, stop])

        if known:
            self._tell(0, total, stage)
        for span, same in finished(look, list(known), self.workers):
            done += span[1] - span[0]
            if same:
                intact.append(known[span])
            else:
                _log.warning("frames %d to %d are damaged and written again", span[0], span[1] - 1)
            self._tell(done, total, stage)
        return intact

    # -- the end -----------------------------------------------------------------------------------------

    def _last_notes(self, array: Any, records: list[Record], beside: Keys | None) -> dict[str, Any]:
        codec: Any = codec_of(array)
        checked = [record.verification for record in records if record.verification is not None]
        return last_notes(
            dict(array.attrs)[ATTRIBUTE],
            plan=codec.plan,
            layout=self.layout,
            records=records,
            extent=Extent.merged([record.extent for record in records]),
            # A part has no block where there are more parts than blocks.
            verification=merged(checked) if checked else None,
            beside=beside,
        )

    def _finish(self, array: Any, records: list[Record], *, overwrite: bool) -> tuple[Any, dict[str, Any]]:
        notes = self._last_notes(array, records, keys_of(array) if self.destination.resumable else None)
        self.destination.check_owner()
        array.attrs[ATTRIBUTE] = notes
        return self.destination.finish(array, overwrite=overwrite), notes


def _with_few_frames(sensitivity: Sensitivity, frames: int) -> Sensitivity:
    """Note, and log, that decoded values are fitted to few frames, where they are."""
    others = tuple(reason for reason in sensitivity.reasons if reason.code != _FEW_FRAMES)
    if frames >= FEWEST_FRAMES_TO_FIT:
        return replace(sensitivity, reasons=others)
    message = (
        f"the decoded values are fitted to {frames} {'frame' if frames == 1 else 'frames'}, and it takes "
        f"{FEWEST_FRAMES_TO_FIT} to know the mean at every brightness: every value is within the bound, "
        "but the mean of many decoded frames is kept less exactly."
    )
    _log.warning("%s", message)
    return replace(sensitivity, reasons=(*others, Reason(_FEW_FRAMES, message)))


def _frames_of(records: Sequence[Record]) -> dict[int, int]:
    """Checksums of the source's frames in finished blocks, by their numbers."""
    return {
        number: value
        for record in records
        for number, value in zip(range(record.start, record.stop), record.source, strict=True)
    }


def _constants(sensitivity: Sensitivity) -> dict[str, float]:
    return {
        "conversion_gain": sensitivity.conversion_gain,
        "zero_level": sensitivity.zero_level,
        "read_noise": sensitivity.read_noise,
    }


def _array_dtype(given: DTypeLike | None, movie: np.dtype[Any]) -> np.dtype[Any]:
    if given is None:
        return movie
    dtype = np.dtype(given).newbyteorder("=")
    if dtype not in (movie, np.dtype(np.float32)):
        raise ValueError(f'dtype must be "float32" or left out (the movie\'s own, {movie}), got {given!r}')
    return dtype


def _checked_part(
    part: Any, destination: AnyDestination, *, overwrite: bool, resume: bool
) -> tuple[int, int]:
    """Number of a part and how many there are.

    Raises
    ------
    ValueError
        They are no such numbers, or parts can't be written there.
    """
    try:
        number, count = (operator.index(n) for n in part)
    except (TypeError, ValueError):
        number, count = 0, 0
    if not 1 <= number <= count:
        raise ValueError(f"part must be (k, n) with 1 <= k <= n, such as (2, 8) (--part 2/8), got {part!r}")
    if overwrite or resume:
        raise ValueError(
            "part (--part) goes on with what is there, and replaces nothing: leave overwrite and resume "
            "(--overwrite, --resume) out, and delete what other jobs are not to go on with"
        )
    if not isinstance(destination, Folder):
        raise ValueError(
            f"{destination.name} is no folder of a file system, and parts (--part) are written to a Zarr "
            "array in one that all jobs share: use a Dask cluster (client, --dask)"
        )
    return number, count


def _client(given: Any, destination: AnyDestination) -> Any:
    """The cluster that the blocks go to, or None for this process."""
    return cluster_for(destination.place, destination.name, given, reachable=destination.resumable)
