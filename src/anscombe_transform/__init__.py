"""Calibrate photon-limited movies and store them in Zarr at the resolution of their own noise.

The public names are imported on first use, so that ``import anscombe_transform`` costs little more than
numpy: the V2 half of the codec needs no zarr, nothing needs matplotlib until a plot is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from anscombe_transform.codec.hdf5.plugin import announce as _announce

if TYPE_CHECKING:
    from anscombe_transform import codec as codec
    from anscombe_transform import diagnostics as diagnostics
    from anscombe_transform import hdf5 as hdf5
    from anscombe_transform.calibration import (
        Agreement,
        ConstantsMismatch,
        NoiseStatistics,
        Sensitivity,
        UntrustworthyCalibration,
        compute_sensitivity,
        compute_sensitivity_from_flats,
    )
    from anscombe_transform.codec.frames.chunk import DamagedChunkError
    from anscombe_transform.codec.pipeline import codec_pipeline
    from anscombe_transform.codec.transform.configuration import UnrepresentableError
    from anscombe_transform.codec.transform.v1_functions import decode, encode
    from anscombe_transform.codec.zarr_v2 import AnscombeTransformV2, FrameCoderV2
    from anscombe_transform.codec.zarr_v3 import AnscombeTransformV3, FrameCoder, FrameCoderV3
    from anscombe_transform.compression import compress, verify
    from anscombe_transform.compression.batch import compress_all, find_recordings
    from anscombe_transform.compression.decompression import decompress
    from anscombe_transform.compression.ome_zarr import write_ome_zarr
    from anscombe_transform.diagnostics.certificate.certificate import certificate
    from anscombe_transform.diagnostics.decision import decide
    from anscombe_transform.diagnostics.pages.report import (
        write_calibration_report,
        write_decision_report,
        write_report,
    )
    from anscombe_transform.diagnostics.speed import measure_speed
    from anscombe_transform.movies import open_movie
    from anscombe_transform.simulation import simulate_movie
    from anscombe_transform.simulation.camera import Camera
    from anscombe_transform.transform.stabilization import destabilize, stabilize
    from anscombe_transform.transform.transformer import AnscombeTransformer

_HOME = {
    "Agreement": "anscombe_transform.calibration",
    "AnscombeTransformV2": "anscombe_transform.codec.zarr_v2",
    "AnscombeTransformV3": "anscombe_transform.codec.zarr_v3",
    "Camera": "anscombe_transform.simulation.camera",
    "AnscombeTransformer": "anscombe_transform.transform.transformer",
    "ConstantsMismatch": "anscombe_transform.calibration",
    "DamagedChunkError": "anscombe_transform.codec.frames.chunk",
    "FrameCoder": "anscombe_transform.codec.zarr_v3",
    "FrameCoderV2": "anscombe_transform.codec.zarr_v2",
    "FrameCoderV3": "anscombe_transform.codec.zarr_v3",
    "NoiseStatistics": "anscombe_transform.calibration",
    "Sensitivity": "anscombe_transform.calibration",
    "UnrepresentableError": "anscombe_transform.codec.transform.configuration",
    "UntrustworthyCalibration": "anscombe_transform.calibration",
    "certificate": "anscombe_transform.diagnostics.certificate.certificate",
    "codec_pipeline": "anscombe_transform.codec.pipeline",
    "compress": "anscombe_transform.compression",
    "compress_all": "anscombe_transform.compression.batch",
    "compute_sensitivity": "anscombe_transform.calibration",
    "compute_sensitivity_from_flats": "anscombe_transform.calibration",
    "decide": "anscombe_transform.diagnostics.decision",
    "decode": "anscombe_transform.codec.transform.v1_functions",
    "decompress": "anscombe_transform.compression.decompression",
    "destabilize": "anscombe_transform.transform.stabilization",
    "encode": "anscombe_transform.codec.transform.v1_functions",
    "find_recordings": "anscombe_transform.compression.batch",
    "measure_speed": "anscombe_transform.diagnostics.speed",
    "open_movie": "anscombe_transform.movies",
    "simulate_movie": "anscombe_transform.simulation",
    "stabilize": "anscombe_transform.transform.stabilization",
    "verify": "anscombe_transform.compression",
    "write_calibration_report": "anscombe_transform.diagnostics.pages.report",
    "write_decision_report": "anscombe_transform.diagnostics.pages.report",
    "write_ome_zarr": "anscombe_transform.compression.ome_zarr",
    "write_report": "anscombe_transform.diagnostics.pages.report",
}
_MODULES = ("codec", "diagnostics", "hdf5")

__all__ = [
    "Agreement",
    "AnscombeTransformV2",
    "AnscombeTransformV3",
    "AnscombeTransformer",
    "Camera",
    "ConstantsMismatch",
    "DamagedChunkError",
    "FrameCoder",
    "FrameCoderV2",
    "FrameCoderV3",
    "NoiseStatistics",
    "Sensitivity",
    "UnrepresentableError",
    "UntrustworthyCalibration",
    "certificate",
    "codec",
    "codec_pipeline",
    "compress",
    "compress_all",
    "compute_sensitivity",
    "compute_sensitivity_from_flats",
    "decide",
    "decode",
    "decompress",
    "destabilize",
    "diagnostics",
    "encode",
    "find_recordings",
    "hdf5",
    "measure_speed",
    "open_movie",
    "simulate_movie",
    "stabilize",
    "verify",
    "write_calibration_report",
    "write_decision_report",
    "write_ome_zarr",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
    elif name in _MODULES:
        value = importlib.import_module(f"{__name__}.{name}")
    elif name == "__version__":
        from importlib.metadata import version

        value = version("anscombe-transform")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})


_announce()
