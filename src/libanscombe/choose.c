/* What an encoder chooses: interleaving, low bits, weights, gains, contexts and frequencies.
 *
 * Nothing here is part of the format. All choices rest on sums over sampled rows; they are the same on every
 * machine, since sums are of integers and the few fractions follow IEEE 754.
 */
#include "choose.h"
#include "dispatch.h"

#include <math.h>
#include <string.h>

enum {
    MOST_CYCLE = 8,        /* movies that may be interleaved in one */
    FIELDS = 13,           /* regressors of a fit: eight neighbours, level, constant, three of change */
    FIT_PIXELS = 8192,     /* sampled for one fit, or a quarter with little effort */
    FIT_WIDTH = 512,       /* values that are summed in 32 bits */
    FIELD_DROP = 5,        /* bits of a level that a fit does without: ten are left */
    COUNTED = 16,          /* of so many rows the symbols of one are counted, or of a quarter with more effort */
    FOLD_PIXELS = 256,     /* frames of fewer pixels are the rows of one frame */
    MANY_PIXELS = 1 << 17, /* chunks from here on use many states */
    DISTANCES = 1 << 15,   /* sampled for the choice of bands, or an eighth with little effort */
    MEANS = 256,
    TRIED_ROWS = 64,       /* of a first frame, for its parameters; with little effort, an eighth of its rows */
};
/* The noise that 15 symbols hold well, in standard deviations of codes. */
static const double MOST_NOISE = 3.8;
/* A mean square error of predictions in a first frame, in codes, from which on others are tried. */
static const double POOR = 8;
/* Bits of a set of weights in the chunk. */
static const double WEIGHT_BITS = 8 * 12 + 16;
/* Bits of a table in the chunk, and of its frequencies' errors. */
static const double TABLE_BITS = 160;

static double clip(double value, double low, double high) { return value < low ? low : value > high ? high : value; }
static int16_t weight_of(double value) { return (int16_t)lrint(clip(value * 32768, -32767, 32767)); }
static int16_t gain_of(double value) { return (int16_t)(lrint(clip(value, 1.0 / 256, 255.0 / 256) * 256) << 7); }
static int16_t coarse_weight(double value) { return (int16_t)(lrint(clip(value * 128, -127, 127)) * 256); }

/* --- header --- */

static bool folds(const anscombe_frames_shape *s) { return s->frames > 1 && s->height * s->width < FOLD_PIXELS; }

header largest_header(const anscombe_frames_shape *s, uint32_t planes) {
    header h = {.folded = folds(s), .lag = 1};
    uint64_t frames = h.folded ? 1 : s->frames, pixels = h.folded ? s->frames * s->height * s->width : s->height * s->width;
    if (!h.folded) {
        uint64_t lag = planes < frames ? planes : frames;
        while (lag + planes <= frames / 2 && lag < (uint64_t)planes * MOST_CYCLE && lag + planes < 1 << 16) {
            lag += planes;
        }
        h.lag = (uint16_t)(lag < 65535 ? lag : 65535);
    }
    uint64_t group = GROUP_PIXELS / pixels;
    group = group < 1 ? 1 : group < frames ? group : frames;
    uint64_t groups = (frames + group - 1) / group;
    h.group = (uint32_t)((frames + groups - 1) / groups);
    return h;
}

static uint32_t code_at(const anscombe_frames_shape *s, const void *codes, uint64_t at) {
    return s->itemsize == 1 ? ((const uint8_t *)codes)[at] : ((const uint16_t *)codes)[at];
}

ANSCOMBE_LEVELS static void find_span_8(const uint8_t *codes, uint64_t count, uint32_t *low, uint32_t *high) {
    uint8_t least = 255, most = 0;
    for (uint64_t i = 0; i < count; i++) {
        least = codes[i] < least ? codes[i] : least;
        most = codes[i] > most ? codes[i] : most;
    }
    *low = least;
    *high = most;
}

ANSCOMBE_LEVELS static void find_span_16(const uint16_t *codes, uint64_t count, uint32_t *low, uint32_t *high) {
    uint16_t least = 65535, most = 0;
    for (uint64_t i = 0; i < count; i++) {
        least = codes[i] < least ? codes[i] : least;
        most = codes[i] > most ? codes[i] : most;
    }
    *low = least;
    *high = most;
}

/* Mean distance of codes from those `lag` frames later, over rows of a few frames. */
static double mean_distance(const anscombe_frames_shape *s, const void *codes, uint64_t lag) {
    uint64_t pairs = s->frames - lag, sum = 0, count = 0;
    uint64_t times = pairs < 8 ? pairs : 8, rows = s->height < 8 ? s->height : 8;
    for (uint64_t i = 0; i < times; i++) {
        uint64_t frame = pairs * (2 * i + 1) / (2 * times);
        for (uint64_t j = 0; j < rows; j++) {
            uint64_t y = s->height * (2 * j + 1) / (2 * rows), at = (frame * s->height + y) * s->width;
            for (uint64_t x = 0; x < s->width; x++) {
                int32_t d = (int32_t)code_at(s, codes, at + x) -
                            (int32_t)code_at(s, codes, at + x + lag * s->height * s->width);
                sum += (uint64_t)(d < 0 ? -d : d);
            }
            count += s->width;
        }
    }
    return (double)sum / (double)count;
}

