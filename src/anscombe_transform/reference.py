"""The functions of the native core in plain numpy: their definition, and the fallback without the core.

Every function has the name, arguments and results of its twin in ``_core``; tests hold the two equal bit for
bit. `anscombe_transform.native` picks between them.
"""

from __future__ import annotations

import zlib
from typing import Any


def crc32(data: Any, crc: int = 0) -> int:
    """CRC-32 of any contiguous buffer, as in zlib.

    Parameters
    ----------
    data : buffer
        Bytes, or a contiguous array.
    crc : int
        Checksum of what came before.

    Examples
    --------
    >>> hex(crc32(b"123456789"))
    '0xcbf43926'
    """
    return zlib.crc32(data, crc)
