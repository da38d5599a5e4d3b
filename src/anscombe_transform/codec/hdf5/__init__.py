"""The codec in HDF5: a filter, its parameters, and datasets seen as Zarr arrays.

A dataset's chunks are those that `anscombe` and `anscombe_frames` write in Zarr, and the parameters of the
filter correspond to the metadata of a Zarr array. ``docs/reference/hdf5-filter.md`` defines them.
"""
