"""Types of the binding; see ``_core.pyx``."""

from typing import Any

def crc32(data: Any, crc: int = 0) -> int: ...
def encode_frames_sizes(
    frames: int, height: int, width: int, itemsize: int, planes: int
) -> tuple[int, int]: ...
def encode_frames(
    codes: Any,
    frames: int,
    height: int,
    width: int,
    itemsize: int,
    planes: int,
    effort: int,
    out: Any,
    scratch: Any,
) -> int: ...
def decode_frames_scratch(data: Any, frames: int, height: int, width: int, itemsize: int) -> int: ...
def decode_frames(
    data: Any, frames: int, height: int, width: int, itemsize: int, out: Any, scratch: Any
) -> int: ...
