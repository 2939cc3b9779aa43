// What every file of vec/ and kernels/ begins with: the instruction set to compile for, as the file
// of isa/ that includes them has set it, and how functions are inlined.
//
// An instruction set's code lies in a namespace of its name, so that one library holds several. An
// editor that opens a header alone sees the portable one.
#ifndef HEADWAY_ISA_H
#define HEADWAY_ISA_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#ifndef HW_ISA_NAME
#define HW_ISA_NAME portable
#endif

#define HW_INLINE static inline __attribute__((always_inline))
#define HW_INLINE_LAMBDA __attribute__((always_inline))
#define HW_MEMBER inline __attribute__((always_inline))

#endif
