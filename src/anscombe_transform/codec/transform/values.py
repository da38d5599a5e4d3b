r"""The value of every code: middles of bins, and values that keep the mean unbiased.

A code stands for a bin of signals. Decoding it to the middle of the bin shifts the mean of many decoded
frames, since within a bin darker signals are likelier or the bin is wider towards its bright end. At
``beta=0.5`` and a sixth of a photon of read noise the shift is 0.03 standard deviations of the noise at a
twentieth of a photon, 0.05 at five photons and 0.01 at a hundred. The table made here solves

.. math::

    \sum_q P(q \mid \lambda) \, w_q = E[x \mid \lambda] \quad \text{for all } \lambda

for the values :math:`w_q`, with *P* from the detector's own Poisson-Gaussian density and the bins' edges, by
ridge least squares around the solution for bright pixels. There the noise spreads over many codes and acts as
dither, so that the error of rounding is uniform and independent of the signal [1]_. The middle :math:`m_q` of
a bin would then be right if all bins were of one width; their width squared grows by :math:`g \beta^2` per
signal unit, which leaves

.. math::

    w_q = m_q - g \beta^2 / 12

The noise in the dark is never known that well: pulses vary, levels drift, read noise is that of
each pixel. So where frames are at hand, `fitted` moves the values by the little that it takes to keep the
mean of these frames at every brightness, and rounds integers so that neighbouring codes make good each
other's rounding.

References
----------
.. [1] B. Widrow, I. Kollár, "Quantization Noise" (Cambridge University Press, 2008), chapter 4: a quantiser
with input spread over several steps adds uniform noise of variance 1/12 step squared.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from anscombe_transform.native.arrays import Floats

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    import numpy.typing as npt

    from anscombe_transform.codec.transform.bins import Bins
    from anscombe_transform.codec.transform.curve import Curve

    AnyFloat = npt.NDArray[np.floating[Any]]

BRIGHT = 150.0
"""Photons above which the solution for bright pixels is exact to 1e-4 standard deviations."""

BLUR = 0.25
"""Photons of blur to assume of a measured detector.

A table for exact multiples of the gain is off by up to 0.05 standard deviations where read noise or pulse
heights blur them; one for a quarter of a photon stays within 0.035 for any blur, the comb included.
"""

_LOST = 1e-4

FEWEST_FRAMES_TO_FIT = 16
"""Frames from which on the mean at every brightness is known well enough to fit values to."""

MOST_VALUES = 1 << 21
"""Values of a movie that a table is fitted to: a group's mean is then known to a thousandth of the noise."""

# Successive frames of which the others tell a pixel's brightness, and runs of them; of fewer frames its
# neighbours do.
_RUN, _MOST_RUNS, _FEWEST_FRAMES = 16, 8, 4
# Codes that are fitted. Where so many are in use, the noise spreads over enough of them to need no fit.
_MOST_CODES = 1024
# How far a fit is expected to move a value, in steps: a fifth of what would take it out of its bin.
_MOVED = 0.1
# Rounds of rounding, of which few are needed, and by how much a move must pay, in squares of a unit.
_MOST_ROUNDS, _WORTH = 100, 1e-6
# How far apart two codes may be that are moved at once.
_NEIGHBOURS = 12

_RIDGE = 1e-3
_DARKEST = 0.01


