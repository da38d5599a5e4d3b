"""Movies of TIFF files: plain and BigTIFF, OME-TIFF, ImageJ, ScanImage, compressed or not."""

from __future__ import annotations

import logging
import math
import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.movies.contents import choose
from anscombe_transform.movies.errors import errors_named, missing
from anscombe_transform.movies.movie import Movie, checked_dtype, checked_shape, file_movie
from anscombe_transform.movies.plain_frames import PlainFrames
from anscombe_transform.movies.selection import Box, Choice, View, described, select
from anscombe_transform.movies.tiff_metadata import TiffFacts, read_facts

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPageSeries

# ImageJ composes no more channels than this; writers that label no axes call the frames of a movie channels.
_MOST_CHANNELS = 7


def open_tiff(path: Path, choice: Choice, inner: str | None = None, *, part: bool = False) -> Movie:
    """Open a series of a TIFF file.

    Parameters
    ----------
    path : Path
    choice : Choice
    inner : str, optional
        What stands after ``::``: number of the series and index along axes, ``"1,C=0"``.
    part : bool, optional
        Whether it is a file of a sequence, of which a single image is taken as a movie of one frame.
    """
    try:
        import tifffile
    except ImportError as error:
        raise missing("tifffile", path) from error
    choice.allow(str(path), "series", "shape", "dataset")
    number, indices = _parse_inner(inner or choice.dataset)
    if number is None:
        number = _series_number(choice)
    choice = replace(choice, indices=indices, one_image=part or choice.one_image)
    with ExitStack() as cleanup:
        with errors_named(str(path)), _refuse_logged_errors():
            tiff = cleanup.enter_context(tifffile.TiffFile(path))
            series = list(tiff.series)
            _check_last_page(tiff)
            facts = read_facts(tiff)
        chosen, name = _choose_series(path, series, number, choice)
        if part and chosen.is_multifile:
            raise ValueError(
                f"{path} is one of several files of one OME-TIFF, each of which gives the whole movie: open "
                "one of them instead of the folder"
            )
        label = inner or choice.dataset
        source = str(path) if label is None and len(series) == 1 else f"{path}::{label or name}"
        layout = _layout(chosen, facts, choice, source)
        view = select(layout.axes, layout.lengths, choice, source, channel_names=facts.channel_names)
        if view.axes[-2:] not in ("yx", "xy"):
            raise ValueError(
                f"{source} has the axes {described(view.axes, view.lengths)}: a TIFF is made of images, so y "
                "and x must be the last two"
            )
        numbers = layout.numbers(view)
        view = replace(view, lengths=_with_time(view, len(numbers)))
        height, width = (int(n) for n in chosen.keyframe.shape[-2:])
        checked_shape(view.shape, source)
        checked_dtype(chosen.dtype, source)
        with errors_named(source):
            offset = chosen.dataoffset
        if offset is None and len(chosen) * math.prod(chosen.keyframe.shape) != math.prod(chosen.shape):
            words = described(layout.axes, layout.lengths)
            raise ValueError(f"{source} is damaged: it announces {words}, but has {len(chosen)} pages")
        read: Callable[[Box], NDArray[Any]]
        close: Callable[[], object]
        if offset is not None:
            dtype = np.dtype(f"{tiff.byteorder}{chosen.dtype.char}")
            frames = PlainFrames(path, offset, (height, width), dtype, numbers)
            read, close = frames, frames.close
        elif len(chosen) == layout.images:
            _check_pages(path, chosen, tiff.filehandle.size)
            read = _tiff_pages(chosen, numbers)
            close = cleanup.pop_all().close
        else:
            # Pages that hold compressed volumes: there is no smaller part that could be decoded.
            _check_pages(path, chosen, tiff.filehandle.size)
            with errors_named(source):
                images = chosen.asarray().reshape(layout.images, height, width)
            volume = images[numbers.start : numbers.stop : numbers.step]
            read, close = volume.__getitem__, _nothing
        return file_movie(
            _turned(read) if view.axes.endswith("xy") else read,
            view=view,
            dtype=chosen.dtype,
            source=source,
            close=close,
            metadata=facts.metadata,
        )


