/* Prediction of a frame from what was coded before it: plain loops over rows, which compilers vectorise.
 *
 * All arithmetic is on integers of 16 bits, modulo 2^16, so that every processor predicts the same. A level is a
 * code in units of 2^-fraction; a weight is in units of 2^-15.
 */
#include "frames.h"
#include "rans.h"

#include <string.h>

static inline int16_t not_negative(int16_t level) { return level < 0 ? 0 : level; }

bool has_weights(const prediction *p) {
    int any = p->level;
    for (int i = 0; i < 8; i++) {
        any |= p->weight[i];
    }
    return any != 0;
}

bool has_change(const prediction *p) { return p->change_gain != 0; }

bool follows_rows(const prediction *p, bool first) {
    return first || p->row_gain != 0 || p->odd != 0 || p->left_gain != 0;
}

ANSCOMBE_LEVELS static void sum_neighbours(size_t width, const int16_t *up, const int16_t *mid, const int16_t *down,
                                           const prediction *p, int16_t *restrict past) {
    int16_t w0 = p->weight[0], w1 = p->weight[1], w2 = p->weight[2], w3 = p->weight[3], w4 = p->weight[4],
            w5 = p->weight[5], w6 = p->weight[6], w7 = p->weight[7], level = p->level, bias = p->bias;
    for (ptrdiff_t x = 0; x < (ptrdiff_t)width; x++) {
        int16_t m = mid[x];
        int16_t sum = (int16_t)(m + bias + times(m, level));
        sum = (int16_t)(sum + times((int16_t)(up[x - 1] - m), w0));
        sum = (int16_t)(sum + times((int16_t)(up[x] - m), w1));
        sum = (int16_t)(sum + times((int16_t)(up[x + 1] - m), w2));
        sum = (int16_t)(sum + times((int16_t)(mid[x - 1] - m), w3));
        sum = (int16_t)(sum + times((int16_t)(mid[x + 1] - m), w4));
        sum = (int16_t)(sum + times((int16_t)(down[x - 1] - m), w5));
        sum = (int16_t)(sum + times((int16_t)(down[x] - m), w6));
        sum = (int16_t)(sum + times((int16_t)(down[x + 1] - m), w7));
        past[x] = sum;
    }
}

ANSCOMBE_LEVELS static void add_change(size_t width, const int16_t *up, const int16_t *mid, const int16_t *down,
                                       const prediction *p, const int16_t *restrict past,
                                       int16_t *restrict predicted) {
    int16_t w0 = p->change[0], w1 = p->change[1], w2 = p->change[2];
    for (ptrdiff_t x = 0; x < (ptrdiff_t)width; x++) {
        int16_t sides = (int16_t)(mid[x - 1] + mid[x + 1] + up[x] + down[x]);
        int16_t corners = (int16_t)(up[x - 1] + up[x + 1] + down[x - 1] + down[x + 1]);
        int16_t sum = (int16_t)(times(mid[x], w0) + times(sides, w1) + times(corners, w2));
        predicted[x] = (int16_t)(past[x] + sum);
    }
}

ANSCOMBE_LEVELS static void copy_biased(size_t width, const int16_t *restrict mid, int16_t bias,
                                        int16_t *restrict past) {
    for (ptrdiff_t x = 0; x < (ptrdiff_t)width; x++) {
        past[x] = (int16_t)(mid[x] + bias);
    }
}

ANSCOMBE_LEVELS static void cut_negative(size_t width, int16_t *predicted) {
    for (size_t x = 0; x < width; x++) {
        predicted[x] = not_negative(predicted[x]);
    }
}

static int16_t *row_of(const states *s, int16_t *image, size_t y) {
    return image + y * (s->width + 2 * EDGE) + EDGE;
}

