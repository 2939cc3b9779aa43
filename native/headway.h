// The C interface of Headway's CPU kernels: everything that crosses into this library.
//
// Plain C types only, so that any language can call it. A model is recorded once as a list of
// operations over row buffers (hw_program_create) and replayed for every step by one call
// (hw_program_run). Sizes are in elements unless a name says bytes; ids and positions are int64
// because that is what callers hold.
#ifndef HEADWAY_H
#define HEADWAY_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HW_ABI 5
#define HW_EXPORT __attribute__((visibility("default")))

// Weights are packed once, in a blocked layout: the order in which the kernels read them. In BLAS's
// letters a linear layer is C[m][n] = A[m][k] * B[n][k], with m rows of the step, n outputs and k
// inputs; B is what is packed.
//
// A packed matrix is a sequence of panels (BLIS's micro-panels) of 32 outputs each. A panel holds
// its outputs' weights for input 0, then for input 1, and so on, so that a kernel reads it once from
// front to back and keeps 32 sums. K is k rounded up to a multiple of 64, and n is rounded up to
// whole panels; all padding is zero weights. Quantised weights share a scale along k: a group is 64
// inputs (int8) or 32 (int4) of one output.
//
// A matrix's weight format also says what the rows that it multiplies must be converted to.
enum hw_weight_format {
  HW_FLOAT32 = 0,   // panel [K][32] float
  HW_BFLOAT16 = 1,  // panel [K/2][32][2] bfloat16: neighbours along k are pairs
  HW_INT8 = 2,      // panel [K/64] of { [16][32][4] uint8; [32] bfloat16 scale }: fours along k
  HW_INT4 = 3,      // panel [K/32] of { [8][64] uint8; [32] float16 scale; [32] float16 minimum }
};
// The weight of output n and input k is found in panel n / 32, with o = n % 32, at
//   HW_FLOAT32   [k][o]
//   HW_BFLOAT16  [k / 2][o][k % 2]
//   HW_INT8      group k / 64, byte [k % 64 / 4][o][k % 4]: scale[o] * (byte - 128)
//   HW_INT4      group k / 32, byte [k % 32 / 4][o % 16 * 4 + k % 4]: scale[o] * q + minimum[o],
//                where q is its low four bits for o < 16 and its high four bits for the others

enum hw_activation { HW_SILU = 0, HW_GELU_TANH = 1 };

enum hw_epilogue {
  HW_STORE = 0,  // out = product
  HW_ADD = 1,    // out += product
  HW_GATE = 2,   // a panel is 16 outputs of gate, then the same 16 of up: out = act(gate) * up
};

enum hw_kind {
  HW_OP_EMBED = 0,
  HW_OP_NORM = 1,
  HW_OP_CONVERT = 2,
  HW_OP_LINEAR = 3,
  HW_OP_ROPE = 4,
  HW_OP_ATTENTION = 5,
  HW_OP_EXPERTS = 6,
  HW_OP_LM_HEAD = 7,
};

typedef struct hw_matrix {
  const void* data;   // panels, 64-byte aligned
  const float* bias;  // [n rounded up to 32], in the order of the panels' outputs, or NULL
  int32_t format;     // hw_weight_format
  int32_t n;          // outputs (gate and up together)
  int32_t k;          // inputs
} hw_matrix;

// Buffers are numbered; each holds one row per token of the step. A buffer that feeds a matrix has
// that matrix's format (converted rows), all others are HW_FLOAT32.
typedef struct hw_buffer {
  int32_t format;
  int32_t width;  // elements of a row before padding to 64
} hw_buffer;

