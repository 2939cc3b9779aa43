// One step's way through a program: what each worker does for each kind of operation.
#ifndef HEADWAY_RUN_H
#define HEADWAY_RUN_H

#include "program.h"

namespace headway {

class Run {
 public:
  // `seconds` may be NULL; see hw_program_run.
  Run(Program& program, const hw_step& step, double* seconds)
      : p_(program), step_(step), seconds_(seconds) {}

  // All operations, as one worker of a pool.
  void operator()(Worker& worker) const;

  // Logits of the rows in the program's `logits_rows_`, chunk by chunk; a chunk's rows are kept
  // where `keep_` says so, and then `after(worker, first, count)` is called by every worker.
  template <class After>
  void lm_head(Worker& worker, const hw_op& op, const After& after) const;

 private:
  // `rows` of a step: all, or those that are kept.
  void step(Worker& worker, const hw_op& op, int64_t rows) const;
  void embed(Worker& worker, const hw_op& op) const;
  void norm(Worker& worker, const hw_op& op, int64_t rows) const;
  void convert(Worker& worker, const RowBuffer& in, const RowBuffer& out, int64_t rows) const;
  void linear(Worker& worker, const hw_op& op, int64_t rows) const;
  void product(Worker& worker, const LinearTask& task, int64_t rows) const;
  void rope(Worker& worker, const hw_op& op) const;
  void attention(Worker& worker, const hw_op& op) const;
  void keep_rows(Worker& worker) const;
  void experts(Worker& worker, const hw_op& op, int64_t tokens) const;
  void sort_by_expert(const hw_op& op, int64_t tokens) const;
  void expert_product(Worker& worker, const hw_op& op, const LinearTask& first, int32_t matrix,
                      int64_t tokens, bool gathered) const;
  void sample(Worker& worker, int64_t first, int64_t count) const;
  void mark_nan(Worker& worker) const;

  LinearTask task(int32_t matrix, const RowBuffer& in, const RowBuffer& out) const;
  RowBuffer& buffer(int32_t index) const { return p_.buffers_[static_cast<size_t>(index)]; }
  const hw_matrix& matrix(int32_t index) const { return p_.matrices_[static_cast<size_t>(index)]; }

  Program& p_;
  const hw_step& step_;
  double* seconds_;
};

// The most loops that a worker meets in one program of so many operations and chunks of logits.
constexpr int64_t max_loops(int64_t ops, int64_t parts) { return 10 * ops + 2 * parts + 2; }

// Rows whose logits are held at once.
inline int64_t logits_chunk_rows(int64_t vocab_size) {
  const int64_t fitting = (int64_t{1} << 25) / vocab_size;
  return fitting < 1 ? 1 : fitting > 256 ? 256 : fitting;
}

template <class After>
void Run::lm_head(Worker& worker, const hw_op& op, const After& after) const {
  const hw_matrix& m = matrix(op.matrix);
  const int64_t panels = num_panels(m.n), most = logits_chunk_rows(m.n);
  const int64_t rows = static_cast<int64_t>(p_.logits_rows_.size());
  for (int64_t first = 0; first < rows; first += most) {
    const int64_t count = rows - first < most ? rows - first : most;
    LmHeadTask t{};
    t.linear = task(op.matrix, buffer(op.in), buffer(op.in));
    t.linear.index = p_.logits_rows_.data() + first;
    t.linear.out = static_cast<float*>(p_.logits_.data());
    t.linear.out_stride = panels * kPanel;
    t.keep = p_.keep_.data() + first;
    t.best = p_.best_.data();
    t.num_panels = panels;
    t.softcap = op.softcap;
    const int64_t blocks = num_blocks(count);
    worker.loop(panels * blocks, 2, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        const int64_t block = n % blocks;
        p_.kernels_.lm_head(t, n / blocks, count * block / blocks, count * (block + 1) / blocks);
      }
    });
    after(worker, first, count);
  }
}

}  // namespace headway

#endif
