"""CRC-32 of memory, as in zlib, by the fastest library that is there.

zlib-ng finds the same number three times as fast as the zlib of most Pythons. It is a dependency where it has
wheels; the rarer machines take zlib's.
"""

from __future__ import annotations

try:
    from zlib_ng.zlib_ng import crc32
except ImportError:
    from zlib import crc32

__all__ = ["crc32"]
