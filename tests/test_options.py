"""Options that functions hand on are declared again as typed dictionaries, which follow the signatures."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import anscombe_transform as at
from anscombe_transform.calibration.compute import CalibrationOptions
from anscombe_transform.codec.pipeline import CodecOptions
from anscombe_transform.compression.options import BatchOptions, CompressOptions, RecordingOptions
from anscombe_transform.simulation.movie import MovieOptions


def options_of(*functions: Callable[..., Any]) -> dict[str, str]:
    """The annotations of the keyword parameters of functions, without those that are handed on."""
    return {
        name: parameter.annotation
        for function in functions
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }


def declared(options: Any) -> dict[str, str]:
    """The annotations of a typed dictionary and of those that it extends, as they are written."""
    return {
        name: getattr(annotation, "__forward_arg__", annotation)
        for name, annotation in options.__annotations__.items()
    }


@pytest.mark.parametrize(
    ("options", "functions", "others"),
    [
        (CalibrationOptions, [at.compute_sensitivity], {"channel_axis"}),
        (MovieOptions, [at.simulate_movie], set()),
        (CodecOptions, [at.Sensitivity.codec], {"zarr_format", "beta"}),
        (CompressOptions, [at.compress], None),
        (RecordingOptions, [at.compress, at.write_ome_zarr], None),
        (BatchOptions, [at.compress, at.write_ome_zarr], None),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_options_are_those_of_the_signature(
    options: Any, functions: list[Callable[..., Any]], others: set[str] | None
) -> None:
    """Every option has the type that the function has; none is missing where all are handed on."""
    taken = options_of(*functions)
    for name, annotation in declared(options).items():
        assert taken[name] == annotation, name
    if others is not None:
        assert set(declared(options)) == set(taken) - others
