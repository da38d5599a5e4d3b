/* What the decoder uses of the C library, as instructions of WebAssembly (bulk memory). */
#ifndef ANSCOMBE_WASM_STRING_H
#define ANSCOMBE_WASM_STRING_H

#include <stddef.h>

#define memcpy __builtin_memcpy
#define memmove __builtin_memmove
#define memset __builtin_memset
#define memcmp __builtin_memcmp

#endif
