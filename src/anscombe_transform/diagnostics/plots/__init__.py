"""One plot a file, and the look that they share."""
