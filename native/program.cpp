// Making a program and its memory, and what is worked out once a step; see program.h and run.h.
#include "program.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "run.h"

namespace headway {
namespace {

RowBuffer make_rows(int32_t format, int32_t width) {
  RowBuffer rows;
  rows.format = format;
  rows.width = width;
  rows.bytes = row_bytes(format, width);
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
    buffers_.push_back(make_rows(buffer.format, buffer.width));
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
  find_last_attention();
  const int64_t vocab_size = matrices_[static_cast<size_t>(ops_.back().matrix)].n;
  scratch_.resize(static_cast<size_t>(pool_.threads()));
  const int64_t sampling_bytes = kernels_.sample_scratch_bytes(vocab_size);
  layout_ = cache_layout(cache_);
  const int64_t attention_bytes = attend_scratch_bytes(layout_);
  for (Memory& scratch : scratch_) scratch.reserve(std::max(sampling_bytes, attention_bytes));
}

void Program::find_last_attention() {
  for (size_t n = 0; n < ops_.size(); ++n) {
    if (ops_[n].kind == HW_OP_ATTENTION) kept_.last_attention = n;
  }
  std::vector<bool> written(buffers_.size());
  const auto read = [&](int32_t index) {
    const bool known = std::count(kept_.buffers.begin(), kept_.buffers.end(), index) > 0;
    if (index >= 0 && !written[static_cast<size_t>(index)] && !known) {
      kept_.buffers.push_back(index);
    }
  };
  for (size_t n = kept_.last_attention + 1; n < ops_.size(); ++n) {
    const hw_op& op = ops_[n];
    read(op.in);
    if (op.kind == HW_OP_EXPERTS) read(op.in2);
    if (op.kind == HW_OP_LM_HEAD) break;
    if (op.epilogue == HW_ADD) read(op.out);
    written[static_cast<size_t>(op.out)] = true;
    if (op.kind == HW_OP_NORM && op.out2 >= 0) written[static_cast<size_t>(op.out2)] = true;
  }
}

void Program::run(const hw_step& step, double* seconds) {
  reserve(step);
  const int64_t vocab_size = matrices_[static_cast<size_t>(ops_.back().matrix)].n;
  const int64_t parts = step.num_sampled / logits_chunk_rows(vocab_size) + 1;
  const Run run(*this, step, seconds);
  pool_.run(max_loops(static_cast<int64_t>(ops_.size()), parts), run);
}

// Memory for the step's rows, and what all operations need to know of it.
void Program::reserve(const hw_step& step) {
  tokens_ = step.num_tokens;
  positions_.resize(static_cast<size_t>(tokens_));
  slots_.resize(static_cast<size_t>(tokens_));
  finite_.resize(static_cast<size_t>(tokens_));
  rows_to_slots(step, cache_.block_size, positions_.data(), slots_.data());
  for (RowBuffer& rows : buffers_) rows.memory.reserve(tokens_ * rows.bytes);
  for (const hw_op& op : ops_) {
    if (op.kind == HW_OP_EXPERTS) reserve_routing(op, tokens_);
  }
  for (auto& known : plans_) {
    AttentionPlan& plan = known.second;
    plan_attention(step, {plan.heads, plan.kv_heads, plan.window, pool_.threads()}, &plan);
    partials_.reserve(attend_partial_bytes(plan, layout_));
  }
  keep_rows(step);
  logits_rows_.clear();
  keep_.clear();
  for (int64_t n = 0; n < step.num_sampled; ++n) {
    const hw_sampling& sampling = step.sampling[n];
    const auto at = std::lower_bound(kept_.rows.begin(), kept_.rows.end(), sampling.row);
    logits_rows_.push_back(kept_.all ? sampling.row : at - kept_.rows.begin());
    keep_.push_back(!(sampling.greedy && sampling.logprobs < 0 && sampling.target < 0));
  }
  reserve_logits(step.num_sampled);
}

// Which rows are kept after the last attention, and which of its items they need.
void Program::keep_rows(const hw_step& step) {
  std::vector<int64_t>& rows = kept_.rows;
  rows.clear();
  for (int64_t n = 0; n < step.num_sampled; ++n) rows.push_back(step.sampling[n].row);
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  const hw_op& op = ops_[kept_.last_attention];
  const int64_t count = static_cast<int64_t>(rows.size());
  kept_.all = step.all_rows != 0 || count == tokens_ || op.kind != HW_OP_ATTENTION;
  if (kept_.all) return;
  kept_.finite.resize(rows.size());
  const auto needed = [&](const std::vector<AttendItem>& items, std::vector<int64_t>* found) {
    found->clear();
    for (size_t n = 0; n < items.size(); ++n) {
      const int64_t first = items[n].row, end = first + items[n].tokens;
      const auto next = std::lower_bound(rows.begin(), rows.end(), first);
      if (next != rows.end() && *next < end) found->push_back(static_cast<int64_t>(n));
    }
  };
  needed(plan(op).items, &kept_.items);
  needed(plan(op).merges, &kept_.merges);
}

void Program::reserve_logits(int64_t num_rows) {
  const int64_t vocab_size = matrices_[static_cast<size_t>(ops_.back().matrix)].n;
  const int64_t rows = std::min(num_rows, logits_chunk_rows(vocab_size));
  const int64_t panels = num_panels(vocab_size);
  logits_.reserve(rows * panels * kPanel * 4);
  best_.resize(std::max(best_.size(), static_cast<size_t>(rows * panels)));
}

void Program::reserve_routing(const hw_op& op, int64_t tokens) {
  Routing& r = routing_;
  const hw_matrix& up = matrices_[static_cast<size_t>(op.matrix)];
  const hw_matrix& down = matrices_[static_cast<size_t>(op.matrix2)];
  const int64_t rows = tokens * op.top_k;
  const auto fit = [](RowBuffer& some, int32_t format, int32_t width, int64_t count) {
    // Layers may differ in width and format; memory that held others is not zero in the paddings.
    if (some.format != format || some.width != width) some = make_rows(format, width);
    some.memory.reserve(count * some.bytes);
  };
  r.topk_ids.resize(std::max(r.topk_ids.size(), static_cast<size_t>(rows)));
  r.topk_weights.resize(r.topk_ids.size());
  r.sorted_rows.resize(r.topk_ids.size());
  r.sorted_tokens.resize(r.topk_ids.size());
  fit(r.in_converted, up.format, up.k, tokens);
  fit(r.gated, HW_FLOAT32, down.k, rows);
  fit(r.gated_converted, down.format, down.k, rows);
  fit(r.expert_out, HW_FLOAT32, down.n, rows);
}

const AttentionPlan& Program::plan(const hw_op& op) const {
  return plans_.at({op.heads, op.window});
}

void Program::read(int32_t index, float* out) const {
  if (!kept_.all) throw std::logic_error("the last step left rows out");
  const RowBuffer& rows = buffers_.at(static_cast<size_t>(index));
  const int64_t padded_k = round_up(rows.width, kPad);
  const int64_t group = rows.format == HW_INT4 ? kInt4Group : kInt8Group;
  for (int64_t row = 0; row < tokens_; ++row) {
    const uint8_t* record = rows.data() + row * rows.bytes;
    const float* scales = reinterpret_cast<const float*>(record + padded_k);
    for (int64_t k = 0; k < rows.width; ++k) {
      float& value = out[row * rows.width + k];
      if (rows.format == HW_FLOAT32) {
        value = reinterpret_cast<const float*>(record)[k];
      } else if (rows.format == HW_BFLOAT16) {
        const uint32_t bits = uint32_t{reinterpret_cast<const uint16_t*>(record)[k]} << 16;
        std::memcpy(&value, &bits, 4);
      } else {
        value = scales[k / group] * static_cast<float>(static_cast<int8_t>(record[k]));
      }
    }
  }
}

void Program::logits(float* out) {
  const hw_op& op = ops_.back();
  const int64_t vocab_size = matrices_[static_cast<size_t>(op.matrix)].n;
  if (!kept_.all) throw std::logic_error("the last step left rows out");
  logits_rows_.clear();
  for (int64_t row = 0; row < tokens_; ++row) logits_rows_.push_back(row);
  keep_.assign(logits_rows_.size(), 1);
  reserve_logits(tokens_);
  const hw_step nothing{};
  const Run run(*this, nothing, nullptr);
  const int64_t stride = round_up(vocab_size, kPanel);
  pool_.run(max_loops(1, tokens_ / logits_chunk_rows(vocab_size) + 1), [&](Worker& worker) {
    run.lm_head(worker, op, [&](Worker& w, int64_t first, int64_t count) {
      w.loop(count, 1, [&](int64_t begin, int64_t end) {
        for (int64_t n = begin; n < end; ++n) {
          const float* row = static_cast<const float*>(logits_.data()) + n * stride;
          std::copy(row, row + vocab_size, out + (first + n) * vocab_size);
        }
      });
    });
  });
}

}  // namespace headway
