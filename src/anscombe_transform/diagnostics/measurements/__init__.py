"""Measurements for the plots and the decision: a movie in runs, its noise, its cells."""
