// Sixteen lanes at a time: the only place that knows instruction sets.
//
// F is sixteen floats, I sixteen int32 (or 64 raw bytes), M sixteen truths, D sixteen doubles. Each
// instruction set implements the same few functions, so that a kernel is written once and compiled
// for each. There are always sixteen lanes, and sums over lanes have one fixed order, so a result
// does not depend on how wide the machine's registers are. `math.h` adds what all have in common.
#ifndef HEADWAY_VEC_H
#define HEADWAY_VEC_H

#include "isa.h"

#if defined(HW_ISA_AVX512)
#include "avx512.h"
#elif defined(HW_ISA_AVX2)
#include "avx2.h"
#elif defined(HW_ISA_NEON)
#include "neon.h"
#else
#include "portable.h"
#endif

#endif
