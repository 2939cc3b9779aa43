// Every kernel, compiled for one instruction set: included once by each file in isa/, which says
// which by HW_ISA_NAME and the macros that vec.h looks at.
#ifndef HEADWAY_ALL_H
#define HEADWAY_ALL_H

#include "linear.h"
#include "rows.h"
#include "rope.h"
#include "attention.h"
#include "sample.h"
#include "peak_loops.h"
#include "tasks.h"

#define HW_IN(function) headway::HW_ISA_NAME::function
#define HW_KERNELS(name)                                                                   \
  {                                                                                        \
    name, HW_IN(embed), HW_IN(norm), HW_IN(convert), HW_IN(route), HW_IN(combine),             \
        HW_IN(linear), HW_IN(lm_head), HW_IN(rope_rows), HW_IN(attend_item),                 \
        HW_IN(attend_merge), HW_IN(sample), HW_IN(sample_scratch_bytes), HW_IN(fma_loop),     \
        HW_IN(read_loop)                                                                    \
  }

#endif
