"""`open_movie`: from the name of a file, or an array, to the module that reads it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from anscombe_transform.movies.movie import Movie, SupportsMovie
from anscombe_transform.movies.readers.microscopes.folders import find_description, open_acquisition
from anscombe_transform.movies.readers.tiff import TIFF_SUFFIXES
from anscombe_transform.movies.selection import Choice, parse_axes
from anscombe_transform.native.arrays import library_of

_HDF5 = (".h5", ".hdf5", ".hdf", ".he5", ".nwb", ".nc", ".mat")
_FITS = (".fits", ".fit", ".fts", ".fits.gz", ".fit.gz", ".fits.fz")
_RAW = (".bin", ".raw", ".dat")
_VIDEO = (".avi", ".mp4", ".mov", ".m4v", ".mkv", ".wmv", ".mpg", ".mpeg", ".webm")
_PICTURES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")
_KNOWN = (
    f"TIFF ({', '.join(TIFF_SUFFIXES)}), HDF5 and NWB ({', '.join(_HDF5)}), FITS ({', '.join(_FITS[:3])}), "
    f".npy, .npz, raw values ({', '.join(_RAW)}, with shape and dtype), folders of TIFFs, folders written by "
    "Zarr (V2, V3, OME-Zarr, NWB), and formats of microscopes (Bruker, ThorImage, Scanbox, .nd2, .czi, .lif, "
    ".oib, .sif, .spe, .ims and others)"
)


def open_movie(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | SupportsMovie | Movie,
    *,
    channel: int | str | None = None,
    plane: int | None = None,
    series: int | str | None = None,
    dataset: str | None = None,
    axes: str | Sequence[str] | None = None,
    shape: Sequence[int] | None = None,
    dtype: DTypeLike | None = None,
    offset: int | None = None,
    partial: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> Movie:
    """Open a recording without loading it.

    Parameters
    ----------
    source : path, list of paths, or array
        A file, by its first bytes, and by its suffix where they tell nothing:

        - TIFF, BigTIFF, OME-TIFF, ImageJ hyperstacks, ScanImage: compressed or not;
        - a folder of TIFFs or a pattern (``"run1/frame*.tif"``), in natural order (``frame10`` after
          ``frame9``), one movie of all of them; a list of files is taken in the order of the list;
        - HDF5: the one dataset that can be a movie, or the one that `dataset` names;
        - NWB, in HDF5 or Zarr: the ``TwoPhotonSeries`` or ``OnePhotonSeries``. The standard stores
          ``(time, x, y)`` [1]_, so that frames are transposed; files that break it need ``axes="tyx"``;
        - a folder written by Zarr, format 2 or 3: an array, or the one movie of a group; of OME-Zarr the full
          resolution. URLs (``s3://…``) are taken for Zarr;
        - ``.npy`` and ``.npz``. A compressed ``.npz`` can't be read in parts, so it is loaded whole;
        - the folder of a recording of Prairie View (Bruker) or ThorImage (Thorlabs), or the XML in it; an
          ``.sbx`` of Scanbox, with values turned the right way up;
        - formats of microscopes and cameras: ``.nd2``, ``.czi``, ``.lif``, ``.oib``, ``.sif``, ``.spe``,
          ``.ims``, ``.mrc``, ``.ptu``, DICOM, and formats of bioio where it is installed;
        - raw values, with `shape` and `dtype`; beside an ``ops.npy`` of suite2p, ``data.bin`` needs neither;
        - FITS cubes.

        Or an array with ``shape``, ``dtype`` and slicing: numpy, dask, zarr, h5py, xarray (dimensions are
        found by name).
    channel : int or str, optional
        Which channel, from 0, or by its name where the file has names. A recording of several channels is an
        error without it.
    plane : int, optional
        Which z plane, from 0; likewise.
    series : int or str, optional
        Which image series of a TIFF, which HDU of a FITS file, which image of an OME-Zarr collection, which
        cycle of a recording of Prairie View, which raw file of ThorImage, which position of a Nikon file.
    dataset : str, optional
        Path inside an HDF5, NWB, Zarr or ``.npz`` file; ``"file.h5::/dataset"`` says the same. For a TIFF
        ``"file.tif::1,C=0"`` names series and index along any axis. All options can stand in the name, where
        there is nothing but a name to give: ``"movie.h5::/dataset,axes=tcyx,channel=1"``,
        ``"data.raw::shape=-1x512x512,dtype=<u2"``.
    axes : str or sequence of str, optional
        The axes of the source, if it doesn't name them or names them wrongly: a letter for each, ``t``,
        ``c``, ``z``, ``y``, ``x``, any other letter for an axis of length 1. ``axes="tyx"`` takes channels or
        planes of a file for frames.
    shape : sequence of int, optional
        Lengths of the axes of a raw file, the first of which may be -1. For a TIFF, how its images are to be
        counted: ``shape=(-1, 2, 512, 512), axes="tcyx"`` for two interleaved channels that the file doesn't
        tell of.
    dtype : dtype, optional
        Type of the values of a raw file, with byte order: ``"<u2"``.
    offset : int, optional
        Bytes before the first value of a raw file; by default 0.
    partial : bool, optional
        Accept a recording that was stopped, cut short, lost a part, or is still being written.
        Without it such a recording is refused. ``Movie.metadata["partial"]`` lists the missing parts, and so
        does the record of an array that is written from it.
    storage_options : dict, optional
        For fsspec, when the source is a URL.

    Returns
    -------
    Movie
        Shape ``(time, y, x)``, integers or floats. Close it, or use it in a ``with`` statement.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    IncompleteRecordingError
        A `ValueError`: the source announces more, or other frames, than it holds.
    ValueError
        The file's kind is unknown, it is damaged, it holds no movie, or it holds several and the options
        don't say which.
    TypeError
        `source` is neither a path nor an array.
    ImportError
        The format's library is missing; the message says how to install it.

    References
    ----------
    .. [1] NWB schema 2.8, ``ImageSeries.data``: dimensions ``[frame, x, y]``, and ``OnePhotonSeries`` and
       ``TwoPhotonSeries`` inherit them.

    Examples
    --------
    >>> import numpy as np
    >>> from anscombe_transform import open_movie
    >>> open_movie(np.zeros((10, 64, 48), "uint16"))
    <Movie (10, 64, 48) uint16 from numpy.ndarray>
    >>> open_movie(np.zeros((10, 2, 64, 48), "uint16"), axes="tcyx", channel=1).shape
    (10, 64, 48)
    """
    options = {
        "channel": channel,
        "plane": plane,
        "series": series,
        "dataset": dataset,
        "axes": axes,
        "shape": shape,
        "dtype": dtype,
        "offset": offset,
        "partial": partial or None,
        "storage_options": storage_options,
    }
    given = {name: value for name, value in options.items() if value is not None}
    if isinstance(source, Movie):
        given.pop("partial", None)  # it is open already, whole or not
        return _second_handle(source, given)
    choice = Choice(
        channel=channel,
        plane=plane,
        series=series,
        dataset=dataset,
        shape=None if shape is None else tuple(int(n) for n in shape),
        dtype=None if dtype is None else np.dtype(dtype),
        axes=None if axes is None else parse_axes(axes),
        offset=offset,
        partial=partial,
        storage_options=storage_options,
    )
    movie = _open(source, choice)
    if choice.findings:
        movie.metadata["partial"] = list(choice.findings)
    movie._origin, movie._reopen = (source, given), reopen
    return movie


def open_frames(source: str | os.PathLike[str]) -> Movie:
    """Open a recording that may be a single image, such as an average of dark frames."""
    return _open(source, Choice(one_image=True))


def reopen(source: Any, options: dict[str, Any]) -> Movie:
    """Open the source of another process."""
    return open_movie(source, **options)


def _second_handle(movie: Movie, given: dict[str, Any]) -> Movie:
    """A handle without the file: closing it must not close the movie that the caller still holds."""
    if given:
        raise ValueError(f"{' and '.join(given)} select inside a source, but it is open as a movie already")
    return movie._handle()


def _open(source: Any, choice: Choice) -> Movie:
    if isinstance(source, str | os.PathLike):
        return _open_name(os.fspath(source), choice)
    if isinstance(source, list | tuple) and source and all(isinstance(p, str | os.PathLike) for p in source):
        from anscombe_transform.movies.readers.sequence import open_files

        return open_files([Path(part) for part in source], choice, _open_file)
    if library_of(source) == "zarr" and not isinstance(source, SupportsMovie):
        from anscombe_transform.movies.readers.zarr_stores import open_zarr

        return open_zarr(source, choice, type(source).__qualname__)
    from anscombe_transform.movies.arrays import open_array

    return open_array(source, choice)


def _open_file(path: Path, choice: Choice) -> Movie:
    """Open a file of a sequence."""
    return _open_name(str(path), choice)


def _open_name(name: str, choice: Choice) -> Movie:
    """Open a path, a pattern or a URL, with or without ``::`` and a name inside."""
    inner: str | None = None
    if "::" in name and not Path(name).exists():
        name, _, inner = name.rpartition("::")
        inner, choice = _lift(inner, choice)
        if inner and choice.dataset is not None:
            raise ValueError(
                f"the name after :: and dataset={choice.dataset!r} say the same: give one of them"
            )
    if "://" in name:
        from anscombe_transform.movies.readers.zarr_stores import open_zarr

        return open_zarr(name, replace(choice, dataset=inner or choice.dataset), name)
    path = Path(name)
    lower = path.name.lower()
    suffix = path.suffix.lower()
    if suffix in _VIDEO:
        raise ValueError(
            f"{path} is a video ({suffix}): its 8-bit values are no longer linear in the light (gamma, lossy "
            "compression), so that no noise can be read from them and nothing is gained by storing them "
            "again. Export the raw frames of the recording instead, for instance as TIFF"
        )
    if not path.exists() and any(character in name for character in "*?["):
        from anscombe_transform.movies.readers.sequence import open_pattern

        return open_pattern(name, choice, inner, _open_file)
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    described = None if choice.dtype is not None else find_description(path)
    if described is not None:
        program, description = described
        return open_acquisition(program, description, replace(choice, series=inner or choice.series), name)
    # Raw values may begin with any bytes, so that a given type of values goes before them.
    kind = None if path.is_dir() or choice.dtype is not None else _kind_of(path)
    if path.is_dir() or lower.endswith(".zarr.zip") or kind == "zarr":
        return _open_folder(path, replace(choice, dataset=inner or choice.dataset))
    if kind in (None, "hdf5") and not path.is_dir() and choice.dtype is None:
        from anscombe_transform.movies.readers.microscopes.libraries import find_format, open_with_library

        form = find_format(path)
        if form is not None:
            return open_with_library(form, path, replace(choice, series=inner or choice.series), name)
    if kind == "tiff" or (kind is None and suffix in TIFF_SUFFIXES):
        from anscombe_transform.movies.readers.tiff.reader import open_tiff

        return open_tiff(path, choice, inner)
    choice = replace(choice, dataset=inner or choice.dataset)
    if kind == "hdf5" or (kind is None and suffix in _HDF5):
        from anscombe_transform.movies.readers.hdf5 import open_hdf5

        return open_hdf5(path, choice)
    if kind == "npy" or (kind is None and suffix == ".npy"):
        from anscombe_transform.movies.readers.numpy_files import open_npy

        return open_npy(path, choice)
    if kind == "npz" or (kind is None and suffix == ".npz"):
        from anscombe_transform.movies.readers.numpy_files import open_npz

        return open_npz(path, choice)
    if kind == "fits" or (kind is None and lower.endswith(_FITS)):
        from anscombe_transform.movies.readers.fits import open_fits

        return open_fits(path, choice)
    if suffix == ".spe":
        from anscombe_transform.movies.readers.microscopes.spe import open_spe

        return open_spe(path, choice)
    if suffix in _RAW or (choice.shape is not None and choice.dtype is not None):
        from anscombe_transform.movies.readers.raw import open_raw

        return open_raw(path, choice)
    if suffix in _PICTURES:
        raise ValueError(
            f"{path} is a picture ({suffix}), not a recording: its values are made for the eye. Export the "
            "raw frames instead, for instance as TIFF"
        )
    from anscombe_transform.movies.readers.microscopes.libraries import explain, find_last_resort

    last = find_last_resort(path)
    if last is not None:
        return open_with_library(
            last, path, replace(choice, dataset=None, series=inner or choice.series), name
        )
    if explain(suffix):
        raise ValueError(f"cannot open {path}: {explain(suffix)}")
    raise ValueError(f"cannot tell what {path} is from the suffix {suffix!r}; known are {_KNOWN}")


def _kind_of(path: Path) -> str | None:
    """The kind of a file by its first bytes; None where they tell of none that is known here."""
    import zipfile

    with path.open("rb") as file:
        head = file.read(2056)
    if head[128:132] == b"DICM":
        return None  # before which anything may stand, the header of a TIFF too
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "tiff"
    # HDF5 may begin behind a block of the user, as MATLAB's files do.
    if any(head[place : place + 8] == b"\x89HDF\r\n\x1a\n" for place in (0, 512, 1024, 2048)):
        return "hdf5"
    if head.startswith(b"\x93NUMPY"):
        return "npy"
    if head.startswith(b"SIMPLE  ="):
        return "fits"
    if head.startswith(b"PK\x03\x04") and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
        return "zarr" if names & {"zarr.json", ".zarray", ".zgroup"} else "npz"
    if head.startswith((b"CDF\x01", b"CDF\x02", b"CDF\x05", b"MATLAB 5.0")):
        old = "NetCDF 3" if head.startswith(b"CDF") else "a MATLAB file before version 7.3"
        raise ValueError(
            f"{path} is {old}, which is not HDF5: load it with scipy.io (or xarray) and pass the array"
        )
    return None


def _lift(inner: str, choice: Choice) -> tuple[str | None, Choice]:
    """Take the options out of the text after ``::``; the rest is a name inside the file."""
    rest = []
    for part in inner.split(","):
        option, equals, text = (word.strip() for word in part.partition("="))
        if not (equals and option in _WRITTEN):
            rest.append(part)
            continue
        if getattr(choice, option) is not None and getattr(choice, option) is not False:
            raise ValueError(f"{option} is given twice: after :: and as an option")
        try:
            value = _WRITTEN[option](text)
        except (ValueError, TypeError) as error:
            raise ValueError(f"cannot understand {part!r} after ::: {error}") from error
        choice = replace(choice, **{option: value})
    return ",".join(rest) or None, choice


def _yes_or_no(text: str) -> bool:
    if text.lower() not in ("true", "yes", "1", "false", "no", "0"):
        raise ValueError("it is true or false")
    return text.lower() in ("true", "yes", "1")


def _number_or_name(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


# Options as they are written after ``::``.
_WRITTEN: dict[str, Callable[[str], Any]] = {
    "channel": _number_or_name,
    "plane": int,
    "series": _number_or_name,
    "dataset": str,
    "axes": parse_axes,
    "shape": lambda text: tuple(int(n) for n in text.split("x")),
    "dtype": np.dtype,
    "offset": int,
    "partial": _yes_or_no,
}


def _open_folder(path: Path, choice: Choice) -> Movie:
    from anscombe_transform.movies.readers.zarr_stores import is_zarr, open_zarr

    if path.is_file() or is_zarr(path):
        return open_zarr(path, choice, str(path))
    names = [child.name.lower() for child in path.iterdir() if not child.name.startswith(".")]
    for suffixes in (TIFF_SUFFIXES, _FITS, (".npy",), _HDF5):
        if any(name.endswith(suffixes) for name in names):
            from anscombe_transform.movies.readers.sequence import open_folder

            return open_folder(path, suffixes, choice, _open_file)
    raise ValueError(
        f"{path} is a folder, but not one written by Zarr (it has no zarr.json, .zarray or .zgroup) and it "
        f"holds no TIFF, FITS, .npy or HDF5 files; known are {_KNOWN}"
    )
