"""Write ``tests/data/frozen/frames``, ``pairs`` and others: the frame coder's. It never overwrites.

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
from anscombe_transform.codec import fitted as codec_fitted
from anscombe_transform.codec.frames import FrameConfiguration, encode_chunk

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


def kept(kind: str, name: str, chunk: bytes, codes: np.ndarray) -> dict[str, Any]:
    """Write a chunk and its codes; the beginning of its entry in the list."""
    entry = {"chunk": f"{kind}/{name}.chunk", "codes": f"{kind}/{name}.codes.raw"}
    (FOLDER / entry["chunk"]).write_bytes(chunk)
    (FOLDER / entry["codes"]).write_bytes(codes.astype(codes.dtype.newbyteorder("<")).tobytes())
    return entry


def listed(kind: str, entries: list[dict[str, Any]]) -> None:
    """Write the list of the chunks of a kind."""
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    (FOLDER / f"{kind}.json").write_text(f"[\n{lines}\n]\n")


def pairs() -> None:
    """Chunks whose values are stored in pairs, one of each method."""
    rng = np.random.default_rng(2027)
    scene = np.kron(rng.uniform(4, 14, (6, 5)), np.ones((8, 11)))[:, :-6]
    shape = (13, *scene.shape)
    movie = np.rint(2 * np.sqrt(rng.poisson(scene, shape) + 0.375)).astype("uint8")
    movie[5, 3, :8] = 255
    dark = rng.poisson(2, shape).astype("uint8")
    dark[7, 2, 3:6] = 13, 14, 255
    entries = []
    (FOLDER / "pairs").mkdir()
    for method, codes, configuration in (
        (0x10, dark, FrameConfiguration()),
        (0x11, movie, FrameConfiguration()),
        (0x12, movie, FrameConfiguration.fit(movie)),
    ):
        chunk = encode_chunk(codes, configuration)
        assert chunk[1] == method, "the coder stores this movie by another method"
        entry = kept("pairs", f"{method:x}", chunk, codes)
        entries.append(entry | {"shape": shape, "method": method, "configuration": configuration.to_json()})
    listed("pairs", entries)


def linear() -> None:
    """Chunks under a linear prediction: one frame and few, planes, both types, with and without gaps."""
    rng = np.random.default_rng(2028)
    scene = 60 * np.kron(rng.uniform(0.2, 1, (3, 5)), np.ones((8, 9)))
    scene = (scene + np.roll(scene, 2, 0) + np.roll(scene, 3, 1)) / 3
    few = np.clip(np.rint(rng.normal(scene, 2, (3, 2, *scene.shape))), 0, 255)
    wide = np.rint(rng.normal(4000 + 30 * scene, 2, (2, *scene.shape)))
    wide[0, 5, :9] = 0, 65535, 4000, 20000, 30000, 9000, 4300, 5000, 100
    entries = []
    (FOLDER / "linear").mkdir()
    for name, codes, dtype, axis in (
        ("few", few, "uint8", 0),
        ("one", few[:1, 0], "uint8", 0),
        ("planes", few[:, 0], "uint8", None),
        ("gaps", few[:2] // 2 * 2, "uint8", 0),
        ("wide", wide, "uint16", 0),
        ("wide-gaps", (4000 + few[:1]) // 3 * 3, "uint16", None),
    ):
        stored = codes.astype(dtype)
        chunk = encode_chunk(stored, FrameConfiguration(time_axis=axis))
        assert chunk[1] & 0x0F == 3, "the coder stores these codes by another method"
        entry = kept("linear", name, chunk, stored) | {"dtype": dtype}
        entries.append(
            entry | {"shape": stored.shape, "time_axis": axis, "method": chunk[1], "gaps": chunk[2] > 15}
        )
    assert [entry["gaps"] for entry in entries] == [False, False, False, True, False, True]
    listed("linear", entries)


def ranges() -> None:
    """Chunks whose symbols the arithmetic coder stores: several blocks, and both types."""
    rng = np.random.default_rng(2029)
    slope = 50 + np.add.outer(np.arange(260) / 9, np.arange(300) / 5)
    codes = np.rint(rng.normal(slope, 2.5, (1, *slope.shape))).astype("uint8")
    wide = 1000 + 3 * codes[:, :130, :200].astype("uint16")
    wide[0, 3, 5:9] = 0, 65535, 9000, 3
    entries = []
    (FOLDER / "ranges").mkdir()
    for name, stored in (("blocks", codes), ("wide", wide)):
        chunk = encode_chunk(stored, FrameConfiguration.fit(stored))
        assert chunk[1] == 0x23, "the coder stores these codes by another method"
        entry = kept("ranges", name, chunk, stored) | {"dtype": stored.dtype.name}
        entries.append(
            entry | {"shape": stored.shape, "time_axis": 0, "method": chunk[1], "gaps": chunk[2] > 15}
        )
    listed("ranges", entries)


def fitted() -> None:
    """Chunks of preset smallest: both types, planes, a scene that jitters, flashes and holds extremes."""
    rng = np.random.default_rng(2030)
    y, x = np.mgrid[:22, :45]
    moves = rng.normal(0, 0.4, (14, 2))
    level = np.array([30 + 14 * np.sin((y + a) / 3) * np.sin((x + b) / 4) for a, b in moves])
    level[9] *= 1.3
    codes = np.clip(np.rint(rng.normal(level, 2)), 0, 255)
    codes[11, 7, 5:9] = 0, 255, 90, 3
    planes = np.stack([codes[:, :, :40], codes[:, ::-1, 5:]], 1)
    wide = 700 + 2 * codes
    wide[11, 7, 5:9] = 0, 65535, 9000, 3
    entries = []
    (FOLDER / "fitted").mkdir()
    for name, stored in (
        ("moving", codes.astype("uint8")),
        ("planes", planes.astype("uint8")),
        ("wide", wide.astype("uint16")),
    ):
        configuration = FrameConfiguration.fit(stored, preset="smallest")
        assert configuration.model is not None
        # Of so few codes another method makes less.
        frames = stored.reshape(len(stored), -1, *stored.shape[-2:])
        frame = codec_fitted.encode(frames, configuration.model)
        check = configuration.model.check
        chunk = bytes((0xF1, 0x24, check, 0xF1 ^ 0x24 ^ check ^ 0xFF)) + frame
        entry = kept("fitted", name, chunk, stored) | {"dtype": stored.dtype.name}
        entries.append(entry | {"shape": stored.shape, "configuration": configuration.to_json()})
    listed("fitted", entries)


def arrays() -> None:
    """Arrays of both formats, presets and types."""
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
    listed("frames", entries)


def main() -> None:
    """Write what is not there."""
    for name, write in (
        ("frames", arrays),
        ("pairs", pairs),
        ("linear", linear),
        ("ranges", ranges),
        ("fitted", fitted),
    ):
        if (FOLDER / f"{name}.json").exists() or (FOLDER / name).exists():
            print(f"{FOLDER / name} exists: frozen data are never written again")
        else:
            write()


if __name__ == "__main__":
    main()
