"""Whether constants agree with simulated movies: stops that should be, and stops that should not.

    python tests/benchmarks/agreement.py [--runs 200] [--wrong 60] [--first-seed 0] [--side 96] [--frames 60]

The scenarios are those of `calibration_scenarios.py`, ordinary and hard, with smaller frames. First the right
constants, those of the simulation: none may contradict. Then the same with a gain wrong by a factor, and a
camera's constants on movies of a photomultiplier: all must contradict, with the factor found within 10 %.
Last, a read noise that is too large, which nothing but the darkest pixels may show.
Each table has one line per case: runs, verdicts, and the median and largest error of the factor.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from dataclasses import replace

import numpy as np
from calibration_scenarios import SCENARIOS

from anscombe_transform import Agreement, Sensitivity

FACTORS = (1 / 10, 1 / 3, 1 / 1.3, 1.3, 3, 10)
CAMERA = {"conversion_gain": 0.46, "zero_level": 100, "read_noise": 0.7}


def movies(kinds: tuple[str, ...], runs: int, first_seed: int, shape: tuple[int, int]):
    """Name, movie and truth of `runs` movies of the scenarios in turn."""
    names = [name for name, scenario in SCENARIOS.items() if scenario.kind in kinds]
    for number in range(runs):
        name = names[number % len(names)]
        frames, side = shape
        scenario = SCENARIOS[name]
        small = tuple(map(min, scenario.shape, (frames, side, side)))
        yield name, *replace(scenario, shape=small).make(first_seed + number)


def constants(truth, factor: float = 1.0) -> Sensitivity:
    """The constants of a simulation, with the gain multiplied."""
    return Sensitivity.from_known(
        conversion_gain=truth.conversion_gain * factor,
        zero_level=truth.zero_level,
        read_noise=truth.read_noise,
    )


def replace_read_noise(truth, read_noise: float) -> Sensitivity:
    """The constants of a simulation with another read noise."""
    return Sensitivity.from_known(
        conversion_gain=truth.conversion_gain, zero_level=truth.zero_level, read_noise=read_noise
    )


def found_factor(agreement: Agreement) -> float:
    """The factor by which the gain is wrong, as the movie shows it."""
    return agreement.gain_factor if math.isfinite(agreement.gain_factor) else agreement.factor


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--wrong", type=int, default=60)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--frames", type=int, default=60)
    given = parser.parse_args()
    shape = (given.frames, given.side)

    print("right constants")
    verdicts: Counter[str] = Counter()
    for name, movie, truth in movies(("ordinary", "hard"), given.runs, given.first_seed, shape):
        found = constants(truth).agreement(movie)
        verdicts[found.verdict] += 1
        if found.verdict != "agrees":
            print(f"  {name:24s} {found}")
    print(" ", dict(verdicts))

    print("gain wrong: factor, verdicts, median and largest error of the factor, share within 10 %")
    for factor in FACTORS:
        verdicts, errors = Counter(), []
        for name, movie, truth in movies(("ordinary",), given.wrong, given.first_seed + 5000, shape):
            found = constants(truth, factor).agreement(movie)
            verdicts[found.verdict] += 1
            errors.append(abs(found_factor(found) * factor - 1))
            if found.verdict != "contradicts" or not errors[-1] < 0.1:
                print(f"  {factor:.2f} {name:24s} {found}")
        if not errors:
            continue
        within = np.mean(np.array(errors) < 0.1)
        print(f"  {factor:5.2f} {dict(verdicts)} {np.median(errors):.3f} {max(errors):.3f} {within:.3f}")

    print("read noise too large by a number of photons' noise; the gain is right")
    for photons in (3, 10, 30):
        verdicts = Counter()
        for name, movie, truth in movies(("ordinary",), given.wrong, given.first_seed + 7000, shape):
            more = photons * truth.conversion_gain**2
            wrong = replace_read_noise(truth, math.sqrt(truth.read_noise**2 + more))
            dark = np.quantile(movie.mean(axis=0), 0.1)
            variance = truth.conversion_gain * (dark - truth.zero_level) + truth.read_noise**2
            if more < max(variance, truth.conversion_gain**2) / 2:
                continue
            found = wrong.agreement(movie)
            verdicts[found.verdict] += 1
            if found.verdict != "contradicts":
                print(f"  {photons} {name:24s} {found}")
        print(f"  {photons:2d} {dict(verdicts)}")

    verdicts = Counter()
    for _, movie, truth in movies(("ordinary",), given.wrong, given.first_seed + 9000, shape):
        if truth.conversion_gain > 20:
            verdicts[Sensitivity.from_known(**CAMERA).agreement(movie).verdict] += 1
    print("a camera's constants on a photomultiplier's movie", dict(verdicts))


if __name__ == "__main__":
    main()
