// The decoder on a CPU: tokens of several sequences in, logits out; this is the interface for ctypes.
//
// Read in this order: vectors.h, team.h, matrices.h, model.h, adapters.h, attention.h, step.h.
//
// Every number of a row is reduced in an order that depends on its own position only: products over
// k = 0, 1, 2, ..., attention over positions in order.  What is computed beside it, how the prompt
// was cut, where its blocks lie and how many threads there are changes no bit of it.
//
// Letters: N tokens of a step, D width, H heads, K kv-heads, G = H/K, d head size, V lanes.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <vector>

#include "step.h"

namespace {

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

// Computes a step; 0, or which input is wrong (Failure).  header (pieces,5): length, start, rows of
// logits, blocks, adapter or -1; tokens and blocks of all pieces in order; logits (rows of all pieces, V).
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

// The number of a new adapter, which changes nothing yet; -1: no memory.
int fledge_adapter_open(void* model) {
  Model& m = *static_cast<Model*>(model);
  std::lock_guard<std::mutex> lock(m.busy);
  try {
    return m.step->adapters.open(m.s.depth);
  } catch (...) {
    return -1;
  }
}

// Puts b a beside a matrix of the checkpoint: a (rank,cols), b (rows,rank); its outputs are
// multiplied by ``stretch`` (rows), unless that is null.  0, or MEMORY.
int fledge_adapter_set(void* model, int adapter, int role, int layer, const float* a,
                       const float* b, const float* stretch, int rank, int rows, int cols) {
  Model& m = *static_cast<Model*>(model);
  std::lock_guard<std::mutex> lock(m.busy);
  try {
    m.step->adapters.set(adapter, site_of(role), layer, place_of(m, role, layer), a, b, stretch,
                         rank, rows, cols);
    return NONE;
  } catch (...) {
    return MEMORY;
  }
}

// Frees an adapter; its number may be given out again.
void fledge_adapter_close(void* model, int adapter) {
  Model& m = *static_cast<Model*>(model);
  std::lock_guard<std::mutex> lock(m.busy);
  m.step->adapters.all[adapter].reset();
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
