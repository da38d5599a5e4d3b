"""The curve of a detector, and the step of quantisation beside the noise that it adds."""

from anscombe_transform.codec.transform.curve import LARGEST_BETA, Curve, beta_for, noise_increase

__all__ = ["LARGEST_BETA", "Curve", "beta_for", "noise_increase"]
