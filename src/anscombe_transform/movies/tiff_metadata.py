"""What the headers of a TIFF tell about its recording: ImageJ, OME-XML, ScanImage, or the plain tags."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anscombe_transform.movies.recording import facts, json_value, micrometres, rate

if TYPE_CHECKING:
    from tifffile import TiffFile

# Under this name the package keeps how a movie was made.
_RECORD = "anscombe_transform"
# What of ScanImage's thousand settings bears on the numbers of a recording.
_SCANIMAGE = (
    "SI.VERSION_MAJOR",
    "SI.VERSION_MINOR",
    "SI.objectiveResolution",
    "SI.imagingSystem",
    "SI.hChannels.channelSave",
    "SI.hChannels.channelOffset",
    "SI.hChannels.channelSubtractOffset",
    "SI.hChannels.channelInputRange",
    "SI.hPmts.gains",
    "SI.hBeams.powers",
    "SI.hScan2D.logAverageFactor",
    "SI.hScan2D.sampleRate",
    "SI.hScan2D.bidirectional",
    "SI.hScan2D.pixelBinFactor",
    "SI.hRoiManager.scanZoomFactor",
    "SI.hRoiManager.scanFrameRate",
    "SI.hRoiManager.scanVolumeRate",
    "SI.hStackManager.framesPerSlice",
    "SI.hStackManager.numSlices",
    "SI.hFastZ.enable",
    "SI.hFastZ.numFramesPerVolume",
)


@dataclass(frozen=True, slots=True)
class ScanImage:
    """How a ScanImage file interleaves its images: channels vary fastest, then planes or frames.

    Attributes
    ----------
    channels : int
        Channels that were saved.
    planes : int
        Images of one channel in a volume, those of the flyback included.
    frames_per_plane : int or None
        For a stack that dwells at each plane, the frames taken there; None where time runs over the volumes.
    """

    channels: int
    planes: int
    frames_per_plane: int | None

    def axes(self, images: int, source: str) -> tuple[str, tuple[int, ...]]:
        """Letters and lengths of the axes before y and x."""
        if images % self.channels:
            raise ValueError(
                f"{source} is cut short: it has {images} images of {self.channels} interleaved channels, so "
                "the last frame is incomplete"
            )
        frames = images // self.channels
        if self.planes == 1:
            return "tc", (frames, self.channels)
        if self.frames_per_plane is not None:
            planes, rest = divmod(frames, self.frames_per_plane)
            if rest or not planes:
                raise ValueError(
                    f"{source} has {frames} frames, which is not a whole number of planes of "
                    f"{self.frames_per_plane} frames, as its header says. Say how they lie: shape=(…), "
                    f'axes="ztcyx"'
                )
            return "ztc", (planes, self.frames_per_plane, self.channels)
        if frames < self.planes:
            raise ValueError(f"{source} has {frames} frames, less than a volume of {self.planes} planes")
        return "tzc", (frames // self.planes, self.planes, self.channels)


@dataclass(frozen=True, slots=True)
class TiffFacts:
    """What a file tells: metadata worth keeping, names of channels, what bears on the order of images.

    `plain_stack` is an ImageJ stack that is no hyperstack: the images have no meaning but their order.
    `untold` is a file by tifffile whose writer gave a shape and no axes.
    """

    metadata: dict[str, Any]
    channel_names: tuple[str, ...] = ()
    scan: ScanImage | None = None
    plain_stack: bool = False
    untold: bool = False


def read_facts(tiff: TiffFile) -> TiffFacts:
    """Read what is known of a file; a header that makes no sense is left out, as the images don't need it."""
    if tiff.is_scanimage:
        return _scanimage(tiff)
    if tiff.is_ome:
        return _ome(tiff)
    if tiff.is_imagej:
        return _imagej(tiff)
    shaped = tiff.shaped_metadata or ()
    record = shaped[0].get(_RECORD) if shaped else None
    return TiffFacts(
        facts(format=_kind(tiff, "TIFF"), **_tags(tiff), **{_RECORD: record}),
        untold=bool(shaped) and set(shaped[0]) == {"shape"},
    )


def _kind(tiff: TiffFile, name: str) -> str:
    return f"{name} (BigTIFF)" if tiff.is_bigtiff else name


