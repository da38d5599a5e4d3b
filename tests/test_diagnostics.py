"""Plots, tested through their artists: the data of lines, the labels and the texts of legends."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

from anscombe_transform import (
    AnscombeTransformV2,
    AnscombeTransformV3,
    Sensitivity,
    UnrepresentableError,
    simulate_movie,
)
from anscombe_transform.calibration import Reason, TransferCurve
from anscombe_transform.diagnostics import (
    plot_code_histogram,
    plot_noise_transfer,
    plot_residuals,
    plot_stabilization,
    plot_summary,
)
from anscombe_transform.diagnostics.measurements.noise import neighbours

GAIN, ZERO = 90.0, 50.0
PLOTS_OF_MOVIES = [plot_stabilization, plot_residuals, plot_code_histogram]


@pytest.fixture
def codec():
    """A codec for the detector of all movies here."""
    return AnscombeTransformV2(ZERO, GAIN)


@pytest.fixture
def bright(seed):
    """A movie between 15 and 80 photons, where the transform stabilises fully; excess-free, read noise 30."""
    scene = np.linspace(15, 80, 96)[:, None] * np.ones(96)
    return simulate_movie(
        (48, 96, 96), conversion_gain=GAIN, zero_level=ZERO, read_noise=30, scene=scene, rng=seed
    )[0]


@pytest.fixture
def dim(seed):
    """A structured movie of four photons."""
    return simulate_movie((20, 64, 64), conversion_gain=GAIN, zero_level=ZERO, rng=seed)[0]


def measured(*, verdict="trustworthy", reasons=(), read_noise=0.0, **changes):
    """A calibration with a transfer curve that lies on its line."""
    known = Sensitivity.from_known(conversion_gain=GAIN, zero_level=ZERO, read_noise=read_noise)
    mean = np.linspace(100, 4000, 12)
    variance = GAIN * (mean - known.variance_intercept)
    curve = TransferCurve(mean, variance, 0.02 * variance, np.full(12, 1000.0))
    return dataclasses.replace(
        known,
        **{
            "verdict": verdict,
            "reasons": reasons,
            "transfer_curve": curve,
            "conversion_gain_interval": (88.0, 92.0),
            "zero_level_interval": (40.0, 65.0),
            **changes,
        },
    )


def legend_texts(ax):
    """The entries of a legend."""
    return [text.get_text() for text in ax.get_legend().get_texts()]


def labelled(ax, label):
    """The line that a label names."""
    (line,) = [line for line in ax.lines if line.get_label() == label]
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata())


def error_bars(ax, label):
    """Points and standard errors of the error bars that a label names."""
    (found,) = [c for c in ax.containers if isinstance(c, ErrorbarContainer) and c.get_label() == label]
    x, y = found.lines[0].get_data()
    segments = np.array(found.lines[2][0].get_segments())
    return np.asarray(x), np.asarray(y), (segments[:, 1, 1] - segments[:, 0, 1]) / 2


def steps(ax, label):
    """Values and edges of the histogram that a label names."""
    (found,) = [p for p in ax.patches if isinstance(p, StepPatch) and p.get_label() == label]
    values, edges, _ = found.get_data()
    return np.asarray(values), np.asarray(edges)


def after_and_before(movie, codec, **options):
    """Mean, variance and error of the codes, and of the signal."""
    ax = plot_stabilization(movie, codec, **options)
    right = ax.figure.axes[-1]
    return error_bars(right, "codes (right)"), error_bars(ax, "signal (left)")


# -- noise transfer ------------------------------------------------------------------------------------------


def test_the_line_has_the_gain_as_slope_and_meets_zero_at_the_intercept():
    """The fitted line is gain · (mean − variance intercept)."""
    sensitivity = measured(read_noise=45.0)
    ax = plot_noise_transfer(sensitivity)
    (line,) = [line for line in ax.lines if str(line.get_label()).startswith("gain")]
    x, y = line.get_data()
    assert np.allclose(y, GAIN * (x - sensitivity.variance_intercept))
    x, y = labelled(ax, "variance intercept 27.5")
    assert (x, y) == (sensitivity.variance_intercept, 0)


def test_the_bins_are_drawn_with_their_standard_errors():
    """Points and error bars are those of the transfer curve."""
    curve = measured().transfer_curve
    x, y, error = error_bars(plot_noise_transfer(measured()), "measured ± standard error")
    assert np.array_equal(x, curve.mean)
    assert np.array_equal(y, curve.variance)
    assert np.allclose(error, curve.standard_error)


def test_the_band_holds_the_line_and_widens_as_the_gain_is_uncertain():
    """Far from the centre, the band's edges rise with the ends of the gain's interval."""
    ax = plot_noise_transfer(measured())
    (band,) = [c for c in ax.collections if isinstance(c, PolyCollection)]
    x, y = band.get_paths()[0].vertices.T
    top = np.array([y[x == value].max() for value in np.unique(x)])
    bottom = np.array([y[x == value].min() for value in np.unique(x)])
    line = GAIN * (np.unique(x) - ZERO)
    assert (bottom <= line + 1e-6).all()
    assert (line <= top + 1e-6).all()
    half = (top - bottom) / 2
    assert half.argmin() not in (0, half.size - 1)
    assert np.diff(half)[-1] / np.diff(np.unique(x))[-1] == pytest.approx(2.0, rel=0.02)


def test_the_legend_tells_gain_zero_level_and_verdict_with_their_intervals():
    """The numbers of the calibration are in the legend, its title is the verdict."""
    ax = plot_noise_transfer(measured(read_noise=45.0))
    texts = legend_texts(ax)
    assert "gain 90.0 [88.0, 92.0] per photon" in texts
    assert "zero level 50 [40, 65]" in texts
    assert "read noise 45" in texts
    assert ax.get_legend().get_title().get_text() == "Verdict: trustworthy"
    assert ax.get_xlabel() == "Mean signal (signal units)"
    assert ax.get_ylabel() == "Noise variance (10³ signal units²)"


def test_a_refusal_says_why():
    """The verdict's first grave reason is in the legend's title; notes and lesser reasons are not."""
    reasons = (
        Reason("small", "of no weight", "note"),
        Reason("some", "be careful", "caution"),
        Reason("grave", "the frames were smoothed", "refusal"),
    )
    title = plot_noise_transfer(measured(verdict="refused", reasons=reasons)).get_legend().get_title()
    assert title.get_text() == "Verdict: refused\nThe frames were smoothed"
    title = plot_noise_transfer(measured(verdict="caution", reasons=reasons[:2])).get_legend().get_title()
    assert title.get_text() == "Verdict: caution\nBe careful"
    title = plot_noise_transfer(measured(reasons=reasons[:1])).get_legend().get_title()
    assert title.get_text() == "Verdict: trustworthy"


def test_a_refusal_without_figures_is_drawn():
    """A calibration in which nothing was measured has no line, no ticks, and its reason."""
    ax = plot_noise_transfer(Sensitivity.refused(Reason("one_frame", "there is one frame", "refusal")))
    assert not ax.lines
    assert len(ax.get_xticks()) == 0
    assert "There is one frame" in ax.get_legend().get_title().get_text()


def test_known_constants_are_a_line_without_points():
    """Constants from a data sheet have a line and no measured points."""
    ax = plot_noise_transfer(Sensitivity.from_known(conversion_gain=GAIN, zero_level=ZERO))
    assert "gain 90 per photon" in legend_texts(ax)
    assert not [text for text in legend_texts(ax) if "measured" in text]


# -- stabilisation -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.25, 0.5, 1.0])
def test_after_the_transform_the_variance_is_flat_at_one_over_beta_squared(bright, beta):
    """Where light is bright, the codes' variance is 1/β² plus the 1/12 of rounding, at every mean."""
    codec = AnscombeTransformV3(ZERO, GAIN, encoded_dtype="uint16", read_noise=30.0, beta=beta, zero_code=8)
    (x, y, error), _ = after_and_before(bright, codec)
    expected = 1 / beta**2 + 1 / 12
    # Anscombe's own residue at 15 photons, 1/(16 n²), and outliers cut at four sigma cost less than 0.3 %.
    assert x.size >= 8
    assert np.abs((y - expected) / error).max() < 4.5
    assert abs(y.mean() - expected) < 4 * np.sqrt((error**2).sum()) / y.size + 0.003 * expected


