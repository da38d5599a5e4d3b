/* rANS with AVX2: the same bytes as the plain coder in rans.c, 16 narrow or 8 wide states at a time. */
#include "rans.h"

#if ANSCOMBE_X86 && ANSCOMBE_MOST_LEVEL > 1
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,popcnt")))
#define INLINE static inline __attribute__((always_inline))

bool has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt"); }

/* --- which bytes go where --- */

#define BITS(m) (((m) & 1) + ((m) >> 1 & 1) + ((m) >> 2 & 1) + ((m) >> 3 & 1) + ((m) >> 4 & 1) + ((m) >> 5 & 1) + \
                 ((m) >> 6 & 1) + ((m) >> 7 & 1))
#define FOUR(f, m) f(m), f((m) + 1), f((m) + 2), f((m) + 3)
#define SIXTEEN(f, m) FOUR(f, m), FOUR(f, (m) + 4), FOUR(f, (m) + 8), FOUR(f, (m) + 12)
#define ALL(f) SIXTEEN(f, 0), SIXTEEN(f, 16), SIXTEEN(f, 32), SIXTEEN(f, 48), SIXTEEN(f, 64), SIXTEEN(f, 80), \
    SIXTEEN(f, 96), SIXTEEN(f, 112), SIXTEEN(f, 128), SIXTEEN(f, 144), SIXTEEN(f, 160), SIXTEEN(f, 176), \
    SIXTEEN(f, 192), SIXTEEN(f, 208), SIXTEEN(f, 224), SIXTEEN(f, 240)

/* By a mask of eight lanes: for each lane of the mask the next of the bytes that stand together. */
#define FROM(m, lane) ((uint64_t)((m) >> (lane) & 1 ? BITS((m) & ((1 << (lane)) - 1)) : 128) << 8 * (lane))
#define SPREAD_OF(m) FROM(m, 0) | FROM(m, 1) | FROM(m, 2) | FROM(m, 3) | FROM(m, 4) | FROM(m, 5) | FROM(m, 6) | FROM(m, 7)
static const uint64_t SPREAD[256] = {ALL(SPREAD_OF)};

/* The reverse: the bytes of the mask's lanes together, the last one at the end. */
#define TO(m, lane) ((m) >> (lane) & 1 ? (uint64_t)(lane) << (8 * (7 - BITS((m) >> (lane) >> 1))) : 0)
#define JOIN_OF(m) TO(m, 0) | TO(m, 1) | TO(m, 2) | TO(m, 3) | TO(m, 4) | TO(m, 5) | TO(m, 6) | TO(m, 7)
static const uint64_t JOIN[256] = {ALL(JOIN_OF)};

AVX2 INLINE __m128i bytes_of(const uint64_t *table, unsigned mask) {
    return _mm_loadl_epi64((const __m128i *)(table + mask));
}

/* The same for words of two bytes. */
AVX2 INLINE __m128i words_of(const uint64_t *table, unsigned mask) {
    __m128i low = bytes_of(table, mask);
    low = _mm_adds_epu8(low, low);
    return _mm_unpacklo_epi8(low, _mm_adds_epu8(low, _mm_set1_epi8(1)));
}

AVX2 INLINE __m128i look_up_4(const uint32_t *lookup, __m128i place) {
    uint64_t low = (uint64_t)_mm_cvtsi128_si64(place), high = (uint64_t)_mm_extract_epi64(place, 1);
    __m128i a = _mm_cvtsi32_si128((int)lookup[(uint32_t)low]), b = _mm_cvtsi32_si128((int)lookup[(uint32_t)high]);
    return _mm_unpacklo_epi64(_mm_insert_epi32(a, (int)lookup[low >> 32], 1), _mm_insert_epi32(b, (int)lookup[high >> 32], 1));
}

/* Entries of eight places. Loads one by one are as fast as gathers, and faster on processors that were made to slow
 * gathers down (CVE-2022-40982). */
