"""NWB files: the movie is the data of a series of images, metadata of the source become those of the file.

The standard [1]_ has frames as (time, x, y), so that the dataset is transposed. It requires the time of the
session and the rate of frames; where the source has none they have to be given, and nothing is made up.

References
----------
.. [1] NWB schema, ``nwb.image.yaml`` and ``nwb.ophys.yaml``: ImageSeries.data, TwoPhotonSeries, ImagingPlane.
"""

from __future__ import annotations

import io
import math
import uuid
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anscombe_transform.compression.files.hdf5 import HDF5File
from anscombe_transform.movies.errors import missing

if TYPE_CHECKING:
    from anscombe_transform.movies import Movie

__all__ = ["NWB_FIELDS", "NwbFile"]

NWB_FIELDS: dict[str, str] = {
    "session_start_time": "ISO 8601, with the time zone",
    "rate": "frames per second",
    "session_description": "text",
    "identifier": "unique text; random by default",
    "type": "TwoPhotonSeries (default) or OnePhotonSeries",
    "series": "name of the series, by default that of its type",
    "description": "of the series",
    "unit": "of the values",
    "device": "name of the microscope",
    "indicator": "of the imaging plane",
    "location": "of the imaging plane",
    "excitation_lambda": "nm",
    "emission_lambda": "nm",
    "experimenter": "text",
    "institution": "text",
    "lab": "text",
}
"""Metadata of an NWB file beside those of its source."""

_NUMBERS = ("rate", "excitation_lambda", "emission_lambda")
_TYPES = ("TwoPhotonSeries", "OnePhotonSeries")
_UNKNOWN = "unknown"


class NwbFile(HDF5File):
    """A series of images in a new NWB file."""

    transposed = True

    def __init__(self, path: Path, given: Mapping[str, Any]) -> None:
        try:
            import pynwb  # noqa: F401  # before anything is read
        except ImportError as error:
            raise missing("pynwb", path, "nwb") from error
        self._given = _checked(given)
        kind = str(self._given.get("type", _TYPES[0]))
        self._series = str(self._given.get("series", kind))
        self._facts: dict[str, Any] = {}
        self._movie: Movie | None = None
        super().__init__(path, f"/acquisition/{self._series}/data")

    def check_source(self, movie: Movie) -> None:
        """Refuse a movie without session start or frame rate, or to replace it by its own copy.

        Raises
        ------
        ValueError
        """
        super().check_source(movie)
        self._facts = _facts_of(movie) | self._given
        if "type" in self._facts and "series" not in self._given:
            self._series = str(self._facts["type"])
            self.dataset = f"/acquisition/{self._series}/data"
        lacking = {
            "session_start_time": "2026-01-31T14:05:00+01:00",
            "rate": "30.0",
        }
        absent = {name: text for name, text in lacking.items() if self._facts.get(name) is None}
        if absent:
            options = " ".join(f"--nwb {name}={text}" for name, text in absent.items())
            given = ", ".join(f'"{name}": {text!r}' for name, text in absent.items())
            raise ValueError(
                f"{self.path} needs {' and '.join(absent)}, which NWB requires and {movie.source} does not "
                f"tell: give them, for instance {options} (nwb={{{given}}})"
            )
        self._movie = movie

    def _first_content(self) -> bytes:
        """The file as pynwb writes it, without the values."""
        import h5py
        from pynwb import NWBHDF5IO

        assert self._movie is not None
        buffer = io.BytesIO()
        with NWBHDF5IO(file=h5py.File(buffer, "w"), mode="w") as writer:
            writer.write(_described(self._movie, self._facts, self._series))
        with h5py.File(buffer, "r+") as file:
            # The values have a place of their own; pynwb has to write some to describe them.
            self._attributes = dict(file[self.dataset].attrs)
            del file[self.dataset]
        return buffer.getvalue()

    def finish(self, array: Any, *, overwrite: bool) -> Any:
        """Describe the values as pynwb does, and finish the file."""
        self._file[self.dataset].attrs.update(self._attributes)
        return super().finish(array, overwrite=overwrite)


