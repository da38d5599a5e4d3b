"""Calibration: a detector's gain and zero level from an ordinary movie.

`compute_sensitivity` is the way in; `NoiseStatistics` and `estimate_sensitivity` are its two halves, for
movies that are read in parts. docs/explanation/calibration.md explains the method; the modules are

``compute``      from a movie or file to the result
``sums``         which frames are read, and sums over them from which the noise is read
``rows``         which of the sums are used, and how
``line``         the fit of the photon transfer line to them, and its checks
``thresholds``   the levels that decide
``estimate``     from sums to the result, in stages
``evidence``     the evidence behind the result, for plots
``small``        fields of few pixels, line scans and traces
``references``   dark frames, flat fields, known constants, and whether constants agree with a movie
``wrapped``      values that exceeded their integer type
``result``       the result: constants, reasons, verdict, maps of pixels, agreement
"""

from anscombe_transform.calibration.compute import compute_sensitivity
from anscombe_transform.calibration.estimate import estimate_sensitivity
from anscombe_transform.calibration.references import Agreement, ConstantsMismatch
from anscombe_transform.calibration.references.flats import compute_sensitivity_from_flats
from anscombe_transform.calibration.result.pixel_maps import PixelMaps
from anscombe_transform.calibration.result.sensitivity import (
    Evidence,
    Reason,
    Rejected,
    Sensitivity,
    TransferCurve,
    UntrustworthyCalibration,
)
from anscombe_transform.calibration.sums.statistics import NoiseStatistics

__all__ = [
    "Agreement",
    "ConstantsMismatch",
    "Evidence",
    "NoiseStatistics",
    "PixelMaps",
    "Reason",
    "Rejected",
    "Sensitivity",
    "TransferCurve",
    "UntrustworthyCalibration",
    "compute_sensitivity",
    "compute_sensitivity_from_flats",
    "estimate_sensitivity",
]
