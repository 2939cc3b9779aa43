// See check.h: indexes in range, forms and widths that agree, a head at the end.
#include "check.h"

#include <stdexcept>
#include <string>

#include "attention_plan.h"
#include "kernels/tasks.h"

namespace headway {
namespace {

class Checker {
 public:
  Checker(const std::vector<hw_matrix>& matrices, const std::vector<hw_buffer>& buffers,
          const hw_cache& cache)
      : matrices_(matrices), buffers_(buffers), cache_(cache) {}

  void all(const std::vector<hw_op>& ops) {
    const char* problem = cache_problem(cache_);
    require(problem == nullptr, problem ? problem : "");
    for (const hw_buffer& buffer : buffers_) {
      require(buffer.width > 0 && row_bytes(buffer.form, buffer.width) > 0, "a buffer is empty");
    }
    for (const hw_matrix& matrix : matrices_) {
      require(matrix.data != nullptr && matrix.outputs > 0 && matrix.inputs > 0 &&
                  panel_bytes(matrix.form, matrix.inputs) > 0,
              "a matrix is empty or of no known form");
    }
    require(!ops.empty() && ops.back().kind == HW_OP_HEAD, "the last operation is no head");
    for (const hw_op& op : ops) {
      where_ = "operation " + std::to_string(&op - ops.data()) + ": ";
      one(op);
      require(op.kind != HW_OP_HEAD || &op == &ops.back(), "a head before the end");
    }
  }

 private:
  void require(bool fine, const char* otherwise) const {
    if (!fine) throw std::invalid_argument(where_ + otherwise);
  }
  const hw_buffer& buffer(int32_t index) const {
    require(index >= 0 && index < static_cast<int32_t>(buffers_.size()), "no such buffer");
    return buffers_[static_cast<size_t>(index)];
  }
  const hw_matrix& matrix(int32_t index) const {
    require(index >= 0 && index < static_cast<int32_t>(matrices_.size()), "no such matrix");
    return matrices_[static_cast<size_t>(index)];
  }
  const hw_buffer& plain(int32_t index) const {
    require(buffer(index).form == HW_FLOAT32, "the buffer is not float32");
    return buffer(index);
  }

  void one(const hw_op& op) const {
    switch (op.kind) {
      case HW_OP_EMBED:
        require(plain(op.out).width == matrix(op.matrix).inputs, "widths differ");
        return;
      case HW_OP_NORM: return norm(op);
      case HW_OP_CONVERT:
        require(plain(op.in).width == buffer(op.out).width, "widths differ");
        require(op.in != op.out, "a conversion in place");
        return;
      case HW_OP_LINEAR: return linear(op);
      case HW_OP_HEADS:
      case HW_OP_ATTENTION: return attention(op);
      case HW_OP_EXPERTS: return experts(op);
      case HW_OP_HEAD:
        require(buffer(op.in).form == matrix(op.matrix).form, "the rows' form is not the matrix's");
        require(buffer(op.in).width == matrix(op.matrix).inputs, "widths differ");
        return;
      default: require(false, "of no known kind");
    }
  }

  void norm(const hw_op& op) const {
    require(op.weight != nullptr, "a norm without weights");
    require(plain(op.in).width == buffer(op.out).width, "widths differ");
    require(op.out2 < 0 || plain(op.out2).width == plain(op.in).width, "widths differ");
    require(op.epilogue == HW_STORE ||
                (op.epilogue == HW_ADD && buffer(op.out).form == HW_FLOAT32),
            "adding needs a float32 output");
  }

  void linear(const hw_op& op) const {
    const hw_matrix& m = matrix(op.matrix);
    require(buffer(op.in).form == m.form, "the rows' form is not the matrix's");
    require(buffer(op.in).width == m.inputs, "the rows' width is not the matrix's");
    require(op.in != op.out, "a product in place");
    require(op.epilogue >= HW_STORE && op.epilogue <= HW_GATE, "of no known epilogue");
    if (op.epilogue == HW_GATE) {
      require(round_up(m.outputs, kPanel) / 2 <= round_up(plain(op.out).width, kPad), "too narrow");
    } else {
      require(plain(op.out).width == m.outputs, "the output's width is not the matrix's");
    }
  }

  void attention(const hw_op& op) const {
    const int32_t queries = op.heads * op.head_dim;
    require(op.heads > 0 && op.head_dim == cache_.head_dim && op.kv_heads == cache_.kv_heads &&
                op.heads % op.kv_heads == 0,
            "its heads are not the cache's");
    require(op.layer >= 0 && op.layer < cache_.num_layers, "no such layer in the cache");
    require(plain(op.out).width == queries, "the output does not hold its heads");
    const char* problem = attention_problem(op.heads, op.kv_heads);
    require(problem == nullptr, problem ? problem : "");
    const bool writes = op.kind == HW_OP_HEADS;
    require(plain(op.in).width == (writes ? queries + 2 * op.kv_heads * op.head_dim : queries),
            "the input does not hold its heads");
    require(!writes || (op.cos != nullptr && op.sin != nullptr), "no rotary tables");
    require((op.weight == nullptr) == (op.weight2 == nullptr) || !writes, "one norm of two");
  }

  void experts(const hw_op& op) const {
    require(op.experts > 0 && op.chosen > 0 && op.chosen <= op.experts, "no such experts");
    require(plain(op.in2).width == op.experts, "the router's scores are not one for each expert");
    for (int32_t e = 0; e < op.experts; ++e) {
      const hw_matrix &up = matrix(op.matrix + e), &down = matrix(op.matrix2 + e);
      const hw_matrix &first = matrix(op.matrix), &second = matrix(op.matrix2);
      require(up.form == first.form && up.outputs == first.outputs && up.inputs == first.inputs &&
                  down.form == second.form && down.outputs == second.outputs &&
                  down.inputs == second.inputs,
              "its experts differ in shape");
      require(plain(op.in).width == up.inputs && plain(op.out).width == down.outputs &&
                  round_up(up.outputs, kPanel) / 2 <= round_up(down.inputs, kPad),
              "widths differ");
    }
  }

  const std::vector<hw_matrix>& matrices_;
  const std::vector<hw_buffer>& buffers_;
  const hw_cache& cache_;
  std::string where_;
};

}  // namespace

void check_program(const std::vector<hw_op>& ops, const std::vector<hw_matrix>& matrices,
                   const std::vector<hw_buffer>& buffers, const hw_cache& cache) {
  Checker(matrices, buffers, cache).all(ops);
}

}  // namespace headway
