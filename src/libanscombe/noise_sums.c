/* Sums of noise: what the calibration adds up over a segment of a movie. `anscombe.h` defines every column.
 *
 * The work goes in strips of one tile's height and a few tiles' width, so that all images in between stay in the
 * second cache. Rows of a strip have a fixed length, and loops run over all rows at once as over one flat array: the
 * pixels where one row runs into the next are worked out and not used. All sums are in a fixed order, in float32, so
 * that every processor, every level of instructions and numpy give the same.
 */
#include "anscombe.h"
#include "dispatch.h"

#include <string.h>

#define TILE ANSCOMBE_NOISE_TILE
#define PIXELS (TILE * TILE)
#define CLASSES ANSCOMBE_NOISE_CLASSES
#define COLUMNS ANSCOMBE_NOISE_COLUMNS
#define LEAST_HALVED 6
#define STRIP_TILES 16
#define WIDE (STRIP_TILES * TILE + 2)
#define AREA (TILE * WIDE)           /* a flat image of a strip's tiles */
#define STRIP ((TILE + 2) * WIDE + 2) /* the same with one pixel more on every side */
#define REACH (AREA + 2)             /* with one pixel more to the left and to the right */

/* The images that become the columns after `n`. */
enum {
    Q, OWN, X_T, Y_T, X_TY, Y_TY, X_TX, Y_TX, X_TXY, Y_TXY,
    X3_T, Y3_T, X3_TY, Y3_TY, X3_TX, Y3_TX, X3_TXY, Y3_TXY, HIGH, LOW, IMAGES,
};

typedef struct {
    float image[IMAGES][AREA];
    float weight[CLASSES][AREA]; /* 1 where a pixel is of the class, else 0 */
    int32_t key[AREA];
    float residual[2][STRIP], along_y[2][STRIP];
    float squares[STRIP], cubes[STRIP], total[2][STRIP];
    float line[WIDE + TILE], fold[WIDE + TILE];
    float frame[][STRIP];
} strip;

/* -- loading ------------------------------------------------------------------------------------------------------ */

#define DEFINE_LOAD(NAME, TYPE, VALUE)                                                                                 \
    ANSCOMBE_LEVELS static void load_##NAME(size_t size, const TYPE *restrict x, double pedestal,                      \
                                            float *restrict to) {                                                      \
        (void)pedestal;                                                                                                \
        for (size_t j = 0; j < size; j++) {                                                                            \
            to[j] = (float)VALUE;                                                                                      \
        }                                                                                                              \
    }

DEFINE_LOAD(int8, int8_t, x[j])
DEFINE_LOAD(uint8, uint8_t, x[j])
DEFINE_LOAD(int16, int16_t, x[j])
DEFINE_LOAD(uint16, uint16_t, x[j])
DEFINE_LOAD(int32, int32_t, ((double)x[j] - pedestal))
DEFINE_LOAD(uint32, uint32_t, ((double)x[j] - pedestal))
DEFINE_LOAD(int64, int64_t, ((double)x[j] - pedestal))
DEFINE_LOAD(uint64, uint64_t, ((double)x[j] - pedestal))
DEFINE_LOAD(float32, float, ((double)x[j] - pedestal))
DEFINE_LOAD(float64, double, ((double)x[j] - pedestal))

static void load(anscombe_array movie, size_t at, size_t size, double pedestal, float *to) {
    switch (movie.type) {
        case ANSCOMBE_INT8: load_int8(size, (const int8_t *)movie.data + at, pedestal, to); break;
        case ANSCOMBE_UINT8: load_uint8(size, (const uint8_t *)movie.data + at, pedestal, to); break;
        case ANSCOMBE_INT16: load_int16(size, (const int16_t *)movie.data + at, pedestal, to); break;
        case ANSCOMBE_UINT16: load_uint16(size, (const uint16_t *)movie.data + at, pedestal, to); break;
        case ANSCOMBE_INT32: load_int32(size, (const int32_t *)movie.data + at, pedestal, to); break;
        case ANSCOMBE_UINT32: load_uint32(size, (const uint32_t *)movie.data + at, pedestal, to); break;
        case ANSCOMBE_INT64: load_int64(size, (const int64_t *)movie.data + at, pedestal, to); break;
        case ANSCOMBE_UINT64: load_uint64(size, (const uint64_t *)movie.data + at, pedestal, to); break;
        case ANSCOMBE_FLOAT32: load_float32(size, (const float *)movie.data + at, pedestal, to); break;
        default: load_float64(size, (const double *)movie.data + at, pedestal, to); break;
    }
}

