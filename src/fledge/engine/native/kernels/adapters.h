// Small matrices beside the large ones, for the rows of some sequences: y = W x + B A x.
//
// LoRA arXiv:2106.09685.  DoRA arXiv:2402.09353 stretches each output, too: y = c (W x + B A x).
// Rows without an adapter are not touched, so that they stay the same to the bit.

#pragma once

#include <algorithm>
#include <array>
#include <memory>
#include <utility>
#include <vector>

#include "model.h"

namespace {

// What stands beside one tensor of the checkpoint, in float32 whatever that is packed in.
struct Part {
  int rank = 0, lanes = 0, low = 0;  // lanes: ranks in whole vectors; low: where A x lies in a row
  std::vector<float> a;              // (columns, lanes)
  std::vector<float> b, stretch;     // for each panel it has rows in: (rank, PANEL), (PANEL)
  std::vector<int> slot;             // of each panel of the matrix: which of those, or -1

  // a (rank,cols), b (rows,rank), stretch (rows) or null; ``place`` says where the rows are.
  void set(const Place& place, const float* a_, const float* b_, const float* c, int rows,
           int cols) {
    lanes = round_up(rank, V);
    a.assign(size_t(cols) * lanes, 0.0f);
    for (int r = 0; r < rank; r++)
      for (int k = 0; k < cols; k++) a[size_t(k) * lanes + r] = a_[size_t(r) * cols + k];
    slot.assign(place.matrix->panels, -1);
    int used = 0;
    for (int r = 0; r < rows; r++) {
      int& at = slot[place.row(r) / PANEL];
      if (at < 0) at = used++;
    }
    b.assign(size_t(used) * rank * PANEL, 0.0f);
    if (c) stretch.assign(size_t(used) * PANEL, 1.0f);
    for (int r = 0; r < rows; r++) {
      int at = slot[place.row(r) / PANEL], lane = place.row(r) % PANEL;
      for (int k = 0; k < rank; k++)
        b[(size_t(at) * rank + k) * PANEL + lane] = b_[size_t(r) * rank + k];
      if (c) stretch[size_t(at) * PANEL + lane] = c[r];
    }
  }

  // A x in four sums, of every fourth column each.
  void squeeze(const float* x, int cols, float* out) const {
    for (int j = 0; j < lanes; j += V) {
      vf sum[4] = {};
      const float* w = a.data() + j;
      int k = 0;
      for (; k + 4 <= cols; k += 4)
        UNROLL for (int i = 0; i < 4; i++)
            sum[i] += load<vf>(w + size_t(k + i) * lanes) * splat(x[k + i]);
      for (; k < cols; k++) sum[k % 4] += load<vf>(w + size_t(k) * lanes) * splat(x[k]);
      store(out + j, (sum[0] + sum[1]) + (sum[2] + sum[3]));
    }
  }

  // Adds B times what ``squeeze`` made to the PANEL products of a panel.
  void widen(int panel, const float* squeezed, float* out) const {
    int at = slot[panel];
    if (at < 0) return;
    const float* w = b.data() + size_t(at) * rank * PANEL;
    vf y0 = load<vf>(out), y1 = load<vf>(out + V);
    for (int k = 0; k < rank; k++, w += PANEL) {
      vf x = splat(squeezed[k]);
      y0 += load<vf>(w) * x;
      y1 += load<vf>(w + V) * x;
    }
    if (!stretch.empty()) {
      const float* c = stretch.data() + size_t(at) * PANEL;
      y0 *= load<vf>(c), y1 *= load<vf>(c + V);
    }
    store(out, y0), store(out + V, y1);
  }
};

struct Adapter {
  std::vector<std::array<std::vector<Part>, SITES>> layers;  // the head's are in layer 0

  explicit Adapter(int depth) : layers(depth) {}
  std::vector<Part>& parts(Site site, int layer) {
    return layers[site == Site::HEAD ? 0 : layer][int(site)];
  }
  const std::vector<Part>& parts(Site site, int layer) const {
    return const_cast<Adapter*>(this)->parts(site, layer);
  }
};

// Those that are loaded, by number; freed numbers are given out again.
struct Adapters {
  std::vector<std::unique_ptr<Adapter>> all;
  int low = 0;  // numbers that A x of one row may have

  int open(int depth) {
    size_t free = 0;
    while (free < all.size() && all[free]) free++;
    if (free == all.size()) all.emplace_back();
    all[free].reset(new Adapter(depth));
    return int(free);
  }

  void set(int number, Site site, int layer, const Place& place, const float* a, const float* b,
           const float* stretch, int rank, int rows, int cols) {
    std::vector<Part>& parts = all[number]->parts(site, layer);
    Part part;
    part.rank = rank;
    part.low = parts.empty() ? 0 : parts.back().low + parts.back().lanes;
    part.set(place, a, b, stretch, rows, cols);
    low = std::max(low, part.low + part.lanes);
    parts.push_back(std::move(part));
  }

  const Adapter* get(int number) const {
    return number >= 0 && number < int(all.size()) ? all[number].get() : nullptr;
  }
};

}  // namespace
