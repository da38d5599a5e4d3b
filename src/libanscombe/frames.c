/* The frame coder: chunks of movies of codes, format `anscombe_frames`.
 *
 * A chunk is a header, groups of frames and a checksum. Encoder and decoder walk through frames by one function,
 * `code_frame`; what differs between them is `exchange`, which turns codes into symbols or symbols into codes.
 */
#include "frames.h"
#include "choose.h"
#include "dispatch.h"

#include <string.h>

/* --- bytes --- */

static void put_u16(uint8_t *at, uint32_t value) {
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}

static void put_u32(uint8_t *at, uint32_t value) {
    put_u16(at, value);
    put_u16(at + 2, value >> 16);
}

static uint32_t get_u16(const uint8_t *at) { return at[0] | (uint32_t)at[1] << 8; }
static uint32_t get_u32(const uint8_t *at) { return get_u16(at) | get_u16(at + 2) << 16; }

/* Bytes that are written up to `end`, or read; past it everything is refused. */
typedef struct {
    uint8_t *at, *end;
    bool full;
} writer;

typedef struct {
    const uint8_t *at, *end;
    bool broken;
} reader;

static void write_number(writer *w, uint32_t value, int bytes) {
    if (w->end - w->at < bytes) {
        w->full = true;
        return;
    }
    for (int i = 0; i < bytes; i++) {
        *w->at++ = (uint8_t)(value >> 8 * i);
    }
}

static uint32_t read_number(reader *r, int bytes) {
    if (r->end - r->at < bytes) {
        r->broken = true;
        return 0;
    }
    uint32_t value = 0;
    for (int i = 0; i < bytes; i++) {
        value |= (uint32_t)*r->at++ << 8 * i;
    }
    return value;
}

/* --- header --- */

static bool valid_shape(const anscombe_frames_shape *s) {
    /* Products of three such numbers do not overflow. */
    return (s->itemsize == 1 || s->itemsize == 2) && s->frames > 0 && s->height > 0 && s->width > 0 &&
           s->frames < (uint64_t)1 << 31 && s->height < (uint64_t)1 << 31 && s->width < (uint64_t)1 << 31 &&
           s->frames * s->height < (uint64_t)1 << 31 && s->frames * s->height * s->width < (uint64_t)1 << 32;
}

static uint32_t checksum(const uint8_t *chunk, size_t bytes, const anscombe_frames_shape *s) {
    uint8_t shape[16];
    put_u32(shape, (uint32_t)s->frames);
    put_u32(shape + 4, (uint32_t)s->height);
    put_u32(shape + 8, (uint32_t)s->width);
    put_u32(shape + 12, (uint32_t)s->itemsize);
    return anscombe_crc32(anscombe_crc32(0, chunk, bytes), shape, sizeof shape);
}

static void write_header(uint8_t *at, const header *h) {
    at[0] = FRAMES_VERSION;
    at[1] = FRAMES_CODED;
    at[2] = h->folded;
    at[3] = (uint8_t)(h->coding.wide << 7 | h->coding.lanes >> 1);
    at[4] = h->low_bits;
    at[5] = h->fraction;
    put_u16(at + 6, h->lowest);
    put_u16(at + 8, h->lag);
    put_u16(at + 10, h->start);
    put_u32(at + 12, h->group);
}

/* The shape that is coded: folded, all rows are those of one frame. */
static anscombe_frames_shape coded_shape(const anscombe_frames_shape *s, bool folded) {
    anscombe_frames_shape coded = *s;
    if (folded) {
        coded.height = s->frames;
        coded.width = s->height * s->width;
        coded.frames = 1;
    }
    return coded;
}

static bool read_header(const uint8_t *at, const anscombe_frames_shape *s, header *h) {
    *h = (header){.folded = at[2], .coding = {at[3] >> 7, (uint8_t)(at[3] << 1)}, .low_bits = at[4], .fraction = at[5],
                  .lowest = (uint16_t)get_u16(at + 6), .lag = (uint16_t)get_u16(at + 8),
                  .start = (uint16_t)get_u16(at + 10), .group = get_u32(at + 12)};
    uint64_t frames = coded_shape(s, h->folded).frames;
    return at[0] == FRAMES_VERSION && at[1] == FRAMES_CODED && h->folded <= 1 && (h->coding.lanes == (h->coding.wide ? 64 : 128) || h->coding.lanes == (h->coding.wide ? 16 : 32)) &&
           h->low_bits < 16 && h->fraction >= 2 && h->fraction <= 7 && h->start >> (15 - h->fraction) == 0 &&
           h->lag >= 1 && h->lag <= frames && h->group >= 1 && h->group <= frames;
}

/* --- parameters of frames and tables --- */

enum { HAS_GAIN = 1, HAS_WEIGHTS = 2, HAS_CHANGE = 4, HAS_ROW = 8, HAS_ODD = 16, HAS_LEFT = 32, HAS_ALL = 63 };

static int16_t read_i16(reader *r) { return (int16_t)(uint16_t)read_number(r, 2); }
/* Bytes are gains in units of 1/256, or weights in units of 1/128. */
static int16_t read_gain(reader *r) { return (int16_t)(read_number(r, 1) << 7); }
static int16_t read_weight(reader *r) { return (int16_t)(uint16_t)(read_number(r, 1) << 8); }

static void read_prediction(reader *r, prediction *p) {
    uint32_t has = read_number(r, 1);
    r->broken = r->broken || has > HAS_ALL;
    if (has & HAS_GAIN) {
        p->gain = read_gain(r);
    }
    if (has & HAS_WEIGHTS) {
        for (int i = 0; i < 8; i++) {
            p->weight[i] = read_weight(r);
        }
        p->level = read_i16(r);
        p->bias = read_i16(r);
    }
    if (has & HAS_CHANGE) {
        p->change_gain = read_gain(r);
        for (int i = 0; i < 3; i++) {
            p->change[i] = read_i16(r);
        }
    }
    if (has & HAS_ROW) {
        p->row_gain = read_gain(r);
        p->row_level = read_i16(r);
        p->row_near = read_weight(r);
        p->row_far = read_weight(r);
    }
    if (has & HAS_ODD) {
        p->odd = read_weight(r);
    }
    if (has & HAS_LEFT) {
        p->left_gain = read_gain(r);
        p->left_level = read_i16(r);
    }
}

