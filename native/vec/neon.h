// vec.h with Arm's NEON and dot products of signed bytes: four registers of four lanes. Where
// HW_ISA_I8MM is set, also with those of unsigned by signed bytes and of bfloat16.
#ifndef HEADWAY_NEON_H
#define HEADWAY_NEON_H

#include "isa.h"

#define HW_QUADS1(f, x) {f(x.a), f(x.b), f(x.c), f(x.d)}
#define HW_QUADS2(f, x, y) {f(x.a, y.a), f(x.b, y.b), f(x.c, y.c), f(x.d, y.d)}
#define HW_QUADS3(f, x, y, z) \
  {f(x.a, y.a, z.a), f(x.b, y.b, z.b), f(x.c, y.c, z.c), f(x.d, y.d, z.d)}

namespace headway::HW_ISA_NAME {

struct F { float32x4_t a, b, c, d; };
struct I { int32x4_t a, b, c, d; };
struct M { uint32x4_t a, b, c, d; };

HW_INLINE F f_set(float x) {
  const float32x4_t four = vdupq_n_f32(x);
  return {four, four, four, four};
}
HW_INLINE F f_zero() { return f_set(0.0f); }
HW_INLINE F f_load(const float* p) {
  return {vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)};
}
HW_INLINE void f_store(float* p, F x) {
  vst1q_f32(p, x.a);
  vst1q_f32(p + 4, x.b);
  vst1q_f32(p + 8, x.c);
  vst1q_f32(p + 12, x.d);
}
HW_INLINE F operator+(F x, F y) { return HW_QUADS2(vaddq_f32, x, y); }
HW_INLINE F operator-(F x, F y) { return HW_QUADS2(vsubq_f32, x, y); }
HW_INLINE F operator*(F x, F y) { return HW_QUADS2(vmulq_f32, x, y); }
HW_INLINE F operator/(F x, F y) { return HW_QUADS2(vdivq_f32, x, y); }
HW_INLINE F f_fma(F x, F y, F z) { return HW_QUADS3(vfmaq_f32, z, x, y); }
HW_INLINE F f_abs(F x) { return HW_QUADS1(vabsq_f32, x); }

HW_INLINE M f_less(F x, F y) { return HW_QUADS2(vcltq_f32, x, y); }
HW_INLINE M f_equal(F x, F y) { return HW_QUADS2(vceqq_f32, x, y); }
HW_INLINE M i_less(I x, I y) { return HW_QUADS2(vcltq_s32, x, y); }
HW_INLINE M i_equal(I x, I y) { return HW_QUADS2(vceqq_s32, x, y); }
HW_INLINE uint32_t m_bits(M m) {
  const uint8x16_t bytes =
      vcombine_u8(vmovn_u16(vcombine_u16(vmovn_u32(m.a), vmovn_u32(m.b))),
                  vmovn_u16(vcombine_u16(vmovn_u32(m.c), vmovn_u32(m.d))));
  const uint8x8_t places = vcreate_u8(0x8040201008040201u);
  return static_cast<uint32_t>(vaddv_u8(vand_u8(vget_low_u8(bytes), places))) |
         static_cast<uint32_t>(vaddv_u8(vand_u8(vget_high_u8(bytes), places))) << 8;
}
HW_INLINE F f_select(M m, F yes, F no) { return HW_QUADS3(vbslq_f32, m, yes, no); }
HW_INLINE I i_select(M m, I yes, I no) { return HW_QUADS3(vbslq_s32, m, yes, no); }
// By comparing: of a NaN and a number the second is the result, as everywhere else.
HW_INLINE F f_max(F x, F y) { return f_select(f_less(y, x), x, y); }
HW_INLINE F f_min(F x, F y) { return f_select(f_less(x, y), x, y); }

