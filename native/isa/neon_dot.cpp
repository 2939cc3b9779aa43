// The kernels for Arm's NEON with dot products: Cortex-A76, Neoverse N1, Apple M1.
#define HW_ISA_NEON 1
#define HW_ISA_NAME neon_dot
#include "../kernels/all.h"

namespace headway {
extern const Kernels kernels_neon_dot;
const Kernels kernels_neon_dot = HW_KERNELS("neon_dot");
}  // namespace headway
