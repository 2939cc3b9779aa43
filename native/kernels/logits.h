// Passes over one row of logits: its maximum, where that is, and a bound on the k highest.
//
// The first pass keeps the maxima of small groups of logits, by which later passes skip most of the
// row. A row may have any length; beyond its end it reads as -inf.
#ifndef HEADWAY_LOGITS_H
#define HEADWAY_LOGITS_H

#include <algorithm>

#include "../vec/math.h"

namespace headway::HW_ISA_NAME {

constexpr int64_t kChunk = 256;  // logits of which the maximum of each of 16 lanes is kept

// Maxima that are kept of a row.
constexpr int64_t num_maxima(int64_t vocab_size) { return (vocab_size + kChunk - 1) / kChunk * 16; }

struct LogitsRow {
  const float* logits;
  int64_t vocab_size;
  float top;
  bool finite;    // all of it
  float* maxima;  // [num_maxima(vocab_size)]: of the logits chunk * kChunk + lane + 16 i
};

HW_INLINE F f_load_some(const float* p, int64_t number, float pad) {
  if (number >= 16) return f_load(p);
  float lanes[16];
  for (int64_t n = 0; n < 16; ++n) lanes[n] = n < number ? p[n] : pad;
  return f_load(lanes);
}

HW_INLINE F row_at(const LogitsRow& row, int64_t place) {
  return f_load_some(row.logits + place, row.vocab_size - place, -INFINITY);
}

// The bits of the lanes that are at least `floor`, which is finite.
HW_INLINE uint32_t at_least(F x, F floor) { return ~m_bits(f_less(x, floor)) & 0xffffu; }

// The first pass; `maxima` [num_maxima(vocab_size)] is filled and kept in the result.
static LogitsRow scan_logits(const float* logits, int64_t vocab_size, float* maxima) {
  const F zero = f_zero();
  F top = f_set(-INFINITY);
  // Zero times anything that is not finite is NaN, and stays.
  F odd[4] = {zero, zero, zero, zero};
  for (int64_t begin = 0; begin < vocab_size; begin += kChunk) {
    const int64_t size = std::min(kChunk, vocab_size - begin);
    const float* part = logits + begin;
    F high[4];
    for (int n = 0; n < 4; ++n) high[n] = f_set(-INFINITY);
    int64_t at = 0;
    for (; at + 64 <= size; at += 64) {
#pragma GCC unroll 4
      for (int n = 0; n < 4; ++n) {
        const F x = f_load(part + at + 16 * n);
        high[n] = f_max(high[n], x);
        odd[n] = f_fma(x, zero, odd[n]);
      }
    }
    for (; at < size; at += 16) {
      high[0] = f_max(high[0], f_load_some(part + at, size - at, -INFINITY));
      odd[0] = f_fma(f_load_some(part + at, size - at, 0.0f), zero, odd[0]);
    }
    const F all = f_max(f_max(high[0], high[1]), f_max(high[2], high[3]));
    f_store(maxima + begin / kChunk * 16, all);
    top = f_max(top, all);
  }
  const float oddity = f_sum((odd[0] + odd[1]) + (odd[2] + odd[3]));
  return {logits, vocab_size, f_highest(top), oddity == 0.0f, maxima};
}

// The lowest id with the highest logit.
static int64_t first_of_top(const LogitsRow& row) {
  const F top = f_set(row.top);
  for (int64_t begin = 0; begin < row.vocab_size; begin += kChunk) {
    if (m_bits(f_equal(f_load(row.maxima + begin / kChunk * 16), top)) == 0) continue;
    const int64_t end = std::min(begin + kChunk, row.vocab_size);
    for (int64_t at = begin; at < end; at += 16) {
      const uint32_t bits = m_bits(f_equal(row_at(row, at), top));
      if (bits != 0) return at + __builtin_ctz(bits);
    }
  }
  return -1;
}

// A logit that at least `number` tokens reach, mostly not many more; -inf where there are too few
// maxima to tell. `spare` [num_maxima(vocab_size)] is overwritten.
static float reached_by(const LogitsRow& row, int64_t number, float* spare) {
  const int64_t number_kept = num_maxima(row.vocab_size);
  // With more tokens than half the groups, hardly a group is without one.
  if (number > number_kept / 2) return -INFINITY;
  memcpy(spare, row.maxima, static_cast<size_t>(number_kept) * sizeof(float));
  float* place = spare + number - 1;
  std::nth_element(spare, place, spare + number_kept, [](float a, float b) { return a > b; });
  return *place;
}

}  // namespace headway::HW_ISA_NAME

#endif
