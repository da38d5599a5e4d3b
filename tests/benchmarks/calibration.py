"""Errors, coverage, verdicts, speed and memory of the calibration on simulated movies.

    python tests/benchmarks/calibration.py [--seeds 10] [--first-seed 0] [--only WORD] [--jobs 1] [--speed MB]
                                           [--kind ordinary] [--statistics FOLDER] [--intervals FILE]

One line per scenario of `calibration_scenarios.py`: median and worst relative error of the gain, median and
worst error of the zero level in photons, share of runs whose 95 % intervals hold the truth (gain, zero
level), spread of the errors in units of what the interval makes their standard deviation (1 where intervals
are right, less where they are too wide; it tells more than the share of few runs), counts of verdicts
(trustworthy / caution / refused), and of filters and reasons. Unusable scenarios have no truth; there only
the verdicts count. Totals follow: shares within the bars, of false and of missed refusals.

With `--statistics`, what is read of each movie is kept in a folder, and read from there the next time: a
change of the estimate is then measured without simulating the movies again, and a run that was stopped goes
on. Use another folder after a change of `NoiseStatistics` or of the scenarios. `--intervals` writes the table
of how errors compare with intervals that the documentation shows.
"""

from __future__ import annotations

import argparse
import math
import pickle
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from calibration_scenarios import SCENARIOS, USABLE

from anscombe_transform.calibration import (
    NoiseStatistics,
    Sensitivity,
    compute_sensitivity,
    estimate_sensitivity,
)
from anscombe_transform.calibration.small.estimate import is_small
from anscombe_transform.calibration.sums.frames import with_steps
from anscombe_transform.calibration.sums.reading import Cut, collect, inspect
from anscombe_transform.movies import open_movie
from anscombe_transform.simulation import Truth, simulate_movie

# Quantile of a normal law that an interval of 95 % reaches to.
NORMAL_QUANTILE = 1.96


@dataclass(frozen=True)
class Run:
    """One calibration against its truth."""

    scenario: str
    gain_error: float
    zero_error: float
    gain_covered: bool
    zero_covered: bool
    # Errors over the standard deviation that half the interval, on the side of the truth, stands for.
    gain_score: float
    zero_score: float
    zero_in_units: bool
    verdict: str
    codes: tuple[str, ...]
    method: str
    seconds: float


def run(scenario: str, seed: int, statistics: Path | None = None) -> Run:
    """Simulate and calibrate one movie."""
    # Fields of few pixels have sums of another kind, and reasons of frames are not among the sums.
    unkept = SCENARIOS[scenario].kind == "unusable" or is_small(SCENARIOS[scenario].shape)
    if statistics is None or unkept:
        samples, truth = SCENARIOS[scenario].make(seed)
        started = time.perf_counter()
        found: Sensitivity = compute_sensitivity(samples, on_refusal="return")
    else:
        truth, cut, collected = kept_statistics(scenario, seed, statistics)
        started = time.perf_counter()
        # As `compute_sensitivity` does with them.
        found = with_steps(estimate_sensitivity(collected), cut.step, cut.lowest)
    seconds = time.perf_counter() - started
    gain_low, gain_high = found.conversion_gain_interval
    zero_low, zero_high = found.zero_level_interval
    return Run(
        scenario,
        found.conversion_gain / truth.conversion_gain - 1,
        (found.zero_level - truth.zero_level) / truth.signal_per_photon,
        bool(gain_low <= truth.conversion_gain <= gain_high),
        bool(zero_low <= truth.zero_level <= zero_high),
        score(found.conversion_gain, found.conversion_gain_interval, truth.conversion_gain),
        score(found.zero_level, found.zero_level_interval, truth.zero_level),
        abs(found.zero_level - truth.zero_level) <= SCENARIOS[scenario].zero_units,
        found.verdict,
        tuple(reason.code for reason in found.reasons),
        found.method,
        seconds,
    )


def score(value: float, interval: tuple[float, float], truth: float) -> float:
    """Error in standard deviations, as the interval's side where the truth lies has them."""
    half = value - interval[0] if truth < value else interval[1] - value
    return NORMAL_QUANTILE * (value - truth) / half if half > 0 else math.copysign(math.inf, value - truth)


def kept_statistics(scenario: str, seed: int, folder: Path) -> tuple[Truth, Cut, NoiseStatistics]:
    """Truth of a movie and what is read of it, from the folder if it is there."""
    path = folder / f"{scenario.replace('/', '_')}@{seed}.pickle"
    if not path.exists():
        frames, truth = SCENARIOS[scenario].make(seed)
        movie = open_movie(frames)
        cut = inspect(movie)
        unfinished = path.with_suffix(".part")
        unfinished.write_bytes(pickle.dumps((truth, cut, collect(movie, cut))))
        unfinished.replace(path)
    truth, cut, collected = pickle.loads(path.read_bytes())
    return truth, cut, collected


