"""The images of a TIFF: how they are read, and which of them are the frames of the movie."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.movies.errors import IncompleteRecordingError, errors_named
from anscombe_transform.movies.movie import Movie, checked_shape, file_movie
from anscombe_transform.movies.readers.raw import PlainFrames
from anscombe_transform.movies.readers.tiff.chain import Page, check_frame_numbers, check_frame_times
from anscombe_transform.movies.readers.tiff.headers import TiffFacts
from anscombe_transform.movies.selection import (
    Box,
    Choice,
    View,
    described,
    numbered,
    select,
    swap_rows_and_columns,
)

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPageSeries

# ImageJ composes no more channels than this; writers that label no axes call the frames of a movie channels.
_MOST_CHANNELS = 7


@dataclass(slots=True)
class Images:
    """All images of one size in a TIFF, or in several that follow each other, and how they are said to lie.

    Attributes
    ----------
    source : str
    read : callable
        Gives a box of ``(image, y, x)``.
    close : callable
    count : int
        Images that are there.
    frame_shape : tuple of int
        Rows and columns of an image as it is stored.
    dtype : numpy.dtype
    axes : str
        Letters of the axes that the header gives, the last two those of an image.
    lengths : tuple of int
        Of these axes. Their product is how many images the header announces.
    places : ndarray or None
        Number among `count` of each image that is announced, -1 for one that is absent; None where the first
        `count` of them are there.
    facts : TiffFacts
    kind : str
        How the axes are known: "images" where there is nothing but their order.
    numbers : list
        Numbers that the writer gave the frames, or None, for each image.
    times : list
        When each image was taken, seconds, or None.
    """

    source: str
    read: Callable[[Box], NDArray[Any]]
    close: Callable[[], object]
    count: int
    frame_shape: tuple[int, int]
    dtype: np.dtype[Any]
    axes: str
    lengths: tuple[int, ...]
    facts: TiffFacts
    kind: str = "images"
    places: NDArray[np.int64] | None = None
    numbers: list[int | None] = field(default_factory=list)
    times: list[float | None] = field(default_factory=list)

    @property
    def announced(self) -> int:
        """How many images the header announces."""
        return math.prod(self.lengths[:-2])


def refuse_reading(_box: Box) -> NDArray[Any]:
    """Stand in for a reader that was not opened yet."""
    raise ValueError("no images have been opened")


def do_nothing() -> None:
    """There is no file left to close."""


def find_positions(pages: Sequence[Page]) -> Sequence[int] | None:
    """Where the images begin that lie as they are; None where they need decoding."""
    if any(page.plain_bytes is None for page in pages):
        return None
    starts = [page.starts[0] for page in pages]
    if len(starts) > 1:
        evenly = range(starts[0], starts[-1] + 1, max(1, starts[1] - starts[0]))
        if len(evenly) == len(starts) and all(a == b for a, b in zip(evenly, starts, strict=True)):
            return evenly
    return starts


def make_reader(
    path: Path,
    tiff: TiffFile,
    positions: Sequence[int] | None,
    numbers: Sequence[int],
    shape: tuple[int, int],
    dtype: np.dtype[Any],
    source: str,
) -> tuple[Callable[[Box], NDArray[Any]], Callable[[], object]]:
    """The reader of images: plain bytes where they lie, tifffile where they need decoding."""
    if positions is not None:
        frames = PlainFrames(path, shape, dtype.newbyteorder(tiff.byteorder), positions)
        return frames, frames.close
    from tifffile import TiffPageSeries

    with errors_named(source):
        tiff.pages.useframes = True
        tiff.pages.set_keyframe(numbers[0])
        pages = [tiff.pages[number] for number in numbers]
        series = TiffPageSeries(pages, (len(pages), *shape), dtype, "IYX")
    return read_pages_of(series, shape), do_nothing


def read_pages_of(series: TiffPageSeries, shape: tuple[int, int]) -> Callable[[Box], NDArray[Any]]:
    """Read images through tifffile, which decodes them."""
    # tifffile's page objects share one file position and one decoder cache.
    lock = threading.Lock()

    def read(box: Box) -> NDArray[Any]:
        wanted = list(range(box[0].start, box[0].stop, box[0].step))
        with lock:
            block = series.asarray(key=wanted)
        return block.reshape(len(wanted), *shape)[:, box[1], box[2]]

    return read


def arrange_images(images: Images, choice: Choice) -> Movie:
    """The movie of one channel and plane among images, as their header or the caller says that they lie."""
    source = images.source
    cycle = images.facts.cycle
    if choice.shape is not None:
        axes = choice.axes or "q" * len(choice.shape)
        lengths = _count_again(choice, (*images.lengths[:-2], *images.frame_shape), images.count, source)
        view = select(axes, lengths, choice, source, channel_names=images.facts.channel_names)
        numbers = _find_numbers(images, view)
    elif cycle is not None and images.kind == "images":
        view, numbers = _order_by_cycle(images, choice)
    else:
        axes, lengths = _correct_axes(images, choice)
        view = select(axes, lengths, choice, source, channel_names=images.facts.channel_names)
        numbers = _find_numbers(images, view)
    if view.axes[-2:] not in ("yx", "xy"):
        raise ValueError(
            f"{source} has the axes {described(view.axes, view.lengths)}: a TIFF is made of images, so y and "
            "x must be the last two"
        )
    view = view.with_frames(len(numbers))
    checked_shape(view.shape, source)
    read = numbered(images.read, numbers)
    return file_movie(
        swap_rows_and_columns(read) if view.axes.endswith("xy") else read,
        view=view,
        dtype=images.dtype,
        source=source,
        close=images.close,
        metadata=images.facts.metadata,
    )


def _find_numbers(images: Images, view: View) -> Sequence[int] | NDArray[np.int64]:
    """Numbers of the movie's frames among the images that are there."""
    numbers = view.frame_numbers()
    if images.places is None:
        there = range(numbers.start, min(numbers.stop, images.count), numbers.step)
        if not there:
            raise ValueError(f"{images.source} holds none of the frames that were chosen")
        return there
    places = images.places[numbers.start : numbers.stop : numbers.step]
    places = places[places >= 0]
    if not len(places):
        raise ValueError(f"{images.source} holds none of the frames that were chosen")
    return places


