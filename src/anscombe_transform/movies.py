"""Any recording as one thing: shape ``(time, y, x)``, a dtype, and slices that are read when asked for.

`open_movie` takes the name of a file or an array and gives a `Movie`. Nothing is loaded before it is sliced,
so a recording larger than memory is an ordinary one. What is not a movie (a single image, a channel axis, a
file cut short) is refused with a sentence that says what would be one: a wrong axis or a missing frame would
pass unseen through everything that follows.

Notes
-----
Frames that lie in a file uncompressed are read, not memory-mapped. Mapped pages count as memory of the
process, and a mapped file that shrinks kills it; a read gives an error, and costs the same.
"""

from __future__ import annotations

import logging
import math
import os
import struct
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import EllipsisType, TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, Self, final, runtime_checkable

import numpy as np
from numpy.typing import DTypeLike, NDArray

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPageSeries

__all__ = ["Movie", "SupportsMovie", "open_movie"]

_TIFF = (".tif", ".tiff", ".btf", ".tf2", ".tf8")
_HDF5 = (".h5", ".hdf5", ".hdf", ".he5", ".nwb")
# ImageJ composes no more channels than this; writers that label no axes call the frames of a movie channels.
_MOST_CHANNELS = 7
_ZARR_FILES = ("zarr.json", ".zarray", ".zgroup")
_FORMATS = (
    f"TIFF ({', '.join(_TIFF)}), HDF5 ({', '.join(_HDF5)}), .npy, .npz and folders written by Zarr (V2 or V3)"
)

# Bounds of one read, already resolved: three slices with 0 <= start <= stop <= length and step >= 1.
_Box = tuple[slice, slice, slice]
_Read = Callable[[_Box], NDArray[Any]]
_Index = int | np.integer[Any] | slice | EllipsisType
Key = _Index | tuple[_Index, ...]


