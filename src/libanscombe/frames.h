/* What the files of the frame coder share; docs/reference/anscombe_frames.md defines every number here. */
#ifndef ANSCOMBE_FRAMES_H
#define ANSCOMBE_FRAMES_H

#include "anscombe.h"

#include <stdbool.h>

enum {
    FRAMES_VERSION = 0xAF,
    FRAMES_STORED = 0,
    FRAMES_CODED = 1,
    FRAMES_CONSTANT = 2,
    CONSTANT_BYTES = 4,
    HEADER_BYTES = 16,
    CHECK_BYTES = 4,
    SYMBOLS = 16, /* 0 … 14: the code's distance from its prediction, -7 … 7; 15: an escape */
    ESCAPE = 15,
    CENTRE = 7,
    MOST_TABLES = 64,
    MOST_LANES = 128,
    MOST_SCALE = 1 << 10,
    EDGE = 2,            /* columns beyond both ends of a row of states */
    STRIP_PIXELS = 4096, /* so many are predicted before they are coded: they stay in the first cache */
};

/* How symbols are coded: see rans.c. */
typedef struct {
    uint8_t wide;
    uint8_t lanes; /* 128 or 32 narrow states, or 64 or 16 wide ones */
} coding;

static inline int scale_of(const coding *c) { return c->wide ? 1 << 10 : 1 << 8; }

/* The head of a chunk. */
typedef struct {
    uint8_t folded; /* all rows of all frames are those of one frame */
    coding coding;
    uint8_t low_bits, fraction;
    uint16_t lowest; /* code */
    uint16_t lag;    /* so many frames before is the frame before, of an interleaved movie */
    uint16_t start;  /* prediction of the first code */
    uint32_t group;  /* frames */
    bool constant;   /* all codes are the lowest; of an encoder only */
} header;

/* The codes of a frame in the array, and their low bits in the chunk. */
typedef struct {
    void *codes;
    int itemsize;
    const uint8_t *low;
    uint64_t low_at; /* bit of the first code */
} frame_codes;

void take_codes(const frame_codes *f, const header *h, size_t at, size_t count, uint16_t *code);
void take_stored(const void *codes, const anscombe_frames_shape *s, uint8_t *to);
void give_stored(const uint8_t *from, const anscombe_frames_shape *s, void *codes);
void give_constant(uint16_t code, const anscombe_frames_shape *s, void *codes);
void give_codes(const frame_codes *f, const header *h, size_t at, size_t count, const uint16_t *restrict code);

/* --- prediction (predict.c) --- */

/* How a frame is predicted. Weights are in units of 2^-15. */
typedef struct {
    int16_t gain;                                     /* of the state */
    int16_t weight[8];                                /* of the eight neighbours, less the pixel itself */
    int16_t level, bias;                              /* of the pixel itself, and a constant */
    int16_t change_gain, change[3];                   /* of the second state: centre, four sides, four corners */
    int16_t row_gain, row_level, row_near, row_far;   /* of what the rows above say */
    int16_t odd;                                      /* of both neighbours' errors, in columns of odd number */
    int16_t left_gain, left_level;                    /* of what the row says from the left */
} prediction;

/* What is known of one of the interleaved movies: rows of `width` + 2 EDGE, `height` of them, in each image. */
typedef struct {
    size_t height, width;
    int16_t *level;
    int16_t *change;
} states;

/* Scratch of a frame. Rows have `width` + 2 EDGE places, strips STRIP_PIXELS and a row. */
typedef struct {
    size_t strip_start;             /* the first row of the strip that is being predicted */
    int16_t *above, *change_above;  /* the states of the row before the strip, as they were */
    int16_t *row, *estimate;        /* what the rows above say of this row; with the row's errors */
    int16_t *past, *predicted;      /* strips: the prediction from earlier frames without change; in all */
    int16_t *error;                 /* strip: code less prediction */
    int16_t *half, *other, *half_error;     /* columns of even number, and of odd */
    uint16_t *half_code, *other_code;
    uint16_t *code;                 /* strip */
    uint8_t *context, *symbol;      /* strips */
    int16_t *sampled;               /* two rows */
} lines;

/* A level times a weight, rounded: one instruction on x86-64 and ARM. */
static inline int16_t times(int16_t level, int16_t weight) {
    return (int16_t)((((int32_t)level * weight >> 14) + 1) >> 1);
}

/* What the row up to a code says of the next one. */
static inline int16_t next_left(const prediction *p, int16_t left, int16_t error) {
    int16_t estimate = (int16_t)(left + times(error, p->left_gain));
    return (int16_t)(estimate + times(estimate, p->left_level));
}

bool follows_rows(const prediction *p, bool first);
bool has_weights(const prediction *p);
bool has_change(const prediction *p);

