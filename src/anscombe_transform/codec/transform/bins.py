r"""Bins of signals on a grid: every code stands for a run of successive grid points.

The grid is the integers where the signal is integer, and a fine dyadic one else. Bins hold an odd number of
grid points, so that each has a middle point, and their widths follow :math:`\beta \sigma(x)`; the rounding
error of a width is carried on to the next. Where the noise is narrower than that, a bin holds one integer and
the codes are lossless. Bins are laid out from the zero level in both directions, so that the range in use
moves no edge: a movie that was stored once has the same bins again.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from anscombe_transform.codec.transform.curve import ANSCOMBE_CONSTANT
from anscombe_transform.native.arrays import Floats

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    from anscombe_transform.codec.transform.curve import Curve, IntArray

FARTHEST = 2**52
"""Signals and grid points beyond this, up and down, have no bin: float64 holds their half-steps exactly."""

FINENESS = 256
"""Grid points in the narrowest bin of signals that are not integers: rounding to the grid moves a value by a
five-hundredth of a bin."""

_NARROWEST, _NARROWEST_OF_COMB = 1.6, 2.0
"""Bins that would be narrower hold one grid point: of a detector with a photon or more of read noise, and of
one without any. The first bins of three among bins of one move the mean by up to 0.48 / sigma^3 standard
deviations, sigma being the noise in grid points: 0.018 at 3. Without read noise, signals are multiples of the
gain, and rounded to the grid some points are missing or doubled; runs of bins of three that meet the same
place of that comb move the mean by up to 0.035 with the first number as limit, by 0.023 with the second."""

_MOST_SKIPPED = 2**20
"""Bins between the zero level and the range in use; farther away bins are laid out from the range itself."""


@dataclass(frozen=True)
class Bins:
    """Successive bins of grid points.

    Parameters
    ----------
    first : int
        The first grid point of code 0, in steps: the signal ``first * step``.
    widths : tuple of int
        Grid points of every code, >= 1.
    step : float
        Distance of grid points in signal units: a power of two, or a positive integer.

    Examples
    --------
    >>> bins = Bins(first=-1, widths=(3, 1, 5))
    >>> bins.edges
    array([-1.5,  1.5,  2.5,  7.5])
    >>> bins.codes([-1, 0, 2, 3, 7, 8])
    array([0, 0, 1, 2, 2, 3])
    """

    first: int
    widths: tuple[int, ...]
    step: float = 1

    def __post_init__(self) -> None:
        step, first = self.step, self.first
        if not _is_integer(first) or abs(first) > FARTHEST:
            raise ValueError(f"bins: first must be an integer within ±2**52, got {first!r}")
        if isinstance(step, bool) or not isinstance(step, int | float) or not _is_step(step):
            raise ValueError(f"bins: step must be a power of two or a positive integer, got {step!r}")
        widths = self.widths
        if not isinstance(widths, tuple) or not 1 <= len(widths) <= 2**16:
            raise ValueError("bins: widths must list 1 to 65536 bins")
        if not all(_is_integer(w) and w >= 1 for w in widths):
            raise ValueError("bins: widths must be integers of 1 or more")
        end = first + sum(widths)
        if max(abs(first), abs(end)) * max(step, 1) > FARTHEST:
            raise ValueError(f"bins: they reach {max(abs(first), abs(end)) * step:g}, beyond ±2**52")

    def __len__(self) -> int:
        return len(self.widths)

    def __hash__(self) -> int:
        return hash((self.first, self.step, len(self.widths), self.widths[-1]))

    @functools.cached_property
    def starts(self) -> IntArray:
        """First grid point of every code, and the one after the last."""
        return self.first + np.concatenate([[0], np.cumsum(self.widths, dtype=np.int64)])

    @functools.cached_property
    def edges(self) -> Floats:
        """Edges of the bins in signal units, exact; a signal on an edge belongs to the bin above it."""
        return np.asarray((self.starts - 0.5) * self.step, np.float64)

    @property
    def low(self) -> Floats:
        """Lowest grid point of every bin, in signal units."""
        return np.asarray(self.starts[:-1] * float(self.step), np.float64)

    @property
    def high(self) -> Floats:
        """Highest grid point of every bin, in signal units."""
        return np.asarray((self.starts[1:] - 1) * float(self.step), np.float64)

    @functools.cached_property
    def middles(self) -> Floats:
        """Middle grid point of every bin, in signal units; of an even number, the lower of two."""
        middle = self.starts[:-1] + (np.asarray(self.widths, np.int64) - 1) // 2
        return np.asarray(middle * float(self.step), np.float64)

    @property
    def whole(self) -> bool:
        """Whether the grid is one of integers."""
        return self.step >= 1

    def codes(self, signal: npt.ArrayLike) -> IntArray:
        """Code of a signal; -1 and ``len(bins)`` for those below and above all bins."""
        return np.searchsorted(self.edges, np.asarray(signal, np.float64), "right") - 1

    def part(self, start: int, stop: int) -> Bins:
        """The bins of the codes from `start` to before `stop`."""
        return Bins(int(self.starts[start]), self.widths[start:stop], self.step)

    def to_json(self) -> dict[str, Any]:
        """JSON types; ``[w, n]`` among the widths stands for n bins of the width w."""
        runs: list[Any] = []
        for width, group in itertools.groupby(self.widths):
            count = len(list(group))
            runs += [width] * count if count < 3 else [[width, count]]
        return {"first": self.first, "step": self.step, "widths": runs}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Bins:
        """Read stored bins.

        Raises
        ------
        ValueError
            If a key is unknown or missing, or a value breaks its rule.
        """
        if not hasattr(document, "keys") or set(document) != {"first", "step", "widths"}:
            raise ValueError(f"bins must have first, step and widths, got {document!r:.100}")
        runs = document["widths"]
        if not isinstance(runs, list | tuple):
            raise ValueError("bins: widths must be a list")
        widths: list[int] = []
        for run in runs:
            width, count = run if isinstance(run, list | tuple) and len(run) == 2 else (run, 1)
            if not (_is_integer(width) and _is_integer(count) and count >= 1 and width >= 1):
                raise ValueError(f"bins: widths must be integers >= 1 or pairs of them, got {run!r:.100}")
            if len(widths) + count > 2**16:
                raise ValueError("bins: widths must list 1 to 65536 bins")
            widths += [width] * count
        return cls(document["first"], tuple(widths), document["step"])


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_step(step: float) -> bool:
    if not (math.isfinite(step) and step > 0):
        return False
    return (math.frexp(step)[0] == 0.5 and abs(math.log2(step)) <= 500) or (step >= 1 and step == int(step))


def fine_step(curve: Curve, low: float, high: float, dtype: npt.DTypeLike) -> float:
    """Grid of signals that are not integers: fine beside the narrowest bin, and exact in their type."""
    narrowest = curve.beta * float(curve.noise_std(curve.zero_level))
    farthest = max(abs(low), abs(high), abs(curve.zero_level), narrowest)
    coarsest = max(float(np.spacing(np.asarray(farthest, dtype))), farthest / FARTHEST)
    power = max(math.floor(math.log2(narrowest / FINENESS)), math.ceil(math.log2(coarsest)))
    return float(2.0**power)


def bins_between(curve: Curve, low: float, high: float, step: float, most: int) -> Bins:
    """The bins of a detector that hold the signals from `low` to `high`.

    Parameters
    ----------
    curve : Curve
        The detector, and its step `beta`.
    low, high : float
        Signal units.
    step : float
        The grid, see `Bins`.
    most : int
        Codes that there are.

    Raises
    ------
    OverflowError
        If the range takes more than `most` bins; ``args[1]`` is about how many.
    """
    first, last = math.floor(low / step + 0.5), math.floor(high / step + 0.5)
    needed = _codes_between(curve, first, last, step)
    if needed > 2 * most + 64:
        raise OverflowError("too many bins", needed)
    point, width = _zero_bin(curve, step)
    start = point - (width - 1) // 2
    widths: list[int] = []
    if _codes_between(curve, point, first, step) > _MOST_SKIPPED:
        # Bins near the zero level would take long to count; those of the range begin where it does.
        start, above = first, _widths_up(curve, step, first)
    else:
        for down in _widths_down(curve, step):
            if start <= first:
                break
            start -= down
            widths.append(down)
            if len(widths) > most + _MOST_SKIPPED:
                raise OverflowError("too many bins", len(widths))
        widths.reverse()
        above = itertools.chain([width], _widths_up(curve, step, point + (width + 1) // 2))
    end = start + sum(widths)
    while end <= last:
        wide = next(above)
        widths.append(wide)
        end += wide
        if end <= first:
            start, widths = end, []
        if len(widths) > most:
            raise OverflowError("too many bins", max(needed, most + 1))
    # Of a range below the zero level, the bins above it are not needed.
    while end - widths[-1] > last:
        end -= widths.pop()
    return _checked(start, widths, step)


def bins_around(curve: Curve, zero_code: int, count: int, step: float) -> Bins:
    """The bins of a detector with `zero_code` bins below that of the zero level, `count` in all."""
    point, width = _zero_bin(curve, step)
    start = point - (width - 1) // 2
    below = list(itertools.islice(_widths_down(curve, step), max(zero_code, 0)))[::-1]
    above = itertools.chain([width], _widths_up(curve, step, point + (width + 1) // 2))
    for wide in itertools.islice(above, max(-zero_code, 0)):
        start += wide
    widths = [*below, *itertools.islice(above, max(count - len(below), 0))][:count]
    return _checked(start - sum(below), widths, step)


def _checked(start: int, widths: list[int], step: float) -> Bins:
    """Bins, with the outer ones ending where numbers do."""
    limit = math.floor(FARTHEST / max(step, 1))
    while len(widths) > 1 and start < -limit:
        start += widths.pop(0)
    total = sum(widths)
    while len(widths) > 1 and start + total > limit:
        total -= widths.pop()
    return Bins(start, tuple(widths), step)


def _codes_between(curve: Curve, first: int, last: int, step: float) -> int:
    """About how many bins lie between two grid points."""
    ends = curve.stabilize([first * step, last * step])
    return max(0, min(math.ceil(float(ends[1] - ends[0])), last - first))


def _zero_bin(curve: Curve, step: float) -> tuple[int, int]:
    """Grid point and width of the bin of the zero level."""
    return math.floor(curve.zero_level / step + 0.5), next(_widths_down(curve, step))


def _dark_width(curve: Curve, step: float) -> float:
    """Width asked for in darkness, in grid points."""
    return curve.beta * curve.conversion_gain * math.sqrt(curve.constant) / step


class _Widths:
    """Odd widths one after the other; the rounding error of one is added to the next."""

    def __init__(self, curve: Curve, step: float) -> None:
        photons = curve.read_noise / curve.conversion_gain
        comb = max(0.0, 1 - photons * photons)
        self._narrowest = _NARROWEST + (_NARROWEST_OF_COMB - _NARROWEST) * comb
        # Bins in darkness that are wide enough leave no first bin of three farther up.
        self._mixes = _dark_width(curve, step) >= self._narrowest
        self._carried = 0.0

    def next(self, ideal: float, noise: float) -> int:
        """The width of the next bin, >= 1, where `ideal` is asked for and `noise` is beta times the noise."""
        if not self._mixes and noise < self._narrowest:
            return 1
        width = max(1, 2 * round((ideal + self._carried - 1) / 2) + 1)
        self._carried += ideal - width
        return width


def _widths_up(curve: Curve, step: float, start: int) -> Iterator[int]:
    """Widths of the bins from a grid point at or above the zero level on, upwards."""
    gain, zero, half = curve.conversion_gain, curve.zero_level, curve.beta / 2
    constant = curve.constant
    edge, widths = start - 0.5, _Widths(curve, step)
    while True:
        photons = max((edge * step - zero) / gain, 0.0)
        root, noise = math.sqrt(photons + constant), math.sqrt(photons + constant - ANSCOMBE_CONSTANT)
        width = widths.next(gain * (2 * half * root + half * half) / step, gain * 2 * half * noise / step)
        edge += width
        yield width


def _widths_down(curve: Curve, step: float) -> Iterator[int]:
    """Widths of the bins below that of the zero level, downwards."""
    ideal, widths = _dark_width(curve, step), _Widths(curve, step)
    while True:
        yield widths.next(ideal, ideal)
