"""The frame coder for Zarr V2: a numcodecs codec, thin over `codec.frames`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from numcodecs.abc import Codec
from numcodecs.compat import ensure_contiguous_ndarray, ensure_ndarray
from numcodecs.registry import register_codec

from anscombe_transform.codec.configuration import spelling
from anscombe_transform.codec.frames import (
    CODES,
    FRAMES,
    FrameConfiguration,
    FramePreset,
    decode_chunk,
    encode_chunk,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

# More than memory holds: a shape beyond it is damaged, and no chunk of it is to be allocated.
_MOST_CODES = 2**36


@dataclass(frozen=True, slots=True)
class FrameCoderV2(Codec):  # type: ignore[misc]
    """The frame coder as the compressor of Zarr V2 arrays.

    Zarr V2 hands bytes to a decoder and does not say of which shape, so that the configuration holds the
    shape of a chunk and the type of its codes.

    Parameters
    ----------
    chunk_shape : sequence of int
        Shape of the array's chunks.
    dtype : str
        Type of the codes, uint8 or uint16: the `encoded_dtype` of the transform before it.
    preset : {"fast", "compact"}
        How much effort the encoder makes.
    time_axis : int or None
        Axis along which frames follow each other.

    Raises
    ------
    ValueError, TypeError
        If a parameter breaks its rule.

    Examples
    --------
    >>> import numpy as np
    >>> codes = np.random.default_rng(0).poisson(20, (50, 64, 64)).astype("uint8")
    >>> coder = FrameCoderV2(chunk_shape=codes.shape)
    >>> bool((coder.decode(coder.encode(codes)) == codes).all())
    True
    """

    codec_id: ClassVar[Literal["anscombe_frames"]] = "anscombe_frames"

    chunk_shape: tuple[int, ...]
    dtype: str = "uint8"
    preset: FramePreset = field(default="fast", kw_only=True)
    time_axis: int | None = field(default=0, kw_only=True)
    configuration: FrameConfiguration = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            shape = tuple(int(n) for n in self.chunk_shape)
        except TypeError as error:
            raise TypeError(
                f"chunk_shape must be a sequence of integers, got {self.chunk_shape!r}"
            ) from error
        if any(n < 1 for n in shape) or tuple(self.chunk_shape) != shape:
            raise ValueError(f"chunk_shape must hold integers of at least 1, got {self.chunk_shape!r}")
        if math.prod(shape) > _MOST_CODES:
            raise ValueError(
                f"chunk_shape must hold at most {_MOST_CODES} codes, got {shape} with {math.prod(shape)}"
            )
        dtype = np.dtype(self.dtype)
        if dtype.name not in CODES:
            raise ValueError(f"dtype must be uint8 or uint16 (the type of the codes), got {self.dtype!r}")
        object.__setattr__(self, "chunk_shape", shape)
        object.__setattr__(self, "dtype", spelling(dtype))
        configuration = FrameConfiguration(self.preset, self.time_axis)
        object.__setattr__(self, "configuration", configuration)
        self.configuration.check_axes(len(shape))

    @property
    def _stored_dtype(self) -> np.dtype[Any]:
        """Type of the codes as Zarr sees their bytes: little-endian unless spelt otherwise."""
        dtype = np.dtype(self.dtype)
        return dtype if dtype.byteorder == ">" else dtype.newbyteorder("<")

    def encode(self, buf: Any) -> bytes:
        """Compress a chunk.

        Parameters
        ----------
        buf : ndarray of `dtype`, or bytes-like
            The codes of one chunk; bytes are read as `dtype`, in C order.

        Raises
        ------
        ValueError
            If there are not as many codes as a chunk has, or they are of another type.
        """
        dtype = self._stored_dtype
        codes = ensure_ndarray(buf)
        if codes.dtype != dtype and (codes.dtype.kind not in "iu" or codes.itemsize == 1):
            codes = ensure_contiguous_ndarray(buf).view(np.uint8)
            if codes.size % dtype.itemsize == 0:
                codes = codes.view(dtype)
        if codes.dtype != dtype:
            raise ValueError(
                f"the chunk is {spelling(codes.dtype)} but dtype is {self.dtype!r}: give "
                f"dtype={spelling(codes.dtype)!r}, or the encoded_dtype of the transform before it"
            )
        if codes.size != math.prod(self.chunk_shape):
            raise ValueError(
                f"the chunk has {codes.size} codes but chunk_shape is {self.chunk_shape}: give the shape of "
                "the array's chunks"
            )
        if codes.shape != self.chunk_shape:
            # Zarr reads the decoded bytes in the order of memory, whatever that stands for.
            codes = codes.reshape(-1, order="A").reshape(self.chunk_shape)
        elif codes.flags.f_contiguous and not codes.flags.c_contiguous:
            codes = codes.reshape(-1, order="F").reshape(self.chunk_shape)
        return encode_chunk(codes, self.configuration)

    def decode(self, buf: Any, out: Any = None) -> npt.NDArray[Any]:
        """Decompress a chunk.

        Parameters
        ----------
        buf : bytes-like
            What `encode` gave.
        out : writable buffer, optional
            Receives the codes.

        Returns
        -------
        ndarray of `dtype`
            `out` if given, else an array of `chunk_shape`.

        Raises
        ------
        DamagedChunkError
            If the bytes are not a chunk of this shape and type.
        ValueError
            If `out` has another size.
        """
        dtype = self._stored_dtype
        data = ensure_contiguous_ndarray(buf).view(np.uint8)
        codes = decode_chunk(data, self.chunk_shape, dtype, self.configuration).astype(dtype, copy=False)
        codes = np.ascontiguousarray(codes)
        if out is None:
            return codes
        target = ensure_contiguous_ndarray(out).view(np.uint8)
        if target.nbytes != codes.nbytes:
            raise ValueError(f"out must hold {codes.nbytes} bytes, got {target.nbytes}")
        target[...] = codes.reshape(-1).view(np.uint8)
        result: npt.NDArray[Any] = ensure_ndarray(out)
        return result

    def get_config(self) -> dict[str, Any]:
        """The configuration as JSON types, with the format's id."""
        document = self.configuration.to_json()
        return {"id": FRAMES, "chunk_shape": list(self.chunk_shape), "dtype": self.dtype, **document}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The codec of a stored configuration.

        Raises
        ------
        ValueError
            If a key is missing or unknown, or a parameter breaks its rule.
        """
        document = dict(config)
        name = document.pop("id", FRAMES)
        if missing := {"chunk_shape", "dtype"} - set(document):
            raise ValueError(f"{FRAMES} configuration lacks {sorted(missing)}")
        shape, dtype = document.pop("chunk_shape"), document.pop("dtype")
        found = FrameConfiguration.from_json(name, document)
        return cls(tuple(shape), dtype, preset=found.preset, time_axis=found.time_axis)

    def __reduce__(self) -> tuple[Any, ...]:
        again = partial(type(self), preset=self.preset, time_axis=self.time_axis)
        return again, (self.chunk_shape, self.dtype)


register_codec(FrameCoderV2)
