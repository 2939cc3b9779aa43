// What min_p, top_k and top_p leave of a row: its candidates, found without sorting it.
//
// x = (score - highest) / temperature, so x <= 0, and e^x is a token's weight. First the tokens
// above some bound that surely holds all survivors are collected; then the edge of the survivors
// is found among them by counting digits of x, as a radix sort would. At the edge the lowest ids
// stay.

constexpr int kBuckets = 2048;
// A weight of e^-26 loses any race against a weight of 1: the numbers run from 2^-33 to 16.7.
constexpr float kHopeless = -26.0f;
constexpr float kWeightless = -88.0f;  // f_exp is 0 below

struct Tempered {
  F top, heat;

  F of(F score) const { return (score - top) / heat; }
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

// The tokens with x >= floor, where floor is finite. `into.x` may be the row's own scores.
static Candidates collect(const Row& row, const Tempered& tempered, float floor, Candidates into) {
  const F bound = f_set(floor);
  into.number = 0;
  for (int64_t at = 0; at < row.vocabulary; at += 16) {
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
static double total_weight(const Row& row, const Tempered& tempered, float floor) {
  const F bound = f_set(floor);
  D sum = d_zero();
  for (int64_t at = 0; at < row.vocabulary; at += 16) {
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

// Survivors are the fewest likeliest that are `number` or weigh `weight` together.
struct Goal {
  int64_t number;
  double weight;

  bool reached(int64_t count, double mass) const { return count >= number || mass >= weight; }
};

// The survivors: those with a key below `key`, and the first `room` with just that key. The bits of
// -x are the key: it grows as the weight falls.
struct Edge {
  uint32_t key;
  int64_t room;
};

HW_INLINE uint32_t key_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return bits & 0x7fffffffu;
}

// Adds up, for each value of the bits [shift, shift + width) of the key, the candidates whose
// higher bits are `prefix`.
static void count_digits(const Candidates& of, int shift, int width, uint32_t prefix,
                         Digits* digits) {
  const uint32_t mask = (1u << width) - 1;
  std::fill(digits->count, digits->count + mask + 1, 0);
  std::fill(digits->mass, digits->mass + mask + 1, 0.0);
  for (int64_t at = 0; at < of.number; at += 16) {
    const int64_t size = std::min<int64_t>(16, of.number - at);
    const F x = f_load_some(of.x + at, size, -INFINITY);
    float weights[16];
    f_store(weights, f_exp(x));
    for (int64_t n = 0; n < size; ++n) {
      const uint32_t key = key_of(of.x[at + n]);
      // Keys have 31 bits, so that the first prefix is 0.
      if (key >> (shift + width) != prefix) continue;
      const uint32_t digit = (key >> shift) & mask;
      ++digits->count[digit];
      digits->mass[digit] += static_cast<double>(weights[n]);
    }
  }
}

static Edge find_edge(const Candidates& of, const Goal& goal, Digits* digits) {
  constexpr int kShifts[3] = {20, 10, 0}, kWidths[3] = {11, 10, 10};
  uint32_t prefix = 0;
  int64_t count = 0;  // of what is surely likelier than the edge
  double mass = 0.0;
  for (int level = 0; level < 3; ++level) {
    const int width = kWidths[level];
    count_digits(of, kShifts[level], width, prefix, digits);
    int edge = -1;
    int64_t before = count;
    double weight = mass;
    for (int n = 0; n < 1 << width; ++n) {
      if (digits->count[n] == 0) continue;
      edge = n;
      count = before;
      mass = weight;
      before += digits->count[n];
      weight += digits->mass[n];
      if (goal.reached(before, weight)) break;
    }
    // Summed in another order than the goal, the whole may fall a rounding short of it.
    if (level == 0 && !goal.reached(before, weight)) return {UINT32_MAX, 0};
    prefix = prefix << width | static_cast<uint32_t>(edge);
  }
  const int64_t equals = digits->count[prefix & 1023u];
  const double each = digits->mass[prefix & 1023u] / static_cast<double>(equals);
  int64_t room = 1;
  for (mass += each; room < equals && !goal.reached(count + room, mass); ++room) mass += each;
  return {prefix, room};
}

// Drops all candidates but the survivors.
static Candidates narrow(Candidates of, const Goal& goal, Digits* digits) {
  if (of.number == 0) return of;
  Edge edge = find_edge(of, goal, digits);
  int64_t kept = 0;
  for (int64_t n = 0; n < of.number; ++n) {
    const uint32_t key = key_of(of.x[n]);
    if (key > edge.key || (key == edge.key && edge.room-- <= 0)) continue;
    of.x[kept] = of.x[n];
    of.ids[kept++] = of.ids[n];
  }
  of.number = kept;
  return of;
}

struct Filters {
  int64_t top_k;  // 0 for all
  float top_p;
  float min_p;
};

// The tokens that may be drawn, apart from some that cannot win. `row` is that of the scores after
// all other steps; `spare` as in reached_by.
static Candidates survivors(const Row& row, const Tempered& tempered, const Filters& filters,
                            Candidates into, float* spare, Digits* digits) {
  const bool nucleus = filters.top_p < 1.0f;
  float floor = nucleus ? kWeightless : kHopeless;
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
    const double share = filters.top_p, total = total_weight(row, tempered, floor);
    // All tokens lighter than this weigh less than what top_p leaves out.
    const double light = log((1.0 - share) * total / static_cast<double>(row.vocabulary));
    floor = std::max(floor, static_cast<float>(light) - 0.01f);
    return narrow(collect(row, tempered, floor, into), {INT64_MAX, share * total}, digits);
  }
  return collect(row, tempered, floor, into);
}
