"""Let acquire-zarr write the codes of a camera, and adopt its array: ``python acquire.py recording.zarr``.

For acquisition programs that have a writer of their own: the codec makes codes of frames, one byte a pixel,
the program writes them, and `adopt` adds codec, checksums and a record. ``pip install acquire-zarr`` first.
"""

from __future__ import annotations

import sys

import acquire_zarr
import numpy as np

import anscombe_transform as at
from anscombe_transform.live import adopt


def _dimension(
    name: str, kind: acquire_zarr.DimensionType, length: int, chunk: int
) -> acquire_zarr.Dimension:
    return acquire_zarr.Dimension(
        name=name, kind=kind, array_size_px=length, chunk_size_px=chunk, shard_size_chunks=1
    )


def write_codes(destination: str, blocks, frame_shape: tuple[int, int], chunk_frames: int) -> None:
    """Stream blocks of codes ``(time, y, x)`` of one byte into a Zarr array."""
    height, width = frame_shape
    kind = acquire_zarr.DimensionType
    stream = acquire_zarr.ZarrStream(
        acquire_zarr.StreamSettings(
            store_path=destination,
            overwrite=True,
            arrays=[
                acquire_zarr.ArraySettings(
                    output_key="movie",
                    data_type=acquire_zarr.DataType.UINT8,
                    compression=acquire_zarr.CompressionSettings(
                        compressor=acquire_zarr.Compressor.BLOSC1,
                        codec=acquire_zarr.CompressionCodec.BLOSC_ZSTD,
                        level=1,
                        shuffle=0,
                    ),
                    dimensions=[
                        _dimension("time", kind.TIME, 0, chunk_frames),  # 0: without an end
                        _dimension("y", kind.SPACE, height, height),
                        _dimension("x", kind.SPACE, width, width),
                    ],
                )
            ],
        )
    )
    for block in blocks:
        stream.append(np.ascontiguousarray(block))
    stream.close()


def main(destination: str, frames: int = 256, size: int = 128):
    """Record a simulated movie, adopt the array, and compare it with the movie."""
    movie, _ = at.simulate_movie((frames, size, size), conversion_gain=90.0, zero_level=50.0, rng=0)
    sensitivity = at.compute_sensitivity(movie[:100])  # the first seconds of the recording
    # What the converter can give; a value beyond it would be an error when it is encoded.
    codec = sensitivity.codec(signal_range=(-400, 32767), decoded_dtype="int16")
    if codec.plan.encoded_dtype != np.uint8:
        raise SystemExit("these constants need two bytes a code: take DataType.UINT16")
    blocks = (codec.plan.encode(movie[start : start + 32]) for start in range(0, frames, 32))
    write_codes(destination, blocks, (size, size), chunk_frames=64)
    array = f"{destination}/movie"
    print(adopt(array, codec, sensitivity=sensitivity))
    proof = at.verify(array, movie)
    print(proof)
    return proof


if __name__ == "__main__":
    main(sys.argv[1])
