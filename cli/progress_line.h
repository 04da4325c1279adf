#pragma once
// Shows the progress of long work: one live line on a terminal, one plain line a minute on any other stderr,
// one "progress" event a second with --json.
//   verifying   42 %  [########            ]  36.5 GiB of 87.0 GiB  1.8 GiB/s  0:28 left

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "base/progress.h"
#include "cli/console.h"

namespace sluice::cli {

/// The content of the line.
struct ProgressState {
  std::string_view phase;
  std::uint64_t done = 0;
  std::uint64_t total = 0;  ///< 0: not known
  double rate_per_s = 0;
  std::optional<unsigned> peers;
  bool bytes = true;              ///< the numbers are bytes; otherwise plain counts
  std::string_view waiting = {};  ///< why there is no progress; empty while there is some
  std::optional<double> availability = {};
  bool rate_settled = true;  ///< the rate tells how long the rest takes (RateMeter::settled)
};

/// The line's text, shorter than `columns`: the bar shrinks first, then numbers go. 0 columns: a whole line
/// without a bar.
[[nodiscard]] std::string format_progress(const ProgressState& state, std::size_t columns);

/// Smoothed rate of a growing count: an exponential average over about five seconds, so that a short stall or
/// a burst does not make the remaining time jump.
class RateMeter {
 public:
  using Clock = std::chrono::steady_clock;

  void reset(std::uint64_t count, Clock::time_point now);
  /// Takes the count at `now`, returns the rate a second.
  double update(std::uint64_t count, Clock::time_point now);
  /// True when the rate was measured for some seconds since the count began to grow. Before that, connecting
  /// to peers or a cold cache would give hours for work of a minute.
  [[nodiscard]] bool settled() const;

 private:
  std::uint64_t last_count_ = 0;
  bool moving_ = false;  // the count has grown since reset()
  Clock::time_point start_;
  Clock::time_point last_;
  double rate_ = 0;
};

/// base::Progress on the console.
class ProgressLine final : public base::Progress {
 public:
  using Now = std::function<RateMeter::Clock::time_point()>;

  /// `now` tells the time; tests give a clock of their own.
  explicit ProgressLine(Console& console, Now now = RateMeter::Clock::now)
      : console_(console), now_(std::move(now)) {}
  ~ProgressLine() override { console_.clear_status(); }

  void begin(std::string_view phase, std::uint64_t total_bytes) override;
  void advance(std::uint64_t bytes) override;
  void warn(std::string_view message) override { console_.warn(message); }

  /// Shows the state as it is, for work that measures its own rate.
  void show(ProgressState state);
  /// Sets the count, as an alternative to advance(). `bytes`: the count is in bytes.
  void set_done(std::uint64_t done, bool bytes = false);

 private:
  void draw(std::uint64_t done);
  void print(const ProgressState& state);
  [[nodiscard]] bool due(RateMeter::Clock::time_point now);
  [[nodiscard]] RateMeter::Clock::duration period() const;

  Console& console_;
  Now now_;
  std::atomic<std::uint64_t> done_{0};
  std::mutex mutex_;  // guards all members below
  std::string phase_;
  std::uint64_t total_ = 0;
  bool bytes_ = true;
  RateMeter meter_;
  std::optional<RateMeter::Clock::time_point> next_draw_;
};

}  // namespace sluice::cli