AVX2 INLINE __m256i look_up_8(const uint32_t *lookup, __m256i place) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(look_up_4(lookup, _mm256_castsi256_si128(place))),
                                   look_up_4(lookup, _mm256_extracti128_si256(place, 1)), 1);
}

/* --- narrow states --- */

AVX2 INLINE unsigned mask_of_16(__m256i words) {
    return (unsigned)_mm_movemask_epi8(_mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}

AVX2 INLINE __m256i decode_16(__m256i state, const uint32_t *lookup, const uint8_t *context, uint8_t *symbol,
                              const uint8_t **next) {
    const __m256i bytes = _mm256_set1_epi16(255), zero = _mm256_setzero_si256();
    __m256i place = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)context));
    place = _mm256_or_si256(_mm256_slli_epi16(place, 8), _mm256_and_si256(state, bytes));
    __m256i a = look_up_8(lookup, _mm256_unpacklo_epi16(place, zero));
    __m256i b = look_up_8(lookup, _mm256_unpackhi_epi16(place, zero));
    __m256i symbols = _mm256_packus_epi32(_mm256_srli_epi32(a, 16), _mm256_srli_epi32(b, 16));
    __m256i range = _mm256_packus_epi32(_mm256_blend_epi16(a, zero, 0xaa), _mm256_blend_epi16(b, zero, 0xaa));
    _mm_storeu_si128((__m128i *)symbol, _mm_packus_epi16(_mm256_castsi256_si128(symbols), _mm256_extracti128_si256(symbols, 1)));
    __m256i moved = _mm256_add_epi16(_mm256_mullo_epi16(_mm256_and_si256(range, bytes), _mm256_srli_epi16(state, 8)),
                                     _mm256_srli_epi16(range, 8));
    __m256i low = _mm256_cmpeq_epi16(_mm256_srli_epi16(moved, 8), zero);
    unsigned mask = mask_of_16(low), count = (unsigned)__builtin_popcount(mask & 255);
    __m128i first = _mm_shuffle_epi8(_mm_loadl_epi64((const __m128i *)*next), bytes_of(SPREAD, mask & 255));
    __m128i second = _mm_shuffle_epi8(_mm_loadl_epi64((const __m128i *)(*next + count)), bytes_of(SPREAD, mask >> 8));
    *next += __builtin_popcount(mask);
    __m256i fresh = _mm256_cvtepu8_epi16(_mm_unpacklo_epi64(first, second));
    return _mm256_blendv_epi8(moved, _mm256_or_si256(_mm256_slli_epi16(moved, 8), fresh), low);
}

/* Bytes of few tables for 32 symbols. */
AVX2 INLINE __m256i find_few(const uint8_t *plane, int tables, __m256i context, __m256i symbol) {
    __m256i found[FEW_TABLES];
    for (int i = 0; i < tables; i++) {
        __m128i table = _mm_loadu_si128((const __m128i *)(plane + SYMBOLS * i));
        found[i] = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), symbol);
    }
    if (tables == 1) {
        return found[0];
    }
    /* The highest bit of a byte says which of two: that of the context's lowest bit, and of the next one. */
    __m256i odd = _mm256_slli_epi16(context, 7), high = _mm256_slli_epi16(context, 6);
    return _mm256_blendv_epi8(_mm256_blendv_epi8(found[0], found[1], odd), _mm256_blendv_epi8(found[2], found[3], odd), high);
}

