// Draws a token from softmax(x) by an exponential race: token i's time is exponential[i] / e^x[i],
// and the shortest wins (of equal times the lowest id), which happens with the probability that
// softmax gives it. This is the Gumbel-max trick without the logarithm: minus the logarithm of the
// time is x[i] plus a Gumbel number. No sum over the row is needed.
#ifndef HEADWAY_RACE_H
#define HEADWAY_RACE_H

#include "filters.h"
#include "philox.h"

namespace headway::HW_ISA_NAME {

struct Race {
  float time;
  int64_t token;
  float floor;  // a token whose x is below cannot win any more
};

// The tokens id[n] with weight e^x[n] and the given words join the race; -inf never wins.
HW_INLINE void race(Race* best, F x, I words, I ids) {
  const F uniform = f_uniform(words), weight = f_exp(x);
  // An exponential number is at least its v, so few tokens need their logarithm.
  uint32_t bits = m_bits(f_less(uniform, f_set(best->time * 1.001f) * weight));
  if (bits == 0) return;
  float times[16];
  int32_t tokens[16];
  f_store(times, f_exponential(uniform) / weight);
  i_store(tokens, ids);
  for (; bits != 0; bits &= bits - 1) {
    const int n = __builtin_ctz(bits);
    const bool equal_but_lower = times[n] == best->time && tokens[n] < best->token;
    if (times[n] < best->time || equal_but_lower) {
      best->time = times[n];
      best->token = tokens[n];
    }
  }
  // No exponential number is below 2^-33; 0.01 is more than any rounding.
  best->floor = logf(0x1p-33f / best->time) - 0.01f;
}

HW_INLINE Race race_start() { return {INFINITY, INT64_MAX, -INFINITY}; }

// `number` candidates in ascending order of ids.
static void race_some(Race* best, const Stream& stream, const float* x, const int32_t* ids,
                      int64_t number) {
  int64_t block = -1;
  uint32_t eight[8];
  for (int64_t begin = 0; begin < number; begin += 16) {
    const int64_t size = std::min<int64_t>(16, number - begin);
    uint32_t words[16] = {};
    int32_t tokens[16] = {};
    for (int64_t n = 0; n < size; ++n) {
      const int32_t id = ids[begin + n];
      tokens[n] = id;
      if (x[begin + n] < best->floor) continue;
      if (id / 8 != block) {
        block = id / 8;
        uint64_t fresh[4];
        philox(stream, block, fresh);
        memcpy(eight, fresh, sizeof eight);
      }
      words[n] = eight[id % 8];
    }
    race(best, f_load_some(x + begin, size, -INFINITY), i_load(words), i_load(tokens));
  }
}

// Races all tokens. Words are made for 256 tokens before any is used, so that multiplications and
// exponentials overlap, and only where some token's weight gives it a uniform.
static int64_t race_all(const LogitsRow& row, const Tempered& tempered, const Stream& stream) {
  constexpr int kVectors = 16;
  Race best = race_start();
  // The likeliest token goes first: against its time most of the others have no uniform.
  const float first_x = 0.0f;
  const int32_t first_id = static_cast<int32_t>(first_of_top(row));
  race_some(&best, stream, &first_x, &first_id, 1);
  for (int64_t begin = 0; begin < row.vocab_size; begin += kVectors * 16) {
    const int vectors =
        static_cast<int>(std::min<int64_t>(kVectors, (row.vocab_size - begin + 15) / 16));
    F x[kVectors];
    uint64_t words[kVectors][8];
    bool live[kVectors];
    const F floor = f_set(best.floor);
    for (int n = 0; n < vectors; ++n) {
      x[n] = tempered.of(row_at(row, begin + 16 * n));
      live[n] = at_least(x[n], floor) != 0;
      if (!live[n]) continue;
      philox(stream, begin / 8 + 2 * n, words[n]);
      philox(stream, begin / 8 + 2 * n + 1, words[n] + 4);
    }
    for (int n = 0; n < vectors; ++n) {
      const I ids = i_lanes() + i_set(static_cast<int32_t>(begin) + 16 * n);
      if (live[n]) race(&best, x[n], i_load(words[n]), ids);
    }
  }
  return best.token;
}

}  // namespace headway::HW_ISA_NAME

#endif
