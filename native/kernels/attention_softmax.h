// From scores to weights: what a row sees, a running softmax, and weights as words of the cache.
#ifndef HEADWAY_ATTENTION_SOFTMAX_H
#define HEADWAY_ATTENTION_SOFTMAX_H

#include "attention_pack.h"

namespace headway::HW_ISA_NAME {

constexpr float kLowest = -1e30f;  // below every score, yet finite: kLowest - kLowest is 0

// Running softmax of one row tile; attend_state_floats() of memory.
struct TileState {
  float* values;   // [kTileRows][padded]
  float* weights;  // [kTileRows][16], to be added up
  float* highest;  // [16]
};

// A row's weights for two chunks, and for the int8 cache all of them once they are known.
HW_INLINE void put_weights(Float32Cache, const AttendWork& work, int r, int chunk, F low, F high) {
  float* to = reinterpret_cast<float*>(work.weights) + r * kTileKeys + chunk * 16;
  f_store(to, low);
  f_store(to + 16, high);
}
HW_INLINE void put_weights(Bfloat16Cache, const AttendWork& work, int r, int chunk, F low, F high) {
  uint16_t* to = reinterpret_cast<uint16_t*>(work.weights) + r * kTileKeys + chunk * 16;
  f_store_two_bf16(to, low, high);
}
HW_INLINE void put_weights(Int8Cache, const AttendWork& work, int r, int chunk, F low, F high) {
  float* to = work.scores + r * kTileKeys + chunk * 16;
  f_store(to, low);
  f_store(to + 16, high);
}

template <class Kind>
HW_INLINE float close_weights(Kind, const AttendWork&, const TileView&, int) {
  return 1.0f;
}
// What the highest weight of a row becomes: two bytes, or as much as two bytes with a sign can be
// where only such are multiplied by numbers with a sign, and where bits are to be the same.
#if defined(HW_ISA_AVX512)
constexpr float kWeightUnits = 65535.0f;
#else
constexpr float kWeightUnits = 127 * 256 + 127;
#endif
// Folds the values' scales into the weights and makes them two bytes each; returns the unit.
HW_INLINE float close_weights(Int8Cache, const AttendWork& work, const TileView& view, int r) {
  float* row = work.scores + r * kTileKeys;
  F top = f_zero();
  for (int c = view.begin; c < view.end; ++c) {
    const F weight = f_load(row + c * 16) * f_load(view.value_scale[c]);
    // Positions not written yet may have any scale; times weight 0 it is 0.
    f_store(row + c * 16, weight);
    top = f_max(top, weight);
  }
  const float highest = f_highest(top);
  const F factor = f_set(highest > 1e-30f ? kWeightUnits / highest : 0.0f);
  for (int c = view.begin; c < view.end; ++c) {
    const I fixed = i_round(f_load(row + c * 16) * factor);
#if defined(HW_ISA_AVX2)
    w_store(work.weights + (r * kTileKeys + c * 16) * 2, fixed);
#else
    char* high = work.weights + r * kTileKeys + c * 16;
    i_store_bytes(high, i_right<8>(fixed + i_set(128 - kRaised)));
    i_store_bytes(high + kTileRows * kTileKeys, fixed);
#endif
  }
  return highest / kWeightUnits;
}

#if defined(HW_ISA_AVX512)
// Weights have eight bits, and what is added before they are rounded differs from key to key,
// evenly over half a unit up and down: else a crowd of keys of less than half a unit would weigh
// nothing.
// Every run of neighbouring keys meets nearly evenly spread numbers (steps of the golden section).
struct Dither {
  float at[kTileKeys];
  constexpr Dither() : at() {
    for (int n = 0; n < kTileKeys; ++n) {
      double x = (n + 0.5) * 0.6180339887498949;
      x -= static_cast<int>(x);
      at[n] = static_cast<float>((x - 0.5) * 0.998);  // a weight of 0 stays 0
    }
  }
};
alignas(64) constexpr Dither kDither;
constexpr float kByteUnits = 255.0f;

// 2^x as f_exp2_below has it, to about 1 in 10,000.
HW_INLINE F f_exp2_roughly(F x) {
  x = f_max(x, f_set(-200.0f));
  const F whole = {_mm512_roundscale_ps(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
  const F r = x - whole;
  F p = f_set(5.500893e-02f);
  p = f_fma(p, r, f_set(2.4221096e-01f));
  p = f_fma(p, r, f_set(6.9328293e-01f));
  p = f_fma(p, r, f_set(1.0f));
  return {_mm512_scalef_ps(p.v, whole.v)};
}

// One row's raw scores of N chunks from `chunk` as weights times values' scales, in bytes; adds the
// weights to the row's sum and returns the unit.
template <int N>
HW_INLINE float soften(const AttendWork& work, const TileView& view, int r, float scale, float top,
                       float factor, const TileState& state) {
  const float* row = work.scores + r * kTileKeys + view.begin * 16;
  const F by = f_set(scale), base = f_set(-top);
  F sum = f_zero(), highest = f_zero();
  F weight[N];
#pragma GCC unroll 8
  for (int c = 0; c < N; ++c) {
    weight[c] = f_exp2_roughly(f_fma(f_load(row + c * 16), by, base));
    sum = sum + weight[c];
    // Positions not written yet may have any scale; times weight 0 it is 0.
    weight[c] = weight[c] * f_load(view.value_scale[view.begin + c]);
    highest = f_max(highest, weight[c]);
  }
  float* sums = state.weights + r * 16;
  f_store(sums, f_fma(f_load(sums), f_set(factor), sum));
  const float most = f_highest(highest);
  const F units = f_set(most > 1e-30f ? kByteUnits / most : 0.0f);
  char* to = work.weights + r * kTileKeys + view.begin * 16;
#pragma GCC unroll 8
  for (int c = 0; c < N; ++c) {
    const F dither = f_load(kDither.at + (view.begin + c) * 16);
    i_store_bytes(to + c * 16, i_round(f_fma(weight[c], units, dither)));
  }
  return most / kByteUnits;
}

HW_INLINE float raise_row(Int8ByteCache, const AttendWork& work, const TileView& view, int r,
                          float scale, float top, float factor, const TileState& state) {
  const int chunks = view.end - view.begin;
  if (chunks == 8) return soften<8>(work, view, r, scale, top, factor, state);
  if (chunks == 6) return soften<6>(work, view, r, scale, top, factor, state);
  if (chunks == 4) return soften<4>(work, view, r, scale, top, factor, state);
  return soften<2>(work, view, r, scale, top, factor, state);
}
#endif

// Hides what row `r` does not see, and returns the highest score.
HW_INLINE F mask_scores(const AttendWork& work, const TileView& view, int r, int64_t from,
                        int64_t to) {
  float* row = work.scores + r * kTileKeys;
  F top = f_set(kLowest);
  if (from <= view.begin * 16 && to >= view.end * 16) {
    for (int c = view.begin; c < view.end; ++c) top = f_max(top, f_load(row + c * 16));
    return top;
  }
  const int64_t before = from < 0 ? -1 : from > kTileKeys ? kTileKeys : from - 1;
  const I first = i_set(static_cast<int32_t>(before));
  const I last = i_set(static_cast<int32_t>(to < 0 ? 0 : to > kTileKeys ? kTileKeys : to));
  for (int c = view.begin; c < view.end; ++c) {
    const I key = i_lanes() + i_set(c * 16);
    F score = f_load(row + c * 16);
    score = f_select(i_less(key, last), score, f_set(-__builtin_inff()));
    score = f_select(i_less(first, key), score, f_set(-__builtin_inff()));
    f_store(row + c * 16, score);
    top = f_max(top, score);
  }
  return top;
}

// One row's scores as weights, which are added to the row's sum; returns the unit.
template <class Kind>
HW_INLINE float raise_row(Kind, const AttendWork& work, const TileView& view, int r, float,
                          float top, float factor, const TileState& state) {
  const float* row = work.scores + r * kTileKeys;
  const F base = f_set(top);
  F sum = f_zero();
  for (int c = view.begin; c < view.end; c += 2) {
    const F low = f_exp2_below(f_load(row + c * 16) - base);
    const F high = f_exp2_below(f_load(row + c * 16 + 16) - base);
    sum = sum + low + high;
    put_weights(Kind{}, work, r, c, low, high);
  }
  float* weights = state.weights + r * 16;
  f_store(weights, f_fma(f_load(weights), f_set(factor), sum));
  return close_weights(Kind{}, work, view, r);
}

// From the scores of the tile of keys at `tile` to weights; the state's sums of weights and highest
// scores are brought up to date, and `factor` [16] is what its values must be multiplied by.
template <class Kind>
__attribute__((noinline)) static void softmax_tile(const AttendWork& work, const TileView& view,
                                                  const TileRows& rows, const float* scale,
                                                  int64_t tile, const TileState& state,
                                                  float* factor, float* unit) {
  alignas(64) float top[16];
  f_store(top, f_set(kLowest));
  for (int r = 0; r < rows.count; ++r) {
    top[r] = f_highest(mask_scores(work, view, r, rows.from[r] - tile, rows.to[r] - tile));
    // Where a row sees nothing of the tile, its highest score stays what it was.
    if (Kind::kRawScores && top[r] != kLowest) top[r] *= scale[r];
  }
  const F before = f_load(state.highest);
  const F highest = f_max(before, f_load(top));
  f_store(state.highest, highest);
  f_store(top, highest);
  f_store(factor, f_exp2_below(before - highest));
  for (int r = 0; r < rows.count; ++r) {
    unit[r] = raise_row(Kind{}, work, view, r, scale[r], top[r], factor[r], state);
  }
}

}  // namespace headway::HW_ISA_NAME

#endif
