/* Codes of one byte and their values by tables in registers: AVX-512 with VBMI looks 64 bytes up in 256 at once. */
#include "transform_avx512.h"

#if ANSCOMBE_X86 && ANSCOMBE_MOST_LEVEL > 3
#include <immintrin.h>
#include <string.h>

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")))
#define INLINE static inline __attribute__((always_inline))

/* One byte of each of 256 values. */
typedef struct {
    __m512i quarter[4];
} plane;

AVX512 INLINE plane load_plane(const uint8_t *table, size_t value_bytes, size_t which) {
    uint8_t bytes[256];
    for (size_t i = 0; i < 256; i++) {
        bytes[i] = table[i * value_bytes + which];
    }
    plane found;
    for (int i = 0; i < 4; i++) {
        found.quarter[i] = _mm512_loadu_si512(bytes + 64 * i);
    }
    return found;
}

AVX512 INLINE __m512i look_up_plane(const plane *p, __m512i codes) {
    __m512i low = _mm512_permutex2var_epi8(p->quarter[0], codes, p->quarter[1]);
    __m512i high = _mm512_permutex2var_epi8(p->quarter[2], codes, p->quarter[3]);
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(codes), low, high);
}

/* Order in which the halves that unpacking takes from every lane come out one after the other. */
AVX512 INLINE __m512i spread_words(__m512i x) {
    return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7), x);
}

AVX512 size_t look_up_avx512(const uint8_t *x, const uint8_t *table, uint8_t *out, size_t value_bytes, size_t size) {
    size_t done = 0;
    if (value_bytes == 1) {
        plane bytes = load_plane(table, 1, 0);
        for (; done + 64 <= size; done += 64) {
            _mm512_storeu_si512(out + done, look_up_plane(&bytes, _mm512_loadu_si512(x + done)));
        }
    } else if (value_bytes == 2) {
        plane low = load_plane(table, 2, 0), high = load_plane(table, 2, 1);
        for (; done + 64 <= size; done += 64) {
            __m512i codes = spread_words(_mm512_loadu_si512(x + done));
            __m512i first = look_up_plane(&low, codes), second = look_up_plane(&high, codes);
            _mm512_storeu_si512(out + 2 * done, _mm512_unpacklo_epi8(first, second));
            _mm512_storeu_si512(out + 2 * done + 64, _mm512_unpackhi_epi8(first, second));
        }
    }
    return done;
}

/* -- codes of integers of 16 bits, by estimate ---------------------------------------------------------------- */

/* Cells of 32 integers, biased to be unsigned, as words. The root is by a reciprocal one, of 14 bits. */
AVX512 INLINE __m512i find_cells(__m512i x, const float numbers[6]) {
    __m512 per_gain = _mm512_set1_ps(numbers[0]), shift = _mm512_set1_ps(numbers[1]);
    __m512 constant = _mm512_set1_ps(numbers[2]), scale = _mm512_set1_ps(numbers[3]);
    __m512 slope = _mm512_set1_ps(numbers[4]), offset = _mm512_set1_ps(numbers[5]);
    __m512i half[2] = {_mm512_unpacklo_epi16(x, _mm512_setzero_si512()),
                       _mm512_unpackhi_epi16(x, _mm512_setzero_si512())};
    for (int i = 0; i < 2; i++) {
        __m512 n = _mm512_fmadd_ps(_mm512_cvtepi32_ps(half[i]), per_gain, shift);
        __m512 up = _mm512_max_ps(n, constant), down = _mm512_sub_ps(n, up);
        __m512 y = _mm512_fmadd_ps(_mm512_mul_ps(up, scale), _mm512_rsqrt14_ps(up), offset);
        half[i] = _mm512_cvttps_epi32(_mm512_fmadd_ps(down, slope, y));
    }
    return _mm512_packs_epi32(half[0], half[1]);
}