static void write_prediction(writer *w, const prediction *p, const prediction *before) {
    uint32_t has = 0;
    has |= p->gain != before->gain ? HAS_GAIN : 0;
    has |= memcmp(p->weight, before->weight, sizeof p->weight) || p->level != before->level || p->bias != before->bias
               ? HAS_WEIGHTS : 0;
    has |= p->change_gain != before->change_gain || memcmp(p->change, before->change, sizeof p->change) ? HAS_CHANGE : 0;
    has |= p->row_gain != before->row_gain || p->row_level != before->row_level || p->row_near != before->row_near ||
                   p->row_far != before->row_far
               ? HAS_ROW : 0;
    has |= p->odd != before->odd ? HAS_ODD : 0;
    has |= p->left_gain != before->left_gain || p->left_level != before->left_level ? HAS_LEFT : 0;
    write_number(w, has, 1);
    if (has & HAS_GAIN) {
        write_number(w, (uint32_t)p->gain >> 7, 1);
    }
    if (has & HAS_WEIGHTS) {
        for (int i = 0; i < 8; i++) {
            write_number(w, (uint32_t)p->weight[i] >> 8, 1);
        }
        write_number(w, (uint32_t)p->level, 2);
        write_number(w, (uint32_t)p->bias, 2);
    }
    if (has & HAS_CHANGE) {
        write_number(w, (uint32_t)p->change_gain >> 7, 1);
        for (int i = 0; i < 3; i++) {
            write_number(w, (uint32_t)p->change[i], 2);
        }
    }
    if (has & HAS_ROW) {
        write_number(w, (uint32_t)p->row_gain >> 7, 1);
        write_number(w, (uint32_t)p->row_level, 2);
        write_number(w, (uint32_t)p->row_near >> 8, 1);
        write_number(w, (uint32_t)p->row_far >> 8, 1);
    }
    if (has & HAS_ODD) {
        write_number(w, (uint32_t)p->odd >> 8, 1);
    }
    if (has & HAS_LEFT) {
        write_number(w, (uint32_t)p->left_gain >> 7, 1);
        write_number(w, (uint32_t)p->left_level, 2);
    }
}

/* A table: which symbols it has, at least two, and their frequencies but the last, which makes the sum `scale`. */
static void write_table(writer *w, const uint16_t *frequency) {
    uint32_t used = 0;
    int last = 0;
    for (int s = 0; s < SYMBOLS; s++) {
        used |= frequency[s] ? 1u << s : 0;
        last = frequency[s] ? s : last;
    }
    write_number(w, used, 2);
    for (int s = 0; s < last; s++) {
        if (frequency[s] >= 192) {
            write_number(w, 192u + (frequency[s] >> 8), 1);
            write_number(w, frequency[s] & 255u, 1);
        } else if (frequency[s]) {
            write_number(w, frequency[s], 1);
        }
    }
}

static void read_table(reader *r, int scale, uint16_t *frequency) {
    uint32_t used = read_number(r, 2), left = (uint32_t)scale;
    memset(frequency, 0, SYMBOLS * sizeof *frequency);
    r->broken = r->broken || (used & (used - 1)) == 0;
    for (int s = 0; s < SYMBOLS && !r->broken; s++) {
        if (used >> s & 1) {
            bool last = used >> s == 1;
            uint32_t found = last ? left : read_number(r, 1);
            if (!last && found >= 192) {
                found = (found - 192) << 8 | read_number(r, 1);
            }
            r->broken = r->broken || found == 0 || (!last && found >= left);
            frequency[s] = (uint16_t)found;
            left -= found;
        }
    }
}

static void write_model(writer *w, const model *m) {
    write_number(w, (uint32_t)m->bands, 1);
    write_number(w, (uint32_t)m->phase_bits, 1);
    for (int band = 1; band < m->bands; band++) {
        write_number(w, m->starts[band], 1);
    }
    for (int table = 0; table < tables_of(m); table++) {
        write_table(w, m->frequency[table]);
    }
}

static void read_model(reader *r, int scale, model *m) {
    m->bands = (int)read_number(r, 1);
    m->phase_bits = (int)read_number(r, 1);
    if (r->broken || m->bands < 1 || m->bands > MOST_TABLES || m->phase_bits > 2 || tables_of(m) > MOST_TABLES) {
        r->broken = true;
        m->bands = 1;
        m->phase_bits = 0;
        return;
    }
    for (int band = 1; band < m->bands; band++) {
        m->starts[band] = (uint8_t)read_number(r, 1);
        r->broken = r->broken || m->starts[band] <= (band > 1 ? m->starts[band - 1] : 0);
    }
    for (int table = 0; table < tables_of(m) && !r->broken; table++) {
        read_table(r, scale, m->frequency[table]);
        r->broken = r->broken || m->frequency[table][ESCAPE] == 0;
    }
}

/* --- walking through a frame --- */

/* What one walk works with: an encoder has `coder`, a decoder `source`. */
typedef struct {
    const header *head;
    model *model;
    lines lines;
    /* decoder */
    decoder *source;
    const uint32_t *lookup;
    const uint16_t *escape, *escape_end;
    bool broken;
    /* encoder */
    coder *coder;
} walk;

ANSCOMBE_LEVELS static void find_symbols(size_t count, int fraction, const uint16_t *restrict code,
                                         const int16_t *restrict predicted, uint8_t *restrict symbol) {
    for (size_t x = 0; x < count; x++) {
        uint16_t distance = (uint16_t)(code[x] - (predicted[x] >> fraction) + CENTRE);
        symbol[x] = (uint8_t)(distance > ESCAPE ? ESCAPE : distance);
    }
}

ANSCOMBE_LEVELS static void find_codes(size_t count, int fraction, const uint8_t *restrict symbol,
                                       const int16_t *restrict predicted, uint16_t *restrict code) {
    for (size_t x = 0; x < count; x++) {
        code[x] = (uint16_t)((predicted[x] >> fraction) + symbol[x] - CENTRE);
    }
}

/* The next escape from x on, eight symbols at a time: 15 more than 0x71 has the highest bit. */
static size_t next_escape(const uint8_t *symbol, size_t x, size_t count) {
    for (; x + 8 <= count; x += 8) {
        uint64_t eight;
        memcpy(&eight, symbol + x, sizeof eight);
        if ((eight + 0x7171717171717171u) & 0x8080808080808080u) {
            break;
        }
    }
    while (x < count && symbol[x] != ESCAPE) {
        x++;
    }
    return x;
}

