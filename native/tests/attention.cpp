// Attention and the KV cache against plain loops in double precision, for every instruction set of
// this machine and every kind of cache; and bit for bit against itself, however a prompt is cut,
// whoever shares the step, and however the work is divided.
#include <limits>

#include "attention_world.h"
#include "samples.h"

using check::Random;
using headway::Kernels;
using world::Config;
using world::Engine;
using world::Rows;
using world::Slice;
using world::World;

namespace {

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

// Whether queries and softmax weights of the int8 cache have a byte each, or two.
bool has_bytes(const Kernels& kernels, int head_dim) {
  return strncmp(kernels.name, "avx512", 6) == 0 && head_dim <= kByteHeadDim;
}

// Float32 scores and weights; bfloat16 rounds weights (and all but stored numbers) to 1 in 256;
// int8 queries have 14 bits and a sign, or 7 and a sign beside weights of eight bits.
double tolerance(const Kernels& kernels, int kind, int head_dim) {
  if (kind == HW_CACHE_INT8) return has_bytes(kernels, head_dim) ? 2e-2 : 2e-3;
  return kind == HW_CACHE_FLOAT32 ? 2e-5 : 1.5e-2;
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
  for (const Kernels* kernels : samples::kernels()) {
    for (int kind : {HW_CACHE_FLOAT32, HW_CACHE_BFLOAT16, HW_CACHE_INT8}) {
      for (Config config : kConfigs) {
        config.kind = kind;
        const World world(config, {1, 17, 130, 5, kWatched ? 40 : 350});
        Engine engine(world, *kernels, 2);
        engine.step(whole(world));
        const double error = worst(world, engine, kWatched ? 3 : 8);
        CHECK(error < tolerance(*kernels, kind, config.head_dim));
        if (error >= tolerance(*kernels, kind, config.head_dim)) {
          std::cout << "  " << kernels->name << " kind " << kind << " heads " << config.heads << "/"
                    << config.kv_heads << " x " << config.head_dim << " block "
                    << config.block_size << " window " << config.window << ": " << error << "\n";
        }
      }
    }
  }
}

TEST(long_contexts_agree_with_plain_loops) {
  for (const Kernels* kernels : samples::kernels()) {
    for (int kind : {HW_CACHE_FLOAT32, HW_CACHE_BFLOAT16, HW_CACHE_INT8}) {
      const World world({kind, 3, 1, 32, 32, 0}, {1500, 513});
      Engine engine(world, *kernels, 2);
      engine.step({{0, 0, 1499}, {1, 0, 512}});
      engine.step({{0, 1499, 1}, {1, 512, 1}});
      CHECK(worst(world, engine, kWatched ? 2 : 6) < tolerance(*kernels, kind, world.c.head_dim));
    }
  }
}

TEST(a_crowd_of_light_keys_weighs_what_it_should) {
  // One key of weight 1 and many of 0.0015, less than half of what eight bits can say of the first.
  for (const Kernels* kernels : samples::kernels()) {
    for (int kind : {HW_CACHE_FLOAT32, HW_CACHE_BFLOAT16, HW_CACHE_INT8}) {
      World world({kind, 1, 1, 64, 32, 0}, {500});
      std::fill(world.cos.begin(), world.cos.end(), 1.0f);
      std::fill(world.sin.begin(), world.sin.end(), 0.0f);
      for (int64_t p = 0; p < 500; ++p) {
        float* token = &world.heads[0][p * world.width()];
        std::fill_n(token, world.width(), 0.0f);
        token[0] = 2.0f;                             // query
        token[64] = p == 70 ? 26.0f : 0.0f;          // key
        token[2 * 64 + (p == 70 ? 1 : 0)] = 1.0f;    // value
      }
      Engine engine(world, *kernels, 1);
      engine.step(whole(world));
      for (int64_t p : {80, 127, 128, 300, 499}) {
        const std::vector<double> right = world.answer(0, p, 0);
        CHECK(right[0] > 0.1);
        for (int i = 0; i < 2; ++i) {
          const double error = std::fabs(engine.answers[0][p * 64 + i] - right[i]);
          CHECK(error < tolerance(*kernels, kind, 64) / 4);
        }
      }
    }
  }
}

TEST(bits_do_not_depend_on_cuts_company_or_threads) {
  for (const Kernels* kernels : samples::kernels()) {
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
  for (const Kernels* kernels : samples::kernels()) {
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
        CHECK(worst(world, many, kWatched ? 1 : 4) < tolerance(*kernels, kind, world.c.head_dim));
      }
    }
  }
}

TEST(stale_and_broken_blocks_leave_no_trace) {
  for (const Kernels* kernels : samples::kernels()) {
    for (int kind : {HW_CACHE_FLOAT32, HW_CACHE_BFLOAT16, HW_CACHE_INT8}) {
      const Config config = {kind, 4, 2, 24, 32, 0};
      World has_nan(config, {90}, 1);
      const World world(config, {90}, 2);
      Random random{5};
      const float inf = std::numeric_limits<float>::infinity();
      for (float& x : has_nan.heads[0]) {
        const int fate = random.below(9);
        x = fate == 0 ? std::nanf("") : fate == 1 ? inf : fate == 2 ? -inf : fate == 3 ? 3e38f : x;
      }
      Engine fresh(world, *kernels, 1), used(world, *kernels, 1);
      used.turn_to(has_nan);
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
  for (const Kernels* kernels : samples::kernels()) {
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
