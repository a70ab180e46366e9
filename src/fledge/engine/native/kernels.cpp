// The decoder on a CPU: tokens of several sequences in, logits out.  Read it from top to bottom.
//
//   1 vectors        portable SIMD (GCC vector types), exp and activations
//   2 team           threads that help through the phases of a step, spin a little, then sleep
//   3 matrices       weights packed in panels; micro-kernels for float32, bfloat16 and int8
//   4 model          what is loaded, and the paged cache of keys and values
//   5 attention      one query tile against the blocks of its sequence
//   6 step           the phases of a forward pass
//   7 C interface    for ctypes
//
// Every number of a row is reduced in an order that depends on its own position only: products over
// k = 0, 1, 2, ..., attention over positions in order.  What is computed beside it, how the prompt
// was cut, where its blocks lie and how many threads there are changes no bit of it.
//
// Letters: N tokens of a step, D width, H heads, K kv-heads, G = H/K, d head size, V lanes.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <mutex>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif
#include <sys/mman.h>

namespace {

// ------------------------------------------------------------------------------------ 1 vectors

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

// --------------------------------------------------------------------------------------- 2 team

INLINE void relax() {
#if defined(__x86_64__) || defined(__i386__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

struct Step;
typedef void (*Work)(Step&, int layer, int chunk);

// Chunks that may be computed in any order, then ``tail``, by whoever finished the last chunk.
struct Phase {
  Work work;
  int layer, chunks;
  Work tail = nullptr;
  int tail_layer = 0;
};

// The calling thread goes through the phases of a step; the others help where they can.  Chunks are
// claimed one by one, so a thread that the system took off its core is waited for only if it holds
// a chunk; one that is late finds the step over and goes back to sleep.  Both counters bear the
// number of the step in their upper half: a late thread cannot touch those of the next step.
class Team {
 public:
  explicit Team(int threads, int phases) : gates_(phases + 1) {
    for (int i = 1; i < threads; i++) helpers_.emplace_back([this] { help(); });
  }

  ~Team() {
    stop_ = true;
    epoch_++;
    wake();
    for (auto& helper : helpers_) helper.join();
  }

  int threads() const { return int(helpers_.size()) + 1; }

  void run(Step& step, const std::vector<Phase>& phases) {
    if (helpers_.empty()) {
      for (const Phase& phase : phases) {
        for (int chunk = 0; chunk < phase.chunks; chunk++) phase.work(step, phase.layer, chunk);
        if (phase.tail) phase.tail(step, phase.tail_layer, 0);
      }
      return;
    }
    uint64_t epoch = epoch_.load() + 1;
    step_ = &step;
    phases_ = phases.data();
    for (size_t i = 0; i < phases.size(); i++) {
      gates_[i].unclaimed = epoch << 32 | uint32_t(phases[i].chunks);
      gates_[i].unfinished = epoch << 32 | uint32_t(phases[i].chunks + 1);  // + 1: the tail
    }
    gates_[phases.size()].unclaimed = 0;
    epoch_ = epoch;
    wake();
    go_through(epoch);
  }

 private:
  struct alignas(128) Gate {
    std::atomic<uint64_t> unclaimed{0};
    alignas(64) std::atomic<uint64_t> unfinished{0};
  };

  void help() {
    for (uint64_t seen = 0;;) {
      wait([&] { return epoch_.load() != seen; });
      if (stop_) return;
      seen = epoch_.load();
      go_through(seen);
    }
  }

  void go_through(uint64_t epoch) {
    for (size_t i = 0;; i++) {
      Gate& gate = gates_[i];
      for (;;) {
        uint64_t left = gate.unclaimed.load();
        if (left >> 32 != (epoch & 0xffffffffu)) return;  // after the last phase, or late
        if (!uint32_t(left)) break;
        if (!gate.unclaimed.compare_exchange_weak(left, left - 1)) continue;
        const Phase& phase = phases_[i];
        phase.work(*step_, phase.layer, phase.chunks - int(uint32_t(left)));
        if (uint32_t(gate.unfinished.fetch_sub(1)) == 2) {
          if (phase.tail) phase.tail(*step_, phase.tail_layer, 0);
          gate.unfinished.fetch_sub(1);
          wake();
        }
      }
      wait([&] {
        uint64_t left = gate.unfinished.load();
        return !uint32_t(left) || left >> 32 != (epoch & 0xffffffffu);
      });
    }
  }

  // Spin up to 50 microseconds, then sleep.  Who spun in vain spins half as long the next time.
  template <class Ready>
  void wait(Ready ready) {
    using clock = std::chrono::steady_clock;
    static thread_local int patience = 50'000;  // nanoseconds
    if (ready()) return;
    for (auto end = clock::now() + std::chrono::nanoseconds(patience); clock::now() < end;)
      for (int i = 0; i < 8; i++) {
        relax();
        if (ready()) {
          patience = std::min(50'000, patience * 2);
          return;
        }
      }
    patience = std::max(1'000, patience / 2);
    std::unique_lock<std::mutex> lock(mutex_);
    sleepers_++;  // before the condition is looked at: see wake
    changed_.wait(lock, ready);
    sleepers_--;
  }

  void wake() {  // after a change of what others wait for
    if (!sleepers_.load()) return;
    { std::lock_guard<std::mutex> lock(mutex_); }
    changed_.notify_all();
  }

  std::vector<Gate> gates_;
  std::vector<std::thread> helpers_;
  std::atomic<uint64_t> epoch_{0};
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  Step* step_ = nullptr;
  const Phase* phases_ = nullptr;
};

// ----------------------------------------------------------------------------------- 3 matrices

enum Kind { FLOAT32, BFLOAT16, INT8 };
constexpr int GROUP = 32;  // inputs that share a scale in int8

#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)
constexpr int OFFSET = 128;  // the instruction multiplies unsigned by signed: w + 128 is stored
#else
constexpr int OFFSET = 0;
#endif

// Outputs in panels of PANEL rows, a panel contiguous and in the order in which it is used:
//   float32   for each k: PANEL numbers
//   bfloat16  for each k: V pairs (row i, row i + V)
//   int8      for each group of 32 k: 8 quads of k x PANEL rows x 4 bytes; V pairs of scales
struct Matrix {
  int rows = 0, cols = 0, kind = 0, panels = 0, groups = 0;
  size_t panel_bytes = 0;
  Memory memory;
  std::vector<float> bias;  // (panels * PANEL), or empty

  void allocate(int rows_, int cols_, int kind_) {
    rows = rows_, cols = cols_, kind = kind_;
    panels = (rows + PANEL - 1) / PANEL;
    groups = (cols + GROUP - 1) / GROUP;
    size_t each = kind == INT8 ? size_t(groups) * (GROUP * PANEL + 2 * PANEL)
                               : size_t(cols) * PANEL * (kind == FLOAT32 ? 4 : 2);
    panel_bytes = each;
    memory.allocate(each * panels);
  }
  const uint8_t* panel(int p) const { return memory.data + panel_bytes * p; }

  void set_row(int row, const float* w) {
    uint8_t* base = memory.data + panel_bytes * (row / PANEL);
    int lane = row % PANEL, pair = lane % V * 2 + lane / V;
    if (kind == FLOAT32)
      for (int k = 0; k < cols; k++) reinterpret_cast<float*>(base)[k * PANEL + lane] = w[k];
    if (kind == BFLOAT16)
      for (int k = 0; k < cols; k++)
        reinterpret_cast<uint16_t*>(base)[k * PANEL + pair] = to_bf16(w[k]);
    if (kind == INT8)
      for (int g = 0; g < groups; g++, base += GROUP * PANEL + 2 * PANEL) {
        int count = std::min(GROUP, cols - g * GROUP);
        set_group(base, lane, pair, w + g * GROUP, count);
      }
  }

 private:
  // The scale is rounded up to bfloat16 before the weights are divided by it: nothing is lost.
  void set_group(uint8_t* base, int lane, int pair, const float* w, int count) {
    float largest = 0;
    for (int k = 0; k < count; k++) largest = std::max(largest, std::fabs(w[k]));
    uint16_t bits = to_bf16(largest / 127.0f);
    if (from_bf16(bits) * 127.0f < largest) bits++;
    float inverse = bits ? 1.0f / from_bf16(bits) : 0.0f;
    for (int k = 0; k < GROUP; k++) {
      float q = k < count ? std::nearbyint(w[k] * inverse) : 0.0f;
      base[(k / 4 * PANEL + lane) * 4 + k % 4] =
          uint8_t(int(std::max(-127.0f, std::min(127.0f, q))) + OFFSET);
    }
    reinterpret_cast<uint16_t*>(base + GROUP * PANEL)[pair] = bits;
  }
};

// N rows cut into equal blocks of at most ``most``: what a micro-kernel takes at once.
struct Cut {
  int n = 0, count = 0;
  Cut() = default;
  Cut(int n_, int most) : n(n_), count((n_ + most - 1) / most) {}
  int start(int block) const { return int(int64_t(block) * n / count); }
};

// Activations as the micro-kernels read them, block by block.  float32: for each k the block's
// tokens.  int8: for each quad of k the block's tokens x 4 bytes, and for each group the tokens'
// scales and minus OFFSET times the sums.
struct Packed {
  Cut cut;
  int cols = 0, kind = 0, groups = 0;
  std::vector<float> values, scales;
  std::vector<int8_t> bytes;
  std::vector<int32_t> sums;

  void reshape(int n, int cols_, int kind_) {
    cols = cols_, kind = kind_, groups = (cols + GROUP - 1) / GROUP;
    cut = Cut(n, kind == INT8 ? INT8_TOKENS : FLOAT_TOKENS);
    size_t count = size_t(n) * groups;
    if (kind != INT8 && values.size() < size_t(n) * cols) values.resize(size_t(n) * cols);
    if (kind == INT8 && bytes.size() < count * GROUP) {
      bytes.resize(count * GROUP);
      scales.resize(count);
      sums.resize(count);
    }
  }

  // Token ``t`` of the block: x (cols, then zeros up to a whole group).
  void set(int block, int t, const float* x) {
    int first = cut.start(block), m = cut.start(block + 1) - first, j = t - first;
    if (kind != INT8) {
      float* out = values.data() + size_t(first) * cols + j;
      for (int k = 0; k < cols; k++) out[size_t(k) * m] = x[k];
      return;
    }
    int8_t* out = bytes.data() + size_t(first) * groups * GROUP + j * 4;
    size_t at = size_t(first) * groups + j;
    for (int g = 0; g < groups; g++, at += m) {
      const float* from = x + g * GROUP;
      vf most = {}, wrong = {};
      for (int i = 0; i < GROUP; i += V) {
        vf v = load<vf>(from + i), magnitude = v < 0.0f ? -v : v;
        most = magnitude > most ? magnitude : most;
        wrong += v - v;  // NaN where v is not finite: it must not become a number
      }
      float largest = 0;
      for (int l = 0; l < V; l++) largest = std::max(largest, most[l]);
      float inverse = largest > 0 ? 127.0f / largest : 0.0f;
      int32_t q[GROUP], sum = 0;
      for (int i = 0; i < GROUP; i += V) {
        vf scaled = load<vf>(from + i) * inverse;
        vi rounded = __builtin_convertvector((scaled + 12582912.0f) - 12582912.0f, vi);
        std::memcpy(q + i, &rounded, sizeof rounded);
      }
      for (int i = 0; i < GROUP; i++) sum += q[i];
      for (int i = 0; i < GROUP; i += 4) {
        uint32_t quad = (q[i] & 255u) | (q[i + 1] & 255u) << 8 | (q[i + 2] & 255u) << 16 |
                        uint32_t(q[i + 3]) << 24;
        std::memcpy(out + size_t(i) * m, &quad, 4);
      }
      out += size_t(GROUP) * m;
      scales[at] = largest / 127.0f + total(wrong);
      sums[at] = -OFFSET * sum;
    }
  }
};

constexpr int AHEAD = 1024;  // bytes prefetched beyond what is used

// M tokens x P panels.  x: for each k M numbers; out (P,M,PANEL).
template <int M, int P>
void tile_float32(const uint8_t* panel, size_t next, const Packed& act, int block, float* out) {
  const float* x = act.values.data() + size_t(act.cut.start(block)) * act.cols;
  vf sum[P][M][2] = {};
  const float* w[P];
  for (int p = 0; p < P; p++) w[p] = reinterpret_cast<const float*>(panel + p * next);
  for (int k = 0; k < act.cols; k++, x += M) {
    vf w0[P], w1[P];
    UNROLL for (int p = 0; p < P; p++) {
      w0[p] = load<vf>(w[p] + k * PANEL);
      w1[p] = load<vf>(w[p] + k * PANEL + V);
      __builtin_prefetch(reinterpret_cast<const char*>(w[p] + k * PANEL) + AHEAD);
      if (V == 16) __builtin_prefetch(reinterpret_cast<const char*>(w[p] + k * PANEL) + AHEAD + 64);
    }
    UNROLL for (int m = 0; m < M; m++) {
      vf b = splat(x[m]);
      UNROLL for (int p = 0; p < P; p++) {
        sum[p][m][0] += w0[p] * b;
        sum[p][m][1] += w1[p] * b;
      }
    }
  }
  UNROLL for (int p = 0; p < P; p++) UNROLL for (int m = 0; m < M; m++) {
    store(out + (p * M + m) * PANEL, sum[p][m][0]);
    store(out + (p * M + m) * PANEL + V, sum[p][m][1]);
  }
}

// As above: bfloat16 becomes float32 by a shift, the sum is the same on every machine.  (The bf16
// dot instruction runs at half the rate of float32 on Sapphire Rapids without AMX.)
template <int M, int P>
void tile_bfloat16(const uint8_t* panel, size_t next, const Packed& act, int block, float* out) {
  const float* x = act.values.data() + size_t(act.cut.start(block)) * act.cols;
  vf sum[P][M][2] = {};
  const uint32_t* w[P];
  for (int p = 0; p < P; p++) w[p] = reinterpret_cast<const uint32_t*>(panel + p * next);
  for (int k = 0; k < act.cols; k++, x += M) {
    vf w0[P], w1[P];
    UNROLL for (int p = 0; p < P; p++) {
      vu pair = load<vu>(w[p] + k * V);
      w0[p] = low_half(pair);
      w1[p] = high_half(pair);
      __builtin_prefetch(reinterpret_cast<const char*>(w[p] + k * V) + AHEAD);
    }
    UNROLL for (int m = 0; m < M; m++) {
      vf b = splat(x[m]);
      UNROLL for (int p = 0; p < P; p++) {
        sum[p][m][0] += w0[p] * b;
        sum[p][m][1] += w1[p] * b;
      }
    }
  }
  UNROLL for (int p = 0; p < P; p++) UNROLL for (int m = 0; m < M; m++) {
    store(out + (p * M + m) * PANEL, sum[p][m][0]);
    store(out + (p * M + m) * PANEL + V, sum[p][m][1]);
  }
}

// sum + the dot products of V rows' quads of weights with one quad of activations.
INLINE vi dot(vi sum, vi w, int32_t quad) {
#if defined(__AVX512VNNI__)
  return (vi)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)w, _mm512_set1_epi32(quad));
#elif defined(__AVXVNNI__)
  return (vi)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)w, _mm256_set1_epi32(quad));
#elif defined(__AVX2__)
  __m256i x = _mm256_sign_epi8(_mm256_set1_epi32(quad), (__m256i)w);
  __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8((__m256i)w), x);
  return sum + (vi)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
