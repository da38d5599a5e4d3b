"""Why raw data must not be deleted, and cautions where they may be.

Each refusal has a remedy. Refusals follow from a list of facts, and each fact has to be excluded: an unknown
array is refused by every one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anscombe_transform.compression.blocks.mean_shift import largest_shift

if TYPE_CHECKING:
    from anscombe_transform.calibration import Agreement, Sensitivity
    from anscombe_transform.compression import StoredMovie, Verification
    from anscombe_transform.diagnostics.certificate.source import Source

__all__ = ["Examined", "Finding", "find_cautions", "find_refusals"]

# A mean that is shifted by less than this many standard deviations of the noise disappears in the mean of
# 400 frames, whose own standard error is 0.05.
LARGEST_QUIET_SHIFT = 0.05

# An error of one standard deviation is as large as what chance does to every value.
LARGEST_QUIET_BOUND = 1.0

_MOST_NAMED = 8


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason against deletion, or one thing to bear in mind.

    Attributes
    ----------
    code : str
        Stable name, for programs.
    message : str
        The fact, as a sentence.
    remedy : str
        Remedy.
    """

    code: str
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}"


@dataclass(frozen=True, slots=True)
class Examined:
    """Everything that a certificate rests on.

    Attributes
    ----------
    stored : StoredMovie
    source : Source or None
        None where no source was given.
    verification : Verification or None
        Of all values with the source, made now; None where there was no source or the comparison failed.
    failure : Finding or None
        Why the comparison could not be made.
    sensitivity : Sensitivity or None
        The calibration behind the array; None where its record has none that can be read.
    """

    stored: StoredMovie
    source: Source | None
    verification: Verification | None
    failure: Finding | None
    sensitivity: Sensitivity | None

    @property
    def record(self) -> dict[str, Any]:
        """The record of the array; empty where it has none."""
        return self.stored.provenance or {}

    @property
    def agreement(self) -> Agreement | None:
        """Of constants and source, measured now."""
        return None if self.verification is None else self.verification.agreement

    def recorded(self, name: str) -> dict[str, Any]:
        """An entry of the record; empty where it is no mapping."""
        entry = self.record.get(name)
        return entry if isinstance(entry, dict) else {}


def find_refusals(examined: Examined) -> tuple[Finding, ...]:
    """Every reason against deletion, the gravest first."""
    return (
        *_of_comparison(examined),
        *_of_array(examined),
        *_of_source(examined),
        *_of_constants(examined),
    )


def _of_comparison(examined: Examined) -> Iterator[Finding]:
    if examined.failure is not None:
        yield examined.failure
    if examined.source is None and examined.failure is None:
        yield Finding(
            "not_compared",
            "The stored values were not compared with the raw data.",
            "Name the raw data: --against SOURCE.",
        )
    found = examined.verification
    if found is None:
        return
    if not found.ok:
        yield Finding(
            "beyond_bound", f"The array does not hold the raw data: {found}.",
            "Store the raw data again, and check the disk that the array is on.",
        )  # fmt: skip
    clipped = max(found.clipped, int(examined.recorded("verification").get("clipped") or 0))
    if clipped:
        yield Finding(
            "clipped",
            f"{clipped:,} values lay outside the range of the codec and were clipped; they are lost.",
            "Store the raw data again without clipping, so that a codec is chosen that holds every value.",
        )


def _of_array(examined: Examined) -> Iterator[Finding]:
    stored, record = examined.stored, examined.record
    if stored.codec is None:
        yield Finding(
            "no_codec",
            "The array has no codec of this package, so nothing says how far its values may be off.",
            "Store the raw data with anscombe compress.",
        )
    if not stored.complete:
        yield Finding(
            "incomplete",
            "The writing of the array did not end.",
            "Go on with it: anscombe compress SOURCE OUT --resume.",
        )
    if stored.changed is not None:
        yield Finding(
            "changed",
            f"The array was changed after it was written: {stored.changed}.",
            "Take it from a copy that is whole, or store the raw data again.",
        )
    if not record.get("checksums"):
        why = "was not written by anscombe compress" if not record else "has no checksums of its values"
        yield Finding(
            "no_checksums",
            f"The array {why}, so later damage to it would not be noticed.",
            "Store the raw data again with anscombe compress, and let it verify.",
        )
    partial = (examined.recorded("source").get("metadata") or {}).get("partial") or ()
    missing = partial or (examined.source.missing if examined.source is not None else ())
    if missing:
        yield Finding(
            "partial",
            f"The recording is not whole: {'; '.join(missing)}.",
            "Keep the raw data; parts that programs can't read today may be recovered later.",
        )


