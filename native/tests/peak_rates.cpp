// Measuring: the work that is timed is really done, to the last product and byte, with every
// instruction set. How fast it is depends on the machine and is not tested.
#include <math.h>

#include "peak_rates.h"
#include "samples.h"

using check::Block;
using headway::Kernels;
using headway::Pool;

TEST(every_operation_that_counts_is_computed) {
  for (const Kernels* kernels : samples::kernels()) {
    for (int32_t format : {HW_FLOAT32, HW_BFLOAT16, HW_INT8, HW_INT4}) {
      for (int64_t rounds : {1, 7, 1000}) {
        double products = -1;
        const int64_t operations = kernels->fma_loop(format, rounds, &products);
        CHECK(operations > 0);
        CHECK_EQUAL(operations % rounds, 0);
        // Each product is 1, and is two operations.
        CHECK_EQUAL(static_cast<int64_t>(2 * products), operations);
      }
    }
  }
}

TEST(every_byte_is_read_and_none_beyond) {
  check::Random random{3};
  for (const Kernels* kernels : samples::kernels()) {
    for (size_t lines : {1, 2, 5, 64}) {
      Block<int32_t> data(64 * lines);
      int32_t sum = 0;
      for (size_t n = 0; n < data.size; ++n) sum += data[n] = random.below(1000) - 500;
      const uint8_t* bytes = reinterpret_cast<const uint8_t*>(data.data);
      CHECK_EQUAL(kernels->read_loop(bytes, static_cast<int64_t>(256 * lines)), sum);
    }
  }
}

TEST(measuring_gives_a_rate_with_any_number_of_threads) {
  for (int threads : {1, 3}) {
    Pool pool(threads, nullptr);
    for (const Kernels* kernels : samples::kernels()) {
      const double rate = headway::measure_flops(pool, *kernels, HW_INT8, 0.003);
      CHECK(rate > 0 && isfinite(rate));
      const double bandwidth = headway::measure_bandwidth(pool, *kernels, 3 << 20, 0.003);
      CHECK(bandwidth > 0 && isfinite(bandwidth));
    }
  }
}

TEST(what_cannot_be_measured_is_said) {
  hw_pool* pool = hw_pool_create(1, nullptr);
  CHECK_EQUAL(hw_measure_flops(pool, "abacus", HW_INT8, 0.001), -1);
  CHECK_EQUAL(hw_measure_flops(pool, "portable", HW_INT4 + 1, 0.001), -1);
  CHECK_EQUAL(hw_measure_flops(pool, "portable", -1, 0.001), -1);
  CHECK_EQUAL(hw_measure_bandwidth(pool, "abacus", 1 << 20, 0.001), -1);
  CHECK_EQUAL(hw_measure_bandwidth(pool, "portable", 1000, 0.001), -1);
  hw_pool_destroy(pool);
}