/* Signed distances as numbers: 0, -1, 1, -2, … are 0, 1, 2, 3, … */
static uint16_t fold_sign(int16_t distance) { return (uint16_t)((uint16_t)distance << 1 ^ (distance < 0 ? 0xffff : 0)); }
static int16_t unfold_sign(uint16_t value) { return (int16_t)(uint16_t)(value >> 1 ^ (value & 1 ? 0xffff : 0)); }

/* The codes of `rows` rows of places: a decoder finds them, an encoder keeps their symbols. */
static void exchange(walk *w, size_t rows, size_t width, const int16_t *predicted, uint16_t *code) {
    size_t count = rows * width;
    int fraction = w->head->fraction;
    if (w->coder) {
        coder *c = w->coder;
        uint8_t *context = c->contexts + c->count, *symbol = c->symbols + c->count;
        find_contexts(w->model, count, fraction, predicted, context);
        find_symbols(count, fraction, code, predicted, symbol);
        for (size_t x = 0; (x = next_escape(symbol, x, count)) < count; x++) {
            keep_escape(c, c->count + x, fold_sign((int16_t)(code[x] - (predicted[x] >> fraction))));
        }
        c->count += count;
        return;
    }
    find_contexts(w->model, count, fraction, predicted, w->lines.context);
    rans_decode(w->source, &w->head->coding, w->model, w->lookup, w->lines.context, w->lines.symbol, rows, width);
    find_codes(count, fraction, w->lines.symbol, predicted, code);
    for (size_t x = 0; (x = next_escape(w->lines.symbol, x, count)) < count; x++) {
        if (w->escape == w->escape_end) {
            w->broken = true;
            return;
        }
        code[x] = (uint16_t)((predicted[x] >> fraction) + unfold_sign(*w->escape++));
    }
}

/* A row in two halves: columns of even number, then the others, which know both neighbours' errors. */
static void exchange_halves(walk *w, const prediction *p, size_t width, uint16_t *code) {
    lines *l = &w->lines;
    size_t even = (width + 1) / 2, odd = width / 2;
    int16_t *predicted = l->predicted, *half = l->half, *codes = (int16_t *)code;
    uint16_t *even_code = l->half_code, *odd_code = l->other_code;
    if (w->coder) {
        pick_half(even, codes, (int16_t *)even_code);
        pick_half(odd, codes + 1, (int16_t *)odd_code);
    }
    pick_half(even, predicted, half);
    exchange(w, 1, even, half, even_code);
    find_errors(even, w->head->fraction, even_code, half, l->half_error);
    l->half_error[even] = 0;
    add_odd(odd, p->odd, l->half_error, predicted, l->row + EDGE, l->other);
    exchange(w, 1, odd, l->other, odd_code);
    join_halves(width, half, l->other, predicted);
    if (!w->coder) {
        join_halves(width, (const int16_t *)even_code, (const int16_t *)odd_code, codes);
    }
}

static uint8_t find_context(const model *m, int fraction, int16_t predicted) {
    int code = predicted >> fraction, band = m->band[code < 255 ? code : 255];
    return (uint8_t)(band << m->phase_bits | (predicted >> (fraction - m->phase_bits) & ((1 << m->phase_bits) - 1)));
}

/* A row whose codes say something of the next one on their right: it is decoded one by one. */
static void exchange_from_left(walk *w, const prediction *p, size_t width, uint16_t *code) {
    lines *l = &w->lines;
    int16_t *predicted = l->predicted, *row = l->row + EDGE, left = 0;
    int fraction = w->head->fraction;
    for (size_t x = 0; x < width; x++) {
        int16_t level = (int16_t)(predicted[x] + left);
        row[x] = (int16_t)(row[x] + left);
        predicted[x] = level < 0 ? 0 : level;
        if (!w->coder) {
            int whole = predicted[x] >> fraction;
            uint8_t context = find_context(w->model, fraction, predicted[x]);
            uint8_t symbol = rans_decode_one(w->source, &w->head->coding, w->lookup, context, x);
            int distance = symbol - CENTRE;
            if (symbol == ESCAPE) {
                if (w->escape == w->escape_end) {
                    w->broken = true;
                    return;
                }
                distance = unfold_sign(*w->escape++);
            }
            code[x] = (uint16_t)(whole + distance);
        }
        left = next_left(p, left, (int16_t)((code[x] << fraction) - predicted[x]));
    }
    if (w->coder) {
        exchange(w, 1, width, predicted, code);
    }
}

static void code_row(walk *w, const prediction *p, size_t width, uint16_t *code) {
    lines *l = &w->lines;
    if (p->left_gain != 0) {
        add_signed_row(width, l->row + EDGE, l->predicted);
        exchange_from_left(w, p, width, code);
        return;
    }
    add_row(width, l->row + EDGE, l->predicted);
    if (p->odd != 0) {
        exchange_halves(w, p, width, code);
    } else {
        exchange(w, 1, width, l->predicted, code);
    }
}

/* The first row of a movie, each code from the one on its left. */
static void exchange_first_row(walk *w, size_t width, uint16_t *code) {
    lines *l = &w->lines;
    int16_t *row = l->row + EDGE;
    for (size_t x = 0; x < width; x++) {
        row[x] = x == 0 ? (int16_t)(w->head->start << w->head->fraction) : from_left(row[x - 1], l->error[x - 1]);
        exchange(w, 1, 1, row + x, code + x);
        find_errors(1, w->head->fraction, code + x, row + x, l->error + x);
    }
    memcpy(l->predicted, row, width * sizeof *row);
}

/* Codes of a strip, between the array's and those that are coded. */
static void load_codes(walk *w, const frame_codes *f, size_t at, size_t count) {
    if (w->coder) {
        take_codes(f, w->head, at, count, w->lines.code);
    }
}

static void store_codes(walk *w, const frame_codes *f, size_t at, size_t count) {
    if (!w->coder) {
        give_codes(f, w->head, at, count, w->lines.code);
    }
}

static size_t strip_rows(size_t width) { return STRIP_PIXELS / width > 1 ? STRIP_PIXELS / width : 1; }

