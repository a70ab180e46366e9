// Threads that help through the phases of a step: they spin a little, then sleep.

#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace {

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

}  // namespace
