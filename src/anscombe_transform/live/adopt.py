"""Taking over an array of codes that another program wrote.

Fast writers of Zarr (acquire-zarr, ome-writers, tensorstore) know nothing of our codec, but an array of
codes, uint8 or uint16, needs nothing more than metadata to become an array of signals: the codec in front
of those that are there, the dtype of the values, a checksum for every block, and a record.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anscombe_transform.calibration import Sensitivity
from anscombe_transform.codec.zarr_v2 import AnscombeTransformV2
from anscombe_transform.compression.blocks.comparison import checksum
from anscombe_transform.compression.blocks.layout import Layout
from anscombe_transform.compression.blocks.sampling import Extent
from anscombe_transform.compression.blocks.workers import in_threads
from anscombe_transform.compression.results import StoredMovie, describe
from anscombe_transform.compression.stored.arrays import (
    codec_of,
    local_path,
    open_array,
    read_metadata,
    replace_metadata,
)
from anscombe_transform.compression.stored.journal import Record
from anscombe_transform.compression.stored.keys import keys_beside
from anscombe_transform.compression.stored.notes import Described, first_notes, last_notes, notes_of
from anscombe_transform.movies.metadata import ATTRIBUTE, packing
from anscombe_transform.native.work import Progress, count_threads, reporting

if TYPE_CHECKING:
    from anscombe_transform.codec.zarr_v3 import AnscombeTransformV3

__all__ = ["adopt"]


def adopt(
    array: str | os.PathLike[str],
    codec: AnscombeTransformV2 | AnscombeTransformV3,
    *,
    sensitivity: Sensitivity | None = None,
    metadata: Mapping[str, Any] | None = None,
    progress: Progress | bool | None = None,
    threads: int | None = None,
) -> StoredMovie:
    """Make an array of codes the array of signals that they stand for.

    Parameters
    ----------
    array : path
        Folder of a Zarr array ``(time, y, x)`` of codes of `codec`, written and compressed by any program.
    codec : AnscombeTransformV2 or AnscombeTransformV3
        That encoded the signals, of the array's Zarr format.
    sensitivity : Sensitivity, optional
        Constants behind the codec; by default those that the codec holds, with the verdict ``"given"``.
    metadata : mapping, optional
        Metadata of the recording, in the names of `Movie.metadata`.
    progress, threads : optional
        As for `compress`.

    Returns
    -------
    StoredMovie
        The array's metadata. Its record has checksums of all values, so that `verify` finds
        damage; it says that nothing was compared with a source, which was not there. ``verify(array,
        source)`` does so.

    Raises
    ------
    ValueError
        The array's dtype is not that of the codes, it has this codec already, a code is in it that stands
        for no value, or the codec is of the other Zarr format.
    FileNotFoundError
        There is no array.

    Notes
    -----
    Chunks are not touched. The document of metadata is replaced as a whole, after all codes were read.

    Examples
    --------
    >>> import tempfile, numpy as np, zarr
    >>> from anscombe_transform import Sensitivity
    >>> from anscombe_transform.live import adopt
    >>> known = Sensitivity.from_known(conversion_gain=90, zero_level=50)
    >>> movie = (50 + 90 * np.random.default_rng(0).poisson(8, (20, 64, 64))).astype("int16")
    >>> codec = known.codec(sample=movie)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     codes = codec.plan.encode(movie)
    ...     _ = zarr.create_array(f"{folder}/a.zarr", data=codes)  # or any other program
    ...     _ = adopt(f"{folder}/a.zarr", codec)
    ...     stored = zarr.open_array(f"{folder}/a.zarr", mode="r")
    ...     print(stored.dtype, bool((abs(stored[:] - movie) <= codec.max_error(movie)).all()))
    int16 True
    """
    path = local_path(array)
    if path is None:
        raise ValueError(f"an array in a folder of this computer can be adopted, got {array!r}")
    codes = open_array(path)
    plan = codec.plan
    _check(codes, codec, path)
    if sensitivity is None:
        curve = plan.curve
        sensitivity = Sensitivity.from_known(
            conversion_gain=curve.conversion_gain, zero_level=curve.zero_level, read_noise=curve.read_noise
        )
    frames, height, width = (int(n) for n in codes.shape)
    shape = frames, height, width
    layout = Layout.of(shape, plan.decoded_dtype, codes.chunks, getattr(codes, "shards", None))
    count = len(plan.bins[0])

    def look(start: int, stop: int) -> Record:
        block = np.asarray(codes[start:stop])
        if int(block.max(initial=0)) >= count and plan.decoded_dtype.kind != "f":
            raise ValueError(
                f"{path} holds the code {int(block.max())} in frames {start} to {stop - 1}, and the codec "
                f"has {count} codes: it was encoded otherwise"
            )
        values = plan.decode(block)
        bands = tuple(checksum(values[:, top:bottom]) for top, bottom in layout.bands)
        return Record(start, stop, (), bands, Extent.of(values), None)

    with reporting(progress) as report:
        records = in_threads(look, layout.spans, count_threads(threads), report, "read")
    described = Described("codes that another program wrote", shape, plan.decoded_dtype, dict(metadata or {}))
    notes = first_notes(
        described, sensitivity, plan, agreement=None, parameters={"adopted": True}, sample_checksum=""
    )
    notes = last_notes(
        notes,
        plan=plan,
        layout=layout,
        records=records,
        extent=Extent.merged([record.extent for record in records]),
        verification=None,
        beside=keys_beside(path, None),
    )
    _write_metadata(path, codec, notes, packing(described.metadata))
    return describe(path)


def _check(codes: Any, codec: Any, path: Path) -> None:
    plan = codec.plan
    if codes.ndim != 3:
        raise ValueError(f"{path} must be (time, y, x), and has the shape {codes.shape}")
    if codec_of(codes) is not None or notes_of(codes):
        raise ValueError(f"{path} has the codec already: there is nothing to adopt")
    if codes.dtype != plan.encoded_dtype:
        raise ValueError(
            f"{path} holds {codes.dtype}, and the codes of this codec are {plan.encoded_dtype}: it is not "
            "an array of its codes"
        )
    is_v2 = (path / ".zarray").exists()
    if is_v2 != isinstance(codec, AnscombeTransformV2):
        needed = 2 if is_v2 else 3
        raise ValueError(
            f"{path} is of Zarr format {needed}, and the codec is of the other: make it with "
            f"zarr_format={needed}"
        )


def _write_metadata(path: Path, codec: Any, notes: dict[str, Any], attributes: dict[str, Any]) -> None:
    """Replace the metadata of an array of codes by those of the signals."""
    plan = codec.plan
    zero = 0 if plan.lowest <= 0 <= plan.highest else plan.lowest
    fill = int(zero) if plan.decoded_dtype.kind != "f" else float(zero)
    document = read_metadata(path) | {"fill_value": fill}
    if "codecs" in document:
        outer = document["codecs"]
        # Within shards, so that a chunk can still be read by itself.
        inner = outer[0]["configuration"]["codecs"] if outer[0]["name"] == "sharding_indexed" else outer
        inner.insert(0, codec.to_dict())
        document["data_type"] = plan.decoded_dtype.name
    else:
        document["filters"] = [codec.get_config(), *(document.get("filters") or [])]
        document["dtype"] = plan.decoded_dtype.newbyteorder("<").str
    replace_metadata(path, document, attributes | {ATTRIBUTE: notes})
