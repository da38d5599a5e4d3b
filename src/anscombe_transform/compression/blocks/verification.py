"""The result of comparing stored values, as an object that prints and turns into JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from anscombe_transform.compression.blocks.mean_shift import MeanShift, merged_shifts
from anscombe_transform.native.documents import Printed, json_document

if TYPE_CHECKING:
    from anscombe_transform.calibration.result.agreement import Agreement

__all__ = ["Verification", "VerificationError", "merged", "read_agreement", "signal_text"]

_MOST_NAMED = 4


class VerificationError(ValueError):
    """Stored values are not within their bound.

    Attributes
    ----------
    verification : Verification or None
        The comparison, and where it first failed; None where the stored values can't even be read.

    Examples
    --------
    >>> import numpy as np, tempfile, zarr
    >>> from pathlib import Path
    >>> from anscombe_transform import AnscombeTransformV3, verify
    >>> codec = AnscombeTransformV3(50, 90.0, "uint8", "uint16")
    >>> movie = np.full((9, 8, 8), 500, "uint16")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     stored = zarr.create_array(folder, data=movie, filters=[codec])
    ...     _ = Path(folder, "c/0/0/0").write_bytes(b"something else")
    ...     try:
    ...         verify(stored, movie)
    ...     except VerificationError as error:
    ...         print(error.verification)
    None
    """

    def __init__(self, message: str, verification: Verification | None = None) -> None:
        super().__init__(message)
        self.verification = verification


@dataclass(frozen=True, slots=True, repr=False)
class Verification(Printed):
    """A stored movie compared with its source, value by value, or with the checksums of the stored values.

    Attributes
    ----------
    ok : bool
        Whether every value is within its bound.
    compared : int
        Number of values compared.
    failed : int
        Number of values beyond their bound.
    clipped : int
        Number of values that the codec clips (``out_of_range="clip"``); they are compared after
        clipping.
    max_error : float
        Largest ``|stored - original|``, signal units.
    max_error_in_bounds : float
        Largest error as a part of the bound at that value; above 1 only if not `ok`.
    index : tuple of int or None
        Where ``(time, y, x)`` the first value beyond its bound is.
    original, stored : float or None
        The two values there.
    against : {"source", "checksums"}
        The reference of the comparison. Checksums show whether values are unchanged since they were written,
        for one block of frames after the other: errors are 0 where all of them agree, `failed` counts the
        values of the blocks that don't, and `index` is where the first of those begins.
    chunk : tuple of int or None
        The chunk in which `index` lies, counted in chunks along every axis.
    agreement : Agreement or None
        The noise of the source compared with that of the codec's constants, where there is a source. The
        bound is made of these constants, so it holds in units of the noise only where they agree.
    error_in_noise : float or None
        Largest error that a value can have, in standard deviations of the noise that was measured in the
        source; None where it was not measured.
    blocks : tuple of (int, int)
        First and last frame of blocks that changed, by their checksums.
    mean_shift : tuple of MeanShift
        Shift of the mean by brightness, measured in some rows of every block that agrees with its source.
    source_checksum : str or None
        Digest of the source that was compared, as the record of an array has it of the source that was
        stored (``source["checksum"]``): SHA-256 of the CRC-32 of every frame. None where `compress` compared
        while writing, as its record has it already.

    Examples
    --------
    >>> import zarr
    >>> from anscombe_transform import AnscombeTransformV3, simulate_movie, verify
    >>> movie, _ = simulate_movie((20, 64, 64), conversion_gain=90, zero_level=50, dtype="uint16", rng=0)
    >>> stored = zarr.create_array({}, data=movie, filters=[AnscombeTransformV3(50, 90.0, "uint8", "uint16")])
    >>> movie[3, 10, 20] = 9000
    >>> found = verify(stored, movie)
    >>> found.ok, found.failed, found.index, found.original
    (False, 1, (3, 10, 20), 9000)
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
    against: Literal["source", "checksums"] = "source"
    chunk: tuple[int, ...] | None = None
    agreement: Agreement | None = field(default=None, compare=False)
    error_in_noise: float | None = field(default=None, compare=False)
    blocks: tuple[tuple[int, int], ...] = ()
    mean_shift: tuple[MeanShift, ...] = field(default=(), compare=False)
    source_checksum: str | None = field(default=None, compare=False)

    def __str__(self) -> str:
        where = "" if self.chunk is None else f", in chunk {self.chunk}"
        if self.against == "checksums":
            if self.ok:
                return f"all {self.compared:,} values are those that were written, by their checksums"
            return (
                f"{self.failed:,} of {self.compared:,} values are in blocks that are not what was written: "
                f"{_frames_text(self.blocks)}; the first begins at (time, y, x) = {self.index}{where}"
            )
        if not self.ok:
            return (
                f"{self.failed:,} of {self.compared:,} values differ by more than the bound; the first is at "
                f"(time, y, x) = {self.index}{where}: {signal_text(self.original)} was stored as "
                f"{signal_text(self.stored)}"
            )
        clipped = f", {self.clipped:,} were clipped as asked" if self.clipped else ""
        found = (
            f"all {self.compared:,} values are within the bound{clipped}; the largest error is "
            f"{signal_text(self.max_error)} signal units"
        )
        return found if self.agreement is None else found + self._noise_text(self.agreement)

    def _noise_text(self, agreement: Agreement) -> str:
        """The bound in units of the measured noise."""
        if agreement.verdict == "unchecked":
            return f". The constants behind the bound were not checked: {agreement.message}"
        within = f", and no error exceeds {self.error_in_noise:.2f} measured standard deviations of the noise"
        if agreement.verdict == "contradicts":
            return f"{within}. But the constants behind the bound CONTRADICT the movie: {agreement.message}"
        return within if agreement.verdict == "agrees" else f"{within}. Note: {agreement.message}"

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types."""
        return json_document(asdict(self))

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Verification:
        """The verification that `to_dict` described; fields of a later version are passed over."""
        known = {name: value for name, value in document.items() if name in cls.__dataclass_fields__}
        for name in ("index", "chunk"):
            if known.get(name) is not None:
                known[name] = tuple(known[name])
        if known.get("agreement") is not None:
            known["agreement"] = read_agreement(known["agreement"])
        known["blocks"] = tuple((first, last) for first, last in known.get("blocks", ()))
        known["mean_shift"] = tuple(MeanShift(**group) for group in known.get("mean_shift", ()))
        return cls(**known)


def merged(parts: Sequence[Verification]) -> Verification:
    """One verification of several parts of a movie, in their order."""
    wrong = next((part for part in parts if not part.ok), None)
    return Verification(
        wrong is None,
        sum(part.compared for part in parts),
        sum(part.failed for part in parts),
        sum(part.clipped for part in parts),
        max(part.max_error for part in parts),
        max(part.max_error_in_bounds for part in parts),
        *((wrong.index, wrong.original, wrong.stored) if wrong else (None, None, None)),
        (wrong or parts[0]).against,
        wrong.chunk if wrong else None,
        blocks=tuple(block for part in parts for block in part.blocks),
        mean_shift=merged_shifts(part.mean_shift for part in parts),
    )


def read_agreement(document: dict[str, Any]) -> Agreement:
    """The agreement of constants and movie that a document holds."""
    from anscombe_transform.calibration.references import Agreement

    return Agreement.from_dict(document)


def _frames_text(blocks: Sequence[tuple[int, int]]) -> str:
    """The frames of blocks in words, the first few of them."""
    named = ", ".join(f"{first} to {last}" for first, last in blocks[:_MOST_NAMED])
    more = len(blocks) - _MOST_NAMED
    return f"frames {named}" + (f" and {more} more blocks" if more > 0 else "")


def signal_text(value: float | None) -> str:
    """A signal value as text: integers in full, floats to six digits."""
    return str(value) if value is None or isinstance(value, int) else f"{value:.6g}"
