// Passes over one row of scores: its maximum, where that is, and a bound on the k highest.
//
// One survey notes the maxima of small groups of scores, which later passes use to skip most of
// the row. A row may have any length; beyond its end it reads as -inf.

constexpr int64_t kChunk = 256;  // scores whose 16 lane maxima are noted

// Floats of the notes about a row.
constexpr int64_t notes_of(int64_t vocabulary) { return (vocabulary + kChunk - 1) / kChunk * 16; }

struct Row {
  const float* scores;
  int64_t vocabulary;
  float top;
  bool finite;    // all of it
  float* maxima;  // [notes_of(vocabulary)]: of the scores chunk * kChunk + lane + 16 n
};

HW_INLINE F f_load_some(const float* p, int64_t number, float pad) {
  if (number >= 16) return f_load(p);
  float lanes[16];
  for (int64_t n = 0; n < 16; ++n) lanes[n] = n < number ? p[n] : pad;
  return f_load(lanes);
}

HW_INLINE F row_at(const Row& row, int64_t place) {
  return f_load_some(row.scores + place, row.vocabulary - place, -INFINITY);
}

// The bits of the lanes that are at least `floor`, which is finite.
HW_INLINE uint32_t at_least(F x, F floor) { return ~m_bits(f_less(x, floor)) & 0xffffu; }

static Row survey(const float* scores, int64_t vocabulary, float* maxima) {
  const F zero = f_zero();
  F top = f_set(-INFINITY);
  // Zero times anything that is not finite is NaN, and stays.
  F odd[4] = {zero, zero, zero, zero};
  for (int64_t begin = 0; begin < vocabulary; begin += kChunk) {
    const int64_t size = std::min(kChunk, vocabulary - begin);
    const float* part = scores + begin;
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
  return {scores, vocabulary, f_highest(top), oddity == 0.0f, maxima};
}

// The lowest id with the highest score.
static int64_t first_of_top(const Row& row) {
  const F top = f_set(row.top);
  for (int64_t begin = 0; begin < row.vocabulary; begin += kChunk) {
    if (m_bits(f_equal(f_load(row.maxima + begin / kChunk * 16), top)) == 0) continue;
    const int64_t end = std::min(begin + kChunk, row.vocabulary);
    for (int64_t at = begin; at < end; at += 16) {
      const uint32_t bits = m_bits(f_equal(row_at(row, at), top));
      if (bits != 0) return at + __builtin_ctz(bits);
    }
  }
  return -1;
}

// A score that at least `number` tokens reach, mostly not many more; -inf where the notes are too
// few to tell. `spare` [notes_of(vocabulary)] is overwritten.
static float reached_by(const Row& row, int64_t number, float* spare) {
  const int64_t notes = notes_of(row.vocabulary);
  // With more tokens than half the groups, hardly a group is without one.
  if (number > notes / 2) return -INFINITY;
  memcpy(spare, row.maxima, static_cast<size_t>(notes) * sizeof(float));
  float* place = spare + number - 1;
  std::nth_element(spare, place, spare + notes, [](float a, float b) { return a > b; });
  return *place;
}
