"""Knowledge of a detector beside the movie, and whether it agrees with the movie.

``dark``         frames without light
``flats``        from flat fields instead of a movie
``known``        their effect, or that of a data sheet, on the result
``maps``         the constants of every pixel
``agreement``    measured noise variance over that of given constants
``stored``       noise that storing has added, taken off
"""

from anscombe_transform.calibration.references.agreement import measure_agreement
from anscombe_transform.calibration.result.agreement import Agreement, ConstantsMismatch

__all__ = ["Agreement", "ConstantsMismatch", "measure_agreement"]