/* The same from the mean of both neighbours in a row, as noise alone would have it between two frames. */
static double mean_roughness(const anscombe_frames_shape *s, const void *codes) {
    uint64_t rows = s->frames * s->height, sum = 0, count = 0, some = rows < 64 ? rows : 64;
    for (uint64_t j = 0; j < some; j++) {
        uint64_t at = rows * (2 * j + 1) / (2 * some) * s->width;
        for (uint64_t x = 1; x + 1 < s->width; x++) {
            int32_t d = 2 * (int32_t)code_at(s, codes, at + x) - (int32_t)code_at(s, codes, at + x - 1) -
                        (int32_t)code_at(s, codes, at + x + 1);
            sum += (uint64_t)(d < 0 ? -d : d);
            count++;
        }
    }
    return count ? (double)sum / (double)count / sqrt(3) : 0;
}

void choose_header(const anscombe_frames_shape *s, const void *codes, int effort, uint32_t planes, header *h) {
    *h = largest_header(s, planes);
    uint64_t pixels = s->frames * s->height * s->width;
    uint32_t low, high;
    (s->itemsize == 1 ? find_span_8(codes, pixels, &low, &high) : find_span_16(codes, pixels, &low, &high));
    double distance = mean_roughness(s, codes);
    uint64_t largest = h->lag;
    if (!h->folded) {
        h->lag = (uint16_t)(planes < s->frames ? planes : s->frames);
        if (h->lag < s->frames) {
            double next = mean_distance(s, codes, h->lag), least = next;
            for (uint64_t lag = 2 * (uint64_t)planes; lag <= largest; lag += planes) {
                double found = mean_distance(s, codes, lag);
                if (found < 0.97 * least) {
                    least = found;
                    h->lag = (uint16_t)lag;
                }
            }
            distance = least < distance ? least : distance;
        }
    }
    double noise = distance * sqrt(3.14159265358979 / 4);
    while (h->low_bits < 15 && (noise > MOST_NOISE || (high - low) >> h->low_bits >> 13)) {
        noise /= 2;
        h->low_bits++;
    }
    h->fraction = 7;
    while ((high - low) >> h->low_bits >> (15 - h->fraction)) {
        h->fraction--;
    }
    h->lowest = (uint16_t)low;
    h->constant = low == high;
    h->start = (uint16_t)((code_at(s, codes, 0) - low) >> h->low_bits);
    /* Narrow states for speed, wide ones for size; the ends of many take 256 bytes. */
    bool many = pixels >= MANY_PIXELS && s->width >= MOST_LANES / 2;
    h->coding = effort > 0 ? (coding){1, many ? 64 : 16} : (coding){0, many ? 128 : 32};
}

/* --- contexts and frequencies --- */

/* Codes' distances from the mean of their neighbours, by that mean: what bands of predictions hold. Neighbours are the
 * same pixel in four frames before and four behind, or in few frames those of the same frame around it. */
static uint64_t count_distances(const anscombe_frames_shape *s, const void *codes, const header *h, uint64_t samples,
                                uint32_t (*counts)[SYMBOLS]) {
    int64_t row = (int64_t)s->width, frame = (int64_t)(s->height * s->width) * h->lag;
    bool times = s->frames > 16 * (uint64_t)h->lag;
    const int64_t around[8] = {-row - 1, -row, -row + 1, -1, 1, row - 1, row, row + 1};
    const int64_t along[8] = {-4 * frame, -3 * frame, -2 * frame, -frame, frame, 2 * frame, 3 * frame, 4 * frame};
    const int64_t *offsets = times ? along : around;
    uint64_t pixels = s->frames * s->height * s->width, margin = (uint64_t)offsets[7], step = pixels / samples + 1;
    uint64_t counted = 0;
    for (uint64_t at = margin + step / 2; at + margin < pixels; at += step | 1, counted++) {
        int32_t sum = 0, code = (int32_t)((code_at(s, codes, at) - h->lowest) >> h->low_bits);
        for (int i = 0; i < 8; i++) {
            sum += (int32_t)((code_at(s, codes, at + (uint64_t)offsets[i]) - h->lowest) >> h->low_bits);
        }
        int32_t mean = sum / 8, distance = code - mean + CENTRE;
        counts[mean < MEANS ? mean : MEANS - 1][distance < 0 || distance > ESCAPE ? ESCAPE : distance]++;
    }
    return counted;
}

