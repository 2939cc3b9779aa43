// Waiting and waking; see threads.h. Spins are counted, never timed, and always end in sleep.
#include "threads.h"

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace headway {
namespace {

// About 20 microseconds: longer than workers usually wait for each other, much shorter than the
// time slice of a worker that has lost its core.
constexpr int kSpins = 1000;

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

template <class Ready>
bool spin(const Ready& ready) {
  for (int n = 0; n < kSpins; ++n) {
    if (ready()) return true;
    relax();
  }
  return ready();
}

// Keeps the calling thread on one processor.
void pin(int32_t cpu) {
#if defined(__linux__)
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<size_t>(cpu), &set);
  pthread_setaffinity_np(pthread_self(), sizeof set, &set);
#else
  (void)cpu;
#endif
}

}  // namespace

Pool::Pool(int threads, const int32_t* cpus) : threads_(threads < 1 ? 1 : threads) {
  try {
    for (int index = 1; index < threads_; ++index) {
      const int32_t cpu = cpus == nullptr ? -1 : cpus[index];
      others_.emplace_back([this, index, cpu] {
        if (cpu >= 0) pin(cpu);
        work(index);
      });
    }
  } catch (...) {
    stop();  // those that did start must end before they are destroyed
    throw;
  }
  if (cpus != nullptr) pin(cpus[0]);
}

Pool::~Pool() { stop(); }

void Pool::stop() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
    number_.fetch_add(1);
  }
  begun_.notify_all();
  for (std::thread& other : others_) other.join();
}

void Pool::run(int64_t loops, const std::function<void(Worker&)>& job) {
  Worker caller(*this, 0);
  if (threads_ == 1) return job(caller);
  prepare(loops);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    job_ = &job;
    running_.store(threads_ - 1);
    number_.fetch_add(1);
  }
  begun_.notify_all();
  job(caller);
  const auto all_out = [this] { return running_.load() == 0; };
  if (spin(all_out)) return;
  std::unique_lock<std::mutex> lock(mutex_);
  ended_.wait(lock, all_out);
}

void Pool::prepare(int64_t loops) {
  if (loops > capacity_) {
    loops_.reset(new Loop[static_cast<size_t>(loops)]);
    capacity_ = loops;
    return;
  }
  for (int64_t n = 0; n < loops; ++n) {
    loops_[n].next.store(0, std::memory_order_relaxed);
    loops_[n].done.store(0, std::memory_order_relaxed);
  }
}

void Pool::work(int index) {
  uint64_t seen = 0;
  for (;;) {
    const auto called = [this, seen] { return number_.load() != seen; };
    const std::function<void(Worker&)>* job;
    spin(called);
    {
      std::unique_lock<std::mutex> lock(mutex_);
      begun_.wait(lock, called);
      if (stop_) return;
      seen = number_.load();
      job = job_;
    }
    Worker worker(*this, index);
    (*job)(worker);
    if (running_.fetch_sub(1) == 1) {
      // Under the lock, so that a caller about to sleep cannot miss it.
      std::lock_guard<std::mutex> lock(mutex_);
      ended_.notify_one();
    }
  }
}

void Pool::finish(Loop& loop, int64_t count, int64_t items) {
  const auto complete = [&loop, items] { return loop.done.load() == items; };
  if (count > 0 && loop.done.fetch_add(count) + count == items) {
    if (loop.sleepers.load() > 0) {
      std::lock_guard<std::mutex> lock(mutex_);
      done_.notify_all();
    }
    return;
  }
  if (spin(complete)) return;
  std::unique_lock<std::mutex> lock(mutex_);
  loop.sleepers.fetch_add(1);
  done_.wait(lock, complete);
  loop.sleepers.fetch_sub(1);
}

}  // namespace headway
