"""Files: HDF5 and NWB with the filter, which `compress` writes, and TIFF, HDF5 and others without it."""
