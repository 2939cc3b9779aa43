// Products of rows with packed matrices: C[m][n] = A[m][k] * B[n][k] for m rows of the step, n
// outputs and k inputs. headway.h says how B is packed, tasks.h what a row of A is.
//
// A tile is a few rows times one panel of 32 outputs, with all its sums in registers. Each output's
// sum runs along k in one fixed order in one lane, so a row's result does not depend on the rows
// beside it. The rows of a tile only share the loads of the weights.
#ifndef HEADWAY_LINEAR_H
#define HEADWAY_LINEAR_H

#include "../vec/math.h"
#include "linear_sums.h"
#include "tasks.h"

namespace headway::HW_ISA_NAME {

// Most rows of a tile, of integers and of floats: with 32 registers of sixteen lanes six rows leave
// room for both kinds of sums of two vectors. AVX2 takes the integers of four rows by half a panel
// at a time, and so does NEON where it multiplies pairs of rows as matrices. Of NEON's 32 registers
// of four lanes three rows' sums take 24.
#if defined(HW_ISA_AVX512)
constexpr int kLinearRows = 6, kFloatRows = 6;
#elif defined(HW_ISA_AVX2)
constexpr int kLinearRows = 4, kFloatRows = 2;
#elif defined(HW_ISA_I8MM)
constexpr int kLinearRows = 4, kFloatRows = 3;
#elif defined(HW_ISA_NEON)
constexpr int kLinearRows = 3, kFloatRows = 3;
#else
constexpr int kLinearRows = 2, kFloatRows = 2;
#endif

// What a tile fetches while it computes. The only tile of a panel fetches what it will need itself
// a little later; one of several fetches its share of the next panel, `lines` of 64 bytes for each
// group of inputs.
struct Prefetch {
  const uint8_t* from;
  int lines;  // 0 where the tile is the only one

  HW_MEMBER void group() {
    for (int n = 0; n < lines; ++n) prefetch_l2(from + 64 * n);
    from += 64 * lines;
  }
};

template <int R>
HW_INLINE void tile_float32(const uint8_t* panel, int padded_k, const uint8_t* const* rows,
                            F (&out)[R][2]) {
  const float* w = reinterpret_cast<const float*>(panel);
  for (int k = 0; k < padded_k; ++k, w += 32) {
    const F w0 = f_load(w), w1 = f_load(w + 16);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const F x = f_set(reinterpret_cast<const float*>(rows[r])[k]);
      out[r][0] = f_fma(x, w0, out[r][0]);
      out[r][1] = f_fma(x, w1, out[r][1]);
    }
  }
}

template <int R, bool Near>
HW_INLINE void tile_bfloat16(const uint8_t* panel, int padded_k, const uint8_t* const* rows,
                             Prefetch ahead, F (&out)[R][2]) {
  for (int k = 0; k < padded_k; k += 64) {
    if (!Near) ahead.group();
    for (int step = 0; step < 64; step += 2, panel += 128) {
      const I w0 = i_load(panel), w1 = i_load(panel + 64);
      if (Near) {
        prefetch_l1(panel + kAhead);
        prefetch_l1(panel + kAhead + 64);
      }
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const I x = i_spread(rows[r] + 2 * (k + step));
        out[r][0] = f_dot_bf16(out[r][0], w0, x);
        out[r][1] = f_dot_bf16(out[r][1], w1, x);
      }
    }
  }
}

template <int R, bool Near>
HW_INLINE void tile_int8(const uint8_t* panel, int padded_k, const uint8_t* const* rows,
                         Prefetch ahead, F (&out)[R][2]) {
  const int groups = padded_k / 64;
  for (int g = 0; g < groups; ++g, panel += 2112) {
    if (!Near) ahead.group();
    I sum[R][2];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      // Weights are stored plus 128; the rows' corrections start the sums at -128 times theirs.
      sum[r][0] = sum[r][1] =
          kRaised == 0 ? i_set(0) : i_spread(rows[r] + padded_k + 4 * (groups + g));
    }
    add_int8_products<R, Near>(panel, rows, 64 * g, sum);
    const uint16_t* scales = reinterpret_cast<const uint16_t*>(panel + 2048);
    const F s0 = f_load_bf16(scales), s1 = f_load_bf16(scales + 16);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const F s = f_bits(i_spread(rows[r] + padded_k + 4 * g));
      out[r][0] = f_fma(f_from(sum[r][0]) * s, s0, out[r][0]);
      out[r][1] = f_fma(f_from(sum[r][1]) * s, s1, out[r][1]);
    }
  }
}

