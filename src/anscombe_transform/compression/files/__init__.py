"""Files that `compress` writes in place of a folder of Zarr: HDF5 and NWB, and stock TIFF and HDF5."""
