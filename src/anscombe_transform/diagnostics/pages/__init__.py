"""Pages about a calibration, a stored movie, a decision and a deletion, without anything from elsewhere."""
