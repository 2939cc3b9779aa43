// vec.h with AVX2, FMA and F16C: two registers of eight lanes.
#ifndef HEADWAY_AVX2_H
#define HEADWAY_AVX2_H

#include "isa.h"

namespace headway::HW_ISA_NAME {

struct F { __m256 a, b; };
struct I { __m256i a, b; };
struct M { __m256 a, b; };

HW_INLINE F f_set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
HW_INLINE F f_zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
HW_INLINE F f_load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
HW_INLINE void f_store(float* p, F x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(p + 8, x.b);
}
HW_INLINE F operator+(F x, F y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
HW_INLINE F operator-(F x, F y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
HW_INLINE F operator*(F x, F y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
HW_INLINE F operator/(F x, F y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
HW_INLINE F f_fma(F x, F y, F z) {
  return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
HW_INLINE F f_max(F x, F y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
HW_INLINE F f_min(F x, F y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
HW_INLINE F f_abs(F x) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}

HW_INLINE M f_less(F x, F y) {
  return {_mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ)};
}
HW_INLINE M f_equal(F x, F y) {
  return {_mm256_cmp_ps(x.a, y.a, _CMP_EQ_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_EQ_OQ)};
}
HW_INLINE M i_less(I x, I y) {
  return {_mm256_castsi256_ps(_mm256_cmpgt_epi32(y.a, x.a)),
          _mm256_castsi256_ps(_mm256_cmpgt_epi32(y.b, x.b))};
}
HW_INLINE M i_equal(I x, I y) {
  return {_mm256_castsi256_ps(_mm256_cmpeq_epi32(x.a, y.a)),
          _mm256_castsi256_ps(_mm256_cmpeq_epi32(x.b, y.b))};
}
HW_INLINE uint32_t m_bits(M m) {
  return static_cast<uint32_t>(_mm256_movemask_ps(m.a)) |
         static_cast<uint32_t>(_mm256_movemask_ps(m.b)) << 8;
}
HW_INLINE F f_select(M m, F yes, F no) {
  return {_mm256_blendv_ps(no.a, yes.a, m.a), _mm256_blendv_ps(no.b, yes.b, m.b)};
}
HW_INLINE I i_select(M m, I yes, I no) {
  return {_mm256_blendv_epi8(no.a, yes.a, _mm256_castps_si256(m.a)),
          _mm256_blendv_epi8(no.b, yes.b, _mm256_castps_si256(m.b))};
}

HW_INLINE I i_set(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
HW_INLINE I i_load(const void* p) {
  const __m256i* q = static_cast<const __m256i*>(p);
  return {_mm256_loadu_si256(q), _mm256_loadu_si256(q + 1)};
}
HW_INLINE void i_store(void* p, I x) {
  __m256i* q = static_cast<__m256i*>(p);
  _mm256_storeu_si256(q, x.a);
  _mm256_storeu_si256(q + 1, x.b);
}
HW_INLINE I operator+(I x, I y) {
  return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)};
}
HW_INLINE I operator-(I x, I y) {
  return {_mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b)};
}
HW_INLINE I operator&(I x, I y) {
  return {_mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b)};
}
HW_INLINE I operator|(I x, I y) { return {_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)}; }
template <int N> HW_INLINE I i_left(I x) {
  return {_mm256_slli_epi32(x.a, N), _mm256_slli_epi32(x.b, N)};
}
template <int N> HW_INLINE I i_right(I x) {
  return {_mm256_srli_epi32(x.a, N), _mm256_srli_epi32(x.b, N)};
}
HW_INLINE I i_lanes() {
  return {_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
          _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15)};
}

HW_INLINE F f_from(I x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
HW_INLINE I i_round(F x) { return {_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)}; }
HW_INLINE I i_bits(F x) { return {_mm256_castps_si256(x.a), _mm256_castps_si256(x.b)}; }
HW_INLINE F f_bits(I x) { return {_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)}; }

HW_INLINE I i_load_halves(const void* p) {
  const __m128i* q = static_cast<const __m128i*>(p);
  return {_mm256_cvtepu16_epi32(_mm_loadu_si128(q)), _mm256_cvtepu16_epi32(_mm_loadu_si128(q + 1))};
}
HW_INLINE F f_load_bf16(const uint16_t* p) { return f_bits(i_left<16>(i_load_halves(p))); }
HW_INLINE F f_load_f16(const uint16_t* p) {
  const __m128i* q = reinterpret_cast<const __m128i*>(p);
  return {_mm256_cvtph_ps(_mm_loadu_si128(q)), _mm256_cvtph_ps(_mm_loadu_si128(q + 1))};
}
HW_INLINE void i_store_halves(void* p, I x) {
  const __m256i low = _mm256_set1_epi32(0xffff);
  const __m256i packed =
      _mm256_packus_epi32(_mm256_and_si256(x.a, low), _mm256_and_si256(x.b, low));
  _mm256_storeu_si256(static_cast<__m256i*>(p), _mm256_permute4x64_epi64(packed, 0xd8));
}
HW_INLINE void i_store_bytes(void* p, I x) {
  const __m256i low = _mm256_set1_epi32(0xff);
  const __m256i halves = _mm256_permute4x64_epi64(
      _mm256_packus_epi32(_mm256_and_si256(x.a, low), _mm256_and_si256(x.b, low)), 0xd8);
  _mm_storeu_si128(static_cast<__m128i*>(p),
                   _mm_packus_epi16(_mm256_castsi256_si128(halves),
                                    _mm256_extracti128_si256(halves, 1)));
}
HW_INLINE I i_spread(const void* p) {
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  return i_set(four);
}

