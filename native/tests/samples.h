// For the C++ tests: the instruction sets to test, and made-up matrices in every weight format, of
// any bytes with sensible scales.
#ifndef HEADWAY_TESTS_SAMPLES_H
#define HEADWAY_TESTS_SAMPLES_H

#include <string.h>

#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "../headway.h"
#include "../kernels/tasks.h"
#include "testing.h"

namespace samples {

using check::Block;
using check::Random;

// Names of all instruction sets that were built and that this processor runs.
inline std::vector<std::string> instruction_sets() {
  std::istringstream names(hw_compiled());
  std::vector<std::string> runnable;
  for (std::string name; names >> name;) {
    if (hw_supported(name.c_str())) runnable.push_back(name);
  }
  return runnable;
}

// Their kernels.
inline std::vector<const headway::Kernels*> kernels() {
  std::vector<const headway::Kernels*> found;
  for (const std::string& isa : instruction_sets()) {
    found.push_back(headway::find_kernels(isa.c_str()));
  }
  return found;
}

inline uint16_t to_bfloat16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  return static_cast<uint16_t>(bits >> 16);
}

inline void fill_floats(Block<float>& block, Random& random, float most) {
  for (size_t n = 0; n < block.size; ++n) block[n] = random.between(-most, most);
}

// Scales of a group's 32 outputs: bfloat16 near `size`, or float16, where only the exponent counts.
inline void fill_scales(uint8_t* at, Random& random, float size) {
  for (int n = 0; n < 32; ++n) {
    const uint16_t scale = to_bfloat16(random.between(size / 2, size));
    memcpy(at + 2 * n, &scale, 2);
  }
}
inline void fill_halves(uint8_t* at, Random& random, uint16_t sign) {
  for (int n = 0; n < 32; ++n) {
    // Between 2^-8 and 2^-7.
    const uint16_t half = static_cast<uint16_t>(sign | 7 << 10 | random.below(1024));
    memcpy(at + 2 * n, &half, 2);
  }
}

// A packed matrix with weights of about `size`, whose memory ends where the last panel does.
struct Matrix {
  Matrix(int32_t format, int32_t outputs, int32_t inputs, uint64_t seed, float size = 0.1f)
      : bytes(static_cast<size_t>(headway::round_up(outputs, 32) / 32 *
                                  headway::panel_bytes(format, inputs))),
        bias(static_cast<size_t>(headway::round_up(outputs, 32))) {
    Random random{seed};
    described = {bytes.data, bias.data, format, outputs, inputs};
    fill_floats(bias, random, size);
    for (size_t at = 0; at < bytes.size; at += fill(bytes.data + at, format, random, size)) {
    }
  }

  // One piece of a panel; returns its bytes.
  static size_t fill(uint8_t* at, int32_t format, Random& random, float size) {
    if (format == HW_FLOAT32) {
      const float value = random.between(-size, size);
      memcpy(at, &value, 4);
      return 4;
    }
    if (format == HW_BFLOAT16) {
      const uint16_t value = to_bfloat16(random.between(-size, size));
      memcpy(at, &value, 2);
      return 2;
    }
    const size_t weights = format == HW_INT8 ? 2048 : 512;
    for (size_t n = 0; n < weights; ++n) at[n] = static_cast<uint8_t>(random.next());
    if (format == HW_INT8) {
      fill_scales(at + weights, random, size / 127);
      return weights + 64;
    }
    fill_halves(at + weights, random, 0);
    fill_halves(at + weights + 64, random, 0x8000);
    return weights + 128;
  }

  Block<uint8_t> bytes;
  Block<float> bias;
  hw_matrix described;
};

}  // namespace samples

#endif
