"""Fixed offsets of pixels: how far places, and parts of the field, lie off the line at all times.

Where a place has a zero level of its own, higher by o than the field's, its variance is

    y = g · (x − o − x₀)

at all times, so that more frames do not average it out. Offsets are treated as random effects [1]: of a
place (tile and class) of variance τ², and of a patch of the field, within which they wander together. A row's
deviation from the line then has the variance of chance plus τ², and rows count by the inverse of that, of one
place and one patch together.

References
----------
1. R. DerSimonian and N. Laird, "Meta-analysis in clinical trials", Controlled Clinical Trials 7 (1986)
   177-188.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.intp]

# Upper quartile of |z| of a normal distribution, and the standard error of the quartile of n values about
# half of which lie on this side, times √n.
_QUARTILE, _CHANCE_OF_QUARTILE = 0.6745, 1.5
# Standard errors, and the relative excess, by which the quartile must exceed chance. The second covers what
# the sampling distribution of a variance leaves out.
_SURE, _LEAST_EXCESS = 2.0, 0.05
# Places, or patches, that are needed to measure their scatter.
_FEWEST = 48


@dataclass(frozen=True)
class Offsets:
    """Variance of the deviation from the line, beyond chance, of a place and of a patch: (signal²)²."""

    place: float = 0.0
    patch: float = 0.0

    def __bool__(self) -> bool:
        return self.place > 0 or self.patch > 0


def find_offsets(
    deviation: Floats, variance: Floats, weight: Floats, place: Integers, patch: Integers
) -> Offsets:
    """Measure how much places, and patches, deviate from the line by more than chance.

    Parameters
    ----------
    deviation, variance : ndarray
        Measured less fitted variance of each row, and the fitted one.
    weight : ndarray
        One over the sampling variance of the deviation; 0 for rows that do not count.
    place, patch : ndarray of int
        Number of the place, and of the patch, of each row.
    """
    of_place = _beyond_chance(place, weight, deviation, variance)
    shared = weight_of_shared(place, weight, weight, of_place)
    return Offsets(of_place, _beyond_chance(patch, shared, deviation, variance))


def weight_of_shared(label: Integers, weight: Floats, counted: Floats, scatter: float) -> Floats:
    """Weights of rows if all of one label share a deviation of variance `scatter`.

    `counted` are the weights of the rows that are used. n rows of weight w each that share a deviation of
    variance τ² weigh w / (1 + n w τ²) each: together 1 / (1/(n w) + τ²).
    """
    if not scatter:
        return weight
    return np.asarray(weight / (1 + scatter * np.bincount(label, counted)[label]), np.float64)


def _beyond_chance(label: Integers, weight: Floats, deviation: Floats, variance: Floats) -> float:
    """Variance of the labels' mean deviations beyond chance, in the darker half of the labels.

    From the quartile below the median: motion and flashes add variance and take none away. In the darker
    half, since whatever else distinguishes places, such as a gain of their own, grows with the light.
    """
    total = np.bincount(label, weight)
    present = total > 0
    if np.count_nonzero(present) < _FEWEST:
        return 0.0
    total = total[present]
    mean, level = (np.bincount(label, weight * v)[present] / total for v in (deviation, variance))
    dark = level <= np.median(level)
    mean, chance = mean[dark], 1 / total[dark]
    below = np.maximum(np.median(mean) - mean, 0.0)

    def quartile(scatter: float) -> float:
        # Half of the values are 0: three quarters of all are the middle of those below.
        return float(np.quantile(below / np.sqrt(chance + scatter), 0.75))

    margin = 1 + _LEAST_EXCESS + _SURE * _CHANCE_OF_QUARTILE / math.sqrt(len(mean))
    if not quartile(0.0) > _QUARTILE * margin:
        return 0.0
    low, high = 0.0, float(np.quantile(below, 0.75) / _QUARTILE) ** 2
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if quartile(middle) > _QUARTILE else (low, middle)
    return high
