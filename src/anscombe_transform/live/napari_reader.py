"""Stored movies in napari, on a scale of photons.

napari finds the reader by ``napari.yaml`` and offers it for movies that this package stored; others it leaves
to other readers. The layer reads a frame when it is shown.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.compression import describe
from anscombe_transform.compression.stored.arrays import open_array
from anscombe_transform.compression.stored.checksums import check_record

__all__ = ["PhotonMovie", "get_reader"]

Layer = tuple[Any, dict[str, Any], str]


class PhotonMovie:
    """A stored movie in photons, read where it is sliced.

    Attributes
    ----------
    shape : tuple of int
        Of the array.
    dtype : numpy.dtype
        float32.
    ndim : int
    """

    def __init__(self, array: Any, conversion_gain: float, zero_level: float) -> None:
        self.shape = tuple(int(n) for n in array.shape)
        self.ndim, self.dtype = len(self.shape), np.dtype("float32")
        self._array, self._gain, self._zero = array, conversion_gain, zero_level

    def __getitem__(self, key: Any) -> NDArray[np.float32]:
        signal = np.asarray(self._array[key], "float64")
        return np.asarray((signal - self._zero) / self._gain, "float32")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Read the whole movie."""
        return np.asarray(self[...], dtype=dtype)


def get_reader(path: str | Sequence[str]) -> Callable[[str], list[Layer]] | None:
    """Return the reader of a path, for napari's plug-in interface.

    Parameters
    ----------
    path : str or sequence of str
        Files that were dropped on the viewer.

    Returns
    -------
    callable or None
        Gives one image layer for the path; None where it is no movie with our codec.

    Examples
    --------
    >>> import tempfile
    >>> from anscombe_transform import compress, simulate_movie
    >>> from anscombe_transform.live.napari_reader import get_reader
    >>> movie, truth = simulate_movie((40, 64, 64), conversion_gain=90, zero_level=50, rng=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = compress(movie, f"{folder}/movie.zarr")
    ...     [(photons, options, kind)] = get_reader(f"{folder}/movie.zarr")(f"{folder}/movie.zarr")
    ...     print(kind, options["name"], photons.shape, bool(0 < photons[0].mean() < 100))
    image movie (photons) (40, 64, 64) True
    """
    if not isinstance(path, str | os.PathLike):
        return None
    try:
        stored = describe(path)
    except (OSError, ValueError, ImportError):
        return None
    return _read if stored.codec is not None and "conversion_gain" in stored.codec else None


def _read(path: str) -> list[Layer]:
    array = open_array(path)
    stored = describe(array)
    check_record(array, stored.path)
    codec = stored.codec or {}
    photons = PhotonMovie(array, float(codec["conversion_gain"]), float(codec["zero_level"]))
    source = ((stored.provenance or {}).get("source") or {}).get("metadata") or {}
    pixel, rate = source.get("pixel_size") or {}, source.get("frame_rate")
    scale = [1.0] * photons.ndim
    if photons.ndim == 3:
        scale = [1 / rate if rate else 1.0, pixel.get("y") or 1.0, pixel.get("x") or 1.0]
    first = photons[(0,) * (photons.ndim - 2)]
    low, high = (float(value) for value in np.nanquantile(first, [0.005, 0.995]))
    options = {
        "name": f"{Path(path).name.partition('.')[0]} (photons)",
        "scale": scale,
        # Found from one frame; napari would read the whole movie.
        "contrast_limits": (low, high if high > low else low + 1),
        "metadata": {
            "conversion_gain": codec["conversion_gain"],
            "zero_level": codec["zero_level"],
            "seconds_per_frame": scale[0] if rate else None,
            "pixel_size_um": pixel or None,
        },
    }
    return [(photons, options, "image")]
