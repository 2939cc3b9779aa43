// One row of raw scores to a token: the definition is headway.runner.sampling, and this gives the
// same token (but where two times of the race are a rounding error apart), with no torch and no
// sort. Nothing but the row and what is asked of it enters: no thread, no batch.
#include "scan.h"
#include "steps.h"
#include "select.h"
#include "race.h"
#include "describe.h"

// What one worker needs beside the row, in the memory that its caller holds for it.
struct ChooseScratch {
  Digits* digits;
  float* work;     // [vocabulary]: scores after the steps, then candidates
  int32_t* ids;    // [vocabulary]: occurrences of tokens, then ids of candidates
  float* maxima;   // [notes] of the raw row
  float* changed;  // [notes] of the row after the steps
  float* spare;    // [notes]
};

int64_t choose_scratch_bytes(int64_t vocabulary) {
  const int64_t floats = 2 * vocabulary + 3 * notes_of(vocabulary);
  return static_cast<int64_t>(sizeof(Digits)) + floats * static_cast<int64_t>(sizeof(float));
}

static ChooseScratch choose_scratch(void* memory, int64_t vocabulary) {
  const int64_t notes = notes_of(vocabulary);
  Digits* digits = static_cast<Digits*>(memory);
  float* work = reinterpret_cast<float*>(digits + 1);
  float* maxima = work + vocabulary;
  float* end = maxima + 3 * notes;
  return {digits, work, reinterpret_cast<int32_t*>(end), maxima, maxima + notes, end - notes};
}

static int64_t draw(const Row& row, const hw_sampling& asked, const ChooseScratch& scratch) {
  const Tempered tempered = {f_set(row.top), f_set(std::max(asked.temperature, 1e-5f))};
  const Stream stream = stream_of(asked.seed, asked.position);
  const bool some = asked.top_k > 0 && asked.top_k < row.vocabulary;
  const Filters filters = {some ? asked.top_k : 0, asked.top_p, asked.min_p};
  if (!some && asked.top_p >= 1.0f && asked.min_p <= 0.0f) return race_all(row, tempered, stream);
  const Candidates kept = survivors(row, tempered, filters, {scratch.work, scratch.ids, 0},
                                    scratch.spare, scratch.digits);
  Race best = race_start();
  race_some(&best, stream, kept.x, kept.ids, kept.number);
  return best.token;
}

// The chosen token of a finite row, or -1 where every token is ruled out.
static int64_t pick(const Row& raw, const hw_sampling& asked, const ChooseScratch& scratch) {
  if (asked.plain) return first_of_top(raw);
  Row row = raw;
  if (has_steps(asked)) {
    take_steps(raw.scores, raw.vocabulary, asked, scratch.work, scratch.ids);
    row = survey(scratch.work, raw.vocabulary, scratch.changed);
  }
  if (row.top == -INFINITY) return -1;
  return asked.temperature == 0.0f ? first_of_top(row) : draw(row, asked, scratch);
}

// `memory` is choose_scratch_bytes(vocabulary), 8-byte aligned, with any content. Rank and log
// probabilities are written only where they are asked for, or a target is to be described.
void choose(const float* scores, int64_t vocabulary, const hw_sampling& asked, hw_choice* choice,
            void* memory) {
  const ChooseScratch scratch = choose_scratch(memory, vocabulary);
  const Row raw = survey(scores, vocabulary, scratch.maxima);
  choice->token = -1;
  choice->status = HW_NOT_FINITE;
  if (!raw.finite) return;
  choice->token = asked.target >= 0 ? asked.target : pick(raw, asked, scratch);
  choice->status = choice->token < 0 ? HW_NOTHING_LEFT : HW_OK;
  if (choice->token >= 0 && (asked.logprobs >= 0 || asked.target >= 0)) {
    describe(raw, std::max(asked.logprobs, 0), choice, scratch.spare);
  }
}
