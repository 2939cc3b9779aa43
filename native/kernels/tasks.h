// What a kernel is told, and the table of kernels: plain structs without instruction sets. run.cpp
// fills them for every operation of a step.
//
// A row is one token's; `begin` and `end` in the calls bound the rows (or panels) that one worker
// takes. Rows that feed a matrix are records in the matrix's format: for int8 and int4, K bytes,
// then a float scale for each group, then a correction for each group: -128 times the sum of the
// group's bytes (int8; an int32), or its scale times their sum (int4; a float).
#ifndef HEADWAY_TASKS_H
#define HEADWAY_TASKS_H

#include <stdint.h>

#include "../headway.h"
#include "attention_task.h"

namespace headway {

constexpr int64_t kPanel = 32;  // outputs of a panel
constexpr int64_t kPad = 64;    // inputs are padded to a multiple of this
constexpr int64_t kInt8Group = 64;
constexpr int64_t kInt4Group = 32;

constexpr int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Bytes of one panel, and of one row record, for k inputs; 0 where the format is unknown.
constexpr int64_t panel_bytes(int32_t format, int64_t k) {
  k = round_up(k, kPad);
  switch (format) {
    case HW_FLOAT32: return k * kPanel * 4;
    case HW_BFLOAT16: return k * kPanel * 2;
    case HW_INT8: return k / kInt8Group * (kInt8Group * kPanel + 2 * kPanel);
    case HW_INT4: return k / kInt4Group * (kInt4Group * kPanel / 2 + 4 * kPanel);
    default: return 0;
  }
}

constexpr int64_t row_bytes(int32_t format, int64_t width) {
  const int64_t k = round_up(width, kPad);
  switch (format) {
    case HW_FLOAT32: return k * 4;
    case HW_BFLOAT16: return k * 2;
    case HW_INT8: return round_up(k + k / kInt8Group * 8, 64);
    case HW_INT4: return round_up(k + k / kInt4Group * 8, 64);
    default: return 0;
  }
}

// The highest of one row's logits within one panel, and the first token that has it.
struct PanelMax {
  float logit;
  int32_t token;  // -1 where some logit is not finite
};

struct LinearTask {
  const uint8_t* panels;
  int64_t panel_bytes;
  const float* bias;  // or NULL
  const uint8_t* rows;
  int64_t row_bytes;
  const int64_t* index;  // record of each row, or NULL where row n is record n
  float* out;
  int64_t out_stride;  // floats
  int32_t format;
  int32_t padded_k;  // inputs rounded up to kPad
  int32_t n;         // outputs, before padding
  int32_t epilogue;
  int32_t activation;
};

// Logits of some rows: kept where the sampler reads them, and their highest by panel in any case,
// which is all that greedy sampling needs.
struct LmHeadTask {
  LinearTask linear;    // out is [rows][vocab_size rounded up to kPanel]
  const uint8_t* keep;  // [rows]
  PanelMax* best;       // [rows][panels]
  int64_t num_panels;
  float softcap;
};

struct EmbedTask {
  const uint8_t* panels;
  int64_t panel_bytes;
  int32_t format;
  int32_t width;
  const int64_t* tokens;
  float scale;
  float* out;
  int64_t out_stride;
};

struct NormTask {
  const float* in;
  int64_t in_stride;
  const float* weight;  // padded with zeros to kPad
  int32_t width;
  float eps;
  uint8_t* out;  // records of `format`, or NULL
  int64_t out_bytes;
  int32_t format;
  float* out32;  // float32 as well, or NULL
  int64_t out32_stride;
  bool add;         // to `out32`, instead of writing it
  uint8_t* finite;  // [rows] set to whether a row is finite, or NULL
};

struct ConvertTask {
  const float* in;
  int64_t in_stride;
  uint8_t* out;
  int64_t out_bytes;
  int32_t format;
  int32_t width;
};

struct RouteTask {
  const float* logits;  // of the router, a row: [num_experts]
  int64_t stride;
  int32_t num_experts;
  int32_t top_k;
  bool normalise;
  int32_t* topk_ids;    // [rows][top_k], by falling logit
  float* topk_weights;  // [rows][top_k]
};

struct CombineTask {
  const float* expert_out;  // [rows * top_k][stride], in the order of experts
  int64_t stride;
  const int64_t* sorted_rows;  // [rows][top_k]: where `expert_out` has each
  const float* topk_weights;   // [rows][top_k]
  int32_t top_k;
  int32_t width;
  float* out;
  int64_t out_stride;
  bool add;
};

// The kernels of one instruction set.
struct Kernels {
  const char* name;
  void (*embed)(const EmbedTask&, int64_t begin, int64_t end);
  void (*norm)(const NormTask&, int64_t begin, int64_t end);
  void (*convert)(const ConvertTask&, int64_t begin, int64_t end);
  void (*route)(const RouteTask&, int64_t begin, int64_t end);
  void (*combine)(const CombineTask&, int64_t begin, int64_t end);
  // Rows [begin, end) times one panel.
  void (*linear)(const LinearTask&, int64_t panel, int64_t begin, int64_t end);
  void (*lm_head)(const LmHeadTask&, int64_t panel, int64_t begin, int64_t end);
  void (*rope)(const RopeTask&, int64_t begin, int64_t end);
  void (*attend)(const AttendTask&, int64_t item, void* scratch);
  void (*attend_merge)(const AttendTask&, int64_t merge, void* scratch);
  void (*sample)(const float* logits, int64_t vocab_size, const hw_sampling&, hw_sampled_token*,
                 void* scratch);
  int64_t (*sample_scratch_bytes)(int64_t vocab_size);
  int64_t (*fma_loop)(int32_t format, int64_t rounds, double* products);
  int32_t (*read_loop)(const uint8_t* from, int64_t bytes);
};

// The best table this processor runs whose name is `isa` (any, where it is NULL), or NULL.
const Kernels* find_kernels(const char* isa);

}  // namespace headway

#endif
