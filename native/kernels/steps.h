// The sampling steps that change scores one token at a time, on a copy of the row.
//
// Their order is that of headway.runner.sampling. Lists of tokens hold ids of the vocabulary only.

static bool has_steps(const hw_sampling& asked) {
  return asked.num_allowed >= 0 || asked.num_banned > 0 || asked.num_bias > 0 ||
         asked.repetition_penalty != 1.0f || asked.frequency_penalty != 0.0f ||
         asked.presence_penalty != 0.0f;
}

static void allow(const float* scores, int64_t vocabulary, const hw_sampling& asked, float* out) {
  if (asked.num_allowed < 0) {
    memcpy(out, scores, static_cast<size_t>(vocabulary) * sizeof(float));
    return;
  }
  std::fill(out, out + vocabulary, -INFINITY);
  for (int64_t n = 0; n < asked.num_allowed; ++n) {
    out[asked.allowed[n]] = scores[asked.allowed[n]];
  }
}

// Calls change(token, occurrences) once for each distinct token; `counts` [vocabulary] need not be
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

// Scores [vocabulary] after all of them, to `out`.
static void take_steps(const float* scores, int64_t vocabulary, const hw_sampling& asked,
                       float* out, int32_t* counts) {
  allow(scores, vocabulary, asked, out);
  for (int64_t n = 0; n < asked.num_banned; ++n) out[asked.banned[n]] = -INFINITY;
  for (int64_t n = 0; n < asked.num_bias; ++n) out[asked.bias_tokens[n]] += asked.bias_values[n];
  if (asked.repetition_penalty != 1.0f) {
    const float factor = asked.repetition_penalty;
    for_each_distinct(asked.tokens, asked.num_tokens, counts, [&](int64_t token, int32_t) {
      out[token] = out[token] > 0.0f ? out[token] / factor : out[token] * factor;
    });
  }
  if (asked.frequency_penalty != 0.0f || asked.presence_penalty != 0.0f) {
    const double frequency = asked.frequency_penalty, presence = asked.presence_penalty;
    for_each_distinct(asked.tokens + asked.prompt_len, asked.num_tokens - asked.prompt_len, counts,
                      [&](int64_t token, int32_t times) {
                        out[token] += static_cast<float>(-frequency * times - presence);
                      });
  }
}
