"""Movies of a photon-limited detector with known truth.

The scene gives the mean photons of every frame: moved, bleached, flickering, with active cells. A `Camera`
(`simulated_camera`) turns them into samples. One pixel's variance is a straight line of its mean, of slope
``excess_noise · conversion_gain``: the *effective* gain, which is all that the noise of a movie can reveal.

Frames are made one by one in float32, so a movie costs little more memory than its own samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from anscombe_transform.simulation.camera import Camera, Detector, check_number

__all__ = ["Camera", "Truth", "expected_photons", "simulate_frames", "simulate_movie"]

FloatImage = NDArray[np.float32]
Shape = tuple[int, int, int]

# A calcium-like transient: e-folding time in frames, and the mean number of frames between two onsets.
_TRANSIENT_DECAY = 6.0
_TRANSIENT_INTERVAL = 40.0


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Parameters and truth of a simulated movie.

    The constants hold for the field: averages over the pixels that are not `defective`, over the whole movie.

    Attributes
    ----------
    conversion_gain : float
        Slope of the field's mean variance against its mean, signal units per photon. Without a spread of the
        gain between pixels ``excess_noise · signal_per_photon``; with one F² E[gain²] / E[gain].
    signal_per_photon : float
        Mean signal of one detected photon, E[gain]; equal to `conversion_gain` without excess noise or
        spread.
    zero_level : float
        Mean signal without light: fixed offsets, dark current and the mean drift included.
    read_noise : float
        Standard deviation over time of the signal without light, before rounding, in signal units; root mean
        square over pixels. Dark current and the noise of rows and columns are included, that of whole frames
        is not.
    variance_intercept : float
        Mean at which the variance line reaches zero, ``zero_level − read_noise² / conversion_gain``.
    excess_noise : float
        Excess noise factor F² = E[a²]/E[a]² of the response `a` to one photon.
    photons : ndarray of float32, shape (y, x)
        Mean photons per frame of the scene at rest: before motion, bleaching, flicker and activity.
    active : ndarray of bool, shape (y, x)
        Pixels with transients of brightness (at rest).
    shifts : ndarray of float64, shape (time, 2)
        Displacement (y, x) of the scene in each frame, in pixels.
    brightness : ndarray of float64, shape (time,)
        Factor of bleaching and flicker of each frame.
    hot_pixels : ndarray of bool, shape (y, x)
        Pixels with a false offset and false noise.
    defective : ndarray of bool, shape (y, x)
        Pixels that are hot, dead, saturated, or have random telegraph noise.
    zero_levels, gains, read_noises : ndarray of float32, shape (y, x)
        Constants of every pixel: signal, signal per photon, signal. Without dark current and drift.
    rts_amplitudes : ndarray of float32, shape (y, x)
        Distance between the two levels of pixels with random telegraph noise, signal; 0 elsewhere.
    frame_offsets : ndarray of float64, shape (time,)
        Offset of all pixels of each frame, signal.
    camera : Camera
        Parameters of the detector.
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
    defective: NDArray[np.bool_]
    zero_levels: FloatImage
    gains: FloatImage
    read_noises: FloatImage
    rts_amplitudes: FloatImage
    frame_offsets: NDArray[np.float64]
    camera: Camera
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


class MovieOptions(TypedDict, total=False):
    """Options of `simulate_movie`, which describes them."""

    camera: Camera | None
    conversion_gain: float | None
    zero_level: float | None
    read_noise: float | None
    mean_photons: float
    scene: Literal["structured", "uniform"] | ArrayLike
    excess_noise: float | None
    activity: float
    jitter: float
    drift: float
    bleaching: float
    flicker: float
    hot_pixels: float | None
    adc_bits: int | None
    dtype: DTypeLike | None
    rng: np.random.Generator | int | None


def simulate_movie(
    shape: Shape = (100, 256, 256),
    *,
    camera: Camera | None = None,
    conversion_gain: float | None = None,
    zero_level: float | None = None,
    read_noise: float | None = None,
    mean_photons: float = 4.0,
    scene: Literal["structured", "uniform"] | ArrayLike = "structured",
    excess_noise: float | None = None,
    activity: float = 0.0,
    jitter: float = 0.0,
    drift: float = 0.0,
    bleaching: float = 0.0,
    flicker: float = 0.0,
    hot_pixels: float | None = None,
    adc_bits: int | None = None,
    dtype: DTypeLike | None = None,
    rng: np.random.Generator | int | None = None,
) -> tuple[NDArray[Any], Truth]:
    """Simulate a movie of a photon-limited detector and return its parameters.

    Parameters
    ----------
    shape : (int, int, int)
        Movie shape ``(time, y, x)``.
    camera : Camera, optional
        The detector: constants, imperfections and range. By default ``Camera()``, without read noise,
        that gives 90 units per photon on top of 50, as int16.
    conversion_gain, zero_level, read_noise, excess_noise, hot_pixels, adc_bits, dtype : optional
        Replace this constant of the camera, see `Camera`.
    mean_photons : float
        Mean photons per pixel and frame, > 0. Not used when `scene` is an array.
    scene : {"structured", "uniform"} or array_like, shape (y, x) or (time, y, x)
        The scene. An array holds mean photons per pixel and frame, ≥ 0; with a time axis they change
        from frame to frame, as those of flashes and blinking molecules.
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
    rng : numpy.random.Generator or int, optional
        Generator or seed.

    Returns
    -------
    movie : ndarray, shape `shape`
        Samples, of the camera's dtype, clipped to the converter's range; `Truth` counts how many were.
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

    A scientific CMOS camera at low light, with fixed offsets of 2 electrons and telegraph noise:

    >>> scmos = Camera(
    ...     conversion_gain=2.2, zero_level=100, read_noise=3.5, offset_spread=4.4, column_noise=0.5,
    ...     rts_pixels=0.01, rts_amplitude=10, dtype="uint16",
    ... )
    >>> movie, truth = simulate_movie((10, 64, 64), camera=scmos, mean_photons=5, rng=1)
    >>> bool(abs(truth.zero_levels.std() / 4.4 - 1) < 0.1), round(truth.read_noise, 2)
    (True, 3.54)
    """
    detector = {
        "conversion_gain": conversion_gain,
        "zero_level": zero_level,
        "read_noise": read_noise,
        "excess_noise": excess_noise,
        "hot_pixels": hot_pixels,
        "adc_bits": adc_bits,
        "dtype": dtype,
    }
    simulation = _Simulation(
        shape,
        camera=_camera_with(camera, detector),
        mean_photons=mean_photons,
        scene=scene,
        activity=activity,
        jitter=jitter,
        drift=drift,
        bleaching=bleaching,
        flicker=flicker,
        rng=np.random.default_rng(rng),
    )
    movie = np.empty(shape, simulation.detector.dtype)
    for time, frame in enumerate(simulation):
        movie[time] = frame
    return movie, simulation.truth()


def simulate_frames(shape: Shape, **options: Unpack[MovieOptions]) -> Iterator[NDArray[Any]]:
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


def expected_photons(shape: Shape, **options: Unpack[MovieOptions]) -> Iterator[FloatImage]:
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


def _simulation(caller: str, shape: Shape, options: MovieOptions) -> _Simulation:
    """The simulation that `simulate_movie` would run with these options."""
    defaults: dict[str, Any] = dict(simulate_movie.__kwdefaults__ or {})
    unknown = set(options) - set(defaults)
    if unknown:
        raise TypeError(f"{caller} got unknown options {sorted(unknown)}; it takes {sorted(defaults)}")
    settings = defaults | dict(options)
    detector = {name: settings.pop(name) for name in _OF_THE_CAMERA}
    settings["camera"] = _camera_with(settings["camera"], detector)
    settings["rng"] = np.random.default_rng(settings["rng"])
    return _Simulation(shape, **settings)


_OF_THE_CAMERA = (
    "conversion_gain",
    "zero_level",
    "read_noise",
    "excess_noise",
    "hot_pixels",
    "adc_bits",
    "dtype",
)


def _camera_with(camera: Camera | None, constants: dict[str, Any]) -> Camera:
    """The camera, with those constants replaced that are not None."""
    if camera is not None and not isinstance(camera, Camera):
        raise TypeError(f"camera must be a Camera, got {type(camera).__name__}")
    given = {name: value for name, value in constants.items() if value is not None}
    return replace(camera or Camera(), **given)


class _Simulation:
    """The frames of one movie, drawn in order; owns the scene and its schedule."""

    def __init__(
        self,
        shape: Shape,
        *,
        camera: Camera,
        mean_photons: float,
        scene: str | ArrayLike,
        activity: float,
        jitter: float,
        drift: float,
        bleaching: float,
        flicker: float,
        rng: np.random.Generator,
    ) -> None:
        if not hasattr(shape, "__len__") or len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"shape must be (time, y, x) with positive lengths, got {shape!r}")
        check_number("mean_photons", mean_photons, low=0.0, open_low=True)
        check_number("activity", activity, low=0.0, high=1.0)
        check_number("jitter", jitter, low=0.0)
        check_number("drift", drift)
        check_number("bleaching", bleaching, low=0.0, high=1.0, open_high=True)
        check_number("flicker", flicker, low=0.0)
        self.shape = shape
        frames = shape[0]

        margin = math.ceil(4 * jitter + abs(drift) + 4) if jitter or drift else 0
        canvas, labels = _scene_on_canvas(scene, shape, margin, mean_photons, rng)
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
        self.detector = Detector(camera, shape, float(canvas.max()), rng)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        for time in range(self.shape[0]):
            yield self.detector.expose(self.expected(time), time)

    def expected(self, time: int) -> FloatImage:
        """Mean photons of one frame."""
        image = self.canvas if self.canvas.ndim == 2 else self.canvas[time]
        if len(self.transients):
            image = image * (1 + np.concatenate(([0.0], self.transients[:, time])))[self.trace_index]
        if self.margin:
            from scipy.ndimage import shift

            # Cubic splines overshoot at edges; a mean number of photons cannot be negative.
            image = np.maximum(shift(image, self.shifts[time], order=3, mode="nearest"), 0)
            image = image[self.margin : -self.margin, self.margin : -self.margin]
        return np.asarray(image * self.brightness[time], np.float32)

    def truth(self) -> Truth:
        detector, camera = self.detector, self.detector.camera
        gain, zero, read = detector.effective_gain(), detector.mean_zero_level(), detector.mean_read_noise()
        inner = slice(self.margin, -self.margin) if self.margin else slice(None)
        photons = self.canvas[..., inner, inner]
        return Truth(
            conversion_gain=gain,
            signal_per_photon=detector.mean_gain(),
            zero_level=zero,
            read_noise=read,
            variance_intercept=zero - read**2 / gain,
            excess_noise=camera.excess_noise,
            photons=photons if photons.ndim == 2 else photons.mean(axis=0, dtype=np.float32),
            active=self.trace_index[inner, inner] > 0,
            shifts=self.shifts,
            brightness=self.brightness,
            hot_pixels=detector.hot,
            defective=detector.defective,
            zero_levels=detector.zero_levels,
            gains=detector.gains,
            read_noises=detector.read_noises,
            rts_amplitudes=detector.rts_amplitudes,
            frame_offsets=detector.frame_offsets,
            camera=camera,
            lowest=detector.lowest,
            highest=detector.highest,
            clipped_low=detector.clipped_low,
            clipped_high=detector.clipped_high,
        )


def _scene_on_canvas(
    scene: str | ArrayLike, shape: Shape, margin: int, mean_photons: float, rng: np.random.Generator
) -> tuple[FloatImage, NDArray[np.int32]]:
    """Mean photons, and cell numbers, on the field of view with `margin` pixels more on every side."""
    frame = shape[1:]
    size = (frame[0] + 2 * margin, frame[1] + 2 * margin)
    if isinstance(scene, str):
        if scene == "structured":
            image, labels = structured_scene(size, rng)
            return np.float32(mean_photons) * image, labels
        if scene == "uniform":
            return np.full(size, mean_photons, np.float32), _blocks(size)
        raise ValueError(f"scene must be 'structured', 'uniform' or an array of photons, got {scene!r}")
    image = np.asarray(scene, np.float32)
    if image.shape not in (frame, shape):
        raise ValueError(
            f"scene must have the shape of a frame, {frame}, or of the movie, {shape}, got {image.shape}"
        )
    if not (np.isfinite(image).all() and (image >= 0).all()):
        raise ValueError("scene must hold finite mean photons >= 0")
    if not margin:
        return image, _blocks(size)
    widths = [(0, 0)] * (image.ndim - 2) + [(margin, margin)] * 2
    return np.pad(image, widths, mode="reflect"), _blocks(size)


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
