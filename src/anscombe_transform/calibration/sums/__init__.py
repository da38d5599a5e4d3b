"""From a movie to sums of its noise.

``inputs``       masks, and other options
``reading``      a look at a few frames, then which segments are read, and how
``distributed``  the same for dask arrays
``frames``       checks of single frames: stretched, levelled or compressed ones, and their steps
``interleaved``  whether alternating frames are of different planes
``statistics``   the sums, of segments by themselves, to be added up
``shared``       correlated noise, in space and in time
"""