/* 16 symbols of these ranges. */
AVX2 INLINE __m256i encode_16(__m256i state, __m256i frequency, __m256i start, __m256i reciprocal, uint8_t **next) {
    __m256i least = _mm256_slli_epi16(frequency, 8), high = _mm256_cmpeq_epi16(_mm256_max_epu16(state, least), state);
    unsigned mask = mask_of_16(high), count = (unsigned)__builtin_popcount(mask >> 8);
    __m256i low = _mm256_and_si256(state, _mm256_set1_epi16(255));
    __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
    /* Eight bytes are stored, those that count last: what is below is written over by the next. */
    _mm_storel_epi64((__m128i *)(*next - 8), _mm_shuffle_epi8(_mm_unpackhi_epi64(bytes, bytes), bytes_of(JOIN, mask >> 8)));
    _mm_storel_epi64((__m128i *)(*next - count - 8), _mm_shuffle_epi8(bytes, bytes_of(JOIN, mask & 255)));
    *next -= __builtin_popcount(mask);
    __m256i kept = _mm256_blendv_epi8(state, _mm256_srli_epi16(state, 8), high);
    /* The quotient is that of the reciprocal, or one more. */
    __m256i quotient = _mm256_mulhi_epu16(kept, reciprocal);
    __m256i rest = _mm256_sub_epi16(kept, _mm256_mullo_epi16(quotient, frequency));
    __m256i enough = _mm256_cmpgt_epi16(frequency, rest);
    quotient = _mm256_add_epi16(quotient, _mm256_andnot_si256(enough, _mm256_set1_epi16(1)));
    rest = _mm256_sub_epi16(rest, _mm256_andnot_si256(enough, frequency));
    return _mm256_add_epi16(_mm256_slli_epi16(quotient, 8), _mm256_add_epi16(rest, start));
}

AVX2 INLINE __m256i half_of(__m256i bytes, int half) {
    return _mm256_cvtepu8_epi16(half ? _mm256_extracti128_si256(bytes, 1) : _mm256_castsi256_si128(bytes));
}

/* 32 symbols of few tables; false if one has no range. */
AVX2 INLINE bool encode_few(const encoder *e, int tables, uint16_t *states, const uint8_t *contexts,
                            const uint8_t *symbols, uint8_t **next) {
    __m256i context = _mm256_loadu_si256((const __m256i *)contexts), symbol = _mm256_loadu_si256((const __m256i *)symbols);
    __m256i frequency = find_few(e->plane[PLANE_FREQUENCY], tables, context, symbol);
    if (_mm256_movemask_epi8(_mm256_cmpeq_epi8(frequency, _mm256_setzero_si256()))) {
        return false;
    }
    __m256i start = find_few(e->plane[PLANE_START], tables, context, symbol);
    __m256i low = find_few(e->plane[PLANE_LOW], tables, context, symbol);
    __m256i high = find_few(e->plane[PLANE_HIGH], tables, context, symbol);
    for (int half = 1; half >= 0; half--) {
        __m256i *state = (__m256i *)(states + 16 * half);
        __m256i reciprocal = _mm256_or_si256(half_of(low, half), _mm256_slli_epi16(half_of(high, half), 8));
        _mm256_storeu_si256(state, encode_16(_mm256_loadu_si256(state), half_of(frequency, half), half_of(start, half),
                                             reciprocal, next));
    }
    return true;
}

/* --- wide states --- */

AVX2 INLINE __m256i decode_8(__m256i state, const uint32_t *lookup, const uint8_t *context, uint8_t *symbol,
                             const uint8_t **next) {
    const __m256i mask = _mm256_set1_epi32(LOOKUP_WIDE), zero = _mm256_setzero_si256();
    __m256i place = _mm256_slli_epi32(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)context)), 10);
    __m256i entry = look_up_8(lookup, _mm256_or_si256(place, _mm256_and_si256(state, mask)));
    __m256i symbols = _mm256_srli_epi32(entry, 20);
    __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(symbols), _mm256_extracti128_si256(symbols, 1));
    _mm_storel_epi64((__m128i *)symbol, _mm_packus_epi16(words, words));
    __m256i moved = _mm256_add_epi32(_mm256_mullo_epi32(_mm256_and_si256(entry, mask), _mm256_srli_epi32(state, 10)),
                                     _mm256_and_si256(_mm256_srli_epi32(entry, 10), mask));
    __m256i low = _mm256_cmpeq_epi32(_mm256_srli_epi32(moved, 16), zero);
    unsigned taken = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(low));
    __m128i fresh = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)*next), words_of(SPREAD, taken));
    *next += 2 * __builtin_popcount(taken);
    return _mm256_blendv_epi8(moved, _mm256_or_si256(_mm256_slli_epi32(moved, 16), _mm256_cvtepu16_epi32(fresh)), low);
}

