"""Denoise a low-light movie with and without stabilising its noise first, and compare both with the truth.

Needs scikit-image. Prints the error of each way, averaged over frames, and writes ``denoise.png``.
"""

from __future__ import annotations

import sys

import numpy as np
from skimage.restoration import denoise_nl_means

import anscombe_transform as at

GAIN, ZERO, READ_NOISE = 3.0, 100.0, 2.0


def scene(size: int = 128) -> np.ndarray:
    """Photons per pixel of a field of cells: 0.5 in the background, up to 25 in the brightest."""
    y, x = np.mgrid[:size, :size]
    rng = np.random.default_rng(1)
    photons = np.full((size, size), 0.5)
    for brightness in np.geomspace(1, 25, 40):
        cy, cx, radius = rng.uniform(0, size), rng.uniform(0, size), rng.uniform(3, 7)
        photons += brightness * np.exp(-((((y - cy) ** 2 + (x - cx) ** 2) / radius**2) ** 3))
    return photons


def denoise(image: np.ndarray, noise: float) -> np.ndarray:
    """Non-local means with the strength that noise of this standard deviation asks for."""
    return denoise_nl_means(image, patch_size=5, patch_distance=8, sigma=noise, h=0.6 * noise, fast_mode=True)


def main(picture: str = "denoise.png", frames: int = 8) -> dict[str, tuple[float, float]]:
    """Compare the ways; the result holds root-mean-square error and mean error, in photons."""
    truth = scene()
    rng = np.random.default_rng(0)
    shape = (frames, *truth.shape)
    signal = np.rint(ZERO + GAIN * rng.poisson(truth, shape) + rng.normal(0, READ_NOISE, shape)).astype(
        "uint16"
    )
    detector = at.Sensitivity.from_known(conversion_gain=GAIN, zero_level=ZERO, read_noise=READ_NOISE)

    typical = float(detector.noise_std(signal.mean()))
    stable = np.asarray(at.stabilize(signal, detector))
    denoised = np.stack([denoise(frame, 1.0) for frame in stable])
    ways = {
        "not denoised": signal,
        "denoised as it is": np.stack([denoise(frame.astype(float), typical) for frame in signal]),
        "stabilised, algebraic inverse": at.destabilize(denoised, detector, inverse="algebraic"),
        "stabilised, unbiased inverse": at.destabilize(denoised, detector),
    }
    errors = {}
    for name, result in ways.items():
        error = np.asarray(detector.to_photons(result)) - truth
        errors[name] = float(np.sqrt((error**2).mean())), float(error.mean())
        print(f"{name:32} rms error {errors[name][0]:.3f} photons, mean error {errors[name][1]:+.3f}")
    draw(picture, truth, {name: detector.to_photons(result[0]) for name, result in ways.items()}, errors)
    return errors


def draw(
    picture: str, truth: np.ndarray, images: dict[str, np.ndarray], errors: dict[str, tuple[float, float]]
) -> None:
    """Write the truth and the first frame of every way beside each other, on one scale."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    titles = {"truth": "truth"} | {
        name: f"{name}\nrms error {errors[name][0]:.2f} photons" for name in images
    }
    figure, axes = plt.subplots(1, len(titles), figsize=(3 * len(titles), 3.4), layout="constrained")
    for axis, (name, title) in zip(axes, titles.items(), strict=True):
        shown = axis.imshow(truth if name == "truth" else images[name], vmin=0, vmax=truth.max(), cmap="gray")
        axis.set_title(title, fontsize=9)
        axis.set_axis_off()
    figure.colorbar(shown, ax=axes, label="photons per pixel", shrink=0.8, pad=0.01)
    figure.savefig(picture, dpi=120)


if __name__ == "__main__":
    main(*sys.argv[1:2])
