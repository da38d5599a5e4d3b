"""ScanImage's headers: the settings, in the words of each version, and how images follow each other.

Versions 5 and later (``SI.hChannels.channelSave``), 4 (``scanimage.SI4.channelsSave``) and 3
(``state.acq.numberOfChannelsSave``) say the same things by other names [1]_. Channels vary fastest, then the
frames that are taken of a plane in a row, then the planes of a volume, then volumes.

References
----------
.. [1] ScanImage documentation, "ScanImage BigTiff Specification" and "TIFF header" (docs.scanimage.org);
   version 3.8: header state variables, Pologruto, Sabatini & Svoboda 2003, doi:10.1186/1475-925X-2-13.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

KEPT = (
    "VERSION_MAJOR",
    "VERSION_MINOR",
    "objectiveResolution",
    "imagingSystem",
    "hChannels.channelSave",
    "hChannels.channelOffset",
    "hChannels.channelSubtractOffset",
    "hChannels.channelInputRange",
    "hPmts.gains",
    "hBeams.powers",
    "hScan2D.logAverageFactor",
    "hScan2D.sampleRate",
    "hScan2D.bidirectional",
    "hScan2D.pixelBinFactor",
    "hRoiManager.scanZoomFactor",
    "hRoiManager.scanFrameRate",
    "hRoiManager.scanVolumeRate",
    "hStackManager.framesPerSlice",
    "hStackManager.numSlices",
    "hFastZ.enable",
    "hFastZ.numFramesPerVolume",
    "hStackManager.stackMode",
    "hStackManager.numVolumes",
    "stackNumSlices",
    "acqNumFrames",
    "fastZEnable",
    "state.software.version",
    "state.acq.numberOfZSlices",
    "state.acq.numberOfFrames",
    "state.acq.averaging",
)
"""ScanImage's settings that bear on the numbers of a recording, among a thousand."""

