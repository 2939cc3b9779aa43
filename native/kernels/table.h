// The kernels of one instruction set as a table of functions; see tasks.h for what they are told.
#ifndef HEADWAY_TABLE_H
#define HEADWAY_TABLE_H

#include "attention_task.h"
#include "tasks.h"

namespace headway {

struct Kernels {
  const char* name;
  void (*embed)(const EmbedTask&, int64_t begin, int64_t end);
  void (*norm)(const NormTask&, int64_t begin, int64_t end);
  void (*convert)(const ConvertTask&, int64_t begin, int64_t end);
  void (*route)(const RouteTask&, int64_t begin, int64_t end);
  void (*mix)(const MixTask&, int64_t begin, int64_t end);
  // Rows [begin, end) times one panel.
  void (*linear)(const LinearTask&, int64_t panel, int64_t begin, int64_t end);
  void (*head)(const HeadTask&, int64_t panel, int64_t begin, int64_t end);
  void (*heads)(const HeadsTask&, int64_t begin, int64_t end);
  void (*attend)(const AttendTask&, int64_t item, void* scratch);
  void (*attend_merge)(const AttendTask&, int64_t merge, void* scratch);
  void (*choose)(const float* scores, int64_t vocabulary, const hw_sampling&, hw_choice*,
                 void* scratch);
  int64_t (*choose_scratch_bytes)(int64_t vocabulary);
  int64_t (*exert)(int32_t form, int64_t rounds, double* products);
  int32_t (*read_all)(const uint8_t* from, int64_t bytes);
};

// The best table this processor runs whose name is `isa` (any, where it is NULL), or NULL.
const Kernels* find_kernels(const char* isa);

}  // namespace headway

#endif
