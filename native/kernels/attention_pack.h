// Queries as words of the cache, and which rows of an item they belong to.
//
// bfloat16 rounds; int8 spends two bytes on each, so that only the cache itself is coarse, or one
// where the heads are small and the processor has AVX-512. AVX2 multiplies two at once, as 16-bit
// numbers with a sign; the others multiply one after the other.
#ifndef HEADWAY_ATTENTION_PACK_H
#define HEADWAY_ATTENTION_PACK_H

#include "attention_tile.h"

namespace headway::HW_ISA_NAME {

// An item at work.
struct AttendWork {
  const AttendTask* task;
  AttendItem item;
  int group;  // query heads of the kv head
  int steps;  // words of a query
  float* scores;  // [kTileRows][kTileKeys]
  char* weights;  // the same as words
  const char* after[kChunks];  // keys of the first tile of the next item
};

// One row tile: where its rows' heads are in the step, and the keys [from, to) that each sees.
struct TileRows {
  int count;
  int64_t row[kTileRows];     // of the step
  int64_t column[kTileRows];  // of a row's floats
  int64_t from[kTileRows], to[kTileRows];
};

static TileRows rows_of(const AttendWork& work, int tile) {
  const int all = work.item.tokens * work.group, first = tile * kTileRows;
  const int64_t window = work.task->plan->window, size = work.task->cache.head_dim;
  const int64_t column = work.item.kv_head * int64_t{work.group} * size;
  int token = first / work.group, head = first % work.group;
  TileRows rows;
  rows.count = all - first < kTileRows ? all - first : kTileRows;
  for (int r = 0; r < rows.count; ++r) {
    const int64_t position = work.item.position + token;
    rows.row[r] = work.item.row + token;
    rows.column[r] = column + head * size;
    rows.to[r] = position + 1;
    rows.from[r] = window > 0 && position >= window ? position + 1 - window : 0;
    if (++head == work.group) head = 0, ++token;
  }
  return rows;
}

// Query of row `r` of a row tile.
HW_INLINE const float* query_of(const AttendWork& work, const TileRows& rows, int r) {
  return work.task->queries + rows.row[r] * work.task->query_stride + rows.column[r];
}

// One query as words; returns what a score must be multiplied by.
HW_INLINE float pack_query(Float32Cache, const float* query, int size, char* to, int32_t*) {
  memcpy(to, query, size * 4);
  return 1.0f;
}
HW_INLINE float pack_query(Bfloat16Cache, const float* query, int size, char* to, int32_t*) {
  uint16_t* halves = reinterpret_cast<uint16_t*>(to);
  for (int n = 0; n < size; n += 16) f_store_bf16(halves + n, f_load_part(query + n, size - n));
  return 1.0f;
}
// An int8 query's numbers of `units` and a sign at most: a byte each, or 16-bit numbers, or the
// signed high bytes and, kMaxHeadDim further, the signed low bytes.
template <class Kind>
HW_INLINE float pack_int8(const float* query, int size, float units, char* to,
                          int32_t* correction) {
  F top = f_zero();
  for (int n = 0; n < size; n += 16) top = f_max(top, f_abs(f_load_part(query + n, size - n)));
  const float highest = f_highest(top);
  const F factor = f_set(highest > 1e-30f ? units / highest : 0.0f);
  I sum = i_set(0);
  for (int n = 0; n < size; n += 16) {
    // Within bounds even where the query is not finite.
    const F wide =
        f_min(f_max(f_load_part(query + n, size - n) * factor, f_set(-units)), f_set(units));
    const I fixed = i_round(wide);
    sum = sum + fixed;
#if defined(HW_ISA_AVX2)
    w_store(to + 2 * n, fixed);
#else
    if constexpr (Kind::kKeyPasses == 1) {
      i_store_bytes(to + n, fixed);
    } else {
      i_store_bytes(to + n, i_right<8>(fixed + i_set(128)));
      i_store_bytes(to + kMaxHeadDim + n, fixed);
    }
#endif
  }
  *correction = -kRaised * i_sum(sum);
  return highest / units;
}
HW_INLINE float pack_query(Int8Cache, const float* query, int size, char* to, int32_t* correction) {
  return pack_int8<Int8Cache>(query, size, 16383.0f, to, correction);
}
#if defined(HW_ISA_AVX512)
HW_INLINE float pack_query(Int8ByteCache, const float* query, int size, char* to,
                           int32_t* correction) {
  return pack_int8<Int8ByteCache>(query, size, 127.0f, to, correction);
}
#endif

// Packs the queries of one row tile. Words of rows that are not there keep what memory holds: a
// kernel of more rows works on them too, but what it makes of them is never read.
template <class Kind>
static TileQueries pack_queries(const AttendWork& work, const TileRows& rows, char* memory) {
  const int size = work.task->cache.head_dim, words = work.task->cache.padded / Kind::kLanes;
  constexpr int kWord = Kind::kWordBytes;
  const int64_t bytes = int64_t{words} * kTileRows * kWord * Kind::kKeyPasses;
  TileQueries queries = {memory, reinterpret_cast<float*>(memory + bytes),
                         reinterpret_cast<int32_t*>(memory + bytes + 64)};
  alignas(64) char packed[Kind::kKeyPasses * kMaxHeadDim * kWord / Kind::kLanes];
  for (int r = 0; r < rows.count; ++r) {
    const float* query = query_of(work, rows, r);
    // Scores become powers of 2, which are the cheaper to raise.
    queries.scale[r] = work.task->scale * 1.44269504088896341f *
                       pack_query(Kind{}, query, size, packed, &queries.correction[r]);
    for (int pass = 0; pass < Kind::kKeyPasses; ++pass) {
      const char* from = packed + pass * kMaxHeadDim;
      // Passes follow each other after the words that are used.
      char* to = memory + (pass * work.steps * kTileRows + r) * kWord;
#pragma GCC unroll 8
      for (int n = 0; n < work.steps; ++n) {
        memcpy(to + n * kTileRows * kWord, from + n * kWord, kWord);
      }
    }
  }
  return queries;
}

}  // namespace headway::HW_ISA_NAME

#endif
