// A recorded model: its operations, the row buffers they work on, and how a step runs through them.
//
// Every worker walks through all operations and takes runs of each one's items (see threads.h).
// What an operation needs is worked out from the operation and the step by each worker for itself;
// nothing is shared but buffers. Knows no instruction set: kernels come as a table.
#ifndef HEADWAY_PROGRAM_H
#define HEADWAY_PROGRAM_H

#include <map>
#include <utility>
#include <vector>

#include "attention_plan.h"
#include "headway.h"
#include "kernels/tasks.h"
#include "memory.h"
#include "threads.h"

namespace headway {

// Rows of one buffer for as many tokens as a step has had.
struct RowBuffer {
  int32_t format = HW_FLOAT32;
  int32_t width = 0;
  int64_t bytes = 0;  // of a row
  Memory memory;

  uint8_t* data() const { return static_cast<uint8_t*>(memory.data()); }
  float* floats() const { return static_cast<float*>(memory.data()); }
  int64_t stride() const { return bytes / 4; }  // in floats
};

// Where the tokens of a mixture of experts go; filled between loops by one worker.
struct Routing {
  std::vector<int32_t> topk_ids;       // [tokens][top_k] experts
  std::vector<float> topk_weights;     // [tokens][top_k] router weights
  std::vector<int64_t> sorted_rows;    // [tokens][top_k] its row where rows are sorted by expert
  std::vector<int64_t> sorted_tokens;  // [tokens * top_k] token of each of those rows
  std::vector<int64_t> expert_first;   // [num_experts + 1] first row of each expert
  std::vector<int64_t> expert_blocks;  // [num_experts + 1] blocks of rows of all experts before
  std::vector<int64_t> expert_next;    // [num_experts] where the next row of each goes
  RowBuffer in_converted;              // inputs in the format of gate and up
  RowBuffer gated;                     // act(gate) * up, sorted by expert
  RowBuffer gated_converted;           // the same in the format of down
  RowBuffer expert_out;                // sorted by expert
};

// Throws std::invalid_argument, which names the operation and what is wrong with it, where a
// program's parts do not fit together, so that kernels need not ask (check.cpp).
void check_program(const std::vector<hw_op>& ops, const std::vector<hw_matrix>& matrices,
                   const std::vector<hw_buffer>& buffers, const hw_cache& cache);

// Rows that an operation computes. After the last attention only those are needed of which logits
// are asked: they are moved together to the front of all buffers that are still read ("kept"), and
// what follows computes them alone. Prompts are nearly all rows that nobody asks for.
struct KeptRows {
  size_t last_attention = 0;     // index of that operation; of the program
  std::vector<int32_t> buffers;  // read after it and written before; of the program
  bool all = true;               // nothing is left out of this step
  std::vector<int64_t> rows;     // of the step, ascending
  std::vector<uint8_t> finite;   // of their hidden states
  std::vector<int64_t> items;    // of attention, those with a row that is kept
  std::vector<int64_t> merges;
};

class Program {
 public:
  // Throws as check_program does.
  Program(Pool& pool, const Kernels& kernels, std::vector<hw_op> ops,
          std::vector<hw_matrix> matrices, const std::vector<hw_buffer>& buffers,
          const hw_cache& cache);

  void run(const hw_step& step, double* seconds);
  void read(int32_t buffer, float* out) const;
  void logits(float* out);

 private:
  friend class Run;

  void find_last_attention();
  void reserve(const hw_step& step);
  void keep_rows(const hw_step& step);
  void reserve_logits(int64_t num_rows);
  const AttentionPlan& plan(const hw_op& op) const;
  void reserve_routing(const hw_op& op, int64_t tokens);

  Pool& pool_;
  const Kernels& kernels_;
  std::vector<hw_op> ops_;
  std::vector<hw_matrix> matrices_;
  std::vector<RowBuffer> buffers_;
  hw_cache cache_;
  CacheLayout layout_;
  std::vector<Memory> weights_;  // of norms, padded with zeros
  Routing routing_;

  // Of the step under way (or the last).
  int64_t tokens_ = 0;
  std::vector<int64_t> positions_;  // [tokens]
  std::vector<int64_t> slots_;      // [tokens] block * block_size + offset
  std::map<std::pair<int32_t, int32_t>, AttentionPlan> plans_;  // by heads and window
  std::vector<uint8_t> finite_;       // [tokens]
  KeptRows kept_;
  std::vector<int64_t> logits_rows_;  // [num_sampled] rows whose logits are wanted, as kept
  std::vector<uint8_t> keep_;         // [num_sampled] whether more than their highest is
  std::vector<PanelMax> best_;        // [rows of a chunk][panels]
  Memory logits_;                     // [rows of a chunk][vocab_size]
  Memory partials_;                   // of attention
  std::vector<Memory> scratch_;       // one for each worker
};

// Panels of a matrix, and how its product's rows are cut into blocks.
constexpr int64_t kBlockRows = 48;
constexpr int64_t kStayBlocks = 5;
inline int64_t num_panels(int64_t n) { return round_up(n, kPanel) / kPanel; }
inline int64_t num_blocks(int64_t rows) { return (rows + kBlockRows - 1) / kBlockRows; }

}  // namespace headway

#endif
