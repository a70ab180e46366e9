// The phases of a forward pass.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "adapters.h"
#include "attention.h"

namespace {

constexpr int TOKENS = 4;  // of a chunk of work by rows

// A forward pass.  In the last layer only the rows go on whose logits are wanted.
struct Step {
  Model& m;
  Adapters adapters;
  std::vector<Piece> pieces;
  std::vector<const Piece*> owner;      // of each row
  std::vector<int> position, wanted;    // of each row; rows whose logits are wanted
  std::vector<Item> items, last_items;  // of attention, in all layers and in the last
  std::vector<Phase> phases;
  std::vector<float> x, last_x, qkv, mixed, inner, low;  // (N, ...)
  Packed wide[2], heads[2], ffn[2];  // packed inputs of D, H*d, ffn columns; [1]: of wanted rows
  const int32_t* tokens = nullptr;
  float* logits = nullptr;
  int n = 0, longest = 0;
  bool adapted = false;  // whether any piece has an adapter
  int qkv_size, mixed_size, inner_size, width_size;

  explicit Step(Model& model) : m(model) {
    qkv_size = round_up((m.s.heads + 2 * m.s.kv_heads) * m.s.head_size, PANEL);
    mixed_size = round_up(m.s.heads * m.s.head_size, GROUP);
    inner_size = round_up(m.s.ffn, std::max(PANEL, GROUP));
    width_size = round_up(m.s.width, std::max(PANEL, GROUP));
    wide[1].origins = heads[1].origins = ffn[1].origins = &wanted;
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

// A matrix and what it multiplies.
struct Product {
  Site site;
  int layer;
  const Matrix& w;
  Packed& act;
};

Product product_at(Step& s, Site site, int layer) {
  Layer& l = s.m.layers[layer];
  bool last = s.is_last(layer);
  switch (site) {
    case Site::QKV: return {site, layer, l.qkv, s.wide[0]};
    case Site::OUT: return {site, layer, l.out, s.heads[last]};
    case Site::UP: return {site, layer, l.up, s.wide[last]};
    case Site::DOWN: return {site, layer, l.down, s.ffn[last]};
    default: return {site, layer, s.m.head, s.wide[1]};
  }
}

// Packs a block of rows, and multiplies those with an adapter by its A.
template <class Row>  // row(t) is what to pack, zero from its columns up to a whole group
void pack(Step& s, const Product& of, int block, Row row) {
  Packed& act = of.act;
  for (int t = act.cut.start(block); t < act.cut.start(block + 1); t++) {
    const float* x = row(t);
    act.set(block, t, x);
    if (!s.adapted) continue;
    if (const Adapter* adapter = s.owner[act.origin(t)]->adapter)
      for (const Part& part : adapter->parts(of.site, of.layer))
        part.squeeze(x, act.cols, s.low.data() + size_t(t) * s.adapters.low + part.low);
  }
}

// Adds what adapters change of the products of ``count`` panels with the rows from ``first`` on.
void adapt(Step& s, const Product& of, int panel, int count, int first, int rows, float* out) {
  for (int r = 0; r < rows; r++)
    if (const Adapter* adapter = s.owner[of.act.origin(first + r)]->adapter)
      for (const Part& part : adapter->parts(of.site, of.layer))
        for (int p = 0; p < count; p++)
          part.widen(panel + p, s.low.data() + size_t(first + r) * s.adapters.low + part.low,
                     out + size_t(p * rows + r) * PANEL);
}

void pack_normalised(Step& s, const Product& of, const float* x, const std::vector<float>& weight,
                     int block) {
  float* out = scratch_of(s.width_size);
  std::fill(out + s.m.s.width, out + s.width_size, 0.0f);
  pack(s, of, block, [&](int t) {
    normalise(x + size_t(t) * s.width_size, weight.data(), s.m.s.width, s.m.s.norm_eps, out);
    return out;
  });
}

// Each of the following packs one block of rows.
void norm_before_attention(Step& s, int layer, int chunk) {
  pack_normalised(s, product_at(s, Site::QKV, layer), s.x.data(), s.m.layers[layer].norm1, chunk);
}

void norm_before_ffn(Step& s, int layer, int chunk) {
  pack_normalised(s, product_at(s, Site::UP, layer), s.residual(layer), s.m.layers[layer].norm2,
                  chunk);
}

void norm_before_head(Step& s, int layer, int chunk) {
  pack_normalised(s, product_at(s, Site::HEAD, layer), s.last_x.data(), s.m.norm, chunk);
}

void pack_mixed(Step& s, int layer, int chunk) {
  Product of = product_at(s, Site::OUT, layer);
  pack(s, of, chunk, [&](int t) {
    int from = of.act.origin(t);
    if (s.is_last(layer))
      std::memcpy(s.last_x.data() + size_t(t) * s.width_size,
                  s.x.data() + size_t(from) * s.width_size, size_t(s.m.s.width) * 4);
    return s.mixed.data() + size_t(from) * s.mixed_size;
  });
}

void pack_inner(Step& s, int layer, int chunk) {
  pack(s, product_at(s, Site::DOWN, layer), chunk,
       [&](int t) { return s.inner.data() + size_t(t) * s.inner_size; });
}

// A matrix product's chunks: ``panels`` of panels x ``blocks`` of blocks, all blocks of the same
// panels one after the other.
struct Grid {
  int panels, blocks, columns;
  Grid(const Step& s, const Product& of) {
    const Matrix& w = of.w;
    const Packed& act = of.act;
    int threads = s.m.team.threads(), wanted = threads == 1 ? 1 : threads * 4;
    panels = std::max(2, round_up((w.panels + wanted - 1) / wanted, 2));
    if (threads == 1 && act.cut.count > 1) panels = 2;
    blocks = act.cut.count <= 2 ? act.cut.count : 8;
    columns = (act.cut.count + blocks - 1) / blocks;
  }
  int chunks(const Product& of) const { return (of.w.panels + panels - 1) / panels * columns; }
};

// Calls sink(panel, count, first row, rows, products (count,rows,PANEL)) for a chunk.
template <class Sink>
void product(Step& s, const Product& of, int chunk, Sink sink) {
  Grid grid(s, of);
  const Matrix& w = of.w;
  const Packed& act = of.act;
  float out[4 * FLOAT_TOKENS * PANEL];
  int p0 = chunk / grid.columns * grid.panels, p1 = std::min(w.panels, p0 + grid.panels);
  int b0 = chunk % grid.columns * grid.blocks, b1 = std::min(act.cut.count, b0 + grid.blocks);
  int most = act.cut.count == 1 ? 4 : 2;
  for (int p = p0; p < p1; p += most)
    for (int b = b0; b < b1; b++) {
      int count = std::min(most, p1 - p), first = act.cut.start(b);
      int rows = act.cut.start(b + 1) - first;
      multiply(w, p, count, act, b, out);
      if (s.adapted) adapt(s, of, p, count, first, rows, out);
      sink(p, count, first, rows, out);
    }
}

INLINE vf biased(const Matrix& w, int panel, int i, vf v) {
  return w.bias.empty() ? v : v + load<vf>(w.bias.data() + panel * PANEL + i);
}

template <bool add>
void write(Step& s, const Product& of, int chunk, float* y, int stride) {
  product(s, of, chunk, [&](int panel, int count, int first, int rows, const float* out) {
    for (int p = 0; p < count; p++)
      for (int r = 0; r < rows; r++, out += PANEL) {
        float* to = y + size_t(first + r) * stride + (panel + p) * PANEL;
        for (int i = 0; i < PANEL; i += V) {
          vf v = biased(of.w, panel + p, i, load<vf>(out + i));
          store(to + i, add ? load<vf>(to + i) + v : v);
        }
      }
  });
}

void project_qkv(Step& s, int layer, int chunk) {
  write<false>(s, product_at(s, Site::QKV, layer), chunk, s.qkv.data(), s.qkv_size);
}

void project_out(Step& s, int layer, int chunk) {
  write<true>(s, product_at(s, Site::OUT, layer), chunk, s.residual(layer), s.width_size);
}

void project_down(Step& s, int layer, int chunk) {
  write<true>(s, product_at(s, Site::DOWN, layer), chunk, s.residual(layer), s.width_size);
}

// activation(gate) * up (arXiv:2002.05202), or activation(up)
void project_up(Step& s, int layer, int chunk) {
  Product of = product_at(s, Site::UP, layer);
  const Matrix& w = of.w;
  int each = s.m.s.gated ? 2 : 1, activation = s.m.s.activation;
  product(s, of, chunk, [&](int panel, int count, int first, int rows, const float* out) {
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

void project_head(Step& s, int layer, int chunk) {
  float cap = s.m.s.softcap;
  int vocabulary = s.m.s.vocabulary;
  product(s, product_at(s, Site::HEAD, layer), chunk,
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

void multiply_in(Step& s, Work work, Site site, int layer) {
  Product of = product_at(s, site, layer);
  Phase phase{work, layer, Grid(s, of).chunks(of)};
  phase.reads = of.w.panel(0), phase.reads_bytes = of.w.panel_bytes * of.w.panels;
  s.phases.push_back(phase);
}

void plan_phases(Step& s) {
  int by_token = (s.n + TOKENS - 1) / TOKENS;
  s.phases.clear();
  s.phases.push_back({embed, 0, by_token});
  for (int l = 0; l < s.m.s.depth; l++) {
    bool last = s.is_last(l);
    then(s, norm_before_attention, l, s.wide[0].cut.count);
    multiply_in(s, project_qkv, Site::QKV, l);
    then(s, turn_and_remember, l, by_token);
    if (last && s.wanted.empty()) return;  // only the cache is wanted
    s.phases.push_back({attention, l, int((last ? s.last_items : s.items).size())});
    then(s, pack_mixed, l, s.heads[last].cut.count);
    multiply_in(s, project_out, Site::OUT, l);
    then(s, norm_before_ffn, l, s.wide[last].cut.count);
    multiply_in(s, project_up, Site::UP, l);
    then(s, pack_inner, l, s.ffn[last].cut.count);
    multiply_in(s, project_down, Site::DOWN, l);
  }
  then(s, norm_before_head, s.m.s.depth - 1, s.wide[1].cut.count);
  multiply_in(s, project_head, Site::HEAD, s.m.s.depth - 1);
}

void grow(std::vector<float>& buffer, size_t rows, int columns) {
  if (buffer.size() < rows * columns) buffer.resize(rows * columns);
}

void make_room(Step& s) {
  const Shape& shape = s.m.s;
  size_t wanted = s.wanted.size();
  grow(s.x, s.n, s.width_size), grow(s.last_x, wanted, s.width_size);
  if (s.adapted) grow(s.low, s.n, s.adapters.low);
  grow(s.qkv, s.n, s.qkv_size), grow(s.mixed, s.n, s.mixed_size), grow(s.inner, s.n, s.inner_size);
  for (int last = 0; last < 2; last++) {
    int rows = last ? int(wanted) : s.n;
    s.wide[last].reshape(rows, shape.width, shape.kind);
    s.heads[last].reshape(rows, shape.heads * shape.head_size, shape.kind);
    s.ffn[last].reshape(rows, shape.ffn, shape.kind);
  }
}

enum Failure { NONE, TOKEN, POSITION, TABLE, BLOCK, ADAPTER, MEMORY };

// header: for each piece its length, start, rows of logits, blocks, and adapter or -1.  Nothing is
// changed where something is wrong.
Failure read_pieces(Step& s, int count, const int32_t* header, const int32_t* blocks) {
  s.pieces.clear(), s.owner.clear(), s.position.clear(), s.wanted.clear();
  s.n = s.longest = 0;
  s.adapted = false;
  for (int p = 0; p < count; p++, header += 5) {
    const Adapter* adapter = s.adapters.get(header[4]);
    Piece piece{s.n, header[0], header[1], header[2], header[3], blocks, adapter};
    int end = piece.start + piece.length;
    if (piece.length < 1 || piece.start < 0 || end > s.m.s.positions) return POSITION;
    if (int64_t(piece.blocks) * s.m.s.block_size < end) return TABLE;
    for (int b = 0; b < piece.blocks; b++)
      if (blocks[b] < 0 || blocks[b] >= s.m.s.blocks) return BLOCK;
    if (header[4] >= 0 && !adapter) return ADAPTER;
    s.adapted |= adapter != nullptr;
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

}  // namespace