/* Bits that one table needs for what was counted. */
static double bits_of_counts(const uint32_t *counts) {
    double total = 0, bits = 0;
    for (int i = 0; i < SYMBOLS; i++) {
        total += counts[i];
        bits -= counts[i] ? counts[i] * log2(counts[i]) : 0;
    }
    return total > 0 ? bits + total * log2(total) : 0;
}

/* Bands of means, at first one each, joined where that costs least until `most` are left and every one of them is worth
 * `price` bits of the sample. `needed`, if given, receives the bits that 1 … FEW_TABLES bands need. */
static void join_bands(uint32_t (*counts)[SYMBOLS], int most, double price, model *m, double *needed) {
    int start[MEANS], bands = MEANS;
    double bits[MEANS], cost[MEANS];
    for (int i = 0; i < MEANS; i++) {
        start[i] = i;
        bits[i] = bits_of_counts(counts[i]);
        cost[i] = -1;
    }
    while (bands > 1) {
        int best = 0;
        for (int i = 0; i + 1 < bands; i++) {
            if (cost[i] < 0) {
                uint32_t both[SYMBOLS];
                for (int k = 0; k < SYMBOLS; k++) {
                    both[k] = counts[i][k] + counts[i + 1][k];
                }
                double more = bits_of_counts(both) - bits[i] - bits[i + 1];
                cost[i] = more > 0 ? more : 0;
            }
            best = cost[i] < cost[best] ? i : best;
        }
        if (bands <= most && cost[best] >= price) {
            break;
        }
        for (int k = 0; k < SYMBOLS; k++) {
            counts[best][k] += counts[best + 1][k];
        }
        bits[best] = bits_of_counts(counts[best]);
        bands--;
        for (int i = best + 1; i < bands; i++) {
            memcpy(counts[i], counts[i + 1], sizeof counts[i]);
            start[i] = start[i + 1];
            bits[i] = bits[i + 1];
            cost[i] = cost[i + 1];
        }
        cost[best] = -1;
        if (best > 0) {
            cost[best - 1] = -1;
        }
        if (needed && bands <= FEW_TABLES) {
            needed[bands] = 0;
            for (int i = 0; i < bands; i++) {
                needed[bands] += bits[i];
            }
        }
    }
    m->bands = bands;
    for (int i = 0; i < bands; i++) {
        m->starts[i] = (uint8_t)start[i];
    }
}

/* How many codes in a sample do not occur where the codes beside them do: the signal is coarser than the codes. */
static bool has_gaps(const anscombe_frames_shape *s, const void *codes, const header *h) {
    enum { BINS = 1 << 13 };
    uint32_t counts[BINS] = {0};
    uint64_t pixels = s->frames * s->height * s->width, step = pixels / (1 << 13) + 1, total = 0, gaps = 0;
    for (uint64_t at = step / 2; at < pixels; at += step | 1) {
        counts[(code_at(s, codes, at) - h->lowest) >> h->low_bits & (BINS - 1)]++;
        total++;
    }
    for (uint32_t code = 1; code + 1 < BINS; code++) {
        gaps += counts[code] == 0 ? counts[code - 1] + counts[code + 1] : 0;
    }
    return gaps > total / 8;
}

/* Tables by the place within a code, and by bands of predictions where effort or the codes call for them. */
void choose_contexts(const anscombe_frames_shape *s, const void *codes, int effort, const header *h, model *m) {
    bool many = effort > 0 || has_gaps(s, codes, h);
    uint64_t pixels = s->frames * s->height * s->width, tables = pixels >> (many ? 12 : 14);
    tables = tables < 1 ? 1 : tables < (many ? MOST_TABLES : FEW_TABLES) ? tables : many ? MOST_TABLES : FEW_TABLES;
    m->phase_bits = tables >= 4 ? 2 : tables >= 2 ? 1 : 0;
    m->bands = 1;
    if (!many && pixels < MANY_PIXELS) {
        return;
    }
    uint32_t counts[MEANS][SYMBOLS] = {{0}};
    uint64_t counted = count_distances(s, codes, h, many ? DISTANCES : DISTANCES / 8, counts);
    if (many) {
        /* A fit to noise gains half a nat for each frequency, in the sample alone. */
        double groups = ceil((double)s->frames / h->group), share = (double)counted / (double)pixels;
        double price = 0.72 * SYMBOLS + share * groups * TABLE_BITS * (1 << m->phase_bits);
        join_bands(counts, (int)(tables >> m->phase_bits), price, m, NULL);
        return;
    }
    /* Four tables are for places or bands: two bands, or four, are worth their time if they save a fiftieth. */
    uint32_t joined[MEANS][SYMBOLS];
    memcpy(joined, counts, sizeof joined);
    double needed[FEW_TABLES + 1], total = 0;
    join_bands(joined, 1, INFINITY, m, needed);
    for (int i = 0; i < SYMBOLS; i++) {
        total += joined[0][i];
    }
    double two = needed[2] + 0.003 * total, four = needed[4] + 0.014 * total, one = needed[1] - 0.06 * total;
    if (two < one || four < one) {
        m->phase_bits = two < four + 0.06 * total ? 1 : 0;
        join_bands(counts, 4 >> m->phase_bits, 0, m, NULL);
    }
}

