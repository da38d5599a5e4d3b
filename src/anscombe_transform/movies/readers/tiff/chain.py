"""The chain of pages of a TIFF, followed to its end, and the part of each page that lies in the file.

Libraries take shortcuts: they compute where pages should lie from the first few, or believe a count in a
header. Whatever reads a TIFF here is held against this chain, in which each page names the next one [1]_.

References
----------
.. [1] TIFF revision 6.0, Adobe 1992, section 2; BigTIFF: Joris Van Damme, awaresystems.be, "BigTIFF design".
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

# Tags of a page by their numbers in the specification.
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _FILL_ORDER, _DESCRIPTION = 256, 257, 258, 259, 266, 270
_STRIP_OFFSETS, _SAMPLES, _STRIP_COUNTS, _PLANAR = 273, 277, 279, 284
_PREDICTOR, _TILE_WIDTH, _TILE_OFFSETS, _TILE_COUNTS, _FORMAT = 317, 322, 324, 325, 339
_SUBFILE, _DEPTH = 254, 32997
# Codes of the numbers of a tag: struct's letter by the type in the specification.
_NUMBERS = {1: "B", 3: "H", 4: "I", 16: "Q", 13: "I", 18: "Q"}
_TEXT = 2
# Bytes that are read at once: a page's tags and, mostly, the text and offsets behind them.
_AT_ONCE = 4096
# Of a description this much is looked at for the number of the frame.
_LONGEST_TEXT = 2048

_FRAME_NUMBER = re.compile(rb"[Ff]rame ?[Nn]umbers?\s*=\s*(\d+)")
_FRAME_TIME = re.compile(rb"[Ff]rame ?[Tt]imestamps?(?:_sec|\(s\))\s*=\s*(\d+(?:\.\d*)?)")


@dataclass(frozen=True, slots=True)
class Page:
    """One page.

    Attributes
    ----------
    offset : int
        Where its tags lie.
    kind : tuple
        Common to the pages of one series: size, type and compression.
    starts, counts : tuple of int
        Where its strips or tiles lie, and how many bytes each has.
    reduced : bool
        Whether it is marked as a smaller copy of another page.
    number : int or None
        Number of the frame, where the description tells it, as ScanImage's does.
    time : float or None
        When it was taken, seconds; likewise.
    """

    offset: int
    kind: tuple[int, ...]
    starts: tuple[int, ...]
    counts: tuple[int, ...]
    reduced: bool
    number: int | None
    time: float | None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.kind[0], self.kind[1]

    @property
    def plain_bytes(self) -> int | None:
        """Bytes of the image if they lie as they are, one row after the other; None if not."""
        height, width, bits, _format, compression, samples, order, predictor, tiled, depth = self.kind
        if (compression, samples, order, predictor, tiled, depth) != (1, 1, 1, 1, 0, 1):
            return None
        if bits not in (8, 16, 32, 64):
            return None
        size = height * width * bits // 8
        ends = [start + count for start, count in zip(self.starts, self.counts, strict=True)]
        in_order = all(end == start for end, start in zip(ends, self.starts[1:], strict=False))
        return size if in_order and sum(self.counts) >= size else None


@dataclass(slots=True)
class Chain:
    """The pages that lie whole in a file, in their order, and why there are no more.

    Attributes
    ----------
    pages : list of Page
    problem : str
        The missing part, if the file ends before the chain does; empty for a file that is whole.
    """

    pages: list[Page] = field(default_factory=list)
    problem: str = ""


def read_chain(path: Path) -> Chain:
    """Follow the pages of a TIFF to the end.

    Raises
    ------
    ValueError
        It is no TIFF, or its chain runs in a circle.
    """
    size = path.stat().st_size
    with path.open("rb", buffering=0) as file:
        header = file.read(16)
        if header[:2] not in (b"II", b"MM") or len(header) < 8:
            raise ValueError(f"not a TIFF file: header={header[:4]!r}")
        form = _Form(file, "<" if header[:2] == b"II" else ">", header, size)
        chain = Chain()
        following = form.first
        seen: set[int] = set()
        while following:
            number = len(chain.pages)
            if following in seen:
                raise ValueError(
                    f"page {number} is page {sorted(seen).index(following)} again: it is damaged"
                )
            seen.add(following)
            if following >= size:
                chain.problem = (
                    f"page {number} is announced at byte {following}, but the file has {size} bytes"
                )
                break
            try:
                page, following = form.page(following)
            except (struct.error, ValueError, IndexError, MemoryError) as error:
                chain.problem = f"the tags of page {number} at byte {following} are not whole ({error})"
                break
            chain.problem = _missing_of(page, number, size)
            if chain.problem:
                break
            chain.pages.append(page)
        if not chain.problem:
            chain.problem = _unlinked(chain.pages, form, size)
    return chain


def _missing_of(page: Page, number: int, size: int) -> str:
    """The part of a page's image that the file lacks."""
    if not page.starts:
        return f"page {number} has no image"
    end = max(start + count for start, count in zip(page.starts, page.counts, strict=True))
    if end > size:
        return f"page {number} ends at byte {end}, but the file has {size} bytes"
    if any(count == 0 for count in page.counts) or 0 in page.starts:
        return f"page {number} has parts that were never written"
    height, width, bits, _format, compression, samples, *_rest, depth = page.kind
    needed = math.ceil(width * bits * samples / 8) * height * depth
    if compression == 1 and sum(page.counts) < needed:
        return f"page {number} holds {sum(page.counts)} bytes of the {needed} of its image"
    return ""


