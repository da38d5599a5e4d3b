"""Movies of TIFF files: plain and BigTIFF, OME-TIFF, ImageJ, ScanImage, compressed or not.

Two questions are kept apart. Which images are there: all that the chain of pages leads to (`tiff_pages`),
whatever a header or a library's shortcut says. How they lie: what the header says of channels, planes and
time (`tiff_metadata`), held against the number of images. Where both differ, the file is refused, or opened
as far as it goes on request.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.movies.contents import choose
from anscombe_transform.movies.errors import IncompleteRecordingError, errors_named, missing
from anscombe_transform.movies.movie import Movie, checked_dtype, checked_shape, file_movie
from anscombe_transform.movies.ome_sets import set_of
from anscombe_transform.movies.plain_frames import PlainFrames
from anscombe_transform.movies.selection import Box, Choice, View, described, numbered, select
from anscombe_transform.movies.tiff_metadata import TiffFacts, read_facts
from anscombe_transform.movies.tiff_pages import Chain, Page, check_frame_numbers, read_chain

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPageSeries

# ImageJ composes no more channels than this; writers that label no axes call the frames of a movie channels.
_MOST_CHANNELS = 7
# Kinds of files whose series are made of more than the chain of pages, or in another order.
_SERIES_KINDS = ("shaped", "lsm", "mmstack", "ome", "ndtiff", "fluoview", "stk", "sis", "nih", "mdgel")


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

    @property
    def announced(self) -> int:
        """How many images the header announces."""
        return math.prod(self.lengths[:-2])


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
    images, choice = open_images(path, choice, inner, part=part)
    try:
        return arrange(images, choice)
    except BaseException:
        images.close()
        raise


def open_images(
    path: Path, choice: Choice, inner: str | None = None, *, part: bool = False
) -> tuple[Images, Choice]:
    """Open the images of a TIFF file in the order in which they lie, and what was chosen of them."""
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
        with errors_named(str(path)):
            chain = read_chain(path)
            if chain.problem:
                choice.incomplete(f"{path} is cut short: {chain.problem}")
            if not chain.pages:
                raise ValueError(f"it holds no whole image: {chain.problem or 'there are no pages'}")
            # ScanImage's pages would be computed, not read.
            tiff = cleanup.enter_context(tifffile.TiffFile(path, is_scanimage=False))
            facts = read_facts(tiff)
            members = set_of(tiff, path)
            if members is not None and part:
                # The set is taken apart: of this file the pages count, not what it says of the others.
                tiff = cleanup.enter_context(tifffile.TiffFile(path, is_scanimage=False, is_ome=False))
        if members is not None and not part and members.master != path:
            cleanup.close()
            return open_images(members.master, choice, inner)
        label = inner or choice.dataset
        if choice.shape is None and any(getattr(tiff, f"is_{kind}") for kind in _SERIES_KINDS):
            images = _of_series(path, tiff, chain, facts, number, label, choice)
        else:
            images = _of_pages(path, tiff, chain, facts, number, label, choice)
        checked_dtype(images.dtype, images.source)
        close, stay_open = images.close, cleanup.pop_all()

        def close_all() -> None:
            close()
            stay_open.close()

        images.close = close_all
    return images, choice


def _of_pages(
    path: Path,
    tiff: TiffFile,
    chain: Chain,
    facts: TiffFacts,
    number: int | None,
    label: str | None,
    choice: Choice,
) -> Images:
    """The images of a file whose pages have nothing but their order: plain, ScanImage, ImageJ."""
    groups = _groups(chain.pages)
    keys = list(groups)
    shapes = {str(i): (len(groups[key]), *key[:2]) for i, key in enumerate(keys)}
    name = "0"
    if len(keys) > 1 or number is not None:
        movies = {i: (shape if shape[0] > 1 else shape[1:]) for i, shape in shapes.items()}
        asked = replace(choice, dataset=None if number is None else str(number), axes=None)
        name = choose(path, movies, asked, "image series")
    chosen = groups[keys[int(name)]]
    source = str(path) if label is None and len(keys) == 1 else f"{path}::{label or name}"
    if number is None and choice.series is None:
        _check_others(source, groups, keys[int(name)])
    first, last = chosen[0], chosen[-1]
    pages = [chain.pages[i] for i in chosen]
    axes, kind = "t", "images"
    leading: tuple[int, ...] = (len(pages),)
    if facts.imagej is not None and first == 0 and last - first + 1 == len(chosen):
        axes, leading, kind = _imagej(path, facts, pages, choice)
    with errors_named(source):
        key = tiff.pages[first]
        if len(key.shape) > 2 and not (len(key.shape) == 3 and key.shape[-1] == 1):
            words = described(str(key.axes).lower(), key.shape)
            raise ValueError(
                f"an image has the axes {words}: colour or interleaved samples are not a movie (time, y, x). "
                "Convert it to one grey value per pixel, or pass one channel as an array"
            )
        dtype = np.dtype(key.dtype)
    shape = pages[0].shape
    count = len(pages)
    if kind == "stack in one page":
        start = pages[0].starts[0]
        size = math.prod(shape) * dtype.itemsize
        count = min(math.prod(leading), (path.stat().st_size - start) // size)
        positions: Sequence[int] | None = range(start, start + count * size, size)
    else:
        positions = _positions(pages)
    read, close = _reader(path, tiff, positions, chosen, shape, dtype, source)
    return Images(
        source=source,
        read=read,
        close=close,
        count=count,
        frame_shape=shape,
        dtype=dtype,
        axes=f"{axes}yx",
        lengths=(*leading, *shape),
        facts=facts,
        kind="images" if facts.imagej is None else "imagej",
        numbers=[page.number for page in pages],
    )


def _groups(pages: Sequence[Page]) -> dict[tuple[int, ...], list[int]]:
    """Numbers of the pages by what the pages of a series have in common; smaller copies are left out."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, page in enumerate(pages):
        if not page.reduced:
            groups.setdefault(page.kind, []).append(number)
    if not groups:
        groups[pages[0].kind] = list(range(len(pages)))
    return groups