/* Frequencies that sum to `scale`, at least two, none 0 where there is a count. */
void choose_table(const uint32_t *counts, int scale, uint16_t *frequency) {
    uint64_t total = 0;
    int largest = 0, used = 0, sum = 0, share[SYMBOLS];
    for (int s = 0; s < SYMBOLS; s++) {
        total += counts[s];
        used += counts[s] > 0;
        largest = counts[s] > counts[largest] ? s : largest;
    }
    for (int s = 0; s < SYMBOLS; s++) {
        share[s] = total ? (int)(((uint64_t)counts[s] * (unsigned)scale + total / 2) / total) : 0;
        share[s] += counts[s] && share[s] == 0;
    }
    if (used < 2) {
        share[largest ? 0 : 1] = 1;
    }
    for (int s = 0; s < SYMBOLS; s++) {
        sum += share[s];
    }
    /* What is too much or too little is put where it costs least. */
    for (; sum != scale; sum += sum < scale ? 1 : -1) {
        int step = sum < scale ? 1 : -1, best = -1;
        double least = 0;
        for (int s = 0; s < SYMBOLS; s++) {
            if (share[s] > 0 && share[s] + step > 0) {
                double cost = counts[s] * log2((double)share[s] / (share[s] + step));
                if (best < 0 || cost < least) {
                    least = cost;
                    best = s;
                }
            }
        }
        share[best] += step;
    }
    for (int s = 0; s < SYMBOLS; s++) {
        frequency[s] = (uint16_t)share[s];
    }
}

void choose_tables(const uint32_t (*counts)[SYMBOLS], int scale, model *m) {
    int phases = 1 << m->phase_bits;
    for (int table = 0; table < tables_of(m); table++) {
        /* Few counts are filled up with those of the same place in all bands. */
        uint64_t all[SYMBOLS] = {0}, sum = 0;
        for (int other = table % phases; other < tables_of(m); other += phases) {
            for (int s = 0; s < SYMBOLS; s++) {
                all[s] += counts[other][s];
                sum += counts[other][s];
            }
        }
        uint32_t filled[SYMBOLS];
        for (int s = 0; s < SYMBOLS; s++) {
            filled[s] = 64 * counts[table][s] + (uint32_t)(sum ? all[s] * 512 / sum : 0);
        }
        /* An escape is always possible. */
        filled[ESCAPE] = filled[ESCAPE] ? filled[ESCAPE] : 1;
        choose_table(filled, scale, m->frequency[table]);
    }
}

/* Whether tables save more bits, in the sampled rows times `share`, than they take. */
bool tables_pay(const uint32_t (*counts)[SYMBOLS], const model *fresh, const model *old, double share) {
    double saved = 0, taken = 0;
    for (int table = 0; table < tables_of(fresh); table++) {
        for (int s = 0; s < SYMBOLS; s++) {
            double now = fresh->frequency[table][s], then = old->frequency[table][s];
            if (counts[table][s]) {
                /* What has no frequency is an escape, of some bits more. */
                saved += counts[table][s] * (then > 0 ? log2(now / then) : 12);
            }
            taken += now > 0 ? (now < 192 ? 8.5 : 16.5) : 0.5;
        }
    }
    return share * saved > taken;
}

/* --- what a frame teaches --- */

void keep_escape(coder *c, size_t place, uint16_t value) {
    if (c->escape_count == c->escape_room) {
        c->full = true;
        return;
    }
    c->escapes[c->escape_count++] = (escape){(uint32_t)place, value};
}

/* Sum of products of two rows, each cut to 16 codes in units of 1/16 code: 32 bits hold 2^15 of them. */
ANSCOMBE_LEVELS static int64_t sum_products(size_t width, const int16_t *a, const int16_t *b) {
    int64_t sum = 0;
    for (size_t x = 0; x < width;) {
        size_t end = x + FIT_WIDTH < width ? x + FIT_WIDTH : width;
        int32_t part = 0;
        for (; x < end; x++) {
            part += (int32_t)a[x] * b[x];
        }
        sum += part;
    }
    return sum;
}

ANSCOMBE_LEVELS static void cut_row(size_t width, int fraction, const int16_t *restrict from, int16_t *restrict to) {
    int drop = fraction > 4 ? fraction - 4 : 0;
    for (size_t x = 0; x < width; x++) {
        int16_t value = (int16_t)(from[x] >> drop);
        to[x] = (int16_t)(value < -256 ? -256 : value > 256 ? 256 : value);
    }
}

static size_t sample_stride(int effort, size_t height) {
    size_t most = effort > 0 ? MOST_SAMPLES : MOST_SAMPLES / 2;
    return (height + most - 1) / most;
}

