// What is loaded, and the paged cache of keys and values.

#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "matrices.h"
#include "team.h"

namespace {

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
  Arena weights;
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
      layer.qkv.allocate(weights, q + 2 * kv, s.width, s.kind);
      layer.out.allocate(weights, s.width, q, s.kind);
      layer.up.allocate(weights, inner * (s.gated ? 2 : 1), s.width, s.kind);
      layer.down.allocate(weights, s.width, s.ffn, s.kind);
      layer.norm1.assign(s.width, 1), layer.norm2.assign(s.width, 1);
      layer.q_norm.assign(s.head_size, 1), layer.k_norm.assign(s.head_size, 1);
    }
    head.allocate(weights, s.vocabulary, s.width, s.kind);
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

// A packed matrix of a layer, or the head.
enum class Site { QKV, OUT, UP, DOWN, HEAD };
constexpr int SITES = 5;

Site site_of(int role) {
  switch (role) {
    case HEAD: return Site::HEAD;
    case OUT: return Site::OUT;
    case GATE:
    case UP: return Site::UP;
    case DOWN: return Site::DOWN;
    default: return Site::QKV;
  }
}

}  // namespace
