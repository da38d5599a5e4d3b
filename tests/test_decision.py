"""The decision report: changes beside yardsticks, cells and events, figure, page, JSON and command."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

zarr = pytest.importorskip("zarr")
if int(zarr.__version__.partition(".")[0]) < 3:
    pytest.skip("needs zarr-python 3", allow_module_level=True)

import anscombe_transform as at  # noqa: E402
from anscombe_transform.diagnostics import plot_decision  # noqa: E402
from anscombe_transform.diagnostics.decision import Decision, decide  # noqa: E402
from anscombe_transform.diagnostics.measurements.cells import (  # noqa: E402
    cell_traces,
    detect_cells,
    find_events,
    frame_shifts,
    match_cells,
    match_events,
    trace_noise,
)

CENTRES = [(14, 14), (14, 48), (30, 31), (47, 16), (48, 47)]
GAIN, ZERO, READ_NOISE = 20.0, 100.0, 10.0


def firing_cells(seed: int, frames: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """A movie of five cells that flash, in signal units, and the frames at which each of them does."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64]
    photons = np.full((frames, 64, 64), 4.0)
    onsets = np.zeros((len(CENTRES), frames), bool)
    for number, (cy, cx) in enumerate(CENTRES):
        onsets[number, rng.choice(np.arange(5, frames - 10, 12), 4, replace=False)] = True
        trace = np.convolve(onsets[number], np.exp(-np.arange(12) / 3.0))[:frames]
        footprint = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 3.5**2 / 2)
        photons += 12 * trace[:, None, None] * footprint + 4 * footprint
    signal = ZERO + GAIN * rng.poisson(photons) + rng.normal(0, READ_NOISE, photons.shape)
    return np.rint(signal).astype("int16"), onsets


@pytest.fixture(scope="module")
def movie() -> np.ndarray:
    """The movie of five flashing cells."""
    return firing_cells(3)[0]


@pytest.fixture(scope="module")
def decision(movie: np.ndarray) -> Decision:
    """A decision about it, with the constants known."""
    known = at.Sensitivity.from_known(conversion_gain=GAIN, zero_level=ZERO, read_noise=READ_NOISE)
    return decide(movie, betas=(0.5, 2), presets=("fast", "compact"), sensitivity=known)


def test_all_cells_are_found_where_they_are(movie: np.ndarray) -> None:
    """The detector finds each of five flashing cells within a pixel and nothing else."""
    cells = detect_cells(movie.astype(np.float32))
    centres = sorted(tuple(np.argwhere(mask).mean(axis=0)) for mask in cells)
    assert len(centres) == len(CENTRES)
    for (cy, cx), (y, x) in zip(centres, sorted(CENTRES), strict=True):
        assert math.hypot(cy - y, cx - x) < 1.5


def test_events_are_found_when_they_happen() -> None:
    """At least nine of ten flashes are found within a frame, and few others."""
    movie, onsets = firing_cells(5)
    cells = detect_cells(movie.astype(np.float32))
    order = [min(range(5), key=lambda k: np.hypot(*(np.argwhere(c).mean(0) - CENTRES[k]))) for c in cells]
    found = find_events(cell_traces(movie, cells, ZERO))
    assert match_events(onsets[order][:, 1:], found) > 0.9


def test_matching_is_one_to_one_and_symmetric(movie: np.ndarray) -> None:
    """A set agrees with itself fully, with half of itself by two thirds, with nothing not at all."""
    cells = detect_cells(movie.astype(np.float32))
    assert match_cells(cells, cells) == match_cells(cells, cells[::-1])
    assert match_cells(cells, cells).f1 == match_cells(cells, cells).overlap == 1
    assert match_cells(cells, cells[:1]).f1 == pytest.approx(2 / 6)
    assert match_cells(cells[:1], cells).f1 == pytest.approx(2 / 6)
    assert match_cells(cells, []).f1 == 0
    assert math.isnan(match_cells([], []).f1)
    assert match_cells(cells, [*cells, cells[0]]).f1 == pytest.approx(10 / 11)


def test_noise_of_a_trace_is_that_of_its_samples(rng: np.random.Generator) -> None:
    """White noise of standard deviation 2 is measured to its sampling error, a slow drift left out."""
    traces = rng.normal(0, 2, (3, 4000)) + np.linspace(0, 50, 4000)
    # The median absolute deviation of n values has a relative error of about 1.17 / sqrt(n).
    assert trace_noise(traces) == pytest.approx(2, rel=5 * 1.17 * math.sqrt(2 / 4000))


def test_shifts_are_measured_to_a_fraction_of_a_pixel(rng: np.random.Generator) -> None:
    """Whole-pixel shifts of a scene come back exactly within 0.1 pixel."""
    from scipy import ndimage

    scene = ndimage.gaussian_filter(rng.normal(0, 1, (80, 80)), 2.0)
    frames = np.stack([np.roll(scene, shift, (0, 1)) for shift in [(0, 0), (3, -2), (-5, 7)]])
    assert frame_shifts(frames, scene) == pytest.approx(np.array([(0, 0), (3, -2), (-5, 7)]), abs=0.1)


