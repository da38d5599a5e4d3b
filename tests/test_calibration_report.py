"""The plots of what a calibration rests on: what was left out, whiteness, maps, the page of all."""

from __future__ import annotations

import json

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter

from anscombe_transform import (
    Sensitivity,
    compute_sensitivity,
    compute_sensitivity_from_flats,
    simulate_movie,
)
from anscombe_transform.diagnostics import plot_calibration_report, plot_noise_transfer


@pytest.fixture
def moving(seed):
    """A movie in which the field jitters and cells are active."""
    return simulate_movie((96, 96, 96), jitter=1.0, activity=0.2, rng=seed)[0]


def legend_texts(ax):
    """Texts of the legend."""
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_what_was_left_out_is_drawn_with_its_reason_and_share(moving):
    """Rejected bins are grey, and the legend says why, how many and which filter told the noise."""
    found = compute_sensitivity(moving)
    assert found.rejected
    assert {part.reason for part in found.rejected} <= {"not noise alone", "beyond the straight part"}
    assert 0.01 < sum(part.share for part in found.rejected) < 0.9
    ax = plot_noise_transfer(found)
    texts = legend_texts(ax)
    assert any(
        text.startswith(f"rejected, {found.rejected[0].reason}: ") and text[-2:] == " %" for text in texts
    )
    assert "noise from differences in time" in ax.get_legend().get_title().get_text()
    grey = [line for line in ax.lines if line.get_color() == "#6E6E6E" and line.get_marker() in "xv+^"]
    drawn = sum(len(line.get_xdata()) for line in grey)
    assert drawn == sum(part.curve.mean.size for part in found.rejected)


def test_cut_off_rows_have_their_own_reason(seed):
    """A movie clipped at the top shows the rows that reach it as cut off."""
    movie, _ = simulate_movie((64, 96, 96), mean_photons=100, rng=seed)
    found = compute_sensitivity(np.minimum(movie, int(np.quantile(movie, 0.8))), on_refusal="return")
    assert found.rejected[0].reason == "cut off"
    assert 0.1 < found.rejected[0].share < 0.95


def test_what_was_left_out_survives_json(moving):
    """`rejected` is stored; `evidence`, which is maps, is not."""
    found = compute_sensitivity(moving)
    again = Sensitivity.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again.rejected == found.rejected
    assert found.evidence is not None
    assert again.evidence is None


def test_the_evidence_shows_where_the_noise_is_not_that_of_the_line(seed):
    """A corner that flickers has tiles of more noise, which are not used."""
    movie, _ = simulate_movie((64, 96, 96), rng=seed)
    blink = np.random.default_rng(seed).normal(0, 800, (64, 24, 24))
    movie[:, 1:25, 1:25] += blink.astype("int16")
    evidence = compute_sensitivity(movie).evidence
    assert evidence.variance_ratio.shape == evidence.used.shape == (11, 11)
    assert np.median(evidence.variance_ratio[:3, :3]) > 2 > evidence.variance_ratio[4:, 4:].max()
    assert evidence.used[:3, :3].mean() < 0.2
    assert evidence.used[4:, 4:].mean() > 0.9


@pytest.mark.parametrize("kind", ["trustworthy", "refused", "nothing", "known", "stored", "flats"])
def test_the_page_is_drawn_for_every_verdict(seed, kind):
    """A movie gives seven panels; what has no maps gives three, and a stored calibration says why."""
    movie, _ = simulate_movie((64, 96, 96), rng=seed)
    source = {
        "trustworthy": lambda: movie,
        "refused": lambda: gaussian_filter(movie.astype("float32"), (0, 1, 1)),
        "nothing": lambda: np.zeros((20, 32, 32)),
        "known": lambda: Sensitivity.from_known(conversion_gain=2, zero_level=100),
        "flats": lambda: compute_sensitivity_from_flats(movie, on_refusal="return"),
        "stored": lambda: Sensitivity.from_dict(compute_sensitivity(movie).to_dict()),
    }[kind]()
    figure = plot_calibration_report(source, figure=Figure(figsize=(12, 7)))
    figure.canvas.draw()
    whole = kind in ("trustworthy", "refused")
    letters = [ax.get_title(loc="left")[0] for ax in figure.axes if ax.get_title(loc="left")]
    assert "".join(letters) == ("abcdefg" if whole else "abc")
    verdict = " ".join(text.get_text() for text in figure.axes[0].texts)
    if kind == "refused":
        assert "refusal: neighbouring pixels share noise" in verdict
    assert ("give the movie" in verdict) == (kind == "stored")


def test_the_page_shows_maps_of_pixels_where_they_were_made(seed):
    """With dark frames a third row shows all three and hot pixels; without, the gain and what is missing."""
    rng = np.random.default_rng(seed)
    movie, _ = simulate_movie((64, 64, 64), zero_level=100, read_noise=5, rng=seed)
    dark = rng.normal(100, 5, (16, 64, 64)).round().astype("int16")
    dark[:, 20, 30] += 400
    movie[:, 20, 30] += 400
    for given in (dark, None):
        found = compute_sensitivity(movie, dark=given, per_pixel=True, on_refusal="return")
        figure = plot_calibration_report(found)
        figure.canvas.draw()
        titled = [ax for ax in figure.axes if ax.get_title(loc="left")]
        titles = [ax.get_title(loc="left") for ax in titled]
        assert titles[7:] == ["h  Zero level", "i  Read noise", "j  Gain"]
        assert figure.get_size_inches()[1] == pytest.approx(11.4)
        if given is None:
            assert "Give dark frames" in titled[7].texts[0].get_text()
        else:
            np.testing.assert_array_equal(titled[7].images[0].get_array(), found.maps.offset)
            assert "hot" in titled[7].get_title(loc="right")
        np.testing.assert_array_equal(titled[9].images[0].get_array(), found.maps.gain)