/* A strip of a frame that only earlier ones predict, by their levels alone; codes have one byte and no low bits. */
static void encode_strip(walk *w, const states *s, const prediction *p, size_t y, size_t rows, const frame_codes *f) {
    lines *l = &w->lines;
    coder *c = w->coder;
    size_t width = s->width;
    predict_strip(s, p, y, rows, l, w->model, w->head->fraction, c->contexts + c->count);
    for (size_t i = 0; i < rows; i++) {
        const uint8_t *codes = (const uint8_t *)f->codes + (y + i) * width;
        const int16_t *predicted = l->predicted + i * width;
        uint8_t *symbol = c->symbols + c->count;
        if (encode_row(s, p, w->head, y + i, codes, predicted, symbol, l->error + i * width)) {
            for (size_t x = 0; (x = next_escape(symbol, x, width)) < width; x++) {
                int code = (uint8_t)(codes[x] - w->head->lowest);
                keep_escape(c, c->count + x, fold_sign((int16_t)(code - (predicted[x] >> w->head->fraction))));
            }
        }
        c->count += width;
    }
    observe_strip(c, s, p, l, y, rows, false);
}

static void decode_strip(walk *w, const states *s, const prediction *p, size_t y, size_t rows, const frame_codes *f) {
    lines *l = &w->lines;
    size_t width = s->width;
    predict_strip(s, p, y, rows, l, w->model, w->head->fraction, l->context);
    rans_decode(w->source, &w->head->coding, w->model, w->lookup, l->context, l->symbol, rows, width);
    for (size_t i = 0; i < rows; i++) {
        uint8_t *codes = (uint8_t *)f->codes + (y + i) * width;
        const int16_t *predicted = l->predicted + i * width;
        const uint8_t *symbol = l->symbol + i * width;
        if (decode_row(s, p, w->head, y + i, symbol, predicted, codes)) {
            for (size_t x = 0; (x = next_escape(symbol, x, width)) < width; x++) {
                if (w->escape == w->escape_end) {
                    w->broken = true;
                    return;
                }
                uint16_t code = (uint16_t)((predicted[x] >> w->head->fraction) + unfold_sign(*w->escape++));
                settle_escape(s, p, w->head, y + i, x, code, predicted[x], codes + x);
            }
        }
    }
}

static void code_frame(walk *w, const states *s, const prediction *p, bool first, bool keep, const frame_codes *f) {
    lines *l = &w->lines;
    if (!follows_rows(p, first) && !has_change(p) && f->itemsize == 1 && w->head->low_bits == 0) {
        size_t strip = strip_rows(s->width);
        for (size_t y = 0; y < s->height && !w->broken; y += strip) {
            size_t rows = strip < s->height - y ? strip : s->height - y;
            l->strip_start = y;
            if (w->coder) {
                encode_strip(w, s, p, y, rows, f);
            } else {
                decode_strip(w, s, p, y, rows, f);
            }
        }
        return;
    }
    size_t width = s->width, strip = 1;
    bool rows = follows_rows(p, first), change = has_change(p) && !first;
    if (rows) {
        memset(l->row, 0, (width + 2 * EDGE) * sizeof *l->row);
    } else {
        strip = strip_rows(width);
    }
    int16_t *past = change ? l->past : l->predicted;
    for (size_t y = 0; y < s->height; y += strip) {
        size_t count = strip < s->height - y ? strip : s->height - y;
        l->strip_start = y;
        load_codes(w, f, y * width, count * width);
        if (first) {
            memset(l->predicted, 0, width * sizeof *l->predicted);
        } else {
            for (size_t i = 0; i < count; i++) {
                predict_past(s, p, y + i, l, past + i * width, l->predicted + i * width);
            }
        }
        if (first && y == 0) {
            exchange_first_row(w, width, l->code);
        } else if (!rows) {
            finish_past(count * width, l->predicted);
            exchange(w, count, width, l->predicted, l->code);
        } else {
            code_row(w, p, width, l->code);
        }
        find_errors(count * width, w->head->fraction, l->code, l->predicted, l->error);
        if (w->coder) {
            observe_strip(w->coder, s, p, l, y, count, first);
        }
        if (rows) {
            update_row(width, p, l, l->error);
        }
        if (keep || !first) {
            save_row(s, p, y + count - 1, l);
        }
        if (keep) {
            for (size_t i = 0; i < count; i++) {
                size_t at = i * width;
                update_states(s, p, y + i, past + at, l->predicted + at, l->error + at, first);
            }
        }
        store_codes(w, f, y * width, count * width);
    }
}

/* --- scratch --- */

/* Memory that the caller gave, dealt out. With `base` NULL it is only counted. */
typedef struct {
    uint8_t *base;
    size_t used;
} arena;

static void *deal(arena *a, size_t bytes) {
    size_t at = a->used;
    a->used += (bytes + 63) / 64 * 64;
    return a->base ? a->base + at : NULL;
}

static lines deal_lines(arena *a, size_t width) {
    size_t row = (width + 2 * EDGE) * sizeof(int16_t);
    size_t strip = (width > STRIP_PIXELS ? width : STRIP_PIXELS) + 64;
    lines l = {0};
    l.above = deal(a, row);
    l.change_above = deal(a, row);
    l.row = deal(a, row);
    l.estimate = deal(a, row);
    l.half = deal(a, row);
    l.half_error = deal(a, row);
    l.half_code = deal(a, row);
    l.other = deal(a, row);
    l.other_code = deal(a, row);
    l.sampled = deal(a, 2 * row);
    l.past = deal(a, strip * sizeof(int16_t));
    l.predicted = deal(a, strip * sizeof(int16_t));
    l.error = deal(a, strip * sizeof(int16_t));
    l.code = deal(a, strip * sizeof(uint16_t));
    l.context = deal(a, strip);
    l.symbol = deal(a, strip);
    return l;
}

/* Images of states: none where no frame has another after it. */
static void deal_states(arena *a, states *images, const anscombe_frames_shape *s, size_t lag) {
    size_t bytes = s->height * (s->width + 2 * EDGE) * sizeof(int16_t);
    for (size_t i = 0; i < lag; i++) {
        images[i] = (states){.height = s->height, .width = s->width};
        if (i + lag < s->frames) {
            images[i].level = deal(a, bytes);
            images[i].change = deal(a, bytes);
        }
    }
}

/* --- decoding --- */

