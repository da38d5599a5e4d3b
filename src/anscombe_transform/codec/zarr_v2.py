"""The Anscombe transform and the frame coder for Zarr V2: codecs of numcodecs, thin over `codec`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from numcodecs.abc import Codec
from numcodecs.compat import ensure_contiguous_ndarray, ensure_ndarray
from numcodecs.registry import register_codec

from anscombe_transform.codec.frames import (
    CODES,
    FRAMES,
    FrameConfiguration,
    FramePreset,
    decode_chunk,
    encode_chunk,
)
from anscombe_transform.codec.transform.configuration import (
    V1,
    V2,
    Configuration,
    constructor_arguments,
    fields_of,
    spelling,
)
from anscombe_transform.codec.transform.plan import Transform, as_codes, identity
from anscombe_transform.native.arrays import refuse_masked

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt


@dataclass(frozen=True, slots=True, eq=False)
class AnscombeTransformV2(Transform, Codec):  # type: ignore[misc]
    """The Anscombe transform as a filter of Zarr V2 arrays.

    Parameters
    ----------
    zero_level, conversion_gain, encoded_dtype
        As for `AnscombeTransformV3`.
    decoded_dtype : str
        dtype of the array: Zarr V2 reinterprets the output of a filter, so it must be the same.
    read_noise, beta, zero_code, out_of_range, decode_table, bins
        As for `AnscombeTransformV3`, also the errors.

    Examples
    --------
    >>> import numpy as np
    >>> codec = AnscombeTransformV2(zero_level=50, conversion_gain=90.0)
    >>> movie = np.array([[50, 140], [230, 9050]], "int16")
    >>> codec.decode(codec.encode(movie))
    array([[  56,  138],
           [ 265, 8854]], dtype=int16)
    """

    codec_id: ClassVar[Literal["anscombe-v1"]] = "anscombe-v1"

    def encode(self, buf: Any) -> npt.NDArray[Any]:
        """Encode a chunk.

        Parameters
        ----------
        buf : ndarray of `decoded_dtype`, or bytes-like
            The chunk; bytes are read as `decoded_dtype`.

        Returns
        -------
        ndarray of `encoded_dtype`
            Same shape, little-endian.

        Raises
        ------
        UnrepresentableError
            If a value has no code and `out_of_range` is "raise".
        ValueError
            If the chunk is not of `decoded_dtype`, so that Zarr would misread the output of `decode`.
        """
        refuse_masked(buf)
        x = ensure_ndarray(buf)
        expected = np.dtype(self.decoded_dtype)
        if not isinstance(buf, np.ndarray) and x.dtype != expected:
            x = ensure_contiguous_ndarray(buf).view(expected)
        if x.dtype != expected:
            raise ValueError(
                f"the chunk is {spelling(x.dtype)} but decoded_dtype is {self.decoded_dtype!r}, and a Zarr "
                f"V2 array reads decoded bytes as its own dtype: give decoded_dtype={spelling(x.dtype)!r}"
            )
        codes = self.plan.encode(x)
        return codes.astype(codes.dtype.newbyteorder("<"), copy=False)

    def decode(self, buf: Any, out: Any = None) -> npt.NDArray[Any]:
        """Decode a chunk.

        Parameters
        ----------
        buf : ndarray of `encoded_dtype`, or bytes-like
            Codes.
        out : writable buffer, optional
            Receives the values.

        Returns
        -------
        ndarray of `decoded_dtype`
            `out` if given; else the shape of `buf` if that is an array of `encoded_dtype`, or flat.

        Raises
        ------
        ValueError
            If a code is none that this codec writes, or `out` is too small.
        """
        codes = as_codes(buf, self.plan.configuration)
        expected = np.dtype(self.decoded_dtype)
        if out is None:
            return self.plan.decode(codes).astype(expected, copy=False)
        target = ensure_contiguous_ndarray(out).view(np.uint8)
        if target.nbytes != codes.size * expected.itemsize:
            raise ValueError(f"out must hold {codes.size} values of {expected}, got {target.nbytes} bytes")
        values = self.plan.decode(codes, out=None if not expected.isnative else target.view(expected))
        if not expected.isnative:
            target[...] = values.reshape(-1, order="A").astype(expected).view(np.uint8)
        result: npt.NDArray[Any] = ensure_ndarray(out)
        return result

    def get_config(self) -> dict[str, Any]:
        """The configuration as JSON types, with the format's id."""
        return {"id": self.plan.configuration.format, **self.plan.configuration.to_json()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The codec of a stored configuration; absent dtypes are uint8 and int16, as 1.0.0 assumed."""
        document = dict(config)
        name = document.pop("id", V1)
        # Checked as a stored document first: the constructor would take keys that this format does not have.
        Configuration.from_json(name, document)
        return cls(**constructor_arguments(document))

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), **fields_of(self)), ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AnscombeTransformV2) and self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return identity(self)


class StoredV2:
    """The class that numcodecs finds under the id ``anscombe``.

    It strips the id before it calls `from_config`, and a configuration alone must not decide which format it
    is of: a key lost from v2 metadata would turn it into v1.
    """

    codec_id: ClassVar[str] = V2

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> AnscombeTransformV2:
        """The codec of a stored ``anscombe`` configuration."""
        return AnscombeTransformV2.from_config({**config, "id": V2})


# More than memory holds: a shape beyond it is damaged, and no chunk of it is to be allocated.
_MOST_CODES = 2**36


@dataclass(frozen=True, slots=True)
class FrameCoderV2(Codec):  # type: ignore[misc]
    """The frame coder as the compressor of Zarr V2 arrays.

    Zarr V2 hands bytes without a shape to a decoder, so that the configuration holds the
    shape of a chunk and the type of its codes.

    Parameters
    ----------
    chunk_shape : sequence of int
        Shape of the array's chunks.
    dtype : str
        Type of the codes, uint8 or uint16: the `encoded_dtype` of the transform before it.
    preset, time_axis
        As for `FrameCoderV3`, also the errors.

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
            Result of `encode`.
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


register_codec(AnscombeTransformV2)
register_codec(StoredV2)
register_codec(FrameCoderV2)
