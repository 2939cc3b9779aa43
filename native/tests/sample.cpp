// Sampling a token under the sanitizers: nothing beyond the row, the lists and the promised scratch
// is touched, whatever the scratch held before does not count, and simple answers are right.
// Which token is drawn is compared with the reference sampler by the Python tests.
#include <math.h>
#include <string.h>

#include "samples.h"

using check::Block;
using headway::Kernels;

namespace {

hw_sampling greedy() {
  hw_sampling sampling = {};
  sampling.target = -1;
  sampling.num_allowed = -1;
  sampling.top_p = 1.0f;
  sampling.repetition_penalty = 1.0f;
  sampling.logprobs = -1;
  return sampling;
}

// Every filter alone and together, over a sequence of tokens with penalties.
std::vector<hw_sampling> samplings(const Block<int64_t>& tokens) {
  std::vector<hw_sampling> all;
  for (int n = 0; n < 32; ++n) {
    hw_sampling sampling = greedy();
    sampling.seed = -n;
    sampling.position = 7 * n;
    sampling.temperature = (n & 1) != 0 ? 1.0f : 30.0f;
    if ((n & 2) != 0) sampling.top_k = 9;
    if ((n & 4) != 0) sampling.top_p = 0.75f;
    if ((n & 8) != 0) sampling.min_p = 0.01f;
    if ((n & 16) != 0) {
      sampling.tokens = tokens.data;
      sampling.num_tokens = static_cast<int64_t>(tokens.size);
      sampling.prompt_len = 1;
      sampling.repetition_penalty = 1.25f;
      sampling.frequency_penalty = 0.5f;
      sampling.presence_penalty = -0.25f;
    }
    all.push_back(sampling);
  }
  return all;
}

hw_sampled_token sample(const Kernels& kernels, const Block<float>& logits,
                        const hw_sampling& sampling, int fill) {
  const int64_t vocab_size = static_cast<int64_t>(logits.size);
  Block<uint8_t> scratch(static_cast<size_t>(kernels.sample_scratch_bytes(vocab_size)));
  memset(scratch.data, fill, scratch.size);
  hw_sampled_token sampled = {};
  kernels.sample(logits.data, vocab_size, sampling, &sampled, scratch.data);
  return sampled;
}

}  // namespace

TEST(nothing_beyond_row_and_scratch_and_no_old_scratch) {
  for (const Kernels* kernels : samples::kernels()) {
    for (size_t vocab_size : {1, 2, 15, 16, 17, 255, 256, 257, 1000, 4099}) {
      check::Random random = {vocab_size};
      Block<float> logits(vocab_size);
      for (size_t n = 0; n < vocab_size; ++n) logits[n] = roundf(random.between(-20.0f, 20.0f));
      Block<int64_t> tokens(20);
      for (size_t n = 0; n < 20; ++n) {
        tokens[n] = random.below(static_cast<int32_t>(vocab_size));
      }
      for (const hw_sampling& sampling : samplings(tokens)) {
        const hw_sampled_token zeros = sample(*kernels, logits, sampling, 0);
        const hw_sampled_token ones = sample(*kernels, logits, sampling, 0xff);
        CHECK_EQUAL(zeros.status, HW_OK);
        CHECK(zeros.token >= 0 && zeros.token < static_cast<int64_t>(vocab_size));
        CHECK_EQUAL(zeros.token, ones.token);
      }
    }
  }
}

TEST(lists_are_read_to_their_end_and_tops_written_to_theirs) {
  for (const Kernels* kernels : samples::kernels()) {
    Block<float> logits(100);
    for (int n = 0; n < 100; ++n) logits[n] = static_cast<float>(n % 50);
    Block<int64_t> allowed(3), banned(1), biased(1), top_tokens(4);
    Block<float> bias(1), top_logprobs(4);
    allowed[0] = 99, allowed[1] = 5, allowed[2] = 4;
    banned[0] = 99;
    biased[0] = 4;
    bias[0] = 2.0f;
    hw_sampling sampling = greedy();
    sampling.allowed = allowed.data;
    sampling.num_allowed = 3;
    sampling.banned = banned.data;
    sampling.num_banned = 1;
    sampling.bias_tokens = biased.data;
    sampling.bias_values = bias.data;
    sampling.num_bias = 1;
    sampling.logprobs = 4;
    hw_sampled_token sampled = {};
    sampled.top_tokens = top_tokens.data;
    sampled.top_logprobs = top_logprobs.data;
    Block<uint8_t> scratch(static_cast<size_t>(kernels->sample_scratch_bytes(100)));
    kernels->sample(logits.data, 100, sampling, &sampled, scratch.data);
    CHECK_EQUAL(sampled.token, 4);
    CHECK_EQUAL(sampled.rank, 91);
    const int64_t expected[4] = {49, 99, 48, 98};
    for (int n = 0; n < 4; ++n) CHECK_EQUAL(top_tokens[n], expected[n]);
    CHECK_EQUAL(top_logprobs[0], top_logprobs[1]);
    CHECK(top_logprobs[2] < top_logprobs[1]);
  }
}

TEST(all_tops_are_in_the_order_of_some) {
  for (const Kernels* kernels : samples::kernels()) {
    for (size_t vocab_size : {1, 31, 100, 4099}) {
      Block<float> logits(vocab_size);
      for (size_t n = 0; n < vocab_size; ++n) logits[n] = static_cast<float>(n * 37 % 50);
      Block<int64_t> top_tokens(vocab_size);
      Block<float> top_logprobs(vocab_size);
      hw_sampling sampling = greedy();
      sampling.logprobs = static_cast<int32_t>(vocab_size);
      hw_sampled_token sampled = {};
      sampled.top_tokens = top_tokens.data;
      sampled.top_logprobs = top_logprobs.data;
      const int64_t size = static_cast<int64_t>(vocab_size);
      Block<uint8_t> scratch(static_cast<size_t>(kernels->sample_scratch_bytes(size)));
      kernels->sample(logits.data, size, sampling, &sampled, scratch.data);
      CHECK_EQUAL(top_tokens[0], sampled.token);
      for (size_t n = 1; n < vocab_size; ++n) {
        const float before = logits[static_cast<size_t>(top_tokens[n - 1])];
        const float here = logits[static_cast<size_t>(top_tokens[n])];
        CHECK(before > here || (before == here && top_tokens[n - 1] < top_tokens[n]));
        CHECK(top_logprobs[n] <= top_logprobs[n - 1]);
      }
    }
  }
}

TEST(a_mask_is_read_to_its_end_and_leaves_what_it_has) {
  for (const Kernels* kernels : samples::kernels()) {
    for (size_t vocab_size : {1, 31, 32, 33, 100, 4099}) {
      Block<float> logits(vocab_size);
      for (size_t n = 0; n < vocab_size; ++n) logits[n] = -static_cast<float>(n);
      Block<uint32_t> mask((vocab_size + 31) / 32);
      for (size_t n = 0; n < mask.size; ++n) mask[n] = 0;
      const size_t last = vocab_size - 1;
      mask[last / 32] = 1u << last % 32;
      hw_sampling sampling = greedy();
      sampling.mask = mask.data;
      CHECK_EQUAL(sample(*kernels, logits, sampling, 0xff).token, static_cast<int64_t>(last));
      mask[last / 32] = 0;
      CHECK_EQUAL(sample(*kernels, logits, sampling, 0xff).status, HW_NOTHING_LEFT);
    }
  }
}
