"""Results of compressing, verifying and describing, as objects that print and turn into JSON."""

from __future__ import annotations

import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from anscombe_transform.compression.blocks.mean_shift import mean_shift_text
from anscombe_transform.compression.blocks.verification import (
    Verification,
    read_agreement,
    signal_text,
)
from anscombe_transform.compression.files.record import plan_of_record, read_plain_record
from anscombe_transform.compression.stored.arrays import (
    codec_of,
    hdf5_file,
    local_path,
    name_of,
    open_array,
    stored_bytes,
    zarr_format_of,
)
from anscombe_transform.compression.stored.notes import codec_summary, difference_from_notes
from anscombe_transform.movies import open_movie
from anscombe_transform.movies.metadata import ATTRIBUTE
from anscombe_transform.movies.readers.zarr_stores import missing_chunks
from anscombe_transform.native.documents import Printed, json_document

if TYPE_CHECKING:
    from anscombe_transform.calibration import Agreement, Sensitivity
    from anscombe_transform.codec.zarr_v2 import AnscombeTransformV2
    from anscombe_transform.codec.zarr_v3 import AnscombeTransformV3

    Codec = AnscombeTransformV2 | AnscombeTransformV3

__all__ = ["CompressionResult", "StoredMovie", "describe"]


# A movie of fewer bytes is through before its rate means anything.
_RATED_BYTES = 2e9


