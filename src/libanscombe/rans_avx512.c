/* rANS with AVX-512 (VBMI2), of narrow states and tables that fit into registers: the same bytes as the plain coder in
 * rans.c. */
#include "rans.h"

#if ANSCOMBE_X86 && ANSCOMBE_MOST_LEVEL > 3
#include <immintrin.h>

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,bmi2,popcnt")))
#define INLINE static inline __attribute__((always_inline))

/* Masked stores are slow, and compilers do not see that a mask is full. */
#define FULL(active) (__builtin_constant_p(active) && (active) == (__typeof__(active))-1)

bool has_avx512(void) { return __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("avx512dq"); }

/* Thirty-two states take up their bytes, in order; 32 bytes are read, used or not. */
AVX512 INLINE __m512i refill_narrow(__m512i state, __mmask32 active, const uint8_t **next) {
    __mmask32 low = _mm512_mask_cmplt_epu16_mask(active, state, _mm512_set1_epi16(1 << 8));
    __m256i bytes = _mm256_maskz_expand_epi8(low, _mm256_loadu_si256((const __m256i *)*next));
    *next += __builtin_popcount(low);
    return _mm512_or_si512(_mm512_mask_slli_epi16(state, low, state, 8), _mm512_cvtepu8_epi16(bytes));
}

/* Four tables at most in registers. An index is a symbol with its table above it; `index` has that of each slot, and
 * `start` and `frequency` are by index. */
typedef struct {
    __m512i index[FEW_TABLES][4];
    __m512i start, frequency;
} few_tables;

AVX512 INLINE few_tables load_few(const decoder *d) {
    few_tables t;
    for (int table = 0; table < FEW_TABLES; table++) {
        for (int quarter = 0; quarter < 4; quarter++) {
            t.index[table][quarter] = _mm512_loadu_si512(d->index[table] + 64 * quarter);
        }
    }
    t.start = _mm512_loadu_si512(d->start);
    t.frequency = _mm512_loadu_si512(d->frequency);
    return t;
}

/* The indices of 64 slots in one table. */
AVX512 INLINE __m512i find_index(const __m512i *index, __m512i slot, __mmask64 upper) {
    return _mm512_mask_mov_epi8(_mm512_permutex2var_epi8(index[0], slot, index[1]), upper,
                                _mm512_permutex2var_epi8(index[2], slot, index[3]));
}

/* The symbols of 64 states. */
AVX512 INLINE void decode_few(__m512i *a, __m512i *b, const few_tables *t, int tables, __mmask64 active,
                              const uint8_t *context, uint8_t *symbol, const uint8_t **next) {
    __m512i slot = _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi16_epi8(*a)), _mm512_cvtepi16_epi8(*b), 1);
    __mmask64 upper = _mm512_movepi8_mask(slot);
    __m512i found = find_index(t->index[0], slot, upper);
    if (tables > 1) {
        __m512i contexts = FULL(active) ? _mm512_loadu_si512(context) : _mm512_maskz_loadu_epi8(active, context);
        __mmask64 odd = _mm512_test_epi8_mask(contexts, _mm512_set1_epi8(1));
        found = _mm512_mask_mov_epi8(found, odd, find_index(t->index[1], slot, upper));
        if (tables > 2) {
            __m512i high = _mm512_mask_mov_epi8(find_index(t->index[2], slot, upper), odd,
                                                find_index(t->index[3], slot, upper));
            found = _mm512_mask_mov_epi8(found, _mm512_test_epi8_mask(contexts, _mm512_set1_epi8(2)), high);
        }
    }
    __m512i frequency = _mm512_permutexvar_epi8(found, t->frequency);
    __m512i rest = _mm512_sub_epi8(slot, _mm512_permutexvar_epi8(found, t->start));
    __m512i symbols = _mm512_and_si512(found, _mm512_set1_epi8(SYMBOLS - 1));
    if (FULL(active)) {
        _mm512_storeu_si512(symbol, symbols);
    } else {
        _mm512_mask_storeu_epi8(symbol, active, symbols);
    }
    __m512i first = _mm512_add_epi16(_mm512_mullo_epi16(_mm512_cvtepu8_epi16(_mm512_castsi512_si256(frequency)),
                                                        _mm512_srli_epi16(*a, 8)),
                                     _mm512_cvtepu8_epi16(_mm512_castsi512_si256(rest)));
    __m512i second = _mm512_add_epi16(_mm512_mullo_epi16(_mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(frequency, 1)),
                                                         _mm512_srli_epi16(*b, 8)),
                                      _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(rest, 1)));
    *a = refill_narrow(_mm512_mask_mov_epi16(*a, (__mmask32)active, first), (__mmask32)active, next);
    *b = refill_narrow(_mm512_mask_mov_epi16(*b, (__mmask32)(active >> 32), second), (__mmask32)(active >> 32), next);
}

