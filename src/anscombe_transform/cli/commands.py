"""The commands: arguments become one library call each, and results are printed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial as with_arguments
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

import anscombe_transform
from anscombe_transform.calibration import Sensitivity
from anscombe_transform.cli.output import (
    ExitCode,
    bar,
    each,
    know_options,
    mismatched,
    one_line_errors,
    print_json,
    print_results,
    refused,
    show,
    stop,
    write_figure,
)
from anscombe_transform.codec.pipeline import PRESETS, Preset
from anscombe_transform.compression import VerificationError, describe
from anscombe_transform.compression.batch import (
    BatchItem,
    compress_all,
    compress_recording,
    is_folder_of_recordings,
    is_plain_folder,
)
from anscombe_transform.compression.files.exports import COMPRESSIONS
from anscombe_transform.compression.results import is_mismatch_accepted

_EXIT_CODES = (
    "Exit codes: 0 done, 1 stored values are not within their bound, or raw data must not be deleted, 2 "
    "wrong usage or input, 3 the calibration was refused or contradicts the movie, 4 some of several "
    "inputs failed, --resume met another recording, or the source changed while it was read. With "
    "ANSCOMBE_TRACEBACK=1 in the environment an error shows where in the program it arose."
)
_SOURCES = (
    "TIFF, HDF5 and NWB (movie.h5, or movie.h5::/dataset where it holds several), .npy, .npz, FITS, a Zarr "
    "array or OME-Zarr image, recordings of microscopes (folders of Prairie View or ThorImage, .sbx, .nd2, "
    ".czi, .lif, .sif and others); one channel: movie.tif::channel=0; many files of one movie: 'run1/*.tif'"
)

_ARRAY_NAMES = (".zarr", ".h5", ".hdf5", ".hdf", ".nwb", ".tif", ".tiff")
_PAGES, _DRAWN, _ARRAYS = (".html", ".htm"), (".png", ".pdf", ".svg"), (".npz",)

app = typer.Typer(
    name="anscombe",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog=_EXIT_CODES,
    help="Calibrate photon-limited movies and store them in Zarr at the resolution of their own noise.",
)

_Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
_Movie = Annotated[str, typer.Argument(metavar="FILE", help=f"The movie (time, y, x): {_SOURCES}.")]
_Movies = Annotated[
    list[str], typer.Argument(metavar="FILE...", help=f"Movies (time, y, x): {_SOURCES}.", show_default=False)
]
_StoredName = (
    "A Zarr array or an OME-Zarr image, group.zarr::name for an array in a group; or an HDF5 or NWB file "
    "with this package's filter."
)
_Stored = Annotated[str, typer.Argument(metavar="OUT.zarr", help=_StoredName)]
_AllStored = Annotated[list[str], typer.Argument(metavar="OUT.zarr...", help=_StoredName, show_default=False)]
_Against = Annotated[
    str | None, typer.Option("--against", metavar="FILE", help="The movie that was stored: compare again.")
]
_Partial = Annotated[
    bool,
    typer.Option("--partial", help="Accept a recording that was stopped, cut short or lost a part."),
]
_Gain = Annotated[
    float | None,
    typer.Option(
        help="Known gain in signal units per photon, with --zero-level, instead of a calibration; it is "
        "compared with the movie's noise."
    ),
]
_ZeroLevel = Annotated[float | None, typer.Option(help="Known signal without light.")]
_ReadNoise = Annotated[
    float | None, typer.Option(help="Known standard deviation of the signal without light.")
]
_ExcessNoise = Annotated[
    float | None, typer.Option(help="Known excess noise factor F², 2 for an EMCCD, >= 1.")
]
_Dark = Annotated[
    str | None,
    typer.Option("--dark", metavar="FILE", help="Frames taken without light, for zero level and read noise."),
]
_Scheduler = Annotated[
    str | None,
    typer.Option("--dask", metavar="ADDRESS", help="Work on the Dask cluster of this scheduler."),
]
_Calibration = Annotated[
    Path | None,
    typer.Option(
        "--calibration",
        metavar="FILE.json",
        help="Output of `anscombe calibrate --json` for other frames of this detector and settings.",
    ),
]


def _complete_presets(incomplete: str) -> list[str]:
    """Every preset after what is typed up to the last comma, for the shell."""
    before, comma, _ = incomplete.rpartition(",")
    return [f"{before}{comma}{preset}" for preset in PRESETS if preset not in before.split(",")]


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"anscombe-transform {anscombe_transform.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Options of the program itself."""
    commands = getattr(context.command, "commands", {})
    if context.invoked_subcommand in commands:
        know_options(commands[context.invoked_subcommand])