static int is_small(anscombe_type type) {
    return type == ANSCOMBE_INT8 || type == ANSCOMBE_UINT8 || type == ANSCOMBE_INT16 || type == ANSCOMBE_UINT16;
}

/* -- images of a strip -------------------------------------------------------------------------------------------- */

ANSCOMBE_LEVELS static void difference(size_t size, const float *restrict a, const float *restrict b,
                                       float *restrict to) {
    for (size_t j = 0; j < size; j++) {
        to[j] = a[j] - b[j];
    }
}

ANSCOMBE_LEVELS static void second_difference(size_t size, const float *a, const float *b, const float *c,
                                              float *restrict to) {
    for (size_t j = 0; j < size; j++) {
        to[j] = a[j] - 2 * b[j] + c[j];
    }
}

/* The weighted mean that belongs to the square of a second difference, of values `step` apart. */
ANSCOMBE_LEVELS static void smooth(size_t size, const float *from, size_t step, float *restrict to) {
    for (size_t j = 0; j < size; j++) {
        to[j] = (from[j] + 4 * from[j + step] + from[j + 2 * step]) * (1.f / 6);
    }
}

/* The one that belongs to its cube. */
ANSCOMBE_LEVELS static void sharpen(size_t size, const float *from, size_t step, float *restrict to) {
    for (size_t j = 0; j < size; j++) {
        to[j] = (8 * from[j + step] - from[j] - from[j + 2 * step]) * (1.f / 6);
    }
}

/* Sum of frames, in pairs. */
ANSCOMBE_LEVELS static void sum_frames(size_t frames, const float (*restrict frame)[STRIP], float *restrict total) {
    memset(total, 0, STRIP * sizeof *total);
    for (size_t t = 0; t + 1 < frames; t += 2) {
        for (size_t j = 0; j < STRIP; j++) {
            total[j] += frame[t][j] + frame[t + 1][j];
        }
    }
    if (frames % 2) {
        for (size_t j = 0; j < STRIP; j++) {
            total[j] += frame[frames - 1][j];
        }
    }
}

/* Sums of frames weighted as the squares and the cubes of differences in time weight them. */
ANSCOMBE_LEVELS static void weight_frames(size_t frames, const float (*restrict frame)[STRIP],
                                          const float *restrict total, float *restrict squares,
                                          float *restrict cubes) {
    const float *head = frame[0], *second = frame[1], *last_but_one = frame[frames - 2], *tail = frame[frames - 1];
    if (frames == 2) {
        for (size_t j = 0; j < STRIP; j++) {
            squares[j] = cubes[j] = total[j] - (head[j] + tail[j]) * .5f;
        }
        return;
    }
    for (size_t j = 0; j < STRIP; j++) {
        float before = total[j] - tail[j] - last_but_one[j];
        float middle = total[j] - head[j] - tail[j];
        float after = total[j] - head[j] - second[j];
        squares[j] = (before + 4 * middle + after) * (1.f / 6);
        cubes[j] = (8 * middle - before - after) * (1.f / 6);
    }
}

/* Add squares and cubes of two residuals, and of their second differences along x. Of two at once, since the sums
 * are then fetched half as often. */
