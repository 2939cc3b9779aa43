// The kernels for AVX-512 with VNNI and BF16: Zen 4, Cooper Lake, Sapphire Rapids.
#define HW_ISA_AVX512 1
#define HW_ISA_VNNI_BF16 1
#define HW_ISA_NAME avx512_bf16
#include "../kernels/all.h"

namespace headway {
extern const Kernels kernels_avx512_bf16;
const Kernels kernels_avx512_bf16 = HW_KERNELS("avx512_bf16");
}  // namespace headway
