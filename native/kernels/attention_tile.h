// The two products of attention on one tile: queries by keys, and weights by values.
//
// All kinds of cache are read alike, a 4-byte word per lane at every step; a Kind says what a word
// is, how many bytes a query's or a weight's takes, and how two are multiplied and added. Keys and values are found by chunks of sixteen
// positions, since blocks may be that small. Tiles keep as many sums in registers as there are, and
// every row takes the same steps in the same order however many rows are beside it.
#ifndef HEADWAY_ATTENTION_TILE_H
#define HEADWAY_ATTENTION_TILE_H

#include "../vec/math.h"
#include "attention_task.h"

namespace headway::HW_ISA_NAME {

#if defined(HW_ISA_AVX512)
constexpr int kScoreRows = 12, kScoreVectors = 2, kValueRows = 6, kValueVectors = 4;
constexpr int kScoreSums = 16;  // with four vectors of keys
#elif defined(HW_ISA_AVX2) || defined(HW_ISA_NEON)
constexpr int kScoreRows = 4, kScoreVectors = 1, kValueRows = 4, kValueVectors = 1;
constexpr int kScoreSums = 0;
#else
constexpr int kScoreRows = 2, kScoreVectors = 1, kValueRows = 2, kValueVectors = 1;
constexpr int kScoreSums = 0;
#endif
constexpr int kChunks = kTileKeys / 16;

// Where a tile's keys and values are, by chunks. Only [begin, end) is read.
struct TileView {
  const char* key[kChunks];
  const char* value[kChunks];
  const float* key_scale[kChunks];  // int8
  const float* value_scale[kChunks];
  const char* ahead[kChunks];  // keys of the next tile, to be fetched
  int64_t key_step;    // bytes from one word of a key to the next
  int64_t value_step;  // bytes from one group of positions to the next
  int begin, end;
};

// Queries of one row tile, packed.
struct TileQueries {
  char* words;
  float* scale;         // [16] factor on scores
  int32_t* correction;  // [16] int8: -kRaised times the sum of a query's numbers
};

// Weights of one row tile, and the sums that their values are added to.
struct TileSums {
  const char* weights;  // [kTileRows][kTileKeys / lanes] words, twice for int8
  const float* factor;  // [16] what the sums so far are multiplied by
  const float* unit;    // [16] int8: what a weight of 1 stands for
  float* sums;          // [kTileRows][padded]
  int64_t padded;
};

struct Float32Cache {
  using Sum = F;
  using Word = I;
  static constexpr int kLanes = 1, kKeyPasses = 1, kValuePasses = 1, kWordBytes = 4;
  static constexpr bool kRawScores = false;
  HW_INLINE F zero() { return f_zero(); }
  HW_INLINE I key(I words) { return words; }
  HW_INLINE I value(I words) { return words; }
  HW_INLINE I spread(const char* word) { return i_spread(word); }
  HW_INLINE F by_key(F sum, I key, I query) {
    return f_fma(f_bits(key), f_bits(query), sum);
  }
  HW_INLINE F by_value(F sum, I value, I weight) { return by_key(sum, value, weight); }
  HW_INLINE F shift(F sum) { return sum; }
};

struct Bfloat16Cache {
  using Sum = F;
  using Word = I;
  static constexpr int kLanes = 2, kKeyPasses = 1, kValuePasses = 1, kWordBytes = 4;
  static constexpr bool kRawScores = false;
  HW_INLINE F zero() { return f_zero(); }
  HW_INLINE I key(I words) { return words; }
  HW_INLINE I value(I words) { return words; }
  HW_INLINE I spread(const char* word) { return i_spread(word); }
  HW_INLINE F by_key(F sum, I key, I query) { return f_dot_bf16(sum, key, query); }
  HW_INLINE F by_value(F sum, I value, I weight) { return f_dot_bf16(sum, value, weight); }
  HW_INLINE F shift(F sum) { return sum; }
};

// Queries and weights have about fifteen bits, so that all that is lost to int8 is lost in the
// cache itself: 16-bit numbers where those are what the processor multiplies, else two bytes that
// are multiplied one after the other.
#if defined(HW_ISA_AVX2)
struct Int8Cache {
  using Sum = I;
  using Word = W;
  static constexpr int kLanes = 4, kKeyPasses = 1, kValuePasses = 1, kWordBytes = 8;
  static constexpr bool kRawScores = false;
  HW_INLINE I zero() { return i_set(0); }
  HW_INLINE W key(I words) { return w_unsigned(words); }
  HW_INLINE W value(I words) { return w_signed(words); }
  HW_INLINE W spread(const char* word) { return w_spread(word); }
  HW_INLINE I by_key(I sum, W key, W query) { return w_dot(sum, key, query); }
  HW_INLINE I by_value(I sum, W value, W weight) { return w_dot(sum, value, weight); }
  HW_INLINE I shift(I sum) { return sum; }
};
#else
struct Int8Cache {
  using Sum = I;
  using Word = I;
  static constexpr int kLanes = 4, kKeyPasses = 2, kValuePasses = 2, kWordBytes = 4;
  static constexpr bool kRawScores = false;
  HW_INLINE I zero() { return i_set(0); }
  HW_INLINE I key(I words) { return i_raised(words); }
  HW_INLINE I value(I words) { return words; }
  HW_INLINE I spread(const char* word) { return i_spread(word); }
  HW_INLINE I by_key(I sum, I key, I query) { return i_dot(sum, key, query); }
  HW_INLINE I by_value(I sum, I value, I weight) { return i_dot(sum, weight, value); }
  HW_INLINE I shift(I sum) { return i_left<8>(sum); }
};
#endif

#if defined(HW_ISA_AVX512)
// For heads that are small enough: queries have seven bits and a sign, weights eight bits, and
// every product is done once. Scores are left raw, yet to be multiplied by their row's scale.
struct Int8ByteCache : Int8Cache {
  static constexpr int kKeyPasses = 1, kValuePasses = 1;
  static constexpr bool kRawScores = true;
};
#endif

// What the sums of a row begin with, where a single pass makes that the cheapest place for it.
template <class Kind>
HW_INLINE typename Kind::Sum first_sum(const TileQueries& q, int row) {
  if constexpr (Kind::kRawScores) return i_set(q.correction[row]);
  return Kind::zero();
}

HW_INLINE F scaled_score(F sum, int32_t, float scale, const float*) { return sum * f_set(scale); }
HW_INLINE F scaled_score(I sum, int32_t correction, float scale, const float* key_scale) {
  return f_from(sum + i_set(correction)) * (f_set(scale) * f_load(key_scale));
}

// A score as the softmax wants it; a raw one has yet to be multiplied by its row's scale.
template <class Kind, class Sum>
HW_INLINE F score_of(const TileQueries& q, int row, Sum sum, const float* key_scale) {
  if constexpr (Kind::kRawScores) {
    return f_from(sum) * f_load(key_scale);
  } else {
    return scaled_score(sum, q.correction[row], q.scale[row], key_scale);
  }
}

HW_INLINE F weighted(F old, F sum, float) { return old + sum; }
HW_INLINE F weighted(F old, I sum, float unit) { return f_fma(f_from(sum), f_set(unit), old); }

// Scores of R rows by N chunks from `chunk`, fetching the same chunks' values meanwhile.
template <class Kind, int R, int N>
__attribute__((noinline)) static void score_rows(const TileView& view, const TileQueries& q,
                                                 int row, int chunk, int steps, float* scores) {
  typename Kind::Sum sum[R][N];
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) sum[r][n] = first_sum<Kind>(q, row + r);
  }
  const char* words = q.words + row * Kind::kWordBytes;
  const int64_t key_step = view.key_step;
  for (int pass = 0; pass < Kind::kKeyPasses; ++pass) {
    const char* key[N];
    const char* ahead[N];
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      key[n] = view.key[chunk + n];
      ahead[n] = view.value[chunk + n];
    }
    for (int s = 0; s < steps; ++s) {
      typename Kind::Word k[N];
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) {
        k[n] = Kind::key(i_hold(i_load(key[n])));
        key[n] += key_step;
        if (R < kScoreRows) {
          prefetch_l2(ahead[n]);
          ahead[n] += 64;
        }
      }
