"""Prove later that a stored movie is intact: against its source, or by its checksums."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from numpy.typing import NDArray

from anscombe_transform.calibration import Sensitivity
from anscombe_transform.calibration.references.agreement import measure_agreement
from anscombe_transform.compression.blocks.comparison import Comparison, checksum, digest
from anscombe_transform.compression.blocks.layout import Layout
from anscombe_transform.compression.blocks.sampling import Extent
from anscombe_transform.compression.blocks.verification import Verification, VerificationError, merged
from anscombe_transform.compression.blocks.workers import Workers, cluster_for, in_order, in_threads
from anscombe_transform.compression.files.record import plan_of_record, read_plain_record
from anscombe_transform.compression.results import measured_bound
from anscombe_transform.compression.stored.arrays import coarse_levels, codec_of, name_of, open_array
from anscombe_transform.compression.stored.block import read_back, stored_checksums
from anscombe_transform.compression.stored.checksums import StoredChecksums
from anscombe_transform.compression.stored.notes import largest_error, notes_of
from anscombe_transform.movies import Movie, SupportsMovie, open_movie
from anscombe_transform.movies.metadata import ATTRIBUTE
from anscombe_transform.native.work import Progress, count_threads, reporting

if TYPE_CHECKING:
    from anscombe_transform.compression.stored.arrays import Codec
    from anscombe_transform.native.work import Span

__all__ = ["read_again", "verify"]


def verify(
    stored: Any,
    against: str | os.PathLike[str] | SupportsMovie | Movie | None = None,
    *,
    codec: Codec | None = None,
    partial: bool = False,
    progress: Progress | bool | None = None,
    threads: int | None = None,
    client: Any = None,
    storage_options: dict[str, Any] | None = None,
) -> Verification:
    """Compare a stored movie with its source, value by value, against the codec's bound.

    Parameters
    ----------
    stored : path, URL, store of Zarr, or zarr.Array
        An array with an Anscombe codec; with `codec`, decoded values as `open_movie` takes them.
    against : path or array, optional
        The movie that was stored, as `open_movie` takes it. Without it, the values are compared with the
        checksums that `compress` noted when it had verified them.
    codec : AnscombeTransformV2 or AnscombeTransformV3, optional
        The codec that decoded the values, where they are not an array that names it; `against` is needed
        then.
    partial : bool, optional
        Accept a recording that isn't whole, see `open_movie`.
    progress : callable or bool, optional
        Called as ``progress(done, total, "verify")`` in frames; True draws a bar.
    threads : int, optional
        As in `compress`.
    client : distributed.Client or False, optional
        As in `compress`: the cluster that is connected compares blocks of an array, if its workers see it,
        and an original that is a path. Values that are no such array, with `codec`, are compared here.
    storage_options : dict, optional
        For a URL: options of fsspec.

    Returns
    -------
    Verification
        Not `ok` if a value is beyond its bound; that is a result, not an error.

    Raises
    ------
    ValueError
        The array has no Anscombe codec, its shape or dtype differ from the original's, or there are neither
        checksums nor an original.
    VerificationError
        Stored values can't be read, as their chunk is damaged, and the error names it; the array or its
        record was changed after it was written; or a coarse level of an image changed.
    FileNotFoundError
        There is no such file or array.

    Examples
    --------
    >>> import numpy as np, zarr
    >>> from anscombe_transform import AnscombeTransformV3
    >>> movie = 50 + 90 * np.random.default_rng(0).poisson(8, (20, 64, 64)).astype("int16")
    >>> codec = AnscombeTransformV3(zero_level=50, conversion_gain=90)
    >>> verification = verify(zarr.create_array({}, data=movie, filters=[codec]), movie)
    >>> verification.ok, verification.compared
    (True, 81920)
    """
    workers = count_threads(threads)
    with reporting(progress) as report:
        if codec is not None:
            if against is None:
                raise ValueError(
                    "decoded values carry no checksums: give the original too, verify(values, movie)"
                )
            return _against_decoded(stored, against, codec, partial, workers, report)
        if (record := read_plain_record(stored)) is not None:
            return _plain(stored, record, against, partial, workers, report)
        array = open_array(stored, storage_options)
        name = name_of(array, stored)
        read_coarse_levels(stored, workers)
        compare = _Compare(Workers(workers, cluster_for(array.store, name, client)), report)
        if against is None:
            return _against_checksums(array, name, compare)
        return _against_source(array, name, against, partial, compare)


class _Compare(NamedTuple):
    """Compares all blocks of a movie, on the workers that there are, and adds up."""

    workers: Workers
    report: Progress | None

    def __call__(
        self, work: Callable[[Any, int], Verification], movie: Movie | None, spans: Sequence[Span]
    ) -> Verification:
        return merged(self.results(work, movie, spans))

    def results(
        self, work: Callable[[Any, int], Any], movie: Movie | None, spans: Sequence[Span]
    ) -> list[Any]:
        """Results of the work for each block, in order."""
        return in_order(self.workers.finished(work, movie, spans), spans, self.report, "verify")


class _Seen(NamedTuple):
    """A block compared with its source, and the checksums of the source's frames."""

    verification: Verification
    frames: tuple[int, ...]


