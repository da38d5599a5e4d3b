"""The frame coder's C at every level of instructions, and under the sanitizers of the compiler."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "src" / "libanscombe"
HARNESS = ROOT / "tests" / "fuzz" / "decode_chunk.c"
FROZEN = ROOT / "tests" / "data" / "frozen"
# AVX-512, AVX2, and the compiler's own target with the plain coder; all of them on any x86-64 that has them.
LEVELS = (4, 3, 1)
CHECKS = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-DSTANDALONE", str(HARNESS))


def build(level: int, output: Path, *options: str) -> Path:
    """Compile the frame coder for a level and those below; skip where that cannot be done."""
    compiler = shutil.which(os.environ.get("CC", "gcc"))
    if compiler is None:
        pytest.skip("no C compiler is installed")
    sources = [str(path) for path in sorted(CORE.glob("*.c")) if path.stem in FRAME_CODER]
    command = [compiler, "-std=c11", f"-I{CORE}", "-DANSCOMBE_DISPATCH", f"-DANSCOMBE_MOST_LEVEL={level}"]
    built = subprocess.run(
        [*command, *options, *sources, "-lm", "-o", str(output)], capture_output=True, text=True
    )
    if built.returncode and "sanitize" in built.stderr:
        pytest.skip("the compiler has no sanitizers")
    assert built.returncode == 0, built.stderr
    return output


FRAME_CODER = {path.stem for path in CORE.glob("*.c")} - {"transform", "noise_sums", "hdf5_filter"}


@pytest.fixture(scope="module")
def digests() -> dict[int, str]:
    """What the harness printed last at each level."""
    return {}


@pytest.mark.parametrize("level", LEVELS)
def test_damaged_chunks_leave_memory_alone(level: int, digests: dict[int, str], tmp_path: Path) -> None:
    """Sound and damaged chunks are coded inside of the given memory, with one result at all levels."""
    program = build(level, tmp_path / "decode_chunk", *CHECKS)
    done = subprocess.run([str(program), "40"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    digests[level] = done.stdout.split()[-1]
    assert len(set(digests.values())) == 1


class Shape(ctypes.Structure):
    """``anscombe_frames_shape``."""

    _fields_ = [
        ("frames", ctypes.c_uint64),
        ("height", ctypes.c_uint64),
        ("width", ctypes.c_uint64),
        ("itemsize", ctypes.c_int),
    ]


class Core:
    """The frame coder of one level, optimised as in a release."""

    def __init__(self, level: int, path: Path) -> None:
        library = ctypes.CDLL(str(build(level, path, "-O3", "-shared", "-fPIC", "-ffp-contract=off")))
        for name in ("bound", "encode_scratch", "encode", "decode_scratch", "decode"):
            function = getattr(library, f"anscombe_frames_{name}")
            function.restype = ctypes.c_int64
            setattr(self, name, function)
        self.crc32 = library.anscombe_crc32
        self.crc32.restype = ctypes.c_uint32

    def encode_chunk(self: Any, codes: np.ndarray, effort: int, planes: int = 1) -> bytes:
        shape = ctypes.byref(Shape(*codes.shape, codes.itemsize))
        chunk = np.empty(self.bound(shape), np.uint8)
        scratch = np.empty(self.encode_scratch(shape, planes), np.uint8)
        room, needed = ctypes.c_size_t(chunk.size), ctypes.c_size_t(scratch.size)
        size = self.encode(
            pointer(codes), shape, planes, effort, pointer(chunk), room, pointer(scratch), needed
        )
        assert size > 0
        return chunk[:size].tobytes()

    def decode_chunk(self: Any, data: bytes, like: np.ndarray) -> np.ndarray:
        shape = ctypes.byref(Shape(*like.shape, like.itemsize))
        needed = self.decode_scratch(data, ctypes.c_size_t(len(data)), shape)
        assert needed >= 0
        scratch, codes = np.empty(needed, np.uint8), np.empty_like(like)
        status = self.decode(
            data,
            ctypes.c_size_t(len(data)),
            shape,
            pointer(codes),
            pointer(scratch),
            ctypes.c_size_t(scratch.size),
        )
        assert status == 0
        return codes


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    """Where an array begins."""
    return ctypes.c_void_p(array.ctypes.data)


@pytest.fixture(scope="module")
def cores(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Core]:
    """The frame coder at every level that this processor has."""
    folder = tmp_path_factory.mktemp("levels")
    return {level: Core(level, folder / f"level{level}.so") for level in LEVELS}


def movies(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Movies that lead through every loop of the coder, with rows that fill no vector."""
    y, x = np.mgrid[:48, :193]
    scene = 30 + 25 * np.sin(x / 9) * np.cos(y / 7)
    moving = np.stack([np.roll(scene, t // 2, 1) for t in range(12)])
    active = scene + 12 * rng.random((12, 1, 1)) * np.exp(-((x - 80) ** 2 + (y - 20) ** 2) / 200)
    flicker = np.concatenate([scene[None], scene[None, ::-1]] * 8)
    return {
        "static": np.broadcast_to(scene, (30, *scene.shape)),
        "moving": moving,
        "active": active,
        "interleaved": flicker,
        "still": scene[None],
        "tiny": scene[None, :8, :8].repeat(40, 0),
        "wide": np.tile(scene, (1, 50))[None, :6].repeat(3, 0),
        "coarse": np.broadcast_to(40 * scene, (6, *scene.shape)),
    }


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("effort", [0, 1])
def test_all_levels_give_the_same_bytes_and_codes(
    effort: int, dtype: str, cores: dict[int, Core], rng: np.random.Generator
) -> None:
    """A chunk has the same bytes whichever instructions wrote it, and the same codes whichever read it."""
    for name, rates in movies(rng).items():
        for noise in (2.0, 0.4):
            top = np.iinfo(dtype).max
            codes = np.clip(np.rint(rng.normal(rates, noise)), 0, top).astype(dtype)
            chunks = {level: core.encode_chunk(codes, effort) for level, core in cores.items()}
            assert len(set(chunks.values())) == 1, name
            for level, core in cores.items():
                assert np.array_equal(core.decode_chunk(chunks[level], codes), codes), (name, level)


@pytest.mark.parametrize("size", [0, 1, 63, 64, 1000, 2047, 2048, 2055, 5003])
def test_all_levels_give_the_checksum_of_zlib(
    size: int, cores: dict[int, Core], rng: np.random.Generator
) -> None:
    """CRC-32 of short and long bytes, at any place in memory, continues one of earlier bytes."""
    data = rng.integers(0, 256, size + 1, np.uint8)[1:].copy()
    expected = zlib.crc32(data, zlib.crc32(b"before"))
    for level, core in cores.items():
        start = ctypes.c_uint32(zlib.crc32(b"before"))
        assert core.crc32(start, pointer(data), ctypes.c_size_t(size)) == expected, level


def test_all_levels_read_the_frozen_chunks(cores: dict[int, Core]) -> None:
    """The frozen chunks decode to their codes at every level."""
    for entry in json.loads((FROZEN / "chunks.json").read_text()):
        codes = np.fromfile(FROZEN / entry["codes"], np.dtype(entry["dtype"]).newbyteorder("<"))
        codes = codes.astype(entry["dtype"]).reshape(entry["shape"])
        if entry["time_axis"] or not codes.size:
            codes = np.ascontiguousarray(np.moveaxis(codes, entry["time_axis"] or 0, 0))
        frames = codes.reshape(-1, *((1, 1, *codes.shape)[-2:]))
        if not frames.size:
            continue
        for level, core in cores.items():
            data = (FROZEN / entry["chunk"]).read_bytes()
            assert np.array_equal(core.decode_chunk(data, frames), frames), (entry["name"], level)


def test_the_hdf5_filter_leaves_memory_alone(tmp_path: Path) -> None:
    """Changed parameters and chunks are refused or read, and no memory but the filter's is touched."""
    compiler = shutil.which(os.environ.get("CC", "gcc"))
    if compiler is None:
        pytest.skip("no C compiler is installed")
    sources = [str(path) for path in sorted(CORE.glob("*.c")) if path.stem != "hdf5_filter"]
    options = ["-std=c11", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", f"-I{CORE}"]
    harness = str(ROOT / "tests" / "fuzz" / "filter_hdf5.c")
    built = subprocess.run(
        [compiler, *options, harness, *sources, "-lm", "-o", str(tmp_path / "filter")],
        capture_output=True,
        text=True,
    )
    if built.returncode and "sanitize" in built.stderr:
        pytest.skip("the compiler has no sanitizers")
    assert built.returncode == 0, built.stderr
    done = subprocess.run([str(tmp_path / "filter"), "2"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