#else
  vi x = splat(quad);
  for (int shift = 24; shift >= 0; shift -= 8) sum += ((w << shift) >> 24) * ((x << shift) >> 24);
  return sum;
#endif
}

template <int M, int P>
void tile_int8(const uint8_t* panel, size_t next, const Packed& act, int block, float* out) {
  size_t first = size_t(act.cut.start(block)) * act.groups;
  const int8_t* x = act.bytes.data() + first * GROUP;
  const float* scales = act.scales.data() + first;
  const int32_t* sums = act.sums.data() + first;
  vf sum[P][M][2] = {};
  for (int g = 0; g < act.groups; g++, scales += M, sums += M) {
    vi part[P][M][2];
    UNROLL for (int m = 0; m < M; m++) UNROLL for (int p = 0; p < P; p++)
        part[p][m][0] = part[p][m][1] = splat(sums[m]);
    UNROLL for (int quad = 0; quad < GROUP / 4; quad++, x += 4 * M) {
      UNROLL for (int p = 0; p < P; p++) {
        const uint8_t* w = panel + p * next + quad * PANEL * 4;
        vi w0 = load<vi>(w), w1 = load<vi>(w + V * 4);
        for (int line = 0; line < PANEL * 4; line += 64) __builtin_prefetch(w + AHEAD + line);
        UNROLL for (int m = 0; m < M; m++) {
          int32_t b = load<int32_t>(x + 4 * m);
          part[p][m][0] = dot(part[p][m][0], w0, b);
          part[p][m][1] = dot(part[p][m][1], w1, b);
        }
      }
    }
    UNROLL for (int p = 0; p < P; p++) {
      vu pair = load<vu>(panel + p * next + GROUP * PANEL);
      vf s0 = low_half(pair), s1 = high_half(pair);
      UNROLL for (int m = 0; m < M; m++) {
        vf b = splat(scales[m]);
        sum[p][m][0] += __builtin_convertvector(part[p][m][0], vf) * (s0 * b);
        sum[p][m][1] += __builtin_convertvector(part[p][m][1], vf) * (s1 * b);
      }
    }
    panel += GROUP * PANEL + 2 * PANEL;
  }
  UNROLL for (int p = 0; p < P; p++) UNROLL for (int m = 0; m < M; m++) {
    store(out + (p * M + m) * PANEL, sum[p][m][0]);
    store(out + (p * M + m) * PANEL + V, sum[p][m][1]);
  }
}

