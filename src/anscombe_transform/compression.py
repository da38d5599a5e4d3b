"""From a recording to a Zarr array that is proven to be within its bound.

`compress` reads a movie twice. The first pass finds its smallest and largest value, from which a codec is
chosen that holds every one of them. The second writes it block by block, reads each block back from the store
and compares it with the source, value by value, against what the codec promises. A store on disk is written
under another name and renamed at the end, so that nothing looks finished before it is.

What was done, with which constants and which result, is kept in the array's attributes under
``"anscombe_transform"``. `verify` repeats the comparison later, `describe` tells what a stored array says of
itself.

Notes
-----
The codes are compressed with zstd at level 1, in the order in which they come. Codes of a stabilised movie
are nearly white noise, which has no repetitions: the matches that higher levels search cost time and bytes (a
two-photon movie shrinks 4.42 times at level 1, 3.96 at level 3, 4.12 at level 9), bit shuffling breaks the
symbols that zstd's entropy stage counts (3.25 times), and the negative levels switch that stage off (2.1).
Codes of two bytes are an exception, as their high bytes repeat: blosc sorts the bytes before zstd (a camera's
frames shrink 2.05 times instead of 1.65).
"""

from __future__ import annotations

import math
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.movies import Movie, SupportsMovie, open_movie

if TYPE_CHECKING:
    from anscombe_transform.calibration import Sensitivity
    from anscombe_transform.codec.anscombe import Plan
    from anscombe_transform.codec.zarr_v2 import AnscombeTransformV2
    from anscombe_transform.codec.zarr_v3 import AnscombeTransformV3

    Codec = AnscombeTransformV2 | AnscombeTransformV3

__all__ = [
    "ATTRIBUTE",
    "CompressionResult",
    "StoredMovie",
    "Verification",
    "VerificationError",
    "compress",
    "describe",
    "verify",
]

Progress = Callable[[int, int, str], object]
"""Called with the frames done, the frames there are, and what is being done to them."""

ATTRIBUTE = "anscombe_transform"
"""The attribute of a stored array that tells how it was made."""

_BLOCK_BYTES = 32 * 2**20
_CHUNK_VALUES = 8 * 2**20
_TILE = 256
_FEWEST_FRAMES = 16
_MOST_THREADS = 4
# Values compared at once: the table of bounds and the scratch arrays stay in the processor's cache.
_COMPARED_VALUES = 2**18
# A decoded value may sit on the bound itself, so that rounding decides on which side it seems to be.
_ROUNDING = 1e-6

_T = TypeVar("_T")
_Span = tuple[int, int]


class VerificationError(ValueError):
    """What is stored is not what was promised.

    Attributes
    ----------
    verification : Verification or None
        What was compared, and where it first failed; None where the stored values can't even be read.
    """

    def __init__(self, message: str, verification: Verification | None = None) -> None:
        super().__init__(message)
        self.verification = verification


