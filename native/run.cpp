// See run.h. Every worker builds the same small tasks from the operation and the step; items are
// dealt out by Worker::loop.
#include "run.h"

#include <chrono>
#include <cstring>

namespace headway {
namespace {

// Rows that are about two microseconds of work: the grain of a loop over rows.
int64_t grain_rows(int64_t width) { return 1 + 4096 / (width + 1); }

bool all_finite(const float* values, int64_t count) {
  constexpr uint32_t kExponent = 0x7f800000;
  bool finite = true;
  for (int64_t n = 0; n < count; ++n) {
    uint32_t bits;
    std::memcpy(&bits, values + n, sizeof bits);
    finite &= (bits & kExponent) != kExponent;
  }
  return finite;
}

double now() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

}  // namespace

void Run::operator()(Worker& worker) const {
  double* seconds = worker.index() == 0 ? seconds_ : nullptr;
  double before = seconds ? now() : 0.0;
  const KeptRows& kept = p_.kept_;
  int64_t rows = p_.tokens_;
  for (const hw_op& op : p_.ops_) {
    step(worker, op, rows);
    if (!kept.all && &op == &p_.ops_[kept.last_attention]) {
      keep_rows(worker);
      rows = static_cast<int64_t>(kept.rows.size());
    }
    if (!seconds) continue;
    const double after = now();
    seconds[op.kind] += after - before;
    before = after;
  }
}

void Run::step(Worker& worker, const hw_op& op, int64_t rows) const {
  switch (op.kind) {
    case HW_OP_EMBED: return embed(worker, op);
    case HW_OP_NORM: return norm(worker, op, rows);
    case HW_OP_CONVERT: return convert(worker, buffer(op.in), buffer(op.out), rows);
    case HW_OP_LINEAR: return linear(worker, op, rows);
    case HW_OP_ROPE: return rope(worker, op);
    case HW_OP_ATTENTION: return attention(worker, op);
    case HW_OP_EXPERTS: return experts(worker, op, rows);
    case HW_OP_LM_HEAD:
      mark_nan(worker);
      return lm_head(worker, op, [this](Worker& w, int64_t first, int64_t count) {
        sample(w, first, count);
      });
    default: return;
  }
}

void Run::embed(Worker& worker, const hw_op& op) const {
  const hw_matrix& m = matrix(op.matrix);
  const RowBuffer& out = buffer(op.out);
  const EmbedTask t = {static_cast<const uint8_t*>(m.data), panel_bytes(m.format, m.k), m.format,
                       m.k, step_.tokens, op.scale, out.floats(), out.stride()};
  worker.loop(p_.tokens_, 1,
              [&](int64_t begin, int64_t end) { p_.kernels_.embed(t, begin, end); });
}

void Run::norm(Worker& worker, const hw_op& op, int64_t rows) const {
  const RowBuffer& in = buffer(op.in);
  const RowBuffer& out = buffer(op.out);
  NormTask t{};
  t.in = in.floats();
  t.in_stride = in.stride();
  t.weight = op.weight;
  t.width = in.width;
  t.eps = op.eps;
  t.add = op.epilogue == HW_ADD;
  t.format = out.format;
  if (out.format == HW_FLOAT32) {
    t.out32 = out.floats();
    t.out32_stride = out.stride();
  } else {
    t.out = out.data();
    t.out_bytes = out.bytes;
    if (op.out2 >= 0) {
      t.out32 = buffer(op.out2).floats();
      t.out32_stride = buffer(op.out2).stride();
    }
  }
  if (op.out == p_.ops_.back().in) {
    t.finite = rows == p_.tokens_ ? p_.finite_.data() : p_.kept_.finite.data();
  }
  worker.loop(rows, grain_rows(t.width),
              [&](int64_t begin, int64_t end) { p_.kernels_.norm(t, begin, end); });
}

void Run::convert(Worker& worker, const RowBuffer& in, const RowBuffer& out, int64_t rows) const {
  const ConvertTask t = {in.floats(), in.stride(), out.data(), out.bytes, out.format, in.width};
  worker.loop(rows, grain_rows(in.width),
              [&](int64_t begin, int64_t end) { p_.kernels_.convert(t, begin, end); });
}

LinearTask Run::task(int32_t index, const RowBuffer& in, const RowBuffer& out) const {
  const hw_matrix& m = matrix(index);
  LinearTask t{};
  t.panels = static_cast<const uint8_t*>(m.data);
  t.panel_bytes = panel_bytes(m.format, m.k);
  t.bias = m.bias;
  t.rows = in.data();
  t.row_bytes = in.bytes;
  t.out = out.floats();
  t.out_stride = out.stride();
  t.format = m.format;
  t.padded_k = static_cast<int32_t>(round_up(m.k, kPad));
  t.n = m.n;
  return t;
}

void Run::linear(Worker& worker, const hw_op& op, int64_t rows) const {
  LinearTask t = task(op.matrix, buffer(op.in), buffer(op.out));
  t.epilogue = op.epilogue;
  t.activation = op.activation;
  product(worker, t, rows);
}

void Run::product(Worker& worker, const LinearTask& t, int64_t rows) const {
  const int64_t panels = num_panels(t.n), blocks = num_blocks(rows);
  const int64_t grain = 1 + 32768 / (t.panel_bytes * (rows < kBlockRows ? rows + 4 : kBlockRows));
  worker.loop(panels * blocks, grain, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      // Some blocks of rows, which stay in the second-level cache, meet all panels; then the next.
      const int64_t stay = n / (panels * kStayBlocks) * kStayBlocks;
      const int64_t staying = blocks - stay < kStayBlocks ? blocks - stay : kStayBlocks;
      const int64_t within = n - panels * stay;
      const int64_t panel = within / staying, block = stay + within % staying;
      p_.kernels_.linear(t, panel, rows * block / blocks, rows * (block + 1) / blocks);
    }
  });
}

