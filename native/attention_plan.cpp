// Items of attention: small enough to share out evenly, large enough to reuse what is read.
#include "attention_plan.h"

#include <algorithm>
#include <numeric>

namespace {

int64_t divide_up(int64_t n, int64_t by) { return (n + by - 1) / by; }

// First key that the token at `position` sees.
int64_t first_key(int64_t position, int32_t window) {
  return window == 0 ? 0 : std::max<int64_t>(position - window + 1, 0);
}

// Keys that an item of these tokens reads, times its tokens.
int64_t work_of(int64_t position, int64_t tokens, int32_t window) {
  return tokens * (position + tokens - first_key(position, window));
}

// Most tokens of an item such that no item is more than a quarter of a thread's share, in whole row
// tiles where that can be.
int64_t tokens_of_item(int64_t group, int64_t share, int64_t keys) {
  const int64_t most = std::max<int64_t>(kItemTiles * kTileRows / group, 1);
  const int64_t unit = kTileRows / std::gcd<int64_t>(kTileRows, group);
  const int64_t wanted = std::max(share / 4 / keys / unit * unit, unit);
  return std::min(wanted, most / unit > 0 ? most / unit * unit : most);
}

// One item for each kv head, or several where it alone is more than half of a thread's share.
void add_items(AttendItem item, const AttentionShape& shape, int64_t share, AttentionPlan* plan) {
  const int64_t segments = item.segment_end - item.segment_begin;
  const int64_t work = work_of(item.position, item.tokens, shape.window);
  const int64_t parts =
      shape.threads == 1 ? 1 : std::min(segments, divide_up(work, std::max<int64_t>(share / 2, 1)));
  for (item.kv_head = 0; item.kv_head < shape.kv_heads; ++item.kv_head) {
    if (parts == 1) {
      plan->items.push_back(item);
      continue;
    }
    AttendItem whole = item, part = item;
    whole.partial = plan->num_partials;
    plan->num_partials += segments * item.tiles;
    plan->merges.push_back(whole);
    for (int64_t n = 0; n < parts; ++n) {
      part.segment_begin = item.segment_begin + segments * n / parts;
      part.segment_end = item.segment_begin + segments * (n + 1) / parts;
      part.partial = whole.partial + (part.segment_begin - item.segment_begin) * item.tiles;
      plan->items.push_back(part);
    }
  }
}

// Keys times tokens left to an item, for the order.
int64_t size_of(const AttendItem& item, int32_t window) {
  const int64_t begin =
      std::max(first_key(item.position, window), item.segment_begin * kSegmentKeys);
  const int64_t end = std::min(item.position + item.tokens, item.segment_end * kSegmentKeys);
  return item.tokens * (end - begin);
}

}  // namespace

const char* attention_problem(int32_t heads, int32_t kv_heads) {
  if (kv_heads < 1 || heads < 1 || heads % kv_heads != 0) {
    return "heads are not a multiple of kv heads";
  }
  if (heads / kv_heads > kItemTiles * kTileRows) return "more than 96 heads to a kv head";
  return nullptr;
}

void plan_attention(const hw_step& step, const AttentionShape& shape, AttentionPlan* plan) {
  plan->heads = shape.heads;
  plan->kv_heads = shape.kv_heads;
  plan->window = shape.window;
  plan->num_partials = 0;
  plan->tables = step.block_tables;
  plan->table_width = step.table_width;
  plan->items.clear();
  plan->merges.clear();
  int64_t total = 0;
  for (int64_t s = 0; s < step.num_slices; ++s) {
    total += work_of(step.starts[s], step.counts[s], shape.window) * shape.kv_heads;
  }
  const int64_t share = total / shape.threads, group = shape.heads / shape.kv_heads;
  int64_t row = 0;
  for (int64_t s = 0; s < step.num_slices; ++s) {
    const int64_t end = step.starts[s] + step.counts[s];
    const int64_t keys = end - first_key(step.starts[s], shape.window);
    const int64_t most = tokens_of_item(group, share, keys);
    for (int64_t at = step.starts[s]; at < end; at += most) {
      AttendItem item = {};
      item.row = row + at - step.starts[s];
      item.position = at;
      item.tokens = static_cast<int32_t>(std::min(most, end - at));
      item.slice = static_cast<int32_t>(s);
      item.tiles = static_cast<int32_t>(divide_up(item.tokens * group, kTileRows));
      item.segment_begin = first_key(at, shape.window) / kSegmentKeys;
      item.segment_end = (at + item.tokens - 1) / kSegmentKeys + 1;
      item.partial = -1;
      add_items(item, shape, share, plan);
    }
    row += step.counts[s];
  }
  std::sort(plan->items.begin(), plan->items.end(),
            [&](const AttendItem& a, const AttendItem& b) {
              const int64_t x = size_of(a, shape.window), y = size_of(b, shape.window);
              if (x != y) return x > y;
              return a.row != b.row ? a.row < b.row : a.kv_head < b.kv_head;
            });
}

void rows_to_slots(const hw_step& step, int32_t block_size, int64_t* positions, int64_t* slots) {
  int64_t row = 0;
  for (int64_t s = 0; s < step.num_slices; ++s) {
    const int64_t* table = step.block_tables + s * step.table_width;
    for (int64_t n = 0; n < step.counts[s]; ++n, ++row) {
      const int64_t position = step.starts[s] + n;
      positions[row] = position;
      slots[row] = table[position / block_size] * block_size + position % block_size;
    }
  }
}

int64_t attend_scratch_bytes(const CacheLayout& cache) {
  const int64_t states = 2 * kItemTiles * attend_state_floats(cache) * 4;
  return states + kItemTiles * attend_query_bytes(cache) + attend_tile_bytes();
}

int64_t attend_partial_bytes(const AttentionPlan& plan, const CacheLayout& cache) {
  return plan.num_partials * attend_state_floats(cache) * 4;
}
