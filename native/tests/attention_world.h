// Sequences with known heads, what attention should answer to them, and an engine in small that
// computes it with the kernels: cache, block tables, plan and threads.
#ifndef HEADWAY_TESTS_ATTENTION_WORLD_H
#define HEADWAY_TESTS_ATTENTION_WORLD_H

#include <string.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <vector>

#include "../attention_plan.h"
#include "../kernels/tasks.h"
#include "../threads.h"
#include "testing.h"
#include "threads.h"

namespace world {

using check::Block;
using check::Random;
using headway::Kernels;

struct Config {
  int kind, heads, kv_heads, head_dim, block_size, window;
  bool norms = false;
};

// The tokens [start, start + count) of a sequence.
struct Slice {
  int sequence;
  int64_t start, count;
};

using Rows = std::vector<float>;

inline float nearest_bf16(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
  memcpy(&x, &bits, 4);
  return x;
}

// What remains of a head that went through the cache, or of a query on its way to the product.
inline void coarsen(int kind, bool query, float* x, int size) {
  if (kind == HW_CACHE_BFLOAT16) {
    for (int n = 0; n < size; ++n) x[n] = nearest_bf16(x[n]);
  }
  if (kind != HW_CACHE_INT8 || query) return;
  float top = 0;
  for (int n = 0; n < size; ++n) top = std::max(top, std::fabs(x[n]));
  const float factor = top > 0 ? 127.0f / top : 0.0f;
  for (int n = 0; n < size; ++n) x[n] = std::nearbyint(x[n] * factor) * (top / 127.0f);
}

// Sequences whose heads are known, and the answers they should have.
struct World {
  Config c;
  std::vector<int64_t> lengths;
  std::vector<Rows> heads;  // by sequence [length][heads + 2 kv_heads][head_dim]
  Rows cos, sin, query_norm, key_norm;
  float eps = 1e-5f, scale;

  World(const Config& config, std::vector<int64_t> lens, uint64_t seed = 1)
      : c(config), lengths(std::move(lens)), scale(1.0f / std::sqrt(float(config.head_dim))) {
    Random random{seed};
    for (int64_t length : lengths) {
      Rows rows(length * width());
      for (float& x : rows) x = random.between(-2, 2);
      heads.push_back(std::move(rows));
    }
    const int64_t most = *std::max_element(lengths.begin(), lengths.end());
    for (int64_t p = 0; p < most; ++p) {
      for (int n = 0; n < c.head_dim; ++n) {
        const double angle = p / std::pow(1e4, 2.0 * (n % (c.head_dim / 2)) / c.head_dim);
        cos.push_back(float(std::cos(angle)));
        sin.push_back(float(std::sin(angle)));
      }
    }
    for (int n = 0; n < c.head_dim; ++n) query_norm.push_back(random.between(0.5, 1.5));
    for (int n = 0; n < c.head_dim; ++n) key_norm.push_back(random.between(0.5, 1.5));
  }

  int64_t width() const { return int64_t{c.heads + 2 * c.kv_heads} * c.head_dim; }

  // A turned query or key, as exactly as float can say it.
  std::vector<float> turned(int sequence, int64_t position, int head, bool query) const {
    const int size = c.head_dim, half = size / 2;
    const float* x = &heads[sequence][position * width() + head * size];
    std::vector<double> y(x, x + size);
    if (c.norms) {
      double squares = 0;
      for (double v : y) squares += v * v;
      const double factor = 1 / std::sqrt(squares / size + eps);
      for (int n = 0; n < size; ++n) y[n] *= factor * (query ? query_norm[n] : key_norm[n]);
    }
    std::vector<float> out(size);
    const float *co = &cos[position * size], *si = &sin[position * size];
    for (int n = 0; n < half; ++n) {
      out[n] = float(y[n] * co[n] - y[n + half] * si[n]);
      out[n + half] = float(y[n + half] * co[n + half] + y[n] * si[n + half]);
    }
    coarsen(c.kind, query, out.data(), size);
    return out;
  }