/* Ranges of two symbols. */
AVX2 INLINE __m128i load_two(const slot_range *ranges, const uint8_t *contexts, const uint8_t *symbols) {
    __m128i one = _mm_loadl_epi64((const __m128i *)(ranges + contexts[0] * SYMBOLS + symbols[0]));
    __m128i two = _mm_loadl_epi64((const __m128i *)(ranges + contexts[1] * SYMBOLS + symbols[1]));
    return _mm_unpacklo_epi64(one, two);
}

/* Ranges and reciprocals of eight symbols, loaded one by one like entries. */
AVX2 INLINE void load_ranges(const slot_range *ranges, const uint8_t *contexts, const uint8_t *symbols, __m256i *range,
                             __m256i *reciprocal) {
    __m256i a = _mm256_inserti128_si256(_mm256_castsi128_si256(load_two(ranges, contexts, symbols)),
                                        load_two(ranges, contexts + 4, symbols + 4), 1);
    __m256i b = _mm256_inserti128_si256(_mm256_castsi128_si256(load_two(ranges, contexts + 2, symbols + 2)),
                                        load_two(ranges, contexts + 6, symbols + 6), 1);
    *range = _mm256_castps_si256(_mm256_shuffle_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b), 0x88));
    *reciprocal = _mm256_castps_si256(_mm256_shuffle_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b), 0xdd));
}

/* Eight symbols; false if one has no range. */
AVX2 INLINE bool encode_8(uint32_t *states, const slot_range *ranges, const uint8_t *contexts, const uint8_t *symbols,
                          uint8_t **next) {
    __m256i range, reciprocal;
    load_ranges(ranges, contexts, symbols, &range, &reciprocal);
    __m256i frequency = _mm256_blend_epi16(range, _mm256_setzero_si256(), 0xaa);
    if (_mm256_movemask_epi8(_mm256_cmpeq_epi32(frequency, _mm256_setzero_si256()))) {
        return false;
    }
    __m256i state = _mm256_loadu_si256((const __m256i *)states);
    __m256i below = _mm256_cmpgt_epi32(frequency, _mm256_srli_epi32(state, 22));
    unsigned mask = ~(unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(below)) & 255;
    __m256i low = _mm256_blend_epi16(state, _mm256_setzero_si256(), 0xaa);
    __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
    _mm_storeu_si128((__m128i *)(*next - 16), _mm_shuffle_epi8(words, words_of(JOIN, mask)));
    *next -= 2 * __builtin_popcount(mask);
    __m256i kept = _mm256_blendv_epi8(_mm256_srli_epi32(state, 16), state, below);
    __m256i even = _mm256_srli_epi64(_mm256_mul_epu32(kept, reciprocal), 32);
    __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(kept, 32), _mm256_srli_epi64(reciprocal, 32));
    __m256i quotient = _mm256_blend_epi16(even, odd, 0xcc);
    __m256i rest = _mm256_sub_epi32(kept, _mm256_mullo_epi32(quotient, frequency));
    __m256i enough = _mm256_cmpgt_epi32(frequency, rest);
    quotient = _mm256_add_epi32(quotient, _mm256_andnot_si256(enough, _mm256_set1_epi32(1)));
    rest = _mm256_sub_epi32(rest, _mm256_andnot_si256(enough, frequency));
    __m256i coded = _mm256_add_epi32(_mm256_slli_epi32(quotient, 10), _mm256_add_epi32(rest, _mm256_srli_epi32(range, 16)));
    _mm256_storeu_si256((__m256i *)states, coded);
    return true;
}

/* --- rows --- */

