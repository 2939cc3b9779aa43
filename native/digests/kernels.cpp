// What the kernels of each instruction set make of made-up inputs, printed as digests:
//
//     digest <instruction set> <kernel and form> <64 bits in hexadecimal>
//
// Instruction sets that round alike print the same, on whatever machine, so that a foreign one in
// an emulator can be compared with this one (tests/native/test_arm.py does). What rounds otherwise
// must at least be near to what plain C++ gives; that is checked here, and that rows do not depend
// on those beside them.
#include <math.h>
#include <string.h>

#include <algorithm>
#include <functional>
#include <iomanip>
#include <map>

#include "../tests/attention_world.h"
#include "../tests/samples.h"

using check::Block;
using check::Random;
using headway::Kernels;
using samples::Matrix;

namespace {

using Values = std::vector<float>;

const char* const kFormats[] = {"float32", "bfloat16", "int8", "int4"};
constexpr int64_t kRows = 11;
constexpr int32_t kOutputs = 70, kInputs = 200;
constexpr int64_t kStride = 256;  // of float rows

Values some_rows(float most) {
  Values rows(kRows * kStride, 0.0f);
  Random random{2};
  for (int64_t n = 0; n < kRows * kStride; ++n) {
    const float value = random.between(-most, most);
    if (n % kStride < kInputs) rows[static_cast<size_t>(n)] = value;
  }
  return rows;
}

// Rows as records of a format, whose padding is known.
struct Records {
  Records(const Kernels& kernels, int32_t format)
      : row_bytes(headway::row_bytes(format, kInputs)),
        bytes(static_cast<size_t>(kRows * row_bytes)) {
    memset(bytes.data, 0, bytes.size);
    const Values rows = some_rows(2.0f);
    kernels.convert({rows.data(), kStride, bytes.data, row_bytes, format, kInputs}, 0, kRows);
  }
  Values values() const {
    Values values(bytes.size);
    std::copy_n(bytes.data, bytes.size, values.begin());
    return values;
  }
  int64_t row_bytes;
  Block<uint8_t> bytes;
};

// All rows at once, or one by one.
Values multiplied(const Kernels& kernels, int32_t format, int32_t epilogue, bool at_once) {
  const Matrix matrix(format, kOutputs, kInputs, 1);
  const Records records(kernels, format);
  Values out(kRows * kStride, 0.5f);
  headway::LinearTask task{};
  task.panels = matrix.bytes.data;
  task.panel_bytes = headway::panel_bytes(format, kInputs);
  task.bias = matrix.bias.data;
  task.rows = records.bytes.data;
  task.row_bytes = records.row_bytes;
  task.out = out.data();
  task.out_stride = kStride;
  task.format = format;
  task.padded_k = static_cast<int32_t>(headway::round_up(kInputs, headway::kPad));
  task.n = kOutputs;
  task.epilogue = epilogue;
  task.activation = format % 2 == 0 ? HW_SILU : HW_GELU_TANH;
  for (int64_t panel = 0; panel < headway::round_up(kOutputs, 32) / 32; ++panel) {
    if (at_once) kernels.linear(task, panel, 0, kRows);
    for (int64_t row = 0; !at_once && row < kRows; ++row) kernels.linear(task, panel, row, row + 1);
  }
  return out;
}

Values product(const Kernels& kernels, int32_t format, int32_t epilogue) {
  const Values alone = multiplied(kernels, format, epilogue, false);
  const Values together = multiplied(kernels, format, epilogue, true);
  CHECK_EQUAL(memcmp(alone.data(), together.data(), alone.size() * 4), 0);
  return together;
}

Values normed(const Kernels& kernels) {
  const Values rows = some_rows(3.0f);
  Values floats(kRows * kStride, 0.0f), weight(kStride, 0.0f);
  for (int32_t n = 0; n < kInputs; ++n) weight[static_cast<size_t>(n)] = 0.01f * n;
  headway::NormTask task{};
  task.in = rows.data();
  task.in_stride = kStride;
  task.weight = weight.data();
  task.width = kInputs;
  task.eps = 1e-5f;
  task.out32 = floats.data();
  task.out32_stride = kStride;
  kernels.norm(task, 0, kRows);
  return floats;
}

Values embedded(const Kernels& kernels, int32_t format) {
  const Matrix matrix(format, kOutputs, kInputs, 3);
  const int64_t tokens[4] = {0, 17, 33, 69};
  Values out(4 * kStride, 0.0f);
  kernels.embed({matrix.bytes.data, headway::panel_bytes(format, kInputs), format, kInputs, tokens,
                 0.7f, out.data(), kStride},
                0, 4);
  return out;
}

// The answers of sequences that share steps; they must be those of each alone.
Values attended(const Kernels& kernels, int kind) {
  Values all;
  const world::Config configs[] = {{kind, 6, 2, 24, 32, 40, true}, {kind, 4, 1, 64, 16, 0}};
  for (const world::Config& config : configs) {
    const world::World made(config, {61, 5, 140});
    world::Engine alone(made, kernels, 1), together(made, kernels, 2);
    for (int s = 0; s < 3; ++s) alone.step({{s, 0, made.lengths[s]}});
    together.step({{0, 0, 60}, {1, 0, 4}, {2, 0, 100}});
    together.step({{2, 100, 37}, {0, 60, 1}, {1, 4, 1}});
    for (int64_t n = 137; n < 140; ++n) together.step({{2, n, 1}});
    for (size_t s = 0; s < 3; ++s) {
      const world::Rows &a = alone.answers[s], &b = together.answers[s];
      CHECK_EQUAL(memcmp(a.data(), b.data(), a.size() * 4), 0);
      all.insert(all.end(), a.begin(), a.end());
    }
  }
  return all;
}

Values sampled(const Kernels& kernels) {
  constexpr int64_t kVocabSize = 1000;
  Block<float> logits(kVocabSize);
  Random random{9};
  for (size_t n = 0; n < logits.size; ++n) logits[n] = random.between(-6, 6);
  Block<uint8_t> scratch(static_cast<size_t>(kernels.sample_scratch_bytes(kVocabSize)));
  Values tokens;
  for (int n = 0; n < 24; ++n) {
    hw_sampling sampling = {};
    sampling.target = -1;
    sampling.num_allowed = -1;
    sampling.seed = n;
    sampling.position = 3 * n;
    sampling.temperature = 0.8f;
    sampling.top_p = n % 3 == 1 ? 0.9f : 1.0f;
    sampling.top_k = n % 3 == 2 ? 40 : 0;
    sampling.repetition_penalty = 1.0f;
    sampling.logprobs = -1;
    hw_sampled_token token = {};
    kernels.sample(logits.data, kVocabSize, sampling, &token, scratch.data);
    CHECK_EQUAL(token.status, HW_OK);
    tokens.push_back(static_cast<float>(token.token));
  }
  return tokens;
}

using Form = std::function<Values(const Kernels&)>;

std::map<std::string, Form> forms() {
  std::map<std::string, Form> all;
  for (int32_t format : {HW_FLOAT32, HW_BFLOAT16, HW_INT8, HW_INT4}) {
    const std::string name = kFormats[format];
    all["convert-" + name] = [=](const Kernels& k) { return Records(k, format).values(); };
    all["embed-" + name] = [=](const Kernels& k) { return embedded(k, format); };
    all["linear-" + name] = [=](const Kernels& k) { return product(k, format, HW_STORE); };
    all["linear-add-" + name] = [=](const Kernels& k) { return product(k, format, HW_ADD); };
    all["linear-gate-" + name] = [=](const Kernels& k) { return product(k, format, HW_GATE); };
  }
  for (int kind : {HW_CACHE_FLOAT32, HW_CACHE_BFLOAT16, HW_CACHE_INT8}) {
    all[std::string("attention-") + kFormats[kind]] = [=](const Kernels& k) {
      return attended(k, kind);
    };
  }
  all["norm"] = normed;
  all["sample"] = sampled;
  return all;
}

uint64_t digest(const Values& values) {
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  for (float value : values) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    for (int n = 0; n < 32; n += 8) hash = (hash ^ (bits >> n & 255)) * 0x100000001b3u;
  }
  return hash;
}