@dataclass(frozen=True, slots=True, repr=False)
class StoredMovie(Printed):
    """Metadata of a stored movie.

    Attributes
    ----------
    path : str
        Where the array is.
    shape : tuple of int
        ``(time, y, x)``.
    dtype : str
        Type of the decoded values.
    chunks : tuple of int
        Shape of a chunk, ``(time, y, x)``.
    zarr_format : int
        2 or 3.
    codec : dict or None
        Configuration of its Anscombe codec with its name, without the decode table; None if it has none.
    provenance : dict or None
        Record of `compress`; None for an array that it didn't write.
    raw_bytes, stored_bytes : int
        Size of the decoded movie, and of the stored array, in bytes.
    changed : str or None
        How the array changed since it was written, as far as its metadata and the list of its chunks show it;
        `verify` reads the values.

    Examples
    --------
    >>> import zarr
    >>> from anscombe_transform import AnscombeTransformV3, simulate_movie
    >>> from anscombe_transform.compression import describe
    >>> movie, _ = simulate_movie((20, 64, 64), conversion_gain=90, zero_level=50, dtype="uint16", rng=0)
    >>> codec = AnscombeTransformV3(50, 90.0, "uint8", "uint16")
    >>> found = describe(zarr.create_array({}, data=movie, filters=[codec]))
    >>> found.shape, found.codec["conversion_gain"], found.raw_bytes, found.ratio > 2
    ((20, 64, 64), 90.0, 163840, True)
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
    changed: str | None = None

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
        return json_document(asdict(self) | {"ratio": self.ratio, "complete": self.complete})

    def __str__(self) -> str:
        size = (
            f"{size_text(self.raw_bytes)} in {size_text(self.stored_bytes)}, {self.ratio:.2f} times smaller"
        )
        lines = [
            self.path,
            f"  array         {' × '.join(map(str, self.shape))} {self.dtype}, "
            f"chunks {' × '.join(map(str, self.chunks))}, {self._container}",
            f"  size          {size}",
        ]
        if not self.complete:
            lines.append("  INCOMPLETE    its writing was interrupted: go on with it (resume=True, --resume)")
        if self.changed is not None:
            lines.append(f"  CHANGED       since it was written: {self.changed}")
        if self.codec is None:
            lines.append("  codec         none of ours: the values are as they were stored")
            return "\n".join(lines)
        c = self.codec
        details = [f"gain {c['conversion_gain']:g} signal/photon", f"zero level {c['zero_level']:g}"]
        if c.get("read_noise"):
            details.append(f"read noise {c['read_noise']:g}")
        lines.append(f"  codec         {c['name']}, {c['encoded_dtype']} codes: {', '.join(details)}")
        try:
            return "\n".join(lines + self._record_lines(self.provenance or {}))
        except (KeyError, TypeError, ValueError, AttributeError):
            # An edited record may hold anything.
            return "\n".join([*lines, "  record        can't be read: it was edited"])

    @property
    def _container(self) -> str:
        """The container of the chunks."""
        if not self.zarr_format:
            return "decoded values in a plain file"
        return "HDF5" if hdf5_file(self.path) is not None else f"Zarr format {self.zarr_format}"

    def _record_lines(self, noted: dict[str, Any]) -> list[str]:
        """The record of `compress`, line by line."""
        lines = []
        agreement = agreement_of(noted)
        if bound := noted.get("bound"):
            lines.append(f"  bound         {bound_text(bound['noise_std'], agreement)}")
        if noted:
            lines.append(f"  agreement     {agreement_text(agreement)}")
        if sensitivity := noted.get("sensitivity"):
            lines.append(f"  calibration   {sensitivity.get('verdict')}")
            lines += [f"                - {reason['message']}" for reason in sensitivity.get("reasons", ())]
        if source := noted.get("source"):
            held = ""
            if "minimum" in source:
                held = f", values {signal_text(source['minimum'])} to {signal_text(source['maximum'])}"
            lines.append(f"  source        {source['name']}{held}")
            problems = (source.get("metadata") or {}).get("partial") or ()
            lines += [f"                PARTIAL: {problem}" for problem in problems]
        if checked := noted.get("verification"):
            verification = Verification.from_dict(checked)
            lines.append(f"  mean          {mean_shift_text(verification.mean_shift)}")
            lines.append(f"  verification  {verification}")
            lines.append("                (when it was written; `anscombe verify` reads it again)")
        elif noted:
            lines.append("  verification  none was made")
        if noted:
            software = ", ".join(f"{name} {number}" for name, number in noted.get("software", {}).items())
            lines.append(f"  written       {noted.get('date')} with {software}")
        return lines


@dataclass(frozen=True, slots=True, repr=False)
class CompressionResult(Printed):
    """Result of `compress`.

    Attributes
    ----------
    path : str
        Where the array is.
    array : zarr.Array
        The array, open for reading.
    raw_bytes, stored_bytes : int
        Size of the movie in memory, and of the stored array, in bytes.
    seconds : float
        How long it took, calibration and verification included.
    sensitivity : Sensitivity
        The constants that the codec was made of.
    codec : AnscombeTransformV2 or AnscombeTransformV3
        The codec that the values went through.
    bound : float
        Largest error that a value of the movie can have, in standard deviations of the noise that the
        constants imply at that value.
    verification : Verification or None
        None if it was not asked for.
    agreement : Agreement or None
        The noise of the movie compared with that of the constants.
    part : (int, int) or None
        Number of the part that the job wrote, and how many there are: the array is not finished then, and
        sizes and verification are those of the part.

    Examples
    --------
    >>> import zarr
    >>> from anscombe_transform import compress, simulate_movie
    >>> movie, _ = simulate_movie((40, 64, 64), conversion_gain=90, zero_level=50, rng=0)
    >>> result = compress(movie, zarr.storage.MemoryStore())
    >>> result.verification.ok, result.ratio > 3, result.array.shape
    (True, True, (40, 64, 64))
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
    agreement: Agreement | None = None
    part: tuple[int, int] | None = None

    @property
    def ratio(self) -> float:
        """How many times smaller the stored movie is."""
        return self.raw_bytes / self.stored_bytes if self.stored_bytes else math.nan

    @property
    def measured_bound(self) -> float:
        """Largest error in standard deviations of the measured noise; NaN where it was not measured."""
        return measured_bound(self.bound, self.agreement)

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON types; the codec without its decode table."""
        return json_document(
            {
                "path": self.path,
                "shape": list(self.array.shape),
                "dtype": str(self.array.dtype),
                "raw_bytes": self.raw_bytes,
                "stored_bytes": self.stored_bytes,
                "ratio": self.ratio,
                "seconds": self.seconds,
                "sensitivity": self.sensitivity.to_dict(),
                "codec": codec_summary(self.codec),
                "bound": self.bound,
                "measured_bound": self.measured_bound,
                "agreement": None if self.agreement is None else self.agreement.to_dict(),
                "verification": None if self.verification is None else self.verification.to_dict(),
                "part": None if self.part is None else list(self.part),
            }
        )

    def __str__(self) -> str:
        plan = self.codec.plan
        shape = " × ".join(map(str, self.array.shape))
        # Of a short run, most is what comes once: imports, and compiling in a fresh environment.
        rate = f" ({self.raw_bytes / self.seconds / 1e6:.0f} MB/s)" if self.raw_bytes >= _RATED_BYTES else ""
        checked = self.verification
        means = "not compared" if checked is None else mean_shift_text(checked.mean_shift)
        return "\n".join(
            [
                f"{self.path}: {shape} {self.array.dtype}, {size_text(self.raw_bytes)} in "
                f"{size_text(self.stored_bytes)}, {self.ratio:.2f} times smaller, "
                f"{self.seconds:.1f} s{rate}",
                f"  codec         {plan.configuration.format}, {plan.encoded_dtype} codes; holds "
                f"{signal_text(plan.lowest)} to {signal_text(plan.highest)}",
                f"  bound         {bound_text(self.bound, self.agreement)}",
                f"  agreement     {agreement_text(self.agreement)}",
                f"  mean          {means}",
                f"  verification  {'not made' if checked is None else checked}",
                *([] if self.part is None else [_part_text(*self.part)]),
            ]
        )


def _part_text(number: int, count: int) -> str:
    return (
        f"  NOT FINISHED  sizes and verification are of part {number} of {count}: when all parts are "
        "written, the same call with resume=True (--resume) in place of the part proves the whole"
    )


def describe(stored: Any) -> StoredMovie:
    """Read the metadata of a stored array, whoever wrote it.

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
    if (record := read_plain_record(stored)) is not None:
        return _describe_plain(stored, record)
    array = open_array(stored)
    codec = codec_of(array)
    noted = dict(array.attrs).get(ATTRIBUTE)
    changed = difference_from_notes(array)
    if changed is None and isinstance(noted, dict) and noted.get("complete"):
        changed = missing_chunks(array)
    return StoredMovie(
        path=name_of(array, stored),
        shape=tuple(int(n) for n in array.shape),
        dtype=str(array.dtype),
        chunks=tuple(int(n) for n in array.chunks),
        zarr_format=zarr_format_of(array),
        codec=None if codec is None else codec_summary(codec),
        provenance=noted if isinstance(noted, dict) else None,
        raw_bytes=int(array.nbytes),
        stored_bytes=stored_bytes(array, local_path(stored)),
        changed=changed,
    )