def _check_others(source: str, groups: dict[tuple[int, ...], list[int]], chosen: tuple[int, ...]) -> None:
    """Refuse a file in which images of another kind lie among those of the movie."""
    mine = groups[chosen]
    for kind, numbers in groups.items():
        if kind == chosen:
            continue
        inside = [number for number in numbers if mine[0] < number < mine[-1]]
        same_size = kind[:2] == chosen[:2]
        if inside or same_size:
            where = (inside or numbers)[0]
            raise ValueError(
                f"{source} holds images of different kinds: image {where} has {kind[0]} × {kind[1]} pixels "
                f"of {kind[2]} bits, compression {kind[4]}, image {mine[0]} {chosen[0]} × {chosen[1]} of "
                f"{chosen[2]} bits, compression {chosen[4]}. To open the {len(mine)} of one kind, say which "
                f"series: series={list(groups).index(chosen)}"
            )


def _imagej(
    path: Path, facts: TiffFacts, pages: Sequence[Page], choice: Choice
) -> tuple[str, tuple[int, ...], str]:
    """Axes before y and x, their lengths and where the images lie, of an ImageJ file.

    ImageJ writes stacks above 4 GB with a single page, behind which the images follow each other.
    """
    assert facts.imagej is not None
    axes, leading = facts.imagej
    announced, held, kind = math.prod(leading), len(pages), "images"
    size = pages[0].plain_bytes
    if held == 1 and announced > 1 and size is not None:
        kind = "stack in one page"
        held = (path.stat().st_size - pages[0].starts[0]) // size
    if choice.shape is not None:
        # The caller counts; that there is one page alone shows how the images lie.
        return "t", (held,), kind
    if announced < held and sum(n > 1 for n in leading) <= 1 and kind == "images":
        # Images were added and the count in the header was left: with one axis there is one way to count.
        choice.note(f"the header of {path} announces {announced} images, and {held} are there")
        longest = leading.index(max(leading))
        return axes, (*leading[:longest], held, *leading[longest + 1 :]), kind
    if announced != held:
        words = described(axes, leading)
        problem = f"the ImageJ header of {path} announces {announced} images ({words}), but there are {held}"
        shape = (-1, *pages[0].shape)
        whole = f'To open all of them as frames: shape={shape}, axes="tyx"'
        if announced < held:
            raise IncompleteRecordingError(f"{problem}. {whole}")
        choice.incomplete(f"{problem}: it is cut short")
    return axes, leading, kind


