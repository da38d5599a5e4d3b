"""Calibration, transform and sizes of a movie on one page."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anscombe_transform.codec.transform.curve import check_sensitivity
from anscombe_transform.diagnostics.measurements.frames import (
    MeanImage,
    check_codec,
    chosen_plan,
    runs,
)
from anscombe_transform.diagnostics.measurements.noise import NoiseRows
from anscombe_transform.diagnostics.plots.codes import CodeUse, draw_code_histogram
from anscombe_transform.diagnostics.plots.residuals import (
    Residuals,
    draw_correlation,
    draw_residual_histogram,
    draw_residual_map,
)
from anscombe_transform.diagnostics.plots.stabilization import draw_stabilization
from anscombe_transform.diagnostics.plots.style import (
    BLUE,
    GREY,
    INK,
    SKY,
    draw_map,
    dress,
    new_figure,
    number_panels,
    say_instead,
    with_look,
)
from anscombe_transform.diagnostics.plots.text import (
    in_bytes,
    in_digits,
    in_frames,
    shortened,
    signed,
    with_interval,
)
from anscombe_transform.diagnostics.plots.transfer import draw_noise_transfer
from anscombe_transform.movies import open_movie

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from anscombe_transform.calibration import Sensitivity
    from anscombe_transform.codec.transform.plan import Plan
    from anscombe_transform.diagnostics.measurements.frames import Source
    from anscombe_transform.movies import Movie


@with_look
def plot_summary(
    movie: Source,
    sensitivity: Sensitivity,
    codec: Any = None,
    *,
    figure: Figure | None = None,
    stored_bytes: int | None = None,
    max_frames: int | None = None,
    partial: bool = False,
) -> Figure:
    """Plot calibration, transform and sizes of a movie on one page.

    Parameters
    ----------
    movie : array_like or path, shape (time, y, x)
        Anything that `open_movie` takes.
    sensitivity : Sensitivity
        The movie's calibration.
    codec : AnscombeTransformV2 or AnscombeTransformV3, optional
        The transform; by default ``sensitivity.codec(sample=…)`` for the values that are read. With a refused
        calibration and no codec the page shows the calibration alone.
    figure : matplotlib.figure.Figure, optional
        Where to draw; by default a new one of 11 × 9.6 inches.
    stored_bytes : int, optional
        Size of the movie as it was stored, for the comparison of sizes.
    max_frames : int, optional
        Most frames to read, in runs spread evenly over the movie; by default as many as give about 8
        million values.
    partial : bool, optional
        Accept a recording that isn't whole, see `open_movie`.

    Returns
    -------
    matplotlib.figure.Figure
        Mean image, noise transfer, stabilisation, the three plots of the residuals, use of codes, sizes.

    Raises
    ------
    ValueError
        If the movie is not one, or `stored_bytes` is not positive.
    TypeError
        If `sensitivity` or `codec` is not one of ours.
    UnrepresentableError
        If the codec has no code for a value.

    Examples
    --------
    >>> from anscombe_transform import AnscombeTransformV2, Sensitivity, simulate_movie
    >>> movie, truth = simulate_movie((20, 64, 64), rng=0)
    >>> known = Sensitivity.from_known(conversion_gain=truth.conversion_gain, zero_level=truth.zero_level)
    >>> codec = AnscombeTransformV2(truth.zero_level, truth.conversion_gain)
    >>> figure = plot_summary(movie, known, codec, stored_bytes=40_000)
    >>> figure.axes[0].get_title(loc="left")
    'a  Mean of 20 frames'
    """
    check_sensitivity(sensitivity, "plot_summary(movie, sensitivity)")
    if stored_bytes is not None and not stored_bytes > 0:
        raise ValueError(f"stored_bytes must be the stored size in bytes, > 0, got {stored_bytes!r}")
    plan = None if codec is None else check_codec(codec)
    with open_movie(movie, partial=partial) as source:
        if codec is None and sensitivity.verdict != "refused":
            plan = chosen_plan(source, sensitivity, max_frames)
        mean = MeanImage(source.shape)
        tools = None if plan is None else (NoiseRows(plan), Residuals(plan, source.shape), CodeUse(plan))
        for block in runs(source, max_frames):
            mean.update(block)
            if plan is None or tools is None:
                continue
            codes = plan.encode(block)
            for tool in tools:
                tool.update(block, codes)
        figure = new_figure(figure, (11, 9.6) if plan else (8.2, 4.2))
        if plan is None or tools is None:
            axes = list(figure.subplots(1, 2, width_ratios=(1, 1.4)))
            _draw_mean_image(axes[0], mean)
            draw_noise_transfer(axes[1], sensitivity)
        else:
            noise, residuals, use = tools
            grid = figure.add_gridspec(3, 3, width_ratios=(1, 1.2, 1.2))
            cells = [*(grid[i // 3, i % 3] for i in range(7)), grid[2, 1:]]
            axes = [figure.add_subplot(cell) for cell in cells]
            _draw_mean_image(axes[0], mean)
            draw_noise_transfer(axes[1], sensitivity, brief=True)
            if noise.empty:
                say_instead(axes[2], "Noise before and after", "Measured between\nconsecutive frames")
            else:
                draw_stabilization(axes[2], noise.binned(), plan)
            draw_residual_map(axes[3], residuals)
            draw_residual_histogram(axes[4], residuals)
            draw_correlation(axes[5], residuals)
            _draw_sizes(axes[6], source, plan, use, stored_bytes)
            draw_code_histogram(axes[7], use)
        number_panels(axes)
        figure.suptitle(_headline(source, sensitivity, tools), x=0.012, ha="left")
    return figure


def _draw_mean_image(ax: Axes, mean: MeanImage) -> None:
    image = mean.image
    low, high = 0.0, 1.0
    if np.isfinite(image).any():
        low, high = np.nanquantile(image, [0.001, 0.999]).tolist()
    draw_map(ax, image, "signal units", (low, high if high > low else low + 1), cmap="gray")
    dress(ax, f"Mean of {in_frames(mean.frames)}", "x (pixels)", "y (pixels)")


def _draw_sizes(ax: Axes, movie: Movie, plan: Plan, use: CodeUse, stored_bytes: int | None) -> None:
    values = movie.size
    raw = 8.0 * movie.dtype.itemsize
    sizes = [
        (f"raw, {movie.dtype}", raw, GREY),
        (f"codes, {plan.encoded_dtype}", 8.0 * plan.encoded_dtype.itemsize, SKY),
        ("entropy of codes", use.entropy, SKY),
    ]
    if stored_bytes is not None:
        sizes.append(("stored", 8.0 * stored_bytes / values, BLUE))
    sizes.append(("noise alone", use.noise_entropy, SKY))
    names, bits, colours = zip(*sizes, strict=True)
    place = np.arange(len(sizes))[::-1]
    ax.barh(place, bits, height=0.62, color=colours)
    for y, b, colour in zip(place, bits, colours, strict=True):
        text = in_bytes(b * values / 8) + ("" if b == raw or b < 0.005 else f"  {raw / b:.2f}×")
        inside = b > 0.6 * raw
        ink = "white" if inside and colour != SKY else INK
        ax.annotate(
            text, (b, y), xytext=(-4 if inside else 4, 0), textcoords="offset points", va="center",
            ha="right" if inside else "left", color=ink,
        )  # fmt: skip
    dress(ax, "Size", "Bits per pixel")
    ax.set_yticks(place, names)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_xlim(0, 1.02 * max(bits))


def _headline(
    movie: Movie, sensitivity: Sensitivity, tools: tuple[NoiseRows, Residuals, CodeUse] | None
) -> str:
    """Two lines above the summary: the movie and its calibration, the codec and its promise."""
    recording = " × ".join(str(n) for n in movie.shape) + f" {movie.dtype}"
    path, _, key = movie.source.partition("::")
    if Path(path).exists():
        recording = " · ".join([shortened(Path(path).name, 48), *[shortened(key, 20)] * bool(key), recording])
    gain = with_interval(sensitivity.conversion_gain, sensitivity.conversion_gain_interval)
    zero = with_interval(sensitivity.zero_level, sensitivity.zero_level_interval)
    gain += " signal units/photon" * math.isfinite(sensitivity.conversion_gain)
    calibration = f"gain {gain} · zero level {zero} · {sensitivity.verdict}"
    if tools is None:
        return f"{recording}\n{calibration}"
    residuals = tools[1]
    plan = residuals.plan
    c = plan.configuration
    parts = [c.format, f"gain {c.conversion_gain:.4g}", signed(f"zero level {c.zero_level:.4g}")]
    if c.read_noise:
        parts.append(f"read noise {c.read_noise:.3g}")
    parts += [f"β = {c.beta:g}", f"holds {in_digits(plan.lowest)} to {in_digits(plan.highest)}"]
    unless = " unless clipped" if c.out_of_range == "clip" else ""
    parts.append(f"|decoded − original| ≤ {math.ceil(100 * residuals.bound) / 100:g} σ{unless}")
    return f"{recording} · {calibration}\n{' · '.join(parts)}"
