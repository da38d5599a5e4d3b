"""Every level of the calibration's rules, on both sides, and the table that documents them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from anscombe_transform.calibration.line.verdict import judge_correlation
from anscombe_transform.calibration.sums.shared import Excess, normal_deviate
from anscombe_transform.calibration.thresholds import FEW_PIXELS, THRESHOLDS, as_markdown

# Code, a value on the good side and one on the bad side of the caution and of the refusal, a percent apart.
LEVELS = [
    ("no_shot_noise", None, (3.01, 2.99)),
    ("imprecise_gain", None, (0.0597, 0.0603)),
    ("no_contrast", None, (0.0804, 0.0796)),
    ("curved", (0.0597, 0.0603), (0.149, 0.151)),
    ("compressed_signal", (3.48, 3.52), None),
    ("bent_above", (0.0199, 0.0201), None),
    ("scattered", (0.0696, 0.0704), (0.298, 0.302)),
    ("uneven_gain", (0.119, 0.121), None),
    ("unsteady_gain", (0.0497, 0.0503), None),
    ("slope_within_tiles", (0.0199, 0.0201), None),
    ("background_taken_off", (-0.398, -0.402), None),
    ("mostly_structure", (0.352, 0.348), (0.201, 0.199)),
    ("correlated_in_time", (0.0398, 0.0402), (0.398, 0.402)),
    ("dependent_frames", (0.804, 0.796), (0.151, 0.149)),
    ("correlated_in_space", (0.0398, 0.0402), (0.398, 0.402)),
    ("correlated_where_moving", (0.398, 0.402), (0.995, 1.005)),
    ("correlated_along", (0.119, 0.121), None),
    ("sharpened", (0.0398, 0.0402), None),
    ("sharper_filters", (0.0398, 0.0402), None),
    ("zero_undetermined", (11.9, 12.1), None),
    ("alternating_frames", (1.39, 1.41), None),
]
# A value on either side of the level of a note.
NOTES = {"uneven_gain": (0.0199, 0.0201), "zero_undetermined": (2.98, 3.02)}
LEVELS_OF_FEW_PIXELS = [
    ("imprecise_gain", (0.0199, 0.0201), (0.119, 0.121)),
    ("lag_in_time", (0.952, 0.948), (0.852, 0.848)),
    ("dependent_frames", (0.503, 0.497), (0.151, 0.149)),
    ("correlated_in_space", None, (0.149, 0.151)),
    ("correlated_along", (0.0497, 0.0503), None),
    ("sharpened", (0.0497, 0.0503), None),
]
# Standard errors just short of and just beyond those that a rule asks for.
ERRORS = {
    "curved": (4.97, 5.03),
    "uneven_gain": (10.9, 11.1),
    "bent_above": (3.97, 4.03),
    "unsteady_gain": (4.87, 4.93),
    "slope_within_tiles": (3.48, 3.52),
    "background_taken_off": (3.48, 3.52),
    "correlated_in_time": (4.97, 5.03),
    "correlated_in_space": (4.97, 5.03),
    "correlated_where_moving": (4.97, 5.03),
    "correlated_along": (4.97, 5.03),
    "sharpened": (4.97, 5.03),
    "sharper_filters": (4.97, 5.03),
}
ERRORS_OF_FEW_PIXELS = dict.fromkeys(
    ("lag_in_time", "correlated_in_space", "correlated_along", "sharpened"), (4.97, 5.03)
)
RULES = [(THRESHOLDS, *level) for level in LEVELS] + [(FEW_PIXELS, *level) for level in LEVELS_OF_FEW_PIXELS]
CHANCES = [(THRESHOLDS[code], *errors) for code, errors in ERRORS.items()] + [
    (FEW_PIXELS[code], *errors) for code, errors in ERRORS_OF_FEW_PIXELS.items()
]


def test_every_rule_is_tested():
    """No rule lacks its levels here, and none is left over."""
    for rules, levels, errors in (
        (THRESHOLDS, LEVELS, ERRORS),
        (FEW_PIXELS, LEVELS_OF_FEW_PIXELS, ERRORS_OF_FEW_PIXELS),
    ):
        assert [code for code, *_ in levels] == list(rules)
        assert set(errors) == {code for code, row in rules.items() if row.errors}


@pytest.mark.parametrize(("rules", "code", "caution", "refusal"), RULES)
def test_a_level_parts_what_passes_from_what_does_not(rules, code, caution, refusal):
    """A percent on the good side of a level the rule says less than a percent on its bad side."""
    row = rules[code]
    noted = None if row.note is None else "note"
    assert (row.caution is None, row.refusal is None) == (caution is None, refusal is None)
    if caution is not None:
        assert row.severity(caution[0]) == noted
        assert row.severity(caution[1]) == "caution"
    if refusal is not None:
        assert row.severity(refusal[0]) == (None if caution is None else "caution")
        assert row.severity(refusal[1]) == "refusal"


def test_notes_begin_at_their_levels():
    """A percent below its level a rule notes nothing, a percent above it does; no other rule notes."""
    assert {code for code, row in THRESHOLDS.items() if row.note is not None} == set(NOTES)
    for code, (short, beyond) in NOTES.items():
        assert THRESHOLDS[code].severity(short) is None
        assert THRESHOLDS[code].severity(beyond) == "note"


@pytest.mark.parametrize(("row", "short", "beyond"), CHANCES)
def test_chance_is_not_held_against_a_movie(row, short, beyond):
    """A value far beyond its levels says nothing while chance explains it."""
    value = -10.0 if row.below else 10.0
    assert row.severity(value, short) is None
    assert row.severity(value, -short) is None
    assert row.severity(value, beyond) is not None


def test_probabilities_become_deviates():
    """2.7 in a thousand is three standard errors, and a certainty none."""
    assert normal_deviate(0.0026998) == pytest.approx(3, abs=1e-4)
    assert normal_deviate(1.0) == 0
    assert math.isfinite(normal_deviate(0.0))


def test_the_documentation_holds_the_table_of_the_code():
    """docs/explanation/calibration.md shows the rules as they are."""
    page = (Path(__file__).parents[1] / "docs" / "explanation" / "calibration.md").read_text("utf-8")
    shown = page.split("<!-- thresholds: begin -->\n")[1].split("<!-- thresholds: end -->")[0]
    assert shown == as_markdown()


class Shares:
    """Noise that neighbours share, along x and along y, as `SharedNoise` gives it."""

    dimensions = 1.0

    def __init__(self, x: float, y: float, across: float = 0.0) -> None:
        self.values = {"x": x, "y": y, "all": x + y + across}

    def lingering(self) -> Excess:
        """No noise that frames share."""
        return Excess()

    def smoothing(self) -> Excess:
        """Noise shared with all eight neighbours."""
        return Excess(self.values["all"], 0.001, proven=True)

    def along(self, axis: str) -> Excess:
        """Noise shared along an axis."""
        return Excess(self.values[axis], 0.001, proven=True)


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (0.005, 0.005, set()),
        (0.2, 0.2, {("correlated_in_space", "refusal")}),
        (0.45, 0.005, {("correlated_along_x", "caution")}),
        (0.005, 0.45, {("correlated_along_y", "caution")}),
        (0.03, 0.03, {("correlated_in_space", "caution")}),
    ],
)
def test_smoothing_shows_along_both_axes(x, y, expected):
    """Noise that runs along one axis is that of slow electronics, however strong; a blur shows along both."""
    found = judge_correlation(Shares(x, y, across=(x + y) / 40), moves=False)
    assert {(reason.code, reason.severity) for reason in found} == expected


@pytest.mark.parametrize(
    ("x", "y", "severity"), [(0.05, 0.05, None), (0.25, 0.25, "caution"), (0.6, 0.6, "refusal")]
)
def test_motion_is_not_refused_as_smoothing(x, y, severity):
    """Where the scene moves, noise shared to one half is a caution, and to more than all of it a refusal."""
    found = judge_correlation(Shares(x, y, across=(x + y) / 40), moves=True)
    assert [(reason.code, reason.severity) for reason in found] == (
        [("correlated_in_space", severity)] if severity else []
    )
