// Aligned memory that only grows, and prefers huge pages where it is large.
#ifndef HEADWAY_MEMORY_H
#define HEADWAY_MEMORY_H

#include <cstdint>

namespace headway {

class Memory {
 public:
  Memory() = default;
  ~Memory();
  Memory(Memory&& other) noexcept;
  Memory& operator=(Memory&& other) noexcept;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

  // At least so many bytes, aligned to 64. New ones are all zero and count as taken only once they
  // are written; what was there before is lost then. Throws std::bad_alloc.
  void reserve(int64_t bytes);

 private:
  void release();

  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace headway

#endif
