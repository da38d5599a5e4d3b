/* libanscombe: the native core of anscombe-transform, and its only public header.
 *
 * Portable C11 without dependencies. All functions are reentrant and keep no state; none allocates. Arrays are
 * flat, contiguous and of native byte order; a size is a number of items unless it is said to be of bytes.
 * Every function checks the sizes it is given before it touches memory and returns ANSCOMBE_BAD_ARGUMENT if
 * they do not fit. `reference.py` has the same functions in numpy: they are the definition.
 */
#ifndef ANSCOMBE_H
#define ANSCOMBE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    ANSCOMBE_OK = 0,
    ANSCOMBE_BAD_ARGUMENT = -1,
    ANSCOMBE_DAMAGED = -2, /* bytes that are not what was written, or of another shape */
    ANSCOMBE_UNKNOWN = -3, /* bytes that a newer version wrote */
};

/* A flat, contiguous array of native byte order. */
typedef enum {
    ANSCOMBE_INT8, ANSCOMBE_INT16, ANSCOMBE_INT32, ANSCOMBE_INT64,
    ANSCOMBE_UINT8, ANSCOMBE_UINT16, ANSCOMBE_UINT32, ANSCOMBE_UINT64,
    ANSCOMBE_FLOAT32, ANSCOMBE_FLOAT64,
    ANSCOMBE_OTHER_TYPE,
} anscombe_type;

typedef struct {
    void *data;
    size_t size;
    anscombe_type type;
} anscombe_array;

/* The type of items that Python's buffer protocol describes by a format and their bytes. */
anscombe_type anscombe_type_of(const char *format, size_t itemsize);

/* -- transform.c: signals to codes and back ------------------------------------------------------------------ */

/* The cells of signals: even along the curve that a detector's noise makes. The cell of x is the whole part of
 *     scale * sqrt(max(n, 0) + constant) + slope * min(n, 0) + offset,    n = (x - zero) * per_gain. */
typedef struct {
    double zero, per_gain, constant, scale, slope, offset;
} anscombe_cells;

/* Codes of one byte by estimate: the code of a signal is the first of its cell, or the next above the last signal of
 * that. */
typedef struct {
    float numbers[6];
    uint8_t first[256], last[2][256];
} anscombe_estimate;

/* Fill `estimate` for signals of 16 bits. Returns 1 if it gives every code of `table`, of each of the 65536 signals, on
 * this machine; 0 if it does not, or if looking codes up is as fast. */
int anscombe_estimate_codes(int is_signed, anscombe_array table, const anscombe_cells *cells,
                            anscombe_estimate *estimate);

/* Codes of integers of at most 16 bits by look-up: table[pattern], the pattern being the value's bits.
 *
 * `table` has 256 or 65536 codes, of the type of `codes` (uint8 or uint16). `estimate` is that of the table, or NULL
 * where there is none. `ends` receives the smallest and the largest signal; of no signals, nothing. */
int anscombe_encode_table(anscombe_array signal, anscombe_array table, const anscombe_estimate *estimate,
                          anscombe_array codes, int64_t ends[2]);

/* Codes of signals of any type by comparison with the edges of bins, exact.
 *
 * The code of x is the number of `edges` between the first and the last, both left out, that are <= x. `edges` are
 * increasing and of float64, or of float32 for signals of float32. NaN gets `nan_code`; if that is < 0 it has no
 * code. `cells` and `guess` come from anscombe_guess_codes. `wrong` receives the index of the first signal without
 * a code, that is outside edges[0] <= x < edges[last] or NaN, and of the first of those that no clipping mends (NaN
 * and infinities); the number of signals where there is none. Those of the first kind get the nearest code. */
int anscombe_encode_edges(anscombe_array signal, anscombe_array edges, const anscombe_cells *cells,
                          anscombe_array guess, int depth, int nan_code, anscombe_array codes, size_t wrong[2]);

/* Fill `guess` (uint16): for every cell of signals the smallest code in it. Returns how many edges lie in one cell
 * at most, or ANSCOMBE_BAD_ARGUMENT.
 *
 * Cells are found in the arithmetic of the type of `edges`. The result of encoding does not depend on them, only its
 * speed. */
int anscombe_guess_codes(anscombe_array edges, const anscombe_cells *cells, anscombe_array guess);

/* Values of codes (uint8 or uint16) by look-up in a table of the type of `values`, which has a value for each of the
 * 256 or 65536 codes. `largest` receives the largest code. */
int anscombe_decode_table(anscombe_array codes, anscombe_array table, anscombe_array values, uint32_t *largest);

/* Largest error |original - stored| of integers of at most 16 bits, and largest product of an error with
 * inverse_bound[pattern of the original] (float32, 256 or 65536 items). `stored` is of the same type or of float32. */
int anscombe_largest_errors(anscombe_array original, anscombe_array stored, anscombe_array inverse_bound,
                            float largest[2]);

