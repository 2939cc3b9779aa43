// What the C++ tests are written with: cases that register themselves, checks that say what was
// seen, and a main. One test program is one file that includes this, linked with all the library.
#ifndef HEADWAY_TESTS_TESTING_H
#define HEADWAY_TESTS_TESTING_H

#include <stdint.h>
#include <string.h>

#include <iostream>
#include <new>
#include <vector>

namespace check {

struct Case {
  const char* name;
  void (*body)();
};

inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

inline int failures = 0;

template <class A, class B>
void equal(const A& a, const B& b, const char* what, int line) {
  if (a == b) return;
  ++failures;
  std::cout << "  line " << line << ": " << what << ": " << a << " and " << b << "\n";
}

// Numbers that depend on nothing but their seed, the same with every standard library.
struct Random {
  uint64_t state;
  uint32_t next() {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint32_t>(state >> 33);
  }
  int32_t below(int32_t limit) { return static_cast<int32_t>(next() % limit); }
  float between(float low, float high) { return low + (high - low) * next() / 0x1p31f; }
};

// Memory that begins at a multiple of 64 bytes and ends exactly where it ends, so that the address
// sanitizer sees every access beyond it.
template <class T>
struct Block {
  explicit Block(size_t count)
      : size(count), data(static_cast<T*>(::operator new(count * sizeof(T), kAlign))) {}
  ~Block() { ::operator delete(data, kAlign); }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  T& operator[](size_t n) const { return data[n]; }

  static constexpr std::align_val_t kAlign{64};
  size_t size;
  T* data;
};

}  // namespace check

#define TEST(name)                                                                     \
  static void name();                                                                  \
  static const bool name##_known = (check::cases().push_back({#name, name}), true);    \
  static void name()
#define CHECK(condition) check::equal(static_cast<bool>(condition), true, #condition, __LINE__)
#define CHECK_EQUAL(a, b) check::equal(a, b, #a " == " #b, __LINE__)

// Runs all cases, or those named on the command line.
int main(int count, char** names) {
  for (const check::Case& one : check::cases()) {
    bool wanted = count == 1;
    for (int n = 1; n < count; ++n) wanted |= strcmp(names[n], one.name) == 0;
    if (!wanted) continue;
    const int before = check::failures;
    one.body();
    std::cout << (check::failures == before ? "ok   " : "FAIL ") << one.name << std::endl;
  }
  return check::failures == 0 ? 0 : 1;
}

#endif
