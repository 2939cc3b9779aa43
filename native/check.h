// Whether the parts of a program fit together, so that kernels need not ask.
#ifndef HEADWAY_CHECK_H
#define HEADWAY_CHECK_H

#include <vector>

#include "headway.h"

namespace headway {

// Throws std::invalid_argument that names the operation and what is wrong with it.
void check_program(const std::vector<hw_op>& ops, const std::vector<hw_matrix>& matrices,
                   const std::vector<hw_buffer>& buffers, const hw_cache& cache);

}  // namespace headway

#endif
