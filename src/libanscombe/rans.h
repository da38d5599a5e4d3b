/* What the plain rANS coder and its vector form share. */
#ifndef ANSCOMBE_RANS_H
#define ANSCOMBE_RANS_H

#include "frames.h"
#include "dispatch.h"

/* An entry of the decoder's table, by context and slot: frequency, slot less start, and symbol. */
enum { LOOKUP_REST = 10, LOOKUP_SYMBOL = 20, LOOKUP_MASK = (1 << LOOKUP_REST) - 1 };

static inline int bits_of(const coding *c) { return c->wide ? 10 : 8; }
static inline uint32_t low_of(const coding *c) { return c->wide ? 1 << 16 : 1 << 8; }

/* 2^16 through a frequency. */
static inline uint16_t reciprocal_of(unsigned frequency) {
    return (uint16_t)(frequency > 1 ? 65536 / frequency : 65535);
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

void decode_plain(decoder *d, const coding *c, const uint32_t *lookup, const uint8_t *context, uint8_t *symbol,
                  size_t rows, size_t width);
void encode_plain(encoder *e, const coding *c, const slot_range *ranges, const uint8_t *contexts,
                  const uint8_t *symbols, size_t at, size_t rows, size_t width);
slot_range range_of(encoder *e, const slot_range *ranges, uint8_t context, uint8_t symbol, size_t place);
bool has_room(encoder *e, size_t width);

#if ANSCOMBE_X86 && ANSCOMBE_MOST_LEVEL > 3
bool has_avx512(void);
void find_contexts_512(const uint8_t *band, int phase_bits, size_t count, int fraction, const int16_t *predicted,
                       uint8_t *context);
void decode_512(decoder *d, const coding *c, const model *m, const uint32_t *lookup, const uint8_t *context,
                uint8_t *symbol, size_t rows, size_t width);
void encode_512(encoder *e, const coding *c, int tables, const slot_range *ranges, const uint8_t *contexts,
                const uint8_t *symbols, size_t at, size_t rows, size_t width);
#endif

#endif
