// Measuring what the machine can do at most with all threads of a pool.
//
// Whatever else runs on the machine can only lower a figure, so the best of several short
// measurements counts, and of arithmetic only the time in which a thread had its core.
#ifndef HEADWAY_MEASURE_H
#define HEADWAY_MEASURE_H

#include <cstdint>

#include "kernels/tasks.h"
#include "threads.h"

namespace headway {

// Operations a second of the instruction that a format's products are made of.
double measure_flops(Pool& pool, const Kernels& kernels, int32_t format, double seconds);

// Bytes a second that are read from a piece of memory of this size, at least 1 MiB; it is written
// first, which takes several times as long as reading it once. Throws std::bad_alloc.
double measure_bandwidth(Pool& pool, const Kernels& kernels, int64_t bytes, double seconds);

}  // namespace headway

#endif
