"""The axes of a recording, and the caller's choice among channels and planes.

Axes are letters: ``t`` time, ``c`` channel, ``z`` plane, ``y`` and ``x``; any other letter is an axis that
the source names otherwise. A recording of any number of axes becomes a movie ``(t, y, x)`` by one index along
each of the others: along an axis of length 1 there is nothing to choose, along a longer one the caller must.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.movies.errors import IncompleteRecordingError

# Bounds of one read, already resolved: three slices with 0 <= start <= stop <= length and step >= 1.
Box = tuple[slice, slice, slice]

_NAMES = {
    **dict.fromkeys(("t", "time", "times", "frame", "frames", "timepoint", "timepoints"), "t"),
    **dict.fromkeys(("c", "ch", "channel", "channels"), "c"),
    **dict.fromkeys(("z", "plane", "planes", "depth", "slice", "slices"), "z"),
    **dict.fromkeys(("y", "row", "rows", "height"), "y"),
    **dict.fromkeys(("x", "col", "cols", "column", "columns", "width"), "x"),
}
PARTIAL = "To open what is there, ask for a partial recording: partial=True (--partial)"
"""The way to open a recording that isn't whole."""

# Stands for an axis whose name says nothing.
_UNNAMED = "q"


@dataclass(frozen=True, slots=True)
class Choice:
    """Options of `open_movie` beside the source; each field is the option of that name.

    `indices` are those of the ``::`` spelling of TIFF: the index along an axis, or None for the axis that is
    time. With `one_image` an image without a time axis is taken, as a movie of one frame.

    `findings` collects differences between the announced and the actual content of a source. Every reader
    reports such a difference to `incomplete` or `note`, so that it either refuses the source or ends in the
    record.
    """

    channel: int | str | None = None
    plane: int | None = None
    series: int | str | None = None
    dataset: str | None = None
    shape: tuple[int, ...] | None = None
    dtype: np.dtype[Any] | None = None
    axes: str | None = None
    offset: int | None = None
    storage_options: Mapping[str, Any] | None = None
    indices: Mapping[str, int | None] = field(default_factory=dict)
    one_image: bool = False
    partial: bool = False
    findings: list[str] = field(default_factory=list)

    def incomplete(self, finding: str, remedy: str = PARTIAL) -> None:
        """Refuse a recording that isn't whole, or note why where a partial one was asked for.

        Parameters
        ----------
        finding : str
            Announced and actual content, with the name of the source.
        remedy : str, optional
            The option that opens the rest.

        Raises
        ------
        IncompleteRecordingError
            No partial recording was asked for.
        """
        if not self.partial:
            raise IncompleteRecordingError(f"{finding}. {remedy}")
        self.note(finding)

    def note(self, finding: str) -> None:
        """Keep a finding for the record of the movie."""
        if finding not in self.findings:
            self.findings.append(finding)

    def allow(self, source: str, *options: str) -> None:
        """Refuse the options that mean nothing for this source; those that choose along axes always do."""
        silent = {"indices", "one_image", "partial", "findings"}
        allowed = {"channel", "plane", "axes", *silent, *options}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if value is not None and entry.name not in allowed:
                takes = ", ".join(sorted(allowed - silent))
                raise ValueError(
                    f"{entry.name}={value!r} means nothing for {source}; the options for it are {takes}"
                )


def axis_letters(names: Sequence[Any]) -> str | None:
    """Letters of axes that have names; None if no name is known, so that the order is all there is."""
    letters = [_NAMES.get(str(name).lower(), _UNNAMED) for name in names]
    if letters.count("t") == 1 and letters.count(_UNNAMED) == 2 and len(letters) == 3:
        # Two axes without a name beside the time are those of the frames, in their order.
        letters = ["t" if letter == "t" else "" for letter in letters]
        letters[letters.index("")] = "y"
        letters[letters.index("")] = "x"
    return "".join(letters) if set(letters) - {_UNNAMED} else None


def parse_axes(axes: str | Sequence[str]) -> str:
    """The option ``axes`` as letters: ``"tcyx"``, or names, ``("time", "channel", "y", "x")``."""
    if isinstance(axes, str):
        letters = axes.lower()
        if not letters.isalpha():
            raise ValueError(f'axes must be letters, one for each axis, for instance "tcyx", got {axes!r}')
    else:
        unknown = [name for name in axes if str(name).lower() not in _NAMES]
        if unknown:
            raise ValueError(f"axes has the unknown name {unknown[0]!r}; known are {', '.join(_NAMES)}")
        letters = "".join(_NAMES[str(name).lower()] for name in axes)
    for letter in "yx":
        if letters.count(letter) != 1:
            raise ValueError(f"axes must name y and x once each, got {axes!r}")
    for letter in "tcz":
        if letters.count(letter) > 1:
            raise ValueError(f"axes names {letter} twice: {axes!r}")
    return letters