ANSCOMBE_LEVELS static void add_residuals(const float *restrict a, const float *restrict b, float *restrict squares,
                                          float *restrict cubes, float *restrict x_squares, float *restrict x_cubes) {
    for (size_t j = 0; j < AREA; j++) {
        float r = a[j + 1], s = b[j + 1];
        float u = a[j] - 2 * r + a[j + 2], v = b[j] - 2 * s + b[j + 2];
        float rr = r * r, ss = s * s, uu = u * u, vv = v * v;
        squares[j] += rr + ss;
        cubes[j] += rr * r + ss * s;
        x_squares[j] += uu + vv;
        x_cubes[j] += uu * u + vv * v;
    }
}

/* Fill the images y and y3. */
static void sum_residuals(strip *s, size_t frames, const float (*frame)[STRIP]) {
    size_t order = frames == 2 ? 1 : 2;
    memset(s->image, 0, sizeof s->image);
    for (size_t start = 0; start + order < frames; start += 2) {
        for (size_t k = 0; k < 2; k++) {
            float *own = s->residual[k];
            const float(*here)[STRIP] = frame + start + k;
            if (start + k + order >= frames) {
                memset(own, 0, STRIP * sizeof *own);
            } else if (order == 2) {
                second_difference(STRIP, here[0], here[1], here[2], own);
            } else {
                difference(STRIP, here[0], here[1], own);
            }
            second_difference(REACH, own, own + WIDE, own + 2 * WIDE, s->along_y[k]);
        }
        add_residuals(s->residual[0] + WIDE, s->residual[1] + WIDE, s->image[Y_T], s->image[Y3_T], s->image[Y_TX],
                      s->image[Y3_TX]);
        add_residuals(s->along_y[0], s->along_y[1], s->image[Y_TY], s->image[Y3_TY], s->image[Y_TXY],
                      s->image[Y3_TXY]);
    }
}

/* Fill the images x and x3 from `squares` and `cubes`. */
static void weight_neighbours(strip *s) {
    float *along_y = s->along_y[0];
    memcpy(s->image[X_T], s->squares + WIDE + 1, sizeof s->image[X_T]);
    smooth(AREA, s->squares + WIDE, 1, s->image[X_TX]);
    smooth(REACH, s->squares, WIDE, along_y);
    memcpy(s->image[X_TY], along_y + 1, sizeof s->image[X_TY]);
    smooth(AREA, along_y, 1, s->image[X_TXY]);
    memcpy(s->image[X3_T], s->cubes + WIDE + 1, sizeof s->image[X3_T]);
    sharpen(AREA, s->cubes + WIDE, 1, s->image[X3_TX]);
    sharpen(REACH, s->cubes, WIDE, along_y);
    memcpy(s->image[X3_TY], along_y + 1, sizeof s->image[X3_TY]);
    sharpen(AREA, along_y, 1, s->image[X3_TXY]);
}

ANSCOMBE_LEVELS static void count_cut(const float *restrict value, float floor, float ceiling, float *restrict high,
                                      float *restrict low) {
    for (size_t j = 0; j < AREA; j++) {
        high[j] += value[j] >= ceiling ? 1.f : 0.f;
        low[j] += value[j] <= floor ? 1.f : 0.f;
    }
}

/* The instrument, and the pixel itself, from a sum of frames. */
ANSCOMBE_LEVELS static void fill_instruments(const float *restrict total, float factor, float *restrict q,
                                             float *restrict own) {
    const float *below = total + 2 * WIDE;
    for (size_t j = 0; j < AREA; j++) {
        q[j] = (total[j] + total[j + 2] + below[j] + below[j + 2]) * (factor / 4);
        own[j] = total[j + WIDE + 1] * factor;
    }
}

/* -- classes ------------------------------------------------------------------------------------------------------ */

/* Integers that order like the floats of a row of a strip, no two of a tile alike: their last six bits make room for
 * the position. By lines, the even ones of a tile come before the odd ones. */
ANSCOMBE_LEVELS static void order_pixels(const float *restrict q, int32_t row, int by_line, int32_t *restrict key) {
    for (int32_t j = 0; j < WIDE; j++) {
        int32_t bits;
        memcpy(&bits, q + j, sizeof bits);
        bits ^= bits < 0 ? INT32_MAX : 0;
        bits &= -PIXELS;
        key[j] = by_line ? (bits / 2 | (row / 2 * TILE + j % TILE)) + (row % 2 ? 1 << 30 : -(1 << 30))
                         : bits | (row * TILE + j % TILE);
    }
}