def spread(scores: list[float]) -> float:
    """Root of the mean square of scores, of which those beyond 3 count as 3: one miss must not be all."""
    return float(np.sqrt(np.mean(np.clip(scores, -3, 3) ** 2)))


def line(name: str, runs: list[Run]) -> str:
    """One line of the table."""
    measured = [r for r in runs if np.isfinite(r.gain_error)] or runs
    gain, zero = (np.abs([getattr(r, a) for r in measured]) for a in ("gain_error", "zero_error"))
    covered = [np.mean([getattr(r, a) for r in measured]) for a in ("gain_covered", "zero_covered")]
    spreads = [spread([getattr(r, a) for r in measured]) for a in ("gain_score", "zero_score")]
    verdicts = Counter(r.verdict for r in runs)
    counts = "/".join(str(verdicts[v]) for v in ("trustworthy", "caution", "refused"))
    codes = Counter(code for r in runs for code in r.codes)
    methods = Counter(r.method for r in runs)
    errors = f"{100 * np.median(gain):6.2f} {100 * gain.max():7.2f}  {np.median(zero):6.3f} {zero.max():7.3f}"
    seconds = np.median([r.seconds for r in runs])
    return (
        f"{name:31s} {errors}  {covered[0]:5.2f} {covered[1]:5.2f}  {spreads[0]:5.2f} {spreads[1]:5.2f}  "
        f"{counts:8s} {seconds:5.2f}  "
        f"{' '.join(f'{m}:{k}' for m, k in methods.items())}  "
        f"{' '.join(f'{c}:{k}' for c, k in codes.items())}"
    )


def totals(runs: list[Run]) -> str:
    """Shares over all scenarios, against the bars."""
    lines = []
    for kind in ("ordinary", "hard"):
        of_kind = [r for r in runs if SCENARIOS[r.scenario].kind == kind]
        if not of_kind:
            continue
        gain = np.mean([abs(r.gain_error) <= SCENARIOS[r.scenario].gain for r in of_kind])
        zero = np.mean([abs(r.zero_error) <= SCENARIOS[r.scenario].zero or r.zero_in_units for r in of_kind])
        covered = [np.mean([getattr(r, a) for r in of_kind]) for a in ("gain_covered", "zero_covered")]
        median = np.nanmedian(np.abs([r.gain_error for r in of_kind]))
        spreads = [spread([getattr(r, a) for r in of_kind]) for a in ("gain_score", "zero_score")]
        lines.append(
            f"{kind}: {len(of_kind)} runs, gain within its bar {100 * gain:.1f} %, "
            f"median {100 * median:.2f} %, zero within its bar {100 * zero:.1f} %, "
            f"covered {covered[0]:.3f} {covered[1]:.3f}, spread {spreads[0]:.2f} {spreads[1]:.2f}"
        )
    usable = [r.verdict for r in runs if r.scenario in USABLE]
    unusable = [r.verdict for r in runs if r.scenario not in USABLE]
    if usable:
        lines.append(f"usable: falsely refused {100 * np.mean([v == 'refused' for v in usable]):.1f} %")
    if unusable:
        missed = np.mean([v == "trustworthy" for v in unusable])
        refused = np.mean([v == "refused" for v in unusable])
        lines.append(
            f"unusable: refused {100 * refused:.1f} %, neither refused nor flagged {100 * missed:.1f} %"
        )
    return "\n".join(lines)


