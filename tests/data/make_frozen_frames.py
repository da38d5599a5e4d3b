"""Write ``tests/data/frozen/frames`` and ``chunks``: the frame coder's. It never overwrites.

python tests/data/make_frozen_frames.py

Stored bytes are a promise: see `make_frozen`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from anscombe_transform import FrameCoderV2, FrameCoderV3
from anscombe_transform.codec.frames import FrameConfiguration, encode_chunk
from anscombe_transform.native import reference_frames

FOLDER = Path(__file__).parent / "frozen"
CHUNKS = (8, 16, 20)


def scene(rng: np.random.Generator, frames: int, height: int, width: int, photons: float) -> np.ndarray:
    """Codes of a scene that drifts, with a flash and a dark stretch."""
    still = np.kron(rng.uniform(0.3, 2, (height // 4 + 1, width // 5 + 1)), np.ones((4, 5)))[:height, :width]
    rates = photons * np.stack([np.roll(still, t // 6, 1) for t in range(frames)])
    rates[frames // 2] *= 2
    rates[2 * frames // 3 :, height // 2 :] = 0
    return np.rint(4 * np.sqrt(rng.poisson(rates) + 0.375))


def contents() -> dict[str, tuple[np.ndarray, int | None]]:
    """Codes that need every part of the format, and their time axes."""
    rng = np.random.default_rng(2027)
    small = scene(rng, 20, 24, 37, 8).astype("uint8")
    spiked = small.copy()
    spiked[7, 3, :8] = 255
    two = np.stack([scene(rng, 12, 20, 30, 4), scene(rng, 12, 20, 30, 30)], 1).reshape(24, 20, 30)
    return {
        "small": (spiked, 0),
        "large": (scene(rng, 36, 64, 70, 5).astype("uint8"), 0),
        "still": (scene(rng, 1, 40, 45, 8).astype("uint8"), 0),
        "channels": (two.astype("uint8"), 0),
        "planes": (two.reshape(12, 2, 20, 30).astype("uint8"), 0),
        "images": (small[:4], None),
        "last_axis": (np.moveaxis(small, 0, -1).copy(), 2),
        "wide": ((scene(rng, 12, 24, 31, 8) + 1000).astype("uint16"), 0),
        "fine": (np.rint(rng.normal(3000, 30, (8, 20, 25))).astype("uint16"), 0),
        "folded": (rng.poisson(12, (60, 3, 7)).astype("uint8"), 0),
        "constant": (np.full((3, 4, 5), 7, "uint8"), 0),
        "constant_wide": (np.full((3, 4, 5), 700, "uint16"), 0),
        "uniform": (rng.integers(0, 65536, (2, 5, 6)).astype("uint16"), 0),
    }


def write_chunks() -> None:
    """One chunk of each content and preset, and one of the plain writer."""
    entries = []
    (FOLDER / "chunks").mkdir()
    for kind, (codes, axis) in contents().items():
        (FOLDER / f"chunks/{kind}.codes.raw").write_bytes(
            codes.astype(codes.dtype.newbyteorder("<")).tobytes()
        )
        chunks = {
            preset: encode_chunk(codes, FrameConfiguration(preset, axis)) for preset in ("fast", "compact")
        }
        if kind == "small":
            chunks["plain"] = reference_frames.encode_chunk(codes)
        for preset, chunk in chunks.items():
            name = f"{kind}-{preset}"
            (FOLDER / f"chunks/{name}.chunk").write_bytes(chunk)
            entry: dict[str, Any] = {"name": name, "chunk": f"chunks/{name}.chunk"}
            entry |= {"codes": f"chunks/{kind}.codes.raw", "dtype": codes.dtype.name}
            entries.append(entry | {"shape": codes.shape, "time_axis": axis})
    write_list("chunks", entries)


def write_arrays() -> None:
    """Zarr arrays of both formats, presets and types, with chunks at the edges."""
    rng = np.random.default_rng(2028)
    entries = []
    (FOLDER / "frames").mkdir()
    for dtype in ("uint8", "uint16"):
        codes = (scene(rng, 20, 24, 35, 8) + (900 if dtype == "uint16" else 0)).astype(dtype)
        (FOLDER / f"frames/{dtype}.codes.raw").write_bytes(
            codes.astype(codes.dtype.newbyteorder("<")).tobytes()
        )
        for zarr_format in (2, 3):
            for preset in ("fast", "compact"):
                name = f"v{zarr_format}-{preset}-{dtype}"
                coder: dict[str, Any] = {"serializer": FrameCoderV3(preset), "compressors": None}
                if zarr_format == 2:
                    coder = {"compressors": [FrameCoderV2(CHUNKS, dtype, preset=preset)]}
                zarr.create_array(
                    FOLDER / f"frames/{name}.zarr",
                    data=codes,
                    chunks=CHUNKS,
                    zarr_format=zarr_format,
                    **coder,
                )
                entry = {"name": name, "array": f"frames/{name}.zarr", "codes": f"frames/{dtype}.codes.raw"}
                entries.append(entry | {"dtype": dtype, "shape": codes.shape})
    write_list("frames", entries)


def write_list(kind: str, entries: list[dict[str, Any]]) -> None:
    """The list of the chunks or arrays of a kind."""
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    (FOLDER / f"{kind}.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    write_chunks()
    write_arrays()