HW_INLINE I i_hold(I x) { return x; }

HW_INLINE __m256i dot_half(__m256i sum, __m256i bytes, __m256i signed_bytes) {
  const __m256i even = _mm256_and_si256(bytes, _mm256_set1_epi16(0xff));
  const __m256i odd = _mm256_srli_epi16(bytes, 8);
  const __m256i even_s = _mm256_srai_epi16(_mm256_slli_epi16(signed_bytes, 8), 8);
  const __m256i odd_s = _mm256_srai_epi16(signed_bytes, 8);
  const __m256i pairs =
      _mm256_add_epi32(_mm256_madd_epi16(even, even_s), _mm256_madd_epi16(odd, odd_s));
  return _mm256_add_epi32(sum, pairs);
}
HW_INLINE I i_dot(I sum, I bytes, I signed_bytes) {
  return {dot_half(sum.a, bytes.a, signed_bytes.a), dot_half(sum.b, bytes.b, signed_bytes.b)};
}

// Bytes by fours as two pairs of 16-bit numbers, the even ones and the odd ones: what this set can
// multiply and add in one instruction. In memory, where one number of each four is for all lanes,
// such a four takes eight bytes.
struct W { I even, odd; };
HW_INLINE W w_unsigned(I bytes) {
  const __m256i low = _mm256_set1_epi16(0xff);
  return {{_mm256_and_si256(bytes.a, low), _mm256_and_si256(bytes.b, low)},
          {_mm256_srli_epi16(bytes.a, 8), _mm256_srli_epi16(bytes.b, 8)}};
}
HW_INLINE W w_signed(I bytes) {
  return {{_mm256_srai_epi16(_mm256_slli_epi16(bytes.a, 8), 8),
           _mm256_srai_epi16(_mm256_slli_epi16(bytes.b, 8), 8)},
          {_mm256_srai_epi16(bytes.a, 8), _mm256_srai_epi16(bytes.b, 8)}};
}
HW_INLINE W w_spread(const void* p) {
  return {i_spread(p), i_spread(static_cast<const char*>(p) + 4)};
}
// Sixteen numbers that fit into 16 bits, as four such fours.
HW_INLINE void w_store(void* p, I x) {
  const __m256i halves = _mm256_permute4x64_epi64(_mm256_packs_epi32(x.a, x.b), 0xd8);
  const __m256i order = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15));
  _mm256_storeu_si256(static_cast<__m256i*>(p), _mm256_shuffle_epi8(halves, order));
}
// As assembly, because gcc 12 adds to a copy of a sum, and copies and spills those of a large tile.
HW_INLINE void add_pairs(__m256i& sum, __m256i x, __m256i y) {
  const __m256i pairs = _mm256_madd_epi16(x, y);
  __asm__("vpaddd %1, %0, %0" : "+x"(sum) : "x"(pairs));
}
HW_INLINE I w_dot(I sum, W x, W y) {
  add_pairs(sum.a, x.even.a, y.even.a);
  add_pairs(sum.b, x.even.b, y.even.b);
  add_pairs(sum.a, x.odd.a, y.odd.a);
  add_pairs(sum.b, x.odd.b, y.odd.b);
  return sum;
}

HW_INLINE F f_dot_bf16(F sum, I x, I y) {
  const I high = i_set(static_cast<int32_t>(0xffff0000));
  const F low = f_fma(f_bits(i_left<16>(x)), f_bits(i_left<16>(y)), sum);
  return f_fma(f_bits(x & high), f_bits(y & high), low);
}

HW_INLINE float f_sum(F x) {
  const __m256 eight = _mm256_add_ps(x.a, x.b);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}
HW_INLINE float f_highest(F x) {
  const __m256 eight = _mm256_max_ps(x.a, x.b);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}
HW_INLINE int32_t i_sum(I x) {
  const __m256i eight = _mm256_add_epi32(x.a, x.b);
  const __m128i four =
      _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

// Sixteen sums in double precision.
struct D { __m256d a, b, c, d; };
HW_INLINE D d_zero() {
  const __m256d zero = _mm256_setzero_pd();
  return {zero, zero, zero, zero};
}
HW_INLINE D operator+(D sum, F x) {
  return {_mm256_add_pd(sum.a, _mm256_cvtps_pd(_mm256_castps256_ps128(x.a))),
          _mm256_add_pd(sum.b, _mm256_cvtps_pd(_mm256_extractf128_ps(x.a, 1))),
          _mm256_add_pd(sum.c, _mm256_cvtps_pd(_mm256_castps256_ps128(x.b))),
          _mm256_add_pd(sum.d, _mm256_cvtps_pd(_mm256_extractf128_ps(x.b, 1)))};
}
HW_INLINE void d_store(double* p, D x) {
  _mm256_storeu_pd(p, x.a);
  _mm256_storeu_pd(p + 4, x.b);
  _mm256_storeu_pd(p + 8, x.c);
  _mm256_storeu_pd(p + 12, x.d);
}

}  // namespace headway::HW_ISA_NAME

#endif
