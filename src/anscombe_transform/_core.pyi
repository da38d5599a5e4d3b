"""Types of the binding; see ``_core.pyx``."""

from typing import Any

def crc32(data: Any, crc: int = 0) -> int: ...