def test_equal_noise_adds_the_variance_of_theory(decision: Decision) -> None:
    """The yardstick adds β²/12 of the noise variance, within 5 standard errors."""
    for beta in (0.5, 2):
        row = decision.noise(beta)
        assert row.added_variance == pytest.approx(beta**2 / 12, abs=5 * row.added_variance_error)


def test_stored_values_change_as_equal_noise_does(decision: Decision) -> None:
    """At β = 0.5 results change about as much as under random noise of the same strength."""
    stored, noise = decision.stored(0.5), decision.noise(0.5)
    assert stored.added_variance == pytest.approx(0.5**2 / 12, rel=0.2)
    assert abs(stored.largest_shift.shift) < 0.03
    assert stored.cell_f1 == noise.cell_f1 == 1
    assert stored.trace_correlation > 0.99
    assert stored.gain == pytest.approx(1 + 0.5**2 / 12, abs=0.05)
    assert stored.registration < 2 * noise.registration + 0.01
    assert decision.stored(2).ratios["compact"] > decision.stored(0.5).ratios["compact"] > 3
    assert decision.halves.cell_f1 == 1


def test_a_worse_codec_shows(movie: np.ndarray) -> None:
    """A detector of one's own is used, and coarse steps change more than fine ones."""
    seen = []

    def detector(frames: np.ndarray) -> list[np.ndarray]:
        seen.append(frames.dtype)
        return detect_cells(frames)

    known = at.Sensitivity.from_known(conversion_gain=GAIN, zero_level=ZERO, read_noise=READ_NOISE)
    found = decide(movie, betas=(0.25, 3), presets=("fast",), sensitivity=known, detector=detector)
    assert set(seen) == {np.dtype("float32")}
    fine, coarse = found.stored(0.25), found.stored(3)
    assert coarse.mean_image > 3 * fine.mean_image
    assert coarse.trace_correlation < fine.trace_correlation
    with pytest.raises(KeyError, match=r"no row for beta=1"):
        found.stored(1)


def test_a_movie_without_cells_says_so() -> None:
    """Without active cells the figures are missing, and the summary says why."""
    flat, _ = at.simulate_movie((30, 48, 48), conversion_gain=20, zero_level=100, activity=0, rng=1)
    found = decide(flat, betas=(0.5,), presets=("fast",), detector=lambda frames: [])
    assert "No active cells" in found.summary(0.5)
    assert math.isnan(found.stored(0.5).cell_f1)
    assert plot_decision(found).axes


def test_json_figure_and_page_hold_every_setting(decision: Decision, tmp_path: Path) -> None:
    """The JSON is valid, versioned and complete; figure and page are written."""
    document = json.loads(decision.save(tmp_path / "decision.json").read_text())
    assert document["version"] == 1
    assert [row["kind"] for row in document["changes"]] == ["stored", "noise", "stored", "noise", "halves"]
    assert document["changes"][-1]["beta"] is None
    figure = plot_decision(decision)
    assert [ax.get_title(loc="left") for ax in figure.axes][2] == "Cells found again"
    pytest.importorskip("jinja2")
    page = at.write_decision_report(decision, tmp_path / "decision.html").read_text(encoding="utf-8")
    assert page.count("<img") == 1
    assert "equal noise" in str(decision)
    assert "At β = 0.5" in page


def test_the_command_decides(movie: np.ndarray, tmp_path: Path) -> None:
    """`anscombe decide` prints the table and writes the page; bad options are explained."""
    typer_testing = pytest.importorskip("typer.testing")
    from anscombe_transform.cli.commands import app

    np.save(tmp_path / "movie.npy", movie)
    arguments = ["decide", str(tmp_path / "movie.npy"), "--betas", "0.5", "--presets", "fast", "--gain", "20"]
    arguments += ["--zero-level", "100", "--read-noise", "10", "-o", str(tmp_path / "page.html")]
    done = typer_testing.CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "  equal noise" in done.output
    assert (tmp_path / "page.html").exists()
    for option, value in (("--betas", "half"), ("--presets", "tiny"), ("-o", "page.txt")):
        bad = typer_testing.CliRunner().invoke(app, [*arguments, option, value])
        assert bad.exit_code == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"betas": ()}, "at least one"),
        ({"presets": ("tiny",)}, "presets must be among"),
        ({"max_frames": 3}, "max_frames must be"),
    ],
)
def test_parameters_are_checked(options: dict, message: str, movie: np.ndarray) -> None:
    """A parameter that breaks its rule is named; so are too few frames."""
    with pytest.raises(ValueError, match=message):
        decide(movie, **options)
    with pytest.raises(ValueError, match="at least 8 frames"):
        decide(movie[:5])
