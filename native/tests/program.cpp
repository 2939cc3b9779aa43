// A whole small model through the C interface: two layers with attention, a gated MLP and a mixture
// of experts, in every format. Which token is sampled, and its probability, must not depend on
// threads or on how a sequence is cut into steps. Under the sanitizers, workers share rows here.
#include <math.h>
#include <string.h>

#include <string>

#include "samples.h"

using samples::Block;
using samples::Matrix;
using samples::Random;

namespace {

constexpr int32_t kVocabSize = 75, kHidden = 40, kHeads = 4, kKvHeads = 2, kHeadDim = 16;
constexpr int32_t kInner = 24, kExperts = 5, kTopK = 2, kBlockSize = 16, kBlocks = 24;
constexpr int32_t kPositions = 96, kLayers = 2;
constexpr int32_t kAttending = (kHeads + 2 * kKvHeads) * kHeadDim;

enum Buffers { kState, kNormed, kPlain, kProjected, kQueries, kAttended, kAnswer, kGated, kFed,
               kRouted, kNumBuffers };

// Everything whose addresses a program keeps.
struct Model {
  Model(int32_t the_format, int32_t cache_kind)
      : format(the_format), norm(kHidden), cos(kPositions * kHeadDim), sin(kPositions * kHeadDim) {
    Random random{7};
    samples::fill_floats(norm, random, 1.0f);
    for (int32_t n = 0; n < kPositions * kHeadDim; ++n) {
      const float angle = static_cast<float>(n / kHeadDim) / (1 + n % kHeadDim % (kHeadDim / 2));
      cos[n] = cosf(angle);
      sin[n] = sinf(angle);
    }
    add_matrix(kVocabSize, kHidden);
    for (int32_t layer = 0; layer < kLayers; ++layer) add_layer(layer);
    hw_op last = op(HW_OP_NORM, kState, kNormed);
    last.weight = norm.data;
    ops.push_back(last);
    ops.push_back(op(HW_OP_LM_HEAD, kNormed, 0, 0));
    ops.insert(ops.begin(), op(HW_OP_EMBED, 0, kState, 0));
    ops.front().scale = 3.0f;
    cache = {cache_kind, kLayers, kBlocks, kBlockSize, kKvHeads, kHeadDim, nullptr};
  }

  int32_t add_matrix(int32_t outputs, int32_t inputs) {
    const auto seed = static_cast<uint64_t>(kept.size()) + 11;
    kept.push_back(std::make_unique<Matrix>(format, outputs, inputs, seed, 0.3f));
    matrices.push_back(kept.back()->described);
    return static_cast<int32_t>(matrices.size()) - 1;
  }

  static hw_op op(int32_t kind, int32_t in, int32_t out, int32_t matrix = 0) {
    hw_op made{};
    made.kind = kind;
    made.in = in;
    made.out = out;
    made.out2 = -1;
    made.matrix = matrix;
    made.eps = 1e-5f;
    return made;
  }

  void add_layer(int32_t layer) {
    hw_op normed = op(HW_OP_NORM, kState, kNormed);
    normed.weight = norm.data;
    ops.push_back(normed);
    ops.push_back(op(HW_OP_LINEAR, kNormed, kProjected, add_matrix(kAttending, kHidden)));
    hw_op heads = op(HW_OP_ROPE, kProjected, kQueries);
    heads.layer = layer;
    heads.heads = kHeads;
    heads.kv_heads = kKvHeads;
    heads.head_dim = kHeadDim;
    heads.cos = cos.data;
    heads.sin = sin.data;
    ops.push_back(heads);
    hw_op attention = heads;
    attention.kind = HW_OP_ATTENTION;
    attention.in = kQueries;
    attention.out = kAttended;
    attention.scale = 0.25f;
    attention.window = layer == 0 ? 0 : 20;
    ops.push_back(attention);
    ops.push_back(op(HW_OP_CONVERT, kAttended, kAnswer));
    const int32_t output = add_matrix(kHidden, kHeads * kHeadDim);
    ops.push_back(op(HW_OP_LINEAR, kAnswer, kState, output));
    ops.back().epilogue = HW_ADD;
    ops.push_back(normed);
    ops.back().out2 = format == HW_FLOAT32 ? -1 : kPlain;
    if (layer == 0) {
      add_mlp();
    } else {
      add_experts();
    }
  }

