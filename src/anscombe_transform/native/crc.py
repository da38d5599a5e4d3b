"""CRC-32 of memory, as in zlib."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anscombe_transform.native import core

if TYPE_CHECKING:
    from collections.abc import Callable

crc32: Callable[..., int] = core.crc32

__all__ = ["crc32"]