void Run::rope(Worker& worker, const hw_op& op) const {
  const RowBuffer &in = buffer(op.in), &out = buffer(op.out);
  RopeTask t{};
  t.in = in.floats();
  t.in_stride = in.stride();
  t.out = out.floats();
  t.out_stride = out.stride();
  t.positions = p_.positions_.data();
  t.slots = p_.slots_.data();
  t.cache = p_.layout_;
  t.layer = op.layer;
  t.heads = op.heads;
  t.query_norm = op.weight;
  t.key_norm = op.weight2;
  t.eps = op.eps;
  t.cos = op.cos;
  t.sin = op.sin;
  worker.loop(p_.tokens_, 1,
              [&](int64_t begin, int64_t end) { p_.kernels_.rope(t, begin, end); });
}

void Run::attention(Worker& worker, const hw_op& op) const {
  const RowBuffer &in = buffer(op.in), &out = buffer(op.out);
  const AttentionPlan& plan = p_.plan(op);
  AttendTask t{};
  t.plan = &plan;
  t.queries = in.floats();
  t.query_stride = in.stride();
  t.out = out.floats();
  t.out_stride = out.stride();
  t.cache = p_.layout_;
  t.layer = op.layer;
  t.scale = op.scale;
  t.partials = static_cast<float*>(p_.partials_.data());
  void* scratch = p_.scratch_[static_cast<size_t>(worker.index())].data();
  const KeptRows& kept = p_.kept_;
  const bool all = kept.all || &op != &p_.ops_[kept.last_attention];
  const auto each = [&](size_t number, const std::vector<int64_t>& some, auto kernel) {
    worker.loop(static_cast<int64_t>(all ? number : some.size()), 1,
                [&](int64_t begin, int64_t end) {
                  for (int64_t n = begin; n < end; ++n) {
                    kernel(t, all ? n : some[static_cast<size_t>(n)], scratch);
                  }
                });
  };
  each(plan.items.size(), kept.items, p_.kernels_.attend);
  each(plan.merges.size(), kept.merges, p_.kernels_.attend_merge);
}

