/* libanscombe: the native core of anscombe-transform, and its only public header.
 *
 * Portable C11 without dependencies. All functions are reentrant and keep no state; none allocates. Arrays are
 * flat, contiguous and of native byte order; a size is a number of items unless it is said to be of bytes.
 * Every function checks the sizes it is given before it touches memory and returns ANSCOMBE_BAD_ARGUMENT if
 * they do not fit. `reference.py` has the same functions in numpy: they are the definition.
 */
#ifndef ANSCOMBE_H
#define ANSCOMBE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    ANSCOMBE_OK = 0,
    ANSCOMBE_BAD_ARGUMENT = -1,
    ANSCOMBE_DAMAGED = -2, /* bytes that are not what was written, or of another shape */
    ANSCOMBE_UNKNOWN = -3, /* bytes that a newer version wrote */
};

/* CRC-32 of memory as in zlib (ISO-HDLC); `crc` is that of what came before, 0 at first. */
uint32_t anscombe_crc32(uint32_t crc, const void *data, size_t bytes);

/* --- The frame coder: chunks of movies of codes, format `anscombe_frames` ------------------------------------- */

/* Frames of `height` rows of `width` codes of one byte or two, in C order. */
typedef struct {
    uint64_t frames, height, width;
    int itemsize;
} anscombe_frames_shape;

/* Most bytes of a chunk, and bytes of scratch that encoding needs; an error if negative. `planes` consecutive frames
 * belong to one time: the frame before is so many frames before. */
int64_t anscombe_frames_bound(const anscombe_frames_shape *shape);
int64_t anscombe_frames_encode_scratch(const anscombe_frames_shape *shape, uint32_t planes);

/* Compress codes. `effort` is 0 (preset fast) or 1 (compact). Returns the bytes of the chunk, or an error. */
int64_t anscombe_frames_encode(const void *codes, const anscombe_frames_shape *shape, uint32_t planes, int effort,
                               void *chunk, size_t room, void *scratch, size_t scratch_bytes);

/* Bytes of scratch that decoding a chunk needs, once its checksum and sizes are right; an error if negative. */
int64_t anscombe_frames_decode_scratch(const void *chunk, size_t bytes, const anscombe_frames_shape *shape);

/* Decompress a chunk. Whatever the bytes are, nothing outside of `codes` and `scratch` is written, and codes are
 * whole where ANSCOMBE_OK is returned. */
int64_t anscombe_frames_decode(const void *chunk, size_t bytes, const anscombe_frames_shape *shape, void *codes,
                               void *scratch, size_t scratch_bytes);

#ifdef __cplusplus
}
#endif
#endif
