// Attention over the KV cache: a running softmax over tiles of keys, in segments.
//
// What a row's result is made of, in which order, depends on its own position alone: tiles and
// segments start at absolute positions, hidden keys have weight 0, and a tile or segment that a row
// does not see multiplies its sums by exactly 1 and adds 0. Scores are in powers of 2.
#ifndef HEADWAY_ATTENTION_H
#define HEADWAY_ATTENTION_H

#include <utility>

#include "attention_softmax.h"

namespace headway::HW_ISA_NAME {

HW_INLINE TileState state_at(float* memory, int padded) {
  float* weights = memory + int64_t{kTileRows} * padded;
  return {memory, weights, weights + kTileRows * 16};
}

HW_INLINE void clear_state(const TileState& state, int rows, int padded) {
  for (int n = 0; n < rows * padded; n += 16) f_store(state.values + n, f_zero());
  for (int n = 0; n < rows; ++n) f_store(state.weights + n * 16, f_zero());
  f_store(state.highest, f_set(kLowest));
}

// A way through the blocks of an item's sequence, by position.
struct BlockWalk {
  const AttendWork& work;
  int64_t entry = -1;
  const char* head = nullptr;

  // The block of `position`, at its kv head.
  const char* at(int64_t position) {
    const AttendTask& task = *work.task;
    if (position >> task.cache.block_shift != entry) {
      entry = position >> task.cache.block_shift;
      const int64_t block = task.plan->tables[work.item.slice * task.plan->table_width + entry];
      head = task.cache.head(task.layer, block, work.item.kv_head);
    }
    return head;
  }
};

// Finds the chunks of the tile of keys from `tile` in which [begin, end) lies; chunks go in pairs,
// and one without a key of ours stands for another.
static TileView view_of(const AttendWork& work, int64_t tile, int64_t begin, int64_t end) {
  const CacheLayout& cache = work.task->cache;
  const int64_t first = begin / 16 * 16, last = (end - 1) / 16 * 16;
  int64_t seen = work.item.segment_end * kSegmentKeys;
  if (seen > work.item.position + work.item.tokens) seen = work.item.position + work.item.tokens;
  TileView view;
  view.begin = static_cast<int>((begin - tile) / 32 * 2);
  view.end = static_cast<int>((end - tile + 31) / 32 * 2);
  view.key_step = int64_t{cache.block_size} * 4;
  view.value_step = int64_t{cache.padded} * 4;
  BlockWalk here{work}, ahead{work};
  for (int c = view.begin; c < view.end; ++c) {
    int64_t at = tile + c * 16;
    at = at < first ? first : at > last ? last : at;
    const int64_t offset = at & (cache.block_size - 1);
    const char* head = here.at(at);
    view.key[c] = head + offset * 4;
    view.value[c] = head + cache.values_at + offset / cache.lanes * view.value_step;
    const float* scales = reinterpret_cast<const float*>(head + cache.scales_at);
    view.key_scale[c] = scales + offset;
    view.value_scale[c] = scales + cache.block_size + offset;
    at += kTileKeys;
    view.ahead[c] = at < seen ? ahead.at(at) + offset * 4 : work.after[c];
    if (work.item.tokens == 1 && cache.kind == HW_CACHE_INT8) {
      // Scales are a few lines that lie far from what is read before them.
      prefetch_l2(view.ahead[c] + cache.scales_at);
      prefetch_l2(view.ahead[c] + cache.scales_at + int64_t{cache.block_size} * 4);
    }
  }
  return view;
}

// What an item keeps of each of its row tiles.
struct ItemTiles {
  TileRows rows[kItemTiles];
  TileQueries queries[kItemTiles];
  TileState all[kItemTiles];   // over the segments so far
  TileState now[kItemTiles];   // over the segment at work
};

// The keys of [begin, end) that some row of the tile sees.
HW_INLINE void narrow(const TileRows& rows, int64_t* begin, int64_t* end) {
  // Rows are in the order of their positions.
  if (*begin < rows.from[0]) *begin = rows.from[0];
  if (*end > rows.to[rows.count - 1]) *end = rows.to[rows.count - 1];
}

// One row tile and one tile of keys, of which the view may show more than the rows see.
template <class Kind>
static void attend_tile(const AttendWork& work, const ItemTiles& tiles, int t, int64_t tile,
                        TileView& view) {
  const TileRows& rows = tiles.rows[t];
  int64_t begin = tile, end = tile + kTileKeys;
  narrow(rows, &begin, &end);
  if (begin >= end) return;
  alignas(64) float factor[16], unit[16];
  f_store(unit, f_zero());
  view.begin = static_cast<int>((begin - tile) / 32 * 2);
  view.end = static_cast<int>((end - tile + 31) / 32 * 2);
  const TileQueries& queries = tiles.queries[t];
  const TileState& state = tiles.now[t];
  const int padded = work.task->cache.padded;
  score_tile<Kind>(view, queries, rows.count, work.steps, work.scores);
  softmax_tile<Kind>(work, view, rows, queries.scale, tile, state, factor, unit);
  value_tile<Kind>(view, {work.weights, factor, unit, state.values, padded}, rows.count);
}

// Softmax of an item's row tiles over one segment of keys, from nothing into `tiles.now`. All row
// tiles take a tile of keys before the next one, so that keys and values stay at hand.
template <class Kind>
static void attend_segment(const AttendWork& work, const ItemTiles& tiles, int64_t segment) {
  const int count = work.item.tiles;
  for (int t = 0; t < count; ++t) {
    clear_state(tiles.now[t], tiles.rows[t].count, work.task->cache.padded);
  }
  int64_t begin = segment * kSegmentKeys, end = begin + kSegmentKeys;
  const TileRows &first = tiles.rows[0], &last = tiles.rows[count - 1];
  if (begin < first.from[0]) begin = first.from[0];
  if (end > last.to[last.count - 1]) end = last.to[last.count - 1];
  for (int64_t tile = begin / kTileKeys * kTileKeys; tile < end; tile += kTileKeys) {
    const int64_t next = tile + kTileKeys;
    TileView view = view_of(work, tile, begin > tile ? begin : tile, end < next ? end : next);
    for (int t = 0; t < count; ++t) attend_tile<Kind>(work, tiles, t, tile, view);
  }
}

// Adds a later segment's result to those before it.
static void merge_states(const TileState& all, const TileState& next, int rows, int padded) {
  alignas(64) float keep[16], take[16];
  const F before = f_load(all.highest), now = f_load(next.highest);
  const F highest = f_max(before, now);
  f_store(all.highest, highest);
  f_store(keep, f_exp2_below(before - highest));
  f_store(take, f_exp2_below(now - highest));
  for (int r = 0; r < rows; ++r) {
    const F k = f_set(keep[r]), t = f_set(take[r]);
    float* to = all.values + int64_t{r} * padded;
    const float* from = next.values + int64_t{r} * padded;
    for (int n = 0; n < padded; n += 16) {
      f_store(to + n, f_fma(f_load(from + n), t, f_load(to + n) * k));
    }
    const F sum = f_load(all.weights + r * 16) * k;
    f_store(all.weights + r * 16, f_fma(f_load(next.weights + r * 16), t, sum));
  }
}

// Writes the answers of one row tile: weighted values by the sum of weights.
static void finish_rows(const AttendWork& work, const TileRows& rows, const TileState& state) {
  const AttendTask& task = *work.task;
  const int size = task.cache.head_dim;
  for (int r = 0; r < rows.count; ++r) {
    const float* query = query_of(work, rows, r);
    // A query that is not finite has an answer that is not finite.
    F nan = f_zero();
    for (int n = 0; n < size; n += 16) {
      nan = f_fma(f_load_part(query + n, size - n), f_zero(), nan);
    }
    const F factor = f_set(1.0f / f_sum(f_load(state.weights + r * 16)));
    const F add = f_set(f_sum(nan));
    float* to = task.out + rows.row[r] * task.out_stride + rows.column[r];
    const float* from = state.values + int64_t{r} * task.cache.padded;
    for (int n = 0; n < size; n += 16) {
      f_store_part(to + n, f_fma(f_load(from + n), factor, add), size - n);
    }
  }
}

// View of the first tile of keys that an item of one token sees.
static TileView first_view(const AttendWork& work) {
  const TileRows rows = rows_of(work, 0);
  int64_t begin = work.item.segment_begin * kSegmentKeys;
  if (begin < rows.from[0]) begin = rows.from[0];
  const int64_t tile = begin / kTileKeys * kTileKeys, next = tile + kTileKeys;
  return view_of(work, tile, begin, rows.to[0] < next ? rows.to[0] : next);
}

// Fetches the keys that an item of one token begins with, as nothing before it could, and notes
// those of the following item, which are to be fetched at this one's end.
static void prefetch_first(AttendWork& work, int64_t index) {
  const TileView view = first_view(work);
  for (int c = view.begin; c < view.end; ++c) {
    for (int s = 0; s < work.steps; ++s) prefetch_l2(view.key[c] + s * view.key_step);
  }
  if (index + 1 == static_cast<int64_t>(work.task->plan->items.size())) return;
  AttendWork next = work;
  next.item = work.task->plan->items[index + 1];
  if (next.item.tokens != 1) return;
  const TileView later = first_view(next);
  for (int c = 0; c < kChunks; ++c) {
    const bool used = c >= later.begin && c < later.end;
    work.after[c] = later.key[used ? c : later.begin];
  }
}

// Rows, packed queries and states of an item's row tiles, in `scratch`; returns what is left of it.
template <class Kind>
static char* prepare_tiles(const AttendWork& work, char* scratch, ItemTiles* tiles) {
  const CacheLayout& cache = work.task->cache;
  const int64_t bytes = attend_state_floats(cache) * 4, query_bytes = attend_query_bytes(cache);
  char* now = scratch + kItemTiles * bytes;
  char* packed = now + kItemTiles * bytes;
  for (int t = 0; t < work.item.tiles; ++t) {
    tiles->rows[t] = rows_of(work, t);
    tiles->queries[t] = pack_queries<Kind>(work, tiles->rows[t], packed + t * query_bytes);
    tiles->all[t] = state_at(reinterpret_cast<float*>(scratch + t * bytes), cache.padded);
    tiles->now[t] = state_at(reinterpret_cast<float*>(now + t * bytes), cache.padded);
  }
  return packed + kItemTiles * query_bytes;
}

template <class Kind>
static void attend_with(const AttendTask& task, int64_t index, char* scratch) {
  const CacheLayout& cache = task.cache;
  AttendWork work;
  work.task = &task;
  work.item = task.plan->items[index];
  work.group = task.plan->heads / task.plan->kv_heads;
  work.steps = (cache.head_dim + Kind::kLanes - 1) / Kind::kLanes;
  // Where nothing is to be fetched, something that is at hand.
  for (const char*& at : work.after) at = scratch;
  if (work.item.tokens == 1) prefetch_first(work, index);
  ItemTiles tiles;
  work.scores = reinterpret_cast<float*>(prepare_tiles<Kind>(work, scratch, &tiles));
  work.weights = reinterpret_cast<char*>(work.scores + kTileRows * kTileKeys);
  const AttendItem& item = work.item;
  const int64_t partials = item.partial < 0 ? 0 : item.partial;
  float* partial = task.partials + partials * attend_state_floats(cache);
  for (int64_t s = item.segment_begin; s < item.segment_end; ++s) {
    for (int t = 0; item.partial >= 0 && t < item.tiles; ++t) {
      tiles.now[t] = state_at(partial, cache.padded);
      partial += attend_state_floats(cache);
    }
    attend_segment<Kind>(work, tiles, s);
    for (int t = 0; item.partial < 0 && t < item.tiles; ++t) {
      // Added to nothing, a segment's result is what it is.
      if (s == item.segment_begin) {
        std::swap(tiles.all[t], tiles.now[t]);
      } else {
        merge_states(tiles.all[t], tiles.now[t], tiles.rows[t].count, cache.padded);
      }
    }
  }
  if (item.partial >= 0) return;
  for (int t = 0; t < item.tiles; ++t) finish_rows(work, tiles.rows[t], tiles.all[t]);
}

// Item `index` of the plan; `scratch` is attend_scratch_bytes(), 64-byte aligned.
static void attend_item(const AttendTask& task, int64_t index, void* scratch) {
  char* memory = static_cast<char*>(scratch);
  if (task.cache.kind == HW_CACHE_FLOAT32) return attend_with<Float32Cache>(task, index, memory);
  if (task.cache.kind == HW_CACHE_BFLOAT16) return attend_with<Bfloat16Cache>(task, index, memory);
#if defined(HW_ISA_AVX512)
  if (task.cache.head_dim <= kByteHeadDim) return attend_with<Int8ByteCache>(task, index, memory);
#endif
  return attend_with<Int8Cache>(task, index, memory);
}

// Merge `index` of the plan, when all items are done.
static void attend_merge(const AttendTask& task, int64_t index, void* scratch) {
  const int padded = task.cache.padded;
  const int64_t floats = attend_state_floats(task.cache);
  AttendWork work = {};
  work.task = &task;
  work.item = task.plan->merges[index];
  work.group = task.plan->heads / task.plan->kv_heads;
  const int64_t segments = work.item.segment_end - work.item.segment_begin;
  const TileState all = state_at(static_cast<float*>(scratch), padded);
  for (int t = 0; t < work.item.tiles; ++t) {
    const TileRows rows = rows_of(work, t);
    clear_state(all, rows.count, padded);
    for (int64_t s = 0; s < segments; ++s) {
      float* from = task.partials + (work.item.partial + s * work.item.tiles + t) * floats;
      merge_states(all, state_at(from, padded), rows.count, padded);
    }
    finish_rows(work, rows, all);
  }
}

}  // namespace headway::HW_ISA_NAME

#endif