typedef void (*Tile)(const uint8_t*, size_t, const Packed&, int, float*);

// The micro-kernel for m tokens x p panels (1, 2 or 4); null where registers do not suffice.
template <int M, int P>
constexpr Tile tile_of(int kind) {
  constexpr bool floats_fit = M <= FLOAT_TOKENS && (P == 1 || 2 * M * P <= REGISTERS);
  constexpr bool int8_fits = M <= INT8_TOKENS && (P == 1 || 4 * M * P <= REGISTERS);
  if constexpr (int8_fits)
    if (kind == INT8) return tile_int8<M, P>;
  if constexpr (floats_fit) {
    if (kind == FLOAT32) return tile_float32<M, P>;
    if (kind == BFLOAT16) return tile_bfloat16<M, P>;
  }
  return nullptr;
}

struct Tiles {
  Tile of[3][FLOAT_TOKENS + 1][5] = {};
  template <size_t... M>
  explicit Tiles(std::index_sequence<M...>) {
    for (int kind = 0; kind < 3; kind++)
      ((of[kind][M + 1][1] = tile_of<M + 1, 1>(kind), of[kind][M + 1][2] = tile_of<M + 1, 2>(kind),
        of[kind][M + 1][4] = tile_of<M + 1, 4>(kind)),
       ...);
  }
};
const Tiles TILES{std::make_index_sequence<FLOAT_TOKENS>{}};

// out (count,M,PANEL) = the products of ``count`` panels (4 at most) with a block of activations.
void multiply(const Matrix& w, int panel, int count, const Packed& act, int block, float* out) {
  int m = act.cut.start(block + 1) - act.cut.start(block);
  while (count > 0) {
    int p = count >= 4 ? 4 : count >= 2 ? 2 : 1;
    while (!TILES.of[w.kind][m][p]) p /= 2;
    TILES.of[w.kind][m][p](w.panel(panel), w.panel_bytes, act, block, out);
    panel += p, count -= p, out += p * m * PANEL;
  }
}