// Notes which rows are finite so far, and moves those that are kept to the front of every buffer
// that is still read.
void Run::keep_rows(Worker& worker) const {
  const KeptRows& kept = p_.kept_;
  const int32_t attended = p_.ops_[kept.last_attention].out;
  worker.loop(p_.tokens_, 8, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      bool finite = true;
      for (int32_t index : kept.buffers) {
        const RowBuffer& some = buffer(index);
        // Of the rows that are left out, attention may have computed nothing.
        if (some.format != HW_FLOAT32 || index == attended) continue;
        finite = finite && all_finite(some.floats() + row * some.stride(), some.width);
      }
      p_.finite_[static_cast<size_t>(row)] = finite;
    }
  });
  worker.loop(static_cast<int64_t>(kept.buffers.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      const RowBuffer& some = buffer(kept.buffers[static_cast<size_t>(n)]);
      uint8_t* to = some.data();
      for (int64_t row : kept.rows) {
        // Ascending, so what is overwritten has been moved, or is left out.
        std::memmove(to, some.data() + row * some.bytes, static_cast<size_t>(some.bytes));
        to += some.bytes;
      }
    }
  });
}

void Run::experts(Worker& worker, const hw_op& op, int64_t tokens) const {
  Routing& r = p_.routing_;
  const RowBuffer& logits = buffer(op.in2);
  const RouteTask route = {logits.floats(),    logits.stride(),   op.num_experts,       op.top_k,
                           op.normalise != 0, r.topk_ids.data(), r.topk_weights.data()};
  worker.loop(tokens, 8,
              [&](int64_t begin, int64_t end) { p_.kernels_.route(route, begin, end); });
  worker.loop(1, 1, [&](int64_t, int64_t) { sort_by_expert(op, tokens); });

  const int32_t format = matrix(op.matrix).format;
  const RowBuffer& in = buffer(op.in);
  const bool as_is = format == HW_FLOAT32;
  if (!as_is) convert(worker, in, r.in_converted, tokens);
  LinearTask up = task(op.matrix, as_is ? in : r.in_converted, r.gated);
  up.epilogue = HW_GATE;
  up.activation = op.activation;
  expert_product(worker, op, up, op.matrix, tokens, true);

  const int64_t rows = tokens * op.top_k;
  const bool down_as_is = matrix(op.matrix2).format == HW_FLOAT32;
  if (!down_as_is) convert(worker, r.gated, r.gated_converted, rows);
  LinearTask down = task(op.matrix2, down_as_is ? r.gated : r.gated_converted, r.expert_out);
  down.epilogue = HW_STORE;
  expert_product(worker, op, down, op.matrix2, tokens, false);

  const RowBuffer& out = buffer(op.out);
  const CombineTask t = {r.expert_out.floats(), r.expert_out.stride(), r.sorted_rows.data(),
                         r.topk_weights.data(), op.top_k,              out.width,
                         out.floats(),          out.stride(),          op.epilogue == HW_ADD};
  worker.loop(tokens, 4,
              [&](int64_t begin, int64_t end) { p_.kernels_.combine(t, begin, end); });
}

// Rows of all experts, one expert after the other, each in the order of tokens.
void Run::sort_by_expert(const hw_op& op, int64_t tokens) const {
  Routing& r = p_.routing_;
  const int64_t rows = tokens * op.top_k;
  r.expert_first.assign(static_cast<size_t>(op.num_experts) + 1, 0);
  r.expert_blocks.assign(static_cast<size_t>(op.num_experts) + 1, 0);
  for (int64_t n = 0; n < rows; ++n) ++r.expert_first[static_cast<size_t>(r.topk_ids[n]) + 1];
  for (int32_t e = 0; e < op.num_experts; ++e) {
    r.expert_blocks[e + 1] = r.expert_blocks[e] + num_blocks(r.expert_first[e + 1]);
    r.expert_first[e + 1] += r.expert_first[e];
  }
  r.expert_next.assign(r.expert_first.begin(), r.expert_first.end() - 1);
  for (int64_t n = 0; n < rows; ++n) {
    const int64_t row = r.expert_next[static_cast<size_t>(r.topk_ids[n])]++;
    r.sorted_rows[n] = row;
    r.sorted_tokens[row] = n / op.top_k;
  }
}

