"""How fast this machine stores this movie, and how small: each preset beside copying memory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from anscombe_transform.calibration import compute_sensitivity
from anscombe_transform.codec.pipeline import PRESETS, array_in_memory
from anscombe_transform.compression import verify
from anscombe_transform.movies import open_movie
from anscombe_transform.native.documents import Printed
from anscombe_transform.native.work import Progress

if TYPE_CHECKING:
    from anscombe_transform.calibration import Sensitivity
    from anscombe_transform.movies import Movie, SupportsMovie

__all__ = ["PresetSpeed", "Speed", "measure_speed"]

_CHUNK_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class PresetSpeed:
    """One preset on this movie, in memory.

    Attributes
    ----------
    preset : str
        "fast", "compact" or "portable".
    ratio : float
        How many times smaller the movie is stored.
    write, read : float
        Millions of bytes of movie per second, the best of the repeats.
    verified : bool
        Whether every value came back within the codec's bound.

    Examples
    --------
    >>> one = PresetSpeed("fast", ratio=4.4, write=310.0, read=580.0, verified=True)
    >>> f"a terabyte takes {1e6 / one.write / 3600:.1f} h and {1000 / one.ratio:.0f} GB"
    'a terabyte takes 0.9 h and 227 GB'
    """

    preset: str
    ratio: float
    write: float
    read: float
    verified: bool


@dataclass(frozen=True, slots=True, repr=False)
class Speed(Printed):
    """The speed of a machine on a movie.

    Attributes
    ----------
    source : str
        Where the movie is, or the type of the array.
    shape : tuple of int
        ``(time, y, x)`` of the frames that were used, the first of the movie.
    dtype : str
        Type of the values.
    processors : int
        How many the process may use.
    copy : float
        Copying the frames in memory, millions of bytes per second: the upper limit of the machine.
    open_and_read : float
        Reading the frames from the source, once, millions of bytes per second; a file that the system has in
        memory already is faster.
    calibrate : float
        Calibrating these frames, every one of them, millions of bytes per second.
    presets : tuple of PresetSpeed
        Speed of each preset.

    Examples
    --------
    >>> from anscombe_transform import measure_speed, simulate_movie
    >>> movie, _ = simulate_movie((40, 64, 64), conversion_gain=90, zero_level=50, rng=0)
    >>> found = measure_speed(movie, repeats=1)
    >>> found.source, found.shape, [one.preset for one in found.presets]
    ('numpy.ndarray', (40, 64, 64), ['fast', 'compact', 'portable'])
    """

    source: str
    shape: tuple[int, int, int]
    dtype: str
    processors: int
    copy: float
    open_and_read: float
    calibrate: float | None
    presets: tuple[PresetSpeed, ...]

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types."""
        return asdict(self)

    def __str__(self) -> str:
        size = " × ".join(map(str, self.shape))
        lines = [
            f"{self.source}: {size} {self.dtype}, {self.processors} processors; MB/s of movie",
            f"  copy in memory  {self.copy:8,.0f}",
            f"  read the source {self.open_and_read:8,.0f}",
        ]
        if self.calibrate is not None:
            lines.append(f"  calibrate       {self.calibrate:8,.0f}")
        for one in self.presets:
            checked = "every value within its bound" if one.verified else "NOT within its bound"
            lines.append(
                f"  {one.preset:10} write {one.write:8,.0f} ({one.write / self.copy:.2f} of copying), read "
                f"{one.read:8,.0f} ({one.read / self.copy:.2f}); {one.ratio:.2f} times smaller, {checked}"
            )
        return "\n".join(lines)


def measure_speed(
    source: str | os.PathLike[str] | SupportsMovie | Movie,
    *,
    sensitivity: Sensitivity | None = None,
    megabytes: float = 128,
    repeats: int = 3,
    partial: bool = False,
    progress: Progress | None = None,
) -> Speed:
    """Measure how fast this machine writes and reads the first frames of a movie, with each preset.

    Parameters
    ----------
    source : path or array
        The movie ``(time, y, x)``, as `open_movie` takes it.
    sensitivity : Sensitivity, optional
        Constants of the detector; by default they are read from the frames.
    megabytes : float, optional
        Most bytes of movie to use, > 0. They are held in memory, with copies.
    repeats : int, optional
        How often each is done, >= 1; the fastest counts, since others only disturb.
    partial, progress : optional
        As for `compress`.

    Returns
    -------
    Speed

    Raises
    ------
    ValueError
        `megabytes` or `repeats` breaks its rule.
    UntrustworthyCalibration
        The constants can't be read from the movie and were not given.

    Examples
    --------
    >>> from anscombe_transform import simulate_movie
    >>> movie, _ = simulate_movie((40, 64, 64), conversion_gain=90, zero_level=50, rng=0)
    >>> found = measure_speed(movie, repeats=1)
    >>> all(one.verified and one.ratio > 3 for one in found.presets)
    True
    """
    if not megabytes > 0:
        raise ValueError(f"megabytes must be > 0, got {megabytes!r}")
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats!r}")
    report = progress or (lambda done, total, stage: None)
    steps = 3 + len(PRESETS)
    report(0, steps, "read")
    with open_movie(source, partial=partial) as movie:
        frame_bytes = movie.nbytes // movie.shape[0]
        count = min(movie.shape[0], max(2, int(megabytes * 1e6) // frame_bytes))
        begun = time.perf_counter()
        frames = movie.frames(0, count)
        reading = time.perf_counter() - begun
        name = movie.source
    report(1, steps, "copy")
    target = np.zeros_like(frames)
    copy = _fastest(lambda: np.copyto(target, frames), repeats)
    report(2, steps, "calibrate")
    calibrating = None
    if sensitivity is None:
        compute_sensitivity(frames[:16], on_refusal="return")  # compiles
        begun = time.perf_counter()
        sensitivity = compute_sensitivity(frames, full=True)
        calibrating = time.perf_counter() - begun
    chunks = (min(count, max(1, _CHUNK_BYTES // frame_bytes)), *frames.shape[1:])
    presets = []
    for number, preset in enumerate(PRESETS):
        report(3 + number, steps, preset)
        presets.append(_measure(preset, frames, sensitivity, chunks, repeats))
    report(steps, steps, "done")
    amount = frames.nbytes / 1e6
    return Speed(
        name,
        (count, *movie.shape[1:]),
        frames.dtype.name,
        os.cpu_count() or 1,
        amount / copy,
        amount / reading,
        None if calibrating is None else amount / calibrating,
        tuple(presets),
    )


def _measure(
    preset: Any, frames: Any, sensitivity: Sensitivity, chunks: tuple[int, ...], repeats: int
) -> PresetSpeed:
    array = array_in_memory(frames, sensitivity, preset=preset, chunks=chunks)

    def write() -> None:
        array[:] = frames

    writing = _fastest(write, repeats)
    reading = _fastest(lambda: array[:], repeats)
    amount = frames.nbytes / 1e6
    return PresetSpeed(
        preset,
        frames.nbytes / array.nbytes_stored(),
        amount / writing,
        amount / reading,
        verify(array, frames).ok,
    )


def _fastest(work: Callable[[], object], repeats: int) -> float:
    """Seconds that the fastest of the repeats took."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)
