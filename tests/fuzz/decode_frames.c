/* Any bytes as a chunk of the frame coder, with a right checksum, so that damage reaches the decoder.
 *
 * libFuzzer:  clang -std=c11 -g -O1 -fsanitize=fuzzer,address,undefined -Isrc/libanscombe tests/fuzz/decode_frames.c \
 *                 src/libanscombe/{frames,predict,rans,rans_avx512,choose,checksum}.c -lm -o fuzz && ./fuzz -max_total_time=60
 * By itself:  gcc with -DSTANDALONE and -fsanitize=address,undefined; encodes movies of many kinds, damages the chunks
 *             and decodes them: ./fuzz ROUNDS [SEED]
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

/* Decode with a checksum made right; the codes, or NULL where the chunk is refused. All memory has its exact size. */
static uint8_t *decode(const uint8_t *bytes, size_t count, const anscombe_frames_shape *s) {
    uint8_t *chunk = malloc(count), shape[16], *codes = NULL;
    memcpy(chunk, bytes, count);
    put_u32(shape, s->frames);
    put_u32(shape + 4, s->height);
    put_u32(shape + 8, s->width);
    put_u32(shape + 12, (uint64_t)s->itemsize);
    put_u32(chunk + count - 4, anscombe_crc32(anscombe_crc32(0, chunk, count - 4), shape, sizeof shape));
    int64_t needed = anscombe_frames_decode_scratch(chunk, count, s);
    if (needed >= 0) {
        uint8_t *scratch = malloc((size_t)needed + 1);
        memset(scratch, 0x5a, (size_t)needed);
        codes = malloc(s->frames * s->height * s->width * (size_t)s->itemsize);
        if (anscombe_frames_decode(chunk, count, s, codes, scratch, (size_t)needed) != ANSCOMBE_OK) {
            free(codes);
            codes = NULL;
        }
        free(scratch);
    }
    free(chunk);
    return codes;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 12) {
        return 0;
    }
    anscombe_frames_shape s = {1 + data[0] % 16, 1 + data[1] % 48, 1 + (data[2] | data[3] << 8) % 300, 1 + data[0] / 128};
    free(decode(data + 4, size - 4, &s));
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

int main(int count, char **arguments) {
    long rounds = count > 1 ? atol(arguments[1]) : 100, decoded = 0, refused = 0;
    state += count > 2 ? (uint64_t)atol(arguments[2]) : 0;
    for (long round = 0; round < rounds; round++) {
        anscombe_frames_shape s = {1 + draw(12), 1 + draw(40), 1 + draw(draw(4) ? 90 : 400), draw(3) ? 1 : 2};
        if (draw(20) == 0) {
            s = (anscombe_frames_shape){20, 100, 130, 1};
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
            free(back);
            free(hurt);
        }
        free(chunk);
        free(codes);
    }
    printf("%ld damaged chunks decoded to something, %ld were refused\n", decoded, refused);
    return 0;
}
#endif
