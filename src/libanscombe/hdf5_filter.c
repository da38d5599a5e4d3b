/* The transform and the frame coder as a filter of HDF5, in a plug-in that HDF5 loads by itself.
 *
 * A chunk of values becomes codes, and these a chunk of `anscombe_frames`. The parameters that HDF5 stores with a
 * dataset (cd_values) hold all that a reader needs; docs/reference/hdf5-filter.md defines them. The structure by which
 * a filter describes itself is declared here, as HDF5's headers have had it since 1.8.0: nothing of HDF5 is needed to
 * build this file. Memory comes from malloc, as it does in HDF5's own filters. */
#include "anscombe.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#elif defined(__GNUC__)
#define EXPORT __attribute__((visibility("default")))
#else
#define EXPORT
#endif

enum {
    FILTER_ID = 479, /* of the range for tests, 256 to 511, until one is registered */
    LAYOUT = 1,
    WORDS = 24, /* parameters before the bins */
    REVERSE = 0x0100,
    H5Z_CLASS_VERSION = 1,
    H5PL_FILTER = 0,
};

/* H5Z_class2_t, and the function that filters a chunk. */
typedef size_t filter_function(unsigned flags, size_t count, const unsigned *parameters, size_t bytes, size_t *room,
                               void **buffer);
typedef struct {
    int version, id;
    unsigned has_encoder, has_decoder;
    const char *name;
    void *can_apply, *set_local;
    filter_function *filter;
} filter_class;

/* What the parameters of a dataset say. */
typedef struct {
    anscombe_type type;
    bool big_endian, clip;
    int itemsize, effort, nan_code; /* nan_code is -1 where values are integers */
    anscombe_frames_shape shape;    /* of a chunk; its itemsize is that of codes */
    uint32_t planes, codes;
    double *edges;  /* codes + 1 */
    double *values; /* codes */
} parameters;

static const uint8_t ITEM_BYTES[] = {1, 2, 4, 8, 1, 2, 4, 8, 4, 8};

/* -- the parameters -------------------------------------------------------------------------------------------- */

typedef struct {
    const unsigned *words;
    uint64_t at, end; /* bits */
} bit_reader;

static int read_bit(bit_reader *r) {
    if (r->at >= r->end) {
        r->end = 0;
        return 1;
    }
    int bit = r->words[r->at / 32] >> (r->at % 32) & 1;
    r->at++;
    return bit;
}

/* A number of 0 or more in the code of Elias and Golomb of an order, or -1. */
static int64_t read_number(bit_reader *r, int order) {
    int digits = order;
    while (!read_bit(r)) {
        digits++;
    }
    if (r->end == 0 || digits > 54) {
        return -1;
    }
    uint64_t value = 1;
    for (int i = 0; i < digits; i++) {
        value = value << 1 | (uint64_t)read_bit(r);
    }
    return r->end == 0 ? -1 : (int64_t)(value - ((uint64_t)1 << order));
}

/* 0, 1, 2, 3, 4 … are 0, -1, 1, -2, 2 … */
static int64_t unfold(int64_t number) { return number & 1 ? -(number >> 1) - 1 : number >> 1; }

