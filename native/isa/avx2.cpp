// The kernels for AVX2 with FMA and F16C: nearly every x86 processor since 2013.
#define HW_ISA_AVX2 1
#define HW_ISA_NAME avx2
#include "../kernels/all.h"

namespace headway {
extern const Kernels kernels_avx2;
const Kernels kernels_avx2 = HW_KERNELS("avx2");
}  // namespace headway
