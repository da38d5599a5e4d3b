/* The part of the transform that needs instructions of its own. */
#ifndef ANSCOMBE_TRANSFORM_AVX512_H
#define ANSCOMBE_TRANSFORM_AVX512_H

#include "anscombe.h"
#include "rans.h" /* has_avx512 */

/* Look the first codes of `size` up in a table of 256 values of one or two bytes; how many were, a multiple of 64. */
size_t look_up_avx512(const uint8_t *x, const uint8_t *table, uint8_t *out, size_t value_bytes, size_t size);

/* Codes of the first of `size` integers by estimate; how many, a multiple of 64. `bias` is 32768 for signed ones; the
 * smallest and the largest, as unsigned integers of that bias, widen `ends`. */
size_t encode_avx512(const uint16_t *x, const anscombe_estimate *estimate, uint16_t bias, uint8_t *codes, size_t size,
                     uint16_t ends[2]);

/* Fill what follows `numbers`, and whether that gives every code of the table. */
int estimate_avx512(const uint8_t *table, uint16_t bias, anscombe_estimate *estimate);

#endif
