// What the attention kernels are asked to do: plain structures, the same for every instruction set.
//
// A step's attention is a list of items, made once per step and window (attention_plan.h) and used
// for all layers. An item is some query tokens of one slice for one kv head; the query heads of
// that kv head times the tokens are its rows, worked on in tiles of kTileRows rows by kTileKeys
// keys. Keys are met in tiles and segments that start at absolute positions, and a segment's result
// is always combined with those before it by the same arithmetic. So a row's result has the same
// bits whichever rows are beside it and whether or not its segments were shared out among threads.
#ifndef HEADWAY_ATTENTION_TASK_H
#define HEADWAY_ATTENTION_TASK_H

#include <stdint.h>

#include <vector>

#include "../cache.h"

constexpr int kTileRows = 12;
constexpr int kTileKeys = 128;
constexpr int64_t kSegmentKeys = 512;
constexpr int kByteHeadDim = 64;  // largest head whose queries may have one byte a number
constexpr int kItemTiles = 8;  // most row tiles of an item

struct AttendItem {
  int64_t row;       // of the step: the first token's
  int64_t position;  // of the first token
  int32_t tokens;
  int32_t slice;
  int32_t kv_head;
  int32_t tiles;           // row tiles
  int64_t segment_begin;   // segments of keys that this item is for
  int64_t segment_end;
  int64_t partial;  // its first partial result, [segments][tiles], or -1 where it needs none
};

struct AttentionPlan {
  int32_t heads = 0;
  int32_t kv_heads = 0;
  int32_t window = 0;
  int64_t num_partials = 0;  // row tiles' partial results to keep between items and merges
  const int64_t* tables = nullptr;  // the step's
  int64_t table_width = 0;
  std::vector<AttendItem> items;    // longest first
  std::vector<AttendItem> merges;   // partial results to combine when all items are done
};

// Queries, keys and values of a layer: norms, positions, the cache.
struct RopeTask {
  const float* in;  // a row: [heads + 2 kv_heads][head_dim]
  int64_t in_stride;  // floats from row to row
  float* out;  // a row: queries [heads][head_dim]
  int64_t out_stride;
  const int64_t* positions;  // [rows]
  const int64_t* slots;      // [rows] block * block_size + offset in the block
  CacheLayout cache;
  int32_t layer;
  int32_t heads;
  const float* query_norm;  // [head_dim] or NULL
  const float* key_norm;    // [head_dim] or NULL
  float eps;
  const float* cos;  // [positions][head_dim]
  const float* sin;
};

struct AttendTask {
  const AttentionPlan* plan;
  const float* queries;  // a row: [heads][head_dim]
  int64_t query_stride;  // floats from row to row
  float* out;            // a row: [heads][head_dim]
  int64_t out_stride;
  CacheLayout cache;
  int32_t layer;
  float scale;      // factor on scores
  float* partials;  // attend_partial_bytes(), 64-byte aligned
};

// Running softmax of one row tile, kept as [kTileRows][padded] weighted values, [kTileRows][16]
// sums of weights by lane, [16] highest scores.
inline int64_t attend_state_floats(const CacheLayout& cache) {
  return int64_t{kTileRows} * (cache.padded + 16) + 16;
}

// Queries of one row tile in the cache's words: [head_dim / lanes][kTileRows] (twice for int8: high
// and low bytes), and by row [16] scales and [16] corrections.
inline int64_t attend_query_bytes(const CacheLayout& cache) {
  const int64_t words = int64_t{cache.padded} / cache.lanes * kTileRows;
  return words * 4 * (cache.kind == HW_CACHE_INT8 ? 2 : 1) + 2 * 64;
}

// Scores of one tile, and its weights in the cache's words.
constexpr int64_t attend_tile_bytes() { return 2 * kTileRows * kTileKeys * 4; }

#endif
