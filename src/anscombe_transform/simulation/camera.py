"""Simulated cameras: photons of one frame in, samples of that frame out.

One pixel p of frame t:

    electrons    n ~ Poisson(photons + dark_current)
    response     a(n) = n, or a gamma sum with E[a] = n and Var[a] = (excess_noise − 1) · n (PMT, EMCCD)
    electronics  x = zero_p + gain_p · a + Normal(0, read_p)
                     + row_t + column_t + frame_t + telegraph_p,t
    converter    round, clip at both ends of its range

``zero_p``, ``gain_p`` and ``read_p`` do not change during a movie; `Detector` holds them as maps. The
effective gain of a pixel is F² gain_p, with F² the excess noise factor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from anscombe_transform.native.arrays import Bools

__all__ = ["Camera", "Detector", "check_number"]

FloatImage = NDArray[np.float32]

# Plane waves in a smooth offset pattern, and the largest number of periods of each across the field.
_WAVES, _MOST_PERIODS = 4, 2.0


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A photon detector with the imperfections that real ones have.

    "Signal" is the unit of the stored samples (ADU, counts). By default every imperfection is off.

    Attributes
    ----------
    conversion_gain : float
        Mean signal of one detected photon, signal / photon, > 0.
    zero_level : float
        Mean signal without light or dark current, signal.
    read_noise : float
        Standard deviation of the electronics' noise of a typical pixel, signal, ≥ 0.
    excess_noise : float
        Excess noise factor F² ≥ 1: about 1.2 to 1.5 for a photomultiplier, 2 for an EMCCD.
    dark_current : float
        Mean dark electrons per pixel and frame, ≥ 0. They are multiplied as photons are.
    offset_spread : float
        Standard deviation between pixels of a fixed offset, signal, ≥ 0. Scientific CMOS cameras have 0.5
        to 3 electrons, so multiply by `conversion_gain`.
    row_offset_spread, column_offset_spread : float
        The same, of an offset shared by a row, by a column, signal, ≥ 0.
    smooth_offset_spread : float
        Standard deviation over the field of an offset that varies smoothly (at most two periods), signal,
        ≥ 0.
    gain_spread : float
        Relative standard deviation of the gain between pixels, in [0, 0.3].
    read_noise_spread : float
        Standard deviation between pixels of the logarithm of the read noise, in [0, 2]; `read_noise` is then
        the median pixel's.
    tap_offsets, tap_gains : tuple of float
        Offset (signal) and relative gain (> 0) of each readout amplifier. Amplifiers read vertical stripes of
        equal width, from left to right. The shorter tuple must have one element, shared by all.
    row_noise, column_noise, frame_noise : float
        Standard deviation of an offset shared by a row, a column, all pixels of one frame, drawn anew in
        every frame, signal, ≥ 0.
    zero_drift : float
        Standard deviation of the change of the zero level from the first to the last frame, a random walk,
        signal, ≥ 0.
    rts_pixels : float
        Fraction of pixels with random telegraph noise, in [0, 1]: their offset jumps between two levels.
    rts_amplitude : float
        Mean distance of the two levels, which is exponentially distributed between pixels, signal, ≥ 0.
    rts_dwell : float
        Mean frames between two jumps, ≥ 1.
    hot_pixels : float
        Fraction of pixels with a false offset and strong noise, in [0, 1].
    dead_pixels : float
        Fraction of pixels that always give the zero level, in [0, 1].
    saturated_pixels : float
        Fraction of pixels that always give the largest value, in [0, 1]; the converter needs a finite range.
    adc_bits : int, optional
        The converter clips at 0 and 2^bits − 1. By default it clips at the ends of an integer `dtype`.
    dtype : dtype
        Of the samples: integer of at most 32 bits, float32 or float64 (then nothing is rounded).

    Raises
    ------
    ValueError
        A parameter is outside its range.

    Examples
    --------
    >>> scmos = Camera(conversion_gain=2.2, zero_level=100, read_noise=3.5, offset_spread=4.4, dtype="uint16")
    >>> scmos.lowest, scmos.highest, scmos.taps
    (0.0, 65535.0, 1)
    """

    conversion_gain: float = 90.0
    zero_level: float = 50.0
    read_noise: float = 0.0
    excess_noise: float = 1.0
    dark_current: float = 0.0
    offset_spread: float = 0.0
    row_offset_spread: float = 0.0
    column_offset_spread: float = 0.0
    smooth_offset_spread: float = 0.0
    gain_spread: float = 0.0
    read_noise_spread: float = 0.0
    tap_offsets: tuple[float, ...] = (0.0,)
    tap_gains: tuple[float, ...] = (1.0,)
    row_noise: float = 0.0
    column_noise: float = 0.0
    frame_noise: float = 0.0
    zero_drift: float = 0.0
    rts_pixels: float = 0.0
    rts_amplitude: float = 0.0
    rts_dwell: float = 20.0
    hot_pixels: float = 0.0
    dead_pixels: float = 0.0
    saturated_pixels: float = 0.0
    adc_bits: int | None = None
    dtype: DTypeLike = "int16"

    def __post_init__(self) -> None:
        check_number("conversion_gain", self.conversion_gain, low=0.0, open_low=True)
        check_number("zero_level", self.zero_level)
        check_number("excess_noise", self.excess_noise, low=1.0)
        check_number("gain_spread", self.gain_spread, low=0.0, high=0.3)
        check_number("read_noise_spread", self.read_noise_spread, low=0.0, high=2.0)
        check_number("rts_dwell", self.rts_dwell, low=1.0)
        for name in _NOT_NEGATIVE:
            check_number(name, getattr(self, name), low=0.0)
        for name in _FRACTIONS:
            check_number(name, getattr(self, name), low=0.0, high=1.0)
        for offset in self.tap_offsets:
            check_number("tap_offsets", offset)
        for gain in self.tap_gains:
            check_number("tap_gains", gain, low=0.0, open_low=True)
        lengths = sorted({len(self.tap_offsets), len(self.tap_gains)})
        if lengths[0] == 0 or (len(lengths) == 2 and lengths[0] != 1):
            raise ValueError(
                "tap_offsets and tap_gains must have one element for each amplifier, or one for all, got "
                f"{len(self.tap_offsets)} and {len(self.tap_gains)}"
            )
        _, highest = _converter_range(np.dtype(self.dtype), self.adc_bits)
        if self.saturated_pixels > 0 and not math.isfinite(highest):
            raise ValueError(
                f"saturated_pixels needs a largest value, and {np.dtype(self.dtype)} has none: give adc_bits"
            )

    @property
    def taps(self) -> int:
        """Number of readout amplifiers."""
        return max(len(self.tap_offsets), len(self.tap_gains))

    @property
    def lowest(self) -> float:
        """Smallest value that the converter gives, signal."""
        return _converter_range(np.dtype(self.dtype), self.adc_bits)[0]

    @property
    def highest(self) -> float:
        """Largest value that the converter gives, signal."""
        return _converter_range(np.dtype(self.dtype), self.adc_bits)[1]


