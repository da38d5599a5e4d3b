/* Interleaved rANS (asymmetric numeral systems), in two sizes that differ in nothing but numbers:
 *
 *          frequencies sum to   states        states take up
 * narrow   2^8                  2^8 … 2^16    bytes
 * wide     2^10                 2^16 … 2^32   words of 16 bits, little-endian
 *
 * Narrow states are twice as fast, wide ones store half a percent less. Pixel x of a row is coded by state x mod
 * `lanes`, so that neighbours depend on different states. The encoder walks backwards and writes downwards; the
 * decoder then reads upwards.
 *
 * J. Duda, "Asymmetric numeral systems: entropy coding combining speed of Huffman coding with compression rate
 * of arithmetic coding", arXiv:1311.2540; F. Giesen, "Interleaved entropy coders", arXiv:1402.3392.
 */
#include "rans.h"

#include <string.h>

static const uint16_t *frequencies_of(const model *m, int table) {
    return m->frequency[table == tables_of(m) ? MOST_TABLES : table];
}

void find_ranges(const model *m, slot_range *ranges) {
    for (int table = 0; table <= tables_of(m); table++) {
        const uint16_t *frequency = frequencies_of(m, table);
        uint16_t start = 0;
        for (int symbol = 0; symbol < SYMBOLS; symbol++) {
            ranges[table * SYMBOLS + symbol] = (slot_range){frequency[symbol], start, reciprocal_of(frequency[symbol])};
            start = (uint16_t)(start + frequency[symbol]);
        }
    }
}

void rans_tables(const model *m, const coding *c, uint32_t *lookup) {
    const int bits = bits_of(c);
    for (int table = 0; table <= tables_of(m); table++) {
        const uint16_t *frequency = frequencies_of(m, table);
        for (uint32_t symbol = 0; symbol < SYMBOLS; symbol++) {
            for (uint32_t rest = 0; rest < frequency[symbol]; rest++) {
                *lookup++ = frequency[symbol] | rest << bits | symbol << 2 * bits;
            }
        }
    }
}

/* The tables of few contexts, as a decoder keeps them in registers. */
void prepare_few(const model *m, const coding *c, decoder *d) {
    if (c->wide || tables_of(m) > FEW_TABLES) {
        return;
    }
    memset(d->start, 0, sizeof d->start);
    memset(d->frequency, 0, sizeof d->frequency);
    memset(d->index, 0, sizeof d->index);
    for (int table = 0; table < tables_of(m); table++) {
        int sum = 0;
        for (int symbol = 0; symbol < SYMBOLS; symbol++) {
            int i = table * SYMBOLS + symbol, frequency = m->frequency[table][symbol];
            d->frequency[i] = (uint8_t)frequency;
            d->start[i] = (uint8_t)sum;
            memset(d->index[table] + sum, i, (size_t)frequency);
            sum += frequency;
        }
    }
}

/* --- decoding --- */

bool rans_begin(decoder *d, const coding *c, const uint8_t *bytes, size_t count) {
    int size = c->wide ? 4 : 2;
    if (count < (size_t)(size * c->lanes)) {
        return false;
    }
    for (int lane = 0; lane < c->lanes; lane++) {
        uint32_t state = 0;
        for (int i = size - 1; i >= 0; i--) {
            state = state << 8 | bytes[size * lane + i];
        }
        if (state < low_of(c)) {
            return false;
        }
        set_state(d->state, c, lane, state);
    }
    d->next = bytes + size * c->lanes;
    d->end = bytes + count;
    d->broken = false;
    return true;
}

bool rans_ended(const decoder *d, const coding *c) {
    bool whole = !d->broken && d->next == d->end;
    for (int lane = 0; lane < c->lanes; lane++) {
        whole = whole && get_state(d->state, c, lane) == low_of(c);
    }
    return whole;
}

/* The symbol of one item of a row. */
uint8_t rans_decode_one(decoder *d, const coding *c, const uint32_t *lookup, uint8_t context, size_t item) {
    const int bits = bits_of(c), word_bytes = c->wide ? 2 : 1;
    int lane = (int)(item & (size_t)(c->lanes - 1));
    uint32_t state = get_state(d->state, c, lane);
    const uint32_t mask = (1u << bits) - 1;
    uint32_t entry = lookup[((size_t)context << bits) + (state & mask)];
    state = (entry & mask) * (state >> bits) + (entry >> bits & mask);
    if (state < low_of(c)) {
        if (d->end - d->next < word_bytes) {
            d->broken = true;
            state = low_of(c);
        } else {
            state = c->wide ? state << 16 | d->next[0] | (uint32_t)d->next[1] << 8 : state << 8 | d->next[0];
            d->next += word_bytes;
        }
    }
    set_state(d->state, c, lane, state);
    return (uint8_t)(entry >> 2 * bits);
}

