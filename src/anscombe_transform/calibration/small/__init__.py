"""Fields of few pixels, line scans and single pixels.

``estimate``    from a movie to the result
``sums``        what is read of it
``fits``        lines by every filter and instrument, and the choice among them
``verdict``     what speaks against the result
"""
