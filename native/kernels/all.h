// Every kernel, compiled for one instruction set: included once by each file in isa/, which says
// which. The kernels' files include nothing themselves, so that all of them land in one namespace.
#include <math.h>
#include <stdint.h>
#include <string.h>

#include <algorithm>
#include <atomic>
#if defined(HW_ISA_AVX512) || defined(HW_ISA_AVX2)
#include <immintrin.h>
#endif

#include "table.h"

#define HW_INLINE static inline __attribute__((always_inline))
#define HW_INLINE_LAMBDA __attribute__((always_inline))
#define HW_MEMBER inline __attribute__((always_inline))

namespace headway {
namespace HW_ISA_NAME {

#include "../vec/vec.h"
#include "scalar.h"
#include "linear.h"
#include "rows.h"
#include "heads.h"
#include "attention.h"
#include "philox.h"
#include "choose.h"
#include "limits.h"

}  // namespace HW_ISA_NAME
}  // namespace headway

#define HW_IN(function) headway::HW_ISA_NAME::function
#define HW_KERNELS(name)                                                                   \
  {                                                                                        \
    name, HW_IN(embed), HW_IN(norm), HW_IN(convert), HW_IN(route), HW_IN(mix),             \
        HW_IN(linear), HW_IN(head), HW_IN(heads_rows), HW_IN(attend_item),                 \
        HW_IN(attend_merge), HW_IN(choose), HW_IN(choose_scratch_bytes), HW_IN(exert),     \
        HW_IN(read_all)                                                                    \
  }