/* How many of the pixels of a tile come before each. */
ANSCOMBE_LEVELS static void rank_pixels(const int32_t *restrict key, int32_t *restrict rank) {
    memset(rank, 0, PIXELS * sizeof *rank);
    for (int k = 0; k < PIXELS; k++) {
        int32_t other = key[k];
        for (int j = 0; j < PIXELS; j++) {
            rank[j] += other < key[j];
        }
    }
}

static void sort_into_classes(strip *s, size_t tiles, int by_line) {
    for (int row = 0; row < TILE; row++) {
        order_pixels(s->image[Q] + row * WIDE, row, by_line, s->key + row * WIDE);
    }
    memset(s->weight, 0, sizeof s->weight);
    for (size_t tile = 0; tile < tiles; tile++) {
        int32_t key[PIXELS], rank[PIXELS];
        for (size_t row = 0; row < TILE; row++) {
            memcpy(key + row * TILE, s->key + row * WIDE + tile * TILE, TILE * sizeof *key);
        }
        rank_pixels(key, rank);
        for (size_t p = 0; p < PIXELS; p++) {
            s->weight[rank[p] / (PIXELS / CLASSES)][p / TILE * WIDE + tile * TILE + p % TILE] = 1;
        }
    }
}

/* Sums over 8 x 8 pixels, folded in halves: the rows, then the columns. Of every tile, the sum stands at its first
 * pixel in `to`. */
ANSCOMBE_LEVELS static void fold_tiles(const float *restrict v, const float *restrict w, float *restrict line,
                                       float *restrict to) {
    for (size_t j = 0; j < STRIP_TILES * TILE; j++) {
        float p[TILE];
        for (size_t i = 0; i < TILE; i++) {
            p[i] = v[i * WIDE + j] * w[i * WIDE + j];
        }
        line[j] = ((p[0] + p[4]) + (p[2] + p[6])) + ((p[1] + p[5]) + (p[3] + p[7]));
    }
    for (size_t j = 0; j < STRIP_TILES * TILE; j++) {
        to[j] = line[j] + line[j + 4];
    }
    for (size_t j = 0; j < STRIP_TILES * TILE; j++) {
        line[j] = to[j] + to[j + 2];
    }
    for (size_t j = 0; j < STRIP_TILES * TILE; j++) {
        to[j] = line[j] + line[j + 1];
    }
}

static int is_finite(const double *row) {
    for (size_t k = 0; k < COLUMNS; k++) {
        if (!(row[k] - row[k] == 0)) {
            return 0;
        }
    }
    return 1;
}

/* Fill the rows of some tiles from the images. */
static void fill_rows(strip *s, size_t tiles, size_t frames, int counting, int finite, double *rows) {
    const float order = frames == 2 ? 1 : 2, time = frames == 2 ? 2 : 6, residuals = (float)frames - order;
    const float share = residuals / (float)frames;
    const float factors[IMAGES] = {
        [Q] = 1, [OWN] = 1, [X_T] = 1, [X_TY] = 1, [X_TX] = 1, [X_TXY] = 1,
        [X3_T] = 1, [X3_TY] = 1, [X3_TX] = 1, [X3_TXY] = 1,
        [Y_T] = 1 / time, [Y_TY] = 1 / (time * 6), [Y_TX] = 1 / (time * 6), [Y_TXY] = 1 / (time * 36),
        [Y3_T] = -1.f / 6, [Y3_TY] = 1.f / 36, [Y3_TX] = 1.f / 36, [Y3_TXY] = -1.f / 216,
        [HIGH] = share, [LOW] = share,
    };
    for (size_t r = 0; r < tiles * CLASSES; r++) {
        double *row = rows + r * COLUMNS;
        row[0] = (double)residuals * (PIXELS / CLASSES);
        row[1 + HIGH] = row[1 + LOW] = 0;
    }
    for (size_t m = 0; m < (counting ? IMAGES : HIGH); m++) {
        for (size_t c = 0; c < CLASSES; c++) {
            fold_tiles(s->image[m], s->weight[c], s->line, s->fold);
            for (size_t tile = 0; tile < tiles; tile++) {
                rows[(tile * CLASSES + c) * COLUMNS + 1 + m] = s->fold[tile * TILE] * factors[m];
            }
        }
    }
    for (size_t r = 0; !finite && r < tiles * CLASSES; r++) {
        if (!is_finite(rows + r * COLUMNS)) {
            memset(rows + r * COLUMNS, 0, COLUMNS * sizeof *rows);
        }
    }
}

