"""The Anscombe transform and the frame coder as codecs for Zarr V2 (numcodecs) and Zarr V3.

Names are imported on first use, so that the V2 half needs no zarr-python 3.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anscombe_transform.codec.frames.chunk import DamagedChunkError
    from anscombe_transform.codec.transform.configuration import UnrepresentableError
    from anscombe_transform.codec.transform.v1_functions import (
        decode,
        encode,
        lookup,
        make_anscombe_lookup,
        make_inverse_lookup,
    )
    from anscombe_transform.codec.zarr_v2 import AnscombeTransformV2, FrameCoderV2
    from anscombe_transform.codec.zarr_v3 import AnscombeTransformV3, FrameCoder, FrameCoderV3

_NAMES = {
    "frames.chunk": ("DamagedChunkError",),
    "transform.configuration": ("UnrepresentableError",),
    "transform.v1_functions": ("decode", "encode", "lookup", "make_anscombe_lookup", "make_inverse_lookup"),
    "zarr_v2": ("AnscombeTransformV2", "FrameCoderV2"),
    "zarr_v3": ("AnscombeTransformV3", "FrameCoder", "FrameCoderV3"),
}
_HOME = {name: f"{__name__}.{module}" for module, names in _NAMES.items() for name in names}

__all__ = [
    "AnscombeTransformV2",
    "AnscombeTransformV3",
    "DamagedChunkError",
    "FrameCoder",
    "FrameCoderV2",
    "FrameCoderV3",
    "UnrepresentableError",
    "decode",
    "encode",
    "lookup",
    "make_anscombe_lookup",
    "make_inverse_lookup",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value
