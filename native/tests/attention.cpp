// Attention and the KV cache against plain loops in double precision, for every instruction set of
// this machine and every kind of cache; and bit for bit against itself, however a prompt is cut,
// whoever shares the step, and however the work is divided.
#include <string.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <string>

#include "attention_plan.h"
#include "kernels/table.h"
#include "testing.h"
#include "threads.h"

using check::Block;
using check::Random;
using headway::Kernels;

namespace {

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

float nearest_bf16(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
  memcpy(&x, &bits, 4);
  return x;
}

// What remains of a head that went through the cache, or of a query on its way to the product.
void coarsen(int kind, bool query, float* x, int size) {
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
    step.tables = tables.data();
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
    place_rows(step, w_.c.block_size, positions.data(), slots.data());
    AttentionPlan plan;
    plan_attention(step, {w_.c.heads, w_.c.kv_heads, w_.c.window, threads_}, &plan);
    merges += plan.merges.size();
    Rows queries(step.num_tokens * size);
    out_.assign(step.num_tokens * size, -1.0f);
    const Block<float> partials(attend_partial_bytes(plan, layout_) / 4);
    const HeadsTask heads = {in.data(), w_.width(), queries.data(), size, positions.data(),
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
                  [&](int64_t begin, int64_t end) { kernels_.heads(heads, begin, end); });
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

std::vector<const Kernels*> machines() {
  std::vector<const Kernels*> all;
  for (const char* isa : {"avx512_bf16", "avx512", "avx2", "portable"}) {
    if (const Kernels* found = headway::find_kernels(isa)) all.push_back(found);
  }
  return all;
}

// The largest difference to the plain answers over some positions of every sequence, and whether
// all is finite.
double worst(const World& world, const Engine& engine, int samples) {
  double most = 0;
  Random random{3};
  for (size_t s = 0; s < world.lengths.size(); ++s) {
    for (int n = 0; n < samples; ++n) {
      const int64_t last = world.lengths[s] - 1;
      const int64_t position = n == 0 ? last : n == 1 ? 0 : random.below(last + 1);
      const int head = random.below(world.c.heads);
      const std::vector<double> right = world.answer(s, position, head);
      const float* given =
          &engine.answers[s][(position * world.c.heads + head) * world.c.head_dim];
      for (int i = 0; i < world.c.head_dim; ++i) {
        const double error = std::fabs(given[i] - right[i]);
        most = std::isnan(error) ? 1e9 : std::max(most, error);
      }
    }
  }
  return most;
}

// Float32 scores and weights; bfloat16 rounds weights (and all but stored numbers) to 1 in 256;
// int8 queries have 14 bits and a sign.
double tolerance(int kind) {
  return kind == HW_CACHE_FLOAT32 ? 2e-5 : kind == HW_CACHE_BFLOAT16 ? 1.5e-2 : 2e-3;
}

// Every sequence whole, all in one step.
std::vector<Slice> whole(const World& world) {
  std::vector<Slice> slices;
  for (size_t s = 0; s < world.lengths.size(); ++s) {
    slices.push_back({static_cast<int>(s), 0, world.lengths[s]});
  }
  return slices;
}

// Runs all sequences in random pieces, several in most steps.
void run_in_pieces(const World& world, Engine& engine, Random& random) {
  std::vector<int64_t> done(world.lengths.size(), 0);
  for (bool more = true; more;) {
    std::vector<Slice> slices;
    more = false;
    for (size_t s = 0; s < done.size(); ++s) {
      const int64_t left = world.lengths[s] - done[s];
      if (left > 0) more = true;
      if (left == 0 || random.below(4) == 0) continue;
      const int64_t most = random.below(3) == 0 ? 1 : 1 + random.below(400);
      slices.push_back({static_cast<int>(s), done[s], std::min(left, most)});
      done[s] += slices.back().count;
    }
    for (size_t n = slices.size(); n > 1; --n) std::swap(slices[n - 1], slices[random.below(n)]);
    if (!slices.empty()) engine.step(slices);
  }
}

bool same(const std::vector<Rows>& a, const std::vector<Rows>& b) {
  for (size_t s = 0; s < a.size(); ++s) {
    if (a[s].size() != b[s].size()) return false;
    if (memcmp(a[s].data(), b[s].data(), a[s].size() * 4) != 0) return false;
  }
  return true;
}

// Fewer where every access is watched, which takes some twenty times as long.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kWatched = true;
#else
constexpr bool kWatched = false;
#endif

const Config kConfigs[] = {
    {0, 9, 3, 64, 32, 0},  {0, 4, 4, 16, 16, 0},       {0, 4, 2, 24, 64, 40},
    {0, 8, 1, 32, 128, 0}, {0, 4, 1, 80, 32, 0, true}, {0, 4, 1, 256, 16, 512, true},
    {0, 2, 1, 128, 64, 7}, {0, 14, 1, 18, 16, 33},     {0, 25, 1, 32, 32, 0},
};

}  // namespace

TEST(attention_agrees_with_plain_loops) {
  for (const Kernels* kernels : machines()) {
    for (int kind : {HW_CACHE_FLOAT32, HW_CACHE_BFLOAT16, HW_CACHE_INT8}) {
      for (Config config : kConfigs) {
        config.kind = kind;
        const World world(config, {1, 17, 130, 5, kWatched ? 40 : 350});
        Engine engine(world, *kernels, 2);
        engine.step(whole(world));
        const double error = worst(world, engine, kWatched ? 3 : 8);
        CHECK(error < tolerance(kind));
        if (error >= tolerance(kind)) {
          std::cout << "  " << kernels->name << " kind " << kind << " heads " << config.heads << "/"
                    << config.kv_heads << " x " << config.head_dim << " block "
                    << config.block_size << " window " << config.window << ": " << error << "\n";
        }
      }
    }
  }
}

TEST(long_contexts_agree_with_plain_loops) {
  for (const Kernels* kernels : machines()) {
    for (int kind : {HW_CACHE_FLOAT32, HW_CACHE_BFLOAT16, HW_CACHE_INT8}) {
      const World world({kind, 3, 1, 32, 32, 0}, {1500, 513});
      Engine engine(world, *kernels, 2);
      engine.step({{0, 0, 1499}, {1, 0, 512}});
      engine.step({{0, 1499, 1}, {1, 512, 1}});
      CHECK(worst(world, engine, kWatched ? 2 : 6) < tolerance(kind));
    }
  }
}

TEST(bits_do_not_depend_on_cuts_company_or_threads) {
  for (const Kernels* kernels : machines()) {
    for (int kind : {HW_CACHE_FLOAT32, HW_CACHE_BFLOAT16, HW_CACHE_INT8}) {
      Random random{11};
      for (const Config& base : kConfigs) {
        if (kWatched && random.below(6) != 0) continue;
        Config config = base;
        config.kind = kind;
        const World world(config, {1 + random.below(700), 40, 1 + random.below(200)}, 5);
        Engine alone(world, *kernels, 1);
        for (const Slice& slice : whole(world)) alone.step({slice});
        for (int threads : {1, 2, 3}) {
          Engine cut(world, *kernels, threads, 20 + threads);
          run_in_pieces(world, cut, random);
          CHECK(same(alone.answers, cut.answers));
        }
      }
    }
  }
}

TEST(bits_do_not_depend_on_splitting) {
  for (const Kernels* kernels : machines()) {
    for (int kind : {HW_CACHE_FLOAT32, HW_CACHE_BFLOAT16, HW_CACHE_INT8}) {
      for (int window : {0, 600}) {
        const World world({kind, 6, 2, 32, 16, window}, {2100, 3});
        Engine one(world, *kernels, 1), many(world, *kernels, 4);
        for (Engine* engine : {&one, &many}) {
          engine->step({{0, 0, 2090}, {1, 0, 2}});
          engine->step({{0, 2090, 5}});
          engine->step({{0, 2095, 1}, {1, 2, 1}});
          engine->step({{0, 2096, 4}});
        }
        CHECK_EQUAL(one.merges, 0u);
        CHECK(many.merges > 0);
        CHECK(same(one.answers, many.answers));
        CHECK(worst(world, many, kWatched ? 1 : 4) < tolerance(kind));
      }
    }
  }
}

TEST(stale_and_broken_blocks_leave_no_trace) {
  for (const Kernels* kernels : machines()) {
    for (int kind : {HW_CACHE_FLOAT32, HW_CACHE_BFLOAT16, HW_CACHE_INT8}) {
      const Config config = {kind, 4, 2, 24, 32, 0};
      World broken(config, {90}, 1);
      const World world(config, {90}, 2);
      Random random{5};
      const float inf = std::numeric_limits<float>::infinity();
      for (float& x : broken.heads[0]) {
        const int fate = random.below(9);
        x = fate == 0 ? std::nanf("") : fate == 1 ? inf : fate == 2 ? -inf : fate == 3 ? 3e38f : x;
      }
      Engine fresh(world, *kernels, 1), used(world, *kernels, 1);
      used.turn_to(broken);
      used.step({{0, 0, 90}});
      used.turn_to(world);
      for (Engine* engine : {&fresh, &used}) {
        for (int64_t start : {0, 1, 2, 34, 35}) engine->step({{0, start, start == 2 ? 32 : 1}});
      }
      CHECK(same({Rows(fresh.answers[0].begin(), fresh.answers[0].begin() + 36 * 96)},
                 {Rows(used.answers[0].begin(), used.answers[0].begin() + 36 * 96)}));
    }
  }
}

TEST(a_query_that_is_not_finite_has_no_finite_answer) {
  for (const Kernels* kernels : machines()) {
    for (int kind : {HW_CACHE_FLOAT32, HW_CACHE_BFLOAT16, HW_CACHE_INT8}) {
      World world({kind, 2, 1, 32, 16, 0}, {20});
      world.heads[0][7 * world.width() + 3] = std::nanf("");
      Engine engine(world, *kernels, 1);
      engine.step({{0, 0, 20}});
      for (int64_t n = 0; n < 20 * 2; ++n) {
        CHECK_EQUAL(std::isnan(engine.answers[0][n * 32 + 3]), n == 14);
      }
    }
  }
}

TEST(every_row_head_and_segment_is_in_one_item) {
  Random random{1};
  AttentionPlan plan;
  for (int round = 0; round < (kWatched ? 30 : 300); ++round) {
    std::vector<int64_t> starts, counts;
    for (int n = random.below(6); n >= 0; --n) {
      starts.push_back(random.below(2) ? 0 : random.below(3000));
      counts.push_back(random.below(2) ? 1 : 1 + random.below(700));
    }
    hw_step step = {};
    step.num_slices = static_cast<int64_t>(starts.size());
    step.starts = starts.data();
    step.counts = counts.data();
    const int32_t group = 1 + random.below(96), kv_heads = 1 + random.below(3);
    const int32_t window = random.below(2) ? 0 : 1 + random.below(1200);
    plan_attention(step, {group * kv_heads, kv_heads, window, 1 + random.below(20)}, &plan);
    std::vector<std::vector<int>> seen;  // by row and kv head, the times of each segment
    std::vector<int64_t> positions;
    for (size_t s = 0; s < starts.size(); ++s) {
      for (int64_t n = 0; n < counts[s]; ++n) positions.push_back(starts[s] + n);
    }
    seen.assign(positions.size() * kv_heads, std::vector<int>(8, 0));
    std::vector<int> partials(plan.num_partials, 0);
    for (const AttendItem& item : plan.items) {
      CHECK(item.tiles <= kItemTiles);
      CHECK(item.tokens * group <= item.tiles * kTileRows);
      for (int64_t n = 0; n < item.tokens; ++n) {
        CHECK_EQUAL(positions[item.row + n], item.position + n);
        for (int64_t s = item.segment_begin; s < item.segment_end; ++s) {
          ++seen[(item.row + n) * kv_heads + item.kv_head][s];
        }
      }
      const int64_t own = (item.segment_end - item.segment_begin) * item.tiles;
      for (int64_t n = 0; item.partial >= 0 && n < own; ++n) ++partials[item.partial + n];
    }
    for (int times : partials) CHECK_EQUAL(times, 1);
    for (size_t n = 0; n < seen.size(); ++n) {
      const int64_t position = positions[n / kv_heads];
      const int64_t from = window > 0 ? std::max<int64_t>(position - window + 1, 0) : 0;
      for (int64_t s = 0; s < 8; ++s) {
        CHECK(seen[n][s] <= 1);
        if (s >= from / kSegmentKeys && s <= position / kSegmentKeys) CHECK_EQUAL(seen[n][s], 1);
      }
    }
  }
}

TEST(caches_that_make_no_sense_are_refused) {
  const hw_cache good = {HW_CACHE_BFLOAT16, 2, 10, 32, 3, 64, nullptr};
  CHECK(cache_problem(good) == nullptr);
  CHECK_EQUAL(hw_cache_bytes(&good), 2 * 10 * 3 * 32 * 64 * 2 * 2);
  hw_cache small = good;
  small.kind = HW_CACHE_INT8;
  CHECK_EQUAL(hw_cache_bytes(&small), 2 * 10 * 3 * 32 * (64 * 2 + 8));
  for (int field = 0; field < 6; ++field) {
    hw_cache bad = good;
    (&bad.kind)[field] = field == 5 ? 63 : -1;
    CHECK(cache_problem(bad) != nullptr);
    CHECK_EQUAL(hw_cache_bytes(&bad), -1);
  }
  CHECK(attention_problem(9, 3) == nullptr);
  CHECK(attention_problem(9, 2) != nullptr);
  CHECK(attention_problem(97, 1) != nullptr);
}
