"""The frame coder for Zarr V3: a codec from arrays to bytes, thin over `codec.frames`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from zarr.abc.codec import ArrayBytesCodec
from zarr.registry import register_codec

from anscombe_transform.codec import threads
from anscombe_transform.codec.frames import (
    FRAMES,
    FrameConfiguration,
    FramePreset,
    decode_chunk,
    encode_chunk,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer, NDBuffer


@dataclass(frozen=True, slots=True)
class FrameCoderV3(ArrayBytesCodec):
    """The frame coder as the serializer of Zarr V3 arrays.

    It takes codes, uint8 or uint16: put an `AnscombeTransformV3` among the array's filters.

    Parameters
    ----------
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
    >>> import numpy as np, zarr
    >>> from anscombe_transform import AnscombeTransformV3
    >>> movie = np.random.default_rng(0).poisson(8, (50, 64, 64)).astype("int16") * 90 + 50
    >>> codec = AnscombeTransformV3(zero_level=50, conversion_gain=90.0)
    >>> array = zarr.create_array(
    ...     {}, data=movie, filters=[codec], serializer=FrameCoderV3(), compressors=None
    ... )
    >>> bool((abs(array[:] - movie) <= codec.plan.max_error(movie)).all())
    True
    """

    is_fixed_size = False

    preset: FramePreset = "fast"
    time_axis: int | None = 0
    configuration: FrameConfiguration = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "configuration", FrameConfiguration(self.preset, self.time_axis))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The codec of stored metadata.

        Raises
        ------
        ValueError
            If the name or a key is unknown, or a parameter breaks its rule.
        """
        document = data.get("configuration", {})
        found = FrameConfiguration.from_json(data.get("name", FRAMES), document)
        return cls(found.preset, found.time_axis)

    def to_dict(self) -> dict[str, Any]:
        """The metadata of this codec as JSON types."""
        return {"name": FRAMES, "configuration": self.configuration.to_json()}

    def validate(self, *, shape: tuple[int, ...], **_: Any) -> None:
        """Refuse an array without such a time axis."""
        self.configuration.check_axes(len(shape))

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Not known before a chunk is encoded."""
        raise NotImplementedError("the size of a chunk is known once it is encoded")

    def _encode_sync(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        data = encode_chunk(chunk_array.as_numpy_array(), self.configuration)
        return chunk_spec.prototype.buffer.from_bytes(data)

    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        dtype = chunk_spec.dtype.to_native_dtype()
        codes = decode_chunk(chunk_bytes.as_numpy_array(), chunk_spec.shape, dtype, self.configuration)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(codes.astype(dtype, copy=False))

    async def _encode_single(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        return await threads.run(
            self._encode_sync, chunk_array, chunk_spec, _bytes_of(chunk_spec), begun=True
        )

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        return await threads.run(
            self._decode_sync, chunk_bytes, chunk_spec, _bytes_of(chunk_spec), begun=False
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.preset, self.time_axis)


def _bytes_of(chunk_spec: ArraySpec) -> int:
    return math.prod(chunk_spec.shape) * chunk_spec.dtype.to_native_dtype().itemsize


FrameCoder = FrameCoderV3
"""The frame coder of the current Zarr format."""

register_codec(FRAMES, FrameCoderV3)
