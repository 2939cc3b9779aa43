// Divides a step's attention into items for threads to take from a shared counter.
#ifndef HEADWAY_ATTENTION_PLAN_H
#define HEADWAY_ATTENTION_PLAN_H

#include "kernels/attention_task.h"

struct AttentionShape {
  int32_t heads;
  int32_t kv_heads;
  int32_t window;  // positions seen, the query's own included; 0 for all
  int32_t threads;
};

// Why these heads cannot be attended with, or NULL where they can.
const char* attention_problem(int32_t heads, int32_t kv_heads);

// Fills `plan`, whose memory is reused from step to step. Every slice must have a token.
void plan_attention(const hw_step& step, const AttentionShape& shape, AttentionPlan* plan);

// Position and cache slot (block * block_size + offset) of every row of the step.
void rows_to_slots(const hw_step& step, int32_t block_size, int64_t* positions, int64_t* slots);

// What every thread needs to itself, 64-byte aligned, for any plan.
int64_t attend_scratch_bytes(const CacheLayout& cache);

// What the partial results of all a plan's items take.
int64_t attend_partial_bytes(const AttentionPlan& plan, const CacheLayout& cache);

#endif
