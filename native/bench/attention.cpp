// How fast attention is: decoding against the memory's speed, prompts against the arithmetic's.
//
//     python native/build.py build/native --test native/bench/attention.cpp
//     build/native/attention [isa] [threads] [part of a scene's name] [kind of cache]
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "attention_plan.h"
#include "kernels/tasks.h"
#include "threads.h"

namespace {

struct Scene {
  const char* name;
  int sequences, layers;
  int64_t start, count;  // of every sequence
};

constexpr const char* kNames[] = {"float32", "bfloat16", "int8"};
constexpr int kHeads = 9, kKvHeads = 3, kHeadDim = 64, kBlock = 32;

struct Free {
  void operator()(void* p) const { free(p); }
};

// The thread's own time: on a machine that others use too, the clock says less. Several threads are
// measured by the clock all the same.
double now(int threads) {
  timespec t;
  clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

// Seconds of the best of several passes over all layers.
double measure(const headway::Kernels& kernels, headway::Pool& pool, const Scene& scene,
               const hw_step& step, const CacheLayout& layout) {
  AttentionPlan plan;
  plan_attention(step, {kHeads, kKvHeads, 0, pool.threads()}, &plan);
  const int64_t size = kHeads * kHeadDim;
  std::vector<float> queries(step.num_tokens * size, 0.5f), out(queries.size());
  std::unique_ptr<void, Free> partials(
      aligned_alloc(64, attend_partial_bytes(plan, layout) + 64));
  std::vector<std::unique_ptr<void, Free>> scratch;
  for (int n = 0; n < pool.threads(); ++n) {
    scratch.emplace_back(aligned_alloc(64, attend_scratch_bytes(layout)));
  }
  double best = 1e9;
  for (int round = 0; round < 20; ++round) {
    const double before = now(pool.threads());
    pool.run(2 * scene.layers, [&](headway::Worker& worker) {
      for (int layer = 0; layer < scene.layers; ++layer) {
        const AttendTask task = {&plan, queries.data(), size, out.data(), size, layout, layer,
                                 0.125f, static_cast<float*>(partials.get())};
        void* own = scratch[worker.index()].get();
        worker.loop(plan.items.size(), 1, [&](int64_t begin, int64_t end) {
          for (int64_t n = begin; n < end; ++n) kernels.attend(task, n, own);
        });
        worker.loop(plan.merges.size(), 1, [&](int64_t begin, int64_t end) {
          for (int64_t n = begin; n < end; ++n) kernels.attend_merge(task, n, own);
        });
      }
    });
    best = std::min(best, now(pool.threads()) - before);
  }
  return best;
}

// Seconds for norms, positions and the cache's writing of a step's rows, best of several.
double measure_heads(const headway::Kernels& kernels, const Scene& scene, const hw_step& step,
                     const CacheLayout& layout) {
  const int64_t width = (kHeads + 2 * kKvHeads) * kHeadDim, size = kHeads * kHeadDim;
  std::vector<float> in(step.num_tokens * width, 0.5f), out(step.num_tokens * size);
  std::vector<float> turn((scene.start + scene.count) * kHeadDim, 0.5f), norm(kHeadDim, 1.0f);
  std::vector<int64_t> positions(step.num_tokens), slots(step.num_tokens);
  rows_to_slots(step, kBlock, positions.data(), slots.data());
  double best = 1e9;
  for (int round = 0; round < 10; ++round) {
    const double before = now(1);
    for (int layer = 0; layer < scene.layers; ++layer) {
      const RopeTask task = {in.data(), width, out.data(), size, positions.data(), slots.data(),
                              layout, layer, kHeads, norm.data(), norm.data(), 1e-5f, turn.data(),
                              turn.data()};
      kernels.rope(task, 0, step.num_tokens);
    }
    best = std::min(best, now(1) - before);
  }
  return best;
}

void show(const headway::Kernels& kernels, headway::Pool& pool, const Scene& scene, int kind) {
  const int64_t end = scene.start + scene.count, width = (end - 1) / kBlock + 1;
  const int blocks = static_cast<int>(width * scene.sequences);
  hw_cache cache = {kind, scene.layers, blocks, kBlock, kKvHeads, kHeadDim, nullptr};
  const int64_t bytes = hw_cache_bytes(&cache);
  std::unique_ptr<void, Free> memory(aligned_alloc(1 << 21, (bytes | ((1 << 21) - 1)) + 1));
  cache.memory = memory.get();
  madvise(cache.memory, bytes, MADV_HUGEPAGE);
  memset(cache.memory, 0, bytes);
  std::vector<int64_t> starts(scene.sequences, scene.start), counts(scene.sequences, scene.count);
  std::vector<int64_t> tables(blocks);
  for (int n = 0; n < blocks; ++n) tables[n] = int64_t{n} * 7919 % blocks;
  hw_step step = {};
  step.num_tokens = scene.count * scene.sequences;
  step.num_slices = scene.sequences;
  step.starts = starts.data();
  step.counts = counts.data();
  step.block_tables = tables.data();
  step.table_width = width;
  const CacheLayout layout = cache_layout(cache);
  const double seconds = measure(kernels, pool, scene, step, layout) / scene.layers;
  const double heads = measure_heads(kernels, scene, step, layout) / scene.layers;
  // Keys seen by all tokens of a sequence, and bytes read once.
  const double seen = scene.count * (scene.start + (scene.count + 1) / 2.0) * scene.sequences;
  const double products = seen * kHeads * kHeadDim * 2;
  const double read = double(end) * scene.sequences * kKvHeads * kHeadDim * 2 *
                      (kind == HW_CACHE_FLOAT32 ? 4 : kind == HW_CACHE_BFLOAT16 ? 2 : 1);
  printf("%-12s %-8s %-24s %8.1f us a layer %6.2f GB/s %6.2f G products/s a thread"
         "; heads %5.2f us a row\n",
         kernels.name, kNames[kind], scene.name, seconds * 1e6, read / seconds * 1e-9,
         products / seconds * 1e-9 / pool.threads(), heads / step.num_tokens * 1e6);
}

}  // namespace

int main(int argc, char** argv) {
  const headway::Kernels* kernels = headway::find_kernels(argc > 1 ? argv[1] : nullptr);
  if (kernels == nullptr) return 1;
  headway::Pool pool(argc > 2 ? atoi(argv[2]) : 2, nullptr);
  const Scene scenes[] = {
      {"decode 128 x 250", 128, 30, 249, 1},  {"decode 16 x 1000", 16, 30, 999, 1},
      {"decode 1 x 4000", 1, 30, 3999, 1},    {"decode 1 x 250", 1, 30, 249, 1},
      {"prompt of 512", 1, 4, 0, 512},        {"128 tokens after 450", 1, 4, 450, 128},
      {"prompts of 64, 8 of them", 8, 4, 0, 64}, {"prompt of 700", 1, 4, 0, 700},
      {"prompts of 128, 4 of them", 4, 4, 0, 128}, {"512 tokens after 7000", 1, 1, 7000, 512},
  };
  for (int kind : {HW_CACHE_BFLOAT16, HW_CACHE_INT8, HW_CACHE_FLOAT32}) {
    if (argc > 4 && strcmp(kNames[kind], argv[4]) != 0) continue;
    for (const Scene& scene : scenes) {
      if (argc < 4 || strstr(scene.name, argv[3])) show(*kernels, pool, scene, kind);
    }
  }
  return 0;
}
