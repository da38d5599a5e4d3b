"""Fields of few pixels, line scans and single pixels.

``estimate``    from a movie to the result
``sums``        sums over its pixels
``fits``        lines by every filter and instrument, and the choice among them
``verdict``     reasons against the result
"""
