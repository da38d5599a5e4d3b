/* Signals to codes and back, by tables and by comparison with the edges of bins. */
#include "anscombe.h"
#include "dispatch.h"
#include "transform_avx512.h"

#include <math.h>
#include <string.h>

/* Items at once, so that what lies between two passes over them stays in the first cache. */
#define BLOCK 1024
#define AT_ONCE 8192

static const size_t ITEM_BYTES[] = {1, 2, 4, 8, 1, 2, 4, 8, 4, 8, 0};

anscombe_type anscombe_type_of(const char *format, size_t itemsize) {
    /* None stands for bytes; the native order may be spelt out. */
    const uint16_t one = 1;
    const char native = *(const uint8_t *)&one ? '<' : '>';
    char kind = format == NULL ? 'B' : *format;
    if (kind == '=' || kind == '@' || kind == native) {
        kind = format[1];
    }
    if (kind == 0 || strchr("bhilqBHILQfd", kind) == NULL) {
        return ANSCOMBE_OTHER_TYPE;
    }
    anscombe_type first = kind == 'f' || kind == 'd' ? ANSCOMBE_FLOAT32
                          : kind >= 'a'              ? ANSCOMBE_INT8
                                                     : ANSCOMBE_UINT8;
    for (int type = first; type <= ANSCOMBE_FLOAT64 && type < (int)first + 4; type++) {
        if (ITEM_BYTES[type] == itemsize) {
            return (anscombe_type)type;
        }
    }
    return ANSCOMBE_OTHER_TYPE;
}

static int are_codes(anscombe_array array) {
    return array.type == ANSCOMBE_UINT8 || array.type == ANSCOMBE_UINT16;
}

/* -- integers of at most 16 bits ----------------------------------------------------------------------------- */

#define DEFINE_ENDS(TYPE)                                                                                              \
    ANSCOMBE_LEVELS static void ends_##TYPE(const TYPE##_t *x, size_t size, TYPE##_t ends[2]) {                        \
        TYPE##_t low = ends[0], high = ends[1];                                                                        \
        for (size_t i = 0; i < size; i++) {                                                                            \
            low = x[i] < low ? x[i] : low;                                                                             \
            high = x[i] > high ? x[i] : high;                                                                          \
        }                                                                                                              \
        ends[0] = low;                                                                                                 \
        ends[1] = high;                                                                                                \
    }

DEFINE_ENDS(int8)
DEFINE_ENDS(int16)
DEFINE_ENDS(uint8)
DEFINE_ENDS(uint16)

/* Look-ups of eight items; each store writes a word. */
#define DEFINE_LOOKUP(NAME, INDEX, VALUE)                                                                              \
    static void NAME(const INDEX *restrict x, const VALUE *restrict table, VALUE *restrict out, size_t size) {         \
        size_t i = 0;                                                                                                  \
        for (; i + 8 <= size; i += 8) {                                                                                \
            INDEX at[8];                                                                                               \
            VALUE found[8];                                                                                            \
            memcpy(at, x + i, sizeof at);                                                                              \
            for (int k = 0; k < 8; k++) {                                                                              \
                found[k] = table[at[k]];                                                                               \
            }                                                                                                          \
            memcpy(out + i, found, sizeof found);                                                                      \
        }                                                                                                              \
        for (; i < size; i++) {                                                                                        \
            out[i] = table[x[i]];                                                                                      \
        }                                                                                                              \
    }

DEFINE_LOOKUP(look_up_8_to_8, uint8_t, uint8_t)
DEFINE_LOOKUP(look_up_8_to_16, uint8_t, uint16_t)
DEFINE_LOOKUP(look_up_8_to_32, uint8_t, uint32_t)
DEFINE_LOOKUP(look_up_8_to_64, uint8_t, uint64_t)
DEFINE_LOOKUP(look_up_16_to_8, uint16_t, uint8_t)
DEFINE_LOOKUP(look_up_16_to_16, uint16_t, uint16_t)
DEFINE_LOOKUP(look_up_16_to_32, uint16_t, uint32_t)
DEFINE_LOOKUP(look_up_16_to_64, uint16_t, uint64_t)

