/* What an encoder chooses: nothing here is part of the format, and another encoder may choose otherwise. */
#ifndef ANSCOMBE_CHOOSE_H
#define ANSCOMBE_CHOOSE_H

#include "frames.h"

enum { GROUP_PIXELS = 1 << 21, MOST_SAMPLES = 32 };

/* An escape: its place among the symbols of the group, and the folded distance from its prediction. */
typedef struct { uint32_t place; uint16_t value; } escape;

/* Sums over sampled rows of a frame, for the next one's parameters. */
typedef struct {
    double error, errors;               /* mean square of codes less predictions, in codes; how many */
    double again, before;               /* with those of the frame before, and theirs alone */
    double row, rows;                   /* with what the rows above said, and that alone */
    double above;                       /* with the row above */
    double odd, neighbours;             /* with the sum of both neighbours', and that alone */
} sums;

/* One of the interleaved movies. */
typedef struct {
    prediction prediction;
    double gain;    /* of its next frame */
    double row, odd;
    int frames;     /* that were coded */
    int steady;     /* frames on end without use of a second state */
    int16_t *before; /* errors of the sampled rows of its last frame */
} channel;

/* An encoder's work on one group. */
typedef struct {
    int effort;
    const header *head;
    uint8_t *contexts, *symbols;
    size_t count;
    escape *escapes;
    size_t escape_count, escape_room;
    bool full;
    channel *channel; /* of the frame that is coded */
    sums sums;
    size_t stride;    /* rows from one that is sampled to the next */
    uint32_t (*counts)[SYMBOLS]; /* by table, of sampled rows */
    const model *model;
} coder;

size_t counted_rows(int effort, size_t height);
void keep_escape(coder *c, size_t place, uint16_t value);
void observe_strip(coder *c, const states *s, const prediction *p, const lines *l, size_t y, size_t count, bool first);

header largest_header(const anscombe_frames_shape *s, uint32_t planes);
void choose_header(const anscombe_frames_shape *s, const void *codes, int effort, uint32_t planes, header *h);
void choose_contexts(const anscombe_frames_shape *s, const void *codes, int effort, const header *h, model *m);
void choose_first(channel *c, const header *h, const frame_codes *f, const frame_codes *next, size_t height,
                  size_t width, lines *l);
void choose_next(channel *c, coder *k, const states *s, const frame_codes *f, lines *l);
void learn_from_frame(channel *c, const coder *k, bool first);
void choose_tables(const uint32_t (*counts)[SYMBOLS], int scale, model *m);
bool tables_pay(const uint32_t (*counts)[SYMBOLS], const model *fresh, const model *old, double share);
void choose_table(const uint32_t *counts, int scale, uint16_t *frequency);

#endif
