"""The Anscombe transform and the frame coder as codecs for Zarr V2 (numcodecs) and Zarr V3.

Names are imported on first use, so that the V2 half needs no zarr-python 3 and reading a configuration needs
no numba.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from anscombe_transform.codec.anscombe import (
    UnrepresentableError,
    decode,
    encode,
    lookup,
    make_anscombe_lookup,
    make_inverse_lookup,
)

if TYPE_CHECKING:
    from anscombe_transform.codec.frames.chunk import DamagedChunkError
    from anscombe_transform.codec.frames_zarr_v2 import FrameCoderV2
    from anscombe_transform.codec.frames_zarr_v3 import FrameCoder, FrameCoderV3
    from anscombe_transform.codec.zarr_v2 import AnscombeTransformV2
    from anscombe_transform.codec.zarr_v3 import AnscombeTransformV3

_HOME = {
    "AnscombeTransformV2": "anscombe_transform.codec.zarr_v2",
    "AnscombeTransformV3": "anscombe_transform.codec.zarr_v3",
    "DamagedChunkError": "anscombe_transform.codec.frames.chunk",
    "FrameCoder": "anscombe_transform.codec.frames_zarr_v3",
    "FrameCoderV2": "anscombe_transform.codec.frames_zarr_v2",
    "FrameCoderV3": "anscombe_transform.codec.frames_zarr_v3",
}

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