typedef struct hw_op {
  int32_t kind;        // hw_kind
  int32_t in;          // buffer read
  int32_t out;         // buffer written
  int32_t out2;        // NORM: a second, float32 output, or -1
  int32_t epilogue;    // LINEAR: hw_epilogue. NORM: HW_STORE or HW_ADD (to a float32 out)
  int32_t activation;  // LINEAR with HW_GATE, EXPERTS: hw_activation
  int32_t matrix;      // EMBED, LINEAR, LM_HEAD: index of the matrix. EXPERTS: first gate_up matrix
  int32_t matrix2;     // EXPERTS: first down matrix
  int32_t layer;       // ROPE, ATTENTION: index of the KV cache's layer
  int32_t heads;       // ROPE, ATTENTION
  int32_t kv_heads;
  int32_t head_dim;
  int32_t window;      // ATTENTION: positions seen, the query's own included; 0 for all
  int32_t num_experts;  // EXPERTS
  int32_t top_k;       // EXPERTS: how many of them a token goes to
  int32_t normalise;   // EXPERTS: whether router weights are made to sum to 1
  int32_t in2;         // EXPERTS: buffer of the router's logits
  float eps;           // NORM; ROPE with head norms
  float scale;         // EMBED: factor. ATTENTION: factor on scores (queries by keys)
  float softcap;       // LM_HEAD: 0 for none
  const float* weight;   // NORM: [width]. ROPE: norm of queries [head_dim] or NULL
  const float* weight2;  // ROPE: norm of keys
  const float* cos;      // ROPE: [positions][head_dim]
  const float* sin;
} hw_op;
// EMBED      out = row of the matrix for each token, times scale
// NORM       out (and out2) = x / rms(x) * weight
// CONVERT    out = in, in out's format
// LINEAR     out (epilogue) in * matrix + bias
// ROPE       in = [heads + 2 kv_heads][head_dim]: norms and rotates queries and keys, writes keys
//            and values to the cache and the queries, float32, to out
// ATTENTION  out = attention of the queries `in` [heads][head_dim] over the cache
// EXPERTS    out (epilogue) = sum over a token's top_k experts of router weight * gated MLP of `in`
//            (float32); router weights are a softmax over all experts, normalised to a sum of 1
//            over the top_k where `normalise` is set
// LM_HEAD    last op: logits of the rows of `in` that the step's `sampling` names, and sampling

enum hw_cache_kind { HW_CACHE_FLOAT32 = 0, HW_CACHE_BFLOAT16 = 1, HW_CACHE_INT8 = 2 };

typedef struct hw_cache {
  int32_t kind;  // hw_cache_kind
  int32_t num_layers;
  int32_t num_blocks;
  int32_t block_size;  // 16, 32, 64 or 128 positions
  int32_t kv_heads;
  int32_t head_dim;
  void* memory;  // hw_cache_bytes(), 64-byte aligned, zeroed
} hw_cache;

// How a token is sampled from one row's logits; see headway.runner.sampling for the definition.
typedef struct hw_sampling {
  int64_t row;          // row of the step whose hidden state gives the logits
  int64_t target;       // a token whose logprob and rank are wanted, instead of sampling one, or -1
  int64_t seed;
  int64_t position;     // of the token to be sampled
  const int64_t* tokens;  // all tokens of the sequence so far
  int64_t num_tokens;
  int64_t prompt_len;
  const int64_t* allowed;  // the only tokens allowed, where num_allowed >= 0
  int64_t num_allowed;
  const int64_t* banned;   // tokens ruled out
  int64_t num_banned;
  const int64_t* bias_tokens;
  const float* bias_values;
  int64_t num_bias;
  // Bit t of word w rules token 32 w + t in; [ceil(vocab_size / 32)], or NULL where all tokens are.
  const uint32_t* mask;
  float temperature;  // 0 is greedy
  float top_p;
  float min_p;
  int32_t top_k;  // 0 or -1 for all
  float repetition_penalty;
  float frequency_penalty;
  float presence_penalty;
  int32_t greedy;    // the highest logit wins, and no step of sampling changes which that is
  int32_t logprobs;  // how many of the likeliest tokens to report; -1 for no log probabilities
} hw_sampling;

enum hw_status { HW_OK = 0, HW_NOT_FINITE = 1, HW_NOTHING_LEFT = 2 };