/* -- the public functions ----------------------------------------------------------------------------------------- */

/* Sizes of which a product of two fits 64 bits, and of memory. */
static int is_size(uint64_t size) { return size <= UINT32_MAX && size <= SIZE_MAX / sizeof(float) / STRIP / 2; }

int64_t anscombe_noise_scratch(uint64_t frames) {
    return is_size(frames) ? (int64_t)(sizeof(strip) + frames * STRIP * sizeof(float)) : ANSCOMBE_BAD_ARGUMENT;
}

int anscombe_sum_noise(anscombe_array movie, const anscombe_noise_segment *segment, void *scratch,
                       size_t scratch_bytes, anscombe_array rows) {
    uint64_t frames = segment->frames, height = segment->height, width = segment->width;
    if (!is_size(frames) || !is_size(height) || !is_size(width) || frames < 2 || height < TILE + 2 ||
        width < TILE + 2 || movie.type == ANSCOMBE_OTHER_TYPE || movie.size / frames / height != width ||
        movie.size != frames * height * width || rows.type != ANSCOMBE_FLOAT64) {
        return ANSCOMBE_BAD_ARGUMENT;
    }
    size_t halves = frames < LEAST_HALVED ? 1 : 2, tiles = (size_t)((width - 2) / TILE);
    size_t half_row = tiles * CLASSES * COLUMNS;
    if (segment->tile_rows > (height - 2) / TILE || segment->top > height - 2 - segment->tile_rows * TILE ||
        rows.size / half_row / halves != segment->tile_rows || rows.size % (half_row * halves) != 0 ||
        scratch_bytes < (uint64_t)anscombe_noise_scratch(frames) || (uintptr_t)scratch % _Alignof(strip) != 0 ||
        (is_small(movie.type) && segment->pedestal != 0)) {
        return ANSCOMBE_BAD_ARGUMENT;
    }
    strip *s = scratch;
    memset(s, 0, (size_t)anscombe_noise_scratch(frames));
    const float floor = (float)(segment->floor - segment->pedestal);
    const float ceiling = (float)(segment->ceiling - segment->pedestal);
    const double largest = 1.7976931348623157e308;
    const int counting = segment->floor >= -largest || segment->ceiling <= largest;
    size_t begin[2] = {0, (size_t)frames / 2}, length[2] = {(size_t)frames, (size_t)frames - (size_t)frames / 2};
    if (halves == 2) {
        length[0] = (size_t)frames / 2;
    }
    for (size_t row = 0; row < segment->tile_rows; row++) {
        double *of_row = (double *)rows.data + row * halves * half_row;
        for (size_t first = 0; first < tiles; first += STRIP_TILES) {
            size_t count = tiles - first < STRIP_TILES ? tiles - first : STRIP_TILES;
            for (size_t t = 0; t < frames; t++) {
                for (size_t y = 0; y < TILE + 2; y++) {
                    size_t line = (t * (size_t)height + (size_t)segment->top + row * TILE + y) * (size_t)width;
                    load(movie, line + first * TILE, count * TILE + 2, segment->pedestal, s->frame[t] + y * WIDE);
                }
            }
            for (size_t half = 0; half < halves; half++) {
                sum_frames(length[half], (const float(*)[STRIP])s->frame + begin[half], s->total[half]);
            }
            for (size_t half = 0; half < halves; half++) {
                const float(*frame)[STRIP] = (const float(*)[STRIP])s->frame + begin[half];
                sum_residuals(s, length[half], frame);
                for (size_t t = 0; counting && t < length[half]; t++) {
                    count_cut(frame[t] + WIDE + 1, floor, ceiling, s->image[HIGH], s->image[LOW]);
                }
                weight_frames(length[half], frame, s->total[half], s->squares, s->cubes);
                weight_neighbours(s);
                size_t other = halves - 1 - half, residuals = length[half] - (length[half] == 2 ? 1 : 2);
                fill_instruments(s->total[other], (float)residuals / (float)length[other], s->image[Q],
                                 s->image[OWN]);
                sort_into_classes(s, count, halves == 1);
                fill_rows(s, count, length[half], counting, is_small(movie.type),
                          of_row + half * half_row + first * CLASSES * COLUMNS);
            }
        }
    }
    return ANSCOMBE_OK;
}