template <int R, bool Near>
HW_INLINE void tile_int4(const uint8_t* panel, int padded_k, const uint8_t* const* rows,
                         Prefetch ahead, F (&out)[R][2]) {
  const int groups = padded_k / 32;
  for (int g = 0; g < groups; ++g, panel += 640) {
    if (!Near && g % 2 == 0) ahead.group();
    I sum[R][2];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) sum[r][0] = sum[r][1] = i_set(0);
    add_int4_products<R, Near>(panel, rows, 32 * g, sum);
    const uint16_t* scales = reinterpret_cast<const uint16_t*>(panel + 512);
    const F s0 = f_load_f16(scales), s1 = f_load_f16(scales + 16);
    const F m0 = f_load_f16(scales + 32), m1 = f_load_f16(scales + 48);
    if (Near) prefetch_l1(panel + 512 + kAhead);
    if (Near) prefetch_l1(panel + 576 + kAhead);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const F s = f_bits(i_spread(rows[r] + padded_k + 4 * g));
      const F total = f_bits(i_spread(rows[r] + padded_k + 4 * (groups + g)));
      out[r][0] = f_fma(m0, total, f_fma(f_from(sum[r][0]) * s, s0, out[r][0]));
      out[r][1] = f_fma(m1, total, f_fma(f_from(sum[r][1]) * s, s1, out[r][1]));
    }
  }
}

template <int R, bool Near>
HW_INLINE void tile_of(const LinearTask& t, const uint8_t* panel, const uint8_t* const* rows,
                       Prefetch ahead, F (&out)[R][2]) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) out[r][0] = out[r][1] = f_zero();
  switch (t.format) {
    case HW_FLOAT32: return tile_float32<R>(panel, t.padded_k, rows, out);
    case HW_BFLOAT16: return tile_bfloat16<R, Near>(panel, t.padded_k, rows, ahead, out);
    case HW_INT8: return tile_int8<R, Near>(panel, t.padded_k, rows, ahead, out);
    default: return tile_int4<R, Near>(panel, t.padded_k, rows, ahead, out);
  }
}

template <int R>
HW_INLINE void tile(const LinearTask& t, const uint8_t* panel, const uint8_t* const* rows,
                    Prefetch ahead, F (&out)[R][2]) {
  if (ahead.lines > 0) {
    tile_of<R, false>(t, panel, rows, ahead, out);
  } else {
    tile_of<R, true>(t, panel, rows, ahead, out);
  }
}

template <int R>
HW_INLINE void add_bias(const LinearTask& t, int64_t panel, F (&out)[R][2]) {
  if (t.bias == nullptr) return;
  const F b0 = f_load(t.bias + kPanel * panel), b1 = f_load(t.bias + kPanel * panel + 16);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    out[r][0] = out[r][0] + b0;
    out[r][1] = out[r][1] + b1;
  }
}

template <int R>
HW_INLINE void finish(const LinearTask& t, int64_t panel, int64_t row, F (&out)[R][2]) {
  add_bias<R>(t, panel, out);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    float* to = t.out + (row + r) * t.out_stride;
    if (t.epilogue == HW_GATE) {
      const F gate = t.activation == HW_SILU ? f_silu(out[r][0]) : f_gelu_tanh(out[r][0]);
      f_store(to + 16 * panel, gate * out[r][1]);
      continue;
    }
    to += kPanel * panel;
    if (t.epilogue == HW_ADD) {
      out[r][0] = f_load(to) + out[r][0];
      out[r][1] = f_load(to + 16) + out[r][1];
    }
    f_store(to, out[r][0]);
    f_store(to + 16, out[r][1]);
  }
}