@runtime_checkable
class SupportsMovie(Protocol):
    """What an array must offer to be taken for a movie: numpy, dask, zarr, h5py and xarray all do."""

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
    """A recording ``(time, y, x)`` whose frames are read when they are asked for.

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

    Examples
    --------
    >>> import numpy as np
    >>> with open_movie(np.arange(24, dtype=">i2").reshape(4, 2, 3)) as movie:
    ...     print(movie)
    ...     print(movie[-1], movie[1:, 0, 0])
    <Movie (4, 2, 3) int16 from numpy.ndarray>
    [[18 19 20]
     [21 22 23]] [ 6 12 18]
    """

    __slots__ = ("_close", "_read", "dtype", "shape", "source")

    def __init__(
        self,
        read: _Read,
        *,
        shape: Sequence[int],
        dtype: DTypeLike,
        source: str,
        close: Callable[[], object] | None = None,
    ) -> None:
        self.shape = _movie_shape(shape, source)
        self.dtype = _movie_dtype(dtype, source)
        self.source = source
        self._read: _Read | None = read
        self._close = close

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
        block = self._read((box[0], box[1], box[2]))
        expected = tuple(len(range(s.start, s.stop, s.step)) for s in box)
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
        >>> [len(block) for block in open_movie(np.zeros((7, 4, 4))).blocks(3)]
        [3, 3, 1]
        """
        if frames_per_block < 1:
            raise ValueError(f"frames_per_block must be at least 1, got {frames_per_block}")
        for start in range(0, self.shape[0], frames_per_block):
            yield self.frames(start, min(start + frames_per_block, self.shape[0]))

    def close(self) -> None:
        """Close the file behind the movie; closing twice does no harm."""
        close, self._close, self._read = self._close, None, None
        if close is not None:
            close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "" if self._read is not None else "closed "
        return f"<{state}Movie {self.shape} {self.dtype} from {self.source}>"


def open_movie(source: str | os.PathLike[str] | SupportsMovie | Movie, *, key: str | None = None) -> Movie:
    """Open a recording without loading it.

    Parameters
    ----------
    source : path or array
        A file, by its suffix:

        - TIFF, BigTIFF, OME-TIFF, ImageJ hyperstacks, ScanImage: compressed or not;
        - HDF5 and NWB: the one 3-D dataset in it, or the one that `key` names;
        - a folder written by Zarr, format 2 or 3: an array, or the one 3-D array of a group;
        - ``.npy`` and ``.npz``. A compressed ``.npz`` can't be read in parts, so it is loaded whole.

        Or an array with ``shape``, ``dtype`` and slicing: numpy, dask, zarr, h5py, xarray.
    key : str, optional
        What to take from a file that holds several things; ``"file.h5::/dataset"`` says the same. For HDF5,
        Zarr and ``.npz`` the name of the dataset. For TIFF the number of the image series, and one index for
        every axis that is not time, y or x: ``"C=0"``, ``"1"``, ``"1,C=0,Z=3"``. A lone axis before y and x
        is time, whatever the file calls it, except up to 7 channels (``"C=:"`` takes those as frames).

    Returns
    -------
    Movie
        Shape ``(time, y, x)``, integers or floats. Close it, or use it in a ``with`` statement.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file's kind is unknown, it is damaged or cut short, what it holds is not a movie, or it holds
        several and `key` doesn't say which.
    TypeError
        `source` is neither a path nor an array.
    ImportError
        The format's library is missing; the message says how to install it.

    Examples
    --------
    >>> import numpy as np
    >>> open_movie(np.zeros((10, 64, 48), "uint16"))
    <Movie (10, 64, 48) uint16 from numpy.ndarray>
    """
    if isinstance(source, str | os.PathLike):
        return _open_path(os.fspath(source), key)
    if key is not None:
        raise ValueError(
            f"key={key!r} selects inside a file, but the source is an array: index the array instead"
        )
    if isinstance(source, Movie):
        # A second handle without the file: closing it must not close the movie that the caller still holds.
        return Movie(lambda box: source[box], shape=source.shape, dtype=source.dtype, source=source.source)
    return _open_array(source)


# --- arrays -------------------------------------------------------------------------------------------------


def _open_array(array: Any) -> Movie:
    if not isinstance(array, SupportsMovie):
        raise TypeError(
            "a movie is opened from a path or from an array with shape, dtype and slicing "
            f"(numpy, dask, zarr, h5py, xarray), got {type(array).__name__}"
        )
    if isinstance(array, np.ma.MaskedArray):
        raise ValueError(
            "masked arrays are not taken, as the mask would be lost: fill the masked values first"
        )
    kind = type(array)
    return Movie(
        lambda box: np.asarray(array[box]),
        shape=array.shape,
        dtype=array.dtype,
        source=f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}",
    )


def _movie_shape(shape: Sequence[int], source: str) -> tuple[int, int, int]:
    lengths = tuple(int(length) for length in shape)
    if len(lengths) == 2:
        raise ValueError(
            f"{source} is a single image of shape {lengths}, which has no time axis; a movie has the axes "
            "(time, y, x) and at least two frames of the same scene"
        )
    if len(lengths) != 3:
        raise ValueError(
            f"{source} has {len(lengths)} axes, shape {lengths}; a movie has three, (time, y, x). Select "
            "one channel or plane first and pass the result, for instance array[:, 0] where axis 1 is the "
            "channel (dask.array.from_array(array)[:, 0] does it without loading it)"
        )
    if 0 in lengths:
        raise ValueError(f"{source} holds no values: its shape is {lengths}")
    return lengths[0], lengths[1], lengths[2]


def _movie_dtype(dtype: DTypeLike, source: str) -> np.dtype[Any]:
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


# --- files --------------------------------------------------------------------------------------------------


def _open_path(name: str, key: str | None) -> Movie:
    if key is None and "::" in name and not Path(name).exists():
        name, _, key = name.rpartition("::")
    path = Path(name)
    suffix = path.suffix.lower()
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    if path.is_dir():
        return _open_zarr(path, key)
    if suffix in _TIFF:
        return _open_tiff(path, key)
    if suffix in _HDF5:
        return _open_hdf5(path, key)
    if suffix == ".npy":
        if key is not None:
            raise ValueError(f"{path} holds one array, so there is nothing for {key!r} to select")
        return _open_npy(path)
    if suffix == ".npz":
        return _open_npz(path, key)
    raise ValueError(f"cannot tell what {path} is from the suffix {suffix!r}; known are {_FORMATS}")


@contextmanager
def _errors_named(what: str) -> Iterator[None]:
    """Give whatever a format's library raises about a damaged file as one ValueError that names the file."""
    try:
        yield
    except (MemoryError, ImportError):
        raise
    except Exception as error:
        reason = str(error) or type(error).__name__
        if "imagecodecs" in reason:
            reason += ': pip install "anscombe-transform[io]"'
        raise ValueError(f"cannot read {what}: {reason}") from error


