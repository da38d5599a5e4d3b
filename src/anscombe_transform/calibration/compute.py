"""`compute_sensitivity`: a detector's constants from a movie, whatever it is stored in.

The steps, each in a module of its own: bring the axes into order (`views`), look at a few frames and read
segments of the movie (`sampling`, `distributed`), estimate (`estimate`).
"""

from __future__ import annotations

import os
from typing import Any, Literal, overload

from anscombe_transform.calibration.estimate import estimate_sensitivity
from anscombe_transform.calibration.sampling import Progress, collect, inspect
from anscombe_transform.calibration.sensitivity import (
    NothingToMeasure,
    Sensitivity,
    UntrustworthyCalibration,
)
from anscombe_transform.calibration.statistics import Bools, MovieLike
from anscombe_transform.calibration.views import check_axes, check_mask, check_movie, view_movie

OnRefusal = Literal["raise", "return"]


@overload
def compute_sensitivity(
    movie: Any,
    *,
    axis: int = 0,
    channel_axis: None = None,
    mask: Any = None,
    max_frames: int | None = None,
    full: bool = False,
    seed: int | None = None,
    progress: Progress | None = None,
    on_refusal: OnRefusal = "raise",
) -> Sensitivity: ...


@overload
def compute_sensitivity(
    movie: Any,
    *,
    axis: int = 0,
    channel_axis: int,
    mask: Any = None,
    max_frames: int | None = None,
    full: bool = False,
    seed: int | None = None,
    progress: Progress | None = None,
    on_refusal: OnRefusal = "raise",
) -> tuple[Sensitivity, ...]: ...


def compute_sensitivity(
    movie: Any,
    *,
    axis: int = 0,
    channel_axis: int | None = None,
    mask: Any = None,
    max_frames: int | None = None,
    full: bool = False,
    seed: int | None = None,
    progress: Progress | None = None,
    on_refusal: OnRefusal = "raise",
) -> Sensitivity | tuple[Sensitivity, ...]:
    """Read a detector's gain and zero level from an ordinary movie.

    No flat fields, no dark frames: what differs between neighbouring frames is noise where nothing moves, and
    its variance grows with brightness by one gain per photon.

    Parameters
    ----------
    movie : path or array_like, shape (time, y, x)
        At least 2 frames of at least 10 × 10 pixels; any integer or float dtype, negative values included.
        A file that `open_movie` opens, or an array: numpy, memmap, zarr, h5py, xarray and dask are read
        piece by piece. Of a dask array the sums are formed where its chunks are, on the active scheduler.
    axis : int
        The time axis.
    channel_axis : int, optional
        Axis of the channels of an array of four axes. Each channel is calibrated for itself.
    mask : array_like of bool, shape (y, x), optional
        True where pixels may be used. Tiles of 8 × 8 pixels with a pixel of False in or beside them are left
        out.
    max_frames : int, optional
        Most frames to enter the estimate. By default about eight segments of 16 frames, more for small
        frames, spread over the movie.
    full : bool
        Read the whole movie, front to back; memory stays constant.
    seed : int, optional
        Draw the segments at random, one from each of equal parts of the movie; by default they are spaced
        evenly.
    progress : callable, optional
        Called with the number of segments done and to do.
    on_refusal : {"raise", "return"}
        What happens when the movie does not reveal its noise.

    Returns
    -------
    Sensitivity
        Constants, 95 % intervals, a verdict and its reasons. With `channel_axis`, a tuple of one per channel.

    Raises
    ------
    UntrustworthyCalibration
        A `ValueError`: the verdict is "refused" and `on_refusal` is "raise".
    ValueError
        The movie is not three-dimensional, its frames are too small, or an option is out of range.
    TypeError
        The dtype is neither integer nor float.

    Examples
    --------
    >>> from anscombe_transform.simulation import simulate_movie
    >>> movie, truth = simulate_movie((64, 128, 128), conversion_gain=90, zero_level=50, rng=0)
    >>> sensitivity = compute_sensitivity(movie)
    >>> bool(abs(sensitivity.conversion_gain / truth.conversion_gain - 1) < 0.03)
    True
    >>> sensitivity.verdict
    'trustworthy'
    """
    if on_refusal not in ("raise", "return"):
        raise ValueError(f"on_refusal must be 'raise' or 'return', got {on_refusal!r}")
    if max_frames is not None and max_frames < 2:
        raise ValueError(f"max_frames must be >= 2 (a difference needs two frames), got {max_frames}")
    options: dict[str, Any] = {"max_frames": max_frames, "full": full, "seed": seed, "progress": progress}
    if isinstance(movie, str | os.PathLike):
        if channel_axis is not None or axis != 0:
            raise ValueError(
                "axis and channel_axis belong to arrays; open_movie(path, key=...) selects from a file"
            )
        from anscombe_transform.movies import open_movie

        with open_movie(movie) as opened:
            of_file: Sensitivity = compute_sensitivity(opened, mask=mask, on_refusal=on_refusal, **options)
            return of_file

    time, channels = check_axes(movie, axis, channel_axis)
    found = []
    for channel in range(1 if channels is None else movie.shape[channels]):
        one = view_movie(movie, time, channels, channel)
        check_movie(one)
        sensitivity = _sensitivity_of(one, check_mask(mask, one.shape[1:]), options)
        if sensitivity.verdict == "refused" and on_refusal == "raise":
            refusal = UntrustworthyCalibration(sensitivity)
            if channels is not None:
                refusal.add_note(f"This is channel {channel} of axis {channel_axis}.")
            raise refusal
        found.append(sensitivity)
    return found[0] if channels is None else tuple(found)


def _sensitivity_of(movie: MovieLike, mask: Bools | None, options: dict[str, Any]) -> Sensitivity:
    """Estimate from one channel; refused, with its reason, where there is nothing to measure."""
    try:
        cut = inspect(movie, mask)
        return estimate_sensitivity(collect(movie, cut, mask=mask, **options))
    except NothingToMeasure as refusal:
        return Sensitivity.refused(refusal.reason)