def _of_source(examined: Examined) -> Iterator[Finding]:
    source = examined.source
    if source is None:
        return
    if source.overlap == "inside":
        yield Finding(
            "inside_source",
            "The array lies in the folder of the raw data, and would be deleted with it.",
            "Move the array to another place, and ask for the certificate there.",
        )
    if source.overlap == "same":
        yield Finding(
            "same_place",
            "What was given as the raw data is the stored array itself.",
            "Name the raw data: --against SOURCE.",
        )
    noted, found = examined.recorded("source").get("checksum"), examined.verification
    if not noted:
        yield Finding(
            "unknown_source",
            "The array has no checksum of its source, so nothing shows that it was made from this recording.",
            "Store the raw data again with anscombe compress.",
        )
    elif found is not None and found.source_checksum != noted:
        yield Finding(
            "other_source",
            f"{source.name} is not the recording that was stored: its checksum is {found.source_checksum}, "
            f"and that of {examined.recorded('source').get('name')} was {noted}.",
            "Name the recording that was stored, or store this one.",
        )
    for part in source.not_stored:
        yield Finding(
            "part_of_source",
            f"The array is a part of the raw data, which also hold {part}.",
            "Store these too and ask for their certificates, copy them elsewhere, or keep the raw data.",
        )


def _of_constants(examined: Examined) -> Iterator[Finding]:
    agreement = examined.agreement
    accepted = bool(examined.recorded("agreement").get("accepted_mismatch"))
    if accepted or (agreement is not None and agreement.verdict == "contradicts"):
        what = (
            "contradict"
            if agreement is None
            else f"contradict the noise of the raw data: {agreement.message}"
        )
        accepting = " This was accepted when the array was written." if accepted else ""
        yield Finding(
            "contradicts",
            f"The constants behind the bound {what}{accepting}",
            "Store the raw data again with constants that fit: anscombe calibrate SOURCE.",
        )
    elif agreement is not None and not agreement.checked:
        yield Finding(
            "unchecked",
            f"The constants behind the bound could not be checked: {agreement.message}",
            "Keep the raw data, or store a recording of several frames that shows its noise.",
        )


def find_cautions(examined: Examined) -> tuple[Finding, ...]:
    """Return cautions for deleting the raw data."""
    return tuple(_cautions(examined))


def _cautions(examined: Examined) -> Iterator[Finding]:
    sensitivity, found, source = examined.sensitivity, examined.verification, examined.source
    if sensitivity is not None and sensitivity.verdict == "given":
        yield Finding(
            "given",
            "The constants of the detector were given, not measured; they agree with the noise of the raw "
            "data as said below.",
            "Know where they are from.",
        )
    agreement = examined.agreement
    contradicted = agreement is not None and agreement.verdict == "contradicts"
    if sensitivity is not None and sensitivity.verdict == "caution" and not contradicted:
        messages = " ".join(r.message for r in sensitivity.reasons if r.severity == "caution")
        yield Finding(
            "caution", f"The calibration has a caution: {messages}", "Decide whether it matters for your use."
        )
    if agreement is not None and agreement.verdict == "differs":
        yield Finding(
            "differs",
            f"The constants differ a little from the noise of the raw data: {agreement.message}",
            "The bound below is in the noise that was measured.",
        )
    if found is not None and (found.error_in_noise or 0) > LARGEST_QUIET_BOUND:
        yield Finding(
            "coarse",
            f"A single value may be off by {found.error_in_noise:.2f} standard deviations of the noise.",
            "Store with a smaller step (--beta) where single values matter.",
        )
    shift = largest_shift(found.mean_shift) if found is not None else None
    if shift is not None and abs(shift.shift) > LARGEST_QUIET_SHIFT:
        yield Finding(
            "mean_shift",
            f"The mean of pixels around {shift.signal:.4g} is shifted by {shift.shift:+.3f} standard "
            "deviations of the noise.",
            "Long averages show it: store with a smaller step (--beta), or with --dtype float32.",
        )
    if source is not None and not source.files:
        yield Finding(
            "no_files",
            "The raw data were given as an array, so the files that hold them are not named here.",
            "Give the path of the file where this package can open it.",
        )
    if source is not None and source.other_files:
        names = ", ".join(source.other_files[:_MOST_NAMED])
        more = len(source.other_files) - _MOST_NAMED
        yield Finding(
            "other_files",
            f"The folder of the raw data also holds {names}{f' and {more} more files' if more > 0 else ''}, "
            "which are not in the array.",
            "Copy them to the array before the folder is deleted.",
        )
