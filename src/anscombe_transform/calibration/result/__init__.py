"""What a calibration gives: constants with intervals, reasons and verdict, maps of pixels, agreement."""
