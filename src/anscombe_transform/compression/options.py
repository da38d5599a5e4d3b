"""Options of `compress` that functions around it hand on, typed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from numpy.typing import DTypeLike

if TYPE_CHECKING:
    from anscombe_transform.calibration.sensitivity import Sensitivity
    from anscombe_transform.presets import Preset

__all__ = ["CompressOptions"]


class CompressOptions(TypedDict, total=False):
    """Options of `compress`, which describes them, but for those that callers have parameters for."""

    sensitivity: Sensitivity | None
    preset: Preset
    beta: float
    chunks: Sequence[int] | None
    shards: Sequence[int] | None
    dtype: DTypeLike | None
    encoded_dtype: str | None
    out_of_range: Literal["raise", "clip"]
    zero_code: int | None
    resume: bool
    verify: bool
    accept_mismatch: bool
    threads: int | None
    client: Any