static size_t counted_stride(int effort) { return effort > 0 ? COUNTED / 4 : COUNTED; }

size_t counted_rows(int effort, size_t height) {
    return (height + counted_stride(effort) - 1) / counted_stride(effort);
}

static void count_symbols(coder *c, size_t first, size_t count) {
    for (size_t i = first; i < first + count; i++) {
        c->counts[c->contexts[i]][c->symbols[i]]++;
    }
}

void observe_strip(coder *c, const states *s, const prediction *p, const lines *l, size_t y, size_t count, bool first) {
    size_t stride = sample_stride(c->effort, s->height), width = s->width;
    int16_t *now = l->sampled, *other = now + width;
    for (size_t i = 0; i < count; i++) {
        size_t row = y + i;
        if (row % counted_stride(c->effort) == 0) {
            count_symbols(c, c->count - (count - i) * width, width);
        }
        if (row % stride) {
            continue;
        }
        int16_t *before = c->channel->before ? c->channel->before + row / stride * width : NULL;
        cut_row(width, c->head->fraction, l->error + i * width, now);
        c->sums.error += (double)sum_products(width, now, now);
        c->sums.errors += (double)width;
        if (before) {
            if (!first) {
                c->sums.again += (double)sum_products(width, now, before);
                c->sums.before += (double)sum_products(width, before, before);
            }
            memcpy(before, now, width * sizeof *now);
        }
        if (first) {
            continue;
        }
        if (p->row_gain) {
            cut_row(width, c->head->fraction, l->row + EDGE, other);
            /* In columns of odd number it has the neighbours' errors too. */
            for (size_t x = 1; x < width && p->odd; x += 2) {
                other[x] = 0;
            }
            c->sums.row += (double)sum_products(width, now, other);
            c->sums.rows += (double)sum_products(width, other, other);
        } else if (i > 0) {
            cut_row(width, c->head->fraction, l->error + (i - 1) * width, other);
            c->sums.above += (double)sum_products(width, now, other);
            c->sums.rows += (double)sum_products(width, other, other);
        }
        for (size_t x = 1; x + 1 < width; x++) {
            other[x] = (int16_t)(now[x - 1] + now[x + 1]);
        }
        int64_t with = 0, alone = 0;
        for (size_t x = 1; x + 1 < width; x += 2) {
            with += (int32_t)now[x] * other[x];
            alone += (int32_t)other[x] * other[x];
        }
        c->sums.odd += (double)with;
        c->sums.neighbours += (double)alone;
    }
}

void learn_from_frame(channel *c, const coder *k, bool first) {
    const sums *s = &k->sums;
    c->frames++;
    if (first) {
        c->row = 0;
        c->odd = 0;
        c->gain = 0.5;
        return;
    }
    double again = s->before > 0 ? s->again / s->before : 0;
    /* The gain of a running mean, raised where errors repeat. */
    c->gain = clip(c->gain / (1 + c->gain) + 0.1 * again, 3.0 / 256, 0.95);
    double few = k->effort > 0 ? 0.003 : 0.02;
    if (c->prediction.row_gain) {
        c->row = s->rows > 0 ? clip(c->row * (1 + s->row / s->rows), 0, 1) : 0;
        if (s->rows * (1 + s->row / (s->rows + 1)) < few * s->error) {
            c->row = 0;
        }
    } else if (s->rows > 0 && s->above / s->rows > 20 * few) {
        c->row = 0.3;
    }
    double odd = s->neighbours > 0 ? s->odd / s->neighbours : 0;
    c->odd = clip(c->odd + odd, 0, 0.5);
    if (c->odd < (k->effort > 0 ? 0.03 : 0.1)) {
        c->odd = 0;
    }
}

/* --- first frames --- */

/* Gains and weights of rows, from dim to bright; by columns of odd number, then from the left. */
static const struct { double gain, near, far, odd, left, kept; } FIRST[] = {
    {0.35, 0.2, 0.05, 0.25, 0, 0},    {0.7, 0.15, 0, 0.42, 0, 0},       {0.5, 0.2, 0.05, 0.35, 0, 0},
    {0.2, 0.2, 0.1, 0.1, 0, 0},       {0.9, 0.05, 0, 0.45, 0, 0},       {0.5, 0.2, 0.08, 0, 0.45, 0.7},
    {0.6, 0.2, 0.08, 0, 0.3, 0.999},  {0.2, 0.2, 0.08, 0, 0.15, 0.5},   {0.7, 0.2, 0.08, 0, 0.45, 0.7},
    {0.9, 0.2, 0.06, 0, 0.8, 0.7},    {0.45, 0.05, 0, 0, 0.15, 0.999},  {0.9, 0.2, 0.08, 0, 0.8, 0.999},
};
/* The first few do not predict from the left, which is slow to read. */
enum { FIRST_SETS = sizeof FIRST / sizeof *FIRST, FEW_SETS = 5, FEW_FRAMES = 8 };

