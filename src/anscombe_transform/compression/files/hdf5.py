"""HDF5 and NWB files as a destination: the array is a dataset with the filter, all else is as in Zarr.

The file is written as ``<name>.partial/<name>``, read back chunk by chunk when it is closed, and gets its
name when it is on the disk. HDF5 keeps its index in memory until then, so that nothing is left of a run that
was killed: such a run is begun again, `resume` or not.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anscombe_transform.codec.hdf5.parameters import FilterParameters, fit_to_filter
from anscombe_transform.codec.transform.configuration import fields_of
from anscombe_transform.compression.stored.arrays import open_array
from anscombe_transform.compression.stored.destination import OnDisk, check_taken
from anscombe_transform.movies.errors import missing
from anscombe_transform.movies.metadata import ATTRIBUTE
from anscombe_transform.native import crc32
from anscombe_transform.native.durable import GuardedFile, Workspace, delete, sync

if TYPE_CHECKING:
    from anscombe_transform.compression.stored.arrays import Codec
    from anscombe_transform.compression.stored.journal import Journal

__all__ = ["HDF5File", "check_ours"]

_log = logging.getLogger(__name__)


class HDF5File(OnDisk):
    """A dataset in a new HDF5 file, with the methods of `destination.Folder`."""

    resumable = False
    transposed = False

    def __init__(self, path: Path, dataset: str) -> None:
        try:
            import h5py  # noqa: F401  # before anything is read
        except ImportError as error:
            raise missing("h5py", path) from error
        try:
            from anscombe_transform.codec.hdf5 import store  # noqa: F401
        except ImportError as error:
            raise ValueError(
                f"{path}: HDF5 files are written with zarr-python 3.1.1 or later ({error}): pip install "
                '"zarr>=3.1.1", or write with h5py and anscombe_transform.hdf5.filter_options'
            ) from error
        super().__init__(path, Workspace(path, path.name))
        self.dataset = dataset
        self._guard: GuardedFile | None = None
        self._file: Any = None
        self._store: Any = None

    @property
    def place(self) -> Any:
        """The store of the array, once there is a file."""
        return self.name if self._store is None else self._store

    @property
    def filters_after(self) -> tuple[Any, ...]:
        """Filters after the codec in the pipeline of the array: codes are smaller to transpose."""
        if not self.transposed:
            return ()
        from zarr.codecs import TransposeCodec

        return (TransposeCodec(order=(0, 2, 1)),)

    def check(self, *, overwrite: bool, resume: bool, held: bool = False) -> None:
        """Refuse to write where something is that must stay.

        Raises
        ------
        FileExistsError
        """
        if os.path.lexists(self.path):
            check_taken(self.path, overwrite or resume)
            check_ours(self.path)
        elif not self.path.absolute().parent.is_dir():
            raise FileNotFoundError(
                f"there is no folder {self.path.parent} for {self.path.name}: create it first"
            )
        begun = self._work.is_begun() if held else self._work.folder.exists()
        if begun and not (overwrite or resume):
            raise FileExistsError(
                f"{self._work.folder} was left by an interrupted run, which can't be gone on with, as HDF5 "
                "writes its index last: begin again (overwrite=True, --overwrite)"
            )

    def begun(self) -> Any:
        """Nothing: a file that was not closed can't be relied on."""
        if self._work.is_begun():
            _log.warning("%s is begun again, as HDF5 keeps nothing of an interrupted run", self.name)
        return None

    def journal(self) -> Journal:
        """Runs are not resumed, so that there is none."""
        raise FileNotFoundError(f"{self.name} has no journal")

    def check_owner(self) -> None:
        """Raise an earlier error of writing the file, which HDF5 itself would not survive."""
        if self._guard is not None:
            self._guard.check()

    def adapted(self, codec: Codec) -> Codec:
        """The codec with values that fit the filter's parameters.

        Raises
        ------
        ValueError
            The filter can't hold its codes.
        """
        configuration = fit_to_filter(codec.plan.configuration)
        from anscombe_transform.codec.frames import FrameConfiguration

        FilterParameters(configuration, (1, 1, 1), FrameConfiguration()).pack()
        return type(codec)(**fields_of(replace(configuration, zero_code=None)))

    def make_room(self) -> None:
        """Begin a new file."""
        import h5py

        from anscombe_transform.codec.hdf5.store import HDF5Store

        self.discard()
        self._guard = GuardedFile(self._work.content)
        content = self._first_content()
        if content:
            self._guard.write(content)
            self._guard.seek(0)
        self._file = h5py.File(self._guard, "r+" if content else "w")
        self._store = HDF5Store(self._file, self.dataset, transposed=self.transposed, read_only=False)
        self._store.check = self._guard.check

    def _first_content(self) -> bytes:
        """Content of the file before the movie is written."""
        return b""

    def discard(self) -> None:
        """Close and delete an unfinished file."""
        self._close()
        delete(self._work.content)

    def _close(self) -> None:
        file, guard = self._file, self._guard
        self._file = self._guard = self._store = None
        if file is not None:
            file.close()
        if guard is not None:
            guard.close()

    def finish(self, array: Any, *, overwrite: bool) -> Any:
        """Close the file, read it back, and give it its name.

        Raises
        ------
        FileExistsError
            There is something of this name now that is not to be replaced.
        OSError
            The file could not be written, or differs from the values written.
        """
        written, attributes = dict(self._store.checksums), dict(array.attrs)
        guard = self._guard
        self._close()
        if guard is not None:
            guard.check()
        self._check_written(written, attributes)
        sync(self._work.content)
        if os.path.lexists(self.path):
            self.check(overwrite=overwrite, resume=False, held=True)
        self._work.put_in_place()
        self.discard()
        return open_array(f"{self.path}::{self.dataset}")

    def _check_written(self, written: Mapping[tuple[int, ...], int], attributes: dict[str, Any]) -> None:
        """Compare every byte of every chunk of the closed file with the one written."""
        import h5py

        from anscombe_transform.codec.hdf5.store import HDF5Store, stored_offsets

        with h5py.File(self._work.content, "r") as file:
            dataset = file[self.dataset]
            found = HDF5Store(file, self.dataset, transposed=self.transposed)._metadata()["attributes"]
            same = found.get(ATTRIBUTE) == attributes[ATTRIBUTE]
            same = same and set(stored_offsets(dataset)) == set(written)
            same = same and all(
                crc32(dataset.id.read_direct_chunk(offset)[1]) == checksum
                for offset, checksum in written.items()
            )
        if not same:
            raise OSError(
                f"{self.path} was not written: what was read back is not what was written; the disk may fail"
            )

    def size(self, array: Any) -> int:
        """Bytes of the finished file."""
        return self.path.stat().st_size


def check_ours(path: Path) -> None:
    """Refuse a file that `compress` did not write, or that holds more than one movie."""
    import h5py

    if path.is_dir() or not path.exists():
        raise FileExistsError(f"{path} is a folder or a dead link, and is not replaced by a file")
    try:
        with h5py.File(path, "r") as file:
            ours: list[str] = []
            others: list[str] = []

            def look(name: str, item: Any) -> None:
                if isinstance(item, h5py.Dataset) and (item.ndim >= 3 or ATTRIBUTE in item.attrs):
                    (ours if ATTRIBUTE in item.attrs else others).append(name)

            file.visititems(look)
    except OSError as error:
        raise FileExistsError(
            f"{path} exists and can't be read as HDF5 ({error}), so it is not overwritten: "
            "delete it yourself, or choose another name"
        ) from error
    if len(ours) != 1 or others:
        held = ", ".join([*ours, *others]) or "no movie"
        raise FileExistsError(
            f"{path} holds {held}, and is not a file that compress wrote, so it is not overwritten: "
            "choose another name, or delete it yourself"
        )
