"""Errors, coverage, verdicts, speed and memory of the calibration on simulated movies.

    python tests/benchmarks/calibration.py [--seeds 10] [--first-seed 0] [--only WORD] [--jobs 1] [--speed]

One line per scenario: median and worst relative error of the gain, median error of the zero level in photons,
share of runs whose 95 % intervals hold the truth (gain, zero level), and counts of verdicts
(trustworthy / caution / refused). Unusable scenarios have no truth; there only the verdicts count.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from anscombe_transform.calibration import Sensitivity, compute_sensitivity
from anscombe_transform.simulation import simulate_movie

SHAPE = (100, 160, 160)
SCMOS = {"conversion_gain": 2.2, "zero_level": 100, "read_noise": 1.6 * 2.2, "dtype": "uint16"}
EMCCD = {"conversion_gain": 20, "zero_level": 200, "read_noise": 30, "excess_noise": 2, "dtype": "uint16"}
RESTLESS = {"activity": 0.3, "jitter": 0.5, "drift": 2, "bleaching": 0.3, "flicker": 0.02}
Make = Callable[..., tuple[np.ndarray, Any]]


def movie(shape: tuple[int, int, int] = SHAPE, **options: Any) -> Make:
    """Recipe for a simulated movie; numbers given as (low, high) are drawn per seed on a log scale."""
    return partial(_movie, shape=shape, options=options)


def _movie(seed: int, *, shape: tuple[int, int, int], options: dict[str, Any]) -> tuple[np.ndarray, Any]:
    rng = np.random.default_rng([seed, 77])
    drawn = {
        k: float(np.exp(rng.uniform(*np.log(v)))) if isinstance(v, tuple) else v for k, v in options.items()
    }
    return simulate_movie(shape, rng=rng, **drawn)


def processed(make: Make, change: Callable[[np.ndarray], np.ndarray]) -> Make:
    """Recipe for a movie that was changed after recording."""
    return partial(_processed, make=make, change=change)


def _processed(
    seed: int, *, make: Make, change: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, Any]:
    samples, truth = make(seed)
    return change(samples), truth


def _repeat_frames(m: np.ndarray) -> np.ndarray:
    index = np.arange(len(m))
    index[3::7] -= 1
    return m[index]


def _cut_negative(m: np.ndarray) -> np.ndarray:
    return np.maximum(m, 0)


def _running_mean(m: np.ndarray) -> np.ndarray:
    return ((m[1:].astype(np.float32) + m[:-1]) / 2).astype(m.dtype)


def _smoothed(m: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(m.astype(np.float32), (0, 0.8, 0.8)).astype(m.dtype)


def _denoised_in_time(m: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter1d

    return gaussian_filter1d(m.astype(np.float32), 1.0, axis=0).astype(m.dtype)


def _noise_only(m: np.ndarray) -> np.ndarray:
    return np.random.default_rng(int(m[0, 0, 0])).normal(100, 5, m.shape).round().astype(m.dtype)


def _gamma_corrected(m: np.ndarray) -> np.ndarray:
    return (np.sqrt(np.maximum(m.astype(np.float64), 0)) * 60).round().astype(m.dtype)


USABLE: dict[str, Make] = {
    "static two-photon": movie(),
    "static, 256 x 256 x 40": movie((40, 256, 256)),
    "low-light PMT": movie(conversion_gain=(30, 300), zero_level=20, read_noise=8, mean_photons=(0.1, 1)),
    "photon counts": movie(conversion_gain=1, zero_level=0, mean_photons=(0.3, 10), dtype="uint16"),
    "sCMOS": movie(**SCMOS, mean_photons=(10, 150)),
    "sCMOS low light": movie(**SCMOS, mean_photons=(1, 4)),
    "EMCCD": movie(**EMCCD, mean_photons=(1, 10)),
    "PMT excess 1.3": movie(conversion_gain=60, read_noise=10, excess_noise=1.3, mean_photons=(0.5, 5)),
    "activity 30 %": movie(activity=0.3),
    "activity everywhere": movie(activity=1.0),
    "drift 4 px": movie(drift=4),
    "jitter 0.5 px": movie(jitter=0.5),
    "jitter 2 px": movie(jitter=2.0),
    "flicker and bleaching": movie(flicker=0.05, bleaching=0.5),
    "saturated at 10 bit": movie(conversion_gain=30, adc_bits=10, dtype="uint16", mean_photons=8),
    "clipped at zero": processed(movie(conversion_gain=20, zero_level=5, read_noise=20), _cut_negative),
    "hot pixels": movie(hot_pixels=2e-3, **SCMOS, mean_photons=20),
    "duplicated frames": processed(movie(), _repeat_frames),
    "T = 2": movie((2, 512, 512)),
    "T = 3": movie((3, 512, 512)),
    "T = 5": movie((5, 512, 512)),
    "T = 10": movie((10, 160, 160)),
    "64 x 64": movie((100, 64, 64)),
    "float32": movie(dtype="float32"),
    "uint16 above 32767": movie(conversion_gain=200, zero_level=20000, mean_photons=60, dtype="uint16"),
    "few levels": movie(conversion_gain=1, zero_level=10, mean_photons=2, dtype="uint8"),
    "all of it": movie(**RESTLESS, hot_pixels=5e-4, read_noise=20),
}  # fmt: skip
UNUSABLE: dict[str, Make] = {
    "uniform scene": movie(scene="uniform"),
    "no light": movie(mean_photons=1e-6, read_noise=10),
    "noise only": processed(movie(), _noise_only),
    "running mean of 2 frames": processed(movie(), _running_mean),
    "smoothed in space": processed(movie(), _smoothed),
    "smoothed in time": processed(movie(), _denoised_in_time),
    "square root stored": processed(movie(), _gamma_corrected),
    "read noise only, structured": movie(mean_photons=0.05, conversion_gain=1, read_noise=30),
}


@dataclass(frozen=True)
class Run:
    """One calibration against its truth."""

    scenario: str
    gain_error: float
    zero_error: float
    gain_covered: bool
    zero_covered: bool
    verdict: str
    codes: tuple[str, ...]
    method: str
    seconds: float


def run(scenario: str, seed: int) -> Run:
    """Simulate and calibrate one movie."""
    samples, truth = (USABLE | UNUSABLE)[scenario](seed)
    started = time.perf_counter()
    found: Sensitivity = compute_sensitivity(samples, on_refusal="return")
    seconds = time.perf_counter() - started
    gain_low, gain_high = found.conversion_gain_interval
    zero_low, zero_high = found.zero_level_interval
    return Run(
        scenario,
        found.conversion_gain / truth.conversion_gain - 1,
        (found.zero_level - truth.zero_level) / truth.conversion_gain,
        bool(gain_low <= truth.conversion_gain <= gain_high),
        bool(zero_low <= truth.zero_level <= zero_high),
        found.verdict,
        tuple(reason.code for reason in found.reasons),
        found.method,
        seconds,
    )


def line(name: str, runs: list[Run]) -> str:
    """One line of the table."""
    gain, zero = (np.abs([getattr(r, a) for r in runs]) for a in ("gain_error", "zero_error"))
    covered = [np.mean([getattr(r, a) for r in runs]) for a in ("gain_covered", "zero_covered")]
    verdicts = Counter(r.verdict for r in runs)
    counts = "/".join(str(verdicts[v]) for v in ("trustworthy", "caution", "refused"))
    codes = Counter(code for r in runs for code in r.codes)
    methods = Counter(r.method for r in runs)
    errors = f"{100 * np.median(gain):6.2f} {100 * gain.max():7.2f}  {np.median(zero):6.3f} {zero.max():7.3f}"
    return (
        f"{name:28s} {errors}  "
        f"{covered[0]:5.2f} {covered[1]:5.2f}  {counts:8s} {np.median([r.seconds for r in runs]):5.2f}  "
        f"{' '.join(f'{m}:{k}' for m, k in methods.items())}  "
        f"{' '.join(f'{c}:{k}' for c, k in codes.items())}"
    )


def all_runs(names: list[str], seeds: range, jobs: int) -> Iterator[tuple[str, list[Run]]]:
    """Runs of every scenario, in order."""
    if jobs > 1:
        with ProcessPoolExecutor(jobs) as pool:
            futures = {name: [pool.submit(run, name, seed) for seed in seeds] for name in names}
            for name in names:
                yield name, [future.result() for future in futures[name]]
    else:
        for name in names:
            yield name, [run(name, seed) for seed in seeds]


def speed(folder: Path, megabytes: int) -> None:
    """Calibrate a file larger than the memory it may take; print time and peak memory."""
    import resource

    shape = (megabytes * 1_000_000 // (512 * 512 * 2), 512, 512)
    path = folder / f"calibration_{megabytes}MB.raw"
    block, _ = simulate_movie((64, 512, 512), rng=0, dtype="uint16")
    with path.open("wb") as file:
        for start in range(0, shape[0], 64):
            block[: shape[0] - start].tofile(file)
    compute_sensitivity(block[:32])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    for full in (False, True):
        # The best of three: other work on the machine only ever adds time.
        seconds = min(_timed(RawMovie(path, shape, np.dtype("uint16")), full=full) for _ in range(3))
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        rate = f", {megabytes / seconds:.0f} MB/s" if full else ""
        print(
            f"{megabytes} MB {'full' if full else 'default'}: {seconds:.2f} s{rate}, "
            f"peak {after:.0f} MB (before: {before:.0f} MB)"
        )
    path.unlink()


def _timed(movie: Any, **options: Any) -> float:
    started = time.perf_counter()
    compute_sensitivity(movie, on_refusal="return", **options)
    return time.perf_counter() - started


@dataclass(frozen=True)
class RawMovie:
    """Frames of a raw file by ordinary reads: pages of a mapped file would count as memory of the process."""

    path: Path
    shape: tuple[int, int, int]
    dtype: np.dtype

    def __getitem__(self, index: slice) -> np.ndarray:
        """Frames of a slice along time."""
        start, stop, _ = index.indices(self.shape[0])
        pixels = self.shape[1] * self.shape[2]
        offset = start * pixels * self.dtype.itemsize
        values = np.fromfile(self.path, self.dtype, (stop - start) * pixels, offset=offset)
        return values.reshape(stop - start, *self.shape[1:])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--only", default="")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--speed", type=int, metavar="MEGABYTES", help="time a file of this size instead")
    arguments = parser.parse_args()
    if arguments.speed:
        speed(Path.cwd(), arguments.speed)
        return
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    print(
        f"{'scenario':28s} {'gain error %':>14s}  {'zero, photons':>14s}  {'coverage':>11s}  verdicts  time"
    )
    print(f"{'':28s} {'median':>6s} {'worst':>7s}  {'median':>6s} {'worst':>7s}  {'gain':>5s} {'zero':>5s}")
    names = [name for name in USABLE | UNUSABLE if arguments.only in name]
    for name, runs in all_runs(names, seeds, arguments.jobs):
        print(line(name, runs), flush=True)


if __name__ == "__main__":
    main()