/* Squares of errors in columns of even and of odd number, each cut to 48 codes, in units of 1/16 code. */
ANSCOMBE_LEVELS static void sum_squares(size_t width, int drop, const int16_t *error, uint64_t *even, uint64_t *odd) {
    for (size_t x = 0; x < width;) {
        size_t end = x + FIT_WIDTH < width ? x + FIT_WIDTH : width;
        uint32_t all = 0, other = 0;
        for (; x < end; x++) {
            int32_t e = error[x] >> drop;
            e = e < -768 ? -768 : e > 768 ? 768 : e;
            all += (uint32_t)(e * e);
            other += x & 1 ? (uint32_t)(e * e) : 0;
        }
        *even += all - other;
        *odd += other;
    }
}

static double try_first(const prediction *p, const header *h, const frame_codes *f, size_t height, size_t width,
                        lines *l) {
    uint64_t even = 1, odd = 1;
    int drop = h->fraction > 4 ? h->fraction - 4 : 0;
    int16_t *row = l->row + EDGE;
    for (size_t y = 0; y < height && y < TRIED_ROWS; y++) {
        take_codes(f, h, y * width, width, l->code);
        if (y == 0) {
            for (ptrdiff_t x = 0; x < (ptrdiff_t)width; x++) {
                row[x] = (int16_t)(l->code[x] << h->fraction);
            }
        }
        memset(l->predicted, 0, width * sizeof *l->predicted);
        if (p->left_gain) {
            int16_t left = 0;
            for (ptrdiff_t x = 0; x < (ptrdiff_t)width; x++) {
                row[x] = (int16_t)(row[x] + left);
                l->error[x] = (int16_t)((l->code[x] << h->fraction) - (row[x] < 0 ? 0 : row[x]));
                left = next_left(p, left, l->error[x]);
            }
        } else {
            add_row(width, row, l->predicted);
            find_errors(width, h->fraction, l->code, l->predicted, l->error);
            for (size_t i = 0; i < (width + 1) / 2; i++) {
                l->half_error[i] = l->error[2 * i];
            }
            l->half_error[(width + 1) / 2] = 0;
            add_odd(width / 2, p->odd, l->half_error, l->predicted, row, l->half);
            for (size_t i = 0; i < width / 2; i++) {
                l->error[2 * i + 1] = (int16_t)((l->code[2 * i + 1] << h->fraction) - l->half[i]);
            }
        }
        if (y > 0) {
            sum_squares(width, drop, l->error, &even, &odd);
        }
        update_row(width, p, l, l->error);
    }
    double rows = (double)(height < TRIED_ROWS ? height : TRIED_ROWS) - 1;
    double unit = ldexp(1, 2 * (h->fraction - drop));
    return sqrt((double)even * (double)odd) / unit / (rows * (double)width / 2 + 1);
}

void choose_first(channel *c, const header *h, const frame_codes *f, const frame_codes *next, size_t height,
                  size_t width, lines *l) {
    prediction best = {0};
    double least = 0;
    bool few = !h->coding.wide;
    size_t rows = !few ? TRIED_ROWS : height / 8 > 24 ? height / 8 : 24;
    rows = rows < height ? rows : height;
    for (int i = 0; i < FIRST_SETS; i++) {
        /* With little effort the first few do, unless the best of them is far from noise: then all are, on more rows. */
        if (few && i == FEW_SETS) {
            if (least < POOR) {
                break;
            }
            few = false;
            rows = TRIED_ROWS < height ? TRIED_ROWS : height;
            i = 0;
        }
        prediction p = {.row_gain = gain_of(FIRST[i].gain), .row_near = coarse_weight(FIRST[i].near),
                        .row_far = coarse_weight(FIRST[i].far), .odd = coarse_weight(FIRST[i].odd)};
        if (FIRST[i].left > 0) {
            p.left_gain = gain_of(FIRST[i].left);
            p.left_level = weight_of(FIRST[i].kept - 1);
        }
        double error = try_first(&p, h, f, rows, width, l);
        if (i == 0 || error < least) {
            least = error;
            best = p;
        }
    }
    best.gain = 0;
    if (next->codes) {
        /* Half of the mean square difference from the next frame is noise, or less. */
        double sum = 0, count = 0;
        for (size_t y = 0; y < rows && y < TRIED_ROWS; y++) {
            take_codes(f, h, y * width, width, l->code);
            memcpy(l->half_code, l->code, width * sizeof *l->code);
            take_codes(next, h, y * width, width, l->code);
            for (ptrdiff_t x = 0; x < (ptrdiff_t)width; x++) {
                double d = clip((double)l->code[x] - l->half_code[x], -32, 32);
                sum += d * d;
            }
            count += (double)width;
        }
        best.gain = gain_of(clip(1 - sum / count / 2 / (least + 1e-9), 0.3, 0.95));
    }
    c->prediction = best;
}

