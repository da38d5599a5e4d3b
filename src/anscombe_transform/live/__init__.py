"""Where other programs meet ours: cameras that record, writers of arrays, folders that fill, and xarray.

`StreamWriter` compresses, verifies and records frames as a camera delivers them. `finish` completes a
recording after a crash. `adopt` gives an array of codes that another program wrote its codec and its record.
`watch` compresses the recordings of a folder as soon as they are complete.
"""

from __future__ import annotations

from anscombe_transform.live.adopt import adopt
from anscombe_transform.live.stream import BacklogFull, StreamWriter, finish
from anscombe_transform.live.watch import watch

__all__ = ["BacklogFull", "StreamWriter", "adopt", "finish", "watch"]