HW_INLINE I i_set(int32_t x) {
  const int32x4_t four = vdupq_n_s32(x);
  return {four, four, four, four};
}
HW_INLINE int32x4_t quad_load(const void* p) {
  return vreinterpretq_s32_u8(vld1q_u8(static_cast<const uint8_t*>(p)));
}
HW_INLINE I i_load(const void* p) {
  const uint8_t* q = static_cast<const uint8_t*>(p);
  return {quad_load(q), quad_load(q + 16), quad_load(q + 32), quad_load(q + 48)};
}
HW_INLINE void i_store(void* p, I x) {
  uint8_t* q = static_cast<uint8_t*>(p);
  vst1q_u8(q, vreinterpretq_u8_s32(x.a));
  vst1q_u8(q + 16, vreinterpretq_u8_s32(x.b));
  vst1q_u8(q + 32, vreinterpretq_u8_s32(x.c));
  vst1q_u8(q + 48, vreinterpretq_u8_s32(x.d));
}
HW_INLINE I operator+(I x, I y) { return HW_QUADS2(vaddq_s32, x, y); }
HW_INLINE I operator-(I x, I y) { return HW_QUADS2(vsubq_s32, x, y); }
HW_INLINE I operator&(I x, I y) { return HW_QUADS2(vandq_s32, x, y); }
HW_INLINE I operator|(I x, I y) { return HW_QUADS2(vorrq_s32, x, y); }
template <int N> HW_INLINE int32x4_t quad_right(int32x4_t x) {
  return vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(x), N));
}
template <int N> HW_INLINE I i_left(I x) {
  return {vshlq_n_s32(x.a, N), vshlq_n_s32(x.b, N), vshlq_n_s32(x.c, N), vshlq_n_s32(x.d, N)};
}
template <int N> HW_INLINE I i_right(I x) { return HW_QUADS1(quad_right<N>, x); }
HW_INLINE I i_lanes() {
  const int32_t lanes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return i_load(lanes);
}

HW_INLINE F f_from(I x) { return HW_QUADS1(vcvtq_f32_s32, x); }
// To the nearest, ties to even.
HW_INLINE I i_round(F x) { return HW_QUADS1(vcvtnq_s32_f32, x); }
HW_INLINE I i_bits(F x) { return HW_QUADS1(vreinterpretq_s32_f32, x); }
HW_INLINE F f_bits(I x) { return HW_QUADS1(vreinterpretq_f32_s32, x); }

