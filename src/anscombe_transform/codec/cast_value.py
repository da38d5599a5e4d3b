"""Zarr's registered codec ``cast_value``, read where zarr-python has none of its own (before 3.2).

Only the form that `make_portable` writes: every code has its value in the codec's ``scalar_map``. Values are
not stored; `make_native` gives an array its own codec back for that.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from zarr.abc.codec import ArrayArrayCodec

from anscombe_transform.codec.zarr_v3 import parse_dtype

if TYPE_CHECKING:
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import NDBuffer

_NAME = "cast_value"
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


@dataclass(frozen=True)
class CastValueReader(ArrayArrayCodec):
    """Reads arrays that `make_portable` has described by ``cast_value``.

    Parameters
    ----------
    configuration : dict
        As in the array's metadata: ``data_type`` of the codes, and a ``scalar_map`` with ``decode``, a list
        of code and value of every code.

    Raises
    ------
    ValueError
        The map does not list values for codes of uint8 or uint16.
    """

    configuration: dict[str, Any]
    is_fixed_size: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        listed = (self.configuration.get("scalar_map") or {}).get("decode")
        if self.configuration.get("data_type") not in ("uint8", "uint16") or not listed:
            raise ValueError(
                "this zarr-python has no codec cast_value (3.2 has), and without it only arrays of "
                "anscombe_transform.codec.portable.make_portable can be read"
            )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The codec of an entry in ``zarr.json``."""
        return cls(data["configuration"])

    def to_dict(self) -> dict[str, Any]:
        """The entry in ``zarr.json``."""
        return {"name": _NAME, "configuration": self.configuration}

    def __hash__(self) -> int:
        return hash(repr(self.configuration))

    def resolve_metadata(self, chunk_spec: ArraySpec) -> ArraySpec:
        """The chunk's specification after encoding: the codes' dtype, and the fill value's code."""
        dtype = np.dtype(self.configuration["data_type"])
        fill = np.asarray(chunk_spec.fill_value).item()
        codes = {_number(value): code for value, code in self.configuration["scalar_map"]["encode"]}
        code = next((c for v, c in codes.items() if v == fill or (v != v and fill != fill)), 0)
        return dataclasses.replace(
            chunk_spec, dtype=parse_dtype(dtype, zarr_format=3), fill_value=dtype.type(code)
        )

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Bytes of the codes of a chunk of `input_byte_length` bytes."""
        values = input_byte_length // chunk_spec.dtype.to_native_dtype().itemsize
        return int(values * np.dtype(self.configuration["data_type"]).itemsize)

    def _decode_sync(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> NDBuffer:
        codes = np.asarray(chunk_array.as_numpy_array())
        known = np.zeros(np.iinfo(codes.dtype).max + 1, bool)
        table = np.zeros(len(known), chunk_spec.dtype.to_native_dtype())
        for code, value in self.configuration["scalar_map"]["decode"]:
            known[code], table[code] = True, _number(value)
        if not known[codes].all():
            damaged = int(codes[~known[codes]][0])
            raise ValueError(f"code {damaged} has no value in the map of {_NAME}: the chunk is damaged")
        return chunk_spec.prototype.nd_buffer.from_ndarray_like(table[codes].reshape(chunk_spec.shape))

    async def _decode_single(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> NDBuffer:
        return self._decode_sync(chunk_data, chunk_spec)

    async def _encode_single(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> NDBuffer:
        raise TypeError(
            "a portable array is for reading: anscombe_transform.codec.portable.make_native gives it its own "
            "codec back, which refuses values that it cannot store"
        )


def _number(value: Any) -> Any:
    return _NOT_FINITE.get(value, value) if isinstance(value, str) else value
