"""`compute_sensitivity`: a detector's constants from a movie in any format.

The steps, each in a module of its own: look at a few frames and read segments of the movie (`sums.reading`,
`sums.distributed`), estimate (`estimate`), and bring in dark frames or known constants (`dark`, `known`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Literal, TypedDict, Unpack, overload

import numpy as np

from anscombe_transform.calibration.estimate import estimate_sensitivity
from anscombe_transform.calibration.references.dark import DarkFrames, measure_dark, without_offsets
from anscombe_transform.calibration.references.known import Known, with_dark, with_excess_noise, with_known
from anscombe_transform.calibration.references.maps import pixel_maps
from anscombe_transform.calibration.references.stored import without_storing_noise
from anscombe_transform.calibration.result.sensitivity import (
    NothingToMeasure,
    Reason,
    Sensitivity,
    UntrustworthyCalibration,
    verdict_of,
)
from anscombe_transform.calibration.small.estimate import is_small, sensitivity_of_small
from anscombe_transform.calibration.sums.frames import with_steps
from anscombe_transform.calibration.sums.inputs import Progress, check_mask, is_number
from anscombe_transform.calibration.sums.interleaved import interleaving_of, with_interleaving
from anscombe_transform.calibration.sums.reading import collect, inspect
from anscombe_transform.movies import Movie, open_movie
from anscombe_transform.movies.arrays import open_axes
from anscombe_transform.movies.opening import open_frames
from anscombe_transform.native.arrays import Bools

OnRefusal = Literal["raise", "return"]
Constant = float | Sequence[float] | None

# Reasons that rest on which values occur: they are looked for before anything is subtracted.
_MARKS_OF_VALUES = ("autoscaled", "block_compressed", "coarse_steps", "thresholded", "wrapped")


class CalibrationOptions(TypedDict, total=False):
    """Options of `compute_sensitivity`, which describes them."""

    dark: Any
    zero_level: Constant
    read_noise: Constant
    excess_noise: Constant
    axis: int
    mask: Any
    max_frames: int | None
    full: bool
    per_pixel: bool
    partial: bool
    seed: int | None
    progress: Progress | None
    on_refusal: OnRefusal


@overload
def compute_sensitivity(
    movie: Any, *, channel_axis: None = None, **options: Unpack[CalibrationOptions]
) -> Sensitivity: ...


@overload
def compute_sensitivity(
    movie: Any, *, channel_axis: int, **options: Unpack[CalibrationOptions]
) -> tuple[Sensitivity, ...]: ...


def compute_sensitivity(
    movie: Any,
    *,
    dark: Any = None,
    zero_level: Constant = None,
    read_noise: Constant = None,
    excess_noise: Constant = None,
    axis: int = 0,
    channel_axis: int | None = None,
    mask: Any = None,
    max_frames: int | None = None,
    full: bool = False,
    per_pixel: bool = False,
    partial: bool = False,
    seed: int | None = None,
    progress: Progress | None = None,
    on_refusal: OnRefusal = "raise",
) -> Sensitivity | tuple[Sensitivity, ...]:
    """Read a detector's gain and zero level from an ordinary movie.

    No flat fields, no dark frames: without motion, neighbouring frames differ by noise alone, and its
    variance grows with brightness by one gain per photon.

    Parameters
    ----------
    movie : path or array_like, shape (time, y, x)
        At least 2 frames; any integer or float dtype, negative values included. Fields of few pixels, line
        scans (time, 1, x) and single pixels (time, 1, 1) need more frames: some thousand.
        A file that `open_movie` opens, or an array: numpy, memmap, zarr, h5py, xarray and dask are read
        piece by piece. Of a dask array the sums are formed where its chunks are, on the active scheduler.
    dark : path or array_like, shape (time, y, x), (y, x), optional
        Frames of the same detector without light. They give the zero level, and two or more the read noise,
        without hot pixels; where pixels differ in zero level, theirs are subtracted pixel by pixel. They also
        give a scene without contrast its gain. Frames that hold light, or contradict the movie, are not used:
        a reason says so, and the verdict is "caution" at best.
    zero_level, read_noise : float, optional
        Known constants, in signal units; of one, the other follows from the variance intercept. A sequence
        has one for each channel.
    excess_noise : float, optional
        Known excess noise factor F² ≥ 1: 2 for an EMCCD at high gain. ``Sensitivity.single_photon_gain`` is
        then the mean signal of a photon; `conversion_gain` stays the effective gain. One, or one per channel.
    axis : int
        The time axis.
    channel_axis : int, optional
        Axis of the channels of an array of four axes. Each channel is calibrated for itself.
    mask : array_like of bool, shape (y, x), or path, optional
        True where pixels may be used; of the image in a file, those that are not 0. Tiles of 8 × 8 pixels
        with a pixel of False in or beside them are left out.
    max_frames : int, optional
        Most frames to enter the estimate. By default about eight segments of 24 frames, more for small
        frames, spread over the movie.
    full : bool
        Read the whole movie, front to back; memory stays constant.
    per_pixel : bool
        Also map zero level and read noise of every pixel, from dark frames, and its gain, from a movie in
        which nothing moves: `Sensitivity.maps`. The gain map reads 1024 frames by default.
    partial : bool
        Of a file: accept a recording that isn't whole, see `open_movie`.
    seed : int, optional
        Draw the segments at random, one from each of equal parts of the movie; by default they are spaced
        evenly.
    progress : callable, optional
        Called with the number of segments done and to do.
    on_refusal : {"raise", "return"}
        Behaviour when the movie does not reveal its noise.

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
    if dark is not None and (zero_level is not None or read_noise is not None):
        raise ValueError(
            "dark frames measure the zero level and the read noise: give either dark= or the constants"
        )
    options: dict[str, Any] = {"max_frames": max_frames, "full": full, "seed": seed, "progress": progress}
    is_file = isinstance(movie, str | os.PathLike)
    if is_file and (channel_axis is not None or axis != 0):
        raise ValueError(
            "axis and channel_axis belong to arrays; open_movie(path, channel=...) selects from a file"
        )
    with ExitStack() as files:
        if is_file:
            movie = files.enter_context(open_movie(movie, partial=partial))
        first = open_axes(movie, axis, channel_axis)
        number = None if channel_axis is None else first.channels
        constants = _per_channel(
            number, zero_level=zero_level, read_noise=read_noise, excess_noise=excess_noise
        )
        found = []
        for channel, known in enumerate(constants):
            one = open_axes(movie, axis, channel_axis, channel) if channel else first
            wanted = check_mask(mask, one.shape[1:])
            measured = None
            if dark is not None:
                frames = _dark_movie(dark, one, axis, channel_axis, channel, files)
                measured = measure_dark(frames, wanted)
            sensitivity = without_storing_noise(_sensitivity_of(one, wanted, options), movie, one)
            if measured is not None:
                sensitivity = _less_offsets(sensitivity, one, wanted, options, measured)
            sensitivity = _with_what_is_known(sensitivity, measured, **known)
            if per_pixel:
                maps = pixel_maps(one, sensitivity, measured, max_frames=max_frames, full=full, seed=seed)
                sensitivity = replace(sensitivity, maps=maps)
            sensitivity = _with_doubt_about_axes(sensitivity, one.shape)
            if sensitivity.verdict == "refused" and on_refusal == "raise":
                refusal = UntrustworthyCalibration(sensitivity)
                if channel_axis is not None:
                    refusal.add_note(f"This is channel {channel} of axis {channel_axis}.")
                raise refusal
            found.append(sensitivity)
    return found[0] if channel_axis is None else tuple(found)