static size_t low_bytes(uint64_t pixels, int bits) { return (size_t)((pixels * (unsigned)bits + 7) / 8); }

/* A group's parts, once its sizes are those of the chunk. */
typedef struct {
    uint32_t escapes;
    reader parameters;
    const uint8_t *words;
    size_t word_bytes;
} group_parts;

static bool open_group(reader *r, group_parts *g) {
    uint32_t bytes = read_number(r, 4);
    if (r->broken || bytes < 8 || bytes > (size_t)(r->end - r->at)) {
        return false;
    }
    const uint8_t *end = r->at + bytes;
    g->escapes = read_number(r, 4);
    g->word_bytes = read_number(r, 4);
    if (g->word_bytes > (size_t)(end - r->at)) {
        return false;
    }
    g->words = end - g->word_bytes;
    g->parameters = (reader){r->at, g->words, false};
    r->at = end;
    return true;
}

static const uint8_t *skip_bytes(reader *r, size_t bytes) {
    if (r->broken || bytes > (size_t)(r->end - r->at)) {
        r->broken = true;
        return r->at;
    }
    r->at += bytes;
    return r->at - bytes;
}

static uint32_t frames_in_group(const header *h, const anscombe_frames_shape *s, uint64_t first) {
    return (uint32_t)(s->frames - first < h->group ? s->frames - first : h->group);
}

/* Escapes of a group: the lengths of their values in binary are symbols, the digits behind the first are bits. */
static void read_escapes(decoder *d, const header *h, const uint32_t *lookup, int table, reader *bits, uint32_t count,
                         uint8_t *context, uint8_t *symbol, size_t room, uint16_t *out) {
    uint64_t at = 0, end = 8 * (uint64_t)(bits->end - bits->at);
    memset(context, table, room);
    for (uint32_t done = 0; done < count;) {
        /* Parts of whole rounds of lanes are as good as one row. */
        size_t part = count - done < room ? count - done : room / MOST_LANES * MOST_LANES;
        rans_decode(d, &h->coding, NULL, lookup, context, symbol, 1, part);
        for (size_t i = 0; i < part; i++) {
            int digits = symbol[i] > 0 ? symbol[i] - 1 : 0;
            uint32_t value = symbol[i] > 0;
            if (at + (unsigned)digits > end) {
                d->broken = true;
                return;
            }
            uint32_t low = 0;
            for (int digit = 0; digit < digits; digit++, at++) {
                low |= (uint32_t)(bits->at[at / 8] >> at % 8 & 1) << digit;
            }
            out[done + i] = (uint16_t)(value << digits | low);
        }
        done += (uint32_t)part;
    }
    bits->at += (at + 7) / 8;
}

/* Everything that decoding a chunk needs, or NULL pointers where only the size is asked for. */
typedef struct {
    states *images;
    lines lines;
    uint32_t *lookup;
    uint16_t *escapes;
} decoder_memory;

static decoder_memory deal_decoder(arena *a, const anscombe_frames_shape *s, size_t lag, size_t escapes) {
    decoder_memory m;
    m.images = deal(a, lag * sizeof *m.images);
    m.lines = deal_lines(a, s->width);
    m.lookup = deal(a, (MOST_TABLES + 1) * MOST_SCALE * sizeof *m.lookup);
    m.escapes = deal(a, escapes * sizeof *m.escapes);
    return m;
}

static size_t states_bytes(const anscombe_frames_shape *s, size_t lag) {
    size_t image = s->height * (s->width + 2 * EDGE) * sizeof(int16_t);
    size_t images = s->frames - lag < lag ? s->frames - lag : lag;
    return images * 2 * ((image + 63) / 64 * 64);
}

/* Checksum, header and sizes of a chunk; the most escapes of a group. */
static int64_t check_chunk(const uint8_t *chunk, size_t bytes, const anscombe_frames_shape *s, header *h,
                           uint32_t *escapes) {
    if (!valid_shape(s)) {
        return ANSCOMBE_BAD_ARGUMENT;
    }
    if (bytes < 2 + CHECK_BYTES || checksum(chunk, bytes - CHECK_BYTES, s) != get_u32(chunk + bytes - CHECK_BYTES)) {
        return ANSCOMBE_DAMAGED;
    }
    if (chunk[0] != FRAMES_VERSION || chunk[1] > FRAMES_CONSTANT) {
        return ANSCOMBE_UNKNOWN;
    }
    uint64_t pixels = s->frames * s->height * s->width;
    *escapes = 0;
    if (chunk[1] == FRAMES_STORED) {
        return bytes == 2 + pixels * (unsigned)s->itemsize + CHECK_BYTES ? ANSCOMBE_OK : ANSCOMBE_DAMAGED;
    }
    if (chunk[1] == FRAMES_CONSTANT) {
        bool fits = bytes == CONSTANT_BYTES + CHECK_BYTES && (s->itemsize == 2 || chunk[3] == 0);
        return fits ? ANSCOMBE_OK : ANSCOMBE_DAMAGED;
    }
    if (bytes < HEADER_BYTES + CHECK_BYTES || !read_header(chunk, s, h)) {
        return ANSCOMBE_DAMAGED;
    }
    anscombe_frames_shape coded = coded_shape(s, h->folded);
    reader r = {chunk + HEADER_BYTES, chunk + bytes - CHECK_BYTES, false};
    for (uint64_t frame = 0; frame < coded.frames; frame += h->group) {
        group_parts g;
        if (!open_group(&r, &g) || g.escapes > frames_in_group(h, &coded, frame) * coded.height * coded.width) {
            return ANSCOMBE_DAMAGED;
        }
        *escapes = g.escapes > *escapes ? g.escapes : *escapes;
    }
    return r.at == r.end ? ANSCOMBE_OK : ANSCOMBE_DAMAGED;
}

int64_t anscombe_frames_decode_scratch(const void *chunk, size_t bytes, const anscombe_frames_shape *shape) {
    header h;
    uint32_t escapes;
    int64_t status = check_chunk(chunk, bytes, shape, &h, &escapes);
    if (status != ANSCOMBE_OK || ((const uint8_t *)chunk)[1] != FRAMES_CODED) {
        return status;
    }
    anscombe_frames_shape coded = coded_shape(shape, h.folded);
    arena a = {NULL, 0};
    deal_decoder(&a, &coded, h.lag, escapes);
    return (int64_t)(a.used + states_bytes(&coded, h.lag));
}