def _file_movie(
    read: _Read, *, shape: Sequence[int], dtype: DTypeLike, source: str, close: Callable[[], object] | None
) -> Movie:
    """A movie of a file, whose reading errors say which frames of which file."""

    def named(box: _Box) -> NDArray[Any]:
        with _errors_named(f"frames {box[0].start} to {box[0].stop - 1} of {source}"):
            return read(box)

    return Movie(named, shape=shape, dtype=dtype, source=source, close=close)


def _missing(library: str, path: Path) -> ModuleNotFoundError:
    return ModuleNotFoundError(
        f'{path} needs the library {library}, which is not installed: pip install "anscombe-transform[io]"'
    )


class _PlainFrames:
    """Frames that lie uncompressed in a file, each ``nbytes`` after the one before."""

    def __init__(
        self, path: Path, offset: int, frame_shape: tuple[int, int], dtype: np.dtype[Any], numbers: range
    ) -> None:
        self._offset = offset
        self._height, self._width = frame_shape
        self._dtype = dtype
        self._numbers = numbers
        self._row = self._width * dtype.itemsize
        self._frame = self._height * self._row
        needed = offset + (max(numbers) + 1) * self._frame
        size = path.stat().st_size
        if size < needed:
            held = max(0, size - offset) // self._frame
            raise ValueError(
                f"{path} is cut short: it announces {max(numbers) + 1} frames, which end at byte {needed}, "
                f"but it has {size} bytes and holds {held} whole frames"
            )
        # One position is shared by all threads, so a seek and its read must not be parted.
        self._lock = threading.Lock()
        self._file: BinaryIO = path.open("rb", buffering=0)

    def close(self) -> None:
        self._file.close()

    def __call__(self, box: _Box) -> NDArray[Any]:
        frames = self._numbers[box[0]]
        rows = range(self._height)[box[1]]
        if not frames or not rows:
            return np.empty((len(frames), len(rows), self._width), self._dtype)[:, :, box[2]]
        height = rows[-1] + 1 - rows[0]
        block = np.empty((len(frames), height, self._width), self._dtype)
        if frames.step == 1 and height == self._height:
            self._fill(block, frames[0] * self._frame)
        else:
            for target, number in zip(block, frames, strict=True):
                self._fill(target, number * self._frame + rows[0] * self._row)
        return block[:, :: rows.step, box[2]]

    def _fill(self, target: NDArray[Any], position: int) -> None:
        """Read the bytes at `position` after the first frame into a C-contiguous array."""
        view = memoryview(target.reshape(-1).view(np.uint8).data)
        with self._lock:
            self._file.seek(self._offset + position)
            done = 0
            while done < len(view):
                count = self._file.readinto(view[done:])  # type: ignore[attr-defined]  # raw files have it
                if not count:
                    raise ValueError(f"the file ends {len(view) - done} bytes too early")
                done += count


# --- npy, npz -----------------------------------------------------------------------------------------------


def _open_npy(path: Path) -> Movie:
    with _errors_named(str(path)), path.open("rb") as file:
        shape, fortran, dtype = _npy_header(file)
        offset = file.tell()
    return _open_npy_values(path, offset, shape, fortran, dtype, str(path))


def _open_npy_values(
    path: Path, offset: int, shape: tuple[int, ...], fortran: bool, dtype: np.dtype[Any], source: str
) -> Movie:
    lengths = _movie_shape(shape, source)
    _movie_dtype(dtype, source)
    if fortran:
        # Time varies fastest: every frame is spread over the whole file, which only a mapping reads in parts.
        with _errors_named(source):
            mapped = np.memmap(path, dtype, "r", offset, lengths, order="F")
        return _file_movie(
            lambda box: np.array(mapped[box]), shape=lengths, dtype=dtype, source=source, close=None
        )
    frames = _PlainFrames(path, offset, lengths[1:], dtype, range(lengths[0]))
    return _file_movie(frames, shape=lengths, dtype=dtype, source=source, close=frames.close)