// --------------------------------------------------------------------------------------- 4 model

struct Shape {  // as the class of this name in library.py
  int32_t vocabulary, width, depth, heads, kv_heads, head_size, ffn, positions;
  int32_t qk_norm, gated, activation, kind, kv_bfloat16, block_size, blocks, threads;
  float norm_eps, softcap;
};

struct Layer {
  Matrix qkv, out, up, down;  // ``up``: panels of gate and up in turn
  std::vector<float> norm1, norm2, q_norm, k_norm;
  int window = 0;  // 0: all
};

int round_up(int n, int to) { return (n + to - 1) / to * to; }

// The cache of a block: for each layer and kv-head keys (d, slots) and values (block size, dims);
// both in float32 or bfloat16.  Slots and dims are padded to whole vectors.
struct Model {
  Shape s;
  std::vector<Layer> layers;
  Matrix head;
  std::vector<float> norm, cos, sin;  // cos, sin (positions, d/2)
  Memory embedding;                   // (V,D) float32, or bfloat16 unless kind is FLOAT32
  Memory cache;
  int slots, dims;
  size_t head_items, layer_items, block_items;  // numbers of a kv-head, a layer, a block
  std::vector<float> spare;
  Team team;
  std::mutex busy;
  Step* step = nullptr;

  explicit Model(const Shape& shape)
      : s(shape), layers(shape.depth), team(shape.threads, shape.depth * 10 + 8) {
    int q = s.heads * s.head_size, kv = s.kv_heads * s.head_size;
    int inner = round_up(s.ffn, PANEL);
    for (Layer& layer : layers) {
      layer.qkv.allocate(q + 2 * kv, s.width, s.kind);
      layer.out.allocate(s.width, q, s.kind);
      layer.up.allocate(inner * (s.gated ? 2 : 1), s.width, s.kind);
      layer.down.allocate(s.width, s.ffn, s.kind);
      layer.norm1.assign(s.width, 1), layer.norm2.assign(s.width, 1);
      layer.q_norm.assign(s.head_size, 1), layer.k_norm.assign(s.head_size, 1);
    }
    head.allocate(s.vocabulary, s.width, s.kind);
    norm.assign(s.width, 1);
    embedding.allocate(size_t(s.vocabulary) * s.width * (s.kind == FLOAT32 ? 4 : 2));
    slots = round_up(s.block_size, V);
    dims = round_up(s.head_size, V);
    head_items = size_t(s.head_size) * slots + size_t(s.block_size) * dims;
    layer_items = head_items * s.kv_heads;
    block_items = layer_items * s.depth;
    cache.allocate(block_items * s.blocks * item_bytes());
  }

  size_t item_bytes() const { return s.kv_bfloat16 ? 2 : 4; }
  template <class T>
  T* keys(int block, int layer, int head) {
    return reinterpret_cast<T*>(cache.data) + block_items * block + layer_items * layer +
           head_items * head;
  }
  template <class T>
  T* values(int block, int layer, int head) {
    return keys<T>(block, layer, head) + size_t(s.head_size) * slots;
  }
};

// ----------------------------------------------------------------------------------- 5 attention

struct Piece {
  int first, length, start, rows, blocks;  // ``first``: its row in the step; ``rows`` of logits
  const int32_t* table;
};

struct Item {  // tokens t0 .. t1 of a piece, one kv-head
  int piece, head, t0, t1;
};

constexpr int QUERIES = 8;  // rows (token, head) that share what is read of the cache

// Scores of R queries with C chunks of V positions: out[r][0 .. C*V].
template <int R, int C, class T>
INLINE void score(const float* const* q, const T* const* k, int d, int slots, float* const* out,
                  const int* at) {
  vf sum[R][C] = {};
  for (int i = 0; i < d; i++) {
    vf key[C];
    UNROLL for (int c = 0; c < C; c++) key[c] = floats(k[c] + size_t(i) * slots);
    UNROLL for (int r = 0; r < R; r++) {
      vf b = splat(q[r][i]);
      UNROLL for (int c = 0; c < C; c++) sum[r][c] += key[c] * b;
    }
  }
  UNROLL for (int r = 0; r < R; r++) UNROLL for (int c = 0; c < C; c++)
      store(out[r] + at[c], sum[r][c]);
}

// e^(s - max) in place for the positions begin .. end, zero elsewhere between lo and hi; the sum.
float soften(float* s, int lo, int begin, int end, int hi) {
  vf sum = {}, most = splat(s[begin]);
  int full = end - (end - begin) % V;
  for (int i = begin; i < full; i += V) {
    vf v = load<vf>(s + i);
    most = v > most ? v : most;
  }
  float largest = s[begin];
  for (int l = 0; l < V; l++) largest = std::max(largest, most[l]);
  for (int i = full; i < end; i++) largest = std::max(largest, s[i]);
  vi lane;
  for (int l = 0; l < V; l++) lane[l] = l;
  for (int i = begin; i < end; i += V) {
    vf e = exponential(load<vf>(s + i) - largest);
    if (i + V > end) e = lane < end - i ? e : vf{};
    store(s + i, e);
    sum += e;
  }
  std::fill(s + lo, s + begin, 0.0f);
  if (end < hi) std::fill(s + end, s + hi, 0.0f);
  return total(sum);
}

// Sum over positions lo .. hi of weight x value, for R queries and C vectors of dimensions.
template <int R, int C, class T>
INLINE void mix(Model& m, const Piece& piece, int layer, int head, const float* const* p, int lo,
                int hi, int dim, float* const* out) {
  vf sum[R][C] = {};
  for (int at = lo; at < hi;) {
    int block = at / m.s.block_size, stop = std::min(hi, (block + 1) * m.s.block_size);
    const T* v = m.values<T>(piece.table[block], layer, head) + dim +
                 size_t(at - block * m.s.block_size) * m.dims;
    for (; at < stop; at++, v += m.dims) {
      vf value[C];
      UNROLL for (int c = 0; c < C; c++) value[c] = floats(v + c * V);
      UNROLL for (int r = 0; r < R; r++) {
        vf b = splat(p[r][at]);
        UNROLL for (int c = 0; c < C; c++) sum[r][c] += value[c] * b;
      }
    }
  }
  UNROLL for (int r = 0; r < R; r++) UNROLL for (int c = 0; c < C; c++)
      store(out[r] + dim + c * V, sum[r][c]);
}

struct Query {
  const float* q;
  float* out;
  int begin, end;  // positions it sees
};

