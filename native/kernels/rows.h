// Work on single rows: norms, conversion to a matrix's format, embedding, routing to experts.
//
// Padded columns of float rows hold zeros, so whole vectors are read and written throughout. Sums
// run over vectors in order, then over lanes in f_sum's order: the same for every row and batch.
#ifndef HEADWAY_ROWS_H
#define HEADWAY_ROWS_H

#include "../vec/math.h"
#include "tasks.h"

namespace headway::HW_ISA_NAME {

// One group of G values at `x` as int8 and its scale; returns the sum of the bytes.
template <int G>
HW_INLINE int32_t quantise_group(const F* x, uint8_t* bytes, float* scale) {
  F top = f_zero();
#pragma GCC unroll 4
  for (int n = 0; n < G / 16; ++n) top = f_max(top, f_abs(x[n]));
  const float highest = f_highest(top);
  *scale = highest / 127.0f;
  // Below this the reciprocal is infinite; such a group is as good as zero.
  const F factor = f_set(highest > 1e-30f ? 127.0f / highest : 0.0f);
  I sum = i_set(0);
#pragma GCC unroll 4
  for (int n = 0; n < G / 16; ++n) {
    const I q = i_round(x[n] * factor);
    i_store_bytes(bytes + 16 * n, q);
    sum = sum + q;
  }
  return i_sum(sum);
}

// Sixteen by sixteen columns of a row, through `column(vector index)`, into a record.
template <class Column>
HW_INLINE void write_record(int32_t format, int64_t padded_k, uint8_t* out, const Column& column) {
  const int64_t vectors = padded_k / 16;
  if (format == HW_FLOAT32) {
    float* floats = reinterpret_cast<float*>(out);
    for (int64_t n = 0; n < vectors; ++n) f_store(floats + 16 * n, column(n));
  } else if (format == HW_BFLOAT16) {
    for (int64_t n = 0; n < vectors; ++n) {
      f_store_bf16(reinterpret_cast<uint16_t*>(out) + 16 * n, column(n));
    }
  } else if (format == HW_INT8) {
    float* scales = reinterpret_cast<float*>(out + padded_k);
    const int64_t groups = padded_k / 64;
    for (int64_t g = 0; g < groups; ++g) {
      const F x[4] = {column(4 * g), column(4 * g + 1), column(4 * g + 2), column(4 * g + 3)};
      const int32_t sum = quantise_group<64>(x, out + 64 * g, scales + g);
      const int32_t correction = -128 * sum;
      __builtin_memcpy(scales + groups + g, &correction, 4);
    }
  } else {
    float* scales = reinterpret_cast<float*>(out + padded_k);
    const int64_t groups = padded_k / 32;
    for (int64_t g = 0; g < groups; ++g) {
      const F x[2] = {column(2 * g), column(2 * g + 1)};
      const int32_t sum = quantise_group<32>(x, out + 32 * g, scales + g);
      scales[groups + g] = scales[g] * static_cast<float>(sum);
    }
  }
}

void convert(const ConvertTask& t, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const float* x = t.in + row * t.in_stride;
    write_record(t.format, round_up(t.width, kPad), t.out + row * t.out_bytes,
                 [x](int64_t n) HW_INLINE_LAMBDA { return f_load(x + 16 * n); });
  }
}