static bool decode_groups(const uint8_t *chunk, size_t bytes, const anscombe_frames_shape *s, const header *h,
                          decoder_memory *m, void *codes) {
    size_t frame_pixels = s->height * s->width, room = s->width > STRIP_PIXELS ? s->width : STRIP_PIXELS;
    reader r = {chunk + HEADER_BYTES, chunk + bytes - CHECK_BYTES, false};
    model tables = {.bands = 0};
    prediction p = {0};
    for (uint64_t start = 0; start < s->frames; start += h->group) {
        uint32_t frames = frames_in_group(h, s, start);
        group_parts g;
        if (!open_group(&r, &g)) {
            return false;
        }
        reader *q = &g.parameters;
        uint32_t fresh = read_number(q, 1);
        if (fresh > 1 || (fresh == 0 && tables.bands == 0)) {
            return false;
        }
        if (fresh) {
            read_model(q, scale_of(&h->coding), &tables);
            fill_bands(&tables);
        }
        memset(tables.frequency[MOST_TABLES], 0, sizeof tables.frequency[MOST_TABLES]);
        if (g.escapes) {
            read_table(q, scale_of(&h->coding), tables.frequency[MOST_TABLES]);
        } else {
            tables.frequency[MOST_TABLES][0] = (uint16_t)(scale_of(&h->coding) - 1);
        tables.frequency[MOST_TABLES][1] = 1;
        }
        reader parameters = *q;
        for (uint32_t i = 0; i < frames; i++) {
            prediction unused = {0};
            read_prediction(q, &unused);
        }
        const uint8_t *low = skip_bytes(q, low_bytes(frames * (uint64_t)frame_pixels, h->low_bits));
        decoder source;
        if (q->broken || !rans_begin(&source, &h->coding, g.words, g.word_bytes)) {
            return false;
        }
        rans_tables(&tables, &h->coding, m->lookup);
        prepare_few(&tables, &h->coding, &source);
        read_escapes(&source, h, m->lookup, tables_of(&tables), q, g.escapes, m->lines.context, m->lines.symbol, room,
                     m->escapes);
        if (source.broken || q->at != q->end) {
            return false;
        }
        walk w = {.head = h, .model = &tables, .lines = m->lines, .source = &source, .lookup = m->lookup,
                  .escape = m->escapes, .escape_end = m->escapes + g.escapes};
        for (uint32_t i = 0; i < frames; i++) {
            uint64_t frame = start + i;
            read_prediction(&parameters, &p);
            frame_codes f = {(uint8_t *)codes + frame * frame_pixels * (unsigned)s->itemsize, s->itemsize, low,
                             i * (uint64_t)frame_pixels * h->low_bits};
            code_frame(&w, &m->images[frame % h->lag], &p, frame < h->lag, frame + h->lag < s->frames, &f);
            if (w.broken || source.broken) {
                return false;
            }
        }
        if (!rans_ended(&source, &h->coding) || w.escape != w.escape_end) {
            return false;
        }
    }
    return true;
}

int64_t anscombe_frames_decode(const void *chunk, size_t bytes, const anscombe_frames_shape *shape, void *codes,
                               void *scratch, size_t scratch_bytes) {
    header h;
    uint32_t escapes;
    int64_t status = check_chunk(chunk, bytes, shape, &h, &escapes);
    if (status != ANSCOMBE_OK) {
        return status;
    }
    if (((const uint8_t *)chunk)[1] == FRAMES_STORED) {
        give_stored((const uint8_t *)chunk + 2, shape, codes);
        return ANSCOMBE_OK;
    }
    if (((const uint8_t *)chunk)[1] == FRAMES_CONSTANT) {
        give_constant((uint16_t)get_u16((const uint8_t *)chunk + 2), shape, codes);
        return ANSCOMBE_OK;
    }
    anscombe_frames_shape coded = coded_shape(shape, h.folded);
    arena a = {scratch, 0};
    decoder_memory m = deal_decoder(&a, &coded, h.lag, escapes);
    if (a.used + states_bytes(&coded, h.lag) > scratch_bytes) {
        return ANSCOMBE_BAD_ARGUMENT;
    }
    deal_states(&a, m.images, &coded, h.lag);
    return decode_groups(chunk, bytes, &coded, &h, &m, codes) ? ANSCOMBE_OK : ANSCOMBE_DAMAGED;
}

/* --- encoding --- */

int64_t anscombe_frames_bound(const anscombe_frames_shape *s) {
    if (!valid_shape(s)) {
        return ANSCOMBE_BAD_ARGUMENT;
    }
    return (int64_t)(s->frames * s->height * s->width * (unsigned)s->itemsize + CONSTANT_BYTES + CHECK_BYTES);
}

typedef struct {
    states *images;
    channel *channels;
    lines lines;
    slot_range *ranges;
    uint32_t (*counts)[SYMBOLS];
    uint8_t *contexts, *symbols;
    escape *escapes;
    missed *missed;
    uint8_t *frame_flags;
    prediction *predictions;
    size_t group_pixels, escape_room;
} encoder_memory;

static encoder_memory deal_encoder(arena *a, const anscombe_frames_shape *s, const header *h) {
    encoder_memory m;
    size_t frame = s->height * s->width;
    m.group_pixels = h->group * frame;
    m.escape_room = m.group_pixels / 8 + 1024;
    m.images = deal(a, h->lag * sizeof *m.images);
    m.channels = deal(a, h->lag * sizeof *m.channels);
    m.lines = deal_lines(a, s->width);
    m.ranges = deal(a, (MOST_TABLES + 1) * SYMBOLS * sizeof *m.ranges);
    m.counts = deal(a, (MOST_TABLES + 1) * sizeof *m.counts);
    m.contexts = deal(a, m.group_pixels + 64);
    m.symbols = deal(a, m.group_pixels + 64);
    m.escapes = deal(a, m.escape_room * sizeof *m.escapes);
    m.missed = deal(a, m.escape_room * sizeof *m.missed);
    m.predictions = deal(a, h->group * sizeof *m.predictions);
    size_t rows = (MOST_SAMPLES < s->height ? MOST_SAMPLES : s->height) + 1;
    for (size_t i = 0; i < h->lag; i++) {
        int16_t *before = i + h->lag < s->frames ? deal(a, rows * s->width * sizeof(int16_t)) : NULL;
        if (m.channels) {
            m.channels[i] = (channel){.before = before};
        }
    }
    return m;
}

