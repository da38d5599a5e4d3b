"""Recordings of ThorImage (Thorlabs): ``Experiment.xml`` beside raw values or TIFFs.

Streamed frames lie in one file of 16-bit values: one frame after the other, in each the channels that are
enabled, one after the other, and where the focus moves fast, the planes of a volume and the frames of the
way back [1]_. A time lapse lies in a TIFF for each image, ``ChanA_001_001_ZZZ_TTT.tif``.

References
----------
.. [1] Thorlabs, *ThorImage LS 4.x* source of ImageReview, ``ExperimentData.QueryImageInfo``: capture modes,
   frame size, enabled channels, planes and flyback frames.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from anscombe_transform.movies.errors import missing
from anscombe_transform.movies.metadata import facts
from anscombe_transform.movies.movie import Movie, checked_shape, file_movie
from anscombe_transform.movies.readers.microscopes.tiff_files import Place, TiffRecording, open_tiff_files
from anscombe_transform.movies.readers.raw import PlainFrames
from anscombe_transform.movies.readers.sequence import natural_order
from anscombe_transform.movies.readers.tiff import TIFF_SUFFIXES
from anscombe_transform.movies.selection import Choice, select

_EXPERIMENT = "Experiment.xml"
_STREAMING = 1  # of CaptureMode: 0 is a time lapse, 1 streaming
_DTYPE = np.dtype("<u2")
# ChanA_001_001_005_000012.tif: well, place in it, plane, moment.
_IMAGE = re.compile(r"(Chan[A-Z])((?:_\d+){2,})\.tiff?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Experiment:
    """Content of ``Experiment.xml``.

    `height`, `width` are those of a frame. `frames` and `timepoints` are the requested numbers. Of a volume,
    `planes` images are followed by `flyback` ones. `enabled` are the names of the channels that were on,
    `names` those of all that the experiment lists.
    """

    streaming: bool
    stopped: bool
    height: int
    width: int
    frames: int
    timepoints: int
    planes: int
    flyback: int
    names: tuple[str, ...]
    enabled: tuple[str, ...]
    metadata: dict[str, Any]


def open_thorimage(path: Path, choice: Choice, source: str) -> Movie:
    """Open the recording that an ``Experiment.xml``, or a raw file beside one, belongs to."""
    choice.allow(source, "series", "dataset")
    folder = path.parent
    raw = [path] if path.suffix.lower() == ".raw" else natural_order(list(folder.glob("Image*.raw")))
    experiment = _read_experiment(path.with_name(_EXPERIMENT), streamed=bool(raw))
    if raw:
        return _open_raw(_one_raw(raw, choice, source), experiment, choice, source)
    return _open_tiffs(folder, experiment, choice, source)


def _read_experiment(path: Path, *, streamed: bool) -> _Experiment:
    """Read the XML of a stream, or of a time lapse where it says so and there is no raw file."""
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise ValueError(
            f"{path} is damaged ({error}), and nothing else describes the recording. Open a raw file beside "
            'it with shape and dtype, for instance shape=(-1, 512, 512), dtype="<u2"'
        ) from error

    def number(name: str, attribute: str, otherwise: int) -> int:
        text = _attribute(root, name, attribute)
        try:
            return otherwise if text is None else int(float(text))
        except ValueError as error:
            raise ValueError(f"{path} has the value {text!r} for {attribute} of {name}, no number") from error

    camera = number("Modality", "primaryDetectorType", 1) == 0
    device = "Camera" if camera else "LSM"
    height = number(device, "height" if camera else "pixelY", 0)
    width = number(device, "width" if camera else "pixelX", 0)
    if height < 1 or width < 1:
        raise ValueError(f"{path} doesn't say how large the frames are (element {device})")
    names = tuple(entry.get("name", "") for entry in root.iterfind("Wavelengths/Wavelength"))
    every = 2 ** max(1, len(names)) - 1
    mask = number("Wavelengths/ChannelEnable", "Set", number("LSM", "channel", every))
    streaming = streamed or number("CaptureMode", "mode", 0) == _STREAMING
    fast = number("Streaming", "zFastEnable", 0) > 0
    stepped = number("ZStage", "enable", int(number("ZStage", "steps", 1) > 1)) > 0
    planes = max(1, number("ZStage", "steps", 1)) if (fast if streaming else stepped) else 1
    flyback = number("Streaming", "flybackFrames", 0) if streaming and fast else 0
    enabled = tuple(f"Chan{chr(65 + bit)}" for bit in range(8) if mask >> bit & 1)
    return _Experiment(
        streaming=streaming,
        stopped=_attribute(root, "ExperimentStatus", "value") == "Stopped",
        height=height,
        width=width,
        frames=number("Streaming", "frames", 0),
        timepoints=number("Timelapse", "timepoints", 1),
        planes=planes,
        flyback=flyback,
        names=names or enabled,
        enabled=("camera",) if camera else enabled,
        metadata=_metadata(root, device, planes, flyback),
    )


def _attribute(root: ElementTree.Element, name: str, attribute: str) -> str | None:
    element = root.find(name)
    return None if element is None else element.get(attribute)


def _metadata(root: ElementTree.Element, device: str, planes: int, flyback: int) -> dict[str, Any]:
    def value(attribute: str) -> float | None:
        text = _attribute(root, device, attribute)
        try:
            return float(text) if text else None
        except ValueError:
            return None

    rate, size = value("frameRate"), value("pixelSizeUM")
    if rate:
        rate /= planes + flyback
    average = value("averageNum") if value("averageMode") else None
    seconds = _attribute(root, "Date", "uTime") or ""
    version = _attribute(root, "Software", "version")
    return facts(
        format="ThorImage",
        frame_rate=rate,
        pixel_size={"y": size, "x": size} if size else None,
        acquired=datetime.fromtimestamp(int(seconds), UTC).isoformat() if seconds.isdigit() else None,
        software=f"ThorImage {version}" if version else None,
        thorimage={
            "name": _attribute(root, "Name", "name"),
            "flyback_frames": flyback or None,
            "frames_averaged": average,
        },
    )


def _one_raw(files: list[Path], choice: Choice, source: str) -> Path:
    """The raw file that is meant; each trigger begins another."""
    if choice.series is not None:
        named = [file for file in files if str(choice.series) in (file.name, file.stem)]
        if not named:
            raise ValueError(f"{source} has no file {choice.series!r}; it has {_listed(files)}")
        return named[0]
    if len(files) > 1:
        raise ValueError(
            f'{source} holds {len(files)} recordings: {_listed(files)}. Say which: series="{files[0].name}"'
        )
    return files[0]


def _listed(files: list[Path]) -> str:
    names = [file.name for file in files]
    return ", ".join(names if len(names) <= 6 else [*names[:5], "…", names[-1]])


def _open_raw(path: Path, experiment: _Experiment, choice: Choice, source: str) -> Movie:
    size, frame = path.stat().st_size, experiment.height * experiment.width * _DTYPE.itemsize
    names = _channels_of(path, experiment, size, frame, choice)
    count, rest = divmod(size, frame * len(names))
    if rest:
        choice.incomplete(
            f"{path} ends within a frame: after {count} whole frames it holds {rest} bytes more"
        )
    if not count:
        raise ValueError(f"{path} holds no whole frame of {frame * len(names)} bytes")
    # One volume after the other; of the last there may be some planes only.
    cycle = experiment.planes + experiment.flyback
    lengths = (-(-count // cycle), experiment.planes, len(names), experiment.height, experiment.width)
    view = select("tzcyx", lengths, choice, source, channel_names=names)
    if view.axes != "tzcyx":
        raise ValueError(f"{_EXPERIMENT} says what the axes of {source} are: leave out axes")
    numbers = range(view.plane or 0, count, cycle)
    if not numbers:
        raise ValueError(f"{path} holds no frame of the plane that was chosen")
    step = frame * len(names)
    start = (view.channel or 0) * frame
    frames = PlainFrames(
        path,
        (experiment.height, experiment.width),
        _DTYPE,
        range(start + numbers[0] * step, start + numbers[-1] * step + 1, cycle * step),
    )
    view = view.with_frames(len(numbers))
    checked_shape(view.shape, source)
    metadata = {**experiment.metadata, "channel_names": list(names), "file": path.name}
    return file_movie(frames, view=view, dtype=_DTYPE, source=source, close=frames.close, metadata=metadata)


def _channels_of(
    path: Path, experiment: _Experiment, size: int, frame: int, choice: Choice
) -> tuple[str, ...]:
    """Names of the channels that a raw file holds.

    Those that were enabled, or, by earlier versions of the program, all of them once two were; the number of
    frames that was asked for tells which.
    """
    enabled, names = experiment.enabled or experiment.names[:1], experiment.names
    counts = {len(enabled): enabled}
    if len(names) > 1:
        counts |= {len(names): names, **counts}
    if len(enabled) > 1:
        counts |= {4: tuple(f"Chan{letter}" for letter in "ABCD"), **counts}
    for count, channels in counts.items():
        if experiment.frames > 0 and size == experiment.frames * frame * count:
            return channels
    if experiment.frames > 0:
        problem = (
            f"{path} has {size} bytes, but {_EXPERIMENT} announces {experiment.frames} frames of "
            f"{len(enabled)} channels, which take {experiment.frames * frame * len(enabled)}"
        )
        by_hand = (
            f"To open it by hand: shape=(-1, {len(enabled)}, {experiment.height}, {experiment.width}), "
            'axes="tcyx", dtype="<u2"'
        )
        if size > experiment.frames * frame * len(enabled):
            raise ValueError(f"{problem}: it holds other channels or frames. {by_hand}")
        if len(counts) > 1:
            choice.incomplete(f"{problem}: it was stopped early, or holds other channels", by_hand)
        choice.incomplete(f"{problem}: it was stopped early")
    return enabled


def _open_tiffs(folder: Path, experiment: _Experiment, choice: Choice, source: str) -> Movie:
    try:
        import tifffile  # noqa: F401  # which reads its images
    except ImportError as error:
        raise missing("tifffile", folder) from error
    images: dict[str, dict[tuple[int, ...], str]] = {}
    for file in folder.iterdir():
        match = _IMAGE.fullmatch(file.name)
        if match:
            places = tuple(int(part) for part in match[2].split("_")[1:])
            images.setdefault(match[1], {})[places] = file.name
    if not images:
        return _open_stacks(folder, experiment, choice, source)
    wells = {places[:-2] for named in images.values() for places in named}
    if len(wells) > 1:
        asked = [well for well in sorted(wells) if "_".join(map(str, well)) == str(choice.series)]
        if not asked:
            listed = ", ".join("_".join(map(str, well)) for well in sorted(wells))
            raise ValueError(f'{source} holds {len(wells)} places: {listed}. Say which: series="1_1"')
        wells = set(asked)
    (well,) = wells
    planes, moments = experiment.planes, experiment.timepoints
    last = max((places[-1] for named in images.values() for places in named), default=0)
    channels = sorted(images)
    frames = {
        (number, plane): [
            Place(_image_name(named, (*well, plane + 1, moment + 1)), 0)
            for moment in range(max(moments, last))
        ]
        for number, named in enumerate(images[channel] for channel in channels)
        for plane in range(planes)
    }
    deeper = max(places[-2] for named in images.values() for places in named)
    if deeper > planes:
        choice.incomplete(f"{source} holds images of {deeper} planes, but {_EXPERIMENT} announces {planes}")
    if last > moments:
        choice.incomplete(f"{source} holds images of {last} times, but {_EXPERIMENT} announces {moments}")
    lacking = set(experiment.enabled) - set(channels) if experiment.enabled != ("camera",) else set()
    if lacking:
        choice.incomplete(
            f"{source} holds no images of {', '.join(sorted(lacking))}, which {_EXPERIMENT} names"
        )
    metadata = {**experiment.metadata, "channel_names": channels}
    return open_tiff_files(
        TiffRecording(folder, _EXPERIMENT, source, frames, tuple(channels), planes, metadata), choice
    )


def _image_name(named: dict[tuple[int, ...], str], numbers: tuple[int, ...]) -> str:
    """The name of an image, or the name that it should have, by that of another."""
    if numbers in named:
        return named[numbers]
    match = _IMAGE.fullmatch(next(iter(named.values())))
    assert match is not None
    widths = [len(part) for part in match[2].split("_")[1:]]
    parts = "".join(f"_{number:0{width}d}" for number, width in zip(numbers, widths, strict=True))
    return f"{match[1]}{parts}{Path(match[0]).suffix}"


def _open_stacks(folder: Path, experiment: _Experiment, choice: Choice, source: str) -> Movie:
    """Open a stream that was stored as one TIFF of many pages, which orders its images itself."""
    from anscombe_transform.movies.readers.tiff.reader import open_tiff

    stacks = natural_order(
        [
            file
            for file in folder.iterdir()
            if file.name.startswith("Image") and file.name.lower().endswith(TIFF_SUFFIXES)
        ]
    )
    if not stacks:
        raise ValueError(
            f"{source} holds {_EXPERIMENT}, but no raw file and no images (Image*.raw, Chan*.tif)"
        )
    path = _one_raw(stacks, choice, source)
    movie = open_tiff(path, replace(choice, series=None))
    announced = experiment.frames // (experiment.planes + experiment.flyback)
    if experiment.streaming and experiment.frames and len(movie) < announced:
        choice.incomplete(f"{path} holds {len(movie)} frames, but {_EXPERIMENT} announces {announced}")
    movie.metadata = {**movie.metadata, **experiment.metadata}
    return movie
