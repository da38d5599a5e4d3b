"""The movie: a shape ``(time, y, x)``, a dtype, and slices that are read when asked for."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Protocol, Self, final, runtime_checkable

import numpy as np
from numpy.typing import DTypeLike, NDArray

from anscombe_transform.movies.errors import errors_named
from anscombe_transform.movies.metadata import json_value
from anscombe_transform.movies.selection import Box, View, described
from anscombe_transform.native.documents import html_table

if TYPE_CHECKING:
    import dask.array

_Read = Callable[[Box], NDArray[Any]]
_Index = int | np.integer[Any] | slice | EllipsisType
Key = _Index | tuple[_Index, ...]

# Bytes of a block of `Movie.to_dask`.
_BLOCK_BYTES = 32 * 2**20


@runtime_checkable
class SupportsMovie(Protocol):
    """Interface of an array that can be a movie: numpy, dask, zarr, h5py and xarray all do."""

    @property
    def shape(self) -> Any:
        """Lengths of the axes ``(time, y, x)``."""

    @property
    def dtype(self) -> Any:
        """Type of one value."""

    def __getitem__(self, key: Any, /) -> Any:
        """Give the part of the array that a tuple of slices names."""


@final
class Movie:
    """A recording ``(time, y, x)`` that reads its frames on request.

    Made by `open_movie`. Slicing gives numpy arrays in the machine's byte order, which may be views of the
    source: don't write into them. A movie may be sliced from several threads at once. It is a context manager
    that closes the file behind it; a movie made of an array leaves the array open.

    Attributes
    ----------
    shape : tuple of int
        Lengths of the axes ``(time, y, x)``.
    dtype : numpy.dtype
        Type of one value: an integer or a floating-point type, in native byte order.
    source : str
        Where the frames come from: a path, with ``::`` and the name inside the file if it has one, or the
        type of the array.
    axes : dict of str to int
        The axes of the recording that the movie was taken from, in their order there, with their lengths:
        ``{"t": 300, "c": 2, "y": 512, "x": 512}``.
    channels : int
        Number of channels that the recording has; the movie is one of them.
    channel : int or None
        Which channel it is; None for a recording without a channel axis.
    plane : int or None
        Which plane it is; None for a recording without a z axis.
    chunk_frames : int
        Frames that the source stores together: reading fewer costs as much. 1 where each frame stands alone.
    metadata : dict
        Metadata of the source, in types of JSON: ``format``, and where it is known
        ``frame_rate`` (Hz), ``pixel_size`` (``{"y": …, "x": …}``, µm), ``acquired`` (ISO 8601),
        ``channel_names``, ``software``, and the essentials of the format under its own name. ``partial`` is
        there where a recording that isn't whole was opened on request: a list of findings.

    Examples
    --------
    >>> import numpy as np
    >>> from anscombe_transform import open_movie
    >>> with open_movie(np.arange(24, dtype=">i2").reshape(4, 2, 3)) as movie:
    ...     print(movie)
    ...     print(movie[-1], movie[1:, 0, 0])
    <Movie (4, 2, 3) int16 from numpy.ndarray>
    [[18 19 20]
     [21 22 23]] [ 6 12 18]
    """

    __slots__ = (
        "_close",
        "_dask",
        "_origin",
        "_read",
        "_reopen",
        "_stored",
        "axes",
        "channel",
        "channels",
        "chunk_frames",
        "dtype",
        "metadata",
        "plane",
        "shape",
        "source",
    )

    def __init__(
        self,
        read: _Read,
        *,
        shape: Sequence[int],
        dtype: DTypeLike,
        source: str,
        close: Callable[[], object] | None = None,
        view: View | None = None,
        metadata: Mapping[str, Any] | None = None,
        chunk_frames: int = 1,
    ) -> None:
        self.shape = checked_shape(shape, source)
        view = View("tyx", self.shape, 0, {}) if view is None else view
        self.dtype = checked_dtype(dtype, source)
        self.source = source
        self.axes = dict(zip(view.axes, view.lengths, strict=True))
        self.channels = view.channels
        self.channel = view.channel
        self.plane = view.plane
        self.chunk_frames = chunk_frames
        self.metadata: dict[str, Any] = json_value(dict(metadata or {}))
        if len(self.axes) > 3 or view.axes != "tyx":
            self.metadata["axes"] = described(view.axes, view.lengths)
        if self.channel is not None and self.channels > 1:
            self.metadata["channel"] = self.channel
        if self.plane is not None and view.lengths[view.axes.index("z")] > 1:
            self.metadata["plane"] = self.plane
        self._read: _Read | None = read
        self._close = close
        # Set by `open_movie`: what another process needs to open the movie again, and the array behind it
        # where that is a dask array.
        self._origin: tuple[Any, dict[str, Any]] | None = None
        self._reopen: Callable[[Any, dict[str, Any]], Movie] | None = None
        self._dask: Callable[[], Any] | None = None
        # Set where the frames are those of one Zarr array: whose record may have checksums of them.
        self._stored: Any = None

    @property
    def origin(self) -> Any:
        """The argument of `open_movie`: the path or the array; None for a movie made otherwise."""
        return None if self._origin is None else self._origin[0]

    @property
    def is_dask(self) -> bool:
        """Whether a dask array is behind it, so that work can be done where its chunks are."""
        return self._dask is not None

    @property
    def ndim(self) -> int:
        """Number of axes, which is always 3."""
        return 3

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that the movie takes in memory when all of it is read."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Key) -> NDArray[Any]:
        if self._read is None:
            raise ValueError(f"the movie {self.source} has been closed: open it again to read from it")
        keys = _full_key(key)
        box: list[slice] = []
        finish: list[int | slice] = []
        for axis, (index, length) in enumerate(zip(keys, self.shape, strict=True)):
            if isinstance(index, slice):
                bounds, turn = _forward(index, length)
                box.append(bounds)
                finish.append(turn)
            else:
                number = _position(index, length, axis)
                box.append(slice(number, number + 1, 1))
                finish.append(0)
        expected = tuple(len(range(s.start, s.stop, s.step)) for s in box)
        if 0 in expected:
            return np.empty(expected, self.dtype)[tuple(finish)]
        block = self._read((box[0], box[1], box[2]))
        if block.shape != expected:
            raise ValueError(
                f"{self.source} gave an array of shape {block.shape} where {expected} was asked for: it does "
                f"not hold the {self.shape} that it announces"
            )
        return block.astype(self.dtype, copy=False)[tuple(finish)]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read the whole movie into memory."""
        values = self[:]
        return values.copy() if copy and dtype is None else np.asarray(values, dtype=dtype)

    def frames(self, start: int, stop: int) -> NDArray[Any]:
        """Read the frames ``start`` to ``stop - 1``.

        Parameters
        ----------
        start, stop : int
            ``0 <= start <= stop <= shape[0]``; other numbers are an error, not cut to fit.

        Returns
        -------
        numpy.ndarray
            Shape ``(stop - start, y, x)``.

        Raises
        ------
        IndexError
            The movie has no such frames.
        """
        if not 0 <= start <= stop <= self.shape[0]:
            raise IndexError(f"frames {start} to {stop} asked of a movie of {self.shape[0]} frames")
        return self[start:stop]

    def blocks(self, frames_per_block: int) -> Iterator[NDArray[Any]]:
        """Read the movie front to back in blocks of frames.

        Parameters
        ----------
        frames_per_block : int
            At least 1. The last block is shorter where the movie's length is not a multiple of it.

        Yields
        ------
        numpy.ndarray
            Shape ``(frames, y, x)``.

        Examples
        --------
        >>> import numpy as np
        >>> from anscombe_transform import open_movie
        >>> [len(block) for block in open_movie(np.zeros((7, 4, 4))).blocks(3)]
        [3, 3, 1]
        """
        if frames_per_block < 1:
            raise ValueError(f"frames_per_block must be at least 1, got {frames_per_block}")
        for start in range(0, self.shape[0], frames_per_block):
            yield self.frames(start, min(start + frames_per_block, self.shape[0]))

    def to_dask(self, frames_per_block: int | None = None) -> dask.array.Array:
        """The movie as a dask array with blocks of whole frames.

        Parameters
        ----------
        frames_per_block : int, optional
            At least 1. By default as many frames as take 32 MB, or the blocks of the dask array that the
            movie was opened from.

        Returns
        -------
        dask.array.Array
            Shape ``(time, y, x)``. Its blocks are read from the movie, which has to stay open; in another
            process the file is opened again.

        Raises
        ------
        ImportError
            dask is missing; the message says how to install it.

        Examples
        --------
        >>> import numpy as np
        >>> from anscombe_transform import open_movie
        >>> open_movie(np.zeros((7, 4, 4))).to_dask(3).chunks
        ((3, 3, 1), (4,), (4,))
        """
        try:
            from dask.array import from_array
        except ImportError as error:
            raise ModuleNotFoundError(
                "to_dask needs the library dask, which is not installed: pip install "
                '"anscombe-transform[dask]"'
            ) from error
        if frames_per_block is not None and frames_per_block < 1:
            raise ValueError(f"frames_per_block must be at least 1, got {frames_per_block}")
        if self._dask is not None:
            array: Any = self._dask()
            lazy: dask.array.Array = (
                array if frames_per_block is None else array.rechunk((frames_per_block, -1, -1))
            )
            return lazy
        if frames_per_block is None:
            frames_per_block = max(1, _BLOCK_BYTES * self.shape[0] // max(1, self.nbytes))
        make: Any = from_array
        lazy = make(
            self,
            chunks=(min(frames_per_block, self.shape[0]), -1, -1),
            # A name of its own: dask would read the whole movie to make one from its content.
            name=f"movie-{uuid.uuid4().hex}",
            meta=np.empty((0, 0, 0), self.dtype),
        )
        return lazy

    def close(self) -> None:
        """Close the file behind the movie; closing twice does no harm."""
        close, self._close, self._read = self._close, None, None
        if close is not None:
            close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _handle(self) -> Movie:
        """The movie once more, without the duty to close the file."""
        guest = Movie.__new__(Movie)
        for name in self.__slots__:
            setattr(guest, name, getattr(self, name))
        guest._read, guest._close = self.__getitem__, None
        return guest

    def __reduce__(self) -> tuple[Any, ...]:
        if self._origin is None or self._reopen is None:
            raise TypeError(f"the movie {self.source} was not made by open_movie, so it can't be pickled")
        return self._reopen, self._origin

    def _repr_html_(self) -> str:
        """Return the movie's properties as a table, for notebooks."""
        rows = [
            ("axes", described("".join(self.axes), tuple(self.axes.values()))),
            ("shape (time, y, x)", " × ".join(map(str, self.shape))),
            ("values", f"{self.dtype}, {self.nbytes / 1e6:,.1f} MB"),
        ]
        rows += [(name.replace("_", " "), str(value)) for name, value in self.metadata.items()]
        return html_table(f"Movie: {self.source}", rows)

    def __repr__(self) -> str:
        state = "" if self._read is not None else "closed "
        state += "partial " if "partial" in self.metadata else ""
        return f"<{state}Movie {self.shape} {self.dtype} from {self.source}>"


def file_movie(
    read: _Read,
    *,
    view: View,
    dtype: DTypeLike,
    source: str,
    close: Callable[[], object] | None = None,
    metadata: Mapping[str, Any] | None = None,
    chunk_frames: int = 1,
) -> Movie:
    """A movie of a file, with reading errors that name frames and file."""

    def named(box: Box) -> NDArray[Any]:
        with errors_named(f"frames {box[0].start} to {box[0].stop - 1} of {source}"):
            return read(box)

    return Movie(
        named,
        shape=view.shape,
        dtype=dtype,
        source=source,
        close=close,
        view=view,
        metadata=metadata,
        chunk_frames=chunk_frames,
    )


def checked_shape(shape: Sequence[int], source: str) -> tuple[int, int, int]:
    """The shape of a movie, which holds values."""
    time, height, width = (int(length) for length in shape)
    if 0 in (time, height, width):
        raise ValueError(f"{source} holds no values: its shape is {(time, height, width)}")
    return time, height, width


def checked_dtype(dtype: DTypeLike, source: str) -> np.dtype[Any]:
    """The type of a movie's values, in native byte order."""
    given = np.dtype(dtype)
    if given.kind not in "iuf":
        raise ValueError(f"{source} holds values of type {given}; a movie holds integers or floats")
    return given.newbyteorder("=")


def _full_key(key: Key) -> tuple[int | np.integer[Any] | slice, ...]:
    """`key` with one index per axis."""
    keys = key if isinstance(key, tuple) else (key,)
    count = sum(k is Ellipsis for k in keys)
    if count > 1:
        raise IndexError("an index can hold one ellipsis (...) only")
    missing = 3 - (len(keys) - count)
    if missing < 0:
        raise IndexError(f"a movie has 3 axes (time, y, x), got {len(keys) - count} indices")
    fill = (slice(None),) * missing
    at = next((i for i, k in enumerate(keys) if k is Ellipsis), len(keys))
    full = (*keys[:at], *fill, *keys[at + 1 :])
    for k in full:
        if isinstance(k, bool | np.bool_) or not isinstance(k, int | np.integer | slice):
            raise IndexError(
                f"a movie is indexed with integers and slices, got {type(k).__name__}; read a block first "
                "and index the array it gives"
            )
    return full  # type: ignore[return-value]  # checked in the loop above


def _position(index: int | np.integer[Any], length: int, axis: int) -> int:
    number = int(index)
    if not -length <= number < length:
        raise IndexError(f"index {number} is outside axis {'tyx'[axis]} of {length} elements")
    return number % length


def _forward(index: slice, length: int) -> tuple[slice, slice]:
    """A slice that runs forwards, which every format can read, and the slice that turns it round."""
    numbers = range(*index.indices(length))
    if not numbers:
        return slice(0, 0, 1), slice(None)
    if numbers.step > 0:
        return slice(numbers[0], numbers[-1] + 1, numbers.step), slice(None)
    return slice(numbers[-1], numbers[0] + 1, -numbers.step), slice(None, None, -1)
