"""Recordings of Prairie View (Bruker, Ultima and Investigator): an XML that names the page of every image.

The XML holds a ``Sequence`` for each cycle, in it a ``Frame`` for each moment, in it a ``File`` for each
channel [1]_. Cycles of the type Z series are volumes: their frames are planes, and the cycles are the
time. In all others the frames are the time, and one cycle runs on from the last.

References
----------
.. [1] Bruker, *Prairie View User Manual* 5.x, "Data formats"; the elements are those that the files
   themselves show.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from anscombe_transform.movies.errors import missing
from anscombe_transform.movies.metadata import facts
from anscombe_transform.movies.movie import Movie
from anscombe_transform.movies.readers.microscopes.tiff_files import Place, TiffRecording, open_tiff_files
from anscombe_transform.movies.selection import Choice

_KEPT = (
    "activeMode",
    "bitDepth",
    "dwellTime",
    "framePeriod",
    "linesPerFrame",
    "objectiveLens",
    "opticalZoom",
    "pixelsPerLine",
    "rastersPerFrame",
    "resonantSamplesPerPixel",
)


@dataclass(slots=True)
class _Frame:
    """The images of one moment: by channel where each lies, and the position in z, where it is written."""

    time: float | None
    position: tuple[str, ...]
    files: dict[str, Place] = field(default_factory=dict)


@dataclass(slots=True)
class _Cycle:
    """A ``Sequence`` of the XML."""

    number: str
    kind: str
    both_ways: bool
    frames: list[_Frame] = field(default_factory=list)

    @property
    def is_volume(self) -> bool:
        """Whether its frames are planes."""
        return "ZSeries" in self.kind.replace(" ", "")


@dataclass(slots=True)
class _Scan:
    """Content of the XML."""

    cycles: list[_Cycle] = field(default_factory=list)
    channels: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    pixel_size: dict[str, float] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)
    problem: str = ""


def open_bruker(path: Path, choice: Choice, source: str) -> Movie:
    """Open the recording that an XML of Prairie View describes; `series` names one of its cycles."""
    choice.allow(source, "series")
    try:
        import tifffile  # noqa: F401  # which reads its images
    except ImportError as error:
        raise missing("tifffile", path) from error
    scan = _read_scan(path)
    if scan.problem:
        choice.incomplete(f"{path} is cut short ({scan.problem}): the recording was not finished")
    cycles = _choose_cycles(scan, choice, source)
    channels = sorted(scan.channels, key=lambda name: (len(name), name))
    frames: dict[tuple[int, int], list[Place]] = {}
    volumes = cycles[0].is_volume
    moments = [cycle.frames for cycle in _turned(cycles)] if volumes else None
    if moments is None:
        moments = [[frame] for cycle in cycles for frame in cycle.frames]
    planes = max((len(moment) for moment in moments), default=1)
    for number, channel in enumerate(channels):
        for plane in range(planes):
            frames[number, plane] = [
                moment[plane].files[channel]
                for moment in moments
                if plane < len(moment) and channel in moment[plane].files
            ]
    return open_tiff_files(
        TiffRecording(
            folder=path.parent,
            description=path.name,
            source=source,
            frames=frames,
            channel_names=tuple(scan.channels[channel] for channel in channels),
            planes=planes,
            metadata=_metadata(scan, cycles, moments),
            elsewhere=frozenset(
                place.file
                for cycle in scan.cycles
                for frame in cycle.frames
                for place in frame.files.values()
            ),
        ),
        choice,
    )


def _read_scan(path: Path) -> _Scan:
    """Read the XML, as far as it goes; a large one is never held whole."""
    scan = _Scan()
    parents: list[ElementTree.Element] = []
    with path.open("rb") as file:
        try:
            for event, element in ElementTree.iterparse(file, events=("start", "end")):
                if event == "start":
                    parents.append(element)
                    if element.tag == "PVScan":
                        scan.attributes = dict(element.attrib)
                    elif element.tag == "Sequence":
                        scan.cycles.append(
                            _Cycle(
                                element.get("cycle", str(len(scan.cycles) + 1)),
                                element.get("type", ""),
                                element.get("bidirectionalZ", "").lower() == "true",
                            )
                        )
                    continue
                parents.pop()
                if element.tag == "Frame":
                    scan.cycles[-1].frames.append(_frame(element, scan))
                if element.tag == "PVStateShard" and not any(p.tag == "Frame" for p in parents):
                    _take_settings(element, scan)
                if element.tag in ("Frame", "Sequence", "PVStateShard") and "Frame" not in [
                    p.tag for p in parents
                ]:
                    element.clear()
                    if parents:
                        parents[-1].remove(element)
        except ElementTree.ParseError as error:
            scan.problem = str(error)
    return scan


def _frame(element: ElementTree.Element, scan: _Scan) -> _Frame:
    time = element.get("absoluteTime") or element.get("relativeTime")
    position: tuple[str, ...] = ()
    for shard in element.iter("PVStateShard"):
        if not scan.settings.get("framePeriod"):
            _take_settings(shard, scan)
        for axis in shard.iterfind("PVStateValue[@key='positionCurrent']/SubindexedValues[@index='ZAxis']"):
            position = tuple(value.get("value", "") for value in axis)
    frame = _Frame(float(time) if time else None, position)
    for file in element.iter("File"):
        channel = file.get("channel", "1")
        scan.channels.setdefault(channel, file.get("channelName") or f"Ch{channel}")
        frame.files[channel] = Place(file.get("filename", ""), int(file.get("page", "1")) - 1)
    return frame


def _take_settings(shard: ElementTree.Element, scan: _Scan) -> None:
    """Take the settings that are kept; those of the whole recording come first, and stay."""
    for value in shard.iter("PVStateValue"):
        key = value.get("key", "")
        if key in _KEPT and value.get("value"):
            scan.settings.setdefault(key, value.get("value", ""))
        if key == "micronsPerPixel":
            for entry in value.iter("IndexedValue"):
                axis = entry.get("index", "")[:1].lower()
                if axis in ("x", "y"):
                    scan.pixel_size.setdefault(axis, float(entry.get("value", "nan")))


def _choose_cycles(scan: _Scan, choice: Choice, source: str) -> list[_Cycle]:
    """The cycles of one movie: the one that was asked for, or all of them, if they are of one kind."""
    cycles = [cycle for cycle in scan.cycles if cycle.frames]
    if not cycles:
        raise ValueError(f"{source} holds no frames: its XML has no finished cycle")
    numbers = ", ".join(cycle.number for cycle in cycles)
    if choice.series is not None:
        chosen = [cycle for cycle in cycles if cycle.number == str(choice.series)]
        if not chosen:
            raise ValueError(f"{source} has no cycle {choice.series}; it has the cycles {numbers}")
        return chosen
    kinds = {(cycle.is_volume, tuple(cycle.frames[0].files)) for cycle in cycles}
    if len(kinds) > 1:
        raise ValueError(
            f"{source} holds cycles of different kinds ({', '.join(sorted({c.kind for c in cycles}))}): say "
            f"which is meant, series={cycles[0].number}; it has the cycles {numbers}"
        )
    return cycles


def _names(scan: _Scan) -> frozenset[str]:
    """All files that the XML names."""
    frames = (frame for cycle in scan.cycles for frame in cycle.frames)
    return frozenset(place.file for frame in frames for place in frame.files.values())


def _turned(cycles: list[_Cycle]) -> list[_Cycle]:
    """The volumes with their planes in the order of the first; the z of every other one may run back."""
    if not cycles[0].both_ways:
        return cycles
    order = {frame.position: number for number, frame in enumerate(cycles[0].frames)}
    known = len(order) == len(cycles[0].frames) and () not in order
    turned = []
    for number, cycle in enumerate(cycles):
        frames = cycle.frames
        if known and all(frame.position in order for frame in frames) and len(frames) == len(order):
            frames = sorted(frames, key=lambda frame: order[frame.position])
        elif number % 2:
            # A volume that was stopped on its way back lacks its first planes: they keep their numbers.
            lacking = len(cycles[0].frames) - len(frames)
            frames = [_Frame(None, ()) for _ in range(lacking)] + frames[::-1]
        turned.append(_Cycle(cycle.number, cycle.kind, cycle.both_ways, frames))
    return turned


def _metadata(scan: _Scan, cycles: list[_Cycle], moments: list[list[_Frame]]) -> dict[str, Any]:
    version = scan.attributes.get("version")
    kept: Mapping[str, Any] = {name: scan.settings[name] for name in _KEPT if name in scan.settings}
    return facts(
        format="Bruker Prairie View",
        frame_rate=_rate(scan, cycles, moments),
        pixel_size=scan.pixel_size if set(scan.pixel_size) == {"x", "y"} else None,
        acquired=_date(scan.attributes.get("date", "")),
        channel_names=[scan.channels[channel] for channel in sorted(scan.channels)],
        software=f"Prairie View {version}" if version else None,
        bruker={
            "cycles": len(cycles),
            "type": cycles[0].kind,
            **({"bidirectional_z": True} if cycles[0].both_ways else {}),
            **kept,
        },
    )


def _rate(scan: _Scan, cycles: list[_Cycle], moments: list[list[_Frame]]) -> float | None:
    """Frames of one plane per second, by the times of the frames, or by the period that was set."""
    times = [moment[0].time for moment in moments if moment]
    steps = [b - a for a, b in pairwise(times) if a is not None and b is not None]
    steps = [step for step in steps if step > 0]
    if steps:
        return 1 / float(np.median(steps))
    period = scan.settings.get("framePeriod")
    return 1 / float(period) if period and float(period) > 0 and not cycles[0].is_volume else None


def _date(text: str) -> str | None:
    """``5/17/2024 1:07:42 PM`` as ISO 8601; None where it is written otherwise."""
    try:
        return datetime.strptime(re.sub(r"\s+", " ", text), "%m/%d/%Y %I:%M:%S %p").isoformat()
    except ValueError:
        return None
