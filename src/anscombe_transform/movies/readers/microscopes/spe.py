"""Movies of ``.spe``, of Princeton Instruments' cameras: WinView and WinSpec (version 2), LightField (3).

A header of 4100 bytes, then frame after frame. Version 3 has an XML behind the frames, which says how far
they lie apart [1]_.

References
----------
.. [1] Princeton Instruments, *SPE 3.0 File Format Specification*, 2014: the header in appendix A, the XML in
   chapter 2.
"""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import BinaryIO

import numpy as np

from anscombe_transform.movies.errors import errors_named
from anscombe_transform.movies.metadata import facts
from anscombe_transform.movies.movie import Movie, checked_shape, file_movie
from anscombe_transform.movies.readers.raw import PlainFrames, whole_numbers
from anscombe_transform.movies.selection import Choice, select

_HEADER = 4100
# Where the header holds what: columns, type of the values, rows, frames, version, place of the XML.
_WIDTH, _TYPE, _HEIGHT, _FRAMES, _VERSION, _XML = 42, 108, 656, 1446, 1992, 678
_EXPOSURE = 10
_TYPES = {0: "<f4", 1: "<i4", 2: "<i2", 3: "<u2", 5: "<f8", 6: "u1", 8: "<u4"}


def open_spe(path: Path, choice: Choice) -> Movie:
    """Open a ``.spe``."""
    source = str(path)
    choice.allow(source)
    with errors_named(source), path.open("rb") as file:
        header = file.read(_HEADER)
        if len(header) < _HEADER:
            raise ValueError(f"its header has {_HEADER} bytes, the file {len(header)}")
        (version,) = struct.unpack_from("<f", header, _VERSION)
        (width,) = struct.unpack_from("<H", header, _WIDTH)
        (kind,) = struct.unpack_from("<h", header, _TYPE)
        (height,) = struct.unpack_from("<H", header, _HEIGHT)
        (count,) = struct.unpack_from("<i", header, _FRAMES)
        (place,) = struct.unpack_from("<Q", header, _XML)
        if not (1 <= version < 4 and kind in _TYPES and width and height and count > 0):
            raise ValueError("its header is none of WinView, WinSpec or LightField")
        dtype = np.dtype(_TYPES[kind])
        stride = width * height * dtype.itemsize
        if version >= 3 and place:
            stride, count = _read_layout(file, place, stride, count)
    view = select("tyx", (count, height, width), choice, source)
    if view.axes != "tyx":
        raise ValueError(f"the header says what the axes of {source} are: leave out axes")
    numbers = whole_numbers(path, _HEADER, stride, view.frame_numbers(), choice)
    frames = PlainFrames(
        path, (height, width), dtype, range(_HEADER, _HEADER + (len(numbers) - 1) * stride + 1, stride)
    )
    view = view.with_frames(len(numbers))
    checked_shape(view.shape, source)
    (exposure,) = struct.unpack_from("<f", header, _EXPOSURE)
    return file_movie(
        frames,
        view=view,
        dtype=dtype,
        source=source,
        close=frames.close,
        metadata=facts(format=f"SPE {version:g}", spe={"exposure": exposure if version < 3 else None}),
    )


def _read_layout(file: BinaryIO, place: int, size: int, count: int) -> tuple[int, int]:
    """Bytes from frame to frame, and their number, by the XML of version 3."""
    file.seek(place)
    root = ElementTree.fromstring(file.read())
    frames = [block for block in root.iter() if block.get("type") == "Frame"]
    regions = [block for block in root.iter() if block.get("type") == "Region"]
    if len(frames) != 1 or len(regions) != 1 or int(regions[0].get("count", "1")) != 1:
        raise ValueError(f"it holds {len(regions)} regions of interest: export one of them as TIFF")
    if int(regions[0].get("size", size)) != size:
        raise ValueError(f"its XML tells of frames of {regions[0].get('size')} bytes, its header of {size}")
    return int(frames[0].get("stride", size)), int(frames[0].get("count", count))