/* Row y from earlier frames. `past` is without change; both may be one array where there is none. */
void predict_past(const states *s, const prediction *p, size_t y, const lines *l, int16_t *past, int16_t *predicted) {
    int16_t *mid = row_of(s, s->level, y);
    /* The row above may have been moved on already: `above` is what it was. */
    const int16_t *up = y == 0 ? mid : y == l->strip_start ? l->above + EDGE : row_of(s, s->level, y - 1);
    const int16_t *down = y + 1 == s->height ? mid : row_of(s, s->level, y + 1);
    if (has_weights(p)) {
        sum_neighbours(s->width, up, mid, down, p, past);
    } else {
        copy_biased(s->width, mid, p->bias, past);
    }
    if (has_change(p)) {
        mid = row_of(s, s->change, y);
        up = y == 0 ? mid : y == l->strip_start ? l->change_above + EDGE : row_of(s, s->change, y - 1);
        down = y + 1 == s->height ? mid : row_of(s, s->change, y + 1);
        add_change(s->width, up, mid, down, p, past, predicted);
    }
}

/* What the rows above say is added, and a level is not negative. */
ANSCOMBE_LEVELS static void add_row_clipped(size_t width, const int16_t *restrict row, int16_t *restrict predicted) {
    for (size_t x = 0; x < width; x++) {
        predicted[x] = not_negative((int16_t)(predicted[x] + row[x]));
    }
}

/* The same where more is added before it is cut. */
ANSCOMBE_LEVELS static void add_row_signed(size_t width, const int16_t *restrict row, int16_t *restrict predicted) {
    for (size_t x = 0; x < width; x++) {
        predicted[x] = (int16_t)(predicted[x] + row[x]);
    }
}

void add_row(size_t width, const int16_t *row, int16_t *predicted) { add_row_clipped(width, row, predicted); }

void add_signed_row(size_t width, const int16_t *row, int16_t *predicted) { add_row_signed(width, row, predicted); }

void finish_past(size_t width, int16_t *predicted) { cut_negative(width, predicted); }

ANSCOMBE_LEVELS static void subtract_prediction(size_t count, int fraction, const uint16_t *restrict code,
                                                const int16_t *restrict predicted, int16_t *restrict error) {
    for (size_t x = 0; x < count; x++) {
        error[x] = (int16_t)((code[x] << fraction) - predicted[x]);
    }
}

void find_errors(size_t count, int fraction, const uint16_t *code, const int16_t *predicted, int16_t *error) {
    subtract_prediction(count, fraction, code, predicted, error);
}

ANSCOMBE_LEVELS static void move_levels(size_t width, int16_t gain, const int16_t *restrict from,
                                        const int16_t *restrict error, int16_t *restrict level) {
    for (size_t x = 0; x < width; x++) {
        level[x] = not_negative((int16_t)(from[x] + times(error[x], gain)));
    }
}

ANSCOMBE_LEVELS static void move_change(size_t width, int16_t gain, const int16_t *restrict past,
                                        const int16_t *restrict predicted, const int16_t *restrict error,
                                        int16_t *restrict change) {
    for (size_t x = 0; x < width; x++) {
        change[x] = (int16_t)(predicted[x] - past[x] + times(error[x], gain));
    }
}

static void repeat_edges(size_t width, int16_t *row) {
    for (int i = 1; i <= EDGE; i++) {
        row[-i] = row[0];
        row[width - 1 + (size_t)i] = row[width - 1];
    }
}

/* The states move towards the codes of row y. */
void update_states(const states *s, const prediction *p, size_t y, const int16_t *past, const int16_t *predicted,
                   const int16_t *error, bool first) {
    bool change = has_change(p) && !first;
    int16_t *level = row_of(s, s->level, y);
    move_levels(s->width, p->gain, change ? past : predicted, error, level);
    repeat_edges(s->width, level);
    if (change) {
        int16_t *row = row_of(s, s->change, y);
        move_change(s->width, p->change_gain, past, predicted, error, row);
        repeat_edges(s->width, row);
    } else if (first) {
        memset(row_of(s, s->change, y) - EDGE, 0, (s->width + 2 * EDGE) * sizeof *s->change);
    }
}

