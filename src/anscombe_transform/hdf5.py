"""The codec as a filter of HDF5: for h5py, and for every program that loads plug-ins of HDF5.

Importing this module registers the filter with h5py. ``import anscombe_transform`` does so as well where h5py
is loaded already. Where it is not, the plug-in's folder is added to ``HDF5_PLUGIN_PATH``, which HDF5 reads
when it is loaded, and h5py is not imported.

    import h5py, anscombe_transform
    h5py.File("movie.h5")["movie"][:]
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from anscombe_transform.codec.frames import FrameConfiguration, FramePreset
from anscombe_transform.codec.hdf5.parameters import FilterParameters, fit_to_filter
from anscombe_transform.codec.hdf5.plugin import FILTER_ID, find_plugin, register

if TYPE_CHECKING:
    from anscombe_transform.codec.zarr_v2 import AnscombeTransformV2
    from anscombe_transform.codec.zarr_v3 import AnscombeTransformV3

__all__ = ["FILTER_ID", "filter_options", "plugin_path", "register"]


def plugin_path() -> str:
    """The folder of the plug-in, for ``HDF5_PLUGIN_PATH`` of other programs.

    Returns
    -------
    str

    Raises
    ------
    RuntimeError
        The package was installed without its native core, and so without the plug-in.

    Examples
    --------
    >>> from pathlib import Path
    >>> any("anscombe_hdf5" in path.name for path in Path(plugin_path()).iterdir())
    True
    """
    plugin = find_plugin()
    if plugin is None:
        raise RuntimeError(
            "anscombe-transform was installed without its native core, and with it without its HDF5 plug-in: "
            "install a wheel for this platform, or a C compiler, and install it again"
        )
    return str(plugin.parent)


def filter_options(
    codec: AnscombeTransformV2 | AnscombeTransformV3,
    chunks: Sequence[int],
    *,
    preset: FramePreset = "fast",
    time_axis: int | None = 0,
) -> dict[str, Any]:
    """Keyword arguments of ``h5py.Group.create_dataset`` for a detector's movies.

    Parameters
    ----------
    codec : AnscombeTransformV2 or AnscombeTransformV3
        A codec of ``Sensitivity.codec``. Its `decoded_dtype` has to be the type of the dataset.
    chunks : sequence of int
        Shape of a chunk.
    preset : {"fast", "compact"}
    time_axis : {0, None}
        Axis along which frames follow each other.

    Returns
    -------
    dict

    Raises
    ------
    ValueError
        The codec is of the format ``anscombe-v1``, or has more codes than a filter's parameters can describe.

    Notes
    -----
    h5py makes filters optional, so that HDF5 stores a chunk as it is if the filter refuses it, for a value
    without a code: nothing is lost, but such a chunk isn't compressed. `compress` raises an error instead.

    HDF5 keeps chunks that were written in its cache, so that values that are read from a dataset that is open
    for writing may be the original ones.

    Values of floats lie on the grid that ``docs/reference/hdf5-filter.md`` describes, within a 256th of a bin
    of those of the codec in Zarr.

    Examples
    --------
    >>> import h5py, numpy as np
    >>> from anscombe_transform import Sensitivity
    >>> movie = 50 + 90 * np.random.default_rng(0).poisson(8, (50, 64, 64)).astype("int16")
    >>> codec = Sensitivity.from_known(conversion_gain=90, zero_level=50).codec(sample=movie)
    >>> with h5py.File("any.h5", "w", driver="core", backing_store=False) as file:
    ...     dataset = file.create_dataset("movie", data=movie, **filter_options(codec, (50, 64, 64)))
    ...     bool((abs(dataset[:] - movie) <= codec.plan.max_error(movie)).all())
    True
    """
    frames = FrameConfiguration(preset, time_axis)
    frames.check_axes(len(chunks))
    configuration = fit_to_filter(codec.plan.configuration)
    parameters = FilterParameters(configuration, tuple(int(n) for n in chunks), frames)
    return {"chunks": tuple(chunks), "compression": FILTER_ID, "compression_opts": parameters.pack()}


if find_plugin() is not None and find_spec("h5py") is not None:
    register()