// The logits of one panel, -inf for outputs that are padding, and their highest.
template <int R>
HW_INLINE void finish_logits(const LmHeadTask& h, int64_t panel, int64_t row, F (&out)[R][2]) {
  const LinearTask& t = h.linear;
  add_bias<R>(t, panel, out);
  const int32_t first = static_cast<int32_t>(kPanel * panel);
  const M real0 = i_less(i_set(first) + i_lanes(), i_set(t.n));
  const M real1 = i_less(i_set(first + 16) + i_lanes(), i_set(t.n));
  const F lowest = f_set(-INFINITY), infinite = f_set(INFINITY);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    F low = out[r][0], high = out[r][1];
    if (h.softcap != 0.0f) {
      low = f_tanh(low / f_set(h.softcap)) * f_set(h.softcap);
      high = f_tanh(high / f_set(h.softcap)) * f_set(h.softcap);
    }
    const uint32_t has_nan = (m_bits(real0) & ~m_bits(f_less(f_abs(low), infinite))) |
                            (m_bits(real1) & ~m_bits(f_less(f_abs(high), infinite)));
    low = f_select(real0, low, lowest);
    high = f_select(real1, high, lowest);
    if (h.keep[row + r]) {
      float* to = t.out + (row + r) * t.out_stride + first;
      f_store(to, low);
      f_store(to + 16, high);
    }
    const float top = f_highest(f_max(low, high));
    const F tops = f_set(top);
    // The lowest output among equals is the lowest bit.
    const uint32_t bits = m_bits(f_equal(low, tops)) | m_bits(f_equal(high, tops)) << 16;
    const int32_t where = first + __builtin_ctz(bits | 0x80000000u);
    h.best[(row + r) * h.num_panels + panel] = {top, has_nan ? -1 : where};
  }
}

// Records of R rows from `row`.
template <int R>
HW_INLINE void find_rows(const LinearTask& t, int64_t row, const uint8_t* (&rows)[R]) {
  for (int r = 0; r < R; ++r) {
    rows[r] = t.rows + (t.index ? t.index[row + r] : row + r) * t.row_bytes;
  }
}

template <int R, class Finish>
void tile_rows(const LinearTask& t, int64_t panel, int64_t row, Prefetch ahead,
               const Finish& finish) {
  const uint8_t* rows[R];
  find_rows(t, row, rows);
  F out[R][2];
  tile<R>(t, t.panels + panel * t.panel_bytes, rows, ahead, out);
  finish.template rows<R>(row, out);
}

#if defined(HW_ISA_AVX2)

// A few rows' products with one group of a panel, added to their sums.
template <int R>
HW_INLINE void add_wide_group(const LinearTask& t, const uint8_t* group, const WidePanel& weights,
                              const uint8_t (*inputs)[128], int64_t g, int64_t row,
                              float (*sums)[kPanel]) {
  const int64_t groups = t.padded_k / 64;
  const uint16_t* scales = reinterpret_cast<const uint16_t*>(group + 2048);
  const uint8_t* rows[R];
  find_rows(t, row, rows);
  I sum[R][2];
  for (int r = 0; r < R; ++r) {
    sum[r][0] = sum[r][1] = i_spread(rows[r] + t.padded_k + 4 * (groups + g));
  }
  add_wide_products<R>(weights, inputs, sum);
  for (int n = 0; n < 2; ++n) {
    const F scale = f_load_bf16(scales + 16 * n);
    for (int r = 0; r < R; ++r) {
      const F s = f_bits(i_spread(rows[r] + t.padded_k + 4 * g));
      float* to = sums[r] + 16 * n;
      f_store(to, f_fma(f_from(sum[r][n]) * s, scale, f_load(to)));
    }
  }
}

template <int R, class Finish>
HW_INLINE void finish_sums(const float (*sums)[kPanel], int64_t row, const Finish& finish) {
  F out[R][2];
  for (int r = 0; r < R; ++r) {
    out[r][0] = f_load(sums[r]);
    out[r][1] = f_load(sums[r] + 16);
  }
  finish.template rows<R>(row, out);
}

