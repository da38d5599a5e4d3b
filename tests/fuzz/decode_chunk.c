/* Any bytes as a chunk of the frame coder, with a right checksum, so that damage reaches the decoder.
 *
 * With libFuzzer (clang -fsanitize=fuzzer) the input is four bytes of a shape and a chunk. With -DSTANDALONE, for
 * compilers without it, movies of many kinds are encoded, and their chunks decoded sound and damaged:
 *
 *     ./decode_chunk ROUNDS [SEED] [FOLDER]
 *
 * The last line is a checksum of all chunks and of all that was decoded, the same at every level of instructions.
 * In FOLDER the chunks are written as inputs for libFuzzer. tests/fuzz/run.sh builds and runs both.
 */
#include "anscombe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put_u32(uint8_t *at, uint64_t value) {
    for (int i = 0; i < 4; i++) {
        at[i] = (uint8_t)(value >> 8 * i);
    }
}

/* Decode with scratch that holds `filling`; the codes, or NULL where the chunk is refused. Memory has its exact size. */
static uint8_t *decode_with(int filling, const uint8_t *chunk, size_t count, const anscombe_frames_shape *s) {
    int64_t needed = anscombe_frames_decode_scratch(chunk, count, s);
    if (needed < 0) {
        return NULL;
    }
    uint8_t *scratch = malloc((size_t)needed + 1);
    size_t bytes = s->frames * s->height * s->width * (size_t)s->itemsize;
    uint8_t *codes = malloc(bytes);
    memset(scratch, filling, (size_t)needed);
    memset(codes, filling, bytes);
    if (anscombe_frames_decode(chunk, count, s, codes, scratch, (size_t)needed) != ANSCOMBE_OK) {
        free(codes);
        codes = NULL;
    }
    free(scratch);
    return codes;
}

/* The same with the checksum made right. What memory held before makes no difference. */
static uint8_t *decode(const uint8_t *bytes, size_t count, const anscombe_frames_shape *s) {
    uint8_t *chunk = malloc(count), shape[16];
    memcpy(chunk, bytes, count);
    put_u32(shape, s->frames);
    put_u32(shape + 4, s->height);
    put_u32(shape + 8, s->width);
    put_u32(shape + 12, (uint64_t)s->itemsize);
    put_u32(chunk + count - 4, anscombe_crc32(anscombe_crc32(0, chunk, count - 4), shape, sizeof shape));
    uint8_t *codes = decode_with(0x5a, chunk, count, s), *again = decode_with(0xff, chunk, count, s);
    if (!codes != !again || (codes && memcmp(codes, again, s->frames * s->height * s->width * (size_t)s->itemsize))) {
        printf("decoding depends on what memory held before\n");
        abort();
    }
    free(again);
    free(chunk);
    return codes;
}

enum { SHAPE_BYTES = 4, MOST_PIXELS = 1 << 16 };

static anscombe_frames_shape shape_of(const uint8_t *data) {
    return (anscombe_frames_shape){1 + (data[0] & 127), 1 + data[1], 1 + (data[2] | (data[3] & 15) << 8), 1 + data[0] / 128};
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < SHAPE_BYTES + 4) {
        return 0;
    }
    anscombe_frames_shape s = shape_of(data);
    if (s.frames * s.height * s.width <= MOST_PIXELS) {
        free(decode(data + SHAPE_BYTES, size - SHAPE_BYTES, &s));
    }
    return 0;
}

#ifdef STANDALONE
static uint64_t state = 88172645463325252u;

static uint32_t draw(uint32_t below) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16) % below;
}

static uint32_t draw_code(int kind, size_t at, size_t width) {
    switch (kind) {
    case 0: return draw(65536);
    case 1: return 40 + draw(5) + draw(5);
    case 2: return draw(2);
    case 3: return (uint32_t)(at % width) + draw(3);
    case 4: return 3 * draw(9);
    default: return 200 + 7 * draw(4) + (draw(50) == 0) * 700;
    }
}

