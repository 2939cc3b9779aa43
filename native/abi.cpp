// The C interface: exceptions become return values here, and nowhere else.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

#include "headway.h"
#include "peak_rates.h"
#include "program.h"

struct hw_pool {
  headway::Pool pool;
};
struct hw_program {
  headway::Program program;
};

namespace headway {

#define HW_EACH_ISA(DO)   \
  HW_IF_AVX512_BF16(DO)   \
  HW_IF_AVX512(DO)        \
  HW_IF_AVX2(DO)          \
  HW_IF_NEON_I8MM(DO)     \
  HW_IF_NEON_DOT(DO)      \
  DO(portable, true)

#if defined(HW_HAVE_AVX512_BF16)
#define HW_IF_AVX512_BF16(DO) DO(avx512_bf16, has_avx512_bf16())
#else
#define HW_IF_AVX512_BF16(DO)
#endif
#if defined(HW_HAVE_AVX512)
#define HW_IF_AVX512(DO) DO(avx512, has_avx512())
#else
#define HW_IF_AVX512(DO)
#endif
#if defined(HW_HAVE_AVX2)
#define HW_IF_AVX2(DO) DO(avx2, has_avx2())
#else
#define HW_IF_AVX2(DO)
#endif
#if defined(HW_HAVE_NEON_I8MM)
#define HW_IF_NEON_I8MM(DO) DO(neon_i8mm, has_neon_i8mm())
#else
#define HW_IF_NEON_I8MM(DO)
#endif
#if defined(HW_HAVE_NEON_DOT)
#define HW_IF_NEON_DOT(DO) DO(neon_dot, has_neon_dot())
#else
#define HW_IF_NEON_DOT(DO)
#endif

#if defined(__x86_64__) || defined(__i386__)
// Each of the flags that the files in isa/ are compiled with.
static inline bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
}
static inline bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
static inline bool has_avx512_bf16() {
  return has_avx512() && __builtin_cpu_supports("avx512vnni") &&
         __builtin_cpu_supports("avx512bf16");
}
#endif

#if defined(__aarch64__)
enum class ArmFeature { kDotProd, kI8mm, kBf16 };

// What the kernel says; a processor that has dot products has all else of Armv8.2, too.
static inline bool has(ArmFeature feature) {
#if defined(__linux__)
  // HWCAP_ASIMDDP, HWCAP2_I8MM and HWCAP2_BF16, which older headers lack.
  if (feature == ArmFeature::kDotProd) return (getauxval(AT_HWCAP) >> 20 & 1) != 0;
  return (getauxval(AT_HWCAP2) >> (feature == ArmFeature::kI8mm ? 13 : 14) & 1) != 0;
#elif defined(__APPLE__)
  const char* const names[] = {"hw.optional.arm.FEAT_DotProd", "hw.optional.arm.FEAT_I8MM",
                               "hw.optional.arm.FEAT_BF16"};
  int32_t present = 0;
  size_t size = sizeof present;
  const char* name = names[static_cast<int>(feature)];
  return sysctlbyname(name, &present, &size, nullptr, 0) == 0 && present != 0;
#else
  (void)feature;
  return false;
#endif
}
static inline bool has_neon_dot() { return has(ArmFeature::kDotProd); }
static inline bool has_neon_i8mm() {
  return has_neon_dot() && has(ArmFeature::kI8mm) && has(ArmFeature::kBf16);
}
#endif

#define HW_DECLARE(name, runs) extern const Kernels kernels_##name;
HW_EACH_ISA(HW_DECLARE)

const Kernels* find_kernels(const char* isa) {
#define HW_FIND(name, runs) \
  if ((isa == nullptr || std::strcmp(isa, #name) == 0) && (runs)) return &kernels_##name;
  HW_EACH_ISA(HW_FIND)
  return nullptr;
}

}  // namespace headway

extern "C" {

int32_t hw_abi(void) { return HW_ABI; }

const char* hw_compiled(void) {
#define HW_NAME(name, runs) #name " "
  static const std::string names = [] {
    std::string all = HW_EACH_ISA(HW_NAME);
    all.pop_back();
    return all;
  }();
  return names.c_str();
}

int32_t hw_supported(const char* isa) { return headway::find_kernels(isa) != nullptr; }

hw_pool* hw_pool_create(int32_t threads, const int32_t* cpus) {
  try {
    return new hw_pool{{threads, cpus}};
  } catch (const std::exception&) {
    return nullptr;
  }
}

void hw_pool_destroy(hw_pool* pool) { delete pool; }

hw_program* hw_program_create(hw_pool* pool, const char* isa, const hw_op* ops, int32_t num_ops,
                              const hw_matrix* matrices, int32_t num_matrices,
                              const hw_buffer* buffers, int32_t num_buffers, const hw_cache* cache,
                              char* message, int32_t message_bytes) {
  const headway::Kernels* kernels = headway::find_kernels(isa);
  std::string problem = "no kernels for this instruction set on this processor";
  try {
    if (kernels != nullptr) {
      return new hw_program{{pool->pool,
                             *kernels,
                             {ops, ops + num_ops},
                             {matrices, matrices + num_matrices},
                             {buffers, buffers + num_buffers},
                             *cache}};
    }
  } catch (const std::exception& error) {
    problem = error.what();
  }
  std::snprintf(message, static_cast<size_t>(message_bytes), "%s", problem.c_str());
  return nullptr;
}

void hw_program_destroy(hw_program* program) { delete program; }

int32_t hw_program_run(hw_program* program, const hw_step* step, double* seconds) {
  try {
    program->program.run(*step, seconds);
    return 0;
  } catch (const std::exception&) {
    return -1;
  }
}

double hw_measure_flops(hw_pool* pool, const char* isa, int32_t format, double seconds) {
  const headway::Kernels* kernels = headway::find_kernels(isa);
  if (kernels == nullptr || format < HW_FLOAT32 || format > HW_INT4) return -1;
  return headway::measure_flops(pool->pool, *kernels, format, seconds);
}

double hw_measure_bandwidth(hw_pool* pool, const char* isa, int64_t bytes, double seconds) {
  const headway::Kernels* kernels = headway::find_kernels(isa);
  if (kernels == nullptr || bytes < (1 << 20)) return -1;
  try {
    return headway::measure_bandwidth(pool->pool, *kernels, bytes, seconds);
  } catch (const std::exception&) {
    return -1;
  }
}

int32_t hw_program_read(const hw_program* program, int32_t buffer, float* out) {
  try {
    program->program.read(buffer, out);
    return 0;
  } catch (const std::exception&) {
    return -1;
  }
}

int32_t hw_sample(const char* isa, const float* logits, int64_t vocab_size,
                  const hw_sampling* sampling, hw_sampled_token* sampled) {
  const headway::Kernels* kernels = headway::find_kernels(isa);
  if (kernels == nullptr) return -1;
  try {
    headway::Memory scratch;
    scratch.reserve(kernels->sample_scratch_bytes(vocab_size));
    kernels->sample(logits, vocab_size, *sampling, sampled, scratch.data());
    return 0;
  } catch (const std::exception&) {
    return -1;
  }
}

int32_t hw_program_logits(hw_program* program, float* out) {
  try {
    program->program.logits(out);
    return 0;
  } catch (const std::exception&) {
    return -1;
  }
}

}  // extern "C"