def _sensitivity_of(movie: Movie, mask: Bools | None, options: dict[str, Any]) -> Sensitivity:
    """Estimate from one channel; refused, with its reason, where there is nothing to measure."""
    try:
        if is_small(movie.shape):
            found, cut = sensitivity_of_small(movie, mask, **options)
        else:
            cut = inspect(movie, mask)
            found = estimate_sensitivity(collect(movie, cut, mask=mask, **options))
    except NothingToMeasure as refusal:
        return Sensitivity.refused(refusal.reason)
    found = with_interleaving(
        with_steps(found, cut.step, cut.lowest), interleaving_of(movie, mask, options["max_frames"])
    )
    reasons = (*found.reasons, *cut.reasons)
    return replace(found, reasons=reasons, verdict=verdict_of(reasons)) if cut.reasons else found


def _with_doubt_about_axes(found: Sensitivity, shape: tuple[int, int, int]) -> Sensitivity:
    """Note where time may be the last axis: frames are square more often than as many as their rows."""
    if not shape[0] == shape[1] != shape[2]:
        return found
    message = (
        f"the shape {shape} is taken for (time, y, x); if it is (y, x, time), move the last axis to the "
        "front, numpy.moveaxis(movie, -1, 0)."
    )
    return replace(found, reasons=(*found.reasons, Reason("axes_order", message)))


