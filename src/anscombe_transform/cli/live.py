"""The commands for recordings that are being made, and for archives that grow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anscombe_transform.cli.commands import (
    _DRAWN,
    _AllStored,
    _Calibration,
    _check_suffix,
    _ExcessNoise,
    _Gain,
    _given,
    _Json,
    _known,
    _ReadNoise,
    _ZeroLevel,
    app,
)
from anscombe_transform.cli.output import ExitCode, one_line_errors, show, stop, write_figure
from anscombe_transform.codec.pipeline import Preset
from anscombe_transform.compression.batch import BatchItem

_Partial = Annotated[
    bool,
    typer.Option(
        "--partial", help="Where frames in the middle were lost by a power cut, store those in front of them."
    ),
]
_AcceptMismatch = Annotated[
    bool,
    typer.Option("--accept-mismatch", help="Store it although the constants contradict it."),
]


@app.command()
def finish(
    stored: Annotated[str, typer.Argument(metavar="OUT.zarr", help="The name that was given to the writer.")],
    gain: _Gain = None,
    zero_level: _ZeroLevel = None,
    read_noise: _ReadNoise = None,
    excess_noise: _ExcessNoise = None,
    calibration: _Calibration = None,
    accept_mismatch: _AcceptMismatch = False,
    partial: _Partial = False,
    as_json: _Json = False,
) -> None:
    """Complete a live recording after its program was cut off: compress the rest, verify, name the array.

    Example: anscombe finish movie.zarr
    """
    from anscombe_transform.live import finish as complete

    with one_line_errors():
        known = _known(gain, zero_level, read_noise, excess_noise, None, calibration)
        result = complete(stored, sensitivity=known, accept_mismatch=accept_mismatch, partial=partial)
    show(result, as_json=as_json)


@app.command()
def watch(
    source: Annotated[Path, typer.Argument(metavar="IN", help="The folder that recordings are written to.")],
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The folder that the arrays go to.")],
    settle: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="For how long a recording must not have changed."),
    ] = 60.0,
    interval: Annotated[float, typer.Option(metavar="SECONDS", help="Time between two looks.")] = 5.0,
    once: Annotated[
        bool, typer.Option("--once", help="End when all that is there is dealt with, rather than going on.")
    ] = False,
    preset: Annotated[
        Preset | None, typer.Option(help="Compressor of the codes, as for compress.", show_default=False)
    ] = None,
    beta: Annotated[float | None, typer.Option(help="Step in standard deviations of the noise.")] = None,
    gain: _Gain = None,
    zero_level: _ZeroLevel = None,
    read_noise: _ReadNoise = None,
    excess_noise: _ExcessNoise = None,
    calibration: _Calibration = None,
    as_json: _Json = False,
) -> None:
    """Compress the recordings of a folder, each once, as soon as they are complete.

    Ends with Ctrl-C; begun again, it goes on where it stopped. Recordings are never changed or deleted.

    Example: anscombe watch /data/incoming /data/archive
    """
    from anscombe_transform.live import watch as compress_new

    def tell(item: BatchItem) -> None:
        if not as_json:
            typer.echo(item)

    with one_line_errors():
        known = _known(gain, zero_level, read_noise, excess_noise, None, calibration)
        options = _given(preset=preset, beta=beta, sensitivity=known)
        try:
            result = compress_new(
                source, folder, settle=settle, interval=interval, once=once, done=tell, **options
            )
        except KeyboardInterrupt:
            typer.echo("ended; the same command goes on where this one stopped", err=True)
            return
    show(result, as_json=as_json)
    stop(None if result.ok else ExitCode.SOME_FAILED)


@app.command()
def trend(
    stored: _AllStored,
    plot: Annotated[
        Path | None, typer.Option("--plot", "-o", metavar="FILE", help="Draw it: .png, .pdf or .svg.")
    ] = None,
    as_json: _Json = False,
) -> None:
    """Show gain, zero level and read noise over an archive, and warn where a recording leaves the history.

    Example: anscombe trend archive/ --plot trend.png
    """
    from anscombe_transform.diagnostics import measure_trend, plot_trend

    with one_line_errors():
        _check_suffix("--plot", plot, _DRAWN)
        found = measure_trend(stored)
        if plot is not None:
            write_figure(plot, plot_trend(found))
    show(found, as_json=as_json)
