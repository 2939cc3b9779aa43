// The product kernels by themselves, in memory that ends exactly where theirs does: no shape leads
// them outside, and a row gives the same bits whatever rows are beside it.
#include <math.h>
#include <string.h>

#include "kernels/tasks.h"
#include "samples.h"

using headway::ConvertTask;
using headway::Kernels;
using headway::LinearTask;
using samples::Block;
using samples::Matrix;
using samples::Random;

namespace {

constexpr int32_t kShapes[][2] = {{1, 1}, {5, 31}, {32, 64}, {33, 65}, {64, 96}, {97, 200}};
// Of tiles of every size, and about the fewest and the most rows that meet one widened group.
constexpr int64_t kCounts[] = {2, 3, 4, 5, 6, 7, 8, 13, 15, 16, 17, 47, 48, 49, 50};
constexpr int64_t kRows = 50;

int64_t stride_of(int64_t width) { return headway::round_up(width, headway::kPad); }

// One packed matrix and rows converted for it.
struct Product {
  Product(const Kernels& the_kernels, int32_t format, int32_t outputs, int32_t inputs)
      : kernels(the_kernels),
        matrix(format, outputs, inputs, 1),
        row_bytes(headway::row_bytes(format, inputs)),
        rows(static_cast<size_t>(kRows * row_bytes)) {
    const int64_t stride = stride_of(inputs);
    Block<float> floats(static_cast<size_t>(kRows * stride));
    Random random{2};
    for (int64_t n = 0; n < kRows * stride; ++n) {
      floats[n] = n % stride < inputs ? random.between(-2, 2) : 0.0f;
    }
    const ConvertTask task = {floats.data, stride, rows.data, row_bytes, format, inputs};
    kernels.convert(task, 0, kRows);
  }

  // Rows [begin, end) into an output of exactly so many rows.
  void run(int64_t begin, int64_t end, int32_t epilogue, Block<float>& out) const {
    const hw_matrix& m = matrix.described;
    LinearTask task{};
    task.panels = matrix.bytes.data;
    task.panel_bytes = headway::panel_bytes(m.format, m.k);
    task.bias = m.bias;
    task.rows = rows.data + begin * row_bytes;
    task.row_bytes = row_bytes;
    task.out = out.data;
    task.out_stride = static_cast<int64_t>(out.size) / (end - begin);
    task.format = m.format;
    task.padded_k = static_cast<int32_t>(stride_of(m.k));
    task.n = m.n;
    task.epilogue = epilogue;
    task.activation = HW_SILU;
    for (int64_t panel = 0; panel < headway::round_up(m.n, 32) / 32; ++panel) {
      kernels.linear(task, panel, 0, end - begin);
    }
  }

  const Kernels& kernels;
  Matrix matrix;
  int64_t row_bytes;
  Block<uint8_t> rows;
};

// Each row alone, and the last of them in runs of some lengths, for one epilogue.
void check_rows(const Product& product, int32_t epilogue) {
  const int64_t outputs = headway::round_up(product.matrix.described.n, 32);
  const int64_t stride = stride_of(epilogue == HW_GATE ? outputs / 2 : outputs);
  const int64_t width = epilogue == HW_GATE ? outputs / 2 : outputs;
  Block<float> alone(static_cast<size_t>(kRows * stride));
  for (int64_t row = 0; row < kRows; ++row) {
    Block<float> one(static_cast<size_t>(stride));
    memset(one.data, 0, static_cast<size_t>(stride) * 4);
    product.run(row, row + 1, epilogue, one);
    memcpy(alone.data + row * stride, one.data, static_cast<size_t>(stride) * 4);
    for (int64_t n = 0; n < width; ++n) CHECK(isfinite(one[static_cast<size_t>(n)]));
  }
  for (int64_t count : kCounts) {
    Block<float> some(static_cast<size_t>(count * stride));
    memset(some.data, 0, static_cast<size_t>(count * stride) * 4);
    product.run(kRows - count, kRows, epilogue, some);
    const size_t bytes = static_cast<size_t>(count * stride) * 4;
    CHECK_EQUAL(memcmp(some.data, alone.data + (kRows - count) * stride, bytes), 0);
  }
}

}  // namespace

TEST(products_stay_inside_and_do_not_depend_on_the_batch) {
  for (const std::string& isa : samples::instruction_sets()) {
    const Kernels* kernels = headway::find_kernels(isa.c_str());
    CHECK(kernels != nullptr);
    for (int32_t format : {HW_FLOAT32, HW_BFLOAT16, HW_INT8, HW_INT4}) {
      for (const int32_t(&shape)[2] : kShapes) {
        const Product product(*kernels, format, shape[0], shape[1]);
        for (int32_t epilogue : {HW_STORE, HW_ADD, HW_GATE}) check_rows(product, epilogue);
      }
    }
  }
}

TEST(the_highest_logit_is_found_and_the_first_of_equals) {
  for (const std::string& isa : samples::instruction_sets()) {
    const Kernels& kernels = *headway::find_kernels(isa.c_str());
    Product product(kernels, HW_FLOAT32, 40, 64);
    // Equal weights for all outputs, so that only the bias decides.
    memset(product.matrix.bytes.data, 0, product.matrix.bytes.size);
    for (size_t n = 0; n < product.matrix.bias.size; ++n) {
      product.matrix.bias[n] = n == 7 || n == 20 || n == 31 ? 1.0f : -1.0f;
    }
    // The paddings' logits must not win.
    for (size_t n = 40; n < product.matrix.bias.size; ++n) product.matrix.bias[n] = 9.0f;
    const int64_t index[2] = {3, 0};
    const uint8_t keep[2] = {1, 1};
    headway::PanelMax best[4];
    Block<float> logits(2 * 64);
    headway::LmHeadTask task{};
    task.linear.panels = product.matrix.bytes.data;
    task.linear.panel_bytes = headway::panel_bytes(HW_FLOAT32, 64);
    task.linear.bias = product.matrix.bias.data;
    task.linear.rows = product.rows.data;
    task.linear.row_bytes = product.row_bytes;
    task.linear.index = index;
    task.linear.out = logits.data;
    task.linear.out_stride = 64;
    task.linear.format = HW_FLOAT32;
    task.linear.padded_k = 64;
    task.linear.n = 40;
    task.keep = keep;
    task.best = best;
    task.num_panels = 2;
    for (int64_t panel = 0; panel < 2; ++panel) kernels.lm_head(task, panel, 0, 2);
    for (int row = 0; row < 2; ++row) {
      CHECK_EQUAL(best[2 * row].token, 7);
      CHECK_EQUAL(best[2 * row].logit, 1.0f);
      CHECK_EQUAL(best[2 * row + 1].token, 32);
      CHECK_EQUAL(best[2 * row + 1].logit, -1.0f);
    }
    product.matrix.bias[35] = NAN;
    for (int64_t panel = 0; panel < 2; ++panel) kernels.lm_head(task, panel, 0, 2);
    CHECK_EQUAL(best[0].token, 7);
    CHECK_EQUAL(best[1].token, -1);
  }
}