# Where each version writes what is needed here; `_settings` strips the prefixes.
_CHANNELS = ("hChannels.channelSave", "channelsSave")
_RATE = ("hRoiManager.scanFrameRate", "scanFrameRate")
_SLICES = ("hStackManager.actualNumSlices", "hStackManager.numSlices", "stackNumSlices")
_FAST_CYCLE = (
    "hFastZ.numFramesPerVolume",
    "hStackManager.numFramesPerVolumeWithFlyback",
    "hStackManager.numFramesPerVolume",
)
_FRAMES_PER_SLICE = ("hStackManager.framesPerSlice", "acqNumFrames")
_AVERAGED = ("hScan2D.logAverageFactor", "acqNumAveragedFrames")
_WANTED = {
    *(*KEPT, *_CHANNELS, *_RATE, *_SLICES, *_FAST_CYCLE, *_FRAMES_PER_SLICE, *_AVERAGED),
    *(
        "hChannels.channelName",
        "hRoiManager.scanFramePeriod",
        "hStackManager.enable",
        "fastZNumDiscardFrames",
    ),
    *("hScan2D.logFramesPerFile", "state.acq.numberOfChannelsSave", "state.acq.frameRate"),
    *(f"state.acq.savingChannel{n}" for n in range(1, 5)),
}
_LINE = re.compile(r"^[ \t]*(?:scanimage\.)?SI[45]?\.(\S+)[ \t]*=[ \t]*(.*?)[ \t\r]*$", re.MULTILINE)
_OLD_LINE = re.compile(r"^[ \t]*(state\.\S+?)[ \t]*=[ \t]*(.*?)[ \t]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Cycle:
    """How images follow each other: channels vary fastest, then frames of a plane, then planes.

    Attributes
    ----------
    channels, planes : int
        Saved channels and planes.
    frames : int
        Frames of one plane in a row: more than 1 for a stack that dwells at each plane.
    flyback : int
        Frames after the last plane of a volume that were taken while the objective returned.
    """

    channels: int = 1
    planes: int = 1
    frames: int = 1
    flyback: int = 0

    @property
    def length(self) -> int:
        """Images of one volume, after which all repeats."""
        return self.channels * (self.planes * self.frames + self.flyback)

    def numbers(self, images: int, channel: int, plane: int) -> NDArray[np.int64]:
        """Numbers of the images of one channel and plane, in the order of time."""
        number = np.arange(images, dtype=np.int64)
        place = number // self.channels % (self.length // self.channels)
        wanted: NDArray[np.int64] = number[
            (number % self.channels == channel) & (place // self.frames == plane)
        ]
        return wanted

    def axes(self, images: int) -> tuple[str, tuple[int, ...]]:
        """Letters and lengths of the axes before y and x."""
        if self.planes == 1 and not self.flyback:
            return "tc", (-(-images // self.channels), self.channels)
        return "tzc", (len(self.numbers(images, 0, 0)), self.planes, self.channels)


def read_settings(texts: list[str]) -> dict[str, Any]:
    """The settings that don't vary, without the prefixes of the versions; empty where it isn't ScanImage."""
    for text in texts:
        settings = _parsed(_LINE.findall(text))
        if not settings and "state." in text:
            lines = text.replace("\r\n", "\n").replace("\r", "\n")
            settings = _parsed(_OLD_LINE.findall(lines))
        if settings:
            return settings
    return {}


def _parsed(lines: list[tuple[str, str]]) -> dict[str, Any]:
    return {name: _value(value) for name, value in lines if name in _WANTED}


def cycle_of(settings: Mapping[str, Any]) -> Cycle:
    """How the images of a file follow each other, as its settings say."""
    if any(name.startswith("state.") for name in settings):
        return _old_cycle(settings)
    channels = max(1, len(saved_channels(settings)))
    slices = count(_first(settings, _SLICES)) or 1
    averaged = count(_first(settings, _AVERAGED)) or 1
    if settings.get("fastZEnable"):
        dropped = count(settings.get("fastZNumDiscardFrames")) or 0
        return Cycle(channels, slices, 1, dropped)
    stack = settings.get("hStackManager.enable")
    if settings.get("hFastZ.enable") or (stack and settings.get("hStackManager.stackMode") == "fast"):
        volume = count(_first(settings, _FAST_CYCLE)) or slices
        # A volume without slices of its own: each of its frames is a plane.
        planes = slices if 1 < slices <= volume else volume
        return Cycle(channels, planes, 1, volume - planes)
    frames = count(_first(settings, _FRAMES_PER_SLICE))
    if slices > 1 and frames and stack is not False:
        return Cycle(channels, slices, max(1, frames // averaged))
    return Cycle(channels)


def _old_cycle(settings: Mapping[str, Any]) -> Cycle:
    """Version 3: a stack dwells at each slice, and may average the frames there."""
    saving = [settings.get(f"state.acq.savingChannel{n}") for n in range(1, 5)]
    channels = count(settings.get("state.acq.numberOfChannelsSave")) or sum(v == 1 for v in saving) or 1
    slices = count(settings.get("state.acq.numberOfZSlices")) or 1
    frames = count(settings.get("state.acq.numberOfFrames")) or 1
    if slices == 1:
        return Cycle(channels)
    return Cycle(channels, slices, 1 if settings.get("state.acq.averaging") == 1 else frames)


def saved_channels(settings: Mapping[str, Any]) -> list[int]:
    """Numbers of the channels that were saved, from 1."""
    if any(name.startswith("state.") for name in settings):
        return [n for n in range(1, 5) if settings.get(f"state.acq.savingChannel{n}") == 1]
    return [int(n) for n in flat(_first(settings, _CHANNELS)) if isinstance(n, int | float)]


def channel_labels(settings: Mapping[str, Any], channels: int) -> list[str]:
    """Names of the channels that were saved."""
    saved = saved_channels(settings)
    if len(saved) != channels:
        saved = list(range(1, channels + 1))
    names = flat(settings.get("hChannels.channelName"))
    return [str(names[n - 1]) if 0 < n <= len(names) else f"Channel {n}" for n in saved]


def frame_rate(settings: Mapping[str, Any], cycle: Cycle) -> float | None:
    """Frames of one plane per second."""
    per_second = _number(_first(settings, _RATE)) or _number(settings.get("state.acq.frameRate"))
    period = _number(settings.get("hRoiManager.scanFramePeriod"))
    if per_second is None and period:
        per_second = 1 / period
    if cycle.planes > 1 and cycle.frames == 1:
        volumes = _number(settings.get("hRoiManager.scanVolumeRate"))
        return volumes or (per_second * cycle.channels / cycle.length if per_second else None)
    return per_second


def count(value: Any) -> int | None:
    """A whole number of at least 1; ScanImage writes Inf and [] where there is none."""
    number = _number(value)
    return int(number) if number is not None and number >= 1 else None


def flat(value: Any) -> list[Any]:
    """The elements of a matrix of MATLAB."""
    if isinstance(value, list | tuple):
        return [item for part in value for item in flat(part)]
    return [] if value is None else [value]


def _number(value: Any) -> float | None:
    items = flat(value)
    if len(items) != 1 or isinstance(items[0], bool) or not isinstance(items[0], int | float):
        return None
    return float(items[0]) if math.isfinite(items[0]) and items[0] > 0 else None


def _first(settings: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """The first setting that is there and says something."""
    return next((settings[name] for name in names if name in settings and flat(settings[name])), None)


def _value(text: str) -> Any:
    from tifffile import matlabstr2py

    try:
        return matlabstr2py(text) if text else None
    except (ValueError, TypeError, IndexError):
        return text
