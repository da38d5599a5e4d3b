"""Movies of FITS cubes, by astropy, which scales the values (BZERO, BSCALE) as the standard says."""

from __future__ import annotations

import threading
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anscombe_transform.movies.errors import errors_named, missing
from anscombe_transform.movies.metadata import facts
from anscombe_transform.movies.movie import Movie, file_movie
from anscombe_transform.movies.selection import Box, Choice, select

_KEPT = ("INSTRUME", "DETECTOR", "TELESCOP", "OBJECT", "EXPTIME", "GAIN", "RDNOISE", "RON", "BUNIT", "FILTER")


def open_fits(path: Path, choice: Choice) -> Movie:
    """Open the cube of a FITS file, or the HDU that `series` names by number or name."""
    try:
        from astropy.io import fits
    except ImportError as error:
        raise missing("astropy", path, "astro") from error
    choice.allow(str(path), "series", "dataset")
    with ExitStack() as cleanup:
        with errors_named(str(path)), warnings.catch_warnings():
            # A file that was cut short is a warning of astropy, and its pixels would be read as they come.
            warnings.filterwarnings("error", message=".*truncated.*")
            file = cleanup.enter_context(fits.open(path, mode="readonly", memmap=False, lazy_load_hdus=True))
            images = {
                number: tuple(int(n) for n in hdu.shape)
                for number, hdu in enumerate(file)
                if getattr(hdu, "is_image", False) and hdu.shape
            }
            names = {number: file[number].name for number in images}
        number = _choose_hdu(path, images, names, choice)
        hdu = file[number]
        source = str(path) if len(images) == 1 else f"{path}::{number}"
        view = select(None, images[number], choice, source)
        with errors_named(source):
            # One value tells the type after scaling, which the header gives in three keywords.
            corner = hdu.section[(slice(0, 1),) * len(images[number])]
            header = hdu.header
            metadata = facts(
                format="FITS",
                acquired=header.get("DATE-OBS"),
                fits={name: header[name] for name in _KEPT if name in header},
            )
        lock = threading.Lock()

        def read(box: Box) -> NDArray[Any]:
            # The sections of a file share one position in it.
            with lock:
                return np.asarray(view.read(hdu.section, box))

        movie = file_movie(
            read, view=view, dtype=corner.dtype, source=source, close=file.close, metadata=metadata
        )
        cleanup.pop_all()
    return movie


def _choose_hdu(path: Path, images: dict[int, tuple[int, ...]], names: dict[int, str], choice: Choice) -> int:
    listing = ", ".join(
        f"{number} {names[number] or 'without a name'} {shape}" for number, shape in images.items()
    )
    asked = choice.series if choice.series is not None else choice.dataset
    if asked is not None:
        named = [number for number in images if str(asked).upper() in (str(number), names[number].upper())]
        if not named:
            raise ValueError(f"{path} has no image {asked!r}; it holds {listing or 'no images'}")
        return named[0]
    cubes = [number for number, shape in images.items() if len(shape) >= 3]
    if len(cubes) == 1 or (not cubes and len(images) == 1):
        return (cubes or list(images))[0]
    if not images:
        raise ValueError(f"{path} holds no images")
    if not cubes:
        raise ValueError(f"{path} holds single images and no movie (time, y, x): {listing}")
    raise ValueError(f"{path} holds {len(cubes)} movies: {listing}. Say which: series={cubes[0]}")
