/* How a loop is compiled for several levels of x86-64 and the best is chosen when the library is loaded.
 *
 * Write plain loops that the compiler vectorises and mark their function ANSCOMBE_LEVELS; it has
 * to be static, since clang gives others a name that other files do not know. Where the linker has
 * no indirect functions (macOS, Windows, musl) and on other processors, the compiler's own target serves. What is
 * written in instructions of one level (ANSCOMBE_X86) asks the processor itself, there too.
 *
 * ANSCOMBE_MOST_LEVEL leaves out higher levels, for tests that all give the same: 4 has AVX-512, 3 AVX2, and 1 is
 * the compiler's own target with the plain coder.
 */
#ifndef ANSCOMBE_DISPATCH_H
#define ANSCOMBE_DISPATCH_H

#include <stdlib.h> /* defines __GLIBC__ where that is the C library */

#ifndef ANSCOMBE_MOST_LEVEL
#define ANSCOMBE_MOST_LEVEL 4
#endif

#if defined(ANSCOMBE_DISPATCH) && defined(__x86_64__) && defined(__GNUC__) && ANSCOMBE_MOST_LEVEL > 1
#define ANSCOMBE_X86 1
#else
#define ANSCOMBE_X86 0
#endif

#if ANSCOMBE_X86 && defined(__GLIBC__) && ANSCOMBE_MOST_LEVEL > 3
#define ANSCOMBE_LEVELS __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#elif ANSCOMBE_X86 && defined(__GLIBC__)
#define ANSCOMBE_LEVELS __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define ANSCOMBE_LEVELS
#endif

#endif