def _tags(tiff: TiffFile) -> dict[str, Any]:
    page = tiff.pages.first
    stamp = re.fullmatch(
        r"(\d{4}):(\d\d):(\d\d) (\d\d:\d\d:\d\d)", str(page.tags.valueof("DateTime", "")).strip("\0 ")
    )
    return {
        "acquired": f"{stamp[1]}-{stamp[2]}-{stamp[3]}T{stamp[4]}" if stamp else None,
        "software": str(page.tags.valueof("Software", "") or "") or None,
    }


def _imagej(tiff: TiffFile) -> TiffFacts:
    told = tiff.imagej_metadata or {}
    unit = str(told.get("unit", ""))
    size = {
        axis: micrometres(_per_unit(tiff.pages.first.tags.valueof(f"{axis.upper()}Resolution")), unit)
        for axis in "yx"
    }
    frame_rate = rate(told.get("finterval"), "s") or json_value(told.get("fps"))
    labels = told.get("Labels")
    channels = int(told.get("channels", 1))
    names = [str(label) for label in labels][:channels] if isinstance(labels, list) and channels > 1 else []
    return TiffFacts(
        facts(
            format=_kind(tiff, "TIFF (ImageJ)"),
            frame_rate=frame_rate,
            pixel_size=size if all(size.values()) else None,
            channel_names=names,
            **{"acquired": _tags(tiff)["acquired"], _RECORD: _record_of(told.get("Info"))},
        ),
        channel_names=tuple(names),
        plain_stack=not told.get("hyperstack", False),
    )


def _record_of(information: Any) -> Any:
    """The record that this package left in the text that ImageJ shows as information."""
    try:
        record = json.loads(information)
    except (TypeError, json.JSONDecodeError):
        return None
    return record if isinstance(record, dict) and "source" in record else None


def _per_unit(resolution: Any) -> float | None:
    """Units for each pixel, from pixels for each unit as a fraction."""
    try:
        numerator, denominator = resolution
        return float(denominator) / float(numerator)
    except (TypeError, ValueError, ZeroDivisionError):
        return None


def _ome(tiff: TiffFile) -> TiffFacts:
    import xml.etree.ElementTree as ElementTree

    try:
        root = ElementTree.fromstring(tiff.ome_metadata or "")
    except ElementTree.ParseError:
        return TiffFacts(facts(format=_kind(tiff, "OME-TIFF"), **_tags(tiff)))
    images = [element for element in root if _tag(element) == "Image"]
    if not images:
        return TiffFacts(facts(format=_kind(tiff, "OME-TIFF"), **_tags(tiff)))
    image = images[0]
    pixels = next((element for element in image if _tag(element) == "Pixels"), None)
    date = next((element.text for element in image if _tag(element) == "AcquisitionDate"), None)
    told: Mapping[str, str] = {} if pixels is None else pixels.attrib
    channels = [] if pixels is None else [element for element in pixels if _tag(element) == "Channel"]
    names = [channel.attrib.get("Name", "") for channel in channels]
    exposure = None if pixels is None else _exposure(pixels)
    size = {
        axis: micrometres(
            told.get(f"PhysicalSize{axis.upper()}"), told.get(f"PhysicalSize{axis.upper()}Unit", "µm")
        )
        for axis in "yx"
    }
    return TiffFacts(
        facts(
            format=_kind(tiff, "OME-TIFF"),
            frame_rate=rate(told.get("TimeIncrement"), told.get("TimeIncrementUnit", "s")),
            pixel_size=size if all(size.values()) else None,
            acquired=date,
            channel_names=names if any(names) else None,
            software=root.attrib.get("Creator"),
            ome=facts(
                name=image.attrib.get("Name"),
                significant_bits=told.get("SignificantBits"),
                exposure=exposure,
                fluorophores=[c.attrib["Fluor"] for c in channels if "Fluor" in c.attrib],
            ),
        ),
        channel_names=tuple(names) if any(names) else (),
    )


def _exposure(pixels: Any) -> str | None:
    for element in pixels:
        if _tag(element) == "Plane" and "ExposureTime" in element.attrib:
            return f"{element.attrib['ExposureTime']} {element.attrib.get('ExposureTimeUnit', 's')}"
    return None


