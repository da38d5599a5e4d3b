"""Stored movies in the layout that imaging programs look for: OME-Zarr, with a pyramid on request.

An OME-Zarr image is a Zarr group: ``0`` holds the movie at full resolution, ``1``, ``2``, … the same frames
at half, a quarter, … of the width and height, and the group's attributes name axes, units and scales [1]_.

Notes
-----
Each level of the pyramid is averaged from the level before it, two by two pixels, and stored by `compress`
like the movie itself, but with constants of its own. The mean of n independent pixels of a detector with gain
g and read noise r has the variance of a detector with gain g / n and read noise r / √n at the same zero
level, so the codec of that detector stores it: a code is again as wide as a fixed part of the noise
there is. Where noise is shared by neighbours, averages are noisier than that and are stored finer than they
need to be. In a two-photon recording the first level takes 0.30 of the bytes of the full resolution; as plain
integers under zstd it would take 0.77, since averages of noise compress badly.

References
----------
.. [1] Moore et al., "OME-NGFF: a next-generation file format for expanding bioimaging data-access
   strategies", Nature Methods 18, 1496-1498 (2021); specification at https://ngff.openmicroscopy.org/0.5/.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.compression.checking import read_coarse_levels
from anscombe_transform.compression.results import CompressionResult
from anscombe_transform.compression.stored.arrays import stored_bytes
from anscombe_transform.compression.stored.destination import (
    check_apart,
    check_name,
    check_replaceable,
    check_taken,
)
from anscombe_transform.compression.writing import compress
from anscombe_transform.movies import Movie, open_movie
from anscombe_transform.native.durable import Workspace, delete, sync
from anscombe_transform.native.work import Progress, count_threads

if TYPE_CHECKING:
    from anscombe_transform.calibration import Sensitivity
    from anscombe_transform.compression.options import CompressOptions
    from anscombe_transform.movies import SupportsMovie

__all__ = ["average_frames", "write_ome_zarr"]

AXES = ("t", "y", "x")
"""Names of the axes, which are those of the arrays' dimensions as well."""

_VERSIONS = {2: "0.4", 3: "0.5"}


def write_ome_zarr(
    source: str | os.PathLike[str] | SupportsMovie | Movie,
    store: str | os.PathLike[str],
    *,
    pyramid: int = 0,
    pixel_size: float | tuple[float, float] | None = None,
    frame_interval: float | None = None,
    name: str | None = None,
    zarr_format: Literal[2, 3] = 3,
    overwrite: bool = False,
    partial: bool = False,
    progress: Progress | None = None,
    **options: Unpack[CompressOptions],
) -> CompressionResult:
    """Compress a movie into an OME-Zarr image: calibrated, written and verified as by `compress`.

    Parameters
    ----------
    source : path or array
        The movie ``(time, y, x)``, as `open_movie` takes it.
    store : path
        The folder of the image. It is prepared in ``<store>.partial`` and gets its name at the end.
    pyramid : int, optional
        Levels beside the full resolution, each with half the width and height of the one before; 0 writes
        none. It ends early when a frame is a single pixel.
    pixel_size : float or (float, float), optional
        Distance of neighbouring pixels, or distances along ``(y, x)``, micrometres. By default that of the
        source, where the file tells it.
    frame_interval : float, optional
        Time from frame to frame, seconds. By default that of the source, where the file tells it.
    name : str, optional
        Name of the image; by default that of the folder.
    zarr_format : {3, 2}, optional
        3 writes OME-Zarr 0.5, 2 writes OME-Zarr 0.4.
    overwrite : bool, optional
        Replace an image that is there. It stays until the new one is finished.
    partial : bool, optional
        Store what there is of a recording that isn't whole, see `open_movie`.
    progress : callable, optional
        Called as ``progress(done, total, stage)``; the stages of a level end with its number.
    **options
        Everything else that `compress` takes: `sensitivity`, `chunks`, `beta`, `threads`, …

    Returns
    -------
    CompressionResult
        Of the full resolution; `path` and `stored_bytes` are those of the whole image.

    Raises
    ------
    ValueError
        `pyramid` is negative, or a size or an interval is not a finite number > 0.
    FileExistsError, UntrustworthyCalibration, VerificationError, …
        As from `compress`. The blocks of an interrupted run remain in ``<store>.partial``, from where
        ``resume=True`` goes on.

    Examples
    --------
    >>> import numpy as np, tempfile, zarr
    >>> from anscombe_transform import Sensitivity
    >>> photons = np.random.default_rng(0).poisson(8, (20, 64, 64))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = write_ome_zarr(
    ...         (50 + 90 * photons).astype("int16"),
    ...         f"{folder}/movie.ome.zarr",
    ...         pyramid=2,
    ...         pixel_size=0.5,
    ...         sensitivity=Sensitivity.from_known(conversion_gain=90, zero_level=50),
    ...     )
    ...     group = zarr.open_group(f"{folder}/movie.ome.zarr", mode="r")
    ...     print([group[str(level)].shape for level in range(3)])
    [(20, 64, 64), (20, 32, 32), (20, 16, 16)]
    """
    if isinstance(pyramid, bool) or not isinstance(pyramid, int) or pyramid < 0:
        raise ValueError(f"pyramid must be a number of levels, 0 or more, got {pyramid!r}")
    path = Path(store)
    check_name(str(store))
    work = Workspace(path, "image")
    resume = bool(options.get("resume"))
    _check_place(work, overwrite, resume, begun=os.path.lexists(work.folder))
    with open_movie(source, partial=partial) as movie:
        check_apart(movie, path)
        scales = _scales(movie, pixel_size, frame_interval)
        shared: dict[str, Any] = {**options, "zarr_format": zarr_format, "dimension_names": AXES}
        with work.held():
            # Another process may have finished since.
            _check_place(work, overwrite, resume, begun=work.is_begun())
            if resume and not overwrite and path.exists():
                full = compress(movie, path / "0", progress=progress, **shared)
                read_coarse_levels(path, count_threads(options.get("threads")))
                return _whole(full, path)
            if not resume:
                delete(work.content)
                sync(work.folder)
            full = compress(movie, work.content / "0", progress=progress, **shared)
            shapes = _write_pyramid(full, work.content, pyramid, movie.source, progress, shared)
            _write_group(work.content, zarr_format, _multiscale(name or path.name, shapes, scales))
            work.put_in_place()
        return _whole(full, path)


