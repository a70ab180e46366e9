// Weights packed in panels; micro-kernels for float32, bfloat16 and int8.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "vectors.h"

namespace {

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
  uint8_t* data = nullptr;
  std::vector<float> bias;  // (panels * PANEL), or empty

  void allocate(Arena& arena, int rows_, int cols_, int kind_) {
    rows = rows_, cols = cols_, kind = kind_;
    panels = (rows + PANEL - 1) / PANEL;
    groups = (cols + GROUP - 1) / GROUP;
    size_t each = kind == INT8 ? size_t(groups) * (GROUP * PANEL + 2 * PANEL)
                               : size_t(cols) * PANEL * (kind == FLOAT32 ? 4 : 2);
    panel_bytes = each;
    data = arena.take(each * panels);
  }
  const uint8_t* panel(int p) const { return data + panel_bytes * p; }

  void set_row(int row, const float* w) {
    uint8_t* base = data + panel_bytes * (row / PANEL);
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
  const std::vector<int>* origins = nullptr;  // where its tokens are in the step; null: all are there

  int origin(int t) const { return origins ? (*origins)[t] : t; }

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

}  // namespace