def _npy_header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        header = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        header = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"version {version} of the .npy format holds structured arrays, not numbers")
    shape, fortran, dtype = header
    if dtype.hasobject:
        raise ValueError("it holds Python objects, not numbers")
    return shape, fortran, dtype


def _open_npz(path: Path, key: str | None) -> Movie:
    shapes: dict[str, tuple[int, ...]] = {}
    with _errors_named(str(path)), zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            if member.endswith(".npy"):
                with archive.open(member) as file:
                    shapes[member.removesuffix(".npy")] = _npy_header(file)[0]
    name = _choose(path, shapes, key, "array")
    source = f"{path}::{name}"
    with _errors_named(source), zipfile.ZipFile(path) as archive:
        member = f"{name}.npy"
        info = archive.getinfo(member)
        if info.compress_type == zipfile.ZIP_STORED:
            with archive.open(member) as file:
                shape, fortran, dtype = _npy_header(file)
                header_size = file.tell()
            offset = _stored_offset(path, info) + header_size
            values = None
        else:
            with archive.open(member) as file:
                values = np.lib.format.read_array(file, allow_pickle=False)
    if values is None:
        return _open_npy_values(path, offset, shape, fortran, dtype, source)
    return _file_movie(
        lambda box: values[box], shape=values.shape, dtype=values.dtype, source=source, close=None
    )


def _stored_offset(path: Path, info: zipfile.ZipInfo) -> int:
    """Where the bytes of an uncompressed member begin: after its local header, whose length varies."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        header = file.read(30)
    name_length, extra_length = struct.unpack("<HH", header[26:30])
    return int(info.header_offset + 30 + name_length + extra_length)


def _choose(path: Path, shapes: dict[str, tuple[int, ...]], key: str | None, thing: str) -> str:
    """The name of the one 3-D thing in a file, or of the one that was asked for."""
    listing = ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "nothing"
    if key is not None:
        found = [name for name in shapes if name.strip("/") == key.strip("/")]
        if not found:
            raise ValueError(f"{path} has no {thing} {key!r}; it holds {listing}")
        return found[0]
    movies = [name for name, shape in shapes.items() if len(shape) == 3]
    if len(movies) == 1:
        return movies[0]
    if not movies and len(shapes) == 1:
        return next(iter(shapes))  # Movie says what is wrong with its shape
    if not movies:
        raise ValueError(f"{path} holds no {thing} with the three axes (time, y, x); it holds {listing}")
    listing = ", ".join(f"{name} {shapes[name]}" for name in movies)
    raise ValueError(
        f'{path} holds {len(movies)} movies: {listing}. Say which, for instance "{path}::{movies[0]}"'
    )


# --- HDF5, Zarr ---------------------------------------------------------------------------------------------


def _open_hdf5(path: Path, key: str | None) -> Movie:
    try:
        import h5py
    except ImportError as error:
        raise _missing("h5py", path) from error
    with ExitStack() as cleanup:
        with _errors_named(str(path)):
            file = cleanup.enter_context(h5py.File(path, "r"))
            shapes: dict[str, tuple[int, ...]] = {}

            def note(name: str, item: Any) -> None:
                if isinstance(item, h5py.Dataset) and item.shape is not None and item.dtype.kind in "iuf":
                    shapes[f"/{name}"] = item.shape

            file.visititems(note)
            # Soft and external links are not visited, but a name that is asked for may be one.
            if key is not None and isinstance(file.get(key), h5py.Dataset):
                shapes.setdefault(f"/{key.strip('/')}", file[key].shape)
        name = _choose(path, shapes, key, "dataset")
        dataset = file[name]
        movie = _file_movie(
            lambda box: np.asarray(dataset[box]),
            shape=dataset.shape,
            dtype=dataset.dtype,
            source=f"{path}::{name}",
            close=file.close,
        )
        cleanup.pop_all()
    return movie


def _open_zarr(path: Path, key: str | None) -> Movie:
    if not any((path / name).is_file() for name in _ZARR_FILES):
        raise ValueError(
            f"{path} is a folder, but not one written by Zarr (it has no {', '.join(_ZARR_FILES[:-1])} or "
            f"{_ZARR_FILES[-1]}); known are {_FORMATS}"
        )
    import zarr

    with _errors_named(str(path)):
        node: Any = zarr.open(str(path), mode="r")
        arrays = {} if hasattr(node, "dtype") else dict(_zarr_arrays(node))
    if hasattr(node, "dtype"):
        if key is not None:
            raise ValueError(f"{path} is one Zarr array, so there is nothing for {key!r} to select")
        array, source = node, str(path)
    else:
        # Zarr lists the members of a group in no order.
        name = _choose(path, {name: tuple(arrays[name].shape) for name in sorted(arrays)}, key, "array")
        array, source = arrays[name], f"{path}::{name}"
    return _file_movie(
        lambda box: np.asarray(array[box]), shape=array.shape, dtype=array.dtype, source=source, close=None
    )


def _zarr_arrays(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All arrays under a group with their paths, by the two methods that zarr 2 and 3 have in common."""
    for name, array in group.arrays():
        yield f"{prefix}{name}", array
    for name, child in group.groups():
        yield from _zarr_arrays(child, f"{prefix}{name}/")