def _checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """The given values, in the types of NWB.

    Raises
    ------
    ValueError
        A name is unknown, or a value is none of its kind.
    """
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name not in NWB_FIELDS:
            raise ValueError(f"nwb (--nwb) has no {name!r}; it takes {', '.join(NWB_FIELDS)}")
        if name in _NUMBERS:
            try:
                found[name] = float(value)
            except (TypeError, ValueError):
                found[name] = math.nan
            if not (math.isfinite(found[name]) and found[name] > 0):
                raise ValueError(f"nwb {name} (--nwb {name}=) must be a number > 0, got {value!r}")
        elif name == "session_start_time":
            found[name] = _time(value)
            if found[name] is None or found[name].tzinfo is None:
                raise ValueError(
                    "nwb session_start_time (--nwb session_start_time=) must be a time with its zone, such "
                    f"as 2026-01-31T14:05:00+01:00, got {value!r}"
                )
        elif name == "type" and value not in _TYPES:
            raise ValueError(f"nwb type (--nwb type=) must be {' or '.join(_TYPES)}, got {value!r}")
        elif not str(value) or (name == "series" and "/" in str(value)):
            raise ValueError(f"nwb {name} (--nwb {name}=) must be {NWB_FIELDS[name]}, got {value!r}")
        else:
            found[name] = str(value)
    return found


def _time(value: Any) -> datetime | None:
    if isinstance(value, datetime):
        return value
    try:
        return datetime.fromisoformat(str(value))
    except ValueError:
        return None


def _facts_of(movie: Movie) -> dict[str, Any]:
    """A movie's own metadata, by the names of `NWB_FIELDS`."""
    metadata = movie.metadata
    told = metadata.get("nwb") or {}
    facts: dict[str, Any] = {
        "rate": metadata.get("frame_rate"),
        "session_start_time": _time(metadata["acquired"]) if metadata.get("acquired") else None,
        "type": told.get("type") if told.get("type") in _TYPES else None,
        "excitation_lambda": told.get("excitation_lambda"),
        "indicator": told.get("indicator"),
        "location": told.get("location"),
        "description": told.get("description"),
        "unit": told.get("unit"),
    }
    return {name: value for name, value in facts.items() if value is not None}


def _described(movie: Movie, facts: Mapping[str, Any], series: str) -> Any:
    """The file without the movie's values."""
    import numpy as np
    import pynwb
    from pynwb.ophys import OnePhotonSeries, OpticalChannel, TwoPhotonSeries

    about = {name: facts[name] for name in ("experimenter", "institution", "lab") if name in facts}
    file = pynwb.NWBFile(
        session_description=facts.get("session_description", f"recording {Path(movie.source).name}"),
        identifier=facts.get("identifier", str(uuid.uuid4())),
        session_start_time=facts["session_start_time"],
        source_script="anscombe-transform",
        source_script_file_name="compress",
        **about,
    )
    size = movie.metadata.get("pixel_size")
    spacing = {} if not size else {"grid_spacing": [size["x"], size["y"]], "grid_spacing_unit": "micrometers"}
    plane = file.create_imaging_plane(
        name="ImagingPlane",
        optical_channel=OpticalChannel(
            name="OpticalChannel",
            description=_UNKNOWN,
            emission_lambda=facts.get("emission_lambda", math.nan),
        ),
        description=_UNKNOWN,
        device=file.create_device(name=facts.get("device", "Microscope")),
        excitation_lambda=float(facts.get("excitation_lambda", math.nan)),
        indicator=str(facts.get("indicator", _UNKNOWN)),
        location=str(facts.get("location", _UNKNOWN)),
        imaging_rate=float(facts["rate"]),
        **spacing,
    )
    made = {"TwoPhotonSeries": TwoPhotonSeries, "OnePhotonSeries": OnePhotonSeries}
    _, height, width = movie.shape
    file.add_acquisition(
        made[str(facts.get("type", _TYPES[0]))](
            name=series,
            data=np.zeros((1, 1, 1), movie.dtype),
            imaging_plane=plane,
            rate=float(facts["rate"]),
            unit=facts.get("unit", "n.a."),
            dimension=[width, height],
            description=facts.get(
                "description", f"{movie.source}, stored with a bounded error, see the attribute of data"
            ),
        )
    )
    return file
