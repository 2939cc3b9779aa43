// The kernels for NEON with products of matrices of bytes (I8MM) and of bfloat16: Neoverse V1 and
// N2, Apple M2.
#define HW_ISA_NEON 1
#define HW_ISA_I8MM 1
#define HW_ISA_NAME neon_i8mm
#include "../kernels/all.h"

namespace headway {
extern const Kernels kernels_neon_i8mm;
const Kernels kernels_neon_i8mm = HW_KERNELS("neon_i8mm");
}  // namespace headway
