"""Movies with frames that take turns: channels, focal planes or scan directions stored as one sequence.

Of frames that take turns by k, those k apart differ by noise alone and neighbours by their scenes as well.
So the mean squared difference D(l) of frames l apart is smaller at l = k than at any smaller lag. In a plain
movie it does not fall with the lag, since the longer one waits the more has changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.calibration.result.sensitivity import Reason, Sensitivity, verdict_of
from anscombe_transform.calibration.sums.statistics import MovieLike
from anscombe_transform.native.arrays import Bools

# Windows that are looked at, most frames of each, and the bytes of a window beyond which it is shorter, down
# to the fewest frames that can show a turn.
_WINDOWS, _MOST_FRAMES, _MOST_BYTES, _FEWEST_FRAMES = 3, 96, 8 << 20, 12
# Pixels that are looked at, and the longest turn.
_PIXELS, _LONGEST = 4096, 32
# Most that D(k) may be of every D(l < k), and the share of pairs of frames for which it must be the smaller.
# Without turns D(k) and D(l) agree to a percent or so, and either is smaller in half of the pairs.
_ALIKE, _SHARE = 0.95, 0.85


@dataclass(frozen=True)
class Interleaving:
    """Frames that take turns.

    Attributes
    ----------
    period : int
        Number of channels or planes, ≥ 2.
    excess : float
        Mean squared difference of neighbouring frames over that of frames one period apart, > 1.
    """

    period: int
    excess: float

    def reason(self) -> Reason:
        """Return the consequences for calibration and compression, as a caution."""
        each = f"movie[0::{self.period}] to movie[{self.period - 1}::{self.period}]"
        return Reason(
            "alternating_frames",
            f"frames take turns by {self.period}: those {self.period} apart are alike, and neighbours differ "
            f"{self.excess:.2g} times as much. These seem to be {self.period} channels, focal planes or scan "
            "directions in one sequence. Calibrate and compress each by itself: select a channel or plane of "
            f"the file, give channel_axis of an array that has one, or take {each}. Together they need more "
            "space, and what is common to all hides what differs.",
            "caution",
        )


def find_interleaving(windows: Iterable[NDArray[Any]]) -> Interleaving | None:
    """Look for frames that take turns.

    Parameters
    ----------
    windows : iterable of ndarray, shape (frames, ...)
        Successive frames from different parts of a movie, whole or some of their pixels. Pixels with a sample
        that is not finite are left out.

    Returns
    -------
    Interleaving or None
        None where frames do not take turns, or where too few are given to tell.

    Examples
    --------
    >>> from anscombe_transform import simulate_movie
    >>> movie, _ = simulate_movie((60, 64, 64), rng=0)
    >>> find_interleaving([movie]) is None
    True
    >>> movie[1::2] = movie[1::2, ::-1]
    >>> find_interleaving([movie]).period
    2
    """
    found = [_differences(window) for window in windows]
    # (lag, pair of frames): windows of the shortest length have fewer lags.
    found = [table for table in found if len(table)]
    if not found:
        return None
    lags = min(len(table) for table in found)
    table = np.concatenate([table[:lags] for table in found], axis=1)
    typical = np.nanmedian(table, axis=1)
    for period in range(2, lags + 1):
        here = typical[period - 1]
        shorter = typical[: period - 1]
        if not (here < _ALIKE * shorter).all():
            continue
        pairs = np.isfinite(table[period - 1])
        less = table[period - 1, pairs] < table[: period - 1, pairs]
        again = 2 * period > lags or typical[2 * period - 1] < _ALIKE * typical[0]
        if again and less.mean(axis=1).min() > _SHARE:
            return Interleaving(period, float(typical[0] / max(here, 1e-30)))
    return None


def with_interleaving(sensitivity: Sensitivity, found: Interleaving | None) -> Sensitivity:
    """Return a calibration with the caution that frames take turns, if they do.

    Given constants stay "given": frames that take turns do not contradict them.
    """
    if found is None:
        return sensitivity
    others = tuple(reason for reason in sensitivity.reasons if reason.code != "alternating_frames")
    reasons = (*others, found.reason())
    verdict = sensitivity.verdict if sensitivity.verdict == "given" else verdict_of(reasons)
    return replace(sensitivity, reasons=reasons, verdict=verdict)


def interleaving_of(
    movie: MovieLike, mask: Bools | None = None, max_frames: int | None = None
) -> Interleaving | None:
    """Look for frames that take turns in a few windows of a movie.

    Parameters
    ----------
    movie : array_like, shape (time, y, x)
        Some 20 MB of it are read.
    mask : ndarray of bool, shape (y, x), optional
        True where pixels may be used.
    max_frames : int, optional
        Most frames to look at.

    Returns
    -------
    Interleaving or None
        None where frames do not take turns.
    """
    return find_interleaving(_windows(movie, mask, max_frames))


def _windows(movie: MovieLike, mask: Bools | None, max_frames: int | None) -> Iterator[NDArray[Any]]:
    """Runs of successive frames from the beginning, the middle and the end, of some pixels."""
    frames = movie.shape[0]
    allowed = frames if max_frames is None else min(frames, max_frames)
    if allowed < _FEWEST_FRAMES:
        return
    frame_bytes = int(np.prod(movie.shape[1:])) * np.dtype(movie.dtype).itemsize
    length = min(allowed, _MOST_FRAMES, max(_FEWEST_FRAMES, _MOST_BYTES // max(frame_bytes, 1)))
    count = min(_WINDOWS, allowed // length, max(1, _WINDOWS * _MOST_BYTES // (length * max(frame_bytes, 1))))
    for start in np.linspace(0, frames - length, count).astype(int).tolist():
        window = np.asarray(movie[start : start + length])
        if mask is not None:
            yield window[:, mask]
        else:
            yield window


def _differences(window: NDArray[Any]) -> NDArray[np.float64]:
    """Mean squared differences, shape (lag − 1, first frame of the pair); NaN beyond the last pair."""
    frames = len(window)
    flat = window.reshape(frames, -1)
    flat = flat[:, :: max(1, flat.shape[1] // _PIXELS)]
    if flat.dtype.kind == "f":
        flat = flat[:, np.isfinite(flat).all(axis=0)]
    if frames < _FEWEST_FRAMES or not flat.shape[1]:
        return np.zeros((0, 0))
    flat = (flat - np.median(flat, axis=0).astype(np.float64)).astype(np.float32)
    lags = min(_LONGEST, frames // 3)
    found = np.full((lags, frames), np.nan)
    for lag in range(1, lags + 1):
        found[lag - 1, :-lag] = np.square(flat[lag:] - flat[:-lag]).mean(axis=1)
    return found