# --- TIFF ---------------------------------------------------------------------------------------------------


def _open_tiff(path: Path, key: str | None) -> Movie:
    try:
        import tifffile
    except ImportError as error:
        raise _missing("tifffile", path) from error
    number, indices = _parse_tiff_key(key)
    with ExitStack() as cleanup:
        with _errors_named(str(path)), _refuse_logged_errors():
            tiff = cleanup.enter_context(tifffile.TiffFile(path))
            series = list(tiff.series)
            _check_last_page(tiff)
        chosen, name = _choose_series(path, series, number)
        source = str(path) if key is None and len(series) == 1 else f"{path}::{key if key else name}"
        numbers, axes = _frame_numbers(chosen, indices, source)
        shape = (len(numbers), *(int(n) for n in chosen.keyframe.shape[-2:]))
        _movie_dtype(chosen.dtype, source)
        with _errors_named(source):
            offset = chosen.dataoffset
        if offset is None and len(chosen) * math.prod(chosen.keyframe.shape) != math.prod(chosen.shape):
            raise ValueError(f"{source} is damaged: it announces {axes}, but has {len(chosen)} pages")
        read: _Read
        close: Callable[[], object]
        if offset is not None:
            dtype = np.dtype(f"{tiff.byteorder}{chosen.dtype.char}")
            frames = _PlainFrames(path, offset, (shape[1], shape[2]), dtype, numbers)
            read, close = frames, frames.close
        elif len(chosen) == _page_count(chosen):
            _check_pages(path, chosen, tiff.filehandle.size)
            read = _tiff_pages(chosen, numbers)
            close = cleanup.pop_all().close
        else:
            # Pages that hold compressed volumes: there is no smaller part that could be decoded.
            _check_pages(path, chosen, tiff.filehandle.size)
            with _errors_named(source):
                images = chosen.asarray().reshape(_page_count(chosen), *shape[1:])
            volume = images[numbers.start : numbers.stop : numbers.step]
            read, close = volume.__getitem__, _nothing
        return _file_movie(read, shape=shape, dtype=chosen.dtype, source=source, close=close)


def _nothing() -> None:
    """There is no file left to close."""


def _tiff_pages(series: TiffPageSeries, numbers: range) -> _Read:
    # tifffile's page objects share one file position and one decoder cache.
    lock = threading.Lock()

    def read(box: _Box) -> NDArray[Any]:
        wanted = list(numbers[box[0]])
        height, width = series.keyframe.shape[-2:]
        if not wanted:
            return np.empty((0, height, width), series.dtype)[box]
        with lock:
            block = series.asarray(key=wanted)
        return block.reshape(len(wanted), height, width)[:, box[1], box[2]]

    return read