@dataclass(frozen=True, slots=True)
class View:
    """Where time, y and x lie in an array of more axes, and which index is taken along each of the others.

    Attributes
    ----------
    axes : str
        A letter for each axis of the array.
    lengths : tuple of int
    time : int or None
        Number of the axis that is time; None for one image.
    fixed : dict of int to int
        Index along each axis that is not time, y or x.
    """

    axes: str
    lengths: tuple[int, ...]
    time: int | None
    fixed: dict[int, int]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Lengths of time, y and x."""
        time = 1 if self.time is None else self.lengths[self.time]
        return time, self.lengths[self.axes.index("y")], self.lengths[self.axes.index("x")]

    @property
    def channels(self) -> int:
        """Number of channels that the recording has."""
        return self.lengths[self.axes.index("c")] if "c" in self.axes else 1

    @property
    def channel(self) -> int | None:
        """Index of the channel that was taken; None for a recording without a channel axis."""
        return self.fixed.get(self.axes.index("c")) if "c" in self.axes else None

    @property
    def plane(self) -> int | None:
        """Index of the plane that was taken; None for a recording without a z axis."""
        return self.fixed.get(self.axes.index("z")) if "z" in self.axes else None

    def index(self, box: Box) -> tuple[int | slice, ...]:
        """The index of the array that reads a box of the movie."""
        index: list[int | slice] = [self.fixed.get(axis, 0) for axis in range(len(self.axes))]
        if self.time is not None:
            index[self.time] = box[0]
        index[self.axes.index("y")] = box[1]
        index[self.axes.index("x")] = box[2]
        return tuple(index)

    def arrange(self, block: Any) -> Any:
        """Put the axes of a block read by `index` into the order (time, y, x)."""
        order = [axis for axis in range(len(self.axes)) if axis not in self.fixed]
        if self.time is None:
            block = block[None]
            order = [-1, *order]
        wanted = (-1 if self.time is None else self.time, self.axes.index("y"), self.axes.index("x"))
        places = tuple(order.index(axis) for axis in wanted)
        return block if places == (0, 1, 2) else block.transpose(places)

    def read(self, array: Any, box: Box) -> NDArray[Any]:
        """Read a box of the movie from an array that slices."""
        block: NDArray[Any] = self.arrange(np.asarray(array[self.index(box)]))
        return block

    def with_frames(self, frames: int) -> View:
        """The same view of a recording of another length."""
        if self.time is None:
            return self
        return replace(self, lengths=(*self.lengths[: self.time], frames, *self.lengths[self.time + 1 :]))

    def frame_numbers(self) -> range:
        """Numbers of the movie's frames among all images of an array with images in its two last axes."""
        lengths = self.lengths[:-2]
        strides = [math.prod(lengths[axis + 1 :]) for axis in range(len(lengths))]
        first = sum(strides[axis] * index for axis, index in self.fixed.items())
        if self.time is None:
            return range(first, first + 1)
        stride = strides[self.time]
        return range(first, first + lengths[self.time] * stride, stride)


def described(axes: str, lengths: Sequence[int]) -> str:
    """Axes and lengths in words, ``t 300 × c 2 × y 512 × x 512``."""
    return " × ".join(f"{axis} {n}" for axis, n in zip(axes, lengths, strict=True))


def default_axes(lengths: Sequence[int], source: str) -> str:
    """Letters of axes that have no names: the last three that matter are time, y and x."""
    leading = [axis for axis, n in enumerate(lengths[:-2]) if n != 1]
    if len(lengths) < 2 or len(leading) > 1:
        raise ValueError(
            f"{source} has {len(lengths)} axes, shape {tuple(lengths)}; a movie has three, (time, y, x). "
            + (
                'Say what the axes are and take one channel or plane, for instance axes="tcyx", channel=0'
                + _in_a_name(source, "axes=tcyx,channel=0")
                if len(leading) > 1
                else "This is not a movie"
            )
        )
    letters = [_UNNAMED] * (len(lengths) - 2) + ["y", "x"]
    if len(lengths) > 2:
        letters[leading[0] if leading else 0] = "t"
    return "".join(letters)