/* What is left of a row behind whole vectors, and rows near the end of the bytes, are coded plainly. */
AVX2 void decode_avx2(decoder *d, const coding *c, const uint32_t *lookup, const uint8_t *context, uint8_t *symbol,
                      size_t rows, size_t width) {
    const coding narrow = {0, c->lanes}, wide = {1, c->lanes};
    size_t most = (width + 16) * (c->wide ? 2 : 1), whole = width - width % (c->wide ? 8 : 16);
    const uint8_t *next = d->next;
    for (; rows > 0 && (size_t)(d->end - next) >= most; rows--, context += width, symbol += width) {
        for (size_t x = 0; x < whole; x += c->wide ? 8 : 16) {
            size_t lane = x % c->lanes;
            __m256i *state = (__m256i *)(c->wide ? (void *)(d->state + lane) : (void *)((uint16_t *)d->state + lane));
            __m256i before = _mm256_loadu_si256(state);
            _mm256_storeu_si256(state, c->wide ? decode_8(before, lookup, context + x, symbol + x, &next)
                                               : decode_16(before, lookup, context + x, symbol + x, &next));
        }
        next = c->wide ? decode_row_plain(d->state, wide, lookup, context, symbol, whole, width, next)
                       : decode_row_plain(d->state, narrow, lookup, context, symbol, whole, width, next);
    }
    d->next = next;
    decode_plain(d, c, lookup, context, symbol, rows, width);
}

AVX2 INLINE void encode_rows(encoder *e, const coding *c, int tables, const slot_range *ranges, const uint8_t *contexts,
                             const uint8_t *symbols, size_t at, size_t rows, size_t width) {
    size_t step = c->wide ? 8 : 32, whole = width - width % step;
    for (size_t row = rows; row-- > 0 && has_room(e, width);) {
        size_t place = at + row * width;
        uint8_t *next = encode_row_plain(e, *c, ranges, contexts, symbols, place, whole, width, e->next);
        for (size_t x = whole; x > 0;) {
            x -= step;
            size_t lane = x % c->lanes;
            bool coded = c->wide ? encode_8(e->state + lane, ranges, contexts + place + x, symbols + place + x, &next)
                                 : encode_few(e, tables, (uint16_t *)e->state + lane, contexts + place + x, symbols + place + x, &next);
            if (!coded) {
                next = encode_row_plain(e, *c, ranges, contexts, symbols, place, x, x + step, next);
            }
        }
        e->next = next;
    }
}

AVX2 static void encode_wide(encoder *e, size_t lanes, const slot_range *ranges, const uint8_t *contexts,
                             const uint8_t *symbols, size_t at, size_t rows, size_t width) {
    encode_rows(e, &(coding){1, (uint8_t)lanes}, 0, ranges, contexts, symbols, at, rows, width);
}

AVX2 static void encode_one_table(encoder *e, size_t lanes, const slot_range *ranges, const uint8_t *contexts,
                                  const uint8_t *symbols, size_t at, size_t rows, size_t width) {
    encode_rows(e, &(coding){0, (uint8_t)lanes}, 1, ranges, contexts, symbols, at, rows, width);
}

AVX2 static void encode_four_tables(encoder *e, size_t lanes, const slot_range *ranges, const uint8_t *contexts,
                                    const uint8_t *symbols, size_t at, size_t rows, size_t width) {
    encode_rows(e, &(coding){0, (uint8_t)lanes}, FEW_TABLES, ranges, contexts, symbols, at, rows, width);
}

void encode_avx2(encoder *e, const coding *c, int tables, const slot_range *ranges, const uint8_t *contexts,
                 const uint8_t *symbols, size_t at, size_t rows, size_t width) {
    if (c->wide) {
        encode_wide(e, c->lanes, ranges, contexts, symbols, at, rows, width);
    } else if (tables == 1) {
        encode_one_table(e, c->lanes, ranges, contexts, symbols, at, rows, width);
    } else if (tables <= FEW_TABLES) {
        encode_four_tables(e, c->lanes, ranges, contexts, symbols, at, rows, width);
    } else {
        encode_plain(e, c, ranges, contexts, symbols, at, rows, width);
    }
}
#endif
