// top_k, top_p and min_p: the tokens of a row that they keep, found without sorting it.
//
// x = (logit - highest) / temperature, so x <= 0, and e^x is a token's weight. First the tokens
// above some bound, surely all that are kept, are collected; then the edge of what is kept is found
// among them by counting digits of x, as a radix sort would. At the edge the lowest ids stay.
#ifndef HEADWAY_FILTERS_H
#define HEADWAY_FILTERS_H

#include "logits.h"

namespace headway::HW_ISA_NAME {

constexpr int kBuckets = 2048;
// A weight of e^-26 loses any race against a weight of 1: the numbers run from 2^-33 to 16.7.
constexpr float kCannotWin = -26.0f;
constexpr float kZeroWeight = -88.0f;  // f_exp is 0 below

struct Tempered {
  F top, temperature;

  F of(F logit) const { return (logit - top) / temperature; }
};

// Counts and weights of the candidates that have each value of a digit.
struct Digits {
  double mass[kBuckets];
  int64_t count[kBuckets];
};

struct Candidates {
  float* x;
  int32_t* ids;  // ascending
  int64_t number;
};

// The tokens with x >= floor, where floor is finite. `into.x` may be the row's own logits.
static Candidates collect(const LogitsRow& row, const Tempered& tempered, float floor,
                          Candidates into) {
  const F bound = f_set(floor);
  into.number = 0;
  for (int64_t at = 0; at < row.vocab_size; at += 16) {
    const F x = tempered.of(row_at(row, at));
    uint32_t bits = at_least(x, bound);
    if (bits == 0) continue;
    float lanes[16];
    f_store(lanes, x);
    for (; bits != 0; bits &= bits - 1) {
      const int n = __builtin_ctz(bits);
      into.x[into.number] = lanes[n];
      into.ids[into.number++] = static_cast<int32_t>(at) + n;
    }
  }
  return into;
}

// The sum of the weights of all tokens with x >= floor.
static double total_weight(const LogitsRow& row, const Tempered& tempered, float floor) {
  const F bound = f_set(floor);
  D sum = d_zero();
  for (int64_t at = 0; at < row.vocab_size; at += 16) {
    const F x = tempered.of(row_at(row, at));
    sum = sum + f_select(f_less(x, bound), f_zero(), f_exp(x));
  }
  return d_sum(sum);
}

static double total_weight(const Candidates& of) {
  D sum = d_zero();
  for (int64_t at = 0; at < of.number; at += 16) {
    sum = sum + f_exp(f_load_some(of.x + at, of.number - at, -INFINITY));
  }
  return d_sum(sum);
}

// Kept are the fewest likeliest tokens that are `number` or weigh `weight` together.
struct Goal {
  int64_t number;
  double weight;

