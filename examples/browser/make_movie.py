"""Write ``movie.zarr`` for the page: a simulated movie of 4 photons per pixel in anscombe.

    python make_movie.py [PATH] [--portable]

With ``--portable`` the array is then described by ``cast_value``, which zarrita.js reads without our decoder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import zarr

from anscombe_transform import AnscombeTransformV3, simulate_movie
from anscombe_transform.codec.portable import make_portable


def main(arguments: list[str] | None = None) -> None:
    """Simulate, store, and say how small it became."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", nargs="?", default=Path(__file__).parent / "movie.zarr", type=Path)
    parser.add_argument("--portable", action="store_true")
    options = parser.parse_args(arguments)
    movie, _ = simulate_movie(
        (60, 192, 256), conversion_gain=90.0, zero_level=50.0, read_noise=15.0, activity=0.5, rng=1
    )
    codec = AnscombeTransformV3(50.0, 90.0, read_noise=15.0, zero_code=12)
    array = zarr.create_array(
        str(options.path),
        data=movie,
        chunks=(20, 192, 256),
        filters=[codec],
        overwrite=True,
        dimension_names=("time", "y", "x"),
    )
    if options.portable:
        make_portable(array)
    ratio = movie.nbytes / array.nbytes_stored()
    print(f"{options.path}: {ratio:.1f} times smaller than its {movie.nbytes} bytes of samples")


if __name__ == "__main__":
    main()