// The largest difference, in parts of the largest value.
double distance(const Values& a, const Values& b) {
  double most = 0, size = 0;
  for (size_t n = 0; n < a.size(); ++n) {
    if (!isfinite(a[n])) return INFINITY;
    most = std::max(most, fabs(double{a[n]} - b[n]));
    size = std::max(size, fabs(double{b[n]}));
  }
  return most / size;
}

}  // namespace

TEST(instruction_sets_agree) {
  for (const auto& [name, form] : forms()) {
    const Values plain = form(*headway::find_kernels("portable"));
    for (const Kernels* kernels : samples::kernels()) {
      const Values values = form(*kernels);
      CHECK_EQUAL(values.size(), plain.size());
      // bfloat16 has eight bits, and what is rounded to it may fall to either side. With AVX-512
      // queries over an int8 cache have seven and a sign, and elsewhere twice as many.
      const double most = name == "attention-int8" ? 2.0 / 100 : 1.0 / 100;
      const double off = distance(values, plain);
      CHECK(off < most);
      if (!(off < most)) std::cout << "  " << kernels->name << " " << name << " " << off << "\n";
      std::cout << "digest " << kernels->name << " " << name << " " << std::hex
                << std::setfill('0') << std::setw(16) << digest(values) << std::dec << "\n";
    }
  }
}

TEST(instruction_sets_are_those_of_the_processor) {
  std::cout << "sets";
  for (const std::string& isa : samples::instruction_sets()) std::cout << " " << isa;
  std::cout << "\n";
}