def _seen(blocks: Sequence[_Seen]) -> Verification:
    """One verification of all blocks, with the digest that a record has of its source."""
    found = merged([block.verification for block in blocks])
    return replace(found, source_checksum=digest(value for block in blocks for value in block.frames))


class _WithSource:
    """Compares blocks of a movie with an array, and with the array's checksums where it has any.

    Shared by threads, and sent to other machines.
    """

    def __init__(self, array: Any, layout: Layout, checksums: StoredChecksums | None) -> None:
        self._array, self._layout, self._checksums = array, layout, checksums
        codec: Any = codec_of(array)
        self._comparison = Comparison(codec.plan, layout)

    def __call__(self, block: NDArray[Any], start: int) -> _Seen:
        found = merged(
            [
                self._compared(block[:, top:bottom], start, number)
                for number, (top, bottom) in enumerate(self._layout.bands)
            ]
        )
        return _Seen(found, _frame_checksums(block))

    def _compared(self, part: NDArray[Any], start: int, number: int) -> Verification:
        """Compare a band: with its source, and where that agrees with its checksum."""
        top, bottom = self._layout.bands[number]
        values = read_back(self._array, start, start + len(part), top, bottom)
        found = self._comparison.compare(part, values, start, top)
        if not found.ok or self._checksums is None:
            return found
        # Within the bound, yet not what was written: a table or a codec that was exchanged.
        expected = self._checksums.expected[start][number]
        if checksum(values) == expected:
            return found
        return _other_than_written(self._layout, start, len(part), number)

    def __reduce__(self) -> tuple[Any, ...]:
        # The tables of a comparison are made where they are used.
        return type(self), (self._array, self._layout, self._checksums)


def _frame_checksums(block: NDArray[Any]) -> tuple[int, ...]:
    return tuple(checksum(frame) for frame in block)


def _other_than_written(layout: Layout, start: int, frames: int, number: int) -> Verification:
    """The verification of a band that does not have its checksum."""
    top, bottom = layout.bands[number]
    size, index = frames * (bottom - top) * layout.shape[2], (start, top, 0)
    return Verification(
        False,
        size,
        size,
        0,
        0.0,
        0.0,
        index,
        against="checksums",
        chunk=layout.chunk_at(index),
        blocks=((start, start + frames - 1),),
    )


@dataclass(frozen=True, slots=True)
class _WithChecksums:
    """Compares blocks of an array with checksums, those of the bands by first frame."""

    array: Any
    layout: Layout
    expected: dict[int, tuple[int, ...]]

    def __call__(self, _: None, start: int) -> Verification:
        stop = min(start + self.layout.block_frames, self.layout.shape[0])
        found = stored_checksums(self.array, self.layout, start, stop)
        parts = []
        for number, (is_, was) in enumerate(zip(found, self.expected[start], strict=True)):
            if is_ != was:
                parts.append(_other_than_written(self.layout, start, stop - start, number))
                continue
            top, bottom = self.layout.bands[number]
            size = (stop - start) * (bottom - top) * self.layout.shape[2]
            parts.append(Verification(True, size, 0, 0, 0.0, 0.0, against="checksums"))
        return merged(parts)


def _plain(
    stored: Any,
    record: dict[str, Any],
    against: Any,
    partial: bool,
    workers: int,
    report: Progress | None,
) -> Verification:
    """Compare the decoded values of a plain file with their checksums, and with the source."""
    with open_movie(stored) as values:
        held: Any = SimpleNamespace(
            attrs={ATTRIBUTE: record}, shape=values.shape, chunks=(1, *values.shape[1:])
        )
        checksums = StoredChecksums.of(held, values.source)
        if checksums is None and against is None:
            raise ValueError(
                f"{values.source} has no checksums, so there is nothing to compare its values with but their "
                "source: verify(stored, movie), --against MOVIE"
            )
        if checksums is not None:
            layout = checksums.layout

            def compare(start: int, stop: int) -> Verification:
                block = values.frames(start, stop)
                parts = []
                for number, (top, bottom) in enumerate(layout.bands):
                    part = block[:, top:bottom]
                    if checksum(part) != checksums.expected[start][number]:
                        parts.append(_other_than_written(layout, start, stop - start, number))
                    else:
                        parts.append(Verification(True, part.size, 0, 0, 0.0, 0.0, against="checksums"))
                return merged(parts)

            found = merged(in_threads(compare, layout.spans, workers, report, "verify"))
            if against is None or not found.ok:
                return found
    return _against_decoded(stored, against, plan_of_record(record), partial, workers, report, record)