/* Keep what a row of the states is before it moves on. */
void save_row(const states *s, const prediction *p, size_t y, const lines *l) {
    size_t bytes = (s->width + 2 * EDGE) * sizeof(int16_t);
    memcpy(l->above, row_of(s, s->level, y) - EDGE, bytes);
    if (has_change(p)) {
        memcpy(l->change_above, row_of(s, s->change, y) - EDGE, bytes);
    }
}

ANSCOMBE_LEVELS static void estimate_row(size_t width, int16_t gain, const int16_t *restrict row,
                                         const int16_t *restrict error, int16_t *restrict estimate) {
    for (ptrdiff_t x = 0; x < (ptrdiff_t)width; x++) {
        estimate[x] = (int16_t)(row[x] + times(error[x], gain));
    }
}

ANSCOMBE_LEVELS static void smooth_row(size_t width, int16_t level, int16_t near, int16_t far,
                                       const int16_t *restrict estimate, int16_t *restrict row) {
    for (ptrdiff_t x = 0; x < (ptrdiff_t)width; x++) {
        int16_t m = estimate[x];
        int16_t sum = (int16_t)(m + times(m, level));
        sum = (int16_t)(sum + times((int16_t)(estimate[x - 1] - m), near) + times((int16_t)(estimate[x + 1] - m), near));
        sum = (int16_t)(sum + times((int16_t)(estimate[x - 2] - m), far) + times((int16_t)(estimate[x + 2] - m), far));
        row[x] = sum;
    }
}

/* What the rows up to this one say of the next. `row` is what was said of this one, all corrections included. */
void update_row(size_t width, const prediction *p, const lines *l, const int16_t *error) {
    int16_t *estimate = l->estimate + EDGE, *row = l->row + EDGE;
    estimate_row(width, p->row_gain, row, error, estimate);
    repeat_edges(width, estimate);
    smooth_row(width, p->row_level, p->row_near, p->row_far, estimate, row);
}

/* In columns of odd number the errors of both neighbours are known; there is none beyond the last column. */
ANSCOMBE_LEVELS static void add_shares(size_t count, int16_t weight, const int16_t *restrict error, const int16_t *restrict predicted,
             int16_t *restrict row, int16_t *restrict half) {
    for (size_t i = 0; i < count; i++) {
        int16_t share = times((int16_t)(error[i] + error[i + 1]), weight);
        row[2 * i + 1] = (int16_t)(row[2 * i + 1] + share);
        half[i] = not_negative((int16_t)(predicted[2 * i + 1] + share));
    }
}

void add_odd(size_t count, int16_t weight, const int16_t *error, const int16_t *predicted, int16_t *row, int16_t *half) {
    add_shares(count, weight, error, predicted, row, half);
}

ANSCOMBE_LEVELS static void pick(size_t count, const int16_t *restrict from, int16_t *restrict to) {
    for (size_t i = 0; i < count; i++) {
        to[i] = from[2 * i];
    }
}

ANSCOMBE_LEVELS static void join(size_t pairs, const int16_t *restrict even, const int16_t *restrict odd,
                                 int16_t *restrict to) {
    for (size_t i = 0; i < pairs; i++) {
        to[2 * i] = even[i];
        to[2 * i + 1] = odd[i];
    }
}

/* Every other item of a row. */
void pick_half(size_t count, const int16_t *from, int16_t *to) { pick(count, from, to); }

/* A row of two halves; of an odd number, the even half has one more. */
void join_halves(size_t width, const int16_t *even, const int16_t *odd, int16_t *to) {
    join(width / 2, even, odd, to);
    if (width % 2) {
        to[width - 1] = even[width / 2];
    }
}

/* The first row of a movie is predicted from the left. */
int16_t from_left(int16_t before, int16_t error) { return (int16_t)(before + times(error, 1 << 14)); }