def _tag(element: Any) -> str:
    return str(element.tag).rpartition("}")[2]


def _scanimage(tiff: TiffFile) -> TiffFacts:
    settings = _scanimage_settings(tiff)
    saved = settings.get("SI.hChannels.channelSave", 1)
    channels = [int(n) for n in _flat(saved)] or [1]
    names = _flat(settings.get("SI.hChannels.channelName", []))
    labels = [str(names[n - 1]) if 0 < n <= len(names) else f"Channel {n}" for n in channels]
    description = str(tiff.pages.first.description)
    scan = _interleaving(settings, len(channels)) if settings else None
    period = settings.get("SI.hRoiManager.scanFramePeriod")
    per_second = settings.get("SI.hRoiManager.scanFrameRate") or rate(period, "s")
    if scan is not None and scan.planes > 1 and scan.frames_per_plane is None:
        per_second = settings.get("SI.hRoiManager.scanVolumeRate") or (
            per_second / scan.planes if per_second else None
        )
    return TiffFacts(
        facts(
            format=_kind(tiff, "TIFF (ScanImage)"),
            frame_rate=per_second,
            acquired=_epoch(description),
            channel_names=labels if settings else None,
            scanimage={
                name.removeprefix("SI."): json_value(settings[name])
                for name in _SCANIMAGE
                if name in settings
            },
        ),
        channel_names=tuple(labels) if settings else (),
        scan=scan,
    )


def _scanimage_settings(tiff: TiffFile) -> dict[str, Any]:
    """The settings that don't vary: from the header of the file, or the software tag of its first page."""
    from tifffile import matlabstr2py

    told = (tiff.scanimage_metadata or {}).get("FrameData")
    if isinstance(told, dict) and told:
        return dict(told)
    for text in (tiff.pages.first.software, tiff.pages.first.description):
        if "SI." in text:
            try:
                parsed = matlabstr2py(text)
            except (ValueError, TypeError, IndexError):
                continue
            if isinstance(parsed, dict):
                return {name.removeprefix("scanimage."): value for name, value in parsed.items()}
    return {}


def _interleaving(settings: Mapping[str, Any], channels: int) -> ScanImage:
    fast = bool(settings.get("SI.hFastZ.enable", False))
    volumetric = settings.get("SI.hStackManager.stackMode") == "fast" and settings.get(
        "SI.hStackManager.enable"
    )
    if fast or volumetric:
        planes = _count(
            settings.get("SI.hFastZ.numFramesPerVolume")
            or settings.get("SI.hStackManager.numFramesPerVolumeWithFlyback")
            or settings.get("SI.hStackManager.numSlices")
        )
        return ScanImage(channels, planes or 1, None)
    slices = _count(
        settings.get("SI.hStackManager.actualNumSlices") or settings.get("SI.hStackManager.numSlices")
    )
    frames = _count(settings.get("SI.hStackManager.framesPerSlice"))
    averaged = _count(settings.get("SI.hScan2D.logAverageFactor")) or 1
    if slices and slices > 1 and frames and settings.get("SI.hStackManager.enable", True):
        return ScanImage(channels, slices, max(1, frames // averaged))
    return ScanImage(channels, 1, None)


def _count(value: Any) -> int | None:
    """A whole number of at least 1; ScanImage writes Inf and [] where there is none."""
    flat = _flat(value)
    if len(flat) != 1 or isinstance(flat[0], bool) or not isinstance(flat[0], int | float):
        return None
    number = float(flat[0])
    return int(number) if math.isfinite(number) and number >= 1 else None


def _flat(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return [item for part in value for item in _flat(part)]
    return [] if value is None else [value]


def _epoch(description: str) -> str | None:
    """``epoch = [2015  3  2 10 11 34.536]`` as ISO 8601; ScanImage writes local time without a zone."""
    found = re.search(r"epoch = \[([\d.\s,]+)\]", description)
    numbers = re.split(r"[\s,]+", found[1].strip()) if found else []
    if len(numbers) != 6:
        return None
    year, month, day, hour, minute = (int(float(n)) for n in numbers[:5])
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{float(numbers[5]):06.3f}"
