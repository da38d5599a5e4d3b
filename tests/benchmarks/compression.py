"""Size and speed of the frame coder against other coders, against the entropy of the noise, and through zarr.

    python tests/benchmarks/compression.py [--only NAME,…] [--quick] [--markdown FILE] [--plot FILE]
                                           [--peer-python PYTHON]

Every coder is given the same codes, at beta = 0.5, by the same transform; speeds include the transform, count
bytes of raw movie and run on one thread. ``over`` is the distance to the mean entropy of the codes given the
true photons of a simulated movie (`anscombe_transform.transform.limit`), which no coder can beat on average.
Times are the best of several, in CPU seconds, and worth something against others of the same run only.

Peers: ``pip install anscombe-transform[bench]``; what is missing is left out and named. PYMECompress has
no wheels and builds with old tools only: in an environment of its own with Python 3.11,

    pip install numpy==1.26.4 "cython<3" "setuptools<60" wheel
    pip install --no-build-isolation pymecompress==0.3.6
    pip install anscombe-transform[bench] numpy==1.26.4

anscombe-transform 1.0.0 shares our import name, so that it runs in an environment of its own too, given by
``--peer-python``:

    python -m venv peer && peer/bin/pip install anscombe-transform==1.0.0 zarr==3.1.6

An earlier commit of this repository, in an environment of its own, is measured with ``--before PYTHON``:

    git worktree add before 2ce8cf6 && python -m venv earlier && earlier/bin/pip install ./before

Recordings are looked for in ANSCOMBE_TEST_DATA, else in ../shared/data.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numcodecs
import numcodecs.blosc
import numpy as np
import zarr
import zstandard

from anscombe_transform.calibration import Sensitivity
from anscombe_transform.codec.frames import decode_chunk, encode_chunk
from anscombe_transform.codec.pipeline import PRESETS, pipeline_for
from anscombe_transform.simulation import expected_photons, simulate_movie
from anscombe_transform.transform.limit import bright_entropy, code_entropy

ROOT = Path(__file__).resolve().parents[2]
FRAMES = 100
numcodecs.blosc.use_threads = False


# --- movies -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Movie:
    """A movie, its transform, and the fewest bits that its codes can take (NaN where nobody knows)."""

    name: str
    raw: np.ndarray
    codec: Any
    limit: float = float("nan")
    constants: tuple[float, float, float] = (1.0, 0.0, 0.0)
    earlier_limit: float = float("nan")


DETECTOR: dict[str, Any] = {"conversion_gain": 60.0, "zero_level": 100.0, "read_noise": 10.0}
SIMULATED: dict[str, dict[str, Any]] = {
    "static 1": {"mean_photons": 1.0},
    "static 8": {"mean_photons": 8.0},
    "static 60": {"mean_photons": 60.0, "conversion_gain": 30.0},
    "calcium": {"mean_photons": 8.0, "activity": 0.3},
    "motion": {"mean_photons": 8.0, "activity": 0.1, "jitter": 0.5, "drift": 3.0},
    "bleaching": {"mean_photons": 8.0, "bleaching": 0.5, "flicker": 0.02},
    "sCMOS": {
        "mean_photons": 40.0,
        "activity": 0.2,
        "conversion_gain": 2.2,
        "read_noise": 2.0,
        "dtype": "uint16",
    },
}


def simulated(name: str, shape: tuple[int, int, int], seed: int) -> Movie:
    """One of the simulated movies, with the limit from its true photons."""
    options = DETECTOR | SIMULATED[name] | {"rng": seed}
    raw, _ = simulate_movie(shape, **options)
    codec = transform(raw, **{key: options[key] for key in DETECTOR})
    curve, noise = codec.plan.configuration.curve, options["read_noise"]
    edges = codec.plan.configuration.bins.edges
    rates = list(_rates(shape, options))
    limit = np.mean([code_entropy(curve, frame, read_noise=noise, edges=edges).mean() for frame in rates])
    # Earlier commits rounded to the codes of the curve.
    earlier = np.mean([code_entropy(curve, frame, read_noise=noise).mean() for frame in rates])
    constants = (options["conversion_gain"], options["zero_level"], noise)
    return Movie(name, raw, codec, float(limit), constants, float(earlier))


def _rates(shape: tuple[int, int, int], options: dict[str, Any]) -> Iterator[np.ndarray]:
    """True photons of every frame; of one frame where all are the same."""
    changing = {"activity", "jitter", "drift", "bleaching", "flicker"} & set(options)
    frames = expected_photons(shape, **options)
    yield from frames if changing else [next(frames)]


def transform(raw: np.ndarray, *, conversion_gain: float, zero_level: float, read_noise: float = 0.0) -> Any:
    """The transform that a user with these constants gets for the movie."""
    known = Sensitivity.from_known(
        conversion_gain=conversion_gain, zero_level=zero_level, read_noise=read_noise
    )
    return known.codec(sample=raw, read_noise=read_noise)


# Folder, file, key, gain and zero level (see the folder's README); frames of the longest are cut to FRAMES.
RECORDINGS = [
    ("tp_anscombe", "data1.npz", "data", 127.0, 225.0),
    ("tp_sl2pm_pmtcal", "images_calibration.npy", None, 9.1, -2.7),
    ("tp_thunder_mouse", "movie.npz", "movie", 1.37, 0.0),
    ("ccd_andor_dv435", "frames_u16.npz", "light", 0.371, 465.0),
    ("ccd_saao", "a8280271.fits", None, 0.52, 214.0),
    ("scmos_zyla", "light_crop_u16.tif", None, 2.1, 118.0),
    ("scmos_zyla dark", "dark_crop_u16.tif", None, 2.1, 118.0),
    ("flim_ptu_pq", "counts_u8.npz", "frames", 1.0, 0.0),
    ("flim_ptu_pq gates", "counts_u8.npz", "gates", 1.0, 0.0),
    ("emccd_locan", "images.tif", None, 5.0, 427.0),
    ("cam_pims_lowlight", "stuck.tif", None, 1.0, 0.0),
]


def recorded(folder: Path) -> Iterator[Movie]:
    """The recordings that are there."""
    for name, file, key, gain, zero in RECORDINGS:
        path = folder / name.split()[0] / file
        if not path.exists():
            print(f"skipped: {path} is absent")
            continue
        raw = _read(path, key)
        codec = transform(raw, conversion_gain=gain, zero_level=zero)
        yield Movie(name, raw, codec, constants=(gain, zero, 0.0))


def _read(path: Path, key: str | None) -> np.ndarray:
    if path.suffix == ".fits":
        return _read_fits(path)
    if path.suffix == ".tif":
        import tifffile

        data = tifffile.imread(path)
    else:
        loaded = np.load(path)
        data = loaded[key] if key else loaded
    if data.dtype.kind == "f":
        data = np.rint(data).astype(np.int16)
    return np.ascontiguousarray(data if data.ndim == 3 else data[None])


def _read_fits(path: Path) -> np.ndarray:
    """The image of a FITS file of 16-bit integers, as unsigned."""
    data = path.read_bytes()
    cards: dict[str, str] = {}
    at = 0
    while "END" not in cards:
        for card in (data[at + i : at + i + 80].decode("ascii") for i in range(0, 2880, 80)):
            cards[card[:8].strip()] = card[10:].split("/")[0].strip()
        at += 2880
    width, height = int(cards["NAXIS1"]), int(cards["NAXIS2"])
    image = np.frombuffer(data, ">i2", width * height, at).astype(np.int32)
    return (image + int(float(cards.get("BZERO", 0)))).astype(np.uint16).reshape(1, height, width)


# --- coders -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Coder:
    """A lossless coder of codes (time, y, x)."""

    name: str
    encode: Callable[[np.ndarray], Any]
    decode: Callable[[Any, np.ndarray], np.ndarray]


def coders(movie: Movie, *, quick: bool) -> list[Coder]:
    """Every coder that is installed, ours first."""
    found = [ours(preset, movie, movie.raw.shape) for preset in PRESETS if preset != "portable"]
    itemsize = movie.codec.plan.encoded_dtype.itemsize
    found += [
        _numcodecs("portable", _stock(itemsize)),
        _numcodecs("blosc zstd 5 bitshuffle", numcodecs.Blosc("zstd", 5, numcodecs.Blosc.BITSHUFFLE)),
        _numcodecs("blosc lz4 bitshuffle", numcodecs.Blosc("lz4", 5, numcodecs.Blosc.BITSHUFFLE)),
        _zstd(1),
        _zstd(3),
    ]
    for module, make in [("blosc2", _blosc2), *([] if quick else SLOW)]:
        if importlib.util.find_spec(module):
            found += make()
        else:
            MISSING.add(module)
    return found


MISSING: set[str] = set()


def ours(preset: str, movie: Movie, chunks: tuple[int, ...]) -> Coder:
    """The frame coder as `codec_pipeline` sets it up."""
    pipeline = pipeline_for(movie.codec, preset=preset, chunks=chunks)  # type: ignore[arg-type]
    configuration = pipeline["serializer"].configuration
    return Coder(
        preset,
        lambda q: encode_chunk(q, configuration),
        lambda data, q: decode_chunk(data, q.shape, q.dtype, configuration),
    )


def _numcodecs(name: str, codec: Any) -> Coder:
    return Coder(
        name, codec.encode, lambda data, q: np.frombuffer(codec.decode(data), q.dtype).reshape(q.shape)
    )


def _stock(itemsize: int) -> Any:
    if itemsize == 1:
        return numcodecs.Zstd(level=1, checksum=True)
    return numcodecs.Blosc("zstd", clevel=1, shuffle=numcodecs.Blosc.SHUFFLE)


def _zstd(level: int) -> Coder:
    make, read = zstandard.ZstdCompressor(level=level), zstandard.ZstdDecompressor()
    return Coder(
        f"zstd {level}",
        lambda q: make.compress(q),
        lambda data, q: np.frombuffer(read.decompress(data), q.dtype).reshape(q.shape),
    )


def _blosc2() -> list[Coder]:
    import blosc2

    def encode(q: np.ndarray) -> bytes:
        return b"".join(
            blosc2.compress2(
                q,
                codec=blosc2.Codec.ZSTD,
                clevel=5,
                typesize=q.itemsize,
                nthreads=1,
                filters=[blosc2.Filter.BITSHUFFLE],
                filters_meta=[0],
            )
            for q in [q]
        )

    return [
        Coder(
            "blosc2 zstd 5 bitshuffle",
            encode,
            lambda data, q: np.frombuffer(blosc2.decompress2(data, nthreads=1), q.dtype).reshape(q.shape),
        )
    ]


def _pcodec() -> list[Coder]:
    import pcodec

    # Time last, and the delta that predicts from the numbers before: its best on these movies.
    config = pcodec.ChunkConfig(delta_spec=pcodec.DeltaSpec.try_conv1(8))

    def encode(q: np.ndarray) -> bytes:
        return bytes(pcodec.standalone.simple_compress(_time_last(q), config))

    def decode(data: bytes, q: np.ndarray) -> np.ndarray:
        values = pcodec.standalone.simple_decompress(data).astype(q.dtype)
        return np.ascontiguousarray(np.moveaxis(values.reshape(*q.shape[1:], q.shape[0]), -1, 0))

    return [Coder("pcodec conv1", encode, decode)]


def _time_last(q: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(q, 0, -1)).astype(np.uint16).reshape(-1)


def _imagecodecs() -> list[Coder]:
    import imagecodecs

    def frames(encode: Callable[..., bytes], **options: Any) -> Callable[[np.ndarray], list[bytes]]:
        return lambda q: [encode(frame, **options) for frame in q]

    return [
        Coder(
            "JPEG-LS",
            frames(imagecodecs.jpegls_encode),
            lambda data, q: np.stack([imagecodecs.jpegls_decode(frame) for frame in data]),
        ),
        Coder(
            "JPEG XL effort 3",
            frames(imagecodecs.jpegxl_encode, lossless=True, effort=3, numthreads=1),
            lambda data, q: np.stack([imagecodecs.jpegxl_decode(frame, numthreads=1) for frame in data]),
        ),
    ]


def _pymecompress() -> list[Coder]:
    from pymecompress.codecs import Huffman

    codec = Huffman()
    return [
        Coder(
            "PYMECompress",
            lambda q: codec.encode(q.view(np.uint8).reshape(-1)),
            lambda data, q: np.asarray(codec.decode(data)).view(q.dtype).reshape(q.shape),
        )
    ]


SLOW = [("pcodec", _pcodec), ("imagecodecs", _imagecodecs), ("pymecompress", _pymecompress)]


# --- measuring ----------------------------------------------------------------------------------------------


@dataclass
class Row:
    """What one coder made of one movie."""

    movie: str
    coder: str
    bits: float
    over: float
    factor: float
    encode: float
    decode: float
    encode_wall: float
    decode_wall: float
    memcpy: float


def best(call: Callable[[], object], budget: float = 0.3) -> tuple[float, float]:
    """Least CPU and wall seconds of several runs, after one to warm up."""
    call()
    cpu = wall = float("inf")
    end = time.perf_counter() + budget
    for run in range(50):
        if run and time.perf_counter() > end:
            break
        cpu_start, start = time.process_time(), time.perf_counter()
        call()
        cpu = min(cpu, time.process_time() - cpu_start)
        wall = min(wall, time.perf_counter() - start)
    return cpu, wall


def size_of(data: Any) -> int:
    """Bytes that a coder gave: one buffer, or one for every frame."""
    return sum(len(part) for part in data) if isinstance(data, list) else len(data)


EARLIER = """
import json, sys, time
import numpy as np
from anscombe_transform.calibration import Sensitivity
from anscombe_transform.codec.frames import decode_chunk, encode_chunk
from anscombe_transform.presets import pipeline_for

