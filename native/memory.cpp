// See memory.h. Large pieces come from the operating system, whose fresh pages are zero and cost
// nothing until they are touched.
#include "memory.h"

#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace headway {
namespace {

constexpr int64_t kHuge = int64_t{1} << 21;

#if defined(__linux__)
bool mapped(int64_t bytes) { return bytes >= kHuge; }
#else
bool mapped(int64_t) { return false; }
#endif

}  // namespace

Memory::~Memory() { release(); }

Memory::Memory(Memory&& other) noexcept { *this = std::move(other); }

Memory& Memory::operator=(Memory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

void Memory::release() {
#if defined(__linux__)
  if (mapped(bytes_)) {
    munmap(data_, static_cast<size_t>(bytes_));
    data_ = nullptr;
  }
#endif
  std::free(data_);
  data_ = nullptr;
  bytes_ = 0;
}

void Memory::reserve(int64_t bytes) {
  if (bytes <= bytes_) return;
  release();
  const int64_t unit = mapped(bytes) ? kHuge : 64;
  bytes = (bytes + unit - 1) / unit * unit;
  const size_t size = static_cast<size_t>(bytes);
#if defined(__linux__)
  if (mapped(bytes)) {
    void* fresh = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fresh == MAP_FAILED) throw std::bad_alloc();
    madvise(fresh, size, MADV_HUGEPAGE);
    data_ = fresh;
    bytes_ = bytes;
    return;
  }
#endif
  data_ = std::aligned_alloc(64, size);
  if (data_ == nullptr) throw std::bad_alloc();
  std::memset(data_, 0, size);
  bytes_ = bytes;
}

}  // namespace headway
