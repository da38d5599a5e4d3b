// Decode one chunk of an array.
//
//     cc -std=c11 -O2 -I src/libanscombe examples/c/read_chunk.c src/libanscombe/*.c -lm -o read_chunk
//     read_chunk CHUNK TABLE FRAMES HEIGHT WIDTH > values.raw
//
/* CHUNK is a file of the store, such as movie.zarr/c/0/0/0, that the serializer anscombe_frames wrote from codes of
 * one byte. TABLE holds the value of every code as int16 in the machine's byte order: "decode_table" in the metadata,
 * or the middles of the bins (docs/reference/anscombe.md). Values go to standard output. */
#include "anscombe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned char *read_file(const char *name, size_t *bytes) {
    FILE *file = fopen(name, "rb");
    if (!file || fseek(file, 0, SEEK_END)) return NULL;
    *bytes = (size_t)ftell(file);
    rewind(file);
    unsigned char *content = malloc(*bytes + 1);
    if (content && fread(content, 1, *bytes, file) != *bytes) content = NULL;
    fclose(file);
    return content;
}

int main(int count, char **words) {
    if (count != 6) return fputs("read_chunk CHUNK TABLE FRAMES HEIGHT WIDTH\n", stderr), 2;
    size_t chunk_bytes, table_bytes;
    unsigned char *chunk = read_file(words[1], &chunk_bytes), *table = read_file(words[2], &table_bytes);
    if (!chunk || !table) return fputs("a file can't be read\n", stderr), 2;

    anscombe_frames_shape shape = {strtoull(words[3], NULL, 10), strtoull(words[4], NULL, 10),
                                   strtoull(words[5], NULL, 10), 1};
    size_t pixels = shape.frames * shape.height * shape.width;
    int64_t scratch_bytes = anscombe_frames_decode_scratch(chunk, chunk_bytes, &shape);
    if (scratch_bytes < 0) return fputs("the chunk is damaged, or has another shape\n", stderr), 1;

    void *codes = malloc(pixels), *values = malloc(2 * pixels), *scratch = malloc((size_t)scratch_bytes + 1);
    if (!codes || !values || !scratch) return fputs("no memory\n", stderr), 1;
    if (anscombe_frames_decode(chunk, chunk_bytes, &shape, codes, scratch, (size_t)scratch_bytes) != ANSCOMBE_OK)
        return fputs("the chunk is damaged\n", stderr), 1;

    uint32_t largest = 0;
    int16_t all[256] = {0}; /* the core looks codes up in a table of all that a byte can be */
    memcpy(all, table, table_bytes < sizeof all ? table_bytes : sizeof all);
    anscombe_array from = {codes, pixels, ANSCOMBE_UINT8}, by = {all, 256, ANSCOMBE_INT16},
                   to = {values, pixels, ANSCOMBE_INT16};
    if (anscombe_decode_table(from, by, to, &largest) != ANSCOMBE_OK || (pixels && largest >= table_bytes / 2))
        return fputs("a code has no value\n", stderr), 1;
    return fwrite(values, 2, pixels, stdout) == pixels ? 0 : 1;
}