raw = np.load(sys.argv[1])
gain, zero, noise = map(float, sys.argv[2:5])
known = Sensitivity.from_known(conversion_gain=gain, zero_level=zero, read_noise=noise)
codec = known.codec(sample=raw, read_noise=noise)
codes = codec._encode(raw)


def fastest(call):
    call()
    times = []
    for _ in range(8):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


found = {}
for preset in ("fast", "compact", "smallest"):
    coder = pipeline_for(codec, preset=preset, sample=raw)["serializer"].configuration
    data = encode_chunk(codes, coder)
    found[preset] = (
        len(data),
        fastest(lambda: encode_chunk(codec._encode(raw), coder)),
        fastest(lambda: codec._decode(decode_chunk(data, codes.shape, codes.dtype, coder))),
    )
print(json.dumps(found))
"""


def measure_earlier(movie: Movie, python: Path) -> list[Row]:
    """The presets of an earlier commit on one movie, by its own transform."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "raw.npy", movie.raw)
        command = [str(python), "-c", EARLIER, f"{folder}/raw.npy", *map(str, movie.constants)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = []
    raw = movie.raw
    for preset, (size, encode, decode) in json.loads(done.stdout.splitlines()[-1]).items():
        bits = 8 * size / raw.size
        over = 100 * (bits / movie.earlier_limit - 1)
        speeds = (raw.nbytes / encode / 1e9, raw.nbytes / decode / 1e9)
        nothing = float("nan")
        row = Row(
            movie.name,
            f"before: {preset}",
            bits,
            over,
            8 * raw.itemsize / bits,
            *speeds,
            nothing,
            nothing,
            nothing,
        )
        rows.append(row)
        print(
            f"{row.movie:18}{row.coder:26}{bits:8.3f}{over:8.1f}{row.factor:8.2f}",
            f"{speeds[0]:8.2f}{speeds[1]:8.2f}",
        )
    return rows


def measure(movie: Movie, *, quick: bool, before: Path | None = None) -> list[Row]:
    """All coders on one movie, in one chunk of at most FRAMES frames, one after the other."""
    raw = movie.raw[:FRAMES]
    movie = replace(movie, raw=raw)
    codec = movie.codec
    target = np.empty_like(raw)
    memcpy = best(lambda: np.copyto(target, raw))[0]
    rows = []
    for coder in coders(movie, quick=quick):
        codes = codec._encode(raw)
        data = coder.encode(codes)
        assert np.array_equal(coder.decode(data, codes), codes), f"{coder.name} is not lossless"
        encode = best(lambda coder=coder: coder.encode(codec._encode(raw)))  # type: ignore[misc]
        decode = best(
            lambda coder=coder, data=data, codes=codes: codec._decode(coder.decode(data, codes))  # type: ignore[misc]
        )
        bits = 8 * size_of(data) / raw.size
        row = Row(
            movie.name,
            coder.name,
            bits,
            100 * (bits / movie.limit - 1),
            8 * raw.itemsize / bits,
            *(raw.nbytes / t / 1e9 for t in (encode[0], decode[0], encode[1], decode[1])),
            memcpy=raw.nbytes / memcpy / 1e9,
        )
        rows.append(row)
        over = "" if np.isnan(row.over) else f"{row.over:7.1f}"
        print(
            f"{movie.name:18}{coder.name:26}{bits:8.3f}{over:>8}{row.factor:8.2f}",
            f"{row.encode:8.2f}{row.decode:8.2f}{row.encode_wall:9.2f}{row.decode_wall:8.2f}",
            f"{row.encode / row.memcpy:8.2f}{row.decode / row.memcpy:7.2f}",
        )
    return rows + (measure_earlier(movie, before) if before else [])


# --- small chunks -------------------------------------------------------------------------------------------


def small_chunks(movie: Movie) -> list[dict[str, Any]]:
    """Chunks of one frame of 64 × 64 pixels: size, and microseconds of the transform and coder each."""
    _, height, width = movie.raw.shape
    tiles = [
        np.ascontiguousarray(movie.raw[t : t + 1, y : y + 64, x : x + 64])
        for t in range(0, len(movie.raw), 10)
        for y in range(0, height - 63, 64)
        for x in range(0, width - 63, 64)
    ]
    found = []
    for preset in PRESETS:
        if preset == "portable":
            coder = _numcodecs("portable", _stock(movie.codec.plan.encoded_dtype.itemsize))
        else:
            coder = ours(preset, movie, (1, 64, 64))
        codes = [movie.codec._encode(tile) for tile in tiles]
        data = [coder.encode(q) for q in codes]
        encode = best(lambda coder=coder: [coder.encode(movie.codec._encode(tile)) for tile in tiles])  # type: ignore[misc]
        decode = best(
            lambda coder=coder, data=data, codes=codes: [  # type: ignore[misc]
                movie.codec._decode(coder.decode(d, q)) for d, q in zip(data, codes, strict=True)
            ]
        )
        row = {
            "movie": movie.name,
            "coder": preset,
            "factor": sum(tile.nbytes for tile in tiles) / sum(size_of(d) for d in data),
            "encode_us": 1e6 * encode[0] / len(tiles),
            "decode_us": 1e6 * decode[0] / len(tiles),
        }
        found.append(row)
        print(
            f"{movie.name:18}{preset:12}{row['factor']:8.2f}{row['encode_us']:10.0f}{row['decode_us']:10.0f}"
        )
    return found


# --- zarr ---------------------------------------------------------------------------------------------------

THROUGH_ZARR = """
import json, sys, time
import numpy as np, zarr

def write(movie, options):
    array = zarr.create_array({}, shape=movie.shape, dtype=movie.dtype, chunks=(100, 256, 256), **options)
    array[:] = movie
    return array

def rates(movie, options, repeats=7):
    writing, reading = [], []
    for _ in range(repeats + 1):
        start = time.perf_counter(); array = write(movie, options); middle = time.perf_counter()
        array[:]; reading.append(time.perf_counter() - middle); writing.append(middle - start)
    stored = array.nbytes_stored()
    return {"factor": movie.nbytes / stored,
            "write": movie.nbytes / min(writing[1:]) / 1e9, "read": movie.nbytes / min(reading[1:]) / 1e9}
"""

PEER = """
from anscombe_transform import AnscombeTransformV3
movie = np.load(sys.argv[1])
options = {"filters": [AnscombeTransformV3(zero_level=100, conversion_gain=60.0)],
           "compressors": [zarr.codecs.BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle", typesize=1)]}
print(json.dumps(rates(movie, options, 2)))
"""


def through_zarr(peer: Path | None, *, quick: bool) -> list[dict[str, Any]]:
    """Speed of writing and reading a movie in chunks of (100, 256, 256) in memory, by wall time."""
    space: dict[str, Any] = {}
    exec(THROUGH_ZARR, space)
    rates = space["rates"]
    # Values at or above the zero level, which the older package needs.
    rng = np.random.default_rng(0)
    side = 512
    scene = simulated_scene(side)
    movie = np.empty((100 if quick else 200, side, side), np.int16)
    for frame in movie:
        frame[:] = 100 + 60 * rng.poisson(scene)
    codec = transform(movie, conversion_gain=60.0, zero_level=100.0)
    target = np.empty_like(movie)
    memcpy = movie.nbytes / best(lambda: np.copyto(target, movie))[1] / 1e9
    size = f"{movie.nbytes / 1e6:.0f} MB, {os.cpu_count()} cores"
    print(f"{size}; memcpy {memcpy:.1f} GB/s, zarr {zarr.__version__}")
    rows = [{"coder": "no codec", **rates(movie, {"compressors": None})}]
    for preset in PRESETS:
        options = pipeline_for(codec, preset=preset)  # type: ignore[arg-type]
        rows.append({"coder": preset, **rates(movie, options)})
    # As the how-to page on Zarr arrays advises.
    options = pipeline_for(codec, preset="fast")
    with zarr.config.set({"async.concurrency": (os.cpu_count() or 1) + 2}):
        advised = rates(movie, options | {"config": {"write_empty_chunks": True}})
    rows.append({"coder": "fast, few chunks at once", **advised})
    if peer is None:
        print("skipped: anscombe-transform 1.0.0 needs an environment of its own (--peer-python; see --help)")
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "movie.npy"
            np.save(path, movie)
            done = subprocess.check_output([peer, "-c", THROUGH_ZARR + PEER, path], cwd=folder)
        rows.append({"coder": "anscombe-transform 1.0.0", **json.loads(done)})
    last = rows[-1] if peer else None
    for row in rows:
        times = f"{row['write'] / last['write']:8.1f}{row['read'] / last['read']:8.1f}" if last else ""
        print(f"{row['coder']:26}{row['factor']:8.2f}{row['write']:9.2f}{row['read']:9.2f}{times}")
    return rows


def simulated_scene(side: int) -> np.ndarray:
    """Photons of a scene, mean 8."""
    return next(expected_photons((1, side, side), mean_photons=8.0, rng=0))


# --- output -------------------------------------------------------------------------------------------------


@dataclass
class Report:
    """All that was measured."""

    rows: list[Row] = field(default_factory=list)
    small: list[dict[str, Any]] = field(default_factory=list)
    zarr: list[dict[str, Any]] = field(default_factory=list)

    def names(self, attribute: str, keep: Callable[[Row], bool]) -> list[str]:
        return list(dict.fromkeys(getattr(row, attribute) for row in self.rows if keep(row)))

    def cell(self, movie: str, coder: str, text: Callable[[Row], str]) -> str:
        return next((text(row) for row in self.rows if (row.movie, row.coder) == (movie, coder)), "–")

    def grid(self, movies: list[str], head: str, text: Callable[[Row], str]) -> list[str]:
        coders = self.names("coder", lambda row: row.movie in movies)
        lines = [f"| {head} | " + " | ".join(movies) + " |", "|---|" + "---:|" * len(movies)]
        lines += [
            f"| {coder} | " + " | ".join(self.cell(movie, coder, text) for movie in movies) + " |"
            for coder in coders
        ]
        return [*lines, ""]


def markdown(report: Report) -> str:
    """The tables of the documentation."""
    known = report.names("movie", lambda row: not np.isnan(row.over))
    real = report.names("movie", lambda row: bool(np.isnan(row.over)))
    lines: list[str] = []
    if known:
        # Earlier commits have a limit of their own, and come last.
        limits = {
            row.movie: row.bits / (1 + row.over / 100) for row in reversed(report.rows) if row.movie in known
        }
        lines += ["**Bits per pixel**, and how far above the limit, in simulated movies:", ""]
        table = report.grid(known, "", lambda row: f"{row.bits:.3f} (+{row.over:.1f} %)")
        table.insert(2, "| *limit* | " + " | ".join(f"*{limits[movie]:.3f}*" for movie in known) + " |")
        lines += table
        lines += [
            "**Speed** (transform included, one thread, CPU time), GB/s of raw movie encoded / decoded:",
            "",
        ]
        shown = [movie for movie in ("static 8", "calcium", "sCMOS") if movie in known] or known[:1]
        lines += report.grid(shown, "", lambda row: f"{row.encode:.2f} / {row.decode:.2f}")
        memcpy = np.nanmedian([row.memcpy for row in report.rows])
        lines += [f"memcpy of the raw movie ran at {memcpy:.1f} GB/s in the same run.", ""]
    if real:
        lines += ["**How many times smaller** recordings become:", ""]
        lines += report.grid(real, "", lambda row: f"{row.factor:.2f}")
    if report.small:
        lines += ["**Chunks of one frame of 64 × 64 pixels**:", "", "| | | factor | µs encode | µs decode |"]
        lines += ["|---|---|---:|---:|---:|"]
        lines += [
            f"| {row['movie']} | {row['coder']} | {row['factor']:.2f} "
            f"| {row['encode_us']:.0f} | {row['decode_us']:.0f} |"
            for row in report.small
        ]
        lines += [""]
    if report.zarr:
        lines += [
            f"**Through zarr** {zarr.__version__}, in memory, chunks (100, 256, 256), {os.cpu_count()} cores:"
        ]
        lines += ["", "| | factor | write, GB/s | read, GB/s |", "|---|---:|---:|---:|"]
        lines += [
            f"| {row['coder']} | {row['factor']:.2f} | {row['write']:.2f} | {row['read']:.2f} |"
            for row in report.zarr
        ]
        lines += [""]
    return "\n".join(lines)


BESIDE = ("zstd 1", "blosc2 zstd 5 bitshuffle")


def plot(report: Report, path: Path, name: str = "static 8") -> None:
    """Size against speed, with the limit drawn in."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    # Presets of an earlier commit stand in the tables.
    rows = [row for row in report.rows if row.movie == name and not row.coder.startswith("before: ")]
    limit = rows[0].bits / (1 + rows[0].over / 100)
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True, layout="constrained")
    for ax, way in zip(axes, ("encode", "decode"), strict=True):
        for row in rows:
            mine = row.coder in PRESETS
            x = getattr(row, way)
            ax.plot(x, row.bits, "o", color="C3" if mine else "0.45", ms=7 if mine else 5)
            if row.coder in BESIDE:
                # The same bytes as another, or all but.
                continue
            # Two that are as large as others at their speed have their names beside them.
            side = {"PYMECompress": "right", "JPEG-LS": "left"}.get(row.coder, "center")
            ax.annotate(
                row.coder,
                (x, row.bits),
                {"right": (-6, -3), "left": (6, -3), "center": (0, 6)}[side],
                textcoords="offset points",
                ha=side,
                fontsize=8,
                color="C3" if mine else "0.25",
            )
        ax.axhline(limit, color="C0", lw=1.2)
        ax.annotate(
            "entropy of the noise",
            (0.02, limit),
            (0, -4),
            xycoords=ax.get_yaxis_transform(),
            textcoords="offset points",
            va="top",
            color="C0",
        )
        ax.set_xscale("log")
        ax.margins(x=0.2)
        ax.set_xlabel(f"{way} speed, GB/s of raw movie (one thread)")
    axes[0].set_ylabel("bits per pixel")
    axes[0].set_ylim(limit - 0.2, max(row.bits for row in rows) + 0.15)
    figure.suptitle(f"Lossless coders on the same codes: {name} photons per pixel, 100 × 256 × 256")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", default="", help="movies, 'recordings', 'small', 'zarr': comma-separated")
    parser.add_argument("--quick", action="store_true", help="without the slow peers, on smaller movies")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--peer-python", type=Path, help="a Python that has anscombe-transform 1.0.0")
    parser.add_argument("--before", type=Path, help="a Python that has an earlier commit of this package")
    options = parser.parse_args()
    only = [name for name in options.only.split(",") if name]

    def wanted(name: str) -> bool:
        return not only or name in only

    report = Report()
    shape = (60, 128, 128) if options.quick else (FRAMES, 256, 256)
    print(f"noise of a bright pixel: {bright_entropy(0.5):.3f} bits; over: % above the entropy of the noise")
    print(
        f"{'':44}{'bits/px':>8}{'over %':>8}{'factor':>8}{'encode':>9}{'decode':>8}{'(wall)':>9}{'(wall)':>8}"
        f"{'of memcpy':>13}"
    )
    for name in SIMULATED:
        if wanted(name):
            report.rows += measure(
                simulated(name, shape, options.seed), quick=options.quick, before=options.before
            )
    folder = Path(os.environ.get("ANSCOMBE_TEST_DATA", ROOT.parent / "shared" / "data"))
    if wanted("recordings") or set(only) & {name for name, *_ in RECORDINGS}:
        if folder.is_dir():
            for movie in recorded(folder):
                if wanted(movie.name) or "recordings" in only:
                    report.rows += measure(movie, quick=options.quick, before=options.before)
        else:
            print(f"skipped: no recordings at {folder} (set ANSCOMBE_TEST_DATA)")
    if wanted("small"):
        print(f"\nchunks of 1 × 64 × 64{'':9}{'factor':>8}{'us encode':>10}{'us decode':>10}")
        for name in ("static 8", "static 60"):
            report.small += small_chunks(simulated(name, (40, 256, 256), options.seed))
    if wanted("zarr"):
        print(f"\nthrough zarr{'':14}{'factor':>8}{'write':>9}{'read':>9}{'times 1.0.0':>16}")
        report.zarr = through_zarr(options.peer_python, quick=options.quick)
    if MISSING:
        print(f"skipped: not installed: {', '.join(sorted(MISSING))}")
    if options.markdown:
        options.markdown.write_text(markdown(report), encoding="utf-8")
    if options.plot:
        plot(report, options.plot)


if __name__ == "__main__":
    sys.exit(main())