HW_INLINE int32x4_t quad_halves(const uint16_t* p) {
  return vreinterpretq_s32_u32(vmovl_u16(vld1_u16(p)));
}
HW_INLINE I i_load_halves(const void* p) {
  const uint16_t* q = static_cast<const uint16_t*>(p);
  return {quad_halves(q), quad_halves(q + 4), quad_halves(q + 8), quad_halves(q + 12)};
}
HW_INLINE F f_load_bf16(const uint16_t* p) { return f_bits(i_left<16>(i_load_halves(p))); }
HW_INLINE float32x4_t quad_f16(const uint16_t* p) {
  return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
HW_INLINE F f_load_f16(const uint16_t* p) {
  return {quad_f16(p), quad_f16(p + 4), quad_f16(p + 8), quad_f16(p + 12)};
}
HW_INLINE int16x8_t low_halves(int32x4_t x, int32x4_t y) {
  return vcombine_s16(vmovn_s32(x), vmovn_s32(y));
}
HW_INLINE void i_store_halves(void* p, I x) {
  uint16_t* q = static_cast<uint16_t*>(p);
  vst1q_u16(q, vreinterpretq_u16_s16(low_halves(x.a, x.b)));
  vst1q_u16(q + 8, vreinterpretq_u16_s16(low_halves(x.c, x.d)));
}
HW_INLINE void i_store_bytes(void* p, I x) {
  const int8x16_t bytes =
      vcombine_s8(vmovn_s16(low_halves(x.a, x.b)), vmovn_s16(low_halves(x.c, x.d)));
  vst1q_u8(static_cast<uint8_t*>(p), vreinterpretq_u8_s8(bytes));
}
HW_INLINE I i_spread(const void* p) {
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  return i_set(four);
}

HW_INLINE I i_hold(I x) { return x; }

#if defined(HW_ISA_I8MM)
HW_INLINE int32x4_t quad_dot(int32x4_t sum, int32x4_t bytes, int32x4_t signed_bytes) {
  return vusdotq_s32(sum, vreinterpretq_u8_s32(bytes), vreinterpretq_s8_s32(signed_bytes));
}
// Lane 2i + j: eight products of bytes [8i, 8i + 8) by signed bytes [8j, 8j + 8).
HW_INLINE int32x4_t quad_matrix_dot(int32x4_t sum, int32x4_t bytes, int32x4_t signed_bytes) {
  return vusmmlaq_s32(sum, vreinterpretq_u8_s32(bytes), vreinterpretq_s8_s32(signed_bytes));
}
HW_INLINE float32x4_t quad_dot_bf16(float32x4_t sum, int32x4_t x, int32x4_t y) {
  return vbfdotq_f32(sum, vreinterpretq_bf16_s32(x), vreinterpretq_bf16_s32(y));
}
HW_INLINE I i_dot(I sum, I bytes, I signed_bytes) {
  return HW_QUADS3(quad_dot, sum, bytes, signed_bytes);
}
HW_INLINE I i_matrix_dot(I sum, I bytes, I signed_bytes) {
  return HW_QUADS3(quad_matrix_dot, sum, bytes, signed_bytes);
}
HW_INLINE F f_dot_bf16(F sum, I x, I y) { return HW_QUADS3(quad_dot_bf16, sum, x, y); }
#else
HW_INLINE int32x4_t quad_lowered(int32x4_t bytes) {
  return veorq_s32(bytes, vdupq_n_s32(static_cast<int32_t>(0x80808080)));
}
HW_INLINE int32x4_t quad_dot(int32x4_t sum, int32x4_t bytes, int32x4_t signed_bytes) {
  return vdotq_s32(sum, vreinterpretq_s8_s32(bytes), vreinterpretq_s8_s32(signed_bytes));
}
// Of bytes with a sign on both sides, so stored bytes lose what they were raised by; see math.h.
#define HW_DOT_IS_SIGNED 1
constexpr int32_t kRaised = 0;
HW_INLINE I i_raised(I bytes) { return HW_QUADS1(quad_lowered, bytes); }
HW_INLINE I i_dot(I sum, I bytes, I signed_bytes) {
  return HW_QUADS3(quad_dot, sum, bytes, signed_bytes);
}
HW_INLINE F f_dot_bf16(F sum, I x, I y) {
  const I high = i_set(static_cast<int32_t>(0xffff0000));
  const F low = f_fma(f_bits(i_left<16>(x)), f_bits(i_left<16>(y)), sum);
  return f_fma(f_bits(x & high), f_bits(y & high), low);
}
#endif

HW_INLINE float f_sum(F x) {
  const float32x4_t four = vaddq_f32(vaddq_f32(x.a, x.c), vaddq_f32(x.b, x.d));
  const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
  return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}
// Of numbers; what it is where there are NaN does not matter.
HW_INLINE float f_highest(F x) {
  return vmaxvq_f32(vmaxq_f32(vmaxq_f32(x.a, x.b), vmaxq_f32(x.c, x.d)));
}
HW_INLINE int32_t i_sum(I x) {
  return vaddvq_s32(vaddq_s32(vaddq_s32(x.a, x.b), vaddq_s32(x.c, x.d)));
}

// Sixteen sums in double precision.
struct D { float64x2_t v[8]; };
HW_INLINE D d_zero() {
  const float64x2_t zero = vdupq_n_f64(0.0);
  return {{zero, zero, zero, zero, zero, zero, zero, zero}};
}
HW_INLINE D operator+(D sum, F x) {
  const float32x4_t quads[4] = {x.a, x.b, x.c, x.d};
#pragma GCC unroll 4
  for (int n = 0; n < 4; ++n) {
    sum.v[2 * n] = vaddq_f64(sum.v[2 * n], vcvt_f64_f32(vget_low_f32(quads[n])));
    sum.v[2 * n + 1] = vaddq_f64(sum.v[2 * n + 1], vcvt_high_f64_f32(quads[n]));
  }
  return sum;
}
HW_INLINE void d_store(double* p, D x) {
#pragma GCC unroll 8
  for (int n = 0; n < 8; ++n) vst1q_f64(p + 2 * n, x.v[n]);
}

}  // namespace headway::HW_ISA_NAME

#undef HW_QUADS1
#undef HW_QUADS2
#undef HW_QUADS3

#endif
