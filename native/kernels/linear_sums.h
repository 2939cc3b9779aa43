// Integer products of some rows with one group of a panel's inputs, added to sums that the caller
// begins: the inner loop of quantised products. Integers are exact in any order, so the sums have
// the same bits by whichever instruction they are made.
#ifndef HEADWAY_LINEAR_SUMS_H
#define HEADWAY_LINEAR_SUMS_H

#include "../vec/math.h"
#include "linear_matrix.h"

namespace headway::HW_ISA_NAME {

#if defined(HW_ISA_AVX2)

constexpr int kWideRows = 48;        // most rows that meet one widened group
constexpr int kFewestWideRows = 16;  // fewer do not pay for the widening

// One group of a panel of int8 as 16-bit numbers: by steps of four inputs the even ones, then the
// odd ones, of 32 outputs.
struct WidePanel {
  alignas(64) uint8_t words[32][128];

  HW_MEMBER void fill(const uint8_t* group) {
#pragma GCC unroll 4
    for (int n = 0; n < 32; ++n) {  // sixteen steps, two halves
      const W wide = w_unsigned(i_load(group + 64 * n));
      i_store(words[n / 2 * 2] + n % 2 * 64, wide.even);
      i_store(words[n / 2 * 2 + 1] + n % 2 * 64, wide.odd);
    }
  }
};

// The same of 64 inputs of a row: sixteen words of even ones, then sixteen of odd ones.
HW_INLINE void widen_inputs(const uint8_t* inputs, uint8_t* wide) {
  const W x = w_signed(i_load(inputs));
  i_store(wide, x.even);
  i_store(wide + 64, x.odd);
}

// The products of a group whose weights and inputs were widened.
template <int R>
HW_INLINE void add_wide_products(const WidePanel& weights, const uint8_t (*wide)[128],
                                 I (&sum)[R][2]) {
  const uint8_t* words = weights.words[0];
  for (int step = 0; step < 16; ++step, words += 256) {
#pragma GCC unroll 2
    for (int odd = 0; odd < 2; ++odd) {
      const I w0 = i_load(words + 128 * odd), w1 = i_load(words + 128 * odd + 64);
#pragma GCC unroll 2
      for (int r = 0; r < R; ++r) {
        const __m256i x = i_spread(wide[r] + 64 * odd + 4 * step).a;
        add_pairs(sum[r][0].a, w0.a, x);
        add_pairs(sum[r][0].b, w0.b, x);
        add_pairs(sum[r][1].a, w1.a, x);
        add_pairs(sum[r][1].b, w1.b, x);
      }
    }
  }
}

// The products of 64 inputs from input `k`. More than two rows take sixteen outputs at a time, so
// that their sums, and what is multiplied, stay in sixteen registers.
template <int R, bool Near>
HW_INLINE void add_int8_products(const uint8_t* group, const uint8_t* const* rows, int64_t k,
                                 I (&sum)[R][2]) {
  alignas(32) uint8_t wide[R][128];  // the rows' inputs, widened once for all outputs
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) widen_inputs(rows[r] + k, wide[r]);
  constexpr int kHalves = R > 2 ? 1 : 2;  // at once
#pragma GCC unroll 2
  for (int first = 0; first < 2; first += kHalves) {
#pragma GCC unroll 2
    for (int step = 0; step < 16; ++step) {
      const uint8_t* from = group + 128 * step;
      if (Near && first == 0) {
        prefetch_l1(from + kAhead);
        prefetch_l1(from + kAhead + 64);
      }
#pragma GCC unroll 2
      for (int half = first; half < first + kHalves; ++half) {
        const W weights = w_unsigned(i_load(from + 64 * half));
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          const uint8_t* x = wide[r] + 4 * step;
          sum[r][half] = w_dot(sum[r][half], weights, {i_spread(x), i_spread(x + 64)});
        }
      }
    }
  }
}

// To 16-bit sums; as assembly for w_dot's reason.
HW_INLINE void add_quads(__m256i& sum, __m256i bytes, __m256i signed_bytes) {
  const __m256i pairs = _mm256_maddubs_epi16(bytes, signed_bytes);
  __asm__("vpaddw %1, %0, %0" : "+x"(sum) : "x"(pairs));
}
HW_INLINE __m256i widened(__m256i halves) {
  return _mm256_madd_epi16(halves, _mm256_set1_epi16(1));
}

// The products of 32 inputs from input `k` with weights of four bits. Two of those by two bytes are
// at most 3,840, so eight steps' sums fit into 16 bits and are widened once a group. Eight outputs and the eight in the same bytes' high halves at a time.
template <int R, bool Near>
HW_INLINE void add_int4_products(const uint8_t* group, const uint8_t* const* rows, int64_t k,
                                 I (&sum)[R][2]) {
  const __m256i mask = _mm256_set1_epi8(15);
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    __m256i part[R][2];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) part[r][0] = part[r][1] = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int step = 0; step < 8; ++step) {
      const uint8_t* from = group + 64 * step + 32 * half;
      const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
      if (Near && half == 0) prefetch_l1(from + kAhead);
      const __m256i low = _mm256_and_si256(both, mask);
      const __m256i high = _mm256_and_si256(_mm256_srli_epi16(both, 4), mask);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const __m256i x = i_spread(rows[r] + k + 4 * step).a;
        add_quads(part[r][0], low, x);
        add_quads(part[r][1], high, x);
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
      for (int n = 0; n < 2; ++n) {
        __m256i& to = half == 0 ? sum[r][n].a : sum[r][n].b;
        to = _mm256_add_epi32(to, widened(part[r][n]));
      }
    }
  }
}

#else

// The products of 64 inputs from input `k`; weights are raised by kRaised.
template <int R, bool Near>
HW_INLINE void add_int8_products(const uint8_t* group, const uint8_t* const* rows, int64_t k,
                                 I (&sum)[R][2]) {
#if defined(HW_ISA_I8MM)
  if constexpr (R > 1) return add_matrix_products<R, Near>(Int8Quads{group}, rows, k, sum);
#endif
#pragma GCC unroll 2
  for (int step = 0; step < 16; ++step) {
    const I w0 = i_raised(i_load(group + 128 * step));
    const I w1 = i_raised(i_load(group + 128 * step + 64));
    if (Near) {
      prefetch_l1(group + 128 * step + kAhead);
      prefetch_l1(group + 128 * step + kAhead + 64);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const I x = i_spread(rows[r] + k + 4 * step);
      sum[r][0] = i_dot(sum[r][0], w0, x);
      sum[r][1] = i_dot(sum[r][1], w1, x);
    }
  }
}

// The products of 32 inputs from input `k` with weights of four bits.
template <int R, bool Near>
HW_INLINE void add_int4_products(const uint8_t* group, const uint8_t* const* rows, int64_t k,
                                 I (&sum)[R][2]) {
#if defined(HW_ISA_I8MM)
  if constexpr (R > 1) return add_matrix_products<R, Near>(Int4Quads{group}, rows, k, sum);
#endif
  const I mask = i_set(0x0f0f0f0f);
#pragma GCC unroll 2
  for (int step = 0; step < 8; ++step) {
    const I both = i_load(group + 64 * step);
    if (Near) prefetch_l1(group + 64 * step + kAhead);
    const I w0 = both & mask, w1 = i_right<4>(both) & mask;
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const I x = i_spread(rows[r] + k + 4 * step);
      sum[r][0] = i_dot(sum[r][0], w0, x);
      sum[r][1] = i_dot(sum[r][1], w1, x);
    }
  }
}

#endif

}  // namespace headway::HW_ISA_NAME

#endif
