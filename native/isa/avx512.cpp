// The kernels for AVX-512 F, BW, DQ and VL: Skylake servers.
#define HW_ISA_AVX512 1
#define HW_ISA_NAME avx512
#include "../kernels/all.h"

namespace headway {
extern const Kernels kernels_avx512;
const Kernels kernels_avx512 = HW_KERNELS("avx512");
}  // namespace headway
