"""How far the noise of a movie is from that of a detector's constants."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from anscombe_transform.native.documents import Printed, json_document

AgreementVerdict = Literal["agrees", "differs", "contradicts", "unchecked"]
Interval = tuple[float, float]

_NAN = math.nan
_UNKNOWN = (_NAN, _NAN)


class ConstantsMismatch(ValueError):
    """Given constants contradict the movie; `agreement` holds the measurement.

    Attributes
    ----------
    agreement : Agreement

    Examples
    --------
    >>> import tempfile
    >>> from anscombe_transform import Sensitivity, compress, simulate_movie
    >>> movie, _ = simulate_movie((60, 64, 64), conversion_gain=90, zero_level=50, rng=0)
    >>> wrong = Sensitivity.from_known(conversion_gain=900, zero_level=50)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     try:
    ...         _ = compress(movie, f"{folder}/movie.zarr", sensitivity=wrong)
    ...     except ConstantsMismatch as error:
    ...         print(error.agreement.verdict, round(error.agreement.gain_factor, 1))
    contradicts 0.1
    """

    def __init__(self, agreement: Agreement) -> None:
        self.agreement = agreement
        super().__init__(
            f"the constants contradict this movie: {agreement.message} Leave the constants out, so that the "
            "movie is calibrated by itself, correct them, or store it all the same: accept_mismatch=True "
            "(--accept-mismatch), which the array's attributes record"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.agreement,)


@dataclass(frozen=True, kw_only=True, repr=False)
class Agreement(Printed):
    """Measured noise variance over that of a detector's constants.

    Attributes
    ----------
    verdict : {"agrees", "differs", "contradicts", "unchecked"}
        "differs" is a mild disagreement, which is reported only; "unchecked" says that the movie shows no
        noise, as a single image does.
    message : str
        The same in words.
    factor : float
        Measured noise variance over that of the constants, at the pixel of median brightness ratio; NaN where
        unchecked. 0.1 where the gain is ten times too high and noise is that of photons.
    factor_interval : (float, float)
        95 % interval of `factor`.
    gain_factor : float
        Gain that the movie shows over the given one; NaN where its calibration found none.
    gain_factor_interval : (float, float)
        95 % interval of `gain_factor`.
    mean : tuple of float
        Brightness of groups of pixels, signal units, ascending.
    ratio : tuple of float
        Measured over expected noise variance of each group.
    ratio_error : tuple of float
        Standard error of `ratio`.
    code_mean, code_ratio : tuple of float
        Mean signal of groups of pixels, and the noise variance of their codes over ``1 / beta**2 + 1 / 12``,
        where a codec was given: 1 at every brightness above about a photon if the constants are right.
    structured : bool
        Motion or activity adds to the differences of frames, so that `factor` is bracketed only.

    Examples
    --------
    >>> from anscombe_transform import Sensitivity, simulate_movie
    >>> movie, _ = simulate_movie((60, 64, 64), conversion_gain=90, zero_level=50, rng=0)
    >>> Sensitivity.from_known(conversion_gain=90, zero_level=50).agreement(movie).verdict
    'agrees'
    """

    verdict: AgreementVerdict
    message: str
    factor: float = _NAN
    factor_interval: Interval = _UNKNOWN
    gain_factor: float = _NAN
    gain_factor_interval: Interval = _UNKNOWN
    mean: tuple[float, ...] = ()
    ratio: tuple[float, ...] = ()
    ratio_error: tuple[float, ...] = ()
    code_mean: tuple[float, ...] = ()
    code_ratio: tuple[float, ...] = ()
    structured: bool = False

    @property
    def noise_factor(self) -> float:
        """Measured standard deviation of the noise over that of the constants; 1 where unchecked."""
        return math.sqrt(self.factor) if math.isfinite(self.factor) and self.factor > 0 else 1.0

    @property
    def checked(self) -> bool:
        """Whether the movie shows enough noise to tell."""
        return self.verdict != "unchecked"

    def __str__(self) -> str:
        return f"{self.verdict}: {self.message}"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types; NaN becomes None."""
        return json_document({field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Agreement:
        """The agreement that `to_dict` described; fields of a later version are passed over."""
        known: dict[str, Any] = {}
        for name, field in cls.__dataclass_fields__.items():
            if name not in document:
                continue
            value = document[name]
            if field.type == "float":
                value = _NAN if value is None else float(value)
            elif isinstance(value, list | tuple):
                value = tuple(_NAN if item is None else float(item) for item in value)
            known[name] = value
        return cls(**known)