def test_before_the_transform_the_variance_is_the_detectors(bright, codec):
    """The points before lie on gain · (mean − zero level) + read noise²."""
    _, (x, y, error) = after_and_before(bright, codec)
    expected = GAIN * (x - ZERO) + 30**2
    assert np.abs((y - expected) / error).max() < 4.5
    assert np.ptp(x) > 0.8 * 65 * GAIN


def test_in_the_dark_the_points_follow_the_expected_line(seed):
    """Below one photon no transform stabilises counts; the dashed line says what remains."""
    scene = np.geomspace(0.15, 6, 96)[:, None] * np.ones(96)
    movie, _ = simulate_movie((64, 96, 96), conversion_gain=GAIN, zero_level=ZERO, scene=scene, rng=seed)
    ax = plot_stabilization(movie, AnscombeTransformV2(ZERO, GAIN))
    right = ax.figure.axes[-1]
    x, y, error = error_bars(right, "codes (right)")
    line_x, line_y = labelled(right, "expected")
    # A bin averages over a range of means, so that its point may leave the curved line by a little.
    tolerance = 4.5 * error + 0.08 * line_y.max()
    assert (np.abs(y - np.interp(x, line_x, line_y)) < tolerance).all()
    assert y[0] < 0.6 * 4


def test_a_wrong_gain_shows(bright):
    """With half the gain the codes' variance is twice 1/β²."""
    (_, y, _), _ = after_and_before(bright, AnscombeTransformV2(ZERO, GAIN / 2))
    assert np.median(y) == pytest.approx(8, rel=0.06)