def _less_offsets(
    found: Sensitivity, movie: Movie, mask: Bools | None, options: dict[str, Any], dark: DarkFrames
) -> Sensitivity:
    """Estimate from the movie less the dark frames, pixel by pixel, if that serves better.

    Values that are cut off are so before offsets are subtracted: such a movie is taken as it is.
    """
    clipped = any(reason.code.startswith("clipped") for reason in found.reasons)
    if clipped or not dark.offsets_differ() or dark.lit(found.conversion_gain):
        return found
    without = _sensitivity_of(without_offsets(movie, dark), mask, options)
    # Marks that values have, and not differences of values.
    marks = tuple(reason for reason in found.reasons if reason.code in _MARKS_OF_VALUES)
    reasons = (*(reason for reason in without.reasons if reason.code not in _MARKS_OF_VALUES), *marks)
    without = replace(without, reasons=reasons, verdict=verdict_of(reasons))
    better, worse = _order(without), _order(found)
    return without if better < worse else found


def _order(found: Sensitivity) -> tuple[int, float]:
    """A verdict, and relative width of the gain's interval: less is better."""
    low, high = found.conversion_gain_interval
    width = (high - low) / abs(found.conversion_gain) if found.conversion_gain else math.inf
    verdicts = ("trustworthy", "caution", "refused")
    return verdicts.index(found.verdict), width if math.isfinite(width) else math.inf


def _per_channel(number: int | None, **constants: Constant) -> list[dict[str, float | None]]:
    """The constants of each channel, checked; one channel if `number` is None."""
    channels: list[dict[str, float | None]] = [{} for _ in range(number or 1)]
    least = {"zero_level": -math.inf, "read_noise": 0.0, "excess_noise": 1.0}
    for name, given in constants.items():
        values: Any = given
        if isinstance(given, list | tuple | np.ndarray) and number is not None:
            if len(given) != number:
                raise ValueError(
                    f"{name} must be one number or one for each of {number} channels, got {given!r}"
                )
        else:
            values = [given] * len(channels)
        for channel, value in zip(channels, values, strict=True):
            if value is not None and not (is_number(value) and value >= least[name]):
                limit = f" >= {least[name]:g}" if math.isfinite(least[name]) else ""
                raise ValueError(f"{name} must be a finite number{limit}, got {value!r}")
            channel[name] = None if value is None else float(value)
    return channels


def _dark_movie(
    dark: Any, movie: Movie, axis: int, channel_axis: int | None, channel: int, files: ExitStack
) -> Movie:
    """The dark frames as a movie; refused unless they have the movie's frame shape."""
    ndim = len(getattr(dark, "shape", ()))
    if isinstance(dark, str | os.PathLike):
        frames = files.enter_context(open_frames(dark))
    elif ndim == 2:
        frames = open_axes(np.asarray(dark)[None], name="dark")
    elif channel_axis is not None and ndim == 4:
        frames = open_axes(dark, axis, channel_axis, channel, name="dark")
    else:
        if channel_axis is not None:
            # Of a movie with channels, a dark movie without: the time axis is where it is without them.
            axis = axis % 4 - (channel_axis % 4 < axis % 4)
        frames = open_axes(dark, axis, name="dark")
    if frames.shape[1:] != movie.shape[1:]:
        raise ValueError(
            f"dark must have frames of the movie's shape {movie.shape[1:]}, of the same region of the "
            f"same detector, got {frames.shape[1:]}"
        )
    return frames


def _with_what_is_known(
    found: Sensitivity,
    dark: DarkFrames | None,
    *,
    zero_level: float | None,
    read_noise: float | None,
    excess_noise: float | None,
) -> Sensitivity:
    """Bring in dark frames or known constants, then the excess noise."""
    if dark is not None:
        found = with_dark(found, dark)
    elif zero_level is not None or read_noise is not None:
        found = with_known(found, Known.of_data_sheet(zero_level, read_noise))
    return found if excess_noise is None else with_excess_noise(found, excess_noise)
