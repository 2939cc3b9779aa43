// Log probabilities of a row: of the model's own logits, before any sampling step.
#ifndef HEADWAY_LOGPROBS_H
#define HEADWAY_LOGPROBS_H

#include <algorithm>

#include "../headway.h"
#include "logits.h"

namespace headway::HW_ISA_NAME {

// The `number` highest logits, highest first and by id among equals, to `tokens` and `logits`.
// Returns how many there were.
static int64_t take_highest(const LogitsRow& row, int64_t number, float* spare, int64_t* tokens,
                            float* logits) {
  if (number <= 0) return 0;
  int64_t taken = 0;
  // The logits are finite, the bound perhaps not.
  F floor = f_set(std::max(reached_by(row, number, spare), -0x1.fffffep127f));
  for (int64_t at = 0; at < row.vocab_size; at += 16) {
    for (uint32_t bits = at_least(row_at(row, at), floor); bits != 0; bits &= bits - 1) {
      const int64_t token = at + __builtin_ctz(bits);
      const float logit = row.logits[token];
      // What comes later must be higher to displace what is there.
      if (taken == number && !(logit > logits[number - 1])) continue;
      int64_t place = taken < number ? taken++ : number - 1;
      for (; place > 0 && logit > logits[place - 1]; --place) {
        logits[place] = logits[place - 1];
        tokens[place] = tokens[place - 1];
      }
      logits[place] = logit;
      tokens[place] = token;
    }
    if (taken == number) floor = f_max(floor, f_set(logits[number - 1]));
  }
  return taken;
}

// All logits, in the same order. Inserted one by one, they would take as many steps as their square.
static int64_t sort_all(const LogitsRow& row, int64_t* tokens, float* logits) {
  for (int64_t token = 0; token < row.vocab_size; ++token) tokens[token] = token;
  std::sort(tokens, tokens + row.vocab_size, [&row](int64_t a, int64_t b) {
    return row.logits[a] != row.logits[b] ? row.logits[a] > row.logits[b] : a < b;
  });
  for (int64_t n = 0; n < row.vocab_size; ++n) logits[n] = row.logits[tokens[n]];
  return row.vocab_size;
}

// Rank and log probability of sampled->token, and the `number` likeliest tokens; where there are
// fewer tokens than that, the rest is filled with token -1.
static void gather_logprobs(const LogitsRow& row, int64_t number, hw_sampled_token* sampled,
                            float* spare) {
  const float logit = row.logits[sampled->token];
  const F top = f_set(row.top), own = f_set(logit), one = f_set(1.0f);
  D sum = d_zero(), higher = d_zero();
  for (int64_t at = 0; at < row.vocab_size; at += 16) {
    const F x = row_at(row, at);
    sum = sum + f_exp(x - top);
    higher = higher + f_select(f_less(own, x), one, f_zero());
  }
  const float whole = static_cast<float>(log(d_sum(sum)));
  sampled->logprob = (logit - row.top) - whole;
  sampled->rank = static_cast<int32_t>(d_sum(higher)) + 1;
  float* logits = sampled->top_logprobs;
  const int64_t taken = number >= row.vocab_size
                            ? sort_all(row, sampled->top_tokens, logits)
                            : take_highest(row, number, spare, sampled->top_tokens, logits);
  for (int64_t n = 0; n < taken; ++n) logits[n] = (logits[n] - row.top) - whole;
  for (int64_t n = taken; n < number; ++n) {
    sampled->top_tokens[n] = -1;
    logits[n] = -INFINITY;
  }
}

}  // namespace headway::HW_ISA_NAME

#endif