def _of_series(
    path: Path,
    tiff: TiffFile,
    chain: Chain,
    facts: TiffFacts,
    number: int | None,
    label: str | None,
    choice: Choice,
) -> Images:
    """The images of a file whose header orders them (OME-XML, tifffile's own, vendors'), through tifffile."""
    with errors_named(str(path)), _refuse_logged_errors(choice):
        series = list(tiff.series)
    chosen, name = _choose_series(path, series, number, choice)
    source = str(path) if label is None and len(series) == 1 else f"{path}::{label or name}"
    others = [
        i
        for i, one in enumerate(series)
        if one is not chosen and (one.shape[-2:], one.dtype) == (chosen.shape[-2:], chosen.dtype)
    ]
    if others and number is None:
        raise IncompleteRecordingError(
            f"{source} is one of {len(series)} series, and {len(others)} others hold images of the same "
            f"size. Take it alone by series={name}, or all images of the file as frames: "
            f'shape={(-1, *chosen.shape[-2:])}, axes="tyx"'
        )
    axes, lengths = str(chosen.axes).lower(), tuple(int(n) for n in chosen.shape)
    if not axes.endswith("yx"):
        # A last axis of one sample is no colour.
        if axes.endswith("yxs") and lengths[-1] == 1:
            axes, lengths = axes[:-1], lengths[:-1]
        else:
            raise ValueError(
                f"{source} has the axes {described(axes, lengths)}: colour or interleaved samples are not a "
                "movie (time, y, x). Convert it to one grey value per pixel, or pass one channel as an array"
            )
    dtype = np.dtype(chosen.dtype)
    shape = (int(lengths[-2]), int(lengths[-1]))
    announced = math.prod(lengths[:-2])
    images = Images(
        source=source,
        read=_no_images,
        close=_nothing,
        count=announced,
        frame_shape=shape,
        dtype=dtype,
        axes=axes,
        lengths=lengths,
        facts=facts,
        kind=str(chosen.kind),
    )
    first = chosen.keyframe
    if math.prod(first.shape) > math.prod(shape) and not (first.is_contiguous and first.compression == 1):
        # Pages that hold compressed volumes: there is no smaller part that could be decoded.
        per_page = math.prod(first.shape) // math.prod(shape)
        if len(chain.pages) * per_page < announced:
            raise IncompleteRecordingError(
                f"{source} is cut short: it announces {described(axes, lengths)}, but has "
                f"{len(chain.pages)} pages"
            )
        with errors_named(source):
            stack = chosen.asarray().reshape(announced, *shape)
        images.read = stack.__getitem__
        return images
    own = not chosen.is_multifile and len(chain.pages) > 0
    if own and chosen.kind in ("shaped", "stk", "nih", "fluoview") and len(chosen.pages) in (1, announced):
        return _of_run(path, tiff, chain, chosen, images, choice)
    pages = list(chosen.pages)
    pages += [None] * (announced - len(pages))
    if own and chosen.kind in ("ome", "mmstack") and sum(p is not None for p in pages) < len(chain.pages):
        _check_covered(source, series, chain)
    limit = None if chosen.is_multifile else len(chain.pages)
    there = [
        p is not None and (limit is None or not isinstance(p.index, int) or p.index < limit) for p in pages
    ]
    if not all(there):
        lost = there.index(False)
        choice.incomplete(
            f"{source} misses frame {lost}: a file that belongs to it is absent, or it was stopped. Of "
            f"{announced} images that its header announces {there.count(False)} are not there"
        )
    kept = [page for page, is_there in zip(pages, there, strict=True) if is_there]
    places = np.where(there, np.cumsum(there) - 1, -1)
    if chosen.is_multifile:
        _check_ends(source, kept)
    with errors_named(source):
        images.read = _tiff_pages(type(chosen)(kept, (len(kept), *shape), dtype, "IYX"), shape)
    images.count, images.places = len(kept), places
    return images


