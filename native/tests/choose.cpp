// Choosing a token under the sanitizers: nothing beyond the row, the lists and the promised scratch
// is touched, whatever the scratch held before does not count, and simple answers are right.
// Which token is drawn is compared with the reference sampler by the Python tests.
#include <math.h>
#include <string.h>

#include "headway.h"
#include "kernels/table.h"
#include "testing.h"

using check::Block;
using headway::Kernels;

namespace {

std::vector<const Kernels*> supported() {
  std::vector<const Kernels*> found;
  for (const char* isa : {"avx512_bf16", "avx512", "avx2", "portable"}) {
    if (const Kernels* kernels = headway::find_kernels(isa)) found.push_back(kernels);
  }
  return found;
}

hw_sampling greedy() {
  hw_sampling asked = {};
  asked.target = -1;
  asked.num_allowed = -1;
  asked.top_p = 1.0f;
  asked.repetition_penalty = 1.0f;
  asked.logprobs = -1;
  return asked;
}

// Every filter alone and together, over a sequence of tokens with penalties.
std::vector<hw_sampling> samplings(const Block<int64_t>& tokens) {
  std::vector<hw_sampling> all;
  for (int n = 0; n < 32; ++n) {
    hw_sampling asked = greedy();
    asked.seed = -n;
    asked.position = 7 * n;
    asked.temperature = (n & 1) != 0 ? 1.0f : 30.0f;
    if ((n & 2) != 0) asked.top_k = 9;
    if ((n & 4) != 0) asked.top_p = 0.75f;
    if ((n & 8) != 0) asked.min_p = 0.01f;
    if ((n & 16) != 0) {
      asked.tokens = tokens.data;
      asked.num_tokens = static_cast<int64_t>(tokens.size);
      asked.prompt_len = 1;
      asked.repetition_penalty = 1.25f;
      asked.frequency_penalty = 0.5f;
      asked.presence_penalty = -0.25f;
    }
    all.push_back(asked);
  }
  return all;
}

hw_choice choose(const Kernels& kernels, const Block<float>& scores, const hw_sampling& asked,
                 int fill) {
  const int64_t vocabulary = static_cast<int64_t>(scores.size);
  Block<uint8_t> scratch(static_cast<size_t>(kernels.choose_scratch_bytes(vocabulary)));
  memset(scratch.data, fill, scratch.size);
  hw_choice choice = {};
  kernels.choose(scores.data, vocabulary, asked, &choice, scratch.data);
  return choice;
}

}  // namespace

TEST(nothing_beyond_row_and_scratch_and_no_old_scratch) {
  for (const Kernels* kernels : supported()) {
    for (size_t vocabulary : {1, 2, 15, 16, 17, 255, 256, 257, 1000, 4099}) {
      check::Random random = {vocabulary};
      Block<float> scores(vocabulary);
      for (size_t n = 0; n < vocabulary; ++n) scores[n] = roundf(random.between(-20.0f, 20.0f));
      Block<int64_t> tokens(20);
      for (size_t n = 0; n < 20; ++n) {
        tokens[n] = random.below(static_cast<int32_t>(vocabulary));
      }
      for (const hw_sampling& asked : samplings(tokens)) {
        const hw_choice zeros = choose(*kernels, scores, asked, 0);
        const hw_choice ones = choose(*kernels, scores, asked, 0xff);
        CHECK_EQUAL(zeros.status, HW_OK);
        CHECK(zeros.token >= 0 && zeros.token < static_cast<int64_t>(vocabulary));
        CHECK_EQUAL(zeros.token, ones.token);
      }
    }
  }
}

TEST(lists_are_read_to_their_end_and_tops_written_to_theirs) {
  for (const Kernels* kernels : supported()) {
    Block<float> scores(100);
    for (int n = 0; n < 100; ++n) scores[n] = static_cast<float>(n % 50);
    Block<int64_t> allowed(3), banned(1), biased(1), top_tokens(4);
    Block<float> bias(1), top_logprobs(4);
    allowed[0] = 99, allowed[1] = 5, allowed[2] = 4;
    banned[0] = 99;
    biased[0] = 4;
    bias[0] = 2.0f;
    hw_sampling asked = greedy();
    asked.allowed = allowed.data;
    asked.num_allowed = 3;
    asked.banned = banned.data;
    asked.num_banned = 1;
    asked.bias_tokens = biased.data;
    asked.bias_values = bias.data;
    asked.num_bias = 1;
    asked.logprobs = 4;
    hw_choice choice = {};
    choice.top_tokens = top_tokens.data;
    choice.top_logprobs = top_logprobs.data;
    Block<uint8_t> scratch(static_cast<size_t>(kernels->choose_scratch_bytes(100)));
    kernels->choose(scores.data, 100, asked, &choice, scratch.data);
    CHECK_EQUAL(choice.token, 4);
    CHECK_EQUAL(choice.rank, 91);
    const int64_t expected[4] = {49, 99, 48, 98};
    for (int n = 0; n < 4; ++n) CHECK_EQUAL(top_tokens[n], expected[n]);
    CHECK_EQUAL(top_logprobs[0], top_logprobs[1]);
    CHECK(top_logprobs[2] < top_logprobs[1]);
  }
}