typedef struct hw_sampled_token {
  int64_t token;
  int32_t status;  // hw_status
  int32_t rank;    // of the token among the model's logits, from 1
  float logprob;   // of the token in the model's own distribution
  int64_t* top_tokens;  // [logprobs], filled where asked; the caller's memory
  float* top_logprobs;
} hw_sampled_token;

typedef struct hw_step {
  int64_t num_tokens;
  int64_t num_slices;
  int64_t num_sampled;
  const int64_t* tokens;        // [num_tokens]
  const int64_t* starts;        // [num_slices] position of each slice's first token
  const int64_t* counts;        // [num_slices] tokens of each
  const int64_t* block_tables;  // [num_slices][table_width] block ids
  int64_t table_width;
  const hw_sampling* sampling;  // [num_sampled]
  hw_sampled_token* sampled;    // [num_sampled], filled
  uint8_t* has_nan;             // [num_slices] set to 1 where a hidden state is not finite
  int64_t all_rows;             // 1: compute the hidden states of all rows, for hw_program_read and
                                // hw_program_logits; 0: after the last attention those that
                                // `sampling` names alone
} hw_step;

typedef struct hw_pool hw_pool;
typedef struct hw_program hw_program;

HW_EXPORT int32_t hw_abi(void);
// Names of the instruction sets compiled in, best first, separated by spaces.
HW_EXPORT const char* hw_compiled(void);
// 1 if this processor runs the named one.
HW_EXPORT int32_t hw_supported(const char* isa);

// `threads` workers, this one included. cpus[n] pins worker n, or cpus is NULL.
HW_EXPORT hw_pool* hw_pool_create(int32_t threads, const int32_t* cpus);
HW_EXPORT void hw_pool_destroy(hw_pool* pool);

HW_EXPORT int64_t hw_cache_bytes(const hw_cache* cache);

// Returns NULL and writes a message where the program makes no sense. Keeps the pointers of
// matrices, ops and cache, whose memory must outlive it; the arrays themselves are copied.
HW_EXPORT hw_program* hw_program_create(hw_pool* pool, const char* isa, const hw_op* ops,
                                        int32_t num_ops, const hw_matrix* matrices,
                                        int32_t num_matrices, const hw_buffer* buffers,
                                        int32_t num_buffers, const hw_cache* cache,
                                        char* message, int32_t message_bytes);
HW_EXPORT void hw_program_destroy(hw_program* program);
// 0, or -1 where memory ran out. Seconds spent in each kind of op are added to `seconds`
// [HW_OP_LM_HEAD + 2] unless it is NULL: the last entry is sampling.
HW_EXPORT int32_t hw_program_run(hw_program* program, const hw_step* step, double* seconds);

// What this machine can do at most with a pool's threads, measured for about so many seconds.
// Peak FLOP/s, two for a multiply-add (of integers too), of the instruction that a weight format's
// products are made of; -1 where there is no such format, or no such instruction set here.
HW_EXPORT double hw_measure_flops(hw_pool* pool, const char* isa, int32_t format, double seconds);
// Bytes a second, read from so many bytes of memory, which must be at least 1 MiB and should be far
// more than any cache holds; -1 where there is no such instruction set, or too little memory.
HW_EXPORT double hw_measure_bandwidth(hw_pool* pool, const char* isa, int64_t bytes,
                                      double seconds);

// For tests and tools: one buffer of the last step, which had `all_rows`, as float32,
// [num_tokens][width].
HW_EXPORT int32_t hw_program_read(const hw_program* program, int32_t buffer, float* out);
// For tests and tools: samples from one row of logits [vocab_size], as hw_program_run does it.
HW_EXPORT int32_t hw_sample(const char* isa, const float* logits, int64_t vocab_size,
                            const hw_sampling* sampling, hw_sampled_token* sampled);
// For tests and tools: logits [num_tokens][vocab_size] of every row of the last step, which had
// `all_rows`.
HW_EXPORT int32_t hw_program_logits(hw_program* program, float* out);

#ifdef __cplusplus
}
#endif
#endif