/* With 128 lanes; `tables` is 1 or 4, and a constant where this is called. */
AVX512 INLINE void decode_few_tables(decoder *d, const coding *k, int tables, const uint32_t *lookup, const uint8_t *context,
                                     uint8_t *symbol, size_t rows, size_t width) {
    const few_tables t = load_few(d);
    uint16_t *narrow = (uint16_t *)d->state;
    __m512i a = _mm512_loadu_si512(narrow), b = _mm512_loadu_si512(narrow + 32);
    __m512i c = _mm512_loadu_si512(narrow + 64), e = _mm512_loadu_si512(narrow + 96);
    const uint8_t *next = d->next;
    size_t row = 0;
    for (; row < rows && (size_t)(d->end - next) >= width + 32; row++, context += width, symbol += width) {
        size_t x = 0;
        for (; x + 128 <= width; x += 128) {
            decode_few(&a, &b, &t, tables, (__mmask64)-1, context + x, symbol + x, &next);
            decode_few(&c, &e, &t, tables, (__mmask64)-1, context + x + 64, symbol + x + 64, &next);
        }
        if (x < width) {
            size_t left = width - x;
            __mmask64 low = left < 64 ? ((__mmask64)1 << left) - 1 : ~(__mmask64)0;
            decode_few(&a, &b, &t, tables, low, context + x, symbol + x, &next);
            if (left > 64) {
                decode_few(&c, &e, &t, tables, ((__mmask64)1 << (left - 64)) - 1, context + x + 64, symbol + x + 64, &next);
            }
        }
    }
    _mm512_storeu_si512(narrow, a);
    _mm512_storeu_si512(narrow + 32, b);
    _mm512_storeu_si512(narrow + 64, c);
    _mm512_storeu_si512(narrow + 96, e);
    d->next = next;
    decode_plain(d, k, lookup, context, symbol, rows - row, width);
}

AVX512 static void decode_one_table(decoder *d, const coding *k, const uint32_t *lookup,
                                    const uint8_t *context, uint8_t *symbol, size_t rows, size_t width) {
    decode_few_tables(d, k, 1, lookup, context, symbol, rows, width);
}

AVX512 static void decode_four_tables(decoder *d, const coding *k, const uint32_t *lookup,
                                      const uint8_t *context, uint8_t *symbol, size_t rows, size_t width) {
    decode_few_tables(d, k, 4, lookup, context, symbol, rows, width);
}

/* Range and reciprocal of 64 symbols of few tables, in registers. */
typedef struct {
    __m512i range[2], reciprocal[2];
} few_ranges;

AVX512 INLINE __m512i join_planes(const uint8_t *low, const uint8_t *high, int half) {
    __m256i a = _mm256_loadu_si256((const __m256i *)low + half), b = _mm256_loadu_si256((const __m256i *)high + half);
    return _mm512_or_si512(_mm512_cvtepu8_epi16(a), _mm512_slli_epi16(_mm512_cvtepu8_epi16(b), 8));
}

