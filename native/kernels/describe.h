// Log probabilities of a row: of the model's own scores, before any sampling step.

// The `number` highest scores, highest first and by id among equals, to `tokens` and `scores`.
// Returns how many there were.
static int64_t take_highest(const Row& row, int64_t number, float* spare, int64_t* tokens,
                            float* scores) {
  if (number <= 0) return 0;
  int64_t taken = 0;
  // The scores are finite, the bound perhaps not.
  F floor = f_set(std::max(reached_by(row, number, spare), -0x1.fffffep127f));
  for (int64_t at = 0; at < row.vocabulary; at += 16) {
    for (uint32_t bits = at_least(row_at(row, at), floor); bits != 0; bits &= bits - 1) {
      const int64_t token = at + __builtin_ctz(bits);
      const float score = row.scores[token];
      // What comes later must be higher to displace what is there.
      if (taken == number && !(score > scores[number - 1])) continue;
      int64_t place = taken < number ? taken++ : number - 1;
      for (; place > 0 && score > scores[place - 1]; --place) {
        scores[place] = scores[place - 1];
        tokens[place] = tokens[place - 1];
      }
      scores[place] = score;
      tokens[place] = token;
    }
    if (taken == number) floor = f_max(floor, f_set(scores[number - 1]));
  }
  return taken;
}

// Rank and log probability of choice->token, and the `number` likeliest tokens; where there are
// fewer tokens than that, the rest is filled with token -1.
static void describe(const Row& row, int64_t number, hw_choice* choice, float* spare) {
  const float score = row.scores[choice->token];
  const F top = f_set(row.top), own = f_set(score), one = f_set(1.0f);
  D sum = d_zero(), higher = d_zero();
  for (int64_t at = 0; at < row.vocabulary; at += 16) {
    const F x = row_at(row, at);
    sum = sum + f_exp(x - top);
    higher = higher + f_select(f_less(own, x), one, f_zero());
  }
  const float whole = static_cast<float>(log(d_sum(sum)));
  choice->logprob = (score - row.top) - whole;
  choice->rank = static_cast<int32_t>(d_sum(higher)) + 1;
  float* scores = choice->top_logprobs;
  const int64_t taken = take_highest(row, number, spare, choice->top_tokens, scores);
  for (int64_t n = 0; n < taken; ++n) scores[n] = (scores[n] - row.top) - whole;
  for (int64_t n = taken; n < number; ++n) {
    choice->top_tokens[n] = -1;
    scores[n] = -INFINITY;
  }
}
