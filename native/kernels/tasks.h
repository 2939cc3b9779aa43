// What a kernel is told: plain structs without instruction sets, filled by program.cpp once a step.
//
// A row is one token's; `begin` and `end` in the calls bound the rows (or panels) that one worker
// takes. Rows that feed a matrix are records in the matrix's form: for int8 and int4 the K bytes
// are followed by one float scale for each group and by one correction for each group.
#ifndef HEADWAY_TASKS_H
#define HEADWAY_TASKS_H

#include <stdint.h>

#include "../headway.h"

namespace headway {

constexpr int64_t kPanel = 32;  // outputs of a panel
constexpr int64_t kPad = 64;    // inputs are padded to a multiple of this
constexpr int64_t kInt8Group = 64;
constexpr int64_t kInt4Group = 32;

constexpr int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Bytes of one panel, and of one row record, for `inputs` inputs; 0 where the form is unknown.
constexpr int64_t panel_bytes(int32_t form, int64_t inputs) {
  const int64_t k = round_up(inputs, kPad);
  switch (form) {
    case HW_FLOAT32: return k * kPanel * 4;
    case HW_BFLOAT16: return k * kPanel * 2;
    case HW_INT8: return k / kInt8Group * (kInt8Group * kPanel + 2 * kPanel);
    case HW_INT4: return k / kInt4Group * (kInt4Group * kPanel / 2 + 4 * kPanel);
    default: return 0;
  }
}

constexpr int64_t row_bytes(int32_t form, int64_t width) {
  const int64_t k = round_up(width, kPad);
  switch (form) {
    case HW_FLOAT32: return k * 4;
    case HW_BFLOAT16: return k * 2;
    case HW_INT8: return round_up(k + k / kInt8Group * 8, 64);
    case HW_INT4: return round_up(k + k / kInt4Group * 8, 64);
    default: return 0;
  }
}

// The best of one row's scores within one panel.
struct Best {
  float score;
  int32_t output;  // -1 where some score is not finite
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
  int32_t form;
  int32_t depth;    // inputs rounded up to kPad
  int32_t outputs;  // before padding
  int32_t epilogue;
  int32_t activation;
};

// Scores of asked rows: kept where somebody reads them, and their best by panel in any case.
struct HeadTask {
  LinearTask linear;  // out is [rows][vocabulary rounded up to kPanel]
  const uint8_t* keep;  // [rows]
  Best* best;           // [rows][panels]
  int64_t num_panels;
  float softcap;
};

struct EmbedTask {
  const uint8_t* panels;
  int64_t panel_bytes;
  int32_t form;
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
  uint8_t* out;  // records of `form`, or NULL
  int64_t out_bytes;
  int32_t form;
  float* plain;  // float32 as well, or NULL
  int64_t plain_stride;
  bool add;           // to `plain`, instead of writing it
  uint8_t* finite;  // [rows] set to whether a row is finite, or NULL
};

struct ConvertTask {
  const float* in;
  int64_t in_stride;
  uint8_t* out;
  int64_t out_bytes;
  int32_t form;
  int32_t width;
};

struct RouteTask {
  const float* scores;
  int64_t stride;
  int32_t experts;
  int32_t chosen;
  bool normalise;
  int32_t* picks;  // [rows][chosen], by falling score
  float* shares;   // [rows][chosen]
};

struct MixTask {
  const float* answers;  // [rows * chosen][stride], in the order of experts
  int64_t stride;
  const int64_t* places;  // [rows][chosen]: the answer of each choice
  const float* shares;    // [rows][chosen]
  int32_t chosen;
  int32_t width;
  float* out;
  int64_t out_stride;
  bool add;
};

}  // namespace headway

#endif
