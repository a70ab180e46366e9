// Portable SIMD (GCC vector types), e^x and activations; memory for weights and cache.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <list>
#include <new>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif
#include <sys/mman.h>

namespace {

#if defined(__AVX512F__)
constexpr int V = 16, FLOAT_TOKENS = 12, INT8_TOKENS = 6, REGISTERS = 24;
#elif defined(__AVX2__)
constexpr int V = 8, FLOAT_TOKENS = 6, INT8_TOKENS = 2, REGISTERS = 12;
#elif defined(__aarch64__)
constexpr int V = 4, FLOAT_TOKENS = 8, INT8_TOKENS = 4, REGISTERS = 16;
#else
constexpr int V = 4, FLOAT_TOKENS = 4, INT8_TOKENS = 2, REGISTERS = 8;
#endif
constexpr int PANEL = 2 * V;  // output rows of a panel

typedef float vf __attribute__((vector_size(V * 4)));
typedef int32_t vi __attribute__((vector_size(V * 4)));
typedef uint32_t vu __attribute__((vector_size(V * 4)));
typedef uint16_t vh __attribute__((vector_size(V * 2)));

#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define INLINE inline __attribute__((always_inline))

template <class T, class P>
INLINE T load(const P* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
INLINE void store(float* p, vf v) { std::memcpy(p, &v, sizeof v); }
INLINE vf splat(float x) { return x - vf{}; }
INLINE vi splat(int32_t x) { return x - vi{}; }
INLINE vf low_half(vu pair) { return (vf)(pair << 16); }  // of two bfloat16 in a lane
INLINE vf high_half(vu pair) { return (vf)(pair & 0xffff0000u); }

INLINE vf floats(const float* p) { return load<vf>(p); }
INLINE vf floats(const uint16_t* p) {
  return (vf)(__builtin_convertvector(load<vh>(p), vu) << 16);
}

INLINE float total(vf v) {  // always the same tree
  float lanes[V];
  store(lanes, v);
  for (int width = V / 2; width; width /= 2)
    for (int i = 0; i < width; i++) lanes[i] += lanes[i + width];
  return lanes[0];
}

INLINE float from_bf16(uint16_t bits) {
  uint32_t wide = uint32_t(bits) << 16;
  float value;
  std::memcpy(&value, &wide, 4);
  return value;
}

INLINE uint16_t to_bf16(float value) {  // to nearest, ties to even; NaN stays NaN
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return uint16_t(bits >> 16 | 0x40);
  return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

INLINE void put(float* p, float value) { *p = value; }
INLINE void put(uint16_t* p, float value) { *p = to_bf16(value); }

// e^x as 2^n e^r with a polynomial for |r| <= ln(2)/2 (Cephes expf; relative error below 2e-7).
INLINE vf exponential(vf x) {
  x = x < -87.0f ? splat(-87.0f) : x;
  x = x > 88.0f ? splat(88.0f) : x;
  vf n = (x * 1.44269504f + 12582912.0f) - 12582912.0f;
  vf r = x - n * 0.693359375f + n * 2.12194440e-4f;
  vf p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  return p * (vf)((__builtin_convertvector(n, vi) + 127) << 23);
}

enum Activation { SILU, GELU, GELU_TANH, RELU2 };

INLINE vf activated(vf x, int activation) {
  if (activation == SILU) return x / (1.0f + exponential(-x));
  if (activation == GELU_TANH)  // 0.5 x (1 + tanh(u)) = x / (1 + e^-2u)
    return x / (1.0f + exponential(-1.59576912f * (x + 0.044715f * x * x * x)));
  if (activation == RELU2) {
    vf positive = x < 0.0f ? vf{} : x;
    return positive * positive;
  }
  for (int i = 0; i < V; i++) x[i] = 0.5f * x[i] * (1.0f + std::erf(x[i] * 0.70710678f));
  return x;
}

// Memory for weights and cache: zero, aligned, in huge pages where the system has them.  It takes
// pages from the system only when they are touched.
struct Memory {
  uint8_t* data = nullptr;
  Memory() = default;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() {
    if (base_) munmap(base_, size_);
  }
  void allocate(size_t bytes) {
    constexpr size_t huge = 1u << 21;
    size_ = bytes + huge + 4096;  // kernels may load a little beyond the end
    void* found = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (found == MAP_FAILED) throw std::bad_alloc();
    base_ = static_cast<uint8_t*>(found);
    data = base_ + (huge - reinterpret_cast<uintptr_t>(base_) % huge) % huge;
#if defined(__linux__)
    if (bytes >= huge) madvise(data, size_ - size_t(data - base_), MADV_HUGEPAGE);
#endif
  }

 private:
  uint8_t* base_ = nullptr;
  size_t size_ = 0;
};

// Memory for many small things that lie and go together: a matrix alone would fill no huge page, and
// with small pages a step of 16 MB of weights misses the page tables at every 4 KB.
class Arena {
 public:
  uint8_t* take(size_t bytes) {
    constexpr size_t slab = 1u << 26;
    bytes = (bytes + 127) / 128 * 128;
    if (bytes > left_) {
      slabs_.emplace_back();
      left_ = std::max(bytes, slab);
      slabs_.back().allocate(left_);
      next_ = slabs_.back().data;
    }
    uint8_t* taken = next_;
    next_ += bytes, left_ -= bytes;
    return taken;
  }

 private:
  std::list<Memory> slabs_;
  uint8_t* next_ = nullptr;
  size_t left_ = 0;
};

}  // namespace
