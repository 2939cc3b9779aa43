// The kernels for plain C++, for any processor.
#define HW_ISA_NAME portable
#include "../kernels/all.h"

namespace headway {
extern const Kernels kernels_portable;
const Kernels kernels_portable = HW_KERNELS("portable");
}  // namespace headway
