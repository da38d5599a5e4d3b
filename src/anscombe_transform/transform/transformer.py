"""The variance-stabilising transform as a scikit-learn transformer, for pipelines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from anscombe_transform.transform.stabilization import Inverse, unbiased_photons, unit_curve

if TYPE_CHECKING:
    import numpy.typing as npt
    from sklearn.utils import Tags


class AnscombeTransformer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Stabilise the noise of every sample and feature; `inverse_transform` goes back without bias.

    Parameters
    ----------
    conversion_gain : float
        Signal units per photon, > 0; ``sensitivity.conversion_gain``.
    zero_level : float
        Signal without light.
    read_noise : float
        Standard deviation of the signal without light, in signal units, ≥ 0.
    inverse : {"unbiased", "algebraic"}
        Kind of `inverse_transform`, see `anscombe_transform.destabilize`: "unbiased" for values that a
        model has denoised, "algebraic" for values that still carry their noise.

    See Also
    --------
    anscombe_transform.stabilize : The same for any array and a `Sensitivity`.

    Examples
    --------
    Two pixels of different brightness have the same noise afterwards:

    >>> import numpy as np
    >>> from anscombe_transform import AnscombeTransformer
    >>> counts = np.random.default_rng(0).poisson([[2.0, 40.0]], (500, 2))
    >>> stable = AnscombeTransformer().fit_transform(counts)
    >>> bool((abs(stable.std(axis=0) - 1) < 0.15).all())
    True
    """

    def __init__(
        self,
        conversion_gain: float = 1.0,
        zero_level: float = 0.0,
        read_noise: float = 0.0,
        inverse: Inverse = "unbiased",
    ) -> None:
        self.conversion_gain = conversion_gain
        self.zero_level = zero_level
        self.read_noise = read_noise
        self.inverse = inverse

    def fit(self, X: npt.ArrayLike, y: Any = None) -> AnscombeTransformer:
        """Check the parameters and remember the number of features; nothing is estimated.

        Raises
        ------
        ValueError, TypeError
            A parameter breaks its rule.
        """
        if self.inverse not in ("unbiased", "algebraic"):
            raise ValueError(f"inverse must be 'unbiased' or 'algebraic', got {self.inverse!r}")
        unit_curve(self.conversion_gain, self.zero_level, self.read_noise)
        validate_data(self, X, dtype=_FLOATS)
        self.fitted_ = True
        return self

    def transform(self, X: npt.ArrayLike) -> npt.NDArray[Any]:
        """Return stabilised values, shape (samples, features), float64 or float32 as `X`."""
        check_is_fitted(self, "fitted_")
        signal = validate_data(self, X, dtype=_FLOATS, reset=False)
        curve = unit_curve(self.conversion_gain, self.zero_level, self.read_noise)
        return np.asarray(curve.stabilize(signal), signal.dtype)

    def inverse_transform(self, X: npt.ArrayLike) -> npt.NDArray[Any]:
        """Return the signal for stabilised values, shape (samples, features)."""
        check_is_fitted(self, "fitted_")
        values = validate_data(self, X, dtype=_FLOATS, reset=False)
        curve = unit_curve(self.conversion_gain, self.zero_level, self.read_noise)
        if self.inverse == "algebraic":
            return np.asarray(curve.invert(values), values.dtype)
        photons = unbiased_photons(values, self.read_noise / self.conversion_gain)
        return np.asarray(photons * self.conversion_gain + self.zero_level, values.dtype)

    def __sklearn_tags__(self) -> Tags:
        """Return properties for scikit-learn: no fit is needed for a result, float32 stays float32."""
        tags = super().__sklearn_tags__()
        tags.requires_fit = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


_FLOATS = (np.float64, np.float32)
