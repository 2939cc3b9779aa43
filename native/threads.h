// A pool of threads that walk through a list of loops together.
//
// All workers call the same function and meet in its loops: each loop's items are taken in small
// runs from a shared counter, so that a worker which loses its core delays the others by at most
// the run it holds. Workers wait for each other spinning for some microseconds, and then sleep,
// which gives their core to whoever is needed.
#ifndef HEADWAY_THREADS_H
#define HEADWAY_THREADS_H

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace headway {

class Pool;

constexpr int64_t kMostGrains = 32;

// One worker's way through the loops of a job.
class Worker {
 public:
  int index() const { return index_; }

  // Calls body(begin, end) until all `items` have been done by somebody, and returns when they
  // have. Every worker of the job must come to the same loops in the same order, with the same
  // `items`. No run is shorter than `grain` items except the last, and none longer than kMostGrains
  // times as many: `grain` should be worth a microsecond or two.
  template <class Body>
  void loop(int64_t items, int64_t grain, const Body& body);

 private:
  friend class Pool;
  Worker(Pool& pool, int index) : pool_(pool), index_(index) {}

  Pool& pool_;
  int index_;
  int64_t next_loop_ = 0;  // within the job
};

class Pool {
 public:
  // `threads` workers, the caller of `run` included, which must be this thread where cpus[n] pins
  // worker n; NULL pins none. Throws std::system_error where so many cannot be started.
  Pool(int threads, const int32_t* cpus);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return threads_; }

  // Runs job(worker) once on every worker; returns when all have finished. One job at a time,
  // of at most `loops` loops.
  void run(int64_t loops, const std::function<void(Worker&)>& job);

 private:
  friend class Worker;

  // The counters of one loop: its own cache lines, used once in a job.
  struct alignas(64) Loop {
    std::atomic<int64_t> next{0};
    alignas(64) std::atomic<int64_t> done{0};
    std::atomic<int32_t> sleepers{0};
  };

  void work(int index);
  void stop();
  void finish(Loop& loop, int64_t count, int64_t items);
  void prepare(int64_t loops);

  const int threads_;
  std::vector<std::thread> others_;
  std::unique_ptr<Loop[]> loops_;
  int64_t capacity_ = 0;

  std::mutex mutex_;
  std::condition_variable begun_, ended_, done_;
  const std::function<void(Worker&)>* job_ = nullptr;
  std::atomic<uint64_t> number_{0};  // of the job
  std::atomic<int> running_{0};      // workers besides the caller that are still in the job
  bool stop_ = false;
};

template <class Body>
void Worker::loop(int64_t items, int64_t grain, const Body& body) {
  if (items <= 0) return;
  if (pool_.threads_ == 1) return body(0, items);
  Pool::Loop& here = pool_.loops_[next_loop_++];
  int64_t mine = 0;
  int64_t begin = here.next.load(std::memory_order_relaxed);
  while (begin < items) {
    // Long runs at first, which keep a worker on neighbouring memory; short ones to end together.
    int64_t count = (items - begin) / pool_.threads_;
    count = count > kMostGrains * grain ? kMostGrains * grain : count < grain ? grain : count;
    const int64_t end = begin + count < items ? begin + count : items;
    if (!here.next.compare_exchange_weak(begin, end, std::memory_order_relaxed)) continue;
    body(begin, end);
    mine += end - begin;
    begin = here.next.load(std::memory_order_relaxed);
  }
  pool_.finish(here, mine, items);
}

}  // namespace headway

#endif