def test_activity_does_not_count_as_noise(seed):
    """With transients in every cell, bins up to the brightest stay near 1/β²."""
    movie, _ = simulate_movie((160, 128, 128), mean_photons=10, activity=1, read_noise=30, rng=seed)
    codec = AnscombeTransformV3(ZERO, GAIN, read_noise=30.0, encoded_dtype="uint16", zero_code=8)
    (x, y, _), _ = after_and_before(movie, codec)
    bright = x > ZERO + 5 * GAIN
    assert bright.sum() >= 8
    assert np.median(y[bright]) == pytest.approx(4 + 1 / 12, rel=0.05)
    assert y[bright].max() < 1.3 * (4 + 1 / 12)


def test_a_pixels_own_noise_does_not_sort_it():
    """Brightness is that of the neighbours: an outlier changes all around it, not itself."""
    image = np.zeros((5, 6))
    image[2, 3] = 9.0
    around = neighbours(image)
    assert around[2, 3] == 0
    assert around[1:4, 2:5].sum() == 9


def test_two_and_three_frames_suffice(seed):
    """Noise is measured between two frames by their difference."""
    for frames in (2, 3):
        movie, _ = simulate_movie(
            (frames, 128, 128), mean_photons=30, read_noise=30, scene="uniform", rng=seed
        )
        codec = AnscombeTransformV3(ZERO, GAIN, read_noise=30.0, zero_code=8)
        (_, y, error), _ = after_and_before(movie, codec)
        assert abs(y.mean() - 4 - 1 / 12) < 4.5 * np.sqrt((error**2).sum()) / y.size + 0.02


def test_the_level_is_drawn_and_named(bright, codec):
    """A line at 1/β² across the axes, with its value in the legend."""
    ax = plot_stabilization(bright, codec)
    right = ax.figure.axes[-1]
    assert labelled(right, "1/β² = 4")[1] == pytest.approx([4, 4])
    assert right.get_ylabel() == "Code variance (codes²)"
    assert ax.get_ylabel().startswith("Signal variance (10³ signal units²")


# -- residuals -----------------------------------------------------------------------------------------------


