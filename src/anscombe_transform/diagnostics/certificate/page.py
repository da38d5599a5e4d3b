"""The certificate as a page for the person who has to decide."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from anscombe_transform.calibration import Reason, Sensitivity
from anscombe_transform.compression.results import size_text
from anscombe_transform.diagnostics.pages.page import (
    Section,
    Status,
    constant_rows,
    load_template,
    times_text,
    versions_text,
)

__all__ = ["render_certificate"]

_MOST_FILES = 50

_MEANING = (
    "Every value of the raw data was read now and compared with the stored one. Stored values are not the "
    "raw ones: they may differ by the bound below, which is given in the noise that the raw data "
    "themselves show."
)
_NOT = (
    "The reasons stand below, each with what to do about it. An older certificate that says otherwise no "
    "longer holds."
)
_COVERED = (
    "These files, and no others. Headers, comments and sidecar files that the array does not list below "
    "are deleted with them."
)
_BEFORE = (
    "Keep this page and its JSON file with the array. Make sure that a second copy of the array exists, "
    "as the raw data can't be made from it again. The command below repeats the comparison while the raw "
    "data are there; afterwards anscombe verify shows by checksums whether the array is still what was "
    "certified."
)


def render_certificate(
    document: dict[str, Any], sensitivity: Sensitivity | None, digest: str, signature: str | None
) -> str:
    """Render a certificate as HTML.

    Parameters
    ----------
    document : dict
        Content of the JSON file.
    sensitivity : Sensitivity or None
        The calibration that the file holds.
    digest : str
        SHA-256 of that file.
    signature : str or None
        Name of its signature.
    """
    defensible = document["defensible"]
    status = Status("deletion can be defended", "good") if defensible else Status("do not delete", "bad")
    if defensible and document["cautions"]:
        status = Status("deletion can be defended, with cautions", "care")
    return load_template()(
        title=document["statement"],
        status=status,
        lead=_MEANING if defensible else _NOT,
        sections=list(_sections(document, sensitivity, digest, signature)),
        footer=f"Made {document['date']} with {versions_text(document['software'])}.",
    )


def _sections(
    document: dict[str, Any], sensitivity: Sensitivity | None, digest: str, signature: str | None
) -> Iterator[Section]:
    for title, severity in (("Why not", "refusal"), ("Cautions", "caution")):
        reasons = tuple(
            Reason(entry["code"], f"{entry['message']} {entry['remedy']}", severity)  # type: ignore[arg-type]
            for entry in document["refusals" if severity == "refusal" else "cautions"]
        )
        if reasons:
            yield Section(title, reasons=reasons)
    if document["source"] is not None:
        yield Section("The raw data", text=_COVERED, rows=tuple(_source_rows(document["source"])))
    yield Section("The stored movie", rows=tuple(_stored_rows(document)))
    if document["comparison"] is not None:
        yield Section("What differs", rows=tuple(_comparison_rows(document["comparison"])))
    if sensitivity is not None:
        yield _calibration(sensitivity, document["agreement"])
    if document["decision"] is not None:
        yield Section(
            "Results drawn from the movie",
            text="Measured on the raw and on the stored movie, beside equal random noise and odd against "
            "even frames.",
            rows=tuple(_decision_rows(document["decision"])),
        )
    rows = [("command", document["check_again"]), ("SHA-256 of the JSON file", digest)]
    rows += [] if signature is None else [("signature", signature)]
    if document["defensible"]:
        yield Section("Before you delete", text=_BEFORE, rows=tuple(rows))
    else:
        yield Section("Check again", rows=tuple(rows))


def _source_rows(source: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "recording", source["name"]
    files, more = source["files"][:_MOST_FILES], len(source["files"]) - _MOST_FILES
    yield "files", "; ".join(files) + (f"; and {more} more" if more > 0 else "") or "given as an array"
    if source["bytes"]:
        yield "size of the files", size_text(source["bytes"])
    yield "shape (time, y, x), values", f"{times_text(source['shape'])}, {source['dtype']}"
    checksum = source["checksum"]
    yield "checksum now", checksum["now"] or "not known"
    yield "checksum when stored", checksum["when_written"] or "not noted"
    yield "how it is made", checksum["algorithm"]


def _stored_rows(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    stored = document["stored"]
    yield "array", stored["path"]
    yield "shape (time, y, x), values", f"{times_text(stored['shape'])}, {stored['dtype']}"
    ratio = f", {stored['ratio']:.2f} times smaller than the movie in memory" if stored["ratio"] else ""
    yield "size", size_text(stored["stored_bytes"]) + ratio
    if stored["codec"]:
        beta = stored["codec"].get("beta", 0.5)
        yield "codec", f"{stored['codec']['name']}, step {beta:g} standard deviations of the noise"
    yield "checksum of its record", stored["record_checksum"] or "not noted"
    yield (
        "written",
        f"{stored['written'] or 'not noted'} with {versions_text(document['written_with'] or {})}",
    )


def _comparison_rows(comparison: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "compared now", f"{comparison['compared']:,} values, {comparison['failed']:,} beyond their bound"
    if comparison["clipped"]:
        yield "clipped", f"{comparison['clipped']:,} values"
    if comparison["bound_in_noise"] is not None:
        unit = "standard deviations of the noise that was measured in the raw data"
        yield "bound of a single value", f"{comparison['bound_in_noise']:.2f} {unit}"
        yield (
            "largest error found",
            (
                f"{comparison['largest_error']:g} signal units, at most "
                f"{comparison['largest_error_in_noise']:.2f} {unit}"
            ),
        )
    for group in comparison["mean_shift"]:
        yield (
            f"shift of the mean around {group['signal']:.4g}",
            (
                f"{group['shift']:+.4f} ± {group['standard_error']:.4f} standard deviations of the noise "
                f"({group['count']:,} pixels measured)"
            ),
        )


def _calibration(sensitivity: Sensitivity, agreement: dict[str, Any] | None) -> Section:
    compared = () if agreement is None else (f"{agreement['verdict']}: {agreement['message']}",)
    return Section(
        "The detector",
        text=f"Verdict of the calibration: {sensitivity.verdict}.",
        rows=(*constant_rows(sensitivity), *(("agreement with these raw data", text) for text in compared)),
        reasons=sensitivity.reasons,
    )


def _decision_rows(decision: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield (
        "analysed",
        f"{times_text(decision['shape'])} from frame {decision['first_frame']:,}, {decision['cells']} cells",
    )
    for change in decision["changes"]:
        figures = {
            "added noise variance": (change["added_variance"], "{:.2%}"),
            "cells F1": (change["cell_f1"], "{:.3f}"),
            "events F1": (change["event_f1"], "{:.3f}"),
            "noise of traces": (change["trace_noise"], "{:+.1%}"),
            "frame shifts": (change["registration"], "{:.4f} pixels"),
        }
        texts = [
            f"{name} {form.format(value)}" for name, (value, form) in figures.items() if value is not None
        ]
        yield change["name"], ", ".join(texts)
