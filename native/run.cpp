// See run.h. Every worker builds the same small tasks from the operation and the step; items are
// dealt out by Worker::loop.
#include "run.h"

#include <chrono>

namespace headway {
namespace {

// About two microseconds of work: what a run of a loop's items should be worth at least.
int64_t least_rows(int64_t width) { return 1 + 4096 / (width + 1); }

double now() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

}  // namespace

void Run::operator()(Worker& worker) const {
  double* seconds = worker.index() == 0 ? seconds_ : nullptr;
  double before = seconds ? now() : 0.0;
  for (const hw_op& op : p_.ops_) {
    step(worker, op);
    if (!seconds) continue;
    const double after = now();
    seconds[op.kind] += after - before;
    before = after;
  }
}

void Run::step(Worker& worker, const hw_op& op) const {
  switch (op.kind) {
    case HW_OP_EMBED: return embed(worker, op);
    case HW_OP_NORM: return norm(worker, op);
    case HW_OP_CONVERT: return convert(worker, buffer(op.in), buffer(op.out), p_.tokens_);
    case HW_OP_LINEAR: return linear(worker, op);
    case HW_OP_HEADS: return heads(worker, op);
    case HW_OP_ATTENTION: return attention(worker, op);
    case HW_OP_EXPERTS: return experts(worker, op);
    case HW_OP_HEAD:
      note_finite(worker);
      return head(worker, op, [this](Worker& w, int64_t first, int64_t count) {
        select(w, first, count);
      });
    default: return;
  }
}

void Run::embed(Worker& worker, const hw_op& op) const {
  const hw_matrix& m = matrix(op.matrix);
  const Rows& out = buffer(op.out);
  const EmbedTask t = {static_cast<const uint8_t*>(m.data), panel_bytes(m.form, m.inputs), m.form,
                       m.inputs, step_.tokens, op.scale, out.floats(), out.stride()};
  worker.loop(p_.tokens_, 1,
              [&](int64_t begin, int64_t end) { p_.kernels_.embed(t, begin, end); });
}

void Run::norm(Worker& worker, const hw_op& op) const {
  const Rows& in = buffer(op.in);
  const Rows& out = buffer(op.out);
  NormTask t{};
  t.in = in.floats();
  t.in_stride = in.stride();
  t.weight = op.weight;
  t.width = in.width;
  t.eps = op.eps;
  t.add = op.epilogue == HW_ADD;
  t.form = out.form;
  if (out.form == HW_FLOAT32) {
    t.plain = out.floats();
    t.plain_stride = out.stride();
  } else {
    t.out = out.data();
    t.out_bytes = out.bytes;
    if (op.out2 >= 0) {
      t.plain = buffer(op.out2).floats();
      t.plain_stride = buffer(op.out2).stride();
    }
  }
  if (op.out == p_.ops_.back().in) t.finite = p_.finite_.data();
  worker.loop(p_.tokens_, least_rows(t.width),
              [&](int64_t begin, int64_t end) { p_.kernels_.norm(t, begin, end); });
}

void Run::convert(Worker& worker, const Rows& in, const Rows& out, int64_t rows) const {
  const ConvertTask t = {in.floats(), in.stride(), out.data(), out.bytes, out.form, in.width};
  worker.loop(rows, least_rows(in.width),
              [&](int64_t begin, int64_t end) { p_.kernels_.convert(t, begin, end); });
}

LinearTask Run::task(int32_t index, const Rows& in, const Rows& out) const {
  const hw_matrix& m = matrix(index);
  LinearTask t{};
  t.panels = static_cast<const uint8_t*>(m.data);
  t.panel_bytes = panel_bytes(m.form, m.inputs);
  t.bias = m.bias;
  t.rows = in.data();
  t.row_bytes = in.bytes;
  t.out = out.floats();
  t.out_stride = out.stride();
  t.form = m.form;
  t.depth = static_cast<int32_t>(round_up(m.inputs, kPad));
  t.outputs = m.outputs;
  return t;
}

void Run::linear(Worker& worker, const hw_op& op) const {
  LinearTask t = task(op.matrix, buffer(op.in), buffer(op.out));
  t.epilogue = op.epilogue;
  t.activation = op.activation;
  product(worker, t, p_.tokens_);
}

void Run::product(Worker& worker, const LinearTask& t, int64_t rows) const {
  const int64_t panels = num_panels(t.outputs), blocks = num_blocks(rows);
  const int64_t least = 1 + 32768 / (t.panel_bytes * (rows < kBlockRows ? rows + 4 : kBlockRows));
  worker.loop(panels * blocks, least, [&](int64_t begin, int64_t end) {
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

void Run::heads(Worker& worker, const hw_op& op) const {
  const Rows &in = buffer(op.in), &out = buffer(op.out);
  HeadsTask t{};
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
              [&](int64_t begin, int64_t end) { p_.kernels_.heads(t, begin, end); });
}

void Run::attention(Worker& worker, const hw_op& op) const {
  const Rows &in = buffer(op.in), &out = buffer(op.out);
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
  const auto each = [&](size_t number, auto kernel) {
    worker.loop(static_cast<int64_t>(number), 1, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) kernel(t, n, scratch);
    });
  };
  each(plan.items.size(), p_.kernels_.attend);
  each(plan.merges.size(), p_.kernels_.attend_merge);
}

void Run::experts(Worker& worker, const hw_op& op) const {
  Routing& r = p_.routing_;
  const Rows& scores = buffer(op.in2);
  const RouteTask route = {scores.floats(), scores.stride(),  op.experts,      op.chosen,
                           op.normalise != 0, r.picks.data(), r.shares.data()};
  worker.loop(p_.tokens_, 8,
              [&](int64_t begin, int64_t end) { p_.kernels_.route(route, begin, end); });
  worker.loop(1, 1, [&](int64_t, int64_t) { place(op); });

  const int32_t form = matrix(op.matrix).form;
  const Rows& in = buffer(op.in);
  const bool plain = form == HW_FLOAT32;
  if (!plain) convert(worker, in, r.gathered, p_.tokens_);
  LinearTask up = task(op.matrix, plain ? in : r.gathered, r.inner);
  up.epilogue = HW_GATE;
  up.activation = op.activation;
  expert_product(worker, op, up, op.matrix, true);

  const int64_t rows = p_.tokens_ * op.chosen;
  if (matrix(op.matrix2).form != HW_FLOAT32) convert(worker, r.inner, r.converted, rows);
  LinearTask down = task(op.matrix2, matrix(op.matrix2).form == HW_FLOAT32 ? r.inner : r.converted,
                         r.answers);
  down.epilogue = HW_STORE;
  expert_product(worker, op, down, op.matrix2, false);

  const Rows& out = buffer(op.out);
  const MixTask mix = {r.answers.floats(), r.answers.stride(), r.places.data(),
                       r.shares.data(),    op.chosen,          out.width,
                       out.floats(),       out.stride(),       op.epilogue == HW_ADD};
  worker.loop(p_.tokens_, 4,
              [&](int64_t begin, int64_t end) { p_.kernels_.mix(mix, begin, end); });
}

// Rows of all experts, one expert after the other, each in the order of tokens.
void Run::place(const hw_op& op) const {
  Routing& r = p_.routing_;
  const int64_t rows = p_.tokens_ * op.chosen;
  r.firsts.assign(static_cast<size_t>(op.experts) + 1, 0);
  r.blocks.assign(static_cast<size_t>(op.experts) + 1, 0);
  for (int64_t n = 0; n < rows; ++n) ++r.firsts[static_cast<size_t>(r.picks[n]) + 1];
  for (int32_t e = 0; e < op.experts; ++e) {
    r.blocks[e + 1] = r.blocks[e] + num_blocks(r.firsts[e + 1]);
    r.firsts[e + 1] += r.firsts[e];
  }
  r.next.assign(r.firsts.begin(), r.firsts.end() - 1);
  for (int64_t n = 0; n < rows; ++n) {
    const int64_t row = r.next[static_cast<size_t>(r.picks[n])]++;
    r.places[n] = row;
    r.tokens[row] = n / op.chosen;
  }
}

// Each expert's rows times its own matrix; `gathered` rows come from their tokens' records.
void Run::expert_product(Worker& worker, const hw_op& op, const LinearTask& first, int32_t index,
                         bool gathered) const {
  const Routing& r = p_.routing_;
  const int64_t panels = num_panels(first.outputs);
  // The most blocks that there may be. How many there are may be read inside the loop only: a
  // worker that comes late to it would see what the next mixture's routing has made of it.
  const int64_t all = p_.tokens_ * op.chosen;
  const int64_t most = all / kBlockRows + (all < op.experts ? all : op.experts);
  worker.loop(panels * most, 1, [&](int64_t begin, int64_t end) {
    const int64_t last = panels * r.blocks.back() < end ? panels * r.blocks.back() : end;
    int32_t e = 0;
    for (int64_t n = begin; n < last; ++n) {
      while (n >= panels * r.blocks[e + 1]) ++e;
      const int64_t blocks = r.blocks[e + 1] - r.blocks[e];
      const int64_t rows = r.firsts[e + 1] - r.firsts[e];
      const int64_t item = n - panels * r.blocks[e], block = item % blocks;
      LinearTask t = first;
      t.panels = static_cast<const uint8_t*>(matrix(index + e).data);
      t.bias = matrix(index + e).bias;
      t.out += r.firsts[e] * t.out_stride;
      if (gathered) {
        t.index = r.tokens.data() + r.firsts[e];
      } else {
        t.rows += r.firsts[e] * t.row_bytes;
      }
      p_.kernels_.linear(t, item / blocks, rows * block / blocks, rows * (block + 1) / blocks);
    }
  });
}

// Which slices have a hidden state that is not finite.
void Run::note_finite(Worker& worker) const {
  worker.loop(1, 1, [&](int64_t, int64_t) {
    int64_t row = 0;
    for (int64_t n = 0; n < step_.num_slices; ++n) {
      uint8_t broken = 0;
      for (int64_t end = row + step_.counts[n]; row < end; ++row) broken |= !p_.finite_[row];
      step_.broken[n] = broken;
    }
  });
}

// Turns the scores of asked rows [first, first + count) into choices.
void Run::select(Worker& worker, int64_t first, int64_t count) const {
  const hw_matrix& m = matrix(p_.ops_.back().matrix);
  const int64_t panels = num_panels(m.outputs);
  const double before = seconds_ && worker.index() == 0 ? now() : 0.0;
  worker.loop(count, 1, [&](int64_t begin, int64_t end) {
    void* scratch = p_.scratch_[static_cast<size_t>(worker.index())].data();
    for (int64_t n = begin; n < end; ++n) {
      hw_choice& choice = step_.choices[first + n];
      if (p_.keep_[first + n]) {
        const float* scores = static_cast<const float*>(p_.scores_.data()) + n * panels * kPanel;
        p_.kernels_.choose(scores, m.outputs, step_.asked[first + n], &choice, scratch);
        continue;
      }
      const Best* best = p_.best_.data() + n * panels;
      Best top = best[0];
      for (int64_t k = 1; k < panels && top.output >= 0; ++k) {
        if (best[k].output < 0 || best[k].score > top.score) top = best[k];
      }
      choice.token = top.output < 0 ? 0 : top.output;
      choice.status = top.output < 0 ? HW_NOT_FINITE : HW_OK;
    }
  });
  if (seconds_ && worker.index() == 0) {
    const double spent = now() - before;
    seconds_[HW_OP_HEAD] -= spent;
    seconds_[HW_OP_HEAD + 1] += spent;
  }
}

}  // namespace headway
