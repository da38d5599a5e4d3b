"""The Anscombe transform and the frame coder for Zarr V3: codecs thin over `codec`."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
from zarr.abc.codec import ArrayArrayCodec, ArrayBytesCodec
from zarr.registry import register_codec

from anscombe_transform.codec.frames import (
    FRAMES,
    FrameConfiguration,
    FramePreset,
    decode_chunk,
    encode_chunk,
)
from anscombe_transform.codec.transform.configuration import (
    NAMES,
    Configuration,
    UnrepresentableError,
    constructor_arguments,
    fields_of,
)
from anscombe_transform.codec.transform.plan import Transform, as_codes, identity

try:
    from zarr.core.dtype import parse_dtype as parse_dtype
except ImportError:  # zarr-python 3.0.0 to 3.1.0
    import zarr

    raise ImportError(
        f"arrays of Zarr format 3 need zarr-python >= 3.1.1, and this is {zarr.__version__}: "
        'pip install "zarr>=3.1.1", or use arrays of format 2 (zarr_format=2)'
    ) from None

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer, NDBuffer

_Chunk = TypeVar("_Chunk")
_Result = TypeVar("_Result")

# Below this a hop to another thread costs more than the work; above it, the event loop would stall.
_INLINE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class AnscombeTransformV3(Transform, ArrayArrayCodec):
    """The Anscombe transform as a filter of Zarr V3 arrays.

    With the first four parameters alone it writes the format ``anscombe-v1``, with any other ``anscombe``.
    `Sensitivity.codec` chooses the parameters of the latter for a movie.

    Parameters
    ----------
    zero_level : float
        Signal without light.
    conversion_gain : float
        Signal units per photon, > 0.
    encoded_dtype : {"uint8", "uint16"}
        dtype of the codes.
    decoded_dtype : str
        dtype of the values; inside an array it is the array's.
    is_fixed_size : bool
        Always True: the codes of a chunk have a fixed size.
    read_noise : float
        Standard deviation of the signal without light, signal units.
    beta : float
        Quantisation step in standard deviations of the noise; the variance grows by ``beta**2 / 12``.
    zero_code : int, optional
        Code of `zero_level`: the bins below it. It makes `bins` where none are given.
    out_of_range : {"raise", "clip"}
        Treatment of a value without a code.
    decode_table : sequence of float, optional
        Value of every code, inside its bin.
    bins : Bins, optional
        The signals of every code.

    Raises
    ------
    ValueError, TypeError
        If a parameter breaks its rule.

    Examples
    --------
    >>> import numpy as np, zarr
    >>> movie = np.random.default_rng(0).poisson(8, (10, 32, 32)).astype("int16") * 90 + 50
    >>> codec = AnscombeTransformV3(zero_level=50, conversion_gain=90.0)
    >>> array = zarr.create_array({}, data=movie, filters=[codec])
    >>> bool((abs(array[:] - movie) <= codec.plan.max_error(movie)).all())
    True
    """

    is_fixed_size: bool = True
    # Whether this codec was read from metadata: an existing array is opened whatever its fill value.
    _stored: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.is_fixed_size is not True:
            raise ValueError(f"is_fixed_size must be True: codes take one size, got {self.is_fixed_size!r}")
        # slots=True makes a new class, which super() without arguments does not know.
        Transform.__post_init__(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The codec of stored metadata; absent dtypes are uint8 and int16, as 1.0.0 assumed.

        Raises
        ------
        ValueError
            If the name or a key is unknown, or a parameter breaks its rule.
        """
        name = data.get("name", NAMES[0])
        document = data.get("configuration", {})
        # Checked as a stored document first: the constructor would take keys that this format does not have.
        Configuration.from_json(name, document)
        codec = cls(**constructor_arguments(document))
        object.__setattr__(codec, "_stored", True)
        return codec

    def to_dict(self) -> dict[str, Any]:
        """The metadata of this codec as JSON types: its format's name, and its configuration."""
        configuration = self.plan.configuration
        return {"name": configuration.format, "configuration": configuration.to_json()}

    def evolve_from_array_spec(self, array_spec: ArraySpec) -> Self:
        """The codec for an array of a given dtype and fill value.

        Raises
        ------
        UnrepresentableError
            If a new array's fill value has no code.
        ValueError
            If the array's dtype is none that the codec can hold.
        """
        dtype = array_spec.dtype.to_native_dtype().newbyteorder("=").name
        codec = self
        if dtype != self.decoded_dtype:
            fields = fields_of(self) | {"decoded_dtype": dtype}
            if (self.plan.decoded_dtype.kind == "f") != (np.dtype(dtype).kind == "f"):
                # Bins of integers and of floats lie on other grids.
                fields |= {"bins": None, "decode_table": None}
            codec = type(self)(**fields)
            object.__setattr__(codec, "_stored", self._stored)
        if not codec._stored:
            codec._fill_code(array_spec.fill_value)
        return codec

    def resolve_metadata(self, chunk_spec: ArraySpec) -> ArraySpec:
        """The chunk's specification after encoding: the codes' dtype, and the fill value's code."""
        dtype = np.dtype(self.encoded_dtype)
        try:
            fill = self._fill_code(chunk_spec.fill_value)
        except UnrepresentableError:
            if not self._stored:
                raise
            # 1.0.0 handed the raw value on as if it were a code; its arrays are read as it wrote them.
            info = np.iinfo(dtype)
            raw = chunk_spec.fill_value
            fill = int(raw) if np.isfinite(raw) and info.min <= raw <= info.max else 0
        return dataclasses.replace(
            chunk_spec, dtype=parse_dtype(dtype, zarr_format=3), fill_value=dtype.type(fill)
        )

    def encode(self, chunks_and_specs: Any) -> Any:
        """Encode chunks, as Zarr asks for it; a coroutine.

        Raises
        ------
        TypeError
            The argument is an array: Zarr V3 codecs work inside an array of Zarr.
        """
        _refuse_array(chunks_and_specs, "encode")
        return ArrayArrayCodec.encode(self, chunks_and_specs)

    def decode(self, chunks_and_specs: Any) -> Any:
        """Decode chunks, as Zarr asks for it; a coroutine.

        Raises
        ------
        TypeError
            The argument is an array: Zarr V3 codecs work inside an array of Zarr.
        """
        _refuse_array(chunks_and_specs, "decode")
        return ArrayArrayCodec.decode(self, chunks_and_specs)

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Bytes of the codes of a chunk of `input_byte_length` bytes."""
        values = input_byte_length // chunk_spec.dtype.to_native_dtype().itemsize
        return values * np.dtype(self.encoded_dtype).itemsize

    def _fill_code(self, value: Any) -> int:
        if value is None:
            value = 0
        try:
            return int(self.plan.encode_scalar(value))
        except UnrepresentableError as error:
            nearest = self.plan.highest if value > self.plan.highest else self.plan.lowest
            raise UnrepresentableError(
                f"fill_value {value!r} cannot be stored: {error} Or give the array another fill_value, such "
                f"as {nearest:.10g}."
            ) from error

    def _encode(self, buf: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Codes of an array, same shape; see `Plan.encode`."""
        return self.plan.encode(buf)

    def _decode(self, buf: Any) -> npt.NDArray[Any]:
        """Values of an array or buffer of codes, the shape of an array or flat; see `Plan.decode`."""
        return self.plan.decode(as_codes(buf, self.plan.configuration))

    def _encode_sync(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> NDBuffer:
        signal = chunk_array.as_ndarray_like()
        if isinstance(signal, np.ndarray):
            codes: Any = self._encode(signal)
        else:
            codes = self.plan.encode_on_device(signal)
        return chunk_spec.prototype.nd_buffer.from_ndarray_like(codes)

    def _decode_sync(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> NDBuffer:
        codes = chunk_array.as_ndarray_like()
        if isinstance(codes, np.ndarray):
            values: Any = self._decode(codes)
        else:
            values = self.plan.decode_on_device(codes)
        return chunk_spec.prototype.nd_buffer.from_ndarray_like(values.reshape(chunk_spec.shape))

    async def _encode_single(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> NDBuffer:
        return await _run(self._encode_sync, chunk_array, chunk_spec, _bytes_of(chunk_array))

    async def _decode_single(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> NDBuffer:
        return await _run(self._decode_sync, chunk_array, chunk_spec, _bytes_of(chunk_array))

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(_restore, type(self), self._stored), (fields_of(self),)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AnscombeTransformV3) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return identity(self)


def _refuse_array(argument: object, method: str) -> None:
    """Refuse an array where Zarr gives chunks, before a coroutine is made that nothing waits for."""
    if hasattr(argument, "dtype") or isinstance(argument, bytes):
        raise TypeError(
            "a codec of Zarr V3 works in an array, zarr.create_array(store, data=movie, filters=[codec]), "
            f"and has no {method} for an array by itself: codec.plan.{method}(array) does that"
        )


async def _run(
    work: Callable[[_Chunk, ArraySpec], _Result], chunk: _Chunk, spec: ArraySpec, nbytes: int
) -> _Result:
    """The result of `work` for a chunk of so many bytes, in a thread of Zarr's if it is large."""
    if nbytes <= _INLINE_BYTES:
        return work(chunk, spec)
    return await asyncio.to_thread(work, chunk, spec)


def _bytes_of(chunk: NDBuffer) -> int:
    return math.prod(chunk.shape) * chunk.dtype.itemsize


def _restore(cls: type[AnscombeTransformV3], stored: bool, fields: dict[str, Any]) -> AnscombeTransformV3:
    """Unpickle a codec."""
    codec = cls(**fields)
    object.__setattr__(codec, "_stored", stored)
    return codec


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
        return await _run(self._encode_sync, chunk_array, chunk_spec, _spec_bytes(chunk_spec))

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        return await _run(self._decode_sync, chunk_bytes, chunk_spec, _spec_bytes(chunk_spec))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.preset, self.time_axis)


def _spec_bytes(chunk_spec: ArraySpec) -> int:
    return math.prod(chunk_spec.shape) * chunk_spec.dtype.to_native_dtype().itemsize


FrameCoder = FrameCoderV3
"""The frame coder of the current Zarr format."""


for _name in NAMES:
    register_codec(_name, AnscombeTransformV3)
register_codec(FRAMES, FrameCoderV3)
