"""Any recording as one thing: shape ``(time, y, x)``, a dtype, and slices that are read when asked for.

`open_movie` takes the name of a file or an array and gives a `Movie`. Nothing is loaded before it is sliced,
so a recording larger than memory is an ordinary one. A source that is no movie (a single image, a channel
axis without a choice, a file cut short) is refused with a sentence that names the remedy: a wrong axis or a
missing frame would pass unseen through everything that follows.

`opening` finds the reader for a source: a file in `readers/` for each family of formats, or `arrays`. Shared
by all of them are `movie` (the type), `selection` (which axis is which, and the caller's options), `metadata`
(the facts kept from a file's headers) and `errors`. `acquisitions` groups the TIFFs of a folder into
recordings.
"""

from anscombe_transform.movies.errors import IncompleteRecordingError
from anscombe_transform.movies.movie import Movie, SupportsMovie
from anscombe_transform.movies.opening import open_movie

__all__ = ["IncompleteRecordingError", "Movie", "SupportsMovie", "open_movie"]
