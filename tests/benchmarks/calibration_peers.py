"""Errors of published estimators on the scenarios of the calibration, as a table for the documentation.

The published packages live in an environment of their own, since one of them has the same name as this one:

    python -m venv peers
    peers/bin/pip install anscombe-transform==1.0.0 photon-flux-estimation
    python tests/benchmarks/calibration_peers.py --python peers/bin/python [--seeds 5] [--output FILE.md]

Each movie is simulated here, calibrated here, and handed over as a file. An estimator that raises, or gives
no positive gain, on most of the movies has "fails" in its place; of others, movies on which it did are left
out. The published ones look for more than 100 neighbouring values that all occur; a detector without any
electronic noise leaves gaps between the photon numbers, on which they would fail for no good reason. So
detectors that have none in a scenario get a read noise of 0.3 photons here, photon counters excepted.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from calibration_scenarios import SCENARIOS, Scenario

from anscombe_transform.calibration import compute_sensitivity

# Runs in the other environment: a line of JSON a movie, with gain and zero level of each estimator.
ASK_PEERS = """
import json, sys, warnings
import numpy as np
warnings.simplefilter("ignore")

def first(movie):
    from anscombe_transform.estimate import compute_conversion_gain
    found = compute_conversion_gain(movie)
    return float(found["conversion_gain"]), float(found["zero_level"])

def second(movie):
    import matplotlib
    matplotlib.use("Agg")
    from photon_flux_estimation import PhotonFluxEstimator
    found = PhotonFluxEstimator(movie).compute_sensitivity()
    return float(found["sensitivity"]), float(found["zero_level"])

for path in sys.argv[1:]:
    movie = np.load(path)
    found = {}
    for name, ask in (("anscombe-transform 1.0.0", first), ("photon-flux-estimation", second)):
        try:
            found[name] = ask(movie)
        except Exception:
            found[name] = None
    print(json.dumps(found))
"""
OURS = "this package"
SHOWN = (
    "static two-photon", "low-light PMT, gain 30-300", "photon counts", "sCMOS 2-150 e", "EMCCD",
    "transients in 25 %", "drift of 4 px", "jitter 1 px", "jitter 3 px", "flicker and bleaching",
    "saturated at 10 bit", "clipped at zero", "hot pixels", "duplicated frames", "activity everywhere",
    "T = 2, small", "T = 5, small", "64 x 64, 100 frames",
)  # fmt: skip


def without_gaps(scenario: Scenario) -> Scenario:
    """The scenario with read noise, if it has none, unless it counts photons."""
    gain = scenario.options.get("conversion_gain", 90.0)
    if "read_noise" in scenario.options or gain == 1:
        return scenario
    return dataclasses.replace(scenario, options=scenario.options | {"read_noise": 0.3 * gain})


def errors(scenario: str, seeds: range, python: Path, folder: Path) -> list[dict[str, tuple[float, float]]]:
    """Of each seed and estimator, relative error of the gain, error of the zero in photons; NaN if none."""
    paths, truths, found = [], [], []
    for seed in seeds:
        movie, truth = without_gaps(SCENARIOS[scenario]).make(seed)
        paths.append(folder / f"{seed}.npy")
        np.save(paths[-1], movie)
        own = compute_sensitivity(movie, on_refusal="return")
        truths.append(truth)
        found.append({OURS: (own.conversion_gain, own.zero_level)})
    answer = subprocess.run(
        [str(python), "-I", "-c", ASK_PEERS, *map(str, paths)], capture_output=True, text=True, check=True
    )
    lines = answer.stdout.splitlines()[-len(paths) :]
    return [
        {
            name: _error(constants, truth.conversion_gain, truth.zero_level, truth.signal_per_photon)
            for name, constants in (own | json.loads(peers)).items()
        }
        for own, peers, truth in zip(found, lines, truths, strict=True)
    ]


def _error(
    constants: tuple[float, float] | None, gain: float, zero: float, per_photon: float
) -> tuple[float, float]:
    found_gain, found_zero = constants or (np.nan, np.nan)
    if not (np.isfinite(found_gain) and found_gain > 0):
        return np.nan, np.nan
    return abs(found_gain / gain - 1), abs(found_zero - zero) / per_photon


def cell(values: list[tuple[float, float]]) -> str:
    """Median and worst error of the gain, those of the zero level, or that the estimator failed."""
    worked = [v for v in values if np.isfinite(v[0])]
    if 2 * len(worked) < len(values):
        return "fails"
    gains, zeros = 100 * np.array(worked)[:, 0], np.array(worked)[:, 1]
    return (
        f"{_digits(np.median(gains))} ({_digits(gains.max())}) %, "
        f"{_digits(np.median(zeros))} ({_digits(zeros.max())})"
    )


def _digits(value: float) -> str:
    """Two digits, and no exponent."""
    return f"{value:.2g}" if value < 99.5 else f"{value:.0f}"


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", type=Path, required=True, help="python of the published packages")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("docs/figures/calibration_errors.txt"))
    arguments = parser.parse_args()
    names = [OURS, "anscombe-transform 1.0.0", "photon-flux-estimation"]
    text = (
        f"Error of the gain, and of the zero level in photons: median (worst) of {arguments.seeds} simulated "
        f"movies a scenario (`tests/benchmarks/calibration_peers.py --seeds {arguments.seeds} --first-seed "
        f'{arguments.first_seed}` writes this table; "fails" is an error '
        "raised on most of them: they ask for more than 100 neighbouring values that all occur). The two "
        "share one method.\n\n"
        f"| scenario | {' | '.join(names)} |\n{'|---' * (len(names) + 1)}|\n"
    )
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    with tempfile.TemporaryDirectory() as folder:
        for scenario in SHOWN:
            runs = errors(scenario, seeds, arguments.python, Path(folder))
            row = f"| {scenario} | {' | '.join(cell([run[name] for run in runs]) for name in names)} |"
            print(row, flush=True)
            text += row + "\n"
            arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