/* --- later frames --- */

/* Normal equations of a fit. */
typedef struct { double products[FIELDS][FIELDS], target[FIELDS], square, pixels; } fit;

ANSCOMBE_LEVELS static void fill_fields(size_t width, int16_t one, const int16_t *up, const int16_t *mid,
                                        const int16_t *down, int16_t (*restrict field)[FIT_WIDTH]) {
#define DIFFERENCE(i, value) field[i][x] = (int16_t)((int16_t)((value) - mid[x]) >> FIELD_DROP)
    for (ptrdiff_t x = 0; x < (ptrdiff_t)width; x++) {
        DIFFERENCE(0, up[x - 1]);
        DIFFERENCE(1, up[x]);
        DIFFERENCE(2, up[x + 1]);
        DIFFERENCE(3, mid[x - 1]);
        DIFFERENCE(4, mid[x + 1]);
        DIFFERENCE(5, down[x - 1]);
        DIFFERENCE(6, down[x]);
        DIFFERENCE(7, down[x + 1]);
        field[8][x] = (int16_t)(mid[x] >> FIELD_DROP);
        field[9][x] = one;
    }
#undef DIFFERENCE
}

ANSCOMBE_LEVELS static void fill_change(size_t width, const int16_t *up, const int16_t *mid,
                                        const int16_t *down, int16_t (*restrict field)[FIT_WIDTH]) {
    for (ptrdiff_t x = 0; x < (ptrdiff_t)width; x++) {
        int16_t sides = (int16_t)(mid[x - 1] + mid[x + 1] + up[x] + down[x]);
        int16_t corners = (int16_t)(up[x - 1] + up[x + 1] + down[x - 1] + down[x + 1]);
        field[10][x] = (int16_t)(mid[x] >> FIELD_DROP);
        field[11][x] = (int16_t)(sides >> FIELD_DROP);
        field[12][x] = (int16_t)(corners >> FIELD_DROP);
    }
    for (int i = 10; i < FIELDS; i++) {
        for (ptrdiff_t x = 0; x < (ptrdiff_t)width; x++) {
            int16_t value = field[i][x];
            field[i][x] = (int16_t)(value < -1024 ? -1024 : value > 1024 ? 1024 : value);
        }
    }
}

static void add_row_to_fit(fit *e, const states *s, const frame_codes *f, const header *h, size_t y, bool change,
                           lines *l) {
    size_t stride = s->width + 2 * EDGE;
    int fields = change ? FIELDS : 10;
    int16_t one = (int16_t)(1 << (h->fraction < 4 ? h->fraction : 4));
    int16_t *mid = s->level + y * stride + EDGE, *moved = s->change + y * stride + EDGE;
    size_t above = y == 0 ? 0 : stride, below = y + 1 == s->height ? 0 : stride;
    take_codes(f, h, y * s->width, s->width, l->code);
    for (size_t x = 0; x < s->width; x += FIT_WIDTH) {
        int16_t field[FIELDS][FIT_WIDTH], target[FIT_WIDTH], error[FIT_WIDTH];
        size_t part = s->width - x < FIT_WIDTH ? s->width - x : FIT_WIDTH;
        fill_fields(part, one, mid + x - above, mid + x, mid + x + below, field);
        if (change) {
            fill_change(part, moved + x - above, moved + x, moved + x + below, field);
        }
        find_errors(part, h->fraction, l->code + x, mid + x, error);
        cut_row(part, h->fraction, error, target);
        for (int i = 0; i < fields; i++) {
            e->target[i] += (double)sum_products(part, field[i], target);
            for (int j = 0; j <= i; j++) {
                e->products[i][j] += (double)sum_products(part, field[i], field[j]);
            }
        }
        e->square += (double)sum_products(part, target, target);
        e->pixels += (double)part;
    }
}

/* Least squares by Cholesky's decomposition, drawn a little towards `weights`, which receive the solution. */
static bool solve_fit(const fit *e, int fields, double *weights) {
    double root[FIELDS][FIELDS], right[FIELDS];
    for (int i = 0; i < fields; i++) {
        double pull = 16.0 * 60 + 1e-4 * e->products[i][i];
        right[i] = e->target[i] + pull * weights[i];
        for (int j = 0; j <= i; j++) {
            double sum = e->products[i][j] + (i == j ? pull : 0);
            for (int k = 0; k < j; k++) {
                sum -= root[i][k] * root[j][k];
            }
            if (i == j && sum <= 0) {
                return false;
            }
            root[i][j] = i == j ? sqrt(sum) : sum / root[j][j];
        }
    }
    for (int i = 0; i < fields; i++) {
        for (int k = 0; k < i; k++) {
            right[i] -= root[i][k] * right[k];
        }
        right[i] /= root[i][i];
    }
    for (int i = fields; i-- > 0;) {
        for (int k = i + 1; k < fields; k++) {
            right[i] -= root[k][i] * weights[k];
        }
        weights[i] = right[i] / root[i][i];
    }
    return true;
}