  std::vector<double> answer(int sequence, int64_t position, int head) const {
    const int kv = head / (c.heads / c.kv_heads), size = c.head_dim;
    const int64_t from = c.window > 0 ? std::max<int64_t>(position - c.window + 1, 0) : 0;
    const std::vector<float> query = turned(sequence, position, head, true);
    std::vector<double> scores;
    for (int64_t p = from; p <= position; ++p) {
      const std::vector<float> key = turned(sequence, p, c.heads + kv, false);
      scores.push_back(scale * std::inner_product(key.begin(), key.end(), query.begin(), 0.0));
    }
    const double top = *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    std::vector<double> out(size, 0.0);
    for (int64_t p = from; p <= position; ++p) {
      const double weight = std::exp(scores[p - from] - top);
      const float* x = &heads[sequence][p * width() + (c.heads + c.kv_heads + kv) * size];
      std::vector<float> value(x, x + size);
      coarsen(c.kind, false, value.data(), size);
      for (int n = 0; n < size; ++n) out[n] += weight * value[n];
      sum += weight;
    }
    for (double& x : out) x /= sum;
    return out;
  }
};

// A cache, block tables in random order, and the answers given so far.
class Engine {
 public:
  Engine(const World& world, const Kernels& kernels, int threads, uint64_t seed = 7)
      : w_(world), kernels_(kernels), pool_(threads, nullptr), threads_(threads) {
    int64_t blocks = 0;
    for (int64_t length : w_.lengths) {
      width_ = std::max(width_, (length - 1) / w_.c.block_size + 1);
      blocks += (length - 1) / w_.c.block_size + 1;
      answers.emplace_back(length * w_.c.heads * w_.c.head_dim, 0.0f);
    }
    hw_cache cache = {w_.c.kind,     2, static_cast<int32_t>(blocks), w_.c.block_size,
                      w_.c.kv_heads, w_.c.head_dim, nullptr};
    memory_ = std::make_unique<Block<char>>(hw_cache_bytes(&cache));
    memset(memory_->data, 0, memory_->size);
    cache.memory = memory_->data;
    layout_ = cache_layout(cache);
    std::vector<int64_t> order(blocks);
    std::iota(order.begin(), order.end(), 0);
    Random random{seed};
    for (int64_t n = blocks - 1; n > 0; --n) std::swap(order[n], order[random.below(n + 1)]);
    // Entries that nobody may read are not blocks at all.
    tables_.assign(w_.lengths.size() * width_, int64_t{1} << 40);
    auto next = order.begin();
    for (size_t s = 0; s < w_.lengths.size(); ++s) {
      const int64_t own = (w_.lengths[s] - 1) / w_.c.block_size + 1;
      std::copy(next, next + own, tables_.begin() + s * width_);
      next += own;
    }
  }

  // Another world's sequences of the same lengths, in the same blocks.
  void turn_to(const World& world) { heads_ = &world.heads; }

  void step(const std::vector<Slice>& slices) {
    std::vector<int64_t> starts, counts, tables;
    Rows in;
    for (const Slice& slice : slices) {
      starts.push_back(slice.start);
      counts.push_back(slice.count);
      const auto row = tables_.begin() + slice.sequence * width_;
      tables.insert(tables.end(), row, row + width_);
      const auto from = (*heads_)[slice.sequence].begin() + slice.start * w_.width();
      in.insert(in.end(), from, from + slice.count * w_.width());
    }
    hw_step step = {};
    step.num_tokens = std::accumulate(counts.begin(), counts.end(), int64_t{0});
    step.num_slices = static_cast<int64_t>(slices.size());
    step.starts = starts.data();
    step.counts = counts.data();
    step.block_tables = tables.data();
    step.table_width = width_;
    run(step, in);
    const int64_t size = int64_t{w_.c.heads} * w_.c.head_dim;
    const float* from = out_.data();
    for (const Slice& slice : slices) {
      std::copy_n(from, slice.count * size, &answers[slice.sequence][slice.start * size]);
      from += slice.count * size;
    }
  }

  std::vector<Rows> answers;  // by sequence [length][heads][head_dim]
  size_t merges = 0;          // done so far

 private:
  void run(const hw_step& step, const Rows& in) {
    const int64_t size = int64_t{w_.c.heads} * w_.c.head_dim;
    std::vector<int64_t> positions(step.num_tokens), slots(step.num_tokens);
    rows_to_slots(step, w_.c.block_size, positions.data(), slots.data());
    AttentionPlan plan;
    plan_attention(step, {w_.c.heads, w_.c.kv_heads, w_.c.window, threads_}, &plan);
    merges += plan.merges.size();
    Rows queries(step.num_tokens * size);
    out_.assign(step.num_tokens * size, -1.0f);
    const Block<float> partials(attend_partial_bytes(plan, layout_) / 4);
    const RopeTask heads = {in.data(), w_.width(), queries.data(), size, positions.data(),
                             slots.data(), layout_, 1, w_.c.heads,
                             w_.c.norms ? w_.query_norm.data() : nullptr,
                             w_.c.norms ? w_.key_norm.data() : nullptr, w_.eps, w_.cos.data(),
                             w_.sin.data()};
    const AttendTask attend = {&plan, queries.data(), size, out_.data(), size,
                               layout_, 1, w_.scale, partials.data};
    pool_.run(3, [&](headway::Worker& worker) {
      const Block<char> scratch(attend_scratch_bytes(layout_));
      memset(scratch.data, 0xff, scratch.size);  // NaN
      worker.loop(step.num_tokens, 1,
                  [&](int64_t begin, int64_t end) { kernels_.rope(heads, begin, end); });
      worker.loop(plan.items.size(), 1, [&](int64_t begin, int64_t end) {
        for (int64_t n = begin; n < end; ++n) kernels_.attend(attend, n, scratch.data);
      });
      worker.loop(plan.merges.size(), 1, [&](int64_t begin, int64_t end) {
        for (int64_t n = begin; n < end; ++n) kernels_.attend_merge(attend, n, scratch.data);
      });
    });
  }

  const World& w_;
  const Kernels& kernels_;
  headway::Pool pool_;
  int threads_;
  int64_t width_ = 0;
  const std::vector<Rows>* heads_ = &w_.heads;
  std::unique_ptr<Block<char>> memory_;
  CacheLayout layout_;
  std::vector<int64_t> tables_;
  Rows out_;
};

}  // namespace world

#endif
