// What a processor can do at most: products out of registers, and reading.
//
// The products are those of linear.h, in the same shape, with nothing else around them.
#ifndef HEADWAY_PEAK_LOOPS_H
#define HEADWAY_PEAK_LOOPS_H

#include "linear.h"

namespace headway::HW_ISA_NAME {

// A value of which the compiler knows nothing, so that what follows from it is computed each time.
HW_INLINE I i_unknown(I x) {
#if defined(HW_ISA_AVX512)
  __asm__ volatile("" : "+v"(x.v));
#elif defined(HW_ISA_AVX2)
  __asm__ volatile("" : "+x"(x.a), "+x"(x.b));
#elif defined(HW_ISA_NEON)
  __asm__ volatile("" : "+w"(x.a), "+w"(x.b), "+w"(x.c), "+w"(x.d));
#else
  __asm__ volatile("" : "+m"(x.v));
#endif
  return x;
}

// Rows of as many sums as stay in registers. NEON keeps sixteen lanes in four, and the values of
// i_unknown take their share.
#if defined(HW_ISA_AVX2) || defined(HW_ISA_NEON)
constexpr int kPeakRows = 2;
#else
constexpr int kPeakRows = kLinearRows;
#endif

// Multiplies ones with ones, `rounds` times for every sum of a tile.
template <class Sum, class Multiply>
HW_INLINE Sum fma_rounds(int64_t rounds, int32_t ones, Sum zero, const Multiply& multiply) {
  Sum sums[kPeakRows][2];
  for (int r = 0; r < kPeakRows; ++r) sums[r][0] = sums[r][1] = zero;
  I w0 = i_set(ones), w1 = w0, x = w0;
  for (int64_t n = 0; n < rounds; ++n) {
    w0 = i_unknown(w0);
    w1 = i_unknown(w1);
#pragma GCC unroll 8
    for (int r = 0; r < kPeakRows; ++r) {
      x = i_unknown(x);
      sums[r][0] = multiply(sums[r][0], w0, x);
      sums[r][1] = multiply(sums[r][1], w1, x);
    }
  }
  for (int r = 0; r < kPeakRows; ++r) zero = zero + sums[r][0] + sums[r][1];
  return zero;
}

#if defined(HW_ISA_I8MM)
constexpr int64_t kBytes = 8;  // that a lane multiplies at once
#else
constexpr int64_t kBytes = 4;
#endif

// Sums of bytes' products, of whole numbers, that ones make of zero.
#if defined(HW_ISA_AVX2)
HW_INLINE int64_t byte_products(int32_t format, int64_t rounds) {
  if (format == HW_INT8) {
    const auto dot = [](I sum, I w, I x)
                         HW_INLINE_LAMBDA { return w_dot(sum, {w, w}, {x, x}); };
    return i_sum(fma_rounds(rounds, 0x00010001, i_set(0), dot));
  }
  const auto dot = [](I sum, I w, I x) HW_INLINE_LAMBDA {
    add_quads(sum.a, w.a, x.a);
    add_quads(sum.b, w.b, x.b);
    return sum;
  };
  const I pairs = fma_rounds(rounds, 0x01010101, i_set(0), dot);
  return i_sum(i_right<16>(pairs) + (pairs & i_set(0xffff)));
}
#else
HW_INLINE int64_t byte_products(int32_t, int64_t rounds) {
#if defined(HW_ISA_I8MM)
  const auto dot = [](I sum, I w, I x) HW_INLINE_LAMBDA { return i_matrix_dot(sum, w, x); };
#else
  const auto dot = [](I sum, I w, I x) HW_INLINE_LAMBDA { return i_dot(sum, w, x); };
#endif
  return i_sum(fma_rounds(rounds, 0x01010101, i_set(0), dot));
}
#endif

// Multiplies with the instruction that a format's products are made of; `products` is the products'
// sum, each being 1. At most 8,000 rounds, for sums of 16 bits. Returns operations, two for a
// product.
int64_t fma_loop(int32_t format, int64_t rounds, double* products) {
  const auto fma = [](F sum, I w, I x)
                       HW_INLINE_LAMBDA { return f_fma(f_bits(w), f_bits(x), sum); };
  const auto dot_bf16 = [](F sum, I w, I x) HW_INLINE_LAMBDA { return f_dot_bf16(sum, w, x); };
  const int64_t lanes = rounds * kPeakRows * 2 * 16;
  switch (format) {
    case HW_FLOAT32:
      *products = f_sum(fma_rounds(rounds, 0x3f800000, f_zero(), fma));
      return 2 * lanes;
    case HW_BFLOAT16:
      *products = f_sum(fma_rounds(rounds, 0x3f803f80, f_zero(), dot_bf16));
      return 4 * lanes;
    default:
      *products = static_cast<double>(byte_products(format, rounds));
      return 2 * kBytes * lanes;
  }
}

// The sum of all int32 there; `bytes` is a multiple of 256.
int32_t read_loop(const uint8_t* from, int64_t bytes) {
  I sums[4] = {i_set(0), i_set(0), i_set(0), i_set(0)};
  for (const uint8_t* end = from + bytes; from < end; from += 256) {
#pragma GCC unroll 4
    for (int n = 0; n < 4; ++n) {
      prefetch_l1(from + 64 * n + kAhead);
      sums[n] = sums[n] + i_load(from + 64 * n);
    }
  }
  return i_sum(sums[0] + sums[1] + sums[2] + sums[3]);
}

}  // namespace headway::HW_ISA_NAME

#endif
