// The product kernels by themselves, in memory that ends exactly where theirs does: no shape leads
// them outside, and a row gives the same bits whatever rows are beside it.
#include <math.h>
#include <string.h>

#include "kernels/table.h"
#include "samples.h"

using headway::ConvertTask;
using headway::Kernels;
using headway::LinearTask;
using samples::Block;
using samples::Matrix;
using samples::Random;

namespace {

constexpr int32_t kShapes[][2] = {{1, 1}, {5, 31}, {32, 64}, {33, 65}, {64, 96}, {97, 200}};
constexpr int64_t kRows = 17;

int64_t stride_of(int64_t width) { return headway::round_up(width, headway::kPad); }

// One packed matrix and rows converted for it.
struct Product {
  Product(const Kernels& the_kernels, int32_t form, int32_t outputs, int32_t inputs)
      : kernels(the_kernels),
        matrix(form, outputs, inputs, 1),
        row_bytes(headway::row_bytes(form, inputs)),
        rows(static_cast<size_t>(kRows * row_bytes)) {
    const int64_t stride = stride_of(inputs);
    Block<float> plain(static_cast<size_t>(kRows * stride));
    Random random{2};
    for (int64_t n = 0; n < kRows * stride; ++n) {
      plain[n] = n % stride < inputs ? random.between(-2, 2) : 0.0f;
    }
    const ConvertTask task = {plain.data, stride, rows.data, row_bytes, form, inputs};
    kernels.convert(task, 0, kRows);
  }

  // Rows [begin, end) into an output of exactly so many rows.
  void run(int64_t begin, int64_t end, int32_t epilogue, Block<float>& out) const {
    const hw_matrix& m = matrix.described;
    LinearTask task{};
    task.panels = matrix.bytes.data;
    task.panel_bytes = headway::panel_bytes(m.form, m.inputs);
    task.bias = m.bias;
    task.rows = rows.data + begin * row_bytes;
    task.row_bytes = row_bytes;
    task.out = out.data;
    task.out_stride = static_cast<int64_t>(out.size) / (end - begin);
    task.form = m.form;
    task.depth = static_cast<int32_t>(stride_of(m.inputs));
    task.outputs = m.outputs;
    task.epilogue = epilogue;
    task.activation = HW_SILU;
    for (int64_t panel = 0; panel < headway::round_up(m.outputs, 32) / 32; ++panel) {
      kernels.linear(task, panel, 0, end - begin);
    }
  }

  const Kernels& kernels;
  Matrix matrix;
  int64_t row_bytes;
  Block<uint8_t> rows;
};

// Each row alone, and all of them in runs of every length, for one epilogue.
void check_rows(const Product& product, int32_t epilogue) {
  const int64_t outputs = headway::round_up(product.matrix.described.outputs, 32);
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
  for (int64_t count = 2; count <= kRows; ++count) {
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
    for (int32_t form : {HW_FLOAT32, HW_BFLOAT16, HW_INT8, HW_INT4}) {
      for (const int32_t(&shape)[2] : kShapes) {
        const Product product(*kernels, form, shape[0], shape[1]);
        for (int32_t epilogue : {HW_STORE, HW_ADD, HW_GATE}) check_rows(product, epilogue);
      }
    }
  }
}

TEST(the_scores_best_is_the_lowest_of_the_highest) {
  for (const std::string& isa : samples::instruction_sets()) {
    const Kernels& kernels = *headway::find_kernels(isa.c_str());
    Product product(kernels, HW_FLOAT32, 40, 64);
    // Equal weights for all outputs, so that only the bias decides.
    memset(product.matrix.bytes.data, 0, product.matrix.bytes.size);
    for (size_t n = 0; n < product.matrix.bias.size; ++n) {
      product.matrix.bias[n] = n == 7 || n == 20 || n == 31 ? 1.0f : -1.0f;
    }
    // The paddings' scores must not win.
    for (size_t n = 40; n < product.matrix.bias.size; ++n) product.matrix.bias[n] = 9.0f;
    const int64_t index[2] = {3, 0};
    const uint8_t keep[2] = {1, 1};
    headway::Best best[4];
    Block<float> scores(2 * 64);
    headway::HeadTask task{};
    task.linear.panels = product.matrix.bytes.data;
    task.linear.panel_bytes = headway::panel_bytes(HW_FLOAT32, 64);
    task.linear.bias = product.matrix.bias.data;
    task.linear.rows = product.rows.data;
    task.linear.row_bytes = product.row_bytes;
    task.linear.index = index;
    task.linear.out = scores.data;
    task.linear.out_stride = 64;
    task.linear.form = HW_FLOAT32;
    task.linear.depth = 64;
    task.linear.outputs = 40;
    task.keep = keep;
    task.best = best;
    task.num_panels = 2;
    for (int64_t panel = 0; panel < 2; ++panel) kernels.head(task, panel, 0, 2);
    for (int row = 0; row < 2; ++row) {
      CHECK_EQUAL(best[2 * row].output, 7);
      CHECK_EQUAL(best[2 * row].score, 1.0f);
      CHECK_EQUAL(best[2 * row + 1].output, 32);
      CHECK_EQUAL(best[2 * row + 1].score, -1.0f);
    }
    product.matrix.bias[35] = NAN;
    for (int64_t panel = 0; panel < 2; ++panel) kernels.head(task, panel, 0, 2);
    CHECK_EQUAL(best[0].output, 7);
    CHECK_EQUAL(best[1].output, -1);
  }
}
