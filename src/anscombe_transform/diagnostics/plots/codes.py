"""Which codes are used, and how many bits they need."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from anscombe_transform.diagnostics.measurements.frames import check_codec, runs
from anscombe_transform.diagnostics.measurements.noise import neighbours
from anscombe_transform.diagnostics.plots.style import (
    BLUE,
    add_legend,
    count_axes,
    dress,
    new_axes,
    say_instead,
    text_entry,
    with_look,
)
from anscombe_transform.diagnostics.plots.text import in_digits, in_percent, round_signals
from anscombe_transform.movies import open_movie
from anscombe_transform.native.arrays import AnyArray, Floats

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes

    from anscombe_transform.codec.transform.plan import Plan
    from anscombe_transform.diagnostics.measurements.frames import Source


@with_look
def plot_code_histogram(
    movie: Source, codec: Any, *, max_frames: int | None = None, partial: bool = False, ax: Axes | None = None
) -> Axes:
    """Plot how often each code is used, and how many bits a pixel needs at least.

    Parameters
    ----------
    movie : array_like or path, shape (time, y, x)
        Anything that `open_movie` takes.
    codec : AnscombeTransformV2 or AnscombeTransformV3
        The transform, which must hold the movie's values.
    max_frames : int, optional
        Most frames to read, in runs spread evenly over the movie; by default as many as give about 8
        million values.
    partial : bool, optional
        Accept a recording that isn't whole, see `open_movie`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new Figure.

    Returns
    -------
    matplotlib.axes.Axes
        Share of the values per code, with the signal on the upper axis. The legend has two numbers of bits
        per pixel. *Entropy* is that of this histogram: the best any pixel-by-pixel coder can do. *Noise* is
        the mean entropy of a code at a known photon rate: Shannon's bound, which no lossless coder of the
        codes goes below if the codec's noise model holds and the noise is white; ½ log₂(2πe/β²) in bright
        light, 3.05 at β = 0.5, and less in the dark.

    Raises
    ------
    ValueError
        If the movie is not one.
    TypeError
        If `codec` is not one of ours.
    UnrepresentableError
        If the codec has no code for a value.

    References
    ----------
    C. E. Shannon, "A mathematical theory of communication", Bell Syst. Tech. J. 27 (1948) 379-423.

    Examples
    --------
    >>> from anscombe_transform import AnscombeTransformV2, simulate_movie
    >>> movie, truth = simulate_movie((20, 64, 64), rng=0)
    >>> ax = plot_code_histogram(movie, AnscombeTransformV2(truth.zero_level, truth.conversion_gain))
    >>> ax.get_xlabel()
    'Code'
    """
    plan = check_codec(codec)
    use = CodeUse(plan)
    with open_movie(movie, partial=partial) as source:
        for block in runs(source, max_frames):
            use.update(block, plan.encode(block))
    ax = new_axes(ax)
    draw_code_histogram(ax, use)
    return ax


@dataclass(frozen=True)
class _CodeLaw:
    """Variance and entropy (bits) of the code of one value, against the mean number of photons."""

    photons: Floats
    variance: Floats
    entropy: Floats

    def variance_at(self, photons: Floats) -> Floats:
        return np.interp(photons, self.photons, self.variance)

    def entropy_at(self, photons: Floats) -> Floats:
        return np.interp(photons, self.photons, self.entropy)


@functools.lru_cache(maxsize=16)
def code_law(plan: Plan) -> _CodeLaw:
    """Variance and entropy of codes for the codec's detector: Poisson photons with Gaussian read noise.

    Above 300 photons both are constant but for the room between integers.
    """
    from scipy.special import gammaln, xlogy

    curve = plan.curve
    photons = np.concatenate([[0.0], np.geomspace(0.01, 300, 72)])
    deviates = np.linspace(-6, 6, 97) if curve.read_noise > 0 else np.zeros(1)
    share = np.exp(-(deviates**2) / 2)
    share /= share.sum()
    variance, entropy = np.empty_like(photons), np.empty_like(photons)
    for i, n in enumerate(photons):
        reach = 8 * math.sqrt(n) + 8
        count = np.arange(max(math.floor(n - reach), 0), math.ceil(n + reach) + 1)
        chance = np.exp(xlogy(count, n) - n - gammaln(count + 1.0))
        signal = curve.zero_level + curve.conversion_gain * count[:, None] + curve.read_noise * deviates
        if plan.decoded_dtype.kind != "f":
            signal = np.rint(signal)
        code = plan.codes_of(signal)
        weight = np.bincount((code - code.min()).ravel(), (chance[:, None] * share).ravel())
        p = np.asarray(weight / weight.sum(), np.float64)
        q = np.arange(p.size)
        variance[i] = p @ q**2 - (p @ q) ** 2
        entropy[i] = _entropy(p)
    return _CodeLaw(photons, variance, entropy)


def _entropy(share: Floats) -> float:
    """Shannon entropy of shares that add up to 1, in bits."""
    p = share[share > 0]
    return abs(float((p * np.log2(p)).sum()))


class CodeUse:
    """How often each code occurs, and the mean entropy of the noise alone."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.count = np.zeros(int(np.iinfo(plan.encoded_dtype).max) + 1, np.int64)
        self._bits, self._pixels = 0.0, 0

    def update(self, block: AnyArray, codes: AnyArray) -> None:
        """Add a run of frames and their codes."""
        self.count += np.bincount(codes.ravel(), minlength=self.count.size)
        # The rate of a pixel is taken from the run and the pixels around it: one pixel alone would follow
        # its own noise, and a rate that follows the noise makes the entropy too small.
        image = block.mean(axis=0, dtype=np.float64)
        smooth = (8 * neighbours(image) + image) / 9
        bits = code_law(self.plan).entropy_at(np.maximum(self.plan.curve.photons(smooth), 0))
        present = np.isfinite(smooth)
        self._bits += float(bits[present].sum())
        self._pixels += int(np.count_nonzero(present))

    @property
    def share(self) -> Floats:
        """Share of each code."""
        return self.count / max(int(self.count.sum()), 1)

    @property
    def used(self) -> npt.NDArray[np.intp]:
        """The codes that stand for numbers and occur."""
        return np.flatnonzero(self.count[: self.plan.table.size])

    @property
    def nan_share(self) -> float:
        """Share of the codes that stand for NaN."""
        return float(self.share[self.plan.table.size :].sum())

    @property
    def entropy(self) -> float:
        """Bits per pixel of the histogram."""
        return _entropy(self.share)

    @property
    def noise_entropy(self) -> float:
        """Bits per pixel of codes at a known photon rate."""
        return self._bits / max(self._pixels, 1)