def _unlinked(pages: Sequence[Page], form: _Form, size: int) -> str:
    """Whether one more page lies where it would, had the writer not stopped before it linked it."""
    if len(pages) < 3:
        return ""
    step = pages[-1].offset - pages[-2].offset
    place = pages[-1].offset + step
    if step <= 0 or step != pages[-2].offset - pages[-3].offset or place + 8 > size:
        return ""
    try:
        page, _ = form.page(place)
    except (struct.error, ValueError, IndexError, MemoryError):
        return ""
    if page.kind != pages[-1].kind:
        return ""
    return f"page {len(pages)} lies at byte {place}, but page {len(pages) - 1} doesn't lead to it"


class _Form:
    """Numbers and tags of one file, classic or BigTIFF, in its byte order."""

    def __init__(self, file: BinaryIO, order: str, header: bytes, size: int) -> None:
        self._file, self._order, self._size = file, order, size
        (version,) = struct.unpack(f"{order}H", header[2:4])
        if version == 43:
            self._count, self._tag, self._offset, self._inline = "Q", "HHQ8s", "Q", 8
            (self.first,) = struct.unpack(f"{order}Q", header[8:16])
        elif version == 42:
            self._count, self._tag, self._offset, self._inline = "H", "HHI4s", "I", 4
            (self.first,) = struct.unpack(f"{order}I", header[4:8])
        else:
            raise ValueError(f"not a TIFF file: version {version}")
        self._count_size = struct.calcsize(f"{order}{self._count}")
        self._tag_size = struct.calcsize(f"{order}{self._tag}")
        self._offset_size = struct.calcsize(f"{order}{self._offset}")

    def page(self, offset: int) -> tuple[Page, int]:
        """The page with its tags at `offset`, and the offset of the next one; 0 after the last."""
        block = self._read(offset, _AT_ONCE)
        (count,) = struct.unpack_from(f"{self._order}{self._count}", block)
        if not 0 < count < 4096:
            raise ValueError(f"{count} tags")
        end = self._count_size + count * self._tag_size
        if end + self._offset_size > len(block):
            block = self._read(offset, end + self._offset_size)
        tags = {
            code: (kind, number, value)
            for code, kind, number, value in struct.iter_unpack(
                f"{self._order}{self._tag}", block[self._count_size : end]
            )
        }
        (following,) = struct.unpack_from(f"{self._order}{self._offset}", block, end)

        def values(code: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
            return self._values(tags, code, default, offset, block)

        tiled = _TILE_OFFSETS in tags
        bits, samples = values(_BITS, (1,))[0], values(_SAMPLES, (1,))[0]
        height, width, depth = values(_HEIGHT)[0], values(_WIDTH)[0], values(_DEPTH, (1,))[0]
        starts = values(_TILE_OFFSETS if tiled else _STRIP_OFFSETS)
        compression = values(_COMPRESSION, (1,))[0]
        # Some old writers leave the size of a single strip out.
        whole = (height * width * bits * samples // 8,) if len(starts) == 1 and compression == 1 else ()
        counts = values(_TILE_COUNTS if tiled else _STRIP_COUNTS, whole)
        if counts == (0,) and whole:
            counts = whole
        if len(counts) != len(starts):
            raise ValueError(f"{len(starts)} parts of the image with {len(counts)} sizes")
        kind = (
            *(height, width, bits, values(_FORMAT, (1,))[0], compression, samples),
            *(values(_FILL_ORDER, (1,))[0], values(_PREDICTOR, (1,))[0]),
            *(values(_TILE_WIDTH, (0,))[0] if tiled else 0, depth),
        )
        reduced = bool(values(_SUBFILE, (0,))[0] & 1)
        number, time = self._number_and_time(tags, offset, block)
        return Page(offset, kind, starts, counts, reduced, number, time), following

    def _number_and_time(
        self, tags: Mapping[int, Any], offset: int, block: bytes
    ) -> tuple[int | None, float | None]:
        kind, count, value = tags.get(_DESCRIPTION, (0, 0, b""))
        if kind != _TEXT or count <= self._inline:
            return None, None
        text = self._bytes(value, min(count, _LONGEST_TEXT), offset, block)
        number, time = _FRAME_NUMBER.search(text), _FRAME_TIME.search(text)
        return int(number[1]) if number else None, float(time[1]) if time else None

    def _values(
        self, tags: Mapping[int, Any], code: int, default: tuple[int, ...], offset: int, block: bytes
    ) -> tuple[int, ...]:
        if code not in tags:
            return default
        kind, count, value = tags[code]
        if kind not in _NUMBERS:
            raise ValueError(f"tag {code} has numbers of type {kind}")
        letter = _NUMBERS[kind]
        length = count * struct.calcsize(f"={letter}")
        data = value[:length] if length <= self._inline else self._bytes(value, length, offset, block)
        return struct.unpack(f"{self._order}{count}{letter}", data)

    def _bytes(self, place: bytes, length: int, offset: int, block: bytes) -> bytes:
        """The bytes that a tag refers to; mostly they were read along with the tags."""
        (start,) = struct.unpack(f"{self._order}{self._offset}", place)
        inside = start - offset
        if inside >= 0 and inside + length <= len(block):
            return block[inside : inside + length]
        if start + length > self._size:
            raise ValueError(f"{length} bytes at {start}, beyond the end of the file")
        return self._read(start, length)

    def _read(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(length)


def check_frame_numbers(numbers: Sequence[int | None], cycle: int) -> str:
    """The finding of a gap in the numbers of frames; empty where there is none or nothing is known.

    Parameters
    ----------
    numbers : sequence of int or None
        Of each image, as the writer counted. Channels of a frame may share a number.
    cycle : int
        Images after which the steps between the numbers repeat: channels, times planes of a volume.
    """
    if len(numbers) < 2 or any(number is None for number in numbers):
        return ""
    counted = np.asarray(numbers, np.int64)
    steps = counted[1:] - counted[:-1]
    if not steps.any():
        return ""  # a writer that copies its first description into every page says nothing
    if len(steps) <= cycle:
        # Less than two cycles: a number may stay or grow by the smallest step there is.
        wrong = np.flatnonzero((steps < 0) | (steps > steps[steps > 0].min(initial=1)))
    else:
        wrong = np.flatnonzero(steps != _usual(steps, cycle))
    if not len(wrong):
        return ""
    at = int(wrong[0])
    return (
        f"the numbers of the frames jump from {numbers[at]} to {numbers[at + 1]} between images {at} and "
        f"{at + 1}"
    )


def check_frame_times(times: Sequence[float | None]) -> str:
    """The finding of times that go back; empty where they don't, or where not all are known."""
    if len(times) < 2 or any(time is None for time in times):
        return ""
    seconds = np.asarray(times, np.float64)
    back = np.flatnonzero(seconds[1:] < seconds[:-1])
    if not len(back):
        return ""
    at = int(back[0])
    return f"image {at} was taken at {seconds[at]:.6g} s and image {at + 1} at {seconds[at + 1]:.6g} s"


def _usual(steps: NDArray[np.int64], cycle: int) -> NDArray[np.int64]:
    """The step that is most frequent at each place of the cycle."""
    usual = np.empty_like(steps)
    for place in range(cycle):
        values, counts = np.unique(steps[place::cycle], return_counts=True)
        # Of two steps as frequent as each other the smaller one is no gap.
        usual[place::cycle] = values[np.argmax(counts)]
    return usual
