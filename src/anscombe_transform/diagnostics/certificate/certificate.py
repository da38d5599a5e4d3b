"""`certificate`: compare a stored movie with the raw data now, and say whether these may be deleted."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anscombe_transform.compression import VerificationError, describe, verify
from anscombe_transform.compression.blocks.mean_shift import mean_shift_text
from anscombe_transform.compression.stored.arrays import local_path
from anscombe_transform.compression.stored.notes import software_versions
from anscombe_transform.diagnostics.certificate.findings import (
    Examined,
    Finding,
    find_cautions,
    find_refusals,
)
from anscombe_transform.diagnostics.certificate.page import render_certificate
from anscombe_transform.diagnostics.certificate.signature import SUFFIXES, Signer, signer_for
from anscombe_transform.diagnostics.certificate.source import Source, describe_source
from anscombe_transform.diagnostics.pages.page import check_page_name, noted_sensitivity, write_page
from anscombe_transform.movies import open_movie
from anscombe_transform.native.documents import Printed, json_document
from anscombe_transform.native.durable import make_folders, write_file
from anscombe_transform.native.work import Progress, reporting

if TYPE_CHECKING:
    from anscombe_transform.calibration import Sensitivity
    from anscombe_transform.compression import StoredMovie, Verification
    from anscombe_transform.diagnostics.decision import Decision
    from anscombe_transform.movies import Movie, SupportsMovie

__all__ = ["Certificate", "certificate"]

VERSION = 1
"""Of the JSON document."""


@dataclass(frozen=True, slots=True, repr=False)
class Certificate(Printed):
    """Whether the raw data of a stored movie may be deleted, with everything that this rests on.

    Attributes
    ----------
    document : dict
        Everything, as JSON types.
    page : Path
        The same for people, as HTML.
    file : Path
        The same for programs, as JSON.
    signature : Path or None
        Signature of `file`, if a key was given.
    """

    document: dict[str, Any]
    page: Path
    file: Path
    signature: Path | None = None

    @property
    def defensible(self) -> bool:
        """Whether nothing speaks against deletion."""
        return bool(self.document["defensible"])

    @property
    def refusals(self) -> tuple[Finding, ...]:
        """The reasons against deletion."""
        return tuple(Finding(**entry) for entry in self.document["refusals"])

    @property
    def cautions(self) -> tuple[Finding, ...]:
        """Cautions to bear in mind."""
        return tuple(Finding(**entry) for entry in self.document["cautions"])

    def __str__(self) -> str:
        document = self.document
        lines = [document["statement"]]
        lines += [f"  - {finding}" for finding in self.refusals]
        if self.defensible:
            comparison = document["comparison"]
            lines.append(f"  compared      {comparison['text']}")
            lines.append(f"  mean          {comparison['mean_shift_text']}")
        lines += [f"  caution       {finding}" for finding in self.cautions]
        files = [self.page, self.file, *([self.signature] if self.signature else [])]
        lines.append(f"  written to    {', '.join(str(path) for path in files)}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        return self.document


def certificate(
    stored: Any,
    against: str | os.PathLike[str] | SupportsMovie | Movie | None = None,
    *,
    decision: Decision | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    sign: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    progress: Progress | bool | None = None,
    storage_options: dict[str, Any] | None = None,
) -> Certificate:
    """Compare a stored movie with its raw data now, and certify whether these may be deleted.

    Every value is read from both. Deletion can be defended only if all of them are within the bound and are
    those that were written, the bound is one in the noise that the raw data themselves show, and the array
    holds all of the raw data. Otherwise the certificate says "Do NOT delete", with every reason and its
    remedy.

    Parameters
    ----------
    stored : path, URL, store of Zarr, or zarr.Array
        A stored movie: a Zarr array, an OME-Zarr image, an HDF5 or NWB file with the filter, a plain file.
    against : path or array, optional
        The raw data, as `open_movie` takes them. Without them nothing is certified.
    decision : Decision, mapping or path, optional
        Result of `decide` for this movie, or its JSON: its figures for the step of the array are added.
    sign : path, optional
        A private key of OpenSSH or minisign, with which the JSON is signed.
    output : path, optional
        The page, ``NAME.html``, beside which ``NAME.json`` is written. By default
        ``<array>.certificate.html`` beside the array. An existing file is replaced.
    threads : int, optional
        As in `compress`.
    progress : callable or bool, optional
        Called as ``progress(done, total, "verify")`` in frames; True draws a bar.
    storage_options : dict, optional
        For a URL: options of fsspec.

    Returns
    -------
    Certificate
        Which prints; `defensible` says whether nothing speaks against deletion.

    Raises
    ------
    FileNotFoundError
        There is no such array, no such source, or no such key.
    ValueError
        The array is elsewhere than on a disk and there is no `output`, or `decision` is of another movie.
    ModuleNotFoundError
        jinja2, or the program that signs, is not installed.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from anscombe_transform import certificate, compress, simulate_movie
    >>> movie, _ = simulate_movie((40, 64, 64), conversion_gain=90, zero_level=50, rng=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/movie.npy", movie)
    ...     _ = compress(f"{folder}/movie.npy", f"{folder}/movie.zarr")
    ...     found = certificate(f"{folder}/movie.zarr", f"{folder}/movie.npy")
    ...     print(found.defensible, found.page.name)
    True movie.zarr.certificate.html
    """
    signer = None if sign is None else signer_for(Path(sign))
    found = describe(stored)
    page, file = _places(stored, output)
    chosen = None if decision is None else _decision_for(decision, found)
    with reporting(progress) as report:
        examined = _examine(stored, against, found, threads=threads, progress=report, options=storage_options)
    document = _document(examined, chosen, _command(found, against))
    content = (json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()
    signature = file.name + (SUFFIXES[signer.program == "minisign"] if signer else "")
    rendered = render_certificate(
        document, examined.sensitivity, hashlib.sha256(content).hexdigest(), signature if signer else None
    )
    return _write(document, content, rendered, page, file, signer)


def _write(
    document: dict[str, Any], content: bytes, rendered: str, page: Path, file: Path, signer: Signer | None
) -> Certificate:
    make_folders(page.parent)
    for suffix in SUFFIXES:  # of what was there before
        file.with_name(file.name + suffix).unlink(missing_ok=True)
    write_file(file, content)
    write_page(page, rendered)
    return Certificate(document, page, file, None if signer is None else signer.sign(file))


def _places(stored: Any, output: Any) -> tuple[Path, Path]:
    """The page and the JSON."""
    if output is not None:
        page = Path(output)
        check_page_name(page)
        return page, page.with_suffix(".json")
    outer, _, inner = (
        os.fspath(stored).partition("::") if isinstance(stored, str | os.PathLike) else ("", "", "")
    )
    place = local_path(outer) if outer else None
    if place is None:
        raise ValueError(
            "the array is in no folder here, so say where its certificate goes: output (--output FILE.html)"
        )
    name = "_".join([place.name, *inner.strip("/").split("/")]) if inner else place.name
    return tuple(place.with_name(f"{name}.certificate{suffix}") for suffix in (".html", ".json"))  # type: ignore[return-value]


def _examine(
    stored: Any, against: Any, found: StoredMovie, *, threads: int | None, progress: Any, options: Any
) -> Examined:
    """Compare everything that there is to compare."""
    source: Source | None = None
    verification: Verification | None = None
    failure: Finding | None = None
    if against is not None:
        # What there is of a recording that is not whole is compared, too; the certificate says what misses.
        with open_movie(against, partial=True) as movie:
            source = describe_source(movie, stored)
            try:
                verification = verify(
                    stored, movie, partial=True, progress=progress, threads=threads, storage_options=options
                )
            except VerificationError as error:
                failure = Finding(
                    "damaged",
                    f"The stored values can't be relied on: {error}.".replace("..", "."),
                    "Take the array from a copy that is whole, or store the raw data again.",
                )
            except ValueError as error:
                failure = Finding(
                    "not_comparable",
                    f"The array can't be compared with these raw data: {error}.".replace("..", "."),
                    "Name the recording that was stored: --against SOURCE.",
                )
    return Examined(found, source, verification, failure, noted_sensitivity(found.provenance))


def _decision_for(decision: Any, found: StoredMovie) -> dict[str, Any]:
    """The figures of a decision for the step of an array.

    Raises
    ------
    ValueError
        The decision is of another movie, or has no figures for this step.
    """
    if isinstance(decision, str | os.PathLike):
        try:
            decision = json.loads(Path(decision).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(
                f"{decision} is not what `anscombe decide --json` prints, for decision (--decision): {error}"
            ) from error
    document = decision if isinstance(decision, Mapping) else decision.to_dict()
    try:
        same = list(document["shape"])[1:] == list(found.shape)[1:]
        same = same and document["first_frame"] + document["shape"][0] <= found.shape[0]
        beta = (found.codec or {}).get("beta", 0.5)
        changes = [c for c in document["changes"] if c["kind"] in ("stored", "noise") and c["beta"] == beta]
        halves = [c for c in document["changes"] if c["kind"] == "halves"]
        about = {name: document[name] for name in ("source", "shape", "first_frame", "cells", "events")}
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"decision (--decision) is not what `anscombe decide --json` prints: it lacks {error}"
        ) from error
    if not same:
        raise ValueError(
            f"decision (--decision) is about {document['source']}, {document['shape']}, which is not the "
            f"movie of this array, {list(found.shape)}: run anscombe decide on its source"
        )
    if not changes:
        raise ValueError(
            f"decision (--decision) has no figures for β = {beta:g}, the step of this array: run "
            f"anscombe decide --betas {beta:g} on its source"
        )
    return about | {"changes": changes + halves}


def _command(found: StoredMovie, against: Any) -> str:
    """The command that makes this certificate again, anywhere."""
    parts = ["anscombe", "certificate", _absolute(found.path)]
    if isinstance(against, str | os.PathLike):
        parts += ["--against", _absolute(os.fspath(against))]
    return shlex.join(parts)


def _absolute(name: str) -> str:
    outer, colons, inner = name.partition("::")
    return name if "://" in name else f"{Path(outer).absolute()}{colons}{inner}"


def _document(examined: Examined, decision: dict[str, Any] | None, command: str) -> dict[str, Any]:
    refusals, cautions = find_refusals(examined), find_cautions(examined)
    stored, source, record = examined.stored, examined.source, examined.record
    name = source.name if source is not None else examined.recorded("source").get("name", "the raw data")
    return json_document(
        {
            "version": VERSION,
            "kind": "anscombe deletion certificate",
            "defensible": not refusals,
            "statement": _statement(name, refusals),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "refusals": [asdict(finding) for finding in refusals],
            "cautions": [asdict(finding) for finding in cautions],
            "source": None if source is None else _source(source, examined),
            "stored": {
                "path": _absolute(stored.path),
                "shape": stored.shape,
                "dtype": stored.dtype,
                "zarr_format": stored.zarr_format,
                "codec": stored.codec,
                "raw_bytes": stored.raw_bytes,
                "stored_bytes": stored.stored_bytes,
                "ratio": stored.ratio,
                "written": record.get("date"),
                "written_from": examined.recorded("source").get("name"),
                "record_checksum": record.get("record_checksum"),
                "changed": stored.changed,
            },
            "calibration": _calibration(examined.sensitivity),
            "agreement": None if examined.agreement is None else examined.agreement.to_dict(),
            "comparison": _comparison(examined),
            "decision": decision,
            "software": software_versions() | {"python": platform.python_version()},
            "written_with": record.get("software"),
            "check_again": command,
        }
    )


def _statement(name: str, refusals: tuple[Finding, ...]) -> str:
    short = Path(name).name or name
    if not refusals:
        return f"Deleting {short} can be defended: nothing was found that speaks against it."
    count = "one reason speaks" if len(refusals) == 1 else f"{len(refusals)} reasons speak"
    return f"Do NOT delete {short}: {count} against it."


def _source(source: Source, examined: Examined) -> dict[str, Any]:
    found = examined.verification
    return {
        **asdict(source),
        "checksum": {
            "algorithm": "SHA-256 of the CRC-32 of every frame (little-endian values and checksums)",
            "now": None if found is None else found.source_checksum,
            "when_written": examined.recorded("source").get("checksum"),
        },
    }


def _calibration(sensitivity: Sensitivity | None) -> dict[str, Any] | None:
    if sensitivity is None:
        return None
    return {
        "verdict": sensitivity.verdict,
        "method": sensitivity.method,
        "constants": [asdict(constant) for constant in sensitivity.constants()],
        "reasons": [asdict(reason) for reason in sensitivity.reasons],
    }


def _comparison(examined: Examined) -> dict[str, Any] | None:
    found = examined.verification
    if found is None:
        return None
    bound = found.error_in_noise
    return {
        "text": str(found),
        "mean_shift_text": mean_shift_text(found.mean_shift),
        "ok": found.ok,
        "compared": found.compared,
        "failed": found.failed,
        "clipped": found.clipped,
        "bound_in_noise": bound,
        # The largest error as a part of its bound, times the largest bound.
        "largest_error_in_noise": None if bound is None else bound * found.max_error_in_bounds,
        "largest_error": found.max_error,
        "mean_shift": [
            asdict(group) | {"standard_error": group.standard_error} for group in found.mean_shift
        ],
    }
