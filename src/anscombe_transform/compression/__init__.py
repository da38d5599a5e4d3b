"""From a recording to a Zarr array that is proven to be within its bound.

`compress` streams a movie into a Zarr array in blocks of whole chunks: each is read, encoded, written, read
back from the store and compared with the source, value by value, against the bound of the codec. An
interrupted run goes on where it stopped, and nothing looks finished before it is. The constants, the codec
and the result are kept in the array's attributes under ``"anscombe_transform"``.

`verify` repeats the proof later, against the source or against the checksums that were stored. `describe`
reads the metadata of a stored array.
"""

from __future__ import annotations

import sys

from anscombe_transform.compression.blocks import layout
from anscombe_transform.compression.blocks.mean_shift import MeanShift
from anscombe_transform.compression.blocks.source import SourceChangedError
from anscombe_transform.compression.blocks.verification import Verification, VerificationError
from anscombe_transform.compression.checking import verify
from anscombe_transform.compression.results import CompressionResult, StoredMovie, describe
from anscombe_transform.compression.writing import compress
from anscombe_transform.movies.metadata import ATTRIBUTE
from anscombe_transform.native.work import Progress

__all__ = [
    "ATTRIBUTE",
    "CompressionResult",
    "MeanShift",
    "Progress",
    "SourceChangedError",
    "StoredMovie",
    "Verification",
    "VerificationError",
    "compress",
    "describe",
    "verify",
]

# Scripts set the size of blocks by this module's path of development versions.
sys.modules[f"{__name__}.layout"] = layout
