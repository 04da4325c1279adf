// advance() is called for every few kilobytes by many threads, so it only adds to an atomic counter;
// whichever thread gets the lock draws, at most ten times a second on a terminal and once a second with
// --json. A thread that does not get the lock goes on with its work: a count that it has added is drawn by a
// later call.

#include "cli/progress_line.h"

#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "cli/table.h"

namespace sluice::cli {
namespace {

using Clock = RateMeter::Clock;
using std::chrono::duration;
using std::chrono::milliseconds;

constexpr milliseconds kLivePeriod{100};
constexpr milliseconds kEventPeriod{1000};
// The time constant of the average is long enough for bursts of pieces and short enough to follow a change of
// speed.
constexpr double kRateMemory_s = 5.0;
constexpr std::size_t kBarColumns = 24;

std::string bar(double share) {
  const auto filled = static_cast<std::size_t>(share * static_cast<double>(kBarColumns));
  return "[" + std::string(filled, '#') + std::string(kBarColumns - filled, ' ') + "]";
}

std::string count_text(const ProgressState& state, std::uint64_t count) {
  return state.bytes ? base::to_human_bytes(count) : with_commas(count);
}

}  // namespace

std::string format_progress(const ProgressState& state, std::size_t columns) {
  std::string line(state.phase);
  std::string bar_text;
  if (state.total > 0) {
    const double share = std::min(1.0, static_cast<double>(state.done) / static_cast<double>(state.total));
    // Rounded down, so that 100 % appears only when everything is done.
    line += "  " + std::to_string(static_cast<int>(share * 100)) + " %";
    bar_text = "  " + bar(share);
  }
  std::string tail = "  " + count_text(state, state.done);
  if (state.total > 0) tail += " of " + count_text(state, state.total);
  if (state.rate_per_s > 0) {
    tail += "  " + count_text(state, static_cast<std::uint64_t>(std::llround(state.rate_per_s))) + "/s";
    if (state.total > state.done) {
      tail += "  " +
              base::to_human_seconds(static_cast<double>(state.total - state.done) / state.rate_per_s) +
              " left";
    }
  }
  if (!state.waiting.empty()) {
    tail += "  waiting: " + std::string(state.waiting);
  } else if (state.peers)
    tail += "  " + std::to_string(*state.peers) + (*state.peers == 1 ? " peer" : " peers");
  // On a narrow terminal the bar is left out first, then the end of the line.
  const bool bar_fits = line.size() + bar_text.size() + tail.size() < columns;
  std::string whole = line + (bar_fits ? bar_text : "") + tail;
  if (whole.size() >= columns && columns > 0) whole.resize(columns - 1);
  return whole;
}

void RateMeter::reset(std::uint64_t count, Clock::time_point now) {
  last_count_ = count;
  start_ = last_ = now;
  rate_ = 0;
}

double RateMeter::update(std::uint64_t count, Clock::time_point now) {
  const double elapsed_s = duration<double>(now - last_).count();
  if (elapsed_s <= 0) return rate_;
  // A count that falls must not wrap around; it counts as no progress.
  const double current = static_cast<double>(count - std::min(count, last_count_)) / elapsed_s;
  // An exponential average for samples at uneven times: a sample counts with 1 - exp(-elapsed / memory). In
  // the first five seconds the average is over the time since reset(), since it would otherwise start near
  // zero.
  const double age_s = duration<double>(now - start_).count();
  const double weight = 1 - std::exp(-elapsed_s / std::min(kRateMemory_s, std::max(age_s, elapsed_s)));
  rate_ = last_ == start_ ? current : rate_ + weight * (current - rate_);
  last_count_ = count;
  last_ = now;
  return rate_;
}

void ProgressLine::begin(std::string_view phase, std::uint64_t total_bytes) {
  const std::lock_guard lock(mutex_);
  phase_ = phase;
  total_ = total_bytes;
  done_ = 0;
  bytes_ = true;
  const auto now = Clock::now();
  meter_.reset(0, now);
  // Nothing is drawn for the first moment, so short work shows no line at all.
  next_draw_ = now + kLivePeriod;
}

void ProgressLine::advance(std::uint64_t bytes) {
  const std::uint64_t done = done_.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  // One thread draws; the others skip drawing instead of waiting for the lock.
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (lock.owns_lock()) draw(done);
}

void ProgressLine::set_done(std::uint64_t done, bool bytes) {
  const std::lock_guard lock(mutex_);
  done_ = done;
  bytes_ = bytes;
  draw(done);
}

void ProgressLine::show(ProgressState state) {
  const std::lock_guard lock(mutex_);
  const auto now = Clock::now();
  if (!due(now)) return;
  if (console_.json()) {
    auto event = format::Json::object({{"event", "progress"},
                                       {"phase", state.phase},
                                       {"done", state.done},
                                       {"total", state.total},
                                       {"rate_per_s", state.rate_per_s}});
    if (state.peers) event.set("peers", *state.peers);
    if (state.availability) event.set("availability", *state.availability);
    if (!state.waiting.empty()) event.set("waiting", state.waiting);
    console_.event(event);
  } else {
    console_.show_status(format_progress(state, Console::status_columns()));
  }
}

void ProgressLine::draw(std::uint64_t done) {
  const auto now = Clock::now();
  if (!due(now)) return;
  const double rate = meter_.update(done, now);
  if (console_.json()) {
    console_.event(format::Json::object(
        {{"event", "progress"}, {"phase", phase_}, {"done", done}, {"total", total_}, {"rate_per_s", rate}}));
  } else {
    const ProgressState state{phase_, done, total_, rate, std::nullopt, bytes_};
    console_.show_status(format_progress(state, Console::status_columns()));
  }
}

bool ProgressLine::due(Clock::time_point now) {
  if (!console_.live() && !console_.json()) return false;
  if (now < next_draw_) return false;
  next_draw_ = now + (console_.json() ? kEventPeriod : kLivePeriod);
  return true;
}

}  // namespace sluice::cli