def draw_code_histogram(ax: Axes, use: CodeUse) -> None:
    """Draw the share of every code."""
    curve = use.plan.curve
    used = use.used
    if not used.size:
        say_instead(ax, "Use of codes", "There are no numbers, only NaN")
        return
    first, last = int(used[0]), int(used[-1])
    share = use.share[first : last + 1]
    edges = np.arange(first, last + 2) - 0.5
    codes = 2 ** (8 * use.plan.encoded_dtype.itemsize)
    bars = ax.stairs(
        share,
        edges,
        fill=True,
        color=BLUE,
        lw=0,
        label=f"codes {first} to {last} of {codes}, {used.size} used",
    )
    bright = 0.5 * math.log2(2 * math.pi * math.e) - math.log2(curve.beta)
    lines = [
        f"entropy {use.entropy:.2f} bits/pixel",
        f"noise alone {use.noise_entropy:.2f} bits/pixel (bright limit {bright:.2f})",
    ]
    if use.nan_share:
        lines.append(f"{in_percent(use.nan_share)} NaN")
    dress(ax, "Use of codes", "Code", "Share of values")
    count_axes(ax.xaxis)
    ax.set_xlim(edges[0] - 0.01 * edges.size, edges[-1] + 0.01 * edges.size)
    ax.set_ylim(0, 1.05 * float(share.max()))
    upper = ax.secondary_xaxis("top", functions=(curve.invert, curve.stabilize))
    ticks = round_signals(curve.invert(np.linspace(first, last, 7)))
    upper.set_xticks(ticks, [in_digits(t) for t in ticks])
    upper.set_xlabel("Signal (signal units)")
    upper.spines["top"].set_visible(True)
    add_legend(ax, [bars, *[text_entry(s) for s in lines]])
