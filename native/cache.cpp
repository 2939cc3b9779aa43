// The sizes of the KV cache; cache.h says what lies where.
#include "cache.h"

namespace {

int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

int32_t lanes_of(int32_t kind) {
  return kind == HW_CACHE_FLOAT32 ? 1 : kind == HW_CACHE_BFLOAT16 ? 2 : 4;
}

}  // namespace

const char* cache_problem(const hw_cache& cache) {
  if (cache.kind < HW_CACHE_FLOAT32 || cache.kind > HW_CACHE_INT8) return "unknown cache kind";
  const int32_t size = cache.block_size;
  if (size != 16 && size != 32 && size != 64 && size != 128) {
    return "block size must be 16, 32, 64 or 128";
  }
  if (cache.head_dim < 2 || cache.head_dim > kMaxHeadDim || cache.head_dim % 2 != 0) {
    return "head size must be even and at most 1024";
  }
  if (cache.num_layers < 1 || cache.num_blocks < 1 || cache.kv_heads < 1) {
    return "cache without layers, blocks or heads";
  }
  return nullptr;
}

CacheLayout cache_layout(const hw_cache& cache) {
  CacheLayout x = {};
  x.memory = static_cast<char*>(cache.memory);
  x.kind = cache.kind;
  x.lanes = lanes_of(cache.kind);
  x.kv_heads = cache.kv_heads;
  x.head_dim = cache.head_dim;
  x.padded = static_cast<int32_t>(round_up(cache.head_dim, 32));
  x.block_size = cache.block_size;
  while ((1 << x.block_shift) < x.block_size) ++x.block_shift;
  const int64_t words = int64_t{x.padded} * x.block_size / x.lanes;
  x.values_at = words * 4;
  x.scales_at = words * 8;
  const int64_t scales = x.kind == HW_CACHE_INT8 ? int64_t{x.block_size} * 8 : 0;
  x.head_bytes = round_up(x.scales_at + scales, 64);
  x.block_bytes = x.head_bytes * x.kv_heads;
  x.layer_bytes = x.block_bytes * cache.num_blocks;
  return x;
}

int64_t hw_cache_bytes(const hw_cache* cache) {
  if (cache_problem(*cache) != nullptr) return -1;
  return cache_layout(*cache).layer_bytes * cache->num_layers;
}
