"""The photon transfer line: its robust fit, disturbances, and whether it can be trusted.

``transfer``    the fit, and fixed offsets of pixels in it
``checks``      numbers that speak for or against the line
``filters``     which filter to read it with
``stages``      motion, an uneven gain, a bent curve, a zero level that wanders over the field
``zero``        zero level and read noise, by the third cumulant
``censored``    the same where dark values were cut off at a floor
``verdict``     meaning of the checks, in words
"""
