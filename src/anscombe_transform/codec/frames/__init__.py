"""The frame coder: lossless compression of movies of codes, format ``anscombe_frames``.

After the transform the noise of a movie has one standard deviation everywhere, so that only the predictable
part can be compressed. Each code is predicted from the frames before it and the rows above it, and its
distance from the prediction is stored by an entropy coder. ``docs/reference/anscombe_frames.md`` defines the
format; `libanscombe` codes it, or without the native core `reference_frames`.
"""

from anscombe_transform.codec.frames.chunk import DamagedChunkError, decode_chunk, encode_chunk
from anscombe_transform.codec.frames.presets import CODES, FRAMES, FrameConfiguration, FramePreset

__all__ = [
    "CODES",
    "FRAMES",
    "DamagedChunkError",
    "FrameConfiguration",
    "FramePreset",
    "decode_chunk",
    "encode_chunk",
]