@dataclass(frozen=True, slots=True)
class Verification:
    """A stored movie compared with its source, value by value.

    Attributes
    ----------
    ok : bool
        Whether every value is within its bound.
    compared : int
        Number of values compared.
    failed : int
        Number of values beyond their bound.
    clipped : int
        Number of values that the codec was told to clip (``out_of_range="clip"``); they are compared after
        clipping.
    max_error : float
        Largest ``|stored - original|``, signal units.
    max_error_in_bounds : float
        Largest error as a part of the bound at that value; above 1 only if not `ok`.
    index : tuple of int or None
        Where ``(time, y, x)`` the first value beyond its bound is.
    original, stored : float or None
        The two values there.
    """

    ok: bool
    compared: int
    failed: int
    clipped: int
    max_error: float
    max_error_in_bounds: float
    index: tuple[int, int, int] | None = None
    original: float | None = None
    stored: float | None = None

    def __str__(self) -> str:
        if not self.ok:
            return (
                f"{self.failed:,} of {self.compared:,} values differ by more than the bound; the first is at "
                f"(time, y, x) = {self.index}: {_number(self.original)} was stored as {_number(self.stored)}"
            )
        clipped = f", {self.clipped:,} were clipped as asked" if self.clipped else ""
        return (
            f"all {self.compared:,} values are within the bound{clipped}; the largest error is "
            f"{_number(self.max_error)} signal units"
        )

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types."""
        document = asdict(self)
        document["index"] = None if self.index is None else list(self.index)
        return _document(document)


@dataclass(frozen=True, slots=True)
class StoredMovie:
    """What a Zarr array says of itself.

    Attributes
    ----------
    path : str
        Where the array is.
    shape : tuple of int
    dtype : str
        Type of the decoded values.
    chunks : tuple of int
    zarr_format : int
        2 or 3.
    codec : dict or None
        Configuration of its Anscombe codec with its name, without the decode table; None if it has none.
    provenance : dict or None
        What `compress` noted when it wrote the array; None for an array that it didn't write.
    raw_bytes, stored_bytes : int
        Size of the decoded movie, and of what is stored.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    chunks: tuple[int, ...]
    zarr_format: int
    codec: dict[str, Any] | None
    provenance: dict[str, Any] | None
    raw_bytes: int
    stored_bytes: int

    @property
    def ratio(self) -> float:
        """How many times smaller the stored movie is."""
        return self.raw_bytes / self.stored_bytes if self.stored_bytes else math.nan

    @property
    def complete(self) -> bool:
        """Whether nothing says that the writing of the array did not end."""
        return self.provenance is None or bool(self.provenance.get("complete"))

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types, with `ratio` and `complete`."""
        return _document(asdict(self) | {"ratio": self.ratio, "complete": self.complete})

    def __str__(self) -> str:
        size = f"{_size(self.raw_bytes)} in {_size(self.stored_bytes)}, {self.ratio:.2f} times smaller"
        lines = [
            self.path,
            f"  array         {' × '.join(map(str, self.shape))} {self.dtype}, "
            f"chunks {' × '.join(map(str, self.chunks))}, Zarr format {self.zarr_format}",
            f"  size          {size}",
        ]
        if not self.complete:
            lines.append("  INCOMPLETE    its writing was interrupted: write it again")
        if self.codec is None:
            lines.append("  codec         none of ours: the values are as they were stored")
            return "\n".join(lines)
        c = self.codec
        details = [f"gain {c['conversion_gain']:g} signal/photon", f"zero level {c['zero_level']:g}"]
        if c.get("read_noise"):
            details.append(f"read noise {c['read_noise']:g}")
        lines.append(f"  codec         {c['name']}, {c['encoded_dtype']} codes: {', '.join(details)}")
        noted = self.provenance or {}
        if bound := noted.get("bound"):
            lines.append(f"  bound         {_bound_text(bound['noise_std'])}")
        if sensitivity := noted.get("sensitivity"):
            lines.append(f"  calibration   {sensitivity.get('verdict')}")
            lines += [f"                - {reason['message']}" for reason in sensitivity.get("reasons", ())]
        if source := noted.get("source"):
            span = f"{_number(source['minimum'])} to {_number(source['maximum'])}"
            lines.append(f"  source        {source['name']}, values {span}")
        if checked := noted.get("verification"):
            known = {k: v for k, v in checked.items() if k in Verification.__dataclass_fields__}
            lines.append(f"  verification  {Verification(**known)}")
        elif noted:
            lines.append("  verification  none was made")
        if noted:
            software = ", ".join(f"{name} {number}" for name, number in noted.get("software", {}).items())
            lines.append(f"  written       {noted.get('date')} with {software}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class CompressionResult:
    """What `compress` did.

    Attributes
    ----------
    path : str
        Where the array is.
    array : zarr.Array
        The array, open for reading.
    raw_bytes, stored_bytes : int
        Size of the movie in memory, and of what was stored.
    seconds : float
        How long it took, calibration and verification included.
    sensitivity : Sensitivity
        The constants that the codec was made of.
    codec : AnscombeTransformV2 or AnscombeTransformV3
    bound : float
        Largest error that a value of the movie can have, in standard deviations of the noise at that value.
    verification : Verification or None
        None if it was not asked for.
    """

    path: str
    array: Any
    raw_bytes: int
    stored_bytes: int
    seconds: float
    sensitivity: Sensitivity
    codec: Codec
    bound: float
    verification: Verification | None

    @property
    def ratio(self) -> float:
        """How many times smaller the stored movie is."""
        return self.raw_bytes / self.stored_bytes

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON types; the codec without its decode table."""
        return _document(
            {
                "path": self.path,
                "shape": list(self.array.shape),
                "dtype": str(self.array.dtype),
                "raw_bytes": self.raw_bytes,
                "stored_bytes": self.stored_bytes,
                "ratio": self.ratio,
                "seconds": self.seconds,
                "sensitivity": self.sensitivity.to_dict(),
                "codec": _codec_summary(self.codec),
                "bound": self.bound,
                "verification": None if self.verification is None else self.verification.to_dict(),
            }
        )

    def __str__(self) -> str:
        plan = self.codec.plan
        shape = " × ".join(map(str, self.array.shape))
        checked = "not made" if self.verification is None else str(self.verification)
        return "\n".join(
            [
                f"{self.path}: {shape} {self.array.dtype}, {_size(self.raw_bytes)} in "
                f"{_size(self.stored_bytes)}, {self.ratio:.2f} times smaller, "
                f"{self.seconds:.1f} s ({self.raw_bytes / self.seconds / 1e6:.0f} MB/s)",
                f"  codec         {plan.configuration.format}, {plan.encoded_dtype} codes; holds "
                f"{_number(plan.lowest)} to {_number(plan.highest)}",
                f"  bound         {_bound_text(self.bound)}",
                f"  verification  {checked}",
            ]
        )