def _of_run(
    path: Path,
    tiff: TiffFile,
    chain: Chain,
    chosen: TiffPageSeries,
    images: Images,
    choice: Choice,
) -> Images:
    """The images of a series whose pages follow each other in the file, from the first one on."""
    source, shape, dtype, announced = images.source, images.frame_shape, images.dtype, images.announced
    index = int(chosen.keyframe.index)
    kind = chain.pages[index].kind
    size = math.prod(shape) * dtype.itemsize
    behind = chain.pages[index + 1 : index + announced]
    same = sum(1 for _ in _while(behind, lambda page: page.kind == kind)) + 1
    start = chain.pages[index].starts[0]
    far = same == 1 or chain.pages[index + 1].starts[0] >= start + announced * size
    contiguous = chosen.keyframe.is_contiguous and far and announced > 1
    if contiguous:
        # One page for all: the images follow each other behind it, up to the next page or the end.
        later = [p.starts[0] for p in chain.pages if p.starts[0] > start]
        count = min(announced, (min([*later, path.stat().st_size]) - start) // size)
        numbers: Sequence[int] = [index]
        positions: Sequence[int] | None = range(start, start + count * size, size)
    else:
        count = min(announced, same)
        numbers = range(index, index + count)
        positions = _positions([chain.pages[i] for i in numbers])
    if count < announced:
        words = described(images.axes, images.lengths)
        choice.incomplete(
            f"{source} is cut short: it announces {announced} images, {words}, but holds {count}"
        )
    if not contiguous:
        following = chain.pages[index + count : index + count + 1]
        if following and following[0].kind == kind and choice.series is None:
            more = sum(1 for _ in _while(chain.pages[index + count :], lambda page: page.kind == kind))
            if len(list(tiff.series)) == 1:
                raise IncompleteRecordingError(
                    f"the header of {source} announces {announced} images, but {count + more} follow each "
                    f'other in the file. To open all of them as frames: shape={(-1, *shape)}, axes="tyx"'
                )
    images.read, images.close = _reader(path, tiff, positions, numbers, shape, dtype, source)
    images.count = count
    return images


def _while(pages: Sequence[Page], rule: Callable[[Page], bool]) -> Iterator[Page]:
    for page in pages:
        if not rule(page):
            return
        yield page


def _check_covered(source: str, series: Sequence[TiffPageSeries], chain: Chain) -> None:
    """Refuse a header that leaves images of the file out."""
    covered = {
        page.index for one in series for level in one.levels for page in level.pages if page is not None
    }
    kinds = {chain.pages[i].kind for i in covered if isinstance(i, int) and i < len(chain.pages)}
    left = [i for i, page in enumerate(chain.pages) if i not in covered and page.kind in kinds]
    if left:
        shape = (-1, *chain.pages[left[0]].shape)
        raise IncompleteRecordingError(
            f"the header of {source} leaves {len(left)} of {len(chain.pages)} images out, the first of them "
            f'image {left[0]}. To open all of them as frames: shape={shape}, axes="tyx"'
        )


def _check_ends(source: str, pages: Sequence[Any]) -> None:
    """Refuse pages of other files that point beyond the end of theirs.

    Some decoders (LZW) make up pixels for the bytes that are missing.
    """
    sizes: dict[str, int] = {}
    for page in pages:
        file = page.parent.filehandle
        size = sizes.setdefault(file.path, Path(file.path).stat().st_size)
        ends = [start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
        if max(ends, default=0) > size:
            raise IncompleteRecordingError(
                f"{source} is cut short: page {page.index} of {file.name} ends at byte {max(ends)}, but the "
                f"file has {size} bytes"
            )


def _positions(pages: Sequence[Page]) -> Sequence[int] | None:
    """Where the images begin that lie as they are; None where they need decoding."""
    if any(page.plain_bytes is None for page in pages):
        return None
    starts = [page.starts[0] for page in pages]
    if len(starts) > 1:
        evenly = range(starts[0], starts[-1] + 1, max(1, starts[1] - starts[0]))
        if len(evenly) == len(starts) and all(a == b for a, b in zip(evenly, starts, strict=True)):
            return evenly
    return starts


def _reader(
    path: Path,
    tiff: TiffFile,
    positions: Sequence[int] | None,
    numbers: Sequence[int],
    shape: tuple[int, int],
    dtype: np.dtype[Any],
    source: str,
) -> tuple[Callable[[Box], NDArray[Any]], Callable[[], object]]:
    """What reads images: plain bytes where they lie, tifffile where they need decoding."""
    if positions is not None:
        frames = PlainFrames(path, shape, dtype.newbyteorder(tiff.byteorder), positions)
        return frames, frames.close
    from tifffile import TiffPageSeries

    with errors_named(source):
        tiff.pages.useframes = True
        tiff.pages.set_keyframe(numbers[0])
        pages = [tiff.pages[number] for number in numbers]
        series = TiffPageSeries(pages, (len(pages), *shape), dtype, "IYX")
    return _tiff_pages(series, shape), _nothing


def arrange(images: Images, choice: Choice) -> Movie:
    """The movie of one channel and plane among images, as their header or the caller says that they lie."""
    source = images.source
    cycle = images.facts.cycle
    if choice.shape is not None:
        axes = choice.axes or "q" * len(choice.shape)
        lengths = _recounted(choice, (*images.lengths[:-2], *images.frame_shape), images.count, source)
        view = select(axes, lengths, choice, source, channel_names=images.facts.channel_names)
        numbers = _among(images, view)
    elif cycle is not None and images.kind == "images":
        view, numbers = _of_cycle(images, choice)
    else:
        axes, lengths = _named_axes(images, choice)
        view = select(axes, lengths, choice, source, channel_names=images.facts.channel_names)
        numbers = _among(images, view)
    if view.axes[-2:] not in ("yx", "xy"):
        raise ValueError(
            f"{source} has the axes {described(view.axes, view.lengths)}: a TIFF is made of images, so y and "
            "x must be the last two"
        )
    view = view.with_frames(len(numbers))
    checked_shape(view.shape, source)
    read = numbered(images.read, numbers)
    return file_movie(
        _turned(read) if view.axes.endswith("xy") else read,
        view=view,
        dtype=images.dtype,
        source=source,
        close=images.close,
        metadata=images.facts.metadata,
    )


def _among(images: Images, view: View) -> Sequence[int] | NDArray[np.int64]:
    """Numbers of the movie's frames among the images that are there."""
    numbers = view.frame_numbers()
    if images.places is None:
        there = range(numbers.start, min(numbers.stop, images.count), numbers.step)
        if not there:
            raise ValueError(f"{images.source} holds none of the frames that were chosen")
        return there
    found = images.places[numbers.start : numbers.stop : numbers.step]
    found = found[found >= 0]
    if not len(found):
        raise ValueError(f"{images.source} holds none of the frames that were chosen")
    return found


def _of_cycle(images: Images, choice: Choice) -> tuple[View, NDArray[np.int64]]:
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
        return view, np.asarray(_among(images, view), np.int64)
    view = select(axes, lengths, choice, source, channel_names=images.facts.channel_names)
    numbers = cycle.numbers(count, view.channel or 0, view.plane or 0)
    if not len(numbers):
        raise ValueError(f"{source} has {count} images, none of them of the plane that was chosen")
    return view, numbers


def _turned(read: Callable[[Box], NDArray[Any]]) -> Callable[[Box], NDArray[Any]]:
    """Read images that are stored with x before y."""
    return lambda box: read((box[0], box[2], box[1])).transpose(0, 2, 1)


def _named_axes(images: Images, choice: Choice) -> tuple[str, tuple[int, ...]]:
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
        problem = f"{source} holds {images} images, which shape={shape} does not divide into"
        if shape[0] != -1 or images < known:
            raise ValueError(problem)
        choice.incomplete(problem)
    return tuple(-(-images // known) if n == -1 else n for n in shape)


def _no_images(_box: Box) -> NDArray[Any]:
    """What reads nothing yet."""
    raise ValueError("no images have been opened")


def _nothing() -> None:
    """There is no file left to close."""


def _tiff_pages(series: TiffPageSeries, shape: tuple[int, int]) -> Callable[[Box], NDArray[Any]]:
    # tifffile's page objects share one file position and one decoder cache.
    lock = threading.Lock()

    def read(box: Box) -> NDArray[Any]:
        wanted = list(range(box[0].start, box[0].stop, box[0].step))
        with lock:
            block = series.asarray(key=wanted)
        return block.reshape(len(wanted), *shape)[:, box[1], box[2]]

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


@contextmanager
def _refuse_logged_errors(choice: Choice) -> Iterator[None]:
    """Turn what tifffile logs as an error into one, or into a finding of a partial recording.

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
    for message in messages:
        choice.incomplete(message)