enum { BLOCK = 64 };

/* Contexts of a block of predictions, with bands compared one after the other. */
ANSCOMBE_LEVELS static void find_block(const model *m, int fraction, const int16_t *restrict predicted,
                                       uint8_t *restrict context) {
    int drop = fraction - m->phase_bits, mask = (1 << m->phase_bits) - 1, bits = m->phase_bits;
    uint8_t code[BLOCK], band[BLOCK] = {0};
    for (int i = 0; i < BLOCK; i++) {
        int whole = predicted[i] >> fraction;
        code[i] = (uint8_t)(whole < 255 ? whole : 255);
    }
    for (int j = 1; j < m->bands; j++) {
        uint8_t start = m->starts[j];
        for (int i = 0; i < BLOCK; i++) {
            band[i] = (uint8_t)(band[i] + (code[i] >= start));
        }
    }
    for (int i = 0; i < BLOCK; i++) {
        context[i] = (uint8_t)(band[i] << bits | (predicted[i] >> drop & mask));
    }
}

ANSCOMBE_LEVELS static void find_phases(const model *m, size_t count, int fraction, const int16_t *restrict predicted,
                                        uint8_t *restrict context) {
    int drop = fraction - m->phase_bits, mask = (1 << m->phase_bits) - 1;
    for (size_t x = 0; x < count; x++) {
        context[x] = (uint8_t)(predicted[x] >> drop & mask);
    }
}

/* The band of each code, from their starts. */
void fill_bands(model *m) {
    int band = 0;
    for (int code = 0; code < 256; code++) {
        band += band + 1 < m->bands && code >= m->starts[band + 1];
        m->band[code] = (uint8_t)band;
    }
}

/* Context of each prediction: its band, and its place within a code. */
void find_contexts(const model *m, size_t count, int fraction, const int16_t *restrict predicted,
                   uint8_t *restrict context) {
    if (m->bands == 1) {
        find_phases(m, count, fraction, predicted, context);
        return;
    }
#if ANSCOMBE_X86 && ANSCOMBE_MOST_LEVEL > 3
    if (has_avx512()) {
        find_contexts_512(m->band, m->phase_bits, count, fraction, predicted, context);
        return;
    }
#endif
    size_t x = 0;
    for (; x + BLOCK <= count; x += BLOCK) {
        find_block(m, fraction, predicted + x, context + x);
    }
    if (x < count) {
        int16_t padded[BLOCK] = {0};
        uint8_t found[BLOCK];
        memcpy(padded, predicted + x, (count - x) * sizeof *padded);
        find_block(m, fraction, padded, found);
        memcpy(context + x, found, count - x);
    }
}

/* --- the whole of a row in one pass --- */

/* Levels that are not negative, and the contexts of one band, in one pass over both. */
ANSCOMBE_LEVELS static void finish_one_band(size_t count, int drop, int mask, int16_t *restrict predicted,
                                            uint8_t *restrict context) {
    for (size_t x = 0; x < count; x++) {
        int16_t level = not_negative(predicted[x]);
        predicted[x] = level;
        context[x] = (uint8_t)(level >> drop & mask);
    }
}

ANSCOMBE_LEVELS static void predict_one_band(size_t count, int16_t bias, int drop, int mask, const int16_t *restrict mid,
                                             int16_t *restrict predicted, uint8_t *restrict context) {
    for (size_t x = 0; x < count; x++) {
        int16_t level = not_negative((int16_t)(mid[x] + bias));
        predicted[x] = level;
        context[x] = (uint8_t)(level >> drop & mask);
    }
}

