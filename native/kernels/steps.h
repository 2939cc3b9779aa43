// The sampling steps that change logits one token at a time, on a copy of the row.
//
// Their order is that of headway.runner.sampling. Lists of tokens hold ids of the vocabulary only.
#ifndef HEADWAY_STEPS_H
#define HEADWAY_STEPS_H

#include <algorithm>

#include "../headway.h"
#include "../vec/isa.h"

namespace headway::HW_ISA_NAME {

static bool has_steps(const hw_sampling& s) {
  return s.mask != nullptr || s.num_allowed >= 0 || s.num_banned > 0 || s.num_bias > 0 ||
         s.repetition_penalty != 1.0f || s.frequency_penalty != 0.0f ||
         s.presence_penalty != 0.0f;
}

static void allow(const float* logits, int64_t vocab_size, const hw_sampling& s, float* out) {
  if (s.num_allowed < 0) {
    memcpy(out, logits, static_cast<size_t>(vocab_size) * sizeof(float));
    return;
  }
  std::fill(out, out + vocab_size, -INFINITY);
  for (int64_t n = 0; n < s.num_allowed; ++n) {
    out[s.allowed[n]] = logits[s.allowed[n]];
  }
}

// Rules out the tokens whose bit is not set.
static void keep_masked(const uint32_t* mask, int64_t vocab_size, float* out) {
  for (int64_t begin = 0; begin < vocab_size; begin += 32) {
    const uint32_t bits = mask[begin / 32];
    if (bits == 0xffffffffu) continue;
    const int64_t end = std::min<int64_t>(begin + 32, vocab_size);
    for (int64_t token = begin; token < end; ++token) {
      if ((bits >> (token - begin) & 1u) == 0) out[token] = -INFINITY;
    }
  }
}

// Calls change(token, occurrences) once for each distinct token; `counts` [vocab_size] need not be
// cleared before.
template <class Change>
HW_INLINE void for_each_distinct(const int64_t* tokens, int64_t number, int32_t* counts,
                                 const Change& change) {
  for (int64_t n = 0; n < number; ++n) counts[tokens[n]] = 0;
  for (int64_t n = 0; n < number; ++n) ++counts[tokens[n]];
  for (int64_t n = 0; n < number; ++n) {
    const int64_t token = tokens[n];
    if (counts[token] > 0) change(token, counts[token]);
    counts[token] = 0;
  }
}

// Logits [vocab_size] after all steps, to `out`.
static void take_steps(const float* logits, int64_t vocab_size, const hw_sampling& s,
                       float* out, int32_t* counts) {
  allow(logits, vocab_size, s, out);
  if (s.mask != nullptr) keep_masked(s.mask, vocab_size, out);
  for (int64_t n = 0; n < s.num_banned; ++n) out[s.banned[n]] = -INFINITY;
  for (int64_t n = 0; n < s.num_bias; ++n) out[s.bias_tokens[n]] += s.bias_values[n];
  if (s.repetition_penalty != 1.0f) {
    const float factor = s.repetition_penalty;
    for_each_distinct(s.tokens, s.num_tokens, counts, [&](int64_t token, int32_t) {
      out[token] = out[token] > 0.0f ? out[token] / factor : out[token] * factor;
    });
  }
  if (s.frequency_penalty != 0.0f || s.presence_penalty != 0.0f) {
    const double frequency = s.frequency_penalty, presence = s.presence_penalty;
    for_each_distinct(s.tokens + s.prompt_len, s.num_tokens - s.prompt_len, counts,
                      [&](int64_t token, int32_t times) {
                        out[token] += static_cast<float>(-frequency * times - presence);
                      });
  }
}

}  // namespace headway::HW_ISA_NAME

#endif