def compress(
    source: str | os.PathLike[str] | SupportsMovie | Movie,
    store: Any,
    *,
    sensitivity: Sensitivity | None = None,
    beta: float = 0.5,
    zarr_format: Literal[2, 3] = 3,
    chunks: tuple[int, int, int] | None = None,
    encoded_dtype: str | None = None,
    out_of_range: Literal["raise", "clip"] = "raise",
    zero_code: int | None = None,
    dimension_names: tuple[str, str, str] = ("time", "y", "x"),
    overwrite: bool = False,
    verify: bool = True,
    progress: Progress | None = None,
    threads: int | None = None,
) -> CompressionResult:
    """Calibrate a movie, store it compressed, and prove that every value is within the bound.

    Parameters
    ----------
    source : path or array
        The movie ``(time, y, x)``, as `open_movie` takes it. It is read block by block, never whole.
    store : path, or store of Zarr
        Where the array goes: a folder, which is renamed to this name when it is finished; or anything else
        that ``zarr.create_array`` takes, where the attribute says ``complete: false`` until then.
    sensitivity : Sensitivity, optional
        Constants of the detector, from `compute_sensitivity` or ``Sensitivity.from_known``. By default they
        are read from the movie itself.
    beta : float, optional
        Quantisation step in standard deviations of the noise, > 0. The noise variance grows by
        ``beta**2 / 12``: by 2 % at 0.5.
    zarr_format : {3, 2}, optional
        2 can be read by zarr-python 2 as well.
    chunks : tuple of int, optional
        ``(time, y, x)``; -1 means the whole axis. By default tiles of at most 256 × 256 pixels, and as many
        frames as make 32 MB of movie or 8 million values of a chunk, but at least 16.
    encoded_dtype : {"uint8", "uint16"}, optional
        Type of the codes; by default the narrowest that holds the movie's range.
    out_of_range : {"raise", "clip"}, optional
        What happens to values without a code. The codec is chosen to hold the whole range, so that there are
        none unless `encoded_dtype` or `zero_code` is given.
    zero_code : int, optional
        Code of the zero level; by default enough for the smallest value.
    dimension_names : tuple of str, optional
        Names of the axes, which xarray and others show.
    overwrite : bool, optional
        Replace an array that is there. It stays until the new one is finished.
    verify : bool, optional
        Read back what was written and compare it with the source.
    progress : callable, optional
        Called as ``progress(done, total, stage)`` in frames, from the calling thread.
    threads : int, optional
        Blocks that are in work at once; by default the number of processors, at least 2, at most 4. A block
        is as many frames as fit in 32 MB, in whole chunks, and at least one chunk. Each block in work takes
        about five times its size of memory: the source's values, their codes, what was read back, and what
        zarr copies.

    Returns
    -------
    CompressionResult

    Raises
    ------
    FileExistsError
        There is something at `store` and `overwrite` was not given, or it is not a Zarr array.
    UntrustworthyCalibration
        The constants can't be read from this movie, or the `sensitivity` that was given is a refused one. The
        error says why; ``Sensitivity.from_known`` takes constants that are known otherwise.
    VerificationError
        What was read back differs by more than the bound. Nothing is left at `store`.
    UnrepresentableError, ValueError
        No codec holds the movie's values under the given parameters, or a parameter breaks its rule.
    FileNotFoundError, TypeError, ImportError
        From `open_movie`.

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
    started = time.perf_counter()
    workers = _workers(threads)
    target = _Target.of(store, overwrite=overwrite)
    _check_zarr_format(zarr_format)
    with open_movie(source) as movie:
        target.check_source(movie.source)
        layout = _chunk_shape(movie, chunks)
        spans = _spans(movie, layout[0])
        if sensitivity is None:
            sensitivity = _calibrate(movie, progress)
        extent = _Extent.of(movie, spans, workers, progress)
        codec: Codec = sensitivity.codec(
            zarr_format=zarr_format,
            sample=extent.sample(movie.dtype),
            beta=beta,
            encoded_dtype=encoded_dtype,
            zero_code=zero_code,
            out_of_range=out_of_range,
        )
        notes = _provenance(movie, extent, sensitivity, codec.plan)
        with target.writing() as place:
            array = _create_array(
                place,
                movie,
                codec,
                layout,
                zarr_format,
                fill_value=_fill_value(codec.plan, extent),
                dimension_names=dimension_names,
                notes=notes | {"complete": False},
                overwrite=overwrite,
            )
            verification = _write(movie, array, codec.plan, spans, workers, progress, verify=verify)
            if verification is not None and not verification.ok:
                raise VerificationError(
                    f"{target.name} was not written, as it would not be what was promised: {verification}",
                    verification,
                )
            if verification is not None:
                notes["verification"] = verification.to_dict()
            array.attrs[ATTRIBUTE] = notes
        array = _open_array(target.name if target.path is not None else store)
        return CompressionResult(
            path=target.name,
            array=array,
            raw_bytes=movie.nbytes,
            stored_bytes=_stored_bytes(array, target.path),
            seconds=time.perf_counter() - started,
            sensitivity=sensitivity,
            codec=codec,
            bound=notes["bound"]["noise_std"],
            verification=verification,
        )


def verify(
    original: str | os.PathLike[str] | SupportsMovie | Movie,
    stored: Any,
    *,
    codec: Codec | None = None,
    progress: Progress | None = None,
    threads: int | None = None,
) -> Verification:
    """Compare a stored movie with its source, value by value, against the codec's bound.

    Parameters
    ----------
    original : path or array
        The movie that was stored, as `open_movie` takes it.
    stored : path, store of Zarr, or zarr.Array
        An array with an Anscombe codec; with `codec`, decoded values as `open_movie` takes them.
    codec : AnscombeTransformV2 or AnscombeTransformV3, optional
        The codec that decoded the values, where they are not an array that names it.
    progress : callable, optional
        Called as ``progress(done, total, "verify")`` in frames.
    threads : int, optional
        As in `compress`.

    Returns
    -------
    Verification
        Not `ok` if a value is beyond its bound; that is a result, not an error.

    Raises
    ------
    ValueError
        The array has no Anscombe codec, or shape or dtype differ from the original's.
    VerificationError
        Stored values can't be read, as their chunk is damaged.
    FileNotFoundError
        There is no such file or array.

    Examples
    --------
    >>> import numpy as np, zarr
    >>> from anscombe_transform import AnscombeTransformV3
    >>> movie = 50 + 90 * np.random.default_rng(0).poisson(8, (20, 64, 64)).astype("int16")
    >>> codec = AnscombeTransformV3(zero_level=50, conversion_gain=90)
    >>> verification = verify(movie, zarr.create_array({}, data=movie, filters=[codec]))
    >>> verification.ok, verification.compared
    (True, 81920)
    """
    if codec is not None:
        return _verify_decoded(original, stored, codec, progress, threads)
    array = _open_array(stored)
    codec = _codec_of(array)
    if codec is None:
        raise ValueError(
            f"{_name_of(array, stored)} has no Anscombe codec, so nothing says how far its values may be "
            "off: compare it with numpy.array_equal"
        )
    with open_movie(original) as movie:
        if tuple(array.shape) != movie.shape:
            raise ValueError(f"the original has shape {movie.shape}, the stored array {tuple(array.shape)}")
        if array.dtype.newbyteorder("=") != movie.dtype:
            raise ValueError(f"the original has values of type {movie.dtype}, the stored array {array.dtype}")
        check = _Check(codec.plan)
        spans = _spans(movie, int(array.chunks[0]))

        def compare(start: int, stop: int) -> Verification:
            return check.compare(movie.frames(start, stop), _read_back(array, start, stop), start)

        parts = _in_blocks(compare, spans, _workers(threads), progress, "verify")
    return _merged(parts)


def _verify_decoded(
    original: Any, decoded: Any, codec: Codec, progress: Progress | None, threads: int | None
) -> Verification:
    """Compare decoded values that lie elsewhere than in an array with the codec."""
    with open_movie(original) as movie, open_movie(decoded) as values:
        if values.shape != movie.shape:
            raise ValueError(f"the original has shape {movie.shape}, the decoded values {values.shape}")
        check = _Check(codec.plan)

        def compare(start: int, stop: int) -> Verification:
            return check.compare(movie.frames(start, stop), values.frames(start, stop), start)

        return _merged(_in_blocks(compare, _spans(movie, 1), _workers(threads), progress, "verify"))


def describe(stored: Any) -> StoredMovie:
    """Read what a Zarr array says of itself, whoever wrote it.

    Parameters
    ----------
    stored : path, store of Zarr, or zarr.Array

    Returns
    -------
    StoredMovie

    Raises
    ------
    FileNotFoundError, ValueError
        There is no Zarr array.

    Examples
    --------
    >>> import zarr
    >>> print(describe(zarr.zeros((2, 64, 64), dtype="int16")).codec)
    None
    """
    array = _open_array(stored)
    codec = _codec_of(array)
    noted = dict(array.attrs).get(ATTRIBUTE)
    return StoredMovie(
        path=_name_of(array, stored),
        shape=tuple(int(n) for n in array.shape),
        dtype=str(array.dtype),
        chunks=tuple(int(n) for n in array.chunks),
        zarr_format=_zarr_format_of(array),
        codec=None if codec is None else _codec_summary(codec),
        provenance=noted if isinstance(noted, dict) else None,
        raw_bytes=int(array.nbytes),
        stored_bytes=_stored_bytes(array, _local_path(stored)),
    )


# --- reading and writing in blocks --------------------------------------------------------------------------


def _workers(threads: int | None) -> int:
    if threads is None:
        return max(2, min(_MOST_THREADS, os.cpu_count() or 1))
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    return threads


def _chunk_shape(movie: Movie, chunks: tuple[int, int, int] | None) -> tuple[int, int, int]:
    if chunks is not None:
        if len(chunks) != 3 or any(n != -1 and n < 1 for n in chunks):
            raise ValueError(
                f"chunks must be three numbers (time, y, x), each at least 1, or -1 for the whole axis, got "
                f"{chunks!r}"
            )
        t, y, x = (
            length if n == -1 else min(int(n), length) for n, length in zip(chunks, movie.shape, strict=True)
        )
        return t, y, x
    frames, height, width = movie.shape
    y, x = _equal_parts(height, _TILE), _equal_parts(width, _TILE)
    frame_bytes = height * width * movie.dtype.itemsize
    longest = min(_BLOCK_BYTES // frame_bytes, _CHUNK_VALUES // (y * x))
    return _equal_parts(frames, max(longest, _FEWEST_FRAMES)), y, x


def _equal_parts(length: int, longest: int) -> int:
    """Length of the parts when an axis is cut evenly into as few parts as `longest` allows."""
    return math.ceil(length / math.ceil(length / longest))


def _spans(movie: Movie, chunk_frames: int) -> list[_Span]:
    """Ranges of frames that are read at once: whole chunks, so that no two blocks write the same chunk."""
    chunk_bytes = chunk_frames * movie.shape[1] * movie.shape[2] * movie.dtype.itemsize
    step = chunk_frames * max(1, _BLOCK_BYTES // chunk_bytes)
    return [(start, min(start + step, movie.shape[0])) for start in range(0, movie.shape[0], step)]


def _in_blocks(
    work: Callable[[int, int], _T], spans: list[_Span], workers: int, progress: Progress | None, stage: str
) -> list[_T]:
    """Do the work on each range of frames, several at once; results in order, the first error at once."""
    total = spans[-1][1]
    with ThreadPoolExecutor(min(workers, len(spans)), thread_name_prefix="anscombe") as pool:
        futures: dict[Future[_T], _Span] = {pool.submit(work, *span): span for span in spans}
        done = 0
        try:
            if progress is not None:
                progress(0, total, stage)
            for future in as_completed(futures):
                future.result()
                start, stop = futures[future]
                done += stop - start
                if progress is not None:
                    progress(done, total, stage)
        except BaseException:
            # Whatever happened, an interrupt included: blocks not begun yet are not begun any more.
            for future in futures:
                future.cancel()
            raise
    return [future.result() for future in futures]


def _write(
    movie: Movie,
    array: Any,
    plan: Plan,
    spans: list[_Span],
    workers: int,
    progress: Progress | None,
    *,
    verify: bool,
) -> Verification | None:
    """Write the movie; each block is read back and compared while the source's is still in memory."""
    check = _Check(plan)

    def write(start: int, stop: int) -> Verification | None:
        block = movie.frames(start, stop)
        array[start:stop] = block
        return check.compare(block, _read_back(array, start, stop), start) if verify else None

    parts = _in_blocks(write, spans, workers, progress, "write and verify" if verify else "write")
    return _merged([part for part in parts if part is not None]) if verify else None