def unbiased(
    bins: Bins,
    curve: Curve,
    *,
    integers: bool,
    read_noise: float | None = None,
    excess_noise: float = 1.0,
) -> Floats:
    """Values of codes that keep the mean of decoded frames at the mean of the originals.

    Parameters
    ----------
    bins : Bins
        The signals of every code; a grid of integers says that the signals are integers, as a converter gives
        them.
    curve : Curve
        The detector.
    integers : bool
        Whether the values have to be integers, on a grid of integers.
    read_noise : float, optional
        Noise of one signal at a given count, by default the curve's read noise. Without any, signals are
        multiples of the gain, and the table fits that comb; a detector with noise that is not known that well
        is served better by a table for a quarter of a photon (see `BLUR`).
    excess_noise : float
        Excess noise factor F² of a detector that multiplies photons unevenly, >= 1. The curve's gain is then
        the effective one, F² times the mean signal of one photon; single-photon pulses are taken to be
        gamma-distributed.

    Returns
    -------
    ndarray of float64, shape (len(bins),)
        Signal units; increasing, each value inside the bin of its code, and integers on a grid of integers.
    """
    middle = (bins.edges[:-1] + bins.edges[1:]) / 2
    bright = middle - np.where(middle > curve.zero_level, curve.conversion_gain * curve.beta**2 / 12, 0.0)
    noise = curve.read_noise if read_noise is None else read_noise
    if bins.whole:
        bright = np.clip(bright, bins.low, bins.high)
    correction, normal = _dark_correction(bins, curve, bright, noise, excess_noise)
    return _inside_bins(bins, bright + correction, normal, integers=integers)


def fitted(
    bins: Bins, curve: Curve, values: AnyFloat, blocks: Iterable[npt.NDArray[Any]], *, integers: bool
) -> Floats:
    r"""Values moved as little as it takes for sample frames to keep their mean at every brightness.

    Pixels are sorted by a brightness that does not hold their own noise: the mean of the same pixel in the
    other frames of a block, or of the pixel's two neighbours where a block has few frames. That a group k of
    them, :math:`n_{kq}` with code q, keeps its mean says

    .. math::

        \sum_q n_{kq} w_q = \sum_{i \in k} x_i

    for any distribution of the noise. The errors of rounding in it are independent, of variance
    :math:`\beta^2 \sigma_k^2 / 12` each; with these weights, and values expected to stay within a tenth of a
    step of those given, it is solved by least squares. Integers are then chosen, each in its code's bin,
    under which the same sum of squares is least: neighbours compensate the rounding of a code.

    Parameters
    ----------
    bins : Bins
        The signals of every code; on a grid of integers the values are integers.
    curve : Curve
        The detector.
    values : ndarray of float64, shape (len(bins),)
        Initial values, as from `unbiased`; codes that the sample lacks keep theirs, but for rounding.
    blocks : iterable of ndarray, shape (frames, ..., x)
        Successive frames from here and there in a movie. NaN and values without a code do not count.
    integers : bool
        Whether the values have to be integers, on a grid of integers.

    Returns
    -------
    ndarray of float64, shape (len(bins),)
        Signal units; increasing, and each value inside the bin of its code.

    Examples
    --------
    >>> import numpy as np
    >>> from anscombe_transform.codec.transform.bins import bins_between
    >>> from anscombe_transform.codec.transform.curve import Curve
    >>> curve = Curve(60.0, 0.0)
    >>> bins = bins_between(curve, 0, 3000, 0.0625, 255)
    >>> frames = np.random.default_rng(0).gamma(5, 60, (64, 100, 100))
    >>> plain = unbiased(bins, curve, integers=False)
    >>> better = fitted(bins, curve, plain, [frames], integers=False)
    >>> codes = bins.codes(frames)
    >>> bool(abs(better[codes].mean() - frames.mean()) < abs(plain[codes].mean() - frames.mean()) / 20)
    True
    """
    count = min(len(values), _MOST_CODES)
    n, signal, error = np.zeros((count, count)), np.zeros(count), np.zeros(count)
    for block in blocks:
        x, brightness = _with_brightness(block)
        known = np.isfinite(x) & np.isfinite(brightness)
        x, brightness = x[known], brightness[known]
        code, group = bins.codes(x), bins.codes(brightness)
        known = (code >= 0) & (code < len(values)) & (group >= 0) & (group < count)
        x, code, group = x[known], code[known], group[known]
        signal += np.bincount(group, x, count)
        error += np.bincount(group, x - values[code], count)
        few = code < count
        n += np.bincount(group[few] * count + code[few], minlength=count * count).reshape(count, count)
    total = n.sum(axis=1)
    seen = total > 0
    n, total, signal, error = n[seen], total[seen], signal[seen], error[seen]
    # In standard deviations of the noise: of the group for an error of its mean, of the code for a move.
    sigma, scale = curve.noise_std(signal / total), _freedom(bins, curve, values)[:count]
    design = n / total[:, None] / sigma[:, None] * scale
    weight = total / (curve.beta**2 / 12)
    normal = design.T @ (design * weight[:, None])
    normal[np.diag_indices_from(normal)] += 1 / (_MOVED * curve.beta) ** 2
    moved = values.copy()
    moved[:count] += scale * np.linalg.solve(normal, design.T @ (weight * error / total / sigma))
    return _inside_bins(bins, moved, _per_signal(normal, scale), integers=integers, pairs=True)