def test_residuals_follow_the_uniform_law(bright, codec):
    """At a high gain the residual is uniform over ±β/2 σ, with mean 0 and variance β²/12."""
    ax = plot_residuals(bright, codec).axes[1]
    density, edges = steps(ax, "measured")
    centre = (edges[:-1] + edges[1:]) / 2
    mass = density * np.diff(edges)
    assert mass.sum() == pytest.approx(1)
    assert mass[np.abs(centre) < 0.25].sum() > 0.99
    assert abs(mass @ centre) < 0.01
    assert mass @ centre**2 == pytest.approx(0.25 / 12, rel=0.03)
    assert f"β/√12 = {0.5 / math.sqrt(12):.3f} σ" in legend_texts(ax)


def test_the_expected_law_accounts_for_integers(seed):
    """At gain 1 codes hold few integers: the law expected of the used codes matches the counts' spikes."""
    movie, _ = simulate_movie(
        (20, 64, 64), conversion_gain=1, zero_level=0, mean_photons=30, dtype="uint8", rng=seed
    )
    ax = plot_residuals(movie, AnscombeTransformV2(0, 1, decoded_dtype="uint8")).axes[1]
    density, edges = steps(ax, "measured")
    expected, _ = steps(ax, "expected of these bins")
    assert expected @ np.diff(edges) == pytest.approx(1, abs=0.01)
    assert np.abs(density - expected) @ np.diff(edges) < 0.15
    assert any("unchanged" in text for text in legend_texts(ax))


def test_residuals_are_white(bright, codec):
    """Correlations of the residuals stay within twice the band that holds 95 % of white ones."""
    ax = plot_residuals(bright, codec).axes[2]
    (band,) = [float(t.split("±")[-1]) for t in legend_texts(ax) if "95 %" in t]
    for label in ("next frames", "along y", "along x"):
        _, values = labelled(ax, label)
        assert np.abs(values).max() < 2.5 * band
        assert values.size == 8


def test_the_map_is_the_mean_residual_of_each_pixel(dim, codec):
    """The map equals the mean over time of (decoded − original) / σ(decoded), computed at once."""
    figure = plot_residuals(dim, codec)
    decoded = codec.decode(codec.encode(dim)).reshape(dim.shape).astype(float)
    residual = (decoded - dim) / codec.plan.curve.noise_std(decoded)
    assert np.allclose(figure.axes[0].images[0].get_array(), residual.mean(axis=0))
    assert f"mean {residual.mean():+.4f} σ".replace("-", "−") in legend_texts(figure.axes[1])


def test_clipped_values_are_told(dim):
    """A codec that clips by choice has the share of clipped values in the legend."""
    codec = AnscombeTransformV2(ZERO, GAIN, zero_code=0, out_of_range="clip")
    share = np.mean((dim < codec.plan.lowest) | (dim - 200 < codec.plan.lowest))
    texts = legend_texts(plot_residuals(dim - 200, codec).axes[1])
    assert share > 0
    assert any(text.endswith("% clipped") for text in texts)


def test_a_value_without_a_code_is_an_error(dim, codec):
    """The plots don't clip in silence."""
    for plot in PLOTS_OF_MOVIES:
        with pytest.raises(UnrepresentableError, match="has no code"):
            plot(dim - 100, codec)


# -- codes ---------------------------------------------------------------------------------------------------


def test_the_histogram_counts_every_code(dim, codec):
    """Shares add up to 1 and equal the counts of the codes."""
    ax = plot_code_histogram(dim, codec)
    (patch,) = [p for p in ax.patches if isinstance(p, StepPatch)]
    values, edges, _ = patch.get_data()
    codes = codec.encode(dim)
    assert edges[0] == codes.min() - 0.5
    assert edges[-1] == codes.max() + 0.5
    assert np.allclose(values, np.bincount(codes.ravel())[codes.min() :] / codes.size)
    p = values[values > 0]
    assert f"entropy {-(p * np.log2(p)).sum():.2f} bits/pixel" in legend_texts(ax)