  void add_mlp() {
    ops.push_back(op(HW_OP_LINEAR, kNormed, kGated, add_matrix(64, kHidden)));
    ops.back().epilogue = HW_GATE;
    ops.push_back(op(HW_OP_CONVERT, kGated, kFed));
    ops.push_back(op(HW_OP_LINEAR, kFed, kState, add_matrix(kHidden, kInner)));
    ops.back().epilogue = HW_ADD;
  }

  void add_experts() {
    ops.push_back(op(HW_OP_LINEAR, kNormed, kRouted, add_matrix(kExperts, kHidden)));
    hw_op experts = op(HW_OP_EXPERTS, format == HW_FLOAT32 ? kNormed : kPlain, kState);
    experts.in2 = kRouted;
    experts.epilogue = HW_ADD;
    experts.num_experts = kExperts;
    experts.top_k = kTopK;
    experts.normalise = 1;
    experts.activation = HW_GELU_TANH;
    experts.matrix = add_matrix(64, kHidden);
    for (int32_t e = 1; e < kExperts; ++e) add_matrix(64, kHidden);
    experts.matrix2 = add_matrix(kHidden, kInner);
    for (int32_t e = 1; e < kExperts; ++e) add_matrix(kHidden, kInner);
    ops.push_back(experts);
  }

  std::vector<hw_buffer> buffers() const {
    std::vector<hw_buffer> all(kNumBuffers);
    all[kState] = {HW_FLOAT32, kHidden};
    all[kNormed] = {format, kHidden};
    all[kPlain] = {HW_FLOAT32, kHidden};
    all[kProjected] = {HW_FLOAT32, kAttending};
    all[kQueries] = {HW_FLOAT32, kHeads * kHeadDim};
    all[kAttended] = {HW_FLOAT32, kHeads * kHeadDim};
    all[kAnswer] = {format, kHeads * kHeadDim};
    all[kGated] = {HW_FLOAT32, kInner};
    all[kFed] = {format, kInner};
    all[kRouted] = {HW_FLOAT32, kExperts};
    return all;
  }

  int32_t format;
  Block<float> norm, cos, sin;
  std::vector<std::unique_ptr<Matrix>> kept;
  std::vector<hw_matrix> matrices;
  std::vector<hw_op> ops;
  hw_cache cache;
};

// A model with threads and a cache of its own.
struct Engine {
  Engine(const Model& model, const std::string& isa, int32_t threads)
      : cache(model.cache),
        memory(static_cast<size_t>(hw_cache_bytes(&model.cache))),
        pool(hw_pool_create(threads, nullptr)) {
    memset(memory.data, 0, memory.size);
    cache.memory = memory.data;
    const std::vector<hw_buffer> buffers = model.buffers();
    char message[200] = "";
    program = hw_program_create(pool, isa.c_str(), model.ops.data(),
                                static_cast<int32_t>(model.ops.size()), model.matrices.data(),
                                static_cast<int32_t>(model.matrices.size()), buffers.data(),
                                kNumBuffers, &cache, message, sizeof message);
    CHECK_EQUAL(std::string(message), "");
    CHECK(program != nullptr);
  }
  ~Engine() {
    hw_program_destroy(program);
    hw_pool_destroy(pool);
  }

