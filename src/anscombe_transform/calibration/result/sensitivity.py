"""The result of a calibration: the detector's constants, their intervals, and the verdict."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from anscombe_transform.calibration.result.constants import (
    Constant,
    ratio_interval,
    read_noise_interval,
    with_bracket,
)
from anscombe_transform.codec.transform.curve import beta_for, check_detector
from anscombe_transform.native.documents import html_table, json_document

if TYPE_CHECKING:
    from anscombe_transform.calibration.result.agreement import Agreement
    from anscombe_transform.calibration.result.pixel_maps import PixelMaps
    from anscombe_transform.codec.zarr_v2 import AnscombeTransformV2
    from anscombe_transform.codec.zarr_v3 import AnscombeTransformV3

Verdict = Literal["trustworthy", "given", "caution", "refused"]
Severity = Literal["note", "caution", "refusal"]
Interval = tuple[float, float]

_NAN = math.nan
_log = logging.getLogger(__name__)


class UntrustworthyCalibration(ValueError):
    """The movie does not reveal its noise; `sensitivity` holds the estimates and the reasons.

    Attributes
    ----------
    sensitivity : Sensitivity
        The refused calibration.

    Examples
    --------
    >>> import numpy as np
    >>> from anscombe_transform import UntrustworthyCalibration, compute_sensitivity
    >>> try:
    ...     compute_sensitivity(np.full((20, 32, 32), 7, "int16"))
    ... except UntrustworthyCalibration as refusal:
    ...     print([reason.code for reason in refusal.sensitivity.reasons])
    ['constant']
    """

    def __init__(self, sensitivity: Sensitivity) -> None:
        self.sensitivity = sensitivity
        refusals = [r for r in sensitivity.reasons if r.severity == "refusal"] or list(sensitivity.reasons)
        between = "\n" if len(refusals) > 1 else " "
        super().__init__(
            between.join(["this movie cannot be calibrated:", *(f"[{r.code}] {r.message}" for r in refusals)])
            + " (on_refusal='return' gives the figures all the same; Sensitivity.from_known takes "
            "constants that are known otherwise, which compress then checks against the movie's noise)"
        )


@dataclass(frozen=True)
class Reason:
    """One finding that bears on the verdict.

    Attributes
    ----------
    code : str
        Stable name, for programs.
    message : str
        A sentence, for people.
    severity : {"note", "caution", "refusal"}
        The verdict is "refused" with any refusal, "caution" with any caution, else "trustworthy".

    Examples
    --------
    >>> import numpy as np
    >>> from anscombe_transform import compute_sensitivity
    >>> found = compute_sensitivity(np.full((30, 64, 64), 7), on_refusal="return")
    >>> [(reason.code, reason.severity) for reason in found.reasons]
    [('constant', 'refusal')]
    """

    code: str
    message: str
    severity: Severity = "note"


_GIVEN = Reason(
    "known_constants", "the constants were given, not measured; compress compares them with its movie."
)


class NothingToMeasure(Exception):
    """There is nothing to calibrate; `reason` says why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.reason = Reason(code, message, "refusal")