static double squares_left(const fit *e, int fields, const double *weights) {
    double sum = e->square;
    for (int i = 0; i < fields; i++) {
        sum -= 2 * weights[i] * e->target[i];
        for (int j = 0; j < fields; j++) {
            sum += weights[i] * weights[j] * (j <= i ? e->products[i][j] : e->products[j][i]);
        }
    }
    return sum > 1 ? sum : 1;
}

/* Weights as the fit has them, whose fields and target have other units; the constant is in codes. */
static double unit_of(int fraction) { return ldexp(1, FIELD_DROP - fraction + (fraction < 4 ? fraction : 4)); }

static void weights_from(const prediction *p, int fraction, double *w) {
    double unit = unit_of(fraction) / 32768;
    for (int i = 0; i < 8; i++) {
        w[i] = p->weight[i] * unit;
    }
    w[8] = p->level * unit;
    w[9] = ldexp(p->bias, -fraction);
    for (int i = 0; i < 3; i++) {
        w[10 + i] = p->change[i] * unit;
    }
}

static void weights_to(prediction *p, int fraction, const double *w) {
    double unit = unit_of(fraction);
    for (int i = 0; i < 8; i++) {
        p->weight[i] = coarse_weight(w[i] / unit);
    }
    p->level = weight_of(w[8] / unit);
    p->bias = (int16_t)lrint(clip(ldexp(w[9], fraction), -16384, 16384));
    for (int i = 0; i < 3; i++) {
        p->change[i] = weight_of(w[10 + i] / unit);
    }
}

void choose_next(channel *c, coder *k, const states *s, const frame_codes *f, lines *l) {
    prediction p = c->prediction;
    const header *h = k->head;
    bool change = k->effort > 0 && c->frames >= 2 && c->gain < 0.25 && c->steady < 6;
    k->sums = (sums){0};
    p.gain = gain_of(c->gain);
    p.row_gain = c->row > 0 ? gain_of(0.37) : 0;
    /* A level of -1 leaves nothing of the row before. */
    p.row_level = c->row > 0 ? weight_of(0.95 * c->row - 1) : INT16_MIN;
    p.row_near = c->row > 0 ? coarse_weight(0.18) : 0;
    p.row_far = c->row > 0 ? coarse_weight(0.06) : 0;
    p.odd = coarse_weight(c->odd);
    p.left_gain = p.left_level = 0;
    p.change_gain = change ? gain_of(0.2) : 0;
    if (!change) {
        memset(p.change, 0, sizeof p.change);
    }
    size_t pixels = s->height * s->width, wanted = k->effort > 0 ? FIT_PIXELS : FIT_PIXELS / 4;
    /* The first frames of a movie gain most by their neighbours. */
    wanted = k->effort == 0 && wanted > pixels / 4 ? pixels / 4 + 1 : wanted;
    wanted *= (k->effort > 0 || h->group <= FEW_FRAMES) && c->frames < 8 ? 4 : 1;
    size_t stride = pixels / wanted > 1 ? pixels / wanted : 1;
    fit e = {0};
    /* With little effort, weights that are of no use are looked for in some frames only. */
    if (k->effort == 0 && c->frames >= 4 && c->frames % 4 && !has_weights(&p)) {
        p.bias = 0;
        c->prediction = p;
        return;
    }
    for (size_t y = (size_t)c->frames * 5 % stride; y < s->height; y += stride) {
        add_row_to_fit(&e, s, f, h, y, change, l);
    }
    int fields = change ? FIELDS : 10;
    double now[FIELDS], better[FIELDS];
    weights_from(&p, h->fraction, now);
    memcpy(better, now, sizeof now);
    if (solve_fit(&e, fields, better)) {
        prediction fresh = p;
        weights_to(&fresh, h->fraction, better);
        weights_from(&fresh, h->fraction, better);
        /* A fit to noise gains half a bit for each weight, in the sample alone. */
        double share = (double)pixels / e.pixels, least = squares_left(&e, fields, better);
        if (k->effort == 0) {
            memset(p.weight, 0, sizeof p.weight);
            p.level = p.bias = 0;
            weights_from(&p, h->fraction, now);
        }
        double gained = e.pixels / 2 * log2(squares_left(&e, fields, now) / least) - 0.72 * fields;
        if (share * gained - WEIGHT_BITS > (k->effort > 0 ? 0 : 0.01 * (double)pixels)) {
            p = fresh;
        }
        if (change && c->frames >= 8) {
            double without[FIELDS];
            memcpy(without, better, sizeof without);
            without[10] = without[11] = without[12] = 0;
            c->steady = squares_left(&e, fields, without) < 1.001 * least ? c->steady + 1 : 0;
        }
    }
    c->prediction = p;
}
