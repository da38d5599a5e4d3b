"""Formats of microscopes and cameras that libraries read, each by a few lines of adapter.

An adapter gives an array with the axes that the library names, and lists the images that are announced but
not there: some libraries fill them with zeros. The choice of channel, plane and time, and the refusal of
partial recordings, are the same as for every other format.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import math
import re
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.movies.errors import errors_named, missing
from anscombe_transform.movies.metadata import facts
from anscombe_transform.movies.movie import Movie, checked_dtype, checked_shape, file_movie
from anscombe_transform.movies.selection import Box, Choice, numbered, select

EXTRA = "formats"
"""The extra that installs the libraries."""


class FrameArray:
    """An array of images that a library reads one at a time.

    Parameters
    ----------
    leading : sequence of int
        Lengths of the axes before those of an image.
    frame_shape : sequence of int
        Lengths of the axes of an image.
    dtype : numpy.dtype
    read : callable
        Gives the image of a number, counted over the leading axes, the last of them fastest.
    """

    def __init__(
        self,
        leading: Sequence[int],
        frame_shape: Sequence[int],
        dtype: np.dtype[Any],
        read: Callable[[int], NDArray[Any]],
    ) -> None:
        self.shape = (*leading, *frame_shape)
        self.dtype = np.dtype(dtype)
        self._read, self._frame_shape = read, tuple(frame_shape)
        self._numbers = np.arange(math.prod(leading)).reshape(tuple(leading))

    def __getitem__(self, index: tuple[int | slice, ...]) -> NDArray[Any]:
        cut = self._numbers.ndim
        numbers = np.asarray(self._numbers[index[:cut]])
        images = [self._read(int(n)).reshape(self._frame_shape)[index[cut:]] for n in numbers.ravel()]
        return np.stack(images).reshape(numbers.shape + images[0].shape)


@dataclass(slots=True)
class Opened:
    """A file opened by its library.

    Attributes
    ----------
    array : array with shape, dtype and slices
    axes : str
        A letter for each axis, the last two those of an image.
    channel_names : tuple of str
    metadata : dict
    close : callable
    absent : collection of int
        Numbers of the images that are announced and not there, counted over the axes before y and x.
    """

    array: Any
    axes: str
    channel_names: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    close: Callable[[], object] = lambda: None
    absent: Collection[int] = ()


@dataclass(frozen=True, slots=True)
class Format:
    """A format, and the library that reads it.

    Attributes
    ----------
    name : str
    suffixes : tuple of str
    library : str
        Name under which it is imported.
    package : str
        Name under which it is installed.
    open : callable
        Called with the library, the path and the choice; `series` is the adapter's to obey.
    magic : tuple of (int, bytes)
        Where such a file has which bytes; empty where only the suffix tells it.
    """

    name: str
    suffixes: tuple[str, ...]
    library: str
    package: str
    open: Callable[[Any, Path, Choice], Opened]
    magic: tuple[tuple[int, bytes], ...] = ()


def find_format(path: Path) -> Format | None:
    """Find the format of a file by its first bytes, or by its suffix where they tell nothing."""
    with path.open("rb") as file:
        head = file.read(256)
    suffix = path.suffix.lower()
    for form in FORMATS:
        if any(head[at : at + len(bytes_)] == bytes_ for at, bytes_ in form.magic):
            if form.magic[0][1] in _SHARED and suffix not in form.suffixes:
                continue
            return form
    return next((form for form in FORMATS if suffix in form.suffixes and not form.magic), None)


def open_with_library(form: Format, path: Path, choice: Choice, source: str) -> Movie:
    """Open a file by the library of its format, or by bioio where that one is absent.

    Raises
    ------
    ModuleNotFoundError
        The library isn't installed.
    IncompleteRecordingError
        Images that the file announces are not there.
    ValueError
    """
    choice.allow(source, "series")
    written = re.fullmatch(r"(?:[A-Za-z]=\d+,?)+", str(choice.series or ""))
    if written is not None:  # after ::, along axes that have no option
        indices = {axis.lower(): int(n) for axis, n in re.findall(r"([A-Za-z])=(\d+)", written[0])}
        choice = replace(choice, series=None, indices=indices)
    try:
        library = importlib.import_module(form.library)
    except ImportError as error:
        last = find_last_resort(path)
        if last is None:
            raise missing(form.package, path, EXTRA) from error
        form, library = last, importlib.import_module(last.library)
    with errors_named(source):
        opened = form.open(library, path, choice)
    try:
        return _arrange(form, opened, choice, source)
    except BaseException:
        opened.close()
        raise


def _arrange(form: Format, opened: Opened, choice: Choice, source: str) -> Movie:
    array, lengths = opened.array, tuple(int(n) for n in opened.array.shape)
    checked_dtype(array.dtype, source)
    kept = [axis for axis, letter in enumerate(opened.axes) if letter in "tyx" or lengths[axis] != 1]
    if choice.axes is not None and len(choice.axes) == len(kept) < len(lengths):
        # Axes of length 1 that only the library's scheme has need no name.
        letters = ["q"] * len(lengths)
        for axis, letter in zip(kept, choice.axes, strict=True):
            letters[axis] = letter
        choice = replace(choice, axes="".join(letters))
    view = select(opened.axes, lengths, choice, source, channel_names=opened.channel_names)
    if set(view.axes[-2:]) != set("yx"):
        raise ValueError(f"{source}: y and x must be the last two axes, got {view.axes}")
    numbers = view.frame_numbers()
    absent = set(opened.absent)
    there = [frame for frame, number in enumerate(numbers) if number not in absent]
    if len(there) < len(numbers):
        lost = next(frame for frame, number in enumerate(numbers) if number in absent)
        choice.incomplete(
            f"{source} misses {len(numbers) - len(there)} of the {len(numbers)} frames that it announces, "
            f"the first is {lost}"
        )
    if not there:
        raise ValueError(f"{source} holds none of the frames that were chosen")
    # The libraries' files have one position, which threads would share.
    lock = threading.Lock()

    def read(box: Box) -> NDArray[Any]:
        with lock:
            return np.asarray(view.read(array, box))

    shorter = view.with_frames(len(there))
    checked_shape(shorter.shape, source)
    return file_movie(
        read if len(there) == len(numbers) else numbered(read, there),
        view=shorter,
        dtype=array.dtype,
        source=source,
        close=opened.close,
        metadata=facts(
            **{
                "format": form.name,
                "channel_names": list(opened.channel_names),
                **opened.metadata,
                "reader": f"{form.package} {importlib.metadata.version(form.package)}",
            }
        ),
    )


def _one_of(names: Sequence[str], choice: Choice, path: Path) -> int:
    """The number of the image that `series` means, by number or name; asked for where there are several."""
    if choice.series is not None:
        asked = str(choice.series)
        if asked in names:
            return list(names).index(asked)
        if asked.isdecimal() and int(asked) < len(names):
            return int(asked)
        raise ValueError(f"there is no image {choice.series!r}; there are {', '.join(names)}")
    if len(names) != 1:
        raise ValueError(
            f"it holds {len(names)} images: {', '.join(names) or 'none'}. Say which: series=0, or as "
            f'"{path}::0"'
        )
    return 0


# --- one adapter after the other ----------------------------------------------------------------------------


def _open_nd2(nd2: Any, path: Path, choice: Choice) -> Opened:
    file = nd2.ND2File(path)
    sizes = {str(axis): int(n) for axis, n in file.sizes.items()}
    inner = {"C", "Y", "X", "S"}
    leading = {axis: n for axis, n in sizes.items() if axis not in inner}
    channels = [str(c.channel.name) for c in (getattr(file.metadata, "channels", None) or [])]
    frame = [sizes[axis] for axis in ("C", "Y", "X", "S") if axis in sizes]
    count = math.prod(leading.values())
    # Frames that were never written come back as zeros.
    reader = file._rdr
    offsets = getattr(reader, "_frame_offsets", None)
    size = path.stat().st_size
    lost = [] if offsets is None else [n for n in range(count) if not 0 < offsets.get(n, 0) < size]
    names = [f"position {n}" for n in range(leading.get("P", 1))]
    array: Any = FrameArray(tuple(leading.values()), frame, np.dtype(file.dtype), file.read_frame)
    axes = "".join(axis.lower() for axis in [*leading, *(a for a in ("C", "Y", "X", "S") if a in sizes)])
    per_image = sizes.get("C", 1)
    opened = Opened(
        array,
        axes,
        tuple(channels),
        close=file.close,
        absent=[n * per_image + c for n in lost for c in range(per_image)],
    )
    if "P" in leading:
        opened = _fix(opened, "p", _one_of(names, choice, path))
    voxel = file.voxel_size()
    opened.metadata = facts(
        frame_rate=_nd2_rate(file),
        pixel_size={"y": float(voxel.y), "x": float(voxel.x)},
        acquired=(file.text_info or {}).get("date"),
    )
    return opened


def _nd2_rate(file: Any) -> float | None:
    for loop in file.experiment or []:
        period = getattr(getattr(loop, "parameters", None), "periodMs", None)
        if loop.type == "TimeLoop" and period:
            return 1000 / float(period)
    return None


def _fix(opened: Opened, letter: str, index: int) -> Opened:
    """The array at one index of an axis that the caller chose by `series`."""
    axis = opened.axes.index(letter)
    shape = tuple(opened.array.shape)

    class Fixed:
        def __init__(self) -> None:
            self.shape, self.dtype = shape[:axis] + shape[axis + 1 :], opened.array.dtype

        def __getitem__(self, key: tuple[int | slice, ...]) -> Any:
            return opened.array[(*key[:axis], index, *key[axis:])]

    lengths = shape[:-2]
    numbers = np.arange(math.prod(lengths)).reshape(lengths).take(index, axis).ravel()
    absent = set(opened.absent)
    return replace(
        opened,
        array=Fixed(),
        axes=opened.axes.replace(letter, ""),
        absent=[place for place, number in enumerate(numbers) if int(number) in absent],
    )


@dataclass(frozen=True, slots=True)
class _Block:
    """An image of a CZI at full resolution: where it lies along the axes, its size, and what reads it."""

    place: dict[str, int]
    frame: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], NDArray[Any]]


def _open_czi(czifile: Any, path: Path, choice: Choice) -> Opened:
    file = czifile.CziFile(path)
    blocks = _czi_blocks(czifile, file)
    if not blocks:
        raise ValueError("it holds no images")
    letters = list(blocks[0].place)
    places = {tuple(block.place.get(axis, 0) for axis in letters): block for block in blocks}
    if len(places) < len(blocks) or len({block.frame for block in blocks}) > 1:
        raise ValueError("its images are mosaics of tiles: stitch them in ZEN and export the movie")
    first = np.min(list(places), axis=0)
    leading = [int(n) for n in np.max(list(places), axis=0) - first + 1]
    flat = {
        int(np.ravel_multi_index(tuple(np.subtract(place, first)), leading)): block
        for place, block in places.items()
    }
    height, width, samples = blocks[0].frame
    names, metadata = _czi_metadata(file)
    opened = Opened(
        FrameArray(
            leading,
            (height, width) if samples == 1 else (height, width, samples),
            blocks[0].dtype,
            lambda number: flat[number].read(),
        ),
        # Letters of ours: s are colours here, and scenes in the file.
        "".join(letters).lower().replace("s", "p") + ("yx" if samples == 1 else "yxs"),
        names,
        metadata,
        file.close,
        [number for number in range(math.prod(leading)) if number not in flat],
    )
    if "p" not in opened.axes:
        return opened
    return _fix(
        opened, "p", _one_of([f"scene {n}" for n in range(leading[letters.index("S")])], choice, path)
    )


def _czi_blocks(czifile: Any, file: Any) -> list[_Block]:
    """The images of a CZI, by czifile of 2019 or by later ones, which call their parts otherwise."""
    blocks = []
    for entry in file.subblock_directory:
        if entry.stored_shape != entry.shape:
            continue  # of the pyramid
        if hasattr(entry, "dims"):
            start = dict(zip(entry.dims[:-1], entry.start, strict=False))
            size = dict(zip(entry.dims[:-1], entry.shape, strict=False)) | {"0": entry.shape[-1]}
            start |= {"S": entry.scene_index} if entry.scene_index >= 0 else {}
            blocks.append(_block(start, size, entry.dtype, partial(_read_block, entry, file)))
            continue
        if entry.compression not in czifile.czifile.DECOMPRESS:
            raise ValueError(
                f"its images are compressed by method {entry.compression}, which this czifile does not know: "
                "a newer one needs Python 3.12; or export the recording as OME-TIFF"
            )
        start = {d.dimension: int(d.start) for d in entry.dimension_entries if d.dimension != "M"}
        size = dict(zip(entry.axes, entry.shape, strict=True))
        blocks.append(_block(start, size, np.dtype(entry.dtype).base, partial(_read_block, entry, None)))
    return blocks


def _block(start: dict[str, int], size: dict[str, int], dtype: Any, read: Callable[[], Any]) -> _Block:
    place = {axis: int(at) for axis, at in start.items() if axis not in ("Y", "X", "0")}
    if any(int(size.get(axis, 1)) != 1 for axis in place):
        raise ValueError("its images are volumes in one piece: export the recording as OME-TIFF")
    return _Block(place, (int(size["Y"]), int(size["X"]), int(size["0"])), np.dtype(dtype), read)


def _read_block(entry: Any, file: Any) -> NDArray[Any]:
    segment = entry.data_segment() if file is None else entry.read_segment_data(file)
    pixels: NDArray[Any] = segment.data()
    return pixels


def _czi_metadata(file: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    import xml.etree.ElementTree as ElementTree

    try:
        root = ElementTree.fromstring(file.metadata())
    except (ElementTree.ParseError, TypeError, AttributeError, ValueError):
        return (), {}
    channels = root.findall(".//Information/Image/Dimensions/Channels/Channel")
    names = tuple(channel.get("Name") or channel.get("Id") or "" for channel in channels)
    size = {
        axis: 1e6 * float(value.text or "nan")
        for axis in "yx"
        for value in root.findall(f".//Scaling/Items/Distance[@Id='{axis.upper()}']/Value")
    }
    date = root.find(".//Information/Image/AcquisitionDateAndTime")
    return names, facts(
        pixel_size=size if len(size) == 2 else None, acquired=None if date is None else date.text
    )


def _open_lif(liffile: Any, path: Path, choice: Choice) -> Opened:
    file = liffile.LifFile(path)
    names = [image.name for image in file.images]
    image = file.images[_one_of(names, choice, path)]
    sizes = {str(axis): int(n) for axis, n in image.sizes.items()}
    frames = image.frames
    inner = tuple(frames.frame_dims)
    if inner[:2] != ("Y", "X"):
        raise ValueError(f"its images have the axes {''.join(inner)} in the file: export it as OME-TIFF")
    leading = {axis: n for axis, n in sizes.items() if axis not in inner}
    shape = tuple(int(n) for n in frames.frame_shape)
    order = [list(frames.dims).index(axis) for axis in leading]

    def read(number: int) -> NDArray[Any]:
        place = np.unravel_index(number, tuple(leading.values())) if leading else ()
        key = [0] * len(order)
        for at, index in zip(order, place, strict=True):
            key[at] = int(index)
        pixels: NDArray[Any] = frames[tuple(key)]
        return pixels

    block = image.memory_block
    count = math.prod(leading.values())
    absent: Collection[int] = ()
    if not block.frames and block.offset + block.size > path.stat().st_size:
        # Which image lies where is known of images that follow each other alone.
        one = math.prod(shape) * np.dtype(image.dtype).itemsize
        held = max(0, path.stat().st_size - block.offset) // one if one * count == block.size else 0
        absent = range(held, count)
    return Opened(
        FrameArray(tuple(leading.values()), shape, np.dtype(image.dtype), read),
        "".join([*leading, *inner]).lower(),
        close=file.close,
        absent=absent,
        metadata=facts(pixel_size=_steps(image, "yx", 1e6), frame_rate=_lif_rate(image)),
    )


def _steps(image: Any, axes: str, factor: float) -> dict[str, float] | None:
    """Distances between pixels by the coordinates that a library gives, in micrometres."""
    coordinates = dict(getattr(image, "coords", None) or {})
    steps = {}
    for axis in axes:
        values = coordinates.get(axis.upper())
        if values is None or len(values) < 2:
            return None
        steps[axis] = factor * abs(float(values[1]) - float(values[0]))
    return steps if all(steps.values()) else None


def _lif_rate(image: Any) -> float | None:
    times = dict(getattr(image, "coords", None) or {}).get("T")
    if times is None or len(times) < 2:
        return None
    step = float(times[1]) - float(times[0])
    return 1 / step if step > 0 else None


def _open_oif(oiffile: Any, path: Path, choice: Choice) -> Opened:
    file = oiffile.OifFile(path)
    series = file.series
    number = _one_of([f"series {n}" for n in range(len(series))], choice, path)
    images = series[number]
    files = list(images)
    first = file.asarray(files[0])
    leading = [int(n) for n in images.shape]
    letters = str(images.axes).lower()
    indices = [tuple(int(i) for i in place) for place in images.indices]
    start = np.min(indices, axis=0)
    there = {
        int(np.ravel_multi_index(tuple(np.subtract(place, start)), leading)): name
        for place, name in zip(indices, files, strict=True)
    }
    announced = dict(zip(str(file.axes).lower(), file.shape, strict=True))
    for axis, length in enumerate(leading):
        wanted = int(announced.get(letters[axis], length))
        if number == 0 and length < wanted:
            choice.incomplete(
                f"{path} was stopped early: it announces {wanted} images along {letters[axis]} and holds "
                f"{length}"
            )

    def read(image: int) -> NDArray[Any]:
        pixels: NDArray[Any] = file.asarray(there[image])
        return pixels

    return Opened(
        FrameArray(leading, first.shape, first.dtype, read),
        letters + "yxs"[: first.ndim],
        close=file.close,
        absent=[number for number in range(math.prod(leading)) if number not in there],
    )


def _open_sif(sif_parser: Any, path: Path, choice: Choice) -> Opened:
    try:
        array, info = sif_parser.np_open(str(path), lazy="memmap")
    except ValueError as error:
        choice.incomplete(f"{path} is cut short: {error}")
        array, info = sif_parser.np_open(str(path), ignore_corrupt=True)
    cycle = info.get("StackCycleTime") or info.get("CycleTime")
    return Opened(
        array,
        "tyx",
        metadata=facts(
            frame_rate=1 / float(cycle) if cycle else None,
            sif={
                name: info[name]
                for name in (
                    "DetectorType",
                    "DetectorTemperature",
                    "ExposureTime",
                    "GainDAC",
                    "PixelReadoutTime",
                )
                if name in info
            },
        ),
    )


def _open_mrc(mrcfile: Any, path: Path, choice: Choice) -> Opened:
    del choice
    file = mrcfile.mmap(path, mode="r")
    array = file.data
    axes = {2: "yx", 3: "tyx" if file.is_image_stack() else "zyx", 4: "tzyx"}[array.ndim]
    voxel = file.voxel_size
    size = {"y": float(voxel.y) * 1e-4, "x": float(voxel.x) * 1e-4}  # ångström
    return Opened(
        array, axes, close=file.close, metadata=facts(pixel_size=size if all(size.values()) else None)
    )


def _open_ptu(ptufile: Any, path: Path, choice: Choice) -> Opened:
    del choice
    file = ptufile.PtuFile(path)
    if tuple(file.dims) != ("T", "Y", "X", "C", "H"):
        raise ValueError(f"it holds no movie of images, but the axes {''.join(file.dims)}")
    times, height, width, channels, _ = file.shape
    decoded: dict[int, NDArray[Any]] = {}

    class Counts:
        """Photons of each pixel; the records of a channel are decoded at once, when it is first read."""

        shape, dtype = (times, channels, height, width), np.dtype("uint32")

        def __getitem__(self, key: tuple[int | slice, ...]) -> NDArray[Any]:
            channel = key[1] if isinstance(key[1], int) else 0
            if channel not in decoded:
                counts = file.decode_image(channel=channel, dtime=-1, dtype="uint32", keepdims=True)
                decoded[channel] = np.asarray(counts).reshape(times, height, width)
            return decoded[channel][key[0], key[2], key[3]]

    return Opened(
        Counts(),
        "tcyx",
        close=file.close,
        metadata=facts(
            pixel_size=_steps(file, "yx", 1e6),
            frame_rate=1 / file.frame_time if file.frame_time else None,
            ptu={"photons": int(file.number_photons)},
        ),
    )


def _open_dicom(pydicom: Any, path: Path, choice: Choice) -> Opened:
    del choice
    header = pydicom.dcmread(path, stop_before_pixels=True)
    if str(header.get("LossyImageCompression", "00")) == "01":
        raise ValueError("its images were compressed with losses: no noise can be read from them")
    pixels = importlib.import_module("pydicom.pixels")
    count, samples = int(header.get("NumberOfFrames", 1) or 1), int(header.get("SamplesPerPixel", 1))
    if "Rows" not in header:
        raise ValueError("it holds no images")
    shape = (int(header.Rows), int(header.Columns), samples)[: 2 if samples == 1 else 3]

    def read(number: int) -> NDArray[Any]:
        image: NDArray[Any] = pixels.pixel_array(path, index=number, raw=True)
        return image

    last = read(count - 1)  # that of a file that was cut short is not there
    spacing = header.get("PixelSpacing")
    period = header.get("FrameTime")
    return Opened(
        FrameArray((count,), shape, last.dtype, read),
        "tyx" if samples == 1 else "tyxs",
        metadata=facts(
            pixel_size={"y": 1e3 * float(spacing[0]), "x": 1e3 * float(spacing[1])} if spacing else None,
            frame_rate=1e3 / float(period) if period else None,
            dicom={
                "modality": str(header.get("Modality", "")),
                "photometric": str(header.get("PhotometricInterpretation", "")),
                "rescale_slope": header.get("RescaleSlope"),
                "rescale_intercept": header.get("RescaleIntercept"),
            },
        ),
    )


def _open_ims(h5py: Any, path: Path, choice: Choice) -> Opened:
    del choice
    file = h5py.File(path, "r")

    def text(group: Any, name: str) -> str:
        return "".join(part.decode("latin-1") for part in np.atleast_1d(group.attrs.get(name, b"")))

    information = file["DataSetInfo"]
    depth, height, width = (int(text(information["Image"], axis)) for axis in "ZYX")
    level = file["DataSet/ResolutionLevel 0"]
    times = len(level)
    if "TimeInfo" in information:
        times = int(text(information["TimeInfo"], "FileTimePoints") or times)
    channels = sum(name.startswith("Channel ") for name in information)
    channels = channels or len(level["TimePoint 0"])
    lengths = (times, channels, depth)

    def dataset(number: int) -> tuple[str, int]:
        time, channel, plane = (int(i) for i in np.unravel_index(number, lengths))
        return f"TimePoint {time}/Channel {channel}/Data", plane

    def read(number: int) -> NDArray[Any]:
        name, plane = dataset(number)
        # Data are padded to whole chunks.
        image: NDArray[Any] = level[name][plane, :height, :width]
        return image

    def extent(axis: int) -> float:
        first, last = (float(text(information["Image"], f"Ext{end}{axis}") or 0) for end in ("Min", "Max"))
        return (last - first) / (width, height)[axis]

    names = tuple(
        text(information[f"Channel {n}"], "Name") for n in range(channels) if f"Channel {n}" in information
    )
    size = {"y": extent(1), "x": extent(0)}
    return Opened(
        FrameArray(lengths, (height, width), level["TimePoint 0/Channel 0/Data"].dtype, read),
        "tczyx",
        names if len(names) == channels else (),
        facts(
            pixel_size=size if all(value > 0 for value in size.values()) else None,
            acquired=text(information["Image"], "RecordingDate"),
        ),
        file.close,
        [n for n in range(math.prod(lengths)) if dataset(n)[0] not in level],
    )


def _open_bioio(bioio: Any, path: Path, choice: Choice) -> Opened:
    image = bioio.BioImage(path)
    image.set_scene(_one_of(list(image.scenes), choice, path))
    order = "TCZYX"
    size = image.physical_pixel_sizes
    interval: Any = getattr(image, "time_interval", None)
    seconds = interval.total_seconds() if hasattr(interval, "total_seconds") else None
    return Opened(
        image.get_image_dask_data(order),
        order.lower(),
        tuple(str(name) for name in image.channel_names or ()),
        facts(
            pixel_size={"y": size.Y, "x": size.X} if size.Y and size.X else None,
            frame_rate=1 / seconds if seconds else None,
            bioio="what is missing in the file is not known to it",
        ),
    )


# Compound files of Microsoft, which hold many formats.
_COMPOUND = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_JPEG2000 = b"\0\0\0\x0cjP  \r\n\x87\n"
_HDF5 = b"\x89HDF\r\n\x1a\n"
# First bytes of more formats than one: the suffix must agree.
_SHARED = (_COMPOUND, _HDF5, b"p\0\0\0")

FORMATS = (
    Format("Nikon ND2", (".nd2",), "nd2", "nd2", _open_nd2, ((0, b"\xda\xce\xbe\n"),)),
    Format("Zeiss CZI", (".czi",), "czifile", "czifile", _open_czi, ((0, b"ZISRAWFILE"),)),
    Format("Leica LIF", (".lif",), "liffile", "liffile", _open_lif, ((0, b"p\0\0\0"),)),
    Format("Olympus OIB", (".oib",), "oiffile", "oiffile", _open_oif, ((0, _COMPOUND),)),
    Format("Olympus OIF", (".oif",), "oiffile", "oiffile", _open_oif),
    Format(
        "Andor SIF",
        (".sif",),
        "sif_parser",
        "sif_parser",
        _open_sif,
        ((0, b"Andor Technology Multi-Channel"),),
    ),
    Format("PicoQuant PTU", (".ptu",), "ptufile", "ptufile", _open_ptu, ((0, b"PQTTTR"),)),
    Format("MRC", (".mrc", ".mrcs", ".map"), "mrcfile", "mrcfile", _open_mrc, ((208, b"MAP"),)),
    Format("DICOM", (".dcm",), "pydicom", "pydicom", _open_dicom, ((128, b"DICM"),)),
    Format("Imaris", (".ims",), "h5py", "h5py", _open_ims, ((0, _HDF5),)),
)
"""Formats that have an adapter."""

BIOIO = Format("bioio", (), "bioio", "bioio", _open_bioio)
"""The last resort."""

# Of microscopes and cameras, without an adapter.
_BIOIO = (".oir", ".vsi", ".zvi", ".sld", ".sldy", ".lof", ".xlef", ".dv", ".ets", ".sdt")
_EXPORTED = {
    ".isxd": "export it as TIFF from Inscopix Data Processing",
    ".dcimg": "export it as TIFF from HCImage or HoKaWo",
}
SUFFIXES = (".nd2", ".czi", ".lif", ".oib", ".oif", ".sif", ".ptu", ".mrc", ".mrcs", ".ims", ".spe")
"""Suffixes that recordings are found by in folders."""


def find_last_resort(path: Path) -> Format | None:
    """bioio, if it is installed and one of its plug-ins takes the file."""
    if importlib.util.find_spec("bioio") is None:
        return None
    try:
        importlib.import_module("bioio").BioImage(path)
    except Exception:  # each plug-in has errors of its own; the file is refused with ours
        return None
    return BIOIO


def explain(suffix: str) -> str | None:
    """How to open a format of microscopes that has no adapter."""
    if suffix not in _BIOIO:
        return _EXPORTED.get(suffix)
    return (
        f"the library bioio may read it: pip install bioio and its plug-in for {suffix}, or export the "
        "recording as OME-TIFF"
    )
