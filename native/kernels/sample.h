// Samples one token from one row of logits. headway.runner.sampling is the definition, and this
// gives the same token (but where two times of the race are a rounding error apart), without
// sorting the row. It depends on nothing but the row and its hw_sampling: on no thread, no batch.
#ifndef HEADWAY_SAMPLE_H
#define HEADWAY_SAMPLE_H

#include "logprobs.h"
#include "race.h"
#include "steps.h"

namespace headway::HW_ISA_NAME {

// What one worker needs beside the row, in the memory that its caller holds for it.
struct SampleScratch {
  Digits* digits;
  float* work;     // [vocab_size]: logits after the steps, then candidates
  int32_t* ids;    // [vocab_size]: occurrences of tokens, then ids of candidates
  float* maxima;   // [num_maxima] of the raw row
  float* changed;  // [num_maxima] of the row after the steps
  float* spare;    // [num_maxima]
};

int64_t sample_scratch_bytes(int64_t vocab_size) {
  const int64_t floats = 2 * vocab_size + 3 * num_maxima(vocab_size);
  return static_cast<int64_t>(sizeof(Digits)) + floats * static_cast<int64_t>(sizeof(float));
}

static SampleScratch sample_scratch(void* memory, int64_t vocab_size) {
  const int64_t maxima_size = num_maxima(vocab_size);
  Digits* digits = static_cast<Digits*>(memory);
  float* work = reinterpret_cast<float*>(digits + 1);
  float* maxima = work + vocab_size;
  float* end = maxima + 3 * maxima_size;
  return {digits, work, reinterpret_cast<int32_t*>(end), maxima, maxima + maxima_size,
          end - maxima_size};
}

static int64_t draw(const LogitsRow& row, const hw_sampling& s, const SampleScratch& scratch) {
  const Tempered tempered = {f_set(row.top), f_set(std::max(s.temperature, 1e-5f))};
  const Stream stream = stream_of(s.seed, s.position);
  const bool some = s.top_k > 0 && s.top_k < row.vocab_size;
  const Filters filters = {some ? s.top_k : 0, s.top_p, s.min_p};
  if (!some && s.top_p >= 1.0f && s.min_p <= 0.0f) return race_all(row, tempered, stream);
  const Candidates kept = filter_tokens(row, tempered, filters, {scratch.work, scratch.ids, 0},
                                        scratch.spare, scratch.digits);
  Race best = race_start();
  race_some(&best, stream, kept.x, kept.ids, kept.number);
  return best.token;
}

// The sampled token of a finite row, or -1 where every token is ruled out.
static int64_t pick(const LogitsRow& raw, const hw_sampling& s, const SampleScratch& scratch) {
  if (s.greedy) return first_of_top(raw);
  LogitsRow row = raw;
  if (has_steps(s)) {
    take_steps(raw.logits, raw.vocab_size, s, scratch.work, scratch.ids);
    row = scan_logits(scratch.work, raw.vocab_size, scratch.changed);
  }
  if (row.top == -INFINITY) return -1;
  return s.temperature == 0.0f ? first_of_top(row) : draw(row, s, scratch);
}

// `memory` is sample_scratch_bytes(vocab_size), 8-byte aligned, with any content. Rank and log
// probabilities are written only where they are asked for, or where there is a target.
void sample(const float* logits, int64_t vocab_size, const hw_sampling& s,
            hw_sampled_token* sampled, void* memory) {
  const SampleScratch scratch = sample_scratch(memory, vocab_size);
  const LogitsRow raw = scan_logits(logits, vocab_size, scratch.maxima);
  sampled->token = -1;
  sampled->status = HW_NOT_FINITE;
  if (!raw.finite) return;
  sampled->token = s.target >= 0 ? s.target : pick(raw, s, scratch);
  sampled->status = sampled->token < 0 ? HW_NOTHING_LEFT : HW_OK;
  if (sampled->token >= 0 && (s.logprobs >= 0 || s.target >= 0)) {
    gather_logprobs(raw, std::max(s.logprobs, 0), sampled, scratch.spare);
  }
}

}  // namespace headway::HW_ISA_NAME

#endif