#pragma GCC unroll 12
      for (int r = 0; r < R; ++r) {
        const typename Kind::Word query = Kind::spread(words + r * Kind::kWordBytes);
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) sum[r][n] = Kind::by_key(sum[r][n], k[n], query);
      }
      words += kTileRows * Kind::kWordBytes;
    }
    if (pass + 1 == Kind::kKeyPasses) break;
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) sum[r][n] = Kind::shift(sum[r][n]);
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
    float* to = scores + (row + r) * kTileKeys + chunk * 16;
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      f_store(to + n * 16, score_of<Kind>(q, row + r, sum[r][n], view.key_scale[chunk + n]));
    }
  }
}

template <class Kind, int N>
HW_INLINE void score_some(const TileView& view, const TileQueries& q, int row, int rows, int chunk,
                          int steps, float* scores) {
#if defined(HW_ISA_AVX512)
  if constexpr (N <= 2) {
    if (rows > 8) return score_rows<Kind, 12, N>(view, q, row, chunk, steps, scores);
    if (rows > 6) return score_rows<Kind, 8, N>(view, q, row, chunk, steps, scores);
    if (rows > 4) return score_rows<Kind, 6, N>(view, q, row, chunk, steps, scores);
  }
#endif
#if defined(HW_ISA_AVX512) || defined(HW_ISA_AVX2) || defined(HW_ISA_NEON)
  if (rows > 3) return score_rows<Kind, 4, N>(view, q, row, chunk, steps, scores);
  if (rows > 2) return score_rows<Kind, 3, N>(view, q, row, chunk, steps, scores);
#endif
  if (rows > 1) return score_rows<Kind, 2, N>(view, q, row, chunk, steps, scores);
  return score_rows<Kind, 1, N>(view, q, row, chunk, steps, scores);
}

