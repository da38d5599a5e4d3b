"""Coverage-guided fuzzing of the frame coder's decoder, with every index of its kernels checked.

    pip install anscombe-transform[test] atheris
    python tests/fuzz_frames.py [folder of inputs] [-max_total_time=SECONDS] [further options of libFuzzer]

The first bytes of an input choose method, entropy stage, parameter, dtype and shape; the rest is the content,
which gets a header and a zstd frame with a right checksum, as what lies behind the checksum is what may go
wrong. An error other than `DamagedChunkError`, a result of another shape or dtype, and an index outside of an
array, which numba then reports, end the run. The suite has a bounded loop over the same promise
(``test_damage_is_found``, ``test_false_content_is_refused``), which needs no atheris.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

# Both are read when numba is imported; kernels with checks must not come from, or go to, the usual cache.
os.environ["NUMBA_BOUNDSCHECK"] = "1"
os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(tempfile.gettempdir(), "anscombe-fuzz-kernels")))

import atheris
import numpy as np
import zstandard

with atheris.instrument_imports(include=["anscombe_transform.codec"]):
    from anscombe_transform.codec.frames import (
        DamagedChunkError,
        FrameConfiguration,
        decode_chunk,
        encode_chunk,
    )

DTYPES = (np.dtype("uint8"), np.dtype("uint16"))
SHAPES = ((), (7,), (1, 1, 1), (1, 9, 40), (3, 8, 38), (5, 2, 6, 33), (2, 1, 64), (0, 4, 4))
METHODS = (0x00, 0x01, 0x02, 0x03, 0x10, 0x11, 0x12, 0x13, 0x23, 0x24)


def configurations() -> list[tuple[FrameConfiguration, np.ndarray]]:
    """A configuration with a model for each dtype, and codes like those that it was fitted to."""
    rng = np.random.default_rng(0)
    found = []
    for dtype in DTYPES:
        level = rng.uniform(20, 60, (24, 64)) + (900 if dtype.itemsize == 2 else 0)
        codes = np.rint(rng.normal(level, 2, (30, 24, 64))).astype(dtype)
        model = FrameConfiguration.fit(codes).model
        found.append((FrameConfiguration(preset="smallest", model=model), codes))
    return found


CONFIGURATIONS = configurations()
PACKER = zstandard.ZstdCompressor(level=1, write_checksum=True, write_content_size=True)


def chunk_of(data: bytes) -> tuple[bytes, FrameConfiguration, tuple[int, ...], np.dtype]:
    """A chunk with a right header and checksum around the content that an input names."""
    choice = np.frombuffer(data[:4].ljust(4, b"\0"), np.uint8)
    which = int(choice[1]) % len(DTYPES)
    configuration, dtype = CONFIGURATIONS[which][0], DTYPES[which]
    shape = SHAPES[int(choice[2]) % len(SHAPES)]
    method = METHODS[int(choice[0]) % len(METHODS)]
    assert configuration.model is not None
    own_check = method & 0xF in (2, 4) and choice[3] < 240
    parameter = configuration.model.check if own_check else int(choice[3])
    content = data[4:]
    if method < 0x03:
        # Of these the size is known; with any other they end at the first look.
        size = int(np.prod(shape)) * dtype.itemsize
        content = content[:size].ljust(size, b"\0")
    header = bytes([0xF1, method, parameter, 0xF1 ^ method ^ parameter ^ 0xFF])
    frame = PACKER.compress(content)
    configuration = FrameConfiguration(
        preset="smallest", model=configuration.model, time_axis=0 if shape else None
    )
    return header + frame, configuration, shape, dtype


def one_input(data: bytes) -> None:
    """Decode what an input stands for: an error of the right kind, or codes."""
    chunk, configuration, shape, dtype = chunk_of(data)
    try:
        codes = decode_chunk(chunk, shape, dtype, configuration)
    except DamagedChunkError:
        return
    if codes.shape != shape or codes.dtype != dtype:
        raise AssertionError(f"decoded {codes.dtype} {codes.shape} where {dtype} {shape} was asked for")


def seeds(folder: Path) -> None:
    """Inputs that are whole chunks, for the fuzzer to begin with."""
    reader = zstandard.ZstdDecompressor()
    for which, (configuration, codes) in enumerate(CONFIGURATIONS):
        for at, shape in enumerate(SHAPES):
            part = np.resize(codes, shape)
            for preset in ("fast", "compact", "smallest"):
                model = None if preset == "fast" else configuration.model
                axis = 0 if shape else None
                chunk = encode_chunk(part, FrameConfiguration(preset=preset, model=model, time_axis=axis))
                content = reader.decompress(chunk[4:]) if len(chunk) > 4 else b""
                begin = bytes([METHODS.index(chunk[1]), which, at, chunk[2]])
                (folder / f"{preset}-{which}-{at}").write_bytes(begin + content)


if __name__ == "__main__":
    folders = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    if not folders:
        folders = [tempfile.mkdtemp(prefix="anscombe-fuzz-")]
        sys.argv.append(folders[0])
    Path(folders[0]).mkdir(parents=True, exist_ok=True)
    seeds(Path(folders[0]))
    atheris.Setup([*sys.argv, "-max_len=8192"], one_input)
    atheris.Fuzz()
