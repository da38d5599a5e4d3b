"""Write a two-photon recording into an NWB file whose movie is compressed, and read it back.

    python write_nwb.py movie.tif movie.nwb.zarr
    python write_nwb.py                            # a simulated movie, into the current folder

The frames go from the source to the file in pieces, so that a recording may be larger than memory.
"""

from __future__ import annotations

import argparse
import datetime
import uuid

import numpy as np
from hdmf.data_utils import GenericDataChunkIterator
from hdmf_zarr import NWBZarrIO, ZarrDataIO
from pynwb import NWBFile
from pynwb.ophys import OpticalChannel, TwoPhotonSeries

import anscombe_transform as at


class Frames(GenericDataChunkIterator):
    """A movie in the axes of NWB, ``(time, x, y)``, piece by piece."""

    def __init__(self, movie: at.movies.Movie, chunks: tuple[int, int, int]) -> None:
        self.movie = movie
        super().__init__(buffer_shape=(chunks[0], *self._get_maxshape()[1:]), chunk_shape=chunks)

    def _get_data(self, selection: tuple[slice, ...]) -> np.ndarray:
        time, x, y = selection
        return self.movie[time, y, x].swapaxes(1, 2)

    def _get_maxshape(self) -> tuple[int, int, int]:
        frames, height, width = self.movie.shape
        return frames, width, height

    def _get_dtype(self) -> np.dtype:
        return self.movie.dtype


def write_nwb(source, path: str, *, frame_rate: float | None = None) -> at.Sensitivity:
    """Calibrate a movie and write it into a new NWB file."""
    with at.open_movie(source) as movie:
        sensitivity = at.compute_sensitivity(movie)
        # The codec must hold the smallest and the largest value of the movie: one pass over it finds them.
        extremes = [f(block) for block in movie.blocks(100) for f in (np.min, np.max)]
        chunks = (min(100, movie.shape[0]), min(256, movie.shape[2]), min(256, movie.shape[1]))
        pipeline = at.codec_pipeline(sensitivity, sample=np.array(extremes, movie.dtype), chunks=chunks)
        fill_value = pipeline.pop("fill_value", 0)

        nwb = NWBFile(
            session_description=f"compressed from {movie.source} with anscombe-transform {at.__version__}",
            identifier=str(uuid.uuid4()),
            session_start_time=datetime.datetime.now(datetime.UTC),
        )
        device = nwb.create_device("Microscope")
        plane = nwb.create_imaging_plane(
            name="ImagingPlane",
            optical_channel=OpticalChannel(name="green", description="unknown", emission_lambda=np.nan),
            description="unknown",
            device=device,
            excitation_lambda=np.nan,
            indicator="unknown",
            location="unknown",
        )
        rate = frame_rate or movie.metadata.get("frame_rate") or 1.0
        nwb.add_acquisition(
            TwoPhotonSeries(
                name="TwoPhotonSeries",
                description=f"calibration: {sensitivity}",
                data=ZarrDataIO(Frames(movie, chunks), fillvalue=fill_value, **pipeline),
                imaging_plane=plane,
                rate=rate,
                unit="n.a.",
            )
        )
        with NWBZarrIO(path, "w") as io:
            io.write(nwb)
    return sensitivity


def check(source, path: str) -> at.compression.Verification:
    """Read the file with pynwb, and compare every value with the source, piece by piece."""
    with NWBZarrIO(path, "r") as io:
        stored = io.read().acquisition["TwoPhotonSeries"].data
        smaller = stored.nbytes / stored.nbytes_stored()
        print(f"pynwb reads (time, x, y) = {stored.shape} {stored.dtype}, {smaller:.2f} times smaller")
        codec = stored.filters[0]
    # open_movie finds the series and turns its frames back to (y, x).
    with at.open_movie(path) as decoded:
        return at.verify(decoded, source, codec=codec)


def main() -> None:
    """Write and check the file that the arguments name."""
    parser = argparse.ArgumentParser(description="Write a movie into an NWB file, compressed.")
    parser.add_argument("source", nargs="?", help="a movie; by default a simulated one")
    parser.add_argument("path", nargs="?", default="movie.nwb.zarr", help="the NWB file to write")
    arguments = parser.parse_args()
    source = arguments.source
    if source is None:
        source, _ = at.simulate_movie((60, 96, 128), conversion_gain=90, zero_level=50, read_noise=20, rng=0)
    print(write_nwb(source, arguments.path))
    verification = check(source, arguments.path)
    print(verification)
    if not verification.ok:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
