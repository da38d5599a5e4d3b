"""Calibration: a detector's gain and zero level from an ordinary movie.

`compute_sensitivity` is the way in; `NoiseStatistics` and `estimate_sensitivity` are its two halves, for
movies that are read in parts. docs/explanation/calibration.md tells what is measured and how; the modules are

``compute``      from a movie or file to the result
``views``        time axis, channels, masks
``sampling``     which frames are read, and how
``distributed``  the same for dask arrays
``statistics``   sums over the movie from which its noise is read
``rows``         which of the sums are used, and as what
``line``         the robust photon transfer line
``offsets``      what fixed offsets of pixels do to it
``wandering``    the slope within patches, where the zero level wanders over the field
``filters``      which filter to read it with
``disturbed``    what to do about motion, noisy pixels, uneven gain, bent curves
``zero``         zero level and read noise, by the third cumulant
``censored``     the same where dark values were cut off at a floor
``checks``       numbers that speak for or against the line
``verdict``      what those numbers mean, in words
``estimate``     from sums to the result
``dark``         frames without light
``flats``        from flat fields instead of a movie
``known``        what they, or a data sheet, add to the result
``maps``         the constants of every pixel
``sensitivity``  the result
``references``   whether constants agree with a movie
"""

from anscombe_transform.calibration.compute import compute_sensitivity
from anscombe_transform.calibration.estimate import estimate_sensitivity
from anscombe_transform.calibration.flats import compute_sensitivity_from_flats
from anscombe_transform.calibration.maps import PixelMaps
from anscombe_transform.calibration.references import Agreement, ConstantsMismatch
from anscombe_transform.calibration.sensitivity import (
    Evidence,
    Reason,
    Rejected,
    Sensitivity,
    TransferCurve,
    UntrustworthyCalibration,
)
from anscombe_transform.calibration.statistics import NoiseStatistics

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