def _read_back(array: Any, start: int, stop: int) -> NDArray[Any]:
    try:
        return np.asarray(array[start:stop])
    except (MemoryError, ImportError):
        raise
    except Exception as error:  # each codec and store has its own kind for damaged bytes
        raise VerificationError(
            f"frames {start} to {stop - 1} of the stored array can't be read: {error}"
        ) from error


def _calibrate(movie: Movie, progress: Progress | None) -> Sensitivity:
    from anscombe_transform.calibration import compute_sensitivity

    if progress is None:
        return compute_sensitivity(movie)

    def report(done: int, total: int) -> None:
        progress(done, total, "calibrate")

    return compute_sensitivity(movie, progress=report)


@dataclass(frozen=True, slots=True)
class _Extent:
    """Smallest and largest value of a movie, and whether it holds NaN."""

    minimum: float
    maximum: float
    has_nan: bool

    @classmethod
    def of(cls, movie: Movie, spans: list[_Span], workers: int, progress: Progress | None) -> _Extent:
        is_float = movie.dtype.kind == "f"

        def scan(start: int, stop: int) -> _Extent:
            block = movie.frames(start, stop)
            # Python numbers, as a 64-bit integer has no place in a float.
            low, high = (np.fmin.reduce(block, None), np.fmax.reduce(block, None))
            return cls(low.item(), high.item(), is_float and bool(np.isnan(block).any()))

        parts = _in_blocks(scan, spans, workers, progress, "scan")
        return cls(
            np.fmin.reduce([part.minimum for part in parts]).item(),
            np.fmax.reduce([part.maximum for part in parts]).item(),
            any(part.has_nan for part in parts),
        )

    def sample(self, dtype: np.dtype[Any]) -> NDArray[Any]:
        """The fewest values from which a codec can be chosen that holds all of them."""
        return np.array([self.minimum, self.maximum, *([math.nan] if self.has_nan else [])], dtype)


