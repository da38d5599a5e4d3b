/* CRC-32 as in zlib: by the processor's own instructions where it has them, else eight bytes at a time by tables, and
 * what is short four bits at a time.
 *
 * Folding and its constants: Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ
 * Instruction", Intel, 2009. Tables: Kounavis and Berry, "A Systematic Approach to Building High Performance
 * Software-Based CRC Generators", Proc. ISCC, 2005.
 */
#include "anscombe.h"
#include "dispatch.h"

#include <string.h>

/* Remainders of the 16 values of four bits, for the reflected polynomial 0xEDB88320. */
static const uint32_t NIBBLES[16] = {
    0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
    0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
};

static uint32_t crc_of_byte(uint32_t crc) {
    crc = crc >> 4 ^ NIBBLES[crc & 15];
    return crc >> 4 ^ NIBBLES[crc & 15];
}

/* Tables of 8 KiB are made anew for every call: it takes as long as a few hundred bytes four bits at a time. */
enum { SHORT_BYTES = 2048 };

static uint32_t crc_by_tables(uint32_t crc, const uint8_t *data, size_t bytes) {
    uint32_t table[8][256];
    for (uint32_t value = 0; value < 256; value++) {
        table[0][value] = crc_of_byte(value);
    }
    for (int later = 1; later < 8; later++) {
        for (int value = 0; value < 256; value++) {
            uint32_t before = table[later - 1][value];
            table[later][value] = before >> 8 ^ table[0][before & 255];
        }
    }
    for (size_t at = 0; at < bytes; at += 8) {
        const uint8_t *b = data + at;
        crc ^= b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
        crc = table[7][crc & 255] ^ table[6][crc >> 8 & 255] ^ table[5][crc >> 16 & 255] ^ table[4][crc >> 24] ^
              table[3][b[4]] ^ table[2][b[5]] ^ table[1][b[6]] ^ table[0][b[7]];
    }
    return crc;
}

static uint32_t crc_plain(uint32_t crc, const uint8_t *data, size_t bytes) {
    if (bytes >= SHORT_BYTES) {
        size_t whole = bytes - bytes % 8;
        crc = crc_by_tables(crc, data, whole);
        data += whole;
        bytes -= whole;
    }
    for (size_t i = 0; i < bytes; i++) {
        crc = crc_of_byte(crc ^ data[i]);
    }
    return crc;
}

#if ANSCOMBE_X86
#include <immintrin.h>

#define CRC_BLOCK 64

__attribute__((target("pclmul,sse4.1"))) static inline __m128i fold(__m128i value, __m128i powers, __m128i next) {
    __m128i low = _mm_clmulepi64_si128(value, powers, 0x00);
    __m128i high = _mm_clmulepi64_si128(value, powers, 0x11);
    return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

/* Remainder of whole blocks of 64 bytes, at least one. */
__attribute__((target("pclmul,sse4.1"))) static uint32_t crc_blocks(uint32_t crc, const uint8_t *data, size_t bytes) {
    const __m128i by_512 = _mm_set_epi64x(0x01c6e41596, 0x0154442bd4);
    const __m128i by_128 = _mm_set_epi64x(0x00ccaa009e, 0x01751997d0);
    __m128i lane[4];
    for (int i = 0; i < 4; i++) {
        lane[i] = _mm_loadu_si128((const __m128i *)data + i);
    }
    lane[0] = _mm_xor_si128(lane[0], _mm_cvtsi32_si128((int)crc));
    for (size_t at = CRC_BLOCK; at < bytes; at += CRC_BLOCK) {
        for (int i = 0; i < 4; i++) {
            lane[i] = fold(lane[i], by_512, _mm_loadu_si128((const __m128i *)(data + at) + i));
        }
    }
    __m128i all = lane[0];
    for (int i = 1; i < 4; i++) {
        all = fold(all, by_128, lane[i]);
    }
    /* 128 bits to 64, to 32, and Barrett's reduction. */
    const __m128i low_word = _mm_setr_epi32(-1, 0, -1, 0);
    all = _mm_xor_si128(_mm_srli_si128(all, 8), _mm_clmulepi64_si128(all, by_128, 0x10));
    __m128i word = _mm_and_si128(all, low_word);
    all = _mm_xor_si128(_mm_srli_si128(all, 4), _mm_clmulepi64_si128(word, _mm_set_epi64x(0, 0x0163cd6124), 0x00));
    const __m128i barrett = _mm_set_epi64x(0x01f7011641, 0x01db710641);
    word = _mm_clmulepi64_si128(_mm_and_si128(all, low_word), barrett, 0x10);
    word = _mm_clmulepi64_si128(_mm_and_si128(word, low_word), barrett, 0x00);
    return (uint32_t)_mm_extract_epi32(_mm_xor_si128(all, word), 1);
}
#elif defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>

#define CRC_BLOCK 8

static uint32_t crc_blocks(uint32_t crc, const uint8_t *data, size_t bytes) {
    for (size_t at = 0; at < bytes; at += CRC_BLOCK) {
        uint64_t word;
        memcpy(&word, data + at, sizeof word);
        crc = __crc32d(crc, word);
    }
    return crc;
}
#endif

uint32_t anscombe_crc32(uint32_t crc, const void *memory, size_t bytes) {
    const uint8_t *data = memory;
    crc = ~crc;
#ifdef CRC_BLOCK
    size_t whole = bytes - bytes % CRC_BLOCK;
#if ANSCOMBE_X86
    if (!__builtin_cpu_supports("pclmul") || !__builtin_cpu_supports("sse4.1")) {
        whole = 0;
    }
#endif
    if (whole > 0) {
        crc = crc_blocks(crc, data, whole);
        data += whole;
        bytes -= whole;
    }
#endif
    return ~crc_plain(crc, data, bytes);
}
