// vec.h in plain C++ with the compiler's own vectors, for any processor.
#ifndef HEADWAY_PORTABLE_H
#define HEADWAY_PORTABLE_H

#include "isa.h"

namespace headway::HW_ISA_NAME {

typedef float f16_t __attribute__((vector_size(64)));
typedef int32_t i16_t __attribute__((vector_size(64)));
struct F { f16_t v; };
struct I { i16_t v; };
struct M { i16_t v; };

HW_INLINE F f_set(float x) { return {x - f16_t{}}; }
HW_INLINE F f_zero() { return {f16_t{}}; }
HW_INLINE F f_load(const float* p) {
  F x;
  __builtin_memcpy(&x.v, p, 64);
  return x;
}
HW_INLINE void f_store(float* p, F x) { __builtin_memcpy(p, &x.v, 64); }
HW_INLINE F operator+(F a, F b) { return {a.v + b.v}; }
HW_INLINE F operator-(F a, F b) { return {a.v - b.v}; }
HW_INLINE F operator*(F a, F b) { return {a.v * b.v}; }
HW_INLINE F operator/(F a, F b) { return {a.v / b.v}; }
HW_INLINE F f_fma(F a, F b, F c) {
#if defined(__FP_FAST_FMAF)
  F out;
  for (int n = 0; n < 16; ++n) out.v[n] = __builtin_fmaf(a.v[n], b.v[n], c.v[n]);
  return out;
#else
  return {a.v * b.v + c.v};
#endif
}
HW_INLINE F f_max(F a, F b) { return {a.v > b.v ? a.v : b.v}; }
HW_INLINE F f_min(F a, F b) { return {a.v < b.v ? a.v : b.v}; }
HW_INLINE I i_bits(F a) { return {reinterpret_cast<i16_t>(a.v)}; }
HW_INLINE F f_bits(I a) { return {reinterpret_cast<f16_t>(a.v)}; }
HW_INLINE F f_abs(F a) { return f_bits({i_bits(a).v & 0x7fffffff}); }

HW_INLINE M f_less(F a, F b) { return {a.v < b.v}; }
HW_INLINE M f_equal(F a, F b) { return {a.v == b.v}; }
HW_INLINE M i_less(I a, I b) { return {a.v < b.v}; }
HW_INLINE M i_equal(I a, I b) { return {a.v == b.v}; }
HW_INLINE uint32_t m_bits(M m) {
  uint32_t bits = 0;
  for (int n = 0; n < 16; ++n) bits |= (m.v[n] & 1u) << n;
  return bits;
}
HW_INLINE I i_select(M m, I yes, I no) { return {(yes.v & m.v) | (no.v & ~m.v)}; }
HW_INLINE F f_select(M m, F yes, F no) { return f_bits(i_select(m, i_bits(yes), i_bits(no))); }

HW_INLINE I i_set(int32_t x) { return {x - i16_t{}}; }
HW_INLINE I i_load(const void* p) {
  I x;
  __builtin_memcpy(&x.v, p, 64);
  return x;
}
HW_INLINE void i_store(void* p, I x) { __builtin_memcpy(p, &x.v, 64); }
HW_INLINE I operator+(I a, I b) { return {a.v + b.v}; }
HW_INLINE I operator-(I a, I b) { return {a.v - b.v}; }
HW_INLINE I operator&(I a, I b) { return {a.v & b.v}; }
HW_INLINE I operator|(I a, I b) { return {a.v | b.v}; }
typedef uint32_t u16_t __attribute__((vector_size(64)));
template <int N> HW_INLINE I i_left(I a) {
  return {reinterpret_cast<i16_t>(reinterpret_cast<u16_t>(a.v) << N)};
}
template <int N> HW_INLINE I i_right(I a) {
  return {reinterpret_cast<i16_t>(reinterpret_cast<u16_t>(a.v) >> N)};
}
HW_INLINE I i_lanes() { return {i16_t{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}}; }

HW_INLINE F f_from(I a) { return {__builtin_convertvector(a.v, f16_t)}; }
HW_INLINE I i_round(F a) {
  // Adding 1.5 * 2^23 leaves the nearest integer, ties to even, in the low bits; good for +-2^22.
  const F magic = f_set(12582912.0f);
  return i_bits(a + magic) - i_bits(magic);
}

HW_INLINE I i_load_halves(const void* p) {
  const uint16_t* q = static_cast<const uint16_t*>(p);
  I x;
  for (int n = 0; n < 16; ++n) x.v[n] = q[n];
  return x;
}
HW_INLINE F f_load_bf16(const uint16_t* p) { return f_bits(i_left<16>(i_load_halves(p))); }
HW_INLINE F f_load_f16(const uint16_t* p) {
  // The exponent is moved from bias 15 to 127 by a multiplication, which also mends subnormals.
  const I raw = i_load_halves(p);
  const F size = f_bits(i_left<13>(raw & i_set(0x7fff))) * f_set(0x1p112f);
  const M special = f_less(f_set(65519.0f), size);
  const I inf = i_left<13>(raw & i_set(0x3ff)) | i_set(0x7f800000);
  return f_bits(i_select(special, inf, i_bits(size)) | i_left<16>(raw & i_set(0x8000)));
}
HW_INLINE void i_store_halves(void* p, I a) {
  uint16_t* q = static_cast<uint16_t*>(p);
  for (int n = 0; n < 16; ++n) q[n] = static_cast<uint16_t>(a.v[n]);
}
HW_INLINE void i_store_bytes(void* p, I a) {
  uint8_t* q = static_cast<uint8_t*>(p);
  for (int n = 0; n < 16; ++n) q[n] = static_cast<uint8_t>(a.v[n]);
}
HW_INLINE I i_spread(const void* p) {
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  return i_set(four);
}

HW_INLINE I i_hold(I x) { return x; }

HW_INLINE I i_dot(I sum, I bytes, I signed_bytes) {
  const i16_t s = signed_bytes.v, u = bytes.v;
  sum.v += (u & 0xff) * ((s << 24) >> 24);
  sum.v += ((u >> 8) & 0xff) * ((s << 16) >> 24);
  sum.v += ((u >> 16) & 0xff) * ((s << 8) >> 24);
  sum.v += ((u >> 24) & 0xff) * (s >> 24);
  return sum;
}
HW_INLINE F f_dot_bf16(F sum, I x, I y) {
  const I high = i_set(static_cast<int32_t>(0xffff0000));
  const F low = f_fma(f_bits(i_left<16>(x)), f_bits(i_left<16>(y)), sum);
  return f_fma(f_bits(x & high), f_bits(y & high), low);
}

HW_INLINE float f_sum(F a) {
  float s[16];
  f_store(s, a);
  for (int width = 8; width > 0; width /= 2) {
    for (int n = 0; n < width; ++n) s[n] += s[n + width];
  }
  return s[0];
}
HW_INLINE float f_highest(F a) {
  float top = a.v[0];
  for (int n = 1; n < 16; ++n) top = a.v[n] > top ? a.v[n] : top;
  return top;
}
HW_INLINE int32_t i_sum(I a) {
  int32_t sum = 0;
  for (int n = 0; n < 16; ++n) sum += a.v[n];
  return sum;
}

// Sixteen sums in double precision.
typedef double d16_t __attribute__((vector_size(128)));
struct D { d16_t v; };
HW_INLINE D d_zero() { return {d16_t{}}; }
HW_INLINE D operator+(D sum, F x) { return {sum.v + __builtin_convertvector(x.v, d16_t)}; }
HW_INLINE void d_store(double* p, D x) { __builtin_memcpy(p, &x.v, 128); }

}  // namespace headway::HW_ISA_NAME

#endif