  hw_cache cache;
  Block<uint8_t> memory;
  hw_pool* pool;
  hw_program* program = nullptr;
};

// One sequence's part of a step.
struct Slice {
  int64_t sequence, start, count;
};

int64_t token_at(int64_t sequence, int64_t position) {
  return (sequence * 31 + position * 7 + position * position) % kVocabSize;
}

struct Answer {
  int64_t token;
  float logprob;
  bool operator==(const Answer& other) const {
    return token == other.token && memcmp(&logprob, &other.logprob, 4) == 0;
  }
};

// Runs one step, and asks for a token and its probability at the end of each slice.
std::vector<Answer> run_step(Engine& engine, const std::vector<Slice>& slices,
                             bool all_rows = false) {
  const int64_t blocks = kPositions / kBlockSize;
  std::vector<int64_t> tokens, starts, counts, tables;
  std::vector<hw_sampling> sampling;
  std::vector<hw_sampled_token> sampled(slices.size());
  std::vector<uint8_t> has_nan(slices.size(), 2);
  std::vector<int64_t> names(slices.size());
  std::vector<float> logprobs(slices.size());
  for (const Slice& slice : slices) {
    starts.push_back(slice.start);
    counts.push_back(slice.count);
    // Blocks of a sequence lie apart and in no order.
    for (int64_t n = 0; n < blocks; ++n) tables.push_back((7 * n + slice.sequence) % kBlocks);
    for (int64_t n = 0; n < slice.count; ++n) {
      tokens.push_back(token_at(slice.sequence, slice.start + n));
    }
    hw_sampling one{};
    one.row = static_cast<int64_t>(tokens.size()) - 1;
    one.target = -1;
    one.position = slice.start + slice.count;
    one.num_allowed = -1;
    one.top_p = 1.0f;
    one.repetition_penalty = 1.0f;
    one.greedy = 1;
    one.logprobs = 1;
    const size_t n = sampling.size();
    sampled[n].top_tokens = &names[n];
    sampled[n].top_logprobs = &logprobs[n];
    sampling.push_back(one);
  }
  hw_step step{};
  step.num_tokens = static_cast<int64_t>(tokens.size());
  step.num_slices = static_cast<int64_t>(slices.size());
  step.num_sampled = step.num_slices;
  step.tokens = tokens.data();
  step.starts = starts.data();
  step.counts = counts.data();
  step.block_tables = tables.data();
  step.table_width = blocks;
  step.sampling = sampling.data();
  step.sampled = sampled.data();
  step.has_nan = has_nan.data();
  step.all_rows = all_rows;
  double seconds[HW_OP_LM_HEAD + 2] = {};
  CHECK_EQUAL(hw_program_run(engine.program, &step, seconds), 0);
  std::vector<Answer> answers;
  for (size_t n = 0; n < slices.size(); ++n) {
    CHECK_EQUAL(int{has_nan[n]}, 0);
    CHECK_EQUAL(sampled[n].status, int32_t{HW_OK});
    CHECK(sampled[n].token >= 0 && sampled[n].token < kVocabSize);
    CHECK(sampled[n].logprob <= 0.0f && sampled[n].logprob > -30.0f);
    CHECK_EQUAL(sampled[n].token, names[n]);
    answers.push_back({sampled[n].token, sampled[n].logprob});
  }
  return answers;
}

// What stands behind positions 50 of sequences 0 and 33 of 1, computed in steps of at most `chunk`.
std::vector<Answer> in_chunks(const Model& model, const std::string& isa, int32_t threads,
                              int64_t chunk, bool together) {
  Engine engine(model, isa, threads);
  const int64_t lengths[2] = {50, 33};
  std::vector<Answer> last(2);
  for (int64_t start = 0; start < 50; start += chunk) {
    std::vector<Slice> slices;
    for (int64_t sequence = 0; sequence < 2; ++sequence) {
      const int64_t count = std::min(chunk, lengths[sequence] - start);
      if (count > 0) slices.push_back({sequence, start, count});
    }
    if (together) {
      const std::vector<Answer> answers = run_step(engine, slices);
      for (size_t n = 0; n < slices.size(); ++n) last[slices[n].sequence] = answers[n];
    } else {
      for (const Slice& slice : slices) last[slice.sequence] = run_step(engine, {slice})[0];
    }
  }
  return last;
}

bool agree(const std::vector<Answer>& a, const std::vector<Answer>& b) {
  return a[0] == b[0] && a[1] == b[1];
}

}  // namespace

