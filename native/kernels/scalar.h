// Small things that kernels share and that are not vectors.

// How far ahead of its use a matrix is fetched, in bytes: about what memory delivers in the time
// that a fetch takes.
constexpr int64_t kAhead = 4096;

HW_INLINE void prefetch(const void* p) { __builtin_prefetch(p, 0, 3); }
// Past the first-level cache, which is full of what is in use.
HW_INLINE void prefetch_later(const void* p) { __builtin_prefetch(p, 0, 2); }

HW_INLINE float bf16_value(uint16_t raw) {
  const uint32_t bits = static_cast<uint32_t>(raw) << 16;
  float value;
  __builtin_memcpy(&value, &bits, 4);
  return value;
}

HW_INLINE float f16_value(uint16_t raw) {
  uint16_t sixteen[16] = {raw};
  float values[16];
  f_store(values, f_load_f16(sixteen));
  return values[0];
}