/* Escapes of both kinds in their order; false if there is no room. */
static bool merge_escapes(coder *c, const encoder *e) {
    size_t more = e->missed_count, left = c->escape_count;
    if (left + more > c->escape_room) {
        return false;
    }
    c->escape_count += more;
    /* From the last one down: `missed` has the last one first. */
    for (size_t at = c->escape_count, next = 0; next < more;) {
        if (left > 0 && c->escapes[left - 1].place > e->missed[next].place) {
            c->escapes[--at] = c->escapes[--left];
        } else {
            int16_t distance = (int16_t)(e->missed[next].symbol - CENTRE);
            c->escapes[--at] = (escape){e->missed[next++].place, fold_sign(distance)};
        }
    }
    return true;
}

static int digits_of(uint32_t value) {
    int digits = 0;
    for (; value; value >>= 1) {
        digits++;
    }
    return digits;
}

/* Lengths of the escapes as symbols, behind those of the pixels, and their table. */
static void count_escapes(coder *c, model *m) {
    int scale = scale_of(&c->head->coding);
    uint32_t counts[SYMBOLS] = {0};
    for (size_t i = 0; i < c->escape_count; i++) {
        counts[digits_of(c->escapes[i].value)]++;
    }
    choose_table(counts, scale, m->frequency[MOST_TABLES]);
}

static bool encode_escapes(coder *c, encoder *e, const coding *k, const slot_range *ranges, int table, lines *l,
                           size_t room) {
    size_t part = room / MOST_LANES * MOST_LANES;
    memset(l->context, table, room);
    for (size_t done = c->escape_count; done > 0;) {
        size_t start = (done - 1) / part * part;
        for (size_t i = start; i < done; i++) {
            l->symbol[i - start] = (uint8_t)digits_of(c->escapes[i].value);
        }
        rans_encode(e, k, MOST_TABLES, ranges, l->context, l->symbol, 0, 1, done - start);
        done = start;
    }
    return !e->full;
}

static void write_escape_bits(writer *w, const coder *c) {
    uint32_t pending = 0;
    int count = 0;
    for (size_t i = 0; i < c->escape_count; i++) {
        int digits = digits_of(c->escapes[i].value);
        if (digits > 1) {
            pending |= (c->escapes[i].value & ((1u << (digits - 1)) - 1)) << count;
            count += digits - 1;
        }
        for (; count >= 8; count -= 8, pending >>= 8) {
            write_number(w, pending & 255, 1);
        }
    }
    if (count > 0) {
        write_number(w, pending & 255, 1);
    }
}

static void write_low_bits(writer *w, const header *h, const anscombe_frames_shape *s, const void *codes, uint64_t at,
                           uint64_t pixels) {
    uint32_t pending = 0, mask = (1u << h->low_bits) - 1;
    int count = 0;
    for (uint64_t i = at; i < at + pixels && h->low_bits; i++) {
        uint32_t code = s->itemsize == 1 ? ((const uint8_t *)codes)[i] : ((const uint16_t *)codes)[i];
        pending |= ((code - h->lowest) & mask) << count;
        for (count += h->low_bits; count >= 8; count -= 8, pending >>= 8) {
            write_number(w, pending & 255, 1);
        }
    }
    if (count > 0) {
        write_number(w, pending & 255, 1);
    }
}

/* The symbols of a frame, its last row first, in the order that `code_frame` has. `at` is behind the frame. */
static void encode_frame(encoder *e, const header *h, int tables, const slot_range *ranges, const encoder_memory *m,
                         size_t at, const states *s, const prediction *p, bool first) {
    size_t width = s->width, even = (width + 1) / 2, odd = width / 2, lowest = first ? 1 : 0;
    if (follows_rows(p, first) && p->odd != 0 && p->left_gain == 0) {
        for (size_t y = s->height; y-- > lowest;) {
            at -= odd;
            rans_encode(e, &h->coding, tables, ranges, m->contexts, m->symbols, at, 1, odd);
            at -= even;
            rans_encode(e, &h->coding, tables, ranges, m->contexts, m->symbols, at, 1, even);
        }
    } else {
        at -= (s->height - lowest) * width;
        rans_encode(e, &h->coding, tables, ranges, m->contexts, m->symbols, at, s->height - lowest, width);
    }
    if (first) {
        rans_encode(e, &h->coding, tables, ranges, m->contexts, m->symbols, at - width, width, 1);
    }
}