@dataclass(frozen=True, slots=True)
class _Layout:
    """Axes of a series, the last two of which are an image.

    `images` is the number of images that there are. It may exceed what the axes hold: a recording that was
    stopped in the middle of a volume has more images of the first planes than of the last.
    """

    axes: str
    lengths: tuple[int, ...]
    images: int

    def numbers(self, view: View) -> range:
        """Numbers of the movie's frames among all images."""
        numbers = view.frame_numbers()
        held = math.prod(view.lengths[:-2])
        if self.images > held and view.time == 0:
            return range(numbers.start, self.images, numbers.step)
        return numbers


def _with_time(view: View, frames: int) -> tuple[int, ...]:
    if view.time is None:
        return view.lengths
    return (*view.lengths[: view.time], frames, *view.lengths[view.time + 1 :])


def _turned(read: Callable[[Box], NDArray[Any]]) -> Callable[[Box], NDArray[Any]]:
    """Read images that are stored with x before y."""
    return lambda box: read((box[0], box[2], box[1])).transpose(0, 2, 1)


def _layout(series: TiffPageSeries, facts: TiffFacts, choice: Choice, source: str) -> _Layout:
    """What the axes of a series are: as the caller says, as ScanImage's header says, or as tifffile says."""
    axes = str(series.axes).lower()
    lengths = tuple(int(n) for n in series.shape)
    if not axes.endswith("yx"):
        # A last axis of one sample is no colour.
        if axes.endswith("yxs") and lengths[-1] == 1:
            axes, lengths = axes[:-1], lengths[:-1]
        else:
            raise ValueError(
                f"{source} has the axes {described(axes, lengths)}: colour or interleaved samples are not a "
                "movie (time, y, x). Convert it to one grey value per pixel, or pass one channel as an array"
            )
    images = math.prod(lengths[:-2])
    if choice.shape is not None:
        return _Layout(choice.axes or "q" * len(lengths), _recounted(choice, lengths, images, source), images)
    if facts.scan is not None and series.kind == "scanimage":
        images = len(series)
        axes, leading = facts.scan.axes(images, source)
        return _Layout(f"{axes}yx", (*leading, *lengths[-2:]), images)
    kept = [(a, n) for a, n in zip(axes, lengths, strict=True) if n != 1 or a in "tyx"]
    if choice.axes is not None and len(choice.axes) != len(axes):
        # Axes of length 1 that only the file's own scheme has need no name.
        axes, lengths = "".join(a for a, _ in kept), tuple(n for _, n in kept)
    free = [a for a, _ in kept[:-2] if a != "t" or dict(kept)["t"] > 1]
    if choice.axes is None and axes == "syx" and facts.untold and series.dtype.name != "uint8":
        # Earlier versions of tifffile called three or four images colours where the writer had not told.
        axes = "tyx"
    unlabelled = series.kind == "imagej" and "t" not in dict(kept) and choice.axes is None
    if unlabelled and free == ["c"] and "c" not in choice.indices and dict(kept)["c"] > _MOST_CHANNELS:
        axes = axes.replace("t", "q").replace("c", "t")
    if unlabelled and facts.plain_stack and free == ["z"] and "z" not in choice.indices:
        # ImageJ counts the images of a stack as slices whatever they are, unless it calls it a hyperstack.
        axes = axes.replace("t", "q").replace("z", "t")
    return _Layout(axes, lengths, images)


