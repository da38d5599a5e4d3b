"""Movies of a photon-limited detector with known truth.

One frame is made as light makes it:

    photons      n ~ Poisson(scene, moved, bleached, flickering, with active cells)
    response     a(n) = n, or a gamma sum with E[a] = n and Var[a] = excess_noise · n
    electronics  x = zero_level + conversion_gain · a + Normal(0, read_noise)
    converter    round, saturate at the ends of its range

so one pixel's variance is a straight line of its mean, of slope ``excess_noise · conversion_gain``: the
*effective* gain, which is all that the noise of a movie can reveal.

Frames are made one by one in float32, so a movie costs little more memory than its own samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = ["Truth", "expected_photons", "simulate_frames", "simulate_movie"]

FloatImage = NDArray[np.float32]
Shape = tuple[int, int, int]

# A calcium-like transient: e-folding time in frames, and the mean number of frames between two onsets.
_TRANSIENT_DECAY = 6.0
_TRANSIENT_INTERVAL = 40.0


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What a simulated movie was made with.

    Attributes
    ----------
    conversion_gain : float
        Slope of variance against mean, in signal units per photon: ``excess_noise · signal_per_photon``.
    signal_per_photon : float
        Mean signal of one detected photon; equal to `conversion_gain` without excess noise.
    zero_level : float
        Mean signal without light.
    read_noise : float
        Standard deviation of the signal without light, before rounding, in signal units.
    variance_intercept : float
        Mean at which the variance line reaches zero, ``zero_level − read_noise² / conversion_gain``.
    excess_noise : float
        Excess noise factor F² = E[a²]/E[a]² of the response `a` to one photon.
    photons : ndarray of float32, shape (y, x)
        Mean photons per frame of the scene at rest: before motion, bleaching, flicker and activity.
    active : ndarray of bool, shape (y, x)
        Pixels whose brightness was made to change by transients (at rest).
    shifts : ndarray of float64, shape (time, 2)
        Displacement (y, x) of the scene in each frame, in pixels.
    brightness : ndarray of float64, shape (time,)
        Factor of bleaching and flicker of each frame.
    hot_pixels : ndarray of bool, shape (y, x)
        Pixels with a false offset and false noise.
    lowest, highest : float
        Ends of the converter's range.
    clipped_low, clipped_high : int
        Number of samples that fell beyond those ends and were saturated there.

    Examples
    --------
    >>> movie, truth = simulate_movie((10, 32, 32), conversion_gain=90, read_noise=30, rng=0)
    >>> truth.photons.shape, truth.brightness.shape, truth.shifts.shape
    ((32, 32), (10,), (10, 2))
    >>> truth.variance_intercept
    40.0
    """

    conversion_gain: float
    signal_per_photon: float
    zero_level: float
    read_noise: float
    variance_intercept: float
    excess_noise: float
    photons: FloatImage
    active: NDArray[np.bool_]
    shifts: NDArray[np.float64]
    brightness: NDArray[np.float64]
    hot_pixels: NDArray[np.bool_]
    lowest: float
    highest: float
    clipped_low: int
    clipped_high: int


