// Random numbers that depend on nothing but (seed, position, token): Philox 4x64-10, and
// exponential numbers made of it. headway.runner.sampling.sampler is the definition.
//
// A counter gives the numbers of eight tokens, so any token's can be computed alone. In general
// registers: x86 and Arm multiply 64 by 64 bits there as fast as vectors do out of narrower
// products, and vectors are busy with the exponentials.
#ifndef HEADWAY_PHILOX_H
#define HEADWAY_PHILOX_H

#include "../vec/math.h"

namespace headway::HW_ISA_NAME {

__extension__ typedef unsigned __int128 wide_t;

constexpr int kRounds = 10;

// The round keys of one (seed, position).
struct Stream {
  uint64_t low[kRounds], high[kRounds];
};

static Stream stream_of(int64_t seed, int64_t position) {
  Stream stream;
  uint64_t low = static_cast<uint64_t>(seed), high = static_cast<uint64_t>(position);
  for (int n = 0; n < kRounds; ++n) {
    stream.low[n] = low;
    stream.high[n] = high;
    low += 0x9E3779B97F4A7C15u;
    high += 0xBB67AE8584CAA73Bu;
  }
  return stream;
}

// The 32-bit words of the tokens 8 block .. 8 block + 7, the low half of each output first.
HW_INLINE void philox(const Stream& stream, int64_t block, uint64_t* words) {
  uint64_t a = static_cast<uint64_t>(block) + 1, b = 0, c = 0, d = 0;
#pragma GCC unroll 10
  for (int n = 0; n < kRounds; ++n) {
    const wide_t first = static_cast<wide_t>(a) * 0xD2E7470EE14C6C93u;
    const wide_t second = static_cast<wide_t>(c) * 0xCA5A826395121157u;
    a = static_cast<uint64_t>(second >> 64) ^ b ^ stream.low[n];
    b = static_cast<uint64_t>(second);
    c = static_cast<uint64_t>(first >> 64) ^ d ^ stream.high[n];
    d = static_cast<uint64_t>(first);
  }
  words[0] = a;
  words[1] = b;
  words[2] = c;
  words[3] = d;
}

// v = min((word + 0.5) / 2^32, 1 - 2^-24), word + 0.5 rounded to float once.
HW_INLINE F f_uniform(I words) {
  const F high = f_from(i_right<8>(words)) * f_set(256.0f);
  const F low = f_from(words & i_set(255)) + f_set(0.5f);
  return f_min((high + low) * f_set(0x1p-32f), f_set(1.0f - 0x1p-24f));
}

// -log(1 - v), to the last bits also where v is small.
HW_INLINE F f_exponential(F v) {
  const F rest = f_set(1.0f) - v;
  const F lost = (f_set(1.0f) - rest) - v;  // 1 - v = rest + lost
  return f_zero() - (f_log(rest) + lost / rest);
}

}  // namespace headway::HW_ISA_NAME

#endif
