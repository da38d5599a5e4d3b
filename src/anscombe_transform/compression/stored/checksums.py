"""The checksums in an array's record: which values `compress` wrote and verified, block by block.

They tell whether the stored values are still those. An array that was appended to, cut, written to or given
other attributes since then no longer agrees with its record, and every reader of this package says so.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anscombe_transform.compression.blocks.comparison import checksum, from_hex
from anscombe_transform.compression.blocks.layout import Layout
from anscombe_transform.compression.blocks.verification import VerificationError
from anscombe_transform.compression.stored.keys import keys_of
from anscombe_transform.compression.stored.notes import (
    CHECKSUM,
    CHECKSUMS_BESIDE,
    difference_from_notes,
    notes_of,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["StoredChecksums", "check_record", "text_of"]


@dataclass(frozen=True, slots=True)
class StoredChecksums:
    """Checksums of the bands of every block of an array.

    Attributes
    ----------
    layout : Layout
        The blocks and bands that they are of.
    expected : dict of int to tuple of int
        Those of the bands of a block, by its first frame.
    """

    layout: Layout
    expected: dict[int, tuple[int, ...]]

    @classmethod
    def of(cls, array: Any, name: str) -> StoredChecksums | None:
        """Those of an array's record; None where it has none.

        Raises
        ------
        VerificationError
            The array has another shape than was written, its record was edited, or its checksums make no
            sense.
        ValueError
            The checksums are of a kind that this version does not know.
        """
        check_record(array, name)
        checksums = notes_of(array).get("checksums")
        if not checksums:
            return None
        if not isinstance(checksums, dict):
            raise _changed(name, "its record has no list of checksums")
        if checksums.get("algorithm") != CHECKSUM:
            raise ValueError(
                f"{name} has checksums of a kind that this version doesn't know, "
                f"{checksums.get('algorithm')!r:.40}"
            )
        shape = tuple(int(n) for n in array.shape)
        lengths = checksums.get("block_frames"), checksums.get("band_rows")
        if not all(isinstance(n, int) and not isinstance(n, bool) and 0 < n < 2**40 for n in lengths):
            raise _changed(name, f"its record has checksums of blocks of {lengths[0]!r:.20} frames")
        block_frames, band_rows = lengths
        layout = Layout(shape, tuple(int(n) for n in array.chunks), None, block_frames, band_rows)  # type: ignore[arg-type]
        blocks, bands = -(-shape[0] // layout.block_frames), -(-shape[1] // layout.band_rows)
        text = text_of(array, checksums.get("values"), name)
        if not isinstance(text, str) or len(text) != 8 * blocks * bands:
            held = len(text) // 8 if isinstance(text, str) else 0
            raise _changed(name, f"its record has {held} checksums for {blocks * bands} parts")
        try:
            values = from_hex(text)
        except ValueError as error:
            raise _changed(name, "its record has checksums that are no numbers") from error
        parts = [values[i : i + bands] for i in range(0, len(values), bands)]
        return cls(layout, dict(zip([start for start, _ in layout.spans], parts, strict=True)))

    def check_block(self, block: NDArray[Any], start: int, name: str, whole: int | None = None) -> None:
        """Refuse a whole block of frames with values that changed since they were written.

        Parameters
        ----------
        block : ndarray, shape (frames, y, x)
            All frames of a block of the layout.
        start : int
            Its first frame.
        name : str
            Of the array, for the error.
        whole : int, optional
            Checksum of the block, where it is known.

        Raises
        ------
        VerificationError
            Names the frames and the first chunk.
        """
        bands = self.layout.bands
        for (top, bottom), expected in zip(bands, self.expected[start], strict=True):
            found = whole if whole is not None and len(bands) == 1 else checksum(block[:, top:bottom])
            if found != expected:
                chunk = self.layout.chunk_at((start, top, 0))
                raise VerificationError(
                    f"frames {start} to {start + len(block) - 1} of {name} are not what was written, from "
                    f"chunk {chunk} on: chunks were damaged, exchanged or written to; take them from a copy "
                    "that is whole"
                )


def text_of(array: Any, values: Any, name: str) -> Any:
    """The checksums of an array's record as one text, from the document beside the array if they are there.

    Raises
    ------
    VerificationError
        The document is not the one that was written.
    """
    if not isinstance(values, dict):
        return values
    content = keys_of(array).get(CHECKSUMS_BESIDE)
    if content is None or hashlib.sha256(content).hexdigest() != values.get("sha256"):
        raise _changed(name, "the document of its checksums is missing or damaged")
    return content.decode("ascii")


def check_record(array: Any, name: str) -> None:
    """Refuse an array that is not the one that its record is of.

    Raises
    ------
    VerificationError
        The array was appended to or cut, or the record was edited.
    """
    how = difference_from_notes(array)
    if how is not None:
        raise _changed(name, how)


def _changed(name: str, how: str) -> VerificationError:
    return VerificationError(
        f"{name} was changed after it was written: {how}. Its record holds no longer; compare it with its "
        "source (--against), or take it from a copy that is whole"
    )
