"""Metadata in the headers of a TIFF: ImageJ, OME-XML, ScanImage, or the plain tags."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anscombe_transform.movies.metadata import ATTRIBUTE, facts, json_value, lifted, micrometres, rate
from anscombe_transform.movies.readers.tiff.scanimage import (
    KEPT,
    Cycle,
    channel_labels,
    cycle_of,
    frame_rate,
    read_settings,
)

if TYPE_CHECKING:
    from tifffile import TiffFile


@dataclass(frozen=True, slots=True)
class TiffFacts:
    """Facts of a file: metadata worth keeping, names of channels, facts about the order of images.

    `cycle` is how ScanImage interleaves the images. `imagej` holds the axes of an ImageJ stack and their
    lengths, as its header says. `plain_stack` is an ImageJ stack that is no hyperstack: the images have no
    meaning but their order.
    `untold` is a file of tifffile with a shape and no axes.
    """

    metadata: dict[str, Any]
    channel_names: tuple[str, ...] = ()
    cycle: Cycle | None = None
    imagej: tuple[str, tuple[int, ...]] | None = None
    plain_stack: bool = False
    untold: bool = False


def read_facts(tiff: TiffFile) -> TiffFacts:
    """Read the facts of a file; a header that makes no sense is ignored, as the images don't need it."""
    if settings := _scanimage_settings(tiff):
        return _scanimage(tiff, settings)
    if tiff.is_ome:
        return _ome(tiff)
    if tiff.is_imagej:
        return _imagej(tiff)
    shaped = tiff.shaped_metadata or ()
    record = shaped[0].get(ATTRIBUTE) if shaped else None
    return TiffFacts(
        facts(**{"format": _kind(tiff, "TIFF"), **_tags(tiff), **lifted(record), ATTRIBUTE: record}),
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
    per_second = rate(told.get("finterval"), "s") or json_value(told.get("fps"))
    labels = told.get("Labels")
    channels = int(told.get("channels", 1))
    names = [str(label) for label in labels][:channels] if isinstance(labels, list) and channels > 1 else []
    return TiffFacts(
        facts(
            format=_kind(tiff, "TIFF (ImageJ)"),
            frame_rate=per_second,
            pixel_size=size if all(size.values()) else None,
            channel_names=names,
            **{"acquired": _tags(tiff)["acquired"], ATTRIBUTE: _record_of(told.get("Info"))},
        ),
        channel_names=tuple(names),
        imagej=_imagej_axes(told),
        plain_stack=not told.get("hyperstack", False),
    )


# Axes by the order that ImageJ's header names, from fastest to slowest; without one it is "czt".
_IMAGEJ_ORDERS = {
    "default": "tzc",
    "czt": "tzc",
    "ctz": "ztc",
    "zct": "tcz",
    "ztc": "ctz",
    "tcz": "zct",
    "tzc": "czt",
}


def _imagej_axes(told: Mapping[str, Any]) -> tuple[str, tuple[int, ...]]:
    """Axes before y and x, slowest first, and their lengths; one axis t where only images are counted."""
    lengths = {
        axis: max(1, int(told.get(name, 1)))
        for axis, name in zip("tzc", ("frames", "slices", "channels"), strict=True)
    }
    images = max(1, int(told.get("images", 1)))
    if math.prod(lengths.values()) == 1:
        return "t", (images,)
    order = _IMAGEJ_ORDERS.get(str(told.get("order", "czt")).lower(), "tzc")
    axes = "".join(axis for axis in order if lengths[axis] > 1)
    return axes, tuple(lengths[axis] for axis in axes)


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
    description = next((element.text for element in image if _tag(element) == "Description"), None)
    record = _record_of(description)
    exposure = None if pixels is None else _exposure(pixels)
    size = {
        axis: micrometres(
            told.get(f"PhysicalSize{axis.upper()}"), told.get(f"PhysicalSize{axis.upper()}Unit", "µm")
        )
        for axis in "yx"
    }
    return TiffFacts(
        facts(
            **{ATTRIBUTE: record},
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


def _scanimage(tiff: TiffFile, settings: dict[str, Any]) -> TiffFacts:
    cycle = cycle_of(settings)
    labels = channel_labels(settings, cycle.channels)
    return TiffFacts(
        facts(
            format=_kind(tiff, "TIFF (ScanImage)"),
            frame_rate=frame_rate(settings, cycle),
            acquired=_epoch(str(tiff.pages.first.description)),
            channel_names=labels,
            scanimage={name: json_value(settings[name]) for name in KEPT if name in settings},
        ),
        channel_names=tuple(labels),
        cycle=cycle,
    )


def _scanimage_settings(tiff: TiffFile) -> dict[str, Any]:
    """The settings that don't vary: from the header of the file, or from the texts of its first page."""
    from tifffile.tifffile import read_scanimage_metadata

    page = tiff.pages.first
    texts = [page.software, page.description]
    if not any("SI." in text or "SI4." in text or "SI5." in text or "state." in text for text in texts):
        return {}
    try:
        told = read_scanimage_metadata(tiff.filehandle)[0]
    except (ValueError, TypeError):
        told = {}
    if told:
        return {name.removeprefix("SI."): value for name, value in told.items()}
    settings = read_settings(texts)
    wanted = ("hChannels.channelSave", "channelsSave", "VERSION_MAJOR", "hScan2D.logFramesPerFile")
    return settings if any(n in wanted or n.startswith("state.acq.") for n in settings) else {}


def _epoch(description: str) -> str | None:
    """``epoch = [2015  3  2 10 11 34.536]`` as ISO 8601; ScanImage writes local time without a zone."""
    match = re.search(r"epoch = \[([\d.\s,]+)\]", description)
    numbers = re.split(r"[\s,]+", match[1].strip()) if match else []
    if len(numbers) != 6:
        return None
    year, month, day, hour, minute = (int(float(n)) for n in numbers[:5])
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{float(numbers[5]):06.3f}"
