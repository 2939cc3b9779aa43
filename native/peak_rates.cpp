// See measure.h.
#include "peak_rates.h"

#include <time.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <mutex>

#include "memory.h"

namespace headway {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kWindows = 6;
constexpr int64_t kRounds = 4096;
// What a worker reads at a time: too little to balance badly, enough to start seldom.
constexpr int64_t kPart = int64_t{1} << 18;

double since(Clock::time_point began) {
  return std::chrono::duration<double>(Clock::now() - began).count();
}

// Seconds that this thread has computed, without those in which others had its core.
double computed() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

}  // namespace

double measure_flops(Pool& pool, const Kernels& kernels, int32_t format, double seconds) {
  double best = 0;
  for (int n = 0; n < kWindows; ++n) {
    std::mutex mutex;
    double rate = 0;
    const Clock::time_point began = Clock::now();
    pool.run(0, [&](Worker&) {
      int64_t operations = 0;
      double products;
      const double before = computed();
      do {
        operations += kernels.fma_loop(format, kRounds, &products);
      } while (since(began) < seconds / kWindows);
      const double mine = static_cast<double>(operations) / (computed() - before);
      std::lock_guard<std::mutex> lock(mutex);
      rate += mine;
    });
    best = std::max(best, rate);
  }
  return best;
}

double measure_bandwidth(Pool& pool, const Kernels& kernels, int64_t bytes, double seconds) {
  Memory memory;
  memory.reserve(bytes);
  uint8_t* const data = static_cast<uint8_t*>(memory.data());
  const int64_t parts = bytes / kPart;
  // Pages that were never written all show the same empty one.
  pool.run(1, [&](Worker& worker) {
    worker.loop(parts, 1, [&](int64_t begin, int64_t end) {
      std::memset(data + begin * kPart, 0, static_cast<size_t>((end - begin) * kPart));
    });
  });
  double best = 0;
  const Clock::time_point first = Clock::now();
  do {
    std::atomic<int32_t> sum{0};
    const Clock::time_point began = Clock::now();
    pool.run(1, [&](Worker& worker) {
      worker.loop(parts, 1, [&](int64_t begin, int64_t end) {
        sum += kernels.read_loop(data + begin * kPart, (end - begin) * kPart);
      });
    });
    best = std::max(best, static_cast<double>(parts * kPart) / since(began));
  } while (since(first) < seconds);
  return best;
}

}  // namespace headway