AVX512 INLINE __m512i encode_32(encoder *e, uint8_t **next, __m512i state, __mmask32 active, const few_ranges *few,
                                const slot_range *ranges, const uint8_t *contexts, const uint8_t *symbols,
                                size_t place) {
    __m256i context = _mm256_maskz_loadu_epi8(active, contexts + place);
    __m256i symbol = _mm256_maskz_loadu_epi8(active, symbols + place);
    __m512i index = _mm512_cvtepu8_epi16(_mm256_or_si256(_mm256_slli_epi16(context, 4), symbol));
    __m512i range = _mm512_permutex2var_epi16(few->range[0], index, few->range[1]);
    __m512i reciprocal = _mm512_permutex2var_epi16(few->reciprocal[0], index, few->reciprocal[1]);
    const __m512i bytes = _mm512_set1_epi16(255);
    __m512i frequency = _mm512_and_si512(range, bytes);
    __mmask32 none = _mm512_mask_testn_epi16_mask(active, frequency, frequency);
    if (none) {
        uint16_t found[32], inverse[32];
        _mm512_storeu_si512(found, range);
        _mm512_storeu_si512(inverse, reciprocal);
        for (int lane = 31; lane >= 0; lane--) {
            if (none >> lane & 1) {
                size_t at = place + (size_t)lane;
                slot_range escape = range_of(e, ranges, contexts[at], symbols[at], at);
                found[lane] = (uint16_t)(escape.frequency | escape.start << 8);
                inverse[lane] = (uint16_t)(escape.reciprocal >> 16);
            }
        }
        range = _mm512_loadu_si512(found);
        reciprocal = _mm512_loadu_si512(inverse);
        frequency = _mm512_and_si512(range, bytes);
    }
    __mmask32 high = _mm512_mask_cmpge_epu16_mask(active, state, _mm512_slli_epi16(frequency, 8));
    /* All 32 are stored, those that count last: what is below is written over by the next. */
    int count = __builtin_popcount(high);
    __m256i out = _mm256_maskz_compress_epi8(high, _mm512_cvtepi16_epi8(state));
    const __m256i iota = _mm256_set_epi8(31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12,
                                         11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    out = _mm256_permutexvar_epi8(_mm256_add_epi8(iota, _mm256_set1_epi8((char)count)), out);
    _mm256_storeu_si256((__m256i *)(*next - 32), out);
    *next -= count;
    __m512i kept = _mm512_mask_srli_epi16(state, high, state, 8);
    /* The quotient is that of the reciprocal, or one more. */
    __m512i quotient = _mm512_mulhi_epu16(kept, reciprocal);
    __m512i rest = _mm512_sub_epi16(kept, _mm512_mullo_epi16(quotient, frequency));
    __mmask32 more = _mm512_cmpge_epu16_mask(rest, frequency);
    quotient = _mm512_mask_add_epi16(quotient, more, quotient, _mm512_set1_epi16(1));
    rest = _mm512_mask_sub_epi16(rest, more, rest, frequency);
    __m512i coded = _mm512_add_epi16(_mm512_slli_epi16(quotient, 8),
                                     _mm512_add_epi16(rest, _mm512_srli_epi16(range, 8)));
    return _mm512_mask_mov_epi16(state, active, coded);
}

AVX512 void encode_512(encoder *e, const coding *c, const slot_range *ranges, const uint8_t *contexts,
                       const uint8_t *symbols, size_t at, size_t rows, size_t width) {
    few_ranges few;
    for (int half = 0; half < 2; half++) {
        few.range[half] = join_planes(e->plane[PLANE_FREQUENCY], e->plane[PLANE_START], half);
        few.reciprocal[half] = join_planes(e->plane[PLANE_LOW], e->plane[PLANE_HIGH], half);
    }
    __m512i state[4];
    uint16_t *narrow = (uint16_t *)e->state;
    int vectors = c->lanes / 32;
    for (int v = 0; v < vectors; v++) {
        state[v] = _mm512_loadu_si512(narrow + 32 * v);
    }
    for (size_t row = rows; row-- > 0 && has_room(e, width);) {
        size_t place = at + row * width, x = width;
        uint8_t *next = e->next;
        while (x % 128 || (vectors != 4 && x > 0)) {
            size_t part = x % 32 ? x % 32 : 32;
            x -= part;
            int v = (int)(x / 32) % vectors;
            __mmask32 active = part < 32 ? ((__mmask32)1 << part) - 1 : 0xffffffff;
            state[v] = encode_32(e, &next, state[v], active, &few, ranges, contexts, symbols, place + x);
        }
        while (x > 0) {
            x -= 128;
            for (int v = 3; v >= 0; v--) {
                state[v] = encode_32(e, &next, state[v], 0xffffffff, &few, ranges, contexts, symbols, place + x + 32 * (size_t)v);
            }
        }
        e->next = next;
    }
    for (int v = 0; v < vectors; v++) {
        _mm512_storeu_si512(narrow + 32 * v, state[v]);
    }
}

/* --- contexts --- */

AVX512 INLINE __m512i narrow_64(const int16_t *from, __mmask32 low, __mmask32 high, unsigned shift) {
    __m512i a = _mm512_srli_epi16(_mm512_maskz_loadu_epi16(low, from), shift);
    __m512i b = _mm512_srli_epi16(_mm512_maskz_loadu_epi16(high, from + 32), shift);
    /* A code above 255 is in the last band. */
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtusepi16_epi8(a)), _mm512_cvtusepi16_epi8(b), 1);
}