static bool encode_group(writer *out, const anscombe_frames_shape *s, const header *h, encoder_memory *m, model *tables,
                         prediction *last, const void *codes, uint64_t start, int effort) {
    size_t frame_pixels = s->height * s->width, frame_bytes = frame_pixels * (unsigned)s->itemsize;
    uint32_t frames = frames_in_group(h, s, start);
    coder c = {.effort = effort, .head = h, .contexts = m->contexts, .symbols = m->symbols, .escapes = m->escapes,
               .escape_room = m->escape_room, .counts = m->counts, .model = tables};
    memset(m->counts, 0, (MOST_TABLES + 1) * sizeof *m->counts);
    walk w = {.head = h, .model = tables, .lines = m->lines, .coder = &c};
    for (uint32_t i = 0; i < frames; i++) {
        uint64_t frame = start + i;
        states *images = &m->images[frame % h->lag];
        bool first = frame < h->lag, keep = frame + h->lag < s->frames;
        frame_codes f = {(uint8_t *)codes + frame * frame_bytes, s->itemsize, NULL, 0};
        frame_codes next = f;
        next.codes = keep ? (uint8_t *)f.codes + h->lag * frame_bytes : NULL;
        c.channel = &m->channels[frame % h->lag];
        if (first) {
            choose_first(c.channel, h, &f, &next, s->height, s->width, &w.lines);
        } else {
            choose_next(c.channel, &c, images, &f, &w.lines);
        }
        m->predictions[i] = c.channel->prediction;
        code_frame(&w, images, &m->predictions[i], first, keep, &f);
        if (c.full) {
            return false;
        }
        learn_from_frame(c.channel, &c, first);
    }
    model fresh = *tables;
    choose_tables((const uint32_t (*)[SYMBOLS])m->counts, scale_of(&h->coding), &fresh);
    bool pays = start == 0 || tables_pay((const uint32_t (*)[SYMBOLS])m->counts, &fresh, tables,
                                         (double)s->height / (double)counted_rows(effort, s->height));
    if (pays) {
        *tables = fresh;
    }
    memset(tables->frequency[MOST_TABLES], 0, sizeof tables->frequency[MOST_TABLES]);
    find_ranges(tables, m->ranges);

    /* Bytes of states are written at the end of the room, and moved once the size of what stands before them is known. */
    encoder e;
    rans_start(&e, &h->coding, m->ranges, out->at, out->end, m->missed, m->escape_room);
    size_t at = c.count;
    for (uint32_t i = frames; i-- > 0 && !e.full; at -= frame_pixels) {
        encode_frame(&e, h, tables_of(tables), m->ranges, m, at, &m->images[0], &m->predictions[i], start + i < h->lag);
    }
    if (e.full || !merge_escapes(&c, &e)) {
        return false;
    }
    if (c.escape_count) {
        count_escapes(&c, tables);
        find_ranges(tables, m->ranges);
        encode_escapes(&c, &e, &h->coding, m->ranges, tables_of(tables), &w.lines,
                       s->width > STRIP_PIXELS ? s->width : STRIP_PIXELS);
    }
    if (!rans_finish(&e, &h->coding)) {
        return false;
    }
    writer own = {out->at, e.next, false};
    size_t word_bytes = (size_t)(out->end - e.next);
    write_number(&own, 0, 4);
    write_number(&own, (uint32_t)c.escape_count, 4);
    write_number(&own, (uint32_t)word_bytes, 4);
    write_number(&own, pays, 1);
    if (pays) {
        write_model(&own, tables);
    }
    if (c.escape_count) {
        write_table(&own, tables->frequency[MOST_TABLES]);
    }
    for (uint32_t i = 0; i < frames; i++) {
        write_prediction(&own, &m->predictions[i], last);
        *last = m->predictions[i];
    }
    write_low_bits(&own, h, s, codes, start * frame_pixels, frames * (uint64_t)frame_pixels);
    write_escape_bits(&own, &c);
    if (own.full) {
        return false;
    }
    memmove(own.at, e.next, word_bytes);
    put_u32(out->at, (uint32_t)((size_t)(own.at - out->at) - 4 + word_bytes));
    out->at = own.at + word_bytes;
    return true;
}

enum { SHORT_FRAMES = 8 };

static header plan_header(const anscombe_frames_shape *s, const void *codes, int effort, uint32_t planes) {
    header h;
    choose_header(s, codes, effort, planes, &h);
    return h;
}

int64_t anscombe_frames_encode_scratch(const anscombe_frames_shape *shape, uint32_t planes) {
    if (!valid_shape(shape)) {
        return ANSCOMBE_BAD_ARGUMENT;
    }
    /* What the codes decide can only make it less. */
    header h = largest_header(shape, planes);
    anscombe_frames_shape coded = coded_shape(shape, h.folded);
    arena a = {NULL, 0};
    deal_encoder(&a, &coded, &h);
    size_t second = shape->frames <= SHORT_FRAMES ? (size_t)anscombe_frames_bound(shape) : 0;
    return (int64_t)(a.used + states_bytes(&coded, h.lag) + second);
}

static size_t store_constant(uint8_t *out, uint16_t code) {
    out[0] = FRAMES_VERSION;
    out[1] = FRAMES_CONSTANT;
    put_u16(out + 2, code);
    return CONSTANT_BYTES;
}

static size_t store_chunk(uint8_t *out, const anscombe_frames_shape *s, const void *codes) {
    out[0] = FRAMES_VERSION;
    out[1] = FRAMES_STORED;
    take_stored(codes, s, out + 2);
    return 2 + s->frames * s->height * s->width * (unsigned)s->itemsize;
}

/* Bytes of the chunk but for its checksum. */
static size_t encode_chunk(const void *codes, const anscombe_frames_shape *shape, uint32_t planes, int effort,
                           uint8_t *out, size_t room, uint8_t *scratch) {
    header h = plan_header(shape, codes, effort, planes);
    if (h.constant) {
        return store_constant(out, h.lowest);
    }
    anscombe_frames_shape coded = coded_shape(shape, h.folded);
    arena a = {scratch, 0};
    encoder_memory m = deal_encoder(&a, &coded, &h);
    deal_states(&a, m.images, &coded, h.lag);
    model tables;
    choose_contexts(&coded, codes, effort, &h, &tables);
    fill_bands(&tables);
    writer w = {out, out + room - CHECK_BYTES, false};
    prediction last = {0};
    bool fits = w.end - w.at > HEADER_BYTES;
    if (fits) {
        write_header(w.at, &h);
        w.at += HEADER_BYTES;
    }
    for (uint64_t start = 0; fits && start < coded.frames; start += h.group) {
        fits = encode_group(&w, &coded, &h, &m, &tables, &last, codes, start, effort);
    }
    return fits ? (size_t)(w.at - out) : store_chunk(out, shape, codes);
}

int64_t anscombe_frames_encode(const void *codes, const anscombe_frames_shape *shape, uint32_t planes, int effort,
                               void *chunk, size_t room, void *scratch, size_t scratch_bytes) {
    int64_t bound = anscombe_frames_bound(shape);
    if (bound < 0 || room < (size_t)bound || planes < 1 || effort < 0 ||
        (int64_t)scratch_bytes < anscombe_frames_encode_scratch(shape, planes)) {
        return ANSCOMBE_BAD_ARGUMENT;
    }
    uint8_t *out = chunk;
    size_t bytes = encode_chunk(codes, shape, planes, effort, out, (size_t)bound, scratch);
    if (effort > 0 && shape->frames <= SHORT_FRAMES) {
        /* Of few frames little can be learnt, and more effort may be worse. */
        uint8_t *other = (uint8_t *)scratch + scratch_bytes - bound;
        size_t less = encode_chunk(codes, shape, planes, 0, other, (size_t)bound, scratch);
        if (less < bytes) {
            memcpy(out, other, less);
            bytes = less;
        }
    }
    put_u32(out + bytes, checksum(out, bytes, shape));
    return (int64_t)(bytes + CHECK_BYTES);
}