// Each expert's rows times its own matrix; `gathered` rows come from their tokens' records.
void Run::expert_product(Worker& worker, const hw_op& op, const LinearTask& first, int32_t index,
                         int64_t tokens, bool gathered) const {
  const Routing& r = p_.routing_;
  const int64_t panels = num_panels(first.n);
  // The most blocks that there may be. How many there are may be read inside the loop only: a
  // worker that comes late to it would see what the next op's routing has made of it.
  const int64_t all = tokens * op.top_k;
  const int64_t most = all / kBlockRows + (all < op.num_experts ? all : op.num_experts);
  worker.loop(panels * most, 1, [&](int64_t begin, int64_t end) {
    const int64_t items = panels * r.expert_blocks.back(), last = items < end ? items : end;
    int32_t e = 0;
    for (int64_t n = begin; n < last; ++n) {
      while (n >= panels * r.expert_blocks[e + 1]) ++e;
      const int64_t blocks = r.expert_blocks[e + 1] - r.expert_blocks[e];
      const int64_t rows = r.expert_first[e + 1] - r.expert_first[e];
      const int64_t item = n - panels * r.expert_blocks[e], block = item % blocks;
      LinearTask t = first;
      t.panels = static_cast<const uint8_t*>(matrix(index + e).data);
      t.bias = matrix(index + e).bias;
      t.out += r.expert_first[e] * t.out_stride;
      if (gathered) {
        t.index = r.sorted_tokens.data() + r.expert_first[e];
      } else {
        t.rows += r.expert_first[e] * t.row_bytes;
      }
      p_.kernels_.linear(t, item / blocks, rows * block / blocks, rows * (block + 1) / blocks);
    }
  });
}

// Which slices have a hidden state that is not finite.
void Run::mark_nan(Worker& worker) const {
  worker.loop(1, 1, [&](int64_t, int64_t) {
    const KeptRows& kept = p_.kept_;
    for (size_t n = 0; !kept.all && n < kept.rows.size(); ++n) {
      p_.finite_[static_cast<size_t>(kept.rows[n])] &= kept.finite[n];
    }
    int64_t row = 0;
    for (int64_t n = 0; n < step_.num_slices; ++n) {
      uint8_t has_nan = 0;
      for (int64_t end = row + step_.counts[n]; row < end; ++row) has_nan |= !p_.finite_[row];
      step_.has_nan[n] = has_nan;
    }
  });
}

// Samples a token from each of the rows [first, first + count) of `logits_rows_`.
void Run::sample(Worker& worker, int64_t first, int64_t count) const {
  const hw_matrix& m = matrix(p_.ops_.back().matrix);
  const int64_t panels = num_panels(m.n);
  const double before = seconds_ && worker.index() == 0 ? now() : 0.0;
  worker.loop(count, 1, [&](int64_t begin, int64_t end) {
    void* scratch = p_.scratch_[static_cast<size_t>(worker.index())].data();
    for (int64_t n = begin; n < end; ++n) {
      hw_sampled_token& sampled = step_.sampled[first + n];
      if (p_.keep_[first + n]) {
        const float* logits = static_cast<const float*>(p_.logits_.data()) + n * panels * kPanel;
        p_.kernels_.sample(logits, m.n, step_.sampling[first + n], &sampled, scratch);
        continue;
      }
      const PanelMax* best = p_.best_.data() + n * panels;
      PanelMax top = best[0];
      for (int64_t k = 1; k < panels && top.token >= 0; ++k) {
        if (best[k].token < 0 || best[k].logit > top.logit) top = best[k];
      }
      sampled.token = top.token < 0 ? 0 : top.token;
      sampled.status = top.token < 0 ? HW_NOT_FINITE : HW_OK;
    }
  });
  if (seconds_ && worker.index() == 0) {
    const double spent = now() - before;
    seconds_[HW_OP_LM_HEAD] -= spent;
    seconds_[HW_OP_LM_HEAD + 1] += spent;
  }
}

}  // namespace headway