// Scores [kTileRows][kTileKeys] of the first `rows` rows and the chunks in view. A row group is
// rounded up to one that has a kernel; what is written for rows that are not there is not read.
template <class Kind>
static void score_tile(const TileView& view, const TileQueries& q, int rows, int steps,
                       float* scores) {
  int chunk = view.begin;
  // A few rows take twice the keys at once, to have sums enough under way.
  if constexpr (kScoreSums > 0) {
    for (; rows * 4 <= kScoreSums && chunk + 4 <= view.end; chunk += 4) {
      score_some<Kind, 4>(view, q, 0, rows, chunk, steps, scores);
    }
  }
  for (; chunk < view.end; chunk += kScoreVectors) {
    for (int row = 0; row < rows; row += kScoreRows) {
      const int now = rows - row < kScoreRows ? rows - row : kScoreRows;
      score_some<Kind, kScoreVectors>(view, q, row, now, chunk, steps, scores);
    }
  }
}

// Adds the values in view, N vectors of them from component `column`, each times R rows' weights,
// to the sums so far. Fetches the next tile's keys meanwhile.
template <class Kind, int R, int N>
__attribute__((noinline)) static void value_rows(const TileView& view, const TileSums& to, int row,
                                                 int column) {
  constexpr int kWord = Kind::kWordBytes, kSteps = 16 / Kind::kLanes;
  constexpr int kRowBytes = kTileKeys / Kind::kLanes * kWord;
  typename Kind::Sum sum[R][N];
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) sum[r][n] = Kind::zero();
  }
  const int64_t value_step = view.value_step, key_step = view.key_step;
  for (int pass = 0; pass < Kind::kValuePasses; ++pass) {
    const char* from = to.weights + (pass * kTileRows + row) * kRowBytes;
    for (int chunk = view.begin; chunk < view.end; ++chunk) {
      const char* value = view.value[chunk] + column * 4;
      const char* words = from + chunk * kSteps * kWord;
      const char* ahead = view.ahead[chunk] + column / 16 * kSteps * key_step;
      for (int s = 0; s < kSteps; ++s) {
        typename Kind::Word v[N];
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) {
          v[n] = Kind::value(i_hold(i_load(value + n * 64)));
          if (R < 5) {
            prefetch_l2(ahead);
            ahead += key_step;
          }
        }
#pragma GCC unroll 12
        for (int r = 0; r < R; ++r) {
          const typename Kind::Word weight = Kind::spread(words + r * kRowBytes);
#pragma GCC unroll 4
          for (int n = 0; n < N; ++n) sum[r][n] = Kind::by_value(sum[r][n], v[n], weight);
        }
        value += value_step;
        words += kWord;
      }
    }
    if (pass + 1 == Kind::kValuePasses) break;
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) sum[r][n] = Kind::shift(sum[r][n]);
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
    float* sums = to.sums + (row + r) * to.padded + column;
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      const F old = f_load(sums + n * 16) * f_set(to.factor[row + r]);
      f_store(sums + n * 16, weighted(old, sum[r][n], to.unit[row + r]));
    }
  }
}

template <class Kind, int N>
HW_INLINE void value_some(const TileView& view, const TileSums& to, int row, int rows,
                          int column) {
#if defined(HW_ISA_AVX512)
  if (rows > 4) return value_rows<Kind, 6, N>(view, to, row, column);
#endif
#if defined(HW_ISA_AVX512) || defined(HW_ISA_AVX2) || defined(HW_ISA_NEON)
  if (rows > 3) return value_rows<Kind, 4, N>(view, to, row, column);
  if (rows > 2) return value_rows<Kind, 3, N>(view, to, row, column);
#endif
  if (rows > 1) return value_rows<Kind, 2, N>(view, to, row, column);
  return value_rows<Kind, 1, N>(view, to, row, column);
}

template <class Kind>
static void value_tile(const TileView& view, const TileSums& to, int rows) {
  for (int row = 0; row < rows; row += kValueRows) {
    const int now = rows - row < kValueRows ? rows - row : kValueRows;
    int column = 0;
    for (; column + kValueVectors * 16 <= to.padded; column += kValueVectors * 16) {
      value_some<Kind, kValueVectors>(view, to, row, now, column);
    }
    if (kValueVectors == 4 && column < to.padded) {
      value_some<Kind, 2>(view, to, row, now, column);
    }
  }
}

}  // namespace headway::HW_ISA_NAME

#endif