def sample_blocks(sample: Any, most_bytes: int = 1 << 26) -> Iterator[npt.NDArray[Any]]:
    """Runs of frames from all over a movie (frames, ..., x), or of rows of an image, for `fitted`.

    Parameters
    ----------
    sample : array_like
        Anything that has a shape and a dtype, and slices. Of a list there are no runs.
    most_bytes : int
        Bytes read at once, if an index of the first axis is not more. Of large frames, rows that are spread
        evenly are handed out.
    """
    dimensions = len(sample.shape)
    if dimensions < 2:
        return
    row_bytes = math.prod(sample.shape[1:]) * np.dtype(sample.dtype).itemsize
    longest = _RUN if dimensions > 2 else MOST_VALUES // sample.shape[1]
    run = max(1, min(longest, most_bytes // row_bytes, sample.shape[0]))
    runs = min(_MOST_RUNS, sample.shape[0] // run)
    for start in np.linspace(0, sample.shape[0] - run, runs).astype(int).tolist():
        block = np.asarray(sample[start : start + run])
        frames = block.reshape(1 if dimensions == 2 else run, -1, block.shape[-1])
        yield some_rows(frames, MOST_VALUES // runs)


def some_rows(block: npt.NDArray[Any], most: int, first: int = 0) -> npt.NDArray[Any]:
    """A view of evenly spread rows of frames (frames, y, x), of about so many values, from a row on."""
    step = max(1, block.size // most)
    return block[:, first % min(step, block.shape[1]) :: step]


def _with_brightness(block: npt.NDArray[Any]) -> tuple[AnyFloat, AnyFloat]:
    """Flat values of frames, and a brightness of each that does not hold its own noise."""
    x = block.astype(np.float64)
    if len(x) >= _FEWEST_FRAMES:
        return x.ravel(), ((x.sum(axis=0) - x) / (len(x) - 1)).ravel()
    return x[..., 1:-1].ravel(), ((x[..., :-2] + x[..., 2:]) / 2).ravel()


def _freedom(bins: Bins, curve: Curve, values: AnyFloat) -> AnyFloat:
    """The unit in which values are moved: the noise there, and nothing where a bin is one integer."""
    return np.where(bins.whole & (bins.low == bins.high), 0.0, curve.noise_std(values))


def _per_signal(normal: AnyFloat, scale: AnyFloat) -> AnyFloat:
    """A matrix of the sum of squares for moves in signal units; 0 for values that stay."""
    per = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
    return normal * per * per[:, None]


def _inside_bins(
    bins: Bins, wanted: AnyFloat, normal: AnyFloat, *, integers: bool, pairs: bool = False
) -> Floats:
    """Values in the bins of their codes near those wanted; integers where they have to be.

    Those are chosen that least enlarge the sum of squares with the matrix `normal` of the first codes;
    integers by descent along one code after the other, and with `pairs` along two at once, until none may
    move. Pairs follow a matrix so far that it should be one of the movie's own.
    """
    low, high = bins.low, bins.high
    if not integers:
        return _bounded(bins, wanted, normal)
    result: Floats = np.clip(wanted, low, high)
    count = len(normal)
    starts = np.clip(np.rint(result / bins.step) * bins.step, low, high), bins.middles
    found = [_descend(bins, wanted, normal, start, pairs) for start in starts]
    return min(found, key=lambda values: _cost(values[:count] - wanted[:count], normal))


def _bounded(bins: Bins, wanted: AnyFloat, normal: AnyFloat) -> Floats:
    """Values in bins under which the sum of squares is least, by bounded-variable least squares."""
    from scipy.optimize import lsq_linear

    low, high = bins.low, bins.high
    result: Floats = np.clip(wanted, low, high)
    free = np.flatnonzero((low < high)[: len(normal)] & (np.diag(normal) > 0))
    if free.size and (result != wanted)[free].any():
        scale = 1 / np.sqrt(np.diag(normal)[free])
        root = np.linalg.cholesky(normal[np.ix_(free, free)] * scale * scale[:, None]).T
        ends = low[free] / scale, high[free] / scale
        found = lsq_linear(root, root @ (wanted[free] / scale), ends, method="bvls").x * scale
        result[free] = np.clip(found, low[free], high[free])
    return result


def _cost(moved: AnyFloat, normal: AnyFloat) -> float:
    return float(moved @ normal @ moved)


def _descend(bins: Bins, wanted: AnyFloat, normal: AnyFloat, start: Floats, pairs: bool) -> Floats:
    """Integers in bins from which no step of one code, or of two, lessens the sum of squares."""
    low, high, count = bins.low, bins.high, len(normal)
    result: Floats = start.copy()
    slope, steepness = normal @ (result - wanted)[:count], np.diag(normal)
    free = np.flatnonzero((low < high)[:count] & (steepness > 0))

    def move(q: int, by: float) -> None:
        result[q] += by
        slope[...] += normal[:, q] * by

    for _ in range(_MOST_ROUNDS):
        before = result.copy()
        for q in free.tolist():
            to = float(np.rint((result[q] - slope[q] / steepness[q]) / bins.step) * bins.step)
            by = min(max(to, low[q]), high[q]) - result[q]
            # A move that changes nothing would be made back and forth.
            if by * slope[q] + by * by * steepness[q] / 2 < -_WORTH * steepness[q]:
                move(q, by)
        if not np.array_equal(before, result):
            continue
        pair = _best_pair(free, result, (low, high), slope, normal, bins.step) if pairs else None
        if pair is None:
            break
        for q, by in pair:
            move(q, by)
    return result


def _best_pair(
    free: npt.NDArray[np.int64],
    values: Floats,
    ends: tuple[Floats, Floats],
    slope: AnyFloat,
    normal: AnyFloat,
    step: float,
) -> list[tuple[int, float]] | None:
    """The steps of two neighbouring codes that lessen the sum of squares most; None where none do."""
    steps, steepness = np.array([[-step], [step]]), np.diag(normal)[free]
    alone = steps * slope[free] + step * step / 2 * steepness
    reached = values[free] + steps
    alone[(reached < ends[0][free]) | (reached > ends[1][free])] = np.inf
    least, best = -_WORTH * steepness.min(initial=np.inf), None
    for apart in range(1, min(_NEIGHBOURS, free.size - 1) + 1):
        first, second = free[:-apart], free[apart:]
        both = alone[:, None, :-apart] + alone[:, apart:] + steps[:, None] * steps * normal[first, second]
        i, j, at = np.unravel_index(np.argmin(both), both.shape)
        if both[i, j, at] < least:
            least = both[i, j, at]
            best = [(int(first[at]), steps[i, 0].item()), (int(second[at]), steps[j, 0].item())]
    return best


def _dark_correction(
    bins: Bins, curve: Curve, bright: AnyFloat, noise: float, excess: float
) -> tuple[AnyFloat, AnyFloat]:
    """The correction of the bright solution that makes the mean unbiased for dark pixels too.

    The second result is the matrix of the sum of squares that it minimises, of the first codes.
    """
    from scipy.special import gammaln, ndtr

    gain, zero = curve.conversion_gain, curve.zero_level
    nothing = np.zeros(len(bright)), np.zeros((0, 0))
    # Rates from darkness to where the bright solution holds or the codes end, eight to a standard deviation.
    headroom = (float(bins.high[-1]) - zero) / gain
    spread = math.sqrt(max(headroom, 0) + curve.constant)
    brightest = min(BRIGHT, headroom - 8 * spread)
    if brightest <= _DARKEST:
        return nothing
    first, last = math.sqrt(_DARKEST), math.sqrt(brightest)
    rates = np.linspace(first, last, math.ceil(16 * (last - first)) + 100) ** 2

    # Without room for the noise of darkness its lower half is refused or clipped: no table mends that mean.
    if noise > 0 and ndtr((float(bins.edges[0]) - zero) / noise) > _LOST:
        return nothing
    most = brightest * excess
    counts = np.arange(math.ceil(most + 10 * math.sqrt(most) + 10))
    signals = zero + gain / excess * counts
    # Only the codes that such pixels reach take part.
    lowest, highest = bins.codes([signals[0] - 9 * noise - 1, signals[-1] + 9 * noise + 1]).tolist()
    start, stop = max(lowest, 0), min(highest + 1, len(bright), _MOST_CODES)
    if start >= stop:
        return nothing
    reached = slice(start, stop)
    rounded = bins.whole and excess == 1
    placed = np.rint(signals) if rounded and noise == 0 else signals
    probability = code_given_count(
        bins.edges[start : stop + 1] - zero, placed - zero, gain / excess, counts, noise, excess
    )
    expected = excess * rates[:, None]
    count_given_rate = np.exp(counts * np.log(expected) - expected - gammaln(counts + 1))
    count_given_rate /= count_given_rate.sum(axis=1, keepdims=True)
    probability = count_given_rate @ probability

    sigma = gain * np.sqrt(rates + (noise / gain) ** 2)
    target = count_given_rate @ (_mean_rounded(signals, noise) if rounded else signals)
    residual = (target - probability @ bright[reached]) / sigma
    scale = _freedom(bins, curve, bright)[reached]
    design = probability / sigma[:, None] * scale
    normal = design.T @ design
    normal[np.diag_indices_from(normal)] += _RIDGE
    correction, whole = np.zeros(len(bright)), np.zeros((stop, stop))
    correction[reached] = scale * np.linalg.solve(normal, design.T @ residual)
    whole[reached, reached] = _per_signal(normal, scale)
    return correction, whole


def code_given_count(
    edges: AnyFloat, signals: AnyFloat, pulse: float, counts: npt.NDArray[Any], noise: float, excess: float
) -> AnyFloat:
    """Probability of every code (columns) for every photon count (rows); the end codes take the tails.

    `edges`, and `signals` of the counts, are given from the zero level; `pulse` is the mean signal of one
    photon.
    """
    from scipy.special import gammainc, ndtr

    signals = signals[:, None]
    if excess > 1:
        # The sum of n gamma pulses of shape k is gamma of shape n k; read noise shifts it, in eleven steps.
        shape = 1 / (excess - 1)
        steps = np.linspace(-2.5, 2.5, 11)
        weights = np.exp(-(steps**2) / 2) / np.exp(-(steps**2) / 2).sum()
        below = np.empty((counts.size, edges.size))
        below[0] = ndtr(edges / max(noise, 1e-6 * pulse))
        below[1:] = sum(
            weight * gammainc(counts[1:, None] * shape, np.maximum(edges - step * noise, 0) / pulse * shape)
            for step, weight in zip(steps, weights, strict=True)
        )
    elif noise > 0:
        with np.errstate(over="ignore"):
            below = ndtr((edges - signals) / noise)
    else:
        below = (signals < edges).astype(np.float64)
    below[:, 0], below[:, -1] = 0.0, 1.0
    inside: AnyFloat = np.diff(below, axis=1)
    return inside


def _mean_rounded(signals: AnyFloat, noise: float) -> AnyFloat:
    """Mean of noisy signals after rounding to integers, which is not the signal where the noise is small."""
    from scipy.special import ndtr

    if noise == 0:
        return np.rint(signals)
    if noise >= 1:
        # The error is below exp(-2 pi^2 noise^2).
        return signals
    integers = np.floor(signals)[:, None] + np.arange(-9, 11)
    with np.errstate(over="ignore"):
        upper = ndtr((integers + 0.5 - signals[:, None]) / noise)
        lower = ndtr((integers - 0.5 - signals[:, None]) / noise)
    mean: AnyFloat = (integers * (upper - lower)).sum(axis=1)
    return mean