@dataclass(frozen=True, eq=False)
class TransferCurve:
    """Photon transfer curve: noise variance against mean signal, in bins of brightness.

    Attributes
    ----------
    mean, variance : ndarray of float64, shape (bins,)
        Signal units, and signal units squared; sorted by mean.
    standard_error : ndarray of float64, shape (bins,)
        Standard error of `variance`.
    count : ndarray of float64, shape (bins,)
        Residuals in the bin.

    Examples
    --------
    >>> import numpy as np
    >>> from anscombe_transform import compute_sensitivity, simulate_movie
    >>> movie, _ = simulate_movie((64, 64, 64), conversion_gain=90, zero_level=50, rng=0)
    >>> curve = compute_sensitivity(movie).transfer_curve
    >>> slope = np.polyfit(curve.mean, curve.variance, 1, w=1 / curve.standard_error)[0]
    >>> bool(80 < slope < 100)
    True
    """

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    standard_error: NDArray[np.float64]
    count: NDArray[np.float64]

    @classmethod
    def empty(cls) -> TransferCurve:
        """No bins, for constants that were not measured."""
        return cls(*(np.zeros(0) for _ in range(4)))

    def to_dict(self) -> dict[str, list[float]]:
        """Return the columns as lists."""
        return {name: array.tolist() for name, array in vars(self).items()}

    @classmethod
    def from_dict(cls, columns: Mapping[str, Any]) -> TransferCurve:
        """Rebuild a curve from `to_dict`; None becomes NaN."""
        return cls(**{name: np.array([_number(v) for v in column]) for name, column in columns.items()})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TransferCurve):
            return NotImplemented
        return all(
            np.array_equal(a, b) for a, b in zip(vars(self).values(), vars(other).values(), strict=True)
        )

    def __hash__(self) -> int:
        return hash(tuple(array.tobytes() for array in vars(self).values()))


@dataclass(frozen=True)
class Rejected:
    """Rows that were left out of the line.

    Attributes
    ----------
    reason : str
        "cut off" (saturated, or cut at a smallest value), "beyond the straight part" of a bent curve, or
        "not noise alone" (motion, activity, defective pixels).
    share : float
        Part of all rows, from 0 to 1.
    curve : TransferCurve
        Their binned variance against mean.

    Examples
    --------
    >>> from anscombe_transform import compute_sensitivity, simulate_movie
    >>> movie, _ = simulate_movie((64, 64, 64), conversion_gain=90, zero_level=50, rng=0)
    >>> found = compute_sensitivity(movie.clip(None, 1000))
    >>> "cut off" in {part.reason for part in found.rejected}
    True
    """

    reason: str
    share: float
    curve: TransferCurve