def _write_pyramid(
    full: CompressionResult,
    folder: Path,
    pyramid: int,
    source: str,
    progress: Progress | None,
    options: dict[str, Any],
) -> list[tuple[int, ...]]:
    """Write the coarse levels; shapes of all levels."""
    array, sensitivity = full.array, full.sensitivity
    shapes = [tuple(int(n) for n in array.shape)]
    for level in range(1, pyramid + 1):
        if max(shapes[-1][1:]) == 1:
            break
        sensitivity = _averaged(sensitivity, shapes[-1])
        given = options | {"sensitivity": sensitivity, "chunks": None, "shards": None}
        half = _half(array, f"{source}, level {level}")
        array = compress(half, folder / str(level), progress=_named(progress, level), **given).array
        shapes.append(half.shape)
    return shapes


def _whole(full: CompressionResult, path: Path) -> CompressionResult:
    """The result of the full resolution, with name and size of the whole image."""
    import zarr

    array = zarr.open_array(str(path / "0"), mode="r")
    return replace(full, path=str(path), array=array, stored_bytes=stored_bytes(array, path))


def average_frames(frames: NDArray[Any]) -> NDArray[Any]:
    """Average neighbouring pixels two by two; an odd last row or column is averaged along the other axis.

    Parameters
    ----------
    frames : array (time, y, x)
        Integers or floats.

    Returns
    -------
    array (time, ceil(y / 2), ceil(x / 2))
        Of the same type; integers are rounded half to even. NaN where a pixel is NaN.

    Examples
    --------
    >>> average_frames(np.array([[[0, 2, 7], [4, 6, 8]]], "int16"))
    array([[[3, 8]]], dtype=int16)
    """
    wide = _pair_means(_pair_means(frames.astype(np.float64, copy=False)).swapaxes(1, 2)).swapaxes(1, 2)
    # Half to even: rounding half up would shift the mean, and more so at every level.
    whole = wide if frames.dtype.kind == "f" else np.rint(wide)
    return np.ascontiguousarray(whole, frames.dtype)