  bool reached(int64_t count, double mass) const { return count >= number || mass >= weight; }
};

// Kept are the tokens with a key below `key`, and the first `room` with just that key. The bits of
// -x are the key: it grows as the weight falls.
struct Edge {
  int32_t key;
  int64_t room;
};

HW_INLINE I keys_of(F x) { return i_bits(x) & i_set(0x7fffffff); }

// Adds up, for each value of the bits [Shift, Shift + Width) of the key, the candidates whose
// higher bits are `prefix`. Keys have 31 bits, so that the first prefix is 0.
template <int Shift, int Width>
static void count_digits(const Candidates& of, int32_t prefix, Digits* digits) {
  constexpr int32_t kMask = (1 << Width) - 1;
  std::fill(digits->count, digits->count + kMask + 1, 0);
  std::fill(digits->mass, digits->mass + kMask + 1, 0.0);
  const I same = i_set(prefix);
  for (int64_t at = 0; at < of.number; at += 16) {
    const int64_t size = std::min<int64_t>(16, of.number - at);
    const F x = f_load_some(of.x + at, size, -INFINITY);
    const I keys = keys_of(x);
    uint32_t bits = m_bits(i_equal(i_right<Shift + Width>(keys), same)) & ((1u << size) - 1);
    if (bits == 0) continue;
    int32_t places[16];
    float weights[16];
    i_store(places, i_right<Shift>(keys) & i_set(kMask));
    f_store(weights, f_exp(x));
    for (; bits != 0; bits &= bits - 1) {
      const int n = __builtin_ctz(bits);
      ++digits->count[places[n]];
      digits->mass[places[n]] += static_cast<double>(weights[n]);
    }
  }
}

// What is surely likelier than the edge.
struct Above {
  int64_t count;
  double mass;
};

// The value below `size` at which the goal is reached, or else the last that occurs. Adds what is
// likelier to `above`; `reached` tells whether the goal was.
static int32_t find_digit(const Digits& digits, int32_t size, const Goal& goal, Above* above,
                          bool* reached) {
  int32_t found = 0;
  Above next = *above;
  *reached = false;
  for (int32_t n = 0; n < size && !*reached; ++n) {
    if (digits.count[n] == 0) continue;
    found = n;
    *above = next;
    next.count += digits.count[n];
    next.mass += digits.mass[n];
    *reached = goal.reached(next.count, next.mass);
  }
  return found;
}

static Edge find_edge(const Candidates& of, const Goal& goal, Digits* digits) {
  Above above = {0, 0.0};
  bool reached;
  count_digits<20, 11>(of, 0, digits);
  const int32_t high = find_digit(*digits, 1 << 11, goal, &above, &reached);
  // Summed in another order than the goal, the whole may fall a rounding short of it.
  if (!reached) return {INT32_MAX, 0};
  count_digits<10, 10>(of, high, digits);
  const int32_t middle = high << 10 | find_digit(*digits, 1 << 10, goal, &above, &reached);
  count_digits<0, 10>(of, middle, digits);
  const int32_t low = find_digit(*digits, 1 << 10, goal, &above, &reached);
  const int64_t equals = digits->count[low];
  const double each = digits->mass[low] / static_cast<double>(equals);
  int64_t room = 1;
  for (double mass = above.mass + each; room < equals; ++room, mass += each) {
    if (goal.reached(above.count + room, mass)) break;
  }
  return {middle << 10 | low, room};
}

// Drops all candidates that the goal does not keep.
static Candidates narrow(Candidates of, const Goal& goal, Digits* digits) {
  Edge edge = find_edge(of, goal, digits);
  // x where the key is the edge's; INT32_MAX stands for NaN, so that all are kept.
  const F limit = f_zero() - f_bits(i_set(edge.key));
  int64_t kept = 0;
  for (int64_t at = 0; at < of.number; at += 16) {
    const int64_t size = std::min<int64_t>(16, of.number - at);
    const F x = f_load_some(of.x + at, size, -INFINITY);
    const uint32_t valid = (1u << size) - 1;
    const uint32_t equal = m_bits(f_equal(x, limit)) & valid;
    uint32_t bits = at_least(x, limit) & valid;
    for (; bits != 0; bits &= bits - 1) {
      const int n = __builtin_ctz(bits);
      if ((equal >> n & 1) != 0 && edge.room-- <= 0) continue;
      of.x[kept] = of.x[at + n];
      of.ids[kept++] = of.ids[at + n];
    }
  }
  of.number = kept;
  return of;
}

struct Filters {
  int64_t top_k;  // 0 for all
  float top_p;
  float min_p;
};

// The tokens that may be drawn, apart from some that cannot win. `row` is that of the logits after
// all other steps; `spare` as in reached_by.
static Candidates filter_tokens(const LogitsRow& row, const Tempered& tempered,
                                const Filters& filters, Candidates into, float* spare,
                                Digits* digits) {
  const bool nucleus = filters.top_p < 1.0f;
  float floor = nucleus ? kZeroWeight : kCannotWin;
  if (filters.min_p > 0.0f) {
    floor = std::max(floor, static_cast<float>(log(static_cast<double>(filters.min_p))));
  }
  if (filters.top_k > 0) {
    const float reached = reached_by(row, filters.top_k, spare);
    float lanes[16];
    f_store(lanes, tempered.of(f_set(reached)));
    const Candidates found = collect(row, tempered, std::max(floor, lanes[0]), into);
    const Candidates kept = narrow(found, {filters.top_k, INFINITY}, digits);
    if (!nucleus) return kept;
    return narrow(kept, {INT64_MAX, static_cast<double>(filters.top_p) * total_weight(kept)},
                  digits);
  }
  if (nucleus) {
    const double top_p = filters.top_p, total = total_weight(row, tempered, floor);
    // All tokens lighter than this weigh less than what top_p leaves out.
    const double light = log((1.0 - top_p) * total / static_cast<double>(row.vocab_size));
    floor = std::max(floor, static_cast<float>(light) - 0.01f);
    return narrow(collect(row, tempered, floor, into), {INT64_MAX, top_p * total}, digits);
  }
  return collect(row, tempered, floor, into);
}

}  // namespace headway::HW_ISA_NAME

#endif
