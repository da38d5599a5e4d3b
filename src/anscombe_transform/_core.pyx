# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True
"""The binding of libanscombe: every function hands its arguments to one C function, without the GIL.

There is no logic here. Arrays are contiguous and of native byte order; `anscombe.h` has the contracts and
`reference.py` the same functions in numpy.
"""

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from "anscombe.h" nogil:
    ctypedef int anscombe_type
    ctypedef struct anscombe_array:
        void *data
        size_t size
        anscombe_type type
    ctypedef struct anscombe_cells:
        double zero, per_gain, constant, scale, slope, offset
    anscombe_type anscombe_type_of(const char *format, size_t itemsize)
    ctypedef struct anscombe_estimate:
        pass
    int anscombe_estimate_codes(int is_signed, anscombe_array table, const anscombe_cells *cells,
                                anscombe_estimate *estimate)
    int anscombe_encode_table(anscombe_array signal, anscombe_array table, const anscombe_estimate *estimate,
                              anscombe_array codes, int64_t *ends)
    int anscombe_encode_edges(anscombe_array signal, anscombe_array edges, const anscombe_cells *cells,
                              anscombe_array guess, int depth, int nan_code, anscombe_array codes, size_t *wrong)
    int anscombe_guess_codes(anscombe_array edges, const anscombe_cells *cells, anscombe_array guess)
    int anscombe_decode_table(anscombe_array codes, anscombe_array table, anscombe_array values, uint32_t *largest)
    int anscombe_largest_errors(anscombe_array original, anscombe_array stored, anscombe_array inverse_bound,
                                float *largest)
    uint32_t anscombe_crc32(uint32_t crc, const void *data, size_t bytes)

    ctypedef struct anscombe_noise_segment:
        uint64_t frames, height, width, top, tile_rows
        double pedestal, floor, ceiling
    int64_t anscombe_noise_scratch(uint64_t frames)
    int anscombe_sum_noise(anscombe_array movie, const anscombe_noise_segment *segment, void *scratch,
                           size_t scratch_bytes, anscombe_array rows)
    int anscombe_patch_images(anscombe_array patches, uint64_t count, uint64_t frames, anscombe_array images)

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
    """The memory of an array as long as this lives."""

    cdef Py_buffer view
    cdef anscombe_array array

    def __cinit__(self, owner, bint writable=False):
        PyObject_GetBuffer(owner, &self.view, PyBUF_ND | PyBUF_FORMAT | (PyBUF_WRITABLE if writable else 0))
        self.array.data = self.view.buf
        self.array.size = self.view.len // self.view.itemsize
        self.array.type = anscombe_type_of(self.view.format, self.view.itemsize)

    def __dealloc__(self):
        PyBuffer_Release(&self.view)


cdef int _check(int result) except -1:
    if result < 0:
        raise ValueError("the types and sizes of the arrays do not fit each other")
    return result


def estimate_codes(bint is_signed, table, cells):
    """The estimate of a table of codes of one byte for signals of 16 bits; None where there is none."""
    cdef _Memory t = _Memory(table), c = _Memory(cells)
    cdef bytearray estimate = bytearray(sizeof(anscombe_estimate))
    cdef _Memory e = _Memory(estimate, True)
    found = _check(anscombe_estimate_codes(
        is_signed, t.array, <const anscombe_cells *>c.view.buf, <anscombe_estimate *>e.view.buf))
    return bytes(estimate) if found else None


def encode_table(signal, table, bytes estimate, codes):
    """Fill `codes` by look-up; returns the smallest and the largest signal."""
    cdef _Memory x = _Memory(signal), t = _Memory(table), q = _Memory(codes, True)
    cdef const anscombe_estimate *e = NULL
    cdef int64_t ends[2]
    cdef int result
    if estimate is not None:
        if len(estimate) != sizeof(anscombe_estimate):
            _check(-1)
        e = <const anscombe_estimate *><const char *>estimate
    ends[0] = ends[1] = 0
    with nogil:
        result = anscombe_encode_table(x.array, t.array, e, q.array, ends)
    _check(result)
    return ends[0], ends[1]


def guess_codes(edges, cells, guess):
    """Fill `guess`; returns how many edges lie in one cell at most."""
    cdef _Memory e = _Memory(edges), c = _Memory(cells), g = _Memory(guess, True)
    return _check(anscombe_guess_codes(e.array, <const anscombe_cells *>c.view.buf, g.array))


def encode_edges(signal, edges, cells, guess, int depth, int nan_code, codes):
    """Fill `codes` by comparison; returns the first index without a code and the first that clipping leaves so."""
    cdef _Memory x = _Memory(signal), e = _Memory(edges), c = _Memory(cells), g = _Memory(guess)
    cdef _Memory q = _Memory(codes, True)
    cdef size_t wrong[2]
    cdef int result
    with nogil:
        result = anscombe_encode_edges(
            x.array, e.array, <const anscombe_cells *>c.view.buf, g.array, depth, nan_code, q.array, wrong)
    _check(result)
    return wrong[0], wrong[1]


def decode_table(codes, table, values):
    """Fill `values` by look-up; returns the largest code."""
    cdef _Memory q = _Memory(codes), t = _Memory(table), v = _Memory(values, True)
    cdef uint32_t largest = 0
    cdef int result
    with nogil:
        result = anscombe_decode_table(q.array, t.array, v.array, &largest)
    _check(result)
    return largest


def largest_errors(original, stored, inverse_bound):
    """The largest error, and the largest product of an error with the entry of its original."""
    cdef _Memory x = _Memory(original), y = _Memory(stored), b = _Memory(inverse_bound)
    cdef float largest[2]
    cdef int result
    with nogil:
        result = anscombe_largest_errors(x.array, y.array, b.array, largest)
    _check(result)
    return largest[0], largest[1]


def crc32(data, uint32_t crc=0):
    """CRC-32 of any contiguous buffer, as `zlib.crc32`."""
    cdef _Memory memory = _Memory(data)
    with nogil:
        crc = anscombe_crc32(crc, memory.view.buf, memory.view.len)
    return crc


def noise_scratch(uint64_t frames):
    """Bytes of scratch that `sum_noise` needs for a segment of so many frames."""
    return anscombe_noise_scratch(frames)


def sum_noise(movie, uint64_t frames, uint64_t height, uint64_t width, uint64_t top, uint64_t tile_rows,
              double pedestal, double floor, double ceiling, scratch, rows):
    """Fill `rows` with sums over consecutive frames."""
    cdef _Memory source = _Memory(movie), room = _Memory(scratch, True), target = _Memory(rows, True)
    cdef anscombe_noise_segment segment
    cdef int result
    segment.frames, segment.height, segment.width, segment.top = frames, height, width, top
    segment.tile_rows, segment.pedestal, segment.floor, segment.ceiling = tile_rows, pedestal, floor, ceiling
    with nogil:
        result = anscombe_sum_noise(source.array, &segment, room.view.buf, room.view.len, target.array)
    _check(result)


def patch_images(patches, uint64_t count, uint64_t frames, images):
    """Fill `images` from patches."""
    cdef _Memory source = _Memory(patches), target = _Memory(images, True)
    cdef int result
    with nogil:
        result = anscombe_patch_images(source.array, count, frames, target.array)
    _check(result)


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
