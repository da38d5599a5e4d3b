# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True
"""The binding of libanscombe: every function hands its arguments to one C function, without the GIL.

There is no logic here. Arrays are contiguous and of native byte order; `anscombe.h` has the contracts and
`reference.py` the same functions in numpy.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from "anscombe.h" nogil:
    uint32_t anscombe_crc32(uint32_t crc, const void *data, size_t bytes)

    ctypedef struct anscombe_frames_shape:
        uint64_t frames, height, width
        int itemsize
    int64_t anscombe_frames_bound(const anscombe_frames_shape *shape)
    int64_t anscombe_frames_encode_scratch(const anscombe_frames_shape *shape, uint32_t planes)
    int64_t anscombe_frames_encode(const void *codes, const anscombe_frames_shape *shape, uint32_t planes, int effort,
                                   void *chunk, size_t room, void *scratch, size_t scratch_bytes)
    int64_t anscombe_frames_decode_scratch(const void *chunk, size_t bytes, const anscombe_frames_shape *shape)
    int64_t anscombe_frames_decode(const void *chunk, size_t bytes, const anscombe_frames_shape *shape, void *codes,
                                   void *scratch, size_t scratch_bytes)


cdef class _Memory:
    """The memory of an object as long as this lives: `view.buf` and `view.len`, in bytes."""

    cdef Py_buffer view

    def __cinit__(self, owner, bint writable=False):
        PyObject_GetBuffer(owner, &self.view, PyBUF_WRITABLE if writable else PyBUF_SIMPLE)

    def __dealloc__(self):
        PyBuffer_Release(&self.view)


def crc32(data, uint32_t crc=0):
    """CRC-32 of any contiguous buffer, as `zlib.crc32`."""
    cdef _Memory memory = _Memory(data)
    with nogil:
        crc = anscombe_crc32(crc, memory.view.buf, memory.view.len)
    return crc


cdef anscombe_frames_shape _frames_shape(uint64_t frames, uint64_t height, uint64_t width, int itemsize) noexcept:
    cdef anscombe_frames_shape shape
    shape.frames, shape.height, shape.width, shape.itemsize = frames, height, width, itemsize
    return shape


def encode_frames_sizes(uint64_t frames, uint64_t height, uint64_t width, int itemsize, uint32_t planes):
    """Most bytes of a chunk of the frame coder, and bytes of scratch that `encode_frames` needs."""
    cdef anscombe_frames_shape shape = _frames_shape(frames, height, width, itemsize)
    return anscombe_frames_bound(&shape), anscombe_frames_encode_scratch(&shape, planes)


def encode_frames(codes, uint64_t frames, uint64_t height, uint64_t width, int itemsize, uint32_t planes, int effort,
                  out, scratch):
    """Compress codes into `out`; the bytes they take, or a negative number."""
    cdef _Memory source = _Memory(codes), target = _Memory(out, True), room = _Memory(scratch, True)
    cdef anscombe_frames_shape shape = _frames_shape(frames, height, width, itemsize)
    cdef int64_t status = -1
    if <uint64_t>source.view.len == frames * height * width * itemsize:
        with nogil:
            status = anscombe_frames_encode(source.view.buf, &shape, planes, effort, target.view.buf, target.view.len,
                                            room.view.buf, room.view.len)
    return status


def decode_frames_scratch(data, uint64_t frames, uint64_t height, uint64_t width, int itemsize):
    """Bytes of scratch that `decode_frames` needs, or a negative number if the chunk is damaged."""
    cdef _Memory source = _Memory(data)
    cdef anscombe_frames_shape shape = _frames_shape(frames, height, width, itemsize)
    cdef int64_t status
    with nogil:
        status = anscombe_frames_decode_scratch(source.view.buf, source.view.len, &shape)
    return status


def decode_frames(data, uint64_t frames, uint64_t height, uint64_t width, int itemsize, out, scratch):
    """Decompress a chunk into `out`; 0, or a negative number if it is damaged."""
    cdef _Memory source = _Memory(data), target = _Memory(out, True), room = _Memory(scratch, True)
    cdef anscombe_frames_shape shape = _frames_shape(frames, height, width, itemsize)
    cdef int64_t status = -1
    if <uint64_t>target.view.len == frames * height * width * itemsize:
        with nogil:
            status = anscombe_frames_decode(source.view.buf, source.view.len, &shape, target.view.buf,
                                            room.view.buf, room.view.len)
    return status
