"""Opens a TIFF: follows its pages, reads its header, and takes the images of one series."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from anscombe_transform.movies.errors import IncompleteRecordingError, errors_named, missing
from anscombe_transform.movies.movie import Movie, checked_dtype
from anscombe_transform.movies.readers.tiff.chain import Chain, Page, read_chain
from anscombe_transform.movies.readers.tiff.headers import TiffFacts, read_facts
from anscombe_transform.movies.readers.tiff.images import Images, arrange_images, find_positions, make_reader
from anscombe_transform.movies.readers.tiff.ome import set_of
from anscombe_transform.movies.readers.tiff.series import take_series
from anscombe_transform.movies.selection import Choice, choose_entry, described, refuse_colour

if TYPE_CHECKING:
    from tifffile import TiffFile

# Kinds of files whose series are made of more than the chain of pages, or in another order.
_SERIES_KINDS = ("shaped", "lsm", "mmstack", "ome", "ndtiff", "fluoview", "stk", "sis", "nih", "mdgel")


def open_tiff(path: Path, choice: Choice, inner: str | None = None, *, part: bool = False) -> Movie:
    """Open a series of a TIFF file.

    Parameters
    ----------
    path : Path
    choice : Choice
    inner : str, optional
        Text after ``::``: number of the series and index along axes, ``"1,C=0"``.
    part : bool, optional
        Whether it is a file of a sequence, where a single image is a movie of one frame.
    """
    images, choice = open_images(path, choice, inner, part=part)
    try:
        return arrange_images(images, choice)
    except BaseException:
        images.close()
        raise


def open_images(
    path: Path, choice: Choice, inner: str | None = None, *, part: bool = False
) -> tuple[Images, Choice]:
    """Open the images of a TIFF file in the order in which they lie, and the choice among them."""
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
            chain = _read_pages(path, choice)
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
            images = take_series(path, tiff, chain, facts, number, label, choice)
        else:
            images = _take_pages(path, tiff, chain, facts, number, label, choice)
        checked_dtype(images.dtype, images.source)
        close, stay_open = images.close, cleanup.pop_all()

        def close_all() -> None:
            close()
            stay_open.close()

        images.close = close_all
    return images, choice


def open_pages(path: Path, choice: Choice) -> Images:
    """Open the images of a file in their order, regardless of its header."""
    from tifffile import TiffFile

    with errors_named(str(path)):
        chain = _read_pages(path, choice)
        tiff = TiffFile(path, is_scanimage=False, is_ome=False)
    try:
        images = _take_pages(path, tiff, chain, TiffFacts({}), None, None, choice)
    except BaseException:
        tiff.close()
        raise
    close = images.close

    def close_all() -> None:
        close()
        tiff.close()

    images.close = close_all
    return images


def _read_pages(path: Path, choice: Choice) -> Chain:
    """The chain of pages of a file; refused where it is cut short, unless a part is asked for."""
    chain = read_chain(path)
    if chain.problem:
        choice.incomplete(f"{path} is cut short: {chain.problem}")
    if not chain.pages:
        raise ValueError(f"it holds no whole image: {chain.problem or 'there are no pages'}")
    return chain


def _take_pages(
    path: Path,
    tiff: TiffFile,
    chain: Chain,
    facts: TiffFacts,
    number: int | None,
    label: str | None,
    choice: Choice,
) -> Images:
    """The images of a file with pages in plain order: plain, ScanImage, ImageJ."""
    groups = _group_pages(chain.pages)
    keys = list(groups)
    shapes = {str(i): (len(groups[key]), *key[:2]) for i, key in enumerate(keys)}
    name = "0"
    if len(keys) > 1 or number is not None:
        movies = {i: (shape if shape[0] > 1 else shape[1:]) for i, shape in shapes.items()}
        asked = replace(choice, dataset=None if number is None else str(number), axes=None)
        name = choose_entry(path, movies, asked, "image series")
    chosen = groups[keys[int(name)]]
    source = str(path) if label is None and len(keys) == 1 else f"{path}::{label or name}"
    if number is None and choice.series is None:
        _check_others(source, groups, keys[int(name)])
    first, last = chosen[0], chosen[-1]
    pages = [chain.pages[i] for i in chosen]
    axes, kind = "t", "images"
    leading: tuple[int, ...] = (len(pages),)
    if facts.imagej is not None and first == 0 and last - first + 1 == len(chosen):
        axes, leading, kind = _order_imagej(path, facts, pages, choice)
    with errors_named(source):
        key = tiff.pages[first]
        if len(key.shape) > 2 and not (len(key.shape) == 3 and key.shape[-1] == 1):
            raise refuse_colour("an image", described(str(key.axes).lower(), key.shape))
        dtype = np.dtype(key.dtype)
    shape = pages[0].shape
    count = len(pages)
    if kind == "stack in one page":
        start = pages[0].starts[0]
        size = math.prod(shape) * dtype.itemsize
        count = min(math.prod(leading), (path.stat().st_size - start) // size)
        positions: Sequence[int] | None = range(start, start + count * size, size)
    else:
        positions = find_positions(pages)
    read, close = make_reader(path, tiff, positions, chosen, shape, dtype, source)
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
        times=[page.time for page in pages],
    )


def _group_pages(pages: Sequence[Page]) -> dict[tuple[int, ...], list[int]]:
    """Numbers of the pages of each series, by size and type; smaller copies are left out."""
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


def _order_imagej(
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
