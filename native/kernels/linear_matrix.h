// Integer products of several rows with one group of a panel's inputs by NEON's products of
// matrices of bytes; see linear_sums.h.
#ifndef HEADWAY_LINEAR_MATRIX_H
#define HEADWAY_LINEAR_MATRIX_H

#include "../vec/math.h"

namespace headway::HW_ISA_NAME {

#if defined(HW_ISA_I8MM)

// A group's weights by quads: four inputs each of four outputs, of a panel's first or second half.
struct Int8Quads {
  static constexpr int kSteps = 16;
  const uint8_t* group;
  HW_MEMBER int32x4_t at(int step, int half, int quad) const {
    return quad_load(group + 128 * step + 64 * half + 16 * quad);
  }
  HW_MEMBER void prefetch(int step) const {
    prefetch_l1(group + 128 * step + kAhead);
    prefetch_l1(group + 128 * step + kAhead + 64);
  }
};
struct Int4Quads {
  static constexpr int kSteps = 8;
  const uint8_t* group;
  HW_MEMBER int32x4_t at(int step, int half, int quad) const {
    const uint8x16_t both = vld1q_u8(group + 64 * step + 16 * quad);
    return vreinterpretq_s32_u8(half == 0 ? vandq_u8(both, vdupq_n_u8(15)) : vshrq_n_u8(both, 4));
  }
  HW_MEMBER void prefetch(int step) const { prefetch_l1(group + 64 * step + kAhead); }
};

HW_INLINE int32x2_t eight_bytes(const uint8_t* p) { return vreinterpret_s32_u8(vld1_u8(p)); }

// Several rows, by products of matrices: eight inputs of two outputs by those of two rows. The
// layout has fours along k, so two steps' quads are zipped, once for all rows. An odd last row
// is multiplied twice.
template <int R, bool Near, class Quads>
HW_INLINE void add_matrix_products(const Quads& weights, const uint8_t* const* rows, int64_t k,
                                   I (&sum)[R][2]) {
  constexpr int kPairs = (R + 1) / 2;
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    int32x4_t pairs[kPairs][8];  // of rows, each by sixteen outputs: [output][row]
#pragma GCC unroll 2
    for (int p = 0; p < kPairs; ++p) {
#pragma GCC unroll 8
      for (int n = 0; n < 8; ++n) pairs[p][n] = vdupq_n_s32(0);
    }
#pragma GCC unroll 2
    for (int step = 0; step < Quads::kSteps; step += 2) {
      if (Near && half == 0) {
        weights.prefetch(step);
        weights.prefetch(step + 1);
      }
      int32x4_t x[kPairs];
#pragma GCC unroll 2
      for (int p = 0; p < kPairs; ++p) {
        const int second = 2 * p + 1 < R ? 2 * p + 1 : 2 * p;
        x[p] = vcombine_s32(eight_bytes(rows[2 * p] + k + 4 * step),
                            eight_bytes(rows[second] + k + 4 * step));
      }
#pragma GCC unroll 4
      for (int n = 0; n < 4; ++n) {
        const int32x4_t early = weights.at(step, half, n), late = weights.at(step + 1, half, n);
        const int32x4_t low = vzip1q_s32(early, late), high = vzip2q_s32(early, late);
#pragma GCC unroll 2
        for (int p = 0; p < kPairs; ++p) {
          pairs[p][2 * n] = quad_matrix_dot(pairs[p][2 * n], low, x[p]);
          pairs[p][2 * n + 1] = quad_matrix_dot(pairs[p][2 * n + 1], high, x[p]);
        }
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const auto row = [&](int n) HW_INLINE_LAMBDA {
        const int32x4_t low = pairs[r / 2][2 * n], high = pairs[r / 2][2 * n + 1];
        return r % 2 == 0 ? vuzp1q_s32(low, high) : vuzp2q_s32(low, high);
      };
      sum[r][half] = sum[r][half] + I{row(0), row(1), row(2), row(3)};
    }
  }
}

#endif

}  // namespace headway::HW_ISA_NAME

#endif
