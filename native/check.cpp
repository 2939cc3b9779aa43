// Whether the parts of a program fit together: indexes in range, formats and widths that agree, an
// LM head at the end.
#include <stdexcept>
#include <string>

#include "program.h"

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
      require(buffer.width > 0 && row_bytes(buffer.format, buffer.width) > 0, "a buffer is empty");
    }
    for (const hw_matrix& matrix : matrices_) {
      require(matrix.data != nullptr && matrix.n > 0 && matrix.k > 0 &&
                  panel_bytes(matrix.format, matrix.k) > 0,
              "a matrix is empty or of no known format");
    }
    require(!ops.empty() && ops.back().kind == HW_OP_LM_HEAD, "the last operation is no head");
    for (const hw_op& op : ops) {
      where_ = "operation " + std::to_string(&op - ops.data()) + ": ";
      one(op);
      require(op.kind != HW_OP_LM_HEAD || &op == &ops.back(), "a head before the end");
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
  const hw_buffer& float32(int32_t index) const {
    require(buffer(index).format == HW_FLOAT32, "the buffer is not float32");
    return buffer(index);
  }

  void one(const hw_op& op) const {
    switch (op.kind) {
      case HW_OP_EMBED:
        require(float32(op.out).width == matrix(op.matrix).k, "widths differ");
        return;
      case HW_OP_NORM: return norm(op);
      case HW_OP_CONVERT:
        require(float32(op.in).width == buffer(op.out).width, "widths differ");
        require(op.in != op.out, "a conversion in place");
        return;
      case HW_OP_LINEAR: return linear(op);
      case HW_OP_ROPE:
      case HW_OP_ATTENTION: return attention(op);
      case HW_OP_EXPERTS: return experts(op);
      case HW_OP_LM_HEAD:
        require(buffer(op.in).format == matrix(op.matrix).format,
                "the rows' format is not the matrix's");
        require(buffer(op.in).width == matrix(op.matrix).k, "widths differ");
        return;
      default: require(false, "of no known kind");
    }
  }

  void norm(const hw_op& op) const {
    require(op.weight != nullptr, "a norm without weights");
    require(float32(op.in).width == buffer(op.out).width, "widths differ");
    require(op.out2 < 0 || float32(op.out2).width == float32(op.in).width, "widths differ");
    require(op.epilogue == HW_STORE ||
                (op.epilogue == HW_ADD && buffer(op.out).format == HW_FLOAT32),
            "adding needs a float32 output");
  }

  void linear(const hw_op& op) const {
    const hw_matrix& m = matrix(op.matrix);
    require(buffer(op.in).format == m.format, "the rows' format is not the matrix's");
    require(buffer(op.in).width == m.k, "the rows' width is not the matrix's");
    require(op.in != op.out, "a product in place");
    require(op.epilogue >= HW_STORE && op.epilogue <= HW_GATE, "of no known epilogue");
    if (op.epilogue == HW_GATE) {
      require(round_up(m.n, kPanel) / 2 <= round_up(float32(op.out).width, kPad), "too narrow");
    } else {
      require(float32(op.out).width == m.n, "the output's width is not the matrix's");
    }
  }

  void attention(const hw_op& op) const {
    const int32_t queries = op.heads * op.head_dim;
    require(op.heads > 0 && op.head_dim == cache_.head_dim && op.kv_heads == cache_.kv_heads &&
                op.heads % op.kv_heads == 0,
            "its heads are not the cache's");
    require(op.layer >= 0 && op.layer < cache_.num_layers, "no such layer in the cache");
    require(float32(op.out).width == queries, "the output does not hold its heads");
    const char* problem = attention_problem(op.heads, op.kv_heads);
    require(problem == nullptr, problem ? problem : "");
    const bool writes = op.kind == HW_OP_ROPE;
    require(float32(op.in).width == (writes ? queries + 2 * op.kv_heads * op.head_dim : queries),
            "the input does not hold its heads");
    require(!writes || (op.cos != nullptr && op.sin != nullptr), "no rotary tables");
    require((op.weight == nullptr) == (op.weight2 == nullptr) || !writes, "one norm of two");
  }

  void experts(const hw_op& op) const {
    require(op.num_experts > 0 && op.top_k > 0 && op.top_k <= op.num_experts, "no such experts");
    require(float32(op.in2).width == op.num_experts,
            "the router's logits are not one for each expert");
    for (int32_t e = 0; e < op.num_experts; ++e) {
      const hw_matrix &up = matrix(op.matrix + e), &down = matrix(op.matrix2 + e);
      const hw_matrix &first = matrix(op.matrix), &second = matrix(op.matrix2);
      require(up.format == first.format && up.n == first.n && up.k == first.k &&
                  down.format == second.format && down.n == second.n &&
                  down.k == second.k,
              "its experts differ in shape");
      require(float32(op.in).width == up.k && float32(op.out).width == down.n &&
                  round_up(up.n, kPanel) / 2 <= round_up(down.k, kPad),
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
