/* The part of the transform that needs instructions of its own. */
#ifndef ANSCOMBE_TRANSFORM_AVX512_H
#define ANSCOMBE_TRANSFORM_AVX512_H

#include "rans.h" /* has_avx512 */

/* Look the first codes of `size` up in a table of 256 values of one or two bytes; how many were, a multiple of 64. */
size_t look_up_avx512(const uint8_t *x, const uint8_t *table, uint8_t *out, size_t value_bytes, size_t size);

#endif