@dataclass(frozen=True, eq=False)
class Evidence:
    """The evidence behind the verdict, for plots; it is not part of `Sensitivity.to_dict`.

    Attributes
    ----------
    whiteness : (float, float, float)
        Part of its variance that noise keeps in second differences along x, y and time: 1 for white noise,
        less for smoothed; NaN where it was not measured.
    gains : dict of str to (float, float)
        Gain and its standard error by every filter that was tried.
    variance_ratio : ndarray of float64, shape (tile rows, tile columns)
        Noise variance of each tile over that of the line at its brightness; NaN where nothing was measured.
    used : ndarray of float64, shape (tile rows, tile columns)
        Share of the tile's rows that the line rests on, from 0 to 1.

    Examples
    --------
    >>> from anscombe_transform import compute_sensitivity, simulate_movie
    >>> movie, _ = simulate_movie((64, 66, 82), conversion_gain=90, zero_level=50, rng=0)
    >>> evidence = compute_sensitivity(movie).evidence
    >>> evidence.used.shape, all(0.9 < ratio < 1.1 for ratio in evidence.whiteness)
    ((8, 10), True)
    """

    whiteness: tuple[float, float, float]
    gains: dict[str, tuple[float, float]]
    variance_ratio: NDArray[np.float64]
    used: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """A detector's constants as read from a movie.

    The noise variance at mean m is ``conversion_gain · (m − variance_intercept)``.

    Attributes
    ----------
    conversion_gain : float
        Slope of noise variance against mean signal: signal units per photon (data sheets often give the
        reciprocal, photons or electrons per ADU). The effective gain: with an excess noise factor F² it is
        F² times the signal of one photon.
    zero_level : float
        Mean signal without light.
    variance_intercept : float
        Mean signal at which the fitted variance is zero, ``zero_level − read_noise² / conversion_gain``.
    read_noise : float
        Standard deviation of the signal without light, in signal units; see `read_noise_interval`.
    conversion_gain_interval, zero_level_interval : (float, float)
        95 % intervals.
    verdict : {"trustworthy", "given", "caution", "refused"}
        Whether to build on these figures; "given" where they were not measured, so that nothing is known
        about them until `agreement` compares them with a movie.
    reasons : tuple of Reason
        Reasons for the verdict.
    transfer_curve : TransferCurve
        Binned variance against mean of the samples that were used.
    method : str
        Filter that the gain was read with, "t", "ty", "tx" or "txy"; "flats" for flat fields, "known"
        for given constants.
    zero_level_method : str
        "third cumulant", "variance intercept" (where the third cumulant says nothing), "share cut off" (where
        dark values were cut off at a floor), "dark frames", "known read noise" or "known".
    used_fraction : float
        Part of the rows of the table that agreed with the line.
    variance_intercept_interval : (float, float)
        95 % interval of `variance_intercept`; NaN where it was not measured.
    excess_noise : float
        Excess noise factor F² as the third cumulant suggests it, 1 where it suggests none. An estimate for
        gamma-like pulses; the decode table of the codec uses it.
    excess_noise_method : str
        "third cumulant", or "known" where it was given.
    excess_noise_interval : (float, float)
        95 % interval of `excess_noise`; NaN where it was not measured.
    rejected : tuple of Rejected
        Samples rejected from the fit, by reason.
    evidence : Evidence or None
        Maps and ratios for `diagnostics.plot_calibration_report`. They live in memory only: `to_dict` leaves
        them out, and comparison does.
    maps : PixelMaps or None
        Constants of every pixel, if they were asked for; they live in memory only, too.

    Examples
    --------
    >>> sensitivity = Sensitivity.from_known(conversion_gain=2.0, zero_level=100.0, read_noise=4.0)
    >>> sensitivity.variance_intercept
    92.0
    >>> print(sensitivity)
    gain 2 signal/photon, zero 100, read noise 4; verdict: given
      known_constants: the constants were given, not measured; compress compares them with its movie.
    """

    conversion_gain: float
    zero_level: float
    variance_intercept: float
    read_noise: float
    conversion_gain_interval: Interval
    zero_level_interval: Interval
    verdict: Verdict
    reasons: tuple[Reason, ...]
    transfer_curve: TransferCurve = field(repr=False)
    method: str = "t"
    zero_level_method: str = "variance intercept"
    used_fraction: float = 1.0
    excess_noise: float = 1.0
    variance_intercept_interval: Interval = (_NAN, _NAN)
    excess_noise_method: str = "third cumulant"
    excess_noise_interval: Interval = (_NAN, _NAN)
    rejected: tuple[Rejected, ...] = field(default=(), repr=False)
    evidence: Evidence | None = field(default=None, repr=False, compare=False)
    maps: PixelMaps | None = field(default=None, repr=False, compare=False)

    # Set by `references.agreement`, which stands above this file and is part of the package.
    _measure_agreement: ClassVar[Callable[..., Agreement]]

    @classmethod
    def from_known(
        cls,
        *,
        conversion_gain: float,
        zero_level: float,
        read_noise: float = 0.0,
        excess_noise: float = 1.0,
    ) -> Sensitivity:
        """Take constants from a data sheet or an earlier calibration; the verdict is "given".

        Parameters
        ----------
        conversion_gain : float
            Signal units per photon, finite and > 0: the effective gain, which includes the excess noise.
        zero_level : float
            Mean signal without light, finite.
        read_noise : float
            Standard deviation of the signal without light, in signal units, finite and ≥ 0.
        excess_noise : float
            Excess noise factor F², finite and ≥ 1; 2 for an EMCCD at high gain.

        Raises
        ------
        ValueError, TypeError
            A constant is outside its range, or no number.
        """
        conversion_gain, zero_level, read_noise, _ = check_detector(conversion_gain, zero_level, read_noise)
        intercept = float(zero_level) - float(read_noise) ** 2 / float(conversion_gain)
        if isinstance(excess_noise, bool) or not (math.isfinite(excess_noise) and excess_noise >= 1):
            raise ValueError(f"excess_noise must be a finite number >= 1, got {excess_noise!r}")
        return cls(
            conversion_gain=float(conversion_gain),
            zero_level=float(zero_level),
            variance_intercept=intercept,
            read_noise=float(read_noise),
            conversion_gain_interval=(float(conversion_gain),) * 2,
            zero_level_interval=(float(zero_level),) * 2,
            variance_intercept_interval=(intercept, intercept),
            verdict="given",
            reasons=(_GIVEN,),
            transfer_curve=TransferCurve.empty(),
            method="known",
            zero_level_method="known",
            excess_noise=float(excess_noise),
            excess_noise_method="third cumulant" if excess_noise == 1 else "known",
        )

    @classmethod
    def refused(cls, *reasons: Reason) -> Sensitivity:
        """Say that nothing could be measured, and why."""
        return cls(
            conversion_gain=_NAN,
            zero_level=_NAN,
            variance_intercept=_NAN,
            read_noise=_NAN,
            conversion_gain_interval=(_NAN, _NAN),
            zero_level_interval=(_NAN, _NAN),
            verdict="refused",
            reasons=reasons,
            transfer_curve=TransferCurve.empty(),
            used_fraction=0.0,
        )

    @property
    def single_photon_gain(self) -> float:
        """Mean signal of one detected photon, ``conversion_gain / excess_noise``, signal units.

        Not a second gain: `conversion_gain` is the effective gain, the noise variance that a photon adds over
        the signal that it adds, and all that compression needs. The two differ where pulses vary in height.
        """
        return self.conversion_gain / self.excess_noise

    @property
    def single_photon_gain_interval(self) -> Interval:
        """95 % interval of `single_photon_gain`, from those of the gain and of the excess noise factor."""
        return ratio_interval(
            self.conversion_gain,
            self.conversion_gain_interval,
            self.excess_noise,
            self.excess_noise_interval,
        )

    @property
    def read_noise_interval(self) -> Interval:
        """95 % interval of `read_noise`, signal units, from those of gain, zero level and intercept."""
        if self.method == "known":
            return self.read_noise, self.read_noise
        return read_noise_interval(
            self.conversion_gain,
            self.conversion_gain_interval,
            self.zero_level,
            self.zero_level_interval,
            self.variance_intercept,
            self.variance_intercept_interval,
        )

    def constants(self) -> tuple[Constant, ...]:
        """Return every constant with its 95 % interval, unit and meaning.

        Returns
        -------
        tuple of Constant
            Gain, zero level, read noise and variance intercept; with excess noise also its factor, and the
            signal of one photon.

        Examples
        --------
        >>> detector = Sensitivity.from_known(conversion_gain=2, zero_level=100, read_noise=4)
        >>> for constant in detector.constants():
        ...     print(constant)
        conversion gain 2 signal/photon
        zero level 100 signal
        read noise 4 signal
        variance intercept 92 signal
        """
        multiplied = self.excess_noise != 1
        gain = (
            "effective gain",
            "signal/photon",
            "noise variance over mean signal: F² times the signal of one photon",
        )
        how = "given" if self.excess_noise_method == "known" else "estimated from the noise's skewness"
        rows = {
            "conversion_gain": gain
            if multiplied
            else ("conversion gain", "signal/photon", "signal of one photon"),
            "zero_level": (
                "zero level",
                "signal",
                f"mean signal without light, from {self.zero_level_method}",
            ),
            "read_noise": ("read noise", "signal", "standard deviation without light"),
            "variance_intercept": ("variance intercept", "signal", "mean at which the fitted noise vanishes"),
        }
        if multiplied:
            rows["excess_noise"] = ("excess noise factor F²", "", f"spread of the pulses, {how}")
            rows["single_photon_gain"] = ("signal of one photon", "signal/photon", "effective gain over F²")
        return tuple(
            Constant(key, *words, getattr(self, key), getattr(self, f"{key}_interval"))
            for key, words in rows.items()
        )

    def codec(
        self,
        sample: ArrayLike | None = None,
        *,
        zarr_format: Literal[2, 3] = 3,
        beta: float = 0.5,
        signal_range: tuple[float, float] | None = None,
        decoded_dtype: DTypeLike | None = None,
        encoded_dtype: DTypeLike | None = None,
        zero_code: int | None = None,
        out_of_range: Literal["raise", "clip"] = "raise",
        read_noise: float | None = None,
        noise_increase: float | None = None,
    ) -> AnscombeTransformV2 | AnscombeTransformV3:
        """Build the codec for movies of this detector; the log gives the choice and its reason.

        Parameters
        ----------
        sample : array_like, optional
            The movie (its first axis the frames) or an image, or part of it: the codec is chosen to hold its
            whole range, and its stored values to keep the mean of pixels of every brightness. Of a plain list
            of values only the range counts.
        zarr_format : {2, 3}
            2 gives a numcodecs codec, 3 a zarr codec.
        beta : float
            Width of one code in standard deviations of the noise.
        signal_range : (float, float), optional
            Smallest and largest signal that must have codes, where there is no sample or beyond it. Stored
            values are then those of the detector's noise in theory.
        decoded_dtype, encoded_dtype : dtype, optional
            Of the movie, and of the codes.
        zero_code : int, optional
            Code of `zero_level`, to leave room for values below it.
        out_of_range : {"raise", "clip"}
            Treatment of a value without a code.
        read_noise : float, optional
            Read noise that the codec's steps take into account. By default the one of the data sheet, or a
            measured one above half a photon; without it the steps in darkness are finer than needed,
            which costs a little space and no fidelity.
        noise_increase : float, optional
            Instead of `beta`: the fraction by which the noise variance may grow; 0.02 is ``beta=0.49``.

        Returns
        -------
        AnscombeTransformV2 or AnscombeTransformV3
            Of the format ``anscombe``.

        Raises
        ------
        UntrustworthyCalibration
            The calibration was refused.
        ValueError
            A parameter breaks its rule, there is neither a sample nor a range, or no codec holds them.
        """
        if self.verdict == "refused":
            raise UntrustworthyCalibration(self)
        from anscombe_transform.codec.transform.choice import choose_configuration
        from anscombe_transform.codec.transform.configuration import fields_of
        from anscombe_transform.codec.transform.values import FEWEST_FRAMES_TO_FIT

        if zarr_format not in (2, 3):
            raise ValueError(f"zarr_format must be 2 or 3, got {zarr_format!r}")
        known = self.method == "known"
        if read_noise is None:
            matters = known or self.read_noise > self.conversion_gain / 2
            read_noise = self.read_noise if matters else 0.0
        configuration, why = choose_configuration(
            self.conversion_gain,
            self.zero_level,
            read_noise=read_noise,
            beta=beta if noise_increase is None else beta_for(noise_increase),
            sample=sample,
            signal_range=signal_range,
            decoded_dtype=decoded_dtype,
            encoded_dtype=encoded_dtype,
            zero_code=zero_code,
            out_of_range=out_of_range,
            measured=not known,
            excess_noise=self.excess_noise,
        )
        _log.info("%s", why)
        shape: tuple[int, ...] = getattr(sample, "shape", ())
        if len(shape) > 2 and shape[0] < FEWEST_FRAMES_TO_FIT:
            _log.warning(
                "the stored values are fitted to %d frames, and it takes %d to know the mean at every "
                "brightness: give more of the movie as sample=",
                shape[0],
                FEWEST_FRAMES_TO_FIT,
            )
        if zarr_format == 2:
            from anscombe_transform.codec.zarr_v2 import AnscombeTransformV2 as Codec2

            return Codec2(**fields_of(configuration))
        from anscombe_transform.codec.zarr_v3 import AnscombeTransformV3 as Codec3

        return Codec3(**fields_of(configuration))

    def agreement(self, movie: Any, *, codec: Any = None, mask: ArrayLike | None = None) -> Agreement:
        """Measure how far the noise of a movie is from that of these constants.

        Parameters
        ----------
        movie : path or array_like, shape (time, y, x)
            As `compute_sensitivity` takes it, of any size; about 100 frames are read.
        codec : AnscombeTransformV2 or AnscombeTransformV3, optional
            A codec to check as well; it must hold the movie's values.
        mask : array_like of bool, shape (y, x), optional
            True where pixels may be used.

        Returns
        -------
        Agreement
            Measured over expected noise variance, by brightness and in all, with intervals and a verdict.

        Raises
        ------
        UntrustworthyCalibration
            This calibration was refused, so that there are no constants to compare.
        ValueError, TypeError, FileNotFoundError
            As `open_movie` raises them.

        Examples
        --------
        >>> from anscombe_transform import simulate_movie
        >>> movie, _ = simulate_movie((60, 64, 64), conversion_gain=90, zero_level=50, rng=0)
        >>> data_sheet = Sensitivity.from_known(conversion_gain=270, zero_level=50)
        >>> found = data_sheet.agreement(movie)
        >>> found.verdict, round(found.gain_factor, 1)
        ('contradicts', 0.3)
        """
        from anscombe_transform.movies.opening import open_movie

        with open_movie(movie) as opened:
            return self._measure_agreement(opened, self, codec=codec, mask=mask)

    def usable_constants(self) -> tuple[float, float, float]:
        """Return conversion gain, zero level and read noise.

        Raises
        ------
        UntrustworthyCalibration
            The calibration was refused.
        """
        if self.verdict == "refused":
            raise UntrustworthyCalibration(self)
        return self.conversion_gain, self.zero_level, self.read_noise

    def to_photons(self, signal: Any) -> Any:
        """Photons for a signal: ``(signal − zero_level) / conversion_gain``.

        With excess noise these are effective photons, as many as would make the noise that is seen.

        Parameters
        ----------
        signal : array_like of int or float, any shape
            Signal units. numpy, dask, xarray and torch arrays keep their kind.

        Returns
        -------
        array of float32
            The shape of `signal`; negative below the zero level.

        Examples
        --------
        >>> detector = Sensitivity.from_known(conversion_gain=90.0, zero_level=50.0)
        >>> detector.to_photons([50, 140, 950]).tolist()
        [0.0, 1.0, 10.0]
        """
        from anscombe_transform.transform.stabilization import to_photons

        return to_photons(signal, self)

    def from_photons(self, photons: Any) -> Any:
        """Signal for a photon number, ``zero_level + conversion_gain · photons``; undoes `to_photons`.

        Parameters
        ----------
        photons : array_like of int or float, any shape

        Returns
        -------
        array of float32
            Signal units.
        """
        from anscombe_transform.transform.stabilization import from_photons

        return from_photons(photons, self)

    def noise_std(self, signal: Any) -> Any:
        """Standard deviation of the noise of a pixel, from its mean signal.

        ``sqrt(conversion_gain · (signal − zero_level) + read_noise²)``; below the zero level the read noise.

        Parameters
        ----------
        signal : array_like of int or float, any shape
            Mean signal, signal units.

        Returns
        -------
        array of float32
            Signal units.

        Examples
        --------
        >>> detector = Sensitivity.from_known(conversion_gain=2.0, zero_level=100.0, read_noise=3.0)
        >>> detector.noise_std([100, 108]).tolist()
        [3.0, 5.0]
        """
        from anscombe_transform.transform.stabilization import noise_std

        return noise_std(signal, self)

    def to_dict(self) -> dict[str, Any]:
        """Return the calibration as plain JSON values; NaN becomes None."""
        values = asdict(replace(self, evidence=None, maps=None))
        del values["evidence"], values["maps"]
        values |= {name: getattr(self, name) for name in _DERIVED}
        values["transfer_curve"] = self.transfer_curve.to_dict()
        values["rejected"] = [
            {"reason": part.reason, "share": part.share, "curve": part.curve.to_dict()}
            for part in self.rejected
        ]
        return json_document(values)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Sensitivity:
        """Rebuild a calibration from `to_dict`, of this or an earlier version.

        Raises
        ------
        ValueError
            A field is missing or unknown.
        """
        given = {name: value for name, value in values.items() if name not in (*_DERIVED, "version")}
        declared = {field_.name: field_ for field_ in fields(cls)}
        required = {name for name, field_ in declared.items() if field_.default is MISSING}
        if not required <= set(given) <= set(declared):
            lacking = ", ".join(sorted(required - set(given)))
            unknown = ", ".join(sorted(set(given) - set(declared)))
            parts = [f"lacks {lacking}"] * bool(lacking) + [f"has {unknown}"] * bool(unknown)
            raise ValueError(f"what should be a calibration {' and '.join(parts)}")
        for name, field_ in declared.items():
            if name in given and field_.type == "float":
                given[name] = _number(given[name])
            elif name in given and field_.type == "Interval":
                low, high = given[name]
                given[name] = (_number(low), _number(high))
        if given.get("method") == "known" and given["verdict"] == "trustworthy":
            # As versions wrote it that believed given constants.
            given["verdict"] = "given"
        given["reasons"] = tuple(Reason(**reason) for reason in given["reasons"])
        given["transfer_curve"] = TransferCurve.from_dict(given["transfer_curve"])
        given["rejected"] = tuple(
            Rejected(part["reason"], part["share"], TransferCurve.from_dict(part["curve"]))
            for part in given.get("rejected", ())
        )
        return cls(**given)

    def __str__(self) -> str:
        gain = f"gain {with_bracket(self.conversion_gain, self.conversion_gain_interval)} signal/photon"
        if self.excess_noise != 1:
            how = "given" if self.excess_noise_method == "known" else "estimated"
            factor = with_bracket(self.excess_noise, self.excess_noise_interval)
            one = with_bracket(self.single_photon_gain, self.single_photon_gain_interval)
            gain += f" (effective: excess noise F² {factor}, {how}, times {one} of one photon)"
        parts = [gain, f"zero {with_bracket(self.zero_level, self.zero_level_interval)}"]
        if self.read_noise_interval[1] > 0:
            parts.append(f"read noise {with_bracket(self.read_noise, self.read_noise_interval)}")
        lines = [", ".join(parts) + f"; verdict: {self.verdict}"]
        lines += [f"  {reason.code}: {reason.message}" for reason in self.reasons]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return (
            f"<Sensitivity: gain {self.conversion_gain:.4g}, zero level {self.zero_level:.4g}, read noise "
            f"{self.read_noise:.4g}, {self.verdict}>"
        )

    def _repr_html_(self) -> str:
        """Return the constants as a table, for notebooks."""
        rows = [
            (row.name, with_bracket(row.value, row.interval), row.unit, row.meaning)
            for row in self.constants()
        ]
        rows += [(reason.severity, reason.code, "", reason.message) for reason in self.reasons]
        head = ("constant", "value [95 % interval]", "unit", "meaning")
        return html_table(f"Calibration: {self.verdict}", rows, head)


def verdict_of(reasons: tuple[Reason, ...]) -> Verdict:
    """Return the worst of the reasons, as a verdict."""
    severities = {reason.severity for reason in reasons}
    if "refusal" in severities:
        return "refused"
    return "caution" if "caution" in severities else "trustworthy"


# What `to_dict` gives beside the fields, for readers in other languages.
_DERIVED = ("read_noise_interval", "single_photon_gain", "single_photon_gain_interval")


def _number(value: float | None) -> float:
    return _NAN if value is None else float(value)
