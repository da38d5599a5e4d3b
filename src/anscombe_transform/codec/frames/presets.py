"""Metadata of an array about its frame coder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from anscombe_transform.native.documents import check_keys

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CODES", "FRAMES", "FrameConfiguration", "FramePreset"]

FRAMES = "anscombe_frames"
CODES = ("uint8", "uint16")
FramePreset = Literal["fast", "compact"]
_EFFORTS: tuple[str, ...] = get_args(FramePreset)


@dataclass(frozen=True, slots=True)
class FrameConfiguration:
    """Preset and time axis of a frame coder; both are checked on construction.

    Parameters
    ----------
    preset : {"fast", "compact"}
        How much effort an encoder makes. A decoder need not know: every chunk says how it is stored.
    time_axis : int or None
        Axis along which frames follow each other. None where no axis is time: the last two axes are images
        and the others separate ones.

    Raises
    ------
    ValueError, TypeError
        If a field breaks its rule.

    Examples
    --------
    >>> FrameConfiguration("compact").to_json()
    {'preset': 'compact', 'time_axis': 0}
    """

    preset: FramePreset = "fast"
    time_axis: int | None = 0

    def __post_init__(self) -> None:
        if self.preset not in _EFFORTS:
            raise ValueError(f"preset must be one of {', '.join(_EFFORTS)}, got {self.preset!r}")
        axis = self.time_axis
        if axis is not None and (isinstance(axis, bool) or not isinstance(axis, int)):
            raise TypeError(f"time_axis must be an integer or None, got {axis!r}")
        if axis is not None and not 0 <= axis < 64:
            raise ValueError(f"time_axis must be the number of an axis, counted from 0, got {axis!r}")

    @property
    def effort(self) -> int:
        """The preset as the coder counts it: 0 is the least effort."""
        return _EFFORTS.index(self.preset)

    def check_axes(self, dimensions: int) -> None:
        """Refuse an array that has no such time axis.

        Raises
        ------
        ValueError
            If `time_axis` is beyond the array's dimensions.
        """
        if self.time_axis is not None and self.time_axis >= max(dimensions, 1):
            raise ValueError(
                f"time_axis is {self.time_axis}, but the array has {dimensions} dimensions: give the number "
                "of the axis along which frames follow each other, or None"
            )

    def to_json(self) -> dict[str, Any]:
        """The configuration as JSON types, complete: a reader needs no default."""
        return asdict(self)

    @classmethod
    def from_json(cls, name: str, document: Mapping[str, Any]) -> FrameConfiguration:
        """Read a stored configuration; `name` is the codec's name or id in the metadata.

        Raises
        ------
        ValueError
            If the name is not ours, or a key is missing or unknown.
        """
        if name != FRAMES:
            raise ValueError(f"codec name must be {FRAMES}, got {name!r}")
        check_keys(FRAMES, document, known := {"preset", "time_axis"}, known)
        return cls(**document)