/* Contexts of predictions that are not negative; `band` is that of each code. */
AVX512 void find_contexts_512(const uint8_t *band, int phase_bits, size_t count, int fraction,
                              const int16_t *predicted, uint8_t *context) {
    const __m512i t[4] = {_mm512_loadu_si512(band), _mm512_loadu_si512(band + 64), _mm512_loadu_si512(band + 128),
                          _mm512_loadu_si512(band + 192)};
    const __m512i mask = _mm512_set1_epi16((short)((1 << phase_bits) - 1));
    for (size_t x = 0; x < count; x += 64) {
        __mmask64 active = count - x < 64 ? ((__mmask64)1 << (count - x)) - 1 : ~(__mmask64)0;
        __mmask32 low = (__mmask32)active, high = (__mmask32)(active >> 32);
        __m512i code = narrow_64(predicted + x, low, high, (unsigned)fraction);
        __m512i bands = _mm512_mask_mov_epi8(_mm512_permutex2var_epi8(t[0], code, t[1]), _mm512_movepi8_mask(code),
                                             _mm512_permutex2var_epi8(t[2], code, t[3]));
        __m512i a = _mm512_srli_epi16(_mm512_maskz_loadu_epi16(low, predicted + x), (unsigned)(fraction - phase_bits));
        __m512i b = _mm512_srli_epi16(_mm512_maskz_loadu_epi16(high, predicted + x + 32), (unsigned)(fraction - phase_bits));
        __m512i phase = _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi16_epi8(_mm512_and_si512(a, mask))),
                                           _mm512_cvtepi16_epi8(_mm512_and_si512(b, mask)), 1);
        /* Bands are fewer than 64, so that no bit leaves its byte. */
        __m512i found = _mm512_or_si512(_mm512_slli_epi16(bands, (unsigned)phase_bits), phase);
        _mm512_mask_storeu_epi8(context + x, active, found);
    }
}

/* --- which --- */

void decode_512(decoder *d, const coding *c, const model *m, const uint32_t *lookup, const uint8_t *context,
                uint8_t *symbol, size_t rows, size_t width) {
    if (tables_of(m) == 1) {
        decode_one_table(d, c, lookup, context, symbol, rows, width);
    } else {
        decode_four_tables(d, c, lookup, context, symbol, rows, width);
    }
}
#endif