def _describe_plain(stored: Any, record: dict[str, Any]) -> StoredMovie:
    """Metadata of a plain file."""
    with open_movie(stored) as movie:
        held: Any = SimpleNamespace(attrs={ATTRIBUTE: record}, shape=movie.shape)
        return StoredMovie(
            path=os.fspath(stored),
            shape=movie.shape,
            dtype=str(movie.dtype),
            chunks=(1, *movie.shape[1:]),
            zarr_format=0,
            codec=codec_summary(plan_of_record(record)),
            provenance=record,
            raw_bytes=movie.nbytes,
            stored_bytes=Path(os.fspath(stored).partition("::")[0]).stat().st_size,
            changed=difference_from_notes(held),
        )


def measured_bound(noise_std: float, agreement: Agreement | None) -> float:
    """A bound in standard deviations of the constants' noise, in those of the measured noise."""
    if agreement is None or not agreement.checked:
        return math.nan
    return noise_std / agreement.noise_factor if agreement.noise_factor > 0 else math.inf


def bound_text(noise_std: float, agreement: Agreement | None) -> str:
    """A bound in words: in measured standard deviations, or else saying that they are not."""
    measured = measured_bound(noise_std, agreement)
    if math.isnan(measured):
        return (
            f"an error is at most {noise_std:.2f} standard deviations of the noise that the constants imply, "
            "which was not checked"
        )
    return f"an error is at most {measured:.2f} measured standard deviations of the noise at its value"


def result_of(
    name: str,
    array: Any,
    notes: dict[str, Any],
    *,
    raw_bytes: int,
    stored_bytes: int,
    started: float,
    part: tuple[int, int] | None = None,
) -> CompressionResult:
    """The result of a run that began at a time of ``time.perf_counter``, from the array and its notes."""
    codec: Any = codec_of(array)
    checked = notes["verification"]
    return CompressionResult(
        path=name,
        array=array,
        raw_bytes=raw_bytes,
        stored_bytes=stored_bytes,
        seconds=time.perf_counter() - started,
        sensitivity=sensitivity_of(notes),
        codec=codec,
        bound=notes["bound"]["noise_std"],
        verification=None if checked is None else Verification.from_dict(checked),
        agreement=agreement_of(notes),
        part=part,
    )


def sensitivity_of(notes: dict[str, Any]) -> Sensitivity:
    """The constants behind an array, from its notes."""
    from anscombe_transform.calibration.result.sensitivity import Sensitivity

    return Sensitivity.from_dict(notes["sensitivity"])


def agreement_text(agreement: Agreement | None) -> str:
    """The agreement of constants and movie, in words."""
    if agreement is None:
        return "unchecked: the constants were not compared with the movie"
    if agreement.verdict == "contradicts":
        return f"CONTRADICTS the movie, which was accepted: {agreement.message}"
    return str(agreement)


def agreement_of(notes: dict[str, Any] | None) -> Agreement | None:
    """The agreement that was noted when an array was written."""
    noted = (notes or {}).get("agreement")
    return read_agreement(noted) if isinstance(noted, dict) else None


def is_mismatch_accepted(stored: Any) -> bool:
    """Whether an array was written although its constants contradict the movie, which was accepted then."""
    noted = (describe(stored).provenance or {}).get("agreement")
    return isinstance(noted, dict) and bool(noted.get("accepted_mismatch"))


def size_text(count: int) -> str:
    """A number of bytes in the unit that suits it."""
    amount = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} TB"
