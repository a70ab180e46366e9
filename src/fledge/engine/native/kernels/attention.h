// One tile of queries against the blocks of its sequence.

#pragma once

#include <algorithm>

#include "model.h"

namespace {

struct Adapter;

struct Piece {
  int first, length, start, rows, blocks;  // ``first``: its row in the step; ``rows`` of logits
  const int32_t* table;
  const Adapter* adapter;  // or null
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

}  // namespace