def _against_source(array: Any, name: str, original: Any, partial: bool, compare: _Compare) -> Verification:
    codec = codec_of(array)
    if codec is None:
        raise ValueError(
            f"{name} has no Anscombe codec, so nothing says how far its values may be off: compare it with "
            "numpy.array_equal"
        )
    with open_movie(original, partial=partial) as movie:
        checksums = StoredChecksums.of(array, name)
        if tuple(array.shape) != movie.shape:
            raise ValueError(
                f"the original has shape {movie.shape}, the stored array {tuple(array.shape)}: compare it "
                "with the recording that it was made from"
            )
        dtype = array.dtype.newbyteorder("=")
        if dtype not in (movie.dtype, "float32"):
            raise ValueError(f"the original has values of type {movie.dtype}, the stored array {array.dtype}")
        layout = _layout_of(array) if checksums is None else checksums.layout
        found = _seen(compare.results(_WithSource(array, layout, checksums), movie, layout.spans))
        return _with_agreement(found, movie, codec, notes_of(array))


def _against_checksums(array: Any, name: str, compare: _Compare) -> Verification:
    checksums = StoredChecksums.of(array, name)
    if checksums is None:
        notes = notes_of(array)
        why = "is not complete" if notes and not notes.get("complete") else "has no checksums"
        raise ValueError(
            f"{name} {why}, so there is nothing to compare its values with but their source: verify(stored, "
            "movie), --against MOVIE"
        )
    return _with_checksums(array, checksums, compare)


def _with_checksums(array: Any, checksums: StoredChecksums, compare: _Compare) -> Verification:
    work = _WithChecksums(array, checksums.layout, checksums.expected)
    return compare(work, None, checksums.layout.spans)


def read_again(array: Any, name: str, workers: int, report: Progress | None) -> Verification | None:
    """Read all stored values of an array and compare them with its checksums; None where it has none.

    Raises
    ------
    VerificationError
        They changed since they were written, or can't be read.
    """
    checksums = StoredChecksums.of(array, name)
    if checksums is None:
        return None
    found = _with_checksums(array, checksums, _Compare(Workers(workers), report))
    if not found.ok:
        raise VerificationError(f"{name} is damaged: {found}", found)
    return found


def read_coarse_levels(stored: Any, workers: int) -> None:
    """Compare the coarse levels of an OME-Zarr image with their checksums; of anything else there are none.

    Raises
    ------
    VerificationError
        A level changed since it was written.
    """
    for name, array in coarse_levels(stored):
        read_again(array, name, workers, None)


def _against_decoded(
    decoded: Any,
    original: Any,
    codec: Codec,
    partial: bool,
    workers: int,
    report: Progress | None,
    noted: dict[str, Any] | None = None,
) -> Verification:
    """Compare decoded values that lie elsewhere than in an array with the codec."""
    with open_movie(original, partial=partial) as movie, open_movie(decoded) as values:
        if values.shape != movie.shape:
            raise ValueError(f"the original has shape {movie.shape}, the decoded values {values.shape}")
        comparison = Comparison(codec.plan)
        spans = Layout.of(movie.shape, movie.dtype, (1, -1, -1)).spans

        def compare(start: int, stop: int) -> _Seen:
            block = movie.frames(start, stop)
            found = comparison.compare(block, values.frames(start, stop), start)
            return _Seen(found, _frame_checksums(block))

        found = _seen(in_threads(compare, spans, workers, report, "verify"))
        return _with_agreement(found, movie, codec, noted)


def _with_agreement(found: Verification, movie: Movie, codec: Any, noted: Any) -> Verification:
    """The verification, with the bound in units of the noise measured in the source."""
    noted = noted if isinstance(noted, dict) else {}
    plan = codec.plan
    sensitivity = _constants_of(plan, noted)
    # Of the recording that the constants were measured on, the noise is known from then.
    recorded = (noted.get("source") or {}).get("checksum")
    given = (noted.get("parameters") or {}).get("sensitivity", "unknown")
    own = given is None and recorded is not None and recorded == found.source_checksum
    agreement = measure_agreement(movie, sensitivity, measured=sensitivity if own else None)
    bound = (noted.get("bound") or {}).get("noise_std")
    if bound is None:
        bound = largest_error(plan, Extent(plan.lowest, plan.highest, False))
    bound = measured_bound(bound, agreement)
    return replace(found, agreement=agreement, error_in_noise=None if math.isnan(bound) else bound)


def _constants_of(plan: Any, noted: dict[str, Any]) -> Sensitivity:
    """The constants of a codec; those noted beside it say more, if they are the same."""
    curve = plan.curve
    try:
        sensitivity = Sensitivity.from_dict(noted["sensitivity"])
    except (KeyError, TypeError, ValueError):
        sensitivity = None
    if sensitivity is not None and (sensitivity.conversion_gain, sensitivity.zero_level) == (
        curve.conversion_gain,
        curve.zero_level,
    ):
        return sensitivity
    return Sensitivity.from_known(
        conversion_gain=curve.conversion_gain, zero_level=curve.zero_level, read_noise=curve.read_noise
    )


def _layout_of(array: Any) -> Layout:
    """The layout of an array that is there; its shards are read whole."""
    return Layout.of(array.shape, array.dtype, array.chunks, getattr(array, "shards", None))