/* Predictions from earlier frames and their contexts, for rows y … y + rows - 1 of a frame without change. */
void predict_strip(const states *s, const prediction *p, size_t y, size_t rows, const lines *l, const model *m,
                   int fraction, uint8_t *context) {
    size_t width = s->width;
    int drop = fraction - m->phase_bits, mask = (1 << m->phase_bits) - 1;
    bool plain = m->bands == 1 && !has_weights(p);
    for (size_t i = 0; i < rows; i++) {
        if (plain) {
            predict_one_band(width, p->bias, drop, mask, row_of(s, s->level, y + i), l->predicted + i * width,
                             context + i * width);
        } else {
            predict_past(s, p, y + i, l, l->predicted + i * width, l->predicted + i * width);
        }
    }
    if (!plain && m->bands == 1) {
        finish_one_band(rows * width, drop, mask, l->predicted, context);
    } else if (!plain) {
        cut_negative(rows * width, l->predicted);
        find_contexts(m, rows * width, fraction, l->predicted, context);
    }
    if (has_weights(p)) {
        save_row(s, p, y + rows - 1, l);
    }
}

/* Symbols, errors and new levels of a row of codes of one byte without low bits; the largest symbol. */
ANSCOMBE_LEVELS static uint8_t encode_pixels(size_t width, int fraction, int16_t gain, uint8_t lowest,
                                             const uint8_t *restrict codes, const int16_t *restrict predicted,
                                             uint8_t *restrict symbol, int16_t *restrict error,
                                             int16_t *restrict level) {
    uint8_t most = 0;
    for (size_t x = 0; x < width; x++) {
        int16_t code = (uint8_t)(codes[x] - lowest), before = predicted[x];
        uint16_t distance = (uint16_t)(code - (before >> fraction) + CENTRE);
        uint8_t found = (uint8_t)(distance > ESCAPE ? ESCAPE : distance);
        int16_t wrong = (int16_t)((code << fraction) - before);
        symbol[x] = found;
        error[x] = wrong;
        level[x] = not_negative((int16_t)(before + times(wrong, gain)));
        most = found > most ? found : most;
    }
    return most;
}

/* The reverse, as if there were no escapes; the largest symbol. */
ANSCOMBE_LEVELS static uint8_t decode_pixels(size_t width, int fraction, int16_t gain, uint8_t lowest,
                                             const uint8_t *restrict symbol, const int16_t *restrict predicted,
                                             int16_t *restrict level, uint8_t *restrict codes) {
    uint8_t most = 0;
    for (size_t x = 0; x < width; x++) {
        int16_t before = predicted[x];
        int16_t code = (int16_t)((before >> fraction) + symbol[x] - CENTRE);
        codes[x] = (uint8_t)(code + lowest);
        level[x] = not_negative((int16_t)(before + times((int16_t)(((uint16_t)code << fraction) - before), gain)));
        most = symbol[x] > most ? symbol[x] : most;
    }
    return most;
}

bool encode_row(const states *s, const prediction *p, const header *h, size_t y, const uint8_t *codes,
                const int16_t *predicted, uint8_t *symbol, int16_t *error) {
    int16_t *level = row_of(s, s->level, y);
    uint8_t most = encode_pixels(s->width, h->fraction, p->gain, (uint8_t)h->lowest, codes, predicted, symbol, error, level);
    repeat_edges(s->width, level);
    return most == ESCAPE;
}

bool decode_row(const states *s, const prediction *p, const header *h, size_t y, const uint8_t *symbol,
                const int16_t *predicted, uint8_t *codes) {
    int16_t *level = row_of(s, s->level, y);
    uint8_t most = decode_pixels(s->width, h->fraction, p->gain, (uint8_t)h->lowest, symbol, predicted, level, codes);
    repeat_edges(s->width, level);
    return most == ESCAPE;
}

/* The right code and level of a pixel that was an escape. */
void settle_escape(const states *s, const prediction *p, const header *h, size_t y, size_t x, uint16_t code,
                   int16_t predicted, uint8_t *to) {
    int16_t *level = row_of(s, s->level, y);
    *to = (uint8_t)(code + h->lowest);
    level[x] = not_negative((int16_t)(predicted + times((int16_t)((code << h->fraction) - predicted), p->gain)));
    repeat_edges(s->width, level);
}

