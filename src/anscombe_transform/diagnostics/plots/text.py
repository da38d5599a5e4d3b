"""Numbers as they are printed."""

from __future__ import annotations

import math

import numpy as np

from anscombe_transform.native.arrays import Floats

FILTERS = {
    "t": "differences in time",
    "ty": "differences in time and y",
    "tx": "differences in time and x",
    "txy": "differences in time, y and x",
}
METHODS = FILTERS | {"flats": "frames of equal light"}


def all_finite(*values: float) -> bool:
    """Whether all values are numbers."""
    return all(math.isfinite(v) for v in values)


def with_interval(value: float, interval: tuple[float, float]) -> str:
    """``91.2 [89.9, 92.6]``, with two figures of the interval's half width."""
    low, high = interval
    if not all_finite(value):
        return "unknown"
    if not all_finite(low, high) or not high > low:
        return signed(f"{value:.4g}")
    places = max(0, 1 - math.floor(math.log10((high - low) / 2)))
    # Adding 0 makes a zero of −0.
    value, low, high = (round(number, places) + 0.0 for number in (value, low, high))
    return signed(f"{value:.{places}f} [{low:.{places}f}, {high:.{places}f}]")


def round_signals(signals: Floats) -> list[float]:
    """Round numbers near given ones, each once."""
    span = float(np.ptp(signals)) or 1.0
    found: list[float] = []
    for value in signals.tolist():
        unit = 10.0 ** math.floor(math.log10(max(abs(value), 0.05 * span)) - 1)
        rounded = round(value / unit) * unit
        if rounded not in found:
            found.append(rounded)
    return found


def in_digits(value: float) -> str:
    """Six figures at most."""
    return signed(f"{value:.6g}")


def signed(text: str) -> str:
    """The minus sign of print instead of the hyphen of source code."""
    return text.replace("-", "−")


def in_percent(share: float) -> str:
    """A share in percent, two figures."""
    return f"{100 * share:.2g} %" if share < 0.0995 else f"{100 * share:.0f} %"


def in_frames(count: int) -> str:
    """How many frames."""
    return f"{count} frame" if count == 1 else f"{count} frames"


def shortened(name: str, length: int) -> str:
    """A long name without its middle, since its ends tell most."""
    half = (length - 1) // 2
    return name if len(name) <= length else f"{name[:half]}…{name[-half:]}"


def in_bytes(count: float) -> str:
    """A size with its unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