_NOT_NEGATIVE = (
    "read_noise",
    "dark_current",
    "offset_spread",
    "row_offset_spread",
    "column_offset_spread",
    "smooth_offset_spread",
    "row_noise",
    "column_noise",
    "frame_noise",
    "zero_drift",
    "rts_amplitude",
)
_FRACTIONS = ("rts_pixels", "hot_pixels", "dead_pixels", "saturated_pixels")


class Detector:
    """One specimen of a camera: its fixed maps, and the state of its telegraph pixels.

    Parameters
    ----------
    camera : Camera
        The model.
    shape : (int, int, int)
        Movie shape ``(time, y, x)``; frames must be exposed in order.
    brightest : float
        Photons of the brightest pixel, which hot pixels are compared with.
    rng : numpy.random.Generator
        Source of the maps and of the noise.

    Attributes
    ----------
    zero_levels, gains, read_noises : ndarray of float32, shape (y, x)
        Fixed constants of every pixel: signal, signal / photon, signal.
    hot, dead, saturated, telegraph : ndarray of bool, shape (y, x)
        Defective pixels.
    rts_amplitudes : ndarray of float32, shape (y, x)
        Distance of the two levels of telegraph pixels, signal; 0 elsewhere.
    frame_offsets : ndarray of float64, shape (time,)
        Offset of all pixels of each frame, signal.
    clipped_low, clipped_high : int
        Samples that were beyond the converter's range so far.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> detector = Detector(Camera(offset_spread=5), (3, 16, 16), 10.0, rng)
    >>> detector.expose(np.full((16, 16), 4.0, np.float32), 0).dtype.name
    'int16'
    """

    def __init__(
        self, camera: Camera, shape: tuple[int, int, int], brightest: float, rng: np.random.Generator
    ) -> None:
        self.camera, self.rng, self.dtype = camera, rng, np.dtype(camera.dtype)
        self.lowest, self.highest = camera.lowest, camera.highest
        frames, height, width = shape
        field = (height, width)
        self.hot = rng.random(field) < camera.hot_pixels
        scale = camera.conversion_gain * max(brightest, 1.0)
        self.hot_offset = np.where(self.hot, rng.uniform(0.5, 2.0, field) * scale, 0.0)
        self.hot_noise = np.where(self.hot, rng.uniform(0.1, 0.5, field) * scale, 0.0)

        # What is off draws no numbers, so that a movie of a plain camera does not depend on the list below.
        self.zero_levels = self._draw_offsets(field)
        tap = np.arange(width) * camera.taps // width
        relative = np.broadcast_to(np.resize(camera.tap_gains, camera.taps)[tap], field)
        if camera.gain_spread:
            relative = relative * np.maximum(1 + camera.gain_spread * rng.standard_normal(field), 0.1)
        self.gains: FloatImage = np.asarray(camera.conversion_gain * relative, np.float32)
        read = np.full(field, float(camera.read_noise))
        if camera.read_noise_spread:
            read *= np.exp(camera.read_noise_spread * rng.standard_normal(field))
        self.read_noises: FloatImage = read.astype(np.float32)

        self.telegraph, self.dead, self.saturated = (
            rng.random(field) < part if part else np.zeros(field, bool)
            for part in (camera.rts_pixels, camera.dead_pixels, camera.saturated_pixels)
        )
        self.rts_amplitudes: FloatImage = np.zeros(field, np.float32)
        pixels = int(np.count_nonzero(self.telegraph))
        if pixels:
            self.rts_amplitudes[self.telegraph] = rng.exponential(camera.rts_amplitude, pixels)
            self._rts_high = rng.random(pixels) < 0.5
        self.frame_offsets = np.zeros(frames)
        if camera.frame_noise:
            self.frame_offsets += camera.frame_noise * rng.standard_normal(frames)
        if camera.zero_drift and frames > 1:
            steps = rng.standard_normal(frames - 1) * camera.zero_drift / math.sqrt(frames - 1)
            self.frame_offsets[1:] += np.cumsum(steps)
        self.clipped_low = self.clipped_high = 0

    def _draw_offsets(self, field: tuple[int, int]) -> FloatImage:
        """Zero level of every pixel."""
        camera, rng = self.camera, self.rng
        height, width = field
        tap = np.arange(width) * camera.taps // width
        offsets = np.broadcast_to(np.resize(camera.tap_offsets, camera.taps)[tap], field).astype(np.float64)
        for spread, size in (
            (camera.offset_spread, field),
            (camera.row_offset_spread, (height, 1)),
            (camera.column_offset_spread, (1, width)),
        ):
            if spread:
                offsets = offsets + spread * rng.standard_normal(size)
        if camera.smooth_offset_spread:
            y, x = np.ogrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
            waves = np.zeros(field)
            for _ in range(_WAVES):
                ky, kx = 2 * math.pi * _MOST_PERIODS * rng.uniform(-1, 1, 2)
                waves += rng.standard_normal() * np.cos(ky * y + kx * x + rng.uniform(0, 2 * math.pi))
            waves -= waves.mean()
            spread = float(waves.std())
            if spread > 0:
                offsets += camera.smooth_offset_spread * waves / spread
        return np.asarray(camera.zero_level + offsets, np.float32)

    @property
    def defective(self) -> Bools:
        """Pixels that are hot, dead, saturated or of random telegraph noise."""
        return self.hot | self.dead | self.saturated | self.telegraph

    def expose(self, photons: FloatImage, time: int) -> NDArray[Any]:
        """Return the samples of frame `time`, of mean `photons` per pixel."""
        return self._convert(self._read(photons, time))

    def _read(self, photons: FloatImage, time: int) -> FloatImage:
        """Signal of one frame before conversion."""
        camera, rng = self.camera, self.rng
        electrons = photons + np.float32(camera.dark_current) if camera.dark_current else photons
        count = rng.poisson(electrons).astype(np.float32)
        if camera.excess_noise > 1:
            # A gamma response of shape k has E[a²]/E[a]² = 1 + 1/k; k = 1 is the exponential of an EMCCD.
            k = 1 / (camera.excess_noise - 1)
            count = (rng.standard_gamma(count * k) / k).astype(np.float32)
        signal = self.zero_levels + self.gains * count
        if camera.read_noise > 0:
            signal = signal + self.read_noises * rng.standard_normal(count.shape, dtype=np.float32)
        if self.hot.any():
            noise = rng.standard_normal(count.shape, dtype=np.float32)
            signal = signal + self.hot_offset + self.hot_noise * noise
        height, width = count.shape
        for spread, size in ((camera.row_noise, (height, 1)), (camera.column_noise, (1, width))):
            if spread:
                signal = signal + spread * rng.standard_normal(size)
        if camera.frame_noise or camera.zero_drift:
            signal = signal + self.frame_offsets[time]
        if self.telegraph.any():
            # Frames between two jumps are geometrically distributed.
            self._rts_high = self._rts_high ^ (rng.random(len(self._rts_high)) < 1 / camera.rts_dwell)
            levels = np.where(self._rts_high, 0.5, -0.5) * self.rts_amplitudes[self.telegraph]
            signal[self.telegraph] += levels.astype(signal.dtype)
        signal[self.dead] = self.zero_levels[self.dead]
        signal[self.saturated] = self.highest
        return np.asarray(signal, np.float32)

    def _convert(self, signal: FloatImage) -> NDArray[Any]:
        """Round and clip one frame, counting the clipped samples."""
        if self.dtype.kind in "iu":
            signal = np.rint(signal)
        self.clipped_low += int(np.count_nonzero(signal < self.lowest))
        self.clipped_high += int(np.count_nonzero(signal > self.highest))
        # In float64, since float32 rounds the ends of 32-bit integers to values beyond them.
        return np.clip(signal.astype(np.float64), self.lowest, self.highest).astype(self.dtype)

    def mean_gain(self) -> float:
        """Mean over good pixels of the signal of one photon."""
        gains = self._good(self.gains)
        if _is_even(gains):
            return self.camera.conversion_gain * self.camera.tap_gains[0]
        return float(gains.mean())

    def effective_gain(self) -> float:
        """Slope of the field's mean variance against its mean, F² E[gain²] / E[gain], signal / photon."""
        gains = self._good(self.gains)
        uneven = 1.0 if _is_even(gains) else float(np.mean(gains**2)) / float(gains.mean()) ** 2
        return self.camera.excess_noise * self.mean_gain() * uneven

    def mean_zero_level(self) -> float:
        """Mean signal without light of the pixels that are not defective, over the whole movie."""
        camera, zeros = self.camera, self._good(self.zero_levels)
        zero = camera.zero_level + camera.tap_offsets[0] if _is_even(zeros) else float(zeros.mean())
        return zero + camera.dark_current * self.mean_gain() + float(self.frame_offsets.mean())

    def mean_read_noise(self) -> float:
        """Root mean square over good pixels of the standard deviation over time without light.

        Dark current and noise shared by rows and columns are part of it; offsets of whole frames are not.
        """
        camera, read = self.camera, self._good(self.read_noises)
        own = camera.read_noise if _is_even(read) else math.sqrt(float(np.mean(read**2)))
        dark = math.sqrt(camera.dark_current * self.effective_gain() * self.mean_gain())
        return math.hypot(own, camera.row_noise, camera.column_noise, dark)

    def _good(self, values: FloatImage) -> NDArray[np.float64]:
        """Values of the pixels that are not defective."""
        return values[~self.defective].astype(np.float64)


def _is_even(values: NDArray[np.float64]) -> bool:
    """Whether all pixels have one value, which is then known without the rounding of float32."""
    return not values.size or bool(np.ptp(values) == 0)


def check_number(
    name: str,
    value: float,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    """Refuse a number outside its range.

    Parameters
    ----------
    name : str
        Of the parameter, for the message.
    value : float
        To be checked.
    low, high : float
        Ends of the range.
    open_low, open_high : bool
        Whether an end is excluded.

    Raises
    ------
    ValueError
        `value` is not finite, or outside the range.

    Examples
    --------
    >>> check_number("jitter", 0.5, low=0.0)
    """
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