/* Codes of the array as they are predicted: less the lowest, without their low bits. */
ANSCOMBE_LEVELS static void load_high_bits(const frame_codes *f, const header *h, size_t at, size_t count,
                                           uint16_t *restrict code) {
    uint16_t lowest = h->lowest;
    int low_bits = h->low_bits;
    if (f->itemsize == 1) {
        const uint8_t *from = (const uint8_t *)f->codes + at;
        for (size_t x = 0; x < count; x++) {
            code[x] = (uint16_t)((uint16_t)(from[x] - lowest) >> low_bits);
        }
    } else {
        const uint16_t *from = (const uint16_t *)f->codes + at;
        for (size_t x = 0; x < count; x++) {
            code[x] = (uint16_t)((uint16_t)(from[x] - lowest) >> low_bits);
        }
    }
}

void take_codes(const frame_codes *f, const header *h, size_t at, size_t count, uint16_t *code) {
    load_high_bits(f, h, at, count, code);
}

ANSCOMBE_LEVELS static void give_plain(const frame_codes *f, uint16_t lowest, size_t at, size_t count,
                                       const uint16_t *restrict code) {
    if (f->itemsize == 1) {
        uint8_t *to = (uint8_t *)f->codes + at;
        for (size_t x = 0; x < count; x++) {
            to[x] = (uint8_t)(code[x] + lowest);
        }
    } else {
        uint16_t *to = (uint16_t *)f->codes + at;
        for (size_t x = 0; x < count; x++) {
            to[x] = (uint16_t)(code[x] + lowest);
        }
    }
}

void give_codes(const frame_codes *f, const header *h, size_t at, size_t count, const uint16_t *restrict code) {
    int bits = h->low_bits;
    if (bits == 0) {
        give_plain(f, h->lowest, at, count, code);
        return;
    }
    for (size_t x = 0; x < count; x++) {
        uint64_t bit = f->low_at + (uint64_t)(at + x) * (unsigned)bits;
        const uint8_t *from = f->low + bit / 8;
        uint32_t low = (from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16) >> bit % 8 & ((1u << bits) - 1);
        uint32_t whole = ((uint32_t)code[x] << bits | low) + h->lowest;
        if (f->itemsize == 1) {
            ((uint8_t *)f->codes)[at + x] = (uint8_t)whole;
        } else {
            ((uint16_t *)f->codes)[at + x] = (uint16_t)whole;
        }
    }
}

/* Codes that are stored as they are, little-endian. */
void take_stored(const void *codes, const anscombe_frames_shape *s, uint8_t *to) {
    uint64_t count = s->frames * s->height * s->width;
    if (s->itemsize == 1) {
        memcpy(to, codes, count);
        return;
    }
    for (uint64_t i = 0; i < count; i++) {
        uint16_t code = ((const uint16_t *)codes)[i];
        to[2 * i] = (uint8_t)code;
        to[2 * i + 1] = (uint8_t)(code >> 8);
    }
}

void give_stored(const uint8_t *from, const anscombe_frames_shape *s, void *codes) {
    uint64_t count = s->frames * s->height * s->width;
    if (s->itemsize == 1) {
        memcpy(codes, from, count);
        return;
    }
    for (uint64_t i = 0; i < count; i++) {
        ((uint16_t *)codes)[i] = (uint16_t)(from[2 * i] | from[2 * i + 1] << 8);
    }
}

void give_constant(uint16_t code, const anscombe_frames_shape *s, void *codes) {
    uint64_t count = s->frames * s->height * s->width;
    if (s->itemsize == 1) {
        memset(codes, code, count);
        return;
    }
    for (uint64_t i = 0; i < count; i++) {
        ((uint16_t *)codes)[i] = code;
    }
}