@app.command()
def demo(
    folder: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where movie, array and plots go.")
    ] = Path("anscombe-demo"),
    seed: Annotated[int, typer.Option(help="Seed of the simulated movie.", min=0)] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write into a folder with files.")] = False,
    as_json: _Json = False,
) -> None:
    """Do the whole job on a simulated movie: calibrate, compress, verify, plot, report.

    Each figure that was found is printed beside the truth.

    Example: anscombe demo -o demo
    """
    with one_line_errors(), bar() as progress:
        from anscombe_transform.cli.demo import run_demo

        done = run_demo(folder, seed=seed, overwrite=overwrite, progress=progress)
    if as_json:
        print_json(done.to_dict())
        return
    table = Table("", "truth", "found", "95 % interval", "", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for c in done.comparisons:
        interval = "" if c.interval is None else f"{c.interval[0]:.1f} to {c.interval[1]:.1f}"
        table.add_row(c.name, f"{c.truth:.1f}", f"{c.found:.1f}", interval, c.unit)
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    console.print(f"verdict: {done.sensitivity.verdict}", markup=False)
    for reason in done.sensitivity.reasons:
        console.print(f"  {reason.message}", markup=False)
    console.print(f"\n{done.result}\n", markup=False)
    console.print(f"Written to {done.folder}:", markup=False)
    for path in done.files:
        console.print(f"  {path.name}", markup=False)
    console.print(f"\nLook at {done.files[-1]}, which has all of it on one page.", markup=False)


@app.command()
def calibrate(
    files: _Movies,
    dark: _Dark = None,
    zero_level: _ZeroLevel = None,
    read_noise: _ReadNoise = None,
    excess_noise: _ExcessNoise = None,
    flats: Annotated[
        bool,
        typer.Option(
            "--flats",
            help="The FILEs are flat fields of one detector, a FILE of two or more frames for each level of "
            "light; images of one level: 'level1_*.tif'.",
        ),
    ] = False,
    noise: Annotated[
        Literal["time", "space"] | None,
        typer.Option(
            help="With --flats: noise between the frames of a level (time, if not given), or between "
            "neighbouring pixels under even light, so that single frames will do; then each frame of a lone "
            "FILE is a level."
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", metavar="FILE.png", help="Draw noise variance against mean (.png, .pdf, .svg)."
        ),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="FILE.html",
            help="Write a page with constants, reasons and plots; with .png, .pdf or .svg draw the "
            "evidence: curve, deviations, gain by filter, whiteness, maps.",
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Read the whole movie, not a sample spread over it.")
    ] = False,
    max_frames: Annotated[
        int | None, typer.Option(metavar="N", min=2, help="Read no more frames than these, spread over it.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Draw the frames at random, not at even distances.")
    ] = None,
    mask: Annotated[
        str | None,
        typer.Option(
            "--mask", metavar="FILE", help="An image of a frame's shape: pixels that are 0 are left out."
        ),
    ] = None,
    maps: Annotated[
        Path | None,
        typer.Option(
            "--maps",
            metavar="FILE.npz",
            help="Write constants of every pixel: offset and read noise with --dark, the gain of a movie "
            "without motion. A page of --report shows them.",
        ),
    ] = None,
    partial: _Partial = False,
    as_json: _Json = False,
) -> None:
    """Read gain, zero level and read noise from a movie, with 95 % intervals and a verdict.

    A movie from which they can't be read is refused, with the reason and exit code 3. With --flats the files
    are levels of light that are calibrated together.

    Example: anscombe calibrate movie.tif --plot noise.png --report page.html

    Example: anscombe calibrate --flats dim.tif medium.tif bright.tif --dark dark.tif --json > camera.json
    """
    documents: dict[str, Any] = {}

    def work(file: str) -> None:
        if flats:
            sensitivity = anscombe_transform.compute_sensitivity_from_flats(
                files if len(files) > 1 else file,
                on_refusal="return",
                **_given(dark=dark, zero_level=zero_level, read_noise=read_noise, noise=noise),
            )
        else:
            with bar() as progress:
                sensitivity = anscombe_transform.compute_sensitivity(
                    file, on_refusal="return", progress=with_arguments(progress, stage="calibrate"), **options
                )
        if maps is not None and sensitivity.maps is not None:
            sensitivity.maps.save(maps)
        if plot is not None:
            from anscombe_transform.diagnostics import plot_noise_transfer

            write_figure(plot, plot_noise_transfer(sensitivity).figure)
        if page is not None and page.suffix.lower() in _PAGES:
            anscombe_transform.write_calibration_report(
                sensitivity, page, movie=None if flats else file, partial=partial
            )
        elif page is not None:
            from anscombe_transform.diagnostics import plot_calibration_report

            write_figure(page, plot_calibration_report(sensitivity))
        if as_json:
            documents[file] = sensitivity.to_dict()
        if sensitivity.verdict == "refused":
            raise refused(sensitivity)
        documents.setdefault(file, str(sensitivity))

    with one_line_errors():
        if len(files) > 1 and (plot or page or maps) and not flats:
            raise ValueError("--plot, --report and --maps are for one movie: give them with a single FILE")
        unfit = _given(
            full=full, max_frames=max_frames, seed=seed, mask=mask, maps=maps, excess_noise=excess_noise
        )
        if flats and unfit:
            name = next(iter(unfit)).replace("_", "-")
            raise ValueError(f"--{name} is for movies, not for --flats, which are read whole")
        if full and max_frames is not None:
            raise ValueError("--full reads every frame, --max-frames fewer: leave one of them out")
        if noise is not None and not flats:
            raise ValueError("--noise belongs to --flats: the noise of a movie is always measured over time")
        _check_suffix("--plot", plot, _DRAWN)
        _check_suffix("--report", page, (*_PAGES, *_DRAWN))
        _check_suffix("--maps", maps, _ARRAYS)
        options = _given(
            dark=dark,
            zero_level=zero_level,
            read_noise=read_noise,
            excess_noise=excess_noise,
            full=full,
            max_frames=max_frames,
            seed=seed,
            mask=mask,
            per_pixel=maps is not None,
            partial=partial,
        )
    inputs = [", ".join(files)] if flats else files
    code = each(inputs, work)
    print_results(documents, len(inputs), as_json=as_json)
    stop(code)


def _check_suffix(option: str, path: Path | None, known: tuple[str, ...]) -> None:
    """Refuse a suffix that contradicts the output, before long work."""
    if path is not None and path.suffix.lower() not in known:
        endings = " or ".join([", ".join(known[:-1]), known[-1]] if known[1:] else known)
        raise ValueError(f"{option} must end with {endings}, got {str(path)!r}")


@app.command()
def compress(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE... OUT",
            help=f"Movies (time, y, x), and where they go. {_SOURCES}. A folder stands for the recordings in "
            "it, or for the one recording that its files are. OUT is the array to write, OUT.zarr, or a file "
            "of HDF5 or NWB with this package's filter, OUT.h5 or OUT.nwb; for "
            "several movies it is the folder to write to, as is any folder that exists.",
            show_default=False,
        ),
    ],
    preset: Annotated[
        Preset | None,
        typer.Option(help="fast, compact (slower) or portable (a standard compressor, see make_portable)."),
    ] = None,
    layout: Annotated[
        Literal["array", "ome-zarr"], typer.Option(help="A bare array, or an OME-Zarr image.")
    ] = "array",
    pyramid: Annotated[
        int, typer.Option(min=0, help="Coarse levels beside the full resolution, with --layout ome-zarr.")
    ] = 0,
    chunks: Annotated[
        str | None, typer.Option(metavar="T,Y,X", help="Shape of a chunk; -1 is the whole axis.")
    ] = None,
    shards: Annotated[
        str | None, typer.Option(metavar="T,Y,X", help="Shape of a shard: whole chunks in one file.")
    ] = None,
    zarr_format: Annotated[
        int,
        typer.Option(
            min=2,
            max=3,
            help="2 can be read by zarr-python 2 as well.",
            autocompletion=lambda: ["2", "3"],
        ),
    ] = 3,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="Type of the stored array's values: float32 keeps fractions.",
            autocompletion=lambda: ["float32"],
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an array that is there.")] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on where an interrupted run stopped. A finished array is read, compared with its "
            "checksums and with FILE, and left as it is; another recording in it is an error (exit code 4).",
        ),
    ] = False,
    part: Annotated[
        str | None,
        typer.Option(
            metavar="K/N",
            help="Write part K of N, for jobs that share one array without a scheduler. They begin in "
            "any order; when all have ended, --resume proves the whole.",
        ),
    ] = None,
    gain: _Gain = None,
    zero_level: _ZeroLevel = None,
    read_noise: _ReadNoise = None,
    excess_noise: _ExcessNoise = None,
    dark: _Dark = None,
    calibration: _Calibration = None,
    accept_mismatch: Annotated[
        bool,
        typer.Option(
            "--accept-mismatch",
            help="Write the movie although the given constants contradict its noise; the array records it.",
        ),
    ] = False,
    beta: Annotated[
        float,
        typer.Option(
            help="Step of the codes in standard deviations of the noise; 0.5 adds 2 % to the noise variance."
        ),
    ] = 0.5,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Read back and compare every value.")
    ] = True,
    partial: _Partial = False,
    plain: Annotated[
        bool,
        typer.Option(
            "--plain",
            help="Write the decoded values with stock compression, OUT.tif or OUT.h5, for programs without "
            "the codec.",
        ),
    ] = False,
    nwb: Annotated[
        list[str] | None,
        typer.Option(
            "--nwb",
            metavar="NAME=VALUE",
            help="For OUT.nwb, metadata that FILE lacks: session_start_time and rate, which NWB requires, "
            "indicator, location, device, experimenter, …; once for each.",
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Blocks in work at once.")] = None,
    scheduler: _Scheduler = None,
    as_json: _Json = False,
) -> None:
    """Calibrate movies, write them as compressed Zarr arrays, HDF5 or NWB files, and verify every value.

    Any program that reads Zarr through zarr-python opens the arrays once this package is installed.

    A refused calibration stops with exit code 3. Constants that are known otherwise can be given with --gain
    and --zero-level, or a --calibration of other frames. They are compared with the noise of the movie, and
    stop with exit code 3 as well if they contradict it, unless --accept-mismatch is given.

    Of several movies each is calibrated for itself, a bad one is passed over, and the end says which; the
    exit code is 4 then.

    Example: anscombe compress movie.tif movie.zarr

    Example: anscombe compress /data/night /archive/night --resume

    Example: anscombe compress movie.tif movie.zarr --calibration camera.json

    Example: anscombe compress movie.tif movie.h5

    Example: anscombe compress movie.tif movie.nwb --nwb session_start_time=2026-01-31T14:05:00+01:00
    """
    *files, out = paths
    several = len(files) > 1 or out.endswith("/") or is_plain_folder(out)
    # A folder of one recording becomes the array OUT.zarr, or goes to the folder OUT by its own name.
    several = several or any(
        is_folder_of_recordings(file) or (is_plain_folder(file) and not out.lower().endswith(_ARRAY_NAMES))
        for file in files
    )
    with one_line_errors(), bar() as progress, _cluster(scheduler):
        if plain and several:
            raise ValueError("--plain writes one file: give one FILE, and OUT.tif or OUT.h5")
        if part is not None and several:
            raise ValueError("--part is of one array: give one FILE, and OUT.zarr")
        if not files:
            raise ValueError(f"a movie and where it goes are needed: anscombe compress {out} OUT.zarr")
        options = _given(
            chunks=_lengths("--chunks", chunks),
            shards=_lengths("--shards", shards),
            preset=preset,
            dtype=dtype,
            overwrite=overwrite,
            resume=resume,
            part=_part(part),
            pyramid=pyramid or None,
            partial=partial,
            threads=threads,
            nwb=_named_values("--nwb", nwb),
            plain=plain,
            accept_mismatch=accept_mismatch,
            sensitivity=_known(gain, zero_level, read_noise, excess_noise, dark, calibration),
        )
        if gain is None and calibration is None:
            options["calibration"] = _given(
                dark=dark, zero_level=zero_level, read_noise=read_noise, excess_noise=excess_noise
            )
        if pyramid and layout != "ome-zarr":
            raise ValueError("--pyramid belongs to --layout ome-zarr")
        options |= {"beta": beta, "zarr_format": zarr_format, "verify": verify, "layout": layout}
        if not several:
            result = compress_recording(files[0], out, progress=progress, **options)
        else:

            def done(item: BatchItem) -> None:
                progress.clear()
                if not as_json:
                    typer.echo(item)

            batch = compress_all(files, out, progress=progress, done=done, **options)
    if not several:
        show(result, as_json=as_json, text=f"{result.sensitivity}\n{result}")
        return
    show(batch, as_json=as_json, text=f"\n{batch}")
    stop(None if batch.ok else ExitCode.SOME_FAILED)


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given; the library has the defaults."""
    # A number that is 0 was given: a zero level of 0 is one that is known.
    return {
        name: value
        for name, value in options.items()
        if value is not None and value is not False and value != {}
    }


def _named_values(option: str, texts: list[str] | None) -> dict[str, str] | None:
    """The values of an option that is given as NAME=VALUE, once or several times."""
    if not texts:
        return None
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise ValueError(f"{option} must be NAME=VALUE, such as {option} rate=30, got {text!r}")
        found[name.strip()] = value.strip()
    return found


def _lengths(option: str, text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        lengths = tuple(int(part) for part in text.split(","))
    except ValueError:
        lengths = ()
    if len(lengths) != 3:
        raise ValueError(f"{option} must be three numbers, T,Y,X, such as 100,256,256, got {text!r}")
    return lengths


def _part(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise ValueError(f"--part must be K/N with 1 <= K <= N, such as 2/8, got {text!r}")
    return int(number), int(count)


def _known(
    gain: float | None,
    zero_level: float | None,
    read_noise: float | None,
    excess_noise: float | None = None,
    dark: str | None = None,
    calibration: Path | None = None,
) -> Sensitivity | None:
    """Constants that need no calibration."""
    if calibration is not None:
        others = (
            ("--gain", gain),
            ("--zero-level", zero_level),
            ("--read-noise", read_noise),
            ("--excess-noise", excess_noise),
            ("--dark", dark),
        )
        given = [name for name, value in others if value is not None]
        if given:
            raise ValueError(f"--calibration has what {given[0]} is for: leave one of them out")
        return _read_calibration(calibration)
    if gain is None:
        return None
    if zero_level is None:
        raise ValueError("--gain needs --zero-level: give both, or leave the gain to the calibration")
    if dark is not None:
        raise ValueError("--dark is for the calibration, which --gain replaces: leave one of them out")
    return Sensitivity.from_known(
        conversion_gain=gain,
        zero_level=zero_level,
        read_noise=0.0 if read_noise is None else read_noise,
        excess_noise=1.0 if excess_noise is None else excess_noise,
    )


def _read_calibration(path: Path) -> Sensitivity:
    try:
        return Sensitivity.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path} is not what `anscombe calibrate FILE --json` prints for one movie: {error}"
        ) from error


@contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    """Be a client of a Dask scheduler, which the library then finds by itself."""
    if address is None:
        yield
        return
    try:
        from distributed import Client
    except ImportError:
        raise ModuleNotFoundError(
            '--dask needs distributed, which is not installed: pip install "dask[distributed]"'
        ) from None
    with Client(address):  # type: ignore[no-untyped-call]
        yield


@app.command()
def info(stored: _AllStored, as_json: _Json = False) -> None:
    """Show an array's metadata: codec, bound, calibration, source, verification.

    Exit code 1 if chunks are missing, or shape or record are not those that were written. Values are read by
    `anscombe verify`.

    Example: anscombe info movie.zarr
    """
    documents: dict[str, Any] = {}

    def work(name: str) -> None:
        found = describe(name)
        documents[name] = found.to_dict() if as_json else str(found)
        if found.changed is not None:
            raise VerificationError(f"{name} was changed after it was written: {found.changed}")

    code = each(stored, work)
    print_results(documents, len(stored), as_json=as_json)
    stop(code)


@app.command()
def verify(
    stored: _AllStored,
    against: _Against = None,
    partial: _Partial = False,
    scheduler: _Scheduler = None,
    as_json: _Json = False,
) -> None:
    """Compare every value of stored arrays with the source, or with the checksums that were noted.

    With --against, the noise of the movie is also compared with the constants behind the bound, and errors
    are given in standard deviations of the measured noise. Without it, checksums tell whether the values are
    those that were written, and nothing about the source.

    Exit code 1 if a value is beyond its bound, 3 if the constants contradict the movie and that was not
    accepted when it was written.

    Example: anscombe verify movie.zarr --against movie.tif
    """
    with one_line_errors():
        if against is not None and len(stored) > 1:
            raise ValueError("--against is the source of one array: give it with a single OUT.zarr")
    documents: dict[str, Any] = {}

    def work(name: str) -> None:
        with bar() as progress:
            found = anscombe_transform.verify(name, against, partial=partial, progress=progress)
        if as_json:
            documents[name] = found.to_dict()
        if not found.ok:
            raise VerificationError(str(found), found)
        contradicted = found.agreement is not None and found.agreement.verdict == "contradicts"
        if contradicted and not is_mismatch_accepted(name):
            raise mismatched(str(found))
        documents.setdefault(name, str(found))

    with one_line_errors(), _cluster(scheduler):
        code = each(stored, work)
    print_results(documents, len(stored), as_json=as_json)
    stop(code)


@app.command()
def decompress(
    stored: _Stored,
    destination: Annotated[
        str,
        typer.Argument(metavar="FILE", help="The file to write: .tif, .btf, .h5 (.h5::/name), .npy or .raw."),
    ],
    compression: Annotated[
        str | None,
        typer.Option(
            help="Lossless compression: zlib, zstd, lzw for TIFF; gzip, lzf for HDF5.",
            autocompletion=lambda: [name for names in COMPRESSIONS.values() for name in names],
        ),
    ] = None,
    file_format: Annotated[
        Literal["tiff", "hdf5", "npy", "raw"] | None,
        typer.Option("--format", help="Format of a file without a suffix that says it."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    partial: _Partial = False,
    as_json: _Json = False,
) -> None:
    """Write a stored movie as a file that any program opens.

    Example: anscombe decompress movie.zarr movie.tif
    """
    with one_line_errors(), bar() as progress:
        result = anscombe_transform.decompress(
            stored,
            destination,
            format=file_format,
            compression=compression,
            overwrite=overwrite,
            partial=partial,
            progress=progress,
        )
    show(result, as_json=as_json)


@app.command()
def report(
    stored: _Stored,
    page: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE.html", help="The page to write.")
    ] = Path("report.html"),
    against: _Against = None,
    partial: _Partial = False,
    as_json: _Json = False,
) -> None:
    """Write one HTML page about a stored array: calibration, sizes, bound, verification and plots.

    The page holds all of its plots and loads nothing, so it can be mailed or kept beside the data.

    Example: anscombe report movie.zarr -o report.html
    """
    with one_line_errors(), bar() as progress:
        _check_suffix("--output", page, _PAGES)
        path = anscombe_transform.write_report(
            stored, page, against=against, partial=partial, progress=progress
        )
    print_json({"report": str(path)}) if as_json else typer.echo(f"written to {path}")


@app.command()
def bench(
    file: _Movie,
    megabytes: Annotated[float, typer.Option(help="Most of the movie to use, held in memory.")] = 128,
    gain: _Gain = None,
    zero_level: _ZeroLevel = None,
    read_noise: _ReadNoise = None,
    calibration: _Calibration = None,
    partial: _Partial = False,
    as_json: _Json = False,
) -> None:
    """Measure how fast this machine stores this movie, and how small, with each preset.

    The first frames are written to memory and read again, beside a plain copy.

    Example: anscombe bench movie.tif
    """
    with one_line_errors(), bar() as progress:
        from anscombe_transform.diagnostics.speed import measure_speed

        known = _known(gain, zero_level, read_noise, calibration=calibration)
        speed = measure_speed(
            file, sensitivity=known, megabytes=megabytes, partial=partial, progress=progress
        )
    show(speed, as_json=as_json)


@app.command()
def decide(
    file: _Movie,
    betas: Annotated[
        str, typer.Option(metavar="B,B,...", help="Quantisation steps to try, in noise standard deviations.")
    ] = "0.25,0.5,1,2",
    presets: Annotated[
        str,
        typer.Option(
            metavar="P,P,...", help="Presets to compare the sizes of.", autocompletion=_complete_presets
        ),
    ] = "fast,compact",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Write a page (.html) or the figure (.png, .pdf, .svg)."
        ),
    ] = None,
    gain: _Gain = None,
    zero_level: _ZeroLevel = None,
    read_noise: _ReadNoise = None,
    calibration: _Calibration = None,
    max_frames: Annotated[
        int | None,
        typer.Option(metavar="N", min=8, help="Analyse no more frames than these, from the middle."),
    ] = None,
    partial: _Partial = False,
    as_json: _Json = False,
) -> None:
    """Measure how much a movie can be compressed before its results change.

    Sizes, the shift of the mean, cells, traces, events, registration and gain are compared with the original
    for each step, beside random noise of the same strength and odd against even frames.

    Example: anscombe decide movie.tif -o decision.html
    """
    with one_line_errors(), bar() as progress:
        from anscombe_transform.diagnostics.decision import decide as measure
        from anscombe_transform.diagnostics.decision_page import plot_decision

        if output is not None:
            _check_suffix("--output", output, (*_PAGES, *_DRAWN))
        try:
            steps = tuple(float(beta) for beta in betas.split(","))
        except ValueError:
            raise ValueError(f"--betas must be numbers with commas between them, got {betas!r}") from None
        decision = measure(
            file,
            betas=steps,
            presets=tuple(name.strip() for name in presets.split(",")),
            sensitivity=_known(gain, zero_level, read_noise, calibration=calibration),
            max_frames=max_frames,
            partial=partial,
            progress=progress,
        )
        if output is not None and output.suffix.lower() in _PAGES:
            anscombe_transform.write_decision_report(decision, output)
        elif output is not None:
            write_figure(output, plot_decision(decision))
    if as_json:
        print_json(decision.to_dict())
        return
    typer.echo(f"{decision}\n")
    for beta in steps:
        typer.echo(decision.summary(beta))