TEST(tokens_depend_neither_on_threads_nor_on_steps) {
  for (const std::string& isa : samples::instruction_sets()) {
    for (int32_t format : {HW_FLOAT32, HW_BFLOAT16, HW_INT8, HW_INT4}) {
      const Model model(format, std::min(format, +HW_CACHE_INT8));
      const std::vector<Answer> whole = in_chunks(model, isa, 1, 50, true);
      CHECK(!(whole[0] == whole[1]));
      CHECK(agree(whole, in_chunks(model, isa, 1, 50, false)));
      CHECK(agree(whole, in_chunks(model, isa, 3, 50, true)));
      CHECK(agree(whole, in_chunks(model, isa, 2, 13, true)));
      CHECK(agree(whole, in_chunks(model, isa, 7, 1, true)));
    }
  }
}

TEST(rows_that_nobody_asks_for_change_no_token_and_cannot_be_read) {
  const std::vector<Slice> slices = {{0, 0, 50}, {1, 0, 1}, {2, 0, 33}};
  const std::vector<Slice> next = {{0, 50, 1}, {1, 1, 20}, {2, 33, 1}};
  std::vector<float> hidden(84 * kHidden);
  for (const std::string& isa : samples::instruction_sets()) {
    for (int32_t format : {HW_FLOAT32, HW_INT8}) {
      const Model model(format, std::min(format, +HW_CACHE_INT8));
      for (int32_t threads : {1, 3}) {
        Engine all(model, isa, threads), some(model, isa, threads);
        for (const auto& each : {slices, next}) {
          const std::vector<Answer> expected = run_step(all, each, true);
          const std::vector<Answer> found = run_step(some, each);
          for (size_t n = 0; n < each.size(); ++n) CHECK(found[n] == expected[n]);
          CHECK_EQUAL(hw_program_read(all.program, kNormed, hidden.data()), 0);
          CHECK_EQUAL(hw_program_read(some.program, kNormed, hidden.data()), -1);
          CHECK_EQUAL(hw_program_logits(some.program, hidden.data()), -1);
        }
        // What was computed of them, keys and values, is there for those that come after.
        const std::vector<Slice> alone = {{0, 51, 1}, {1, 21, 1}, {2, 34, 1}};
        const std::vector<Answer> expected = run_step(all, alone), found = run_step(some, alone);
        for (size_t n = 0; n < alone.size(); ++n) CHECK(found[n] == expected[n]);
      }
    }
  }
}

TEST(a_program_that_makes_no_sense_is_refused_with_a_message) {
  Model model(HW_FLOAT32, HW_CACHE_FLOAT32);
  model.ops[2].matrix = 1000;
  hw_pool* pool = hw_pool_create(1, nullptr);
  const std::vector<hw_buffer> buffers = model.buffers();
  char message[200] = "";
  const auto create = [&](const char* isa) {
    return hw_program_create(pool, isa, model.ops.data(), static_cast<int32_t>(model.ops.size()),
                             model.matrices.data(), static_cast<int32_t>(model.matrices.size()),
                             buffers.data(), kNumBuffers, &model.cache, message, sizeof message);
  };
  CHECK(create(nullptr) == nullptr);
  CHECK_EQUAL(std::string(message), "operation 2: no such matrix");
  CHECK(create("no such thing") == nullptr);
  CHECK(std::string(message).find("instruction set") != std::string::npos);
  hw_pool_destroy(pool);
}
