"""The levels that turn measurements of a movie into notes, cautions or refusals: one row a rule.

`verdict` measures and words; the decision is here. Every level is held on both sides by a test, and the table
in docs/explanation/calibration.md is `as_markdown()`.

Where a level is empirical, its source names scenarios of tests/benchmarks/calibration_scenarios.py: run
``python tests/benchmarks/calibration.py --only NAME`` to see the verdicts on either side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

Severity = Literal["note", "caution", "refusal"]


@dataclass(frozen=True)
class Threshold:
    """One rule.

    Attributes
    ----------
    code : str
        Of the reason that it gives.
    measures, unit : str
        The measurement compared with the levels.
    caution, refusal : float or None
        Levels; None if there is none of the kind.
    below : bool
        Whether values below the levels speak against the movie, and not those above.
    errors : float
        Standard errors by which the value must also differ from that of an undisturbed movie; 0: none.
    source : str
        Where the levels come from.
    note : float or None
        Level from which on a note is made.
    few_pixels : bool
        Whether the rule is that of fields of few pixels, line scans and single pixels.
    """

    code: str
    measures: str
    unit: str
    caution: float | None
    refusal: float | None
    source: str
    below: bool = False
    errors: float = 0.0
    note: float | None = None
    few_pixels: bool = False

    def severity(self, value: float, deviate: float = math.inf) -> Severity | None:
        """Severity of a value by the rule.

        `deviate` is how many standard errors it lies from that of an undisturbed movie.
        """
        if not abs(deviate) > self.errors:
            return None
        levels: dict[Severity, float | None]
        levels = {"refusal": self.refusal, "caution": self.caution, "note": self.note}
        for severity, level in levels.items():
            if level is not None and (value < level if self.below else value > level):
                return severity
        return None


_ROWS = (
    Threshold(
        "no_shot_noise",
        "gain over its standard error",
        "1",
        None,
        3.0,
        "theory: three standard errors from 0",
        below=True,
    ),
    Threshold(
        "imprecise_gain",
        "standard error of the gain",
        "part of the gain",
        None,
        0.06,
        "judgement: a step of half a standard deviation is then between 0.47 and 0.53 of one, at 95 %",
    ),
    Threshold(
        "no_contrast",
        "shot noise of the range of brightness",
        "part of the median variance",
        None,
        0.08,
        "scenarios 'uniform scene' (refused) and 'read noise, hardly any light'",
        below=True,
    ),
    Threshold(
        "curved",
        "departure of the curve from a line",
        "part of the variance",
        0.06,
        0.15,
        "scenarios 'gamma of 0.8', 'square root stored': the gain below the bend is within its interval",
        errors=5.0,
    ),
    Threshold(
        "compressed_signal",
        "downward bend of the curve and skewness missing from the noise, together",
        "standard errors",
        3.5,
        None,
        "theory: both are 0 for a linear detector, so χ² of 2 degrees at 1 in 450; scenarios 'square root "
        "stored, 16 x 16', 'gamma of 0.8, 16 x 16'",
    ),
    Threshold(
        "bent_above",
        "departure of the curve from a line, beyond which its bright end is left out",
        "part of the variance",
        0.02,
        None,
        "the gain is then off by a third of that; scenarios 'gamma of 0.8', 'drifting zero, sCMOS'",
        errors=4.0,
    ),
    Threshold(
        "scattered",
        "scatter of places of equal brightness, beyond chance and offsets",
        "part of the variance",
        0.07,
        0.3,
        "movies of one gain stay at a third above chance; 'background removed' makes 0.1 and more",
    ),
    Threshold(
        "uneven_gain",
        "spread of the gain over the field",
        "part of the gain",
        0.12,
        None,
        "judgement: coding then adds between 1.7 and 2.6 % of the variance at 95 % of the places, not 2.1; "
        "Hotelling's T² of movies of one gain stays below 80, of those of 3 % spread above 250",
        note=0.02,
        errors=11.0,
    ),
    Threshold(
        "unsteady_gain",
        "spread of the gain over time",
        "part of the gain",
        0.05,
        None,
        "ordinary scenarios stay below 0.02; scenarios 'gain control', 'gain in steps'. χ² test at 10⁻⁶",
        errors=4.9,
    ),
    Threshold(
        "slope_within_tiles",
        "slope within tiles over that of the line, less 1",
        "1",
        0.02,
        None,
        "scenarios 'background removed', 'divided by its mean'; 3.5 errors are 5 in 10,000",
        errors=3.5,
    ),
    Threshold(
        "background_taken_off",
        "correlation of the patches' offsets with their light",
        "1",
        -0.4,
        None,
        "a camera's bias has none; rolling balls of 15 pixels make −0.48 to −0.8",
        below=True,
        errors=3.5,
    ),
    Threshold(
        "mostly_structure",
        "rows that are explained by noise",
        "part of the usable rows",
        0.35,
        0.2,
        "judgement: the rest moves or changes; scenarios 'jitter 3 px', 'all of it'",
        below=True,
    ),
    Threshold(
        "correlated_in_time",
        "noise that a frame shares with the two beside",
        "part of its variance",
        0.04,
        0.4,
        "the gain is low by that part; scenarios 'frames blended weakly', 'a little smoothed in time'",
        errors=5.0,
    ),
    Threshold(
        "dependent_frames",
        "least eigenvalue of the frames' covariance over the Marchenko-Pastur edge",
        "1",
        0.8,
        0.15,
        "theory: white noise gives 1 or more; scenarios 'low rank', 'interpolated frames'",
        below=True,
    ),
    Threshold(
        "correlated_in_space",
        "noise that a pixel shares with its eight neighbours, a quarter of it along either axis",
        "part of its variance",
        0.04,
        0.4,
        "detectors share up to 0.01 with each of four neighbours; scenarios 'a little blurred', "
        "'smoothed in space'",
        errors=5.0,
    ),
    Threshold(
        "correlated_where_moving",
        "the same where the scene moves, which makes neighbours differ alike",
        "part of its variance",
        0.4,
        1.0,
        "motion by some pixels from frame to frame makes up to 0.6, a blur of half a pixel more than 1; "
        "scenarios 'jitter 3 px', 'smoothed in space'",
        errors=5.0,
    ),
    Threshold(
        "correlated_along",
        "noise that a pixel shares with its two neighbours along one axis",
        "part of its variance",
        0.12,
        None,
        "judgement: mostly the detector's own, and so is the effective gain; scenario 'scan lines aligned'",
        errors=5.0,
    ),
    Threshold(
        "sharpened",
        "noise of the eight neighbours that is opposed",
        "part of a pixel's variance",
        0.04,
        None,
        "no optics makes it; scenario 'a little sharpened'",
        errors=5.0,
    ),
    Threshold(
        "sharper_filters",
        "gain by the filters along y and x above that by the one in time",
        "part of the gain",
        0.04,
        None,
        "structure makes it negative; scenario 'sharpened'",
        errors=5.0,
    ),
    Threshold(
        "zero_undetermined",
        "width of the zero level's interval",
        "photons or sixths of the range of brightness, whichever are fewer",
        12.0,
        None,
        "judgement: compression does not need the zero level. The code of the note is `zero_uncertain`",
        note=3.0,
    ),
    Threshold(
        "alternating_frames",
        "mean squared difference of neighbouring frames over that of every second one",
        "1",
        1.4,
        None,
        "a scene that stands still gives 1, one that changes less; scenario 'two planes in turn'",
    ),
)

_ROWS_OF_FEW_PIXELS = (
    Threshold(
        "imprecise_gain",
        "standard error of the gain, systematic errors included",
        "part of the gain",
        0.02,
        0.12,
        "judgement: few pixels tell little of their own systematic errors, so that half of a large field's "
        "precision is not taken for granted",
    ),
    Threshold(
        "lag_in_time",
        "variance of differences at lag 1 over that at lag 2 in time",
        "1",
        0.95,
        0.85,
        "white noise gives 1, light that changes a little less; scenario 'smoothed in time, 16 x 16'",
        below=True,
        errors=5.0,
    ),
    Threshold(
        "dependent_frames",
        "least eigenvalue of the pixels' correlation over the Marchenko-Pastur edge",
        "1",
        0.5,
        0.15,
        "theory: white noise gives 1 or more; neighbours that share noise to a tenth give 0.6",
        below=True,
    ),
    Threshold(
        "correlated_in_space",
        "correlation of noise with that of the next pixel, along both axes",
        "1",
        None,
        0.15,
        "a blur of half a pixel makes 0.25; detectors share up to 0.1 along one axis",
        errors=5.0,
    ),
    Threshold(
        "correlated_along",
        "correlation of noise with that of the next pixel, along one axis",
        "1",
        0.05,
        None,
        "judgement: the gain is then 10 % low at most",
        errors=5.0,
    ),
    Threshold(
        "sharpened",
        "the same where it is negative, less its sign",
        "1",
        0.05,
        None,
        "no optics makes it",
        errors=5.0,
    ),
)

THRESHOLDS = {row.code: row for row in _ROWS}
FEW_PIXELS = {row.code: replace(row, few_pixels=True) for row in _ROWS_OF_FEW_PIXELS}


def as_markdown() -> str:
    """The rules as the table of the documentation."""
    lines = [
        "| rule | measured | unit | note | caution | refusal | errors | levels from |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in (*THRESHOLDS.values(), *FEW_PIXELS.values()):
        sign = "<" if row.below else ">"
        levels = " | ".join(
            "" if level is None else f"{sign} {level:g}".replace("-", "−")
            for level in (row.note, row.caution, row.refusal)
        )
        where = ", few pixels" if row.few_pixels else ""
        lines.append(
            f"| `{row.code}`{where} | {row.measures} | {row.unit} | {levels} | "
            f"{f'{row.errors:g}' if row.errors else ''} | {row.source} |"
        )
    return "\n".join(lines) + "\n"
