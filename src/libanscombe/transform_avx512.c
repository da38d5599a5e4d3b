/* Values of codes of one byte by tables in registers: AVX-512 with VBMI looks 64 bytes up in 256 at once. */
#include "transform_avx512.h"

#if ANSCOMBE_X86 && ANSCOMBE_MOST_LEVEL > 3
#include <immintrin.h>

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

#endif
