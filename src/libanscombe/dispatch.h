/* How a loop is compiled for several levels of x86-64 and the best is chosen when the library is loaded.
 *
 * Write plain loops that the compiler vectorises and mark their function ANSCOMBE_LEVELS. Where the linker has
 * no indirect functions (macOS, Windows) and on other processors, the compiler's own target serves.
 */
#ifndef ANSCOMBE_DISPATCH_H
#define ANSCOMBE_DISPATCH_H

#if defined(ANSCOMBE_DISPATCH) && defined(__x86_64__) && defined(__linux__) && defined(__GNUC__)
#define ANSCOMBE_X86 1
#define ANSCOMBE_LEVELS __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define ANSCOMBE_X86 0
#define ANSCOMBE_LEVELS
#endif

#endif