/* Values of any bytes by an index of one or two. */
static void look_up(const void *x, size_t index_bytes, const void *table, void *out, size_t value_bytes, size_t size) {
#if ANSCOMBE_X86 && ANSCOMBE_MOST_LEVEL > 3
    if (index_bytes == 1 && value_bytes <= 2 && size >= 64 && has_avx512()) {
        size_t done = look_up_avx512(x, table, out, value_bytes, size);
        x = (const uint8_t *)x + done;
        out = (uint8_t *)out + done * value_bytes;
        size -= done;
    }
#endif
    switch (index_bytes * 16 + value_bytes) {
        case 1 * 16 + 1: look_up_8_to_8(x, table, out, size); break;
        case 1 * 16 + 2: look_up_8_to_16(x, table, out, size); break;
        case 1 * 16 + 4: look_up_8_to_32(x, table, out, size); break;
        case 1 * 16 + 8: look_up_8_to_64(x, table, out, size); break;
        case 2 * 16 + 1: look_up_16_to_8(x, table, out, size); break;
        case 2 * 16 + 2: look_up_16_to_16(x, table, out, size); break;
        case 2 * 16 + 4: look_up_16_to_32(x, table, out, size); break;
        case 2 * 16 + 8: look_up_16_to_64(x, table, out, size); break;
    }
}

int anscombe_estimate_codes(int is_signed, anscombe_array table, const anscombe_cells *cells,
                            anscombe_estimate *estimate) {
    if (table.type != ANSCOMBE_UINT8 || table.size != 65536) {
        return ANSCOMBE_BAD_ARGUMENT;
    }
#if ANSCOMBE_X86 && ANSCOMBE_MOST_LEVEL > 3
    /* n + constant is found at once; what a signal is below zero, by the difference to its root's argument. */
    double bias = is_signed ? 32768 : 0;
    const double numbers[6] = {cells->per_gain, cells->constant - (cells->zero + bias) * cells->per_gain,
                               cells->constant, cells->scale, cells->slope, cells->offset};
    memset(estimate, 0, sizeof *estimate);
    for (int i = 0; i < 6; i++) {
        estimate->numbers[i] = (float)numbers[i];
    }
    return has_avx512() && estimate_avx512(table.data, (uint16_t)bias, estimate);
#else
    (void)is_signed, (void)cells, (void)estimate;
    return 0;
#endif
}

/* As far as codes are estimated; `ends` are widened. */
static size_t encode_some(anscombe_array signal, const anscombe_estimate *estimate, anscombe_array codes,
                          int64_t ends[2]) {
#if ANSCOMBE_X86 && ANSCOMBE_MOST_LEVEL > 3
    if (estimate != NULL && ITEM_BYTES[signal.type] == 2 && codes.type == ANSCOMBE_UINT8 && has_avx512()) {
        uint16_t bias = signal.type == ANSCOMBE_INT16 ? 32768 : 0, found[2] = {65535, 0};
        size_t done = encode_avx512(signal.data, estimate, bias, codes.data, signal.size, found);
        if (done > 0) {
            ends[0] = (int64_t)found[0] - bias;
            ends[1] = (int64_t)found[1] - bias;
        }
        return done;
    }
#else
    (void)signal, (void)estimate, (void)codes, (void)ends;
#endif
    return 0;
}

#define WIDEN(TYPE)                                                                                                    \
    do {                                                                                                               \
        TYPE##_t found[2] = {(TYPE##_t)ends[0], (TYPE##_t)ends[1]};                                                    \
        ends_##TYPE((const void *)part, count, found);                                                                 \
        ends[0] = found[0];                                                                                            \
        ends[1] = found[1];                                                                                            \
    } while (0)

