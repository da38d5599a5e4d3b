"""Movies with known truth: `movie` makes a scene and its photons, `camera` turns photons into samples."""

from anscombe_transform.simulation.camera import Camera
from anscombe_transform.simulation.movie import (
    Truth,
    expected_photons,
    simulate_frames,
    simulate_movie,
    structured_scene,
)

__all__ = ["Camera", "Truth", "expected_photons", "simulate_frames", "simulate_movie", "structured_scene"]