static double read_double(const unsigned *words) {
    uint64_t bits = (uint64_t)words[1] << 32 | words[0];
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static double largest_of(anscombe_type type) {
    return type < ANSCOMBE_UINT8 ? ldexp(1, 8 * ITEM_BYTES[type] - 1) - 1 : ldexp(1, 8 * ITEM_BYTES[type]) - 1;
}

/* Edges and values of the codes. */
static bool read_bins(const unsigned *words, size_t count, parameters *p) {
    const double step = read_double(words + 8);
    const int64_t first = (int64_t)((uint64_t)words[11] << 32 | words[10]), far = (int64_t)1 << 52;
    const uint32_t fineness = words[20];
    const int orders[2] = {(int)(words[21] & 255), (int)(words[21] >> 8 & 255)};
    const bool listed = words[22] & 1, odd = words[22] & 2;
    const double unit = step / fineness;
    if (!(step > 0 && step <= ldexp(1, 500)) || fineness < 1 || first < -far || first > far || orders[0] > 52 ||
        orders[1] > 52) {
        return false;
    }
    bit_reader r = {words + WORDS, 0, (uint64_t)(count - WORDS) * 32};
    int64_t start = first, width = 1;
    for (uint32_t q = 0; q < p->codes; q++) {
        const bool told = q >= words[23];
        int64_t wider = told ? read_number(&r, orders[0]) : 0, above = told && listed ? read_number(&r, orders[1]) : 0;
        if (wider < 0 || above < 0) {
            return false;
        }
        width += unfold(wider) * (odd ? 2 : 1);
        if (width < 1 || width > far || start + width > far) {
            return false;
        }
        p->edges[q] = ((double)start - 0.5) * step;
        p->values[q] = (double)(start + (width - 1) / 2) * step + (double)unfold(above) * unit;
        start += width;
    }
    p->edges[p->codes] = ((double)start - 0.5) * step;
    for (uint32_t q = 0; q < p->codes; q++) {
        if (!(p->values[q] >= p->edges[q] && p->values[q] <= p->edges[q + 1])) {
            return false;
        }
    }
    return true;
}

/* Read and check parameters; the caller frees `edges`, whatever is returned. */
static bool read_parameters(size_t count, const unsigned *words, parameters *p) {
    memset(p, 0, sizeof *p);
    if (count < WORDS || words[0] != LAYOUT) {
        return false;
    }
    p->type = (anscombe_type)(words[1] & 255);
    p->big_endian = words[1] >> 8 & 1;
    p->shape.itemsize = (int)(words[1] >> 16 & 255);
    p->effort = (int)(words[2] & 255);
    p->clip = words[2] >> 8 & 1;
    p->shape.frames = words[3];
    p->shape.height = words[4];
    p->shape.width = words[5];
    p->planes = words[6];
    p->codes = words[7];
    if ((words[1] & 255) > ANSCOMBE_FLOAT64 || (p->shape.itemsize != 1 && p->shape.itemsize != 2)) {
        return false;
    }
    const bool real = p->type >= ANSCOMBE_FLOAT32;
    const uint32_t most = 1u << 8 * p->shape.itemsize;
    p->itemsize = ITEM_BYTES[p->type];
    p->nan_code = real ? (int)most - 1 : -1;
    if (p->codes < 1 || p->codes > most - real || p->effort > 1 || p->planes < 1 ||
        anscombe_frames_bound(&p->shape) < 0) {
        return false;
    }
    p->edges = malloc((2 * (size_t)p->codes + 1) * sizeof(double));
    if (p->edges == NULL) {
        return false;
    }
    p->values = p->edges + p->codes + 1;
    return read_bins(words, count, p);
}

static size_t pixels_of(const parameters *p) { return p->shape.frames * p->shape.height * p->shape.width; }

static void swap_bytes(uint8_t *data, size_t items, int itemsize) {
    for (size_t i = 0; i < items; i++, data += itemsize) {
        for (int k = 0; k < itemsize / 2; k++) {
            uint8_t byte = data[k];
            data[k] = data[itemsize - 1 - k];
            data[itemsize - 1 - k] = byte;
        }
    }
}

static bool is_swapped(const parameters *p) {
    const uint16_t one = 1;
    return p->itemsize > 1 && p->big_endian == (*(const uint8_t *)&one == 1);
}

static anscombe_array codes_of(const parameters *p, void *codes) {
    anscombe_array array = {codes, pixels_of(p), p->shape.itemsize == 1 ? ANSCOMBE_UINT8 : ANSCOMBE_UINT16};
    return array;
}

static void put_code(void *codes, int itemsize, size_t at, uint32_t code) {
    if (itemsize == 1) {
        ((uint8_t *)codes)[at] = (uint8_t)code;
    } else {
        ((uint16_t *)codes)[at] = (uint16_t)code;
    }
}

/* -- values to codes ------------------------------------------------------------------------------------------- */

/* The number of inner edges that a signal reaches. */
static uint32_t find_code(const parameters *p, double signal) {
    uint32_t low = 0, high = p->codes - 1;
    while (low < high) {
        uint32_t middle = (low + high + 1) / 2;
        if (signal >= p->edges[middle]) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return low;
}

static double signal_at(const void *values, anscombe_type type, size_t at) {
    switch (type) {
        case ANSCOMBE_INT8: return ((const int8_t *)values)[at];
        case ANSCOMBE_INT16: return ((const int16_t *)values)[at];
        case ANSCOMBE_INT32: return ((const int32_t *)values)[at];
        case ANSCOMBE_INT64: return (double)((const int64_t *)values)[at];
        case ANSCOMBE_UINT8: return ((const uint8_t *)values)[at];
        case ANSCOMBE_UINT16: return ((const uint16_t *)values)[at];
        case ANSCOMBE_UINT32: return ((const uint32_t *)values)[at];
        case ANSCOMBE_UINT64: return (double)((const uint64_t *)values)[at];
        case ANSCOMBE_FLOAT32: return ((const float *)values)[at];
        default: return ((const double *)values)[at];
    }
}

static bool has_code(const parameters *p, double signal) {
    return signal >= p->edges[0] && signal < p->edges[p->codes];
}

/* Integers of at most 16 bits, by a table. */
static bool encode_narrow(const parameters *p, void *values, anscombe_array codes) {
    const size_t entries = (size_t)1 << 8 * p->itemsize;
    const bool is_signed = p->type < ANSCOMBE_UINT8;
    const int64_t lowest = is_signed ? -(int64_t)(entries / 2) : 0;
    void *table = malloc(entries * (size_t)p->shape.itemsize);
    if (table == NULL) {
        return false;
    }
    uint32_t code = 0;
    for (size_t i = 0; i < entries; i++) {
        int64_t signal = lowest + (int64_t)i;
        while (code + 1 < p->codes && (double)signal >= p->edges[code + 1]) {
            code++;
        }
        put_code(table, p->shape.itemsize, (size_t)signal & (entries - 1), code);
    }
    int64_t ends[2];
    anscombe_array signal = {values, codes.size, p->type}, look_up = {table, entries, codes.type};
    int status = anscombe_encode_table(signal, look_up, NULL, codes, ends);
    free(table);
    return status == ANSCOMBE_OK && (p->clip || (has_code(p, (double)ends[0]) && has_code(p, (double)ends[1])));
}

/* Values of any type. An infinity has no code, and NaN only where values are floating-point. */
static bool encode_wide(const parameters *p, const void *values, anscombe_array codes) {
    for (size_t i = 0; i < codes.size; i++) {
        double signal = signal_at(values, p->type, i);
        uint32_t code;
        if (isnan(signal)) {
            code = (uint32_t)p->nan_code;
        } else if (has_code(p, signal) || (p->clip && !isinf(signal))) {
            code = find_code(p, signal);
        } else {
            return false;
        }
        put_code(codes.data, p->shape.itemsize, i, code);
    }
    return true;
}

/* The chunk of values, or NULL; its bytes go to `bytes`. */
static void *encode(const parameters *p, uint8_t *values, size_t *bytes) {
    const size_t size = pixels_of(p);
    if (*bytes != size * (size_t)p->itemsize) {
        return NULL;
    }
    const int64_t room = anscombe_frames_bound(&p->shape);
    const int64_t needed = anscombe_frames_encode_scratch(&p->shape, p->planes);
    void *codes = malloc(size * (size_t)p->shape.itemsize);
    void *scratch = needed < 0 ? NULL : malloc((size_t)needed + 1);
    void *chunk = room < 0 ? NULL : malloc((size_t)room + 1);
    int64_t count = -1;
    if (codes != NULL && scratch != NULL && chunk != NULL) {
        if (is_swapped(p)) {
            swap_bytes(values, size, p->itemsize);
        }
        anscombe_array array = codes_of(p, codes);
        bool narrow = p->itemsize <= 2;
        if (narrow ? encode_narrow(p, values, array) : encode_wide(p, values, array)) {
            count = anscombe_frames_encode(codes, &p->shape, p->planes, p->effort, chunk, (size_t)room, scratch,
                                           (size_t)needed);
        }
        if (count < 0 && is_swapped(p)) { /* an optional filter that fails leaves the chunk as it was */
            swap_bytes(values, size, p->itemsize);
        }
    }
    free(codes);
    free(scratch);
    if (count <= 0) {
        free(chunk);
        return NULL;
    }
    *bytes = (size_t)count;
    return chunk;
}

/* -- codes to values ------------------------------------------------------------------------------------------- */

static void put_value(void *table, anscombe_type type, size_t at, double value) {
    double low = 0, high = 0;
    if (type < ANSCOMBE_FLOAT32) {
        /* Rounded to even and cut to the type; those of 64 bits hold what a double holds exactly. */
        high = fmin(largest_of(type), ldexp(1, 52));
        low = type >= ANSCOMBE_UINT8 ? 0 : -fmin(largest_of(type) + 1, ldexp(1, 52));
        value = rint(fmin(fmax(value, low), high));
    }
    switch (type) {
        case ANSCOMBE_INT8: ((int8_t *)table)[at] = (int8_t)value; break;
        case ANSCOMBE_INT16: ((int16_t *)table)[at] = (int16_t)value; break;
        case ANSCOMBE_INT32: ((int32_t *)table)[at] = (int32_t)value; break;
        case ANSCOMBE_INT64: ((int64_t *)table)[at] = (int64_t)value; break;
        case ANSCOMBE_UINT8: ((uint8_t *)table)[at] = (uint8_t)value; break;
        case ANSCOMBE_UINT16: ((uint16_t *)table)[at] = (uint16_t)value; break;
        case ANSCOMBE_UINT32: ((uint32_t *)table)[at] = (uint32_t)value; break;
        case ANSCOMBE_UINT64: ((uint64_t *)table)[at] = (uint64_t)value; break;
        case ANSCOMBE_FLOAT32: ((float *)table)[at] = (float)value; break;
        default: ((double *)table)[at] = value; break;
    }
}

/* Whether a code is one that the writer had: all but the last are below the number of codes. */
static bool are_known(const parameters *p, anscombe_array codes, uint32_t largest) {
    if (largest < p->codes) {
        return true;
    }
    if (p->nan_code < 0) {
        return false;
    }
    for (size_t i = 0; i < codes.size; i++) {
        uint32_t code = p->shape.itemsize == 1 ? ((uint8_t *)codes.data)[i] : ((uint16_t *)codes.data)[i];
        if (code >= p->codes && code != (uint32_t)p->nan_code) {
            return false;
        }
    }
    return true;
}

/* Values of codes; false where a code is none of the writer's. */
static bool decode_codes(const parameters *p, anscombe_array codes, void *values) {
    const size_t entries = (size_t)1 << 8 * p->shape.itemsize;
    void *table = malloc(entries * (size_t)p->itemsize);
    if (table == NULL) {
        return false;
    }
    for (size_t q = 0; q < entries; q++) {
        double value = p->values[q < p->codes ? q : p->codes - 1];
        put_value(table, p->type, q, (int)q == p->nan_code ? NAN : value);
    }
    anscombe_array look_up = {table, entries, p->type}, out = {values, codes.size, p->type};
    uint32_t largest = 0;
    int status = anscombe_decode_table(codes, look_up, out, &largest);
    free(table);
    return status == ANSCOMBE_OK && are_known(p, codes, largest);
}

/* The values of a chunk, or NULL; their bytes go to `bytes`. */
static void *decode(const parameters *p, const uint8_t *chunk, size_t *bytes) {
    const size_t size = pixels_of(p);
    /* The checksum is right before memory is taken. */
    const int64_t needed = anscombe_frames_decode_scratch(chunk, *bytes, &p->shape);
    if (needed < 0) {
        return NULL;
    }
    void *codes = malloc(size * (size_t)p->shape.itemsize);
    void *scratch = malloc((size_t)needed + 1);
    uint8_t *values = malloc(size * (size_t)p->itemsize);
    bool whole = codes != NULL && scratch != NULL && values != NULL &&
                 anscombe_frames_decode(chunk, *bytes, &p->shape, codes, scratch, (size_t)needed) == ANSCOMBE_OK &&
                 decode_codes(p, codes_of(p, codes), values);
    free(codes);
    free(scratch);
    if (!whole) {
        free(values);
        return NULL;
    }
    if (is_swapped(p)) {
        swap_bytes(values, size, p->itemsize);
    }
    *bytes = size * (size_t)p->itemsize;
    return values;
}

/* -- what HDF5 calls ------------------------------------------------------------------------------------------- */

static size_t filter(unsigned flags, size_t count, const unsigned *words, size_t bytes, size_t *room, void **buffer) {
    parameters p;
    void *result = NULL;
    if (read_parameters(count, words, &p)) {
        result = flags & REVERSE ? decode(&p, *buffer, &bytes) : encode(&p, *buffer, &bytes);
    }
    free(p.edges);
    if (result == NULL) {
        return 0;
    }
    free(*buffer);
    *buffer = result;
    *room = bytes;
    return bytes;
}

static const filter_class CLASS = {
    H5Z_CLASS_VERSION, FILTER_ID, 1, 1, "anscombe: photon-limited movies, https://pypi.org/project/anscombe-transform",
    NULL, NULL, filter};

EXPORT int H5PLget_plugin_type(void) { return H5PL_FILTER; }

EXPORT const void *H5PLget_plugin_info(void) { return &CLASS; }