/* The plain coder: the definition of the others. */
void decode_plain(decoder *d, const coding *c, const uint32_t *lookup, const uint8_t *context, uint8_t *symbol,
                  size_t rows, size_t width) {
    size_t most = (width + 1) * (c->wide ? 2 : 1);
    for (; rows > 0 && (size_t)(d->end - d->next) >= most; rows--, context += width, symbol += width) {
        d->next = c->wide ? decode_row_plain(d->state, (coding){1, c->lanes}, lookup, context, symbol, 0, width, d->next)
                          : decode_row_plain(d->state, (coding){0, c->lanes}, lookup, context, symbol, 0, width, d->next);
    }
    for (; rows > 0; rows--, context += width, symbol += width) {
        for (size_t x = 0; x < width; x++) {
            symbol[x] = rans_decode_one(d, c, lookup, context[x], x);
        }
    }
}

/* --- encoding --- */

void rans_start(encoder *e, const coding *c, const slot_range *ranges, uint8_t *low, uint8_t *high, missed *room,
                size_t count) {
    for (int i = 0; i < FEW_TABLES * SYMBOLS; i++) {
        e->plane[PLANE_FREQUENCY][i] = (uint8_t)ranges[i].frequency;
        e->plane[PLANE_START][i] = (uint8_t)ranges[i].start;
        e->plane[PLANE_LOW][i] = (uint8_t)(ranges[i].reciprocal >> 16);
        e->plane[PLANE_HIGH][i] = (uint8_t)(ranges[i].reciprocal >> 24);
    }
    for (int lane = 0; lane < c->lanes; lane++) {
        set_state(e->state, c, lane, low_of(c));
    }
    e->next = high;
    e->low = low;
    e->missed = room;
    e->missed_count = 0;
    e->missed_room = count;
    e->full = false;
}

bool rans_finish(encoder *e, const coding *c) {
    int size = c->wide ? 4 : 2;
    if (e->full || e->next - e->low < size * c->lanes) {
        return false;
    }
    e->next -= size * c->lanes;
    for (int lane = 0; lane < c->lanes; lane++) {
        for (int i = 0; i < size; i++) {
            e->next[size * lane + i] = (uint8_t)(get_state(e->state, c, lane) >> 8 * i);
        }
    }
    return true;
}

/* Range of a symbol, or of an escape in its place. */
slot_range range_of(encoder *e, const slot_range *ranges, uint8_t context, uint8_t symbol, size_t place) {
    slot_range range = ranges[context * SYMBOLS + symbol];
    if (range.frequency == 0) {
        if (e->missed_count == e->missed_room) {
            e->full = true;
            return (slot_range){1, 0, reciprocal_of(1)};
        }
        e->missed[e->missed_count++] = (missed){(uint32_t)place, symbol};
        range = ranges[context * SYMBOLS + ESCAPE];
    }
    return range;
}

/* Bytes that a row may take, and what a vector writes beyond. */
bool has_room(encoder *e, size_t width) {
    e->full = e->full || (size_t)(e->next - e->low) < 2 * width + 64;
    return !e->full;
}

void encode_plain(encoder *e, const coding *c, const slot_range *ranges, const uint8_t *contexts,
                  const uint8_t *symbols, size_t at, size_t rows, size_t width) {
    for (size_t row = rows; row-- > 0 && has_room(e, width);) {
        size_t place = at + row * width;
        e->next = c->wide ? encode_row_plain(e, (coding){1, c->lanes}, ranges, contexts, symbols, place, 0, width, e->next)
                          : encode_row_plain(e, (coding){0, c->lanes}, ranges, contexts, symbols, place, 0, width, e->next);
    }
}

/* `m` is NULL where the symbols are not pixels'. */
void rans_decode(decoder *d, const coding *c, const model *m, const uint32_t *lookup, const uint8_t *context,
                 uint8_t *symbol, size_t rows, size_t width) {
#if ANSCOMBE_X86 && ANSCOMBE_MOST_LEVEL > 3
    if (m && !c->wide && c->lanes == MOST_LANES && tables_of(m) <= FEW_TABLES && has_avx512()) {
        decode_512(d, c, m, lookup, context, symbol, rows, width);
        return;
    }
#else
    (void)m;
#endif
#if ANSCOMBE_X86
    if (has_avx2()) {
        decode_avx2(d, c, lookup, context, symbol, rows, width);
        return;
    }
#endif
    decode_plain(d, c, lookup, context, symbol, rows, width);
}

void rans_encode(encoder *e, const coding *c, int tables, const slot_range *ranges, const uint8_t *contexts,
                 const uint8_t *symbols, size_t at, size_t rows, size_t width) {
#if ANSCOMBE_X86 && ANSCOMBE_MOST_LEVEL > 3
    if (!c->wide && tables <= FEW_TABLES && has_avx512()) {
        encode_512(e, c, ranges, contexts, symbols, at, rows, width);
        return;
    }
#endif
#if ANSCOMBE_X86
    if (has_avx2()) {
        encode_avx2(e, c, tables, ranges, contexts, symbols, at, rows, width);
        return;
    }
#else
    (void)tables;
#endif
    encode_plain(e, c, ranges, contexts, symbols, at, rows, width);
}