// Attention of R queries of one piece and kv-head.
template <int R, class T>
void attend(Model& m, const Piece& piece, int layer, int head, const Query* queries, float* spare,
            int length) {
  constexpr int C = R == 1 ? 4 : R <= 4 ? 2 : 1;
  const float* q[R];
  float *scores[R], *mixed[R], sums[R];
  int lo = queries[0].begin, hi = queries[0].end, d = m.s.head_size;
  for (int r = 0; r < R; r++) {
    q[r] = queries[r].q;
    scores[r] = spare + size_t(r) * length;
    mixed[r] = spare + size_t(R) * length + r * m.dims;
    lo = std::min(lo, queries[r].begin), hi = std::max(hi, queries[r].end);
  }
  int each = m.slots / V, size = m.s.block_size;  // chunks of a block
  int chunk = lo / size * each, last = (hi - 1) / size * each + (hi - 1) % size / V;
  while (chunk <= last) {
    const T* k[C];
    int at[C], step = last - chunk + 1 >= C ? C : 1;
    for (int c = 0; c < step; c++) {
      int block = (chunk + c) / each, part = (chunk + c) % each * V;
      k[c] = m.keys<T>(piece.table[block], layer, head) + part;
      at[c] = block * size + part;
    }
    if (step == C)
      score<R, C, T>(q, k, d, m.slots, scores, at);
    else
      score<R, 1, T>(q, k, d, m.slots, scores, at);
    chunk += step;
  }
  const float* weights[R];
  for (int r = 0; r < R; r++) {
    sums[r] = soften(scores[r], lo, queries[r].begin, queries[r].end, hi);
    weights[r] = scores[r];
  }
  constexpr int wide = R <= 4 ? 4 : 2;
  int dim = 0;
  for (; dim + wide * V <= m.dims; dim += wide * V)
    mix<R, wide, T>(m, piece, layer, head, weights, lo, hi, dim, mixed);
  for (; dim < m.dims; dim += V)
    mix<R, 1, T>(m, piece, layer, head, weights, lo, hi, dim, mixed);
  for (int r = 0; r < R; r++)
    for (int i = 0; i < d; i++) queries[r].out[i] = mixed[r][i] / sums[r];
}

template <class T>
void attend_any(int rows, Model& m, const Piece& piece, int layer, int head, const Query* queries,
                float* spare, int length) {
  typedef void (*Function)(Model&, const Piece&, int, int, const Query*, float*, int);
  static const Function of[QUERIES] = {attend<1, T>, attend<2, T>, attend<3, T>, attend<4, T>,
                                       attend<5, T>, attend<6, T>, attend<7, T>, attend<8, T>};
  of[rows - 1](m, piece, layer, head, queries, spare, length);
}

// ---------------------------------------------------------------------------------------- 6 step

constexpr int TOKENS = 4;  // of a chunk of work by rows

// A forward pass.  In the last layer only the rows go on whose logits are wanted.
struct Step {
  Model& m;
  std::vector<Piece> pieces;
  std::vector<const Piece*> owner;      // of each row
  std::vector<int> position, wanted;    // of each row; rows whose logits are wanted
  std::vector<Item> items, last_items;  // of attention, in all layers and in the last
  std::vector<Phase> phases;
  std::vector<float> x, last_x, qkv, mixed, inner;  // (N, ...)
  Packed wide[2], heads[2], ffn[2];  // packed inputs of D, H*d, ffn columns; [1]: of wanted rows
  const int32_t* tokens = nullptr;
  float* logits = nullptr;
  int n = 0, longest = 0;
  int qkv_size, mixed_size, inner_size, width_size;

  explicit Step(Model& model) : m(model) {
    qkv_size = round_up((m.s.heads + 2 * m.s.kv_heads) * m.s.head_size, PANEL);
    mixed_size = round_up(m.s.heads * m.s.head_size, GROUP);
    inner_size = round_up(m.s.ffn, std::max(PANEL, GROUP));
    width_size = round_up(m.s.width, std::max(PANEL, GROUP));
  }

  bool is_last(int layer) const { return layer == m.s.depth - 1; }
  float* residual(int layer) { return is_last(layer) ? last_x.data() : x.data(); }
  int rows(int layer) const { return is_last(layer) ? int(wanted.size()) : n; }
};

thread_local std::vector<float> scratch;

float* scratch_of(size_t size) {
  if (scratch.size() < size) scratch.resize(size);
  return scratch.data();
}

// x / rms(x) * weight (arXiv:1910.07467)
void normalise(const float* x, const float* weight, int n, float eps, float* out) {
  vf sum = {};
  int i = 0;
  for (; i + V <= n; i += V) {
    vf v = load<vf>(x + i);
    sum += v * v;
  }
  float square = total(sum);
  for (; i < n; i++) square += x[i] * x[i];
  float scale = 1.0f / std::sqrt(square / float(n) + eps);
  for (i = 0; i < n; i++) out[i] = x[i] * scale * weight[i];
}

// Rows of token embeddings.
void embed(Step& s, int, int chunk) {
  int width = s.m.s.width;
  for (int t = chunk * TOKENS; t < std::min(s.n, (chunk + 1) * TOKENS); t++) {
    float* x = s.x.data() + size_t(t) * s.width_size;
    size_t at = size_t(s.tokens[t]) * width;
    if (s.m.s.kind == FLOAT32)
      std::memcpy(x, reinterpret_cast<float*>(s.m.embedding.data) + at, size_t(width) * 4);
    else
      for (int i = 0; i < width; i++)
        x[i] = from_bf16(reinterpret_cast<uint16_t*>(s.m.embedding.data)[at + i]);
  }
}

template <class Row>  // row(t) is what to pack, zero from its columns up to a whole group
void pack(Packed& act, int block, Row row) {
  for (int t = act.cut.start(block); t < act.cut.start(block + 1); t++) act.set(block, t, row(t));
}

void pack_normalised(Step& s, Packed& act, const float* x, const std::vector<float>& weight,
                     int block) {
  float* out = scratch_of(s.width_size);
  std::fill(out + s.m.s.width, out + s.width_size, 0.0f);
  pack(act, block, [&](int t) {
    normalise(x + size_t(t) * s.width_size, weight.data(), s.m.s.width, s.m.s.norm_eps, out);
    return out;
  });
}

// Each of the following packs one block of rows.
void norm_before_attention(Step& s, int layer, int chunk) {
  pack_normalised(s, s.wide[0], s.x.data(), s.m.layers[layer].norm1, chunk);
}

void norm_before_ffn(Step& s, int layer, int chunk) {
  pack_normalised(s, s.wide[s.is_last(layer)], s.residual(layer), s.m.layers[layer].norm2, chunk);
}