# --- verification -------------------------------------------------------------------------------------------


class _Check:
    """Compares blocks with a codec's bound; shared by threads."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._clips = plan.configuration.out_of_range == "clip"
        dtype = plan.decoded_dtype
        self._table: NDArray[np.float32] | None = None
        if dtype.kind != "f" and dtype.itemsize <= 2:
            # 1 / bound of every value of the type, in the order of the bit patterns. Integers are off by
            # whole units, so a bound below 1 may be counted as 1/2: what exceeds the one exceeds the other.
            values = np.arange(1 << 8 * dtype.itemsize, dtype=f"u{dtype.itemsize}").view(dtype)
            self._table = (1 / np.maximum(plan.max_error(values), 0.5)).astype(np.float32)

    def compare(self, original: NDArray[Any], stored: NDArray[Any], first_frame: int) -> Verification:
        """Compare two blocks ``(time, y, x)`` that begin at a frame."""
        x, decoded = original.reshape(-1), stored.reshape(-1)
        largest = in_bounds = 0.0
        failed = clipped = 0
        first: int | None = None
        for start in range(0, x.size, _COMPARED_VALUES):
            part = slice(start, start + _COMPARED_VALUES)
            values = x[part]
            if self._clips:
                inside = np.clip(values, self._plan.lowest, self._plan.highest).astype(values.dtype)
                clipped += int(np.count_nonzero(inside < values)) + int(np.count_nonzero(inside > values))
                values = inside
            error, relative = self._errors(values, decoded[part])
            largest = max(largest, float(error.max()))
            worst = float(relative.max())
            in_bounds = max(in_bounds, worst)
            if not worst <= 1 + _ROUNDING:
                wrong = np.flatnonzero(~(relative <= 1 + _ROUNDING))
                failed += wrong.size
                first = start + int(wrong[0]) if first is None else first
        if first is None:
            return Verification(True, x.size, 0, clipped, largest, in_bounds)
        frame, row, column = (int(i) for i in np.unravel_index(first, original.shape))
        return Verification(
            False,
            x.size,
            failed,
            clipped,
            largest,
            in_bounds,
            (first_frame + frame, row, column),
            x[first].item(),
            decoded[first].item(),
        )

    def _errors(self, x: NDArray[Any], decoded: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Errors in signal units and as parts of their bounds; flat arrays of the same length."""
        if self._table is not None:
            # Exact: differences of two 16-bit integers fit the 24 bits of a float32.
            error = x.astype(np.float32)
            error -= decoded
            np.abs(error, out=error)
            # "wrap" spares the check of the indices, which can't be out of range.
            return error, error * self._table.take(x.view(f"u{x.dtype.itemsize}"), mode="wrap")
        wide = x.astype(np.float64)
        exact = np.abs(wide - decoded)
        if x.dtype.kind != "f":
            return exact, exact / np.maximum(self._plan.max_error(wide), 0.5)
        one, other = np.isnan(wide), np.isnan(decoded)
        exact[one & other] = 0
        exact[one != other] = np.inf
        # A float may lie on the edge between two codes, where both bounds are right.
        bound = np.maximum(
            self._plan.max_error(np.where(one, 0, wide)), self._plan.max_error(np.where(other, 0, decoded))
        )
        return exact, exact / np.maximum(bound, np.finfo(np.float64).tiny)


