"""Images that a header orders (OME-XML, tifffile's own, vendors'), through tifffile."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anscombe_transform.movies.errors import IncompleteRecordingError, errors_named
from anscombe_transform.movies.readers.tiff.chain import Chain, Page
from anscombe_transform.movies.readers.tiff.headers import TiffFacts
from anscombe_transform.movies.readers.tiff.images import (
    Images,
    do_nothing,
    find_positions,
    make_reader,
    read_pages_of,
    refuse_reading,
)
from anscombe_transform.movies.selection import Choice, choose_entry, described, refuse_colour

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPageSeries


def take_series(
    path: Path,
    tiff: TiffFile,
    chain: Chain,
    facts: TiffFacts,
    number: int | None,
    label: str | None,
    choice: Choice,
) -> Images:
    """The images of a file with a header that orders them (OME-XML, vendors'), through tifffile."""
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
            raise refuse_colour(source, described(axes, lengths))
    dtype = np.dtype(chosen.dtype)
    shape = (int(lengths[-2]), int(lengths[-1]))
    announced = math.prod(lengths[:-2])
    images = Images(
        source=source,
        read=refuse_reading,
        close=do_nothing,
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
        return _take_run(path, tiff, chain, chosen, images, choice)
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
        images.read = read_pages_of(type(chosen)(kept, (len(kept), *shape), dtype, "IYX"), shape)
    images.count, images.places = len(kept), places
    return images


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
    name = choose_entry(path, shapes, asked, "image series")
    return series[int(name)], name


@contextmanager
def _refuse_logged_errors(choice: Choice) -> Iterator[None]:
    """Turn a logged error of tifffile into an exception, or into a finding of a partial recording.

    It opens damaged files as far as it can and logs the damage; frames would be missing without a word.
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


def _take_run(
    path: Path,
    tiff: TiffFile,
    chain: Chain,
    chosen: TiffPageSeries,
    images: Images,
    choice: Choice,
) -> Images:
    """The images of a series with consecutive pages in the file, from the first one on."""
    source, shape, dtype, announced = images.source, images.frame_shape, images.dtype, images.announced
    index = int(chosen.keyframe.index)
    kind = chain.pages[index].kind
    size = math.prod(shape) * dtype.itemsize
    behind = chain.pages[index + 1 : index + announced]
    same = sum(1 for _ in _take_while(behind, lambda page: page.kind == kind)) + 1
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
        positions = find_positions([chain.pages[i] for i in numbers])
    if count < announced:
        words = described(images.axes, images.lengths)
        choice.incomplete(
            f"{source} is cut short: it announces {announced} images, {words}, but holds {count}"
        )
    if not contiguous:
        following = chain.pages[index + count : index + count + 1]
        if following and following[0].kind == kind and choice.series is None:
            more = sum(1 for _ in _take_while(chain.pages[index + count :], lambda page: page.kind == kind))
            if len(list(tiff.series)) == 1:
                raise IncompleteRecordingError(
                    f"the header of {source} announces {announced} images, but {count + more} follow each "
                    f'other in the file. To open all of them as frames: shape={(-1, *shape)}, axes="tyx"'
                )
    images.read, images.close = make_reader(path, tiff, positions, numbers, shape, dtype, source)
    images.count = count
    return images


def _take_while(pages: Sequence[Page], rule: Callable[[Page], bool]) -> Iterator[Page]:
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
