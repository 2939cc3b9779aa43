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

#define HW_ABI 2
#define HW_EXPORT __attribute__((visibility("default")))

// How a matrix is packed, and so what a row that it multiplies must be. A packed matrix is a
// sequence of panels of 32 outputs; a panel is a run of groups along k, and K is the number of
// inputs rounded up to a multiple of 64. All paddings are zero weights.
enum hw_form {
  HW_FLOAT32 = 0,   // panel [K][32] float
  HW_BFLOAT16 = 1,  // panel [K/2][32][2] bfloat16
  HW_INT8 = 2,      // panel [K/64] of { [16][32][4] uint8 = q + 128; [32] bfloat16 scale }
  HW_INT4 = 3,      // panel [K/32] of { [8][64] uint8; [32] float16 scale; [32] float16 minimum }
};
// HW_INT4: byte j of row s holds, for k = 4 s + j % 4, output j / 4 in its low and output
// 16 + j / 4 in its high four bits; a weight is scale * q + minimum.
// HW_INT8: a weight is scale * (byte - 128).

enum hw_activation { HW_SILU = 0, HW_GELU_TANH = 1 };

enum hw_epilogue {
  HW_STORE = 0,  // out = product
  HW_ADD = 1,    // out += product
  HW_GATE = 2,   // panels hold 16 gate rows, then their 16 up rows: out = act(gate) * up
};

enum hw_kind {
  HW_OP_EMBED = 0,
  HW_OP_NORM = 1,
  HW_OP_CONVERT = 2,
  HW_OP_LINEAR = 3,
  HW_OP_HEADS = 4,
  HW_OP_ATTENTION = 5,
  HW_OP_EXPERTS = 6,
  HW_OP_HEAD = 7,
};

typedef struct hw_matrix {
  const void* data;   // panels, 64-byte aligned
  const float* bias;  // [outputs rounded up to 32, in packed order] or NULL
  int32_t form;       // hw_form
  int32_t outputs;    // rows of the packed matrix (gate and up together)
  int32_t inputs;
} hw_matrix;

// Buffers are numbered; each holds one row per token of the step. A buffer that feeds a matrix has
// that matrix's form (converted rows), all others are HW_FLOAT32.
typedef struct hw_buffer {
  int32_t form;
  int32_t width;  // elements of a row before padding to 64
} hw_buffer;

typedef struct hw_op {
  int32_t kind;        // hw_kind
  int32_t in;          // buffer read
  int32_t out;         // buffer written
  int32_t out2;        // NORM: a second, float32 output, or -1
  int32_t epilogue;    // LINEAR: hw_epilogue. NORM: HW_STORE or HW_ADD (to a float32 out)
  int32_t activation;  // LINEAR with HW_GATE, EXPERTS: hw_activation
  int32_t matrix;      // EMBED, LINEAR, HEAD: index of the matrix. EXPERTS: first gate_up matrix
  int32_t matrix2;     // EXPERTS: first down matrix
  int32_t layer;       // HEADS, ATTENTION: index of the KV cache's layer
  int32_t heads;       // HEADS, ATTENTION
  int32_t kv_heads;
  int32_t head_dim;
  int32_t window;      // ATTENTION: positions seen, the query's own included; 0 for all
  int32_t experts;     // EXPERTS: number; `in2` holds the router's scores
  int32_t chosen;
  int32_t normalise;
  int32_t in2;
  float eps;           // NORM; HEADS with head norms
  float scale;         // EMBED: factor. ATTENTION: factor on scores
  float softcap;       // HEAD: 0 for none
  const float* weight;   // NORM: [width]. HEADS: norm of queries [head_dim] or NULL
  const float* weight2;  // HEADS: norm of keys
  const float* cos;      // HEADS: [positions][head_dim]
  const float* sin;
} hw_op;
// EMBED      out = row of the matrix for each token, times scale
// NORM       out (and out2) = x / rms(x) * weight
// CONVERT    out = in, in out's form
// LINEAR     out (epilogue) in * matrix + bias
// HEADS      in = [heads + 2 kv_heads][head_dim]: norms and turns queries and keys, writes keys and
//            values to the cache and the queries, float32, to out
// ATTENTION  out = attention of the queries `in` [heads][head_dim] over the cache
// EXPERTS    out (epilogue) = mixture of gated MLPs of `in` (float32)
// HEAD       last op: scores of the asked rows of `in`, and selection

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

// How one asked row is turned into a token; see headway.runner.sampling for the definition.
typedef struct hw_sampling {
  int64_t row;          // row of the step whose hidden state is asked for
  int64_t target;       // a token to describe instead of choosing one, or -1
  int64_t seed;
  int64_t position;     // of the token to be chosen
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
  float temperature;  // 0 is greedy
  float top_p;
  float min_p;
  int32_t top_k;  // 0 or -1 for all
  float repetition_penalty;
  float frequency_penalty;
  float presence_penalty;
  int32_t plain;     // nothing changes which score is the highest, and it wins
  int32_t logprobs;  // how many of the likeliest tokens to report; -1 for no log probabilities
} hw_sampling;

enum hw_status { HW_OK = 0, HW_NOT_FINITE = 1, HW_NOTHING_LEFT = 2 };

typedef struct hw_choice {
  int64_t token;
  int32_t status;  // hw_status
  int32_t rank;    // of the token among the model's scores, from 1
  float logprob;   // of the token in the model's own distribution
  int64_t* top_tokens;  // [logprobs], filled where asked; the caller's memory
  float* top_logprobs;
} hw_choice;

typedef struct hw_step {
  int64_t num_tokens;
  int64_t num_slices;
  int64_t num_asked;
  const int64_t* tokens;     // [num_tokens]
  const int64_t* starts;     // [num_slices] position of each slice's first token
  const int64_t* counts;     // [num_slices]
  const int64_t* tables;     // [num_slices][table_width] block ids
  int64_t table_width;
  const hw_sampling* asked;  // [num_asked]
  hw_choice* choices;        // [num_asked]
  uint8_t* broken;           // [num_slices] set to 1 where a hidden state is not finite
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
// [HW_OP_HEAD + 2] unless it is NULL: the last entry is selection.
HW_EXPORT int32_t hw_program_run(hw_program* program, const hw_step* step, double* seconds);

// What this machine can do at most with a pool's threads, measured for about so many seconds.
// Operations a second, two for a product, of the instruction that a form's products are made of; -1
// where there is no such form, or no such instruction set on this processor.
HW_EXPORT double hw_measure_arithmetic(hw_pool* pool, const char* isa, int32_t form,
                                       double seconds);
// Bytes a second, read from so many bytes of memory, which must be at least 1 MiB and should be far
// more than any cache holds; -1 where there is no such instruction set, or too little memory.
HW_EXPORT double hw_measure_bandwidth(hw_pool* pool, const char* isa, int64_t bytes,
                                      double seconds);

// For tests and tools: one buffer of the last step as float32, [num_tokens][width].
HW_EXPORT int32_t hw_program_read(const hw_program* program, int32_t buffer, float* out);
// For tests and tools: one row of raw scores [vocabulary] to a choice, as hw_program_run does it.
HW_EXPORT int32_t hw_choose(const char* isa, const float* scores, int64_t vocabulary,
                            const hw_sampling* asked, hw_choice* choice);
// For tests and tools: scores [num_tokens][vocabulary] of every row of the last step.
HW_EXPORT int32_t hw_program_scores(hw_program* program, float* out);

#ifdef __cplusplus
}
#endif
#endif