def _merged(parts: list[Verification]) -> Verification:
    wrong = next((part for part in parts if not part.ok), None)
    return Verification(
        wrong is None,
        sum(part.compared for part in parts),
        sum(part.failed for part in parts),
        sum(part.clipped for part in parts),
        max(part.max_error for part in parts),
        max(part.max_error_in_bounds for part in parts),
        *((wrong.index, wrong.original, wrong.stored) if wrong else ()),
    )


# --- where the array goes -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Target:
    """The destination of a compression: a folder of the file system, or some other store of Zarr."""

    store: Any
    path: Path | None
    overwrite: bool

    @classmethod
    def of(cls, store: Any, *, overwrite: bool) -> _Target:
        path = _local_path(store)
        target = cls(store, path, overwrite)
        if path is None:
            return target
        if not (path.exists() or path.is_symlink()):
            return target
        if not overwrite:
            raise FileExistsError(
                f"{path} exists already: choose another name, or overwrite it (overwrite=True, --overwrite)"
            )
        if not _is_zarr(path):
            raise FileExistsError(f"{path} exists and was not written by Zarr, so it is not overwritten")
        return target

    @property
    def name(self) -> str:
        return str(self.path) if self.path is not None else str(self.store)

    def check_source(self, source: str) -> None:
        """Refuse to replace the movie by its own compressed copy."""
        path = Path(source.partition("::")[0])
        if self.path is not None and path.exists() and path.resolve() == self.path.resolve():
            raise ValueError(f"source and store are both {self.path}: the original would be gone")

    @contextmanager
    def writing(self) -> Iterator[Any]:
        """Give a place to write to, and put what was written in its final place if nothing failed."""
        if self.path is None:
            yield self.store
            return
        partial = self.path.with_name(f"{self.path.name}.partial-{secrets.token_hex(4)}")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield str(partial)
            if self.overwrite and self.path.exists():
                _swap(partial, self.path)
            else:
                # Fails if someone else has put something with content there meanwhile.
                partial.rename(self.path)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def _swap(finished: Path, place: Path) -> None:
    """Put a finished array in the place of another one, which is deleted last."""
    old = place.with_name(f"{place.name}.old-{secrets.token_hex(4)}")
    place.rename(old)
    try:
        finished.rename(place)
    except BaseException:
        old.rename(place)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _local_path(store: Any) -> Path | None:
    """The folder that a store names, or None for stores elsewhere; ``store.zarr::name`` is a folder in it."""
    if isinstance(store, os.PathLike):
        return Path(store)
    if isinstance(store, str) and "://" not in store:
        return Path(store.replace("::", os.sep))
    return None