@pytest.mark.parametrize("photons", [0.3, 1, 8, 60])
def test_the_entropy_of_the_noise_alone(seed, photons):
    """A uniform scene adds nothing to the entropy of its noise, which is 3.05 bits in bright light."""
    movie, _ = simulate_movie(
        (24, 96, 96),
        conversion_gain=60,
        zero_level=ZERO,
        read_noise=10,
        mean_photons=photons,
        scene="uniform",
        rng=seed,
    )
    codec = AnscombeTransformV3(ZERO, 60.0, read_noise=10.0, zero_code=8)
    texts = legend_texts(plot_code_histogram(movie, codec))
    (noise,) = [float(t.split()[2]) for t in texts if t.startswith("noise alone")]
    (total,) = [float(t.split()[1]) for t in texts if t.startswith("entropy")]
    assert total == pytest.approx(noise, abs=0.03)
    assert any("bright limit 3.05" in t for t in texts)
    if photons >= 8:
        assert noise == pytest.approx(0.5 * math.log2(2 * math.pi * math.e) + 1, abs=0.08)


def test_nan_is_counted_apart(dim):
    """The code of NaN is no level of light: it is told in the legend and not drawn."""
    movie = dim.astype("float32")
    movie[0] = np.nan
    codec = AnscombeTransformV3(ZERO, GAIN, decoded_dtype="float32", zero_code=4)
    ax = plot_code_histogram(movie, codec)
    assert "5 % NaN" in legend_texts(ax)
    assert ax.get_xlim()[1] < 200
    assert np.isfinite(plot_residuals(movie, codec).axes[0].images[0].get_array()).all()


# -- the page ------------------------------------------------------------------------------------------------


def test_the_summary_has_everything_on_one_page(dim, codec):
    """Eight plots with letters, the sizes as bars, calibration and codec above."""
    figure = plot_summary(dim, measured(), codec, stored_bytes=40_960)
    titles = [ax.get_title(loc="left") for ax in figure.axes if ax.get_title(loc="left")]
    assert [title[0] for title in titles] == list("abcdefgh")
    (sizes,) = [ax for ax in figure.axes if ax.get_title(loc="left").endswith("Size")]
    names = [label.get_text() for label in sizes.get_yticklabels()]
    bits = dict(zip(names, [bar.get_width() for bar in sizes.patches], strict=True))
    assert bits["raw, int16"] == 16
    assert bits["codes, uint8"] == 8
    assert bits["stored"] == 40_960 * 8 / dim.size
    assert bits["noise alone"] < bits["entropy of codes"] < 8
    assert "90.0 [88.0, 92.0] signal units/photon" in figure.get_suptitle()
    assert "20 × 64 × 64 int16" in figure.get_suptitle()


def test_the_promise_above_the_summary_holds(dim, codec):
    """No residual of the movie exceeds the bound that the page states."""
    title = plot_summary(dim, measured(), codec).get_suptitle()
    bound = float(title.split("original| ≤ ")[1].split(" σ")[0])
    decoded = codec.decode(codec.encode(dim)).reshape(dim.shape).astype(float)
    residual = np.abs(decoded - dim) / codec.plan.curve.noise_std(decoded)
    assert residual.max() <= bound
    assert bound < 0.35


def test_without_a_codec_the_summary_takes_the_calibrations(dim):
    """The codec is that of the calibration for the movie's values, negative ones too."""
    title = plot_summary(dim - 100, dataclasses.replace(measured(), zero_level=ZERO - 100)).get_suptitle()
    assert "anscombe" in title


def test_a_refused_calibration_has_a_page_without_codec(dim):
    """Image, transfer curve and the reason: nothing is transformed with constants that were refused."""
    reason = Reason("no_slope", "variance does not grow with the mean", "refusal")
    figure = plot_summary(dim, measured(verdict="refused", reasons=(reason,)))
    titles = [ax.get_title(loc="left") for ax in figure.axes if ax.get_title(loc="left")]
    assert titles == ["a  Mean of 20 frames", "b  Photon transfer curve"]
    assert "refused" in figure.get_suptitle()