int anscombe_encode_table(anscombe_array signal, anscombe_array table, const anscombe_estimate *estimate,
                          anscombe_array codes, int64_t ends[2]) {
    size_t bytes = ITEM_BYTES[signal.type], code_bytes = ITEM_BYTES[codes.type];
    if (signal.type >= ANSCOMBE_FLOAT32 || bytes > 2 || !are_codes(codes) || table.type != codes.type ||
        table.size != (size_t)1 << 8 * bytes || codes.size != signal.size) {
        return ANSCOMBE_BAD_ARGUMENT;
    }
    if (signal.size == 0) {
        return ANSCOMBE_OK;
    }
    ends[0] = (INT64_C(1) << (8 * bytes - (signal.type <= ANSCOMBE_INT64))) - 1;
    ends[1] = signal.type <= ANSCOMBE_INT64 ? -ends[0] - 1 : 0;
    /* Signals are read twice, from the cache the second time. */
    for (size_t at = encode_some(signal, estimate, codes, ends); at < signal.size; at += AT_ONCE) {
        size_t count = signal.size - at < AT_ONCE ? signal.size - at : AT_ONCE;
        const uint8_t *part = (const uint8_t *)signal.data + at * bytes;
        look_up(part, bytes, table.data, (uint8_t *)codes.data + at * code_bytes, code_bytes, count);
        switch (signal.type) {
            case ANSCOMBE_INT8: WIDEN(int8); break;
            case ANSCOMBE_INT16: WIDEN(int16); break;
            case ANSCOMBE_UINT8: WIDEN(uint8); break;
            default: WIDEN(uint16); break;
        }
    }
    return ANSCOMBE_OK;
}

int anscombe_decode_table(anscombe_array codes, anscombe_array table, anscombe_array values, uint32_t *largest) {
    if (!are_codes(codes) || table.type != values.type || table.type == ANSCOMBE_OTHER_TYPE ||
        values.size != codes.size || table.size != (size_t)1 << 8 * ITEM_BYTES[codes.type]) {
        return ANSCOMBE_BAD_ARGUMENT;
    }
    size_t code_bytes = ITEM_BYTES[codes.type], value_bytes = ITEM_BYTES[values.type];
    uint8_t bytes[2] = {255, 0};
    uint16_t words[2] = {65535, 0};
    /* Codes are read twice, from the cache the second time. */
    for (size_t start = 0; start < codes.size; start += AT_ONCE) {
        size_t count = codes.size - start < AT_ONCE ? codes.size - start : AT_ONCE;
        const uint8_t *part = (const uint8_t *)codes.data + start * code_bytes;
        look_up(part, code_bytes, table.data, (uint8_t *)values.data + start * value_bytes, value_bytes, count);
        if (codes.type == ANSCOMBE_UINT8) {
            ends_uint8(part, count, bytes);
        } else {
            ends_uint16((const uint16_t *)part, count, words);
        }
    }
    *largest = codes.type == ANSCOMBE_UINT8 ? bytes[1] : words[1];
    return ANSCOMBE_OK;
}

/* -- any type, by edges -------------------------------------------------------------------------------------- */

/* Cells of signals, and whether one of them has no code. The comparison is true of NaN. */
#define DEFINE_CELLS(NAME, SIGNAL, REAL, ROOT)                                                                         \
    ANSCOMBE_LEVELS static int NAME(const SIGNAL *restrict x, size_t size, const anscombe_cells *f, REAL low,          \
                                    REAL high, int32_t top, int32_t *restrict cell) {                                  \
        const REAL zero = (REAL)f->zero, per_gain = (REAL)f->per_gain, constant = (REAL)f->constant;                   \
        const REAL scale = (REAL)f->scale, slope = (REAL)f->slope, offset = (REAL)f->offset, last = (REAL)top;         \
        int32_t outside = 0;                                                                                           \
        for (size_t i = 0; i < size; i++) {                                                                            \
            REAL v = (REAL)x[i];                                                                                       \
            outside |= !(v >= low && v < high);                                                                        \
            REAL n = (v - zero) * per_gain;                                                                            \
            REAL up = n > 0 ? n : 0, down = n < 0 ? n : 0;                                                             \
            REAL y = scale * ROOT(up + constant) + slope * down + offset;                                              \
            y = y > 0 ? y : 0;                                                                                         \
            y = y < last ? y : last;                                                                                   \
            cell[i] = (int32_t)y;                                                                                      \
        }                                                                                                              \
        return outside;                                                                                                \
    }