def _is_zarr(path: Path) -> bool:
    return any((path / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup"))


def _stored_bytes(array: Any, path: Path | None) -> int:
    if path is not None:
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    stored = array.nbytes_stored
    return int(stored() if callable(stored) else stored)


# --- the two generations of zarr-python ---------------------------------------------------------------------


def _zarr() -> Any:
    """The module zarr, whose two generations no type checker can know at once."""
    import zarr

    return zarr


def _has_zarr_3() -> bool:
    return hasattr(_zarr(), "create_array")


def _check_zarr_format(zarr_format: int) -> None:
    if zarr_format not in (2, 3):
        raise ValueError(f"zarr_format must be 2 or 3, got {zarr_format!r}")
    if zarr_format == 3 and not _has_zarr_3():
        raise ValueError(
            f"zarr-python {_zarr().__version__} can't write Zarr format 3: give zarr_format=2, or install "
            '"zarr>=3"'
        )


def _create_array(
    store: Any,
    movie: Movie,
    codec: Codec,
    chunks: tuple[int, int, int],
    zarr_format: int,
    *,
    fill_value: Any,
    dimension_names: tuple[str, str, str],
    notes: dict[str, Any],
    overwrite: bool,
) -> Any:
    zarr = _zarr()
    options: dict[str, Any] = {
        "shape": movie.shape,
        "dtype": movie.dtype,
        "chunks": chunks,
        "fill_value": fill_value,
        "filters": [codec],
    }
    attributes: dict[str, Any] = {ATTRIBUTE: notes}
    compressors = _compressors(codec.plan.encoded_dtype.itemsize, zarr_format)
    if zarr_format == 2:
        # The name that xarray looks for, since format 2 has no place for the names of axes.
        attributes["_ARRAY_DIMENSIONS"] = list(dimension_names)
        # Folders within folders, as OME-Zarr wants it: a flat one with a million files is slow to list.
        if _has_zarr_3():
            options["chunk_key_encoding"] = {"name": "v2", "separator": "/"}
        else:
            options["dimension_separator"] = "/"
    else:
        options["dimension_names"] = dimension_names
    held = (zarr.errors.ContainsArrayError, zarr.errors.ContainsGroupError)
    try:
        # Chunks of nothing but the fill value are written as well: a missing one is then a lost one.
        if _has_zarr_3():
            return zarr.create_array(
                store,
                **options,
                compressors=compressors,
                zarr_format=zarr_format,
                attributes=attributes,
                config={"write_empty_chunks": True},
                overwrite=overwrite,
            )
        mode = "w" if overwrite else "w-"
        array = zarr.open_array(
            store, mode=mode, compressor=compressors[0], write_empty_chunks=True, **options
        )
    except held as error:
        raise FileExistsError(
            f"{store} holds data already: overwrite it (overwrite=True, --overwrite)"
        ) from error
    array.attrs.put(attributes)
    return array


def _compressors(bytes_per_code: int, zarr_format: int) -> list[Any]:
    """The stock codecs that compress the codes, with a checksum where the format has room for one."""
    if zarr_format == 2:
        import numcodecs

        if bytes_per_code == 1:
            return [numcodecs.Zstd(level=1, checksum=True)]
        return [numcodecs.Blosc("zstd", clevel=1, shuffle=numcodecs.Blosc.SHUFFLE)]
    from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

    if bytes_per_code == 1:
        return [ZstdCodec(level=1, checksum=True)]
    return [
        BloscCodec(typesize=bytes_per_code, cname="zstd", clevel=1, shuffle="shuffle"),
        Crc32cCodec(),
    ]


def _open_array(stored: Any) -> Any:
    """The zarr array that a path or a store holds."""
    zarr = _zarr()
    if isinstance(stored, zarr.Array):
        return stored
    path = _local_path(stored)
    if path is None:
        return zarr.open_array(stored, mode="r")
    if not path.exists():
        raise FileNotFoundError(f"no such Zarr array: {path}")
    if not _is_zarr(path):
        raise ValueError(f"{path} is not a Zarr array")
    try:
        node = zarr.open(str(path), mode="r")
    except Exception as error:
        raise ValueError(f"cannot open the Zarr array {path}: {error}") from error
    if not isinstance(node, zarr.Array) and (level := _full_resolution(node)) is not None:
        return level
    if not isinstance(node, zarr.Array):
        names = ", ".join(sorted(node.array_keys())) or "none"
        raise ValueError(f'{path} is a group of arrays ({names}): say which, "{path}::name"')
    return node


def _full_resolution(group: Any) -> Any | None:
    """The first level of an OME-Zarr image; None for another group."""
    attributes = dict(group.attrs)
    images = attributes.get("ome", attributes).get("multiscales")
    return group[images[0]["datasets"][0]["path"]] if images else None


def _codec_of(array: Any) -> Codec | None:
    """The Anscombe codec among an array's filters."""
    from anscombe_transform.codec.zarr_v2 import AnscombeTransformV2

    kinds: tuple[type, ...] = (AnscombeTransformV2,)
    if _has_zarr_3():
        from anscombe_transform.codec.zarr_v3 import AnscombeTransformV3

        kinds = (AnscombeTransformV2, AnscombeTransformV3)
    found: list[Any] = [codec for codec in array.filters or () if isinstance(codec, kinds)]
    return found[0] if found else None


def _zarr_format_of(array: Any) -> int:
    return int(getattr(array.metadata, "zarr_format", 2)) if _has_zarr_3() else 2


def _name_of(array: Any, stored: Any) -> str:
    path = _local_path(stored)
    return str(path) if path is not None else str(getattr(array, "store_path", array))


# --- what is noted ------------------------------------------------------------------------------------------


def _fill_value(plan: Plan, extent: _Extent) -> Any:
    """0 where it has a code, else the movie's smallest value; every chunk is written, so none is read."""
    if plan.lowest <= 0 <= plan.highest:
        return 0
    return min(max(extent.minimum, plan.lowest), plan.highest)


def _bound_text(noise_std: float) -> str:
    return f"an error is at most {noise_std:.2f} standard deviations of the noise at its value"


def _largest_error(plan: Plan, extent: _Extent) -> float:
    """Largest error that a value of the movie can have, in standard deviations of the noise at that value.

    It is more than half a step, `beta` / 2, where the noise is smaller at the dark end of a bin than in its
    middle, and where integers are rounded.
    """
    low, high = plan.bins
    values = plan.decode(np.arange(low.size, dtype=plan.encoded_dtype)).astype(np.float64)
    used = (low <= high) & (low <= extent.maximum) & (high >= extent.minimum)
    low, high, values = low[used], high[used], values[used]
    below, above = (values - low) / plan.curve.noise_std(low), (high - values) / plan.curve.noise_std(high)
    return float(max(below.max(initial=0), above.max(initial=0)))


def _codec_summary(codec: Codec) -> dict[str, Any]:
    configuration = codec.plan.configuration
    document = configuration.to_json()
    document.pop("decode_table", None)
    return {
        "name": configuration.format,
        **document,
        "lowest": codec.plan.lowest,
        "highest": codec.plan.highest,
    }


def _provenance(movie: Movie, extent: _Extent, sensitivity: Sensitivity, plan: Plan) -> dict[str, Any]:
    ends = np.clip([extent.minimum, extent.maximum], plan.lowest, plan.highest)
    at_minimum, at_maximum = plan.max_error(ends)
    return _document(
        {
            "complete": True,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "sensitivity": sensitivity.to_dict(),
            "format": plan.configuration.format,
            "beta": plan.curve.beta,
            "bound": {
                "noise_std": _largest_error(plan, extent),
                "at_minimum": at_minimum,
                "at_maximum": at_maximum,
            },
            "source": {
                "name": movie.source,
                "shape": list(movie.shape),
                "dtype": movie.dtype.name,
                "minimum": extent.minimum,
                "maximum": extent.maximum,
                "has_nan": extent.has_nan,
            },
            "software": _software(),
            "verification": None,
        }
    )


def _software() -> dict[str, str]:
    found = {}
    for name in ("anscombe-transform", "zarr", "numcodecs", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # run from a source tree that is not installed
            found[name] = "unknown"
    return found


def _document(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields in types that JSON has."""
    return {name: _json(value) for name, value in fields.items()}


def _json(value: Any) -> Any:
    """The value in types that JSON has, which has no NaN and no infinities."""
    if isinstance(value, dict):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _number(value: float | None) -> str:
    """A signal value as text: integers in full, floats to six digits."""
    return str(value) if value is None or isinstance(value, int) else f"{value:.6g}"


def _size(count: int) -> str:
    amount = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} TB"
