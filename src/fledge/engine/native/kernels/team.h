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
  const uint8_t* reads = nullptr;  // what the chunks read, one after the other: weights, or null
  size_t reads_bytes = 0;          // in all
  Work tail = nullptr;
  int tail_layer = 0;
};

// The chunks of a phase that nobody has claimed, [first, end), in one word with the step's number.
struct Unclaimed {
  static constexpr int BITS = 20;
  static constexpr uint64_t MASK = (1u << BITS) - 1;
  static uint64_t word(uint64_t step, uint64_t chunks) { return step << 2 * BITS | chunks; }
  static uint64_t step(uint64_t word) { return word >> 2 * BITS; }
  static int first(uint64_t word) { return int(word >> BITS & MASK); }
  static int end(uint64_t word) { return int(word & MASK); }
  static uint64_t without_first(uint64_t word) { return word + (1u << BITS); }
  static uint64_t without_last(uint64_t word) { return word - 1; }
};

// The calling thread goes through the phases of a step; the others help where they can.  Chunks are
// claimed one by one, so a thread that the system took off its core is waited for only if it holds
// a chunk; one that is late finds the step over and goes back to sleep.  Both counters bear the
// number of the step in their upper bits: a late thread cannot touch those of the next step.  The
// calling thread claims from the front, the others from the back, so that a core mostly reads the
// weights that it read in the step before; and who waits fetches those it will read next.
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
    uint32_t epoch = epoch_.load() % LAST_STEP + 1;
    step_ = &step;
    phases_ = phases.data();
    const Phase* reads = nullptr;
    for (size_t i = phases.size(); i-- > 0;) {
      Gate& gate = gates_[i];
      gate.ahead.store(reads ? reads->reads : nullptr, std::memory_order_relaxed);
      gate.ahead_bytes.store(reads ? reads->reads_bytes : 0, std::memory_order_relaxed);
      gate.unclaimed = Unclaimed::word(epoch, phases[i].chunks);
      gate.unfinished = uint64_t(epoch) << 32 | uint32_t(phases[i].chunks + 1);  // + 1: the tail
      if (phases[i].reads) reads = &phases[i];
    }
    gates_[phases.size()].unclaimed = 0;
    epoch_ = epoch;
    wake();
    go_through(epoch, true);
  }

 private:
  struct alignas(128) Gate {
    std::atomic<uint64_t> unclaimed{0};
    alignas(64) std::atomic<uint64_t> unfinished{0};
    std::atomic<const uint8_t*> ahead{nullptr};  // what the next phase with weights reads
    std::atomic<size_t> ahead_bytes{0};
  };
  static constexpr uint32_t LAST_STEP = (1u << 24) - 1;  // then 1 again; 0 is no step's number
  static constexpr size_t AHEAD_BYTES = 1u << 15;        // fetched by one who waits

  void help() {
    for (uint32_t seen = 0;;) {
      wait([&] { return epoch_.load() != seen; });
      if (stop_) return;
      seen = epoch_.load();
      go_through(seen, false);
    }
  }

  void go_through(uint32_t epoch, bool front) {
    for (size_t i = 0;; i++) {
      Gate& gate = gates_[i];
      for (;;) {
        uint64_t left = gate.unclaimed.load();
        if (Unclaimed::step(left) != epoch) return;  // after the last phase, or late
        int first = Unclaimed::first(left), last = Unclaimed::end(left) - 1;
        if (first > last) break;
        uint64_t rest = front ? Unclaimed::without_first(left) : Unclaimed::without_last(left);
        if (!gate.unclaimed.compare_exchange_weak(left, rest)) continue;
        const Phase& phase = phases_[i];
        phase.work(*step_, phase.layer, front ? first : last);
        if (uint32_t(gate.unfinished.fetch_sub(1)) == 2) {
          if (phase.tail) phase.tail(*step_, phase.tail_layer, 0);
          gate.unfinished.fetch_sub(1);
          wake();
        }
      }
      auto over = [&] {
        uint64_t left = gate.unfinished.load();
        return !uint32_t(left) || left >> 32 != epoch;
      };
      if (!over()) fetch_ahead(gate, front, over);
      wait(over);
    }
  }

  // Into the cache: the first or the last of what comes next, as long as there is nothing to do.
  // A step may end meanwhile; an address that means nothing any more is fetched for nothing.
  template <class Over>
  void fetch_ahead(const Gate& gate, bool front, Over over) {
    const uint8_t* from = gate.ahead.load(std::memory_order_relaxed);
    size_t all = gate.ahead_bytes.load(std::memory_order_relaxed), half = all / 2;
    size_t bytes = std::min(half, AHEAD_BYTES);
    if (!front) from += all - bytes;
    for (size_t at = 0; at < bytes && !over(); at += 512)
      for (size_t line = 0; line < 512; line += 64) __builtin_prefetch(from + at + line);
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
  std::atomic<uint32_t> epoch_{0};
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  Step* step_ = nullptr;
  const Phase* phases_ = nullptr;
};

}  // namespace
