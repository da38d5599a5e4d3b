/* The HDF5 filter on parameters and chunks that were changed at random: it may refuse them, and nothing else.
 *
 *     cc -fsanitize=address,undefined -Isrc/libanscombe tests/fuzz/filter_hdf5.c src/libanscombe/*.c -lm
 *     ./a.out 20
 *
 * (without src/libanscombe/hdf5_filter.c, which is included here). */
#include "hdf5_filter.c"

#include <stdio.h>

static uint64_t state = 88172645463325252u;

static uint32_t draw(uint32_t below) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32) % below;
}

/* 40 codes of integers from -3 on, odd widths that grow: a difference of 2 every fourth code. */
static size_t write_parameters(unsigned *words, anscombe_type type, int codes_bytes) {
    const double step = 1;
    uint64_t bits;
    memset(words, 0, 64 * sizeof *words);
    words[0] = LAYOUT;
    words[1] = (unsigned)type | (unsigned)codes_bytes << 16 | draw(2) << 8;
    words[2] = draw(2) | draw(2) << 8;
    words[3] = 5, words[4] = 9, words[5] = 11, words[6] = 1, words[7] = 40;
    memcpy(&bits, &step, sizeof bits);
    words[8] = (unsigned)bits, words[9] = (unsigned)(bits >> 32);
    words[10] = 0xfffffffd, words[11] = 0xffffffff;
    words[20] = 1, words[22] = 2;
    size_t at = 0;
    for (int q = 0; q < 40; q++) {
        if (q % 4 == 3) {
            at += 1;                                    /* 2 of order 0 is 011 */
            words[WORDS + at / 32] |= 1u << at % 32, at++;
            words[WORDS + at / 32] |= 1u << at % 32, at++;
        } else {
            words[WORDS + at / 32] |= 1u << at % 32, at++;
        }
    }
    return WORDS + 3;
}

static int check(anscombe_type type, int codes_bytes, int rounds) {
    unsigned words[64], changed[64];
    const size_t count = write_parameters(words, type, codes_bytes), size = 5 * 9 * 11;
    const size_t bytes = size * ITEM_BYTES[type];
    int refused = 0;
    for (int round = 0; round < rounds * 50; round++) {
        size_t room = bytes;
        void *buffer = calloc(size, ITEM_BYTES[type]);
        for (size_t i = 0; i < size && type != ANSCOMBE_FLOAT32 && type != ANSCOMBE_FLOAT64; i++) {
            ((uint8_t *)buffer)[words[1] >> 8 & 1 ? (i + 1) * ITEM_BYTES[type] - 1 : i * ITEM_BYTES[type]] = (uint8_t)draw(90);
        }
        size_t stored = filter(0, count, words, bytes, &room, &buffer);
        if (stored == 0) {
            printf("type %d: a chunk was refused\n", type);
            return 1;
        }
        memcpy(changed, words, sizeof changed);
        const uint32_t kind = draw(4);
        if (kind == 0) {
            changed[draw((uint32_t)count)] ^= 1u << draw(32);
        } else if (kind == 1) {
            changed[draw((uint32_t)count)] = draw(0xffffffff);
        } else if (kind == 2) {
            ((uint8_t *)buffer)[draw((uint32_t)stored)] ^= (uint8_t)(1 + draw(255));
        } else {
            stored = draw((uint32_t)stored);
        }
        size_t found = filter(REVERSE, kind == 3 ? count : draw(8) ? count : draw((uint32_t)count), changed, stored, &room, &buffer);
        refused += found == 0;
        if (kind >= 2 && found != 0) {
            printf("type %d: a damaged chunk was decoded\n", type);
            return 1;
        }
        if (found != 0) {
            filter(0, count, changed, found, &room, &buffer);
        }
        free(buffer);
    }
    return refused == 0;
}

int main(int argc, char **argv) {
    const int rounds = argc > 1 ? atoi(argv[1]) : 20;
    for (int type = 0; type <= ANSCOMBE_FLOAT64; type++) {
        for (int codes_bytes = 1; codes_bytes <= 2; codes_bytes++) {
            if (check((anscombe_type)type, codes_bytes, rounds)) {
                return 1;
            }
        }
    }
    return 0;
}
