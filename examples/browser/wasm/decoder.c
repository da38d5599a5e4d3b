/* The decoder of the frame coder as a WebAssembly module: libanscombe's functions, and where memory begins.
 *
 * The encoder's part of libanscombe is left out. Two of its functions are named by code that serves both ways, and
 * are never called when a chunk is decoded.
 */
#include "choose.h"

void keep_escape(coder *c, size_t place, uint16_t value) {
    (void)c, (void)place, (void)value;
    __builtin_trap();
}

void observe_strip(coder *c, const states *s, const prediction *p, const lines *l, size_t y, size_t count, bool first) {
    (void)c, (void)s, (void)p, (void)l, (void)y, (void)count, (void)first;
    __builtin_trap();
}

extern unsigned char __heap_base;

/* The first byte of memory that the caller may use. */
__attribute__((export_name("memory_begin"))) size_t memory_begin(void) { return (size_t)&__heap_base; }

/* A chunk of frames x height x width codes of one byte or two: bytes of scratch that decoding needs. */
__attribute__((export_name("scratch"))) int32_t scratch(const void *chunk, size_t bytes, uint32_t frames, uint32_t height,
                                                       uint32_t width, int itemsize) {
    anscombe_frames_shape shape = {frames, height, width, itemsize};
    int64_t found = anscombe_frames_decode_scratch(chunk, bytes, &shape);
    return found > INT32_MAX ? ANSCOMBE_BAD_ARGUMENT : (int32_t)found;
}

/* Decode a chunk into codes; ANSCOMBE_OK, or an error of anscombe.h. */
__attribute__((export_name("decode"))) int32_t decode(const void *chunk, size_t bytes, uint32_t frames, uint32_t height,
                                                      uint32_t width, int itemsize, void *codes, void *room,
                                                      size_t room_bytes) {
    anscombe_frames_shape shape = {frames, height, width, itemsize};
    return (int32_t)anscombe_frames_decode(chunk, bytes, &shape, codes, room, room_bytes);
}