void predict_past(const states *s, const prediction *p, size_t y, const lines *l, int16_t *past, int16_t *predicted);
void finish_past(size_t width, int16_t *predicted);
void add_row(size_t width, const int16_t *row, int16_t *predicted);
void add_signed_row(size_t width, const int16_t *row, int16_t *predicted);
void find_errors(size_t count, int fraction, const uint16_t *code, const int16_t *predicted, int16_t *error);
void save_row(const states *s, const prediction *p, size_t y, const lines *l);
void update_states(const states *s, const prediction *p, size_t y, const int16_t *past, const int16_t *predicted,
                   const int16_t *error, bool first);
void update_row(size_t width, const prediction *p, const lines *l, const int16_t *error);
void add_odd(size_t count, int16_t weight, const int16_t *error, const int16_t *predicted, int16_t *row, int16_t *half);
void pick_half(size_t count, const int16_t *from, int16_t *to);
void join_halves(size_t width, const int16_t *even, const int16_t *odd, int16_t *to);
int16_t from_left(int16_t before, int16_t error);

/* --- entropy (rans.c) --- */

/* Frequencies of the symbols in each context. */
typedef struct {
    int bands, phase_bits;
    uint8_t starts[MOST_TABLES];                   /* first code of each band but the first */
    uint8_t band[256];                             /* of each code */
    uint16_t frequency[MOST_TABLES + 1][SYMBOLS];  /* the last: lengths of escapes */
} model;

/* By context and symbol: frequency, the sum of those before it, and 2^32 through the frequency. */
typedef struct {
    uint16_t frequency, start;
    uint32_t reciprocal;
} slot_range;

static inline int tables_of(const model *m) { return m->bands << m->phase_bits; }

void fill_bands(model *m);
void find_contexts(const model *m, size_t count, int fraction, const int16_t *restrict predicted,
                   uint8_t *restrict context);
void predict_strip(const states *s, const prediction *p, size_t y, size_t rows, const lines *l, const model *m,
                   int fraction, uint8_t *context);
bool encode_row(const states *s, const prediction *p, const header *h, size_t y, const uint8_t *codes,
                const int16_t *predicted, uint8_t *symbol, int16_t *error);
bool decode_row(const states *s, const prediction *p, const header *h, size_t y, const uint8_t *symbol,
                const int16_t *predicted, uint8_t *codes);
void settle_escape(const states *s, const prediction *p, const header *h, size_t y, size_t x, uint16_t code,
                   int16_t predicted, uint8_t *to);


/* Tables of few contexts, which fit into registers. */
enum { FEW_TABLES = 4 };

typedef struct {
    uint32_t state[MOST_LANES / 2]; /* or twice as many of 16 bits */
    const uint8_t *next, *end;
    bool broken;
    /* Of few narrow tables: a symbol with its table above it, by table and slot; and its range. */
    uint8_t index[FEW_TABLES][256], start[FEW_TABLES * SYMBOLS], frequency[FEW_TABLES * SYMBOLS];
} decoder;

void find_ranges(const model *m, slot_range *ranges); /* (tables + 1) * SYMBOLS */
void rans_tables(const model *m, const coding *c, uint32_t *lookup); /* of each table as many entries as its frequencies' sum */

void prepare_few(const model *m, const coding *c, decoder *d);
bool rans_begin(decoder *d, const coding *c, const uint8_t *words, size_t bytes);
uint8_t rans_decode_one(decoder *d, const coding *c, const uint32_t *lookup, uint8_t context, size_t item);
void rans_decode(decoder *d, const coding *c, const model *m, const uint32_t *lookup, const uint8_t *context,
                 uint8_t *symbol, size_t rows, size_t width);
bool rans_ended(const decoder *d, const coding *c);

/* Frequency and start, and 2^16 through the frequency in two bytes. */
enum { PLANE_FREQUENCY, PLANE_START, PLANE_LOW, PLANE_HIGH, PLANES };

/* A symbol of frequency 0 in its context, which is coded as an escape. */
typedef struct { uint32_t place; uint8_t symbol; } missed;

typedef struct {
    uint32_t state[MOST_LANES / 2]; /* or twice as many of 16 bits */
    uint8_t *next, *low; /* bytes are written towards `low` */
    missed *missed;      /* the last one first */
    size_t missed_count, missed_room;
    bool full;
    uint8_t plane[PLANES][FEW_TABLES * SYMBOLS]; /* of few narrow tables, by table and symbol */
} encoder;

void rans_start(encoder *e, const coding *c, const slot_range *ranges, uint8_t *low, uint8_t *high, missed *room,
                size_t count);
void rans_encode(encoder *e, const coding *c, int tables, const slot_range *ranges, const uint8_t *contexts,
                 const uint8_t *symbols, size_t at, size_t rows, size_t width);
bool rans_finish(encoder *e, const coding *c);

#endif