def _order_by_cycle(images: Images, choice: Choice) -> tuple[View, NDArray[np.int64]]:
    """The frames of one channel and plane of images that ScanImage interleaved."""
    source, cycle = images.source, images.facts.cycle
    assert cycle is not None
    count = images.count
    jump = check_frame_numbers(images.numbers, cycle.length)
    if jump:
        choice.incomplete(f"{source} misses frames: {jump}")
        if cycle.planes > 1:
            raise IncompleteRecordingError(
                f"{source} misses frames: {jump}. Which plane a frame behind the gap belongs to is not "
                "known: open the files before and behind the gap one by one"
            )
    if back := check_frame_times(images.times):
        choice.incomplete(f"the images of {source} are not in the order of time: {back}")
    if count % cycle.channels:
        choice.incomplete(
            f"{source} is cut short: it has {count} images of {cycle.channels} interleaved channels, so the "
            "last frame is incomplete"
        )
    if cycle.frames > 1 and count // cycle.channels % cycle.frames:
        choice.incomplete(
            f"{source} has {count // cycle.channels} frames, which is not a whole number of planes of "
            f"{cycle.frames} frames, as its header says"
        )
    axes, leading = cycle.axes(count)
    axes, lengths = f"{axes}yx", (*leading, *images.frame_shape)
    if choice.axes is not None and len(choice.axes) != len(axes):
        kept = [(a, n) for a, n in zip(axes, lengths, strict=True) if n != 1 or a in "tyx"]
        axes, lengths = "".join(a for a, _ in kept), tuple(n for _, n in kept)
    if choice.axes is not None:
        view = select(axes, lengths, choice, source, channel_names=images.facts.channel_names)
        return view, np.asarray(_find_numbers(images, view), np.int64)
    view = select(axes, lengths, choice, source, channel_names=images.facts.channel_names)
    numbers = cycle.numbers(count, view.channel or 0, view.plane or 0)
    if not len(numbers):
        raise ValueError(f"{source} has {count} images, none of them of the plane that was chosen")
    return view, numbers


def _correct_axes(images: Images, choice: Choice) -> tuple[str, tuple[int, ...]]:
    """The axes as the header names them, corrected where writers are known to misname frames."""
    axes, lengths, facts = images.axes, images.lengths, images.facts
    kept = [(a, n) for a, n in zip(axes, lengths, strict=True) if n != 1 or a in "tyx"]
    if choice.axes is not None and len(choice.axes) != len(axes):
        # Axes of length 1 that only the file's own scheme has need no name.
        axes, lengths = "".join(a for a, _ in kept), tuple(n for _, n in kept)
    free = [a for a, _ in kept[:-2] if a != "t" or dict(kept)["t"] > 1]
    if choice.axes is None and axes == "syx" and facts.untold and images.dtype.name != "uint8":
        # Earlier versions of tifffile called three or four images colours where the writer had not told.
        axes = "tyx"
    unlabelled = images.kind == "imagej" and dict(kept).get("t", 1) == 1 and choice.axes is None
    if unlabelled and free == ["c"] and "c" not in choice.indices and dict(kept)["c"] > _MOST_CHANNELS:
        axes = axes.replace("t", "q").replace("c", "t")
    if unlabelled and facts.plain_stack and free == ["z"] and "z" not in choice.indices:
        # ImageJ counts the images of a stack as slices whatever they are, unless it calls it a hyperstack.
        axes = axes.replace("t", "q").replace("z", "t")
    return axes, lengths


def _count_again(choice: Choice, lengths: tuple[int, ...], images: int, source: str) -> tuple[int, ...]:
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
        problem = f"{source} holds {images} images, which shape={shape} does not divide into"
        if shape[0] != -1 or images < known:
            raise ValueError(problem)
        choice.incomplete(problem)
    return tuple(-(-images // known) if n == -1 else n for n in shape)