HW_INLINE float sum_of_squares(const float* x, int64_t vectors) {
  F sum[4] = {f_zero(), f_zero(), f_zero(), f_zero()};
  for (int64_t n = 0; n < vectors; n += 4) {
#pragma GCC unroll 4
    for (int64_t m = 0; m < 4; ++m) {
      const F v = f_load(x + 16 * (n + m));
      sum[m] = f_fma(v, v, sum[m]);
    }
  }
  return f_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

void norm(const NormTask& t, int64_t begin, int64_t end) {
  const int64_t padded_k = round_up(t.width, kPad);
  for (int64_t row = begin; row < end; ++row) {
    const float* x = t.in + row * t.in_stride;
    const float squares = sum_of_squares(x, padded_k / 16);
    if (t.finite) t.finite[row] = squares < INFINITY;
    const float mean = squares / static_cast<float>(t.width);
    const F factor = f_set(1.0f / sqrtf(mean + t.eps));
    const auto column = [&](int64_t n) HW_INLINE_LAMBDA {
      return f_load(x + 16 * n) * factor * f_load(t.weight + 16 * n);
    };
    if (t.out32) {
      float* out32 = t.out32 + row * t.out32_stride;
      for (int64_t n = 0; n < padded_k / 16; ++n) {
        const F y = column(n);
        f_store(out32 + 16 * n, t.add ? f_load(out32 + 16 * n) + y : y);
      }
    }
    if (t.out) write_record(t.format, padded_k, t.out + row * t.out_bytes, column);
  }
}

// Row `token` of a packed matrix, float32; columns past the matrix's own are zero weights.
HW_INLINE void unpack_row(const EmbedTask& t, int64_t token, float* out) {
  const uint8_t* panel = t.panels + token / kPanel * t.panel_bytes;
  const int64_t lane = token % kPanel, padded_k = round_up(t.width, kPad);
  for (int64_t k = 0; k < padded_k; ++k) {
    float w;
    if (t.format == HW_FLOAT32) {
      w = reinterpret_cast<const float*>(panel)[k * kPanel + lane];
    } else if (t.format == HW_BFLOAT16) {
      w = bf16_value(reinterpret_cast<const uint16_t*>(panel)[(k / 2 * kPanel + lane) * 2 + k % 2]);
    } else if (t.format == HW_INT8) {
      const uint8_t* group = panel + k / 64 * 2112;
      const uint16_t scale = reinterpret_cast<const uint16_t*>(group + 2048)[lane];
      const int q = group[(k % 64 / 4 * kPanel + lane) * 4 + k % 4] - 128;
      w = bf16_value(scale) * static_cast<float>(q);
    } else {
      const uint8_t* group = panel + k / 32 * 640;
      const uint16_t* scales = reinterpret_cast<const uint16_t*>(group + 512);
      const uint8_t both = group[64 * (k % 32 / 4) + lane % 16 * 4 + k % 4];
      const int q = lane < 16 ? both & 15 : both >> 4;
      w = f16_value(scales[lane]) * static_cast<float>(q) + f16_value(scales[kPanel + lane]);
    }
    out[k] = w * t.scale;
  }
}

void embed(const EmbedTask& t, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    unpack_row(t, t.tokens[row], t.out + row * t.out_stride);
  }
}

// The top_k experts of each row, the lowest number first among equals, and their softmax weights.
void route(const RouteTask& t, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const float* logits = t.logits + row * t.stride;
    int32_t* topk_ids = t.topk_ids + row * t.top_k;
    float* topk_weights = t.topk_weights + row * t.top_k;
    float top = -INFINITY, all = 0.0f, some = 0.0f;
    for (int32_t e = 0; e < t.num_experts; ++e) top = logits[e] > top ? logits[e] : top;
    for (int32_t e = 0; e < t.num_experts; ++e) all += expf(logits[e] - top);
    for (int32_t n = 0; n < t.top_k; ++n) {
      int32_t best = -1;
      for (int32_t e = 0; e < t.num_experts; ++e) {
        bool taken = false;
        for (int32_t m = 0; m < n; ++m) taken |= topk_ids[m] == e;
        if (!taken && (best < 0 || logits[e] > logits[best])) best = e;
      }
      topk_ids[n] = best;
      topk_weights[n] = expf(logits[best] - top) / all;
      some += topk_weights[n];
    }
    for (int32_t n = 0; t.normalise && n < t.top_k; ++n) topk_weights[n] /= some;
  }
}

// Each row's outputs of its experts, weighted and summed in the order of its own top_k.
void combine(const CombineTask& t, int64_t begin, int64_t end) {
  const int64_t vectors = round_up(t.width, kPad) / 16;
  for (int64_t row = begin; row < end; ++row) {
    float* out = t.out + row * t.out_stride;
    for (int64_t n = 0; n < vectors; ++n) {
      F sum = f_zero();
      for (int32_t c = 0; c < t.top_k; ++c) {
        const float* part = t.expert_out + t.sorted_rows[row * t.top_k + c] * t.stride;
        sum = f_fma(f_load(part + 16 * n), f_set(t.topk_weights[row * t.top_k + c]), sum);
      }
      f_store(out + 16 * n, t.add ? f_load(out + 16 * n) + sum : sum);
    }
  }
}

}  // namespace headway::HW_ISA_NAME

#endif
