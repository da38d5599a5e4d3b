"""Which of the things in a file is the movie: the only one that can be, or the one that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from anscombe_transform.movies.selection import Choice


def choose(path: Path | str, shapes: Mapping[str, tuple[int, ...]], choice: Choice, thing: str) -> str:
    """The name of the one movie in a file, or of the one that was asked for.

    Parameters
    ----------
    path : Path or str
        For the errors.
    shapes : mapping of str to tuple of int
        What the file holds.
    choice : Choice
        Its ``dataset`` names one; its ``axes`` say how many axes it has, otherwise three are looked for, and
        more only if nothing has three.
    thing : str
        What the file's format calls such a thing.

    Raises
    ------
    ValueError
        There is none of that name, none that can be a movie, or several.
    """
    listing = ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "nothing"
    if choice.dataset is not None:
        found = [name for name in shapes if name.strip("/") == choice.dataset.strip("/")]
        if not found:
            raise ValueError(f"{path} has no {thing} {choice.dataset!r}; it holds {listing}")
        return found[0]
    wanted = 3 if choice.axes is None else len(choice.axes)
    movies = [name for name, shape in shapes.items() if len(shape) == wanted]
    if not movies and choice.axes is None:
        movies = [name for name, shape in shapes.items() if len(shape) > 3]
    if len(movies) == 1:
        return movies[0]
    if not movies and len(shapes) == 1:
        return next(iter(shapes))  # what is wrong with its shape is said where the axes are found
    if not movies:
        axes = "the three axes (time, y, x)" if choice.axes is None else f"{wanted} axes ({choice.axes})"
        raise ValueError(f"{path} holds no {thing} with {axes}; it holds {listing}")
    listing = ", ".join(f"{name} {shapes[name]}" for name in movies)
    raise ValueError(
        f'{path} holds {len(movies)} movies: {listing}. Say which, for instance "{path}::{movies[0]}"'
    )
