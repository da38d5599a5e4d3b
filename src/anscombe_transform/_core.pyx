# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True
"""The binding of libanscombe: every function hands its arguments to one C function, without the GIL.

There is no logic here. Arrays are contiguous and of native byte order; `anscombe.h` has the contracts and
`reference.py` the same functions in numpy.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint32_t

cdef extern from "anscombe.h" nogil:
    uint32_t anscombe_crc32(uint32_t crc, const void *data, size_t bytes)


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