# -- movies --------------------------------------------------------------------------------------------------


class Endless:
    """A long recording that is made when read, and remembers which frames were."""

    shape = (100_000, 64, 64)
    dtype = np.dtype("int16")

    def __init__(self, seed):
        self.seed, self.reads = seed, []

    def __getitem__(self, key):
        first, last, _ = key[0].indices(self.shape[0])
        self.reads.append((first, last))
        rng = np.random.default_rng([self.seed, first])
        photons = rng.poisson(20, (last - first, 64, 64))
        return (GAIN * photons + ZERO).astype("int16")[(slice(None), *key[1:])]


@pytest.mark.parametrize("plot", PLOTS_OF_MOVIES)
def test_a_long_movie_is_sampled_evenly(plot, codec, seed):
    """At most `max_frames` are read, a few at a time, from the beginning to the end of the movie."""
    movie = Endless(seed)
    plot(movie, codec, max_frames=160)
    first = np.array([a for a, _ in movie.reads])
    count = np.array([b - a for a, b in movie.reads])
    assert 140 <= count.sum() <= 160
    assert count.max() <= 16
    assert first.min() < 10_000
    assert first.max() > 90_000
    assert np.ptp(np.diff(first)) <= 2


def test_a_frame_is_read_once_for_the_summary(codec, seed):
    """All plots of the page share one pass over the movie."""
    movie = Endless(seed)
    plot_summary(movie, measured(), codec, max_frames=32)
    assert len(movie.reads) == len(set(movie.reads)) == 2


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 3), (5, 1, 200)])
def test_tiny_movies_are_drawn(shape, codec, seed):
    """The page works down to a single pixel in a single frame."""
    movie, _ = simulate_movie(shape, conversion_gain=GAIN, zero_level=ZERO, rng=seed)
    figure = plot_summary(movie, measured(), codec)
    assert sum(bool(ax.get_title(loc="left")) for ax in figure.axes) == 8


def test_a_constant_movie_is_drawn(codec):
    """Without noise the variance is zero, before and after."""
    movie = np.full((6, 16, 16), 500, "int16")
    plot_summary(movie, measured(), codec)
    (_, after, _), (_, before, _) = after_and_before(movie, codec)
    assert (after == 0).all()
    assert (before == 0).all()


# -- house rules ---------------------------------------------------------------------------------------------


def test_given_axes_and_figures_are_used_and_returned(dim, codec):
    """Nothing is drawn elsewhere than where the caller said."""
    figure = Figure(figsize=(12, 4))
    axes = figure.subplots(1, 3)
    assert plot_noise_transfer(measured(), ax=axes[0]) is axes[0]
    assert plot_stabilization(dim, codec, ax=axes[1]) is axes[1]
    assert plot_code_histogram(dim, codec, ax=axes[2]) is axes[2]
    assert len(figure.axes) == 4
    for plot in (
        lambda f: plot_residuals(dim, codec, figure=f),
        lambda f: plot_summary(dim, measured(), codec, figure=f),
    ):
        figure = Figure()
        assert plot(figure) is figure
        assert figure.axes


def test_text_lies_beside_the_axes_and_inside_the_figure(bright, codec):
    """A legend covers no axes, axis label or other legend, and nothing of it is cut off."""
    grave = Reason("grave", "the frames were smoothed, resampled or denoised, " * 3, "refusal")
    figures = (
        plot_noise_transfer(measured(verdict="refused", reasons=(grave,), read_noise=45.0)).figure,
        plot_stabilization(bright, codec).figure,
        plot_code_histogram(bright, codec).figure,
        plot_residuals(bright, codec),
        plot_summary(bright, measured(), codec, stored_bytes=10**5),
    )
    for figure in figures:
        figure.draw_without_rendering()
        legends = [ax.get_legend().get_window_extent() for ax in figure.axes if ax.get_legend()]
        others = [ax.get_window_extent() for ax in figure.axes]
        others += [ax.xaxis.label.get_window_extent() for ax in figure.axes if ax.xaxis.label.get_text()]
        whole = figure.bbox.padded(1)
        for n, legend in enumerate(legends):
            assert not any(legend.overlaps(box) for box in others + legends[:n])
            assert whole.contains(legend.x0, legend.y0)
            assert whole.contains(legend.x1, legend.y1)


