#pragma once
// Monotonic time: for durations, rates and timeouts, never for what stands in a file.

#include <chrono>

namespace sluice::base {

using Clock = std::chrono::steady_clock;

[[nodiscard]] inline double to_seconds(Clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

[[nodiscard]] inline double seconds_since(Clock::time_point start) {
  return to_seconds(Clock::now() - start);
}

/// Runs from its construction, or from the last restart().
class Stopwatch final {
 public:
  [[nodiscard]] double seconds() const { return seconds_since(start_); }
  [[nodiscard]] Clock::time_point start() const { return start_; }
  void restart() { start_ = Clock::now(); }

 private:
  Clock::time_point start_ = Clock::now();
};

}  // namespace sluice::base
