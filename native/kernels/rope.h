// RoPE and the write to the KV cache: from the product of the query, key and value matrices to
// queries ready for attention and keys and values in the cache. Norms of heads, rotation and
// conversion take one pass over the rows.
#ifndef HEADWAY_ROPE_H
#define HEADWAY_ROPE_H

#include "../vec/math.h"
#include "attention_task.h"

namespace headway::HW_ISA_NAME {

// A factor that gives a head of `size` numbers a root mean square of 1.
HW_INLINE F norm_factor(const float* x, int size, float eps) {
  F squares = f_zero();
  for (int n = 0; n < size; n += 16) {
    const F part = f_load_part(x + n, size - n);
    squares = f_fma(part, part, squares);
  }
  return f_set(1.0f / __builtin_sqrtf(f_sum(squares) / static_cast<float>(size) + eps));
}

// Norm (unless `weight` is NULL), then rotation: component n of the first half turns with component
// n of the second.
static void rotate_head(const float* x, float* out, const RopeTask& task, const float* weight,
                      int64_t position) {
  const int size = task.cache.head_dim, half = size / 2;
  const float* cos = task.cos + position * size;
  const float* sin = task.sin + position * size;
  const F factor = weight == nullptr ? f_set(1.0f) : norm_factor(x, size, task.eps);
  for (int n = 0; n < half; n += 16) {
    const int left = half - n;
    F first = f_load_part(x + n, left), second = f_load_part(x + half + n, left);
    if (weight != nullptr) {
      first = first * factor * f_load_part(weight + n, left);
      second = second * factor * f_load_part(weight + half + n, left);
    }
    const F rotated = first * f_load_part(cos + n, left);
    const F other = second * f_load_part(cos + half + n, left);
    f_store_part(out + n, rotated - second * f_load_part(sin + n, left), left);
    f_store_part(out + half + n, f_fma(first, f_load_part(sin + half + n, left), other), left);
  }
}

// Only finite numbers go to the cache: NaN as 0, what is larger than `most` as that.
HW_INLINE F finite(F x, float most) {
  x = f_select(f_equal(x, x), x, f_zero());
  return f_max(f_min(x, f_set(most)), f_set(-most));
}

// Head to bfloat16, padded with zeros to a multiple of 16.
HW_INLINE void head_to_bf16(const float* x, int size, uint16_t* out) {
  const float largest = 3.3895313892515355e38f;
  for (int n = 0; n < size; n += 16) {
    f_store_bf16(out + n, finite(f_load_part(x + n, size - n), largest));
  }
}

// Head to signed bytes plus `offset`, padded likewise; returns the scale.
HW_INLINE float head_to_int8(const float* x, int size, int offset, uint8_t* out) {
  const float largest = 3.4028234663852886e38f;
  F top = f_zero();
  for (int n = 0; n < size; n += 16) {
    top = f_max(top, f_abs(finite(f_load_part(x + n, size - n), largest)));
  }
  const float highest = f_highest(top);
  const F factor = f_set(highest > 1e-30f ? 127.0f / highest : 0.0f);
  for (int n = 0; n < size; n += 16) {
    const F part = finite(f_load_part(x + n, size - n), largest);
    i_store_bytes(out + n, i_round(part * factor) + i_set(offset));
  }
  return highest / 127.0f;
}

// Writes a key and a value to offset `at` of a block of one kv head.
static void store_kv(const CacheLayout& cache, char* block, int at, const float* key,
                       const float* value) {
  alignas(64) uint8_t bytes[kMaxHeadDim * 4];
  const int size = cache.head_dim;
  float* scales = reinterpret_cast<float*>(block + cache.scales_at);
  uint16_t* halves = reinterpret_cast<uint16_t*>(bytes);
  float* floats = reinterpret_cast<float*>(bytes);
  const float largest = 3.4028234663852886e38f;

  const int words = (size + cache.lanes - 1) / cache.lanes;
  if (cache.kind == HW_CACHE_INT8) {
    scales[at] = head_to_int8(key, size, 128, bytes);
  } else if (cache.kind == HW_CACHE_BFLOAT16) {
    head_to_bf16(key, size, halves);
  } else {
    for (int n = 0; n < size; n += 16) {
      f_store(floats + n, finite(f_load_part(key + n, size - n), largest));
    }
  }
  char* column = block + at * 4;
  for (int n = 0; n < words; ++n) {
    memcpy(column + n * int64_t{cache.block_size} * 4, bytes + n * 4, 4);
  }

  char* row = block + cache.values_at + at / cache.lanes * int64_t{cache.padded} * 4;
  if (cache.kind == HW_CACHE_INT8) {
    scales[cache.block_size + at] = head_to_int8(value, size, 0, bytes);
    for (int n = 0; n < size; ++n) row[n * 4 + at % 4] = static_cast<char>(bytes[n]);
  } else if (cache.kind == HW_CACHE_BFLOAT16) {
    head_to_bf16(value, size, halves);
    uint16_t* to = reinterpret_cast<uint16_t*>(row) + at % 2;
    for (int n = 0; n < size; ++n) to[n * 2] = halves[n];
  } else {
    for (int n = 0; n < size; n += 16) {
      const F part = finite(f_load_part(value + n, size - n), largest);
      f_store_part(reinterpret_cast<float*>(row) + n, part, size - n);
    }
  }
}

// Fetches what storing the keys and values of a row will touch. Inlined, because the compiler
// leaves out calls of functions that only fetch.
HW_INLINE void prefetch_row(const RopeTask& task, int64_t row) {
  const CacheLayout& cache = task.cache;
  const int64_t at = task.slots[row] & (cache.block_size - 1);
  for (int h = 0; h < cache.kv_heads; ++h) {
    const char* block = cache.head(task.layer, task.slots[row] >> cache.block_shift, h);
    for (int n = 0; n * cache.lanes < cache.head_dim; ++n) {
      prefetch_l2(block + (at + n * int64_t{cache.block_size}) * 4);
    }
    const char* values = block + cache.values_at + at / cache.lanes * cache.padded * 4;
    for (int n = 0; n < cache.padded; n += 16) prefetch_l2(values + n * 4);
  }
}

// Rows [begin, end) of the step. Rows of one step may be worked on by several threads at once.
static void rope_rows(const RopeTask& task, int64_t begin, int64_t end) {
  alignas(64) float key[kMaxHeadDim];
  const int size = task.cache.head_dim, kv_heads = task.cache.kv_heads;
  for (int64_t row = begin; row < end; ++row) {
    const float* x = task.in + row * task.in_stride;
    float* out = task.out + row * task.out_stride;
    const int64_t position = task.positions[row];
    for (int h = 0; h < task.heads; ++h) {
      rotate_head(x + h * size, out + h * size, task, task.query_norm, position);
    }
    const float* keys = x + task.heads * size;
    const int64_t block = task.slots[row] >> task.cache.block_shift;
    const int at = static_cast<int>(task.slots[row] & (task.cache.block_size - 1));
    // Rows of one prompt write to lines that are at hand.
    const bool far = row + 1 < end && task.slots[row + 1] >> task.cache.block_shift != block;
    if (far) prefetch_row(task, row + 1);
    for (int h = 0; h < kv_heads; ++h) {
      rotate_head(keys + h * size, key, task, task.key_norm, position);
      store_kv(task.cache, task.cache.head(task.layer, block, h), at, key,
                 keys + (kv_heads + h) * size);
    }
  }
}

}  // namespace headway::HW_ISA_NAME

#endif