// Many rows by one panel of int8: a group's weights are widened once and meet all of the rows. The
// same arithmetic in the same order as in tiles.
template <class Finish>
void wide_rows(const LinearTask& t, int64_t panel, int64_t begin, int64_t count,
               const Finish& finish) {
  alignas(64) float sums[kWideRows][kPanel];
  alignas(32) uint8_t inputs[kWideRows][128];
  WidePanel weights;
  memset(sums, 0, sizeof sums[0] * static_cast<size_t>(count));
  const uint8_t* group = t.panels + panel * t.panel_bytes;
  for (int64_t g = 0; g < t.padded_k / 64; ++g, group += 2112) {
    weights.fill(group);
    for (int n = 0; n < 33; ++n) prefetch_l2(group + t.panel_bytes + 64 * n);
    for (int64_t row = 0; row < count; ++row) {
      const uint8_t* record[1];
      find_rows(t, begin + row, record);
      widen_inputs(record[0] + 64 * g, inputs[row]);
    }
    int64_t row = 0;
    for (; row + 2 <= count; row += 2) {
      add_wide_group<2>(t, group, weights, inputs + row, g, begin + row, sums + row);
    }
    if (row < count) {
      add_wide_group<1>(t, group, weights, inputs + row, g, begin + row, sums + row);
    }
  }
  int64_t row = 0;
  for (; row + 2 <= count; row += 2) finish_sums<2>(sums + row, begin + row, finish);
  if (row < count) finish_sums<1>(sums + row, begin + row, finish);
}

#endif

// All rows [begin, end) in tiles of nearly equal size, which share the fetching of the panel after
// this one; each tile's sums go to finish.rows<R>(row, sums).
template <class Finish>
HW_INLINE void over_tiles(const LinearTask& t, int64_t panel, int64_t begin, int64_t end,
                          const Finish& finish) {
#if defined(HW_ISA_AVX2)
  if (t.format == HW_INT8 && end - begin >= kFewestWideRows) {
    for (; begin < end; begin += kWideRows) {
      wide_rows(t, panel, begin, end - begin < kWideRows ? end - begin : kWideRows, finish);
    }
    return;
  }
#endif
  const int64_t count = end - begin;
  const bool floats = t.format == HW_FLOAT32 || t.format == HW_BFLOAT16;
  const int64_t most = floats ? kFloatRows : kLinearRows, tiles = (count + most - 1) / most;
  Prefetch ahead = {t.panels + (panel + 1) * t.panel_bytes, 0};
  const int64_t groups = t.padded_k / 64;
  if (tiles > 1) ahead.lines = static_cast<int>(t.panel_bytes / (64 * groups * tiles) + 1);
  for (int64_t n = 0; n < tiles; ++n) {
    const int64_t row = begin + count * n / tiles;
    switch (begin + count * (n + 1) / tiles - row) {
      case 1: tile_rows<1>(t, panel, row, ahead, finish); break;
      case 2: tile_rows<2>(t, panel, row, ahead, finish); break;
#if defined(HW_ISA_AVX512) || defined(HW_ISA_AVX2) || defined(HW_ISA_NEON)
      case 3: tile_rows<3>(t, panel, row, ahead, finish); break;
#endif
#if defined(HW_ISA_AVX512) || defined(HW_ISA_AVX2) || defined(HW_ISA_I8MM)
      case 4: tile_rows<4>(t, panel, row, ahead, finish); break;
#endif
#if defined(HW_ISA_AVX512)
      case 5: tile_rows<5>(t, panel, row, ahead, finish); break;
      case 6: tile_rows<6>(t, panel, row, ahead, finish); break;
#endif
      default: break;
    }
    ahead.from += 64 * groups * ahead.lines;
  }
}

struct LinearFinish {
  const LinearTask& task;
  int64_t panel;
  template <int R>
  HW_MEMBER void rows(int64_t row, F (&out)[R][2]) const {
    finish<R>(task, panel, row, out);
  }
};
struct LmHeadFinish {
  const LmHeadTask& task;
  int64_t panel;
  template <int R>
  HW_MEMBER void rows(int64_t row, F (&out)[R][2]) const {
    finish_logits<R>(task, panel, row, out);
  }
};

void linear(const LinearTask& t, int64_t panel, int64_t begin, int64_t end) {
  over_tiles(t, panel, begin, end, LinearFinish{t, panel});
}

void lm_head(const LmHeadTask& t, int64_t panel, int64_t begin, int64_t end) {
  over_tiles(t.linear, panel, begin, end, LmHeadFinish{t, panel});
}

}  // namespace headway::HW_ISA_NAME

#endif