def test_the_callers_style_wins(bright, codec):
    """RcParams that the caller set are kept, in single plots and on pages; others have our look."""
    with matplotlib.rc_context({"font.size": 5.0, "axes.titleweight": "light", "figure.figsize": (7, 5)}):
        ax = plot_noise_transfer(measured())
        page = plot_residuals(bright, codec)
        left = matplotlib.rcParams["axes.spines.top"]
    assert tuple(ax.figure.get_size_inches()) == (7, 5)
    for axes in (ax, page.axes[1]):
        assert axes.xaxis.label.get_size() == axes.get_xticklabels()[0].get_size() == 5
        assert axes.title.get_text() == ""
        assert axes._left_title.get_weight() == "light"
    assert not ax.spines["top"].get_visible()
    assert left
    own = Figure(layout="constrained").add_subplot()
    plot_noise_transfer(measured(), ax=own)
    assert own.spines["top"].get_visible()
    assert own.xaxis.label.get_size() == matplotlib.rcParams["font.size"]


def test_long_names_are_shortened_and_one_frame_is_one(tmp_path, dim):
    """The name of a file fits the page of its summary, both ends of it kept."""
    path = tmp_path / f"first{'x' * 200}last.npy"
    np.save(path, dim[:1])
    figure = plot_summary(path, measured())
    name = figure.get_suptitle().partition(" · ")[0]
    assert name.startswith("first")
    assert name.endswith("last.npy")
    assert len(name) < 50
    assert figure.axes[0].get_title(loc="left") == "a  Mean of 1 frame"


def test_plots_need_no_pyplot():
    """A plot is made without pyplot, so without a backend or any global state."""
    code = (
        "import sys, io; from anscombe_transform import Sensitivity; "
        "from anscombe_transform.diagnostics import plot_noise_transfer; "
        "ax = plot_noise_transfer(Sensitivity.from_known(conversion_gain=2, zero_level=1)); "
        "ax.figure.savefig(io.BytesIO()); sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("plot", PLOTS_OF_MOVIES)
def test_what_is_no_movie_or_no_codec_is_refused(plot, dim, codec):
    """A single image, an empty movie, a foreign codec and a senseless number of frames are errors."""
    with pytest.raises(ValueError, match="single image"):
        plot(dim[0], codec)
    with pytest.raises(ValueError, match="no values"):
        plot(dim[:0], codec)
    with pytest.raises(TypeError, match="codec must be"):
        plot(dim, object())
    for frames in (0, 2.5, True):
        with pytest.raises(ValueError, match="max_frames must be"):
            plot(dim, codec, max_frames=frames)


def test_other_mistakes_are_named(dim, codec):
    """One frame has no noise to measure; a calibration and a size are what they are."""
    with pytest.raises(ValueError, match="two consecutive frames"):
        plot_stabilization(dim[:1], codec)
    with pytest.raises(TypeError, match="compute_sensitivity"):
        plot_noise_transfer({"conversion_gain": 3})
    with pytest.raises(ValueError, match="stored_bytes must be"):
        plot_summary(dim, measured(), codec, stored_bytes=0)


def test_a_real_two_photon_movie_is_stabilised(recordings):
    """Of the recording `tp_anscombe`, bins up to 1000 signal units are within 15 % of 1/β².

    The constants are an independent analyst's, good to 5 %; activity adds as much to the frames' differences.
    """
    with np.load(recordings / "tp_anscombe" / "data1.npz") as file:
        movie = file["data"]
    codec = AnscombeTransformV3(54, 91.0, encoded_dtype="uint16", zero_code=8)
    (x, y, _), _ = after_and_before(movie, codec, max_frames=96)
    linear = (x > 250) & (x < 1000)
    assert linear.sum() >= 4
    assert np.abs(y[linear] / (4 + 1 / 12) - 1).max() < 0.15
