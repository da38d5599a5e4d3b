"""Make every picture of the README and the documentation, by the package itself.

    python docs/make_figures.py
    python docs/make_figures.py --recordings DIR

The first writes docs/figures/*.png from simulated movies in about a minute; these are seeded, so that
the pictures stay the same. The second writes docs/figures/recording_*.png from the real recordings that the
tests use; who does not have them leaves these pictures as they are.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from anscombe_transform import (
    AnscombeTransformV3,
    Sensitivity,
    compress,
    compute_sensitivity,
    compute_sensitivity_from_flats,
    decide,
    open_movie,
    simulate_movie,
)
from anscombe_transform.diagnostics import (
    plot_calibration_report,
    plot_code_histogram,
    plot_decision,
    plot_noise_transfer,
    plot_pixel_maps,
    plot_residuals,
    plot_stabilization,
    plot_summary,
)
from anscombe_transform.diagnostics.plots.style import (
    BLUE,
    INK,
    SKY,
    VERMILION,
    add_legend,
    draw_map,
    dress,
    with_look,
)

FIGURES = Path(__file__).parent / "figures"
LARGEST = 200_000


def two_photon() -> np.ndarray:
    """A calcium movie of a photomultiplier: about eight photons, pulses of varying height, active cells."""
    movie, _ = simulate_movie(
        (200, 256, 256),
        conversion_gain=70,
        zero_level=50,
        read_noise=15,
        mean_photons=8,
        excess_noise=1.3,
        activity=0.2,
        rng=3,
    )
    return movie


def camera() -> np.ndarray:
    """An sCMOS movie: dim, gain 2.2, offset 100."""
    movie, _ = simulate_movie(
        (120, 256, 256),
        conversion_gain=2.2,
        zero_level=100,
        read_noise=3.5,
        mean_photons=40,
        dtype="uint16",
        rng=4,
    )
    return movie


def counts() -> np.ndarray:
    """Photon counts: one signal unit is one photon."""
    movie, _ = simulate_movie(
        (120, 256, 256), conversion_gain=1, zero_level=0, mean_photons=3, dtype="uint8", rng=5
    )
    return movie


def moving() -> np.ndarray:
    """A field that jitters, with active cells."""
    return simulate_movie((160, 128, 128), jitter=1.0, activity=0.2, rng=1)[0]


def uneven_camera() -> tuple[np.ndarray, np.ndarray]:
    """A movie and dark frames of a camera whose pixels and columns differ, with hot ones among them."""
    rng = np.random.default_rng(7)
    shape = (96, 96)
    offset = 100 + 2 * rng.standard_normal(shape) + 2 * rng.standard_normal(shape[1])
    read = 3.5 * np.exp(0.25 * rng.standard_normal(shape))
    gain = 2.2 * (1 + 0.05 * rng.standard_normal(shape) + 0.05 * rng.standard_normal(shape[1]))
    hot = np.where(rng.random(shape) < 0.001, 800.0, 0.0)
    scene = simulate_movie((2, *shape), mean_photons=150, rng=7)[1].photons

    def frames(count: int, light: float) -> np.ndarray:
        photons = rng.poisson(light * scene, (count, *shape))
        noise = (read + 0.3 * hot) * rng.standard_normal(photons.shape)
        return np.rint(offset + hot + gain * photons + noise).astype("int16")

    return frames(512, 1.0), frames(100, 0.0)


def smoothed() -> np.ndarray:
    """What a denoised recording looks like: neighbouring pixels share their noise."""
    from scipy.ndimage import gaussian_filter

    movie, _ = simulate_movie((120, 256, 256), conversion_gain=70, read_noise=15, rng=6)
    return np.rint(gaussian_filter(movie.astype("float32"), (0, 1, 1))).astype("int16")


def save(figure: Figure, name: str) -> None:
    """Write a figure in 256 colours: a third of the bytes, and nothing lost to the eye."""
    path = FIGURES / f"{name}.png"
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    image = Image.open(buffer).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    image.save(path, optimize=True)
    size = path.stat().st_size
    if size > LARGEST:
        raise SystemExit(f"{path} has {size} bytes, more than {LARGEST}")
    print(f"{path.relative_to(FIGURES.parent.parent)}  {size / 1000:.0f} kB")


def wrong_gain(sensitivity: Sensitivity, movie: np.ndarray) -> AnscombeTransformV3:
    """A codec for half the gain that was found."""
    return Sensitivity.from_known(
        conversion_gain=sensitivity.conversion_gain / 2, zero_level=sensitivity.zero_level
    ).codec(sample=movie)


def noise_curve(movie: np.ndarray, brightness: np.ndarray, groups: int = 24) -> np.ndarray:
    """Noise variance of pixels in groups of brightness, from differences of consecutive frames."""
    variance = np.diff(movie.astype("float64"), axis=0).var(axis=0) / 2
    order = np.array_split(np.argsort(brightness, axis=None), groups)
    return np.array([np.median(variance.ravel()[pixels]) for pixels in order])


@with_look
def draw_hero(movie: np.ndarray, sensitivity: Sensitivity) -> Figure:
    """One frame before and after, their difference, and the noise of both and of what storing adds."""
    with tempfile.TemporaryDirectory() as folder:
        result = compress(movie, f"{folder}/movie.zarr", sensitivity=sensitivity, preset="compact")
        stored = open_movie(f"{folder}/movie.zarr")[:]
    n = len(movie) // 2
    low, high = np.quantile(movie[n], (0.001, 0.999))
    reach = (high - low) / 20
    change = stored - movie.astype("float64")
    panels: tuple[tuple[str, np.ndarray, tuple[float, float], str], ...] = (
        (f"One frame of a {movie.nbytes / 1e6:.0f} MB movie", movie[n], (low, high), "gray"),
        (
            f"The same, stored {movie.nbytes / result.stored_bytes:.1f} times smaller",
            stored[n],
            (low, high),
            "gray",
        ),
        ("Difference, contrast × 10", change[n], (-reach, reach), "RdBu_r"),
    )
    figure = Figure(figsize=(7, 6.4), layout="constrained")
    *images, ax = figure.subplots(2, 2).ravel()
    for image, (title, values, limits, cmap) in zip(images, panels, strict=True):
        draw_map(image, values, "signal units", limits, cmap=cmap)
        dress(image, title)
        image.set_xticks([])
        image.set_yticks([])
    brightness = movie.mean(axis=0)
    signal = np.array([group.mean() for group in np.array_split(np.sort(brightness, axis=None), 24)])
    curves = (
        (movie, "o", INK, "recorded"),
        (stored, "s", SKY, "stored"),
        (change, "^", VERMILION, "difference"),
    )
    for values, marker, colour, label in curves:
        size, face = (7, "none") if marker == "o" else (3.5, colour)
        ax.plot(signal, noise_curve(values, brightness), marker, ms=size, mfc=face, mec=colour, label=label)
    line = sensitivity.conversion_gain * (signal - sensitivity.variance_intercept)
    ax.plot(signal, line, color=BLUE, zorder=1, label="calibrated photon noise")
    ax.set_yscale("log")
    dress(ax, "Noise of the pixels", "Mean signal (signal units)", "Variance (signal units²)")
    add_legend(ax, ax.get_legend_handles_labels()[0])
    return figure


def draw_recordings(folder: Path) -> None:
    """Pictures of a two-photon recording and of a camera under an integrating sphere."""
    movie = np.load(folder / "tp_anscombe" / "data1.npz")["data"]
    sensitivity = compute_sensitivity(movie)
    print(sensitivity)
    save(draw_hero(movie, sensitivity), "hero")
    save(plot_calibration_report(sensitivity), "recording_two_photon")
    save(plot_summary(movie, sensitivity, sensitivity.codec(sample=movie)), "recording_two_photon_summary")
    decision = decide(movie, sensitivity=sensitivity)
    print(decision, decision.summary(0.5), sep="\n")
    save(plot_decision(decision), "recording_decision")
    light, dark = (folder / "scmos_zyla" / f"{name}_crop_u16.tif" for name in ("light", "dark"))
    flats = compute_sensitivity_from_flats([light], dark=dark)
    print(flats)
    save(plot_calibration_report(flats), "recording_flat_fields")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--recordings", type=Path, metavar="DIR", help="draw only the pictures of these")
    recordings = parser.parse_args().recordings
    FIGURES.mkdir(exist_ok=True)
    if recordings is not None:
        draw_recordings(recordings)
        return
    movie = two_photon()
    sensitivity = compute_sensitivity(movie)
    codec = sensitivity.codec(sample=movie)
    save(plot_summary(movie, sensitivity, codec), "summary")
    save(plot_noise_transfer(sensitivity).figure, "noise_transfer")
    save(plot_stabilization(movie, codec).figure, "stabilization")
    save(plot_stabilization(movie, wrong_gain(sensitivity, movie)).figure, "stabilization_wrong_gain")
    save(plot_residuals(movie, codec), "residuals")
    save(plot_code_histogram(movie, codec).figure, "code_histogram")

    for name, other in (("camera", camera()), ("counts", counts())):
        calibrated = compute_sensitivity(other, on_refusal="return")
        save(plot_summary(other, calibrated, calibrated.codec(sample=other)), f"summary_{name}")
    refused = compute_sensitivity(smoothed(), on_refusal="return")
    save(plot_noise_transfer(refused).figure, "refused")
    save(plot_calibration_report(refused), "calibration_report_refused")
    save(plot_calibration_report(moving()), "calibration_report")
    lit, dark = uneven_camera()
    save(plot_pixel_maps(compute_sensitivity(lit, dark=dark, per_pixel=True)), "pixel_maps")


if __name__ == "__main__":
    main()
