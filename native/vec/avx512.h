// vec.h with AVX-512 (F, BW, DQ, VL), and with VNNI and BF16 where HW_ISA_VNNI_BF16 is set.
#ifndef HEADWAY_AVX512_H
#define HEADWAY_AVX512_H

#include "isa.h"

namespace headway::HW_ISA_NAME {

struct F { __m512 v; };
struct I { __m512i v; };
struct M { __mmask16 v; };

HW_INLINE F f_set(float x) { return {_mm512_set1_ps(x)}; }
HW_INLINE F f_zero() { return {_mm512_setzero_ps()}; }
HW_INLINE F f_load(const float* p) { return {_mm512_loadu_ps(p)}; }
HW_INLINE void f_store(float* p, F x) { _mm512_storeu_ps(p, x.v); }
HW_INLINE F operator+(F a, F b) { return {_mm512_add_ps(a.v, b.v)}; }
HW_INLINE F operator-(F a, F b) { return {_mm512_sub_ps(a.v, b.v)}; }
HW_INLINE F operator*(F a, F b) { return {_mm512_mul_ps(a.v, b.v)}; }
HW_INLINE F operator/(F a, F b) { return {_mm512_div_ps(a.v, b.v)}; }
HW_INLINE F f_fma(F a, F b, F c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
HW_INLINE F f_max(F a, F b) { return {_mm512_max_ps(a.v, b.v)}; }
HW_INLINE F f_min(F a, F b) { return {_mm512_min_ps(a.v, b.v)}; }
HW_INLINE F f_abs(F a) { return {_mm512_abs_ps(a.v)}; }

HW_INLINE M f_less(F a, F b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
HW_INLINE M f_equal(F a, F b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ)}; }
HW_INLINE M i_less(I a, I b) { return {_mm512_cmplt_epi32_mask(a.v, b.v)}; }
HW_INLINE M i_equal(I a, I b) { return {_mm512_cmpeq_epi32_mask(a.v, b.v)}; }
HW_INLINE uint32_t m_bits(M m) { return m.v; }
HW_INLINE F f_select(M m, F yes, F no) { return {_mm512_mask_blend_ps(m.v, no.v, yes.v)}; }
HW_INLINE I i_select(M m, I yes, I no) { return {_mm512_mask_blend_epi32(m.v, no.v, yes.v)}; }

HW_INLINE I i_set(int32_t x) { return {_mm512_set1_epi32(x)}; }
HW_INLINE I i_load(const void* p) { return {_mm512_loadu_si512(p)}; }
HW_INLINE void i_store(void* p, I x) { _mm512_storeu_si512(p, x.v); }
HW_INLINE I operator+(I a, I b) { return {_mm512_add_epi32(a.v, b.v)}; }
HW_INLINE I operator-(I a, I b) { return {_mm512_sub_epi32(a.v, b.v)}; }
HW_INLINE I operator&(I a, I b) { return {_mm512_and_si512(a.v, b.v)}; }
HW_INLINE I operator|(I a, I b) { return {_mm512_or_si512(a.v, b.v)}; }
template <int N> HW_INLINE I i_left(I a) { return {_mm512_slli_epi32(a.v, N)}; }
template <int N> HW_INLINE I i_right(I a) { return {_mm512_srli_epi32(a.v, N)}; }
HW_INLINE I i_lanes() {
  return {_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)};
}

HW_INLINE F f_from(I a) { return {_mm512_cvtepi32_ps(a.v)}; }
// To the nearest, ties to even.
HW_INLINE I i_round(F a) { return {_mm512_cvtps_epi32(a.v)}; }
HW_INLINE I i_bits(F a) { return {_mm512_castps_si512(a.v)}; }
HW_INLINE F f_bits(I a) { return {_mm512_castsi512_ps(a.v)}; }

HW_INLINE F f_load_bf16(const uint16_t* p) {
  __m256i raw = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(raw), 16))};
}
HW_INLINE F f_load_f16(const uint16_t* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
// The low byte of each lane.
HW_INLINE void i_store_bytes(void* p, I a) {
  _mm_storeu_si128(static_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a.v));
}
// The low half of each lane.
HW_INLINE void i_store_halves(void* p, I a) {
  _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtepi32_epi16(a.v));
}
HW_INLINE I i_load_halves(const void* p) {
  return {_mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(p)))};
}
// Four bytes (two bfloat16) to every lane.
HW_INLINE I i_spread(const void* p) {
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  return {_mm512_set1_epi32(four)};
}

// The same, but held in a register from here on: gcc would rather load it again for every use.
HW_INLINE I i_hold(I x) {
  __asm__("" : "+v"(x.v));
  return x;
}

// Each lane: sum of 4 products of unsigned by signed bytes, added exactly.
HW_INLINE I i_dot(I sum, I bytes, I signed_bytes) {
#if defined(HW_ISA_VNNI_BF16)
  // As assembly, because gcc 12 spills the accumulators of a large tile around the intrinsic.
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sum.v) : "v"(bytes.v), "v"(signed_bytes.v));
  return sum;
#else
  const __m512i even = _mm512_and_si512(bytes.v, _mm512_set1_epi16(0xff));
  const __m512i odd = _mm512_srli_epi16(bytes.v, 8);
  const __m512i even_s = _mm512_srai_epi16(_mm512_slli_epi16(signed_bytes.v, 8), 8);
  const __m512i odd_s = _mm512_srai_epi16(signed_bytes.v, 8);
  const __m512i pairs =
      _mm512_add_epi32(_mm512_madd_epi16(even, even_s), _mm512_madd_epi16(odd, odd_s));
  return {_mm512_add_epi32(sum.v, pairs)};
#endif
}

// Each lane: sum of 2 products of bfloat16.
HW_INLINE F f_dot_bf16(F sum, I a, I b) {
#if defined(HW_ISA_VNNI_BF16)
  __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum.v) : "v"(a.v), "v"(b.v));
  return sum;
#else
  const __m512i high = _mm512_set1_epi32(static_cast<int32_t>(0xffff0000));
  const F low_a = {_mm512_castsi512_ps(_mm512_slli_epi32(a.v, 16))};
  const F low_b = {_mm512_castsi512_ps(_mm512_slli_epi32(b.v, 16))};
  const F high_a = {_mm512_castsi512_ps(_mm512_and_si512(a.v, high))};
  const F high_b = {_mm512_castsi512_ps(_mm512_and_si512(b.v, high))};
  return f_fma(high_a, high_b, f_fma(low_a, low_b, sum));
#endif
}

// Sum and maximum over lanes: halves are folded together, in this order on every machine.
HW_INLINE float f_sum(F a) {
  const __m256 eight =
      _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}
HW_INLINE float f_highest(F a) { return _mm512_reduce_max_ps(a.v); }
HW_INLINE int32_t i_sum(I a) { return _mm512_reduce_add_epi32(a.v); }

// Sixteen sums in double precision.
struct D { __m512d a, b; };
HW_INLINE D d_zero() { return {_mm512_setzero_pd(), _mm512_setzero_pd()}; }
HW_INLINE D operator+(D sum, F x) {
  const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(x.v));
  const __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(x.v, 1));
  return {_mm512_add_pd(sum.a, low), _mm512_add_pd(sum.b, high)};
}
HW_INLINE void d_store(double* p, D x) {
  _mm512_storeu_pd(p, x.a);
  _mm512_storeu_pd(p + 8, x.b);
}

}  // namespace headway::HW_ISA_NAME

#endif