void norm_before_head(Step& s, int, int chunk) {
  pack_normalised(s, s.wide[1], s.last_x.data(), s.m.norm, chunk);
}

void pack_mixed(Step& s, int layer, int chunk) {
  bool last = s.is_last(layer);
  pack(s.heads[last], chunk, [&](int t) {
    int from = last ? s.wanted[t] : t;
    if (last)
      std::memcpy(s.last_x.data() + size_t(t) * s.width_size,
                  s.x.data() + size_t(from) * s.width_size, size_t(s.m.s.width) * 4);
    return s.mixed.data() + size_t(from) * s.mixed_size;
  });
}

void pack_inner(Step& s, int layer, int chunk) {
  pack(s.ffn[s.is_last(layer)], chunk,
       [&](int t) { return s.inner.data() + size_t(t) * s.inner_size; });
}

// A matrix product's chunks: ``panels`` of panels x ``blocks`` of blocks, all blocks of the same
// panels one after the other.
struct Grid {
  int panels, blocks, columns;
  Grid(const Step& s, const Matrix& w, const Packed& act) {
    int threads = s.m.team.threads(), wanted = threads == 1 ? 1 : threads * 4;
    panels = std::max(2, round_up((w.panels + wanted - 1) / wanted, 2));
    if (threads == 1 && act.cut.count > 1) panels = 2;
    blocks = act.cut.count <= 2 ? act.cut.count : 8;
    columns = (act.cut.count + blocks - 1) / blocks;
  }
  int chunks(const Matrix& w) const { return (w.panels + panels - 1) / panels * columns; }
};

// Calls sink(panel, count, first row, rows, products (count,rows,PANEL)) for a chunk.
template <class Sink>
void product(Step& s, const Matrix& w, const Packed& act, int chunk, Sink sink) {
  Grid grid(s, w, act);
  float out[4 * FLOAT_TOKENS * PANEL];
  int p0 = chunk / grid.columns * grid.panels, p1 = std::min(w.panels, p0 + grid.panels);
  int b0 = chunk % grid.columns * grid.blocks, b1 = std::min(act.cut.count, b0 + grid.blocks);
  int most = act.cut.count == 1 ? 4 : 2;
  for (int p = p0; p < p1; p += most)
    for (int b = b0; b < b1; b++) {
      int count = std::min(most, p1 - p), first = act.cut.start(b);
      multiply(w, p, count, act, b, out);
      sink(p, count, first, act.cut.start(b + 1) - first, out);
    }
}

INLINE vf biased(const Matrix& w, int panel, int i, vf v) {
  return w.bias.empty() ? v : v + load<vf>(w.bias.data() + panel * PANEL + i);
}

template <bool add>
void write(Step& s, const Matrix& w, const Packed& act, int chunk, float* y, int stride) {
  product(s, w, act, chunk, [&](int panel, int count, int first, int rows, const float* out) {
    for (int p = 0; p < count; p++)
      for (int r = 0; r < rows; r++, out += PANEL) {
        float* to = y + size_t(first + r) * stride + (panel + p) * PANEL;
        for (int i = 0; i < PANEL; i += V) {
          vf v = biased(w, panel + p, i, load<vf>(out + i));
          store(to + i, add ? load<vf>(to + i) + v : v);
        }
      }
  });
}

void project_qkv(Step& s, int layer, int chunk) {
  write<false>(s, s.m.layers[layer].qkv, s.wide[0], chunk, s.qkv.data(), s.qkv_size);
}

void project_out(Step& s, int layer, int chunk) {
  write<true>(s, s.m.layers[layer].out, s.heads[s.is_last(layer)], chunk, s.residual(layer), s.width_size);
}

void project_down(Step& s, int layer, int chunk) {
  write<true>(s, s.m.layers[layer].down, s.ffn[s.is_last(layer)], chunk, s.residual(layer), s.width_size);
}

// activation(gate) * up (arXiv:2002.05202), or activation(up)
void project_up(Step& s, int layer, int chunk) {
  const Matrix& w = s.m.layers[layer].up;
  int each = s.m.s.gated ? 2 : 1, activation = s.m.s.activation;
  const Packed& act = s.wide[s.is_last(layer)];
  product(s, w, act, chunk, [&](int panel, int count, int first, int rows, const float* out) {
    for (int p = 0; p < count; p += each)
      for (int r = 0; r < rows; r++)
        for (int i = 0; i < PANEL; i += V) {
          const float* at = out + (p * rows + r) * PANEL + i;
          vf v = activated(biased(w, panel + p, i, load<vf>(at)), activation);
          if (each == 2) v *= biased(w, panel + p + 1, i, load<vf>(at + rows * PANEL));
          store(s.inner.data() + size_t(first + r) * s.inner_size + (panel + p) / each * PANEL + i,
                v);
        }
  });
}

void project_head(Step& s, int, int chunk) {
  float cap = s.m.s.softcap;
  int vocabulary = s.m.s.vocabulary;
  product(s, s.m.head, s.wide[1], chunk,
          [&](int panel, int count, int first, int rows, float* out) {
            for (int p = 0; p < count; p++)
              for (int r = 0; r < rows; r++, out += PANEL) {
                int column = (panel + p) * PANEL, valid = std::min(PANEL, vocabulary - column);
                for (int i = 0; cap > 0 && i < PANEL; i += V) {  // cap tanh(x / cap)
                  vf e = exponential(load<vf>(out + i) * (2.0f / cap));
                  store(out + i, cap - 2.0f * cap / (e + 1.0f));
                }
                std::memcpy(s.logits + size_t(first + r) * vocabulary + column, out,
                            size_t(valid) * 4);
              }
          });
}

// Normalised per head, then turned by its position (arXiv:2104.09864); halves are pairs.
void turn(Step& s, float* head, const std::vector<float>& norm, int position, float scale) {
  int d = s.m.s.head_size, half = d / 2;
  if (s.m.s.qk_norm) normalise(head, norm.data(), d, s.m.s.norm_eps, head);
  const float* cos = s.m.cos.data() + size_t(position) * half;
  const float* sin = s.m.sin.data() + size_t(position) * half;
  for (int i = 0; i < half; i++) {
    float a = head[i], b = head[i + half];
    head[i] = (a * cos[i] - b * sin[i]) * scale;
    head[i + half] = (b * cos[i] + a * sin[i]) * scale;
  }
}

