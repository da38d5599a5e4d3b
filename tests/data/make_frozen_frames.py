"""Write ``tests/data/frozen/frames``: arrays of the frame coder. Run once; it refuses to overwrite.

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

FOLDER = Path(__file__).parent / "frozen"
CHUNKS = (8, 16, 20)


def movie(rng: np.random.Generator, dtype: str) -> np.ndarray:
    """Codes of a scene with a flash, a dark stretch, empty frames and extreme values."""
    scene = np.kron(rng.uniform(4, 14, (4, 5)), np.ones((6, 7)))
    brightness = np.where(np.arange(20) == 11, 2.0, 1.0)
    codes = np.rint(4 * np.sqrt(rng.poisson(scene * brightness[:, None, None]) + 0.375))
    codes[8:, 16:] = 0
    codes[13, 3, :8] = np.iinfo(dtype).max
    offset = 1000 if dtype == "uint16" else 0
    return np.where(codes > 0, np.minimum(codes + offset, np.iinfo(dtype).max), 0).astype(dtype)


def main() -> None:
    """Write every array, unless they are there."""
    if (FOLDER / "frames.json").exists() or (FOLDER / "frames").exists():
        raise SystemExit(f"{FOLDER / 'frames'} exists: frozen data are never written again")
    rng = np.random.default_rng(2026)
    entries: list[dict[str, Any]] = []
    for dtype in ("uint8", "uint16"):
        codes = movie(rng, dtype)
        for zarr_format in (3, 2):
            for preset in ("fast", "compact"):
                name = f"v{zarr_format}-{preset}-{dtype}"
                coder: dict[str, Any] = {}
                if zarr_format == 3:
                    coder["serializer"] = FrameCoderV3() if preset == "fast" else FrameCoderV3.fit(codes[:8])
                    coder["compressors"] = None
                elif preset == "fast":
                    coder["compressors"] = [FrameCoderV2(CHUNKS, dtype)]
                else:
                    coder["compressors"] = [FrameCoderV2.fit(codes[:8], CHUNKS)]
                array = zarr.create_array(
                    str(FOLDER / "frames" / f"{name}.zarr"),
                    shape=codes.shape,
                    chunks=CHUNKS,
                    dtype=dtype,
                    zarr_format=zarr_format,
                    fill_value=0,
                    **coder,
                )
                array[:] = codes
                entries.append({"name": name, "zarr_format": zarr_format, "preset": preset})
        path = FOLDER / "frames" / f"{dtype}.codes.raw"
        path.write_bytes(codes.astype(codes.dtype.newbyteorder("<")).tobytes())
        for entry in entries[-4:]:
            entry |= {"array": f"frames/{entry['name']}.zarr"}
            entry["codes"] = {"file": f"frames/{dtype}.codes.raw", "dtype": dtype, "shape": list(codes.shape)}
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    (FOLDER / "frames.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