/* -- patches ------------------------------------------------------------------------------------------------------ */

#define PATCH ANSCOMBE_PATCH
#define INNER ANSCOMBE_PATCH_INNER
#define FAR 3
#define FIRST ((PATCH - INNER) / 2)
#define PATCH_IMAGES ANSCOMBE_PATCH_IMAGES

ANSCOMBE_LEVELS static void fill_patch(const float *restrict patch, float *restrict differences,
                                       float *restrict along_x, float *restrict along_y, float *restrict across,
                                       float *restrict itself) {
    for (size_t y = 0; y < INNER; y++) {
        const float *line = patch + (y + FIRST) * PATCH, *here = line + FIRST;
        const float *up = here - PATCH, *down = here + PATCH, *top = here - FAR * PATCH, *end = here + FAR * PATCH;
        const size_t to = y * INNER;
        float second[PATCH];
        for (size_t x = 0; x < PATCH; x++) {
            second[x] = 2 * line[x] - line[x - PATCH] - line[x + PATCH];
        }
        for (size_t x = 0; x < INNER; x++) {
            const float *s = second + FIRST + x;
            differences[to + x] = 2 * s[0] - s[-1] - s[1];
        }
        for (size_t x = 0; x < INNER; x++) {
            const float *c = here + x;
            along_x[to + x] = .5f * (c[-1] + c[1] - c[-FAR] - c[FAR]);
            along_y[to + x] = .5f * (up[x] + down[x] - top[x] - end[x]);
        }
        for (size_t x = 0; x < INNER; x++) {
            const float *u = up + x, *d = down + x, *t = top + x, *e = end + x;
            across[to + x] = .25f * ((u[-1] + u[1] + d[-1] + d[1]) - (t[-FAR] + t[FAR] + e[-FAR] + e[FAR]));
            itself[to + x] = here[x];
        }
    }
}

int anscombe_patch_images(anscombe_array patches, uint64_t count, uint64_t frames, anscombe_array images) {
    const size_t inner = INNER * INNER;
    if (!is_size(count) || !is_size(frames) || patches.type != ANSCOMBE_FLOAT32 || images.type != ANSCOMBE_FLOAT32 ||
        patches.size / (PATCH * PATCH) != count * frames || patches.size % (PATCH * PATCH) != 0 ||
        images.size / inner / PATCH_IMAGES != count * frames || images.size % (inner * PATCH_IMAGES) != 0) {
        return ANSCOMBE_BAD_ARGUMENT;
    }
    const size_t step = (size_t)frames * inner;
    for (size_t k = 0; k < count; k++) {
        for (size_t t = 0; t < frames; t++) {
            float *to = (float *)images.data + k * PATCH_IMAGES * step + t * inner;
            fill_patch((const float *)patches.data + (k * (size_t)frames + t) * PATCH * PATCH, to, to + step,
                       to + 2 * step, to + 3 * step, to + 4 * step);
        }
    }
    return ANSCOMBE_OK;
}
