// Sixteen lanes at a time: the only place that knows instruction sets.
//
// F is sixteen floats, I sixteen int32 (or 64 raw bytes), M sixteen truths. Each instruction set
// implements the same few functions, so that a kernel is written once and compiled for each. There
// are always sixteen lanes, and sums over lanes have one fixed order, so a result does not depend
// on how wide the machine's registers are. Included once per instruction set, inside its namespace.
#if defined(HW_ISA_AVX512)
#include "avx512.h"
#elif defined(HW_ISA_AVX2)
#include "avx2.h"
#else
#include "portable.h"
#endif
#include "math.h"

// To the second-level cache only: many more of these may be on their way than to the first.
HW_INLINE void fetch_soon(const void* p) { __builtin_prefetch(p, 0, 2); }