static void write_input(const char *folder, long number, const anscombe_frames_shape *s, const uint8_t *chunk, size_t size) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%ld", folder, number);
    FILE *file = fopen(path, "wb");
    if (!file) {
        printf("%s cannot be written\n", path);
        exit(1);
    }
    const uint8_t shape[SHAPE_BYTES] = {(uint8_t)((s->frames - 1) | (s->itemsize == 2 ? 128 : 0)), (uint8_t)(s->height - 1),
                                        (uint8_t)(s->width - 1), (uint8_t)((s->width - 1) >> 8)};
    fwrite(shape, 1, sizeof shape, file);
    fwrite(chunk, 1, size, file);
    fclose(file);
}

/* The checksum of codes, the same on machines of any byte order. */
static uint32_t add_codes(uint32_t digest, const uint8_t *codes, size_t count, int itemsize) {
    for (size_t i = 0; i < count; i++) {
        uint32_t code = itemsize == 1 ? codes[i] : ((const uint16_t *)codes)[i];
        const uint8_t bytes[2] = {(uint8_t)code, (uint8_t)(code >> 8)};
        digest = anscombe_crc32(digest, bytes, sizeof bytes);
    }
    return digest;
}

int main(int count, char **arguments) {
    long rounds = count > 1 ? atol(arguments[1]) : 100, decoded = 0, refused = 0;
    state += count > 2 ? (uint64_t)atol(arguments[2]) : 0;
    uint32_t digest = 0;
    for (long round = 0; round < rounds; round++) {
        anscombe_frames_shape s = {1 + draw(12), 1 + draw(40), 1 + draw(draw(4) ? 90 : 400), draw(3) ? 1 : 2};
        if (draw(20) == 0) {
            s = (anscombe_frames_shape){20, 100, 130, 1 + (int)draw(2)};
        }
        size_t pixels = s.frames * s.height * s.width, bytes = pixels * (size_t)s.itemsize;
        uint8_t *codes = malloc(bytes);
        int kind = (int)draw(6), effort = (int)draw(2);
        uint32_t planes = 1 + draw(3);
        for (size_t i = 0; i < pixels; i++) {
            uint32_t code = draw_code(kind, i, s.width);
            if (s.itemsize == 1) {
                codes[i] = (uint8_t)code;
            } else {
                ((uint16_t *)codes)[i] = (uint16_t)code;
            }
        }
        size_t room = (size_t)anscombe_frames_bound(&s), needed = (size_t)anscombe_frames_encode_scratch(&s, planes);
        uint8_t *chunk = malloc(room), *scratch = malloc(needed);
        int64_t size = anscombe_frames_encode(codes, &s, planes, effort, chunk, room, scratch, needed);
        free(scratch);
        uint8_t *back = size > 0 ? decode(chunk, (size_t)size, &s) : NULL;
        if (!back || memcmp(back, codes, bytes)) {
            printf("round %ld is not lossless\n", round);
            return 1;
        }
        free(back);
        digest = anscombe_crc32(digest, chunk, (size_t)size);
        if (count > 3) {
            write_input(arguments[3], round, &s, chunk, (size_t)size);
        }
        for (int damage = 0; damage < 12; damage++) {
            uint8_t *hurt = malloc((size_t)size);
            memcpy(hurt, chunk, (size_t)size);
            for (uint32_t hits = 1 + draw(3); hits > 0; hits--) {
                uint32_t most = draw(3) && size > 120 ? 120 : (uint32_t)size;
                hurt[draw(most)] = (uint8_t)draw(256);
            }
            size_t kept = (size_t)size - (draw(5) == 0 && size > 16 ? draw(8) : 0);
            back = decode(hurt, kept, &s);
            decoded += back != NULL;
            refused += back == NULL;
            digest = back ? add_codes(digest, back, pixels, s.itemsize) : digest + 1;
            free(back);
            free(hurt);
        }
        free(chunk);
        free(codes);
    }
    printf("%ld damaged chunks decoded to something, %ld were refused\n%08x\n", decoded, refused, (unsigned)digest);
    return 0;
}
#endif