def select(
    axes: str | None,
    lengths: Sequence[int],
    choice: Choice,
    source: str,
    *,
    channel_names: Sequence[str] = (),
) -> View:
    """Find time, y and x among the axes of a recording, and the index along each of the others.

    Parameters
    ----------
    axes : str or None
        Letters that the source gives; None where it says nothing. ``choice.axes`` goes before it.
    lengths : sequence of int
    choice : Choice
    source : str
        For the errors.
    channel_names : sequence of str
        Names that ``choice.channel`` may have.

    Raises
    ------
    ValueError
        There is no y, x or time, or an axis is longer than 1 and the caller didn't choose.
    """
    lengths = tuple(int(n) for n in lengths)
    if choice.axes is not None:
        axes = choice.axes
        if len(axes) != len(lengths):
            raise ValueError(
                f"axes={axes!r} names {len(axes)} axes, but {source} has {len(lengths)}: shape {lengths}"
            )
    elif axes is None:
        axes = default_axes(lengths, source)
    words = described(axes, lengths)
    if axes.count("y") != 1 or axes.count("x") != 1:
        raise ValueError(
            f"{source} has the axes {words}, without one y and one x. If they are known otherwise, name each "
            'axis with the option axes, for instance axes="tyx"'
        )
    if any(axis == "s" and n > 1 for axis, n in zip(axes, lengths, strict=True)):
        raise refuse_colour(source, words)
    fixed = _fixed(axes, lengths, choice, source, channel_names)
    free = [axis for axis, letter in enumerate(axes) if letter not in "yx" and axis not in fixed]
    time = _time_axis(axes, free, choice)
    rest = [axis for axis in free if axis != time]
    if rest:
        raise ValueError(_undecided(axes, lengths, rest, time, source, channel_names))
    if time is None and not choice.one_image:
        size = lengths[axes.index("y")], lengths[axes.index("x")]
        raise ValueError(
            f"{source} is a single image of shape {size}, which has no time axis; a movie has the axes "
            "(time, y, x) and at least two frames of the same scene"
        )
    if time is not None and "t" not in axes:
        axes = f"{axes[:time]}t{axes[time + 1 :]}"
    return View(axes, lengths, time, fixed)


def _fixed(
    axes: str, lengths: tuple[int, ...], choice: Choice, source: str, channel_names: Sequence[str]
) -> dict[int, int]:
    """Index along each axis that has length 1 or for which the caller chose one."""
    words = described(axes, lengths)
    channel = choice.channel
    if isinstance(channel, str):
        if channel not in channel_names:
            known = f"the channels {', '.join(channel_names)}" if channel_names else "no names of channels"
            raise ValueError(f"channel={channel!r} is not in {source}, which has {known}")
        channel = list(channel_names).index(channel)
    wanted = {letter: index for letter, index in choice.indices.items() if index is not None}
    for letter, option, index in (("c", "channel", channel), ("z", "plane", choice.plane)):
        if index is None:
            continue
        length = lengths[axes.index(letter)] if letter in axes else 1
        if isinstance(index, bool) or not isinstance(index, int | np.integer):
            raise TypeError(f"{option} must be a whole number, got {index!r}")
        if not 0 <= index < length:
            raise ValueError(f"{option}={index} is out of range: {source} has {length} ({words})")
        wanted[letter] = int(index)
    for letter, number in choice.indices.items():
        if letter not in axes or letter in "yx":
            raise ValueError(f"{source} has the axes {words}, so {letter.upper()} selects nothing")
        if number is not None and number >= lengths[axes.index(letter)]:
            raise ValueError(f"{letter.upper()}={number} is out of range: {source} has the axes {words}")
    fixed = {}
    for axis, (letter, length) in enumerate(zip(axes, lengths, strict=True)):
        if letter in wanted and letter not in "yx":
            fixed[axis] = wanted[letter]
        elif letter not in "tyx" and length == 1 and letter not in choice.indices:
            fixed[axis] = 0
    return fixed


def _time_axis(axes: str, free: list[int], choice: Choice) -> int | None:
    """The axis that is time: the one the caller says, the one called so, or the only one left."""
    for axis in free:
        if axes[axis] in choice.indices:
            return axis
    for axis in free:
        if axes[axis] == "t":
            return axis
    unnamed = [axis for axis in free if axes[axis] not in "cz"]
    return unnamed[0] if len(unnamed) == 1 else None


