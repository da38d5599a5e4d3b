"""The result of a calibration: constants with intervals, reasons and verdict, maps of pixels, agreement."""
