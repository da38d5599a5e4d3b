"""The filter's plug-in, and its registration with the HDF5 library of h5py."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path

__all__ = ["FILTER_ID", "announce", "find_plugin", "register"]

FILTER_ID = 479
"""Number of the filter, of the range for tests until one is registered."""

_FOLDER = "hdf5_plugin"
_VARIABLE = "HDF5_PLUGIN_PATH"
_SUFFIXES = (".so", ".dylib", ".dll")


@functools.cache
def find_plugin() -> Path | None:
    """The plug-in, or None where it was not built."""
    package = sys.modules["anscombe_transform"]
    folder = Path(package.__file__ or "").parent / _FOLDER
    found = _library_in(folder)
    if found is None and getattr(package.__spec__, "loader", None).__class__.__module__.startswith("_"):
        # An editable install leaves it where it was built, and its loader says where that is.
        from importlib.resources import files

        for suffix in _SUFFIXES:
            name = f"{'' if suffix == '.dll' else 'lib'}anscombe_hdf5{suffix}"
            place = Path(str(files("anscombe_transform").joinpath(_FOLDER, name)))
            found = place if place.is_file() else found
    return found


def _library_in(folder: Path) -> Path | None:
    if not folder.is_dir():
        return None
    return next((path for path in sorted(folder.iterdir()) if path.suffix in _SUFFIXES), None)


@functools.cache
def register() -> None:
    """Register the filter with the HDF5 library of h5py.

    Raises
    ------
    RuntimeError
        The plug-in was not built, or HDF5 refused it.
    """
    import ctypes

    import h5py

    if h5py.h5z.filter_avail(FILTER_ID):
        return
    plugin = find_plugin()
    if plugin is None:
        raise RuntimeError(
            "anscombe-transform was installed without its native core, and with it without its HDF5 filter: "
            "install a wheel for this platform, or a C compiler, and install it again (pip install "
            "--force-reinstall --no-cache-dir anscombe-transform). compress, verify, decompress and "
            "open_movie read and write such files all the same"
        )
    library = ctypes.CDLL(str(plugin))
    library.H5PLget_plugin_info.restype = ctypes.c_void_p
    if not h5py.h5z.register_filter(library.H5PLget_plugin_info()):
        raise RuntimeError(f"HDF5 {h5py.version.hdf5_version} refused the filter of {plugin}")


def announce() -> None:
    """Let h5py find the filter, whether it is imported already or will be.

    HDF5 reads the variable ``HDF5_PLUGIN_PATH`` once, when its library is loaded. So the plug-in's folder is
    added at the end of the variable; with an h5py that is loaded already the filter is registered.
    """
    plugin = find_plugin()
    if plugin is None:
        return
    if "h5py" in sys.modules and hasattr(sys.modules["h5py"], "h5z"):
        register()
        return
    folder = str(plugin.parent)
    # What HDF5 looks for where the variable is not set has to be kept.
    default = r"%ALLUSERSPROFILE%\hdf5\lib\plugin" if os.name == "nt" else "/usr/local/hdf5/lib/plugin"
    folders = [name for name in os.environ.get(_VARIABLE, default).split(os.pathsep) if name]
    if folder not in folders:
        os.environ[_VARIABLE] = os.pathsep.join([*folders, folder])