def _undecided(
    axes: str,
    lengths: tuple[int, ...],
    rest: list[int],
    time: int | None,
    source: str,
    channel_names: Sequence[str],
) -> str:
    """The error about axes along which the caller has to choose."""
    words = described(axes, lengths)
    thing = {"c": "channels", "z": "planes"}
    has_time = time is not None and lengths[time] > 1
    if not has_time and len(rest) == 1 and axes[rest[0]] in "cz":
        letter = axes[rest[0]]
        swapped = axes.translate(str.maketrans(f"{letter}t", f"t{letter}"))
        return (
            f"{source} has the axes {words}: the {thing[letter]} of one image, which has no time axis. If "
            f'they are frames after all, say so: axes="{swapped}"'
        )
    options = []
    for axis in rest:
        letter, last = axes[axis], lengths[axis] - 1
        if letter == "c":
            names = f" ({', '.join(channel_names)})" if channel_names else ""
            options.append(f"channel=0 to {last}{names}")
        elif letter == "z":
            options.append(f"plane=0 to {last}")
        else:
            options.append(
                f'an index of the axis {letter}, "{source.partition("::")[0]}::{letter.upper()}=0"'
            )
    choices = [{"c": "channel=0", "z": "plane=0"}.get(axes[axis], f"{axes[axis].upper()}=0") for axis in rest]
    written = _in_a_name(source, ",".join(choices))
    return (
        f"{source} has the axes {words}; a movie has three, (time, y, x). Choose {' and '.join(options)}"
        f"{written}, or name the axes otherwise with the option axes"
    )


def _in_a_name(source: str, choices: str) -> str:
    """Choices as they are written behind the name of a file, if the source is one."""
    place = source.partition("::")[0]
    return f' (in a name: "{place}::{choices}")' if Path(place).exists() else ""


def refuse_colour(source: str, words: str) -> ValueError:
    """Return the error about samples of several colours in a pixel."""
    return ValueError(
        f"{source} has the axes {words}: colour or interleaved samples are not a movie (time, y, x). "
        "Convert it to one grey value per pixel, or save one channel by itself"
    )


def numbered(
    read: Callable[[Box], NDArray[Any]], numbers: Sequence[int] | NDArray[np.int64]
) -> Callable[[Box], NDArray[Any]]:
    """Read the images of given numbers as if they were the only ones."""
    if isinstance(numbers, range):
        evenly = numbers

        def at_even_distances(box: Box) -> NDArray[Any]:
            wanted = evenly[box[0]]
            return read((slice(wanted[0], wanted[-1] + 1, wanted.step), box[1], box[2]))

        return at_even_distances
    listed = np.asarray(numbers, np.int64)

    def anywhere(box: Box) -> NDArray[Any]:
        wanted = listed[box[0]]
        blocks = [read((bounds, box[1], box[2])) for bounds in _runs(wanted)]
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)

    return anywhere


def swap_rows_and_columns(read: Callable[[Box], NDArray[Any]]) -> Callable[[Box], NDArray[Any]]:
    """Read images that are stored with x before y."""
    return lambda box: read((box[0], box[2], box[1])).transpose(0, 2, 1)


def _runs(numbers: NDArray[np.int64]) -> Iterator[slice]:
    """Rising numbers as slices, each as long as the distances stay the same."""
    at = 0
    while at < len(numbers):
        step = int(numbers[at + 1] - numbers[at]) if at + 1 < len(numbers) else 1
        stop = at + 1
        while stop < len(numbers) and numbers[stop] - numbers[stop - 1] == step:
            stop += 1
        yield slice(int(numbers[at]), int(numbers[stop - 1]) + 1, step)
        at = stop


def choose_entry(path: Path | str, shapes: Mapping[str, tuple[int, ...]], choice: Choice, thing: str) -> str:
    """The name of the one movie in a file, or of the one that was asked for.

    Parameters
    ----------
    path : Path or str
        For the errors.
    shapes : mapping of str to tuple of int
        Datasets of the file.
    choice : Choice
        Its ``dataset`` names one; its ``axes`` say how many axes it has, otherwise three are looked for, and
        more only if nothing has three.
    thing : str
        Name of a dataset in the file's format.

    Raises
    ------
    ValueError
        There is none of that name, none that can be a movie, or several.
    """
    listing = ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "nothing"
    if choice.dataset is not None:
        named = [name for name in shapes if name.strip("/") == choice.dataset.strip("/")]
        if not named:
            raise ValueError(f"{path} has no {thing} {choice.dataset!r}; it holds {listing}")
        return named[0]
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
    raise several_movies(path, {name: shapes[name] for name in movies})


def several_movies(path: Path | str, shapes: Mapping[str, tuple[int, ...]]) -> ValueError:
    """Make the error about a file that holds several movies, by their names and shapes."""
    listing = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    first = next(iter(shapes))
    return ValueError(
        f'{path} holds {len(shapes)} movies: {listing}. Say which, for instance "{path}::{first}"'
    )
