"""The command about deleting raw data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import anscombe_transform
from anscombe_transform.cli.commands import _AllStored, _Json, app
from anscombe_transform.cli.output import ExitCode, Failure, bar, each, one_line_errors, print_results, stop
from anscombe_transform.compression.batch import find_arrays, is_plain_folder


@app.command()
def certificate(
    stored: _AllStored,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="SOURCE",
            help="The raw data: every value is compared now. Where OUT is a folder of arrays: the "
            "folder of recordings that they were made from.",
        ),
    ] = None,
    decision: Annotated[
        Path | None,
        typer.Option(
            "--decision", metavar="FILE.json", help="Output of `anscombe decide --json` for this movie."
        ),
    ] = None,
    sign: Annotated[
        Path | None,
        typer.Option(
            "--sign", metavar="KEY", help="Sign the JSON file with this key of OpenSSH or minisign."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.html",
            help="The page, beside which the JSON file is written; by default beside the array.",
        ),
    ] = None,
    as_json: _Json = False,
) -> None:
    """Certify whether raw data may be deleted, after every value was compared with the stored one.

    Writes OUT.certificate.html for people and OUT.certificate.json for programs. Exit code 0 only if nothing
    speaks against deletion; 1 if something does, and the first line says "Do NOT delete".

    Example: anscombe certificate movie.zarr --against movie.tif

    Example: anscombe certificate archive/ --against /data/night
    """
    documents: dict[str, Any] = {}
    kept: list[str] = []
    with one_line_errors():
        sources = _sources(stored, against)
        if len(sources) > 1 and (output is not None or decision is not None):
            raise ValueError("--output and --decision are for one array: give them with a single OUT.zarr")

    def work(name: str) -> None:
        try:
            with bar() as progress:
                found = anscombe_transform.certificate(
                    name, sources[name], decision=decision, sign=sign, output=output, progress=progress
                )
        except (OSError, ValueError, ModuleNotFoundError) as error:
            raise Failure(
                f"Do NOT delete the raw data, no certificate was made: {error}", ExitCode.USAGE
            ) from error
        documents[name] = found.to_dict() if as_json else str(found)
        if not found.defensible:
            kept.append(name)

    code = each(list(sources), work)
    print_results(documents, len(sources), as_json=as_json)
    stop(code or (ExitCode.FAILED_VERIFICATION if kept else None))


def _sources(stored: list[str], against: str | None) -> dict[str, str | None]:
    """The raw data of every array."""
    if len(stored) == 1 and is_plain_folder(stored[0]):
        if against is None:
            raise ValueError(
                f"{stored[0]} is a folder of arrays: name that of their recordings with --against"
            )
        return dict(find_arrays(stored[0], against))
    if against is not None and len(stored) > 1:
        raise ValueError("--against is the source of one array: give it with a single OUT.zarr")
    return dict.fromkeys(stored, against)
