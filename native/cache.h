// Where keys and values lie in the KV cache.
//
// One piece of memory per (layer, block, kv head), in which keys and values are ordered so that
// attention reads them as they come: every step of a product takes one 4-byte word per lane. A word
// holds `lanes` numbers (1 float32, 2 bfloat16 or 4 int8), which are neighbouring components of one
// key, or one component of neighbouring values:
//   keys   [head_dim / lanes][block_size] words
//   values [block_size / lanes][padded] words
// int8 keys are stored plus 128, int8 values signed, each with one float32 scale per position:
//   scales [2][block_size], keys' then values'
// Memory comes zeroed, and only what is used is touched. Only finite numbers are stored, because
// blocks are reused and hidden positions are multiplied by zero.
#ifndef HEADWAY_CACHE_H
#define HEADWAY_CACHE_H

#include <stdint.h>

#include "headway.h"

constexpr int64_t kMaxHeadDim = 1024;

struct CacheLayout {
  char* memory;
  int32_t kind;  // hw_cache_kind
  int32_t lanes;
  int32_t kv_heads;
  int32_t head_dim;
  int32_t padded;      // head_dim rounded up to a multiple of 32
  int32_t block_size;
  int32_t block_shift;  // block_size = 1 << block_shift
  int64_t values_at;  // bytes from a head's start
  int64_t scales_at;
  int64_t head_bytes;
  int64_t block_bytes;
  int64_t layer_bytes;

  char* head(int64_t layer, int64_t block, int64_t kv_head) const {
    return memory + layer * layer_bytes + block * block_bytes + kv_head * head_bytes;
  }
};

// Why this cache cannot be, or NULL where it can.
const char* cache_problem(const hw_cache& cache);

// `cache` must have no problem.
CacheLayout cache_layout(const hw_cache& cache);

#endif
