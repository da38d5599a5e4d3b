"""Recordings that are being made: stored while they grow, and finished after a crash.

`StreamWriter` compresses, verifies and records frames as a camera delivers them. `finish` completes what a
crash
has left.
"""

from __future__ import annotations

from anscombe_transform.live.stream import BacklogFull, StreamWriter, finish

__all__ = ["BacklogFull", "StreamWriter", "finish"]
