"""Movies in NWB files: which object is the recording, how its axes lie, and its metadata.

The standard [1]_ stores the frames of a series as ``(frame, x, y)``: the first axis of an image is its width.
So the movie is the transposed frames. Programs that store ``(frame, y, x)`` break the standard; where the
field ``dimension`` ("number of pixels on x, y") shows it, that is an error rather than a guess.

The files are HDF5 or Zarr; the same names lie in both, so h5py and zarr read them and pynwb is not needed.

References
----------
.. [1] NWB schema, ``nwb.image.yaml``: ``ImageSeries.data``, dims ``[frame, x, y]`` and ``[frame, x, y, z]``;
   ``nwb.ophys.yaml``: ``OnePhotonSeries`` and ``TwoPhotonSeries`` are ``ImageSeries``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.movies.metadata import facts, json_value, micrometres
from anscombe_transform.movies.selection import Choice, choose_entry, several_movies

_PHOTON_SERIES = ("TwoPhotonSeries", "OnePhotonSeries")


@dataclass(frozen=True, slots=True)
class NwbFile:
    """The common part of HDF5 and Zarr, as far as it is needed here.

    Attributes
    ----------
    path : Path or str
    shapes : mapping of str to tuple of int
        All datasets by their path.
    attributes : callable
        Gives the attributes at a path.
    get : callable
        Gives the object at a path, or None.
    load : callable
        Gives the whole value of a small dataset.
    """

    path: Path | str
    shapes: Mapping[str, tuple[int, ...]]
    attributes: Callable[[str], Mapping[str, Any]]
    get: Callable[[str], Any]
    load: Callable[[Any], Any]

    def kind(self, path: str) -> str:
        """The NWB type of the object at a path; empty where there is none."""
        return str(json_value(dict(self.attributes(path)).get("neurodata_type", "")) or "")

    def value(self, path: str) -> Any:
        """A small dataset as a value of JSON; None where it is absent."""
        item = self.get(path)
        if item is None or not hasattr(item, "shape"):
            return None
        value = self.load(item)
        if isinstance(value, np.ndarray) and value.size == 1:
            value = value.reshape(-1)[0]
        return json_value(value)


@dataclass(frozen=True, slots=True)
class Series:
    """The dataset that was chosen, the letters of its axes, and its metadata.

    `frames` is their number, `times` when each was taken, in seconds, empty where only a rate is known.
    """

    dataset: str
    axes: str
    metadata: dict[str, Any]
    frames: int
    times: NDArray[np.float64]

    def timed_frames(self, choice: Choice) -> int:
        """How many frames there are by the times, which programs write along with the frames.

        A dataset may be made long enough beforehand, so that frames that were never taken read as zeros.

        Raises
        ------
        IncompleteRecordingError
            There are fewer times than frames, or fewer frames than times, or the times are in no order, and
            no partial recording was asked for.
        """
        count = len(self.times)
        if not count:
            return self.frames
        if count != self.frames:
            choice.incomplete(f"{self.dataset} has {self.frames} frames, but its timestamps are {count}")
        back = np.flatnonzero(~(np.diff(self.times) >= 0))
        if len(back):
            at = int(back[0])
            choice.incomplete(
                f"the frames of {self.dataset} are not in the order of time: frame {at} is of "
                f"{self.times[at]:.6g} s, frame {at + 1} of {self.times[at + 1]:.6g} s"
            )
        return min(count, self.frames)


def choose_series(file: NwbFile, choice: Choice) -> Series:
    """Find the one- or two-photon series of a file, or the one that is asked for."""
    kinds = {
        path: file.kind(path.rpartition("/")[0] or "/")
        for path in file.shapes
        if path.rpartition("/")[2] == "data" and len(file.shapes[path]) >= 3
    }
    series = {
        path.rpartition("/")[0]: file.shapes[path] for path, kind in kinds.items() if kind in _PHOTON_SERIES
    }
    others = {
        path.rpartition("/")[0]: file.shapes[path]
        for path, kind in kinds.items()
        if kind not in _PHOTON_SERIES
    }
    if choice.dataset is not None:
        asked = choice.dataset.strip("/").removesuffix("/data")
        known = series | others
        named = [path for path in known if asked in (path.strip("/"), path.rpartition("/")[2])]
        asked = named[0] if len(named) == 1 else asked
        parent = choose_entry(file.path, known, replace(choice, dataset=asked), "series of images")
    elif series:
        if len(series) > 1:
            raise several_movies(file.path, series)
        (parent,) = series
    else:
        listing = ", ".join(f"{path} ({kinds[f'{path}/data']}) {shape}" for path, shape in others.items())
        raise ValueError(
            f"{file.path} holds no {' or '.join(_PHOTON_SERIES)}; "
            + (f"other series are taken by the option dataset: {listing}" if others else "it holds no images")
        )
    times = _times(file, parent)
    metadata = _metadata(file, parent)
    if "frame_rate" not in metadata and len(times) > 1 and (step := float(np.median(np.diff(times)))) > 0:
        metadata["frame_rate"] = 1 / step
    frames = int(file.shapes[f"{parent}/data"][0])
    return Series(f"{parent}/data", _axes(file, parent, choice), metadata, frames, times)


def _times(file: NwbFile, parent: str) -> NDArray[np.float64]:
    item = file.get(f"{parent}/timestamps")
    if item is None or len(getattr(item, "shape", ())) != 1:
        return np.empty(0)
    return np.asarray(file.load(item), np.float64)


def _axes(file: NwbFile, parent: str, choice: Choice) -> str:
    """Letters of the axes as the standard has them, if nothing in the file speaks against it."""
    shape = file.shapes[f"{parent}/data"]
    outside = file.value(f"{parent}/external_file")
    if outside is not None:
        names = [str(name) for name in (outside if isinstance(outside, list) else [outside])]
        places = [str(Path(str(file.path)).parent / name) for name in names]
        absent = [place for place in places if "://" not in place and not Path(place).exists()]
        state = f", of which {absent[0]} is absent" if absent else ""
        what = places[0] if len(places) == 1 else f"the list [{', '.join(places)}]"
        raise ValueError(
            f"the frames of {file.path}::{parent} lie in {len(places)} other files{state}: open {what}"
        )
    dimension = file.value(f"{parent}/dimension")
    if choice.axes is None and isinstance(dimension, list) and len(dimension) >= 2 and len(shape) >= 3:
        told, stored = tuple(dimension[:2]), tuple(shape[1:3])
        if told != stored and told == stored[::-1] and not _by_neuroconv(file):
            raise ValueError(
                f"{file.path}::{parent} contradicts itself: dimension says {told[0]} × {told[1]} pixels "
                f"on x and y, but the frames are stored {stored[0]} × {stored[1]}, where the standard "
                f'has (time, x, y). Say which it is: axes="txy" for the standard order ({stored[1]} rows '
                f'and {stored[0]} columns), or axes="tyx" ({stored[0]} rows and {stored[1]} columns)'
            )
    return "txy" if len(shape) == 3 else "txyz"


def _by_neuroconv(file: NwbFile) -> bool:
    """Whether NeuroConv wrote the file: it stores frames by the standard, but fills `dimension` as (y, x)."""
    script = (
        file.attributes("/general/source_script") if file.get("/general/source_script") is not None else {}
    )
    told = f"{file.value('/general/source_script')} {dict(script).get('file_name', '')}".lower()
    return "neuroconv" in told or "nwb-conversion-tools" in told or "nwb_conversion_tools" in told


def _metadata(file: NwbFile, parent: str) -> dict[str, Any]:
    attributes = dict(file.attributes(parent))
    plane = _linked(file, parent, "imaging_plane")
    spacing = file.value(f"{plane}/grid_spacing")
    unit = (
        json_value(dict(file.attributes(f"{plane}/grid_spacing")).get("unit"))
        if spacing is not None
        else None
    )
    pixel_size = None
    if isinstance(spacing, list) and len(spacing) >= 2:
        pixel_size = {"y": micrometres(spacing[1], unit), "x": micrometres(spacing[0], unit)}
    data = dict(file.attributes(f"{parent}/data"))
    starting = (
        dict(file.attributes(f"{parent}/starting_time"))
        if file.get(f"{parent}/starting_time") is not None
        else {}
    )
    root = dict(file.attributes("/"))
    return facts(
        format="NWB",
        frame_rate=starting.get("rate", file.value(f"{plane}/imaging_rate")),
        pixel_size=pixel_size if pixel_size and all(pixel_size.values()) else None,
        acquired=file.value("/session_start_time"),
        nwb=facts(
            version=root.get("nwb_version"),
            series=parent.rpartition("/")[2],
            type=file.kind(parent),
            unit=data.get("unit"),
            conversion=data.get("conversion"),
            offset=data.get("offset"),
            description=attributes.get("description"),
            indicator=file.value(f"{plane}/indicator"),
            location=file.value(f"{plane}/location"),
            excitation_lambda=file.value(f"{plane}/excitation_lambda"),
            identifier=file.value("/identifier"),
        ),
    )


def _linked(file: NwbFile, parent: str, name: str) -> str:
    """The path of a linked object: HDF5 follows links by itself, Zarr files keep them as an attribute."""
    told = dict(file.attributes(parent))
    for link in told.get("_LINKS") or told.get("zarr_link") or []:
        if isinstance(link, Mapping) and link.get("name") == name and link.get("source") in (".", None):
            return str(link["path"])
    return f"{parent}/{name}"
