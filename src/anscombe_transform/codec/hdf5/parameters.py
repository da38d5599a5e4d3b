"""The parameters of the filter: a configuration of the transform as the unsigned integers that HDF5 stores.

HDF5 gives back at most 256 of them (``H5Pget_filter``), and they are all that a reader has. So the widths of
bins, and values, are stored as differences, in an exponential-Golomb code [1]_.

References
----------
.. [1] Teuhola, "A compression method for clustered bit-vectors", Information Processing Letters 7 (1978):
   exponential-Golomb codes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from anscombe_transform.codec.frames import FrameConfiguration, FramePreset
from anscombe_transform.codec.transform.bins import Bins
from anscombe_transform.codec.transform.configuration import FLOATS, INTEGERS, V2, Configuration
from anscombe_transform.codec.transform.plan import plan

if TYPE_CHECKING:
    import numpy.typing as npt

    IntArray = npt.NDArray[np.int64]

__all__ = ["FilterParameters", "fit_to_filter"]

_LAYOUT = 1
_WORDS = 24
_TYPES = (*INTEGERS, *FLOATS)
"""Types of values by their number in the parameters."""

_FINENESSES = (1, 4, 16, 64, 256)
"""Parts of a step that values of floats are counted in, where the grid is that of integers."""

_MOST_WORDS = 256
"""Limit of ``H5Pget_filter``, and so of h5py."""


@dataclass(frozen=True, slots=True)
class FilterParameters:
    """The parameters of the filter for one dataset.

    Parameters
    ----------
    configuration : Configuration
        The transform, of the format ``anscombe``. Values lie on the grid that `fit_to_filter` puts them on.
        Its `decoded_dtype` has the byte order of the dataset.
    chunks : tuple of int
        Shape of a chunk.
    frames : FrameConfiguration
        Preset and time axis of the frame coder; the time axis is 0 or None.
    """

    configuration: Configuration
    chunks: tuple[int, ...]
    frames: FrameConfiguration

    def pack(self) -> tuple[int, ...]:
        """The integers that HDF5 stores.

        Raises
        ------
        ValueError
            If the format is not ``anscombe``, the time axis is not the first one, values lie between the
            points of the grid, or there are too many codes.
        """
        configuration = self.configuration
        bins = configuration.bins
        if configuration.format != V2 or bins is None:
            raise ValueError(
                f"the HDF5 filter stores the format {V2}, got {configuration.format}: let "
                "Sensitivity.codec(sample=movie) choose the codec"
            )
        if self.frames.time_axis not in (0, None):
            raise ValueError(f"time_axis must be 0 or None in HDF5, got {self.frames.time_axis}")
        fineness, offsets = self._offsets()
        wider: IntArray = np.diff(np.asarray([1, *bins.widths], np.int64)).astype(np.int64)
        # Widths are odd, but for the outermost ones, which may be cut.
        odd = not (wider % 2).any()
        wider = _fold(wider // 2 if odd else wider)
        above = _fold(offsets)
        listed = bool(above.any())
        orders = _best_order(wider), _best_order(above) if listed else 0
        told = np.flatnonzero((wider != 0) | (above != 0))
        # Codes of one integer each, at the dark end of a detector of low gain.
        single = int(told[0]) if told.size else len(bins)
        bits = "".join(
            _number(w, orders[0]) + (_number(a, orders[1]) if listed else "")
            for w, a in zip(wider[single:].tolist(), above[single:].tolist(), strict=True)
        )
        dtype = np.dtype(configuration.decoded_dtype)
        frames, height, width, planes = self._shape()
        words = [
            _LAYOUT,
            _TYPES.index(dtype.newbyteorder("=").name)
            | (not _is_little(dtype)) << 8
            | np.dtype(configuration.encoded_dtype).itemsize << 16,
            self.frames.effort | (configuration.out_of_range == "clip") << 8,
            *(frames, height, width, planes, len(bins)),
            *_words(float(bins.step), "<f8"),
            *_words(bins.first, "<i8"),
            *_words(configuration.zero_level, "<f8"),
            *_words(configuration.conversion_gain, "<f8"),
            *_words(configuration.read_noise, "<f8"),
            *_words(configuration.beta, "<f8"),
            fineness,
            orders[0] | orders[1] << 8,
            int(listed) | odd << 1,
            single,
        ]
        bits += "0" * (-len(bits) % 32)
        words += [int(bits[i : i + 32][::-1], 2) for i in range(0, len(bits), 32)]
        if len(words) > _MOST_WORDS:
            raise ValueError(
                f"{len(bins)} codes take {len(words)} parameters of the HDF5 filter, and HDF5 gives back "
                f"{_MOST_WORDS}: give a larger beta (beta=, --beta), or write Zarr"
            )
        return tuple(int(word) for word in words)

    @classmethod
    def unpack(cls, words: Sequence[int], chunks: tuple[int, ...]) -> FilterParameters:
        """Read the parameters that HDF5 stores with a dataset of these chunks.

        Raises
        ------
        ValueError
            If the parameters are of a newer layout, damaged, or of other chunks.
        """
        if len(words) < _WORDS or words[0] != _LAYOUT:
            known = f"layout {words[0]}" if words else "nothing"
            raise ValueError(
                f"the parameters of the HDF5 filter have {known}, and this version knows layout {_LAYOUT}"
            )
        if words[1] & 255 >= len(_TYPES) or (words[1] >> 16 & 255) not in (1, 2) or words[2] & 255 > 1:
            raise ValueError("the parameters of the HDF5 filter are damaged: they name unknown types")
        dtype = np.dtype(_TYPES[words[1] & 255])
        if words[1] >> 8 & 1:
            dtype = dtype.newbyteorder(">")
        count, fineness = words[7], words[20]
        encoded = f"uint{8 * (words[1] >> 16 & 255)}"
        if not 1 <= count <= 2**16 or fineness < 1:
            raise ValueError(f"the parameters of the HDF5 filter are damaged: they tell of {count} codes")
        reader = _Bits(words[_WORDS:])
        single, width = min(words[23], count), 1
        widths, offsets = [1] * single, [0] * single
        for _ in range(count - single):
            width += _unfold(reader.number(words[21] & 255)) << (words[22] >> 1 & 1)
            widths.append(width)
            offsets.append(_unfold(reader.number(words[21] >> 8 & 255)) if words[22] & 1 else 0)
        step = float(_number_of(words[8:10], "<f8"))
        bins = Bins(
            int(_number_of(words[10:12], "<i8")), tuple(widths), int(step) if step == int(step) else step
        )
        configuration = Configuration(
            zero_level=float(_number_of(words[12:14], "<f8")),
            conversion_gain=float(_number_of(words[14:16], "<f8")),
            read_noise=float(_number_of(words[16:18], "<f8")),
            beta=float(_number_of(words[18:20], "<f8")),
            encoded_dtype=encoded,
            decoded_dtype=dtype.str if dtype.byteorder == ">" else dtype.name,
            out_of_range="clip" if words[2] >> 8 & 1 else "raise",
            bins=bins,
            decode_table=tuple(_values(bins, np.asarray(offsets, np.int64), fineness).tolist()),
        )
        preset: FramePreset = "compact" if words[2] & 255 else "fast"
        time_axis = None if len(chunks) > 2 and words[6] == words[3] and chunks[0] > 1 else 0
        found = cls(configuration, chunks, FrameConfiguration(preset, time_axis))
        if found._shape() != tuple(words[3:7]):
            raise ValueError(
                f"the parameters of the HDF5 filter are of other chunks than {chunks}: the file was packed "
                "again without the filter's knowledge, or is damaged"
            )
        return found

    def _offsets(self) -> tuple[int, IntArray]:
        """The part of a step that values are counted in, and their distances from the middles of bins."""
        configuration = self.configuration
        for fineness in _finenesses(configuration):
            offsets, exact = _offsets(configuration, fineness)
            if exact:
                return fineness, offsets
        raise ValueError(
            "values lie between the points that the HDF5 filter knows: call fit_to_filter before"
        )

    def _shape(self) -> tuple[int, int, int, int]:
        """Frames, height and width of a chunk, and the frames that belong to one time."""
        chunks = self.chunks
        images = chunks if self.frames.time_axis is None else chunks[1:]
        height = images[-2] if len(images) > 1 else 1
        width = images[-1] if images else 1
        planes = math.prod(images[:-2])
        times = 1 if self.frames.time_axis is None or not chunks else chunks[0]
        return times * planes, height, width, planes


def fit_to_filter(configuration: Configuration) -> Configuration:
    """Round the values of a configuration to those that the filter stores.

    Integers stay as they are. Values of floats are rounded to the grid of the bins, a 256th of the narrowest
    one; on the grid of integers to the finest part of a step that fits, 1/256 but for many codes.
    """
    bins = configuration.bins
    if bins is None:
        return configuration
    fitted = configuration
    for fineness in reversed(_finenesses(configuration)):
        offsets, _ = _offsets(configuration, fineness)
        fitted = replace(
            configuration, decode_table=tuple(_values(bins, offsets, fineness).tolist()), zero_code=None
        )
        try:
            FilterParameters(fitted, (1, 1, 1), FrameConfiguration()).pack()
        except ValueError:
            continue
        break
    return fitted


def _finenesses(configuration: Configuration) -> tuple[int, ...]:
    """Parts of a step in which distances of values from grid points may be counted, the coarsest first."""
    step = configuration.bins.step if configuration.bins is not None else 1
    if configuration.values_dtype.kind != "f":
        return (int(step),)
    return _FINENESSES if step >= 1 else (1,)


def _offsets(configuration: Configuration, fineness: int) -> tuple[IntArray, bool]:
    """Distances of the values from the middles of bins in parts of a step, and whether they are exact."""
    bins = cast("Bins", configuration.bins)
    codes = np.arange(len(bins)).astype(configuration.encoded_dtype)
    dtype = configuration.values_dtype
    values = plan(configuration).decode(codes)
    offsets = np.rint((values.astype(np.float64) - bins.middles) / (bins.step / fineness)).astype(np.int64)
    half = fineness // 2 if dtype.kind == "f" and fineness > 1 else 0
    widths = np.asarray(bins.widths, np.int64)
    below, above = (widths - 1) // 2 * fineness, (widths - 1 - (widths - 1) // 2) * fineness
    offsets = np.clip(offsets, -below - half, above + half)
    return offsets, bool((_values(bins, offsets, fineness).astype(dtype) == values).all())


def _values(bins: Bins, offsets: IntArray, fineness: int) -> npt.NDArray[np.float64]:
    unit = bins.step / fineness
    return np.asarray(bins.middles + offsets * unit, np.float64)


def _is_little(dtype: np.dtype[Any]) -> bool:
    return dtype.newbyteorder("<") == dtype or dtype.itemsize == 1


def _words(value: float, dtype: str) -> tuple[int, int]:
    low, high = np.array([value], dtype).view("<u4").tolist()
    return low, high


def _number_of(words: Sequence[int], dtype: str) -> Any:
    return np.array(words, "<u4").view(dtype)[0]


def _fold(values: IntArray) -> IntArray:
    """Count 0, -1, 1, -2, 2 … as 0, 1, 2, 3, 4 and so on."""
    return np.where(values < 0, -2 * values - 1, 2 * values)


def _unfold(number: int) -> int:
    return -(number >> 1) - 1 if number & 1 else number >> 1


def _best_order(numbers: IntArray) -> int:
    def bits(order: int) -> int:
        digits = [(n + (1 << order)).bit_length() - 1 for n in numbers.tolist()]
        return sum(2 * d + 1 - order for d in digits)

    return min(range(32), key=bits)


def _number(number: int, order: int) -> str:
    """As many zeros as there are digits beyond those of the order, a one, and the digits."""
    text = f"{number + (1 << order):b}"
    return "0" * (len(text) - 1 - order) + text


class _Bits:
    """The bits of words, the lowest first."""

    def __init__(self, words: Sequence[int]) -> None:
        self._bits = "".join(f"{word:032b}"[::-1] for word in words)
        self._at = 0

    def number(self, order: int) -> int:
        one = self._bits.find("1", self._at)
        end = one + 1 + one - self._at + order
        if one < 0 or end > len(self._bits) or end - one > 55:
            raise ValueError("the parameters of the HDF5 filter are damaged: they end within the bins")
        self._at = end
        return int(self._bits[one:end], 2) - (1 << order)
