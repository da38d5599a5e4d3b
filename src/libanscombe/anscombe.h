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
};

/* CRC-32 of memory as in zlib (ISO-HDLC); `crc` is that of what came before, 0 at first. */
uint32_t anscombe_crc32(uint32_t crc, const void *data, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif
