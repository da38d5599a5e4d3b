"""Any recording as one thing: shape ``(time, y, x)``, a dtype, and slices that are read when asked for.

`open_movie` takes the name of a file or an array and gives a `Movie`. Nothing is loaded before it is sliced,
so a recording larger than memory is an ordinary one. What is not a movie (a single image, a channel axis
without a choice, a file cut short) is refused with a sentence that says what would be one: a wrong axis or a
missing frame would pass unseen through everything that follows.

A module for each family of sources: `arrays`, `numpy_files`, `raw`, `hdf5`, `zarr_groups`, `nwb`, `tiff`,
`sequence` (many files, one movie), `fits`. What they share: `movie` (the type), `selection` (which axis is
which, what the caller chose), `plain_frames` (reading frames that lie uncompressed in a file), `recording`
(metadata worth keeping) and `errors`.
"""

from anscombe_transform.movies.errors import IncompleteRecordingError
from anscombe_transform.movies.movie import Movie, SupportsMovie
from anscombe_transform.movies.opening import open_movie

__all__ = ["IncompleteRecordingError", "Movie", "SupportsMovie", "open_movie"]
