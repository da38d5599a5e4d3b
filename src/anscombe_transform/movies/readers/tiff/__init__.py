"""TIFF files: plain and BigTIFF, ImageJ, OME-TIFF, ScanImage and other headers; compressed or not.

Two questions are answered separately. Which images are there: all pages that the chain of the file leads to
(`chain`), not those that a header announces. How they are ordered: by the header's channels, planes and times
(`headers`, `ome`, `scanimage`), checked against the number of images. Where the two disagree, the file is
refused, or opened as a partial recording on request.

`reader` opens a file, `series` the files that tifffile orders, and `images` makes the movie.
"""

TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf2", ".tf8")
"""Suffixes of TIFFs."""