def intervals_table(runs: list[Run], seeds: range, kind: str | None) -> str:
    """Markdown table of how errors compare with the intervals."""
    count = len(seeds)
    rows = [
        f"{(kind or 'all').capitalize()} scenarios, {count} simulated movies each (`tests/benchmarks/"
        f"calibration.py --seeds {count} --first-seed {seeds[0]}{f' --kind {kind}' if kind else ''} "
        "--intervals FILE` writes this table). Of intervals that are right, chance lets "
        f"{_by_chance(count)} or more of {count} hold the truth in 95 % of the rows.",
        "",
        "| scenario | median error of the gain | half its interval | holds it | spread "
        "| zero level: holds it | spread |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(r.scenario for r in runs):
        of_name = [r for r in runs if r.scenario == name and np.isfinite(r.gain_error)]
        if not of_name:
            continue
        error = np.median(np.abs([r.gain_error for r in of_name]))
        half = np.median(
            [abs(NORMAL_QUANTILE * r.gain_error / r.gain_score) for r in of_name if r.gain_score]
        )
        shares = [100 * np.mean([getattr(r, a) for r in of_name]) for a in ("gain_covered", "zero_covered")]
        spreads = [spread([getattr(r, a) for r in of_name]) for a in ("gain_score", "zero_score")]
        rows.append(
            f"| {name} | {100 * error:.2f} % | {100 * half:.1f} % | {shares[0]:.0f} % | {spreads[0]:.2f} "
            f"| {shares[1]:.0f} % | {spreads[1]:.2f} |"
        )
    return "\n".join(rows) + "\n"


def _by_chance(runs: int) -> int:
    """Fewest runs of which the intervals hold the truth, at 95 % confidence, if each does at 95 %."""
    chance = [math.comb(runs, k) * 0.05**k * 0.95 ** (runs - k) for k in range(runs + 1)]
    return runs - int(np.searchsorted(np.cumsum(chance), 0.95))


def all_runs(
    names: list[str], seeds: range, jobs: int, statistics: Path | None = None
) -> Iterator[tuple[str, list[Run]]]:
    """Runs of every scenario, in order."""
    if jobs > 1:
        with ProcessPoolExecutor(jobs) as pool:
            futures = {name: [pool.submit(run, name, seed, statistics) for seed in seeds] for name in names}
            for name in names:
                yield name, [future.result() for future in futures[name]]
    else:
        for name in names:
            yield name, [run(name, seed, statistics) for seed in seeds]


def speed(megabytes: int) -> None:
    """Calibrate a movie that exists one block at a time; print times, against copying it, and peak memory."""
    import resource

    block, _ = simulate_movie((96, 512, 512), rng=0, dtype="uint16")
    movie = Repeated(block, max(96, megabytes * 1_000_000 // block[0].nbytes))
    compute_sensitivity(block[:48])
    copied = min(_timed(block.copy) for _ in range(5)) / block.nbytes
    blocks = max(1, movie.shape[0] // len(block))
    passes = []
    for _ in range(3):
        statistics = NoiseStatistics((512, 512))
        started = time.process_time()
        for number in range(blocks):
            statistics.update(block, start=number * len(block))
        passes.append(time.process_time() - started)
    rate = blocks * block.nbytes / min(passes)
    print(f"one core: {rate / 1e6:.0f} MB/s of uint16, {1 / (rate * copied):.1f} times as long as a copy")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    for full in (False, True):
        cpu = time.process_time()
        # The best of three: other work on the machine only ever adds time.
        seconds = min(
            _timed(partial(compute_sensitivity, movie, on_refusal="return", full=full)) for _ in range(3)
        )
        cpu = (time.process_time() - cpu) / 3
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        rate_of_all = f", {megabytes / seconds:.0f} MB/s" if full else ""
        print(
            f"{megabytes} MB {'full' if full else 'default'}: {seconds:.2f} s, {cpu:.2f} s of processor"
            f"{rate_of_all}, peak {after:.0f} MB (before: {before:.0f} MB)"
        )


def _timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


class Repeated:
    """A movie of any length, made of one block over and over."""

    def __init__(self, block: np.ndarray, frames: int) -> None:
        self.block, self.shape, self.dtype = block, (frames, *block.shape[1:]), block.dtype

    def __getitem__(self, index: slice | tuple[slice, ...]) -> np.ndarray:
        """Frames of a slice along time, or a box of them."""
        times, *box = index if isinstance(index, tuple) else (index,)
        return self.block[np.arange(*times.indices(self.shape[0])) % len(self.block)][:, *box]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--only", default="")
    parser.add_argument("--kind", choices=("ordinary", "hard", "unusable"))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--statistics", type=Path, metavar="FOLDER", help="keep what was read of the movies")
    parser.add_argument("--intervals", type=Path, metavar="FILE", help="write errors against intervals there")
    parser.add_argument("--speed", type=int, metavar="MEGABYTES", help="time a movie of this size instead")
    arguments = parser.parse_args()
    if arguments.speed:
        speed(arguments.speed)
        return
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    pair = f"{'gain':>5s} {'zero':>5s}"
    print(
        f"{'scenario':31s} {'gain error %':>14s}  {'zero, photons':>14s}  {'coverage':>11s}  "
        f"{'spread':>11s}  verdicts  time"
    )
    print(f"{'':31s} {'median':>6s} {'worst':>7s}  {'median':>6s} {'worst':>7s}  {pair}  {pair}")
    names = [
        name
        for name, scenario in SCENARIOS.items()
        if arguments.only in name and arguments.kind in (None, scenario.kind)
    ]
    if arguments.statistics:
        arguments.statistics.mkdir(parents=True, exist_ok=True)
    everything = []
    for name, runs in all_runs(names, seeds, arguments.jobs, arguments.statistics):
        print(line(name, runs), flush=True)
        everything += runs
    print(totals(everything))
    if arguments.intervals:
        usable = [r for r in everything if r.scenario in USABLE]
        arguments.intervals.write_text(intervals_table(usable, seeds, arguments.kind), encoding="utf-8")


if __name__ == "__main__":
    main()
