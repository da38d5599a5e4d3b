/* What the plain rANS coder and its vector form share. */
#ifndef ANSCOMBE_RANS_H
#define ANSCOMBE_RANS_H

#include "frames.h"
#include "dispatch.h"

static inline int bits_of(const coding *c) { return c->wide ? 10 : 8; }
/* An entry of the decoder's table, by context and slot: frequency, slot less start, and symbol, the first two of
 * `bits_of` bits. */
enum { LOOKUP_WIDE = 1023 };

static inline uint32_t low_of(const coding *c) { return c->wide ? 1 << 16 : 1 << 8; }

/* 2^32 through a frequency. */
static inline uint32_t reciprocal_of(uint32_t frequency) {
    return frequency > 1 ? (uint32_t)(((uint64_t)1 << 32) / frequency) : 0xffffffff;
}

static inline uint32_t get_state(const void *states, const coding *c, int lane) {
    return c->wide ? ((const uint32_t *)states)[lane] : ((const uint16_t *)states)[lane];
}

static inline void set_state(void *states, const coding *c, int lane, uint32_t state) {
    if (c->wide) {
        ((uint32_t *)states)[lane] = state;
    } else {
        ((uint16_t *)states)[lane] = (uint16_t)state;
    }
}

slot_range range_of(encoder *e, const slot_range *ranges, uint8_t context, uint8_t symbol, size_t place);
bool has_room(encoder *e, size_t width);

/* A row from item x on, by plain instructions; bytes enough for its items, and one more, are there. Where this is called, the kind of
 * states is a constant. */
static inline const uint8_t *decode_row_plain(void *restrict states, const coding c, const uint32_t *restrict lookup,
                                              const uint8_t *restrict context, uint8_t *restrict symbol,
                                              size_t x, size_t width, const uint8_t *restrict next) {
    const int bits = bits_of(&c), word_bytes = c.wide ? 2 : 1;
    const uint32_t mask = (1u << bits) - 1;
    while (x < width) {
        size_t first = x % c.lanes, end = width - x < c.lanes - first ? first + width - x : c.lanes;
        for (size_t lane = first; lane < end; lane++, x++) {
            uint32_t state = get_state(states, &c, (int)lane);
            uint32_t entry = lookup[((size_t)context[x] << bits) + (state & mask)];
            state = (entry & mask) * (state >> bits) + (entry >> bits & mask);
            uint32_t word = c.wide ? next[0] | (uint32_t)next[1] << 8 : next[0];
            /* All bits where a word is taken up: compilers make jumps of conditions, which nothing can foresee. */
            uint64_t more = (uint64_t)((int64_t)((uint64_t)state - low_of(&c)) >> 63);
            state ^= (state ^ (state << 8 * word_bytes | word)) & (uint32_t)more;
            next += (size_t)word_bytes & more;
            set_state(states, &c, (int)lane, state);
            symbol[x] = (uint8_t)(entry >> 2 * bits);
        }
    }
    return next;
}

/* Items x to end of a row, the last one first; what is written below `next` may be written over. */
static inline uint8_t *encode_row_plain(encoder *e, const coding c, const slot_range *ranges,
                                        const uint8_t *contexts, const uint8_t *symbols, size_t at, size_t x, size_t end,
                                        uint8_t *next) {
    const int bits = bits_of(&c), most = c.wide ? 32 : 16, word_bytes = c.wide ? 2 : 1;
    while (end > x) {
        size_t start = (end - 1) / c.lanes * c.lanes;
        for (; end > start && end > x; end--) {
            size_t place = at + end - 1;
            slot_range range = ranges[contexts[place] * SYMBOLS + symbols[place]];
            if (range.frequency == 0) {
                range = range_of(e, ranges, contexts[place], symbols[place], place);
            }
            int lane = (int)(end - 1 - start);
            uint32_t state = get_state(e->state, &c, lane), frequency = range.frequency;
            uint32_t high = state >> (most - bits) >= frequency;
            next[-1] = c.wide ? (uint8_t)(state >> 8) : (uint8_t)state;
            if (c.wide) {
                next[-2] = (uint8_t)state;
            }
            next -= (size_t)word_bytes * high;
            state >>= 8 * word_bytes * high;
            /* The quotient is that of the reciprocal, or one more. */
            uint32_t quotient = (uint32_t)((uint64_t)state * range.reciprocal >> 32), rest = state - quotient * frequency;
            uint32_t more = rest >= frequency;
            quotient += more;
            rest -= frequency & (0u - more);
            set_state(e->state, &c, lane, (quotient << bits) + rest + range.start);
        }
    }
    return next;
}

void decode_plain(decoder *d, const coding *c, const uint32_t *lookup, const uint8_t *context, uint8_t *symbol,
                  size_t rows, size_t width);
void encode_plain(encoder *e, const coding *c, const slot_range *ranges, const uint8_t *contexts,
                  const uint8_t *symbols, size_t at, size_t rows, size_t width);

#if ANSCOMBE_X86
bool has_avx2(void);
void decode_avx2(decoder *d, const coding *c, const uint32_t *lookup, const uint8_t *context, uint8_t *symbol,
                 size_t rows, size_t width);
void encode_avx2(encoder *e, const coding *c, int tables, const slot_range *ranges, const uint8_t *contexts,
                 const uint8_t *symbols, size_t at, size_t rows, size_t width);
#endif

#if ANSCOMBE_X86 && ANSCOMBE_MOST_LEVEL > 3
bool has_avx512(void);
void find_contexts_512(const uint8_t *band, int phase_bits, size_t count, int fraction, const int16_t *predicted,
                       uint8_t *context);
void decode_512(decoder *d, const coding *c, const model *m, const uint32_t *lookup, const uint8_t *context,
                uint8_t *symbol, size_t rows, size_t width);
void encode_512(encoder *e, const coding *c, const slot_range *ranges, const uint8_t *contexts,
                const uint8_t *symbols, size_t at, size_t rows, size_t width);
#endif

#endif
