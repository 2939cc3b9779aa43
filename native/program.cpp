// Making a program and its memory, and what is worked out once a step; see program.h and run.h.
#include "program.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "check.h"
#include "run.h"

namespace headway {
namespace {

Rows make_rows(int32_t form, int32_t width) {
  Rows rows;
  rows.form = form;
  rows.width = width;
  rows.bytes = row_bytes(form, width);
  return rows;
}

// The weights of a norm with zeros behind them, so that kernels may read whole vectors.
Memory padded(const float* weight, int64_t width) {
  Memory memory;
  memory.reserve(round_up(width, kPad) * 4);
  std::copy(weight, weight + width, static_cast<float*>(memory.data()));
  return memory;
}

}  // namespace

Program::Program(Pool& pool, const Kernels& kernels, std::vector<hw_op> ops,
                 std::vector<hw_matrix> matrices, const std::vector<hw_buffer>& buffers,
                 const hw_cache& cache)
    : pool_(pool),
      kernels_(kernels),
      ops_(std::move(ops)),
      matrices_(std::move(matrices)),
      cache_(cache) {
  check_program(ops_, matrices_, buffers, cache_);
  for (const hw_buffer& buffer : buffers) {
    buffers_.push_back(make_rows(buffer.form, buffer.width));
  }
  for (hw_op& op : ops_) {
    if (op.kind == HW_OP_ATTENTION) {
      AttentionPlan& plan = plans_[{op.heads, op.window}];
      plan.heads = op.heads;
      plan.kv_heads = op.kv_heads;
      plan.window = op.window;
    }
    if (op.kind != HW_OP_NORM) continue;
    weights_.push_back(padded(op.weight, buffers_[static_cast<size_t>(op.in)].width));
    op.weight = static_cast<const float*>(weights_.back().data());
  }
  const int64_t vocabulary = matrices_[static_cast<size_t>(ops_.back().matrix)].outputs;
  scratch_.resize(static_cast<size_t>(pool_.threads()));
  const int64_t choosing = kernels_.choose_scratch_bytes(vocabulary);
  layout_ = cache_layout(cache_);
  const int64_t attending = attend_scratch_bytes(layout_);
  for (Memory& scratch : scratch_) scratch.reserve(std::max(choosing, attending));
}

void Program::run(const hw_step& step, double* seconds) {
  reserve(step);
  const int64_t vocabulary = matrices_[static_cast<size_t>(ops_.back().matrix)].outputs;
  const int64_t parts = step.num_asked / part_rows(vocabulary) + 1;
  const Run run(*this, step, seconds);
  pool_.run(max_loops(static_cast<int64_t>(ops_.size()), parts), run);
}

// Memory for the step's rows, and what all operations need to know of it.
void Program::reserve(const hw_step& step) {
  tokens_ = step.num_tokens;
  positions_.resize(static_cast<size_t>(tokens_));
  slots_.resize(static_cast<size_t>(tokens_));
  finite_.resize(static_cast<size_t>(tokens_));
  place_rows(step, cache_.block_size, positions_.data(), slots_.data());
  for (Rows& rows : buffers_) rows.memory.reserve(tokens_ * rows.bytes);
  for (const hw_op& op : ops_) {
    if (op.kind == HW_OP_EXPERTS) reserve_routing(op, tokens_);
  }
  for (auto& known : plans_) {
    AttentionPlan& plan = known.second;
    plan_attention(step, {plan.heads, plan.kv_heads, plan.window, pool_.threads()}, &plan);
    partials_.reserve(attend_partial_bytes(plan, layout_));
  }
  asked_.clear();
  keep_.clear();
  for (int64_t n = 0; n < step.num_asked; ++n) {
    const hw_sampling& asked = step.asked[n];
    asked_.push_back(asked.row);
    keep_.push_back(!(asked.plain && asked.logprobs < 0 && asked.target < 0));
  }
  reserve_scores(step.num_asked);
}

void Program::reserve_scores(int64_t asked) {
  const int64_t vocabulary = matrices_[static_cast<size_t>(ops_.back().matrix)].outputs;
  const int64_t rows = std::min(asked, part_rows(vocabulary)), panels = num_panels(vocabulary);
  scores_.reserve(rows * panels * kPanel * 4);
  best_.resize(std::max(best_.size(), static_cast<size_t>(rows * panels)));
}

void Program::reserve_routing(const hw_op& op, int64_t tokens) {
  Routing& r = routing_;
  const hw_matrix& up = matrices_[static_cast<size_t>(op.matrix)];
  const hw_matrix& down = matrices_[static_cast<size_t>(op.matrix2)];
  const int64_t rows = tokens * op.chosen;
  const auto fit = [](Rows& some, int32_t form, int32_t width, int64_t count) {
    // Layers may differ in width and form; memory that held others is not zero in the paddings.
    if (some.form != form || some.width != width) some = make_rows(form, width);
    some.memory.reserve(count * some.bytes);
  };
  r.picks.resize(std::max(r.picks.size(), static_cast<size_t>(rows)));
  r.shares.resize(r.picks.size());
  r.places.resize(r.picks.size());
  r.tokens.resize(r.picks.size());
  fit(r.gathered, up.form, up.inputs, tokens);
  fit(r.inner, HW_FLOAT32, down.inputs, rows);
  fit(r.converted, down.form, down.inputs, rows);
  fit(r.answers, HW_FLOAT32, down.outputs, rows);
}

const AttentionPlan& Program::plan(const hw_op& op) const {
  return plans_.at({op.heads, op.window});
}

void Program::read(int32_t index, float* out) const {
  const Rows& rows = buffers_.at(static_cast<size_t>(index));
  const int64_t depth = round_up(rows.width, kPad);
  const int64_t group = rows.form == HW_INT4 ? kInt4Group : kInt8Group;
  for (int64_t row = 0; row < tokens_; ++row) {
    const uint8_t* record = rows.data() + row * rows.bytes;
    const float* scales = reinterpret_cast<const float*>(record + depth);
    for (int64_t k = 0; k < rows.width; ++k) {
      float& value = out[row * rows.width + k];
      if (rows.form == HW_FLOAT32) {
        value = reinterpret_cast<const float*>(record)[k];
      } else if (rows.form == HW_BFLOAT16) {
        const uint32_t bits = uint32_t{reinterpret_cast<const uint16_t*>(record)[k]} << 16;
        std::memcpy(&value, &bits, 4);
      } else {
        value = scales[k / group] * static_cast<float>(static_cast<int8_t>(record[k]));
      }
    }
  }
}

void Program::scores(float* out) {
  const hw_op& op = ops_.back();
  const int64_t vocabulary = matrices_[static_cast<size_t>(op.matrix)].outputs;
  asked_.clear();
  for (int64_t row = 0; row < tokens_; ++row) asked_.push_back(row);
  keep_.assign(asked_.size(), 1);
  reserve_scores(tokens_);
  const hw_step nothing{};
  const Run run(*this, nothing, nullptr);
  const int64_t stride = round_up(vocabulary, kPanel);
  pool_.run(max_loops(1, tokens_ / part_rows(vocabulary) + 1), [&](Worker& worker) {
    run.head(worker, op, [&](Worker& w, int64_t first, int64_t count) {
      w.loop(count, 1, [&](int64_t begin, int64_t end) {
        for (int64_t n = begin; n < end; ++n) {
          const float* row = static_cast<const float*>(scores_.data()) + n * stride;
          std::copy(row, row + vocabulary, out + (first + n) * vocabulary);
        }
      });
    });
  });
}

}  // namespace headway