/* Codes of 64 integers: the first of their cells, and one more above the last signal of that code. */
AVX512 INLINE __m512i find_codes(const plane *first, const plane *low, const plane *high, const float numbers[6],
                                 __m512i x, __m512i y) {
    __m512i cells = _mm512_packus_epi16(find_cells(x, numbers), find_cells(y, numbers));
    __m512i below = look_up_plane(low, cells), above = look_up_plane(high, cells);
    __mmask64 second = _mm512_cmpgt_epu16_mask(x, _mm512_unpacklo_epi8(below, above)) |
                       (__mmask64)_mm512_cmpgt_epu16_mask(y, _mm512_unpackhi_epi8(below, above)) << 32;
    /* Packing takes eight bytes of either from every lane. */
    __m512i code = _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), look_up_plane(first, cells));
    return _mm512_mask_add_epi8(code, second, code, _mm512_set1_epi8(1));
}

AVX512 size_t encode_avx512(const uint16_t *x, const anscombe_estimate *e, uint16_t bias, uint8_t *codes, size_t size,
                            uint16_t ends[2]) {
    plane first = load_plane(e->first, 1, 0), low = load_plane(e->last[0], 1, 0), high = load_plane(e->last[1], 1, 0);
    __m512i flip = _mm512_set1_epi16((short)bias);
    __m512i smallest = _mm512_set1_epi16(-1), largest = _mm512_setzero_si512();
    size_t done = 0;
    for (; done + 64 <= size; done += 64) {
        __m512i one = _mm512_xor_si512(_mm512_loadu_si512(x + done), flip);
        __m512i two = _mm512_xor_si512(_mm512_loadu_si512(x + done + 32), flip);
        smallest = _mm512_min_epu16(smallest, _mm512_min_epu16(one, two));
        largest = _mm512_max_epu16(largest, _mm512_max_epu16(one, two));
        _mm512_storeu_si512(codes + done, find_codes(&first, &low, &high, e->numbers, one, two));
    }
    uint16_t found[2][32];
    _mm512_storeu_si512(found[0], smallest);
    _mm512_storeu_si512(found[1], largest);
    for (int i = 0; i < 32; i++) {
        ends[0] = found[0][i] < ends[0] ? found[0][i] : ends[0];
        ends[1] = found[1][i] > ends[1] ? found[1][i] : ends[1];
    }
    return done;
}

AVX512 int estimate_avx512(const uint8_t *table, uint16_t bias, anscombe_estimate *e) {
    /* Estimates are not monotonic to the last bit, but codes increase: a cell's first signal has its first code. */
    uint8_t seen[256] = {0};
    memset(e->last, 255, sizeof e->last);
    for (uint32_t at = 0; at < 65536; at += 32) {
        uint16_t x[32], cells[32];
        for (uint32_t i = 0; i < 32; i++) {
            x[i] = (uint16_t)(at + i);
        }
        _mm512_storeu_si512(cells, find_cells(_mm512_loadu_si512(x), e->numbers));
        for (uint32_t i = 0; i < 32; i++) {
            int cell = (int16_t)cells[i] < 0 ? 0 : (int16_t)cells[i] > 255 ? 255 : (int16_t)cells[i];
            uint8_t code = table[x[i] ^ bias];
            if (!seen[cell]) {
                e->first[cell] = code;
                seen[cell] = 1;
            } else if (seen[cell] == 1 && code != e->first[cell]) {
                e->last[0][cell] = (uint8_t)(x[i] - 1);
                e->last[1][cell] = (uint8_t)((x[i] - 1) >> 8);
                seen[cell] = 2;
            }
        }
    }
    for (uint32_t at = 0; at < 65536; at += 64) {
        uint16_t x[64], ends[2] = {65535, 0};
        uint8_t codes[64];
        for (uint32_t i = 0; i < 64; i++) {
            x[i] = (uint16_t)((at + i) ^ bias);
        }
        encode_avx512(x, e, bias, codes, 64, ends);
        for (uint32_t i = 0; i < 64; i++) {
            if (codes[i] != table[x[i]]) {
                return 0;
            }
        }
    }
    return 1;
}

#endif