/* CRC-32 of memory as in zlib (ISO-HDLC); `crc` is that of what came before, 0 at first. */
uint32_t anscombe_crc32(uint32_t crc, const void *data, size_t bytes);

/* -- noise_sums.c: what the calibration adds up ------------------------------------------------------------------- */

/* Consecutive frames of a movie, flat in C order, of any type.
 *
 * The field is cut into tiles of 8 x 8 pixels that begin one pixel from its edge, and the frames, if they are six or
 * more, into two halves. The pixels of a tile are sorted into 4 classes of 16 by rank of q, ties in order of
 * position; where there is one half only, those of the tile's even lines into classes 0, 1 and those of its odd lines
 * into 2, 3, so that no pixel's diagonal neighbours are of its own class. Ranks are by the upper 26 bits of float32.
 *
 * `tile_rows` rows of tiles are summed; the first begins below row `top` of the frames. `pedestal` is taken off
 * before values are rounded to float32, and is 0 for integers of at most 16 bits. */
typedef struct {
    uint64_t frames, height, width, top, tile_rows;
    double pedestal, floor, ceiling;
} anscombe_noise_segment;

enum { ANSCOMBE_NOISE_TILE = 8, ANSCOMBE_NOISE_CLASSES = 4, ANSCOMBE_NOISE_COLUMNS = 21 };

/* Bytes of scratch that anscombe_sum_noise needs for so many frames. */
int64_t anscombe_noise_scratch(uint64_t frames);

/* Fill `rows` (float64: row of tiles, half, column of tiles, class, column) with sums over the pixels of a class.
 *
 * With L the frames of the half, x their values less the pedestal, R = L - 2 the residuals of a pixel (1 of two
 * frames), and Σ over the pixels, the columns are
 *     n                   16 R
 *     q, own              Σ R × mean over the frames of the other half (of the same one where there is one) of the mean
 *                         of the four diagonal neighbours, and of the pixel itself
 *     x_f, y_f            Σ Σt Σj wj² xj / Σ w² and Σ Σt r² / Σ w² of residuals r = Σj wj xj, for f = t, ty, tx, txy
 *     x3_f, y3_f          Σ Σt Σj wj³ xj / Σ w³ and Σ Σt r³ / Σ w³, for the same filters (of two frames x_f, and of no
 *                         meaning)
 *     high, low           R / L × samples >= ceiling, and <= floor; 0 where both are infinite
 * in this order. Weights are the products of [1, -2, 1] in time ([1, -1] of two frames) with [1, -2, 1] along every
 * further axis of f. Sums are of float32: over time in pairs, over a tile folded in halves, rows first. Every number
 * is written; a row with a sum that is not finite is 0 throughout. */
int anscombe_sum_noise(anscombe_array movie, const anscombe_noise_segment *segment, void *scratch,
                       size_t scratch_bytes, anscombe_array rows);

/* Images at the 26 x 26 inner pixels of patches of 32 x 32 (float32: patch, frame, pixel).
 *
 * `images` (float32: patch, 5, frame, pixel) receives second differences along y and x; means of the two neighbours
 * along x, of those along y and of the four diagonal ones, each less that of the pixels three times as far (the first
 * two times one half, the last times one quarter); and the pixel itself. */
enum { ANSCOMBE_PATCH = 32, ANSCOMBE_PATCH_INNER = 26, ANSCOMBE_PATCH_IMAGES = 5 };
int anscombe_patch_images(anscombe_array patches, uint64_t count, uint64_t frames, anscombe_array images);

/* --- The frame coder: chunks of movies of codes, format `anscombe_frames` ------------------------------------- */

/* Frames of `height` rows of `width` codes of one byte or two, in C order. */
typedef struct {
    uint64_t frames, height, width;
    int itemsize;
} anscombe_frames_shape;

/* Most bytes of a chunk, and bytes of scratch that encoding needs; an error if negative. `planes` consecutive frames
 * belong to one time: the frame before is so many frames before. */
int64_t anscombe_frames_bound(const anscombe_frames_shape *shape);
int64_t anscombe_frames_encode_scratch(const anscombe_frames_shape *shape, uint32_t planes);

/* Compress codes. `effort` is 0 (preset fast) or 1 (compact). Returns the bytes of the chunk, or an error. */
int64_t anscombe_frames_encode(const void *codes, const anscombe_frames_shape *shape, uint32_t planes, int effort,
                               void *chunk, size_t room, void *scratch, size_t scratch_bytes);

/* Bytes of scratch that decoding a chunk needs, once its checksum and sizes are right; an error if negative. */
int64_t anscombe_frames_decode_scratch(const void *chunk, size_t bytes, const anscombe_frames_shape *shape);

/* Decompress a chunk. Whatever the bytes are, nothing outside of `codes` and `scratch` is written, and codes are
 * whole where ANSCOMBE_OK is returned. */
int64_t anscombe_frames_decode(const void *chunk, size_t bytes, const anscombe_frames_shape *shape, void *codes,
                               void *scratch, size_t scratch_bytes);

#ifdef __cplusplus
}
#endif
#endif