template <class T>
void remember(Step& s, int layer, int t) {
  const Shape& shape = s.m.s;
  const Piece& piece = *s.owner[t];
  int d = shape.head_size, position = s.position[t], slot = position % shape.block_size;
  int block = piece.table[position / shape.block_size];
  float* k = s.qkv.data() + size_t(t) * s.qkv_size + shape.heads * d;
  const float* v = k + shape.kv_heads * d;
  for (int h = 0; h < shape.kv_heads; h++, k += d, v += d) {
    turn(s, k, s.m.layers[layer].k_norm, position, 1.0f);
    T* keys = s.m.keys<T>(block, layer, h) + slot;
    T* values = s.m.values<T>(block, layer, h) + size_t(slot) * s.m.dims;
    for (int i = 0; i < d; i++) put(keys + size_t(i) * s.m.slots, k[i]);
    for (int i = 0; i < d; i++) put(values + i, v[i]);
  }
}

void turn_and_remember(Step& s, int layer, int chunk) {
  const Shape& shape = s.m.s;
  float scale = 1.0f / std::sqrt(float(shape.head_size));
  for (int t = chunk * TOKENS; t < std::min(s.n, (chunk + 1) * TOKENS); t++) {
    float* q = s.qkv.data() + size_t(t) * s.qkv_size;
    for (int h = 0; h < shape.heads; h++)
      turn(s, q + h * shape.head_size, s.m.layers[layer].q_norm, s.position[t], scale);
    shape.kv_bfloat16 ? remember<uint16_t>(s, layer, t) : remember<float>(s, layer, t);
  }
}

void attention(Step& s, int layer, int chunk) {
  const Shape& shape = s.m.s;
  const Item& item = (s.is_last(layer) ? s.last_items : s.items)[chunk];
  const Piece& piece = s.pieces[item.piece];
  int group = shape.heads / shape.kv_heads, d = shape.head_size;
  int window = s.m.layers[layer].window, length = round_up(s.longest, shape.block_size) + 5 * V;
  length += s.m.slots;
  float* spare = scratch_of(size_t(QUERIES) * (length + s.m.dims));
  Query queries[QUERIES];
  int rows = 0;
  for (int t = item.t0; t < item.t1; t++)
    for (int g = 0; g < group; g++) {
      size_t row = size_t(piece.first + t);
      int head = item.head * group + g, end = piece.start + t + 1;
      int begin = window && end > window ? end - window : 0;
      queries[rows++] = {s.qkv.data() + row * s.qkv_size + head * d,
                         s.mixed.data() + row * s.mixed_size + head * d, begin, end};
      if (rows < QUERIES && !(t == item.t1 - 1 && g == group - 1)) continue;
      if (shape.kv_bfloat16)
        attend_any<uint16_t>(rows, s.m, piece, layer, item.head, queries, spare, length);
      else
        attend_any<float>(rows, s.m, piece, layer, item.head, queries, spare, length);
      rows = 0;
    }
}

// Work on rows: as the tail of the phase before it where it is one chunk, else as its own phase.
void then(Step& s, Work work, int layer, int chunks) {
  if (chunks == 1 && !s.phases.back().tail) {
    s.phases.back().tail = work;
    s.phases.back().tail_layer = layer;
  } else {
    s.phases.push_back({work, layer, chunks});
  }
}

void plan_items(Step& s) {
  int tile = std::max(1, QUERIES / (s.m.s.heads / s.m.s.kv_heads));
  s.items.clear(), s.last_items.clear();
  for (int p = 0; p < int(s.pieces.size()); p++)
    for (int t = 0; t < s.pieces[p].length; t += tile)
      for (int h = 0; h < s.m.s.kv_heads; h++) {
        Item item{p, h, t, std::min(t + tile, s.pieces[p].length)};
        s.items.push_back(item);
        item.t0 = std::max(item.t0, s.pieces[p].length - s.pieces[p].rows);
        if (item.t0 < item.t1) s.last_items.push_back(item);
      }
  // The longest rows first: nobody waits for them at the end.
  std::reverse(s.items.begin(), s.items.end());
  std::reverse(s.last_items.begin(), s.last_items.end());
}

void multiply_in(Step& s, Work work, int layer, const Matrix& w, const Packed& act) {
  s.phases.push_back({work, layer, Grid(s, w, act).chunks(w)});
}

void plan_phases(Step& s) {
  int by_token = (s.n + TOKENS - 1) / TOKENS;
  s.phases.clear();
  s.phases.push_back({embed, 0, by_token});
  for (int l = 0; l < s.m.s.depth; l++) {
    Layer& layer = s.m.layers[l];
    bool last = s.is_last(l);
    then(s, norm_before_attention, l, s.wide[0].cut.count);
    multiply_in(s, project_qkv, l, layer.qkv, s.wide[0]);
    then(s, turn_and_remember, l, by_token);
    if (last && s.wanted.empty()) return;  // only the cache is wanted
    s.phases.push_back({attention, l, int((last ? s.last_items : s.items).size())});
    then(s, pack_mixed, l, s.heads[last].cut.count);
    multiply_in(s, project_out, l, layer.out, s.heads[last]);
    then(s, norm_before_ffn, l, s.wide[last].cut.count);
    multiply_in(s, project_up, l, layer.up, s.wide[last]);
    then(s, pack_inner, l, s.ffn[last].cut.count);
    multiply_in(s, project_down, l, layer.down, s.ffn[last]);
  }
  then(s, norm_before_head, s.m.s.depth - 1, s.wide[1].cut.count);
  multiply_in(s, project_head, s.m.s.depth - 1, s.m.head, s.wide[1]);
}

void grow(std::vector<float>& buffer, size_t rows, int columns) {
  if (buffer.size() < rows * columns) buffer.resize(rows * columns);
}

void make_room(Step& s) {
  const Shape& shape = s.m.s;
  size_t wanted = s.wanted.size();
  grow(s.x, s.n, s.width_size), grow(s.last_x, wanted, s.width_size);
  grow(s.qkv, s.n, s.qkv_size), grow(s.mixed, s.n, s.mixed_size), grow(s.inner, s.n, s.inner_size);
  for (int last = 0; last < 2; last++) {
    int rows = last ? int(wanted) : s.n;
    s.wide[last].reshape(rows, shape.width, shape.kind);
    s.heads[last].reshape(rows, shape.heads * shape.head_size, shape.kind);
    s.ffn[last].reshape(rows, shape.ffn, shape.kind);
  }
}

enum Failure { NONE, TOKEN, POSITION, TABLE, BLOCK, MEMORY };

