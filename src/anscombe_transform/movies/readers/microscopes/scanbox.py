"""Recordings of Scanbox (Neurolabware): ``.sbx``, values upside down, and a ``.mat`` that describes them.

The digitiser counts downwards, so that the signal is 65535 minus the stored value; this is undone here, as
every reader of the format does, and said in the metadata. The values of two channels take turns pixel by
pixel, those of several planes frame by frame [1]_.

References
----------
.. [1] D. Ringach, "Reading Scanbox files", scanbox.org, and the function ``sbxread`` of Scanbox.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.movies.errors import errors_named
from anscombe_transform.movies.metadata import facts
from anscombe_transform.movies.movie import Movie, checked_shape, file_movie
from anscombe_transform.movies.readers.raw import PlainFrames
from anscombe_transform.movies.selection import Box, Choice, select

_DTYPE = np.dtype("<u2")
# Of versions that don't write the size of a frame.
_SIZE = (512, 796)
_NAMES = {1: ("green", "red"), 2: ("green",), 3: ("red",)}


def open_scanbox(path: Path, choice: Choice, source: str) -> Movie:
    """Open an ``.sbx`` by the ``.mat`` of the same name."""
    choice.allow(source)
    info = _read_info(path)
    height, width = _frame_size(path, info)
    names = _channel_names(path, info)
    planes = _planes(info)
    row = width * len(names)
    frame = height * row * _DTYPE.itemsize
    count, rest = divmod(path.stat().st_size, frame)
    if rest:
        choice.incomplete(
            f"{path} ends within a frame: after {count} whole frames it holds {rest} bytes more"
        )
    if not count:
        raise ValueError(f"{path} holds no whole frame of {frame} bytes")
    announced = int(_number(info, "config", "frames") or 0)
    if count < announced:
        choice.incomplete(
            f"{path} holds {count} frames, but its .mat announces {announced}: it was stopped early"
        )
    lengths = (-(-count // planes), planes, len(names), height, width)
    view = select("tzcyx", lengths, choice, source, channel_names=names)
    if view.axes != "tzcyx":
        raise ValueError(f"the .mat says what the axes of {source} are: leave out axes")
    numbers = range(view.plane or 0, count, planes)
    if not numbers:
        raise ValueError(f"{path} holds no frame of the plane that was chosen")
    frames = PlainFrames(
        path, (height, row), _DTYPE, range(numbers[0] * frame, numbers[-1] * frame + 1, planes * frame)
    )
    channel, channels = view.channel or 0, len(names)

    def read(box: Box) -> NDArray[Any]:
        columns = range(width)[box[2]]
        first, last = columns[0] * channels + channel, columns[-1] * channels + channel
        stored = frames((box[0], box[1], slice(first, last + 1, columns.step * channels)))
        signal: NDArray[Any] = np.invert(stored)  # 65535 - stored
        return signal

    view = view.with_frames(len(numbers))
    checked_shape(view.shape, source)
    return file_movie(
        read,
        view=view,
        dtype=_DTYPE,
        source=source,
        close=frames.close,
        metadata=_metadata(info, names, planes),
    )


def _read_info(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat

    described = path.with_suffix(".mat")
    if not described.is_file():
        raise ValueError(
            f"{path} needs {described.name} beside it, which describes it, and which is absent. To open it "
            f'by hand: dtype="<u2" with shape; its values are 65535 minus the signal'
        )
    with errors_named(str(described)):
        content = loadmat(described, simplify_cells=True)
        info = content.get("info")
        if not isinstance(info, dict):
            raise ValueError("it holds no structure info")
    return info


def _number(info: Any, *names: str) -> float | None:
    """A number of a structure; None where it, or the structure around it, is absent."""
    for name in names:
        info = info.get(name) if isinstance(info, dict) else None
    try:
        return None if info is None else float(info)
    except (TypeError, ValueError):
        return None


def _frame_size(path: Path, info: dict[str, Any]) -> tuple[int, int]:
    """Rows and columns: the size must agree with the digitiser's record of a frame."""
    size = np.atleast_1d(np.asarray(info.get("sz", _SIZE))).astype(int)
    if size.shape != (2,) or (size < 1).any():
        raise ValueError(f"{path.with_suffix('.mat')} has the frame size {info.get('sz')!r}, which is none")
    height, width = int(size[0]), int(size[1])
    records = _number(info, "recordsPerBuffer")
    # Scanning both ways, a record of the digitiser is two lines.
    if records and height not in (int(records), int(2 * records)):
        raise ValueError(
            f"{path.with_suffix('.mat')} contradicts itself: frames of {height} rows (sz), but "
            f"{int(records)} records in a buffer"
        )
    return height, width


def _channel_names(path: Path, info: dict[str, Any]) -> tuple[str, ...]:
    """Names of the channels that the file holds."""
    count = _number(info, "chan", "nchan") or _number(info, "nchan")
    if count is not None:  # from version 3 on
        return tuple(f"PMT{number}" for number in range(int(count)))
    channels = _number(info, "channels")
    if channels is None or int(channels) not in _NAMES:
        raise ValueError(
            f"{path.with_suffix('.mat')} doesn't say which channels were recorded: channels is "
            f"{info.get('channels')!r}, and 1 (both), 2 or 3 are known"
        )
    return _NAMES[int(channels)]


def _planes(info: dict[str, Any]) -> int:
    """How many planes take turns: the positions of the tunable lens."""
    volumes = info.get("volscan")
    if volumes is not None and not int(volumes):
        return 1
    for name in ("otwave", "etl_table"):
        positions = np.atleast_1d(np.asarray(info.get(name, ())))
        if len(positions) > 1:
            return len(positions)
    return 1


def _metadata(info: dict[str, Any], names: tuple[str, ...], planes: int) -> dict[str, Any]:
    lines, resonance = _number(info, "config", "lines"), _number(info, "resfreq")
    mode = {0.0: "bidirectional", 1.0: "unidirectional"}.get(_number(info, "scanmode") or 0.0)
    rate = None
    if lines and resonance and "scanmode" in info:
        rate = resonance / lines * (2 if mode == "bidirectional" else 1) / planes
    return facts(
        format="Scanbox",
        frame_rate=rate,
        channel_names=list(names),
        software=f"Scanbox {info['scanbox_version']}" if "scanbox_version" in info else None,
        scanbox={
            "signal": "65535 - stored value",
            "scanmode": mode if "scanmode" in info else None,
            "objective": info.get("objective"),
            "magnification": _number(info, "config", "magnification"),
            "frames_announced": _number(info, "config", "frames"),
        },
    )