def _parse_tiff_key(key: str | None) -> tuple[int | None, dict[str, int | None]]:
    """``"1,C=0,Z=:"`` as series 1 and {"C": 0, "Z": None}."""
    number: int | None = None
    indices: dict[str, int | None] = {}
    for part in filter(None, (key or "").replace(" ", "").split(",")):
        axis, equals, value = part.rpartition("=")
        if not (value.isdecimal() or (equals and value == ":")):
            raise ValueError(
                f"cannot understand the selection {key!r} of a TIFF: it is the number of the series, an "
                'index for each axis that is not time, y or x, or both, for instance "C=0", "1" or "1,C=0"'
            )
        if equals:
            indices[axis.upper()] = None if value == ":" else int(value)
        else:
            number = int(value)
    return number, indices


def _choose_series(
    path: Path, series: list[TiffPageSeries], number: int | None
) -> tuple[TiffPageSeries, str]:
    shapes = {str(i): _squeezed(s)[1] for i, s in enumerate(series)}
    if not series:
        raise ValueError(f"{path} holds no images")
    if number is not None:
        name = _choose(path, shapes, str(number), "image series")
    elif len(series) == 1:
        name = "0"
    else:
        name = _choose(path, shapes, None, "image series")
    return series[int(name)], name


def _squeezed(series: TiffPageSeries) -> tuple[str, tuple[int, ...]]:
    """Axes and lengths of a series without the axes of length 1; y and x stay."""
    kept = [
        (axis, int(n)) for axis, n in zip(series.axes, series.shape, strict=True) if n != 1 or axis in "YX"
    ]
    return "".join(axis for axis, _ in kept), tuple(n for _, n in kept)


def _page_count(series: TiffPageSeries) -> int:
    """Number of images (y, x) in a series."""
    height, width = series.keyframe.shape[-2:] if len(series.keyframe.shape) >= 2 else (1, 1)
    return math.prod(int(n) for n in series.shape) // (int(height) * int(width))


def _frame_numbers(series: TiffPageSeries, indices: dict[str, int | None], source: str) -> tuple[range, str]:
    """Which images of a series are the movie's frames, in order, and its axes in words.

    Images are numbered in the order in which the series holds them. With all axes but one fixed they lie a
    constant number of images apart.
    """
    axes, lengths = _squeezed(series)
    described = " × ".join(f"{axis} {n}" for axis, n in zip(axes, lengths, strict=True))
    if axes in ("YX", "XY"):
        _movie_shape(lengths, source)
    if not axes.endswith("YX"):
        raise ValueError(
            f"{source} has the axes {described}: colour or interleaved samples are not a movie (time, y, x). "
            "Convert it to one grey value per pixel, or pass one channel as an array"
        )
    for axis, index in indices.items():
        if axis not in axes[:-2]:
            raise ValueError(f"{source} has the axes {described}, so {axis} selects nothing")
        if index is not None and index >= lengths[axes.index(axis)]:
            raise ValueError(f"{axis}={index} is out of range: {source} has the axes {described}")
    fixed = {axis: index for axis, index in indices.items() if index is not None}
    free = [axis for axis in axes[:-2] if axis not in fixed]
    time = next((axis for axis in indices if indices[axis] is None), "T" if "T" in free else free[0])
    path = source.partition("::")[0]
    if len(free) != 1:
        choice = ",".join(f"{axis}={fixed.get(axis, 0)}" for axis in axes[:-2] if axis != time)
        raise ValueError(
            f"{source} has the axes {described}; a movie has three, (time, y, x). Select an index along each "
            f'of the others, for instance "{path}::{choice}"'
        )
    if free == ["C"] and "C" not in indices and lengths[axes.index("C")] <= _MOST_CHANNELS:
        raise ValueError(
            f"{source} has the axes {described}: the channels of one image, which has no time axis. If they "
            f'are frames after all, say so: "{path}::C=:"'
        )
    stride = {axis: math.prod(lengths[i + 1 : -2]) for i, axis in enumerate(axes[:-2])}
    first = sum(stride[axis] * index for axis, index in fixed.items())
    length = lengths[axes.index(free[0])]
    return range(first, first + length * stride[free[0]], stride[free[0]]), described


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