// header: for each piece its length, start, rows of logits and blocks.  Nothing is changed where
// something is wrong.
Failure read_pieces(Step& s, int count, const int32_t* header, const int32_t* blocks) {
  s.pieces.clear(), s.owner.clear(), s.position.clear(), s.wanted.clear();
  s.n = s.longest = 0;
  for (int p = 0; p < count; p++, header += 4) {
    Piece piece{s.n, header[0], header[1], header[2], header[3], blocks};
    int end = piece.start + piece.length;
    if (piece.length < 1 || piece.start < 0 || end > s.m.s.positions) return POSITION;
    if (int64_t(piece.blocks) * s.m.s.block_size < end) return TABLE;
    for (int b = 0; b < piece.blocks; b++)
      if (blocks[b] < 0 || blocks[b] >= s.m.s.blocks) return BLOCK;
    for (int t = 0; t < piece.length; t++) {
      if (s.tokens[s.n + t] < 0 || s.tokens[s.n + t] >= s.m.s.vocabulary) return TOKEN;
      s.position.push_back(piece.start + t);
      if (t >= piece.length - piece.rows) s.wanted.push_back(s.n + t);
    }
    s.n += piece.length, s.longest = std::max(s.longest, end), blocks += piece.blocks;
    s.pieces.push_back(piece);
  }
  for (const Piece& piece : s.pieces) s.owner.insert(s.owner.end(), piece.length, &piece);
  return NONE;
}

// -------------------------------------------------------------------------------- 7 C interface

// What a tensor of the checkpoint is; as in library.py.
enum Role { EMBEDDING, HEAD, Q, K, VALUE, OUT, GATE, UP, DOWN, NORM, NORM1, NORM2, Q_NORM, K_NORM };

struct Place {  // row ``r`` of a tensor is row ``first`` + r of the matrix; panels in turns
  Matrix* matrix;
  int first, every, turn;
  int row(int r) const { return first + (r / PANEL * every + turn) * PANEL + r % PANEL; }
};

Place place_of(Model& m, int role, int layer) {
  int q = m.s.heads * m.s.head_size, kv = m.s.kv_heads * m.s.head_size, each = m.s.gated ? 2 : 1;
  Layer& l = m.layers[std::max(layer, 0)];
  switch (role) {
    case HEAD: return {&m.head, 0, 1, 0};
    case Q: return {&l.qkv, 0, 1, 0};
    case K: return {&l.qkv, q, 1, 0};
    case VALUE: return {&l.qkv, q + kv, 1, 0};
    case OUT: return {&l.out, 0, 1, 0};
    case GATE: return {&l.up, 0, each, 0};
    case UP: return {&l.up, 0, each, each - 1};
    default: return {&l.down, 0, 1, 0};
  }
}

std::vector<float>* vector_of(Model& m, int role, int layer) {
  Layer& l = m.layers[std::max(layer, 0)];
  switch (role) {
    case NORM: return &m.norm;
    case NORM1: return &l.norm1;
    case NORM2: return &l.norm2;
    case Q_NORM: return &l.q_norm;
    case K_NORM: return &l.k_norm;
    default: return nullptr;
  }
}

}  // namespace

extern "C" {

// windows (depth): 0 or how far a layer sees; cos and sin (positions, d/2).  Null: no memory.
void* fledge_open(const Shape* shape, const int32_t* windows, const float* cos, const float* sin) {
  try {
    Model* m = new Model(*shape);
    size_t turns = size_t(shape->positions) * (shape->head_size / 2);
    m->cos.assign(cos, cos + turns), m->sin.assign(sin, sin + turns);
    for (int l = 0; l < shape->depth; l++) m->layers[l].window = windows[l];
    m->step = new Step(*m);
    return m;
  } catch (...) {
    return nullptr;
  }
}

void fledge_close(void* model) {
  Model* m = static_cast<Model*>(model);
  delete m->step;
  delete m;
}

// A matrix of the checkpoint (rows,cols), float32 or bfloat16.
void fledge_set_matrix(void* model, int role, int layer, const void* data, int bfloat16, int rows,
                       int cols) {
  Model& m = *static_cast<Model*>(model);
  std::vector<float> row(cols);
  Place place = place_of(m, role, layer);
  for (int r = 0; r < rows; r++) {
    size_t at = size_t(r) * cols;
    if (bfloat16)
      for (int k = 0; k < cols; k++) row[k] = from_bf16(static_cast<const uint16_t*>(data)[at + k]);
    else
      std::memcpy(row.data(), static_cast<const float*>(data) + at, size_t(cols) * 4);
    if (role != EMBEDDING)
      place.matrix->set_row(place.row(r), row.data());
    else if (m.s.kind == FLOAT32)
      std::memcpy(reinterpret_cast<float*>(m.embedding.data) + at, row.data(), size_t(cols) * 4);
    else
      for (int k = 0; k < cols; k++)
        reinterpret_cast<uint16_t*>(m.embedding.data)[at + k] = to_bf16(row[k]);
  }
}

// The weights of a norm, or the biases of a matrix.
void fledge_set_vector(void* model, int role, int layer, const float* data, int size) {
  Model& m = *static_cast<Model*>(model);
  if (std::vector<float>* norm = vector_of(m, role, layer)) {
    norm->assign(data, data + size);
    return;
  }
  Place place = place_of(m, role, layer);
  if (place.matrix->bias.empty()) place.matrix->bias.assign(place.matrix->panels * PANEL, 0.0f);
  for (int r = 0; r < size; r++) place.matrix->bias[place.row(r)] = data[r];
}

// Computes a step; 0, or which input is wrong (Failure).  header (pieces,4): length, start, rows of
// logits, blocks; tokens and blocks of all pieces in order; logits (rows of all pieces, V).
int fledge_step(void* model, int pieces, const int32_t* header, const int32_t* tokens,
                const int32_t* blocks, float* logits) {
  Model& m = *static_cast<Model*>(model);
  std::lock_guard<std::mutex> lock(m.busy);
  try {
    Step& s = *m.step;
    s.tokens = tokens, s.logits = logits;
    if (Failure failure = read_pieces(s, pieces, header, blocks)) return failure;
    if (!s.n) return NONE;
    make_room(s);
    plan_items(s);
    plan_phases(s);
    m.team.run(s, s.phases);
    return NONE;
  } catch (...) {
    return MEMORY;
  }
}

void fledge_copy_block(void* model, int source, int target) {
  Model& m = *static_cast<Model*>(model);
  std::lock_guard<std::mutex> lock(m.busy);
  size_t bytes = m.block_items * m.item_bytes();
  std::memmove(m.cache.data + bytes * target, m.cache.data + bytes * source, bytes);
}

// Which instructions it was compiled for.
const char* fledge_level() {
#if defined(__AVX512VNNI__)
  return "avx512";
#elif defined(__AVXVNNI__)
  return "avx2 vnni";
#elif defined(__AVX2__)
  return "avx2";
#else
  return "plain";
#endif
}
}
