// What is written in the functions of vec.h, the same for all instruction sets: exponential,
// activations, rounding to bfloat16, single numbers, prefetching. Errors of the functions are some
// units in the last place.
#ifndef HEADWAY_VEC_MATH_H
#define HEADWAY_VEC_MATH_H

#include "vec.h"

namespace headway::HW_ISA_NAME {

// e^x; 0 below about -87.3 (and so of -inf), the largest finite power above 88.
HW_INLINE F f_exp(F x) {
  const F low = f_set(-87.33654f);
  const M tiny = f_less(x, low);
  x = f_min(f_max(x, low), f_set(88.37f));
  const I n = i_round(x * f_set(1.44269504088896341f));
  const F whole = f_from(n);
  // ln 2 in two parts, so that the remainder keeps its last bits.
  F r = f_fma(whole, f_set(-0.693359375f), x);
  r = f_fma(whole, f_set(2.12194440e-4f), r);
  F p = f_set(1.9875691500e-4f);
  p = f_fma(p, r, f_set(1.3981999507e-3f));
  p = f_fma(p, r, f_set(8.3334519073e-3f));
  p = f_fma(p, r, f_set(4.1665795894e-2f));
  p = f_fma(p, r, f_set(1.6666665459e-1f));
  p = f_fma(p, r, f_set(5.0000001201e-1f));
  p = f_fma(p, r * r, r + f_set(1.0f));
  const F power = f_bits(i_left<23>(n + i_set(127)));
  return f_select(tiny, f_zero(), p * power);
}

// 2^x for x that is not above 0: exactly 1 for 0, and 0 where x is -inf, NaN or below about -127.
HW_INLINE F f_exp2_below(F x) {
#if defined(HW_ISA_AVX512)
  x = f_max(x, f_set(-200.0f));
  const F whole = {_mm512_roundscale_ps(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
#else
  x = f_max(x, f_set(-127.0f));
  const I n = i_round(x);
  const F whole = f_from(n);
#endif
  const F r = x - whole;
  F p = f_set(1.326469588e-03f);
  p = f_fma(p, r, f_set(9.671508335e-03f));
  p = f_fma(p, r, f_set(5.550733954e-02f));
  p = f_fma(p, r, f_set(2.402224243e-01f));
  p = f_fma(p, r, f_set(6.931470037e-01f));
  p = f_fma(p, r, f_set(1.0f));
#if defined(HW_ISA_AVX512)
  return {_mm512_scalef_ps(p.v, whole.v)};
#else
  return p * f_bits(i_left<23>(n + i_set(127)));
#endif
}

HW_INLINE F f_silu(F x) { return x / (f_set(1.0f) + f_exp(f_zero() - x)); }

// x * (1 + tanh(u)) / 2 with u = sqrt(2 / pi) (x + 0.044715 x^3), as x / (1 + e^-2u).
HW_INLINE F f_gelu_tanh(F x) {
  const F cubic = f_fma(x * x, f_set(0.044715f) * x, x);
  return x / (f_set(1.0f) + f_exp(cubic * f_set(-1.5957691216057308f)));
}

// The bfloat16 nearest to each lane (ties to even) in its low half; NaN stays NaN.
HW_INLINE I i_to_bf16(F x) {
  const I bits = i_bits(x);
  const I odd = i_right<16>(bits) & i_set(1);
  const I rounded = i_right<16>(bits + i_set(0x7fff) + odd);
  const I quiet = i_right<16>(bits) | i_set(0x40);
  const M nan = i_less(i_set(0x7f800000), bits & i_set(0x7fffffff));
  return i_select(nan, quiet, rounded);
}
HW_INLINE void f_store_bf16(uint16_t* p, F x) { i_store_halves(p, i_to_bf16(x)); }

// By e^2x, which loses digits near zero: for capping logits, where those do not matter.
HW_INLINE F f_tanh(F x) {
  const F e = f_exp(x + x);
  return (e - f_set(1.0f)) / (e + f_set(1.0f));
}

// The natural logarithm of positive normal numbers.
HW_INLINE F f_log(F x) {
  // x = m 2^n with m between the square roots of 1/2 and 2.
  const I bits = i_bits(x);
  const I n = i_right<23>(bits + i_set(0x3f800000 - 0x3f3504f3)) - i_set(127);
  const F whole = f_from(n);
  const F m = f_bits(bits - i_left<23>(n)) - f_set(1.0f);
  F p = f_set(7.0376836292e-2f);
  p = f_fma(p, m, f_set(-1.1514610310e-1f));
  p = f_fma(p, m, f_set(1.1676998740e-1f));
  p = f_fma(p, m, f_set(-1.2420140846e-1f));
  p = f_fma(p, m, f_set(1.4249322787e-1f));
  p = f_fma(p, m, f_set(-1.6668057665e-1f));
  p = f_fma(p, m, f_set(2.0000714765e-1f));
  p = f_fma(p, m, f_set(-2.4999993993e-1f));
  p = f_fma(p, m, f_set(3.3333331174e-1f));
  const F square = m * m;
  F tail = f_fma(whole, f_set(-2.12194440e-4f), p * m * square);
  tail = f_fma(square, f_set(-0.5f), tail);
  return f_fma(whole, f_set(0.693359375f), m + tail);
}

// Bytes with a sign that are stored plus 128, as i_dot takes them: still plus kRaised, which is 0
// where the processor multiplies signed bytes only. Bytes below 128 i_dot takes everywhere as they
// are.
#if !defined(HW_DOT_IS_SIGNED)
constexpr int32_t kRaised = 128;
HW_INLINE I i_raised(I bytes) { return bytes; }
#endif

// The sum over lanes, halves folded together as in f_sum.
HW_INLINE double d_sum(D x) {
  double s[16];
  d_store(s, x);
  for (int width = 8; width > 0; width /= 2) {
    for (int n = 0; n < width; ++n) s[n] += s[n + width];
  }
  return s[0];
}

// The first `count` lanes, all where there are sixteen or more; the others are 0.
HW_INLINE F f_load_part(const float* p, int64_t count) {
  if (count >= 16) return f_load(p);
  float part[16] = {};
  __builtin_memcpy(part, p, count * sizeof(float));
  return f_load(part);
}
HW_INLINE void f_store_part(float* p, F x, int64_t count) {
  if (count >= 16) return f_store(p, x);
  float part[16];
  f_store(part, x);
  __builtin_memcpy(p, part, count * sizeof(float));
}

// Thirty-two bfloat16 of numbers that are finite.
HW_INLINE void f_store_two_bf16(uint16_t* p, F low, F high) {
#if defined(HW_ISA_VNNI_BF16)
  _mm512_storeu_si512(p, (__m512i)_mm512_cvtne2ps_pbh(high.v, low.v));
#else
  f_store_bf16(p, low);
  f_store_bf16(p + 16, high);
#endif
}

HW_INLINE float bf16_value(uint16_t raw) {
  const uint32_t bits = static_cast<uint32_t>(raw) << 16;
  float value;
  __builtin_memcpy(&value, &bits, 4);
  return value;
}

HW_INLINE float f16_value(uint16_t raw) {
  uint16_t sixteen[16] = {raw};
  float values[16];
  f_store(values, f_load_f16(sixteen));
  return values[0];
}

// How far ahead of its use a matrix is fetched, in bytes: about what memory delivers in the time
// that a fetch takes.
constexpr int64_t kAhead = 4096;

HW_INLINE void prefetch_l1(const void* p) { __builtin_prefetch(p, 0, 3); }
// To the second-level cache only: the first is full of what is in use, and more fetches may be on
// their way to the second.
HW_INLINE void prefetch_l2(const void* p) { __builtin_prefetch(p, 0, 2); }

}  // namespace headway::HW_ISA_NAME

#endif