/* Codes of signals whose cells are known: of the edges in a cell, those that a signal reaches are counted. */
#define DEFINE_COUNT(NAME, SIGNAL, REAL, CODE)                                                                         \
    static void NAME(const SIGNAL *restrict x, size_t size, const int32_t *restrict cell,                              \
                     const uint16_t *restrict guess, const REAL *restrict inner, uint32_t inside, int depth,           \
                     CODE *restrict codes) {                                                                           \
        for (size_t i = 0; i < size; i++) {                                                                            \
            REAL v = (REAL)x[i];                                                                                       \
            uint32_t first = guess[cell[i]], code = first;                                                             \
            for (int k = 0; k < depth; k++) {                                                                          \
                uint32_t at = first + k < inside ? first + k : inside - 1;                                             \
                code += first + k < inside && v >= inner[at];                                                          \
            }                                                                                                          \
            codes[i] = (CODE)code;                                                                                     \
        }                                                                                                              \
    }                                                                                                                  \
    static void NAME##_one(const SIGNAL *restrict x, size_t size, const int32_t *restrict cell,                        \
                           const uint16_t *restrict guess, const REAL *restrict inner, uint32_t inside,                \
                           CODE *restrict codes) {                                                                     \
        /* One edge in a cell at most. inner[inside] is the end of the last code, which is as good as none. */         \
        for (size_t i = 0; i < size; i++) {                                                                            \
            uint32_t code = guess[cell[i]];                                                                            \
            codes[i] = (CODE)(code + ((REAL)x[i] >= inner[code] && code < inside));                                    \
        }                                                                                                              \
    }

