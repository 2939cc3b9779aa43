// The pool under stress: every item of every loop is done exactly once, what one loop wrote the
// next one sees, and nothing hangs, with fewer and with many more threads than cores.
#include "threads.h"

#include <atomic>
#include <chrono>
#include <thread>

#include "testing.h"

using headway::Pool;
using headway::Worker;

namespace {

// Loops of changing size in which each item adds to what its neighbours were after the loop before:
// a worker that starts a loop too early reads a number that is not finished.
void run_chain(Pool& pool, int64_t items, int64_t least, int loops) {
  std::vector<int64_t> even(items, 0), odd(items, 0);
  pool.run(loops, [&](Worker& worker) {
    for (int n = 0; n < loops; ++n) {
      const std::vector<int64_t>& from = n % 2 == 0 ? even : odd;
      std::vector<int64_t>& to = n % 2 == 0 ? odd : even;
      worker.loop(items, least, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) to[i] = from[(i + items / 2) % items] + 1;
      });
    }
  });
  const std::vector<int64_t>& last = loops % 2 == 0 ? even : odd;
  int64_t wrong = 0;
  for (int64_t value : last) wrong += value != loops;
  CHECK_EQUAL(wrong, 0);
}

}  // namespace

TEST(each_item_once_in_runs_of_the_least_length) {
  for (int threads : {1, 2, 3, 8}) {
    Pool pool(threads, nullptr);
    CHECK_EQUAL(pool.threads(), threads);
    for (int64_t items : {1, 2, 5, 64, 1000}) {
      for (int64_t least : {1, 7, 2000}) {
        std::vector<std::atomic<int>> done(items);
        std::atomic<int> short_runs{0};
        pool.run(1, [&](Worker& worker) {
          worker.loop(items, least, [&](int64_t begin, int64_t end) {
            if (end - begin < least && end != items) ++short_runs;
            for (int64_t i = begin; i < end; ++i) ++done[i];
          });
        });
        int64_t wrong = 0;
        for (const std::atomic<int>& count : done) wrong += count != 1;
        CHECK_EQUAL(wrong, 0);
        CHECK_EQUAL(short_runs.load(), 0);
      }
    }
  }
}

TEST(every_worker_runs_the_job_once) {
  Pool pool(5, nullptr);
  for (int round = 0; round < 200; ++round) {
    std::vector<std::atomic<int>> seen(5);
    pool.run(0, [&](Worker& worker) { ++seen[worker.index()]; });
    for (const std::atomic<int>& count : seen) CHECK_EQUAL(count.load(), 1);
  }
}

TEST(loops_follow_one_another) {
  for (int threads : {1, 2, 3, 16}) {
    Pool pool(threads, nullptr);
    run_chain(pool, 1, 1, 200);  // fewer items than workers
    run_chain(pool, 37, 1, 5000);
    run_chain(pool, 4096, 8, 1000);
  }
}

TEST(empty_loops_are_passed) {
  Pool pool(4, nullptr);
  std::atomic<int64_t> sum{0};
  pool.run(300, [&](Worker& worker) {
    for (int64_t n = 0; n < 300; ++n) {
      worker.loop(n % 3 == 0 ? 0 : n, 1, [&](int64_t begin, int64_t end) { sum += end - begin; });
    }
  });
  CHECK_EQUAL(sum.load(), 299 * 300 / 2 - 3 * (99 * 100 / 2));
}

TEST(many_short_jobs_after_one_another) {
  for (int threads : {2, 3, 12}) {
    Pool pool(threads, nullptr);
    for (int round = 0; round < 2000; ++round) run_chain(pool, 1 + round % 9, 1, 1 + round % 5);
  }
}

TEST(sleeping_workers_wake_up) {
  Pool pool(4, nullptr);
  for (int round = 0; round < 20; ++round) {
    // Longer than any spinning lasts, between jobs and within a loop.
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
    std::atomic<int64_t> sum{0};
    pool.run(2, [&](Worker& worker) {
      worker.loop(4, 1, [&](int64_t begin, int64_t end) {
        if (begin == 0) std::this_thread::sleep_for(std::chrono::milliseconds(3));
        sum += end - begin;
      });
      worker.loop(7, 1, [&](int64_t begin, int64_t end) { sum += end - begin; });
    });
    CHECK_EQUAL(sum.load(), 11);
  }
}

TEST(pools_come_and_go) {
  for (int round = 0; round < 100; ++round) {
    Pool pool(1 + round % 7, nullptr);
    if (round % 3 != 0) run_chain(pool, 10, 1, 3);
  }
}

TEST(pinned_workers_work) {
  const int32_t cpus[3] = {0, 0, 0};
  Pool pool(3, cpus);
  run_chain(pool, 100, 1, 50);
}

TEST(two_pools_at_the_same_time) {
  std::thread other([] {
    Pool pool(3, nullptr);
    for (int round = 0; round < 50; ++round) run_chain(pool, 33, 1, 20);
  });
  Pool pool(3, nullptr);
  for (int round = 0; round < 50; ++round) run_chain(pool, 33, 1, 20);
  other.join();
}
