"""The codec ``cast_value`` of arrays that `make_portable` has described, for zarr-python before 3.2.

Zarr imports every module that offers a codec of that name as soon as an array asks for one. This module is
beside the package, so that arrays are read without it where zarr-python has the codec itself.
"""

try:
    from zarr.codecs.cast_value import CastValue  # type: ignore[import-not-found, unused-ignore]
except ImportError:
    from anscombe_transform.codec.cast_value import CastValueReader as CastValue

__all__ = ["CastValue"]