def _recounted(choice: Choice, lengths: tuple[int, ...], images: int, source: str) -> tuple[int, ...]:
    """The option ``shape`` with its -1 filled in, if it holds exactly the images that there are."""
    shape = choice.shape or ()
    if choice.axes is None or len(choice.axes) != len(shape):
        raise ValueError(
            f"shape={shape} of a TIFF needs axes with a letter for each length, for instance "
            'shape=(-1, 2, 512, 512), axes="tcyx"'
        )
    size = tuple(shape[-2:])
    if size != lengths[-2:]:
        raise ValueError(f"the images of {source} have shape {lengths[-2:]}, so shape can't end with {size}")
    known = math.prod(n for n in shape[:-2] if n != -1)
    if shape[:-2].count(-1) > 1 or known < 1 or any(n < 1 and n != -1 for n in shape):
        raise ValueError(f"shape must be lengths of at least 1, one of them may be -1, got {shape}")
    whole = images % known == 0 if -1 in shape else images == known
    if not whole:
        raise ValueError(f"{source} holds {images} images, which shape={shape} does not divide into")
    return tuple(images // known if n == -1 else n for n in shape)


def _nothing() -> None:
    """There is no file left to close."""


def _tiff_pages(series: TiffPageSeries, numbers: range) -> Callable[[Box], NDArray[Any]]:
    # tifffile's page objects share one file position and one decoder cache.
    lock = threading.Lock()

    def read(box: Box) -> NDArray[Any]:
        wanted = list(numbers[box[0]])
        height, width = series.keyframe.shape[-2:]
        with lock:
            block = series.asarray(key=wanted)
        return block.reshape(len(wanted), height, width)[:, box[1], box[2]]

    return read


def _parse_inner(inner: str | None) -> tuple[int | None, dict[str, int | None]]:
    """``"1,C=0,Z=:"`` as series 1 and {"c": 0, "z": None}."""
    number: int | None = None
    indices: dict[str, int | None] = {}
    for part in filter(None, (inner or "").replace(" ", "").split(",")):
        axis, equals, value = part.rpartition("=")
        if not (value.isdecimal() or (equals and value == ":")):
            raise ValueError(
                f"cannot understand the selection {inner!r} of a TIFF: it is the number of the series, an "
                'index for each axis that is not time, y or x, or both, for instance "C=0", "1" or "1,C=0"'
            )
        if equals:
            indices[axis.lower()] = None if value == ":" else int(value)
        else:
            number = int(value)
    return number, indices


def _series_number(choice: Choice) -> int | None:
    if choice.series is None:
        return None
    if isinstance(choice.series, bool) or not str(choice.series).isdecimal():
        raise ValueError(f"series of a TIFF is its number, from 0, got {choice.series!r}")
    return int(choice.series)


def _choose_series(
    path: Path, series: list[TiffPageSeries], number: int | None, choice: Choice
) -> tuple[TiffPageSeries, str]:
    if not series:
        raise ValueError(f"{path} holds no images")
    if number is None and len(series) == 1:
        return series[0], "0"
    shapes = {
        str(i): tuple(int(n) for axis, n in zip(one.axes, one.shape, strict=True) if n != 1 or axis in "YX")
        for i, one in enumerate(series)
    }
    asked = replace(choice, dataset=None if number is None else str(number), axes=None)
    name = choose(path, shapes, asked, "image series")
    return series[int(name)], name


def _check_last_page(tiff: TiffFile) -> None:
    """Refuse a file whose last page announces another one that is not there.

    A recording that was cut short, by a full disk or a copy that stopped, often still opens: the chain of
    pages simply ends where the file does.
    """
    file, layout = tiff.filehandle, tiff.tiff
    count = len(tiff.pages)
    file.seek(tiff.pages[count - 1].offset)
    (tags,) = struct.unpack(layout.tagnoformat, file.read(layout.tagnosize))
    file.seek(tags * layout.tagsize, os.SEEK_CUR)
    (following,) = struct.unpack(layout.offsetformat, file.read(layout.offsetsize))
    if following >= file.size:
        raise ValueError(
            f"it is cut short: page {count} is announced at byte {following}, but the file has {file.size} "
            "bytes. Copy it again, or read the pages that are there with tifffile and pass the array"
        )


def _check_pages(path: Path, series: TiffPageSeries, size: int) -> None:
    """Refuse a series whose pages point beyond the end of the file.

    Some decoders (LZW) make up pixels for the bytes that are missing.
    """
    for number, page in enumerate(series):
        if page is None:
            raise ValueError(f"{path} misses frame {number}: a file that belongs to it is absent")
        ends = [start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
        if max(ends, default=0) > size:
            raise ValueError(
                f"{path} is cut short: frame {number} ends at byte {max(ends)}, but the file has {size} bytes"
            )


@contextmanager
def _refuse_logged_errors() -> Iterator[None]:
    """Turn what tifffile logs as an error into one.

    It opens damaged files as far as it can and logs what is wrong; frames would be missing without a word.
    """
    thread = threading.get_ident()
    messages: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == thread and record.levelno >= logging.ERROR:
                messages.append(record.getMessage())

    logger, collect = logging.getLogger("tifffile"), Collect()
    logger.addHandler(collect)
    try:
        yield
    finally:
        logger.removeHandler(collect)
    if messages:
        raise ValueError(messages[0])
