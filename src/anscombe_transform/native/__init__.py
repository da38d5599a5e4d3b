"""The native core where it was built, else its functions in plain numpy: ``native.core.crc32(data)``."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

core: Any
try:
    from anscombe_transform import _core as core
except ImportError:
    from anscombe_transform.native import reference as core

crc32: Callable[..., int] = core.crc32
"""CRC-32 of memory, as in zlib."""

IS_NATIVE = core.__name__.endswith("._core")
"""Whether the compiled core serves."""


@functools.cache
def warn_if_slow() -> None:
    """Warn once in a process if plain numpy stands in for the native core."""
    if not IS_NATIVE:
        warnings.warn(
            "anscombe-transform was installed without its native core and works in plain numpy, 10 to 100 "
            "times slower, with the same results: install a wheel for this platform, or a C compiler, and "
            "install it again (pip install --force-reinstall --no-cache-dir anscombe-transform)",
            RuntimeWarning,
            stacklevel=3,
        )