def _pair_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of neighbours along the middle axis; the last of an odd number stays as it is."""
    paired = values[:, : values.shape[1] // 2 * 2]
    means: NDArray[np.float64] = 0.5 * (paired[:, ::2] + paired[:, 1::2])
    return np.concatenate([means, values[:, paired.shape[1] :]], axis=1)


def _half(array: Any, source: str) -> Movie:
    """The movie of `average_frames`, read when it is asked for."""
    frames, height, width = (int(n) for n in array.shape)
    shape = (frames, math.ceil(height / 2), math.ceil(width / 2))

    def read(box: tuple[slice, slice, slice]) -> NDArray[Any]:
        return average_frames(np.asarray(array[box[0]]))[:, box[1], box[2]]

    return Movie(read, shape=shape, dtype=array.dtype, source=source)


def _averaged(sensitivity: Sensitivity, shape: Sequence[int]) -> Sensitivity:
    """The detector with the noise of the averages of a level of this shape."""
    from anscombe_transform.calibration import Sensitivity

    pixels = math.prod(min(2, int(n)) for n in shape[1:])
    return Sensitivity.from_known(
        conversion_gain=sensitivity.conversion_gain / pixels,
        zero_level=sensitivity.zero_level,
        read_noise=sensitivity.read_noise / math.sqrt(pixels),
    )


def _named(progress: Progress | None, level: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, total, stage: progress(done, total, f"{stage}, level {level}")


# --- the group ----------------------------------------------------------------------------------------------


def _scales(
    movie: Movie, pixel_size: float | tuple[float, float] | None, frame_interval: float | None
) -> tuple[float | None, float | None, float | None]:
    """Steps of time (s), y and x (µm); None where nobody knows."""
    sizes: tuple[float | None, float | None]
    if pixel_size is None:
        known = movie.metadata.get("pixel_size") or {}
        sizes = (known.get("y"), known.get("x"))
    elif isinstance(pixel_size, int | float):
        sizes = (pixel_size, pixel_size)
    elif len(pixel_size) == 2:
        sizes = (pixel_size[0], pixel_size[1])
    else:
        raise ValueError(f"pixel_size must be one number or two, (y, x), got {pixel_size!r}")
    if frame_interval is None and (rate := movie.metadata.get("frame_rate")):
        frame_interval = 1 / rate
    for parameter, value in (("frame_interval", frame_interval), *(("pixel_size", n) for n in sizes)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ValueError(f"{parameter} must be a finite number > 0, got {value!r}")
    return frame_interval, *sizes


def _multiscale(
    name: str, shapes: Sequence[tuple[int, ...]], scales: tuple[float | None, ...]
) -> dict[str, Any]:
    """The description of the levels that both versions of OME-Zarr share."""
    axes: list[dict[str, str]] = []
    for axis, kind, unit, scale in zip(
        AXES, ("time", "space", "space"), ("second", "micrometer", "micrometer"), scales, strict=True
    ):
        axes.append({"name": axis, "type": kind} | ({} if scale is None else {"unit": unit}))
    step = [1.0 if scale is None else float(scale) for scale in scales]
    datasets = []
    for level in range(len(shapes)):
        # An axis of length 1 is not halved any more; a coordinate is that of a pixel's middle.
        factors = [1, *(_factor(shapes, level, axis) for axis in (1, 2))]
        transforms: list[dict[str, Any]] = [
            {"type": "scale", "scale": [s * f for s, f in zip(step, factors, strict=True)]}
        ]
        if level:
            middle = [s * (f - 1) / 2 for s, f in zip(step, factors, strict=True)]
            transforms.append({"type": "translation", "translation": middle})
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
    document: dict[str, Any] = {"name": name, "axes": axes, "datasets": datasets}
    if len(shapes) > 1:
        document["type"] = "mean"
        document["metadata"] = {
            "description": "2 x 2 means of the level before",
            "method": "anscombe_transform.compression.ome_zarr.average_frames",
        }
    return document


def _factor(shapes: Sequence[tuple[int, ...]], level: int, axis: int) -> int:
    return 1 << sum(shape[axis] > 1 for shape in shapes[:level])


def _write_group(path: Path, zarr_format: int, multiscale: dict[str, Any]) -> None:
    import zarr

    version = _VERSIONS[zarr_format]
    attributes: dict[str, Any]
    if zarr_format == 3:
        attributes = {"ome": {"version": version, "multiscales": [multiscale]}}
    else:
        attributes = {"multiscales": [multiscale | {"version": version}]}
    # What a power cut left of an earlier one may be anything.
    for file in [file for file in path.iterdir() if file.is_file()]:
        delete(file)
    if hasattr(zarr, "create_group"):
        zarr.create_group(str(path), zarr_format=3 if zarr_format == 3 else 2, attributes=attributes)
    else:
        zarr.open_group(str(path), mode="a").attrs.put(attributes)
    for place in (*(file for file in path.iterdir() if file.is_file()), path):
        sync(place)


def _check_place(work: Workspace, overwrite: bool, resume: bool, *, begun: bool) -> None:
    """Refuse to replace an existing array or image unasked."""
    path = work.path
    if os.path.lexists(path):
        check_taken(path, overwrite or resume)
        if overwrite:
            check_replaceable(path, overwrite=True, image=True)
    if begun and not (overwrite or resume):
        raise FileExistsError(
            f"{work.folder} was left by an interrupted run: go on with it (resume=True, --resume), or "
            "discard it (overwrite=True, --overwrite)"
        )
