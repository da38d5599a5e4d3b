"""The transform: bins of signals, their values, and which of them a movie gets."""
