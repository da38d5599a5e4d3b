"""The transform as a tool for analysis, on photons and floats: `codec` has it as a way of storing.

`stabilization` brings noise to unit variance and goes back without bias, `transformer` is the same as a step
of scikit-learn, and `limit` computes how small a movie can become. The curve itself is
``codec.transform.curve``; its public names stand here too.
"""

from anscombe_transform.codec.transform.curve import LARGEST_BETA, Curve, beta_for, noise_increase

__all__ = ["LARGEST_BETA", "Curve", "beta_for", "noise_increase"]
