"""Options of `compress` that functions around it hand on, typed."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from numpy.typing import DTypeLike

if TYPE_CHECKING:
    from anscombe_transform.calibration.result.sensitivity import Sensitivity
    from anscombe_transform.codec.pipeline import Preset

__all__ = ["BatchOptions", "CompressOptions", "RecordingOptions", "check_options"]


class _Shared(TypedDict, total=False):
    """Options of `compress`, which describes them, that no function around it has a parameter for."""

    sensitivity: Sensitivity | None
    preset: Preset
    beta: float
    chunks: Sequence[int] | None
    shards: Sequence[int] | None
    dtype: DTypeLike | None
    encoded_dtype: str | None
    out_of_range: Literal["raise", "clip"]
    zero_code: int | None
    verify: bool
    accept_mismatch: bool
    threads: int | None
    client: Any
    storage_options: dict[str, Any] | None


class CompressOptions(_Shared, total=False):
    """Options that `write_ome_zarr` hands on."""

    resume: bool


class _Layouts(_Shared, total=False):
    """Options of `compress` and `write_ome_zarr`."""

    overwrite: bool
    zarr_format: Literal[2, 3]
    dimension_names: Sequence[str]
    pyramid: int
    pixel_size: float | tuple[float, float] | None
    frame_interval: float | None
    name: str | None


class RecordingOptions(_Layouts, total=False):
    """Options that `compress_recording` hands on."""

    resume: bool
    part: tuple[int, int] | None
    nwb: Mapping[str, Any] | None
    plain: bool


class BatchOptions(_Layouts, total=False):
    """Options that `compress_all` hands on."""

    partial: bool


def check_options(options: Collection[str], known: frozenset[str], function: str) -> None:
    """Refuse names that no option has.

    Raises
    ------
    TypeError
        It names the option that is nearest.
    """
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}{meant}")
