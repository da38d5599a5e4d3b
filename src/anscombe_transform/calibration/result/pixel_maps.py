"""Constants of every pixel of a camera."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.native.arrays import Floats
from anscombe_transform.native.durable import write_file


@dataclass(frozen=True, eq=False)
class PixelMaps:
    """Constants of every pixel, shrunk towards the field's; None where they were not measured.

    Attributes
    ----------
    offset : ndarray of float64, shape (y, x), or None
        Zero level of each pixel, in signal units; from dark frames.
    read_variance : ndarray of float64, shape (y, x), or None
        Variance of each pixel without light, in signal units squared; from two dark frames or more.
    gain : ndarray of float64, shape (y, x), or None
        Gain of each pixel, in signal units per photon; from a movie in which nothing moves.
    hot_pixels : ndarray of int, shape (count, 2)
        Row and column of the pixels that are far from all others.
    spread : dict of str to float
        Standard deviation of the measurement over pixels, less its error, by the name of the map and in its
        unit: 0 where pixels don't differ.

    Examples
    --------
    >>> import numpy as np
    >>> from anscombe_transform import compute_sensitivity, simulate_movie
    >>> movie, _ = simulate_movie((64, 64, 64), conversion_gain=2, zero_level=100, read_noise=3, rng=0)
    >>> dark = np.random.default_rng(0).normal(100, 3, (40, 64, 64)).round().astype("int16")
    >>> maps = compute_sensitivity(movie, dark=dark, per_pixel=True).maps
    >>> maps.offset.shape, round(float(np.sqrt(maps.read_variance.mean())))
    ((64, 64), 3)
    """

    offset: Floats | None
    read_variance: Floats | None
    gain: Floats | None
    hot_pixels: NDArray[np.intp]
    spread: dict[str, float]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the maps that there are, and the hot pixels, to an ``.npz`` file; `numpy.load` reads it.

        Parameters
        ----------
        path : path
            The file to write, ending with ``.npz``; one that is there is replaced.

        Raises
        ------
        ValueError
            There are no maps, or the name ends otherwise; NumPy would change it.

        Examples
        --------
        >>> import numpy as np, tempfile
        >>> maps = PixelMaps(np.full((4, 4), 100.0), None, None, np.zeros((0, 2), int), {"offset": 0.0})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     maps.save(f"{folder}/maps.npz")
        ...     with np.load(f"{folder}/maps.npz") as arrays:
        ...         print(sorted(arrays))
        ['hot_pixels', 'offset']
        """
        if not os.fspath(path).endswith(".npz"):
            raise ValueError(f"path must end with .npz, got {os.fspath(path)!r}")
        if self.offset is None and self.gain is None:
            raise ValueError(
                "there are no maps to write: they need dark frames, or a movie in which nothing moves"
            )
        arrays: dict[str, Any] = {"hot_pixels": self.hot_pixels}
        for name in ("offset", "read_variance", "gain"):
            if (values := getattr(self, name)) is not None:
                arrays[name] = values
        content = io.BytesIO()
        np.savez_compressed(content, **arrays)
        write_file(Path(path), content.getvalue())