#define DEFINE_ENCODE(NAME, SIGNAL, REAL, ROOT)                                                                        \
    DEFINE_CELLS(cells_##NAME, SIGNAL, REAL, ROOT)                                                                     \
    DEFINE_COUNT(count_8_##NAME, SIGNAL, REAL, uint8_t)                                                                \
    DEFINE_COUNT(count_16_##NAME, SIGNAL, REAL, uint16_t)                                                              \
    static void encode_##NAME(anscombe_array signal, anscombe_array edges, const anscombe_cells *cells,                \
                              anscombe_array guess, int depth, int nan_code, anscombe_array codes,                     \
                              size_t wrong[2]) {                                                                       \
        const SIGNAL *x = signal.data;                                                                                 \
        const REAL *inner = (const REAL *)edges.data + 1;                                                              \
        const uint32_t inside = (uint32_t)edges.size - 2;                                                              \
        const REAL low = inner[-1], high = inner[inside];                                                              \
        uint8_t *bytes = codes.data;                                                                                   \
        uint16_t *words = codes.data;                                                                                  \
        int32_t cell[BLOCK];                                                                                           \
        for (size_t at = 0; at < signal.size; at += BLOCK) {                                                           \
            size_t size = signal.size - at < BLOCK ? signal.size - at : BLOCK;                                         \
            int outside = cells_##NAME(x + at, size, cells, low, high, (int32_t)guess.size - 1, cell);                 \
            if (codes.type == ANSCOMBE_UINT8 && depth <= 1) {                                                          \
                count_8_##NAME##_one(x + at, size, cell, guess.data, inner, inside, bytes + at);                       \
            } else if (codes.type == ANSCOMBE_UINT8) {                                                                 \
                count_8_##NAME(x + at, size, cell, guess.data, inner, inside, depth, bytes + at);                      \
            } else if (depth <= 1) {                                                                                   \
                count_16_##NAME##_one(x + at, size, cell, guess.data, inner, inside, words + at);                      \
            } else {                                                                                                   \
                count_16_##NAME(x + at, size, cell, guess.data, inner, inside, depth, words + at);                     \
            }                                                                                                          \
            for (size_t i = at; outside && i < at + size; i++) {                                                       \
                REAL v = (REAL)x[i];                                                                                   \
                int missing = v != v;                                                                                  \
                if (missing && nan_code >= 0) {                                                                        \
                    if (codes.type == ANSCOMBE_UINT8) {                                                                \
                        bytes[i] = (uint8_t)nan_code;                                                                  \
                    } else {                                                                                           \
                        words[i] = (uint16_t)nan_code;                                                                 \
                    }                                                                                                  \
                } else if (!(v >= low && v < high)) {                                                                  \
                    wrong[0] = i < wrong[0] ? i : wrong[0];                                                            \
                    if (missing || v - v != 0) {                                                                       \
                        wrong[1] = i < wrong[1] ? i : wrong[1];                                                        \
                    }                                                                                                  \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }

DEFINE_ENCODE(int8, int8_t, double, sqrt)
DEFINE_ENCODE(int16, int16_t, double, sqrt)
DEFINE_ENCODE(int32, int32_t, double, sqrt)
DEFINE_ENCODE(int64, int64_t, double, sqrt)
DEFINE_ENCODE(uint8, uint8_t, double, sqrt)
DEFINE_ENCODE(uint16, uint16_t, double, sqrt)
DEFINE_ENCODE(uint32, uint32_t, double, sqrt)
DEFINE_ENCODE(uint64, uint64_t, double, sqrt)
DEFINE_ENCODE(float32, float, float, sqrtf)
DEFINE_ENCODE(float64, double, double, sqrt)

static int are_edges(anscombe_array edges, anscombe_array guess) {
    return (edges.type == ANSCOMBE_FLOAT64 || edges.type == ANSCOMBE_FLOAT32) && edges.size >= 2 &&
           edges.size <= 65537 && guess.type == ANSCOMBE_UINT16 && guess.size >= 1 && guess.size <= 1 << 24;
}

int anscombe_encode_edges(anscombe_array signal, anscombe_array edges, const anscombe_cells *cells,
                          anscombe_array guess, int depth, int nan_code, anscombe_array codes, size_t wrong[2]) {
    anscombe_type needed = signal.type == ANSCOMBE_FLOAT32 ? ANSCOMBE_FLOAT32 : ANSCOMBE_FLOAT64;
    size_t most = codes.type == ANSCOMBE_UINT8 ? 256 : 65536;
    if (!are_edges(edges, guess) || edges.type != needed || !are_codes(codes) || codes.size != signal.size ||
        depth < 0 || edges.size - 1 > most || nan_code >= (int)most) {
        return ANSCOMBE_BAD_ARGUMENT;
    }
    /* A guess is a code, so that comparing with the edge after it stays inside. */
    const uint16_t *codes_guessed = guess.data;
    for (size_t i = 0; i < guess.size; i++) {
        if (codes_guessed[i] > edges.size - 2) {
            return ANSCOMBE_BAD_ARGUMENT;
        }
    }
    wrong[0] = wrong[1] = signal.size;
    switch (signal.type) {
#define CASE(TYPE, NAME)                                                                                               \
    case TYPE: encode_##NAME(signal, edges, cells, guess, depth, nan_code, codes, wrong); break;
        CASE(ANSCOMBE_INT8, int8)
        CASE(ANSCOMBE_INT16, int16)
        CASE(ANSCOMBE_INT32, int32)
        CASE(ANSCOMBE_INT64, int64)
        CASE(ANSCOMBE_UINT8, uint8)
        CASE(ANSCOMBE_UINT16, uint16)
        CASE(ANSCOMBE_UINT32, uint32)
        CASE(ANSCOMBE_UINT64, uint64)
        CASE(ANSCOMBE_FLOAT32, float32)
        CASE(ANSCOMBE_FLOAT64, float64)
        default: return ANSCOMBE_BAD_ARGUMENT;
    }
    return ANSCOMBE_OK;
}

int anscombe_guess_codes(anscombe_array edges, const anscombe_cells *cells, anscombe_array guess) {
    if (!are_edges(edges, guess)) {
        return ANSCOMBE_BAD_ARGUMENT;
    }
    uint16_t *first = guess.data;
    int32_t top = (int32_t)guess.size - 1, before = -1;
    int depth = 0, here = 0;
    size_t next = 0;
    /* Cells do not decrease with the signal, as no rounding does: edges in lower cells are below all of a cell. */
    for (size_t i = 1; i + 1 < edges.size; i++) {
        int32_t cell;
        if (edges.type == ANSCOMBE_FLOAT32) {
            cells_float32((const float *)edges.data + i, 1, cells, 0, 0, top, &cell);
        } else {
            cells_float64((const double *)edges.data + i, 1, cells, 0, 0, top, &cell);
        }
        if (cell < before) {
            return ANSCOMBE_BAD_ARGUMENT;
        }
        here = cell == before ? here + 1 : 1;
        depth = here > depth ? here : depth;
        before = cell;
        while (next <= (size_t)cell) {
            first[next++] = (uint16_t)(i - 1);
        }
    }
    while (next < guess.size) {
        first[next++] = (uint16_t)(edges.size - 2);
    }
    return depth;
}

/* -- verification -------------------------------------------------------------------------------------------- */

/* Errors are exact, since differences of 16-bit integers fit the 24 bits of a float. They are never negative, so that
 * their bits are ordered as they are, NaN above all numbers, and a maximum of integers is what a compiler vectorises. */
#define DEFINE_ERRORS(NAME, SIGNAL, STORED)                                                                            \
    ANSCOMBE_LEVELS static void errors_##NAME(const SIGNAL *restrict x, const STORED *restrict y,                      \
                                              const float *restrict inverse, size_t size, int32_t largest[2]) {        \
        int32_t error = largest[0], part = largest[1];                                                                 \
        for (size_t i = 0; i < size; i++) {                                                                            \
            float off = fabsf((float)x[i] - (float)y[i]), relative = off * inverse[i];                                 \
            int32_t bits, part_bits;                                                                                   \
            memcpy(&bits, &off, sizeof bits);                                                                          \
            memcpy(&part_bits, &relative, sizeof part_bits);                                                           \
            error = bits > error ? bits : error;                                                                       \
            part = part_bits > part ? part_bits : part;                                                                \
        }                                                                                                              \
        largest[0] = error;                                                                                            \
        largest[1] = part;                                                                                             \
    }

DEFINE_ERRORS(int8, int8_t, int8_t)
DEFINE_ERRORS(int16, int16_t, int16_t)
DEFINE_ERRORS(uint8, uint8_t, uint8_t)
DEFINE_ERRORS(uint16, uint16_t, uint16_t)
DEFINE_ERRORS(int8_float, int8_t, float)
DEFINE_ERRORS(int16_float, int16_t, float)
DEFINE_ERRORS(uint8_float, uint8_t, float)
DEFINE_ERRORS(uint16_float, uint16_t, float)

int anscombe_largest_errors(anscombe_array original, anscombe_array stored, anscombe_array inverse_bound,
                            float largest[2]) {
    size_t bytes = ITEM_BYTES[original.type];
    if (original.type >= ANSCOMBE_FLOAT32 || bytes > 2 || stored.size != original.size ||
        (stored.type != original.type && stored.type != ANSCOMBE_FLOAT32) ||
        inverse_bound.type != ANSCOMBE_FLOAT32 || inverse_bound.size != (size_t)1 << 8 * bytes) {
        return ANSCOMBE_BAD_ARGUMENT;
    }
    int32_t bits[2] = {0, 0};
    float inverse[BLOCK];
    for (size_t at = 0; at < original.size; at += BLOCK) {
        size_t size = original.size - at < BLOCK ? original.size - at : BLOCK;
        const char *x = (const char *)original.data + at * bytes;
        const char *y = (const char *)stored.data + at * ITEM_BYTES[stored.type];
        look_up(x, bytes, inverse_bound.data, inverse, sizeof(float), size);
        switch (original.type + (stored.type == ANSCOMBE_FLOAT32 ? 16 : 0)) {
#define ERRORS(TYPE, NAME)                                                                                             \
    case TYPE: errors_##NAME((const void *)x, (const void *)y, inverse, size, bits); break;                            \
    case TYPE + 16: errors_##NAME##_float((const void *)x, (const void *)y, inverse, size, bits); break;
            ERRORS(ANSCOMBE_INT8, int8)
            ERRORS(ANSCOMBE_INT16, int16)
            ERRORS(ANSCOMBE_UINT8, uint8)
            ERRORS(ANSCOMBE_UINT16, uint16)
        }
    }
    memcpy(largest, bits, sizeof bits);
    return ANSCOMBE_OK;
}