def structured_scene(
    shape: tuple[int, int], rng: np.random.Generator
) -> tuple[FloatImage, NDArray[np.int32]]:
    """Draw tissue as a microscope sees it: a shaded background, vessels, and ring-shaped cells.

    Parameters
    ----------
    shape : (int, int)
        Height and width in pixels.
    rng : numpy.random.Generator
        Source of the drawing.

    Returns
    -------
    image : ndarray of float32, shape (y, x)
        Relative brightness > 0 with mean 1; darkest to brightest about 1 : 30.
    labels : ndarray of int32, shape (y, x)
        Number of the cell that covers the pixel, 0 outside cells.

    Examples
    --------
    >>> image, labels = structured_scene((64, 64), np.random.default_rng(0))
    >>> float(abs(image.mean() - 1)) < 1e-5
    True
    """
    height, width = shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    image = np.full(shape, 0.25, np.float32)
    for _ in range(6):
        ky, kx = rng.normal(0, 2.0, 2) * 2 * np.pi / max(height, width)
        image += 0.07 * (1 + np.cos(ky * y + kx * x + rng.uniform(0, 2 * np.pi)))
    for _ in range(max(1, max(shape) // 64)):
        angle, offset = rng.uniform(0, np.pi), rng.uniform(-0.4, 0.4) * max(shape)
        distance = (y - height / 2) * np.cos(angle) + (x - width / 2) * np.sin(angle) - offset
        distance += 4 * np.sin((y + x) / rng.uniform(10, 30))
        image *= 1 - 0.7 * np.exp(-((distance / rng.uniform(2, 5)) ** 2))

    labels = np.zeros(shape, np.int32)
    cells = max(3, height * width // 600)
    for cell in range(1, cells + 1):
        cy, cx = rng.uniform(0, height), rng.uniform(0, width)
        radius = rng.uniform(3.5, 7.0)
        brightness = rng.lognormal(0.6, 0.7)
        reach = int(2.5 * radius) + 1
        rows = slice(max(0, int(cy) - reach), int(cy) + reach)
        columns = slice(max(0, int(cx) - reach), int(cx) + reach)
        r = np.hypot(y[rows, columns] - cy, x[rows, columns] - cx) / radius
        ring = np.exp(-(((r - 0.75) / 0.3) ** 2)) + 0.5 * np.exp(-((r / 0.6) ** 2))
        image[rows, columns] += np.float32(brightness) * ring
        labels[rows, columns][r < 1.2] = cell
    return (image / image.mean(dtype=np.float64)).astype(np.float32), labels


def simulate_movie(
    shape: Shape = (100, 256, 256),
    *,
    conversion_gain: float = 90.0,
    zero_level: float = 50.0,
    read_noise: float = 0.0,
    mean_photons: float = 4.0,
    scene: Literal["structured", "uniform"] | ArrayLike = "structured",
    excess_noise: float = 1.0,
    activity: float = 0.0,
    jitter: float = 0.0,
    drift: float = 0.0,
    bleaching: float = 0.0,
    flicker: float = 0.0,
    hot_pixels: float = 0.0,
    adc_bits: int | None = None,
    dtype: DTypeLike = "int16",
    rng: np.random.Generator | int | None = None,
) -> tuple[NDArray[Any], Truth]:
    """Simulate a movie of a photon-limited detector and say what it was made with.

    Parameters
    ----------
    shape : (int, int, int)
        Movie shape ``(time, y, x)``.
    conversion_gain : float
        Mean signal of one detected photon, in signal units, > 0.
    zero_level : float
        Mean signal without light.
    read_noise : float
        Standard deviation of the electronics' noise in signal units, ≥ 0.
    mean_photons : float
        Mean photons per pixel and frame, > 0. Not used when `scene` is an array.
    scene : {"structured", "uniform"} or array_like, shape (y, x)
        What is looked at. An array holds mean photons per pixel and frame, ≥ 0.
    excess_noise : float
        Excess noise factor F² ≥ 1: 1 for a detector without multiplication noise, about 2 for an EMCCD.
    activity : float
        Fraction of the cells (of blocks of 8 × 8 pixels if the scene has no cells) that show calcium-like
        transients, in [0, 1].
    jitter : float
        Standard deviation of the frame's random displacement along each axis, in pixels.
    drift : float
        Displacement along both axes from the first to the last frame, in pixels.
    bleaching : float
        Fraction of the light that is lost, exponentially, until the last frame, in [0, 1).
    flicker : float
        Relative standard deviation of the light source between frames, ≥ 0.
    hot_pixels : float
        Fraction of pixels with a false offset and strong noise, in [0, 1].
    adc_bits : int, optional
        The converter gives 0 .. 2^bits − 1; without it the range of an integer `dtype` is used.
    dtype : dtype
        Integer, or float32/float64 (then nothing is rounded, nor clipped unless `adc_bits` is given).
    rng : numpy.random.Generator or int, optional
        Generator or seed.

    Returns
    -------
    movie : ndarray of `dtype`, shape `shape`
        Samples. Beyond the converter's range they saturate, as a converter does; `Truth` counts how many.
    truth : Truth
        The constants and the hidden images.

    Raises
    ------
    ValueError
        A parameter is outside its range.

    Examples
    --------
    >>> movie, truth = simulate_movie((10, 64, 64), conversion_gain=2.2, dtype="uint16", rng=1)
    >>> movie.shape, movie.dtype.name, truth.conversion_gain, truth.clipped_high
    ((10, 64, 64), 'uint16', 2.2, 0)
    """
    simulation = _Simulation(
        shape,
        conversion_gain=conversion_gain,
        zero_level=zero_level,
        read_noise=read_noise,
        mean_photons=mean_photons,
        scene=scene,
        excess_noise=excess_noise,
        activity=activity,
        jitter=jitter,
        drift=drift,
        bleaching=bleaching,
        flicker=flicker,
        hot_pixels=hot_pixels,
        adc_bits=adc_bits,
        dtype=np.dtype(dtype),
        rng=np.random.default_rng(rng),
    )
    movie = np.empty(shape, dtype)
    for time, frame in enumerate(simulation):
        movie[time] = frame
    return movie, simulation.truth()


def simulate_frames(shape: Shape, **options: Any) -> Iterator[NDArray[Any]]:
    """Yield the frames of a simulated movie one by one, for movies larger than memory.

    Parameters
    ----------
    shape : (int, int, int)
        Movie shape ``(time, y, x)``.
    **options
        As for `simulate_movie`; with the same `rng` the frames are those of that movie.

    Yields
    ------
    ndarray, shape (y, x)
        One frame.

    Examples
    --------
    >>> sum(1 for frame in simulate_frames((3, 32, 32), rng=0))
    3
    """
    yield from _simulation("simulate_frames", shape, options)


def expected_photons(shape: Shape, **options: Any) -> Iterator[FloatImage]:
    """Yield the true mean photons of every frame of a simulated movie: the movie without its noise.

    Parameters
    ----------
    shape : (int, int, int)
        Movie shape ``(time, y, x)``.
    **options
        As for `simulate_movie`; `rng` must be the seed, a number, that the movie was made with.

    Yields
    ------
    ndarray of float32, shape (y, x)
        Mean photons per pixel: the scene moved, bleached, flickering, and with its active cells.

    Examples
    --------
    >>> movie, truth = simulate_movie((5, 32, 32), activity=0.5, rng=3)
    >>> frames = list(expected_photons((5, 32, 32), activity=0.5, rng=3))
    >>> len(frames), bool((frames[0] >= truth.photons * 0.999).all())
    (5, True)
    """
    if not isinstance(options.get("rng"), int | np.integer):
        raise TypeError(f"rng must be the seed that the movie was made with, got {options.get('rng')!r}")
    simulation = _simulation("expected_photons", shape, options)
    for time in range(shape[0]):
        yield simulation.expected(time)


def _simulation(caller: str, shape: Shape, options: dict[str, Any]) -> _Simulation:
    """The simulation that `simulate_movie` would run with these options."""
    defaults: dict[str, Any] = dict(simulate_movie.__kwdefaults__ or {})
    unknown = set(options) - set(defaults)
    if unknown:
        raise TypeError(f"{caller} got unknown options {sorted(unknown)}; it takes {sorted(defaults)}")
    settings = defaults | options
    settings["dtype"] = np.dtype(settings["dtype"])
    settings["rng"] = np.random.default_rng(settings["rng"])
    return _Simulation(shape, **settings)


class _Simulation:
    """The frames of one movie, drawn in order; owns the scene, the schedule and the counts of clipping."""

    def __init__(
        self,
        shape: Shape,
        *,
        conversion_gain: float,
        zero_level: float,
        read_noise: float,
        mean_photons: float,
        scene: str | ArrayLike,
        excess_noise: float,
        activity: float,
        jitter: float,
        drift: float,
        bleaching: float,
        flicker: float,
        hot_pixels: float,
        adc_bits: int | None,
        dtype: np.dtype[Any],
        rng: np.random.Generator,
    ) -> None:
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"shape must be (time, y, x) with positive lengths, got {shape!r}")
        _check("conversion_gain", conversion_gain, low=0.0, open_low=True)
        _check("zero_level", zero_level)
        _check("read_noise", read_noise, low=0.0)
        _check("mean_photons", mean_photons, low=0.0, open_low=True)
        _check("excess_noise", excess_noise, low=1.0)
        _check("activity", activity, low=0.0, high=1.0)
        _check("jitter", jitter, low=0.0)
        _check("drift", drift)
        _check("bleaching", bleaching, low=0.0, high=1.0, open_high=True)
        _check("flicker", flicker, low=0.0)
        _check("hot_pixels", hot_pixels, low=0.0, high=1.0)
        self.lowest, self.highest = _converter_range(dtype, adc_bits)

        self.shape, self.dtype, self.rng = shape, dtype, rng
        self.gain, self.zero, self.read, self.excess = conversion_gain, zero_level, read_noise, excess_noise
        frames, height, width = shape

        margin = math.ceil(4 * jitter + abs(drift) + 4) if jitter or drift else 0
        canvas, labels = _scene_on_canvas(scene, (height, width), margin, mean_photons, rng)
        self.margin, self.canvas = margin, canvas
        cells = rng.permutation(np.arange(1, int(labels.max()) + 1))
        firing = cells[: round(activity * len(cells))]
        self.transients = _transients(frames, len(firing), rng)
        # Index 0 is "no transient"; every firing cell points at its own trace.
        trace_of_label = np.zeros(int(labels.max()) + 1, np.intp)
        trace_of_label[firing] = np.arange(1, len(firing) + 1)
        self.trace_index = trace_of_label[labels]

        # With the darkness of a detector in mind, flicker is kept from turning the light negative.
        light = np.exp(np.log1p(-bleaching) * np.linspace(0, 1, frames))
        self.brightness = light * np.maximum(1 + flicker * rng.standard_normal(frames), 0.0)
        self.shifts = drift * np.linspace(0, 1, frames)[:, None] + jitter * np.clip(
            rng.standard_normal((frames, 2)), -4, 4
        )
        self.hot = rng.random((height, width)) < hot_pixels
        brightest = self.gain * max(float(canvas.max()), 1.0)
        self.hot_offset = np.where(self.hot, rng.uniform(0.5, 2.0, self.hot.shape) * brightest, 0.0)
        self.hot_noise = np.where(self.hot, rng.uniform(0.1, 0.5, self.hot.shape) * brightest, 0.0)
        self.clipped_low = self.clipped_high = 0

    def __iter__(self) -> Iterator[NDArray[Any]]:
        for time in range(self.shape[0]):
            yield self._convert(self._detect(self.expected(time)))

    def expected(self, time: int) -> FloatImage:
        """Mean photons of one frame."""
        image = self.canvas
        if len(self.transients):
            image = image * (1 + np.concatenate(([0.0], self.transients[:, time])))[self.trace_index]
        if self.margin:
            from scipy.ndimage import shift

            # Cubic splines overshoot at edges; a mean number of photons cannot be negative.
            image = np.maximum(shift(image, self.shifts[time], order=3, mode="nearest"), 0)
            image = image[self.margin : -self.margin, self.margin : -self.margin]
        return np.asarray(image * self.brightness[time], np.float32)

    def _detect(self, photons: FloatImage) -> FloatImage:
        """Signal of one frame before conversion."""
        count = self.rng.poisson(photons).astype(np.float32)
        if self.excess > 1:
            # A gamma response of shape k has E[a²]/E[a]² = 1 + 1/k; k = 1 is the exponential of an EMCCD.
            k = 1 / (self.excess - 1)
            count = (self.rng.standard_gamma(count * k) / k).astype(np.float32)
        signal = self.zero + self.gain * count
        if self.read > 0:
            signal = signal + self.read * self.rng.standard_normal(count.shape, dtype=np.float32)
        if self.hot.any():
            noise = self.rng.standard_normal(count.shape, dtype=np.float32)
            signal = signal + self.hot_offset + self.hot_noise * noise
        return np.asarray(signal, np.float32)

    def _convert(self, signal: FloatImage) -> NDArray[Any]:
        """Round and saturate one frame, counting what was clipped."""
        if self.dtype.kind in "iu":
            signal = np.rint(signal)
        self.clipped_low += int(np.count_nonzero(signal < self.lowest))
        self.clipped_high += int(np.count_nonzero(signal > self.highest))
        # In float64, since float32 rounds the ends of 32-bit integers to values beyond them.
        return np.clip(signal.astype(np.float64), self.lowest, self.highest).astype(self.dtype)

    def truth(self) -> Truth:
        effective = self.excess * self.gain
        inner = slice(self.margin, -self.margin) if self.margin else slice(None)
        return Truth(
            conversion_gain=effective,
            signal_per_photon=self.gain,
            zero_level=self.zero,
            read_noise=self.read,
            variance_intercept=self.zero - self.read**2 / effective,
            excess_noise=self.excess,
            photons=self.canvas[inner, inner],
            active=self.trace_index[inner, inner] > 0,
            shifts=self.shifts,
            brightness=self.brightness,
            hot_pixels=self.hot,
            lowest=self.lowest,
            highest=self.highest,
            clipped_low=self.clipped_low,
            clipped_high=self.clipped_high,
        )


def _check(
    name: str,
    value: float,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    """Refuse a number outside its range, in words."""
    inside = (value > low if open_low else value >= low) and (value < high if open_high else value <= high)
    if not (math.isfinite(value) and inside):
        left, right = (
            "(" if open_low or low == -math.inf else "[",
            ")" if open_high or high == math.inf else "]",
        )
        raise ValueError(f"{name} must be a finite number in {left}{low:g}, {high:g}{right}, got {value!r}")


def _converter_range(dtype: np.dtype[Any], adc_bits: int | None) -> tuple[float, float]:
    """Smallest and largest value that the converter gives."""
    if dtype.kind not in "iuf" or dtype.itemsize < (4 if dtype.kind == "f" else 1):
        raise ValueError(f"dtype must be an integer, float32 or float64, got {dtype}")
    if dtype.kind in "iu" and dtype.itemsize > 4:
        raise ValueError(f"dtype must be an integer of at most 32 bits, float32 or float64, got {dtype}")
    lowest, highest = (
        (float(np.iinfo(dtype).min), float(np.iinfo(dtype).max))
        if dtype.kind in "iu"
        else (-math.inf, math.inf)
    )
    if adc_bits is None:
        return lowest, highest
    if not 1 <= adc_bits <= 32:
        raise ValueError(f"adc_bits must be in 1..32, got {adc_bits!r}")
    if 2.0**adc_bits - 1 > highest:
        raise ValueError(
            f"adc_bits={adc_bits} needs values up to {2**adc_bits - 1}, which {dtype} cannot hold"
        )
    return 0.0, 2.0**adc_bits - 1


def _scene_on_canvas(
    scene: str | ArrayLike, shape: tuple[int, int], margin: int, mean_photons: float, rng: np.random.Generator
) -> tuple[FloatImage, NDArray[np.int32]]:
    """Mean photons, and cell numbers, on the field of view with `margin` pixels more on every side."""
    height, width = shape
    size = (height + 2 * margin, width + 2 * margin)
    if isinstance(scene, str):
        if scene == "structured":
            image, labels = structured_scene(size, rng)
            return np.float32(mean_photons) * image, labels
        if scene == "uniform":
            return np.full(size, mean_photons, np.float32), _blocks(size)
        raise ValueError(f"scene must be 'structured', 'uniform' or an array of photons, got {scene!r}")
    image = np.asarray(scene, np.float32)
    if image.shape != shape:
        raise ValueError(f"scene must have the shape of a frame, {shape}, got {image.shape}")
    if not (np.isfinite(image).all() and (image >= 0).all()):
        raise ValueError("scene must hold finite mean photons >= 0")
    return np.pad(image, margin, mode="reflect") if margin else image, _blocks(size)


def _blocks(shape: tuple[int, int]) -> NDArray[np.int32]:
    """Numbers of blocks of 8 × 8 pixels: the cells of a scene that has none."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    return np.asarray(1 + (y // 8) * -(-shape[1] // 8) + x // 8, np.int32)


def _transients(frames: int, cells: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Relative brightness added to each active cell over time, shape (cells, time)."""
    times = np.arange(frames)
    onsets = rng.random((cells, frames)) < 1 / _TRANSIENT_INTERVAL
    # Every active cell fires at least once.
    onsets[np.arange(cells), rng.integers(0, frames, cells)] = True
    amplitudes = onsets * rng.uniform(0.5, 3.0, (cells, frames))
    kernel = np.exp(-times / _TRANSIENT_DECAY)
    traces = np.zeros((cells, frames))
    for cell in range(cells):
        traces[cell] = np.convolve(amplitudes[cell], kernel)[:frames]
    return traces
